/*
 * race.h -- which of several candidates causes the least loss, without measuring all on everything.
 *
 * A loss is a sum over units (a token, or some that hang together). All candidates are measured on
 * some units, spread evenly over all; those that are worse than the best beyond doubt drop out, the
 * others go on with more units, until one is left or the units end. What is compared is the paired
 * difference of two candidates, unit by unit: they err on the same tokens, and its spread is far
 * less than that of either. The decisions follow from the losses alone.
 */
#ifndef SP_RACE_H
#define SP_RACE_H

#include <stddef.h>
#include <stdint.h>

#define SP_RACE_UNITS_MIN 24 /* fewer say too little of the spread */
/* Standard errors that a difference must be from 0: one chance in 30,000 to be wrong, where units
 * are many and apart. Of 24 units, one in 3,600; and neighbours in a sequence are alike, which
 * makes true standard errors of attention up to 1.5 times those computed (tests/fixtures). */
#define SP_RACE_DOUBT 4.0

/*
 * losses[count][stride] of units 0 … units-1 of `all`; alive[count]: 1 where a candidate is still
 * in the race, and cleared where it drops out: its loss is not finite, or significantly above that
 * of the best, with the share of units that are not seen yet as what is unknown (when none is, any
 * difference tells). Returns the best, the first of equals; count when no loss is finite.
 */
size_t sp_race_cut(
    const float *losses, size_t stride, size_t count, size_t units, size_t all, uint8_t *alive);

/* The order in which to take pieces 0 … count-1, so that the first ones of it lie evenly between
 * all: van der Corput's, bits of the rank reversed. */
void sp_race_order(size_t count, size_t *order);
/* How many pieces of count follow `done` in the next round. */
size_t sp_race_next(size_t count, size_t done);

#endif
