/* bpe.h -- byte pair merges of one word. */
#ifndef SP_BPE_H
#define SP_BPE_H

#include "base/err.h"

#include <stdint.h>

/* left, right -> id. */
struct sp_bpe_merge {
	uint32_t left, right, id;
};

struct sp_bpe;

/* merges in order of rank; all ids below ids. SP_E_INVALID when a pair is there twice. */
enum sp_code sp_bpe_new(const struct sp_bpe_merge *merges, size_t count, uint32_t ids,
    struct sp_bpe **out, struct sp_err *err) SP_MUST_USE;
void sp_bpe_free(struct sp_bpe **bpe);

/* Work memory that words share; zero-initialised is empty and valid. */
struct sp_bpe_work {
	struct sp_bpe_symbol *symbols;
	struct sp_bpe_candidate *heap;
	size_t cap, heap_len;
};
void sp_bpe_work_free(struct sp_bpe_work *work);

/* Merges ids[*count] in place: always the pair of lowest rank, of equals the leftmost. Takes
 * n log n steps. */
enum sp_code sp_bpe_run(const struct sp_bpe *bpe, struct sp_bpe_work *work, uint32_t *ids,
    size_t *count, struct sp_err *err) SP_MUST_USE;

#endif
