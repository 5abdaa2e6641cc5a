/* database.c -- log verify --database: a ledgerd's database, while that does not run. */
#include "database.h"
#include "ledger/inspect.h"
#include "release/proof.h"

#include <inttypes.h>
#include <string.h>

struct notary {
	const struct sp_trust *trust;
	struct sp_pubkey signer;
};

static enum sp_code
check_note(void *ctx, const uint8_t *note, size_t len, struct sp_err *err)
{
	struct notary *notary = ctx;
	const struct sp_pubkey *signer = NULL;
	struct sp_checkpoint checkpoint;
	enum sp_code code;

	code = sp_proof_checkpoint(notary->trust, note, len, &checkpoint, &signer, err);
	if (code == SP_OK)
		notary->signer = *signer;
	return code;
}

static void
print(struct ctl *ctl, const char *path, const struct sp_inspection *found,
    const struct sp_pubkey *signer)
{
	struct sp_hex root = sp_hex_of(found->root);
	uint64_t behind = found->entries - found->checkpoint_size;

	if (ctl->json) {
		ctl_out_json(
		    json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:s, s:s, s:s, s:b}", "database",
			path, "origin", found->origin, "size", (json_int_t)found->checkpoint_size,
			"entries", (json_int_t)found->entries, "uncovered", (json_int_t)behind,
			"jobs", (json_int_t)found->jobs, "steps", (json_int_t)found->steps, "root",
			root.s, "key", signer->id.s, "signer", signer->name, "verified", 1));
		return;
	}
	ctl_out_print(stdout, "%s: database of %s: verified\n", path, found->origin);
	ctl_out_field(stdout, "entries", "%" PRIu64 ", each as it was committed", found->entries);
	ctl_out_field(stdout, "jobs",
	    "%" PRIu64 ", %" PRIu64 " with a step under way, as the entries tell", found->jobs,
	    found->steps);
	ctl_out_field(stdout, "root", "%s, recomputed from the entries", root.s);
	ctl_out_field(stdout, "checkpoint", "size %" PRIu64 ", signed by %s, key %s",
	    found->checkpoint_size, signer->name, signer->id.s);
	if (behind > 0)
		ctl_out_field(stdout, "behind it",
		    "%" PRIu64 " entries that ledgerd's next start will cover", behind);
}

enum sp_code
ctl_database_verify(struct ctl *ctl, const char *path, struct sp_err *err)
{
	struct sp_inspection found = {.entries = 0};
	struct sp_trust *trust = NULL;
	struct notary notary;
	struct sp_db *db = NULL;
	enum sp_code code;

	memset(&notary, 0, sizeof(notary));
	code = ctl_trust(ctl, &trust, err);
	notary.trust = trust;
	if (code == SP_OK) {
		code = sp_db_open_readonly(path, &db, err);
		if (code == SP_E_EXISTS)
			sp_err_suffix(err,
			    "; stop it first, or ask it: `sallyctl log verify` without "
			    "--database");
	}
	if (code == SP_OK) {
		code = sp_inspect(db, NULL, check_note, &notary, &found, err);
		if (code == SP_OK && found.checkpoint == NULL)
			code = sp_err_set(err, SP_E_INCOMPLETE, "no checkpoint was ever stored");
		if (code != SP_OK && strstr(err->msg, path) == NULL)
			sp_err_prefix(err, "database %s", path);
	}
	if (code == SP_OK)
		print(ctl, path, &found, &notary.signer);
	sp_inspection_clear(&found);
	sp_db_close(&db);
	sp_trust_free(&trust);
	return code;
}
