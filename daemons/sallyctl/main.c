/* main.c -- sallyctl: help, and what becomes of a command's errors. */
#include "base/path.h"
#include "base/program.h"
#include "base/version.h"
#include "ctl.h"

#include <stdlib.h>
#include <string.h>

static void
help_all(void)
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
	puts("\n  --json      print one JSON document instead of text\n"
	     "  -c FILE     configuration; default: /etc/sallyport/sallyport.conf below --root\n"
	     "  --root DIR  in front of every default path (or SALLYPORT_ROOT)\n"
	     "\nExit status: 0 done, 1 failed, 2 usage, 3 blocked or denied, 4 ledgerd not "
	     "reachable.\n`sallyctl COMMAND --help` explains one command.");
}

static void
help_one(const struct ctl_command *command)
{
	struct ctl_out_table table = {0};
	const struct ctl_option *option;
	char *name;

	printf("usage: sallyctl %s%s%s%s\n\n%s\n", command->name,
	    command->words[0] != '\0' ? " " : "", command->words,
	    command->options[0].name != NULL ? " [options]" : "", command->summary);
	for (option = command->options; option->name != NULL; option++) {
		name = sp_xasprintf("%s%s%s", option->name, option->value != NULL ? " " : "",
		    option->value != NULL ? option->value : "");
		ctl_out_row(&table, name, option->help, NULL);
		free(name);
	}
	if (table.count > 0)
		putchar('\n');
	ctl_out_table(&table, "  ", stdout);
}

/* Text to stderr for people; with --json also a document, so that stdout always has one. */
static void
report(const struct ctl *ctl, const struct sp_err *err)
{
	char *clean = ctl_out_clean(err->msg);

	fflush(stdout);
	if (ctl->json && !ctl->told)
		ctl_out_json(json_pack("{s:o}", "error", ctl_error_json(err)));
	fprintf(stderr, "sallyctl: %s\n", clean);
	free(clean);
}

int
main(int argc, char **argv)
{
	static struct ctl_args args;
	struct ctl ctl = {.args = &args};
	const char *root = getenv("SALLYPORT_ROOT");
	struct sp_err err = {0};
	enum sp_code code;

	/* keys and passphrases pass through our memory */
	sp_program_undumpable();
	code = ctl_args_parse(ctl_commands, argc, argv, &args, &err);
	ctl.json = args.json;
	ctl.root = args.root != NULL ? args.root : root != NULL ? root : "";
	if (code == SP_OK && !sp_path_is_utf8(ctl.root, strlen(ctl.root)))
		code = sp_err_set(&err, SP_E_INVALID, "SALLYPORT_ROOT is not UTF-8");
	if (args.version || args.help) {
		if (args.version)
			puts("sallyctl " SP_VERSION);
		else if (args.command != NULL)
			help_one(args.command);
		else
			help_all();
		return CTL_EXIT_OK;
	}
	if (code == SP_OK && args.command == NULL)
		code = sp_err_set(
		    &err, SP_E_INVALID, "which command? `sallyctl --help` lists them all");
	if (code != SP_OK) {
		report(&ctl, &err);
		return CTL_EXIT_USAGE;
	}
	code = args.command->run(&ctl, &args, &err);
	if (code != SP_OK)
		report(&ctl, &err);
	ctl_client_close(&ctl.client);
	sp_conf_free(&ctl.conf);
	if (fflush(stdout) != 0 || ferror(stdout)) {
		perror("sallyctl: cannot write the output");
		return CTL_EXIT_FAILED;
	}
	return ctl_exit_status(code, ctl.usage);
}
