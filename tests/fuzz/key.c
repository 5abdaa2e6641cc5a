/* key.c -- key files, public and secret. */
#include "release/key.h"
#include "base/buf.h"
#include "fuzz.h"

#include <unistd.h>

static void
check_public(const uint8_t *data, size_t len)
{
	struct sp_buf line = {0};
	struct sp_pubkey key;
	struct sp_err err;
	char *b64;

	if (sp_pubkey_parse(data, len, &key, &err) != SP_OK)
		return;
	b64 = sp_base64_encode(key.bytes, SP_PUBKEY_LEN);
	sp_buf_printf(
	    &line, "sallyport-public-key/1 %s %s %s\n", sp_role_word(key.role), key.name, b64);
	SP_ASSERT(line.len == len && memcmp(line.data, data, len) == 0);
	sp_buf_free(&line);
	free(b64);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char path[FUZZ_PATH_MAX];
	struct sp_key *key = NULL;
	struct sp_err err;
	enum sp_role role;
	int fd;

	check_public(data, len);
	fd = fuzz_file(data, len, path);
	/* without a passphrase: a sealed key is one Argon2id, a second of this core */
	if (sp_key_role(path, &role, &err) == SP_OK) {
		sp_key_is_sealed(path);
		if (sp_key_load(path, role, NULL, &key, &err) == SP_OK)
			SP_ASSERT(sp_key_public(key)->role == role);
		sp_key_free(&key);
	}
	close(fd);
	return 0;
}
