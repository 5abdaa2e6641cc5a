/* paths.h -- where a daemon's things lie, from the configuration; all malloc'd. */
#ifndef SP_PATHS_H
#define SP_PATHS_H

#include "base/conf.h"

char *sp_paths_store(const struct sp_conf *conf, const char *service); /* STORE/SERVICE */
char *sp_paths_state(const struct sp_conf *conf, const char *service); /* STATE/SERVICE */
/* KEYS/SERVICE/NAME.key, e.g. "fetcherd", "fetch" */
char *sp_paths_key(const struct sp_conf *conf, const char *service, const char *name);
char *sp_paths_trust(const struct sp_conf *conf); /* the trust directory (release/trust.h) */

#endif
