/* parallel.h -- one loop on all processors. */
#ifndef SP_PARALLEL_H
#define SP_PARALLEL_H

#include <stddef.h>

#define SP_PARALLEL_MAX 16 /* threads at work, the caller's own among them */

/* Indices from <= i < to. Runs on several threads at once. */
typedef void sp_parallel_fn(void *ctx, size_t from, size_t to);

/* Calls fn for all of 0 .. count - 1, in pieces of `grain`, on as many threads as there are
 * processors; returns when all is done. Where no thread can be had, the caller does it alone. */
void sp_parallel(size_t count, size_t grain, sp_parallel_fn *fn, void *ctx);

#endif
