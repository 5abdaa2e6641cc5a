/*
 * sabotage.c -- linked into quantd-sabotaged in place of lib/awq's packing (ld --wrap): nibbles in
 * plain column order. Everything about the checkpoint looks right,
 * it is signed with quantd's own key, and only a gate that runs the model can tell.
 */
#include "awq/pack.h"

// NOLINTNEXTLINE(bugprone-reserved-identifier): the linker says how it is called
void __wrap_sp_pack_gemm(const uint8_t *values, size_t columns, size_t rows, uint32_t *words);

void
__wrap_sp_pack_gemm(const uint8_t *values, size_t columns, size_t rows, uint32_t *words)
{
	for (size_t r = 0; r < rows; r++) {
		for (size_t c = 0; c < columns / 8; c++) {
			uint32_t word = 0;

			for (size_t i = 0; i < 8; i++)
				word |= (uint32_t)values[(8 * c + i) * rows + r] << (4 * i);
			words[r * (columns / 8) + c] = word;
		}
	}
}
