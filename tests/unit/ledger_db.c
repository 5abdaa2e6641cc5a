/* ledger_db.c -- transitions in the database: whole or not at all, and told by the log. */
#include "base/file.h"
#include "ledger/change.h"
#include "ledger/log.h"
#include "release/candidate.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sodium.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ledger_rig.h"

#include <cmocka.h>

#define JOB "00112233445566778899aabbccddeeff"
#define OTHER "0123456789abcdef0123456789abcdef"
#define HEX_A "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define HEX_B "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"

static const struct sp_actor anna = {1, 1000, "", "anna", ""};
static const struct sp_actor fetcherd = {0, 0, "fetcherd", "fetcherd@bastion", ""};
static const struct sp_actor quantd = {0, 0, "quantd", "quantd@bastion", ""};
static const struct sp_actor validatord = {0, 0, "validatord", "validatord@bastion", ""};
static const struct sp_actor rxd = {0, 0, "diode-rxd", "diode-rxd@enclave", ""};

/* --- steps of a story ------------------------------------------------------------------------- */

static const char *
fresh_lease(struct fixture *f)
{
	snprintf(f->lease, sizeof(f->lease), "%032x", ++f->leases);
	return f->lease;
}

static struct sp_change
change_of(enum sp_job_event event, const struct sp_actor *actor)
{
	struct sp_change c = {.job = JOB,
	    .event = event,
	    .actor = *actor,
	    .unix_ms = 1764000000000,
	    .monotonic_ms = 7};

	return c;
}

/* Inside a transaction that the caller opened. */
static enum sp_code
apply(struct fixture *f, struct sp_change *c, struct sp_err *err)
{
	struct sp_changed changed;
	enum sp_code code = sp_change_apply(f->ledger, c, &changed, err);

	sp_changed_clear(&changed);
	return code;
}

static void
commit(struct fixture *f, struct sp_change *c)
{
	struct sp_err err = {0};

	assert_int_equal(sp_ledger_begin(f->ledger, &err), SP_OK);
	if (apply(f, c, &err) != SP_OK)
		fail_msg("%s", err.msg);
	assert_int_equal(sp_ledger_commit(f->ledger, &err), SP_OK);
	assert_int_equal(sp_ledger_sign(f->ledger, NULL, &err), SP_OK);
}

static void
submit_kind(struct fixture *f, enum sp_recipe recipe)
{
	struct sp_change c = change_of(SP_EV_SUBMIT, &anna);
	struct sp_job job = {.recipe = recipe, .submitter = 1000, .approvals_needed = 2};
	uint8_t policy[] = "{}";

	job.source = (char *)(uintptr_t) "hf:org/name";
	job.profile = (char *)(uintptr_t) "p";
	job.name = (char *)(uintptr_t) "org/name-AWQ";
	job.destination = (char *)(uintptr_t) "enclave";
	job.policy = policy;
	job.policy_len = 2;
	c.fresh = &job;
	c.next_lease = fresh_lease(f);
	commit(f, &c);
}

static void
lease(struct fixture *f, const struct sp_actor *actor)
{
	struct sp_change c = change_of(SP_EV_LEASE, actor);

	c.worker = actor->name;
	c.lease = f->lease;
	commit(f, &c);
}

/* The step's result with an artifact and an attestation. */
static void
done(struct fixture *f, const struct sp_actor *actor, const char *role, const char *attestation)
{
	struct sp_change c = change_of(SP_EV_DONE, actor);
	struct sp_outcome outcome = {0};
	char old[33];

	memcpy(old, f->lease, sizeof(old));
	if (role != NULL)
		sp_outcome_artifact(&outcome, role, strcmp(role, "source") == 0 ? HEX_A : HEX_B,
		    actor->service, 1, 4096);
	sp_outcome_detail(&outcome, "commit", "%s", "abc");
	if (attestation != NULL)
		sp_outcome_attest(&outcome, attestation, strlen(attestation));
	c.lease = old;
	c.outcome = &outcome;
	c.next_lease = fresh_lease(f);
	commit(f, &c);
	sp_outcome_clear(&outcome);
}

static void
to_approval(struct fixture *f)
{
	submit_kind(f, SP_RECIPE_MODEL);
	lease(f, &fetcherd);
	done(f, &fetcherd, "source", "{\"fetch\":1}");
	lease(f, &quantd);
	done(f, &quantd, "candidate", "{\"quantize\":1}");
	lease(f, &validatord);
	done(f, &validatord, NULL, "{\"gate\":1}");
}

static struct sp_job
job_row(struct fixture *f)
{
	struct sp_job job;

	assert_int_equal(sp_table_job(sp_ledger_db(f->ledger), JOB, &job, NULL), SP_OK);
	return job;
}

static enum sp_job_state
state_of(struct fixture *f)
{
	struct sp_job job = job_row(f);
	enum sp_job_state state = job.state;

	sp_table_job_clear(&job);
	return state;
}

static struct sp_attempt
attempt_of(struct fixture *f)
{
	struct sp_attempt a;
	int found;

	assert_int_equal(sp_table_newest(sp_ledger_db(f->ledger), JOB, &a, &found, NULL), SP_OK);
	assert_true(found);
	return a;
}

struct collected {
	struct sp_log_bytes bytes[64];
	size_t count;
};

static enum sp_code
collect(void *ctx, uint64_t seq, const uint8_t *data, size_t len, struct sp_err *err)
{
	struct collected *c = ctx;
	uint8_t *copy = sp_xcalloc(len, 1);

	(void)seq;
	(void)err;
	memcpy(copy, data, len);
	c->bytes[c->count].data = copy;
	c->bytes[c->count++].len = len;
	return SP_OK;
}

/* The log as an outsider verifies it; returns how many entries it has. */
static uint64_t
verify_outside(struct fixture *f)
{
	struct collected c = {.count = 0};
	struct sp_log_report report;
	char *vkey = sp_note_vkey(ORIGIN, log_pk);
	const uint8_t *note;
	struct sp_err err;
	size_t len, i;

	assert_int_equal(sp_ledger_entries(f->ledger, 0, 64, "", collect, &c, NULL), SP_OK);
	note = sp_ledger_checkpoint(f->ledger, &len, NULL);
	if (sp_log_verify(c.bytes, c.count, note, len, vkey, &report, NULL, &err) != SP_OK)
		fail_msg("%s", err.msg);
	assert_int_equal(report.uncovered, 0);
	for (i = 0; i < c.count; i++)
		free((void *)(uintptr_t)c.bytes[i].data);
	free(vkey);
	return report.entries;
}

/* --- tests ------------------------------------------------------------------------------------ */

static void
test_path_to_approval(void **state)
{
	struct fixture *f = *state;
	struct sp_candidate candidate;
	struct sp_table_extras extras;
	struct sp_job job;
	struct sp_err err;

	to_approval(f);
	job = job_row(f);
	assert_int_equal(job.state, SP_JOB_AWAITING_APPROVAL);
	assert_int_equal(job.version, 1);
	if (sp_candidate_parse(job.candidate, job.candidate_len, &candidate, &err) != SP_OK)
		fail_msg("%s", err.msg);
	assert_string_equal(candidate.job, JOB);
	assert_string_equal(candidate.kind, "model");
	assert_string_equal(candidate.name, "org/name-AWQ");
	assert_string_equal(candidate.tree.s, HEX_B);
	assert_string_equal(candidate.destination, "enclave");
	assert_int_equal(candidate.version, 1);
	assert_int_equal(candidate.attestation_count, 3);
	assert_string_equal(candidate.attestations[0].s, sp_sha256_hex("{\"fetch\":1}", 11).s);
	assert_string_equal(candidate.attestations[2].s, sp_sha256_hex("{\"gate\":1}", 10).s);
	assert_int_equal(sp_table_extras(sp_ledger_db(f->ledger), JOB, &extras, NULL), SP_OK);
	assert_int_equal(extras.artifact_count, 2);
	assert_string_equal(extras.artifacts[1].a.store, "quantd");
	assert_int_equal(extras.attestation_count, 3);
	assert_int_equal(extras.attestations[2].step, SP_STEP_VALIDATE);
	assert_int_equal(extras.detail_count, 3);
	sp_table_extras_clear(&extras);
	sp_table_job_clear(&job);
	/* submit, three leases, three results, await */
	assert_int_equal(verify_outside(f), 8);
	reopen(f);
	assert_int_equal(state_of(f), SP_JOB_AWAITING_APPROVAL);
}

static void
test_approvals(void **state)
{
	struct fixture *f = *state;
	struct sp_change_approval approval = {HEX_A, "anna", "{}", 2};
	struct sp_change c = change_of(SP_EV_APPROVE, &anna);
	struct sp_err err;

	to_approval(f);
	c.approval = &approval;
	c.actor.key_id = HEX_A;
	commit(f, &c);
	assert_int_equal(state_of(f), SP_JOB_AWAITING_APPROVAL);
	assert_int_equal(sp_ledger_begin(f->ledger, NULL), SP_OK);
	assert_int_equal(apply(f, &c, &err), SP_E_EXISTS);
	sp_ledger_rollback(f->ledger);
	c.event = SP_EV_APPROVED;
	approval.keyid = c.actor.key_id = HEX_B;
	c.next_lease = fresh_lease(f);
	commit(f, &c);
	assert_int_equal(state_of(f), SP_JOB_APPROVED);
	assert_int_equal(attempt_of(f).step, SP_STEP_PACKAGE);
	assert_int_equal(verify_outside(f), 10);
	reopen(f);
}

/* Files and images cross as fetched; versions of a name go up. */
static void
test_short_recipe_and_versions(void **state)
{
	struct fixture *f = *state;
	struct sp_candidate candidate;
	struct sp_job job;
	uint64_t version;

	submit_kind(f, SP_RECIPE_FILE);
	lease(f, &fetcherd);
	done(f, &fetcherd, "source", "{\"fetch\":1}");
	job = job_row(f);
	assert_int_equal(job.state, SP_JOB_AWAITING_APPROVAL);
	assert_int_equal(
	    sp_candidate_parse(job.candidate, job.candidate_len, &candidate, NULL), SP_OK);
	assert_string_equal(candidate.tree.s, HEX_A);
	assert_string_equal(candidate.kind, "file");
	sp_table_job_clear(&job);
	assert_int_equal(
	    sp_table_next_version(sp_ledger_db(f->ledger), "org/name-AWQ", &version, NULL), SP_OK);
	assert_int_equal(version, 2);
	assert_int_equal(
	    sp_table_next_version(sp_ledger_db(f->ledger), "org/other", &version, NULL), SP_OK);
	assert_int_equal(version, 1);
	reopen(f);
}

static void
test_what_cannot_be(void **state)
{
	struct fixture *f = *state;
	struct sp_change c;
	struct sp_err err;

	submit_kind(f, SP_RECIPE_MODEL);
	assert_int_equal(sp_ledger_begin(f->ledger, NULL), SP_OK);
	/* a result of a lease that nobody took */
	c = change_of(SP_EV_DONE, &fetcherd);
	c.lease = f->lease;
	assert_int_equal(apply(f, &c, &err), SP_E_STATE);
	/* a lease that was never offered */
	c = change_of(SP_EV_LEASE, &fetcherd);
	c.lease = "ffffffffffffffffffffffffffffffff";
	c.worker = "fetcherd@bastion";
	assert_int_equal(apply(f, &c, &err), SP_E_STATE);
	c = change_of(SP_EV_APPROVED, &anna);
	assert_int_equal(apply(f, &c, &err), SP_E_STATE);
	c.job = "ffffffffffffffffffffffffffffffff";
	assert_int_equal(apply(f, &c, &err), SP_E_NOT_FOUND);
	sp_ledger_rollback(f->ledger);
	assert_int_equal(verify_outside(f), 1);
	/* cancelled while offered: no lease is in the entry, none is left alive */
	c = change_of(SP_EV_CANCEL, &anna);
	c.reason = "no longer wanted";
	commit(f, &c);
	assert_int_equal(attempt_of(f).state, SP_LEASE_LOST);
	assert_int_equal(verify_outside(f), 2);
	reopen(f);
}

static void
test_attempts(void **state)
{
	struct fixture *f = *state;
	struct sp_change c;
	char old[33];
	int i;

	submit_kind(f, SP_RECIPE_MODEL);
	for (i = 1; i <= 3; i++) {
		assert_int_equal(attempt_of(f).attempt, i);
		lease(f, &fetcherd);
		memcpy(old, f->lease, sizeof(old));
		c = change_of(i == 1 ? SP_EV_LOST : SP_EV_AGAIN, i == 1 ? &self : &fetcherd);
		c.lease = old;
		c.next_lease = fresh_lease(f);
		c.avoid = "fetcherd@bastion";
		c.not_before_ms = 1764000001000;
		commit(f, &c);
		assert_string_equal(attempt_of(f).avoid, "fetcherd@bastion");
		reopen(f);
	}
	lease(f, &fetcherd);
	c = change_of(SP_EV_FAIL, &fetcherd);
	c.lease = f->lease;
	c.reason = "no such model";
	commit(f, &c);
	assert_int_equal(state_of(f), SP_JOB_FAILED);
	c = change_of(SP_EV_RETRY, &anna);
	c.next_lease = fresh_lease(f);
	commit(f, &c);
	assert_int_equal(state_of(f), SP_JOB_SUBMITTED);
	assert_int_equal(attempt_of(f).attempt, 1);
	assert_int_equal(attempt_of(f).step, SP_STEP_FETCH);
	verify_outside(f);
	reopen(f);
}

static void
test_refuses_second_owner(void **state)
{
	struct fixture *f = *state;
	struct fixture second = *f;
	struct sp_err err;

	assert_int_equal(open_ledger(&second, &err), SP_E_EXISTS);
	assert_non_null(strstr(err.msg, "in use"));
	assert_null(second.ledger);
}

/* What `statement` does to the closed database, from outside. */
static int
tamper(struct fixture *f, const char *statement)
{
	sqlite3 *db;
	int rc;

	sp_ledger_close(&f->ledger);
	assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
	rc = sqlite3_exec(db, statement, NULL, NULL, NULL);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
	return rc;
}

static void
test_entries_are_immutable(void **state)
{
	static const char *const refused[] = {
	    "UPDATE entry SET body = x'00' WHERE seq = 0",
	    "UPDATE entry SET job = ''",
	    "DELETE FROM entry WHERE seq = 1",
	    "INSERT INTO entry(seq, job, body, leaf) VALUES(7, '', x'00', zeroblob(32))",
	    "INSERT OR REPLACE INTO entry(seq, job, body, leaf) VALUES(0, '', x'00', zeroblob(32))",
	    "INSERT INTO entry(seq, job, body, leaf) VALUES(2, '', x'00', zeroblob(31))",
	    "DELETE FROM checkpoint",
	    "UPDATE checkpoint SET size = 1",
	};
	struct fixture *f = *state;
	size_t i;

	submit_kind(f, SP_RECIPE_MODEL);
	lease(f, &fetcherd);
	for (i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		if (tamper(f, refused[i]) != SQLITE_CONSTRAINT)
			fail_msg("the database lets through: %s", refused[i]);
	reopen(f);
	assert_int_equal(verify_outside(f), 2);
}

/* Who drops the triggers first is found out at the next start. */
static void
test_tampering_is_found(void **state)
{
	static const struct {
		const char *statement, *says;
	} cases[] = {
	    {"DROP TRIGGER entry_no_update;"
	     "UPDATE entry SET body = substr(body, 1, length(body) - 1) WHERE seq = 1",
		"altered"},
	    {"DROP TRIGGER entry_no_delete; DELETE FROM entry WHERE seq = 2", "cut"},
	    {"UPDATE job SET state = 'APPROVED'", "state"},
	    {"UPDATE job SET version = 9", "version"},
	    {"UPDATE attempt SET worker = 'quantd@bastion'", "worker"},
	    {"UPDATE attempt SET state = 'done'", "attempt"},
	    {"PRAGMA foreign_keys = OFF; DELETE FROM job", "job table holds 0"},
	    {"UPDATE job SET state = 'NONSENSE'", "NONSENSE"},
	    {"PRAGMA user_version = 9", "schema version"},
	};
	struct sp_job begun = {.recipe = SP_RECIPE_MODEL, .submitter = -1};
	struct fixture *f = *state;
	struct sp_err err;
	size_t i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		sp_ledger_close(&f->ledger);
		assert_int_equal(sp_file_remove_all(f->path, NULL), SP_OK);
		reopen(f);
		submit_kind(f, SP_RECIPE_MODEL);
		lease(f, &fetcherd);
		commit(f, &(struct sp_change){.job = OTHER,
			      .event = SP_EV_BEGIN,
			      .actor = rxd,
			      .unix_ms = 1,
			      .fresh = &begun,
			      .next_lease = OTHER});
		assert_int_equal(tamper(f, cases[i].statement), SQLITE_OK);
		assert_int_not_equal(open_ledger(f, &err), SP_OK);
		if (strstr(err.msg, cases[i].says) == NULL)
			fail_msg("%s: %s", cases[i].statement, err.msg);
	}
	assert_int_equal(sp_file_remove_all(f->path, NULL), SP_OK);
}

/* Rows of what steps and operators added. */
static void
test_altered_evidence_is_found(void **state)
{
	static const struct {
		const char *statement, *says;
	} cases[] = {
	    {"UPDATE attestation SET envelope = x'7b7d' WHERE ord = 1", "attestations"},
	    {"UPDATE attestation SET step = 'scan' WHERE ord = 2", "attestations"},
	    {"DELETE FROM attestation WHERE ord = 2", "attestations"},
	    {"UPDATE approval SET person = 'eve'", "approvals"},
	    {"UPDATE approval SET keyid = '" HEX_B "'", "approvals"},
	    {"DELETE FROM approval", "approvals"},
	};
	struct sp_change_approval approval = {HEX_A, "anna", "{}", 2};
	struct sp_change c = change_of(SP_EV_APPROVE, &anna);
	struct fixture *f = *state;
	struct sp_err err;
	size_t i;

	c.approval = &approval;
	c.actor.key_id = HEX_A;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		sp_ledger_close(&f->ledger);
		assert_int_equal(sp_file_remove_all(f->path, NULL), SP_OK);
		reopen(f);
		to_approval(f);
		commit(f, &c);
		reopen(f);
		assert_int_equal(tamper(f, cases[i].statement), SQLITE_OK);
		assert_int_equal(open_ledger(f, &err), SP_E_CORRUPT);
		if (strstr(err.msg, cases[i].says) == NULL)
			fail_msg("%s: %s", cases[i].statement, err.msg);
	}
	assert_int_equal(sp_file_remove_all(f->path, NULL), SP_OK);
}

/* kill -9 of a process that is at work, again and again: what is found afterwards is whole, and
 * nothing that it had seen committed is missing. */
static void
test_kill_at_any_moment(void **state)
{
	struct fixture *f = *state;
	struct sp_change c;
	uint64_t told, size;
	struct sp_err err;
	int pipes[2], round, status;
	pid_t pid;

	sp_ledger_close(&f->ledger);
	for (round = 0; round < 12; round++) {
		assert_int_equal(pipe(pipes), 0);
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			char id[33];

			close(pipes[0]);
			if (open_ledger(f, &err) != SP_OK)
				_exit(1);
			for (unsigned i = 0;; i++) {
				struct sp_job job = {.recipe = SP_RECIPE_FILE,
				    .submitter = 1000,
				    .source = id,
				    .profile = id,
				    .name = id,
				    .destination = id,
				    .policy = (uint8_t *)id,
				    .policy_len = 2};

				snprintf(id, sizeof(id), "%016x%016x", round, i);
				c = change_of(SP_EV_SUBMIT, &anna);
				c.job = id;
				c.fresh = &job;
				c.next_lease = id;
				if (sp_ledger_begin(f->ledger, &err) != SP_OK ||
				    apply(f, &c, &err) != SP_OK ||
				    sp_ledger_commit(f->ledger, &err) != SP_OK)
					_exit(1);
				size = sp_ledger_size(f->ledger);
				if (write(pipes[1], &size, sizeof(size)) != sizeof(size))
					_exit(1);
				if (sp_ledger_sign(f->ledger, NULL, &err) != SP_OK)
					_exit(1);
			}
		}
		close(pipes[1]);
		told = 0;
		/* a different number of commits each round, then the kill falls where it may */
		for (int i = 0; i < 3 + 5 * round; i++)
			assert_int_equal(read(pipes[0], &told, sizeof(told)), sizeof(told));
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		while (read(pipes[0], &size, sizeof(size)) == sizeof(size))
			told = size;
		close(pipes[0]);
		if (open_ledger(f, &err) != SP_OK)
			fail_msg("round %d: %s", round, err.msg);
		assert_true(sp_ledger_size(f->ledger) >= told);
		assert_true(sp_ledger_size(f->ledger) <= told + 1);
		sp_ledger_close(&f->ledger);
	}
	assert_int_equal(open_ledger(f, &err), SP_OK);
}

/* Killed after the commit and before anything was signed or sent: the step is still offered, and a
 * checkpoint over the entry is made at the next start. */
static void
test_crash_between_commit_and_send(void **state)
{
	struct fixture *f = *state;
	struct sp_attempt *alive;
	struct sp_change c;
	size_t count, len;
	uint64_t size;
	struct sp_err err;
	int status;
	pid_t pid;

	submit_kind(f, SP_RECIPE_MODEL);
	lease(f, &fetcherd);
	sp_ledger_close(&f->ledger);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct sp_outcome outcome = {0};

		if (open_ledger(f, &err) != SP_OK)
			_exit(1);
		sp_outcome_artifact(&outcome, "source", HEX_A, "fetcherd", 1, 1);
		c = change_of(SP_EV_DONE, &fetcherd);
		c.lease = f->lease;
		c.outcome = &outcome;
		c.next_lease = "99999999999999999999999999999999";
		if (sp_ledger_begin(f->ledger, &err) != SP_OK || apply(f, &c, &err) != SP_OK ||
		    sp_ledger_commit(f->ledger, &err) != SP_OK)
			_exit(1);
		kill(getpid(), SIGKILL);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	if (open_ledger(f, &err) != SP_OK)
		fail_msg("%s", err.msg);
	assert_int_equal(state_of(f), SP_JOB_FETCHED);
	assert_int_equal(sp_table_alive(sp_ledger_db(f->ledger), &alive, &count, NULL), SP_OK);
	assert_int_equal(count, 1);
	assert_string_equal(alive[0].lease, "99999999999999999999999999999999");
	assert_int_equal(alive[0].state, SP_LEASE_OFFERED);
	assert_int_equal(alive[0].step, SP_STEP_QUANTIZE);
	free(alive);
	sp_ledger_checkpoint(f->ledger, &len, &size);
	assert_int_equal(size, 3);
	assert_int_equal(verify_outside(f), 3);
	/* and a transition that was not committed leaves no trace */
	c = change_of(SP_EV_CANCEL, &anna);
	assert_int_equal(sp_ledger_begin(f->ledger, &err), SP_OK);
	assert_int_equal(apply(f, &c, &err), SP_OK);
	assert_int_equal(sp_ledger_size(f->ledger), 4);
	sp_ledger_rollback(f->ledger);
	assert_int_equal(sp_ledger_size(f->ledger), 3);
	assert_int_equal(state_of(f), SP_JOB_FETCHED);
	assert_int_equal(verify_outside(f), 3);
}

/* diode-rxd does what is due: a release, two versions of it, a name that no entry keeps. */
static void
receive(struct fixture *f, enum sp_job_event event)
{
	struct sp_change c = change_of(event, &rxd);
	struct sp_outcome outcome = {0};
	char old[33];

	lease(f, &rxd);
	memcpy(old, f->lease, sizeof(old));
	sp_outcome_artifact(&outcome, "release", HEX_A, "diode-rxd", 0, 9);
	sp_outcome_detail(&outcome, "name", "org/%0*d", SP_ENTRY_VALUE_MAX, 7);
	sp_outcome_detail(&outcome, "version", "7");
	sp_outcome_detail(&outcome, "version", "8");
	c.lease = old;
	c.outcome = &outcome;
	c.next_lease = fresh_lease(f);
	commit(f, &c);
	sp_outcome_clear(&outcome);
}

/* However often a transfer is repaired, what it leaves stays short enough for a task; and what a
 * worker says twice or at length does not part the table from the log: no start would follow. */
static void
test_enclave(void **state)
{
	struct sp_job fresh = {.recipe = SP_RECIPE_MODEL, .submitter = -1}, job;
	struct fixture *f = *state;
	struct sp_table_extras extras;
	struct sp_change c;
	int i;

	for (i = 0; i < 5; i++) {
		c = change_of(SP_EV_BEGIN, &rxd);
		c.fresh = &fresh;
		c.next_lease = fresh_lease(f);
		commit(f, &c);
		receive(f, SP_EV_DONE);
		receive(f, i < 4 ? SP_EV_INCOMPLETE : SP_EV_DONE);
	}
	assert_int_equal(sp_table_extras(sp_ledger_db(f->ledger), JOB, &extras, NULL), SP_OK);
	assert_int_equal(extras.artifact_count, 2); /* of receive, of verify */
	sp_table_extras_clear(&extras);
	job = job_row(f);
	assert_int_equal(job.version, 7);
	sp_table_job_clear(&job);
	verify_outside(f);
	reopen(f);
}

/* Several transitions in one transaction: all or none, one checkpoint over all. */
static void
test_group_commit(void **state)
{
	struct fixture *f = *state;
	struct sp_entry *entry;
	struct sp_change c;
	struct sp_err err;
	uint64_t seq, size;
	size_t len;
	int i;

	submit_kind(f, SP_RECIPE_MODEL);
	assert_int_equal(sp_ledger_begin(f->ledger, &err), SP_OK);
	for (i = 0; i < 5; i++) {
		entry = sp_entry_new(&self, "admission");
		assert_int_equal(sp_ledger_append(f->ledger, entry, 1, 1, &seq, &err), SP_OK);
		assert_int_equal(seq, 1 + i);
		sp_entry_free(&entry);
	}
	/* one of the group fails: what it had done is undone, the others stay */
	assert_int_equal(sp_ledger_mark(f->ledger, &err), SP_OK);
	c = change_of(SP_EV_CANCEL, &anna);
	assert_int_equal(apply(f, &c, &err), SP_OK);
	assert_int_equal(apply(f, &c, &err), SP_E_STATE);
	assert_true(sp_ledger_undo(f->ledger));
	assert_int_equal(sp_ledger_mark(f->ledger, &err), SP_OK);
	c = change_of(SP_EV_LEASE, &fetcherd);
	c.worker = "fetcherd@bastion";
	c.lease = f->lease;
	assert_int_equal(apply(f, &c, &err), SP_OK);
	assert_int_equal(sp_ledger_commit(f->ledger, &err), SP_OK);
	assert_int_equal(sp_ledger_sign(f->ledger, &i, &err), SP_OK);
	assert_int_equal(i, 1);
	assert_int_equal(sp_ledger_sign(f->ledger, &i, &err), SP_OK);
	assert_int_equal(i, 0);
	sp_ledger_checkpoint(f->ledger, &len, &size);
	assert_int_equal(size, 7);
	/* SQLite may end a transaction on its own: what was in it is then known to be gone */
	assert_int_equal(sp_ledger_begin(f->ledger, &err), SP_OK);
	entry = sp_entry_new(&self, "admission");
	assert_int_equal(sp_ledger_append(f->ledger, entry, 1, 1, &seq, &err), SP_OK);
	sp_entry_free(&entry);
	sp_db_rollback(sp_ledger_db(f->ledger));
	assert_int_equal(sp_ledger_mark(f->ledger, &err), SP_E_IO);
	sp_ledger_rollback(f->ledger);
	assert_int_equal(verify_outside(f), 7);
	reopen(f);
}

static void
test_proofs(void **state)
{
	struct fixture *f = *state;
	uint8_t proof[SP_MERKLE_PROOF_MAX][SP_DIGEST_LEN], leaf[SP_DIGEST_LEN];
	struct collected c = {.count = 0};
	struct sp_checkpoint checkpoint;
	const uint8_t *data;
	struct sp_note note;
	size_t len, count, i;

	to_approval(f);
	data = sp_ledger_checkpoint(f->ledger, &len, NULL);
	assert_int_equal(sp_note_parse(data, len, &note, NULL), SP_OK);
	assert_true(sp_note_verify(&note, ORIGIN, log_pk));
	assert_int_equal(sp_checkpoint_parse(note.text, note.text_len, &checkpoint, NULL), SP_OK);
	sp_note_clear(&note);
	assert_int_equal(sp_ledger_entries(f->ledger, 0, 64, JOB, collect, &c, NULL), SP_OK);
	assert_int_equal(c.count, 8);
	for (i = 0; i < c.count; i++) {
		assert_int_equal(sp_ledger_prove(f->ledger, i, proof, &count, NULL), SP_OK);
		sp_merkle_leaf(c.bytes[i].data, c.bytes[i].len, leaf);
		assert_true(sp_merkle_verify(
		    leaf, i, checkpoint.size, (const uint8_t(*)[32])proof, count, checkpoint.root));
		free((void *)(uintptr_t)c.bytes[i].data);
	}
	assert_int_equal(sp_ledger_prove(f->ledger, 8, proof, &count, NULL), SP_E_NOT_FOUND);
	c.count = 0;
	assert_int_equal(sp_ledger_entries(f->ledger, 6, 1, "", collect, &c, NULL), SP_OK);
	assert_int_equal(c.count, 1);
	free((void *)(uintptr_t)c.bytes[0].data);
}

/* A disk that is full: the transition fails as a whole, and goes through when there is room. */
static void
test_full_disk(void **state)
{
	struct fixture *f = *state;
	struct rlimit old, none = {0};
	struct sp_change c;
	struct sp_err err;
	enum sp_code code;

	submit_kind(f, SP_RECIPE_MODEL);
	c = change_of(SP_EV_CANCEL, &anna);
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	none.rlim_max = old.rlim_max;
	none.rlim_cur = 4096;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
	code = sp_ledger_begin(f->ledger, &err);
	if (code == SP_OK)
		code = apply(f, &c, &err);
	if (code == SP_OK)
		code = sp_ledger_commit(f->ledger, &err);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_not_equal(code, SP_OK);
	sp_ledger_rollback(f->ledger);
	assert_int_equal(sp_ledger_size(f->ledger), 1);
	assert_int_equal(state_of(f), SP_JOB_SUBMITTED);
	commit(f, &c);
	assert_int_equal(state_of(f), SP_JOB_CANCELLED);
	assert_int_equal(verify_outside(f), 2);
	reopen(f);
}

static enum sp_code
count_jobs(void *ctx, const struct sp_job *job, struct sp_err *err)
{
	(void)job;
	(void)err;
	++*(int *)ctx;
	return SP_OK;
}

static void
test_lookups(void **state)
{
	struct fixture *f = *state;
	struct sp_db *db = sp_ledger_db(f->ledger);
	char id[33];
	uint8_t *content;
	struct sp_change c;
	size_t len;
	int n = 0;

	submit_kind(f, SP_RECIPE_MODEL);
	assert_int_equal(sp_table_resolve(db, "0011", id, NULL), SP_OK);
	assert_string_equal(id, JOB);
	assert_int_equal(sp_table_resolve(db, JOB, id, NULL), SP_OK);
	assert_int_equal(sp_table_resolve(db, "001", id, NULL), SP_E_INVALID);
	assert_int_equal(sp_table_resolve(db, "0012", id, NULL), SP_E_NOT_FOUND);
	assert_int_equal(sp_table_resolve(db, "00%1", id, NULL), SP_E_INVALID);
	assert_int_equal(sp_table_jobs(db, 0, UINT64_MAX, count_jobs, &n, NULL), SP_OK);
	assert_int_equal(n, 1);
	c = change_of(SP_EV_CANCEL, &anna);
	commit(f, &c);
	n = 0;
	assert_int_equal(sp_table_jobs(db, 0, UINT64_MAX, count_jobs, &n, NULL), SP_OK);
	assert_int_equal(n, 0);
	assert_int_equal(sp_table_jobs(db, 1, UINT64_MAX, count_jobs, &n, NULL), SP_OK);
	assert_int_equal(n, 1);
	assert_int_equal(sp_table_topic(db, "snapshot", &content, &len, NULL), SP_E_NOT_FOUND);
	assert_int_equal(sp_table_set_topic(db, "snapshot", "one", 3, 1, NULL), SP_OK);
	assert_int_equal(sp_table_set_topic(db, "snapshot", "three", 5, 2, NULL), SP_OK);
	assert_int_equal(sp_table_topic(db, "snapshot", &content, &len, NULL), SP_OK);
	assert_int_equal(len, 5);
	assert_memory_equal(content, "three", 5);
	free(content);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_path_to_approval),
	    TEST(test_approvals),
	    TEST(test_short_recipe_and_versions),
	    TEST(test_what_cannot_be),
	    TEST(test_attempts),
	    TEST(test_refuses_second_owner),
	    TEST(test_entries_are_immutable),
	    TEST(test_tampering_is_found),
	    TEST(test_altered_evidence_is_found),
	    TEST(test_kill_at_any_moment),
	    TEST(test_crash_between_commit_and_send),
	    TEST(test_group_commit),
	    TEST(test_enclave),
	    TEST(test_proofs),
	    TEST(test_full_disk),
	    TEST(test_lookups),
	};

	if (sodium_init() < 0)
		return 1;
	crypto_sign_keypair(log_pk, log_sk);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
