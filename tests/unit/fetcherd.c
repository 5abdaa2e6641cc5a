/* fetcherd.c -- the journal, and downloads that go on after a failure. */
#include "fetcherd/fetcherd.h"
#include "base/file.h"
#include "fetcherd/fetcherd_plan.h"
#include "http/http.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define C40 "0123456789abcdef0123456789abcdef01234567"
#define H64 "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"

static char top[64];
static struct sp_err err;

static void
ok(enum sp_code code)
{
	if (code != SP_OK)
		fail_msg("%s: %s", sp_err_word(code), err.msg);
}

static int
setup(void **state)
{
	(void)state;
	snprintf(top, sizeof(top), "/tmp/sp-fetch-XXXXXX");
	return mkdtemp(top) != NULL ? 0 : -1;
}

static int
teardown(void **state)
{
	(void)state;
	return sp_file_remove_all(top, &err) == SP_OK ? 0 : -1;
}

static void
test_journal(void **state)
{
	static const char text[] =
	    C40 " " H64 "\n"
		"short\n"
		"0123456789abcdef0123456789abcdef0123456X " H64 "\n"
		"fedcba9876543210fedcba9876543210fedcba98 " H64 "\n" C40 " 2cf24d";
	struct sp_git_oid oid = {C40};
	struct fetcherd_journal journal;

	(void)state;
	fetcherd_journal_parse((const uint8_t *)text, sizeof(text) - 1, &journal);
	assert_int_equal(journal.count, 2);
	assert_string_equal(fetcherd_journal_find(&journal, &oid), H64);
	oid.s[0] = '1';
	assert_null(fetcherd_journal_find(&journal, &oid));
	fetcherd_journal_clear(&journal);
	for (size_t n = 0; n < sizeof(text) - 1; n++) {
		uint8_t *copy = malloc(n + 1);

		memcpy(copy, text, n);
		fetcherd_journal_parse(copy, n, &journal);
		assert_true(journal.count <= 2);
		fetcherd_journal_clear(&journal);
		free(copy);
	}
	assert_null(fetcherd_journal_find(&journal, &oid));
}

/* --- downloads ----------------------------------------------------------------------------------
 */

/* A hub of three files, one of which can be out of order. */
struct hub {
	struct sp_http *http;
	pthread_mutex_t lock;
	int broken; /* the answer to "b" is 503 */
	int lying;  /* the answer to "b" has other bytes */
	unsigned asked[3];
};

static const struct {
	const char *path, *text;
	int lfs;
} files[3] = {{"a.json", "{}", 0}, {"b", "second file", 0}, {"m.safetensors", "weights", 1}};

static void
serve(void *ctx, const struct sp_http_request *request, struct sp_http_reply *reply)
{
	struct hub *hub = ctx;
	const char *name = strrchr(request->path, '/') + 1;
	int broken, lying;

	pthread_mutex_lock(&hub->lock);
	broken = hub->broken;
	lying = hub->lying;
	for (size_t i = 0; i < 3; i++)
		hub->asked[i] += strcmp(files[i].path, name) == 0;
	pthread_mutex_unlock(&hub->lock);
	for (size_t i = 0; i < 3; i++) {
		if (strcmp(files[i].path, name) != 0)
			continue;
		if (i == 1 && broken)
			sp_http_reply_body(reply, 503, "text/plain", "", 0);
		else
			sp_http_reply_body(reply, 200, "application/octet-stream",
			    i == 1 && lying ? "sEcond file" : files[i].text, strlen(files[i].text));
	}
}

static void
make_listing(struct sp_answer_file out[3], struct sp_answer_tree *tree)
{
	struct sp_hash *hash;

	memset(tree, 0, sizeof(*tree));
	memset(out, 0, 3 * sizeof(*out));
	for (size_t i = 0; i < 3; i++) {
		size_t len = strlen(files[i].text);

		hash = sp_git_blob_new(len);
		sp_hash_add(hash, files[i].text, len);
		out[i].oid = sp_git_blob_finish(hash);
		sp_hash_free(&hash);
		out[i].path = (char *)(uintptr_t)files[i].path;
		out[i].size = len;
		out[i].lfs = files[i].lfs;
		if (files[i].lfs)
			out[i].sha256 = sp_sha256_hex(files[i].text, len);
		tree->bytes += len;
	}
	tree->files = out;
	tree->count = 3;
}

static uint64_t progress_done;

static void
on_progress(void *ctx, uint64_t done_bytes, uint64_t total_bytes)
{
	(void)ctx;
	assert_true(done_bytes <= total_bytes);
	progress_done = done_bytes;
}

/* A hub and a download from it. */
struct fetching {
	struct hub hub;
	struct sp_client_options options;
	struct fetcherd_download d;
	struct sp_answer_file listed[3];
	struct sp_answer_tree listing;
	char *endpoint, *store_dir;
};

static void
fetching_open(struct fetching *f)
{
	struct sp_http_options http = {
	    .listen = "127.0.0.1:0", .threads = 2, .handler = serve, .ctx = &f->hub};

	memset(f, 0, sizeof(*f));
	pthread_mutex_init(&f->hub.lock, NULL);
	ok(sp_http_start(&http, &f->hub.http, &err));
	f->endpoint = sp_xasprintf("http://127.0.0.1:%u", sp_http_port(f->hub.http));
	f->options.endpoint = f->endpoint;
	f->store_dir = sp_xasprintf("%s/store", top);
	make_listing(f->listed, &f->listing);
	f->d = (struct fetcherd_download){.hub = &f->options,
	    .repo = "o/m",
	    .commit = C40,
	    .listing = &f->listing,
	    .store_dir = f->store_dir,
	    .work_dir = top,
	    .parallel = 1,
	    .backoff_ms = 1,
	    .progress = on_progress};
	ok(sp_store_open(f->store_dir, 1, &f->d.store, &err));
}

static void
fetching_close(struct fetching *f)
{
	sp_store_close(&f->d.store);
	sp_http_stop(&f->hub.http);
	pthread_mutex_destroy(&f->hub.lock);
	free(f->endpoint);
	free(f->store_dir);
}

static void
test_download(void **state)
{
	struct sp_tree tree = {0};
	struct fetching f;
	char *journal;
	FILE *file;

	(void)state;
	fetching_open(&f);
	/* the second of three fails, and is asked for again and again: the others are kept */
	f.hub.broken = 1;
	assert_int_equal(fetcherd_download(&f.d, &tree, &err), SP_E_UNREACHABLE);
	assert_true(sp_err_may_retry(err.code));
	assert_int_equal(tree.count, 0);
	assert_int_equal(f.hub.asked[0], 1);
	assert_int_equal(f.hub.asked[1], FETCHERD_TRIES);
	assert_int_equal(f.hub.asked[2], 1);
	/* a crash in the middle of a line of the journal */
	journal = sp_xasprintf("%s/journal", top);
	file = fopen(journal, "a");
	fputs("0123456789abcdef", file);
	assert_int_equal(fclose(file), 0);
	free(journal);
	/* other bytes than the listing says never enter the store; they are asked for twice */
	f.hub.broken = 0;
	f.hub.lying = 1;
	assert_int_equal(fetcherd_download(&f.d, &tree, &err), SP_E_CORRUPT);
	assert_non_null(strstr(err.msg, "o/m@0123456789ab: b"));
	assert_false(sp_store_has(f.d.store, sp_sha256_hex("sEcond file", 11).s, NULL));
	f.hub.lying = 0;
	f.d.parallel = 3;
	ok(fetcherd_download(&f.d, &tree, &err));
	assert_int_equal(f.hub.asked[0], 1);
	assert_int_equal(f.hub.asked[1], FETCHERD_TRIES + 3);
	assert_int_equal(f.hub.asked[2], 1);
	assert_int_equal(tree.count, 3);
	assert_int_equal(progress_done, f.listing.bytes);
	ok(sp_tree_verify(f.d.store, &tree, &err));
	sp_tree_clear(&tree);
	/* all there: the hub is not asked at all */
	ok(fetcherd_download(&f.d, &tree, &err));
	assert_int_equal(f.hub.asked[0] + f.hub.asked[1] + f.hub.asked[2], FETCHERD_TRIES + 5);
	sp_tree_clear(&tree);
	fetching_close(&f);
}

/* More than the disk can hold is refused before the first byte. */
static void
test_no_room(void **state)
{
	struct sp_tree tree = {0};
	struct fetching f;

	(void)state;
	fetching_open(&f);
	f.listed[1].size = UINT64_C(1) << 60;
	f.listing.bytes += f.listed[1].size;
	assert_int_equal(fetcherd_download(&f.d, &tree, &err), SP_E_NO_SPACE);
	assert_non_null(strstr(err.msg, f.store_dir));
	assert_int_equal(f.hub.asked[0] + f.hub.asked[1] + f.hub.asked[2], 0);
	fetching_close(&f);
}

int
main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_journal),
	    T(test_download),
	    T(test_no_room),
	};

	unsetenv("http_proxy");
	unsetenv("https_proxy");
	unsetenv("HTTPS_PROXY");
	unsetenv("all_proxy");
	unsetenv("ALL_PROXY");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
