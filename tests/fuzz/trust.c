/* trust.c -- trust documents: every key of an accepted one is found by its fingerprint. */
#include "release/trust.h"
#include "fuzz.h"

static void
check_role(const struct sp_trust *trust, enum sp_role role)
{
	size_t i, count = sp_trust_key_count(trust, role);
	const struct sp_pubkey *key;

	SP_ASSERT(sp_trust_threshold(trust, role) <= count);
	SP_ASSERT(count == 0 || sp_trust_threshold(trust, role) > 0);
	for (i = 0; i < count; i++) {
		key = sp_trust_key(trust, role, i);
		SP_ASSERT(key->role == role);
		SP_ASSERT(strcmp(sp_sha256_hex(key->bytes, SP_PUBKEY_LEN).s, key->id.s) == 0);
		SP_ASSERT(sp_trust_key_by_id(trust, role, key->id.s) == key);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	const struct sp_trust_worker *worker;
	struct sp_trust *trust = NULL;
	struct sp_err err;

	if (sp_trust_parse(data, len, &trust, &err) != SP_OK) {
		SP_ASSERT(trust == NULL && err.msg[0] != '\0');
		return 0;
	}
	SP_ASSERT(sp_trust_version(trust) >= 1);
	for (int role = 0; role < SP_ROLE_COUNT; role++)
		check_role(trust, (enum sp_role)role);
	for (size_t i = 0; i < sp_trust_worker_count(trust); i++) {
		worker = sp_trust_worker(trust, i);
		SP_ASSERT(sp_trust_worker_by_name(trust, worker->name) == worker);
		SP_ASSERT(sp_trust_worker_by_key(trust, worker->key) == worker);
	}
	sp_trust_free(&trust);
	return 0;
}
