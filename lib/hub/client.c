/* client.c -- what is asked of a hub. */
#include "base/buf.h"
#include "base/limits.h"
#include "base/time.h"
#include "http/range.h"
#include "http/url.h"
#include "hub/exchange.h"
#include "hub/retry.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PAGES_MAX 2000
#define STALL_S 60
#define RESOLVES_MAX 3			       /* of one part, when what is signed is refused */
#define HINT_PATIENCE_MS ((int64_t)15 * 60000) /* who asks for more is left to a later attempt */
#define NAP_MS 50

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void
init_curl(void)
{
	SP_ASSERT(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
}

/* NULL stays NULL. */
static char *
copy(const char *text)
{
	return text != NULL ? sp_xstrdup(text) : NULL;
}

static enum sp_code
take_proxy(struct sp_client *client, const struct sp_client_options *options, struct sp_err *err)
{
	const char *auth = options->proxy_auth, *colon;

	if (options->proxy == NULL)
		return SP_OK;
	if (sp_url_origin_len(options->proxy) != strlen(options->proxy) ||
	    options->proxy[0] == '\0')
		return sp_err_set(err, SP_E_CONFIG,
		    "proxy \"%s\" is no URL of the form http://host:port", options->proxy);
	client->proxy = sp_xstrdup(options->proxy);
	if (auth == NULL)
		return SP_OK;
	colon = strchr(auth, ':');
	if (colon == NULL)
		return sp_err_set(
		    err, SP_E_CONFIG, "credentials of the proxy are not of the form user:password");
	client->proxy_user = sp_xasprintf("%.*s", (int)(colon - auth), auth);
	client->proxy_password = sp_xstrdup(colon + 1);
	return SP_OK;
}

enum sp_code
sp_client_new(const struct sp_client_options *options, struct sp_client **out, struct sp_err *err)
{
	size_t len = sp_url_origin_len(options->endpoint);
	struct sp_client *client;
	enum sp_code code;

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
	client->token = copy(options->token);
	client->ca_file = copy(options->ca_file);
	client->stall_s = options->stall_s > 0 ? options->stall_s : STALL_S;
	client->tries = options->tries;
	client->backoff_ms = options->backoff_ms;
	client->cancelled = options->cancelled;
	client->waiting = options->waiting;
	client->ctx = options->ctx;
	client->hint_ms = -1;
	client->curl = curl_easy_init();
	SP_ASSERT(client->curl != NULL);
	code = take_proxy(client, options, err);
	if (code != SP_OK)
		sp_client_free(&client);
	*out = client;
	return code;
}

static void
forget(char *secret)
{
	if (secret != NULL)
		explicit_bzero(secret, strlen(secret));
	free(secret);
}

void
sp_client_free(struct sp_client **client)
{
	struct sp_client *c = client != NULL ? *client : NULL;

	if (c == NULL)
		return;
	curl_easy_cleanup(c->curl);
	forget(c->token);
	forget(c->proxy_password);
	free(c->proxy_user);
	free(c->proxy);
	free(c->endpoint);
	free(c->ca_file);
	free(c);
	*client = NULL;
}

int64_t
sp_client_hint_ms(const struct sp_client *client)
{
	return client->hint_ms;
}

int64_t
sp_client_latency_ms(const struct sp_client *client)
{
	curl_off_t us = 0;

	curl_easy_getinfo(client->curl, CURLINFO_STARTTRANSFER_TIME_T, &us);
	return (int64_t)us / 1000;
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

/* SP_E_CANCELLED when told so meanwhile. */
static enum sp_code
wait_ms(const struct sp_client *client, int64_t ms, struct sp_err *err)
{
	const struct timespec nap = {0, NAP_MS * 1000000L};
	int64_t until_ms = sp_time_monotonic_ms() + ms;

	while (sp_time_monotonic_ms() < until_ms) {
		if (client->cancelled != NULL && client->cancelled(client->ctx))
			return sp_err_set(err, SP_E_CANCELLED, "cancelled");
		if (client->waiting != NULL)
			client->waiting(client->ctx);
		nanosleep(&nap, NULL);
	}
	return SP_OK;
}

/* sp_exchange_get into body, again and again while the hub says "not now" or nothing. */
static enum sp_code
ask(struct sp_exchange *ex, const char *url, const char *what, struct sp_buf *body,
    struct sp_err *err)
{
	const struct sp_client *client = ex->client;
	enum sp_code code;
	int64_t ms;

	for (unsigned failures = 1;; failures++) {
		sp_buf_free(body);
		code = sp_exchange_get(ex, url, what, err);
		if ((code != SP_E_UNREACHABLE && code != SP_E_TIMEOUT) ||
		    failures >= client->tries || client->hint_ms > HINT_PATIENCE_MS)
			return code;
		ms = sp_retry_backoff_ms(
		    failures, client->backoff_ms, (uint32_t)sp_time_monotonic_ns());
		code = wait_ms(client, client->hint_ms > ms ? client->hint_ms : ms, err);
		if (code != SP_OK)
			return code;
	}
}

enum sp_code
sp_client_model(struct sp_client *client, const char *repo, const char *revision,
    struct sp_answer_model *out, struct sp_err *err)
{
	char *rev = sp_url_encode(revision, 0), *url, *what;
	struct sp_buf body = {0};
	struct sp_exchange ex = {.client = client, .sink = collect, .ctx = &body};
	enum sp_code code;

	url = sp_xasprintf("%s/%s/%s/revision/%s", client->endpoint, client->api, repo, rev);
	what = sp_xasprintf("%s:%s@%s", client->scheme, repo, revision);
	code = ask(&ex, url, what, &body, err);
	if (code == SP_OK) {
		code = sp_answer_model_parse(body.data, body.len, out, err);
		if (code != SP_OK && err != NULL)
			sp_err_prefix(err, "%s", what);
	}
	sp_exchange_clear(&ex);
	sp_buf_free(&body);
	free(rev);
	free(url);
	free(what);
	return code;
}

static enum sp_code
take_page(const struct sp_exchange *ex, const struct sp_buf *body, const char *what,
    struct sp_answer_tree *out, char **next, struct sp_err *err)
{
	enum sp_code code = sp_answer_tree_parse(body->data, body->len, out, err);

	if (code == SP_OK && ex->fields[SP_FIELD_LINK] != NULL)
		code = sp_answer_next(ex->fields[SP_FIELD_LINK], ex->url, next, err);
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
	struct sp_exchange ex = {.client = client, .sink = collect, .ctx = &body};
	enum sp_code code = SP_OK;
	int pages;

	url = sp_xasprintf("%s/%s/%s/tree/%s?recursive=true&expand=false", client->endpoint,
	    client->api, repo, commit);
	for (pages = 0; url != NULL && code == SP_OK; pages++) {
		next = NULL;
		code = check_page(seen, pages, url, what, err);
		if (code == SP_OK)
			code = ask(&ex, url, what, &body, err);
		if (code == SP_OK)
			code = take_page(&ex, &body, what, out, &next, err);
		free(url);
		url = next;
	}
	sp_exchange_clear(&ex);
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

/* The URL of a file; *what names it for messages. Both malloc'd. */
static char *
name_file(const struct sp_client *client, const char *repo, const char *commit,
    const struct sp_answer_file *file, char **what)
{
	char *path = sp_url_encode(file->path, 1), *url;

	url = sp_xasprintf(
	    "%s/%s%s/resolve/%s/%s", client->endpoint, client->files, repo, commit, path);
	*what = sp_xasprintf("%s:%s@%.12s: %s", client->scheme, repo, commit, file->path);
	free(path);
	return url;
}

/* 1 for a status with which a place refuses what was signed for it for some minutes: the endpoint
 * signs anew. */
static int
is_refusal(long status)
{
	return status == 400 || status == 401 || status == 403 || status == 404 || status == 410;
}

/* 1 when another place than the endpoint, which has led there, refuses it. */
static int
is_expired(const struct sp_exchange *ex)
{
	return is_refusal(ex->status) && !sp_url_same_origin(ex->url, ex->client->endpoint);
}

enum sp_code
sp_client_file(struct sp_client *client, const char *repo, const char *commit,
    const struct sp_answer_file *file, sp_client_sink *sink, void *ctx, struct sp_err *err)
{
	struct download d = {.file = file, .sink = sink, .ctx = ctx};
	struct sp_exchange ex = {.client = client, .commit = commit, .sink = pass_on, .ctx = &d};
	char *url, *what;
	enum sp_code code;

	url = name_file(client, repo, commit, file, &what);
	d.hash = file->lfs ? sp_hash_new(SP_SHA256) : sp_git_blob_new(file->size);
	code = sp_exchange_get(&ex, url, what, err);
	if (code != SP_OK && d.got == 0 && is_expired(&ex))
		code = sp_exchange_get(&ex, url, what, err);
	if (code == SP_OK) {
		code = check_hash(&d, err);
		if (code != SP_OK && err != NULL)
			sp_err_prefix(err, "%s", what);
	}
	sp_exchange_clear(&ex);
	sp_hash_free(&d.hash);
	free(url);
	free(what);
	return code;
}

/* --- parts --------------------------------------------------------------------------------------
 */

struct sp_client_target {
	pthread_mutex_t lock;
	char *url;	/* where redirects led; NULL: the endpoint is asked */
	char *etag;	/* strong, of what lies at etag_url; NULL: not known */
	char *etag_url; /* any of that origin */
	int is_inside;	/* the endpoint is, as who went through it has seen */
};

struct sp_client_target *
sp_client_target_new(void)
{
	struct sp_client_target *target = sp_xcalloc(1, sizeof(*target));

	SP_ASSERT(pthread_mutex_init(&target->lock, NULL) == 0);
	return target;
}

void
sp_client_target_free(struct sp_client_target **target)
{
	struct sp_client_target *t = target != NULL ? *target : NULL;

	if (t == NULL)
		return;
	pthread_mutex_destroy(&t->lock);
	free(t->url);
	free(t->etag);
	free(t->etag_url);
	free(t);
	*target = NULL;
}

/* A part on its way. */
struct part {
	const struct sp_answer_file *file;
	struct sp_client_target *target;
	uint64_t offset, length; /* the whole file when the hub sends it */
	uint64_t got;
	const struct sp_client_taker *taker;
};

/* Answers to parts of the same file from the same place have one entity tag. */
static enum sp_code
check_etag(struct sp_client_target *target, const struct sp_exchange *ex, struct sp_err *err)
{
	const char *etag = ex->fields[SP_FIELD_ETAG];
	enum sp_code code = SP_OK;

	pthread_mutex_lock(&target->lock);
	free(target->url);
	target->url = sp_xstrdup(ex->url);
	target->is_inside |= ex->client->is_inside;
	if (etag == NULL || etag[0] != '"') {
		/* none, or a weak one: says nothing about bytes */
	} else if (target->etag != NULL && sp_url_same_origin(target->etag_url, ex->url)) {
		if (strcmp(target->etag, etag) != 0)
			code = sp_err_set(err, SP_E_CORRUPT, "changed while it was fetched");
	} else {
		free(target->etag);
		free(target->etag_url);
		target->etag = sp_xstrdup(etag);
		target->etag_url = sp_xstrdup(ex->url);
	}
	pthread_mutex_unlock(&target->lock);
	return code;
}

static enum sp_code
on_begin(void *ctx, const struct sp_exchange *ex, struct sp_err *err)
{
	uint64_t offset, length, size;
	struct part *part = ctx;
	enum sp_code code;

	if (ex->status == 206) {
		if (!sp_range_parse_content(
			ex->fields[SP_FIELD_CONTENT_RANGE], &offset, &length, &size) ||
		    offset != part->offset || length != part->length)
			return sp_err_set(err, SP_E_CORRUPT,
			    "the hub sends other bytes (Content-Range: %.80s) than bytes %s",
			    ex->fields[SP_FIELD_CONTENT_RANGE] != NULL
				? ex->fields[SP_FIELD_CONTENT_RANGE]
				: "not sent",
			    ex->part);
		if (size != UINT64_MAX && size != part->file->size)
			return sp_err_set(err, SP_E_CORRUPT,
			    "has %llu bytes, the listing says %llu", (unsigned long long)size,
			    (unsigned long long)part->file->size);
	} else {
		part->offset = 0;
		part->length = part->file->size;
	}
	code = check_etag(part->target, ex, err);
	return code == SP_OK ? part->taker->begin(part->taker->ctx, ex->status == 200, err) : code;
}

static enum sp_code
on_part(void *ctx, const void *data, size_t len, struct sp_err *err)
{
	struct part *part = ctx;

	if (len > part->length - part->got)
		return sp_err_set(err, SP_E_CORRUPT, "is larger than the %llu bytes of the listing",
		    (unsigned long long)part->file->size);
	part->got += len;
	return part->taker->sink(part->taker->ctx, data, len, err);
}

/* The URL to ask, and the entity tag that goes with it (or NULL); both malloc'd. */
static char *
aim(struct sp_client *client, struct sp_client_target *target, const char *resolve, char **etag)
{
	char *url;

	pthread_mutex_lock(&target->lock);
	client->is_inside |= target->is_inside;
	url = sp_xstrdup(target->url != NULL ? target->url : resolve);
	*etag = target->etag != NULL && sp_url_same_origin(target->etag_url, url)
		    ? sp_xstrdup(target->etag)
		    : NULL;
	pthread_mutex_unlock(&target->lock);
	return url;
}

/* What led to url is not asked there again. */
static void
turn_away(struct sp_client_target *target, const char *url)
{
	pthread_mutex_lock(&target->lock);
	if (target->url != NULL && strcmp(target->url, url) == 0) {
		free(target->url);
		target->url = NULL;
	}
	pthread_mutex_unlock(&target->lock);
}

static enum sp_code
get_part(struct sp_exchange *ex, struct part *part, const char *resolve, const char *what,
    struct sp_err *err)
{
	char *url, *etag;
	enum sp_code code;
	int expired;

	for (int tries = 1;; tries++) {
		url = aim(ex->client, part->target, resolve, &etag);
		ex->if_range = etag;
		code = sp_exchange_get(ex, url, what, err);
		if (code != SP_OK) {
			turn_away(part->target, url);
			turn_away(part->target, ex->url);
		}
		/* what an earlier part was led to may be of the endpoint's own origin */
		expired = is_expired(ex) || (is_refusal(ex->status) && strcmp(url, resolve) != 0);
		free(url);
		free(etag);
		if (code == SP_OK || part->got > 0 || tries == RESOLVES_MAX || !expired)
			return code;
	}
}

enum sp_code
sp_client_part(struct sp_client *client, const char *repo, const char *commit,
    const struct sp_answer_file *file, struct sp_client_target *target, uint64_t offset,
    uint64_t length, const struct sp_client_taker *taker, struct sp_err *err)
{
	struct part part = {
	    .file = file, .target = target, .offset = offset, .length = length, .taker = taker};
	struct sp_exchange ex = {
	    .client = client, .commit = commit, .begin = on_begin, .sink = on_part, .ctx = &part};
	char *url, *what, *range;
	enum sp_code code;

	SP_ASSERT(length > 0 && offset < file->size && length <= file->size - offset);
	url = name_file(client, repo, commit, file, &what);
	range = sp_xasprintf(
	    "%llu-%llu", (unsigned long long)offset, (unsigned long long)(offset + length - 1));
	ex.part = range;
	code = get_part(&ex, &part, url, what, err);
	if (code == SP_OK && part.got < part.length)
		code = sp_err_set(err, SP_E_CORRUPT, "%s: has %llu of %llu bytes there", what,
		    (unsigned long long)part.got, (unsigned long long)part.length);
	sp_exchange_clear(&ex);
	free(range);
	free(url);
	free(what);
	return code;
}
