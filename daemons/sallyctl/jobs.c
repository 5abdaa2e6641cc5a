/* jobs.c -- submit, jobs, job, reject, cancel, retry. */
#include "jobs.h"
#include "base/hash.h"
#include "view.h"
#include "watch.h"

#include <inttypes.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

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

enum sp_code
ctl_jobs_fetch(struct ctl *ctl, const char *id, uint64_t after_change, int wait_ms,
    Sallyport__OperatorReply **reply, const Sallyport__OperatorJobView **view, struct sp_err *err)
{
	Sallyport__OperatorRequest request;
	Sallyport__OperatorJob body;
	enum sp_code code;

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
	enum sp_code code;

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

static void
list_rows(const Sallyport__OperatorJobList *list, struct ctl_out_table *table)
{
	const Sallyport__OperatorJobView *view;
	char *progress;
	size_t i;

	for (i = 0; i < list->n_jobs; i++) {
		view = list->jobs[i];
		progress = view->phase[0] != '\0'
			       ? ctl_out_progress(view->done, view->total, view->unit)
			       : sp_xstrdup("");
		ctl_out_row(table, view->job, view->state, view->name, view->source, view->changed,
		    progress, NULL);
		free(progress);
	}
}

enum sp_code
ctl_jobs(struct ctl *ctl, const struct ctl_args *args, struct sp_err *err)
{
	int all = ctl_args_get(args, "--all") != NULL, more = 1;
	struct ctl_out_table table = {0};
	Sallyport__OperatorReply *reply;
	json_t *list = json_array();
	size_t i, n, count = 0;
	enum sp_code code = SP_OK;
	uint64_t before = 0;

	while (code == SP_OK && more) {
		code = ctl_jobs_list(ctl, all, before, &reply, err);
		if (code != SP_OK)
			break;
		n = reply->jobs->n_jobs;
		for (i = 0; ctl->json && i < n; i++)
			json_array_append_new(list, ctl_view_json(reply->jobs->jobs[i]));
		if (!ctl->json && n > 0) {
			if (count == 0)
				ctl_out_row(&table, "JOB", "STATE", "NAME", "SOURCE", "CHANGED",
				    "PROGRESS", NULL);
			list_rows(reply->jobs, &table);
		}
		count += n;
		more = reply->jobs->more && n > 0;
		before = n > 0 ? reply->jobs->jobs[n - 1]->first_seq : 0;
		sallyport__operator_reply__free_unpacked(reply, NULL);
	}
	if (code == SP_OK && ctl->json)
		ctl_out_json(json_pack("{s:O}", "jobs", list));
	else if (code == SP_OK && count == 0)
		puts(all ? "No job was ever submitted here."
			 : "No job is under way; `sallyctl jobs --all` lists those that have "
			   "ended.");
	ctl_out_table(&table, "", stdout);
	json_decref(list);
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
		if (ctl->json)
			ctl_out_json(json_pack("{s:s, s:s, s:I}", "job", view->job, "state",
			    reply->accepted->state, "log_seq",
			    (json_int_t)reply->accepted->log_seq));
		else
			ctl_out_print(stdout, "job %s is %s (log entry %" PRIu64 ")\n", view->job,
			    reply->accepted->state, reply->accepted->log_seq);
		sallyport__operator_reply__free_unpacked(reply, NULL);
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
