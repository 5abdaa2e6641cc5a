/* parallel.c -- pieces of a loop, taken by whoever is free. */
#include "base/parallel.h"
#include "base/err.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

struct loop {
	size_t count, grain;
	sp_parallel_fn *fn;
	void *ctx;
	atomic_size_t next;
};

static void *
work(void *arg)
{
	struct loop *loop = arg;
	size_t from, to;

	for (;;) {
		from = atomic_fetch_add(&loop->next, loop->grain);
		if (from >= loop->count)
			return NULL;
		to = loop->count - from < loop->grain ? loop->count : from + loop->grain;
		loop->fn(loop->ctx, from, to);
	}
}

void
sp_parallel(size_t count, size_t grain, sp_parallel_fn *fn, void *ctx)
{
	struct loop loop = {count, grain, fn, ctx, 0};
	pthread_t threads[SP_PARALLEL_MAX];
	long processors = sysconf(_SC_NPROCESSORS_ONLN);
	size_t pieces, started = 0, i;

	SP_ASSERT(grain > 0);
	pieces = count / grain + (count % grain != 0);
	while (started + 1 < SP_PARALLEL_MAX && (long)started + 1 < processors &&
	       started + 1 < pieces && pthread_create(&threads[started], NULL, work, &loop) == 0)
		started++;
	work(&loop);
	for (i = 0; i < started; i++)
		pthread_join(threads[i], NULL);
}
