/* layout.c -- how an object becomes codewords and symbols. */
#include "diode/layout.h"

static uint64_t
codeword_len(const struct sp_layout *layout)
{
	return (uint64_t)layout->k * layout->symbol_size;
}

enum sp_code
sp_layout_check(const struct sp_layout *layout, struct sp_err *err)
{
	if (layout->k < 1 || layout->parity > SP_LAYOUT_SYMBOLS_MAX ||
	    layout->k + layout->parity > SP_LAYOUT_SYMBOLS_MAX)
		return sp_err_set(err, SP_E_INVALID,
		    "k %u with parity %u: 1 <= k, together at most %d", layout->k, layout->parity,
		    SP_LAYOUT_SYMBOLS_MAX);
	if (layout->symbol_size < SP_LAYOUT_SYMBOL_MIN || layout->symbol_size > UINT16_MAX)
		return sp_err_set(err, SP_E_INVALID, "symbol size %u: at least %d bytes",
		    layout->symbol_size, SP_LAYOUT_SYMBOL_MIN);
	if (layout->size > codeword_len(layout) * SP_LAYOUT_BLOCKS_MAX)
		return sp_err_set(err, SP_E_LIMIT,
		    "object of %llu bytes needs more than %u codewords of %u symbols of %u bytes",
		    (unsigned long long)layout->size, SP_LAYOUT_BLOCKS_MAX, layout->k,
		    layout->symbol_size);
	return SP_OK;
}

uint64_t
sp_layout_blocks(const struct sp_layout *layout)
{
	/* no overflow: size is below codeword_len * SP_LAYOUT_BLOCKS_MAX < 2^48 */
	return (layout->size + codeword_len(layout) - 1) / codeword_len(layout);
}

uint64_t
sp_layout_block_offset(const struct sp_layout *layout, uint64_t block)
{
	return block * codeword_len(layout);
}

uint64_t
sp_layout_block_len(const struct sp_layout *layout, uint64_t block)
{
	uint64_t left = layout->size - sp_layout_block_offset(layout, block);

	return left < codeword_len(layout) ? left : codeword_len(layout);
}

unsigned
sp_layout_block_symbols(const struct sp_layout *layout, uint64_t block)
{
	uint64_t len = sp_layout_block_len(layout, block);

	return (unsigned)((len + layout->symbol_size - 1) / layout->symbol_size);
}

int
sp_layout_equal(const struct sp_layout *a, const struct sp_layout *b)
{
	return a->size == b->size && a->k == b->k && a->parity == b->parity &&
	       a->symbol_size == b->symbol_size;
}
