/* base_file.c -- whole files: what a crash, a full disk or a hostile directory leaves behind. The
 * test replaces fsync and rename, to see their order and to let them fail. */
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[] = "/tmp/sp-base-file-XXXXXX";

/* --- the calls that make a write durable --- */

static char calls[256]; /* "F" file synced, "D" directory synced, "R" renamed, in order */
static int fail_fsync, fail_rename, no_renameat2; /* errno, 0 for success */

static void
note(char call)
{
	size_t len = strlen(calls);

	if (len + 1 < sizeof(calls)) {
		calls[len] = call;
		calls[len + 1] = '\0';
	}
}

int
fsync(int fd)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		return -1;
	note(S_ISDIR(st.st_mode) ? 'D' : 'F');
	if (fail_fsync != 0) {
		errno = fail_fsync;
		return -1;
	}
	return (int)syscall(SYS_fsync, fd);
}

int
rename(const char *old, const char *new)
{
	note('R');
	if (fail_rename != 0) {
		errno = fail_rename;
		return -1;
	}
	return (int)syscall(SYS_renameat, AT_FDCWD, old, AT_FDCWD, new);
}

int
renameat2(int old_fd, const char *old, int new_fd, const char *new, unsigned flags)
{
	note('R');
	if (no_renameat2 != 0) {
		errno = no_renameat2;
		return -1;
	}
	return (int)syscall(SYS_renameat2, old_fd, old, new_fd, new, flags);
}

/* --- help --- */

/* dir/name, in one of a few static buffers */
static const char *
at(const char *name)
{
	static char paths[8][4096];
	static unsigned turn;
	char *path = paths[turn++ % 8];

	snprintf(path, sizeof(paths[0]), "%s/%s", dir, name);
	return path;
}

static void
expect_content(const char *path, const char *content)
{
	struct sp_err err;
	uint8_t *data;
	size_t len;

	assert_int_equal(sp_file_read(path, 1 << 20, &data, &len, &err), SP_OK);
	assert_int_equal(len, strlen(content));
	assert_string_equal((char *)data, content);
	free(data);
}

static unsigned
entries(const char *path)
{
	struct dirent *entry;
	unsigned count = 0;
	DIR *d = opendir(path);

	assert_non_null(d);
	while ((entry = readdir(d)) != NULL)
		count += entry->d_name[0] != '.' || strlen(entry->d_name) > 2;
	closedir(d);
	return count;
}

static void
put(const char *path, const char *content)
{
	struct sp_err err;

	if (sp_file_write(path, 0644, content, strlen(content), &err) != SP_OK)
		fail_msg("%s", err.msg);
}

static int
setup(void **state)
{
	(void)state;
	return mkdtemp(dir) != NULL ? 0 : -1;
}

static int
teardown(void **state)
{
	struct sp_err err;

	(void)state;
	return sp_file_remove_all(dir, &err) == SP_OK ? 0 : -1;
}

/* --- reading --- */

static void
test_read(void **state)
{
	struct sp_err err;
	uint8_t *data;
	size_t len;

	(void)state;
	put(at("five"), "12345");
	assert_int_equal(sp_file_read(at("five"), 5, &data, &len, &err), SP_OK);
	assert_int_equal(len, 5);
	assert_memory_equal(data, "12345", 6);
	free(data);
	assert_int_equal(sp_file_read(at("five"), 4, &data, &len, &err), SP_E_LIMIT);
	assert_non_null(strstr(err.msg, "five is larger than 4 bytes"));
	put(at("empty"), "");
	assert_int_equal(sp_file_read(at("empty"), 0, &data, &len, &err), SP_OK);
	assert_int_equal(len, 0);
	assert_int_equal(data[0], 0);
	free(data);
	assert_int_equal(sp_file_read(at("none"), 5, &data, &len, &err), SP_E_NOT_FOUND);
	assert_non_null(strstr(err.msg, "/none: No such file"));
	assert_int_equal(sp_file_read(dir, 5, &data, &len, &err), SP_E_IO);
	assert_int_equal(sp_file_read(at("none"), 5, &data, &len, NULL), SP_E_NOT_FOUND);
	/* of a size that stat does not know, and longer than any first guess */
	assert_int_equal(sp_file_read("/proc/self/stat", 1 << 16, &data, &len, &err), SP_OK);
	assert_true(len > 0);
	free(data);
	assert_int_equal(sp_file_read("/dev/zero", 1 << 20, &data, &len, &err), SP_E_LIMIT);
}

static void
test_read_write_all(void **state)
{
	struct sp_err err;
	char text[8];
	int ends[2], fd;

	(void)state;
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(sp_file_write_all(ends[1], "abcdef", 6, &err), SP_OK);
	assert_int_equal(sp_file_write_all(ends[1], "", 0, &err), SP_OK);
	assert_int_equal(sp_file_read_all(ends[0], text, 4, &err), SP_OK);
	assert_memory_equal(text, "abcd", 4);
	close(ends[1]);
	assert_int_equal(sp_file_read_all(ends[0], text, 4, &err), SP_E_IO);
	assert_string_equal(err.msg, "ends after 2 of 4 bytes");
	close(ends[0]);
	assert_int_equal(sp_file_read_all(ends[0], text, 1, &err), SP_E_IO);
	assert_int_equal(sp_file_read_all(ends[0], text, 0, &err), SP_OK);
	fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(sp_file_write_all(fd, "x", 1, &err), SP_E_NO_SPACE);
	close(fd);
}

/* More than a pipe holds: write returns short, and so does read. */
static void
test_long_way_through_a_pipe(void **state)
{
	const size_t len = 3 << 20;
	uint8_t *out = malloc(len), *in = malloc(len);
	struct sp_err err;
	int ends[2], status;
	pid_t pid;

	(void)state;
	for (size_t i = 0; i < len; i++)
		out[i] = (uint8_t)(i * 7 + i / 251);
	assert_int_equal(pipe(ends), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		close(ends[0]);
		_exit(sp_file_write_all(ends[1], out, len, NULL) == SP_OK ? 0 : 1);
	}
	close(ends[1]);
	assert_int_equal(sp_file_read_all(ends[0], in, len, &err), SP_OK);
	assert_memory_equal(in, out, len);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	close(ends[0]);
	free(in);
	free(out);
}

static void
test_map(void **state)
{
	struct sp_map map;
	struct sp_err err;

	(void)state;
	put(at("mapped"), "content");
	assert_int_equal(sp_map_open(&map, at("mapped"), &err), SP_OK);
	assert_int_equal(map.len, 7);
	assert_memory_equal(map.data, "content", 7);
	sp_map_close(&map);
	assert_int_equal(map.len, 0);
	sp_map_close(&map);
	put(at("mapped"), "");
	assert_int_equal(sp_map_open(&map, at("mapped"), &err), SP_OK);
	assert_non_null(map.data);
	assert_int_equal(map.len, 0);
	sp_map_close(&map);
	assert_int_equal(sp_map_open(&map, at("none"), &err), SP_E_NOT_FOUND);
	assert_int_equal(sp_map_open(&map, dir, &err), SP_E_INVALID);
	assert_int_equal(sp_map_open(&map, "/dev/null", &err), SP_E_INVALID);
	sp_map_close(&map);
}

/* --- writing --- */

static void
test_write_order(void **state)
{
	struct stat st;

	(void)state;
	calls[0] = '\0';
	put(at("durable"), "one");
	assert_string_equal(calls, "FRD");
	umask(077);
	calls[0] = '\0';
	assert_int_equal(sp_file_write(at("durable"), 0640, "two", 3, NULL), SP_OK);
	umask(022);
	assert_string_equal(calls, "FRD");
	assert_int_equal(stat(at("durable"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	expect_content(at("durable"), "two");
	assert_int_equal(sp_file_write(at("durable"), 0400, NULL, 0, NULL), SP_OK);
	expect_content(at("durable"), "");
}

/* Whatever fails: the old content stays, and nothing else lies about. */
static void
test_write_fails(void **state)
{
	struct rlimit limit, small;
	char big[8192] = {0};
	struct sp_err err;
	unsigned before;

	(void)state;
	put(at("kept"), "old");
	before = entries(dir);
	fail_fsync = ENOSPC;
	assert_int_equal(sp_file_write(at("kept"), 0644, "new", 3, &err), SP_E_NO_SPACE);
	fail_fsync = 0;
	assert_non_null(strstr(err.msg, "kept"));
	fail_rename = EIO;
	assert_int_equal(sp_file_write(at("kept"), 0644, "new", 3, &err), SP_E_IO);
	fail_rename = 0;
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
	small = limit;
	small.rlim_cur = 4096;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	assert_int_equal(sp_file_write(at("kept"), 0644, big, sizeof(big), &err), SP_E_IO);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	assert_non_null(strstr(err.msg, "kept"));
	expect_content(at("kept"), "old");
	assert_int_equal(entries(dir), before);
	assert_int_equal(sp_file_write(at("none/x"), 0644, "new", 3, &err), SP_E_NOT_FOUND);
	assert_int_equal(sp_file_write(at("kept/x"), 0644, "new", 3, NULL), SP_E_IO);
	/* a directory is not replaced */
	assert_int_equal(mkdir(at("folder"), 0755), 0);
	assert_int_not_equal(sp_file_write(at("folder"), 0644, "new", 3, &err), SP_OK);
	assert_int_equal(entries(dir), before + 1);
}

static void
test_create(void **state)
{
	static const int ways[] = {0, EINVAL, ENOSYS};
	struct sp_err err;
	unsigned before;

	(void)state;
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		assert_int_equal(sp_file_remove_all(at("once"), &err), SP_OK);
		before = entries(dir);
		no_renameat2 = ways[i];
		calls[0] = '\0';
		assert_int_equal(sp_file_create(at("once"), 0600, "first", 5, &err), SP_OK);
		assert_string_equal(calls, "FRD");
		assert_int_equal(sp_file_create(at("once"), 0600, "second", 6, &err), SP_E_EXISTS);
		assert_non_null(strstr(err.msg, "once"));
		expect_content(at("once"), "first");
		assert_int_equal(entries(dir), before + 1);
		/* also behind a name that leads nowhere */
		assert_int_equal(symlink("nowhere", at("link")), 0);
		assert_int_equal(sp_file_create(at("link"), 0600, "x", 1, &err), SP_E_EXISTS);
		assert_int_equal(unlink(at("link")), 0);
		no_renameat2 = 0;
	}
}

/* A relative name without a directory in it. */
static void
test_write_here(void **state)
{
	int here = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	(void)state;
	assert_true(here >= 0);
	assert_int_equal(chdir(dir), 0);
	put("relative", "here");
	assert_int_equal(fchdir(here), 0);
	close(here);
	expect_content(at("relative"), "here");
}

/* Killed while it writes again and again: what is read is always one whole content. */
static void
test_killed_writer(void **state)
{
	const size_t len = 300000;
	char *text = malloc(len);
	int status, ends[2];
	struct sp_err err;
	uint8_t *data;
	size_t got;
	pid_t pid;

	(void)state;
	for (int round = 0; round < 10; round++) {
		assert_int_equal(pipe(ends), 0);
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			for (unsigned i = 0;; i++) {
				size_t less = i % 1000; /* tells which write a content is of */

				memset(text, 'a' + (int)(less % 26), len - less);
				if (sp_file_write(at("killed"), 0644, text, len - less, NULL) !=
				    SP_OK)
					_exit(1);
				if (write(ends[1], "x", 1) != 1)
					_exit(1);
			}
		}
		close(ends[1]);
		/* a few writes are over, and another is under way */
		for (int i = 0; i <= round; i++)
			assert_int_equal(read(ends[0], &(char){0}, 1), 1);
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		close(ends[0]);
		assert_int_equal(sp_file_read(at("killed"), len, &data, &got, &err), SP_OK);
		assert_true(got > len - 1000);
		for (size_t i = 1; i < got; i++)
			if (data[i] != data[0])
				fail_msg("byte %zu is of another write", i);
		assert_int_equal((len - got) % 26, data[0] - 'a');
		free(data);
	}
	free(text);
}

/* --- directories --- */

static void
test_mkdirs(void **state)
{
	struct sp_err err;
	struct stat st;

	(void)state;
	calls[0] = '\0';
	assert_int_equal(sp_file_mkdirs(at("m/n/o"), 0750, &err), SP_OK);
	assert_string_equal(calls, "DDD");
	assert_int_equal(stat(at("m/n/o"), &st), 0);
	assert_true(S_ISDIR(st.st_mode));
	assert_int_equal(st.st_mode & 0777, 0750);
	calls[0] = '\0';
	assert_int_equal(sp_file_mkdirs(at("m//n/o/"), 0750, &err), SP_OK);
	assert_string_equal(calls, "");
	assert_int_equal(sp_file_mkdirs("/", 0750, &err), SP_OK);
	assert_int_equal(sp_file_mkdirs(".", 0750, &err), SP_OK);
	put(at("m/file"), "x");
	assert_int_equal(sp_file_mkdirs(at("m/file"), 0750, &err), SP_E_EXISTS);
	assert_non_null(strstr(err.msg, "m/file is there and is no directory"));
	assert_int_not_equal(sp_file_mkdirs(at("m/file/below"), 0750, &err), SP_OK);
	assert_int_equal(symlink("n", at("m/link")), 0);
	assert_int_equal(sp_file_mkdirs(at("m/link/p"), 0750, &err), SP_OK);
	assert_int_equal(access(at("m/n/p"), F_OK), 0);
	assert_int_equal(sp_file_sync_dir(at("m"), &err), SP_OK);
	assert_int_equal(sp_file_sync_dir(at("m/file"), &err), SP_E_IO);
	assert_int_equal(sp_file_sync_dir(at("none"), NULL), SP_E_NOT_FOUND);
}

static void
test_remove_all(void **state)
{
	struct sp_err err;

	(void)state;
	assert_int_equal(sp_file_remove_all(at("never"), &err), SP_OK);
	assert_int_equal(sp_file_mkdirs(at("keep"), 0755, &err), SP_OK);
	put(at("keep/file"), "kept");
	assert_int_equal(sp_file_mkdirs(at("r/a/b/c"), 0755, &err), SP_OK);
	assert_int_equal(sp_file_mkdirs(at("r/d"), 0755, &err), SP_OK);
	put(at("r/a/file"), "x");
	put(at("r/.hidden"), "x");
	assert_int_equal(symlink("../keep", at("r/link")), 0);
	assert_int_equal(symlink("../../keep", at("r/a/link")), 0);
	assert_int_equal(mkfifo(at("r/fifo"), 0600), 0);
	assert_int_equal(sp_file_remove_all(at("r"), &err), SP_OK);
	assert_int_equal(access(at("r"), F_OK), -1);
	expect_content(at("keep/file"), "kept");
	/* the link itself, not what it leads to */
	assert_int_equal(symlink("keep", at("link")), 0);
	assert_int_equal(sp_file_remove_all(at("link"), &err), SP_OK);
	assert_int_equal(access(at("link"), F_OK), -1);
	expect_content(at("keep/file"), "kept");
	assert_int_equal(sp_file_remove_all(at("keep/file"), &err), SP_OK);
	assert_int_equal(entries(at("keep")), 0);
	assert_int_equal(sp_file_remove_all("/proc/self", NULL), SP_E_IO);
}

/* Deeper than a path can be, with fewer descriptors than levels. */
static void
test_remove_deep(void **state)
{
	struct rlimit limit, few;
	struct sp_err err;
	int fd, below;

	(void)state;
	assert_int_equal(mkdir(at("deep"), 0755), 0);
	fd = open(at("deep"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	for (int i = 0; i < 3000; i++) {
		assert_int_equal(mkdirat(fd, "below", 0755), 0);
		if (i % 50 == 0)
			assert_int_equal(mkdirat(fd, ".deep-0", 0755), 0);
		below = openat(fd, "below", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_true(below >= 0);
		close(fd);
		fd = below;
	}
	close(fd);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	few = limit;
	few.rlim_cur = 64;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	if (sp_file_remove_all(at("deep"), &err) != SP_OK)
		fail_msg("%s", err.msg);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(access(at("deep"), F_OK), -1);
}

/* In a child without root's rights: removes locked, whose directories forbid it; returns 0. */
static int
remove_locked(void)
{
	struct sp_err err;

	if (geteuid() == 0 && setresuid(65534, 65534, 65534) != 0)
		return 1;
	if (mkdir(at("open/locked"), 0755) != 0 || mkdir(at("open/locked/a"), 0755) != 0 ||
	    mkdir(at("open/locked/a/b"), 0755) != 0 || mkdir(at("open/locked/c"), 0755) != 0)
		return 2;
	if (sp_file_write(at("open/locked/a/b/file"), 0, "x", 1, &err) != SP_OK)
		return 3;
	if (chmod(at("open/locked/a/b"), 0) != 0 || chmod(at("open/locked/a"), 0555) != 0 ||
	    chmod(at("open/locked/c"), 0) != 0 || chmod(at("open/locked"), 0500) != 0)
		return 4;
	if (sp_file_remove_all(at("open/locked"), &err) != SP_OK) {
		fprintf(stderr, "%s\n", err.msg);
		return 5;
	}
	return access(at("open/locked"), F_OK) == 0 ? 6 : 0;
}

static void
test_remove_locked(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	assert_int_equal(mkdir(at("open"), 0777), 0);
	assert_int_equal(chmod(at("open"), 0777), 0);
	assert_int_equal(chmod(dir, 0755), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(remove_locked());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* What a killed writer leaves goes; what a living one has locked, and what is no such file, stays.
 */
static void
test_sweep(void **state)
{
	static const char *const stay[] = {"sweep/a.tmp-12345", "sweep/a.tmp-12345.",
	    "sweep/a.tmpabcdef", "sweep/.tmp-abcdef", "sweep/deep/er/deepest/a.tmp-abcdef",
	    "sweep/target"};
	static const char *const go[] = {"sweep/a.tmp-abcdef", "sweep/deep/er/.b.tmp-A1b2C3"};
	struct sp_err err;
	size_t i;
	int fd;

	(void)state;
	assert_int_equal(sp_file_mkdirs(at("sweep/deep/er/deepest"), 0755, &err), SP_OK);
	assert_int_equal(mkdir(at("sweep/dir.tmp-abcdef"), 0755), 0);
	for (i = 0; i < sizeof(stay) / sizeof(*stay); i++)
		put(at(stay[i]), "x");
	for (i = 0; i < sizeof(go) / sizeof(*go); i++) {
		put(at(go[i]), "x");
		assert_int_equal(chmod(at(go[i]), 0400), 0);
	}
	put(at("sweep/alive.tmp-abcdef"), "x");
	assert_int_equal(symlink("target", at("sweep/link.tmp-abcdef")), 0);
	fd = open(at("sweep/alive.tmp-abcdef"), O_RDONLY);
	assert_true(fd >= 0);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	assert_int_equal(sp_file_sweep(at("sweep"), 2), 2);
	for (i = 0; i < sizeof(stay) / sizeof(*stay); i++)
		assert_int_equal(access(at(stay[i]), F_OK), 0);
	for (i = 0; i < sizeof(go) / sizeof(*go); i++)
		assert_int_equal(access(at(go[i]), F_OK), -1);
	assert_int_equal(access(at("sweep/link.tmp-abcdef"), F_OK), 0);
	assert_int_equal(access(at("sweep/alive.tmp-abcdef"), F_OK), 0);
	/* its writer has died */
	close(fd);
	assert_int_equal(sp_file_sweep(at("sweep"), 2), 1);
	assert_int_equal(sp_file_sweep(at("no such directory"), 2), 0);
}

/* Creating a file removes what killed creators of that file left, and of no other. */
static void
test_create_sweeps(void **state)
{
	struct sp_err err;

	(void)state;
	assert_int_equal(mkdir(at("keys"), 0700), 0);
	put(at("keys/root.key.tmp-abcdef"), "half a key");
	put(at("keys/other.tmp-abcdef"), "x");
	assert_int_equal(sp_file_create(at("keys/root.key"), 0400, "k", 1, &err), SP_OK);
	assert_int_equal(access(at("keys/root.key.tmp-abcdef"), F_OK), -1);
	assert_int_equal(access(at("keys/other.tmp-abcdef"), F_OK), 0);
}

/* A sweeper at work beside writers never takes a file from one that is alive. */
static void
test_sweep_beside_writers(void **state)
{
	struct sp_err err;
	int status;
	pid_t pid;

	(void)state;
	assert_int_equal(mkdir(at("busy"), 0755), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		for (int i = 0; i < 300; i++)
			if (sp_file_write(at("busy/file"), 0644, "text", 4, &err) != SP_OK)
				_exit(1);
		_exit(0);
	}
	while (waitpid(pid, &status, WNOHANG) == 0)
		sp_file_sweep(at("busy"), 0);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_int_equal(sp_file_sweep(at("busy"), 0), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_read),
	    cmocka_unit_test(test_read_write_all),
	    cmocka_unit_test(test_long_way_through_a_pipe),
	    cmocka_unit_test(test_map),
	    cmocka_unit_test(test_write_order),
	    cmocka_unit_test(test_write_fails),
	    cmocka_unit_test(test_create),
	    cmocka_unit_test(test_write_here),
	    cmocka_unit_test(test_killed_writer),
	    cmocka_unit_test(test_sweep),
	    cmocka_unit_test(test_create_sweeps),
	    cmocka_unit_test(test_sweep_beside_writers),
	    cmocka_unit_test(test_mkdirs),
	    cmocka_unit_test(test_remove_all),
	    cmocka_unit_test(test_remove_deep),
	    cmocka_unit_test(test_remove_locked),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
