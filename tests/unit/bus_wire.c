/*
 * bus_wire.c -- a real hub and a real worker: keys, leases, children, records, restarts.
 *
 * Started with arguments, this program is the worker (and, as any worker, its own child).
 */
#include "base/file.h"
#include "bus_fetcher.h"
#include "bus_rig.h"

#include <errno.h>
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
test_step(void **unused)
{
	struct rig_message *m;
	const Sallyport__Done *done;

	(void)unused;
	m = rig_wait(&rig, SALLYPORT__ENVELOPE__BODY_HEARTBEAT);
	assert_string_equal(m->worker, RIG_WORKER);
	assert_string_equal(m->envelope->heartbeat->service, "fetcherd");
	assert_int_equal(m->envelope->heartbeat->n_steps, bus_fetcher_spec.step_count);
	assert_int_equal(m->envelope->heartbeat->free, 2);
	rig_free(m);
	m = rig_do(&rig, LEASE, "copy", "org/name");
	assert_int_equal(m->envelope->result->outcome_case, SALLYPORT__RESULT__OUTCOME_DONE);
	done = m->envelope->result->done;
	assert_int_equal(done->n_artifacts, 1);
	assert_string_equal(done->artifacts[0]->digest, BUS_FETCHER_DIGEST);
	assert_true(done->artifacts[0]->bytes == 42 && done->artifacts[0]->tree);
	assert_int_equal(done->attestation.len, 6);
	assert_memory_equal(done->attestation.data, "sealed", 6);
	assert_string_equal(rig_detail(m, "name"), "org/name");
	assert_string_equal(rig_detail(m, "side"), "bastion");
	assert_string_equal(rig_detail(m, "heard"), "greeting: hello");
	assert_non_null(
	    strstr(rig_detail(m, "workdir"), "/state/fetcherd/work/" BUS_FETCHER_DIGEST));
	assert_string_equal(rig_detail(m, "no-new-privs"), "1");
#ifndef __SANITIZE_ADDRESS__
	assert_string_equal(rig_detail(m, "undumpable"), "1");
#endif
	rig_free(m);
	wait_for_free(2);
}

static void
test_failures(void **unused)
{
	const Sallyport__Failure *f;
	struct rig_message *m;

	(void)unused;
	m = rig_do(&rig, LEASE, "fail", "x");
	f = rig_failure(m);
	assert_string_equal(f->code, "unreachable");
	assert_true(f->may_retry);
	assert_string_equal(f->message, "no answer from ?[31m the hub");
	assert_int_equal(f->attestation.len, 0); /* seal is not asked about failures */
	rig_free(m);
	m = rig_do(&rig, LEASE, "block", "x");
	f = rig_failure(m);
	assert_string_equal(f->code, "blocked");
	assert_string_equal(f->message, "the gate says no");
	assert_false(f->may_retry);
	assert_memory_equal(f->attestation.data, "verdict", 7);
	assert_string_equal(rig_detail(m, "score"), "0.1");
	rig_free(m);
}

static void
test_large_results(void **unused)
{
	struct rig_message *m;

	(void)unused;
	m = rig_do(&rig, LEASE, "big", "1000");
	assert_int_equal(m->envelope->result->outcome_case, SALLYPORT__RESULT__OUTCOME_DONE);
	assert_int_equal(m->envelope->result->done->attestation.len, 1000 << 10);
	rig_free(m);
	/* what no message can hold still ends the lease, with a reason */
	m = rig_do(&rig, LEASE, "big", "1024");
	assert_string_equal(rig_failure(m)->code, "limit");
	assert_non_null(strstr(rig_failure(m)->message, "cannot be reported"));
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
		f = rig_failure(m);
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
			assert_int_equal(h->leases[0]->n_files, 2);
			assert_string_equal(h->leases[0]->files[0]->path, "config.json");
			assert_int_equal(h->leases[0]->files[0]->total, 2);
			assert_string_equal(h->leases[0]->files[1]->path, "model/1.safetensors");
			assert_int_equal(h->leases[0]->files[1]->done, 3);
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
test_cancel(void **unused)
{
	pid_t child, grandchild;
	struct rig_message *m;

	(void)unused;
	rig_lease(&rig, LEASE, "wait", "x");
	wait_for_pids(LEASE, &child, &grandchild);
	rig_cancel(&rig, LEASE);
	m = rig_result(&rig, LEASE);
	assert_string_equal(rig_failure(m)->code, "cancelled");
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
	kill(grandchild, SIGKILL); /* the rig ends the worker alone */
}

static void
test_worker_is_killed(void **unused)
{
	struct rig_message *m;
	pid_t child, grandchild;
	uint64_t before;

	(void)unused;
	rig_lease(&rig, LEASE, "wait", "x");
	wait_for_pids(LEASE, &child, &grandchild);
	m = rig_wait(&rig, SALLYPORT__ENVELOPE__BODY_HEARTBEAT);
	before = m->envelope->seq;
	rig_free(m);
	kill(rig.pid, SIGKILL);
	assert_int_equal(rig_wait_worker(&rig), 128 + SIGKILL);
	rig_until(&rig, has_died, &child);
	kill(grandchild, SIGKILL); /* who starts processes ties them to itself */
	/* the next one begins with nothing, and an answer that was on its way to the one before it
	 * answers nothing that it will ask */
	rig_start_worker(&rig, rig.worker);
	wait_for_free(2);
	m = rig_wait(&rig, SALLYPORT__ENVELOPE__BODY_HEARTBEAT);
	assert_true(m->envelope->seq > before + 1000000 || before > m->envelope->seq + 1000000);
	rig_free(m);
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

/* More than a message may hold comes in parts, and ledgerd sees the whole. */
static void
test_publish_in_parts(void **unused)
{
	const ProtobufCBinaryData *content;
	struct rig_message *m;
	size_t i;

	(void)unused;
	rig_lease(&rig, LEASE, "parts", "3000");
	m = rig_wait(&rig, SALLYPORT__ENVELOPE__BODY_PUBLISH);
	content = &m->envelope->publish->content;
	assert_int_equal(content->len, 3000 << 10);
	for (i = 0; i < content->len; i++)
		if (content->data[i] != (uint8_t)(i % 251))
			fail_msg("byte %zu is %u", i, content->data[i]);
	rig_ack(&rig, m->envelope->seq, 2);
	rig_free(m);
	m = rig_result(&rig, LEASE);
	assert_int_equal(m->envelope->result->outcome_case, SALLYPORT__RESULT__OUTCOME_DONE);
	rig_free(m);
	/* what ledgerd keeps of a topic has a limit too */
	m = rig_do(&rig, LEASE, "parts", "17000");
	assert_string_equal(rig_failure(m)->code, "limit");
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
	/* the worker has read the acknowledgement, which a connection that ends may take along */
	wait_for_free(2);
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
	raw_open(&rig, &raw, unknown, server, "bus.socket");
	rig_until(&rig, enough_refusals, NULL);
	raw_close(&raw);
	refusals_wanted =
	    2; /* a known key, used by a process of another user than the document's */
	raw_open(&rig, &raw, rig.wrong_uid, server, "bus.socket");
	rig_until(&rig, enough_refusals, NULL);
	raw_close(&raw);
	refusals_wanted = 3; /* ledgerd's own key does not make a worker */
	raw_open(&rig, &raw, rig.server, server, "bus.socket");
	rig_until(&rig, enough_refusals, NULL);
	raw_close(&raw);
	assert_true(sp_hub_stats(rig.hub).admitted == 0);
	sp_key_free(&unknown);
	/* and the one that is named comes in */
	rig_start_worker(&rig, rig.worker);
	wait_for_free(2);
	assert_true(sp_hub_stats(rig.hub).admitted == 1);
}

/* The trust document comes to name it later: the worker asks again until then. */
static void
test_refused_for_a_while(void **unused)
{
	(void)unused;
	rig.deny = 1;
	rig_start_worker(&rig, rig.worker);
	refusals_wanted = 1;
	rig_until(&rig, enough_refusals, NULL);
	rig_wait_log(&rig, "ledgerd refuses this worker's key");
	rig.deny = 0;
	wait_for_free(2);
	assert_true(sp_hub_stats(rig.hub).admitted == 1);
}

/* A client that believes in another server, and one that speaks no CURVE. */
static void
test_wrong_server_and_plain(void **unused)
{
	struct raw wrong, plain;

	(void)unused;
	raw_open(&rig, &wrong, rig.other, sp_key_public(rig.other)->bytes, "bus.socket");
	raw_open(&rig, &plain, NULL, NULL, "bus.socket");
	zmq_send(wrong.socket, "\x08\x01", 2, 0);
	zmq_send(plain.socket, "\x08\x01", 2, 0);
	rig_until(&rig, raw_was_turned_away, &wrong);
	rig_until(&rig, raw_was_turned_away, &plain);
	assert_true(sp_hub_stats(rig.hub).admitted == 0);
	assert_true(sp_hub_stats(rig.hub).malformed == 0);
	raw_close(&wrong);
	raw_close(&plain);
	rig_start_worker(&rig, rig.worker);
	rig_free(rig_wait(&rig, SALLYPORT__ENVELOPE__BODY_HEARTBEAT));
	rig_free(rig_do(&rig, LEASE, "copy", "x"));
}

static void
test_malformed_messages(void **unused)
{
	static const char big[100000];
	struct rig_message *m;
	struct raw raw;
	int i;

	(void)unused;
	raw_open(&rig, &raw, rig.other, sp_key_public(rig.server)->bytes, "bus.socket");
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
	raw_open(&rig, &raw, rig.other, sp_key_public(rig.server)->bytes, "bus.socket");
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
	Sallyport__Envelope envelope;
	struct rig_message *m;
	struct sp_err err;
	struct stat st;

	(void)unused;
	assert_int_equal(stat(sp_conf_string(rig.conf, "bus.operators"), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0660);
	raw_open(&rig, &raw, NULL, NULL, "bus.operators");
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
	sallyport__envelope__init(&envelope);
	assert_int_equal(sp_hub_send(rig.hub, "nobody", &envelope, &err), SP_E_UNREACHABLE);
}

/* Who subscribes says a topic's name; nothing larger is read into memory for him. */
static void
test_subscriber_that_sends(void **unused)
{
	static const char big[100000] = {2}; /* 0 and 1 are subscriptions */
	struct raw raw;

	(void)unused;
	raw_open_as(&rig, &raw, ZMQ_XSUB, NULL, NULL, "bus.snapshots");
	zmq_send(raw.socket, big, sizeof(big), 0);
	rig_until(&rig, raw_was_cut_off, &raw);
	raw_close(&raw);
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

static void
test_standalone(void **unused)
{
	const char *conf = "registryd = { standalone = true; };\n"; /* no side, no keys, no bus */
	char *file = sp_xasprintf("%s/alone.conf", rig.root);
	const char *const args[] = {"-c", file, "--root", rig.root, NULL};
	struct sp_err err;

	(void)unused;
	assert_int_equal(sp_file_write(file, 0600, conf, strlen(conf), &err), SP_OK);
	rig_start_args(&rig, args);
	rig_wait_log(&rig, "runs, standalone");
	kill(rig.pid, SIGTERM);
	assert_int_equal(rig_wait_worker(&rig), 0);
	free(file);
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
#define WITH_WORKER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
#define HUB_ONLY(test) cmocka_unit_test_setup_teardown(test, set_up_hub, tear_down)
	    WITH_WORKER(test_step),
	    WITH_WORKER(test_failures),
	    WITH_WORKER(test_large_results),
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
	    WITH_WORKER(test_publish_in_parts),
	    WITH_WORKER(test_topics),
	    WITH_WORKER(test_helper),
	    HUB_ONLY(test_unknown_keys_are_refused),
	    HUB_ONLY(test_refused_for_a_while),
	    HUB_ONLY(test_wrong_server_and_plain),
	    WITH_WORKER(test_malformed_messages),
	    WITH_WORKER(test_name_is_the_keys),
	    HUB_ONLY(test_operators),
	    HUB_ONLY(test_subscriber_that_sends),
	    HUB_ONLY(test_command_line),
	    HUB_ONLY(test_standalone),
	};

	if (argc > 1)
		return sp_worker_main(argc, argv, &bus_fetcher_spec);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
