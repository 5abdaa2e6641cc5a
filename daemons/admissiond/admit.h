/*
 * admit.h -- admissiond: may this workload start? Decided from the registry's signed snapshot
 * alone.
 *
 * The webhook of an apiserver (admission.k8s.io/v1) asks about Pods and Deployments. A container
 * that runs vLLM must name, in a form that cannot mean anything else, a model that is registered,
 * not revoked and whole, and must be offline. What cannot be read with certainty is denied: the
 * message says which container, what in it, and what to write instead.
 */
#ifndef ADMIT_H
#define ADMIT_H

#include "base/conf.h"
#include "base/json.h"
#include "release/snapshot.h"

#define ADMIT_MESSAGE_MAX 1024
#define ADMIT_BODY_MAX (8u << 20)

/* --- admit_vllm.c: a container's command line and environment, pure --- */

/* What a vLLM command line loads. Strings are borrowed from argv. */
struct admit_vllm {
	const char *model;
	const char *tokenizer; /* NULL: the model's */
	const char *revision;  /* NULL: not given */
};

/* Which field says that the container runs vLLM: "image", "command", "args", "env"; NULL: none. */
const char *admit_vllm_sign(const json_t *container);

/*
 * Reads command + args. Understood: `vllm serve MODEL …`, `vllm serve --model MODEL …`,
 * `python3 -m vllm.entrypoints.openai.api_server --model MODEL …` (vllm/utils/argparse_utils.py:
 * '_' is '-' in options, `--key=value` and `--key value`, dotted keys).
 * SP_E_DENIED with a message for people when an option could load something else, or the line is
 * not of this form.
 */
enum sp_code
admit_vllm_read(const json_t *container, struct admit_vllm *out, struct sp_err *err) SP_MUST_USE;

/* HF_HUB_OFFLINE=1 and TRANSFORMERS_OFFLINE=1 as literals, and nothing that redirects models. */
enum sp_code admit_vllm_environment(const json_t *container, struct sp_err *err) SP_MUST_USE;

/* --- admit_step.c: the decision, pure --- */

/* An AdmissionReview's request; strings are borrowed from root. */
struct admit_request {
	json_t *root; /* owned */
	const char *uid, *operation, *kind, *name, *name_space, *user;
	const json_t *object, *old_object;
	int dry_run;
};

/* SP_E_INVALID when it is no AdmissionReview of v1 with a uid: then there is nothing to answer to.
 */
enum sp_code admit_request_parse(
    const uint8_t *body, size_t len, struct admit_request *out, struct sp_err *err) SP_MUST_USE;
void admit_request_clear(struct admit_request *request);

struct admit_verdict {
	int allowed;
	char message[ADMIT_MESSAGE_MAX];
	/* of the last model found, "" or 0 when there was none */
	char model[SP_NAME_MAX + 1];
	int64_t version;
	struct sp_hex tree;
};

/* snapshot: NULL when there is none yet. age_ms: since it was signed; an older one than max_age_ms
 * admits nothing. */
void admit_decide(const struct admit_request *request, const struct sp_snapshot *snapshot,
    int64_t age_ms, int64_t max_age_ms, struct admit_verdict *out);

/* The AdmissionReview to answer with; malloc'd. */
char *
admit_answer(const struct admit_request *request, const struct admit_verdict *verdict, size_t *len);

/* --- admit_io.c: effects --- */

struct sp_worker;

enum sp_code admit_check(const struct sp_conf *conf, struct sp_err *err) SP_MUST_USE;
enum sp_code admit_open(struct sp_worker *worker, void **ctx, struct sp_err *err) SP_MUST_USE;
void admit_close(void *ctx);

#endif
