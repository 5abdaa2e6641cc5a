/*
 * note.c -- signed notes and checkpoints.
 *
 * A note (c2sp.org/signed-note), valid UTF-8 without control characters other than \n:
 *
 *	text lines, the last one ending in \n
 *	(an empty line: the last one of the note)
 *	U+2014 SP key-name SP base64(u32be keyid | signature) \n      1 to 16 of these
 *
 * A checkpoint's text (c2sp.org/tlog-checkpoint): origin \n size \n base64(root) \n; extension
 *lines are allowed there, but this project's logs write none and none are accepted.
 */
#include "ledger/note.h"
#include "base/buf.h"
#include "base/path.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define DASH "\xe2\x80\x94 " /* U+2014, space */
#define TYPE_ED25519 0x01

uint32_t
sp_note_keyid(const char *name, const uint8_t pk[32])
{
	static const uint8_t middle[2] = {0x0a, TYPE_ED25519};
	struct sp_hash *hash = sp_hash_new(SP_SHA256);
	uint8_t digest[SP_DIGEST_LEN];

	sp_hash_add(hash, name, strlen(name));
	sp_hash_add(hash, middle, sizeof(middle));
	sp_hash_add(hash, pk, 32);
	sp_hash_finish(hash, digest);
	sp_hash_free(&hash);
	return (uint32_t)digest[0] << 24 | (uint32_t)digest[1] << 16 | (uint32_t)digest[2] << 8 |
	       digest[3];
}

/* Bytes of the Unicode space (property White_Space) at s, 0 when there is none. */
static size_t
space_len(const char *s)
{
	const uint8_t *u = (const uint8_t *)s;

	if (u[0] == ' ' || (u[0] >= 0x09 && u[0] <= 0x0d))
		return 1;
	if (u[0] == 0xc2 && (u[1] == 0x85 || u[1] == 0xa0))
		return 2;
	if (strncmp(s, "\xe1\x9a\x80", 3) == 0 || strncmp(s, "\xe3\x80\x80", 3) == 0 ||
	    strncmp(s, "\xe2\x81\x9f", 3) == 0)
		return 3;
	if (u[0] == 0xe2 && u[1] == 0x80 &&
	    ((u[2] >= 0x80 && u[2] <= 0x8a) || u[2] == 0xa8 || u[2] == 0xa9 || u[2] == 0xaf))
		return 3;
	return 0;
}

static int
is_key_name(const char *name)
{
	if (*name == '\0')
		return 0;
	for (; *name != '\0'; name++)
		if (*name == '+' || space_len(name) > 0)
			return 0;
	return 1;
}

/* --- verifier keys ---------------------------------------------------------------------------- */

char *
sp_note_vkey(const char *name, const uint8_t pk[32])
{
	uint8_t typed[33];
	char *key, *vkey;

	typed[0] = TYPE_ED25519;
	memcpy(typed + 1, pk, 32);
	key = sp_base64_encode(typed, sizeof(typed));
	vkey = sp_xasprintf("%s+%08x+%s", name, sp_note_keyid(name, pk), key);
	free(key);
	return vkey;
}

enum sp_code
sp_note_parse_vkey(const char *vkey, char name[256], uint8_t pk[32], struct sp_err *err)
{
	const char *id = strchr(vkey, '+'), *key = id != NULL ? strchr(id + 1, '+') : NULL;
	enum sp_code code = SP_OK;
	uint8_t *typed = NULL;
	size_t len = 0;
	char hex[9];

	if (key == NULL || (size_t)(id - vkey) >= 256 || key - id != 9)
		return sp_err_set(err, SP_E_INVALID,
		    "verifier key is not of the form NAME+KEYID+BASE64 (8 hex digits of key id)");
	memcpy(name, vkey, (size_t)(id - vkey));
	name[id - vkey] = '\0';
	typed = sp_base64_decode(key + 1, strlen(key + 1), &len);
	if (!sp_path_is_utf8(name, strlen(name)) || !is_key_name(name))
		code = sp_err_set(err, SP_E_INVALID,
		    "verifier key: its name is empty or has a space or control character");
	else if (typed == NULL)
		code = sp_err_set(err, SP_E_INVALID, "verifier key of %s: not base64", name);
	else if (len != 33 || typed[0] != TYPE_ED25519)
		code = sp_err_set(err, SP_E_UNSUPPORTED,
		    "verifier key of %s: not an Ed25519 key (type 01, 32 bytes)", name);
	else
		memcpy(pk, typed + 1, 32);
	free(typed);
	if (code != SP_OK)
		return code;
	snprintf(hex, sizeof(hex), "%08x", sp_note_keyid(name, pk));
	if (strncmp(hex, id + 1, 8) != 0)
		return sp_err_set(err, SP_E_INVALID,
		    "verifier key of %s: key id %.8s does not belong to name and key (%s does)",
		    name, id + 1, hex);
	return SP_OK;
}

/* --- parsing ---------------------------------------------------------------------------------- */

/* One signature line, without its \n. Signatures of other types than Ed25519 are left out: they are
 * of keys we cannot know. */
static enum sp_code
parse_sig(const char *line, size_t len, struct sp_note *out, struct sp_err *err)
{
	struct sp_note_sig *sig = &out->sigs[out->sig_count];
	const char *name = line + strlen(DASH), *space;
	size_t raw_len, name_len;
	uint8_t *raw;

	if (len <= strlen(DASH) || memcmp(line, DASH, strlen(DASH)) != 0)
		return sp_err_set(err, SP_E_INVALID,
		    "signed note: a line after the last empty one is no signature line");
	space = memchr(name, ' ', len - strlen(DASH));
	name_len = space != NULL ? (size_t)(space - name) : 0;
	if (name_len == 0 || name_len >= sizeof(sig->name))
		return sp_err_set(err, SP_E_INVALID,
		    "signed note: key name of a signature is empty or longer than 255 bytes");
	memcpy(sig->name, name, name_len);
	sig->name[name_len] = '\0';
	if (!is_key_name(sig->name))
		return sp_err_set(
		    err, SP_E_INVALID, "signed note: a key name has a space or a plus");
	raw = sp_base64_decode(space + 1, (size_t)(line + len - space) - 1, &raw_len);
	if (raw == NULL || raw_len < 5) {
		free(raw);
		return sp_err_set(err, SP_E_INVALID,
		    "signed note: signature of %s is not base64 of key id and signature",
		    sig->name);
	}
	if (raw_len == 4 + sizeof(sig->sig)) {
		sig->keyid = (uint32_t)raw[0] << 24 | (uint32_t)raw[1] << 16 |
			     (uint32_t)raw[2] << 8 | raw[3];
		memcpy(sig->sig, raw + 4, sizeof(sig->sig));
		out->sig_count++;
	}
	free(raw);
	return SP_OK;
}

/* Offset of the first signature line: behind the note's last empty line. 0 when there is none. */
static size_t
find_sigs(const char *data, size_t len)
{
	size_t i;

	for (i = len; i >= 2; i--)
		if (data[i - 1] == '\n' && data[i - 2] == '\n')
			return i;
	return 0;
}

static enum sp_code
check_characters(const char *data, size_t len, struct sp_err *err)
{
	size_t i;

	if (!sp_path_is_utf8(data, len))
		return sp_err_set(err, SP_E_INVALID, "signed note: not valid UTF-8");
	for (i = 0; i < len; i++)
		if ((unsigned char)data[i] < 0x20 && data[i] != '\n')
			return sp_err_set(
			    err, SP_E_INVALID, "signed note: control character at byte %zu", i);
	return SP_OK;
}

enum sp_code
sp_note_parse(const uint8_t *data, size_t len, struct sp_note *out, struct sp_err *err)
{
	const char *text = (const char *)data;
	size_t start, at, n, lines = 0;
	enum sp_code code;

	memset(out, 0, sizeof(*out));
	if (len > SP_NOTE_MAX)
		return sp_err_set(err, SP_E_LIMIT, "signed note: %zu bytes, at most %u are allowed",
		    len, SP_NOTE_MAX);
	code = check_characters(text, len, err);
	if (code != SP_OK)
		return code;
	start = find_sigs(text, len);
	/* the text keeps its own \n, so it has at least that */
	if (start < 2 || start == len || text[len - 1] != '\n')
		return sp_err_set(err, SP_E_INVALID,
		    "signed note: no text, empty line and signature lines, each ending in \\n");
	for (at = start; at < len; at += n + 1) {
		n = (size_t)((const char *)memchr(text + at, '\n', len - at) - (text + at));
		if (++lines > SP_NOTE_SIGS_MAX)
			return sp_err_set(err, SP_E_LIMIT, "signed note: more than %d signatures",
			    SP_NOTE_SIGS_MAX);
		code = parse_sig(text + at, n, out, err);
		if (code != SP_OK)
			return code;
	}
	out->text_len = start - 1;
	out->text = sp_xcalloc(out->text_len + 1, 1);
	memcpy(out->text, text, out->text_len);
	return SP_OK;
}

void
sp_note_clear(struct sp_note *note)
{
	free(note->text);
	memset(note, 0, sizeof(*note));
}

int
sp_note_verify(const struct sp_note *note, const char *name, const uint8_t pk[32])
{
	uint32_t keyid = sp_note_keyid(name, pk);
	int found = 0;
	size_t i;

	for (i = 0; i < note->sig_count; i++) {
		const struct sp_note_sig *sig = &note->sigs[i];

		if (sig->keyid != keyid || strcmp(sig->name, name) != 0)
			continue;
		/* a wrong signature under a key that is known spoils the note */
		if (crypto_sign_verify_detached(
			sig->sig, (const unsigned char *)note->text, note->text_len, pk) != 0)
			return 0;
		found = 1;
	}
	return found;
}

char *
sp_note_sign(const char *text, const char *name, const uint8_t pk[32], sp_note_sign_fn *sign,
    void *ctx, size_t *len)
{
	size_t text_len = strlen(text);
	uint32_t keyid = sp_note_keyid(name, pk);
	struct sp_buf note = {0};
	uint8_t raw[4 + 64];
	char *line;

	SP_ASSERT(text_len > 0 && text[text_len - 1] == '\n' && is_key_name(name));
	raw[0] = (uint8_t)(keyid >> 24);
	raw[1] = (uint8_t)(keyid >> 16);
	raw[2] = (uint8_t)(keyid >> 8);
	raw[3] = (uint8_t)keyid;
	sign(ctx, text, text_len, raw + 4);
	line = sp_base64_encode(raw, sizeof(raw));
	sp_buf_printf(&note, "%s\n" DASH "%s %s\n", text, name, line);
	free(line);
	return sp_buf_take(&note, len);
}

/* --- checkpoints ------------------------------------------------------------------------------ */

char *
sp_checkpoint_format(const struct sp_checkpoint *checkpoint)
{
	char *root = sp_base64_encode(checkpoint->root, SP_DIGEST_LEN);
	char *text = sp_xasprintf(
	    "%s\n%llu\n%s\n", checkpoint->origin, (unsigned long long)checkpoint->size, root);

	free(root);
	return text;
}

/* Decimal without leading zeros or sign, all of s. */
static int
parse_size(const char *s, size_t len, uint64_t *out)
{
	uint64_t value = 0;
	size_t i;

	if (len == 0 || (len > 1 && s[0] == '0'))
		return 0;
	for (i = 0; i < len; i++) {
		unsigned digit = (unsigned)(s[i] - '0');

		if (digit > 9 || value > (UINT64_MAX - digit) / 10)
			return 0;
		value = value * 10 + digit;
	}
	*out = value;
	return 1;
}

enum sp_code
sp_checkpoint_parse(const char *text, size_t len, struct sp_checkpoint *out, struct sp_err *err)
{
	const char *end[3], *at = text;
	uint8_t *root;
	size_t i, n;

	for (i = 0; i < 3; i++) {
		end[i] = memchr(at, '\n', len - (size_t)(at - text));
		if (end[i] == NULL || end[i] == at)
			return sp_err_set(err, SP_E_INVALID,
			    "checkpoint: not three lines of origin, size and root");
		at = end[i] + 1;
	}
	if (at != text + len)
		return sp_err_set(err, SP_E_UNSUPPORTED, "checkpoint: lines after the root");
	n = (size_t)(end[0] - text);
	if (n >= sizeof(out->origin) || memchr(text, '\0', n) != NULL)
		return sp_err_set(err, SP_E_INVALID,
		    "checkpoint: origin longer than %zu bytes or with a NUL",
		    sizeof(out->origin) - 1);
	memcpy(out->origin, text, n);
	out->origin[n] = '\0';
	if (!parse_size(end[0] + 1, (size_t)(end[1] - end[0]) - 1, &out->size))
		return sp_err_set(err, SP_E_INVALID,
		    "checkpoint of %s: size is not a decimal number without leading zeros",
		    out->origin);
	root = sp_base64_decode(end[1] + 1, (size_t)(end[2] - end[1]) - 1, &n);
	if (root == NULL || n != SP_DIGEST_LEN) {
		free(root);
		return sp_err_set(err, SP_E_INVALID,
		    "checkpoint of %s: root is not base64 of 32 bytes", out->origin);
	}
	memcpy(out->root, root, SP_DIGEST_LEN);
	free(root);
	return SP_OK;
}
