/* paths.h -- where a daemon's things lie, from the configuration; all malloc'd. */
#ifndef SP_PATHS_H
#define SP_PATHS_H

#include "base/conf.h"

char *sp_paths_store(const struct sp_conf *conf, const char *service); /* STORE/SERVICE */
char *sp_paths_state(const struct sp_conf *conf, const char *service); /* STATE/SERVICE */
/* The systemd credential NAME.key where there is one ($CREDENTIALS_DIRECTORY: the service manager
 * has read it for a daemon that could not, systemd.exec(5)), else KEYS/SERVICE/NAME.key, e.g.
 * "fetcherd", "fetch". Children are not told of the credentials. */
char *sp_paths_key(const struct sp_conf *conf, const char *service, const char *name);
char *sp_paths_trust(const struct sp_conf *conf); /* the trust directory (release/trust.h) */

#endif
