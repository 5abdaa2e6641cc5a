/* worker.c -- the worker's loop: events to the state machine, actions from it, start and end. */
#include "base/file.h"
#include "base/log.h"
#include "base/notify.h"
#include "base/time.h"
#include "base/version.h"
#include "bus/paths.h"
#include "bus/pulse.h"
#include "bus/worker_int.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define CLOSE_TURNS_MAX 1000 /* of the loop, for the daemon's handles to close */

/* --- small things --------------------------------------------------------------------------------
 */

const struct sp_conf *
sp_worker_conf(const struct sp_worker *worker)
{
	return worker->conf;
}

char **
sp_worker_child_args(const struct sp_worker *worker, const char *child, const char *key)
{
	const struct sp_options *o = worker->options;
	char **args = sp_xcalloc(13, sizeof(*args));
	size_t n = 0;

	args[n++] = sp_xstrdup(worker->spec->service);
	args[n++] = sp_xstrdup("--child");
	args[n++] = sp_xstrdup(child);
	args[n++] = sp_xstrdup("--parent");
	args[n++] = sp_xasprintf("%d", (int)uv_os_getpid());
	args[n++] = sp_xstrdup("-c");
	args[n++] = sp_xstrdup(o->conf_file);
	args[n++] = sp_xstrdup("--root");
	args[n++] = sp_xstrdup(o->root);
	if (key != NULL) {
		args[n++] = sp_xstrdup("--key");
		args[n++] = sp_paths_key(worker->conf, worker->spec->service, key);
	}
	if (o->verbose)
		args[n++] = sp_xstrdup("-v");
	return args;
}

void
sp_worker_free_args(char **args)
{
	size_t i;

	for (i = 0; args[i] != NULL; i++)
		free(args[i]);
	free(args);
}

void
sp_worker_subscribe(struct sp_worker *worker, const char *topic, sp_worker_topic_fn *fn, void *ctx)
{
	struct sp_topic_sub *t = sp_xcalloc(1, sizeof(*t));

	SP_ASSERT(!worker->opened);
	t->topic = sp_xstrdup(topic);
	t->fn = fn;
	t->ctx = ctx;
	t->next = worker->topics;
	worker->topics = t;
}

/* --- actions -------------------------------------------------------------------------------------
 */

/* A message that is not taken now is said again at the next tick. */
static void
send_quietly(struct sp_worker *worker, Sallyport__Envelope *envelope, uint64_t seq)
{
	struct sp_err err;
	enum sp_code code = sp_bus_send(worker, envelope, seq, &err);

	if (code != SP_OK && code != SP_E_UNREACHABLE)
		sp_log_error(NULL, "%s", err.msg);
}

static size_t
name_leases(struct sp_worker *worker, struct sp_lease_report *reports, Sallyport__Progress **list)
{
	const struct sp_worker_lease *lease;
	struct sp_work *w;
	size_t i, n = 0;

	for (i = 0; i < worker->state.lease_count; i++) {
		lease = &worker->state.leases[i];
		w = sp_work_find(worker, lease->id);
		if (w == NULL || !sp_worker_step_named(lease))
			continue;
		sp_lease_read(&w->lease, &reports[n]);
		reports[n].progress.running = 1;
		list[n] = &reports[n].progress;
		n++;
	}
	return n;
}

static void
send_heartbeat(struct sp_worker *worker)
{
	const struct sp_worker_spec *spec = worker->spec;
	struct sp_lease_report reports[SP_WORKER_SLOTS_MAX];
	Sallyport__Progress *list[SP_WORKER_SLOTS_MAX];
	char *steps[SP_BUS_STEPS_MAX], *service = sp_xstrdup(spec->service);
	char version[] = SP_VERSION;
	Sallyport__Envelope envelope;
	Sallyport__Heartbeat body;
	struct sp_lease_report collection;
	size_t i;

	sallyport__envelope__init(&envelope);
	sallyport__heartbeat__init(&body);
	body.store = spec->collects;
	if (sp_collect_read(worker, &collection))
		body.collection = &collection.progress;
	for (i = 0; i < spec->step_count; i++)
		steps[i] = sp_xstrdup(spec->steps[i].name);
	body.service = service;
	body.version = version;
	body.n_steps = spec->step_count;
	body.steps = steps;
	body.free = sp_worker_step_free(&worker->state);
	body.n_leases = name_leases(worker, reports, list);
	body.leases = list;
	envelope.body_case = SALLYPORT__ENVELOPE__BODY_HEARTBEAT;
	envelope.heartbeat = &body;
	send_quietly(worker, &envelope, ++worker->state.seq);
	for (i = 0; i < body.n_leases; i++)
		sp_lease_report_clear(&reports[i]);
	if (body.collection != NULL)
		sp_lease_report_clear(&collection);
	for (i = 0; i < spec->step_count; i++)
		free(steps[i]);
	free(service);
}

static void
send_accept(struct sp_worker *worker, struct sp_work *w, uint64_t seq)
{
	Sallyport__Envelope envelope;
	Sallyport__Accept body;

	sallyport__envelope__init(&envelope);
	sallyport__accept__init(&body);
	body.lease = w->lease.id;
	envelope.body_case = SALLYPORT__ENVELOPE__BODY_ACCEPT;
	envelope.accept = &body;
	send_quietly(worker, &envelope, seq);
}

static void
act(struct sp_worker *worker, const struct sp_worker_action *action)
{
	struct sp_work *w = action->lease[0] != '\0' ? sp_work_find(worker, action->lease) : NULL;
	const Sallyport__Refusal *refusal = worker->refusal;

	switch (action->kind) {
	case SP_ACTION_HEARTBEAT:
		send_heartbeat(worker);
		return;
	case SP_ACTION_ACCEPT:
		send_accept(worker, w, action->seq);
		return;
	case SP_ACTION_START:
		sp_work_start(w);
		return;
	case SP_ACTION_HALT:
		sp_work_halt(w);
		return;
	case SP_ACTION_RESULT:
		sp_work_report(w, action->seq);
		return;
	case SP_ACTION_FORGET:
		sp_work_free(w);
		return;
	case SP_ACTION_SEND:
		sp_ask_send(worker, action->ask, action->seq);
		return;
	case SP_ACTION_ANSWERED:
		sp_ask_answer(worker, action->ask, SP_OK, "");
		return;
	case SP_ACTION_REFUSED:
		sp_ask_answer(
		    worker, action->ask, sp_err_from_word(refusal->code), refusal->message);
		return;
	case SP_ACTION_CANCELLED:
		sp_ask_answer(worker, action->ask, SP_E_CANCELLED,
		    worker->exiting ? "the daemon is ending" : "too many wait for ledgerd already");
		return;
	case SP_ACTION_COLLECT:
		sp_collect_start(worker, worker->collect);
		return;
	case SP_ACTION_BUSY:
		sp_collect_busy(worker, action->lease, action->seq);
		return;
	case SP_ACTION_COLLECTED:
		sp_collect_report(worker, action->seq);
		return;
	case SP_ACTION_LEAVE:
		sp_collect_halt(worker);
		return;
	case SP_ACTION_CLEAR:
		sp_collect_clear(worker);
		return;
	case SP_ACTION_REOPEN:
		sp_bus_reopen(worker);
		return;
	}
}

static void on_tick(uv_timer_t *timer);

static void
set_tick(struct sp_worker *worker)
{
	uint64_t want_ms = worker->state.tick_ms;

	if (uv_is_closing((uv_handle_t *)&worker->tick) || worker->standalone)
		return;
	if (uv_timer_get_repeat(&worker->tick) != want_ms)
		uv_timer_start(&worker->tick, on_tick, want_ms, want_ms);
}

/* Ready is who was welcomed: a key that the trust document lacks shows at the start. */
static void
tell_manager(struct sp_worker *worker)
{
	if (worker->told_welcomed == worker->state.welcomed)
		return;
	worker->told_welcomed = worker->state.welcomed;
	if (worker->told_welcomed)
		sp_notify("READY=1", "version %s, welcomed by ledgerd", SP_VERSION);
	else
		sp_notify(NULL, "version %s, without a connection to ledgerd", SP_VERSION);
}

void
sp_worker_event(struct sp_worker *worker, const struct sp_worker_event *event)
{
	struct sp_queued_event *q, now;
	size_t i;

	worker->events =
	    sp_xrealloc(worker->events, worker->event_count + 1, sizeof(*worker->events));
	q = &worker->events[worker->event_count++];
	q->event = *event;
	q->lease[0] = '\0';
	if (event->lease != NULL)
		strncat(q->lease, event->lease, sizeof(q->lease) - 1);
	/* what an action brings up waits until the actions before it are done */
	if (worker->applying)
		return;
	worker->applying = 1;
	while (worker->event_count > 0) {
		now = worker->events[0];
		worker->event_count--;
		memmove(worker->events, worker->events + 1,
		    worker->event_count * sizeof(*worker->events));
		now.event.now_ms = sp_time_monotonic_ms();
		now.event.lease = now.lease;
		sp_worker_step_apply(&worker->state, &now.event, &worker->actions);
		for (i = 0; i < worker->actions.count; i++)
			act(worker, &worker->actions.items[i]);
	}
	worker->applying = 0;
	tell_manager(worker);
	set_tick(worker);
	sp_worker_settle(worker);
}

static void
on_tick(uv_timer_t *timer)
{
	struct sp_worker_event event = {.kind = SP_EVENT_TICK};

	sp_worker_event(timer->data, &event);
}

static void
on_async(uv_async_t *async)
{
	struct sp_worker *worker = async->data;

	sp_helper_collect(worker);
	sp_work_collect(worker);
	sp_ask_collect(worker);
	sp_collect_finish(worker);
}

/* --- start and end -------------------------------------------------------------------------------
 */

static void
stop(struct sp_worker *worker)
{
	struct sp_worker_event event = {.kind = SP_EVENT_STOP};

	if (worker->exiting)
		return;
	worker->exiting = 1;
	sp_notify("STOPPING=1", NULL);
	pthread_mutex_lock(&worker->lock);
	worker->stopping = 1;
	pthread_mutex_unlock(&worker->lock);
	sp_worker_event(worker, &event);
	sp_ask_collect(worker);
	sp_helper_stop(worker);
	sp_worker_settle(worker);
}

static void
on_signal(uv_signal_t *handle, int number)
{
	sp_log_info(NULL, "ending on SIG%s", sigabbrev_np(number));
	stop(handle->data);
}

/* Nothing runs any more: the loop ends. */
void
sp_worker_settle(struct sp_worker *worker)
{
	if (worker->exiting && worker->works == NULL && !sp_collect_runs(worker) &&
	    !sp_helper_any(worker))
		uv_stop(&worker->loop);
}

static void
init_handles(struct sp_worker *worker)
{
	SP_ASSERT(uv_loop_init(&worker->loop) == 0);
	SP_ASSERT(uv_async_init(&worker->loop, &worker->async, on_async) == 0);
	SP_ASSERT(uv_timer_init(&worker->loop, &worker->tick) == 0);
	sp_pulse_start(&worker->loop, &worker->pulse);
	SP_ASSERT(uv_signal_init(&worker->loop, &worker->sigterm) == 0);
	SP_ASSERT(uv_signal_init(&worker->loop, &worker->sigint) == 0);
	worker->async.data = worker->tick.data = worker;
	worker->sigterm.data = worker->sigint.data = worker;
	SP_ASSERT(uv_signal_start(&worker->sigterm, on_signal, SIGTERM) == 0);
	SP_ASSERT(uv_signal_start(&worker->sigint, on_signal, SIGINT) == 0);
}

static void
close_handles(struct sp_worker *worker)
{
	int turns;

	sp_helper_close(worker);
	uv_close((uv_handle_t *)&worker->async, NULL);
	uv_close((uv_handle_t *)&worker->tick, NULL);
	uv_close((uv_handle_t *)&worker->pulse, NULL);
	uv_close((uv_handle_t *)&worker->sigterm, NULL);
	uv_close((uv_handle_t *)&worker->sigint, NULL);
	for (turns = 0; turns < CLOSE_TURNS_MAX && uv_run(&worker->loop, UV_RUN_NOWAIT); turns++)
		;
	if (uv_loop_close(&worker->loop) != 0)
		sp_log_debug(NULL, "the event loop still has handles of the daemon");
}

static void
free_rest(struct sp_worker *worker)
{
	struct sp_topic_sub *t;

	while ((t = worker->topics) != NULL) {
		worker->topics = t->next;
		free(t->topic);
		free(t);
	}
	pthread_mutex_destroy(&worker->lock);
	free(worker->events);
	free(worker->state_dir);
	free(worker);
}

static enum sp_code
open_all(struct sp_worker *worker, struct sp_err *err)
{
	const struct sp_worker_spec *spec = worker->spec;
	enum sp_code code = SP_OK;

	if (!worker->standalone)
		code = sp_bus_prepare(worker, err);
	if (code == SP_OK && spec->open != NULL)
		code = spec->open(worker, &worker->ctx, err);
	if (code != SP_OK)
		return code;
	worker->opened = 1;
	if (worker->standalone)
		return SP_OK;
	code = sp_bus_open(worker, err);
	if (code == SP_OK)
		code = sp_bus_subscribe(worker, err);
	if (code == SP_OK)
		set_tick(worker);
	return code;
}

/* Where the numbers of this process's messages begin. Answers to the process before it may still be
 * on their way here, and must not be taken for answers to what this one will ask. */
static uint64_t
first_seq(void)
{
	uint64_t seq;

	SP_ASSERT(getrandom(&seq, sizeof(seq), 0) == sizeof(seq));
	return seq >> 2; /* room to count up */
}

int
sp_worker_run(
    const struct sp_worker_spec *spec, const struct sp_options *options, struct sp_conf *conf)
{
	struct sp_worker *worker = sp_xcalloc(1, sizeof(*worker));
	struct sp_err err;
	enum sp_code code;

	worker->spec = spec;
	worker->options = options;
	worker->conf = conf;
	worker->standalone = spec->standalone != NULL && spec->standalone(conf);
	worker->state_dir = sp_paths_state(conf, spec->service);
	sp_file_sweep(worker->state_dir, SP_FILE_SWEEP_DEPTH);
	/* children may write below it, but not make it */
	if (sp_file_mkdirs(worker->state_dir, 0700, &err) != SP_OK)
		sp_log_warn(NULL, "%s", err.msg);
	worker->loop_thread = uv_thread_self();
	SP_ASSERT(pthread_mutex_init(&worker->lock, NULL) == 0);
	sp_worker_step_init(&worker->state, spec->slots, sp_time_monotonic_ms());
	worker->state.seq = first_seq();
	init_handles(worker);
	code = open_all(worker, &err);
	if (code == SP_OK) {
		sp_log_info(NULL, "version %s runs%s", SP_VERSION,
		    worker->standalone ? ", standalone" : "");
		if (worker->standalone)
			sp_notify("READY=1", "version %s, standalone", SP_VERSION);
		uv_run(&worker->loop, UV_RUN_DEFAULT);
	} else {
		sp_log_error(NULL, "%s", err.msg);
		stop(worker);
		/* helpers that open had started */
		if (sp_helper_any(worker))
			uv_run(&worker->loop, UV_RUN_DEFAULT);
	}
	if (worker->opened && spec->close != NULL)
		spec->close(worker->ctx);
	sp_collect_clear(worker);
	sp_bus_close(worker);
	close_handles(worker);
	free_rest(worker);
	return code == SP_OK ? 0 : 1;
}
