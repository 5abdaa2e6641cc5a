/* ledger_collection.c -- what jobs name, which of them still do, and what is kept of collections.
 */
#include "base/file.h"
#include "ledger/collection.h"
#include "ledger/table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define JOB_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define JOB_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define GC_1 "11111111111111111111111111111111"
#define GC_2 "22222222222222222222222222222222"
#define TREE "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define OTHER "ff112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static char dir[] = "/tmp/sp-ledger-collection-XXXXXX";
static struct sp_db *db;

static void
check(enum sp_code code, const struct sp_err *err)
{
	if (code != SP_OK)
		fail_msg("%s: %s", sp_err_word(code), err->msg);
}

static int
setup(void **state)
{
	char path[64];
	struct sp_err err;

	(void)state;
	if (mkdtemp(dir) == NULL)
		return -1;
	snprintf(path, sizeof(path), "%s/ledger.db", dir);
	check(sp_db_open(path, &db, &err), &err);
	return 0;
}

static int
teardown(void **state)
{
	struct sp_err err;

	(void)state;
	sp_db_close(&db);
	return sp_file_remove_all(dir, &err) == SP_OK ? 0 : -1;
}

/* A job that last changed then, and left the tree. */
static void
put_job(const char *id, enum sp_job_state job_state, int64_t changed_ms, uint64_t seq)
{
	char empty[] = "", policy[] = "{}";
	struct sp_job job = {.recipe = SP_RECIPE_MODEL,
	    .state = job_state,
	    .resume = SP_JOB_NONE,
	    .source = empty,
	    .profile = empty,
	    .name = empty,
	    .destination = empty,
	    .reason = empty,
	    .policy = (uint8_t *)policy,
	    .policy_len = 2,
	    .changed_ms = changed_ms,
	    .first_seq = seq};
	struct sp_artifact artifact = {.tree = 1, .bytes = 5};
	struct sp_err err;

	strcpy(job.id, id);
	strcpy(artifact.role, "source");
	strcpy(artifact.store, "fetcherd");
	strcpy(artifact.digest.s, TREE);
	check(sp_table_insert_job(db, &job, &err), &err);
	check(sp_table_add_artifact(db, id, SP_STEP_FETCH, &artifact, &err), &err);
}

static int
is_named(const char *digest, int64_t ended_before_ms)
{
	struct sp_err err;
	int named;

	check(sp_collection_is_named(db, digest, ended_before_ms, &named, &err), &err);
	return named;
}

static int
goes_on(const char *job)
{
	struct sp_err err;
	int yes;

	check(sp_collection_goes_on(db, job, &yes, &err), &err);
	return yes;
}

static void
test_counts(void **state)
{
	(void)state;
	/* every state of every recipe: what goes on counts whatever the moment */
	for (int recipe = 0; recipe < SP_RECIPE_COUNT; recipe++)
		for (int s = SP_JOB_SUBMITTED; s < SP_JOB_STATE_COUNT; s++) {
			int ended = sp_jobs_ended((enum sp_recipe)recipe, (enum sp_job_state)s);

			assert_int_equal(sp_collection_counts((enum sp_recipe)recipe,
					     (enum sp_job_state)s, 1000, 1000),
			    !ended);
			assert_true(sp_collection_counts(
			    (enum sp_recipe)recipe, (enum sp_job_state)s, 1001, 1000));
			assert_true(sp_collection_counts(
			    (enum sp_recipe)recipe, (enum sp_job_state)s, 1000, 0));
		}
	/* a transfer that is to be completed, and what waits for people, go on */
	assert_true(sp_collection_counts(SP_RECIPE_MODEL, SP_JOB_INCOMPLETE, 1, 1000));
	assert_true(sp_collection_counts(SP_RECIPE_MODEL, SP_JOB_AWAITING_APPROVAL, 1, 1000));
	assert_false(sp_collection_counts(SP_RECIPE_DATASET, SP_JOB_FETCHED, 1, 1000));
	assert_true(sp_collection_counts(SP_RECIPE_MODEL, SP_JOB_FETCHED, 1, 1000));
}

static void
test_names(void **state)
{
	(void)state;
	assert_false(is_named(TREE, 0));
	put_job(JOB_A, SP_JOB_SENT, 1000, 1);
	assert_true(is_named(TREE, 0));
	assert_true(is_named(TREE, 999));
	assert_false(is_named(TREE, 1000));
	assert_false(is_named(OTHER, 0));
	assert_false(goes_on(JOB_A));
	/* another job that goes on names the same */
	put_job(JOB_B, SP_JOB_QUANTIZING, 500, 2);
	assert_true(is_named(TREE, 5000));
	assert_true(goes_on(JOB_B));
	assert_false(goes_on(GC_1));
}

static void
test_collections(void **state)
{
	struct sp_err err;
	int64_t cut_ms;
	int yes;

	(void)state;
	check(sp_collection_latest_cut(db, &cut_ms, &err), &err);
	assert_int_equal(cut_ms, 0);
	check(sp_collection_find(db, GC_1, &yes, &err), &err);
	assert_false(yes);
	/* an account of a collection that was never begun */
	assert_int_equal(sp_collection_report(db, GC_1, "fetcherd@bastion", 3, &err), SP_E_STATE);
	check(sp_collection_add(db, GC_1, 7000, 3, &err), &err);
	check(sp_collection_add(db, GC_2, 0, 4, &err), &err);
	check(sp_collection_find(db, GC_1, &yes, &err), &err);
	assert_true(yes);
	check(sp_collection_latest_cut(db, &cut_ms, &err), &err);
	assert_int_equal(cut_ms, 7000);
	check(sp_collection_reported(db, GC_1, "fetcherd@bastion", &yes, &err), &err);
	assert_false(yes);
	check(sp_collection_report(db, GC_1, "fetcherd@bastion", 5, &err), &err);
	check(sp_collection_reported(db, GC_1, "fetcherd@bastion", &yes, &err), &err);
	assert_true(yes);
	check(sp_collection_reported(db, GC_2, "fetcherd@bastion", &yes, &err), &err);
	assert_false(yes);
	assert_int_equal(sp_collection_report(db, GC_1, "fetcherd@bastion", 6, &err), SP_E_STATE);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_counts),
	    cmocka_unit_test(test_names),
	    cmocka_unit_test(test_collections),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
