/*
 * inspect.h -- a database as a whole against itself: every leaf hash, the stored checkpoint, and
 * the job table with its leases, attestations and names of who approved against what the audit log
 * tells. Not: reasons, details, artifacts (a retried step replaces them), bytes of approvals (who
 * uses one verifies its signature), published content.
 *
 * ledgerd does it at each start, `sallyctl log verify --database` from outside.
 */
#ifndef SP_INSPECT_H
#define SP_INSPECT_H

#include "ledger/merkle.h"
#include "ledger/note.h"
#include "ledger/table.h"

/* Whether a stored checkpoint is signed by a key that may; says why not. */
typedef enum sp_code
sp_inspect_note_fn(void *ctx, const uint8_t *note, size_t len, struct sp_err *err);

struct sp_inspection {
	char origin[256]; /* of the log; "" while it is empty */
	uint64_t entries;
	uint64_t jobs;
	uint64_t steps;		      /* of them under way: offered, leased, running */
	struct sp_merkle_nodes nodes; /* of all entries */
	uint8_t *checkpoint;	      /* malloc'd; NULL: none was ever stored */
	size_t checkpoint_len;
	uint64_t checkpoint_size;
	uint8_t root[SP_DIGEST_LEN]; /* of that */
};

/*
 * origin: what the log must be of; NULL: anything. SP_E_CORRUPT where the database is not what was
 * committed, SP_E_DENIED for a signature, SP_E_INVALID for a transition that cannot be, SP_E_CONFIG
 * for another origin; each says what differs. Free out with _clear whatever was returned.
 */
enum sp_code sp_inspect(struct sp_db *db, const char *origin, sp_inspect_note_fn *check_note,
    void *ctx, struct sp_inspection *out, struct sp_err *err) SP_MUST_USE;
void sp_inspection_clear(struct sp_inspection *inspection);

#endif
