/* send.c -- the sender's edge. */
#include "diode/send.h"

#include "base/pace.h"
#include "base/time.h"
#include "diode/udp.h"

#include <errno.h>
#include <fcntl.h>
#include <gnutls/crypto.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_MS 1000000
#define NS_PER_S 1000000000
#define TRAIN_NS NS_PER_MS /* longest time that a train may take at the configured rate */

struct sp_send {
	struct sp_send_config config;
	struct sp_link_tx *link;
	struct sp_udp_sender udp;
	struct sp_pace pace;
	unsigned train_max;
	uint64_t heartbeats, fillers;
	uint8_t train[SP_UDP_TRAIN * SP_FRAME_MAX];

	pthread_t thread;
	pthread_mutex_t lock; /* of everything below */
	pthread_cond_t wake;
	int must_stop, must_cancel;
	struct sp_tx *tx; /* the transfer under way; NULL: none */
	sp_send_done_fn *done;
	void *ctx;
	struct sp_send_progress progress;
};

static void
publish(struct sp_send *send)
{
	pthread_mutex_lock(&send->lock);
	if (send->tx != NULL) {
		send->progress.passes = sp_tx_passes(send->tx);
		sp_tx_progress(send->tx, &send->progress.done, &send->progress.total);
	}
	send->progress.datagrams = send->udp.datagrams;
	send->progress.bytes = send->udp.bytes;
	send->progress.unsent = send->udp.unsent;
	send->progress.heartbeats = send->heartbeats;
	send->progress.fillers = send->fillers;
	pthread_mutex_unlock(&send->lock);
}

static struct timespec
timespec_of(int64_t ns)
{
	return (struct timespec){.tv_sec = ns / NS_PER_S, .tv_nsec = ns % NS_PER_S};
}

static enum sp_code
send_train(struct sp_send *send, size_t len, unsigned count, struct sp_err *err)
{
	int64_t now_ns = sp_time_monotonic_ns();
	int64_t when_ns = sp_pace_take(&send->pace, now_ns, (uint64_t)len * count);
	struct timespec when = timespec_of(when_ns);

	if (when_ns > now_ns)
		while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, NULL) == EINTR)
			;
	return sp_udp_sender_send(&send->udp, send->train, len, count, err);
}

/* Heartbeats or filler: datagrams that say nothing but that the link and its sender live. */
static enum sp_code
send_idle(struct sp_send *send, enum sp_frame_type type, unsigned count, struct sp_err *err)
{
	struct sp_frame frame = {
	    .type = type, .passes = 1, .layout = {.symbol_size = send->config.symbol_size}};
	size_t len = sp_frame_len(&frame);

	for (unsigned i = 0; i < count; i++)
		sp_link_seal(send->link, &frame, NULL, send->train + i * len);
	return send_train(send, len, count, err);
}

/* Until there is something to do or until_ns has come: 1 when there is. Nothing that goes wrong
 * here can be told to anybody; the next transfer will meet it again. */
static int
idle(struct sp_send *send, int64_t until_ns)
{
	int64_t beat_ns = sp_time_monotonic_ns();
	struct sp_err ignored;

	for (;;) {
		struct timespec next = timespec_of(beat_ns < until_ns ? beat_ns : until_ns);
		int64_t now_ns = sp_time_monotonic_ns();
		int is_wanted;

		pthread_mutex_lock(&send->lock);
		/* during a transfer's pause only the orders to stop are news */
		while (!(is_wanted = send->must_stop || send->must_cancel ||
				     (until_ns == INT64_MAX && send->tx != NULL)) &&
		       now_ns < beat_ns && now_ns < until_ns) {
			pthread_cond_timedwait(&send->wake, &send->lock, &next);
			now_ns = sp_time_monotonic_ns();
		}
		pthread_mutex_unlock(&send->lock);
		if (is_wanted || now_ns >= until_ns)
			return is_wanted;
		if (send->config.constant_rate) {
			if (send_idle(send, SP_FRAME_FILLER, send->train_max, &ignored) == SP_OK)
				send->fillers += send->train_max;
			publish(send);
			continue;
		}
		if (send_idle(send, SP_FRAME_HEARTBEAT, 1, &ignored) == SP_OK)
			send->heartbeats++;
		publish(send);
		beat_ns = now_ns + send->config.heartbeat_ms * NS_PER_MS;
	}
}

static enum sp_code
run_pass(struct sp_send *send, unsigned pass, struct sp_err *err)
{
	size_t len = SP_FRAME_HEADER_LEN + send->config.symbol_size + SP_FRAME_TAG_LEN;
	enum sp_code code = SP_OK;
	int is_over = 0;

	pthread_mutex_lock(&send->lock);
	sp_tx_start(send->tx, pass);
	send->progress.pass = pass + 1;
	pthread_mutex_unlock(&send->lock);
	while (!is_over && code == SP_OK) {
		unsigned count = 0;

		while (count < send->train_max) {
			const uint8_t *payload;
			struct sp_frame frame;

			code = sp_tx_next(send->tx, &frame, &payload, err);
			is_over = payload == NULL;
			if (code != SP_OK || is_over)
				break;
			/* one length for all datagrams of the link */
			SP_ASSERT(frame.layout.symbol_size == send->config.symbol_size);
			sp_link_seal(send->link, &frame, payload, send->train + count++ * len);
		}
		if (code == SP_OK && count > 0)
			code = send_train(send, len, count, err);
		publish(send);
		pthread_mutex_lock(&send->lock);
		if (code == SP_OK && (send->must_stop || send->must_cancel))
			code = sp_err_set(err, SP_E_CANCELLED, "cancelled in pass %u", pass + 1);
		pthread_mutex_unlock(&send->lock);
	}
	return code;
}

static void
run_transfer(struct sp_send *send)
{
	struct sp_err err = {0};
	enum sp_code code = SP_OK;
	sp_send_done_fn *done;
	void *ctx;

	for (unsigned pass = 0; pass < sp_tx_passes(send->tx) && code == SP_OK; pass++) {
		int64_t until_ns = sp_time_monotonic_ns() + send->config.pass_pause_ms * NS_PER_MS;

		if (pass > 0 && idle(send, until_ns))
			code =
			    sp_err_set(&err, SP_E_CANCELLED, "cancelled before pass %u", pass + 1);
		else
			code = run_pass(send, pass, &err);
	}
	pthread_mutex_lock(&send->lock);
	send->tx = NULL;
	send->must_cancel = 0;
	send->progress.pass = send->progress.passes = 0;
	done = send->done;
	ctx = send->ctx;
	pthread_mutex_unlock(&send->lock);
	done(ctx, code, &err);
}

static void *
run(void *arg)
{
	struct sp_send *send = arg;
	int must_stop = 0, has_transfer;

	while (!must_stop) {
		idle(send, INT64_MAX);
		pthread_mutex_lock(&send->lock);
		has_transfer = send->tx != NULL;
		if (!has_transfer)
			send->must_cancel = 0;
		must_stop = send->must_stop;
		pthread_mutex_unlock(&send->lock);
		if (has_transfer)
			run_transfer(send);
	}
	return NULL;
}

static enum sp_code
check_config(const struct sp_send_config *config, struct sp_err *err)
{
	if (config->rate_bytes_per_s < 1000 || config->rate_bytes_per_s > 100ull * NS_PER_S)
		return sp_err_set(err, SP_E_CONFIG, "rate of %llu bytes/s: 1,000 to 10^11",
		    (unsigned long long)config->rate_bytes_per_s);
	if (config->symbol_size < SP_LAYOUT_SYMBOL_MIN || config->symbol_size > SP_FRAME_SYMBOL_MAX)
		return sp_err_set(err, SP_E_CONFIG, "symbol size %u: %d to %d bytes",
		    config->symbol_size, SP_LAYOUT_SYMBOL_MIN, SP_FRAME_SYMBOL_MAX);
	if (config->heartbeat_ms < 1 || config->pass_pause_ms < 0)
		return sp_err_set(err, SP_E_CONFIG,
		    "heartbeat_ms %lld, pass_pause_ms %lld: too small",
		    (long long)config->heartbeat_ms, (long long)config->pass_pause_ms);
	return SP_OK;
}

enum sp_code
sp_send_open(const struct sp_send_config *config, struct sp_send **out, struct sp_err *err)
{
	uint64_t in_train_time = config->rate_bytes_per_s / (NS_PER_S / TRAIN_NS) / SP_FRAME_MAX;
	enum sp_code code = check_config(config, err);
	uint8_t session[SP_FRAME_SESSION_LEN];
	pthread_condattr_t monotonic;
	struct sp_send *send;

	if (code != SP_OK)
		return code;
	send = sp_xcalloc(1, sizeof(*send));
	send->config = *config;
	send->config.destination = NULL;
	gnutls_memset(send->config.key, 0, sizeof(send->config.key));
	send->udp.fd = -1;
	/* a train leaves the device at its full speed: at low rates short ones keep the flow even
	 */
	send->train_max = in_train_time < 1		 ? 1
			  : in_train_time > SP_UDP_TRAIN ? SP_UDP_TRAIN
							 : (unsigned)in_train_time;
	/* a scheduler's hiccup of some trains may be caught up with */
	sp_pace_init(&send->pace, config->rate_bytes_per_s, 4ull * send->train_max * SP_FRAME_MAX,
	    sp_time_monotonic_ns());
	pthread_mutex_init(&send->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&send->wake, &monotonic);
	pthread_condattr_destroy(&monotonic);
	if (gnutls_rnd(GNUTLS_RND_RANDOM, session, sizeof(session)) != 0)
		code = sp_err_set(err, SP_E_INTERNAL, "no random bytes for a session id");
	if (code == SP_OK)
		code = sp_link_tx_new(config->key, session, &send->link, err);
	if (code == SP_OK)
		code = sp_udp_sender_open(&send->udp, config->destination, err);
	if (code == SP_OK && pthread_create(&send->thread, NULL, run, send) != 0)
		code = sp_err_set(err, SP_E_NO_MEMORY, "no thread to send with");
	if (code != SP_OK) {
		send->must_stop = 1; /* there is no thread to wait for */
		sp_send_close(&send);
	}
	*out = send;
	return code;
}

void
sp_send_close(struct sp_send **sendp)
{
	struct sp_send *send = *sendp;

	if (send == NULL)
		return;
	if (!send->must_stop) {
		pthread_mutex_lock(&send->lock);
		send->must_stop = 1;
		pthread_cond_signal(&send->wake);
		pthread_mutex_unlock(&send->lock);
		pthread_join(send->thread, NULL);
	}
	sp_link_tx_free(&send->link);
	sp_udp_sender_close(&send->udp);
	pthread_cond_destroy(&send->wake);
	pthread_mutex_destroy(&send->lock);
	free(send);
	*sendp = NULL;
}

enum sp_code
sp_send_start(
    struct sp_send *send, struct sp_tx *tx, sp_send_done_fn *done, void *ctx, struct sp_err *err)
{
	enum sp_code code = SP_OK;

	pthread_mutex_lock(&send->lock);
	if (send->tx != NULL) {
		code = sp_err_set(err, SP_E_STATE, "another transfer is being sent");
	} else {
		send->tx = tx;
		send->done = done;
		send->ctx = ctx;
		send->must_cancel = 0;
		pthread_cond_signal(&send->wake);
	}
	pthread_mutex_unlock(&send->lock);
	return code;
}

void
sp_send_cancel(struct sp_send *send)
{
	pthread_mutex_lock(&send->lock);
	send->must_cancel = 1;
	pthread_cond_signal(&send->wake);
	pthread_mutex_unlock(&send->lock);
}

void
sp_send_progress(struct sp_send *send, struct sp_send_progress *progress)
{
	pthread_mutex_lock(&send->lock);
	*progress = send->progress;
	pthread_mutex_unlock(&send->lock);
}

/* --- objects as files --- */

void
sp_send_files_close(struct sp_send_files *files)
{
	if (files->fd >= 0)
		close(files->fd);
	files->fd = -1;
}

enum sp_code
sp_send_files_read(
    void *ctx, size_t object, uint64_t offset, uint8_t *out, size_t len, struct sp_err *err)
{
	struct sp_send_files *files = ctx;
	const char *path = files->paths[object];

	if (files->fd >= 0 && files->open != object)
		sp_send_files_close(files);
	if (files->fd < 0) {
		files->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
		files->open = object;
		if (files->fd < 0)
			return sp_err_errno(err, "%s", path);
		(void)posix_fadvise(files->fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	}
	while (len > 0) {
		ssize_t n = pread(files->fd, out, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return sp_err_errno(err, "%s", path);
		if (n == 0)
			return sp_err_set(err, SP_E_CORRUPT,
			    "%s ends at byte %llu: it has been cut off", path,
			    (unsigned long long)offset);
		out += n;
		offset += (uint64_t)n;
		len -= (size_t)n;
	}
	return SP_OK;
}
