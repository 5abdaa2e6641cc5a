/* main.c -- sallyctl: the commands, and what becomes of their errors. */
#include "base/version.h"
#include "ctl.h"

#include <stdlib.h>
#include <string.h>

#define TRUST_OPTION                                                                \
	{                                                                           \
		"--trust", "DIR", "trust directory, instead of the configuration's" \
	}
#define KEY_OPTION(whose)              \
	{                              \
		"--key", "FILE", whose \
	}
#define PASSPHRASE_OPTION                                                         \
	{                                                                         \
		"--passphrase-file", "F", "the key's passphrase: first line of F" \
	}
#define REASON_OPTION                                   \
	{                                               \
		"--reason", "TEXT", "for the audit log" \
	}

/* An option of one name takes a value in every command, or in none: args.c relies on it. */
static const struct ctl_command commands[] = {
    {"submit", "SOURCE", 1, 1, "start a job: hf:org/name[@rev]",
	{{"--profile", "P", "how it is quantized and tested; default: \"default\""},
	    {"--wait", NULL, "until the job has ended, or waits for operators"}},
	ctl_submit},
    {"jobs", "", 0, 0, "jobs that are under way", {{"--all", NULL, "also those that have ended"}},
	ctl_jobs},
    {"job", "ID", 1, 1, "one job in full", {{NULL, NULL, NULL}}, ctl_job},
    {"watch", "[ID]", 0, 1, "follow a job, or all that are under way, until they have ended",
	{{"--until", "STATE", "stop when the job has reached STATE"}}, ctl_watch},
    {"approve", "ID", 1, 1, "check a candidate's evidence, show it and sign it",
	{KEY_OPTION("your operator key"), PASSPHRASE_OPTION, {"--yes", NULL, "do not ask"}},
	ctl_approve},
    {"reject", "ID", 1, 1, "refuse a candidate", {REASON_OPTION}, ctl_reject},
    {"cancel", "ID", 1, 1, "end a job", {REASON_OPTION}, ctl_cancel},
    {"retry", "ID", 1, 1, "try the failed step of a job again", {REASON_OPTION}, ctl_retry},
    {"log show", "[ID]", 0, 1, "the audit log, or one job's entries", {{NULL, NULL, NULL}},
	ctl_log_show},
    {"log verify", "[DIR]", 0, 1, "recompute the whole log, or one that was exported to DIR",
	{TRUST_OPTION}, ctl_log_verify},
    {"log export", "DIR", 1, 1, "verify the log and write it as tlog-tiles", {TRUST_OPTION},
	ctl_log_export},
    {"log checkpoint", "", 0, 0, "the newest signed checkpoint", {TRUST_OPTION},
	ctl_log_checkpoint},
    {"log prove", "SEQ", 1, 1, "proof that entry SEQ is in the log", {TRUST_OPTION}, ctl_log_prove},
    {"models", "", 0, 0, "what is registered, from the registry's signed snapshot",
	{TRUST_OPTION, {"--all", NULL, "also what was revoked"}}, ctl_models},
    {"model", "NAME[@V]", 1, 1, "one registered model", {TRUST_OPTION}, ctl_model},
    {"chain", "NAME[@V]", 1, 1, "chain of custody of a registered model", {TRUST_OPTION},
	ctl_chain},
    {"pull", "NAME[@V] DIR", 2, 2, "verified files of a registered model into DIR",
	{TRUST_OPTION, {"--layout", "L", "plain (default), or hf: a cache for HF_HUB_CACHE"}},
	ctl_pull},
    {"verify", "DIR", 1, 1, "the release and every file of a pulled model", {TRUST_OPTION},
	ctl_verify},
    {"key new", "ROLE", 1, 1, "draw a key",
	{{"--name", "NAME", "whose it is: fetcherd@bastion, anna"},
	    {"--out", "FILE", "default: ROLE.key; the public half goes to FILE.pub"},
	    PASSPHRASE_OPTION},
	ctl_key_new},
    {"key show", "FILE", 1, 1, "role, name and fingerprint of a key file", {PASSPHRASE_OPTION},
	ctl_key_show},
    {"trust new", "", 0, 0, "write a trust document, to be signed",
	{{"--version", "N", "one more than the version in force"},
	    {"--expires", "TIME", "2027-01-31, or RFC 3339 in UTC"},
	    {"--threshold", "ROLE=K", "signatures needed of that role (repeat)"},
	    {"--key", "PUBFILE", "a key of the role it was made for (repeat)"},
	    {"--worker", "SERVICE:UID:PUBFILE", "a bus key; UID -1: any (repeat)"},
	    {"--out", "FILE", "default: trust.payload"}},
	ctl_trust_new},
    {"trust sign", "FILE", 1, 1, "sign a trust document, or add a signature to a signed one",
	{KEY_OPTION("a root key"), {"--out", "ENVELOPE", "default: trust.json"}, PASSPHRASE_OPTION},
	ctl_trust_sign},
    {"trust init", "ENVELOPE", 1, 1, "pin version 1 as this side's root of trust",
	{{"--fingerprint", "HEX", "of its payload, as it came to you out of band"}, TRUST_OPTION},
	ctl_trust_init},
    {"trust update", "ENVELOPE", 1, 1, "take over the next version", {TRUST_OPTION},
	ctl_trust_update},
    {"trust show", "[FILE]", 0, 1, "the document in force, or one that is not yet", {TRUST_OPTION},
	ctl_trust_show},
    {NULL, NULL, 0, 0, NULL, {{NULL, NULL, NULL}}, NULL},
};

static void
help_all(void)
{
	struct ctl_out_table table = {0};
	const struct ctl_command *c;
	char *call;

	puts("usage: sallyctl [--json] [-c FILE] [--root DIR] COMMAND …\n");
	for (c = commands; c->name != NULL; c++) {
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
	json_t *document;

	fflush(stdout);
	if (ctl->json) {
		document = json_pack(
		    "{s:{s:s, s:s}}", "error", "code", sp_err_word(err->code), "message", clean);
		ctl_out_json(document);
	}
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

	code = ctl_args_parse(commands, argc, argv, &args, &err);
	ctl.json = args.json;
	ctl.root = args.root != NULL ? args.root : root != NULL ? root : "";
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
