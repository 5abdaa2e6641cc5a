/*
 * eval_sandbox.c -- generated programs in either sandbox: right ones pass, nothing else does.
 *
 * Every test runs once for each kind; where the kernel lets nobody make namespaces, bubblewrap's
 * are skipped, and said to be.
 */
#include "eval/sandbox.h"
#include "sandbox_here.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* little CPU time, so that the tests for limits are short; a clock that no busy machine reaches */
static struct sp_sandbox_limits limits = {
    .cpu_s = 1, .wall_ms = 60000, .start_ms = 60000, .memory_mib = 512};

/* Where each test begins: *state says which kind it is for. */
static void
use(void **state)
{
	limits.kind = *(const enum sp_sandbox_kind *)*state;
	if (limits.kind == SP_SANDBOX_BUBBLEWRAP && !sandbox_works(limits.kind))
		skip();
}

static int
landlock(void)
{
	return limits.kind == SP_SANDBOX_LANDLOCK;
}

#define PROMPT "def f(x):\n    \"\"\" Return x plus one. \"\"\"\n"
#define CHECK \
	"def check(candidate):\n    assert candidate(1) == 2\n    assert candidate(-5) == -4\n"

static struct sp_sandbox_program
program(const char *completion, const char *test)
{
	return (struct sp_sandbox_program){.id = "T/0",
	    .prompt = PROMPT,
	    .completion = completion,
	    .completion_len = strlen(completion),
	    .entry = "f",
	    .test = test};
}

static void
run(struct sp_sandbox_program *programs, size_t count)
{
	struct sp_err err;

	if (sp_sandbox_run(programs, count, 0, &limits, NULL, NULL, &err) != SP_OK)
		fail_msg("%s", err.msg);
}

static void
expect(
    const char *completion, const char *test, enum sp_verdict_outcome outcome, const char *detail)
{
	struct sp_sandbox_program p = program(completion, test);

	run(&p, 1);
	if (p.outcome != outcome || (detail && strcmp(p.detail, detail) != 0))
		fail_msg("%s\n-> %s (%s)", completion, sp_verdict_word(p.outcome), p.detail);
}

static void
the_sandbox_holds(void **state)
{
	struct sp_err err;

	use(state);
	if (sp_sandbox_check(&limits, &err) != SP_OK)
		fail_msg("%s", err.msg);
}

static void
right_and_wrong(void **state)
{
	use(state);
	expect("    return x + 1\n", CHECK, SP_VERDICT_PASSED, "");
	expect("    return x + 2\n", CHECK, SP_VERDICT_WRONG, "AssertionError");
	expect("    return y\n", CHECK, SP_VERDICT_WRONG, "NameError");
	expect("    return x +\n", CHECK, SP_VERDICT_WRONG, "SyntaxError");
	expect("    \"\"\"\n", CHECK, SP_VERDICT_WRONG, NULL);
	expect("", CHECK, SP_VERDICT_WRONG, "AssertionError"); /* the docstring alone is a body */
	expect("    import sys\n    sys.setrecursionlimit(10**9)\n    return f(x)\n", CHECK,
	    SP_VERDICT_DIED, "exited");
}

/* What a program may try to be believed without an answer. */
static void
forgeries(void **state)
{
	static const char *const tries[] = {
	    /* leaves before the tests, with the status of success */
	    "    import os\n    os._exit(0)\n",
	    "    pass\nimport os\nos._exit(0)\n",
	    "    raise SystemExit(0)\n",
	    /* says so itself */
	    "    print('nonce ' + '0' * 32)\n    return 0\n",
	    "    import os\n    for fd in range(64):\n        try: os.write(fd, b'ready\\nnonce "
	    "\\n')\n"
	    "        except OSError: pass\n    os._exit(0)\n",
	    /* answers by itself, ahead of the question */
	    "    pass\nimport os\nos.write(4, b'{\"ok\": true}\\n{\"ok\": true}\\n{\"ok\": "
	    "true}\\n')\n"
	    "os._exit(0)\n",
	    "    return x + 1\nimport os\nos.write(4, b'{\"pass\": 1}\\n')\n",
	    "    return x + 1\nimport os\nos.write(4, b'garbage\\n')\n",
	    /* returns what equals everything */
	    "    class E:\n        __eq__ = lambda *a: True\n    return E()\n",
	    "    class E(int):\n        __eq__ = lambda *a: True\n    return E(7)\n",
	    "    class E(list):\n        __eq__ = lambda *a: True\n    return E()\n",
	    /* changes the interpreter's own words */
	    "    import builtins\n    builtins.AssertionError = ValueError\n    return 0\n",
	    "    import json\n    json.dumps = lambda v: '{\"ok\": {\"pass\": 1}}'\n    return 0\n",
	    "    pass\ncheck = lambda c: None\n",
	    "    pass\nclass f:\n    __new__ = lambda *a: 2\n",
	    /* looks for the nonce and the expected values where they would be */
	    "    import gc, sys\n    s = [o for o in gc.get_objects() if isinstance(o, dict) and "
	    "'nonce' in o]\n"
	    "    return -4 if s or 'task' in sys._getframe(1).f_globals else 0\n",
	    "    import os\n    return os.pread(0, 99999, 0) and 0\n",
	};
	struct sp_sandbox_program p[sizeof(tries) / sizeof(tries[0])];
	size_t i;

	use(state);
	for (i = 0; i < sizeof(p) / sizeof(p[0]); i++)
		p[i] = program(tries[i], CHECK);
	run(p, i);
	for (i = 0; i < sizeof(p) / sizeof(p[0]); i++)
		if (p[i].outcome == SP_VERDICT_PASSED || p[i].outcome == SP_VERDICT_UNKNOWN)
			fail_msg("%s\n-> %s", tries[i], sp_verdict_word(p[i].outcome));
}

/* What a program may raise or return to lead the tests past their assertions. */
static void
tests_are_not_led_past(void **state)
{
	static const char loop[] =
	    "def check(f):\n    for got, want in zip(map(f, [1, 2]), [2, 3]):\n"
	    "        assert got == want\n";
	static const char twice[] = "def check(f):\n    assert f(f(1)) == 3\n";

	use(state);
	expect("    return x + 1\n", loop, SP_VERDICT_PASSED, "");
	/* out of a function that map calls it would end the loop, as if all had been compared */
	expect("    raise StopIteration\n", loop, SP_VERDICT_WRONG, "RuntimeError");
	expect("    return x + 1\n", twice, SP_VERDICT_PASSED, "");
	/* the program is at fault here, not the data set: that would be an error and no verdict */
	expect("    return object()\n", twice, SP_VERDICT_WRONG, "TypeError");
	expect("    return [{0: object()}]\n", twice, SP_VERDICT_WRONG, "TypeError");
}

/* The body answers with the exception's name; the test wants that very one. */
#define TRY(statement)                                                                        \
	"    import os, socket, ctypes\n    try:\n        " statement                         \
	"\n    except Exception as e: return [type(e).__name__, getattr(e, 'errno', None)]\n" \
	"    return 'allowed'\n"
#define REFUSED(name, number) \
	"def check(f):\n    r = f(1)\n    assert r == ['" name "', " number "], r\n"
#define EPERM_IT REFUSED("PermissionError", "1")
#define EACCES_IT REFUSED("PermissionError", "13")
#define EROFS_IT REFUSED("OSError", "30")
#define ENOENT_IT REFUSED("FileNotFoundError", "2")
/* By number, through the C library: what comes back as -1 raises. */
#define CALL(call)                                                                        \
	TRY("ctypes.CDLL(None, use_errno=True)." call " == -1 and (_ for _ in ()).throw(" \
	    "OSError(ctypes.get_errno(), ''))")

struct refusal {
	const char *body, *bwrap, *landlock; /* NULL: as with bubblewrap */
};

static void
refusals(void **state)
{
	static const struct refusal cases[] = {
	    {TRY("socket.socket()"), EPERM_IT, NULL},
	    {TRY("socket.create_connection(('127.0.0.1', 80))"), EPERM_IT, NULL},
	    {TRY("socket.socketpair()"), EPERM_IT, NULL},
	    {TRY("open('/usr/lib/x', 'w')"), EROFS_IT, EACCES_IT},
	    {TRY("open('/x', 'w')"), EROFS_IT, EACCES_IT},
	    {TRY("os.mkdir('/home/x')"), ENOENT_IT, EACCES_IT},
	    {TRY("open('/etc/passwd')"), ENOENT_IT, EACCES_IT},
	    {TRY("open('/proc/self/maps')"), ENOENT_IT, EACCES_IT},
	    {TRY("os.listdir('/dev')"), ENOENT_IT, EACCES_IT},
	    {TRY("os.open('/usr/bin/python3', os.O_RDONLY | os.O_TRUNC)"), EPERM_IT, NULL},
	    {TRY("os.fork()"), EPERM_IT, NULL},
	    {TRY("os.posix_spawn('/bin/true', ['true'], {})"), EPERM_IT, NULL},
	    {TRY("os.chroot('/tmp')"), EPERM_IT, NULL},
	    {TRY("os.setuid(0)"), EPERM_IT, NULL},
	    {TRY("os.kill(os.getppid(), 0)"), EPERM_IT, NULL},
	    {TRY("import fcntl; fcntl.fcntl(3, fcntl.F_SETOWN, os.getppid())"), EPERM_IT, NULL},
	    {TRY("import resource; resource.prlimit(os.getppid() or 1, resource.RLIMIT_CORE)"),
		EPERM_IT, NULL},
	    {TRY("os.link('/usr/bin/python3', '/tmp/sallyport-x')"), EPERM_IT, NULL},
	    {TRY("os.mkfifo('/tmp/sallyport-x')"), EPERM_IT, NULL},
	    {TRY("open('/tmp/sallyport-x', 'wb').write(bytes(9 << 20))"), REFUSED("OSError", "27"),
		EACCES_IT},
	    {CALL("unshare(0x10000000)"), EPERM_IT, NULL},
	    {CALL("ptrace(16, 1, 0, 0)"), EPERM_IT, NULL},
	    {CALL("memfd_create(b'x', 0)"), EPERM_IT, NULL},
	    {TRY("import threading; threading.Thread(target=print).start()"),
		REFUSED("RuntimeError", "None"), NULL},
	    /* what a program may do */
	    {TRY("open('/tmp/sallyport-x', 'w').write('1'); return "
		 "open('/tmp/sallyport-x').read()"),
		"def check(f):\n    assert f(1) == '1'\n", EACCES_IT},
	    {TRY("import math, re, collections, datetime, hashlib, random; return math.floor(2.5)"),
		"def check(f):\n    assert f(1) == 2\n", NULL},
	};
	struct sp_sandbox_program p[sizeof(cases) / sizeof(cases[0])];
	size_t i;

	use(state);
	for (i = 0; i < sizeof(p) / sizeof(p[0]); i++)
		p[i] = program(cases[i].body,
		    landlock() && cases[i].landlock ? cases[i].landlock : cases[i].bwrap);
	run(p, i);
	for (i = 0; i < sizeof(p) / sizeof(p[0]); i++)
		if (p[i].outcome != SP_VERDICT_PASSED)
			fail_msg("%s\n-> %s (%s)", cases[i].body, sp_verdict_word(p[i].outcome),
			    p[i].detail);
}

static size_t
processes(void)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	size_t n = 0;

	assert_non_null(proc);
	while ((entry = readdir(proc)) != NULL)
		n += entry->d_name[0] >= '1' && entry->d_name[0] <= '9';
	closedir(proc);
	return n;
}

/* Bombs end, the machine and the other programs live on, and no child is left behind. */
static void
bombs(void **state)
{
	struct sp_sandbox_program p[] = {
	    program("    import os\n    while True:\n        try: os.fork()\n"
		    "        except OSError: pass\n",
		CHECK),
	    program("    a = []\n    while True: a.append(bytearray(1 << 20))\n", CHECK),
	    program("    return bytearray(1 << 40)\n", CHECK),
	    program("    while True: pass\n", CHECK),
	    program("    while True: print('x' * 65536, flush=True)\n", CHECK),
	    program("    import os\n    while True: os.write(4, b'x' * 65536)\n", CHECK),
	    program("    import os\n    while True: os.write(4, b'{\"ok\": 1}\\n')\n", CHECK),
	    program("    return 'x' * (100 << 20)\n", CHECK),
	    program("    a = []\n    for i in range(200000): a = [a]\n    return a\n", CHECK),
	    program("    def g():\n        while True: yield 1\n    return g()\n", CHECK),
	    program("    import signal, os\n    [signal.signal(s, signal.SIG_IGN) for s in "
		    "(1, 2, 3, 15, 24)]\n    while True: pass\n",
		CHECK),
	    program("    return x + 1\n", CHECK),
	};
	size_t i, count = sizeof(p) / sizeof(p[0]), before = processes(), after;

	use(state);
	run(p, count);
	for (i = 0; i + 1 < count; i++)
		if (p[i].outcome == SP_VERDICT_PASSED || p[i].outcome == SP_VERDICT_UNKNOWN)
			fail_msg("%s\n-> %s", p[i].completion, sp_verdict_word(p[i].outcome));
	assert_int_equal(p[3].outcome, SP_VERDICT_DIED); /* CPU time */
	assert_string_equal(p[1].detail, "MemoryError");
	assert_int_equal(p[count - 1].outcome, SP_VERDICT_PASSED);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	after = processes();
	/* other tests run beside this one, so only a leak of the fork bomb's size would tell */
	assert_true(after < before + 100);
}

static void
wall_clock(void **state)
{
	static const char *const waits[] = {"    import time\n    time.sleep(1000)\n",
	    "    import os\n    os.read(3, 1)\n    os.read(3, 1)\n", /* for a request that never
									comes */
	    "    pass\nimport time\ntime.sleep(1000)\n"};
	struct sp_sandbox_limits brief;
	struct sp_sandbox_program p[3];
	struct sp_err err;
	size_t i;

	use(state);
	brief = limits;
	brief.wall_ms = 1000;
	for (i = 0; i < 3; i++)
		p[i] = program(waits[i], CHECK);
	if (sp_sandbox_run(p, 3, 3, &brief, NULL, NULL, &err) != SP_OK)
		fail_msg("%s", err.msg);
	for (i = 0; i < 3; i++)
		assert_int_equal(p[i].outcome, SP_VERDICT_TIMEOUT);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

/* Every kind of plain data arrives as what it was; arguments too. */
static void
values_cross(void **state)
{
	static const char body[] = "    return x\n";
	static const char test[] =
	    "def check(f):\n"
	    "    import math\n"
	    "    for v in [None, True, False, 0, -1, 10**300, 1.5, -0.0, 1e-310, math.inf, '', "
	    "'a\\n',\n"
	    "            '\\ud800\\0\\U0001f40d', b'\\0\\xff', 1+2j, [], [1, [2.0, 'x']], (), (1, "
	    "(2,)),\n"
	    "            {1, 'a'}, frozenset({(1, 2)}), {1: 'a', (1, 2): [3]}, {}, range(3, 9, "
	    "2)]:\n"
	    "        r = f(v)\n"
	    "        assert r == v and type(r) is type(v), (r, v)\n"
	    "    assert math.isnan(f(math.nan)) and math.copysign(1, f(-0.0)) == -1\n"
	    "    assert f(x=3) == 3\n"
	    "    assert list(f(iter([1, 2]))) == [1, 2]\n"
	    "    assert f([1]) != (1,) and f(1) is not True\n";

	use(state);
	expect(body, test, SP_VERDICT_PASSED, "");
	expect("    yield 1\n    yield 2\n", "def check(f):\n    assert list(f(0)) == [1, 2]\n",
	    SP_VERDICT_PASSED, "");
	expect("    return {x: 1}.keys()\n", "def check(f):\n    assert list(f(0)) == [0]\n",
	    SP_VERDICT_PASSED, "");
	expect("    return object()\n", "def check(f):\n    assert f(0) == f(0)\n",
	    SP_VERDICT_WRONG, "AssertionError");
	/* an exception of the program arrives as one of the same type */
	expect("    raise KeyError(x)\n",
	    "def check(f):\n    try: f(1)\n    except KeyError: return\n    assert False\n",
	    SP_VERDICT_PASSED, "");
	/* the tests call the function by its own name too (HumanEval/33) */
	expect("    return x\n", "def check(c):\n    assert f(1) == c(1)\n", SP_VERDICT_PASSED, "");
}

/* Sets of strings iterate in the same order in every run. */
static void
runs_repeat(void **state)
{
	static const char body[] = "    return hash('sallyport')\n";
	struct sp_sandbox_program p = program(body, "def check(f):\n    assert f(0) == 7\n");

	use(state);
	run(&p, 1);
	assert_int_equal(p.outcome, SP_VERDICT_WRONG);
	expect(
	    body, "def check(f):\n    assert f(0) == hash('sallyport')\n", SP_VERDICT_PASSED, "");
}

static void
broken_tasks_are_errors(void **state)
{
	static const struct {
		const char *prompt, *test, *message;
	} cases[] = {
	    {"def f(x:\n", CHECK, "the prompt raises SyntaxError"},
	    {PROMPT "    1 / 0\n1 / 0\n", CHECK, "the prompt raises ZeroDivisionError"},
	    {PROMPT, "def check(c:\n", "the test raises SyntaxError"},
	    {PROMPT, "pass\n", "defines no check"},
	    {PROMPT, "def check(c):\n    c(object())\n", "argument of the test is no plain data"},
	};
	size_t i;

	use(state);
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct sp_sandbox_program p = program("    return x + 1\n", cases[i].test);
		struct sp_err err;

		p.prompt = cases[i].prompt;
		assert_int_equal(sp_sandbox_run(&p, 1, 1, &limits, NULL, NULL, &err), SP_E_INVALID);
		if (!strstr(err.msg, cases[i].message) || !strstr(err.msg, "T/0"))
			fail_msg("\"%s\" lacks \"%s\"", err.msg, cases[i].message);
		assert_int_not_equal(p.outcome, SP_VERDICT_PASSED);
	}
}

/* No sandbox, no verdict: too little memory for bwrap and Python stands for any failed set-up. */
static void
set_up_fails_closed(void **state)
{
	struct sp_sandbox_limits tight;
	struct sp_sandbox_program p = program("    return x + 1\n", CHECK);
	struct sp_err err;

	use(state);
	tight = limits;
	tight.memory_mib = 1;
	assert_int_equal(sp_sandbox_run(&p, 1, 1, &tight, NULL, NULL, &err), SP_E_IO);
	assert_non_null(strstr(err.msg, "no program was judged"));
	assert_int_not_equal(p.outcome, SP_VERDICT_PASSED);
	assert_int_equal(sp_sandbox_check(&tight, &err), SP_E_IO);
	tight = limits;
	tight.start_ms = 0;
	assert_int_equal(sp_sandbox_run(&p, 1, 1, &tight, NULL, NULL, &err), SP_E_IO);
	assert_non_null(strstr(err.msg, "took too long to start"));
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

static size_t counted;

static void
count(void *ctx, size_t done, size_t total)
{
	assert_ptr_equal(ctx, &counted);
	assert_int_equal(total, 7);
	assert_true(done >= counted && done <= total);
	counted = done;
}

static void
many_in_parallel(void **state)
{
	struct sp_sandbox_program p[7];
	struct sp_err err;
	unsigned parallel;
	size_t i;

	use(state);
	for (parallel = 1; parallel <= 8; parallel += 3) {
		for (i = 0; i < 7; i++)
			p[i] = program(i % 2 ? "    return x\n" : "    return x + 1\n", CHECK);
		counted = 0;
		if (sp_sandbox_run(p, 7, parallel, &limits, count, &counted, &err) != SP_OK)
			fail_msg("%s", err.msg);
		assert_int_equal(counted, 7);
		for (i = 0; i < 7; i++)
			assert_int_equal(
			    p[i].outcome, i % 2 ? SP_VERDICT_WRONG : SP_VERDICT_PASSED);
	}
	if (sp_sandbox_run(p, 0, 0, &limits, NULL, NULL, &err) != SP_OK)
		fail_msg("%s", err.msg);
}

/* Each test for either kind. */
#define FOR_BOTH(test)                                                            \
	{"bubblewrap: " #test, test, NULL, NULL, &kinds[SP_SANDBOX_BUBBLEWRAP]},  \
	{                                                                         \
		"landlock: " #test, test, NULL, NULL, &kinds[SP_SANDBOX_LANDLOCK] \
	}

int
main(void)
{
	static enum sp_sandbox_kind kinds[] = {SP_SANDBOX_BUBBLEWRAP, SP_SANDBOX_LANDLOCK};
	const struct CMUnitTest tests[] = {
	    FOR_BOTH(the_sandbox_holds),
	    FOR_BOTH(right_and_wrong),
	    FOR_BOTH(forgeries),
	    FOR_BOTH(tests_are_not_led_past),
	    FOR_BOTH(refusals),
	    FOR_BOTH(bombs),
	    FOR_BOTH(wall_clock),
	    FOR_BOTH(values_cross),
	    FOR_BOTH(runs_repeat),
	    FOR_BOTH(broken_tasks_are_errors),
	    FOR_BOTH(set_up_fails_closed),
	    FOR_BOTH(many_in_parallel),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
