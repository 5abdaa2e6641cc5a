/* plan.c -- routes of the hub: which file, which revision, which error. */
#include "hub/plan.h"
#include "base/buf.h"
#include "base/json.h"
#include "base/path.h"
#include "http/range.h"
#include "http/url.h"
#include "hub/listing.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

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
	enum sp_catalog_kind kind;
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
no_interface(struct target *t)
{
	sp_plan_error(t->reply, 404, NULL, "No such interface here");
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

/* 0 when path is badly encoded: it goes into links, so what would end one has no place in it. */
static int
route_split(const char *path, struct route *route)
{
	size_t len;

	route->count = 0;
	for (const char *p = path; *p != '\0'; p++)
		if ((*p > 0 && *p <= ' ') || strchr("\"<>\\^`{|}\x7f", *p) != NULL)
			return 0;
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
find_repo(const struct target *t, const struct route *route, size_t at, size_t *used)
{
	const struct sp_catalog_repo *repo;
	char *two;

	*used = 0;
	if (at + 1 < route->count) {
		two = sp_xasprintf("%s/%s", route->segments[at], route->segments[at + 1]);
		repo = sp_catalog_find(t->catalog, t->kind, two);
		free(two);
		if (repo != NULL) {
			*used = 2;
			return repo;
		}
	}
	repo = at < route->count ? sp_catalog_find(t->catalog, t->kind, route->segments[at]) : NULL;
	*used = repo != NULL;
	return repo;
}

/* 1 when the method is one that goes here: POST, or else GET and HEAD. */
static int
allow(struct target *t, int post)
{
	const char *method = t->request->method;

	if (post ? strcmp(method, "POST") == 0
		 : strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0)
		return 1;
	sp_http_reply_field(t->reply, "Allow", "%s", post ? "POST" : "GET, HEAD");
	sp_plan_error(t->reply, 405, NULL,
	    post ? "Only POST goes here" : "This registry is read-only: only GET and HEAD go here");
	return 0;
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

/* 1 when a list of entity tags has etag (quoted), or is "*". */
static int
has_etag(const char *list, const char *etag)
{
	return list != NULL && (strcmp(list, "*") == 0 || strstr(list, etag) != NULL);
}

/* Fields that every answer about the content `id` has; 1 when the client has that already. */
static int
tag(struct target *t, const char *id, char etag[SP_HEX_LEN + 3])
{
	snprintf(etag, SP_HEX_LEN + 3, "\"%s\"", id);
	sp_http_reply_field(t->reply, "X-Repo-Commit", "%s", t->revision->commit.s);
	sp_http_reply_field(t->reply, "ETag", "%s", etag);
	sp_http_reply_field(t->reply, "X-Content-Type-Options", "nosniff");
	if (!has_etag(t->request->if_none_match, etag))
		return 0;
	t->reply->status = 304;
	return 1;
}

/* What git has of an LFS file. */
static void
plan_pointer(struct target *t, const struct sp_catalog_file *file)
{
	char text[SP_CATALOG_POINTER_MAX], etag[SP_HEX_LEN + 3];

	if (tag(t, file->oid.s, etag))
		return;
	sp_catalog_pointer(file, text);
	sp_http_reply_body(t->reply, 200, "text/plain; charset=utf-8", text, strlen(text));
}

static void
plan_file(struct target *t, const struct sp_catalog_file *file, struct sp_plan_blob *blob)
{
	const struct sp_plan_request *r = t->request;
	enum sp_range range = SP_RANGE_NONE;
	char etag[SP_HEX_LEN + 3];
	int has;

	has = tag(t, file->lfs ? file->sha256.s : file->oid.s, etag);
	if (file->lfs) {
		sp_http_reply_field(t->reply, "X-Linked-Etag", "%s", etag);
		sp_http_reply_field(t->reply, "X-Linked-Size", "%" PRIu64, file->size);
	}
	sp_http_reply_field(t->reply, "Accept-Ranges", "bytes");
	if (has)
		return;
	blob->size = blob->length = file->size;
	blob->offset = 0;
	/* ranges are for GET alone (RFC 9110 section 14.2) */
	if (strcmp(r->method, "GET") == 0 &&
	    (r->if_range == NULL || strcmp(r->if_range, etag) == 0))
		range = sp_range_parse(r->range, file->size, &blob->offset, &blob->length);
	if (range == SP_RANGE_BAD) {
		sp_http_reply_field(t->reply, "Content-Range", "bytes */%" PRIu64, file->size);
		sp_plan_error(t->reply, 416, NULL, "Range not satisfiable");
		return;
	}
	if (range == SP_RANGE_PART)
		sp_http_reply_field(t->reply, "Content-Range",
		    "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64, blob->offset,
		    blob->offset + blob->length - 1, file->size);
	sp_http_reply_field(t->reply, "Content-Type", "application/octet-stream");
	memcpy(blob->digest, file->sha256.s, sizeof(blob->digest));
	t->reply->status = range == SP_RANGE_PART ? 206 : 200;
}

/* /{id}/resolve/{rev}/{path}, or raw; `at`: of that word. */
static void
plan_resolve(struct target *t, const struct route *route, size_t at, struct sp_plan_blob *blob)
{
	const struct sp_catalog_file *file;

	if (!take_revision(t, route, at + 1))
		return;
	file = sp_catalog_file(t->revision, t->path);
	if (file == NULL)
		no_entry(t);
	else if (file->lfs && is(route, at, "raw"))
		plan_pointer(t, file);
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

/* Of a list: skip the first `cursor`, give at most `limit`, which is `max` when the request says
 * nothing or more. 0: the reply says what is wrong. */
static int
take_page(struct target *t, size_t max, size_t *cursor, size_t *limit)
{
	const struct sp_plan_request *r = t->request;
	uint64_t from = 0, count = max;
	const char *end = "";

	if (r->cursor != NULL)
		end = sp_range_number(r->cursor, &from);
	if (end != NULL && *end == '\0' && r->limit != NULL)
		end = sp_range_number(r->limit, &count);
	if (end == NULL || *end != '\0' || count == 0) {
		sp_plan_error(t->reply, 400, NULL, "cursor or limit is no number");
		return 0;
	}
	*cursor = (size_t)from;
	*limit = count < max ? (size_t)count : max;
	return 1;
}

/* Where the next page is: this same path with another query, absolute, as clients expect it. */
static void
link_next(struct target *t, const char *query)
{
	const struct sp_plan_request *r = t->request;
	int tls = r->forwarded_proto != NULL && strcmp(r->forwarded_proto, "https") == 0;
	int sound = r->host != NULL && r->host[0] != '\0';

	/* Host comes from outside and goes into a field: only what a host can hold */
	for (const char *p = sound ? r->host : ""; *p != '\0'; p++)
		sound &= (*p >= '0' && *p <= '9') || (*p >= 'a' && *p <= 'z') ||
			 (*p >= 'A' && *p <= 'Z') || strchr("-._:[]", *p) != NULL;
	sp_http_reply_field(t->reply, "Link", "<%s%s%s?%s>; rel=\"next\"",
	    sound ? (tls ? "https://" : "http://") : "", sound ? r->host : "", r->path, query);
}

/* 1 when the list of repositories that was asked for has this one. */
static int
is_listed(const struct target *t, const struct sp_catalog_repo *repo)
{
	const char *search = t->request->search, *author = t->request->author;
	size_t len = author != NULL ? strlen(author) : 0;

	return repo->kind == t->kind && repo->count > 0 &&
	       (search == NULL || strcasestr(repo->name, search) != NULL) &&
	       (author == NULL ||
		   (strncmp(repo->name, author, len) == 0 && repo->name[len] == '/'));
}

static void
link_next_repos(struct target *t, size_t cursor, size_t limit)
{
	const struct sp_plan_request *r = t->request;
	struct sp_buf query = {0};
	char *text;
	size_t len;

	sp_buf_printf(&query, "limit=%zu&cursor=%zu", limit, cursor);
	for (int i = 0; i < 3; i++) {
		const char *value = i == 0 ? r->search : i == 1 ? r->author : r->full;

		if (value == NULL)
			continue;
		text = sp_url_encode(value, 0);
		sp_buf_printf(&query, "&%s=%s",
		    i == 0   ? "search"
		    : i == 1 ? "author"
			     : "full",
		    text);
		free(text);
	}
	text = sp_buf_take(&query, &len);
	link_next(t, text);
	free(text);
}

/* /api/models or /api/datasets */
static void
plan_repos(struct target *t)
{
	enum sp_listing_detail detail =
	    is_true(t->request->full) ? SP_LISTING_FILES : SP_LISTING_NO_FILES;
	size_t cursor, limit, seen = 0;
	json_t *list;

	if (!allow(t, 0) || !take_page(t, SP_LISTING_PAGE, &cursor, &limit))
		return;
	list = json_array();
	for (size_t i = 0; i < t->catalog->count; i++) {
		const struct sp_catalog_repo *repo = &t->catalog->repos[i];

		if (!is_listed(t, repo) || seen++ < cursor)
			continue;
		if (json_array_size(list) == limit) {
			link_next_repos(t, cursor + limit, limit);
			break;
		}
		json_array_append_new(
		    list, sp_listing_repo(repo, &repo->revisions[repo->count - 1], detail));
	}
	send_json(t->reply, list);
}

static void
plan_tree(struct target *t)
{
	const struct sp_plan_request *r = t->request;
	int recursive = is_true(r->recursive), expand = is_true(r->expand);
	size_t cursor, limit, next;
	char query[128];
	json_t *page;

	if (!take_page(t, expand ? SP_LISTING_PAGE_EXPANDED : SP_LISTING_PAGE, &cursor, &limit))
		return;
	page = sp_listing_tree(t->revision, t->path, recursive, expand, cursor, limit, &next);
	if (page == NULL) {
		no_entry(t);
		return;
	}
	if (next > 0) {
		snprintf(query, sizeof(query), "recursive=%s&expand=%s&limit=%zu&cursor=%zu",
		    recursive ? "true" : "false", expand ? "true" : "false", limit, next);
		link_next(t, query);
	}
	send_json(t->reply, page);
}

/* What a request for some paths is answered with. */
struct found {
	json_t *list;
	json_t *seen; /* object: paths that are in the list */
};

/* Once, however often it is named: the answer is never longer than the tree. */
static void
put_path(struct target *t, struct found *found, const char *path, int expand)
{
	json_t *entry;

	if (json_object_get(found->seen, path) != NULL)
		return;
	entry = sp_listing_entry(t->revision, path, expand);
	if (entry == NULL)
		return;
	json_array_append_new(found->list, entry);
	json_object_set_new(found->seen, path, json_true());
}

/* {"paths": [PATH, …], "expand": BOOLEAN}; 0 when body is anything else. */
static int
read_paths(struct target *t, struct found *found)
{
	const struct sp_plan_request *r = t->request;
	json_t *root = NULL, *paths, *path;
	struct sp_err err;
	size_t i;
	int expand, sound;

	if (sp_json_parse(r->body, r->body_len, "body", &root, &err) != SP_OK)
		return 0;
	paths = json_object_get(root, "paths");
	expand = json_is_true(json_object_get(root, "expand"));
	sound = json_is_array(paths);
	json_array_foreach(paths, i, path)
	{
		sound = sound && json_is_string(path);
		if (sound)
			put_path(t, found, json_string_value(path), expand);
	}
	json_decref(root);
	return sound;
}

/* paths=PATH&paths=PATH&…&expand=True */
static void
read_paths_form(struct target *t, struct found *found)
{
	const char *form = (const char *)t->request->body, *end = form + t->request->body_len;
	char *value = sp_url_param(form, t->request->body_len, "expand"), *key;
	int expand = is_true(value);

	free(value);
	while (sp_url_next_param(&form, end, &key, &value)) {
		if (key != NULL && value != NULL && strcmp(key, "paths") == 0)
			put_path(t, found, value, expand);
		free(key);
		free(value);
	}
}

static void
plan_paths(struct target *t)
{
	struct found found = {.list = json_array(), .seen = json_object()};
	const char *type = t->request->content_type;
	int sound = 1;

	if (type == NULL || strncasecmp(type, "application/json", 16) != 0)
		read_paths_form(t, &found);
	else
		sound = read_paths(t, &found);
	if (sound)
		send_json(t->reply, json_incref(found.list));
	else
		sp_plan_error(t->reply, 400, NULL, "{\"paths\": [...]} is expected");
	json_decref(found.list);
	json_decref(found.seen);
}

/* /api/models/{id}/VERB/REVISION/…; `at`: of VERB. */
static void
plan_at_revision(struct target *t, const struct route *route, size_t at)
{
	enum sp_listing_detail detail =
	    is_true(t->request->blobs) ? SP_LISTING_BLOBS : SP_LISTING_FILES;
	int post = is(route, at, "paths-info"), tree = is(route, at, "tree");
	int commits = is(route, at, "commits"), alone = at + 2 == route->count;

	if (!(tree || (alone && (post || commits || is(route, at, "revision"))))) {
		no_interface(t);
		return;
	}
	if (!allow(t, post) || !take_revision(t, route, at + 1))
		return;
	if (tree)
		plan_tree(t);
	else if (post)
		plan_paths(t);
	else if (commits)
		send_json(t->reply, sp_listing_commits(t->repo, t->revision));
	else
		send_json(t->reply, sp_listing_repo(t->repo, t->revision, detail));
}

/* /api/models/{id}[/VERB[/…]]; `at`: of VERB. */
static void
plan_verb(struct target *t, const struct route *route, size_t at)
{
	enum sp_listing_detail detail =
	    is_true(t->request->blobs) ? SP_LISTING_BLOBS : SP_LISTING_FILES;

	if (at + 1 < route->count) {
		plan_at_revision(t, route, at);
	} else if (at == route->count) {
		t->revision = sp_catalog_revision(t->repo, "main");
		if (allow(t, 0))
			send_json(t->reply, sp_listing_repo(t->repo, t->revision, detail));
	} else if (is(route, at, "refs")) {
		if (allow(t, 0))
			send_json(t->reply, sp_listing_refs(t->repo));
	} else if (is(route, at, "auth-check")) {
		if (allow(t, 0))
			send_json(t->reply, json_object());
	} else if (is(route, at, "tree") || is(route, at, "paths-info")) {
		take_revision(t, route, at + 1);
	} else {
		no_interface(t);
	}
}

/* Nobody logs in here, and no token is looked at. */
static void
plan_whoami(struct target *t)
{
	sp_http_reply_field(t->reply, "WWW-Authenticate", "Bearer");
	sp_plan_error(t->reply, 401, NULL, "This registry has no accounts: no token is needed");
}

static void
plan_routed(struct target *t, const struct route *route, struct sp_plan_blob *blob)
{
	int api = is(route, 0, "api"), datasets = is(route, (size_t)api, "datasets");
	size_t at = api ? 2 : (size_t)datasets, used;

	t->kind = datasets ? SP_CATALOG_DATASET : SP_CATALOG_MODEL;
	if (api && is(route, 1, "whoami-v2") && route->count == 2) {
		plan_whoami(t);
		return;
	}
	if (api && !datasets && !is(route, 1, "models") && !is(route, 1, "spaces")) {
		no_interface(t);
		return;
	}
	if (api && route->count == 2 && !is(route, 1, "spaces")) {
		plan_repos(t);
		return;
	}
	t->repo = api && is(route, 1, "spaces") ? NULL : find_repo(t, route, at, &used);
	if (t->repo == NULL)
		sp_plan_error(t->reply, 404, "RepoNotFound", "Repository not found");
	else if (api)
		plan_verb(t, route, at + used);
	else if (!is(route, at + used, "resolve") && !is(route, at + used, "raw"))
		no_interface(t);
	else if (allow(t, 0))
		plan_resolve(t, route, at + used, blob);
}

void
sp_plan_make(const struct sp_catalog *catalog, const struct sp_plan_request *request,
    struct sp_http_reply *reply, struct sp_plan_blob *blob)
{
	struct target t = {.request = request, .catalog = catalog, .reply = reply};
	struct route route = {.count = 0};

	memset(blob, 0, sizeof(*blob));
	if (route_split(request->path, &route))
		plan_routed(&t, &route, blob);
	else
		sp_plan_error(reply, 400, NULL, "The path of the request is badly encoded");
	route_clear(&route);
	free(t.path);
}
