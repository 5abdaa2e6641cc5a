/* release_chain.c -- the chain of custody and the release: whole, and with each link broken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "release/bom.h"
#include "release_rig.h"

#define OTHER_JOB "ffffffffffffffffffffffffffffffff"
#define ENCLAVE "sallyport/enclave/host"

static struct sp_err err;
static struct rig rig;

/* --- the chain ------------------------------------------------------------------------------ */

static enum sp_code
check(const struct rig_deviation *d, unsigned approvals, const char **failed)
{
	struct sp_candidate out;
	struct rig_parts parts;
	enum sp_code code;

	rig_parts(&rig, d, &parts);
	code = sp_release_check_chain(rig.trust, parts.candidate_bytes, parts.attestations,
	    parts.count, approvals, &out, failed, &err);
	if (code == SP_OK)
		assert_memory_equal(&out, &parts.c, sizeof(out));
	rig_parts_free(&parts);
	return code;
}

/* The case is refused by exactly that check. */
static void
refused(const struct rig_deviation *d, const char *check_name, enum sp_code want)
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
	const struct rig_deviation none = {0};
	const struct rig_deviation three = {
	    .approvers = {rig.keys[SP_ROLE_OPERATOR], rig.ben, rig.eve}};
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
	const struct rig_deviation one = {.approvers = {rig.ben}};
	const struct rig_deviation same_person = {
	    .approvers = {rig.keys[SP_ROLE_OPERATOR], rig.anna2}};
	const struct rig_deviation stranger = {.approvers = {rig.ben, rig.eve}};
	const struct rig_deviation daemon = {.approvers = {rig.ben, rig.keys[SP_ROLE_GATE]}};
	const struct rig_deviation nobody = {.unapproved = 1};
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
	const struct rig_deviation material = {.quantize_material = RIG_OTHER};
	const struct rig_deviation subject = {.quantize_subject = RIG_OTHER};
	const struct rig_deviation gate_subject = {.gate_subject = RIG_OTHER};
	const struct rig_deviation baseline = {.gate_baseline = RIG_OTHER};
	const struct rig_deviation missing = {.attestations = 2};
	const struct rig_deviation swapped = {.swapped = 1};
	const struct rig_deviation file = {.candidate_kind = "file"};
	/* of the same trees, but made for another job, under whatever policy that had */
	const struct rig_deviation fetch_job = {.fetch_job = OTHER_JOB};
	const struct rig_deviation quantize_job = {.quantize_job = OTHER_JOB};

	(void)state;
	refused(&material, "chain", SP_E_DENIED);
	assert_non_null(strstr(err.msg, "materials"));
	refused(&subject, "chain", SP_E_DENIED);
	refused(&gate_subject, "chain", SP_E_DENIED);
	assert_non_null(strstr(err.msg, "tested the tree " RIG_OTHER));
	refused(&baseline, "chain", SP_E_DENIED);
	refused(&missing, "chain", SP_E_DENIED);
	refused(&swapped, "chain", SP_E_DENIED);
	refused(&file, "chain", SP_E_DENIED);
	refused(&fetch_job, "chain", SP_E_DENIED);
	assert_non_null(strstr(err.msg, "job " OTHER_JOB));
	refused(&quantize_job, "chain", SP_E_DENIED);
}

static void
chain_signers(void **state)
{
	const struct rig_deviation fetch = {.fetch_key = rig.keys[SP_ROLE_QUANTIZE]};
	const struct rig_deviation quantize = {.quantize_key = rig.keys[SP_ROLE_FETCH]};
	const struct rig_deviation gate = {.gate_key = rig.keys[SP_ROLE_RELEASE]};
	const struct rig_deviation stranger = {.gate_key = rig.eve};
	const struct rig_deviation builder = {.quantize_builder = "quantd@elsewhere"};
	const struct rig_deviation type = {.quantize_type = SP_BUILD_FETCH};

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
	const struct rig_deviation failed = {.gate_result = "FAILED"};
	const struct rig_deviation warned = {.gate_result = "WARNED"};
	const struct rig_deviation lying = {.gate_failed = "humaneval"};

	(void)state;
	refused(&failed, "gate", SP_E_BLOCKED);
	refused(&warned, "gate", SP_E_BLOCKED);
	refused(&lying, "gate", SP_E_BLOCKED);
}

/* The order fetch, quantize, gate holds also where the candidate lists another. */
static void
chain_order(void **state)
{
	const struct rig_deviation none = {0};
	const char *failed = NULL;
	struct sp_bytes swap;
	struct sp_hex digest;
	struct rig_parts parts;

	(void)state;
	rig_parts(&rig, &none, &parts);
	swap = parts.attestations[0];
	parts.attestations[0] = parts.attestations[1];
	parts.attestations[1] = swap;
	digest = parts.c.attestations[0];
	parts.c.attestations[0] = parts.c.attestations[1];
	parts.c.attestations[1] = digest;
	free(parts.candidate);
	parts.candidate = rig_approve(&rig, &none, &parts.c);
	assert_int_equal(sp_release_check_chain(rig.trust, rig_bytes(parts.candidate),
			     parts.attestations, 3, 0, NULL, &failed, &err),
	    SP_E_DENIED);
	assert_string_equal(failed, "fetch");
	assert_int_equal(sp_release_check_chain(rig.trust, rig_bytes("{}"), parts.attestations, 3,
			     0, NULL, &failed, &err),
	    SP_E_INVALID);
	assert_string_equal(failed, "candidate");
	rig_parts_free(&parts);
}

/* --- the release ---------------------------------------------------------------------------- */

struct fixture {
	struct rig_parts parts;
	struct rig_log log;
	json_t *bom;
	char *envelope;
	size_t len;
};

static void
make_release(struct fixture *f)
{
	const struct rig_deviation none = {0};

	rig_parts(&rig, &none, &f->parts);
	rig_log(rig_story, &f->parts, RIG_JOB, RIG_ORIGIN, rig.keys[SP_ROLE_LOG], &f->log);
	f->bom = rig_bom(&f->parts, NULL);
	f->envelope =
	    rig_release(&rig, &f->parts, &f->log, f->bom, rig.keys[SP_ROLE_RELEASE], &f->len, &err);
	assert_non_null(f->envelope);
}

static void
free_release(struct fixture *f)
{
	rig_parts_free(&f->parts);
	rig_log_free(&f->log);
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
	assert_int_equal(sp_release_verify(rig.trust, (const uint8_t *)f.envelope, f.len, &release,
			     &failed, &err),
	    SP_OK);
	assert_null(failed);
	assert_memory_equal(&release->candidate, &f.parts.c, sizeof(f.parts.c));
	assert_string_equal(release->digest.s, sp_sha256_hex(f.envelope, f.len).s);
	assert_string_equal(release->time, RIG_TIME);
	assert_int_equal(release->attestation_count, 3);
	assert_int_equal(release->candidate_envelope.sig_count, 2);
	sp_release_free(&release);
	/* the same parts give the same bytes */
	again = rig_release(&rig, &f.parts, &f.log, f.bom, rig.keys[SP_ROLE_RELEASE], &len, &err);
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
		assert_int_not_equal(sp_release_verify(rig.trust, (const uint8_t *)f.envelope,
					 f.len, &release, NULL, &err),
		    SP_OK);
		assert_null(release);
		f.envelope[i] ^= (char)(1 << i % 7);
	}
	assert_int_equal(
	    sp_release_verify(rig.trust, (const uint8_t *)f.envelope, f.len, &release, NULL, &err),
	    SP_OK);
	sp_release_free(&release);
	/* nor is any beginning of it */
	for (i = 0; i < f.len; i += 101)
		assert_int_not_equal(sp_release_verify(rig.trust, (const uint8_t *)f.envelope, i,
					 &release, NULL, &err),
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
	envelope = rig_envelope(rig.keys[SP_ROLE_RELEASE], SP_DSSE_INTOTO, text, len);
	assert_int_not_equal(sp_release_verify(rig.trust, (const uint8_t *)envelope,
				 strlen(envelope), &release, &failed, &err),
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
	json_array_append_new(json_object_get(predicate, "bases"), json_string(RIG_OTHER));
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

	json_object_set_new(json_array_get(json_object_get(component, "hashes"), 0), "content",
	    json_string(RIG_OTHER));
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
	json_array_remove(proofs_of(predicate), RIG_VALIDATED - 1);
}

static void
without_approved(json_t *predicate)
{
	json_array_remove(proofs_of(predicate), RIG_APPROVED - 1);
}

static void
wrong_seq(json_t *predicate)
{
	json_object_set_new(json_array_get(proofs_of(predicate), RIG_APPROVED - 1), "seq",
	    json_integer(RIG_ENTRIES));
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

	*(strstr(text, "\n10\n") + 2) = '1'; /* the size of the tree */
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
	static char another[] = "another envelope";
	const struct rig_deviation none = {0};
	struct rig_step early[RIG_ENTRIES], blocked[RIG_ENTRIES], again[RIG_ENTRIES];
	struct rig_parts parts, other_gate, other_candidate;
	struct rig_log log;
	json_t *bom;
	size_t len, i;
	struct {
		const struct rig_step *story;
		const struct rig_parts *parts;
		const char *job, *origin, *note_origin, *check;
		struct sp_key *signer;
	} cases[] = {
	    {early, &parts, RIG_JOB, RIG_ORIGIN, RIG_ORIGIN, "\"proof\"", rig.keys[SP_ROLE_LOG]},
	    {blocked, &parts, RIG_JOB, RIG_ORIGIN, RIG_ORIGIN, "\"proof\"", rig.keys[SP_ROLE_LOG]},
	    {again, &parts, RIG_JOB, RIG_ORIGIN, RIG_ORIGIN, "\"proof\"", rig.keys[SP_ROLE_LOG]},
	    {rig_story, &other_gate, RIG_JOB, RIG_ORIGIN, RIG_ORIGIN, "\"proof\"",
		rig.keys[SP_ROLE_LOG]},
	    {rig_story, &other_candidate, RIG_JOB, RIG_ORIGIN, RIG_ORIGIN, "\"proof\"",
		rig.keys[SP_ROLE_LOG]},
	    {rig_story, &parts, OTHER_JOB, RIG_ORIGIN, RIG_ORIGIN, "\"proof\"",
		rig.keys[SP_ROLE_LOG]},
	    {rig_story, &parts, RIG_JOB, "sallyport/bastion/other", RIG_ORIGIN, "\"proof\"",
		rig.keys[SP_ROLE_LOG]},
	    {rig_story, &parts, RIG_JOB, RIG_ORIGIN, RIG_ORIGIN, "\"checkpoint\"",
		rig.keys[SP_ROLE_GATE]},
	    /* the log of the other side, in its own name and in the bastion's */
	    {rig_story, &parts, RIG_JOB, ENCLAVE, ENCLAVE, "\"checkpoint\"", rig.enclave_log},
	    {rig_story, &parts, RIG_JOB, RIG_ORIGIN, RIG_ORIGIN, "\"checkpoint\"", rig.enclave_log},
	};

	(void)state;
	memcpy(early, rig_story, sizeof(early));
	early[RIG_VALIDATED].to = "APPROVED";
	early[RIG_APPROVED].to = "VALIDATED";
	memcpy(blocked, rig_story, sizeof(blocked));
	blocked[RIG_VALIDATED].to = "BLOCKED";
	/* the candidate changed after it was approved */
	memcpy(again, rig_story, sizeof(again));
	again[RIG_APPROVED - 1].to = "APPROVED";
	again[RIG_APPROVED].to = "AWAITING_APPROVAL";
	rig_parts(&rig, &none, &parts);
	other_gate = other_candidate = parts;
	other_gate.text[2] = another;
	other_candidate.c.version = 2;
	bom = rig_bom(&parts, NULL);
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		rig_log_of(cases[i].story, cases[i].parts, cases[i].job, cases[i].origin,
		    cases[i].note_origin, cases[i].signer, &log);
		assert_null(
		    rig_release(&rig, &parts, &log, bom, rig.keys[SP_ROLE_RELEASE], &len, &err));
		assert_non_null(strstr(err.msg, cases[i].check));
		rig_log_free(&log);
	}
	/* nor one signed by a key that does not release, or without a bill of materials */
	rig_log(rig_story, &parts, RIG_JOB, RIG_ORIGIN, rig.keys[SP_ROLE_LOG], &log);
	assert_null(rig_release(&rig, &parts, &log, bom, rig.keys[SP_ROLE_GATE], &len, &err));
	assert_non_null(strstr(err.msg, "\"release\""));
	assert_null(rig_release(&rig, &parts, &log, NULL, rig.keys[SP_ROLE_RELEASE], &len, &err));
	rig_log_free(&log);
	json_decref(bom);
	rig_parts_free(&parts);
}

/* The first of two approvals leaves the job as it is: what it waits for is still the candidate. */
static void
release_log_two_approvals(void **state)
{
	static const struct sp_actor anna = {1, 1000, "", "anna", ""};
	struct rig_step story[RIG_ENTRIES];
	struct fixture f;
	struct rig_log log;
	char *envelope;
	size_t len;

	(void)state;
	memcpy(story, rig_story, sizeof(story));
	memmove(&story[2], &story[3], (RIG_APPROVED - 3) * sizeof(story[0]));
	story[RIG_APPROVED - 1] = (struct rig_step){
	    &anna, "approve", "AWAITING_APPROVAL", "AWAITING_APPROVAL", NULL, NULL};
	make_release(&f);
	rig_log(story, &f.parts, RIG_JOB, RIG_ORIGIN, rig.keys[SP_ROLE_LOG], &log);
	envelope = rig_release(&rig, &f.parts, &log, f.bom, rig.keys[SP_ROLE_RELEASE], &len, &err);
	if (envelope == NULL)
		fail_msg("%s", err.msg);
	free(envelope);
	rig_log_free(&log);
	free_release(&f);
}

/* --- the bill of materials ------------------------------------------------------------------ */

static void
bom_model(void **state)
{
	const struct rig_deviation none = {0};
	const char *serial, *type, *license, *file, *source, *metric;
	struct sp_candidate other;
	struct rig_parts parts;
	json_t *bom;

	(void)state;
	rig_parts(&rig, &none, &parts);
	bom = rig_bom(&parts, NULL);
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
	rig_parts_free(&parts);
}

static int
set_up(void **state)
{
	(void)state;
	rig_open(&rig);
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	rig_close(&rig);
	return 0;
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
	    cmocka_unit_test(release_log_two_approvals),
	    cmocka_unit_test(bom_model),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
