/* main.c -- ledgerd: command line, configuration, the loop. */
#include "base/log.h"
#include "base/notify.h"
#include "base/path.h"
#include "base/version.h"
#include "bus/pulse.h"
#include "ledgerd.h"
#include "profile.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#define CONF_FILE "/etc/sallyport/sallyport.conf"
#define ORIGIN_MAX 200 /* bytes: it is a key's name in signed notes, whose limit is 255 */

enum { OPT_ROOT = 256, OPT_HELP, OPT_VERSION };

struct options {
	const char *conf_file, *root;
	int check, verbose;
};

static void
print_help(FILE *to)
{
	fprintf(to,
	    "usage: ledgerd [-nvf] [-c FILE] [--root DIR]\n"
	    "keeps the jobs and the audit log of a host, and the bus that its workers are on\n\n"
	    "  -c FILE       configuration; default %s\n"
	    "  -n            check configuration and profiles and exit\n"
	    "  -v            log more\n"
	    "  -f            stay in the foreground (always so; accepted for scripts)\n"
	    "  --root DIR    put DIR in front of every path (also: SALLYPORT_ROOT)\n"
	    "  --help, --version\n",
	    CONF_FILE);
}

/* -1: go on; else the exit status. */
static int
parse_options(int argc, char **argv, struct options *options)
{
	static const struct option long_options[] = {
	    {"root", required_argument, NULL, OPT_ROOT},
	    {"help", no_argument, NULL, OPT_HELP},
	    {"version", no_argument, NULL, OPT_VERSION},
	    {NULL, 0, NULL, 0},
	};
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
		case OPT_HELP:
			print_help(stdout);
			return 0;
		case OPT_VERSION:
			printf("ledgerd (Sallyport) %s\n", SP_VERSION);
			return 0;
		default:
			print_help(stderr);
			return 2;
		}
	}
	if (optind == argc)
		return -1;
	fprintf(stderr, "ledgerd: unexpected argument \"%s\"\n", argv[optind]);
	print_help(stderr);
	return 2;
}

/* --- configuration ---------------------------------------------------------------------------- */

/* sallyport/SIDE/HOST; malloc'd */
static enum sp_code
make_origin(const struct sp_conf *conf, char **out, struct sp_err *err)
{
	const char *side = sp_conf_string(conf, "side"), *host = sp_conf_string(conf, "host");
	char name[256] = "";

	if (host == NULL && gethostname(name, sizeof(name) - 1) != 0)
		return sp_err_errno(err, "host is not set, and the machine has no name");
	if (host == NULL)
		host = name;
	if (host[0] == '\0' || strlen(host) > ORIGIN_MAX ||
	    strspn(host, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_") !=
		strlen(host))
		return sp_err_set(err, SP_E_CONFIG,
		    "host is \"%.64s\": it must be 1 to %d of A-Z a-z 0-9 . _ -", host, ORIGIN_MAX);
	*out = sp_xasprintf("sallyport/%s/%s", side, host);
	return SP_OK;
}

static enum sp_code
check_conf(const struct sp_conf *conf, struct sp_err *err)
{
	const char *side;
	enum sp_code code;

	code = sp_conf_require(conf, "side", err);
	if (code != SP_OK)
		return code;
	side = sp_conf_string(conf, "side");
	if (strcmp(side, "bastion") != 0 && strcmp(side, "enclave") != 0)
		return sp_err_set(err, SP_E_CONFIG,
		    "side is \"%s\": it must be \"bastion\" or \"enclave\"", side);
	if (sp_conf_int(conf, "ledgerd.lease_ms") < 2 * sp_conf_int(conf, "ledgerd.heartbeat_ms"))
		return sp_err_set(err, SP_E_CONFIG,
		    "ledgerd.lease_ms is %lld: it must be at least twice ledgerd.heartbeat_ms "
		    "(%lld), or one late heartbeat loses a lease",
		    (long long)sp_conf_int(conf, "ledgerd.lease_ms"),
		    (long long)sp_conf_int(conf, "ledgerd.heartbeat_ms"));
	return ledgerd_profile_check_all(sp_conf_string(conf, "profiles.dir"), err);
}

/* --- running ---------------------------------------------------------------------------------- */

/* The log's key is in this memory: no core files, no debuggers of the same user. */
static void
protect(void)
{
	struct rlimit none = {0, 0};

	SP_ASSERT(setrlimit(RLIMIT_CORE, &none) == 0);
	/* the leak detector of sanitizer builds attaches to its own process */
#ifndef __SANITIZE_ADDRESS__
	SP_ASSERT(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0);
#endif
}

static void
on_signal(uv_signal_t *handle, int number)
{
	sp_log_info(NULL, "signal %d: stopping", number);
	sp_notify("STOPPING=1", NULL);
	uv_stop(handle->loop);
}

static void
watch_signals(struct ledgerd *l)
{
	uv_signal_init(l->loop, &l->on_term);
	uv_signal_init(l->loop, &l->on_int);
	uv_signal_start(&l->on_term, on_signal, SIGTERM);
	uv_signal_start(&l->on_int, on_signal, SIGINT);
}

static int
serve(const struct sp_conf *conf)
{
	struct ledgerd *l = sp_xcalloc(1, sizeof(*l));
	uv_loop_t loop;
	uv_timer_t pulse;
	struct sp_err err;
	enum sp_code code;

	signal(SIGPIPE, SIG_IGN);
	/* a limit on file sizes then looks like a full disk, which is survived */
	signal(SIGXFSZ, SIG_IGN);
	protect();
	SP_ASSERT(uv_loop_init(&loop) == 0);
	l->loop = &loop;
	watch_signals(l);
	sp_pulse_start(&loop, &pulse);
	code = make_origin(conf, &l->origin, &err);
	if (code == SP_OK)
		code = ledgerd_open(l, conf, &loop, &err);
	if (code == SP_OK) {
		sp_log_info(NULL, "%s: log of %llu entries, %zu steps under way", l->origin,
		    (unsigned long long)sp_ledger_size(l->ledger), l->core.lives.count);
		sp_notify("READY=1", "%s: log of %llu entries, %zu steps under way", l->origin,
		    (unsigned long long)sp_ledger_size(l->ledger), l->core.lives.count);
		uv_run(&loop, UV_RUN_DEFAULT);
	} else {
		sp_log_error(NULL, "%s", err.msg);
	}
	uv_close((uv_handle_t *)&l->on_term, NULL);
	uv_close((uv_handle_t *)&l->on_int, NULL);
	uv_close((uv_handle_t *)&pulse, NULL);
	ledgerd_close(l);
	uv_run(&loop, UV_RUN_DEFAULT);
	SP_ASSERT(uv_loop_close(&loop) == 0);
	free(l);
	return code == SP_OK ? 0 : 1;
}

int
main(int argc, char **argv)
{
	struct options options = {.root = getenv("SALLYPORT_ROOT")};
	struct sp_conf *conf = NULL;
	char *conf_file;
	struct sp_err err;
	enum sp_code code;
	int status;

	status = parse_options(argc, argv, &options);
	if (status >= 0)
		return status;
	if (options.root == NULL)
		options.root = "";
	sp_notify_init();
	sp_log_init(LEDGERD_SERVICE, options.verbose);
	SP_ASSERT(sodium_init() >= 0);
	conf_file = options.conf_file != NULL ? sp_xstrdup(options.conf_file)
					      : sp_path_join(options.root, CONF_FILE);
	code = sp_conf_load(conf_file, options.root, sp_conf_keys, &conf, &err);
	if (code == SP_OK) {
		code = check_conf(conf, &err);
		if (code != SP_OK && strstr(err.msg, ".conf") == NULL)
			sp_err_prefix(&err, "%s", conf_file);
	}
	if (code != SP_OK) {
		sp_log_error(NULL, "%s", err.msg);
		status = 1;
	} else if (options.check) {
		printf(
		    "%s: the configuration of ledgerd and its profiles are in order\n", conf_file);
		status = 0;
	} else {
		status = serve(conf);
	}
	sp_conf_free(&conf);
	free(conf_file);
	return status;
}
