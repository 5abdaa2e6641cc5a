/* rxd_io.c -- the receiver child, the steps' threads, the store. */
#include "base/log.h"
#include "base/time.h"
#include "bus/paths.h"
#include "bus/worker.h"
#include "rxd.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
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
	atomic_int closing;

	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t changed;
	struct rxd_table table;
	unsigned beginnings; /* threads in begin() */
};

enum sp_code
rxd_check(const struct sp_conf *conf, struct sp_err *err)
{
	return sp_conf_require(conf, "diode-rxd.listen", err);
}

/* --- what the receiver says --- */

struct beginning {
	uv_work_t work;
	struct rxd *rxd;
	char job[SP_JOB_ID_LEN + 1];
};

/* Until ledgerd has the job: it may be away just now, the transfer is here to stay. */
static void
begin(uv_work_t *work)
{
	struct beginning *beginning = work->data;
	struct rxd *rxd = beginning->rxd;
	Sallyport__Begin message;
	char kind[] = "model", step[] = "receive", source[] = "diode", name[] = "";
	enum sp_code code = SP_E_TIMEOUT;
	struct sp_err err;

	sallyport__begin__init(&message);
	message.job = beginning->job;
	message.kind = kind;
	message.step = step;
	message.source = source;
	message.name = name;
	while (code != SP_OK && !atomic_load(&rxd->closing)) {
		code = sp_worker_begin(rxd->worker, &message, BEGIN_MS, &err);
		if (code != SP_OK && !sp_err_may_retry(code)) {
			sp_log_error(beginning->job, "ledgerd refuses the transfer: %s", err.msg);
			break;
		}
	}
	pthread_mutex_lock(&rxd->lock);
	rxd->beginnings--;
	pthread_cond_broadcast(&rxd->changed);
	pthread_mutex_unlock(&rxd->lock);
}

static void
after_begin(uv_work_t *work, int status)
{
	(void)status;
	free(work->data);
}

static void
on_note(void *ctx, const Sallyport__ChildNote *note)
{
	struct rxd *rxd = ctx;
	const struct rxd_transfer *begun;
	struct beginning *beginning = NULL;
	struct sp_err err;
	enum sp_code code;

	pthread_mutex_lock(&rxd->lock);
	code = rxd_table_note(&rxd->table, note, &begun, &err);
	if (code == SP_OK && begun != NULL) {
		beginning = sp_xcalloc(1, sizeof(*beginning));
		beginning->work.data = beginning;
		beginning->rxd = rxd;
		rxd->beginnings++;
		strcpy(beginning->job, begun->manifest.job);
		sp_log_info(beginning->job, "a transfer of %zu objects, %" PRIu64 " bytes",
		    begun->manifest.count, begun->total_bytes);
	}
	pthread_cond_broadcast(&rxd->changed);
	pthread_mutex_unlock(&rxd->lock);
	if (code != SP_OK)
		sp_log_warn(NULL, "%s", err.msg);
	if (beginning != NULL)
		uv_queue_work(sp_worker_loop(rxd->worker), &beginning->work, begin, after_begin);
}

enum sp_code
rxd_open(struct sp_worker *worker, void **ctx, struct sp_err *err)
{
	const struct sp_conf *conf = sp_worker_conf(worker);
	struct rxd *rxd = sp_xcalloc(1, sizeof(*rxd));
	char *store = sp_paths_store(conf, RXD_SERVICE);
	pthread_condattr_t monotonic;
	enum sp_code code;

	rxd->worker = worker;
	rxd->conf = conf;
	rxd->spool_dir = rxd_spool_dir(conf);
	rxd->patience_ms = sp_conf_int(conf, "diode-rxd.idle_timeout_ms");
	pthread_mutex_init(&rxd->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&rxd->changed, &monotonic);
	pthread_condattr_destroy(&monotonic);
	if ((code = sp_store_open(store, 1, &rxd->store, err)) ||
	    (code = sp_worker_helper_start(worker, "receiver", on_note, rxd, err)))
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

	atomic_store(&rxd->closing, 1);
	pthread_mutex_lock(&rxd->lock);
	while (rxd->beginnings > 0)
		pthread_cond_wait(&rxd->changed, &rxd->lock);
	pthread_mutex_unlock(&rxd->lock);
	rxd_table_clear(&rxd->table);
	sp_store_close(&rxd->store);
	pthread_cond_destroy(&rxd->changed);
	pthread_mutex_destroy(&rxd->lock);
	free(rxd->spool_dir);
	free(rxd);
}

/* --- receive --- */

static void
wait_change(struct rxd *rxd)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += LOOK_MS * 1000000;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	pthread_cond_timedwait(&rxd->changed, &rxd->lock, &until);
}

/* Waits, with the lock held, for the transfer to end. SP_E_NOT_FOUND: the receiver did not name it
 * within our patience. */
static enum sp_code
wait_end(struct rxd *rxd, const char *job, struct sp_lease *lease, struct rxd_transfer **out,
    struct sp_err *err)
{
	int64_t deadline_ms = sp_time_monotonic_ms() + rxd->patience_ms;
	struct rxd_transfer *transfer;

	while (
	    (transfer = rxd_table_find(&rxd->table, job)) == NULL || transfer->state == RXD_KNOWN) {
		if (sp_lease_cancelled(lease))
			return sp_err_set(err, SP_E_CANCELLED, "cancelled");
		if (transfer == NULL && sp_time_monotonic_ms() > deadline_ms)
			return sp_err_set(err, SP_E_NOT_FOUND,
			    "nothing of this transfer is in the spool: send it again");
		if (transfer != NULL)
			sp_lease_progress(
			    lease, "receive", transfer->done_bytes, transfer->total_bytes, "bytes");
		wait_change(rxd);
	}
	*out = transfer;
	return SP_OK;
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
		code = sp_err_set(err, SP_E_INCOMPLETE,
		    "%" PRIu64 " of %" PRIu64 " bytes did not come (%s): send the release again",
		    transfer->missing_bytes, transfer->total_bytes, transfer->gaps);
	else if (code == SP_OK)
		describe(outcome, transfer);
	pthread_mutex_unlock(&rxd->lock);
	return code;
}

/* --- verify --- */

static void
on_verified(void *ctx, uint64_t done_bytes, uint64_t total_bytes)
{
	sp_lease_progress(ctx, "verify", done_bytes, total_bytes, "bytes");
}

/* A copy of the transfer's manifest: the table may change while we read gigabytes. NULL: the
 * receiver knows it no more, all of it is in the store since an earlier attempt. */
static enum sp_code
copy_manifest(struct rxd *rxd, const char *job, struct sp_lease *lease, struct sp_manifest *out,
    int *known, struct sp_err *err)
{
	struct rxd_transfer *transfer;
	enum sp_code code;

	*known = 0;
	memset(out, 0, sizeof(*out));
	pthread_mutex_lock(&rxd->lock);
	code = wait_end(rxd, job, lease, &transfer, err);
	if (code == SP_OK) {
		*known = 1;
		*out = transfer->manifest;
		out->objects = sp_xcalloc(out->count, sizeof(*out->objects));
		memcpy(
		    out->objects, transfer->manifest.objects, out->count * sizeof(*out->objects));
	}
	pthread_mutex_unlock(&rxd->lock);
	return code == SP_E_NOT_FOUND ? SP_OK : code;
}

/* The receiver may drop what it holds of the job; it is in the store, or in quarantine. */
static void
forget(struct rxd *rxd, const char *job)
{
	Sallyport__ChildNote note;
	Sallyport__Detail detail, *details[] = {&detail};
	char kind[] = "forget", key[] = "job", value[SP_JOB_ID_LEN + 1];

	strcpy(value, job);
	sallyport__child_note__init(&note);
	sallyport__detail__init(&detail);
	note.kind = kind;
	detail.key = key;
	detail.value = value;
	note.details = details;
	note.n_details = 1;
	sp_worker_tell(rxd->worker, "receiver", &note);
	pthread_mutex_lock(&rxd->lock);
	rxd_table_remove(&rxd->table, job);
	pthread_mutex_unlock(&rxd->lock);
}

/* What the check refused is kept out of reach; the job's state says so by this step's answer. A
 * fault of our own (disk, trust document) is none of the release's, and is tried again. */
static enum sp_code
refuse(struct rxd *rxd, const struct rxd_source *source, const char *job, const char *check,
    struct sp_err *err)
{
	struct sp_err failed;

	if (sp_err_may_retry(err->code) || err->code == SP_E_CANCELLED)
		return err->code;
	sp_err_prefix(err, "check \"%s\"", check);
	err->code = err->code == SP_E_CORRUPT ? SP_E_CORRUPT : SP_E_DENIED;
	if (rxd_quarantine(source, job, check, err->msg, &failed) != SP_OK)
		return sp_err_set(err, failed.code, "%s", failed.msg);
	forget(rxd, job);
	return err->code;
}

enum sp_code
rxd_seal_verify(void *ctx, struct sp_worker *worker, const Sallyport__Task *task,
    struct sp_lease *lease, enum sp_code worked, struct sp_outcome *outcome, struct sp_err *err)
{
	struct rxd *rxd = ctx;
	struct rxd_source source = {
	    .conf = rxd->conf, .store = rxd->store, .spool_dir = rxd->spool_dir};
	struct sp_artifact announced;
	struct sp_manifest manifest;
	struct sp_trust *trust = NULL;
	struct sp_release *release = NULL;
	struct sp_tree tree = {0};
	const char *check = "release";
	int known;
	enum sp_code code;

	(void)worked;
	if ((code = sp_outcome_input(task, "release", &announced, err)) ||
	    (code = copy_manifest(rxd, task->job, lease, &manifest, &known, err)))
		return code;
	source.manifest = known ? &manifest : NULL;
	if ((code = sp_worker_trust(worker, &trust, err))) {
		/* nothing is wrong with the release: it waits until trust can be read */
		code = sp_err_set(err, SP_E_IO, "trust: %.400s", err->msg);
		goto out;
	}
	code = rxd_verify(&source, trust, task->job, announced.digest.s, on_verified, lease,
	    &release, &tree, &check, err);
	if (code != SP_OK) {
		code = refuse(rxd, &source, task->job, check, err);
		goto out;
	}
	sp_outcome_artifact(
	    outcome, "candidate", release->candidate.tree.s, RXD_SERVICE, 1, sp_tree_bytes(&tree));
	sp_outcome_detail(outcome, "name", "%s", release->candidate.name);
	sp_outcome_detail(outcome, "version", "%" PRId64, release->candidate.version);
	sp_outcome_detail(outcome, "files", "%zu", tree.count);
	forget(rxd, task->job);
out:
	sp_tree_clear(&tree);
	sp_release_free(&release);
	sp_trust_free(&trust);
	sp_manifest_clear(&manifest);
	return code;
}
