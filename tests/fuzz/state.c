/* state.c -- what daemons keep on disk and read again after a crash: one spelling of each. */
#include "eval/answer.h"
#include "fuzz.h"
#include "registryd/registryd.h"

#define COUNT 2 /* questions and programs of the seeds */

static void
check_mmlu(const uint8_t *data, size_t len)
{
	struct sp_answer_mmlu answers, again;
	struct sp_err err;
	size_t text_len;
	char *text;

	if (sp_answer_mmlu_parse(data, len, COUNT, &answers, &err) != SP_OK)
		return;
	text = sp_answer_mmlu_format(&answers, &text_len);
	SP_ASSERT(
	    sp_answer_mmlu_parse((const uint8_t *)text, text_len, COUNT, &again, &err) == SP_OK);
	SP_ASSERT(memcmp(answers.choices, again.choices, COUNT) == 0);
	free(text);
	sp_answer_mmlu_clear(&answers);
	sp_answer_mmlu_clear(&again);
}

static void
check_programs(const uint8_t *data, size_t len)
{
	struct sp_answer_programs answers, again;
	struct sp_err err;
	size_t text_len;
	char *text;

	if (sp_answer_programs_parse(data, len, COUNT, &answers, &err) != SP_OK)
		return;
	text = sp_answer_programs_format(&answers, &text_len);
	SP_ASSERT(sp_answer_programs_parse((const uint8_t *)text, text_len, COUNT, &again, &err) ==
		  SP_OK);
	for (size_t i = 0; i < COUNT; i++)
		SP_ASSERT(answers.programs[i].outcome == again.programs[i].outcome);
	free(text);
	sp_answer_programs_clear(&answers);
	sp_answer_programs_clear(&again);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct registryd_entry entry;
	struct sp_err err;
	size_t again_len;
	char *again;

	SP_ASSERT(registryd_version_parse(data, len) != 0);
	if (registryd_entry_parse(data, len, &entry, &err) == SP_OK) {
		again = registryd_entry_format(&entry, &again_len);
		SP_ASSERT(again_len == len && memcmp(again, data, len) == 0);
		free(again);
	}
	check_mmlu(data, len);
	check_programs(data, len);
	return 0;
}
