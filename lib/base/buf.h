/* buf.h -- a growing byte buffer. Zero-initialised is empty and valid. */
#ifndef SP_BUF_H
#define SP_BUF_H

#include "base/err.h"

#include <stdint.h>

struct sp_buf {
	uint8_t *data; /* always NUL-terminated once anything was added */
	size_t len;
	size_t cap;
};

void sp_buf_add(struct sp_buf *buf, const void *data, size_t len);
void sp_buf_puts(struct sp_buf *buf, const char *text);
void sp_buf_printf(struct sp_buf *buf, const char *fmt, ...) SP_PRINTF(2, 3);
void sp_buf_u16be(struct sp_buf *buf, uint16_t value);
void sp_buf_u32be(struct sp_buf *buf, uint32_t value);
void sp_buf_u64be(struct sp_buf *buf, uint64_t value);
/* Hands over the malloc'd bytes ("" when empty) and empties buf. */
char *sp_buf_take(struct sp_buf *buf, size_t *len);
void sp_buf_free(struct sp_buf *buf);

#endif
