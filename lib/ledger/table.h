/* table.h -- the rows of the job table, as structs. Reading is for everybody, writing for change.c.
 */
#ifndef SP_TABLE_H
#define SP_TABLE_H

#include "bus/outcome.h"
#include "ledger/db.h"
#include "ledger/jobs.h"

/* A row of "job". Strings are malloc'd and never NULL; free with sp_table_job_clear. */
struct sp_job {
	char id[SP_JOB_ID_LEN + 1];
	enum sp_recipe recipe;
	enum sp_job_state state, resume;
	char *source, *profile, *name, *destination, *reason;
	uint8_t *policy; /* canonical JSON, as submitted */
	size_t policy_len;
	uint64_t version;   /* of the candidate; 0: none yet */
	uint8_t *candidate; /* payload that operators sign; NULL before AWAITING_APPROVAL */
	size_t candidate_len;
	unsigned approvals_needed;
	int64_t submitter;		/* uid; -1: a worker began the job */
	int64_t created_ms, changed_ms; /* Unix */
	uint64_t first_seq, last_seq;	/* of its audit entries */
};

/* A row of "attempt": one lease of a step. */
struct sp_attempt {
	char lease[SP_JOB_ID_LEN + 1];
	char job[SP_JOB_ID_LEN + 1];
	enum sp_step step;
	unsigned attempt; /* from 1 */
	enum sp_lease_state state;
	char worker[SP_NAME_MAX + 1]; /* that holds or held it; "" while offered */
	char pin[SP_NAME_MAX + 1];    /* the only worker that may take it; "": any */
	char avoid[SP_NAME_MAX + 1];  /* better another than this one; "": all the same */
	int64_t not_before_ms;	      /* Unix: back-off */
	uint64_t seq; /* of the entry that gave the lease, or ended it; 0: offered */
};

struct sp_table_artifact {
	enum sp_step step; /* that left it */
	struct sp_artifact a;
};
struct sp_table_attestation {
	enum sp_step step;
	uint8_t *envelope;
	size_t len;
};
struct sp_table_detail {
	enum sp_step step;
	char *key, *value;
};
struct sp_table_approval {
	char keyid[SP_HEX_LEN + 1];
	char person[SP_NAME_MAX + 1];
	uint8_t *envelope;
	size_t len;
};

/* All that steps and operators have added to a job so far, in order. */
struct sp_table_extras {
	struct sp_table_artifact *artifacts;
	size_t artifact_count;
	struct sp_table_attestation *attestations;
	size_t attestation_count;
	struct sp_table_detail *details;
	size_t detail_count;
	struct sp_table_approval *approvals;
	size_t approval_count;
	unsigned failures; /* attempts of the newest step that failed: lost ones do not count */
};

/* SP_E_NOT_FOUND when there is none. */
enum sp_code
sp_table_job(struct sp_db *db, const char *id, struct sp_job *out, struct sp_err *err) SP_MUST_USE;
void sp_table_job_clear(struct sp_job *job);
/* The id of the one job that begins with prefix: SP_E_NOT_FOUND, SP_E_INVALID when several do or
 * the prefix is shorter than 4 digits. */
enum sp_code sp_table_resolve(struct sp_db *db, const char *prefix, char id[SP_JOB_ID_LEN + 1],
    struct sp_err *err) SP_MUST_USE;
/* Newest first, those whose first_seq is below `before`, until fn returns anything but SP_OK.
 * ended: also those that have; without, only those under way are read. */
typedef enum sp_code sp_table_job_fn(void *ctx, const struct sp_job *job, struct sp_err *err);
enum sp_code sp_table_jobs(struct sp_db *db, int ended, uint64_t before, sp_table_job_fn *fn,
    void *ctx, struct sp_err *err) SP_MUST_USE;
enum sp_code
sp_table_insert_job(struct sp_db *db, const struct sp_job *job, struct sp_err *err) SP_MUST_USE;
enum sp_code
sp_table_update_job(struct sp_db *db, const struct sp_job *job, struct sp_err *err) SP_MUST_USE;

/* SP_E_NOT_FOUND when there is none. */
enum sp_code sp_table_attempt(
    struct sp_db *db, const char *lease, struct sp_attempt *out, struct sp_err *err) SP_MUST_USE;
/* The job's newest attempt; *found 0 when it never had one. */
enum sp_code sp_table_newest(struct sp_db *db, const char *job, struct sp_attempt *out, int *found,
    struct sp_err *err) SP_MUST_USE;
/* All that are offered, leased or running. malloc'd. */
enum sp_code sp_table_alive(
    struct sp_db *db, struct sp_attempt **out, size_t *count, struct sp_err *err) SP_MUST_USE;
enum sp_code sp_table_insert_attempt(
    struct sp_db *db, const struct sp_attempt *attempt, struct sp_err *err) SP_MUST_USE;
/* New state, worker and entry. */
enum sp_code sp_table_set_attempt(struct sp_db *db, const char *lease, enum sp_lease_state state,
    const char *worker, uint64_t seq, struct sp_err *err) SP_MUST_USE;

enum sp_code sp_table_extras(
    struct sp_db *db, const char *job, struct sp_table_extras *out, struct sp_err *err) SP_MUST_USE;
/* Its attestations and approvals alone. */
enum sp_code sp_table_evidence(
    struct sp_db *db, const char *job, struct sp_table_extras *out, struct sp_err *err) SP_MUST_USE;
void sp_table_extras_clear(struct sp_table_extras *extras);
enum sp_code sp_table_add_artifact(struct sp_db *db, const char *job, enum sp_step step,
    const struct sp_artifact *artifact, struct sp_err *err) SP_MUST_USE;
enum sp_code sp_table_add_attestation(struct sp_db *db, const char *job, enum sp_step step,
    const void *envelope, size_t len, struct sp_err *err) SP_MUST_USE;
enum sp_code sp_table_add_detail(struct sp_db *db, const char *job, enum sp_step step,
    const struct sp_detail *detail, struct sp_err *err) SP_MUST_USE;
/* SP_E_EXISTS when that key has approved the job already. */
enum sp_code sp_table_add_approval(struct sp_db *db, const char *job, const char *keyid,
    const char *person, const void *envelope, size_t len, struct sp_err *err) SP_MUST_USE;

/* The next version of that name: 1, 2, … */
enum sp_code sp_table_next_version(
    struct sp_db *db, const char *name, uint64_t *out, struct sp_err *err) SP_MUST_USE;

/* The newest content of a topic, malloc'd; SP_E_NOT_FOUND when there is none. */
enum sp_code sp_table_topic(struct sp_db *db, const char *topic, uint8_t **content, size_t *len,
    struct sp_err *err) SP_MUST_USE;
enum sp_code sp_table_set_topic(struct sp_db *db, const char *topic, const void *content,
    size_t len, uint64_t seq, struct sp_err *err) SP_MUST_USE;

#endif
