/*
 * tiles.h -- a log as static files that third-party tools read: c2sp.org/tlog-tiles.
 *
 *	checkpoint			signed note
 *	tile/L/N[.p/W]			hashes of level L: MTH of 256^L leaves each, 256 a tile
 *	tile/entries/N[.p/W]		entries, each u16be length and bytes, 256 a bundle
 *
 * N is written in groups of three digits, all but the last with an x in front: 1234067 is
 * x001/x234/067. W, 1 to 255, stands only on the last, partial tile of a level.
 */
#ifndef SP_TILES_H
#define SP_TILES_H

#include "ledger/log.h"
#include "ledger/merkle.h"

#define SP_TILES_WIDTH 256
#define SP_TILES_PATH_MAX 64
#define SP_TILES_ENTRIES (-1) /* the "level" of entry bundles */

/* Path of a tile; width 256 is a full one. */
void sp_tiles_path(int level, uint64_t index, unsigned width, char out[SP_TILES_PATH_MAX]);
/* Hashes in tile `index` of a level when the log has `size` entries: 0 (no such tile) to 256. */
unsigned sp_tiles_width(int level, uint64_t index, uint64_t size);

/*
 * Writes a log under dir (made when missing), bundle by bundle as its entries come, the checkpoint
 * last. What an earlier export of the same log left is used where it is right, so that an
 * interrupted one goes on; until the new one is whole, the checkpoint is the earlier one, or none.
 * 64 bytes an entry are held in memory.
 */
struct sp_tiles_writer;
struct sp_tiles_writer *sp_tiles_writer_new(const char *dir);
/* The next entries and their leaf hashes (sp_replay_leaves). */
enum sp_code sp_tiles_add(struct sp_tiles_writer *writer, const struct sp_log_bytes *entries,
    size_t count, const uint8_t (*leaves)[SP_DIGEST_LEN], struct sp_err *err) SP_MUST_USE;
/* Whether the checkpoint is for exactly the entries that were added: SP_E_INCOMPLETE, SP_E_CORRUPT.
 */
enum sp_code sp_tiles_check(struct sp_tiles_writer *writer, const uint8_t *checkpoint,
    size_t checkpoint_len, struct sp_err *err) SP_MUST_USE;
/* The same, and all is written. The checkpoint's signature and what the entries say must be
 * verified by the caller before. */
enum sp_code sp_tiles_finish(struct sp_tiles_writer *writer, const uint8_t *checkpoint,
    size_t checkpoint_len, struct sp_err *err) SP_MUST_USE;
void sp_tiles_writer_free(struct sp_tiles_writer **writer);

/* An exported log in memory. */
struct sp_tiles_log {
	struct sp_log_bytes *entries;
	uint64_t count;
	uint8_t *checkpoint;
	size_t checkpoint_len;
	uint8_t **bundles; /* what entries point into */
	size_t bundle_count;
};
/*
 * Reads checkpoint and entry bundles, and checks that the hash tiles are those of the entries:
 * SP_E_CORRUPT names the file. Proves nothing by itself; sp_log_verify does. Free with _clear.
 */
enum sp_code
sp_tiles_import(const char *dir, struct sp_tiles_log *out, struct sp_err *err) SP_MUST_USE;
void sp_tiles_clear(struct sp_tiles_log *log);

#endif
