/* notify.c -- what the service manager hears, and that nobody else is left to speak to it. */
#include "base/notify.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[] = "/tmp/sp-notify-XXXXXX";

/* A manager's socket: a path, or with a leading @ an abstract name. */
static int
listen_at(const char *name)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name));
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	assert_true(fd >= 0);
	memcpy(address.sun_path, name, strlen(name));
	if (name[0] == '@')
		address.sun_path[0] = '\0';
	assert_int_equal(bind(fd, (struct sockaddr *)&address, len), 0);
	return fd;
}

static void
assert_heard(int fd, const char *want)
{
	char text[2048];
	ssize_t n = recv(fd, text, sizeof(text) - 1, 0);

	assert_true(n >= 0);
	text[n] = '\0';
	assert_string_equal(text, want);
}

static void
assert_silent(int fd)
{
	char byte;

	assert_int_equal(recv(fd, &byte, 1, 0), -1);
	assert_int_equal(errno, EAGAIN);
}

static void
environment(const char *socket_name, const char *usec, const char *pid)
{
	const char *names[] = {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"};
	const char *values[] = {socket_name, usec, pid};
	size_t i;

	for (i = 0; i < 3; i++)
		assert_int_equal(
		    values[i] != NULL ? setenv(names[i], values[i], 1) : unsetenv(names[i]), 0);
	sp_notify_init();
	for (i = 0; i < 3; i++)
		assert_null(getenv(names[i]));
}

static void
talk(const char *name)
{
	int fd = listen_at(name);
	char line[800];

	environment(name, NULL, NULL);
	sp_notify("READY=1", "welcomed by %s", "sallyport/bastion/gate");
	assert_heard(fd, "READY=1\nSTATUS=welcomed by sallyport/bastion/gate");
	sp_notify("WATCHDOG=1", NULL);
	assert_heard(fd, "WATCHDOG=1");
	sp_notify(NULL, "log of %d entries", 12);
	assert_heard(fd, "STATUS=log of 12 entries");
	/* what is put in stays on its line */
	sp_notify(NULL, "%s", "a\nREADY=1\tb");
	assert_heard(fd, "STATUS=a READY=1 b");
	/* and what is too long is cut */
	memset(line, 'x', sizeof(line));
	line[sizeof(line) - 1] = '\0';
	sp_notify("STOPPING=1", "%s", line);
	line[511] = '\0';
	{
		char *want = sp_xasprintf("STOPPING=1\nSTATUS=%s", line);

		assert_heard(fd, want);
		free(want);
	}
	assert_silent(fd);
	close(fd);
	/* nobody there any more: nothing happens */
	sp_notify("READY=1", NULL);
}

static void
test_path(void **state)
{
	char *path = sp_xasprintf("%s/notify", dir);

	(void)state;
	talk(path);
	assert_int_equal(unlink(path), 0);
	free(path);
}

static void
test_abstract(void **state)
{
	char *name = sp_xasprintf("@sp-notify/%d", (int)getpid());

	(void)state;
	talk(name);
	free(name);
}

/* A manager that does not read stops nobody: the test ends. */
static void
test_full(void **state)
{
	char *name = sp_xasprintf("@sp-notify-full/%d", (int)getpid());
	int fd = listen_at(name), i;

	(void)state;
	environment(name, NULL, NULL);
	for (i = 0; i < 5000; i++)
		sp_notify("WATCHDOG=1", NULL);
	assert_heard(fd, "WATCHDOG=1");
	close(fd);
	free(name);
}

static void
test_no_manager(void **state)
{
	char *name = sp_xasprintf("@sp-notify-none/%d", (int)getpid());
	char too_long[200];
	int fd = listen_at(name);

	(void)state;
	memset(too_long, 'a', sizeof(too_long));
	too_long[0] = '/';
	too_long[sizeof(too_long) - 1] = '\0';
	/* an earlier address does not outlive the next start */
	environment(name, "2000000", NULL);
	assert_int_equal(sp_notify_watchdog_ms(), 1000);
	environment(NULL, "2000000", NULL);
	sp_notify("READY=1", "serves");
	environment("vsock:2:1234", "2000000", NULL);
	sp_notify("READY=1", "serves");
	environment(too_long, "2000000", NULL);
	sp_notify("READY=1", "serves");
	environment("", "2000000", NULL);
	sp_notify("READY=1", "serves");
	environment("@", "2000000", NULL);
	sp_notify("READY=1", "serves");
	assert_int_equal(sp_notify_watchdog_ms(), 0);
	assert_silent(fd);
	close(fd);
	free(name);
}

static void
test_watchdog(void **state)
{
	char self[24];

	(void)state;
	snprintf(self, sizeof(self), "%d", (int)getpid());
	environment("@sp", "30000000", self);
	assert_int_equal(sp_notify_watchdog_ms(), 15000);
	environment("@sp", "30000000", NULL);
	assert_int_equal(sp_notify_watchdog_ms(), 15000);
	/* somebody else is meant */
	environment("@sp", "30000000", "1");
	assert_int_equal(sp_notify_watchdog_ms(), 0);
	environment("@sp", "30000000", "");
	assert_int_equal(sp_notify_watchdog_ms(), 0);
	environment("@sp", "-5", self);
	assert_int_equal(sp_notify_watchdog_ms(), 0);
	environment("@sp", "30s", self);
	assert_int_equal(sp_notify_watchdog_ms(), 0);
	environment("@sp", "99999999999999999999999", self);
	assert_int_equal(sp_notify_watchdog_ms(), 0);
	environment("@sp", NULL, NULL);
	assert_int_equal(sp_notify_watchdog_ms(), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_path),
	    cmocka_unit_test(test_abstract),
	    cmocka_unit_test(test_full),
	    cmocka_unit_test(test_no_manager),
	    cmocka_unit_test(test_watchdog),
	};
	int failed;

	if (mkdtemp(dir) == NULL)
		return 1;
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	rmdir(dir);
	return failed;
}
