/*
 * store.h -- content-addressed blobs on a disk: DIR/sha256/ab/cdef… (design section 4).
 *
 * A blob is read-only (0440) and named by the SHA-256 of its bytes. It appears by rename after its
 * bytes were synced, and its directory is synced before anybody is told, so a blob that is there is
 * whole. Temporary files lie in DIR/tmp, locked by their writer; those whose writer is gone are
 * removed at open. A store may be used by several threads and processes at the same time.
 */
#ifndef SP_STORE_H
#define SP_STORE_H

#include "base/hash.h"

struct sp_store;
struct stat;

/* writable: makes the directories when missing (0750) and removes leftovers of tmp/. Read-only for
 * somebody else's store: SP_E_NOT_FOUND when there is none. */
enum sp_code
sp_store_open(const char *dir, int writable, struct sp_store **out, struct sp_err *err) SP_MUST_USE;
void sp_store_close(struct sp_store **store);
const char *sp_store_dir(const struct sp_store *store);

/* 1 when the blob is there; *size (may be NULL) its length. 0 too when digest is no digest. */
int sp_store_has(const struct sp_store *store, const char *digest, uint64_t *size);
/* The same, and keeps a blob of our own store from a collection (store/gc.h) that runs now: for who
 * will rely on it from here on. */
int sp_store_claim(const struct sp_store *store, const char *digest, uint64_t *size);
/* malloc'd path, whether or not it is there; NULL when digest is no digest. */
char *sp_store_path(const struct sp_store *store, const char *digest);

/* Opens a blob for reading. Its bytes are not verified: who uses them hashes them in the same read
 * (sp_store_read, sp_store_copy and sp_tree_materialize do). */
enum sp_code sp_store_blob(const struct sp_store *store, const char *digest, int *fd,
    uint64_t *size, struct sp_err *err) SP_MUST_USE;
/* Whole blob of at most max bytes, verified: SP_E_CORRUPT names it. malloc'd, NUL after it. */
enum sp_code sp_store_read(const struct sp_store *store, const char *digest, size_t max,
    uint8_t **data, size_t *len, struct sp_err *err) SP_MUST_USE;
/* Told how many bytes more were read; may be NULL where it is taken. */
typedef void sp_store_progress_fn(void *ctx, uint64_t bytes);
/* Hashes a blob where it lies; *size (may be NULL) its length. SP_E_CORRUPT names it. */
enum sp_code sp_store_verify(const struct sp_store *store, const char *digest, uint64_t *size,
    sp_store_progress_fn *progress, void *ctx, struct sp_err *err) SP_MUST_USE;

enum sp_code sp_store_put(struct sp_store *store, const void *data, size_t len,
    struct sp_hex *digest, struct sp_err *err) SP_MUST_USE;

/* A blob in the making. Write in order; commit hashes what was written in the same pass. */
struct sp_store_writer;
enum sp_code sp_store_begin(
    struct sp_store *store, struct sp_store_writer **out, struct sp_err *err) SP_MUST_USE;
enum sp_code sp_store_write(
    struct sp_store_writer *writer, const void *data, size_t len, struct sp_err *err) SP_MUST_USE;
/* Publishes the blob and frees the writer, also on failure. expected: hex digest it must have
 * (SP_E_CORRUPT), or NULL. A blob that is there already is replaced by these same bytes, which
 * heals one that the disk has spoilt. */
enum sp_code sp_store_commit(struct sp_store_writer **writer, const char *expected,
    struct sp_hex *digest, struct sp_err *err) SP_MUST_USE;
void sp_store_abort(struct sp_store_writer **writer);
/* fstat(2) of what was written so far. */
int sp_store_stat(const struct sp_store_writer *writer, struct stat *st);

/* Takes a file over: copies it (reflink where the filesystem can), hashes the copy, publishes.
 * _put_fd reads from fd's start and leaves fd open. expected, digest and size may be NULL. */
enum sp_code sp_store_put_file(struct sp_store *store, const char *path, const char *expected,
    struct sp_hex *digest, uint64_t *size, struct sp_err *err) SP_MUST_USE;
enum sp_code sp_store_put_fd(struct sp_store *store, int fd, const char *expected,
    struct sp_hex *digest, uint64_t *size, struct sp_err *err) SP_MUST_USE;
/* Copies a blob from another store while verifying it; nothing to do when it is there. */
enum sp_code sp_store_copy(struct sp_store *to, const struct sp_store *from, const char *digest,
    sp_store_progress_fn *progress, void *ctx, struct sp_err *err) SP_MUST_USE;

/* Copies fd's bytes (from its start) into to_fd, an empty file, and returns their digest and
 * number: a reflink where both lie on a filesystem that can, then a read of the copy. to_fd is
 * readable. */
enum sp_code sp_store_copy_fd(int fd, int to_fd, struct sp_hex *digest, uint64_t *size,
    sp_store_progress_fn *progress, void *ctx, struct sp_err *err) SP_MUST_USE;

/* Removes a blob (one found corrupt, or what nothing names any more); one that is not there is no
 * error. */
enum sp_code
sp_store_remove(struct sp_store *store, const char *digest, struct sp_err *err) SP_MUST_USE;
/* The same, unless it was written or claimed at before_ns or later, by the clock of the filesystem.
 * *removed: 0 when it stays, or is not there. */
enum sp_code sp_store_expire(struct sp_store *store, const char *digest, int64_t before_ns,
    int *removed, struct sp_err *err) SP_MUST_USE;

#endif
