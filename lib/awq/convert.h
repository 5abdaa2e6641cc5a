/*
 * convert.h -- a model's directory in, a complete quantized one out: what quantd's child and
 * `sallyctl quantize` both run.
 *
 * Beside weights and config.json (awq/emit.h) the new directory holds
 *	README.md                  the source's model card, completed (awq/card.h)
 *	quantization-report.json   canonical JSON, below
 *	quantization-losses.svg    the report's errors (awq/picture.h)
 * and every other file unchanged. What it holds depends on the source's bytes and name, the
 * calibration text, the settings and SP_VERSION, on nothing else: not on the machine, the number of
 * threads, or how often the work was interrupted.
 *
 * The report:
 *	{"calibration": {"blocks", "sequence", "sha256", "skipped", "texts", "tokens"},
 *	 "format": "sallyport-quantization/1",
 *	 "layers": [as in awq/partial.h, …],
 *	 "plan": {as in awq/plan.h},
 *	 "settings": {as in awq/settings.h, without calibration},
 *	 "source": {"name" (when it is known), "tree"}, "version": SP_VERSION}
 */
#ifndef SP_CONVERT_H
#define SP_CONVERT_H

#include "awq/settings.h"

#define SP_CONVERT_REPORT "quantization-report.json"
#define SP_CONVERT_PICTURE "quantization-losses.svg"
#define SP_CONVERT_FORMAT "sallyport-quantization/1"

struct sp_convert {
	const struct sp_settings *settings;
	const char *source; /* directory, only read */
	const char *layers; /* kept between attempts, as sp_quantize's work */
	const char *out;    /* written; what is there is replaced */
	const char *tree;   /* digest of the source */
	const char *name;   /* "org/name" of the source; NULL: not known */
	const uint8_t *calibration;
	size_t calibration_size;
	struct sp_pool *pool;
	/* as in sp_quantize; may be NULL */
	void (*progress)(void *arg, size_t done, size_t total, const json_t *layer);
	void (*inspected)(void *arg, uint64_t done_bytes, uint64_t total_bytes);
	void *arg;
};

/* report: new reference. */
enum sp_code
sp_convert_run(const struct sp_convert *convert, json_t **report, struct sp_err *err) SP_MUST_USE;

#endif
