/*
 * http_hostile.c -- the HTTP server against clients that break the rules, that take their time, and
 * that come by the thousand. What goes over the wire is spelt out.
 */
#include "base/time.h"
#include "http/conns.h"
#include "http/http.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define BODY_MAX 1000
#define BODIES_MAX 3000
#define BIG ((size_t)32 << 20) /* more than the buffers of both ends hold */
#define DEADLINE_MS 20000

static int big_fd = -1;
static unsigned handled; /* requests, all servers' */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER; /* /wait waits for it */

/* Says what it was asked: METHOD PATH BODY-BYTES; /big: a large file */
static void
handle(void *ctx, const struct sp_http_request *request, struct sp_http_reply *reply)
{
	char text[4096];
	int len;

	(void)ctx;
	pthread_mutex_lock(&lock);
	handled++;
	pthread_mutex_unlock(&lock);
	if (strcmp(request->path, "/big") == 0) {
		sp_http_reply_fd(reply, 200, fcntl(big_fd, F_DUPFD_CLOEXEC, 0), 0, BIG);
		return;
	}
	if (strcmp(request->path, "/wait") == 0) {
		pthread_mutex_lock(&gate);
		pthread_mutex_unlock(&gate);
	}
	len = snprintf(text, sizeof(text), "%s %.2000s %zu\n", request->method, request->path,
	    request->body_len);
	sp_http_reply_body(reply, 200, "text/plain", text, (size_t)len);
}

static struct sp_http *
start_on(unsigned threads, unsigned connections, unsigned idle_s, unsigned request_s)
{
	struct sp_http_options options = {.listen = "127.0.0.1:0",
	    .threads = threads,
	    .connections = connections,
	    .per_address = connections,
	    .idle_s = idle_s,
	    .request_s = request_s,
	    .body_max = BODY_MAX,
	    .bodies_max = BODIES_MAX,
	    .handler = handle};
	struct sp_http *http = NULL;
	struct sp_err err;

	if (sp_http_start(&options, &http, &err) != SP_OK)
		fail_msg("%s", err.msg);
	return http;
}

static struct sp_http *
start(unsigned connections, unsigned idle_s, unsigned request_s)
{
	return start_on(2, connections, idle_s, request_s);
}

static unsigned
requests(void)
{
	unsigned count;

	pthread_mutex_lock(&lock);
	count = handled;
	pthread_mutex_unlock(&lock);
	return count;
}

static int
dial(const struct sp_http *http)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	at.sin_port = htons((uint16_t)sp_http_port(http));
	assert_int_equal(connect(fd, (const struct sockaddr *)&at, sizeof(at)), 0);
	return fd;
}

/* All of it, or up to where the other end does not want any more. */
static void
say(int fd, const void *data, size_t len)
{
	const char *p = data;
	ssize_t n;

	for (; len > 0; len -= (size_t)n, p += n) {
		n = send(fd, p, len, MSG_NOSIGNAL);
		if (n <= 0)
			return;
	}
}

/* 1 when bytes, or the end, are there; 0 after ms without. */
static int
ready(int fd, int ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, ms) == 1;
}

/* What comes until `until` was in it, or the connection ends: then 1. */
static int
hear(int fd, char *text, size_t size, const char *until)
{
	size_t len = 0;
	ssize_t n;

	text[0] = '\0';
	while (strstr(text, until) == NULL) {
		if (!ready(fd, DEADLINE_MS))
			fail_msg("no answer: \"%s\"", text);
		assert_true(len + 1 < size);
		n = recv(fd, text + len, size - 1 - len, 0);
		if (n <= 0)
			return 1;
		len += (size_t)n;
		text[len] = '\0';
	}
	return 0;
}

/* A connection of its own for one message; what is answered until the server closes. */
static const char *
ask(const struct sp_http *http, const char *message, size_t len)
{
	static char text[65536];
	int fd = dial(http);

	say(fd, message, len);
	assert_int_equal(hear(fd, text, sizeof(text), "\n\n\n"), 1);
	close(fd);
	return text;
}

/* --- rules ------------------------------------------------------------------------------------ */

#define HEAD " HTTP/1.1\r\nHost: x\r\n"
#define CHUNKED "POST /a" HEAD "Transfer-Encoding: chunked\r\n\r\n"
#define STOP "Connection: close\r\n\r\n"

static void
test_rules(void **state)
{
	static const struct {
		const char *message, *answer; /* how the answer begins; "": none */
	} cases[] = {
	    {"GET /a" HEAD STOP, "HTTP/1.1 200 "},
	    {"GET /a HTTP/1.0\r\n\r\n", "HTTP/1.1 200 "},
	    {"GET http://x/a" HEAD STOP, "HTTP/1.1 200 "},
	    {"GET /a HTTP/1.1\r\n" STOP, "HTTP/1.1 400 "},
	    {"GET /a" HEAD "Host: y\r\n" STOP, "HTTP/1.1 400 "},
	    {"GET /a HTTP/1.1\r\nHost : x\r\n" STOP, "HTTP/1.1 400 "},
	    {"GET /a" HEAD " folded\r\n" STOP, "HTTP/1.1 400 "},
	    {"GET /a HTTP/9.9\r\nHost: x\r\n" STOP, "HTTP/1.1 505 "},
	    {"GET /a\r\n\r\n", "HTTP/1.1 400 "},
	    {"GET /a" HEAD "Content-Length: x\r\n\r\n", "HTTP/1.1 400 "},
	    {"GET /a" HEAD "Content-Length: -1\r\n\r\n", "HTTP/1.1 400 "},
	    {"POST /a" HEAD "Content-Length: 99999999999999999999\r\n\r\n", "HTTP/1.1 413 "},
	    {"POST /a" HEAD "Content-Length: 18446744073709551615\r\n\r\n", "HTTP/1.1 413 "},
	    {"POST /a" HEAD "Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcd", "HTTP/1.1 400 "},
	    {"POST /a" HEAD "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"HTTP/1.1 400 "},
	    {CHUNKED "zz\r\n", "HTTP/1.1 400 "},
	    {CHUNKED "fffffffffffffffff\r\nx", "HTTP/1.1 413 "},
	    {"\x16\x03\x01\x02\x01\xfc\x03\x03\r\n\r\n", ""},
	    {"GET\r\n\r\n", ""},
	};
	struct sp_http *http = start(64, 2, 2);

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *want = cases[i].answer;
		const char *got = ask(http, cases[i].message, strlen(cases[i].message));

		if (strncmp(got, want, strlen(want)) != 0 || (want[0] == '\0' && got[0] != '\0'))
			fail_msg("%zu: \"%s\"", i, got);
		if (strncmp(want, "HTTP/1.1 200", 12) == 0 && strstr(got, "GET /a 0\n") == NULL)
			fail_msg("%zu: \"%s\"", i, got);
	}
	sp_http_stop(&http);
}

/* A request line or a field that does not end, up to any length. */
static void
test_heads(void **state)
{
	static const char *const begins[] = {"GET /", "GET /?",
	    "GET /a" HEAD "X: ", "GET /a" HEAD "Range: bytes=0-1,", "GET /a" HEAD};
	struct sp_http *http = start(64, 5, 5);
	size_t len = 200000;
	char *message = malloc(len);
	unsigned before;

	(void)state;
	assert_non_null(message);
	before = handled;
	for (size_t i = 0; i < sizeof(begins) / sizeof(begins[0]); i++) {
		size_t n = strlen(begins[i]);
		const char *got;

		memset(message, 'a', len);
		memcpy(message, begins[i], n);
		/* the last: very many short fields */
		for (size_t at = n; i == 4 && at + 6 <= len; at += 6)
			memcpy(message + at, "a: b\r\n", 6);
		got = ask(http, message, len);
		/* the answer may be lost with the connection, as more was being sent */
		if (got[0] != '\0' && strncmp(got, "HTTP/1.1 414 ", 13) != 0 &&
		    strncmp(got, "HTTP/1.1 431 ", 13) != 0 &&
		    strncmp(got, "HTTP/1.1 413 ", 13) != 0)
			fail_msg("%zu: \"%s\"", i, got);
	}
	assert_int_equal(handled, before);
	assert_non_null(strstr(ask(http, "GET /a" HEAD STOP, strlen("GET /a" HEAD STOP)), " 200 "));
	free(message);
	sp_http_stop(&http);
}

/* One after the other down one connection: each is answered, in order, and what was the body of one
 * is never taken for the next. */
static void
test_pipeline(void **state)
{
	static const char message[] =
	    "GET /1" HEAD "\r\n"
	    "HEAD /2" HEAD "\r\n"
	    "GET /3" HEAD "Content-Length: 19\r\n\r\nGET /no HTTP/1.1\r\n\r"
	    "POST /4" HEAD "Transfer-Encoding: chunked\r\n\r\n"
	    "3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nTrailer: z\r\n\r\n"
	    "GET /5?%zz=%" HEAD STOP;
	static const char *const answers[] = {
	    "GET /1 0\n", "GET /3 19\n", "POST /4 5\n", "GET /5 0\n"};
	struct sp_http *http = start(64, 5, 5);
	const char *got = ask(http, message, sizeof(message) - 1), *p = got;

	(void)state;
	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
		const char *at = strstr(p, answers[i]);

		if (at != NULL)
			p = at;
		else
			fail_msg("%zu is missing: \"%s\"", i, got);
	}
	/* of HEAD its length alone */
	assert_null(strstr(got, "HEAD /2"));
	assert_non_null(strstr(got, "Content-Length: 10\r\n"));
	assert_null(strstr(got, "/no"));
	sp_http_stop(&http);
}

/* Larger than a body may be, by its length or by its chunks: the answer says so. */
static void
test_bodies(void **state)
{
	char message[8192], chunk[BODY_MAX + 1];
	struct sp_http *http = start(64, 5, 5);
	unsigned before = handled;
	const char *got;
	int len;

	(void)state;
	memset(chunk, 'c', sizeof(chunk));
	len = snprintf(message, sizeof(message), CHUNKED "%x\r\n%.*s\r\n1\r\nd\r\n0\r\n\r\n",
	    BODY_MAX, BODY_MAX, chunk);
	got = ask(http, message, (size_t)len);
	assert_memory_equal(got, "HTTP/1.1 413 ", 13);
	assert_non_null(strstr(got, "1000 bytes"));
	len = snprintf(message, sizeof(message), "POST /a" HEAD "Content-Length: %d\r\n\r\n%.*s",
	    BODY_MAX + 1, BODY_MAX + 1, chunk);
	got = ask(http, message, (size_t)len);
	assert_memory_equal(got, "HTTP/1.1 413 ", 13);
	assert_int_equal(handled, before);
	len = snprintf(message, sizeof(message),
	    "POST /a" HEAD "Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%.*s\r\n"
	    "0\r\n\r\n",
	    BODY_MAX, BODY_MAX, chunk);
	got = ask(http, message, (size_t)len);
	assert_non_null(strstr(got, "POST /a 1000\n"));
	sp_http_stop(&http);
}

/* The status of one request with a body of BODY_MAX bytes. */
static int
post(const struct sp_http *http)
{
	char message[2 * BODY_MAX];
	int len;

	len = snprintf(message, sizeof(message),
	    "POST /a" HEAD "Connection: close\r\nContent-Length: %d\r\n\r\n%0*d", BODY_MAX,
	    BODY_MAX, 1);
	return atoi(ask(http, message, (size_t)len) + strlen("HTTP/1.1 "));
}

/* Whoever begins many bodies and ends none takes no more memory than all bodies may together, and
 * gives it back when he leaves. */
static void
test_bodies_together(void **state)
{
	static const char head[] = "POST /a" HEAD "Content-Length: 1000\r\n\r\n";
	int64_t end = sp_time_monotonic_ms() + DEADLINE_MS;
	struct sp_http *http = start(64, 60, 60);
	char part[BODY_MAX - 1];
	int fds[60], count = 0;

	(void)state;
	memset(part, 'c', sizeof(part));
	assert_int_equal(post(http), 200);
	/* three are enough where none comes just while a whole one is held */
	do {
		assert_true(count < 60);
		fds[count] = dial(http);
		say(fds[count], head, sizeof(head) - 1);
		say(fds[count++], part, sizeof(part));
	} while (post(http) == 200);
	assert_int_equal(post(http), 503);
	while (count > 0)
		close(fds[--count]);
	while (post(http) != 200)
		assert_true(sp_time_monotonic_ms() < end);
	sp_http_stop(&http);
}

/* --- time ------------------------------------------------------------------------------------- */

/* Sends a byte of text every 50 ms until the server hangs up. */
static void
trickle(int fd, const char *text)
{
	int64_t end = sp_time_monotonic_ms() + DEADLINE_MS;
	char buf[16];

	while (*text != '\0') {
		say(fd, text++, 1);
		if (ready(fd, 50)) {
			assert_true(recv(fd, buf, sizeof(buf), 0) <= 0);
			return;
		}
		assert_true(sp_time_monotonic_ms() < end);
	}
	fail_msg("the server waited for all of it");
}

/* Whoever never pauses, and never ends: idle time alone would let a connection live on. */
static void
test_trickle(void **state)
{
	static const char rest[] = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
				   "xxxxxxxxxxxxxxxxxxxxxxxx"
				   "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
				   "xxxxxxxxxxxxxxxxxxxxxxxx"
				   "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
				   "xxxxxxxxxxxxxxxxxxxxxxxx";
	static const char *const begins[] = {"", "GET /a",
	    "GET /a" HEAD "X: ", "POST /a" HEAD "Content-Length: 500\r\n\r\n",
	    /* the second request of a connection */
	    "GET /a" HEAD "\r\n"};
	struct sp_http *http = start(64, 1, 1);
	char text[1024];
	unsigned before;
	int fd;

	(void)state;
	for (size_t i = 0; i < sizeof(begins) / sizeof(begins[0]); i++) {
		fd = dial(http);
		say(fd, begins[i], strlen(begins[i]));
		if (i == 4)
			assert_int_equal(hear(fd, text, sizeof(text), "GET /a 0\n"), 0);
		before = handled;
		trickle(fd, rest);
		assert_int_equal(handled, before);
		close(fd);
	}
	sp_http_stop(&http);
}

static unsigned
open_files(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned count = 0;

	assert_non_null(dir);
	while (readdir(dir) != NULL)
		count++;
	closedir(dir);
	return count;
}

/* Whoever does nothing: says nothing, says nothing more, does not read what it asked for. */
static void
test_idle(void **state)
{
	static const char big[] = "GET /big" HEAD "\r\n";
	struct sp_http *http = start(64, 1, 600);
	char *buf = malloc(1 << 20), text[1024];
	unsigned before = open_files() + 1; /* the connection that does not read, and its file */
	int fds[3];
	size_t got = 0;
	ssize_t n;

	(void)state;
	for (int i = 0; i < 3; i++)
		fds[i] = dial(http);
	say(fds[1], "GET /a" HEAD "\r\n", strlen("GET /a" HEAD "\r\n"));
	assert_int_equal(hear(fds[1], text, sizeof(text), "GET /a 0\n"), 0);
	say(fds[2], big, sizeof(big) - 1);
	for (int i = 0; i < 2; i++) {
		assert_true(ready(fds[i], DEADLINE_MS));
		assert_true(recv(fds[i], text, 1, 0) <= 0);
		close(fds[i]);
	}
	/* what is in the buffers is not lost, so that only the server knows when it has closed */
	for (int64_t end = sp_time_monotonic_ms() + DEADLINE_MS; open_files() > before;) {
		assert_true(sp_time_monotonic_ms() < end);
		poll(NULL, 0, 20);
	}
	while ((n = recv(fds[2], buf, 1 << 20, 0)) > 0)
		got += (size_t)n;
	assert_in_range(got, 0, BIG - 1);
	close(fds[2]);
	free(buf);
	sp_http_stop(&http);
}

/* The list itself, by a clock of our own. */
static void
test_conns(void **state)
{
	struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0xc0000201)};
	struct sp_conns *conns = sp_conns_new(100, 100, 1000000, 5000000);
	int64_t now = sp_time_monotonic_ms();
	struct sp_conn *a, *b;
	int fds[2], others[2];
	char c;

	(void)state;
	assert_non_null(conns);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, others), 0);
	a = sp_conns_add(conns, fds[0], (struct sockaddr *)&from);
	b = sp_conns_add(conns, others[0], (struct sockaddr *)&from);
	sp_conns_asked(conns, b);
	assert_int_equal(sp_conns_look(conns, now + 900000), 0);
	assert_int_equal(sp_conns_look(conns, now + 1100000), 1);
	assert_int_equal(recv(fds[1], &c, 1, MSG_DONTWAIT), 0);
	assert_int_equal(sp_conns_look(conns, now + 1100000), 0); /* once */
	sp_conns_answered(conns, b);
	assert_int_equal(sp_conns_look(conns, now + 5900000), 0);
	assert_int_equal(recv(others[1], &c, 1, MSG_DONTWAIT), -1);
	assert_int_equal(sp_conns_look(conns, now + 6100000), 1);
	sp_conns_drop(conns, a);
	sp_conns_drop(conns, b);
	sp_conns_free(&conns);
	assert_null(conns);
	for (int i = 0; i < 2; i++) {
		close(fds[i]);
		close(others[i]);
	}
}

/* How many of one address there are, as IPv4, the same in IPv6's clothes, and by networks of IPv6.
 */
static void
test_addresses(void **state)
{
	static const char *const texts[] = {"::ffff:192.0.2.1", "::ffff:192.0.2.2", "2001:db8::1",
	    "2001:db8::ffff:0:0:2", "2001:db8:0:1::1"};
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0xc0000201)};
	struct sp_conns *conns = sp_conns_new(5, 2, 1000, 1000);
	struct sockaddr_in6 v6[5] = {0};
	struct sp_conn *c[5];

	(void)state;
	for (int i = 0; i < 5; i++) {
		v6[i].sin6_family = AF_INET6;
		assert_int_equal(inet_pton(AF_INET6, texts[i], &v6[i].sin6_addr), 1);
	}
	assert_non_null(c[0] = sp_conns_add(conns, -1, (struct sockaddr *)&v4));
	assert_non_null(c[1] = sp_conns_add(conns, -1, (struct sockaddr *)&v6[0]));
	assert_null(sp_conns_add(conns, -1, (struct sockaddr *)&v4));
	assert_null(sp_conns_add(conns, -1, (struct sockaddr *)&v6[0]));
	sp_conns_drop(conns, c[0]);
	assert_non_null(c[0] = sp_conns_add(conns, -1, (struct sockaddr *)&v6[1]));
	assert_non_null(c[2] = sp_conns_add(conns, -1, (struct sockaddr *)&v6[2]));
	assert_non_null(c[3] = sp_conns_add(conns, -1, (struct sockaddr *)&v6[3]));
	assert_null(sp_conns_add(conns, -1, (struct sockaddr *)&v6[2]));
	assert_int_equal(sp_conns_full(conns), 0);
	assert_non_null(c[4] = sp_conns_add(conns, -1, (struct sockaddr *)&v6[4]));
	assert_int_equal(sp_conns_full(conns), 1);
	sp_conns_drop(conns, c[4]);
	assert_int_equal(sp_conns_full(conns), 0);
	for (int i = 0; i < 4; i++)
		sp_conns_drop(conns, c[i]);
	sp_conns_free(&conns);
}

/* --- very many -------------------------------------------------------------------------------- */

/* All of /big, once; ctx: the server. */
static void *
download(void *ctx)
{
	static const char ask_big[] = "GET /big" HEAD STOP;
	char *buf = malloc(1 << 20);
	int fd = dial(ctx);
	size_t got = 0;
	ssize_t n;

	say(fd, ask_big, sizeof(ask_big) - 1);
	while (ready(fd, DEADLINE_MS) && (n = recv(fd, buf, 1 << 20, 0)) > 0)
		got += (size_t)n;
	close(fd);
	free(buf);
	return got > BIG ? ctx : NULL; /* head and file */
}

/* One request, answered, down each of the connections. */
static void
ask_all(const int *fds, unsigned count)
{
	static const char message[] = "GET /a" HEAD "\r\n";
	char text[1024];

	for (unsigned i = 0; i < count; i++)
		say(fds[i], message, sizeof(message) - 1);
	for (unsigned i = 0; i < count; i++)
		if (hear(fds[i], text, sizeof(text), "GET /a 0\n") != 0)
			fail_msg("connection %u was closed: \"%s\"", i, text);
}

/* One request, answered. */
static void
ask_one(int fd)
{
	ask_all(&fd, 1);
}

/* While a thread is busy with /wait on fd. */
static void
keep_busy(int fd)
{
	static const char wait[] = "GET /wait" HEAD "\r\n";
	unsigned before = requests();

	pthread_mutex_lock(&gate);
	say(fd, wait, sizeof(wait) - 1);
	while (requests() == before)
		sched_yield();
}

static void
let_be(int fd)
{
	char text[1024];

	pthread_mutex_unlock(&gate);
	assert_int_equal(hear(fd, text, sizeof(text), "GET /wait 0\n"), 0);
}

/* A thread that has seen the server full accepts again, though it was another whose connections
 * ended, and that one is busy now. */
static void
test_room_again(void **state)
{
	struct sp_http *http = start(4, 600, 600);
	int theirs[2], ours[2], fd;

	(void)state;
	/* two connections each: what comes while one thread is busy is the other's */
	theirs[0] = dial(http);
	keep_busy(theirs[0]);
	ours[0] = dial(http);
	ours[1] = dial(http);
	ask_all(ours, 2);
	let_be(theirs[0]);
	keep_busy(ours[0]);
	theirs[1] = dial(http);
	ask_one(theirs[1]);
	let_be(ours[0]);
	close(theirs[0]);
	close(theirs[1]);
	theirs[0] = dial(http);
	/* what had ended before is let go of by now */
	ask_one(theirs[0]);
	ask_one(theirs[0]);
	keep_busy(theirs[0]);
	fd = dial(http);
	ask_one(fd);
	let_be(theirs[0]);
	close(fd);
	close(theirs[0]);
	close(ours[0]);
	close(ours[1]);
	sp_http_stop(&http);
}

#define SLOW 20
#define LOADS 4

/* Any number of requests that come while the server's thread is busy are answered, without another
 * event: libmicrohttpd takes 128 of them at once, and on threads of its own sleeps over 128, 256, …
 */
static void
test_batches(void **state)
{
	static const char wait[] = "GET /wait" HEAD "\r\n", message[] = "GET /a" HEAD "\r\n";
	unsigned before, most = 131;
	char text[1024];
	struct sp_http *http;
	int fds[131], busy;

	(void)state;
	for (unsigned count = 125; count <= most; count++) {
		http = start_on(1, 200, 600, 600);
		busy = dial(http);
		for (unsigned i = 0; i < count; i++)
			fds[i] = dial(http);
		ask_all(fds, count);
		before = requests();
		pthread_mutex_lock(&gate);
		say(busy, wait, sizeof(wait) - 1);
		while (requests() == before)
			sched_yield();
		for (unsigned i = 0; i < count; i++)
			say(fds[i], message, sizeof(message) - 1);
		pthread_mutex_unlock(&gate);
		assert_int_equal(hear(busy, text, sizeof(text), "GET /wait 0\n"), 0);
		for (unsigned i = 0; i < count; i++)
			assert_int_equal(hear(fds[i], text, sizeof(text), "GET /a 0\n"), 0);
		for (unsigned i = 0; i < count; i++)
			close(fds[i]);
		close(busy);
		sp_http_stop(&http);
	}
}

/* Three thousand connections that are kept, some that do not read what they asked for, and
 * downloads: all are served, none waits for another. */
static void
test_crowd(void **state)
{
	static const char ask_big[] = "GET /big" HEAD "\r\n";
	struct sp_http *http = start(3200, 600, 600);
	pthread_t loads[LOADS];
	int slow[SLOW], *fds;
	struct rlimit files;
	unsigned count = 3000;
	void *whole;

	(void)state;
	/* both ends are in this process */
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
	assert_int_equal(files.rlim_cur, files.rlim_max); /* the server's doing */
	if (files.rlim_max < 3 * 3200 + 600)
		count = (unsigned)(files.rlim_max - 600) / 3;
	fds = calloc(count, sizeof(*fds));
	for (unsigned i = 0; i < count; i++)
		fds[i] = dial(http);
	ask_all(fds, count);
	for (int i = 0; i < SLOW; i++) {
		slow[i] = dial(http);
		say(slow[i], ask_big, sizeof(ask_big) - 1);
		assert_true(ready(slow[i], DEADLINE_MS));
	}
	for (int i = 0; i < LOADS; i++)
		assert_int_equal(pthread_create(&loads[i], NULL, download, http), 0);
	ask_all(fds, count);
	for (int i = 0; i < LOADS; i++) {
		assert_int_equal(pthread_join(loads[i], &whole), 0);
		assert_ptr_equal(whole, http);
	}
	ask_all(fds, count);
	for (int i = 0; i < SLOW; i++)
		close(slow[i]);
	for (unsigned i = 0; i < count; i++)
		close(fds[i]);
	free(fds);
	sp_http_stop(&http);
}

/* Where files are scarce the server takes fewer connections, serves them, and says what to do. */
static void
test_few_files(void **state)
{
	struct rlimit files = {.rlim_cur = 200, .rlim_max = 256};
	char text[2048];
	int pipes[2], status;
	ssize_t n;
	pid_t pid;

	(void)state;
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct sp_http *http;
		int fds[64];

		dup2(pipes[1], STDERR_FILENO);
		if (setrlimit(RLIMIT_NOFILE, &files) != 0)
			_exit(1);
		http = start(1000, 60, 60);
		for (int i = 0; i < 64; i++)
			fds[i] = dial(http);
		ask_all(fds, 64);
		_exit(0);
	}
	close(pipes[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	n = read(pipes[0], text, sizeof(text) - 1);
	assert_true(n > 0);
	text[n] = '\0';
	close(pipes[0]);
	if (status != 0 || strstr(text, "256 files") == NULL ||
	    strstr(text, "at most 64 are taken") == NULL || strstr(text, "LimitNOFILE") == NULL)
		fail_msg("status %d: %s", status, text);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_rules),
	    cmocka_unit_test(test_heads),
	    cmocka_unit_test(test_pipeline),
	    cmocka_unit_test(test_bodies),
	    cmocka_unit_test(test_bodies_together),
	    cmocka_unit_test(test_trickle),
	    cmocka_unit_test(test_idle),
	    cmocka_unit_test(test_conns),
	    cmocka_unit_test(test_addresses),
	    cmocka_unit_test(test_room_again),
	    cmocka_unit_test(test_batches),
	    cmocka_unit_test(test_crowd),
	    cmocka_unit_test(test_few_files),
	};
	char path[] = "/tmp/sp-http-XXXXXX";

	big_fd = mkstemp(path);
	if (big_fd < 0 || unlink(path) != 0 || ftruncate(big_fd, (off_t)BIG) != 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
