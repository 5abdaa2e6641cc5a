/* store.c -- blobs and trees: crash safety, damage, hostile listings, full disks. */
#include "base/file.h"
#include "store/tree.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- what the store asks of the kernel, in order: 'f' fsync of a file, 'd' of a directory, 'r' ---
 */

static char calls[64];
static size_t call_count;

static void
note(char call)
{
	if (call_count < sizeof(calls) - 1)
		calls[call_count++] = call;
	calls[call_count] = '\0';
}

int
fsync(int fd)
{
	struct stat st;

	note(fstat(fd, &st) == 0 && S_ISDIR(st.st_mode) ? 'd' : 'f');
	return (int)syscall(SYS_fsync, fd);
}

int
rename(const char *from, const char *to)
{
	note('r');
	return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

/* --- a directory per test -----------------------------------------------------------------------
 */

static char dir[64];

static int
setup(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/sp-store-XXXXXX");
	return mkdtemp(dir) != NULL ? 0 : -1;
}

static int
teardown(void **state)
{
	struct sp_err err;

	(void)state;
	return sp_file_remove_all(dir, &err) == SP_OK ? 0 : -1;
}

/* dir/name, in one of a few static buffers */
static const char *
in_dir(const char *name)
{
	static char paths[8][PATH_MAX];
	static unsigned next;
	char *path = paths[next++ % 8];

	snprintf(path, PATH_MAX, "%s/%s", dir, name);
	return path;
}

static void
check(enum sp_code code, const struct sp_err *err)
{
	if (code != SP_OK)
		fail_msg("%s: %s", sp_err_word(code), err->msg);
}

static struct sp_store *
open_store(const char *name, int writable)
{
	struct sp_store *store = NULL;
	struct sp_err err;

	check(sp_store_open(in_dir(name), writable, &store, &err), &err);
	return store;
}

static struct sp_hex
put(struct sp_store *store, const char *text)
{
	struct sp_hex digest;
	struct sp_err err;

	check(sp_store_put(store, text, strlen(text), &digest, &err), &err);
	return digest;
}

static size_t
count_entries(const char *path)
{
	DIR *d = opendir(path);
	struct dirent *entry;
	size_t n = 0;

	assert_non_null(d);
	while ((entry = readdir(d)) != NULL)
		n += entry->d_name[0] != '.';
	closedir(d);
	return n;
}

static void
write_file(const char *path, const char *text, mode_t mode)
{
	struct sp_err err;

	check(sp_file_write(path, mode, text, strlen(text), &err), &err);
}

/* Overwrites a blob where it lies, as a disk would that goes bad. */
static void
spoil(const struct sp_store *store, const char *digest, const char *text)
{
	char *path = sp_store_path(store, digest);
	int fd;

	assert_int_equal(chmod(path, 0640), 0);
	fd = open(path, O_WRONLY | O_TRUNC);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
	free(path);
}

/* --- blobs --------------------------------------------------------------------------------------
 */

static void
test_blob(void **state)
{
	struct sp_store *store = open_store("s", 1), *other;
	struct sp_hex digest, again;
	uint8_t *data = NULL;
	struct sp_err err;
	struct stat st;
	uint64_t size;
	size_t len;
	char *path;

	(void)state;
	call_count = 0;
	digest = put(store, "hello");
	/* bytes, then the name, then the directory: never a name without bytes */
	assert_string_equal(calls, "frd");
	assert_string_equal(
	    digest.s, "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
	again = put(store, "hello");
	assert_string_equal(digest.s, again.s);
	assert_int_equal(count_entries(in_dir("s/tmp")), 0);
	path = sp_store_path(store, digest.s);
	assert_string_equal(path + strlen(dir),
	    "/s/sha256/2c/f24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0440);
	free(path);

	other = open_store("s", 0);
	assert_true(sp_store_has(other, digest.s, &size));
	assert_int_equal(size, 5);
	check(sp_store_read(other, digest.s, 5, &data, &len, &err), &err);
	assert_int_equal(len, 5);
	assert_string_equal((char *)data, "hello");
	free(data);
	assert_int_equal(sp_store_read(other, digest.s, 4, &data, &len, &err), SP_E_LIMIT);

	/* what is no digest names nothing, wherever it points */
	assert_false(sp_store_has(other, "../../../../etc/passwd", NULL));
	assert_null(sp_store_path(other, "2CF24DBA"));
	assert_int_equal(sp_store_read(other, "", 9, &data, &len, &err), SP_E_INVALID);
	digest.s[0] = 'f';
	assert_int_equal(sp_store_read(other, digest.s, 9, &data, &len, &err), SP_E_NOT_FOUND);
	sp_store_close(&other);
	sp_store_close(&store);
	assert_int_equal(sp_store_open(in_dir("none"), 0, &store, &err), SP_E_NOT_FOUND);
	assert_null(store);
}

static void
test_damage(void **state)
{
	struct sp_store *store = open_store("s", 1), *mine = open_store("t", 1);
	struct sp_hex digest = put(store, "some bytes"), wrong = put(mine, "x");
	struct sp_store_writer *w = NULL;
	uint8_t *data = NULL;
	struct sp_err err;
	size_t len;

	(void)state;
	spoil(store, digest.s, "some bytEs");
	assert_int_equal(sp_store_read(store, digest.s, 99, &data, &len, &err), SP_E_CORRUPT);
	assert_non_null(strstr(err.msg, digest.s));
	assert_int_equal(sp_store_verify(store, digest.s, NULL, NULL, NULL, &err), SP_E_CORRUPT);
	assert_int_equal(sp_store_copy(mine, store, digest.s, NULL, NULL, &err), SP_E_CORRUPT);
	assert_false(sp_store_has(mine, digest.s, NULL));
	assert_int_equal(count_entries(in_dir("t/tmp")), 0);
	/* putting the true bytes again heals it */
	put(store, "some bytes");
	check(sp_store_copy(mine, store, digest.s, NULL, NULL, &err), &err);

	check(sp_store_begin(mine, &w, &err), &err);
	check(sp_store_write(w, "other", 5, &err), &err);
	assert_int_equal(sp_store_commit(&w, wrong.s, NULL, &err), SP_E_CORRUPT);
	assert_null(w);
	assert_int_equal(count_entries(in_dir("t/tmp")), 0);
	check(sp_store_remove(mine, wrong.s, &err), &err);
	assert_false(sp_store_has(mine, wrong.s, NULL));
	check(sp_store_remove(mine, wrong.s, &err), &err);
	sp_store_close(&mine);
	sp_store_close(&store);
}

/* A store that somebody else writes: under a blob's name may lie anything. */
static void
test_hostile_store(void **state)
{
	struct sp_store *store = open_store("s", 1);
	struct sp_hex digest = put(store, "secret");
	char *path = sp_store_path(store, digest.s);
	uint8_t *data = NULL;
	struct sp_err err;
	size_t len;

	(void)state;
	write_file(in_dir("secret"), "secret", 0600);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(symlink(in_dir("secret"), path), 0);
	assert_false(sp_store_has(store, digest.s, NULL));
	assert_int_not_equal(sp_store_read(store, digest.s, 99, &data, &len, &err), SP_OK);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(sp_store_read(store, digest.s, 99, &data, &len, &err), SP_E_CORRUPT);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(sp_store_read(store, digest.s, 99, &data, &len, &err), SP_E_CORRUPT);
	free(path);
	sp_store_close(&store);
}

/* Killed in the middle of a blob: nothing of it is seen, and the next open removes the leftover;
 * what a living writer writes stays. */
static void
test_kill(void **state)
{
	struct sp_store *store = open_store("s", 1), *second;
	struct sp_store_writer *w = NULL;
	struct sp_hex digest;
	struct sp_err err;
	int ready[2], status;
	char c;
	pid_t pid;

	(void)state;
	assert_int_equal(pipe(ready), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (sp_store_begin(store, &w, &err) != SP_OK ||
		    sp_store_write(w, "half", 4, &err) != SP_OK || write(ready[1], "x", 1) != 1)
			_exit(1);
		pause();
		_exit(1);
	}
	assert_int_equal(read(ready[0], &c, 1), 1);
	close(ready[0]);
	close(ready[1]);
	assert_int_equal(count_entries(in_dir("s/tmp")), 1);
	second = open_store("s", 1);
	assert_int_equal(count_entries(in_dir("s/tmp")), 1);
	sp_store_close(&second);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(count_entries(in_dir("s/tmp")), 1);

	check(sp_store_begin(store, &w, &err), &err);
	check(sp_store_write(w, "whole", 5, &err), &err);
	second = open_store("s", 1);
	assert_int_equal(count_entries(in_dir("s/tmp")), 1);
	check(sp_store_commit(&w, NULL, &digest, &err), &err);
	assert_true(sp_store_has(second, digest.s, NULL));
	assert_int_equal(count_entries(in_dir("s/tmp")), 0);
	sp_store_close(&second);
	sp_store_close(&store);
}

/* Runs in a child. 0 when a blob too large for the disk fails as it should and leaves nothing. */
static int
fill(enum sp_code expected)
{
	struct sp_store *store = NULL;
	struct sp_store_writer *w = NULL;
	enum sp_code code = SP_OK;
	char *chunk = calloc(1, 65536);
	struct sp_err err;
	int i;

	if (sp_store_open(in_dir("m/s"), 1, &store, &err) != SP_OK ||
	    sp_store_begin(store, &w, &err) != SP_OK)
		return 2;
	for (i = 0; code == SP_OK && i < 256; i++)
		code = sp_store_write(w, chunk, 65536, &err);
	if (code != expected)
		return 3;
	sp_store_abort(&w);
	if (count_entries(in_dir("m/s/tmp")) != 0)
		return 4;
	/* the space is free again */
	if (sp_store_put(store, chunk, 65536, NULL, &err) != SP_OK)
		return 5;
	sp_store_close(&store);
	free(chunk);
	return 0;
}

static void
test_full(void **state)
{
	const struct rlimit limit = {.rlim_cur = 1 << 20, .rlim_max = 1 << 20};
	int status;
	pid_t pid;

	(void)state;
	assert_int_equal(mkdir(in_dir("m"), 0700), 0);
	pid = fork();
	if (pid == 0) {
		signal(SIGXFSZ, SIG_IGN);
		_exit(setrlimit(RLIMIT_FSIZE, &limit) == 0 ? fill(SP_E_IO) : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);

	/* a disk that is really full, where we may mount one */
	pid = fork();
	if (pid == 0) {
		if (unshare(CLONE_NEWNS) != 0 ||
		    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
		    mount("tmpfs", in_dir("m"), "tmpfs", 0, "size=4m") != 0)
			_exit(77);
		_exit(fill(SP_E_NO_SPACE));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		print_message("full tmpfs: not checked, mounting needs privileges\n");
	else
		assert_int_equal(WEXITSTATUS(status), 0);
}

/* --- listings -----------------------------------------------------------------------------------
 */

#define H "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
#define TOP "sallyport-tree/1\n"

static enum sp_code
parse(const char *text, size_t len, struct sp_tree *tree, struct sp_err *err)
{
	/* of the very size, so that a sanitizer sees a byte too far */
	uint8_t *copy = malloc(len > 0 ? len : 1);
	enum sp_code code;

	memcpy(copy, text, len);
	memset(tree, 0, sizeof(*tree));
	code = sp_tree_parse(copy, len, tree, err);
	free(copy);
	return code;
}

static void
test_listing(void **state)
{
	static const char text[] = TOP "0644 0 " H " a\n"
				       "0755 5 " H " a-b\n"
				       "0644 7 " H " b c/d e\n";
	struct sp_tree tree, built = {0};
	const struct sp_tree_file *file;
	struct sp_err err;
	uint8_t *data = NULL;
	size_t len;

	(void)state;
	check(parse(text, sizeof(text) - 1, &tree, &err), &err);
	assert_int_equal(tree.count, 3);
	assert_int_equal(sp_tree_bytes(&tree), 12);
	file = sp_tree_find(&tree, "b c/d e");
	assert_non_null(file);
	assert_int_equal(file->size, 7);
	assert_string_equal(file->sha256.s, H);
	assert_false(file->executable);
	assert_null(sp_tree_find(&tree, "b c"));
	assert_null(sp_tree_find(&tree, ""));

	for (size_t i = tree.count; i-- > 0;)
		check(sp_tree_add(&built, tree.files[i].path, tree.files[i].size,
			  tree.files[i].sha256.s, tree.files[i].executable, &err),
		    &err);
	assert_non_null(sp_tree_find(&built, "a-b"));
	check(sp_tree_format(&built, &data, &len, &err), &err);
	assert_int_equal(len, sizeof(text) - 1);
	assert_memory_equal(data, text, len);
	assert_true(sp_tree_find(&built, "a-b")->executable);
	free(data);
	sp_tree_clear(&built);
	sp_tree_clear(&tree);

	/* cut anywhere but after a line, it is refused */
	for (size_t n = 0; n < sizeof(text) - 1; n++) {
		int at_line = n >= sizeof(TOP) - 1 && text[n - 1] == '\n';

		assert_int_equal(parse(text, n, &tree, &err) == SP_OK, at_line);
		sp_tree_clear(&tree);
	}
	check(parse(TOP, sizeof(TOP) - 1, &tree, &err), &err);
	assert_int_equal(tree.count, 0);
}

static const struct {
	const char *text, *says;
} hostile[] = {
    {"sallyport-tree/2\n", "line 1"},
    {"sallyport-tree/1\r\n", "line 1"},
    {TOP "\n", "line 2 of a tree: bad mode"},
    {TOP "0600 1 " H " a\n", "mode"},
    {TOP "0644  1 " H " a\n", "size"},
    {TOP "0644 01 " H " a\n", "size"},
    {TOP "0644 +1 " H " a\n", "size"},
    {TOP "0644 -1 " H " a\n", "size"},
    {TOP "0644 0x1 " H " a\n", "size"},
    {TOP "0644 18446744073709551616 " H " a\n", "size"},
    {TOP "0644 9223372036854775808 " H " a\n", "63 bits"},
    {TOP "0644 9223372036854775807 " H " a\n0644 1 " H " b\n", "line 3"},
    {TOP "0644 1 2CF24DBA5FB0A30E26E83B2AC5B9E29E1B161E5C1FA7425E73043362938B9824 a\n", "digest"},
    {TOP "0644 1 2cf2 a\n", "digest"},
    {TOP "0644 1 " H " \n", "path is empty"},
    {TOP "0644 1 " H " /a\n", "not relative"},
    {TOP "0644 1 " H " a/../b\n", "\"..\""},
    {TOP "0644 1 " H " ..\n", "\"..\""},
    {TOP "0644 1 " H " ./a\n", "\".\""},
    {TOP "0644 1 " H " a//b\n", "empty component"},
    {TOP "0644 1 " H " a/\n", "empty component"},
    {TOP "0644 1 " H " a\\b\n", "backslash"},
    {TOP "0644 1 " H " a\tb\n", "control"},
    {TOP "0644 1 " H " a\r\n", "control"},
    {TOP "0644 1 " H " a\xc2\x85\n", "control"},
    {TOP "0644 1 " H " a\xff\n", "UTF-8"},
    {TOP "0644 1 " H " \xc0\xaf\n", "UTF-8"},
    {TOP "0644 1 " H " b\n0644 1 " H " a\n", "out of order"},
    {TOP "0644 1 " H " a\n0644 1 " H " a\n", "out of order"},
    {TOP "0644 1 " H " a\n0644 1 " H " a/b\n", "clash"},
    {TOP "0644 1 " H " a\n0644 1 " H " a-b\n0644 1 " H " a-b-c\n0644 1 " H " a/b\n",
	"path clashes with that of line 2"},
    {TOP "0644 1 " H " a", "cut"},
};

static void
test_hostile_listing(void **state)
{
	char *text = malloc(1 << 20);
	struct sp_tree tree;
	struct sp_err err;
	size_t len;

	(void)state;
	for (size_t i = 0; i < sizeof(hostile) / sizeof(hostile[0]); i++) {
		enum sp_code code = parse(hostile[i].text, strlen(hostile[i].text), &tree, &err);

		if (code == SP_OK)
			sp_tree_clear(&tree);
		if (code == SP_OK || strstr(err.msg, hostile[i].says) == NULL)
			fail_msg("%zu: %s: not \"%s\"", i, code == SP_OK ? "ok" : err.msg,
			    hostile[i].says);
	}
	/* two spaces: the path begins with one */
	check(parse(TOP "0644 1 " H "  a\n", sizeof(TOP) - 1 + 7 + 64 + 4, &tree, &err), &err);
	assert_string_equal(tree.files[0].path, " a");
	sp_tree_clear(&tree);
	/* NUL in a path */
	assert_int_equal(
	    parse(TOP "0644 1 " H " a\0b\n", sizeof(TOP) - 1 + 7 + 64 + 1 + 4, &tree, &err),
	    SP_E_INVALID);
	/* a path of 1,025 bytes */
	len = (size_t)sprintf(text, TOP "0644 1 " H " ");
	memset(text + len, 'p', 1025);
	text[len + 1025] = '\n';
	assert_int_equal(parse(text, len + 1026, &tree, &err), SP_E_LIMIT);
	text[len + 1024] = '\n';
	check(parse(text, len + 1025, &tree, &err), &err);
	sp_tree_clear(&tree);
	free(text);
}

/* Files that all are prefixes of one another: the search for clashes stays fast. */
static void
test_prefixes(void **state)
{
	char path[SP_PATH_MAX + 1];
	struct sp_tree tree = {0};
	struct sp_err err;
	uint8_t *data = NULL;
	size_t len;

	(void)state;
	memset(path, 'a', sizeof(path));
	path[SP_PATH_MAX] = '\0';
	for (size_t n = SP_PATH_MAX; n > 0; n--) {
		path[n] = '\0';
		check(sp_tree_add(&tree, path, 1, H, 0, &err), &err);
	}
	check(sp_tree_format(&tree, &data, &len, &err), &err);
	free(data);
	check(sp_tree_add(&tree, "aaa/b", 1, H, 0, &err), &err);
	assert_int_equal(sp_tree_format(&tree, &data, &len, &err), SP_E_INVALID);
	assert_non_null(strstr(err.msg, "\"aaa/b\""));
	assert_int_equal(sp_tree_add(&tree, "../x", 1, H, 0, &err), SP_E_INVALID);
	assert_int_equal(sp_tree_add(&tree, "x", 1, "abc", 0, &err), SP_E_INVALID);
	assert_int_equal(sp_tree_add(&tree, "x", UINT64_MAX, H, 0, &err), SP_E_LIMIT);
	sp_tree_clear(&tree);
}

/* --- trees on disk ------------------------------------------------------------------------------
 */

static struct sp_hex
import_model(struct sp_store *store, struct sp_tree *tree)
{
	struct sp_hex digest;
	struct sp_err err;

	assert_int_equal(mkdir(in_dir("model"), 0755), 0);
	assert_int_equal(mkdir(in_dir("model/sub"), 0755), 0);
	assert_int_equal(mkdir(in_dir("model/sub/empty"), 0755), 0);
	write_file(in_dir("model/config.json"), "{}", 0644);
	write_file(in_dir("model/sub/run"), "#!/bin/sh\n", 0755);
	write_file(in_dir("model/sub/nothing"), "", 0600);
	check(sp_tree_import(store, in_dir("model"), tree, &digest, &err), &err);
	return digest;
}

static void
test_import(void **state)
{
	struct sp_store *store = open_store("s", 1);
	struct sp_tree tree = {0}, loaded = {0};
	struct sp_hex digest = import_model(store, &tree), again;
	struct sp_git_oid revision;
	struct sp_err err;

	(void)state;
	assert_int_equal(tree.count, 3);
	assert_true(sp_tree_find(&tree, "sub/run")->executable);
	check(sp_tree_load(store, digest.s, &loaded, &err), &err);
	assert_int_equal(loaded.count, 3);
	assert_string_equal(loaded.files[0].path, "config.json");
	check(sp_tree_verify(store, &loaded, &err), &err);
	check(sp_tree_save(store, &loaded, &again, &err), &err);
	assert_string_equal(digest.s, again.s);
	/* the same without a store */
	sp_tree_clear(&loaded);
	check(sp_tree_scan(in_dir("model"), NULL, NULL, &loaded, &again, &err), &err);
	assert_string_equal(digest.s, again.s);
	assert_int_equal(sp_tree_bytes(&loaded), sp_tree_bytes(&tree));
	revision = sp_tree_revision(digest.s);
	assert_int_equal(strlen(revision.s), 40);
	assert_memory_equal(revision.s, digest.s, 40);
	sp_tree_clear(&loaded);
	sp_tree_clear(&tree);

	assert_int_equal(symlink("/etc/passwd", in_dir("model/sub/link")), 0);
	assert_int_equal(
	    sp_tree_import(store, in_dir("model"), &tree, &digest, &err), SP_E_INVALID);
	assert_int_equal(
	    sp_tree_scan(in_dir("model"), NULL, NULL, &tree, &digest, &err), SP_E_INVALID);
	assert_non_null(strstr(err.msg, "sub/link"));
	assert_int_equal(unlink(in_dir("model/sub/link")), 0);
	assert_int_equal(symlink("sub", in_dir("model/dir")), 0);
	assert_int_equal(
	    sp_tree_import(store, in_dir("model"), &tree, &digest, &err), SP_E_INVALID);
	assert_int_equal(unlink(in_dir("model/dir")), 0);
	assert_int_equal(mkfifo(in_dir("model/fifo"), 0600), 0);
	assert_int_equal(
	    sp_tree_import(store, in_dir("model"), &tree, &digest, &err), SP_E_INVALID);
	assert_non_null(strstr(err.msg, "model/fifo"));
	assert_int_equal(unlink(in_dir("model/fifo")), 0);
	write_file(in_dir("model/line\nbreak"), "", 0600);
	assert_int_equal(
	    sp_tree_import(store, in_dir("model"), &tree, &digest, &err), SP_E_INVALID);
	sp_store_close(&store);
}

static uint64_t last_done, last_total;

static void
on_progress(void *ctx, uint64_t done, uint64_t total)
{
	(void)ctx;
	assert_true(done >= last_done && done <= total);
	last_done = done;
	last_total = total;
}

static void
expect_file(const char *name, const char *text, mode_t mode)
{
	uint8_t *data = NULL;
	struct sp_err err;
	struct stat st;
	size_t len;

	check(sp_file_read(in_dir(name), 4096, &data, &len, &err), &err);
	assert_string_equal((char *)data, text);
	free(data);
	assert_int_equal(lstat(in_dir(name), &st), 0);
	assert_true(S_ISREG(st.st_mode));
	assert_int_equal(st.st_mode & 0777, mode);
}

static void
test_materialize(void **state)
{
	struct sp_store *store = open_store("s", 1), *other;
	struct sp_tree tree = {0};
	struct sp_err err;

	(void)state;
	import_model(store, &tree);
	/* what was there before: an old file, a symlink in a file's place, an interrupted copy */
	check(sp_file_mkdirs(in_dir("out/sub"), 0755, &err), &err);
	write_file(in_dir("out/config.json"), "old", 0600);
	write_file(in_dir("victim"), "untouched", 0600);
	assert_int_equal(symlink(in_dir("victim"), in_dir("out/sub/run")), 0);
	write_file(in_dir("out/.sallyport\\partial"), "leftover", 0600);
	other = open_store("s", 0);
	last_done = last_total = 0;
	check(sp_tree_materialize(other, &tree, in_dir("out"), on_progress, NULL, &err), &err);
	assert_int_equal(last_done, 12);
	assert_int_equal(last_total, 12);
	expect_file("out/config.json", "{}", 0644);
	expect_file("out/sub/run", "#!/bin/sh\n", 0755);
	expect_file("out/sub/nothing", "", 0644);
	expect_file("victim", "untouched", 0600);
	assert_int_equal(access(in_dir("out/.sallyport\\partial"), F_OK), -1);

	/* a directory that is a symlink leads out of the tree: not followed */
	assert_int_equal(mkdir(in_dir("out2"), 0755), 0);
	assert_int_equal(mkdir(in_dir("elsewhere"), 0755), 0);
	assert_int_equal(symlink(in_dir("elsewhere"), in_dir("out2/sub")), 0);
	assert_int_not_equal(
	    sp_tree_materialize(other, &tree, in_dir("out2"), NULL, NULL, &err), SP_OK);
	assert_int_equal(count_entries(in_dir("elsewhere")), 0);

	spoil(store, tree.files[0].sha256.s, "[]");
	assert_int_equal(
	    sp_tree_materialize(other, &tree, in_dir("out3"), NULL, NULL, &err), SP_E_CORRUPT);
	assert_non_null(strstr(err.msg, "config.json"));
	assert_int_equal(count_entries(in_dir("out3")), 0);
	assert_int_equal(sp_tree_verify(other, &tree, &err), SP_E_CORRUPT);
	assert_non_null(strstr(err.msg, "config.json"));
	sp_tree_clear(&tree);
	sp_store_close(&other);
	sp_store_close(&store);
}

static void
test_copy(void **state)
{
	struct sp_store *from = open_store("s", 1), *to = open_store("t", 1);
	struct sp_tree tree = {0}, lying = {0};
	struct sp_hex digest = import_model(from, &tree), lie;
	struct sp_err err;

	(void)state;
	last_done = last_total = 0;
	check(sp_tree_copy(to, from, digest.s, on_progress, NULL, &err), &err);
	assert_int_equal(last_done, 12);
	check(sp_tree_verify(to, &tree, &err), &err);
	assert_true(sp_store_has(to, digest.s, NULL));
	/* again: nothing to do, even when the source is gone */
	check(sp_store_remove(from, tree.files[0].sha256.s, &err), &err);
	check(sp_tree_copy(to, from, digest.s, NULL, NULL, &err), &err);

	/* a listing that lies about a size is not taken over */
	check(sp_tree_add(&lying, "a", 3, tree.files[2].sha256.s, 0, &err), &err);
	check(sp_tree_save(from, &lying, &lie, &err), &err);
	assert_int_equal(sp_tree_copy(to, from, lie.s, NULL, NULL, &err), SP_E_CORRUPT);
	assert_false(sp_store_has(to, lie.s, NULL));
	assert_int_equal(sp_tree_verify(from, &lying, &err), SP_E_CORRUPT);
	assert_int_equal(
	    sp_tree_materialize(from, &lying, in_dir("o"), NULL, NULL, &err), SP_E_CORRUPT);
	sp_tree_clear(&lying);
	sp_tree_clear(&tree);
	sp_store_close(&to);
	sp_store_close(&from);
}

int
main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
	    T(test_blob),
	    T(test_damage),
	    T(test_hostile_store),
	    T(test_kill),
	    T(test_full),
	    cmocka_unit_test(test_listing),
	    cmocka_unit_test(test_hostile_listing),
	    cmocka_unit_test(test_prefixes),
	    T(test_import),
	    T(test_materialize),
	    T(test_copy),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
