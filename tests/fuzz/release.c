/*
 * release.c -- releases under a fixed trust. The input is taken as an envelope, and as the payload
 * of one that the release key signs, as a bastion would whose release key was stolen: whatever is
 * accepted, it lets in nothing but the one candidate that the operators approved.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "../unit/release_rig.h"
#include "fuzz.h"

static struct rig rig;
static struct rig_parts parts;
static char *approved; /* the candidate */
static size_t approved_len;

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const struct rig_deviation none = {0};

	(void)argc, (void)argv;
	fuzz_fix_random();
	rig_open(&rig);
	rig_parts(&rig, &none, &parts);
	approved = sp_candidate_format(&parts.c, &approved_len);
	return 0;
}

static void
check(const uint8_t *envelope, size_t len)
{
	struct sp_release *release = NULL;
	const char *failed = NULL;
	struct sp_err err;
	size_t text_len;
	char *text;

	if (sp_release_verify(rig.trust, envelope, len, &release, &failed, &err) != SP_OK) {
		SP_ASSERT(release == NULL && failed != NULL && err.msg[0] != '\0');
		return;
	}
	text = sp_candidate_format(&release->candidate, &text_len);
	SP_ASSERT(text_len == approved_len && memcmp(text, approved, text_len) == 0);
	free(text);
	SP_ASSERT(release->attestation_count == parts.count);
	SP_ASSERT(strcmp(release->digest.s, sp_sha256_hex(envelope, len).s) == 0);
	sp_release_free(&release);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct sp_err err;
	size_t envelope_len;
	char *envelope;

	check(data, len);
	SP_ASSERT(sp_dsse_sign(rig.keys[SP_ROLE_RELEASE], SP_DSSE_INTOTO, data, len, &envelope,
		      &envelope_len, &err) == SP_OK);
	check((const uint8_t *)envelope, envelope_len);
	free(envelope);
	return 0;
}
