/* view.c -- a job as ledgerd describes it. */
#include "view.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/time.h"
#include "out.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* --- for machines --------------------------------------------------------------------------- */

static json_t *
artifact_json(const Sallyport__Artifact *a)
{
	return json_pack("{s:s, s:s, s:s, s:b, s:I}", "role", a->role, "digest", a->digest, "store",
	    a->store, "tree", a->tree, "bytes", (json_int_t)a->bytes);
}

static json_t *
attested_json(const Sallyport__Attested *a)
{
	struct sp_hex digest = sp_sha256_hex(a->envelope.data, a->envelope.len);
	json_t *envelope = NULL;

	if (sp_json_parse(a->envelope.data, a->envelope.len, "attestation", &envelope, NULL) !=
	    SP_OK)
		envelope = json_null();
	return json_pack(
	    "{s:s, s:s, s:o}", "step", a->step, "sha256", digest.s, "envelope", envelope);
}

static json_t *
lists_json(const Sallyport__OperatorJobView *view)
{
	json_t *artifacts = json_array(), *attestations = json_array(), *details = json_array();
	json_t *files = json_array();
	size_t i;

	for (i = 0; i < view->n_artifacts; i++)
		json_array_append_new(artifacts, artifact_json(view->artifacts[i]));
	for (i = 0; i < view->n_attestations; i++)
		json_array_append_new(attestations, attested_json(view->attestations[i]));
	for (i = 0; i < view->n_details; i++)
		json_array_append_new(
		    details, json_pack("{s:s, s:s, s:s}", "step", view->details[i]->step, "key",
				 view->details[i]->key, "value", view->details[i]->value));
	for (i = 0; i < view->n_files; i++)
		json_array_append_new(
		    files, json_pack("{s:s, s:I, s:I}", "path", view->files[i]->path, "done",
			       (json_int_t)view->files[i]->done, "total",
			       (json_int_t)view->files[i]->total));
	return json_pack("{s:o, s:o, s:o, s:o}", "artifacts", artifacts, "attestations",
	    attestations, "details", details, "files", files);
}

json_t *
ctl_view_json(const Sallyport__OperatorJobView *view)
{
	json_t *obj, *lists = lists_json(view), *candidate = NULL;

	obj = json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:s, s:s, s:s, s:I}", "job", view->job,
	    "kind", view->kind, "source", view->source, "profile", view->profile, "name",
	    view->name, "version", (json_int_t)view->model_version, "destination",
	    view->destination, "state", view->state, "reason", view->reason, "change",
	    (json_int_t)view->change);
	SP_ASSERT(obj != NULL && lists != NULL);
	json_object_update(obj, lists);
	json_decref(lists);
	lists = json_pack("{s:s, s:s, s:i, s:s, s:s, s:I, s:I, s:s, s:s, s:s, s:I, s:I, s:i, s:i}",
	    "step", view->step, "step_state", view->step_state, "attempt", (int)view->attempt,
	    "worker", view->worker, "phase", view->phase, "done", (json_int_t)view->done, "total",
	    (json_int_t)view->total, "unit", view->unit, "created", view->created, "changed",
	    view->changed, "first_seq", (json_int_t)view->first_seq, "last_seq",
	    (json_int_t)view->last_seq, "approvals", (int)view->approvals, "approvals_needed",
	    (int)view->approvals_needed);
	SP_ASSERT(lists != NULL);
	json_object_update(obj, lists);
	json_decref(lists);
	if (view->candidate.len > 0 && sp_json_parse(view->candidate.data, view->candidate.len,
					   "candidate", &candidate, NULL) == SP_OK)
		json_object_set_new(obj, "candidate", candidate);
	return obj;
}

/* --- for people ----------------------------------------------------------------------------- */

static void
print_files(const Sallyport__OperatorJobView *view, FILE *to)
{
	struct ctl_out_table table = {0};
	char *progress;
	size_t i;

	for (i = 0; i < view->n_files; i++) {
		progress = ctl_out_progress(view->files[i]->done, view->files[i]->total, "bytes");
		ctl_out_row(&table, view->files[i]->path, progress, NULL);
		free(progress);
	}
	if (table.count > 0)
		fputs("\n  files in hand\n", to);
	ctl_out_table(&table, "    ", to);
}

static void
print_artifacts(const Sallyport__OperatorJobView *view, FILE *to)
{
	struct ctl_out_table table = {.right = 1u << 1};
	const Sallyport__Artifact *a;
	size_t i;

	for (i = 0; i < view->n_artifacts; i++) {
		a = view->artifacts[i];
		ctl_out_row(&table, a->role, ctl_out_size(a->bytes).s, a->tree ? "tree" : "blob",
		    a->digest, a->store, NULL);
	}
	if (table.count > 0)
		fputs("\n  artifacts\n", to);
	ctl_out_table(&table, "    ", to);
}

static void
print_attestations(const Sallyport__OperatorJobView *view, FILE *to)
{
	struct ctl_out_table table = {0};
	size_t i;

	for (i = 0; i < view->n_attestations; i++)
		ctl_out_row(&table, view->attestations[i]->step,
		    sp_sha256_hex(
			view->attestations[i]->envelope.data, view->attestations[i]->envelope.len)
			.s,
		    NULL);
	if (table.count > 0)
		fputs("\n  attestations\n", to);
	ctl_out_table(&table, "    ", to);
}

static void
print_details(const Sallyport__OperatorJobView *view, FILE *to)
{
	struct ctl_out_table table = {0};
	size_t i;

	for (i = 0; i < view->n_details; i++)
		ctl_out_row(&table, view->details[i]->step, view->details[i]->key,
		    view->details[i]->value, NULL);
	if (table.count > 0)
		fputs("\n  details\n", to);
	ctl_out_table(&table, "    ", to);
}

void
ctl_view_print(const Sallyport__OperatorJobView *view, FILE *to)
{
	char *progress, *next = ctl_view_next(view);

	ctl_out_print(to, "job %s\n", view->job);
	ctl_out_field(to, "state", "%s", view->state);
	ctl_out_field(to, "reason", "%s", view->reason);
	ctl_out_field(to, "source", "%s", view->source);
	ctl_out_field(to, "profile", "%s", view->profile);
	if (view->model_version > 0)
		ctl_out_field(to, "candidate", "%s version %" PRIu64 " for %s", view->name,
		    view->model_version, view->destination);
	else
		ctl_out_field(to, "name", "%s", view->name);
	if (view->step[0] != '\0')
		ctl_out_field(to, "step", "%s, %s, attempt %u%s%s", view->step, view->step_state,
		    view->attempt, view->worker[0] != '\0' ? ", " : "", view->worker);
	if (view->phase[0] != '\0') {
		progress = ctl_out_progress(view->done, view->total, view->unit);
		ctl_out_field(to, "progress", "%s, %s", view->phase, progress);
		free(progress);
	}
	if (view->approvals_needed > 0)
		ctl_out_field(to, "approvals", "%u of %u", view->approvals, view->approvals_needed);
	ctl_out_field(to, "created", "%s", view->created);
	ctl_out_field(to, "changed", "%s", view->changed);
	ctl_out_field(
	    to, "log", "entries %" PRIu64 " to %" PRIu64, view->first_seq, view->last_seq);
	print_files(view, to);
	print_artifacts(view, to);
	print_attestations(view, to);
	print_details(view, to);
	if (next != NULL)
		ctl_out_print(to, "\nNext: %s\n", next);
	free(next);
}

/* --- lists ---------------------------------------------------------------------------------- */

static int
by_id(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Digits that tell all of them apart, at least 8. */
static int
id_digits(const Sallyport__OperatorJobView *const *views, size_t count)
{
	const char **ids = sp_xcalloc(count + 1, sizeof(*ids));
	size_t digits = 8, same, i;

	for (i = 0; i < count; i++)
		ids[i] = views[i]->job;
	qsort(ids, count, sizeof(*ids), by_id);
	for (i = 1; i < count; i++) {
		for (same = 0; ids[i][same] != '\0' && ids[i][same] == ids[i - 1][same]; same++)
			;
		digits = same + 1 > digits ? same + 1 : digits;
	}
	free(ids);
	return (int)digits;
}

static void
list_row(struct ctl_out_table *table, const Sallyport__OperatorJobView *view, int digits,
    int64_t now_unix_ms)
{
	int64_t changed_ms = sp_time_parse_rfc3339(view->changed);
	char *id = sp_xasprintf("%.*s", digits, view->job), *name, *last;

	name = view->model_version > 0
		   ? sp_xasprintf("%s@%" PRIu64, view->name, view->model_version)
		   : sp_xstrdup(view->name);
	last = view->phase[0] != '\0' ? ctl_out_progress(view->done, view->total, view->unit)
				      : sp_xstrdup(view->reason);
	ctl_out_row(table, id, view->state,
	    changed_ms < 0 ? view->changed : ctl_out_duration(now_unix_ms - changed_ms).s, name,
	    view->source, last, NULL);
	free(last);
	free(name);
	free(id);
}

void
ctl_view_list(
    const Sallyport__OperatorJobView *const *views, size_t count, int64_t now_unix_ms, FILE *to)
{
	int digits = id_digits(views, count);
	struct ctl_out_table table = {0};
	size_t i;

	ctl_out_row(&table, "JOB", "STATE", "FOR", "NAME", "SOURCE", "PROGRESS", NULL);
	for (i = count; i-- > 0;)
		list_row(&table, views[i], digits, now_unix_ms);
	ctl_out_table(&table, "", to);
}

/* --- states --------------------------------------------------------------------------------- */

int
ctl_view_find_state(const char *text, enum sp_job_state *out)
{
	char name[40];
	size_t i;

	for (i = 0; text[i] != '\0' && i + 1 < sizeof(name); i++)
		name[i] = text[i] == '-' ? '_' : (char)toupper((unsigned char)text[i]);
	name[i] = '\0';
	return text[i] == '\0' && i > 0 && sp_jobs_state_find(name, out);
}

static enum sp_job_state
state_of(const Sallyport__OperatorJobView *view)
{
	enum sp_job_state state;

	return sp_jobs_state_find(view->state, &state) ? state : SP_JOB_NONE;
}

int
ctl_view_ended(const Sallyport__OperatorJobView *view)
{
	enum sp_recipe recipe;

	if (!sp_jobs_recipe_find(view->kind, &recipe))
		recipe = SP_RECIPE_MODEL;
	return sp_jobs_ended(recipe, state_of(view));
}

int
ctl_view_reached(const Sallyport__OperatorJobView *view, const char *state)
{
	enum sp_job_state wanted, now = state_of(view);

	if (!sp_jobs_state_find(state, &wanted))
		return 0;
	/* the table lists the states in the order in which a job that fares well passes them */
	return now == wanted || (now > wanted && now < SP_JOB_BLOCKED && wanted != SP_JOB_NONE);
}

enum sp_code
ctl_view_outcome(const Sallyport__OperatorJobView *view, struct sp_err *err)
{
	enum sp_code code;

	switch (state_of(view)) {
	case SP_JOB_BLOCKED:
		code = SP_E_BLOCKED;
		break;
	case SP_JOB_REJECTED:
	case SP_JOB_QUARANTINED:
		code = SP_E_DENIED;
		break;
	case SP_JOB_FAILED:
	case SP_JOB_CANCELLED:
		code = SP_E_STATE;
		break;
	default:
		return SP_OK;
	}
	return sp_err_set(err, code, "job %s is %s%s%s", view->job, view->state,
	    view->reason[0] != '\0' ? ": " : "", view->reason);
}

char *
ctl_view_next(const Sallyport__OperatorJobView *view)
{
	switch (state_of(view)) {
	case SP_JOB_AWAITING_APPROVAL:
		return sp_xasprintf("`sallyctl approve %.8s --key FILE` (%u of %u approvals), or "
				    "`sallyctl reject %.8s`",
		    view->job, view->approvals, view->approvals_needed, view->job);
	case SP_JOB_FAILED:
		return sp_xasprintf(
		    "mend what the reason names, then `sallyctl retry %.8s`", view->job);
	case SP_JOB_BLOCKED:
		/* the job keeps the profile that it was submitted with */
		if (strcmp(view->step, sp_jobs_step_name(SP_STEP_FETCH)) == 0)
			return sp_xasprintf(
			    "change what the reason names in profile \"%s\", or take "
			    "another profile, and submit it anew",
			    view->profile);
		return sp_xasprintf("the verdict is final for this candidate; `sallyctl log show "
				    "%.8s` tells how it came about",
		    view->job);
	case SP_JOB_QUARANTINED:
		return sp_xasprintf(
		    "look into diode-rxd's quarantine/%s, find out who sent it, and "
		    "have the bastion send it anew",
		    view->job);
	case SP_JOB_INCOMPLETE:
		return sp_xasprintf("the next pass of the sender fills the gaps; `sallyctl watch "
				    "%.8s`",
		    view->job);
	case SP_JOB_FETCHED:
		return sp_xasprintf(ctl_view_ended(view) ? "`sallyctl fetched %.8s DIR` lays its "
							   "files out, for profiles to name"
							 : "`sallyctl watch %.8s`",
		    view->job);
	case SP_JOB_SENT:
		return sp_xasprintf("in the enclave: `sallyctl watch %.8s`", view->job);
	case SP_JOB_REGISTERED:
		return sp_xasprintf("`sallyctl chain %s@%" PRIu64 "`, or `sallyctl pull %s DIR`",
		    view->name, view->model_version, view->name);
	default:
		return ctl_view_ended(view) ? NULL
					    : sp_xasprintf("`sallyctl watch %.8s`", view->job);
	}
}

/* --- progress ------------------------------------------------------------------------------- */

#define FIRST_MS 5000			  /* the rate is the mean of so long a beginning */
#define MEMORY_MS 5000			  /* after it, what is older than this counts for little */
#define LEFT_MAX_MS (INT64_C(8640000000)) /* 100 days: no guess that helps anybody */

/* A phase's name: what is behind a colon says how it goes, "layer: error 0.01 -> 0.004". */
static int
same_phase(const char *a, const char *b)
{
	size_t len = strcspn(a, ":");

	return len == strcspn(b, ":") && strncmp(a, b, len) == 0;
}

void
ctl_view_rate(struct ctl_view_rate *rate, const Sallyport__OperatorJobView *view, int64_t now_ms)
{
	int64_t passed_ms = now_ms - rate->at_ms;
	double sample;

	if (rate->at_ms == 0 || view->done < rate->done || !same_phase(rate->phase, view->phase)) {
		snprintf(rate->phase, sizeof(rate->phase), "%s", view->phase);
		rate->first = rate->done = view->done;
		rate->first_ms = rate->at_ms = now_ms;
		rate->per_s = -1;
		return;
	}
	if (passed_ms < 200)
		return; /* too short to tell */
	if (now_ms - rate->first_ms <= FIRST_MS) {
		rate->per_s =
		    (double)(view->done - rate->first) * 1000 / (double)(now_ms - rate->first_ms);
	} else {
		sample = (double)(view->done - rate->done) * 1000 / (double)passed_ms;
		rate->per_s = rate->per_s < 0 ? 0 : rate->per_s;
		rate->per_s +=
		    (sample - rate->per_s) * (double)passed_ms / (double)(passed_ms + MEMORY_MS);
	}
	rate->done = view->done;
	rate->at_ms = now_ms;
}

int64_t
ctl_view_left_ms(const struct ctl_view_rate *rate, const Sallyport__OperatorJobView *view)
{
	double ms;

	if (rate->per_s <= 0 || view->total == 0 || view->done > view->total)
		return -1;
	ms = (double)(view->total - view->done) * 1000 / rate->per_s;
	return ms < (double)LEFT_MAX_MS ? (int64_t)ms : -1;
}

char *
ctl_view_speed(const Sallyport__OperatorJobView *view, const struct ctl_view_rate *rate)
{
	int64_t left_ms = ctl_view_left_ms(rate, view);
	char *speed, *all;

	/* who works knows better how long it takes */
	if (rate->per_s <= 0 || strstr(view->phase, " left") != NULL)
		return sp_xstrdup("");
	if (strcmp(view->unit, "bytes") == 0)
		speed = sp_xasprintf("%s/s", ctl_out_size((uint64_t)rate->per_s).s);
	else
		speed = sp_xasprintf("%.*f/s", rate->per_s < 0.1 ? 3 : 1, rate->per_s);
	all = left_ms < 0 ? sp_xstrdup(speed)
			  : sp_xasprintf("%s  %s left", speed, ctl_out_duration(left_ms + 999).s);
	free(speed);
	return all;
}

char *
ctl_view_line(const Sallyport__OperatorJobView *view, const struct ctl_view_rate *rate)
{
	char *progress, *speed, *line, *clean;

	if (view->phase[0] == '\0') {
		line = sp_xasprintf(
		    "%s%s%s", view->state, view->reason[0] != '\0' ? "  " : "", view->reason);
	} else {
		progress = ctl_out_progress(view->done, view->total, view->unit);
		speed = ctl_view_speed(view, rate);
		line = sp_xasprintf("%s  %s  %s%s%s", view->state, view->phase, progress,
		    speed[0] != '\0' ? "  " : "", speed);
		free(progress);
		free(speed);
	}
	clean = ctl_out_clean(line);
	free(line);
	return clean;
}
