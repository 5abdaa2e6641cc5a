/*
 * tool.c -- what the demo and the integration tests do to the path from outside: a lossy wire, an
 * attacker who holds the link key, and ports that are free.
 *
 *	sp-e2e ports N                              prints N free ports of 127.0.0.1
 *	sp-e2e relay FROM TO LOSS SEED STATS        forwards datagrams, drops the share LOSS of
 *them, writes STATS at the end (SIGTERM) sp-e2e forge LINKKEY TO JOB OFFSET FILE…    sends FILEs as
 *a transfer whose first is the release, with the bit 1 of the release's byte OFFSET flipped (OFFSET
 *-1: nothing)
 */
#include "../draw.h"
#include "base/file.h"
#include "base/log.h"
#include "diode/send.h"
#include "eval/sandbox.h"
#include "release/key.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PORTS_MAX 64
#define FORGE_FILES_MAX 256

static int
fail(const struct sp_err *err)
{
	fprintf(stderr, "sp-e2e: %s\n", err->msg);
	return 1;
}

/* Bound at the same time, so that all are different; SO_REUSEADDR is not needed to bind them again,
 * nothing was ever connected. */
static int
ports(int count)
{
	int fds[PORTS_MAX];

	if (count < 1 || count > PORTS_MAX)
		return 2;
	for (int i = 0; i < count; i++) {
		struct sockaddr_in addr = {
		    .sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
		socklen_t len = sizeof(addr);
		int udp;

		fds[i] = socket(AF_INET, SOCK_STREAM, 0);
		udp = socket(AF_INET, SOCK_DGRAM, 0);
		if (fds[i] < 0 || udp < 0 || bind(fds[i], (struct sockaddr *)&addr, len) != 0 ||
		    getsockname(fds[i], (struct sockaddr *)&addr, &len) != 0 ||
		    bind(udp, (struct sockaddr *)&addr, len) != 0) {
			perror("sp-e2e: ports");
			return 1;
		}
		close(udp);
		printf("%u%c", ntohs(addr.sin_port), i + 1 < count ? ' ' : '\n');
	}
	for (int i = 0; i < count; i++)
		close(fds[i]);
	return 0;
}

/* --- relay --- */

static int
parse_addr(const char *text, struct sockaddr_in *addr)
{
	char host[64];
	unsigned port;

	memset(addr, 0, sizeof(*addr));
	addr->sin_family = AF_INET;
	// NOLINTNEXTLINE(cert-err34-c): what is too large for a port is refused
	if (sscanf(text, "%63[0-9.]:%u", host, &port) != 2 || port > 65535 ||
	    inet_pton(AF_INET, host, &addr->sin_addr) != 1) {
		fprintf(stderr, "sp-e2e: %s is not ADDRESS:PORT\n", text);
		return 0;
	}
	addr->sin_port = htons((uint16_t)port);
	return 1;
}

/* The same seed drops the same datagrams. */
static double
uniform(uint64_t *state)
{
	return (double)(draw_next(state) >> 11) * 0x1p-53;
}

static volatile sig_atomic_t must_stop;

static void
on_term(int sig)
{
	(void)sig;
	must_stop = 1;
}

static int
relay(const char *from, const char *to, double loss, uint64_t seed, const char *stats)
{
	struct sigaction action = {.sa_handler = on_term};
	struct sockaddr_in in, out;
	uint64_t forwarded = 0, dropped = 0, state = seed;
	int rcvbuf = 64 << 20, fd, len;
	uint8_t data[65536];
	char text[128];
	struct sp_err err;
	sigset_t term, old;

	if (!parse_addr(from, &in) || !parse_addr(to, &out))
		return 2;
	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &term, &old); /* delivered in ppoll only: none is missed */
	sigaction(SIGTERM, &action, NULL);
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&in, sizeof(in)) != 0) {
		perror("sp-e2e: relay");
		return 1;
	}
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &rcvbuf, sizeof(rcvbuf)) != 0)
		(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &rcvbuf, sizeof(rcvbuf));
	while (!must_stop) {
		struct pollfd poll = {.fd = fd, .events = POLLIN};
		ssize_t n;

		if (ppoll(&poll, 1, NULL, &old) < 0 && errno != EINTR)
			return 1;
		while ((n = recv(fd, data, sizeof(data), 0)) >= 0) {
			if (uniform(&state) < loss) {
				dropped++;
				continue;
			}
			forwarded++;
			/* a receiver that is not there yet answers with ICMP: not our concern */
			(void)sendto(fd, data, (size_t)n, 0, (struct sockaddr *)&out, sizeof(out));
		}
	}
	len = snprintf(text, sizeof(text), "{\"dropped\": %llu, \"forwarded\": %llu}\n",
	    (unsigned long long)dropped, (unsigned long long)forwarded);
	return sp_file_write(stats, 0644, text, (size_t)len, &err) == SP_OK ? 0 : fail(&err);
}

/* --- forge --- */

struct waiter {
	pthread_mutex_t lock;
	pthread_cond_t wake;
	int done;
	enum sp_code code;
	struct sp_err err;
};

static void
on_done(void *ctx, enum sp_code code, const struct sp_err *err)
{
	struct waiter *waiter = ctx;

	pthread_mutex_lock(&waiter->lock);
	waiter->done = 1;
	waiter->code = code;
	if (code != SP_OK)
		waiter->err = *err;
	pthread_cond_signal(&waiter->wake);
	pthread_mutex_unlock(&waiter->lock);
}

struct files {
	uint8_t *data[FORGE_FILES_MAX];
	size_t len[FORGE_FILES_MAX];
};

static enum sp_code
read_object(void *ctx, size_t object, uint64_t offset, uint8_t *out, size_t len, struct sp_err *err)
{
	const struct files *files = ctx;

	(void)err;
	SP_ASSERT(offset + len <= files->len[object]);
	memcpy(out, files->data[object] + offset, len);
	return SP_OK;
}

/* sp_file_read puts a NUL after the bytes */
static int
is_tree(const uint8_t *data)
{
	return strncmp((const char *)data, "sallyport-tree/1\n", 17) == 0;
}

static enum sp_code
load_files(int count, char *const *paths, long flip, struct files *files,
    struct sp_manifest *manifest, struct sp_err *err)
{
	for (int i = 0; i < count; i++) {
		struct sp_object *object = &manifest->objects[manifest->count++];
		enum sp_code code =
		    sp_file_read(paths[i], 1u << 30, &files->data[i], &files->len[i], err);

		if (code != SP_OK)
			return code;
		if (i == 0 && flip >= 0) {
			if ((size_t)flip >= files->len[0])
				return sp_err_set(
				    err, SP_E_INVALID, "%s has no byte %ld", paths[0], flip);
			files->data[0][flip] ^= 1;
		}
		object->size = files->len[i];
		object->kind = i == 0			 ? SP_OBJECT_RELEASE
			       : is_tree(files->data[i]) ? SP_OBJECT_TREE
							 : SP_OBJECT_BLOB;
		sp_sha256(files->data[i], files->len[i], object->digest);
		if (i == 0)
			memcpy(manifest->release, object->digest, SP_DIGEST_LEN);
	}
	return SP_OK;
}

static int
forge(
    const char *key_file, const char *to, const char *job, long flip, int count, char *const *paths)
{
	static struct files files;
	struct sp_object objects[FORGE_FILES_MAX];
	struct sp_manifest manifest = {.objects = objects};
	struct sp_send_config config = {.destination = to,
	    .rate_bytes_per_s = 25000000,
	    .heartbeat_ms = 1000,
	    .symbol_size = SP_FRAME_SYMBOL_DEFAULT};
	struct waiter waiter = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, SP_OK, {0}};
	struct sp_tx_config tx_config;
	struct sp_send *send;
	struct sp_key *key;
	struct sp_tx *tx;
	struct sp_err err;

	if (count < 1 || count > FORGE_FILES_MAX || strlen(job) != SP_JOB_ID_LEN)
		return 2;
	strcpy(manifest.job, job);
	sp_tx_defaults(&tx_config);
	if (load_files(count, paths, flip, &files, &manifest, &err) != SP_OK ||
	    sp_key_load(key_file, SP_ROLE_LINK, NULL, &key, &err) != SP_OK)
		return fail(&err);
	memcpy(config.key, sp_key_secret(key), SP_LINK_KEY_LEN);
	if (sp_tx_new(&tx_config, &manifest, read_object, &files, &tx, &err) != SP_OK ||
	    sp_send_open(&config, &send, &err) != SP_OK ||
	    sp_send_start(send, tx, on_done, &waiter, &err) != SP_OK)
		return fail(&err);
	pthread_mutex_lock(&waiter.lock);
	while (!waiter.done)
		pthread_cond_wait(&waiter.wake, &waiter.lock);
	pthread_mutex_unlock(&waiter.lock);
	sp_send_close(&send);
	return waiter.code == SP_OK ? 0 : fail(&waiter.err);
}

/* Which sandbox for generated programs works here: bubblewrap before Landlock. On stderr, why not
 * the first. */
static int
sandbox(void)
{
	struct sp_sandbox_limits limits = sp_sandbox_defaults;
	struct sp_err err;

	if (sp_sandbox_check(&limits, &err) != SP_OK) {
		fprintf(stderr, "%s\n", err.msg);
		limits.kind = SP_SANDBOX_LANDLOCK;
		if (sp_sandbox_check(&limits, &err) != SP_OK)
			return fail(&err);
	}
	printf("%s\n", sp_sandbox_word(limits.kind));
	return 0;
}

int
main(int argc, char **argv)
{
	sp_log_init("sp-e2e", 0);
	if (argc == 2 && strcmp(argv[1], "sandbox") == 0)
		return sandbox();
	if (argc == 3 && strcmp(argv[1], "ports") == 0)
		return ports((int)strtol(argv[2], NULL, 10));
	if (argc == 7 && strcmp(argv[1], "relay") == 0)
		return relay(
		    argv[2], argv[3], strtod(argv[4], NULL), strtoull(argv[5], NULL, 10), argv[6]);
	if (argc >= 7 && strcmp(argv[1], "forge") == 0)
		return forge(
		    argv[2], argv[3], argv[4], strtol(argv[5], NULL, 10), argc - 6, argv + 6);
	fprintf(stderr, "usage: sp-e2e ports N | sandbox | relay FROM TO LOSS SEED STATS |\n"
			"       forge LINKKEY TO JOB OFFSET FILE...\n");
	return 2;
}
