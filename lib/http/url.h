/* url.h -- percent-encoding (RFC 3986) and "host:port" of listening addresses; pure. */
#ifndef SP_URL_H
#define SP_URL_H

#include "base/err.h"

/* malloc'd. Every byte but A-Z a-z 0-9 - . _ ~ (and '/' when keep_slash) becomes %XX. */
char *sp_url_encode(const char *text, int keep_slash);
/* Decodes len bytes, malloc'd; NULL when a '%' is not followed by two hex digits or gives NUL.
 * plus_is_space: as in query strings and forms. */
char *sp_url_decode(const char *text, size_t len, int plus_is_space);

/* The next "key=value" of a query string or urlencoded form [*at, end), decoded and malloc'd, NULL
 * where badly encoded; moves *at behind it. 0 at the end. */
int sp_url_next_param(const char **at, const char *end, char **key, char **value);
/* Value of the first parameter of that key, malloc'd; NULL when there is none or it is badly
 * encoded. */
char *sp_url_param(const char *query, size_t len, const char *key);

/* scheme://authority of an http(s) URL as [start, start+len) of it; 0 when url is none, or carries
 * user information. */
size_t sp_url_origin_len(const char *url);
/* 1 when both are http(s) URLs with the same scheme, host and port (a default port spelt out or
 * not, the host in any case). */
int sp_url_same_origin(const char *a, const char *b);
/* Where a Location or Link leads from base: an absolute http(s) URL, or "/path" on base's origin.
 * malloc'd; NULL for anything else (other schemes, relative paths, control characters). */
char *sp_url_resolve(const char *base, const char *location);

/* Splits "host:port" or "[v6]:port"; host (malloc'd) without brackets. */
enum sp_code
sp_url_split_host(const char *text, char **host, unsigned *port, struct sp_err *err) SP_MUST_USE;

#endif
