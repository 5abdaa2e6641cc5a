/*
 * jobs.h -- the life of a job: one table, state x event -> state, action. Pure.
 *
 * Design section 3. The names here are the ones in the database, the audit log, the log lines, the
 * command line and the tests, so that one grep follows a job.
 */
#ifndef SP_JOBS_H
#define SP_JOBS_H

#include "base/err.h"
#include "release/key.h"

/* X(member, name) */
#define SP_JOB_STATES(X)                                    \
	X(SP_JOB_NONE, "") /* before a job's first entry */ \
	X(SP_JOB_SUBMITTED, "SUBMITTED")                    \
	X(SP_JOB_FETCHING, "FETCHING")                      \
	X(SP_JOB_FETCHED, "FETCHED")                        \
	X(SP_JOB_SCANNING, "SCANNING")                      \
	X(SP_JOB_QUANTIZING, "QUANTIZING")                  \
	X(SP_JOB_QUANTIZED, "QUANTIZED")                    \
	X(SP_JOB_VALIDATING, "VALIDATING")                  \
	X(SP_JOB_VALIDATED, "VALIDATED")                    \
	X(SP_JOB_AWAITING_APPROVAL, "AWAITING_APPROVAL")    \
	X(SP_JOB_APPROVED, "APPROVED")                      \
	X(SP_JOB_PACKAGING, "PACKAGING")                    \
	X(SP_JOB_PACKAGED, "PACKAGED")                      \
	X(SP_JOB_SENDING, "SENDING")                        \
	X(SP_JOB_SENT, "SENT")                              \
	X(SP_JOB_RECEIVING, "RECEIVING")                    \
	X(SP_JOB_INCOMPLETE, "INCOMPLETE")                  \
	X(SP_JOB_RECEIVED, "RECEIVED")                      \
	X(SP_JOB_VERIFYING, "VERIFYING")                    \
	X(SP_JOB_VERIFIED, "VERIFIED")                      \
	X(SP_JOB_REGISTERING, "REGISTERING")                \
	X(SP_JOB_REGISTERED, "REGISTERED")                  \
	X(SP_JOB_REVOKED, "REVOKED")                        \
	X(SP_JOB_BLOCKED, "BLOCKED")                        \
	X(SP_JOB_FAILED, "FAILED")                          \
	X(SP_JOB_CANCELLED, "CANCELLED")                    \
	X(SP_JOB_REJECTED, "REJECTED")                      \
	X(SP_JOB_QUARANTINED, "QUARANTINED")

enum sp_job_state {
#define X(id, name) id,
	SP_JOB_STATES(X)
#undef X
	    SP_JOB_STATE_COUNT
};

/* X(member, name, what happened) */
#define SP_JOB_EVENTS(X)                                                               \
	X(SP_EV_SUBMIT, "submit", "an operator asks for a job")                        \
	X(SP_EV_BEGIN, "begin", "a worker saw a transfer of it, or more of one")       \
	X(SP_EV_LEASE, "lease", "a worker took the step")                              \
	X(SP_EV_LOST, "lost", "the lease was not renewed or was given back")           \
	X(SP_EV_AGAIN, "again", "the attempt failed, another may succeed")             \
	X(SP_EV_DONE, "done", "the step left what it had to")                          \
	X(SP_EV_AWAIT, "await", "the candidate is made and waits for operators")       \
	X(SP_EV_APPROVE, "approve", "an operator signed the candidate; more must")     \
	X(SP_EV_APPROVED, "approved", "an operator signed the candidate, as the last") \
	X(SP_EV_REJECT, "reject", "an operator refused the candidate")                 \
	X(SP_EV_BLOCK, "block", "a gate said no, or could not decide")                 \
	X(SP_EV_QUARANTINE, "quarantine", "verification said no")                      \
	X(SP_EV_INCOMPLETE, "incomplete", "the transfer ended with symbols missing")   \
	X(SP_EV_FAIL, "fail", "the step failed for good")                              \
	X(SP_EV_CANCEL, "cancel", "an operator ended the job")                         \
	X(SP_EV_RETRY, "retry", "an operator wants the failed step again")             \
	X(SP_EV_REVOKE, "revoke", "an operator withdrew what was registered")

enum sp_job_event {
#define X(id, name, text) id,
	SP_JOB_EVENTS(X)
#undef X
	    SP_JOB_EVENT_COUNT
};

/* Events of the log that belong to no job: X(name). */
#define SP_LOG_EVENTS(X) \
	X("start")       \
	X("admission")   \
	X("publish")     \
	X("gc")          \
	X("collected")

/* What a kind of artefact goes through. X(member, name, kind): the kind is what messages say. */
#define SP_RECIPES(X)                               \
	X(SP_RECIPE_MODEL, "model", "model")        \
	X(SP_RECIPE_IMAGE, "image", "image")        \
	X(SP_RECIPE_SCANNED, "image+scan", "image") \
	X(SP_RECIPE_FILE, "file", "file")           \
	X(SP_RECIPE_DATASET, "dataset", "dataset")

enum sp_recipe {
#define X(id, name, kind) id,
	SP_RECIPES(X)
#undef X
	    SP_RECIPE_COUNT
};

/*
 * X(member, name, service, role, signs): the daemon that takes it, and whether its result must bear
 * an attestation by a key of that role.
 */
#define SP_STEPS(X)                                                     \
	X(SP_STEP_FETCH, "fetch", "fetcherd", SP_ROLE_FETCH, 1)         \
	X(SP_STEP_SCAN, "scan", "validatord", SP_ROLE_GATE, 1)          \
	X(SP_STEP_QUANTIZE, "quantize", "quantd", SP_ROLE_QUANTIZE, 1)  \
	X(SP_STEP_VALIDATE, "validate", "validatord", SP_ROLE_GATE, 1)  \
	X(SP_STEP_PACKAGE, "package", "diode-txd", SP_ROLE_RELEASE, 0)  \
	X(SP_STEP_SEND, "send", "diode-txd", SP_ROLE_RELEASE, 0)        \
	X(SP_STEP_RECEIVE, "receive", "diode-rxd", SP_ROLE_REGISTRY, 0) \
	X(SP_STEP_VERIFY, "verify", "diode-rxd", SP_ROLE_REGISTRY, 0)   \
	X(SP_STEP_REGISTER, "register", "registryd", SP_ROLE_REGISTRY, 0)

enum sp_step {
#define X(id, name, service, role, signs) id,
	SP_STEPS(X)
#undef X
	    SP_STEP_COUNT
};

/* What must follow a transition, in the same database transaction or after its commit. */
enum sp_job_action {
	SP_DO_NOTHING,
	SP_DO_OFFER, /* the new state's step becomes the job's, attempt 1, and is offered */
	SP_DO_AGAIN, /* the same step, next attempt, is offered */
	SP_DO_WORK,  /* the step is leased: its worker is awaited */
	SP_DO_AWAIT, /* the candidate is made: event "await" in the same transaction */
	SP_DO_ASK,   /* operators are awaited */
	SP_DO_END    /* no step is left: a lease that is out is cancelled */
};

/* Lifecycle of a step, design section 2; a cancelled one is lost. X(member, name) */
#define SP_LEASE_STATES(X)             \
	X(SP_LEASE_OFFERED, "offered") \
	X(SP_LEASE_LEASED, "leased")   \
	X(SP_LEASE_RUNNING, "running") \
	X(SP_LEASE_DONE, "done")       \
	X(SP_LEASE_FAILED, "failed")   \
	X(SP_LEASE_LOST, "lost")

enum sp_lease_state {
#define X(id, name) id,
	SP_LEASE_STATES(X)
#undef X
	    SP_LEASE_STATE_COUNT
};

const char *sp_jobs_state_name(enum sp_job_state state);
const char *sp_jobs_event_name(enum sp_job_event event);
const char *sp_jobs_recipe_name(enum sp_recipe recipe);
const char *sp_jobs_kind(enum sp_recipe recipe); /* "model", "image", "file", "dataset" */
const char *sp_jobs_step_name(enum sp_step step);
const char *sp_jobs_step_service(enum sp_step step);
enum sp_role sp_jobs_step_role(enum sp_step step);
int sp_jobs_step_signs(enum sp_step step);
const char *sp_jobs_lease_name(enum sp_lease_state state);
/* 1 when known; the empty name is SP_JOB_NONE. */
int sp_jobs_state_find(const char *name, enum sp_job_state *out);
int sp_jobs_event_find(const char *name, enum sp_job_event *out);
int sp_jobs_recipe_find(const char *name, enum sp_recipe *out);
int sp_jobs_step_find(const char *name, enum sp_step *out);
int sp_jobs_lease_find(const char *name, enum sp_lease_state *out);

/* 1 when nothing follows by itself: REGISTERED, SENT, a dataset's FETCHED, BLOCKED, … */
int sp_jobs_ended(enum sp_recipe recipe, enum sp_job_state state);

/*
 * The table. resume is the job's (sp_jobs_resume): where a retry leads. SP_E_STATE when the event
 * cannot happen in that state.
 */
enum sp_code sp_jobs_next(enum sp_recipe recipe, enum sp_job_state state, enum sp_job_state resume,
    enum sp_job_event event, enum sp_job_state *to, enum sp_job_action *action,
    struct sp_err *err) SP_MUST_USE;

/* The step that is offered or runs in that state; 0 when there is none. */
int sp_jobs_step(enum sp_recipe recipe, enum sp_job_state state, enum sp_step *out);

/* The job's resume after entering `state`: the state in which the step in hand waits for a lease;
 * unchanged in states without a step. */
enum sp_job_state
sp_jobs_resume(enum sp_recipe recipe, enum sp_job_state state, enum sp_job_state resume);

/* 1 for offered, leased and running. */
int sp_jobs_is_alive(enum sp_lease_state state);
/* 1 for what happens to the attempt that is leased, and ends it. */
int sp_jobs_ends_lease(enum sp_job_event event);

/* Which event a failed attempt is. attempt counts from 1; attempts is ledgerd.attempts. */
enum sp_job_event sp_jobs_failure(
    enum sp_step step, enum sp_code code, int may_retry, unsigned attempt, unsigned attempts);

#define SP_JOBS_BACKOFF_MAX_MS (3600 * 1000L)
/* Wait after a step has failed so many times, from 1: doubles each time, at most
 * SP_JOBS_BACKOFF_MAX_MS. Leases that were lost say nothing of what would come of another try. */
int64_t sp_jobs_backoff_ms(int64_t backoff_ms, unsigned failures);

#endif
