/* humaneval.c -- programming tasks, and completions cut where the harness cuts them. */
#include "eval/humaneval.h"
#include "base/path.h"
#include "fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct sp_humaneval set;
	struct sp_err err;
	size_t out_len;
	char *text;

	if (sp_humaneval_parse(data, len, "input", &set, &err) == SP_OK)
		sp_humaneval_clear(&set);
	SP_ASSERT(sp_humaneval_stop((const char *)data, len, 0) <= len);
	text = sp_humaneval_completion((const char *)data, len, &out_len);
	SP_ASSERT(sp_path_is_utf8(text, out_len));
	free(text);
	return 0;
}
