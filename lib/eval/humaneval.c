/* humaneval.c -- programming tasks, and where a completion ends. */
#include "eval/humaneval.h"

#include "base/buf.h"
#include "base/file.h"
#include "base/json.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define UNPACK_STEP (1u << 20)
#define GZIP_WINDOW (15 + 16) /* zlib: the largest window, gzip framing */

static const char *const stops[] = {"\nclass", "\ndef", "\n#", "\nif", "\nprint"};

/* A Python identifier in ASCII: it goes into the request to the sandbox. */
static int
is_identifier(const char *text)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_";
	size_t i;

	if (!*text || !strchr(letters, *text))
		return 0;
	for (i = 1; text[i]; i++)
		if (!strchr(letters, text[i]) && (text[i] < '0' || text[i] > '9'))
			return 0;
	return i <= 128;
}

static enum sp_code
parse_task(const uint8_t *line, size_t len, const char *what, struct sp_humaneval_task *task,
    struct sp_err *err)
{
	const struct {
		const char *key;
		char **to;
	} fields[] = {{"task_id", &task->id}, {"prompt", &task->prompt},
	    {"entry_point", &task->entry}, {"canonical_solution", &task->canonical},
	    {"test", &task->test}};
	json_t *object = NULL;
	enum sp_code code;
	size_t i;

	code = sp_json_parse(line, len, what, &object, err);
	for (i = 0; code == SP_OK && i < sizeof(fields) / sizeof(fields[0]); i++) {
		const char *text;

		code = sp_json_string(object, fields[i].key, &text, err);
		if (code == SP_OK)
			*fields[i].to = sp_xstrdup(text);
		else
			sp_err_prefix(err, "%s", what);
	}
	if (code == SP_OK && !is_identifier(task->entry))
		code = sp_err_set(err, SP_E_INVALID, "%s: entry_point is no function name", what);
	json_decref(object);
	return code;
}

static int
by_id(const void *left, const void *right)
{
	const struct sp_humaneval_task *const *a = left, *const *b = right;

	return strcmp((*a)->id, (*b)->id);
}

static int
by_work(const void *left, const void *right)
{
	const struct sp_humaneval_task *const *a = left, *const *b = right;
	int order = strcmp((*a)->prompt, (*b)->prompt);

	return order != 0 ? order : strcmp((*a)->test, (*b)->test);
}

/* A task that is there twice would count twice, and shows nothing new. */
static enum sp_code
check_repeats(const struct sp_humaneval *set, const char *what, struct sp_err *err)
{
	const struct sp_humaneval_task **order = sp_xcalloc(set->count, sizeof(*order));
	enum sp_code code = SP_OK;
	size_t i;

	for (i = 0; i < set->count; i++)
		order[i] = &set->tasks[i];
	qsort(order, set->count, sizeof(*order), by_id);
	for (i = 1; i < set->count && code == SP_OK; i++)
		if (by_id(&order[i - 1], &order[i]) == 0)
			code = sp_err_set(err, SP_E_INVALID, "%s: task %.100s is there twice", what,
			    order[i]->id);
	qsort(order, set->count, sizeof(*order), by_work);
	for (i = 1; i < set->count && code == SP_OK; i++)
		if (by_work(&order[i - 1], &order[i]) == 0)
			code = sp_err_set(err, SP_E_INVALID,
			    "%s: task %.100s repeats task %.100s: same prompt, same test", what,
			    order[i] > order[i - 1] ? order[i]->id : order[i - 1]->id,
			    order[i] > order[i - 1] ? order[i - 1]->id : order[i]->id);
	free(order);
	return code;
}

enum sp_code
sp_humaneval_parse(
    const uint8_t *data, size_t len, const char *what, struct sp_humaneval *out, struct sp_err *err)
{
	size_t at = 0, line = 0, cap = 0;
	enum sp_code code = SP_OK;

	memset(out, 0, sizeof(*out));
	while (code == SP_OK && at < len) {
		const uint8_t *end = memchr(data + at, '\n', len - at);
		size_t size = end ? (size_t)(end - data) - at : len - at;
		char name[256];

		line++;
		snprintf(name, sizeof(name), "%s line %zu", what, line);
		if (out->count == SP_HUMANEVAL_TASKS_MAX) {
			code = sp_err_set(err, SP_E_LIMIT, "%s: more than %d tasks", what,
			    SP_HUMANEVAL_TASKS_MAX);
			break;
		}
		if (out->count == cap) {
			cap = cap ? 2 * cap : 64;
			out->tasks = sp_xrealloc(out->tasks, cap, sizeof(*out->tasks));
		}
		memset(&out->tasks[out->count], 0, sizeof(*out->tasks));
		code = parse_task(data + at, size, name, &out->tasks[out->count++], err);
		at += size + 1;
	}
	if (code == SP_OK && out->count == 0)
		code = sp_err_set(err, SP_E_INVALID, "%s: no task in it", what);
	if (code == SP_OK)
		code = check_repeats(out, what, err);
	if (code != SP_OK)
		sp_humaneval_clear(out);
	return code;
}

/* Unpacks all of a gzip file. */
static enum sp_code
unpack(const uint8_t *data, size_t len, const char *what, struct sp_buf *out, struct sp_err *err)
{
	z_stream stream = {.next_in = (z_const Bytef *)(uintptr_t)data, .avail_in = (uInt)len};
	uint8_t *step = sp_xrealloc(NULL, UNPACK_STEP, 1);
	enum sp_code code = SP_OK;
	int rc = inflateInit2(&stream, GZIP_WINDOW);

	while (rc == Z_OK && code == SP_OK) {
		stream.next_out = step;
		stream.avail_out = UNPACK_STEP;
		rc = inflate(&stream, Z_NO_FLUSH);
		sp_buf_add(out, step, UNPACK_STEP - stream.avail_out);
		if (out->len > SP_HUMANEVAL_FILE_MAX)
			code = sp_err_set(err, SP_E_LIMIT, "%s: more than %u bytes when unpacked",
			    what, SP_HUMANEVAL_FILE_MAX);
	}
	if (code == SP_OK && (rc != Z_STREAM_END || stream.avail_in != 0))
		code = sp_err_set(err, SP_E_INVALID, "%s: broken gzip file (%s)", what,
		    rc == Z_STREAM_END ? "bytes after its end"
		    : stream.msg       ? stream.msg
				       : "cut off");
	inflateEnd(&stream);
	free(step);
	return code;
}

enum sp_code
sp_humaneval_load(const char *path, struct sp_humaneval *out, struct sp_err *err)
{
	struct sp_buf text = {0};
	uint8_t *data = NULL;
	size_t len;
	enum sp_code code;

	memset(out, 0, sizeof(*out));
	code = sp_file_read(path, SP_HUMANEVAL_FILE_MAX, &data, &len, err);
	if (code != SP_OK)
		return code;
	if (len >= 2 && data[0] == 0x1f && data[1] == 0x8b)
		code = unpack(data, len, path, &text, err);
	else
		sp_buf_add(&text, data, len);
	if (code == SP_OK)
		code = sp_humaneval_parse(text.data, text.len, path, out, err);
	if (code == SP_OK)
		out->digest = sp_sha256_hex(data, len);
	sp_buf_free(&text);
	free(data);
	return code;
}

void
sp_humaneval_clear(struct sp_humaneval *set)
{
	size_t i;

	for (i = 0; i < set->count; i++) {
		struct sp_humaneval_task *task = &set->tasks[i];

		free(task->id);
		free(task->prompt);
		free(task->entry);
		free(task->test);
		free(task->canonical);
	}
	free(set->tasks);
	memset(set, 0, sizeof(*set));
}

size_t
sp_humaneval_stop(const char *text, size_t len, size_t from)
{
	size_t i, k;

	for (i = from; i < len; i++) {
		if (text[i] != '\n')
			continue;
		for (k = 0; k < sizeof(stops) / sizeof(stops[0]); k++) {
			size_t n = strlen(stops[k]);

			if (n <= len - i && memcmp(text + i, stops[k], n) == 0)
				return i;
		}
	}
	return len;
}

/*
 * Length of the well-formed UTF-8 sequence at text (Unicode 15, table 3-7), or 0; *bad is then the
 * length of the maximal subpart, which one U+FFFD replaces (section 3.9, as Rust's
 * from_utf8_lossy).
 */
static size_t
utf8_len(const uint8_t *text, size_t len, size_t *bad)
{
	uint8_t low = 0x80, high = 0xbf;
	size_t need, i;

	*bad = 1;
	if (text[0] < 0x80)
		return 1;
	if (text[0] >= 0xc2 && text[0] <= 0xdf)
		need = 2;
	else if (text[0] >= 0xe0 && text[0] <= 0xef)
		need = 3;
	else if (text[0] >= 0xf0 && text[0] <= 0xf4)
		need = 4;
	else
		return 0;
	if (text[0] == 0xe0)
		low = 0xa0;
	else if (text[0] == 0xed)
		high = 0x9f;
	else if (text[0] == 0xf0)
		low = 0x90;
	else if (text[0] == 0xf4)
		high = 0x8f;
	for (i = 1; i < need; i++) {
		if (i == len || text[i] < low || text[i] > high) {
			*bad = i;
			return 0;
		}
		low = 0x80;
		high = 0xbf;
	}
	return need;
}

char *
sp_humaneval_completion(const char *text, size_t len, size_t *out_len)
{
	const uint8_t *bytes = (const uint8_t *)text;
	size_t end = sp_humaneval_stop(text, len, 0), at = 0;
	struct sp_buf out = {0};

	while (at < end) {
		size_t bad, good = utf8_len(bytes + at, end - at, &bad);

		if (good != 0)
			sp_buf_add(&out, bytes + at, good);
		else
			sp_buf_puts(&out, "\xef\xbf\xbd");
		at += good != 0 ? good : bad;
	}
	return sp_buf_take(&out, out_len);
}
