/* live.c -- attempts by lease and job, and in queues. */
#include "live.h"

#include <stdlib.h>
#include <string.h>

#define SLOTS_MIN 64

/* Ids are 128 random bits in hex, those of jobs drawn by operators: who makes his own collide only
 * makes ledgerd walk one chain, once for each of his jobs. */
static size_t
slot_of(const char *id, size_t slots)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325);

	for (; *id != '\0'; id++)
		hash = (hash ^ (uint8_t)*id) * UINT64_C(0x100000001b3);
	return (size_t)(hash >> 16) & (slots - 1);
}

static void
link_in(struct ledgerd_lives *lives, struct ledgerd_live *live)
{
	struct ledgerd_live **lease = &lives->by_lease[slot_of(live->a.lease, lives->slots)];
	struct ledgerd_live **job = &lives->by_job[slot_of(live->a.job, lives->slots)];

	live->links.lease = *lease;
	*lease = live;
	live->links.job = *job;
	*job = live;
}

static void
init(struct ledgerd_lives *lives)
{
	size_t i;

	lives->slots = SLOTS_MIN;
	lives->by_lease = sp_xcalloc(lives->slots, sizeof(*lives->by_lease));
	lives->by_job = sp_xcalloc(lives->slots, sizeof(*lives->by_job));
	for (i = 0; i < SP_STEP_COUNT; i++)
		TAILQ_INIT(&lives->waiting[i]);
	TAILQ_INIT(&lives->asked);
	TAILQ_INIT(&lives->leased);
}

static void
grow(struct ledgerd_lives *lives)
{
	struct ledgerd_live **old = lives->by_lease, *live, *next;
	size_t i, old_slots = lives->slots;

	lives->slots *= 2;
	lives->by_lease = sp_xcalloc(lives->slots, sizeof(*lives->by_lease));
	free(lives->by_job);
	lives->by_job = sp_xcalloc(lives->slots, sizeof(*lives->by_job));
	for (i = 0; i < old_slots; i++) {
		for (live = old[i]; live != NULL; live = next) {
			next = live->links.lease;
			link_in(lives, live);
		}
	}
	free(old);
}

struct ledgerd_live *
ledgerd_live_add(struct ledgerd_lives *lives, const struct sp_attempt *a)
{
	struct ledgerd_live *live = sp_xcalloc(1, sizeof(*live));

	if (lives->slots == 0)
		init(lives);
	else if (lives->count == lives->slots)
		grow(lives);
	lives->count++;
	live->a = *a;
	link_in(lives, live);
	ledgerd_live_queue(lives, live);
	return live;
}

void
ledgerd_live_inherit(
    struct ledgerd_lives *lives, struct ledgerd_live *live, struct ledgerd_live *from)
{
	struct ledgerd_live fresh = *live;

	*live = *from;
	live->a = fresh.a;
	live->links = fresh.links;
	from->files = NULL;
	from->file_count = 0;
	ledgerd_live_queue(lives, live);
}

void
ledgerd_live_queue(struct ledgerd_lives *lives, struct ledgerd_live *live)
{
	struct ledgerd_queue *queue = &lives->waiting[live->a.step];

	if (live->a.state != SP_LEASE_OFFERED)
		queue = &lives->leased;
	else if (live->asked)
		queue = &lives->asked;
	if (live->links.queue == queue)
		return;
	if (live->links.queue != NULL)
		TAILQ_REMOVE(live->links.queue, live, links.in_queue);
	TAILQ_INSERT_TAIL(queue, live, links.in_queue);
	live->links.queue = queue;
}

void
ledgerd_live_remove(struct ledgerd_lives *lives, struct ledgerd_live *live)
{
	struct ledgerd_live **at;

	for (at = &lives->by_lease[slot_of(live->a.lease, lives->slots)]; *at != live;)
		at = &(*at)->links.lease;
	*at = live->links.lease;
	for (at = &lives->by_job[slot_of(live->a.job, lives->slots)]; *at != live;)
		at = &(*at)->links.job;
	*at = live->links.job;
	TAILQ_REMOVE(live->links.queue, live, links.in_queue);
	ledgerd_live_drop_files(live);
	free(live);
	lives->count--;
}

void
ledgerd_live_clear(struct ledgerd_lives *lives)
{
	struct ledgerd_live *live, *next;
	size_t i;

	for (i = 0; i < lives->slots; i++) {
		for (live = lives->by_lease[i]; live != NULL; live = next) {
			next = live->links.lease;
			ledgerd_live_drop_files(live);
			free(live);
		}
	}
	free(lives->by_lease);
	free(lives->by_job);
	memset(lives, 0, sizeof(*lives));
}

struct ledgerd_live *
ledgerd_live_lease(const struct ledgerd_lives *lives, const char *lease)
{
	struct ledgerd_live *live = NULL;

	if (lives->slots > 0)
		live = lives->by_lease[slot_of(lease, lives->slots)];
	while (live != NULL && strcmp(live->a.lease, lease) != 0)
		live = live->links.lease;
	return live;
}

struct ledgerd_live *
ledgerd_live_job(const struct ledgerd_lives *lives, const char *job)
{
	struct ledgerd_live *live = NULL;

	if (lives->slots > 0)
		live = lives->by_job[slot_of(job, lives->slots)];
	while (live != NULL && strcmp(live->a.job, job) != 0)
		live = live->links.job;
	return live;
}

void
ledgerd_live_drop_files(struct ledgerd_live *live)
{
	size_t i;

	for (i = 0; i < live->file_count; i++)
		sallyport__file_progress__free_unpacked(live->files[i], NULL);
	free(live->files);
	live->files = NULL;
	live->file_count = 0;
}

int
ledgerd_live_any(const struct ledgerd_lives *lives, enum sp_step step)
{
	const struct ledgerd_live *live;

	/* without slots the queues are not made yet */
	if (lives->slots == 0)
		return 0;
	if (!TAILQ_EMPTY(&lives->waiting[step]))
		return 1;
	TAILQ_FOREACH(live, &lives->asked, links.in_queue)
	if (live->a.step == step)
		return 1;
	TAILQ_FOREACH(live, &lives->leased, links.in_queue)
	if (live->a.step == step)
		return 1;
	return 0;
}
