/* store_impl.h -- what the files that write blobs share; for lib/store alone. */
#ifndef SP_STORE_IMPL_H
#define SP_STORE_IMPL_H

#include "store/store.h"

struct sp_store {
	char *dir;
	int writable;
};

/* flock, whatever signals arrive. */
int sp__store_lock(int fd, int how);

/* Makes the file at *path (in the store's tmp/, open for writing as fd, its bytes verified) the
 * blob of that digest: read-only, synced, renamed, its directory synced. *path is freed and NULL
 * from the rename on: the name is the blob's then. */
enum sp_code sp__store_publish(const struct sp_store *store, char **path, int fd,
    const char *digest, struct sp_err *err) SP_MUST_USE;

/* Switches fs-verity on where the filesystem has it, once nobody has the blob open for writing. */
void sp__store_seal(const struct sp_store *store, const char *digest);

#endif
