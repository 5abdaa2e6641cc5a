/* worker_step.c -- the worker's side of the bus as a pure state machine. */
#include "bus/worker_step.h"
#include "base/err.h"

#include <string.h>

void
sp_worker_step_init(struct sp_worker_state *state, unsigned slots, int64_t now_ms)
{
	SP_ASSERT(slots <= SP_WORKER_SLOTS_MAX);
	memset(state, 0, sizeof(*state));
	state->slots = slots;
	state->heartbeat_ms = SP_WORKER_EAGER_MS;
	state->tick_ms = SP_WORKER_EAGER_MS;
	state->backoff_ms = SP_WORKER_REOPEN_MS;
	state->heard_ms = now_ms;
	state->reopen_ms = now_ms + SP_WORKER_REOPEN_MAX_MS;
}

unsigned
sp_worker_step_free(const struct sp_worker_state *state)
{
	if (state->stopping || state->collecting == SP_COLLECTION_RUNNING)
		return 0;
	return state->slots - (unsigned)state->lease_count;
}

static struct sp_worker_lease *
find(struct sp_worker_state *state, const char *lease)
{
	size_t i;

	for (i = 0; i < state->lease_count; i++)
		if (strcmp(state->leases[i].id, lease) == 0)
			return &state->leases[i];
	return NULL;
}

const struct sp_worker_lease *
sp_worker_step_find(const struct sp_worker_state *state, const char *lease)
{
	size_t i;

	for (i = 0; i < state->lease_count; i++)
		if (strcmp(state->leases[i].id, lease) == 0)
			return &state->leases[i];
	return NULL;
}

/* A lease that ledgerd has not confirmed is renewed by its accept, and naming one that was dropped
 * would only ask for another refusal. */
int
sp_worker_step_named(const struct sp_worker_lease *lease)
{
	return lease->state == SP_LEASE_RUNNING || lease->state == SP_LEASE_CANCELLING ||
	       lease->state == SP_LEASE_REPORTING;
}

static struct sp_worker_action *
add(struct sp_worker_actions *actions, enum sp_worker_action_kind kind)
{
	struct sp_worker_action *action;

	SP_ASSERT(actions->count < SP_WORKER_ACTIONS_MAX);
	action = &actions->items[actions->count++];
	memset(action, 0, sizeof(*action));
	action->kind = kind;
	return action;
}

static void
add_lease(struct sp_worker_actions *actions, enum sp_worker_action_kind kind,
    const struct sp_worker_lease *lease)
{
	struct sp_worker_action *action = add(actions, kind);

	memcpy(action->lease, lease->id, sizeof(action->lease));
	action->seq = lease->seq;
}

static void
forget(
    struct sp_worker_state *state, struct sp_worker_lease *lease, struct sp_worker_actions *actions)
{
	add_lease(actions, SP_ACTION_FORGET, lease);
	*lease = state->leases[--state->lease_count];
}

static void
end_ask(struct sp_worker_state *state, struct sp_worker_ask *ask, enum sp_worker_action_kind kind,
    struct sp_worker_actions *actions)
{
	add(actions, kind)->ask = ask->id;
	*ask = state->asks[--state->ask_count];
}

static void
send_ask(struct sp_worker_ask *ask, struct sp_worker_actions *actions)
{
	struct sp_worker_action *action = add(actions, SP_ACTION_SEND);

	action->ask = ask->id;
	action->seq = ask->seq;
	ask->sent = 1;
}

/* Everything that waits for an answer, once more; asks only where this connection has not had them:
 * ledgerd would log them twice. */
static void
say_all(struct sp_worker_state *state, struct sp_worker_actions *actions)
{
	size_t i;

	add(actions, SP_ACTION_HEARTBEAT);
	for (i = 0; i < state->lease_count; i++) {
		if (state->leases[i].state == SP_LEASE_ACCEPTING)
			add_lease(actions, SP_ACTION_ACCEPT, &state->leases[i]);
		else if (state->leases[i].state == SP_LEASE_REPORTING)
			add_lease(actions, SP_ACTION_RESULT, &state->leases[i]);
	}
	if (state->collecting == SP_COLLECTION_REPORTING)
		add(actions, SP_ACTION_COLLECTED)->seq = state->collected_seq;
	for (i = 0; i < state->ask_count; i++)
		if (!state->asks[i].sent)
			send_ask(&state->asks[i], actions);
}

static void
lose_connection(struct sp_worker_state *state, int64_t reopen_ms)
{
	size_t i;

	state->connected = 0;
	state->welcomed = 0;
	state->tick_ms = SP_WORKER_EAGER_MS;
	state->reopen_ms = reopen_ms;
	for (i = 0; i < state->ask_count; i++)
		state->asks[i].sent = 0;
}

static void
on_tick(struct sp_worker_state *state, int64_t now_ms, struct sp_worker_actions *actions)
{
	int64_t silence_ms = 5 * (int64_t)state->heartbeat_ms;

	if (silence_ms < SP_WORKER_SILENCE_MS)
		silence_ms = SP_WORKER_SILENCE_MS;
	if (state->connected && now_ms - state->heard_ms <= silence_ms) {
		say_all(state, actions);
		return;
	}
	/* libzmq reconnects by itself, but not after a refused key; nor can it see that the other
	 * end is there and does nothing */
	if (state->connected || now_ms >= state->reopen_ms) {
		lose_connection(state, now_ms + SP_WORKER_REOPEN_MAX_MS);
		add(actions, SP_ACTION_REOPEN);
	}
}

static void
on_key_refused(struct sp_worker_state *state, int64_t now_ms)
{
	lose_connection(state, now_ms + state->backoff_ms);
	state->backoff_ms *= 2;
	if (state->backoff_ms > SP_WORKER_REOPEN_MAX_MS)
		state->backoff_ms = SP_WORKER_REOPEN_MAX_MS;
}

static void
on_offer(struct sp_worker_state *state, const char *id, struct sp_worker_actions *actions)
{
	struct sp_worker_lease *lease = find(state, id);

	if (lease == NULL) {
		/* no slot: our next heartbeat says so, and the offer goes to another */
		if (sp_worker_step_free(state) == 0)
			return;
		lease = &state->leases[state->lease_count++];
		memset(lease, 0, sizeof(*lease));
		SP_ASSERT(strlen(id) < sizeof(lease->id));
		strcpy(lease->id, id);
		lease->state = SP_LEASE_ACCEPTING;
		lease->seq = ++state->seq;
	}
	/* offered again: our answer was lost, or has crossed with the offer */
	if (lease->state == SP_LEASE_ACCEPTING)
		add_lease(actions, SP_ACTION_ACCEPT, lease);
	else if (lease->state == SP_LEASE_REPORTING)
		add_lease(actions, SP_ACTION_RESULT, lease);
}

/* --- collections ------------------------------------------------------------------------------ */

static void
on_collect(struct sp_worker_state *state, const char *id, struct sp_worker_actions *actions)
{
	struct sp_worker_action *action;

	if (state->collecting != SP_COLLECTION_NONE) {
		/* its end may have crossed with this; another one has to wait */
		if (state->collecting == SP_COLLECTION_REPORTING)
			add(actions, SP_ACTION_COLLECTED)->seq = state->collected_seq;
		return;
	}
	SP_ASSERT(strlen(id) < sizeof(state->collection));
	if (state->lease_count > 0 || state->stopping) {
		action = add(actions, SP_ACTION_BUSY);
		action->seq = ++state->seq;
	} else {
		state->collecting = SP_COLLECTION_RUNNING;
		strcpy(state->collection, id);
		action = add(actions, SP_ACTION_COLLECT);
		/* at once: offers shall go elsewhere */
		add(actions, SP_ACTION_HEARTBEAT);
	}
	strcpy(action->lease, id);
}

static void
on_swept(struct sp_worker_state *state, struct sp_worker_actions *actions)
{
	if (state->stopping) {
		state->collecting = SP_COLLECTION_NONE;
		add(actions, SP_ACTION_CLEAR);
		return;
	}
	state->collecting = SP_COLLECTION_REPORTING;
	state->collected_seq = ++state->seq;
	if (!state->connected)
		return;
	add(actions, SP_ACTION_COLLECTED)->seq = state->collected_seq;
	/* leases can be taken again */
	add(actions, SP_ACTION_HEARTBEAT);
}

/* ledgerd has the result, or does not want it: 1 when seq is that of one. */
static int
end_collection(struct sp_worker_state *state, uint64_t seq, struct sp_worker_actions *actions)
{
	if (state->collecting != SP_COLLECTION_REPORTING || state->collected_seq != seq)
		return 0;
	state->collecting = SP_COLLECTION_NONE;
	add(actions, SP_ACTION_CLEAR);
	return 1;
}

/* --- answers ---------------------------------------------------------------------------------- */

static void
on_cancel(struct sp_worker_state *state, const char *id, struct sp_worker_actions *actions)
{
	struct sp_worker_lease *lease = find(state, id);

	if (lease == NULL)
		return;
	if (lease->state == SP_LEASE_ACCEPTING || lease->state == SP_LEASE_RUNNING) {
		lease->state = SP_LEASE_CANCELLING;
		add_lease(actions, SP_ACTION_HALT, lease);
	}
}

static void
on_ack(struct sp_worker_state *state, uint64_t seq, struct sp_worker_actions *actions)
{
	struct sp_worker_lease *lease;
	size_t i;

	if (end_collection(state, seq, actions))
		return;
	for (i = 0; i < state->ask_count; i++) {
		if (state->asks[i].seq == seq) {
			end_ask(state, &state->asks[i], SP_ACTION_ANSWERED, actions);
			return;
		}
	}
	for (i = 0; i < state->lease_count; i++) {
		lease = &state->leases[i];
		if (lease->seq != seq)
			continue;
		if (lease->state == SP_LEASE_ACCEPTING) {
			lease->state = SP_LEASE_RUNNING;
			add_lease(actions, SP_ACTION_START, lease);
		} else if (lease->state == SP_LEASE_REPORTING)
			forget(state, lease, actions);
		return;
	}
}

/* The lease is not ours: what runs for it is stopped, and nothing more is said about it. */
static void
drop(
    struct sp_worker_state *state, struct sp_worker_lease *lease, struct sp_worker_actions *actions)
{
	switch (lease->state) {
	case SP_LEASE_ACCEPTING:
	case SP_LEASE_REPORTING:
		forget(state, lease, actions);
		break;
	case SP_LEASE_RUNNING:
		add_lease(actions, SP_ACTION_HALT, lease);
		lease->state = SP_LEASE_DROPPED;
		break;
	case SP_LEASE_CANCELLING:
	case SP_LEASE_DROPPED:
		lease->state = SP_LEASE_DROPPED;
		break;
	}
}

static void
on_refusal(
    struct sp_worker_state *state, uint64_t seq, const char *id, struct sp_worker_actions *actions)
{
	struct sp_worker_lease *lease = NULL;
	size_t i;

	if (end_collection(state, seq, actions))
		return;
	for (i = 0; i < state->ask_count; i++) {
		if (state->asks[i].seq == seq) {
			end_ask(state, &state->asks[i], SP_ACTION_REFUSED, actions);
			return;
		}
	}
	if (id[0] != '\0')
		lease = find(state, id);
	/* an accept or result that is refused without a lease's name: there is nothing to repeat */
	for (i = 0; lease == NULL && i < state->lease_count; i++)
		if (state->leases[i].seq == seq &&
		    (state->leases[i].state == SP_LEASE_ACCEPTING ||
			state->leases[i].state == SP_LEASE_REPORTING))
			lease = &state->leases[i];
	if (lease != NULL)
		drop(state, lease, actions);
}

static void
on_finished(struct sp_worker_state *state, const char *id, struct sp_worker_actions *actions)
{
	struct sp_worker_lease *lease = find(state, id);

	if (lease == NULL)
		return;
	if (lease->state == SP_LEASE_DROPPED) {
		forget(state, lease, actions);
		return;
	}
	lease->state = SP_LEASE_REPORTING;
	lease->seq = ++state->seq;
	if (state->connected)
		add_lease(actions, SP_ACTION_RESULT, lease);
}

static void
on_ask(struct sp_worker_state *state, uint64_t id, struct sp_worker_actions *actions)
{
	struct sp_worker_ask *ask;

	if (state->stopping || state->ask_count == SP_WORKER_ASKS_MAX) {
		add(actions, SP_ACTION_CANCELLED)->ask = id;
		return;
	}
	ask = &state->asks[state->ask_count++];
	ask->id = id;
	ask->seq = ++state->seq;
	ask->sent = 0;
	if (state->connected)
		send_ask(ask, actions);
}

static void
on_ask_gone(struct sp_worker_state *state, uint64_t id, int withdrawn)
{
	size_t i;

	for (i = 0; i < state->ask_count; i++) {
		if (state->asks[i].id != id)
			continue;
		state->asks[i].sent = 0;
		if (withdrawn)
			state->asks[i] = state->asks[--state->ask_count];
		return;
	}
}

static void
on_stop(struct sp_worker_state *state, struct sp_worker_actions *actions)
{
	size_t i;

	state->stopping = 1;
	if (state->collecting == SP_COLLECTION_RUNNING) {
		add(actions, SP_ACTION_LEAVE);
	} else if (state->collecting == SP_COLLECTION_REPORTING) {
		/* ledgerd asks again, and hears then that there is nothing more to do */
		state->collecting = SP_COLLECTION_NONE;
		add(actions, SP_ACTION_CLEAR);
	}
	while (state->ask_count > 0)
		end_ask(state, &state->asks[0], SP_ACTION_CANCELLED, actions);
	/* backwards: forget puts the last in the place of the one that goes */
	for (i = state->lease_count; i > 0; i--)
		drop(state, &state->leases[i - 1], actions);
}

void
sp_worker_step_apply(struct sp_worker_state *state, const struct sp_worker_event *event,
    struct sp_worker_actions *actions)
{
	actions->count = 0;
	switch (event->kind) {
	case SP_EVENT_CONNECTED:
		state->connected = 1;
		state->heard_ms = event->now_ms;
		say_all(state, actions);
		return;
	case SP_EVENT_DISCONNECTED:
		/* a connection that was refused ends so too: its pause is set already */
		if (state->connected)
			lose_connection(state, event->now_ms + SP_WORKER_REOPEN_MAX_MS);
		return;
	case SP_EVENT_KEY_REFUSED:
		on_key_refused(state, event->now_ms);
		return;
	case SP_EVENT_TICK:
		on_tick(state, event->now_ms, actions);
		return;
	case SP_EVENT_WELCOME:
		state->welcomed = 1;
		state->backoff_ms = SP_WORKER_REOPEN_MS;
		state->heartbeat_ms = state->tick_ms = event->heartbeat_ms;
		break;
	case SP_EVENT_OFFER:
		on_offer(state, event->lease, actions);
		break;
	case SP_EVENT_CANCEL:
		on_cancel(state, event->lease, actions);
		break;
	case SP_EVENT_ACK:
		on_ack(state, event->seq, actions);
		break;
	case SP_EVENT_REFUSAL:
		on_refusal(state, event->seq, event->lease, actions);
		break;
	case SP_EVENT_COLLECT:
		on_collect(state, event->lease, actions);
		break;
	case SP_EVENT_SWEPT:
		on_swept(state, actions);
		return;
	case SP_EVENT_FINISHED:
		on_finished(state, event->lease, actions);
		return;
	case SP_EVENT_ASK:
		on_ask(state, event->ask, actions);
		return;
	case SP_EVENT_UNSENT:
		on_ask_gone(state, event->ask, 0);
		return;
	case SP_EVENT_WITHDRAW:
		on_ask_gone(state, event->ask, 1);
		return;
	case SP_EVENT_STOP:
		on_stop(state, actions);
		return;
	}
	state->heard_ms = event->now_ms; /* those that break are ledgerd's messages */
}
