/* range.c -- one range of bytes, or none. */
#include "http/range.h"

#include <string.h>

const char *
sp_range_number(const char *p, uint64_t *out)
{
	const char *start = p;
	uint64_t n = 0;

	for (; *p >= '0' && *p <= '9'; p++) {
		if (n > (UINT64_MAX - 9) / 10)
			return NULL;
		n = n * 10 + (uint64_t)(*p - '0');
	}
	*out = n;
	return p == start ? NULL : p;
}

/* "N": the last N bytes. */
static enum sp_range
parse_suffix(const char *p, uint64_t size, uint64_t *offset, uint64_t *length)
{
	uint64_t last;

	p = sp_range_number(p, &last);
	if (p == NULL || *p != '\0')
		return SP_RANGE_NONE;
	if (last == 0 || size == 0)
		return SP_RANGE_BAD;
	*length = last < size ? last : size;
	*offset = size - *length;
	return SP_RANGE_PART;
}

enum sp_range
sp_range_parse(const char *text, uint64_t size, uint64_t *offset, uint64_t *length)
{
	uint64_t first, last = UINT64_MAX;
	const char *p;

	if (text == NULL || strncmp(text, "bytes=", 6) != 0)
		return SP_RANGE_NONE;
	if (text[6] == '-')
		return parse_suffix(text + 7, size, offset, length);
	p = sp_range_number(text + 6, &first);
	if (p == NULL || *p++ != '-')
		return SP_RANGE_NONE;
	if (*p != '\0') {
		p = sp_range_number(p, &last);
		if (p == NULL || *p != '\0' || last < first)
			return SP_RANGE_NONE;
	}
	if (first >= size)
		return SP_RANGE_BAD;
	*offset = first;
	*length = (last < size ? last + 1 : size) - first;
	return SP_RANGE_PART;
}

int
sp_range_parse_content(const char *text, uint64_t *offset, uint64_t *length, uint64_t *size)
{
	uint64_t first, last;
	const char *p;

	if (text == NULL || strncmp(text, "bytes ", 6) != 0)
		return 0;
	p = sp_range_number(text + 6, &first);
	if (p == NULL || *p++ != '-')
		return 0;
	p = sp_range_number(p, &last);
	if (p == NULL || *p++ != '/' || last < first || last == UINT64_MAX)
		return 0;
	if (strcmp(p, "*") == 0) {
		*size = UINT64_MAX;
	} else {
		p = sp_range_number(p, size);
		if (p == NULL || *p != '\0' || last >= *size)
			return 0;
	}
	*offset = first;
	*length = last - first + 1;
	return 1;
}
