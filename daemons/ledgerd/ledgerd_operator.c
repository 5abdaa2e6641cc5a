/* ledgerd_operator.c -- operators' requests: who asks is what the kernel says, never the message.
 */
#include "base/log.h"
#include "base/path.h"
#include "base/source.h"
#include "base/time.h"
#include "bus/paths.h"
#include "bus/wire.h"
#include "ledgerd.h"
#include "profile.h"

#include <pwd.h>
#include <stdlib.h>
#include <string.h>

/* A request under way. */
struct asked {
	struct ledgerd *l;
	const struct sp_hub_operator *from;
	uint64_t seq;
	char user[SP_NAME_MAX + 1];
};

/* --- who -------------------------------------------------------------------------------------- */

static void
name_user(int64_t uid, char out[SP_NAME_MAX + 1])
{
	struct passwd pw, *found = NULL;
	char buf[4096];

	if (getpwuid_r((uid_t)uid, &pw, buf, sizeof(buf), &found) == 0 && found != NULL &&
	    sp_path_is_utf8(pw.pw_name, strlen(pw.pw_name)))
		snprintf(out, SP_NAME_MAX + 1, "%s", pw.pw_name);
	else
		snprintf(out, SP_NAME_MAX + 1, "uid %lld", (long long)uid);
}

static struct sp_actor
actor_of(const struct asked *a, const char *key_id)
{
	struct sp_actor actor = {1, (uint32_t)a->from->uid, "", a->user, key_id};

	return actor;
}

/* --- answers ---------------------------------------------------------------------------------- */

static void
reply_error(const struct asked *a, const struct sp_err *err)
{
	ledgerd_reply_error(a->l, a->from, a->seq, err);
}

static void
reply_accepted(const struct asked *a, const char *job, enum sp_job_state state, uint64_t log_seq,
    int done, const char *note)
{
	Sallyport__OperatorReply reply;
	Sallyport__OperatorAccepted accepted;

	sallyport__operator_reply__init(&reply);
	sallyport__operator_accepted__init(&accepted);
	accepted.job = (char *)(uintptr_t)job;
	accepted.state = (char *)(uintptr_t)sp_jobs_state_name(state);
	accepted.log_seq = log_seq;
	accepted.done = done;
	accepted.note = (char *)(uintptr_t)note;
	reply.body_case = SALLYPORT__OPERATOR_REPLY__BODY_ACCEPTED;
	reply.accepted = &accepted;
	ledgerd_reply(a->l, a->from, a->seq, &reply);
}

/* A transition in the batch and its answer. */
static void
change_and_reply(const struct asked *a, struct sp_change *change, int done, const char *note)
{
	struct sp_changed changed;
	struct sp_err err;
	enum sp_code code;

	code = ledgerd_batch(a->l, &err);
	if (code == SP_OK) {
		code = ledgerd_apply(a->l, change, &changed, &err);
		if (code == SP_OK)
			reply_accepted(a, change->job, changed.job.state, changed.seq, done, note);
		else
			ledgerd_undo(a->l, &err);
		sp_changed_clear(&changed);
	}
	if (code != SP_OK)
		reply_error(a, &err);
}

/* --- submit ----------------------------------------------------------------------------------- */

static enum sp_recipe
recipe_of(const struct sp_source *source)
{
	static const enum sp_recipe recipes[] = {[SP_SOURCE_HF] = SP_RECIPE_MODEL,
	    [SP_SOURCE_HF_DATASET] = SP_RECIPE_DATASET,
	    [SP_SOURCE_GITHUB] = SP_RECIPE_FILE,
	    [SP_SOURCE_IMAGE] = SP_RECIPE_IMAGE};

	return recipes[source->scheme];
}

static enum sp_code
candidate_name(const struct sp_source *source, const struct ledgerd_profile *profile,
    char name[SP_NAME_MAX + 1], struct sp_err *err)
{
	int n = snprintf(name, SP_NAME_MAX + 1, "%s%s", source->repo,
	    recipe_of(source) == SP_RECIPE_MODEL ? profile->name_suffix : "");

	if (n > SP_NAME_MAX)
		return sp_err_set(err, SP_E_LIMIT, "the candidate's name would be too long");
	return sp_path_check_repo(name, err);
}

/* The request was made before: the same answer, or it is another one with the same id. */
static void
submitted_before(
    const struct asked *a, const Sallyport__OperatorSubmit *submit, const struct sp_job *job)
{
	struct sp_err err;

	if (job->submitter == a->from->uid && strcmp(job->source, submit->source) == 0 &&
	    strcmp(job->profile, submit->profile) == 0) {
		reply_accepted(a, job->id, job->state, job->first_seq, 1, "submitted before");
		return;
	}
	sp_err_set(&err, SP_E_EXISTS,
	    "request %s was used for another job: draw a new one for each", submit->request);
	reply_error(a, &err);
}

static enum sp_code
prepare(const struct asked *a, const Sallyport__OperatorSubmit *submit, struct sp_source *source,
    const struct ledgerd_profile **profile, char name[SP_NAME_MAX + 1], struct sp_err *err)
{
	const char *dir = sp_conf_string(a->l->conf, "profiles.dir");
	enum sp_code code;

	if (!a->l->core.settings.bastion)
		return sp_err_set(
		    err, SP_E_STATE, "this is the enclave: jobs are submitted on the bastion");
	code = sp_source_parse(submit->source, source, err);
	if (code == SP_OK)
		code = ledgerd_profile_get(&a->l->profile, dir, submit->profile, profile, err);
	if (code == SP_OK)
		code = ledgerd_profile_fits(*profile, submit->profile, recipe_of(source), err);
	if (code == SP_OK)
		code = candidate_name(source, *profile, name, err);
	return code;
}

static void
on_submit(const struct asked *a, const Sallyport__OperatorSubmit *submit)
{
	struct sp_change change = {.event = SP_EV_SUBMIT, .actor = actor_of(a, "")};
	struct sp_job job, fresh = {.submitter = a->from->uid};
	const struct ledgerd_profile *profile;
	struct sp_source source;
	char name[SP_NAME_MAX + 1];
	uint8_t raw[SP_JOB_ID_LEN / 2];
	struct sp_err err;
	enum sp_code code;

	if (sp_hex_decode(submit->request, raw, sizeof(raw)) != SP_OK) {
		sp_err_set(&err, SP_E_INVALID, "request must be 32 lower-case hex digits");
		reply_error(a, &err);
		return;
	}
	code = sp_table_job(sp_ledger_db(a->l->ledger), submit->request, &job, &err);
	if (code == SP_OK) {
		submitted_before(a, submit, &job);
		sp_table_job_clear(&job);
		return;
	}
	if (code == SP_E_NOT_FOUND)
		code = prepare(a, submit, &source, &profile, name, &err);
	if (code == SP_OK) {
		fresh.recipe = recipe_of(&source);
		fresh.source = submit->source;
		fresh.profile = submit->profile;
		fresh.name = name;
		fresh.destination = profile->destination;
		fresh.policy = (uint8_t *)profile->policy;
		fresh.policy_len = profile->policy_len;
		fresh.approvals_needed = profile->approvals;
		change.job = submit->request;
		change.fresh = &fresh;
		change_and_reply(a, &change, 1, "");
	} else {
		reply_error(a, &err);
	}
}

/* --- approve, reject, cancel, retry ----------------------------------------------------------- */

static enum sp_code
find_job(const struct asked *a, const char *prefix, struct sp_job *out, struct sp_err *err)
{
	struct sp_db *db = sp_ledger_db(a->l->ledger);
	char id[SP_JOB_ID_LEN + 1];
	enum sp_code code;

	memset(out, 0, sizeof(*out));
	code = sp_table_resolve(db, prefix, id, err);
	return code == SP_OK ? sp_table_job(db, id, out, err) : code;
}

static enum sp_code
check_approval(const struct asked *a, const struct sp_job *job,
    const Sallyport__OperatorApprove *approve, const struct sp_trust **trust,
    const struct sp_pubkey **signer, struct sp_err *err)
{
	enum sp_code code;

	if (job->state != SP_JOB_AWAITING_APPROVAL)
		return sp_err_set(err, SP_E_STATE, "job %s is %s: it awaits no approval", job->id,
		    sp_jobs_state_name(job->state));
	if (job->submitter == a->from->uid &&
	    !ledgerd_profile_submitter_may_approve(job->policy, job->policy_len))
		return sp_err_set(err, SP_E_DENIED,
		    "job %s was submitted by %s, and profile \"%s\" wants it approved by others",
		    job->id, a->user, job->profile);
	code = ledgerd_trust(a->l, trust, err);
	if (code == SP_OK)
		code = ledgerd_check_approval(
		    *trust, job, approve->signature.data, approve->signature.len, signer, err);
	return code;
}

static int
has_key(const struct sp_table_extras *extras, const char *keyid)
{
	size_t i;

	for (i = 0; i < extras->approval_count; i++)
		if (strcmp(extras->approvals[i].keyid, keyid) == 0)
			return 1;
	return 0;
}

static void
approve_job(
    const struct asked *a, const struct sp_job *job, const Sallyport__OperatorApprove *approve)
{
	struct sp_change_approval approval = {
	    .envelope = approve->signature.data, .len = approve->signature.len};
	struct sp_change change = {.job = job->id, .approval = &approval};
	struct sp_table_extras extras = {0};
	const struct sp_pubkey *signer = NULL;
	const struct sp_trust *trust = NULL;
	unsigned people, needed;
	struct sp_err err;
	enum sp_code code;
	char note[64];
	int known;

	code = check_approval(a, job, approve, &trust, &signer, &err);
	if (code == SP_OK)
		code = sp_table_extras(sp_ledger_db(a->l->ledger), job->id, &extras, &err);
	if (code != SP_OK) {
		reply_error(a, &err);
		return;
	}
	people = ledgerd_check_people(trust, &extras, signer->name, &known);
	needed = ledgerd_check_needed(trust, job);
	snprintf(note, sizeof(note), "%u of %u approvals", people, needed);
	approval.keyid = signer->id.s;
	approval.person = signer->name;
	if (has_key(&extras, signer->id.s) && people < needed) {
		/* the answer to the first request may have been lost */
		reply_accepted(a, job->id, job->state, job->last_seq, 0, note);
	} else {
		/* nothing new, but the trust document may ask for fewer by now */
		if (has_key(&extras, signer->id.s))
			change.approval = NULL;
		change.actor = actor_of(a, signer->id.s);
		change.event = people >= needed ? SP_EV_APPROVED : SP_EV_APPROVE;
		change_and_reply(a, &change, people >= needed, note);
	}
	sp_table_extras_clear(&extras);
}

static void
on_approve(const struct asked *a, const Sallyport__OperatorApprove *approve)
{
	struct sp_job job;
	struct sp_err err;

	if (find_job(a, approve->job, &job, &err) == SP_OK)
		approve_job(a, &job, approve);
	else
		reply_error(a, &err);
	sp_table_job_clear(&job);
}

/* States in which a repeat of the request finds the job when the first one was carried out. */
static int
is_repeat(enum sp_job_event event, enum sp_job_state state)
{
	return (event == SP_EV_CANCEL && state == SP_JOB_CANCELLED) ||
	       (event == SP_EV_REJECT && state == SP_JOB_REJECTED);
}

static void
on_reason(const struct asked *a, const Sallyport__OperatorReason *body, enum sp_job_event event)
{
	struct sp_change change = {.event = event, .actor = actor_of(a, "")};
	struct sp_attempt attempt = {0};
	struct sp_job job;
	struct sp_err err;
	enum sp_code code;
	int found;

	/* the log has room for no more, and the worker's Cancel and lists of jobs carry it too */
	if (strlen(body->reason) > SP_ENTRY_REASON_MAX) {
		sp_err_set(&err, SP_E_LIMIT, "reason: longer than %d bytes", SP_ENTRY_REASON_MAX);
		reply_error(a, &err);
		return;
	}
	code = find_job(a, body->job, &job, &err);
	/* a step that was bound to a worker stays so */
	if (code == SP_OK)
		code = sp_table_newest(sp_ledger_db(a->l->ledger), job.id, &attempt, &found, &err);
	if (code == SP_OK && event == SP_EV_RETRY)
		code = ledgerd_gc_check_retry(a->l, &job, &err);
	if (code != SP_OK) {
		reply_error(a, &err);
	} else if (is_repeat(event, job.state)) {
		reply_accepted(a, job.id, job.state, job.last_seq, 1, "done before");
	} else {
		change.job = job.id;
		change.reason = body->reason;
		change.pin = attempt.pin;
		change_and_reply(a, &change, 1, "");
	}
	sp_table_job_clear(&job);
}

/* --- jobs ------------------------------------------------------------------------------------- */

struct lister {
	struct ledgerd *l;
	Sallyport__OperatorJobView *views[LEDGERD_JOBS_MAX];
	size_t count, bytes;
	int more; /* than fit one message */
};

static enum sp_code
list_one(void *ctx, const struct sp_job *job, struct sp_err *err)
{
	struct lister *lister = ctx;
	Sallyport__OperatorJobView *view;
	enum sp_code code;

	if (lister->count == LEDGERD_JOBS_MAX || lister->bytes > LEDGERD_REPLY_BYTES) {
		lister->more = 1;
		return SP_E_LIMIT;
	}
	code = ledgerd_view_job(lister->l, job, 0, &view, err);
	if (code != SP_OK)
		return code;
	lister->views[lister->count++] = view;
	lister->bytes += sallyport__operator_job_view__get_packed_size(view);
	return SP_OK;
}

static void
reply_jobs(const struct asked *a, Sallyport__OperatorJobView **views, size_t count, int more)
{
	Sallyport__OperatorReply reply;
	Sallyport__OperatorJobList list;

	sallyport__operator_reply__init(&reply);
	sallyport__operator_job_list__init(&list);
	list.n_jobs = count;
	list.jobs = views;
	list.more = more;
	reply.body_case = SALLYPORT__OPERATOR_REPLY__BODY_JOBS;
	reply.jobs = &list;
	ledgerd_reply(a->l, a->from, a->seq, &reply);
}

static void
on_jobs(const struct asked *a, const Sallyport__OperatorJobs *body)
{
	struct lister *lister = sp_xcalloc(1, sizeof(*lister));
	struct sp_err err;
	enum sp_code code;
	size_t i;

	lister->l = a->l;
	code = sp_table_jobs(sp_ledger_db(a->l->ledger), body->ended,
	    body->before > 0 ? body->before : UINT64_MAX, list_one, lister, &err);
	if (code == SP_OK || lister->more)
		reply_jobs(a, lister->views, lister->count, lister->more);
	else
		reply_error(a, &err);
	for (i = 0; i < lister->count; i++)
		ledgerd_view_free(&lister->views[i]);
	free(lister);
}

/* Answered later, when the job has changed. 0: no room, answer now. */
static int
wait_for(const struct asked *a, const struct sp_job *job, const Sallyport__OperatorJob *body)
{
	struct ledgerd *l = a->l;
	struct ledgerd_waiter *w;
	uint32_t wait_ms = body->wait_ms;

	if (l->waiter_count == LEDGERD_WAITERS_MAX)
		return 0;
	if (wait_ms > LEDGERD_WAIT_MAX_MS)
		wait_ms = LEDGERD_WAIT_MAX_MS;
	w = &l->waiters[l->waiter_count++];
	w->from = *a->from;
	w->seq = a->seq;
	w->after = body->after_change;
	w->deadline_ms = sp_time_monotonic_ms() + wait_ms;
	memcpy(w->job, job->id, sizeof(w->job));
	return 1;
}

static void
on_job(const struct asked *a, const Sallyport__OperatorJob *body)
{
	Sallyport__OperatorJobView *view;
	struct sp_job job;
	struct sp_err err;
	enum sp_code code;

	code = find_job(a, body->job, &job, &err);
	if (code == SP_OK && body->wait_ms > 0 &&
	    ledgerd_view_change(a->l, &job) <= body->after_change && wait_for(a, &job, body)) {
		sp_table_job_clear(&job);
		return;
	}
	if (code == SP_OK)
		code = ledgerd_view_job(a->l, &job, 1, &view, &err);
	if (code == SP_OK) {
		reply_jobs(a, &view, 1, 0);
		ledgerd_view_free(&view);
	} else {
		reply_error(a, &err);
	}
	sp_table_job_clear(&job);
}

/* --- the log ---------------------------------------------------------------------------------- */

struct collector {
	ProtobufCBinaryData *entries;
	size_t count, cap, bytes;
};

static enum sp_code
collect(void *ctx, uint64_t seq, const uint8_t *data, size_t len, struct sp_err *err)
{
	struct collector *c = ctx;

	(void)seq;
	if (c->count > 0 && c->bytes + len > LEDGERD_REPLY_BYTES)
		return sp_err_set(err, SP_E_LIMIT, "as many entries as fit one message");
	if (c->count == c->cap) {
		c->cap = c->cap == 0 ? 64 : c->cap * 2;
		c->entries = sp_xrealloc(c->entries, c->cap, sizeof(*c->entries));
	}
	c->entries[c->count].data = sp_xcalloc(len + 1, 1);
	memcpy(c->entries[c->count].data, data, len);
	c->entries[c->count++].len = len;
	/* with what protobuf adds to each */
	c->bytes += len + 8;
	return SP_OK;
}

static void
on_log(const struct asked *a, const Sallyport__OperatorLog *body)
{
	Sallyport__OperatorReply reply;
	Sallyport__OperatorEntries entries;
	struct sp_ledger *ledger = a->l->ledger;
	uint64_t max = body->count > 0 ? body->count : UINT64_MAX;
	char id[SP_JOB_ID_LEN + 1] = "";
	struct collector c = {0};
	struct sp_err err;
	enum sp_code code = SP_OK;
	size_t i;

	sallyport__operator_reply__init(&reply);
	sallyport__operator_entries__init(&entries);
	/* only what a checkpoint covers: what is not yet committed must not be seen */
	ledgerd_settle(a->l);
	if (body->job[0] != '\0')
		code = sp_table_resolve(sp_ledger_db(ledger), body->job, id, &err);
	if (code == SP_OK)
		code = sp_ledger_entries(ledger, body->from, max, id, collect, &c, &err);
	/* the message is full: the next request goes on behind the last entry */
	if (code == SP_E_LIMIT)
		code = SP_OK;
	if (code == SP_OK) {
		entries.size = sp_ledger_size(ledger);
		entries.n_entries = c.count;
		entries.entries = c.entries;
		entries.checkpoint.data = (uint8_t *)(uintptr_t)sp_ledger_checkpoint(
		    ledger, &entries.checkpoint.len, NULL);
		reply.body_case = SALLYPORT__OPERATOR_REPLY__BODY_ENTRIES;
		reply.entries = &entries;
		ledgerd_reply(a->l, a->from, a->seq, &reply);
	} else {
		reply_error(a, &err);
	}
	for (i = 0; i < c.count; i++)
		free(c.entries[i].data);
	free(c.entries);
}

static void
reply_content(const struct asked *a, const uint8_t *data, size_t len)
{
	Sallyport__OperatorReply reply;
	Sallyport__OperatorContent content;

	sallyport__operator_reply__init(&reply);
	sallyport__operator_content__init(&content);
	content.content.data = (uint8_t *)(uintptr_t)data;
	content.content.len = len;
	reply.body_case = SALLYPORT__OPERATOR_REPLY__BODY_CONTENT;
	reply.content = &content;
	ledgerd_reply(a->l, a->from, a->seq, &reply);
}

static void
on_checkpoint(const struct asked *a)
{
	const uint8_t *note;
	size_t len;

	ledgerd_settle(a->l);
	note = sp_ledger_checkpoint(a->l->ledger, &len, NULL);
	reply_content(a, note, len);
}

static void
on_published(const struct asked *a, const Sallyport__OperatorTopic *body)
{
	struct sp_err err;
	enum sp_code code;
	uint8_t *content;
	size_t len;

	if (strcmp(body->topic, "checkpoint") == 0) {
		on_checkpoint(a);
		return;
	}
	code = sp_table_topic(sp_ledger_db(a->l->ledger), body->topic, &content, &len, &err);
	if (code == SP_OK) {
		reply_content(a, content, len);
		free(content);
	} else if (code == SP_E_NOT_FOUND) {
		reply_content(a, NULL, 0);
	} else {
		reply_error(a, &err);
	}
}

/* --- this host -------------------------------------------------------------------------------- */

static void
on_status(const struct asked *a)
{
	Sallyport__OperatorReply reply;
	Sallyport__OperatorHost *host;
	struct sp_err err;

	sallyport__operator_reply__init(&reply);
	ledgerd_flush(a->l);
	if (ledgerd_view_host(a->l, &host, &err) != SP_OK) {
		reply_error(a, &err);
		return;
	}
	reply.body_case = SALLYPORT__OPERATOR_REPLY__BODY_HOST;
	reply.host = host;
	ledgerd_reply(a->l, a->from, a->seq, &reply);
	sallyport__operator_host__free_unpacked(host, NULL);
}

static void
on_gc(const struct asked *a, const Sallyport__OperatorGc *body)
{
	struct sp_actor actor = actor_of(a, "");

	ledgerd_gc(a->l, &actor, a->from, a->seq, body);
}

/* --- dispatch --------------------------------------------------------------------------------- */

static void
dispatch(const struct asked *a, const Sallyport__OperatorRequest *request)
{
	struct sp_err err;

	switch (request->body_case) {
	case SALLYPORT__OPERATOR_REQUEST__BODY_SUBMIT:
		on_submit(a, request->submit);
		break;
	case SALLYPORT__OPERATOR_REQUEST__BODY_JOBS:
		on_jobs(a, request->jobs);
		break;
	case SALLYPORT__OPERATOR_REQUEST__BODY_JOB:
		on_job(a, request->job);
		break;
	case SALLYPORT__OPERATOR_REQUEST__BODY_APPROVE:
		on_approve(a, request->approve);
		break;
	case SALLYPORT__OPERATOR_REQUEST__BODY_REJECT:
		on_reason(a, request->reject, SP_EV_REJECT);
		break;
	case SALLYPORT__OPERATOR_REQUEST__BODY_CANCEL:
		on_reason(a, request->cancel, SP_EV_CANCEL);
		break;
	case SALLYPORT__OPERATOR_REQUEST__BODY_RETRY:
		on_reason(a, request->retry, SP_EV_RETRY);
		break;
	case SALLYPORT__OPERATOR_REQUEST__BODY_LOG:
		on_log(a, request->log);
		break;
	case SALLYPORT__OPERATOR_REQUEST__BODY_PUBLISHED:
		on_published(a, request->published);
		break;
	case SALLYPORT__OPERATOR_REQUEST__BODY_CHECKPOINT:
		on_checkpoint(a);
		break;
	case SALLYPORT__OPERATOR_REQUEST__BODY_GC:
		on_gc(a, request->gc);
		break;
	case SALLYPORT__OPERATOR_REQUEST__BODY_STATUS:
		on_status(a);
		break;
	default:
		sp_err_set(&err, SP_E_INVALID, "the request asks for nothing");
		reply_error(a, &err);
		break;
	}
}

void
ledgerd_on_operator(void *ctx, const struct sp_hub_operator *from, const uint8_t *data, size_t len)
{
	struct asked a = {.l = ctx, .from = from};
	Sallyport__OperatorRequest *request;
	struct sp_err err;

	request = (Sallyport__OperatorRequest *)sp_wire_unpack(
	    &sallyport__operator_request__descriptor, data, len, &err);
	if (request == NULL) {
		sp_log_warn(NULL, "request of uid %lld refused: %s", (long long)from->uid, err.msg);
		ledgerd_reply_error(ctx, from, 0, &err);
		return;
	}
	a.seq = request->seq;
	name_user(from->uid, a.user);
	if (request->version != 1) {
		sp_err_set(&err, SP_E_UNSUPPORTED,
		    "version %u of the operators' protocol; this ledgerd speaks 1",
		    request->version);
		reply_error(&a, &err);
	} else {
		dispatch(&a, request);
	}
	sallyport__operator_request__free_unpacked(request, NULL);
}
