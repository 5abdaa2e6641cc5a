/* policy.h -- the part of a profile that says what a gate asks for. */
#ifndef SP_POLICY_H
#define SP_POLICY_H

#include "base/hash.h"

#define SP_POLICY_SHOTS_MAX 64
#define SP_POLICY_NEW_TOKENS_MAX 65536

struct sp_policy_gate {
	int asked;		       /* 0: the profile has no such gate */
	char dataset[SP_PATH_MAX + 1]; /* where it lies */
	char sha256[SP_HEX_LEN + 1];   /* digest it must have; "": any, it is only noted */
	unsigned amount;	       /* mmlu: shots; humaneval: new tokens */
	double max_drop_pp;
};

struct sp_policy {
	double confidence;
	struct sp_policy_gate mmlu, humaneval;
};

/*
 * Pure. Of the profile's JSON object only these fields are read:
 *	{"confidence": number in (0.5, 1), default 0.95,
 *	 "mmlu": {"dataset": PATH, "max_drop_pp": number, "shots": integer, default 5,
 *	          "sha256": hex, optional},
 *	 "humaneval": {"dataset": PATH, "max_drop_pp": number, "max_new_tokens": integer,
 *	               default 1024, "sha256": hex, optional}}
 * At least one gate must be there: a profile without any would let everything pass. SP_E_CONFIG
 * names the field.
 */
enum sp_code sp_policy_parse(
    const uint8_t *text, size_t len, struct sp_policy *out, struct sp_err *err) SP_MUST_USE;

#endif
