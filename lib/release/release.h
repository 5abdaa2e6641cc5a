/*
 * release.h -- the signed release: built by diode-txd, verified by everybody who relies on it.
 *
 * A DSSE envelope (SP_DSSE_INTOTO) by the release role over a Statement whose subject is the
 * candidate's tree and whose predicate (SP_PREDICATE_RELEASE) is
 *	{"attestations": [DSSE envelope, …], "bases": [], "bom": CycloneDX 1.6,
 *	 "candidate": DSSE envelope with the operators' signatures, "job": hex,
 *	 "log": release/proof.h, "time": RFC3339}
 * all of it canonical JSON, so that one byte sequence says one thing.
 */
#ifndef SP_RELEASE_H
#define SP_RELEASE_H

#include "release/candidate.h"
#include "release/statement.h"
#include "release/trust.h"

#define SP_RELEASE_MAX (16u << 20)
#define SP_RELEASE_PROOFS_MAX 4096

struct sp_bytes {
	const uint8_t *data;
	size_t len;
};

struct sp_release_proof {
	uint64_t seq;
	struct sp_bytes entry;
	const uint8_t (*hashes)[SP_DIGEST_LEN];
	size_t hash_count;
};

/* Everything borrowed. */
struct sp_release_parts {
	struct sp_bytes candidate;	     /* envelope with approvals */
	const struct sp_bytes *attestations; /* envelopes */
	size_t attestation_count;
	struct sp_bytes checkpoint; /* signed note of the bastion's log */
	const struct sp_release_proof *proofs;
	size_t proof_count;
	const json_t *bom;
	const char *time; /* RFC 3339 */
};

/*
 * The chain without the release around it: candidate and its approvals (the operator role, at least
 * `approvals` of them, each person once), each attestation by the key of its role, fetch.subject =
 * quantize.material, quantize.subject = gate.subject = candidate.tree, the gate PASSED, digests and
 * number of attestations as the candidate lists them, in the order fetch, quantize, gate. A
 * provenance names the owner of the key that signed it as its builder, and the candidate's job; the
 * gate names fetch.subject in its configuration. Kinds other than "model" need the fetch alone.
 * check (may be NULL) receives the name of the first check that failed: "candidate", "approvals",
 * "fetch", "quantize", "gate", "chain". out (may be NULL) is the candidate. approvals 0, or less
 * than the trust document's threshold of the operator role: that threshold.
 */
enum sp_code sp_release_check_chain(const struct sp_trust *trust, struct sp_bytes candidate,
    const struct sp_bytes *attestations, size_t attestation_count, unsigned approvals,
    struct sp_candidate *out, const char **check, struct sp_err *err) SP_MUST_USE;

/* Checks the chain, builds, signs, and verifies the result as the other side will: key must be a
 * release key of trust. *envelope is malloc'd. */
enum sp_code sp_release_build(const struct sp_trust *trust, const struct sp_release_parts *parts,
    unsigned approvals, const struct sp_key *key, char **envelope, size_t *len,
    struct sp_err *err) SP_MUST_USE;

/* A verified release. */
struct sp_release {
	struct sp_candidate candidate;
	struct sp_hex digest; /* of the envelope */
	json_t *statement;    /* owned: the parsed payload */
	struct sp_dsse candidate_envelope;
	struct sp_dsse *attestations;
	size_t attestation_count;
	char time[25];
};

/*
 * Complete verification of an envelope against trust: signature of the release role, canonical
 * form, the chain, the log's checkpoint (log role) and the inclusion of every entry, each of which
 * belongs to the job and which together show that it was validated (the entry to VALIDATED bears
 * the digest of the gate's envelope), that this very candidate was made of it (the entry to
 * AWAITING_APPROVAL bears its digest) and that it was then approved. check names the first that
 * failed, as above, or "release", "canonical", "checkpoint", "proof", "bom". Bytes of the tree are
 * not looked at: that is sp_tree_verify's part.
 */
enum sp_code sp_release_verify(const struct sp_trust *trust, const uint8_t *envelope, size_t len,
    struct sp_release **out, const char **check, struct sp_err *err) SP_MUST_USE;
void sp_release_free(struct sp_release **release);

#endif
