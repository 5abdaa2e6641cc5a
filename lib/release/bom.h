/*
 * bom.h -- the bill of materials in a release: CycloneDX 1.6 (cyclonedx.org/docs/1.6/json) with one
 * component of type machine-learning-model, its files, what it was made from and how it scored.
 */
#ifndef SP_BOM_H
#define SP_BOM_H

#include "release/release.h"
#include "store/tree.h"

/* A longer listing stays out of the document, which says so: the tree digest covers it anyway. */
#define SP_BOM_FILES_MAX 4096

/* A gate's number: type "mmlu", value "0.7213", slice "quantized" (may be NULL). */
struct sp_bom_metric {
	const char *type, *value, *slice;
};

/* Everything borrowed; NULL where nothing is known. */
struct sp_bom {
	const struct sp_candidate *candidate;
	const char *source;	    /* "hf:org/name@COMMIT", what it was made from */
	const char *source_tree;    /* hex */
	const char *license;	    /* as the source states it: "apache-2.0" */
	const char *task;	    /* "text-generation" */
	const struct sp_tree *tree; /* may be NULL: no files are listed */
	const struct sp_bom_metric *metrics;
	size_t metric_count;
	const char *time; /* RFC 3339 */
};

/* A new reference; the same input gives the same document. */
json_t *sp_bom_build(const struct sp_bom *bom);

/* As diode-txd makes it: source, licence and scores from the attestations (DSSE envelopes, already
 * verified), files from the listing. *out: a new reference. */
enum sp_code sp_bom_model(const struct sp_candidate *candidate, const struct sp_tree *tree,
    const struct sp_bytes *attestations, size_t attestation_count, const char *time, json_t **out,
    struct sp_err *err) SP_MUST_USE;

/* SP_E_INVALID when the document is not CycloneDX 1.6 about this very candidate. */
enum sp_code sp_bom_check(
    const json_t *document, const struct sp_candidate *candidate, struct sp_err *err) SP_MUST_USE;

#endif
