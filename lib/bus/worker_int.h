/* worker_int.h -- what the files of the worker's side share; for lib/bus alone. */
#ifndef SP_WORKER_INT_H
#define SP_WORKER_INT_H

#include "base/program.h"
#include "bus/lease.h"
#include "bus/spawn.h"
#include "bus/worker.h"
#include "bus/worker_step.h"
#include "bus/zloop.h"

#include <pthread.h>

/* One lease at work (work.c). All but finished is the loop's thread's. */
struct sp_work {
	struct sp_work *next;
	struct sp_worker *worker;
	Sallyport__Task *task;
	const struct sp_worker_step *step;
	struct sp_lease lease;
	struct sp_spawn *child;
	int said; /* results that the child has given: one is right */
	int halted;
	int sealing;
	int finished; /* under worker->lock: the thread has done its part */
	uv_thread_t thread;
	int64_t started_ms;
	enum sp_code code;
	struct sp_err err;
	struct sp_outcome outcome;
};

/* A thread that waits for ledgerd's answer (ask.c); lies on that thread's stack. */
struct sp_ask {
	struct sp_ask *next;
	uint64_t id;
	Sallyport__Envelope *envelope;
	int taken, answered;
	enum sp_code code;
	struct sp_err err;
	uint64_t log_seq;
	Sallyport__Named *named; /* a copy of the answer, where one comes */
	pthread_cond_t cond;
};

/* The collection of the daemon's store (collect.c). */
struct sp_collection;

/* A child that is kept alive (helper.c). */
struct sp_helper {
	struct sp_helper *next;
	struct sp_worker *worker;
	const struct sp_worker_helper *spec;
	sp_worker_note_fn *note;
	void *ctx;
	struct sp_spawn *child; /* NULL between two lives */
	uv_timer_t timer;	/* until the next one; while stopping: until it is killed */
	int64_t started_ms;
	uint64_t backoff_ms;
};

struct sp_tell {
	struct sp_tell *next;
	char *helper;
	uint8_t *frame;
	size_t len;
};

struct sp_topic_sub {
	struct sp_topic_sub *next;
	char *topic;
	sp_worker_topic_fn *fn;
	void *ctx;
};

struct sp_queued_event {
	struct sp_worker_event event;
	char lease[SP_JOB_ID_LEN + 1];
};

struct sp_worker {
	const struct sp_worker_spec *spec;
	const struct sp_options *options;
	struct sp_conf *conf;
	int standalone, opened, exiting;
	int told_welcomed; /* what the service manager knows */
	void *ctx;	   /* the daemon's */
	char *state_dir;

	uv_loop_t loop;
	uv_thread_t loop_thread;
	uv_async_t async;
	uv_timer_t tick, pulse;
	uv_signal_t sigterm, sigint;

	void *context;
	struct sp_key *key;
	uint8_t server_key[SP_PUBKEY_LEN];
	void *dealer_socket; /* borrowed from dealer */
	struct sp_zloop *dealer, *monitor, *subscriber;
	unsigned connections; /* made so far: names the monitor's endpoint */

	struct sp_worker_state state;
	struct sp_worker_actions actions;
	struct sp_queued_event *events;
	size_t event_count;
	int applying;
	uint64_t answer_log_seq;	   /* of the Ack that is being applied */
	const Sallyport__Refusal *refusal; /* that is being applied */
	const Sallyport__Named *named;	   /* that is being applied */
	const Sallyport__Collect *collect; /* that is being applied */

	struct sp_work *works;
	struct sp_collection *collection; /* that runs, or is reported */
	struct sp_helper *helpers;
	struct sp_topic_sub *topics;

	pthread_mutex_t lock; /* of what follows */
	struct sp_ask *asks;
	uint64_t ask_id;
	int withdrawn; /* an ask was given up */
	int stopping;
	struct sp_tell *tells;
};

/* --- worker.c ------------------------------------------------------------------------------------
 */

/* Runs until a signal; the exit status. */
int sp_worker_run(
    const struct sp_worker_spec *spec, const struct sp_options *options, struct sp_conf *conf);
/* Hands an event to the state machine and does what it says; from the loop's thread. now_ms is
 * filled in. Events that come up meanwhile wait for their turn. */
void sp_worker_event(struct sp_worker *worker, const struct sp_worker_event *event);
/* Runs the daemon's shutdown further when nothing is left to wait for. */
void sp_worker_settle(struct sp_worker *worker);

/* --- bus.c: the worker's sockets
 * ------------------------------------------------------------------ */

/* The configuration's part of it. */
enum sp_code sp_bus_check(const struct sp_conf *conf, struct sp_err *err) SP_MUST_USE;
/* Loads key and trust: what can be wrong with them shows before anything starts. */
enum sp_code sp_bus_prepare(struct sp_worker *worker, struct sp_err *err) SP_MUST_USE;
enum sp_code sp_bus_open(struct sp_worker *worker, struct sp_err *err) SP_MUST_USE;
enum sp_code sp_bus_subscribe(struct sp_worker *worker, struct sp_err *err) SP_MUST_USE;
void sp_bus_reopen(struct sp_worker *worker);
void sp_bus_close(struct sp_worker *worker);
/* Sets seq. SP_E_UNREACHABLE when there is no connection that takes it. */
enum sp_code sp_bus_send(struct sp_worker *worker, Sallyport__Envelope *envelope, uint64_t seq,
    struct sp_err *err) SP_MUST_USE;

/* --- work.c --------------------------------------------------------------------------------------
 */

struct sp_work *sp_work_find(const struct sp_worker *worker, const char *lease);
/* Takes task over; NULL (task freed) when it is of no step that we have. */
struct sp_work *sp_work_new(struct sp_worker *worker, Sallyport__Task *task);
void sp_work_start(struct sp_work *work);
void sp_work_halt(struct sp_work *work);
void sp_work_free(struct sp_work *work);
/* Sends its result with that seq. */
void sp_work_report(struct sp_work *work, uint64_t seq);
/* Those whose seal has ended: joins their threads. */
void sp_work_collect(struct sp_worker *worker);

/* --- ask.c, helper.c: the loop's part
 * -------------------------------------------------------------- */

void sp_ask_collect(struct sp_worker *worker);
void sp_ask_send(struct sp_worker *worker, uint64_t id, uint64_t seq);
void sp_ask_answer(struct sp_worker *worker, uint64_t id, enum sp_code code, const char *message);
/* As the functions of worker.h: asks which of these ledgerd knows. *named: free with
 * sallyport__named__free_unpacked; as many answers as there are questions. */
enum sp_code sp_ask_names(struct sp_worker *worker, const Sallyport__Names *names, int timeout_ms,
    Sallyport__Named **named, struct sp_err *err) SP_MUST_USE;
void sp_helper_collect(struct sp_worker *worker);
/* Ends the helpers' input; those that do not go are killed. */
void sp_helper_stop(struct sp_worker *worker);
int sp_helper_any(const struct sp_worker *worker);
void sp_helper_close(struct sp_worker *worker);
/* argv of a child, malloc'd with its strings; sp_worker_free_args. key: the name of the one that it
 * needs, or NULL. */
char **sp_worker_child_args(const struct sp_worker *worker, const char *child, const char *key);
void sp_worker_free_args(char **args);

/* --- collect.c ----------------------------------------------------------------------------------
 */

void sp_collect_start(struct sp_worker *worker, const Sallyport__Collect *collect);
void sp_collect_halt(struct sp_worker *worker);
/* 1 while its thread runs. */
int sp_collect_runs(const struct sp_worker *worker);
/* When its thread has ended: joins it and tells the state machine. */
void sp_collect_finish(struct sp_worker *worker);
/* What a heartbeat says of the one that runs: report is filled, 0 when none does. */
int sp_collect_read(struct sp_worker *worker, struct sp_lease_report *report);
void sp_collect_report(struct sp_worker *worker, uint64_t seq);
void sp_collect_busy(struct sp_worker *worker, const char *id, uint64_t seq);
void sp_collect_clear(struct sp_worker *worker);

/* --- child.c, worker_main.c
 * ----------------------------------------------------------------------- */

int sp_child_main(const struct sp_worker_spec *spec, const struct sp_conf *conf, const char *name,
    const char *key);

#endif
