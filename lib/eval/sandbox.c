/* sandbox.c -- generated programs: two sandboxes each, many at a time, and their verdicts. */
#include "eval/sandbox.h"

#include "base/buf.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/landlock.h"
#include "base/time.h"
#include "eval/sandbox_enter.h"
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
#include <sys/wait.h>
#include <unistd.h>

#define PARALLEL_MAX 256
/* Users of Landlock's sandboxes when we are root, two a run: above those that systems give to
 * people and services, below those that subuid(5) gives away. */
#define FIRST_UID 90000

const struct sp_sandbox_limits sp_sandbox_defaults = {.kind = SP_SANDBOX_BUBBLEWRAP,
    .cpu_s = 3,
    .wall_ms = 20000,
    .start_ms = 30000,
    .memory_mib = 1024};

/* One of the two sandboxes of a program. */
struct side {
	pid_t pid;  /* of bwrap or of the interpreter, 0 when there is none */
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
	int rules; /* Landlock's, -1 with bubblewrap */
	struct run *runs;
	size_t count;
};

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

/* Starts a sandbox with input, its ends of the pipes and (tests only) the verdict's. */
static enum sp_code
start_side(struct pool *pool, struct side *side, uid_t uid, const void *input, size_t input_len,
    int in, int out, int verdict, struct sp_err *err)
{
	int tests = verdict >= 0, landlock = pool->limits->kind == SP_SANDBOX_LANDLOCK;
	struct sp_sandbox_enter how = {.kind = pool->limits->kind,
	    .script = tests ? sp_sandbox_py_tests : sp_sandbox_py_program,
	    .cpu_s = pool->limits->cpu_s * (tests ? 3 : 1),
	    .memory_mib = pool->limits->memory_mib,
	    .filter = &pool->filter,
	    .uid = uid,
	    .parent = getpid()};
	int stdin_fd = memory_file("input", input, input_len);
	int rules = landlock ? fcntl(pool->rules, F_DUPFD_CLOEXEC, 0)
			     : memory_file("filter", pool->filter.data, pool->filter.len);
	enum sp_code code = SP_OK;

	side->output = memory_file("output", "", 0);
	if (stdin_fd < 0 || side->output < 0 || rules < 0) {
		code = sp_err_errno(err, "sandbox: memory file");
		goto out;
	}
	memcpy(how.fds, (int[]){stdin_fd, side->output, side->output, in, out, verdict, rules},
	    sizeof(how.fds));
	side->pid = fork();
	if (side->pid == 0)
		sp_sandbox_enter(&how);
	if (side->pid < 0) {
		side->pid = 0;
		code = sp_err_errno(err, "sandbox: cannot start a process");
	}
out:
	if (stdin_fd >= 0)
		close(stdin_fd);
	if (rules >= 0)
		close(rules);
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
		/* bwrap takes the rest along; without it there is no rest: the filter allows no
		 * fork */
		kill(side->pid, SIGKILL);
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
	uid_t uid = FIRST_UID + 2 * (uid_t)(run - pool->runs);
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
	code = start_side(
	    pool, &run->generated, uid, text.data, text.len, calls[0], replies[1], -1, err);
	if (code == SP_OK)
		code = start_side(pool, &run->tests, uid + 1, task, task_len, replies[0], calls[1],
		    verdict[1], err);
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
not_up(const struct run *run, enum sp_sandbox_kind kind, const char *what, struct sp_err *err)
{
	struct sp_buf output = {0};
	enum sp_code code;

	add_output(&output, "tests' side", &run->tests);
	add_output(&output, "program's side", &run->generated);
	code = sp_err_set(err, SP_E_IO, "the sandbox %s (%s): no program was judged. %s%s", what,
	    run->program->id,
	    kind == SP_SANDBOX_LANDLOCK
		? "It needs python3 and a kernel with Landlock and seccomp"
		: "It needs bubblewrap, python3 and user namespaces; where there are none, as in "
		  "many containers, set validatord.sandbox = \"landlock\"",
	    output.len ? (char *)output.data : "");
	sp_buf_free(&output);
	return code;
}

/* Ends a run whose verdict is decided, or whose time is up. */
static enum sp_code
finish(const struct pool *pool, struct run *run, int timeout, struct sp_err *err)
{
	struct sp_sandbox_program *program = run->program;
	struct sp_verdict *verdict = &run->verdict;
	enum sp_code code = SP_OK;

	if (verdict->broken)
		code = sp_err_set(
		    err, SP_E_INVALID, "data set, task %s: %s", program->id, verdict->detail);
	else if (!verdict->ready)
		code = not_up(run, pool->limits->kind,
		    timeout ? "took too long to start" : "did not start", err);
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
		code = finish(pool, run, timeout, err);
		(*ended)++;
	}
	return code;
}

/* The filter, and with Landlock the rules: nothing but /usr can be read. No place to write, since
 * Landlock knows no quota. */
static enum sp_code
prepare(struct pool *pool, struct sp_err *err)
{
	enum sp_code code = sp_sandbox_filter(pool->limits->kind, &pool->filter, err);

	if (code != SP_OK || pool->limits->kind != SP_SANDBOX_LANDLOCK)
		return code;
	code = sp_landlock_open(0, &pool->rules, err);
	if (code == SP_OK)
		code = sp_landlock_allow(
		    pool->rules, "/usr", SP_LANDLOCK_READ | SP_LANDLOCK_EXECUTE, err);
	if (code == SP_OK)
		return SP_OK;
	/* as a sandbox that does not start: not the candidate's fault, and here perhaps for ever */
	if (err != NULL)
		err->code = SP_E_IO;
	return sp_err_prefix(err,
	    "the sandbox that validatord.sandbox names cannot be made, and no program was judged");
}

enum sp_code
sp_sandbox_run(struct sp_sandbox_program *programs, size_t count, unsigned parallel,
    const struct sp_sandbox_limits *limits, sp_sandbox_progress_fn *progress, void *ctx,
    struct sp_err *err)
{
	struct pool pool = {.limits = limits, .rules = -1};
	size_t next = 0, ended = 0, i;
	enum sp_code code;

	if (parallel == 0)
		parallel = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
	pool.count = parallel > PARALLEL_MAX ? PARALLEL_MAX : parallel;
	pool.runs = sp_xcalloc(pool.count, sizeof(*pool.runs));
	for (i = 0; i < pool.count; i++)
		pool.runs[i].verdict_fd = pool.runs[i].tests.output =
		    pool.runs[i].generated.output = -1;
	code = prepare(&pool, err);
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
	if (pool.rules >= 0)
		close(pool.rules);
	free(pool.runs);
	sp_buf_free(&pool.filter);
	return code;
}

/* The probe tries what must not work and notes the errors that it gets. */
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
    "    def names(d):\n"
    "        try: return sorted(os.listdir(d))\n"
    "        except Exception as e: return type(e).__name__\n"
    "    return [refused(socket.socket), refused(os.fork),\n"
    "        refused(_thread.start_new_thread, print, ()), refused(open, '/etc/passwd'),\n"
    "        refused(open, '/proc/self/mem'), refused(open, '/usr/x', 'w'),\n"
    "        refused(open, '/x', 'w'), refused(os.kill, -1, 9), refused(os.kill, 1, 0),\n"
    "        names('/'), sorted(os.environ), [fd for fd in range(64) if is_open(fd)],\n"
    "        os.getuid()]\n";
/* bubblewrap: what is outside is not there. */
static const char probe_test_bwrap[] =
    "def check(probe):\n"
    "    assert probe() == ['PermissionError', 'PermissionError', 'RuntimeError',\n"
    "        'FileNotFoundError', 'FileNotFoundError', 'OSError', 'OSError', 'PermissionError',\n"
    "        'PermissionError', ['bin', 'lib', 'lib64', 'tmp', 'usr'],\n"
    "        ['LC_ALL', 'PWD', 'PYTHONHASHSEED'], [1, 2, 3, 4], 65534], probe()\n";
/* Landlock: it is there, and cannot be opened. */
static const char probe_test_landlock[] =
    "def check(probe):\n"
    "    *found, uid = probe()\n"
    "    assert uid != 0 and found == ['PermissionError', 'PermissionError', 'RuntimeError',\n"
    "        'PermissionError', 'PermissionError', 'PermissionError', 'PermissionError',\n"
    "        'PermissionError', 'PermissionError', 'PermissionError',\n"
    "        ['LC_ALL', 'PYTHONHASHSEED'], [1, 2, 3, 4]], found\n";

enum sp_code
sp_sandbox_check(const struct sp_sandbox_limits *limits, struct sp_err *err)
{
	static const char early[] = "    import os\n    os._exit(0)\n";
	const char *test =
	    limits->kind == SP_SANDBOX_LANDLOCK ? probe_test_landlock : probe_test_bwrap;
	struct sp_sandbox_program programs[] = {
	    {.id = "sandbox check",
		.prompt = probe_prompt,
		.completion = probe_body,
		.completion_len = sizeof(probe_body) - 1,
		.entry = "probe",
		.test = test},
	    {.id = "sandbox check",
		.prompt = probe_prompt,
		.completion = early,
		.completion_len = sizeof(early) - 1,
		.entry = "probe",
		.test = test},
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
