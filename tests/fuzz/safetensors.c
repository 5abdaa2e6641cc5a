/* safetensors.c -- weight files: every tensor lies in the file, behind the one before it. */
#include "model/safetensors.h"
#include "fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct sp_safetensors *file = NULL;
	const struct sp_tensor *tensor;
	const uint8_t *end = NULL;
	struct sp_err err;
	uint64_t size;

	if (sp_safetensors_parse(data, len, "input", &file, &err) != SP_OK) {
		SP_ASSERT(file == NULL && err.msg[0] != '\0');
		return 0;
	}
	for (size_t i = 0; i < sp_safetensors_count(file); i++) {
		tensor = sp_safetensors_at(file, i);
		SP_ASSERT(tensor->data >= data && tensor->size <= len);
		SP_ASSERT(tensor->data + tensor->size <= data + len);
		SP_ASSERT(end == NULL || tensor->data == end);
		SP_ASSERT(sp_safetensors_size(tensor, &size, &err) == SP_OK);
		SP_ASSERT(size == tensor->size);
		SP_ASSERT(sp_safetensors_find(file, tensor->name) == tensor);
		end = tensor->data + tensor->size;
	}
	SP_ASSERT(end == NULL || end == data + len);
	sp_safetensors_metadata(file, "format");
	sp_safetensors_free(&file);
	return 0;
}
