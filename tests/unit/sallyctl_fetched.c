/* sallyctl_fetched.c -- whose word it is what a job has fetched. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "release_rig.h"
#include "sallyctl/fetched.h"

static struct rig rig;

/* The attestations of such a job, as ledgerd hands them out under these steps. */
static enum sp_code
check(const struct rig_deviation *deviation, const char *first, const char *second,
    struct sp_statement *out, struct sp_err *err)
{
	Sallyport__Attested attested[2], *list[] = {&attested[0], &attested[1]};
	const char *const steps[] = {first, second};
	Sallyport__OperatorJobView view;
	struct rig_parts parts;
	struct sp_hex digest;
	enum sp_code code;

	rig_parts(&rig, deviation, &parts);
	sallyport__operator_job_view__init(&view);
	view.job = (char *)(uintptr_t)RIG_JOB;
	view.state = (char *)(uintptr_t) "FETCHED";
	for (size_t i = 0; i < 2; i++) {
		sallyport__attested__init(&attested[i]);
		attested[i].step = (char *)(uintptr_t)steps[i];
		attested[i].envelope.data = (uint8_t *)parts.text[i];
		attested[i].envelope.len = strlen(parts.text[i]);
	}
	view.attestations = list;
	view.n_attestations = 2;
	code = ctl_fetched_attestation(rig.trust, &view, SP_CHAIN_FETCH, out, &digest, err);
	if (code == SP_OK)
		assert_string_equal(
		    digest.s, sp_sha256_hex(parts.text[0], strlen(parts.text[0])).s);
	rig_parts_free(&parts);
	return code;
}

static void
attestation(void **state)
{
	const struct rig_deviation none = {0}, another_job = {.fetch_job = RIG_OTHER},
				   strangers = {.fetch_key = rig.eve},
				   another_role = {.fetch_key = rig.keys[SP_ROLE_QUANTIZE]};
	struct sp_statement statement;
	struct sp_err err;

	(void)state;
	assert_int_equal(check(&none, "fetch", "quantize", &statement, &err), SP_OK);
	assert_string_equal(statement.subject_tree, RIG_SOURCE);
	sp_statement_clear(&statement);

	assert_int_equal(check(&none, "scan", "quantize", &statement, &err), SP_E_STATE);
	assert_non_null(strstr(err.msg, "has fetched nothing"));
	sp_statement_clear(&statement);
	/* one step's attestation under another's name */
	assert_int_not_equal(check(&none, "scan", "fetch", &statement, &err), SP_OK);
	assert_non_null(strstr(err.msg, "fetch attestation of job " RIG_JOB));
	sp_statement_clear(&statement);
	assert_int_equal(check(&strangers, "fetch", "", &statement, &err), SP_E_DENIED);
	sp_statement_clear(&statement);
	assert_int_equal(check(&another_role, "fetch", "", &statement, &err), SP_E_DENIED);
	sp_statement_clear(&statement);
	assert_int_equal(check(&another_job, "fetch", "", &statement, &err), SP_E_DENIED);
	assert_non_null(strstr(err.msg, "made for job " RIG_OTHER));
	sp_statement_clear(&statement);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(attestation)};
	int failed;

	rig_open(&rig);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	rig_close(&rig);
	return failed;
}
