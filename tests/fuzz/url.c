/* url.c -- URLs, query strings, addresses. */
#include "http/url.h"
#include "fuzz.h"

static void
check_encoding(const char *text)
{
	char *encoded = sp_url_encode(text, 0), *decoded;

	decoded = sp_url_decode(encoded, strlen(encoded), 0);
	SP_ASSERT(decoded != NULL && strcmp(decoded, text) == 0);
	free(encoded);
	free(decoded);
}

static void
check_query(const uint8_t *data, size_t len)
{
	const char *at = (const char *)data, *end = at + len, *before;
	char *key, *value;

	for (before = at; sp_url_next_param(&at, end, &key, &value); before = at) {
		SP_ASSERT(at > before && at <= end);
		free(key);
		free(value);
	}
	free(sp_url_param((const char *)data, len, "cursor"));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const char base[] = "http://[2001:db8::1]:8080/x?y";
	char *text = fuzz_text(data, len), *host, *to;
	struct sp_err err;
	unsigned port;

	free(sp_url_decode((const char *)data, len, 1));
	check_encoding(text);
	if (len > 0)
		check_query(data, len);
	SP_ASSERT(sp_url_origin_len(text) <= strlen(text));
	SP_ASSERT(sp_url_same_origin(text, text) == (sp_url_origin_len(text) > 0));
	to = sp_url_resolve(base, text);
	if (to != NULL)
		SP_ASSERT(sp_url_same_origin(to, text[0] == '/' ? base : text));
	free(to);
	if (sp_url_split_host(text, &host, &port, &err) == SP_OK) {
		SP_ASSERT(host[0] != '\0' && port <= 65535);
		free(host);
	}
	free(text);
	return 0;
}
