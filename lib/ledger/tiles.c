/* tiles.c -- a log written as tlog-tiles, and read back. */
#include "ledger/tiles.h"
#include "base/buf.h"
#include "base/file.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STRETCH 65536 /* entries hashed at a time */
#define BUNDLE_MAX ((size_t)SP_TILES_WIDTH * (2 + SP_ENTRY_MAX))

void
sp_tiles_path(int level, uint64_t index, unsigned width, char out[SP_TILES_PATH_MAX])
{
	unsigned groups[8]; /* 2^64 has 20 digits */
	int n = 0, at;

	do {
		groups[n++] = (unsigned)(index % 1000);
		index /= 1000;
	} while (index > 0);
	if (level == SP_TILES_ENTRIES)
		at = snprintf(out, SP_TILES_PATH_MAX, "tile/entries");
	else
		at = snprintf(out, SP_TILES_PATH_MAX, "tile/%d", level);
	while (--n > 0)
		at += snprintf(out + at, (size_t)(SP_TILES_PATH_MAX - at), "/x%03u", groups[n]);
	at += snprintf(out + at, (size_t)(SP_TILES_PATH_MAX - at), "/%03u", groups[0]);
	if (width < SP_TILES_WIDTH)
		at += snprintf(out + at, (size_t)(SP_TILES_PATH_MAX - at), ".p/%u", width);
	SP_ASSERT(at < SP_TILES_PATH_MAX);
}

unsigned
sp_tiles_width(int level, uint64_t index, uint64_t size)
{
	uint64_t hashes;

	if (level == SP_TILES_ENTRIES)
		level = 0;
	hashes = 8 * level < 64 ? size >> (8 * level) : 0;
	if (index > hashes / SP_TILES_WIDTH)
		return 0;
	hashes -= index * SP_TILES_WIDTH;
	return hashes < SP_TILES_WIDTH ? (unsigned)hashes : SP_TILES_WIDTH;
}

/* --- contents --------------------------------------------------------------------------------- */

static void
hash_tile(
    struct sp_merkle_nodes *nodes, int level, uint64_t index, unsigned width, struct sp_buf *out)
{
	uint8_t hash[SP_DIGEST_LEN];
	unsigned i;

	for (i = 0; i < width; i++) {
		SP_ASSERT(sp_merkle_nodes_get(nodes, 8u * (unsigned)level,
			      index * SP_TILES_WIDTH + i, hash, NULL) == SP_OK);
		sp_buf_add(out, hash, sizeof(hash));
	}
}

static void
fill_nodes(struct sp_merkle_nodes *nodes, const struct sp_log_bytes *entries, uint64_t count)
{
	uint8_t(*leaves)[SP_DIGEST_LEN] = sp_xcalloc(STRETCH, sizeof(*leaves));
	uint64_t at;
	size_t n, i;

	for (at = 0; at < count; at += n) {
		n = count - at < STRETCH ? (size_t)(count - at) : STRETCH;
		sp_replay_leaves(entries + at, n, leaves);
		for (i = 0; i < n; i++)
			sp_merkle_nodes_append(nodes, leaves[i]);
	}
	free(leaves);
}

/* Calls fn for each tile of a log of that size: the entry bundles, then every level. A size that is
 * a lie ends at the first bundle that is not there. */
typedef enum sp_code
tile_fn(void *ctx, int level, uint64_t index, unsigned width, struct sp_err *err);

static enum sp_code
each_tile(uint64_t size, tile_fn *fn, void *ctx, struct sp_err *err)
{
	enum sp_code code = SP_OK;
	unsigned width;
	uint64_t i;
	int level;

	for (level = SP_TILES_ENTRIES; level <= 7 && code == SP_OK; level++)
		for (i = 0; (width = sp_tiles_width(level, i, size)) > 0 && code == SP_OK; i++)
			code = fn(ctx, level, i, width, err);
	return code;
}

/* --- export ----------------------------------------------------------------------------------- */

struct sp_tiles_writer {
	char *dir;
	struct sp_merkle_nodes nodes; /* of all entries so far */
	struct sp_buf bundle;	      /* entries since the last full one */
};

static int
is_there(const char *path, const void *data, size_t len)
{
	uint8_t *found;
	size_t found_len;
	int same;

	if (sp_file_read(path, len, &found, &found_len, NULL) != SP_OK)
		return 0;
	same = found_len == len && memcmp(found, data, len) == 0;
	free(found);
	return same;
}

/*
 * Neither synced nor renamed into its place, of which there would be thousands: nothing points to
 * the file before the checkpoint does, and that is written when all are synced (sync_all). What a
 * crash tore is written again by the next export.
 */
static enum sp_code
write_file(const char *dir, const char *name, const void *data, size_t len, struct sp_err *err)
{
	char *path = sp_xasprintf("%s/%s", dir, name), *slash = strrchr(path, '/');
	enum sp_code code = SP_OK;
	int fd;

	if (is_there(path, data, len))
		goto out;
	*slash = '\0';
	code = sp_file_mkdirs(path, 0755, err);
	*slash = '/';
	if (code != SP_OK)
		goto out;
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0) {
		code = sp_err_errno(err, "cannot create %s", path);
		goto out;
	}
	code = sp_file_write_all(fd, data, len, err);
	if (code != SP_OK)
		sp_err_prefix(err, "%s", path);
	close(fd);
out:
	free(path);
	return code;
}

static enum sp_code
write_checkpoint(const char *dir, const uint8_t *data, size_t len, struct sp_err *err)
{
	char *path = sp_xasprintf("%s/checkpoint", dir);
	enum sp_code code = sp_file_mkdirs(dir, 0755, err);

	if (code == SP_OK)
		code = sp_file_sync_fs(dir, err);
	if (code == SP_OK)
		code = sp_file_write(path, 0644, data, len, err);
	free(path);
	return code;
}

static enum sp_code
write_bundle(struct sp_tiles_writer *w, uint64_t index, unsigned width, struct sp_err *err)
{
	char name[SP_TILES_PATH_MAX];
	enum sp_code code;

	sp_tiles_path(SP_TILES_ENTRIES, index, width, name);
	code = write_file(w->dir, name, w->bundle.data, w->bundle.len, err);
	sp_buf_free(&w->bundle);
	return code;
}

/* Bundles were written as they came. */
static enum sp_code
write_hashes(void *ctx, int level, uint64_t index, unsigned width, struct sp_err *err)
{
	struct sp_tiles_writer *w = ctx;
	char name[SP_TILES_PATH_MAX];
	struct sp_buf content = {0};
	enum sp_code code;

	if (level == SP_TILES_ENTRIES)
		return SP_OK;
	sp_tiles_path(level, index, width, name);
	hash_tile(&w->nodes, level, index, width, &content);
	code = write_file(w->dir, name, content.data, content.len, err);
	sp_buf_free(&content);
	return code;
}

/* Its signature is the caller's affair. */
static enum sp_code
parse_checkpoint(const uint8_t *data, size_t len, struct sp_checkpoint *out, struct sp_err *err)
{
	struct sp_note note = {0};
	enum sp_code code;

	code = sp_note_parse(data, len, &note, err);
	if (code == SP_OK)
		code = sp_checkpoint_parse(note.text, note.text_len, out, err);
	sp_note_clear(&note);
	return code;
}

struct sp_tiles_writer *
sp_tiles_writer_new(const char *dir)
{
	struct sp_tiles_writer *w = sp_xcalloc(1, sizeof(*w));

	w->dir = sp_xstrdup(dir);
	return w;
}

enum sp_code
sp_tiles_add(struct sp_tiles_writer *w, const struct sp_log_bytes *entries, size_t count,
    const uint8_t (*leaves)[SP_DIGEST_LEN], struct sp_err *err)
{
	enum sp_code code = SP_OK;
	size_t i;

	for (i = 0; i < count && code == SP_OK; i++) {
		if (entries[i].len > SP_ENTRY_MAX)
			return sp_err_set(err, SP_E_LIMIT,
			    "entry %" PRIu64 " has %zu bytes, at most %d fit a bundle",
			    w->nodes.size, entries[i].len, SP_ENTRY_MAX);
		sp_buf_u16be(&w->bundle, (uint16_t)entries[i].len);
		sp_buf_add(&w->bundle, entries[i].data, entries[i].len);
		sp_merkle_nodes_append(&w->nodes, leaves[i]);
		if (w->nodes.size % SP_TILES_WIDTH == 0)
			code = write_bundle(
			    w, w->nodes.size / SP_TILES_WIDTH - 1, SP_TILES_WIDTH, err);
	}
	return code;
}

enum sp_code
sp_tiles_check(
    struct sp_tiles_writer *w, const uint8_t *checkpoint, size_t checkpoint_len, struct sp_err *err)
{
	uint8_t root[SP_DIGEST_LEN];
	struct sp_checkpoint parsed;
	enum sp_code code;

	code = parse_checkpoint(checkpoint, checkpoint_len, &parsed, err);
	if (code == SP_OK && parsed.size != w->nodes.size)
		code = sp_err_set(err, SP_E_INCOMPLETE,
		    "%" PRIu64 " entries are here, the checkpoint is for %" PRIu64, w->nodes.size,
		    parsed.size);
	if (code == SP_OK)
		code = sp_merkle_root_from(parsed.size, sp_merkle_nodes_get, &w->nodes, root, err);
	if (code == SP_OK && memcmp(root, parsed.root, sizeof(root)) != 0)
		code = sp_err_set(err, SP_E_CORRUPT,
		    "the log of %.100s was altered: its first %" PRIu64
		    " entries have the root %s, the checkpoint was signed for %s",
		    parsed.origin, parsed.size, sp_hex_of(root).s, sp_hex_of(parsed.root).s);
	return code;
}

enum sp_code
sp_tiles_finish(
    struct sp_tiles_writer *w, const uint8_t *checkpoint, size_t checkpoint_len, struct sp_err *err)
{
	unsigned rest = (unsigned)(w->nodes.size % SP_TILES_WIDTH);
	enum sp_code code = sp_tiles_check(w, checkpoint, checkpoint_len, err);

	if (code == SP_OK && rest > 0)
		code = write_bundle(w, w->nodes.size / SP_TILES_WIDTH, rest, err);
	if (code == SP_OK)
		code = each_tile(w->nodes.size, write_hashes, w, err);
	if (code == SP_OK)
		code = write_checkpoint(w->dir, checkpoint, checkpoint_len, err);
	return code;
}

void
sp_tiles_writer_free(struct sp_tiles_writer **writer)
{
	if (*writer == NULL)
		return;
	sp_merkle_nodes_free(&(*writer)->nodes);
	sp_buf_free(&(*writer)->bundle);
	free((*writer)->dir);
	free(*writer);
	*writer = NULL;
}

/* --- import ----------------------------------------------------------------------------------- */

struct reader {
	const char *dir;
	struct sp_tiles_log *log;
	struct sp_merkle_nodes nodes;
};

static enum sp_code
read_file(
    const char *dir, const char *name, size_t max, uint8_t **data, size_t *len, struct sp_err *err)
{
	char *path = sp_xasprintf("%s/%s", dir, name);
	enum sp_code code = sp_file_read(path, max, data, len, err);

	free(path);
	return code;
}

/* Exactly `width` entries, each u16be length and bytes. */
static enum sp_code
split_bundle(const char *name, const uint8_t *data, size_t len, unsigned width,
    struct sp_log_bytes *entries, struct sp_err *err)
{
	size_t at = 0, n;
	unsigned i;

	for (i = 0; i < width; i++) {
		if (len - at < 2)
			break;
		n = (size_t)data[at] << 8 | data[at + 1];
		at += 2;
		if (len - at < n)
			break;
		entries[i].data = data + at;
		entries[i].len = n;
		at += n;
	}
	if (i < width || at != len)
		return sp_err_set(err, SP_E_CORRUPT, "%s: not a bundle of %u entries", name, width);
	return SP_OK;
}

static enum sp_code
read_bundle(void *ctx, int level, uint64_t index, unsigned width, struct sp_err *err)
{
	struct reader *r = ctx;
	struct sp_tiles_log *log = r->log;
	char name[SP_TILES_PATH_MAX];
	enum sp_code code;
	uint8_t *data;
	size_t len;

	if (level != SP_TILES_ENTRIES)
		return SP_OK;
	sp_tiles_path(level, index, width, name);
	code = read_file(r->dir, name, BUNDLE_MAX, &data, &len, err);
	if (code != SP_OK)
		return code;
	log->bundles = sp_xrealloc(log->bundles, log->bundle_count + 1, sizeof(*log->bundles));
	log->bundles[log->bundle_count++] = data;
	log->entries = sp_xrealloc(log->entries, log->count + width, sizeof(*log->entries));
	code = split_bundle(name, data, len, width, log->entries + log->count, err);
	if (code == SP_OK)
		log->count += width;
	return code;
}

static enum sp_code
compare_tile(void *ctx, int level, uint64_t index, unsigned width, struct sp_err *err)
{
	struct reader *r = ctx;
	char name[SP_TILES_PATH_MAX];
	struct sp_buf want = {0};
	enum sp_code code;
	uint8_t *data = NULL;
	size_t len;

	if (level == SP_TILES_ENTRIES)
		return SP_OK;
	sp_tiles_path(level, index, width, name);
	hash_tile(&r->nodes, level, index, width, &want);
	code = read_file(r->dir, name, (size_t)SP_TILES_WIDTH * SP_DIGEST_LEN, &data, &len, err);
	// NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): no tile is empty
	if (code == SP_OK && (len != want.len || memcmp(data, want.data, len) != 0))
		code = sp_err_set(
		    err, SP_E_CORRUPT, "%s: not the hashes of the entries beside it", name);
	free(data);
	sp_buf_free(&want);
	return code;
}

enum sp_code
sp_tiles_import(const char *dir, struct sp_tiles_log *out, struct sp_err *err)
{
	struct reader r = {.dir = dir, .log = out};
	struct sp_checkpoint checkpoint = {.size = 0};
	enum sp_code code;

	memset(out, 0, sizeof(*out));
	code =
	    read_file(dir, "checkpoint", SP_NOTE_MAX, &out->checkpoint, &out->checkpoint_len, err);
	if (code == SP_OK)
		code = parse_checkpoint(out->checkpoint, out->checkpoint_len, &checkpoint, err);
	if (code == SP_OK)
		code = each_tile(checkpoint.size, read_bundle, &r, err);
	if (code == SP_OK) {
		fill_nodes(&r.nodes, out->entries, out->count);
		code = each_tile(checkpoint.size, compare_tile, &r, err);
	}
	sp_merkle_nodes_free(&r.nodes);
	if (code != SP_OK)
		sp_tiles_clear(out);
	return code;
}

void
sp_tiles_clear(struct sp_tiles_log *log)
{
	size_t i;

	for (i = 0; i < log->bundle_count; i++)
		free(log->bundles[i]);
	free(log->bundles);
	free(log->entries);
	free(log->checkpoint);
	memset(log, 0, sizeof(*log));
}
