/* diode_edge.c -- sockets, threads and files of both ends, over the loopback device and a relay
 * that loses, repeats and forges datagrams. */
#include "base/file.h"
#include "base/time.h"
#include "diode/recv.h"
#include "diode/send.h"
#include "diode/udp.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define DEADLINE_MS 60000
#define OBJECTS 5
#define JOB "0123456789abcdef0123456789abcdef"

static const size_t sizes[OBJECTS] = {900, 0, 1, 700000, 172033};
static char dir[] = "/tmp/sp-diode-edge-XXXXXX";

/* dir/name, in one of a few static buffers */
static const char *
at(const char *name)
{
	static char paths[8][256];
	static unsigned turn;
	char *path = paths[turn++ % 8];

	snprintf(path, sizeof(paths[0]), "%s/%s", dir, name);
	return path;
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

/* --- sockets --- */

struct heard {
	unsigned count;
	size_t len;
	uint8_t next; /* first byte of the datagram that should come */
};

static void
hear(void *ctx, const uint8_t *data, size_t len)
{
	struct heard *heard = ctx;

	assert_int_equal(len, heard->len);
	assert_int_equal(data[0], heard->next);
	for (size_t i = 1; i < len; i++)
		assert_int_equal(data[i], (uint8_t)(data[0] + i));
	heard->next++;
	heard->count++;
}

static void
send_and_hear(const char *listen, const char *destination_form)
{
	static const struct {
		size_t len;
		unsigned count;
	} trains[] = {{1472, 44}, {1472, 1}, {100, 44}, {100, 3}, {1, 1}};
	static uint8_t train[44 * 1472];
	struct sp_udp_sender sender;
	struct sp_udp_receiver *receiver = NULL;
	struct sp_err err;
	char destination[64];
	int got;

	if (sp_udp_receiver_open(listen, 4 << 20, &receiver, &got, &err) != SP_OK)
		fail_msg("%s", err.msg);
	assert_true(got > 0);
	snprintf(
	    destination, sizeof(destination), destination_form, sp_udp_receiver_port(receiver));
	assert_int_equal(sp_udp_sender_open(&sender, destination, &err), SP_OK);
	for (size_t t = 0; t < sizeof(trains) / sizeof(trains[0]); t++) {
		struct heard heard = {0, trains[t].len, 0};
		struct pollfd fd = {.fd = sp_udp_receiver_fd(receiver), .events = POLLIN};

		for (unsigned i = 0; i < trains[t].count; i++)
			for (size_t j = 0; j < trains[t].len; j++)
				train[i * trains[t].len + j] = (uint8_t)(i + j);
		assert_int_equal(
		    sp_udp_sender_send(&sender, train, trains[t].len, trains[t].count, &err),
		    SP_OK);
		while (heard.count < trains[t].count) {
			assert_int_equal(poll(&fd, 1, DEADLINE_MS), 1);
			(void)sp_udp_receiver_read(receiver, hear, &heard);
		}
		assert_int_equal(sp_udp_receiver_read(receiver, hear, &heard), 0);
	}
	assert_int_equal(sender.datagrams, 44 + 1 + 44 + 3 + 1);
	assert_int_equal(sender.unsent, 0);
	assert_int_equal(sp_udp_receiver_overflow(receiver), 0);
	sp_udp_sender_close(&sender);
	sp_udp_receiver_close(&receiver);
	assert_null(receiver);
}

static void
test_udp(void **state)
{
	struct addrinfo *found = NULL;

	(void)state;
	send_and_hear("127.0.0.1:0", "127.0.0.1:%u");
	/* a name, where the machine has one: a minimal system lacks even /etc/hosts */
	if (getaddrinfo("localhost", NULL, &(struct addrinfo){.ai_family = AF_INET}, &found) == 0) {
		send_and_hear("127.0.0.1:0", "localhost:%u");
		freeaddrinfo(found);
	}
}

static void
test_udp_bad_addresses(void **state)
{
	static const char *const bad[] = {"", ":", "127.0.0.1", "127.0.0.1:", ":5", "127.0.0.1:x",
	    "127.0.0.1:70000", "127.0.0.1:-1", "[::1", "[::1]", "256.0.0.1:5", "a b:5"};
	struct sp_udp_sender sender;
	struct sp_udp_receiver *receiver = NULL;
	struct sp_err err;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (sp_udp_sender_open(&sender, bad[i], &err) != SP_E_CONFIG)
			fail_msg("a sender to \"%s\" was opened", bad[i]);
		assert_true(strlen(err.msg) > 10);
		if (sp_udp_receiver_open(bad[i], 1 << 16, &receiver, NULL, &err) != SP_E_CONFIG)
			fail_msg("a receiver on \"%s\" was opened", bad[i]);
	}
	/* not an address of this machine */
	assert_int_equal(
	    sp_udp_receiver_open("192.0.2.1:0", 1 << 16, &receiver, NULL, &err), SP_E_IO);
	assert_null(receiver);
}

/* --- a relay between the ends --- */

struct relay {
	struct sp_udp_receiver *in;
	int out;
	_Atomic int must_stop;
	pthread_t thread;
	uint64_t seen, lost, forged;
	uint8_t last[SP_FRAME_MAX];
};

static void
relay_one(void *ctx, const uint8_t *data, size_t len)
{
	struct relay *relay = ctx;
	uint8_t forged[SP_FRAME_MAX + 1];
	uint64_t n = relay->seen++;

	/* single losses, and a burst of 60 in each 500 */
	if (n % 23 == 0 || n % 500 >= 440) {
		relay->lost++;
		return;
	}
	(void)send(relay->out, data, len, 0);
	if (n % 17 == 0)
		(void)send(relay->out, data, len, 0);
	if (n % 19 != 0)
		return;
	memcpy(forged, data, len);
	forged[n % len] ^= 0x10;
	(void)send(relay->out, forged, len, 0);
	memset(forged, 0x5a, sizeof(forged));
	(void)send(relay->out, forged, n % sizeof(forged), 0);
	relay->forged += 2;
}

static void *
relay_main(void *arg)
{
	struct relay *relay = arg;
	struct pollfd fd = {.fd = sp_udp_receiver_fd(relay->in), .events = POLLIN};

	while (!relay->must_stop) {
		(void)poll(&fd, 1, 20);
		(void)sp_udp_receiver_read(relay->in, relay_one, relay);
	}
	return NULL;
}

static void
relay_start(struct relay *relay, unsigned port)
{
	struct sockaddr_in to = {.sin_family = AF_INET,
	    .sin_port = htons((uint16_t)port),
	    .sin_addr = {htonl(INADDR_LOOPBACK)}};
	struct sp_err err;

	memset(relay, 0, sizeof(*relay));
	assert_int_equal(
	    sp_udp_receiver_open("127.0.0.1:0", 8 << 20, &relay->in, NULL, &err), SP_OK);
	relay->out = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(relay->out, (struct sockaddr *)&to, sizeof(to)), 0);
	assert_int_equal(pthread_create(&relay->thread, NULL, relay_main, relay), 0);
}

static void
relay_stop(struct relay *relay)
{
	relay->must_stop = 1;
	pthread_join(relay->thread, NULL);
	close(relay->out);
	sp_udp_receiver_close(&relay->in);
}

/* --- what both ends report --- */

struct news {
	pthread_mutex_t lock;
	pthread_cond_t wake;
	unsigned events[SP_RX_LINK_DOWN + 1];
	unsigned sent;
	enum sp_code sent_code;
};

static struct news news = {.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

static void
on_event(void *ctx, const struct sp_rx_event *event)
{
	struct sp_recv **recv = ctx;

	assert_non_null(*recv); /* whoever is told something may ask the receiver for more */
	pthread_mutex_lock(&news.lock);
	news.events[event->kind]++;
	pthread_cond_broadcast(&news.wake);
	pthread_mutex_unlock(&news.lock);
}

static void
on_sent(void *ctx, enum sp_code code, const struct sp_err *err)
{
	(void)ctx;
	(void)err;
	pthread_mutex_lock(&news.lock);
	news.sent++;
	news.sent_code = code;
	pthread_cond_broadcast(&news.wake);
	pthread_mutex_unlock(&news.lock);
}

static void
await(const unsigned *what, unsigned times, const char *name)
{
	struct timespec until;
	int rc = 0;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += DEADLINE_MS / 1000;
	pthread_mutex_lock(&news.lock);
	while (*what < times && rc == 0)
		rc = pthread_cond_timedwait(&news.wake, &news.lock, &until);
	pthread_mutex_unlock(&news.lock);
	if (rc != 0)
		fail_msg("gave up waiting for %s", name);
}

static void
news_reset(void)
{
	pthread_mutex_lock(&news.lock);
	memset(news.events, 0, sizeof(news.events));
	news.sent = 0;
	news.sent_code = SP_OK;
	pthread_mutex_unlock(&news.lock);
}

/* --- both ends --- */

struct ends {
	struct sp_manifest manifest;
	struct sp_object objects[OBJECTS];
	uint8_t *data[OBJECTS];
	const char *paths[OBJECTS];
	struct sp_send_files files;
	struct sp_tx *tx;
	struct sp_recv_config recv_config;
	struct sp_recv *recv;
	struct sp_send_config send_config;
	struct sp_send *send;
};

static void
objects_make(struct ends *ends)
{
	struct sp_tx_config config;
	struct sp_err err;

	memset(ends, 0, sizeof(*ends));
	memcpy(ends->manifest.job, JOB, sizeof(JOB));
	ends->manifest.objects = ends->objects;
	ends->manifest.count = OBJECTS;
	for (unsigned i = 0; i < OBJECTS; i++) {
		char name[16];

		ends->data[i] = malloc(sizes[i] + 1);
		for (size_t j = 0; j < sizes[i]; j++)
			ends->data[i][j] = (uint8_t)(j * (2 * i + 5) + j / 251);
		snprintf(name, sizeof(name), "object-%u", i);
		ends->paths[i] = sp_xstrdup(at(name));
		assert_int_equal(
		    sp_file_write(ends->paths[i], 0600, ends->data[i], sizes[i], &err), SP_OK);
		ends->objects[i].size = sizes[i];
		ends->objects[i].kind = i == 0 ? SP_OBJECT_RELEASE : SP_OBJECT_BLOB;
		sp_sha256(ends->data[i], sizes[i], ends->objects[i].digest);
	}
	memcpy(ends->manifest.release, ends->objects[0].digest, SP_DIGEST_LEN);
	ends->files = (struct sp_send_files){ends->paths, 0, -1};
	sp_tx_defaults(&config);
	config.passes = 2;
	assert_int_equal(
	    sp_tx_new(&config, &ends->manifest, sp_send_files_read, &ends->files, &ends->tx, &err),
	    SP_OK);
}

static void
objects_free(struct ends *ends)
{
	sp_tx_free(&ends->tx);
	sp_send_files_close(&ends->files);
	for (unsigned i = 0; i < OBJECTS; i++) {
		free(ends->data[i]);
		free((char *)(uintptr_t)ends->paths[i]);
	}
}

static void
recv_start(struct ends *ends)
{
	struct sp_err err;

	sp_recv_defaults(&ends->recv_config);
	ends->recv_config.listen = "127.0.0.1:0";
	memset(ends->recv_config.key, 7, sizeof(ends->recv_config.key));
	ends->recv_config.spool_dir = at("spool");
	ends->recv_config.rx.grace_ms = 100;
	if (sp_recv_open(&ends->recv_config, on_event, &ends->recv, &ends->recv, &err) != SP_OK)
		fail_msg("%s", err.msg);
}

static void
send_start(struct ends *ends, unsigned port, uint64_t rate_bytes_per_s)
{
	struct sp_err err;
	char destination[32];

	snprintf(destination, sizeof(destination), "127.0.0.1:%u", port);
	ends->send_config = (struct sp_send_config){.destination = destination,
	    .rate_bytes_per_s = rate_bytes_per_s,
	    .pass_pause_ms = 1,
	    .heartbeat_ms = 5,
	    .symbol_size = SP_FRAME_SYMBOL_DEFAULT};
	memset(ends->send_config.key, 7, sizeof(ends->send_config.key));
	if (sp_send_open(&ends->send_config, &ends->send, &err) != SP_OK)
		fail_msg("%s", err.msg);
}

static void
expect_objects(const struct ends *ends)
{
	struct sp_err err;

	for (unsigned i = 0; i < OBJECTS; i++) {
		char *path = sp_recv_path(ends->recv, ends->objects[i].digest);
		uint8_t *data;
		size_t len;

		if (sp_file_read(path, 1 << 20, &data, &len, &err) != SP_OK)
			fail_msg("%s", err.msg);
		assert_int_equal(len, sizes[i]);
		assert_memory_equal(data, ends->data[i], len);
		free(data);
		free(path);
	}
}

static unsigned
spool_entries(void)
{
	struct dirent *entry;
	DIR *d = opendir(at("spool"));
	unsigned n = 0;

	assert_non_null(d);
	while ((entry = readdir(d)) != NULL)
		n += entry->d_name[0] != '.';
	closedir(d);
	return n;
}

static void
test_transfer(void **state)
{
	int64_t until_ms = sp_time_monotonic_ms() + DEADLINE_MS;
	struct sp_send_progress progress;
	struct sp_recv_stats stats;
	struct relay relay;
	struct ends ends;
	struct sp_err err;

	(void)state;
	news_reset();
	objects_make(&ends);
	recv_start(&ends);
	relay_start(&relay, sp_recv_port(ends.recv));
	send_start(&ends, sp_udp_receiver_port(relay.in), 8 << 20);
	/* heartbeats, before there is anything to send */
	await(&news.events[SP_RX_LINK_UP], 1, "the link");
	assert_int_equal(sp_send_start(ends.send, ends.tx, on_sent, NULL, &err), SP_OK);
	await(&news.events[SP_RX_TRANSFER_DONE], 1, "the transfer's end");
	await(&news.sent, 1, "the sender's end");
	assert_int_equal(news.sent_code, SP_OK);
	assert_int_equal(news.events[SP_RX_TRANSFER_KNOWN], 1);
	assert_int_equal(news.events[SP_RX_OBJECT_DONE], OBJECTS);
	assert_int_equal(news.events[SP_RX_OBJECT_FAILED], 0);
	assert_int_equal(news.events[SP_RX_TRANSFER_REFUSED], 0);
	expect_objects(&ends);

	sp_send_progress(ends.send, &progress);
	assert_int_equal(progress.pass, 0);
	assert_true(progress.heartbeats > 0);
	assert_true(progress.datagrams * 1448 == progress.bytes);
	sp_recv_forget(ends.recv, JOB);
	while (spool_entries() > 0) {
		assert_true(sp_time_monotonic_ms() < until_ms);
		(void)poll(NULL, 0, 5);
	}
	sp_send_close(&ends.send);
	sp_recv_stats(ends.recv, &stats);
	relay_stop(&relay);
	sp_recv_close(&ends.recv);
	assert_true(relay.lost > 100);
	assert_true(stats.link.dropped[SP_FRAME_REPLAYED] > 0);
	assert_true(stats.link.dropped[SP_FRAME_BAD_TAG] > 0);
	assert_true(stats.link.dropped[SP_FRAME_BAD_SIZE] > 0);
	assert_true(stats.link.lost > 100);
	assert_int_equal(stats.spool_errors, 0);
	objects_free(&ends);
}

/* A receiver that starts again in the middle goes on with what the spool has. */
static void
test_receiver_restarts(void **state)
{
	struct sp_udp_receiver *nobody;
	struct sp_recv_stats stats;
	struct ends ends;
	struct sp_err err;
	char listen[32];

	(void)state;
	news_reset();
	objects_make(&ends);
	/* takes its port, gives it back, and so knows one for both runs */
	assert_int_equal(sp_udp_receiver_open("127.0.0.1:0", 1 << 16, &nobody, NULL, &err), SP_OK);
	snprintf(listen, sizeof(listen), "127.0.0.1:%u", sp_udp_receiver_port(nobody));
	/* slow: what is lost while nobody listens must not be more than the parity */
	send_start(&ends, sp_udp_receiver_port(nobody), 512 << 10);
	sp_udp_receiver_close(&nobody);
	sp_recv_defaults(&ends.recv_config);
	ends.recv_config.listen = listen;
	memset(ends.recv_config.key, 7, sizeof(ends.recv_config.key));
	ends.recv_config.spool_dir = at("spool");
	assert_int_equal(
	    sp_recv_open(&ends.recv_config, on_event, &ends.recv, &ends.recv, &err), SP_OK);
	await(&news.events[SP_RX_LINK_UP], 1, "the link");
	assert_int_equal(sp_send_start(ends.send, ends.tx, on_sent, NULL, &err), SP_OK);
	/* the release is done; of the large objects something is on its way */
	await(&news.events[SP_RX_OBJECT_DONE], 1, "a first object");
	sp_recv_close(&ends.recv);
	assert_int_equal(
	    sp_recv_open(&ends.recv_config, on_event, &ends.recv, &ends.recv, &err), SP_OK);
	/* the manifest is read before any datagram, so that its objects are no strays */
	assert_int_equal(news.events[SP_RX_TRANSFER_KNOWN], 2);
	await(&news.events[SP_RX_TRANSFER_DONE], 1, "the transfer's end");
	expect_objects(&ends);
	await(&news.sent, 1, "the sender's end");
	sp_send_close(&ends.send);
	sp_recv_stats(ends.recv, &stats);
	assert_int_equal(stats.spool_errors, 0);
	sp_recv_close(&ends.recv);
	assert_int_equal(sp_file_remove_all(at("spool"), &err), SP_OK);
	objects_free(&ends);
}

static void
test_cancel_and_faults(void **state)
{
	struct sp_send *send = NULL;
	struct ends ends;
	struct sp_err err;

	(void)state;
	news_reset();
	objects_make(&ends);
	/* at this rate a pass takes half an hour */
	send_start(&ends, 9, 1000);
	assert_int_equal(sp_send_start(ends.send, ends.tx, on_sent, NULL, &err), SP_OK);
	assert_int_equal(sp_send_start(ends.send, ends.tx, on_sent, NULL, &err), SP_E_STATE);
	sp_send_cancel(ends.send);
	await(&news.sent, 1, "the cancelled transfer");
	assert_int_equal(news.sent_code, SP_E_CANCELLED);
	/* closing ends one too */
	assert_int_equal(sp_send_start(ends.send, ends.tx, on_sent, NULL, &err), SP_OK);
	sp_send_close(&ends.send);
	assert_int_equal(news.sent, 2);
	assert_int_equal(news.sent_code, SP_E_CANCELLED);
	/* a file that was cut off, and one that is not what the manifest says */
	send_start(&ends, 9, 100 << 20);
	assert_int_equal(truncate(ends.paths[0], 10), 0);
	assert_int_equal(sp_send_start(ends.send, ends.tx, on_sent, NULL, &err), SP_OK);
	await(&news.sent, 3, "the transfer of a short file");
	assert_int_equal(news.sent_code, SP_E_CORRUPT);
	sp_send_files_close(&ends.files);
	ends.data[0][5] ^= 1;
	assert_int_equal(sp_file_write(ends.paths[0], 0600, ends.data[0], sizes[0], &err), SP_OK);
	assert_int_equal(sp_send_start(ends.send, ends.tx, on_sent, NULL, &err), SP_OK);
	await(&news.sent, 4, "the transfer of a changed file");
	assert_int_equal(news.sent_code, SP_E_CORRUPT);
	sp_send_close(&ends.send);

	ends.send_config.destination = "127.0.0.1:9";
	ends.send_config.rate_bytes_per_s = 0;
	assert_int_equal(sp_send_open(&ends.send_config, &send, &err), SP_E_CONFIG);
	ends.send_config.rate_bytes_per_s = 1 << 20;
	ends.send_config.destination = "nowhere";
	assert_int_equal(sp_send_open(&ends.send_config, &send, &err), SP_E_CONFIG);
	assert_null(send);
	objects_free(&ends);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_udp),
	    cmocka_unit_test(test_udp_bad_addresses),
	    cmocka_unit_test(test_transfer),
	    cmocka_unit_test(test_receiver_restarts),
	    cmocka_unit_test(test_cancel_and_faults),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
