/* bus.c -- what needs no socket: hostile messages, outcomes, and the worker's state machine. */
#include "base/hash.h"
#include "base/limits.h"
#include "bus/envelope.h"
#include "bus/result.h"
#include "bus/wire.h"
#include "bus/worker_step.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define LEASE_A "0123456789abcdef0123456789abcdef"
#define LEASE_B "ffffffffffffffffffffffffffffffff"
#define LEASE_C "00000000000000000000000000000000"
#define DIGEST "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

/* --- raw bytes -----------------------------------------------------------------------------------
 */

/* Raw protobuf: version 1, then the bytes given. */
struct raw {
	const char *name;
	size_t len;
	const char *bytes;
	const char *says; /* part of the refusal */
};

#define RAW(name, bytes, says)                       \
	{                                            \
		name, sizeof(bytes) - 1, bytes, says \
	}
#define ACCEPT_A "\x5a\x22\x0a\x20" LEASE_A /* field 11, 34 bytes: field 1, 32 bytes */

static const struct raw hostile[] = {
    RAW("empty", "", "version 0"),
    RAW("no body", "\x08\x01\x10\x05", "body is none"),
    RAW("version 2", "\x08\x02" ACCEPT_A, "version 2"),
    RAW("version too large", "\x08\x81\x80\x80\x80\x80\x80\x80\x80\x80\x01" ACCEPT_A, "version"),
    RAW("unknown body", "\x08\x01\xc2\x02\x00", "unknown field"),
    RAW("unknown field inside", "\x08\x01\x5a\x25\x0a\x20" LEASE_A "\x78\x01\x00", "unknown"),
    RAW("field number 0", "\x08\x01\x02\x00", "tag is broken"),
    RAW("two bodies", "\x08\x01" ACCEPT_A ACCEPT_A, "comes twice"),
    RAW("body of another kind after it", "\x08\x01" ACCEPT_A "\x52\x00", "comes twice"),
    RAW("version twice", "\x08\x01\x08\x01" ACCEPT_A, "comes twice"),
    RAW("version as bytes", "\x0a\x01\x31" ACCEPT_A, "wire type"),
    RAW("body as number", "\x08\x01\x58\x01", "wire type"),
    RAW("body cut off", "\x08\x01\x5a\x22\x0a\x20\x61", "cut off"),
    RAW("string longer than its message", "\x08\x01\x5a\x03\x0a\x20\x61", "cut off"),
    RAW("length without end", "\x08\x01\x5a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "cut off"),
    RAW("varint of 11 bytes", "\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", "not a number"),
    RAW("varint above 64 bits", "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", "not a number"),
    RAW("ends inside a tag", "\x08\x01\xda", "tag is broken"),
    RAW("group", "\x08\x01\x5b\x5c", "wire type"),
    RAW("NUL in a string",
	"\x08\x01\x5a\x06\x0a\x04"
	"a\0bc",
	"NUL"),
    RAW("no UTF-8", "\x08\x01\x5a\x04\x0a\x02\xc3\x28", "UTF-8"),
    RAW("surrogate", "\x08\x01\x5a\x05\x0a\x03\xed\xa0\x80", "UTF-8"),
    RAW("lease too short",
	"\x08\x01\x5a\x03\x0a\x01"
	"a",
	"accept.lease"),
    RAW("lease upper case",
	"\x08\x01\x5a\x22\x0a\x20"
	"0123456789ABCDEF0123456789abcdef",
	"accept.lease"),
    RAW("ledgerd's body", "\x08\x01\x8a\x02\x02\x08\x01", "none that a worker sends"),
};

static void
test_hostile_bytes(void **unused)
{
	Sallyport__Envelope *e;
	struct sp_err err;
	uint8_t *copy;
	size_t i;

	(void)unused;
	for (i = 0; i < sizeof(hostile) / sizeof(hostile[0]); i++) {
		/* on the heap and no byte longer, so that the sanitizer sees every overread */
		copy = malloc(hostile[i].len > 0 ? hostile[i].len : 1);
		memcpy(copy, hostile[i].bytes, hostile[i].len);
		if (sp_envelope_unpack(copy, hostile[i].len, SP_FROM_WORKER, &e, &err) == SP_OK)
			fail_msg("%s: accepted", hostile[i].name);
		assert_null(e);
		if (strstr(err.msg, hostile[i].says) == NULL)
			fail_msg("%s: \"%s\" does not say \"%s\"", hostile[i].name, err.msg,
			    hostile[i].says);
		free(copy);
	}
	assert_int_equal(
	    sp_envelope_unpack((const uint8_t *)"\x08\x01" ACCEPT_A, 38, SP_FROM_WORKER, &e, &err),
	    SP_OK);
	assert_string_equal(e->accept->lease, LEASE_A);
	sallyport__envelope__free_unpacked(e, NULL);
}

/* 600,000 empty messages in 1.2 MB: refused before a single one is allocated. */
static void
test_too_many_fields(void **unused)
{
	size_t count = 600000, body = 2 * count, i;
	uint8_t *data = malloc(body + 8);
	Sallyport__Envelope *e;
	struct sp_err err;

	(void)unused;
	memcpy(data, "\x08\x01\x52", 3); /* heartbeat */
	data[3] = (uint8_t)(body | 0x80);
	data[4] = (uint8_t)(body >> 7 | 0x80);
	data[5] = (uint8_t)(body >> 14);
	for (i = 0; i < count; i++)
		memcpy(data + 6 + 2 * i, "\x2a\x00", 2); /* leases */
	assert_int_equal(
	    sp_wire_check(&sallyport__envelope__descriptor, data, 6 + body, &err), SP_E_LIMIT);
	assert_non_null(strstr(err.msg, "too many fields"));
	free(data);

	data = calloc(SP_MESSAGE_MAX + 1, 1);
	assert_int_equal(
	    sp_envelope_unpack(data, SP_REQUEST_MAX + 1, SP_FROM_WORKER, &e, &err), SP_E_LIMIT);
	assert_non_null(strstr(err.msg, "1048577 bytes"));
	assert_int_equal(
	    sp_envelope_unpack(data, SP_MESSAGE_MAX + 1, SP_FROM_LEDGERD, &e, &err), SP_E_LIMIT);
	free(data);
}

/* --- messages ------------------------------------------------------------------------------------
 */

/* A result with everything in it: the base that the cases below spoil. */
struct sample {
	Sallyport__Envelope envelope;
	Sallyport__Result result;
	Sallyport__Failure failure;
	Sallyport__Artifact artifact;
	Sallyport__Detail detail;
	Sallyport__Artifact *artifacts[SP_BUS_ARTIFACTS_MAX + 1];
	Sallyport__Detail *details[SP_BUS_DETAILS_MAX + 1];
	char lease[64], digest[80], role[64], store[64], key[128], value[8192], code[32];
	char message[8192];
};

static void
init_sample(struct sample *s)
{
	size_t i;

	memset(s, 0, sizeof(*s));
	strcpy(s->lease, LEASE_A);
	strcpy(s->digest, DIGEST);
	strcpy(s->role, "report");
	strcpy(s->store, "validatord");
	strcpy(s->key, "mmlu");
	strcpy(s->value, "62.4");
	strcpy(s->code, "blocked");
	strcpy(s->message, "mmlu fell by 7 points");
	sallyport__envelope__init(&s->envelope);
	sallyport__result__init(&s->result);
	sallyport__failure__init(&s->failure);
	sallyport__artifact__init(&s->artifact);
	sallyport__detail__init(&s->detail);
	s->artifact.role = s->role;
	s->artifact.digest = s->digest;
	s->artifact.store = s->store;
	s->detail.key = s->key;
	s->detail.value = s->value;
	for (i = 0; i <= SP_BUS_ARTIFACTS_MAX; i++)
		s->artifacts[i] = &s->artifact;
	for (i = 0; i <= SP_BUS_DETAILS_MAX; i++)
		s->details[i] = &s->detail;
	s->failure.code = s->code;
	s->failure.message = s->message;
	s->failure.artifacts = s->artifacts;
	s->failure.n_artifacts = 1;
	s->failure.details = s->details;
	s->failure.n_details = 1;
	s->result.lease = s->lease;
	s->result.outcome_case = SALLYPORT__RESULT__OUTCOME_FAILURE;
	s->result.failure = &s->failure;
	s->envelope.seq = 7;
	s->envelope.body_case = SALLYPORT__ENVELOPE__BODY_RESULT;
	s->envelope.result = &s->result;
}

/* Both ends must see it: the one that packs, and the one that unpacks what another packed. */
static void
assert_refused(struct sample *s, const char *says)
{
	Sallyport__Envelope *e;
	struct sp_err err;
	uint8_t *data;
	size_t len;

	if (sp_envelope_pack(&s->envelope, SP_FROM_WORKER, &data, &len, &err) == SP_OK)
		fail_msg("packed although %s", says);
	if (strstr(err.msg, says) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", err.msg, says);
	len = sallyport__envelope__get_packed_size(&s->envelope);
	data = malloc(len);
	sallyport__envelope__pack(&s->envelope, data);
	if (sp_envelope_unpack(data, len, SP_FROM_WORKER, &e, &err) == SP_OK)
		fail_msg("unpacked although %s", says);
	free(data);
	init_sample(s);
}

static void
test_rules(void **unused)
{
	struct sample *s = malloc(sizeof(*s));

	(void)unused;
	init_sample(s);
	s->lease[0] = 'g';
	assert_refused(s, "result.lease");
	s->digest[63] = '\0';
	assert_refused(s, "artifact.digest");
	strcpy(s->digest, "00112233445566778899AABBCCDDEEFF00112233445566778899aabbccddeeff");
	assert_refused(s, "artifact.digest");
	strcpy(s->store, "../fetcherd");
	assert_refused(s, "artifact.store");
	strcpy(s->store, "");
	assert_refused(s, "artifact.store");
	memset(s->role, 'r', SP_BUS_WORD_MAX + 1);
	assert_refused(s, "artifact.role");
	strcpy(s->key, "");
	assert_refused(s, "detail.key");
	strcpy(s->key, "a\nb");
	assert_refused(s, "detail.key");
	memset(s->key, 'k', SP_BUS_LINE_MAX + 1);
	assert_refused(s, "detail.key");
	memset(s->value, 'v', SP_BUS_TEXT_MAX + 1);
	assert_refused(s, "detail.value");
	memset(s->message, 'm', SP_BUS_TEXT_MAX + 1);
	assert_refused(s, "failure.message");
	strcpy(s->message, "\xff");
	assert_refused(s, "failure.message");
	strcpy(s->code, "ok");
	assert_refused(s, "failure.code");
	strcpy(s->code, "no-such-code");
	assert_refused(s, "failure.code");
	s->failure.n_artifacts = SP_BUS_ARTIFACTS_MAX + 1;
	assert_refused(s, "artifacts");
	s->failure.n_details = SP_BUS_DETAILS_MAX + 1;
	assert_refused(s, "details");
	s->result.outcome_case = SALLYPORT__RESULT__OUTCOME__NOT_SET;
	assert_refused(s, "neither done nor failure");
	free(s);
}

static uint8_t *
pack_sample(size_t *len)
{
	struct sample *s = malloc(sizeof(*s));
	struct sp_err err;
	uint8_t *data;

	init_sample(s);
	assert_int_equal(sp_envelope_pack(&s->envelope, SP_FROM_WORKER, &data, len, &err), SP_OK);
	free(s);
	return data;
}

static void
test_round_trip(void **unused)
{
	Sallyport__Envelope *e;
	struct sp_err err;
	size_t len;
	uint8_t *data = pack_sample(&len);

	(void)unused;
	assert_int_equal(sp_envelope_unpack(data, len, SP_FROM_WORKER, &e, &err), SP_OK);
	assert_int_equal(e->version, 1);
	assert_int_equal(e->seq, 7);
	assert_string_equal(e->result->failure->code, "blocked");
	assert_string_equal(e->result->failure->artifacts[0]->digest, DIGEST);
	assert_string_equal(e->result->failure->details[0]->value, "62.4");
	sallyport__envelope__free_unpacked(e, NULL);
	/* the same bytes, sent by ledgerd, are nothing that it may say */
	assert_int_equal(sp_envelope_unpack(data, len, SP_FROM_LEDGERD, &e, &err), SP_E_INVALID);
	free(data);
}

/* Every message one bit or one cut away from a good one: refused, or as good as the original. */
static void
test_mutations(void **unused)
{
	Sallyport__Envelope *e;
	size_t len, i, refused = 0;
	uint8_t *data = pack_sample(&len), *copy;
	int bit;

	(void)unused;
	for (i = 0; i < len; i++) {
		copy = malloc(i > 0 ? i : 1);
		memcpy(copy, data, i);
		assert_int_not_equal(sp_envelope_unpack(copy, i, SP_FROM_WORKER, &e, NULL), SP_OK);
		free(copy);
	}
	copy = malloc(len);
	for (i = 0; i < len; i++) {
		for (bit = 0; bit < 8; bit++) {
			memcpy(copy, data, len);
			copy[i] ^= (uint8_t)(1 << bit);
			if (sp_envelope_unpack(copy, len, SP_FROM_WORKER, &e, NULL) != SP_OK) {
				refused++;
				continue;
			}
			/* what came through has one spelling: it packs to what was received */
			assert_int_equal(sallyport__envelope__get_packed_size(e), len);
			sallyport__envelope__free_unpacked(e, NULL);
		}
	}
	/* nearly every bit is structure, a hex digit or a lower-case letter */
	assert_true(refused > len * 4);
	free(copy);
	free(data);
}

static void
test_offer_needs_task(void **unused)
{
	Sallyport__Envelope *e, envelope;
	Sallyport__Offer offer;
	struct sp_err err;
	uint8_t data[64];
	size_t len;

	(void)unused;
	sallyport__envelope__init(&envelope);
	sallyport__offer__init(&offer);
	envelope.version = 1;
	envelope.body_case = SALLYPORT__ENVELOPE__BODY_OFFER;
	envelope.offer = &offer;
	len = sallyport__envelope__pack(&envelope, data);
	assert_int_equal(sp_envelope_unpack(data, len, SP_FROM_LEDGERD, &e, &err), SP_E_INVALID);
	assert_non_null(strstr(err.msg, "offer.task"));
}

static void
test_child_events(void **unused)
{
	Sallyport__ChildEvent event, *back;
	Sallyport__Progress progress;
	char lease[] = LEASE_A, phase[] = "download", nothing[] = "";
	struct sp_err err;
	uint8_t *frame;
	size_t len;

	(void)unused;
	sallyport__child_event__init(&event);
	sallyport__progress__init(&progress);
	assert_int_equal(sp_event_frame(&event, &frame, &len, &err), SP_E_INVALID);
	event.event_case = SALLYPORT__CHILD_EVENT__EVENT_PROGRESS;
	event.progress = &progress;
	progress.phase = phase;
	progress.lease = lease; /* whose lease it is, the parent knows better */
	assert_int_equal(sp_event_frame(&event, &frame, &len, &err), SP_E_INVALID);
	progress.lease = nothing;
	progress.done = 3;
	assert_int_equal(sp_event_frame(&event, &frame, &len, &err), SP_OK);
	assert_int_equal(frame[3], len - 4);
	assert_int_equal(sp_event_unpack(frame + 4, len - 4, &back, &err), SP_OK);
	assert_int_equal(back->progress->done, 3);
	sallyport__child_event__free_unpacked(back, NULL);
	free(frame);
}

/* --- outcomes ------------------------------------------------------------------------------------
 */

static void
assert_clean(const char *text, size_t max, const char *expect)
{
	char *clean = sp_result_clean(text, max);

	assert_string_equal(clean, expect);
	free(clean);
}

static void
test_clean(void **unused)
{
	(void)unused;
	assert_clean("as it is: \xc3\xa4\n\t", 100, "as it is: \xc3\xa4\n\t");
	assert_clean("\x1b[31m\x7f", 100, "?[31m?");
	assert_clean("\xff\xc3(", 100, "?\?(");
	assert_clean("\xc2\x9b", 100, "?");  /* CSI in UTF-8 */
	assert_clean("ab\xc3\xa4", 3, "ab"); /* no half characters */
	assert_clean("ab\xe2\x82\xac", 5, "ab\xe2\x82\xac");
	assert_clean("\xe2\x82", 5, "??");
	assert_clean("", 5, "");
}

/* Whatever a step writes into its outcome, the message about it keeps the rules. */
static void
test_result_of_outcome(void **unused)
{
	struct sp_outcome outcome = {0}, taken = {0};
	struct sp_result result;
	struct sp_err err, back;
	uint8_t *frame;
	size_t len;
	Sallyport__ChildEvent event, *heard;

	(void)unused;
	sp_outcome_artifact(&outcome, "candidate", DIGEST, "quantd", 1, 123456789012);
	sp_outcome_detail(&outcome, "rows", "%d \x01 %s", 12, "\xff");
	sp_outcome_attest(&outcome, "{}", 2);
	sp_err_set(&err, SP_E_BLOCKED, "perplexity \x02 rose");
	sp_result_build(&result, SP_E_BLOCKED, &err, &outcome);
	assert_false(result.ok);
	assert_false(result.failure.may_retry);
	sallyport__child_event__init(&event);
	event.event_case = SALLYPORT__CHILD_EVENT__EVENT_FAILURE;
	event.failure = &result.failure;
	assert_int_equal(sp_event_frame(&event, &frame, &len, &back), SP_OK);
	assert_int_equal(sp_event_unpack(frame + 4, len - 4, &heard, &back), SP_OK);
	assert_int_equal(sp_result_take_failure(&taken, heard->failure, &back), SP_E_BLOCKED);
	assert_string_equal(back.msg, "perplexity ? rose");
	assert_string_equal(sp_outcome_get(&taken, "rows"), "12 ? ?");
	assert_null(sp_outcome_get(&taken, "columns"));
	assert_true(sp_outcome_find(&taken, "candidate")->bytes == 123456789012);
	assert_null(sp_outcome_find(&taken, "source"));
	assert_int_equal(taken.attestation_len, 2);
	sallyport__child_event__free_unpacked(heard, NULL);
	free(frame);
	sp_result_clear(&result);
	sp_result_build(&result, SP_E_TIMEOUT, NULL, &outcome);
	assert_true(result.failure.may_retry);
	sp_result_clear(&result);
	sp_outcome_clear(&outcome);
	sp_outcome_clear(&taken);
}

static void
test_input(void **unused)
{
	char role[] = "source", old[] = DIGEST, store[64] = "fetcherd", job[] = LEASE_A;
	char step[] = "quantize", digest[] = DIGEST;
	Sallyport__Artifact first, last, *list[] = {&first, &last};
	Sallyport__Task task;
	struct sp_artifact out;
	struct sp_err err;

	(void)unused;
	sallyport__task__init(&task);
	sallyport__artifact__init(&first);
	sallyport__artifact__init(&last);
	task.job = job;
	task.step = step;
	task.artifacts = list;
	task.n_artifacts = 2;
	first.role = last.role = role;
	first.digest = old;
	first.store = last.store = store;
	digest[0] = 'f';
	last.digest = digest;
	last.tree = 1;
	last.bytes = 5;
	assert_int_equal(sp_outcome_input(&task, "source", &out, &err), SP_OK);
	assert_string_equal(out.digest.s, digest);
	assert_int_equal(out.tree, 1);
	assert_int_equal(sp_outcome_input(&task, "candidate", &out, &err), SP_E_INVALID);
	assert_non_null(strstr(err.msg, "\"candidate\""));
	strcpy(store, "a/../b");
	assert_int_equal(sp_outcome_input(&task, "source", &out, &err), SP_E_INVALID);
	strcpy(store, "fetcherd");
	digest[5] = 'X';
	assert_int_equal(sp_outcome_input(&task, "source", &out, &err), SP_E_INVALID);
}

/* --- the state machine ---------------------------------------------------------------------------
 */

static struct sp_worker_state state;
static struct sp_worker_actions actions;
static int64_t now_ms;
static char did[32 * SP_WORKER_ACTIONS_MAX];

static const char *const action_words[] = {"heartbeat", "accept", "start", "halt", "result",
    "forget", "send", "answered", "refused", "cancelled", "collect", "busy", "collected", "leave",
    "clear", "reopen"};

/* What the machine does, in words: "accept A 1, start A". */
static const char *
apply(struct sp_worker_event event)
{
	const struct sp_worker_action *a;
	size_t i, at = 0;

	event.now_ms = now_ms;
	if (event.lease == NULL)
		event.lease = "";
	sp_worker_step_apply(&state, &event, &actions);
	did[0] = '\0';
	for (i = 0; i < actions.count; i++) {
		a = &actions.items[i];
		at += (size_t)snprintf(
		    did + at, sizeof(did) - at, "%s%s", i > 0 ? ", " : "", action_words[a->kind]);
		if (a->lease[0] != '\0')
			at += (size_t)snprintf(did + at, sizeof(did) - at, " %c",
			    strcmp(a->lease, LEASE_A) == 0   ? 'A'
			    : strcmp(a->lease, LEASE_B) == 0 ? 'B'
							     : 'C');
		if (a->kind == SP_ACTION_ACCEPT || a->kind == SP_ACTION_RESULT)
			at += (size_t)snprintf(did + at, sizeof(did) - at, " %d", (int)a->seq);
		if (a->kind >= SP_ACTION_SEND && a->kind <= SP_ACTION_CANCELLED)
			at += (size_t)snprintf(did + at, sizeof(did) - at, " #%d", (int)a->ask);
	}
	return did;
}

static const char *
lease_event(enum sp_worker_event_kind kind, const char *lease)
{
	return apply((struct sp_worker_event){.kind = kind, .lease = lease});
}

static const char *
seq_event(enum sp_worker_event_kind kind, uint64_t seq)
{
	return apply((struct sp_worker_event){.kind = kind, .seq = seq});
}

static const char *
plain_event(enum sp_worker_event_kind kind)
{
	return apply((struct sp_worker_event){.kind = kind});
}

static const char *
refuse_lease(uint64_t seq, const char *lease)
{
	return apply(
	    (struct sp_worker_event){.kind = SP_EVENT_REFUSAL, .seq = seq, .lease = lease});
}

static const char *
ask_event(enum sp_worker_event_kind kind, uint64_t ask)
{
	return apply((struct sp_worker_event){.kind = kind, .ask = ask});
}

static int
set_up(void **unused)
{
	(void)unused;
	now_ms = 1000;
	sp_worker_step_init(&state, 2, now_ms);
	assert_string_equal(plain_event(SP_EVENT_CONNECTED), "heartbeat");
	assert_string_equal(
	    apply((struct sp_worker_event){.kind = SP_EVENT_WELCOME, .heartbeat_ms = 1000}), "");
	return 0;
}

/* A runs: its accept had seq 1. */
static void
start_a(void)
{
	assert_string_equal(lease_event(SP_EVENT_OFFER, LEASE_A), "accept A 1");
	assert_string_equal(seq_event(SP_EVENT_ACK, 1), "start A");
}

static void
test_life_of_a_lease(void **unused)
{
	(void)unused;
	assert_int_equal(state.tick_ms, 1000);
	assert_int_equal(sp_worker_step_free(&state), 2);
	start_a();
	assert_int_equal(sp_worker_step_free(&state), 1);
	assert_true(sp_worker_step_named(sp_worker_step_find(&state, LEASE_A)));
	assert_string_equal(plain_event(SP_EVENT_TICK), "heartbeat");
	assert_string_equal(lease_event(SP_EVENT_FINISHED, LEASE_A), "result A 2");
	assert_string_equal(seq_event(SP_EVENT_ACK, 2), "forget A");
	assert_int_equal(sp_worker_step_free(&state), 2);
	assert_null(sp_worker_step_find(&state, LEASE_A));
}

static void
test_work_waits_for_the_ack(void **unused)
{
	(void)unused;
	assert_string_equal(lease_event(SP_EVENT_OFFER, LEASE_A), "accept A 1");
	/* not ours before ledgerd says so: heartbeats do not claim it */
	assert_false(sp_worker_step_named(sp_worker_step_find(&state, LEASE_A)));
	assert_string_equal(plain_event(SP_EVENT_TICK), "heartbeat, accept A 1");
	assert_string_equal(seq_event(SP_EVENT_ACK, 99), "");
	assert_string_equal(seq_event(SP_EVENT_ACK, 1), "start A");
	assert_string_equal(seq_event(SP_EVENT_ACK, 1), "");
}

static void
test_duplicate_offer(void **unused)
{
	(void)unused;
	assert_string_equal(lease_event(SP_EVENT_OFFER, LEASE_A), "accept A 1");
	assert_string_equal(lease_event(SP_EVENT_OFFER, LEASE_A), "accept A 1");
	assert_string_equal(seq_event(SP_EVENT_ACK, 1), "start A");
	assert_string_equal(lease_event(SP_EVENT_OFFER, LEASE_A), "");
	assert_string_equal(lease_event(SP_EVENT_FINISHED, LEASE_A), "result A 2");
	assert_string_equal(lease_event(SP_EVENT_OFFER, LEASE_A), "result A 2");
	assert_int_equal(sp_worker_step_free(&state), 1);
}

static void
test_no_slot(void **unused)
{
	(void)unused;
	start_a();
	assert_string_equal(lease_event(SP_EVENT_OFFER, LEASE_B), "accept B 2");
	assert_string_equal(lease_event(SP_EVENT_OFFER, LEASE_C), "");
	assert_null(sp_worker_step_find(&state, LEASE_C));
	/* B goes to somebody else: there is room again */
	assert_string_equal(refuse_lease(2, LEASE_B), "forget B");
	assert_string_equal(lease_event(SP_EVENT_OFFER, LEASE_C), "accept C 3");
}

static void
test_result_is_repeated(void **unused)
{
	(void)unused;
	start_a();
	assert_string_equal(lease_event(SP_EVENT_FINISHED, LEASE_A), "result A 2");
	now_ms += 1000;
	assert_string_equal(plain_event(SP_EVENT_TICK), "heartbeat, result A 2");
	now_ms += 1000;
	assert_string_equal(plain_event(SP_EVENT_TICK), "heartbeat, result A 2");
	assert_true(sp_worker_step_named(sp_worker_step_find(&state, LEASE_A)));
	assert_string_equal(seq_event(SP_EVENT_ACK, 2), "forget A");
	now_ms += 1000;
	assert_string_equal(plain_event(SP_EVENT_TICK), "heartbeat");
}

static void
test_lost_lease(void **unused)
{
	(void)unused;
	start_a();
	/* ledgerd answers a heartbeat that named it: whatever that heartbeat's seq was */
	assert_string_equal(refuse_lease(55, LEASE_A), "halt A");
	assert_false(sp_worker_step_named(sp_worker_step_find(&state, LEASE_A)));
	assert_int_equal(sp_worker_step_free(&state), 1); /* until it has stopped */
	assert_string_equal(refuse_lease(56, LEASE_A), "");
	assert_string_equal(lease_event(SP_EVENT_CANCEL, LEASE_A), "");
	assert_string_equal(lease_event(SP_EVENT_FINISHED, LEASE_A), "forget A");
	assert_int_equal(sp_worker_step_free(&state), 2);
}

static void
test_refused_result(void **unused)
{
	(void)unused;
	start_a();
	assert_string_equal(lease_event(SP_EVENT_FINISHED, LEASE_A), "result A 2");
	assert_string_equal(refuse_lease(2, LEASE_A), "forget A");
	assert_string_equal(seq_event(SP_EVENT_ACK, 2), "");
	/* also when the refusal names no lease */
	assert_string_equal(lease_event(SP_EVENT_OFFER, LEASE_B), "accept B 3");
	assert_string_equal(seq_event(SP_EVENT_REFUSAL, 3), "forget B");
	/* a refusal of an unknown lease, or of nothing we said, changes nothing */
	assert_string_equal(refuse_lease(77, LEASE_C), "");
	assert_string_equal(seq_event(SP_EVENT_REFUSAL, 77), "");
}

static void
test_cancel(void **unused)
{
	(void)unused;
	start_a();
	assert_string_equal(lease_event(SP_EVENT_CANCEL, LEASE_A), "halt A");
	assert_string_equal(lease_event(SP_EVENT_CANCEL, LEASE_A), "");
	assert_string_equal(lease_event(SP_EVENT_FINISHED, LEASE_A), "result A 2");
	assert_string_equal(seq_event(SP_EVENT_ACK, 2), "forget A");
	/* before the work has begun: the same end */
	assert_string_equal(lease_event(SP_EVENT_OFFER, LEASE_B), "accept B 3");
	assert_string_equal(lease_event(SP_EVENT_CANCEL, LEASE_B), "halt B");
	assert_string_equal(seq_event(SP_EVENT_ACK, 3), "");
	assert_string_equal(lease_event(SP_EVENT_FINISHED, LEASE_B), "result B 4");
	assert_string_equal(lease_event(SP_EVENT_CANCEL, LEASE_C), "");
	/* cancelled, then lost: nothing is reported */
	assert_string_equal(refuse_lease(4, LEASE_B), "forget B");
}

static void
test_reconnect(void **unused)
{
	(void)unused;
	start_a();
	assert_string_equal(lease_event(SP_EVENT_OFFER, LEASE_B), "accept B 2");
	assert_string_equal(ask_event(SP_EVENT_ASK, 9), "send #9");
	assert_string_equal(plain_event(SP_EVENT_DISCONNECTED), "");
	assert_int_equal(state.tick_ms, SP_WORKER_EAGER_MS);
	/* nothing to talk to: the work goes on in silence */
	now_ms += 250;
	assert_string_equal(plain_event(SP_EVENT_TICK), "");
	assert_string_equal(lease_event(SP_EVENT_FINISHED, LEASE_A), "");
	assert_string_equal(
	    plain_event(SP_EVENT_CONNECTED), "heartbeat, result A 4, accept B 2, send #9");
	assert_true(sp_worker_step_named(sp_worker_step_find(&state, LEASE_A)));
	assert_string_equal(seq_event(SP_EVENT_ACK, 4), "forget A");
	assert_string_equal(seq_event(SP_EVENT_ACK, 2), "start B");
}

static void
test_silence(void **unused)
{
	(void)unused;
	start_a();
	now_ms += 5000;
	assert_string_equal(plain_event(SP_EVENT_TICK), "heartbeat");
	now_ms += 1;
	assert_string_equal(plain_event(SP_EVENT_TICK), "reopen");
	assert_false(state.connected);
	/* not again before the new connection had its time */
	now_ms += SP_WORKER_REOPEN_MAX_MS - 1;
	assert_string_equal(plain_event(SP_EVENT_TICK), "");
	now_ms += 1;
	assert_string_equal(plain_event(SP_EVENT_TICK), "reopen");
	assert_string_equal(plain_event(SP_EVENT_CONNECTED), "heartbeat");
	assert_true(sp_worker_step_named(sp_worker_step_find(&state, LEASE_A)));
}

static void
test_refused_key(void **unused)
{
	int64_t pause_ms = SP_WORKER_REOPEN_MS;
	int i;

	(void)unused;
	for (i = 0; i < 6; i++) {
		assert_string_equal(plain_event(SP_EVENT_KEY_REFUSED), "");
		assert_string_equal(plain_event(SP_EVENT_DISCONNECTED), "");
		now_ms += pause_ms - 1;
		assert_string_equal(plain_event(SP_EVENT_TICK), "");
		now_ms += 1;
		assert_string_equal(plain_event(SP_EVENT_TICK), "reopen");
		pause_ms *= 2;
		if (pause_ms > SP_WORKER_REOPEN_MAX_MS)
			pause_ms = SP_WORKER_REOPEN_MAX_MS;
	}
}

static void
test_asks(void **unused)
{
	(void)unused;
	assert_string_equal(ask_event(SP_EVENT_ASK, 1), "send #1");
	assert_string_equal(ask_event(SP_EVENT_ASK, 2), "send #2");
	/* said once per connection: ledgerd would log it twice */
	assert_string_equal(plain_event(SP_EVENT_TICK), "heartbeat");
	/* unless the socket did not take it */
	assert_string_equal(ask_event(SP_EVENT_UNSENT, 2), "");
	assert_string_equal(plain_event(SP_EVENT_TICK), "heartbeat, send #2");
	assert_string_equal(seq_event(SP_EVENT_ACK, 1), "answered #1");
	assert_string_equal(seq_event(SP_EVENT_ACK, 1), "");
	assert_string_equal(seq_event(SP_EVENT_REFUSAL, 2), "refused #2");
	/* given up by its thread: a late answer finds nobody */
	assert_string_equal(ask_event(SP_EVENT_ASK, 3), "send #3");
	assert_string_equal(ask_event(SP_EVENT_WITHDRAW, 3), "");
	assert_string_equal(seq_event(SP_EVENT_ACK, 3), "");
	assert_int_equal(state.ask_count, 0);
}

static void
test_too_many_asks(void **unused)
{
	uint64_t i;

	(void)unused;
	for (i = 1; i <= SP_WORKER_ASKS_MAX; i++)
		ask_event(SP_EVENT_ASK, i);
	assert_string_equal(ask_event(SP_EVENT_ASK, 5000), "cancelled #5000");
	/* all of them after a reconnect: they fit the actions */
	plain_event(SP_EVENT_DISCONNECTED);
	plain_event(SP_EVENT_CONNECTED);
	assert_int_equal(actions.count, SP_WORKER_ASKS_MAX + 1);
}

static void
test_stop(void **unused)
{
	(void)unused;
	start_a();
	assert_string_equal(lease_event(SP_EVENT_OFFER, LEASE_B), "accept B 2");
	assert_string_equal(ask_event(SP_EVENT_ASK, 1), "send #1");
	assert_string_equal(plain_event(SP_EVENT_STOP), "cancelled #1, forget B, halt A");
	assert_int_equal(sp_worker_step_free(&state), 0);
	assert_string_equal(lease_event(SP_EVENT_OFFER, LEASE_C), "");
	assert_string_equal(ask_event(SP_EVENT_ASK, 2), "cancelled #2");
	assert_string_equal(lease_event(SP_EVENT_FINISHED, LEASE_A), "forget A");
	assert_int_equal(state.lease_count, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_hostile_bytes),
	    cmocka_unit_test(test_too_many_fields),
	    cmocka_unit_test(test_rules),
	    cmocka_unit_test(test_round_trip),
	    cmocka_unit_test(test_mutations),
	    cmocka_unit_test(test_offer_needs_task),
	    cmocka_unit_test(test_child_events),
	    cmocka_unit_test(test_clean),
	    cmocka_unit_test(test_result_of_outcome),
	    cmocka_unit_test(test_input),
	    cmocka_unit_test_setup(test_life_of_a_lease, set_up),
	    cmocka_unit_test_setup(test_work_waits_for_the_ack, set_up),
	    cmocka_unit_test_setup(test_duplicate_offer, set_up),
	    cmocka_unit_test_setup(test_no_slot, set_up),
	    cmocka_unit_test_setup(test_result_is_repeated, set_up),
	    cmocka_unit_test_setup(test_lost_lease, set_up),
	    cmocka_unit_test_setup(test_refused_result, set_up),
	    cmocka_unit_test_setup(test_cancel, set_up),
	    cmocka_unit_test_setup(test_reconnect, set_up),
	    cmocka_unit_test_setup(test_silence, set_up),
	    cmocka_unit_test_setup(test_refused_key, set_up),
	    cmocka_unit_test_setup(test_asks, set_up),
	    cmocka_unit_test_setup(test_too_many_asks, set_up),
	    cmocka_unit_test_setup(test_stop, set_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
