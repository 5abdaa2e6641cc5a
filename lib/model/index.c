/* index.c -- model.safetensors.index.json. */
#include "model/index.h"

#include "base/json.h"

#include <stdlib.h>
#include <string.h>

/*
 * As transformers writes it:
 *
 *	{"metadata": {"total_size": BYTES, …}, "weight_map": {TENSOR: FILE, …}}
 *
 * FILE lies beside the index, so it has no path. The metadata is not read: tools disagree on what
 * BYTES counts (tied tensors once or twice), and the files' own headers say what is there.
 */

/* A plain file name. */
static int
is_shard_name(const char *name)
{
	size_t len = strlen(name), suffix = strlen(".safetensors");

	return len > suffix && strcmp(name + len - suffix, ".safetensors") == 0 &&
	       strchr(name, '/') == NULL && name[0] != '.';
}

static enum sp_code
parse_map(const json_t *root, struct sp_index *index, struct sp_err *err)
{
	const char *tensor;
	json_t *map, *value;
	enum sp_code code;

	if ((code = sp_json_object(root, "weight_map", &map, err)))
		return code;
	index->entries = calloc(json_object_size(map) + 1, sizeof(*index->entries));
	if (index->entries == NULL)
		return sp_err_set(err, SP_E_NO_MEMORY, "%zu tensors", json_object_size(map));
	json_object_foreach(map, tensor, value)
	{
		const char *file = json_string_value(value);

		if (file == NULL || !is_shard_name(file))
			return sp_err_set(err, SP_E_INVALID,
			    "weight_map of %.128s is not the name of a .safetensors file", tensor);
		index->entries[index->count++] = (struct sp_index_entry){tensor, file};
	}
	return SP_OK;
}

enum sp_code
sp_index_parse(
    const uint8_t *data, size_t len, const char *what, struct sp_index **out, struct sp_err *err)
{
	struct sp_index *index = sp_xcalloc(1, sizeof(*index));
	json_t *root = NULL;
	enum sp_code code;

	*out = NULL;
	if ((code = sp_json_parse(data, len, what, &root, err)))
		goto out;
	index->root = root;
	if ((code = parse_map(root, index, err))) {
		sp_err_prefix(err, "%s", what);
		goto out;
	}
	*out = index;
	index = NULL;
out:
	sp_index_free(&index);
	return code;
}

void
sp_index_free(struct sp_index **index)
{
	if (*index == NULL)
		return;
	free((*index)->entries);
	json_decref((*index)->root);
	free(*index);
	*index = NULL;
}
