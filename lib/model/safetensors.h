/* safetensors.h -- the weight file format of huggingface/safetensors, read strictly and written. */
#ifndef SP_SAFETENSORS_H
#define SP_SAFETENSORS_H

#include "model/dtype.h"

#define SP_TENSOR_RANK_MAX 8
#define SP_TENSOR_NAME_MAX 512 /* bytes without NUL */

/* shape[0] is the slowest dimension. data: size bytes, little-endian, row-major, any alignment. */
struct sp_tensor {
	const char *name;
	enum sp_dtype dtype;
	size_t rank;
	uint64_t shape[SP_TENSOR_RANK_MAX];
	const uint8_t *data;
	uint64_t size;
};

struct sp_safetensors;

/* Checks every rule of the format before anything is returned. what names the file in messages.
 * Tensors point into data, which must outlive *out. */
enum sp_code sp_safetensors_parse(const uint8_t *data, size_t len, const char *what,
    struct sp_safetensors **out, struct sp_err *err) SP_MUST_USE;
void sp_safetensors_free(struct sp_safetensors **file);

/* Tensors in order of their data; borrowed. */
size_t sp_safetensors_count(const struct sp_safetensors *file);
const struct sp_tensor *sp_safetensors_at(const struct sp_safetensors *file, size_t i);
/* NULL when there is none of that name. */
const struct sp_tensor *sp_safetensors_find(const struct sp_safetensors *file, const char *name);
/* A value of __metadata__, NULL when it has no such key. */
const char *sp_safetensors_metadata(const struct sp_safetensors *file, const char *key);

/* dtype and shape give the size; SP_E_LIMIT when it does not fit 63 bits. */
enum sp_code
sp_safetensors_size(const struct sp_tensor *tensor, uint64_t *size, struct sp_err *err) SP_MUST_USE;

/* Writes the header for tensors in the order given (data and size ignored), `__metadata__`
 * {"format":"pt"} first. The caller then writes each tensor's bytes in the same order, nothing
 * between them. The same tensors give the same bytes. */
enum sp_code sp_safetensors_write_header(
    int fd, const struct sp_tensor *tensors, size_t count, struct sp_err *err) SP_MUST_USE;

/* Header and data of tensors that all lie in memory. */
enum sp_code sp_safetensors_write(
    int fd, const struct sp_tensor *tensors, size_t count, struct sp_err *err) SP_MUST_USE;

#endif
