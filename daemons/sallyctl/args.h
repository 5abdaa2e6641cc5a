/* args.h -- command lines against a table of commands. Pure. */
#ifndef CTL_ARGS_H
#define CTL_ARGS_H

#include "base/err.h"

#define CTL_WORDS_MAX 8	   /* positional arguments of a command */
#define CTL_GIVEN_MAX 1024 /* options on one command line */
#define CTL_OPTIONS_MAX 16 /* that a command has of its own */

struct ctl_option {
	const char *name;  /* "--profile" */
	const char *value; /* "P"; NULL: a flag */
	const char *help;
};

extern const struct ctl_option ctl_globals[]; /* of every command; the last has no name */

struct ctl;
struct ctl_args;
typedef enum sp_code ctl_run_fn(struct ctl *ctl, const struct ctl_args *args, struct sp_err *err);

struct ctl_command {
	const char *name;  /* "submit", "log show" */
	const char *words; /* "NAME[@V] DIR": how the positional arguments are called */
	unsigned min, max; /* how many of them */
	const char *summary;
	struct ctl_option options[CTL_OPTIONS_MAX];
	ctl_run_fn *run;
};

struct ctl_given {
	const struct ctl_option *option;
	const char *value; /* "" for a flag */
};

struct ctl_args {
	const struct ctl_command *command; /* NULL: none was named */
	const char *words[CTL_WORDS_MAX];
	unsigned count;
	struct ctl_given given[CTL_GIVEN_MAX];
	unsigned given_count;
	int json, help, version;
	const char *conf, *root; /* NULL: not given */
};

/* Options may stand anywhere, "--name=V" is "--name V", "--" ends them. commands ends with a NULL
 * name. SP_E_INVALID: what is wrong with the line; command may be set then, and json is right. */
enum sp_code ctl_args_parse(const struct ctl_command *commands, int argc, char *const *argv,
    struct ctl_args *out, struct sp_err *err) SP_MUST_USE;

/* Value of the last such option, NULL when it was not given. */
const char *ctl_args_get(const struct ctl_args *args, const char *name);
/* Of the i-th, from 0; NULL past the last. */
const char *ctl_args_nth(const struct ctl_args *args, const char *name, unsigned i);

/* The command whose name is closest to what was typed, NULL when none is close. */
const struct ctl_command *ctl_args_closest(const struct ctl_command *commands, const char *typed);

#endif
