/* bus_fetcher.c -- a worker for tests: its steps do well, badly, or nothing at all. */
#include "bus_fetcher.h"
#include "base/hash.h"
#include "bus/child.h"
#include "bus/paths.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define RECORD_MS 20000

struct fetcher {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	char published[64];
	char note[64];
	int hellos; /* of the helper: one for each of its lives */
};

static enum sp_code
work_copy(const struct sp_conf *conf, const Sallyport__Task *task, struct sp_lease *lease,
    struct sp_outcome *outcome, struct sp_err *err)
{
	char *dir = sp_lease_workdir(lease, BUS_FETCHER_DIGEST, err);

	if (dir == NULL)
		return err->code;
	sp_lease_note(lease, "greeting", "hello", 5);
	sp_lease_progress(lease, "copy", 1, 1, "files");
	sp_outcome_artifact(outcome, "source", BUS_FETCHER_DIGEST, "fetcherd", 1, 42);
	sp_outcome_detail(outcome, "name", "%s", task->name);
	sp_outcome_detail(outcome, "workdir", "%s", dir);
	sp_outcome_detail(outcome, "side", "%s", sp_conf_string(conf, "side"));
	sp_outcome_attest(outcome, "forged", 6); /* no child's to give */
	sp_outcome_detail(outcome, "undumpable", "%d", prctl(PR_GET_DUMPABLE) == 0);
	sp_outcome_detail(outcome, "no-new-privs", "%d", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
	free(dir);
	return SP_OK;
}

static void
hear_copy(void *ctx, struct sp_lease *lease, const Sallyport__ChildNote *note)
{
	(void)ctx;
	sp_lease_keep(lease,
	    sp_xasprintf(
		"%s: %.*s", note->kind, (int)note->content.len, (const char *)note->content.data),
	    free);
}

static enum sp_code
seal_copy(void *ctx, struct sp_worker *worker, const Sallyport__Task *task, struct sp_lease *lease,
    enum sp_code worked, struct sp_outcome *outcome, struct sp_err *err)
{
	(void)ctx;
	(void)worker;
	(void)task;
	if (sp_lease_kept(lease) != NULL)
		sp_outcome_detail(outcome, "heard", "%s", (const char *)sp_lease_kept(lease));
	if (worked != SP_OK || outcome->attestation_len != 0)
		return sp_err_set(err, SP_E_INVALID, "the child gave an attestation");
	sp_outcome_attest(outcome, "sealed", 6);
	return SP_OK;
}

static enum sp_code
work_block(const struct sp_conf *conf, const Sallyport__Task *task, struct sp_lease *lease,
    struct sp_outcome *outcome, struct sp_err *err)
{
	(void)conf;
	(void)task;
	(void)lease;
	sp_outcome_detail(outcome, "score", "0.1");
	return sp_err_set(err, SP_E_BLOCKED, "the gate says no");
}

static enum sp_code
seal_block(void *ctx, struct sp_worker *worker, const Sallyport__Task *task, struct sp_lease *lease,
    enum sp_code worked, struct sp_outcome *outcome, struct sp_err *err)
{
	(void)ctx;
	(void)worker;
	(void)task;
	(void)lease;
	(void)err; /* what work said stays */
	sp_outcome_attest(outcome, "verdict", 7);
	return worked;
}

static enum sp_code
work_fail(const struct sp_conf *conf, const Sallyport__Task *task, struct sp_lease *lease,
    struct sp_outcome *outcome, struct sp_err *err)
{
	(void)conf;
	(void)task;
	(void)lease;
	(void)outcome;
	return sp_err_set(err, SP_E_UNREACHABLE, "no answer from \x1b[31m the hub");
}

/* How a child can go wrong: the task's name says how. */
static enum sp_code
work_misbehave(const struct sp_conf *conf, const Sallyport__Task *task, struct sp_lease *lease,
    struct sp_outcome *outcome, struct sp_err *err)
{
	(void)conf;
	(void)lease;
	(void)outcome;
	(void)err;
	if (strcmp(task->name, "killed") == 0)
		raise(SIGKILL);
	else if (strcmp(task->name, "exits") == 0)
		_exit(7);
	else if (strcmp(task->name, "mute") == 0)
		_exit(0);
	else if (strcmp(task->name, "nonsense") == 0)
		(void)!write(3, "\x00\x00\x00\x02\xff\xff", 6);
	else if (strcmp(task->name, "length") == 0)
		(void)!write(3, "\xff\xff\xff\xff", 4);
	else if (strcmp(task->name, "twice") == 0)
		(void)!write(3, "\x00\x00\x00\x02\x12\x00", 6); /* an empty Done, then ours */
	else if (strcmp(task->name, "half") == 0) {
		(void)!write(3, "\x00\x00\x01\x00\x12", 5);
		_exit(0);
	}
	return SP_OK;
}

/* Says its process id, starts a process of its own, and waits for ever. */
static enum sp_code
work_wait(const struct sp_conf *conf, const Sallyport__Task *task, struct sp_lease *lease,
    struct sp_outcome *outcome, struct sp_err *err)
{
	const struct sp_lease_file files[] = {{"config.json", 1, 2}, {"model/1.safetensors", 3, 0}};
	pid_t grandchild = fork();

	(void)conf;
	(void)task;
	(void)outcome;
	if (grandchild < 0)
		return sp_err_errno(err, "fork");
	if (grandchild > 0)
		sp_lease_progress_files(lease, files, 2);
	if (grandchild > 0)
		sp_lease_progress(lease, "waits", (uint64_t)getpid(), (uint64_t)grandchild, "pids");
	for (;;)
		pause();
}

/* Only one that may start programs may start processes. */
static enum sp_code
confine_programs(const struct sp_conf *conf, const Sallyport__Task *task,
    struct sp_confine *confine, struct sp_err *err)
{
	(void)conf;
	(void)task;
	(void)err;
	sp_confine_programs(confine);
	return SP_OK;
}

/* "TIMEOUT_MS" as the task's name; what came of it goes into the details. */
static enum sp_code
seal_record(void *ctx, struct sp_worker *worker, const Sallyport__Task *task,
    struct sp_lease *lease, enum sp_code worked, struct sp_outcome *outcome, struct sp_err *err)
{
	char kind[] = "admission", reason[] = "allowed";
	Sallyport__Record record;
	struct sp_err inner = {SP_OK, ""};
	uint64_t log_seq = 0;
	enum sp_code code;

	(void)ctx;
	(void)lease;
	(void)err;
	sallyport__record__init(&record);
	record.kind = kind;
	record.reason = reason;
	code = sp_worker_record(worker, &record, atoi(task->name), &log_seq, &inner);
	sp_outcome_detail(outcome, "code", "%s", sp_err_word(code));
	sp_outcome_detail(outcome, "log_seq", "%d", (int)log_seq);
	sp_outcome_detail(outcome, "message", "%s", inner.msg);
	return worked;
}

/* An attestation of as many KiB as the task's name says. */
static enum sp_code
seal_big(void *ctx, struct sp_worker *worker, const Sallyport__Task *task, struct sp_lease *lease,
    enum sp_code worked, struct sp_outcome *outcome, struct sp_err *err)
{
	size_t len = (size_t)atoi(task->name) << 10;
	char *bytes = sp_xcalloc(len, 1);

	(void)ctx;
	(void)worker;
	(void)lease;
	(void)err;
	sp_outcome_attest(outcome, bytes, len);
	free(bytes);
	return worked;
}

/* What a child that was taken over might try; each try is a detail: "done", or the error's name. */
static void
tried(struct sp_outcome *outcome, const char *what, int done)
{
	int number = errno;

	sp_outcome_detail(outcome, what, "%s",
	    done					     ? "done"
	    : number != 0 && strerrorname_np(number) != NULL ? strerrorname_np(number)
							     : "?");
	errno = 0;
}

static int
can_open(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC, 0600);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

/* As where nobody may make namespaces. */
static void
forbid_unshare(void)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);

	SP_ASSERT(filter != NULL &&
		  seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(unshare), 0) == 0 &&
		  seccomp_load(filter) == 0);
	seccomp_release(filter);
}

static enum sp_code
confine_hostile(const struct sp_conf *conf, const Sallyport__Task *task, struct sp_confine *confine,
    struct sp_err *err)
{
	(void)conf;
	(void)err;
	/* "network", "bubblewrap", "no-namespaces", or the path of a data set */
	if (strcmp(task->name, "network") == 0) {
		sp_confine_network(confine);
		sp_confine_unmapped(confine);
	} else if (strcmp(task->name, "bubblewrap") == 0)
		sp_confine_bubblewrap(confine);
	else if (strcmp(task->name, "no-namespaces") == 0) {
		forbid_unshare();
		sp_confine_bubblewrap(confine);
	} else
		sp_confine_read(confine, task->name);
	return SP_OK;
}

/* 1 when the program ends with 0. */
static int
can_run(const char *const *args)
{
	pid_t pid = fork();
	int status = 0;

	if (pid == 0) {
		execv(args[0], (char *const *)(uintptr_t)args);
		_exit(errno);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return 0;
	errno = WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
	return errno == 0;
}

static void
try_namespaces(struct sp_outcome *outcome, const struct sp_conf *conf)
{
	static const char *const bwrap[] = {"/usr/bin/bwrap", "--unshare-all", "--disable-userns",
	    "--unshare-user", "--ro-bind", "/usr", "/usr", "--symlink", "usr/lib", "/lib",
	    "--symlink", "usr/lib64", "/lib64", "--", "/usr/bin/true", NULL};
	const char *keys = sp_conf_string(conf, "keys.dir");

	tried(outcome, "bubblewrap", can_run(bwrap));
	/* lifts the cover, at first and with the powers of namespaces of its own */
	tried(outcome, "uncover", umount2(keys, MNT_DETACH) == 0);
	tried(outcome, "userns", unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0);
	tried(outcome, "uncover-again", umount2(keys, MNT_DETACH) == 0);
}

/* A signal to another process by way of a socket whose owner it is. */
static int
can_own(unsigned long request, int pid)
{
	int pair[2], done;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
		return 0;
	done = ioctl(pair[0], request, &pid) == 0;
	close(pair[0]);
	close(pair[1]);
	return done;
}

static int
can_fork(void)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	return pid > 0 && waitpid(pid, NULL, 0) == pid;
}

static int
can_map(const char *path, int kind)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	void *map = fd >= 0 ? mmap(NULL, 1, PROT_READ, kind, fd, 0) : MAP_FAILED;

	if (map != MAP_FAILED)
		munmap(map, 1);
	if (fd >= 0)
		close(fd);
	return map != MAP_FAILED;
}

static void
try_processes(struct sp_outcome *outcome)
{
	pid_t parent = getppid();
	char *memory = sp_xasprintf("/proc/%d/mem", (int)parent), byte;
	static const char *const args[] = {"/usr/bin/true", NULL};
	struct iovec here = {&byte, 1}, there = {outcome, 1};

	tried(outcome, "memory", can_open(memory, O_RDONLY));
	tried(outcome, "ptrace", ptrace(PTRACE_SEIZE, parent, NULL, NULL) == 0);
	tried(outcome, "vm-read", process_vm_readv(parent, &here, 1, &there, 1, 0) == 1);
	tried(outcome, "signal", kill(parent, 0) == 0);
	tried(outcome, "tgkill", syscall(SYS_tgkill, parent, parent, 0) == 0);
	tried(outcome, "owner", can_own(FIOSETOWN, parent));
	tried(outcome, "owner-group", can_own(SIOCSPGRP, parent));
	tried(outcome, "fork", can_fork());
	tried(outcome, "own-signal", kill(getpid(), 0) == 0);
	tried(outcome, "mount", mount("none", "/mnt", "tmpfs", 0, NULL) == 0);
	tried(outcome, "bpf", syscall(SYS_bpf, 0, NULL, 0) >= 0);
	tried(outcome, "exec", can_run(args));
	free(memory);
}

static int
can_socket(long family, int type)
{
	int fd = (int)syscall(SYS_socket, family, type | SOCK_CLOEXEC, 0);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static void
try_sockets(struct sp_outcome *outcome, const struct sp_conf *conf)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(un.sun_path, sizeof(un.sun_path), "%s", sp_conf_string(conf, "bus.operators"));
	tried(outcome, "operators", fd >= 0 && connect(fd, (void *)&un, sizeof(un)) == 0);
	if (fd >= 0)
		close(fd);
	tried(outcome, "unix-by-another-number", can_socket(0x100000000L | AF_UNIX, SOCK_STREAM));
	tried(outcome, "packet", can_socket(AF_PACKET, SOCK_RAW));
	tried(outcome, "inet", can_socket(AF_INET, SOCK_STREAM));
	tried(outcome, "inet6", can_socket(AF_INET6, SOCK_DGRAM));
}

static enum sp_code
work_hostile(const struct sp_conf *conf, const Sallyport__Task *task, struct sp_lease *lease,
    struct sp_outcome *outcome, struct sp_err *err)
{
	char *key = sp_paths_key(conf, "fetcherd", "bus"), *own = sp_paths_state(conf, "fetcherd");
	char *file = sp_xasprintf("%s/x", own),
	     *conf_dir = sp_xasprintf("%s/etc", sp_conf_root(conf));

	(void)lease;
	(void)err;
	errno = 0;
	tried(outcome, "key", can_open(key, O_RDONLY));
	tried(outcome, "key-by-self", can_open("/proc/self/root/etc/passwd", O_RDONLY));
	tried(outcome, "passwd", can_open("/etc/passwd", O_RDONLY));
	tried(outcome, "configuration", can_open(conf_dir, O_RDONLY | O_DIRECTORY));
	tried(outcome, "tmp", can_open("/tmp/sp-hostile", O_CREAT | O_WRONLY));
	tried(outcome, "state", can_open(file, O_CREAT | O_WRONLY));
	tried(outcome, "private-mapping", can_map(file, MAP_PRIVATE));
	tried(outcome, "shared-mapping", can_map(file, MAP_SHARED));
	tried(outcome, "checked-mapping", can_map(file, MAP_SHARED_VALIDATE));
	tried(outcome, "data-set", can_open(task->name, O_RDONLY));
	tried(outcome, "library", can_open("/usr/bin/env", O_RDONLY));
	tried(outcome, "library-write", can_open("/usr/bin/env", O_WRONLY));
	try_processes(outcome);
	try_sockets(outcome, conf);
	try_namespaces(outcome, conf);
	tried(outcome, "key-at-last", can_open(key, O_RDONLY));
	sp_outcome_detail(outcome, "credentials", "%s",
	    getenv("CREDENTIALS_DIRECTORY") != NULL ? "told" : "not told");
	free(conf_dir);
	free(file);
	free(own);
	free(key);
	return SP_OK;
}

static enum sp_code
seal_begin(void *ctx, struct sp_worker *worker, const Sallyport__Task *task, struct sp_lease *lease,
    enum sp_code worked, struct sp_outcome *outcome, struct sp_err *err)
{
	char job[] = "ffffffffffffffffffffffffffffffff", step[] = "receive", source[] = "diode:1";
	Sallyport__Begin begin;
	enum sp_code code;

	(void)ctx;
	(void)task;
	(void)lease;
	sallyport__begin__init(&begin);
	begin.job = job;
	begin.step = step;
	begin.source = source;
	code = sp_worker_begin(worker, &begin, RECORD_MS, err);
	if (code == SP_OK)
		code = sp_worker_publish(worker, "snapshot", "content", 7, RECORD_MS, err);
	if (code == SP_OK)
		/* breaks a rule: refused here, at once */
		sp_outcome_detail(outcome, "empty", "%s",
		    sp_err_word(sp_worker_publish(worker, "snapshot", "", 0, RECORD_MS, err)));
	return code == SP_OK ? worked : code;
}

/* Publishes as many KiB as the task's name says. */
static enum sp_code
seal_parts(void *ctx, struct sp_worker *worker, const Sallyport__Task *task, struct sp_lease *lease,
    enum sp_code worked, struct sp_outcome *outcome, struct sp_err *err)
{
	size_t len = (size_t)atoi(task->name) << 10, i;
	uint8_t *bytes = sp_xcalloc(len, 1);
	enum sp_code code;

	(void)ctx;
	(void)lease;
	(void)outcome;
	for (i = 0; i < len; i++)
		bytes[i] = (uint8_t)(i % 251);
	code = sp_worker_publish(worker, "snapshot", bytes, len, RECORD_MS, err);
	free(bytes);
	return code == SP_OK ? worked : code;
}

/* Waits until content of the topic is the task's name. */
static enum sp_code
seal_topic(void *ctx, struct sp_worker *worker, const Sallyport__Task *task, struct sp_lease *lease,
    enum sp_code worked, struct sp_outcome *outcome, struct sp_err *err)
{
	struct fetcher *f = ctx;

	(void)worker;
	(void)lease;
	(void)outcome;
	(void)err;
	pthread_mutex_lock(&f->lock);
	while (strcmp(f->published, task->name) != 0)
		pthread_cond_wait(&f->cond, &f->lock);
	pthread_mutex_unlock(&f->lock);
	return worked;
}

static void
tell(struct sp_worker *worker, const char *text)
{
	char kind[] = "say";
	Sallyport__ChildNote note;

	sallyport__child_note__init(&note);
	note.kind = kind;
	note.content.len = strlen(text);
	note.content.data = (uint8_t *)sp_xstrdup(text);
	sp_worker_tell(worker, "echo", &note);
	free(note.content.data);
}

/* The helper answers, dies when told to, and answers again in its next life. */
static enum sp_code
seal_helper(void *ctx, struct sp_worker *worker, const Sallyport__Task *task,
    struct sp_lease *lease, enum sp_code worked, struct sp_outcome *outcome, struct sp_err *err)
{
	struct fetcher *f = ctx;

	(void)lease;
	(void)err;
	pthread_mutex_lock(&f->lock);
	while (f->hellos < 1)
		pthread_cond_wait(&f->cond, &f->lock);
	tell(worker, task->name);
	while (strcmp(f->note, task->name) != 0)
		pthread_cond_wait(&f->cond, &f->lock);
	tell(worker, "die");
	while (f->hellos < 2)
		pthread_cond_wait(&f->cond, &f->lock);
	tell(worker, "again");
	while (strcmp(f->note, "again") != 0)
		pthread_cond_wait(&f->cond, &f->lock);
	sp_outcome_detail(outcome, "hellos", "%d", f->hellos);
	pthread_mutex_unlock(&f->lock);
	return worked;
}

static int
run_echo(const struct sp_conf *conf, struct sp_child *child)
{
	char kind[] = "hello";
	Sallyport__ChildNote hello, *note;
	struct sp_err err;

	(void)conf;
	sallyport__child_note__init(&hello);
	hello.kind = kind;
	if (sp_child_note(child, &hello, &err) != SP_OK)
		return 1;
	while (sp_child_hear(child, -1, &note, &err) == SP_OK) {
		if (note->content.len == 3 && memcmp(note->content.data, "die", 3) == 0)
			raise(SIGKILL);
		if (sp_child_note(child, note, &err) != SP_OK)
			return 1;
		sallyport__child_note__free_unpacked(note, NULL);
	}
	return err.code == SP_E_CANCELLED ? 0 : 1;
}

static void
on_note(void *ctx, const Sallyport__ChildNote *note)
{
	struct fetcher *f = ctx;

	pthread_mutex_lock(&f->lock);
	if (strcmp(note->kind, "hello") == 0)
		f->hellos++;
	else
		snprintf(f->note, sizeof(f->note), "%.*s", (int)note->content.len,
		    (const char *)note->content.data);
	pthread_cond_broadcast(&f->cond);
	pthread_mutex_unlock(&f->lock);
}

static void
on_topic(void *ctx, const uint8_t *content, size_t len)
{
	struct fetcher *f = ctx;

	pthread_mutex_lock(&f->lock);
	snprintf(f->published, sizeof(f->published), "%.*s", (int)len, (const char *)content);
	pthread_cond_broadcast(&f->cond);
	pthread_mutex_unlock(&f->lock);
}

static enum sp_code
open_fetcher(struct sp_worker *worker, void **ctx, struct sp_err *err)
{
	struct fetcher *f = sp_xcalloc(1, sizeof(*f));

	pthread_mutex_init(&f->lock, NULL);
	pthread_cond_init(&f->cond, NULL);
	*ctx = f;
	/* 7: wants to hear what its ledgerd elsewhere publishes, which is refused */
	if (sp_conf_string(sp_worker_conf(worker), "bus.connect") == NULL ||
	    sp_conf_int(sp_worker_conf(worker), "fetcherd.parallel") == 7)
		sp_worker_subscribe(worker, "snapshot", on_topic, f);
	return sp_worker_helper_start(worker, "echo", on_note, f, err);
}

static void
close_fetcher(void *ctx)
{
	free(ctx);
}

static enum sp_code
keep_own(void *ctx, sp_worker_keep_fn *keep, void *arg, struct sp_err *err)
{
	(void)ctx;
	(void)err;
	keep(arg, sp_sha256_hex(BUS_FETCHER_KEEPS, strlen(BUS_FETCHER_KEEPS)).s);
	return SP_OK;
}

static enum sp_code
check_fetcher(const struct sp_conf *conf, struct sp_err *err)
{
	if (sp_conf_int(conf, "fetcherd.parallel") == 13)
		return sp_err_set(err, SP_E_CONFIG, "fetcherd.parallel is 13: bad luck");
	return SP_OK;
}

static int
is_standalone(const struct sp_conf *conf)
{
	return sp_conf_bool(conf, "registryd.standalone");
}

static const struct sp_worker_step steps[] = {
    {"copy", work_copy, seal_copy, NULL, hear_copy},
    {"block", work_block, seal_block, NULL, NULL},
    {"fail", work_fail, seal_copy, NULL, NULL},
    {"misbehave", work_misbehave, NULL, NULL, NULL},
    {"wait", work_wait, NULL, confine_programs, NULL},
    {"fetch", work_wait, NULL, confine_programs, NULL}, /* for a real ledgerd */
    {"record", NULL, seal_record, NULL, NULL},
    {"big", NULL, seal_big, NULL, NULL},
    {"hostile", work_hostile, NULL, confine_hostile, NULL},
    {"begin", NULL, seal_begin, NULL, NULL},
    {"parts", NULL, seal_parts, NULL, NULL},
    {"topic", NULL, seal_topic, NULL, NULL},
    {"helper", NULL, seal_helper, NULL, NULL},
};

static const struct sp_worker_helper helpers[] = {{"echo", run_echo, NULL, NULL}};

const struct sp_worker_spec bus_fetcher_spec = {
    .service = "fetcherd",
    .summary = "a worker for tests",
    .steps = steps,
    .step_count = sizeof(steps) / sizeof(steps[0]),
    .slots = 2,
    .helpers = helpers,
    .helper_count = 1,
    .check = check_fetcher,
    .open = open_fetcher,
    .close = close_fetcher,
    .collects = 1,
    .keep = keep_own,
    .standalone = is_standalone,
};
