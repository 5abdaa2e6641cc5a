/* help.c -- what the table of commands says of itself. */
#include "base/version.h"
#include "ctl.h"

#include <stdlib.h>

/* --- for machines --------------------------------------------------------------------------- */

static json_t *
options_json(const struct ctl_option *option)
{
	json_t *list = json_array(), *obj;

	for (; option->name != NULL; option++) {
		obj = json_pack("{s:s, s:s}", "name", option->name, "help", option->help);
		if (option->value != NULL)
			json_object_set_new(obj, "value", json_string(option->value));
		json_array_append_new(list, obj);
	}
	return list;
}

static json_t *
command_json(const struct ctl_command *c)
{
	return json_pack("{s:s, s:s, s:i, s:i, s:s, s:o}", "name", c->name, "arguments", c->words,
	    "min", (int)c->min, "max", (int)c->max, "summary", c->summary, "options",
	    options_json(c->options));
}

static json_t *
all_json(void)
{
	const struct ctl_command *c;
	json_t *list = json_array();

	for (c = ctl_commands; c->name != NULL; c++)
		json_array_append_new(list, command_json(c));
	return json_pack("{s:s, s:o, s:o}", "version", SP_VERSION, "commands", list, "options",
	    options_json(ctl_globals));
}

/* --- for people ----------------------------------------------------------------------------- */

static void
print_options(const struct ctl_option *option)
{
	struct ctl_out_table table = {0};
	char *name;

	for (; option->name != NULL; option++) {
		name = sp_xasprintf("%s%s%s", option->name, option->value != NULL ? " " : "",
		    option->value != NULL ? option->value : "");
		ctl_out_row(&table, name, option->help, NULL);
		free(name);
	}
	if (table.count > 0)
		putchar('\n');
	ctl_out_table(&table, "  ", stdout);
}

static void
print_all(void)
{
	struct ctl_out_table table = {0};
	const struct ctl_command *c;
	char *call;

	puts("usage: sallyctl [--json] [-c FILE] [--root DIR] COMMAND …\n");
	for (c = ctl_commands; c->name != NULL; c++) {
		call = sp_xasprintf("%s%s%s", c->name, c->words[0] != '\0' ? " " : "", c->words);
		ctl_out_row(&table, call, c->summary, NULL);
		free(call);
	}
	ctl_out_table(&table, "  ", stdout);
	print_options(ctl_globals);
	puts(
	    "\nExit status: 0 done, 1 failed, 2 usage, 3 blocked or denied, 4 ledgerd not "
	    "reachable.\n`sallyctl COMMAND --help` explains one command; sallyctl(1) all of them.");
}

static void
print_one(const struct ctl_command *command)
{
	printf("usage: sallyctl %s%s%s%s\n\n%s\n", command->name,
	    command->words[0] != '\0' ? " " : "", command->words,
	    command->options[0].name != NULL ? " [options]" : "", command->summary);
	print_options(command->options);
}

void
ctl_help(const struct ctl_command *command, int json)
{
	if (json)
		ctl_out_json(command != NULL ? command_json(command) : all_json());
	else if (command != NULL)
		print_one(command);
	else
		print_all();
}

void
ctl_help_version(int json)
{
	if (json)
		ctl_out_json(json_pack("{s:s}", "version", SP_VERSION));
	else
		puts("sallyctl " SP_VERSION);
}
