/* store_gc.c -- what a collection keeps, what it removes, and what it leaves when it is cut short.
 */
#include "base/file.h"
#include "store/gc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[64];
static struct sp_store *store;

static void
check(enum sp_code code, const struct sp_err *err)
{
	if (code != SP_OK)
		fail_msg("%s: %s", sp_err_word(code), err->msg);
}

static int
setup(void **state)
{
	struct sp_err err;

	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/sp-store-gc-XXXXXX");
	if (mkdtemp(dir) == NULL)
		return -1;
	check(sp_store_open(dir, 1, &store, &err), &err);
	return 0;
}

static int
teardown(void **state)
{
	struct sp_err err;

	(void)state;
	sp_store_close(&store);
	return sp_file_remove_all(dir, &err) == SP_OK ? 0 : -1;
}

static struct sp_hex
put(const char *text)
{
	struct sp_hex digest;
	struct sp_err err;

	check(sp_store_put(store, text, strlen(text), &digest, &err), &err);
	return digest;
}

/* A tree of one or two files with these contents. */
static struct sp_hex
put_tree(const char *one, const char *two)
{
	struct sp_tree tree = {0};
	struct sp_hex digest;
	struct sp_err err;

	check(sp_tree_add(&tree, "one", strlen(one), put(one).s, 0, &err), &err);
	if (two != NULL)
		check(sp_tree_add(&tree, "two", strlen(two), put(two).s, 0, &err), &err);
	check(sp_tree_save(store, &tree, &digest, &err), &err);
	sp_tree_clear(&tree);
	return digest;
}

static int
has(const char *text)
{
	return sp_store_has(store, sp_sha256_hex(text, strlen(text)).s, NULL);
}

/* Until the clock of the filesystem, which ticks, shows another time than what was written has. */
static void
tick(void)
{
	struct timespec first;
	struct stat st;
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/tick", dir);
	memset(&first, 0, sizeof(first));
	do {
		fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
		assert_true(fd >= 0);
		assert_int_equal(write(fd, "x", 1), 1);
		assert_int_equal(fstat(fd, &st), 0);
		close(fd);
		if (first.tv_sec == 0)
			first = st.st_mtim;
	} while (st.st_mtim.tv_sec == first.tv_sec && st.st_mtim.tv_nsec == first.tv_nsec);
	unlink(path);
}

static struct sp_gc
list(void)
{
	struct sp_gc gc;
	struct sp_err err;

	check(sp_gc_list(store, &gc, &err), &err);
	return gc;
}

static void
root(struct sp_gc *gc, const char *digest)
{
	struct sp_err err;

	check(sp_gc_root(store, gc, digest, &err), &err);
}

static struct sp_gc_counts
sweep(struct sp_gc *gc, int dry_run)
{
	struct sp_gc_counts counts;
	struct sp_err err;

	check(sp_gc_sweep(store, gc, dry_run, NULL, NULL, &counts, &err), &err);
	return counts;
}

/* --- marking, without a store --- */

static void
number(uint8_t digest[SP_DIGEST_LEN], unsigned n)
{
	memset(digest, 0, SP_DIGEST_LEN);
	digest[0] = (uint8_t)(n * 37); /* not in order */
	digest[31] = (uint8_t)n;
}

static void
test_marks(void **state)
{
	uint8_t digest[SP_DIGEST_LEN];
	struct sp_tree tree = {0};
	struct sp_gc gc = {.begin_ns = 100};
	struct sp_err err;
	unsigned i;

	(void)state;
	number(digest, 1);
	assert_null(sp_gc_find(&gc, digest));
	for (i = 0; i < 250; i++) {
		number(digest, i);
		sp_gc_add(&gc, digest, i, i < 200 ? 99 : 100);
	}
	sp_gc_sort(&gc);
	for (i = 0; i < 250; i++) {
		number(digest, i);
		assert_non_null(sp_gc_find(&gc, digest));
		assert_int_equal(sp_gc_find(&gc, digest)->bytes, i);
		/* as old as the beginning is too new */
		assert_int_equal(sp_gc_is_garbage(&gc, sp_gc_find(&gc, digest)), i < 200);
	}
	number(digest, 251);
	assert_null(sp_gc_find(&gc, digest));
	/* 252 and 255 are not there */
	for (i = 0; i < 256; i += i == 252 ? 3 : 7) {
		char path[16];

		number(digest, i);
		snprintf(path, sizeof(path), "f%u", i);
		check(sp_tree_add(&tree, path, i, sp_hex_of(digest).s, 0, &err), &err);
	}
	sp_gc_keep_tree(&gc, &tree);
	for (i = 0; i < 200; i++) {
		number(digest, i);
		assert_int_equal(sp_gc_is_garbage(&gc, sp_gc_find(&gc, digest)), i % 7 != 0);
	}
	sp_tree_clear(&tree);
	sp_gc_clear(&gc);
}

/* --- with a store --- */

static void
test_collects(void **state)
{
	struct sp_hex kept, gone, blob;
	struct sp_gc_counts counts;
	uint64_t listing = 0;
	char foreign[128];
	struct sp_gc gc;
	struct sp_err err;

	(void)state;
	kept = put_tree("weights", "shared");
	gone = put_tree("other weights", "shared");
	blob = put("a report");
	put("an orphan");
	snprintf(foreign, sizeof(foreign), "%s/sha256/ab/README", dir);
	check(sp_file_write(foreign, 0644, "x", 1, &err), &err);
	tick();
	gc = list();
	assert_int_equal(gc.count, 7);
	root(&gc, kept.s);
	root(&gc, blob.s);
	/* named by a job, but not (or no longer) here */
	root(&gc, "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff");

	counts = sweep(&gc, 1);
	assert_int_equal(counts.kept, 4);
	assert_int_equal(counts.removed, 3);
	assert_true(sp_store_has(store, gone.s, &listing));
	assert_int_equal(
	    counts.removed_bytes, strlen("other weights") + strlen("an orphan") + listing);
	assert_true(has("an orphan"));
	assert_true(sp_store_has(store, gone.s, NULL));

	counts = sweep(&gc, 0);
	assert_int_equal(counts.kept, 4);
	assert_int_equal(counts.removed, 3);
	assert_false(has("an orphan"));
	assert_false(has("other weights"));
	assert_false(sp_store_has(store, gone.s, NULL));
	assert_true(has("weights") && has("shared") && has("a report"));
	assert_true(sp_store_has(store, kept.s, NULL));
	assert_int_equal(access(foreign, F_OK), 0);
	sp_gc_clear(&gc);

	/* nothing is left to do */
	gc = list();
	root(&gc, kept.s);
	root(&gc, blob.s);
	counts = sweep(&gc, 0);
	assert_int_equal(counts.kept, 4);
	assert_int_equal(counts.removed, 0);
	sp_gc_clear(&gc);
}

/* What came, or was claimed, while the collection ran. */
static int
claim_late(void *ctx, size_t done, size_t total)
{
	(void)done;
	(void)total;
	assert_true(sp_store_claim(store, ctx, NULL));
	return 0;
}

static void
test_news_stay(void **state)
{
	struct sp_hex early, late, again;
	struct sp_gc_counts counts;
	struct sp_gc gc;
	struct sp_err err;

	(void)state;
	early = put("claimed before the sweep");
	late = put("claimed while the sweep runs");
	again = put("written once more");
	put("of no use");
	tick();
	gc = list();
	put("written after the listing");
	assert_true(sp_store_claim(store, early.s, NULL));
	assert_string_equal(put("written once more").s, again.s);
	check(sp_gc_sweep(store, &gc, 0, claim_late, late.s, &counts, &err), &err);
	assert_int_equal(counts.removed, 1);
	assert_int_equal(counts.kept, 3);
	assert_false(has("of no use"));
	assert_true(has("claimed before the sweep") && has("claimed while the sweep runs"));
	assert_true(has("written once more") && has("written after the listing"));
	sp_gc_clear(&gc);
	assert_false(sp_store_claim(
	    store, "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", NULL));
	assert_false(sp_store_claim(store, "../../etc/passwd", NULL));
}

static void
test_looks_like_a_tree(void **state)
{
	static const char text[] = "sallyport-tree/1\nnot a listing\n";
	struct sp_hex lookalike, part;
	struct sp_gc_counts counts;
	struct sp_gc gc;

	(void)state;
	lookalike = put(text);
	part = put("sallyport-tree/");
	put("gone");
	tick();
	gc = list();
	root(&gc, lookalike.s);
	root(&gc, part.s);
	counts = sweep(&gc, 0);
	assert_int_equal(counts.kept, 2);
	assert_true(has(text) && has("sallyport-tree/") && !has("gone"));
	sp_gc_clear(&gc);
}

/* A listing that the disk has spoilt tells nothing about the files that its model needs. */
static void
test_spoilt_tree(void **state)
{
	struct sp_hex tree = put_tree("weights", NULL);
	char *path = sp_store_path(store, tree.s);
	struct sp_gc gc;
	struct sp_err err;
	int fd;

	(void)state;
	assert_int_equal(chmod(path, 0640), 0);
	fd = open(path, O_WRONLY);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, "1", 1, 25), 1);
	close(fd);
	tick();
	gc = list();
	assert_int_equal(sp_gc_root(store, &gc, tree.s, &err), SP_E_CORRUPT);
	assert_non_null(strstr(err.msg, tree.s));
	sp_gc_clear(&gc);
	free(path);
}

static int
stop_at(void *ctx, size_t done, size_t total)
{
	(void)total;
	return done >= *(size_t *)ctx;
}

static void
test_cancelled(void **state)
{
	struct sp_gc_counts counts;
	size_t stop = 256;
	struct sp_gc gc;
	struct sp_err err;
	char text[32];

	(void)state;
	for (unsigned i = 0; i < 300; i++) {
		snprintf(text, sizeof(text), "blob %u", i);
		put(text);
	}
	tick();
	gc = list();
	assert_int_equal(sp_gc_sweep(store, &gc, 0, stop_at, &stop, &counts, &err), SP_E_CANCELLED);
	assert_int_equal(counts.removed, 256);
	sp_gc_clear(&gc);
	gc = list();
	assert_int_equal(gc.count, 300 - 256);
	sp_gc_clear(&gc);
}

/* Killed anywhere in a sweep: what is named is whole, and the next sweep does the rest. */
static void
test_killed(void **state)
{
	struct sp_hex kept = put_tree("weights", "config");
	struct sp_gc gc;
	struct sp_tree tree = {0};
	struct sp_err err;
	char text[32];
	int status, pipes[2];
	pid_t pid;

	(void)state;
	for (unsigned i = 0; i < 1000; i++) {
		snprintf(text, sizeof(text), "litter %u", i);
		put(text);
	}
	tick();
	assert_int_equal(pipe(pipes), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct sp_gc_counts counts;

		gc = list();
		root(&gc, kept.s);
		if (write(pipes[1], "x", 1) != 1)
			_exit(1);
		(void)!sp_gc_sweep(store, &gc, 0, NULL, NULL, &counts, &err);
		_exit(0);
	}
	assert_int_equal(read(pipes[0], text, 1), 1);
	/* as soon as something is gone */
	do {
		gc = list();
		status = gc.count < 1003;
		sp_gc_clear(&gc);
	} while (!status);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	sp_store_close(&store);
	check(sp_store_open(dir, 1, &store, &err), &err);
	check(sp_tree_load(store, kept.s, &tree, &err), &err);
	check(sp_tree_verify(store, &tree, &err), &err);
	sp_tree_clear(&tree);
	gc = list();
	root(&gc, kept.s);
	sweep(&gc, 0);
	sp_gc_clear(&gc);
	gc = list();
	assert_int_equal(gc.count, 3);
	sp_gc_clear(&gc);
	close(pipes[0]);
	close(pipes[1]);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_marks),
	    T(test_collects),
	    T(test_news_stay),
	    T(test_looks_like_a_tree),
	    T(test_spoilt_tree),
	    T(test_cancelled),
	    T(test_killed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
