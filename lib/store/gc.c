/* gc.c -- list, mark, sweep. */
#include "store/gc.h"
#include "base/file.h"
#include "base/time.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SHARDS 256
#define STEP_BLOBS 256 /* so often a sweep says how far it is */

static const char tree_head[] = "sallyport-tree/1\n";

void
sp_gc_clear(struct sp_gc *gc)
{
	free(gc->blobs);
	memset(gc, 0, sizeof(*gc));
}

/* --- marking ---------------------------------------------------------------------------------- */

void
sp_gc_add(struct sp_gc *gc, const uint8_t digest[SP_DIGEST_LEN], uint64_t bytes, int64_t time_ns)
{
	struct sp_gc_blob *blob;

	if (gc->count == gc->cap) {
		gc->cap = gc->cap > 0 ? 2 * gc->cap : 256;
		gc->blobs = sp_xrealloc(gc->blobs, gc->cap, sizeof(*gc->blobs));
	}
	blob = &gc->blobs[gc->count++];
	memcpy(blob->digest, digest, SP_DIGEST_LEN);
	blob->bytes = bytes;
	blob->time_ns = time_ns;
	blob->kept = 0;
}

static int
by_digest(const void *a, const void *b)
{
	return memcmp(((const struct sp_gc_blob *)a)->digest,
	    ((const struct sp_gc_blob *)b)->digest, SP_DIGEST_LEN);
}

void
sp_gc_sort(struct sp_gc *gc)
{
	if (gc->count > 0)
		qsort(gc->blobs, gc->count, sizeof(*gc->blobs), by_digest);
}

struct sp_gc_blob *
sp_gc_find(const struct sp_gc *gc, const uint8_t digest[SP_DIGEST_LEN])
{
	struct sp_gc_blob key = {.bytes = 0};

	if (gc->count == 0)
		return NULL;
	memcpy(key.digest, digest, SP_DIGEST_LEN);
	return bsearch(&key, gc->blobs, gc->count, sizeof(key), by_digest);
}

static struct sp_gc_blob *
find_hex(const struct sp_gc *gc, const char *hex)
{
	uint8_t digest[SP_DIGEST_LEN];

	if (sp_hex_decode(hex, digest, sizeof(digest)) != SP_OK)
		return NULL;
	return sp_gc_find(gc, digest);
}

void
sp_gc_keep_tree(struct sp_gc *gc, const struct sp_tree *tree)
{
	struct sp_gc_blob *blob;
	size_t i;

	for (i = 0; i < tree->count; i++) {
		blob = find_hex(gc, tree->files[i].sha256.s);
		if (blob != NULL)
			blob->kept = 1;
	}
}

int
sp_gc_is_garbage(const struct sp_gc *gc, const struct sp_gc_blob *blob)
{
	return !blob->kept && blob->time_ns < gc->begin_ns;
}

/* Whether the blob begins as trees do. */
static enum sp_code
looks_like_tree(const struct sp_store *store, const char *digest, int *looks, struct sp_err *err)
{
	char head[sizeof(tree_head) - 1];
	enum sp_code code;
	uint64_t size;
	int fd;

	*looks = 0;
	code = sp_store_blob(store, digest, &fd, &size, err);
	if (code != SP_OK)
		return code;
	if (size >= sizeof(head)) {
		code = sp_file_read_all(fd, head, sizeof(head), err);
		if (code != SP_OK && err != NULL)
			sp_err_prefix(err, "blob %s", digest);
		*looks = code == SP_OK && memcmp(head, tree_head, sizeof(head)) == 0;
	}
	close(fd);
	return code;
}

enum sp_code
sp_gc_root(const struct sp_store *store, struct sp_gc *gc, const char *digest, struct sp_err *err)
{
	struct sp_gc_blob *blob = find_hex(gc, digest);
	struct sp_tree tree = {0};
	enum sp_code code;
	int looks;

	if (blob == NULL)
		return SP_OK;
	blob->kept = 1;
	code = looks_like_tree(store, digest, &looks, err);
	if (code != SP_OK || !looks)
		return code;
	code = sp_tree_load(store, digest, &tree, err);
	if (code == SP_OK)
		sp_gc_keep_tree(gc, &tree);
	/* its bytes are those of its digest, but no tree's: a file that begins like one */
	else if (code == SP_E_INVALID || code == SP_E_LIMIT)
		code = SP_OK;
	sp_tree_clear(&tree);
	return code;
}

/* --- listing ---------------------------------------------------------------------------------- */

/* A rename or a change of mode shows in the one, a claim in both. */
static int64_t
newer(const struct stat *st)
{
	int64_t written = sp_time_ns(&st->st_mtim), changed = sp_time_ns(&st->st_ctim);

	return written > changed ? written : changed;
}

/* Now, by the clock that the blobs' times are of: a file made for that purpose tells. */
static enum sp_code
read_clock(struct sp_store *store, int64_t *now_ns, struct sp_err *err)
{
	struct sp_store_writer *w = NULL;
	enum sp_code code;
	struct stat st;

	code = sp_store_begin(store, &w, err);
	if (code == SP_OK && sp_store_stat(w, &st) != 0)
		code = sp_err_errno(err, "cannot tell the time of the store's filesystem");
	if (code == SP_OK)
		*now_ns = newer(&st);
	sp_store_abort(&w);
	return code;
}

/* Files under other names are none of ours. */
static enum sp_code
list_shard(struct sp_gc *gc, const char *path, unsigned shard, struct sp_err *err)
{
	uint8_t digest[SP_DIGEST_LEN];
	char hex[SP_HEX_LEN + 1];
	enum sp_code code = SP_OK;
	struct dirent *entry;
	struct stat st;
	DIR *dir;

	dir = opendir(path);
	if (dir == NULL)
		return sp_err_errno(err, "cannot open directory %s", path);
	while (code == SP_OK) {
		errno = 0;
		entry = readdir(dir);
		if (entry == NULL) {
			if (errno != 0)
				code = sp_err_errno(err, "cannot read directory %s", path);
			break;
		}
		if (strlen(entry->d_name) != SP_HEX_LEN - 2)
			continue;
		snprintf(hex, sizeof(hex), "%02x%s", shard, entry->d_name);
		if (sp_hex_decode(hex, digest, sizeof(digest)) != SP_OK ||
		    fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
		    !S_ISREG(st.st_mode))
			continue;
		if (gc->count == SP_GC_BLOBS_MAX)
			code = sp_err_set(err, SP_E_LIMIT, "more than %d blobs", SP_GC_BLOBS_MAX);
		else
			sp_gc_add(gc, digest, (uint64_t)st.st_size, newer(&st));
	}
	closedir(dir);
	return code;
}

enum sp_code
sp_gc_list(struct sp_store *store, struct sp_gc *gc, struct sp_err *err)
{
	enum sp_code code;
	unsigned i;
	char *path;

	memset(gc, 0, sizeof(*gc));
	code = read_clock(store, &gc->begin_ns, err);
	for (i = 0; code == SP_OK && i < SHARDS; i++) {
		path = sp_xasprintf("%s/sha256/%02x", sp_store_dir(store), i);
		code = list_shard(gc, path, i, err);
		free(path);
	}
	if (code == SP_OK)
		sp_gc_sort(gc);
	else
		sp_gc_clear(gc);
	return code;
}

/* --- sweeping --------------------------------------------------------------------------------- */

enum sp_code
sp_gc_sweep(struct sp_store *store, struct sp_gc *gc, int dry_run, sp_gc_step_fn *step, void *ctx,
    struct sp_gc_counts *counts, struct sp_err *err)
{
	enum sp_code code = SP_OK;
	size_t i;
	int gone;

	memset(counts, 0, sizeof(*counts));
	for (i = 0; code == SP_OK && i < gc->count; i++) {
		const struct sp_gc_blob *blob = &gc->blobs[i];

		if (step != NULL && i % STEP_BLOBS == 0 && step(ctx, i, gc->count))
			return sp_err_set(err, SP_E_CANCELLED, "cancelled");
		gone = sp_gc_is_garbage(gc, blob);
		if (gone && !dry_run)
			code = sp_store_expire(
			    store, sp_hex_of(blob->digest).s, gc->begin_ns, &gone, err);
		if (code != SP_OK)
			break;
		*(gone ? &counts->removed : &counts->kept) += 1;
		*(gone ? &counts->removed_bytes : &counts->kept_bytes) += blob->bytes;
	}
	return code;
}
