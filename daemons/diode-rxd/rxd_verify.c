/* rxd_verify.c -- everything is verified before anything is kept; what fails goes into quarantine.
 */
#include "base/file.h"
#include "base/json.h"
#include "base/path.h"
#include "base/time.h"
#include "bus/paths.h"
#include "rxd.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Who holds the link key, but no release key, must not fill the disk: beyond so many only the
 * reasons are kept. */
#define QUARANTINE_MAX 64

static char *
spool_path(const struct rxd_source *source, const char *digest)
{
	return sp_xasprintf("%s/%s", source->spool_dir, digest);
}

static int
is_spooled(const struct rxd_source *source, const char *digest)
{
	struct stat st;
	char *path = spool_path(source, digest);
	int there = source->manifest != NULL && lstat(path, &st) == 0 && S_ISREG(st.st_mode);

	free(path);
	return there;
}

/* A small object whole, hashed: from the spool, else from our store. */
static enum sp_code
read_object(const struct rxd_source *source, const char *digest, size_t max, uint8_t **data,
    size_t *len, struct sp_err *err)
{
	char *path = spool_path(source, digest);
	enum sp_code code;

	if (!is_spooled(source, digest)) {
		code = sp_store_read(source->store, digest, max, data, len, err);
		if (code == SP_E_NOT_FOUND)
			code = sp_err_set(err, SP_E_DENIED, "object %s did not come", digest);
	} else if ((code = sp_file_read(path, max, data, len, err)) == SP_OK &&
		   strcmp(sp_sha256_hex(*data, *len).s, digest) != 0) {
		free(*data);
		*data = NULL;
		code = sp_err_set(err, SP_E_CORRUPT, "object %s has other bytes", digest);
	}
	free(path);
	return code;
}

static enum sp_code
verify_release(const struct rxd_source *source, const struct sp_trust *trust, const char *job,
    const char *release, struct sp_release **out, const char **check, struct sp_err *err)
{
	uint8_t *data = NULL;
	size_t len;
	enum sp_code code;

	*check = "release";
	if ((code = read_object(source, release, SP_RELEASE_MAX, &data, &len, err)))
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

	if ((code = read_object(source, listing, SP_TREE_BYTES_MAX, &data, &len, err)) == SP_OK)
		code = sp_tree_parse(data, len, tree, err);
	free(data);
	return code;
}

/* Into the store: each blob is hashed while it is copied, and must have the size that the listing
 * says. Nothing names these blobs until the last of them is there. */
static enum sp_code
take_blob(const struct rxd_source *source, const char *digest, uint64_t want_bytes,
    const char *what, struct sp_err *err)
{
	struct sp_hex hex;
	uint64_t size = 0;
	char *path;
	enum sp_code code = SP_OK;

	if (is_spooled(source, digest)) {
		path = spool_path(source, digest);
		code = sp_store_put_file(source->store, path, digest, &hex, &size, err);
		free(path);
	} else if (want_bytes == 0 && strcmp(digest, sp_sha256_hex("", 0).s) == 0) {
		code = sp_store_put(source->store, "", 0, &hex, err);
	} else if (!sp_store_has(source->store, digest, &size)) {
		return sp_err_set(
		    err, SP_E_DENIED, "%s: object %s did not come, send it again", what, digest);
	}
	if (code != SP_OK)
		return sp_err_prefix(err, "%s", what);
	if (size != want_bytes)
		return sp_err_set(err, SP_E_DENIED, "%s has %llu bytes, its tree says %llu", what,
		    (unsigned long long)size, (unsigned long long)want_bytes);
	return SP_OK;
}

static enum sp_code
take_all(const struct rxd_source *source, const char *release, const char *listing,
    const struct sp_tree *tree, void (*progress)(void *, uint64_t, uint64_t), void *ctx,
    struct sp_err *err)
{
	uint64_t done = 0, total = sp_tree_bytes(tree);
	const char *last[] = {listing, release};
	struct sp_hex hex;
	enum sp_code code = SP_OK;

	for (size_t i = 0; i < tree->count; i++) {
		const struct sp_tree_file *file = &tree->files[i];

		if ((code = take_blob(source, file->sha256.s, file->size, file->path, err)))
			return code;
		progress(ctx, done += file->size, total);
	}
	/* what was in the store before this transfer is hashed now; what came, was */
	if ((code = sp_tree_verify(source->store, tree, err)))
		return code;
	for (size_t i = 0; i < 2; i++) {
		uint8_t *data;
		size_t len;

		if ((code = read_object(source, last[i], SP_TREE_BYTES_MAX, &data, &len, err)))
			return code;
		code = sp_store_put(source->store, data, len, &hex, err);
		free(data);
		if (code != SP_OK)
			return code;
	}
	return SP_OK;
}

enum sp_code
rxd_verify(const struct rxd_source *source, const struct sp_trust *trust, const char *job,
    const char *release, void (*progress)(void *, uint64_t, uint64_t), void *ctx,
    struct sp_release **out, struct sp_tree *tree, const char **check, struct sp_err *err)
{
	const char *listing;
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
	return take_all(source, release, listing, tree, progress, ctx, err);
}

/* --- quarantine --- */

/* How many transfers are quarantined already. */
static unsigned
entries(const char *state)
{
	char *path = sp_xasprintf("%s/quarantine", state);
	DIR *dir = opendir(path);
	unsigned count = 0;

	while (dir != NULL && readdir(dir) != NULL)
		count++;
	if (dir != NULL)
		closedir(dir);
	free(path);
	return count;
}

/* A second name for the spool's file, so that the receiver may forget the first. */
static enum sp_code
keep_object(const struct rxd_source *source, const char *dir, const struct sp_object *object,
    struct sp_err *err)
{
	struct sp_hex hex = sp_hex_of(object->digest);
	char *from = spool_path(source, hex.s), *to = sp_xasprintf("%s/%s", dir, hex.s);
	enum sp_code code = SP_OK;

	if (is_spooled(source, hex.s) && link(from, to) != 0 && errno != EEXIST)
		code = sp_err_errno(err, "quarantine %s", to);
	free(from);
	free(to);
	return code;
}

enum sp_code
rxd_quarantine(const struct rxd_source *source, const char *job, const char *check,
    const char *reason, struct sp_err *err)
{
	char *state = sp_paths_state(source->conf, RXD_SERVICE);
	char *dir = sp_xasprintf("%s/quarantine/%s", state, job);
	char *path = sp_xasprintf("%s/reason.json", dir), *text;
	int keep = source->manifest != NULL && entries(state) < QUARANTINE_MAX;
	struct sp_rfc3339 now = sp_time_rfc3339(sp_time_unix_ms());
	json_t *root = json_pack(
	    "{s:s, s:s, s:s, s:s}", "check", check, "job", job, "reason", reason, "time", now.s);
	enum sp_code code;
	size_t len;

	SP_ASSERT(root != NULL);
	text = sp_json_canonical(root, &len);
	if ((code = sp_file_mkdirs(dir, 0700, err)) ||
	    (code = sp_file_write(path, 0400, text, len, err)))
		goto out;
	for (size_t i = 0; keep && i < source->manifest->count; i++) {
		if ((code = keep_object(source, dir, &source->manifest->objects[i], err)))
			goto out;
	}
	code = sp_file_sync_dir(dir, err);
out:
	free(text);
	json_decref(root);
	free(path);
	free(dir);
	free(state);
	return code;
}
