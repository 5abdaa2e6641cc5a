/* json.c -- JSON from outside, and its one canonical spelling. */
#include "base/json.h"
#include "fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	json_t *value;
	struct sp_err err;
	size_t text_len;
	char *text;

	if (sp_json_parse_canonical(data, len, "input", &value, &err) == SP_OK) {
		text = sp_json_canonical(value, &text_len);
		SP_ASSERT(text_len == len && memcmp(text, data, len) == 0);
		free(text);
		json_decref(value);
	}
	if (sp_json_parse(data, len, "input", &value, &err) == SP_OK) {
		free(sp_json_canonical(value, &text_len));
		json_decref(value);
	}
	return 0;
}
