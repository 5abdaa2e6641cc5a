/* table.c -- rows in, rows out. */
#include "ledger/table.h"

#include <inttypes.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#define JOB_COLUMNS                                                                               \
	"id, recipe, state, resume, source, profile, policy, name, version, destination, reason," \
	" candidate, approvals_needed, submitter, created_ms, changed_ms, first_seq, last_seq"
#define ATTEMPT_COLUMNS "lease, job, step, attempt, state, worker, pin, avoid, not_before_ms, seq"
#define ALIVE "state IN ('offered', 'leased', 'running')"

/* A name in the database that this program never wrote. */
static enum sp_code
unknown(sqlite3_stmt *stmt, int column, struct sp_err *err)
{
	return sp_err_set(err, SP_E_CORRUPT, "database: column %s holds \"%.40s\"",
	    sqlite3_column_name(stmt, column), (const char *)sqlite3_column_text(stmt, column));
}

static const char *
peek(sqlite3_stmt *stmt, int column)
{
	const char *text = (const char *)sqlite3_column_text(stmt, column);

	return text != NULL ? text : "";
}

/* --- jobs ------------------------------------------------------------------------------------- */

static enum sp_code
read_job(sqlite3_stmt *stmt, struct sp_job *out, struct sp_err *err)
{
	enum sp_code code;

	memset(out, 0, sizeof(*out));
	code = sp_db_copy(stmt, 0, out->id, sizeof(out->id), err);
	if (code == SP_OK && !sp_jobs_recipe_find(peek(stmt, 1), &out->recipe))
		code = unknown(stmt, 1, err);
	if (code == SP_OK && !sp_jobs_state_find(peek(stmt, 2), &out->state))
		code = unknown(stmt, 2, err);
	if (code == SP_OK && !sp_jobs_state_find(peek(stmt, 3), &out->resume))
		code = unknown(stmt, 3, err);
	if (code != SP_OK)
		return code;
	out->source = sp_db_text(stmt, 4);
	out->profile = sp_db_text(stmt, 5);
	out->policy = sp_db_blob(stmt, 6, &out->policy_len);
	out->name = sp_db_text(stmt, 7);
	out->version = (uint64_t)sp_db_int(stmt, 8);
	out->destination = sp_db_text(stmt, 9);
	out->reason = sp_db_text(stmt, 10);
	if (sqlite3_column_type(stmt, 11) != SQLITE_NULL)
		out->candidate = sp_db_blob(stmt, 11, &out->candidate_len);
	out->approvals_needed = (unsigned)sp_db_int(stmt, 12);
	out->submitter = sp_db_int(stmt, 13);
	out->created_ms = sp_db_int(stmt, 14);
	out->changed_ms = sp_db_int(stmt, 15);
	out->first_seq = (uint64_t)sp_db_int(stmt, 16);
	out->last_seq = (uint64_t)sp_db_int(stmt, 17);
	return SP_OK;
}

void
sp_table_job_clear(struct sp_job *job)
{
	free(job->source);
	free(job->profile);
	free(job->name);
	free(job->destination);
	free(job->reason);
	free(job->policy);
	free(job->candidate);
	memset(job, 0, sizeof(*job));
}

enum sp_code
sp_table_job(struct sp_db *db, const char *id, struct sp_job *out, struct sp_err *err)
{
	sqlite3_stmt *stmt = NULL;
	enum sp_code code;
	int row = 0;

	memset(out, 0, sizeof(*out));
	code =
	    sp_db_prepare(db, "SELECT " JOB_COLUMNS " FROM job WHERE id = ?", &stmt, err, "t", id);
	if (code == SP_OK)
		code = sp_db_step(db, stmt, &row, err);
	if (code == SP_OK)
		code = row ? read_job(stmt, out, err)
			   : sp_err_set(err, SP_E_NOT_FOUND, "no job %.32s here", id);
	sp_db_done(stmt);
	return code;
}

enum sp_code
sp_table_resolve(
    struct sp_db *db, const char *prefix, char id[SP_JOB_ID_LEN + 1], struct sp_err *err)
{
	size_t len = strspn(prefix, "0123456789abcdef");
	char other[SP_JOB_ID_LEN + 1];
	sqlite3_stmt *stmt = NULL;
	enum sp_code code;
	int row = 0;

	if (len < 4 || len > SP_JOB_ID_LEN || prefix[len] != '\0')
		return sp_err_set(err, SP_E_INVALID,
		    "a job is named by its id, or the first 4 or more of its 32 hex digits");
	/* 'g' sorts behind every hex digit */
	code = sp_db_prepare(db,
	    "SELECT id FROM job WHERE id >= ?1 AND id < ?1 || 'g' ORDER BY id LIMIT 2", &stmt, err,
	    "t", prefix);
	if (code == SP_OK)
		code = sp_db_step(db, stmt, &row, err);
	if (code == SP_OK && !row)
		code = sp_err_set(err, SP_E_NOT_FOUND,
		    "no job %s here: `sallyctl jobs --all` lists those there are", prefix);
	if (code == SP_OK)
		code = sp_db_copy(stmt, 0, id, SP_JOB_ID_LEN + 1, err);
	if (code == SP_OK)
		code = sp_db_step(db, stmt, &row, err);
	if (code == SP_OK && row)
		code = sp_db_copy(stmt, 0, other, sizeof(other), err);
	if (code == SP_OK && row)
		code = sp_err_set(err, SP_E_INVALID,
		    "several jobs begin with %s, %s and %s among them: give more of the id", prefix,
		    id, other);
	sp_db_done(stmt);
	return code;
}

enum sp_code
sp_table_jobs(struct sp_db *db, int ended, uint64_t before, sp_table_job_fn *fn, void *ctx,
    struct sp_err *err)
{
	int64_t below = before <= INT64_MAX ? (int64_t)before : INT64_MAX;
	sqlite3_stmt *stmt = NULL;
	struct sp_job job;
	enum sp_code code;
	int row;

	if (ended)
		code = sp_db_prepare(db,
		    "SELECT " JOB_COLUMNS " FROM job WHERE first_seq < ? ORDER BY first_seq DESC",
		    &stmt, err, "i", below);
	else
		code = sp_db_prepare(db,
		    "SELECT " JOB_COLUMNS " FROM job WHERE " SP_DB_UNDER_WAY
		    " AND first_seq < ? ORDER BY first_seq DESC",
		    &stmt, err, "i", below);
	while (code == SP_OK) {
		code = sp_db_step(db, stmt, &row, err);
		if (code != SP_OK || !row)
			break;
		code = read_job(stmt, &job, err);
		if (code == SP_OK && (ended || !sp_jobs_ended(job.recipe, job.state)))
			code = fn(ctx, &job, err);
		sp_table_job_clear(&job);
	}
	sp_db_done(stmt);
	return code;
}

enum sp_code
sp_table_insert_job(struct sp_db *db, const struct sp_job *job, struct sp_err *err)
{
	return sp_db_run(db,
	    "INSERT INTO job(" JOB_COLUMNS
	    ") VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, ?, ?, ?, ?, ?, ?)",
	    err, "ttttttbtittiiiiii", job->id, sp_jobs_recipe_name(job->recipe),
	    sp_jobs_state_name(job->state), sp_jobs_state_name(job->resume), job->source,
	    job->profile, (const void *)job->policy, job->policy_len, job->name,
	    (int64_t)job->version, job->destination, job->reason, (int64_t)job->approvals_needed,
	    job->submitter, job->created_ms, job->changed_ms, (int64_t)job->first_seq,
	    (int64_t)job->last_seq);
}

enum sp_code
sp_table_update_job(struct sp_db *db, const struct sp_job *job, struct sp_err *err)
{
	enum sp_code code;

	code = sp_db_run(db,
	    "UPDATE job SET state = ?, resume = ?, name = ?, version = ?, destination = ?,"
	    " reason = ?, changed_ms = ?, last_seq = ? WHERE id = ?",
	    err, "tttittiit", sp_jobs_state_name(job->state), sp_jobs_state_name(job->resume),
	    job->name, (int64_t)job->version, job->destination, job->reason, job->changed_ms,
	    (int64_t)job->last_seq, job->id);
	if (code == SP_OK && job->candidate != NULL)
		code = sp_db_run(db, "UPDATE job SET candidate = ? WHERE id = ?", err, "bt",
		    (const void *)job->candidate, job->candidate_len, job->id);
	return code;
}

/* --- attempts --------------------------------------------------------------------------------- */

static enum sp_code
read_attempt(sqlite3_stmt *stmt, struct sp_attempt *out, struct sp_err *err)
{
	enum sp_code code;

	memset(out, 0, sizeof(*out));
	code = sp_db_copy(stmt, 0, out->lease, sizeof(out->lease), err);
	if (code == SP_OK)
		code = sp_db_copy(stmt, 1, out->job, sizeof(out->job), err);
	if (code == SP_OK && !sp_jobs_step_find(peek(stmt, 2), &out->step))
		code = unknown(stmt, 2, err);
	if (code == SP_OK && !sp_jobs_lease_find(peek(stmt, 4), &out->state))
		code = unknown(stmt, 4, err);
	if (code == SP_OK)
		code = sp_db_copy(stmt, 5, out->worker, sizeof(out->worker), err);
	if (code == SP_OK)
		code = sp_db_copy(stmt, 6, out->pin, sizeof(out->pin), err);
	if (code == SP_OK)
		code = sp_db_copy(stmt, 7, out->avoid, sizeof(out->avoid), err);
	out->attempt = (unsigned)sp_db_int(stmt, 3);
	out->not_before_ms = sp_db_int(stmt, 8);
	out->seq = (uint64_t)sp_db_int(stmt, 9);
	return code;
}

enum sp_code
sp_table_attempt(struct sp_db *db, const char *lease, struct sp_attempt *out, struct sp_err *err)
{
	sqlite3_stmt *stmt = NULL;
	enum sp_code code;
	int row = 0;

	code = sp_db_prepare(
	    db, "SELECT " ATTEMPT_COLUMNS " FROM attempt WHERE lease = ?", &stmt, err, "t", lease);
	if (code == SP_OK)
		code = sp_db_step(db, stmt, &row, err);
	if (code == SP_OK)
		code = row ? read_attempt(stmt, out, err)
			   : sp_err_set(err, SP_E_NOT_FOUND, "no lease %.32s here", lease);
	sp_db_done(stmt);
	return code;
}

enum sp_code
sp_table_newest(
    struct sp_db *db, const char *job, struct sp_attempt *out, int *found, struct sp_err *err)
{
	sqlite3_stmt *stmt = NULL;
	enum sp_code code;

	*found = 0;
	code = sp_db_prepare(db,
	    "SELECT " ATTEMPT_COLUMNS " FROM attempt WHERE job = ? ORDER BY rowid DESC LIMIT 1",
	    &stmt, err, "t", job);
	if (code == SP_OK)
		code = sp_db_step(db, stmt, found, err);
	if (code == SP_OK && *found)
		code = read_attempt(stmt, out, err);
	sp_db_done(stmt);
	return code;
}

enum sp_code
sp_table_alive(struct sp_db *db, struct sp_attempt **out, size_t *count, struct sp_err *err)
{
	struct sp_attempt *list = NULL;
	sqlite3_stmt *stmt = NULL;
	enum sp_code code;
	size_t n = 0;
	int row;

	code = sp_db_prepare(db,
	    "SELECT " ATTEMPT_COLUMNS " FROM attempt WHERE " ALIVE " ORDER BY rowid", &stmt, err,
	    "");
	while (code == SP_OK) {
		code = sp_db_step(db, stmt, &row, err);
		if (code != SP_OK || !row)
			break;
		list = sp_xrealloc(list, n + 1, sizeof(*list));
		code = read_attempt(stmt, &list[n], err);
		n++;
	}
	sp_db_done(stmt);
	if (code != SP_OK) {
		free(list);
		return code;
	}
	*out = list;
	*count = n;
	return SP_OK;
}

enum sp_code
sp_table_insert_attempt(struct sp_db *db, const struct sp_attempt *a, struct sp_err *err)
{
	return sp_db_run(db,
	    "INSERT INTO attempt(" ATTEMPT_COLUMNS ") VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", err,
	    "tttittttii", a->lease, a->job, sp_jobs_step_name(a->step), (int64_t)a->attempt,
	    sp_jobs_lease_name(a->state), a->worker, a->pin, a->avoid, a->not_before_ms,
	    (int64_t)a->seq);
}

enum sp_code
sp_table_set_attempt(struct sp_db *db, const char *lease, enum sp_lease_state state,
    const char *worker, uint64_t seq, struct sp_err *err)
{
	enum sp_code code;

	code = sp_db_run(db, "UPDATE attempt SET state = ?, worker = ?, seq = ? WHERE lease = ?",
	    err, "ttit", sp_jobs_lease_name(state), worker, (int64_t)seq, lease);
	if (code == SP_OK && sp_db_changes(db) != 1)
		code = sp_err_set(err, SP_E_NOT_FOUND, "no lease %.32s here", lease);
	return code;
}

/* --- what steps and operators leave ----------------------------------------------------------- */

enum sp_code
sp_table_add_artifact(struct sp_db *db, const char *job, enum sp_step step,
    const struct sp_artifact *a, struct sp_err *err)
{
	enum sp_code code;

	/* a step that is done once more may leave the same again: it moves to the end, so that
	 * repairs do not make the list longer than a task may carry */
	code = sp_db_run(db,
	    "DELETE FROM artifact WHERE job = ? AND step = ? AND role = ? AND digest = ?"
	    " AND store = ?",
	    err, "ttttt", job, sp_jobs_step_name(step), a->role, a->digest.s, a->store);
	if (code != SP_OK)
		return code;
	return sp_db_run(db,
	    "INSERT INTO artifact(job, ord, step, role, digest, store, tree, bytes) VALUES(?1,"
	    " (SELECT coalesce(max(ord) + 1, 0) FROM artifact WHERE job = ?1), ?2, ?3, ?4, ?5, ?6,"
	    " ?7)",
	    err, "tttttii", job, sp_jobs_step_name(step), a->role, a->digest.s, a->store,
	    (int64_t)(a->tree != 0), (int64_t)a->bytes);
}

enum sp_code
sp_table_add_attestation(struct sp_db *db, const char *job, enum sp_step step, const void *envelope,
    size_t len, struct sp_err *err)
{
	return sp_db_run(db,
	    "INSERT INTO attestation(job, ord, step, envelope) VALUES(?1,"
	    " (SELECT count(*) FROM attestation WHERE job = ?1), ?2, ?3)",
	    err, "ttb", job, sp_jobs_step_name(step), envelope, len);
}

enum sp_code
sp_table_add_detail(struct sp_db *db, const char *job, enum sp_step step,
    const struct sp_detail *detail, struct sp_err *err)
{
	return sp_db_run(db,
	    "INSERT INTO detail(job, ord, step, key, value) VALUES(?1,"
	    " (SELECT count(*) FROM detail WHERE job = ?1), ?2, ?3, ?4)",
	    err, "tttt", job, sp_jobs_step_name(step), detail->key, detail->value);
}

enum sp_code
sp_table_add_approval(struct sp_db *db, const char *job, const char *keyid, const char *person,
    const void *envelope, size_t len, struct sp_err *err)
{
	enum sp_code code;

	code = sp_db_run(db,
	    "INSERT INTO approval(job, ord, keyid, person, envelope) VALUES(?1,"
	    " (SELECT count(*) FROM approval WHERE job = ?1), ?2, ?3, ?4)"
	    " ON CONFLICT(job, keyid) DO NOTHING",
	    err, "tttb", job, keyid, person, envelope, len);
	if (code == SP_OK && sp_db_changes(db) != 1)
		code = sp_err_set(
		    err, SP_E_EXISTS, "job %s is approved by key %.16s already", job, keyid);
	return code;
}

static enum sp_code
read_artifacts(struct sp_db *db, const char *job, struct sp_table_extras *out, struct sp_err *err)
{
	struct sp_table_artifact *a;
	sqlite3_stmt *stmt = NULL;
	enum sp_code code;
	int row;

	code = sp_db_prepare(db,
	    "SELECT step, role, digest, store, tree, bytes FROM artifact WHERE job = ?"
	    " ORDER BY ord",
	    &stmt, err, "t", job);
	while (code == SP_OK) {
		code = sp_db_step(db, stmt, &row, err);
		if (code != SP_OK || !row)
			break;
		out->artifacts = sp_xrealloc(out->artifacts, out->artifact_count + 1, sizeof(*a));
		a = &out->artifacts[out->artifact_count++];
		memset(a, 0, sizeof(*a));
		if (!sp_jobs_step_find(peek(stmt, 0), &a->step))
			code = unknown(stmt, 0, err);
		if (code == SP_OK)
			code = sp_db_copy(stmt, 1, a->a.role, sizeof(a->a.role), err);
		if (code == SP_OK)
			code = sp_db_copy(stmt, 2, a->a.digest.s, sizeof(a->a.digest.s), err);
		if (code == SP_OK)
			code = sp_db_copy(stmt, 3, a->a.store, sizeof(a->a.store), err);
		a->a.tree = sp_db_int(stmt, 4) != 0;
		a->a.bytes = (uint64_t)sp_db_int(stmt, 5);
	}
	sp_db_done(stmt);
	return code;
}

static enum sp_code
read_attestations(
    struct sp_db *db, const char *job, struct sp_table_extras *out, struct sp_err *err)
{
	struct sp_table_attestation *a;
	sqlite3_stmt *stmt = NULL;
	enum sp_code code;
	int row;

	code =
	    sp_db_prepare(db, "SELECT step, envelope FROM attestation WHERE job = ? ORDER BY ord",
		&stmt, err, "t", job);
	while (code == SP_OK) {
		code = sp_db_step(db, stmt, &row, err);
		if (code != SP_OK || !row)
			break;
		out->attestations =
		    sp_xrealloc(out->attestations, out->attestation_count + 1, sizeof(*a));
		a = &out->attestations[out->attestation_count++];
		memset(a, 0, sizeof(*a));
		if (!sp_jobs_step_find(peek(stmt, 0), &a->step))
			code = unknown(stmt, 0, err);
		a->envelope = sp_db_blob(stmt, 1, &a->len);
	}
	sp_db_done(stmt);
	return code;
}

static enum sp_code
read_details(struct sp_db *db, const char *job, struct sp_table_extras *out, struct sp_err *err)
{
	struct sp_table_detail *d;
	sqlite3_stmt *stmt = NULL;
	enum sp_code code;
	int row;

	code = sp_db_prepare(db, "SELECT step, key, value FROM detail WHERE job = ? ORDER BY ord",
	    &stmt, err, "t", job);
	while (code == SP_OK) {
		code = sp_db_step(db, stmt, &row, err);
		if (code != SP_OK || !row)
			break;
		out->details = sp_xrealloc(out->details, out->detail_count + 1, sizeof(*d));
		d = &out->details[out->detail_count++];
		memset(d, 0, sizeof(*d));
		if (!sp_jobs_step_find(peek(stmt, 0), &d->step))
			code = unknown(stmt, 0, err);
		d->key = sp_db_text(stmt, 1);
		d->value = sp_db_text(stmt, 2);
	}
	sp_db_done(stmt);
	return code;
}

static enum sp_code
read_approvals(struct sp_db *db, const char *job, struct sp_table_extras *out, struct sp_err *err)
{
	struct sp_table_approval *a;
	sqlite3_stmt *stmt = NULL;
	enum sp_code code;
	int row;

	code = sp_db_prepare(db,
	    "SELECT keyid, person, envelope FROM approval WHERE job = ? ORDER BY ord", &stmt, err,
	    "t", job);
	while (code == SP_OK) {
		code = sp_db_step(db, stmt, &row, err);
		if (code != SP_OK || !row)
			break;
		out->approvals = sp_xrealloc(out->approvals, out->approval_count + 1, sizeof(*a));
		a = &out->approvals[out->approval_count++];
		memset(a, 0, sizeof(*a));
		code = sp_db_copy(stmt, 0, a->keyid, sizeof(a->keyid), err);
		if (code == SP_OK)
			code = sp_db_copy(stmt, 1, a->person, sizeof(a->person), err);
		a->envelope = sp_db_blob(stmt, 2, &a->len);
	}
	sp_db_done(stmt);
	return code;
}

/* A step begins with attempt 1, and again with it when an operator wants it anew. */
static enum sp_code
read_failures(struct sp_db *db, const char *job, struct sp_table_extras *out, struct sp_err *err)
{
	sqlite3_stmt *stmt = NULL;
	enum sp_code code;
	int row = 0;

	code = sp_db_prepare(db,
	    "SELECT count(*) FROM attempt WHERE job = ?1 AND state = 'failed' AND rowid >="
	    " (SELECT max(rowid) FROM attempt WHERE job = ?1 AND attempt = 1)",
	    &stmt, err, "t", job);
	if (code == SP_OK)
		code = sp_db_step(db, stmt, &row, err);
	if (code == SP_OK && row)
		out->failures = (unsigned)sp_db_int(stmt, 0);
	sp_db_done(stmt);
	return code;
}

enum sp_code
sp_table_extras(struct sp_db *db, const char *job, struct sp_table_extras *out, struct sp_err *err)
{
	enum sp_code code;

	memset(out, 0, sizeof(*out));
	code = read_artifacts(db, job, out, err);
	if (code == SP_OK)
		code = read_attestations(db, job, out, err);
	if (code == SP_OK)
		code = read_details(db, job, out, err);
	if (code == SP_OK)
		code = read_approvals(db, job, out, err);
	if (code == SP_OK)
		code = read_failures(db, job, out, err);
	if (code != SP_OK)
		sp_table_extras_clear(out);
	return code;
}

enum sp_code
sp_table_evidence(
    struct sp_db *db, const char *job, struct sp_table_extras *out, struct sp_err *err)
{
	enum sp_code code;

	memset(out, 0, sizeof(*out));
	code = read_attestations(db, job, out, err);
	if (code == SP_OK)
		code = read_approvals(db, job, out, err);
	if (code != SP_OK)
		sp_table_extras_clear(out);
	return code;
}

void
sp_table_extras_clear(struct sp_table_extras *extras)
{
	size_t i;

	for (i = 0; i < extras->attestation_count; i++)
		free(extras->attestations[i].envelope);
	for (i = 0; i < extras->detail_count; i++) {
		free(extras->details[i].key);
		free(extras->details[i].value);
	}
	for (i = 0; i < extras->approval_count; i++)
		free(extras->approvals[i].envelope);
	free(extras->artifacts);
	free(extras->attestations);
	free(extras->details);
	free(extras->approvals);
	memset(extras, 0, sizeof(*extras));
}

/* --- versions and topics ---------------------------------------------------------------------- */

enum sp_code
sp_table_next_version(struct sp_db *db, const char *name, uint64_t *out, struct sp_err *err)
{
	sqlite3_stmt *stmt = NULL;
	enum sp_code code;
	int row = 0;

	code = sp_db_prepare(db,
	    "INSERT INTO version(name, last) VALUES(?, 1)"
	    " ON CONFLICT(name) DO UPDATE SET last = last + 1 RETURNING last",
	    &stmt, err, "t", name);
	if (code == SP_OK)
		code = sp_db_step(db, stmt, &row, err);
	if (code == SP_OK) {
		SP_ASSERT(row);
		*out = (uint64_t)sp_db_int(stmt, 0);
		/* the change is made when the statement has run to its end */
		code = sp_db_step(db, stmt, &row, err);
	}
	sp_db_done(stmt);
	return code;
}

enum sp_code
sp_table_topic(
    struct sp_db *db, const char *topic, uint8_t **content, size_t *len, struct sp_err *err)
{
	sqlite3_stmt *stmt = NULL;
	enum sp_code code;
	int row = 0;

	code =
	    sp_db_prepare(db, "SELECT content FROM topic WHERE topic = ?", &stmt, err, "t", topic);
	if (code == SP_OK)
		code = sp_db_step(db, stmt, &row, err);
	if (code == SP_OK && !row)
		code = sp_err_set(
		    err, SP_E_NOT_FOUND, "nothing was published under \"%.64s\" yet", topic);
	if (code == SP_OK)
		*content = sp_db_blob(stmt, 0, len);
	sp_db_done(stmt);
	return code;
}

enum sp_code
sp_table_set_topic(struct sp_db *db, const char *topic, const void *content, size_t len,
    uint64_t seq, struct sp_err *err)
{
	return sp_db_run(db,
	    "INSERT INTO topic(topic, content, seq) VALUES(?, ?, ?)"
	    " ON CONFLICT(topic) DO UPDATE SET content = excluded.content, seq = excluded.seq",
	    err, "tbi", topic, content, len, (int64_t)seq);
}
