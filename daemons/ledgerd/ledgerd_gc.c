/*
 * ledgerd_gc.c -- collections: begun by an operator, told to workers, answered, logged.
 *
 * A collection's begin and each daemon's account of it are audit entries, committed before anybody
 * is told: what is gone can be asked for afterwards. It lives in memory; a restart of ledgerd cuts
 * it short, which costs nothing but the operator's patience.
 */
#include "base/log.h"
#include "base/time.h"
#include "ledger/collection.h"
#include "ledgerd.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define DAY_MS (INT64_C(86400) * 1000)
#define DAYS_MAX 36500

/* --- told to operators ------------------------------------------------------------------------ */

static void
fill_view(Sallyport__OperatorCollector *view, const struct ledgerd_collector *who)
{
	sallyport__operator_collector__init(view);
	view->name = (char *)(uintptr_t)who->name;
	view->state = (char *)(uintptr_t)ledgerd_collect_word(who->state);
	view->message = (char *)(uintptr_t)who->message;
	view->phase = (char *)(uintptr_t)who->phase;
	view->unit = (char *)(uintptr_t)who->unit;
	view->done = who->done;
	view->total = who->total;
	view->kept = who->kept;
	view->kept_bytes = who->kept_bytes;
	view->removed = who->removed;
	view->removed_bytes = who->removed_bytes;
	view->leftovers = who->leftovers;
}

static void
reply_collection(struct ledgerd *l, const struct sp_hub_operator *from, uint64_t seq)
{
	struct ledgerd_collection *c = l->collection;
	Sallyport__OperatorCollector *views = sp_xcalloc(c->count + 1, sizeof(*views));
	Sallyport__OperatorCollector **list = sp_xcalloc(c->count + 1, sizeof(*list));
	Sallyport__OperatorCollection collection;
	Sallyport__OperatorReply reply;
	size_t i;

	sallyport__operator_reply__init(&reply);
	sallyport__operator_collection__init(&collection);
	for (i = 0; i < c->count; i++) {
		fill_view(&views[i], &c->list[i]);
		list[i] = &views[i];
	}
	collection.id = c->id;
	collection.over = ledgerd_collect_over(c);
	collection.dry_run = c->dry_run;
	collection.log_seq = c->log_seq;
	collection.n_daemons = c->count;
	collection.daemons = list;
	reply.body_case = SALLYPORT__OPERATOR_REPLY__BODY_COLLECTION;
	reply.collection = &collection;
	ledgerd_reply(l, from, seq, &reply);
	free(list);
	free(views);
}

/* --- told to workers -------------------------------------------------------------------------- */

/* A step of the worker's service is under way, or will be. */
static int
is_awaited(const struct ledgerd_core *core, const char *worker)
{
	enum sp_step step;
	size_t i;

	for (i = 0; i < core->peer_count; i++)
		if (strcmp(core->peers[i].name, worker) == 0)
			break;
	for (step = 0; i < core->peer_count && step < SP_STEP_COUNT; step++)
		if (strcmp(sp_jobs_step_service(step), core->peers[i].service) == 0 &&
		    ledgerd_live_any(&core->lives, step))
			return 1;
	return 0;
}

static void
tell(struct ledgerd *l, const char *worker)
{
	Sallyport__Envelope *envelope = sp_xcalloc(1, sizeof(*envelope));
	Sallyport__Collect *collect = sp_xcalloc(1, sizeof(*collect));

	sallyport__envelope__init(envelope);
	sallyport__collect__init(collect);
	collect->id = sp_xstrdup(l->collection->id);
	collect->dry_run = l->collection->dry_run;
	collect->awaited = is_awaited(&l->core, worker);
	envelope->body_case = SALLYPORT__ENVELOPE__BODY_COLLECT;
	envelope->collect = collect;
	/* its next heartbeat brings it up again */
	ledgerd_say(l, worker, envelope, 1);
}

void
ledgerd_gc_heartbeat(struct ledgerd *l, const char *worker, const Sallyport__Heartbeat *heartbeat)
{
	if (l->collection != NULL &&
	    ledgerd_collect_heartbeat(l->collection, worker, heartbeat, sp_time_monotonic_ms()))
		tell(l, worker);
}

void
ledgerd_gc_expire(struct ledgerd *l)
{
	if (l->collection != NULL)
		ledgerd_collect_expire(
		    l->collection, l->core.settings.lease_ms, sp_time_monotonic_ms());
}

/* --- begin ------------------------------------------------------------------------------------ */

static enum sp_code
check_request(struct ledgerd *l, const Sallyport__OperatorGc *body, struct sp_err *err)
{
	uint8_t raw[SP_JOB_ID_LEN / 2];
	enum sp_code code;
	int found;

	if (sp_hex_decode(body->request, raw, sizeof(raw)) != SP_OK)
		return sp_err_set(err, SP_E_INVALID, "request must be 32 lower-case hex digits");
	if (body->ended_days > DAYS_MAX)
		return sp_err_set(err, SP_E_INVALID, "at most %d days", DAYS_MAX);
	code = sp_collection_find(sp_ledger_db(l->ledger), body->request, &found, err);
	if (code == SP_OK && found)
		return sp_err_set(err, SP_E_STATE,
		    "ledgerd was restarted, or another collection begun, before this one was over: "
		    "what it removed stands in the log; begin a new one");
	if (code == SP_OK && l->collection != NULL && !ledgerd_collect_over(l->collection))
		return sp_err_set(err, SP_E_EXISTS,
		    "a collection that %s began is under way: try again when it is over",
		    l->collection->by);
	return code;
}

static void
detail_u64(struct sp_entry *entry, const char *key, uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, value);
	sp_entry_detail(entry, key, text);
}

/* Who let what go, before it goes. */
static enum sp_code
log_begin(struct ledgerd *l, const struct sp_actor *actor, const Sallyport__OperatorGc *body,
    struct ledgerd_collection *c, struct sp_err *err)
{
	struct sp_entry *entry = sp_entry_new(actor, "gc");
	enum sp_code code;

	sp_entry_detail(entry, "collection", c->id);
	if (body->ended) {
		detail_u64(entry, "ended_days", body->ended_days);
		sp_entry_detail(entry, "ended_before", sp_time_rfc3339(c->ended_before_ms).s);
	}
	code = ledgerd_batch(l, err);
	if (code != SP_OK)
		goto out;
	code = sp_ledger_append(
	    l->ledger, entry, sp_time_unix_ms(), sp_time_monotonic_ms(), &c->log_seq, err);
	if (code == SP_OK)
		code = sp_collection_add(
		    sp_ledger_db(l->ledger), c->id, c->ended_before_ms, c->log_seq, err);
	if (code != SP_OK)
		ledgerd_undo(l, err);
out:
	sp_entry_free(&entry);
	return code;
}

void
ledgerd_gc(struct ledgerd *l, const struct sp_actor *actor, const struct sp_hub_operator *from,
    uint64_t seq, const Sallyport__OperatorGc *body)
{
	struct ledgerd_collection *c;
	struct sp_err err;
	enum sp_code code;
	size_t i;

	if (l->collection != NULL && strcmp(l->collection->id, body->request) == 0) {
		reply_collection(l, from, seq);
		return;
	}
	code = check_request(l, body, &err);
	if (code != SP_OK) {
		ledgerd_reply_error(l, from, seq, &err);
		return;
	}
	c = sp_xcalloc(1, sizeof(*c));
	memcpy(c->id, body->request, sizeof(c->id));
	snprintf(c->by, sizeof(c->by), "%s", actor->name);
	c->dry_run = body->dry_run;
	if (body->ended)
		c->ended_before_ms = sp_time_unix_ms() - body->ended_days * DAY_MS;
	if (!c->dry_run)
		code = log_begin(l, actor, body, c, &err);
	if (code != SP_OK) {
		free(c);
		ledgerd_reply_error(l, from, seq, &err);
		return;
	}
	free(l->collection);
	l->collection = c;
	ledgerd_collect_begin(c, &l->core, sp_time_monotonic_ms());
	sp_log_info(NULL, "collection %s of %zu stores begun by %s%s", c->id, c->count, c->by,
	    c->dry_run ? ", a dry run" : "");
	for (i = 0; i < c->count; i++)
		tell(l, c->list[i].name);
	reply_collection(l, from, seq);
}

void
ledgerd_gc_rolled_back(struct ledgerd *l)
{
	struct ledgerd_collection *c = l->collection;

	if (c == NULL || c->dry_run || c->log_seq < sp_ledger_size(l->ledger))
		return;
	free(c);
	l->collection = NULL;
}

/* --- what is named ---------------------------------------------------------------------------- */

static enum sp_code
answer_names(
    struct ledgerd *l, const Sallyport__Names *names, Sallyport__Named *named, struct sp_err *err)
{
	struct sp_db *db = sp_ledger_db(l->ledger);
	enum sp_code code = SP_OK;
	size_t i;
	int yes;

	for (i = 0; code == SP_OK && i < named->digests.len; i++) {
		code =
		    sp_collection_is_named(db, sp_hex_of(names->digests.data + i * SP_DIGEST_LEN).s,
			l->collection->ended_before_ms, &yes, err);
		named->digests.data[i] = (uint8_t)yes;
	}
	for (i = 0; code == SP_OK && i < names->n_jobs; i++) {
		code = sp_collection_goes_on(db, names->jobs[i], &yes, err);
		named->jobs.data[i] = (uint8_t)yes;
	}
	return code;
}

void
ledgerd_gc_names(struct ledgerd *l, const char *worker, uint64_t seq, const Sallyport__Names *names)
{
	Sallyport__Envelope envelope;
	Sallyport__Named named;
	struct sp_err err;
	enum sp_code code;

	if (l->collection == NULL || strcmp(l->collection->id, names->collection) != 0) {
		sp_err_set(&err, SP_E_STATE,
		    "collection %s is none that is known here: was ledgerd restarted?",
		    names->collection);
		ledgerd_refuse(l, worker, seq, "", &err, 0);
		return;
	}
	sallyport__envelope__init(&envelope);
	sallyport__named__init(&named);
	named.ack_seq = seq;
	named.digests.len = names->digests.len / SP_DIGEST_LEN;
	named.digests.data = sp_xcalloc(named.digests.len + 1, 1);
	named.jobs.len = names->n_jobs;
	named.jobs.data = sp_xcalloc(named.jobs.len + 1, 1);
	envelope.body_case = SALLYPORT__ENVELOPE__BODY_NAMED;
	envelope.named = &named;
	code = answer_names(l, names, &named, &err);
	/* at once: a question changes nothing that would have to be committed first */
	if (code == SP_OK)
		code = sp_hub_send(l->hub, worker, &envelope, &err);
	if (code != SP_OK && code != SP_E_UNREACHABLE) {
		sp_log_error(NULL, "collection %s: %s", names->collection, err.msg);
		ledgerd_refuse(l, worker, seq, "", &err, 0);
	}
	free(named.digests.data);
	free(named.jobs.data);
}

/* --- what came of it -------------------------------------------------------------------------- */

static enum sp_code
log_collected(struct ledgerd *l, const struct sp_actor *actor,
    const Sallyport__Collected *collected, uint64_t *seq, struct sp_err *err)
{
	struct sp_entry *entry = sp_entry_new(actor, "collected");
	enum sp_code code;

	sp_entry_reason(entry, collected->message);
	sp_entry_detail(entry, "collection", collected->id);
	detail_u64(entry, "kept", collected->kept);
	detail_u64(entry, "kept_bytes", collected->kept_bytes);
	detail_u64(entry, "removed", collected->removed);
	detail_u64(entry, "removed_bytes", collected->removed_bytes);
	detail_u64(entry, "leftovers", collected->leftovers);
	code =
	    sp_ledger_append(l->ledger, entry, sp_time_unix_ms(), sp_time_monotonic_ms(), seq, err);
	if (code == SP_OK)
		code = sp_collection_report(
		    sp_ledger_db(l->ledger), collected->id, actor->name, *seq, err);
	sp_entry_free(&entry);
	return code;
}

/* An account of it that was logged before, or one of nothing, is none to log. */
static enum sp_code
keep_account(struct ledgerd *l, const struct sp_actor *actor, const Sallyport__Collected *collected,
    uint64_t *seq, struct sp_err *err)
{
	struct sp_db *db = sp_ledger_db(l->ledger);
	enum sp_code code;
	int known, logged;

	code = sp_collection_find(db, collected->id, &known, err);
	if (code == SP_OK && !known)
		return sp_err_set(
		    err, SP_E_NOT_FOUND, "collection %s was never begun here", collected->id);
	if (code == SP_OK)
		code = sp_collection_reported(db, collected->id, actor->name, &logged, err);
	if (code != SP_OK || logged ||
	    (collected->code[0] != '\0' && collected->removed + collected->leftovers == 0))
		return code;
	code = ledgerd_batch(l, err);
	if (code != SP_OK)
		return code;
	code = log_collected(l, actor, collected, seq, err);
	if (code != SP_OK)
		ledgerd_undo(l, err);
	return code;
}

void
ledgerd_gc_collected(struct ledgerd *l, const struct sp_actor *actor, uint64_t seq,
    const Sallyport__Collected *collected)
{
	int ours = l->collection != NULL && strcmp(l->collection->id, collected->id) == 0;
	enum sp_code code = SP_OK;
	uint64_t log_seq = 0;
	struct sp_err err;

	if (!ours || !l->collection->dry_run)
		code = keep_account(l, actor, collected, &log_seq, &err);
	if (code == SP_E_NOT_FOUND) {
		ledgerd_refuse(l, actor->name, seq, "", &err, 1);
		return;
	}
	if (code != SP_OK) {
		/* it is said again, in better times */
		sp_log_error(NULL, "collection %s: %s", collected->id, err.msg);
		return;
	}
	if (ours)
		ledgerd_collect_report(l->collection, actor->name, collected);
	ledgerd_ack(l, actor->name, seq, log_seq, 1);
}

/* --- jobs that were let go -------------------------------------------------------------------- */

enum sp_code
ledgerd_gc_check_retry(struct ledgerd *l, const struct sp_job *job, struct sp_err *err)
{
	enum sp_code code;
	int64_t cut_ms;

	code = sp_collection_latest_cut(sp_ledger_db(l->ledger), &cut_ms, err);
	if (code == SP_OK &&
	    !sp_collection_counts(job->recipe, job->state, job->changed_ms, cut_ms))
		return sp_err_set(err, SP_E_STATE,
		    "job %s ended before a collection with --ended, which may have removed what "
		    "its steps left: submit it again",
		    job->id);
	return code;
}
