/* rxd_verify.c -- everything is verified before anything is kept. */
#include "base/file.h"
#include "rxd.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* What this machine could not do says nothing about the release: another attempt may. */
static enum sp_code
our_fault(enum sp_code code, struct sp_err *err)
{
	if (code != SP_OK && !sp_err_may_retry(code))
		code = err->code = SP_E_IO;
	return code;
}

static int
is_named(const struct sp_manifest *manifest, const char *digest)
{
	for (size_t i = 0; i < manifest->count; i++)
		if (strcmp(sp_hex_of(manifest->objects[i].digest).s, digest) == 0)
			return 1;
	return 0;
}

/* Neither in the spool nor in the store. Only what the transfer never promised is its fault. */
static enum sp_code
missing(const struct rxd_source *source, const char *digest, const char *what, struct sp_err *err)
{
	if (source->manifest != NULL && !is_named(source->manifest, digest))
		return sp_err_set(err, SP_E_DENIED, "%s: object %s was neither sent nor is it here",
		    what, digest);
	return sp_err_set(err, SP_E_INCOMPLETE,
	    "%s: object %s is not here (any more): send the release again", what, digest);
}

/* A blob of our own that the disk has spoilt would stand in the way of every transfer that brings
 * it, because the receiver does not await what is here. */
static enum sp_code
damaged(const struct rxd_source *source, const char *digest, const char *what, struct sp_err *err)
{
	enum sp_code code = sp_store_remove(source->store, digest, err);

	if (code != SP_OK)
		return our_fault(code, err);
	return sp_err_set(err, SP_E_INCOMPLETE,
	    "%s: blob %s of the store was damaged and is removed: send the release again, and look "
	    "after the disk",
	    what, digest);
}

/* malloc'd path of an object in the spool; NULL when it is not there. */
static char *
spooled(const struct rxd_source *source, const char *digest)
{
	char *path = sp_xasprintf("%s/%s", source->spool_dir, digest);
	struct stat st;

	if (source->manifest != NULL && lstat(path, &st) == 0 && S_ISREG(st.st_mode))
		return path;
	free(path);
	return NULL;
}

/* A small object whole, hashed: from the spool, else from our store. */
static enum sp_code
read_object(const struct rxd_source *source, const char *digest, const char *what, size_t max,
    uint8_t **data, size_t *len, struct sp_err *err)
{
	char *path = spooled(source, digest);
	enum sp_code code;

	if (path == NULL) {
		code = sp_store_read(source->store, digest, max, data, len, err);
		if (code == SP_E_NOT_FOUND)
			return missing(source, digest, what, err);
		if (code == SP_E_CORRUPT)
			return damaged(source, digest, what, err);
		return code == SP_E_LIMIT ? code : our_fault(code, err);
	}
	code = sp_file_read(path, max, data, len, err);
	free(path);
	if (code != SP_OK)
		return code == SP_E_LIMIT ? code : our_fault(code, err);
	if (strcmp(sp_sha256_hex(*data, *len).s, digest) == 0)
		return SP_OK;
	free(*data);
	*data = NULL;
	return sp_err_set(err, SP_E_CORRUPT, "%s: object %s has other bytes", what, digest);
}

static enum sp_code
verify_release(const struct rxd_source *source, const struct sp_trust *trust, const char *job,
    const char *release, struct sp_release **out, const char **check, struct sp_err *err)
{
	uint8_t *data = NULL;
	size_t len;
	enum sp_code code;

	*check = "release";
	if ((code = read_object(source, release, "release", SP_RELEASE_MAX, &data, &len, err)))
		return code;
	code = sp_release_verify(trust, data, len, out, check, err);
	free(data);
	if (code != SP_OK)
		return code;
	*check = "candidate";
	return rxd_check_candidate(
	    &(*out)->candidate, job, sp_conf_string(source->conf, "diode-rxd.destination"), err);
}

static enum sp_code
read_listing(
    const struct rxd_source *source, const char *listing, struct sp_tree *tree, struct sp_err *err)
{
	uint8_t *data = NULL;
	size_t len;
	enum sp_code code;

	if ((code = read_object(source, listing, "tree", SP_TREE_BYTES_MAX, &data, &len, err)))
		return code;
	code = sp_tree_parse(data, len, tree, err);
	free(data);
	return code;
}

/* Into the store, where nothing names it yet: hashed while it is copied, or where it lies when it
 * was there before. */
static enum sp_code
take_object(const struct rxd_source *source, const char *digest, const char *what, uint64_t *size,
    struct sp_err *err)
{
	char *path = spooled(source, digest);
	enum sp_code code;

	if (path != NULL) {
		code = sp_store_put_file(source->store, path, digest, NULL, size, err);
		free(path);
		if (code != SP_OK && code != SP_E_CORRUPT)
			code = our_fault(code, err);
		return code == SP_OK ? SP_OK : sp_err_prefix(err, "%s", what);
	}
	code = sp_store_verify(source->store, digest, size, NULL, NULL, err);
	if (code == SP_E_NOT_FOUND)
		return missing(source, digest, what, err);
	if (code == SP_E_CORRUPT)
		return damaged(source, digest, what, err);
	return our_fault(code, err);
}

static enum sp_code
take_files(const struct rxd_source *source, const struct sp_tree *tree, rxd_progress_fn *progress,
    void *ctx, struct sp_err *err)
{
	uint64_t done = 0, size;
	enum sp_code code;

	for (size_t i = 0; i < tree->count; i++) {
		const struct sp_tree_file *file = &tree->files[i];

		if ((code = take_object(source, file->sha256.s, file->path, &size, err)))
			return code;
		if (size != file->size)
			return sp_err_set(err, SP_E_DENIED, "%s has %llu bytes, its tree says %llu",
			    file->path, (unsigned long long)size, (unsigned long long)file->size);
		if (progress(ctx, done += file->size, sp_tree_bytes(tree)) != 0)
			return sp_err_set(err, SP_E_CANCELLED, "cancelled");
	}
	return SP_OK;
}

enum sp_code
rxd_verify(const struct rxd_source *source, const struct sp_trust *trust, const char *job,
    const char *release, rxd_progress_fn *progress, void *ctx, struct sp_release **out,
    struct sp_tree *tree, const char **check, struct sp_err *err)
{
	const char *listing;
	uint64_t size;
	enum sp_code code;

	if ((code = verify_release(source, trust, job, release, out, check, err)))
		return code;
	listing = (*out)->candidate.tree.s;
	*check = "tree";
	if ((code = read_listing(source, listing, tree, err)))
		return code;
	if (source->manifest != NULL &&
	    (code = rxd_check_objects(source->manifest, listing, tree, err)))
		return code;
	*check = "files";
	if ((code = take_files(source, tree, progress, ctx, err)))
		return code;
	/* last: where these two are, all that they name is */
	if ((code = take_object(source, listing, "tree", &size, err)))
		return code;
	return take_object(source, release, "release", &size, err);
}
