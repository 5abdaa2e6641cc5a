/*
 * collect.h -- a collection of the stores of all workers: who takes part, and how far each is.
 * Pure.
 *
 * Whoever has a store when it begins is asked with every heartbeat, until it names the collection
 * or has answered. A worker that dies in the middle is asked again when it is back; one that stays
 * away is given up. What an answer says is what the worker did, however late it comes.
 */
#ifndef LEDGERD_COLLECT_H
#define LEDGERD_COLLECT_H

#include "core.h"

/* X(member, word) */
#define LEDGERD_COLLECTOR_STATES(X)           \
	X(LEDGERD_COLLECT_ASKED, "asked")     \
	X(LEDGERD_COLLECT_RUNNING, "running") \
	X(LEDGERD_COLLECT_DONE, "done")       \
	X(LEDGERD_COLLECT_BUSY, "busy")       \
	X(LEDGERD_COLLECT_FAILED, "failed")   \
	X(LEDGERD_COLLECT_GONE, "gone")

enum ledgerd_collector_state {
#define X(id, word) id,
	LEDGERD_COLLECTOR_STATES(X)
#undef X
};
const char *ledgerd_collect_word(enum ledgerd_collector_state state);

struct ledgerd_collector {
	char name[SP_NAME_MAX + 1];
	enum ledgerd_collector_state state;
	int64_t heard_ms;
	char phase[65], unit[65];
	uint64_t done, total;
	uint64_t kept, kept_bytes, removed, removed_bytes, leftovers;
	char message[SP_ERR_MSG_MAX];
};

struct ledgerd_collection {
	char id[SP_JOB_ID_LEN + 1];
	int dry_run;
	int64_t ended_before_ms; /* jobs that had ended by then name nothing; 0: all do */
	uint64_t log_seq;	 /* of its entry; a dry run has none */
	char by[SP_NAME_MAX + 1];
	struct ledgerd_collector list[LEDGERD_PEERS_MAX];
	size_t count;
};

/* Who takes part: the connected workers that have a store. The other fields are the caller's. */
void ledgerd_collect_begin(
    struct ledgerd_collection *c, const struct ledgerd_core *core, int64_t now_ms);
/* 1 when the worker must be (or must again be) asked. */
int ledgerd_collect_heartbeat(struct ledgerd_collection *c, const char *worker,
    const Sallyport__Heartbeat *heartbeat, int64_t now_ms);
void ledgerd_collect_report(
    struct ledgerd_collection *c, const char *worker, const Sallyport__Collected *collected);
/* Gives up those that were silent for lease_ms. */
void ledgerd_collect_expire(struct ledgerd_collection *c, int64_t lease_ms, int64_t now_ms);
/* 1 when nobody is waited for. */
int ledgerd_collect_over(const struct ledgerd_collection *c);

#endif
