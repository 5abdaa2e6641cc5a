/* ledgerd_view.c -- jobs and this host as operators are told of them. */
#include "base/time.h"
#include "base/version.h"
#include "ledgerd.h"

#include <stdlib.h>
#include <string.h>

uint64_t
ledgerd_view_change(struct ledgerd *l, const struct sp_job *job)
{
	const struct ledgerd_live *live = ledgerd_core_job(&l->core, job->id);

	/* entries above, progress since the last one below: 24 bits last for half a year of seconds
	 */
	return (job->last_seq + 1) << 24 | (live != NULL ? live->news & 0xffffff : 0);
}

static void
put_details(Sallyport__OperatorJobView *view, const struct sp_table_extras *extras)
{
	Sallyport__OperatorDetail *out;
	size_t i;

	view->details = sp_xcalloc(extras->detail_count, sizeof(*view->details));
	for (i = 0; i < extras->detail_count; i++) {
		out = sp_xcalloc(1, sizeof(*out));
		sallyport__operator_detail__init(out);
		out->step = sp_xstrdup(sp_jobs_step_name(extras->details[i].step));
		out->key = sp_xstrdup(extras->details[i].key);
		out->value = sp_xstrdup(extras->details[i].value);
		view->details[view->n_details++] = out;
	}
}

static void
put_job(Sallyport__OperatorJobView *view, const struct sp_job *job)
{
	view->job = sp_xstrdup(job->id);
	view->kind = sp_xstrdup(sp_jobs_kind(job->recipe));
	view->source = sp_xstrdup(job->source);
	view->profile = sp_xstrdup(job->profile);
	view->name = sp_xstrdup(job->name);
	view->model_version = job->version;
	view->destination = sp_xstrdup(job->destination);
	view->state = sp_xstrdup(sp_jobs_state_name(job->state));
	view->reason = sp_xstrdup(job->reason);
	view->created = sp_xstrdup(sp_time_rfc3339(job->created_ms).s);
	view->changed = sp_xstrdup(sp_time_rfc3339(job->changed_ms).s);
	view->first_seq = job->first_seq;
	view->last_seq = job->last_seq;
	view->approvals_needed = job->approvals_needed;
}

/* The step in hand, or the last one there was. */
static enum sp_code
put_step(struct ledgerd *l, Sallyport__OperatorJobView *view, const struct sp_job *job, int full,
    struct sp_err *err)
{
	const struct ledgerd_live *live = ledgerd_core_job(&l->core, job->id);
	struct sp_attempt attempt = {0};
	enum sp_code code;
	int found;

	code = sp_table_newest(sp_ledger_db(l->ledger), job->id, &attempt, &found, err);
	if (code != SP_OK)
		return code;
	view->step = sp_xstrdup(found ? sp_jobs_step_name(attempt.step) : "");
	view->step_state = sp_xstrdup(found ? sp_jobs_lease_name(attempt.state) : "");
	view->attempt = found ? attempt.attempt : 0;
	view->worker = sp_xstrdup(attempt.worker);
	view->phase = sp_xstrdup(live != NULL ? live->phase : "");
	view->unit = sp_xstrdup(live != NULL ? live->unit : "");
	view->done = live != NULL ? live->done : 0;
	view->total = live != NULL ? live->total : 0;
	if (live != NULL && full) {
		view->files = ledgerd_core_files(live->files, live->file_count);
		view->n_files = live->file_count;
	}
	return SP_OK;
}

enum sp_code
ledgerd_view_job(struct ledgerd *l, const struct sp_job *job, int full,
    Sallyport__OperatorJobView **out, struct sp_err *err)
{
	Sallyport__OperatorJobView *view = sp_xcalloc(1, sizeof(*view));
	struct sp_table_extras extras = {0};
	const struct sp_trust *trust;
	enum sp_code code;
	int known;

	sallyport__operator_job_view__init(view);
	put_job(view, job);
	view->change = ledgerd_view_change(l, job);
	code = put_step(l, view, job, full, err);
	if (code == SP_OK && full)
		code = sp_table_extras(sp_ledger_db(l->ledger), job->id, &extras, err);
	if (code == SP_OK && full) {
		view->artifacts = ledgerd_task_artifacts(&extras, &view->n_artifacts);
		view->attestations = ledgerd_task_attestations(&extras, &view->n_attestations);
		put_details(view, &extras);
		view->candidate = ledgerd_task_bytes(job->candidate, job->candidate_len);
		/* what the trust document asks may be more than the profile's number */
		if (job->candidate == NULL || ledgerd_trust(l, &trust, NULL) != SP_OK)
			trust = NULL;
		else
			view->approvals_needed = ledgerd_check_needed(trust, job);
		/* who had approved by the end stays so */
		view->approvals = ledgerd_check_people(
		    job->state == SP_JOB_AWAITING_APPROVAL ? trust : NULL, &extras, "", &known);
	}
	sp_table_extras_clear(&extras);
	if (code != SP_OK)
		ledgerd_view_free(&view);
	*out = view;
	return code;
}

void
ledgerd_view_free(Sallyport__OperatorJobView **view)
{
	if (*view != NULL)
		sallyport__operator_job_view__free_unpacked(*view, NULL);
	*view = NULL;
}

/* --- this host -------------------------------------------------------------------------------- */

static Sallyport__OperatorWorker *
view_worker(const struct ledgerd_core *core, const struct ledgerd_peer *peer, int64_t now_ms)
{
	Sallyport__OperatorWorker *out = sp_xcalloc(1, sizeof(*out));
	unsigned step;

	sallyport__operator_worker__init(out);
	out->name = sp_xstrdup(peer->name);
	out->service = sp_xstrdup(peer->service);
	out->version = sp_xstrdup(peer->version);
	out->heard_ms = (uint64_t)(now_ms - peer->seen_ms);
	out->present = ledgerd_core_present(core, peer, now_ms);
	out->free = peer->free;
	out->leases = peer->leases;
	out->steps = sp_xcalloc(SP_STEP_COUNT, sizeof(*out->steps));
	for (step = 0; step < SP_STEP_COUNT; step++)
		if (peer->steps & 1u << step)
			out->steps[out->n_steps++] = sp_xstrdup(sp_jobs_step_name(step));
	return out;
}

static enum sp_code
take_time(void *ctx, uint64_t seq, const uint8_t *data, size_t len, struct sp_err *err)
{
	Sallyport__OperatorHost *host = ctx;
	Sallyport__Entry *entry;
	enum sp_code code;

	(void)seq;
	code = sp_entry_parse(data, len, &entry, err);
	if (code != SP_OK)
		return code;
	free(host->log_time);
	host->log_time = sp_xstrdup(entry->time);
	sallyport__entry__free_unpacked(entry, NULL);
	return SP_OK;
}

static void
put_counts(struct ledgerd *l, Sallyport__OperatorHost *host)
{
	struct sp_hub_stats stats = sp_hub_stats(l->hub);
	int64_t now_ms = sp_time_monotonic_ms();
	size_t i;

	host->uptime_ms = (uint64_t)(now_ms - l->started_ms);
	host->steps = l->core.lives.count;
	host->admitted = stats.admitted;
	host->refused = stats.refused;
	host->malformed = stats.malformed;
	host->workers = sp_xcalloc(l->core.peer_count + 1, sizeof(*host->workers));
	for (i = 0; i < l->core.peer_count; i++)
		host->workers[host->n_workers++] = view_worker(&l->core, &l->core.peers[i], now_ms);
}

enum sp_code
ledgerd_view_host(struct ledgerd *l, Sallyport__OperatorHost **out, struct sp_err *err)
{
	Sallyport__OperatorHost *host = sp_xcalloc(1, sizeof(*host));
	uint64_t size = sp_ledger_size(l->ledger);
	const struct sp_trust *trust;
	struct sp_err why;
	enum sp_code code;
	const uint8_t *note;
	size_t len;

	sallyport__operator_host__init(host);
	host->version = sp_xstrdup(SP_VERSION);
	host->origin = sp_xstrdup(l->origin);
	host->time = sp_xstrdup(sp_time_rfc3339(sp_time_unix_ms()).s);
	host->log_size = size;
	host->log_time = sp_xstrdup("");
	note = sp_ledger_checkpoint(l->ledger, &len, NULL);
	host->checkpoint = ledgerd_task_bytes(note, len);
	if (ledgerd_trust(l, &trust, &why) == SP_OK)
		host->trust_version = sp_trust_version(trust);
	else
		host->trust_error = sp_xstrdup(why.msg);
	put_counts(l, host);
	/* there is always one: that of its start */
	code = sp_ledger_entries(l->ledger, size - 1, 1, "", take_time, host, err);
	if (code == SP_OK) {
		*out = host;
		return SP_OK;
	}
	sallyport__operator_host__free_unpacked(host, NULL);
	return code;
}
