/* jobs.c -- submit, jobs, job, reject, cancel, retry. */
#include "jobs.h"
#include "base/hash.h"
#include "base/source.h"
#include "base/time.h"
#include "ledger/jobs.h"
#include "view.h"
#include "watch.h"

#include <inttypes.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define ID_LEAST 4 /* digits that name a job */

static char *
borrow(const char *text)
{
	/* protobuf-c's strings are not const, but packing does not write to them */
	return (char *)(uintptr_t)text;
}

/* What is approved, rejected or cancelled must be the job that the operator named. */
static enum sp_code
check_answer(const Sallyport__OperatorJobView *view, const char *id, struct sp_err *err)
{
	if (strlen(view->job) == SP_JOB_ID_LEN &&
	    strspn(view->job, "0123456789abcdef") == SP_JOB_ID_LEN &&
	    strncmp(view->job, id, strlen(id)) == 0)
		return SP_OK;
	return sp_err_set(err, SP_E_DENIED, "ledgerd was asked for job %s and answered with job %s",
	    id, view->job);
}

/* What can be no job's id need not be asked for. */
static enum sp_code
check_id(struct ctl *ctl, const char *id, struct sp_err *err)
{
	size_t len = strspn(id, "0123456789abcdef");

	if (len >= ID_LEAST && len <= SP_JOB_ID_LEN && id[len] == '\0')
		return SP_OK;
	return ctl_usage(ctl, err,
	    "\"%.40s\" names no job: give its id, or the first %d or more of its %d hex digits", id,
	    ID_LEAST, SP_JOB_ID_LEN);
}

enum sp_code
ctl_jobs_fetch(struct ctl *ctl, const char *id, uint64_t after_change, int wait_ms,
    Sallyport__OperatorReply **reply, const Sallyport__OperatorJobView **view, struct sp_err *err)
{
	Sallyport__OperatorRequest request;
	Sallyport__OperatorJob body;
	enum sp_code code;

	code = check_id(ctl, id, err);
	if (code != SP_OK)
		return code;
	sallyport__operator_request__init(&request);
	sallyport__operator_job__init(&body);
	body.job = borrow(id);
	body.after_change = after_change;
	body.wait_ms = (uint32_t)wait_ms;
	request.body_case = SALLYPORT__OPERATOR_REQUEST__BODY_JOB;
	request.job = &body;
	code = ctl_ask(ctl, &request, wait_ms, SALLYPORT__OPERATOR_REPLY__BODY_JOBS, reply, err);
	if (code != SP_OK)
		return code;
	if ((*reply)->jobs->n_jobs != 1)
		code = sp_err_set(err, SP_E_INVALID, "ledgerd answered with %zu jobs, not one",
		    (*reply)->jobs->n_jobs);
	else
		code = check_answer((*reply)->jobs->jobs[0], id, err);
	if (code != SP_OK) {
		sallyport__operator_reply__free_unpacked(*reply, NULL);
		*reply = NULL;
		return code;
	}
	*view = (*reply)->jobs->jobs[0];
	return SP_OK;
}

/* --- submit --------------------------------------------------------------------------------- */

static enum sp_code
submit_and_wait(struct ctl *ctl, const char *id, struct sp_err *err)
{
	const Sallyport__OperatorJobView *view;
	Sallyport__OperatorReply *reply;
	enum sp_code code;
	json_t *document;
	char *next;

	code = ctl_watch_follow(
	    ctl, id, NULL, ctl->json ? CTL_WATCH_QUIET : CTL_WATCH_PAUSE, &reply, &view, err);
	if (code != SP_OK)
		return code;
	code = ctl_view_outcome(view, err);
	if (ctl->json) {
		document = ctl_view_json(view);
		if (code != SP_OK)
			json_object_set_new(document, "error", ctl_error_json(err));
		ctl_out_json(document);
		ctl->told = 1;
	} else if ((next = ctl_view_next(view)) != NULL) {
		ctl_out_print(stdout, "Next: %s\n", next);
		free(next);
	}
	sallyport__operator_reply__free_unpacked(reply, NULL);
	return code;
}

enum sp_code
ctl_submit(struct ctl *ctl, const struct ctl_args *args, struct sp_err *err)
{
	const char *profile = ctl_args_get(args, "--profile");
	char id[SP_JOB_ID_LEN + 1];
	Sallyport__OperatorRequest request;
	Sallyport__OperatorReply *reply;
	Sallyport__OperatorSubmit body;
	uint8_t bytes[SP_JOB_ID_LEN / 2];
	struct sp_source source;
	enum sp_code code;

	/* what is wrong with the line need not be asked */
	code = sp_source_parse(args->words[0], &source, err);
	if (code != SP_OK) {
		ctl->usage = 1;
		return code;
	}
	SP_ASSERT(sodium_init() >= 0);
	randombytes_buf(bytes, sizeof(bytes));
	sp_hex_encode(bytes, sizeof(bytes), id);
	sallyport__operator_request__init(&request);
	sallyport__operator_submit__init(&body);
	body.request = id;
	body.source = borrow(args->words[0]);
	body.profile = borrow(profile != NULL ? profile : "default");
	request.body_case = SALLYPORT__OPERATOR_REQUEST__BODY_SUBMIT;
	request.submit = &body;
	code = ctl_ask(ctl, &request, 0, SALLYPORT__OPERATOR_REPLY__BODY_ACCEPTED, &reply, err);
	if (code != SP_OK)
		return code;
	if (ctl_args_get(args, "--wait") != NULL) {
		if (!ctl->json)
			printf("job %s\n", id);
		code = submit_and_wait(ctl, id, err);
	} else if (ctl->json) {
		ctl_out_json(json_pack("{s:s, s:s, s:I}", "job", reply->accepted->job, "state",
		    reply->accepted->state, "log_seq", (json_int_t)reply->accepted->log_seq));
	} else {
		ctl_out_print(stdout, "job %s is %s\n\nNext: `sallyctl watch %.8s`\n", id,
		    reply->accepted->state, id);
	}
	sallyport__operator_reply__free_unpacked(reply, NULL);
	return code;
}

/* --- jobs, job ------------------------------------------------------------------------------ */

enum sp_code
ctl_jobs_list(struct ctl *ctl, int ended, uint64_t before, Sallyport__OperatorReply **reply,
    struct sp_err *err)
{
	Sallyport__OperatorRequest request;
	Sallyport__OperatorJobs body;

	sallyport__operator_request__init(&request);
	sallyport__operator_jobs__init(&body);
	body.ended = ended;
	body.before = before;
	request.body_case = SALLYPORT__OPERATOR_REQUEST__BODY_JOBS;
	request.jobs = &body;
	return ctl_ask(ctl, &request, 0, SALLYPORT__OPERATOR_REPLY__BODY_JOBS, reply, err);
}

/* Pages as ledgerd gives them, newest first, and those of their jobs that are wanted. */
struct listing {
	Sallyport__OperatorReply **pages;
	size_t page_count;
	const Sallyport__OperatorJobView **views;
	size_t count;
};

static void
listing_clear(struct listing *l)
{
	size_t i;

	for (i = 0; i < l->page_count; i++)
		sallyport__operator_reply__free_unpacked(l->pages[i], NULL);
	free(l->pages);
	free(l->views);
}

/* Pages that do not lead further back would lead on for ever. */
static enum sp_code
check_order(const Sallyport__OperatorJobList *list, uint64_t before, struct sp_err *err)
{
	size_t i;

	for (i = 0; i < list->n_jobs; i++) {
		if (before > 0 && list->jobs[i]->first_seq >= before)
			return sp_err_set(err, SP_E_INVALID,
			    "ledgerd was asked for jobs before entry %" PRIu64
			    " and answered with one of entry %" PRIu64,
			    before, list->jobs[i]->first_seq);
		before = list->jobs[i]->first_seq;
	}
	return SP_OK;
}

/* state: NULL for all of them; last: so many at most. */
static enum sp_code
gather(struct ctl *ctl, int ended, const char *state, uint64_t last, struct listing *l,
    struct sp_err *err)
{
	const Sallyport__OperatorJobList *list;
	Sallyport__OperatorReply *reply;
	uint64_t before = 0;
	enum sp_code code;
	int more = 1;
	size_t i;

	while (more) {
		code = ctl_jobs_list(ctl, ended, before, &reply, err);
		if (code != SP_OK)
			return code;
		l->pages = sp_xrealloc(l->pages, l->page_count + 1, sizeof(*l->pages));
		l->pages[l->page_count++] = reply;
		list = reply->jobs;
		code = check_order(list, before, err);
		if (code != SP_OK)
			return code;
		l->views = sp_xrealloc(l->views, l->count + list->n_jobs + 1, sizeof(*l->views));
		for (i = 0; i < list->n_jobs && l->count < last; i++)
			if (state == NULL || strcmp(list->jobs[i]->state, state) == 0)
				l->views[l->count++] = list->jobs[i];
		more = list->more && list->n_jobs > 0 && l->count < last;
		before = list->n_jobs > 0 ? list->jobs[list->n_jobs - 1]->first_seq : 0;
	}
	return SP_OK;
}

static void
print_listing(struct ctl *ctl, const struct listing *l, int all, const char *state)
{
	json_t *list;
	size_t i;

	if (ctl->json) {
		list = json_array();
		for (i = l->count; i-- > 0;)
			json_array_append_new(list, ctl_view_json(l->views[i]));
		ctl_out_json(json_pack("{s:o}", "jobs", list));
	} else if (l->count > 0) {
		ctl_view_list(l->views, l->count, sp_time_unix_ms(), stdout);
	} else if (state != NULL) {
		printf("No job is %s.\n", state);
	} else {
		puts(all ? "No job was ever submitted here."
			 : "No job is under way; `sallyctl jobs --all` lists those that have "
			   "ended.");
	}
}

enum sp_code
ctl_jobs(struct ctl *ctl, const struct ctl_args *args, struct sp_err *err)
{
	const char *wanted = ctl_args_get(args, "--state"), *last = ctl_args_get(args, "--last");
	int all = ctl_args_get(args, "--all") != NULL;
	enum sp_job_state state = SP_JOB_NONE;
	struct listing l = {0};
	uint64_t count = UINT64_MAX;
	enum sp_code code;
	char *end;

	if (wanted != NULL && !ctl_view_find_state(wanted, &state))
		return ctl_usage(ctl, err, "there is no state \"%.40s\"", wanted);
	if (last != NULL) {
		count = strtoull(last, &end, 10);
		if (*end != '\0' || last[0] < '1' || last[0] > '9')
			return ctl_usage(ctl, err, "--last is a number from 1 on");
	}
	wanted = wanted != NULL ? sp_jobs_state_name(state) : NULL;
	/* in which some jobs, or all, have come to their end */
	all =
	    all || sp_jobs_ended(SP_RECIPE_MODEL, state) || sp_jobs_ended(SP_RECIPE_DATASET, state);
	code = gather(ctl, all, wanted, count, &l, err);
	if (code == SP_OK)
		print_listing(ctl, &l, all, wanted);
	listing_clear(&l);
	return code;
}

enum sp_code
ctl_job(struct ctl *ctl, const struct ctl_args *args, struct sp_err *err)
{
	const Sallyport__OperatorJobView *view;
	Sallyport__OperatorReply *reply;
	enum sp_code code;

	code = ctl_jobs_fetch(ctl, args->words[0], 0, 0, &reply, &view, err);
	if (code != SP_OK)
		return code;
	if (ctl->json)
		ctl_out_json(ctl_view_json(view));
	else
		ctl_view_print(view, stdout);
	sallyport__operator_reply__free_unpacked(reply, NULL);
	return SP_OK;
}

/* --- reject, cancel, retry ------------------------------------------------------------------ */

/* Why it cannot be done to a job in that state, in words that say what can; err as it is, where
 * ledgerd refused for another reason than the state. */
static enum sp_code
explain(const Sallyport__OperatorJobView *view, Sallyport__OperatorRequest__BodyCase what,
    struct sp_err *err)
{
	if (what == SALLYPORT__OPERATOR_REQUEST__BODY_CANCEL)
		return sp_err_set(err, SP_E_STATE, "job %s is %s: there is nothing left to cancel",
		    view->job, view->state);
	if (what == SALLYPORT__OPERATOR_REQUEST__BODY_REJECT)
		return sp_err_set(err, SP_E_STATE,
		    "job %s is %s: only a candidate that awaits approval is rejected; `sallyctl "
		    "cancel "
		    "%.8s` ends a job that is under way",
		    view->job, view->state, view->job);
	/* what it would need may have been collected */
	if (strcmp(view->state, "FAILED") == 0)
		return err->code;
	if (ctl_view_ended(view))
		return sp_err_set(err, SP_E_STATE,
		    "job %s is %s: only one that is FAILED is tried again; to start over: "
		    "`sallyctl "
		    "submit %s --profile %s`",
		    view->job, view->state, view->source, view->profile);
	return sp_err_set(err, SP_E_STATE,
	    "job %s is %s: only one that is FAILED is tried again; this one is under way",
	    view->job, view->state);
}

static void
print_said(const struct ctl *ctl, const char *job, const Sallyport__OperatorAccepted *accepted)
{
	if (ctl->json)
		ctl_out_json(json_pack("{s:s, s:s, s:I, s:s}", "job", job, "state", accepted->state,
		    "log_seq", (json_int_t)accepted->log_seq, "note", accepted->note));
	else
		ctl_out_print(stdout, "job %s is %s (log entry %" PRIu64 ")%s%s\n", job,
		    accepted->state, accepted->log_seq, accepted->note[0] != '\0' ? ": " : "",
		    accepted->note);
}

static enum sp_code
say(struct ctl *ctl, const struct ctl_args *args, Sallyport__OperatorRequest__BodyCase what,
    struct sp_err *err)
{
	const char *reason = ctl_args_get(args, "--reason");
	const Sallyport__OperatorJobView *view;
	Sallyport__OperatorReply *found, *reply;
	Sallyport__OperatorRequest request;
	Sallyport__OperatorReason body;
	enum sp_code code;

	/* so that the beginning of an id will do, and the answer names the job in full */
	code = ctl_jobs_fetch(ctl, args->words[0], 0, 0, &found, &view, err);
	if (code != SP_OK)
		return code;
	sallyport__operator_request__init(&request);
	sallyport__operator_reason__init(&body);
	body.job = view->job;
	body.reason = borrow(reason != NULL ? reason : "");
	request.body_case = what;
	request.reject = &body; /* reject, cancel and retry share the union and the type */
	code = ctl_ask(ctl, &request, 0, SALLYPORT__OPERATOR_REPLY__BODY_ACCEPTED, &reply, err);
	if (code == SP_OK) {
		print_said(ctl, view->job, reply->accepted);
		sallyport__operator_reply__free_unpacked(reply, NULL);
	} else if (code == SP_E_STATE) {
		code = explain(view, what, err);
	}
	sallyport__operator_reply__free_unpacked(found, NULL);
	return code;
}

enum sp_code
ctl_reject(struct ctl *ctl, const struct ctl_args *args, struct sp_err *err)
{
	return say(ctl, args, SALLYPORT__OPERATOR_REQUEST__BODY_REJECT, err);
}

enum sp_code
ctl_cancel(struct ctl *ctl, const struct ctl_args *args, struct sp_err *err)
{
	return say(ctl, args, SALLYPORT__OPERATOR_REQUEST__BODY_CANCEL, err);
}

enum sp_code
ctl_retry(struct ctl *ctl, const struct ctl_args *args, struct sp_err *err)
{
	return say(ctl, args, SALLYPORT__OPERATOR_REQUEST__BODY_RETRY, err);
}
