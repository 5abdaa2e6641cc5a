/* spool.h -- where received codewords lie until their object is whole, and after a crash. */
#ifndef SP_SPOOL_H
#define SP_SPOOL_H

#include "base/hash.h"
#include "diode/frame.h"

/*
 * Files of the spool directory, nothing else is in it:
 *	ID.part      (32 hex digits) the object's bytes, codewords at their offsets
 *	ID.journal   which codewords of ID.part are on disk for certain
 *	DIGEST       (64 hex digits) a whole object whose SHA-256 was verified, then synced
 *
 * Journal: a header of 48 bytes, then records of 16; integers big-endian, crc is CRC-32C.
 *	header: "SPJ1" | u8 flags (1 manifest) | u8 k | u8 parity | u8 0 | u16 symbol size | u16 0 |
 *	        id[16] | u64 object size | u64 0 | u32 crc of the 44 bytes before
 *	record: u64 first codeword | u32 count | u32 crc of the 12 bytes before, seeded with the
 *	        header's crc
 * A record is appended after its codewords were synced. At the first record that is short or whose
 * crc is wrong the journal ends. Writing is for one thread; sp_spool_verify may run on another.
 */
struct sp_spool;

/* Creates dir (0700) when missing and locks it against a second receiver (SP_E_STATE). */
enum sp_code sp_spool_open(const char *dir, struct sp_spool **out, struct sp_err *err) SP_MUST_USE;
void sp_spool_close(struct sp_spool **spool); /* flushes as far as possible */

/* What is there from before. complete: one bit per codeword, valid during the call. Files that
 * belong to nothing are removed. */
struct sp_spool_visitor {
	void (*part)(void *ctx, const struct sp_object_id *id, const struct sp_layout *layout,
	    int is_manifest, const uint8_t *complete);
	void (*verified)(void *ctx, const uint8_t digest[SP_DIGEST_LEN], uint64_t size);
	void *ctx;
};
enum sp_code sp_spool_load(
    struct sp_spool *spool, const struct sp_spool_visitor *visitor, struct sp_err *err) SP_MUST_USE;

/* Writes one codeword at its place; journaled at the next flush at the latest. */
enum sp_code sp_spool_write(struct sp_spool *spool, const struct sp_object_id *id,
    const struct sp_layout *layout, int is_manifest, uint64_t block, const uint8_t *data,
    struct sp_err *err) SP_MUST_USE;
/* Syncs what was written and journals it, for all objects. */
enum sp_code sp_spool_flush(struct sp_spool *spool, struct sp_err *err) SP_MUST_USE;
/* All codewords of an object are written: closes its files. */
void sp_spool_finish(struct sp_spool *spool, const struct sp_object_id *id);
void sp_spool_drop(struct sp_spool *spool, const struct sp_object_id *id);
void sp_spool_drop_verified(struct sp_spool *spool, const uint8_t digest[SP_DIGEST_LEN]);

/*
 * Reads a finished object back and hashes it (size 0: makes it). When the digest begins with id, an
 * object becomes the file DIGEST, synced; a manifest stays as it is, and its bytes are returned in
 * *data (malloc'd). A digest that does not is no error here: the caller compares.
 */
enum sp_code
sp_spool_verify(const struct sp_spool *spool, const struct sp_object_id *id, uint64_t size,
    int is_manifest, uint8_t digest[SP_DIGEST_LEN], uint8_t **data, struct sp_err *err) SP_MUST_USE;

/* malloc'd path of a verified object. */
char *sp_spool_path(const struct sp_spool *spool, const uint8_t digest[SP_DIGEST_LEN]);

#endif
