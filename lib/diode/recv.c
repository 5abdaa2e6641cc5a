/* recv.c -- the receiver's edge. */
#include "diode/recv.h"

#include "base/time.h"
#include "diode/spool.h"
#include "diode/udp.h"

#include <errno.h>
#include <gnutls/gnutls.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <time.h>
#include <unistd.h>

#define TICK_MS 20   /* the core looks at its timeouts so often */
#define FLUSH_MS 200 /* oldest codeword that is written, but not journaled */
#define TURN 4096    /* datagrams opened before results and ticks are looked at again */

struct slot {
	uint16_t len;
	uint8_t data[SP_FRAME_MAX];
};

/* Work for the disk threads, and on its way back the result. */
struct work {
	STAILQ_ENTRY(work) next;
	struct sp_rx_action action;
	enum sp_code code;
	uint8_t digest[SP_DIGEST_LEN];
	uint8_t *data; /* a manifest's bytes */
	char *job;     /* forget it; no action */
};

struct queue {
	pthread_mutex_t lock;
	pthread_cond_t wake;
	STAILQ_HEAD(, work) items;
	int must_stop;
};

struct sp_recv {
	struct sp_link_rx *link;
	struct sp_rx *rx;
	struct sp_spool *spool;
	struct sp_udp_receiver *udp;
	sp_recv_event_fn *event;
	void *ctx;
	int rcvbuf_bytes;

	/* one writer, one reader: head counts slots filled, tail those emptied */
	struct slot *ring;
	unsigned ring_slots;
	_Atomic uint64_t head, tail;
	_Atomic uint64_t ring_overflow, kernel_overflow, oversized;

	int stop_fd; /* readable for good once the receiving threads must end */
	int core_fd; /* readable when the core has input */
	struct queue results, writes, verifies;
	pthread_t threads[4];
	unsigned thread_count;

	pthread_mutex_t lock; /* of what follows */
	struct sp_recv_stats stats;
};

void
sp_recv_defaults(struct sp_recv_config *config)
{
	memset(config, 0, sizeof(*config));
	sp_rx_defaults(&config->rx);
	config->ring_slots = 32768;
	config->rcvbuf_bytes = 64 << 20;
}

/* --- queues --- */

static void
queue_init(struct queue *queue)
{
	pthread_condattr_t monotonic;

	pthread_mutex_init(&queue->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&queue->wake, &monotonic);
	pthread_condattr_destroy(&monotonic);
	STAILQ_INIT(&queue->items);
}

static void
queue_put(struct queue *queue, struct work *work)
{
	pthread_mutex_lock(&queue->lock);
	STAILQ_INSERT_TAIL(&queue->items, work, next);
	pthread_cond_signal(&queue->wake);
	pthread_mutex_unlock(&queue->lock);
}

static struct work *
queue_try(struct queue *queue)
{
	struct work *work;

	pthread_mutex_lock(&queue->lock);
	work = STAILQ_FIRST(&queue->items);
	if (work != NULL)
		STAILQ_REMOVE_HEAD(&queue->items, next);
	pthread_mutex_unlock(&queue->lock);
	return work;
}

/* Waits for work until the clock shows until_ms (< 0: for ever). NULL: time is up, or *stopped. */
static struct work *
queue_take(struct queue *queue, int64_t until_ms, int *stopped)
{
	struct timespec until = {.tv_sec = until_ms / 1000, .tv_nsec = until_ms % 1000 * 1000000};
	struct work *work;
	int rc = 0;

	pthread_mutex_lock(&queue->lock);
	while ((work = STAILQ_FIRST(&queue->items)) == NULL && !queue->must_stop && rc == 0)
		rc = until_ms < 0 ? pthread_cond_wait(&queue->wake, &queue->lock)
				  : pthread_cond_timedwait(&queue->wake, &queue->lock, &until);
	if (work != NULL)
		STAILQ_REMOVE_HEAD(&queue->items, next);
	*stopped = work == NULL && queue->must_stop;
	pthread_mutex_unlock(&queue->lock);
	return work;
}

static void
queue_stop(struct queue *queue)
{
	pthread_mutex_lock(&queue->lock);
	queue->must_stop = 1;
	pthread_cond_broadcast(&queue->wake);
	pthread_mutex_unlock(&queue->lock);
}

static void
wake(int fd)
{
	uint64_t one = 1;

	/* fails only when the counter is full, and then it is readable anyway */
	while (write(fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

static void
give_back(struct sp_recv *recv, struct work *work)
{
	queue_put(&recv->results, work);
	wake(recv->core_fd);
}

static void
free_work(struct work *work)
{
	free(work->data);
	free(work->job);
	free(work);
}

/* --- receiving --- */

static void
ring_put(void *ctx, const uint8_t *data, size_t len)
{
	struct sp_recv *recv = ctx;
	uint64_t head = atomic_load_explicit(&recv->head, memory_order_relaxed);
	struct slot *slot = &recv->ring[head & (recv->ring_slots - 1)];

	if (len > SP_FRAME_MAX) {
		atomic_fetch_add_explicit(&recv->oversized, 1, memory_order_relaxed);
		return;
	}
	if (head - atomic_load_explicit(&recv->tail, memory_order_acquire) == recv->ring_slots) {
		atomic_fetch_add_explicit(&recv->ring_overflow, 1, memory_order_relaxed);
		return;
	}
	slot->len = (uint16_t)len;
	memcpy(slot->data, data, len);
	atomic_store_explicit(&recv->head, head + 1, memory_order_release);
}

static void *
receive_main(void *arg)
{
	struct sp_recv *recv = arg;
	struct pollfd fds[2] = {{.fd = sp_udp_receiver_fd(recv->udp), .events = POLLIN},
	    {.fd = recv->stop_fd, .events = POLLIN}};

	while (fds[1].revents == 0) {
		(void)poll(fds, 2, -1);
		if (sp_udp_receiver_read(recv->udp, ring_put, recv) == 0)
			continue;
		atomic_store_explicit(&recv->kernel_overflow, sp_udp_receiver_overflow(recv->udp),
		    memory_order_relaxed);
		wake(recv->core_fd);
	}
	return NULL;
}

/* --- the core's thread --- */

static void
carry_out(struct sp_recv *recv)
{
	struct sp_rx_action action;
	struct work *work;

	while (sp_rx_next(recv->rx, &action)) {
		if (action.kind == SP_RX_EVENT) {
			recv->event(recv->ctx, &action.event);
			continue;
		}
		work = sp_xcalloc(1, sizeof(*work));
		work->action = action;
		/* a VERIFY passes the writer too: it closes the files first */
		queue_put(&recv->writes, work);
	}
}

static void
take_result(struct sp_recv *recv, struct work *work)
{
	int64_t now_ms = sp_time_monotonic_ms();

	if (work->job != NULL)
		sp_rx_forget(recv->rx, work->job, now_ms);
	else if (work->action.kind == SP_RX_WRITE)
		sp_rx_written(recv->rx, &work->action, work->code, now_ms);
	else
		sp_rx_verified(recv->rx, &work->action.id, work->code, work->digest, work->data,
		    (size_t)work->action.layout.size, now_ms);
	free_work(work);
	carry_out(recv);
}

static unsigned
take_datagrams(struct sp_recv *recv)
{
	uint64_t tail = atomic_load_explicit(&recv->tail, memory_order_relaxed);
	uint64_t head = atomic_load_explicit(&recv->head, memory_order_acquire);
	uint8_t payload[SP_FRAME_SYMBOL_MAX];
	int64_t now_ms = sp_time_monotonic_ms();
	unsigned n;

	for (n = 0; n < TURN && tail != head; n++, tail++) {
		const struct slot *slot = &recv->ring[tail & (recv->ring_slots - 1)];
		struct sp_frame frame;
		uint64_t session;

		if (sp_link_open(recv->link, slot->data, slot->len, now_ms, &frame, payload,
			&session) == SP_FRAME_OK) {
			sp_rx_datagram(recv->rx, &frame, payload, session, now_ms);
			carry_out(recv);
		}
		atomic_store_explicit(&recv->tail, tail + 1, memory_order_release);
	}
	return n;
}

static void
publish(struct sp_recv *recv)
{
	pthread_mutex_lock(&recv->lock);
	sp_link_counts(recv->link, &recv->stats.link);
	sp_rx_counts(recv->rx, &recv->stats.rx);
	pthread_mutex_unlock(&recv->lock);
}

static void *
core_main(void *arg)
{
	struct sp_recv *recv = arg;
	struct pollfd fds[2] = {
	    {.fd = recv->core_fd, .events = POLLIN}, {.fd = recv->stop_fd, .events = POLLIN}};
	int64_t tick_ms = 0;
	struct work *work;
	uint64_t count;

	while (fds[1].revents == 0) {
		(void)poll(fds, 2, TICK_MS);
		if (fds[0].revents != 0 && read(recv->core_fd, &count, sizeof(count)) < 0)
			continue; /* EINTR: it is readable still */
		do {
			while ((work = queue_try(&recv->results)) != NULL)
				take_result(recv, work);
			/* it looks at all that is awaited, which may be a great deal */
			if (sp_time_monotonic_ms() >= tick_ms) {
				sp_rx_tick(recv->rx, sp_time_monotonic_ms());
				carry_out(recv);
				tick_ms = sp_time_monotonic_ms() + TICK_MS;
			}
		} while (take_datagrams(recv) == TURN);
		publish(recv);
	}
	return NULL;
}

/* --- the disk's threads --- */

static void
note_error(struct sp_recv *recv, const struct sp_err *err)
{
	pthread_mutex_lock(&recv->lock);
	recv->stats.spool_errors++;
	memcpy(recv->stats.spool_error, err->msg, sizeof(err->msg));
	pthread_mutex_unlock(&recv->lock);
}

static void
write_one(struct sp_recv *recv, struct work *work)
{
	const struct sp_rx_action *action = &work->action;
	struct sp_err err;

	switch (action->kind) {
	case SP_RX_WRITE:
		work->code = sp_spool_write(recv->spool, &action->id, &action->layout,
		    action->is_manifest, action->block, action->data, &err);
		if (work->code != SP_OK)
			note_error(recv, &err);
		give_back(recv, work);
		break;
	case SP_RX_VERIFY:
		sp_spool_finish(recv->spool, &action->id);
		queue_put(&recv->verifies, work);
		break;
	case SP_RX_DROP:
		if (action->is_verified)
			sp_spool_drop_verified(recv->spool, action->digest);
		else
			sp_spool_drop(recv->spool, &action->id);
		free_work(work);
		break;
	case SP_RX_EVENT:
		SP_ASSERT(!"events stay with the core");
	}
}

static void *
write_main(void *arg)
{
	struct sp_recv *recv = arg;
	int64_t flush_ms = -1; /* when; -1: nothing to flush */
	int stopped = 0;

	while (!stopped) {
		struct work *work = queue_take(&recv->writes, flush_ms, &stopped);
		struct sp_err err;

		if (work != NULL) {
			if (flush_ms < 0)
				flush_ms = sp_time_monotonic_ms() + FLUSH_MS;
			write_one(recv, work);
		}
		if (stopped || (flush_ms >= 0 && sp_time_monotonic_ms() >= flush_ms)) {
			if (sp_spool_flush(recv->spool, &err) != SP_OK)
				note_error(recv, &err);
			flush_ms = -1;
		}
	}
	return NULL;
}

static void
verify_one(struct sp_recv *recv, struct work *work)
{
	struct sp_err err;

	work->code = sp_spool_verify(recv->spool, &work->action.id, work->action.layout.size,
	    work->action.is_manifest, work->digest, &work->data, &err);
	if (work->code != SP_OK)
		note_error(recv, &err);
}

static void *
verify_main(void *arg)
{
	struct sp_recv *recv = arg;
	int stopped = 0;

	while (!stopped) {
		struct work *work = queue_take(&recv->verifies, -1, &stopped);

		if (work == NULL)
			continue;
		verify_one(recv, work);
		give_back(recv, work);
	}
	return NULL;
}

/* --- start and end --- */

static void
resume_part(void *ctx, const struct sp_object_id *id, const struct sp_layout *layout,
    int is_manifest, const uint8_t *complete)
{
	struct sp_recv *recv = ctx;

	sp_rx_resume(recv->rx, id, layout, is_manifest, complete, sp_time_monotonic_ms());
}

static void
resume_verified(void *ctx, const uint8_t digest[SP_DIGEST_LEN], uint64_t size)
{
	struct sp_recv *recv = ctx;

	sp_rx_resume_verified(recv->rx, digest, size, sp_time_monotonic_ms());
}

/* Before the core has a thread: manifests that the spool holds whole are taken at once, because
 * until then the objects of their transfers are strays, which give way to the first new ones. The
 * rest of what the spool asked for is left to the threads. */
static void
resume_manifests(struct sp_recv *recv)
{
	STAILQ_HEAD(, work) rest = STAILQ_HEAD_INITIALIZER(rest);
	struct work *work;

	carry_out(recv);
	while ((work = queue_try(&recv->writes)) != NULL) {
		if (work->action.kind == SP_RX_VERIFY && work->action.is_manifest) {
			verify_one(recv, work);
			take_result(recv, work);
		} else {
			STAILQ_INSERT_TAIL(&rest, work, next);
		}
	}
	while ((work = STAILQ_FIRST(&rest)) != NULL) {
		STAILQ_REMOVE_HEAD(&rest, next);
		queue_put(&recv->writes, work);
	}
}

static enum sp_code
start_threads(struct sp_recv *recv, struct sp_err *err)
{
	/* in the order in which they are stopped */
	static void *(*const mains[])(void *) = {receive_main, core_main, write_main, verify_main};

	for (size_t i = 0; i < sizeof(mains) / sizeof(mains[0]); i++) {
		if (pthread_create(&recv->threads[i], NULL, mains[i], recv) != 0)
			return sp_err_set(err, SP_E_NO_MEMORY, "no thread to receive with");
		recv->thread_count++;
	}
	return SP_OK;
}

static enum sp_code
check_config(const struct sp_recv_config *config, struct sp_err *err)
{
	if (config->ring_slots < 64 || (config->ring_slots & (config->ring_slots - 1)) != 0)
		return sp_err_set(err, SP_E_CONFIG, "ring of %u slots: a power of two, 64 or more",
		    config->ring_slots);
	if (config->rx.idle_timeout_ms < 1 || config->rx.grace_ms < 0 ||
	    config->rx.link_timeout_ms < 1)
		return sp_err_set(err, SP_E_CONFIG, "timeouts of the receiver must be positive");
	return SP_OK;
}

enum sp_code
sp_recv_open(const struct sp_recv_config *config, sp_recv_event_fn *event, void *ctx,
    struct sp_recv **out, struct sp_err *err)
{
	enum sp_code code = check_config(config, err);
	struct sp_spool_visitor visitor = {resume_part, resume_verified, NULL};
	struct sp_recv *recv;

	if (code != SP_OK)
		return code;
	*out = recv = sp_xcalloc(1, sizeof(*recv));
	visitor.ctx = recv;
	recv->event = event;
	recv->ctx = ctx;
	recv->link = sp_link_rx_new(config->key);
	recv->rx = sp_rx_new(&config->rx);
	recv->ring_slots = config->ring_slots;
	recv->ring = sp_xcalloc(config->ring_slots, sizeof(*recv->ring));
	queue_init(&recv->results);
	queue_init(&recv->writes);
	queue_init(&recv->verifies);
	pthread_mutex_init(&recv->lock, NULL);
	recv->stop_fd = eventfd(0, EFD_CLOEXEC);
	recv->core_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (recv->stop_fd < 0 || recv->core_fd < 0)
		code = sp_err_errno(err, "eventfd");
	if (code == SP_OK)
		code = sp_spool_open(config->spool_dir, &recv->spool, err);
	if (code == SP_OK)
		code = sp_spool_load(recv->spool, &visitor, err);
	if (code == SP_OK)
		code = sp_udp_receiver_open(
		    config->listen, config->rcvbuf_bytes, &recv->udp, &recv->rcvbuf_bytes, err);
	if (code == SP_OK) {
		resume_manifests(recv);
		code = start_threads(recv, err);
	}
	if (code != SP_OK)
		sp_recv_close(out);
	return code;
}

void
sp_recv_close(struct sp_recv **recvp)
{
	struct sp_recv *recv = *recvp;
	struct work *work;

	if (recv == NULL)
		return;
	wake(recv->stop_fd);
	for (unsigned i = 0; i < recv->thread_count; i++) {
		/* the core makes no more work once it has ended, the writer none for the verifier
		 */
		if (i == 2)
			queue_stop(&recv->writes);
		if (i == 3)
			queue_stop(&recv->verifies);
		pthread_join(recv->threads[i], NULL);
	}
	/* results that the core did not see, and work without threads: buffers go back, no more */
	while ((work = queue_try(&recv->results)) != NULL ||
	       (work = queue_try(&recv->writes)) != NULL) {
		if (work->job == NULL && work->action.kind == SP_RX_WRITE)
			sp_rx_written(recv->rx, &work->action, SP_E_CANCELLED, 0);
		free_work(work);
	}
	sp_udp_receiver_close(&recv->udp);
	sp_spool_close(&recv->spool);
	sp_rx_free(&recv->rx);
	sp_link_rx_free(&recv->link);
	free(recv->ring);
	close(recv->stop_fd);
	close(recv->core_fd);
	pthread_mutex_destroy(&recv->lock);
	free(recv);
	*recvp = NULL;
}

char *
sp_recv_path(const struct sp_recv *recv, const uint8_t digest[SP_DIGEST_LEN])
{
	return sp_spool_path(recv->spool, digest);
}

void
sp_recv_forget(struct sp_recv *recv, const char *job)
{
	struct work *work = sp_xcalloc(1, sizeof(*work));

	work->job = sp_xstrdup(job);
	give_back(recv, work);
}

unsigned
sp_recv_port(const struct sp_recv *recv)
{
	return sp_udp_receiver_port(recv->udp);
}

void
sp_recv_stats(struct sp_recv *recv, struct sp_recv_stats *stats)
{
	pthread_mutex_lock(&recv->lock);
	*stats = recv->stats;
	pthread_mutex_unlock(&recv->lock);
	stats->ring_overflow = atomic_load(&recv->ring_overflow);
	stats->kernel_overflow = atomic_load(&recv->kernel_overflow);
	stats->link.dropped[SP_FRAME_BAD_SIZE] += atomic_load(&recv->oversized);
	stats->rcvbuf_bytes = recv->rcvbuf_bytes;
}
