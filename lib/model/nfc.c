/* nfc.c -- Unicode normalization form C (UAX 15), on utf8proc's tables. */
#include "model/nfc.h"

#include <stdint.h>
#include <stdlib.h>
#include <utf8proc.h>

#define DECOMPOSED_MAX 4 /* code points of a canonical decomposition (UAX 15, table 8) */

/* Code points below U+0300 are all starters and their own form C; in UTF-8 their bytes are below
 * 0xCC. */
static int
is_plain(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if ((unsigned char)text[i] >= 0xcc)
			return 0;
	}
	return 1;
}

static size_t
decompose(const char *text, size_t len, int32_t *points)
{
	size_t count = 0;

	for (size_t i = 0; i < len;) {
		const uint8_t *at = (const uint8_t *)text + i;
		int32_t point;
		utf8proc_ssize_t n = utf8proc_iterate(at, (utf8proc_ssize_t)(len - i), &point);

		SP_ASSERT(n > 0);
		i += (size_t)n;
		n = utf8proc_decompose_char(
		    point, points + count, DECOMPOSED_MAX, UTF8PROC_DECOMPOSE, NULL);
		SP_ASSERT(n > 0 && n <= DECOMPOSED_MAX);
		count += (size_t)n;
	}
	return count;
}

static int
class_of(int32_t point)
{
	return utf8proc_get_property(point)->combining_class;
}

static int
compare_key(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/*
 * Canonical order: runs of combining marks by class, equal classes in the order they came. utf8proc
 * sorts by exchanging neighbours, which takes minutes for a hostile megabyte; hence our own. keys
 * (class above position) and run are room for count values.
 */
static void
sort_marks(int32_t *points, size_t count, uint64_t *keys, int32_t *run)
{
	for (size_t i = 0, end; i < count; i = end) {
		for (end = i; end < count && class_of(points[end]) != 0; end++) {
			keys[end - i] = (uint64_t)class_of(points[end]) << 32 | (end - i);
			run[end - i] = points[end];
		}
		if (end - i > 1) {
			qsort(keys, end - i, sizeof(*keys), compare_key);
			for (size_t k = i; k < end; k++)
				points[k] = run[(uint32_t)keys[k - i]];
		}
		end += end == i;
	}
}

enum sp_code
sp_nfc_normalize(const char *text, size_t len, char **out, size_t *out_len, struct sp_err *err)
{
	size_t points_max = 1, count, size = 0;
	int32_t *points = NULL, *run = NULL;
	uint64_t *keys = NULL;
	utf8proc_ssize_t composed;
	enum sp_code code = SP_OK;

	*out = NULL;
	if (is_plain(text, len))
		return SP_OK;
	if (len > UINT32_MAX / DECOMPOSED_MAX)
		return sp_err_set(err, SP_E_LIMIT, "a text of %zu bytes to normalize", len);
	for (size_t i = 0; i < len; i++)
		points_max += ((unsigned char)text[i] & 0xc0) != 0x80;
	points_max *= DECOMPOSED_MAX;
	points = malloc(points_max * sizeof(*points));
	run = malloc(points_max * sizeof(*run));
	keys = malloc(points_max * sizeof(*keys));
	if (points == NULL || run == NULL || keys == NULL) {
		code = sp_err_set(err, SP_E_NO_MEMORY, "a text of %zu bytes to normalize", len);
		goto out;
	}
	count = decompose(text, len, points);
	sort_marks(points, count, keys, run);
	composed = utf8proc_normalize_utf32(
	    points, (utf8proc_ssize_t)count, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
	SP_ASSERT(composed >= 0);
	if ((*out = malloc((size_t)composed * 4 + 1)) == NULL) {
		code = sp_err_set(err, SP_E_NO_MEMORY, "a text of %zu bytes to normalize", len);
		goto out;
	}
	for (utf8proc_ssize_t i = 0; i < composed; i++)
		size += (size_t)utf8proc_encode_char(points[i], (uint8_t *)*out + size);
	(*out)[size] = '\0';
	*out_len = size;
out:
	free(points);
	free(run);
	free(keys);
	return code;
}
