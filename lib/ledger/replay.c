/* replay.c -- the job table out of the audit log. */
#include "ledger/replay.h"
#include "base/buf.h"
#include "base/parallel.h"
#include "ledger/entry.h"
#include "ledger/merkle.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW 2048 /* entries that are read before they are applied */
#define GRAIN 128   /* of them, by one thread at a time */
#define CHUNK (256u << 10)
#define ALIGN sizeof(max_align_t)

/* --- jobs by id ------------------------------------------------------------------------------- */

/* ids are 128 random bits in hex; whoever chooses them to collide only slows his own check down */
static size_t
slot_of(const char *id, size_t slot_count)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325);

	for (; *id != '\0'; id++)
		hash = (hash ^ (uint8_t)*id) * UINT64_C(0x100000001b3);
	return (size_t)(hash >> 16) & (slot_count - 1);
}

static struct sp_replay_job *
find(const struct sp_replay *replay, const char *id)
{
	size_t slot;

	if (replay->slot_count == 0)
		return NULL;
	for (slot = slot_of(id, replay->slot_count); replay->slots[slot] != 0;
	     slot = (slot + 1) & (replay->slot_count - 1)) {
		struct sp_replay_job *job = &replay->jobs[replay->slots[slot] - 1];

		if (strcmp(job->id, id) == 0)
			return job;
	}
	return NULL;
}

const struct sp_replay_job *
sp_replay_find(const struct sp_replay *replay, const char *id)
{
	return find(replay, id);
}

static void
put_slot(struct sp_replay *replay, uint32_t index)
{
	size_t slot = slot_of(replay->jobs[index].id, replay->slot_count);

	while (replay->slots[slot] != 0)
		slot = (slot + 1) & (replay->slot_count - 1);
	replay->slots[slot] = index + 1;
}

static void
add_job(struct sp_replay *replay, const struct sp_replay_job *job)
{
	uint32_t i;

	if (replay->count == replay->cap) {
		replay->cap = replay->cap == 0 ? 64 : replay->cap * 2;
		replay->jobs = sp_xrealloc(replay->jobs, replay->cap, sizeof(*replay->jobs));
	}
	replay->jobs[replay->count++] = *job;
	if (replay->count * 2 > replay->slot_count) {
		free(replay->slots);
		replay->slot_count = replay->cap * 4;
		replay->slots = sp_xcalloc(replay->slot_count, sizeof(*replay->slots));
		for (i = 0; i < replay->count; i++)
			put_slot(replay, i);
	} else {
		put_slot(replay, (uint32_t)replay->count - 1);
	}
}

void
sp_replay_free(struct sp_replay *replay)
{
	free(replay->jobs);
	free(replay->slots);
	memset(replay, 0, sizeof(*replay));
}

/* --- transitions ------------------------------------------------------------------------------ */

static int
is_result(enum sp_job_event event)
{
	return event == SP_EV_DONE || event == SP_EV_BLOCK || event == SP_EV_QUARANTINE ||
	       event == SP_EV_INCOMPLETE;
}

static int
needs_operator(enum sp_job_event event)
{
	switch (event) {
	case SP_EV_SUBMIT:
	case SP_EV_APPROVE:
	case SP_EV_APPROVED:
	case SP_EV_REJECT:
	case SP_EV_CANCEL:
	case SP_EV_RETRY:
	case SP_EV_REVOKE:
		return 1;
	default:
		return 0;
	}
}

static enum sp_code
refuse(const Sallyport__Entry *entry, struct sp_err *err, const char *why)
{
	return sp_err_set(err, SP_E_INVALID, "audit entry %llu (job %s, \"%s\"): %s",
	    (unsigned long long)entry->seq, entry->job, entry->event, why);
}

/* The actor, the step and the lease must fit the event and what the job is at. */
static enum sp_code
check_parties(const struct sp_replay_job *job, const Sallyport__Entry *entry,
    enum sp_job_event event, enum sp_job_state to, struct sp_err *err)
{
	int by_operator = entry->actor_case == SALLYPORT__ENTRY__ACTOR_OPERATOR;
	enum sp_step step;

	if (needs_operator(event) != by_operator)
		return refuse(entry, err,
		    by_operator ? "an operator did what only daemons do"
				: "a daemon did what only operators do");
	if (event == SP_EV_LEASE) {
		if (job->lease[0] != '\0')
			return refuse(entry, err, "the step is leased already");
		if (entry->lease[0] == '\0' || !sp_jobs_step(job->recipe, to, &step) ||
		    strcmp(entry->step, sp_jobs_step_name(step)) != 0)
			return refuse(entry, err, "it names no lease, or not the step that is due");
		if (strcmp(entry->daemon->service, sp_jobs_step_service(step)) != 0)
			return refuse(entry, err, "a daemon of another service took the step");
	}
	if (sp_jobs_ends_lease(event)) {
		if (job->lease[0] == '\0' || strcmp(job->lease, entry->lease) != 0)
			return refuse(entry, err, "it does not name the lease that is out");
		if (!sp_jobs_step(job->recipe, job->state, &step) ||
		    strcmp(entry->step, sp_jobs_step_name(step)) != 0)
			return refuse(entry, err, "it names another step than the one leased");
		if (is_result(event) && strcmp(entry->daemon->name, job->worker) != 0)
			return refuse(entry, err, "the result is not from the lease's holder");
	}
	return SP_OK;
}

static void
after(struct sp_replay_job *job, const Sallyport__Entry *entry, enum sp_job_action action)
{
	switch (action) {
	case SP_DO_NOTHING:
		return;
	case SP_DO_WORK:
		snprintf(job->lease, sizeof(job->lease), "%s", entry->lease);
		snprintf(job->worker, sizeof(job->worker), "%s", entry->daemon->name);
		return;
	case SP_DO_OFFER:
		job->attempt = 1;
		break;
	case SP_DO_AGAIN:
		job->attempt++;
		break;
	case SP_DO_AWAIT:
	case SP_DO_ASK:
	case SP_DO_END:
		job->attempt = 0;
		break;
	}
	job->lease[0] = '\0';
	job->worker[0] = '\0';
}

uint64_t
sp_replay_version(const char *text)
{
	uint64_t version = 0;

	if (*text < '1' || *text > '9' || strlen(text) > 18)
		return 0;
	for (; *text >= '0' && *text <= '9'; text++)
		version = version * 10 + (uint64_t)(*text - '0');
	return *text == '\0' ? version : 0;
}

/* The candidate's version is given where it is made, and told by the release where that is
 * verified. */
static enum sp_code
take_version(struct sp_replay_job *job, const Sallyport__Entry *entry, enum sp_job_event event,
    enum sp_job_action action, struct sp_err *err)
{
	const char *text = sp_entry_get(entry, "version");

	if (action == SP_DO_ASK) {
		job->version = sp_replay_version(text);
		if (job->version == 0)
			return refuse(entry, err, "the candidate has no version");
	} else if (event == SP_EV_DONE && text[0] != '\0' &&
		   strcmp(entry->step, sp_jobs_step_name(SP_STEP_VERIFY)) == 0) {
		job->version = sp_replay_version(text);
	}
	return SP_OK;
}

void
sp_replay_request(const char *source, const char *profile, const char *destination,
    const char *approvals, const char *policy_sha256, uint8_t out[SP_DIGEST_LEN])
{
	const char *const values[] = {source, profile, destination, approvals, policy_sha256};
	struct sp_buf text = {0};
	char digest[96];
	size_t i;

	for (i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		const char *value = sp_entry_value(values[i], digest);

		/* with its NUL, so that no two rows of values look alike */
		sp_buf_add(&text, value, strlen(value) + 1);
	}
	sp_sha256(text.data, text.len, out);
	sp_buf_free(&text);
}

void
sp_replay_chain(uint8_t chain[SP_DIGEST_LEN], const char *what, const void *of, size_t len)
{
	struct sp_buf all = {0};

	sp_buf_add(&all, chain, SP_DIGEST_LEN);
	sp_buf_add(&all, what, strlen(what) + 1);
	sp_buf_add(&all, of, len);
	sp_sha256(all.data, all.len, chain);
	sp_buf_free(&all);
}

/* What the table keeps beside the job: see change.c. */
static void
take_evidence(struct sp_replay_job *job, const Sallyport__Entry *entry, enum sp_job_event event)
{
	const char *person = sp_entry_get(entry, "person");

	if ((event == SP_EV_DONE || event == SP_EV_BLOCK || event == SP_EV_QUARANTINE) &&
	    entry->attestation_sha256.len > 0)
		sp_replay_chain(job->attestations, entry->step, entry->attestation_sha256.data,
		    entry->attestation_sha256.len);
	if ((event == SP_EV_APPROVE || event == SP_EV_APPROVED) && person[0] != '\0')
		sp_replay_chain(job->approvals, entry->operator_->key_id, person, strlen(person));
}

/* What the job is, as far as this entry tells. */
static enum sp_code
take_identity(struct sp_replay_job *job, const Sallyport__Entry *entry, enum sp_job_event event,
    enum sp_job_action action, struct sp_err *err)
{
	const char *name = sp_entry_get(entry, "name");

	if (job->state == SP_JOB_NONE) {
		job->submitter = event == SP_EV_SUBMIT ? (int64_t)entry->operator_->uid : -1;
		sp_replay_request(sp_entry_get(entry, "source"), sp_entry_get(entry, "profile"),
		    sp_entry_get(entry, "destination"), sp_entry_get(entry, "approvals"),
		    sp_entry_get(entry, "policy_sha256"), job->request);
		sp_sha256(name, strlen(name), job->name);
	} else if (event == SP_EV_DONE && name[0] != '\0' && strlen(name) <= SP_NAME_MAX &&
		   strcmp(entry->step, sp_jobs_step_name(SP_STEP_VERIFY)) == 0) {
		sp_sha256(name, strlen(name), job->name);
	}
	if (action == SP_DO_ASK && sp_hex_decode(sp_entry_get(entry, "candidate_sha256"),
				       job->candidate, SP_DIGEST_LEN) != SP_OK)
		return refuse(entry, err, "the candidate has no digest");
	return SP_OK;
}

/* Moves a copy of the job; a job that is new has state NONE. */
static enum sp_code
move(struct sp_replay_job *job, const Sallyport__Entry *entry, struct sp_err *err)
{
	enum sp_job_state from, to, named;
	enum sp_job_action action;
	enum sp_job_event event;
	struct sp_err inner;
	enum sp_code code;

	if (!sp_jobs_event_find(entry->event, &event) || !sp_jobs_state_find(entry->from, &from) ||
	    !sp_jobs_state_find(entry->to, &named))
		return refuse(entry, err, "unknown event or state");
	if (from != job->state)
		return refuse(entry, err, "it does not start from the state that the job was in");
	code = sp_jobs_next(job->recipe, job->state, job->resume, event, &to, &action, &inner);
	if (code != SP_OK)
		return refuse(entry, err, inner.msg);
	if (to != named)
		return refuse(entry, err, "it leads to another state than the event does");
	code = check_parties(job, entry, event, to, err);
	if (code != SP_OK)
		return code;
	code = take_version(job, entry, event, action, err);
	if (code == SP_OK)
		code = take_identity(job, entry, event, action, err);
	if (code != SP_OK)
		return code;
	take_evidence(job, entry, event);
	after(job, entry, action);
	job->state = to;
	job->resume = sp_jobs_resume(job->recipe, to, job->resume);
	job->last_seq = entry->seq;
	return SP_OK;
}

static enum sp_code
job_entry(struct sp_replay *replay, const Sallyport__Entry *entry, struct sp_err *err)
{
	struct sp_replay_job fresh, *job = find(replay, entry->job);
	enum sp_code code;

	if (job != NULL) {
		fresh = *job;
	} else {
		memset(&fresh, 0, sizeof(fresh));
		snprintf(fresh.id, sizeof(fresh.id), "%s", entry->job);
		fresh.first_seq = entry->seq;
		if (!sp_jobs_recipe_find(sp_entry_get(entry, "recipe"), &fresh.recipe))
			return refuse(entry, err, "a job's first entry names no known recipe");
	}
	code = move(&fresh, entry, err);
	if (code != SP_OK)
		return code;
	if (job != NULL)
		*job = fresh;
	else
		add_job(replay, &fresh);
	return SP_OK;
}

static enum sp_code
apply(struct sp_replay *replay, const Sallyport__Entry *entry, struct sp_err *err)
{
	enum sp_code code = SP_OK;

	if (entry->seq != replay->size)
		code = sp_err_set(err, SP_E_CORRUPT,
		    "the log's entry at %llu says that it is number %llu",
		    (unsigned long long)replay->size, (unsigned long long)entry->seq);
	else if (replay->size > 0 && strcmp(entry->origin, replay->origin) != 0)
		code = sp_err_set(err, SP_E_INVALID, "audit entry %llu is of %.200s, not of %.200s",
		    (unsigned long long)entry->seq, entry->origin, replay->origin);
	else if (strlen(entry->origin) >= sizeof(replay->origin))
		code = sp_err_set(err, SP_E_INVALID, "audit entry %llu: origin is too long",
		    (unsigned long long)entry->seq);
	else if (entry->job[0] != '\0')
		code = job_entry(replay, entry, err);
	if (code != SP_OK)
		return code;
	if (replay->size == 0)
		snprintf(replay->origin, sizeof(replay->origin), "%s", entry->origin);
	replay->size++;
	return SP_OK;
}

enum sp_code
sp_replay_entry(struct sp_replay *replay, const uint8_t *data, size_t len, struct sp_err *err)
{
	Sallyport__Entry *entry;
	enum sp_code code;

	code = sp_entry_parse(data, len, &entry, err);
	if (code != SP_OK)
		return sp_err_prefix(
		    err, "entry at %llu of the log", (unsigned long long)replay->size);
	code = apply(replay, entry, err);
	sallyport__entry__free_unpacked(entry, NULL);
	return code;
}

/* --- many at once ----------------------------------------------------------------------------- */

/* Memory of a piece of the window: taken bit by bit, given back at once. protobuf-c makes dozens of
 * small allocations an entry, which cost more than all the rest. */
struct arena {
	struct chunk *chunks; /* the newest first */
};

struct chunk {
	struct chunk *next;
	size_t used, size;
	_Alignas(max_align_t) uint8_t bytes[];
};

static void *
arena_alloc(void *data, size_t size)
{
	struct arena *arena = data;
	struct chunk *chunk = arena->chunks;
	void *out;

	size = (size + ALIGN - 1) & ~(ALIGN - 1);
	if (chunk == NULL || chunk->size - chunk->used < size) {
		size_t room = size > CHUNK ? size : CHUNK;

		chunk = sp_xrealloc(NULL, sizeof(*chunk) + room, 1);
		chunk->next = arena->chunks;
		chunk->used = 0;
		chunk->size = room;
		arena->chunks = chunk;
	}
	out = chunk->bytes + chunk->used;
	chunk->used += size;
	return out;
}

static void
arena_keep(void *data, void *pointer)
{
	(void)data, (void)pointer;
}

/* All but the first chunk, which is for the next use. */
static void
arena_reset(struct arena *arena)
{
	struct chunk *chunk, *next;

	for (chunk = arena->chunks; chunk != NULL && chunk->next != NULL; chunk = next) {
		next = chunk->next;
		free(chunk);
	}
	arena->chunks = chunk;
	if (chunk != NULL)
		chunk->used = 0;
}

struct window {
	const struct sp_log_bytes *bytes;
	uint8_t (*leaves)[SP_DIGEST_LEN]; /* NULL: not wanted */
	Sallyport__Entry **entries;	  /* NULL: not wanted */
	struct arena *arenas;		  /* one for each GRAIN of them */
};

static void
read_window(void *ctx, size_t from, size_t to)
{
	struct window *w = ctx;
	ProtobufCAllocator allocator = {arena_alloc, arena_keep, NULL};
	struct sp_err err;
	size_t i;

	for (i = from; i < to && w->leaves != NULL; i++)
		sp_merkle_leaf(w->bytes[i].data, w->bytes[i].len, w->leaves[i]);
	if (w->entries == NULL)
		return;
	allocator.allocator_data = &w->arenas[from / GRAIN];
	arena_reset(&w->arenas[from / GRAIN]);
	/* what cannot be read stays NULL, and is read again for its message */
	for (i = from; i < to; i++)
		if (sp_entry_parse_in(&allocator, w->bytes[i].data, w->bytes[i].len, &w->entries[i],
			&err) != SP_OK)
			w->entries[i] = NULL;
}

void
sp_replay_leaves(const struct sp_log_bytes *entries, size_t count, uint8_t (*leaves)[SP_DIGEST_LEN])
{
	struct window w = {.bytes = entries, .leaves = leaves};

	sp_parallel(count, GRAIN, read_window, &w);
}

enum sp_code
sp_replay_entries(struct sp_replay *replay, const struct sp_log_bytes *entries, size_t count,
    uint8_t (*leaves)[SP_DIGEST_LEN], struct sp_err *err)
{
	struct window w = {.entries = sp_xcalloc(WINDOW, sizeof(*w.entries)),
	    .arenas = sp_xcalloc(WINDOW / GRAIN, sizeof(*w.arenas))};
	enum sp_code code = SP_OK;
	size_t at, n, i;

	for (at = 0; at < count && code == SP_OK; at += n) {
		n = count - at < WINDOW ? count - at : WINDOW;
		w.bytes = entries + at;
		w.leaves = leaves != NULL ? leaves + at : NULL;
		sp_parallel(n, GRAIN, read_window, &w);
		for (i = 0; i < n && code == SP_OK; i++)
			code = w.entries[i] != NULL
				   ? apply(replay, w.entries[i], err)
				   : sp_replay_entry(replay, w.bytes[i].data, w.bytes[i].len, err);
	}
	for (i = 0; i < WINDOW / GRAIN; i++) {
		arena_reset(&w.arenas[i]);
		free(w.arenas[i].chunks);
	}
	free(w.arenas);
	free(w.entries);
	if (leaves != NULL && at < count)
		sp_replay_leaves(entries + at, count - at, leaves + at);
	return code;
}
