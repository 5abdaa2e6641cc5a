/* client.c -- the requests to a hub. */
#include "hub/client.h"
#include "base/buf.h"
#include "base/limits.h"
#include "base/version.h"
#include "http/url.h"
#include "hub/address.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define HOPS_MAX 10
#define PAGES_MAX 2000
#define ERROR_BODY_MAX \
	65536 /* of an answer that is no 2xx: read so far, then the connection ends */
#define CONNECT_TIMEOUT_S 30
#define STALL_TIMEOUT_S 60 /* with less than so many bytes a second: */
#define STALL_BYTES_PER_S 1024

struct sp_client {
	CURL *curl;
	char *endpoint, *token, *ca_file;
	const char *api, *files, *scheme; /* where its kind of repositories is, and their name */
	int (*cancelled)(void *ctx);
	void *ctx;
	int is_inside; /* the endpoint, or the proxy before it, has an address inside */
};

/* The fields of an answer that anything depends on; NULL: not sent. */
enum field {
	F_LOCATION,
	F_LINK,
	F_ERROR_CODE,
	F_ERROR_MESSAGE,
	F_RETRY_AFTER,
	F_RATE_LIMIT,
	F_REPO_COMMIT,
	F_COUNT
};
static const char *const field_names[F_COUNT] = {"location", "link", "x-error-code",
    "x-error-message", "retry-after", "ratelimit", "x-repo-commit"};

/* One request and its answer. */
struct exchange {
	struct sp_client *client;
	char *url;
	int with_token;
	int is_refused; /* it led to an address inside */
	long status;
	char *fields[F_COUNT];
	size_t skipped; /* bytes of a body that nobody wants */
	/* where the body of a 200 goes */
	sp_client_sink *sink;
	void *ctx;
	enum sp_code sink_code;
	struct sp_err *err;
};

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void
init_curl(void)
{
	SP_ASSERT(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
}

enum sp_code
sp_client_new(const struct sp_client_options *options, struct sp_client **out, struct sp_err *err)
{
	size_t len = sp_url_origin_len(options->endpoint);
	struct sp_client *client;

	*out = NULL;
	if (len == 0 || options->endpoint[strlen(options->endpoint) - 1] == '/' ||
	    strpbrk(options->endpoint + len, "?#") != NULL)
		return sp_err_set(err, SP_E_CONFIG,
		    "endpoint \"%s\" is no URL of the form https://host[:port]", options->endpoint);
	pthread_once(&once, init_curl);
	client = sp_xcalloc(1, sizeof(*client));
	client->endpoint = sp_xstrdup(options->endpoint);
	client->api = options->dataset ? "api/datasets" : "api/models";
	client->files = options->dataset ? "datasets/" : "";
	client->scheme = options->dataset ? "hf-dataset" : "hf";
	client->token = options->token != NULL ? sp_xstrdup(options->token) : NULL;
	client->ca_file = options->ca_file != NULL ? sp_xstrdup(options->ca_file) : NULL;
	client->cancelled = options->cancelled;
	client->ctx = options->ctx;
	client->curl = curl_easy_init();
	SP_ASSERT(client->curl != NULL);
	*out = client;
	return SP_OK;
}

void
sp_client_free(struct sp_client **client)
{
	struct sp_client *c = client != NULL ? *client : NULL;

	if (c == NULL)
		return;
	curl_easy_cleanup(c->curl);
	if (c->token != NULL)
		explicit_bzero(c->token, strlen(c->token));
	free(c->token);
	free(c->endpoint);
	free(c->ca_file);
	free(c);
	*client = NULL;
}

/* --- one request --------------------------------------------------------------------------------
 */

static void
clear_fields(struct exchange *ex)
{
	for (int i = 0; i < F_COUNT; i++) {
		free(ex->fields[i]);
		ex->fields[i] = NULL;
	}
}

static size_t
on_field(char *data, size_t size, size_t count, void *ctx)
{
	struct exchange *ex = ctx;
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
	for (int i = 0; i < F_COUNT; i++) {
		if (strlen(field_names[i]) != name_len ||
		    strncasecmp(field_names[i], data, name_len) != 0 || ex->fields[i] != NULL)
			continue;
		ex->fields[i] = sp_xasprintf("%.*s", (int)(end - p), p);
	}
	return len;
}

static size_t
on_body(char *data, size_t size, size_t count, void *ctx)
{
	struct exchange *ex = ctx;
	size_t len = size * count;
	long status = 0;

	curl_easy_getinfo(ex->client->curl, CURLINFO_RESPONSE_CODE, &status);
	if (status != 200) {
		ex->skipped += len;
		return ex->skipped > ERROR_BODY_MAX ? 0 : len;
	}
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
	struct exchange *ex = ctx;
	struct sp_client *client = ex->client;

	(void)purpose;
	if (sp_address_is_inside(&address->addr)) {
		if (sp_url_same_origin(ex->url, client->endpoint))
			client->is_inside = 1;
		if (!client->is_inside) {
			ex->is_refused = 1;
			return CURL_SOCKET_BAD;
		}
	}
	return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static enum sp_code
fail_transfer(const struct exchange *ex, CURLcode rc, const char *text, struct sp_err *err)
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
	case CURLE_OUT_OF_MEMORY:
		return sp_err_set(err, SP_E_NO_MEMORY, "no memory for %.*s", len, ex->url);
	case CURLE_UNSUPPORTED_PROTOCOL:
	case CURLE_URL_MALFORMAT:
		return sp_err_set(err, SP_E_INVALID, "%.*s: %s", len, ex->url, why);
	default:
		return sp_err_set(err, SP_E_UNREACHABLE, "%.*s: %s", len, ex->url, why);
	}
}

static void
set_options(struct exchange *ex, struct curl_slist *fields, char *why)
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
	curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, (long)STALL_TIMEOUT_S);
	curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, 512L * 1024);
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
}

/* GET of ex->url, to the end of its answer. */
static enum sp_code
get_once(struct exchange *ex, struct sp_err *err)
{
	struct curl_slist *fields = NULL, *more;
	char why[CURL_ERROR_SIZE] = "", *bearer = NULL;
	enum sp_code code = SP_OK;
	CURLcode rc;

	clear_fields(ex);
	ex->skipped = 0;
	ex->is_refused = 0;
	ex->sink_code = SP_OK;
	ex->err = err;
	/* no compression: sizes and hashes are those of the file */
	fields = curl_slist_append(NULL, "Accept-Encoding: identity");
	SP_ASSERT(fields != NULL);
	ex->with_token =
	    ex->client->token != NULL && sp_url_same_origin(ex->url, ex->client->endpoint);
	if (ex->with_token) {
		bearer = sp_xasprintf("Authorization: Bearer %s", ex->client->token);
		more = curl_slist_append(fields, bearer);
		SP_ASSERT(more != NULL);
		explicit_bzero(bearer, strlen(bearer));
	}
	set_options(ex, fields, why);
	rc = curl_easy_perform(ex->client->curl);
	curl_easy_getinfo(ex->client->curl, CURLINFO_RESPONSE_CODE, &ex->status);
	if (ex->sink_code != SP_OK)
		code = ex->sink_code;
	else if (rc == CURLE_WRITE_ERROR && ex->status != 200)
		code = SP_OK; /* enough of a body that nobody wants */
	else if (rc != CURLE_OK)
		code = fail_transfer(ex, rc, why, err);
	curl_easy_setopt(ex->client->curl, CURLOPT_HTTPHEADER, NULL);
	curl_easy_setopt(ex->client->curl, CURLOPT_ERRORBUFFER, NULL);
	for (more = fields; more != NULL; more = more->next)
		explicit_bzero(more->data, strlen(more->data));
	curl_slist_free_all(fields);
	free(bearer);
	return code;
}

static int
is_redirect(long status)
{
	return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

/* Sets ex->url to where the answer leads. */
static enum sp_code
follow(struct exchange *ex, const char *what, struct sp_err *err)
{
	const char *location = ex->fields[F_LOCATION];
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

/* GET of url through redirects; anything but a 200 at the end is a failure that names what. commit
 * (may be NULL) is what X-Repo-Commit must be where it is sent. ex is cleared by the caller. */
static enum sp_code
get(struct exchange *ex, const char *url, const char *what, const char *commit, struct sp_err *err)
{
	struct sp_answer_failure failure;
	enum sp_code code;
	int hops;

	free(ex->url);
	ex->url = sp_xstrdup(url);
	for (hops = 0; hops < HOPS_MAX; hops++) {
		code = get_once(ex, err);
		if (code != SP_OK)
			return err != NULL ? sp_err_prefix(err, "%s", what) : code;
		if (commit != NULL && ex->fields[F_REPO_COMMIT] != NULL &&
		    strcmp(ex->fields[F_REPO_COMMIT], commit) != 0)
			return sp_err_set(err, SP_E_CORRUPT,
			    "%s: the hub answers with a file of another commit than %s", what,
			    commit);
		if (!is_redirect(ex->status))
			break;
		code = follow(ex, what, err);
		if (code != SP_OK)
			return code;
	}
	if (ex->status == 200)
		return SP_OK;
	if (hops == HOPS_MAX)
		return sp_err_set(
		    err, SP_E_UNSUPPORTED, "%s: more than %d redirects", what, HOPS_MAX);
	failure = (struct sp_answer_failure){.status = ex->status,
	    .error_code = ex->fields[F_ERROR_CODE],
	    .error_message = ex->fields[F_ERROR_MESSAGE],
	    .retry_after = ex->fields[F_RETRY_AFTER],
	    .rate_limit = ex->fields[F_RATE_LIMIT],
	    .with_token = ex->client->token != NULL};
	return sp_answer_fail(&failure, what, ex->client->endpoint, err);
}

static void
clear(struct exchange *ex)
{
	clear_fields(ex);
	free(ex->url);
	ex->url = NULL;
}

/* --- API ----------------------------------------------------------------------------------------
 */

static enum sp_code
collect(void *ctx, const void *data, size_t len, struct sp_err *err)
{
	struct sp_buf *buf = ctx;

	if (len > SP_JSON_MAX - buf->len)
		return sp_err_set(err, SP_E_LIMIT, "answer is larger than %u bytes", SP_JSON_MAX);
	sp_buf_add(buf, data, len);
	return SP_OK;
}

enum sp_code
sp_client_model(struct sp_client *client, const char *repo, const char *revision,
    struct sp_answer_model *out, struct sp_err *err)
{
	char *rev = sp_url_encode(revision, 0), *url, *what;
	struct sp_buf body = {0};
	struct exchange ex = {.client = client, .sink = collect, .ctx = &body};
	enum sp_code code;

	url = sp_xasprintf("%s/%s/%s/revision/%s", client->endpoint, client->api, repo, rev);
	what = sp_xasprintf("%s:%s@%s", client->scheme, repo, revision);
	code = get(&ex, url, what, NULL, err);
	if (code == SP_OK) {
		code = sp_answer_model_parse(body.data, body.len, out, err);
		if (code != SP_OK && err != NULL)
			sp_err_prefix(err, "%s", what);
	}
	clear(&ex);
	sp_buf_free(&body);
	free(rev);
	free(url);
	free(what);
	return code;
}

static enum sp_code
take_page(const struct exchange *ex, const struct sp_buf *body, const char *what,
    struct sp_answer_tree *out, char **next, struct sp_err *err)
{
	enum sp_code code = sp_answer_tree_parse(body->data, body->len, out, err);

	if (code == SP_OK && ex->fields[F_LINK] != NULL)
		code = sp_answer_next(ex->fields[F_LINK], ex->url, next, err);
	if (code != SP_OK && err != NULL)
		sp_err_prefix(err, "%s", what);
	return code;
}

/* A hub that turns in a circle would otherwise be followed for a long time. seen holds the pages'
 * addresses so far, hashed. */
static enum sp_code
check_page(struct sp_hex *seen, int pages, const char *url, const char *what, struct sp_err *err)
{
	if (pages == PAGES_MAX)
		return sp_err_set(
		    err, SP_E_LIMIT, "%s: list of files has more than %d pages", what, PAGES_MAX);
	seen[pages] = sp_sha256_hex(url, strlen(url));
	for (int i = 0; i < pages; i++)
		if (strcmp(seen[i].s, seen[pages].s) == 0)
			return sp_err_set(err, SP_E_CORRUPT,
			    "%s: list of files turns in a circle: page %d leads back to page %d",
			    what, pages, i + 1);
	return SP_OK;
}

enum sp_code
sp_client_tree(struct sp_client *client, const char *repo, const char *commit,
    struct sp_answer_tree *out, struct sp_err *err)
{
	struct sp_hex *seen = sp_xcalloc(PAGES_MAX, sizeof(*seen));
	char *url, *what = sp_xasprintf("%s:%s@%s", client->scheme, repo, commit), *next;
	struct sp_buf body = {0};
	struct exchange ex = {.client = client, .sink = collect, .ctx = &body};
	enum sp_code code = SP_OK;
	int pages;

	url = sp_xasprintf("%s/%s/%s/tree/%s?recursive=true&expand=false", client->endpoint,
	    client->api, repo, commit);
	for (pages = 0; url != NULL && code == SP_OK; pages++) {
		next = NULL;
		sp_buf_free(&body);
		code = check_page(seen, pages, url, what, err);
		if (code == SP_OK)
			code = get(&ex, url, what, NULL, err);
		if (code == SP_OK)
			code = take_page(&ex, &body, what, out, &next, err);
		free(url);
		url = next;
	}
	clear(&ex);
	sp_buf_free(&body);
	free(seen);
	free(url);
	free(what);
	return code;
}

/* --- files --------------------------------------------------------------------------------------
 */

struct download {
	const struct sp_answer_file *file;
	struct sp_hash *hash;
	uint64_t got;
	sp_client_sink *sink;
	void *ctx;
};

static enum sp_code
pass_on(void *ctx, const void *data, size_t len, struct sp_err *err)
{
	struct download *d = ctx;

	if (len > d->file->size - d->got)
		return sp_err_set(err, SP_E_CORRUPT, "is larger than the %llu bytes of the listing",
		    (unsigned long long)d->file->size);
	d->got += len;
	sp_hash_add(d->hash, data, len);
	return d->sink(d->ctx, data, len, err);
}

static enum sp_code
check_hash(struct download *d, struct sp_err *err)
{
	struct sp_git_oid oid;
	struct sp_hex sha256;

	if (d->got != d->file->size)
		return sp_err_set(err, SP_E_CORRUPT, "has %llu bytes, the listing says %llu",
		    (unsigned long long)d->got, (unsigned long long)d->file->size);
	if (d->file->lfs) {
		sha256 = sp_hash_finish_hex(d->hash);
		if (strcmp(sha256.s, d->file->sha256.s) != 0)
			return sp_err_set(err, SP_E_CORRUPT, "has SHA-256 %s, the listing says %s",
			    sha256.s, d->file->sha256.s);
		return SP_OK;
	}
	oid = sp_git_blob_finish(d->hash);
	if (strcmp(oid.s, d->file->oid.s) != 0)
		return sp_err_set(err, SP_E_CORRUPT, "is git blob %s, the listing says %s", oid.s,
		    d->file->oid.s);
	return SP_OK;
}

enum sp_code
sp_client_file(struct sp_client *client, const char *repo, const char *commit,
    const struct sp_answer_file *file, sp_client_sink *sink, void *ctx, struct sp_err *err)
{
	struct download d = {.file = file, .sink = sink, .ctx = ctx};
	struct exchange ex = {.client = client, .sink = pass_on, .ctx = &d};
	char *path = sp_url_encode(file->path, 1), *url, *what;
	enum sp_code code;

	url = sp_xasprintf(
	    "%s/%s%s/resolve/%s/%s", client->endpoint, client->files, repo, commit, path);
	what = sp_xasprintf("%s:%s@%.12s: %s", client->scheme, repo, commit, file->path);
	d.hash = file->lfs ? sp_hash_new(SP_SHA256) : sp_git_blob_new(file->size);
	code = get(&ex, url, what, commit, err);
	/* where a redirect led, signed for some minutes, may be refused: the hub signs it anew */
	if (code != SP_OK && ex.status == 403 && d.got == 0 && ex.url != NULL &&
	    !sp_url_same_origin(ex.url, client->endpoint))
		code = get(&ex, url, what, commit, err);
	if (code == SP_OK) {
		code = check_hash(&d, err);
		if (code != SP_OK && err != NULL)
			sp_err_prefix(err, "%s", what);
	}
	clear(&ex);
	sp_hash_free(&d.hash);
	free(path);
	free(url);
	free(what);
	return code;
}
