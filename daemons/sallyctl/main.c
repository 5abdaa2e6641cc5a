/* main.c -- sallyctl: what becomes of a command and its errors. */
#include "base/path.h"
#include "base/program.h"
#include "ctl.h"

#include <stdlib.h>
#include <string.h>

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

/* A document that could not be written whole is none. */
static int
finish(struct ctl *ctl, enum sp_code code)
{
	ctl_client_close(&ctl->client);
	sp_conf_free(&ctl->conf);
	if (fflush(stdout) != 0 || ferror(stdout)) {
		perror("sallyctl: cannot write the output");
		return CTL_EXIT_FAILED;
	}
	return ctl_exit_status(code, ctl->usage);
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
			ctl_help_version(args.json);
		else
			ctl_help(args.command, args.json);
		return finish(&ctl, SP_OK);
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
	return finish(&ctl, code);
}
