/* conns.c -- a list of connections with the time by which each has to have asked, and of whence
 * they come. */
#include "http/conns.h"
#include "base/err.h"
#include "base/time.h"

#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>

#define LOOK_MS 250

/* An IPv4 address (4 bytes) or the first 8 of an IPv6 one; other kinds are all one. */
struct address {
	LIST_ENTRY(address) link;
	unsigned count; /* of connections, not 0 */
	uint8_t len, bytes[8];
};

struct sp_conn {
	TAILQ_ENTRY(sp_conn) link;
	struct address *from;
	int fd;
	int64_t until_ms; /* 0: nothing is owed */
};

struct sp_conns {
	TAILQ_HEAD(conns_list, sp_conn) list;
	/* No longer than the other list, and mostly short: a search takes microseconds even where
	 * somebody comes from thousands of addresses. */
	LIST_HEAD(conns_addresses, address) addresses;
	unsigned count, most, per_address;
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
		until = sp_time_cond_until(LOOK_MS);
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
sp_conns_new(unsigned most, unsigned per_address, int64_t request_ms, int64_t idle_ms)
{
	struct sp_conns *conns = sp_xcalloc(1, sizeof(*conns));

	TAILQ_INIT(&conns->list);
	LIST_INIT(&conns->addresses);
	conns->most = most;
	conns->per_address = per_address;
	conns->request_ms = request_ms;
	conns->idle_ms = idle_ms;
	SP_ASSERT(pthread_mutex_init(&conns->lock, NULL) == 0);
	sp_time_cond_init(&conns->wake);
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

int
sp_conns_full(struct sp_conns *conns)
{
	int full;

	pthread_mutex_lock(&conns->lock);
	full = conns->count >= conns->most;
	pthread_mutex_unlock(&conns->lock);
	return full;
}

/* The entry of that address, with one connection more. */
static struct address *
count_address(struct sp_conns *conns, const struct sockaddr *from)
{
	struct address key = {.len = 0}, *address;
	const struct in6_addr *v6;

	if (from->sa_family == AF_INET) {
		key.len = 4;
		memcpy(key.bytes, &((const struct sockaddr_in *)from)->sin_addr, 4);
	} else if (from->sa_family == AF_INET6) {
		v6 = &((const struct sockaddr_in6 *)from)->sin6_addr;
		key.len = IN6_IS_ADDR_V4MAPPED(v6) ? 4 : 8;
		memcpy(key.bytes, v6->s6_addr + (key.len == 4 ? 12 : 0), key.len);
	}
	LIST_FOREACH(address, &conns->addresses, link)
	if (address->len == key.len && memcmp(address->bytes, key.bytes, key.len) == 0)
		break;
	if (address == NULL) {
		address = sp_xcalloc(1, sizeof(*address));
		*address = key;
		LIST_INSERT_HEAD(&conns->addresses, address, link);
	} else if (address->count >= conns->per_address) {
		return NULL;
	}
	address->count++;
	return address;
}

struct sp_conn *
sp_conns_add(struct sp_conns *conns, int fd, const struct sockaddr *from)
{
	struct sp_conn *conn = sp_xcalloc(1, sizeof(*conn));

	conn->fd = fd;
	conn->until_ms = sp_time_monotonic_ms() + conns->request_ms;
	pthread_mutex_lock(&conns->lock);
	conn->from = count_address(conns, from);
	if (conn->from != NULL) {
		if (TAILQ_EMPTY(&conns->list))
			pthread_cond_signal(&conns->wake);
		TAILQ_INSERT_TAIL(&conns->list, conn, link);
		conns->count++;
	}
	pthread_mutex_unlock(&conns->lock);
	if (conn->from == NULL) {
		free(conn);
		return NULL;
	}
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
	conns->count--;
	if (--conn->from->count == 0) {
		LIST_REMOVE(conn->from, link);
		free(conn->from);
	}
	pthread_mutex_unlock(&conns->lock);
	free(conn);
}
