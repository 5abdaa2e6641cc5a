/* plan.c -- routes of the hub: which file, which revision, which error. */
#include "hub/plan.h"
#include "base/json.h"
#include "base/path.h"
#include "http/url.h"
#include "hub/listing.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define SEGMENTS_MAX                                                                \
	8 /* that say where a request leads; what follows them is a path in a model \
	   */

/* The decoded segments of a path. Those beyond SEGMENTS_MAX stay in rest. */
struct route {
	char *segments[SEGMENTS_MAX];
	const char *starts[SEGMENTS_MAX]; /* of each segment, as sent */
	size_t count;
};

/* What a request is about. */
struct target {
	const struct sp_plan_request *request;
	const struct sp_catalog *catalog;
	const struct sp_catalog_repo *repo;
	const struct sp_catalog_revision *revision;
	char *path; /* decoded, "" for the top */
	struct sp_http_reply *reply;
};

/* --- errors -------------------------------------------------------------------------------------
 */

void
sp_plan_error(
    struct sp_http_reply *reply, unsigned status, const char *error_code, const char *message)
{
	json_t *body = json_pack("{s:s}", "error", message);
	size_t len;
	char *text;

	if (error_code != NULL)
		sp_http_reply_field(reply, "X-Error-Code", "%s", error_code);
	sp_http_reply_field(reply, "X-Error-Message", "%s", message);
	/* a message is our own text: it is always valid UTF-8 */
	SP_ASSERT(body != NULL);
	text = sp_json_canonical(body, &len);
	sp_http_reply_body(reply, status, "application/json; charset=utf-8", text, len);
	free(text);
	json_decref(body);
}

static void
no_entry(struct target *t)
{
	/* with the commit, clients remember that there is no such file, also offline */
	sp_http_reply_field(t->reply, "X-Repo-Commit", "%s", t->revision->commit.s);
	sp_plan_error(t->reply, 404, "EntryNotFound", "Entry not found");
}

static void
send_json(struct sp_http_reply *reply, json_t *value)
{
	size_t len;
	char *text = sp_json_canonical(value, &len);

	sp_http_reply_body(reply, 200, "application/json; charset=utf-8", text, len);
	free(text);
	json_decref(value);
}

/* --- routes -------------------------------------------------------------------------------------
 */

static void
route_clear(struct route *route)
{
	for (size_t i = 0; i < route->count; i++)
		free(route->segments[i]);
	route->count = 0;
}

/* 0 when path is badly encoded. */
static int
route_split(const char *path, struct route *route)
{
	size_t len;

	route->count = 0;
	while (*path == '/' && route->count < SEGMENTS_MAX) {
		path++;
		len = strcspn(path, "/");
		route->starts[route->count] = path;
		route->segments[route->count] = sp_url_decode(path, len, 0);
		if (route->segments[route->count] == NULL)
			return 0;
		route->count++;
		path += len;
	}
	return 1;
}

static int
is(const struct route *route, size_t i, const char *word)
{
	return i < route->count && strcmp(route->segments[i], word) == 0;
}

/* The repository that the segments from `at` name, in two segments or in one; how many go to *used,
 * 0 when there is none. */
static const struct sp_catalog_repo *
find_repo(const struct sp_catalog *catalog, const struct route *route, size_t at, size_t *used)
{
	const struct sp_catalog_repo *repo;
	char *two;

	*used = 0;
	if (at + 1 < route->count) {
		two = sp_xasprintf("%s/%s", route->segments[at], route->segments[at + 1]);
		repo = sp_catalog_find(catalog, two);
		free(two);
		if (repo != NULL) {
			*used = 2;
			return repo;
		}
	}
	repo = at < route->count ? sp_catalog_find(catalog, route->segments[at]) : NULL;
	*used = repo != NULL;
	return repo;
}

/* Segment i is the revision, all after it a path. 0: the reply says why not. */
static int
take_revision(struct target *t, const struct route *route, size_t i)
{
	const char *rest;

	t->revision = i < route->count ? sp_catalog_revision(t->repo, route->segments[i]) : NULL;
	if (t->revision == NULL) {
		sp_plan_error(t->reply, 404, "RevisionNotFound", "Revision not found");
		return 0;
	}
	rest = i + 1 < route->count ? route->starts[i + 1] : "";
	t->path = sp_url_decode(rest, strlen(rest), 0);
	if (t->path == NULL) {
		no_entry(t);
		return 0;
	}
	return 1;
}

/* --- files --------------------------------------------------------------------------------------
 */

enum range { RANGE_NONE, RANGE_PART, RANGE_BAD };

static const char *
parse_number(const char *p, uint64_t *out)
{
	const char *start = p;
	uint64_t n = 0;

	for (; *p >= '0' && *p <= '9'; p++) {
		if (n > (UINT64_MAX - 9) / 10)
			return NULL;
		n = n * 10 + (uint64_t)(*p - '0');
	}
	*out = n;
	return p == start ? NULL : p;
}

/* RFC 9110 section 14: "bytes=A-B", "bytes=A-" or "bytes=-N". Anything else, also several ranges,
 * is passed over, as the RFC allows. */
static enum range
parse_range(const char *text, uint64_t size, uint64_t *offset, uint64_t *length)
{
	uint64_t first, last;
	const char *p;

	if (text == NULL || strncmp(text, "bytes=", 6) != 0)
		return RANGE_NONE;
	p = text + 6;
	if (*p == '-') {
		p = parse_number(p + 1, &last);
		if (p == NULL || *p != '\0')
			return RANGE_NONE;
		if (last == 0 || size == 0)
			return RANGE_BAD;
		*length = last < size ? last : size;
		*offset = size - *length;
		return RANGE_PART;
	}
	p = parse_number(p, &first);
	if (p == NULL || *p++ != '-')
		return RANGE_NONE;
	last = UINT64_MAX;
	if (*p != '\0') {
		p = parse_number(p, &last);
		if (p == NULL || *p != '\0' || last < first)
			return RANGE_NONE;
	}
	if (first >= size)
		return RANGE_BAD;
	*offset = first;
	*length = (last < size ? last + 1 : size) - first;
	return RANGE_PART;
}

/* 1 when a list of entity tags has etag (quoted), or is "*". */
static int
has_etag(const char *list, const char *etag)
{
	return list != NULL && (strcmp(list, "*") == 0 || strstr(list, etag) != NULL);
}

static void
plan_file(struct target *t, const struct sp_catalog_file *file, struct sp_plan_blob *blob)
{
	const struct sp_plan_request *r = t->request;
	const char *id = file->lfs ? file->sha256.s : file->oid.s;
	enum range range = RANGE_NONE;
	char etag[SP_HEX_LEN + 3];

	memcpy(blob->digest, file->sha256.s, sizeof(blob->digest));
	blob->size = blob->length = file->size;
	blob->offset = 0;
	etag[0] = '"';
	memcpy(etag + 1, id, strlen(id));
	memcpy(etag + 1 + strlen(id), "\"", 2);
	sp_http_reply_field(t->reply, "X-Repo-Commit", "%s", t->revision->commit.s);
	sp_http_reply_field(t->reply, "ETag", "%s", etag);
	if (file->lfs) {
		sp_http_reply_field(t->reply, "X-Linked-Etag", "%s", etag);
		sp_http_reply_field(t->reply, "X-Linked-Size", "%" PRIu64, file->size);
	}
	sp_http_reply_field(t->reply, "Accept-Ranges", "bytes");
	sp_http_reply_field(t->reply, "X-Content-Type-Options", "nosniff");
	if (has_etag(r->if_none_match, etag)) {
		t->reply->status = 304;
		blob->digest[0] = '\0';
		return;
	}
	if (r->if_range == NULL || strcmp(r->if_range, etag) == 0)
		range = parse_range(r->range, file->size, &blob->offset, &blob->length);
	if (range == RANGE_BAD) {
		blob->digest[0] = '\0';
		sp_http_reply_field(t->reply, "Content-Range", "bytes */%" PRIu64, file->size);
		sp_plan_error(t->reply, 416, NULL, "Range not satisfiable");
		return;
	}
	if (range == RANGE_PART)
		sp_http_reply_field(t->reply, "Content-Range",
		    "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64, blob->offset,
		    blob->offset + blob->length - 1, file->size);
	sp_http_reply_field(t->reply, "Content-Type", "application/octet-stream");
	t->reply->status = range == RANGE_PART ? 206 : 200;
}

/* /{id}/resolve/{rev}/{path}; `at`: of "resolve". */
static void
plan_resolve(struct target *t, const struct route *route, size_t at, struct sp_plan_blob *blob)
{
	const struct sp_catalog_file *file;

	if (!take_revision(t, route, at + 1))
		return;
	file = sp_catalog_file(t->revision, t->path);
	if (file == NULL)
		no_entry(t);
	else
		plan_file(t, file, blob);
}

/* --- API ----------------------------------------------------------------------------------------
 */

static int
is_true(const char *value)
{
	return value != NULL && (strcmp(value, "true") == 0 || strcmp(value, "True") == 0 ||
				    strcmp(value, "1") == 0);
}

static void
plan_models(struct target *t)
{
	json_t *list = json_array();

	for (size_t i = 0; i < t->catalog->count; i++) {
		const struct sp_catalog_repo *repo = &t->catalog->repos[i];

		if (repo->count > 0)
			json_array_append_new(
			    list, sp_listing_model(repo, &repo->revisions[repo->count - 1],
				      SP_LISTING_NO_FILES));
	}
	send_json(t->reply, list);
}

/* Where the next page is: this same request with another cursor. */
static void
link_next(struct target *t, size_t cursor, int recursive, int expand, size_t limit)
{
	const struct sp_plan_request *r = t->request;
	int sound = r->host != NULL && r->host[0] != '\0';

	/* Host comes from outside and goes into a field: only what a host can hold */
	for (const char *p = sound ? r->host : ""; *p != '\0'; p++)
		sound &= (*p >= '0' && *p <= '9') || (*p >= 'a' && *p <= 'z') ||
			 (*p >= 'A' && *p <= 'Z') || strchr("-._:[]", *p) != NULL;
	sp_http_reply_field(t->reply, "Link",
	    "<%s%s%s?recursive=%s&expand=%s&limit=%zu&cursor=%zu>; rel=\"next\"",
	    sound ? (r->tls ? "https://" : "http://") : "", sound ? r->host : "", r->path,
	    recursive ? "true" : "false", expand ? "true" : "false", limit, cursor);
}

static void
plan_tree(struct target *t)
{
	const struct sp_plan_request *r = t->request;
	int recursive = is_true(r->recursive), expand = is_true(r->expand);
	uint64_t cursor = 0, limit = SP_LISTING_PAGE;
	const char *end;
	size_t next;
	json_t *page;

	end = r->cursor != NULL ? parse_number(r->cursor, &cursor) : "";
	if (end != NULL && *end == '\0' && r->limit != NULL)
		end = parse_number(r->limit, &limit);
	if (end == NULL || *end != '\0' || limit == 0) {
		sp_plan_error(t->reply, 400, NULL, "cursor or limit is no number");
		return;
	}
	if (limit > SP_LISTING_PAGE)
		limit = SP_LISTING_PAGE;
	page = sp_listing_tree(
	    t->revision, t->path, recursive, expand, (size_t)cursor, (size_t)limit, &next);
	if (page == NULL) {
		no_entry(t);
		return;
	}
	if (next > 0)
		link_next(t, next, recursive, expand, (size_t)limit);
	send_json(t->reply, page);
}

static void
plan_paths(struct target *t)
{
	const char *form = (const char *)t->request->body, *end = form + t->request->body_len;
	char *value = sp_url_param(form, t->request->body_len, "expand"), *key;
	int expand = is_true(value);
	json_t *list = json_array(), *entry;

	free(value);
	while (sp_url_next_param(&form, end, &key, &value)) {
		if (key != NULL && value != NULL && strcmp(key, "paths") == 0 &&
		    json_array_size(list) < SP_LISTING_PAGE) {
			entry = sp_listing_entry(t->revision, value, expand);
			if (entry != NULL)
				json_array_append_new(list, entry);
		}
		free(key);
		free(value);
	}
	send_json(t->reply, list);
}

/* /api/models/{id}/VERB/…; `at`: of VERB. */
static void
plan_verb(struct target *t, const struct route *route, size_t at)
{
	enum sp_listing_detail detail =
	    t->request->blobs != NULL ? SP_LISTING_BLOBS : SP_LISTING_FILES;
	int post = strcmp(t->request->method, "POST") == 0;

	if (post != is(route, at, "paths-info")) {
		sp_http_reply_field(t->reply, "Allow", "%s", post ? "GET, HEAD" : "POST");
		sp_plan_error(t->reply, 405, NULL, "Method not allowed");
	} else if (at == route->count) {
		t->revision = sp_catalog_revision(t->repo, "main");
		send_json(t->reply, sp_listing_model(t->repo, t->revision, detail));
	} else if (is(route, at, "refs") && at + 1 == route->count) {
		send_json(t->reply, sp_listing_refs(t->repo));
	} else if (is(route, at, "auth-check") && at + 1 == route->count) {
		send_json(t->reply, json_object());
	} else if (is(route, at, "revision") && at + 2 == route->count) {
		if (take_revision(t, route, at + 1))
			send_json(t->reply, sp_listing_model(t->repo, t->revision, detail));
	} else if (is(route, at, "tree")) {
		if (take_revision(t, route, at + 1))
			plan_tree(t);
	} else if (post) {
		if (take_revision(t, route, at + 1))
			plan_paths(t);
	} else {
		sp_plan_error(t->reply, 404, NULL, "No such interface here");
	}
}

static void
plan_routed(struct target *t, const struct route *route, struct sp_plan_blob *blob)
{
	int api = is(route, 0, "api") && is(route, 1, "models");
	size_t at = api ? 2 : 0, used;

	if (api && route->count == 2) {
		plan_models(t);
		return;
	}
	t->repo = find_repo(t->catalog, route, at, &used);
	if (t->repo == NULL)
		sp_plan_error(t->reply, 404, "RepoNotFound", "Repository not found");
	else if (api)
		plan_verb(t, route, at + used);
	else if (strcmp(t->request->method, "POST") == 0)
		sp_plan_error(t->reply, 405, NULL, "Method not allowed");
	else if (is(route, used, "resolve") || is(route, used, "raw"))
		plan_resolve(t, route, used, blob);
	else
		sp_plan_error(t->reply, 404, NULL, "No such interface here");
}

void
sp_plan_make(const struct sp_catalog *catalog, const struct sp_plan_request *request,
    struct sp_http_reply *reply, struct sp_plan_blob *blob)
{
	struct target t = {.request = request, .catalog = catalog, .reply = reply};
	struct route route = {.count = 0};

	memset(blob, 0, sizeof(*blob));
	if (strcmp(request->method, "GET") != 0 && strcmp(request->method, "HEAD") != 0 &&
	    strcmp(request->method, "POST") != 0) {
		sp_http_reply_field(reply, "Allow", "GET, HEAD, POST");
		sp_plan_error(reply, 405, NULL, "Method not allowed");
	} else if (!route_split(request->path, &route)) {
		sp_plan_error(reply, 400, NULL, "The path of the request is badly encoded");
	} else {
		plan_routed(&t, &route, blob);
	}
	route_clear(&route);
	free(t.path);
}
