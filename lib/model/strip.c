/* strip.c -- white space at the ends of a text, as Python sees it. */
#include "model/strip.h"

#include <string.h>

/* Code points for which str.isspace() is true, in UTF-8. */
static const char *const spaces[] = {"\t", "\n", "\v", "\f", "\r", "\x1c", "\x1d", "\x1e", "\x1f",
    " ", "\xc2\x85", "\u00a0", "\u1680", "\u2000", "\u2001", "\u2002", "\u2003", "\u2004", "\u2005",
    "\u2006", "\u2007", "\u2008", "\u2009", "\u200a", "\u2028", "\u2029", "\u202f", "\u205f",
    "\u3000"};

/* Bytes of the white space that text starts (or, at_end, ends) with; 0 when there is none. */
static size_t
space_at(const char *text, size_t len, int at_end)
{
	for (size_t i = 0; i < sizeof(spaces) / sizeof(*spaces); i++) {
		size_t n = strlen(spaces[i]);

		if (n <= len && memcmp(at_end ? text + len - n : text, spaces[i], n) == 0)
			return n;
	}
	return 0;
}

void
sp_strip_text(const char **text, size_t *len)
{
	size_t n;

	while ((n = space_at(*text, *len, 0)) != 0) {
		*text += n;
		*len -= n;
	}
	while ((n = space_at(*text, *len, 1)) != 0)
		*len -= n;
}
