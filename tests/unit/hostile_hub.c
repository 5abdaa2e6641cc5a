/* hostile_hub.c -- HTTP/1.1 by hand, as far as the tests need it. */
#include "hostile_hub.h"
#include "base/buf.h"
#include "base/err.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define HEAD_MAX 8192
#define SOCKET_BUFFER (64 << 10) /* little of what is served is lost on its way */
#define CUT_AT (((uint64_t)1 << 20) + 1)

/* --- files --------------------------------------------------------------------------------------
 */

uint8_t
hostile_byte(size_t file, uint64_t offset)
{
	/* no two blocks of a file, and no two files, are alike */
	return (uint8_t)((offset * 2654435761u >> 7) + (offset >> 16) * 37 + file * 101);
}

static void
fill(uint8_t *data, size_t file, uint64_t offset, size_t len)
{
	for (size_t i = 0; i < len; i++)
		data[i] = hostile_byte(file, offset + i);
}

void
hostile_list(struct sp_answer_file *files, const char *const *paths, const uint64_t *sizes,
    size_t count, struct sp_answer_tree *listing)
{
	static uint8_t block[1 << 16];

	memset(listing, 0, sizeof(*listing));
	memset(files, 0, count * sizeof(*files));
	for (size_t i = 0; i < count; i++) {
		struct sp_hash *sha256 = sp_hash_new(SP_SHA256), *oid = sp_git_blob_new(sizes[i]);

		for (uint64_t at = 0; at < sizes[i]; at += sizeof(block)) {
			size_t n =
			    sizes[i] - at < sizeof(block) ? (size_t)(sizes[i] - at) : sizeof(block);

			fill(block, i, at, n);
			sp_hash_add(sha256, block, n);
			sp_hash_add(oid, block, n);
		}
		files[i].path = (char *)(uintptr_t)paths[i];
		files[i].size = sizes[i];
		files[i].lfs = strstr(paths[i], ".safetensors") != NULL;
		files[i].sha256 = sp_hash_finish_hex(sha256);
		files[i].oid = sp_git_blob_finish(oid);
		sp_hash_free(&sha256);
		sp_hash_free(&oid);
		listing->bytes += sizes[i];
	}
	listing->files = files;
	listing->count = count;
}

/* --- answers ------------------------------------------------------------------------------------
 */

struct connection {
	struct hostile_hub *hub;
	int fd;
};

/* A request for a file. */
struct wish {
	size_t file;
	uint64_t from, to;
	int has_range, is_signed;
	unsigned serial;
	enum hostile_kind kind;
};

static int
send_all(struct hostile_hub *hub, int fd, const void *data, size_t len, int body)
{
	const uint8_t *p = data;

	while (len > 0) {
		ssize_t n = send(fd, p, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return 0;
		p += n;
		len -= (size_t)n;
		if (body) {
			pthread_mutex_lock(&hub->lock);
			hub->served += (uint64_t)n;
			pthread_cond_broadcast(&hub->changed);
			pthread_mutex_unlock(&hub->lock);
		}
	}
	return 1;
}

static int
say(struct connection *c, unsigned status, const char *fields, uint64_t length)
{
	char head[1024];
	int len = snprintf(head, sizeof(head),
	    "HTTP/1.1 %u X\r\nX-Repo-Commit: " HOSTILE_COMMIT "\r\nContent-Length: %llu\r\n%s\r\n",
	    status, (unsigned long long)length, fields);

	return send_all(c->hub, c->fd, head, (size_t)len, 0);
}

/* Until the hub is closed, or the client goes. */
static void
stall(struct connection *c)
{
	struct pollfd pfd = {c->fd, POLLRDHUP, 0};
	int ending = 0;

	while (!ending && poll(&pfd, 1, 20) == 0) {
		pthread_mutex_lock(&c->hub->lock);
		ending = c->hub->ending;
		pthread_mutex_unlock(&c->hub->lock);
	}
}

static int
send_body(struct connection *c, const struct wish *w)
{
	uint8_t *block = malloc(1 << 16);
	uint64_t end = w->to;
	int more = 1;

	if ((w->kind == HOSTILE_CUT || w->kind == HOSTILE_STALL) && end - w->from > CUT_AT)
		end = w->from + CUT_AT;
	for (uint64_t at = w->from; more && at < end;) {
		size_t n = end - at < 1 << 16 ? (size_t)(end - at) : 1 << 16;

		fill(block, w->file, at, n);
		if (w->kind == HOSTILE_WRONG_BYTES && at == w->from)
			block[0] ^= 1;
		more = send_all(c->hub, c->fd, block, n, 1);
		at += n;
	}
	free(block);
	if (more && w->kind == HOSTILE_STALL)
		stall(c);
	return more && end == w->to;
}

/* A part in chunks whose end comes too early. */
static int
send_short(struct connection *c, const struct wish *w)
{
	char head[512];
	int len = snprintf(head, sizeof(head),
	    "HTTP/1.1 206 X\r\nTransfer-Encoding: chunked\r\nContent-Range: bytes "
	    "%llu-%llu/%llu\r\n"
	    "\r\n1\r\n%c\r\n0\r\n\r\n",
	    (unsigned long long)w->from, (unsigned long long)w->to - 1,
	    (unsigned long long)c->hub->listing->files[w->file].size,
	    hostile_byte(w->file, w->from));

	return send_all(c->hub, c->fd, head, (size_t)len, 0);
}

static int
send_file(struct connection *c, struct wish *w)
{
	uint64_t size = c->hub->listing->files[w->file].size, first = w->from, last, of = size;
	char fields[512], range[160] = "";
	unsigned status = 206;

	if (w->kind == HOSTILE_SHORT_BODY)
		return send_short(c, w);
	if (w->kind == HOSTILE_NO_RANGES)
		w->has_range = 0;
	if (!w->has_range) {
		status = 200;
		w->from = 0;
		w->to = size;
	}
	if (w->kind == HOSTILE_SHORT_RANGE)
		w->to -= 1;
	last = w->to - 1;
	if (w->kind == HOSTILE_WRONG_RANGE) {
		first++;
		last++;
	}
	if (w->kind == HOSTILE_LARGER)
		of++;
	if (status == 206 && w->kind != HOSTILE_NO_FIELD)
		snprintf(range, sizeof(range), "Content-Range: bytes %llu-%llu/%llu\r\n",
		    (unsigned long long)first, (unsigned long long)last, (unsigned long long)of);
	snprintf(fields, sizeof(fields), "%sETag: \"%u\"\r\n%s", range,
	    w->kind == HOSTILE_OTHER_ETAG ? w->serial : 7,
	    w->kind == HOSTILE_ENCODED ? "Content-Encoding: gzip\r\n" : "");
	return say(c, status, fields, w->to - w->from) && send_body(c, w);
}

static int
redirect(struct connection *c, const struct wish *w)
{
	char fields[512];

	if (w->kind == HOSTILE_CIRCLE)
		snprintf(fields, sizeof(fields), "Location: /o/m/resolve/" HOSTILE_COMMIT "/%s\r\n",
		    c->hub->listing->files[w->file].path);
	else if (w->kind == HOSTILE_EXPIRES_HERE)
		snprintf(fields, sizeof(fields), "Location: /signed/%u/%s\r\n", w->serial,
		    c->hub->listing->files[w->file].path);
	else
		/* another name of this host: another origin */
		snprintf(fields, sizeof(fields), "Location: http://localhost:%u/signed/%u/%s\r\n",
		    c->hub->port, w->serial, c->hub->listing->files[w->file].path);
	return say(c, 302, fields, 0);
}

static int
answer(struct connection *c, struct wish *w)
{
	int is_signing = w->kind == HOSTILE_EXPIRES || w->kind == HOSTILE_EXPIRES_HERE ||
			 w->kind == HOSTILE_FORBIDDEN;

	switch (w->kind) {
	case HOSTILE_TOO_MANY:
		return say(c, 429, "Retry-After: 0\r\n", 0);
	case HOSTILE_RATE_LIMIT:
		return say(c, 429, "RateLimit: \"api\";r=0;t=1\r\n", 0);
	case HOSTILE_BUSY_FOR_DAY:
		return say(c, 429, "Retry-After: 86400\r\n", 0);
	case HOSTILE_DOWN:
		return say(c, 503, "", 0);
	case HOSTILE_GONE:
		return say(c, 416, "", 0);
	default:
		break;
	}
	if (w->kind == HOSTILE_CIRCLE || (is_signing && !w->is_signed))
		return redirect(c, w);
	if (is_signing && w->kind == HOSTILE_FORBIDDEN)
		return say(c, 403, "", 0);
	if (!w->has_range && w->kind == HOSTILE_WRONG_RANGE)
		w->kind = HOSTILE_HONEST;
	return send_file(c, w);
}

/* --- requests -----------------------------------------------------------------------------------
 */

static const char *
field(const char *head, const char *name)
{
	const char *p = strcasestr(head, name);

	return p != NULL ? p + strlen(name) : NULL;
}

/* 0: it asks for nothing that there is. */
static int
read_wish(struct hostile_hub *hub, const char *head, struct wish *w)
{
	const char *path = strchr(head, ' '), *name, *end,
		   *range = field(head, "\r\nRange: bytes=");
	unsigned long long from, to;
	int consumed = 0;

	memset(w, 0, sizeof(*w));
	if (path == NULL || (end = strchr(++path, ' ')) == NULL)
		return 0;
	if (sscanf(path, "/signed/%u/%n", &w->serial, &consumed) == 1 && consumed > 0) {
		w->is_signed = 1;
		name = path + consumed;
	} else {
		name = path + strlen("/o/m/resolve/" HOSTILE_COMMIT "/");
	}
	for (w->file = 0; w->file < hub->listing->count; w->file++)
		if (strlen(hub->listing->files[w->file].path) == (size_t)(end - name) &&
		    strncmp(hub->listing->files[w->file].path, name, (size_t)(end - name)) == 0)
			break;
	if (w->file == hub->listing->count)
		return 0;
	w->to = hub->listing->files[w->file].size;
	if (range != NULL && sscanf(range, "%llu-%llu", &from, &to) == 2) {
		w->has_range = 1;
		w->from = from;
		w->to = to + 1;
	}
	return 1;
}

/* Counts it, and decides whether it is answered as it should be. */
static void
judge(struct hostile_hub *hub, const char *head, struct wish *w)
{
	const struct hostile_trick *trick = hub->trick;
	int token = field(head, "\r\nAuthorization: Bearer ") != NULL;

	pthread_mutex_lock(&hub->lock);
	hub->requests++;
	hub->whole += !w->has_range;
	hub->if_ranges += field(head, "\r\nIf-Range: ") != NULL;
	hub->with_token += token;
	hub->signed_with_token += token && w->is_signed;
	if (trick != NULL &&
	    (trick->name == NULL || strcmp(trick->name, hub->listing->files[w->file].path) == 0) &&
	    (trick->times == 0 || hub->times < (unsigned)trick->times)) {
		w->kind = trick->kind;
		hub->times++;
	}
	if (!w->is_signed)
		w->serial = ++hub->serial % sizeof(hub->used);
	else if ((w->kind == HOSTILE_EXPIRES || w->kind == HOSTILE_EXPIRES_HERE) &&
		 hub->used[w->serial % sizeof(hub->used)]++ > 0)
		w->kind = HOSTILE_FORBIDDEN;
	pthread_mutex_unlock(&hub->lock);
}

/* One head, up to its empty line; 0 at the end. Clients here do not pipeline. */
static int
read_head(struct hostile_hub *hub, int fd, char head[HEAD_MAX + 1])
{
	size_t len = 0;

	for (;;) {
		struct pollfd pfd = {fd, POLLIN, 0};
		int ready = poll(&pfd, 1, 20), ending;
		ssize_t n;

		pthread_mutex_lock(&hub->lock);
		ending = hub->ending;
		pthread_mutex_unlock(&hub->lock);
		if (ending || ready < 0)
			return 0;
		if (ready == 0)
			continue;
		n = recv(fd, head + len, HEAD_MAX - len, 0);
		if (n <= 0)
			return 0;
		len += (size_t)n;
		head[len] = '\0';
		if (strstr(head, "\r\n\r\n") != NULL)
			return 1;
		if (len == HEAD_MAX)
			return 0;
	}
}

static void *
serve(void *ctx)
{
	struct connection *c = ctx;
	struct hostile_hub *hub = c->hub;
	char head[HEAD_MAX + 1];
	struct wish w;

	while (read_head(hub, c->fd, head)) {
		if (!read_wish(hub, head, &w)) {
			if (!say(c, 404, "", 0))
				break;
			continue;
		}
		judge(hub, head, &w);
		if (!answer(c, &w))
			break;
	}
	close(c->fd);
	free(c);
	pthread_mutex_lock(&hub->lock);
	hub->running--;
	pthread_cond_broadcast(&hub->changed);
	pthread_mutex_unlock(&hub->lock);
	return NULL;
}

static void *
accept_all(void *ctx)
{
	struct hostile_hub *hub = ctx;
	struct sockaddr_in from;
	socklen_t len = sizeof(from);
	int size = SOCKET_BUFFER, fd;
	struct connection *c;
	pthread_t thread;

	while ((fd = accept4(hub->listen_fd, (struct sockaddr *)&from, &len, SOCK_CLOEXEC)) >= 0) {
		(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
		c = sp_xcalloc(1, sizeof(*c));
		c->hub = hub;
		c->fd = fd;
		pthread_mutex_lock(&hub->lock);
		hub->running++;
		pthread_mutex_unlock(&hub->lock);
		SP_ASSERT(pthread_create(&thread, NULL, serve, c) == 0);
		pthread_detach(thread);
	}
	return NULL;
}

/* --- API ----------------------------------------------------------------------------------------
 */

void
hostile_open(struct hostile_hub *hub, const struct sp_answer_tree *listing)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t len = sizeof(at);

	hub->listing = listing;
	pthread_mutex_init(&hub->lock, NULL);
	pthread_cond_init(&hub->changed, NULL);
	hub->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	SP_ASSERT(hub->listen_fd >= 0);
	SP_ASSERT(bind(hub->listen_fd, (struct sockaddr *)&at, sizeof(at)) == 0);
	SP_ASSERT(listen(hub->listen_fd, 128) == 0);
	SP_ASSERT(getsockname(hub->listen_fd, (struct sockaddr *)&at, &len) == 0);
	hub->port = ntohs(at.sin_port);
	SP_ASSERT(pthread_create(&hub->accepter, NULL, accept_all, hub) == 0);
}

void
hostile_close(struct hostile_hub *hub)
{
	pthread_mutex_lock(&hub->lock);
	hub->ending = 1;
	pthread_mutex_unlock(&hub->lock);
	shutdown(hub->listen_fd, SHUT_RDWR);
	pthread_join(hub->accepter, NULL);
	close(hub->listen_fd);
	pthread_mutex_lock(&hub->lock);
	while (hub->running > 0)
		pthread_cond_wait(&hub->changed, &hub->lock);
	pthread_mutex_unlock(&hub->lock);
	pthread_cond_destroy(&hub->changed);
	pthread_mutex_destroy(&hub->lock);
}

uint64_t
hostile_served(struct hostile_hub *hub)
{
	uint64_t served;

	pthread_mutex_lock(&hub->lock);
	served = hub->served;
	pthread_mutex_unlock(&hub->lock);
	return served;
}

int
hostile_await(struct hostile_hub *hub, uint64_t bytes)
{
	struct timespec until;
	int rc = 0;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 30;
	pthread_mutex_lock(&hub->lock);
	while (hub->served < bytes && rc == 0)
		rc = pthread_cond_timedwait(&hub->changed, &hub->lock, &until);
	pthread_mutex_unlock(&hub->lock);
	return rc == 0;
}
