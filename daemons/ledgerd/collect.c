/* collect.c -- who takes part in a collection, and how far each is. */
#include "collect.h"

#include <stdio.h>
#include <string.h>

static const char *const words[] = {
#define X(id, word) word,
    LEDGERD_COLLECTOR_STATES(X)
#undef X
};

const char *
ledgerd_collect_word(enum ledgerd_collector_state state)
{
	return words[state];
}

static struct ledgerd_collector *
find(struct ledgerd_collection *c, const char *worker)
{
	size_t i;

	for (i = 0; i < c->count; i++)
		if (strcmp(c->list[i].name, worker) == 0)
			return &c->list[i];
	return NULL;
}

static int
is_open(const struct ledgerd_collector *who)
{
	return who->state == LEDGERD_COLLECT_ASKED || who->state == LEDGERD_COLLECT_RUNNING;
}

void
ledgerd_collect_begin(struct ledgerd_collection *c, const struct ledgerd_core *core, int64_t now_ms)
{
	struct ledgerd_collector *who;
	size_t i;

	c->count = 0;
	for (i = 0; i < core->peer_count; i++) {
		if (!core->peers[i].has_store ||
		    core->peers[i].seen_ms + core->settings.lease_ms <= now_ms)
			continue;
		who = &c->list[c->count++];
		memset(who, 0, sizeof(*who));
		snprintf(who->name, sizeof(who->name), "%s", core->peers[i].name);
		who->heard_ms = now_ms;
	}
}

int
ledgerd_collect_heartbeat(struct ledgerd_collection *c, const char *worker,
    const Sallyport__Heartbeat *heartbeat, int64_t now_ms)
{
	struct ledgerd_collector *who = find(c, worker);
	const Sallyport__Progress *p = heartbeat->collection;

	if (who == NULL || !is_open(who))
		return 0;
	who->heard_ms = now_ms;
	if (p == NULL || strcmp(p->lease, c->id) != 0)
		return 1;
	who->state = LEDGERD_COLLECT_RUNNING;
	snprintf(who->phase, sizeof(who->phase), "%s", p->phase);
	snprintf(who->unit, sizeof(who->unit), "%s", p->unit);
	who->done = p->done;
	who->total = p->total;
	return 0;
}

void
ledgerd_collect_report(
    struct ledgerd_collection *c, const char *worker, const Sallyport__Collected *collected)
{
	struct ledgerd_collector *who = find(c, worker);
	int busy = strcmp(collected->code, sp_err_word(SP_E_STATE)) == 0;

	/* one that has done it and is told once more, late, has nothing new to say */
	if (who == NULL || who->state == LEDGERD_COLLECT_DONE)
		return;
	if (collected->code[0] == '\0')
		who->state = LEDGERD_COLLECT_DONE;
	else
		who->state = busy ? LEDGERD_COLLECT_BUSY : LEDGERD_COLLECT_FAILED;
	snprintf(who->message, sizeof(who->message), "%s", collected->message);
	who->kept = collected->kept;
	who->kept_bytes = collected->kept_bytes;
	who->removed = collected->removed;
	who->removed_bytes = collected->removed_bytes;
	who->leftovers = collected->leftovers;
}

void
ledgerd_collect_expire(struct ledgerd_collection *c, int64_t lease_ms, int64_t now_ms)
{
	struct ledgerd_collector *who;
	size_t i;

	for (i = 0; i < c->count; i++) {
		who = &c->list[i];
		if (!is_open(who) || who->heard_ms + lease_ms > now_ms)
			continue;
		who->state = LEDGERD_COLLECT_GONE;
		snprintf(who->message, sizeof(who->message),
		    "not heard of for %lld ms: is it running?", (long long)lease_ms);
	}
}

int
ledgerd_collect_over(const struct ledgerd_collection *c)
{
	size_t i;

	for (i = 0; i < c->count; i++)
		if (is_open(&c->list[i]))
			return 0;
	return 1;
}
