/* worker_main.c -- the command line that the seven worker daemons share. */
#include "base/log.h"
#include "base/notify.h"
#include "bus/worker_int.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

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
	if (code == SP_OK)
		code = sp_bus_check(conf, err);
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
		status = sp_child_main(spec, conf, options->child, options->key);
	else
		status = sp_worker_run(spec, options, conf);
	sp_conf_free(&conf);
	return status;
}

int
sp_worker_main(int argc, char **argv, const struct sp_worker_spec *spec)
{
	struct sp_options options;
	int status;

	check_spec(spec);
	sp_notify_init();
	status = sp_program_options(argc, argv, spec->service, spec->summary, 1, &options);
	if (status >= 0)
		return status;
	sp_log_init(spec->service, options.verbose);
	if (options.child != NULL)
		sp_child_harden(options.parent);
	else if (!options.check) {
		/* pipes and sockets whose other end is gone are errors of write(2), not an end */
		SP_ASSERT(signal(SIGPIPE, SIG_IGN) != SIG_ERR);
		SP_ASSERT(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
		sp_program_undumpable();
	}
	status = run(spec, &options);
	sp_program_options_free(&options);
	return status;
}
