/* ledgerd_task.c -- everything that a worker may rely on for its step. */
#include "ledgerd.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

ProtobufCBinaryData
ledgerd_task_bytes(const void *data, size_t len)
{
	ProtobufCBinaryData copy = {len, sp_xcalloc(len + 1, 1)};

	if (len > 0)
		memcpy(copy.data, data, len);
	return copy;
}

Sallyport__Artifact **
ledgerd_task_artifacts(const struct sp_table_extras *extras, size_t *count)
{
	Sallyport__Artifact **list = sp_xcalloc(extras->artifact_count, sizeof(*list));

	for (size_t i = 0; i < extras->artifact_count; i++) {
		const struct sp_artifact *a = &extras->artifacts[i].a;

		list[i] = sp_xcalloc(1, sizeof(*list[i]));
		sallyport__artifact__init(list[i]);
		list[i]->role = sp_xstrdup(a->role);
		list[i]->digest = sp_xstrdup(a->digest.s);
		list[i]->store = sp_xstrdup(a->store);
		list[i]->tree = a->tree;
		list[i]->bytes = a->bytes;
	}
	*count = extras->artifact_count;
	return list;
}

Sallyport__Attested **
ledgerd_task_attestations(const struct sp_table_extras *extras, size_t *count)
{
	Sallyport__Attested **list = sp_xcalloc(extras->attestation_count, sizeof(*list));

	for (size_t i = 0; i < extras->attestation_count; i++) {
		const struct sp_table_attestation *a = &extras->attestations[i];

		list[i] = sp_xcalloc(1, sizeof(*list[i]));
		sallyport__attested__init(list[i]);
		list[i]->step = sp_xstrdup(sp_jobs_step_name(a->step));
		list[i]->envelope = ledgerd_task_bytes(a->envelope, a->len);
	}
	*count = extras->attestation_count;
	return list;
}

/* The candidate with all operators' signatures in one envelope. */
static enum sp_code
put_candidate(Sallyport__Task *task, const struct sp_table_extras *extras, struct sp_err *err)
{
	struct sp_dsse all = {0}, one;
	enum sp_code code = SP_OK;
	char *envelope;
	size_t i, len;

	for (i = 0; i < extras->approval_count && code == SP_OK; i++) {
		const struct sp_table_approval *a = &extras->approvals[i];

		if (i == 0) {
			code = sp_dsse_parse(a->envelope, a->len, &all, err);
			continue;
		}
		code = sp_dsse_parse(a->envelope, a->len, &one, err);
		if (code != SP_OK)
			break;
		code = sp_dsse_merge(&all, &one, err);
		sp_dsse_clear(&one);
	}
	if (code == SP_OK && extras->approval_count == 0)
		code = sp_err_set(err, SP_E_STATE, "the candidate has no approval");
	if (code == SP_OK)
		code = sp_dsse_format(&all, &envelope, &len, err);
	if (code == SP_OK) {
		task->candidate = ledgerd_task_bytes(envelope, len);
		free(envelope);
	}
	sp_dsse_clear(&all);
	return code;
}

/* --- proofs ----------------------------------------------------------------------------------- */

struct prover {
	struct sp_ledger *ledger;
	Sallyport__Task *task;
	size_t cap;
};

static enum sp_code
put_proof(void *ctx, uint64_t seq, const uint8_t *data, size_t len, struct sp_err *err)
{
	struct prover *p = ctx;
	uint8_t hashes[SP_MERKLE_PROOF_MAX][SP_DIGEST_LEN];
	Sallyport__LogProof *proof;
	enum sp_code code;
	size_t i, count;

	code = sp_ledger_prove(p->ledger, seq, hashes, &count, err);
	if (code != SP_OK)
		return code;
	if (p->task->n_proofs == p->cap) {
		p->cap = p->cap == 0 ? 32 : p->cap * 2;
		p->task->proofs = sp_xrealloc(p->task->proofs, p->cap, sizeof(*p->task->proofs));
	}
	proof = sp_xcalloc(1, sizeof(*proof));
	sallyport__log_proof__init(proof);
	proof->seq = seq;
	proof->entry = ledgerd_task_bytes(data, len);
	proof->hashes = sp_xcalloc(count, sizeof(*proof->hashes));
	for (i = 0; i < count; i++)
		proof->hashes[proof->n_hashes++] = ledgerd_task_bytes(hashes[i], SP_DIGEST_LEN);
	p->task->proofs[p->task->n_proofs++] = proof;
	return SP_OK;
}

static enum sp_code
put_proofs(struct sp_ledger *ledger, Sallyport__Task *task, struct sp_err *err)
{
	struct prover p = {ledger, task, 0};
	const uint8_t *note;
	uint64_t size;
	size_t len;

	note = sp_ledger_checkpoint(ledger, &len, &size);
	if (size < sp_ledger_size(ledger))
		return sp_err_set(err, SP_E_STATE,
		    "the checkpoint is behind the log (%" PRIu64 " of %" PRIu64 " entries)", size,
		    sp_ledger_size(ledger));
	task->checkpoint = ledgerd_task_bytes(note, len);
	return sp_ledger_entries(ledger, 0, UINT64_MAX, task->job, put_proof, &p, err);
}

/* --------------------------------------------------------------------------------------------- */

static void
put_job(Sallyport__Task *task, const struct sp_job *job, const struct sp_attempt *attempt)
{
	task->lease = sp_xstrdup(attempt->lease);
	task->job = sp_xstrdup(job->id);
	task->step = sp_xstrdup(sp_jobs_step_name(attempt->step));
	task->attempt = attempt->attempt;
	task->kind = sp_xstrdup(sp_jobs_kind(job->recipe));
	task->source = sp_xstrdup(job->source);
	task->profile = sp_xstrdup(job->profile);
	task->policy = ledgerd_task_bytes(job->policy, job->policy_len);
	task->name = sp_xstrdup(job->name);
	task->model_version = job->version;
	task->destination = sp_xstrdup(job->destination);
}

enum sp_code
ledgerd_task_build(
    struct ledgerd *l, const struct sp_attempt *attempt, Sallyport__Task **out, struct sp_err *err)
{
	struct sp_db *db = sp_ledger_db(l->ledger);
	Sallyport__Task *task = sp_xcalloc(1, sizeof(*task));
	struct sp_table_extras extras = {0};
	struct sp_job job = {0};
	enum sp_code code;

	sallyport__task__init(task);
	code = sp_table_job(db, attempt->job, &job, err);
	if (code == SP_OK)
		code = sp_table_extras(db, attempt->job, &extras, err);
	if (code == SP_OK) {
		put_job(task, &job, attempt);
		task->artifacts = ledgerd_task_artifacts(&extras, &task->n_artifacts);
		task->attestations = ledgerd_task_attestations(&extras, &task->n_attestations);
	}
	if (code == SP_OK && attempt->step == SP_STEP_PACKAGE) {
		code = put_candidate(task, &extras, err);
		if (code == SP_OK)
			code = put_proofs(l->ledger, task, err);
	}
	sp_table_extras_clear(&extras);
	sp_table_job_clear(&job);
	if (code != SP_OK) {
		sallyport__task__free_unpacked(task, NULL);
		task = NULL;
	}
	*out = task;
	return code;
}
