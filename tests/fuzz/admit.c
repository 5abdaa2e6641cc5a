/* admit.c -- AdmissionReviews: always an answer in JSON, and a model let in is one of the list. */
#include "admissiond/admit.h"
#include "fuzz.h"

#define MAX_AGE_MS 3600000

static char *files[] = {"config.json", "model.safetensors", "tokenizer.json"};
static struct sp_snapshot_model models[] = {
    {.name = "org/model",
	.kind = "model",
	.version = 1,
	.revision = {"0123456789012345678901234567890123456789"},
	.files = files,
	.file_count = 3},
    {.name = "org/revoked",
	.kind = "model",
	.version = 1,
	.files = files,
	.file_count = 3,
	.revoked = 1},
};
static const struct sp_snapshot snapshot = {.version = 7, .models = models, .count = 2};

static struct admit_verdict
decide(const struct admit_request *request, const struct sp_snapshot *known, int64_t age_ms)
{
	struct admit_verdict verdict;
	struct sp_err err;
	json_t *answer, *response;
	char *text;
	size_t len;

	admit_decide(request, known, age_ms, MAX_AGE_MS, &verdict);
	text = admit_answer(request, &verdict, &len);
	SP_ASSERT(sp_json_parse(text, len, "answer", &answer, &err) == SP_OK);
	response = json_object_get(answer, "response");
	SP_ASSERT(strcmp(json_string_value(json_object_get(response, "uid")), request->uid) == 0);
	SP_ASSERT(json_is_true(json_object_get(response, "allowed")) == (verdict.allowed != 0));
	SP_ASSERT(verdict.allowed || verdict.message[0] != '\0');
	json_decref(answer);
	free(text);
	return verdict;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct admit_request request;
	struct admit_verdict fresh, stale;
	struct sp_err err;

	if (admit_request_parse(data, len, &request, &err) != SP_OK)
		return 0;
	fresh = decide(&request, &snapshot, 0);
	stale = decide(&request, &snapshot, MAX_AGE_MS + 1);
	if (fresh.allowed && fresh.model[0] != '\0') {
		SP_ASSERT(sp_snapshot_find(&snapshot, fresh.model, fresh.version) != NULL);
		SP_ASSERT(!stale.allowed && !decide(&request, NULL, 0).allowed);
	}
	admit_request_clear(&request);
	return 0;
}
