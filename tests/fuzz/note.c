/* note.c -- signed notes, the checkpoints in them, and verifier keys. */
#include "ledger/note.h"
#include "fuzz.h"

static void
check_note(const uint8_t *data, size_t len)
{
	struct sp_checkpoint checkpoint;
	struct sp_note note;
	struct sp_err err;
	char *text;

	if (sp_note_parse(data, len, &note, &err) != SP_OK)
		return;
	SP_ASSERT(note.text_len > 0 && note.text[note.text_len - 1] == '\n');
	SP_ASSERT(note.text_len <= len && memcmp(note.text, data, note.text_len) == 0);
	SP_ASSERT(note.sig_count <= SP_NOTE_SIGS_MAX);
	if (sp_checkpoint_parse(note.text, note.text_len, &checkpoint, &err) == SP_OK) {
		text = sp_checkpoint_format(&checkpoint);
		/* other logs may say more below the three lines that we write */
		SP_ASSERT(strncmp(text, note.text, strlen(text)) == 0);
		free(text);
	}
	sp_note_clear(&note);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char *text = fuzz_text(data, len), *again, name[256];
	uint8_t pk[32];
	struct sp_err err;

	check_note(data, len);
	if (sp_note_parse_vkey(text, name, pk, &err) == SP_OK) {
		again = sp_note_vkey(name, pk);
		SP_ASSERT(strcmp(again, text) == 0);
		free(again);
	}
	free(text);
	return 0;
}
