/* listing.c -- JSON of models and data sets, refs, files and directories. */
#include "hub/listing.h"
#include "base/err.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static json_t *
checked(json_t *value)
{
	/* NULL only without memory: paths and names were UTF-8 when they came into the catalog */
	SP_ASSERT(value != NULL);
	return value;
}

static json_t *
last_commit(const struct sp_catalog_revision *rev)
{
	char title[32];

	snprintf(title, sizeof(title), "v%" PRId64, rev->version);
	return checked(
	    json_pack("{s:s, s:s, s:s}", "id", rev->commit.s, "title", title, "date", rev->time));
}

static json_t *
lfs_of(const struct sp_catalog_file *file, const char *digest_key)
{
	return checked(json_pack("{s:s, s:I, s:I}", digest_key, file->sha256.s, "size",
	    (json_int_t)file->size, "pointerSize", (json_int_t)file->pointer_size));
}

static json_t *
file_entry(const struct sp_catalog_revision *rev, const struct sp_catalog_file *file, int expand)
{
	json_t *entry = checked(json_pack("{s:s, s:s, s:I, s:s}", "type", "file", "path",
	    file->path, "size", (json_int_t)file->size, "oid", file->oid.s));

	if (file->lfs)
		json_object_set_new(entry, "lfs", lfs_of(file, "oid"));
	if (expand)
		json_object_set_new(entry, "lastCommit", last_commit(rev));
	return entry;
}

static json_t *
dir_entry(const struct sp_catalog_revision *rev, const struct sp_catalog_dir *dir, int expand)
{
	json_t *entry = checked(json_pack("{s:s, s:s, s:i, s:s}", "type", "directory", "path",
	    dir->path, "size", 0, "oid", dir->oid.s));

	if (expand)
		json_object_set_new(entry, "lastCommit", last_commit(rev));
	return entry;
}

json_t *
sp_listing_entry(const struct sp_catalog_revision *rev, const char *path, int expand)
{
	const struct sp_catalog_file *file = sp_catalog_file(rev, path);
	const struct sp_catalog_dir *dir;

	if (file != NULL)
		return file_entry(rev, file, expand);
	dir = sp_catalog_dir(rev, path);
	return dir != NULL ? dir_entry(rev, dir, expand) : NULL;
}

/* --- a tree -------------------------------------------------------------------------------------
 */

/* A page in the making. */
struct page {
	const struct sp_catalog_revision *rev;
	json_t *list;
	size_t seen, cursor, limit;
	int more, expand;
};

/* 1 when the entry that comes next is in the page. */
static int
wanted(struct page *page)
{
	size_t i = page->seen++;

	if (i < page->cursor)
		return 0;
	if (i - page->cursor >= page->limit) {
		page->more = 1;
		return 0;
	}
	return 1;
}

static void
put_dir(struct page *page, const char *path, size_t len)
{
	char name[SP_PATH_MAX + 1];
	const struct sp_catalog_dir *dir;

	if (!wanted(page))
		return;
	SP_ASSERT(len < sizeof(name));
	memcpy(name, path, len);
	name[len] = '\0';
	dir = sp_catalog_dir(page->rev, name);
	SP_ASSERT(dir != NULL);
	json_array_append_new(page->list, dir_entry(page->rev, dir, page->expand));
}

/* The directories of path, from `prefix` on, that were not those of the file before; with
 * !recursive only the first. Returns 1 when path lies in one. */
static int
put_dirs(struct page *page, const char *before, const char *path, size_t prefix, int recursive)
{
	const char *slash = path + prefix;
	int inside = 0;
	size_t len;

	while ((slash = strchr(slash, '/')) != NULL) {
		inside = 1;
		len = (size_t)(slash - path);
		if (before == NULL || strncmp(before, path, len + 1) != 0)
			put_dir(page, path, len);
		if (!recursive)
			break;
		slash++;
	}
	return inside;
}

json_t *
sp_listing_tree(const struct sp_catalog_revision *rev, const char *path, int recursive, int expand,
    size_t cursor, size_t limit, size_t *next)
{
	struct page page = {.rev = rev, .cursor = cursor, .limit = limit, .expand = expand};
	size_t len = strlen(path), prefix = len > 0 ? len + 1 : 0;
	const char *before = NULL;

	*next = 0;
	if (len > 0 && sp_catalog_dir(rev, path) == NULL)
		return NULL;
	page.list = checked(json_array());
	for (size_t i = 0; i < rev->file_count && !page.more; i++) {
		const struct sp_catalog_file *file = &rev->files[i];
		int inside;

		if (len > 0 && (strncmp(file->path, path, len) != 0 || file->path[len] != '/'))
			continue;
		inside = put_dirs(&page, before, file->path, prefix, recursive);
		before = file->path;
		if ((recursive || !inside) && wanted(&page))
			json_array_append_new(page.list, file_entry(rev, file, expand));
	}
	if (page.more)
		*next = cursor + limit;
	return page.list;
}

/* --- a model ------------------------------------------------------------------------------------
 */

static json_t *
siblings(const struct sp_catalog_revision *rev, enum sp_listing_detail detail)
{
	json_t *list = checked(json_array()), *one;

	for (size_t i = 0; i < rev->file_count; i++) {
		const struct sp_catalog_file *file = &rev->files[i];

		one = checked(json_pack("{s:s}", "rfilename", file->path));
		if (detail == SP_LISTING_BLOBS) {
			json_object_set_new(one, "size", json_integer((json_int_t)file->size));
			json_object_set_new(one, "blobId", json_string(file->oid.s));
			if (file->lfs)
				json_object_set_new(one, "lfs", lfs_of(file, "sha256"));
		}
		json_array_append_new(list, one);
	}
	return list;
}

json_t *
sp_listing_repo(const struct sp_catalog_repo *repo, const struct sp_catalog_revision *rev,
    enum sp_listing_detail detail)
{
	const char *slash = strchr(repo->name, '/');
	json_t *info = checked(
	    json_pack("{s:s, s:s, s:s, s:s, s:s, s:b, s:b, s:b, s:i, s:i, s:I, s:[]}", "_id",
		rev->commit.s, "id", repo->name, "sha", rev->commit.s, "lastModified", rev->time,
		"createdAt", repo->revisions[0].time, "private", 0, "gated", 0, "disabled", 0,
		"downloads", 0, "likes", 0, "usedStorage", (json_int_t)rev->bytes, "tags"));

	if (repo->kind == SP_CATALOG_MODEL)
		json_object_set_new(info, "modelId", json_string(repo->name));
	if (slash != NULL)
		json_object_set_new(
		    info, "author", json_stringn(repo->name, (size_t)(slash - repo->name)));
	if (detail != SP_LISTING_NO_FILES)
		json_object_set_new(info, "siblings", siblings(rev, detail));
	return info;
}

static json_t *
ref(const char *name, const char *kind, const char *commit)
{
	char full[64];

	snprintf(full, sizeof(full), "refs/%s/%s", kind, name);
	return checked(
	    json_pack("{s:s, s:s, s:s}", "name", name, "ref", full, "targetCommit", commit));
}

json_t *
sp_listing_refs(const struct sp_catalog_repo *repo)
{
	json_t *tags = checked(json_array()), *branches = checked(json_array());
	char name[32];

	for (size_t i = 0; i < repo->count; i++) {
		snprintf(name, sizeof(name), "v%" PRId64, repo->revisions[i].version);
		json_array_append_new(tags, ref(name, "tags", repo->revisions[i].commit.s));
	}
	if (repo->count > 0)
		json_array_append_new(
		    branches, ref("main", "heads", repo->revisions[repo->count - 1].commit.s));
	return checked(
	    json_pack("{s:o, s:o, s:[]}", "branches", branches, "tags", tags, "converts"));
}

json_t *
sp_listing_commits(const struct sp_catalog_repo *repo, const struct sp_catalog_revision *rev)
{
	json_t *list = checked(json_array()), *commit;

	for (size_t i = repo->count; i-- > 0;) {
		if (repo->revisions[i].version > rev->version)
			continue;
		commit = last_commit(&repo->revisions[i]);
		json_object_set_new(commit, "message", json_string(""));
		json_object_set_new(commit, "authors", json_array());
		json_array_append_new(list, commit);
	}
	return list;
}
