/* index.h -- model.safetensors.index.json: which file of a sharded checkpoint holds which tensor.
 */
#ifndef SP_INDEX_H
#define SP_INDEX_H

#include "base/err.h"

#include <stdint.h>

struct sp_index_entry {
	const char *tensor; /* borrowed from the index */
	const char *file;   /* a plain name that ends in .safetensors */
};

struct sp_index {
	struct sp_index_entry *entries; /* in the order of the file */
	size_t count;
	void *root;
};

/* what names the document in messages. Free with sp_index_free. */
enum sp_code sp_index_parse(const uint8_t *data, size_t len, const char *what,
    struct sp_index **out, struct sp_err *err) SP_MUST_USE;
void sp_index_free(struct sp_index **index);

#endif
