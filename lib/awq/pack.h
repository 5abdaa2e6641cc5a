/* pack.h -- AutoAWQ's GEMM layout of 4-bit codes. */
#ifndef SP_PACK_H
#define SP_PACK_H

#include <stddef.h>
#include <stdint.h>

/*
 * Packs values[columns][rows] (0..15), transposed, into words[rows][columns / 8]: bits 4i..4i+3 of
 * word c hold column 8c + {0,2,4,6,1,3,5,7}[i]. For qweight columns is out and rows is in, for
 * qzeros columns is out and rows is the number of groups. columns is a multiple of 8; a value above
 * 15 is a programmer error.
 */
void sp_pack_gemm(const uint8_t *values, size_t columns, size_t rows, uint32_t *words);
/* The other way. */
void sp_pack_gemm_decode(const uint32_t *words, size_t columns, size_t rows, uint8_t *values);

#endif
