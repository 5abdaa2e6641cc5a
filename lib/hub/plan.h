/*
 * plan.h -- a request to our hub, turned into a reply; pure but for the memory of the reply.
 *
 * What unmodified huggingface_hub, transformers, vLLM and hf-hub (Rust) ask for:
 *	GET  /api/models                                  ?search ?author ?full ?limit ?cursor
 *	GET  /api/models/{id}[/revision/{rev}]            ?blobs
 *	GET  /api/models/{id}/tree/{rev}[/{path}]         ?recursive ?expand ?limit ?cursor
 *	POST /api/models/{id}/paths-info/{rev}            form or JSON: paths, expand
 *	GET  /api/models/{id}/refs
 *	GET  /api/models/{id}/commits/{rev}
 *	GET  /api/models/{id}/auth-check
 *	GET  /api/whoami-v2                               401: there are no accounts
 *	GET, HEAD /{id}/resolve/{rev}/{path}              Range, If-Range, If-None-Match
 *	GET, HEAD /{id}/raw/{rev}/{path}                  of an LFS file: its pointer
 * and the same of data sets below /api/datasets and /datasets/{id}. Wherever GET goes, HEAD does.
 * Nothing of Xet is ever named: clients then use plain HTTP.
 */
#ifndef SP_PLAN_H
#define SP_PLAN_H

#include "http/http.h"
#include "hub/catalog.h"

/* Strings may be NULL where the request has none; path is percent-encoded, the others decoded. */
struct sp_plan_request {
	const char *method, *path;
	const char *host, *forwarded_proto; /* fields: for links to the next page */
	const char *content_type;
	const char *range, *if_range, *if_none_match; /* fields */
	const char *recursive, *expand, *blobs, *full, *search, *author, *limit,
	    *cursor; /* query */
	const uint8_t *body;
	size_t body_len;
};

/* What is to be sent from the store, when digest is not "". */
struct sp_plan_blob {
	char digest[SP_HEX_LEN + 1];
	uint64_t size; /* of the whole blob */
	uint64_t offset, length;
};

/* reply must be empty (SP_HTTP_REPLY_INIT). With a blob, reply has status and fields already and
 * wants its content only: sp_http_reply_fd(reply, reply->status, …). */
void sp_plan_make(const struct sp_catalog *catalog, const struct sp_plan_request *request,
    struct sp_http_reply *reply, struct sp_plan_blob *blob);

/* A reply as the hub's errors are: X-Error-Code (may be NULL), X-Error-Message, JSON. */
void sp_plan_error(
    struct sp_http_reply *reply, unsigned status, const char *error_code, const char *message);

#endif
