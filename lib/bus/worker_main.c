/* worker_main.c -- the command line that the seven worker daemons share. */
#include "base/log.h"
#include "base/notify.h"
#include "base/path.h"
#include "base/version.h"
#include "bus/worker_int.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#define CONF_FILE "/etc/sallyport/sallyport.conf"

enum { OPT_ROOT = 256, OPT_HELP, OPT_VERSION, OPT_CHILD, OPT_PARENT };

static const struct option long_options[] = {
    {"root", required_argument, NULL, OPT_ROOT},
    {"help", no_argument, NULL, OPT_HELP},
    {"version", no_argument, NULL, OPT_VERSION},
    /* not for people: how the daemon starts its own children */
    {"child", required_argument, NULL, OPT_CHILD},
    {"parent", required_argument, NULL, OPT_PARENT},
    {NULL, 0, NULL, 0},
};

static void
print_help(const struct sp_worker_spec *spec, FILE *to)
{
	fprintf(to,
	    "usage: %s [-nvf] [-c FILE] [--root DIR]\n"
	    "%s\n\n"
	    "  -c FILE       configuration; default %s\n"
	    "  -n            check the configuration and exit\n"
	    "  -v            log more\n"
	    "  -f            stay in the foreground (always so; accepted for scripts)\n"
	    "  --root DIR    put DIR in front of every path (also: SALLYPORT_ROOT)\n"
	    "  --help, --version\n",
	    spec->service, spec->summary, CONF_FILE);
}

/* -1: go on; else the exit status. */
static int
parse_options(int argc, char **argv, const struct sp_worker_spec *spec, struct sp_options *options)
{
	int c;

	while ((c = getopt_long(argc, argv, "c:nvf", long_options, NULL)) != -1) {
		switch (c) {
		case 'c':
			options->conf_file = optarg;
			break;
		case 'n':
			options->check = 1;
			break;
		case 'v':
			options->verbose = 1;
			break;
		case 'f':
			break;
		case OPT_ROOT:
			options->root = optarg;
			break;
		case OPT_CHILD:
			options->child = optarg;
			break;
		case OPT_PARENT:
			options->parent = atoi(optarg);
			break;
		case OPT_HELP:
			print_help(spec, stdout);
			return 0;
		case OPT_VERSION:
			printf("%s (Sallyport) %s\n", spec->service, SP_VERSION);
			return 0;
		default:
			print_help(spec, stderr);
			return 2;
		}
	}
	if (optind == argc)
		return -1;
	fprintf(stderr, "%s: unexpected argument \"%s\"\n", spec->service, argv[optind]);
	print_help(spec, stderr);
	return 2;
}

void
sp_worker_undumpable(void)
{
	struct rlimit none = {0, 0};

	SP_ASSERT(setrlimit(RLIMIT_CORE, &none) == 0);
	/* the leak detector of sanitizer builds attaches to its own process */
#ifndef __SANITIZE_ADDRESS__
	SP_ASSERT(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0);
#endif
}

static void
check_spec(const struct sp_worker_spec *spec)
{
	size_t i;

	SP_ASSERT(sp_bus_is_word(spec->service));
	SP_ASSERT(spec->step_count <= SP_BUS_STEPS_MAX && spec->slots <= SP_WORKER_SLOTS_MAX);
	for (i = 0; i < spec->step_count; i++)
		SP_ASSERT(sp_bus_is_word(spec->steps[i].name) &&
			  (spec->steps[i].work != NULL || spec->steps[i].seal != NULL));
	for (i = 0; i < spec->helper_count; i++)
		SP_ASSERT(spec->helpers[i].run != NULL);
}

/* What every daemon needs of the configuration, then what this one does. */
static enum sp_code
check_conf(const struct sp_worker_spec *spec, const struct sp_conf *conf, struct sp_err *err)
{
	enum sp_code code = SP_OK;

	/* without a bus there is nothing that depends on the side */
	if (spec->standalone == NULL || !spec->standalone(conf)) {
		code = sp_conf_require(conf, "side", err);
		if (code == SP_OK && strcmp(sp_conf_string(conf, "side"), "bastion") != 0 &&
		    strcmp(sp_conf_string(conf, "side"), "enclave") != 0)
			code = sp_err_set(err, SP_E_CONFIG,
			    "side is \"%s\": it must be \"bastion\" or \"enclave\"",
			    sp_conf_string(conf, "side"));
	}
	if (code == SP_OK && spec->check != NULL)
		code = spec->check(conf, err);
	return code;
}

static int
run(const struct sp_worker_spec *spec, const struct sp_options *options)
{
	struct sp_conf *conf = NULL;
	struct sp_err err;
	enum sp_code code;
	int status = 0;

	code = sp_conf_load(options->conf_file, options->root, sp_conf_keys, &conf, &err);
	if (code == SP_OK) {
		code = check_conf(spec, conf, &err);
		if (code != SP_OK)
			sp_err_prefix(&err, "%s", options->conf_file);
	}
	if (code != SP_OK) {
		sp_log_error(NULL, "%s", err.msg);
		status = 1;
	} else if (options->check)
		printf(
		    "%s: the configuration of %s is in order\n", options->conf_file, spec->service);
	else if (options->child != NULL)
		status = sp_child_main(spec, conf, options->child);
	else
		status = sp_worker_run(spec, options, conf);
	sp_conf_free(&conf);
	return status;
}

int
sp_worker_main(int argc, char **argv, const struct sp_worker_spec *spec)
{
	struct sp_options options = {0};
	const char *root = getenv("SALLYPORT_ROOT");
	char *file = NULL;
	int status;

	check_spec(spec);
	sp_notify_init();
	options.root = root != NULL ? root : "";
	status = parse_options(argc, argv, spec, &options);
	if (status >= 0)
		return status;
	sp_log_init(spec->service, options.verbose);
	if (options.conf_file == NULL)
		options.conf_file = file = sp_path_join(options.root, CONF_FILE);
	if (options.child != NULL)
		sp_child_harden(options.parent);
	else if (!options.check) {
		/* pipes and sockets whose other end is gone are errors of write(2), not an end */
		SP_ASSERT(signal(SIGPIPE, SIG_IGN) != SIG_ERR);
		SP_ASSERT(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
		sp_worker_undumpable();
	}
	status = run(spec, &options);
	free(file);
	return status;
}
