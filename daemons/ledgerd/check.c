/*
 * check.c -- whether a result, an approval or a snapshot counts.
 *
 * ledgerd's word only starts work: diode-txd, registryd and admissiond verify all of this again.
 * But what cannot count there must not pass here, or operators would sign for it.
 */
#include "core.h"
#include "release/chain.h"

#include <stdio.h>
#include <string.h>

#define SIGNERS_MAX SP_DSSE_SIGS_MAX

/* What a step must leave. A role "" ends the list; tree 0: a blob. */
static const struct {
	enum sp_step step;
	const char *role;
	int tree;
} must_leave[] = {
    {SP_STEP_FETCH, "source", 1},
    {SP_STEP_QUANTIZE, "candidate", 1},
    {SP_STEP_PACKAGE, "release", 0},
    {SP_STEP_VERIFY, "candidate", 1},
};

/* --- artifacts -------------------------------------------------------------------------------- */

static enum sp_code
check_artifacts(const struct ledgerd_who *who, enum sp_step step, const struct sp_outcome *outcome,
    struct sp_err *err)
{
	const struct sp_artifact *a;
	size_t i;

	if (outcome->artifact_count > LEDGERD_ARTIFACTS_MAX)
		return sp_err_set(err, SP_E_LIMIT, "%zu artifacts, at most %d are allowed",
		    outcome->artifact_count, LEDGERD_ARTIFACTS_MAX);
	for (i = 0; i < outcome->artifact_count; i++) {
		a = &outcome->artifacts[i];
		if (!sp_hex_is_digest(a->digest.s))
			return sp_err_set(
			    err, SP_E_INVALID, "artifact \"%s\" has no digest", a->role);
		/* each daemon speaks for its own store alone */
		if (strcmp(a->store, who->service) != 0)
			return sp_err_set(err, SP_E_DENIED,
			    "artifact \"%s\" is said to lie in the store of %s, but it came from "
			    "%s",
			    a->role, a->store, who->name);
	}
	for (i = 0; i < sizeof(must_leave) / sizeof(must_leave[0]); i++) {
		if (must_leave[i].step != step)
			continue;
		a = sp_outcome_find(outcome, must_leave[i].role);
		if (a == NULL || !a->tree != !must_leave[i].tree)
			return sp_err_set(err, SP_E_INVALID,
			    "step %s did not leave the artifact \"%s\" (a %s)",
			    sp_jobs_step_name(step), must_leave[i].role,
			    must_leave[i].tree ? "tree" : "blob");
	}
	return SP_OK;
}

/* Digest of the job's last artifact of that role, "" when there is none. */
static const char *
earlier(const struct sp_table_extras *extras, const char *role)
{
	size_t i;

	for (i = extras->artifact_count; i > 0; i--)
		if (strcmp(extras->artifacts[i - 1].a.role, role) == 0)
			return extras->artifacts[i - 1].a.digest.s;
	return "";
}

/* --- attestations ----------------------------------------------------------------------------- */

/* One of those who signed must be the worker itself. */
static enum sp_code
check_signer(const struct sp_trust *trust, const struct ledgerd_who *who, enum sp_role role,
    const struct sp_dsse *dsse, struct sp_err *err)
{
	const struct sp_pubkey *signers[SIGNERS_MAX];
	enum sp_code code;
	size_t i, count;

	code = sp_trust_verify(trust, role, 1, dsse, signers, SIGNERS_MAX, &count, err);
	if (code != SP_OK)
		return code;
	for (i = 0; i < count && i < SIGNERS_MAX; i++)
		if (strcmp(signers[i]->name, who->name) == 0)
			return SP_OK;
	return sp_err_set(err, SP_E_DENIED, "it is signed by the %s key of %s, but came from %s",
	    sp_role_word(role), signers[0]->name, who->name);
}

/* The same trees may have been made by another job. A verdict names no job, only what it compared.
 */
static enum sp_code
check_job(const struct sp_job *job, const struct sp_statement *statement, struct sp_err *err)
{
	const char *made_for = sp_statement_job(statement);

	if (sp_statement_build_type(statement) == NULL ||
	    (made_for != NULL && strcmp(made_for, job->id) == 0))
		return SP_OK;
	return sp_err_set(
	    err, SP_E_DENIED, "it was made for job %s", made_for != NULL ? made_for : "none");
}

/* Subject and materials against the artifacts that the job has, and that the result names. */
static enum sp_code
check_trees(enum sp_step step, const struct sp_statement *statement,
    const struct sp_table_extras *extras, const struct sp_outcome *outcome, struct sp_err *err)
{
	const char *source = earlier(extras, "source"), *subject = NULL;
	const struct sp_artifact *made;

	switch (step) {
	case SP_STEP_FETCH:
	case SP_STEP_QUANTIZE:
		made = sp_outcome_find(outcome, step == SP_STEP_FETCH ? "source" : "candidate");
		subject = made->digest.s;
		break;
	case SP_STEP_VALIDATE:
		subject = earlier(extras, "candidate");
		break;
	default:
		/* a scan looks at what was fetched */
		subject = source;
		break;
	}
	if (strcmp(statement->subject_tree, subject) != 0)
		return sp_err_set(err, SP_E_DENIED, "it speaks of tree %s, this step is about %s",
		    statement->subject_tree, subject[0] != '\0' ? subject : "none");
	if ((step == SP_STEP_QUANTIZE || step == SP_STEP_VALIDATE) &&
	    !sp_statement_uses_tree(statement, source))
		return sp_err_set(err, SP_E_DENIED,
		    "it does not name the fetched tree %s, which the step had to use", source);
	return SP_OK;
}

static enum sp_chain_stage
stage_of(enum sp_step step)
{
	if (step == SP_STEP_FETCH)
		return SP_CHAIN_FETCH;
	return step == SP_STEP_QUANTIZE ? SP_CHAIN_QUANTIZE : SP_CHAIN_GATE;
}

static enum sp_code
check_stage(const struct sp_trust *trust, enum sp_step step, int blocked,
    const struct sp_dsse *dsse, struct sp_statement *statement, struct sp_err *err)
{
	enum sp_code code = sp_chain_stage_check(trust, stage_of(step), dsse, statement, err);

	/* a verdict that says no is all in order, but for that */
	if (blocked && code == SP_E_BLOCKED)
		return SP_OK;
	if (blocked && code == SP_OK)
		return sp_err_set(
		    err, SP_E_DENIED, "it says PASSED, but the step reports that it is blocked");
	return code;
}

static enum sp_code
check_attestation(const struct sp_trust *trust, const struct ledgerd_who *who, enum sp_step step,
    const struct sp_job *job, const struct sp_table_extras *extras,
    const struct sp_outcome *outcome, int blocked, struct sp_err *err)
{
	struct sp_statement statement = {0};
	struct sp_dsse dsse = {0};
	enum sp_code code;

	if (outcome->attestation_len == 0)
		return sp_err_set(err, SP_E_DENIED, "it is missing");
	if (outcome->attestation_len > LEDGERD_ATTESTATION_MAX)
		return sp_err_set(err, SP_E_LIMIT, "%zu bytes, at most %u are allowed",
		    outcome->attestation_len, LEDGERD_ATTESTATION_MAX);
	code = sp_dsse_parse(outcome->attestation, outcome->attestation_len, &dsse, err);
	if (code != SP_OK)
		return code;
	code = check_signer(trust, who, sp_jobs_step_role(step), &dsse, err);
	if (code == SP_OK)
		code = check_stage(trust, step, blocked, &dsse, &statement, err);
	if (code == SP_OK)
		code = check_job(job, &statement, err);
	if (code == SP_OK)
		code = check_trees(step, &statement, extras, outcome, err);
	sp_statement_clear(&statement);
	sp_dsse_clear(&dsse);
	return code;
}

enum sp_code
ledgerd_check_result(const struct sp_trust *trust, const struct ledgerd_who *who,
    const struct sp_attempt *attempt, const struct sp_job *job,
    const struct sp_table_extras *extras, const struct sp_outcome *outcome, int blocked,
    struct sp_err *err)
{
	enum sp_code code;

	code = check_artifacts(who, blocked ? SP_STEP_COUNT : attempt->step, outcome, err);
	if (code != SP_OK)
		return sp_err_prefix(err, "job %s", job->id);
	if (!sp_jobs_step_signs(attempt->step)) {
		if (outcome->attestation_len == 0)
			return SP_OK;
		return sp_err_set(err, SP_E_INVALID,
		    "job %s: step %s makes no attestation, but %s "
		    "brought one",
		    job->id, sp_jobs_step_name(attempt->step), who->name);
	}
	code = check_attestation(trust, who, attempt->step, job, extras, outcome, blocked, err);
	if (code != SP_OK)
		return sp_err_prefix(err, "job %s: attestation of step %s does not count", job->id,
		    sp_jobs_step_name(attempt->step));
	return SP_OK;
}

/* --- approvals -------------------------------------------------------------------------------- */

enum sp_code
ledgerd_check_approval(const struct sp_trust *trust, const struct sp_job *job,
    const uint8_t *envelope, size_t len, const struct sp_pubkey **signer, struct sp_err *err)
{
	struct sp_dsse dsse = {0};
	enum sp_code code;
	size_t count;

	if (job->candidate == NULL)
		return sp_err_set(err, SP_E_STATE,
		    "job %s is %s: there is no candidate to sign yet", job->id,
		    sp_jobs_state_name(job->state));
	code = sp_dsse_parse(envelope, len, &dsse, err);
	if (code != SP_OK)
		return code;
	if (strcmp(dsse.payload_type, SP_DSSE_CANDIDATE) != 0 ||
	    dsse.payload_len != job->candidate_len ||
	    memcmp(dsse.payload, job->candidate, job->candidate_len) != 0)
		code = sp_err_set(err, SP_E_DENIED,
		    "the signature is over something else than the candidate of job %s", job->id);
	else if (dsse.sig_count != 1)
		code = sp_err_set(err, SP_E_INVALID,
		    "an approval carries one signature, this one has %zu", dsse.sig_count);
	else
		code = sp_trust_verify(trust, SP_ROLE_OPERATOR, 1, &dsse, signer, 1, &count, err);
	sp_dsse_clear(&dsse);
	return code;
}

/* Whose approval it is, NULL when it is nobody's any more: diode-txd would not count it either. */
static const char *
person_of(const struct sp_trust *trust, const struct sp_table_approval *approval)
{
	const struct sp_pubkey *key;

	if (trust == NULL)
		return approval->person;
	key = sp_trust_key_by_id(trust, SP_ROLE_OPERATOR, approval->keyid);
	return key != NULL ? key->name : NULL;
}

unsigned
ledgerd_check_people(const struct sp_trust *trust, const struct sp_table_extras *extras,
    const char *person, int *known)
{
	const char *name, *other;
	unsigned people = 0;
	size_t i, j;

	*known = 0;
	for (i = 0; i < extras->approval_count; i++) {
		name = person_of(trust, &extras->approvals[i]);
		if (name == NULL)
			continue;
		if (strcmp(name, person) == 0)
			*known = 1;
		/* two keys of one person are one approval */
		for (j = 0; j < i; j++) {
			other = person_of(trust, &extras->approvals[j]);
			if (other != NULL && strcmp(other, name) == 0)
				break;
		}
		people += j == i;
	}
	return people + (person[0] != '\0' && !*known);
}

unsigned
ledgerd_check_needed(const struct sp_trust *trust, const struct sp_job *job)
{
	unsigned least = sp_trust_threshold(trust, SP_ROLE_OPERATOR);

	return job->approvals_needed > least ? job->approvals_needed : least;
}

/* --- snapshots -------------------------------------------------------------------------------- */

enum sp_code
ledgerd_check_snapshot(const struct sp_trust *trust, const struct ledgerd_who *who,
    const uint8_t *envelope, size_t len, struct sp_err *err)
{
	struct sp_dsse dsse = {0};
	enum sp_code code;

	code = sp_dsse_parse(envelope, len, &dsse, err);
	if (code == SP_OK && strcmp(dsse.payload_type, SP_DSSE_SNAPSHOT) != 0)
		code = sp_err_set(err, SP_E_INVALID, "it holds \"%.64s\", not " SP_DSSE_SNAPSHOT,
		    dsse.payload_type);
	if (code == SP_OK)
		code = check_signer(trust, who, SP_ROLE_REGISTRY, &dsse, err);
	sp_dsse_clear(&dsse);
	return code != SP_OK ? sp_err_prefix(err, "snapshot") : SP_OK;
}
