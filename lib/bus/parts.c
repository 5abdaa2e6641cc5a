/* parts.c -- published content that comes in parts, put together. */
#include "bus/parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void
sp_parts_clear(struct sp_parts *parts)
{
	free(parts->data);
	memset(parts, 0, sizeof(*parts));
}

/* The same bytes once more: our answer was lost. */
static int
is_repeated(const struct sp_parts *parts, const Sallyport__Publish *part)
{
	return part->offset + part->content.len == parts->len &&
	       memcmp(parts->data + part->offset, part->content.data, part->content.len) == 0;
}

enum sp_code
sp_parts_add(struct sp_parts *parts, const Sallyport__Publish *part, int *whole, struct sp_err *err)
{
	*whole = 0;
	if (part->offset == 0) {
		sp_parts_clear(parts);
		snprintf(parts->topic, sizeof(parts->topic), "%s", part->topic);
		parts->total = part->total;
		parts->data = sp_xcalloc(parts->total, 1);
	} else if (parts->total != part->total || strcmp(parts->topic, part->topic) != 0 ||
		   (part->offset != parts->len && !is_repeated(parts, part)))
		return sp_err_set(err, SP_E_INCOMPLETE,
		    "part of topic %s at byte %llu does not follow the last one: publish it again",
		    part->topic, (unsigned long long)part->offset);
	if (part->offset == parts->len) {
		memcpy(parts->data + parts->len, part->content.data, part->content.len);
		parts->len += part->content.len;
	}
	*whole = parts->len == parts->total;
	return SP_OK;
}
