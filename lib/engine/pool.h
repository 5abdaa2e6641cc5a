/* pool.h -- a fixed set of threads that share the iterations of a loop. */
#ifndef SP_POOL_H
#define SP_POOL_H

#include "base/err.h"

struct sp_pool;

/* threads: how many work, the caller's included; 0: one per CPU this process may run on. */
enum sp_code sp_pool_open(unsigned threads, struct sp_pool **out, struct sp_err *err) SP_MUST_USE;
void sp_pool_close(struct sp_pool **pool);
unsigned sp_pool_threads(const struct sp_pool *pool);

/* Calls fn(arg, i) once for each i below count, in any order, on any thread, and returns when all
 * have returned. An iteration must write only what no other one touches: then the result cannot
 * depend on the number of threads. One caller at a time; not from within fn. */
void sp_pool_run(struct sp_pool *pool, size_t count, void (*fn)(void *arg, size_t i), void *arg);

/* Memory that a caller of sp_pool_run shares with its iterations, aligned to a cache line; valid
 * until the next call. NULL when there is none. */
void *sp_pool_scratch(struct sp_pool *pool, size_t size);

#endif
