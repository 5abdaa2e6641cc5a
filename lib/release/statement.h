/*
 * statement.h -- in-toto Statement v1 with SLSA provenance v1 or test-result v0.1, one subject: the
 * digest of a tree. Always canonical JSON (base/json.h), which has integers only: fractions among
 * the parameters and details are written as strings, the shortest decimal that reads back the same.
 */
#ifndef SP_STATEMENT_H
#define SP_STATEMENT_H

#include "base/json.h"
#include "release/dsse.h"

#define SP_STATEMENT_TYPE "https://in-toto.io/Statement/v1"
#define SP_PREDICATE_SLSA "https://slsa.dev/provenance/v1"
#define SP_PREDICATE_TEST "https://in-toto.io/attestation/test-result/v0.1"
#define SP_PREDICATE_RELEASE "urn:sallyport:release:1"
/* buildType of the two provenances */
#define SP_BUILD_FETCH "urn:sallyport:fetch:1"
#define SP_BUILD_QUANTIZE "urn:sallyport:quantize:1"

/* resolvedDependencies[i]: either digest may be "". A tree: uri "sallyport:tree:HEX", sha256 HEX.
 */
struct sp_material {
	const char *uri;
	const char *name;
	const char *sha256;
	const char *git_commit;
};

struct sp_provenance {
	const char *subject_name; /* "org/name" */
	const char *subject_tree; /* hex */
	const char *build_type;
	json_t *external; /* borrowed: what the submitter chose (source, profile values) */
	json_t *internal; /* borrowed, may be NULL: what the daemon added */
	const struct sp_material *materials;
	size_t material_count;
	const char
	    *builder; /* "fetcherd@bastion" becomes builder.id "sallyport:fetcherd@bastion" */
	const char *version;		      /* of the code */
	const char *invocation;		      /* job id */
	const char *started, *finished;	      /* RFC 3339 */
	const struct sp_material *byproducts; /* reports */
	size_t byproduct_count;
};
/* malloc'd canonical JSON */
char *sp_statement_provenance(const struct sp_provenance *provenance, size_t *len);

struct sp_test_result {
	const char *subject_name;
	const char *subject_tree;		 /* the candidate */
	const char *result;			 /* "PASSED" or "FAILED" */
	const struct sp_material *configuration; /* datasets, policy, baseline tree */
	size_t configuration_count;
	const char *const *passed, *const *failed; /* names of gates */
	size_t passed_count, failed_count;
	json_t *
	    detail; /* borrowed, may be NULL: numbers of the verdict; predicate field "sallyport" */
};
char *sp_statement_test_result(const struct sp_test_result *result, size_t *len);

/* A parsed statement: what the chain needs. Strings are borrowed from root. */
struct sp_statement {
	json_t *root; /* owned */
	const char *subject_name;
	const char *subject_tree; /* checked hex */
	const char *predicate_type;
	json_t *predicate;
};
/* payload must be canonical and have exactly one subject with a sha256. */
enum sp_code sp_statement_parse(
    const uint8_t *payload, size_t len, struct sp_statement *out, struct sp_err *err) SP_MUST_USE;
void sp_statement_clear(struct sp_statement *statement);
/* 1 when resolvedDependencies (or, in a test result, configuration) names this tree. */
int sp_statement_uses_tree(const struct sp_statement *statement, const char *tree);
const char *sp_statement_build_type(const struct sp_statement *statement); /* NULL: no provenance */
const char *sp_statement_result(const struct sp_statement *statement); /* NULL: no test result */

/* Of a provenance: "fetcherd@bastion", the job it was made for, and when it finished. NULL: no
 * provenance. */
const char *sp_statement_builder(const struct sp_statement *statement);
const char *sp_statement_job(const struct sp_statement *statement);
const char *sp_statement_time(const struct sp_statement *statement);

#endif
