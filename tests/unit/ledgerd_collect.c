/* ledgerd_collect.c -- who takes part in a collection, who is asked again, and when it is over. */
#include "ledgerd/collect.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ID "cccccccccccccccccccccccccccccccc"
#define ANOTHER "dddddddddddddddddddddddddddddddd"
#define LEASE_MS 10000

static struct ledgerd_core *core;
static struct ledgerd_collection *c;

static void
add_peer(const char *name, int has_store, int64_t seen_ms)
{
	struct ledgerd_peer *peer = &core->peers[core->peer_count++];

	snprintf(peer->name, sizeof(peer->name), "%s", name);
	peer->has_store = has_store;
	peer->seen_ms = seen_ms;
}

/* fetcherd and quantd are there; admissiond has no store, validatord went long ago. */
static int
setup(void **state)
{
	(void)state;
	core = sp_xcalloc(1, sizeof(*core));
	c = sp_xcalloc(1, sizeof(*c));
	core->settings.lease_ms = LEASE_MS;
	add_peer("fetcherd@bastion", 1, 99000);
	add_peer("admissiond@bastion", 0, 99000);
	add_peer("quantd@bastion", 1, 99000);
	add_peer("validatord@bastion", 1, 90000);
	strcpy(c->id, ID);
	ledgerd_collect_begin(c, core, 100000);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	free(core);
	free(c);
	return 0;
}

/* What heartbeat() of that worker asks for; collection NULL: it names none. */
static int
heartbeat(const char *worker, const char *collection, int64_t now_ms)
{
	char id[40] = "", phase[] = "sweep", unit[] = "blobs";
	Sallyport__Heartbeat h;
	Sallyport__Progress p;

	sallyport__heartbeat__init(&h);
	sallyport__progress__init(&p);
	if (collection != NULL) {
		snprintf(id, sizeof(id), "%s", collection);
		p.lease = id;
		p.phase = phase;
		p.unit = unit;
		p.done = 3;
		p.total = 7;
		h.collection = &p;
	}
	return ledgerd_collect_heartbeat(c, worker, &h, now_ms);
}

static void
report(const char *worker, const char *code, uint64_t removed)
{
	char id[] = ID, word[16], message[] = "why";
	Sallyport__Collected collected;

	snprintf(word, sizeof(word), "%s", code);
	sallyport__collected__init(&collected);
	collected.id = id;
	collected.code = word;
	collected.message = message;
	collected.removed = removed;
	ledgerd_collect_report(c, worker, &collected);
}

static void
test_takes_part(void **state)
{
	(void)state;
	assert_int_equal(c->count, 2);
	assert_string_equal(c->list[0].name, "fetcherd@bastion");
	assert_string_equal(c->list[1].name, "quantd@bastion");
	assert_false(ledgerd_collect_over(c));
	/* who was not there when it began is not asked */
	assert_false(heartbeat("validatord@bastion", NULL, 100100));
	assert_false(heartbeat("admissiond@bastion", NULL, 100100));
}

static void
test_asked_until_heard(void **state)
{
	(void)state;
	assert_true(heartbeat("fetcherd@bastion", NULL, 100100));
	assert_true(heartbeat("fetcherd@bastion", NULL, 100200));
	/* still at an earlier one */
	assert_true(heartbeat("fetcherd@bastion", ANOTHER, 100300));
	assert_false(heartbeat("fetcherd@bastion", ID, 100400));
	assert_int_equal(c->list[0].state, LEDGERD_COLLECT_RUNNING);
	assert_string_equal(c->list[0].phase, "sweep");
	assert_int_equal(c->list[0].done, 3);
	assert_int_equal(c->list[0].total, 7);
	/* it died and is back */
	assert_true(heartbeat("fetcherd@bastion", NULL, 100500));
	report("fetcherd@bastion", "", 4);
	assert_int_equal(c->list[0].state, LEDGERD_COLLECT_DONE);
	assert_int_equal(c->list[0].removed, 4);
	assert_false(heartbeat("fetcherd@bastion", NULL, 100600));
	assert_false(ledgerd_collect_over(c));
	report("quantd@bastion", "state", 0);
	assert_string_equal(ledgerd_collect_word(c->list[1].state), "busy");
	assert_string_equal(c->list[1].message, "why");
	assert_true(ledgerd_collect_over(c));
	/* an answer that comes once more, and one of a stranger */
	report("fetcherd@bastion", "io", 0);
	assert_int_equal(c->list[0].state, LEDGERD_COLLECT_DONE);
	report("validatord@bastion", "", 9);
	assert_int_equal(c->count, 2);
}

static void
test_silence(void **state)
{
	(void)state;
	assert_false(heartbeat("fetcherd@bastion", ID, 105000));
	ledgerd_collect_expire(c, LEASE_MS, 109999);
	assert_false(ledgerd_collect_over(c));
	assert_int_equal(c->list[1].state, LEDGERD_COLLECT_ASKED);
	ledgerd_collect_expire(c, LEASE_MS, 110000);
	assert_int_equal(c->list[1].state, LEDGERD_COLLECT_GONE);
	assert_int_equal(c->list[0].state, LEDGERD_COLLECT_RUNNING);
	assert_false(ledgerd_collect_over(c));
	ledgerd_collect_expire(c, LEASE_MS, 115000);
	assert_true(ledgerd_collect_over(c));
	/* it had done it all the same */
	report("quantd@bastion", "", 2);
	assert_int_equal(c->list[1].state, LEDGERD_COLLECT_DONE);
	report("fetcherd@bastion", "corrupt", 0);
	assert_int_equal(c->list[0].state, LEDGERD_COLLECT_FAILED);
}

static void
test_nobody(void **state)
{
	(void)state;
	core->peer_count = 0;
	ledgerd_collect_begin(c, core, 100000);
	assert_true(ledgerd_collect_over(c));
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    T(test_takes_part),
	    T(test_asked_until_heard),
	    T(test_silence),
	    T(test_nobody),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
