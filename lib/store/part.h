/*
 * part.h -- a blob in the making that outlives its maker: written anywhere, by several threads, and
 * found again after a crash.
 *
 * DIR/tmp/part-NAME holds the bytes, DIR/tmp/part-NAME.map which of them are on the disk. The name
 * is that of the content (a digest, a git object id), so what lies there is of use to whoever wants
 * the same content. One at a time has it: the file is locked. What is not wanted any more stays
 * until sp_part_sweep.
 *
 * The map:
 *	sallyport-part/1 SIZE\n         decimal
 *	FROM TO\n                       per range of bytes that were synced before the line was
 *                                      written; ranges may overlap; a last line without '\n' is
 *                                      none
 */
#ifndef SP_PART_H
#define SP_PART_H

#include "store/ranges.h"
#include "store/store.h"

#define SP_PART_NAME_MAX 128

struct sp_part;

/* Takes up the part of that name, or begins it: name is of [0-9a-z-], size that of the whole. A
 * part of another size is begun anew. *has (empty) gets what is there. SP_E_STATE: another has it
 * now. SP_E_NO_SPACE: size does not fit the disk. */
enum sp_code sp_part_open(struct sp_store *store, const char *name, uint64_t size,
    struct sp_part **out, struct sp_ranges *has, struct sp_err *err) SP_MUST_USE;
/* Lets go of it; what sp_part_sync has seen is found again. NULL is nothing. */
void sp_part_close(struct sp_part **part);

/* Thread-safe, also beside sp_part_sync. */
enum sp_code sp_part_write(struct sp_part *part, uint64_t offset, const void *data, size_t len,
    struct sp_err *err) SP_MUST_USE;
enum sp_code sp_part_read(
    struct sp_part *part, uint64_t offset, void *data, size_t len, struct sp_err *err) SP_MUST_USE;
/* Syncs the bytes, then notes that written (which was written before the call) is there. One
 * thread at a time. */
enum sp_code
sp_part_sync(struct sp_part *part, const struct sp_ranges *written, struct sp_err *err) SP_MUST_USE;

/* Forgets all that is there, durably, before other bytes are written. */
enum sp_code sp_part_reset(struct sp_part *part, struct sp_err *err) SP_MUST_USE;
/* Makes it the blob of that digest, which the caller has computed over all of its bytes as they lie
 * in the file, and frees it, also on failure. */
enum sp_code
sp_part_publish(struct sp_part **part, const char *digest, struct sp_err *err) SP_MUST_USE;

/* Removes it and frees it: nobody wants it. */
void sp_part_drop(struct sp_part **part);

/* Pure: the ranges of a map of a file of size bytes. Malformed lines end it; *has (empty) keeps
 * what came before. SP_E_INVALID: it is no map, or one of another size. */
enum sp_code sp_part_parse_map(
    const uint8_t *data, size_t len, uint64_t size, struct sp_ranges *has) SP_MUST_USE;

/* Bytes of disk that the part of that name occupies. */
uint64_t sp_part_allocated(const struct sp_store *store, const char *name);
/* Removes the parts that nobody has now and that were last written more than age_s seconds ago. */
void sp_part_sweep(struct sp_store *store, int64_t age_s);

#endif
