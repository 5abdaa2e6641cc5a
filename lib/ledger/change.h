/*
 * change.h -- one transition of one job: new state, audit entry and next step, in one transaction.
 *
 * Only here do jobs move. What the table of jobs.h does not allow is refused, so the database never
 * holds a job that its log could not tell of.
 */
#ifndef SP_CHANGE_H
#define SP_CHANGE_H

#include "ledger/ledger.h"

struct sp_change_approval {
	const char *keyid, *person;
	const void *envelope; /* DSSE over the candidate with that key's signature */
	size_t len;
};

/* Everything borrowed. What an event has no use for is left NULL or 0. */
struct sp_change {
	const char *job;
	enum sp_job_event event;
	struct sp_actor actor;
	const char *reason; /* NULL: "" */
	int64_t unix_ms, monotonic_ms;
	/* submit, begin: the row to be; state, times and seqs are set here. Not read when the job
	 * is there already (begin of more). */
	const struct sp_job *fresh;
	/* lease: who takes it. For the events that end a lease, the lease. */
	const char *worker, *lease;
	/* what the attempt left: artifacts and attestation are kept for done, block and quarantine
	 */
	const struct sp_outcome *outcome;
	const struct sp_change_approval *approval; /* approve, approved */
	/* where the action may be OFFER or AGAIN: the next attempt */
	const char *next_lease;
	int64_t not_before_ms;
	const char *avoid, *pin; /* NULL: "" */
};

struct sp_changed {
	struct sp_job job; /* as it is now; owned */
	enum sp_job_state from;
	enum sp_job_action action;
	uint64_t seq; /* of the event's own entry */
	int had_attempt;
	struct sp_attempt attempt; /* that was alive before, as it is now */
	int has_next;
	struct sp_attempt next;
};

/*
 * Inside a transaction, which must be rolled back when this fails. SP_E_STATE when the job is not
 * in a state for the event, SP_E_NOT_FOUND when there is no such job, SP_E_EXISTS when the key has
 * approved already. Free changed with _clear in any case.
 */
enum sp_code sp_change_apply(struct sp_ledger *ledger, const struct sp_change *change,
    struct sp_changed *changed, struct sp_err *err) SP_MUST_USE;
void sp_changed_clear(struct sp_changed *changed);

/* Details from outside into an entry: more than fit are named by the SHA-256 of "KEY\nVALUE\n" of
 * all. */
void sp_change_log_details(struct sp_entry *entry, const struct sp_detail *details, size_t count);

#endif
