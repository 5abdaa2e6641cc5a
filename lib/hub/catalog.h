/*
 * catalog.h -- the models and data sets that a hub serves, with the git and LFS ids that its
 * clients expect; pure.
 *
 * A file is an LFS file when its name ends in .safetensors or it is larger than
 * SP_CATALOG_LFS_BYTES; then clients compare its SHA-256, otherwise its git blob id. Each revision
 * is a tree of our own: its commit is sp_tree_revision of the tree's digest, its tag "vN".
 */
#ifndef SP_CATALOG_H
#define SP_CATALOG_H

#include "store/tree.h"

#define SP_CATALOG_LFS_BYTES 10000000
#define SP_CATALOG_POINTER_MAX 192 /* bytes of an LFS pointer, NUL included */

/* A model and a data set of the same name are two repositories. */
enum sp_catalog_kind { SP_CATALOG_MODEL, SP_CATALOG_DATASET };

struct sp_catalog_file {
	char *path;
	uint64_t size;
	struct sp_hex sha256;
	struct sp_git_oid oid; /* of the blob; of the pointer when lfs */
	unsigned pointer_size; /* bytes of the pointer when lfs */
	int lfs, executable;
};

struct sp_catalog_dir {
	char *path;	       /* without '/' at its end */
	struct sp_git_oid oid; /* git's id of the directory */
};

struct sp_catalog_revision {
	struct sp_git_oid commit;
	struct sp_hex tree;
	int64_t version;
	char time[25]; /* RFC 3339 */
	uint64_t bytes;
	struct sp_catalog_file *files; /* by path, bytewise */
	size_t file_count;
	struct sp_catalog_dir *dirs; /* by path, bytewise */
	size_t dir_count;
};

struct sp_catalog_repo {
	enum sp_catalog_kind kind;
	char *name;			       /* "org/name" or "name" */
	struct sp_catalog_revision *revisions; /* by version; the last is "main" */
	size_t count;
};

/* Zero-initialised is empty. */
struct sp_catalog {
	struct sp_catalog_repo *repos; /* by kind, then by name, bytewise */
	size_t count;
};

int sp_catalog_is_lfs(const char *path, uint64_t size);
/* "model" or "dataset", as configurations and registrations say it; 0 when word is neither. */
int sp_catalog_kind(const char *word, enum sp_catalog_kind *kind);
/* What git holds in place of an LFS file. */
void sp_catalog_pointer(const struct sp_catalog_file *file, char text[SP_CATALOG_POINTER_MAX]);

/* oids: git blob id for each file of tree (in its order, sorted), looked at where the file is no
 * LFS file. SP_E_EXISTS when the repository has that version already. Everything is copied. */
enum sp_code sp_catalog_add(struct sp_catalog *catalog, enum sp_catalog_kind kind, const char *name,
    int64_t version, const char *digest, const char *time, const struct sp_tree *tree,
    const struct sp_git_oid *oids, struct sp_err *err) SP_MUST_USE;
void sp_catalog_clear(struct sp_catalog *catalog);

const struct sp_catalog_repo *
sp_catalog_find(const struct sp_catalog *catalog, enum sp_catalog_kind kind, const char *name);
/* "main", "vN", "refs/heads/main", "refs/tags/vN" or a commit; NULL when there is none. */
const struct sp_catalog_revision *
sp_catalog_revision(const struct sp_catalog_repo *repo, const char *revision);
const struct sp_catalog_file *
sp_catalog_file(const struct sp_catalog_revision *revision, const char *path);
const struct sp_catalog_dir *
sp_catalog_dir(const struct sp_catalog_revision *revision, const char *path);

#endif
