/* program.h -- a program's command line, its memory, and its name. */
#ifndef SP_PROGRAM_H
#define SP_PROGRAM_H

#include "base/hash.h"

/* What every daemon is told: -c FILE, -n, -v, -f, --root DIR (or SALLYPORT_ROOT). */
struct sp_options {
	char *conf_file;   /* as given, or where it lies by default; malloc'd */
	const char *root;  /* "" or a directory */
	const char *child; /* "step:NAME", "helper:NAME" or NULL */
	const char *key;   /* file of the one key that this child needs, or NULL */
	int parent;	   /* its process id */
	int check, verbose;
};

/* Reads them; --help and --version are answered. summary: lines of --help after the usage.
 * children: whether --child, --key and --parent are known, by which a daemon starts its own. -1: go
 * on, with out to be freed; else the exit status. */
int sp_program_options(int argc, char **argv, const char *name, const char *summary, int children,
    struct sp_options *out);
void sp_program_options_free(struct sp_options *options);

/* No core dumps, no debugger, no look at our memory from outside: it holds keys, or what must not
 * be tampered with. */
void sp_program_undumpable(void);

/* SHA-256 of a program's file. */
enum sp_code
sp_program_digest(const char *path, struct sp_hex *out, struct sp_err *err) SP_MUST_USE;

/* "VERSION+DIGEST", 16 digits of the digest of the program that runs: two builds of one version are
 * two programs. It is part of the name of what is kept for later. malloc'd. */
enum sp_code sp_program_name(char **out, struct sp_err *err) SP_MUST_USE;

#endif
