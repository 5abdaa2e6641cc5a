/*
 * key.h -- role keys (Ed25519) and bus keys (Curve25519): files, fingerprints, signatures.
 *
 * A secret key is a file 0400 of one line, a public one a file 0644 of one line:
 *	sallyport-secret-key/1 ROLE NAME BASE64(32-byte seed, or Curve25519 secret)\n
 *	sallyport-sealed-key/1 ROLE NAME BASE64(salt 16 | nonce 24 | box)\n
 *	sallyport-public-key/1 ROLE NAME BASE64(32-byte public key)\n
 * box: XSalsa20-Poly1305 of the 32 bytes. A sealed key opens with a passphrase (Argon2id,
 * libsodium's MODERATE limits): root and operator keys. NAME says whose it is: "fetcherd@bastion",
 * "anna". Secrets live in sodium_malloc memory.
 */
#ifndef SP_KEY_H
#define SP_KEY_H

#include "base/hash.h"

/* X(member, word in files, trust documents and the CLI) */
#define SP_ROLES(X)                     \
	X(SP_ROLE_ROOT, "root")         \
	X(SP_ROLE_LOG, "log")           \
	X(SP_ROLE_FETCH, "fetch")       \
	X(SP_ROLE_QUANTIZE, "quantize") \
	X(SP_ROLE_GATE, "gate")         \
	X(SP_ROLE_RELEASE, "release")   \
	X(SP_ROLE_OPERATOR, "operator") \
	X(SP_ROLE_REGISTRY, "registry") \
	X(SP_ROLE_WITNESS, "witness")   \
	X(SP_ROLE_BUS, "bus")           \
	X(SP_ROLE_LINK, "link")

enum sp_role {
#define X(id, word) id,
	SP_ROLES(X)
#undef X
	    SP_ROLE_COUNT
};
const char *sp_role_word(enum sp_role role);
int sp_role_find(const char *word, enum sp_role *out); /* 1 when known */

#define SP_PUBKEY_LEN 32
#define SP_SIG_LEN 64

struct sp_pubkey {
	enum sp_role role;
	char name[SP_NAME_MAX + 1];
	uint8_t bytes[SP_PUBKEY_LEN];
	struct sp_hex id; /* SHA-256 of bytes: the key's fingerprint and keyid */
};

struct sp_key;

/* Draws a key. Role link: a symmetric key, whose public half is all zero. */
enum sp_code sp_key_new(
    enum sp_role role, const char *name, struct sp_key **out, struct sp_err *err) SP_MUST_USE;
/* Refuses a file that others may read or write, another role than asked for, a broken line.
 * passphrase: NULL when there is none; a sealed key then is SP_E_DENIED. */
enum sp_code sp_key_load(const char *path, enum sp_role role, const char *passphrase,
    struct sp_key **out, struct sp_err *err) SP_MUST_USE;
/* Writes path (0400, SP_E_EXISTS when there is one) and path.pub; sealed when passphrase is given.
 * A link key has no path.pub: there is nothing public about it. */
enum sp_code sp_key_save(const struct sp_key *key, const char *path, const char *passphrase,
    struct sp_err *err) SP_MUST_USE;
/* 1 when the file is there and holds a sealed key: a passphrase is needed. */
int sp_key_is_sealed(const char *path);
/* The role that a secret key's file names, without opening the key: what to ask sp_key_load for. */
enum sp_code sp_key_role(const char *path, enum sp_role *out, struct sp_err *err) SP_MUST_USE;
void sp_key_free(struct sp_key **key);

const struct sp_pubkey *sp_key_public(const struct sp_key *key);
/* The 32 secret bytes, for CURVE and the link cipher. */
const uint8_t *sp_key_secret(const struct sp_key *key);
void sp_key_sign(const struct sp_key *key, const void *data, size_t len, uint8_t sig[SP_SIG_LEN]);

/* 1 when sig is the key's over data. */
int sp_pubkey_verify(
    const uint8_t pk[SP_PUBKEY_LEN], const void *data, size_t len, const uint8_t sig[SP_SIG_LEN]);
/* From its parts; SP_E_INVALID when name or bytes cannot be a key of that role. */
enum sp_code sp_pubkey_set(struct sp_pubkey *out, enum sp_role role, const char *name,
    const uint8_t bytes[SP_PUBKEY_LEN], struct sp_err *err) SP_MUST_USE;
enum sp_code
sp_pubkey_load(const char *path, struct sp_pubkey *out, struct sp_err *err) SP_MUST_USE;
enum sp_code sp_pubkey_parse(
    const uint8_t *data, size_t len, struct sp_pubkey *out, struct sp_err *err) SP_MUST_USE;

#endif
