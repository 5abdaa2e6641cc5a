/* main.c -- ledgerd: command line, configuration, the loop. */
#include "base/file.h"
#include "base/log.h"
#include "base/notify.h"
#include "base/program.h"
#include "bus/pulse.h"
#include "ledgerd.h"
#include "profile.h"

#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ORIGIN_MAX 200 /* bytes: it is a key's name in signed notes, whose limit is 255 */

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
	code = sp_hub_check(conf, err);
	return code != SP_OK ? code
			     : ledgerd_profile_check_all(sp_conf_string(conf, "profiles.dir"), err);
}

/* --- running ---------------------------------------------------------------------------------- */

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
	/* libzmq (4.3.4, ipc_listener.cpp) aborts when a worker or operator connects and no file is
	 * left; strangers at bus.tcp take one each until their handshake's time is over */
	sp_file_raise_limit();
	/* the log's key is in this memory */
	sp_program_undumpable();
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
	struct sp_options options;
	struct sp_conf *conf = NULL;
	struct sp_err err;
	enum sp_code code;
	int status;

	status = sp_program_options(argc, argv, LEDGERD_SERVICE,
	    "keeps the jobs and the audit log of a host, and the bus that its workers are on", 0,
	    &options);
	if (status >= 0)
		return status;
	sp_notify_init();
	sp_log_init(LEDGERD_SERVICE, options.verbose);
	SP_ASSERT(sodium_init() >= 0);
	code = sp_conf_load(options.conf_file, options.root, sp_conf_keys, &conf, &err);
	if (code == SP_OK) {
		code = check_conf(conf, &err);
		if (code != SP_OK && strstr(err.msg, ".conf") == NULL)
			sp_err_prefix(&err, "%s", options.conf_file);
	}
	if (code != SP_OK) {
		sp_log_error(NULL, "%s", err.msg);
		status = 1;
	} else if (options.check) {
		printf("%s: the configuration of ledgerd and its profiles are in order\n",
		    options.conf_file);
		status = 0;
	} else {
		status = serve(conf);
	}
	sp_conf_free(&conf);
	sp_program_options_free(&options);
	return status;
}
