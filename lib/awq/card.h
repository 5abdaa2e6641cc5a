/* card.h -- what a quantized checkpoint says of itself: README.md, as the Hub's model cards are. */
#ifndef SP_CARD_H
#define SP_CARD_H

#include "base/json.h"

/*
 * readme (may be NULL: there is none) with
 *	- its front matter, the YAML between two lines "---" at the start, kept and completed:
 *	  `base_model` (when the report knows the source's name) and `base_model_relation` are
 *	  set, all other keys keep their lines byte for byte; without front matter, one is made
 *	- its text, unchanged
 *	- a section that tells what was done, from the report (awq/convert.h)
 * malloc'd. Pure: the same report gives the same card.
 */
char *sp_card_write(const uint8_t *readme, size_t size, const json_t *report, size_t *len);

/* "error 0.00123 -> 0.00045" of a layer's numbers, both parts together: before, where it is known,
 * and after; "" for NULL. For progress. */
struct sp_card_line {
	char s[48];
};
struct sp_card_line sp_card_errors(const json_t *layer);

#endif
