/*
 * log.c -- whole audit logs. The input is entries as in a bundle of c2sp.org/tlog-tiles (u16be
 * length, bytes); the target signs their checkpoint, so that every entry is looked at.
 */
#include "ledger/log.h"
#include "fuzz.h"
#include "ledger/entry.h"
#include "ledger/merkle.h"
#include "release/key.h"

#define ENTRIES_MAX 256
#define ORIGIN "sallyport/bastion/host"

static struct sp_key *key;
static char *vkey;

static void
sign(void *ctx, const void *data, size_t len, uint8_t sig[64])
{
	sp_key_sign(ctx, data, len, sig);
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct sp_err err;

	(void)argc, (void)argv;
	fuzz_fix_random();
	SP_ASSERT(sp_key_new(SP_ROLE_LOG, "ledgerd@bastion", &key, &err) == SP_OK);
	vkey = sp_note_vkey(ORIGIN, sp_key_public(key)->bytes);
	return 0;
}

static void
check(const struct sp_log_bytes *entries, uint64_t count)
{
	struct sp_checkpoint checkpoint = {.origin = ORIGIN, .size = count};
	struct sp_log_report report = {0};
	struct sp_replay replay = {0};
	struct sp_merkle tree = {0};
	uint8_t leaf[SP_DIGEST_LEN];
	struct sp_err err;
	char *text, *note;
	size_t len;

	for (uint64_t i = 0; i < count; i++) {
		sp_merkle_leaf(entries[i].data, entries[i].len, leaf);
		sp_merkle_append(&tree, leaf);
	}
	sp_merkle_root(&tree, checkpoint.root);
	text = sp_checkpoint_format(&checkpoint);
	note = sp_note_sign(text, ORIGIN, sp_key_public(key)->bytes, sign, key, &len);
	if (sp_log_verify(entries, count, (const uint8_t *)note, len, vkey, &report, &replay,
		&err) == SP_OK) {
		SP_ASSERT(report.entries == count && report.size == count);
		SP_ASSERT(replay.count == report.jobs && replay.size == count);
		for (size_t i = 0; i < replay.count; i++)
			SP_ASSERT(sp_replay_find(&replay, replay.jobs[i].id) == &replay.jobs[i]);
	} else {
		SP_ASSERT(err.msg[0] != '\0');
	}
	sp_replay_free(&replay);
	free(text);
	free(note);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct sp_log_bytes entries[ENTRIES_MAX];
	Sallyport__Entry *entry;
	struct sp_err err;
	uint64_t count = 0;
	size_t n;

	while (len >= 2 && count < ENTRIES_MAX) {
		n = (size_t)data[0] << 8 | data[1];
		n = n < len - 2 ? n : len - 2;
		entries[count++] = (struct sp_log_bytes){data + 2, n};
		if (sp_entry_parse(data + 2, n, &entry, &err) == SP_OK)
			sallyport__entry__free_unpacked(entry, NULL);
		data += 2 + n;
		len -= 2 + n;
	}
	check(entries, count);
	return 0;
}
