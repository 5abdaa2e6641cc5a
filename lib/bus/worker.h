/*
 * worker.h -- what the seven worker daemons share: command line, bus connection, leases, children.
 *
 * A daemon describes its steps in a struct sp_worker_spec and its main() is sp_worker_main(). A
 * step has two halves. `work` runs in a child process (the daemon's own program started anew) that
 * has neither role key nor bus connection and is confined (bus/confine.h): it may parse what comes
 * from outside. `seal` runs afterwards on a thread of the daemon: it checks what came back and
 * signs. Either may be NULL.
 */
#ifndef SP_WORKER_H
#define SP_WORKER_H

#include "base/conf.h"
#include "bus.pb-c.h"
#include "bus/confine.h"
#include "bus/outcome.h"
#include "release/trust.h"

#include <uv.h>

struct sp_worker;
struct sp_child; /* bus/child.h */

/* The lease that a step runs under, in either half. */
struct sp_lease;
/* Thread-safe and cheap (rate-limited inside): call as often as is natural. unit: "bytes", … */
void sp_lease_progress(
    struct sp_lease *lease, const char *phase, uint64_t done, uint64_t total, const char *unit);
/* The files in hand, for who watches: replaces those named before. They go with the reports of
 * sp_lease_progress from the next one on (so call this first; it sends nothing itself) and are
 * forgotten with the phase that they were reported in. Copied. Left out: what is no path of a tree,
 * and what is too much for a report (16 files, 4 KiB of paths). count 0: none. */
struct sp_lease_file {
	const char *path;
	uint64_t done, total; /* bytes; total 0: not known */
};
void
sp_lease_progress_files(struct sp_lease *lease, const struct sp_lease_file *files, size_t count);
/* Child only: a note to the step's hear; thread-safe. A hint, not a message: it may be lost. */
void sp_lease_note(struct sp_lease *lease, const char *kind, const void *content, size_t len);
/* Daemon only: what hear and seal share about the lease; end(data) is called when the lease is
 * forgotten, or other data (NULL: none) take its place. It must not wait for long. */
void sp_lease_keep(struct sp_lease *lease, void *data, void (*end)(void *data));
void *sp_lease_kept(const struct sp_lease *lease);
/* 1 when the lease was lost or cancelled: return SP_E_CANCELLED soon. (A child is simply killed.)
 */
int sp_lease_cancelled(const struct sp_lease *lease);
/* A private directory for this lease's inputs: STATE/DAEMON/work/KEY, made when missing, where key
 * names the step's inputs (hex digest, chosen by the step), so that a restarted worker goes on in
 * it. malloc'd. Removed by the step when its result is in the store. */
char *sp_lease_workdir(const struct sp_lease *lease, const char *key, struct sp_err *err);

/* Child process. Fills outcome; what it returns goes to seal when it is SP_OK or SP_E_BLOCKED, else
 * it is the step's failure. */
typedef enum sp_code sp_worker_work_fn(const struct sp_conf *conf, const Sallyport__Task *task,
    struct sp_lease *lease, struct sp_outcome *outcome, struct sp_err *err);

/* Daemon, on a thread of its own. worked: what work returned (SP_OK when there is none). outcome
 * holds what work left. ctx: from spec.open. The value returned is the step's result: SP_OK is
 * Done, everything else a Failure, which carries outcome's attestation, artifacts and details too.
 */
typedef enum sp_code
sp_worker_seal_fn(void *ctx, struct sp_worker *worker, const Sallyport__Task *task,
    struct sp_lease *lease, enum sp_code worked, struct sp_outcome *outcome, struct sp_err *err);

/* Daemon, on the loop, while work runs: what the child says by sp_lease_note. Anything may stand in
 * it, and as often as the child likes: it may have been taken over. */
typedef void sp_worker_hear_fn(void *ctx, struct sp_lease *lease, const Sallyport__ChildNote *note);

struct sp_worker_step {
	const char *name; /* "fetch" */
	sp_worker_work_fn *work;
	sp_worker_seal_fn *seal;
	sp_confine_fn *confine;	 /* what work may reach beside what every child may; may be NULL */
	sp_worker_hear_fn *hear; /* NULL: work says nothing */
};

/* A child that lives as long as the daemon (diode-rxd's receiver): started again when it dies. */
struct sp_worker_helper {
	const char *name;
	/* runs in the child until its input ends; returns the exit status */
	int (*run)(const struct sp_conf *conf, struct sp_child *child);
	sp_confine_fn *confine; /* as a step's */
	const char *key;	/* the one of the daemon's keys that it needs: "link"; or NULL */
};

/* One more blob that a daemon needs; arg as it was given. */
typedef void sp_worker_keep_fn(void *arg, const char *digest);

struct sp_worker_spec {
	const char *service; /* "fetcherd": also the configuration's group and the store's name */
	const char *summary; /* one line for --help */
	const struct sp_worker_step *steps;
	size_t step_count;
	unsigned slots; /* leases it works on at the same time */
	const struct sp_worker_helper *helpers;
	size_t helper_count;
	/* Checks the daemon's own part of the configuration (-n and every start); may be NULL. */
	enum sp_code (*check)(const struct sp_conf *conf, struct sp_err *err);
	/* Before the bus connects: loads keys, starts servers. ctx is passed to all others.
	 * NULL: no ctx. */
	enum sp_code (*open)(struct sp_worker *worker, void **ctx, struct sp_err *err);
	void (*close)(void *ctx);
	/* 1: `sallyctl gc` may remove from its store (STORE/SERVICE) what no job names, and its
	 * directories of work whose jobs have ended. No step runs meanwhile. */
	int collects;
	/* Names what else of that store is needed; a tree stands for its files too. On a thread of
	 * its own. NULL: nothing. */
	enum sp_code (*keep)(void *ctx, sp_worker_keep_fn *keep, void *arg, struct sp_err *err);
	/* 1: run without bus, ledger and trust (registryd as a plain upstream); may be NULL: never
	 */
	int (*standalone)(const struct sp_conf *conf);
};

/* -c FILE, -n, -v, -f, --root DIR (or SALLYPORT_ROOT), --help, --version; exit status of main().
 * Runs in the foreground always (-f is accepted): systemd's wish. SIGTERM and SIGINT end it after
 * what runs was stopped. */
int sp_worker_main(int argc, char **argv, const struct sp_worker_spec *spec);

/* Where the daemon's things lie by it is in bus/paths.h, which children use too. */
const struct sp_conf *sp_worker_conf(const struct sp_worker *worker);

/* The trust document in force, read and verified now: who relies on it sees a new version without
 * a restart. Free with sp_trust_free. */
enum sp_code sp_worker_trust(
    const struct sp_worker *worker, struct sp_trust **trust, struct sp_err *err) SP_MUST_USE;

/*
 * Said to ledgerd; from any thread but the loop's. They return when ledgerd has committed (Ack) or
 * refused, SP_E_TIMEOUT after timeout_ms. log_seq may be NULL.
 */
enum sp_code sp_worker_record(struct sp_worker *worker, const Sallyport__Record *record,
    int timeout_ms, uint64_t *log_seq, struct sp_err *err) SP_MUST_USE;
enum sp_code sp_worker_publish(struct sp_worker *worker, const char *topic, const void *content,
    size_t len, int timeout_ms, struct sp_err *err) SP_MUST_USE;
enum sp_code sp_worker_begin(struct sp_worker *worker, const Sallyport__Begin *begin,
    int timeout_ms, struct sp_err *err) SP_MUST_USE;

/* From spec.open only. fn runs on the loop with the newest content of the topic, at once when
 * ledgerd has one already, and after each reconnect. */
typedef void sp_worker_topic_fn(void *ctx, const uint8_t *content, size_t len);
void
sp_worker_subscribe(struct sp_worker *worker, const char *topic, sp_worker_topic_fn *fn, void *ctx);

/* From spec.open or the loop's thread: starts the helper of that name. note runs on the loop for
 * each note the child sends. sp_worker_tell sends one to it (any thread). */
typedef void sp_worker_note_fn(void *ctx, const Sallyport__ChildNote *note);
enum sp_code sp_worker_helper_start(struct sp_worker *worker, const char *name,
    sp_worker_note_fn *note, void *ctx, struct sp_err *err) SP_MUST_USE;
void sp_worker_tell(struct sp_worker *worker, const char *name, const Sallyport__ChildNote *note);

#endif
