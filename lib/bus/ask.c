/* ask.c -- what threads say to ledgerd and wait for: records, published content, new jobs. */
#include "base/limits.h"
#include "base/time.h"
#include "bus/worker_int.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PART_MAX                                                                        \
	(SP_REQUEST_MAX - 4096) /* of published content; the rest is the message's form \
				 */

static void
remove_ask(struct sp_worker *worker, struct sp_ask *ask)
{
	struct sp_ask **at = &worker->asks;

	while (*at != ask)
		at = &(*at)->next;
	*at = ask->next;
}

/* The envelope is set; all else is filled in. */
static enum sp_code
wait_answer(struct sp_worker *worker, struct sp_ask *ask, const char *what, int timeout_ms,
    struct sp_err *err)
{
	struct timespec until;
	uv_thread_t self = uv_thread_self();

	/* the loop would wait for itself */
	SP_ASSERT(!uv_thread_equal(&self, &worker->loop_thread));
	if (worker->standalone)
		return sp_err_set(
		    err, SP_E_STATE, "%s: this daemon runs without a ledgerd (standalone)", what);
	until = sp_time_cond_until(timeout_ms);
	sp_time_cond_init(&ask->cond);
	pthread_mutex_lock(&worker->lock);
	ask->id = ++worker->ask_id;
	ask->next = worker->asks;
	worker->asks = ask;
	uv_async_send(&worker->async);
	if (worker->stopping) {
		ask->answered = 1;
		ask->code = sp_err_set(&ask->err, SP_E_CANCELLED, "the daemon is ending");
	}
	while (!ask->answered && pthread_cond_timedwait(&ask->cond, &worker->lock, &until) == 0)
		;
	remove_ask(worker, ask);
	if (!ask->answered) {
		worker->withdrawn = 1;
		uv_async_send(&worker->async);
	}
	pthread_mutex_unlock(&worker->lock);
	pthread_cond_destroy(&ask->cond);
	if (!ask->answered)
		return sp_err_set(err, SP_E_TIMEOUT,
		    "%s: ledgerd has not answered within %d ms: is it running?", what, timeout_ms);
	if (ask->code != SP_OK)
		return sp_err_set(err, ask->code, "%s: %s", what, ask->err.msg);
	return SP_OK;
}

static enum sp_code
ask_and_wait(struct sp_worker *worker, Sallyport__Envelope *envelope, const char *what,
    int timeout_ms, uint64_t *log_seq, struct sp_err *err)
{
	struct sp_ask ask = {.envelope = envelope};
	enum sp_code code = wait_answer(worker, &ask, what, timeout_ms, err);

	if (code == SP_OK && log_seq != NULL)
		*log_seq = ask.log_seq;
	return code;
}

enum sp_code
sp_worker_record(struct sp_worker *worker, const Sallyport__Record *record, int timeout_ms,
    uint64_t *log_seq, struct sp_err *err)
{
	Sallyport__Record copy = *record; /* protobuf-c wants it writable */
	Sallyport__Envelope envelope;

	sallyport__envelope__init(&envelope);
	envelope.body_case = SALLYPORT__ENVELOPE__BODY_RECORD;
	envelope.record = &copy;
	return ask_and_wait(worker, &envelope, "audit record", timeout_ms, log_seq, err);
}

enum sp_code
sp_worker_publish(struct sp_worker *worker, const char *topic, const void *content, size_t len,
    int timeout_ms, struct sp_err *err)
{
	int64_t deadline_ms = sp_time_monotonic_ms() + timeout_ms, left_ms;
	char *name = sp_xstrdup(topic);
	uint8_t *copy = sp_xcalloc(len + 1, 1);
	Sallyport__Envelope envelope;
	Sallyport__Publish publish;
	enum sp_code code;

	memcpy(copy, content, len);
	sallyport__publish__init(&publish);
	publish.topic = name;
	publish.total = len;
	sallyport__envelope__init(&envelope);
	envelope.body_case = SALLYPORT__ENVELOPE__BODY_PUBLISH;
	envelope.publish = &publish;
	do {
		publish.offset += publish.content.len;
		publish.content.data = copy + publish.offset;
		publish.content.len =
		    len - publish.offset < PART_MAX ? len - publish.offset : PART_MAX;
		left_ms = deadline_ms - sp_time_monotonic_ms();
		code = ask_and_wait(
		    worker, &envelope, "publishing", left_ms > 0 ? (int)left_ms : 0, NULL, err);
	} while (code == SP_OK && publish.offset + publish.content.len < len);
	free(name);
	free(copy);
	return code;
}

enum sp_code
sp_worker_begin(
    struct sp_worker *worker, const Sallyport__Begin *begin, int timeout_ms, struct sp_err *err)
{
	Sallyport__Begin copy = *begin;
	Sallyport__Envelope envelope;

	sallyport__envelope__init(&envelope);
	envelope.body_case = SALLYPORT__ENVELOPE__BODY_BEGIN;
	envelope.begin = &copy;
	return ask_and_wait(worker, &envelope, "new job", timeout_ms, NULL, err);
}

enum sp_code
sp_ask_names(struct sp_worker *worker, const Sallyport__Names *names, int timeout_ms,
    Sallyport__Named **named, struct sp_err *err)
{
	Sallyport__Names copy = *names;
	Sallyport__Envelope envelope;
	struct sp_ask ask = {.envelope = &envelope};
	enum sp_code code;

	*named = NULL;
	sallyport__envelope__init(&envelope);
	envelope.body_case = SALLYPORT__ENVELOPE__BODY_NAMES;
	envelope.names = &copy;
	code = wait_answer(worker, &ask, "what is named", timeout_ms, err);
	if (code == SP_OK &&
	    (ask.named == NULL || ask.named->digests.len != names->digests.len / SP_DIGEST_LEN ||
		ask.named->jobs.len != names->n_jobs))
		code =
		    sp_err_set(err, SP_E_INVALID, "ledgerd answered something else than was asked");
	if (code == SP_OK)
		*named = ask.named;
	else if (ask.named != NULL)
		sallyport__named__free_unpacked(ask.named, NULL);
	return code;
}

/* --- the loop's part -----------------------------------------------------------------------------
 */

/* Under the lock. */
static struct sp_ask *
find_ask(const struct sp_worker *worker, uint64_t id)
{
	struct sp_ask *ask;

	for (ask = worker->asks; ask != NULL; ask = ask->next)
		if (ask->id == id)
			return ask;
	return NULL;
}

/* Tells the state machine of one ask that nobody waits for any more; 0: there is none. */
static int
withdraw_one(struct sp_worker *worker)
{
	struct sp_worker_event event = {.kind = SP_EVENT_WITHDRAW};
	size_t i;

	for (i = 0; i < worker->state.ask_count; i++) {
		if (find_ask(worker, worker->state.asks[i].id) != NULL)
			continue;
		event.ask = worker->state.asks[i].id;
		pthread_mutex_unlock(&worker->lock);
		sp_worker_event(worker, &event);
		pthread_mutex_lock(&worker->lock);
		return 1;
	}
	return 0;
}

void
sp_ask_collect(struct sp_worker *worker)
{
	struct sp_worker_event event = {.kind = SP_EVENT_ASK};
	struct sp_ask *ask;

	pthread_mutex_lock(&worker->lock);
	if (worker->withdrawn) {
		while (withdraw_one(worker))
			;
		worker->withdrawn = 0;
	}
	/* from the start again after each: the list may change while the lock is not held */
	do {
		for (ask = worker->asks; ask != NULL && (ask->taken || ask->answered);)
			ask = ask->next;
		if (ask == NULL)
			break;
		ask->taken = 1;
		event.ask = ask->id;
		pthread_mutex_unlock(&worker->lock);
		sp_worker_event(worker, &event);
		pthread_mutex_lock(&worker->lock);
	} while (1);
	pthread_mutex_unlock(&worker->lock);
}

void
sp_ask_send(struct sp_worker *worker, uint64_t id, uint64_t seq)
{
	struct sp_worker_event event = {.kind = SP_EVENT_UNSENT, .ask = id};
	enum sp_code code = SP_OK;
	struct sp_ask *ask;
	struct sp_err err;

	pthread_mutex_lock(&worker->lock);
	ask = find_ask(worker, id);
	if (ask != NULL)
		code = sp_bus_send(worker, ask->envelope, seq, &err);
	pthread_mutex_unlock(&worker->lock);
	if (code == SP_OK)
		return;
	if (code != SP_E_UNREACHABLE) {
		/* it breaks a rule: no repetition will help */
		sp_ask_answer(worker, id, code, err.msg);
		event.kind = SP_EVENT_WITHDRAW;
	}
	sp_worker_event(worker, &event);
}

/* An answer that outlives the message. */
static Sallyport__Named *
copy_named(const Sallyport__Named *named)
{
	size_t len = sallyport__named__get_packed_size(named);
	uint8_t *packed = sp_xcalloc(len + 1, 1);
	Sallyport__Named *copy;

	sallyport__named__pack(named, packed);
	copy = sallyport__named__unpack(NULL, len, packed);
	free(packed);
	return copy;
}

void
sp_ask_answer(struct sp_worker *worker, uint64_t id, enum sp_code code, const char *message)
{
	struct sp_ask *ask;

	pthread_mutex_lock(&worker->lock);
	ask = find_ask(worker, id);
	if (ask != NULL) {
		ask->answered = 1;
		ask->code = code == SP_OK ? SP_OK : sp_err_set(&ask->err, code, "%s", message);
		ask->log_seq = worker->answer_log_seq;
		if (code == SP_OK && worker->named != NULL)
			ask->named = copy_named(worker->named);
		pthread_cond_signal(&ask->cond);
	}
	pthread_mutex_unlock(&worker->lock);
}
