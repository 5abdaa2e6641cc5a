/*
 * bus_peers.c -- who else may be on the bus: workers of other hosts, two of one name, and
 * strangers.
 *
 * Started with arguments, this program is the worker (and, as any worker, its own child).
 */
#include "base/file.h"
#include "base/landlock.h"
#include "base/limits.h"
#include "bus/envelope.h"
#include "bus/parts.h"
#include "bus/paths.h"
#include "bus/zloop.h"
#include "bus_fetcher.h"
#include "bus_rig.h"

#include <arpa/inet.h>
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zmq.h>

#include <cmocka.h>

#define LEASE "0123456789abcdef0123456789abcdef"

static struct rig rig;

/* --- addresses ------------------------------------------------------------------------------- */

static void
test_addresses(void **unused)
{
	static const char *const good[] = {"0.0.0.0:5700", "ledger.example.org:1", "[::1]:65535",
	    "[2001:db8::7]:5700", "192.0.2.7:0"};
	static const char *const bad[] = {"", ":1", "host", "host:", "host:65536", "host:1x",
	    "*:5700", "tcp://host:1", "a b:1", "[::1:1", "::1:5700", "[]:1", "[host]:1", "host:-1",
	    "host:00000000001", "ipc:///tmp/x:1", "eth0;1.2.3.4:5"};
	struct sp_err err;
	char *endpoint;
	size_t i;

	(void)unused;
	for (i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		endpoint = sp_zloop_address("bus.tcp", good[i], 1, &err);
		if (endpoint == NULL)
			fail_msg("%s: %s", good[i], err.msg);
		assert_memory_equal(endpoint, "tcp://", 6);
		assert_string_equal(endpoint + 6, good[i]);
		assert_int_equal(sp_zloop_is_ipv6(endpoint), good[i][0] == '[');
		free(endpoint);
	}
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (sp_zloop_address("bus.tcp", bad[i], 1, &err) != NULL)
			fail_msg("\"%s\" is taken", bad[i]);
		assert_int_equal(err.code, SP_E_CONFIG);
		assert_non_null(strstr(err.msg, "bus.tcp"));
	}
	/* there is no port 0 to connect to */
	assert_null(sp_zloop_address("bus.connect", "192.0.2.7:0", 0, &err));
}

/* --- parts ------------------------------------------------------------------------------------ */

static enum sp_code
add(struct sp_parts *parts, uint64_t offset, const char *text, uint64_t total, int *whole)
{
	char topic[] = "snapshot", content[16];
	Sallyport__Publish part;
	struct sp_err err;

	sallyport__publish__init(&part);
	part.topic = topic;
	strcpy(content, text);
	part.content.data = (uint8_t *)content;
	part.content.len = strlen(text);
	part.offset = offset;
	part.total = total;
	return sp_parts_add(parts, &part, whole, &err);
}

static void
test_parts(void **unused)
{
	struct sp_parts parts = {.len = 0};
	int whole;

	(void)unused;
	assert_int_equal(add(&parts, 3, "x", 9, &whole), SP_E_INCOMPLETE); /* of nothing */
	assert_int_equal(add(&parts, 0, "abc", 9, &whole), SP_OK);
	assert_false(whole);
	assert_int_equal(add(&parts, 3, "def", 9, &whole), SP_OK);
	assert_int_equal(add(&parts, 3, "def", 9, &whole), SP_OK); /* the answer was lost */
	assert_false(whole);
	assert_int_equal(add(&parts, 3, "dex", 9, &whole), SP_E_INCOMPLETE);
	assert_int_equal(add(&parts, 7, "h", 9, &whole), SP_E_INCOMPLETE);
	assert_int_equal(add(&parts, 6, "ghi", 10, &whole), SP_E_INCOMPLETE);
	assert_int_equal(add(&parts, 6, "ghi", 9, &whole), SP_OK);
	assert_true(whole);
	assert_memory_equal(parts.data, "abcdefghi", 9);
	/* and anew at any time */
	assert_int_equal(add(&parts, 0, "xy", 4, &whole), SP_OK);
	assert_int_equal(add(&parts, 2, "zz", 4, &whole), SP_OK);
	assert_true(whole);
	assert_memory_equal(parts.data, "xyzz", 4);
	sp_parts_clear(&parts);
}

/* --- two of one name -------------------------------------------------------------------------- */

static struct sp_hub_stats wanted;

static int
has_stats(void *ctx)
{
	struct sp_hub_stats now = sp_hub_stats(rig.hub);

	(void)ctx;
	return now.refused >= wanted.refused && now.malformed >= wanted.malformed &&
	       now.failed >= wanted.failed && now.rivals >= wanted.rivals;
}

static void
await_stats(struct sp_hub_stats stats)
{
	wanted = stats;
	rig_until(&rig, has_stats, NULL);
}

static int
set_up(void **unused)
{
	(void)unused;
	rig_open(&rig);
	rig_start_worker(&rig, rig.worker);
	rig_free(rig_wait(&rig, SALLYPORT__ENVELOPE__BODY_HEARTBEAT));
	return 0;
}

static int
set_up_hub(void **unused)
{
	(void)unused;
	rig_open(&rig);
	return 0;
}

static int
tear_down(void **unused)
{
	(void)unused;
	rig_close(&rig);
	return 0;
}

static void
say_accept(struct raw *raw, const char *lease)
{
	char *text = sp_xasprintf("\x08\x01\x5a\x22\x0a\x20%s", lease);

	assert_int_equal(zmq_send(raw->socket, text, strlen(text), 0), (int)strlen(text));
	free(text);
}

static int
hears(const struct raw *raw, const char *code)
{
	Sallyport__Envelope *envelope;
	uint8_t data[4096];
	int len = zmq_recv(raw->socket, data, sizeof(data), ZMQ_DONTWAIT), found;

	if (len < 0 || (size_t)len > sizeof(data) ||
	    sp_envelope_unpack(data, (size_t)len, SP_FROM_LEDGERD, &envelope, NULL) != SP_OK)
		return 0;
	found = envelope->body_case == SALLYPORT__ENVELOPE__BODY_REFUSAL &&
		strcmp(envelope->refusal->code, code) == 0;
	sallyport__envelope__free_unpacked(envelope, NULL);
	return found;
}

/* ledgerd says to it that the name is taken. */
static int
hears_exists(void *ctx)
{
	return hears(ctx, "exists");
}

static int
hears_denied(void *ctx)
{
	return hears(ctx, "denied");
}

/* Says it until it is heard: the end of the first connection takes a moment to get about. */
static int
says_and_is_heard(void *ctx)
{
	const struct rig_message *m;

	for (m = rig.messages; m != NULL; m = m->next)
		if (m->envelope->body_case == SALLYPORT__ENVELOPE__BODY_ACCEPT)
			return 1;
	say_accept(ctx, "ffffffffffffffffffffffffffffffff");
	return 0;
}

/* The second process is told to wait and not heard, the first goes on; when that is gone the second
 * has the name. */
static void
test_two_of_one_name(void **unused)
{
	struct rig_message *m;
	struct raw second;

	(void)unused;
	raw_open(&rig, &second, rig.worker, sp_key_public(rig.server)->bytes, "bus.socket");
	say_accept(&second, LEASE);
	rig_until(&rig, hears_exists, &second);
	say_accept(&second, LEASE);
	/* its messages lead nowhere, and the first one's leases are its own */
	m = rig_do(&rig, LEASE, "copy", "first");
	assert_string_equal(rig_detail(m, "name"), "first");
	rig_free(m);
	assert_int_equal(sp_hub_stats(rig.hub).rivals, 1); /* said once */
	kill(rig.pid, SIGKILL);
	assert_int_equal(rig_wait_worker(&rig), 128 + SIGKILL);
	rig_until(&rig, says_and_is_heard, &second);
	m = rig_wait(&rig, SALLYPORT__ENVELOPE__BODY_ACCEPT);
	assert_string_equal(m->worker, RIG_WORKER);
	assert_string_equal(m->envelope->accept->lease, "ffffffffffffffffffffffffffffffff");
	rig_free(m);
	raw_close(&second);
}

/* A real one that comes second says why it does nothing, and takes over. */
static void
test_second_worker(void **unused)
{
	struct raw first;

	(void)unused;
	raw_open(&rig, &first, rig.worker, sp_key_public(rig.server)->bytes, "bus.socket");
	say_accept(&first, LEASE);
	rig_free(rig_wait(&rig, SALLYPORT__ENVELOPE__BODY_ACCEPT));
	rig_start_worker(&rig, rig.worker);
	rig_wait_log(&rig, "another process has the key of " RIG_WORKER);
	raw_close(&first);
	rig_free(rig_wait(&rig, SALLYPORT__ENVELOPE__BODY_HEARTBEAT));
	rig_free(rig_do(&rig, LEASE, "copy", "second"));
}

/* Whose key is taken from the trust document is not heard any more, on no connection. */
static void
test_removed_key(void **unused)
{
	struct raw raw;

	(void)unused;
	raw_open(&rig, &raw, rig.worker, sp_key_public(rig.server)->bytes, "bus.socket");
	say_accept(&raw, LEASE);
	rig_free(rig_wait(&rig, SALLYPORT__ENVELOPE__BODY_ACCEPT));
	rig.deny = 1;
	say_accept(&raw, LEASE);
	rig_until(&rig, hears_denied, &raw);
	assert_null(rig.messages);
	rig.deny = 0;
	say_accept(&raw, LEASE);
	rig_free(rig_wait(&rig, SALLYPORT__ENVELOPE__BODY_ACCEPT));
	raw_close(&raw);
}

/* A key that the service manager has laid down: no file in the keys' directory is needed, and the
 * child is not told where it lies. */
static void
test_credentials(void **unused)
{
	const char *const args[] = {"-f", "-c", rig.conf_file, "--root", rig.root, NULL};
	char *dir = sp_xasprintf("%s/credentials", rig.root);
	char *file = sp_xasprintf("%s/bus.key", dir), *path;
	struct rig_message *m;
	struct sp_err err;

	(void)unused;
	if (sp_file_mkdirs(dir, 0700, &err) != SP_OK ||
	    sp_key_save(rig.worker, file, NULL, &err) != SP_OK)
		fail_msg("%s", err.msg);
	setenv("CREDENTIALS_DIRECTORY", dir, 1);
	path = sp_paths_key(rig.conf, "fetcherd", "bus");
	assert_string_equal(path, file);
	free(path);
	/* what is not among them lies where it always did */
	path = sp_paths_key(rig.conf, "fetcherd", "fetch");
	assert_non_null(strstr(path, "/etc/sallyport/keys/fetcherd/fetch.key"));
	free(path);
	rig_start_args(&rig, args);
	unsetenv("CREDENTIALS_DIRECTORY");
	rig_free(rig_wait(&rig, SALLYPORT__ENVELOPE__BODY_HEARTBEAT));
	m = rig_do(&rig, LEASE, "hostile", "/etc/hostname");
	assert_string_equal(rig_detail(m, "credentials"), "not told");
	rig_free(m);
	free(file);
	free(dir);
}

/* --- a child that was taken over ---------------------------------------------------------------
 */

static void
expect(const struct rig_message *m, const char *const expected[][2])
{
	size_t i;

	for (i = 0; expected[i][0] != NULL; i++)
		if (strcmp(rig_detail(m, expected[i][0]), expected[i][1]) != 0)
			print_error("%s: %s, not %s\n", expected[i][0],
			    rig_detail(m, expected[i][0]), expected[i][1]);
	for (i = 0; expected[i][0] != NULL; i++)
		assert_string_equal(rig_detail(m, expected[i][0]), expected[i][1]);
}

static void
test_hostile_child(void **unused)
{
	static const char *const always[][2] = {{"key", "EACCES"}, {"key-by-self", "EACCES"},
	    {"passwd", "EACCES"}, {"configuration", "EACCES"}, {"tmp", "EACCES"}, {"state", "done"},
	    {"library", "done"}, {"library-write", "EACCES"}, {"memory", "EACCES"},
#ifndef __SANITIZE_ADDRESS__
	    {"ptrace", "EPERM"}, {"vm-read", "EPERM"}, {"fork", "EPERM"},
#endif
	    {"owner", "EPERM"}, {"owner-group", "EPERM"}, {"signal", "EPERM"}, {"tgkill", "EPERM"},
	    {"own-signal", "done"}, {"userns", "EPERM"}, {"mount", "EPERM"}, {"bpf", "EPERM"},
	    {"exec", "EPERM"}, {"operators", "EPERM"}, {"unix-by-another-number", "EPERM"},
	    {"packet", "EPERM"}, {"private-mapping", "done"}, {"credentials", "not told"},
	    {NULL, NULL}};
	static const char *const with_network[][2] = {{"data-set", "ENOENT"}, {"inet", "done"},
	    {"inet6", "done"}, {"shared-mapping", "EPERM"}, {"checked-mapping", "EPERM"},
	    {NULL, NULL}};
	static const char *const without[][2] = {{"data-set", "done"}, {"inet", "EPERM"},
	    {"inet6", "EPERM"}, {"shared-mapping", "done"}, {"checked-mapping", "done"},
	    {NULL, NULL}};
	char *keys = sp_xasprintf("%s/etc/sallyport/keys/fetcherd/bus.key", rig.root);
	struct rig_message *m;

	(void)unused;
	if (sp_landlock_abi() < 2) {
		print_message("NOTE: this kernel has no Landlock\n");
		skip();
	}
	m = rig_do(&rig, LEASE, "hostile", "network");
	expect(m, always);
	expect(m, with_network);
	rig_free(m);
	m = rig_do(&rig, LEASE, "hostile", "/etc/hostname");
	expect(m, always);
	expect(m, without);
	rig_free(m);
	/* a job that names a key as its data set gets none, however it spells it */
	m = rig_do(&rig, LEASE, "hostile", keys);
	assert_string_equal(rig_failure(m)->code, "denied");
	assert_non_null(strstr(rig_failure(m)->message, "keys lie there"));
	rig_free(m);
	m = rig_do(&rig, LEASE, "hostile", "/");
	assert_string_equal(rig_failure(m)->code, "denied");
	rig_free(m);
	free(keys);
}

/* 1 where users may make namespaces. */
static int
may_unshare(void)
{
	pid_t pid = fork();
	int status = 1;

	if (pid == 0)
		_exit(unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 ? 0 : 1);
	return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

/* One that starts bubblewrap: keys and sockets are not there, and do not come back. */
static void
test_hostile_child_with_mounts(void **unused)
{
	static const char *const expected[][2] = {{"key", "ENOENT"}, {"key-at-last", "ENOENT"},
	    {"memory", "EACCES"},
#ifndef __SANITIZE_ADDRESS__
	    {"ptrace", "EPERM"}, {"vm-read", "EPERM"},
#endif
	    {"owner", "EPERM"}, {"owner-group", "EPERM"}, {"fork", "done"}, {"bpf", "EPERM"},
	    {"operators", "ENOENT"}, {"unix-by-another-number", "EPERM"}, {"packet", "EPERM"},
	    {"inet", "EPERM"}, {"inet6", "EPERM"}, {"exec", "done"}, {"bubblewrap", "done"},
	    {"uncover", "EPERM"}, {"userns", "done"}, {"uncover-again", "EINVAL"}, {NULL, NULL}};
	struct rig_message *m;

	(void)unused;
	if (!may_unshare()) {
		print_message("NOTE: nobody may make user namespaces here\n");
		skip();
	}
	m = rig_do(&rig, LEASE, "hostile", "bubblewrap");
	expect(m, expected);
	rig_free(m);
}

/* One that was to start bubblewrap, where that cannot be: keys are not left in sight. */
static void
test_hostile_child_without_namespaces(void **unused)
{
	static const char *const expected[][2] = {{"key", "EACCES"}, {"key-at-last", "EACCES"},
	    {"passwd", "EACCES"}, {"operators", "EPERM"}, {"userns", "EPERM"}, {NULL, NULL}};
	struct rig_message *m;

	(void)unused;
	if (sp_landlock_abi() < 2) {
		print_message("NOTE: this kernel has no Landlock\n");
		skip();
	}
	m = rig_do(&rig, LEASE, "hostile", "no-namespaces");
	expect(m, expected);
	rig_free(m);
}

/* --- the network ------------------------------------------------------------------------------ */

/* A port that nobody has just now. */
static int
free_port(void)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t len = sizeof(in);
	int fd = socket(AF_INET, SOCK_STREAM, 0), port;

	assert_int_equal(bind(fd, (struct sockaddr *)&in, len), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &len), 0);
	port = ntohs(in.sin_port);
	close(fd);
	return port;
}

/* The rig's ledgerd binds bus.tcp, and its workers use it. */
static void
open_network(void)
{
	int port = free_port();
	char *text = sp_xasprintf("side = \"bastion\";\n"
				  "bus = { tcp = \"127.0.0.1:%d\"; connect = \"127.0.0.1:%d\"; };\n"
				  "ledgerd = { heartbeat_ms = 50; lease_ms = 5000; };\n",
	    port, port);
	struct sp_err err;

	rig_close_hub(&rig);
	sp_conf_free(&rig.conf);
	if (sp_file_write(rig.conf_file, 0644, text, strlen(text), &err) != SP_OK ||
	    sp_conf_load(rig.conf_file, rig.root, sp_conf_keys, &rig.conf, &err) != SP_OK)
		fail_msg("%s", err.msg);
	rig_open_hub(&rig);
	free(text);
}

static int
set_up_network(void **unused)
{
	(void)unused;
	rig_open(&rig);
	open_network();
	return 0;
}

/* A worker elsewhere: the same steps under the same keys, and without the socket's file. */
static void
test_over_tcp(void **unused)
{
	struct rig_message *m;

	(void)unused;
	assert_int_equal(unlink(sp_conf_string(rig.conf, "bus.socket")), 0);
	/* its document gives it a uid, and over the network there is none */
	rig_start_worker(&rig, rig.worker);
	rig_wait_log(&rig, "ledgerd refuses this worker's key or uid");
	assert_true(sp_hub_stats(rig.hub).admitted == 0);
	rig.any_uid = 1;
	m = rig_wait(&rig, SALLYPORT__ENVELOPE__BODY_HEARTBEAT);
	assert_string_equal(m->worker, RIG_WORKER);
	rig_free(m);
	m = rig_do(&rig, LEASE, "copy", "far");
	assert_string_equal(rig_detail(m, "name"), "far");
	rig_free(m);
}

/* What ledgerd publishes stays on its host: who needs it says so at once. */
static void
test_no_topics_over_tcp(void **unused)
{
	const char *text = "side = \"bastion\"; bus = { connect = \"127.0.0.1:1\"; };\n"
			   "fetcherd = { parallel = 7; };\n";
	struct sp_err err;

	(void)unused;
	assert_int_equal(sp_file_write(rig.conf_file, 0644, text, strlen(text), &err), SP_OK);
	rig_start_worker(&rig, rig.worker);
	assert_int_equal(rig_wait_worker(&rig), 1);
	rig_wait_log(&rig, "bus.connect is set, but fetcherd needs what ledgerd publishes");
}

/* ctx: a socket's descriptor, that the other end closes. */
static int
has_ended(void *ctx)
{
	char byte[64]; /* of a greeting */

	for (;;) {
		ssize_t n = recv(*(int *)ctx, byte, sizeof(byte), MSG_DONTWAIT);

		if (n <= 0)
			return n == 0 || errno == ECONNRESET;
	}
}

static int
connect_to(const char *address)
{
	const char *port = strrchr(address, ':') + 1;
	struct sockaddr_in in = {.sin_family = AF_INET,
	    .sin_addr = {htonl(INADDR_LOOPBACK)},
	    .sin_port = htons((uint16_t)atoi(port))};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	return fd;
}

static void
test_strangers(void **unused)
{
	static const char *const garbage[] = {"GET / HTTP/1.0\r\n\r\n",
	    "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello, and then some more of it",
	    "SSH-2.0-OpenSSH_9.2\r\n", "\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\x03\x00NULL"};
	const uint8_t *server = sp_key_public(rig.server)->bytes;
	const char *address = sp_conf_string(rig.conf, "bus.tcp");
	uint8_t *large = sp_xcalloc(8, SP_REQUEST_MAX);
	struct sp_key *unknown;
	struct sp_err err;
	struct raw raw;
	size_t i;
	int fd, silent;

	(void)unused;
	rig.any_uid = 1;
	silent = connect_to(address); /* says nothing, for as long as it may */
	for (i = 0; i < sizeof(garbage) / sizeof(garbage[0]); i++) {
		fd = connect_to(address);
		assert_true(send(fd, garbage[i], strlen(garbage[i]), MSG_NOSIGNAL) > 0);
		shutdown(fd, SHUT_WR);
		rig_until(&rig, has_ended, &fd);
		close(fd);
	}
	/* no CURVE, another ledgerd's key, a key that nobody has given a name */
	raw_open(&rig, &raw, NULL, NULL, "bus.tcp");
	rig_until(&rig, raw_was_turned_away, &raw);
	raw_close(&raw);
	raw_open(&rig, &raw, rig.other, sp_key_public(rig.other)->bytes, "bus.tcp");
	rig_until(&rig, raw_was_turned_away, &raw);
	raw_close(&raw);
	await_stats((struct sp_hub_stats){.failed = 2});
	assert_int_equal(sp_key_new(SP_ROLE_BUS, "nobody", &unknown, &err), SP_OK);
	raw_open(&rig, &raw, unknown, server, "bus.tcp");
	await_stats((struct sp_hub_stats){.failed = 2, .refused = 1});
	raw_close(&raw);
	sp_key_free(&unknown);
	assert_true(sp_hub_stats(rig.hub).admitted == 0);
	/* what is too large, from one that was let in: said whose it is, or cut off */
	raw_open(&rig, &raw, rig.other, server, "bus.tcp");
	zmq_send(raw.socket, large, SP_REQUEST_MAX + 1, 0);
	await_stats((struct sp_hub_stats){.malformed = 1});
	zmq_send(raw.socket, large, (size_t)8 * SP_REQUEST_MAX, 0);
	free(large);
	rig_until(&rig, raw_was_cut_off, &raw);
	raw_close(&raw);
	rig_start_worker(&rig, rig.worker);
	rig_free(rig_wait(&rig, SALLYPORT__ENVELOPE__BODY_HEARTBEAT));
	rig_free(rig_do(&rig, LEASE, "copy", "after"));
	close(silent);
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_addresses),
	    cmocka_unit_test(test_parts),
	    cmocka_unit_test_setup_teardown(test_two_of_one_name, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_second_worker, set_up_hub, tear_down),
	    cmocka_unit_test_setup_teardown(test_credentials, set_up_hub, tear_down),
	    cmocka_unit_test_setup_teardown(test_removed_key, set_up_hub, tear_down),
	    cmocka_unit_test_setup_teardown(test_hostile_child, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_hostile_child_with_mounts, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(
		test_hostile_child_without_namespaces, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_over_tcp, set_up_network, tear_down),
	    cmocka_unit_test_setup_teardown(test_no_topics_over_tcp, set_up_network, tear_down),
	    cmocka_unit_test_setup_teardown(test_strangers, set_up_network, tear_down),
	};

	if (argc > 1)
		return sp_worker_main(argc, argv, &bus_fetcher_spec);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
