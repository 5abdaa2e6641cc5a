/* catalog.c -- repositories, their revisions, files and directories. */
#include "hub/catalog.h"
#include "base/buf.h"
#include "base/source.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int
sp_catalog_is_lfs(const char *path, uint64_t size)
{
	static const char suffix[] = ".safetensors";
	size_t len = strlen(path), n = sizeof(suffix) - 1;

	return size > SP_CATALOG_LFS_BYTES || (len > n && strcmp(path + len - n, suffix) == 0);
}

int
sp_catalog_kind(const char *word, enum sp_catalog_kind *kind)
{
	*kind = strcmp(word, "dataset") == 0 ? SP_CATALOG_DATASET : SP_CATALOG_MODEL;
	return *kind == SP_CATALOG_DATASET || strcmp(word, "model") == 0;
}

static struct sp_git_oid
blob_oid(const void *data, size_t len)
{
	struct sp_hash *hash = sp_git_blob_new(len);
	struct sp_git_oid oid;

	sp_hash_add(hash, data, len);
	oid = sp_git_blob_finish(hash);
	sp_hash_free(&hash);
	return oid;
}

/*
 * An LFS file is in git as its pointer (git-lfs, docs/spec.md):
 *	version https://git-lfs.github.com/spec/v1\n
 *	oid sha256:HEX\n
 *	size N\n
 */
void
sp_catalog_pointer(const struct sp_catalog_file *file, char text[SP_CATALOG_POINTER_MAX])
{
	int len;

	len = snprintf(text, SP_CATALOG_POINTER_MAX,
	    "version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %" PRIu64 "\n",
	    file->sha256.s, file->size);
	SP_ASSERT(len > 0 && len < SP_CATALOG_POINTER_MAX);
}

static void
make_pointer(struct sp_catalog_file *file)
{
	char text[SP_CATALOG_POINTER_MAX];

	sp_catalog_pointer(file, text);
	file->pointer_size = (unsigned)strlen(text);
	file->oid = blob_oid(text, strlen(text));
}

/* --- directories --------------------------------------------------------------------------------
 */

static void
add_dir(struct sp_catalog_revision *rev, const char *path, size_t len, const struct sp_git_oid *oid)
{
	struct sp_catalog_dir *dir;

	rev->dirs = sp_xrealloc(rev->dirs, rev->dir_count + 1, sizeof(*rev->dirs));
	dir = &rev->dirs[rev->dir_count++];
	dir->path = sp_xasprintf("%.*s", (int)len, path);
	dir->oid = *oid;
}

static void
put_tree_entry(struct sp_buf *buf, const char *mode, const char *name, size_t len,
    const struct sp_git_oid *oid)
{
	uint8_t raw[20];

	sp_buf_puts(buf, mode);
	sp_buf_puts(buf, " ");
	sp_buf_add(buf, name, len);
	sp_buf_add(buf, "", 1);
	SP_ASSERT(sp_hex_decode(oid->s, raw, sizeof(raw)) == SP_OK);
	sp_buf_add(buf, raw, sizeof(raw));
}

/*
 * git's tree object of the files [from, to), which all lie in one directory whose path (with its
 * '/') has prefix bytes: "tree LEN\0", then "MODE NAME\0" and 20 bytes of id for each entry. git
 * sorts a directory as if its name ended in '/', which is the order that our paths have anyway.
 * Adds all directories below. Depth is bounded by SP_PATH_MAX / 2.
 */
static struct sp_git_oid
make_dirs(struct sp_catalog_revision *rev, size_t from, size_t to, size_t prefix)
{
	struct sp_buf body = {0}, whole = {0};
	struct sp_hash *hash = sp_hash_new(SP_SHA1);
	struct sp_git_oid oid;
	size_t i, end, len;
	const char *name;

	for (i = from; i < to; i = end) {
		name = rev->files[i].path + prefix;
		len = strcspn(name, "/");
		end = i + 1;
		if (name[len] == '\0') {
			put_tree_entry(&body, rev->files[i].executable ? "100755" : "100644", name,
			    len, &rev->files[i].oid);
			continue;
		}
		while (end < to && strncmp(rev->files[end].path + prefix, name, len + 1) == 0)
			end++;
		oid = make_dirs(rev, i, end, prefix + len + 1);
		add_dir(rev, rev->files[i].path, prefix + len, &oid);
		put_tree_entry(&body, "40000", name, len, &oid);
	}
	sp_buf_printf(&whole, "tree %zu", body.len);
	sp_buf_add(&whole, "", 1);
	sp_hash_add(hash, whole.data, whole.len);
	sp_hash_add(hash, body.data, body.len);
	oid = sp_git_blob_finish(hash);
	sp_hash_free(&hash);
	sp_buf_free(&whole);
	sp_buf_free(&body);
	return oid;
}

static int
by_dir(const void *a, const void *b)
{
	return strcmp(
	    ((const struct sp_catalog_dir *)a)->path, ((const struct sp_catalog_dir *)b)->path);
}

/* --- adding -------------------------------------------------------------------------------------
 */

static void
clear_revision(struct sp_catalog_revision *rev)
{
	for (size_t i = 0; i < rev->file_count; i++)
		free(rev->files[i].path);
	for (size_t i = 0; i < rev->dir_count; i++)
		free(rev->dirs[i].path);
	free(rev->files);
	free(rev->dirs);
	memset(rev, 0, sizeof(*rev));
}

void
sp_catalog_clear(struct sp_catalog *catalog)
{
	for (size_t i = 0; i < catalog->count; i++) {
		for (size_t k = 0; k < catalog->repos[i].count; k++)
			clear_revision(&catalog->repos[i].revisions[k]);
		free(catalog->repos[i].revisions);
		free(catalog->repos[i].name);
	}
	free(catalog->repos);
	memset(catalog, 0, sizeof(*catalog));
}

static int
order(const struct sp_catalog_repo *repo, enum sp_catalog_kind kind, const char *name)
{
	return repo->kind != kind ? (int)repo->kind - (int)kind : strcmp(repo->name, name);
}

/* Where the repository is, or would have to be. */
static size_t
place_of(const struct sp_catalog *catalog, enum sp_catalog_kind kind, const char *name)
{
	size_t low = 0, high = catalog->count, middle;

	while (low < high) {
		middle = low + (high - low) / 2;
		if (order(&catalog->repos[middle], kind, name) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The repository of that kind and name, made when there is none. */
static struct sp_catalog_repo *
take_repo(struct sp_catalog *catalog, enum sp_catalog_kind kind, const char *name)
{
	size_t i = place_of(catalog, kind, name);
	struct sp_catalog_repo *repo;

	if (i < catalog->count && order(&catalog->repos[i], kind, name) == 0)
		return &catalog->repos[i];
	catalog->repos = sp_xrealloc(catalog->repos, catalog->count + 1, sizeof(*catalog->repos));
	repo = &catalog->repos[i];
	memmove(repo + 1, repo, (catalog->count - i) * sizeof(*repo));
	catalog->count++;
	memset(repo, 0, sizeof(*repo));
	repo->kind = kind;
	repo->name = sp_xstrdup(name);
	return repo;
}

static void
fill_files(
    struct sp_catalog_revision *rev, const struct sp_tree *tree, const struct sp_git_oid *oids)
{
	rev->files = sp_xcalloc(tree->count, sizeof(*rev->files));
	rev->file_count = tree->count;
	for (size_t i = 0; i < tree->count; i++) {
		struct sp_catalog_file *file = &rev->files[i];

		file->path = sp_xstrdup(tree->files[i].path);
		file->size = tree->files[i].size;
		file->sha256 = tree->files[i].sha256;
		file->executable = tree->files[i].executable;
		file->lfs = sp_catalog_is_lfs(file->path, file->size);
		if (file->lfs)
			make_pointer(file);
		else
			file->oid = oids[i];
	}
	rev->bytes = sp_tree_bytes(tree);
}

enum sp_code
sp_catalog_add(struct sp_catalog *catalog, enum sp_catalog_kind kind, const char *name,
    int64_t version, const char *digest, const char *time, const struct sp_tree *tree,
    const struct sp_git_oid *oids, struct sp_err *err)
{
	struct sp_catalog_repo *repo;
	struct sp_catalog_revision *rev;
	size_t i = 0;

	SP_ASSERT(tree->sorted && sp_hex_is_digest(digest));
	for (size_t k = 0; k < tree->count; k++)
		if (!sp_catalog_is_lfs(tree->files[k].path, tree->files[k].size) &&
		    !sp_source_is_commit(oids[k].s))
			return sp_err_set(
			    err, SP_E_INVALID, "%s: no git id is known", tree->files[k].path);
	repo = take_repo(catalog, kind, name);
	while (i < repo->count && repo->revisions[i].version < version)
		i++;
	if (i < repo->count && repo->revisions[i].version == version)
		return sp_err_set(
		    err, SP_E_EXISTS, "%s has a version %" PRId64 " already", name, version);
	repo->revisions = sp_xrealloc(repo->revisions, repo->count + 1, sizeof(*repo->revisions));
	rev = &repo->revisions[i];
	memmove(rev + 1, rev, (repo->count - i) * sizeof(*rev));
	repo->count++;
	memset(rev, 0, sizeof(*rev));
	rev->version = version;
	rev->commit = sp_tree_revision(digest);
	memcpy(rev->tree.s, digest, sizeof(rev->tree.s));
	snprintf(rev->time, sizeof(rev->time), "%s", time);
	fill_files(rev, tree, oids);
	(void)make_dirs(rev, 0, rev->file_count, 0);
	if (rev->dir_count > 0)
		qsort(rev->dirs, rev->dir_count, sizeof(*rev->dirs), by_dir);
	return SP_OK;
}

/* --- finding ------------------------------------------------------------------------------------
 */

const struct sp_catalog_repo *
sp_catalog_find(const struct sp_catalog *catalog, enum sp_catalog_kind kind, const char *name)
{
	size_t i = place_of(catalog, kind, name);

	return i < catalog->count && order(&catalog->repos[i], kind, name) == 0 ? &catalog->repos[i]
										: NULL;
}

const struct sp_catalog_revision *
sp_catalog_revision(const struct sp_catalog_repo *repo, const char *revision)
{
	char tag[32];

	if (repo->count == 0)
		return NULL;
	if (strncmp(revision, "refs/heads/", 11) == 0)
		revision += 11;
	else if (strncmp(revision, "refs/tags/", 10) == 0)
		revision += 10;
	if (strcmp(revision, "main") == 0)
		return &repo->revisions[repo->count - 1];
	/* the newest first: two versions of one tree have one commit */
	for (size_t i = repo->count; i-- > 0;) {
		const struct sp_catalog_revision *rev = &repo->revisions[i];

		snprintf(tag, sizeof(tag), "v%" PRId64, rev->version);
		if (strcmp(revision, rev->commit.s) == 0 || strcmp(revision, tag) == 0)
			return rev;
	}
	return NULL;
}

static int
by_file(const void *a, const void *b)
{
	return strcmp(
	    ((const struct sp_catalog_file *)a)->path, ((const struct sp_catalog_file *)b)->path);
}

const struct sp_catalog_file *
sp_catalog_file(const struct sp_catalog_revision *rev, const char *path)
{
	struct sp_catalog_file key = {.path = (char *)(uintptr_t)path};

	return rev->file_count > 0
		   ? bsearch(&key, rev->files, rev->file_count, sizeof(key), by_file)
		   : NULL;
}

const struct sp_catalog_dir *
sp_catalog_dir(const struct sp_catalog_revision *rev, const char *path)
{
	struct sp_catalog_dir key = {.path = (char *)(uintptr_t)path};

	return rev->dir_count > 0 ? bsearch(&key, rev->dirs, rev->dir_count, sizeof(key), by_dir)
				  : NULL;
}
