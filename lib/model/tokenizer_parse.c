/* tokenizer_parse.c -- tokenizer.json of huggingface/tokenizers, the parts that we know. */
#include "model/tokenizer_impl.h"

#include "base/buf.h"
#include "base/json.h"
#include "model/nfc.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * {
 *   "version": "1.0", "truncation": null, "padding": null,
 *   "added_tokens": [{"id", "content", "single_word", "lstrip", "rstrip", "normalized",
 * "special"}], "normalizer": null | NFC | Sequence of NFC, "pre_tokenizer": ByteLevel | Sequence of
 * any Split and then ByteLevel, "post_processor": null | ByteLevel | TemplateProcessing | Sequence
 * of these, "decoder": ByteLevel, "model": {"type": "BPE", "vocab": {SPELLING: ID}, "merges":
 * [["A", "B"] | "A B"], …}
 * }
 *
 * Every object is read against the list of its keys: an unknown one may change ids, and is refused.
 */

/* GPT-2's pattern, which ByteLevel uses by itself when use_regex is true. */
#define GPT2_PATTERN \
	"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

#define PARTS_MAX 16 /* of a Sequence */

/* Bytes that stand for themselves are 21-7E, A1-AC, AE-FF; the other 33 + 34 + 1 follow U+0100. */
static unsigned
char_of(unsigned byte)
{
	if (byte <= 0x20)
		return 0x100 + byte;
	if (byte >= 0x7f && byte <= 0xa0)
		return 0x121 + byte - 0x7f;
	return byte == 0xad ? 0x143 : byte;
}

size_t
sp__tokenizer_spell(uint8_t byte, char out[2])
{
	unsigned c = char_of(byte);

	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	out[0] = (char)(0xc0 | c >> 6);
	out[1] = (char)(0x80 | (c & 0x3f));
	return 2;
}

/* --- fields --------------------------------------------------------------------------------- */

/* A JSON object and its place in the file, for messages. */
struct field {
	const json_t *value;
	char at[128];
};

static struct field SP_PRINTF(2, 3) field(const json_t *value, const char *fmt, ...);

static struct field
field(const json_t *value, const char *fmt, ...)
{
	struct field f = {.value = value};
	va_list args;

	va_start(args, fmt);
	vsnprintf(f.at, sizeof(f.at), fmt, args);
	va_end(args);
	return f;
}

static enum sp_code
unsupported(const struct field *f, const char *key, const char *what, struct sp_err *err)
{
	return sp_err_set(err, SP_E_UNSUPPORTED, "%s%s%s %s", f->at,
	    f->at[0] != '\0' && key[0] != '\0' ? "." : "", key, what);
}

/* 1 when key is a word of the list "a b c". */
static int
is_listed(const char *list, const char *key)
{
	size_t len = strlen(key);

	while (*list != '\0') {
		size_t word = strcspn(list, " ");

		if (word == len && memcmp(list, key, len) == 0)
			return 1;
		list += word + (list[word] == ' ');
	}
	return 0;
}

static enum sp_code
check_keys(const struct field *f, const char *known, struct sp_err *err)
{
	const char *key;
	json_t *value;

	if (!json_is_object(f->value))
		return sp_err_set(err, SP_E_INVALID, "%s is not an object", f->at);
	json_object_foreach((json_t *)(uintptr_t)f->value, key, value)
	{
		if (!is_listed(known, key)) {
			char name[48];

			snprintf(name, sizeof(name), "%s", key);
			return unsupported(f, name, "is not a field that is understood", err);
		}
	}
	return SP_OK;
}

static enum sp_code
get_flag(const struct field *f, const char *key, int fallback, int *out, struct sp_err *err)
{
	const json_t *value = json_object_get(f->value, key);

	*out = value == NULL ? fallback : json_is_true(value);
	if (value != NULL && !json_is_boolean(value))
		return sp_err_set(err, SP_E_INVALID, "%s.%s is neither true nor false", f->at, key);
	return SP_OK;
}

static enum sp_code
want_flag(const struct field *f, const char *key, int fallback, int only, struct sp_err *err)
{
	int value;
	enum sp_code code = get_flag(f, key, fallback, &value, err);

	if (code == SP_OK && value != only)
		return unsupported(f, key, value ? "is true" : "is not true", err);
	return code;
}

/* null, missing, or an empty string. */
static enum sp_code
want_empty(const struct field *f, const char *key, struct sp_err *err)
{
	const json_t *value = json_object_get(f->value, key);

	if (value == NULL || json_is_null(value) ||
	    (json_is_string(value) && json_string_length(value) == 0))
		return SP_OK;
	return unsupported(f, key, "is set", err);
}

static const char *
type_of(const struct field *f)
{
	const char *type = json_string_value(json_object_get(f->value, "type"));

	return type == NULL ? "" : type;
}

/* f itself, or the parts of f when it is a Sequence, which lie under `list`. */
static enum sp_code
get_parts(const struct field *f, const char *list, struct field parts[PARTS_MAX], size_t *n,
    struct sp_err *err)
{
	char keys[64];
	json_t *array;
	enum sp_code code;

	*n = 1;
	parts[0] = *f;
	if (strcmp(type_of(f), "Sequence") != 0)
		return SP_OK;
	snprintf(keys, sizeof(keys), "type %s", list);
	if ((code = check_keys(f, keys, err)))
		return code;
	if ((code = sp_json_array(f->value, list, &array, err)))
		return sp_err_prefix(err, "%s", f->at);
	*n = json_array_size(array);
	if (*n > PARTS_MAX)
		return unsupported(f, list, "has too many parts", err);
	for (size_t i = 0; i < *n; i++)
		parts[i] = field(json_array_get(array, i), "%s.%s[%zu]", f->at, list, i);
	return SP_OK;
}

static int
is_none(const json_t *value)
{
	return value == NULL || json_is_null(value);
}

/* --- normalizer, pre-tokenizer, post-processor, decoder --------------------------------------- */

static enum sp_code
parse_normalizer(struct sp_tokenizer *t, const json_t *value, struct sp_err *err)
{
	struct field f = field(value, "normalizer"), parts[PARTS_MAX];
	size_t n;
	enum sp_code code;

	if (is_none(value))
		return SP_OK;
	if ((code = get_parts(&f, "normalizers", parts, &n, err)))
		return code;
	for (size_t i = 0; i < n; i++) {
		if ((code = check_keys(&parts[i], "type", err)))
			return code;
		if (strcmp(type_of(&parts[i]), "NFC") != 0)
			return unsupported(&parts[i], "type", "is not NFC", err);
		t->nfc = 1;
	}
	return SP_OK;
}

static enum sp_code
add_pattern(struct sp_tokenizer *t, const struct field *f, const char *text, struct sp_err *err)
{
	enum sp_code code;

	if (t->n_patterns == SP_TOKENIZER_PATTERNS_MAX)
		return unsupported(f, "", "is one pattern too many", err);
	if ((code = sp_pattern_compile(text, &t->patterns[t->n_patterns], err)))
		return sp_err_prefix(err, "%s", f->at);
	t->n_patterns++;
	return SP_OK;
}

static enum sp_code
parse_split(struct sp_tokenizer *t, const struct field *f, struct sp_err *err)
{
	struct field pattern = field(json_object_get(f->value, "pattern"), "%s.pattern", f->at);
	const char *text, *behavior;
	enum sp_code code;

	if ((code = check_keys(f, "type pattern behavior invert", err)) ||
	    (code = check_keys(&pattern, "Regex String", err)) ||
	    (code = want_flag(f, "invert", 0, 0, err)))
		return code;
	if ((code = sp_json_string(f->value, "behavior", &behavior, err)))
		return sp_err_prefix(err, "%s", f->at);
	if (strcmp(behavior, "Isolated") != 0)
		return unsupported(f, "behavior", "is not Isolated", err);
	text = json_string_value(json_object_get(pattern.value, "Regex"));
	if (text == NULL || json_object_size(pattern.value) != 1)
		return unsupported(&pattern, "", "is not a Regex", err);
	return add_pattern(t, f, text, err);
}

static enum sp_code
parse_pre_tokenizer(struct sp_tokenizer *t, const json_t *value, struct sp_err *err)
{
	struct field f = field(value, "pre_tokenizer"), parts[PARTS_MAX];
	size_t n;
	int use_regex;
	enum sp_code code;

	if ((code = get_parts(&f, "pretokenizers", parts, &n, err)))
		return code;
	if (n == 0 || strcmp(type_of(&parts[n - 1]), "ByteLevel") != 0)
		return unsupported(&f, "", "does not end with ByteLevel", err);
	for (size_t i = 0; i + 1 < n; i++) {
		if (strcmp(type_of(&parts[i]), "Split") != 0)
			return unsupported(&parts[i], "type", "is not Split", err);
		if ((code = parse_split(t, &parts[i], err)))
			return code;
	}
	f = parts[n - 1];
	if ((code = check_keys(&f, "type add_prefix_space trim_offsets use_regex", err)) ||
	    (code = want_flag(&f, "add_prefix_space", 1, 0, err)) ||
	    (code = get_flag(&f, "use_regex", 1, &use_regex, err)))
		return code;
	return use_regex ? add_pattern(t, &f, GPT2_PATTERN, err) : SP_OK;
}

/* {"SpecialToken": {"id": NAME, "type_id"}}: NAME's ids are in special_tokens. */
static enum sp_code
template_special(
    const struct field *f, const struct field *piece, uint32_t *ids, size_t *n, struct sp_err *err)
{
	const json_t *special = json_object_get(piece->value, "SpecialToken");
	const char *name = json_string_value(json_object_get(special, "id"));
	const json_t *entry =
	    name == NULL ? NULL
			 : json_object_get(json_object_get(f->value, "special_tokens"), name);
	const json_t *list = json_object_get(entry, "ids"), *item;
	size_t i;

	if (!json_is_array(list))
		return sp_err_set(err, SP_E_INVALID,
		    "%s is neither a Sequence nor a SpecialToken of special_tokens", piece->at);
	json_array_foreach(list, i, item)
	{
		if (*n == SP_TOKENIZER_EXTRA_MAX)
			return unsupported(piece, "", "is one token too many", err);
		if (!json_is_integer(item) || json_integer_value(item) < 0 ||
		    json_integer_value(item) >= SP_TOKENIZER_ID_MAX)
			return sp_err_set(err, SP_E_INVALID,
			    "%s: special_tokens has something else than ids", piece->at);
		ids[(*n)++] = (uint32_t)json_integer_value(item);
	}
	return SP_OK;
}

/* "single" is what one text becomes, "pair" what two do, which we never encode. */
static enum sp_code
parse_template(struct sp_tokenizer *t, const struct field *f, struct sp_err *err)
{
	json_t *single;
	int seen = 0;
	enum sp_code code;

	if ((code = check_keys(f, "type single pair special_tokens", err)))
		return code;
	if ((code = sp_json_array(f->value, "single", &single, err)))
		return sp_err_prefix(err, "%s", f->at);
	for (size_t i = 0; i < json_array_size(single); i++) {
		struct field piece = field(json_array_get(single, i), "%s.single[%zu]", f->at, i);
		const json_t *sequence = json_object_get(piece.value, "Sequence");
		const char *id = json_string_value(json_object_get(sequence, "id"));

		if (sequence == NULL) {
			code = seen ? template_special(f, &piece, t->after, &t->n_after, err)
				    : template_special(f, &piece, t->before, &t->n_before, err);
			if (code)
				return code;
		} else if (id == NULL || strcmp(id, "A") != 0 || seen++) {
			return unsupported(&piece, "", "is not the one Sequence A", err);
		}
	}
	return seen ? SP_OK : unsupported(f, "single", "has no Sequence A", err);
}

static enum sp_code
parse_post_processor(struct sp_tokenizer *t, const json_t *value, struct sp_err *err)
{
	struct field f = field(value, "post_processor"), parts[PARTS_MAX];
	size_t n;
	int templates = 0;
	enum sp_code code;

	if (is_none(value))
		return SP_OK;
	if ((code = get_parts(&f, "processors", parts, &n, err)))
		return code;
	for (size_t i = 0; i < n; i++) {
		const char *type = type_of(&parts[i]);

		if (strcmp(type, "ByteLevel") == 0) { /* offsets only */
			code = check_keys(
			    &parts[i], "type add_prefix_space trim_offsets use_regex", err);
		} else if (strcmp(type, "TemplateProcessing") == 0 && !templates++) {
			code = parse_template(t, &parts[i], err);
		} else {
			code = unsupported(&parts[i], "type",
			    "is neither ByteLevel nor the only TemplateProcessing", err);
		}
		if (code)
			return code;
	}
	return SP_OK;
}

static enum sp_code
parse_decoder(const json_t *value, struct sp_err *err)
{
	struct field f = field(value, "decoder");

	if (strcmp(type_of(&f), "ByteLevel") != 0)
		return unsupported(&f, "type", "is not ByteLevel", err);
	return check_keys(&f, "type add_prefix_space trim_offsets use_regex", err);
}

/* --- vocabulary and added tokens ---------------------------------------------------------------
 */

/* Character of a spelling -> byte, SP_TOKENIZER_NO_BYTE where there is none; all are below 0x200.
 */
static void
char_table(int16_t table[0x200])
{
	for (unsigned c = 0; c < 0x200; c++)
		table[c] = SP_TOKENIZER_NO_BYTE;
	for (unsigned b = 0; b < 256; b++)
		table[char_of(b)] = (int16_t)b;
}

/* Bytes of a spelling; as the ByteLevel decoder does, the spelling itself when one of its
 * characters stands for no byte. Returns their number, at most len. */
static size_t
spelling_bytes(const int16_t table[0x200], const char *spelling, size_t len, char *out)
{
	size_t n = 0;

	for (size_t i = 0; i < len;) {
		uint8_t lead = (uint8_t)spelling[i];
		unsigned c = 0x1ff; /* stands for no byte */

		if (lead < 0x80) {
			c = lead;
			i += 1;
		} else if (lead < 0xc8 && i + 1 < len) { /* two bytes, below U+0200 */
			c = (unsigned)(lead & 0x1f) << 6 | ((uint8_t)spelling[i + 1] & 0x3f);
			i += 2;
		} else {
			i = len;
		}
		if (table[c] == SP_TOKENIZER_NO_BYTE) {
			memcpy(out, spelling, len);
			return len;
		}
		out[n++] = (char)table[c];
	}
	return n;
}

/* The vocabulary as entries of one list with the added tokens that are not in it. */
struct entries {
	struct entry {
		const char *spelling;
		uint32_t id;
	} * list;
	size_t count, vocab;
	uint32_t last; /* largest id of an added token so far */
	int any_added;
};

static enum sp_code
add_entry(struct entries *e, const char *spelling, const json_t *id, const char *where,
    struct sp_err *err)
{
	json_int_t value = json_is_integer(id) ? json_integer_value(id) : -1;

	if (value < 0 || value >= SP_TOKENIZER_ID_MAX)
		return sp_err_set(err, SP_E_INVALID, "%s: the id of \"%.64s\" is not from 0 to %u",
		    where, spelling, SP_TOKENIZER_ID_MAX - 1);
	e->list[e->count++] = (struct entry){spelling, (uint32_t)value};
	return SP_OK;
}

/*
 * tokenizers does not believe the id of an added token: it takes the vocabulary's when the content
 * is in there, else the next free one. A file that says otherwise means different ids to different
 * readers.
 */
static enum sp_code
place_added(struct entries *e, const struct field *f, const json_t *vocab, struct sp_err *err)
{
	const json_t *id = json_object_get(f->value, "id"), *known;
	const char *content = json_string_value(json_object_get(f->value, "content"));
	json_int_t expected = (json_int_t)e->vocab;
	enum sp_code code;

	if (content == NULL || content[0] == '\0')
		return sp_err_set(err, SP_E_INVALID, "%s.content is not a non-empty text", f->at);
	if (e->any_added && e->last >= e->vocab)
		expected = (json_int_t)e->last + 1;
	known = json_object_get(vocab, content);
	if (known != NULL)
		expected = json_integer_value(known);
	if (!json_is_integer(id) || json_integer_value(id) != expected)
		return sp_err_set(err, SP_E_INVALID, "%s.id is not %lld, which readers give it",
		    f->at, (long long)expected);
	if (known == NULL && (code = add_entry(e, content, id, f->at, err)))
		return code;
	e->last = !e->any_added || expected > e->last ? (uint32_t)expected : e->last;
	e->any_added = 1;
	return SP_OK;
}

static int
compare_added(const void *a, const void *b)
{
	const struct sp__added_token *x = a, *y = b;
	int order = memcmp(x->content, y->content, x->len < y->len ? x->len : y->len);

	return order != 0 ? order : x->len < y->len ? -1 : x->len > y->len;
}

static enum sp_code
find_added(struct sp_tokenizer *t, const struct field *f, struct sp_err *err)
{
	const char *content = json_string_value(json_object_get(f->value, "content"));
	struct sp__added_token token = {0};
	struct sp__added *added;
	int normalized;
	enum sp_code code;

	if ((code = check_keys(
		 f, "id content single_word lstrip rstrip normalized special", err)) ||
	    (code = want_flag(f, "single_word", 0, 0, err)) ||
	    (code = want_flag(f, "lstrip", 0, 0, err)) ||
	    (code = want_flag(f, "rstrip", 0, 0, err)) ||
	    (code = get_flag(f, "normalized", 0, &normalized, err)))
		return code;
	added = normalized ? &t->normalized : &t->raw;
	if (normalized && t->nfc &&
	    (code = sp_nfc_normalize(content, strlen(content), &token.content, &token.len, err)))
		return code;
	if (token.content == NULL) {
		token.content = sp_xstrdup(content);
		token.len = strlen(content);
	}
	token.id = (uint32_t)json_integer_value(json_object_get(f->value, "id"));
	added->tokens[added->count++] = token;
	added->starts[(uint8_t)token.content[0]] = 1;
	return SP_OK;
}

static enum sp_code
parse_added(struct sp_tokenizer *t, struct entries *e, const json_t *list, const json_t *vocab,
    struct sp_err *err)
{
	struct sp__added *both[] = {&t->raw, &t->normalized};
	size_t n = json_array_size(list);
	enum sp_code code;

	t->raw.tokens = calloc(n + 1, sizeof(*t->raw.tokens));
	t->normalized.tokens = calloc(n + 1, sizeof(*t->normalized.tokens));
	if (t->raw.tokens == NULL || t->normalized.tokens == NULL)
		return sp_err_set(err, SP_E_NO_MEMORY, "%zu added tokens", n);
	for (size_t i = 0; i < n; i++) {
		struct field f = field(json_array_get(list, i), "added_tokens[%zu]", i);

		if ((code = place_added(e, &f, vocab, err)) || (code = find_added(t, &f, err)))
			return code;
	}
	for (size_t k = 0; k < 2; k++) {
		struct sp__added *added = both[k];

		qsort(added->tokens, added->count, sizeof(*added->tokens), compare_added);
		for (size_t i = 1; i < added->count; i++) {
			if (compare_added(&added->tokens[i - 1], &added->tokens[i]) == 0)
				return sp_err_set(err, SP_E_INVALID,
				    "added_tokens: \"%.64s\" is there twice",
				    added->tokens[i].content);
		}
	}
	return SP_OK;
}

static enum sp_code
parse_vocab(struct entries *e, const json_t *vocab, struct sp_err *err)
{
	const char *spelling;
	json_t *id;
	enum sp_code code;

	json_object_foreach((json_t *)(uintptr_t)vocab, spelling, id)
	{
		if (spelling[0] == '\0')
			return sp_err_set(err, SP_E_INVALID, "model.vocab has an empty token");
		if ((code = add_entry(e, spelling, id, "model.vocab", err)))
			return code;
	}
	e->vocab = e->count;
	return SP_OK;
}

static int
compare_spelling(const void *a, const void *b)
{
	const struct sp__token *const *x = a, *const *y = b;

	return strcmp((*x)->spelling, (*y)->spelling);
}

/* Entries as tokens by id, and by name. */
static enum sp_code
build_tokens(struct sp_tokenizer *t, const struct entries *e, struct sp_err *err)
{
	int16_t table[0x200];
	size_t text_len = 0;
	char *at;

	for (size_t i = 0; i < e->count; i++) {
		text_len += 2 * (strlen(e->list[i].spelling) + 1);
		t->size = e->list[i].id >= t->size ? e->list[i].id + 1 : t->size;
	}
	t->tokens = calloc((size_t)t->size + 1, sizeof(*t->tokens));
	t->by_name = calloc(e->count + 1, sizeof(*t->by_name));
	t->text = malloc(text_len + 1);
	if (t->tokens == NULL || t->by_name == NULL || t->text == NULL)
		return sp_err_set(err, SP_E_NO_MEMORY, "%zu tokens", e->count);
	char_table(table);
	at = t->text;
	for (size_t i = 0; i < e->count; i++) {
		struct sp__token *token = &t->tokens[e->list[i].id];
		size_t len = strlen(e->list[i].spelling);

		if (token->spelling != NULL)
			return sp_err_set(err, SP_E_INVALID,
			    "tokens \"%.64s\" and \"%.64s\" both have the id %u", token->spelling,
			    e->list[i].spelling, e->list[i].id);
		memcpy(at, e->list[i].spelling, len + 1);
		token->spelling = at;
		token->spelling_len = (uint32_t)len;
		at += len + 1;
		token->bytes_len = (uint32_t)spelling_bytes(table, token->spelling, len, at);
		token->bytes = at;
		at += len + 1;
		t->by_name[t->count++] = token;
	}
	qsort(t->by_name, t->count, sizeof(*t->by_name), compare_spelling);
	/* only among added tokens, one normalized and one not: of whose ids readers keep the first
	 */
	for (size_t i = 1; i < t->count; i++) {
		if (compare_spelling(&t->by_name[i - 1], &t->by_name[i]) == 0)
			return sp_err_set(err, SP_E_INVALID,
			    "added_tokens: \"%.64s\" is there twice", t->by_name[i]->spelling);
	}
	return SP_OK;
}

static enum sp_code
mark_special(struct sp_tokenizer *t, const json_t *list, struct sp_err *err)
{
	for (size_t i = 0; i < json_array_size(list); i++) {
		struct field f = field(json_array_get(list, i), "added_tokens[%zu]", i);
		uint32_t id = (uint32_t)json_integer_value(json_object_get(f.value, "id"));
		enum sp_code code = get_flag(&f, "special", 0, &t->tokens[id].special, err);

		if (code)
			return code;
	}
	return SP_OK;
}

/* --- merges ----------------------------------------------------------------------------------- */

/* The two halves of a merge, ["A", "B"] or "A B"; text: room for both. */
static int
split_merge(const json_t *item, struct sp_buf *text, size_t *left_len)
{
	const char *left = json_string_value(json_array_get(item, 0));
	const char *right = json_string_value(json_array_get(item, 1));
	const char *space;

	text->len = 0;
	if (json_is_string(item)) {
		left = json_string_value(item);
		space = strchr(left, ' ');
		if (space == NULL || strchr(space + 1, ' ') != NULL)
			return 0;
		*left_len = (size_t)(space - left);
		right = space + 1;
	} else if (json_array_size(item) == 2 && left != NULL && right != NULL) {
		*left_len = strlen(left);
	} else {
		return 0;
	}
	sp_buf_add(text, left, *left_len);
	sp_buf_puts(text, right);
	return *left_len > 0 && text->len > *left_len;
}

static int
vocab_id(const json_t *vocab, const char *text, size_t len, uint32_t *id)
{
	const json_t *value = json_object_getn(vocab, text, len);

	*id = (uint32_t)json_integer_value(value);
	return value != NULL;
}

static enum sp_code
parse_merges(struct sp_tokenizer *t, const json_t *list, const json_t *vocab, struct sp_err *err)
{
	size_t n = json_array_size(list), left_len;
	struct sp_bpe_merge *merges = calloc(n + 1, sizeof(*merges));
	struct sp_buf text = {0};
	enum sp_code code;

	if (merges == NULL)
		return sp_err_set(err, SP_E_NO_MEMORY, "%zu merges", n);
	for (size_t i = 0; i < n; i++) {
		const char *both;

		if (!split_merge(json_array_get(list, i), &text, &left_len)) {
			code = sp_err_set(
			    err, SP_E_INVALID, "model.merges[%zu] is not a pair of tokens", i);
			goto out;
		}
		both = (const char *)text.data;
		if (!vocab_id(vocab, both, left_len, &merges[i].left) ||
		    !vocab_id(vocab, both + left_len, text.len - left_len, &merges[i].right) ||
		    !vocab_id(vocab, both, text.len, &merges[i].id)) {
			code = sp_err_set(err, SP_E_INVALID,
			    "model.merges[%zu]: \"%.64s\" or a half of it is not in the vocabulary",
			    i, both);
			goto out;
		}
	}
	if ((code = sp_bpe_new(merges, n, t->size, &t->bpe, err)))
		sp_err_prefix(err, "model.merges");
out:
	sp_buf_free(&text);
	free(merges);
	return code;
}

/* --- the file --------------------------------------------------------------------------------- */

static enum sp_code
parse_model(struct sp_tokenizer *t, const struct field *f, struct sp_err *err)
{
	enum sp_code code;

	if ((code = check_keys(f,
		 "type dropout unk_token continuing_subword_prefix end_of_word_suffix fuse_unk "
		 "byte_fallback ignore_merges vocab merges",
		 err)))
		return code;
	if (strcmp(type_of(f), "BPE") != 0)
		return unsupported(f, "type", "is not BPE", err);
	if ((code = want_empty(f, "dropout", err)) ||
	    (code = want_empty(f, "continuing_subword_prefix", err)) ||
	    (code = want_empty(f, "end_of_word_suffix", err)) ||
	    (code = want_flag(f, "byte_fallback", 0, 0, err)))
		return code;
	return get_flag(f, "ignore_merges", 0, &t->ignore_merges, err);
}

/* With all bytes there no text is unknown, and unk_token and fuse_unk have no use. */
static enum sp_code
find_bytes(struct sp_tokenizer *t, const json_t *vocab, struct sp_err *err)
{
	for (unsigned b = 0; b < 256; b++) {
		char spelling[2];
		size_t len = sp__tokenizer_spell((uint8_t)b, spelling);

		if (!vocab_id(vocab, spelling, len, &t->byte_ids[b]))
			return sp_err_set(err, SP_E_UNSUPPORTED,
			    "model.vocab lacks the byte %02x (%.*s)", b, (int)len, spelling);
	}
	return SP_OK;
}

static enum sp_code
parse_tokens(struct sp_tokenizer *t, const json_t *root, struct sp_err *err)
{
	struct field model = field(json_object_get(root, "model"), "model");
	const json_t *added = json_object_get(root, "added_tokens");
	struct entries e = {0};
	json_t *vocab, *merges;
	enum sp_code code;

	if ((code = parse_model(t, &model, err)))
		return code;
	if ((code = sp_json_object(model.value, "vocab", &vocab, err)) ||
	    (code = sp_json_array(model.value, "merges", &merges, err)))
		return sp_err_prefix(err, "model");
	if (!is_none(added) && !json_is_array(added))
		return sp_err_set(err, SP_E_INVALID, "added_tokens is not a list");
	e.list = calloc(json_object_size(vocab) + json_array_size(added) + 1, sizeof(*e.list));
	if (e.list == NULL)
		return sp_err_set(err, SP_E_NO_MEMORY, "the vocabulary");
	if ((code = parse_vocab(&e, vocab, err)) ||
	    (code = parse_added(t, &e, added, vocab, err)) || (code = build_tokens(t, &e, err)) ||
	    (code = mark_special(t, added, err)) || (code = find_bytes(t, vocab, err)) ||
	    (code = parse_merges(t, merges, vocab, err)))
		goto out;
out:
	free(e.list);
	return code;
}

static enum sp_code
check_extra(const struct sp_tokenizer *t, const uint32_t *ids, size_t n, struct sp_err *err)
{
	for (size_t i = 0; i < n; i++) {
		if (ids[i] >= t->size || t->tokens[ids[i]].spelling == NULL)
			return sp_err_set(
			    err, SP_E_INVALID, "post_processor: no token has the id %u", ids[i]);
	}
	return SP_OK;
}

static enum sp_code
parse_root(struct sp_tokenizer *t, const json_t *root, struct sp_err *err)
{
	struct field f = field(root, "%s", "");
	const char *version;
	enum sp_code code;

	if (!json_is_object(root))
		return sp_err_set(err, SP_E_INVALID, "not an object");
	if ((code = check_keys(&f,
		 "version truncation padding added_tokens normalizer pre_tokenizer "
		 "post_processor decoder model",
		 err)) ||
	    (code = sp_json_string(root, "version", &version, err)))
		return code;
	if (strcmp(version, "1.0") != 0)
		return unsupported(&f, "version", "is not 1.0", err);
	if ((code = want_empty(&f, "truncation", err)) || (code = want_empty(&f, "padding", err)) ||
	    (code = parse_normalizer(t, json_object_get(root, "normalizer"), err)) ||
	    (code = parse_pre_tokenizer(t, json_object_get(root, "pre_tokenizer"), err)) ||
	    (code = parse_post_processor(t, json_object_get(root, "post_processor"), err)) ||
	    (code = parse_decoder(json_object_get(root, "decoder"), err)) ||
	    (code = parse_tokens(t, root, err)) ||
	    (code = check_extra(t, t->before, t->n_before, err)))
		return code;
	return check_extra(t, t->after, t->n_after, err);
}

enum sp_code
sp_tokenizer_parse(const uint8_t *data, size_t len, struct sp_tokenizer **out, struct sp_err *err)
{
	struct sp_tokenizer *t = sp_xcalloc(1, sizeof(*t));
	json_t *root = NULL;
	enum sp_code code;

	*out = NULL;
	if ((code = sp_json_parse(data, len, "tokenizer.json", &root, err)))
		goto out;
	if ((code = parse_root(t, root, err))) {
		sp_err_prefix(err, "tokenizer.json");
		goto out;
	}
	*out = t;
	t = NULL;
out:
	json_decref(root);
	sp_tokenizer_free(&t);
	return code;
}

void
sp_tokenizer_free(struct sp_tokenizer **tokenizer)
{
	struct sp_tokenizer *t = *tokenizer;

	if (t == NULL)
		return;
	for (size_t i = 0; i < t->raw.count; i++)
		free(t->raw.tokens[i].content);
	for (size_t i = 0; i < t->normalized.count; i++)
		free(t->normalized.tokens[i].content);
	free(t->raw.tokens);
	free(t->normalized.tokens);
	for (size_t i = 0; i < t->n_patterns; i++)
		sp_pattern_free(&t->patterns[i]);
	sp_bpe_free(&t->bpe);
	free(t->tokens);
	free((void *)t->by_name);
	free(t->text);
	free(t);
	*tokenizer = NULL;
}
