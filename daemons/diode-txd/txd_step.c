/* txd_step.c -- what a task asks for, and which objects cross; no clock, file or socket. */
#include "txd.h"

#include "base/json.h"

#include <stdlib.h>
#include <string.h>

static struct sp_bytes
bytes_of(ProtobufCBinaryData data)
{
	return (struct sp_bytes){data.data, data.len};
}

static enum sp_code
read_approvals(const Sallyport__Task *task, unsigned *approvals, struct sp_err *err)
{
	int64_t value;
	json_t *policy;
	enum sp_code code;

	if ((code = sp_json_parse(task->policy.data, task->policy.len, "policy", &policy, err)))
		return code;
	/* a profile need not say: the trust document always does */
	if (json_object_get(policy, "approvals") != NULL) {
		code = sp_json_integer(policy, "approvals", 0, SP_DSSE_SIGS_MAX, &value, err);
		if (code == SP_OK)
			*approvals = (unsigned)value;
	} else if (!json_is_object(policy)) {
		code = sp_err_set(err, SP_E_INVALID, "the policy is no JSON object");
	}
	json_decref(policy);
	return code;
}

static enum sp_code
read_proof(const Sallyport__LogProof *from, struct sp_release_proof *to, struct sp_err *err)
{
	uint8_t(*hashes)[SP_DIGEST_LEN] = sp_xcalloc(from->n_hashes + 1, SP_DIGEST_LEN);

	to->seq = from->seq;
	to->entry = bytes_of(from->entry);
	to->hashes = (const uint8_t(*)[SP_DIGEST_LEN])hashes;
	to->hash_count = from->n_hashes;
	for (size_t i = 0; i < from->n_hashes; i++) {
		if (from->hashes[i].len != SP_DIGEST_LEN)
			return sp_err_set(err, SP_E_INVALID,
			    "the proof of log entry %llu has a hash of %zu bytes",
			    (unsigned long long)from->seq, from->hashes[i].len);
		memcpy(hashes[i], from->hashes[i].data, SP_DIGEST_LEN);
	}
	return SP_OK;
}

enum sp_code
txd_package_read(const Sallyport__Task *task, struct txd_package *out, struct sp_err *err)
{
	const char *role = strcmp(task->kind, "model") == 0 ? "candidate" : "source";
	enum sp_code code;

	memset(out, 0, sizeof(*out));
	if ((code = sp_outcome_input(task, role, &out->tree, err)))
		return code;
	if (!out->tree.tree)
		return sp_err_set(err, SP_E_INVALID, "artifact %s is no tree", role);
	if (task->candidate.len == 0)
		return sp_err_set(err, SP_E_DENIED, "the task carries no approved candidate");
	if ((code = read_approvals(task, &out->approvals, err)))
		return code;
	out->candidate = bytes_of(task->candidate);
	out->checkpoint = bytes_of(task->checkpoint);
	out->attestations = sp_xcalloc(task->n_attestations + 1, sizeof(*out->attestations));
	out->attestation_count = task->n_attestations;
	for (size_t i = 0; i < task->n_attestations; i++)
		out->attestations[i] = bytes_of(task->attestations[i]->envelope);
	if (task->n_proofs > SP_RELEASE_PROOFS_MAX) {
		code = sp_err_set(err, SP_E_LIMIT, "the job has %zu log entries", task->n_proofs);
		goto out;
	}
	out->proofs = sp_xcalloc(task->n_proofs + 1, sizeof(*out->proofs));
	for (size_t i = 0; i < task->n_proofs && code == SP_OK; i++) {
		out->proof_count++;
		code = read_proof(task->proofs[i], &out->proofs[i], err);
	}
out:
	if (code != SP_OK)
		txd_package_clear(out);
	return code;
}

void
txd_package_clear(struct txd_package *package)
{
	for (size_t i = 0; i < package->proof_count; i++)
		free((void *)(uintptr_t)package->proofs[i].hashes);
	free(package->proofs);
	free(package->attestations);
	memset(package, 0, sizeof(*package));
}

static int
by_digest(const void *a, const void *b)
{
	const struct sp_object *x = a, *y = b;

	return memcmp(x->digest, y->digest, SP_DIGEST_LEN);
}

enum sp_code
txd_manifest(const char *job, const struct sp_object *release, const struct sp_object *listing,
    const struct sp_tree *tree, struct sp_manifest *out, struct sp_err *err)
{
	struct sp_object *blobs;
	size_t distinct = 0;

	if (strlen(job) != SP_JOB_ID_LEN)
		return sp_err_set(err, SP_E_INVALID, "job %.64s is no id of 32 digits", job);
	memset(out, 0, sizeof(*out));
	out->objects = sp_xcalloc(tree->count + 2, sizeof(*out->objects));
	out->objects[0] = *release;
	out->objects[0].kind = SP_OBJECT_RELEASE;
	out->objects[1] = *listing;
	out->objects[1].kind = SP_OBJECT_TREE;
	blobs = out->objects + 2;
	for (size_t i = 0; i < tree->count; i++) {
		blobs[i].kind = SP_OBJECT_BLOB;
		blobs[i].size = tree->files[i].size;
		if (sp_hex_decode(tree->files[i].sha256.s, blobs[i].digest, SP_DIGEST_LEN)) {
			sp_manifest_clear(out);
			return sp_err_set(err, SP_E_INVALID, "file %s: its digest cannot be read",
			    tree->files[i].path);
		}
	}
	/* files of the same content are one object */
	qsort(blobs, tree->count, sizeof(*blobs), by_digest);
	for (size_t i = 0; i < tree->count; i++) {
		if (distinct == 0 || by_digest(&blobs[distinct - 1], &blobs[i]) != 0)
			blobs[distinct++] = blobs[i];
	}
	out->count = 2 + distinct;
	memcpy(out->release, release->digest, SP_DIGEST_LEN);
	strcpy(out->job, job);
	return SP_OK;
}

enum sp_code
txd_code(const struct sp_conf *conf, struct sp_tx_config *out, struct sp_err *err)
{
	sp_tx_defaults(out);
	out->m = (unsigned)sp_conf_int(conf, "diode-txd.parity");
	out->passes = (unsigned)sp_conf_int(conf, "diode-txd.passes");
	out->interleave = (unsigned)sp_conf_int(conf, "diode-txd.interleave");
	if (out->k + out->m > SP_LAYOUT_SYMBOLS_MAX)
		return sp_err_set(err, SP_E_CONFIG,
		    "diode-txd.parity is %u: with %u source symbols at most %u fit a codeword",
		    out->m, out->k, SP_LAYOUT_SYMBOLS_MAX - out->k);
	return SP_OK;
}
