/*
 * hub_wire.c -- the client against a real registryd (standalone, on a free port), and against hubs
 * that lie, redirect, stumble and turn in circles.
 */
#include "base/file.h"
#include "http/url.h"
#include "hub/address.h"
#include "hub/client.h"
#include "registryd/registryd.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <curl/curl.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "worker_stub.h"

static char top[64];
static struct sp_err err;

static void
ok(enum sp_code code)
{
	if (code != SP_OK)
		fail_msg("%s: %s", sp_err_word(code), err.msg);
}

static void
put(const char *name, const char *text)
{
	char *path = sp_xasprintf("%s/%s", top, name);

	ok(sp_file_write(path, 0644, text, strlen(text), &err));
	free(path);
}

/* What a sink has received. */
struct bytes {
	uint8_t data[4096];
	size_t len;
};

static enum sp_code
take(void *ctx, const void *data, size_t len, struct sp_err *e)
{
	struct bytes *bytes = ctx;

	if (len > sizeof(bytes->data) - bytes->len)
		return sp_err_set(e, SP_E_LIMIT, "too much for the test");
	memcpy(bytes->data + bytes->len, data, len);
	bytes->len += len;
	return SP_OK;
}

static struct sp_client *
connect_to(unsigned port, const char *token)
{
	char *endpoint = sp_xasprintf("http://127.0.0.1:%u", port);
	struct sp_client_options options = {.endpoint = endpoint, .token = token};
	struct sp_client *client = NULL;

	ok(sp_client_new(&options, &client, &err));
	free(endpoint);
	return client;
}

/* --- a real registryd ---------------------------------------------------------------------------
 */

#define MANY 1005 /* more files than a page of the listing has */

static struct sp_worker worker;
static struct registryd *registryd;

static int
open_registryd(void **state)
{
	char *path, *text;

	(void)state;
	snprintf(top, sizeof(top), "/tmp/sp-hub-XXXXXX");
	if (mkdtemp(top) == NULL)
		return -1;
	path = sp_xasprintf("%s/model/sub", top);
	ok(sp_file_mkdirs(path, 0755, &err));
	free(path);
	path = sp_xasprintf("%s/data", top);
	ok(sp_file_mkdirs(path, 0755, &err));
	free(path);
	path = sp_xasprintf("%s/many", top);
	ok(sp_file_mkdirs(path, 0755, &err));
	free(path);
	put("model/config.json", "{}");
	put("model/sub/ein wort.txt", "spaces are fine");
	put("model/model.safetensors", "0123456789");
	put("model/empty", "");
	put("data/test.csv", "a,b");
	for (int i = 0; i < MANY; i++) {
		char name[128];

		snprintf(name, sizeof(name), "%s/many/%04d", top, i);
		assert_int_equal(close(open(name, O_CREAT | O_WRONLY, 0644)), 0);
	}
	text = sp_xasprintf(
	    "registryd: { listen = \"127.0.0.1:0\"; standalone = true; local: {\n"
	    "  a: { name = \"org/m\"; dir = \"/model\"; };\n"
	    "  b: { name = \"many\"; dir = \"/many\"; };\n"
	    "  c: { name = \"org/m\"; dir = \"/data\"; kind = \"dataset\"; }; }; };\n");
	put("sallyport.conf", text);
	free(text);
	path = sp_xasprintf("%s/sallyport.conf", top);
	ok(sp_conf_load(path, top, sp_conf_keys, &worker.conf, &err));
	free(path);
	ok(registryd_check(worker.conf, &err));
	ok(registryd_start(NULL, worker.conf, &registryd, &err));
	return 0;
}

static int
close_registryd(void **state)
{
	(void)state;
	registryd_close(registryd);
	worker_stub_clear(&worker);
	return sp_file_remove_all(top, &err) == SP_OK ? 0 : -1;
}

static const struct sp_answer_file *
find(const struct sp_answer_tree *tree, const char *path)
{
	for (size_t i = 0; i < tree->count; i++)
		if (strcmp(tree->files[i].path, path) == 0)
			return &tree->files[i];
	fail_msg("%s is not listed", path);
	return NULL;
}

static void
test_real(void **state)
{
	struct sp_client *client = connect_to(sp_http_port(registryd->http), NULL);
	const struct sp_answer_file *file;
	struct sp_answer_tree tree = {0};
	struct sp_answer_model model;
	struct bytes got = {.len = 0};

	(void)state;
	ok(sp_client_model(client, "org/m", "main", &model, &err));
	assert_string_equal(model.gated, "no");
	ok(sp_client_tree(client, "org/m", model.commit.s, &tree, &err));
	assert_int_equal(tree.count, 4);
	file = find(&tree, "sub/ein wort.txt");
	ok(sp_client_file(client, "org/m", model.commit.s, file, take, &got, &err));
	assert_int_equal(got.len, 15);
	assert_memory_equal(got.data, "spaces are fine", 15);
	file = find(&tree, "model.safetensors");
	assert_true(file->lfs);
	got.len = 0;
	ok(sp_client_file(client, "org/m", model.commit.s, file, take, &got, &err));
	assert_memory_equal(got.data, "0123456789", 10);
	got.len = 0;
	ok(sp_client_file(client, "org/m", model.commit.s, find(&tree, "empty"), take, &got, &err));
	assert_int_equal(got.len, 0);
	sp_answer_tree_clear(&tree);

	/* two pages, and a name of one segment */
	ok(sp_client_model(client, "many", "v1", &model, &err));
	ok(sp_client_tree(client, "many", model.commit.s, &tree, &err));
	assert_int_equal(tree.count, MANY);
	assert_string_equal(tree.files[MANY - 1].path, "1004");
	sp_answer_tree_clear(&tree);

	assert_int_equal(sp_client_model(client, "org/none", "main", &model, &err), SP_E_NOT_FOUND);
	assert_non_null(strstr(err.msg, "no such repository"));
	assert_int_equal(
	    sp_client_model(client, "org/m", "refs/pr/1", &model, &err), SP_E_NOT_FOUND);
	assert_non_null(strstr(err.msg, "not this revision"));
	sp_client_free(&client);
}

static size_t
on_body(char *data, size_t size, size_t n, void *ctx)
{
	return take(ctx, data, size * n, &err) == SP_OK ? size * n : 0;
}

static size_t
on_field(char *data, size_t size, size_t n, void *ctx)
{
	char *fields = ctx;

	if (strlen(fields) + size * n < 4096)
		strncat(fields, data, size * n);
	return size * n;
}

/* GET of a path with a Range; body and fields of the answer. */
static long
get(const char *path, const char *range, int head, struct bytes *body, char fields[4096])
{
	char *url = sp_xasprintf("http://127.0.0.1:%u%s", sp_http_port(registryd->http), path);
	CURL *curl = curl_easy_init();
	long status = 0;

	body->len = 0;
	fields[0] = '\0';
	curl_easy_setopt(curl, CURLOPT_URL, url);
	curl_easy_setopt(curl, CURLOPT_RANGE, range);
	curl_easy_setopt(curl, CURLOPT_NOBODY, (long)head);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, body);
	curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_field);
	curl_easy_setopt(curl, CURLOPT_HEADERDATA, fields);
	assert_int_equal(curl_easy_perform(curl), CURLE_OK);
	curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_cleanup(curl);
	free(url);
	return status;
}

static void
test_bytes(void **state)
{
	static const char path[] = "/org/m/resolve/main/model.safetensors";
	char fields[4096];
	struct bytes body;

	(void)state;
	assert_int_equal(get(path, "3-5", 0, &body, fields), 206);
	assert_int_equal(body.len, 3);
	assert_memory_equal(body.data, "345", 3);
	assert_non_null(strstr(fields, "Content-Range: bytes 3-5/10\r\n"));
	assert_int_equal(get(path, "-2", 0, &body, fields), 206);
	assert_memory_equal(body.data, "89", 2);
	assert_int_equal(get(path, "10-", 0, &body, fields), 416);
	assert_int_equal(get(path, NULL, 1, &body, fields), 200);
	assert_int_equal(body.len, 0);
	assert_non_null(strstr(fields, "Content-Length: 10\r\n"));
	assert_non_null(strstr(fields, "X-Linked-Size: 10\r\n"));
	assert_non_null(strstr(fields, "X-Repo-Commit: "));
	assert_null(strcasestr(fields, "xet"));
	assert_int_equal(get("/org/m/resolve/main/empty", NULL, 1, &body, fields), 200);
	assert_non_null(strstr(fields, "Content-Length: 0\r\n"));
	assert_int_equal(get("/org/m/resolve/main/none", NULL, 1, &body, fields), 404);
	assert_non_null(strstr(fields, "X-Error-Code: EntryNotFound\r\n"));
	assert_int_equal(
	    get("/org/m/resolve/main/..%2f..%2fsallyport.conf", NULL, 0, &body, fields), 404);
	/* a data set of the same name is another thing */
	assert_int_equal(get("/datasets/org/m/resolve/main/test.csv", NULL, 0, &body, fields), 200);
	assert_memory_equal(body.data, "a,b", 3);
	assert_int_equal(get("/org/m/resolve/main/test.csv", NULL, 0, &body, fields), 404);
	assert_int_equal(get("/api/datasets/org/m", NULL, 0, &body, fields), 200);
}

/* A blob that is gone or cut is never served as if it were whole. */
static void
test_damaged_store(void **state)
{
	struct sp_hex digest = sp_sha256_hex("spaces are fine", 15);
	char *path = sp_store_path(registryd->store, digest.s), fields[4096];
	static const char url[] = "/org/m/resolve/main/sub/ein%20wort.txt";
	struct bytes body;

	(void)state;
	assert_int_equal(get(url, NULL, 0, &body, fields), 200);
	assert_int_equal(truncate(path, 4), 0);
	assert_int_equal(get(url, NULL, 0, &body, fields), 500);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(get(url, NULL, 0, &body, fields), 500);
	ok(sp_store_put(registryd->store, "spaces are fine", 15, &digest, &err));
	assert_int_equal(get(url, NULL, 0, &body, fields), 200);
	free(path);
}

/* No descriptor is left to open a file with: that passes, and is no damage. */
static void
test_no_files(void **state)
{
	static const char path[] = "/org/m/resolve/main/config.json";
	char *url = sp_xasprintf("http://127.0.0.1:%u%s", sp_http_port(registryd->http), path);
	struct rlimit files, none;
	CURL *curl = curl_easy_init();
	struct bytes body = {.len = 0};
	long status[3];

	(void)state;
	curl_easy_setopt(curl, CURLOPT_URL, url);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, &body);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
	for (int i = 0; i < 3; i++) {
		if (i == 1) {
			none = files;
			none.rlim_cur = 3;
			assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
		}
		/* down the connection that is there */
		assert_int_equal(curl_easy_perform(curl), CURLE_OK);
		curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status[i]);
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
	}
	curl_easy_cleanup(curl);
	free(url);
	assert_int_equal(status[0], 200);
	assert_int_equal(status[1], 503);
	assert_int_equal(status[2], 200);
}

/* --- hubs that do not behave --------------------------------------------------------------------
 */

#define C40 "0123456789abcdef0123456789abcdef01234567"

/* What a hostile hub answers to a path, every time or only the first times. */
struct rule {
	const char *path;
	unsigned status;
	const char *body;
	const char *field, *value; /* value: "%u" is the other hub's port */
	int times;		   /* 0: always */
	int cut;		   /* promises more bytes than it sends */
};

struct hub {
	struct sp_http *http;
	const struct rule *rules;
	size_t count;
	int used[16];
	unsigned other_port;
	/* of the requests so far */
	unsigned requests, with_token;
	char last_path[256];
	pthread_mutex_t lock;
};

/* A file that is shorter than what is promised of it. */
static void
reply_cut(struct sp_http_reply *reply, const char *body)
{
	char path[] = "/tmp/sp-cut-XXXXXX";
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	unlink(path);
	assert_int_equal(write(fd, body, strlen(body)), (ssize_t)strlen(body));
	sp_http_reply_fd(reply, 200, fd, 0, strlen(body) + 100);
}

static void
misbehave(void *ctx, const struct sp_http_request *request, struct sp_http_reply *reply)
{
	struct hub *hub = ctx;
	const struct rule *rule = NULL;
	char value[512];

	pthread_mutex_lock(&hub->lock);
	hub->requests++;
	hub->with_token += sp_http_header(request, "Authorization") != NULL;
	snprintf(hub->last_path, sizeof(hub->last_path), "%s", request->path);
	for (size_t i = 0; rule == NULL && i < hub->count; i++) {
		if (strcmp(hub->rules[i].path, request->path) != 0 ||
		    (hub->rules[i].times > 0 && hub->used[i] >= hub->rules[i].times))
			continue;
		hub->used[i]++;
		rule = &hub->rules[i];
	}
	pthread_mutex_unlock(&hub->lock);
	if (rule == NULL) {
		sp_http_reply_body(reply, 404, "text/plain", "", 0);
		return;
	}
	if (rule->cut)
		reply_cut(reply, rule->body);
	else
		sp_http_reply_body(
		    reply, rule->status, "text/plain", rule->body, strlen(rule->body));
	if (rule->field == NULL)
		return;
	if (strstr(rule->value, "%u") != NULL)
		snprintf(value, sizeof(value), "%.*s%u%s",
		    (int)(strstr(rule->value, "%u") - rule->value), rule->value, hub->other_port,
		    strstr(rule->value, "%u") + 2);
	else
		snprintf(value, sizeof(value), "%s", rule->value);
	sp_http_reply_field(reply, rule->field, "%s", value);
}

static void
hub_open(struct hub *hub, const struct rule *rules, size_t count)
{
	struct sp_http_options options = {
	    .listen = "127.0.0.1:0", .threads = 2, .idle_s = 1, .handler = misbehave, .ctx = hub};

	memset(hub, 0, sizeof(*hub));
	hub->rules = rules;
	hub->count = count;
	assert_true(count <= sizeof(hub->used) / sizeof(hub->used[0]));
	pthread_mutex_init(&hub->lock, NULL);
	ok(sp_http_start(&options, &hub->http, &err));
}

static void
hub_close(struct hub *hub)
{
	sp_http_stop(&hub->http);
	pthread_mutex_destroy(&hub->lock);
}

/* Of the loopback addresses here, that with outside_port counts as one on the internet. */
static unsigned outside_port;

int
sp_address_is_inside(const struct sockaddr *address)
{
	struct sockaddr_in v4;

	memcpy(&v4, address, sizeof(v4));
	return ntohs(v4.sin_port) != outside_port;
}

#define FILE_AT "/o/m/resolve/" C40 "/f"

/* "good" as a small file, as an LFS file */
static struct sp_answer_file
good(int lfs)
{
	struct sp_answer_file file = {.path = (char *)(uintptr_t) "f", .size = 4, .lfs = lfs};
	struct sp_hash *hash = sp_git_blob_new(4);

	sp_hash_add(hash, "good", 4);
	file.oid = sp_git_blob_finish(hash);
	sp_hash_free(&hash);
	file.sha256 = sp_sha256_hex("good", 4);
	return file;
}

/* Fetches "good" from a hub of these rules. */
static enum sp_code
fetch(const struct rule *rules, size_t count, int lfs, struct bytes *got)
{
	struct sp_answer_file file = good(lfs);
	struct sp_client *client;
	enum sp_code code;
	struct hub hub;

	hub_open(&hub, rules, count);
	client = connect_to(sp_http_port(hub.http), NULL);
	got->len = 0;
	code = sp_client_file(client, "o/m", C40, &file, take, got, &err);
	sp_client_free(&client);
	hub_close(&hub);
	return code;
}

static void
test_lies(void **state)
{
	static const struct {
		struct rule rule;
		enum sp_code code;
		const char *says;
	} cases[] = {
	    {{FILE_AT, 200, "good", NULL, NULL, 0, 0}, SP_OK, ""},
	    {{FILE_AT, 200, "evil", NULL, NULL, 0, 0}, SP_E_CORRUPT, "the listing says"},
	    {{FILE_AT, 200, "goo", NULL, NULL, 0, 0}, SP_E_CORRUPT, "has 3 bytes"},
	    {{FILE_AT, 200, "goodness", NULL, NULL, 0, 0}, SP_E_CORRUPT, "larger than the 4"},
	    {{FILE_AT, 200, "good", "X-Repo-Commit", "fedcba9876543210fedcba9876543210fedcba98", 0,
		 0},
		SP_E_CORRUPT, "another commit"},
	    {{FILE_AT, 200, "good", "X-Repo-Commit", C40, 0, 0}, SP_OK, ""},
	    {{FILE_AT, 206, "good", NULL, NULL, 0, 0}, SP_E_UNSUPPORTED, "status 206"},
	    {{FILE_AT, 200, "good", NULL, NULL, 0, 1}, SP_E_UNREACHABLE, "127.0.0.1"},
	    {{FILE_AT, 503, "", NULL, NULL, 0, 0}, SP_E_UNREACHABLE, "status 503"},
	    {{FILE_AT, 429, "", "Retry-After", "17", 0, 0}, SP_E_UNREACHABLE, "retry after 17"},
	    {{FILE_AT, 302, "", "Location", FILE_AT, 0, 0}, SP_E_UNSUPPORTED, "10 redirects"},
	    {{FILE_AT, 302, "", "Location", "file:///etc/passwd", 0, 0}, SP_E_UNSUPPORTED,
		"no http"},
	    {{FILE_AT, 302, "", NULL, NULL, 0, 0}, SP_E_UNSUPPORTED, "no http"},
	    {{FILE_AT, 302, "", "Location", "gopher://127.0.0.1/", 0, 0}, SP_E_UNSUPPORTED,
		"no http"},
	    {{"/", 200, "", NULL, NULL, 0, 0}, SP_E_NOT_FOUND, "hf:o/m@0123456789ab: f"},
	};
	struct bytes got;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		for (int lfs = 0; lfs < 2; lfs++) {
			enum sp_code code;

			if (lfs && cases[i].rule.cut)
				continue; /* takes the hub a second to give up */
			code = fetch(&cases[i].rule, 1, lfs, &got);

			if (code != cases[i].code ||
			    (code != SP_OK && strstr(err.msg, cases[i].says) == NULL))
				fail_msg("%zu: %s: %s", i, sp_err_word(code), err.msg);
			/* what does not fit the listing is stopped before the sink has it */
			assert_true(got.len <= 4);
		}
	}
}

/* An answer without end is cut off, whatever its status. */
static void
test_large_answers(void **state)
{
	char *large = malloc(3 << 20);
	struct rule rule = {"/api/models/o/m/revision/main", 500, large, NULL, NULL, 0, 0};
	struct sp_answer_model model;
	struct sp_client *client;
	struct hub hub;

	(void)state;
	memset(large, ' ', 3 << 20);
	large[(3 << 20) - 1] = '\0';
	hub_open(&hub, &rule, 1);
	client = connect_to(sp_http_port(hub.http), NULL);
	assert_int_equal(sp_client_model(client, "o/m", "main", &model, &err), SP_E_UNREACHABLE);
	assert_non_null(strstr(err.msg, "status 500"));
	sp_client_free(&client);
	hub_close(&hub);
	free(large);
}

/* The token goes to the endpoint and, after a redirect, to nobody else: another port is another
 * origin. */
static void
test_token(void **state)
{
	static const struct rule first_rules[] = {
	    {FILE_AT, 302, "", "Location", "/moved", 0, 0},
	    {"/moved", 307, "", "Location", "http://127.0.0.1:%u/signed?a=b", 0, 0},
	};
	static const struct rule second_rules[] = {{"/signed", 200, "good", NULL, NULL, 0, 0}};
	struct sp_answer_file file = good(1);
	struct hub first, second;
	struct sp_client *client;
	struct bytes got = {.len = 0};

	(void)state;
	hub_open(&first, first_rules, 2);
	hub_open(&second, second_rules, 1);
	first.other_port = sp_http_port(second.http);
	client = connect_to(sp_http_port(first.http), "hf_secret");
	ok(sp_client_file(client, "o/m", C40, &file, take, &got, &err));
	assert_memory_equal(got.data, "good", 4);
	assert_int_equal(first.requests, 2);
	assert_int_equal(first.with_token, 2);
	assert_int_equal(second.requests, 1);
	assert_int_equal(second.with_token, 0);
	assert_string_equal(second.last_path, "/signed");
	sp_client_free(&client);
	hub_close(&first);
	hub_close(&second);
}

/* A hub on the internet that leads into our own networks is not followed; one that is inside itself
 * (as all of the other tests' are) may. */
static void
test_inside(void **state)
{
	static const struct rule first_rules[] = {
	    {FILE_AT, 302, "", "Location", "http://127.0.0.1:%u/signed", 0, 0}};
	static const struct rule second_rules[] = {{"/signed", 200, "good", NULL, NULL, 0, 0}};
	struct sp_answer_file file = good(1);
	struct hub first, second;
	struct sp_client *client;
	struct bytes got = {.len = 0};

	(void)state;
	hub_open(&first, first_rules, 1);
	hub_open(&second, second_rules, 1);
	first.other_port = sp_http_port(second.http);
	outside_port = sp_http_port(first.http);
	client = connect_to(outside_port, NULL);
	assert_int_equal(sp_client_file(client, "o/m", C40, &file, take, &got, &err), SP_E_DENIED);
	assert_non_null(strstr(err.msg, "not followed"));
	assert_int_equal(first.requests, 1);
	assert_int_equal(second.requests, 0);
	outside_port = 0;
	sp_client_free(&client);
	hub_close(&first);
	hub_close(&second);
}

/* A signed URL that has expired: the hub is asked again, once. */
static void
test_expired(void **state)
{
	static const struct rule first_rules[] = {
	    {FILE_AT, 302, "", "Location", "http://127.0.0.1:%u/signed", 0, 0}};
	static const struct rule second_rules[] = {{"/signed", 403, "expired", NULL, NULL, 1, 0},
	    {"/signed", 200, "good", NULL, NULL, 0, 0}};
	static const struct rule never[] = {{"/signed", 403, "no", NULL, NULL, 0, 0}};
	struct sp_answer_file file = good(1);
	struct hub first, second;
	struct sp_client *client;
	struct bytes got = {.len = 0};

	(void)state;
	hub_open(&first, first_rules, 1);
	hub_open(&second, second_rules, 2);
	first.other_port = sp_http_port(second.http);
	client = connect_to(sp_http_port(first.http), NULL);
	ok(sp_client_file(client, "o/m", C40, &file, take, &got, &err));
	assert_int_equal(first.requests, 2);
	hub_close(&second);
	hub_open(&second, never, 1);
	first.other_port = sp_http_port(second.http);
	got.len = 0;
	assert_int_equal(sp_client_file(client, "o/m", C40, &file, take, &got, &err), SP_E_DENIED);
	assert_int_equal(first.requests, 4);
	sp_client_free(&client);
	hub_close(&first);
	hub_close(&second);
}

#define TREE_AT "/api/models/o/m/tree/" C40
#define ENTRY(path) "[{\"type\":\"file\",\"path\":\"" path "\",\"size\":4,\"oid\":\"" C40 "\"}]"

static void
test_listings(void **state)
{
	static const struct {
		struct rule rules[2];
		enum sp_code code;
		const char *says;
	} cases[] = {
	    {{{TREE_AT, 200, ENTRY("a"), "Link", "<" TREE_AT "2>; rel=\"next\"", 0, 0},
		 {TREE_AT "2", 200, ENTRY("b"), NULL, NULL, 0, 0}},
		SP_OK, ""},
	    {{{TREE_AT, 200, ENTRY("a"), "Link", "<http://127.0.0.1:%u/x>; rel=\"next\"", 0, 0},
		 {"/", 200, "", NULL, NULL, 0, 0}},
		SP_E_DENIED, "another host"},
	    {{{TREE_AT, 200, ENTRY("../a"), NULL, NULL, 0, 0}, {"/", 200, "", NULL, NULL, 0, 0}},
		SP_E_INVALID, "\"..\""},
	    {{{TREE_AT, 200, "<html>", NULL, NULL, 0, 0}, {"/", 200, "", NULL, NULL, 0, 0}},
		SP_E_INVALID, "not valid JSON"},
	    {{{TREE_AT, 200, "", NULL, NULL, 0, 0}, {"/", 200, "", NULL, NULL, 0, 0}}, SP_E_INVALID,
		"not valid JSON"},
	    {{{TREE_AT, 200, "[]", "Link", "<" TREE_AT "2>; rel=\"next\"", 0, 0},
		 {TREE_AT "2", 200, "[]", "Link", "<" TREE_AT "2>; rel=\"next\"", 0, 0}},
		SP_E_CORRUPT, "page 2 leads back to page 2"},
	};
	struct sp_answer_tree tree = {0};
	struct sp_client *client;
	enum sp_code code;
	struct hub hub;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		hub_open(&hub, cases[i].rules, 2);
		client = connect_to(sp_http_port(hub.http), NULL);
		code = sp_client_tree(client, "o/m", C40, &tree, &err);
		if (code != cases[i].code ||
		    (code != SP_OK && strstr(err.msg, cases[i].says) == NULL))
			fail_msg("%zu: %s: %s", i, sp_err_word(code), err.msg);
		if (code == SP_OK)
			assert_int_equal(tree.count, 2);
		sp_answer_tree_clear(&tree);
		sp_client_free(&client);
		hub_close(&hub);
	}
}

/* Data sets have paths of their own; a revision's '/' is no separator of the path. */
static void
test_dataset(void **state)
{
	static const struct rule rules[] = {
	    {"/api/datasets/o/d/revision/refs%2Fpr%2F1", 200, "{\"sha\":\"" C40 "\"}", NULL, NULL,
		0, 0},
	    {"/api/datasets/o/d/tree/" C40, 200, ENTRY("f"), NULL, NULL, 0, 0},
	    {"/datasets/o/d/resolve/" C40 "/f", 200, "good", NULL, NULL, 0, 0},
	};
	struct sp_client_options options = {.dataset = 1};
	struct sp_answer_tree tree = {0};
	struct sp_answer_file file = good(1);
	struct sp_answer_model model;
	struct sp_client *client;
	struct bytes got = {.len = 0};
	char *endpoint;
	struct hub hub;

	(void)state;
	hub_open(&hub, rules, 3);
	endpoint = sp_xasprintf("http://127.0.0.1:%u", sp_http_port(hub.http));
	options.endpoint = endpoint;
	ok(sp_client_new(&options, &client, &err));
	ok(sp_client_model(client, "o/d", "refs/pr/1", &model, &err));
	ok(sp_client_tree(client, "o/d", model.commit.s, &tree, &err));
	assert_int_equal(tree.count, 1);
	ok(sp_client_file(client, "o/d", model.commit.s, &file, take, &got, &err));
	assert_memory_equal(got.data, "good", 4);
	assert_int_equal(sp_client_model(client, "o/none", "v1", &model, &err), SP_E_NOT_FOUND);
	assert_non_null(strstr(err.msg, "hf-dataset:o/none@v1"));
	sp_answer_tree_clear(&tree);
	sp_client_free(&client);
	hub_close(&hub);
	free(endpoint);
}

static int
yes(void *ctx)
{
	(void)ctx;
	return 1;
}

static void
test_client(void **state)
{
	static const char *const bad[] = {"", "huggingface.co", "ftp://h", "https://h/", "http://",
	    "https://u:p@h", "https://h?x"};
	struct sp_client_options options = {.endpoint = NULL};
	struct sp_answer_model model;
	struct sp_client *client = NULL;
	char *endpoint;
	struct hub hub;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		options.endpoint = bad[i];
		if (sp_client_new(&options, &client, &err) != SP_E_CONFIG)
			fail_msg("taken: \"%s\"", bad[i]);
	}
	/* nobody listens: a port that was just given back */
	hub_open(&hub, NULL, 0);
	client = connect_to(sp_http_port(hub.http), NULL);
	hub_close(&hub);
	assert_int_equal(sp_client_model(client, "o/m", "main", &model, &err), SP_E_UNREACHABLE);
	assert_true(sp_err_may_retry(err.code));
	sp_client_free(&client);

	hub_open(&hub, NULL, 0);
	endpoint = sp_xasprintf("http://127.0.0.1:%u", sp_http_port(hub.http));
	options.endpoint = endpoint;
	options.cancelled = yes;
	ok(sp_client_new(&options, &client, &err));
	assert_int_equal(sp_client_model(client, "o/m", "main", &model, &err), SP_E_CANCELLED);
	sp_client_free(&client);
	hub_close(&hub);
	free(endpoint);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_real),
	    cmocka_unit_test(test_bytes),
	    cmocka_unit_test(test_damaged_store),
	    cmocka_unit_test(test_no_files),
	    cmocka_unit_test(test_lies),
	    cmocka_unit_test(test_large_answers),
	    cmocka_unit_test(test_token),
	    cmocka_unit_test(test_inside),
	    cmocka_unit_test(test_expired),
	    cmocka_unit_test(test_listings),
	    cmocka_unit_test(test_dataset),
	    cmocka_unit_test(test_client),
	};

	/* 127.0.0.1 is asked itself, whatever proxy the environment names */
	unsetenv("http_proxy");
	unsetenv("all_proxy");
	unsetenv("ALL_PROXY");
	return cmocka_run_group_tests(tests, open_registryd, close_registryd);
}
