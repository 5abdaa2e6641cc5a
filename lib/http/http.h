/*
 * http.h -- an HTTP/1.1 server (libmicrohttpd; TLS by GnuTLS): bounded requests in, replies out.
 *
 * Handlers run on the threads of a pool, several at the same time. A handler that waits holds up
 * the connections of its own thread only; sending, also of files, never waits for a peer.
 */
#ifndef SP_HTTP_H
#define SP_HTTP_H

#include "base/err.h"

#include <stdint.h>

struct sp_http;
struct MHD_Connection;

/* Borrowed; valid while the handler runs. */
struct sp_http_request {
	const char *method;  /* "GET", "HEAD", "POST", … */
	const char *path;    /* as sent: percent-encoded, without query; starts with '/' */
	const uint8_t *body; /* never NULL, NUL after it */
	size_t body_len;
	char peer[64]; /* address of the client */
	struct MHD_Connection *connection;
};

/* NULL when there is none. Names in any case. */
const char *sp_http_header(const struct sp_http_request *request, const char *name);
/* Parameter of the query string, decoded and malloc'd; NULL when there is none. */
char *sp_http_query(const struct sp_http_request *request, const char *key);

struct sp_http_field {
	char *name, *value;
};

/* Filled by the handler by the functions below; the server frees it. status 0 is sent as 500. */
struct sp_http_reply {
	unsigned status;
	struct sp_http_field *fields;
	size_t field_count;
	uint8_t *body; /* malloc'd */
	size_t body_len;
	int fd;			 /* < 0: none; else sent instead of body, and closed */
	uint64_t offset, length; /* the part of fd */
};

#define SP_HTTP_REPLY_INIT \
	{                  \
		.fd = -1   \
	}

void sp_http_reply_field(struct sp_http_reply *reply, const char *name, const char *fmt, ...)
    SP_PRINTF(3, 4);
/* Copies data. type: of the content, "application/json". */
void sp_http_reply_body(
    struct sp_http_reply *reply, unsigned status, const char *type, const void *data, size_t len);
/* Takes fd over. */
void sp_http_reply_fd(
    struct sp_http_reply *reply, unsigned status, int fd, uint64_t offset, uint64_t length);
void sp_http_reply_clear(struct sp_http_reply *reply);

/* A request whose method is HEAD gets the fields and the Content-Length of the reply alone. */
typedef void
sp_http_handler(void *ctx, const struct sp_http_request *request, struct sp_http_reply *reply);

struct sp_http_options {
	const char *listen;    /* "127.0.0.1:8443", "[::]:443"; port 0: a free one */
	const char *cert_file; /* PEM chain; NULL: plain HTTP */
	const char *key_file;  /* PEM, when there is a cert_file */
	unsigned threads;      /* 0: one per processor, at least 2 */
	unsigned connections;  /* at the same time; 0: 1024 */
	unsigned per_address;  /* of them from one address (IPv6: one /64); 0: half */
	unsigned idle_s;       /* a connection on which nothing moves so long is closed; 0: 60 */
	unsigned request_s;    /* a request that is not there as a whole by then, too; 0: 30 */
	size_t body_max;       /* bytes of a request's body; larger: 413. 0: no body at all */
	size_t bodies_max; /* of all bodies held at the same time; beyond: 503. 0: no such end */
	sp_http_handler *handler;
	void *ctx;
};

/* Listens when it returns. SP_E_CONFIG names the option that is wrong. Everything is copied.
 * Raises the process's soft limit of open files to the hard one; where that does not hold two for
 * each connection (its socket, and the file that it is sent), fewer are taken and the log says so.
 */
enum sp_code sp_http_start(
    const struct sp_http_options *options, struct sp_http **out, struct sp_err *err) SP_MUST_USE;
unsigned sp_http_port(const struct sp_http *http);
/* Accepts nothing more, waits up to 5 s for replies under way, ends all connections and threads. */
void sp_http_stop(struct sp_http **http);

#endif
