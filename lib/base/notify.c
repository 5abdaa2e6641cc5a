/*
 * notify.c -- sd_notify(3)'s protocol.
 *
 *	NOTIFY_SOCKET	/path or @name; the @ stands for the NUL of Linux's abstract names. Other
 *			kinds of address (vsock:…) are for guests of virtual machines: not taken.
 *	WATCHDOG_USEC	decimal microseconds; the service is dead when it says nothing for so long
 *	WATCHDOG_PID	decimal; who is meant. Missing: whoever reads it.
 *	datagram	lines "NAME=value", joined by newlines
 */
#include "base/notify.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define MESSAGE_MAX 1024

static struct sockaddr_un address;
static socklen_t address_len; /* 0: there is no manager */
static uint64_t watchdog_ms;

/* 0 when text is no such number. */
static uint64_t
parse_number(const char *text)
{
	unsigned long long value;
	char *end;

	if (text == NULL || text[0] < '0' || text[0] > '9')
		return 0;
	errno = 0;
	value = strtoull(text, &end, 10);
	return errno != 0 || *end != '\0' ? 0 : value;
}

static void
set_address(const char *name)
{
	size_t len = name != NULL ? strlen(name) : 0;

	address_len = 0;
	if (len < 2 || (name[0] != '/' && name[0] != '@') || len >= sizeof(address.sun_path))
		return;
	memset(&address, 0, sizeof(address));
	address.sun_family = AF_UNIX;
	memcpy(address.sun_path, name, len);
	/* a path may end in its NUL, an abstract name is as long as it is */
	if (name[0] == '@')
		address.sun_path[0] = '\0';
	else
		len++;
	address_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
}

void
sp_notify_init(void)
{
	const char *pid = getenv("WATCHDOG_PID");

	set_address(getenv("NOTIFY_SOCKET"));
	watchdog_ms = 0;
	if (address_len > 0 && (pid == NULL || parse_number(pid) == (uint64_t)getpid()))
		watchdog_ms = parse_number(getenv("WATCHDOG_USEC")) / 2000;
	unsetenv("NOTIFY_SOCKET");
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
}

uint64_t
sp_notify_watchdog_ms(void)
{
	return watchdog_ms;
}

/* A socket each time: this is rare, and a manager that was started anew has a new one. */
static void
send_message(const char *text, size_t len)
{
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return;
	/* a manager that does not read must not stop us */
	(void)sendto(
	    fd, text, len, MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&address, address_len);
	close(fd);
}

void
sp_notify(const char *state, const char *fmt, ...)
{
	char text[MESSAGE_MAX], status[MESSAGE_MAX / 2] = "";
	va_list args;
	size_t i;
	int n;

	if (address_len == 0)
		return;
	if (fmt != NULL) {
		va_start(args, fmt);
		(void)vsnprintf(status, sizeof(status), fmt, args);
		va_end(args);
	}
	for (i = 0; status[i] != '\0'; i++)
		if ((unsigned char)status[i] < ' ')
			status[i] = ' ';
	n = snprintf(text, sizeof(text), "%s%s%s%s", state != NULL ? state : "",
	    state != NULL && fmt != NULL ? "\n" : "", fmt != NULL ? "STATUS=" : "", status);
	SP_ASSERT(n > 0 && (size_t)n < sizeof(text));
	send_message(text, (size_t)n);
}
