/*
 * hub_listing.c -- lists of files that a hub makes up as it goes: too long, without end, in
 * circles, with names and sizes that cannot be; and what of a long one is taken.
 */
#include "base/buf.h"
#include "base/glob.h"
#include "http/http.h"
#include "hub/client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define C40 "0123456789abcdef0123456789abcdef01234567"
#define PAGE 1000 /* entries, as the Hub has them */

static struct sp_err err;

static void
ok(enum sp_code code)
{
	if (code != SP_OK)
		fail_msg("%s: %s", sp_err_word(code), err.msg);
}

/* A list of so many pages, each of which links to the next. */
struct hub {
	struct sp_http *http;
	pthread_mutex_t lock;
	unsigned requests;
	unsigned pages, entries; /* in each page */
	unsigned back_to;	 /* where the last page leads; its own number: nowhere */
	const char *one;	 /* instead of all that: the one page */
	int large;		 /* page of more bytes than are read */
};

static void
add_page(struct sp_buf *buf, const struct hub *hub, unsigned page)
{
	sp_buf_puts(buf, "[");
	for (unsigned i = 0; i < hub->entries; i++)
		sp_buf_printf(buf,
		    "%s{\"type\":\"file\",\"path\":\"d/%u.%s\",\"size\":3,\"oid\":\"" C40 "\"}",
		    i > 0 ? "," : "", page * hub->entries + i, i == 7 ? "safetensors" : "bin");
	sp_buf_puts(buf, "]");
}

static void
serve(void *ctx, const struct sp_http_request *request, struct sp_http_reply *reply)
{
	struct hub *hub = ctx;
	const char *path = strrchr(request->path, '/');
	unsigned page = 0, next;
	struct sp_buf buf = {0};

	pthread_mutex_lock(&hub->lock);
	hub->requests++;
	pthread_mutex_unlock(&hub->lock);
	if (strncmp(path, "/page-", 6) == 0)
		page = (unsigned)atoi(path + 6);
	if (hub->one != NULL)
		sp_buf_puts(&buf, hub->one);
	else
		add_page(&buf, hub, page);
	for (int i = 0; hub->large && i < 17; i++) {
		char spaces[(1 << 20) + 1];

		memset(spaces, ' ', 1 << 20);
		sp_buf_add(&buf, spaces, 1 << 20);
	}
	sp_http_reply_body(reply, 200, "application/json", buf.data, buf.len);
	sp_buf_free(&buf);
	next = page + 1 < hub->pages ? page + 1 : hub->back_to;
	if (hub->one == NULL && next != page)
		sp_http_reply_field(reply, "Link", "<http://127.0.0.1:%u/page-%u>; rel=\"next\"",
		    sp_http_port(hub->http), next);
}

static enum sp_code
list(struct hub *hub, struct sp_answer_tree *tree)
{
	struct sp_http_options http = {
	    .listen = "127.0.0.1:0", .threads = 1, .handler = serve, .ctx = hub};
	struct sp_client_options options = {.endpoint = NULL};
	struct sp_client *client = NULL;
	enum sp_code code;
	char *endpoint;

	pthread_mutex_init(&hub->lock, NULL);
	ok(sp_http_start(&http, &hub->http, &err));
	endpoint = sp_xasprintf("http://127.0.0.1:%u", sp_http_port(hub->http));
	options.endpoint = endpoint;
	ok(sp_client_new(&options, &client, &err));
	code = sp_client_tree(client, "o/m", C40, tree, &err);
	sp_client_free(&client);
	sp_http_stop(&hub->http);
	pthread_mutex_destroy(&hub->lock);
	free(endpoint);
	return code;
}

static int
keeps(const void *pattern, const char *path)
{
	return sp_glob_match(pattern, path);
}

/* 200,000 files: refused with the first page that holds one too many, long before the end. */
static void
test_too_many(void **state)
{
	struct hub hub = {.pages = 200, .entries = PAGE, .back_to = 199};
	struct sp_answer_tree tree = {0};

	(void)state;
	assert_int_equal(list(&hub, &tree), SP_E_LIMIT);
	assert_non_null(strstr(err.msg, "more than 100000 files"));
	assert_non_null(strstr(err.msg, "hf:o/m@" C40));
	assert_int_equal(hub.requests, SP_TREE_FILES_MAX / PAGE + 1);
	sp_answer_tree_clear(&tree);
}

/* A part of as many can be taken; of more no part either. */
static void
test_part_of_many(void **state)
{
	struct hub hub = {.pages = 200, .entries = PAGE, .back_to = 199};
	struct sp_answer_tree tree = {.keeps = keeps, .ctx = "*.safetensors"};

	(void)state;
	ok(list(&hub, &tree));
	assert_int_equal(tree.count, 200);
	assert_int_equal(tree.bytes, 600);
	assert_int_equal(tree.left_out, 200 * (PAGE - 1));
	assert_int_equal(tree.left_out_bytes, 600 * (PAGE - 1));
	sp_answer_tree_clear(&tree);
	tree.keeps = keeps;
	tree.ctx = "*.safetensors";
	hub = (struct hub){.pages = 250, .entries = PAGE, .back_to = 249};
	assert_int_equal(list(&hub, &tree), SP_E_LIMIT);
	assert_non_null(strstr(err.msg, "more than 200000 files and directories"));
	assert_int_equal(hub.requests, SP_ANSWER_ENTRIES_MAX / PAGE + 1);
	sp_answer_tree_clear(&tree);
}

static void
test_no_end(void **state)
{
	struct hub circle = {.pages = 5, .entries = 0, .back_to = 2};
	struct hub endless = {.pages = 1000000, .entries = 0};
	struct hub large = {.pages = 1, .entries = 1, .large = 1};
	struct sp_answer_tree tree = {0};

	(void)state;
	assert_int_equal(list(&circle, &tree), SP_E_CORRUPT);
	assert_non_null(strstr(err.msg, "page 5 leads back to page 3"));
	assert_int_equal(circle.requests, 5);
	assert_int_equal(list(&endless, &tree), SP_E_LIMIT);
	assert_non_null(strstr(err.msg, "more than 2000 pages"));
	assert_int_equal(endless.requests, 2000);
	assert_int_equal(list(&large, &tree), SP_E_LIMIT);
	assert_non_null(strstr(err.msg, "larger than 16777216 bytes"));
	assert_int_equal(tree.count, 0);
	sp_answer_tree_clear(&tree);
}

#define ENTRY(type, path, size) \
	"{\"type\":\"" type "\",\"path\":\"" path "\",\"size\":" size ",\"oid\":\"" C40 "\"}"

/* Names that no tree can hold are refused whatever the profile wants: who lists them is not to be
 * trusted with the rest. What a store cannot hold may be left out. */
static void
test_names(void **state)
{
	static const struct {
		const char *page, *pattern, *says;
		enum sp_code code;
	} cases[] = {
	    {"[" ENTRY("file", "../x", "1") "]", "*.json", "\"..\"", SP_E_INVALID},
	    {"[" ENTRY("file", "a/../../x", "1") "]", "*.json", "\"..\"", SP_E_INVALID},
	    {"[" ENTRY("directory", "../x", "1") "]", "*.json", "\"..\"", SP_E_INVALID},
	    {"[" ENTRY("file", "/etc/passwd", "1") "]", "*.json", "not relative", SP_E_INVALID},
	    {"[" ENTRY("file", "a\\u0000b", "1") "]", "*.json", "JSON", SP_E_INVALID},
	    {"[" ENTRY("file", "a\\nb", "1") "]", "*.json", "control", SP_E_INVALID},
	    {"[" ENTRY("file", "a\xff", "1") "]", "*.json", "JSON", SP_E_INVALID},
	    {"[" ENTRY("file", "a\\ud800", "1") "]", "*.json", "JSON", SP_E_INVALID},
	    {"[" ENTRY("commit", "sub", "0") "]", "*", "neither a file nor a directory",
		SP_E_UNSUPPORTED},
	    {"[" ENTRY("symlink", "link", "0") "]", "*", "fetch.ignore", SP_E_UNSUPPORTED},
	    {"[" ENTRY("symlink", "link", "0") "," ENTRY("file", "a.json", "1") "]", "*.json", "",
		SP_OK},
	    {"[" ENTRY("file", "x.bin", "9223372036854775807") "," ENTRY(
		 "file", "y.bin", "9223372036854775807") "," ENTRY("file", "z.bin",
		 "9223372036854775807") "," ENTRY("file", "a.json", "1") "]",
		"*.json", "", SP_OK},
	    {"[" ENTRY("file", "a.json", "9223372036854775807") "," ENTRY(
		 "file", "b.json", "1") "]",
		"*.json", "63 bits", SP_E_LIMIT},
	    {"[" ENTRY("file", "a.json", "9223372036854775808") "]", "*.json", "JSON",
		SP_E_INVALID},
	    {"[" ENTRY("file", "x.bin", "\"many\"") "," ENTRY("file", "a.json", "1") "]", "*.json",
		"", SP_OK},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct hub hub = {.one = cases[i].page};
		struct sp_answer_tree tree = {.keeps = keeps, .ctx = cases[i].pattern};
		enum sp_code code = list(&hub, &tree);

		if (code != cases[i].code ||
		    (code != SP_OK && strstr(err.msg, cases[i].says) == NULL))
			fail_msg("%zu: %s: %s", i, sp_err_word(code), err.msg);
		if (code == SP_OK && (tree.count != 1 || tree.bytes != 1 || tree.left_out == 0))
			fail_msg("%zu: %zu files, %zu left out", i, tree.count, tree.left_out);
		if (i == 11)
			assert_true(tree.left_out_bytes == UINT64_MAX);
		sp_answer_tree_clear(&tree);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_too_many),
	    cmocka_unit_test(test_part_of_many),
	    cmocka_unit_test(test_no_end),
	    cmocka_unit_test(test_names),
	};

	unsetenv("http_proxy");
	unsetenv("all_proxy");
	unsetenv("ALL_PROXY");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
