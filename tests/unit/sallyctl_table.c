/* sallyctl_table.c -- the table of commands: what parser, completion and manual rely on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "sallyctl/completion.h"
#include "sallyctl/ctl.h"

/* What the table calls its arguments and values is known to the completion: nothing drifts. */
static void
placeholders(void **state)
{
	const struct ctl_command *c;
	const struct ctl_option *o;
	char *words, *rest, *word;

	(void)state;
	for (c = ctl_commands; c->name != NULL; c++) {
		words = rest = sp_xstrdup(c->words);
		while ((word = strsep(&rest, " ")) != NULL)
			if (word[0] != '\0' && ctl_completion_kind(word) == NULL)
				fail_msg("%s: %s", c->name, word);
		free(words);
		for (o = c->options; o->name != NULL; o++)
			if (o->value != NULL && ctl_completion_kind(o->value) == NULL)
				fail_msg("%s %s: %s", c->name, o->name, o->value);
	}
	assert_null(ctl_completion_kind("NONSENSE"));
	assert_string_equal(ctl_completion_kind("[ID]"), "job");
}

/* An option takes a value in every command that has it, or in none: the parser reads options
 * before it knows the command. */
static void
options(void **state)
{
	const struct ctl_command *a, *b;
	const struct ctl_option *o, *p;

	(void)state;
	for (a = ctl_commands; a->name != NULL; a++) {
		assert_non_null(a->run);
		assert_true(a->min <= a->max && a->max <= CTL_WORDS_MAX);
		/* the last place is the end's */
		assert_null(a->options[CTL_OPTIONS_MAX - 1].name);
		for (o = a->options; o->name != NULL; o++)
			for (b = ctl_commands; b->name != NULL; b++)
				for (p = b->options; p->name != NULL; p++)
					if (strcmp(o->name, p->name) == 0 &&
					    (o->value == NULL) != (p->value == NULL))
						fail_msg("%s: %s, %s", o->name, a->name, b->name);
	}
}

static void
is_in(const char *page, const char *macro, const char *text, const char *command)
{
	char *wanted = sp_xasprintf("%s%s", macro, text);
	const char *at = page;

	while ((at = strstr(at, wanted)) != NULL && strchr(" \n", at[strlen(wanted)]) == NULL)
		at++;
	if (at == NULL)
		fail_msg("%s: the manual does not have: %s", command, wanted);
	free(wanted);
}

/* Each command and option stands in the manual. */
static void
manual(void **state)
{
	const struct ctl_command *c;
	const struct ctl_option *o;
	struct sp_err err;
	uint8_t *page = NULL;
	size_t len;

	(void)state;
	if (sp_file_read("daemons/sallyctl/sallyctl.1", 1 << 20, &page, &len, &err) != SP_OK)
		fail_msg("%s", err.msg);
	for (c = ctl_commands; c->name != NULL; c++) {
		is_in((char *)page, ".It Ic ", c->name, c->name);
		for (o = c->options; o->name != NULL; o++)
			is_in((char *)page, "Fl ", o->name + 1, c->name);
	}
	free(page);
}

static void
script(void **state)
{
	struct sp_buf out = {0};

	(void)state;
	ctl_completion_bash(ctl_commands, &out);
	assert_non_null(strstr((char *)out.data, "\ntrust update|--trust=dir|file\n"));
	assert_non_null(strstr((char *)out.data, "\n_sallyctl_globals='--json "));
	sp_buf_free(&out);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(placeholders),
	    cmocka_unit_test(options),
	    cmocka_unit_test(manual),
	    cmocka_unit_test(script),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
