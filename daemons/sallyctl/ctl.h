/* ctl.h -- what the commands of sallyctl share. */
#ifndef CTL_H
#define CTL_H

#include "args.h"
#include "base/conf.h"
#include "client.h"
#include "out.h"
#include "release/trust.h"

#define CTL_EXIT_OK 0
#define CTL_EXIT_FAILED 1
#define CTL_EXIT_USAGE 2
#define CTL_EXIT_DENIED 3 /* blocked or denied */
#define CTL_EXIT_UNREACHABLE 4

struct ctl {
	const struct ctl_args *args;
	const char *root; /* "" or a directory, from --root or SALLYPORT_ROOT */
	int json;
	int usage; /* the error is about the command line */
	int told;  /* the document that was printed says the error too */
	struct sp_conf *conf;
	struct ctl_client *client;
};

int ctl_exit_status(enum sp_code code, int usage);
/* {"code": …, "message": …}; new reference */
json_t *ctl_error_json(const struct sp_err *err);

/* SP_E_INVALID that ends with the exit status of a wrong command line. */
enum sp_code ctl_usage(struct ctl *ctl, struct sp_err *err, const char *fmt, ...) SP_PRINTF(3, 4);

/* The configuration, read once; borrowed. */
enum sp_code ctl_conf(struct ctl *ctl, const struct sp_conf **out, struct sp_err *err) SP_MUST_USE;
/* --trust DIR, else trust.dir of the configuration; malloc'd. */
enum sp_code ctl_trust_dir(struct ctl *ctl, char **out, struct sp_err *err) SP_MUST_USE;
/* The trust document in force there, verified. Free with sp_trust_free. */
enum sp_code ctl_trust(struct ctl *ctl, struct sp_trust **out, struct sp_err *err) SP_MUST_USE;
/* Asks ledgerd, which is connected to when needed. The reply's body must be `want`. */
enum sp_code ctl_ask(struct ctl *ctl, Sallyport__OperatorRequest *request, int wait_ms,
    Sallyport__OperatorReply__BodyCase want, Sallyport__OperatorReply **reply,
    struct sp_err *err) SP_MUST_USE;

/* "y" or "yes" on the terminal; SP_E_CANCELLED for anything else, a usage error without a terminal
 * unless --yes was given. */
enum sp_code ctl_confirm(struct ctl *ctl, const char *question, struct sp_err *err) SP_MUST_USE;

/* The passphrase for the key file at path: from --passphrase-file, else asked on the terminal when
 * the key is sealed, else NULL. Free with ctl_passphrase_free. */
enum sp_code
ctl_passphrase(struct ctl *ctl, const char *key_path, char **out, struct sp_err *err) SP_MUST_USE;
/* --passphrase-file alone; NULL when it was not given. */
enum sp_code ctl_passphrase_file(struct ctl *ctl, char **out, struct sp_err *err) SP_MUST_USE;
void ctl_passphrase_free(char *passphrase);

/* NAME or NAME@V; version 0: the newest. */
enum sp_code ctl_model_name(struct ctl *ctl, const char *text, char name[SP_NAME_MAX + 1],
    int64_t *version, struct sp_err *err) SP_MUST_USE;

/* help.c: on stdout; command NULL: all of them. */
void ctl_help(const struct ctl_command *command, int json);
void ctl_help_version(int json);

/* All of them; the last has no name. */
extern const struct ctl_command ctl_commands[];

/* --- the commands, by file ------------------------------------------------------------------ */
ctl_run_fn ctl_submit, ctl_jobs, ctl_job, ctl_reject, ctl_cancel, ctl_retry; /* jobs.c */
ctl_run_fn ctl_watch;							     /* watch.c */
ctl_run_fn ctl_approve;							     /* approve.c */
ctl_run_fn ctl_log_show, ctl_log_verify, ctl_log_export, ctl_log_checkpoint,
    ctl_log_prove;		      /* log.c */
ctl_run_fn ctl_models, ctl_model;     /* models.c */
ctl_run_fn ctl_chain;		      /* chain.c */
ctl_run_fn ctl_pull, ctl_verify;      /* pull.c */
ctl_run_fn ctl_fetched;		      /* fetched.c */
ctl_run_fn ctl_quantize;	      /* quantize.c */
ctl_run_fn ctl_reproduce;	      /* reproduce.c */
ctl_run_fn ctl_key_new, ctl_key_show; /* keys.c */
ctl_run_fn ctl_trust_new, ctl_trust_sign, ctl_trust_init, ctl_trust_update,
    ctl_trust_show;	   /* trust.c */
ctl_run_fn ctl_gc;	   /* gc.c */
ctl_run_fn ctl_doctor;	   /* doctor.c */
ctl_run_fn ctl_completion; /* completion.c */

#endif
