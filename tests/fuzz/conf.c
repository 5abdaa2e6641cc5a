/* conf.c -- sallyport.conf, read against the tables of all daemons. */
#include "base/conf.h"
#include "fuzz.h"

#include <unistd.h>

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char path[FUZZ_PATH_MAX];
	struct sp_conf *conf = NULL;
	const char *names[4];
	struct sp_err err;
	int fd = fuzz_file(data, len, path);

	if (sp_conf_load(path, "/root", sp_conf_keys, &conf, &err) != SP_OK)
		SP_ASSERT(conf == NULL && err.msg[0] != '\0');
	else
		sp_conf_groups(conf, "registryd.local", names, 4);
	sp_conf_free(&conf);
	close(fd);
	return 0;
}
