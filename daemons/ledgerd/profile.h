/*
 * profile.h -- profiles: what is done with an artefact, and what it must pass.
 *
 * PROFILES/NAME.conf becomes a policy: JSON with sorted keys and the file's own nesting, whose
 * reals are JSON reals ("3.0", never "3"). A job keeps the policy that it was submitted with.
 */
#ifndef LEDGERD_PROFILE_H
#define LEDGERD_PROFILE_H

#include "base/conf.h"
#include "ledger/jobs.h"

#include <sys/stat.h>

struct ledgerd_profile {
	char *policy; /* malloc'd, NUL-terminated */
	size_t policy_len;
	char *destination, *name_suffix;
	unsigned approvals;
	int submitter_may_approve;
	int has_quantize, has_gate; /* what a model needs */
};

/* 1 to 64 of [A-Za-z0-9._-], not starting with a dot: it becomes a file's name. */
int ledgerd_profile_is_name(const char *name);

/* Reads and checks DIR/NAME.conf. Paths in it stay as they are: who opens them puts its own root in
 * front, so that a policy says the same wherever the root is. */
enum sp_code ledgerd_profile_load(
    const char *dir, const char *name, struct ledgerd_profile *out, struct sp_err *err) SP_MUST_USE;
void ledgerd_profile_clear(struct ledgerd_profile *profile);

/* The profile that was used last, read again when its file is another. Zero-initialised is none;
 * cleared by ledgerd_profile_clear(&kept->profile). */
struct ledgerd_profile_kept {
	char name[65];
	struct stat seen;
	struct ledgerd_profile profile;
};
/* As _load; borrowed until the next call. */
enum sp_code ledgerd_profile_get(struct ledgerd_profile_kept *kept, const char *dir,
    const char *name, const struct ledgerd_profile **out, struct sp_err *err) SP_MUST_USE;

/* Whether an artefact of that recipe can go by this profile: SP_E_CONFIG says what it lacks. */
enum sp_code ledgerd_profile_fits(const struct ledgerd_profile *profile, const char *name,
    enum sp_recipe recipe, struct sp_err *err) SP_MUST_USE;

/* Of a job's policy: whether who submitted may approve. 0 when the policy does not say. */
int ledgerd_profile_submitter_may_approve(const uint8_t *policy, size_t len);

/* Every *.conf of the directory; a directory that is not there has none. */
enum sp_code ledgerd_profile_check_all(const char *dir, struct sp_err *err) SP_MUST_USE;

#endif
