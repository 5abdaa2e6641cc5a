/* release.c -- building and verifying the signed release. */
#include "release/release.h"
#include "base/time.h"
#include "release/bom.h"
#include "release/chain.h"
#include "release/proof.h"

#include <stdlib.h>
#include <string.h>

/* --- the chain, from bytes ------------------------------------------------------------------ */

enum sp_code
sp_release_check_chain(const struct sp_trust *trust, struct sp_bytes candidate,
    const struct sp_bytes *attestations, size_t attestation_count, unsigned approvals,
    struct sp_candidate *out, const char **check, struct sp_err *err)
{
	struct sp_hex digests[SP_CANDIDATE_ATTESTATIONS_MAX];
	struct sp_dsse parsed[SP_CANDIDATE_ATTESTATIONS_MAX], approved;
	const char *failed = "candidate";
	struct sp_candidate c;
	enum sp_code code;
	size_t i, count = 0;

	code = sp_dsse_parse(candidate.data, candidate.len, &approved, err);
	if (code != SP_OK)
		goto out;
	failed = "chain";
	if (attestation_count > SP_CANDIDATE_ATTESTATIONS_MAX)
		code = sp_err_set(err, SP_E_LIMIT, "%zu attestations, at most %d are allowed",
		    attestation_count, SP_CANDIDATE_ATTESTATIONS_MAX);
	for (i = 0; code == SP_OK && i < attestation_count; i++) {
		code = sp_dsse_parse(attestations[i].data, attestations[i].len, &parsed[i], err);
		if (code != SP_OK)
			break;
		digests[i] = sp_sha256_hex(attestations[i].data, attestations[i].len);
		count++;
	}
	if (code == SP_OK)
		code = sp_chain_check(
		    trust, &approved, parsed, digests, count, approvals, &c, &failed, err);
	if (code == SP_OK && out != NULL)
		*out = c;
	for (i = 0; i < count; i++)
		sp_dsse_clear(&parsed[i]);
	sp_dsse_clear(&approved);
out:
	if (check != NULL)
		*check = code == SP_OK ? NULL : failed;
	return code;
}

/* --- building ------------------------------------------------------------------------------- */

static json_t *
proof_json(const struct sp_release_proof *proof)
{
	char *text = sp_base64_encode(proof->entry.data, proof->entry.len);
	json_t *hashes = json_array(), *obj;
	size_t i;

	obj = json_pack(
	    "{s:s, s:o, s:I}", "entry", text, "hashes", hashes, "seq", (json_int_t)proof->seq);
	free(text);
	for (i = 0; i < proof->hash_count; i++) {
		text = sp_base64_encode(proof->hashes[i], SP_DIGEST_LEN);
		json_array_append_new(hashes, json_string(text));
		free(text);
	}
	return obj;
}

static enum sp_code
log_json(const struct sp_release_parts *parts, json_t **out, struct sp_err *err)
{
	json_t *note, *proofs;
	size_t i;

	note = json_stringn((const char *)parts->checkpoint.data, parts->checkpoint.len);
	if (note == NULL)
		return sp_err_set(err, SP_E_INVALID, "the log's checkpoint is not UTF-8 text");
	proofs = json_array();
	for (i = 0; i < parts->proof_count; i++)
		json_array_append_new(proofs, proof_json(&parts->proofs[i]));
	*out = json_pack("{s:o, s:o}", "checkpoint", note, "proofs", proofs);
	return SP_OK;
}

static enum sp_code
attestations_json(const struct sp_release_parts *parts, json_t **out, struct sp_err *err)
{
	json_t *list = json_array(), *envelope;
	enum sp_code code;
	size_t i;

	for (i = 0; i < parts->attestation_count; i++) {
		code = sp_json_parse_canonical(parts->attestations[i].data,
		    parts->attestations[i].len, "attestation", &envelope, err);
		if (code != SP_OK) {
			json_decref(list);
			return code;
		}
		json_array_append_new(list, envelope);
	}
	*out = list;
	return SP_OK;
}

static enum sp_code
build_payload(const struct sp_release_parts *parts, const struct sp_candidate *c, char **payload,
    size_t *len, struct sp_err *err)
{
	json_t *attestations = NULL, *candidate = NULL, *log = NULL, *root;
	enum sp_code code;

	code = attestations_json(parts, &attestations, err);
	if (code == SP_OK)
		code = sp_json_parse_canonical(
		    parts->candidate.data, parts->candidate.len, "candidate", &candidate, err);
	if (code == SP_OK)
		code = log_json(parts, &log, err);
	if (code != SP_OK)
		goto out;
	root = json_pack("{s:s, s:{s:O, s:[], s:O, s:O, s:s, s:O, s:s}, s:s, s:[{s:{s:s}, s:s}]}",
	    "_type", SP_STATEMENT_TYPE, "predicate", "attestations", attestations, "bases", "bom",
	    parts->bom, "candidate", candidate, "job", c->job, "log", log, "time", parts->time,
	    "predicateType", SP_PREDICATE_RELEASE, "subject", "digest", "sha256", c->tree.s, "name",
	    c->name);
	SP_ASSERT(root != NULL);
	*payload = sp_json_canonical(root, len);
	json_decref(root);
out:
	json_decref(attestations);
	json_decref(candidate);
	json_decref(log);
	return code;
}

enum sp_code
sp_release_build(const struct sp_trust *trust, const struct sp_release_parts *parts,
    unsigned approvals, const struct sp_key *key, char **envelope, size_t *len, struct sp_err *err)
{
	struct sp_release *release = NULL;
	const char *check = NULL;
	struct sp_candidate c;
	char *payload = NULL;
	enum sp_code code;
	size_t payload_len;

	*envelope = NULL;
	if (!json_is_object(parts->bom) || parts->time == NULL)
		return sp_err_set(err, SP_E_INVALID,
		    "no release without a bill of materials and the time of its making");
	code = sp_release_check_chain(trust, parts->candidate, parts->attestations,
	    parts->attestation_count, approvals, &c, &check, err);
	if (code != SP_OK)
		return err != NULL ? sp_err_prefix(err, "no release: check \"%s\"", check) : code;
	code = build_payload(parts, &c, &payload, &payload_len, err);
	if (code != SP_OK)
		return code;
	code = sp_dsse_sign(key, SP_DSSE_INTOTO, payload, payload_len, envelope, len, err);
	free(payload);
	/* what the other side would refuse must not leave this one */
	if (code == SP_OK)
		code = sp_release_verify(
		    trust, (const uint8_t *)*envelope, *len, &release, &check, err);
	sp_release_free(&release);
	if (code != SP_OK) {
		free(*envelope);
		*envelope = NULL;
		if (err != NULL && check != NULL)
			sp_err_prefix(err, "no release: check \"%s\"", check);
	}
	return code;
}

/* --- verifying ------------------------------------------------------------------------------ */

/* The parts of the predicate, borrowed from the statement. */
struct predicate {
	json_t *attestations, *bases, *bom, *candidate, *log;
	const char *job, *time;
};

static enum sp_code
parse_predicate(const json_t *obj, struct predicate *out, struct sp_err *err)
{
	enum sp_code code;

	code = sp_json_array(obj, "attestations", &out->attestations, err);
	if (code == SP_OK)
		code = sp_json_array(obj, "bases", &out->bases, err);
	if (code == SP_OK)
		code = sp_json_object(obj, "bom", &out->bom, err);
	if (code == SP_OK)
		code = sp_json_object(obj, "candidate", &out->candidate, err);
	if (code == SP_OK)
		code = sp_json_string(obj, "job", &out->job, err);
	if (code == SP_OK)
		code = sp_json_object(obj, "log", &out->log, err);
	if (code == SP_OK)
		code = sp_json_string(obj, "time", &out->time, err);
	if (code != SP_OK)
		return code;
	if (json_object_size(obj) != 7)
		return sp_err_set(
		    err, SP_E_INVALID, "the release has fields that none should have");
	if (sp_time_parse_rfc3339(out->time) < 0)
		return sp_err_set(
		    err, SP_E_INVALID, "field \"time\" must look like 2027-01-31T00:00:00.000Z");
	if (json_array_size(out->bases) != 0)
		return sp_err_set(err, SP_E_UNSUPPORTED,
		    "the release builds on others, which this version cannot read");
	if (json_array_size(out->attestations) > SP_CANDIDATE_ATTESTATIONS_MAX)
		return sp_err_set(err, SP_E_LIMIT, "%zu attestations, at most %d are allowed",
		    json_array_size(out->attestations), SP_CANDIDATE_ATTESTATIONS_MAX);
	return SP_OK;
}

/* An envelope that is embedded as JSON: its bytes are its canonical text. */
static enum sp_code
embedded(const json_t *value, struct sp_dsse *out, struct sp_hex *digest, struct sp_err *err)
{
	enum sp_code code;
	size_t len;
	char *text;

	text = sp_json_canonical(value, &len);
	code = sp_dsse_parse((const uint8_t *)text, len, out, err);
	if (code == SP_OK && digest != NULL)
		*digest = sp_sha256_hex(text, len);
	free(text);
	return code;
}

/* Candidate and attestations into release, and the chain over them. */
static enum sp_code
check_custody(const struct sp_trust *trust, const struct predicate *p, struct sp_release *release,
    struct sp_hex *digests, const char **check, struct sp_err *err)
{
	size_t i, count = json_array_size(p->attestations);
	enum sp_code code;

	*check = "candidate";
	code = embedded(p->candidate, &release->candidate_envelope, NULL, err);
	if (code != SP_OK)
		return code;
	*check = "chain";
	release->attestations = sp_xcalloc(count > 0 ? count : 1, sizeof(*release->attestations));
	for (i = 0; i < count; i++) {
		code = embedded(json_array_get(p->attestations, i), &release->attestations[i],
		    &digests[i], err);
		if (code != SP_OK)
			return code;
		release->attestation_count++;
	}
	return sp_chain_check(trust, &release->candidate_envelope, release->attestations, digests,
	    count, 0, &release->candidate, check, err);
}

static enum sp_code
check_statement(const struct sp_trust *trust, struct sp_statement *s, struct sp_release *release,
    const char **check, struct sp_err *err)
{
	struct sp_hex digests[SP_CANDIDATE_ATTESTATIONS_MAX];
	struct predicate p;
	enum sp_code code;
	int gated;

	*check = "canonical";
	if (strcmp(s->predicate_type, SP_PREDICATE_RELEASE) != 0)
		return sp_err_set(err, SP_E_INVALID,
		    "its predicate is %s, not " SP_PREDICATE_RELEASE, s->predicate_type);
	code = parse_predicate(s->predicate, &p, err);
	if (code != SP_OK)
		return code;
	memcpy(release->time, p.time, sizeof(release->time));
	code = check_custody(trust, &p, release, digests, check, err);
	if (code != SP_OK)
		return code;
	*check = "chain";
	if (strcmp(s->subject_tree, release->candidate.tree.s) != 0 ||
	    strcmp(s->subject_name, release->candidate.name) != 0 ||
	    strcmp(p.job, release->candidate.job) != 0)
		return sp_err_set(err, SP_E_DENIED,
		    "the release is of %s, tree %s, job %s; the candidate of %s, tree %s, job %s",
		    s->subject_name, s->subject_tree, p.job, release->candidate.name,
		    release->candidate.tree.s, release->candidate.job);
	gated = sp_chain_stage_count(release->candidate.kind) > SP_CHAIN_GATE;
	code = sp_proof_check(
	    trust, p.log, &release->candidate, gated ? &digests[SP_CHAIN_GATE] : NULL, check, err);
	if (code != SP_OK)
		return code;
	*check = "bom";
	return sp_bom_check(p.bom, &release->candidate, err);
}

enum sp_code
sp_release_verify(const struct sp_trust *trust, const uint8_t *envelope, size_t len,
    struct sp_release **out, const char **check, struct sp_err *err)
{
	struct sp_release *release = sp_xcalloc(1, sizeof(*release));
	struct sp_statement statement = {0};
	const char *failed = "release";
	struct sp_dsse dsse = {0};
	enum sp_code code;

	*out = NULL;
	if (len > SP_RELEASE_MAX)
		code = sp_err_set(err, SP_E_LIMIT, "a release of %zu bytes, at most %u are allowed",
		    len, SP_RELEASE_MAX);
	else
		code = sp_dsse_parse(envelope, len, &dsse, err);
	if (code == SP_OK && strcmp(dsse.payload_type, SP_DSSE_INTOTO) != 0)
		code = sp_err_set(err, SP_E_INVALID,
		    "the envelope holds \"%s\", not " SP_DSSE_INTOTO, dsse.payload_type);
	if (code == SP_OK)
		code = sp_trust_verify(trust, SP_ROLE_RELEASE, 0, &dsse, NULL, 0, NULL, err);
	if (code != SP_OK)
		goto out;
	failed = "canonical";
	code = sp_statement_parse(dsse.payload, dsse.payload_len, &statement, err);
	if (code != SP_OK)
		goto out;
	release->digest = sp_sha256_hex(envelope, len);
	release->statement = json_incref(statement.root);
	code = check_statement(trust, &statement, release, &failed, err);
	if (code == SP_OK) {
		*out = release;
		release = NULL;
	}
out:
	if (check != NULL)
		*check = code == SP_OK ? NULL : failed;
	sp_statement_clear(&statement);
	sp_dsse_clear(&dsse);
	sp_release_free(&release);
	return code;
}

void
sp_release_free(struct sp_release **release)
{
	size_t i;

	if (release == NULL || *release == NULL)
		return;
	for (i = 0; i < (*release)->attestation_count; i++)
		sp_dsse_clear(&(*release)->attestations[i]);
	free((*release)->attestations);
	sp_dsse_clear(&(*release)->candidate_envelope);
	json_decref((*release)->statement);
	free(*release);
	*release = NULL;
}
