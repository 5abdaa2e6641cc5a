/* ledgerd_live.c -- attempts in memory: found, queued and forgotten, also when there are many. */
#include "ledgerd/core.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MANY 20000

static struct sp_attempt
attempt(unsigned number, enum sp_step step)
{
	struct sp_attempt a = {.step = step, .attempt = 1, .state = SP_LEASE_OFFERED};

	snprintf(a.lease, sizeof(a.lease), "%032x", number);
	snprintf(a.job, sizeof(a.job), "%032x", number ^ 0x5a5a5a5au);
	return a;
}

/* Each is found by both its names as long as it is there, however the tables grow and shrink. */
static void
test_found(void **state)
{
	struct ledgerd_lives lives = {0};
	struct ledgerd_live *live;
	struct sp_attempt a;
	unsigned i;

	(void)state;
	a = attempt(1, SP_STEP_FETCH);
	assert_null(ledgerd_live_lease(&lives, a.lease));
	assert_null(ledgerd_live_job(&lives, a.job));
	for (i = 0; i < MANY; i++) {
		a = attempt(i, (enum sp_step)(i % SP_STEP_COUNT));
		ledgerd_live_add(&lives, &a);
	}
	assert_int_equal(lives.count, MANY);
	for (i = 0; i < MANY; i += 3) {
		a = attempt(i, SP_STEP_FETCH);
		ledgerd_live_remove(&lives, ledgerd_live_lease(&lives, a.lease));
	}
	for (i = 0; i < MANY; i++) {
		a = attempt(i, SP_STEP_FETCH);
		live = ledgerd_live_lease(&lives, a.lease);
		assert_ptr_equal(live, ledgerd_live_job(&lives, a.job));
		if (i % 3 == 0)
			assert_null(live);
		else
			assert_string_equal(live->a.job, a.job);
	}
	ledgerd_live_clear(&lives);
	assert_int_equal(lives.count, 0);
}

static void
beat(struct ledgerd_core *core, const char *service, const char *step, uint32_t free_slots)
{
	struct ledgerd_who who = {service, service};
	struct ledgerd_actions actions = {0};
	Sallyport__Heartbeat heartbeat;
	char name[32], *steps[1] = {name};

	sallyport__heartbeat__init(&heartbeat);
	snprintf(name, sizeof(name), "%s", step);
	heartbeat.n_steps = 1;
	heartbeat.steps = steps;
	heartbeat.free = free_slots;
	ledgerd_core_heartbeat(core, &who, &heartbeat, 0, &actions);
}

/* A backlog: who came first is offered first, no more than there are slots; what is not answered
 * waits again behind the others; one step's backlog does not hold up another's. */
static void
test_backlog(void **state)
{
	struct ledgerd_core core = {
	    .settings = {.heartbeat_ms = 100, .lease_ms = 1000, .attempts = 3}};
	struct sp_attempt *a = sp_xcalloc(MANY + 1, sizeof(*a));
	struct ledgerd_actions *actions = sp_xcalloc(1, sizeof(*actions));
	struct sp_changed changed = {.had_attempt = 1};

	(void)state;
	for (unsigned i = 0; i < MANY; i++)
		a[i] = attempt(i, SP_STEP_FETCH);
	a[MANY] = attempt(MANY, SP_STEP_QUANTIZE);
	ledgerd_core_load(&core, a, MANY + 1, 0);
	beat(&core, "fetcherd", "fetch", 2);
	beat(&core, "quantd", "quantize", 1);
	ledgerd_core_schedule(&core, 0, 0, actions);
	assert_int_equal(actions->count, 3);
	assert_string_equal(actions->list[0].lease, a[0].lease);
	assert_string_equal(actions->list[1].lease, a[1].lease);
	assert_string_equal(actions->list[2].lease, a[MANY].lease);
	ledgerd_actions_clear(actions);
	ledgerd_core_schedule(&core, 150, 0, actions);
	assert_int_equal(actions->count, 0);
	/* the first is taken, the second not answered */
	changed.attempt = a[0];
	changed.attempt.state = SP_LEASE_LEASED;
	snprintf(changed.attempt.worker, sizeof(changed.attempt.worker), "fetcherd");
	ledgerd_core_note(&core, &changed, 150);
	ledgerd_core_schedule(&core, 200, 0, actions);
	assert_int_equal(actions->count, 2);
	assert_string_equal(actions->list[0].lease, a[2].lease);
	assert_string_equal(actions->list[1].lease, a[MANY].lease);
	ledgerd_actions_clear(actions);
	ledgerd_core_expire(&core, 1149, actions);
	assert_int_equal(actions->count, 0);
	ledgerd_core_expire(&core, 1150, actions);
	assert_int_equal(actions->count, 1);
	assert_string_equal(actions->list[0].lease, a[0].lease);
	ledgerd_actions_clear(actions);
	ledgerd_core_free(&core);
	free(actions);
	free(a);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_found),
	    cmocka_unit_test(test_backlog),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
