/* rxd_receiver.c -- the child that faces the wire: receives, decodes, spools; it can sign nothing.
 */
#include "base/log.h"
#include "bus/child.h"
#include "bus/confine.h"
#include "bus/paths.h"
#include "bus/result.h"
#include "diode/recv.h"
#include "rxd.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <unistd.h>

#define MIB (1024u * 1024u)
#define GAPS_SHOWN 4

struct queued {
	STAILQ_ENTRY(queued) next;
	Sallyport__ChildNote *note;
};

/* The core's thread must not wait for the parent's pipe: it queues, run()'s thread writes. */
struct receiver {
	struct sp_store *store; /* our parent's: what it holds need not come again */
	struct sp_recv *recv;
	int wake_fd;
	pthread_mutex_t lock;
	STAILQ_HEAD(, queued) notes;
	uint64_t spool_errors; /* those that were told */
};

char *
rxd_spool_dir(const struct sp_conf *conf)
{
	char *state = sp_paths_state(conf, RXD_SERVICE), *dir = sp_xasprintf("%s/spool", state);

	free(state);
	return dir;
}

/* --- notes --- */

static Sallyport__ChildNote *
note_new(const char *kind)
{
	Sallyport__ChildNote *note = sp_xcalloc(1, sizeof(*note));

	sallyport__child_note__init(note);
	note->kind = sp_xstrdup(kind);
	return note;
}

static void
note_add(Sallyport__ChildNote *note, const char *key, char *value)
{
	Sallyport__Detail *detail = sp_xcalloc(1, sizeof(*detail));

	sallyport__detail__init(detail);
	detail->key = sp_xstrdup(key);
	detail->value = value;
	note->details = sp_xrealloc(note->details, note->n_details + 1, sizeof(detail));
	note->details[note->n_details++] = detail;
}

static void
note_count(Sallyport__ChildNote *note, const char *key, uint64_t count)
{
	note_add(note, key, sp_xasprintf("%" PRIu64, count));
}

static void
note_queue(struct receiver *receiver, Sallyport__ChildNote *note)
{
	struct queued *queued = sp_xcalloc(1, sizeof(*queued));
	uint64_t one = 1;

	queued->note = note;
	pthread_mutex_lock(&receiver->lock);
	STAILQ_INSERT_TAIL(&receiver->notes, queued, next);
	pthread_mutex_unlock(&receiver->lock);
	/* fails only when the counter is full, and then it is readable anyway */
	if (write(receiver->wake_fd, &one, sizeof(one)) < 0)
		return;
}

static Sallyport__ChildNote *
note_take(struct receiver *receiver)
{
	struct queued *queued;
	Sallyport__ChildNote *note = NULL;

	pthread_mutex_lock(&receiver->lock);
	if ((queued = STAILQ_FIRST(&receiver->notes)) != NULL) {
		STAILQ_REMOVE_HEAD(&receiver->notes, next);
		note = queued->note;
	}
	pthread_mutex_unlock(&receiver->lock);
	free(queued);
	return note;
}

/* --- events --- */

static void
note_counts(struct receiver *receiver, Sallyport__ChildNote *note)
{
	struct sp_recv_stats stats;
	uint64_t rejected = 0;

	sp_recv_stats(receiver->recv, &stats);
	for (int i = SP_FRAME_OK + 1; i < SP_FRAME_DROP_COUNT; i++)
		rejected += stats.link.dropped[i];
	note_count(note, "repaired", stats.rx.assemble.repaired);
	note_count(note, "duplicates", stats.rx.assemble.duplicates + stats.rx.surplus);
	note_count(note, "lost", stats.link.lost);
	note_count(note, "rejected", rejected);
}

static void
tell_known(struct receiver *receiver, const struct sp_rx_event *event)
{
	Sallyport__ChildNote *note = note_new("known");
	struct sp_err err;

	sp_log_info(event->manifest->job, "a transfer of %zu objects", event->manifest->count);
	note_counts(receiver, note);
	if (sp_manifest_pack(event->manifest, &note->content.data, &note->content.len, &err)) {
		/* it was parsed from bytes of the same form */
		sp_log_error(event->manifest->job, "manifest: %s", err.msg);
		sallyport__child_note__free_unpacked(note, NULL);
		return;
	}
	note_queue(receiver, note);
}

static void
tell_done(struct receiver *receiver, const struct sp_rx_event *event)
{
	Sallyport__ChildNote *note = note_new("done");

	note_add(note, "job", sp_xstrdup(event->manifest->job));
	note_counts(receiver, note);
	note_queue(receiver, note);
}

/* What was lost on our side of the wire is for this side's operator to mend. */
static void
tell_faults(struct receiver *receiver, Sallyport__ChildNote *note, const char *job)
{
	struct sp_recv_stats stats;

	sp_recv_stats(receiver->recv, &stats);
	if (stats.kernel_overflow + stats.ring_overflow > 0)
		sp_log_warn(job,
		    "%" PRIu64 " datagrams since the start found the socket's buffer of %d bytes "
		    "full, %" PRIu64 " this process too slow: a lower rate_mbit_s, or a larger "
		    "net.core.rmem_max and diode-rxd.rcvbuf_mib",
		    stats.kernel_overflow, stats.rcvbuf_bytes, stats.ring_overflow);
	if (stats.spool_errors == receiver->spool_errors)
		return;
	receiver->spool_errors = stats.spool_errors;
	sp_log_error(job, "spool: %s", stats.spool_error);
	note_add(note, "fault", sp_result_clean(stats.spool_error, SP_ERR_MSG_MAX));
}

static void
tell_incomplete(struct receiver *receiver, const struct sp_rx_event *event)
{
	Sallyport__ChildNote *note = note_new("incomplete");
	struct sp_buf gaps = {0};
	size_t len;

	note_add(note, "job", sp_xstrdup(event->manifest->job));
	note_count(note, "missing", event->missing_bytes);
	for (size_t i = 0; i < event->gap_count && i < GAPS_SHOWN; i++) {
		const struct sp_rx_gap *gap = &event->gaps[i];

		sp_buf_printf(
		    &gaps, "%s%.16s", i == 0 ? "" : ", ", sp_hex_of(gap->object->digest).s);
		if (gap->count > 0)
			sp_buf_printf(&gaps, " codewords %" PRIu64 "-%" PRIu64, gap->block,
			    gap->block + gap->count - 1);
	}
	if (event->gap_count > GAPS_SHOWN)
		sp_buf_printf(&gaps, " and %zu more", event->gap_count - GAPS_SHOWN);
	note_add(note, "gaps", sp_buf_take(&gaps, &len));
	tell_faults(receiver, note, event->manifest->job);
	note_queue(receiver, note);
}

static void
tell_object(struct receiver *receiver, const struct sp_rx_event *event)
{
	Sallyport__ChildNote *note;

	if (event->manifest == NULL) /* not named by a transfer yet */
		return;
	note = note_new("object");
	note_add(note, "job", sp_xstrdup(event->manifest->job));
	note_count(note, "bytes", event->object->size);
	note_queue(receiver, note);
}

static void
on_event(void *ctx, const struct sp_rx_event *event)
{
	struct receiver *receiver = ctx;
	struct sp_hex id = {{0}};

	sp_hex_encode(event->object_id.b, sizeof(event->object_id.b), id.s);
	switch (event->kind) {
	case SP_RX_TRANSFER_KNOWN:
		tell_known(receiver, event);
		break;
	case SP_RX_OBJECT_DONE:
		tell_object(receiver, event);
		break;
	case SP_RX_TRANSFER_DONE:
		tell_done(receiver, event);
		break;
	case SP_RX_TRANSFER_INCOMPLETE:
		tell_incomplete(receiver, event);
		break;
	case SP_RX_OBJECT_FAILED:
		sp_log_warn(NULL, "object %s: %s; it is awaited again", id.s, event->text);
		break;
	case SP_RX_TRANSFER_REFUSED:
		sp_log_warn(NULL, "transfer with manifest %s refused: %s", id.s, event->text);
		break;
	case SP_RX_TRANSFER_LOST:
		sp_log_warn(NULL,
		    "transfer with manifest %s lost: too little of the manifest came; send it "
		    "again",
		    id.s);
		break;
	case SP_RX_LINK_UP:
		sp_log_info(NULL, "the link is up");
		break;
	case SP_RX_LINK_DOWN:
		sp_log_warn(NULL, "the link is silent: no heartbeat from the sender");
		break;
	}
}

static int
have_blob(void *ctx, const uint8_t digest[SP_DIGEST_LEN])
{
	const struct receiver *receiver = ctx;

	/* what is here will not be received: no collection may take it now */
	return sp_store_claim(receiver->store, sp_hex_of(digest).s, NULL);
}

/* --- run --- */

static enum sp_code
receiver_open(
    struct receiver *receiver, const struct sp_conf *conf, const char *key, struct sp_err *err)
{
	struct sp_recv_config config;
	char *store = sp_paths_store(conf, RXD_SERVICE), *spool = rxd_spool_dir(conf);
	struct sp_key *link = NULL;
	enum sp_code code;

	sp_recv_defaults(&config);
	config.listen = sp_conf_string(conf, "diode-rxd.listen");
	config.spool_dir = spool;
	config.rcvbuf_bytes = (int)sp_conf_int(conf, "diode-rxd.rcvbuf_mib") * (int)MIB;
	config.rx.spool_max_bytes = (uint64_t)sp_conf_int(conf, "diode-rxd.spool_max_mib") << 20;
	config.rx.stray_max_bytes = config.rx.spool_max_bytes / 4;
	config.rx.memory_max_bytes = (uint64_t)sp_conf_int(conf, "diode-rxd.memory_max_mib") << 20;
	config.rx.idle_timeout_ms = sp_conf_int(conf, "diode-rxd.idle_timeout_ms");
	config.rx.grace_ms = sp_conf_int(conf, "diode-rxd.grace_ms");
	config.rx.have = have_blob;
	config.rx.have_ctx = receiver;
	if ((code = sp_store_open(store, 0, &receiver->store, err)) ||
	    (code = sp_key_load(key, SP_ROLE_LINK, NULL, &link, err)))
		goto out;
	memcpy(config.key, sp_key_secret(link), SP_LINK_KEY_LEN);
	code = sp_recv_open(&config, on_event, receiver, &receiver->recv, err);
	explicit_bzero(config.key, sizeof(config.key));
out:
	sp_key_free(&link);
	free(spool);
	free(store);
	return code;
}

/* 0 when the parent has ended our input. */
static int
obey(struct receiver *receiver, struct sp_child *child)
{
	Sallyport__ChildNote *note;
	struct sp_err err;
	enum sp_code code;

	while ((code = sp_child_hear(child, 0, &note, &err)) == SP_OK) {
		const char *job = rxd_note_get(note, "job");

		if (strcmp(note->kind, "forget") == 0 && job != NULL)
			sp_recv_forget(receiver->recv, job);
		sallyport__child_note__free_unpacked(note, NULL);
	}
	return code == SP_E_TIMEOUT;
}

static int
tell(struct receiver *receiver, struct sp_child *child)
{
	Sallyport__ChildNote *note;
	struct sp_err err;
	enum sp_code code = SP_OK;

	while (code == SP_OK && (note = note_take(receiver)) != NULL) {
		code = sp_child_note(child, note, &err);
		sallyport__child_note__free_unpacked(note, NULL);
	}
	return code == SP_OK;
}

enum sp_code
rxd_confine(const struct sp_conf *conf, const Sallyport__Task *task, struct sp_confine *confine,
    struct sp_err *err)
{
	(void)conf;
	(void)task;
	(void)err;
	sp_confine_network(confine);
	return SP_OK;
}

int
rxd_receive(const struct sp_conf *conf, struct sp_child *child)
{
	struct receiver receiver = {.lock = PTHREAD_MUTEX_INITIALIZER};
	Sallyport__ChildNote *note;
	uint64_t count;
	int alive, status = 1;
	struct sp_err err;

	STAILQ_INIT(&receiver.notes);
	receiver.wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (receiver.wake_fd < 0) {
		sp_err_errno(&err, "eventfd");
		goto out;
	}
	/* before anything that the spool has to tell, and also when it cannot be opened */
	note_queue(&receiver, note_new("started"));
	alive = tell(&receiver, child);
	if (receiver_open(&receiver, conf, sp_child_key(child), &err) != SP_OK)
		goto out;
	status = 0;
	while (alive) {
		struct pollfd fds[] = {{.fd = sp_child_fd(child), .events = POLLIN},
		    {.fd = receiver.wake_fd, .events = POLLIN}};

		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			break;
		if (fds[1].revents && read(receiver.wake_fd, &count, sizeof(count)) < 0)
			continue;
		alive = tell(&receiver, child) && obey(&receiver, child);
	}
out:
	if (status != 0)
		sp_log_error(NULL, "receiver: %s", err.msg);
	sp_recv_close(&receiver.recv);
	while ((note = note_take(&receiver)) != NULL)
		sallyport__child_note__free_unpacked(note, NULL);
	sp_store_close(&receiver.store);
	if (receiver.wake_fd >= 0)
		close(receiver.wake_fd);
	return status;
}
