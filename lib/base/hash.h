/* hash.h -- streaming digests (GnuTLS: uses SHA-NI) and hex. */
#ifndef SP_HASH_H
#define SP_HASH_H

#include "base/err.h"
#include "base/limits.h"

#include <stdint.h>

/* A SHA-256 digest in lower-case hex, NUL-terminated: how digests are named everywhere. */
struct sp_hex {
	char s[SP_HEX_LEN + 1];
};

enum sp_hash_kind { SP_SHA256, SP_SHA1 };

/* One running digest; create with _new, feed, finish once. _free accepts NULL. */
struct sp_hash;
struct sp_hash *sp_hash_new(enum sp_hash_kind kind);
void sp_hash_add(struct sp_hash *hash, const void *data, size_t len);
/* Writes 32 (SHA-256) or 20 (SHA-1) bytes to out; resets to the state after _new. */
void sp_hash_finish(struct sp_hash *hash, uint8_t *out);
struct sp_hex sp_hash_finish_hex(struct sp_hash *hash); /* SHA-256 only */
void sp_hash_free(struct sp_hash **hash);

void sp_sha256(const void *data, size_t len, uint8_t out[SP_DIGEST_LEN]);
struct sp_hex sp_sha256_hex(const void *data, size_t len);

/* hex must hold 2*len+1 bytes. */
void sp_hex_encode(const uint8_t *data, size_t len, char *hex);
/* Exactly 2*len lower-case hex digits and a NUL; upper case is refused: one spelling only. */
enum sp_code sp_hex_decode(const char *hex, uint8_t *data, size_t len) SP_MUST_USE;
struct sp_hex sp_hex_of(const uint8_t digest[SP_DIGEST_LEN]);
/* 1 when text is exactly 64 lower-case hex digits. */
int sp_hex_is_digest(const char *text);

/* git's object id of a blob: SHA-1 over "blob LEN\0" + data, 40 hex digits + NUL. */
struct sp_git_oid {
	char s[41];
};
struct sp_hash *sp_git_blob_new(uint64_t size);
struct sp_git_oid sp_git_blob_finish(struct sp_hash *hash);

/* Standard base64 with padding. Decoding refuses white space, missing padding and non-zero pad
 * bits, so that a value has one spelling. Result is malloc'd, *len its bytes; NULL when bad. */
char *sp_base64_encode(const void *data, size_t len);
uint8_t *sp_base64_decode(const char *text, size_t text_len, size_t *len);

#endif
