/* chain.h -- the chain of custody of a candidate, over parsed envelopes (release.h wraps it). Pure.
 */
#ifndef SP_CHAIN_H
#define SP_CHAIN_H

#include "release/candidate.h"
#include "release/statement.h"
#include "release/trust.h"

/* What each attestation of a kind of candidate must be, in this order. */
enum sp_chain_stage { SP_CHAIN_FETCH, SP_CHAIN_QUANTIZE, SP_CHAIN_GATE, SP_CHAIN_STAGES };

/* How many of the stages a kind needs, from the first on. model: all three; others: the fetch. */
size_t sp_chain_stage_count(const char *kind);
/* "fetch", "quantize", "gate": the name of the check, and of the role that signs it. */
const char *sp_chain_stage_word(enum sp_chain_stage stage);
enum sp_role sp_chain_stage_role(enum sp_chain_stage stage);

/* One attestation for itself: signed by its role, of its stage's form, and a gate's verdict PASSED.
 * out: zero-initialised; what it holds afterwards is cleared by the caller, on failure too. */
enum sp_code sp_chain_stage_check(const struct sp_trust *trust, enum sp_chain_stage stage,
    const struct sp_dsse *dsse, struct sp_statement *out, struct sp_err *err) SP_MUST_USE;

/*
 * As sp_release_check_chain. digests: SHA-256 of each attestation's envelope. out and check must be
 * given; *check is NULL when all held. approvals 0, or less than the trust document's threshold of
 * the operator role: that threshold.
 */
enum sp_code sp_chain_check(const struct sp_trust *trust, const struct sp_dsse *candidate,
    const struct sp_dsse *attestations, const struct sp_hex *digests, size_t count,
    unsigned approvals, struct sp_candidate *out, const char **check,
    struct sp_err *err) SP_MUST_USE;

/* The same without approvals: what an operator wants to know before signing. */
enum sp_code sp_chain_evidence(const struct sp_trust *trust, const struct sp_candidate *candidate,
    const struct sp_dsse *attestations, const struct sp_hex *digests, size_t count,
    const char **check, struct sp_err *err) SP_MUST_USE;

/* Approvals alone, of an envelope that holds a candidate: the different people among the operators
 * whose signatures hold. *count of them, at most max written to people (may be NULL). */
enum sp_code sp_chain_approvals(const struct sp_trust *trust, const struct sp_dsse *candidate,
    const struct sp_pubkey **people, size_t max, size_t *count, struct sp_err *err) SP_MUST_USE;

#endif
