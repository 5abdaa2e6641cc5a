/* fetcherd_conf.c -- which hub, and as whom: from the configuration, the environment, credentials.
 */
#include "fetcherd.h"
#include "http/url.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#define TOKEN_MAX 4096

void
fetcherd_find_credential(void)
{
	const char *dir = getenv("CREDENTIALS_DIRECTORY");
	char *path;

	/* a child: what its parent has set stands */
	if (dir == NULL)
		return;
	path = sp_xasprintf("%s/hf-token", dir);
	if (access(path, F_OK) == 0)
		SP_ASSERT(setenv(FETCHERD_CREDENTIAL, path, 1) == 0);
	else
		SP_ASSERT(unsetenv(FETCHERD_CREDENTIAL) == 0);
	free(path);
}

char *
fetcherd_endpoint(const struct sp_conf *conf)
{
	const char *said = getenv("HF_ENDPOINT");
	char *endpoint;
	size_t len;

	if (sp_conf_is_set(conf, "fetcherd.endpoint") || said == NULL || said[0] == '\0')
		return sp_xstrdup(sp_conf_string(conf, "fetcherd.endpoint"));
	endpoint = sp_xstrdup(said);
	for (len = strlen(endpoint); len > 0 && endpoint[len - 1] == '/'; len--)
		endpoint[len - 1] = '\0';
	return endpoint;
}

/* Where the token lies, NULL when there is none. *name: what an operator calls the file. */
static const char *
find_token(const struct sp_conf *conf, const char **name)
{
	const char *path = sp_conf_string(conf, "fetcherd.token_file");

	*name = path != NULL ? "fetcherd.token_file" : "credential hf-token";
	return path != NULL ? path : getenv(FETCHERD_CREDENTIAL);
}

/* What the child reaches beside its store: the hub, with what proves who it and we are. */
enum sp_code
fetcherd_confine(const struct sp_conf *conf, const Sallyport__Task *task,
    struct sp_confine *confine, struct sp_err *err)
{
	const char *name;

	(void)task;
	(void)err;
	sp_confine_network(confine);
	sp_confine_unmapped(confine);
	sp_confine_read(confine, sp_conf_string(conf, "fetcherd.ca_file"));
	sp_confine_secret(confine, find_token(conf, &name));
	sp_confine_secret(confine, sp_conf_string(conf, "fetcherd.proxy_auth_file"));
	return SP_OK;
}

enum sp_code
fetcherd_check(const struct sp_conf *conf, struct sp_err *err)
{
	char *endpoint = fetcherd_endpoint(conf);
	size_t len = strlen(endpoint);
	enum sp_code code = SP_OK;
	const char *name;

	if (sp_url_origin_len(endpoint) == 0 || endpoint[len - 1] == '/' ||
	    strpbrk(endpoint, "?#") != NULL)
		code = sp_err_set(err, SP_E_CONFIG,
		    "%s is \"%s\": https://host[:port] is expected, without a '/' at its end",
		    sp_conf_is_set(conf, "fetcherd.endpoint") ? "fetcherd.endpoint"
							      : "HF_ENDPOINT of the environment",
		    endpoint);
	else if (find_token(conf, &name) != NULL && strncasecmp(endpoint, "https:", 6) != 0)
		code = sp_err_set(err, SP_E_CONFIG,
		    "%s is set, but fetcherd.endpoint is no https URL (it is %s): the token would "
		    "travel in clear",
		    name, endpoint);
	free(endpoint);
	return code == SP_OK ? fetcherd_net_check(conf, err) : code;
}

void
fetcherd_token_free(char **token)
{
	if (*token != NULL)
		explicit_bzero(*token, TOKEN_MAX);
	free(*token);
	*token = NULL;
}

/* As it is opened, so that nobody exchanges it between a look and the other: a regular file that
 * belongs to us or to root and that no stranger can read. */
static enum sp_code
check_token_file(int fd, const char *path, struct sp_err *err)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		return sp_err_errno(err, "cannot look at %s", path);
	if (!S_ISREG(st.st_mode))
		return sp_err_set(err, SP_E_CONFIG, "%s is no regular file", path);
	if (st.st_uid != 0 && st.st_uid != geteuid())
		return sp_err_set(err, SP_E_CONFIG,
		    "%s belongs to uid %u: chown it to fetcherd's user or to root", path,
		    st.st_uid);
	if ((st.st_mode & S_IRWXO) != 0)
		return sp_err_set(
		    err, SP_E_CONFIG, "%s can be read by everybody: chmod it to 0600", path);
	if (st.st_size > TOKEN_MAX)
		return sp_err_set(err, SP_E_CONFIG, "%s has more than %d bytes", path, TOKEN_MAX);
	return SP_OK;
}

enum sp_code
fetcherd_secret(const char *path, const char *what, char **token, struct sp_err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	char *data = NULL;
	enum sp_code code;
	ssize_t len = 0;

	if (fd < 0)
		return sp_err_errno(err, "cannot open %s", path);
	code = check_token_file(fd, path, err);
	if (code == SP_OK) {
		data = sp_xcalloc(1, TOKEN_MAX + 1);
		len = read(fd, data, TOKEN_MAX);
		if (len < 0)
			code = sp_err_errno(err, "cannot read %s", path);
	}
	close(fd);
	while (len > 0 && (data[len - 1] == '\n' || data[len - 1] == '\r'))
		data[--len] = '\0';
	for (ssize_t i = 0; i < len; i++)
		if (data[i] <= ' ' || data[i] >= 0x7f)
			len = 0;
	if (code == SP_OK && len == 0)
		code = sp_err_set(err, SP_E_CONFIG, "%s does not hold %s on one line", path, what);
	*token = data;
	if (code != SP_OK)
		fetcherd_token_free(token);
	return code;
}

enum sp_code
fetcherd_token(const struct sp_conf *conf, char **token, struct sp_err *err)
{
	const char *name, *path = find_token(conf, &name);
	enum sp_code code;

	*token = NULL;
	if (path == NULL)
		return SP_OK;
	code = fetcherd_secret(path, "a token", token, err);
	return code == SP_OK || err == NULL ? code : sp_err_prefix(err, "%s", name);
}
