/* pack.c -- AutoAWQ's GEMM layout of 4-bit codes. */
#include "awq/pack.h"

#include "base/err.h"

/* The order in which the kernel's half2 dequantization leaves eight columns. */
static const size_t order[8] = {0, 2, 4, 6, 1, 3, 5, 7};

void
sp_pack_gemm(const uint8_t *values, size_t columns, size_t rows, uint32_t *words)
{
	SP_ASSERT(columns % 8 == 0);
	for (size_t c = 0; c < columns / 8; c++) {
		for (size_t r = 0; r < rows; r++) {
			uint32_t word = 0;

			for (size_t i = 0; i < 8; i++) {
				uint8_t value = values[(8 * c + order[i]) * rows + r];

				SP_ASSERT(value <= 15);
				word |= (uint32_t)value << (4 * i);
			}
			words[r * (columns / 8) + c] = word;
		}
	}
}

void
sp_pack_gemm_decode(const uint32_t *words, size_t columns, size_t rows, uint8_t *values)
{
	SP_ASSERT(columns % 8 == 0);
	for (size_t c = 0; c < columns / 8; c++) {
		for (size_t r = 0; r < rows; r++) {
			uint32_t word = words[r * (columns / 8) + c];

			for (size_t i = 0; i < 8; i++)
				values[(8 * c + order[i]) * rows + r] = word >> (4 * i) & 15;
		}
	}
}
