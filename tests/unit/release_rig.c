/* release_rig.c -- a whole release for tests. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "ledger/note.h"
#include "release/bom.h"
#include "release_rig.h"

#define URI "sallyport:tree:"

static struct sp_err err;

static struct sp_key *
new_key(enum sp_role role, const char *name)
{
	struct sp_key *key = NULL;

	assert_int_equal(sp_key_new(role, name, &key, &err), SP_OK);
	return key;
}

static int
by_id(const void *a, const void *b)
{
	return strcmp(sp_key_public(*(struct sp_key *const *)a)->id.s,
	    sp_key_public(*(struct sp_key *const *)b)->id.s);
}

static void
add_role(json_t *roles, enum sp_role role, int threshold, struct sp_key **list, size_t count)
{
	json_t *array = json_array();
	char *b64;

	qsort(list, count, sizeof(*list), by_id);
	for (size_t i = 0; i < count; i++) {
		b64 = sp_base64_encode(sp_key_public(list[i])->bytes, SP_PUBKEY_LEN);
		json_array_append_new(
		    array, json_pack("{s:s, s:s, s:s}", "id", sp_key_public(list[i])->id.s, "key",
			       b64, "name", sp_key_public(list[i])->name));
		free(b64);
	}
	json_object_set_new(roles, sp_role_word(role),
	    json_pack("{s:o, s:i}", "keys", array, "threshold", threshold));
}

/* version 1, with its envelope */
static void
make_trust(struct rig *rig, json_t *roles)
{
	json_t *doc = json_pack("{s:s, s:o, s:s, s:[], s:i}", "expires", "2099-01-01T00:00:00.000Z",
	    "roles", roles, "type", "sallyport-trust/1", "workers", "version", 1);
	size_t len;
	char *text = sp_json_canonical(doc, &len);

	json_decref(doc);
	assert_int_equal(sp_trust_parse((const uint8_t *)text, len, &rig->trust, &err), SP_OK);
	rig->fingerprint = sp_sha256_hex(text, len);
	rig->trust_envelope = rig_envelope(rig->keys[SP_ROLE_ROOT], SP_DSSE_TRUST, text, len);
}

void
rig_open(struct rig *rig)
{
	static const char *const names[SP_ROLE_COUNT] = {[SP_ROLE_ROOT] = "root",
	    [SP_ROLE_LOG] = "ledgerd@bastion",
	    [SP_ROLE_FETCH] = "fetcherd@bastion",
	    [SP_ROLE_QUANTIZE] = "quantd@bastion",
	    [SP_ROLE_GATE] = "validatord@bastion",
	    [SP_ROLE_RELEASE] = "diode-txd@bastion",
	    [SP_ROLE_REGISTRY] = "registryd@enclave",
	    [SP_ROLE_OPERATOR] = "anna"};
	json_t *roles = json_object();
	struct sp_key *operators[3], *logs[2];
	enum sp_role role;

	memset(rig, 0, sizeof(*rig));
	for (role = 0; role < SP_ROLE_COUNT; role++) {
		if (names[role] == NULL)
			continue;
		rig->keys[role] = new_key(role, names[role]);
		add_role(roles, role, 1, &rig->keys[role], 1);
	}
	rig->ben = new_key(SP_ROLE_OPERATOR, "ben");
	rig->anna2 = new_key(SP_ROLE_OPERATOR, "anna");
	rig->eve = new_key(SP_ROLE_OPERATOR, "eve");
	operators[0] = rig->keys[SP_ROLE_OPERATOR];
	operators[1] = rig->ben;
	operators[2] = rig->anna2;
	add_role(roles, SP_ROLE_OPERATOR, 2, operators, 3);
	rig->enclave_log = new_key(SP_ROLE_LOG, "ledgerd@enclave");
	logs[0] = rig->keys[SP_ROLE_LOG];
	logs[1] = rig->enclave_log;
	add_role(roles, SP_ROLE_LOG, 1, logs, 2);
	make_trust(rig, roles);
}

void
rig_close(struct rig *rig)
{
	for (int role = 0; role < SP_ROLE_COUNT; role++)
		sp_key_free(&rig->keys[role]);
	sp_key_free(&rig->ben);
	sp_key_free(&rig->anna2);
	sp_key_free(&rig->eve);
	sp_key_free(&rig->enclave_log);
	sp_trust_free(&rig->trust);
	free(rig->trust_envelope);
}

/* --- attestations and approvals ------------------------------------------------------------- */

#define OR(value, usual) ((value) != NULL ? (value) : (usual))

char *
rig_envelope(struct sp_key *key, const char *type, char *payload, size_t len)
{
	char *envelope = NULL;
	size_t envelope_len;

	assert_int_equal(
	    sp_dsse_sign(key, type, payload, len, &envelope, &envelope_len, &err), SP_OK);
	free(payload);
	return envelope;
}

static char *
provenance(struct sp_key *key, const char *type, const char *subject, const char *builder,
    const struct sp_material *material, const char *job)
{
	json_t *external = json_pack("{s:s}", "source", "hf:org/name");
	json_t *internal = json_pack("{s:s}", "licence", "mit");
	struct sp_provenance p = {.subject_name = "org/name",
	    .subject_tree = subject,
	    .build_type = type,
	    .external = external,
	    .internal = internal,
	    .materials = material,
	    .material_count = 1,
	    .builder = builder,
	    .version = "1",
	    .invocation = OR(job, RIG_JOB),
	    .started = RIG_TIME,
	    .finished = RIG_TIME};
	size_t len;
	char *text = sp_statement_provenance(&p, &len);

	json_decref(external);
	json_decref(internal);
	return rig_envelope(key, SP_DSSE_INTOTO, text, len);
}

static char *
verdict(const struct rig *rig, const struct rig_deviation *d)
{
	char *uri = sp_xasprintf(URI "%s", OR(d->gate_baseline, RIG_SOURCE));
	const struct sp_material baseline = {
	    .uri = uri, .sha256 = OR(d->gate_baseline, RIG_SOURCE)};
	const char *const passed[] = {"mmlu"};
	json_t *detail = json_pack("{s:{s:s, s:s, s:s, s:s, s:s, s:i}}", "mmlu", "verdict",
	    OR(d->gate_result, "PASSED"), "baseline_pp", "71.0000", "candidate_pp", "70.5000",
	    "drop_pp", "0.5000", "max_drop_pp", "3.0000", "n", 600);
	struct sp_test_result r = {.subject_name = "org/name-AWQ",
	    .subject_tree = OR(d->gate_subject, OR(d->tree, RIG_TREE)),
	    .result = OR(d->gate_result, "PASSED"),
	    .configuration = &baseline,
	    .configuration_count = 1,
	    .passed = passed,
	    .passed_count = 1,
	    .failed = &d->gate_failed,
	    .failed_count = d->gate_failed != NULL,
	    .detail = detail};
	size_t len;
	char *text = sp_statement_test_result(&r, &len);

	json_decref(detail);
	free(uri);
	return rig_envelope(OR(d->gate_key, rig->keys[SP_ROLE_GATE]), SP_DSSE_INTOTO, text, len);
}

/* Signs the candidate as the case says. */
char *
rig_approve(const struct rig *rig, const struct rig_deviation *d, const struct sp_candidate *c)
{
	struct sp_key *const usual[3] = {rig->keys[SP_ROLE_OPERATOR], rig->ben, NULL};
	struct sp_key *const stranger[3] = {rig->eve, NULL, NULL};
	struct sp_key *const *by = d->unapproved	     ? stranger
				   : d->approvers[0] != NULL ? d->approvers
							     : usual;
	struct sp_dsse dsse;
	char *envelope;
	size_t len, i;

	envelope = sp_candidate_format(c, &len);
	envelope = rig_envelope(by[0], SP_DSSE_CANDIDATE, envelope, len);
	assert_int_equal(
	    sp_dsse_parse((const uint8_t *)envelope, strlen(envelope), &dsse, &err), SP_OK);
	free(envelope);
	for (i = 1; i < 3 && by[i] != NULL; i++)
		assert_int_equal(sp_dsse_cosign(&dsse, by[i], &err), SP_OK);
	assert_int_equal(sp_dsse_format(&dsse, &envelope, &len, &err), SP_OK);
	sp_dsse_clear(&dsse);
	return envelope;
}

struct sp_bytes
rig_bytes(const char *text)
{
	return (struct sp_bytes){(const uint8_t *)text, strlen(text)};
}

void
rig_parts(const struct rig *rig, const struct rig_deviation *d, struct rig_parts *out)
{
	const struct sp_material hub = {.uri = "hf:org/name", .git_commit = "0123"};
	const char *material = OR(d->quantize_material, RIG_SOURCE);
	const char *tree = OR(d->tree, RIG_TREE);
	char *uri = sp_xasprintf(URI "%s", material);
	const struct sp_material source = {.uri = uri, .sha256 = material};
	struct sp_hex swap;

	memset(out, 0, sizeof(*out));
	out->text[0] = provenance(OR(d->fetch_key, rig->keys[SP_ROLE_FETCH]), SP_BUILD_FETCH,
	    RIG_SOURCE, "fetcherd@bastion", &hub, d->fetch_job);
	out->text[1] = provenance(OR(d->quantize_key, rig->keys[SP_ROLE_QUANTIZE]),
	    OR(d->quantize_type, SP_BUILD_QUANTIZE), OR(d->quantize_subject, tree),
	    OR(d->quantize_builder, "quantd@bastion"), &source, d->quantize_job);
	out->text[2] = verdict(rig, d);
	free(uri);
	out->count = d->attestations != 0 ? d->attestations : 3;
	out->c = (struct sp_candidate){.job = RIG_JOB,
	    .kind = "model",
	    .name = "org/name-AWQ",
	    .version = 1,
	    .destination = "enclave",
	    .attestation_count = out->count};
	memcpy(out->c.tree.s, tree, SP_HEX_LEN + 1);
	if (d->candidate_kind != NULL)
		strcpy(out->c.kind, d->candidate_kind);
	for (size_t i = 0; i < out->count; i++) {
		out->attestations[i] = rig_bytes(out->text[i]);
		out->c.attestations[i] = sp_sha256_hex(out->text[i], strlen(out->text[i]));
	}
	if (d->swapped) {
		swap = out->c.attestations[0];
		out->c.attestations[0] = out->c.attestations[1];
		out->c.attestations[1] = swap;
	}
	out->candidate = rig_approve(rig, d, &out->c);
	out->candidate_bytes = rig_bytes(out->candidate);
}

void
rig_parts_free(struct rig_parts *parts)
{
	for (size_t i = 0; i < 3; i++)
		free(parts->text[i]);
	free(parts->candidate);
}

/* --- the log -------------------------------------------------------------------------------- */

static const struct sp_actor ledgerd = {0, 0, "ledgerd", "ledgerd@bastion", ""};
static const struct sp_actor fetcherd = {0, 0, "fetcherd", "fetcherd@bastion", ""};
static const struct sp_actor quantd = {0, 0, "quantd", "quantd@bastion", ""};
static const struct sp_actor validatord = {0, 0, "validatord", "validatord@bastion", ""};
static const struct sp_actor anna = {1, 1000, "", "anna", ""};

#define LEASE1 "11111111111111111111111111111111"
#define LEASE2 "22222222222222222222222222222222"
#define LEASE3 "33333333333333333333333333333333"

const struct rig_step rig_story[RIG_ENTRIES] = {
    {&ledgerd, "start", NULL, NULL, NULL, NULL},
    {&anna, "submit", "", "SUBMITTED", NULL, NULL},
    {&fetcherd, "lease", "SUBMITTED", "FETCHING", "fetch", LEASE1},
    {&fetcherd, "done", "FETCHING", "FETCHED", "fetch", LEASE1},
    {&quantd, "lease", "FETCHED", "QUANTIZING", "quantize", LEASE2},
    {&quantd, "done", "QUANTIZING", "QUANTIZED", "quantize", LEASE2},
    {&validatord, "lease", "QUANTIZED", "VALIDATING", "validate", LEASE3},
    {&validatord, "done", "VALIDATING", "VALIDATED", "validate", LEASE3},
    {&ledgerd, "await", "VALIDATED", "AWAITING_APPROVAL", NULL, NULL},
    {&anna, "approved", "AWAITING_APPROVAL", "APPROVED", NULL, NULL},
};

static void
make_entry(const struct rig_step *step, uint64_t seq, const struct rig_parts *parts,
    const char *job, const char *origin, struct sp_buf *out)
{
	struct sp_entry *entry = sp_entry_new(step->actor, step->event);
	uint8_t *data;
	char *candidate;
	size_t len;

	if (step->to != NULL)
		sp_entry_job(entry, job, step->from, step->to);
	if (step->step != NULL)
		sp_entry_step(entry, step->step, step->lease);
	if (strcmp(step->event, "submit") == 0)
		sp_entry_detail(entry, "recipe", "model");
	if (strcmp(step->event, "await") == 0) {
		candidate = sp_candidate_format(&parts->c, &len);
		sp_entry_detail(entry, "version", "1");
		sp_entry_detail(entry, "candidate_sha256", sp_sha256_hex(candidate, len).s);
		free(candidate);
	}
	if (step->to != NULL && strcmp(step->to, "VALIDATED") == 0)
		sp_entry_attestation(entry, parts->text[2], strlen(parts->text[2]));
	data = sp_entry_pack(entry, seq, origin, 1764000000000 + (int64_t)seq, 5, &len);
	sp_buf_add(out, data, len);
	free(data);
	sp_entry_free(&entry);
}

static enum sp_code
leaf(void *ctx, uint64_t index, uint8_t out[SP_DIGEST_LEN], struct sp_err *e)
{
	const struct rig_log *log = ctx;

	(void)e;
	memcpy(out, log->leaves[index], SP_DIGEST_LEN);
	return SP_OK;
}

static void
sign_note(void *ctx, const void *data, size_t len, uint8_t sig[64])
{
	sp_key_sign(ctx, data, len, sig);
}

void
rig_log(const struct rig_step *story, const struct rig_parts *parts, const char *job,
    const char *origin, struct sp_key *signer, struct rig_log *log)
{
	rig_log_of(story, parts, job, origin, RIG_ORIGIN, signer, log);
}

void
rig_log_of(const struct rig_step *story, const struct rig_parts *parts, const char *job,
    const char *origin, const char *note_origin, struct sp_key *signer, struct rig_log *log)
{
	struct sp_checkpoint checkpoint = {.size = RIG_ENTRIES};
	struct sp_merkle tree = {0};
	struct sp_buf *entry;
	size_t i, len;
	char *text;

	memset(log, 0, sizeof(*log));
	strcpy(checkpoint.origin, note_origin);
	for (i = 0; i < RIG_ENTRIES; i++) {
		entry = &log->entries[i];
		make_entry(&story[i], i, parts, job, origin, entry);
		sp_merkle_leaf(entry->data, entry->len, log->leaves[i]);
		sp_merkle_append(&tree, log->leaves[i]);
	}
	sp_merkle_root(&tree, checkpoint.root);
	for (i = 0; i < RIG_ENTRIES; i++) {
		assert_int_equal(sp_merkle_prove(i, RIG_ENTRIES, leaf, log, log->hashes[i],
				     &log->proofs[i].hash_count, &err),
		    SP_OK);
		log->proofs[i].seq = i;
		log->proofs[i].entry = (struct sp_bytes){log->entries[i].data, log->entries[i].len};
		log->proofs[i].hashes = (const uint8_t(*)[SP_DIGEST_LEN])log->hashes[i];
	}
	text = sp_checkpoint_format(&checkpoint);
	log->checkpoint =
	    sp_note_sign(text, note_origin, sp_key_public(signer)->bytes, sign_note, signer, &len);
	free(text);
}

void
rig_log_free(struct rig_log *log)
{
	for (size_t i = 0; i < RIG_ENTRIES; i++)
		sp_buf_free(&log->entries[i]);
	free(log->checkpoint);
}

/* --- the release ---------------------------------------------------------------------------- */

json_t *
rig_bom(const struct rig_parts *parts, const struct sp_tree *tree)
{
	struct sp_tree_file files[] = {
	    {.path = (char *)(uintptr_t) "config.json", .size = 7, .sha256 = {RIG_OTHER}}};
	const struct sp_tree one = {.files = files, .count = 1};
	json_t *bom = NULL;

	assert_int_equal(sp_bom_model(&parts->c, tree != NULL ? tree : &one, parts->attestations,
			     parts->count, RIG_TIME, &bom, &err),
	    SP_OK);
	return bom;
}

char *
rig_release(const struct rig *rig, const struct rig_parts *parts, const struct rig_log *log,
    const json_t *bom, struct sp_key *key, size_t *len, struct sp_err *error)
{
	struct sp_release_parts in = {.candidate = parts->candidate_bytes,
	    .attestations = parts->attestations,
	    .attestation_count = parts->count,
	    .checkpoint = rig_bytes(log->checkpoint),
	    .proofs = log->proofs + 1,
	    .proof_count = RIG_ENTRIES - 1,
	    .bom = bom,
	    .time = RIG_TIME};
	char *envelope = NULL;

	if (sp_release_build(rig->trust, &in, 0, key, &envelope, len, error) != SP_OK)
		assert_null(envelope);
	return envelope;
}
