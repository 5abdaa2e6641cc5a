/*
 * bus_wire.c -- a real hub and a real worker: keys, leases, children, records, restarts.
 *
 * Started with arguments, this program is the worker (and, as any worker, its own child).
 */
#include "base/file.h"
#include "bus/child.h"
#include "bus/envelope.h"
#include "bus/worker.h"
#include "bus_rig.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zmq.h>

#include <cmocka.h>

#define LEASE "0123456789abcdef0123456789abcdef"
#define LEASE_2 "ffffffffffffffffffffffffffffffff"
#define DIGEST "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define RECORD_MS 20000

/* --- the worker ----------------------------------------------------------------------------------
 */

struct fetcher {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	char published[64];
	char note[64];
	int hellos; /* of the helper: one for each of its lives */
};

static enum sp_code
work_copy(const struct sp_conf *conf, const Sallyport__Task *task, struct sp_lease *lease,
    struct sp_outcome *outcome, struct sp_err *err)
{
	char *dir = sp_lease_workdir(lease, DIGEST, err);

	if (dir == NULL)
		return err->code;
	sp_lease_progress(lease, "copy", 1, 1, "files");
	sp_outcome_artifact(outcome, "source", DIGEST, "fetcherd", 1, 42);
	sp_outcome_detail(outcome, "name", "%s", task->name);
	sp_outcome_detail(outcome, "workdir", "%s", dir);
	sp_outcome_detail(outcome, "side", "%s", sp_conf_string(conf, "side"));
	sp_outcome_attest(outcome, "forged", 6); /* no child's to give */
	sp_outcome_detail(outcome, "undumpable", "%d", prctl(PR_GET_DUMPABLE) == 0);
	sp_outcome_detail(outcome, "no-new-privs", "%d", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
	free(dir);
	return SP_OK;
}

static enum sp_code
seal_copy(void *ctx, struct sp_worker *worker, const Sallyport__Task *task, struct sp_lease *lease,
    enum sp_code worked, struct sp_outcome *outcome, struct sp_err *err)
{
	(void)ctx;
	(void)worker;
	(void)task;
	(void)lease;
	if (worked != SP_OK || outcome->attestation_len != 0)
		return sp_err_set(err, SP_E_INVALID, "the child gave an attestation");
	sp_outcome_attest(outcome, "sealed", 6);
	return SP_OK;
}

static enum sp_code
work_block(const struct sp_conf *conf, const Sallyport__Task *task, struct sp_lease *lease,
    struct sp_outcome *outcome, struct sp_err *err)
{
	(void)conf;
	(void)task;
	(void)lease;
	sp_outcome_detail(outcome, "score", "0.1");
	return sp_err_set(err, SP_E_BLOCKED, "the gate says no");
}

static enum sp_code
seal_block(void *ctx, struct sp_worker *worker, const Sallyport__Task *task, struct sp_lease *lease,
    enum sp_code worked, struct sp_outcome *outcome, struct sp_err *err)
{
	(void)ctx;
	(void)worker;
	(void)task;
	(void)lease;
	(void)err; /* what work said stays */
	sp_outcome_attest(outcome, "verdict", 7);
	return worked;
}

static enum sp_code
work_fail(const struct sp_conf *conf, const Sallyport__Task *task, struct sp_lease *lease,
    struct sp_outcome *outcome, struct sp_err *err)
{
	(void)conf;
	(void)task;
	(void)lease;
	(void)outcome;
	return sp_err_set(err, SP_E_UNREACHABLE, "no answer from \x1b[31m the hub");
}

/* How a child can go wrong: the task's name says how. */
static enum sp_code
work_misbehave(const struct sp_conf *conf, const Sallyport__Task *task, struct sp_lease *lease,
    struct sp_outcome *outcome, struct sp_err *err)
{
	(void)conf;
	(void)lease;
	(void)outcome;
	(void)err;
	if (strcmp(task->name, "killed") == 0)
		raise(SIGKILL);
	else if (strcmp(task->name, "exits") == 0)
		_exit(7);
	else if (strcmp(task->name, "mute") == 0)
		_exit(0);
	else if (strcmp(task->name, "nonsense") == 0)
		(void)!write(3, "\x00\x00\x00\x02\xff\xff", 6);
	else if (strcmp(task->name, "length") == 0)
		(void)!write(3, "\xff\xff\xff\xff", 4);
	else if (strcmp(task->name, "twice") == 0)
		(void)!write(3, "\x00\x00\x00\x02\x12\x00", 6); /* an empty Done, then ours */
	else if (strcmp(task->name, "half") == 0) {
		(void)!write(3, "\x00\x00\x01\x00\x12", 5);
		_exit(0);
	}
	return SP_OK;
}

/* Says its process id, starts a process of its own, and waits for ever. */
static enum sp_code
work_wait(const struct sp_conf *conf, const Sallyport__Task *task, struct sp_lease *lease,
    struct sp_outcome *outcome, struct sp_err *err)
{
	pid_t grandchild = fork();

	(void)conf;
	(void)task;
	(void)outcome;
	if (grandchild < 0)
		return sp_err_errno(err, "fork");
	if (grandchild > 0)
		sp_lease_progress(lease, "waits", (uint64_t)getpid(), (uint64_t)grandchild, "pids");
	for (;;)
		pause();
}

/* "TIMEOUT_MS" as the task's name; what came of it goes into the details. */
static enum sp_code
seal_record(void *ctx, struct sp_worker *worker, const Sallyport__Task *task,
    struct sp_lease *lease, enum sp_code worked, struct sp_outcome *outcome, struct sp_err *err)
{
	char kind[] = "admission", reason[] = "allowed";
	Sallyport__Record record;
	struct sp_err inner = {SP_OK, ""};
	uint64_t log_seq = 0;
	enum sp_code code;

	(void)ctx;
	(void)lease;
	(void)err;
	sallyport__record__init(&record);
	record.kind = kind;
	record.reason = reason;
	code = sp_worker_record(worker, &record, atoi(task->name), &log_seq, &inner);
	sp_outcome_detail(outcome, "code", "%s", sp_err_word(code));
	sp_outcome_detail(outcome, "log_seq", "%d", (int)log_seq);
	sp_outcome_detail(outcome, "message", "%s", inner.msg);
	return worked;
}

static enum sp_code
seal_begin(void *ctx, struct sp_worker *worker, const Sallyport__Task *task, struct sp_lease *lease,
    enum sp_code worked, struct sp_outcome *outcome, struct sp_err *err)
{
	char job[] = LEASE_2, step[] = "receive", source[] = "diode:1";
	Sallyport__Begin begin;
	enum sp_code code;

	(void)ctx;
	(void)task;
	(void)lease;
	sallyport__begin__init(&begin);
	begin.job = job;
	begin.step = step;
	begin.source = source;
	code = sp_worker_begin(worker, &begin, RECORD_MS, err);
	if (code == SP_OK)
		code = sp_worker_publish(worker, "snapshot", "content", 7, RECORD_MS, err);
	if (code == SP_OK)
		/* breaks a rule: refused here, at once */
		sp_outcome_detail(outcome, "empty", "%s",
		    sp_err_word(sp_worker_publish(worker, "snapshot", "", 0, RECORD_MS, err)));
	return code == SP_OK ? worked : code;
}

/* Waits until content of the topic is the task's name. */
static enum sp_code
seal_topic(void *ctx, struct sp_worker *worker, const Sallyport__Task *task, struct sp_lease *lease,
    enum sp_code worked, struct sp_outcome *outcome, struct sp_err *err)
{
	struct fetcher *f = ctx;

	(void)worker;
	(void)lease;
	(void)outcome;
	(void)err;
	pthread_mutex_lock(&f->lock);
	while (strcmp(f->published, task->name) != 0)
		pthread_cond_wait(&f->cond, &f->lock);
	pthread_mutex_unlock(&f->lock);
	return worked;
}

static void
tell(struct sp_worker *worker, const char *text)
{
	char kind[] = "say";
	Sallyport__ChildNote note;

	sallyport__child_note__init(&note);
	note.kind = kind;
	note.content.len = strlen(text);
	note.content.data = (uint8_t *)sp_xstrdup(text);
	sp_worker_tell(worker, "echo", &note);
	free(note.content.data);
}

/* The helper answers, dies when told to, and answers again in its next life. */
static enum sp_code
seal_helper(void *ctx, struct sp_worker *worker, const Sallyport__Task *task,
    struct sp_lease *lease, enum sp_code worked, struct sp_outcome *outcome, struct sp_err *err)
{
	struct fetcher *f = ctx;

	(void)lease;
	(void)err;
	pthread_mutex_lock(&f->lock);
	while (f->hellos < 1)
		pthread_cond_wait(&f->cond, &f->lock);
	tell(worker, task->name);
	while (strcmp(f->note, task->name) != 0)
		pthread_cond_wait(&f->cond, &f->lock);
	tell(worker, "die");
	while (f->hellos < 2)
		pthread_cond_wait(&f->cond, &f->lock);
	tell(worker, "again");
	while (strcmp(f->note, "again") != 0)
		pthread_cond_wait(&f->cond, &f->lock);
	sp_outcome_detail(outcome, "hellos", "%d", f->hellos);
	pthread_mutex_unlock(&f->lock);
	return worked;
}

static int
run_echo(const struct sp_conf *conf, struct sp_child *child)
{
	char kind[] = "hello";
	Sallyport__ChildNote hello, *note;
	struct sp_err err;

	(void)conf;
	sallyport__child_note__init(&hello);
	hello.kind = kind;
	if (sp_child_note(child, &hello, &err) != SP_OK)
		return 1;
	while (sp_child_hear(child, -1, &note, &err) == SP_OK) {
		if (note->content.len == 3 && memcmp(note->content.data, "die", 3) == 0)
			raise(SIGKILL);
		if (sp_child_note(child, note, &err) != SP_OK)
			return 1;
		sallyport__child_note__free_unpacked(note, NULL);
	}
	return err.code == SP_E_CANCELLED ? 0 : 1;
}

static void
on_note(void *ctx, const Sallyport__ChildNote *note)
{
	struct fetcher *f = ctx;

	pthread_mutex_lock(&f->lock);
	if (strcmp(note->kind, "hello") == 0)
		f->hellos++;
	else
		snprintf(f->note, sizeof(f->note), "%.*s", (int)note->content.len,
		    (const char *)note->content.data);
	pthread_cond_broadcast(&f->cond);
	pthread_mutex_unlock(&f->lock);
}

static void
on_topic(void *ctx, const uint8_t *content, size_t len)
{
	struct fetcher *f = ctx;

	pthread_mutex_lock(&f->lock);
	snprintf(f->published, sizeof(f->published), "%.*s", (int)len, (const char *)content);
	pthread_cond_broadcast(&f->cond);
	pthread_mutex_unlock(&f->lock);
}

static enum sp_code
open_fetcher(struct sp_worker *worker, void **ctx, struct sp_err *err)
{
	struct fetcher *f = sp_xcalloc(1, sizeof(*f));

	pthread_mutex_init(&f->lock, NULL);
	pthread_cond_init(&f->cond, NULL);
	*ctx = f;
	sp_worker_subscribe(worker, "snapshot", on_topic, f);
	return sp_worker_helper_start(worker, "echo", on_note, f, err);
}

static void
close_fetcher(void *ctx)
{
	free(ctx);
}

static enum sp_code
check_fetcher(const struct sp_conf *conf, struct sp_err *err)
{
	if (sp_conf_int(conf, "fetcherd.parallel") == 13)
		return sp_err_set(err, SP_E_CONFIG, "fetcherd.parallel is 13: bad luck");
	return SP_OK;
}

static const struct sp_worker_step steps[] = {
    {"copy", work_copy, seal_copy},
    {"block", work_block, seal_block},
    {"fail", work_fail, seal_copy},
    {"misbehave", work_misbehave, NULL},
    {"wait", work_wait, NULL},
    {"record", NULL, seal_record},
    {"begin", NULL, seal_begin},
    {"topic", NULL, seal_topic},
    {"helper", NULL, seal_helper},
};

static const struct sp_worker_helper helpers[] = {{"echo", run_echo}};

static const struct sp_worker_spec spec = {
    .service = "fetcherd",
    .summary = "a worker for tests",
    .steps = steps,
    .step_count = sizeof(steps) / sizeof(steps[0]),
    .slots = 2,
    .helpers = helpers,
    .helper_count = 1,
    .check = check_fetcher,
    .open = open_fetcher,
    .close = close_fetcher,
};

/* --- steps ---------------------------------------------------------------------------------------
 */

static struct rig rig;

static int
set_up(void **unused)
{
	(void)unused;
	rig_open(&rig);
	rig_start_worker(&rig, rig.worker);
	rig_free(rig_wait(&rig, SALLYPORT__ENVELOPE__BODY_HEARTBEAT));
	return 0;
}

static int
set_up_hub(void **unused)
{
	(void)unused;
	rig_open(&rig);
	return 0;
}

static int
tear_down(void **unused)
{
	(void)unused;
	rig_close(&rig);
	return 0;
}

static const Sallyport__Failure *
failure_of(const struct rig_message *m)
{
	assert_int_equal(m->envelope->result->outcome_case, SALLYPORT__RESULT__OUTCOME_FAILURE);
	return m->envelope->result->failure;
}

static void
test_step(void **unused)
{
	struct rig_message *m;
	const Sallyport__Done *done;

	(void)unused;
	m = rig_wait(&rig, SALLYPORT__ENVELOPE__BODY_HEARTBEAT);
	assert_string_equal(m->worker, RIG_WORKER);
	assert_string_equal(m->envelope->heartbeat->service, "fetcherd");
	assert_int_equal(m->envelope->heartbeat->n_steps, spec.step_count);
	assert_int_equal(m->envelope->heartbeat->free, 2);
	rig_free(m);
	m = rig_do(&rig, LEASE, "copy", "org/name");
	assert_int_equal(m->envelope->result->outcome_case, SALLYPORT__RESULT__OUTCOME_DONE);
	done = m->envelope->result->done;
	assert_int_equal(done->n_artifacts, 1);
	assert_string_equal(done->artifacts[0]->digest, DIGEST);
	assert_true(done->artifacts[0]->bytes == 42 && done->artifacts[0]->tree);
	assert_int_equal(done->attestation.len, 6);
	assert_memory_equal(done->attestation.data, "sealed", 6);
	assert_string_equal(rig_detail(m, "name"), "org/name");
	assert_string_equal(rig_detail(m, "side"), "bastion");
	assert_non_null(strstr(rig_detail(m, "workdir"), "/state/fetcherd/work/" DIGEST));
	assert_string_equal(rig_detail(m, "no-new-privs"), "1");
#ifndef __SANITIZE_ADDRESS__
	assert_string_equal(rig_detail(m, "undumpable"), "1");
#endif
	rig_free(m);
	do {
		m = rig_wait(&rig, SALLYPORT__ENVELOPE__BODY_HEARTBEAT);
		rig_free(m);
	} while (rig.late);
}

static void
test_failures(void **unused)
{
	const Sallyport__Failure *f;
	struct rig_message *m;

	(void)unused;
	m = rig_do(&rig, LEASE, "fail", "x");
	f = failure_of(m);
	assert_string_equal(f->code, "unreachable");
	assert_true(f->may_retry);
	assert_string_equal(f->message, "no answer from ?[31m the hub");
	assert_int_equal(f->attestation.len, 0); /* seal is not asked about failures */
	rig_free(m);
	m = rig_do(&rig, LEASE, "block", "x");
	f = failure_of(m);
	assert_string_equal(f->code, "blocked");
	assert_string_equal(f->message, "the gate says no");
	assert_false(f->may_retry);
	assert_memory_equal(f->attestation.data, "verdict", 7);
	assert_string_equal(rig_detail(m, "score"), "0.1");
	rig_free(m);
}

static void
test_children_that_go_wrong(void **unused)
{
	static const char *const cases[][2] = {
	    {"killed", "died: SIGKILL (Killed)"},
	    {"exits", "status 7"},
	    {"mute", "0 results"},
	    {"nonsense", "broke the protocol"},
	    {"length", "broke the protocol"},
	    {"twice", "2 results"},
	    {"half", "ended within a frame"},
	};
	const Sallyport__Failure *f;
	struct rig_message *m;
	size_t i;

	(void)unused;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		m = rig_do(&rig, LEASE, "misbehave", cases[i][0]);
		f = failure_of(m);
		assert_string_equal(f->code, "internal");
		assert_true(f->may_retry);
		if (strstr(f->message, cases[i][1]) == NULL)
			fail_msg("%s: %s", cases[i][0], f->message);
		rig_free(m);
	}
}

/* Heartbeats until one names the lease with a child's progress: its process ids. */
static void
wait_for_pids(const char *lease, pid_t *child, pid_t *grandchild)
{
	const Sallyport__Heartbeat *h;
	struct rig_message *m;

	*child = 0;
	while (*child == 0) {
		m = rig_wait(&rig, SALLYPORT__ENVELOPE__BODY_HEARTBEAT);
		h = m->envelope->heartbeat;
		if (h->n_leases == 1 && strcmp(h->leases[0]->phase, "waits") == 0) {
			assert_string_equal(h->leases[0]->lease, lease);
			assert_true(h->leases[0]->running);
			assert_int_equal(h->free, 1);
			*child = (pid_t)h->leases[0]->done;
			*grandchild = (pid_t)h->leases[0]->total;
		}
		rig_free(m);
	}
}

/* Orphans become this process's children (PR_SET_CHILD_SUBREAPER), so it can see them die. */
static int
has_died(void *ctx)
{
	pid_t pid = *(pid_t *)ctx;

	return waitpid(pid, NULL, WNOHANG) == pid || (kill(pid, 0) != 0 && errno == ESRCH);
}

static void
wait_for_free(unsigned slots)
{
	struct rig_message *m;
	unsigned now;

	do {
		m = rig_wait(&rig, SALLYPORT__ENVELOPE__BODY_HEARTBEAT);
		now = m->envelope->heartbeat->free;
		rig_free(m);
	} while (now != slots);
}

static void
test_cancel(void **unused)
{
	pid_t child, grandchild;
	struct rig_message *m;

	(void)unused;
	rig_lease(&rig, LEASE, "wait", "x");
	wait_for_pids(LEASE, &child, &grandchild);
	rig_cancel(&rig, LEASE);
	m = rig_result(&rig, LEASE);
	assert_string_equal(failure_of(m)->code, "cancelled");
	rig_free(m);
	rig_until(&rig, has_died, &child);
	rig_until(&rig, has_died, &grandchild);
	wait_for_free(2);
}

static void
test_lost_lease(void **unused)
{
	pid_t child, grandchild;

	(void)unused;
	rig_lease(&rig, LEASE, "wait", "x");
	wait_for_pids(LEASE, &child, &grandchild);
	rig_refuse(&rig, 0, LEASE);
	rig_until(&rig, has_died, &child);
	rig_until(&rig, has_died, &grandchild);
	wait_for_free(2);
}

static void
test_result_until_ack(void **unused)
{
	struct rig_message *m;
	uint64_t seq;

	(void)unused;
	rig_lease(&rig, LEASE, "copy", "x");
	m = rig_wait(&rig, SALLYPORT__ENVELOPE__BODY_RESULT);
	seq = m->envelope->seq;
	rig_free(m);
	m = rig_wait(&rig, SALLYPORT__ENVELOPE__BODY_RESULT);
	assert_true(m->envelope->seq == seq);
	rig_free(m);
	/* ledgerd dies before it has answered, and comes back */
	rig_close_hub(&rig);
	rig_open_hub(&rig);
	m = rig_result(&rig, LEASE);
	assert_true(m->envelope->seq == seq);
	rig_free(m);
	wait_for_free(2);
}

static void
test_ledgerd_restarts(void **unused)
{
	pid_t child, grandchild, again;

	(void)unused;
	rig_lease(&rig, LEASE, "wait", "x");
	wait_for_pids(LEASE, &child, &grandchild);
	rig_close_hub(&rig);
	rig_open_hub(&rig);
	/* the lease went on, and the worker says so */
	wait_for_pids(LEASE, &again, &grandchild);
	assert_int_equal(again, child);
}

static void
test_worker_is_killed(void **unused)
{
	pid_t child, grandchild;

	(void)unused;
	rig_lease(&rig, LEASE, "wait", "x");
	wait_for_pids(LEASE, &child, &grandchild);
	kill(rig.pid, SIGKILL);
	assert_int_equal(rig_wait_worker(&rig), 128 + SIGKILL);
	rig_until(&rig, has_died, &child);
	kill(grandchild, SIGKILL); /* who starts processes ties them to itself */
	/* the next one begins with nothing */
	rig_start_worker(&rig, rig.worker);
	wait_for_free(2);
}

static void
test_sigterm(void **unused)
{
	pid_t child, grandchild;

	(void)unused;
	rig_lease(&rig, LEASE, "wait", "x");
	wait_for_pids(LEASE, &child, &grandchild);
	rig_lease(&rig, LEASE_2, "record", "20000");
	rig_free(rig_wait(&rig, SALLYPORT__ENVELOPE__BODY_RECORD));
	/* a child runs and a thread waits for ledgerd: both are let go */
	kill(rig.pid, SIGTERM);
	assert_int_equal(rig_wait_worker(&rig), 0);
	rig_until(&rig, has_died, &child);
}

/* --- records -------------------------------------------------------------------------------------
 */

static void
test_record(void **unused)
{
	struct rig_message *m;

	(void)unused;
	rig_lease(&rig, LEASE, "record", "20000");
	m = rig_wait(&rig, SALLYPORT__ENVELOPE__BODY_RECORD);
	assert_string_equal(m->envelope->record->kind, "admission");
	rig_ack(&rig, m->envelope->seq, 77);
	rig_free(m);
	m = rig_result(&rig, LEASE);
	assert_string_equal(rig_detail(m, "code"), "ok");
	assert_string_equal(rig_detail(m, "log_seq"), "77");
	rig_free(m);
	rig_lease(&rig, LEASE, "record", "20000");
	m = rig_wait(&rig, SALLYPORT__ENVELOPE__BODY_RECORD);
	rig_refuse(&rig, m->envelope->seq, "");
	rig_free(m);
	m = rig_result(&rig, LEASE);
	assert_string_equal(rig_detail(m, "code"), "denied");
	assert_non_null(strstr(rig_detail(m, "message"), "this is not yours"));
	rig_free(m);
}

static void
test_record_times_out(void **unused)
{
	struct rig_message *m;
	uint64_t seq;

	(void)unused;
	rig_lease(&rig, LEASE, "record", "100");
	m = rig_wait(&rig, SALLYPORT__ENVELOPE__BODY_RECORD);
	seq = m->envelope->seq;
	rig_free(m);
	m = rig_result(&rig, LEASE);
	assert_string_equal(rig_detail(m, "code"), "timeout");
	rig_free(m);
	/* the late answer finds nobody, and harms nobody */
	rig_ack(&rig, seq, 5);
	wait_for_free(2);
}

static void
test_record_across_restart(void **unused)
{
	struct rig_message *m;
	uint64_t seq;

	(void)unused;
	rig_lease(&rig, LEASE, "record", "20000");
	m = rig_wait(&rig, SALLYPORT__ENVELOPE__BODY_RECORD);
	seq = m->envelope->seq;
	rig_free(m);
	rig_close_hub(&rig);
	rig_open_hub(&rig);
	m = rig_wait(&rig, SALLYPORT__ENVELOPE__BODY_RECORD);
	assert_true(m->envelope->seq == seq);
	rig_ack(&rig, seq, 6);
	rig_free(m);
	m = rig_result(&rig, LEASE);
	assert_string_equal(rig_detail(m, "log_seq"), "6");
	rig_free(m);
}

static void
test_begin_and_publish(void **unused)
{
	struct rig_message *m;

	(void)unused;
	rig_lease(&rig, LEASE, "begin", "x");
	m = rig_wait(&rig, SALLYPORT__ENVELOPE__BODY_BEGIN);
	assert_string_equal(m->envelope->begin->job, LEASE_2);
	rig_ack(&rig, m->envelope->seq, 1);
	rig_free(m);
	m = rig_wait(&rig, SALLYPORT__ENVELOPE__BODY_PUBLISH);
	assert_string_equal(m->envelope->publish->topic, "snapshot");
	assert_memory_equal(m->envelope->publish->content.data, "content", 7);
	rig_ack(&rig, m->envelope->seq, 2);
	rig_free(m);
	m = rig_result(&rig, LEASE);
	assert_int_equal(m->envelope->result->outcome_case, SALLYPORT__RESULT__OUTCOME_DONE);
	assert_string_equal(rig_detail(m, "empty"), "invalid");
	rig_free(m);
}

static void
publish(const char *topic, const char *content)
{
	struct sp_err err;

	if (sp_hub_publish(rig.hub, topic, content, strlen(content), &err) != SP_OK)
		fail_msg("%s", err.msg);
}

static void
test_topics(void **unused)
{
	struct sp_err err;

	(void)unused;
	publish("snapshot-of-another", "no");
	publish("snapshot", "one");
	rig_free(rig_do(&rig, LEASE, "topic", "one"));
	publish("snapshot", "two");
	rig_free(rig_do(&rig, LEASE, "topic", "two"));
	/* who connects later gets the newest: here after ledgerd's restart */
	rig_close_hub(&rig);
	rig_open_hub(&rig);
	publish("snapshot", "three");
	rig_free(rig_wait(&rig, SALLYPORT__ENVELOPE__BODY_HEARTBEAT));
	rig_free(rig_do(&rig, LEASE, "topic", "three"));
	assert_int_equal(sp_hub_publish(rig.hub, "Bad Topic", "x", 1, &err), SP_E_INVALID);
	assert_int_equal(sp_hub_publish(rig.hub, "snapshot", "", 0, &err), SP_E_LIMIT);
}

static void
test_helper(void **unused)
{
	struct rig_message *m = rig_do(&rig, LEASE, "helper", "ping");

	(void)unused;
	assert_int_equal(m->envelope->result->outcome_case, SALLYPORT__RESULT__OUTCOME_DONE);
	assert_string_equal(rig_detail(m, "hellos"), "2");
	rig_free(m);
}

/* --- who is let in -------------------------------------------------------------------------------
 */

/* A socket without our worker's manners. */
struct raw {
	void *context, *socket;
};

static int
no_linger(void *socket)
{
	int zero = 0;

	return zmq_setsockopt(socket, ZMQ_LINGER, &zero, sizeof(zero));
}

/* key NULL: no CURVE at all. path: key of the configuration. */
static void
raw_open(struct raw *raw, const struct sp_key *key, const uint8_t *server, const char *path)
{
	char *endpoint = sp_xasprintf("ipc://%s", sp_conf_string(rig.conf, path));

	raw->context = zmq_ctx_new();
	raw->socket = zmq_socket(raw->context, ZMQ_DEALER);
	assert_int_equal(no_linger(raw->socket), 0);
	if (key != NULL) {
		zmq_setsockopt(raw->socket, ZMQ_CURVE_SERVERKEY, server, 32);
		zmq_setsockopt(raw->socket, ZMQ_CURVE_PUBLICKEY, sp_key_public(key)->bytes, 32);
		zmq_setsockopt(raw->socket, ZMQ_CURVE_SECRETKEY, sp_key_secret(key), 32);
	}
	assert_int_equal(zmq_connect(raw->socket, endpoint), 0);
	free(endpoint);
}

static void
raw_close(struct raw *raw)
{
	zmq_close(raw->socket);
	zmq_ctx_term(raw->context);
}

static uint64_t refusals_wanted, malformed_wanted;

static int
enough_refusals(void *ctx)
{
	(void)ctx;
	return sp_hub_stats(rig.hub).refused >= refusals_wanted;
}

static int
enough_malformed(void *ctx)
{
	(void)ctx;
	return sp_hub_stats(rig.hub).malformed >= malformed_wanted;
}

static void
test_unknown_keys_are_refused(void **unused)
{
	const uint8_t *server = sp_key_public(rig.server)->bytes;
	struct sp_key *unknown;
	struct sp_err err;
	struct raw raw;

	(void)unused;
	assert_int_equal(sp_key_new(SP_ROLE_BUS, "nobody", &unknown, &err), SP_OK);
	refusals_wanted = 1;
	raw_open(&raw, unknown, server, "bus.socket");
	rig_until(&rig, enough_refusals, NULL);
	raw_close(&raw);
	refusals_wanted =
	    2; /* a known key, used by a process of another user than the document's */
	raw_open(&raw, rig.wrong_uid, server, "bus.socket");
	rig_until(&rig, enough_refusals, NULL);
	raw_close(&raw);
	refusals_wanted = 3; /* ledgerd's own key does not make a worker */
	raw_open(&raw, rig.server, server, "bus.socket");
	rig_until(&rig, enough_refusals, NULL);
	raw_close(&raw);
	assert_true(sp_hub_stats(rig.hub).admitted == 0);
	sp_key_free(&unknown);
	/* and the one that is named comes in */
	rig_start_worker(&rig, rig.worker);
	wait_for_free(2);
	assert_true(sp_hub_stats(rig.hub).admitted == 1);
}

/* A client that believes in another server, and one that speaks no CURVE, never get a word in. */
static void
test_wrong_server_and_plain(void **unused)
{
	struct raw wrong, plain;

	(void)unused;
	raw_open(&wrong, rig.other, sp_key_public(rig.other)->bytes, "bus.socket");
	raw_open(&plain, NULL, NULL, "bus.socket");
	zmq_send(wrong.socket, "\x08\x01", 2, 0);
	zmq_send(plain.socket, "\x08\x01", 2, 0);
	/* both have had their time when a whole worker has started and done a step */
	rig_start_worker(&rig, rig.worker);
	rig_free(rig_wait(&rig, SALLYPORT__ENVELOPE__BODY_HEARTBEAT));
	rig_free(rig_do(&rig, LEASE, "copy", "x"));
	assert_true(sp_hub_stats(rig.hub).admitted == 1);
	assert_true(sp_hub_stats(rig.hub).malformed == 0);
	raw_close(&wrong);
	raw_close(&plain);
}

static void
test_malformed_messages(void **unused)
{
	static const char big[100000];
	struct rig_message *m;
	struct raw raw;
	int i;

	(void)unused;
	raw_open(&raw, rig.other, sp_key_public(rig.server)->bytes, "bus.socket");
	zmq_send(raw.socket, "", 0, 0);
	zmq_send(raw.socket, "nonsense", 8, 0);
	zmq_send(raw.socket, big, sizeof(big), 0);
	zmq_send(raw.socket, "\x08\x01", 2, ZMQ_SNDMORE); /* more frames than one */
	zmq_send(raw.socket, "\x08\x01", 2, ZMQ_SNDMORE);
	zmq_send(raw.socket, "\x08\x01", 2, 0);
	malformed_wanted = 4;
	rig_until(&rig, enough_malformed, NULL);
	/* more than are logged, faster than they are logged */
	for (i = 0; i < 500; i++)
		zmq_send(raw.socket, "more", 4, 0);
	malformed_wanted = 504;
	rig_until(&rig, enough_malformed, NULL);
	raw_close(&raw);
	/* nobody else has noticed */
	m = rig_do(&rig, LEASE, "copy", "after");
	assert_string_equal(rig_detail(m, "name"), "after");
	rig_free(m);
	assert_true(sp_hub_stats(rig.hub).malformed == 504);
}

/* The name comes from the key: what a peer writes about itself does not count. */
static void
test_name_is_the_keys(void **unused)
{
	static const char accept[] = "\x08\x01\x5a\x22\x0a\x20" LEASE;
	struct rig_message *m;
	struct raw raw;

	(void)unused;
	raw_open(&raw, rig.other, sp_key_public(rig.server)->bytes, "bus.socket");
	zmq_send(raw.socket, accept, sizeof(accept) - 1, 0);
	m = rig_wait(&rig, SALLYPORT__ENVELOPE__BODY_ACCEPT);
	assert_string_equal(m->worker, RIG_OTHER);
	rig_free(m);
	raw_close(&raw);
}

struct reply {
	struct raw *raw;
	char text[16];
	int len;
};

static int
has_reply(void *ctx)
{
	struct reply *reply = ctx;

	reply->len = zmq_recv(reply->raw->socket, reply->text, sizeof(reply->text), ZMQ_DONTWAIT);
	return reply->len >= 0;
}

static void
test_operators(void **unused)
{
	struct raw raw;
	struct reply reply = {&raw, "", 0};
	struct rig_message *m;
	struct sp_err err;
	struct stat st;

	(void)unused;
	assert_int_equal(stat(sp_conf_string(rig.conf, "bus.operators"), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0660);
	raw_open(&raw, NULL, NULL, "bus.operators");
	zmq_send(raw.socket, "a", 1, ZMQ_SNDMORE);
	zmq_send(raw.socket, "b", 1, 0);
	zmq_send(raw.socket, "jobs?", 5, 0);
	m = rig_wait_operator(&rig);
	assert_true(m->operator.uid ==(int64_t) getuid());
	assert_true(m->operator.gid ==(int64_t) getgid());
	assert_true(m->operator.pid ==(int64_t) getpid());
	assert_int_equal(m->len, 5);
	assert_memory_equal(m->data, "jobs?", 5);
	assert_true(sp_hub_stats(rig.hub).malformed == 1);
	assert_int_equal(sp_hub_reply(rig.hub, &m->operator, "none", 4, &err), SP_OK);
	rig_until(&rig, has_reply, &reply);
	assert_int_equal(reply.len, 4);
	assert_memory_equal(reply.text, "none", 4);
	raw_close(&raw);
	rig_free(m);
	assert_int_equal(sp_hub_send(rig.hub, "nobody", NULL, &err), SP_E_UNREACHABLE);
}

/* --- command line --------------------------------------------------------------------------------
 */

static void
run_expect(int status, const char *says, const char *const *args)
{
	char *output;
	int got = rig_run(&rig, &output, args);

	if (got != status || strstr(output, says) == NULL)
		fail_msg("%s %s: status %d, \"%s\"", args[0], args[1] != NULL ? args[1] : "", got,
		    output);
	free(output);
}

static void
test_command_line(void **unused)
{
	const char *bad = "side = \"bastion\";\nfetcherd = { paralel = 2; };\n";
	const char *odd = "side = \"bastion\";\nfetcherd = { parallel = 13; };\n";
	char *file = sp_xasprintf("%s/bad.conf", rig.root);
	struct sp_err err;

	(void)unused;
#define RUN(status, says, ...) run_expect(status, says, (const char *const[]){__VA_ARGS__, NULL})
	RUN(0, "fetcherd (Sallyport) 0.1.0", "--version");
	RUN(0, "a worker for tests", "--help");
	RUN(2, "usage", "--no-such-option");
	RUN(2, "unexpected argument", "surplus");
	RUN(0, "in order", "-n", "-c", rig.conf_file, "--root", rig.root);
	RUN(1, "/nowhere.conf", "-n", "-c", "/nowhere.conf");
	assert_int_equal(sp_file_write(file, 0600, bad, strlen(bad), &err), SP_OK);
	RUN(1, "paralel", "-n", "-c", file);
	RUN(1, "bad.conf:2", "-n", "-c", file);
	assert_int_equal(sp_file_write(file, 0600, odd, strlen(odd), &err), SP_OK);
	RUN(1, "bad luck", "-n", "-c", file);
	RUN(1, "bus.key", "-c", rig.conf_file, "--root", rig.root); /* it has none yet */
#undef RUN
	free(file);
	/* a key that the trust document gives to another service */
	rig_start_worker(&rig, rig.other);
	assert_int_equal(rig_wait_worker(&rig), 1);
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
#define WITH_WORKER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
#define HUB_ONLY(test) cmocka_unit_test_setup_teardown(test, set_up_hub, tear_down)
	    WITH_WORKER(test_step),
	    WITH_WORKER(test_failures),
	    WITH_WORKER(test_children_that_go_wrong),
	    WITH_WORKER(test_cancel),
	    WITH_WORKER(test_lost_lease),
	    WITH_WORKER(test_result_until_ack),
	    WITH_WORKER(test_ledgerd_restarts),
	    WITH_WORKER(test_worker_is_killed),
	    WITH_WORKER(test_sigterm),
	    WITH_WORKER(test_record),
	    WITH_WORKER(test_record_times_out),
	    WITH_WORKER(test_record_across_restart),
	    WITH_WORKER(test_begin_and_publish),
	    WITH_WORKER(test_topics),
	    WITH_WORKER(test_helper),
	    HUB_ONLY(test_unknown_keys_are_refused),
	    HUB_ONLY(test_wrong_server_and_plain),
	    WITH_WORKER(test_malformed_messages),
	    WITH_WORKER(test_name_is_the_keys),
	    HUB_ONLY(test_operators),
	    HUB_ONLY(test_command_line),
	};

	if (argc > 1)
		return sp_worker_main(argc, argv, &spec);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
