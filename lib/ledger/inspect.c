/* inspect.c -- the database, entry by entry and job by job. */
#include "ledger/inspect.h"
#include "ledger/entry.h"
#include "ledger/replay.h"

#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STRETCH 8192 /* entries in memory at once */

struct inspector {
	struct sp_db *db;
	struct sp_replay replay;
	struct sp_inspection *out;
};

/* --- entries ---------------------------------------------------------------------------------- */

/* Some rows of the table "entry", as they come. */
struct stretch {
	struct sp_log_bytes bytes[STRETCH]; /* owned */
	uint8_t stored[STRETCH][SP_DIGEST_LEN], leaves[STRETCH][SP_DIGEST_LEN];
	size_t count;
	int ended; /* there is no row behind them */
};

static void
stretch_clear(struct stretch *s)
{
	while (s->count > 0)
		free((void *)(uintptr_t)s->bytes[--s->count].data);
}

static enum sp_code
read_stretch(struct inspector *in, sqlite3_stmt *stmt, struct stretch *s, struct sp_err *err)
{
	enum sp_code code = SP_OK;
	const void *leaf;
	int row;

	while (code == SP_OK && s->count < STRETCH) {
		code = sp_db_step(in->db, stmt, &row, err);
		s->ended = !row;
		if (code != SP_OK || !row)
			break;
		leaf = sqlite3_column_blob(stmt, 1);
		if (leaf != NULL && sqlite3_column_bytes(stmt, 1) == SP_DIGEST_LEN)
			memcpy(s->stored[s->count], leaf, SP_DIGEST_LEN);
		else
			memset(s->stored[s->count], 0, SP_DIGEST_LEN);
		s->bytes[s->count].data = sp_db_blob(stmt, 0, &s->bytes[s->count].len);
		s->count++;
	}
	return code;
}

static enum sp_code
check_stretch(struct inspector *in, struct stretch *s, struct sp_err *err)
{
	enum sp_code code;
	size_t i;

	code = sp_replay_entries(&in->replay, s->bytes, s->count, s->leaves, err);
	for (i = 0; i < s->count; i++) {
		/* bytes that were altered may break anything: that is the news, not what broke */
		if (memcmp(s->leaves[i], s->stored[i], SP_DIGEST_LEN) != 0)
			return sp_err_set(err, SP_E_CORRUPT,
			    "audit entry %" PRIu64 " was altered: its bytes are not those that "
			    "were committed",
			    in->out->nodes.size);
		sp_merkle_nodes_append(&in->out->nodes, s->leaves[i]);
	}
	return code;
}

static enum sp_code
check_entries(struct inspector *in, struct sp_err *err)
{
	struct stretch *s = sp_xcalloc(1, sizeof(*s));
	sqlite3_stmt *stmt = NULL;
	enum sp_code code;

	code = sp_db_prepare(in->db, "SELECT body, leaf FROM entry ORDER BY seq", &stmt, err, "");
	while (code == SP_OK && !s->ended) {
		code = read_stretch(in, stmt, s, err);
		if (code == SP_OK)
			code = check_stretch(in, s, err);
		stretch_clear(s);
	}
	sp_db_done(stmt);
	free(s);
	return code;
}

/* --- the checkpoint --------------------------------------------------------------------------- */

static enum sp_code
load_checkpoint(struct inspector *in, uint64_t *size, struct sp_err *err)
{
	sqlite3_stmt *stmt = NULL;
	enum sp_code code;
	int row = 0;

	code = sp_db_prepare(in->db, "SELECT note, size FROM checkpoint", &stmt, err, "");
	if (code == SP_OK)
		code = sp_db_step(in->db, stmt, &row, err);
	if (code == SP_OK && row) {
		in->out->checkpoint = sp_db_blob(stmt, 0, &in->out->checkpoint_len);
		*size = (uint64_t)sp_db_int(stmt, 1);
	}
	sp_db_done(stmt);
	return code;
}

static enum sp_code
parse_checkpoint(
    const struct sp_inspection *out, struct sp_checkpoint *checkpoint, struct sp_err *err)
{
	struct sp_note note = {0};
	enum sp_code code;

	code = sp_note_parse(out->checkpoint, out->checkpoint_len, &note, err);
	if (code == SP_OK)
		code = sp_checkpoint_parse(note.text, note.text_len, checkpoint, err);
	sp_note_clear(&note);
	if (code != SP_OK)
		sp_err_prefix(err, "the stored checkpoint");
	return code;
}

static enum sp_code
check_checkpoint(
    struct inspector *in, sp_inspect_note_fn *check_note, void *ctx, struct sp_err *err)
{
	struct sp_inspection *out = in->out;
	struct sp_checkpoint checkpoint;
	uint64_t size = 0;
	enum sp_code code;

	code = load_checkpoint(in, &size, err);
	/* one is stored before the first entry is: the log would be signed for as if it were new */
	if (code == SP_OK && out->checkpoint == NULL && out->nodes.size > 0)
		code = sp_err_set(err, SP_E_CORRUPT,
		    "the checkpoint was removed: nothing vouches for the log's %" PRIu64 " entries",
		    out->nodes.size);
	if (code != SP_OK || out->checkpoint == NULL)
		return code;
	code = parse_checkpoint(out, &checkpoint, err);
	if (code == SP_OK)
		code = check_note(ctx, out->checkpoint, out->checkpoint_len, err);
	if (code != SP_OK)
		return code;
	if (checkpoint.size != size)
		return sp_err_set(err, SP_E_CORRUPT,
		    "the stored checkpoint is for %" PRIu64 " entries, its row says %" PRIu64,
		    checkpoint.size, size);
	if (checkpoint.size > out->nodes.size)
		return sp_err_set(err, SP_E_CORRUPT,
		    "the log was cut: %" PRIu64 " entries are left of the %" PRIu64
		    " that a checkpoint was signed for",
		    out->nodes.size, checkpoint.size);
	code =
	    sp_merkle_root_from(checkpoint.size, sp_merkle_nodes_get, &out->nodes, out->root, err);
	if (code == SP_OK && memcmp(out->root, checkpoint.root, sizeof(out->root)) != 0)
		code = sp_err_set(err, SP_E_CORRUPT,
		    "the log was altered: its first %" PRIu64
		    " entries are not those that a checkpoint was signed for",
		    checkpoint.size);
	out->checkpoint_size = checkpoint.size;
	return code;
}

/* --- the job table ---------------------------------------------------------------------------- */

/* What a job was submitted or begun with, as its first entry had to say it. */
static int
same_request(const struct sp_replay_job *told, const struct sp_job *job)
{
	uint8_t request[SP_DIGEST_LEN];
	char approvals[16];

	if (told->submitter != job->submitter)
		return 0;
	snprintf(approvals, sizeof(approvals), "%u", job->approvals_needed);
	if (job->submitter >= 0)
		sp_replay_request(job->source, job->profile, job->destination, approvals,
		    sp_sha256_hex(job->policy, job->policy_len).s, request);
	else
		sp_replay_request(job->source, "", "", "", "", request);
	return memcmp(told->request, request, sizeof(request)) == 0;
}

static int
same_digest(const uint8_t told[SP_DIGEST_LEN], const void *data, size_t len)
{
	uint8_t digest[SP_DIGEST_LEN];

	sp_sha256(data, len, digest);
	return memcmp(told, digest, sizeof(digest)) == 0;
}

static int
same_candidate(const struct sp_replay_job *told, const struct sp_job *job)
{
	static const uint8_t none[SP_DIGEST_LEN];

	if (job->candidate == NULL)
		return memcmp(told->candidate, none, sizeof(none)) == 0;
	return same_digest(told->candidate, job->candidate, job->candidate_len);
}

/* NULL, or which of them differs. */
static const char *
job_differs(const struct sp_replay_job *told, const struct sp_job *job)
{
	if (told->state != job->state)
		return "state";
	if (told->resume != job->resume)
		return "resume";
	if (told->recipe != job->recipe)
		return "recipe";
	if (told->version != job->version)
		return "version";
	if (told->first_seq != job->first_seq || told->last_seq != job->last_seq)
		return "first_seq or last_seq";
	if (!same_digest(told->name, job->name, strlen(job->name)))
		return "name";
	if (!same_request(told, job))
		return "source, profile, policy, destination, approvals_needed or submitter";
	if (!same_candidate(told, job))
		return "candidate";
	return NULL;
}

/* a: the job's newest attempt; alive: it is. */
static const char *
lease_differs(const struct sp_replay_job *told, const struct sp_job *job,
    const struct sp_attempt *a, int alive)
{
	enum sp_step step;

	if (told->attempt != (alive ? a->attempt : 0))
		return "attempt";
	if (strcmp(told->lease, alive && a->state != SP_LEASE_OFFERED ? a->lease : "") != 0)
		return "lease";
	if (strcmp(told->worker, alive ? a->worker : "") != 0)
		return "worker";
	if (alive && (!sp_jobs_step(job->recipe, job->state, &step) || step != a->step))
		return "step";
	return NULL;
}

/* NULL, or of which table the job's rows differ. */
static const char *
evidence_differs(const struct sp_replay_job *told, const struct sp_table_extras *extras)
{
	uint8_t attestations[SP_DIGEST_LEN] = {0}, approvals[SP_DIGEST_LEN] = {0};
	uint8_t digest[SP_DIGEST_LEN];
	const char *person;
	char value[96];
	size_t i;

	for (i = 0; i < extras->attestation_count; i++) {
		sp_sha256(extras->attestations[i].envelope, extras->attestations[i].len, digest);
		sp_replay_chain(attestations, sp_jobs_step_name(extras->attestations[i].step),
		    digest, sizeof(digest));
	}
	for (i = 0; i < extras->approval_count; i++) {
		person = sp_entry_value(extras->approvals[i].person, value);
		sp_replay_chain(approvals, extras->approvals[i].keyid, person, strlen(person));
	}
	if (memcmp(told->attestations, attestations, sizeof(attestations)) != 0)
		return "attestations";
	if (memcmp(told->approvals, approvals, sizeof(approvals)) != 0)
		return "approvals";
	return NULL;
}

static enum sp_code
check_evidence(struct inspector *in, const struct sp_replay_job *told, struct sp_err *err)
{
	struct sp_table_extras extras;
	const char *differs;
	enum sp_code code;

	code = sp_table_evidence(in->db, told->id, &extras, err);
	if (code != SP_OK)
		return code;
	differs = evidence_differs(told, &extras);
	sp_table_extras_clear(&extras);
	if (differs == NULL)
		return SP_OK;
	return sp_err_set(err, SP_E_CORRUPT,
	    "job %s: its rows of %s are not those that the audit log tells of", told->id, differs);
}

static enum sp_code
check_job(void *ctx, const struct sp_job *job, struct sp_err *err)
{
	struct inspector *in = ctx;
	const struct sp_replay_job *told = sp_replay_find(&in->replay, job->id);
	struct sp_attempt a = {0};
	const char *differs;
	enum sp_code code;
	int found, alive;

	in->out->jobs++;
	if (told == NULL)
		return sp_err_set(err, SP_E_CORRUPT,
		    "job %s is in the job table, but the audit log never heard of it", job->id);
	code = sp_table_newest(in->db, job->id, &a, &found, err);
	if (code != SP_OK)
		return code;
	alive = found && sp_jobs_is_alive(a.state);
	in->out->steps += (uint64_t)alive;
	differs = job_differs(told, job);
	if (differs == NULL)
		differs = lease_differs(told, job, &a, alive);
	if (differs != NULL)
		return sp_err_set(err, SP_E_CORRUPT,
		    "job %s: the table's %s is not what the audit log tells (after it the job is "
		    "%s, the table has it %s)",
		    job->id, differs, sp_jobs_state_name(told->state),
		    sp_jobs_state_name(job->state));
	return check_evidence(in, told, err);
}

/* --------------------------------------------------------------------------------------------- */

enum sp_code
sp_inspect(struct sp_db *db, const char *origin, sp_inspect_note_fn *check_note, void *ctx,
    struct sp_inspection *out, struct sp_err *err)
{
	struct inspector in = {.db = db, .out = out};
	enum sp_code code;

	memset(out, 0, sizeof(*out));
	code = check_entries(&in, err);
	if (code == SP_OK && origin != NULL && in.replay.size > 0 &&
	    strcmp(in.replay.origin, origin) != 0)
		code = sp_err_set(err, SP_E_CONFIG,
		    "it holds the log of %.100s, but this host is %.100s: \"side\" and \"host\" "
		    "of a log never change",
		    in.replay.origin, origin);
	if (code == SP_OK)
		code = check_checkpoint(&in, check_note, ctx, err);
	if (code == SP_OK)
		code = sp_table_jobs(db, 1, UINT64_MAX, check_job, &in, err);
	if (code == SP_OK && out->jobs != in.replay.count)
		code = sp_err_set(err, SP_E_CORRUPT,
		    "the job table holds %" PRIu64 " jobs, the audit log tells of %zu", out->jobs,
		    in.replay.count);
	memcpy(out->origin, in.replay.origin, sizeof(out->origin));
	out->entries = in.replay.size;
	sp_replay_free(&in.replay);
	return code;
}

void
sp_inspection_clear(struct sp_inspection *inspection)
{
	sp_merkle_nodes_free(&inspection->nodes);
	free(inspection->checkpoint);
	memset(inspection, 0, sizeof(*inspection));
}
