/* awq_card.c -- the model card and the picture of a quantization. */
#include "awq/card.h"
#include "awq/picture.h"
#include "base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static json_t *
layer_new(double attn, double mlp)
{
	return json_pack("{s:f, s:f, s:f, s:f}", "attn_error", attn, "attn_before", 3 * attn,
	    "mlp_error", mlp, "mlp_before", 2.5 * mlp);
}

static json_t *
report_new(const char *name)
{
	json_t *layers = json_array(), *source = json_pack("{s:s}", "tree", "0123abcd");

	json_array_append_new(layers, layer_new(0.001, 0.02));
	json_array_append_new(layers, layer_new(0.004, 0.1));
	if (name != NULL)
		json_object_set_new(source, "name", json_string(name));
	return json_pack(
	    "{s:{s:i, s:i, s:i, s:i, s:s}, s:o, s:{s:i, s:b, s:[s]}, s:{s:s, s:i}, s:o, s:s}",
	    "calibration", "texts", 128, "blocks", 27, "sequence", 512, "tokens", 13824, "sha256",
	    "beef", "layers", layers, "plan", "group_size", 64, "symmetric", 1,
	    "modules_to_not_convert", "q_proj", "settings", "method", "awq", "group_size", 128,
	    "source", source, "version", "9.9.9");
}

/* The card of a README; freed by the next call. */
static const char *
card(const char *readme, const char *name)
{
	static char *text;
	json_t *report = report_new(name);
	size_t len;

	free(text);
	text = sp_card_write(
	    (const uint8_t *)readme, readme != NULL ? strlen(readme) : 0, report, &len);
	assert_int_equal(strlen(text), len);
	json_decref(report);
	return text;
}

static void
begins(const char *text, const char *with)
{
	if (strncmp(text, with, strlen(with)) != 0)
		fail_msg("begins otherwise: %.400s", text);
}

static void
says(const char *text, const char *what)
{
	if (strstr(text, what) == NULL)
		fail_msg("does not say \"%s\": %s", what, text);
}

static void
test_without_readme(void **state)
{
	const char *text;

	(void)state;
	text = card(NULL, "org/name");
	begins(text,
	    "---\nbase_model: org/name\nbase_model_relation: quantized\n---\n\n## Quantization");
	says(text, "Made from `org/name` by Sallyport 9.9.9");
	says(text, "| method | `awq` |");
	says(text, "| group size | 64 |\n| zero points | all 8 (symmetric) |\n| left in fp16 | "
		   "`q_proj` |");
	says(text,
	    "| calibration | 128 texts, 27 blocks of 512 tokens (13824 tokens), SHA-256 `beef` |");
	says(text, "| source tree | `0123abcd` |");
	says(text, "| 0 | 0.003 | 0.001 | 0.05 | 0.02 |\n| 1 | 0.012 | 0.004 | 0.25 | 0.1 |\n");
	says(text, "vllm serve");
	/* a name that is not known, or not one, is not invented and breaks nothing */
	begins(card(NULL, NULL), "---\nbase_model_relation: quantized\n---\n");
	assert_null(strstr(card(NULL, "x\nlicense: mit"), "license"));
}

static void
test_front_matter(void **state)
{
	static const char readme[] = "---\nlicense: apache-2.0\nbase_model:\n- other/base\n"
				     "- second\nbase_model_relation: finetune\ntags:\n  - a\n"
				     "- b\nlanguage: [en]\n---\n# Name\n\nbase_model: text\n---\n";

	(void)state;
	/* what is kept is kept as it was; base_model names what this was made from */
	begins(card(readme, "org/name"),
	    "---\nlicense: apache-2.0\ntags:\n  - a\n- b\nlanguage: [en]\nbase_model: org/name\n"
	    "base_model_relation: quantized\n---\n# Name\n\nbase_model: text\n---\n\n## "
	    "Quantization");
	/* and is kept too when the source's name is not known */
	says(card(readme, NULL), "base_model:\n- other/base\n- second\ntags:");
	begins(card("---\r\nlicense: mit\r\n---\r\n# N\r\n", NULL),
	    "---\nlicense: mit\r\nbase_model_relation: quantized\n---\n# N\r\n\n## Quantization");
	/* none, one that does not end, and one that is empty */
	begins(card("# Name", "a/b"),
	    "---\nbase_model: a/b\nbase_model_relation: quantized\n---\n# Name\n\n##");
	begins(card("---\nlicense: mit\n", NULL),
	    "---\nbase_model_relation: quantized\n---\n---\nlicense: mit\n\n##");
	begins(card("---\n---\n", NULL), "---\nbase_model_relation: quantized\n---\n\n##");
	begins(card("", NULL), "---\nbase_model_relation: quantized\n---\n\n##");
}

static json_t *
experts_new(int a, int b, int c)
{
	return json_pack("[{s:i}, {s:i}, {s:i}]", "tokens", a, "tokens", b, "tokens", c);
}

/* Of experts it says how well the calibration reached them. */
static void
test_experts(void **state)
{
	json_t *report = report_new(NULL), *layers = json_object_get(report, "layers");
	size_t len;
	char *text;

	(void)state;
	assert_null(strstr(card(NULL, NULL), "expert"));
	json_object_set_new(json_array_get(layers, 0), "experts", experts_new(90, 7, 40));
	json_object_set_new(json_array_get(layers, 1), "experts", experts_new(12, 8, 30));
	text = sp_card_write(NULL, 0, report, &len);
	says(text, "Each of the 6 experts was calibrated; the least used one saw 7 tokens.");
	assert_null(strstr(text, "Warning"));
	free(text);
	json_object_set_new(json_array_get(layers, 1), "experts", experts_new(0, 9, 0));
	text = sp_card_write(NULL, 0, report, &len);
	says(text, "**Warning:** no calibration token reached 2 of the 6 experts (in layers 1).");
	assert_null(strstr(text, "Each of"));
	free(text);
	json_decref(report);
}

static size_t
count(const char *text, const char *what)
{
	size_t n = 0;

	for (const char *at = text; (at = strstr(at, what)) != NULL; at += strlen(what))
		n++;
	return n;
}

static char *
picture(json_t *report)
{
	size_t len;
	char *text = sp_picture_draw(report, &len);

	assert_int_equal(strlen(text), len);
	begins(text, "<svg xmlns=\"http://www.w3.org/2000/svg\"");
	says(text, "</svg>\n");
	says(text, "prefers-color-scheme:dark");
	/* nothing that runs, and nothing from elsewhere */
	assert_null(strstr(text, "<script"));
	assert_null(strstr(text, "href"));
	assert_null(strstr(text, "url("));
	assert_null(strstr(text, "nan"));
	assert_null(strstr(text, "inf"));
	json_decref(report);
	return text;
}

static void
test_picture(void **state)
{
	json_t *report = report_new(NULL), *layers;
	char *text = picture(report);

	(void)state;
	assert_int_equal(count(text, "<rect class=\"attn\""), 2 + 1); /* and the legend's */
	assert_int_equal(count(text, "<rect class=\"mlp\""), 2 + 1);
	assert_int_equal(count(text, "<line class=\"plain\""), 4 + 1);
	says(text, "<title>layer 1, MLP: 0.1</title>");
	says(text, ">4 bits by awq, groups of 64, symmetric; logarithmic</text>");
	/* a ground below all else: a reader's dark setting means nothing to a light page */
	assert_true(strstr(text, "<rect class=\"ground\" width=") < strstr(text, "<text"));
	free(text);
	/* many layers; and numbers that no logarithm takes, or that are not there */
	report = report_new(NULL);
	layers = json_object_get(report, "layers");
	for (size_t i = 0; i < 200; i++)
		json_array_append_new(layers, layer_new(i % 2 == 0 ? 1e-12 : 1e6, 0));
	json_array_append_new(layers, json_pack("{s:n}", "attn_error"));
	text = picture(report);
	assert_int_equal(count(text, "<rect class=\"attn\""), 202 + 1);
	assert_int_equal(count(text, "<rect class=\"mlp\""), 2 + 1);
	for (size_t i = 0; i < 202; i++) {
		char *title = sp_xasprintf("<title>layer %zu, attention: ", i);

		says(text, title);
		free(title);
	}
	/* as wide as a page is, and the layers that have a number are round ones */
	says(text, " viewBox=\"0 0 892 340\" ");
	says(text, ">20</text>");
	says(text, ">200</text>");
	assert_null(strstr(text, ">10</text>"));
	free(text);
	/* a method that no settings would have let in is not told */
	report = report_new(NULL);
	json_object_set_new(json_object_get(report, "settings"), "method", json_string("<b>"));
	text = picture(report);
	assert_null(strstr(text, "<b>"));
	free(text);
	free(picture(json_pack("{s:[]}", "layers")));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_without_readme),
	    cmocka_unit_test(test_front_matter),
	    cmocka_unit_test(test_experts),
	    cmocka_unit_test(test_picture),
	};

	return cmocka_run_group_tests_name("awq_card", tests, NULL, NULL);
}
