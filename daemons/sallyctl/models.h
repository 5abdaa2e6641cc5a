/* models.h -- the registry's snapshot, and what it names in the registry's store. */
#ifndef CTL_MODELS_H
#define CTL_MODELS_H

#include "ctl.h"
#include "release/release.h"
#include "release/snapshot.h"
#include "store/store.h"

/* The newest snapshot that ledgerd has, verified against trust. Free with sp_snapshot_clear. */
enum sp_code ctl_models_snapshot(struct ctl *ctl, const struct sp_trust *trust,
    struct sp_snapshot *out, struct sp_err *err) SP_MUST_USE;

/* A registered model with its release, verified, from registryd's store. */
struct ctl_registered {
	struct sp_trust *trust;
	struct sp_snapshot snapshot;
	const struct sp_snapshot_model *model;
	struct sp_store *store;
	uint8_t *envelope; /* the release */
	size_t envelope_len;
	struct sp_release *release;
};

/* text: NAME or NAME@V. The release must be the one that the snapshot names, verify, and be about
 * the very model. Free with ctl_registered_clear, also after an error. */
enum sp_code ctl_registered_open(
    struct ctl *ctl, const char *text, struct ctl_registered *out, struct sp_err *err) SP_MUST_USE;
void ctl_registered_clear(struct ctl_registered *registered);

#endif
