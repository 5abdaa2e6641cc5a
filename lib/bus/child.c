/* child.c -- inside a worker's child process. */
#include "bus/child.h"
#include "base/buf.h"
#include "base/file.h"
#include "base/log.h"
#include "base/time.h"
#include "bus/envelope.h"
#include "bus/lease.h"
#include "bus/paths.h"
#include "bus/result.h"
#include "bus/spawn.h"
#include "bus/worker_int.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_LEN 65536

struct sp_child {
	int in, out;
	pthread_mutex_t lock; /* of out: a frame goes out in one piece */
	struct sp_buf buf;
	int ended;
	const char *key; /* its file */
};

void
sp_child_harden(pid_t parent)
{
	SP_ASSERT(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0);
	/* it may have died between fork and the line above */
	if (getppid() != parent)
		_exit(1);
	SP_ASSERT(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	sp_program_undumpable();
	SP_ASSERT(fcntl(SP_CHILD_FD, F_SETFD, FD_CLOEXEC) == 0);
	SP_ASSERT(close_range(SP_CHILD_FD + 1, ~0U, 0) == 0);
}

/* The pipe is a socket pair: send does without SIGPIPE. */
static enum sp_code
send_all(int fd, const uint8_t *data, size_t len, struct sp_err *err)
{
	ssize_t n;

	while (len > 0) {
		n = send(fd, data, len, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EPIPE)
			return sp_err_set(err, SP_E_UNREACHABLE, "the daemon is gone");
		if (n < 0)
			return sp_err_errno(err, "cannot write to the daemon");
		data += n;
		len -= (size_t)n;
	}
	return SP_OK;
}

enum sp_code
sp_child_write(int fd, const Sallyport__ChildEvent *event, struct sp_err *err)
{
	enum sp_code code;
	uint8_t *frame;
	size_t len;

	code = sp_event_frame(event, &frame, &len, err);
	if (code == SP_OK)
		code = send_all(fd, frame, len, err);
	free(frame);
	return code;
}

/* --- helpers -------------------------------------------------------------------------------------
 */

const char *
sp_child_key(const struct sp_child *child)
{
	return child->key;
}

int
sp_child_fd(const struct sp_child *child)
{
	return child->in;
}

enum sp_code
sp_child_note(struct sp_child *child, const Sallyport__ChildNote *note, struct sp_err *err)
{
	Sallyport__ChildNote copy = *note; /* protobuf-c wants it writable */
	Sallyport__ChildEvent event;
	enum sp_code code;

	sallyport__child_event__init(&event);
	event.event_case = SALLYPORT__CHILD_EVENT__EVENT_NOTE;
	event.note = &copy;
	pthread_mutex_lock(&child->lock);
	code = sp_child_write(child->out, &event, err);
	pthread_mutex_unlock(&child->lock);
	return code;
}

/* The next note in the buffer: SP_E_TIMEOUT when there is no whole one. */
static enum sp_code
take_note(struct sp_child *child, Sallyport__ChildNote **note, struct sp_err *err)
{
	Sallyport__ChildEvent *event;
	enum sp_code code;
	size_t len;
	int whole = sp_spawn_split(child->buf.data, child->buf.len, &len);

	if (whole == 0)
		return sp_err_set(err, SP_E_TIMEOUT, "the daemon has said nothing");
	if (whole < 0)
		return sp_err_set(err, SP_E_INVALID, "frame from the daemon: length out of bounds");
	code = sp_event_unpack(child->buf.data + 4, len, &event, err);
	child->buf.len -= 4 + len;
	memmove(child->buf.data, child->buf.data + 4 + len, child->buf.len);
	if (code != SP_OK)
		return code;
	if (event->event_case != SALLYPORT__CHILD_EVENT__EVENT_NOTE)
		code = sp_err_set(err, SP_E_INVALID, "frame from the daemon is no note");
	else {
		*note = event->note;
		event->event_case = SALLYPORT__CHILD_EVENT__EVENT__NOT_SET;
	}
	sallyport__child_event__free_unpacked(event, NULL);
	return code;
}

/* Waits for input until deadline_ms (-1: for ever) and reads what is there. */
static enum sp_code
read_more(struct sp_child *child, int64_t deadline_ms, struct sp_err *err)
{
	struct pollfd pfd = {child->in, POLLIN, 0};
	uint8_t chunk[READ_LEN];
	int64_t left_ms = -1;
	ssize_t n;
	int rc;

	if (deadline_ms >= 0) {
		left_ms = deadline_ms - sp_time_monotonic_ms();
		left_ms = left_ms < 0 ? 0 : left_ms;
	}
	rc = poll(&pfd, 1, (int)left_ms);
	if (rc < 0 && errno == EINTR)
		return SP_OK;
	if (rc < 0)
		return sp_err_errno(err, "cannot wait for the daemon");
	if (rc == 0)
		return sp_err_set(err, SP_E_TIMEOUT, "the daemon has said nothing");
	n = read(child->in, chunk, sizeof(chunk));
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return SP_OK;
	if (n < 0 && errno != ECONNRESET)
		return sp_err_errno(err, "cannot read from the daemon");
	if (n <= 0)
		child->ended = 1;
	else
		sp_buf_add(&child->buf, chunk, (size_t)n);
	return SP_OK;
}

enum sp_code
sp_child_hear(
    struct sp_child *child, int timeout_ms, Sallyport__ChildNote **note, struct sp_err *err)
{
	int64_t deadline_ms = timeout_ms < 0 ? -1 : sp_time_monotonic_ms() + timeout_ms;
	enum sp_code code;

	*note = NULL;
	for (;;) {
		code = take_note(child, note, err);
		if (code != SP_E_TIMEOUT)
			return code;
		if (child->ended)
			return sp_err_set(err, SP_E_CANCELLED, "the daemon is ending");
		code = read_more(child, deadline_ms, err);
		if (code != SP_OK)
			return code;
	}
}

static int
run_helper(const char *service, const struct sp_worker_helper *helper, const struct sp_conf *conf,
    const char *key)
{
	struct sp_child child = {.in = STDIN_FILENO, .out = SP_CHILD_FD, .key = key};
	struct sp_err err;
	int status;

	if (sp_confine_enter(conf, service, helper->confine, NULL, key, &err) != SP_OK) {
		sp_log_error(NULL, "helper %s: %s", helper->name, err.msg);
		return 1;
	}
	SP_ASSERT(pthread_mutex_init(&child.lock, NULL) == 0);
	status = helper->run(conf, &child);
	pthread_mutex_destroy(&child.lock);
	sp_buf_free(&child.buf);
	return status;
}

/* --- steps ---------------------------------------------------------------------------------------
 */

/* All of stdin. */
static enum sp_code
read_task(Sallyport__Task **task, struct sp_err *err)
{
	uint8_t chunk[READ_LEN];
	struct sp_buf buf = {0};
	enum sp_code code = SP_OK;
	ssize_t n;

	while (code == SP_OK) {
		n = read(STDIN_FILENO, chunk, sizeof(chunk));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			code = sp_err_errno(err, "cannot read the task");
		else if (n == 0)
			break;
		else if (buf.len + (size_t)n > SP_MESSAGE_MAX)
			code = sp_err_set(err, SP_E_LIMIT, "the task is too large");
		else
			sp_buf_add(&buf, chunk, (size_t)n);
	}
	if (code == SP_OK)
		code = sp_task_unpack(buf.data, buf.len, task, err);
	sp_buf_free(&buf);
	return code;
}

static enum sp_code
say_result(const struct sp_outcome *outcome, enum sp_code code, const struct sp_err *failure,
    struct sp_err *err)
{
	Sallyport__ChildEvent event;
	struct sp_result result;

	sp_result_build(&result, code, failure, outcome);
	sallyport__child_event__init(&event);
	if (result.ok) {
		event.event_case = SALLYPORT__CHILD_EVENT__EVENT_DONE;
		event.done = &result.done;
	} else {
		event.event_case = SALLYPORT__CHILD_EVENT__EVENT_FAILURE;
		event.failure = &result.failure;
	}
	code = sp_child_write(SP_CHILD_FD, &event, err);
	sp_result_clear(&result);
	return code;
}

static int
run_step(const char *service, const struct sp_worker_step *step, const struct sp_conf *conf)
{
	char *state_dir = sp_paths_state(conf, service);
	struct sp_outcome outcome = {0}, none = {0};
	struct sp_err err = {SP_OK, ""}, write_err;
	Sallyport__Task *task = NULL;
	struct sp_lease lease;
	enum sp_code code;

	/* the task is ledgerd's, and says which data sets the step must be let read */
	code = read_task(&task, &err);
	if (code == SP_OK)
		code = sp_confine_enter(conf, service, step->confine, task, NULL, &err);
	if (code == SP_OK) {
		sp_lease_init(&lease, task->lease, task->job, state_dir, SP_CHILD_FD);
		code = step->work(conf, task, &lease, &outcome, &err);
		sp_lease_destroy(&lease);
	}
	if (task != NULL)
		sallyport__task__free_unpacked(task, NULL);
	free(state_dir);
	if (say_result(&outcome, code, &err, &write_err) != SP_OK) {
		sp_err_prefix(&write_err, "step %s: its result cannot be reported", step->name);
		code = say_result(&none, write_err.code, &write_err, &err);
	} else
		code = SP_OK;
	sp_outcome_clear(&outcome);
	return code == SP_OK ? 0 : 1;
}

int
sp_child_main(const struct sp_worker_spec *spec, const struct sp_conf *conf, const char *name,
    const char *key)
{
	const char *rest;
	size_t i;

	rest = strncmp(name, "step:", 5) == 0 ? name + 5 : NULL;
	for (i = 0; rest != NULL && i < spec->step_count; i++)
		if (spec->steps[i].work != NULL && strcmp(spec->steps[i].name, rest) == 0)
			return run_step(spec->service, &spec->steps[i], conf);
	rest = strncmp(name, "helper:", 7) == 0 ? name + 7 : NULL;
	for (i = 0; rest != NULL && i < spec->helper_count; i++)
		if (strcmp(spec->helpers[i].name, rest) == 0)
			return run_helper(spec->service, &spec->helpers[i], conf, key);
	sp_log_error(NULL, "--child %s: there is no such child", name);
	return 2;
}
