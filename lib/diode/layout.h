/* layout.h -- how an object becomes codewords and symbols: arithmetic only, shared by both ends. */
#ifndef SP_LAYOUT_H
#define SP_LAYOUT_H

#include "base/err.h"

#include <stdint.h>

#define SP_LAYOUT_SYMBOLS_MAX 255	/* k + parity of all passes: GF(2^8) without zero */
#define SP_LAYOUT_BLOCKS_MAX (1u << 24) /* codewords of an object: 2.8 TiB at the default */
#define SP_LAYOUT_SYMBOL_MIN 64		/* bytes; ISA-L's kernels want at least a vector */

/*
 * An object of size bytes is cut into codewords of k * symbol_size bytes; codeword b is the
 * object's bytes from b * k * symbol_size on. Symbols 0..k-1 of a codeword are its bytes (source),
 * symbols k..k+parity-1 are the parity rows of all passes together. The last codeword counts as
 * zero-padded to full length; a source symbol that is padding alone is never sent: both ends know
 * it.
 */
struct sp_layout {
	uint64_t size;
	unsigned k;
	unsigned parity;
	unsigned symbol_size;
};

/* SP_E_INVALID when the numbers cannot be a layout, SP_E_LIMIT when there are too many codewords.
 * size 0 is valid and has no codewords. */
enum sp_code sp_layout_check(const struct sp_layout *layout, struct sp_err *err) SP_MUST_USE;

/* The rest wants a checked layout and block < sp_layout_blocks(). */
uint64_t sp_layout_blocks(const struct sp_layout *layout);
/* Bytes of the object that the codeword holds: 1 … k * symbol_size. */
uint64_t sp_layout_block_len(const struct sp_layout *layout, uint64_t block);
uint64_t sp_layout_block_offset(const struct sp_layout *layout, uint64_t block);
/* Source symbols that hold at least one byte of the object: 1 … k. */
unsigned sp_layout_block_symbols(const struct sp_layout *layout, uint64_t block);
int sp_layout_equal(const struct sp_layout *a, const struct sp_layout *b);

#endif
