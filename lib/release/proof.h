/*
 * proof.h -- the "log" of a release: the bastion's checkpoint, the job's entries and their proofs.
 *
 *	{"checkpoint": signed note, "proofs": [{"entry": base64, "hashes": [base64], "seq": N}, …]}
 *
 * Proofs in ascending order of seq; entry: the bytes of an audit.proto Entry; hashes: the RFC 6962
 * audit path, leaf to root.
 */
#ifndef SP_PROOF_H
#define SP_PROOF_H

#include "ledger/note.h"
#include "release/candidate.h"
#include "release/trust.h"

#include <jansson.h>

/*
 * Verifies: the checkpoint is of a log of the bastion and signed as sp_proof_checkpoint says, every
 * entry is in that log at its seq, was written there and belongs to the candidate's job, and
 * together they show that this very candidate was put before the operators and then approved and,
 * where gate is not NULL (the digest of the gate's attestation), before that validated with that
 * very verdict. *check: "checkpoint" or "proof" on failure.
 */
enum sp_code sp_proof_check(const struct sp_trust *trust, const json_t *log,
    const struct sp_candidate *candidate, const struct sp_hex *gate, const char **check,
    struct sp_err *err) SP_MUST_USE;

/* A checkpoint alone: form, and that it is signed under its origin sallyport/SIDE/HOST by a key of
 * the log role that belongs to ledgerd@SIDE. signer may be NULL. */
enum sp_code sp_proof_checkpoint(const struct sp_trust *trust, const void *note, size_t len,
    struct sp_checkpoint *out, const struct sp_pubkey **signer, struct sp_err *err) SP_MUST_USE;

#endif
