/* tokenizer_parts.c -- normalizer, pre-tokenizer, post-processor and decoder of tokenizer.json. */
#include "model/tokenizer_field.h"

#include "base/json.h"
#include "model/utf8.h"

#include <string.h>

/*
 * normalizer      null | NFC | {"type": "Prepend", "prepend": TEXT}
 *                 | {"type": "Replace", "pattern": {"String": TEXT}, "content": TEXT}
 * pre_tokenizer   null | Split | Digits | {"type": "Metaspace", "replacement": "▁",
 *                 "prepend_scheme": "always" | "first" | "never", "split"} | ByteLevel; the last
 * two at the end only post_processor  null | ByteLevel | TemplateProcessing decoder         null |
 * ByteLevel | Metaspace | Replace | ByteFallback | Fuse | {"type": "Strip", "content": " ",
 * "start": N, "stop": 0}
 *
 * or a Sequence of them, one deep.
 */

#define TEXT_MAX 64 /* bytes of what is replaced, prepended or stripped */

/* GPT-2's pattern, which ByteLevel uses by itself when use_regex is true. */
#define GPT2_PATTERN \
	"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define BYTE_LEVEL_KEYS "type add_prefix_space trim_offsets use_regex"

static int
is_type(const struct sp__field *f, const char *type)
{
	return strcmp(sp__field_type(f), type) == 0;
}

/* --- normalizer ------------------------------------------------------------------------------- */

/* {"type": "Replace", "pattern": {"String": FROM}, "content": TO} */
static enum sp_code
parse_replace(const struct sp__field *f, char **from, size_t *from_len, char **to, size_t *to_len,
    struct sp_err *err)
{
	struct sp__field pattern =
	    sp__field(json_object_get(f->value, "pattern"), "%s.pattern", f->at);
	const char *text;
	enum sp_code code;

	if ((code = sp__field_keys(f, "type pattern content", err)) ||
	    (code = sp__field_keys(&pattern, "String", err)) ||
	    (code = sp__field_text(&pattern, "String", 1, TEXT_MAX, &text, err)))
		return code;
	*from = sp_xstrdup(text);
	*from_len = strlen(text);
	if ((code = sp__field_text(f, "content", 0, TEXT_MAX, &text, err)))
		return code;
	*to = sp_xstrdup(text);
	*to_len = strlen(text);
	return SP_OK;
}

enum sp_code
sp__tokenizer_parse_normalizer(struct sp_tokenizer *t, const json_t *value, struct sp_err *err)
{
	struct sp__field f = sp__field(value, "normalizer"), parts[SP_TOKENIZER_PARTS_MAX];
	size_t n;
	enum sp_code code;

	if (sp__field_none(value))
		return SP_OK;
	if ((code = sp__field_parts(&f, "normalizers", parts, &n, err)))
		return code;
	for (size_t i = 0; i < n && code == SP_OK; i++) {
		struct sp__normal *to = &t->normals[t->n_normals++];
		const char *text;

		if (is_type(&parts[i], "NFC")) {
			to->kind = SP__NFC;
			code = sp__field_keys(&parts[i], "type", err);
		} else if (is_type(&parts[i], "Prepend")) {
			to->kind = SP__PREPEND;
			if ((code = sp__field_keys(&parts[i], "type prepend", err)) ||
			    (code = sp__field_text(&parts[i], "prepend", 0, TEXT_MAX, &text, err)))
				break;
			to->to = sp_xstrdup(text);
			to->to_len = strlen(text);
		} else if (is_type(&parts[i], "Replace")) {
			to->kind = SP__REPLACE;
			code = parse_replace(
			    &parts[i], &to->from, &to->from_len, &to->to, &to->to_len, err);
		} else {
			code = sp__field_unsupported(
			    &parts[i], "type", "is not NFC, Prepend or Replace", err);
		}
	}
	return code;
}

/* --- pre-tokenizer ---------------------------------------------------------------------------- */

/* NULL, with SP_E_UNSUPPORTED in err, when there is no room for it. */
static struct sp__step *
add_step(struct sp_tokenizer *t, const struct sp__field *f, struct sp_err *err)
{
	if (t->n_steps < SP_TOKENIZER_PARTS_MAX)
		return &t->steps[t->n_steps++];
	(void)sp__field_unsupported(f, "", "is one step too many", err);
	return NULL;
}

static enum sp_code
add_pattern(struct sp_tokenizer *t, const struct sp__field *f, const char *text, struct sp_err *err)
{
	struct sp__step *step;
	enum sp_code code;

	if ((step = add_step(t, f, err)) == NULL)
		return SP_E_UNSUPPORTED;
	step->kind = SP__SPLIT;
	if ((code = sp_pattern_compile(text, &step->pattern, err)))
		return sp_err_prefix(err, "%s", f->at);
	return SP_OK;
}

static enum sp_code
parse_split(struct sp_tokenizer *t, const struct sp__field *f, struct sp_err *err)
{
	struct sp__field pattern =
	    sp__field(json_object_get(f->value, "pattern"), "%s.pattern", f->at);
	const char *regex, *text, *behavior;
	int invert, removed;
	struct sp__step *step;
	enum sp_code code;

	if ((code = sp__field_keys(f, "type pattern behavior invert", err)) ||
	    (code = sp__field_keys(&pattern, "Regex String", err)) ||
	    (code = sp__field_flag(f, "invert", 0, &invert, err)))
		return code;
	if ((code = sp_json_string(f->value, "behavior", &behavior, err)))
		return sp_err_prefix(err, "%s", f->at);
	removed = strcmp(behavior, "Removed") == 0;
	if (!removed && strcmp(behavior, "Isolated") != 0)
		return sp__field_unsupported(f, "behavior", "is neither Isolated nor Removed", err);
	regex = json_string_value(json_object_get(pattern.value, "Regex"));
	text = json_string_value(json_object_get(pattern.value, "String"));
	if ((regex == NULL) == (text == NULL) || json_object_size(pattern.value) != 1)
		return sp__field_unsupported(&pattern, "", "is neither a Regex nor a String", err);
	if (text != NULL && text[0] == '\0')
		return sp__field_unsupported(&pattern, "String", "is empty", err);
	if ((step = add_step(t, f, err)) == NULL)
		return SP_E_UNSUPPORTED;
	step->kind = SP__SPLIT;
	step->drop_matches = removed && !invert;
	step->drop_between = removed && invert;
	code = regex != NULL ? sp_pattern_compile(regex, &step->pattern, err)
			     : sp_pattern_compile_text(text, &step->pattern, err);
	return code ? sp_err_prefix(err, "%s", f->at) : SP_OK;
}

/* Digits asks Rust what is numeric, whose tables are of Unicode 17; a Split's \p{N} is Oniguruma's,
 * of Unicode 16 (tokenizers 0.23.3). What came between: Tolong Siki's digits, Chinese numerals. */
#define NUMERIC "[\\p{N}\U00011de0-\U00011de9\U00016ff4-\U00016ff6]"

static enum sp_code
parse_digits(struct sp_tokenizer *t, const struct sp__field *f, struct sp_err *err)
{
	int individual;
	enum sp_code code;

	if ((code = sp__field_keys(f, "type individual_digits", err)) ||
	    (code = sp__field_flag(f, "individual_digits", 0, &individual, err)))
		return code;
	return add_pattern(t, f, individual ? NUMERIC : NUMERIC "+", err);
}

/* The one character of replacement. */
static enum sp_code
get_mark(const struct sp__field *f, const char **mark, struct sp_err *err)
{
	enum sp_code code = sp__field_text(f, "replacement", 1, 4, mark, err);

	if (code == SP_OK && sp_utf8_len((*mark)[0]) != strlen(*mark))
		return sp__field_unsupported(f, "replacement", "is not one character", err);
	return code;
}

/* add_prefix_space is an older way to say it, str_rep a copy of replacement. */
static enum sp_code
get_scheme(const struct sp__field *f, int *scheme, struct sp_err *err)
{
	static const char *const names[] = {"always", "first", "never"};
	const json_t *value = json_object_get(f->value, "prepend_scheme");
	int prefix;
	enum sp_code code;

	if ((code = sp__field_flag(f, "add_prefix_space", 1, &prefix, err)))
		return code;
	*scheme = SP__ALWAYS;
	for (int i = 0; value != NULL && i < 3; i++) {
		*scheme = i;
		if (json_is_string(value) && strcmp(json_string_value(value), names[i]) == 0)
			break;
		if (i == 2)
			return sp__field_unsupported(
			    f, "prepend_scheme", "is not always, first or never", err);
	}
	if (!prefix && *scheme != SP__NEVER)
		return sp__field_unsupported(
		    f, "add_prefix_space", "contradicts prepend_scheme", err);
	return SP_OK;
}

#define METASPACE_KEYS "type replacement str_rep add_prefix_space prepend_scheme split"

static enum sp_code
parse_metaspace(struct sp_tokenizer *t, const struct sp__field *f, struct sp_err *err)
{
	struct sp__step *step;
	const char *mark;
	int scheme, split;
	enum sp_code code;

	if ((code = sp__field_keys(f, METASPACE_KEYS, err)) || (code = get_mark(f, &mark, err)) ||
	    (code = get_scheme(f, &scheme, err)) ||
	    (code = sp__field_flag(f, "split", 1, &split, err)))
		return code;
	if ((step = add_step(t, f, err)) == NULL)
		return SP_E_UNSUPPORTED;
	/* the first piece is the one where the text began, which normalizers may move */
	if (scheme == SP__FIRST && t->n_normals > 0)
		return sp__field_unsupported(
		    f, "prepend_scheme", "is first, which goes with no normalizer", err);
	step->kind = SP__METASPACE;
	step->mark_len = strlen(mark);
	memcpy(step->mark, mark, step->mark_len);
	step->scheme = scheme;
	step->split = split;
	return SP_OK;
}

static enum sp_code
parse_byte_level(struct sp_tokenizer *t, const struct sp__field *f, struct sp_err *err)
{
	int use_regex, prefix;
	struct sp__step *step;
	enum sp_code code;

	if ((code = sp__field_keys(f, BYTE_LEVEL_KEYS, err)) ||
	    (code = sp__field_flag(f, "add_prefix_space", 1, &prefix, err)) ||
	    (code = sp__field_flag(f, "use_regex", 1, &use_regex, err)))
		return code;
	if (prefix) {
		if ((step = add_step(t, f, err)) == NULL)
			return SP_E_UNSUPPORTED;
		step->kind = SP__PREFIX;
	}
	t->byte_level = 1;
	return use_regex ? add_pattern(t, f, GPT2_PATTERN, err) : SP_OK;
}

enum sp_code
sp__tokenizer_parse_pre_tokenizer(struct sp_tokenizer *t, const json_t *value, struct sp_err *err)
{
	struct sp__field f = sp__field(value, "pre_tokenizer"), parts[SP_TOKENIZER_PARTS_MAX];
	size_t n;
	enum sp_code code;

	if (sp__field_none(value))
		return SP_OK;
	if ((code = sp__field_parts(&f, "pretokenizers", parts, &n, err)))
		return code;
	for (size_t i = 0; i < n && code == SP_OK; i++) {
		if (is_type(&parts[i], "Split"))
			code = parse_split(t, &parts[i], err);
		else if (is_type(&parts[i], "Digits"))
			code = parse_digits(t, &parts[i], err);
		else if (i + 1 == n && is_type(&parts[i], "ByteLevel"))
			code = parse_byte_level(t, &parts[i], err);
		else if (i + 1 == n && is_type(&parts[i], "Metaspace"))
			code = parse_metaspace(t, &parts[i], err);
		else
			code = sp__field_unsupported(&parts[i], "type",
			    "is neither Split nor Digits, nor ByteLevel or Metaspace at the end",
			    err);
	}
	return code;
}

/* --- post-processor --------------------------------------------------------------------------- */

/* {"SpecialToken": {"id": NAME, "type_id"}}: NAME's ids are in special_tokens. */
static enum sp_code
template_special(const struct sp__field *f, const struct sp__field *piece, uint32_t *ids, size_t *n,
    struct sp_err *err)
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
			return sp__field_unsupported(piece, "", "is one token too many", err);
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
parse_template(struct sp_tokenizer *t, const struct sp__field *f, struct sp_err *err)
{
	json_t *single;
	int seen = 0;
	enum sp_code code;

	if ((code = sp__field_keys(f, "type single pair special_tokens", err)))
		return code;
	if ((code = sp_json_array(f->value, "single", &single, err)))
		return sp_err_prefix(err, "%s", f->at);
	for (size_t i = 0; i < json_array_size(single); i++) {
		struct sp__field piece =
		    sp__field(json_array_get(single, i), "%s.single[%zu]", f->at, i);
		const json_t *sequence = json_object_get(piece.value, "Sequence");
		const char *id = json_string_value(json_object_get(sequence, "id"));

		if (sequence == NULL) {
			code = seen ? template_special(f, &piece, t->after, &t->n_after, err)
				    : template_special(f, &piece, t->before, &t->n_before, err);
			if (code)
				return code;
		} else if (id == NULL || strcmp(id, "A") != 0 || seen++) {
			return sp__field_unsupported(&piece, "", "is not the one Sequence A", err);
		}
	}
	return seen ? SP_OK : sp__field_unsupported(f, "single", "has no Sequence A", err);
}

enum sp_code
sp__tokenizer_parse_post_processor(struct sp_tokenizer *t, const json_t *value, struct sp_err *err)
{
	struct sp__field f = sp__field(value, "post_processor"), parts[SP_TOKENIZER_PARTS_MAX];
	size_t n;
	int templates = 0;
	enum sp_code code;

	if (sp__field_none(value))
		return SP_OK;
	if ((code = sp__field_parts(&f, "processors", parts, &n, err)))
		return code;
	for (size_t i = 0; i < n; i++) {
		if (is_type(&parts[i], "ByteLevel")) /* offsets only */
			code = sp__field_keys(&parts[i], BYTE_LEVEL_KEYS, err);
		else if (is_type(&parts[i], "TemplateProcessing") && !templates++)
			code = parse_template(t, &parts[i], err);
		else
			code = sp__field_unsupported(&parts[i], "type",
			    "is neither ByteLevel nor the only TemplateProcessing", err);
		if (code)
			return code;
	}
	return SP_OK;
}

/* --- decoder ---------------------------------------------------------------------------------- */

/* start is how many at the front of each text go at most. No file has another stop than 0. */
static enum sp_code
parse_strip(const struct sp__field *f, struct sp__decoder *to, struct sp_err *err)
{
	const char *content;
	int64_t stop;
	enum sp_code code;

	if ((code = sp__field_keys(f, "type content start stop", err)) ||
	    (code = sp__field_text(f, "content", 1, 4, &content, err)))
		return code;
	if ((code = sp_json_integer(f->value, "start", 0, INT64_MAX, &to->start, err)) ||
	    (code = sp_json_integer(f->value, "stop", 0, INT64_MAX, &stop, err)))
		return sp_err_prefix(err, "%s", f->at);
	if (stop != 0)
		return sp__field_unsupported(f, "stop", "is not 0", err);
	if (sp_utf8_len(content[0]) != strlen(content))
		return sp__field_unsupported(f, "content", "is not one character", err);
	to->from = sp_xstrdup(content);
	to->from_len = strlen(content);
	return SP_OK;
}

static enum sp_code
parse_decode_metaspace(const struct sp__field *f, struct sp__decoder *to, struct sp_err *err)
{
	const char *mark;
	int scheme, split;
	enum sp_code code;

	if ((code = sp__field_keys(f, METASPACE_KEYS, err)) || (code = get_mark(f, &mark, err)) ||
	    (code = get_scheme(f, &scheme, err)) ||
	    (code = sp__field_flag(f, "split", 1, &split, err)))
		return code;
	to->from = sp_xstrdup(mark);
	to->from_len = strlen(mark);
	to->to = sp_xstrdup(" ");
	to->to_len = 1;
	to->keep_first = scheme == SP__NEVER;
	return SP_OK;
}

static enum sp_code
parse_one_decoder(const struct sp__field *f, struct sp__decoder *to, struct sp_err *err)
{
	if (is_type(f, "ByteLevel")) {
		to->kind = SP__BYTE_LEVEL;
		return sp__field_keys(f, BYTE_LEVEL_KEYS, err);
	}
	if (is_type(f, "ByteFallback")) {
		to->kind = SP__BYTE_FALLBACK;
		return sp__field_keys(f, "type", err);
	}
	if (is_type(f, "Fuse")) {
		to->kind = SP__FUSE;
		return sp__field_keys(f, "type", err);
	}
	if (is_type(f, "Metaspace")) {
		to->kind = SP__DECODE_METASPACE;
		return parse_decode_metaspace(f, to, err);
	}
	if (is_type(f, "Replace")) {
		to->kind = SP__REPLACE_TEXT;
		return parse_replace(f, &to->from, &to->from_len, &to->to, &to->to_len, err);
	}
	if (is_type(f, "Strip")) {
		to->kind = SP__STRIP;
		return parse_strip(f, to, err);
	}
	return sp__field_unsupported(
	    f, "type", "is not ByteLevel, Metaspace, Replace, ByteFallback, Fuse or Strip", err);
}

enum sp_code
sp__tokenizer_parse_decoder(struct sp_tokenizer *t, const json_t *value, struct sp_err *err)
{
	struct sp__field f = sp__field(value, "decoder"), parts[SP_TOKENIZER_PARTS_MAX];
	size_t n;
	enum sp_code code;

	t->joined = sp__field_none(value);
	if (t->joined)
		return SP_OK;
	if ((code = sp__field_parts(&f, "decoders", parts, &n, err)))
		return code;
	for (size_t i = 0; i < n && code == SP_OK; i++)
		code = parse_one_decoder(&parts[i], &t->decoders[t->n_decoders++], err);
	return code;
}
