/* program.c -- a program's command line, its memory, and its name. */
#include "base/program.h"
#include "base/file.h"
#include "base/path.h"
#include "base/version.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#define CONF_FILE "/etc/sallyport/sallyport.conf"

enum { OPT_ROOT = 256, OPT_HELP, OPT_VERSION, OPT_CHILD, OPT_KEY, OPT_PARENT };

/* The last three are not for people. */
static const struct option long_options[] = {
    {"root", required_argument, NULL, OPT_ROOT},
    {"help", no_argument, NULL, OPT_HELP},
    {"version", no_argument, NULL, OPT_VERSION},
    {"child", required_argument, NULL, OPT_CHILD},
    {"key", required_argument, NULL, OPT_KEY},
    {"parent", required_argument, NULL, OPT_PARENT},
    {NULL, 0, NULL, 0},
};

static void
print_help(const char *name, const char *summary, FILE *to)
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
	    name, summary, CONF_FILE);
}

/* 1 when it is taken. */
static int
take_option(int c, int children, struct sp_options *out)
{
	switch (c) {
	case 'c':
		free(out->conf_file);
		out->conf_file = sp_xstrdup(optarg);
		return 1;
	case 'n':
		out->check = 1;
		return 1;
	case 'v':
		out->verbose = 1;
		return 1;
	case 'f':
		return 1;
	case OPT_ROOT:
		out->root = optarg;
		return 1;
	case OPT_CHILD:
		out->child = optarg;
		return children;
	case OPT_KEY:
		out->key = optarg;
		return children;
	case OPT_PARENT:
		out->parent = (int)strtol(optarg, NULL, 10);
		return children;
	default:
		return 0;
	}
}

int
sp_program_options(int argc, char **argv, const char *name, const char *summary, int children,
    struct sp_options *out)
{
	const char *root = getenv("SALLYPORT_ROOT");
	int c, status = -1;

	memset(out, 0, sizeof(*out));
	out->root = root != NULL ? root : "";
	while (status < 0 && (c = getopt_long(argc, argv, "c:nvf", long_options, NULL)) != -1) {
		if (c == OPT_HELP) {
			print_help(name, summary, stdout);
			status = 0;
		} else if (c == OPT_VERSION) {
			printf("%s (Sallyport) %s\n", name, SP_VERSION);
			status = 0;
		} else if (!take_option(c, children, out)) {
			print_help(name, summary, stderr);
			status = 2;
		}
	}
	if (status < 0 && optind < argc) {
		fprintf(stderr, "%s: unexpected argument \"%s\"\n", name, argv[optind]);
		print_help(name, summary, stderr);
		status = 2;
	}
	if (status >= 0)
		sp_program_options_free(out);
	else if (out->conf_file == NULL)
		out->conf_file = sp_path_join(out->root, CONF_FILE);
	return status;
}

void
sp_program_options_free(struct sp_options *options)
{
	free(options->conf_file);
	options->conf_file = NULL;
}

void
sp_program_undumpable(void)
{
	const struct rlimit none = {0, 0};

	SP_ASSERT(setrlimit(RLIMIT_CORE, &none) == 0);
	/* the leak detector of sanitizer builds attaches to its own process */
#ifndef __SANITIZE_ADDRESS__
	SP_ASSERT(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0);
#endif
}

enum sp_code
sp_program_digest(const char *path, struct sp_hex *out, struct sp_err *err)
{
	struct sp_map map;
	enum sp_code code = sp_map_open(&map, path, err);

	if (code != SP_OK)
		return code;
	*out = sp_sha256_hex(map.data, map.len);
	sp_map_close(&map);
	return SP_OK;
}

enum sp_code
sp_program_name(char **out, struct sp_err *err)
{
	struct sp_hex digest;
	enum sp_code code = sp_program_digest("/proc/self/exe", &digest, err);

	if (code == SP_OK)
		*out = sp_xasprintf(SP_VERSION "+%.16s", digest.s);
	return code;
}
