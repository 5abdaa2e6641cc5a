/* fetched.h -- what fetcherd has signed for a job. */
#ifndef CTL_FETCHED_H
#define CTL_FETCHED_H

#include "ctl.h"
#include "release/statement.h"

/* Pure. A job is ledgerd's word, its fetch attestation fetcherd's: what that key has signed for
 * this very job is what counts. Clear out with sp_statement_clear, also after an error. digest: of
 * the envelope. SP_E_STATE when nothing was fetched. */
enum sp_code
ctl_fetched_attestation(const struct sp_trust *trust, const Sallyport__OperatorJobView *view,
    struct sp_statement *out, struct sp_hex *digest, struct sp_err *err) SP_MUST_USE;

#endif
