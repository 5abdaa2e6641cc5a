/* watch.c -- following jobs. */
#include "watch.h"
#include "bars.h"
#include "base/time.h"
#include "jobs.h"
#include "ledger/jobs.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define LINE_MS 1000	/* between two plain lines about the same state of a job */
#define FRAME_MS 250	/* between two drawings on a terminal */
#define POLL_MS 500	/* between looks at all jobs */
#define WATCHED_MAX 256 /* jobs that are followed at the same time */
#define COLUMNS 80	/* of a terminal that does not say */
#define ROWS 24

/* A job that is followed. */
struct watched {
	char id[SP_JOB_ID_LEN + 1];
	Sallyport__OperatorReply *reply; /* holds the view */
	const Sallyport__OperatorJobView *view;
	struct ctl_view_rate rate;
	int over;	 /* nothing more is to be told */
	char state[40];	 /* that was told last, "": nothing yet */
	uint64_t change; /* that was told last */
	int64_t told_ms;
};

struct watch {
	struct ctl *ctl;
	int named;    /* several jobs: say which */
	int terminal; /* draw bars */
	size_t columns, rows;
	struct ctl_bars_screen screen;
	struct watched *jobs;
	size_t count;
};

/* --- the terminal --------------------------------------------------------------------------- */

static volatile sig_atomic_t resized = 1; /* ask for the size */

static void
on_resize(int number)
{
	(void)number;
	resized = 1;
}

static void
ask_size(struct watch *w)
{
	struct winsize size;

	if (!resized)
		return;
	resized = 0;
	w->columns = COLUMNS;
	w->rows = ROWS;
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 && size.ws_row > 0) {
		w->columns = size.ws_col;
		w->rows = size.ws_row;
	}
}

/* In one piece: a signal that ends us ends us before it or after it. */
static void
write_whole(const char *data, size_t len)
{
	sigset_t ends, before;
	ssize_t n;

	fflush(stdout);
	sigemptyset(&ends);
	sigaddset(&ends, SIGINT);
	sigaddset(&ends, SIGTERM);
	sigaddset(&ends, SIGHUP);
	sigaddset(&ends, SIGQUIT);
	sigprocmask(SIG_BLOCK, &ends, &before);
	while (len > 0) {
		n = write(STDOUT_FILENO, data, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		data += n;
		len -= (size_t)n;
	}
	sigprocmask(SIG_SETMASK, &before, NULL);
}

static struct watch
start(struct ctl *ctl, int named, int quiet)
{
	struct watch w = {.ctl = ctl, .named = named, .columns = COLUMNS, .rows = ROWS};
	/* no SA_RESTART: whoever waits looks at the size sooner */
	struct sigaction action = {.sa_handler = on_resize};

	w.terminal = !quiet && !ctl->json && isatty(STDOUT_FILENO);
	w.jobs = sp_xcalloc(named ? WATCHED_MAX : 1, sizeof(*w.jobs));
	if (w.terminal) {
		sigaction(SIGWINCH, &action, NULL);
		resized = 1;
	}
	return w;
}

static void
end(struct watch *w)
{
	size_t i;

	for (i = 0; i < w->count; i++)
		if (w->jobs[i].reply != NULL)
			sallyport__operator_reply__free_unpacked(w->jobs[i].reply, NULL);
	free(w->jobs);
	ctl_bars_clear(&w->screen);
}

/* --- telling -------------------------------------------------------------------------------- */

/* Whether a job's state is another than the one that was told, or enough has passed since. */
static int
is_due(const struct watched *j, int64_t now_ms)
{
	if (strcmp(j->state, j->view->state) != 0)
		return 1;
	return j->change != j->view->change && now_ms - j->told_ms >= LINE_MS;
}

static void
told(struct watched *j, int64_t now_ms)
{
	snprintf(j->state, sizeof(j->state), "%s", j->view->state);
	j->change = j->view->change;
	j->told_ms = now_ms;
}

static char *
line_of(const struct watch *w, const struct watched *j)
{
	char *line = ctl_view_line(j->view, &j->rate), *text;

	/* the id is ledgerd's word too */
	text = w->named ? sp_xasprintf("%.8s  %s", j->view->job, line) : sp_xstrdup(line);
	free(line);
	line = ctl_out_clean(text);
	free(text);
	return line;
}

static json_t *
document_of(const struct watched *j)
{
	int64_t left_ms = ctl_view_left_ms(&j->rate, j->view);
	json_t *document = ctl_view_json(j->view);

	if (j->rate.per_s > 0)
		json_object_set_new(
		    document, "rate_per_s", json_integer((json_int_t)j->rate.per_s));
	if (left_ms >= 0)
		json_object_set_new(document, "left_ms", json_integer(left_ms));
	return document;
}

/* A line, or a document, for each job that is due. */
static void
tell_lines(struct watch *w, int64_t now_ms)
{
	struct watched *j;
	size_t i;
	char *line;

	for (i = 0; i < w->count; i++) {
		j = &w->jobs[i];
		if (!is_due(j, now_ms))
			continue;
		if (w->ctl->json) {
			ctl_out_json(document_of(j));
		} else {
			line = line_of(w, j);
			puts(line);
			free(line);
		}
		told(j, now_ms);
	}
	fflush(stdout);
}

static char *
state_line(const struct watch *w, const Sallyport__OperatorJobView *view)
{
	char *text = sp_xasprintf("%.8s%s%s%s%s%s%s", w->named ? view->job : "",
		 w->named ? "  " : "", w->named ? view->name : "", w->named ? "  " : "",
		 view->state, view->reason[0] != '\0' ? "  " : "", view->reason),
	     *clean = ctl_out_clean(text);

	free(text);
	return clean;
}

/* The states that were reached stay on the screen; below them what is under way. */
static void
tell_terminal(struct watch *w, int64_t now_ms)
{
	struct ctl_bars_job *live = sp_xcalloc(w->count + 1, sizeof(*live));
	struct sp_buf history = {0}, frame = {0}, out = {0};
	struct watched *j;
	size_t i, count = 0;
	char *line;

	ask_size(w);
	for (i = 0; i < w->count; i++) {
		j = &w->jobs[i];
		if (strcmp(j->state, j->view->state) != 0) {
			line = state_line(w, j->view);
			sp_buf_printf(&history, "%s\n", line);
			free(line);
		}
		told(j, now_ms);
		if (ctl_view_ended(j->view) || j->over || (!w->named && j->view->phase[0] == '\0'))
			continue;
		live[count].view = j->view;
		live[count++].rate = j->rate;
	}
	/* the last row is the cursor's */
	ctl_bars_draw(live, count, w->named, w->columns, w->rows > 2 ? w->rows - 1 : 1, &frame);
	ctl_bars_redraw(&w->screen, w->columns, history.data != NULL ? (char *)history.data : "",
	    frame.data != NULL ? (char *)frame.data : "", &out);
	write_whole((const char *)out.data, out.len);
	sp_buf_free(&history);
	sp_buf_free(&frame);
	sp_buf_free(&out);
	free(live);
}

static void
tell(struct watch *w)
{
	if (w->terminal)
		tell_terminal(w, sp_time_monotonic_ms());
	else
		tell_lines(w, sp_time_monotonic_ms());
}

/* --- one job -------------------------------------------------------------------------------- */

static void
pause_ms(int64_t ms)
{
	struct timespec pause = {ms / 1000, ms % 1000 * 1000000};

	if (ms > 0)
		nanosleep(&pause, NULL);
}

/* Looks at the job, when it has changed since or wait_ms have passed. */
static enum sp_code
look(struct watch *w, struct watched *j, int wait_ms, struct sp_err *err)
{
	int64_t until_ms = sp_time_monotonic_ms() + wait_ms;
	const Sallyport__OperatorJobView *view;
	Sallyport__OperatorReply *reply;
	enum sp_code code;

	code = ctl_jobs_fetch(w->ctl, j->id, j->view != NULL ? j->view->change : 0,
	    j->view != NULL ? wait_ms : 0, &reply, &view, err);
	if (code != SP_OK)
		return code;
	/* ledgerd had no place for one more that waits, and answered at once */
	if (j->view != NULL && view->change == j->view->change)
		pause_ms(until_ms - sp_time_monotonic_ms());
	if (j->reply != NULL)
		sallyport__operator_reply__free_unpacked(j->reply, NULL);
	j->reply = reply;
	j->view = view;
	ctl_view_rate(&j->rate, view, sp_time_monotonic_ms());
	return SP_OK;
}

enum sp_code
ctl_watch_follow(struct ctl *ctl, const char *id, const char *until, enum ctl_watch_how how,
    Sallyport__OperatorReply **reply, const Sallyport__OperatorJobView **view, struct sp_err *err)
{
	int quiet = how == CTL_WATCH_QUIET, stop = 0;
	struct watch w = start(ctl, 0, quiet);
	struct watched *j = &w.jobs[0];
	enum sp_code code = SP_OK;

	*reply = NULL;
	snprintf(j->id, sizeof(j->id), "%s", id);
	w.count = 1;
	while (code == SP_OK && !stop) {
		code = look(&w, j, w.terminal ? FRAME_MS : LINE_MS, err);
		if (code != SP_OK)
			break;
		stop = ctl_view_ended(j->view) ||
		       (until != NULL && ctl_view_reached(j->view, until)) ||
		       (how != CTL_WATCH_END && strcmp(j->view->state, "AWAITING_APPROVAL") == 0);
		j->over = stop;
		if (!quiet)
			tell(&w);
	}
	if (code == SP_OK) {
		*reply = j->reply;
		*view = j->view;
		j->reply = NULL;
	}
	end(&w);
	return code;
}

static enum sp_code
watch_one(struct ctl *ctl, const char *id, const char *until, struct sp_err *err)
{
	const Sallyport__OperatorJobView *view;
	Sallyport__OperatorReply *reply;
	enum sp_code code;
	char *next;

	code = ctl_watch_follow(ctl, id, until, CTL_WATCH_END, &reply, &view, err);
	if (code != SP_OK)
		return code;
	next = ctl_view_next(view);
	if (next != NULL && !ctl->json)
		ctl_out_print(stdout, "Next: %s\n", next);
	free(next);
	code = ctl_view_outcome(view, err);
	sallyport__operator_reply__free_unpacked(reply, NULL);
	return code;
}

/* --- all jobs ------------------------------------------------------------------------------- */

static const Sallyport__OperatorJobView *
in_list(const Sallyport__OperatorJobList *list, const char *id)
{
	size_t i;

	for (i = 0; i < list->n_jobs; i++)
		if (strcmp(list->jobs[i]->job, id) == 0)
			return list->jobs[i];
	return NULL;
}

/* Jobs that have come since. */
static enum sp_code
take_new(struct watch *w, const Sallyport__OperatorJobList *list, struct sp_err *err)
{
	size_t i, j;

	for (i = 0; i < list->n_jobs && w->count < WATCHED_MAX; i++) {
		if (strlen(list->jobs[i]->job) != SP_JOB_ID_LEN ||
		    strspn(list->jobs[i]->job, "0123456789abcdef") != SP_JOB_ID_LEN)
			return sp_err_set(err, SP_E_DENIED,
			    "ledgerd lists a job \"%.64s\", which is no job's id",
			    list->jobs[i]->job);
		for (j = 0; j < w->count && strcmp(w->jobs[j].id, list->jobs[i]->job) != 0; j++)
			;
		if (j < w->count)
			continue;
		snprintf(w->jobs[j].id, sizeof(w->jobs[j].id), "%s", list->jobs[i]->job);
		w->count++;
	}
	return SP_OK;
}

/* A closer look at each that has changed, and a last one at each that left the list. */
static enum sp_code
look_all(struct watch *w, const Sallyport__OperatorJobList *list, struct sp_err *err)
{
	const Sallyport__OperatorJobView *listed;
	enum sp_code code = SP_OK;
	struct watched *j;
	size_t i;

	for (i = 0; i < w->count && code == SP_OK; i++) {
		j = &w->jobs[i];
		listed = in_list(list, j->id);
		if (j->over)
			continue;
		if (j->view != NULL && listed != NULL && listed->change == j->view->change)
			ctl_view_rate(&j->rate, j->view, sp_time_monotonic_ms());
		else
			code = look(w, j, 0, err);
	}
	return code;
}

/* The places of jobs whose end was told. Returns how many are left. */
static size_t
drop_ended(struct watch *w)
{
	size_t i, left = 0;

	for (i = 0; i < w->count; i++) {
		if (ctl_view_ended(w->jobs[i].view))
			sallyport__operator_reply__free_unpacked(w->jobs[i].reply, NULL);
		else
			w->jobs[left++] = w->jobs[i];
	}
	memset(&w->jobs[left], 0, (w->count - left) * sizeof(*w->jobs));
	w->count = left;
	return left;
}

static enum sp_code
watch_all(struct ctl *ctl, struct sp_err *err)
{
	struct watch w = start(ctl, 1, 0);
	Sallyport__OperatorReply *reply;
	enum sp_code code;

	for (;;) {
		code = ctl_jobs_list(ctl, 0, 0, &reply, err);
		if (code != SP_OK)
			break;
		code = take_new(&w, reply->jobs, err);
		if (code == SP_OK)
			code = look_all(&w, reply->jobs, err);
		sallyport__operator_reply__free_unpacked(reply, NULL);
		if (code != SP_OK)
			break;
		tell(&w);
		if (drop_ended(&w) == 0)
			break;
		pause_ms(POLL_MS);
	}
	end(&w);
	if (code == SP_OK && !ctl->json)
		puts("No job is under way.");
	return code;
}

enum sp_code
ctl_watch(struct ctl *ctl, const struct ctl_args *args, struct sp_err *err)
{
	const char *until = ctl_args_get(args, "--until");
	enum sp_job_state state;

	if (until != NULL && !ctl_view_find_state(until, &state))
		return ctl_usage(ctl, err, "there is no state \"%.40s\"", until);
	until = until != NULL ? sp_jobs_state_name(state) : NULL;
	if (args->count > 0)
		return watch_one(ctl, args->words[0], until, err);
	if (until != NULL)
		return ctl_usage(ctl, err, "--until is about one job: name it");
	return watch_all(ctl, err);
}
