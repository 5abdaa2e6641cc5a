/* ledger.c -- the audit log inside the database. */
#include "ledger/ledger.h"
#include "ledger/replay.h"

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

/* --- checking what is there ------------------------------------------------------------------- */

struct checker {
	struct sp_ledger *ledger;
	struct sp_replay replay;
};

static enum sp_code
check_entries(struct checker *c, struct sp_err *err)
{
	struct sp_db *db = c->ledger->db;
	sqlite3_stmt *stmt = NULL;
	uint8_t leaf[SP_DIGEST_LEN], *body, *stored;
	size_t body_len, stored_len;
	enum sp_code code;
	int row;

	code = sp_db_prepare(db, "SELECT body, leaf FROM entry ORDER BY seq", &stmt, err, "");
	while (code == SP_OK) {
		code = sp_db_step(db, stmt, &row, err);
		if (code != SP_OK || !row)
			break;
		body = sp_db_blob(stmt, 0, &body_len);
		stored = sp_db_blob(stmt, 1, &stored_len);
		sp_merkle_leaf(body, body_len, leaf);
		if (stored_len != sizeof(leaf) || memcmp(leaf, stored, sizeof(leaf)) != 0)
			code = sp_err_set(err, SP_E_CORRUPT,
			    "audit entry %" PRIu64 " was altered: its bytes are not those that "
			    "were committed",
			    c->ledger->nodes.size);
		sp_merkle_nodes_append(&c->ledger->nodes, leaf);
		if (code == SP_OK)
			code = sp_replay_entry(&c->replay, body, body_len, err);
		free(body);
		free(stored);
	}
	sp_db_done(stmt);
	if (code == SP_OK && c->replay.size > 0 && strcmp(c->replay.origin, c->ledger->origin) != 0)
		code = sp_err_set(err, SP_E_CONFIG,
		    "the database holds the log of %.100s, but this host is %.100s: \"side\" and "
		    "\"host\" of a log never change",
		    c->replay.origin, c->ledger->origin);
	return code;
}

static enum sp_code
check_checkpoint(struct sp_ledger *ledger, struct sp_err *err)
{
	struct sp_checkpoint checkpoint;
	uint8_t root[SP_DIGEST_LEN];
	struct sp_note note = {0};
	enum sp_code code;

	if (ledger->checkpoint == NULL)
		return SP_OK;
	code = sp_note_parse(ledger->checkpoint, ledger->checkpoint_len, &note, err);
	if (code == SP_OK)
		code = sp_checkpoint_parse(note.text, note.text_len, &checkpoint, err);
	sp_note_clear(&note);
	if (code != SP_OK)
		return code;
	if (checkpoint.size > ledger->nodes.size)
		return sp_err_set(err, SP_E_CORRUPT,
		    "the log was cut: %" PRIu64 " entries are left of the %" PRIu64
		    " that a checkpoint was signed for",
		    ledger->nodes.size, checkpoint.size);
	code = sp_merkle_root_from(checkpoint.size, sp_merkle_nodes_get, &ledger->nodes, root, err);
	if (code == SP_OK && memcmp(root, checkpoint.root, sizeof(root)) != 0)
		code = sp_err_set(err, SP_E_CORRUPT,
		    "the log was altered: its first %" PRIu64
		    " entries are not those that a checkpoint was signed for",
		    checkpoint.size);
	ledger->checkpoint_size = checkpoint.size;
	return code;
}

static enum sp_code
load_checkpoint(struct sp_ledger *ledger, struct sp_err *err)
{
	sqlite3_stmt *stmt = NULL;
	enum sp_code code;
	int row = 0;

	code = sp_db_prepare(ledger->db, "SELECT note FROM checkpoint", &stmt, err, "");
	if (code == SP_OK)
		code = sp_db_step(ledger->db, stmt, &row, err);
	if (code == SP_OK && row)
		ledger->checkpoint = sp_db_blob(stmt, 0, &ledger->checkpoint_len);
	sp_db_done(stmt);
	return code;
}

/* One job of the table against what the log tells of it. */
static enum sp_code
check_job(void *ctx, const struct sp_job *job, struct sp_err *err)
{
	struct checker *c = ctx;
	const struct sp_replay_job *told = sp_replay_find(&c->replay, job->id);
	struct sp_attempt a = {0};
	const char *differs = NULL;
	enum sp_code code;
	int found, alive;

	if (told == NULL)
		return sp_err_set(err, SP_E_CORRUPT,
		    "job %s is in the job table, but the audit log never heard of it", job->id);
	code = sp_table_newest(c->ledger->db, job->id, &a, &found, err);
	if (code != SP_OK)
		return code;
	alive = found && sp_jobs_is_alive(a.state);
	if (told->state != job->state)
		differs = "state";
	else if (told->resume != job->resume)
		differs = "resume";
	else if (told->recipe != job->recipe)
		differs = "recipe";
	else if (told->version != job->version)
		differs = "version";
	else if (told->first_seq != job->first_seq || told->last_seq != job->last_seq)
		differs = "first_seq or last_seq";
	else if (told->attempt != (alive ? a.attempt : 0))
		differs = "attempt";
	else if (strcmp(told->lease, alive && a.state != SP_LEASE_OFFERED ? a.lease : "") != 0)
		differs = "lease";
	else if (strcmp(told->worker, alive ? a.worker : "") != 0)
		differs = "worker";
	if (differs != NULL)
		return sp_err_set(err, SP_E_CORRUPT,
		    "job %s: the table's %s is not what the audit log tells (it is %s there, %s "
		    "in the table)",
		    job->id, differs, sp_jobs_state_name(told->state),
		    sp_jobs_state_name(job->state));
	return SP_OK;
}

static enum sp_code
count_jobs(struct sp_db *db, uint64_t *out, struct sp_err *err)
{
	sqlite3_stmt *stmt = NULL;
	enum sp_code code;
	int row = 0;

	code = sp_db_prepare(db, "SELECT count(*) FROM job", &stmt, err, "");
	if (code == SP_OK)
		code = sp_db_step(db, stmt, &row, err);
	if (code == SP_OK)
		*out = (uint64_t)sp_db_int(stmt, 0);
	sp_db_done(stmt);
	return code;
}

static enum sp_code
check_all(struct sp_ledger *ledger, struct sp_err *err)
{
	struct checker c = {.ledger = ledger};
	uint64_t jobs = 0;
	enum sp_code code;

	code = check_entries(&c, err);
	if (code == SP_OK)
		code = check_checkpoint(ledger, err);
	if (code == SP_OK)
		code = sp_table_jobs(ledger->db, 1, UINT64_MAX, check_job, &c, err);
	if (code == SP_OK)
		code = count_jobs(ledger->db, &jobs, err);
	if (code == SP_OK && jobs != c.replay.count)
		code = sp_err_set(err, SP_E_CORRUPT,
		    "the job table holds %" PRIu64 " jobs, the audit log tells of %zu", jobs,
		    c.replay.count);
	sp_replay_free(&c.replay);
	return code;
}

/* --- opening ---------------------------------------------------------------------------------- */

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
		code = load_checkpoint(ledger, err);
	if (code == SP_OK) {
		code = check_all(ledger, err);
		if (code != SP_OK)
			sp_err_prefix(err, "%s", spec->path);
	}
	ledger->committed = ledger->nodes.size;
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

const char *
sp_ledger_origin(const struct sp_ledger *ledger)
{
	return ledger->origin;
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
