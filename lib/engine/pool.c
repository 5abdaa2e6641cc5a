/* pool.c -- threads that share the iterations of a loop. */
#include "engine/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#define THREADS_MAX 1024

/*
 * A run is announced by raising `round` under the lock. Workers wake, take iterations off `next`
 * until none is left, and the last to leave wakes the caller, who works too. No thread can still
 * be in a round when the next begins, so the job's fields need no atomics.
 */
struct sp_pool {
	pthread_mutex_t lock;
	pthread_cond_t work, idle;
	unsigned threads;
	unsigned started;
	unsigned busy; /* workers that have not yet left this round */
	unsigned long round;
	int stop;

	void (*fn)(void *arg, size_t i);
	void *arg;
	size_t count;
	atomic_size_t next;

	void *scratch;
	size_t scratch_size;
	pthread_t ids[];
};

static void
take(struct sp_pool *pool)
{
	size_t i;

	while ((i = atomic_fetch_add_explicit(&pool->next, 1, memory_order_relaxed)) < pool->count)
		pool->fn(pool->arg, i);
}

static void *
worker(void *arg)
{
	struct sp_pool *pool = arg;
	unsigned long seen = 0;

	pthread_mutex_lock(&pool->lock);
	for (;;) {
		while (pool->round == seen && !pool->stop)
			pthread_cond_wait(&pool->work, &pool->lock);
		if (pool->stop)
			break;
		seen = pool->round;
		pthread_mutex_unlock(&pool->lock);
		take(pool);
		pthread_mutex_lock(&pool->lock);
		if (--pool->busy == 0)
			pthread_cond_signal(&pool->idle);
	}
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}

enum sp_code
sp_pool_open(unsigned threads, struct sp_pool **out, struct sp_err *err)
{
	struct sp_pool *pool;
	cpu_set_t cpus;

	*out = NULL;
	if (threads == 0)
		threads =
		    sched_getaffinity(0, sizeof(cpus), &cpus) == 0 ? (unsigned)CPU_COUNT(&cpus) : 1;
	if (threads > THREADS_MAX)
		return sp_err_set(err, SP_E_LIMIT, "%u threads, at most %d", threads, THREADS_MAX);
	pool = sp_xcalloc(1, sizeof(*pool) + (threads - 1) * sizeof(pool->ids[0]));
	pool->threads = threads;
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->work, NULL);
	pthread_cond_init(&pool->idle, NULL);
	for (unsigned i = 0; i + 1 < threads; i++) {
		int rc = pthread_create(&pool->ids[i], NULL, worker, pool);

		if (rc != 0) {
			sp_pool_close(&pool);
			return sp_err_set(err, SP_E_NO_MEMORY, "cannot start thread %u of %u",
			    i + 1, threads - 1);
		}
		pool->started++;
	}
	*out = pool;
	return SP_OK;
}

void
sp_pool_close(struct sp_pool **pool_ptr)
{
	struct sp_pool *pool = *pool_ptr;

	if (pool == NULL)
		return;
	pthread_mutex_lock(&pool->lock);
	pool->stop = 1;
	pthread_cond_broadcast(&pool->work);
	pthread_mutex_unlock(&pool->lock);
	for (unsigned i = 0; i < pool->started; i++)
		pthread_join(pool->ids[i], NULL);
	pthread_cond_destroy(&pool->idle);
	pthread_cond_destroy(&pool->work);
	pthread_mutex_destroy(&pool->lock);
	free(pool->scratch);
	free(pool);
	*pool_ptr = NULL;
}

unsigned
sp_pool_threads(const struct sp_pool *pool)
{
	return pool->threads;
}

void
sp_pool_run(struct sp_pool *pool, size_t count, void (*fn)(void *arg, size_t i), void *arg)
{
	if (count <= 1 || pool->threads == 1) {
		for (size_t i = 0; i < count; i++)
			fn(arg, i);
		return;
	}
	pthread_mutex_lock(&pool->lock);
	SP_ASSERT(pool->busy == 0);
	pool->fn = fn;
	pool->arg = arg;
	pool->count = count;
	atomic_store_explicit(&pool->next, 0, memory_order_relaxed);
	pool->busy = pool->started;
	pool->round++;
	pthread_cond_broadcast(&pool->work);
	pthread_mutex_unlock(&pool->lock);
	take(pool);
	pthread_mutex_lock(&pool->lock);
	while (pool->busy != 0)
		pthread_cond_wait(&pool->idle, &pool->lock);
	pthread_mutex_unlock(&pool->lock);
}

void *
sp_pool_scratch(struct sp_pool *pool, size_t size)
{
	const size_t line = 64;

	if (size > pool->scratch_size) {
		free(pool->scratch);
		size = (size + line - 1) / line * line;
		pool->scratch = aligned_alloc(line, size);
		pool->scratch_size = pool->scratch == NULL ? 0 : size;
	}
	return pool->scratch;
}
