/* core.c -- connected workers, live attempts, offers and deadlines. */
#include "core.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- actions ---------------------------------------------------------------------------------- */

void
ledgerd_actions_clear(struct ledgerd_actions *actions)
{
	sp_outcome_clear(&actions->outcome);
	actions->count = 0;
}

struct ledgerd_action *
ledgerd_actions_add(struct ledgerd_actions *actions, enum ledgerd_do what)
{
	struct ledgerd_action *action;

	if (actions->count == LEDGERD_ACTIONS_MAX)
		return NULL;
	action = &actions->list[actions->count++];
	memset(action, 0, sizeof(*action));
	action->what = what;
	return action;
}

/* --- what is alive ---------------------------------------------------------------------------- */

static struct ledgerd_live *
add_live(struct ledgerd_core *core, const struct sp_attempt *attempt, int64_t now_ms)
{
	struct ledgerd_live *live = ledgerd_live_add(&core->lives, attempt);

	live->deadline_ms = now_ms + core->settings.lease_ms;
	return live;
}

void
ledgerd_core_load(
    struct ledgerd_core *core, const struct sp_attempt *alive, size_t count, int64_t now_ms)
{
	struct ledgerd_lives old = core->lives;
	struct ledgerd_live *known, *live;
	size_t i;

	memset(&core->lives, 0, sizeof(core->lives));
	for (i = 0; i < count; i++) {
		live = add_live(core, &alive[i], now_ms);
		known = ledgerd_live_lease(&old, alive[i].lease);
		if (known != NULL && strcmp(known->a.worker, alive[i].worker) == 0)
			ledgerd_live_inherit(&core->lives, live, known);
	}
	ledgerd_live_clear(&old);
}

void
ledgerd_core_free(struct ledgerd_core *core)
{
	ledgerd_live_clear(&core->lives);
	memset(core, 0, sizeof(*core));
}

struct ledgerd_live *
ledgerd_core_lease(struct ledgerd_core *core, const char *lease)
{
	return ledgerd_live_lease(&core->lives, lease);
}

struct ledgerd_live *
ledgerd_core_job(struct ledgerd_core *core, const char *job)
{
	return ledgerd_live_job(&core->lives, job);
}

static struct ledgerd_peer *
find_peer(struct ledgerd_core *core, const char *name)
{
	size_t i;

	for (i = 0; i < core->peer_count; i++)
		if (strcmp(core->peers[i].name, name) == 0)
			return &core->peers[i];
	return NULL;
}

void
ledgerd_core_note(struct ledgerd_core *core, const struct sp_changed *changed, int64_t now_ms)
{
	struct ledgerd_live *live = NULL;
	struct ledgerd_peer *peer;

	if (changed->had_attempt)
		live = ledgerd_core_lease(core, changed->attempt.lease);
	if (live != NULL && !sp_jobs_is_alive(changed->attempt.state)) {
		ledgerd_live_remove(&core->lives, live);
	} else if (live != NULL) {
		/* its next heartbeat tells how many slots are left; until then count ourselves */
		if (live->a.state == SP_LEASE_OFFERED) {
			peer = find_peer(core, changed->attempt.worker);
			if (peer != NULL && peer->free > 0)
				peer->free--;
		}
		live->a = changed->attempt;
		live->asked = 0;
		live->deadline_ms = now_ms + core->settings.lease_ms;
		ledgerd_live_queue(&core->lives, live);
	}
	if (changed->has_next)
		add_live(core, &changed->next, now_ms);
}

void
ledgerd_core_gone(struct ledgerd_core *core, const char *worker)
{
	struct ledgerd_peer *peer = find_peer(core, worker);

	if (peer != NULL)
		peer->free = 0;
}

/* --- heartbeats ------------------------------------------------------------------------------- */

/* The worker's place in the list; the one that was silent longest makes room. */
static struct ledgerd_peer *
peer_of(struct ledgerd_core *core, const char *name)
{
	struct ledgerd_peer *peer = find_peer(core, name);
	size_t i;

	if (peer != NULL)
		return peer;
	if (core->peer_count < LEDGERD_PEERS_MAX) {
		peer = &core->peers[core->peer_count++];
	} else {
		peer = &core->peers[0];
		for (i = 1; i < core->peer_count; i++)
			if (core->peers[i].seen_ms < peer->seen_ms)
				peer = &core->peers[i];
	}
	memset(peer, 0, sizeof(*peer));
	snprintf(peer->name, sizeof(peer->name), "%s", name);
	return peer;
}

static int
same_files(const struct ledgerd_live *live, const Sallyport__Progress *p)
{
	size_t i;

	if (live->file_count != p->n_files)
		return 0;
	for (i = 0; i < p->n_files; i++)
		if (live->files[i]->done != p->files[i]->done ||
		    live->files[i]->total != p->files[i]->total ||
		    strcmp(live->files[i]->path, p->files[i]->path) != 0)
			return 0;
	return 1;
}

Sallyport__FileProgress **
ledgerd_core_files(Sallyport__FileProgress *const *files, size_t count)
{
	Sallyport__FileProgress **out = NULL;
	size_t i;

	if (count > 0)
		out = sp_xcalloc(count, sizeof(*out));
	for (i = 0; i < count; i++) {
		out[i] = sp_xcalloc(1, sizeof(*out[i]));
		sallyport__file_progress__init(out[i]);
		out[i]->path = sp_xstrdup(files[i]->path);
		out[i]->done = files[i]->done;
		out[i]->total = files[i]->total;
	}
	return out;
}

static void
note_progress(struct ledgerd_live *live, const Sallyport__Progress *p)
{
	int files_differ = !same_files(live, p);

	if (!files_differ && live->done == p->done && live->total == p->total &&
	    strcmp(live->phase, p->phase) == 0 && strcmp(live->unit, p->unit) == 0)
		return;
	if (files_differ) {
		ledgerd_live_drop_files(live);
		live->files = ledgerd_core_files(p->files, p->n_files);
		live->file_count = p->n_files;
	}
	live->done = p->done;
	live->total = p->total;
	snprintf(live->phase, sizeof(live->phase), "%s", p->phase);
	snprintf(live->unit, sizeof(live->unit), "%s", p->unit);
	live->news++;
}

static void
renew(struct ledgerd_core *core, const struct ledgerd_who *who, const Sallyport__Progress *p,
    int64_t now_ms, struct ledgerd_actions *actions)
{
	struct ledgerd_live *live = ledgerd_core_lease(core, p->lease);
	struct ledgerd_action *action;

	/* its accept may still be on its way behind the heartbeat */
	if (live != NULL && live->a.state == SP_LEASE_OFFERED)
		return;
	if (live == NULL || strcmp(live->a.worker, who->name) != 0) {
		action = ledgerd_actions_add(actions, LEDGERD_REFUSE);
		if (action == NULL)
			return;
		snprintf(action->lease, sizeof(action->lease), "%s", p->lease);
		sp_err_set(&action->err, SP_E_STATE,
		    "lease %s is not (any more) that of %s: stop its work", p->lease, who->name);
		return;
	}
	live->deadline_ms = now_ms + core->settings.lease_ms;
	note_progress(live, p);
	if (!p->running || live->a.state == SP_LEASE_RUNNING)
		return;
	action = ledgerd_actions_add(actions, LEDGERD_RUNNING);
	if (action == NULL)
		return;
	live->a.state = SP_LEASE_RUNNING;
	live->news++;
	snprintf(action->lease, sizeof(action->lease), "%s", p->lease);
	snprintf(action->worker, sizeof(action->worker), "%s", who->name);
}

void
ledgerd_core_heartbeat(struct ledgerd_core *core, const struct ledgerd_who *who,
    const Sallyport__Heartbeat *heartbeat, int64_t now_ms, struct ledgerd_actions *actions)
{
	struct ledgerd_peer *peer = peer_of(core, who->name);
	enum sp_step step;
	size_t i;

	snprintf(peer->service, sizeof(peer->service), "%s", who->service);
	snprintf(peer->version, sizeof(peer->version), "%s", heartbeat->version);
	peer->seen_ms = now_ms;
	peer->has_store = heartbeat->store;
	peer->free = heartbeat->free;
	peer->leases = (uint32_t)heartbeat->n_leases;
	peer->steps = 0;
	for (i = 0; i < heartbeat->n_steps; i++)
		if (sp_jobs_step_find(heartbeat->steps[i], &step))
			peer->steps |= 1u << step;
	for (i = 0; i < heartbeat->n_leases; i++)
		renew(core, who, heartbeat->leases[i], now_ms, actions);
}

/* --- deadlines -------------------------------------------------------------------------------- */

void
ledgerd_core_expire(struct ledgerd_core *core, int64_t now_ms, struct ledgerd_actions *actions)
{
	const struct ledgerd_live *live;
	struct ledgerd_action *action;

	TAILQ_FOREACH(live, &core->lives.leased, links.in_queue)
	{
		if (live->deadline_ms > now_ms)
			continue;
		action = ledgerd_actions_add(actions, LEDGERD_CHANGE);
		if (action == NULL)
			return;
		action->event = live->a.attempt < core->settings.attempts ? SP_EV_LOST : SP_EV_FAIL;
		action->by_ledger = 1;
		memcpy(action->job, live->a.job, sizeof(action->job));
		memcpy(action->lease, live->a.lease, sizeof(action->lease));
		memcpy(action->avoid, live->a.worker, sizeof(action->avoid));
		snprintf(action->reason, sizeof(action->reason),
		    "%.200s did not renew its lease of step %s for %lld ms%s", live->a.worker,
		    sp_jobs_step_name(live->a.step), (long long)core->settings.lease_ms,
		    action->event == SP_EV_FAIL ? ", and this was the last attempt" : "");
	}
}

/* --- offers ----------------------------------------------------------------------------------- */

/* An offer that nobody took in that time is made again, to another where there is one. */
static int64_t
offer_ms(const struct ledgerd_core *core)
{
	return 2 * core->settings.heartbeat_ms;
}

/* No back-off is longer than its maximum: a clock that was set back must not hold up a step. */
static int
is_backing_off(const struct sp_attempt *attempt, int64_t unix_ms)
{
	return attempt->not_before_ms > unix_ms &&
	       attempt->not_before_ms - unix_ms <= SP_JOBS_BACKOFF_MAX_MS;
}

/* Counts the offers that are out to each worker; one that was not answered in time waits again. */
static void
count_asked(struct ledgerd_core *core, int64_t now_ms)
{
	struct ledgerd_live *live, *next;
	struct ledgerd_peer *peer;
	size_t i;

	for (i = 0; i < core->peer_count; i++)
		core->peers[i].asked = 0;
	for (live = TAILQ_FIRST(&core->lives.asked); live != NULL; live = next) {
		next = TAILQ_NEXT(live, links.in_queue);
		if (live->offered_ms + offer_ms(core) <= now_ms) {
			live->asked = 0;
			ledgerd_live_queue(&core->lives, live);
			continue;
		}
		peer = find_peer(core, live->offered_to);
		if (peer != NULL)
			peer->asked++;
	}
}

int
ledgerd_core_present(
    const struct ledgerd_core *core, const struct ledgerd_peer *peer, int64_t now_ms)
{
	return peer->seen_ms + core->settings.lease_ms > now_ms;
}

/* The worker is there, of the step's service, and has a slot that nothing is offered for. */
static int
has_room(const struct ledgerd_core *core, enum sp_step step, const struct ledgerd_peer *peer,
    int64_t now_ms)
{
	if (!ledgerd_core_present(core, peer, now_ms))
		return 0;
	if (strcmp(peer->service, sp_jobs_step_service(step)) != 0 || !(peer->steps & 1u << step))
		return 0;
	return peer->free > peer->asked;
}

/* Better above worse: one that did not lose the step before, that has not just let the offer pass,
 * with more room. */
static int64_t
rank(const struct ledgerd_live *live, const struct ledgerd_peer *peer)
{
	int64_t room = (int64_t)peer->free - peer->asked;

	if (strcmp(live->a.avoid, peer->name) != 0)
		room += INT64_C(1) << 40;
	if (strcmp(live->offered_to, peer->name) != 0)
		room += INT64_C(1) << 41;
	return room;
}

/* The best worker that can take the attempt now, NULL when none can. *any: somebody has room for
 * its step, if not for this very attempt. */
static struct ledgerd_peer *
best_peer(struct ledgerd_core *core, const struct ledgerd_live *live, int64_t now_ms, int *any)
{
	struct ledgerd_peer *best = NULL, *peer;
	size_t i;

	*any = 0;
	for (i = 0; i < core->peer_count; i++) {
		peer = &core->peers[i];
		if (!has_room(core, live->a.step, peer, now_ms))
			continue;
		*any = 1;
		if (live->a.pin[0] != '\0' && strcmp(live->a.pin, peer->name) != 0)
			continue;
		if (best == NULL || rank(live, peer) > rank(live, best))
			best = peer;
	}
	return best;
}

/* 0 when there is no room for more actions. */
static int
offer(struct ledgerd_core *core, struct ledgerd_live *live, struct ledgerd_peer *peer,
    int64_t now_ms, struct ledgerd_actions *actions)
{
	struct ledgerd_action *action = ledgerd_actions_add(actions, LEDGERD_OFFER);

	if (action == NULL)
		return 0;
	memcpy(action->lease, live->a.lease, sizeof(action->lease));
	memcpy(action->job, live->a.job, sizeof(action->job));
	memcpy(action->worker, peer->name, sizeof(action->worker));
	memcpy(live->offered_to, peer->name, sizeof(live->offered_to));
	live->offered_ms = now_ms;
	live->asked = 1;
	ledgerd_live_queue(&core->lives, live);
	peer->asked++;
	return 1;
}

void
ledgerd_core_schedule(
    struct ledgerd_core *core, int64_t now_ms, int64_t unix_ms, struct ledgerd_actions *actions)
{
	struct ledgerd_live *live, *next;
	struct ledgerd_peer *peer;
	int any, step;

	count_asked(core, now_ms);
	for (step = 0; step < SP_STEP_COUNT; step++) {
		for (live = TAILQ_FIRST(&core->lives.waiting[step]); live != NULL; live = next) {
			next = TAILQ_NEXT(live, links.in_queue);
			if (is_backing_off(&live->a, unix_ms))
				continue;
			peer = best_peer(core, live, now_ms, &any);
			/* then there is none for those behind it either */
			if (!any)
				break;
			if (peer != NULL && !offer(core, live, peer, now_ms, actions))
				return;
		}
	}
}
