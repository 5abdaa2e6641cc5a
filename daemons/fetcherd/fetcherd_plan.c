/* fetcherd_plan.c -- bytes to connections. */
#include "fetcherd/fetcherd_plan.h"
#include "hub/retry.h"

#include <stdlib.h>
#include <string.h>

enum state { WANTED, TAKEN, OPEN, DONE };

void
fetcherd_plan_init(struct fetcherd_plan *plan, const struct sp_answer_tree *listing,
    unsigned connections, unsigned open_max, int64_t backoff_ms)
{
	SP_ASSERT(open_max > 0 && open_max <= FETCHERD_OPEN_MAX);
	memset(plan, 0, sizeof(*plan));
	plan->listing = listing;
	plan->connections = connections;
	plan->open_max = open_max;
	plan->backoff_ms = backoff_ms;
	plan->left = listing->count;
	plan->files = sp_xcalloc(listing->count + 1, sizeof(*plan->files));
	plan->again = sp_xcalloc(listing->count + 1, sizeof(*plan->again));
}

static void
free_large(struct fetcherd_large *large)
{
	sp_ranges_clear(&large->given);
	sp_ranges_clear(&large->there);
	sp_ranges_clear(&large->pending);
	free(large);
}

void
fetcherd_plan_clear(struct fetcherd_plan *plan)
{
	for (size_t i = 0; i < plan->open_count; i++)
		free_large(plan->open[i]);
	free(plan->files);
	free(plan->again);
	memset(plan, 0, sizeof(*plan));
}

static int
is_large(const struct fetcherd_plan *plan, size_t file)
{
	return plan->listing->files[file].size > FETCHERD_SMALL_MAX;
}

void
fetcherd_plan_done(struct fetcherd_plan *plan, size_t file)
{
	SP_ASSERT(plan->files[file].state != DONE);
	if (plan->files[file].state == TAKEN)
		plan->opening -= (size_t)is_large(plan, file);
	plan->files[file].state = DONE;
	plan->left--;
}

/* --- choosing ----------------------------------------------------------------------------------
 */

static int
is_due(const struct fetcherd_plan *plan, size_t file, int64_t now_ms, int64_t *until_ms)
{
	int64_t ms = plan->files[file].not_before_ms;

	if (ms <= now_ms)
		return 1;
	if (ms < *until_ms)
		*until_ms = ms;
	return 0;
}

/* Bytes of it that a connection could be given now. */
static uint64_t
untaken(const struct fetcherd_large *large)
{
	if (large->is_void || (large->whole && large->connections > 0))
		return 0;
	return large->size - large->given.bytes;
}

static void
give_part(struct fetcherd_plan *plan, struct fetcherd_large *large, uint64_t part_bytes,
    struct fetcherd_work_item *out)
{
	uint64_t share = untaken(large) / ((uint64_t)2 * plan->connections), len = part_bytes;

	/* towards the end shorter, so that all come to it at the same time */
	len = len > share ? share : len;
	len = len < FETCHERD_PART_MIN ? FETCHERD_PART_MIN : len;
	if (large->whole)
		len = large->size;
	SP_ASSERT(sp_ranges_gap(&large->given, 0, large->size, &out->part));
	if (out->part.to - out->part.from > len)
		out->part.to = out->part.from + len;
	sp_ranges_add(&large->given, out->part.from, out->part.to);
	large->connections++;
	out->kind = FETCHERD_WORK_PART;
	out->file = large->file;
	out->large = large;
	out->generation = large->generation;
}

/* An open file: mine, or one that nobody has now (only_idle), or the one with most to do. */
static struct fetcherd_large *
pick_open(const struct fetcherd_plan *plan, const struct fetcherd_large *mine, int only_idle,
    int64_t now_ms, int64_t *until_ms)
{
	struct fetcherd_large *best = NULL;

	for (size_t i = 0; i < plan->open_count; i++) {
		struct fetcherd_large *large = plan->open[i];

		if (untaken(large) == 0 || !is_due(plan, large->file, now_ms, until_ms))
			continue;
		if (large == mine)
			return large;
		if (only_idle && large->connections > 0)
			continue;
		if (best == NULL || untaken(large) > untaken(best))
			best = large;
	}
	return best;
}

static int
may_take(const struct fetcherd_plan *plan, size_t file)
{
	return !is_large(plan, file) || plan->open_count + plan->opening < plan->open_max;
}

static int
take_file(struct fetcherd_plan *plan, size_t file, struct fetcherd_work_item *out)
{
	plan->files[file].state = TAKEN;
	plan->opening += (size_t)is_large(plan, file);
	out->kind = is_large(plan, file) ? FETCHERD_WORK_OPEN : FETCHERD_WORK_SMALL;
	out->file = file;
	return 1;
}

/* A file that nobody has. */
static int
pick_file(
    struct fetcherd_plan *plan, int64_t now_ms, int64_t *until_ms, struct fetcherd_work_item *out)
{
	for (size_t i = 0; i < plan->again_count; i++) {
		size_t file = plan->again[i];

		if (!is_due(plan, file, now_ms, until_ms) || !may_take(plan, file))
			continue;
		plan->again[i] = plan->again[--plan->again_count];
		return take_file(plan, file, out);
	}
	while (plan->fresh < plan->listing->count && plan->files[plan->fresh].state != WANTED)
		plan->fresh++;
	if (plan->fresh < plan->listing->count && may_take(plan, plan->fresh))
		return take_file(plan, plan->fresh++, out);
	return 0;
}

void
fetcherd_plan_choose(struct fetcherd_plan *plan, const struct fetcherd_large *mine,
    uint64_t part_bytes, int64_t now_ms, struct fetcherd_work_item *out)
{
	struct fetcherd_large *large;

	memset(out, 0, sizeof(*out));
	out->until_ms = INT64_MAX;
	if (plan->left == 0) {
		out->kind = FETCHERD_WORK_END;
		return;
	}
	if (now_ms < plan->pause_ms) {
		out->until_ms = plan->pause_ms;
		return;
	}
	large = pick_open(plan, mine, 1, now_ms, &out->until_ms);
	if (large == NULL && pick_file(plan, now_ms, &out->until_ms, out))
		return;
	if (large == NULL)
		large = pick_open(plan, NULL, 0, now_ms, &out->until_ms);
	if (large != NULL)
		give_part(plan, large, part_bytes, out);
}

/* --- files taken and given back -----------------------------------------------------------------
 */

struct fetcherd_large *
fetcherd_plan_opened(struct fetcherd_plan *plan, size_t file, struct sp_ranges *has)
{
	struct fetcherd_large *large = sp_xcalloc(1, sizeof(*large));

	SP_ASSERT(plan->files[file].state == TAKEN && plan->open_count < FETCHERD_OPEN_MAX);
	plan->files[file].state = OPEN;
	plan->opening--;
	large->file = file;
	large->size = plan->listing->files[file].size;
	sp_ranges_copy(&large->given, has);
	large->there = *has;
	memset(has, 0, sizeof(*has));
	plan->open[plan->open_count++] = large;
	return large;
}

void
fetcherd_plan_give_back(struct fetcherd_plan *plan, size_t file, int64_t now_ms, int64_t delay_ms)
{
	SP_ASSERT(plan->files[file].state == TAKEN);
	plan->opening -= (size_t)is_large(plan, file);
	plan->files[file].state = WANTED;
	plan->files[file].not_before_ms = now_ms + delay_ms;
	plan->again[plan->again_count++] = file;
}

void
fetcherd_plan_close(struct fetcherd_plan *plan, struct fetcherd_large *large)
{
	size_t i;

	for (i = 0; i < plan->open_count && plan->open[i] != large; i++)
		;
	SP_ASSERT(i < plan->open_count && large->connections == 0);
	plan->open[i] = plan->open[--plan->open_count];
	fetcherd_plan_done(plan, large->file);
	free_large(large);
}

/* --- parts --------------------------------------------------------------------------------------
 */

static int
is_current(const struct fetcherd_large *large, unsigned generation)
{
	return !large->is_void && large->generation == generation;
}

int
fetcherd_plan_wrote(struct fetcherd_large *large, unsigned generation, uint64_t from, uint64_t to)
{
	if (!is_current(large, generation))
		return 0;
	sp_ranges_add(&large->there, from, to);
	sp_ranges_add(&large->pending, from, to);
	return 1;
}

int
fetcherd_plan_whole(struct fetcherd_large *large, unsigned generation)
{
	if (!is_current(large, generation))
		return 0;
	large->whole = 1;
	if (large->there.count == 0 && large->connections == 1) {
		sp_ranges_add(&large->given, 0, large->size);
		return 1;
	}
	large->is_void = 1;
	return 0;
}

void
fetcherd_plan_release(struct fetcherd_large *large, unsigned generation, uint64_t from, uint64_t to)
{
	SP_ASSERT(large->connections > 0);
	large->connections--;
	if (!is_current(large, generation))
		return;
	sp_ranges_remove(&large->given, from, to);
	/* what the hub sends in one piece cannot go on in the middle */
	if (large->whole && from < to && large->there.count > 0)
		large->is_void = 1;
}

int
fetcherd_plan_corrupt(struct fetcherd_plan *plan, size_t file, struct fetcherd_large *large)
{
	if (plan->files[file].restarts > 0)
		return 0;
	plan->files[file].restarts++;
	if (large != NULL)
		large->is_void = 1;
	return 1;
}

void
fetcherd_plan_renew(struct fetcherd_large *large)
{
	SP_ASSERT(large->is_void && large->connections == 0);
	sp_ranges_clear(&large->given);
	sp_ranges_clear(&large->there);
	sp_ranges_clear(&large->pending);
	large->generation++;
	large->is_void = 0;
}

int64_t
fetcherd_plan_failed(struct fetcherd_plan *plan, size_t file, uint64_t got, int64_t hint_ms,
    int64_t now_ms, uint32_t random)
{
	struct fetcherd_plan_file *f = &plan->files[file];
	int64_t delay_ms;

	if (got >= FETCHERD_HEADWAY)
		f->failures = 0;
	if (++f->failures >= FETCHERD_TRIES || hint_ms > FETCHERD_HINT_MAX_MS)
		return -1;
	delay_ms = sp_retry_backoff_ms(f->failures, plan->backoff_ms, random);
	/* a hint is for all that is asked of the hub */
	if (hint_ms >= 0 && now_ms + hint_ms > plan->pause_ms)
		plan->pause_ms = now_ms + hint_ms;
	f->not_before_ms = now_ms + delay_ms;
	return delay_ms;
}

int
fetcherd_plan_is_complete(const struct fetcherd_large *large)
{
	return !large->is_void && large->there.bytes == large->size;
}

uint64_t
fetcherd_plan_frontier(const struct fetcherd_large *large)
{
	return large->is_void ? 0 : sp_ranges_end(&large->there, 0);
}

uint64_t
fetcherd_plan_part_bytes(uint64_t bytes, int64_t took_ms, int64_t latency_ms)
{
	int64_t moving_ms = took_ms - latency_ms > 0 ? took_ms - latency_ms : 1;
	uint64_t per_ms = bytes / (uint64_t)moving_ms, wanted;

	if (__builtin_mul_overflow(
		per_ms, 20 * (uint64_t)(latency_ms > 0 ? latency_ms : 1), &wanted))
		return FETCHERD_PART_MAX;
	wanted = wanted > FETCHERD_PART_MAX ? FETCHERD_PART_MAX : wanted;
	return wanted < FETCHERD_PART_MIN ? FETCHERD_PART_MIN : wanted;
}
