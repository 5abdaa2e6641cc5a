/* hash.c -- digests by GnuTLS, hex, base64. */
#include "base/hash.h"

#include <gnutls/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sp_hash {
	gnutls_hash_hd_t handle;
	enum sp_hash_kind kind;
};

struct sp_hash *
sp_hash_new(enum sp_hash_kind kind)
{
	struct sp_hash *hash = sp_xcalloc(1, sizeof(*hash));

	hash->kind = kind;
	/* fails only without memory or where policy forbids SHA-1, without which git object ids
	 * cannot be checked: nothing useful can go on */
	SP_ASSERT(gnutls_hash_init(
		      &hash->handle, kind == SP_SHA256 ? GNUTLS_DIG_SHA256 : GNUTLS_DIG_SHA1) == 0);
	return hash;
}

void
sp_hash_add(struct sp_hash *hash, const void *data, size_t len)
{
	if (len > 0)
		SP_ASSERT(gnutls_hash(hash->handle, data, len) == 0);
}

void
sp_hash_finish(struct sp_hash *hash, uint8_t *out)
{
	gnutls_hash_output(hash->handle, out);
}

struct sp_hex
sp_hash_finish_hex(struct sp_hash *hash)
{
	uint8_t digest[SP_DIGEST_LEN];

	SP_ASSERT(hash->kind == SP_SHA256);
	sp_hash_finish(hash, digest);
	return sp_hex_of(digest);
}

void
sp_hash_free(struct sp_hash **hash)
{
	if (hash == NULL || *hash == NULL)
		return;
	gnutls_hash_deinit((*hash)->handle, NULL);
	free(*hash);
	*hash = NULL;
}

void
sp_sha256(const void *data, size_t len, uint8_t out[SP_DIGEST_LEN])
{
	SP_ASSERT(gnutls_hash_fast(GNUTLS_DIG_SHA256, len > 0 ? data : "", len, out) == 0);
}

struct sp_hex
sp_sha256_hex(const void *data, size_t len)
{
	uint8_t digest[SP_DIGEST_LEN];

	sp_sha256(data, len, digest);
	return sp_hex_of(digest);
}

void
sp_hex_encode(const uint8_t *data, size_t len, char *hex)
{
	static const char digits[] = "0123456789abcdef";
	size_t i;

	for (i = 0; i < len; i++) {
		hex[2 * i] = digits[data[i] >> 4];
		hex[2 * i + 1] = digits[data[i] & 15];
	}
	hex[2 * len] = '\0';
}

static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

enum sp_code
sp_hex_decode(const char *hex, uint8_t *data, size_t len)
{
	int high, low;
	size_t i;

	for (i = 0; i < len; i++) {
		/* the NUL is no hex digit, so a short text ends here before it is overrun */
		high = hex_value(hex[2 * i]);
		low = high < 0 ? -1 : hex_value(hex[2 * i + 1]);
		if (low < 0)
			return SP_E_INVALID;
		data[i] = (uint8_t)(high << 4 | low);
	}
	return hex[2 * len] == '\0' ? SP_OK : SP_E_INVALID;
}

struct sp_hex
sp_hex_of(const uint8_t digest[SP_DIGEST_LEN])
{
	struct sp_hex hex = {0};

	sp_hex_encode(digest, SP_DIGEST_LEN, hex.s);
	return hex;
}

int
sp_hex_is_digest(const char *text)
{
	uint8_t digest[SP_DIGEST_LEN];

	return sp_hex_decode(text, digest, sizeof(digest)) == SP_OK;
}

struct sp_hash *
sp_git_blob_new(uint64_t size)
{
	struct sp_hash *hash = sp_hash_new(SP_SHA1);
	char head[32];
	int len;

	len = snprintf(head, sizeof(head), "blob %llu", (unsigned long long)size);
	sp_hash_add(hash, head, (size_t)len + 1);
	return hash;
}

struct sp_git_oid
sp_git_blob_finish(struct sp_hash *hash)
{
	struct sp_git_oid oid = {0};
	uint8_t digest[20];

	SP_ASSERT(hash->kind == SP_SHA1);
	sp_hash_finish(hash, digest);
	sp_hex_encode(digest, sizeof(digest), oid.s);
	return oid;
}

static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

char *
sp_base64_encode(const void *data, size_t len)
{
	const uint8_t *in = data;
	char *text, *out;
	uint32_t v;
	size_t n;

	SP_ASSERT(len < SIZE_MAX / 2);
	text = out = sp_xrealloc(NULL, (len + 2) / 3 * 4 + 1, 1);
	for (; len > 0; in += n, len -= n, out += 4) {
		n = len < 3 ? len : 3;
		v = (uint32_t)in[0] << 16 | (n > 1 ? (uint32_t)in[1] << 8 : 0) |
		    (n > 2 ? in[2] : 0);
		out[0] = base64_digits[v >> 18];
		out[1] = base64_digits[v >> 12 & 63];
		out[2] = n > 1 ? base64_digits[v >> 6 & 63] : '=';
		out[3] = n > 2 ? base64_digits[v & 63] : '=';
	}
	*out = '\0';
	return text;
}

static int
base64_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* RFC 4648 section 4: groups of four digits; '=' only as the last one or two of the last group. */
uint8_t *
sp_base64_decode(const char *text, size_t text_len, size_t *len)
{
	uint8_t *data;
	size_t i, pad = 0, out = 0, n;
	uint32_t v;
	int d;

	if (text_len % 4 != 0)
		return NULL;
	if (text_len > 0 && text[text_len - 1] == '=')
		pad = text[text_len - 2] == '=' ? 2 : 1;
	data = malloc(text_len / 4 * 3 + 1);
	if (data == NULL)
		return NULL;
	for (i = 0, v = 0; i < text_len; i++) {
		d = i < text_len - pad ? base64_value(text[i]) : 0;
		if (d < 0)
			goto bad;
		v = v << 6 | (uint32_t)d;
		if (i % 4 != 3)
			continue;
		n = i == text_len - 1 ? 3 - pad : 3;
		/* bits of the last digit that belong to no byte must be zero */
		if ((v & ((UINT32_C(1) << 8 * (3 - n)) - 1)) != 0)
			goto bad;
		data[out++] = (uint8_t)(v >> 16);
		if (n > 1)
			data[out++] = (uint8_t)(v >> 8);
		if (n > 2)
			data[out++] = (uint8_t)v;
		v = 0;
	}
	data[out] = '\0';
	*len = out;
	return data;
bad:
	free(data);
	return NULL;
}
