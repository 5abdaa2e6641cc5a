/* utf8.h -- walking over text that is known to be valid UTF-8. */
#ifndef SP_UTF8_H
#define SP_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Bytes of the character whose first byte is lead. */
static inline size_t
sp_utf8_len(char lead)
{
	uint8_t c = (uint8_t)lead;

	return c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
}

/* The code point at text, and in *n its bytes. */
static inline uint32_t
sp_utf8_point(const char *text, size_t *n)
{
	const uint8_t *at = (const uint8_t *)text;
	uint32_t point;

	if (at[0] < 0x80) {
		*n = 1;
		return at[0];
	}
	*n = sp_utf8_len(text[0]);
	point = *n == 2 ? at[0] & 0x1fu : *n == 3 ? at[0] & 0x0fu : at[0] & 0x07u;
	for (size_t i = 1; i < *n; i++)
		point = point << 6 | (at[i] & 0x3fu);
	return point;
}

/* Bytes of the last character of text[len], len > 0. */
static inline size_t
sp_utf8_last(const char *text, size_t len)
{
	size_t n = 1;

	while (((uint8_t)text[len - n] & 0xc0) == 0x80)
		n++;
	return n;
}

#endif
