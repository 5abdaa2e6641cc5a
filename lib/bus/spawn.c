/* spawn.c -- child processes of a worker: the daemon's end. */
#include "bus/spawn.h"
#include "base/buf.h"
#include "base/limits.h"
#include "base/log.h"
#include "bus/envelope.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define READ_LEN 65536
#define UNREAD_MAX (64u << 20) /* bytes sent to a child that it has not read */
#define STDIO_COUNT 4

struct sp_spawn {
	uv_process_t process;
	uv_pipe_t in, out;
	uv_shutdown_t shutdown;
	int handles; /* not yet closed */
	int reading;
	char *what;
	struct sp_buf buf;
	sp_spawn_event_fn *on_event;
	sp_spawn_exit_fn *on_exit;
	void *ctx;
	int faulty; /* it broke the protocol; fault says how */
	struct sp_err fault;
	char chunk[READ_LEN];
};

struct write {
	uv_write_t req;
	uint8_t *data;
	int end; /* nothing follows */
};

int
sp_spawn_split(const uint8_t *data, size_t len, size_t *body_len)
{
	size_t n;

	if (len < 4)
		return 0;
	n = (size_t)data[0] << 24 | (size_t)data[1] << 16 | (size_t)data[2] << 8 | data[3];
	if (n == 0 || n > SP_MESSAGE_MAX)
		return -1;
	*body_len = n;
	return len - 4 >= n;
}

static void
on_closed(uv_handle_t *handle)
{
	struct sp_spawn *p = handle->data;

	if (--p->handles > 0)
		return;
	sp_buf_free(&p->buf);
	free(p->what);
	free(p);
}

static void
close_handle(void *handle)
{
	if (!uv_is_closing(handle))
		uv_close(handle, on_closed);
}

void
sp_spawn_kill(struct sp_spawn *p)
{
	if (p->process.pid > 0 && kill(-p->process.pid, SIGKILL) != 0)
		uv_process_kill(&p->process, SIGKILL);
}

/* Whoever speaks nonsense is not listened to any further. */
static void
set_fault(struct sp_spawn *p, const struct sp_err *err)
{
	if (p->faulty)
		return;
	p->faulty = 1;
	sp_err_set(
	    &p->fault, SP_E_INTERNAL, "child of %s broke the protocol: %s", p->what, err->msg);
	sp_spawn_kill(p);
}

static void
take_frames(struct sp_spawn *p)
{
	Sallyport__ChildEvent *event;
	size_t at = 0, len;
	struct sp_err err;
	int whole = 0;

	while (!p->faulty) {
		whole = sp_spawn_split(p->buf.data + at, p->buf.len - at, &len);
		if (whole <= 0)
			break;
		if (sp_event_unpack(p->buf.data + at + 4, len, &event, &err) != SP_OK) {
			set_fault(p, &err);
			break;
		}
		p->on_event(p->ctx, event);
		sallyport__child_event__free_unpacked(event, NULL);
		at += 4 + len;
	}
	if (whole < 0) {
		sp_err_set(&err, SP_E_LIMIT, "a frame's length is not 1 to %u", SP_MESSAGE_MAX);
		set_fault(p, &err);
	}
	if (at > 0) {
		p->buf.len -= at;
		memmove(p->buf.data, p->buf.data + at, p->buf.len);
	}
}

static void
on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
	struct sp_spawn *p = handle->data;

	(void)suggested;
	*out = uv_buf_init(p->chunk, sizeof(p->chunk));
}

static void
on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *chunk)
{
	struct sp_spawn *p = stream->data;

	if (n > 0) {
		sp_buf_add(&p->buf, chunk->base, (size_t)n);
		take_frames(p);
	} else if (n < 0)
		uv_read_stop(stream);
}

/* The process is gone: what it wrote before is still in the socket. No more than that is read: a
 * grandchild that got away may hold the other side open, and write without end. */
static void
read_rest(struct sp_spawn *p)
{
	ssize_t n;
	int fd, left;

	if (!p->reading || uv_fileno((uv_handle_t *)&p->out, &fd) != 0)
		return;
	uv_read_stop((uv_stream_t *)&p->out);
	if (ioctl(fd, FIONREAD, &left) != 0)
		return;
	while (!p->faulty && left > 0) {
		n = read(fd, p->chunk, sizeof(p->chunk));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		left -= (int)n;
		sp_buf_add(&p->buf, p->chunk, (size_t)n);
		take_frames(p);
	}
}

static void
on_process_exit(uv_process_t *process, int64_t status, int signal)
{
	struct sp_spawn *p = process->data;
	struct sp_err err = {SP_OK, ""};

	/* what it has started and left behind */
	kill(-process->pid, SIGKILL);
	read_rest(p);
	if (p->faulty)
		err = p->fault;
	else if (signal != 0)
		sp_err_set(&err, SP_E_INTERNAL, "child of %s died: SIG%s (%s)", p->what,
		    sigabbrev_np(signal) != NULL ? sigabbrev_np(signal) : "?", strsignal(signal));
	else if (status != 0)
		sp_err_set(&err, SP_E_INTERNAL, "child of %s exited with status %lld: see the log",
		    p->what, (long long)status);
	else if (p->buf.len > 0)
		sp_err_set(&err, SP_E_INTERNAL, "child of %s ended within a frame", p->what);
	close_handle(&p->process);
	close_handle(&p->in);
	close_handle(&p->out);
	p->on_exit(p->ctx, err.code, &err);
}

static void
on_written(uv_write_t *req, int status)
{
	struct write *w = (struct write *)req;
	struct sp_spawn *p = req->handle->data;

	/* an error means that the child is dying: on_process_exit says so */
	(void)status;
	if (w->end)
		close_handle(&p->in);
	free(w->data);
	free(w);
}

/* Takes data over. */
static void
start_write(struct sp_spawn *p, uint8_t *data, size_t len, int end)
{
	struct write *w = sp_xcalloc(1, sizeof(*w));
	uv_buf_t buf = uv_buf_init((char *)data, (unsigned)len);

	w->data = data;
	w->end = end;
	if (uv_write(&w->req, (uv_stream_t *)&p->in, &buf, 1, on_written) == 0)
		return;
	if (end)
		close_handle(&p->in);
	free(data);
	free(w);
}

enum sp_code
sp_spawn_send(struct sp_spawn *p, uint8_t *frame, size_t len, struct sp_err *err)
{
	if (uv_is_closing((uv_handle_t *)&p->in)) {
		free(frame);
		return sp_err_set(err, SP_E_UNREACHABLE, "child of %s takes no input", p->what);
	}
	if (uv_stream_get_write_queue_size((uv_stream_t *)&p->in) + len > UNREAD_MAX) {
		free(frame);
		return sp_err_set(err, SP_E_LIMIT,
		    "child of %s does not read: %u bytes wait for it", p->what, UNREAD_MAX);
	}
	start_write(p, frame, len, 0);
	return SP_OK;
}

static void
on_shutdown(uv_shutdown_t *req, int status)
{
	struct sp_spawn *p = req->handle->data;

	(void)status;
	close_handle(&p->in);
}

/* After what is still on its way to it. */
void
sp_spawn_end_input(struct sp_spawn *p)
{
	if (uv_is_closing((uv_handle_t *)&p->in))
		return;
	if (uv_shutdown(&p->shutdown, (uv_stream_t *)&p->in, on_shutdown) != 0)
		close_handle(&p->in);
}

/* The variables that would lead a child to what it must not have. */
static int
is_withheld(const char *variable)
{
	return strncmp(variable, "CREDENTIALS_DIRECTORY=", 22) == 0 ||
	       strncmp(variable, "NOTIFY_SOCKET=", 14) == 0;
}

/* Pointers into environ. */
static char **
child_environment(void)
{
	size_t n = 0, i, out = 0;
	char **env;

	while (environ[n] != NULL)
		n++;
	env = sp_xcalloc(n + 1, sizeof(*env));
	for (i = 0; i < n; i++)
		if (!is_withheld(environ[i]))
			env[out++] = environ[i];
	return env;
}

static int
run(struct sp_spawn *p, const struct sp_spawn_spec *spec)
{
	uv_stdio_container_t stdio[STDIO_COUNT] = {
	    {.flags = UV_CREATE_PIPE | UV_READABLE_PIPE, .data.stream = (uv_stream_t *)&p->in},
	    {.flags = UV_INHERIT_FD, .data.fd = STDERR_FILENO},
	    {.flags = UV_INHERIT_FD, .data.fd = STDERR_FILENO},
	    {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&p->out},
	};
	char **args = sp_xcalloc(1, sizeof(*args)), **env = child_environment();
	uv_process_options_t options;
	size_t n;
	int rc;

	/* libuv's options want what they do not write to as char ** */
	for (n = 0; spec->args[n] != NULL; n++) {
		args = sp_xrealloc(args, n + 2, sizeof(*args));
		args[n] = spec->args[n];
	}
	args[n] = NULL;
	memset(&options, 0, sizeof(options));
	options.file = "/proc/self/exe";
	options.args = args;
	options.env = env;
	options.exit_cb = on_process_exit;
	options.flags = UV_PROCESS_DETACHED;
	options.stdio = stdio;
	options.stdio_count = STDIO_COUNT;
	rc = uv_spawn(spec->loop, &p->process, &options);
	free(args);
	free(env);
	return rc;
}

enum sp_code
sp_spawn_start(const struct sp_spawn_spec *spec, struct sp_spawn **out, struct sp_err *err)
{
	struct sp_spawn *p = sp_xcalloc(1, sizeof(*p));
	enum sp_code code;
	uint8_t *input;
	int rc;

	*out = NULL;
	p->what = sp_xstrdup(spec->what);
	p->on_event = spec->on_event;
	p->on_exit = spec->on_exit;
	p->ctx = spec->ctx;
	uv_pipe_init(spec->loop, &p->in, 0);
	uv_pipe_init(spec->loop, &p->out, 0);
	p->in.data = p->out.data = p->process.data = p;
	p->handles = 3;
	rc = run(p, spec);
	if (rc == 0)
		rc = uv_read_start((uv_stream_t *)&p->out, on_alloc, on_read);
	if (rc != 0) {
		code = sp_err_set(
		    err, SP_E_IO, "cannot start a child for %s: %s", spec->what, uv_strerror(rc));
		if (uv_is_active((uv_handle_t *)&p->process))
			sp_spawn_kill(p);
		/* uv_spawn leaves an initialised handle even when it fails */
		close_handle(&p->process);
		close_handle(&p->in);
		close_handle(&p->out);
		return code;
	}
	p->reading = 1;
	if (!spec->keep_open) {
		input = sp_xcalloc(spec->input_len + 1, 1);
		if (spec->input_len > 0)
			memcpy(input, spec->input, spec->input_len);
		start_write(p, input, spec->input_len, 1);
	}
	*out = p;
	return SP_OK;
}
