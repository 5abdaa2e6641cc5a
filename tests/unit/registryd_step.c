/* registryd_step.c -- which tree is a model, and the form of its git ids. */
#include "registryd/registryd.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#define C40 "0123456789abcdef0123456789abcdef01234567"
#define H64 "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"

static struct sp_err err;

static void
ok(enum sp_code code)
{
	if (code != SP_OK)
		fail_msg("%s: %s", sp_err_word(code), err.msg);
}

#define INDEX_OF(file) "{\"weight_map\":{\"a\":\"" file "\"}}"

static void
test_model(void **state)
{
	static const struct {
		const char *paths[4];
		const char *config, *index, *says; /* says NULL: it is a model */
	} cases[] = {
	    {{"tokenizer.json", "model.safetensors"}, "{}", NULL, NULL},
	    {{"tokenizer.model", "x.safetensors"}, "{}", NULL, NULL},
	    {{"tokenizer.json", "model.safetensors"}, NULL, NULL, "config.json"},
	    {{"tokenizer.json", "model.safetensors"}, "[]", NULL, "config.json"},
	    {{"tokenizer.json", "model.safetensors"}, "{", NULL, "config.json"},
	    {{"vocab.json", "model.safetensors"}, "{}", NULL, "tokenizer"},
	    {{"tokenizer.json", "model.bin"}, "{}", NULL, "safetensors"},
	    {{"tokenizer.json", ".safetensors"}, "{}", NULL, "safetensors"},
	    {{"tokenizer.json", "model-00001-of-00002.safetensors"}, "{}", NULL, "shards"},
	    {{"tokenizer.json", "m.safetensors"}, "{}", INDEX_OF("m.safetensors"), NULL},
	    {{"tokenizer.json", "m.safetensors"}, "{}", INDEX_OF("n.safetensors"),
		"\"n.safetensors\""},
	    {{"tokenizer.json", "m.safetensors"}, "{}", INDEX_OF("tokenizer.json"),
		"\"tokenizer.json\""},
	    {{"tokenizer.json", "m.safetensors"}, "{}", "{\"weight_map\":{}}", "no tensor"},
	    {{"tokenizer.json", "m.safetensors"}, "{}", "{\"weight_map\":{\"a\":1}}", "no file"},
	    {{"tokenizer.json", "m.safetensors"}, "{}", "{}", "weight_map"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct registryd_model_files files = {.config = (const uint8_t *)cases[i].config,
		    .index = (const uint8_t *)cases[i].index};
		struct sp_tree tree = {0};
		enum sp_code code;

		files.config_len = cases[i].config != NULL ? strlen(cases[i].config) : 0;
		files.index_len = cases[i].index != NULL ? strlen(cases[i].index) : 0;
		for (size_t k = 0; k < 4 && cases[i].paths[k] != NULL; k++)
			ok(sp_tree_add(&tree, cases[i].paths[k], 1, H64, 0, &err));
		code = registryd_check_model(&tree, &files, &err);
		if ((code == SP_OK) != (cases[i].says == NULL) ||
		    (code != SP_OK && strstr(err.msg, cases[i].says) == NULL))
			fail_msg("%zu: %s", i, code == SP_OK ? "ok" : err.msg);
		sp_tree_clear(&tree);
	}
}

static void
test_oids(void **state)
{
	struct sp_git_oid oids[2] = {{C40}, {""}}, back[2];
	struct sp_tree tree = {0};
	char *text;
	size_t len;

	(void)state;
	ok(sp_tree_add(&tree, "a", 1, H64, 0, &err));
	ok(sp_tree_add(&tree, "b.safetensors", 1, H64, 0, &err));
	text = registryd_oids_format(&tree, oids, &len);
	ok(registryd_oids_parse((const uint8_t *)text, len, &tree, back, &err));
	assert_string_equal(back[0].s, C40);
	assert_string_equal(back[1].s, "");
	for (size_t n = 0; n < len; n++)
		assert_int_equal(registryd_oids_parse((const uint8_t *)text, n, &tree, back, &err),
		    SP_E_INVALID);
	tree.count = 1;
	assert_int_equal(
	    registryd_oids_parse((const uint8_t *)text, len, &tree, back, &err), SP_E_INVALID);
	tree.count = 2;
	free(text);
	sp_tree_clear(&tree);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_model),
	    cmocka_unit_test(test_oids),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
