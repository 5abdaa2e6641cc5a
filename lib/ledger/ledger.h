/*
 * ledger.h -- the ledger of a host: its database and the audit log in it.
 *
 * Order, so that no crash can fork the log: entries are appended inside a transaction, COMMIT makes
 * them durable, then a checkpoint over them is signed, then stored, then shown to anybody. It is
 * stored by the next COMMIT, or by sp_ledger_sign when there is none soon.
 */
#ifndef SP_LEDGER_H
#define SP_LEDGER_H

#include "ledger/entry.h"
#include "ledger/inspect.h"
#include "ledger/merkle.h"
#include "ledger/note.h"
#include "ledger/table.h"

struct sp_ledger;

struct sp_ledger_spec {
	const char *path;     /* of the database file */
	const char *origin;   /* of the log: sallyport/SIDE/HOST */
	struct sp_actor self; /* for what the ledger does by itself; strings must stay */
	const uint8_t *pk;    /* the log's key, 32 bytes, copied */
	sp_note_sign_fn *sign;
	void *ctx;
	/* whether the stored checkpoint's signature counts; NULL: only one by pk does */
	sp_inspect_note_fn *check_note;
	void *check_ctx;
};

/*
 * Opens or makes the database and checks all of it (ledger/inspect.h). Signs a checkpoint when the
 * stored one is older than the last entry.
 */
enum sp_code sp_ledger_open(
    const struct sp_ledger_spec *spec, struct sp_ledger **out, struct sp_err *err) SP_MUST_USE;
void sp_ledger_close(struct sp_ledger **ledger);

struct sp_db *sp_ledger_db(struct sp_ledger *ledger);
const struct sp_actor *sp_ledger_self(const struct sp_ledger *ledger);
uint64_t sp_ledger_size(const struct sp_ledger *ledger); /* entries, also not yet committed ones */

enum sp_code sp_ledger_begin(struct sp_ledger *ledger, struct sp_err *err) SP_MUST_USE;
/* Also signs and stores a checkpoint of what was committed before. */
enum sp_code sp_ledger_commit(struct sp_ledger *ledger, struct sp_err *err) SP_MUST_USE;
void sp_ledger_rollback(struct sp_ledger *ledger);
/* Inside a transaction: what follows the mark can be undone alone. Marks do not nest. */
enum sp_code sp_ledger_mark(struct sp_ledger *ledger, struct sp_err *err) SP_MUST_USE;
/* 1 when only what followed the mark is gone, 0 when the whole transaction is (as after a full
 * disk): roll it back. */
int sp_ledger_undo(struct sp_ledger *ledger);
/* 1 when entries are durable that no stored checkpoint covers. */
int sp_ledger_is_behind(const struct sp_ledger *ledger);
/* After a commit: signs and stores a checkpoint of all entries, when there are new ones. *fresh
 * (may be NULL) is 1 when it did. */
enum sp_code sp_ledger_sign(struct sp_ledger *ledger, int *fresh, struct sp_err *err) SP_MUST_USE;

/* Inside a transaction. */
enum sp_code sp_ledger_append(struct sp_ledger *ledger, struct sp_entry *entry, int64_t unix_ms,
    int64_t monotonic_ms, uint64_t *seq, struct sp_err *err) SP_MUST_USE;

/* The newest checkpoint that was stored: a signed note; borrowed until the next sp_ledger_sign. */
const uint8_t *sp_ledger_checkpoint(const struct sp_ledger *ledger, size_t *len, uint64_t *size);
/* Inclusion of entry seq in the log of that checkpoint. */
enum sp_code sp_ledger_prove(struct sp_ledger *ledger, uint64_t seq, uint8_t proof[][SP_DIGEST_LEN],
    size_t *count, struct sp_err *err) SP_MUST_USE;
/* Entries from seq `from` on, of one job or (job "") all, at most max, while fn returns SP_OK. */
typedef enum sp_code
sp_ledger_entry_fn(void *ctx, uint64_t seq, const uint8_t *data, size_t len, struct sp_err *err);
enum sp_code sp_ledger_entries(struct sp_ledger *ledger, uint64_t from, uint64_t max,
    const char *job, sp_ledger_entry_fn *fn, void *ctx, struct sp_err *err) SP_MUST_USE;

#endif
