/* jobs.c -- the table of a job's life, and what the steps are. */
#include "ledger/jobs.h"

#include <string.h>

/* --- names ------------------------------------------------------------------------------------ */

// NOLINTBEGIN(bugprone-macro-parentheses): a text in parentheses is no initializer
static const char *const state_names[] = {
#define X(id, name) [id] = name,
    SP_JOB_STATES(X)
#undef X
};

static const char *const event_names[] = {
#define X(id, name, text) [id] = name,
    SP_JOB_EVENTS(X)
#undef X
};

static const char *const recipe_names[] = {
#define X(id, name, kind) [id] = name,
    SP_RECIPES(X)
#undef X
};

static const char *const recipe_kinds[] = {
#define X(id, name, kind) [id] = kind,
    SP_RECIPES(X)
#undef X
};

static const char *const step_names[] = {
#define X(id, name, service, role, signs) [id] = name,
    SP_STEPS(X)
#undef X
};

static const char *const lease_names[] = {
#define X(id, name) [id] = name,
    SP_LEASE_STATES(X)
#undef X
};
// NOLINTEND(bugprone-macro-parentheses)

static const struct {
	const char *service;
	enum sp_role role;
	int signs;
} step_traits[] = {
#define X(id, name, service, role, signs) [id] = {service, role, signs},
    SP_STEPS(X)
#undef X
};

const char *
sp_jobs_state_name(enum sp_job_state state)
{
	return state_names[state];
}

const char *
sp_jobs_event_name(enum sp_job_event event)
{
	return event_names[event];
}

const char *
sp_jobs_recipe_name(enum sp_recipe recipe)
{
	return recipe_names[recipe];
}

const char *
sp_jobs_kind(enum sp_recipe recipe)
{
	return recipe_kinds[recipe];
}

const char *
sp_jobs_step_name(enum sp_step step)
{
	return step_names[step];
}

const char *
sp_jobs_step_service(enum sp_step step)
{
	return step_traits[step].service;
}

enum sp_role
sp_jobs_step_role(enum sp_step step)
{
	return step_traits[step].role;
}

int
sp_jobs_step_signs(enum sp_step step)
{
	return step_traits[step].signs;
}

const char *
sp_jobs_lease_name(enum sp_lease_state state)
{
	return lease_names[state];
}

/* Index of name among names, -1 when it is not there. */
static int
find(const char *const *names, int count, const char *name)
{
	int i;

	/* whole logs come by here: most names differ in the first letter */
	for (i = 0; i < count; i++)
		if (names[i][0] == name[0] && strcmp(names[i], name) == 0)
			return i;
	return -1;
}

int
sp_jobs_state_find(const char *name, enum sp_job_state *out)
{
	int i = find(state_names, SP_JOB_STATE_COUNT, name);

	if (i >= 0)
		*out = (enum sp_job_state)i;
	return i >= 0;
}

int
sp_jobs_event_find(const char *name, enum sp_job_event *out)
{
	int i = find(event_names, SP_JOB_EVENT_COUNT, name);

	if (i >= 0)
		*out = (enum sp_job_event)i;
	return i >= 0;
}

int
sp_jobs_recipe_find(const char *name, enum sp_recipe *out)
{
	int i = find(recipe_names, SP_RECIPE_COUNT, name);

	if (i >= 0)
		*out = (enum sp_recipe)i;
	return i >= 0;
}

int
sp_jobs_step_find(const char *name, enum sp_step *out)
{
	int i = find(step_names, SP_STEP_COUNT, name);

	if (i >= 0)
		*out = (enum sp_step)i;
	return i >= 0;
}

int
sp_jobs_lease_find(const char *name, enum sp_lease_state *out)
{
	int i = find(lease_names, SP_LEASE_STATE_COUNT, name);

	if (i >= 0)
		*out = (enum sp_lease_state)i;
	return i >= 0;
}

/* --- the table -------------------------------------------------------------------------------- */

#define MODEL (1u << SP_RECIPE_MODEL)
#define IMAGE (1u << SP_RECIPE_IMAGE)
#define SCANNED (1u << SP_RECIPE_SCANNED)
#define FILES (1u << SP_RECIPE_FILE)
#define DATASET (1u << SP_RECIPE_DATASET)
#define CROSSING (MODEL | IMAGE | SCANNED | FILES) /* to the enclave */
#define ALL (CROSSING | DATASET)

struct row {
	unsigned recipes;
	enum sp_job_state from;
	enum sp_job_event event;
	enum sp_job_state to;
	enum sp_job_action action;
};

/* where a retry leads: to the job's resume */
#define BACK SP_JOB_STATE_COUNT

#define ROW(recipes, from, event, to, action)                                      \
	{                                                                          \
		recipes, SP_JOB_##from, SP_EV_##event, SP_JOB_##to, SP_DO_##action \
	}
/* What every step has in common while it runs. */
#define RUNS(recipes, runs)                                                                \
	ROW(recipes, runs, LEASE, runs, WORK), ROW(recipes, runs, LOST, runs, AGAIN),      \
	    ROW(recipes, runs, AGAIN, runs, AGAIN), ROW(recipes, runs, FAIL, FAILED, END), \
	    ROW(recipes, runs, CANCEL, CANCELLED, END)
/* ... and while it waits for its first lease. */
#define WAITS(recipes, waits, runs) \
	ROW(recipes, waits, LEASE, runs, WORK), ROW(recipes, waits, CANCEL, CANCELLED, END)

static const struct row table[] = {
    /* bastion */
    ROW(ALL, NONE, SUBMIT, SUBMITTED, OFFER),

    WAITS(ALL, SUBMITTED, FETCHING),
    RUNS(ALL, FETCHING),
    ROW(ALL, FETCHING, BLOCK, BLOCKED, END),
    ROW(MODEL | SCANNED, FETCHING, DONE, FETCHED, OFFER),
    ROW(IMAGE | FILES, FETCHING, DONE, FETCHED, AWAIT),
    ROW(DATASET, FETCHING, DONE, FETCHED, END),

    WAITS(SCANNED, FETCHED, SCANNING),
    RUNS(SCANNED, SCANNING),
    ROW(SCANNED, SCANNING, BLOCK, BLOCKED, END),
    ROW(SCANNED, SCANNING, DONE, AWAITING_APPROVAL, ASK),

    WAITS(MODEL, FETCHED, QUANTIZING),
    RUNS(MODEL, QUANTIZING),
    ROW(MODEL, QUANTIZING, BLOCK, BLOCKED, END),
    ROW(MODEL, QUANTIZING, DONE, QUANTIZED, OFFER),

    WAITS(MODEL, QUANTIZED, VALIDATING),
    RUNS(MODEL, VALIDATING),
    ROW(MODEL, VALIDATING, BLOCK, BLOCKED, END),
    ROW(MODEL, VALIDATING, DONE, VALIDATED, AWAIT),

    ROW(MODEL, VALIDATED, AWAIT, AWAITING_APPROVAL, ASK),
    ROW(IMAGE | FILES, FETCHED, AWAIT, AWAITING_APPROVAL, ASK),
    ROW(CROSSING, AWAITING_APPROVAL, APPROVE, AWAITING_APPROVAL, NOTHING),
    ROW(CROSSING, AWAITING_APPROVAL, APPROVED, APPROVED, OFFER),
    ROW(CROSSING, AWAITING_APPROVAL, REJECT, REJECTED, END),
    ROW(CROSSING, AWAITING_APPROVAL, CANCEL, CANCELLED, END),

    WAITS(CROSSING, APPROVED, PACKAGING),
    RUNS(CROSSING, PACKAGING),
    ROW(CROSSING, PACKAGING, DONE, PACKAGED, OFFER),

    WAITS(CROSSING, PACKAGED, SENDING),
    RUNS(CROSSING, SENDING),
    ROW(CROSSING, SENDING, DONE, SENT, END),

    /* enclave */
    ROW(CROSSING, NONE, BEGIN, RECEIVING, OFFER),
    RUNS(CROSSING, RECEIVING),
    ROW(CROSSING, RECEIVING, INCOMPLETE, INCOMPLETE, END),
    ROW(CROSSING, INCOMPLETE, BEGIN, RECEIVING, OFFER),
    ROW(CROSSING, INCOMPLETE, CANCEL, CANCELLED, END),
    ROW(CROSSING, RECEIVING, QUARANTINE, QUARANTINED, END),
    ROW(CROSSING, RECEIVING, DONE, RECEIVED, OFFER),

    WAITS(CROSSING, RECEIVED, VERIFYING),
    RUNS(CROSSING, VERIFYING),
    ROW(CROSSING, VERIFYING, QUARANTINE, QUARANTINED, END),
    ROW(CROSSING, VERIFYING, INCOMPLETE, INCOMPLETE, END),
    ROW(CROSSING, VERIFYING, DONE, VERIFIED, OFFER),

    WAITS(CROSSING, VERIFIED, REGISTERING),
    RUNS(CROSSING, REGISTERING),
    ROW(CROSSING, REGISTERING, QUARANTINE, QUARANTINED, END),
    ROW(CROSSING, REGISTERING, DONE, REGISTERED, END),
    ROW(CROSSING, REGISTERED, REVOKE, REVOKED, END),

    /* either side: the step that failed once more */
    {ALL, SP_JOB_FAILED, SP_EV_RETRY, BACK, SP_DO_OFFER},
};

/* Which step belongs to which states. A recipe that lacks the step has other use for the state. */
static const struct {
	unsigned recipes;
	enum sp_step step;
	enum sp_job_state waits, runs;
} steps[] = {
    {ALL, SP_STEP_FETCH, SP_JOB_SUBMITTED, SP_JOB_FETCHING},
    {SCANNED, SP_STEP_SCAN, SP_JOB_FETCHED, SP_JOB_SCANNING},
    {MODEL, SP_STEP_QUANTIZE, SP_JOB_FETCHED, SP_JOB_QUANTIZING},
    {MODEL, SP_STEP_VALIDATE, SP_JOB_QUANTIZED, SP_JOB_VALIDATING},
    {CROSSING, SP_STEP_PACKAGE, SP_JOB_APPROVED, SP_JOB_PACKAGING},
    {CROSSING, SP_STEP_SEND, SP_JOB_PACKAGED, SP_JOB_SENDING},
    {CROSSING, SP_STEP_RECEIVE, SP_JOB_RECEIVING, SP_JOB_RECEIVING},
    {CROSSING, SP_STEP_VERIFY, SP_JOB_RECEIVED, SP_JOB_VERIFYING},
    {CROSSING, SP_STEP_REGISTER, SP_JOB_VERIFIED, SP_JOB_REGISTERING},
};

enum sp_code
sp_jobs_next(enum sp_recipe recipe, enum sp_job_state state, enum sp_job_state resume,
    enum sp_job_event event, enum sp_job_state *to, enum sp_job_action *action, struct sp_err *err)
{
	size_t i;

	for (i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		const struct row *row = &table[i];

		if (row->from != state || row->event != event || !(row->recipes & 1u << recipe))
			continue;
		*to = row->to == BACK ? resume : row->to;
		*action = row->action;
		return SP_OK;
	}
	return sp_err_set(err, SP_E_STATE, "\"%s\" is not possible for a job (%s) that is %s",
	    event_names[event], recipe_names[recipe],
	    state == SP_JOB_NONE ? "new" : state_names[state]);
}

int
sp_jobs_step(enum sp_recipe recipe, enum sp_job_state state, enum sp_step *out)
{
	size_t i;

	for (i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		if ((steps[i].recipes & 1u << recipe) == 0 ||
		    (steps[i].waits != state && steps[i].runs != state))
			continue;
		*out = steps[i].step;
		return 1;
	}
	return 0;
}

enum sp_job_state
sp_jobs_resume(enum sp_recipe recipe, enum sp_job_state state, enum sp_job_state resume)
{
	enum sp_step step;
	size_t i;

	if (!sp_jobs_step(recipe, state, &step))
		return resume;
	for (i = 0; steps[i].step != step; i++)
		;
	return steps[i].waits;
}

int
sp_jobs_ended(enum sp_recipe recipe, enum sp_job_state state)
{
	switch (state) {
	case SP_JOB_SENT:
	case SP_JOB_REGISTERED:
	case SP_JOB_REVOKED:
	case SP_JOB_BLOCKED:
	case SP_JOB_FAILED:
	case SP_JOB_CANCELLED:
	case SP_JOB_REJECTED:
	case SP_JOB_QUARANTINED:
		return 1;
	case SP_JOB_FETCHED:
		return recipe == SP_RECIPE_DATASET;
	default:
		return 0;
	}
}

int
sp_jobs_is_alive(enum sp_lease_state state)
{
	return state == SP_LEASE_OFFERED || state == SP_LEASE_LEASED || state == SP_LEASE_RUNNING;
}

int
sp_jobs_ends_lease(enum sp_job_event event)
{
	switch (event) {
	case SP_EV_LOST:
	case SP_EV_AGAIN:
	case SP_EV_DONE:
	case SP_EV_BLOCK:
	case SP_EV_QUARANTINE:
	case SP_EV_INCOMPLETE:
	case SP_EV_FAIL:
		return 1;
	default:
		return 0;
	}
}

/* --- failures --------------------------------------------------------------------------------- */

/* Verification says no in the enclave, where it looks at what came through the diode. */
static int
quarantines(enum sp_step step, enum sp_code code)
{
	if (step != SP_STEP_RECEIVE && step != SP_STEP_VERIFY && step != SP_STEP_REGISTER)
		return 0;
	return code == SP_E_DENIED || code == SP_E_CORRUPT || code == SP_E_INVALID;
}

static int
can_block(enum sp_step step)
{
	return step == SP_STEP_FETCH || step == SP_STEP_SCAN || step == SP_STEP_QUANTIZE ||
	       step == SP_STEP_VALIDATE;
}

enum sp_job_event
sp_jobs_failure(
    enum sp_step step, enum sp_code code, int may_retry, unsigned attempt, unsigned attempts)
{
	if (code == SP_E_BLOCKED && can_block(step))
		return SP_EV_BLOCK;
	if (quarantines(step, code))
		return SP_EV_QUARANTINE;
	/* also what was whole once: lost with a disk, or not there while the receiver was down */
	if (code == SP_E_INCOMPLETE && (step == SP_STEP_RECEIVE || step == SP_STEP_VERIFY))
		return SP_EV_INCOMPLETE;
	if (attempt >= attempts)
		return SP_EV_FAIL;
	/* a worker that stops gives its leases back */
	if (code == SP_E_CANCELLED)
		return SP_EV_LOST;
	return may_retry ? SP_EV_AGAIN : SP_EV_FAIL;
}

int64_t
sp_jobs_backoff_ms(int64_t backoff_ms, unsigned failures)
{
	while (failures > 1 && backoff_ms < SP_JOBS_BACKOFF_MAX_MS) {
		backoff_ms *= 2;
		failures--;
	}
	return backoff_ms < SP_JOBS_BACKOFF_MAX_MS ? backoff_ms : SP_JOBS_BACKOFF_MAX_MS;
}
