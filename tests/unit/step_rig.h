/*
 * step_rig.h -- what tests of quantd's and validatord's steps stand on: a directory with stores,
 * keys and a configuration, the worker's side of the bus without a bus, and a task with the
 * artifacts and attestations that ledgerd would send.
 */
#ifndef STEP_RIG_H
#define STEP_RIG_H

#include "bus/worker.h"
#include "release/statement.h"
#include "store/tree.h"

#define RIG_JOB "00112233445566778899aabbccddeeff"
#define RIG_MODEL "tests/fixtures/model"

/* What a step reported of itself. */
struct sp_lease {
	size_t progress;   /* reports */
	uint64_t layers;   /* of the newest report of phase "layer" */
	char phases[1024]; /* each once, in order, a space behind each */
};

struct sp_worker {
	struct sp_conf *conf;
	/* a stranger's is of a role that counts, but not in the trust document */
	struct sp_key *root, *fetch, *quantize, *stranger;
};

extern struct sp_err rig_err;
extern struct sp_lease rig_lease;
extern struct sp_worker rig_worker;
extern char rig_top[]; /* the configuration's root */

/* Fails the test with rig_err's message. */
void rig_ok(enum sp_code code);

/*
 * Makes the directory, the service's key of that role (keys/SERVICE/WORD.key), everybody's keys and
 * the configuration: the places of stores, keys and state, and `more`.
 */
void rig_open(const char *service, enum sp_role role, enum sp_role stranger, const char *more);
void rig_close(void);

/* A path below rig_top; the caller frees it. */
char *rig_at(const char *name);

/* The files below dir as a tree in that service's store. */
struct sp_hex rig_import(const char *service, const char *dir);

/* --- a task ----------------------------------------------------------------------------------- */

enum { RIG_SOURCE, RIG_CANDIDATE, RIG_TREES }; /* and the attestations that made them */

struct rig_task {
	Sallyport__Task task;
	Sallyport__Artifact parts[RIG_TREES], *artifacts[RIG_TREES];
	Sallyport__Attested proofs[RIG_TREES], *attestations[RIG_TREES];
	struct sp_hex trees[RIG_TREES];
	char *envelopes[RIG_TREES];
};

/*
 * `count` trees (1: the source; 2: the candidate too), each with the attestation that it needs, and
 * the policy, which must live as long. Forgets what the lease reported.
 */
void rig_task_new(struct rig_task *t, const char *step, const char *policy,
    const struct sp_hex *trees, size_t count);
void rig_task_free(struct rig_task *t);
void rig_task_policy(struct rig_task *t, const char *policy);
/* Another attestation for tree i; takes envelope. */
void rig_task_envelope(struct rig_task *t, int i, char *envelope);

/* Provenance about `tree`, made of `material` (may be NULL), signed by key; the caller frees it. */
char *rig_provenance(
    const struct sp_key *key, const char *tree, const char *build_type, const char *material);

#endif
