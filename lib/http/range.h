/* range.h -- the fields Range and Content-Range (RFC 9110 section 14); pure. */
#ifndef SP_RANGE_H
#define SP_RANGE_H

#include <stddef.h>
#include <stdint.h>

enum sp_range {
	SP_RANGE_NONE, /* the whole: no range, or one that is passed over, as the RFC allows */
	SP_RANGE_PART,
	SP_RANGE_BAD, /* 416: it begins behind the end */
};

/* What text (NULL: no such field) asks for of size bytes; *offset and *length are set for
 * SP_RANGE_PART alone. Taken: "bytes=A-B", "bytes=A-", "bytes=-N"; several ranges are passed over.
 */
enum sp_range sp_range_parse(const char *text, uint64_t size, uint64_t *offset, uint64_t *length);

/* Field Content-Range of an answer: "bytes FIRST-LAST/SIZE". *size is UINT64_MAX where SIZE is "*":
 * not known. 0 when text is anything else (also where it is of no bytes). */
int sp_range_parse_content(const char *text, uint64_t *offset, uint64_t *length, uint64_t *size);

/* The digits at p as a number; where they end, NULL when there are none or too many. */
const char *sp_range_number(const char *p, uint64_t *out);

#endif
