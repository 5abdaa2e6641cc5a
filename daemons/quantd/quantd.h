/* quantd.h -- quantd: a fetched model becomes a 4-bit AWQ checkpoint, with a signed provenance. */
#ifndef QUANTD_H
#define QUANTD_H

#include "base/conf.h"
#include "base/json.h"
#include "bus/outcome.h"
#include "release/statement.h"
#include "release/trust.h"

#define QUANTD_CALIBRATION_MAX ((size_t)256 << 20)
#define QUANTD_REPORT_MAX ((size_t)16 << 20)

/* --- quantd_step.c: decisions without clock, file or socket --- */

/*
 * The profile's group "quantize":
 *	{"calibration": "/absolute/path.jsonl", "group_size": 32|64|128, "method": "awq",
 *	 "samples": 1..65536, "sequence": 1..65536}
 * all of them required, nothing else allowed: a setting that is not understood is not ignored.
 */
struct quantd_recipe {
	char *calibration; /* as the profile has it */
	size_t group_size, samples, sequence;
};

enum sp_code quantd_recipe_parse(
    const uint8_t *policy, size_t len, struct quantd_recipe *out, struct sp_err *err) SP_MUST_USE;
void quantd_recipe_clear(struct quantd_recipe *recipe);

/* Names the inputs, and so the directory of the work in progress: whatever changes the output
 * changes it. calibration: hex digest of the file's bytes; program: sp_program_name. */
struct sp_hex quantd_key(const char *tree, const char *calibration,
    const struct quantd_recipe *recipe, const char *program);

/* The task's fetch attestation holds, by a key of the fetch role, for this very tree. *name is who
 * it calls the model, malloc'd. Else SP_E_DENIED or what was wrong with it. */
enum sp_code quantd_check_source(const struct sp_trust *trust, const Sallyport__Task *task,
    const char *tree, char **name, struct sp_err *err) SP_MUST_USE;

/* All that the provenance says. Strings are borrowed. */
struct quantd_provenance {
	const Sallyport__Task *task;
	const struct quantd_recipe *recipe;
	const char *source_name, *source_tree, *calibration; /* digests in hex */
	const char *tree, *report;
	const char *builder;		/* the key's owner */
	const char *started, *finished; /* RFC 3339 */
};
/* Payload of the attestation: canonical JSON, malloc'd. */
char *quantd_statement(const struct quantd_provenance *provenance, size_t *len);

/* --- quantd_io.c: effects --- */

struct sp_worker;
struct sp_lease;
struct sp_confine; /* bus/confine.h */

enum sp_code quantd_open(struct sp_worker *worker, void **ctx, struct sp_err *err) SP_MUST_USE;
enum sp_code quantd_confine(const struct sp_conf *conf, const Sallyport__Task *task,
    struct sp_confine *confine, struct sp_err *err) SP_MUST_USE;
enum sp_code quantd_work(const struct sp_conf *conf, const Sallyport__Task *task,
    struct sp_lease *lease, struct sp_outcome *outcome, struct sp_err *err) SP_MUST_USE;
enum sp_code quantd_seal(void *ctx, struct sp_worker *worker, const Sallyport__Task *task,
    struct sp_lease *lease, enum sp_code worked, struct sp_outcome *outcome,
    struct sp_err *err) SP_MUST_USE;

#endif
