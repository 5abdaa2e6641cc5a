/* note.h -- C2SP signed notes and tlog checkpoints (c2sp.org/signed-note, /tlog-checkpoint). */
#ifndef SP_NOTE_H
#define SP_NOTE_H

#include "base/hash.h"

#define SP_NOTE_MAX (64u << 10)
#define SP_NOTE_SIGS_MAX 16

struct sp_note_sig {
	char name[256];
	uint32_t keyid;
	uint8_t sig[64];
};

struct sp_note {
	char *text; /* malloc'd, ends with \n; what was signed */
	size_t text_len;
	struct sp_note_sig sigs[SP_NOTE_SIGS_MAX];
	size_t sig_count;
};

/* SHA-256(name | 0x0A | 0x01 | public key)[:4] */
uint32_t sp_note_keyid(const char *name, const uint8_t pk[32]);
/* vkey: name+hex8(keyid)+base64(0x01 | pk); malloc'd */
char *sp_note_vkey(const char *name, const uint8_t pk[32]);
enum sp_code sp_note_parse_vkey(
    const char *vkey, char name[256], uint8_t pk[32], struct sp_err *err) SP_MUST_USE;

enum sp_code
sp_note_parse(const uint8_t *data, size_t len, struct sp_note *out, struct sp_err *err) SP_MUST_USE;
void sp_note_clear(struct sp_note *note);
/* 1 when a signature under that name and key is there and valid. */
int sp_note_verify(const struct sp_note *note, const char *name, const uint8_t pk[32]);
/* text (ends with \n) + one signature line; sign makes 64 bytes over text. malloc'd. */
typedef void sp_note_sign_fn(void *ctx, const void *data, size_t len, uint8_t sig[64]);
char *sp_note_sign(const char *text, const char *name, const uint8_t pk[32], sp_note_sign_fn *sign,
    void *ctx, size_t *len);

/* origin\nsize\nbase64(root)\n */
struct sp_checkpoint {
	char origin[256];
	uint64_t size;
	uint8_t root[SP_DIGEST_LEN];
};
char *sp_checkpoint_format(const struct sp_checkpoint *checkpoint); /* malloc'd text */
enum sp_code sp_checkpoint_parse(
    const char *text, size_t len, struct sp_checkpoint *out, struct sp_err *err) SP_MUST_USE;

#endif
