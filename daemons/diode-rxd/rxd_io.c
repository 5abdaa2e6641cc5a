/* rxd_io.c -- the receiver child, the steps' threads, the store. */
#include "base/log.h"
#include "base/time.h"
#include "bus/paths.h"
#include "bus/worker.h"
#include "rxd.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BEGIN_MS 2000 /* for ledgerd to answer, before it is asked again */
#define LOOK_MS 250   /* a waiting step looks at its lease so often */

struct rxd {
	struct sp_worker *worker;
	const struct sp_conf *conf;
	struct sp_store *store;
	char *spool_dir;
	int64_t patience_ms; /* for a transfer that the receiver does not know (any more) */
	pthread_t announcer;
	int has_announcer;

	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t changed;
	int closing;
	struct rxd_table table;
};

enum sp_code
rxd_check(const struct sp_conf *conf, struct sp_err *err)
{
	return sp_conf_require(conf, "diode-rxd.listen", err);
}

/* Until something changes or the clock shows until_ms; with the lock held. */
static void
wait_change(struct rxd *rxd, int64_t until_ms)
{
	struct timespec until = {.tv_sec = until_ms / 1000, .tv_nsec = until_ms % 1000 * 1000000};

	pthread_cond_timedwait(&rxd->changed, &rxd->lock, &until);
}

/* --- what the receiver says --- */

static void
tell_forget(struct rxd *rxd, const char *job)
{
	Sallyport__ChildNote note;
	Sallyport__Detail detail, *details[] = {&detail};
	char kind[] = "forget", key[] = "job", value[SP_JOB_ID_LEN + 1];

	snprintf(value, sizeof(value), "%s", job);
	sallyport__child_note__init(&note);
	sallyport__detail__init(&detail);
	note.kind = kind;
	detail.key = key;
	detail.value = value;
	note.details = details;
	note.n_details = 1;
	sp_worker_tell(rxd->worker, "receiver", &note);
}

static void
on_note(void *ctx, const Sallyport__ChildNote *note)
{
	struct rxd *rxd = ctx;
	char forget[SP_JOB_ID_LEN + 1];
	struct sp_err err;
	enum sp_code code;

	pthread_mutex_lock(&rxd->lock);
	code = rxd_table_note(&rxd->table, note, forget, &err);
	pthread_cond_broadcast(&rxd->changed);
	pthread_mutex_unlock(&rxd->lock);
	if (code != SP_OK)
		sp_log_warn(NULL, "%s", err.msg);
	else if (forget[0] != '\0')
		tell_forget(rxd, forget);
}

static enum sp_code
say_begin(struct rxd *rxd, char *job, struct sp_err *err)
{
	char kind[] = "model", step[] = "receive", source[] = "diode", name[] = "";
	Sallyport__Begin begin;

	sallyport__begin__init(&begin);
	begin.job = job;
	begin.kind = kind;
	begin.step = step;
	begin.source = source;
	begin.name = name;
	return sp_worker_begin(rxd->worker, &begin, BEGIN_MS, err);
}

/* Tells ledgerd of transfers, until it has them: it may be away just now, they are here to stay. */
static void *
announce(void *arg)
{
	struct rxd *rxd = arg;
	char job[SP_JOB_ID_LEN + 1];
	struct rxd_transfer *transfer;
	struct sp_err err;
	enum sp_code code;

	pthread_mutex_lock(&rxd->lock);
	while (!rxd->closing) {
		transfer = rxd_table_unsaid(&rxd->table);
		if (transfer == NULL || transfer->say_ms > sp_time_monotonic_ms()) {
			wait_change(rxd, transfer != NULL ? transfer->say_ms
							  : sp_time_monotonic_ms() + RXD_AGAIN_MS);
			continue;
		}
		memcpy(job, transfer->manifest.job, sizeof(job));
		/* what happens meanwhile is said next */
		transfer->unsaid = 0;
		pthread_mutex_unlock(&rxd->lock);
		code = say_begin(rxd, job, &err);
		pthread_mutex_lock(&rxd->lock);
		if (!rxd_table_said(&rxd->table, job, code, sp_time_monotonic_ms()))
			sp_log_warn(job,
			    "%s; its bytes stay in the spool until a step asks for them or others "
			    "need the room",
			    err.msg);
	}
	pthread_mutex_unlock(&rxd->lock);
	return NULL;
}

/* --- start and end --- */

static void
init_lock(struct rxd *rxd)
{
	pthread_condattr_t monotonic;

	pthread_mutex_init(&rxd->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&rxd->changed, &monotonic);
	pthread_condattr_destroy(&monotonic);
}

enum sp_code
rxd_open(struct sp_worker *worker, void **ctx, struct sp_err *err)
{
	const struct sp_conf *conf = sp_worker_conf(worker);
	struct rxd *rxd = sp_xcalloc(1, sizeof(*rxd));
	char *store = sp_paths_store(conf, RXD_SERVICE);
	enum sp_code code;

	rxd->worker = worker;
	rxd->conf = conf;
	rxd->spool_dir = rxd_spool_dir(conf);
	rxd->patience_ms = sp_conf_int(conf, "diode-rxd.idle_timeout_ms");
	init_lock(rxd);
	code = sp_store_open(store, 1, &rxd->store, err);
	if (code == SP_OK) {
		rxd->has_announcer = pthread_create(&rxd->announcer, NULL, announce, rxd) == 0;
		if (!rxd->has_announcer)
			code = sp_err_set(err, SP_E_NO_MEMORY, "no thread to tell ledgerd with");
	}
	if (code == SP_OK)
		code = sp_worker_helper_start(worker, "receiver", on_note, rxd, err);
	if (code != SP_OK)
		rxd_close(rxd);
	else
		*ctx = rxd;
	free(store);
	return code;
}

void
rxd_close(void *ctx)
{
	struct rxd *rxd = ctx;

	pthread_mutex_lock(&rxd->lock);
	rxd->closing = 1;
	pthread_cond_broadcast(&rxd->changed);
	pthread_mutex_unlock(&rxd->lock);
	if (rxd->has_announcer)
		pthread_join(rxd->announcer, NULL);
	rxd_table_clear(&rxd->table);
	sp_store_close(&rxd->store);
	pthread_cond_destroy(&rxd->changed);
	pthread_mutex_destroy(&rxd->lock);
	free(rxd->spool_dir);
	free(rxd);
}

enum sp_code
rxd_keep(void *ctx, void (*keep)(void *arg, const char *digest), void *arg, struct sp_err *err)
{
	const struct rxd_transfer *transfer;
	struct sp_hex *digests = NULL;
	struct rxd *rxd = ctx;
	size_t count = 0, i;

	(void)err;
	/* keep reads trees, which must not hold up the loop */
	pthread_mutex_lock(&rxd->lock);
	for (transfer = rxd->table.first; transfer != NULL; transfer = transfer->next) {
		digests =
		    sp_xrealloc(digests, count + transfer->manifest.count + 1, sizeof(*digests));
		for (i = 0; i < transfer->manifest.count; i++)
			digests[count++] = sp_hex_of(transfer->manifest.objects[i].digest);
	}
	pthread_mutex_unlock(&rxd->lock);
	for (i = 0; i < count; i++)
		keep(arg, digests[i].s);
	free(digests);
	return SP_OK;
}

/* --- receive --- */

/* Waits, with the lock held, for the transfer to end. SP_E_NOT_FOUND: the receiver has not named it
 * for longer than our patience, or need not: it was taken. */
static enum sp_code
wait_end(struct rxd *rxd, const char *job, struct sp_lease *lease, struct rxd_transfer **out,
    struct sp_err *err)
{
	int64_t now_ms = sp_time_monotonic_ms(), seen_ms = now_ms;
	struct rxd_transfer *transfer;

	for (;; now_ms = sp_time_monotonic_ms()) {
		transfer = rxd_table_find(&rxd->table, job);
		if (transfer != NULL)
			rxd_table_claim(transfer);
		if (transfer != NULL && transfer->state != RXD_KNOWN)
			break;
		if (sp_lease_cancelled(lease)) {
			if (transfer != NULL)
				rxd_table_unclaim(transfer, 1, now_ms);
			return sp_err_set(err, SP_E_CANCELLED, "cancelled");
		}
		if (transfer != NULL) {
			seen_ms = now_ms;
			sp_lease_progress(
			    lease, "receive", transfer->done_bytes, transfer->total_bytes, "bytes");
		} else if (now_ms - seen_ms > rxd->patience_ms ||
			   rxd_table_is_finished(&rxd->table, job)) {
			return sp_err_set(err, SP_E_NOT_FOUND,
			    "nothing of this transfer is in the spool: send it again");
		}
		wait_change(rxd, now_ms + LOOK_MS);
	}
	*out = transfer;
	return SP_OK;
}

/* From here on what comes of it is news for ledgerd. */
static enum sp_code
incomplete(struct rxd_transfer *transfer, struct sp_err *err)
{
	rxd_table_unclaim(transfer, 0, sp_time_monotonic_ms());
	if (transfer->fault[0] != '\0')
		return sp_err_set(err, SP_E_INCOMPLETE,
		    "%" PRIu64 " of %" PRIu64 " bytes are not in the spool, which could not be "
		    "written (%s): see to that, then send the release again",
		    transfer->missing_bytes, transfer->total_bytes, transfer->fault);
	return sp_err_set(err, SP_E_INCOMPLETE,
	    "%" PRIu64 " of %" PRIu64 " bytes did not come (%s): send the release again",
	    transfer->missing_bytes, transfer->total_bytes, transfer->gaps);
}

static void
describe(struct sp_outcome *outcome, const struct rxd_transfer *transfer)
{
	sp_outcome_artifact(
	    outcome, "release", sp_hex_of(transfer->manifest.release).s, RXD_SERVICE, 0, 0);
	sp_outcome_detail(outcome, "objects", "%zu", transfer->manifest.count);
	sp_outcome_detail(outcome, "bytes", "%" PRIu64, transfer->total_bytes);
	sp_outcome_detail(outcome, "repaired_symbols", "%" PRIu64, transfer->counts.repaired);
	sp_outcome_detail(outcome, "duplicate_symbols", "%" PRIu64, transfer->counts.duplicates);
	sp_outcome_detail(outcome, "lost_datagrams", "%" PRIu64, transfer->counts.lost);
	sp_outcome_detail(outcome, "rejected_datagrams", "%" PRIu64, transfer->counts.rejected);
}

enum sp_code
rxd_seal_receive(void *ctx, struct sp_worker *worker, const Sallyport__Task *task,
    struct sp_lease *lease, enum sp_code worked, struct sp_outcome *outcome, struct sp_err *err)
{
	struct rxd *rxd = ctx;
	struct rxd_transfer *transfer;
	enum sp_code code;

	(void)worker, (void)worked;
	pthread_mutex_lock(&rxd->lock);
	code = wait_end(rxd, task->job, lease, &transfer, err);
	if (code == SP_E_NOT_FOUND)
		code = err->code = SP_E_INCOMPLETE;
	else if (code == SP_OK && transfer->state == RXD_INCOMPLETE)
		code = incomplete(transfer, err);
	else if (code == SP_OK)
		describe(outcome, transfer);
	pthread_mutex_unlock(&rxd->lock);
	return code;
}

/* --- verify --- */

static int
on_verified(void *ctx, uint64_t done_bytes, uint64_t total_bytes)
{
	struct sp_lease *lease = ctx;

	sp_lease_progress(lease, "verify", done_bytes, total_bytes, "bytes");
	return sp_lease_cancelled(lease);
}

/* What the receiver knows of the transfer that a step is about. */
struct known {
	int is_known; /* 0: not (any more); all of it may be in the store since an earlier attempt
		       */
	enum rxd_state state;
	struct sp_manifest manifest; /* a copy: the table may change while we read gigabytes */
};

static enum sp_code
look_up(
    struct rxd *rxd, const char *job, struct sp_lease *lease, struct known *out, struct sp_err *err)
{
	struct rxd_transfer *transfer;
	enum sp_code code;

	memset(out, 0, sizeof(*out));
	pthread_mutex_lock(&rxd->lock);
	code = wait_end(rxd, job, lease, &transfer, err);
	if (code == SP_OK) {
		if (transfer->state == RXD_INCOMPLETE)
			rxd_table_unclaim(transfer, 0, sp_time_monotonic_ms());
		out->is_known = 1;
		out->state = transfer->state;
		out->manifest = transfer->manifest;
		out->manifest.objects =
		    sp_xcalloc(transfer->manifest.count, sizeof(*transfer->manifest.objects));
		memcpy(out->manifest.objects, transfer->manifest.objects,
		    transfer->manifest.count * sizeof(*transfer->manifest.objects));
	}
	pthread_mutex_unlock(&rxd->lock);
	return code == SP_E_NOT_FOUND ? SP_OK : code;
}

/* The receiver may drop what it holds of the job. is_over: it is in the store, or refused, and need
 * not come again. */
static void
let_go(struct rxd *rxd, const char *job, int is_over)
{
	pthread_mutex_lock(&rxd->lock);
	if (is_over)
		rxd_table_finish(&rxd->table, job);
	else
		rxd_table_remove(&rxd->table, job);
	pthread_mutex_unlock(&rxd->lock);
	tell_forget(rxd, job);
}

/* What the check refused is kept out of reach; the job's state says so by this step's answer. */
static enum sp_code
refuse(struct rxd *rxd, const struct rxd_source *source, const char *job, const char *check,
    struct sp_err *err)
{
	struct sp_err failed;
	enum sp_code code;

	sp_err_prefix(err, "check \"%s\"", check);
	err->code = err->code == SP_E_CORRUPT ? SP_E_CORRUPT : SP_E_DENIED;
	if ((code = rxd_quarantine(source, job, check, err->msg, &failed)) != SP_OK)
		return sp_err_set(
		    err, sp_err_may_retry(code) ? code : SP_E_IO, "quarantine: %s", failed.msg);
	let_go(rxd, job, 1);
	return err->code;
}

/* What became of it: taken, to come again, to be tried again, or refused. */
static enum sp_code
conclude(struct rxd *rxd, const struct rxd_source *source, const struct known *known,
    const char *job, enum sp_code code, const char *check, struct sp_err *err)
{
	if (code == SP_OK) {
		let_go(rxd, job, 1);
	} else if (code == SP_E_INCOMPLETE) {
		/* what the receiver believes to be whole it would not take once more */
		if (known->is_known && known->state == RXD_DONE)
			let_go(rxd, job, 0);
	} else if (!sp_err_may_retry(code) && code != SP_E_CANCELLED) {
		code = refuse(rxd, source, job, check, err);
	}
	return code;
}

enum sp_code
rxd_seal_verify(void *ctx, struct sp_worker *worker, const Sallyport__Task *task,
    struct sp_lease *lease, enum sp_code worked, struct sp_outcome *outcome, struct sp_err *err)
{
	struct rxd *rxd = ctx;
	struct rxd_source source = {
	    .conf = rxd->conf, .store = rxd->store, .spool_dir = rxd->spool_dir};
	struct sp_artifact announced;
	struct known known;
	struct sp_trust *trust = NULL;
	struct sp_release *release = NULL;
	struct sp_tree tree = {0};
	const char *check = "release";
	enum sp_code code;

	(void)worked;
	if ((code = sp_outcome_input(task, "release", &announced, err)))
		return code;
	if ((code = rxd_quarantined(rxd->conf, task->job, err))) {
		if (code == SP_E_DENIED)
			let_go(rxd, task->job, 1);
		return code;
	}
	if ((code = look_up(rxd, task->job, lease, &known, err)))
		return code;
	source.manifest = known.is_known ? &known.manifest : NULL;
	if ((code = sp_worker_trust(worker, &trust, err))) {
		/* nothing is wrong with the release: it waits until trust can be read */
		code = sp_err_set(err, SP_E_IO, "trust: %.400s", err->msg);
		goto out;
	}
	code = rxd_verify(&source, trust, task->job, announced.digest.s, on_verified, lease,
	    &release, &tree, &check, err);
	if ((code = conclude(rxd, &source, &known, task->job, code, check, err)))
		goto out;
	sp_outcome_artifact(
	    outcome, "candidate", release->candidate.tree.s, RXD_SERVICE, 1, sp_tree_bytes(&tree));
	sp_outcome_detail(outcome, "name", "%s", release->candidate.name);
	sp_outcome_detail(outcome, "version", "%" PRId64, release->candidate.version);
	sp_outcome_detail(outcome, "files", "%zu", tree.count);
out:
	sp_tree_clear(&tree);
	sp_release_free(&release);
	sp_trust_free(&trust);
	sp_manifest_clear(&known.manifest);
	return code;
}
