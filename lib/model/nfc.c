/* nfc.c -- Unicode normalization form C (UAX 15), on utf8proc's tables as of Unicode 9. */
#include "model/nfc.h"

#include "model/utf8.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#define DECOMPOSED_MAX 4 /* code points of a canonical decomposition (UAX 15, table 8) */
#define POINTS 0x30000	 /* characters above it neither decompose nor combine */
#define PAIRS_MAX 1200
#define NONE (-1)

/* Marks that have a combining class since Unicode 10 (UnicodeData.txt, 10.0 to 15.0). */
static const int32_t later_marks[][2] = {{0x7fd, 0x7fd}, {0x898, 0x89f}, {0x8ca, 0x8d3},
    {0x9fe, 0x9fe}, {0xc3c, 0xc3c}, {0xd3b, 0xd3c}, {0xeba, 0xeba}, {0x1715, 0x1715},
    {0x1abf, 0x1ace}, {0x1df6, 0x1dfa}, {0xa82c, 0xa82c}, {0x10d24, 0x10d27}, {0x10eab, 0x10eac},
    {0x10efd, 0x10eff}, {0x10f46, 0x10f50}, {0x10f82, 0x10f85}, {0x11070, 0x11070},
    {0x1133b, 0x1133b}, {0x1145e, 0x1145e}, {0x11839, 0x1183a}, {0x1193d, 0x1193e},
    {0x11943, 0x11943}, {0x119e0, 0x119e0}, {0x11a34, 0x11a34}, {0x11a47, 0x11a47},
    {0x11a99, 0x11a99}, {0x11d42, 0x11d42}, {0x11d44, 0x11d45}, {0x11d97, 0x11d97},
    {0x11f41, 0x11f42}, {0x16ff0, 0x16ff1}, {0x1e08f, 0x1e08f}, {0x1e130, 0x1e136},
    {0x1e2ae, 0x1e2ae}, {0x1e2ec, 0x1e2ef}, {0x1e4ec, 0x1e4ef}};
/* the one pair since Unicode 10 that composes */
#define LATER_COMPOSED 0x11938

/* Hangul syllables are composed by rule (Unicode 15, 3.12). */
enum {
	L_FIRST = 0x1100,
	V_FIRST = 0x1161,
	T_BEFORE = 0x11a7, /* there is no syllable without a final consonant in the counting of T */
	S_FIRST = 0xac00,
	L_COUNT = 19,
	V_COUNT = 21,
	T_COUNT = 28,
	S_COUNT = L_COUNT * V_COUNT * T_COUNT
};

/* Made once, of what utf8proc says about single characters. */
static struct {
	pthread_once_t once;
	uint8_t restless[POINTS / 8]; /* not its own form C, or may combine with what is before */
	uint8_t later[POINTS / 8];
	struct pair {
		int32_t first, second, whole;
	} pairs[PAIRS_MAX];
	size_t n_pairs;
} tables = {.once = PTHREAD_ONCE_INIT};

static int
is_in(const uint8_t *set, int32_t point)
{
	return point < POINTS && (set[point / 8] >> point % 8 & 1);
}

static void
add_to(uint8_t *set, int32_t point)
{
	set[point / 8] |= (uint8_t)(1u << point % 8);
}

static int
class_of(int32_t point)
{
	return is_in(tables.later, point) ? 0 : utf8proc_get_property(point)->combining_class;
}

static int
compare_pair(const void *a, const void *b)
{
	const struct pair *x = a, *y = b;

	if (x->first != y->first)
		return x->first < y->first ? -1 : 1;
	return x->second < y->second ? -1 : x->second > y->second;
}

static void
add_point(int32_t point)
{
	int32_t points[DECOMPOSED_MAX], again[DECOMPOSED_MAX];
	utf8proc_ssize_t n =
	    utf8proc_decompose_char(point, points, DECOMPOSED_MAX, UTF8PROC_DECOMPOSE, NULL);

	if (class_of(point) != 0)
		add_to(tables.restless, point);
	if ((n == 1 && points[0] == point) || point == LATER_COMPOSED ||
	    (point >= S_FIRST && point < S_FIRST + S_COUNT))
		return;
	memcpy(again, points, sizeof(again));
	if (utf8proc_normalize_utf32(again, n, UTF8PROC_STABLE | UTF8PROC_COMPOSE) != 1 ||
	    again[0] != point) {
		add_to(tables.restless, point);
		return;
	}
	/* utf8proc decomposes all the way: what is before the last part has a whole of its own */
	SP_ASSERT(utf8proc_normalize_utf32(points, n - 1, UTF8PROC_STABLE | UTF8PROC_COMPOSE) == 1);
	SP_ASSERT(tables.n_pairs < PAIRS_MAX);
	tables.pairs[tables.n_pairs++] = (struct pair){points[0], points[n - 1], point};
	add_to(tables.restless, points[n - 1]);
}

static void
make_tables(void)
{
	for (size_t i = 0; i < sizeof(later_marks) / sizeof(later_marks[0]); i++) {
		for (int32_t point = later_marks[i][0]; point <= later_marks[i][1]; point++)
			add_to(tables.later, point);
	}
	for (int32_t point = 0x80; point < POINTS; point++) {
		if (point < 0xd800 || point > 0xdfff)
			add_point(point);
	}
	for (int32_t point = V_FIRST; point < V_FIRST + V_COUNT; point++)
		add_to(tables.restless, point);
	for (int32_t point = T_BEFORE + 1; point < T_BEFORE + T_COUNT; point++)
		add_to(tables.restless, point);
	qsort(tables.pairs, tables.n_pairs, sizeof(tables.pairs[0]), compare_pair);
}

/* The character that two make, or NONE. */
static int32_t
compose(int32_t first, int32_t second)
{
	struct pair key = {.first = first, .second = second}, *found;
	int32_t l = first - L_FIRST, v = second - V_FIRST, s = first - S_FIRST;
	int32_t t = second - T_BEFORE;

	if (l >= 0 && l < L_COUNT && v >= 0 && v < V_COUNT)
		return S_FIRST + (l * V_COUNT + v) * T_COUNT;
	if (s >= 0 && s < S_COUNT && s % T_COUNT == 0 && t > 0 && t < T_COUNT)
		return first + t;
	found = bsearch(&key, tables.pairs, tables.n_pairs, sizeof(key), compare_pair);
	return found == NULL ? NONE : found->whole;
}

/* Code points of text, decomposed; room for DECOMPOSED_MAX for each of its characters. */
static size_t
decompose(const char *text, size_t len, int32_t *points)
{
	size_t count = 0, n;

	for (size_t i = 0; i < len; i += n) {
		int32_t point = (int32_t)sp_utf8_point(text + i, &n);
		utf8proc_ssize_t more = 1;

		if (point < 0xc0 || point == LATER_COMPOSED) {
			points[count] = point;
		} else {
			more = utf8proc_decompose_char(
			    point, points + count, DECOMPOSED_MAX, UTF8PROC_DECOMPOSE, NULL);
			SP_ASSERT(more > 0 && more <= DECOMPOSED_MAX);
		}
		count += (size_t)more;
	}
	return count;
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

/* Canonical composition in place (Unicode 15, 3.11, D117): a mark joins the last starter unless one
 * of its class or above stands between them. */
static size_t
compose_all(int32_t *points, size_t count)
{
	size_t out = 0, starter = 0;
	int any = 0, last = 0; /* class of what is at out - 1, when that is not the starter */

	for (size_t i = 0; i < count; i++) {
		int32_t point = points[i], whole;
		int class = class_of(point);

		if (any && (out - 1 == starter || last < class) &&
		    (whole = compose(points[starter], point)) != NONE) {
			points[starter] = whole;
			continue;
		}
		if (class == 0) {
			starter = out;
			any = 1;
		}
		last = class;
		points[out++] = point;
	}
	return out;
}

/* Work memory for a stretch of text. */
struct work {
	int32_t *points, *run;
	uint64_t *keys;
	size_t cap; /* characters */
};

static int
reserve(struct work *work, size_t characters)
{
	size_t count = characters * DECOMPOSED_MAX;

	SP_ASSERT(characters > 0);
	if (characters <= work->cap)
		return work->points != NULL;
	free(work->points);
	free(work->run);
	free(work->keys);
	work->points = malloc(count * sizeof(*work->points));
	work->run = malloc(count * sizeof(*work->run));
	work->keys = malloc(count * sizeof(*work->keys));
	work->cap =
	    work->points != NULL && work->run != NULL && work->keys != NULL ? characters : 0;
	return work->cap > 0;
}

/* Adds the form C of text[len], of which characters are that many, to out. */
static int
put_stretch(
    struct work *work, const char *text, size_t len, size_t characters, char *out, size_t *out_len)
{
	size_t count;

	if (!reserve(work, characters))
		return 0;
	count = decompose(text, len, work->points);
	sort_marks(work->points, count, work->keys, work->run);
	count = compose_all(work->points, count);
	for (size_t i = 0; i < count; i++)
		*out_len += (size_t)utf8proc_encode_char(
		    work->points[i], (utf8proc_uint8_t *)out + *out_len);
	return 1;
}

/* End of the stretch that begins at i: the next character that is restless and then those up to
 * the next one that is not, which nothing before it can change. *from is the character before the
 * first restless one, *characters how many lie between the two; *from == len when there is none. */
static size_t
find_stretch(const char *text, size_t len, size_t i, size_t *from, size_t *characters)
{
	size_t before = i, n;

	for (; i < len; i += n) {
		if (is_in(tables.restless, (int32_t)sp_utf8_point(text + i, &n)))
			break;
		before = i;
	}
	*from = i == len ? len : before;
	*characters = before != i;
	for (; i < len; i += n, ++*characters) {
		if (!is_in(tables.restless, (int32_t)sp_utf8_point(text + i, &n)))
			break;
	}
	return i;
}

/* Code points below U+0300 are all starters and their own form C; in UTF-8 their bytes are below
 * 0xCC. */
static int
is_plain(const char *text, size_t len)
{
	unsigned high = 0;

	for (size_t i = 0; i < len; i++)
		high |= (unsigned char)text[i] >= 0xcc;
	return !high;
}

enum sp_code
sp_nfc_normalize(const char *text, size_t len, char **out, size_t *out_len, struct sp_err *err)
{
	struct work work = {0};
	size_t done = 0, from, end, characters;
	enum sp_code code = SP_OK;

	*out = NULL;
	*out_len = 0;
	if (is_plain(text, len))
		return SP_OK;
	pthread_once(&tables.once, make_tables);
	end = find_stretch(text, len, 0, &from, &characters);
	if (from == len)
		return SP_OK;
	/* the characters that form C makes longer triple at most (UAX 15, table 8) */
	if (len > UINT32_MAX / DECOMPOSED_MAX || (*out = malloc(3 * len + 1)) == NULL) {
		code = sp_err_set(err, SP_E_NO_MEMORY, "a text of %zu bytes to normalize", len);
		goto out;
	}
	while (from < len) {
		memcpy(*out + *out_len, text + done, from - done);
		*out_len += from - done;
		if (!put_stretch(&work, text + from, end - from, characters, *out, out_len)) {
			code = sp_err_set(
			    err, SP_E_NO_MEMORY, "a text of %zu bytes to normalize", len);
			goto out;
		}
		done = end;
		end = find_stretch(text, len, done, &from, &characters);
	}
	memcpy(*out + *out_len, text + done, len - done);
	*out_len += len - done;
	(*out)[*out_len] = '\0';
out:
	free(work.points);
	free(work.run);
	free(work.keys);
	if (code != SP_OK) {
		free(*out);
		*out = NULL;
	}
	return code;
}
