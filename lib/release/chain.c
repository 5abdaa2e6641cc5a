/*
 * chain.c -- fetch.subject = quantize.material, quantize.subject = gate.subject = candidate.tree,
 * and the gate compared with fetch.subject: every link by digest, every attestation by the key of
 * its role, and the key's owner is whom the attestation names as its builder. Provenances are of
 * the candidate's own job; which verdict is the job's, its log says (proof.c).
 */
#include "release/chain.h"
#include "release/statement.h"

#include <string.h>

#define PEOPLE_MAX SP_DSSE_SIGS_MAX

static const struct {
	const char *word;
	enum sp_role role;
	const char *predicate;
	const char *build_type; /* NULL: no provenance */
} stages[SP_CHAIN_STAGES] = {
    [SP_CHAIN_FETCH] = {"fetch", SP_ROLE_FETCH, SP_PREDICATE_SLSA, SP_BUILD_FETCH},
    [SP_CHAIN_QUANTIZE] = {"quantize", SP_ROLE_QUANTIZE, SP_PREDICATE_SLSA, SP_BUILD_QUANTIZE},
    [SP_CHAIN_GATE] = {"gate", SP_ROLE_GATE, SP_PREDICATE_TEST, NULL},
};

size_t
sp_chain_stage_count(const char *kind)
{
	return strcmp(kind, "model") == 0 ? SP_CHAIN_STAGES : SP_CHAIN_FETCH + 1;
}

const char *
sp_chain_stage_word(enum sp_chain_stage stage)
{
	return stages[stage].word;
}

enum sp_role
sp_chain_stage_role(enum sp_chain_stage stage)
{
	return stages[stage].role;
}

/* --- approvals ------------------------------------------------------------------------------ */

enum sp_code
sp_chain_approvals(const struct sp_trust *trust, const struct sp_dsse *candidate,
    const struct sp_pubkey **people, size_t max, size_t *count, struct sp_err *err)
{
	const struct sp_pubkey *signers[PEOPLE_MAX];
	enum sp_code code;
	size_t i, j, valid;

	*count = 0;
	if (strcmp(candidate->payload_type, SP_DSSE_CANDIDATE) != 0)
		return sp_err_set(err, SP_E_INVALID,
		    "the envelope holds \"%s\", not " SP_DSSE_CANDIDATE, candidate->payload_type);
	code = sp_trust_verify(
	    trust, SP_ROLE_OPERATOR, 1, candidate, signers, PEOPLE_MAX, &valid, err);
	if (code != SP_OK)
		return code;
	for (i = 0; i < valid; i++) {
		/* two keys of one person are one approval */
		for (j = 0; j < i; j++)
			if (strcmp(signers[j]->name, signers[i]->name) == 0)
				break;
		if (j < i)
			continue;
		if (people != NULL && *count < max)
			people[*count] = signers[i];
		(*count)++;
	}
	return SP_OK;
}

static enum sp_code
check_approvals(const struct sp_trust *trust, const struct sp_dsse *candidate, unsigned approvals,
    struct sp_err *err)
{
	unsigned least = sp_trust_threshold(trust, SP_ROLE_OPERATOR);
	enum sp_code code;
	size_t people;

	if (approvals < least)
		approvals = least;
	code = sp_chain_approvals(trust, candidate, NULL, 0, &people, err);
	if (code == SP_OK && people < approvals)
		code = sp_err_set(err, SP_E_DENIED,
		    "approved by %zu different operator%s, needed are %u", people,
		    people == 1 ? "" : "s", approvals);
	return code;
}

/* --- attestations --------------------------------------------------------------------------- */

static enum sp_code
check_digests(
    const struct sp_candidate *c, const struct sp_hex *digests, size_t count, struct sp_err *err)
{
	size_t i, wanted = sp_chain_stage_count(c->kind);

	if (count != c->attestation_count)
		return sp_err_set(err, SP_E_DENIED,
		    "%zu attestations are here, the candidate was approved with %zu", count,
		    c->attestation_count);
	if (count != wanted)
		return sp_err_set(err, SP_E_DENIED, "a %s needs %zu attestations, not %zu", c->kind,
		    wanted, count);
	for (i = 0; i < count; i++)
		if (strcmp(digests[i].s, c->attestations[i].s) != 0)
			return sp_err_set(err, SP_E_DENIED,
			    "attestation %zu is %s, the candidate was approved with %s", i,
			    digests[i].s, c->attestations[i].s);
	return SP_OK;
}

/* The builder that a provenance names must be the owner of a key that signed it. */
static enum sp_code
check_builder(const struct sp_statement *s, const struct sp_pubkey **signers, size_t count,
    struct sp_err *err)
{
	const char *builder = sp_statement_builder(s);
	size_t i;

	for (i = 0; builder != NULL && i < count; i++)
		if (strcmp(signers[i]->name, builder) == 0)
			return SP_OK;
	return sp_err_set(err, SP_E_DENIED, "it names %s as its builder, but %s signed it",
	    builder != NULL ? builder : "nobody", signers[0]->name);
}

static enum sp_code
check_verdict(const struct sp_statement *s, struct sp_err *err)
{
	const char *result = sp_statement_result(s);
	const json_t *passed = json_object_get(s->predicate, "passedTests");
	const json_t *failed = json_object_get(s->predicate, "failedTests");

	if (result == NULL || strcmp(result, "PASSED") != 0)
		return sp_err_set(err, SP_E_BLOCKED, "its verdict is %s, not PASSED",
		    result != NULL ? result : "missing");
	if (!json_is_array(failed) || json_array_size(failed) != 0)
		return sp_err_set(err, SP_E_BLOCKED, "it says PASSED but lists failed tests");
	if (json_array_size(passed) == 0)
		return sp_err_set(
		    err, SP_E_BLOCKED, "it says PASSED but lists no test that passed");
	return SP_OK;
}

enum sp_code
sp_chain_stage_check(const struct sp_trust *trust, enum sp_chain_stage stage,
    const struct sp_dsse *dsse, struct sp_statement *out, struct sp_err *err)
{
	const struct sp_pubkey *signers[PEOPLE_MAX];
	const char *build_type;
	enum sp_code code;
	size_t count;

	if (strcmp(dsse->payload_type, SP_DSSE_INTOTO) != 0)
		return sp_err_set(err, SP_E_INVALID,
		    "the envelope holds \"%s\", not " SP_DSSE_INTOTO, dsse->payload_type);
	code =
	    sp_trust_verify(trust, stages[stage].role, 0, dsse, signers, PEOPLE_MAX, &count, err);
	if (code == SP_OK)
		code = sp_statement_parse(dsse->payload, dsse->payload_len, out, err);
	if (code != SP_OK)
		return code;
	if (strcmp(out->predicate_type, stages[stage].predicate) != 0)
		return sp_err_set(err, SP_E_INVALID, "its predicate is %s, not %s",
		    out->predicate_type, stages[stage].predicate);
	if (stages[stage].build_type == NULL)
		return check_verdict(out, err);
	build_type = sp_statement_build_type(out);
	if (build_type == NULL || strcmp(build_type, stages[stage].build_type) != 0)
		return sp_err_set(err, SP_E_INVALID, "its buildType is %s, not %s",
		    build_type != NULL ? build_type : "missing", stages[stage].build_type);
	return check_builder(out, signers, count, err);
}

/* The same trees may have been made by another job, from another source or under another policy. */
static enum sp_code
check_job(const struct sp_candidate *c, const struct sp_statement *s, const char *what,
    struct sp_err *err)
{
	const char *job = sp_statement_job(s);

	if (job != NULL && strcmp(job, c->job) == 0)
		return SP_OK;
	return sp_err_set(err, SP_E_DENIED,
	    "the %s was made for job %s, the candidate is of job %s", what,
	    job != NULL ? job : "none", c->job);
}

/* The links between them; s[stage], with root NULL where the kind has no such stage. */
static enum sp_code
check_links(const struct sp_candidate *c, const struct sp_statement *s, struct sp_err *err)
{
	const struct sp_statement *fetch = &s[SP_CHAIN_FETCH], *quantize = &s[SP_CHAIN_QUANTIZE],
				  *gate = &s[SP_CHAIN_GATE];
	const struct sp_statement *last = quantize->root != NULL ? quantize : fetch;
	enum sp_code code;

	code = check_job(c, fetch, "fetch", err);
	if (code == SP_OK && quantize->root != NULL)
		code = check_job(c, quantize, "quantization", err);
	if (code != SP_OK)
		return code;
	if (quantize->root != NULL && !sp_statement_uses_tree(quantize, fetch->subject_tree))
		return sp_err_set(err, SP_E_DENIED,
		    "the quantization does not name the fetched tree %s among its materials",
		    fetch->subject_tree);
	if (strcmp(last->subject_tree, c->tree.s) != 0)
		return sp_err_set(err, SP_E_DENIED,
		    "the %s made the tree %s, the candidate is the tree %s",
		    last == quantize ? "quantization" : "fetch", last->subject_tree, c->tree.s);
	if (gate->root == NULL)
		return SP_OK;
	if (strcmp(gate->subject_tree, c->tree.s) != 0)
		return sp_err_set(err, SP_E_DENIED,
		    "the gate tested the tree %s, the candidate is the tree %s", gate->subject_tree,
		    c->tree.s);
	if (!sp_statement_uses_tree(gate, fetch->subject_tree))
		return sp_err_set(err, SP_E_DENIED,
		    "the gate did not compare with the fetched tree %s", fetch->subject_tree);
	return SP_OK;
}

enum sp_code
sp_chain_evidence(const struct sp_trust *trust, const struct sp_candidate *candidate,
    const struct sp_dsse *attestations, const struct sp_hex *digests, size_t count,
    const char **check, struct sp_err *err)
{
	struct sp_statement statements[SP_CHAIN_STAGES];
	struct sp_err inner;
	enum sp_code code;
	size_t i;

	memset(statements, 0, sizeof(statements));
	*check = "chain";
	code = check_digests(candidate, digests, count, err);
	if (code != SP_OK)
		return code;
	for (i = 0; i < count; i++) {
		*check = stages[i].word;
		code = sp_chain_stage_check(
		    trust, (enum sp_chain_stage)i, &attestations[i], &statements[i], &inner);
		if (code != SP_OK) {
			sp_err_set(err, code, "%s attestation: %s", stages[i].word, inner.msg);
			goto out;
		}
	}
	*check = "chain";
	code = check_links(candidate, statements, err);
	if (code == SP_OK)
		*check = NULL;
out:
	for (i = 0; i < SP_CHAIN_STAGES; i++)
		sp_statement_clear(&statements[i]);
	return code;
}

enum sp_code
sp_chain_check(const struct sp_trust *trust, const struct sp_dsse *candidate,
    const struct sp_dsse *attestations, const struct sp_hex *digests, size_t count,
    unsigned approvals, struct sp_candidate *out, const char **check, struct sp_err *err)
{
	enum sp_code code;

	*check = "candidate";
	if (strcmp(candidate->payload_type, SP_DSSE_CANDIDATE) != 0)
		return sp_err_set(err, SP_E_INVALID,
		    "the envelope holds \"%s\", not " SP_DSSE_CANDIDATE, candidate->payload_type);
	code = sp_candidate_parse(candidate->payload, candidate->payload_len, out, err);
	if (code != SP_OK)
		return code;
	*check = "approvals";
	code = check_approvals(trust, candidate, approvals, err);
	if (code != SP_OK)
		return code;
	return sp_chain_evidence(trust, out, attestations, digests, count, check, err);
}
