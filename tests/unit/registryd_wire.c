/*
 * registryd_wire.c -- a real registryd (standalone, on a free port) and clients that ask for what
 * there is not, in ways that nobody should: each gets an answer that says so, and no file that is
 * not the repository's.
 */
#include "base/file.h"
#include "registryd/registryd.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker_stub.h"

static char top[64];
static struct sp_err err;
static struct sp_worker worker;
static struct registryd *registryd;

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

static int
open_registryd(void **state)
{
	char *path;

	(void)state;
	snprintf(top, sizeof(top), "/tmp/sp-registryd-XXXXXX");
	if (mkdtemp(top) == NULL)
		return -1;
	path = sp_xasprintf("%s/model/sub", top);
	ok(sp_file_mkdirs(path, 0755, &err));
	free(path);
	put("secret", "secret");
	put("model/config.json", "{}");
	put("model/sub/x.safetensors", "0123456789");
	put("sallyport.conf",
	    "registryd: { listen = \"127.0.0.1:0\"; standalone = true; connections = 64;\n"
	    "  local: { a: { name = \"org/m\"; dir = \"/model\"; };\n"
	    "           b: { name = \"d\"; dir = \"/model\"; kind = \"dataset\"; }; }; };\n");
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

struct answer {
	long status;
	char fields[4096], body[8192];
	curl_off_t length; /* Content-Length */
};

static size_t
take(char *to, size_t size, const char *data, size_t len)
{
	size_t at = strlen(to);

	if (at + len >= size)
		return 0;
	memcpy(to + at, data, len);
	to[at + len] = '\0';
	return len;
}

static size_t
on_body(char *data, size_t size, size_t n, void *ctx)
{
	struct answer *a = ctx;

	return take(a->body, sizeof(a->body), data, size * n);
}

static size_t
on_field(char *data, size_t size, size_t n, void *ctx)
{
	struct answer *a = ctx;

	return take(a->fields, sizeof(a->fields), data, size * n);
}

/* The path goes out as it is; body: NULL for none. One handle is one connection. */
static void
ask_on(CURL *curl, const char *method, const char *path, const char *body, struct answer *a)
{
	char *url = sp_xasprintf("http://127.0.0.1:%u", sp_http_port(registryd->http));
	CURLcode rc;

	memset(a, 0, sizeof(*a));
	curl_easy_reset(curl);
	curl_easy_setopt(curl, CURLOPT_URL, url);
	curl_easy_setopt(curl, CURLOPT_REQUEST_TARGET, path);
	curl_easy_setopt(curl, CURLOPT_NOBODY, (long)(strcmp(method, "HEAD") == 0));
	if (body != NULL)
		curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
	if (strcmp(method, "HEAD") != 0)
		curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, a);
	curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_field);
	curl_easy_setopt(curl, CURLOPT_HEADERDATA, a);
	curl_easy_setopt(curl, CURLOPT_TIMEOUT, 20L);
	rc = curl_easy_perform(curl);
	if (rc != CURLE_OK)
		fail_msg("%s %.80s: %s", method, path, curl_easy_strerror(rc));
	curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &a->status);
	curl_easy_getinfo(curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &a->length);
	free(url);
}

static void
ask(const char *method, const char *path, const char *body, struct answer *a)
{
	CURL *curl = curl_easy_init();

	ask_on(curl, method, path, body, a);
	curl_easy_cleanup(curl);
}

static void
test_paths(void **state)
{
	static const struct {
		const char *path;
		long status;
		const char *code; /* X-Error-Code */
	} cases[] = {
	    {"/org/m/resolve/main/../../../secret", 404, "EntryNotFound"},
	    {"/org/m/resolve/main/%2e%2e/%2e%2e/secret", 404, "EntryNotFound"},
	    {"/org/m/resolve/main/..%2f..%2fsecret", 404, "EntryNotFound"},
	    {"/org/m/resolve/main//etc/passwd", 404, "EntryNotFound"},
	    {"/org/m/resolve/main/./config.json", 404, "EntryNotFound"},
	    {"/org/m/resolve/main/sub", 404, "EntryNotFound"},
	    {"/org/m/resolve/main/sub/", 404, "EntryNotFound"},
	    {"/org/m/resolve/main/config.json/", 404, "EntryNotFound"},
	    {"/org/m/resolve/main/%ff%fe", 404, "EntryNotFound"},
	    {"/org/m/resolve/main/config.json%00", 400, NULL},
	    {"/org/m/resolve/main/%", 400, NULL},
	    {"/org/m/resolve/main/%4", 400, NULL},
	    {"/org/m/resolve/main/%zz", 400, NULL},
	    {"/org%00/m/resolve/main/config.json", 400, NULL},
	    {"/org/m/resolve/%6d%61%69%6e/config.json", 200, NULL},
	    {"/org/m/resolve/main%2fconfig.json", 404, "RevisionNotFound"},
	    {"/org/m/resolve//config.json", 404, "RevisionNotFound"},
	    {"/org/m/resolve", 404, "RevisionNotFound"},
	    {"//org/m/resolve/main/config.json", 404, "RepoNotFound"},
	    {"/org/../org/m/resolve/main/config.json", 404, "RepoNotFound"},
	    {"/org/m/../m/resolve/main/config.json", 404, NULL},
	    {"/org/m/none/main/config.json", 404, NULL},
	    {"/datasets/d/resolve/main/config.json", 200, NULL},
	    {"/datasets/../datasets/d/resolve/main/config.json", 404, "RepoNotFound"},
	    {"/d/resolve/main/config.json", 404, "RepoNotFound"},
	    {"/api/models/org/m/tree/main/..", 404, "EntryNotFound"},
	    {"/api/models/org/m/tree/main/sub/../..", 404, "EntryNotFound"},
	    {"/api/models/org/m/tree/main?cursor=x", 400, NULL},
	    {"/api/models/org/m/tree/main?cursor=99999999999999999999", 400, NULL},
	    {"/api/models/org/m/tree/main?cursor=18446744073709551609&limit=9", 200, NULL},
	    {"/api/models/org/m/tree/main?cursor=%zz&limit=%", 200, NULL},
	    {"/api/models/org/m/tree/main?recursive=1&recursive=0&=&&&=x", 200, NULL},
	    {"/api/models?search=%00&limit=1", 200, NULL},
	    {"/api", 404, NULL},
	    {"/", 404, "RepoNotFound"},
	    {"*", 404, "RepoNotFound"},
	};
	struct answer *a = calloc(1, sizeof(*a));
	char line[64];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		ask("GET", cases[i].path, NULL, a);
		if (a->status != cases[i].status || strstr(a->body, "secret") != NULL)
			fail_msg("%s: %ld %s", cases[i].path, a->status, a->body);
		snprintf(line, sizeof(line), "X-Error-Code: %s\r\n", cases[i].code);
		if (cases[i].code != NULL && strstr(a->fields, line) == NULL)
			fail_msg("%s: %s", cases[i].path, a->fields);
		if (strcasestr(a->fields, "xet") != NULL)
			fail_msg("%s: %s", cases[i].path, a->fields);
		if (a->status >= 400)
			assert_non_null(strstr(a->fields, "X-Error-Message: "));
		/* so that clients remember what is not there */
		if (cases[i].code != NULL && strcmp(cases[i].code, "EntryNotFound") == 0)
			assert_non_null(strstr(a->fields, "X-Repo-Commit: "));
	}
	free(a);
}

/* HEAD says of everything what GET does, the length too, and sends nothing behind it: the next
 * answer on the same connection is the next answer. */
static void
test_head(void **state)
{
	static const char *const paths[] = {"/org/m/resolve/main/config.json",
	    "/org/m/resolve/main/sub/x.safetensors", "/org/m/raw/main/sub/x.safetensors",
	    "/org/m/resolve/main/none", "/org/m/resolve/v9/none", "/none/resolve/main/none",
	    "/api/models", "/api/models/org/m", "/api/models/org/m/revision/main",
	    "/api/models/org/m/tree/main?recursive=true", "/api/models/org/m/refs",
	    "/api/models/org/m/commits/main", "/api/models/org/m/auth-check", "/api/datasets/d",
	    "/api/whoami-v2", "/api/none"};
	struct answer *get = calloc(1, sizeof(*get)), *head = calloc(1, sizeof(*head));
	CURL *curl = curl_easy_init();

	(void)state;
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		ask_on(curl, "HEAD", paths[i], NULL, head);
		ask_on(curl, "GET", paths[i], NULL, get);
		if (head->status != get->status || head->length != get->length ||
		    head->body[0] != '\0' || get->length != (curl_off_t)strlen(get->body))
			fail_msg("%s: %ld, %ld bytes; HEAD says %ld, %ld", paths[i], get->status,
			    (long)get->length, head->status, (long)head->length);
	}
	curl_easy_cleanup(curl);
	free(get);
	free(head);
}

static void
test_methods(void **state)
{
	static const struct {
		const char *method, *path;
		const char *allow;
	} cases[] = {
	    {"POST", "/org/m/resolve/main/config.json", "Allow: GET, HEAD\r\n"},
	    {"PUT", "/org/m/resolve/main/config.json", "Allow: GET, HEAD\r\n"},
	    {"DELETE", "/api/models/org/m", "Allow: GET, HEAD\r\n"},
	    {"OPTIONS", "/api/models/org/m/tree/main", "Allow: GET, HEAD\r\n"},
	    {"PATCH", "/api/datasets", "Allow: GET, HEAD\r\n"},
	    {"BREW", "/api/models/org/m/refs", "Allow: GET, HEAD\r\n"},
	    {"GET", "/api/models/org/m/paths-info/main", "Allow: POST\r\n"},
	    {"HEAD", "/api/models/org/m/paths-info/main", "Allow: POST\r\n"},
	};
	struct answer *a = calloc(1, sizeof(*a));

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		ask(cases[i].method, cases[i].path, NULL, a);
		if (a->status != 405 || strstr(a->fields, cases[i].allow) == NULL)
			fail_msg(
			    "%s %s: %ld %s", cases[i].method, cases[i].path, a->status, a->fields);
	}
	free(a);
}

static void
test_sizes(void **state)
{
	static const char paths[] = "/api/models/org/m/paths-info/main";
	struct answer *a = calloc(1, sizeof(*a));
	size_t large = 3 << 20;
	char *text = malloc(large + 1);

	(void)state;
	/* a query as long as a head may be, and one that is longer */
	memset(text, 'q', large);
	memcpy(text, "/api/models/org/m?", 18);
	text[6000] = '\0';
	ask("GET", text, NULL, a);
	assert_int_equal(a->status, 200);
	text[6000] = 'q';
	text[40000] = '\0';
	ask("GET", text, NULL, a);
	assert_in_range(a->status, 413, 431);
	/* a body where none belongs is passed over */
	ask("GET", "/org/m/resolve/main/config.json", "GET /secret HTTP/1.1\r\n\r\n", a);
	assert_int_equal(a->status, 200);
	assert_string_equal(a->body, "{}");
	/* a form with everything in it, and one that is too long */
	ask("POST", paths, "paths=config.json&paths=sub&paths=..%2fsecret&paths=%zz&paths&x=y&=&",
	    a);
	assert_int_equal(a->status, 200);
	assert_non_null(strstr(a->body, "\"config.json\""));
	assert_non_null(strstr(a->body, "\"directory\""));
	assert_null(strstr(a->body, "secret"));
	memset(text, 'p', large);
	text[large] = '\0';
	ask("POST", paths, text, a);
	assert_int_equal(a->status, 413);
	free(text);
	free(a);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_paths),
	    cmocka_unit_test(test_head),
	    cmocka_unit_test(test_methods),
	    cmocka_unit_test(test_sizes),
	};

	unsetenv("http_proxy");
	unsetenv("all_proxy");
	unsetenv("ALL_PROXY");
	curl_global_init(CURL_GLOBAL_DEFAULT);
	return cmocka_run_group_tests(tests, open_registryd, close_registryd);
}
