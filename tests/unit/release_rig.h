/*
 * release_rig.h -- a whole release for tests: keys of every role, the trust document that names
 * them, attestations, approvals, a log in which the job fares well, and any single deviation from
 * that.
 */
#ifndef RELEASE_RIG_H
#define RELEASE_RIG_H

#include "base/buf.h"
#include "ledger/entry.h"
#include "ledger/merkle.h"
#include "release/release.h"
#include "store/tree.h"

#include <jansson.h>

#define RIG_JOB "00112233445566778899aabbccddeeff"
#define RIG_ORIGIN "sallyport/bastion/host"
#define RIG_TIME "2026-11-24T05:02:03.123Z"
#define RIG_SOURCE "1111111111111111111111111111111111111111111111111111111111111111"
#define RIG_TREE "2222222222222222222222222222222222222222222222222222222222222222"
#define RIG_OTHER "3333333333333333333333333333333333333333333333333333333333333333"

/* Operators: anna (keys[SP_ROLE_OPERATOR]), ben, and a second key of anna's; two must approve. eve
 * has a key and is nobody. */
struct rig {
	struct sp_key *keys[SP_ROLE_COUNT];
	struct sp_key *ben, *anna2, *eve;
	struct sp_key *enclave_log; /* of the log role too, but the other side's */
	struct sp_trust *trust;
	char *trust_envelope; /* version 1, signed by the root key */
	struct sp_hex fingerprint;
};
void rig_open(struct rig *rig);
void rig_close(struct rig *rig);

/* What one case deviates in; NULL: as it should be. */
struct rig_deviation {
	const char *tree; /* candidate, in all places */
	const char *quantize_material, *quantize_subject, *quantize_builder, *quantize_type;
	const char *gate_subject, *gate_baseline, *gate_result, *gate_failed;
	const char *fetch_job, *quantize_job;
	const char *candidate_kind;
	struct sp_key *fetch_key, *quantize_key, *gate_key;
	struct sp_key *approvers[3]; /* none: anna and ben */
	int unapproved;		     /* signed by eve alone */
	size_t attestations;	     /* 0: three */
	int swapped;		     /* candidate lists two attestations the other way round */
};

struct rig_parts {
	char *text[3]; /* attestations */
	struct sp_bytes attestations[3];
	size_t count;
	char *candidate; /* envelope */
	struct sp_bytes candidate_bytes;
	struct sp_candidate c;
};
void rig_parts(const struct rig *rig, const struct rig_deviation *deviation, struct rig_parts *out);
void rig_parts_free(struct rig_parts *parts);
/* The candidate signed as the case says, malloc'd. */
char *
rig_approve(const struct rig *rig, const struct rig_deviation *d, const struct sp_candidate *c);
/* Signs and frees payload. malloc'd. */
char *rig_envelope(struct sp_key *key, const char *type, char *payload, size_t len);
struct sp_bytes rig_bytes(const char *text);

/* start, submit, fetch, quantize, validate, await, approved: one entry each row. */
#define RIG_ENTRIES 10
#define RIG_VALIDATED 7
#define RIG_APPROVED 9
struct rig_step {
	const struct sp_actor *actor;
	const char *event, *from, *to, *step, *lease;
};
extern const struct rig_step rig_story[RIG_ENTRIES];

struct rig_log {
	struct sp_buf entries[RIG_ENTRIES];
	uint8_t leaves[RIG_ENTRIES][SP_DIGEST_LEN];
	uint8_t hashes[RIG_ENTRIES][SP_MERKLE_PROOF_MAX][SP_DIGEST_LEN];
	struct sp_release_proof proofs[RIG_ENTRIES];
	char *checkpoint;
};
/* Entries to VALIDATED bear the gate's envelope of parts, those to AWAITING_APPROVAL its candidate.
 * note_origin: of the checkpoint. */
void rig_log(const struct rig_step *story, const struct rig_parts *parts, const char *job,
    const char *origin, struct sp_key *signer, struct rig_log *log);
void rig_log_of(const struct rig_step *story, const struct rig_parts *parts, const char *job,
    const char *origin, const char *note_origin, struct sp_key *signer, struct rig_log *log);
void rig_log_free(struct rig_log *log);

json_t *rig_bom(const struct rig_parts *parts, const struct sp_tree *tree); /* NULL: one file */
/* From parts and log, all entries but the first; malloc'd, or NULL with err filled. */
char *rig_release(const struct rig *rig, const struct rig_parts *parts, const struct rig_log *log,
    const json_t *bom, struct sp_key *key, size_t *len, struct sp_err *err);

#endif
