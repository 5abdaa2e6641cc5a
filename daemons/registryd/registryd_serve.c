/* registryd_serve.c -- HTTP requests to plans, plans to bytes of the store. */
#include "base/log.h"
#include "hub/plan.h"
#include "registryd.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Query parameters that a plan asks for. */
enum { Q_RECURSIVE, Q_EXPAND, Q_BLOBS, Q_FULL, Q_SEARCH, Q_AUTHOR, Q_LIMIT, Q_CURSOR, Q_COUNT };
static const char *const query_names[Q_COUNT] = {
    "recursive", "expand", "blobs", "full", "search", "author", "limit", "cursor"};

static void
send_blob(struct registryd *r, const struct sp_plan_blob *blob, struct sp_http_reply *reply)
{
	enum sp_code code;
	struct sp_err err;
	uint64_t size;
	int fd;

	code = sp_store_blob(r->store, blob->digest, &fd, &size, &err);
	if (code != SP_OK) {
		sp_log_error(NULL, "%s", err.msg);
	} else if (size != blob->size) {
		sp_log_error(NULL, "blob %s has %llu bytes, its tree says %llu", blob->digest,
		    (unsigned long long)size, (unsigned long long)blob->size);
		close(fd);
	} else {
		sp_http_reply_fd(reply, reply->status, fd, blob->offset, blob->length);
		return;
	}
	sp_http_reply_clear(reply);
	if (code == SP_E_IO) { /* no file may be opened any more, or a disk that stumbles */
		sp_http_reply_field(reply, "Retry-After", "1");
		sp_plan_error(reply, 503, NULL, "The registry cannot read this file just now");
		return;
	}
	sp_plan_error(reply, 500, NULL, "The registry's store is damaged; its log says more");
}

void
registryd_handle(void *ctx, const struct sp_http_request *request, struct sp_http_reply *reply)
{
	struct registryd *r = ctx;
	struct sp_plan_request plan = {.method = request->method,
	    .path = request->path,
	    .host = sp_http_header(request, "Host"),
	    .forwarded_proto = sp_http_header(request, "X-Forwarded-Proto"),
	    .content_type = sp_http_header(request, "Content-Type"),
	    .range = sp_http_header(request, "Range"),
	    .if_range = sp_http_header(request, "If-Range"),
	    .if_none_match = sp_http_header(request, "If-None-Match"),
	    .body = request->body,
	    .body_len = request->body_len};
	struct sp_plan_blob blob;
	char *query[Q_COUNT];

	for (int i = 0; i < Q_COUNT; i++)
		query[i] = sp_http_query(request, query_names[i]);
	plan.recursive = query[Q_RECURSIVE];
	plan.expand = query[Q_EXPAND];
	plan.blobs = query[Q_BLOBS];
	plan.full = query[Q_FULL];
	plan.search = query[Q_SEARCH];
	plan.author = query[Q_AUTHOR];
	plan.limit = query[Q_LIMIT];
	plan.cursor = query[Q_CURSOR];
	pthread_rwlock_rdlock(&r->lock);
	sp_plan_make(&r->catalog, &plan, reply, &blob);
	pthread_rwlock_unlock(&r->lock);
	if (blob.digest[0] != '\0')
		send_blob(r, &blob, reply);
	sp_log_debug(
	    NULL, "%s %s %s -> %u", request->peer, request->method, request->path, reply->status);
	for (int i = 0; i < Q_COUNT; i++)
		free(query[i]);
}
