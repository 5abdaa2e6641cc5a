/* reply.c -- replies in the making: no server needed, so that who plans them can be tested alone.
 */
#include "http/http.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void
sp_http_reply_field(struct sp_http_reply *reply, const char *name, const char *fmt, ...)
{
	struct sp_http_field *field;
	char *value = NULL;
	va_list ap;
	int len;

	va_start(ap, fmt);
	len = vasprintf(&value, fmt, ap);
	va_end(ap);
	SP_ASSERT(len >= 0);
	reply->fields = sp_xrealloc(reply->fields, reply->field_count + 1, sizeof(*reply->fields));
	field = &reply->fields[reply->field_count++];
	field->name = sp_xstrdup(name);
	field->value = value;
}

static void
drop_content(struct sp_http_reply *reply)
{
	if (reply->fd >= 0)
		close(reply->fd);
	reply->fd = -1;
	free(reply->body);
	reply->body = NULL;
	reply->body_len = 0;
}

void
sp_http_reply_body(
    struct sp_http_reply *reply, unsigned status, const char *type, const void *data, size_t len)
{
	drop_content(reply);
	reply->status = status;
	reply->body = sp_xcalloc(len + 1, 1);
	memcpy(reply->body, data, len);
	reply->body_len = len;
	sp_http_reply_field(reply, "Content-Type", "%s", type);
}

void
sp_http_reply_fd(
    struct sp_http_reply *reply, unsigned status, int fd, uint64_t offset, uint64_t length)
{
	drop_content(reply);
	reply->status = status;
	reply->fd = fd;
	reply->offset = offset;
	reply->length = length;
}

void
sp_http_reply_clear(struct sp_http_reply *reply)
{
	drop_content(reply);
	for (size_t i = 0; i < reply->field_count; i++) {
		free(reply->fields[i].name);
		free(reply->fields[i].value);
	}
	free(reply->fields);
	memset(reply, 0, sizeof(*reply));
	reply->fd = -1;
}
