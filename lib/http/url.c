/* url.c -- percent-encoding, query strings, origins. */
#include "http/url.h"
#include "base/buf.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define HOST_MAX 255

static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

static int
is_alnum(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

char *
sp_url_encode(const char *text, int keep_slash)
{
	struct sp_buf buf = {0};
	size_t len;

	for (; *text != '\0'; text++) {
		if (is_alnum(*text) || strchr("-._~", *text) != NULL ||
		    (keep_slash && *text == '/'))
			sp_buf_add(&buf, text, 1);
		else
			sp_buf_printf(&buf, "%%%02X", (unsigned char)*text);
	}
	return sp_buf_take(&buf, &len);
}

char *
sp_url_decode(const char *text, size_t len, int plus_is_space)
{
	char *out = malloc(len + 1);
	size_t i, n = 0;
	int high, low;

	if (out == NULL)
		return NULL;
	for (i = 0; i < len; i++) {
		out[n] = text[i];
		if (text[i] == '+' && plus_is_space) {
			out[n] = ' ';
		} else if (text[i] == '%') {
			high = len - i > 2 ? hex_value(text[i + 1]) : -1;
			low = high >= 0 ? hex_value(text[i + 2]) : -1;
			if (low < 0)
				goto bad;
			out[n] = (char)(high << 4 | low);
			i += 2;
		}
		if (out[n++] == '\0')
			goto bad;
	}
	out[n] = '\0';
	return out;
bad:
	free(out);
	return NULL;
}

int
sp_url_next_param(const char **at, const char *end, char **key, char **value)
{
	const char *p = *at, *amp, *eq;

	if (p >= end)
		return 0;
	amp = memchr(p, '&', (size_t)(end - p));
	if (amp == NULL)
		amp = end;
	eq = memchr(p, '=', (size_t)(amp - p));
	*key = sp_url_decode(p, (size_t)((eq != NULL ? eq : amp) - p), 1);
	*value = eq != NULL ? sp_url_decode(eq + 1, (size_t)(amp - eq - 1), 1) : sp_xstrdup("");
	*at = amp < end ? amp + 1 : end;
	return 1;
}

char *
sp_url_param(const char *query, size_t len, const char *key)
{
	const char *at = query, *end = query + len;
	char *name, *value;
	int found;

	while (sp_url_next_param(&at, end, &name, &value)) {
		found = name != NULL && strcmp(name, key) == 0;
		free(name);
		if (found)
			return value;
		free(value);
	}
	return NULL;
}

/* --- origins ---------------------------------------------------------------------------------- */

struct origin {
	int tls;
	const char *host; /* brackets of IPv6 included */
	size_t host_len;
	unsigned port;
	size_t len; /* of scheme://authority */
};

/* Digits up to end; 0 when they are no port. */
static unsigned
parse_port(const char *p, const char *end)
{
	unsigned port = 0;

	if (p == end)
		return 0;
	for (; p < end; p++) {
		if (*p < '0' || *p > '9')
			return 0;
		port = port * 10 + (unsigned)(*p - '0');
		if (port > 65535)
			return 0;
	}
	return port;
}

/* 1 when url has an http(s) origin without user information. */
static int
parse_origin(const char *url, struct origin *out)
{
	const char *p, *end, *colon;

	if (strncasecmp(url, "https://", 8) == 0)
		out->tls = 1;
	else if (strncasecmp(url, "http://", 7) == 0)
		out->tls = 0;
	else
		return 0;
	p = url + (out->tls ? 8 : 7);
	end = p + strcspn(p, "/?#");
	out->len = (size_t)(end - url);
	out->host = p;
	if (*p == '[') {
		p += 1 + strspn(p + 1, "0123456789abcdefABCDEF:.");
		if (*p++ != ']')
			return 0;
		colon = p;
	} else {
		while (p < end && (is_alnum(*p) || *p == '.' || *p == '-' || *p == '_'))
			p++;
		colon = p;
	}
	out->host_len = (size_t)(colon - out->host);
	if (out->host_len == 0 || out->host_len > HOST_MAX)
		return 0;
	out->port = out->tls ? 443 : 80;
	if (colon == end)
		return 1;
	if (*colon != ':')
		return 0;
	out->port = parse_port(colon + 1, end);
	return out->port != 0;
}

size_t
sp_url_origin_len(const char *url)
{
	struct origin o;

	return parse_origin(url, &o) ? o.len : 0;
}

int
sp_url_same_origin(const char *a, const char *b)
{
	struct origin x, y;

	return parse_origin(a, &x) && parse_origin(b, &y) && x.tls == y.tls && x.port == y.port &&
	       x.host_len == y.host_len && strncasecmp(x.host, y.host, x.host_len) == 0;
}

char *
sp_url_resolve(const char *base, const char *location)
{
	size_t len;

	for (const char *p = location; *p != '\0'; p++)
		if ((unsigned char)*p <= ' ' || *p == 0x7f || *p == '\\')
			return NULL;
	if (sp_url_origin_len(location) > 0)
		return sp_xstrdup(location);
	len = sp_url_origin_len(base);
	/* "//host/…" would leave base's host without saying so */
	if (len == 0 || location[0] != '/' || location[1] == '/')
		return NULL;
	return sp_xasprintf("%.*s%s", (int)len, base, location);
}

enum sp_code
sp_url_split_host(const char *text, char **host, unsigned *port, struct sp_err *err)
{
	const char *colon = strrchr(text, ':'), *start = text, *end = colon;
	unsigned long n;
	char *rest;

	if (colon == NULL || colon[1] < '0' || colon[1] > '9')
		goto bad;
	n = strtoul(colon + 1, &rest, 10);
	if (*rest != '\0' || n > 65535)
		goto bad;
	if (*start == '[') {
		if (end == start || end[-1] != ']')
			goto bad;
		start++;
		end--;
	} else if (memchr(start, ':', (size_t)(end - start)) != NULL) {
		goto bad;
	}
	if (start == end)
		goto bad;
	*host = sp_xasprintf("%.*s", (int)(end - start), start);
	*port = (unsigned)n;
	return SP_OK;
bad:
	return sp_err_set(
	    err, SP_E_INVALID, "\"%s\" is no address: host:port or [IPv6]:port is expected", text);
}
