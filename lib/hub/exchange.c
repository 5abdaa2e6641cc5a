/* exchange.c -- requests by libcurl: who gets the token, and where a redirect may lead. */
#include "hub/exchange.h"
#include "base/time.h"
#include "base/version.h"
#include "http/url.h"
#include "hub/address.h"
#include "hub/retry.h"

#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define HOPS_MAX 10
#define ERROR_BODY_MAX \
	65536 /* of an answer that is no 2xx: read so far, then the connection ends */
#define CONNECT_TIMEOUT_S 30
#define STALL_BYTES_PER_S 1024 /* with less than so many for stall_s, a transfer has stalled */
#define BUFFER_BYTES (256L * 1024)

static const char *const field_names[SP_FIELD_COUNT] = {"location", "link", "x-error-code",
    "x-error-message", "retry-after", "ratelimit", "x-repo-commit", "etag", "content-range",
    "content-encoding"};

static void
clear_fields(struct sp_exchange *ex)
{
	for (int i = 0; i < SP_FIELD_COUNT; i++) {
		free(ex->fields[i]);
		ex->fields[i] = NULL;
	}
}

static size_t
on_field(char *data, size_t size, size_t count, void *ctx)
{
	struct sp_exchange *ex = ctx;
	size_t len = size * count, name_len;
	const char *colon = memchr(data, ':', len), *p, *end = data + len;

	/* a status line: what came before belongs to an interim answer */
	if (len >= 5 && memcmp(data, "HTTP/", 5) == 0)
		clear_fields(ex);
	if (colon == NULL)
		return len;
	name_len = (size_t)(colon - data);
	for (p = colon + 1; p < end && (*p == ' ' || *p == '\t'); p++)
		;
	while (end > p && (unsigned char)end[-1] <= ' ')
		end--;
	for (int i = 0; i < SP_FIELD_COUNT; i++) {
		if (strlen(field_names[i]) != name_len ||
		    strncasecmp(field_names[i], data, name_len) != 0 || ex->fields[i] != NULL)
			continue;
		ex->fields[i] = sp_xasprintf("%.*s", (int)(end - p), p);
	}
	return len;
}

static int
is_wanted(const struct sp_exchange *ex, long status)
{
	return status == 200 || (status == 206 && ex->part != NULL);
}

/* Sizes, ranges and hashes are those of the file of that commit. */
static enum sp_code
check_fields(const struct sp_exchange *ex, struct sp_err *err)
{
	const char *encoding =
	    is_wanted(ex, ex->status) ? ex->fields[SP_FIELD_CONTENT_ENCODING] : NULL;
	const char *commit = ex->fields[SP_FIELD_REPO_COMMIT];

	if (ex->commit != NULL && commit != NULL && strcmp(commit, ex->commit) != 0)
		return sp_err_set(err, SP_E_CORRUPT,
		    "the hub answers with a file of another commit than %s", ex->commit);
	if (encoding != NULL && encoding[0] != '\0' && strcasecmp(encoding, "identity") != 0)
		return sp_err_set(err, SP_E_UNSUPPORTED,
		    "the hub sends it encoded (Content-Encoding: %.40s), which was not asked for",
		    encoding);
	return SP_OK;
}

static size_t
on_body(char *data, size_t size, size_t count, void *ctx)
{
	struct sp_exchange *ex = ctx;
	size_t len = size * count;
	long status = 0;

	curl_easy_getinfo(ex->client->curl, CURLINFO_RESPONSE_CODE, &status);
	if (!is_wanted(ex, status)) {
		ex->skipped += len;
		return ex->skipped > ERROR_BODY_MAX ? 0 : len;
	}
	ex->sink_code = SP_OK;
	if (!ex->begun) {
		ex->begun = 1;
		ex->status = status;
		ex->sink_code = check_fields(ex, ex->err);
		if (ex->sink_code == SP_OK && ex->begin != NULL)
			ex->sink_code = ex->begin(ex->ctx, ex, ex->err);
	}
	if (ex->sink_code == SP_OK)
		ex->sink_code = ex->sink(ex->ctx, data, len, ex->err);
	return ex->sink_code == SP_OK ? len : 0;
}

static int
on_progress(void *ctx, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
	struct sp_client *client = ctx;

	(void)a;
	(void)b;
	(void)c;
	(void)d;
	return client->cancelled != NULL && client->cancelled(client->ctx);
}

/* Whoever is connected to, its name has been looked up: no name can hide an address. */
static curl_socket_t
on_socket(void *ctx, curlsocktype purpose, struct curl_sockaddr *address)
{
	struct sp_exchange *ex = ctx;
	struct sp_client *client = ex->client;

	(void)purpose;
	/* a proxy is where the configuration says, and looks names up itself */
	if (client->proxy == NULL && sp_address_is_inside(&address->addr)) {
		if (sp_url_same_origin(ex->url, client->endpoint))
			client->is_inside = 1;
		if (!client->is_inside) {
			ex->is_refused = 1;
			return CURL_SOCKET_BAD;
		}
	}
	return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/* 1 for a URL whose host is itself an address inside, however it is written. */
static int
names_inside(const char *url)
{
	struct addrinfo hints = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM};
	struct addrinfo *list = NULL;
	const char *host = strstr(url, "://") + 3;
	size_t len;
	char *text;
	int inside;

	if (*host == '[') {
		host++;
		len = strcspn(host, "]");
	} else {
		len = strcspn(host, ":/?#");
	}
	text = sp_xasprintf("%.*s", (int)len, host);
	inside = strcasecmp(text, "localhost") == 0;
	if (getaddrinfo(text, NULL, &hints, &list) == 0)
		inside = sp_address_is_inside(list->ai_addr);
	if (list != NULL)
		freeaddrinfo(list);
	free(text);
	return inside;
}

/* With a proxy no address is seen before the proxy has connected to it. */
static int
is_refused_to_proxy(const struct sp_exchange *ex)
{
	const char *endpoint = ex->client->endpoint;

	return ex->client->proxy != NULL && !sp_url_same_origin(ex->url, endpoint) &&
	       names_inside(ex->url) && !names_inside(endpoint);
}

static enum sp_code
fail_proxy(const struct sp_exchange *ex, const char *why, struct sp_err *err)
{
	long status = 0;

	curl_easy_getinfo(ex->client->curl, CURLINFO_HTTP_CONNECTCODE, &status);
	if (status == 407)
		return sp_err_set(err, SP_E_CONFIG,
		    "the proxy %s wants other credentials than those of fetcherd.proxy_auth_file",
		    ex->client->proxy);
	if (status == 403)
		return sp_err_set(err, SP_E_DENIED, "the proxy %s does not let through to %.*s",
		    ex->client->proxy, (int)sp_url_origin_len(ex->url), ex->url);
	return sp_err_set(err, SP_E_UNREACHABLE, "the proxy %s, on the way to %.*s: %s",
	    ex->client->proxy, (int)sp_url_origin_len(ex->url), ex->url, why);
}

static enum sp_code
fail_transfer(const struct sp_exchange *ex, CURLcode rc, const char *text, struct sp_err *err)
{
	int len = (int)sp_url_origin_len(ex->url);
	const char *why = text[0] != '\0' ? text : curl_easy_strerror(rc);

	if (ex->is_refused)
		return sp_err_set(err, SP_E_DENIED,
		    "the hub leads to %.*s, which is this host or in a network of ours: not "
		    "followed",
		    len, ex->url);
	switch (rc) {
	case CURLE_ABORTED_BY_CALLBACK:
		return sp_err_set(err, SP_E_CANCELLED, "cancelled");
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_ISSUER_ERROR:
		return sp_err_set(err, SP_E_CONFIG,
		    "certificate of %.*s is not accepted (fetcherd.ca_file names whom to believe): "
		    "%s",
		    len, ex->url, why);
	case CURLE_OPERATION_TIMEDOUT:
		return sp_err_set(
		    err, SP_E_TIMEOUT, "%.*s does not answer, or stalls: %s", len, ex->url, why);
	case CURLE_OUT_OF_MEMORY:
		return sp_err_set(err, SP_E_NO_MEMORY, "no memory for %.*s", len, ex->url);
	case CURLE_UNSUPPORTED_PROTOCOL:
	case CURLE_URL_MALFORMAT:
		return sp_err_set(err, SP_E_INVALID, "%.*s: %s", len, ex->url, why);
	default:
		if (ex->client->proxy != NULL)
			return fail_proxy(ex, why, err);
		return sp_err_set(err, SP_E_UNREACHABLE, "%.*s: %s", len, ex->url, why);
	}
}

/* "": none, whatever the environment says. What is meant for the endpoint is not told to the proxy
 * and the other way round. */
static void
set_proxy(const struct sp_client *client)
{
	CURL *curl = client->curl;

	curl_easy_setopt(curl, CURLOPT_PROXY, client->proxy != NULL ? client->proxy : "");
	curl_easy_setopt(curl, CURLOPT_NOPROXY, "");
	if (client->proxy == NULL)
		return;
	curl_easy_setopt(curl, CURLOPT_HEADEROPT, (long)CURLHEADER_SEPARATE);
	curl_easy_setopt(curl, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	if (client->ca_file != NULL)
		curl_easy_setopt(curl, CURLOPT_PROXY_CAINFO, client->ca_file);
	if (client->proxy_user == NULL)
		return;
	curl_easy_setopt(curl, CURLOPT_PROXYAUTH, (long)CURLAUTH_BASIC);
	curl_easy_setopt(curl, CURLOPT_PROXYUSERNAME, client->proxy_user);
	curl_easy_setopt(curl, CURLOPT_PROXYPASSWORD, client->proxy_password);
}

static void
set_options(struct sp_exchange *ex, struct curl_slist *fields, char *why)
{
	struct sp_client *client = ex->client;
	CURL *curl = client->curl;

	curl_easy_reset(curl); /* keeps the connections */
	curl_easy_setopt(curl, CURLOPT_URL, ex->url);
	curl_easy_setopt(curl, CURLOPT_HTTPHEADER, fields);
	curl_easy_setopt(curl, CURLOPT_USERAGENT, "sallyport/" SP_VERSION);
	curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_TIMEOUT_S);
	curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, (long)STALL_BYTES_PER_S);
	curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, client->stall_s);
	curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, BUFFER_BYTES);
	curl_easy_setopt(curl, CURLOPT_TCP_KEEPALIVE, 1L);
	/* files alone: streams over one connection would only share what HTTP/1.1 gives whole */
	curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	if (ex->part != NULL)
		curl_easy_setopt(curl, CURLOPT_RANGE, ex->part);
	curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, why);
	curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_field);
	curl_easy_setopt(curl, CURLOPT_HEADERDATA, ex);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, ex);
	curl_easy_setopt(curl, CURLOPT_OPENSOCKETFUNCTION, on_socket);
	curl_easy_setopt(curl, CURLOPT_OPENSOCKETDATA, ex);
	curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
	curl_easy_setopt(curl, CURLOPT_XFERINFODATA, client);
	if (client->ca_file != NULL)
		curl_easy_setopt(curl, CURLOPT_CAINFO, client->ca_file);
	set_proxy(client);
}

static struct curl_slist *
add_field(struct curl_slist *fields, char *text)
{
	struct curl_slist *more = curl_slist_append(fields, text);

	SP_ASSERT(more != NULL);
	explicit_bzero(text, strlen(text));
	free(text);
	return more;
}

static struct curl_slist *
make_fields(struct sp_exchange *ex)
{
	const struct sp_client *client = ex->client;
	struct curl_slist *fields;

	/* no compression: sizes and hashes are those of the file */
	fields = add_field(NULL, sp_xstrdup("Accept-Encoding: identity"));
	ex->with_token = client->token != NULL && sp_url_same_origin(ex->url, client->endpoint);
	if (ex->with_token)
		fields = add_field(fields, sp_xasprintf("Authorization: Bearer %s", client->token));
	if (ex->if_range != NULL)
		fields = add_field(fields, sp_xasprintf("If-Range: %s", ex->if_range));
	return fields;
}

/* GET of ex->url, to the end of its answer. */
static enum sp_code
get_once(struct sp_exchange *ex, struct sp_err *err)
{
	char why[CURL_ERROR_SIZE] = "";
	struct curl_slist *fields, *more;
	enum sp_code code = SP_OK;
	CURLcode rc;

	clear_fields(ex);
	ex->skipped = 0;
	ex->begun = 0;
	ex->status = 0;
	ex->sink_code = SP_OK;
	ex->err = err;
	ex->is_refused = is_refused_to_proxy(ex);
	if (ex->is_refused)
		return fail_transfer(ex, CURLE_OK, "", err);
	fields = make_fields(ex);
	set_options(ex, fields, why);
	rc = curl_easy_perform(ex->client->curl);
	curl_easy_getinfo(ex->client->curl, CURLINFO_RESPONSE_CODE, &ex->status);
	if (ex->sink_code != SP_OK)
		code = ex->sink_code;
	else if (rc == CURLE_WRITE_ERROR && !is_wanted(ex, ex->status))
		code = SP_OK; /* enough of a body that nobody wants */
	else if (rc != CURLE_OK)
		code = fail_transfer(ex, rc, why, err);
	curl_easy_setopt(ex->client->curl, CURLOPT_HTTPHEADER, NULL);
	curl_easy_setopt(ex->client->curl, CURLOPT_ERRORBUFFER, NULL);
	for (more = fields; more != NULL; more = more->next)
		explicit_bzero(more->data, strlen(more->data));
	curl_slist_free_all(fields);
	return code;
}

static int
is_redirect(long status)
{
	return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

/* Sets ex->url to where the answer leads. */
static enum sp_code
follow(struct sp_exchange *ex, const char *what, struct sp_err *err)
{
	const char *location = ex->fields[SP_FIELD_LOCATION];
	char *to = location != NULL ? sp_url_resolve(ex->url, location) : NULL;

	if (to == NULL)
		return sp_err_set(err, SP_E_UNSUPPORTED,
		    "%s: the hub redirects to what is no http or https URL", what);
	if (strncasecmp(ex->url, "https:", 6) == 0 && strncasecmp(to, "https:", 6) != 0) {
		free(to);
		return sp_err_set(err, SP_E_DENIED,
		    "%s: the hub redirects from https to http, which is not followed", what);
	}
	free(ex->url);
	ex->url = to;
	return SP_OK;
}

static enum sp_code
fail_status(const struct sp_exchange *ex, const char *what, struct sp_err *err)
{
	struct sp_answer_failure failure = {.status = ex->status,
	    .error_code = ex->fields[SP_FIELD_ERROR_CODE],
	    .error_message = ex->fields[SP_FIELD_ERROR_MESSAGE],
	    .retry_after = ex->fields[SP_FIELD_RETRY_AFTER],
	    .rate_limit = ex->fields[SP_FIELD_RATE_LIMIT],
	    .with_token = ex->client->token != NULL};

	ex->client->hint_ms =
	    sp_retry_hint_ms(failure.retry_after, failure.rate_limit, sp_time_unix_ms());
	if (ex->status == 407 && ex->client->proxy != NULL)
		return sp_err_set(err, SP_E_CONFIG,
		    "%s: the proxy %s wants other credentials than those of "
		    "fetcherd.proxy_auth_file",
		    what, ex->client->proxy);
	if (ex->status == 416)
		return sp_err_set(err, SP_E_CORRUPT,
		    "%s: the hub has fewer bytes of it than its listing says", what);
	return sp_answer_fail(&failure, what, ex->client->endpoint, err);
}

enum sp_code
sp_exchange_get(struct sp_exchange *ex, const char *url, const char *what, struct sp_err *err)
{
	enum sp_code code;
	int hops;

	free(ex->url);
	ex->url = sp_xstrdup(url);
	ex->client->hint_ms = -1;
	for (hops = 0; hops < HOPS_MAX; hops++) {
		code = get_once(ex, err);
		/* an empty body, or a redirect, has begun nothing */
		if (code == SP_OK && !ex->begun)
			code = check_fields(ex, err);
		if (code != SP_OK)
			return err != NULL ? sp_err_prefix(err, "%s", what) : code;
		if (!is_redirect(ex->status))
			break;
		code = follow(ex, what, err);
		if (code != SP_OK)
			return code;
	}
	if (is_wanted(ex, ex->status))
		return SP_OK;
	if (hops == HOPS_MAX)
		return sp_err_set(
		    err, SP_E_UNSUPPORTED, "%s: more than %d redirects", what, HOPS_MAX);
	return fail_status(ex, what, err);
}

void
sp_exchange_clear(struct sp_exchange *ex)
{
	clear_fields(ex);
	free(ex->url);
	ex->url = NULL;
}
