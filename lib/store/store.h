/*
 * store.h -- content-addressed blobs on a disk: DIR/sha256/ab/cdef… (design section 4).
 *
 * A blob is read-only (0440) and named by the SHA-256 of its bytes. It appears by rename after its
 * bytes and its directory were synced, so a blob that is there is whole. Temporary files lie in
 * DIR/tmp and are removed at open when their writer is gone.
 */
#ifndef SP_STORE_H
#define SP_STORE_H

#include "base/hash.h"

struct sp_store;

/* writable: makes the directories when missing (0750) and removes leftovers of tmp/. Read-only for
 * somebody else's store. */
enum sp_code sp_store_open(
    const char *dir, int writable, struct sp_store **out, struct sp_err *err) SP_MUST_USE;
void sp_store_close(struct sp_store **store);

/* 1 when the blob is there; *size (may be NULL) its length. */
int sp_store_has(const struct sp_store *store, const char *digest, uint64_t *size);
/* malloc'd path, whether or not it is there. */
char *sp_store_path(const struct sp_store *store, const char *digest);

/* Opens a blob for reading. Its bytes are not verified: who uses them hashes them in the same read
 * (sp_store_read, sp_store_copy and sp_tree_materialize do). */
enum sp_code sp_store_blob(const struct sp_store *store, const char *digest, int *fd,
    uint64_t *size, struct sp_err *err) SP_MUST_USE;
/* Whole blob of at most max bytes, verified: SP_E_CORRUPT names it. malloc'd, NUL after it. */
enum sp_code sp_store_read(const struct sp_store *store, const char *digest, size_t max,
    uint8_t **data, size_t *len, struct sp_err *err) SP_MUST_USE;

enum sp_code sp_store_put(struct sp_store *store, const void *data, size_t len,
    struct sp_hex *digest, struct sp_err *err) SP_MUST_USE;

/* A blob in the making. Write in order; commit hashes what was written in the same pass. */
struct sp_store_writer;
enum sp_code sp_store_begin(
    struct sp_store *store, struct sp_store_writer **out, struct sp_err *err) SP_MUST_USE;
enum sp_code sp_store_write(struct sp_store_writer *writer, const void *data, size_t len,
    struct sp_err *err) SP_MUST_USE;
/* Publishes the blob and frees the writer. expected: hex digest it must have (SP_E_CORRUPT), or
 * NULL. A blob that is there already is kept. */
enum sp_code sp_store_commit(struct sp_store_writer **writer, const char *expected,
    struct sp_hex *digest, struct sp_err *err) SP_MUST_USE;
void sp_store_abort(struct sp_store_writer **writer);

/* Takes a file over: hashes it, copies (reflink where the filesystem can) and publishes. */
enum sp_code sp_store_put_file(struct sp_store *store, const char *path, const char *expected,
    struct sp_hex *digest, uint64_t *size, struct sp_err *err) SP_MUST_USE;
/* Copies a blob from another store while verifying it; nothing to do when it is there. */
enum sp_code sp_store_copy(struct sp_store *to, const struct sp_store *from, const char *digest,
    struct sp_err *err) SP_MUST_USE;

#endif
