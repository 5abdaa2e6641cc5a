/* quantd.h -- quantd: a fetched model becomes a 4-bit AWQ checkpoint, with a signed provenance. */
#ifndef QUANTD_H
#define QUANTD_H

#include "awq/convert.h"
#include "base/conf.h"
#include "bus/outcome.h"
#include "release/statement.h"
#include "release/trust.h"

#define QUANTD_CALIBRATION_MAX ((size_t)256 << 20)

/* --- quantd_step.c: decisions without clock, file or socket --- */

/* The profile's group "quantize" (awq/settings.h). */
enum sp_code quantd_settings_parse(
    const uint8_t *policy, size_t len, struct sp_settings *out, struct sp_err *err) SP_MUST_USE;

/* What a layer that is done is reported as: "layer: error 0.00123 -> 0.00045, 3 min left". layer:
 * its numbers, NULL before the first; left_ms: -1 when it is not known. */
struct quantd_phase {
	char s[65]; /* SP_BUS_LINE_MAX and a NUL */
};
struct quantd_phase quantd_phase(const json_t *layer, int64_t left_ms);

/* The task's fetch attestation holds, by a key of the fetch role, for this very tree. *name is who
 * it calls the model, malloc'd. Else SP_E_DENIED or what was wrong with it. */
enum sp_code quantd_check_source(const struct sp_trust *trust, const Sallyport__Task *task,
    const char *tree, char **name, struct sp_err *err) SP_MUST_USE;

/* Where it ran, for the provenance alone: what comes out does not depend on it. */
struct quantd_machine {
	char cpu[128], instructions[128]; /* "" where the system does not say */
	char program[64];		  /* sp_program_name */
	char glibc[32], gnutls[32], jansson[32], pcre2[64], sleef[32];
};
/* Asks processor and libraries; no file is opened. program: sp_program_name. */
void quantd_machine_read(const char *program, struct quantd_machine *out);

/* All that the provenance says. Strings are borrowed. */
struct quantd_provenance {
	const Sallyport__Task *task;
	const struct sp_settings *settings;
	struct quantd_machine machine;
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
