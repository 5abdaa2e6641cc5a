/*
 * core.h -- the part of ledgerd that decides: events in, actions out. Pure.
 *
 * What survives a restart is in the database (lib/ledger). Here is what does not: which workers are
 * connected, and for each attempt that is alive its deadline, its progress and to whom it was
 * offered. Times are arguments: now_ms is CLOCK_MONOTONIC, unix_ms the clock on the wall.
 */
#ifndef LEDGERD_CORE_H
#define LEDGERD_CORE_H

#include "ledger/change.h"
#include "live.h"
#include "release/trust.h"

#define LEDGERD_PEERS_MAX 256
#define LEDGERD_ACTIONS_MAX 64
#define LEDGERD_ARTIFACTS_MAX SP_ENTRY_SUBJECTS_MAX /* of one result */
#define LEDGERD_ATTESTATION_MAX (1u << 20)	    /* bytes */

struct ledgerd_settings {
	int bastion; /* else enclave */
	int64_t heartbeat_ms, lease_ms, backoff_ms;
	unsigned attempts;
};

/* Who a message is from, looked up in the trust document when it came. */
struct ledgerd_who {
	const char *name, *service;
};

/* A connected worker. */
struct ledgerd_peer {
	char name[SP_NAME_MAX + 1];
	char service[32];
	char version[65]; /* of its code */
	unsigned steps;	  /* bit (1 << enum sp_step): takes it */
	uint32_t free;	  /* leases that it can take now */
	uint32_t leases;  /* that it named */
	uint32_t asked;	  /* offers to it that are not answered: as of the scheduling under way */
	int64_t seen_ms;
	int has_store; /* that can be collected */
};

struct ledgerd_core {
	struct ledgerd_settings settings;
	struct ledgerd_peer peers[LEDGERD_PEERS_MAX];
	size_t peer_count;
	struct ledgerd_lives lives;
};

enum ledgerd_do {
	LEDGERD_CHANGE,	 /* a transition: event, job, lease, reason, by_ledger, outcome, … */
	LEDGERD_RUNNING, /* the lease's work has begun: noted in the database, no transition */
	LEDGERD_OFFER,	 /* offer the lease to the worker */
	LEDGERD_ACK,	 /* log_seq: of the entry, 0: of the change before it */
	LEDGERD_REFUSE	 /* err; lease: one that the worker must drop, "": none */
};

struct ledgerd_action {
	enum ledgerd_do what;
	char lease[SP_JOB_ID_LEN + 1];
	char worker[SP_NAME_MAX + 1]; /* offer: to whom */
	/* change */
	enum sp_job_event event;
	int by_ledger; /* the actor is ledgerd, else who sent the message */
	char job[SP_JOB_ID_LEN + 1];
	char reason[SP_ERR_MSG_MAX];
	int64_t delay_ms;	     /* before the next attempt may be offered */
	char avoid[SP_NAME_MAX + 1]; /* worker that should rather not have it */
	char pin[SP_NAME_MAX + 1];   /* worker that alone may have it */
	/* ack */
	uint64_t log_seq;
	/* refuse */
	struct sp_err err;
};

/* What one event asks for. outcome belongs to the change in it. */
struct ledgerd_actions {
	struct ledgerd_action list[LEDGERD_ACTIONS_MAX];
	size_t count;
	struct sp_outcome outcome;
};
void ledgerd_actions_clear(struct ledgerd_actions *actions);
/* The next free action, zeroed; NULL when the list is full: the rest comes with the next event. */
struct ledgerd_action *ledgerd_actions_add(struct ledgerd_actions *actions, enum ledgerd_do what);

/* --- core.c: who is there, what is alive ------------------------------------------------------ */

/* Replaces what is alive by the database's rows. What is known of them stays: a message that was
 * undone must not prolong anything. Leases that are new here get a full lease_ms from now. */
void ledgerd_core_load(
    struct ledgerd_core *core, const struct sp_attempt *alive, size_t count, int64_t now_ms);
void ledgerd_core_free(struct ledgerd_core *core);
/* After a change was applied. */
void ledgerd_core_note(struct ledgerd_core *core, const struct sp_changed *changed, int64_t now_ms);
/* 1 when it was heard within the time of a lease. */
int ledgerd_core_present(
    const struct ledgerd_core *core, const struct ledgerd_peer *peer, int64_t now_ms);
/* The worker cannot be reached: nothing is offered to it before its next heartbeat. */
void ledgerd_core_gone(struct ledgerd_core *core, const char *worker);
/* NULL when none is alive. */
struct ledgerd_live *ledgerd_core_lease(struct ledgerd_core *core, const char *lease);
struct ledgerd_live *ledgerd_core_job(struct ledgerd_core *core, const char *job);
/* A copy, as protobuf-c frees it with the message that it becomes part of; NULL when count is 0. */
Sallyport__FileProgress **ledgerd_core_files(Sallyport__FileProgress *const *files, size_t count);

/* Renews the leases named, notes progress; RUNNING for those that began, REFUSE for those that are
 * not the worker's. */
void ledgerd_core_heartbeat(struct ledgerd_core *core, const struct ledgerd_who *who,
    const Sallyport__Heartbeat *heartbeat, int64_t now_ms, struct ledgerd_actions *actions);
/* CHANGE for each lease that was not renewed in time. */
void
ledgerd_core_expire(struct ledgerd_core *core, int64_t now_ms, struct ledgerd_actions *actions);
/* OFFER for each attempt that waits and has a worker that can take it. */
void ledgerd_core_schedule(
    struct ledgerd_core *core, int64_t now_ms, int64_t unix_ms, struct ledgerd_actions *actions);

/* --- ledgerd_step.c: what workers say about leases and jobs ----------------------------------- */

/* attempt: the row of that lease, NULL when there is none. Answers with ACK or REFUSE. */
void ledgerd_step_accept(const struct ledgerd_who *who, const char *lease,
    const struct sp_attempt *attempt, struct ledgerd_actions *actions);
/* job, extras: of the attempt; not read when attempt is NULL. */
void ledgerd_step_result(const struct ledgerd_settings *settings, const struct ledgerd_who *who,
    const Sallyport__Result *result, const struct sp_attempt *attempt, const struct sp_job *job,
    const struct sp_table_extras *extras, const struct sp_trust *trust,
    struct ledgerd_actions *actions);
/* job: NULL when there is none of that id. */
void ledgerd_step_begin(const struct ledgerd_settings *settings, const struct ledgerd_who *who,
    const Sallyport__Begin *begin, const struct sp_job *job, struct ledgerd_actions *actions);

/* --- check.c: whether what was brought counts ------------------------------------------------- */

/* A Done, or (blocked) a verdict that says no: artifacts and attestation are those that the step
 * must leave, and the attestation is signed by this worker's key of the step's role. */
enum sp_code ledgerd_check_result(const struct sp_trust *trust, const struct ledgerd_who *who,
    const struct sp_attempt *attempt, const struct sp_job *job,
    const struct sp_table_extras *extras, const struct sp_outcome *outcome, int blocked,
    struct sp_err *err) SP_MUST_USE;

/* An operator's signature over the job's candidate. signer is borrowed from trust. */
enum sp_code ledgerd_check_approval(const struct sp_trust *trust, const struct sp_job *job,
    const uint8_t *envelope, size_t len, const struct sp_pubkey **signer,
    struct sp_err *err) SP_MUST_USE;
/* How many people have approved when `person` does too; *known: that one had already. Keys that the
 * trust document does not give to operators any more count no more; trust NULL: all count. */
unsigned ledgerd_check_people(const struct sp_trust *trust, const struct sp_table_extras *extras,
    const char *person, int *known);
/* How many are needed: the profile's, and at least what the trust document asks of the role. */
unsigned ledgerd_check_needed(const struct sp_trust *trust, const struct sp_job *job);

/* A snapshot that registryd wants to publish: signed by its own key of the registry role. */
enum sp_code ledgerd_check_snapshot(const struct sp_trust *trust, const struct ledgerd_who *who,
    const uint8_t *envelope, size_t len, struct sp_err *err) SP_MUST_USE;

#endif
