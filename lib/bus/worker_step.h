/*
 * worker_step.h -- the worker's side of the bus as a pure state machine: event in, actions out.
 *
 * No socket, clock, thread or memory of its own: time and messages come in as events, worker.c does
 * what the actions say. A message may be lost at any moment, in either direction, together with
 * either process; whatever is not yet answered is said again.
 *
 *	lease state	accepting: accept sent, no answer yet. The work has not begun.
 *			running:   acknowledged, child or seal at work
 *			cancelling: told to stop; how it ended will be reported
 *			dropped:   no longer ours; told to stop, its end interests nobody
 *			reporting: result sent, no answer yet
 *
 * A collection of the daemon's store runs only while there is no lease, and none is taken
 *meanwhile. What it brought is said, like a result, until it is answered.
 */
#ifndef SP_WORKER_STEP_H
#define SP_WORKER_STEP_H

#include "base/limits.h"

#include <stddef.h>
#include <stdint.h>

#define SP_WORKER_SLOTS_MAX 64
#define SP_WORKER_ASKS_MAX 1024
#define SP_WORKER_ACTIONS_MAX (SP_WORKER_SLOTS_MAX + SP_WORKER_ASKS_MAX + 3)

#define SP_WORKER_EAGER_MS 250	      /* between heartbeats until ledgerd has answered one */
#define SP_WORKER_SILENCE_MS 3000     /* at least so long, and 5 heartbeats, before we reconnect */
#define SP_WORKER_REOPEN_MS 1000      /* after a refused key; doubles */
#define SP_WORKER_REOPEN_MAX_MS 15000 /* also when nothing answers at all */

enum sp_lease_state {
	SP_LEASE_ACCEPTING,
	SP_LEASE_RUNNING,
	SP_LEASE_CANCELLING,
	SP_LEASE_DROPPED,
	SP_LEASE_REPORTING
};

struct sp_worker_lease {
	char id[SP_JOB_ID_LEN + 1];
	enum sp_lease_state state;
	uint64_t seq; /* of its accept, then of its result: what an Ack will name */
};

/* Something said from a thread that waits for the answer: a record, content, a new job. */
struct sp_worker_ask {
	uint64_t id; /* the caller's */
	uint64_t seq;
	int sent; /* on this connection */
};

enum sp_collection_state { SP_COLLECTION_NONE, SP_COLLECTION_RUNNING, SP_COLLECTION_REPORTING };

struct sp_worker_state {
	unsigned slots;
	int connected, welcomed, stopping;
	uint32_t heartbeat_ms;
	uint32_t tick_ms;  /* how often it wants a tick */
	int64_t heard_ms;  /* the last word of ledgerd */
	int64_t reopen_ms; /* when to connect anew, while not connected */
	uint32_t backoff_ms;
	uint64_t seq; /* of the newest message; the caller may set where it begins */
	struct sp_worker_lease leases[SP_WORKER_SLOTS_MAX];
	size_t lease_count;
	struct sp_worker_ask asks[SP_WORKER_ASKS_MAX];
	size_t ask_count;
	enum sp_collection_state collecting;
	char collection[SP_JOB_ID_LEN + 1];
	uint64_t collected_seq; /* while it is reported */
};

enum sp_worker_event_kind {
	SP_EVENT_CONNECTED, /* the handshake is done */
	SP_EVENT_DISCONNECTED,
	SP_EVENT_KEY_REFUSED,
	SP_EVENT_TICK,
	SP_EVENT_WELCOME,  /* heartbeat_ms */
	SP_EVENT_OFFER,	   /* lease */
	SP_EVENT_CANCEL,   /* lease */
	SP_EVENT_ACK,	   /* seq */
	SP_EVENT_REFUSAL,  /* seq, lease ("": none) */
	SP_EVENT_FINISHED, /* lease: work and seal are over */
	SP_EVENT_ASK,	   /* ask */
	SP_EVENT_UNSENT,   /* ask: the socket did not take it */
	SP_EVENT_WITHDRAW, /* ask: nobody waits any more */
	SP_EVENT_COLLECT,  /* lease: id of the collection */
	SP_EVENT_SWEPT,	   /* the collection that ran is over */
	SP_EVENT_STOP,	   /* the daemon ends */
};

struct sp_worker_event {
	enum sp_worker_event_kind kind;
	int64_t now_ms; /* monotonic */
	const char *lease;
	uint64_t seq, ask;
	uint32_t heartbeat_ms;
};

enum sp_worker_action_kind {
	SP_ACTION_HEARTBEAT, /* naming sp_worker_step_named leases */
	SP_ACTION_ACCEPT,    /* lease, seq */
	SP_ACTION_START,     /* lease */
	SP_ACTION_HALT,	     /* lease: kill its child, cancel its seal; then SP_EVENT_FINISHED */
	SP_ACTION_RESULT,    /* lease, seq */
	SP_ACTION_FORGET,    /* lease: free what is held for it */
	SP_ACTION_SEND,	     /* ask, seq */
	SP_ACTION_ANSWERED,  /* ask: ledgerd has committed it */
	SP_ACTION_REFUSED,   /* ask: ledgerd said no */
	SP_ACTION_CANCELLED, /* ask: the daemon ends, or too many wait already */
	SP_ACTION_COLLECT,   /* lease: begin this collection */
	SP_ACTION_BUSY,	     /* lease, seq: say that it cannot be now */
	SP_ACTION_COLLECTED, /* seq: say what it brought */
	SP_ACTION_LEAVE,     /* stop it; then SP_EVENT_SWEPT */
	SP_ACTION_CLEAR,     /* free what is held for it */
	SP_ACTION_REOPEN,    /* close the socket, connect anew */
};

struct sp_worker_action {
	enum sp_worker_action_kind kind;
	char lease[SP_JOB_ID_LEN + 1];
	uint64_t seq, ask;
};

struct sp_worker_actions {
	size_t count;
	struct sp_worker_action items[SP_WORKER_ACTIONS_MAX];
};

void sp_worker_step_init(struct sp_worker_state *state, unsigned slots, int64_t now_ms);
/* Overwrites actions. */
void sp_worker_step_apply(struct sp_worker_state *state, const struct sp_worker_event *event,
    struct sp_worker_actions *actions);

/* How many more leases it takes now. */
unsigned sp_worker_step_free(const struct sp_worker_state *state);
/* NULL when it is not known (any more). */
const struct sp_worker_lease *
sp_worker_step_find(const struct sp_worker_state *state, const char *lease);
/* 1 when heartbeats name the lease, and so renew it. */
int sp_worker_step_named(const struct sp_worker_lease *lease);

#endif
