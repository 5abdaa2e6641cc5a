/* outcome.h -- what a step leaves behind, as plain structs; becomes bus.proto Done or Failure. */
#ifndef SP_OUTCOME_H
#define SP_OUTCOME_H

#include "base/hash.h"
#include "bus.pb-c.h"

struct sp_artifact {
	char role[32]; /* "source", "candidate", "report", "release" */
	struct sp_hex digest;
	char store[32]; /* the daemon in whose store it lies */
	int tree;	/* digest names a tree, else one blob */
	uint64_t bytes; /* all content together */
};

struct sp_detail {
	char *key, *value;
};

/* Zero-initialised is empty. All that is added is copied. */
struct sp_outcome {
	struct sp_artifact *artifacts;
	size_t artifact_count;
	struct sp_detail *details;
	size_t detail_count;
	uint8_t *attestation; /* DSSE envelope */
	size_t attestation_len;
};

void sp_outcome_artifact(struct sp_outcome *outcome, const char *role, const char *digest,
    const char *store, int tree, uint64_t bytes);
void sp_outcome_detail(struct sp_outcome *outcome, const char *key, const char *fmt, ...)
    SP_PRINTF(3, 4);
void sp_outcome_attest(struct sp_outcome *outcome, const void *envelope, size_t len);
/* NULL when there is none of that role, or key. */
const struct sp_artifact *sp_outcome_find(const struct sp_outcome *outcome, const char *role);
const char *sp_outcome_get(const struct sp_outcome *outcome, const char *key);
void sp_outcome_clear(struct sp_outcome *outcome);

/* The artifact of that role among a task's inputs (the last of them), else SP_E_INVALID that names
 * the role; digest and store are checked for form. */
enum sp_code sp_outcome_input(const Sallyport__Task *task, const char *role,
    struct sp_artifact *out, struct sp_err *err) SP_MUST_USE;

#endif
