/* ledger_jobs.c -- the table of a job's life, its replay, the whole log and its tiles; all pure. */
#include "base/file.h"
#include "ledger/entry.h"
#include "ledger/log.h"
#include "ledger/tiles.h"

#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* any 32 bytes in hex will do */
static const char *const digests[3] = {
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
};

static void
sign_with(void *ctx, const void *data, size_t len, uint8_t sig[64])
{
	crypto_sign_detached(sig, NULL, data, len, ctx);
}

/* --- the table of a job's life ---------------------------------------------------------------- */

static const char *const action_words[] = {
    "nothing", "offer", "again", "work", "await", "ask", "end"};

/* Every transition that there is, written down a second time: recipes (m model, i image, s image
 * with scan, f file, d dataset), from, event, to, action. All others are refused. */
static const char *const transitions[][5] = {
    {"misfd", "", "submit", "SUBMITTED", "offer"},
    {"misfd", "SUBMITTED", "lease", "FETCHING", "work"},
    {"misfd", "SUBMITTED", "cancel", "CANCELLED", "end"},
    {"misfd", "FETCHING", "lease", "FETCHING", "work"},
    {"misfd", "FETCHING", "lost", "FETCHING", "again"},
    {"misfd", "FETCHING", "again", "FETCHING", "again"},
    {"misfd", "FETCHING", "fail", "FAILED", "end"},
    {"misfd", "FETCHING", "block", "BLOCKED", "end"},
    {"misfd", "FETCHING", "cancel", "CANCELLED", "end"},
    {"ms", "FETCHING", "done", "FETCHED", "offer"},
    {"if", "FETCHING", "done", "FETCHED", "await"},
    {"d", "FETCHING", "done", "FETCHED", "end"},
    {"s", "FETCHED", "lease", "SCANNING", "work"},
    {"m", "FETCHED", "lease", "QUANTIZING", "work"},
    {"ms", "FETCHED", "cancel", "CANCELLED", "end"},
    {"if", "FETCHED", "await", "AWAITING_APPROVAL", "ask"},
    {"s", "SCANNING", "lease", "SCANNING", "work"},
    {"s", "SCANNING", "lost", "SCANNING", "again"},
    {"s", "SCANNING", "again", "SCANNING", "again"},
    {"s", "SCANNING", "fail", "FAILED", "end"},
    {"s", "SCANNING", "block", "BLOCKED", "end"},
    {"s", "SCANNING", "cancel", "CANCELLED", "end"},
    {"s", "SCANNING", "done", "AWAITING_APPROVAL", "ask"},
    {"m", "QUANTIZING", "lease", "QUANTIZING", "work"},
    {"m", "QUANTIZING", "lost", "QUANTIZING", "again"},
    {"m", "QUANTIZING", "again", "QUANTIZING", "again"},
    {"m", "QUANTIZING", "fail", "FAILED", "end"},
    {"m", "QUANTIZING", "block", "BLOCKED", "end"},
    {"m", "QUANTIZING", "cancel", "CANCELLED", "end"},
    {"m", "QUANTIZING", "done", "QUANTIZED", "offer"},
    {"m", "QUANTIZED", "lease", "VALIDATING", "work"},
    {"m", "QUANTIZED", "cancel", "CANCELLED", "end"},
    {"m", "VALIDATING", "lease", "VALIDATING", "work"},
    {"m", "VALIDATING", "lost", "VALIDATING", "again"},
    {"m", "VALIDATING", "again", "VALIDATING", "again"},
    {"m", "VALIDATING", "fail", "FAILED", "end"},
    {"m", "VALIDATING", "block", "BLOCKED", "end"},
    {"m", "VALIDATING", "cancel", "CANCELLED", "end"},
    {"m", "VALIDATING", "done", "VALIDATED", "await"},
    {"m", "VALIDATED", "await", "AWAITING_APPROVAL", "ask"},
    {"misf", "AWAITING_APPROVAL", "approve", "AWAITING_APPROVAL", "nothing"},
    {"misf", "AWAITING_APPROVAL", "approved", "APPROVED", "offer"},
    {"misf", "AWAITING_APPROVAL", "reject", "REJECTED", "end"},
    {"misf", "AWAITING_APPROVAL", "cancel", "CANCELLED", "end"},
    {"misf", "APPROVED", "lease", "PACKAGING", "work"},
    {"misf", "APPROVED", "cancel", "CANCELLED", "end"},
    {"misf", "PACKAGING", "lease", "PACKAGING", "work"},
    {"misf", "PACKAGING", "lost", "PACKAGING", "again"},
    {"misf", "PACKAGING", "again", "PACKAGING", "again"},
    {"misf", "PACKAGING", "fail", "FAILED", "end"},
    {"misf", "PACKAGING", "cancel", "CANCELLED", "end"},
    {"misf", "PACKAGING", "done", "PACKAGED", "offer"},
    {"misf", "PACKAGED", "lease", "SENDING", "work"},
    {"misf", "PACKAGED", "cancel", "CANCELLED", "end"},
    {"misf", "SENDING", "lease", "SENDING", "work"},
    {"misf", "SENDING", "lost", "SENDING", "again"},
    {"misf", "SENDING", "again", "SENDING", "again"},
    {"misf", "SENDING", "fail", "FAILED", "end"},
    {"misf", "SENDING", "cancel", "CANCELLED", "end"},
    {"misf", "SENDING", "done", "SENT", "end"},
    {"misf", "", "begin", "RECEIVING", "offer"},
    {"misf", "RECEIVING", "lease", "RECEIVING", "work"},
    {"misf", "RECEIVING", "lost", "RECEIVING", "again"},
    {"misf", "RECEIVING", "again", "RECEIVING", "again"},
    {"misf", "RECEIVING", "fail", "FAILED", "end"},
    {"misf", "RECEIVING", "incomplete", "INCOMPLETE", "end"},
    {"misf", "RECEIVING", "quarantine", "QUARANTINED", "end"},
    {"misf", "RECEIVING", "cancel", "CANCELLED", "end"},
    {"misf", "RECEIVING", "done", "RECEIVED", "offer"},
    {"misf", "INCOMPLETE", "begin", "RECEIVING", "offer"},
    {"misf", "INCOMPLETE", "cancel", "CANCELLED", "end"},
    {"misf", "RECEIVED", "lease", "VERIFYING", "work"},
    {"misf", "RECEIVED", "cancel", "CANCELLED", "end"},
    {"misf", "VERIFYING", "lease", "VERIFYING", "work"},
    {"misf", "VERIFYING", "lost", "VERIFYING", "again"},
    {"misf", "VERIFYING", "again", "VERIFYING", "again"},
    {"misf", "VERIFYING", "fail", "FAILED", "end"},
    {"misf", "VERIFYING", "quarantine", "QUARANTINED", "end"},
    {"misf", "VERIFYING", "incomplete", "INCOMPLETE", "end"},
    {"misf", "VERIFYING", "cancel", "CANCELLED", "end"},
    {"misf", "VERIFYING", "done", "VERIFIED", "offer"},
    {"misf", "VERIFIED", "lease", "REGISTERING", "work"},
    {"misf", "VERIFIED", "cancel", "CANCELLED", "end"},
    {"misf", "REGISTERING", "lease", "REGISTERING", "work"},
    {"misf", "REGISTERING", "lost", "REGISTERING", "again"},
    {"misf", "REGISTERING", "again", "REGISTERING", "again"},
    {"misf", "REGISTERING", "fail", "FAILED", "end"},
    {"misf", "REGISTERING", "quarantine", "QUARANTINED", "end"},
    {"misf", "REGISTERING", "cancel", "CANCELLED", "end"},
    {"misf", "REGISTERING", "done", "REGISTERED", "end"},
    {"misf", "REGISTERED", "revoke", "REVOKED", "end"},
    {"misfd", "FAILED", "retry", "(resume)", "offer"},
};
#define TRANSITIONS (sizeof(transitions) / sizeof(transitions[0]))

static const char recipe_letters[] = "misfd";

static const char *const *
expected(enum sp_recipe recipe, enum sp_job_state from, enum sp_job_event event)
{
	size_t i;

	for (i = 0; i < TRANSITIONS; i++)
		if (strchr(transitions[i][0], recipe_letters[recipe]) != NULL &&
		    strcmp(transitions[i][1], sp_jobs_state_name(from)) == 0 &&
		    strcmp(transitions[i][2], sp_jobs_event_name(event)) == 0)
			return transitions[i];
	return NULL;
}

static void
test_jobs_every_state_and_event(void **state)
{
	enum sp_job_action action;
	enum sp_job_state to;
	const char *const *row;
	size_t allowed = 0, wanted = 0;
	struct sp_err err;
	enum sp_code code;
	int r, s, e;

	(void)state;
	for (r = 0; r < SP_RECIPE_COUNT; r++) {
		for (s = 0; s < SP_JOB_STATE_COUNT; s++) {
			for (e = 0; e < SP_JOB_EVENT_COUNT; e++) {
				row = expected(
				    (enum sp_recipe)r, (enum sp_job_state)s, (enum sp_job_event)e);
				code = sp_jobs_next((enum sp_recipe)r, (enum sp_job_state)s,
				    SP_JOB_QUANTIZED, (enum sp_job_event)e, &to, &action, &err);
				if ((row != NULL) != (code == SP_OK))
					fail_msg("%s: \"%s\" x %s is %s",
					    sp_jobs_recipe_name((enum sp_recipe)r),
					    sp_jobs_state_name((enum sp_job_state)s),
					    sp_jobs_event_name((enum sp_job_event)e),
					    row != NULL ? "missing" : "allowed");
				if (row == NULL) {
					assert_int_equal(code, SP_E_STATE);
					continue;
				}
				allowed++;
				assert_string_equal(sp_jobs_state_name(to),
				    strcmp(row[3], "(resume)") == 0 ? "QUANTIZED" : row[3]);
				assert_string_equal(action_words[action], row[4]);
			}
		}
	}
	/* and every line above was met, once per recipe */
	for (size_t i = 0; i < TRANSITIONS; i++)
		wanted += strlen(transitions[i][0]);
	assert_int_equal(allowed, wanted);
}

static void
test_jobs_names(void **state)
{
	enum sp_job_state s;
	enum sp_job_event e;
	enum sp_recipe r;
	enum sp_step step;
	enum sp_lease_state lease;
	int i;

	(void)state;
	for (i = 0; i < SP_JOB_STATE_COUNT; i++) {
		assert_true(sp_jobs_state_find(sp_jobs_state_name((enum sp_job_state)i), &s));
		assert_int_equal(s, i);
	}
	for (i = 0; i < SP_JOB_EVENT_COUNT; i++) {
		assert_true(sp_jobs_event_find(sp_jobs_event_name((enum sp_job_event)i), &e));
		assert_int_equal(e, i);
	}
	for (i = 0; i < SP_RECIPE_COUNT; i++) {
		assert_true(sp_jobs_recipe_find(sp_jobs_recipe_name((enum sp_recipe)i), &r));
		assert_int_equal(r, i);
	}
	for (i = 0; i < SP_STEP_COUNT; i++) {
		assert_true(sp_jobs_step_find(sp_jobs_step_name((enum sp_step)i), &step));
		assert_int_equal(step, i);
	}
	for (i = 0; i < SP_LEASE_STATE_COUNT; i++) {
		assert_true(sp_jobs_lease_find(sp_jobs_lease_name((enum sp_lease_state)i), &lease));
		assert_int_equal(lease, i);
	}
	assert_false(sp_jobs_state_find("submitted", &s));
	assert_string_equal(sp_jobs_kind(SP_RECIPE_SCANNED), "image");
	assert_true(sp_jobs_step(SP_RECIPE_MODEL, SP_JOB_FETCHED, &step));
	assert_string_equal(sp_jobs_step_service(step), "quantd");
	assert_false(sp_jobs_step(SP_RECIPE_IMAGE, SP_JOB_FETCHED, &step));
	assert_int_equal(
	    sp_jobs_resume(SP_RECIPE_MODEL, SP_JOB_PACKAGING, SP_JOB_NONE), SP_JOB_APPROVED);
	assert_int_equal(
	    sp_jobs_resume(SP_RECIPE_MODEL, SP_JOB_FAILED, SP_JOB_APPROVED), SP_JOB_APPROVED);
	assert_true(sp_jobs_ended(SP_RECIPE_DATASET, SP_JOB_FETCHED));
	assert_false(sp_jobs_ended(SP_RECIPE_MODEL, SP_JOB_FETCHED));
	assert_false(sp_jobs_ended(SP_RECIPE_MODEL, SP_JOB_INCOMPLETE));
}

static void
test_jobs_failures(void **state)
{
	(void)state;
	assert_int_equal(sp_jobs_failure(SP_STEP_VALIDATE, SP_E_BLOCKED, 0, 1, 5), SP_EV_BLOCK);
	assert_int_equal(sp_jobs_failure(SP_STEP_PACKAGE, SP_E_BLOCKED, 0, 1, 5), SP_EV_FAIL);
	assert_int_equal(sp_jobs_failure(SP_STEP_FETCH, SP_E_TIMEOUT, 1, 4, 5), SP_EV_AGAIN);
	assert_int_equal(sp_jobs_failure(SP_STEP_FETCH, SP_E_TIMEOUT, 1, 5, 5), SP_EV_FAIL);
	assert_int_equal(sp_jobs_failure(SP_STEP_FETCH, SP_E_NOT_FOUND, 0, 1, 5), SP_EV_FAIL);
	assert_int_equal(sp_jobs_failure(SP_STEP_FETCH, SP_E_CANCELLED, 0, 1, 5), SP_EV_LOST);
	assert_int_equal(sp_jobs_failure(SP_STEP_FETCH, SP_E_CORRUPT, 0, 1, 5), SP_EV_FAIL);
	assert_int_equal(sp_jobs_failure(SP_STEP_VERIFY, SP_E_CORRUPT, 0, 1, 5), SP_EV_QUARANTINE);
	assert_int_equal(sp_jobs_failure(SP_STEP_VERIFY, SP_E_DENIED, 1, 1, 5), SP_EV_QUARANTINE);
	assert_int_equal(sp_jobs_failure(SP_STEP_VERIFY, SP_E_INVALID, 0, 5, 5), SP_EV_QUARANTINE);
	assert_int_equal(sp_jobs_failure(SP_STEP_VERIFY, SP_E_NO_SPACE, 1, 1, 5), SP_EV_AGAIN);
	assert_int_equal(
	    sp_jobs_failure(SP_STEP_RECEIVE, SP_E_INCOMPLETE, 1, 1, 5), SP_EV_INCOMPLETE);
	assert_int_equal(
	    sp_jobs_failure(SP_STEP_VERIFY, SP_E_INCOMPLETE, 1, 1, 5), SP_EV_INCOMPLETE);
	assert_int_equal(sp_jobs_failure(SP_STEP_SEND, SP_E_INCOMPLETE, 1, 1, 5), SP_EV_AGAIN);
	assert_int_equal(sp_jobs_backoff_ms(1000, 1), 1000);
	assert_int_equal(sp_jobs_backoff_ms(1000, 2), 2000);
	assert_int_equal(sp_jobs_backoff_ms(1000, 5), 16000);
	assert_int_equal(sp_jobs_backoff_ms(1000, 100), 3600000);
}

/* --- replay and verification of a whole log --------------------------------------------------- */

#define JOB "00112233445566778899aabbccddeeff"
#define LEASE1 "11111111111111111111111111111111"
#define LEASE2 "22222222222222222222222222222222"
#define ORIGIN "sallyport/bastion/test"

static const struct sp_actor anna = {1, 1000, "", "anna", ""};
static const struct sp_actor ledgerd = {0, 0, "ledgerd", "ledgerd@bastion", ""};
static const struct sp_actor fetcherd = {0, 0, "fetcherd", "fetcherd@bastion", ""};
static const struct sp_actor other = {0, 0, "fetcherd", "fetcherd2@bastion", ""};
static const struct sp_actor quantd = {0, 0, "quantd", "quantd@bastion", ""};

struct script {
	const struct sp_actor *actor;
	const char *event, *from, *to, *step, *lease, *recipe;
};

struct sample {
	struct sp_log_bytes bytes[600];
	uint8_t *owned[600];
	uint64_t count;
};

static void
add(struct sample *log, const struct script *s)
{
	struct sp_entry *entry = sp_entry_new(s->actor, s->event);
	size_t len;

	if (s->to != NULL)
		sp_entry_job(entry, JOB, s->from, s->to);
	if (s->step != NULL)
		sp_entry_step(entry, s->step, s->lease);
	if (s->recipe != NULL)
		sp_entry_detail(entry, "recipe", s->recipe);
	log->owned[log->count] =
	    sp_entry_pack(entry, log->count, ORIGIN, 1764000000000 + (int64_t)log->count, 5, &len);
	log->bytes[log->count].data = log->owned[log->count];
	log->bytes[log->count++].len = len;
	sp_entry_free(&entry);
}

static void
drop(struct sample *log)
{
	while (log->count > 0)
		free(log->owned[--log->count]);
}

static const struct script story[] = {
    {&ledgerd, "start", NULL, NULL, NULL, NULL, NULL},
    {&anna, "submit", "", "SUBMITTED", NULL, NULL, "model"},
    {&fetcherd, "lease", "SUBMITTED", "FETCHING", "fetch", LEASE1, NULL},
    {&ledgerd, "lost", "FETCHING", "FETCHING", "fetch", LEASE1, NULL},
    {&other, "lease", "FETCHING", "FETCHING", "fetch", LEASE2, NULL},
    {&other, "done", "FETCHING", "FETCHED", "fetch", LEASE2, NULL},
};
#define STORY (sizeof(story) / sizeof(story[0]))

/* What may stand after the story, and what must not: from where the job really is. */
static const struct script bad_ends[] = {
    {&anna, "approved", "AWAITING_APPROVAL", "APPROVED", NULL, NULL, NULL},
    {&ledgerd, "await", "FETCHED", "AWAITING_APPROVAL", NULL, NULL, NULL},
    {&quantd, "lease", "FETCHED", "VALIDATING", "quantize", LEASE1, NULL},
    {&quantd, "lease", "FETCHED", "QUANTIZING", "validate", LEASE1, NULL},
    {&quantd, "lease", "FETCHED", "QUANTIZING", "quantize", "", NULL},
    {&other, "lease", "FETCHED", "QUANTIZING", "quantize", LEASE1, NULL},
    {&anna, "lease", "FETCHED", "QUANTIZING", "quantize", LEASE1, NULL},
    {&fetcherd, "cancel", "FETCHED", "CANCELLED", NULL, NULL, NULL},
    {&other, "done", "FETCHING", "FETCHED", "fetch", LEASE2, NULL},
    {&anna, "submit", "", "SUBMITTED", NULL, NULL, "model"},
    {&anna, "frobnicate", "FETCHED", "FETCHED", NULL, NULL, NULL},
    {&anna, "cancel", "FETCHED", "GONE", NULL, NULL, NULL},
    {&ledgerd, "cancel", NULL, NULL, NULL, NULL, NULL},
};

static void
replay_all(const struct sample *log, struct sp_replay *replay)
{
	struct sp_err err;
	uint64_t i;

	for (i = 0; i < log->count; i++)
		if (sp_replay_entry(replay, log->bytes[i].data, log->bytes[i].len, &err) != SP_OK)
			fail_msg("%s", err.msg);
}

static void
test_replay(void **state)
{
	const struct sp_replay_job *job;
	struct sp_replay replay = {0};
	struct sample log = {.count = 0};
	struct sp_err err;
	size_t i;

	(void)state;
	for (i = 0; i < 5; i++)
		add(&log, &story[i]);
	replay_all(&log, &replay);
	job = sp_replay_find(&replay, JOB);
	assert_non_null(job);
	assert_int_equal(job->state, SP_JOB_FETCHING);
	assert_int_equal(job->resume, SP_JOB_SUBMITTED);
	assert_int_equal(job->attempt, 2);
	assert_string_equal(job->lease, LEASE2);
	assert_string_equal(job->worker, "fetcherd2@bastion");
	assert_int_equal(job->first_seq, 1);
	assert_int_equal(job->last_seq, 4);
	/* the one whose lease was lost cannot bring a result */
	log.count = 5;
	add(&log,
	    &(struct script){&fetcherd, "done", "FETCHING", "FETCHED", "fetch", LEASE1, NULL});
	assert_int_equal(
	    sp_replay_entry(&replay, log.bytes[5].data, log.bytes[5].len, &err), SP_E_INVALID);
	free(log.owned[--log.count]);
	add(&log,
	    &(struct script){&fetcherd, "done", "FETCHING", "FETCHED", "fetch", LEASE2, NULL});
	assert_int_equal(
	    sp_replay_entry(&replay, log.bytes[5].data, log.bytes[5].len, &err), SP_E_INVALID);
	assert_non_null(strstr(err.msg, "holder"));
	free(log.owned[--log.count]);
	add(&log, &story[5]);
	assert_int_equal(
	    sp_replay_entry(&replay, log.bytes[5].data, log.bytes[5].len, &err), SP_OK);
	assert_int_equal(sp_replay_find(&replay, JOB)->state, SP_JOB_FETCHED);
	assert_int_equal(sp_replay_find(&replay, JOB)->attempt, 1);
	for (i = 0; i < sizeof(bad_ends) / sizeof(bad_ends[0]); i++) {
		add(&log, &bad_ends[i]);
		if (sp_replay_entry(&replay, log.bytes[STORY].data, log.bytes[STORY].len, &err) ==
		    SP_OK)
			fail_msg("bad end %zu was accepted", i);
		assert_int_equal(replay.size, STORY);
		free(log.owned[--log.count]);
	}
	assert_null(sp_replay_find(&replay, "ffffffffffffffffffffffffffffffff"));
	sp_replay_free(&replay);
	drop(&log);
}

/* Thousands of jobs: the index by id holds. */
static void
test_replay_many(void **state)
{
	struct sp_replay replay = {0};
	struct sp_entry *entry;
	char id[33];
	uint8_t *data;
	size_t len;
	int i;

	(void)state;
	for (i = 0; i < 3000; i++) {
		entry = sp_entry_new(&anna, "submit");
		snprintf(id, sizeof(id), "%032x", i * 7919);
		sp_entry_job(entry, id, "", "SUBMITTED");
		sp_entry_detail(entry, "recipe", "file");
		data = sp_entry_pack(entry, (uint64_t)i, ORIGIN, 0, 0, &len);
		assert_int_equal(sp_replay_entry(&replay, data, len, NULL), SP_OK);
		free(data);
		sp_entry_free(&entry);
	}
	for (i = 0; i < 3000; i++) {
		snprintf(id, sizeof(id), "%032x", i * 7919);
		assert_non_null(sp_replay_find(&replay, id));
		assert_int_equal(sp_replay_find(&replay, id)->first_seq, i);
	}
	sp_replay_free(&replay);
}

static void
test_entry_fits(void **state)
{
	struct sp_entry *entry = sp_entry_new(&anna, "submit");
	Sallyport__Entry *parsed;
	char big[5000], key[200];
	uint8_t *data;
	size_t len, i;

	(void)state;
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	memset(key, 'k', sizeof(key) - 1);
	key[sizeof(key) - 1] = '\0';
	sp_entry_job(entry, JOB, "", "SUBMITTED");
	sp_entry_reason(entry, big);
	for (i = 0; i < 300; i++)
		sp_entry_detail(entry, key, big + (i % 2 == 0 ? 0 : sizeof(big) - 1025));
	for (i = 0; i < 64; i++)
		sp_entry_subject(entry, "candidate-candidate-candidate-x", digests[i % 3],
		    "store-store-store-store-store-x", 1, UINT64_MAX);
	data = sp_entry_pack(entry, UINT64_MAX, ORIGIN, 0, INT64_MAX, &len);
	assert_in_range(len, 30000, SP_ENTRY_MAX);
	assert_int_equal(sp_entry_parse(data, len, &parsed, NULL), SP_OK);
	assert_int_equal(parsed->n_details, SP_ENTRY_DETAILS_MAX);
	assert_int_equal(strncmp(parsed->details[0]->value, "sha256:", 7), 0);
	assert_string_equal(parsed->details[1]->value, big + sizeof(big) - 1025);
	sallyport__entry__free_unpacked(parsed, NULL);
	/* a cut of it is refused, or ends between two details; none is read beyond */
	for (i = 0; i < len; i += 97) {
		uint8_t *cut = sp_xcalloc(i, 1);

		memcpy(cut, data, i);
		if (sp_entry_parse(cut, i, &parsed, NULL) == SP_OK) {
			assert_in_range(parsed->n_details, 0, SP_ENTRY_DETAILS_MAX - 1);
			sallyport__entry__free_unpacked(parsed, NULL);
		}
		free(cut);
	}
	free(data);
	sp_entry_free(&entry);
}

static char *
checkpoint_of(
    const struct sample *log, uint64_t size, const char *origin, const uint8_t sk[64], size_t *len)
{
	struct sp_checkpoint c = {.size = size};
	uint8_t leaf[SP_DIGEST_LEN], secret[64];
	struct sp_merkle tree = {0};
	char *text, *note;
	uint64_t i;

	for (i = 0; i < size; i++) {
		sp_merkle_leaf(log->bytes[i].data, log->bytes[i].len, leaf);
		sp_merkle_append(&tree, leaf);
	}
	sp_merkle_root(&tree, c.root);
	snprintf(c.origin, sizeof(c.origin), "%s", origin);
	text = sp_checkpoint_format(&c);
	memcpy(secret, sk, sizeof(secret));
	note = sp_note_sign(text, origin, sk + 32, sign_with, secret, len);
	free(text);
	return note;
}

static enum sp_code
verify(const struct sample *log, uint64_t count, const char *note, size_t len, const char *vkey,
    struct sp_log_report *report)
{
	return sp_log_verify(
	    log->bytes, count, (const uint8_t *)note, len, vkey, report, NULL, NULL);
}

static void
test_log_verify(void **state)
{
	struct sample log = {.count = 0};
	struct sp_log_report report;
	uint8_t pk[32], sk[64], pk2[32], sk2[64], *byte;
	char *note, *vkey, *other_key, *elsewhere;
	size_t i, j, len;

	(void)state;
	crypto_sign_keypair(pk, sk);
	crypto_sign_keypair(pk2, sk2);
	vkey = sp_note_vkey(ORIGIN, pk);
	other_key = sp_note_vkey(ORIGIN, pk2);
	elsewhere = sp_note_vkey("sallyport/bastion/other", pk);
	for (i = 0; i < STORY; i++)
		add(&log, &story[i]);
	note = checkpoint_of(&log, STORY, ORIGIN, sk, &len);
	assert_int_equal(verify(&log, STORY, note, len, vkey, &report), SP_OK);
	assert_string_equal(report.origin, ORIGIN);
	assert_int_equal(report.size, STORY);
	assert_int_equal(report.entries, STORY);
	assert_int_equal(report.uncovered, 0);
	assert_int_equal(report.jobs, 1);
	assert_int_equal(verify(&log, STORY, note, len, other_key, &report), SP_E_DENIED);
	assert_int_equal(verify(&log, STORY, note, len, elsewhere, &report), SP_E_DENIED);
	assert_int_equal(verify(&log, STORY - 1, note, len, vkey, &report), SP_E_INCOMPLETE);
	/* any byte of any entry */
	for (i = 0; i < STORY; i++) {
		for (j = 0; j < log.bytes[i].len; j += 7) {
			byte = &log.owned[i][j];
			*byte ^= 1;
			assert_int_equal(
			    verify(&log, STORY, note, len, vkey, &report), SP_E_CORRUPT);
			*byte ^= 1;
		}
	}
	free(note);
	/* entries beyond the checkpoint are looked at, and reported as not yet signed for */
	note = checkpoint_of(&log, 3, ORIGIN, sk, &len);
	assert_int_equal(verify(&log, STORY, note, len, vkey, &report), SP_OK);
	assert_int_equal(report.uncovered, STORY - 3);
	free(note);
	/* a log whose owner signed nonsense: the root is right, the story is not */
	add(&log, &bad_ends[0]);
	note = checkpoint_of(&log, STORY + 1, ORIGIN, sk, &len);
	assert_int_equal(verify(&log, STORY + 1, note, len, vkey, &report), SP_E_INVALID);
	assert_int_equal(report.entries, STORY);
	free(note);
	free(vkey);
	free(other_key);
	free(elsewhere);
	drop(&log);
}

/* --- tiles ------------------------------------------------------------------------------------ */

static void
test_tiles_paths(void **state)
{
	char path[SP_TILES_PATH_MAX];

	(void)state;
	sp_tiles_path(0, 1234067, 256, path);
	assert_string_equal(path, "tile/0/x001/x234/067");
	sp_tiles_path(SP_TILES_ENTRIES, 0, 5, path);
	assert_string_equal(path, "tile/entries/000.p/5");
	sp_tiles_path(2, 1000, 1, path);
	assert_string_equal(path, "tile/2/x001/000.p/1");
	sp_tiles_path(63, UINT64_MAX, 255, path);
	assert_string_equal(path, "tile/63/x018/x446/x744/x073/x709/x551/615.p/255");
	/* the specification's example: 70,000 entries */
	assert_int_equal(sp_tiles_width(0, 272, 70000), 256);
	assert_int_equal(sp_tiles_width(0, 273, 70000), 112);
	assert_int_equal(sp_tiles_width(0, 274, 70000), 0);
	assert_int_equal(sp_tiles_width(1, 0, 70000), 256);
	assert_int_equal(sp_tiles_width(1, 1, 70000), 17);
	assert_int_equal(sp_tiles_width(2, 0, 70000), 1);
	assert_int_equal(sp_tiles_width(3, 0, 70000), 0);
	assert_int_equal(sp_tiles_width(0, 0, 256), 256);
	assert_int_equal(sp_tiles_width(0, 1, 256), 0);
	assert_int_equal(sp_tiles_width(1, 0, 256), 1);
	assert_int_equal(sp_tiles_width(SP_TILES_ENTRIES, 0, 0), 0);
}

static void
flip(const char *dir, const char *name, size_t at)
{
	char *path = sp_xasprintf("%s/%s", dir, name);
	uint8_t *data;
	size_t len;

	assert_int_equal(sp_file_read(path, 1 << 20, &data, &len, NULL), SP_OK);
	data[at] ^= 1;
	assert_int_equal(sp_file_write(path, 0644, data, len, NULL), SP_OK);
	free(data);
	free(path);
}

/* The first `size` entries, in two pieces. */
static enum sp_code export(const char *dir, const struct sample *log, size_t size, const char *note,
    size_t len, struct sp_err *err) {
	struct sp_tiles_writer *w = sp_tiles_writer_new(dir);
	uint8_t(*leaves)[SP_DIGEST_LEN] = sp_xcalloc(size, sizeof(*leaves));
	const uint8_t(*hashes)[SP_DIGEST_LEN] = (const uint8_t (*)[SP_DIGEST_LEN])leaves;
	enum sp_code code;

	sp_replay_leaves(log->bytes, size, leaves);
	code = sp_tiles_add(w, log->bytes, 300, hashes, err);
	if (code == SP_OK) code = sp_tiles_add(w, log->bytes + 300, size - 300, hashes + 300, err);
	if (code == SP_OK) code = sp_tiles_finish(w, (const uint8_t *)note, len, err);
	sp_tiles_writer_free(&w);
	free(leaves);
	return code;
}

static void
test_tiles_roundtrip(void **state)
{
	static const struct script admission = {
	    &ledgerd, "admission", NULL, NULL, NULL, NULL, NULL};
	char dir[] = "/tmp/sp-tiles-XXXXXX", *note, *vkey;
	struct sample *log = sp_xcalloc(1, sizeof(*log));
	struct sp_tiles_log in;
	uint8_t pk[32], sk[64];
	struct sp_err err;
	size_t i, len;

	(void)state;
	assert_non_null(mkdtemp(dir));
	crypto_sign_keypair(pk, sk);
	vkey = sp_note_vkey(ORIGIN, pk);
	for (i = 0; i < STORY; i++)
		add(log, &story[i]);
	while (log->count < 600)
		add(log, &admission);
	note = checkpoint_of(log, 598, ORIGIN, sk, &len);
	/* as long as it is not whole, there is no export */
	assert_int_equal(export(dir, log, 500, note, len, &err), SP_E_INCOMPLETE);
	assert_int_equal(export(dir, log, 600, note, len, &err), SP_E_INCOMPLETE);
	assert_int_equal(sp_tiles_import(dir, &in, &err), SP_E_NOT_FOUND);
	log->owned[400][9] ^= 1;
	assert_int_equal(export(dir, log, 598, note, len, &err), SP_E_CORRUPT);
	log->owned[400][9] ^= 1;
	assert_int_equal(sp_tiles_import(dir, &in, &err), SP_E_NOT_FOUND);
	assert_int_equal(export(dir, log, 598, note, len, &err), SP_OK);
	assert_int_equal(sp_tiles_import(dir, &in, &err), SP_OK);
	assert_int_equal(in.count, 598);
	assert_int_equal(sp_log_verify(in.entries, in.count, in.checkpoint, in.checkpoint_len, vkey,
			     NULL, NULL, &err),
	    SP_OK);
	for (i = 0; i < 598; i++)
		assert_memory_equal(in.entries[i].data, log->bytes[i].data, log->bytes[i].len);
	sp_tiles_clear(&in);
	flip(dir, "tile/1/000.p/2", 40);
	assert_int_equal(sp_tiles_import(dir, &in, &err), SP_E_CORRUPT);
	assert_non_null(strstr(err.msg, "tile/1/000.p/2"));
	flip(dir, "tile/1/000.p/2", 40);
	flip(dir, "tile/entries/001", 0);
	assert_int_equal(sp_tiles_import(dir, &in, &err), SP_E_CORRUPT);
	flip(dir, "tile/entries/001", 0);
	flip(dir, "tile/entries/002.p/86", 50);
	assert_int_equal(sp_tiles_import(dir, &in, &err), SP_E_CORRUPT);
	assert_int_equal(sp_file_remove_all(dir, NULL), SP_OK);
	assert_int_equal(sp_tiles_import(dir, &in, &err), SP_E_NOT_FOUND);
	free(note);
	free(vkey);
	drop(log);
	free(log);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_jobs_every_state_and_event),
	    cmocka_unit_test(test_jobs_names),
	    cmocka_unit_test(test_jobs_failures),
	    cmocka_unit_test(test_replay),
	    cmocka_unit_test(test_replay_many),
	    cmocka_unit_test(test_entry_fits),
	    cmocka_unit_test(test_log_verify),
	    cmocka_unit_test(test_tiles_paths),
	    cmocka_unit_test(test_tiles_roundtrip),
	};

	if (sodium_init() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
