/* safetensors.c -- reader and writer of the safetensors weight format. */
#include "model/safetensors.h"

#include "base/buf.h"
#include "base/file.h"
#include "base/json.h"

#include <stdlib.h>
#include <string.h>

/*
 * The file (huggingface/safetensors, README "Format"):
 *
 *	u64le N                 at most 100,000,000
 *	N bytes of JSON         starts with '{', may be padded at the end with spaces
 *	data                    to the end of the file
 *
 * The JSON object maps each tensor's name to {"dtype": "F32", "shape": [2, 3], "data_offsets":
 * [BEGIN, END]}, offsets counting from the start of data; the key "__metadata__" maps strings to
 * strings. Keys are unique, END - BEGIN is the size that dtype and shape give, and the tensors
 * together cover data without hole, overlap or rest.
 *
 * SP_JSON_MAX bounds N more tightly than the format does: 16 MiB of header are some 130,000
 * tensors.
 */
#define HEADER_MAX 100000000u

struct sp_safetensors {
	json_t *header;		   /* owns the names and the metadata */
	struct sp_tensor *tensors; /* by offset */
	const struct sp_tensor **by_name;
	size_t count;
};

enum sp_code
sp_safetensors_size(const struct sp_tensor *tensor, uint64_t *size, struct sp_err *err)
{
	uint64_t total = sp_dtype_size(tensor->dtype);

	SP_ASSERT(tensor->rank <= SP_TENSOR_RANK_MAX);
	for (size_t i = 0; i < tensor->rank; i++) {
		if (__builtin_mul_overflow(total, tensor->shape[i], &total) || total > INT64_MAX)
			return sp_err_set(
			    err, SP_E_LIMIT, "tensor %s: shape is too large", tensor->name);
	}
	*size = total;
	return SP_OK;
}

static enum sp_code
parse_tensor(const char *name, const json_t *value, const uint8_t *data, uint64_t data_len,
    struct sp_tensor *out, struct sp_err *err)
{
	json_t *shape, *offsets;
	const char *dtype;
	int64_t bound[2], dim;
	enum sp_code code;

	*out = (struct sp_tensor){.name = name};
	if (name[0] == '\0' || strlen(name) > SP_TENSOR_NAME_MAX)
		return sp_err_set(err, SP_E_INVALID,
		    "a tensor name is empty or longer than %d bytes", SP_TENSOR_NAME_MAX);
	if ((code = sp_json_string(value, "dtype", &dtype, err)) ||
	    (code = sp_json_array(value, "shape", &shape, err)) ||
	    (code = sp_json_array(value, "data_offsets", &offsets, err)))
		return sp_err_prefix(err, "tensor %s", name);
	if (json_object_size(value) != 3)
		return sp_err_set(err, SP_E_INVALID,
		    "tensor %s: a field beside dtype, shape and "
		    "data_offsets",
		    name);
	if (!sp_dtype_find(dtype, &out->dtype))
		return sp_err_set(err, SP_E_UNSUPPORTED, "tensor %s: dtype %.16s", name, dtype);
	out->rank = json_array_size(shape);
	if (out->rank > SP_TENSOR_RANK_MAX)
		return sp_err_set(err, SP_E_UNSUPPORTED, "tensor %s: %zu dimensions, at most %d",
		    name, out->rank, SP_TENSOR_RANK_MAX);
	for (size_t i = 0; i < out->rank; i++) {
		const json_t *item = json_array_get(shape, i);

		dim = json_is_integer(item) ? json_integer_value(item) : -1;
		if (dim < 0)
			return sp_err_set(err, SP_E_INVALID,
			    "tensor %s: shape[%zu] is not a "
			    "non-negative integer",
			    name, i);
		out->shape[i] = (uint64_t)dim;
	}
	for (size_t i = 0; i < 2; i++) {
		const json_t *item = json_array_get(offsets, i);

		bound[i] = json_is_integer(item) ? json_integer_value(item) : -1;
	}
	if (json_array_size(offsets) != 2 || bound[0] < 0 || bound[1] < bound[0] ||
	    (uint64_t)bound[1] > data_len)
		return sp_err_set(err, SP_E_INVALID,
		    "tensor %s: data_offsets are not two rising "
		    "positions inside the file",
		    name);
	if ((code = sp_safetensors_size(out, &out->size, err)))
		return code;
	if (out->size != (uint64_t)(bound[1] - bound[0]))
		return sp_err_set(err, SP_E_INVALID,
		    "tensor %s: dtype and shape need %llu bytes, "
		    "data_offsets hold %lld",
		    name, (unsigned long long)out->size, (long long)(bound[1] - bound[0]));
	out->data = data + bound[0];
	return SP_OK;
}

static enum sp_code
check_metadata(const json_t *metadata, struct sp_err *err)
{
	const char *key;
	json_t *value;

	if (!json_is_object(metadata))
		return sp_err_set(err, SP_E_INVALID, "__metadata__ is not an object");
	json_object_foreach((json_t *)(uintptr_t)metadata, key, value)
	{
		if (!json_is_string(value))
			return sp_err_set(
			    err, SP_E_INVALID, "__metadata__.%.64s is not a string", key);
	}
	return SP_OK;
}

static int
compare_offset(const void *a, const void *b)
{
	const struct sp_tensor *x = a, *y = b;

	if (x->data != y->data)
		return x->data < y->data ? -1 : 1;
	return x->size < y->size ? -1 : x->size > y->size; /* empty tensors share a position */
}

static int
compare_name(const void *a, const void *b)
{
	const struct sp_tensor *const *x = a, *const *y = b;

	return strcmp((*x)->name, (*y)->name);
}

/* In order of offset each tensor must begin where the one before ended. */
static enum sp_code
check_cover(
    const struct sp_safetensors *file, const uint8_t *data, uint64_t data_len, struct sp_err *err)
{
	const uint8_t *next = data;

	for (size_t i = 0; i < file->count; i++) {
		const struct sp_tensor *tensor = &file->tensors[i];

		if (tensor->data != next)
			return sp_err_set(err, SP_E_INVALID, "tensor %s: data %s", tensor->name,
			    tensor->data < next ? "overlaps another tensor's"
						: "begins after a hole");
		next += tensor->size;
	}
	if (next != data + data_len)
		return sp_err_set(err, SP_E_INVALID, "bytes after the last tensor");
	return SP_OK;
}

static enum sp_code
parse_header(
    struct sp_safetensors *file, const uint8_t *data, uint64_t data_len, struct sp_err *err)
{
	size_t n = json_object_size(file->header);
	const char *key;
	json_t *value;
	enum sp_code code;

	file->tensors = calloc(n + 1, sizeof(*file->tensors));
	file->by_name = calloc(n + 1, sizeof(*file->by_name));
	if (file->tensors == NULL || file->by_name == NULL)
		return sp_err_set(err, SP_E_NO_MEMORY, "%zu tensors", n);
	json_object_foreach(file->header, key, value)
	{
		if (strcmp(key, "__metadata__") == 0)
			code = check_metadata(value, err);
		else
			code = parse_tensor(
			    key, value, data, data_len, &file->tensors[file->count++], err);
		if (code)
			return code;
	}
	qsort(file->tensors, file->count, sizeof(*file->tensors), compare_offset);
	for (size_t i = 0; i < file->count; i++)
		file->by_name[i] = &file->tensors[i];
	qsort(file->by_name, file->count, sizeof(*file->by_name), compare_name);
	return check_cover(file, data, data_len, err);
}

enum sp_code
sp_safetensors_parse(const uint8_t *data, size_t len, const char *what, struct sp_safetensors **out,
    struct sp_err *err)
{
	struct sp_safetensors *file = NULL;
	uint64_t header_len = 0;
	enum sp_code code;

	*out = NULL;
	if (len < 8)
		return sp_err_set(err, SP_E_INVALID, "%s: too short for a safetensors file", what);
	memcpy(&header_len, data, 8);
	if (header_len > HEADER_MAX || header_len > len - 8)
		return sp_err_set(err, SP_E_INVALID, "%s: header length %llu is beyond the %s",
		    what, (unsigned long long)header_len,
		    header_len > HEADER_MAX ? "format's" : "file");
	if (header_len == 0 || data[8] != '{')
		return sp_err_set(err, SP_E_INVALID, "%s: header does not start with '{'", what);
	for (uint64_t i = header_len; data[8 + i - 1] != '}'; i--) {
		if (data[8 + i - 1] != ' ')
			return sp_err_set(err, SP_E_INVALID,
			    "%s: header is padded with something else than spaces", what);
	}
	file = sp_xcalloc(1, sizeof(*file));
	if ((code = sp_json_parse(data + 8, header_len, what, &file->header, err)))
		goto out;
	if ((code = parse_header(file, data + 8 + header_len, len - 8 - header_len, err))) {
		sp_err_prefix(err, "%s", what);
		goto out;
	}
	*out = file;
	file = NULL;
out:
	sp_safetensors_free(&file);
	return code;
}

void
sp_safetensors_free(struct sp_safetensors **file)
{
	if (*file == NULL)
		return;
	json_decref((*file)->header);
	free((*file)->tensors);
	free((void *)(*file)->by_name);
	free(*file);
	*file = NULL;
}

size_t
sp_safetensors_count(const struct sp_safetensors *file)
{
	return file->count;
}

const struct sp_tensor *
sp_safetensors_at(const struct sp_safetensors *file, size_t i)
{
	SP_ASSERT(i < file->count);
	return &file->tensors[i];
}

const struct sp_tensor *
sp_safetensors_find(const struct sp_safetensors *file, const char *name)
{
	const struct sp_tensor key = {.name = name}, *key_ptr = &key;
	const struct sp_tensor *const *hit =
	    bsearch(&key_ptr, file->by_name, file->count, sizeof(*file->by_name), compare_name);

	return hit == NULL ? NULL : *hit;
}

const char *
sp_safetensors_metadata(const struct sp_safetensors *file, const char *key)
{
	return json_string_value(
	    json_object_get(json_object_get(file->header, "__metadata__"), key));
}

/* Names go into the header unescaped. */
static int
is_plain(const char *name)
{
	for (const char *p = name; *p != '\0'; p++) {
		if ((unsigned char)*p < 0x21 || *p == '"' || *p == '\\' || (unsigned char)*p > 0x7e)
			return 0;
	}
	return name[0] != '\0' && strlen(name) <= SP_TENSOR_NAME_MAX;
}

enum sp_code
sp_safetensors_write_header(
    int fd, const struct sp_tensor *tensors, size_t count, struct sp_err *err)
{
	struct sp_buf json = {0};
	uint64_t offset = 0, size, header_len;
	enum sp_code code = SP_OK;

	sp_buf_puts(&json, "{\"__metadata__\":{\"format\":\"pt\"}");
	for (size_t i = 0; i < count; i++) {
		const struct sp_tensor *tensor = &tensors[i];

		if (!is_plain(tensor->name)) {
			code =
			    sp_err_set(err, SP_E_INVALID, "tensor %zu: name is not plain ASCII", i);
			goto out;
		}
		if ((code = sp_safetensors_size(tensor, &size, err)))
			goto out;
		sp_buf_printf(&json, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[", tensor->name,
		    sp_dtype_name(tensor->dtype));
		for (size_t d = 0; d < tensor->rank; d++)
			sp_buf_printf(&json, "%s%llu", d == 0 ? "" : ",",
			    (unsigned long long)tensor->shape[d]);
		sp_buf_printf(&json, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)offset,
		    (unsigned long long)offset + size);
		offset += size;
	}
	sp_buf_puts(&json, "}");
	while (json.len % 8 != 0) /* so that the data is aligned for who maps the file */
		sp_buf_puts(&json, " ");
	header_len = json.len;
	if ((code = sp_file_write_all(fd, &header_len, 8, err)) == SP_OK)
		code = sp_file_write_all(fd, json.data, json.len, err);
out:
	sp_buf_free(&json);
	return code;
}

enum sp_code
sp_safetensors_write(int fd, const struct sp_tensor *tensors, size_t count, struct sp_err *err)
{
	uint64_t size;
	enum sp_code code = sp_safetensors_write_header(fd, tensors, count, err);

	for (size_t i = 0; i < count && code == SP_OK; i++) {
		if ((code = sp_safetensors_size(&tensors[i], &size, err)) == SP_OK)
			code = sp_file_write_all(fd, tensors[i].data, size, err);
	}
	return code;
}
