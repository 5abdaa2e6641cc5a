/* tx.h -- the sender's core: objects in, symbols of a pass out; no socket, no clock. */
#ifndef SP_TX_H
#define SP_TX_H

#include "diode/frame.h"
#include "diode/manifest.h"

/*
 * A pass is: the manifest, the objects in the order of the manifest, the manifest again (closing).
 * Up to interleave codewords are sent at the same time, symbols round-robin, so that a burst of
 * lost datagrams costs each of them little; they may belong to different objects, and a codeword
 * with fewer symbols has its own spread over the whole round. The manifests go in rounds of their
 * own, because nothing else can be placed before the receiver has one.
 *
 * Parity: pass p sends rows p*m … p*m+m-1 while the code has that many, then begins again at row 0.
 * A codeword of n < k source symbols gets m*n/k of them, rounded up, but at least 8 (never more
 * than m): a percentage of a handful would protect nothing. Manifests always get m.
 *
 * Memory: interleave * (k + m) * symbol_size bytes; 256, 128, 32, 1,344 make 52.5 MiB.
 */
struct sp_tx_config {
	unsigned k;	      /* 128 */
	unsigned m;	      /* parity rows per pass, 32; 1 <= m, k + m <= 255 */
	unsigned passes;      /* 1 … 255 */
	unsigned symbol_size; /* SP_FRAME_SYMBOL_DEFAULT; <= SP_FRAME_SYMBOL_MAX */
	unsigned interleave;  /* 256; 1 … 1,024 */
	/* 0: passes after the first send parity only while the code has new rows: a quarter of the
	 * bytes, but nothing for a receiver that missed most of a codeword. 1: source symbols in
	 * every pass. */
	int repeat_source;
};

/* Defaults in the comments above, 1 pass. */
void sp_tx_defaults(struct sp_tx_config *config);
/* Rows that all passes use together, as in every header: min(m * 3, 255 - k). */
unsigned sp_tx_parity(const struct sp_tx_config *config);

/* Reads exactly len bytes of manifest->objects[object] at offset; offsets of an object ascend
 * without gap, from 0 in each pass. Errors are passed on. */
typedef enum sp_code sp_tx_read_fn(
    void *ctx, size_t object, uint64_t offset, uint8_t *out, size_t len, struct sp_err *err);

struct sp_tx;

/* Checks config and manifest (copied), and that every object fits the layout. */
enum sp_code sp_tx_new(const struct sp_tx_config *config, const struct sp_manifest *manifest,
    sp_tx_read_fn *read, void *ctx, struct sp_tx **out, struct sp_err *err) SP_MUST_USE;
void sp_tx_free(struct sp_tx **tx);

unsigned sp_tx_passes(const struct sp_tx *tx);

/* Starts pass 0 … passes - 1. */
void sp_tx_start(struct sp_tx *tx, unsigned pass);

/*
 * The next symbol: frame without session and counter (sp_link_seal sets them), and *payload, which
 * is valid until the next call and NULL at the end of the pass. The bytes of each object are hashed
 * as they are read: SP_E_CORRUPT names the object whose digest they do not have. After an error
 * only sp_tx_start and sp_tx_free may follow.
 */
enum sp_code sp_tx_next(struct sp_tx *tx, struct sp_frame *frame, const uint8_t **payload,
    struct sp_err *err) SP_MUST_USE;

/* Bytes of objects, manifests not counted, whose symbols this pass has begun to send, and in all.
 */
void sp_tx_progress(const struct sp_tx *tx, uint64_t *done, uint64_t *total);

#endif
