/* sandbox.c -- generated programs under bubblewrap. */
#include "eval/sandbox.h"

#include "base/buf.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/time.h"
#include "eval/sandbox_filter.h"
#include "eval/sandbox_py.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define PARALLEL_MAX 256
#define FD_FILTER 6	      /* 0 to 5 are sandbox_py.h's */
#define FD_SPARE 64	      /* above all that a sandbox is given */
#define OUTPUT_MAX (1u << 20) /* bytes of any file it writes, stdout and stderr together too */
#define TMP_BYTES "16777216"  /* bytes of its /tmp */
#define NOFILE_MAX 64

const struct sp_sandbox_limits sp_sandbox_defaults = {
    .cpu_s = 3, .wall_ms = 20000, .start_ms = 30000, .memory_mib = 1024};

/* One of the two sandboxes of a program. */
struct side {
	pid_t pid;  /* of bwrap, 0 when there is none */
	int output; /* memory file behind its stdout and stderr, -1 when there is none */
};

/* A program that runs. */
struct run {
	struct sp_sandbox_program *program; /* NULL: free */
	struct side tests, generated;
	struct sp_verdict verdict;
	int verdict_fd;
	int64_t deadline_ms;
};

struct pool {
	const struct sp_sandbox_limits *limits;
	struct sp_buf filter;
	struct run *runs;
	size_t count;
};

static const char *const bwrap_args[] = {SP_SANDBOX_BWRAP, "--unshare-all", "--unshare-user",
    "--disable-userns", "--cap-drop", "ALL", "--uid", "65534", "--gid", "65534", "--hostname",
    "sandbox", "--die-with-parent", "--new-session", "--clearenv", "--setenv", "PYTHONHASHSEED",
    "0", "--setenv", "LC_ALL", "C.UTF-8", "--ro-bind", "/usr", "/usr", "--symlink", "usr/lib",
    "/lib", "--symlink", "usr/lib64", "/lib64", "--symlink", "usr/bin", "/bin", "--size", TMP_BYTES,
    "--tmpfs", "/tmp", "--remount-ro", "/", "--chdir", "/tmp", "--seccomp", "6", "--",
    SP_SANDBOX_PYTHON, "-s", "-S", "-B", "-c"};
#define BWRAP_ARGS (sizeof(bwrap_args) / sizeof(bwrap_args[0]))
_Static_assert(FD_FILTER == 6, "as in bwrap_args");

static void
limit(int resource, rlim_t value)
{
	struct rlimit both = {.rlim_cur = value, .rlim_max = value};

	if (setrlimit((__rlimit_resource_t)resource, &both) != 0)
		_exit(126);
}

/* Child, after fork in a process that may have threads: async-signal-safe calls only. fds[i]
 * becomes descriptor i; all others are closed. */
static _Noreturn void
become(const int fds[FD_FILTER + 1], const char *script, unsigned cpu_s, unsigned memory_mib)
{
	char *argv[BWRAP_ARGS + 2];
	char *envp[] = {NULL};
	sigset_t none;
	size_t i;
	int high[FD_FILTER + 1];

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	for (i = 0; i <= FD_FILTER; i++) {
		high[i] = fds[i] < 0 ? -1 : fcntl(fds[i], F_DUPFD, FD_SPARE);
		if (fds[i] >= 0 && high[i] < 0)
			_exit(126);
	}
	for (i = 0; i <= FD_FILTER; i++) {
		if (high[i] < 0)
			close((int)i);
		else if (dup2(high[i], (int)i) < 0)
			_exit(126);
	}
	if (close_range(FD_FILTER + 1, ~0U, 0) != 0)
		_exit(126);
	limit(RLIMIT_CORE, 0);
	limit(RLIMIT_CPU, cpu_s);
	limit(RLIMIT_AS, (rlim_t)memory_mib << 20);
	limit(RLIMIT_FSIZE, OUTPUT_MAX);
	limit(RLIMIT_NOFILE, NOFILE_MAX);
	for (i = 0; i < BWRAP_ARGS; i++)
		argv[i] = (char *)(uintptr_t)bwrap_args[i];
	argv[BWRAP_ARGS] = (char *)(uintptr_t)script;
	argv[BWRAP_ARGS + 1] = NULL;
	execve(SP_SANDBOX_BWRAP, argv, envp);
	(void)!write(
	    2, "cannot start " SP_SANDBOX_BWRAP, sizeof("cannot start " SP_SANDBOX_BWRAP) - 1);
	_exit(127);
}

/* Memory file with these bytes, at its start; -1 with errno. */
static int
memory_file(const char *name, const void *data, size_t len)
{
	int fd = memfd_create(name, MFD_CLOEXEC);

	if (fd < 0)
		return -1;
	if (sp_file_write_all(fd, data, len, NULL) != SP_OK || lseek(fd, 0, SEEK_SET) != 0) {
		close(fd);
		return -1;
	}
	return fd;
}

/* Starts bwrap with input, its ends of the pipes and (tests only) the verdict's. */
static enum sp_code
start_side(struct pool *pool, struct side *side, const void *input, size_t input_len, int in,
    int out, int verdict, struct sp_err *err)
{
	int fds[FD_FILTER + 1] = {-1, -1, -1, in, out, verdict, -1};
	int tests = verdict >= 0;
	enum sp_code code = SP_OK;

	side->output = memory_file("output", "", 0);
	fds[0] = memory_file("input", input, input_len);
	fds[1] = fds[2] = side->output;
	fds[FD_FILTER] = memory_file("filter", pool->filter.data, pool->filter.len);
	if (fds[0] < 0 || side->output < 0 || fds[FD_FILTER] < 0) {
		code = sp_err_errno(err, "sandbox: memory file");
		goto out;
	}
	side->pid = fork();
	if (side->pid == 0)
		become(fds, tests ? sp_sandbox_py_tests : sp_sandbox_py_program,
		    pool->limits->cpu_s * (tests ? 3 : 1), pool->limits->memory_mib);
	if (side->pid < 0) {
		side->pid = 0;
		code = sp_err_errno(err, "sandbox: cannot start a process");
	}
out:
	if (fds[0] >= 0)
		close(fds[0]);
	if (fds[FD_FILTER] >= 0)
		close(fds[FD_FILTER]);
	return code;
}

static char *
tests_input(const struct sp_sandbox_program *program, const char *nonce, size_t *len)
{
	json_t *task = json_pack("{s:s, s:s, s:s, s:s}", "entry", program->entry, "nonce", nonce,
	    "prompt", program->prompt, "test", program->test);
	char *text;

	SP_ASSERT(task); /* the texts are UTF-8: they came out of JSON */
	text = sp_json_canonical(task, len);
	json_decref(task);
	return text;
}

static void
stop_side(struct side *side)
{
	if (side->pid > 0) {
		kill(side->pid, SIGKILL); /* --die-with-parent takes the rest along */
		while (waitpid(side->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	if (side->output >= 0)
		close(side->output);
	side->pid = 0;
	side->output = -1;
}

static void
stop_run(struct run *run)
{
	stop_side(&run->tests);
	stop_side(&run->generated);
	if (run->verdict_fd >= 0)
		close(run->verdict_fd);
	run->verdict_fd = -1;
	run->program = NULL;
}

static enum sp_code
start_run(
    struct pool *pool, struct run *run, struct sp_sandbox_program *program, struct sp_err *err)
{
	int calls[2] = {-1, -1}, replies[2] = {-1, -1}, verdict[2] = {-1, -1};
	uint8_t random[SP_VERDICT_NONCE_LEN / 2];
	char nonce[SP_VERDICT_NONCE_LEN + 1];
	struct sp_buf text = {0};
	char *task = NULL;
	size_t task_len;
	enum sp_code code;
	int i;

	run->program = program;
	if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random) ||
	    pipe2(calls, O_CLOEXEC) != 0 || pipe2(replies, O_CLOEXEC) != 0 ||
	    pipe2(verdict, O_CLOEXEC) != 0 || fcntl(verdict[0], F_SETFL, O_NONBLOCK) != 0) {
		code = sp_err_errno(err, "sandbox: pipe");
		goto out;
	}
	sp_hex_encode(random, sizeof(random), nonce);
	sp_verdict_init(&run->verdict, nonce);
	task = tests_input(program, nonce, &task_len);
	sp_buf_puts(&text, program->prompt);
	sp_buf_add(&text, program->completion, program->completion_len);
	sp_buf_puts(&text, "\n");
	code =
	    start_side(pool, &run->generated, text.data, text.len, calls[0], replies[1], -1, err);
	if (code == SP_OK)
		code = start_side(
		    pool, &run->tests, task, task_len, replies[0], calls[1], verdict[1], err);
	run->verdict_fd = verdict[0];
	verdict[0] = -1;
	run->deadline_ms = sp_time_monotonic_ms() + pool->limits->start_ms;
out:
	for (i = 0; i < 2; i++) {
		if (calls[i] >= 0)
			close(calls[i]);
		if (replies[i] >= 0)
			close(replies[i]);
		if (verdict[i] >= 0)
			close(verdict[i]);
	}
	free(task);
	sp_buf_free(&text);
	return code;
}

/* What a side wrote on stderr, for the message when it did not come up. */
static void
add_output(struct sp_buf *out, const char *which, const struct side *side)
{
	char text[200];
	ssize_t len = side->output < 0 ? 0 : pread(side->output, text, sizeof(text), 0);
	ssize_t i;

	if (len <= 0)
		return;
	for (i = 0; i < len; i++)
		if (text[i] < 0x20 || text[i] > 0x7e)
			text[i] = ' ';
	sp_buf_printf(out, "; %s: %.*s", which, (int)len, text);
}

static enum sp_code
not_up(const struct run *run, const char *what, struct sp_err *err)
{
	struct sp_buf output = {0};
	enum sp_code code;

	add_output(&output, "tests' side", &run->tests);
	add_output(&output, "program's side", &run->generated);
	code = sp_err_set(err, SP_E_IO,
	    "the sandbox %s (%s)%s. Needs bubblewrap, python3 and user namespaces; no program was "
	    "judged",
	    what, run->program->id, output.len ? (char *)output.data : "");
	sp_buf_free(&output);
	return code;
}

/* Ends a run whose verdict is decided, or whose time is up. */
static enum sp_code
finish(struct run *run, int timeout, struct sp_err *err)
{
	struct sp_sandbox_program *program = run->program;
	struct sp_verdict *verdict = &run->verdict;
	enum sp_code code = SP_OK;

	if (verdict->broken)
		code = sp_err_set(
		    err, SP_E_INVALID, "data set, task %s: %s", program->id, verdict->detail);
	else if (!verdict->ready)
		code = not_up(run, timeout ? "took too long to start" : "did not start", err);
	program->outcome = timeout ? SP_VERDICT_TIMEOUT : verdict->outcome;
	snprintf(program->detail, sizeof(program->detail), "%.63s",
	    timeout ? "wall clock" : verdict->detail);
	stop_run(run);
	return code;
}

static void
read_verdict(struct pool *pool, struct run *run)
{
	int ready = run->verdict.ready;
	uint8_t data[512];
	ssize_t len = read(run->verdict_fd, data, sizeof(data));

	if (len > 0)
		sp_verdict_feed(&run->verdict, data, (size_t)len);
	else if (len == 0 || (errno != EAGAIN && errno != EINTR))
		sp_verdict_end(&run->verdict);
	if (!ready && run->verdict.ready)
		run->deadline_ms = sp_time_monotonic_ms() + pool->limits->wall_ms;
}

/* Waits for the running ones; *ended counts those that ended. */
static enum sp_code
wait_runs(struct pool *pool, size_t *ended, struct sp_err *err)
{
	struct pollfd fds[PARALLEL_MAX];
	int64_t now = sp_time_monotonic_ms(), first = INT64_MAX;
	enum sp_code code = SP_OK;
	size_t i;

	for (i = 0; i < pool->count; i++) {
		struct run *run = &pool->runs[i];

		fds[i] =
		    (struct pollfd){.fd = run->program ? run->verdict_fd : -1, .events = POLLIN};
		if (run->program && run->deadline_ms < first)
			first = run->deadline_ms;
	}
	if (poll(fds, pool->count, first > now ? (int)(first - now) : 0) < 0 && errno != EINTR)
		return sp_err_errno(err, "sandbox: poll");
	now = sp_time_monotonic_ms();
	for (i = 0; i < pool->count && code == SP_OK; i++) {
		struct run *run = &pool->runs[i];
		int timeout;

		if (!run->program)
			continue;
		if (fds[i].revents != 0)
			read_verdict(pool, run);
		timeout = !run->verdict.decided && now >= run->deadline_ms;
		if (!timeout && !run->verdict.decided)
			continue;
		code = finish(run, timeout, err);
		(*ended)++;
	}
	return code;
}

enum sp_code
sp_sandbox_run(struct sp_sandbox_program *programs, size_t count, unsigned parallel,
    const struct sp_sandbox_limits *limits, sp_sandbox_progress_fn *progress, void *ctx,
    struct sp_err *err)
{
	struct pool pool = {.limits = limits};
	size_t next = 0, ended = 0, i;
	enum sp_code code;

	if (parallel == 0)
		parallel = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
	pool.count = parallel > PARALLEL_MAX ? PARALLEL_MAX : parallel;
	pool.runs = sp_xcalloc(pool.count, sizeof(*pool.runs));
	for (i = 0; i < pool.count; i++)
		pool.runs[i].verdict_fd = pool.runs[i].tests.output =
		    pool.runs[i].generated.output = -1;
	code = sp_sandbox_filter(&pool.filter, err);
	while (code == SP_OK && ended < count) {
		for (i = 0; i < pool.count && next < count && code == SP_OK; i++)
			if (!pool.runs[i].program)
				code = start_run(&pool, &pool.runs[i], &programs[next++], err);
		if (code == SP_OK)
			code = wait_runs(&pool, &ended, err);
		if (code == SP_OK && progress)
			progress(ctx, ended, count);
	}
	for (i = 0; i < pool.count; i++)
		stop_run(&pool.runs[i]);
	free(pool.runs);
	sp_buf_free(&pool.filter);
	return code;
}

/* Each line of the probe tries what must not work and notes the error it gets. */
static const char probe_prompt[] = "def probe():\n    \"\"\" What is refused here. \"\"\"\n";
static const char probe_body[] =
    "    import os, socket, _thread\n"
    "    def refused(f, *a):\n"
    "        try: f(*a)\n"
    "        except Exception as e: return type(e).__name__\n"
    "        return 'allowed'\n"
    "    def is_open(fd):\n"
    "        try: os.fstat(fd)\n"
    "        except OSError: return False\n"
    "        return True\n"
    "    return [refused(socket.socket), refused(os.fork),\n"
    "        refused(_thread.start_new_thread, print, ()), refused(open, '/etc/passwd'),\n"
    "        refused(open, '/proc/self/mem'), refused(open, '/usr/x', 'w'),\n"
    "        refused(open, '/x', 'w'), refused(os.kill, -1, 9),\n"
    "        sorted(os.listdir('/')), sorted(os.environ), os.getuid(),\n"
    "        [fd for fd in range(64) if is_open(fd)]]\n";
static const char probe_test[] =
    "def check(probe):\n"
    "    assert probe() == ['PermissionError', 'PermissionError', 'RuntimeError',\n"
    "        'FileNotFoundError', 'FileNotFoundError', 'OSError', 'OSError', 'PermissionError',\n"
    "        ['bin', 'lib', 'lib64', 'tmp', 'usr'], ['LC_ALL', 'PWD', 'PYTHONHASHSEED'],\n"
    "        65534, [1, 2, 3, 4]], probe()\n";

enum sp_code
sp_sandbox_check(const struct sp_sandbox_limits *limits, struct sp_err *err)
{
	static const char early[] = "    import os\n    os._exit(0)\n";
	struct sp_sandbox_program programs[] = {
	    {.id = "sandbox check",
		.prompt = probe_prompt,
		.completion = probe_body,
		.completion_len = sizeof(probe_body) - 1,
		.entry = "probe",
		.test = probe_test},
	    {.id = "sandbox check",
		.prompt = probe_prompt,
		.completion = early,
		.completion_len = sizeof(early) - 1,
		.entry = "probe",
		.test = probe_test},
	};
	enum sp_code code = sp_sandbox_run(programs, 2, 0, limits, NULL, NULL, err);

	if (code != SP_OK)
		return code;
	if (programs[0].outcome != SP_VERDICT_PASSED || programs[1].outcome != SP_VERDICT_DIED)
		return sp_err_set(err, SP_E_IO,
		    "the sandbox does not hold (refusals: %s %s, early exit: %s): no program may "
		    "run "
		    "here. See lib/eval/sandbox.c, probe_body, for what is tried",
		    sp_verdict_word(programs[0].outcome), programs[0].detail,
		    sp_verdict_word(programs[1].outcome));
	return SP_OK;
}
