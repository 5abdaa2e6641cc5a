/* ledgerd_step.c -- what workers say about leases and jobs, and what follows from it. */
#include "base/path.h"
#include "bus/result.h"
#include "core.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void
ack(struct ledgerd_actions *actions, uint64_t log_seq)
{
	struct ledgerd_action *action = ledgerd_actions_add(actions, LEDGERD_ACK);

	SP_ASSERT(action != NULL);
	action->log_seq = log_seq;
}

/* lease: "" when the worker need not drop one */
static struct sp_err *
refuse(struct ledgerd_actions *actions, const char *lease)
{
	struct ledgerd_action *action = ledgerd_actions_add(actions, LEDGERD_REFUSE);

	SP_ASSERT(action != NULL);
	snprintf(action->lease, sizeof(action->lease), "%s", lease);
	return &action->err;
}

static struct ledgerd_action *
change(struct ledgerd_actions *actions, enum sp_job_event event, const char *job, const char *lease)
{
	struct ledgerd_action *action = ledgerd_actions_add(actions, LEDGERD_CHANGE);

	SP_ASSERT(action != NULL);
	action->event = event;
	snprintf(action->job, sizeof(action->job), "%s", job);
	snprintf(action->lease, sizeof(action->lease), "%s", lease);
	return action;
}

/* --- accept ----------------------------------------------------------------------------------- */

void
ledgerd_step_accept(const struct ledgerd_who *who, const char *lease,
    const struct sp_attempt *attempt, struct ledgerd_actions *actions)
{
	if (attempt == NULL) {
		sp_err_set(refuse(actions, lease), SP_E_NOT_FOUND, "no lease %s here", lease);
		return;
	}
	switch (attempt->state) {
	case SP_LEASE_OFFERED:
		break;
	case SP_LEASE_LEASED:
	case SP_LEASE_RUNNING:
		if (strcmp(attempt->worker, who->name) == 0) {
			ack(actions, attempt->seq);
			return;
		}
		sp_err_set(refuse(actions, lease), SP_E_STATE, "lease %s: %s was first", lease,
		    attempt->worker);
		return;
	default:
		sp_err_set(refuse(actions, lease), SP_E_STATE, "lease %s is %s", lease,
		    sp_jobs_lease_name(attempt->state));
		return;
	}
	if (strcmp(who->service, sp_jobs_step_service(attempt->step)) != 0) {
		sp_err_set(refuse(actions, lease), SP_E_DENIED,
		    "step %s is for %s, not for %s (%s)", sp_jobs_step_name(attempt->step),
		    sp_jobs_step_service(attempt->step), who->name, who->service);
		return;
	}
	if (attempt->pin[0] != '\0' && strcmp(attempt->pin, who->name) != 0) {
		sp_err_set(refuse(actions, lease), SP_E_DENIED, "lease %s is for %s alone", lease,
		    attempt->pin);
		return;
	}
	change(actions, SP_EV_LEASE, attempt->job, lease);
	ack(actions, 0);
}

/* --- results ---------------------------------------------------------------------------------- */

/* A lease that counts no more: the same answer as to its first result, or "drop it". */
static void
answer_late(const struct ledgerd_who *who, const Sallyport__Result *result,
    const struct sp_attempt *attempt, struct ledgerd_actions *actions)
{
	int held = attempt != NULL && strcmp(attempt->worker, who->name) == 0;
	int cancelled = result->outcome_case == SALLYPORT__RESULT__OUTCOME_FAILURE &&
			strcmp(result->failure->code, sp_err_word(SP_E_CANCELLED)) == 0;

	if (held && (attempt->state == SP_LEASE_DONE || attempt->state == SP_LEASE_FAILED ||
			(attempt->state == SP_LEASE_LOST && cancelled))) {
		ack(actions, attempt->seq);
		return;
	}
	sp_err_set(refuse(actions, result->lease), attempt == NULL ? SP_E_NOT_FOUND : SP_E_STATE,
	    "lease %s is not (any more) that of %s: its result does not count", result->lease,
	    who->name);
}

static void
next_attempt(const struct ledgerd_settings *settings, const struct sp_attempt *attempt,
    const struct sp_table_extras *extras, struct ledgerd_action *action)
{
	if (action->event == SP_EV_AGAIN)
		action->delay_ms = sp_jobs_backoff_ms(settings->backoff_ms, extras->failures + 1);
	memcpy(action->avoid, attempt->worker, sizeof(action->avoid));
}

static void
drop_attestation(struct sp_outcome *outcome)
{
	free(outcome->attestation);
	outcome->attestation = NULL;
	outcome->attestation_len = 0;
}

/* A result that must not count ends the attempt: the same worker would bring the same again. */
static void
fail_unfit(
    const struct sp_attempt *attempt, const struct sp_err *err, struct ledgerd_actions *actions)
{
	struct ledgerd_action *action = change(actions, SP_EV_FAIL, attempt->job, attempt->lease);

	snprintf(action->reason, sizeof(action->reason), "%s", err->msg);
	/* nothing of it is kept */
	sp_outcome_clear(&actions->outcome);
	sp_outcome_detail(&actions->outcome, "error", "%s", sp_err_word(err->code));
	*refuse(actions, attempt->lease) = *err;
}

static void
on_done(const struct ledgerd_who *who, const Sallyport__Done *done,
    const struct sp_attempt *attempt, const struct sp_job *job,
    const struct sp_table_extras *extras, const struct sp_trust *trust,
    struct ledgerd_actions *actions)
{
	struct sp_err err;

	sp_result_take_done(&actions->outcome, done);
	if (ledgerd_check_result(trust, who, attempt, job, extras, &actions->outcome, 0, &err) !=
	    SP_OK) {
		fail_unfit(attempt, &err, actions);
		return;
	}
	change(actions, SP_EV_DONE, attempt->job, attempt->lease);
	ack(actions, 0);
}

static void
on_failure(const struct ledgerd_settings *settings, const struct ledgerd_who *who,
    const Sallyport__Failure *failure, const struct sp_attempt *attempt, const struct sp_job *job,
    const struct sp_table_extras *extras, const struct sp_trust *trust,
    struct ledgerd_actions *actions)
{
	enum sp_job_event event;
	struct ledgerd_action *action;
	struct sp_err err, fault;
	enum sp_code code;
	char *reason;

	code = sp_result_take_failure(&actions->outcome, failure, &err);
	event = sp_jobs_failure(
	    attempt->step, code, failure->may_retry, attempt->attempt, settings->attempts);
	if (event == SP_EV_BLOCK && sp_jobs_step_role(attempt->step) == SP_ROLE_GATE) {
		if (ledgerd_check_result(
			trust, who, attempt, job, extras, &actions->outcome, 1, &fault) != SP_OK) {
			fail_unfit(attempt, &fault, actions);
			return;
		}
	} else {
		drop_attestation(&actions->outcome);
	}
	action = change(actions, event, attempt->job, attempt->lease);
	/* cut within a character it could not be logged, and the worker would repeat it for ever */
	reason = sp_result_clean(failure->message[0] != '\0' ? failure->message : failure->code,
	    sizeof(action->reason) - 1);
	memcpy(action->reason, reason, strlen(reason) + 1);
	free(reason);
	sp_outcome_detail(&actions->outcome, "error", "%s", sp_err_word(code));
	next_attempt(settings, attempt, extras, action);
	ack(actions, 0);
}

void
ledgerd_step_result(const struct ledgerd_settings *settings, const struct ledgerd_who *who,
    const Sallyport__Result *result, const struct sp_attempt *attempt, const struct sp_job *job,
    const struct sp_table_extras *extras, const struct sp_trust *trust,
    struct ledgerd_actions *actions)
{
	if (attempt == NULL || strcmp(attempt->worker, who->name) != 0 ||
	    (attempt->state != SP_LEASE_LEASED && attempt->state != SP_LEASE_RUNNING)) {
		answer_late(who, result, attempt, actions);
		return;
	}
	if (result->outcome_case == SALLYPORT__RESULT__OUTCOME_DONE)
		on_done(who, result->done, attempt, job, extras, trust, actions);
	else if (result->outcome_case == SALLYPORT__RESULT__OUTCOME_FAILURE)
		on_failure(settings, who, result->failure, attempt, job, extras, trust, actions);
	else
		sp_err_set(refuse(actions, ""), SP_E_INVALID,
		    "result of lease %s: neither done nor failure", result->lease);
}

/* --- begin ------------------------------------------------------------------------------------ */

void
ledgerd_step_begin(const struct ledgerd_settings *settings, const struct ledgerd_who *who,
    const Sallyport__Begin *begin, const struct sp_job *job, struct ledgerd_actions *actions)
{
	struct ledgerd_action *action;
	enum sp_recipe recipe;

	if (settings->bastion || strcmp(who->service, sp_jobs_step_service(SP_STEP_RECEIVE)) != 0 ||
	    strcmp(begin->step, sp_jobs_step_name(SP_STEP_RECEIVE)) != 0) {
		sp_err_set(refuse(actions, ""), SP_E_DENIED,
		    "a job begins at a worker only where diode-rxd receives it, in the enclave");
		return;
	}
	if (!sp_jobs_recipe_find(begin->kind, &recipe) || recipe == SP_RECIPE_DATASET) {
		sp_err_set(refuse(actions, ""), SP_E_INVALID,
		    "\"%.32s\" is not a kind of artefact that crosses", begin->kind);
		return;
	}
	if (job != NULL && job->state == SP_JOB_RECEIVING) {
		ack(actions, job->last_seq);
		return;
	}
	if (job != NULL && job->state != SP_JOB_INCOMPLETE) {
		sp_err_set(refuse(actions, ""), SP_E_EXISTS, "job %s is %s here already",
		    begin->job, sp_jobs_state_name(job->state));
		return;
	}
	action = change(actions, SP_EV_BEGIN, begin->job, "");
	snprintf(action->pin, sizeof(action->pin), "%s", who->name);
	ack(actions, 0);
}
