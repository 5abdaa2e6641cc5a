/* store_part.c -- ranges against a plain model, and parts: what a crash, a lie or a full disk
 * leaves of them. */
#include "base/file.h"
#include "store/part.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[64];
static struct sp_err err;

static void
ok(enum sp_code code)
{
	if (code != SP_OK)
		fail_msg("%s: %s", sp_err_word(code), err.msg);
}

/* --- the disk: counts syncs, can refuse them, can be full ----------------------------------------
 */

static int refuse_sync, syncs, refuse_rename, is_full;
static void (*before_lock)(void); /* once: what another does between our open and our lock */

int
fdatasync(int fd)
{
	syncs++;
	if (refuse_sync) {
		errno = EIO;
		return -1;
	}
	return (int)syscall(SYS_fdatasync, fd);
}

int
rename(const char *from, const char *to)
{
	if (refuse_rename) {
		errno = EIO;
		return -1;
	}
	return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

/* A full disk gives what it has left, and keeps it given. */
int
fallocate(int fd, int mode, off_t offset, off_t len)
{
	if (!is_full)
		return (int)syscall(SYS_fallocate, fd, mode, offset, len);
	(void)syscall(SYS_fallocate, fd, mode, offset, len / 2);
	errno = ENOSPC;
	return -1;
}

int
flock(int fd, int how)
{
	void (*other)(void) = before_lock;

	before_lock = NULL;
	if (other != NULL)
		other();
	return (int)syscall(SYS_flock, fd, how);
}

/* --- ranges --------------------------------------------------------------------------------------
 */

#define SPAN 64

static void
compare(const struct sp_ranges *r, const char model[SPAN])
{
	uint64_t bytes = 0;
	struct sp_extent gap;

	for (size_t i = 0; i < r->count; i++) {
		assert_true(r->items[i].from < r->items[i].to);
		assert_true(i == 0 || r->items[i - 1].to < r->items[i].from);
		bytes += r->items[i].to - r->items[i].from;
	}
	assert_int_equal(bytes, r->bytes);
	for (uint64_t at = 0; at < SPAN; at++) {
		uint64_t end = at, missing, to;

		while (end < SPAN && model[end])
			end++;
		assert_int_equal(sp_ranges_end(r, at), end);
		assert_int_equal(sp_ranges_has(r, at, at + 1), model[at]);
		for (missing = at; missing < SPAN && model[missing]; missing++)
			;
		for (to = missing; to < SPAN && !model[to]; to++)
			;
		assert_int_equal(sp_ranges_gap(r, at, SPAN, &gap), missing < SPAN);
		if (missing < SPAN) {
			assert_int_equal(gap.from, missing);
			assert_int_equal(gap.to, to);
		}
	}
}

static void
test_ranges(void **state)
{
	struct sp_ranges ranges = {0}, copy = {0};
	char model[SPAN] = {0};

	(void)state;
	srandom(7);
	for (int i = 0; i < 20000; i++) {
		uint64_t from = (uint64_t)random() % SPAN;
		uint64_t to = from + (uint64_t)random() % (SPAN / 4);
		int add = random() % 2 == 0;

		to = to > SPAN ? SPAN : to;
		if (add)
			sp_ranges_add(&ranges, from, to);
		else
			sp_ranges_remove(&ranges, from, to);
		memset(model + from, add, to - from);
		compare(&ranges, model);
	}
	sp_ranges_copy(&copy, &ranges);
	compare(&copy, model);
	sp_ranges_add(&copy, 0, SPAN);
	assert_int_equal(copy.count, 1);
	sp_ranges_clear(&copy);
	sp_ranges_clear(&ranges);
}

/* --- parts ---------------------------------------------------------------------------------------
 */

static struct sp_store *store;

static int
setup(void **state)
{
	(void)state;
	refuse_sync = 0;
	snprintf(dir, sizeof(dir), "/tmp/sp-part-XXXXXX");
	return mkdtemp(dir) != NULL && sp_store_open(dir, 1, &store, &err) == SP_OK ? 0 : -1;
}

static int
teardown(void **state)
{
	(void)state;
	sp_store_close(&store);
	return sp_file_remove_all(dir, &err) == SP_OK ? 0 : -1;
}

static int
is_there(const char *name)
{
	char *path = sp_xasprintf("%s/tmp/%s", dir, name);
	int there = access(path, F_OK) == 0;

	free(path);
	return there;
}

static void
sync_range(struct sp_part *part, uint64_t from, uint64_t to)
{
	struct sp_ranges ranges = {0};

	sp_ranges_add(&ranges, from, to);
	ok(sp_part_sync(part, &ranges, &err));
	sp_ranges_clear(&ranges);
}

/* A part "x" of 10 bytes as the store has it now. */
static struct sp_part *
open_x(struct sp_ranges *has)
{
	struct sp_part *part = NULL;

	memset(has, 0, sizeof(*has));
	ok(sp_part_open(store, "x", 10, &part, has, &err));
	return part;
}

static void
test_resume(void **state)
{
	struct sp_hex digest = sp_sha256_hex("0123456789", 10), other;
	struct sp_ranges has;
	struct sp_part *part, *second = NULL;
	char bytes[10];
	int status;
	pid_t pid;

	(void)state;
	/* a maker that is killed: what was synced is there, what was only written is not claimed */
	pid = fork();
	if (pid == 0) {
		part = open_x(&has);
		if (has.count != 0 || sp_part_write(part, 2, "23", 2, &err) != SP_OK ||
		    sp_part_write(part, 6, "6789", 4, &err) != SP_OK)
			_exit(1);
		sync_range(part, 2, 4);
		sync_range(part, 8, 10);
		if (sp_part_write(part, 0, "0", 1, &err) != SP_OK)
			_exit(1);
		raise(SIGKILL);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	part = open_x(&has);
	assert_int_equal(has.count, 2);
	assert_int_equal(has.bytes, 4);
	assert_true(sp_ranges_has(&has, 2, 4) && sp_ranges_has(&has, 8, 10));
	sp_ranges_clear(&has);
	/* two at the same time */
	assert_int_equal(sp_part_open(store, "x", 10, &second, &has, &err), SP_E_STATE);
	assert_null(second);
	sp_part_sweep(store, 0);
	assert_true(is_there("part-x") && is_there("part-x.map"));

	ok(sp_part_write(part, 0, "01", 2, &err));
	ok(sp_part_write(part, 4, "4567", 4, &err));
	ok(sp_part_read(part, 0, bytes, 10, &err));
	assert_memory_equal(bytes, "0123456789", 10);
	assert_false(sp_store_has(store, digest.s, NULL));
	ok(sp_part_publish(&part, digest.s, &err));
	assert_null(part);
	ok(sp_store_verify(store, digest.s, NULL, NULL, NULL, &err));
	assert_false(is_there("part-x") || is_there("part-x.map"));
	ok(sp_store_put(store, "0123456789", 10, &other, &err));
}

/* In a process of its own, as a user whom modes bind: 1 when a part whose maker came as far as to
 * make it read-only, but not to publish it, is taken up again. */
static int
is_taken_up(void)
{
	struct sp_hex digest = sp_sha256_hex("0123456789", 10);
	char own[] = "/tmp/store_part-user.XXXXXX";
	struct sp_ranges has;
	struct sp_part *part;
	enum sp_code code;

	if (geteuid() == 0 && setresuid(65534, 65534, 65534) != 0)
		return 0;
	sp_store_close(&store);
	if (mkdtemp(own) == NULL || sp_store_open(own, 1, &store, &err) != SP_OK)
		return 0;
	part = open_x(&has);
	code = sp_part_write(part, 0, "0123456789", 10, &err);
	sync_range(part, 0, 10);
	refuse_rename = 1;
	if (code != SP_OK || sp_part_publish(&part, digest.s, &err) != SP_E_IO)
		return 0;
	refuse_rename = 0;
	code = sp_part_open(store, "x", 10, &part, &has, &err);
	if (code == SP_OK && has.bytes == 10)
		code = sp_part_publish(&part, digest.s, &err);
	if (code != SP_OK)
		fprintf(stderr, "%s\n", err.msg);
	return sp_file_remove_all(own, &err) == SP_OK && code == SP_OK && has.bytes == 10;
}

static void
test_unpublished(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	pid = fork();
	if (pid == 0)
		_exit(is_taken_up() ? 0 : 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void
publish_x(void)
{
	struct sp_hex digest = sp_sha256_hex("0123456789", 10);
	char *from = sp_xasprintf("%s/tmp/part-x", dir), *to = sp_store_path(store, digest.s);

	assert_int_equal(rename(from, to), 0);
	free(from);
	free(to);
}

/* Between our open and our lock, who had the part has made it a blob: that is not written to. */
static void
test_published_meanwhile(void **state)
{
	struct sp_hex digest = sp_sha256_hex("0123456789", 10);
	struct sp_ranges has;
	struct sp_part *part = open_x(&has);

	(void)state;
	ok(sp_part_write(part, 0, "0123456789", 10, &err));
	sp_part_close(&part);
	before_lock = publish_x;
	part = open_x(&has);
	ok(sp_part_write(part, 0, "other", 5, &err));
	sp_part_close(&part);
	ok(sp_store_verify(store, digest.s, NULL, NULL, NULL, &err));
	assert_true(is_there("part-x"));
}

static struct sp_part *next;

static void
publish_and_begin_next(void)
{
	struct sp_ranges has;

	publish_x();
	next = open_x(&has);
}

/* The same of a sweep: the part that has the name by now is another's. */
static void
test_swept_meanwhile(void **state)
{
	struct sp_ranges has;
	struct sp_part *part = open_x(&has);

	(void)state;
	sp_part_close(&part);
	before_lock = publish_and_begin_next;
	sp_part_sweep(store, 0);
	assert_true(is_there("part-x"));
	sp_part_close(&next);
}

/* The map never claims what is not on the disk. */
static void
test_sync_fails(void **state)
{
	struct sp_ranges has, more = {0};
	struct sp_part *part = open_x(&has);

	(void)state;
	ok(sp_part_write(part, 0, "01", 2, &err));
	syncs = 0;
	sync_range(part, 0, 2);
	assert_int_equal(syncs, 2); /* of the bytes, then of the map */
	ok(sp_part_write(part, 2, "2345", 4, &err));
	sp_ranges_add(&more, 2, 6);
	refuse_sync = 1;
	assert_int_equal(sp_part_sync(part, &more, &err), SP_E_IO);
	assert_non_null(strstr(err.msg, "part-x"));
	refuse_sync = 0;
	sp_part_close(&part);
	part = open_x(&has);
	assert_int_equal(has.bytes, 2);
	sp_ranges_clear(&has);
	/* what is forgotten stays forgotten */
	ok(sp_part_reset(part, &err));
	sp_part_close(&part);
	part = open_x(&has);
	assert_int_equal(has.count, 0);
	sp_part_close(&part);
	sp_ranges_clear(&more);
}

/* A file that is not as long as its map says, or of another size, is begun anew. */
static void
test_changed(void **state)
{
	char *path = sp_xasprintf("%s/tmp/part-x", dir);
	struct sp_ranges has;
	struct sp_part *part = open_x(&has);

	(void)state;
	ok(sp_part_write(part, 0, "0123456789", 10, &err));
	sync_range(part, 0, 10);
	sp_part_close(&part);
	assert_int_equal(truncate(path, 5), 0);
	part = open_x(&has);
	assert_int_equal(has.count, 0);
	sync_range(part, 0, 10);
	sp_part_close(&part);
	ok(sp_part_open(store, "x", 20, &part, &has, &err));
	assert_int_equal(has.count, 0);
	sp_part_close(&part);
	part = open_x(&has);
	assert_int_equal(has.count, 0);
	sp_part_close(&part);
	free(path);
}

static void
test_map(void **state)
{
	static const char text[] = "sallyport-part/1 100\n0 10\n5 20\n90 100\n";
	static const struct {
		const char *text;
		enum sp_code code;
		uint64_t bytes;
	} cases[] = {
	    {"sallyport-part/1 100\n", SP_OK, 0},
	    {"sallyport-part/1 101\n0 10\n", SP_E_INVALID, 0},
	    {"sallyport-part/2 100\n0 10\n", SP_E_INVALID, 0},
	    {"", SP_E_INVALID, 0},
	    {"sallyport-part/1 100\n0 10\n20 101\n30 40\n", SP_OK, 10},
	    {"sallyport-part/1 100\n0 10\n20 20\n30 40\n", SP_OK, 10},
	    {"sallyport-part/1 100\n0 10\n20 30", SP_OK, 10},
	    {"sallyport-part/1 100\n0 10\n18446744073709551617 30\n", SP_OK, 10},
	    {"sallyport-part/1 100\n0 10\n-1 30\n", SP_OK, 10},
	    {"sallyport-part/1 100\n0  10\n", SP_OK, 0},
	};
	struct sp_ranges has = {0};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		enum sp_code code = sp_part_parse_map(
		    (const uint8_t *)cases[i].text, strlen(cases[i].text), 100, &has);

		if (code != cases[i].code || has.bytes != cases[i].bytes)
			fail_msg("%zu: %s, %llu bytes", i, sp_err_word(code),
			    (unsigned long long)has.bytes);
		sp_ranges_clear(&has);
	}
	/* cut anywhere it claims no more than whole */
	for (size_t n = 0; n <= sizeof(text) - 1; n++) {
		uint8_t *copy = malloc(n + 1);

		memcpy(copy, text, n);
		if (sp_part_parse_map(copy, n, 100, &has) == SP_OK)
			assert_true(has.bytes <= 30);
		if (n == sizeof(text) - 1)
			assert_int_equal(has.bytes, 30);
		sp_ranges_clear(&has);
		free(copy);
	}
}

static void
test_sweep(void **state)
{
	char *path = sp_xasprintf("%s/tmp/part-gone.map", dir);
	struct sp_ranges has;
	struct sp_part *part = open_x(&has);

	(void)state;
	assert_int_equal(sp_part_allocated(store, "none"), 0);
	ok(sp_part_write(part, 0, "0123456789", 10, &err));
	sync_range(part, 0, 10);
	sp_part_close(&part);
	assert_true(sp_part_allocated(store, "x") >= 10);
	sp_part_sweep(store, 3600);
	assert_true(is_there("part-x"));
	ok(sp_file_write(path, 0600, "", 0, &err));
	sp_part_sweep(store, 0);
	assert_false(is_there("part-x") || is_there("part-x.map") || is_there("part-gone.map"));
	free(path);
}

static void
test_no_room(void **state)
{
	struct sp_ranges has = {0};
	struct sp_part *part = NULL;

	(void)state;
	/* what could be had of it is given back, but bytes that are there already are kept */
	is_full = 1;
	assert_int_equal(sp_part_open(store, "large", 8 << 20, &part, &has, &err), SP_E_NO_SPACE);
	assert_non_null(strstr(err.msg, "part-large"));
	assert_null(part);
	assert_int_equal(sp_part_allocated(store, "large"), 0);
	is_full = 0;
	part = open_x(&has);
	ok(sp_part_write(part, 0, "0123456789", 10, &err));
	sync_range(part, 0, 10);
	sp_part_close(&part);
	is_full = 1;
	assert_int_equal(sp_part_open(store, "x", 10, &part, &has, &err), SP_E_NO_SPACE);
	is_full = 0;
	part = open_x(&has);
	assert_int_equal(has.bytes, 10);
	sp_ranges_clear(&has);
	sp_part_close(&part);
}

/* A map that has grown long is written anew and says the same. */
static void
test_long_map(void **state)
{
	struct sp_ranges has = {0}, one = {0};
	struct sp_part *part = NULL;
	struct stat st;
	char *map = sp_xasprintf("%s/tmp/part-long.map", dir);

	(void)state;
	ok(sp_part_open(store, "long", 4 << 20, &part, &has, &err));
	for (uint64_t i = 0; i < 1 << 17; i++)
		sp_ranges_add(&one, 2 * i, 2 * i + 1);
	ok(sp_part_sync(part, &one, &err));
	assert_int_equal(stat(map, &st), 0);
	assert_true(st.st_size > 1 << 20);
	sync_range(part, 0, 4 << 20);
	assert_int_equal(stat(map, &st), 0);
	assert_true(st.st_size < 100);
	sp_part_close(&part);
	ok(sp_part_open(store, "long", 4 << 20, &part, &has, &err));
	assert_int_equal(has.bytes, 4 << 20);
	sp_part_close(&part);
	sp_ranges_clear(&has);
	sp_ranges_clear(&one);
	free(map);
}

int
main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_ranges),
	    cmocka_unit_test(test_map),
	    T(test_resume),
	    T(test_unpublished),
	    T(test_published_meanwhile),
	    T(test_swept_meanwhile),
	    T(test_sync_fails),
	    T(test_changed),
	    T(test_sweep),
	    T(test_no_room),
	    T(test_long_map),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
