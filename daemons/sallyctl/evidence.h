/* evidence.h -- verified attestations, for machines and for people. Pure. */
#ifndef CTL_EVIDENCE_H
#define CTL_EVIDENCE_H

#include "out.h"
#include "release/chain.h"
#include "release/statement.h"

struct ctl_evidence {
	enum sp_chain_stage stage;
	struct sp_hex digest;		/* of the envelope */
	const struct sp_pubkey *signer; /* borrowed from trust */
	struct sp_statement statement;
};

/* attestations: as sp_chain_evidence has accepted them. Free each with ctl_evidence_clear. */
enum sp_code ctl_evidence_open(const struct sp_trust *trust, const struct sp_dsse *attestations,
    const struct sp_hex *digests, size_t count, struct ctl_evidence *out,
    struct sp_err *err) SP_MUST_USE;
void ctl_evidence_clear(struct ctl_evidence *evidence, size_t count);

json_t *ctl_evidence_json(const struct ctl_evidence *evidence); /* new reference */
/* A paragraph: who made what of what, when; for a gate with its table. */
void ctl_evidence_print(const struct ctl_evidence *evidence, FILE *to);

#endif
