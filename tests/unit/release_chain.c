/* release_chain.c -- the chain of custody and the release: whole, and with each link broken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "audit.pb-c.h"
#include "base/json.h"
#include "ledger/merkle.h"
#include "ledger/note.h"
#include "release/bom.h"
#include "release/release.h"

#define JOB "00112233445566778899aabbccddeeff"
#define ORIGIN "sallyport/bastion/host"
#define TIME "2026-11-24T05:02:03.123Z"
#define SOURCE "1111111111111111111111111111111111111111111111111111111111111111"
#define TREE "2222222222222222222222222222222222222222222222222222222222222222"
#define OTHER "3333333333333333333333333333333333333333333333333333333333333333"
#define URI "sallyport:tree:"

static struct sp_err err;
static struct sp_trust *trust;
static struct sp_key *keys[SP_ROLE_COUNT];
static struct sp_key *ben, *anna2, *eve; /* anna is keys[SP_ROLE_OPERATOR]; eve is a stranger */

/* What one case deviates in; NULL: as it should be. */
struct deviation {
	const char *quantize_material, *quantize_subject, *quantize_builder, *quantize_type;
	const char *gate_subject, *gate_baseline, *gate_result, *gate_failed;
	const char *candidate_kind;
	struct sp_key *fetch_key, *quantize_key, *gate_key;
	struct sp_key *approvers[3]; /* none: anna and ben */
	int unapproved;		     /* signed by eve alone */
	size_t attestations;	     /* 0: three */
	int swapped;		     /* candidate lists two attestations the other way round */
};

struct parts {
	char *text[3];
	struct sp_bytes attestations[3];
	size_t count;
	char *candidate;
	struct sp_bytes candidate_bytes;
	struct sp_candidate c;
};

/* --- making ------------------------------------------------------------------------------------
 */

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

static int
set_up(void **state)
{
	static const char *const names[SP_ROLE_COUNT] = {[SP_ROLE_ROOT] = "root",
	    [SP_ROLE_LOG] = "ledgerd@bastion",
	    [SP_ROLE_FETCH] = "fetcherd@bastion",
	    [SP_ROLE_QUANTIZE] = "quantd@bastion",
	    [SP_ROLE_GATE] = "validatord@bastion",
	    [SP_ROLE_RELEASE] = "diode-txd@bastion",
	    [SP_ROLE_OPERATOR] = "anna"};
	struct sp_key *operators[3];
	json_t *roles = json_object(), *doc;
	enum sp_role role;
	char *text;
	size_t len;

	(void)state;
	for (role = 0; role < SP_ROLE_COUNT; role++) {
		if (names[role] == NULL)
			continue;
		keys[role] = new_key(role, names[role]);
		add_role(roles, role, 1, &keys[role], 1);
	}
	ben = new_key(SP_ROLE_OPERATOR, "ben");
	anna2 = new_key(SP_ROLE_OPERATOR, "anna");
	eve = new_key(SP_ROLE_OPERATOR, "eve");
	operators[0] = keys[SP_ROLE_OPERATOR];
	operators[1] = ben;
	operators[2] = anna2;
	add_role(roles, SP_ROLE_OPERATOR, 2, operators, 3);
	doc = json_pack("{s:s, s:o, s:s, s:[], s:i}", "expires", "2030-01-01T00:00:00.000Z",
	    "roles", roles, "type", "sallyport-trust/1", "workers", "version", 1);
	text = sp_json_canonical(doc, &len);
	json_decref(doc);
	assert_int_equal(sp_trust_parse((const uint8_t *)text, len, &trust, &err), SP_OK);
	free(text);
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	for (int role = 0; role < SP_ROLE_COUNT; role++)
		sp_key_free(&keys[role]);
	sp_key_free(&ben);
	sp_key_free(&anna2);
	sp_key_free(&eve);
	sp_trust_free(&trust);
	return 0;
}

#define OR(value, usual) ((value) != NULL ? (value) : (usual))

static char *
envelope_of(struct sp_key *key, const char *type, char *payload, size_t len)
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
    const struct sp_material *material)
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
	    .invocation = JOB,
	    .started = TIME,
	    .finished = TIME};
	size_t len;
	char *text = sp_statement_provenance(&p, &len);

	json_decref(external);
	json_decref(internal);
	return envelope_of(key, SP_DSSE_INTOTO, text, len);
}

static char *
verdict(const struct deviation *d)
{
	char *uri = sp_xasprintf(URI "%s", OR(d->gate_baseline, SOURCE));
	const struct sp_material baseline = {.uri = uri, .sha256 = OR(d->gate_baseline, SOURCE)};
	const char *const passed[] = {"mmlu"};
	json_t *detail = json_pack(
	    "{s:{s:s, s:s}}", "mmlu", "baseline_pp", "71.0000", "candidate_pp", "70.5000");
	struct sp_test_result r = {.subject_name = "org/name-AWQ",
	    .subject_tree = OR(d->gate_subject, TREE),
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
	return envelope_of(OR(d->gate_key, keys[SP_ROLE_GATE]), SP_DSSE_INTOTO, text, len);
}

/* Signs the candidate as the case says. */
static char *
approve(const struct deviation *d, const struct sp_candidate *c)
{
	struct sp_key *const usual[3] = {keys[SP_ROLE_OPERATOR], ben, NULL};
	struct sp_key *const stranger[3] = {eve, NULL, NULL};
	struct sp_key *const *by = d->unapproved	     ? stranger
				   : d->approvers[0] != NULL ? d->approvers
							     : usual;
	struct sp_dsse dsse;
	char *envelope;
	size_t len, i;

	envelope = sp_candidate_format(c, &len);
	envelope = envelope_of(by[0], SP_DSSE_CANDIDATE, envelope, len);
	assert_int_equal(
	    sp_dsse_parse((const uint8_t *)envelope, strlen(envelope), &dsse, &err), SP_OK);
	free(envelope);
	for (i = 1; i < 3 && by[i] != NULL; i++)
		assert_int_equal(sp_dsse_cosign(&dsse, by[i], &err), SP_OK);
	assert_int_equal(sp_dsse_format(&dsse, &envelope, &len, &err), SP_OK);
	sp_dsse_clear(&dsse);
	return envelope;
}

static struct sp_bytes
bytes_of(const char *text)
{
	return (struct sp_bytes){(const uint8_t *)text, strlen(text)};
}

static void
make_parts(const struct deviation *d, struct parts *out)
{
	const struct sp_material hub = {.uri = "hf:org/name", .git_commit = "0123"};
	const char *material = OR(d->quantize_material, SOURCE);
	char *uri = sp_xasprintf(URI "%s", material);
	const struct sp_material source = {.uri = uri, .sha256 = material};
	struct sp_hex swap;

	memset(out, 0, sizeof(*out));
	out->text[0] = provenance(OR(d->fetch_key, keys[SP_ROLE_FETCH]), SP_BUILD_FETCH, SOURCE,
	    "fetcherd@bastion", &hub);
	out->text[1] = provenance(OR(d->quantize_key, keys[SP_ROLE_QUANTIZE]),
	    OR(d->quantize_type, SP_BUILD_QUANTIZE), OR(d->quantize_subject, TREE),
	    OR(d->quantize_builder, "quantd@bastion"), &source);
	out->text[2] = verdict(d);
	free(uri);
	out->count = d->attestations != 0 ? d->attestations : 3;
	out->c = (struct sp_candidate){.job = JOB,
	    .kind = "model",
	    .name = "org/name-AWQ",
	    .version = 1,
	    .destination = "enclave",
	    .tree = {TREE},
	    .attestation_count = out->count};
	if (d->candidate_kind != NULL)
		strcpy(out->c.kind, d->candidate_kind);
	for (size_t i = 0; i < out->count; i++) {
		out->attestations[i] = bytes_of(out->text[i]);
		out->c.attestations[i] = sp_sha256_hex(out->text[i], strlen(out->text[i]));
	}
	if (d->swapped) {
		swap = out->c.attestations[0];
		out->c.attestations[0] = out->c.attestations[1];
		out->c.attestations[1] = swap;
	}
	out->candidate = approve(d, &out->c);
	out->candidate_bytes = bytes_of(out->candidate);
}

static void
free_parts(struct parts *parts)
{
	for (size_t i = 0; i < 3; i++)
		free(parts->text[i]);
	free(parts->candidate);
}

/* --- the chain ---------------------------------------------------------------------------------
 */

static enum sp_code
check(const struct deviation *d, unsigned approvals, const char **failed)
{
	struct sp_candidate out;
	struct parts parts;
	enum sp_code code;

	make_parts(d, &parts);
	code = sp_release_check_chain(trust, parts.candidate_bytes, parts.attestations, parts.count,
	    approvals, &out, failed, &err);
	if (code == SP_OK)
		assert_memory_equal(&out, &parts.c, sizeof(out));
	free_parts(&parts);
	return code;
}

/* The case is refused by exactly that check. */
static void
refused(const struct deviation *d, const char *check_name, enum sp_code want)
{
	const char *failed = NULL;

	assert_int_equal(check(d, 0, &failed), want);
	assert_non_null(failed);
	assert_string_equal(failed, check_name);
	assert_true(err.msg[0] != '\0');
}

static void
chain_whole(void **state)
{
	const struct deviation none = {0};
	const struct deviation three = {.approvers = {keys[SP_ROLE_OPERATOR], ben, eve}};
	const char *failed = "unset";

	(void)state;
	assert_int_equal(check(&none, 0, &failed), SP_OK);
	assert_null(failed);
	assert_int_equal(check(&none, 2, &failed), SP_OK);
	/* a profile may ask for less than the trust document, which does not count */
	assert_int_equal(check(&none, 1, &failed), SP_OK);
	assert_int_equal(check(&none, 3, &failed), SP_E_DENIED);
	assert_string_equal(failed, "approvals");
	assert_int_equal(check(&three, 2, &failed), SP_OK);
	/* eve is no operator */
	assert_int_equal(check(&three, 3, &failed), SP_E_DENIED);
}

static void
chain_approvals(void **state)
{
	const struct deviation one = {.approvers = {ben}};
	const struct deviation same_person = {.approvers = {keys[SP_ROLE_OPERATOR], anna2}};
	const struct deviation stranger = {.approvers = {ben, eve}};
	const struct deviation daemon = {.approvers = {ben, keys[SP_ROLE_GATE]}};
	const struct deviation nobody = {.unapproved = 1};
	const char *failed;

	(void)state;
	refused(&one, "approvals", SP_E_DENIED);
	refused(&same_person, "approvals", SP_E_DENIED);
	refused(&stranger, "approvals", SP_E_DENIED);
	refused(&daemon, "approvals", SP_E_DENIED);
	refused(&nobody, "approvals", SP_E_DENIED);
	/* less than the threshold cannot be asked for */
	assert_int_equal(check(&one, 1, &failed), SP_E_DENIED);
	assert_string_equal(failed, "approvals");
}

static void
chain_gaps(void **state)
{
	const struct deviation material = {.quantize_material = OTHER};
	const struct deviation subject = {.quantize_subject = OTHER};
	const struct deviation gate_subject = {.gate_subject = OTHER};
	const struct deviation baseline = {.gate_baseline = OTHER};
	const struct deviation missing = {.attestations = 2};
	const struct deviation swapped = {.swapped = 1};
	const struct deviation file = {.candidate_kind = "file"};

	(void)state;
	refused(&material, "chain", SP_E_DENIED);
	assert_non_null(strstr(err.msg, "materials"));
	refused(&subject, "chain", SP_E_DENIED);
	refused(&gate_subject, "chain", SP_E_DENIED);
	assert_non_null(strstr(err.msg, "tested the tree " OTHER));
	refused(&baseline, "chain", SP_E_DENIED);
	refused(&missing, "chain", SP_E_DENIED);
	refused(&swapped, "chain", SP_E_DENIED);
	refused(&file, "chain", SP_E_DENIED);
}

static void
chain_signers(void **state)
{
	const struct deviation fetch = {.fetch_key = keys[SP_ROLE_QUANTIZE]};
	const struct deviation quantize = {.quantize_key = keys[SP_ROLE_FETCH]};
	const struct deviation gate = {.gate_key = keys[SP_ROLE_RELEASE]};
	const struct deviation stranger = {.gate_key = eve};
	const struct deviation builder = {.quantize_builder = "quantd@elsewhere"};
	const struct deviation type = {.quantize_type = SP_BUILD_FETCH};

	(void)state;
	refused(&fetch, "fetch", SP_E_DENIED);
	refused(&quantize, "quantize", SP_E_DENIED);
	refused(&gate, "gate", SP_E_DENIED);
	refused(&stranger, "gate", SP_E_DENIED);
	refused(&builder, "quantize", SP_E_DENIED);
	refused(&type, "quantize", SP_E_INVALID);
}

static void
chain_verdict(void **state)
{
	const struct deviation failed = {.gate_result = "FAILED"};
	const struct deviation warned = {.gate_result = "WARNED"};
	const struct deviation lying = {.gate_failed = "humaneval"};

	(void)state;
	refused(&failed, "gate", SP_E_BLOCKED);
	refused(&warned, "gate", SP_E_BLOCKED);
	refused(&lying, "gate", SP_E_BLOCKED);
}

/* The order fetch, quantize, gate holds also where the candidate lists another. */
static void
chain_order(void **state)
{
	const struct deviation none = {0};
	const char *failed = NULL;
	struct sp_bytes swap;
	struct sp_hex digest;
	struct parts parts;

	(void)state;
	make_parts(&none, &parts);
	swap = parts.attestations[0];
	parts.attestations[0] = parts.attestations[1];
	parts.attestations[1] = swap;
	digest = parts.c.attestations[0];
	parts.c.attestations[0] = parts.c.attestations[1];
	parts.c.attestations[1] = digest;
	free(parts.candidate);
	parts.candidate = approve(&none, &parts.c);
	assert_int_equal(sp_release_check_chain(trust, bytes_of(parts.candidate),
			     parts.attestations, 3, 0, NULL, &failed, &err),
	    SP_E_DENIED);
	assert_string_equal(failed, "fetch");
	assert_int_equal(sp_release_check_chain(
			     trust, bytes_of("{}"), parts.attestations, 3, 0, NULL, &failed, &err),
	    SP_E_INVALID);
	assert_string_equal(failed, "candidate");
	free_parts(&parts);
}

/* --- the log -----------------------------------------------------------------------------------
 */

#define ENTRIES 6

/* A log of six entries: another job's, then this job's five. */
struct log {
	struct sp_buf entries[ENTRIES];
	uint8_t leaves[ENTRIES][SP_DIGEST_LEN];
	uint8_t hashes[ENTRIES][SP_MERKLE_PROOF_MAX][SP_DIGEST_LEN];
	struct sp_release_proof proofs[ENTRIES];
	char *checkpoint;
};

static enum sp_code
leaf(void *ctx, uint64_t index, uint8_t out[SP_DIGEST_LEN], struct sp_err *e)
{
	const struct log *log = ctx;

	(void)e;
	memcpy(out, log->leaves[index], SP_DIGEST_LEN);
	return SP_OK;
}

static void
sign_note(void *ctx, const void *data, size_t len, uint8_t sig[64])
{
	sp_key_sign(ctx, data, len, sig);
}

/* states[i]: where entry i leads; an empty one is left out of the proofs. */
static void
make_log(const char *const states[ENTRIES], const struct sp_hex *gate, const char *job,
    const char *origin, struct sp_key *signer, struct log *log)
{
	struct sp_checkpoint checkpoint = {.origin = ORIGIN, .size = ENTRIES};
	struct sp_merkle tree = {0};
	uint8_t digest[SP_DIGEST_LEN];
	size_t i, len;
	char *text;

	memset(log, 0, sizeof(*log));
	for (i = 0; i < ENTRIES; i++) {
		Sallyport__Entry entry;

		sallyport__entry__init(&entry);
		entry.seq = i;
		entry.origin = (char *)(uintptr_t)origin;
		entry.job = (char *)(uintptr_t)(i == 0 ? "ffeeddccbbaa99887766554433221100" : job);
		entry.to = (char *)(uintptr_t)states[i];
		if (gate != NULL && strcmp(states[i], "VALIDATED") == 0) {
			assert_int_equal(sp_hex_decode(gate->s, digest, sizeof(digest)), SP_OK);
			entry.attestation_sha256.data = digest;
			entry.attestation_sha256.len = sizeof(digest);
		}
		log->entries[i].len = sallyport__entry__get_packed_size(&entry);
		log->entries[i].data = malloc(log->entries[i].len + 1);
		sallyport__entry__pack(&entry, log->entries[i].data);
		sp_merkle_leaf(log->entries[i].data, log->entries[i].len, log->leaves[i]);
		sp_merkle_append(&tree, log->leaves[i]);
	}
	sp_merkle_root(&tree, checkpoint.root);
	for (i = 0; i < ENTRIES; i++) {
		assert_int_equal(sp_merkle_prove(i, ENTRIES, leaf, log, log->hashes[i],
				     &log->proofs[i].hash_count, &err),
		    SP_OK);
		log->proofs[i].seq = i;
		log->proofs[i].entry = (struct sp_bytes){log->entries[i].data, log->entries[i].len};
		log->proofs[i].hashes = (const uint8_t(*)[SP_DIGEST_LEN])log->hashes[i];
	}
	text = sp_checkpoint_format(&checkpoint);
	log->checkpoint =
	    sp_note_sign(text, ORIGIN, sp_key_public(signer)->bytes, sign_note, signer, &len);
	free(text);
}

static void
free_log(struct log *log)
{
	for (size_t i = 0; i < ENTRIES; i++)
		sp_buf_free(&log->entries[i]);
	free(log->checkpoint);
}

static const char *const usual_states[ENTRIES] = {
    "SUBMITTED", "FETCHED", "QUANTIZED", "VALIDATED", "AWAITING_APPROVAL", "APPROVED"};

static json_t *
make_bom(const struct parts *parts)
{
	struct sp_tree_file files[] = {
	    {.path = (char *)(uintptr_t) "config.json", .size = 7, .sha256 = {OTHER}}};
	struct sp_tree tree = {.files = files, .count = 1};
	json_t *bom = NULL;

	assert_int_equal(
	    sp_bom_model(&parts->c, &tree, parts->attestations, parts->count, TIME, &bom, &err),
	    SP_OK);
	return bom;
}

/* --- the release -------------------------------------------------------------------------------
 */

/* Builds from parts and log, from the second proof on; malloc'd or NULL with err. */
static char *
build(
    struct parts *parts, const struct log *log, const json_t *bom, struct sp_key *key, size_t *len)
{
	struct sp_release_parts in = {.candidate = parts->candidate_bytes,
	    .attestations = parts->attestations,
	    .attestation_count = parts->count,
	    .checkpoint = bytes_of(log->checkpoint),
	    .proofs = log->proofs + 1,
	    .proof_count = ENTRIES - 1,
	    .bom = bom,
	    .time = TIME};
	char *envelope = NULL;

	if (sp_release_build(trust, &in, 0, key, &envelope, len, &err) != SP_OK)
		assert_null(envelope);
	return envelope;
}

struct fixture {
	struct parts parts;
	struct log log;
	json_t *bom;
	char *envelope;
	size_t len;
};

static void
make_release(struct fixture *f)
{
	const struct deviation none = {0};

	make_parts(&none, &f->parts);
	make_log(
	    usual_states, &f->parts.c.attestations[2], JOB, ORIGIN, keys[SP_ROLE_LOG], &f->log);
	f->bom = make_bom(&f->parts);
	f->envelope = build(&f->parts, &f->log, f->bom, keys[SP_ROLE_RELEASE], &f->len);
	assert_non_null(f->envelope);
}

static void
free_release(struct fixture *f)
{
	free_parts(&f->parts);
	free_log(&f->log);
	json_decref(f->bom);
	free(f->envelope);
}

static void
release_whole(void **state)
{
	struct sp_release *release = NULL;
	const char *failed = "unset";
	struct fixture f;
	char *again;
	size_t len;

	(void)state;
	make_release(&f);
	assert_int_equal(
	    sp_release_verify(trust, (const uint8_t *)f.envelope, f.len, &release, &failed, &err),
	    SP_OK);
	assert_null(failed);
	assert_memory_equal(&release->candidate, &f.parts.c, sizeof(f.parts.c));
	assert_string_equal(release->digest.s, sp_sha256_hex(f.envelope, f.len).s);
	assert_string_equal(release->time, TIME);
	assert_int_equal(release->attestation_count, 3);
	assert_int_equal(release->candidate_envelope.sig_count, 2);
	sp_release_free(&release);
	/* the same parts give the same bytes */
	again = build(&f.parts, &f.log, f.bom, keys[SP_ROLE_RELEASE], &len);
	assert_string_equal(again, f.envelope);
	free(again);
	free_release(&f);
}

/* Every byte of the envelope, in turn, with one bit flipped: none of them is a release. */
static void
release_flipped(void **state)
{
	struct sp_release *release = NULL;
	struct fixture f;
	size_t i, step;

	(void)state;
	make_release(&f);
	/* every position near the ends, where the structure is, and a sample between */
	for (i = 0; i < f.len; i += step) {
		step = i < 256 || f.len - i < 512 ? 1 : 37;
		f.envelope[i] ^= (char)(1 << i % 7);
		assert_int_not_equal(sp_release_verify(trust, (const uint8_t *)f.envelope, f.len,
					 &release, NULL, &err),
		    SP_OK);
		assert_null(release);
		f.envelope[i] ^= (char)(1 << i % 7);
	}
	assert_int_equal(
	    sp_release_verify(trust, (const uint8_t *)f.envelope, f.len, &release, NULL, &err),
	    SP_OK);
	sp_release_free(&release);
	/* nor is any beginning of it */
	for (i = 0; i < f.len; i += 101)
		assert_int_not_equal(
		    sp_release_verify(trust, (const uint8_t *)f.envelope, i, &release, NULL, &err),
		    SP_OK);
	free_release(&f);
}

/* Takes the payload, changes it and signs it anew with the release key: what a captured diode-txd
 * could do. */
static void
resigned(const struct fixture *f, void (*change)(json_t *predicate), const char *check_name)
{
	struct sp_release *release = NULL;
	const char *failed = NULL;
	struct sp_dsse dsse;
	json_t *root = NULL;
	char *text, *envelope;
	size_t len;

	assert_int_equal(sp_dsse_parse((const uint8_t *)f->envelope, f->len, &dsse, &err), SP_OK);
	assert_int_equal(
	    sp_json_parse(dsse.payload, dsse.payload_len, "payload", &root, &err), SP_OK);
	sp_dsse_clear(&dsse);
	change(json_object_get(root, "predicate"));
	text = sp_json_canonical(root, &len);
	json_decref(root);
	envelope = envelope_of(keys[SP_ROLE_RELEASE], SP_DSSE_INTOTO, text, len);
	assert_int_not_equal(sp_release_verify(trust, (const uint8_t *)envelope, strlen(envelope),
				 &release, &failed, &err),
	    SP_OK);
	assert_null(release);
	assert_string_equal(failed, check_name);
	free(envelope);
}

static void
more_fields(json_t *predicate)
{
	json_object_set_new(predicate, "more", json_true());
}

static void
some_bases(json_t *predicate)
{
	json_array_append_new(json_object_get(predicate, "bases"), json_string(OTHER));
}

static void
other_job(json_t *predicate)
{
	json_object_set_new(predicate, "job", json_string("00000000000000000000000000000000"));
}

static void
no_gate(json_t *predicate)
{
	json_array_remove(json_object_get(predicate, "attestations"), 2);
}

static void
other_bom(json_t *predicate)
{
	json_t *component = json_object_get(
	    json_object_get(json_object_get(predicate, "bom"), "metadata"), "component");

	json_object_set_new(
	    json_array_get(json_object_get(component, "hashes"), 0), "content", json_string(OTHER));
}

static json_t *
proofs_of(json_t *predicate)
{
	return json_object_get(json_object_get(predicate, "log"), "proofs");
}

static void
no_proofs(json_t *predicate)
{
	json_array_clear(proofs_of(predicate));
}

static void
without_validated(json_t *predicate)
{
	json_array_remove(proofs_of(predicate), 2);
}

static void
without_approved(json_t *predicate)
{
	json_array_remove(proofs_of(predicate), 4);
}

static void
wrong_seq(json_t *predicate)
{
	json_object_set_new(json_array_get(proofs_of(predicate), 4), "seq", json_integer(6));
}

static void
proof_twice(json_t *predicate)
{
	json_t *proofs = proofs_of(predicate);

	json_array_insert(proofs, 1, json_array_get(proofs, 0));
}

static void
other_checkpoint(json_t *predicate)
{
	json_t *log = json_object_get(predicate, "log");
	char *text = sp_xstrdup(json_string_value(json_object_get(log, "checkpoint")));

	*strchr(text, '6') = '7'; /* the size of the tree */
	json_object_set_new(log, "checkpoint", json_string(text));
	free(text);
}

static void
release_resigned(void **state)
{
	struct fixture f;

	(void)state;
	make_release(&f);
	resigned(&f, more_fields, "canonical");
	resigned(&f, some_bases, "canonical");
	resigned(&f, other_job, "chain");
	resigned(&f, no_gate, "chain");
	resigned(&f, other_checkpoint, "checkpoint");
	resigned(&f, no_proofs, "proof");
	resigned(&f, without_validated, "proof");
	assert_non_null(strstr(err.msg, "VALIDATED"));
	resigned(&f, without_approved, "proof");
	resigned(&f, wrong_seq, "proof");
	resigned(&f, proof_twice, "proof");
	resigned(&f, other_bom, "bom");
	free_release(&f);
}

/* What the log says must fit; a release that does not is never built. */
static void
release_log(void **state)
{
	static const char *const early[ENTRIES] = {
	    "SUBMITTED", "FETCHED", "QUANTIZED", "APPROVED", "AWAITING_APPROVAL", "VALIDATED"};
	static const char *const blocked[ENTRIES] = {
	    "SUBMITTED", "FETCHED", "QUANTIZED", "BLOCKED", "AWAITING_APPROVAL", "APPROVED"};
	struct sp_hex *gate, other = {OTHER};
	const struct deviation none = {0};
	struct parts parts;
	struct log log;
	json_t *bom;
	size_t len, i;
	struct {
		const char *const *states;
		const struct sp_hex *gate;
		const char *job, *origin, *check;
		struct sp_key *signer;
	} cases[] = {
	    {early, NULL, JOB, ORIGIN, "\"proof\"", keys[SP_ROLE_LOG]},
	    {blocked, NULL, JOB, ORIGIN, "\"proof\"", keys[SP_ROLE_LOG]},
	    {usual_states, &other, JOB, ORIGIN, "\"proof\"", keys[SP_ROLE_LOG]},
	    {usual_states, NULL, "ffffffffffffffffffffffffffffffff", ORIGIN, "\"proof\"",
		keys[SP_ROLE_LOG]},
	    {usual_states, NULL, JOB, "sallyport/bastion/other", "\"proof\"", keys[SP_ROLE_LOG]},
	    {usual_states, NULL, JOB, ORIGIN, "\"checkpoint\"", keys[SP_ROLE_GATE]},
	};

	(void)state;
	make_parts(&none, &parts);
	gate = &parts.c.attestations[2];
	bom = make_bom(&parts);
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		make_log(cases[i].states, cases[i].gate != NULL ? cases[i].gate : gate,
		    cases[i].job, cases[i].origin, cases[i].signer, &log);
		assert_null(build(&parts, &log, bom, keys[SP_ROLE_RELEASE], &len));
		assert_non_null(strstr(err.msg, cases[i].check));
		free_log(&log);
	}
	/* nor one signed by a key that does not release, or without a bill of materials */
	make_log(usual_states, gate, JOB, ORIGIN, keys[SP_ROLE_LOG], &log);
	assert_null(build(&parts, &log, bom, keys[SP_ROLE_GATE], &len));
	assert_non_null(strstr(err.msg, "\"release\""));
	assert_null(build(&parts, &log, NULL, keys[SP_ROLE_RELEASE], &len));
	free_log(&log);
	json_decref(bom);
	free_parts(&parts);
}

/* --- the bill of materials ---------------------------------------------------------------------
 */

static void
bom_model(void **state)
{
	const struct deviation none = {0};
	const char *serial, *type, *license, *file, *source, *metric;
	struct sp_candidate other;
	struct parts parts;
	json_t *bom;

	(void)state;
	make_parts(&none, &parts);
	bom = make_bom(&parts);
	assert_int_equal(
	    json_unpack(bom,
		"{s:s, s:{s:{s:s, s:[{s:{s:s}}], s:[{s:s}], s:{s:[{s:s}]}, s:{s:{s:[{s:s}]}}}}}",
		"serialNumber", &serial, "metadata", "component", "type", &type, "licenses",
		"license", "name", &license, "components", "name", &file, "pedigree", "ancestors",
		"name", &source, "modelCard", "quantitativeAnalysis", "performanceMetrics", "value",
		&metric),
	    0);
	assert_string_equal(serial, "urn:uuid:00112233-4455-6677-8899-aabbccddeeff");
	assert_string_equal(type, "machine-learning-model");
	assert_string_equal(license, "mit");
	assert_string_equal(file, "config.json");
	assert_string_equal(source, "hf:org/name@0123");
	assert_string_equal(metric, "70.5000");
	assert_int_equal(sp_bom_check(bom, &parts.c, &err), SP_OK);
	other = parts.c;
	other.version = 2;
	assert_int_equal(sp_bom_check(bom, &other, &err), SP_E_INVALID);
	other = parts.c;
	strcpy(other.name, "org/other");
	assert_int_equal(sp_bom_check(bom, &other, &err), SP_E_INVALID);
	json_decref(bom);
	free_parts(&parts);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(chain_whole),
	    cmocka_unit_test(chain_approvals),
	    cmocka_unit_test(chain_gaps),
	    cmocka_unit_test(chain_signers),
	    cmocka_unit_test(chain_verdict),
	    cmocka_unit_test(chain_order),
	    cmocka_unit_test(release_whole),
	    cmocka_unit_test(release_flipped),
	    cmocka_unit_test(release_resigned),
	    cmocka_unit_test(release_log),
	    cmocka_unit_test(bom_model),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
