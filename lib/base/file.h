/* file.h -- whole files, written so that a crash shows the old or the new, never a half. */
#ifndef SP_FILE_H
#define SP_FILE_H

#include "base/err.h"

#include <stdint.h>
#include <sys/types.h>

/* Reads at most max bytes (SP_E_LIMIT beyond). *data is malloc'd with a NUL after the last byte. */
enum sp_code sp_file_read(
    const char *path, size_t max, uint8_t **data, size_t *len, struct sp_err *err) SP_MUST_USE;

/* Temporary file beside path, write, fsync, rename, fsync directory. */
enum sp_code sp_file_write(
    const char *path, mode_t mode, const void *data, size_t len, struct sp_err *err) SP_MUST_USE;

/* As sp_file_write, but SP_E_EXISTS when path is there already. What killed creators of this very
 * path left beside it is removed first: it may be half a secret key. */
enum sp_code sp_file_create(
    const char *path, mode_t mode, const void *data, size_t len, struct sp_err *err) SP_MUST_USE;

/* Removes what killed writers left below dir, which nobody else puts files into: those of ours
 * whose names end in ".tmp-" and six characters, and which nobody has locked: a writer that is
 * alive has. Goes `depth` levels down, following no symlinks. Returns how many it removed; what
 * cannot be read or removed stays, as litter does. */
#define SP_FILE_SWEEP_DEPTH 4 /* of what a daemon has below its state directory */
unsigned sp_file_sweep(const char *dir, unsigned depth);

/* write(2) until all is out. */
enum sp_code
sp_file_write_all(int fd, const void *data, size_t len, struct sp_err *err) SP_MUST_USE;
/* Reads exactly len bytes; SP_E_IO says how many came when the end was earlier. */
enum sp_code sp_file_read_all(int fd, void *data, size_t len, struct sp_err *err) SP_MUST_USE;
enum sp_code sp_file_sync_dir(const char *dir, struct sp_err *err) SP_MUST_USE;
/* All that was written to the filesystem of dir: cheaper than a sync for each of many files. */
enum sp_code sp_file_sync_fs(const char *dir, struct sp_err *err) SP_MUST_USE;
enum sp_code sp_file_mkdirs(const char *dir, mode_t mode, struct sp_err *err) SP_MUST_USE;
/* Removes a file or a whole directory; a path that is not there is no error. Does not follow
 * symlinks. */
enum sp_code sp_file_remove_all(const char *path, struct sp_err *err) SP_MUST_USE;

/* mmap of a whole file, read-only; an empty file gives data non-NULL, len 0. */
struct sp_map {
	const uint8_t *data;
	size_t len;
};
enum sp_code sp_map_open(struct sp_map *map, const char *path, struct sp_err *err) SP_MUST_USE;
void sp_map_close(struct sp_map *map);

/* Raises this process's limit of open files as far as it may (nothing here uses select(2), whose
 * sets a higher descriptor would overrun): how many files that are. */
uint64_t sp_file_raise_limit(void);

#endif
