/* zloop.c -- a ZeroMQ socket in a uv loop. */
#include "bus/zloop.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

struct sp_zloop {
	void *socket; /* NULL once closed */
	sp_zloop_fn *fn;
	void *ctx;
	uv_poll_t poll;
	uv_prepare_t prepare;
	uv_check_t check;
	uv_idle_t idle; /* runs while messages wait: the loop must not sleep */
	int handles;	/* not yet closed */
};

static int
readable(const struct sp_zloop *z)
{
	int events = 0;
	size_t len = sizeof(events);

	if (z->socket == NULL || zmq_getsockopt(z->socket, ZMQ_EVENTS, &events, &len) != 0)
		return 0;
	return (events & ZMQ_POLLIN) != 0;
}

/* The fd only wakes the loop; the reading is done in on_check of the same turn. */
static void
on_poll(uv_poll_t *poll, int status, int events)
{
	(void)poll;
	(void)status;
	(void)events;
}

static void
on_idle(uv_idle_t *idle)
{
	(void)idle;
}

static void
on_prepare(uv_prepare_t *prepare)
{
	struct sp_zloop *z = prepare->data;

	if (readable(z))
		uv_idle_start(&z->idle, on_idle);
}

static void
on_check(uv_check_t *check)
{
	struct sp_zloop *z = check->data;
	int n;

	uv_idle_stop(&z->idle);
	for (n = 0; n < SP_ZLOOP_TURN_MAX && readable(z); n++)
		if (!z->fn(z->ctx, z->socket))
			break;
}

static void
on_closed(uv_handle_t *handle)
{
	struct sp_zloop *z = handle->data;

	if (--z->handles == 0)
		free(z);
}

enum sp_code
sp_zloop_open(uv_loop_t *loop, void *socket, sp_zloop_fn *fn, void *ctx, struct sp_zloop **out,
    struct sp_err *err)
{
	struct sp_zloop *z;
	size_t len;
	int fd, rc;

	*out = NULL;
	len = sizeof(fd);
	if (zmq_getsockopt(socket, ZMQ_FD, &fd, &len) != 0)
		return sp_err_set(err, SP_E_IO, "bus socket: %s", zmq_strerror(zmq_errno()));
	z = sp_xcalloc(1, sizeof(*z));
	rc = uv_poll_init(loop, &z->poll, fd);
	if (rc != 0) {
		free(z);
		return sp_err_set(err, SP_E_IO, "bus socket: event loop: %s", uv_strerror(rc));
	}
	/* these three cannot fail (libuv: "always succeeds") */
	uv_prepare_init(loop, &z->prepare);
	uv_check_init(loop, &z->check);
	uv_idle_init(loop, &z->idle);
	z->poll.data = z->prepare.data = z->check.data = z->idle.data = z;
	z->handles = 4;
	z->socket = socket;
	z->fn = fn;
	z->ctx = ctx;
	uv_prepare_start(&z->prepare, on_prepare);
	uv_check_start(&z->check, on_check);
	rc = uv_poll_start(&z->poll, UV_READABLE, on_poll);
	if (rc != 0) {
		z->socket = NULL; /* stays the caller's */
		sp_zloop_close(&z);
		return sp_err_set(err, SP_E_IO, "bus socket: event loop: %s", uv_strerror(rc));
	}
	*out = z;
	return SP_OK;
}

void
sp_zloop_close(struct sp_zloop **zloop)
{
	struct sp_zloop *z = *zloop;

	if (z == NULL)
		return;
	*zloop = NULL;
	/* uv first: it takes the fd out of epoll at once, zmq_close then ends the fd itself */
	uv_close((uv_handle_t *)&z->poll, on_closed);
	uv_close((uv_handle_t *)&z->prepare, on_closed);
	uv_close((uv_handle_t *)&z->check, on_closed);
	uv_close((uv_handle_t *)&z->idle, on_closed);
	if (z->socket != NULL)
		zmq_close(z->socket);
	z->socket = NULL;
}

/* The rest of a message whose first frames were taken: it must not be read as the next one. */
static void
skip_rest(void *socket)
{
	zmq_msg_t frame;
	int more = 1;

	while (more) {
		zmq_msg_init(&frame);
		more = zmq_msg_recv(&frame, socket, ZMQ_DONTWAIT) >= 0 && zmq_msg_more(&frame);
		zmq_msg_close(&frame);
	}
}

int
sp_zloop_recv(void *socket, zmq_msg_t *frames, int max)
{
	int n = 0, more = 1;

	while (more && n < max) {
		zmq_msg_init(&frames[n]);
		if (zmq_msg_recv(&frames[n], socket, ZMQ_DONTWAIT) < 0) {
			zmq_msg_close(&frames[n]);
			break; /* messages come whole, so only the first frame can be missing */
		}
		more = zmq_msg_more(&frames[n]);
		n++;
	}
	if (n < max || !more)
		return n;
	skip_rest(socket);
	return max + 1;
}

void
sp_zloop_drop(zmq_msg_t *frames, int count, int max)
{
	int i;

	for (i = 0; i < count && i < max; i++)
		zmq_msg_close(&frames[i]);
}

static int
is_host(const char *host, size_t len)
{
	static const char name[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-";
	char address[INET6_ADDRSTRLEN];
	struct in6_addr in6;

	if (len == 0 || len > NAME_MAX)
		return 0;
	if (host[0] != '[')
		return strspn(host, name) == len;
	if (len < 4 || len - 2 >= sizeof(address) || host[len - 1] != ']')
		return 0;
	memcpy(address, host + 1, len - 2);
	address[len - 2] = '\0';
	return inet_pton(AF_INET6, address, &in6) == 1;
}

char *
sp_zloop_address(const char *key, const char *text, int binding, struct sp_err *err)
{
	const char *colon = strrchr(text, ':');
	size_t digits = colon != NULL ? strspn(colon + 1, "0123456789") : 0;
	long port = digits > 0 && digits <= 5 ? strtol(colon + 1, NULL, 10) : -1;

	if (port >= (binding ? 0 : 1) && port <= 65535 && colon[1 + digits] == '\0' &&
	    is_host(text, (size_t)(colon - text)))
		return sp_xasprintf("tcp://%s", text);
	sp_err_set(err, SP_E_CONFIG,
	    "%s is \"%.128s\": it must be HOST:PORT, such as \"192.0.2.7:5700\" or "
	    "\"[2001:db8::7]:5700\"",
	    key, text);
	return NULL;
}

int
sp_zloop_is_ipv6(const char *endpoint)
{
	return strncmp(endpoint, "tcp://[", 7) == 0;
}

char *
sp_zloop_endpoint(const char *path, struct sp_err *err)
{
	if (strlen(path) >= sizeof(((struct sockaddr_un *)0)->sun_path)) {
		sp_err_set(err, SP_E_CONFIG,
		    "socket path %s is longer than the %zu bytes that the system allows: choose a "
		    "shorter one",
		    path, sizeof(((struct sockaddr_un *)0)->sun_path) - 1);
		return NULL;
	}
	return sp_xasprintf("ipc://%s", path);
}
