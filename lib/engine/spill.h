/* spill.h -- rows of values in memory or, when they are many, in a file that has no name. */
#ifndef SP_SPILL_H
#define SP_SPILL_H

#include "base/err.h"

/* Zero-initialised is empty. */
struct sp_spill {
	float *values; /* read and write them like any memory */
	size_t count;
	int mapped; /* they lie in the file */
};

/*
 * count values of 0. When they take more than bound bytes they lie in a file in dir, whose space is
 * taken at once (SP_E_NO_SPACE: nothing fails later) and given back with the last use, also after
 * kill -9: it has no name.
 */
enum sp_code sp_spill_open(struct sp_spill *spill, size_t count, size_t bound, const char *dir,
    struct sp_err *err) SP_MUST_USE;
void sp_spill_close(struct sp_spill *spill);

/* Those values are not used for a while: they need no memory until then. */
void sp_spill_rest(const struct sp_spill *spill, size_t first, size_t count);

#endif
