/* paths.c -- where a daemon's things lie. */
#include "bus/paths.h"

#include <stdlib.h>
#include <unistd.h>

/* The table gives each of these keys a default, so a missing value is a mistake in the program. */
static const char *
dir_of(const struct sp_conf *conf, const char *key)
{
	const char *dir = sp_conf_string(conf, key);

	SP_ASSERT(dir != NULL);
	return dir;
}

char *
sp_paths_store(const struct sp_conf *conf, const char *service)
{
	return sp_xasprintf("%s/%s", dir_of(conf, "store.dir"), service);
}

char *
sp_paths_state(const struct sp_conf *conf, const char *service)
{
	return sp_xasprintf("%s/%s", dir_of(conf, "state.dir"), service);
}

char *
sp_paths_key(const struct sp_conf *conf, const char *service, const char *name)
{
	const char *credentials = getenv("CREDENTIALS_DIRECTORY");
	char *path = NULL;

	if (credentials != NULL) {
		path = sp_xasprintf("%s/%s.key", credentials, name);
		if (access(path, F_OK) == 0)
			return path;
		free(path);
	}
	return sp_xasprintf("%s/%s/%s.key", dir_of(conf, "keys.dir"), service, name);
}

char *
sp_paths_trust(const struct sp_conf *conf)
{
	return sp_xstrdup(dir_of(conf, "trust.dir"));
}
