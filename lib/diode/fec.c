/* fec.c -- Reed-Solomon over GF(2^8) with ISA-L. */
#include "diode/fec.h"

#include <isa-l/erasure_code.h>
#include <stdlib.h>
#include <string.h>

#define TABLE_LEN 32 /* bytes of ISA-L's multiplication table per coefficient */

struct sp_fec {
	unsigned k, parity;
	uint8_t *generator; /* (k + parity) x k; the first k rows are the identity */
	uint8_t *encode;    /* tables of the parity rows [first, first + rows) */
	unsigned first, rows;
	uint8_t *decode; /* tables of the rows that rebuild what is missing */
	uint8_t *matrix; /* those rows, missing x k */
	uint8_t *small;	 /* missing x missing, and its inverse */
	uint8_t *inverse;
};

struct sp_fec *
sp_fec_new(unsigned k, unsigned parity)
{
	struct sp_fec *fec = sp_xcalloc(1, sizeof(*fec));
	/* no more can be rebuilt than there are source symbols or parity rows */
	size_t most = parity < k ? parity : k;

	SP_ASSERT(k >= 1 && k + parity <= SP_LAYOUT_SYMBOLS_MAX);
	fec->k = k;
	fec->parity = parity;
	fec->generator = sp_xcalloc(k + parity, k);
	fec->encode = sp_xcalloc(parity + 1, (size_t)k * TABLE_LEN);
	fec->decode = sp_xcalloc(most + 1, (size_t)k * TABLE_LEN);
	fec->matrix = sp_xcalloc(most + 1, k);
	fec->small = sp_xcalloc(most + 1, most + 1);
	fec->inverse = sp_xcalloc(most + 1, most + 1);
	gf_gen_cauchy1_matrix(fec->generator, (int)(k + parity), (int)k);
	return fec;
}

void
sp_fec_free(struct sp_fec **fec)
{
	if (*fec == NULL)
		return;
	free((*fec)->generator);
	free((*fec)->encode);
	free((*fec)->decode);
	free((*fec)->matrix);
	free((*fec)->small);
	free((*fec)->inverse);
	free(*fec);
	*fec = NULL;
}

void
sp_fec_encode(struct sp_fec *fec, unsigned first, unsigned rows, size_t symbol_size,
    const uint8_t *const source[], uint8_t *const parity[])
{
	unsigned char *in[SP_LAYOUT_SYMBOLS_MAX], *out[SP_LAYOUT_SYMBOLS_MAX];

	SP_ASSERT(first + rows <= fec->parity);
	if (rows == 0)
		return;
	/* a pass asks for the same rows again and again, or for fewer of them */
	if (first != fec->first || rows > fec->rows) {
		ec_init_tables((int)fec->k, (int)rows,
		    fec->generator + (size_t)(fec->k + first) * fec->k, fec->encode);
		fec->first = first;
		fec->rows = rows;
	}
	/* ISA-L takes pointers to plain bytes and writes to its output only */
	memcpy(in, source, fec->k * sizeof(in[0]));
	memcpy(out, parity, rows * sizeof(out[0]));
	ec_encode_data((int)symbol_size, (int)fec->k, (int)rows, fec->encode, in, out);
}

/*
 * Let E be the missing source symbols and P as many parity rows that are there. Each row p of P
 *says parity_p = sum over present i of G[p][i] d_i + sum over e in E of G[p][e] d_e, so d_E =
 *inv(G[P][E]) (parity_P + G[P][present] d_present): a product with |E| rows over the same k inputs,
 *the present sources in their places and the parities in those of the missing. Only an |E| x |E|
 *matrix is inverted (any square part of a Cauchy matrix can be), not a k x k one.
 */
static void
decode_matrix(struct sp_fec *fec, const unsigned *missing, const unsigned *rows, unsigned n)
{
	const unsigned k = fec->k;

	for (unsigned r = 0; r < n; r++)
		for (unsigned c = 0; c < n; c++)
			fec->small[r * n + c] = fec->generator[(size_t)rows[r] * k + missing[c]];
	SP_ASSERT(gf_invert_matrix(fec->small, fec->inverse, (int)n) == 0);
	for (unsigned r = 0; r < n; r++) {
		uint8_t *out = fec->matrix + (size_t)r * k;

		memset(out, 0, k);
		for (unsigned j = 0; j < n; j++) {
			const uint8_t *row = fec->generator + (size_t)rows[j] * k;

			for (unsigned i = 0; i < k; i++)
				out[i] ^= gf_mul(fec->inverse[r * n + j], row[i]);
		}
		for (unsigned j = 0; j < n; j++)
			out[missing[j]] = fec->inverse[r * n + j];
	}
}

enum sp_code
sp_fec_decode(struct sp_fec *fec, size_t symbol_size, uint8_t *const symbols[],
    const uint8_t have[], unsigned *rebuilt, struct sp_err *err)
{
	unsigned missing[SP_LAYOUT_SYMBOLS_MAX], rows[SP_LAYOUT_SYMBOLS_MAX], n = 0, found = 0;
	unsigned char *in[SP_LAYOUT_SYMBOLS_MAX], *out[SP_LAYOUT_SYMBOLS_MAX];

	*rebuilt = 0;
	for (unsigned i = 0; i < fec->k; i++)
		if (!have[i])
			missing[n++] = i;
	for (unsigned i = fec->k; i < fec->k + fec->parity && found < n; i++)
		if (have[i])
			rows[found++] = i;
	if (found < n)
		return sp_err_set(err, SP_E_INCOMPLETE,
		    "%u of %u source symbols lost, %u parity symbols here", n, fec->k, found);
	if (n == 0)
		return SP_OK;
	decode_matrix(fec, missing, rows, n);
	ec_init_tables((int)fec->k, (int)n, fec->matrix, fec->decode);
	memcpy(in, symbols, fec->k * sizeof(in[0]));
	for (unsigned j = 0; j < n; j++) {
		in[missing[j]] = symbols[rows[j]];
		out[j] = symbols[missing[j]];
	}
	ec_encode_data((int)symbol_size, (int)fec->k, (int)n, fec->decode, in, out);
	*rebuilt = n;
	return SP_OK;
}
