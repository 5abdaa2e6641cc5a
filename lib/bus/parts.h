/* parts.h -- published content that comes in parts, put together. Pure. */
#ifndef SP_PARTS_H
#define SP_PARTS_H

#include "base/err.h"
#include "bus.pb-c.h"
#include "bus/envelope.h"

#include <stdint.h>

/* What one worker is in the middle of; all zero: nothing. */
struct sp_parts {
	char topic[SP_BUS_WORD_MAX + 1];
	uint8_t *data; /* of total bytes, len of which have come */
	size_t len, total;
};

/* Takes a part over (its content is checked by sp_envelope_unpack). A part that begins at 0 begins
 * anew; the one taken last may be repeated. *whole: 1 when it was the last one, and data has all.
 * SP_E_INCOMPLETE when it does not follow what is there: begin again. */
enum sp_code sp_parts_add(struct sp_parts *parts, const Sallyport__Publish *part, int *whole,
    struct sp_err *err) SP_MUST_USE;
void sp_parts_clear(struct sp_parts *parts);

#endif
