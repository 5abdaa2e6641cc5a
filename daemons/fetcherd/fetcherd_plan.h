/*
 * fetcherd_plan.h -- which connection gets which bytes, and when; pure: no file, socket or clock.
 *
 * Small files are got in one piece. A large one is got in parts, which may come over several
 * connections and are kept over crashes: it is opened when a connection first takes it, and closed
 * when its bytes are checked. A connection goes on with the file that it has, else takes a file
 * that nobody has, and only where there is none it helps another with its file: so bytes come in
 * order mostly, and all connections have work up to the end.
 */
#ifndef FETCHERD_PLAN_H
#define FETCHERD_PLAN_H

#include "hub/answer.h"
#include "store/ranges.h"

#define FETCHERD_SMALL_MAX ((uint64_t)8 << 20) /* bytes of a file that is got in one piece */
#define FETCHERD_PART_MIN ((uint64_t)16 << 20) /* bytes of a part, but for the last */
#define FETCHERD_PART_MAX ((uint64_t)512 << 20)
#define FETCHERD_TRIES 6 /* of a file that brings nothing */
/* a file that has brought so much since it last failed has not failed in a row */
#define FETCHERD_HEADWAY ((uint64_t)64 << 10)
#define FETCHERD_HINT_MAX_MS ((int64_t)15 * 60000) /* longer waits are left to another attempt */
#define FETCHERD_OPEN_MAX 64

/* A large file under way. */
struct fetcherd_large {
	size_t file;
	uint64_t size;
	struct sp_ranges given;	  /* there, or some connection is getting it */
	struct sp_ranges there;	  /* written */
	struct sp_ranges pending; /* written, not yet taken for a sync */
	unsigned connections;	  /* that have a part of it */
	unsigned generation;	  /* parts of an earlier one are worth nothing */
	int whole;		  /* the hub does not do parts of it */
	int is_void;		  /* to be forgotten, when nobody has it, and begun anew */
	void *io;		  /* what the threads know of it */
};

struct fetcherd_plan_file {
	uint8_t state;
	uint8_t failures; /* in a row */
	uint8_t restarts; /* because what came was wrong */
	int64_t not_before_ms;
};

struct fetcherd_plan {
	const struct sp_answer_tree *listing;
	unsigned connections;
	unsigned open_max; /* large files at the same time */
	int64_t backoff_ms;
	struct fetcherd_plan_file *files;
	size_t fresh;  /* files from here on were never taken */
	size_t left;   /* files that are not done */
	size_t *again; /* files that were given back */
	size_t again_count;
	struct fetcherd_large *open[FETCHERD_OPEN_MAX];
	size_t open_count;
	size_t opening;	  /* large files that were chosen, and are not open yet */
	int64_t pause_ms; /* until then the hub is asked for nothing */
};

enum fetcherd_work_kind {
	FETCHERD_WORK_NONE, /* until until_ms, or until something changes */
	FETCHERD_WORK_SMALL,
	FETCHERD_WORK_OPEN, /* a large file: call _opened or _give_back */
	FETCHERD_WORK_PART,
	FETCHERD_WORK_END, /* all are done */
};
struct fetcherd_work_item {
	enum fetcherd_work_kind kind;
	size_t file;
	struct fetcherd_large *large;
	struct sp_extent part;
	unsigned generation;
	int64_t until_ms;
};

/* open_max: large files at the same time. */
void fetcherd_plan_init(struct fetcherd_plan *plan, const struct sp_answer_tree *listing,
    unsigned connections, unsigned open_max, int64_t backoff_ms);
void fetcherd_plan_clear(struct fetcherd_plan *plan);
/* Before the first choice: the store has it. Also of a file that was chosen. */
void fetcherd_plan_done(struct fetcherd_plan *plan, size_t file);

/* What a connection does next. mine: the large file that it had (may be closed by now), or NULL;
 * part_bytes: how long its parts should be. */
void fetcherd_plan_choose(struct fetcherd_plan *plan, const struct fetcherd_large *mine,
    uint64_t part_bytes, int64_t now_ms, struct fetcherd_work_item *out);
/* has: what is there of it (taken over). Returns the plan's own. */
struct fetcherd_large *
fetcherd_plan_opened(struct fetcherd_plan *plan, size_t file, struct sp_ranges *has);
/* A file that was chosen could not be had now: it is chosen again after delay_ms. */
void
fetcherd_plan_give_back(struct fetcherd_plan *plan, size_t file, int64_t now_ms, int64_t delay_ms);
/* All of it is checked and in the store. Frees large. */
void fetcherd_plan_close(struct fetcherd_plan *plan, struct fetcherd_large *large);

/* A connection has written [from, to) of its part. 0: of a part that is worth nothing any more. */
int
fetcherd_plan_wrote(struct fetcherd_large *large, unsigned generation, uint64_t from, uint64_t to);
/* The hub sends all of it to the connection with that part: 1 when its bytes can be taken from the
 * first on; 0: the file has to be begun anew, and is then got in one piece. */
int fetcherd_plan_whole(struct fetcherd_large *large, unsigned generation);
/* The connection is through with its part, of which [from, to) is missing (from == to: nothing). */
void fetcherd_plan_release(
    struct fetcherd_large *large, unsigned generation, uint64_t from, uint64_t to);
/* What came was wrong: 1 when it is begun anew, 0 when that was tried already. large may be NULL:
 * a small file, which the caller gives back. */
int fetcherd_plan_corrupt(struct fetcherd_plan *plan, size_t file, struct fetcherd_large *large);
/* Nobody has it any more (fetcherd_plan_is_idle) and what was there is forgotten. */
void fetcherd_plan_renew(struct fetcherd_large *large);

/* A try has failed after got bytes, hint_ms is what the hub asks for (-1: nothing). Returns how
 * long the file is left alone, -1 when it has failed too often or the hub asks for too long. */
int64_t fetcherd_plan_failed(struct fetcherd_plan *plan, size_t file, uint64_t got, int64_t hint_ms,
    int64_t now_ms, uint32_t random);

int fetcherd_plan_is_complete(const struct fetcherd_large *large);
/* How many bytes, from the first on, are there. */
uint64_t fetcherd_plan_frontier(const struct fetcherd_large *large);
/* How long a part should be, when the last of that many bytes took took_ms, the first latency_ms of
 * which were spent waiting: so long that waiting is a twentieth. */
uint64_t fetcherd_plan_part_bytes(uint64_t bytes, int64_t took_ms, int64_t latency_ms);

#endif
