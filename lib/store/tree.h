/*
 * tree.h -- a tree: the files of a model, as a blob whose SHA-256 names the model (design 4).
 *
 *	sallyport-tree/1\n
 *	MODE SIZE SHA256HEX PATH\n        per file: 0644 or 0755, decimal size, lower-case hex
 *
 * Paths in bytewise order, no path twice, none the directory of another; sp_path_check holds. All
 * sizes together fit 63 bits.
 */
#ifndef SP_TREE_H
#define SP_TREE_H

#include "store/store.h"

struct sp_tree_file {
	char *path;
	uint64_t size;
	struct sp_hex sha256;
	int executable;
};

/* Zero-initialised is empty. */
struct sp_tree {
	struct sp_tree_file *files;
	size_t count;
	size_t cap;
	uint64_t bytes; /* of all files */
	int sorted;	/* by path: sp_tree_find need not look at all */
};

/* Pure: exactly the form above, or an error that names the line. */
enum sp_code
sp_tree_parse(const uint8_t *data, size_t len, struct sp_tree *out, struct sp_err *err) SP_MUST_USE;
/* Adds in any order; sp_tree_format sorts. */
enum sp_code sp_tree_add(struct sp_tree *tree, const char *path, uint64_t size, const char *sha256,
    int executable, struct sp_err *err) SP_MUST_USE;
/* malloc'd listing; sorts tree; SP_E_INVALID when two paths clash. */
enum sp_code
sp_tree_format(struct sp_tree *tree, uint8_t **data, size_t *len, struct sp_err *err) SP_MUST_USE;
const struct sp_tree_file *sp_tree_find(const struct sp_tree *tree, const char *path);
uint64_t sp_tree_bytes(const struct sp_tree *tree);
void sp_tree_clear(struct sp_tree *tree);

/* The tree blob of a store, verified and parsed. */
enum sp_code sp_tree_load(const struct sp_store *store, const char *digest, struct sp_tree *out,
    struct sp_err *err) SP_MUST_USE;
/* Formats and stores the listing (the files' blobs are there already). */
enum sp_code sp_tree_save(struct sp_store *store, struct sp_tree *tree, struct sp_hex *digest,
    struct sp_err *err) SP_MUST_USE;

/* Takes in a directory: every regular file becomes a blob; symlinks and devices are refused. */
enum sp_code sp_tree_import(struct sp_store *store, const char *dir, struct sp_tree *out,
    struct sp_hex *digest, struct sp_err *err) SP_MUST_USE;
/* What sp_tree_import would give, without a store: every file is hashed where it lies. */
enum sp_code sp_tree_scan(const char *dir, sp_store_progress_fn *progress, void *ctx,
    struct sp_tree *out, struct sp_hex *digest, struct sp_err *err) SP_MUST_USE;
/* Writes all files below dir (made when missing; a file that is there is replaced), each hashed
 * while it is copied: SP_E_CORRUPT names the file. One process at a time works in a dir
 * (SP_E_STATE). Not synced: the copy can be made again. progress may be NULL. */
typedef void sp_tree_progress_fn(void *ctx, uint64_t done_bytes, uint64_t total_bytes);
enum sp_code sp_tree_materialize(const struct sp_store *store, const struct sp_tree *tree,
    const char *dir, sp_tree_progress_fn *progress, void *ctx, struct sp_err *err) SP_MUST_USE;
/* Copies all blobs and then the listing into another store, verifying each. */
enum sp_code sp_tree_copy(struct sp_store *to, const struct sp_store *from, const char *digest,
    sp_tree_progress_fn *progress, void *ctx, struct sp_err *err) SP_MUST_USE;
/* Every file of the tree is a blob of the store with the right bytes; names the first that is not.
 */
enum sp_code sp_tree_verify(
    const struct sp_store *store, const struct sp_tree *tree, struct sp_err *err) SP_MUST_USE;

/* The 40-hex commit under which a tree that we made is served: the first 40 digits of its digest.
 */
struct sp_git_oid sp_tree_revision(const char *digest);

#endif
