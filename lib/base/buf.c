/* buf.c -- a growing byte buffer. */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Room for len more bytes and the NUL behind them. */
static void
reserve(struct sp_buf *buf, size_t len)
{
	size_t need, cap = buf->cap;

	SP_ASSERT(len < SIZE_MAX / 2 - buf->len);
	need = buf->len + len + 1;
	if (need <= cap)
		return;
	if (cap < 64)
		cap = 64;
	while (cap < need)
		cap *= 2;
	buf->data = sp_xrealloc(buf->data, cap, 1);
	buf->cap = cap;
}

void
sp_buf_add(struct sp_buf *buf, const void *data, size_t len)
{
	reserve(buf, len);
	if (len > 0)
		memcpy(buf->data + buf->len, data, len);
	buf->len += len;
	buf->data[buf->len] = '\0';
}

void
sp_buf_puts(struct sp_buf *buf, const char *text)
{
	sp_buf_add(buf, text, strlen(text));
}

void
sp_buf_printf(struct sp_buf *buf, const char *fmt, ...)
{
	va_list ap;
	int len;

	va_start(ap, fmt);
	len = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	SP_ASSERT(len >= 0);
	reserve(buf, (size_t)len);
	va_start(ap, fmt);
	vsnprintf((char *)buf->data + buf->len, (size_t)len + 1, fmt, ap);
	va_end(ap);
	buf->len += (size_t)len;
}

void
sp_buf_u16be(struct sp_buf *buf, uint16_t value)
{
	const uint8_t b[2] = {(uint8_t)(value >> 8), (uint8_t)value};

	sp_buf_add(buf, b, sizeof(b));
}

void
sp_buf_u32be(struct sp_buf *buf, uint32_t value)
{
	sp_buf_u16be(buf, (uint16_t)(value >> 16));
	sp_buf_u16be(buf, (uint16_t)value);
}

void
sp_buf_u64be(struct sp_buf *buf, uint64_t value)
{
	sp_buf_u32be(buf, (uint32_t)(value >> 32));
	sp_buf_u32be(buf, (uint32_t)value);
}

char *
sp_buf_take(struct sp_buf *buf, size_t *len)
{
	char *data;

	reserve(buf, 0);
	buf->data[buf->len] = '\0';
	data = (char *)buf->data;
	if (len != NULL)
		*len = buf->len;
	memset(buf, 0, sizeof(*buf));
	return data;
}

void
sp_buf_free(struct sp_buf *buf)
{
	free(buf->data);
	memset(buf, 0, sizeof(*buf));
}
