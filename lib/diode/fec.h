/* fec.h -- Reed-Solomon over GF(2^8) with ISA-L: parity of a codeword, and its lost symbols back.
 */
#ifndef SP_FEC_H
#define SP_FEC_H

#include "diode/layout.h"

/*
 * Systematic code with a Cauchy generator (gf_gen_cauchy1_matrix): any k of the k + parity symbols
 * give back the codeword. (ISA-L's Vandermonde generator does not keep that promise from five
 * parity rows on, isa-l issue 46.) One object serves one thread: it holds tables and scratch,
 * at most 5 MiB.
 */
struct sp_fec;

/* k and parity as sp_layout_check allows them. */
struct sp_fec *sp_fec_new(unsigned k, unsigned parity);
void sp_fec_free(struct sp_fec **fec);

/* Computes parity rows first … first + rows - 1 from the k source symbols of symbol_size bytes. */
void sp_fec_encode(struct sp_fec *fec, unsigned first, unsigned rows, size_t symbol_size,
    const uint8_t *const source[], uint8_t *const parity[]);

/*
 * symbols: k + parity pointers. have[i] != 0: symbols[i] holds that symbol. A source symbol that is
 * not there must point at symbol_size writable bytes and is rebuilt; parity that is not there may
 * be NULL. *rebuilt: how many were. SP_E_INCOMPLETE, with nothing touched, when fewer than k are.
 */
enum sp_code sp_fec_decode(struct sp_fec *fec, size_t symbol_size, uint8_t *const symbols[],
    const uint8_t have[], unsigned *rebuilt, struct sp_err *err) SP_MUST_USE;

#endif
