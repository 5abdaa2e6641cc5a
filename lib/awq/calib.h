/* calib.h -- calibration texts as blocks of token ids, exactly as AutoAWQ makes them. */
#ifndef SP_CALIB_H
#define SP_CALIB_H

#include "model/tokenizer.h"

struct sp_calib {
	uint32_t *ids; /* [blocks][len] */
	size_t blocks, len;
	size_t texts;	/* that went in */
	size_t skipped; /* longer than len, or empty */
};

/*
 * jsonl: one {"text": …} per line (other keys ignored). Each text is stripped (as Python's
 * str.strip) and encoded; one of more than len tokens is skipped. The first `samples` that remain
 * are joined without separators and cut into blocks of len; the remainder is dropped, so there are
 * fewer blocks than samples. SP_E_INVALID names the line that is not such JSON, or says that not
 * even one block came out. Free with sp_calib_free.
 */
enum sp_code sp_calib_parse(const uint8_t *jsonl, size_t size, const struct sp_tokenizer *tokenizer,
    size_t samples, size_t len, struct sp_calib *out, struct sp_err *err) SP_MUST_USE;
void sp_calib_free(struct sp_calib *calib);

#endif
