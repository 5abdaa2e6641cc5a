/* helper.c -- children that live as long as the daemon. */
#include "base/log.h"
#include "base/time.h"
#include "bus/worker_int.h"

#include <stdlib.h>
#include <string.h>

#define BACKOFF_MS 500 /* before a helper that died is started again; doubles */
#define BACKOFF_MAX_MS 30000
#define STEADY_MS 60000	   /* one that lived so long starts again without delay */
#define STOP_GRACE_MS 3000 /* from the end of its input until it is killed */

static void start(struct sp_helper *h);

static struct sp_helper *
find_helper(const struct sp_worker *worker, const char *name)
{
	struct sp_helper *h;

	for (h = worker->helpers; h != NULL; h = h->next)
		if (strcmp(h->spec->name, name) == 0)
			return h;
	return NULL;
}

static void
on_event(void *ctx, const Sallyport__ChildEvent *event)
{
	struct sp_helper *h = ctx;

	if (event->event_case == SALLYPORT__CHILD_EVENT__EVENT_NOTE)
		h->note(h->ctx, event->note);
	else
		sp_log_warn(NULL, "helper %s said what only a step's child may say: ignored",
		    h->spec->name);
}

static void
on_restart(uv_timer_t *timer)
{
	start(timer->data);
}

static void
start_later(struct sp_helper *h, const char *why)
{
	if (sp_time_monotonic_ms() - h->started_ms >= STEADY_MS)
		h->backoff_ms = BACKOFF_MS;
	sp_log_error(NULL, "helper %s: %s; started again in %llu ms", h->spec->name, why,
	    (unsigned long long)h->backoff_ms);
	uv_timer_start(&h->timer, on_restart, h->backoff_ms, 0);
	h->backoff_ms = h->backoff_ms * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : h->backoff_ms * 2;
}

static void
on_exit_of_child(void *ctx, enum sp_code code, const struct sp_err *err)
{
	struct sp_helper *h = ctx;

	h->child = NULL;
	if (h->worker->exiting) {
		uv_timer_stop(&h->timer);
		sp_worker_settle(h->worker);
		return;
	}
	start_later(h, code == SP_OK ? "it ended by itself" : err->msg);
}

static void
start(struct sp_helper *h)
{
	char *name = sp_xasprintf("helper:%s", h->spec->name);
	char *what = sp_xasprintf("helper %s", h->spec->name);
	char **args = sp_worker_child_args(h->worker, name, h->spec->key);
	struct sp_spawn_spec spec = {
	    .loop = &h->worker->loop,
	    .what = what,
	    .args = args,
	    .keep_open = 1,
	    .on_event = on_event,
	    .on_exit = on_exit_of_child,
	    .ctx = h,
	};
	struct sp_err err;

	h->started_ms = sp_time_monotonic_ms();
	if (sp_spawn_start(&spec, &h->child, &err) != SP_OK)
		start_later(h, err.msg);
	free(name);
	free(what);
	sp_worker_free_args(args);
}

enum sp_code
sp_worker_helper_start(struct sp_worker *worker, const char *name, sp_worker_note_fn *note,
    void *ctx, struct sp_err *err)
{
	const struct sp_worker_helper *spec = NULL;
	struct sp_helper *h;
	size_t i;

	for (i = 0; i < worker->spec->helper_count; i++)
		if (strcmp(worker->spec->helpers[i].name, name) == 0)
			spec = &worker->spec->helpers[i];
	SP_ASSERT(spec != NULL);
	if (find_helper(worker, name) != NULL)
		return sp_err_set(err, SP_E_EXISTS, "helper %s runs already", name);
	h = sp_xcalloc(1, sizeof(*h));
	h->worker = worker;
	h->spec = spec;
	h->note = note;
	h->ctx = ctx;
	h->backoff_ms = BACKOFF_MS;
	uv_timer_init(&worker->loop, &h->timer);
	h->timer.data = h;
	h->next = worker->helpers;
	worker->helpers = h;
	start(h);
	return SP_OK;
}

void
sp_worker_tell(struct sp_worker *worker, const char *name, const Sallyport__ChildNote *note)
{
	Sallyport__ChildNote copy = *note; /* protobuf-c wants it writable */
	Sallyport__ChildEvent event;
	struct sp_tell *tell = sp_xcalloc(1, sizeof(*tell)), **at;
	struct sp_err err;

	sallyport__child_event__init(&event);
	event.event_case = SALLYPORT__CHILD_EVENT__EVENT_NOTE;
	event.note = &copy;
	if (sp_event_frame(&event, &tell->frame, &tell->len, &err) != SP_OK) {
		sp_log_error(NULL, "note to helper %s not sent: %s", name, err.msg);
		free(tell);
		return;
	}
	tell->helper = sp_xstrdup(name);
	pthread_mutex_lock(&worker->lock);
	for (at = &worker->tells; *at != NULL;)
		at = &(*at)->next;
	*at = tell;
	pthread_mutex_unlock(&worker->lock);
	uv_async_send(&worker->async);
}

void
sp_helper_collect(struct sp_worker *worker)
{
	struct sp_tell *tell, *next;
	struct sp_helper *h;
	struct sp_err err;

	pthread_mutex_lock(&worker->lock);
	tell = worker->tells;
	worker->tells = NULL;
	pthread_mutex_unlock(&worker->lock);
	for (; tell != NULL; tell = next) {
		next = tell->next;
		h = find_helper(worker, tell->helper);
		if (h == NULL || h->child == NULL) {
			sp_log_warn(NULL, "note to helper %s lost: it does not run", tell->helper);
			free(tell->frame);
		} else if (sp_spawn_send(h->child, tell->frame, tell->len, &err) != SP_OK)
			sp_log_warn(NULL, "note to helper lost: %s", err.msg);
		free(tell->helper);
		free(tell);
	}
}

static void
on_grace_over(uv_timer_t *timer)
{
	struct sp_helper *h = timer->data;

	sp_log_warn(NULL, "helper %s does not end: killed", h->spec->name);
	if (h->child != NULL)
		sp_spawn_kill(h->child);
}

void
sp_helper_stop(struct sp_worker *worker)
{
	struct sp_helper *h;

	for (h = worker->helpers; h != NULL; h = h->next) {
		uv_timer_stop(&h->timer);
		if (h->child == NULL)
			continue;
		sp_spawn_end_input(h->child);
		uv_timer_start(&h->timer, on_grace_over, STOP_GRACE_MS, 0);
	}
}

int
sp_helper_any(const struct sp_worker *worker)
{
	const struct sp_helper *h;

	for (h = worker->helpers; h != NULL; h = h->next)
		if (h->child != NULL)
			return 1;
	return 0;
}

static void
on_closed(uv_handle_t *handle)
{
	free(handle->data);
}

void
sp_helper_close(struct sp_worker *worker)
{
	struct sp_helper *h, *next;
	struct sp_tell *tell;

	for (h = worker->helpers; h != NULL; h = next) {
		next = h->next;
		SP_ASSERT(h->child == NULL);
		uv_close((uv_handle_t *)&h->timer, on_closed);
	}
	worker->helpers = NULL;
	while ((tell = worker->tells) != NULL) {
		worker->tells = tell->next;
		free(tell->helper);
		free(tell->frame);
		free(tell);
	}
}
