/* ledger.c -- the audit log inside the database. */
#include "ledger/ledger.h"

#include <inttypes.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

struct sp_ledger {
	struct sp_db *db;
	char *origin;
	struct sp_actor self;
	uint8_t pk[32];
	sp_note_sign_fn *sign;
	void *ctx;
	struct sp_merkle_nodes nodes; /* of all entries, appended ones included */
	uint64_t committed;	      /* entries that are durable */
	int has_mark;		      /* in the transaction that is open */
	uint64_t marked;	      /* entries at the mark */
	uint8_t *checkpoint;
	size_t checkpoint_len;
	uint64_t checkpoint_size;
};

/* --- opening ---------------------------------------------------------------------------------- */

/* With the log's own key, under the log's own name. */
static enum sp_code
check_own_note(void *ctx, const uint8_t *data, size_t len, struct sp_err *err)
{
	const struct sp_ledger *ledger = ctx;
	struct sp_note note = {0};
	enum sp_code code;

	code = sp_note_parse(data, len, &note, err);
	if (code == SP_OK && !sp_note_verify(&note, ledger->origin, ledger->pk))
		code = sp_err_set(err, SP_E_DENIED,
		    "the stored checkpoint is not signed by the log's key of %s", ledger->origin);
	sp_note_clear(&note);
	return code;
}

static enum sp_code
inspect(struct sp_ledger *ledger, const struct sp_ledger_spec *spec, struct sp_err *err)
{
	struct sp_inspection found;
	enum sp_code code;

	code = sp_inspect(ledger->db, ledger->origin,
	    spec->check_note != NULL ? spec->check_note : check_own_note,
	    spec->check_note != NULL ? spec->check_ctx : ledger, &found, err);
	ledger->nodes = found.nodes;
	ledger->checkpoint = found.checkpoint;
	ledger->checkpoint_len = found.checkpoint_len;
	ledger->checkpoint_size = found.checkpoint_size;
	ledger->committed = found.nodes.size;
	if (code == SP_OK)
		return SP_OK;
	if (err != NULL && strstr(err->msg, spec->path) == NULL)
		sp_err_prefix(err, "database %s", spec->path);
	if (code == SP_E_CORRUPT || code == SP_E_DENIED || code == SP_E_INVALID)
		sp_err_suffix(err,
		    "; move this file away with its -wal, put back the last copy for which "
		    "`sallyctl log verify --database FILE` succeeds, and find out who could write "
		    "here");
	return code;
}

enum sp_code
sp_ledger_open(const struct sp_ledger_spec *spec, struct sp_ledger **out, struct sp_err *err)
{
	struct sp_ledger *ledger = sp_xcalloc(1, sizeof(*ledger));
	enum sp_code code;

	*out = NULL;
	ledger->origin = sp_xstrdup(spec->origin);
	ledger->self = spec->self;
	memcpy(ledger->pk, spec->pk, sizeof(ledger->pk));
	ledger->sign = spec->sign;
	ledger->ctx = spec->ctx;
	code = sp_db_open(spec->path, &ledger->db, err);
	if (code == SP_OK)
		code = inspect(ledger, spec, err);
	if (code == SP_OK)
		code = sp_ledger_sign(ledger, NULL, err);
	if (code != SP_OK)
		sp_ledger_close(&ledger);
	*out = ledger;
	return code;
}

void
sp_ledger_close(struct sp_ledger **ledger)
{
	if (*ledger == NULL)
		return;
	sp_db_close(&(*ledger)->db);
	sp_merkle_nodes_free(&(*ledger)->nodes);
	free((*ledger)->checkpoint);
	free((*ledger)->origin);
	free(*ledger);
	*ledger = NULL;
}

struct sp_db *
sp_ledger_db(struct sp_ledger *ledger)
{
	return ledger->db;
}

const struct sp_actor *
sp_ledger_self(const struct sp_ledger *ledger)
{
	return &ledger->self;
}

uint64_t
sp_ledger_size(const struct sp_ledger *ledger)
{
	return ledger->nodes.size;
}

/* --- checkpoints ------------------------------------------------------------------------------ */

/* A signed note over the first `size` entries, which must be durable. */
static enum sp_code
make_note(struct sp_ledger *ledger, uint64_t size, char **note, size_t *len, struct sp_err *err)
{
	struct sp_checkpoint checkpoint;
	enum sp_code code;
	char *text;

	SP_ASSERT(size <= ledger->committed);
	memset(&checkpoint, 0, sizeof(checkpoint));
	SP_ASSERT(strlen(ledger->origin) < sizeof(checkpoint.origin));
	memcpy(checkpoint.origin, ledger->origin, strlen(ledger->origin));
	checkpoint.size = size;
	code = sp_merkle_root_from(size, sp_merkle_nodes_get, &ledger->nodes, checkpoint.root, err);
	if (code != SP_OK)
		return code;
	text = sp_checkpoint_format(&checkpoint);
	*note = sp_note_sign(text, ledger->origin, ledger->pk, ledger->sign, ledger->ctx, len);
	free(text);
	return SP_OK;
}

/* In the transaction that is open, or in one of its own. */
static enum sp_code
store_note(
    struct sp_ledger *ledger, uint64_t size, const char *note, size_t len, struct sp_err *err)
{
	return sp_db_run(ledger->db,
	    "INSERT INTO checkpoint(one, size, note) VALUES(1, ?, ?)"
	    " ON CONFLICT(one) DO UPDATE SET size = excluded.size, note = excluded.note",
	    err, "ib", (int64_t)size, (const void *)note, len);
}

/* It is durable: from now on it may be shown. */
static void
take_note(struct sp_ledger *ledger, uint64_t size, char *note, size_t len)
{
	free(ledger->checkpoint);
	ledger->checkpoint = (uint8_t *)note;
	ledger->checkpoint_len = len;
	ledger->checkpoint_size = size;
}

int
sp_ledger_is_behind(const struct sp_ledger *ledger)
{
	return ledger->checkpoint == NULL || ledger->checkpoint_size < ledger->committed;
}

enum sp_code
sp_ledger_sign(struct sp_ledger *ledger, int *fresh, struct sp_err *err)
{
	uint64_t size = ledger->committed;
	enum sp_code code;
	char *note;
	size_t len;

	if (fresh != NULL)
		*fresh = 0;
	SP_ASSERT(size == ledger->nodes.size);
	if (!sp_ledger_is_behind(ledger))
		return SP_OK;
	code = make_note(ledger, size, &note, &len, err);
	if (code != SP_OK)
		return code;
	code = store_note(ledger, size, note, len, err);
	if (code != SP_OK) {
		free(note);
		return code;
	}
	take_note(ledger, size, note, len);
	if (fresh != NULL)
		*fresh = 1;
	return SP_OK;
}

/* --- transactions ----------------------------------------------------------------------------- */

enum sp_code
sp_ledger_begin(struct sp_ledger *ledger, struct sp_err *err)
{
	ledger->has_mark = 0;
	return sp_db_begin(ledger->db, err);
}

/* SQLite ends a transaction by itself after some failures; SAVEPOINT would quietly begin another,
 * and what the first had appended be signed for without being there. */
static enum sp_code
gone(struct sp_err *err)
{
	return sp_err_set(
	    err, SP_E_IO, "the database gave up the transaction: what it held did not happen");
}

/*
 * What the commits before this one left uncovered is signed for here, so that its checkpoint costs
 * no commit of its own: one sync of the disk a batch.
 */
enum sp_code
sp_ledger_commit(struct sp_ledger *ledger, struct sp_err *err)
{
	uint64_t size = ledger->committed;
	enum sp_code code = SP_OK;
	char *note = NULL;
	size_t len = 0;

	if (!sp_db_in_transaction(ledger->db))
		return gone(err);
	if (sp_ledger_is_behind(ledger) && size > 0) {
		code = make_note(ledger, size, &note, &len, err);
		if (code == SP_OK)
			code = store_note(ledger, size, note, len, err);
	}
	if (code == SP_OK)
		code = sp_db_commit(ledger->db, err);
	if (code != SP_OK) {
		free(note);
		return code;
	}
	ledger->committed = ledger->nodes.size;
	if (note != NULL)
		take_note(ledger, size, note, len);
	return SP_OK;
}

void
sp_ledger_rollback(struct sp_ledger *ledger)
{
	sp_db_rollback(ledger->db);
	sp_merkle_nodes_truncate(&ledger->nodes, ledger->committed);
}

enum sp_code
sp_ledger_mark(struct sp_ledger *ledger, struct sp_err *err)
{
	enum sp_code code = SP_OK;

	if (!sp_db_in_transaction(ledger->db))
		return gone(err);
	/* the mark before is never gone back to: nested, each would keep its own copy of the pages
	 */
	if (ledger->has_mark)
		code = sp_db_run(ledger->db, "RELEASE mark", err, "");
	if (code == SP_OK)
		code = sp_db_run(ledger->db, "SAVEPOINT mark", err, "");
	if (code == SP_OK) {
		ledger->has_mark = 1;
		ledger->marked = ledger->nodes.size;
	}
	return code;
}

int
sp_ledger_undo(struct sp_ledger *ledger)
{
	if (sp_db_run(ledger->db, "ROLLBACK TO mark", NULL, "") != SP_OK)
		return 0;
	sp_merkle_nodes_truncate(&ledger->nodes, ledger->marked);
	return 1;
}

enum sp_code
sp_ledger_append(struct sp_ledger *ledger, struct sp_entry *entry, int64_t unix_ms,
    int64_t monotonic_ms, uint64_t *seq, struct sp_err *err)
{
	uint8_t leaf[SP_DIGEST_LEN], *body;
	Sallyport__Entry *parsed;
	enum sp_code code;
	size_t len;

	*seq = ledger->nodes.size;
	body = sp_entry_pack(entry, *seq, ledger->origin, unix_ms, monotonic_ms, &len);
	/* what a verifier would refuse must never become part of the log */
	code = sp_entry_parse(body, len, &parsed, err);
	if (code == SP_OK) {
		sp_merkle_leaf(body, len, leaf);
		code = sp_db_run(ledger->db,
		    "INSERT INTO entry(seq, job, body, leaf) VALUES(?, ?, ?, ?)", err, "itbb",
		    (int64_t)*seq, parsed->job, (const void *)body, len, (const void *)leaf,
		    sizeof(leaf));
		sallyport__entry__free_unpacked(parsed, NULL);
	}
	if (code == SP_OK)
		sp_merkle_nodes_append(&ledger->nodes, leaf);
	free(body);
	return code;
}

/* --- reading ---------------------------------------------------------------------------------- */

const uint8_t *
sp_ledger_checkpoint(const struct sp_ledger *ledger, size_t *len, uint64_t *size)
{
	*len = ledger->checkpoint_len;
	if (size != NULL)
		*size = ledger->checkpoint_size;
	return ledger->checkpoint;
}

enum sp_code
sp_ledger_prove(struct sp_ledger *ledger, uint64_t seq, uint8_t proof[][SP_DIGEST_LEN],
    size_t *count, struct sp_err *err)
{
	return sp_merkle_prove_from(
	    seq, ledger->checkpoint_size, sp_merkle_nodes_get, &ledger->nodes, proof, count, err);
}

enum sp_code
sp_ledger_entries(struct sp_ledger *ledger, uint64_t from, uint64_t max, const char *job,
    sp_ledger_entry_fn *fn, void *ctx, struct sp_err *err)
{
	sqlite3_stmt *stmt = NULL;
	enum sp_code code;
	uint64_t n = 0;
	uint8_t *body;
	size_t len;
	int row;

	if (from > INT64_MAX)
		return SP_OK;
	if (job[0] == '\0')
		code = sp_db_prepare(ledger->db,
		    "SELECT seq, body FROM entry WHERE seq >= ? ORDER BY seq", &stmt, err, "i",
		    (int64_t)from);
	else
		code = sp_db_prepare(ledger->db,
		    "SELECT seq, body FROM entry WHERE job = ? AND job <> '' AND seq >= ?"
		    " ORDER BY seq",
		    &stmt, err, "ti", job, (int64_t)from);
	while (code == SP_OK && n < max) {
		code = sp_db_step(ledger->db, stmt, &row, err);
		if (code != SP_OK || !row)
			break;
		body = sp_db_blob(stmt, 1, &len);
		code = fn(ctx, (uint64_t)sp_db_int(stmt, 0), body, len, err);
		free(body);
		n++;
	}
	sp_db_done(stmt);
	return code;
}
