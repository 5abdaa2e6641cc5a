/* picture.h -- errors of a quantization, layer by layer, as an SVG. */
#ifndef SP_PICTURE_H
#define SP_PICTURE_H

#include "base/json.h"

/*
 * A bar for each layer's attention and MLP error on a logarithmic axis, and a mark for what plain
 * rounding would have cost where the report (awq/convert.h) knows it. One file without script, font
 * or link, in colours that follow the reader's light or dark setting. malloc'd. Pure.
 */
char *sp_picture_draw(const json_t *report, size_t *len);

#endif
