/* store_hold.c -- blobs verified early: what a maker that still lives can do to one, and that all
 * of it is found out. */
#include "base/file.h"
#include "store/hold.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define TEXT "what was verified"
#define OTHER "what was smuggled"

static char dir[64], path[256];
static struct sp_store *store;
static struct sp_hex digest;
static struct sp_hold *hold;
static struct sp_err err;

static void
ok(enum sp_code code)
{
	if (code != SP_OK)
		fail_msg("%s: %s", sp_err_word(code), err.msg);
}

static void
put(void)
{
	char *p;

	ok(sp_store_put(store, TEXT, sizeof(TEXT) - 1, &digest, &err));
	p = sp_store_path(store, digest.s);
	snprintf(path, sizeof(path), "%s", p);
	free(p);
	assert_int_equal(chmod(path, 0640), 0); /* its owner may do that at any time */
}

static int
setup(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/sp-hold-XXXXXX");
	assert_non_null(mkdtemp(dir));
	ok(sp_store_open(dir, 1, &store, &err));
	put();
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	sp_hold_drop(&hold);
	sp_store_close(&store);
	return sp_file_remove_all(dir, &err) == SP_OK ? 0 : -1;
}

static enum sp_code
take(void)
{
	return sp_hold_take(store, digest.s, NULL, NULL, &hold, &err);
}

/* The filesystem of the tests may be one on which nothing is held: then there is nothing to try. */
static void
take_or_skip(void)
{
	enum sp_code code = take();

	if (code == SP_E_UNSUPPORTED)
		skip();
	ok(code);
	assert_true(sp_hold_stands(hold, NULL));
}

/* Somebody else of our uid, who opens the blob for writing, puts other bytes in, and ends. */
static pid_t
start_writer(int flags)
{
	pid_t pid = fork();
	int fd;

	assert_true(pid >= 0);
	if (pid > 0)
		return pid;
	fd = open(path, flags);
	_exit(fd >= 0 && pwrite(fd, OTHER, sizeof(OTHER) - 1, 0) > 0 ? 0 : 1);
}

static int
status_of(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void
test_stands(void **state)
{
	uint64_t size = 0;
	int fd;

	(void)state;
	take_or_skip();
	/* what is harmless leaves it alone: readers, a mode, times, other names */
	fd = open(path, O_RDONLY);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(chmod(path, 0440), 0);
	assert_true(sp_store_claim(store, digest.s, NULL));
	assert_true(sp_hold_stands(hold, &size));
	assert_int_equal(size, sizeof(TEXT) - 1);
	sp_hold_drop(&hold);
	assert_null(hold);
	sp_hold_drop(&hold);
	/* dropped, it is in nobody's way */
	assert_int_equal(chmod(path, 0640), 0);
	assert_int_equal(status_of(start_writer(O_WRONLY | O_NONBLOCK)), 0);
	assert_int_equal(take(), SP_E_CORRUPT);
	assert_null(hold);
}

static void
test_nothing(void **state)
{
	(void)state;
	ok(sp_store_remove(store, digest.s, &err));
	assert_int_equal(take(), SP_E_NOT_FOUND);
	assert_int_equal(sp_hold_take(store, "no digest", NULL, NULL, &hold, &err), SP_E_INVALID);
}

/* A descriptor that was opened before: the bytes could change at any time. */
static void
test_open_before(void **state)
{
	int fd = open(path, O_RDWR);

	(void)state;
	assert_true(fd >= 0);
	assert_true(take() == SP_E_STATE || err.code == SP_E_UNSUPPORTED);
	assert_null(hold);
	close(fd);
	take_or_skip();
}

/* A writable mapping counts as one, though its descriptor is closed and no time of the file shows
 * what is stored through it. */
static void
test_mapped_before(void **state)
{
	int fd = open(path, O_RDWR);
	char *map;

	(void)state;
	assert_true(fd >= 0);
	map = mmap(NULL, sizeof(TEXT), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(map != MAP_FAILED);
	close(fd);
	assert_true(take() == SP_E_STATE || err.code == SP_E_UNSUPPORTED);
	assert_int_equal(munmap(map, sizeof(TEXT)), 0);
	take_or_skip();
}

static void
test_written(void **state)
{
	(void)state;
	take_or_skip();
	/* who does not wait is refused, and yet it is noticed */
	assert_int_equal(status_of(start_writer(O_WRONLY | O_NONBLOCK)), 1);
	assert_false(sp_hold_stands(hold, NULL));
	sp_hold_drop(&hold);
	ok(take());
}

/* Who waits gets in when the hold is dropped, which is after it was seen to be broken. */
static void
test_written_later(void **state)
{
	pid_t pid;

	(void)state;
	take_or_skip();
	pid = start_writer(O_WRONLY);
	for (int i = 0; i < 2000 && sp_hold_stands(hold, NULL); i++)
		usleep(5000);
	assert_false(sp_hold_stands(hold, NULL));
	sp_hold_drop(&hold);
	assert_int_equal(status_of(pid), 0);
	assert_int_equal(take(), SP_E_CORRUPT);
}

/* By another name of the same file. */
static void
test_linked(void **state)
{
	char other[300];
	int fd;

	(void)state;
	snprintf(other, sizeof(other), "%s/other", dir);
	assert_int_equal(link(path, other), 0);
	take_or_skip();
	fd = open(other, O_RDWR | O_NONBLOCK);
	assert_int_equal(fd, -1);
	assert_int_equal(errno, EWOULDBLOCK);
	assert_false(sp_hold_stands(hold, NULL));
}

static void
test_replaced(void **state)
{
	char other[300];

	(void)state;
	take_or_skip();
	snprintf(other, sizeof(other), "%s/other", dir);
	/* of the same bytes even: it is another file, whose maker may have it open */
	ok(sp_file_write(other, 0640, TEXT, sizeof(TEXT) - 1, &err));
	assert_int_equal(rename(other, path), 0);
	assert_false(sp_hold_stands(hold, NULL));
	sp_hold_drop(&hold);
	take_or_skip();
	assert_int_equal(unlink(path), 0);
	assert_false(sp_hold_stands(hold, NULL));
}

/* Both ways to cut a file: one breaks the lease, the other, for which nobody has it open for
 * writing, shows in the size. Bytes after it need a descriptor for writing again. */
static void
test_cut(void **state)
{
	int fd;

	(void)state;
	take_or_skip();
	fd = open(path, O_RDONLY | O_TRUNC | O_NONBLOCK);
	if (fd >= 0)
		close(fd);
	assert_false(sp_hold_stands(hold, NULL));
	sp_hold_drop(&hold);
	put();
	ok(take());
	if (fork() == 0) {
		(void)!truncate(path, sizeof(TEXT) - 1); /* to the size that it has; waits */
		_exit(0);
	}
	for (int i = 0; i < 2000 && sp_hold_stands(hold, NULL); i++)
		usleep(5000);
	assert_false(sp_hold_stands(hold, NULL));
	sp_hold_drop(&hold);
	assert_true(wait(NULL) > 0);
}

static int
stop_now(void *ctx)
{
	++*(int *)ctx;
	return 1;
}

static void
test_stopped(void **state)
{
	int asked = 0;
	enum sp_code code;

	(void)state;
	code = sp_hold_take(store, digest.s, stop_now, &asked, &hold, &err);
	if (code == SP_E_UNSUPPORTED)
		skip();
	assert_int_equal(code, SP_E_CANCELLED);
	assert_int_equal(asked, 1);
	/* and lets go of it */
	assert_int_equal(status_of(start_writer(O_WRONLY | O_NONBLOCK)), 0);
}

int
main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
	    T(test_stands),
	    T(test_nothing),
	    T(test_open_before),
	    T(test_mapped_before),
	    T(test_written),
	    T(test_written_later),
	    T(test_linked),
	    T(test_replaced),
	    T(test_cut),
	    T(test_stopped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
