/* change.c -- transitions in the database. */
#include "ledger/change.h"
#include "base/buf.h"
#include "ledger/replay.h"
#include "release/candidate.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DETAILS_LOGGED (SP_ENTRY_DETAILS_MAX - 8) /* the rest by digest; room for our own */

static const char *
text_of(const char *text)
{
	return text != NULL ? text : "";
}

/* --- the event's entry ------------------------------------------------------------------------ */

static void
log_detail_u64(struct sp_entry *entry, const char *key, uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, value);
	sp_entry_detail(entry, key, text);
}

void
sp_change_log_details(struct sp_entry *entry, const struct sp_detail *details, size_t count)
{
	struct sp_buf all = {0};
	size_t i;

	for (i = 0; i < count && i < DETAILS_LOGGED; i++)
		sp_entry_detail(entry, details[i].key, details[i].value);
	if (count <= DETAILS_LOGGED)
		return;
	for (i = 0; i < count; i++)
		sp_buf_printf(&all, "%s\n%s\n", details[i].key, details[i].value);
	log_detail_u64(entry, "details", count);
	sp_entry_detail(entry, "details_sha256", sp_sha256_hex(all.data, all.len).s);
	sp_buf_free(&all);
}

static void
log_outcome(struct sp_entry *entry, const struct sp_outcome *outcome)
{
	size_t i;

	for (i = 0; i < outcome->artifact_count; i++) {
		const struct sp_artifact *a = &outcome->artifacts[i];

		sp_entry_subject(entry, a->role, a->digest.s, a->store, a->tree, a->bytes);
	}
	if (outcome->attestation_len > 0)
		sp_entry_attestation(entry, outcome->attestation, outcome->attestation_len);
	sp_change_log_details(entry, outcome->details, outcome->detail_count);
}

static void
log_fresh(struct sp_entry *entry, const struct sp_job *job)
{
	sp_entry_detail(entry, "recipe", sp_jobs_recipe_name(job->recipe));
	sp_entry_detail(entry, "source", job->source);
	sp_entry_detail(entry, "name", job->name);
	if (job->submitter < 0)
		return;
	sp_entry_detail(entry, "profile", job->profile);
	sp_entry_detail(entry, "destination", job->destination);
	log_detail_u64(entry, "approvals", job->approvals_needed);
	sp_entry_detail(entry, "policy_sha256", sp_sha256_hex(job->policy, job->policy_len).s);
}

/* --- candidates ------------------------------------------------------------------------------- */

/* The tree that is to cross: the last candidate, or what was fetched when nothing changes it. */
static const struct sp_artifact *
crossing_tree(const struct sp_job *job, const struct sp_table_extras *extras)
{
	const char *role = job->recipe == SP_RECIPE_MODEL ? "candidate" : "source";
	size_t i;

	for (i = extras->artifact_count; i > 0; i--)
		if (strcmp(extras->artifacts[i - 1].a.role, role) == 0 &&
		    extras->artifacts[i - 1].a.tree)
			return &extras->artifacts[i - 1].a;
	return NULL;
}

/* Allocates the version and fixes the bytes that operators sign. */
static enum sp_code
make_candidate(struct sp_db *db, struct sp_job *job, struct sp_err *err)
{
	struct sp_candidate candidate = {0};
	const struct sp_artifact *tree;
	struct sp_table_extras extras;
	enum sp_code code;
	size_t i;

	code = sp_table_extras(db, job->id, &extras, err);
	if (code != SP_OK)
		return code;
	tree = crossing_tree(job, &extras);
	if (tree == NULL || extras.attestation_count > SP_CANDIDATE_ATTESTATIONS_MAX) {
		code = sp_err_set(err, SP_E_INVALID,
		    "job %s: no tree was left that could cross, or more than %d attestations",
		    job->id, SP_CANDIDATE_ATTESTATIONS_MAX);
		goto out;
	}
	code = sp_table_next_version(db, job->name, &job->version, err);
	if (code != SP_OK)
		goto out;
	snprintf(candidate.job, sizeof(candidate.job), "%s", job->id);
	snprintf(candidate.kind, sizeof(candidate.kind), "%s", sp_jobs_kind(job->recipe));
	snprintf(candidate.name, sizeof(candidate.name), "%s", job->name);
	snprintf(candidate.destination, sizeof(candidate.destination), "%s", job->destination);
	candidate.version = (int64_t)job->version;
	candidate.tree = tree->digest;
	for (i = 0; i < extras.attestation_count; i++)
		candidate.attestations[candidate.attestation_count++] =
		    sp_sha256_hex(extras.attestations[i].envelope, extras.attestations[i].len);
	free(job->candidate);
	job->candidate = (uint8_t *)sp_candidate_format(&candidate, &job->candidate_len);
out:
	sp_table_extras_clear(&extras);
	return code;
}

static void
log_candidate(struct sp_entry *entry, const struct sp_job *job)
{
	log_detail_u64(entry, "version", job->version);
	sp_entry_detail(
	    entry, "candidate_sha256", sp_sha256_hex(job->candidate, job->candidate_len).s);
	sp_entry_detail(entry, "name", job->name);
	sp_entry_detail(entry, "destination", job->destination);
}

/* --- attempts --------------------------------------------------------------------------------- */

/* The attempt that is alive must be the one that the event is about. */
static enum sp_code
find_attempt(struct sp_db *db, const struct sp_change *change, struct sp_changed *changed,
    struct sp_err *err)
{
	struct sp_attempt *a = &changed->attempt;
	int needed = change->event == SP_EV_LEASE || sp_jobs_ends_lease(change->event), found;
	enum sp_code code;

	code = sp_table_newest(db, change->job, a, &found, err);
	if (code != SP_OK)
		return code;
	changed->had_attempt = found && sp_jobs_is_alive(a->state);
	if (!needed)
		return SP_OK;
	if (!changed->had_attempt || strcmp(a->lease, text_of(change->lease)) != 0)
		return sp_err_set(err, SP_E_STATE,
		    "job %s: lease %.32s is not (any more) the one "
		    "that counts",
		    change->job, text_of(change->lease));
	if ((change->event == SP_EV_LEASE) != (a->state == SP_LEASE_OFFERED))
		return sp_err_set(err, SP_E_STATE, "job %s: lease %.32s is %s", change->job,
		    a->lease, sp_jobs_lease_name(a->state));
	return SP_OK;
}

static enum sp_lease_state
attempt_after(enum sp_job_event event)
{
	switch (event) {
	case SP_EV_LEASE:
		return SP_LEASE_LEASED;
	case SP_EV_DONE:
		return SP_LEASE_DONE;
	case SP_EV_LOST:
	case SP_EV_CANCEL:
		return SP_LEASE_LOST;
	default:
		return SP_LEASE_FAILED;
	}
}

static enum sp_code
move_attempt(struct sp_db *db, const struct sp_change *change, struct sp_changed *changed,
    struct sp_err *err)
{
	struct sp_attempt *a = &changed->attempt;

	if (!changed->had_attempt)
		return SP_OK;
	a->state = attempt_after(change->event);
	a->seq = changed->seq;
	if (change->event == SP_EV_LEASE)
		snprintf(a->worker, sizeof(a->worker), "%s", change->worker);
	return sp_table_set_attempt(db, a->lease, a->state, a->worker, a->seq, err);
}

static enum sp_code
add_attempt(struct sp_db *db, const struct sp_change *change, struct sp_changed *changed,
    struct sp_err *err)
{
	struct sp_attempt *next = &changed->next;
	int again = changed->action == SP_DO_AGAIN;

	SP_ASSERT(change->next_lease != NULL && strlen(change->next_lease) == SP_JOB_ID_LEN);
	SP_ASSERT(!again || changed->had_attempt);
	memset(next, 0, sizeof(*next));
	snprintf(next->lease, sizeof(next->lease), "%s", change->next_lease);
	snprintf(next->job, sizeof(next->job), "%s", change->job);
	if (!sp_jobs_step(changed->job.recipe, changed->job.state, &next->step))
		return sp_err_set(err, SP_E_STATE, "job %s: no step belongs to state %s",
		    change->job, sp_jobs_state_name(changed->job.state));
	next->attempt = again ? changed->attempt.attempt + 1 : 1;
	next->state = SP_LEASE_OFFERED;
	/* a step that is bound to a worker stays so */
	snprintf(next->pin, sizeof(next->pin), "%s",
	    again ? changed->attempt.pin : text_of(change->pin));
	snprintf(next->avoid, sizeof(next->avoid), "%s", text_of(change->avoid));
	next->not_before_ms = change->not_before_ms;
	changed->has_next = 1;
	return sp_table_insert_attempt(db, next, err);
}

/* --- rows ------------------------------------------------------------------------------------- */

static enum sp_code
load_job(struct sp_db *db, const struct sp_change *change, struct sp_job *job, struct sp_err *err)
{
	const struct sp_job *f = change->fresh;
	enum sp_code code;

	code = sp_table_job(db, change->job, job, err);
	if (code != SP_E_NOT_FOUND || f == NULL)
		return code;
	memset(job, 0, sizeof(*job));
	snprintf(job->id, sizeof(job->id), "%s", change->job);
	job->recipe = f->recipe;
	job->source = sp_xstrdup(text_of(f->source));
	job->profile = sp_xstrdup(text_of(f->profile));
	job->name = sp_xstrdup(text_of(f->name));
	job->destination = sp_xstrdup(text_of(f->destination));
	job->reason = sp_xstrdup("");
	job->policy = sp_xcalloc(f->policy_len + 1, 1);
	if (f->policy_len > 0)
		memcpy(job->policy, f->policy, f->policy_len);
	job->policy_len = f->policy_len;
	job->approvals_needed = f->approvals_needed;
	job->submitter = f->submitter;
	job->created_ms = change->unix_ms;
	return SP_OK;
}

/* What the event's entry says under that key (sp_entry_get), "" when it says nothing. */
static const char *
logged(const struct sp_outcome *outcome, const char *key, char digest[96])
{
	size_t i;

	for (i = 0; i < outcome->detail_count && i < DETAILS_LOGGED; i++)
		if (strcmp(outcome->details[i].key, key) == 0)
			return sp_entry_value(outcome->details[i].value, digest);
	return "";
}

/* In the enclave the verified release says what the job carries. Only what the entry tells is
 * believed, or a replay of the log would come to another job than the table has. */
static void
take_identity(struct sp_job *job, const struct sp_outcome *outcome)
{
	char digest[96];
	const char *text = logged(outcome, "name", digest);

	if (text[0] != '\0' && strlen(text) <= SP_NAME_MAX) {
		free(job->name);
		job->name = sp_xstrdup(text);
	}
	text = logged(outcome, "version", digest);
	if (text[0] != '\0')
		job->version = sp_replay_version(text);
}

static int
keeps_outcome(enum sp_job_event event)
{
	return event == SP_EV_DONE || event == SP_EV_BLOCK || event == SP_EV_QUARANTINE;
}

static enum sp_code
keep_outcome(
    struct sp_db *db, const struct sp_change *change, enum sp_step step, struct sp_err *err)
{
	const struct sp_outcome *o = change->outcome;
	enum sp_code code = SP_OK;
	size_t i;

	if (keeps_outcome(change->event)) {
		for (i = 0; i < o->artifact_count && code == SP_OK; i++)
			code = sp_table_add_artifact(db, change->job, step, &o->artifacts[i], err);
		if (code == SP_OK && o->attestation_len > 0)
			code = sp_table_add_attestation(
			    db, change->job, step, o->attestation, o->attestation_len, err);
	}
	if (change->event == SP_EV_AGAIN || change->event == SP_EV_LOST)
		return code;
	for (i = 0; i < o->detail_count && code == SP_OK; i++)
		code = sp_table_add_detail(db, change->job, step, &o->details[i], err);
	return code;
}

/* --- one event -------------------------------------------------------------------------------- */

static enum sp_code
append(struct sp_ledger *ledger, const struct sp_change *change, struct sp_changed *changed,
    int is_new, struct sp_err *err)
{
	struct sp_entry *entry = sp_entry_new(&change->actor, sp_jobs_event_name(change->event));
	enum sp_code code;

	sp_entry_job(entry, change->job, sp_jobs_state_name(changed->from),
	    sp_jobs_state_name(changed->job.state));
	sp_entry_reason(entry, text_of(change->reason));
	/* attempt was not moved yet: an offer that is withdrawn is no lease */
	if (changed->had_attempt &&
	    (changed->attempt.state != SP_LEASE_OFFERED || change->event == SP_EV_LEASE))
		sp_entry_step(
		    entry, sp_jobs_step_name(changed->attempt.step), changed->attempt.lease);
	if (is_new)
		log_fresh(entry, &changed->job);
	if (changed->action == SP_DO_ASK)
		log_candidate(entry, &changed->job);
	if (change->outcome != NULL)
		log_outcome(entry, change->outcome);
	if (change->approval != NULL)
		sp_entry_detail(entry, "person", change->approval->person);
	code = sp_ledger_append(
	    ledger, entry, change->unix_ms, change->monotonic_ms, &changed->seq, err);
	sp_entry_free(&entry);
	return code;
}

static enum sp_code
one_event(struct sp_ledger *ledger, const struct sp_change *change, struct sp_changed *changed,
    struct sp_err *err)
{
	struct sp_db *db = sp_ledger_db(ledger);
	struct sp_job *job = &changed->job;
	enum sp_job_state to;
	enum sp_code code;
	int is_new;

	code = load_job(db, change, job, err);
	if (code == SP_OK)
		code = find_attempt(db, change, changed, err);
	if (code == SP_OK)
		code = sp_jobs_next(job->recipe, job->state, job->resume, change->event, &to,
		    &changed->action, err);
	if (code != SP_OK)
		return code;
	changed->from = job->state;
	is_new = job->state == SP_JOB_NONE;
	job->state = to;
	job->resume = sp_jobs_resume(job->recipe, to, job->resume);
	job->changed_ms = change->unix_ms;
	free(job->reason);
	job->reason = sp_xstrdup(text_of(change->reason));
	if (is_new)
		job->first_seq = sp_ledger_size(ledger);
	job->last_seq = sp_ledger_size(ledger);
	if (is_new)
		code = sp_table_insert_job(db, job, err);
	if (code == SP_OK && change->outcome != NULL && changed->had_attempt)
		code = keep_outcome(db, change, changed->attempt.step, err);
	if (code == SP_OK && change->approval != NULL)
		code = sp_table_add_approval(db, change->job, change->approval->keyid,
		    change->approval->person, change->approval->envelope, change->approval->len,
		    err);
	if (code == SP_OK && changed->action == SP_DO_ASK)
		code = make_candidate(db, job, err);
	if (code == SP_OK && change->event == SP_EV_DONE && change->outcome != NULL &&
	    changed->attempt.step == SP_STEP_VERIFY)
		take_identity(job, change->outcome);
	if (code == SP_OK)
		code = append(ledger, change, changed, is_new, err);
	if (code == SP_OK)
		code = sp_table_update_job(db, job, err);
	if (code == SP_OK)
		code = move_attempt(db, change, changed, err);
	if (code == SP_OK && (changed->action == SP_DO_OFFER || changed->action == SP_DO_AGAIN))
		code = add_attempt(db, change, changed, err);
	return code;
}

enum sp_code
sp_change_apply(struct sp_ledger *ledger, const struct sp_change *change,
    struct sp_changed *changed, struct sp_err *err)
{
	struct sp_change await = {0};
	struct sp_changed awaited;
	enum sp_code code;

	memset(changed, 0, sizeof(*changed));
	code = one_event(ledger, change, changed, err);
	if (code != SP_OK || changed->action != SP_DO_AWAIT)
		return code;
	await.job = change->job;
	await.event = SP_EV_AWAIT;
	await.actor = *sp_ledger_self(ledger);
	await.unix_ms = change->unix_ms;
	await.monotonic_ms = change->monotonic_ms;
	memset(&awaited, 0, sizeof(awaited));
	code = one_event(ledger, &await, &awaited, err);
	/* the outcome of the two together: the first one's entry and attempt, the second one's job
	 */
	sp_table_job_clear(&changed->job);
	changed->job = awaited.job;
	changed->action = awaited.action;
	return code;
}

void
sp_changed_clear(struct sp_changed *changed)
{
	sp_table_job_clear(&changed->job);
}
