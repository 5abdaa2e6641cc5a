/* validatord.h -- validatord: is the quantized model as good as the fetched one? A signed verdict.
 */
#ifndef VALIDATORD_H
#define VALIDATORD_H

#include "base/conf.h"
#include "bus/outcome.h"
#include "eval/report.h"
#include "release/trust.h"

/* --- validatord_step.c: decisions without clock, file or socket --- */

enum validatord_side { VALIDATORD_BASELINE, VALIDATORD_CANDIDATE, VALIDATORD_SIDES };
/* "baseline", "candidate" */
const char *validatord_side_word(enum validatord_side side);

/* Names one model's answers to one gate by all that they depend on: the tree, the gate ("mmlu",
 * "humaneval"), the data set's digest, shots or new tokens, and the code that computes them. */
struct sp_hex validatord_answers_key(
    const char *tree, const char *gate, const char *dataset, unsigned amount, const char *engine);
/* Names the directory of the work in progress. */
struct sp_hex validatord_work_key(const char *baseline, const char *candidate);

/* The task's fetch attestation is about the baseline, its quantize attestation about the candidate
 * and made from the baseline, each by a key of its role. Else SP_E_DENIED or what was wrong. */
enum sp_code validatord_check_chain(const struct sp_trust *trust, const Sallyport__Task *task,
    const char *baseline, const char *candidate, struct sp_err *err) SP_MUST_USE;

/* Payload of the attestation: in-toto test-result v0.1, canonical JSON, malloc'd. INCONCLUSIVE is
 * FAILED there: what could not be shown did not pass. report_digest: hex, of the whole report. */
char *validatord_statement(const Sallyport__Task *task, const struct sp_report *report,
    const struct sp_report_verdict *verdict, const char *report_digest, size_t *len);

/* --- validatord_io.c: effects --- */

struct sp_worker;
struct sp_lease;
struct sp_confine; /* bus/confine.h */

enum sp_code validatord_check(const struct sp_conf *conf, struct sp_err *err) SP_MUST_USE;
enum sp_code validatord_open(struct sp_worker *worker, void **ctx, struct sp_err *err) SP_MUST_USE;
enum sp_code validatord_confine(const struct sp_conf *conf, const Sallyport__Task *task,
    struct sp_confine *confine, struct sp_err *err) SP_MUST_USE;
enum sp_code validatord_work(const struct sp_conf *conf, const Sallyport__Task *task,
    struct sp_lease *lease, struct sp_outcome *outcome, struct sp_err *err) SP_MUST_USE;
enum sp_code validatord_seal(void *ctx, struct sp_worker *worker, const Sallyport__Task *task,
    struct sp_lease *lease, enum sp_code worked, struct sp_outcome *outcome,
    struct sp_err *err) SP_MUST_USE;

#endif
