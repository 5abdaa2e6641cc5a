/* collection.c -- what jobs name, and collections, in the database. */
#include "ledger/collection.h"

#include <sqlite3.h>

int
sp_collection_counts(
    enum sp_recipe recipe, enum sp_job_state state, int64_t changed_ms, int64_t ended_before_ms)
{
	return !sp_jobs_ended(recipe, state) || changed_ms > ended_before_ms ||
	       ended_before_ms == 0;
}

/* Columns `recipe` and `state` of a job. */
static enum sp_code
read_state(sqlite3_stmt *stmt, enum sp_recipe *recipe, enum sp_job_state *state, struct sp_err *err)
{
	const char *recipe_name = (const char *)sqlite3_column_text(stmt, 0);
	const char *state_name = (const char *)sqlite3_column_text(stmt, 1);

	if (recipe_name == NULL || !sp_jobs_recipe_find(recipe_name, recipe) ||
	    state_name == NULL || !sp_jobs_state_find(state_name, state))
		return sp_err_set(err, SP_E_CORRUPT,
		    "database: a job of recipe \"%.40s\" in state \"%.40s\"",
		    recipe_name != NULL ? recipe_name : "", state_name != NULL ? state_name : "");
	return SP_OK;
}

enum sp_code
sp_collection_is_named(
    struct sp_db *db, const char *digest, int64_t ended_before_ms, int *named, struct sp_err *err)
{
	sqlite3_stmt *stmt = NULL;
	enum sp_job_state state;
	enum sp_recipe recipe;
	enum sp_code code;
	int row;

	*named = 0;
	code = sp_db_prepare(db,
	    "SELECT job.recipe, job.state, job.changed_ms FROM artifact"
	    " JOIN job ON job.id = artifact.job WHERE artifact.digest = ?",
	    &stmt, err, "t", digest);
	while (code == SP_OK && !*named) {
		code = sp_db_step(db, stmt, &row, err);
		if (code != SP_OK || !row)
			break;
		code = read_state(stmt, &recipe, &state, err);
		if (code == SP_OK)
			*named = sp_collection_counts(
			    recipe, state, sp_db_int(stmt, 2), ended_before_ms);
	}
	sp_db_done(stmt);
	return code;
}

enum sp_code
sp_collection_goes_on(struct sp_db *db, const char *job, int *goes_on, struct sp_err *err)
{
	sqlite3_stmt *stmt = NULL;
	enum sp_job_state state;
	enum sp_recipe recipe;
	enum sp_code code;
	int row = 0;

	*goes_on = 0;
	code =
	    sp_db_prepare(db, "SELECT recipe, state FROM job WHERE id = ?", &stmt, err, "t", job);
	if (code == SP_OK)
		code = sp_db_step(db, stmt, &row, err);
	if (code == SP_OK && row)
		code = read_state(stmt, &recipe, &state, err);
	if (code == SP_OK && row)
		*goes_on = !sp_jobs_ended(recipe, state);
	sp_db_done(stmt);
	return code;
}

enum sp_code
sp_collection_add(
    struct sp_db *db, const char *id, int64_t ended_before_ms, uint64_t seq, struct sp_err *err)
{
	return sp_db_run(db, "INSERT INTO collection(id, ended_before_ms, seq) VALUES(?, ?, ?)",
	    err, "tii", id, ended_before_ms, (int64_t)seq);
}

enum sp_code
sp_collection_find(struct sp_db *db, const char *id, int *found, struct sp_err *err)
{
	sqlite3_stmt *stmt = NULL;
	enum sp_code code;

	*found = 0;
	code = sp_db_prepare(db, "SELECT 1 FROM collection WHERE id = ?", &stmt, err, "t", id);
	if (code == SP_OK)
		code = sp_db_step(db, stmt, found, err);
	sp_db_done(stmt);
	return code;
}

enum sp_code
sp_collection_reported(
    struct sp_db *db, const char *id, const char *worker, int *reported, struct sp_err *err)
{
	sqlite3_stmt *stmt = NULL;
	enum sp_code code;

	*reported = 0;
	code = sp_db_prepare(db, "SELECT 1 FROM collected WHERE id = ? AND worker = ?", &stmt, err,
	    "tt", id, worker);
	if (code == SP_OK)
		code = sp_db_step(db, stmt, reported, err);
	sp_db_done(stmt);
	return code;
}

enum sp_code
sp_collection_report(
    struct sp_db *db, const char *id, const char *worker, uint64_t seq, struct sp_err *err)
{
	return sp_db_run(db, "INSERT INTO collected(id, worker, seq) VALUES(?, ?, ?)", err, "tti",
	    id, worker, (int64_t)seq);
}

enum sp_code
sp_collection_latest_cut(struct sp_db *db, int64_t *ms, struct sp_err *err)
{
	sqlite3_stmt *stmt = NULL;
	enum sp_code code;
	int row = 0;

	*ms = 0;
	code = sp_db_prepare(
	    db, "SELECT coalesce(max(ended_before_ms), 0) FROM collection", &stmt, err, "");
	if (code == SP_OK)
		code = sp_db_step(db, stmt, &row, err);
	if (code == SP_OK && row)
		*ms = sp_db_int(stmt, 0);
	sp_db_done(stmt);
	return code;
}
