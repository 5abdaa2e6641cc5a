/* conns.c -- a list of connections with the time by which each has to have asked. */
#include "http/conns.h"
#include "base/err.h"
#include "base/time.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <time.h>

#define LOOK_MS 250

struct sp_conn {
	TAILQ_ENTRY(sp_conn) link;
	int fd;
	int64_t until_ms; /* 0: nothing is owed */
};

struct sp_conns {
	TAILQ_HEAD(conns_list, sp_conn) list;
	int64_t request_ms, idle_ms;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	int stopping;
};

unsigned
sp_conns_look(struct sp_conns *conns, int64_t now_ms)
{
	struct sp_conn *conn;
	unsigned ended = 0;

	pthread_mutex_lock(&conns->lock);
	TAILQ_FOREACH(conn, &conns->list, link)
	{
		if (conn->until_ms == 0 || conn->until_ms > now_ms)
			continue;
		/* under the lock: the descriptor cannot be another's yet */
		shutdown(conn->fd, SHUT_RDWR);
		conn->until_ms = 0;
		ended++;
	}
	pthread_mutex_unlock(&conns->lock);
	return ended;
}

/* Sleeps while there is no connection, then looks every LOOK_MS. */
static void *
keep_looking(void *ctx)
{
	struct sp_conns *conns = ctx;
	struct timespec until;

	pthread_mutex_lock(&conns->lock);
	while (!conns->stopping) {
		if (TAILQ_EMPTY(&conns->list)) {
			pthread_cond_wait(&conns->wake, &conns->lock);
			continue;
		}
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += LOOK_MS * 1000000L;
		if (until.tv_nsec >= 1000000000L) {
			until.tv_sec++;
			until.tv_nsec -= 1000000000L;
		}
		if (pthread_cond_timedwait(&conns->wake, &conns->lock, &until) == 0)
			continue;
		pthread_mutex_unlock(&conns->lock);
		sp_conns_look(conns, sp_time_monotonic_ms());
		pthread_mutex_lock(&conns->lock);
	}
	pthread_mutex_unlock(&conns->lock);
	return NULL;
}

struct sp_conns *
sp_conns_new(int64_t request_ms, int64_t idle_ms)
{
	struct sp_conns *conns = sp_xcalloc(1, sizeof(*conns));
	pthread_condattr_t attr;

	TAILQ_INIT(&conns->list);
	conns->request_ms = request_ms;
	conns->idle_ms = idle_ms;
	SP_ASSERT(pthread_mutex_init(&conns->lock, NULL) == 0);
	SP_ASSERT(pthread_condattr_init(&attr) == 0);
	SP_ASSERT(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
	SP_ASSERT(pthread_cond_init(&conns->wake, &attr) == 0);
	pthread_condattr_destroy(&attr);
	if (pthread_create(&conns->thread, NULL, keep_looking, conns) == 0)
		return conns;
	pthread_cond_destroy(&conns->wake);
	pthread_mutex_destroy(&conns->lock);
	free(conns);
	return NULL;
}

void
sp_conns_free(struct sp_conns **list)
{
	struct sp_conns *conns = *list;

	if (conns == NULL)
		return;
	pthread_mutex_lock(&conns->lock);
	conns->stopping = 1;
	pthread_cond_signal(&conns->wake);
	pthread_mutex_unlock(&conns->lock);
	pthread_join(conns->thread, NULL);
	SP_ASSERT(TAILQ_EMPTY(&conns->list));
	pthread_cond_destroy(&conns->wake);
	pthread_mutex_destroy(&conns->lock);
	free(conns);
	*list = NULL;
}

struct sp_conn *
sp_conns_add(struct sp_conns *conns, int fd)
{
	struct sp_conn *conn = sp_xcalloc(1, sizeof(*conn));

	conn->fd = fd;
	conn->until_ms = sp_time_monotonic_ms() + conns->request_ms;
	pthread_mutex_lock(&conns->lock);
	if (TAILQ_EMPTY(&conns->list))
		pthread_cond_signal(&conns->wake);
	TAILQ_INSERT_TAIL(&conns->list, conn, link);
	pthread_mutex_unlock(&conns->lock);
	return conn;
}

static void
set_until(struct sp_conns *conns, struct sp_conn *conn, int64_t until_ms)
{
	pthread_mutex_lock(&conns->lock);
	conn->until_ms = until_ms;
	pthread_mutex_unlock(&conns->lock);
}

void
sp_conns_asked(struct sp_conns *conns, struct sp_conn *conn)
{
	set_until(conns, conn, 0);
}

void
sp_conns_answered(struct sp_conns *conns, struct sp_conn *conn)
{
	set_until(conns, conn, sp_time_monotonic_ms() + conns->idle_ms + conns->request_ms);
}

void
sp_conns_drop(struct sp_conns *conns, struct sp_conn *conn)
{
	pthread_mutex_lock(&conns->lock);
	TAILQ_REMOVE(&conns->list, conn, link);
	pthread_mutex_unlock(&conns->lock);
	free(conn);
}
