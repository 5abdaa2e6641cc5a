/*
 * live.h -- the attempts that are alive, in memory: found by lease or job at once, and queued by
 * what is awaited of them, so that a backlog of many thousand jobs costs nothing while no worker is
 * free.
 */
#ifndef LEDGERD_LIVE_H
#define LEDGERD_LIVE_H

#include "bus.pb-c.h"
#include "ledger/table.h"

#include <sys/queue.h>

/* An attempt that is alive. */
struct ledgerd_live {
	struct sp_attempt a;
	int64_t deadline_ms;		  /* leased, running: then it is lost */
	char offered_to[SP_NAME_MAX + 1]; /* offered: to whom last; "": to nobody yet */
	int64_t offered_ms;
	int asked; /* offered, and no answer yet */
	char phase[65], unit[65];
	uint64_t done, total;
	Sallyport__FileProgress **files; /* in hand, as last reported; owned */
	size_t file_count;
	uint32_t news; /* progress reports that said something new */
	struct {
		struct ledgerd_live *lease, *job; /* next in the chain of the same slot */
		struct ledgerd_queue *queue;
		TAILQ_ENTRY(ledgerd_live) in_queue;
	} links;
};
TAILQ_HEAD(ledgerd_queue, ledgerd_live);

/* Zero-initialised is empty. */
struct ledgerd_lives {
	size_t count;
	struct ledgerd_live **by_lease, **by_job; /* chains */
	size_t slots;				  /* of each, a power of two */
	/* each is in one of these, in the order in which it came there */
	struct ledgerd_queue waiting[SP_STEP_COUNT]; /* offered, nobody is asked */
	struct ledgerd_queue asked;
	struct ledgerd_queue leased; /* or running */
};

/* A copy of the attempt, which must not be there yet. */
struct ledgerd_live *ledgerd_live_add(struct ledgerd_lives *lives, const struct sp_attempt *a);
/* Takes over all that is known of another beside its row; the other knows nothing then. */
void ledgerd_live_inherit(
    struct ledgerd_lives *lives, struct ledgerd_live *live, struct ledgerd_live *from);
/* To the end of the queue that its state and `asked` name, where it is not in that already. */
void ledgerd_live_queue(struct ledgerd_lives *lives, struct ledgerd_live *live);
void ledgerd_live_remove(struct ledgerd_lives *lives, struct ledgerd_live *live);
void ledgerd_live_clear(struct ledgerd_lives *lives);
/* NULL when none is alive. */
struct ledgerd_live *ledgerd_live_lease(const struct ledgerd_lives *lives, const char *lease);
struct ledgerd_live *ledgerd_live_job(const struct ledgerd_lives *lives, const char *job);
/* 1 when an attempt of that step is alive. */
int ledgerd_live_any(const struct ledgerd_lives *lives, enum sp_step step);
/* Forgets the files in hand. */
void ledgerd_live_drop_files(struct ledgerd_live *live);

#endif
