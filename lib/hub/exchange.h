/* exchange.h -- one request to a hub and its answer, through redirects; for lib/hub alone. */
#ifndef SP_EXCHANGE_H
#define SP_EXCHANGE_H

#include "hub/client.h"

#include <curl/curl.h>

struct sp_client {
	CURL *curl;
	char *endpoint, *token, *ca_file;
	char *proxy, *proxy_user, *proxy_password;
	const char *api, *files, *scheme; /* where its kind of repositories is, and their name */
	long stall_s;
	unsigned tries;
	int64_t backoff_ms;
	void (*waiting)(void *ctx);
	int (*cancelled)(void *ctx);
	void *ctx;
	int is_inside; /* the endpoint has an address inside */
	int64_t hint_ms;
};

/* The fields of an answer that anything depends on; NULL: not sent. */
enum sp_exchange_field {
	SP_FIELD_LOCATION,
	SP_FIELD_LINK,
	SP_FIELD_ERROR_CODE,
	SP_FIELD_ERROR_MESSAGE,
	SP_FIELD_RETRY_AFTER,
	SP_FIELD_RATE_LIMIT,
	SP_FIELD_REPO_COMMIT,
	SP_FIELD_ETAG,
	SP_FIELD_CONTENT_RANGE,
	SP_FIELD_CONTENT_ENCODING,
	SP_FIELD_COUNT
};

/* Zero but for what the caller asks and where the body goes; cleared by sp_exchange_clear. */
struct sp_exchange {
	struct sp_client *client;
	/* asked: part is "FIRST-LAST" (NULL: the whole), if_range an entity tag or NULL, commit
	 * what X-Repo-Commit must be where it is sent, or NULL */
	const char *part, *if_range, *commit;
	/* Before the first byte of the body of a 200, or of a 206 when a part was asked for; what
	 * it returns ends the answer unless SP_OK. May be NULL. */
	enum sp_code (*begin)(void *ctx, const struct sp_exchange *ex, struct sp_err *err);
	sp_client_sink *sink;
	void *ctx;

	/* answered */
	char *url; /* where the redirects led */
	long status;
	char *fields[SP_FIELD_COUNT];
	int with_token;
	int begun;

	int is_refused; /* it led to an address inside */
	size_t skipped; /* bytes of a body that nobody wants */
	enum sp_code sink_code;
	struct sp_err *err;
};

/* GET of url through redirects. SP_OK for a 200, and for a 206 when a part was asked for; anything
 * else is a failure that names what, and client->hint_ms is how long the hub asks to be left alone
 * (-1: it does not say). */
enum sp_code sp_exchange_get(
    struct sp_exchange *ex, const char *url, const char *what, struct sp_err *err) SP_MUST_USE;
void sp_exchange_clear(struct sp_exchange *ex);

#endif
