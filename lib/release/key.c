/* key.c -- key files, fingerprints, Ed25519 (libsodium). */
#include "release/key.h"
#include "base/buf.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECRET_MAGIC "sallyport-secret-key/1"
#define SEALED_MAGIC "sallyport-sealed-key/1"
#define PUBLIC_MAGIC "sallyport-public-key/1"

#define SECRET_LEN 32
#define SALT_LEN crypto_pwhash_SALTBYTES
#define NONCE_LEN crypto_secretbox_NONCEBYTES
#define SEALED_LEN (SALT_LEN + NONCE_LEN + crypto_secretbox_MACBYTES + SECRET_LEN)
#define FILE_MAX_LEN 1024 /* bytes of a key file: magic, role, name and base64 are shorter */

_Static_assert(crypto_sign_SEEDBYTES == SECRET_LEN, "an Ed25519 seed");
_Static_assert(crypto_scalarmult_SCALARBYTES == SECRET_LEN, "a Curve25519 secret");
_Static_assert(crypto_sign_PUBLICKEYBYTES == SP_PUBKEY_LEN, "an Ed25519 public key");
_Static_assert(crypto_sign_BYTES == SP_SIG_LEN, "an Ed25519 signature");
_Static_assert(SALT_LEN == 16 && NONCE_LEN == 24, "the file format in key.h");

/* What must not be swapped out or stay in the heap: one sodium_malloc block. */
struct secret {
	uint8_t bytes[SECRET_LEN];
	uint8_t sign[crypto_sign_SECRETKEYBYTES]; /* libsodium's expanded form */
};

struct sp_key {
	struct sp_pubkey public;
	struct secret *secret;
};

static const char *const role_words[] = {
#define X(id, word) word,
    SP_ROLES(X)
#undef X
};

const char *
sp_role_word(enum sp_role role)
{
	SP_ASSERT((unsigned)role < SP_ROLE_COUNT);
	return role_words[role];
}

int
sp_role_find(const char *word, enum sp_role *out)
{
	int i;

	for (i = 0; i < SP_ROLE_COUNT; i++) {
		if (strcmp(word, role_words[i]) == 0) {
			*out = (enum sp_role)i;
			return 1;
		}
	}
	return 0;
}

static int
signs(enum sp_role role)
{
	return role != SP_ROLE_BUS && role != SP_ROLE_LINK;
}

/* libsodium wants this before anything else; later calls cost nothing. */
static void
init(void)
{
	SP_ASSERT(sodium_init() >= 0);
}

/* Names stand in files between spaces, in audit entries and in lists: one plain word. */
static enum sp_code
check_name(const char *name, struct sp_err *err)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789._@-";
	size_t len = strlen(name);

	if (len == 0 || len > SP_NAME_MAX || strspn(name, allowed) != len)
		return sp_err_set(err, SP_E_INVALID,
		    "a key's name is 1 to %d letters, digits, '.', '_', '@' and '-'", SP_NAME_MAX);
	return SP_OK;
}

enum sp_code
sp_pubkey_set(struct sp_pubkey *out, enum sp_role role, const char *name,
    const uint8_t bytes[SP_PUBKEY_LEN], struct sp_err *err)
{
	enum sp_code code;

	init();
	memset(out, 0, sizeof(*out));
	code = check_name(name, err);
	if (code != SP_OK)
		return code;
	if (signs(role) && !crypto_core_ed25519_is_valid_point(bytes))
		return sp_err_set(err, SP_E_INVALID, "%s key of %s is no point of Ed25519",
		    sp_role_word(role), name);
	out->role = role;
	memcpy(out->name, name, strlen(name) + 1);
	memcpy(out->bytes, bytes, SP_PUBKEY_LEN);
	out->id = sp_sha256_hex(bytes, SP_PUBKEY_LEN);
	return SP_OK;
}

/* --- making and freeing --------------------------------------------------------------------- */

/* A key whose secret->bytes the caller fills before finish(). */
static struct sp_key *
blank(void)
{
	struct sp_key *key = sp_xcalloc(1, sizeof(*key));

	init();
	key->secret = sodium_malloc(sizeof(*key->secret));
	SP_ASSERT(key->secret != NULL);
	sodium_memzero(key->secret, sizeof(*key->secret));
	return key;
}

/* Derives the public half and makes the secret read-only. */
static enum sp_code
finish(struct sp_key *key, enum sp_role role, const char *name, struct sp_err *err)
{
	uint8_t public[SP_PUBKEY_LEN] = {0};
	enum sp_code code;

	if (signs(role))
		crypto_sign_seed_keypair(public, key->secret->sign, key->secret->bytes);
	else if (role == SP_ROLE_BUS)
		crypto_scalarmult_base(public, key->secret->bytes);
	code = sp_pubkey_set(&key->public, role, name, public, err);
	if (code == SP_OK)
		sodium_mprotect_readonly(key->secret);
	return code;
}

enum sp_code
sp_key_new(enum sp_role role, const char *name, struct sp_key **out, struct sp_err *err)
{
	struct sp_key *key = blank();
	enum sp_code code;

	randombytes_buf(key->secret->bytes, SECRET_LEN);
	code = finish(key, role, name, err);
	if (code != SP_OK)
		sp_key_free(&key);
	*out = key;
	return code;
}

void
sp_key_free(struct sp_key **key)
{
	if (key == NULL || *key == NULL)
		return;
	sodium_free((*key)->secret); /* wipes */
	free(*key);
	*key = NULL;
}

/* --- lines ---------------------------------------------------------------------------------- */

/* The four words of "MAGIC ROLE NAME BASE64\n", as spans of the text. */
struct line {
	const char *word[4];
	size_t len[4];
	enum sp_role role;
	char name[SP_NAME_MAX + 1];
};

static int
is_word(const struct line *line, int i, const char *text)
{
	return strlen(text) == line->len[i] && memcmp(line->word[i], text, line->len[i]) == 0;
}

/* Splits; role and name are checked, the magic and the base64 are the caller's. */
static enum sp_code
split(const char *data, size_t len, struct line *out, struct sp_err *err)
{
	const char *at = data, *end, *stop;
	char role[16];
	int i;

	if (len == 0 || data[len - 1] != '\n' || memchr(data, '\n', len) != data + len - 1)
		return sp_err_set(err, SP_E_INVALID, "not a key file: it must be one line");
	if (memchr(data, '\0', len) != NULL)
		return sp_err_set(err, SP_E_INVALID, "not a key file: it has a NUL byte");
	end = data + len - 1;
	for (i = 0; i < 4; i++) {
		stop = i < 3 ? memchr(at, ' ', (size_t)(end - at)) : end;
		if (stop == NULL || stop == at)
			return sp_err_set(err, SP_E_INVALID,
			    "not a key file: the line must be MAGIC ROLE NAME BASE64");
		out->word[i] = at;
		out->len[i] = (size_t)(stop - at);
		at = stop + 1;
	}
	if (out->len[1] >= sizeof(role) || out->len[2] > SP_NAME_MAX)
		return sp_err_set(err, SP_E_INVALID, "not a key file: role or name is too long");
	memcpy(role, out->word[1], out->len[1]);
	role[out->len[1]] = '\0';
	if (!sp_role_find(role, &out->role))
		return sp_err_set(err, SP_E_INVALID, "there is no role \"%s\"", role);
	memcpy(out->name, out->word[2], out->len[2]);
	out->name[out->len[2]] = '\0';
	return check_name(out->name, err);
}

/* Exactly len bytes; strict: libsodium refuses white space, missing padding, stray pad bits. But it
 * (1.0.18) takes some bytes above 0x7f for digits, and a key would have more than one spelling. */
static int
decode(const struct line *line, uint8_t *out, size_t len)
{
	const char *end;
	size_t got;

	for (size_t i = 0; i < line->len[3]; i++)
		if ((unsigned char)line->word[3][i] > 0x7f)
			return 0;
	return sodium_base642bin(out, len, line->word[3], line->len[3], NULL, &got, &end,
		   sodium_base64_VARIANT_ORIGINAL) == 0 &&
	       got == len && end == line->word[3] + line->len[3];
}

enum sp_code
sp_pubkey_parse(const uint8_t *data, size_t len, struct sp_pubkey *out, struct sp_err *err)
{
	uint8_t bytes[SP_PUBKEY_LEN];
	struct line line;
	enum sp_code code;

	init();
	code = split((const char *)data, len, &line, err);
	if (code != SP_OK)
		return code;
	if (is_word(&line, 0, SECRET_MAGIC) || is_word(&line, 0, SEALED_MAGIC))
		return sp_err_set(err, SP_E_INVALID,
		    "this is a secret key; the public half is in the file that ends in .pub");
	if (!is_word(&line, 0, PUBLIC_MAGIC))
		return sp_err_set(
		    err, SP_E_INVALID, "not a public key: it must begin with %s", PUBLIC_MAGIC);
	if (!decode(&line, bytes, sizeof(bytes)))
		return sp_err_set(err, SP_E_INVALID, "public key of %s: not the base64 of %d bytes",
		    line.name, SP_PUBKEY_LEN);
	return sp_pubkey_set(out, line.role, line.name, bytes, err);
}

enum sp_code
sp_pubkey_load(const char *path, struct sp_pubkey *out, struct sp_err *err)
{
	struct sp_err inner;
	uint8_t *data = NULL;
	enum sp_code code;
	size_t len;

	code = sp_file_read(path, FILE_MAX_LEN, &data, &len, err);
	if (code != SP_OK)
		return code;
	code = sp_pubkey_parse(data, len, out, &inner);
	if (code != SP_OK)
		sp_err_set(err, code, "%s: %s", path, inner.msg);
	/* somebody may have named the secret file by mistake */
	sodium_memzero(data, len);
	free(data);
	return code;
}

/* --- secret files --------------------------------------------------------------------------- */

/*
 * Who else could read or replace the file? systemd lays credentials down as root's with an ACL for
 * the service, which shows as mode 0440 of group root: that is private too.
 */
static enum sp_code
check_private(const char *path, const struct stat *st, struct sp_err *err)
{
	mode_t others = st->st_mode & 077;

	if (!S_ISREG(st->st_mode))
		return sp_err_set(err, SP_E_INVALID, "%s is no regular file", path);
	if (st->st_uid == 0 && st->st_gid == 0)
		others &= ~(mode_t)S_IRGRP;
	if (others != 0)
		return sp_err_set(err, SP_E_DENIED,
		    "%s: mode %04o lets others at the secret key; chmod 0400 it, and replace the "
		    "key if others could have read it",
		    path, (unsigned)(st->st_mode & 07777));
	if (st->st_uid != 0 && st->st_uid != geteuid())
		return sp_err_set(err, SP_E_DENIED,
		    "%s belongs to uid %lu, who could replace it; it must be yours or root's", path,
		    (unsigned long)st->st_uid);
	return SP_OK;
}

/* Reads the file into text (sodium_malloc'd, FILE_MAX_LEN + 1 bytes). */
static enum sp_code
read_private(const char *path, char *text, size_t *len, struct sp_err *err)
{
	enum sp_code code;
	struct stat st;
	ssize_t n;
	int fd;

	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0)
		return sp_err_errno(err, "cannot open the secret key %s", path);
	if (fstat(fd, &st) != 0)
		code = sp_err_errno(err, "cannot look at %s", path);
	else
		code = check_private(path, &st, err);
	for (*len = 0; code == SP_OK && *len <= FILE_MAX_LEN;) {
		n = read(fd, text + *len, FILE_MAX_LEN + 1 - *len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			code = sp_err_errno(err, "cannot read %s", path);
		if (n <= 0)
			break;
		*len += (size_t)n;
	}
	if (code == SP_OK && *len > FILE_MAX_LEN)
		code = sp_err_set(
		    err, SP_E_LIMIT, "%s is longer than %d bytes: no key file", path, FILE_MAX_LEN);
	close(fd);
	return code;
}

/* The file's line into text (sodium_malloc'd, FILE_MAX_LEN + 1 bytes), split, with its path in what
 * goes wrong. */
static enum sp_code
read_line(const char *path, char *text, struct line *out, struct sp_err *err)
{
	struct sp_err inner;
	enum sp_code code;
	size_t len = 0;

	code = read_private(path, text, &len, err);
	if (code != SP_OK)
		return code;
	code = split(text, len, out, &inner);
	return code != SP_OK ? sp_err_set(err, code, "%s: %s", path, inner.msg) : SP_OK;
}

/* What a secret key's file says of itself; the secret is gone again. */
static enum sp_code
peek(const char *path, enum sp_role *role, int *sealed, struct sp_err *err)
{
	char *text = sodium_malloc(FILE_MAX_LEN + 1);
	struct line line;
	enum sp_code code;

	SP_ASSERT(text != NULL);
	code = read_line(path, text, &line, err);
	if (code == SP_OK) {
		*role = line.role;
		*sealed = is_word(&line, 0, SEALED_MAGIC);
		if (!*sealed && !is_word(&line, 0, SECRET_MAGIC))
			code = sp_err_set(err, SP_E_INVALID, "%s: not a secret key", path);
	}
	sodium_free(text);
	return code;
}

int
sp_key_is_sealed(const char *path)
{
	enum sp_role role;
	int sealed;

	init();
	return peek(path, &role, &sealed, NULL) == SP_OK && sealed;
}

enum sp_code
sp_key_role(const char *path, enum sp_role *out, struct sp_err *err)
{
	int sealed;

	init();
	return peek(path, out, &sealed, err);
}

/* sealed: salt | nonce | box. */
static enum sp_code
unseal(uint8_t secret[SECRET_LEN], const uint8_t sealed[SEALED_LEN], const char *passphrase,
    struct sp_err *err)
{
	uint8_t *key = sodium_malloc(crypto_secretbox_KEYBYTES);
	enum sp_code code = SP_OK;

	SP_ASSERT(key != NULL);
	if (crypto_pwhash(key, crypto_secretbox_KEYBYTES, passphrase, strlen(passphrase), sealed,
		crypto_pwhash_OPSLIMIT_MODERATE, crypto_pwhash_MEMLIMIT_MODERATE,
		crypto_pwhash_ALG_ARGON2ID13) != 0)
		code = sp_err_set(err, SP_E_NO_MEMORY,
		    "opening a sealed key takes %u MiB of memory, which is not to be had",
		    (unsigned)(crypto_pwhash_MEMLIMIT_MODERATE >> 20));
	else if (crypto_secretbox_open_easy(secret, sealed + SALT_LEN + NONCE_LEN,
		     SEALED_LEN - SALT_LEN - NONCE_LEN, sealed + SALT_LEN, key) != 0)
		code = sp_err_set(err, SP_E_DENIED, "the passphrase does not open this key");
	sodium_free(key);
	return code;
}

static enum sp_code
fill_secret(struct sp_key *key, const struct line *line, const char *passphrase, struct sp_err *err)
{
	uint8_t sealed[SEALED_LEN];

	if (is_word(line, 0, PUBLIC_MAGIC))
		return sp_err_set(
		    err, SP_E_INVALID, "this is the public half; name the file without .pub");
	if (is_word(line, 0, SECRET_MAGIC)) {
		if (!decode(line, key->secret->bytes, SECRET_LEN))
			return sp_err_set(err, SP_E_INVALID,
			    "secret key: not the base64 of %d bytes", SECRET_LEN);
		return SP_OK;
	}
	if (!is_word(line, 0, SEALED_MAGIC))
		return sp_err_set(err, SP_E_INVALID,
		    "not a secret key: it must begin with %s or %s", SECRET_MAGIC, SEALED_MAGIC);
	if (!decode(line, sealed, sizeof(sealed)))
		return sp_err_set(
		    err, SP_E_INVALID, "sealed key: not the base64 of %zu bytes", sizeof(sealed));
	if (passphrase == NULL)
		return sp_err_set(err, SP_E_DENIED,
		    "the key is sealed with a passphrase: give --passphrase-file");
	return unseal(key->secret->bytes, sealed, passphrase, err);
}

enum sp_code
sp_key_load(const char *path, enum sp_role role, const char *passphrase, struct sp_key **out,
    struct sp_err *err)
{
	struct sp_key *key = blank();
	struct sp_err inner;
	struct line line;
	enum sp_code code;
	char *text;

	*out = NULL;
	text = sodium_malloc(FILE_MAX_LEN + 1);
	SP_ASSERT(text != NULL);
	code = read_line(path, text, &line, err);
	if (code != SP_OK)
		goto out;
	if (line.role != role)
		code = sp_err_set(&inner, SP_E_DENIED, "this is a key of the role %s, not of %s",
		    sp_role_word(line.role), sp_role_word(role));
	if (code == SP_OK)
		code = fill_secret(key, &line, passphrase, &inner);
	if (code == SP_OK)
		code = finish(key, line.role, line.name, &inner);
	if (code != SP_OK) {
		sp_err_set(err, code, "%s: %s", path, inner.msg);
		goto out;
	}
	*out = key;
	key = NULL;
out:
	sodium_free(text);
	sp_key_free(&key);
	return code;
}

static enum sp_code
seal(uint8_t sealed[SEALED_LEN], const uint8_t secret[SECRET_LEN], const char *passphrase,
    struct sp_err *err)
{
	uint8_t *key = sodium_malloc(crypto_secretbox_KEYBYTES);
	enum sp_code code = SP_OK;

	SP_ASSERT(key != NULL);
	randombytes_buf(sealed, SALT_LEN + NONCE_LEN);
	if (crypto_pwhash(key, crypto_secretbox_KEYBYTES, passphrase, strlen(passphrase), sealed,
		crypto_pwhash_OPSLIMIT_MODERATE, crypto_pwhash_MEMLIMIT_MODERATE,
		crypto_pwhash_ALG_ARGON2ID13) != 0)
		code = sp_err_set(err, SP_E_NO_MEMORY,
		    "sealing a key takes %u MiB of memory, which is not to be had",
		    (unsigned)(crypto_pwhash_MEMLIMIT_MODERATE >> 20));
	else
		crypto_secretbox_easy(
		    sealed + SALT_LEN + NONCE_LEN, secret, SECRET_LEN, sealed + SALT_LEN, key);
	sodium_free(key);
	return code;
}

/* "MAGIC ROLE NAME BASE64\n" into text, FILE_MAX_LEN bytes of it; returns its length. */
static size_t
put_line(
    char *text, const char *magic, const struct sp_pubkey *public, const uint8_t *bytes, size_t len)
{
	size_t at;

	at = (size_t)snprintf(
	    text, FILE_MAX_LEN, "%s %s %s ", magic, sp_role_word(public->role), public->name);
	sodium_bin2base64(
	    text + at, FILE_MAX_LEN - at - 1, bytes, len, sodium_base64_VARIANT_ORIGINAL);
	at += strlen(text + at);
	text[at++] = '\n';
	return at;
}

enum sp_code
sp_key_save(const struct sp_key *key, const char *path, const char *passphrase, struct sp_err *err)
{
	char *text = sodium_malloc(FILE_MAX_LEN);
	uint8_t sealed[SEALED_LEN];
	enum sp_code code = SP_OK;
	char *pub = sp_xasprintf("%s.pub", path);
	size_t len;

	SP_ASSERT(text != NULL);
	/* a link key has no public half */
	if (key->public.role != SP_ROLE_LINK && access(pub, F_OK) == 0) {
		code = sp_err_set(err, SP_E_EXISTS, "%s is there already: name another file", pub);
		goto out;
	}
	if (passphrase != NULL) {
		code = seal(sealed, key->secret->bytes, passphrase, err);
		if (code != SP_OK)
			goto out;
		len = put_line(text, SEALED_MAGIC, &key->public, sealed, sizeof(sealed));
	} else {
		len = put_line(text, SECRET_MAGIC, &key->public, key->secret->bytes, SECRET_LEN);
	}
	code = sp_file_create(path, 0400, text, len, err);
	if (code != SP_OK || key->public.role == SP_ROLE_LINK)
		goto out;
	len = put_line(text, PUBLIC_MAGIC, &key->public, key->public.bytes, SP_PUBKEY_LEN);
	code = sp_file_create(pub, 0644, text, len, err);
	/* full disk: a secret alone would only be in the way of the next try */
	if (code != SP_OK)
		unlink(path);
out:
	sodium_free(text);
	free(pub);
	return code;
}

/* --- use ------------------------------------------------------------------------------------ */

const struct sp_pubkey *
sp_key_public(const struct sp_key *key)
{
	return &key->public;
}

const uint8_t *
sp_key_secret(const struct sp_key *key)
{
	return key->secret->bytes;
}

void
sp_key_sign(const struct sp_key *key, const void *data, size_t len, uint8_t sig[SP_SIG_LEN])
{
	SP_ASSERT(signs(key->public.role));
	crypto_sign_detached(sig, NULL, data, len, key->secret->sign);
}

int
sp_pubkey_verify(
    const uint8_t pk[SP_PUBKEY_LEN], const void *data, size_t len, const uint8_t sig[SP_SIG_LEN])
{
	init();
	return crypto_sign_verify_detached(sig, data, len, pk) == 0;
}
