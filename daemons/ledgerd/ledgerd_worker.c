/* ledgerd_worker.c -- messages of workers: looked up, decided in the core, carried out. */
#include "base/log.h"
#include "base/time.h"
#include "ledgerd.h"

#include <stdlib.h>
#include <string.h>

/* A message under way. */
struct incoming {
	struct ledgerd *l;
	const struct sp_trust *trust;
	struct ledgerd_who who;
	char key_id[SP_HEX_LEN + 1]; /* of the worker's bus key */
	uint64_t seq;
	int repeats;
};

static struct sp_actor
actor_of(const struct incoming *in)
{
	struct sp_actor actor = {0, 0, in->who.service, in->who.name, in->key_id};

	return actor;
}

/* --- carrying out ----------------------------------------------------------------------------- */

static enum sp_code
carry_change(struct ledgerd *l, const struct sp_actor *actor, const struct ledgerd_action *action,
    const struct sp_outcome *outcome, const struct sp_job *fresh, uint64_t *seq, struct sp_err *err)
{
	struct sp_changed changed;
	struct sp_change change = {.job = action->job,
	    .event = action->event,
	    .actor = action->by_ledger ? *sp_ledger_self(l->ledger) : *actor,
	    .reason = action->reason,
	    .fresh = fresh,
	    .worker = actor != NULL ? actor->name : "",
	    .lease = action->lease,
	    .outcome =
		action->event == SP_EV_LEASE || action->event == SP_EV_BEGIN ? NULL : outcome,
	    .not_before_ms = action->delay_ms > 0 ? sp_time_unix_ms() + action->delay_ms : 0,
	    .avoid = action->avoid,
	    .pin = action->pin};
	enum sp_code code;

	code = ledgerd_apply(l, &change, &changed, err);
	*seq = changed.seq;
	sp_changed_clear(&changed);
	return code;
}

static enum sp_code
carry_running(struct ledgerd *l, const struct ledgerd_action *action, struct sp_err *err)
{
	struct sp_attempt attempt;
	enum sp_code code;

	code = sp_table_attempt(sp_ledger_db(l->ledger), action->lease, &attempt, err);
	if (code == SP_OK)
		code = sp_table_set_attempt(sp_ledger_db(l->ledger), action->lease,
		    SP_LEASE_RUNNING, action->worker, attempt.seq, err);
	return code;
}

/* Everything an event asked for. Answers go out when all of it is committed. */
static void
carry_out(struct incoming *in, struct ledgerd_actions *actions, const struct sp_job *fresh)
{
	struct sp_actor actor = actor_of(in);
	enum sp_code code = SP_OK;
	uint64_t change_seq = 0;
	struct sp_err err;
	size_t i, refused = 0;

	for (i = 0; i < actions->count && code == SP_OK; i++) {
		const struct ledgerd_action *action = &actions->list[i];

		if (action->what == LEDGERD_CHANGE || action->what == LEDGERD_RUNNING)
			code = ledgerd_batch(in->l, &err);
		if (code != SP_OK)
			break;
		in->l->moved |= action->what == LEDGERD_RUNNING;
		switch (action->what) {
		case LEDGERD_CHANGE:
			code = carry_change(
			    in->l, &actor, action, &actions->outcome, fresh, &change_seq, &err);
			break;
		case LEDGERD_RUNNING:
			code = carry_running(in->l, action, &err);
			break;
		case LEDGERD_ACK:
			ledgerd_ack(in->l, in->who.name, in->seq,
			    action->log_seq != 0 ? action->log_seq : change_seq, in->repeats);
			break;
		case LEDGERD_REFUSE:
			/* one line a message, however many leases a heartbeat names */
			if (refused++ == 0)
				sp_log_warn(
				    NULL, "refused to %s: %s", in->who.name, action->err.msg);
			ledgerd_refuse(
			    in->l, in->who.name, in->seq, action->lease, &action->err, in->repeats);
			break;
		case LEDGERD_OFFER:
			break;
		}
	}
	if (code == SP_OK)
		return;
	sp_log_error(NULL, "message of %s: %s", in->who.name, err.msg);
	ledgerd_undo(in->l, &err);
	/* a worker that repeats finds better times; one that does not must hear it */
	if (!in->repeats)
		ledgerd_refuse(in->l, in->who.name, in->seq, "", &err, 0);
}

/* --- one function per message ----------------------------------------------------------------- */

static void
on_heartbeat(
    struct incoming *in, const Sallyport__Heartbeat *heartbeat, struct ledgerd_actions *actions)
{
	struct sp_err err;

	if (strcmp(heartbeat->service, in->who.service) != 0) {
		sp_err_set(&err, SP_E_DENIED, "%s is %s in the trust document, not %s",
		    in->who.name, in->who.service, heartbeat->service);
		sp_log_warn(NULL, "%s", err.msg);
		return;
	}
	ledgerd_core_heartbeat(&in->l->core, &in->who, heartbeat, sp_time_monotonic_ms(), actions);
	ledgerd_gc_heartbeat(in->l, in->who.name, heartbeat);
	carry_out(in, actions, NULL);
	/* free slots may have a step waiting for them */
	ledgerd_wake(in->l);
}

static void
on_accept(struct incoming *in, const char *lease, struct ledgerd_actions *actions)
{
	struct sp_attempt attempt;
	struct sp_err err;
	enum sp_code code;

	code = sp_table_attempt(sp_ledger_db(in->l->ledger), lease, &attempt, &err);
	if (code != SP_OK && code != SP_E_NOT_FOUND) {
		sp_log_error(NULL, "%s", err.msg);
		return;
	}
	ledgerd_step_accept(&in->who, lease, code == SP_OK ? &attempt : NULL, actions);
	carry_out(in, actions, NULL);
}

static void
on_result(struct incoming *in, const Sallyport__Result *result, struct ledgerd_actions *actions)
{
	struct sp_db *db = sp_ledger_db(in->l->ledger);
	struct sp_table_extras extras = {0};
	struct sp_attempt attempt;
	struct sp_job job = {0};
	struct sp_err err;
	enum sp_code code;

	code = sp_table_attempt(db, result->lease, &attempt, &err);
	if (code == SP_E_NOT_FOUND) {
		ledgerd_step_result(
		    &in->l->core.settings, &in->who, result, NULL, NULL, NULL, in->trust, actions);
		carry_out(in, actions, NULL);
		return;
	}
	if (code == SP_OK)
		code = sp_table_job(db, attempt.job, &job, &err);
	if (code == SP_OK)
		code = sp_table_extras(db, attempt.job, &extras, &err);
	if (code == SP_OK) {
		ledgerd_step_result(&in->l->core.settings, &in->who, result, &attempt, &job,
		    &extras, in->trust, actions);
		carry_out(in, actions, NULL);
	} else {
		sp_log_error(NULL, "%s", err.msg);
	}
	sp_table_extras_clear(&extras);
	sp_table_job_clear(&job);
}

static void
on_begin(struct incoming *in, const Sallyport__Begin *begin, struct ledgerd_actions *actions)
{
	uint8_t policy[] = "{}";
	struct sp_job job, fresh = {.source = begin->source,
			       .name = begin->name,
			       .policy = policy,
			       .policy_len = 2,
			       .submitter = -1};
	struct sp_err err;
	enum sp_code code;

	code = sp_table_job(sp_ledger_db(in->l->ledger), begin->job, &job, &err);
	if (code != SP_OK && code != SP_E_NOT_FOUND) {
		ledgerd_refuse(in->l, in->who.name, in->seq, "", &err, 0);
		return;
	}
	ledgerd_step_begin(
	    &in->l->core.settings, &in->who, begin, code == SP_OK ? &job : NULL, actions);
	/* a kind that is none was refused above */
	if (sp_jobs_recipe_find(begin->kind, &fresh.recipe))
		carry_out(in, actions, &fresh);
	else
		carry_out(in, actions, NULL);
	if (code == SP_OK)
		sp_table_job_clear(&job);
}

/* The same content again is acknowledged, but is no event. */
static int
is_kept(struct ledgerd *l, const Sallyport__Publish *publish)
{
	uint8_t *content;
	size_t len;
	int same;

	if (sp_table_topic(sp_ledger_db(l->ledger), publish->topic, &content, &len, NULL) != SP_OK)
		return 0;
	same = len == publish->content.len && memcmp(content, publish->content.data, len) == 0;
	free(content);
	return same;
}

static enum sp_code
log_publish(
    struct incoming *in, const Sallyport__Publish *publish, uint64_t *seq, struct sp_err *err)
{
	struct sp_actor actor = actor_of(in);
	struct sp_entry *entry = sp_entry_new(&actor, "publish");
	enum sp_code code;

	sp_entry_detail(entry, "topic", publish->topic);
	sp_entry_subject(entry, publish->topic,
	    sp_sha256_hex(publish->content.data, publish->content.len).s, in->who.service, 0,
	    publish->content.len);
	code = sp_ledger_append(
	    in->l->ledger, entry, sp_time_unix_ms(), sp_time_monotonic_ms(), seq, err);
	if (code == SP_OK)
		code = sp_table_set_topic(sp_ledger_db(in->l->ledger), publish->topic,
		    publish->content.data, publish->content.len, *seq, err);
	sp_entry_free(&entry);
	return code;
}

static void
on_publish(struct incoming *in, const Sallyport__Publish *publish)
{
	struct sp_err err;
	enum sp_code code = SP_OK;
	uint64_t seq = 0;

	if (strcmp(publish->topic, "snapshot") != 0 || strcmp(in->who.service, "registryd") != 0)
		code = sp_err_set(&err, SP_E_DENIED, "%s may not publish \"%.31s\"", in->who.name,
		    publish->topic);
	if (code == SP_OK)
		code = ledgerd_check_snapshot(
		    in->trust, &in->who, publish->content.data, publish->content.len, &err);
	if (code == SP_OK && !is_kept(in->l, publish)) {
		code = ledgerd_batch(in->l, &err);
		if (code == SP_OK) {
			code = log_publish(in, publish, &seq, &err);
			if (code != SP_OK)
				ledgerd_undo(in->l, &err);
			else
				ledgerd_publish(
				    in->l, "snapshot", publish->content.data, publish->content.len);
		}
	}
	if (code == SP_OK) {
		ledgerd_ack(in->l, in->who.name, in->seq, seq, 0);
	} else {
		sp_log_warn(NULL, "not published for %s: %s", in->who.name, err.msg);
		ledgerd_refuse(in->l, in->who.name, in->seq, "", &err, 0);
	}
}

static void
on_record(struct incoming *in, const Sallyport__Record *record)
{
	struct sp_actor actor = actor_of(in);
	struct sp_entry *entry = sp_entry_new(&actor, "admission");
	struct sp_outcome said = {0};
	struct sp_err err;
	enum sp_code code = SP_OK;
	uint64_t seq = 0;
	size_t i;

	if (strcmp(record->kind, "admission") != 0 || strcmp(in->who.service, "admissiond") != 0)
		code = sp_err_set(
		    &err, SP_E_DENIED, "%s may not record \"%.31s\"", in->who.name, record->kind);
	if (code == SP_OK)
		code = ledgerd_batch(in->l, &err);
	if (code == SP_OK) {
		sp_entry_reason(entry, record->reason);
		for (i = 0; i < record->n_details; i++)
			sp_outcome_detail(
			    &said, record->details[i]->key, "%s", record->details[i]->value);
		sp_change_log_details(entry, said.details, said.detail_count);
		code = sp_ledger_append(
		    in->l->ledger, entry, sp_time_unix_ms(), sp_time_monotonic_ms(), &seq, &err);
		if (code != SP_OK)
			ledgerd_undo(in->l, &err);
	}
	if (code == SP_OK) {
		ledgerd_ack(in->l, in->who.name, in->seq, seq, 0);
	} else {
		sp_log_warn(NULL, "not recorded for %s: %s", in->who.name, err.msg);
		ledgerd_refuse(in->l, in->who.name, in->seq, "", &err, 0);
	}
	sp_outcome_clear(&said);
	sp_entry_free(&entry);
}

static void
on_collected(const struct incoming *in, const Sallyport__Collected *collected)
{
	struct sp_actor actor = actor_of(in);

	ledgerd_gc_collected(in->l, &actor, in->seq, collected);
}

/* --- dispatch --------------------------------------------------------------------------------- */

/* Who it is according to the trust document of this moment. */
static enum sp_code
identify(struct incoming *in, const char *name, struct sp_err *err)
{
	const struct sp_trust_worker *worker;
	enum sp_code code;

	code = ledgerd_trust(in->l, &in->trust, err);
	if (code != SP_OK)
		return code;
	worker = sp_trust_worker_by_name(in->trust, name);
	if (worker == NULL)
		return sp_err_set(err, SP_E_DENIED,
		    "%s is no worker (any more) in version %lld of the trust document", name,
		    (long long)sp_trust_version(in->trust));
	in->who.name = worker->name;
	in->who.service = worker->service;
	memcpy(in->key_id, sp_sha256_hex(worker->key, sizeof(worker->key)).s, sizeof(in->key_id));
	return SP_OK;
}

void
ledgerd_on_worker(void *ctx, const char *worker, const Sallyport__Envelope *envelope)
{
	struct incoming in = {.l = ctx, .seq = envelope->seq};
	struct ledgerd_actions *actions;
	struct sp_err err;
	enum sp_code code;

	code = identify(&in, worker, &err);
	if (code != SP_OK) {
		sp_log_warn(NULL, "message of %s dropped: %s", worker, err.msg);
		if (code == SP_E_DENIED)
			ledgerd_refuse(ctx, worker, envelope->seq, "", &err, 0);
		return;
	}
	actions = sp_xcalloc(1, sizeof(*actions));
	switch (envelope->body_case) {
	case SALLYPORT__ENVELOPE__BODY_HEARTBEAT:
		in.repeats = 1;
		on_heartbeat(&in, envelope->heartbeat, actions);
		break;
	case SALLYPORT__ENVELOPE__BODY_ACCEPT:
		in.repeats = 1;
		on_accept(&in, envelope->accept->lease, actions);
		break;
	case SALLYPORT__ENVELOPE__BODY_RESULT:
		in.repeats = 1;
		on_result(&in, envelope->result, actions);
		break;
	case SALLYPORT__ENVELOPE__BODY_BEGIN:
		on_begin(&in, envelope->begin, actions);
		break;
	case SALLYPORT__ENVELOPE__BODY_PUBLISH:
		on_publish(&in, envelope->publish);
		break;
	case SALLYPORT__ENVELOPE__BODY_RECORD:
		on_record(&in, envelope->record);
		break;
	case SALLYPORT__ENVELOPE__BODY_NAMES:
		ledgerd_gc_names(in.l, in.who.name, in.seq, envelope->names);
		break;
	case SALLYPORT__ENVELOPE__BODY_COLLECTED:
		on_collected(&in, envelope->collected);
		break;
	default:
		/* the hub lets no other body of a worker through */
		break;
	}
	ledgerd_actions_clear(actions);
	free(actions);
}

void
ledgerd_expire(struct ledgerd *l)
{
	struct ledgerd_actions *actions = sp_xcalloc(1, sizeof(*actions));
	struct sp_err err;
	enum sp_code code;
	uint64_t seq;
	size_t i;

	ledgerd_core_expire(&l->core, sp_time_monotonic_ms(), actions);
	for (i = 0; i < actions->count; i++) {
		code = ledgerd_batch(l, &err);
		if (code != SP_OK) {
			sp_log_error(NULL, "no lease can be taken back: %s", err.msg);
			break;
		}
		code = carry_change(
		    l, sp_ledger_self(l->ledger), &actions->list[i], NULL, NULL, &seq, &err);
		if (code == SP_OK)
			continue;
		/* the others' jobs do not wait for this one, whose turn comes again */
		ledgerd_undo(l, &err);
		sp_log_error(actions->list[i].job, "lease %s was not taken back: %s",
		    actions->list[i].lease, err.msg);
	}
	ledgerd_actions_clear(actions);
	free(actions);
}
