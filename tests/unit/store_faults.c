/*
 * store_faults.c -- each call by which the store changes the disk fails once, for each of its
 * operations: the error says which disk, nothing half-done can be seen, and the next try succeeds.
 * The calls are this program's own, which is also how it sees what the store asks of filesystems
 * that this machine does not have: clones and fs-verity.
 */
#include "base/file.h"
#include "store/gc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <linux/fsverity.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* --- calls that can fail ---------------------------------------------------------------------- */

static int armed;		/* errno that a call shall fail with, 0: none */
static unsigned calls, fail_at; /* since it was armed; the one that fails, from 1 */
static int hit;

/* A full disk stays full; another fault passes. */
static int
fails(void)
{
	if (armed == 0)
		return 0;
	calls++;
	if (calls != fail_at && !(hit && armed == ENOSPC))
		return 0;
	hit = 1;
	errno = armed;
	return 1;
}

ssize_t
write(int fd, const void *data, size_t len)
{
	int was_hit = hit;

	if (fd <= STDERR_FILENO || !fails())
		return syscall(SYS_write, fd, data, len);
	/* what is still free is written */
	if (armed == ENOSPC && !was_hit && len > 1)
		return syscall(SYS_write, fd, data, len / 2);
	return -1;
}

int
fsync(int fd)
{
	(void)fd;
	/* thousands of them, and no power is cut here */
	return fails() ? -1 : 0;
}

int
rename(const char *from, const char *to)
{
	return fails() ? -1 : (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int
renameat(int from_fd, const char *from, int to_fd, const char *to)
{
	return fails() ? -1 : (int)syscall(SYS_renameat2, from_fd, from, to_fd, to, 0);
}

int
fchmod(int fd, mode_t mode)
{
	return fails() ? -1 : (int)syscall(SYS_fchmod, fd, mode);
}

/* --- calls of filesystems that can more ------------------------------------------------------- */

static int can_clone; /* FICLONE copies, as it seems to who asks */
static unsigned clones, verities;

/* The kernel refuses verity for a file that somebody has open for writing. */
static int
is_open_for_writing(int fd)
{
	struct dirent *entry;
	struct stat st, other_st;
	DIR *fds = opendir("/proc/self/fd");
	int found = 0, n;

	assert_non_null(fds);
	assert_int_equal(fstat(fd, &st), 0);
	while ((entry = readdir(fds)) != NULL) {
		n = entry->d_name[0] != '.' ? (int)strtol(entry->d_name, NULL, 10) : -1;
		if (n >= 0 && fstat(n, &other_st) == 0 && other_st.st_ino == st.st_ino &&
		    other_st.st_dev == st.st_dev)
			found |= (fcntl(n, F_GETFL) & O_ACCMODE) != O_RDONLY;
	}
	closedir(fds);
	return found;
}

static int
clone_file(int to_fd, int from_fd)
{
	char buf[4096];
	off_t at = 0;
	ssize_t n;

	while ((n = pread(from_fd, buf, sizeof(buf), at)) > 0) {
		if (pwrite(to_fd, buf, (size_t)n, at) != n)
			return -1;
		at += n;
	}
	return n == 0 ? 0 : -1;
}

int
ioctl(int fd, unsigned long request, ...)
{
	struct fsverity_enable_arg *arg;
	va_list ap;
	int rc = -1;

	va_start(ap, request);
	errno = EOPNOTSUPP;
	if (request == FICLONE && can_clone) {
		clones++;
		rc = clone_file(fd, va_arg(ap, int));
	} else if (request == FS_IOC_ENABLE_VERITY) {
		arg = va_arg(ap, struct fsverity_enable_arg *);
		assert_int_equal(arg->version, 1);
		assert_int_equal(arg->hash_algorithm, FS_VERITY_HASH_ALG_SHA256);
		assert_false(is_open_for_writing(fd));
		verities++;
	}
	va_end(ap);
	return rc;
}

/* --- a store, and one to copy from ------------------------------------------------------------ */

static char dir[64];
static struct sp_store *store, *other;
static struct sp_hex tree; /* in the other one */

static void
check(enum sp_code code, const struct sp_err *err)
{
	if (code != SP_OK)
		fail_msg("%s: %s", sp_err_word(code), err->msg);
}

static const char *
at(const char *name)
{
	static char paths[4][PATH_MAX];
	static unsigned turn;
	char *path = paths[turn++ % 4];

	snprintf(path, PATH_MAX, "%s/%s", dir, name);
	return path;
}

static void
open_all(void)
{
	struct sp_tree t = {0};
	struct sp_err err;

	snprintf(dir, sizeof(dir), "/tmp/sp-store-faults-XXXXXX");
	assert_non_null(mkdtemp(dir));
	check(sp_file_mkdirs(at("model/sub"), 0755, &err), &err);
	check(sp_file_write(at("model/config.json"), 0644, "{}", 2, &err), &err);
	check(sp_file_write(at("model/sub/weights"), 0644, "0123456789", 10, &err), &err);
	check(sp_store_open(at("other"), 1, &other, &err), &err);
	check(sp_tree_import(other, at("model"), &t, &tree, &err), &err);
	sp_tree_clear(&t);
	check(sp_store_open(at("own"), 1, &store, &err), &err);
}

static void
close_all(void)
{
	struct sp_err err;

	sp_store_close(&store);
	sp_store_close(&other);
	check(sp_file_remove_all(dir, &err), &err);
}

static unsigned
count_files(const char *path)
{
	struct dirent *entry;
	unsigned count = 0;
	DIR *d = opendir(path);

	assert_non_null(d);
	while ((entry = readdir(d)) != NULL)
		count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
	closedir(d);
	return count;
}

/* Every blob that can be seen is whole, every tree has its files, and nothing else lies about. */
static void
expect_sound(void)
{
	struct sp_tree t = {0};
	struct sp_gc gc;
	struct sp_err err;
	size_t i;

	assert_int_equal(count_files(at("own/tmp")), 0);
	check(sp_gc_list(store, &gc, &err), &err);
	for (i = 0; i < gc.count; i++)
		check(
		    sp_store_verify(store, sp_hex_of(gc.blobs[i].digest).s, NULL, NULL, NULL, &err),
		    &err);
	if (sp_store_has(store, tree.s, NULL)) {
		check(sp_tree_load(store, tree.s, &t, &err), &err);
		check(sp_tree_verify(store, &t, &err), &err);
		sp_tree_clear(&t);
	}
	sp_gc_clear(&gc);
}

static void
empty(void)
{
	struct sp_gc gc;
	struct sp_err err;
	size_t i;

	check(sp_gc_list(store, &gc, &err), &err);
	for (i = 0; i < gc.count; i++)
		check(sp_store_remove(store, sp_hex_of(gc.blobs[i].digest).s, &err), &err);
	sp_gc_clear(&gc);
	check(sp_file_remove_all(at("out"), &err), &err);
}

/* --- operations ------------------------------------------------------------------------------- */

static enum sp_code
do_put(struct sp_err *err)
{
	struct sp_hex digest;

	return sp_store_put(store, "some text", 9, &digest, err);
}

static enum sp_code
do_put_file(struct sp_err *err)
{
	struct sp_hex digest;

	return sp_store_put_file(store, at("model/sub/weights"), NULL, &digest, NULL, err);
}

static enum sp_code
do_import(struct sp_err *err)
{
	struct sp_tree t = {0};
	struct sp_hex digest;
	enum sp_code code = sp_tree_import(store, at("model"), &t, &digest, err);

	if (code == SP_OK)
		assert_string_equal(digest.s, tree.s);
	sp_tree_clear(&t);
	return code;
}

static enum sp_code
do_copy(struct sp_err *err)
{
	return sp_tree_copy(store, other, tree.s, NULL, NULL, err);
}

static enum sp_code
do_materialize(struct sp_err *err)
{
	struct sp_tree t = {0};
	enum sp_code code = sp_tree_load(other, tree.s, &t, err);

	if (code == SP_OK)
		code = sp_tree_materialize(other, &t, at("out"), NULL, NULL, err);
	sp_tree_clear(&t);
	return code;
}

static enum sp_code
do_expire(struct sp_err *err)
{
	int removed;

	return sp_store_expire(store, sp_sha256_hex("old", 3).s, INT64_MAX, &removed, err);
}

static const struct operation {
	const char *name;
	enum sp_code (*run)(struct sp_err *err);
	const char *place; /* below dir: what the error names; NULL: dir itself */
	unsigned calls_min;
} operations[] = {
    {"put", do_put, "own", 5},
    {"put_file", do_put_file, "own", 5},
    {"tree_import", do_import, "own", 15},
    {"tree_copy", do_copy, "own", 15},
    {"materialize", do_materialize, NULL, 6},
    {"expire", do_expire, "own", 1},
};

/* What is below out is a file of the tree, whole, or the one in the making. */
static void
expect_no_half_file(void)
{
	static const struct {
		const char *path, *text;
	} files[] = {{"out/config.json", "{}"}, {"out/sub/weights", "0123456789"}};
	struct sp_err err;
	uint8_t *data;
	size_t len, i;

	for (i = 0; i < 2; i++) {
		if (access(at(files[i].path), F_OK) != 0)
			continue;
		check(sp_file_read(at(files[i].path), 100, &data, &len, &err), &err);
		assert_string_equal((char *)data, files[i].text);
		free(data);
	}
	assert_int_equal(access(at("out/.sallyport\\partial"), F_OK), -1);
}

/* Fails the nth call; 0 when the operation does not make so many. */
static int
fail_one(const struct operation *op, int errnum, unsigned n)
{
	struct sp_err err = {SP_OK, ""};
	struct sp_hex digest;
	enum sp_code code;

	check(sp_store_put(store, "old", 3, &digest, &err), &err);
	armed = errnum;
	calls = 0;
	fail_at = n;
	hit = 0;
	code = op->run(&err);
	armed = 0;
	if (hit) {
		if (code != (errnum == ENOSPC ? SP_E_NO_SPACE : SP_E_IO))
			fail_msg("%s, call %u, %s: %s", op->name, n, strerror(errnum),
			    code == SP_OK ? "succeeds" : err.msg);
		if (strstr(err.msg, op->place != NULL ? at(op->place) : dir) == NULL ||
		    strstr(err.msg, strerror(errnum)) == NULL)
			fail_msg(
			    "%s, call %u: \"%s\" does not say where or why", op->name, n, err.msg);
	}
	expect_sound();
	expect_no_half_file();
	code = op->run(&err);
	check(code, &err);
	expect_sound();
	empty();
	return hit;
}

static void
test_every_call_fails(void **state)
{
	static const int errors[] = {ENOSPC, EIO, EROFS};
	const size_t count = sizeof(operations) / sizeof(*operations);
	unsigned n;

	(void)state;
	open_all();
	for (size_t i = 0; i < count; i++)
		for (size_t e = 0; e < 3; e++) {
			for (n = 1; fail_one(&operations[i], errors[e], n); n++)
				;
			if (n - 1 < operations[i].calls_min)
				fail_msg("%s: only %u calls were put to the test",
				    operations[i].name, n - 1);
		}
	close_all();
}

/* --- what filesystems can more ---------------------------------------------------------------- */

/* A clone where there is one, a copy where not; either way the digest is that of what was made. */
static void
test_clones(void **state)
{
	struct sp_err err;

	(void)state;
	open_all();
	can_clone = 1;
	clones = 0;
	check(do_import(&err), &err);
	assert_int_equal(clones, 2);
	check(do_copy(&err), &err); /* all is there already */
	assert_int_equal(clones, 2);
	check(do_materialize(&err), &err);
	assert_int_equal(clones, 4);
	expect_sound();
	expect_no_half_file();
	can_clone = 0;
	close_all();
}

/* A clone of a blob that another daemon's disk has spoilt is found out, as a copy of it is. */
static void
test_spoilt_clone(void **state)
{
	char *path;
	struct sp_err err;

	(void)state;
	for (can_clone = 0; can_clone < 2; can_clone++) {
		open_all();
		path = sp_store_path(other, sp_sha256_hex("0123456789", 10).s);
		assert_int_equal(chmod(path, 0640), 0);
		assert_int_equal(truncate(path, 9), 0);
		free(path);
		assert_int_equal(do_copy(&err), SP_E_CORRUPT);
		assert_false(sp_store_has(store, tree.s, NULL));
		expect_sound();
		assert_int_equal(do_materialize(&err), SP_E_CORRUPT);
		expect_no_half_file();
		close_all();
	}
	can_clone = 0;
}

/* Each blob once, after it was published and when nobody has it open for writing. */
static void
test_verity(void **state)
{
	struct sp_err err;

	(void)state;
	open_all();
	verities = 0;
	check(do_put(&err), &err);
	assert_int_equal(verities, 1);
	check(do_import(&err), &err);
	assert_int_equal(verities, 4);
	check(do_copy(&err), &err);
	assert_int_equal(verities, 4);
	close_all();
}

/* Read-only for all, readable for the group; directories that others cannot enter. */
static void
test_modes(void **state)
{
	struct sp_hex digest;
	struct stat st;
	struct sp_err err;
	char *path;

	(void)state;
	open_all();
	check(sp_store_put(store, "x", 1, &digest, &err), &err);
	path = sp_store_path(store, digest.s);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0440);
	assert_int_equal(st.st_nlink, 1);
	*strrchr(path, '/') = '\0';
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0007, 0);
	assert_int_equal(strncmp(strrchr(path, '/') + 1, digest.s, 2), 0);
	assert_int_equal(strlen(strrchr(path, '/') + 1), 2);
	free(path);
	close_all();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_every_call_fails),
	    cmocka_unit_test(test_clones),
	    cmocka_unit_test(test_spoilt_clone),
	    cmocka_unit_test(test_verity),
	    cmocka_unit_test(test_modes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
