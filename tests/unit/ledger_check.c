/* ledger_check.c -- the database's lists, its versions, and when a checkpoint is stored. */
#include "base/file.h"
#include "ledger/change.h"
#include "ledger/collection.h"
#include "ledger/replay.h"

#include <setjmp.h>
#include <sodium.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "ledger_rig.h"

#include <cmocka.h>

static void
append(struct fixture *f)
{
	struct sp_entry *entry = sp_entry_new(&self, "admission");
	struct sp_err err;
	uint64_t seq;

	if (sp_ledger_append(f->ledger, entry, 1, 1, &seq, &err) != SP_OK)
		fail_msg("%s", err.msg);
	sp_entry_free(&entry);
}

/* What a statement does to the closed database, from outside. */
static void
outside(struct fixture *f, const char *statement)
{
	char *why = NULL;
	sqlite3 *db;

	sp_ledger_close(&f->ledger);
	assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
	if (sqlite3_exec(db, statement, NULL, NULL, &why) != SQLITE_OK)
		fail_msg("%s: %s", statement, why);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* --- lists ------------------------------------------------------------------------------------ */

struct listed {
	uint64_t first_seqs[SP_RECIPE_COUNT * SP_JOB_STATE_COUNT];
	size_t count, max;
};

static enum sp_code
list(void *ctx, const struct sp_job *job, struct sp_err *err)
{
	struct listed *listed = ctx;

	if (listed->count == listed->max)
		return sp_err_set(err, SP_E_LIMIT, "enough");
	listed->first_seqs[listed->count++] = job->first_seq;
	return SP_OK;
}

/* What the index of jobs under way leaves out is what has ended, for every recipe and state: the
 * list is of SQL, sp_jobs_ended is C. */
static void
test_lists(void **state)
{
	struct fixture *f = *state;
	struct sp_db *db = sp_ledger_db(f->ledger);
	struct listed alive = {.max = 1000}, all = {.max = 1000}, page;
	char id[40], text[] = "x";
	uint8_t policy[] = "{}";
	size_t under_way = 0, seen = 0;
	uint64_t before = UINT64_MAX, seq = 0;
	struct sp_err err;

	for (int recipe = 0; recipe < SP_RECIPE_COUNT; recipe++) {
		for (int s = SP_JOB_NONE + 1; s < SP_JOB_STATE_COUNT; s++, seq++) {
			struct sp_job job = {.recipe = (enum sp_recipe)recipe,
			    .state = (enum sp_job_state)s,
			    .resume = SP_JOB_SUBMITTED,
			    .source = text,
			    .profile = text,
			    .name = text,
			    .destination = text,
			    .reason = text,
			    .policy = policy,
			    .policy_len = 2,
			    .first_seq = seq};

			snprintf(id, sizeof(id), "%032x", (unsigned)seq);
			memcpy(job.id, id, sizeof(job.id));
			if (sp_table_insert_job(db, &job, &err) != SP_OK)
				fail_msg("%s", err.msg);
			under_way += !sp_jobs_ended(job.recipe, job.state);
		}
	}
	assert_int_equal(sp_table_jobs(db, 0, UINT64_MAX, list, &alive, NULL), SP_OK);
	assert_int_equal(alive.count, under_way);
	assert_int_equal(sp_table_jobs(db, 1, UINT64_MAX, list, &all, NULL), SP_OK);
	assert_int_equal(all.count, seq);
	/* in pages: the same, each once */
	do {
		memset(&page, 0, sizeof(page));
		page.max = 7;
		if (sp_table_jobs(db, 1, before, list, &page, &err) != SP_OK)
			assert_int_equal(page.count, 7);
		for (size_t i = 0; i < page.count; i++)
			assert_int_equal(page.first_seqs[i], seq - ++seen);
		before = page.count > 0 ? page.first_seqs[page.count - 1] : 0;
	} while (page.count == 7);
	assert_int_equal(seen, seq);
	outside(f, "DELETE FROM job");
}

/* 1 when SQLite reads the table by that index alone. */
static int
uses(struct fixture *f, const char *query, const char *index)
{
	sqlite3_stmt *stmt;
	int found = 0, scans = 0;
	sqlite3 *db;

	assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_prepare_v2(db, query, -1, &stmt, NULL), SQLITE_OK);
	while (sqlite3_step(stmt) == SQLITE_ROW) {
		const char *text = (const char *)sqlite3_column_text(stmt, 3);

		found |= strstr(text, index) != NULL;
		scans |= strstr(text, "TEMP B-TREE") != NULL;
	}
	sqlite3_finalize(stmt);
	sqlite3_close(db);
	return found && !scans;
}

/* A database of the first version gets what the later ones have beyond it, and keeps what it holds.
 */
static void
test_older_version(void **state)
{
	static const char id[] = "0123456789abcdef0123456789abcdef";
	struct fixture *f = *state;
	struct sp_err err;

	assert_int_equal(sp_ledger_begin(f->ledger, &err), SP_OK);
	append(f);
	assert_int_equal(sp_ledger_commit(f->ledger, &err), SP_OK);
	outside(f, "DROP INDEX job_order; DROP INDEX job_under_way; DROP INDEX artifact_digest;"
		   " DROP TABLE collected; DROP TABLE collection;"
		   " DROP INDEX attempt_job; DROP INDEX attempt_alive;"
		   " CREATE UNIQUE INDEX attempt_alive ON attempt(job)"
		   " WHERE state IN ('offered', 'leased', 'running');"
		   " CREATE INDEX attempt_job ON attempt(job); PRAGMA user_version = 1");
	reopen(f);
	assert_int_equal(sp_ledger_size(f->ledger), 1);
	assert_int_equal(sp_collection_add(sp_ledger_db(f->ledger), id, 1, 0, &err), SP_OK);
	assert_int_equal(
	    sp_collection_report(sp_ledger_db(f->ledger), id, "fetcherd@bastion", 0, &err), SP_OK);
	sp_ledger_close(&f->ledger);
	assert_true(uses(f,
	    "EXPLAIN QUERY PLAN SELECT * FROM job WHERE " SP_DB_UNDER_WAY
	    " AND first_seq < 9 ORDER BY first_seq DESC",
	    "job_under_way"));
	assert_true(uses(f,
	    "EXPLAIN QUERY PLAN SELECT * FROM job WHERE first_seq < 9"
	    " ORDER BY first_seq DESC",
	    "job_order"));
	assert_true(uses(
	    f, "EXPLAIN QUERY PLAN SELECT * FROM artifact WHERE digest = 'x'", "artifact_digest"));
	assert_true(
	    uses(f, "EXPLAIN QUERY PLAN SELECT * FROM attempt WHERE job = 'x'", "attempt_job"));
	assert_true(uses(f,
	    "EXPLAIN QUERY PLAN SELECT * FROM attempt"
	    " WHERE state IN ('offered', 'leased', 'running')",
	    "attempt_alive"));
	reopen(f);
}

static void
add_row(struct sp_db *db, char id[SP_JOB_ID_LEN + 1])
{
	char source[] = "hf:org/name@main", empty[] = "";
	uint8_t policy[] = "{}";
	struct sp_job row = {.source = source,
	    .profile = empty,
	    .name = empty,
	    .destination = empty,
	    .reason = empty,
	    .policy = policy,
	    .policy_len = 2};
	struct sp_err err;

	memcpy(row.id, "0123456789abcdef0123456789abcdef", sizeof(row.id));
	memcpy(id, row.id, sizeof(row.id));
	assert_int_equal(sp_table_insert_job(db, &row, &err), SP_OK);
}

/* The database itself refuses a second attempt that is alive; ended ones may be many. */
static void
test_one_attempt_alive(void **state)
{
	struct sp_attempt attempt = {.step = SP_STEP_FETCH, .state = SP_LEASE_OFFERED};
	struct fixture *f = *state;
	struct sp_db *db = sp_ledger_db(f->ledger);
	struct sp_err err;

	add_row(db, attempt.job);
	for (int i = 0; i < 3; i++) {
		snprintf(attempt.lease, sizeof(attempt.lease), "%032d", i);
		assert_int_equal(sp_table_insert_attempt(db, &attempt, &err), SP_OK);
		attempt.lease[0] = 'a';
		assert_int_equal(sp_table_insert_attempt(db, &attempt, &err), SP_E_STATE);
		attempt.lease[0] = '0';
		assert_int_equal(
		    sp_table_set_attempt(db, attempt.lease, SP_LEASE_LOST, "w", 1, &err), SP_OK);
	}
	assert_int_equal(
	    sp_table_set_attempt(db, attempt.lease, SP_LEASE_LEASED, "w", 1, &err), SP_OK);
	snprintf(attempt.lease, sizeof(attempt.lease), "%032d", 0);
	assert_int_equal(
	    sp_table_set_attempt(db, attempt.lease, SP_LEASE_RUNNING, "w", 1, &err), SP_E_STATE);
}

/* Of the newest step's attempts: those that were lost do not count, nor those before a retry. */
static void
test_failures_of_a_step(void **state)
{
	static const enum sp_lease_state ends[] = {
	    SP_LEASE_FAILED, SP_LEASE_LOST, SP_LEASE_LOST, SP_LEASE_FAILED, SP_LEASE_LOST};
	static const unsigned attempts[] = {1, 2, 1, 2, 3}, failures[] = {1, 1, 0, 1, 1};
	struct sp_attempt attempt = {.step = SP_STEP_FETCH};
	struct sp_table_extras extras;
	struct fixture *f = *state;
	struct sp_db *db = sp_ledger_db(f->ledger);
	struct sp_err err;

	add_row(db, attempt.job);
	for (int i = 0; i < 5; i++) {
		snprintf(attempt.lease, sizeof(attempt.lease), "%032d", i);
		attempt.attempt = attempts[i];
		attempt.state = ends[i];
		assert_int_equal(sp_table_insert_attempt(db, &attempt, &err), SP_OK);
		assert_int_equal(sp_table_extras(db, attempt.job, &extras, &err), SP_OK);
		assert_int_equal(extras.failures, failures[i]);
		sp_table_extras_clear(&extras);
	}
}

/* --- checkpoints ------------------------------------------------------------------------------ */

/* Each commit stores the checkpoint over those before it; alone it is stored when asked. */
static void
test_checkpoint_rides_along(void **state)
{
	struct fixture *f = *state;
	struct sp_err err;
	uint64_t size;
	size_t len;

	for (uint64_t i = 1; i <= 5; i++) {
		assert_int_equal(sp_ledger_begin(f->ledger, &err), SP_OK);
		append(f);
		assert_int_equal(sp_ledger_commit(f->ledger, &err), SP_OK);
		assert_true(sp_ledger_is_behind(f->ledger));
		sp_ledger_checkpoint(f->ledger, &len, &size);
		assert_int_equal(size, i - 1);
	}
	assert_int_equal(sp_ledger_sign(f->ledger, NULL, &err), SP_OK);
	assert_false(sp_ledger_is_behind(f->ledger));
	sp_ledger_checkpoint(f->ledger, &len, &size);
	assert_int_equal(size, 5);
	/* a commit that fails shows nothing: SQLite has given the transaction up */
	assert_int_equal(sp_ledger_begin(f->ledger, &err), SP_OK);
	append(f);
	assert_int_equal(sp_ledger_commit(f->ledger, &err), SP_OK);
	assert_int_equal(sp_ledger_begin(f->ledger, &err), SP_OK);
	append(f);
	sp_db_rollback(sp_ledger_db(f->ledger));
	assert_int_not_equal(sp_ledger_commit(f->ledger, &err), SP_OK);
	sp_ledger_rollback(f->ledger);
	assert_int_equal(sp_ledger_size(f->ledger), 6);
	sp_ledger_checkpoint(f->ledger, &len, &size);
	assert_int_equal(size, 5);
	reopen(f);
	sp_ledger_checkpoint(f->ledger, &len, &size);
	assert_int_equal(size, 6);
}

/* A checkpoint that another key signed is found at the next start, and who may sign can be asked.
 */
static enum sp_code
nobody(void *ctx, const uint8_t *note, size_t len, struct sp_err *err)
{
	(void)note, (void)len;
	++*(int *)ctx;
	return sp_err_set(err, SP_E_DENIED, "nobody may");
}

static void
test_another_key(void **state)
{
	struct fixture *f = *state;
	uint8_t other_pk[32], other_sk[64];
	struct sp_ledger_spec spec = {.path = f->path,
	    .origin = ORIGIN,
	    .self = self,
	    .pk = other_pk,
	    .sign = sign,
	    .check_note = nobody};
	struct sp_err err;
	int asked = 0;

	crypto_sign_keypair(other_pk, other_sk);
	sp_ledger_close(&f->ledger);
	spec.check_ctx = &asked;
	assert_int_equal(sp_ledger_open(&spec, &f->ledger, &err), SP_E_DENIED);
	assert_non_null(strstr(err.msg, "nobody may"));
	assert_non_null(strstr(err.msg, f->path));
	assert_int_equal(asked, 1);
	spec.check_note = NULL;
	assert_int_equal(sp_ledger_open(&spec, &f->ledger, &err), SP_E_DENIED);
	assert_non_null(strstr(err.msg, "--database"));
	reopen(f);
}

/* A log has a checkpoint from before its first entry: without one, another log would be signed for
 * as if it were the first. */
static void
test_no_checkpoint(void **state)
{
	struct fixture *f = *state;
	struct sp_err err;

	assert_int_equal(sp_ledger_begin(f->ledger, &err), SP_OK);
	append(f);
	assert_int_equal(sp_ledger_commit(f->ledger, &err), SP_OK);
	outside(f, "DROP TRIGGER checkpoint_no_delete; DELETE FROM checkpoint");
	assert_int_equal(open_ledger(f, &err), SP_E_CORRUPT);
	assert_non_null(strstr(err.msg, "checkpoint"));
	assert_non_null(strstr(err.msg, f->path));
}

/* --- the WAL ---------------------------------------------------------------------------------- */

static off_t
wal_bytes(const struct fixture *f)
{
	char *path = sp_xasprintf("%s-wal", f->path);
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	free(path);
	return st.st_size;
}

/* It does not grow with the log, and one that a single large transaction made is cut back. */
static void
test_wal_is_bounded(void **state)
{
	struct fixture *f = *state;
	uint8_t *big = sp_xcalloc(1 << 20, 1);
	struct sp_err err;
	int i;

	for (i = 0; i < 400; i++) {
		assert_int_equal(sp_ledger_begin(f->ledger, &err), SP_OK);
		append(f);
		assert_int_equal(sp_ledger_commit(f->ledger, &err), SP_OK);
		assert_in_range(wal_bytes(f), 0, 5 << 20);
	}
	assert_int_equal(sp_ledger_begin(f->ledger, &err), SP_OK);
	for (i = 0; i < 40; i++) {
		char topic[16];

		snprintf(topic, sizeof(topic), "topic%d", i);
		assert_int_equal(
		    sp_table_set_topic(sp_ledger_db(f->ledger), topic, big, 1 << 20, 0, &err),
		    SP_OK);
	}
	assert_int_equal(sp_ledger_commit(f->ledger, &err), SP_OK);
	assert_true(wal_bytes(f) > 32 << 20);
	for (i = 0; i < 3; i++) {
		assert_int_equal(sp_ledger_begin(f->ledger, &err), SP_OK);
		append(f);
		assert_int_equal(sp_ledger_commit(f->ledger, &err), SP_OK);
	}
	assert_in_range(wal_bytes(f), 1, 32 << 20);
	free(big);
}

/* --- from outside ----------------------------------------------------------------------------- */

static enum sp_code
anybody(void *ctx, const uint8_t *note, size_t len, struct sp_err *err)
{
	(void)ctx, (void)note, (void)len, (void)err;
	return SP_OK;
}

static void
test_readonly(void **state)
{
	struct fixture *f = *state;
	char *odd = sp_xasprintf("%s/100%% sure?#1.db", f->dir);
	struct sp_inspection found;
	struct sp_db *db;
	struct sp_err err;

	assert_int_equal(sp_ledger_begin(f->ledger, &err), SP_OK);
	append(f);
	assert_int_equal(sp_ledger_commit(f->ledger, &err), SP_OK);
	sp_ledger_close(&f->ledger);
	assert_int_equal(rename(f->path, odd), 0);
	if (sp_db_open_readonly(odd, &db, &err) != SP_OK)
		fail_msg("%s", err.msg);
	if (sp_inspect(db, ORIGIN, anybody, NULL, &found, &err) != SP_OK)
		fail_msg("%s", err.msg);
	assert_int_equal(found.entries, 1);
	assert_int_equal(found.checkpoint_size, 0);
	sp_inspection_clear(&found);
	assert_int_equal(
	    sp_inspect(db, "sallyport/bastion/x", anybody, NULL, &found, &err), SP_E_CONFIG);
	sp_inspection_clear(&found);
	assert_int_not_equal(sp_db_run(db, "DELETE FROM job", &err, ""), SP_OK);
	sp_db_close(&db);
	assert_int_equal(sp_db_open_readonly(f->path, &db, &err), SP_E_NOT_FOUND);
	assert_int_equal(sp_file_write(f->path, 0644, "no database at all", 18, NULL), SP_OK);
	assert_int_equal(sp_db_open_readonly(f->path, &db, &err), SP_E_CORRUPT);
	assert_int_equal(remove(f->path), 0);
	free(odd);
}

/* --- many entries at once --------------------------------------------------------------------- */

#define MANY 5000

/* The same as one by one, also when one in the middle is broken; every leaf is hashed all the same.
 */
static void
test_many_entries(void **state)
{
	struct sp_log_bytes *bytes = sp_xcalloc(MANY, sizeof(*bytes));
	uint8_t(*leaves)[SP_DIGEST_LEN] = sp_xcalloc(MANY, sizeof(*leaves)), leaf[SP_DIGEST_LEN];
	struct sp_replay replay = {.size = 0};
	struct sp_entry *entry;
	struct sp_err err;
	uint64_t i;

	(void)state;
	for (i = 0; i < MANY; i++) {
		entry = sp_entry_new(&self, "admission");
		bytes[i].data = sp_entry_pack(entry, i, ORIGIN, 1, 1, &bytes[i].len);
		sp_entry_free(&entry);
	}
	assert_int_equal(sp_replay_entries(&replay, bytes, MANY, leaves, &err), SP_OK);
	assert_int_equal(replay.size, MANY);
	assert_string_equal(replay.origin, ORIGIN);
	sp_replay_free(&replay);
	bytes[3000].len -= 3;
	memset(leaves, 0, MANY * sizeof(*leaves));
	assert_int_equal(sp_replay_entries(&replay, bytes, MANY, leaves, &err), SP_E_INVALID);
	assert_non_null(strstr(err.msg, "3000"));
	assert_int_equal(replay.size, 3000);
	for (i = 0; i < MANY; i++) {
		sp_merkle_leaf(bytes[i].data, bytes[i].len, leaf);
		assert_memory_equal(leaf, leaves[i], sizeof(leaf));
		free((void *)(uintptr_t)bytes[i].data);
	}
	sp_replay_free(&replay);
	free(leaves);
	free(bytes);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_lists),
	    TEST(test_older_version),
	    TEST(test_one_attempt_alive),
	    TEST(test_failures_of_a_step),
	    TEST(test_checkpoint_rides_along),
	    TEST(test_another_key),
	    TEST(test_no_checkpoint),
	    TEST(test_wal_is_bounded),
	    TEST(test_readonly),
	    cmocka_unit_test(test_many_entries),
	};

	if (sodium_init() < 0)
		return 1;
	crypto_sign_keypair(log_pk, log_sk);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
