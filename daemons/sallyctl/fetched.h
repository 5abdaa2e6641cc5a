/* fetched.h -- what a worker has signed for a job. */
#ifndef CTL_FETCHED_H
#define CTL_FETCHED_H

#include "ctl.h"
#include "release/chain.h"
#include "release/statement.h"

/* Pure. A job is ledgerd's word, its attestation of a stage that worker's: what a key of its role
 * has signed for this very job is what counts. Clear out with sp_statement_clear, also after an
 * error. digest: of the envelope. SP_E_STATE when the job has none. */
enum sp_code ctl_fetched_attestation(const struct sp_trust *trust,
    const Sallyport__OperatorJobView *view, enum sp_chain_stage stage, struct sp_statement *out,
    struct sp_hex *digest, struct sp_err *err) SP_MUST_USE;

#endif
