/* ledgerd_step.c -- what ledgerd decides: leases, offers, results, approvals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ledgerd/core.h"
#include "release_rig.h"

#define LEASE1 "11111111111111111111111111111111"
#define LEASE2 "22222222222222222222222222222222"
#define OTHER_JOB "ffffffffffffffffffffffffffffffff"

static struct rig rig;
static struct sp_err err;
static struct ledgerd_core core;
static struct ledgerd_actions actions;

static const struct ledgerd_who fetcherd = {"fetcherd@bastion", "fetcherd"};
static const struct ledgerd_who quantd = {"quantd@bastion", "quantd"};
static const struct ledgerd_who quantd2 = {"quantd@gpu2", "quantd"};
static const struct ledgerd_who validatord = {"validatord@bastion", "validatord"};
static const struct ledgerd_who txd = {"diode-txd@bastion", "diode-txd"};
static const struct ledgerd_who rxd = {"diode-rxd@enclave", "diode-rxd"};

static int
setup(void **state)
{
	(void)state;
	ledgerd_core_free(&core);
	core.settings = (struct ledgerd_settings){
	    .bastion = 1, .heartbeat_ms = 100, .lease_ms = 1000, .backoff_ms = 50, .attempts = 3};
	ledgerd_actions_clear(&actions);
	return 0;
}

static struct sp_attempt
attempt(const char *lease, const char *job, enum sp_step step, enum sp_lease_state state,
    const char *worker)
{
	struct sp_attempt a = {.step = step, .attempt = 1, .state = state};

	snprintf(a.lease, sizeof(a.lease), "%s", lease);
	snprintf(a.job, sizeof(a.job), "%s", job);
	snprintf(a.worker, sizeof(a.worker), "%s", worker);
	return a;
}

/* --- heartbeats, deadlines, offers ------------------------------------------------------------ */

/* step: "" for none; lease: NULL for none */
static void
beat(const struct ledgerd_who *who, const char *step, unsigned free_slots, const char *lease,
    uint64_t done, int running, int64_t now_ms)
{
	Sallyport__Heartbeat heartbeat;
	Sallyport__Progress progress, *list[1] = {&progress};
	char *steps[1], name[32];

	sallyport__heartbeat__init(&heartbeat);
	sallyport__progress__init(&progress);
	snprintf(name, sizeof(name), "%s", step);
	steps[0] = name;
	heartbeat.n_steps = 1;
	heartbeat.steps = steps;
	heartbeat.free = free_slots;
	progress.lease = (char *)(uintptr_t)(lease != NULL ? lease : "");
	progress.done = done;
	progress.running = running;
	heartbeat.n_leases = lease != NULL;
	heartbeat.leases = list;
	ledgerd_actions_clear(&actions);
	ledgerd_core_heartbeat(&core, who, &heartbeat, now_ms, &actions);
}

static void
schedule(int64_t now_ms, int64_t unix_ms)
{
	ledgerd_actions_clear(&actions);
	ledgerd_core_schedule(&core, now_ms, unix_ms, &actions);
}

static void
offered_to(const char *worker)
{
	if (worker == NULL) {
		assert_int_equal(actions.count, 0);
		return;
	}
	assert_int_equal(actions.count, 1);
	assert_int_equal(actions.list[0].what, LEDGERD_OFFER);
	assert_string_equal(actions.list[0].worker, worker);
}

static void
test_offers(void **state)
{
	struct sp_attempt a = attempt(LEASE1, RIG_JOB, SP_STEP_QUANTIZE, SP_LEASE_OFFERED, "");

	(void)state;
	a.not_before_ms = 5000;
	ledgerd_core_load(&core, &a, 1, 0);
	schedule(0, 6000);
	offered_to(NULL);
	/* another service, another step, no free slot */
	beat(&fetcherd, "quantize", 1, NULL, 0, 0, 0);
	beat(&quantd, "dance", 1, NULL, 0, 0, 0);
	schedule(0, 6000);
	offered_to(NULL);
	beat(&quantd, "quantize", 0, NULL, 0, 0, 0);
	schedule(0, 6000);
	offered_to(NULL);
	/* back-off */
	beat(&quantd, "quantize", 1, NULL, 0, 0, 0);
	schedule(0, 4999);
	offered_to(NULL);
	schedule(0, 5000);
	offered_to("quantd@bastion");
	/* not again while the answer may come; then to another rather than to the same */
	schedule(150, 6000);
	offered_to(NULL);
	beat(&quantd2, "quantize", 1, NULL, 0, 0, 150);
	schedule(199, 6000);
	offered_to(NULL);
	schedule(200, 6000);
	offered_to("quantd@gpu2");
	schedule(400, 6000);
	offered_to("quantd@bastion");
	/* one that was silent for too long is not there */
	beat(&quantd2, "quantize", 1, NULL, 0, 0, 1200);
	schedule(1200, 6000);
	offered_to("quantd@gpu2");
	ledgerd_core_gone(&core, "quantd@gpu2");
	schedule(1500, 6000);
	offered_to(NULL);
}

static void
test_offers_prefer_and_pin(void **state)
{
	struct sp_attempt a[2];

	(void)state;
	a[0] = attempt(LEASE1, RIG_JOB, SP_STEP_QUANTIZE, SP_LEASE_OFFERED, "");
	snprintf(a[0].avoid, sizeof(a[0].avoid), "quantd@bastion");
	ledgerd_core_load(&core, a, 1, 0);
	beat(&quantd, "quantize", 9, NULL, 0, 0, 0);
	beat(&quantd2, "quantize", 1, NULL, 0, 0, 0);
	schedule(0, 0);
	offered_to("quantd@gpu2");
	/* the one to avoid is better than none */
	ledgerd_core_load(&core, NULL, 0, 0);
	ledgerd_core_load(&core, a, 1, 0);
	ledgerd_core_gone(&core, "quantd@gpu2");
	schedule(0, 0);
	offered_to("quantd@bastion");
	/* a pinned step waits for its worker */
	a[0].avoid[0] = '\0';
	snprintf(a[0].pin, sizeof(a[0].pin), "quantd@gpu2");
	ledgerd_core_load(&core, NULL, 0, 0);
	ledgerd_core_load(&core, a, 1, 0);
	schedule(0, 0);
	offered_to(NULL);
	beat(&quantd2, "quantize", 1, NULL, 0, 0, 0);
	schedule(0, 0);
	offered_to("quantd@gpu2");
	/* one free slot is one offer */
	a[0].pin[0] = '\0';
	a[1] = attempt(LEASE2, OTHER_JOB, SP_STEP_QUANTIZE, SP_LEASE_OFFERED, "");
	ledgerd_core_load(&core, NULL, 0, 0);
	ledgerd_core_load(&core, a, 2, 0);
	beat(&quantd, "quantize", 0, NULL, 0, 0, 0);
	schedule(0, 0);
	offered_to("quantd@gpu2");
}

static void
test_leases(void **state)
{
	struct sp_attempt a[2];
	struct ledgerd_live *live;

	(void)state;
	a[0] = attempt(LEASE1, RIG_JOB, SP_STEP_QUANTIZE, SP_LEASE_LEASED, "quantd@bastion");
	a[1] = attempt(LEASE2, OTHER_JOB, SP_STEP_QUANTIZE, SP_LEASE_RUNNING, "quantd@gpu2");
	a[1].attempt = 3;
	/* what is found at the start has a full lease_ms to show up */
	ledgerd_core_load(&core, a, 2, 500);
	ledgerd_core_expire(&core, 1499, &actions);
	assert_int_equal(actions.count, 0);
	beat(&quantd, "quantize", 0, LEASE1, 5, 1, 1400);
	assert_int_equal(actions.count, 1);
	assert_int_equal(actions.list[0].what, LEDGERD_RUNNING);
	live = ledgerd_core_lease(&core, LEASE1);
	assert_int_equal(live->a.state, SP_LEASE_RUNNING);
	assert_int_equal(live->done, 5);
	assert_int_equal(live->news, 2);
	beat(&quantd, "quantize", 0, LEASE1, 5, 1, 1400);
	assert_int_equal(actions.count, 0);
	assert_int_equal(live->news, 2);
	/* the one that was not renewed is lost; it was the last attempt */
	ledgerd_actions_clear(&actions);
	ledgerd_core_expire(&core, 1500, &actions);
	assert_int_equal(actions.count, 1);
	assert_int_equal(actions.list[0].what, LEDGERD_CHANGE);
	assert_int_equal(actions.list[0].event, SP_EV_FAIL);
	assert_string_equal(actions.list[0].lease, LEASE2);
	assert_true(actions.list[0].by_ledger);
	ledgerd_actions_clear(&actions);
	ledgerd_core_expire(&core, 2400, &actions);
	assert_int_equal(actions.count, 2);
	assert_int_equal(actions.list[0].event, SP_EV_LOST);
	assert_string_equal(actions.list[0].avoid, "quantd@bastion");
	/* somebody else's lease, and one that never was: drop them */
	beat(&quantd, "quantize", 0, LEASE2, 0, 0, 1400);
	assert_int_equal(actions.count, 1);
	assert_int_equal(actions.list[0].what, LEDGERD_REFUSE);
	assert_string_equal(actions.list[0].lease, LEASE2);
	beat(&quantd, "quantize", 0, OTHER_JOB, 0, 0, 1400);
	assert_int_equal(actions.list[0].what, LEDGERD_REFUSE);
}

/* A message that was undone has the rows read again: nothing is prolonged or forgotten by that. */
static void
test_reload_keeps_deadlines(void **state)
{
	struct sp_attempt a[2];

	(void)state;
	a[0] = attempt(LEASE1, RIG_JOB, SP_STEP_QUANTIZE, SP_LEASE_LEASED, "quantd@bastion");
	a[1] = attempt(LEASE2, OTHER_JOB, SP_STEP_QUANTIZE, SP_LEASE_OFFERED, "");
	ledgerd_core_load(&core, a, 2, 0);
	beat(&quantd2, "quantize", 1, NULL, 0, 0, 0);
	schedule(0, 0);
	offered_to("quantd@gpu2");
	beat(&quantd, "quantize", 0, LEASE1, 5, 0, 100);
	ledgerd_core_load(&core, a, 2, 150);
	schedule(150, 0);
	offered_to(NULL);
	assert_int_equal(ledgerd_core_lease(&core, LEASE1)->done, 5);
	ledgerd_core_load(&core, a, 2, 1099);
	ledgerd_core_expire(&core, 1100, &actions);
	assert_int_equal(actions.count, 1);
	/* a lease whose taking was undone is an offer again, and the other way round */
	a[0] = attempt(LEASE1, RIG_JOB, SP_STEP_QUANTIZE, SP_LEASE_OFFERED, "");
	a[0].not_before_ms = 2 * SP_JOBS_BACKOFF_MAX_MS;
	ledgerd_core_load(&core, a, 1, 500);
	assert_int_equal(ledgerd_core_lease(&core, LEASE1)->deadline_ms, 1500);
	schedule(500, SP_JOBS_BACKOFF_MAX_MS);
	offered_to(NULL);
	schedule(500, SP_JOBS_BACKOFF_MAX_MS - 1); /* the clock was set back */
	offered_to("quantd@gpu2");
}

static void
test_core_follows_changes(void **state)
{
	struct sp_attempt a = attempt(LEASE1, RIG_JOB, SP_STEP_FETCH, SP_LEASE_OFFERED, "");
	struct sp_changed changed = {.had_attempt = 1};

	(void)state;
	ledgerd_core_load(&core, &a, 1, 0);
	beat(&fetcherd, "fetch", 1, NULL, 0, 0, 0);
	changed.attempt =
	    attempt(LEASE1, RIG_JOB, SP_STEP_FETCH, SP_LEASE_LEASED, "fetcherd@bastion");
	ledgerd_core_note(&core, &changed, 10);
	assert_int_equal(core.peers[0].free, 0);
	assert_int_equal(ledgerd_core_lease(&core, LEASE1)->deadline_ms, 1010);
	changed.attempt.state = SP_LEASE_DONE;
	changed.has_next = 1;
	changed.next = attempt(LEASE2, RIG_JOB, SP_STEP_QUANTIZE, SP_LEASE_OFFERED, "");
	ledgerd_core_note(&core, &changed, 20);
	assert_null(ledgerd_core_lease(&core, LEASE1));
	assert_string_equal(ledgerd_core_job(&core, RIG_JOB)->a.lease, LEASE2);
	assert_int_equal(core.lives.count, 1);
}

/* A crowd of workers: the list keeps to its size, and the silent ones make room. */
static void
test_peers_are_bounded(void **state)
{
	struct ledgerd_who who = {NULL, "quantd"};
	char name[64];
	int i;

	(void)state;
	for (i = 0; i < LEDGERD_PEERS_MAX + 50; i++) {
		snprintf(name, sizeof(name), "quantd@%d", i);
		who.name = name;
		beat(&who, "quantize", 1, NULL, 0, 0, i);
	}
	assert_int_equal(core.peer_count, LEDGERD_PEERS_MAX);
	for (i = 0; i < LEDGERD_PEERS_MAX; i++)
		assert_true(core.peers[i].seen_ms >= 50);
}

/* --- accept ----------------------------------------------------------------------------------- */

static void
accept(const struct ledgerd_who *who, const struct sp_attempt *a)
{
	ledgerd_actions_clear(&actions);
	ledgerd_step_accept(who, LEASE1, a, &actions);
}

static void
refused(enum sp_code code, const char *lease)
{
	assert_int_equal(actions.count, 1);
	assert_int_equal(actions.list[0].what, LEDGERD_REFUSE);
	assert_int_equal(actions.list[0].err.code, code);
	assert_string_equal(actions.list[0].lease, lease);
}

static void
test_accept(void **state)
{
	struct sp_attempt a = attempt(LEASE1, RIG_JOB, SP_STEP_QUANTIZE, SP_LEASE_OFFERED, "");

	(void)state;
	accept(&quantd, NULL);
	refused(SP_E_NOT_FOUND, LEASE1);
	accept(&fetcherd, &a);
	refused(SP_E_DENIED, LEASE1);
	accept(&quantd, &a);
	assert_int_equal(actions.count, 2);
	assert_int_equal(actions.list[0].what, LEDGERD_CHANGE);
	assert_int_equal(actions.list[0].event, SP_EV_LEASE);
	assert_string_equal(actions.list[0].job, RIG_JOB);
	assert_int_equal(actions.list[1].what, LEDGERD_ACK);
	snprintf(a.pin, sizeof(a.pin), "quantd@gpu2");
	accept(&quantd, &a);
	refused(SP_E_DENIED, LEASE1);
	accept(&quantd2, &a);
	assert_int_equal(actions.count, 2);
	/* first come, first served; a repeat of the first gets the first's answer */
	a = attempt(LEASE1, RIG_JOB, SP_STEP_QUANTIZE, SP_LEASE_LEASED, "quantd@bastion");
	a.seq = 7;
	accept(&quantd, &a);
	assert_int_equal(actions.count, 1);
	assert_int_equal(actions.list[0].what, LEDGERD_ACK);
	assert_int_equal(actions.list[0].log_seq, 7);
	accept(&quantd2, &a);
	refused(SP_E_STATE, LEASE1);
	a.state = SP_LEASE_LOST;
	accept(&quantd, &a);
	refused(SP_E_STATE, LEASE1);
}

/* --- results ---------------------------------------------------------------------------------- */

/* What a job has, and what a worker brings, for one case. */
struct bringing {
	const struct ledgerd_who *who;
	enum sp_step step;
	const char *role, *digest, *store; /* artifact; role NULL: none */
	int blob;
	const char *attestation;
	const char *code, *message; /* of a failure; code NULL: done */
	int may_retry;
	unsigned attempt;
	enum sp_lease_state state;
	const char *holder;
};

static struct sp_table_extras extras;
static struct sp_table_artifact had[2];

static void
give(const char *role, const char *digest)
{
	struct sp_table_artifact *a = &had[extras.artifact_count++];

	memset(a, 0, sizeof(*a));
	snprintf(a->a.role, sizeof(a->a.role), "%s", role);
	snprintf(a->a.digest.s, sizeof(a->a.digest.s), "%s", digest);
	extras.artifacts = had;
	a->a.tree = 1;
}

static void
bring(const struct bringing *b)
{
	Sallyport__Result result;
	Sallyport__Done done;
	Sallyport__Failure failure;
	Sallyport__Artifact artifact, *artifacts[1] = {&artifact};
	struct sp_job job = {.id = RIG_JOB, .recipe = SP_RECIPE_MODEL};
	struct sp_attempt a;
	const char *store = b->store != NULL ? b->store : b->who->service;

	sallyport__result__init(&result);
	sallyport__done__init(&done);
	sallyport__failure__init(&failure);
	sallyport__artifact__init(&artifact);
	artifact.role = (char *)(uintptr_t)b->role;
	artifact.digest = (char *)(uintptr_t)b->digest;
	artifact.store = (char *)(uintptr_t)store;
	artifact.tree = !b->blob;
	result.lease = (char *)(uintptr_t)LEASE1;
	done.n_artifacts = failure.n_artifacts = b->role != NULL;
	done.artifacts = failure.artifacts = artifacts;
	if (b->attestation != NULL) {
		done.attestation.data = (uint8_t *)(uintptr_t)b->attestation;
		done.attestation.len = strlen(b->attestation);
		failure.attestation = done.attestation;
	}
	failure.code = (char *)(uintptr_t)b->code;
	failure.message = (char *)(uintptr_t)(b->message != NULL ? b->message : "it went wrong");
	failure.may_retry = b->may_retry;
	result.outcome_case =
	    b->code == NULL ? SALLYPORT__RESULT__OUTCOME_DONE : SALLYPORT__RESULT__OUTCOME_FAILURE;
	if (b->code == NULL)
		result.done = &done;
	else
		result.failure = &failure;
	a = attempt(LEASE1, RIG_JOB, b->step,
	    b->state != SP_LEASE_OFFERED ? b->state : SP_LEASE_RUNNING,
	    b->holder != NULL ? b->holder : b->who->name);
	a.seq = 42;
	if (b->attempt > 0)
		a.attempt = b->attempt;
	ledgerd_actions_clear(&actions);
	ledgerd_step_result(
	    &core.settings, b->who, &result, &a, &job, &extras, rig.trust, &actions);
}

static void
changes_to(enum sp_job_event event)
{
	assert_int_equal(actions.count, 2);
	assert_int_equal(actions.list[0].what, LEDGERD_CHANGE);
	if (actions.list[0].event != event)
		fail_msg("%s, not %s: %s", sp_jobs_event_name(actions.list[0].event),
		    sp_jobs_event_name(event), actions.list[0].reason);
	assert_int_equal(actions.list[1].what, LEDGERD_ACK);
}

/* The result does not count: the job fails, the worker hears why, nothing of it is kept. */
static void
unfit(const char *why)
{
	assert_int_equal(actions.count, 2);
	assert_int_equal(actions.list[0].what, LEDGERD_CHANGE);
	assert_int_equal(actions.list[0].event, SP_EV_FAIL);
	assert_int_equal(actions.list[1].what, LEDGERD_REFUSE);
	assert_string_equal(actions.list[1].lease, LEASE1);
	if (strstr(actions.list[0].reason, why) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", actions.list[0].reason, why);
	assert_int_equal(actions.outcome.artifact_count, 0);
	assert_int_equal(actions.outcome.attestation_len, 0);
}

static void
test_result_fetch(void **state)
{
	const struct rig_deviation none = {0}, job = {.fetch_job = OTHER_JOB},
				   key = {.fetch_key = rig.keys[SP_ROLE_QUANTIZE]},
				   stranger = {.fetch_key = rig.eve};
	const struct ledgerd_who second = {"fetcherd@elsewhere", "fetcherd"};
	struct bringing b = {
	    .who = &fetcherd, .step = SP_STEP_FETCH, .role = "source", .digest = RIG_SOURCE};
	struct rig_parts parts;

	(void)state;
	memset(&extras, 0, sizeof(extras));
	rig_parts(&rig, &none, &parts);
	b.attestation = parts.text[0];
	bring(&b);
	changes_to(SP_EV_DONE);
	assert_int_equal(actions.outcome.artifact_count, 1);
	/* signed by fetcherd@bastion's key, but brought by another */
	b.who = &second;
	bring(&b);
	unfit("of fetcherd@bastion, but came from fetcherd@elsewhere");
	b.who = &fetcherd;
	b.digest = RIG_OTHER;
	bring(&b);
	unfit("speaks of tree " RIG_SOURCE);
	b.digest = RIG_SOURCE;
	b.store = "quantd";
	bring(&b);
	unfit("store of quantd");
	b.store = NULL;
	b.blob = 1;
	bring(&b);
	unfit("did not leave the artifact \"source\"");
	b.blob = 0;
	b.role = NULL;
	bring(&b);
	unfit("did not leave the artifact \"source\"");
	b.role = "source";
	b.attestation = NULL;
	bring(&b);
	unfit("missing");
	b.attestation = "{\"payload\":";
	bring(&b);
	unfit("attestation of step fetch");
	/* another stage's statement by the right daemon's kind of key */
	b.attestation = parts.text[1];
	bring(&b);
	unfit("fetch");
	rig_parts_free(&parts);
	rig_parts(&rig, &job, &parts);
	b.attestation = parts.text[0];
	bring(&b);
	unfit("made for job " OTHER_JOB);
	rig_parts_free(&parts);
	rig_parts(&rig, &key, &parts);
	b.attestation = parts.text[0];
	bring(&b);
	unfit("role fetch");
	rig_parts_free(&parts);
	rig_parts(&rig, &stranger, &parts);
	b.attestation = parts.text[0];
	bring(&b);
	unfit("role fetch");
	rig_parts_free(&parts);
}

static void
test_result_quantize(void **state)
{
	const struct rig_deviation none = {0}, material = {.quantize_material = RIG_OTHER},
				   type = {.quantize_type = SP_BUILD_FETCH};
	struct bringing b = {
	    .who = &quantd, .step = SP_STEP_QUANTIZE, .role = "candidate", .digest = RIG_TREE};
	struct rig_parts parts;

	(void)state;
	memset(&extras, 0, sizeof(extras));
	give("source", RIG_SOURCE);
	rig_parts(&rig, &none, &parts);
	b.attestation = parts.text[1];
	bring(&b);
	changes_to(SP_EV_DONE);
	/* a second quantd needs a key of its own */
	b.who = &quantd2;
	bring(&b);
	unfit("came from quantd@gpu2");
	b.who = &quantd;
	rig_parts_free(&parts);
	rig_parts(&rig, &material, &parts);
	b.attestation = parts.text[1];
	bring(&b);
	unfit("does not name the fetched tree " RIG_SOURCE);
	rig_parts_free(&parts);
	rig_parts(&rig, &type, &parts);
	b.attestation = parts.text[1];
	bring(&b);
	unfit("buildType");
	rig_parts_free(&parts);
}

static void
test_result_validate(void **state)
{
	const struct rig_deviation none = {0}, subject = {.gate_subject = RIG_OTHER},
				   baseline = {.gate_baseline = RIG_OTHER},
				   no = {.gate_result = "FAILED", .gate_failed = "mmlu"},
				   key = {.gate_result = "FAILED",
				       .gate_failed = "mmlu",
				       .gate_key = rig.keys[SP_ROLE_QUANTIZE]};
	struct bringing b = {.who = &validatord,
	    .step = SP_STEP_VALIDATE,
	    .role = "report",
	    .digest = RIG_OTHER,
	    .blob = 1};
	struct rig_parts parts;

	(void)state;
	memset(&extras, 0, sizeof(extras));
	give("source", RIG_SOURCE);
	give("candidate", RIG_TREE);
	rig_parts(&rig, &none, &parts);
	b.attestation = parts.text[2];
	bring(&b);
	changes_to(SP_EV_DONE);
	/* a verdict that passed cannot block */
	b.code = "blocked";
	bring(&b);
	unfit("says PASSED");
	b.code = NULL;
	rig_parts_free(&parts);
	/* one that did not pass is no result, but blocks */
	rig_parts(&rig, &no, &parts);
	b.attestation = parts.text[2];
	bring(&b);
	unfit("FAILED, not PASSED");
	b.code = "blocked";
	bring(&b);
	changes_to(SP_EV_BLOCK);
	assert_string_equal(actions.list[0].reason, "it went wrong");
	assert_int_equal(actions.outcome.artifact_count, 1);
	assert_true(actions.outcome.attestation_len > 0);
	/* a verdict is a verdict on the last attempt too, and whatever a retry could do */
	b.attempt = 3;
	b.may_retry = 1;
	bring(&b);
	changes_to(SP_EV_BLOCK);
	b.attestation = NULL;
	bring(&b);
	unfit("missing");
	rig_parts_free(&parts);
	rig_parts(&rig, &key, &parts);
	b.attestation = parts.text[2];
	bring(&b);
	unfit("role gate");
	rig_parts_free(&parts);
	b.code = NULL;
	rig_parts(&rig, &subject, &parts);
	b.attestation = parts.text[2];
	bring(&b);
	unfit("speaks of tree " RIG_OTHER);
	rig_parts_free(&parts);
	rig_parts(&rig, &baseline, &parts);
	b.attestation = parts.text[2];
	bring(&b);
	unfit("does not name the fetched tree");
	rig_parts_free(&parts);
}

static void
test_failures(void **state)
{
	struct bringing b = {.who = &fetcherd,
	    .step = SP_STEP_FETCH,
	    .code = "timeout",
	    .may_retry = 1,
	    .attempt = 2,
	    .attestation = "{}"};
	char message[513];

	(void)state;
	memset(&extras, 0, sizeof(extras));
	bring(&b);
	changes_to(SP_EV_AGAIN);
	assert_int_equal(actions.list[0].delay_ms, 50);
	assert_string_equal(actions.list[0].avoid, "fetcherd@bastion");
	/* what a failure attests is of no use */
	assert_int_equal(actions.outcome.attestation_len, 0);
	assert_string_equal(sp_outcome_get(&actions.outcome, "error"), "timeout");
	extras.failures = 1; /* beside the attempt before, which was lost */
	bring(&b);
	assert_int_equal(actions.list[0].delay_ms, 100);
	b.attempt = 3;
	bring(&b);
	changes_to(SP_EV_FAIL);
	b.attempt = 1;
	b.code = "not-found", b.may_retry = 0;
	bring(&b);
	changes_to(SP_EV_FAIL);
	b.code = "cancelled";
	/* a reason is cut where a character ends: the log takes nothing but UTF-8 */
	memset(message, 'x', 510);
	memcpy(message + 510, "\xc3\xa9", 3);
	b.message = message;
	bring(&b);
	changes_to(SP_EV_LOST);
	assert_int_equal(strlen(actions.list[0].reason), 510);
	b = (struct bringing){.who = &rxd, .step = SP_STEP_VERIFY, .code = "denied"};
	bring(&b);
	changes_to(SP_EV_QUARANTINE);
	b.code = "io";
	b.may_retry = 1;
	bring(&b);
	changes_to(SP_EV_AGAIN);
	b.step = SP_STEP_RECEIVE;
	b.code = "incomplete";
	bring(&b);
	changes_to(SP_EV_INCOMPLETE);
}

static void
test_late_results(void **state)
{
	struct bringing b = {.who = &txd, .step = SP_STEP_SEND};
	Sallyport__Result result;
	Sallyport__Done done;

	(void)state;
	memset(&extras, 0, sizeof(extras));
	bring(&b);
	changes_to(SP_EV_DONE);
	/* the same again: the same answer, no second event */
	b.state = SP_LEASE_DONE;
	bring(&b);
	assert_int_equal(actions.count, 1);
	assert_int_equal(actions.list[0].what, LEDGERD_ACK);
	assert_int_equal(actions.list[0].log_seq, 42);
	b.state = SP_LEASE_FAILED;
	bring(&b);
	assert_int_equal(actions.list[0].what, LEDGERD_ACK);
	/* lost meanwhile: it does not count; but who gives back a cancelled lease is told that all
	 * is well */
	b.state = SP_LEASE_LOST;
	bring(&b);
	refused(SP_E_STATE, LEASE1);
	b.code = "cancelled";
	bring(&b);
	assert_int_equal(actions.list[0].what, LEDGERD_ACK);
	/* somebody else's */
	b = (struct bringing){.who = &txd, .step = SP_STEP_SEND, .holder = "diode-txd@other"};
	bring(&b);
	refused(SP_E_STATE, LEASE1);
	b.state = SP_LEASE_DONE;
	bring(&b);
	refused(SP_E_STATE, LEASE1);
	/* of a lease that never was */
	sallyport__result__init(&result);
	sallyport__done__init(&done);
	result.lease = (char *)(uintptr_t)LEASE1;
	result.outcome_case = SALLYPORT__RESULT__OUTCOME_DONE;
	result.done = &done;
	ledgerd_actions_clear(&actions);
	ledgerd_step_result(&core.settings, &txd, &result, NULL, NULL, NULL, rig.trust, &actions);
	refused(SP_E_NOT_FOUND, LEASE1);
}

/* --- begin ------------------------------------------------------------------------------------ */

static void
begin(const struct ledgerd_who *who, const char *kind, const char *step, const struct sp_job *job)
{
	Sallyport__Begin b;

	sallyport__begin__init(&b);
	b.job = (char *)(uintptr_t)RIG_JOB;
	b.kind = (char *)(uintptr_t)kind;
	b.step = (char *)(uintptr_t)step;
	ledgerd_actions_clear(&actions);
	ledgerd_step_begin(&core.settings, who, &b, job, &actions);
}

static void
test_begin(void **state)
{
	struct sp_job job = {.id = RIG_JOB, .state = SP_JOB_RECEIVING, .last_seq = 9};

	(void)state;
	begin(&rxd, "model", "receive", NULL);
	refused(SP_E_DENIED, ""); /* this is the bastion */
	core.settings.bastion = 0;
	begin(&quantd, "model", "receive", NULL);
	refused(SP_E_DENIED, "");
	begin(&rxd, "model", "verify", NULL);
	refused(SP_E_DENIED, "");
	begin(&rxd, "dataset", "receive", NULL);
	refused(SP_E_INVALID, "");
	begin(&rxd, "nonsense", "receive", NULL);
	refused(SP_E_INVALID, "");
	begin(&rxd, "model", "receive", NULL);
	changes_to(SP_EV_BEGIN);
	assert_string_equal(actions.list[0].pin, "diode-rxd@enclave");
	begin(&rxd, "model", "receive", &job);
	assert_int_equal(actions.count, 1);
	assert_int_equal(actions.list[0].what, LEDGERD_ACK);
	assert_int_equal(actions.list[0].log_seq, 9);
	job.state = SP_JOB_INCOMPLETE;
	begin(&rxd, "model", "receive", &job);
	changes_to(SP_EV_BEGIN);
	job.state = SP_JOB_QUARANTINED;
	begin(&rxd, "model", "receive", &job);
	refused(SP_E_EXISTS, "");
}

/* --- approvals and snapshots ------------------------------------------------------------------ */

static char *
signed_by(struct sp_key *key, const char *type, const char *text)
{
	return rig_envelope(key, type, sp_xstrdup(text), strlen(text));
}

static enum sp_code
approve(const struct sp_job *job, struct sp_key *key, const char *type, const char *text,
    const struct sp_pubkey **signer)
{
	char *envelope = signed_by(key, type, text);
	enum sp_code code;

	code = ledgerd_check_approval(
	    rig.trust, job, (const uint8_t *)envelope, strlen(envelope), signer, &err);
	free(envelope);
	return code;
}

static void
test_approvals(void **state)
{
	static const char candidate[] = "{\"type\":\"sallyport-candidate/1\"}";
	struct sp_job job = {.id = RIG_JOB, .state = SP_JOB_AWAITING_APPROVAL};
	struct sp_table_approval given[2] = {{.person = "anna"}, {.person = "anna"}};
	struct sp_table_extras e = {.approvals = given};
	const struct sp_pubkey *signer = NULL;
	int known;

	(void)state;
	assert_int_equal(approve(&job, rig.ben, SP_DSSE_CANDIDATE, candidate, &signer), SP_E_STATE);
	job.candidate = (uint8_t *)(uintptr_t)candidate;
	job.candidate_len = strlen(candidate);
	assert_int_equal(approve(&job, rig.ben, SP_DSSE_CANDIDATE, candidate, &signer), SP_OK);
	assert_string_equal(signer->name, "ben");
	assert_int_equal(
	    approve(&job, rig.eve, SP_DSSE_CANDIDATE, candidate, &signer), SP_E_DENIED);
	assert_int_equal(
	    approve(&job, rig.keys[SP_ROLE_GATE], SP_DSSE_CANDIDATE, candidate, &signer),
	    SP_E_DENIED);
	assert_int_equal(approve(&job, rig.ben, SP_DSSE_INTOTO, candidate, &signer), SP_E_DENIED);
	assert_int_equal(approve(&job, rig.ben, SP_DSSE_CANDIDATE,
			     "{\"type\":\"sallyport-candidate/2\"}", &signer),
	    SP_E_DENIED);
	/* people are counted, not keys */
	assert_int_equal(ledgerd_check_people(NULL, &e, "", &known), 0);
	assert_int_equal(ledgerd_check_people(NULL, &e, "anna", &known), 1);
	assert_false(known);
	e.approval_count = 1;
	assert_int_equal(ledgerd_check_people(NULL, &e, "anna", &known), 1);
	assert_true(known);
	assert_int_equal(ledgerd_check_people(NULL, &e, "ben", &known), 2);
	e.approval_count = 2;
	assert_int_equal(ledgerd_check_people(NULL, &e, "ben", &known), 2);
	assert_int_equal(ledgerd_check_people(NULL, &e, "", &known), 1);
	/* a key that operators have no more is nobody's: diode-txd would not take it */
	memcpy(given[0].keyid, sp_key_public(rig.ben)->id.s, sizeof(given[0].keyid));
	memcpy(given[1].keyid, sp_key_public(rig.eve)->id.s, sizeof(given[1].keyid));
	assert_int_equal(ledgerd_check_people(rig.trust, &e, "", &known), 1);
	assert_int_equal(ledgerd_check_people(rig.trust, &e, "anna", &known), 2);
	assert_int_equal(ledgerd_check_people(rig.trust, &e, "ben", &known), 1);
	assert_true(known);
	/* a profile cannot ask for less than the trust document */
	assert_int_equal(sp_trust_threshold(rig.trust, SP_ROLE_OPERATOR), 2);
	job.approvals_needed = 1;
	assert_int_equal(ledgerd_check_needed(rig.trust, &job), 2);
	job.approvals_needed = 3;
	assert_int_equal(ledgerd_check_needed(rig.trust, &job), 3);
}

static void
test_snapshots(void **state)
{
	const struct ledgerd_who registryd = {"registryd@enclave", "registryd"};
	const struct ledgerd_who impostor = {"registryd@other", "registryd"};
	char *good = signed_by(rig.keys[SP_ROLE_REGISTRY], SP_DSSE_SNAPSHOT, "{}");
	char *gate = signed_by(rig.keys[SP_ROLE_GATE], SP_DSSE_SNAPSHOT, "{}");
	char *type = signed_by(rig.keys[SP_ROLE_REGISTRY], SP_DSSE_CANDIDATE, "{}");

	(void)state;
	assert_int_equal(
	    ledgerd_check_snapshot(rig.trust, &registryd, (uint8_t *)good, strlen(good), &err),
	    SP_OK);
	assert_int_equal(
	    ledgerd_check_snapshot(rig.trust, &impostor, (uint8_t *)good, strlen(good), &err),
	    SP_E_DENIED);
	assert_int_equal(
	    ledgerd_check_snapshot(rig.trust, &registryd, (uint8_t *)gate, strlen(gate), &err),
	    SP_E_DENIED);
	assert_int_equal(
	    ledgerd_check_snapshot(rig.trust, &registryd, (uint8_t *)type, strlen(type), &err),
	    SP_E_INVALID);
	free(good);
	free(gate);
	free(type);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup(test_offers, setup),
	    cmocka_unit_test_setup(test_offers_prefer_and_pin, setup),
	    cmocka_unit_test_setup(test_leases, setup),
	    cmocka_unit_test_setup(test_reload_keeps_deadlines, setup),
	    cmocka_unit_test_setup(test_core_follows_changes, setup),
	    cmocka_unit_test_setup(test_peers_are_bounded, setup),
	    cmocka_unit_test_setup(test_accept, setup),
	    cmocka_unit_test_setup(test_result_fetch, setup),
	    cmocka_unit_test_setup(test_result_quantize, setup),
	    cmocka_unit_test_setup(test_result_validate, setup),
	    cmocka_unit_test_setup(test_failures, setup),
	    cmocka_unit_test_setup(test_late_results, setup),
	    cmocka_unit_test_setup(test_begin, setup),
	    cmocka_unit_test(test_approvals),
	    cmocka_unit_test(test_snapshots),
	};
	int failed;

	rig_open(&rig);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	ledgerd_actions_clear(&actions);
	ledgerd_core_free(&core);
	rig_close(&rig);
	return failed;
}
