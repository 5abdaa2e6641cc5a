/*
 * gc.h -- a store's blobs that nothing names any more go (design section 4).
 *
 * List what is there, mark what is named, sweep the rest. A blob that was written or claimed
 * (sp_store_claim) after the listing began stays, whatever is marked. The three can be cut short at
 * any moment: what was removed was named by nobody, what is left goes the next time.
 */
#ifndef SP_GC_H
#define SP_GC_H

#include "store/tree.h"

struct sp_gc_blob {
	uint8_t digest[SP_DIGEST_LEN];
	uint64_t bytes;
	int64_t time_ns; /* last written or claimed, by the clock of the store's filesystem */
	int kept;
};

/* Zero-initialised is empty. */
struct sp_gc {
	struct sp_gc_blob *blobs; /* by digest */
	size_t count, cap;
	int64_t begin_ns; /* by that clock: what is as new stays */
};

struct sp_gc_counts {
	uint64_t kept, kept_bytes, removed, removed_bytes;
};

/* Every blob of the store; SP_E_LIMIT when it has more than SP_GC_BLOBS_MAX. */
#define SP_GC_BLOBS_MAX 20000000
enum sp_code sp_gc_list(struct sp_store *store, struct sp_gc *gc, struct sp_err *err) SP_MUST_USE;
void sp_gc_clear(struct sp_gc *gc);

/* --- marking. Pure, but for sp_gc_root, which reads trees. --- */

/* In any order; sp_gc_sort before anything is looked up. */
void
sp_gc_add(struct sp_gc *gc, const uint8_t digest[SP_DIGEST_LEN], uint64_t bytes, int64_t time_ns);
void sp_gc_sort(struct sp_gc *gc);
/* NULL when the store has no such blob. */
struct sp_gc_blob *sp_gc_find(const struct sp_gc *gc, const uint8_t digest[SP_DIGEST_LEN]);
/* Keeps every file of a tree that is there. */
void sp_gc_keep_tree(struct sp_gc *gc, const struct sp_tree *tree);
/* What a sweep would remove. */
int sp_gc_is_garbage(const struct sp_gc *gc, const struct sp_gc_blob *blob);

/* Keeps a blob that something names, and all files of the tree that it is, if it is one; a digest
 * that is not there is no error. SP_E_CORRUPT: it is a tree that the disk has spoilt, so that
 * nobody can say which files it needs: then nothing must be swept. */
enum sp_code sp_gc_root(const struct sp_store *store, struct sp_gc *gc, const char *digest,
    struct sp_err *err) SP_MUST_USE;

/* --- sweeping --- */

/* 1: stop here. */
typedef int sp_gc_step_fn(void *ctx, size_t done, size_t total);
/* Removes what is not kept (dry_run: counts it). A blob that cannot be removed ends it; counts say
 * how far it came. step may be NULL. SP_E_CANCELLED when step said so. */
enum sp_code sp_gc_sweep(struct sp_store *store, struct sp_gc *gc, int dry_run, sp_gc_step_fn *step,
    void *ctx, struct sp_gc_counts *counts, struct sp_err *err) SP_MUST_USE;

#endif
