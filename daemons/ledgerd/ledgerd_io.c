/*
 * ledgerd_io.c -- effects in their order: commit, sign, send.
 *
 * All messages that one turn of the loop brings are one transaction. What they are answered, what
 * is offered and published is held back until it is durable. The checkpoint over them is signed
 * then, and stored with the next transaction, so that a busy ledgerd syncs its disk once a batch;
 * where none comes within SETTLE_MS, or this one took as long and the next may, it gets one of its
 * own. Whatever kills ledgerd in between is repaired by the
 * messages being idempotent: workers repeat, offers are made from the database, and the start
 * signs what was left uncovered.
 */
#include "base/file.h"
#include "base/log.h"
#include "base/path.h"
#include "base/time.h"
#include "base/version.h"
#include "bus/paths.h"
#include "ledgerd.h"
#include "release/proof.h"

#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TRUST_MAX_AGE_MS 60000
#define TIME_BYTES 6
#define SETTLE_MS 5 /* a checkpoint waits so long for another batch to be stored with */

void
ledgerd_fresh_id(char id[SP_JOB_ID_LEN + 1])
{
	uint64_t now_ms = (uint64_t)sp_time_unix_ms();
	uint8_t raw[SP_JOB_ID_LEN / 2];
	unsigned i;

	randombytes_buf(raw, sizeof(raw));
	for (i = 0; i < TIME_BYTES; i++)
		raw[i] = (uint8_t)(now_ms >> 8 * (TIME_BYTES - 1 - i));
	sp_hex_encode(raw, sizeof(raw), id);
}

/* --- trust ------------------------------------------------------------------------------------ */

enum sp_code
ledgerd_trust(struct ledgerd *l, const struct sp_trust **out, struct sp_err *err)
{
	int64_t now_ms = sp_time_monotonic_ms();
	struct stat st;
	enum sp_code code;

	memset(&st, 0, sizeof(st));
	if (stat(l->trust_file, &st) != 0)
		return sp_err_errno(err, "trust document %s", l->trust_file);
	/* read again when the file is another, and often enough to see it expire */
	if (l->trust == NULL || now_ms > l->trust_ms + TRUST_MAX_AGE_MS ||
	    st.st_ino != l->trust_seen.st_ino || st.st_size != l->trust_seen.st_size ||
	    st.st_mtim.tv_sec != l->trust_seen.st_mtim.tv_sec ||
	    st.st_mtim.tv_nsec != l->trust_seen.st_mtim.tv_nsec) {
		sp_trust_free(&l->trust);
		code = sp_trust_load(l->trust_dir, sp_time_unix_ms(), &l->trust, err);
		if (code != SP_OK)
			return code;
		l->trust_seen = st;
		l->trust_ms = now_ms;
	}
	*out = l->trust;
	return SP_OK;
}

static enum sp_code
admit(void *ctx, const uint8_t key[SP_PUBKEY_LEN], int64_t uid, char name[SP_NAME_MAX + 1],
    struct sp_err *err)
{
	const struct sp_trust *trust;
	enum sp_code code = ledgerd_trust(ctx, &trust, err);

	return code != SP_OK ? code : sp_hub_admit(trust, key, uid, name, err);
}

/* --- the batch -------------------------------------------------------------------------------- */

static void
on_flush(uv_idle_t *idle)
{
	ledgerd_flush(idle->data);
}

void
ledgerd_wake(struct ledgerd *l)
{
	uv_idle_start(&l->flush, on_flush);
}

static struct ledgerd_out *
add_out(struct ledgerd *l, enum ledgerd_out_kind kind)
{
	struct ledgerd_out *out;

	if (l->out_count == l->out_cap) {
		l->out_cap = l->out_cap == 0 ? 64 : l->out_cap * 2;
		l->out = sp_xrealloc(l->out, l->out_cap, sizeof(*l->out));
	}
	out = &l->out[l->out_count++];
	memset(out, 0, sizeof(*out));
	out->kind = kind;
	ledgerd_wake(l);
	return out;
}

static void
clear_out(struct ledgerd_out *out)
{
	if (out->envelope != NULL)
		sallyport__envelope__free_unpacked(out->envelope, NULL);
	free(out->data);
}

/* The core's memory out of the database. */
static enum sp_code
load_core(struct ledgerd *l, struct sp_err *err)
{
	struct sp_attempt *alive;
	enum sp_code code;
	size_t count;

	code = sp_table_alive(sp_ledger_db(l->ledger), &alive, &count, err);
	if (code != SP_OK)
		return code;
	ledgerd_core_load(&l->core, alive, count, sp_time_monotonic_ms());
	free(alive);
	return SP_OK;
}

/* What the core followed did not happen. When that cannot be read now, it is tried again: the core
 * would go on with steps that are none. */
static void
reload_core(struct ledgerd *l)
{
	struct sp_err err;

	l->stale = load_core(l, &err) != SP_OK;
	if (l->stale)
		sp_log_error(NULL, "%s", err.msg);
}

/* Nothing of the batch happened: tell those who wait, be silent to those who will repeat. */
static void
fail_batch(struct ledgerd *l, const struct sp_err *why)
{
	struct ledgerd_out *out = l->out;
	size_t i, count = l->out_count;

	sp_log_error(NULL, "nothing of %zu answers was committed: %s", count, why->msg);
	sp_ledger_rollback(l->ledger);
	l->in_batch = 0;
	ledgerd_gc_rolled_back(l);
	l->out = NULL;
	l->out_count = l->out_cap = 0;
	for (i = 0; i < count; i++) {
		if (out[i].kind == LEDGERD_OUT_OPERATOR)
			ledgerd_reply_error(l, &out[i].to, out[i].seq, why);
		else if (out[i].kind == LEDGERD_OUT_WORKER && !out[i].repeats &&
			 out[i].envelope->body_case == SALLYPORT__ENVELOPE__BODY_ACK)
			ledgerd_refuse(l, out[i].worker, out[i].envelope->ack->ack_seq, "", why, 0);
		clear_out(&out[i]);
	}
	free(out);
	reload_core(l);
}

enum sp_code
ledgerd_batch(struct ledgerd *l, struct sp_err *err)
{
	enum sp_code code = SP_OK;

	if (!l->in_batch) {
		code = sp_ledger_begin(l->ledger, err);
		if (code != SP_OK)
			return code;
		l->in_batch = 1;
		l->batch_ms = sp_time_monotonic_ms();
		ledgerd_wake(l);
	}
	code = sp_ledger_mark(l->ledger, err);
	l->moved = 0;
	if (code != SP_OK)
		fail_batch(l, err);
	return code;
}

void
ledgerd_undo(struct ledgerd *l, const struct sp_err *err)
{
	if (!l->in_batch)
		return;
	if (!sp_ledger_undo(l->ledger))
		fail_batch(l, err);
	else if (l->moved)
		reload_core(l);
}

/* --- transitions ------------------------------------------------------------------------------ */

static void
log_change(const struct sp_change *change, const struct sp_changed *changed)
{
	const struct sp_attempt *a = &changed->attempt;

	sp_log_info(change->job, "from=%s to=%s event=%s%s%s by=%s%s%s",
	    changed->from == SP_JOB_NONE ? "-" : sp_jobs_state_name(changed->from),
	    sp_jobs_state_name(changed->job.state), sp_jobs_event_name(change->event),
	    changed->had_attempt ? " step=" : "",
	    changed->had_attempt ? sp_jobs_step_name(a->step) : "", change->actor.name,
	    changed->job.reason[0] != '\0' ? " reason=" : "", changed->job.reason);
}

static Sallyport__Envelope *
new_envelope(Sallyport__Envelope__BodyCase body)
{
	Sallyport__Envelope *envelope = sp_xcalloc(1, sizeof(*envelope));

	sallyport__envelope__init(envelope);
	envelope->body_case = body;
	return envelope;
}

/* The lease is out, but the worker does not know yet that it counts no more. */
static void
cancel_lease(struct ledgerd *l, const struct sp_attempt *attempt, const char *reason)
{
	Sallyport__Envelope *envelope = new_envelope(SALLYPORT__ENVELOPE__BODY_CANCEL);

	envelope->cancel = sp_xcalloc(1, sizeof(*envelope->cancel));
	sallyport__cancel__init(envelope->cancel);
	envelope->cancel->lease = sp_xstrdup(attempt->lease);
	envelope->cancel->reason = sp_xstrdup(reason);
	ledgerd_say(l, attempt->worker, envelope, 0);
}

enum sp_code
ledgerd_apply(
    struct ledgerd *l, struct sp_change *change, struct sp_changed *changed, struct sp_err *err)
{
	char fresh[SP_JOB_ID_LEN + 1];
	struct ledgerd_live *live = ledgerd_core_job(&l->core, change->job);
	int was_out = live != NULL && live->a.state != SP_LEASE_OFFERED;
	enum sp_code code;

	ledgerd_fresh_id(fresh);
	if (change->next_lease == NULL)
		change->next_lease = fresh;
	change->unix_ms = sp_time_unix_ms();
	change->monotonic_ms = sp_time_monotonic_ms();
	code = sp_change_apply(l->ledger, change, changed, err);
	if (change->next_lease == fresh)
		change->next_lease = NULL;
	if (code != SP_OK)
		return code;
	l->moved = 1;
	ledgerd_core_note(&l->core, changed, change->monotonic_ms);
	log_change(change, changed);
	if (change->event == SP_EV_CANCEL && was_out)
		cancel_lease(l, &changed->attempt,
		    changed->job.reason[0] != '\0' ? changed->job.reason : "cancelled");
	return SP_OK;
}

/* --- answers ---------------------------------------------------------------------------------- */

void
ledgerd_say(struct ledgerd *l, const char *worker, Sallyport__Envelope *envelope, int repeats)
{
	struct ledgerd_out *out = add_out(l, LEDGERD_OUT_WORKER);

	snprintf(out->worker, sizeof(out->worker), "%s", worker);
	out->repeats = repeats;
	out->envelope = envelope;
}

void
ledgerd_ack(struct ledgerd *l, const char *worker, uint64_t ack_seq, uint64_t log_seq, int repeats)
{
	Sallyport__Envelope *envelope = new_envelope(SALLYPORT__ENVELOPE__BODY_ACK);

	envelope->ack = sp_xcalloc(1, sizeof(*envelope->ack));
	sallyport__ack__init(envelope->ack);
	envelope->ack->ack_seq = ack_seq;
	envelope->ack->log_seq = log_seq;
	ledgerd_say(l, worker, envelope, repeats);
}

void
ledgerd_refuse(struct ledgerd *l, const char *worker, uint64_t ack_seq, const char *lease,
    const struct sp_err *err, int repeats)
{
	Sallyport__Envelope *envelope = new_envelope(SALLYPORT__ENVELOPE__BODY_REFUSAL);
	Sallyport__Refusal *refusal = sp_xcalloc(1, sizeof(*refusal));

	sallyport__refusal__init(refusal);
	refusal->ack_seq = ack_seq;
	refusal->code = sp_xstrdup(sp_err_word(err->code));
	refusal->message = sp_xstrdup(err->msg);
	refusal->lease = sp_xstrdup(lease);
	envelope->refusal = refusal;
	ledgerd_say(l, worker, envelope, repeats);
}

void
ledgerd_publish(struct ledgerd *l, const char *topic, const void *content, size_t len)
{
	struct ledgerd_out *out = add_out(l, LEDGERD_OUT_TOPIC);

	out->topic = topic;
	out->data = sp_xcalloc(len + 1, 1);
	memcpy(out->data, content, len);
	out->len = len;
}

void
ledgerd_reply(struct ledgerd *l, const struct sp_hub_operator *to, uint64_t seq,
    Sallyport__OperatorReply *reply)
{
	struct ledgerd_out *out;
	struct sp_err err;
	size_t len;

	reply->version = 1;
	reply->ack_seq = seq;
	len = sallyport__operator_reply__get_packed_size(reply);
	if (len > SP_MESSAGE_MAX) {
		sp_err_set(&err, SP_E_LIMIT,
		    "the answer has %zu bytes, at most %u fit a message: ask for less", len,
		    SP_MESSAGE_MAX);
		ledgerd_reply_error(l, to, seq, &err);
		return;
	}
	out = add_out(l, LEDGERD_OUT_OPERATOR);
	out->to = *to;
	out->seq = seq;
	out->data = sp_xcalloc(len + 1, 1);
	out->len = sallyport__operator_reply__pack(reply, out->data);
}

void
ledgerd_reply_error(
    struct ledgerd *l, const struct sp_hub_operator *to, uint64_t seq, const struct sp_err *err)
{
	Sallyport__OperatorReply reply;
	Sallyport__OperatorError error;
	char msg[SP_ERR_MSG_MAX];

	sallyport__operator_reply__init(&reply);
	sallyport__operator_error__init(&error);
	snprintf(msg, sizeof(msg), "%s", err->msg);
	error.code = (char *)(uintptr_t)sp_err_word(err->code);
	error.message = msg;
	reply.body_case = SALLYPORT__OPERATOR_REPLY__BODY_ERROR;
	reply.error = &error;
	ledgerd_reply(l, to, seq, &reply);
}

/* --- sending ---------------------------------------------------------------------------------- */

static void
send_one(struct ledgerd *l, const struct ledgerd_out *out)
{
	struct sp_err err;
	enum sp_code code;

	switch (out->kind) {
	case LEDGERD_OUT_WORKER:
		code = sp_hub_send(l->hub, out->worker, out->envelope, &err);
		break;
	case LEDGERD_OUT_OPERATOR:
		code = sp_hub_reply(l->hub, &out->to, out->data, out->len, &err);
		break;
	default:
		code = sp_hub_publish(l->hub, out->topic, out->data, out->len, &err);
		break;
	}
	/* who is gone asks again when it is back */
	if (code == SP_E_UNREACHABLE)
		sp_log_debug(NULL, "%s", err.msg);
	else if (code != SP_OK)
		sp_log_error(NULL, "%s", err.msg);
}

static void
send_all(struct ledgerd *l)
{
	struct ledgerd_out *out = l->out;
	size_t i, count = l->out_count;

	l->out = NULL;
	l->out_count = l->out_cap = 0;
	for (i = 0; i < count; i++) {
		send_one(l, &out[i]);
		clear_out(&out[i]);
	}
	free(out);
}

/* The newest checkpoint that is stored, where that is news. */
static void
publish_checkpoint(struct ledgerd *l)
{
	const uint8_t *note;
	uint64_t size;
	size_t len;

	note = sp_ledger_checkpoint(l->ledger, &len, &size);
	if (size == l->published)
		return;
	ledgerd_publish(l, "checkpoint", note, len);
	l->published = size;
}

/* A checkpoint over what is committed; one that cannot be stored is tried again each time. */
static void
sign(struct ledgerd *l)
{
	struct sp_err err;

	if (sp_ledger_sign(l->ledger, NULL, &err) != SP_OK)
		sp_log_error(NULL, "no checkpoint was signed: %s", err.msg);
	publish_checkpoint(l);
}

static void
send_offer(struct ledgerd *l, const struct ledgerd_action *action)
{
	Sallyport__Envelope envelope;
	Sallyport__Offer offer;
	struct ledgerd_live *live = ledgerd_core_lease(&l->core, action->lease);
	struct sp_err err;
	enum sp_code code;

	sallyport__envelope__init(&envelope);
	sallyport__offer__init(&offer);
	SP_ASSERT(live != NULL);
	/* a release carries proofs of all that led to it */
	if (live->a.step == SP_STEP_PACKAGE)
		sign(l);
	code = ledgerd_task_build(l, &live->a, &offer.task, &err);
	if (code != SP_OK) {
		sp_log_error(action->job, "step %s cannot be offered: %s",
		    sp_jobs_step_name(live->a.step), err.msg);
		return;
	}
	envelope.body_case = SALLYPORT__ENVELOPE__BODY_OFFER;
	envelope.offer = &offer;
	code = sp_hub_send(l->hub, action->worker, &envelope, &err);
	if (code == SP_E_UNREACHABLE)
		ledgerd_core_gone(&l->core, action->worker);
	if (code != SP_OK)
		sp_log_warn(action->job, "step %s not offered to %s: %s",
		    sp_jobs_step_name(live->a.step), action->worker, err.msg);
	else
		sp_log_debug(action->job, "step %s offered to %s, lease %s",
		    sp_jobs_step_name(live->a.step), action->worker, action->lease);
	sallyport__task__free_unpacked(offer.task, NULL);
}

static void
schedule(struct ledgerd *l)
{
	struct ledgerd_actions actions;
	size_t i;

	memset(&actions.outcome, 0, sizeof(actions.outcome));
	actions.count = 0;
	ledgerd_core_schedule(&l->core, sp_time_monotonic_ms(), sp_time_unix_ms(), &actions);
	for (i = 0; i < actions.count; i++)
		send_offer(l, &actions.list[i]);
	ledgerd_actions_clear(&actions);
}

static void
answer_waiter(struct ledgerd *l, const struct ledgerd_waiter *w, const struct sp_job *job)
{
	Sallyport__OperatorReply reply;
	Sallyport__OperatorJobList list;
	Sallyport__OperatorJobView *view = NULL;
	struct sp_err err;

	sallyport__operator_reply__init(&reply);
	sallyport__operator_job_list__init(&list);
	if (ledgerd_view_job(l, job, 1, &view, &err) != SP_OK) {
		ledgerd_reply_error(l, &w->from, w->seq, &err);
		return;
	}
	list.n_jobs = 1;
	list.jobs = &view;
	reply.body_case = SALLYPORT__OPERATOR_REPLY__BODY_JOBS;
	reply.jobs = &list;
	ledgerd_reply(l, &w->from, w->seq, &reply);
	ledgerd_view_free(&view);
}

static void
wake_waiters(struct ledgerd *l)
{
	int64_t now_ms = sp_time_monotonic_ms();
	struct sp_job job;
	struct sp_err err;
	size_t i = 0;

	while (i < l->waiter_count) {
		struct ledgerd_waiter *w = &l->waiters[i];

		if (sp_table_job(sp_ledger_db(l->ledger), w->job, &job, &err) != SP_OK) {
			ledgerd_reply_error(l, &w->from, w->seq, &err);
		} else if (ledgerd_view_change(l, &job) > w->after || now_ms >= w->deadline_ms) {
			answer_waiter(l, w, &job);
		} else {
			i++;
			sp_table_job_clear(&job);
			continue;
		}
		sp_table_job_clear(&job);
		*w = l->waiters[--l->waiter_count];
	}
}

static void on_settle(uv_timer_t *timer);

void
ledgerd_flush(struct ledgerd *l)
{
	int had_batch = l->in_batch, was_long = 0;
	struct sp_err err;

	if (had_batch) {
		l->in_batch = 0;
		if (sp_ledger_commit(l->ledger, &err) != SP_OK)
			fail_batch(l, &err);
		was_long = sp_time_monotonic_ms() - l->batch_ms >= SETTLE_MS;
	}
	publish_checkpoint(l);
	wake_waiters(l);
	send_all(l);
	schedule(l);
	send_all(l);
	uv_idle_stop(&l->flush);
	if (was_long) {
		sign(l);
		send_all(l);
	}
	/* a turn that commits nothing stores no checkpoint either, and must not put it off */
	if (sp_ledger_is_behind(l->ledger) &&
	    (had_batch || !uv_is_active((uv_handle_t *)&l->settle)))
		uv_timer_start(&l->settle, on_settle, SETTLE_MS, 0);
}

void
ledgerd_settle(struct ledgerd *l)
{
	ledgerd_flush(l);
	sign(l);
	send_all(l);
	uv_timer_stop(&l->settle);
}

static void
on_settle(uv_timer_t *timer)
{
	struct ledgerd *l = timer->data;

	/* a batch is about to be committed, and takes the checkpoint along */
	if (!l->in_batch)
		ledgerd_settle(l);
}

static void
on_timer(uv_timer_t *timer)
{
	struct ledgerd *l = timer->data;

	if (l->stale)
		reload_core(l);
	ledgerd_expire(l);
	ledgerd_gc_expire(l);
	ledgerd_flush(l);
}

/* --- opening ---------------------------------------------------------------------------------- */

static void
sign_note(void *ctx, const void *data, size_t len, uint8_t sig[64])
{
	sp_key_sign(ctx, data, len, sig);
}

static enum sp_code
load_key(const struct sp_conf *conf, const char *file, enum sp_role role, struct sp_key **out,
    struct sp_err *err)
{
	char *path = sp_paths_key(conf, LEDGERD_SERVICE, file);
	enum sp_code code = sp_key_load(path, role, NULL, out, err);

	free(path);
	return code;
}

/* The last checkpoint may be of an older log key, as long as the trust document still knows that.
 */
static enum sp_code
check_note(void *ctx, const uint8_t *note, size_t len, struct sp_err *err)
{
	const struct sp_trust *trust;
	struct sp_checkpoint checkpoint;
	enum sp_code code = ledgerd_trust(ctx, &trust, err);

	if (code == SP_OK)
		code = sp_proof_checkpoint(trust, note, len, &checkpoint, NULL, err);
	return code;
}

/* Checkpoints by a key that nobody knows would be refused by everybody, the next start included. */
static enum sp_code
check_log_key(const struct ledgerd *l, const struct sp_trust *trust, struct sp_err *err)
{
	const struct sp_pubkey *key = sp_key_public(l->log_key), *known;

	known = sp_trust_key_by_id(trust, SP_ROLE_LOG, key->id.s);
	if (known != NULL && strcmp(known->name, l->name) == 0)
		return SP_OK;
	return sp_err_set(err, SP_E_DENIED,
	    "the log key %.16s... is not one that version %" PRId64 " of the trust document gives "
	    "%s: sign the next version with it (`sallyctl trust update`), or put the key back "
	    "that it names",
	    key->id.s, sp_trust_version(trust), l->name);
}

static enum sp_code
open_ledger(struct ledgerd *l, struct sp_err *err)
{
	char *dir = sp_paths_state(l->conf, LEDGERD_SERVICE), *path;
	struct sp_ledger_spec spec = {.origin = l->origin,
	    .self = {0, 0, LEDGERD_SERVICE, l->name, l->key_id},
	    .pk = sp_key_public(l->log_key)->bytes,
	    .sign = sign_note,
	    .ctx = l->log_key,
	    .check_note = check_note,
	    .check_ctx = l};
	enum sp_code code;

	path = sp_xasprintf("%s/ledger.db", dir);
	spec.path = path;
	code = sp_file_mkdirs(dir, 0750, err);
	sp_file_sweep(dir, SP_FILE_SWEEP_DEPTH);
	if (code == SP_OK)
		code = sp_ledger_open(&spec, &l->ledger, err);
	free(path);
	free(dir);
	return code;
}

/* Restarts stand in the log too. */
static enum sp_code
log_start(struct ledgerd *l, struct sp_err *err)
{
	struct sp_entry *entry = sp_entry_new(sp_ledger_self(l->ledger), "start");
	char version[24];
	enum sp_code code;
	uint64_t seq;

	snprintf(version, sizeof(version), "%" PRId64, sp_trust_version(l->trust));
	sp_entry_detail(entry, "version", SP_VERSION);
	sp_entry_detail(entry, "trust_version", version);
	sp_entry_detail(entry, "log_key", sp_key_public(l->log_key)->id.s);
	code = sp_ledger_begin(l->ledger, err);
	if (code == SP_OK)
		code = sp_ledger_append(
		    l->ledger, entry, sp_time_unix_ms(), sp_time_monotonic_ms(), &seq, err);
	if (code == SP_OK)
		code = sp_ledger_commit(l->ledger, err);
	sp_entry_free(&entry);
	if (code != SP_OK) {
		sp_ledger_rollback(l->ledger);
		return code;
	}
	return sp_ledger_sign(l->ledger, NULL, err);
}

/* Who connects next gets what was published before. */
static enum sp_code
publish_kept(struct ledgerd *l, struct sp_err *err)
{
	const uint8_t *note;
	enum sp_code code;
	uint8_t *content;
	size_t len;

	note = sp_ledger_checkpoint(l->ledger, &len, &l->published);
	code = sp_hub_publish(l->hub, "checkpoint", note, len, err);
	if (code != SP_OK)
		return code;
	code = sp_table_topic(sp_ledger_db(l->ledger), "snapshot", &content, &len, err);
	if (code == SP_E_NOT_FOUND)
		return SP_OK;
	if (code == SP_OK) {
		code = sp_hub_publish(l->hub, "snapshot", content, len, err);
		free(content);
	}
	return code;
}

static void
settings_of(struct ledgerd *l)
{
	struct ledgerd_settings *s = &l->core.settings;

	s->bastion = strcmp(sp_conf_string(l->conf, "side"), "bastion") == 0;
	s->heartbeat_ms = sp_conf_int(l->conf, "ledgerd.heartbeat_ms");
	s->lease_ms = sp_conf_int(l->conf, "ledgerd.lease_ms");
	s->backoff_ms = sp_conf_int(l->conf, "ledgerd.backoff_ms");
	s->attempts = (unsigned)sp_conf_int(l->conf, "ledgerd.attempts");
}

static void
start_timers(struct ledgerd *l)
{
	uint64_t tick_ms = (uint64_t)l->core.settings.heartbeat_ms / 2;

	tick_ms = tick_ms < 20 ? 20 : tick_ms > 500 ? 500 : tick_ms;
	l->timer.data = l->flush.data = l->settle.data = l;
	uv_idle_init(l->loop, &l->flush);
	uv_timer_init(l->loop, &l->timer);
	uv_timer_init(l->loop, &l->settle);
	uv_timer_start(&l->timer, on_timer, tick_ms, tick_ms);
}

enum sp_code
ledgerd_open(struct ledgerd *l, const struct sp_conf *conf, uv_loop_t *loop, struct sp_err *err)
{
	struct sp_hub_spec hub = {.loop = loop,
	    .conf = conf,
	    .admit = admit,
	    .on_worker = ledgerd_on_worker,
	    .on_operator = ledgerd_on_operator,
	    .ctx = l};
	const struct sp_trust *trust;
	struct sp_key *bus_key = NULL;
	enum sp_code code;

	l->conf = conf;
	l->loop = loop;
	l->started_ms = sp_time_monotonic_ms();
	l->name = sp_xasprintf(LEDGERD_SERVICE "@%s", sp_conf_string(conf, "side"));
	l->trust_dir = sp_paths_trust(conf);
	l->trust_file = sp_xasprintf("%s/trust.json", l->trust_dir);
	settings_of(l);
	code = ledgerd_trust(l, &trust, err);
	if (code == SP_OK)
		code = load_key(conf, "log", SP_ROLE_LOG, &l->log_key, err);
	if (code == SP_OK)
		code = check_log_key(l, trust, err);
	if (code == SP_OK)
		code = load_key(conf, "bus", SP_ROLE_BUS, &bus_key, err);
	if (code == SP_OK) {
		memcpy(l->key_id, sp_key_public(bus_key)->id.s, sizeof(l->key_id));
		code = open_ledger(l, err);
	}
	if (code == SP_OK)
		code = log_start(l, err);
	if (code == SP_OK)
		code = load_core(l, err);
	hub.key = bus_key;
	hub.origin = l->origin;
	if (code == SP_OK)
		code = sp_hub_open(&hub, &l->hub, err);
	if (code == SP_OK)
		code = publish_kept(l, err);
	if (code == SP_OK)
		start_timers(l);
	sp_key_free(&bus_key);
	return code;
}

void
ledgerd_close(struct ledgerd *l)
{
	size_t i;

	if (l->hub != NULL && l->timer.data != NULL)
		ledgerd_settle(l);
	for (i = 0; i < l->out_count; i++)
		clear_out(&l->out[i]);
	free(l->out);
	if (l->timer.data != NULL) {
		uv_close((uv_handle_t *)&l->timer, NULL);
		uv_close((uv_handle_t *)&l->settle, NULL);
		uv_close((uv_handle_t *)&l->flush, NULL);
	}
	if (l->hub != NULL)
		sp_hub_close(&l->hub);
	sp_ledger_close(&l->ledger);
	ledgerd_core_free(&l->core);
	sp_trust_free(&l->trust);
	sp_key_free(&l->log_key);
	free(l->collection);
	free(l->origin);
	free(l->name);
	ledgerd_profile_clear(&l->profile.profile);
	free(l->trust_dir);
	free(l->trust_file);
}
