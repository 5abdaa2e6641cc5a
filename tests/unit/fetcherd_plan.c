/* fetcherd_plan.c -- which connection gets which bytes: order, sharing, failures, and a simulation
 * in which everything that can happen does, in a random order. */
#include "fetcherd/fetcherd_plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#define MIB ((uint64_t)1 << 20)

static struct sp_answer_file files[16];
static struct sp_answer_tree listing = {.files = files};
static struct fetcherd_plan plan;
static struct fetcherd_work_item item;

static void
begin(unsigned connections, unsigned open_max, size_t count, const uint64_t *mib)
{
	listing.count = count;
	for (size_t i = 0; i < count; i++)
		files[i].size = mib[i] * MIB;
	fetcherd_plan_init(&plan, &listing, connections, open_max, 100);
}

static void
choose(const struct fetcherd_large *mine, int64_t now_ms, enum fetcherd_work_kind kind)
{
	fetcherd_plan_choose(&plan, mine, FETCHERD_PART_MIN, now_ms, &item);
	assert_int_equal(item.kind, kind);
}

static struct fetcherd_large *
open_empty(size_t file)
{
	struct sp_ranges none = {0};

	assert_int_equal(item.kind, FETCHERD_WORK_OPEN);
	assert_int_equal(item.file, file);
	return fetcherd_plan_opened(&plan, file, &none);
}

static void
write_part(const struct fetcherd_work_item *w)
{
	assert_true(fetcherd_plan_wrote(w->large, w->generation, w->part.from, w->part.to));
	fetcherd_plan_release(w->large, w->generation, w->part.to, w->part.to);
}

/* Whole files first, then help with those of others; the end only when all are done. */
static void
test_order(void **state)
{
	struct fetcherd_large *a, *b;
	struct fetcherd_work_item first;

	(void)state;
	begin(2, 2, 4, (const uint64_t[]){40, 1, 20, 30});
	choose(NULL, 0, FETCHERD_WORK_OPEN);
	a = open_empty(0);
	choose(NULL, 0, FETCHERD_WORK_PART);
	first = item;
	assert_ptr_equal(item.large, a);
	assert_int_equal(item.part.from, 0);
	assert_int_equal(item.part.to, FETCHERD_PART_MIN);
	/* the second connection: files that nobody has come before a's */
	choose(NULL, 0, FETCHERD_WORK_SMALL);
	assert_int_equal(item.file, 1);
	fetcherd_plan_done(&plan, 1);
	choose(NULL, 0, FETCHERD_WORK_OPEN);
	b = open_empty(2);
	/* two are open: no third, and each stays with its own */
	write_part(&first);
	choose(a, 0, FETCHERD_WORK_PART);
	assert_ptr_equal(item.large, a);
	assert_int_equal(item.part.from, 16 * MIB);
	write_part(&item);
	choose(b, 0, FETCHERD_WORK_PART);
	assert_ptr_equal(item.large, b);
	write_part(&item);
	choose(b, 0, FETCHERD_WORK_PART);
	assert_int_equal(item.part.to, 20 * MIB);
	write_part(&item);
	assert_true(fetcherd_plan_is_complete(b));
	/* b has no more, a has: it helps */
	choose(b, 0, FETCHERD_WORK_PART);
	assert_ptr_equal(item.large, a);
	first = item;
	choose(a, 0, FETCHERD_WORK_NONE);
	fetcherd_plan_close(&plan, b);
	choose(NULL, 0, FETCHERD_WORK_OPEN);
	assert_int_equal(item.file, 3);
	fetcherd_plan_give_back(&plan, 3, 0, 50);
	choose(NULL, 49, FETCHERD_WORK_NONE);
	assert_int_equal(item.until_ms, 50);
	choose(NULL, 50, FETCHERD_WORK_OPEN);
	fetcherd_plan_done(&plan, 3);
	write_part(&first);
	assert_true(fetcherd_plan_is_complete(a));
	choose(NULL, 50, FETCHERD_WORK_NONE);
	fetcherd_plan_close(&plan, a);
	choose(NULL, 50, FETCHERD_WORK_END);
	fetcherd_plan_clear(&plan);
}

/* What an earlier attempt left is not asked for again. */
static void
test_resume(void **state)
{
	struct sp_ranges has = {0};
	struct fetcherd_large *a;

	(void)state;
	begin(1, 1, 1, (const uint64_t[]){40});
	choose(NULL, 0, FETCHERD_WORK_OPEN);
	sp_ranges_add(&has, 0, 10 * MIB);
	sp_ranges_add(&has, 12 * MIB, 40 * MIB);
	a = fetcherd_plan_opened(&plan, 0, &has);
	assert_int_equal(fetcherd_plan_frontier(a), 10 * MIB);
	choose(NULL, 0, FETCHERD_WORK_PART);
	assert_int_equal(item.part.from, 10 * MIB);
	assert_int_equal(item.part.to, 12 * MIB);
	/* broken off in the middle: the rest comes next */
	assert_true(fetcherd_plan_wrote(a, item.generation, 10 * MIB, 11 * MIB));
	fetcherd_plan_release(a, item.generation, 11 * MIB, 12 * MIB);
	assert_int_equal(a->pending.bytes, MIB);
	choose(NULL, 0, FETCHERD_WORK_PART);
	assert_int_equal(item.part.from, 11 * MIB);
	write_part(&item);
	assert_true(fetcherd_plan_is_complete(a));
	fetcherd_plan_clear(&plan);
}

/* A hub that does not do ranges: one connection, from the first byte on. */
static void
test_whole(void **state)
{
	struct fetcherd_work_item first, second;
	struct fetcherd_large *a;

	(void)state;
	begin(2, 1, 1, (const uint64_t[]){64});
	choose(NULL, 0, FETCHERD_WORK_OPEN);
	a = open_empty(0);
	choose(NULL, 0, FETCHERD_WORK_PART);
	first = item;
	choose(NULL, 0, FETCHERD_WORK_PART);
	second = item;
	assert_int_equal(second.part.from, 16 * MIB);
	/* two have parts: neither can be the whole */
	assert_false(fetcherd_plan_whole(a, first.generation));
	assert_false(fetcherd_plan_wrote(a, second.generation, 16 * MIB, 17 * MIB));
	fetcherd_plan_release(a, first.generation, 0, 16 * MIB);
	choose(NULL, 0, FETCHERD_WORK_NONE);
	fetcherd_plan_release(a, second.generation, 16 * MIB, 32 * MIB);
	fetcherd_plan_renew(a);
	choose(NULL, 0, FETCHERD_WORK_PART);
	first = item;
	assert_int_equal(item.part.to, 64 * MIB);
	choose(NULL, 0, FETCHERD_WORK_NONE);
	assert_true(fetcherd_plan_whole(a, first.generation));
	/* cut off: what came is worth nothing, since the hub cannot go on in the middle */
	assert_true(fetcherd_plan_wrote(a, first.generation, 0, 32 * MIB));
	fetcherd_plan_release(a, first.generation, 32 * MIB, 64 * MIB);
	assert_true(a->is_void);
	fetcherd_plan_renew(a);
	choose(NULL, 0, FETCHERD_WORK_PART);
	assert_int_equal(item.part.from, 0);
	assert_true(fetcherd_plan_whole(a, item.generation));
	write_part(&item);
	assert_true(fetcherd_plan_is_complete(a));
	fetcherd_plan_clear(&plan);
}

static void
test_failures(void **state)
{
	struct fetcherd_large *a;
	int64_t ms, now_ms = 1000;

	(void)state;
	begin(1, 1, 2, (const uint64_t[]){1, 20});
	/* failures in a row are bounded, and wait longer each */
	for (int i = 1; i < FETCHERD_TRIES; i++) {
		ms = fetcherd_plan_failed(&plan, 0, 0, -1, now_ms, 0);
		assert_int_equal(ms, 100 << (i - 1));
	}
	assert_int_equal(fetcherd_plan_failed(&plan, 0, 0, -1, now_ms, 0), -1);
	/* one that got somewhere is no failure in a row */
	for (int i = 0; i < 100; i++)
		assert_int_equal(
		    fetcherd_plan_failed(&plan, 1, FETCHERD_HEADWAY, -1, now_ms, 0), 100);
	/* a hint is for everything; one that is too long ends it */
	choose(NULL, now_ms, FETCHERD_WORK_SMALL);
	fetcherd_plan_give_back(&plan, 0, now_ms, 0);
	assert_true(fetcherd_plan_failed(&plan, 1, FETCHERD_HEADWAY, 5000, now_ms, 0) >= 0);
	choose(NULL, now_ms + 4999, FETCHERD_WORK_NONE);
	assert_int_equal(item.until_ms, now_ms + 5000);
	choose(NULL, now_ms + 5000, FETCHERD_WORK_SMALL);
	assert_int_equal(
	    fetcherd_plan_failed(&plan, 1, FETCHERD_HEADWAY, FETCHERD_HINT_MAX_MS + 1, now_ms, 0),
	    -1);
	/* wrong bytes: once from scratch, then never again */
	choose(NULL, now_ms + 5000, FETCHERD_WORK_OPEN);
	a = open_empty(1);
	assert_true(fetcherd_plan_corrupt(&plan, 1, a));
	assert_true(a->is_void);
	fetcherd_plan_renew(a);
	assert_false(fetcherd_plan_corrupt(&plan, 1, a));
	fetcherd_plan_clear(&plan);
}

static void
test_part_bytes(void **state)
{
	(void)state;
	/* near: the least; far and fast: more; never beyond the most */
	assert_int_equal(fetcherd_plan_part_bytes(16 * MIB, 50, 0), FETCHERD_PART_MIN);
	assert_int_equal(fetcherd_plan_part_bytes(16 * MIB, 700, 200), 16 * MIB / 500 * 4000);
	assert_int_equal(fetcherd_plan_part_bytes(512 * MIB, 10, 5), FETCHERD_PART_MAX);
	assert_int_equal(fetcherd_plan_part_bytes(0, 0, 0), FETCHERD_PART_MIN);
	assert_int_equal(fetcherd_plan_part_bytes(UINT64_MAX, 1, INT64_MAX / 2), FETCHERD_PART_MAX);
}

/* --- everything that can happen, in a random order ---------------------------------------------
 */

static struct fetcherd_work_item held[4];

/* A part comes in whole or cut, as all of the file, or wrong. */
static void
end_part(struct fetcherd_work_item *h)
{
	uint64_t len = h->part.to - h->part.from;
	uint64_t n = random() % 3 == 0 ? len : (uint64_t)random() % (len + 1);
	int dice = (int)(random() % 40);

	if (dice == 0 && fetcherd_plan_whole(h->large, h->generation)) {
		h->part.from = 0;
		h->part.to = h->large->size;
		n = random() % 2 ? h->large->size : n;
	} else if (dice == 1) {
		(void)fetcherd_plan_corrupt(&plan, h->file, h->large);
	}
	(void)fetcherd_plan_wrote(h->large, h->generation, h->part.from, h->part.from + n);
	fetcherd_plan_release(h->large, h->generation, h->part.from + n, h->part.to);
	h->kind = FETCHERD_WORK_NONE;
}

static void
check_apart(const struct fetcherd_work_item *h)
{
	for (unsigned j = 0; j < 4; j++)
		if (&held[j] != h && held[j].kind == FETCHERD_WORK_PART &&
		    held[j].large == h->large)
			assert_true(
			    held[j].part.to <= h->part.from || h->part.to <= held[j].part.from);
}

static void
take_work(struct fetcherd_work_item *h, int64_t now_ms)
{
	struct sp_ranges none = {0};

	fetcherd_plan_choose(&plan, h->large, FETCHERD_PART_MIN << random() % 4, now_ms, h);
	if (h->kind == FETCHERD_WORK_PART) {
		check_apart(h);
		return;
	}
	if (h->kind == FETCHERD_WORK_OPEN)
		fetcherd_plan_opened(&plan, h->file, &none);
	else if (h->kind == FETCHERD_WORK_SMALL && random() % 4 == 0)
		fetcherd_plan_give_back(&plan, h->file, now_ms, 10);
	else if (h->kind == FETCHERD_WORK_SMALL)
		fetcherd_plan_done(&plan, h->file);
	memset(h, 0, sizeof(*h));
}

static void
tidy(void)
{
	for (size_t k = 0; k < plan.open_count; k++) {
		struct fetcherd_large *large = plan.open[k];

		assert_true(large->there.bytes <= large->given.bytes || large->is_void);
		if (large->connections > 0)
			continue;
		if (large->is_void)
			fetcherd_plan_renew(large);
		else if (fetcherd_plan_is_complete(large))
			fetcherd_plan_close(&plan, large);
	}
}

/* Every file is done in the end, and no byte is given to two at the same time. */
static void
test_simulation(void **state)
{
	static const uint64_t sizes[] = {100, 3, 9, 50, 8, 17, 64, 1};
	int64_t now_ms = 0;
	unsigned steps = 0;

	(void)state;
	srandom(11);
	for (int round = 0; round < 200; round++) {
		memset(held, 0, sizeof(held));
		begin(4, 2, sizeof(sizes) / sizeof(sizes[0]), sizes);
		while (plan.left > 0) {
			struct fetcherd_work_item *h = &held[random() % 4];

			assert_true(++steps < 2000000);
			now_ms += random() % 20;
			if (h->kind == FETCHERD_WORK_PART)
				end_part(h);
			else
				take_work(h, now_ms);
			tidy();
		}
		fetcherd_plan_clear(&plan);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_order),
	    cmocka_unit_test(test_resume),
	    cmocka_unit_test(test_whole),
	    cmocka_unit_test(test_failures),
	    cmocka_unit_test(test_part_bytes),
	    cmocka_unit_test(test_simulation),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
