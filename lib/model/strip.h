/* strip.h -- white space at the ends of a text, as Python's str.strip() takes it away. */
#ifndef SP_STRIP_H
#define SP_STRIP_H

#include <stddef.h>

/* Moves *text and *len past the characters at either end for which str.isspace() is true
 * (bidirectional type WS, B or S, or category Zs). *text must be UTF-8. */
void sp_strip_text(const char **text, size_t *len);

#endif
