/* conf.c -- configuration files (libconfig) read against a table of known keys. */
#include "base/conf.h"
#include "base/buf.h"
#include "base/file.h"
#include "base/path.h"

#include <errno.h>
#include <libconfig.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_MAX (1u << 20)
#define KEY_MAX 256

/* One value, from the file or from the table. */
struct value {
	const struct sp_conf_key *known;
	char *key; /* as in the file, "*" replaced by the group's name; NULL for a default */
	int present;
	char *text;
	int64_t integer; /* SP_CONF_INT, SP_CONF_BOOL */
	double real;
	char **list;
	size_t list_len;
};

struct sp_conf {
	char *file, *root;
	const struct sp_conf_key *keys;
	struct value *defaults; /* one for each entry of keys */
	size_t key_count;
	struct value *values;
	size_t value_count;
	char **groups; /* dotted names of the groups in the file */
	size_t group_count;
};

/* --- keys and patterns ----------------------------------------------------------------------- */

/* Whether key, as far as it goes, is what pattern says: a whole key, or with group=1 the name of a
 * group that holds keys. A "*" of the pattern stands for one segment. */
static int
matches(const char *pattern, const char *key, int group)
{
	size_t p, k;

	for (;;) {
		p = strcspn(pattern, ".");
		k = strcspn(key, ".");
		if (k == 0)
			return 0;
		if (!(p == 1 && pattern[0] == '*') && (p != k || memcmp(pattern, key, k) != 0))
			return 0;
		pattern += p;
		key += k;
		if (*key == '\0')
			return group ? *pattern == '.' : *pattern == '\0';
		if (*pattern == '\0')
			return 0;
		pattern++;
		key++;
	}
}

static const struct sp_conf_key *
find_key(const struct sp_conf_key *keys, const char *key, int group)
{
	for (; keys->key != NULL; keys++)
		if (matches(keys->key, key, group))
			return keys;
	return NULL;
}

/* The pattern's first segments, as many as key has, with the key's own names where it says "*". */
static void
instantiate(const char *pattern, const char *key, int group, char out[KEY_MAX])
{
	size_t len = 0, p, k;
	const char *from;

	out[0] = '\0';
	while (*pattern != '\0') {
		p = strcspn(pattern, ".");
		k = strcspn(key, ".");
		from = p == 1 && pattern[0] == '*' && k > 0 ? key : pattern;
		len += (size_t)snprintf(out + len, KEY_MAX - len, "%s%.*s", len > 0 ? "." : "",
		    (int)(from == key ? k : p), from);
		if (len >= KEY_MAX)
			return;
		pattern += p + (pattern[p] == '.');
		key += k;
		if (*key == '.')
			key++;
		else if (group)
			return;
	}
}

/* Levenshtein's distance, one row at a time. */
static size_t
distance(const char *a, const char *b)
{
	size_t row[KEY_MAX + 1], len = strlen(b), i, j, diagonal, above;

	for (j = 0; j <= len; j++)
		row[j] = j;
	for (i = 0; a[i] != '\0'; i++) {
		diagonal = row[0];
		row[0] = i + 1;
		for (j = 0; j < len; j++) {
			above = row[j + 1];
			row[j + 1] = diagonal + (a[i] != b[j]);
			if (above + 1 < row[j + 1])
				row[j + 1] = above + 1;
			if (row[j] + 1 < row[j + 1])
				row[j + 1] = row[j] + 1;
			diagonal = above;
		}
	}
	return row[len];
}

static const char *
last(const char *key)
{
	const char *dot = strrchr(key, '.');

	return dot != NULL ? dot + 1 : key;
}

static enum sp_code
unknown(const struct sp_conf *conf, const char *key, unsigned line, int group, struct sp_err *err)
{
	char closest[KEY_MAX] = "", candidate[KEY_MAX] = "";
	size_t best = SIZE_MAX, i, d;

	for (i = 0; i < conf->key_count; i++) {
		instantiate(conf->keys[i].key, key, group, candidate);
		d = distance(key, candidate);
		/* the right key in the wrong group is close too */
		if (!group && 1 + distance(last(key), last(candidate)) < d)
			d = 1 + distance(last(key), last(candidate));
		if (d < best) {
			best = d;
			memcpy(closest, candidate, sizeof(closest));
		}
	}
	return sp_err_set(err, SP_E_CONFIG, "%s:%u: unknown %s \"%s\"; the closest known is \"%s\"",
	    conf->file, line, group ? "group" : "key", key, closest);
}

/* --- values ---------------------------------------------------------------------------------- */

static int
is_path(const struct sp_conf_key *known)
{
	return strncmp(known->help, "path", 4) == 0;
}

static char *
string_of(const struct sp_conf *conf, const struct sp_conf_key *known, const char *text)
{
	if (is_path(known) && text[0] == '/')
		return sp_path_join(conf->root, text);
	return sp_xstrdup(text);
}

static int
in_bounds(const struct sp_conf_key *known, double value)
{
	return (known->min == 0 && known->max == 0) || (value >= known->min && value <= known->max);
}

static void
add_to_list(struct value *value, char *text)
{
	value->list = sp_xrealloc(value->list, value->list_len + 1, sizeof(*value->list));
	value->list[value->list_len++] = text;
}

static void
set_default(const struct sp_conf *conf, struct value *value, const struct sp_conf_key *known)
{
	const char *text = known->fallback;
	char *end, *item;
	size_t n;

	value->known = known;
	value->present = text != NULL;
	if (text == NULL)
		return;
	switch (known->type) {
	case SP_CONF_STRING:
		value->text = string_of(conf, known, text);
		break;
	case SP_CONF_INT:
		value->integer = strtoll(text, &end, 10);
		SP_ASSERT(*text != '\0' && *end == '\0');
		SP_ASSERT(in_bounds(known, (double)value->integer));
		break;
	case SP_CONF_BOOL:
		value->integer = strcmp(text, "true") == 0;
		SP_ASSERT(value->integer || strcmp(text, "false") == 0);
		break;
	case SP_CONF_REAL:
		value->real = strtod(text, &end);
		SP_ASSERT(*text != '\0' && *end == '\0' && in_bounds(known, value->real));
		break;
	case SP_CONF_STRINGS:
		for (; *text != '\0'; text += n + (text[n] == ',')) {
			n = strcspn(text, ",");
			item = sp_xasprintf("%.*s", (int)n, text);
			add_to_list(value, string_of(conf, known, item));
			free(item);
		}
		break;
	}
}

static const char *
setting_word(const config_setting_t *setting)
{
	switch (config_setting_type(setting)) {
	case CONFIG_TYPE_GROUP:
		return "a group";
	case CONFIG_TYPE_INT:
	case CONFIG_TYPE_INT64:
		return "an integer";
	case CONFIG_TYPE_FLOAT:
		return "a fraction";
	case CONFIG_TYPE_STRING:
		return "a string";
	case CONFIG_TYPE_BOOL:
		return "a boolean";
	default:
		return "a list";
	}
}

static enum sp_code
wrong(const struct sp_conf *conf, const struct value *value, const config_setting_t *setting,
    struct sp_err *err)
{
	static const char *const wanted[] = {[SP_CONF_STRING] = "a string in double quotes",
	    [SP_CONF_INT] = "an integer",
	    [SP_CONF_BOOL] = "true or false",
	    [SP_CONF_REAL] = "a number",
	    [SP_CONF_STRINGS] = "a list of strings: [ \"a\", \"b\" ]"};
	const struct sp_conf_key *known = value->known;
	char bounds[96] = "";

	if ((known->type == SP_CONF_INT || known->type == SP_CONF_REAL) &&
	    !(known->min == 0 && known->max == 0))
		snprintf(bounds, sizeof(bounds), " from %.15g to %.15g", known->min, known->max);
	return sp_err_set(err, SP_E_CONFIG, "%s:%u: %s must be %s%s, not %s", conf->file,
	    config_setting_source_line(setting), value->key, wanted[known->type], bounds,
	    setting_word(setting));
}

static enum sp_code
out_of_bounds(const struct sp_conf *conf, const struct value *value,
    const config_setting_t *setting, struct sp_err *err)
{
	const struct sp_conf_key *known = value->known;

	return sp_err_set(err, SP_E_CONFIG, "%s:%u: %s is %.15g, allowed is %.15g to %.15g",
	    conf->file, config_setting_source_line(setting), value->key,
	    known->type == SP_CONF_INT ? (double)value->integer : value->real, known->min,
	    known->max);
}

static enum sp_code
read_list(const struct sp_conf *conf, struct value *value, const config_setting_t *setting,
    struct sp_err *err)
{
	int i, type = config_setting_type(setting);
	const char *text;

	if (type != CONFIG_TYPE_ARRAY && type != CONFIG_TYPE_LIST)
		return wrong(conf, value, setting, err);
	for (i = 0; i < config_setting_length(setting); i++) {
		text = config_setting_get_string_elem(setting, i);
		if (text == NULL)
			return sp_err_set(err, SP_E_CONFIG, "%s:%u: element %d of %s is no string",
			    conf->file, config_setting_source_line(setting), i + 1, value->key);
		add_to_list(value, string_of(conf, value->known, text));
	}
	return SP_OK;
}

/* Takes the value of one setting; libconfig converts nothing, so "5" is not 5. */
static enum sp_code
read_value(const struct sp_conf *conf, struct value *value, const config_setting_t *setting,
    struct sp_err *err)
{
	int type = config_setting_type(setting);
	int integer = type == CONFIG_TYPE_INT || type == CONFIG_TYPE_INT64;

	switch (value->known->type) {
	case SP_CONF_STRING:
		if (type != CONFIG_TYPE_STRING)
			return wrong(conf, value, setting, err);
		value->text = string_of(conf, value->known, config_setting_get_string(setting));
		return SP_OK;
	case SP_CONF_INT:
		if (!integer)
			return wrong(conf, value, setting, err);
		value->integer = type == CONFIG_TYPE_INT ? config_setting_get_int(setting)
							 : config_setting_get_int64(setting);
		if (!in_bounds(value->known, (double)value->integer))
			return out_of_bounds(conf, value, setting, err);
		return SP_OK;
	case SP_CONF_BOOL:
		if (type != CONFIG_TYPE_BOOL)
			return wrong(conf, value, setting, err);
		value->integer = config_setting_get_bool(setting) != 0;
		return SP_OK;
	case SP_CONF_REAL:
		if (!integer && type != CONFIG_TYPE_FLOAT)
			return wrong(conf, value, setting, err);
		value->real = type == CONFIG_TYPE_FLOAT ? config_setting_get_float(setting)
			      : type == CONFIG_TYPE_INT ? config_setting_get_int(setting)
							: (double)config_setting_get_int64(setting);
		if (!isfinite(value->real) || !in_bounds(value->known, value->real))
			return out_of_bounds(conf, value, setting, err);
		return SP_OK;
	case SP_CONF_STRINGS:
		return read_list(conf, value, setting, err);
	}
	return SP_OK;
}

static enum sp_code
read_setting(
    struct sp_conf *conf, const char *key, const config_setting_t *setting, struct sp_err *err)
{
	const struct sp_conf_key *known = find_key(conf->keys, key, 0);
	struct value *value;

	if (known == NULL && find_key(conf->keys, key, 1) != NULL)
		return sp_err_set(err, SP_E_CONFIG, "%s:%u: %s is a group: write %s: { ... }",
		    conf->file, config_setting_source_line(setting), key, key);
	if (known == NULL)
		return unknown(conf, key, config_setting_source_line(setting), 0, err);
	conf->values = sp_xrealloc(conf->values, conf->value_count + 1, sizeof(*conf->values));
	value = &conf->values[conf->value_count++];
	memset(value, 0, sizeof(*value));
	value->known = known;
	value->key = sp_xstrdup(key);
	value->present = 1;
	return read_value(conf, value, setting, err);
}

/* Walks the settings of one group. No table has a key deeper than KEY_MAX allows, so the length of
 * the dotted name bounds the recursion. */
static enum sp_code
read_group(
    struct sp_conf *conf, const char *prefix, const config_setting_t *group, struct sp_err *err)
{
	enum sp_code code = SP_OK;
	const config_setting_t *setting;
	char key[KEY_MAX];
	int i, len;

	for (i = 0; code == SP_OK && i < config_setting_length(group); i++) {
		setting = config_setting_get_elem(group, (unsigned)i);
		len = snprintf(key, sizeof(key), "%s%s%s", prefix, prefix[0] != '\0' ? "." : "",
		    config_setting_name(setting));
		if (len < 0 || (size_t)len >= sizeof(key))
			return sp_err_set(err, SP_E_CONFIG,
			    "%s:%u: name of a setting is longer than %d bytes", conf->file,
			    config_setting_source_line(setting), KEY_MAX - 1);
		if (config_setting_type(setting) != CONFIG_TYPE_GROUP ||
		    find_key(conf->keys, key, 0) != NULL) {
			code = read_setting(conf, key, setting, err);
			continue;
		}
		if (find_key(conf->keys, key, 1) == NULL)
			return unknown(conf, key, config_setting_source_line(setting), 1, err);
		conf->groups =
		    sp_xrealloc(conf->groups, conf->group_count + 1, sizeof(*conf->groups));
		conf->groups[conf->group_count++] = sp_xstrdup(key);
		code = read_group(conf, key, setting, err);
	}
	return code;
}

/* --- the file -------------------------------------------------------------------------------- */

/*
 * libconfig takes some things without a word: a NUL ends its text early, an escaped NUL a string,
 * @include names files that the operator did not pass, and an integer beyond 32 bits keeps its low
 * bits unless an L is written behind it. So its lexical rules are followed once here: strings in
 * double quotes with backslash escapes, comments from # or // to the end of the line or between
 * slash-star and star-slash, names [A-Za-z*][-A-Za-z0-9_*]*, and numbers. out is text with the
 * missing Ls.
 */
struct lexer {
	const char *file, *at;
	unsigned line;
	struct sp_buf *out;
};

static int
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static int
is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* Copies up to end, counting lines. */
static void
pass(struct lexer *lex, const char *end)
{
	const char *p;

	for (p = lex->at; p < end; p++)
		lex->line += *p == '\n';
	sp_buf_add(lex->out, lex->at, (size_t)(end - lex->at));
	lex->at = end;
}

/* Comments and blanks: the length of the one at p, 0 when there is none. */
static size_t
comment_len(const char *p)
{
	const char *end;

	if (p[0] == '#' || (p[0] == '/' && p[1] == '/'))
		return strcspn(p, "\n");
	if (p[0] != '/' || p[1] != '*')
		return 0;
	end = strstr(p + 2, "*/");
	return end != NULL ? (size_t)(end + 2 - p) : strlen(p);
}

static enum sp_code
pass_string(struct lexer *lex, struct sp_err *err)
{
	const char *p = lex->at + 1;

	while (*p != '\0' && *p != '"') {
		if (p[0] == '\\' && (p[1] == 'x' || p[1] == 'X') && p[2] == '0' && p[3] == '0') {
			pass(lex, p);
			return sp_err_set(
			    err, SP_E_CONFIG, "%s:%u: NUL byte in a string", lex->file, lex->line);
		}
		p += p[0] == '\\' && p[1] != '\0' ? 2 : 1;
	}
	pass(lex, *p == '"' ? p + 1 : p);
	return SP_OK;
}

static enum sp_code
pass_number(struct lexer *lex, struct sp_err *err)
{
	const char *digits = lex->at + (lex->at[0] == '-' || lex->at[0] == '+');
	int hex = digits[0] == '0' && (digits[1] == 'x' || digits[1] == 'X');
	long long value;
	char *end;

	errno = 0;
	value = strtoll(lex->at, &end, hex ? 16 : 10);
	if (!hex && (*end == '.' || *end == 'e' || *end == 'E')) {
		pass(lex, end + strspn(end, "0123456789.eE+-"));
		return SP_OK;
	}
	if (errno == ERANGE)
		return sp_err_set(err, SP_E_CONFIG, "%s:%u: integer %.*s does not fit 64 bits",
		    lex->file, lex->line, (int)(end - lex->at < 40 ? end - lex->at : 40), lex->at);
	pass(lex, end);
	if (*end != 'L' && (value < INT32_MIN || value > INT32_MAX))
		sp_buf_puts(lex->out, "L");
	return SP_OK;
}

static enum sp_code
prepare(const char *file, const char *text, size_t len, struct sp_buf *out, struct sp_err *err)
{
	struct lexer lex = {file, text, 1, out};
	enum sp_code code = SP_OK;
	const char *p;
	size_t n;

	if (strlen(text) != len) {
		pass(&lex, text + strlen(text));
		return sp_err_set(err, SP_E_CONFIG, "%s:%u: NUL byte", file, lex.line);
	}
	while (code == SP_OK && *lex.at != '\0') {
		p = lex.at;
		if ((n = comment_len(p)) > 0) {
			pass(&lex, p + n);
		} else if (*p == '"') {
			code = pass_string(&lex, err);
		} else if (strncmp(p, "@include", 8) == 0) {
			code = sp_err_set(err, SP_E_CONFIG,
			    "%s:%u: @include is not supported: one file holds everything", file,
			    lex.line);
		} else if (is_letter(*p) || *p == '*') {
			for (n = 1; is_letter(p[n]) || is_digit(p[n]) ||
				    (p[n] != '\0' && strchr("-_*", p[n]) != NULL);
			     n++)
				;
			pass(&lex, p + n);
		} else if (is_digit(*p) || ((*p == '-' || *p == '+') && is_digit(p[1]))) {
			code = pass_number(&lex, err);
		} else {
			pass(&lex, p + 1);
		}
	}
	return code;
}

static enum sp_code
read_file(struct sp_conf *conf, struct sp_err *err)
{
	struct sp_buf prepared = {0};
	uint8_t *text = NULL;
	enum sp_code code;
	config_t config;
	size_t len;

	config_init(&config);
	code = sp_file_read(conf->file, FILE_MAX, &text, &len, err);
	if (code != SP_OK) {
		(void)sp_err_set(err, SP_E_CONFIG, "configuration: %s",
		    err != NULL ? (const char *)err->msg : "");
		code = SP_E_CONFIG;
		goto out;
	}
	sp_buf_puts(&prepared, "");
	code = prepare(conf->file, (const char *)text, len, &prepared, err);
	if (code != SP_OK)
		goto out;
	if (!config_read_string(&config, (const char *)prepared.data)) {
		code = sp_err_set(err, SP_E_CONFIG, "%s:%d: %s", conf->file,
		    config_error_line(&config), config_error_text(&config));
		goto out;
	}
	code = read_group(conf, "", config_root_setting(&config), err);
out:
	config_destroy(&config);
	sp_buf_free(&prepared);
	free(text);
	return code;
}

enum sp_code
sp_conf_load(const char *file, const char *root, const struct sp_conf_key *keys,
    struct sp_conf **out, struct sp_err *err)
{
	struct sp_conf *conf = sp_xcalloc(1, sizeof(*conf));
	enum sp_code code;
	size_t i;

	conf->file = sp_xstrdup(file);
	conf->root = sp_xstrdup(root != NULL ? root : "");
	conf->keys = keys;
	while (keys[conf->key_count].key != NULL)
		conf->key_count++;
	conf->defaults = sp_xcalloc(conf->key_count, sizeof(*conf->defaults));
	for (i = 0; i < conf->key_count; i++) {
		SP_ASSERT(strlen(keys[i].key) < KEY_MAX);
		set_default(conf, &conf->defaults[i], &keys[i]);
	}
	code = read_file(conf, err);
	if (code == SP_OK)
		*out = conf;
	else
		sp_conf_free(&conf);
	return code;
}

static void
free_value(struct value *value)
{
	size_t i;

	free(value->key);
	free(value->text);
	for (i = 0; i < value->list_len; i++)
		free(value->list[i]);
	free(value->list);
}

void
sp_conf_free(struct sp_conf **conf)
{
	struct sp_conf *c;
	size_t i;

	if (conf == NULL || *conf == NULL)
		return;
	c = *conf;
	for (i = 0; i < c->key_count; i++)
		free_value(&c->defaults[i]);
	for (i = 0; i < c->value_count; i++)
		free_value(&c->values[i]);
	for (i = 0; i < c->group_count; i++)
		free(c->groups[i]);
	free(c->groups);
	free(c->values);
	free(c->defaults);
	free(c->root);
	free(c->file);
	free(c);
	*conf = NULL;
}

const char *
sp_conf_root(const struct sp_conf *conf)
{
	return conf->root;
}

/* --- asking ---------------------------------------------------------------------------------- */

/* The file's value of key, else the table's. */
static const struct value *
lookup(const struct sp_conf *conf, const char *key)
{
	const struct sp_conf_key *known;
	size_t i;

	for (i = 0; i < conf->value_count; i++)
		if (strcmp(conf->values[i].key, key) == 0)
			return &conf->values[i];
	known = find_key(conf->keys, key, 0);
	SP_ASSERT(known != NULL);
	return &conf->defaults[known - conf->keys];
}

static const struct value *
lookup_typed(const struct sp_conf *conf, const char *key, enum sp_conf_type type)
{
	const struct value *value = lookup(conf, key);

	SP_ASSERT(value->known->type == type);
	return value;
}

const char *
sp_conf_string(const struct sp_conf *conf, const char *key)
{
	return lookup_typed(conf, key, SP_CONF_STRING)->text;
}

int64_t
sp_conf_int(const struct sp_conf *conf, const char *key)
{
	return lookup_typed(conf, key, SP_CONF_INT)->integer;
}

int
sp_conf_bool(const struct sp_conf *conf, const char *key)
{
	return (int)lookup_typed(conf, key, SP_CONF_BOOL)->integer;
}

double
sp_conf_real(const struct sp_conf *conf, const char *key)
{
	return lookup_typed(conf, key, SP_CONF_REAL)->real;
}

const char *
sp_conf_strings(const struct sp_conf *conf, const char *key, size_t i)
{
	const struct value *value = lookup_typed(conf, key, SP_CONF_STRINGS);

	return i < value->list_len ? value->list[i] : NULL;
}

size_t
sp_conf_groups(const struct sp_conf *conf, const char *prefix, const char **names, size_t max)
{
	size_t len = strlen(prefix), i, count = 0;
	const char *name;

	for (i = 0; i < conf->group_count; i++) {
		name = conf->groups[i];
		if (len > 0) {
			if (strncmp(name, prefix, len) != 0 || name[len] != '.')
				continue;
			name += len + 1;
		}
		if (strchr(name, '.') != NULL)
			continue;
		if (count < max)
			names[count] = name;
		count++;
	}
	return count;
}

int
sp_conf_is_set(const struct sp_conf *conf, const char *key)
{
	return lookup(conf, key)->key != NULL;
}

enum sp_code
sp_conf_require(const struct sp_conf *conf, const char *key, struct sp_err *err)
{
	const struct value *value = lookup(conf, key);

	if (value->present)
		return SP_OK;
	return sp_err_set(
	    err, SP_E_CONFIG, "%s: %s is not set (%s)", conf->file, key, value->known->help);
}
