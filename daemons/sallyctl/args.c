/* args.c -- command lines. */
#include "args.h"
#include "base/path.h"

#include <stdlib.h>
#include <string.h>

/* take_global counts on their order */
const struct ctl_option ctl_globals[] = {
    {"--json", NULL, "print one JSON document instead of text"},
    {"--help", NULL, "all commands, or one"},
    {"--root", "DIR", "in front of every default path (or SALLYPORT_ROOT)"},
    {"-c", "FILE", "configuration; default: /etc/sallyport/sallyport.conf below --root"},
    {NULL, NULL, NULL},
};

static const struct ctl_option *
find_option(const struct ctl_option *list, const char *name, size_t len)
{
	for (; list->name != NULL; list++)
		if (strlen(list->name) == len && memcmp(list->name, name, len) == 0)
			return list;
	return NULL;
}

/* How many edits lie between two short texts (Levenshtein). */
static size_t
distance(const char *a, const char *b)
{
	size_t row[33], i, j, diagonal, above, best;
	size_t n = strlen(b);

	if (strlen(a) > 32 || n > 32)
		return 33;
	for (j = 0; j <= n; j++)
		row[j] = j;
	for (i = 1; a[i - 1] != '\0'; i++) {
		diagonal = row[0];
		row[0] = i;
		for (j = 1; j <= n; j++) {
			above = row[j];
			best = diagonal + (a[i - 1] != b[j - 1]);
			if (above + 1 < best)
				best = above + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			row[j] = best;
			diagonal = above;
		}
	}
	return row[n];
}

const struct ctl_command *
ctl_args_closest(const struct ctl_command *commands, const char *typed)
{
	const struct ctl_command *closest = NULL;
	size_t least = strlen(typed) < 5 ? 2 : 3, d;

	for (; commands->name != NULL; commands++) {
		d = distance(typed, commands->name);
		if (d < least) {
			least = d;
			closest = commands;
		}
	}
	return closest;
}

/* "log show": the first two words; "submit": the first. *used: how many words named it. */
static const struct ctl_command *
find_command(
    const struct ctl_command *commands, const char *const *words, unsigned count, unsigned *used)
{
	const char *space;
	size_t len;

	for (; commands->name != NULL; commands++) {
		space = strchr(commands->name, ' ');
		len = space != NULL ? (size_t)(space - commands->name) : strlen(commands->name);
		if (strlen(words[0]) != len || memcmp(words[0], commands->name, len) != 0)
			continue;
		*used = space != NULL ? 2 : 1;
		if (space == NULL || (count > 1 && strcmp(words[1], space + 1) == 0))
			return commands;
	}
	return NULL;
}

static enum sp_code
unknown_command(const struct ctl_command *commands, const char *const *words, unsigned count,
    struct sp_err *err)
{
	char *typed = count > 1 ? sp_xasprintf("%s %s", words[0], words[1]) : sp_xstrdup(words[0]);
	const struct ctl_command *closest = ctl_args_closest(commands, typed);

	if (closest == NULL)
		closest = ctl_args_closest(commands, words[0]);
	free(typed);
	if (closest != NULL)
		return sp_err_set(err, SP_E_INVALID, "there is no command \"%.60s\"; is it \"%s\"?",
		    words[0], closest->name);
	return sp_err_set(err, SP_E_INVALID,
	    "there is no command \"%.60s\"; `sallyctl --help` lists them all", words[0]);
}

/* Words and options, apart; which options are known depends on the command, so the options' texts
 * are kept until it is. */
struct split {
	const char *words[CTL_WORDS_MAX + 2];
	unsigned count;
	int only_words; /* after "--" */
};

static void
take_global(struct ctl_args *out, const struct ctl_option *option, const char *value)
{
	switch (option - ctl_globals) {
	case 0:
		out->json = 1;
		break;
	case 1:
		out->help = 1;
		break;
	case 2:
		out->root = value;
		break;
	default:
		out->conf = value;
	}
}

/* Whatever command it may belong to: does an option of that name take a value? */
static const struct ctl_option *
any_option(const struct ctl_command *commands, const char *name, size_t len)
{
	const struct ctl_option *option = find_option(ctl_globals, name, len);

	for (; option == NULL && commands->name != NULL; commands++)
		option = find_option(commands->options, name, len);
	return option;
}

static enum sp_code
take_option(const struct ctl_command *commands, int argc, char *const *argv, int *i,
    struct ctl_args *out, struct sp_err *err)
{
	const char *text = argv[*i], *equals = strchr(text, '='), *value = "";
	size_t len = equals != NULL ? (size_t)(equals - text) : strlen(text);
	const struct ctl_option *option = any_option(commands, text, len);

	if (option == NULL)
		return sp_err_set(err, SP_E_INVALID, "there is no option \"%.60s\"", text);
	if (option->value == NULL && equals != NULL)
		return sp_err_set(err, SP_E_INVALID, "%s takes no value", option->name);
	if (option->value != NULL && equals != NULL)
		value = equals + 1;
	else if (option->value != NULL && *i + 1 < argc)
		value = argv[++*i];
	else if (option->value != NULL)
		return sp_err_set(
		    err, SP_E_INVALID, "%s wants a value: %s", option->name, option->value);
	if (option >= ctl_globals &&
	    option < ctl_globals + sizeof(ctl_globals) / sizeof(ctl_globals[0])) {
		take_global(out, option, value);
		return SP_OK;
	}
	if (out->given_count == CTL_GIVEN_MAX)
		return sp_err_set(
		    err, SP_E_INVALID, "more than %d options on one line", CTL_GIVEN_MAX);
	out->given[out->given_count].option = option;
	out->given[out->given_count++].value = value;
	return SP_OK;
}

/* Each option that was given must be one of the command's, by name: another command's option of the
 * same name stands for it. */
static enum sp_code
settle_options(struct ctl_args *args, struct sp_err *err)
{
	const struct ctl_option *own;
	const char *name;
	unsigned i;

	for (i = 0; i < args->given_count; i++) {
		name = args->given[i].option->name;
		own = find_option(args->command->options, name, strlen(name));
		if (own == NULL || (own->value == NULL) != (args->given[i].option->value == NULL))
			return sp_err_set(err, SP_E_INVALID,
			    "%s has no option %s; `sallyctl %s --help` lists what it has",
			    args->command->name, name, args->command->name);
		args->given[i].option = own;
	}
	return SP_OK;
}

static enum sp_code
settle_words(struct ctl_args *args, const struct split *split, unsigned used, struct sp_err *err)
{
	const struct ctl_command *command = args->command;
	unsigned i;

	args->count = split->count - used;
	if (args->help)
		return SP_OK;
	if (args->count < command->min || args->count > command->max)
		return sp_err_set(err, SP_E_INVALID, "usage: sallyctl %s%s%s%s", command->name,
		    command->words[0] != '\0' ? " " : "", command->words,
		    command->options[0].name != NULL ? " [options]" : "");
	for (i = 0; i < args->count; i++)
		args->words[i] = split->words[used + i];
	return SP_OK;
}

static enum sp_code
parse(const struct ctl_command *commands, int argc, char *const *argv, struct ctl_args *out,
    struct sp_err *err)
{
	struct split split = {0};
	unsigned used = 0;
	enum sp_code code;
	int i;

	for (i = 1; i < argc; i++) {
		if (!split.only_words && strcmp(argv[i], "--") == 0) {
			split.only_words = 1;
			continue;
		}
		/* before a command only: `trust new` has an option of that name */
		if (split.count == 0 && !split.only_words && strcmp(argv[i], "--version") == 0) {
			out->version = 1;
			continue;
		}
		if (!split.only_words && argv[i][0] == '-' && argv[i][1] != '\0') {
			code = take_option(commands, argc, argv, &i, out, err);
			if (code != SP_OK)
				return code;
			continue;
		}
		if (split.count == sizeof(split.words) / sizeof(split.words[0]))
			return sp_err_set(
			    err, SP_E_INVALID, "too many arguments: \"%.60s\"", argv[i]);
		split.words[split.count++] = argv[i];
	}
	if (split.count == 0)
		return SP_OK;
	out->command = find_command(commands, split.words, split.count, &used);
	if (out->command == NULL)
		return unknown_command(commands, split.words, split.count, err);
	code = settle_options(out, err);
	if (code == SP_OK)
		code = settle_words(out, &split, used, err);
	return code;
}

enum sp_code
ctl_args_parse(const struct ctl_command *commands, int argc, char *const *argv,
    struct ctl_args *out, struct sp_err *err)
{
	enum sp_code code = SP_OK;
	int i;

	memset(out, 0, sizeof(*out));
	/* they come back in JSON documents, which are UTF-8 */
	for (i = 1; code == SP_OK && i < argc; i++)
		if (!sp_path_is_utf8(argv[i], strlen(argv[i])))
			code = sp_err_set(err, SP_E_INVALID, "argument %d is not UTF-8", i);
	if (code == SP_OK)
		code = parse(commands, argc, argv, out, err);
	/* the mistake may come before the wish for a document about it */
	for (i = 1; code != SP_OK && i < argc && strcmp(argv[i], "--") != 0; i++)
		if (strcmp(argv[i], "--json") == 0)
			out->json = 1;
	return code;
}

const char *
ctl_args_nth(const struct ctl_args *args, const char *name, unsigned i)
{
	unsigned j;

	for (j = 0; j < args->given_count; j++)
		if (strcmp(args->given[j].option->name, name) == 0 && i-- == 0)
			return args->given[j].value;
	return NULL;
}

const char *
ctl_args_get(const struct ctl_args *args, const char *name)
{
	unsigned j;

	for (j = args->given_count; j > 0; j--)
		if (strcmp(args->given[j - 1].option->name, name) == 0)
			return args->given[j - 1].value;
	return NULL;
}
