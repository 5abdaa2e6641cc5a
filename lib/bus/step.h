/*
 * step.h -- what the steps in the middle of the chain have in common: a key and a store of their
 * own, inputs that lie in others' stores, an attestation behind them and one to sign.
 */
#ifndef SP_STEP_H
#define SP_STEP_H

#include "bus/outcome.h"
#include "release/chain.h"
#include "store/tree.h"

struct sp_conf;

/* What the daemon holds and its children do not open: the key of its role, and its own store. */
struct sp_step {
	struct sp_key *key;
	struct sp_store *store;
};

enum sp_code sp_step_open(const struct sp_conf *conf, const char *service, enum sp_role role,
    struct sp_step **out, struct sp_err *err) SP_MUST_USE;
void sp_step_close(void *step); /* NULL is nothing; a struct sp_worker_spec's close */

/* One process at a time in a directory of work: one that is being killed may not be gone yet.
 * Closing *fd, or the end of the process, lets go. */
enum sp_code sp_step_lock(const char *work, int *fd, struct sp_err *err) SP_MUST_USE;
/* Removes the entry of that name from work, and from each directory beside it that no process has
 * locked: a copy of a model, left by an attempt that was killed, may be most of a disk. What cannot
 * be removed is logged. */
void sp_step_sweep(const char *work, const char *name);
/* Removes a directory and logs it when that fails: what cannot be removed costs space alone. */
void sp_step_discard(const char *path);

/* A copy of a tree of any daemon's store in dir, which is emptied first; every byte is hashed on
 * its way, so that what is used is what the digest names. progress may be NULL. */
enum sp_code sp_step_take(const struct sp_conf *conf, const struct sp_artifact *tree,
    const char *dir, sp_tree_progress_fn *progress, void *ctx, struct sp_err *err) SP_MUST_USE;

/* The task's attestation of that stage holds and is about this tree; out as in
 * sp_chain_stage_check. Else SP_E_DENIED, or what was wrong with it. */
enum sp_code
sp_step_behind(const struct sp_trust *trust, const Sallyport__Task *task, enum sp_chain_stage stage,
    const char *tree, struct sp_statement *out, struct sp_err *err) SP_MUST_USE;

/* Signs an in-toto statement and makes it the outcome's attestation. */
enum sp_code sp_step_sign(const struct sp_step *step, const char *statement, size_t len,
    struct sp_outcome *outcome, struct sp_err *err) SP_MUST_USE;

#endif
