/* work.c -- a lease at work: child, then seal on a thread, then the result. */
#include "base/log.h"
#include "base/time.h"
#include "bus/result.h"
#include "bus/worker_int.h"

#include <stdlib.h>
#include <string.h>

struct sp_work *
sp_work_find(const struct sp_worker *worker, const char *lease)
{
	struct sp_work *w;

	for (w = worker->works; w != NULL; w = w->next)
		if (strcmp(w->lease.id, lease) == 0)
			return w;
	return NULL;
}

static const struct sp_worker_step *
find_step(const struct sp_worker_spec *spec, const char *name)
{
	size_t i;

	for (i = 0; i < spec->step_count; i++)
		if (strcmp(spec->steps[i].name, name) == 0)
			return &spec->steps[i];
	return NULL;
}

struct sp_work *
sp_work_new(struct sp_worker *worker, Sallyport__Task *task)
{
	const struct sp_worker_step *step = find_step(worker->spec, task->step);
	struct sp_work *w;

	if (step == NULL) {
		sp_log_warn(task->job, "offered a step \"%s\", which %s does not do", task->step,
		    worker->spec->service);
		sallyport__task__free_unpacked(task, NULL);
		return NULL;
	}
	w = sp_xcalloc(1, sizeof(*w));
	w->worker = worker;
	w->task = task;
	w->step = step;
	sp_lease_init(&w->lease, task->lease, task->job, worker->state_dir, -1);
	w->next = worker->works;
	worker->works = w;
	return w;
}

void
sp_work_free(struct sp_work *w)
{
	struct sp_work **at = &w->worker->works;

	SP_ASSERT(w->child == NULL && !w->sealing);
	while (*at != w)
		at = &(*at)->next;
	*at = w->next;
	sallyport__task__free_unpacked(w->task, NULL);
	sp_lease_destroy(&w->lease);
	sp_outcome_clear(&w->outcome);
	free(w);
}

/* The step is over, one way or another. */
static void
finish(struct sp_work *w)
{
	struct sp_worker_event event = {.kind = SP_EVENT_FINISHED, .lease = w->lease.id};
	int64_t ms = sp_time_monotonic_ms() - w->started_ms;

	if (w->code == SP_OK)
		sp_log_info(w->task->job, "step=%s done ms=%lld", w->step->name, (long long)ms);
	else
		sp_log_warn(w->task->job, "step=%s %s ms=%lld: %s", w->step->name,
		    sp_err_word(w->code), (long long)ms, w->err.msg);
	sp_worker_event(w->worker, &event);
}

static void
cancelled(struct sp_work *w)
{
	w->code = sp_err_set(
	    &w->err, SP_E_CANCELLED, "step %s was told to stop before its end", w->step->name);
	finish(w);
}

/* --- seal ----------------------------------------------------------------------------------------
 */

static void
seal_thread(void *arg)
{
	struct sp_work *w = arg;
	struct sp_worker *worker = w->worker;

	w->code =
	    w->step->seal(worker->ctx, worker, w->task, &w->lease, w->code, &w->outcome, &w->err);
	pthread_mutex_lock(&worker->lock);
	w->finished = 1;
	pthread_mutex_unlock(&worker->lock);
	uv_async_send(&worker->async);
}

static void
seal(struct sp_work *w)
{
	int rc;

	w->sealing = 1;
	rc = uv_thread_create(&w->thread, seal_thread, w);
	if (rc == 0)
		return;
	w->sealing = 0;
	w->code = sp_err_set(&w->err, SP_E_NO_MEMORY, "cannot start a thread for step %s: %s",
	    w->step->name, uv_strerror(rc));
	finish(w);
}

void
sp_work_collect(struct sp_worker *worker)
{
	struct sp_work *w, *next;
	int finished;

	for (w = worker->works; w != NULL; w = next) {
		next = w->next;
		if (!w->sealing)
			continue;
		pthread_mutex_lock(&worker->lock);
		finished = w->finished;
		pthread_mutex_unlock(&worker->lock);
		if (!finished)
			continue;
		uv_thread_join(&w->thread);
		w->sealing = 0;
		finish(w);
	}
}

/* --- child ---------------------------------------------------------------------------------------
 */

static void
on_event(void *ctx, const Sallyport__ChildEvent *event)
{
	struct sp_work *w = ctx;
	const Sallyport__Progress *p;
	struct sp_lease_file files[SP_BUS_FILES_MAX];
	size_t i;

	switch (event->event_case) {
	case SALLYPORT__CHILD_EVENT__EVENT_PROGRESS:
		p = event->progress;
		for (i = 0; i < p->n_files; i++)
			files[i] = (struct sp_lease_file){
			    p->files[i]->path, p->files[i]->done, p->files[i]->total};
		sp_lease_progress_files(&w->lease, files, p->n_files);
		sp_lease_progress(&w->lease, p->phase, p->done, p->total, p->unit);
		return;
	case SALLYPORT__CHILD_EVENT__EVENT_DONE:
		if (w->said++ == 0) {
			w->code = SP_OK;
			sp_result_take_done(&w->outcome, event->done);
		}
		break;
	case SALLYPORT__CHILD_EVENT__EVENT_FAILURE:
		if (w->said++ == 0)
			w->code = sp_result_take_failure(&w->outcome, event->failure, &w->err);
		break;
	case SALLYPORT__CHILD_EVENT__EVENT_NOTE:
		if (w->step->hear != NULL)
			w->step->hear(w->worker->ctx, &w->lease, event->note);
		else
			sp_log_warn(
			    w->task->job, "child of step %s sent a note: ignored", w->step->name);
		return;
	default:
		return;
	}
	/* it has no key to sign one with */
	if (w->outcome.attestation != NULL)
		sp_outcome_attest(&w->outcome, NULL, 0);
}

static void
on_exit_of_child(void *ctx, enum sp_code code, const struct sp_err *err)
{
	struct sp_work *w = ctx;

	w->child = NULL;
	if (w->halted) {
		cancelled(w);
		return;
	}
	if (code != SP_OK) {
		w->code = code;
		w->err = *err;
	} else if (w->said != 1)
		w->code = sp_err_set(&w->err, SP_E_INTERNAL,
		    "child of step %s ended with %d results instead of one", w->step->name,
		    w->said);
	else if ((w->code == SP_OK || w->code == SP_E_BLOCKED) && w->step->seal != NULL) {
		seal(w);
		return;
	}
	finish(w);
}

static enum sp_code
start_child(struct sp_work *w)
{
	size_t len = sallyport__task__get_packed_size(w->task);
	char *name = sp_xasprintf("step:%s", w->step->name);
	char *what = sp_xasprintf("step %s", w->step->name);
	char **args = sp_worker_child_args(w->worker, name, NULL);
	uint8_t *task = malloc(len + 1);
	struct sp_spawn_spec spec = {
	    .loop = &w->worker->loop,
	    .what = what,
	    .args = args,
	    .input = task,
	    .input_len = len,
	    .on_event = on_event,
	    .on_exit = on_exit_of_child,
	    .ctx = w,
	};
	enum sp_code code;

	if (task == NULL)
		code = sp_err_set(&w->err, SP_E_NO_MEMORY, "task of %zu bytes: no memory", len);
	else {
		sallyport__task__pack(w->task, task);
		code = sp_spawn_start(&spec, &w->child, &w->err);
	}
	free(task);
	free(name);
	free(what);
	sp_worker_free_args(args);
	return code;
}

void
sp_work_start(struct sp_work *w)
{
	w->started_ms = sp_time_monotonic_ms();
	sp_log_info(w->task->job, "step=%s attempt=%u begins lease=%s", w->step->name,
	    w->task->attempt, w->lease.id);
	if (w->step->work == NULL) {
		seal(w);
		return;
	}
	w->code = start_child(w);
	if (w->code != SP_OK)
		finish(w);
}

void
sp_work_halt(struct sp_work *w)
{
	sp_log_info(w->task->job, "step=%s is stopped lease=%s", w->step->name, w->lease.id);
	w->halted = 1;
	sp_lease_cancel(&w->lease);
	if (w->child != NULL)
		sp_spawn_kill(w->child);
	else if (!w->sealing) {
		w->started_ms = sp_time_monotonic_ms();
		cancelled(w);
	}
}

/* --- result --------------------------------------------------------------------------------------
 */

static enum sp_code
send_result(struct sp_work *w, uint64_t seq, const struct sp_outcome *outcome, struct sp_err *err)
{
	Sallyport__Envelope envelope;
	Sallyport__Result body;
	struct sp_result result;
	enum sp_code code;

	sp_result_build(&result, w->code, &w->err, outcome);
	sallyport__envelope__init(&envelope);
	sallyport__result__init(&body);
	body.lease = w->lease.id;
	if (result.ok) {
		body.outcome_case = SALLYPORT__RESULT__OUTCOME_DONE;
		body.done = &result.done;
	} else {
		body.outcome_case = SALLYPORT__RESULT__OUTCOME_FAILURE;
		body.failure = &result.failure;
	}
	envelope.body_case = SALLYPORT__ENVELOPE__BODY_RESULT;
	envelope.result = &body;
	code = sp_bus_send(w->worker, &envelope, seq, err);
	sp_result_clear(&result);
	return code;
}

void
sp_work_report(struct sp_work *w, uint64_t seq)
{
	struct sp_err err;
	enum sp_code code = send_result(w, seq, &w->outcome, &err);

	/* not sent: the next tick tries again */
	if (code == SP_OK || code == SP_E_UNREACHABLE)
		return;
	/* a result that cannot be said at all must still end the lease */
	sp_log_error(w->task->job, "result of step %s: %s", w->step->name, err.msg);
	sp_outcome_clear(&w->outcome);
	w->code = sp_err_set(
	    &w->err, code, "step %s: its result cannot be reported: %s", w->step->name, err.msg);
	if (send_result(w, seq, &w->outcome, &err) != SP_OK)
		sp_log_debug(w->task->job, "result of step %s: %s", w->step->name, err.msg);
}
