/* conf.h -- configuration files (libconfig) read against a table of known keys. */
#ifndef SP_CONF_H
#define SP_CONF_H

#include "base/err.h"

#include <stdint.h>

enum sp_conf_type { SP_CONF_STRING, SP_CONF_INT, SP_CONF_BOOL, SP_CONF_REAL, SP_CONF_STRINGS };

/* key: dotted, "fetcherd.endpoint". A segment "*" stands for any group name. fallback: text of the
 * default, NULL when there is none (then sp_conf_* of a missing key returns NULL / is an error at
 * sp_conf_require). min/max bound SP_CONF_INT and SP_CONF_REAL. The fallback of SP_CONF_STRINGS is
 * a comma-separated list. Asking for a key that no table entry names, or with the function of
 * another type, is a programmer error. */
struct sp_conf_key {
	const char *key;
	enum sp_conf_type type;
	const char *fallback;
	double min, max;
	const char *help;
};

struct sp_conf;

/* Reads file against keys (NULL-key terminated). Errors name file, line, key, what is allowed, and
 * for an unknown key the closest known one. root: put in front of values and defaults that are
 * paths ("/…" in keys whose help starts with "path"). @include is refused. */
enum sp_code sp_conf_load(const char *file, const char *root, const struct sp_conf_key *keys,
    struct sp_conf **out, struct sp_err *err) SP_MUST_USE;
void sp_conf_free(struct sp_conf **conf);
/* The root it was loaded with, "" when there is none: for paths that come from elsewhere
 * (profiles). */
const char *sp_conf_root(const struct sp_conf *conf);

/* Borrowed; NULL when neither file nor table gives a value. */
const char *sp_conf_string(const struct sp_conf *conf, const char *key);
int64_t sp_conf_int(const struct sp_conf *conf, const char *key);
int sp_conf_bool(const struct sp_conf *conf, const char *key);
double sp_conf_real(const struct sp_conf *conf, const char *key);
/* i-th element of a SP_CONF_STRINGS key, NULL past the end. */
const char *sp_conf_strings(const struct sp_conf *conf, const char *key, size_t i);
/* Names of the groups that the file has under prefix ("registryd.local"), in its order, borrowed.
 * Writes at most max and returns how many there are. */
size_t
sp_conf_groups(const struct sp_conf *conf, const char *prefix, const char **names, size_t max);
/* 1 when the file itself sets key (not the default). */
int sp_conf_is_set(const struct sp_conf *conf, const char *key);
/* SP_E_CONFIG naming file and key when key has no value. */
enum sp_code
sp_conf_require(const struct sp_conf *conf, const char *key, struct sp_err *err) SP_MUST_USE;

/* The keys of sallyport.conf, for every daemon: one table, so that any -n checks the whole file. */
extern const struct sp_conf_key sp_conf_keys[];

#endif
