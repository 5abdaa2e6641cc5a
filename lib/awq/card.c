/* card.c -- what a quantized checkpoint says of itself. */
#include "awq/card.h"

#include "base/buf.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

/* --- the front matter --------------------------------------------------------------------------
 */

/* A run of bytes of the card. */
struct part {
	const char *at;
	size_t len;
};

/* The line that begins there, its end included. */
static size_t
line_len(const char *at, const char *end)
{
	const char *newline = memchr(at, '\n', (size_t)(end - at));

	return newline != NULL ? (size_t)(newline - at) + 1 : (size_t)(end - at);
}

/* "---", maybe with white space behind it. */
static int
is_fence(const char *at, size_t len)
{
	if (len < 3 || memcmp(at, "---", 3) != 0)
		return 0;
	for (size_t i = 3; i < len; i++)
		if (strchr(" \t\r\n", at[i]) == NULL)
			return 0;
	return 1;
}

/* Splits a card into the lines between its fences and what is behind them; without front matter
 * (or one that does not end) all of it is behind. */
static void
split(const char *readme, size_t size, struct part *front, struct part *rest)
{
	const char *end = readme + size, *at = readme;
	size_t len;

	*front = (struct part){readme, 0};
	*rest = (struct part){readme, size};
	if (size == 0 || !is_fence(at, len = line_len(at, end)))
		return;
	at += len;
	for (const char *p = at; p < end; p += len) {
		len = line_len(p, end);
		if (!is_fence(p, len))
			continue;
		*front = (struct part){at, (size_t)(p - at)};
		*rest = (struct part){p + len, (size_t)(end - p) - len};
		return;
	}
}

/* Whether a line sets that key at the top level. */
static int
sets(const char *line, size_t len, const char *key)
{
	size_t n = strlen(key);

	return len > n && memcmp(line, key, n) == 0 && line[n] == ':';
}

/* Still of the value above: indented, empty, or an element of its list. */
static int
continues(const char *line, size_t len)
{
	return len > 0 && (strchr(" \t\r\n", line[0]) != NULL ||
			      (line[0] == '-' && (len == 1 || strchr(" \t\r\n", line[1]) != NULL)));
}

/* All lines but those of the keys that are set anew. */
static void
keep_front(const struct part *front, int with_base, struct sp_buf *out)
{
	const char *end = front->at + front->len;
	int dropping = 0;
	size_t len;

	for (const char *p = front->at; p < end; p += len) {
		len = line_len(p, end);
		if (sets(p, len, "base_model_relation") ||
		    (with_base && sets(p, len, "base_model")))
			dropping = 1;
		else if (!continues(p, len))
			dropping = 0;
		if (!dropping)
			sp_buf_add(out, p, len);
	}
}

/* A name that stands in YAML and Markdown for nothing but itself. */
static int
is_plain(const char *name)
{
	return name != NULL && name[0] != '\0' && name[0] != '-' &&
	       strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._/-") ==
		   strlen(name);
}

static void
add_front(const struct part *front, const char *base, struct sp_buf *out)
{
	sp_buf_puts(out, "---\n");
	keep_front(front, base != NULL, out);
	if (out->data[out->len - 1] != '\n')
		sp_buf_puts(out, "\n");
	if (base != NULL)
		sp_buf_printf(out, "base_model: %s\n", base);
	sp_buf_puts(out, "base_model_relation: quantized\n---\n");
}

/* --- the section -------------------------------------------------------------------------------
 */

static const char *
text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text != NULL ? text : "";
}

static long long
count_of(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

static void
add_facts(const json_t *report, const char *base, struct sp_buf *out)
{
	const json_t *settings = json_object_get(report, "settings");
	const json_t *calibration = json_object_get(report, "calibration");
	const json_t *plan = json_object_get(report, "plan");
	const json_t *left = json_object_get(plan, "modules_to_not_convert"), *name;
	size_t i;

	sp_buf_printf(out,
	    "\n## Quantization\n\n"
	    "Made from %s%s%s by Sallyport %s: the linear layers hold 4 bits a weight (AWQ, GEMM "
	    "layout); embeddings, norms and the output head are fp16.\n\n"
	    "| | |\n|---|---|\n"
	    "| method | `%s` |\n| group size | %lld |\n| zero points | %s |\n",
	    base != NULL ? "`" : "", base != NULL ? base : "the model below",
	    base != NULL ? "`" : "", text_of(report, "version"), text_of(settings, "method"),
	    count_of(plan, "group_size"),
	    json_is_true(json_object_get(plan, "symmetric")) ? "all 8 (symmetric)"
							     : "of each group");
	if (json_array_size(left) > 0) {
		sp_buf_puts(out, "| left in fp16 |");
		json_array_foreach(left, i, name)
		    sp_buf_printf(out, " `%s`", json_string_value(name));
		sp_buf_puts(out, " |\n");
	}
	sp_buf_printf(out,
	    "| calibration | %lld texts, %lld blocks of %lld tokens (%lld tokens), SHA-256 `%s` "
	    "|\n",
	    count_of(calibration, "texts"), count_of(calibration, "blocks"),
	    count_of(calibration, "sequence"), count_of(calibration, "tokens"),
	    text_of(calibration, "sha256"));
	if (count_of(settings, "seed") != 0)
		sp_buf_printf(
		    out, "| seed of the texts' order | %lld |\n", count_of(settings, "seed"));
	sp_buf_printf(out, "| source tree | `%s` |\n| code | Sallyport %s |\n",
	    text_of(json_object_get(report, "source"), "tree"), text_of(report, "version"));
}

/* How well the calibration text reached the experts of a mixture; nothing of other models. */
static void
add_experts(const json_t *report, struct sp_buf *out)
{
	const json_t *layers = json_object_get(report, "layers"), *layer, *expert;
	long long count = 0, idle = 0, least = -1;
	struct sp_buf where = {0};
	size_t i, e;

	json_array_foreach(layers, i, layer)
	{
		long long before = idle;

		json_array_foreach(json_object_get(layer, "experts"), e, expert)
		{
			long long tokens = count_of(expert, "tokens");

			count++;
			idle += tokens == 0;
			least = least < 0 || tokens < least ? tokens : least;
		}
		if (idle > before)
			sp_buf_printf(&where, "%s%zu", before > 0 ? ", " : "", i);
	}
	if (count > 0 && idle == 0)
		sp_buf_printf(out,
		    "\nEach of the %lld experts was calibrated; the least used one saw %lld "
		    "tokens.\n",
		    count, least);
	if (idle > 0) {
		sp_buf_printf(out,
		    "\n**Warning:** no calibration token reached %lld of the %lld experts (in "
		    "layers ",
		    idle, count);
		sp_buf_add(out, where.data, where.len);
		sp_buf_puts(out, "). Their weights are rounded to nearest; more, or other, "
				 "calibration text would reach them.\n");
	}
	sp_buf_free(&where);
}

static void
add_number(struct sp_buf *out, const json_t *layer, const char *key)
{
	const json_t *number = json_object_get(layer, key);

	if (json_is_number(number))
		sp_buf_printf(out, " %.3g |", json_number_value(number));
	else
		sp_buf_puts(out, " |");
}

static void
add_errors(const json_t *report, struct sp_buf *out)
{
	const json_t *layers = json_object_get(report, "layers");

	sp_buf_puts(out,
	    "\nMean squared error of what each layer's parts give for the calibration text, "
	    "against the source's: after plain rounding to nearest, and as it is here. "
	    "`quantization-report.json` has all numbers.\n\n"
	    "![errors of each layer](quantization-losses.svg)\n\n"
	    "| layer | attention, rounded | attention | MLP, rounded | MLP |\n"
	    "|---|---|---|---|---|\n");
	for (size_t i = 0; i < json_array_size(layers); i++) {
		const json_t *layer = json_array_get(layers, i);

		sp_buf_printf(out, "| %zu |", i);
		add_number(out, layer, "attn_before");
		add_number(out, layer, "attn_error");
		add_number(out, layer, "mlp_before");
		add_number(out, layer, "mlp_error");
		sp_buf_puts(out, "\n");
	}
}

static void
add_use(struct sp_buf *out)
{
	sp_buf_puts(out,
	    "\nvLLM finds out by itself what this is, and takes its fastest kernels for it: give "
	    "it "
	    "no `--quantization`.\n\n"
	    "```\nvllm serve DIRECTORY\n```\n\n"
	    "```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
	    "model = AutoModelForCausalLM.from_pretrained(\"DIRECTORY\", device_map=\"auto\")\n"
	    "tokenizer = AutoTokenizer.from_pretrained(\"DIRECTORY\")\n```\n");
}

char *
sp_card_write(const uint8_t *readme, size_t size, const json_t *report, size_t *len)
{
	const char *base = text_of(json_object_get(report, "source"), "name");
	struct part front, rest;
	struct sp_buf out = {0};

	if (!is_plain(base))
		base = NULL;
	split(readme != NULL ? (const char *)readme : "", size, &front, &rest);
	add_front(&front, base, &out);
	sp_buf_add(&out, rest.at, rest.len);
	if (rest.len > 0 && rest.at[rest.len - 1] != '\n')
		sp_buf_puts(&out, "\n");
	add_facts(report, base, &out);
	add_experts(report, &out);
	add_errors(report, &out);
	add_use(&out);
	return sp_buf_take(&out, len);
}

/* --- progress -----------------------------------------------------------------------------------
 */

struct sp_card_line
sp_card_errors(const json_t *layer)
{
	struct sp_card_line line = {""};
	const json_t *attn = json_object_get(layer, "attn_error");
	const json_t *mlp = json_object_get(layer, "mlp_error");
	double before = json_number_value(json_object_get(layer, "attn_before")) +
			json_number_value(json_object_get(layer, "mlp_before"));

	if (!json_is_number(attn) || !json_is_number(mlp))
		return line;
	if (before > 0)
		snprintf(line.s, sizeof(line.s), "error %.3g -> %.3g", before,
		    json_number_value(attn) + json_number_value(mlp));
	else
		snprintf(line.s, sizeof(line.s), "error %.3g",
		    json_number_value(attn) + json_number_value(mlp));
	return line;
}
