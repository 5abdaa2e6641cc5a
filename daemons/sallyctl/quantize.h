/* quantize.h -- one run of the quantizer in this process, shown while it goes. */
#ifndef CTL_QUANTIZE_H
#define CTL_QUANTIZE_H

#include "awq/convert.h"
#include "base/time.h"
#include "show.h"

/* Strings are borrowed; as in struct sp_convert. */
struct ctl_quantize {
	struct ctl_show *show;
	const struct sp_settings *settings;
	const char *source, *layers, *out, *tree, *name;
	const uint8_t *calibration;
	size_t calibration_size;
	unsigned threads; /* 0: one per processor */
	json_t *report;	  /* what came out, owned */
	/* how it goes */
	uint64_t hashed, hash_total;
	int64_t begun_ms;
	size_t first;
};

/* --threads */
enum sp_code ctl_quantize_threads(struct ctl *ctl, unsigned *out, struct sp_err *err) SP_MUST_USE;

/* A directory of work: made when missing, and one process at a time in it; closing *fd lets go. */
enum sp_code ctl_quantize_lock(const char *work, int *fd, struct sp_err *err) SP_MUST_USE;
/* Removes what calls with other inputs (another key) left there. */
void ctl_quantize_sweep(const char *work, const char *key, struct ctl_show *show);

enum sp_code ctl_quantize_run(struct ctl_quantize *quantize, struct sp_err *err) SP_MUST_USE;

#endif
