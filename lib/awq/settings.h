/* settings.h -- what a person chooses about a quantization: of a profile, or on a command line. */
#ifndef SP_SETTINGS_H
#define SP_SETTINGS_H

#include "awq/quantize.h"
#include "base/hash.h"

#define SP_SETTINGS_COUNT_MAX 65536 /* of samples, and of tokens in a sequence */

/* Zero-initialised is empty; owned by who fills it. */
struct sp_settings {
	char *method;
	char *calibration; /* as it was named */
	size_t group_size, samples, sequence;
	uint64_t seed; /* 0: the calibration texts in their own order */
	int symmetric;
	enum sp_plan_fallback fallback;
	char **skip; /* modules_to_not_convert */
	size_t skip_count;
};

/*
 * A profile's group "quantize":
 *	{"calibration": "/absolute/path.jsonl" | "tree:HEX/PATH",
 *	 "fallback": "refuse"|"smaller"|"leave", "group_size": 32|64|128, "method": "awq"|"awq+",
 *	 "modules_to_not_convert": ["name", …], "samples": 1..65536, "seed": 0..2^53,
 *	 "sequence": 1..65536, "symmetric": bool}
 * fallback ("refuse"), modules_to_not_convert (none), seed (0) and symmetric (false) may be
 * missing; all others are required and nothing else is allowed: a setting that is not understood is
 * not ignored. Names the setting as quantize.NAME.
 */
enum sp_code
sp_settings_parse(const json_t *group, struct sp_settings *out, struct sp_err *err) SP_MUST_USE;
/* The same object again, as attestations hold it; what has its default may be missing. */
json_t *sp_settings_json(const struct sp_settings *settings);
/* Adds a name to skip. SP_E_INVALID: no name, or one too many (awq/plan.h). */
enum sp_code
sp_settings_skip(struct sp_settings *settings, const char *name, struct sp_err *err) SP_MUST_USE;
/* That each value is one of those above. */
enum sp_code sp_settings_check(const struct sp_settings *settings, struct sp_err *err) SP_MUST_USE;
void sp_settings_clear(struct sp_settings *settings);

/* Splits "tree:HEX/PATH", a file of a tree in the store. 0: it is nothing like that. */
int sp_settings_in_tree(const char *calibration, struct sp_hex *tree, const char **path);

/* Names the inputs, and so the directory of the work in progress: whatever changes the output
 * changes it. tree, calibration: hex digests; name: of the source model, may be NULL; program:
 * sp_program_name. */
struct sp_hex sp_settings_key(const struct sp_settings *settings, const char *tree,
    const char *name, const char *calibration, const char *program);

/* The lines of a JSONL text in the order that a seed gives (Fisher and Yates by SplitMix64, so the
 * same on every machine); malloc'd, of size bytes, and one more where the last line had no end. */
uint8_t *sp_settings_shuffle(const uint8_t *text, size_t size, uint64_t seed, size_t *len);

#endif
