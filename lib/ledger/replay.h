/*
 * replay.h -- the job table as the audit log tells it: entries in, jobs out. Pure.
 *
 * Every entry must be a transition that ledger/jobs.h allows from where the job was. What comes out
 * must equal the database's table; ledgerd compares the two each time it starts.
 */
#ifndef SP_REPLAY_H
#define SP_REPLAY_H

#include "base/hash.h"
#include "ledger/jobs.h"

struct sp_replay_job {
	char id[SP_JOB_ID_LEN + 1];
	enum sp_recipe recipe;
	enum sp_job_state state;
	enum sp_job_state resume;      /* where a retry goes back to */
	char lease[SP_JOB_ID_LEN + 1]; /* "" when no step is leased */
	char worker[SP_NAME_MAX + 1];  /* that holds it */
	unsigned attempt;	       /* of the step that is offered or leased; 0: none is */
	uint64_t version;	       /* of the candidate; 0: none yet */
	uint64_t first_seq, last_seq;
	int64_t submitter;		  /* uid; -1: a worker began the job */
	uint8_t request[SP_DIGEST_LEN];	  /* sp_replay_request of what was asked for */
	uint8_t name[SP_DIGEST_LEN];	  /* SHA-256 */
	uint8_t candidate[SP_DIGEST_LEN]; /* SHA-256 of what operators sign; zero: none yet */
	/* sp_replay_chain of each that was kept, in order; zero: none yet */
	uint8_t attestations[SP_DIGEST_LEN], approvals[SP_DIGEST_LEN];
};

/* An entry's bytes as committed (audit.proto Entry); borrowed. */
struct sp_log_bytes {
	const uint8_t *data;
	size_t len;
};

/* Zero-initialised is the empty log. */
struct sp_replay {
	char origin[256]; /* of the first entry: all others must have it too */
	uint64_t size;	  /* entries so far */
	struct sp_replay_job *jobs;
	size_t count, cap;
	uint32_t *slots; /* open addressing over jobs, by id; index + 1 */
	size_t slot_count;
};

/* The next entry, which must have seq == replay->size. Errors name the seq; replay is then as it
 * was before. */
enum sp_code sp_replay_entry(
    struct sp_replay *replay, const uint8_t *data, size_t len, struct sp_err *err) SP_MUST_USE;
/* The next count entries; those are read on several processors. replay->size then says how far it
 * went. leaves (may be NULL): their leaf hashes, all of them whatever is returned. */
enum sp_code sp_replay_entries(struct sp_replay *replay, const struct sp_log_bytes *entries,
    size_t count, uint8_t (*leaves)[SP_DIGEST_LEN], struct sp_err *err) SP_MUST_USE;
/* The leaf hashes alone. */
void sp_replay_leaves(
    const struct sp_log_bytes *entries, size_t count, uint8_t (*leaves)[SP_DIGEST_LEN]);
/* NULL when the log does not know the job. */
const struct sp_replay_job *sp_replay_find(const struct sp_replay *replay, const char *id);
void sp_replay_free(struct sp_replay *replay);

/* One digest over what a job's first entry says of it beside its name; "" where it says nothing. */
void sp_replay_request(const char *source, const char *profile, const char *destination,
    const char *approvals, const char *policy_sha256, uint8_t out[SP_DIGEST_LEN]);
/* chain becomes the digest over itself, what and of: an attestation's step and SHA-256, an
 * approval's key id and person. */
void sp_replay_chain(uint8_t chain[SP_DIGEST_LEN], const char *what, const void *of, size_t len);
/* A version as entries spell it: decimal, 1 to 10^18 - 1; 0 when it is anything else. */
uint64_t sp_replay_version(const char *text);

#endif
