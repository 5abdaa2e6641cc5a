/* fetcherd_net.c -- how fetcherd goes out: proxy, rate, patience, as configured. */
#include "fetcherd/fetcherd.h"
#include "http/url.h"

#include <string.h>

#define TRIES 6
#define BACKOFF_MS 500
#define BYTES_PER_MBIT 125000

enum sp_code
fetcherd_net_check(const struct sp_conf *conf, struct sp_err *err)
{
	const char *proxy = sp_conf_string(conf, "fetcherd.proxy");

	if (proxy != NULL && (proxy[0] == '\0' || sp_url_origin_len(proxy) != strlen(proxy)))
		return sp_err_set(err, SP_E_CONFIG,
		    "fetcherd.proxy is \"%s\": http://host:port or https://host:port is expected, "
		    "without credentials, which belong into fetcherd.proxy_auth_file",
		    proxy);
	if (proxy == NULL && sp_conf_string(conf, "fetcherd.proxy_auth_file") != NULL)
		return sp_err_set(
		    err, SP_E_CONFIG, "fetcherd.proxy_auth_file is set, but fetcherd.proxy is not");
	return SP_OK;
}

enum sp_code
fetcherd_net_take(const struct sp_conf *conf, struct sp_client_options *hub,
    struct fetcherd_download *download, char **proxy_auth, struct sp_err *err)
{
	const char *path = sp_conf_string(conf, "fetcherd.proxy_auth_file");
	enum sp_code code;

	hub->proxy = sp_conf_string(conf, "fetcherd.proxy");
	hub->stall_s = (unsigned)sp_conf_int(conf, "fetcherd.stall_s");
	hub->tries = TRIES;
	hub->backoff_ms = BACKOFF_MS;
	download->parallel = (unsigned)sp_conf_int(conf, "fetcherd.parallel");
	download->rate_bytes_per_s =
	    (uint64_t)sp_conf_int(conf, "fetcherd.rate_mbit_s") * BYTES_PER_MBIT;
	download->backoff_ms = BACKOFF_MS;
	*proxy_auth = NULL;
	if (path == NULL)
		return SP_OK;
	code = fetcherd_secret(path, "user:password", proxy_auth, err);
	if (code != SP_OK)
		return err != NULL ? sp_err_prefix(err, "fetcherd.proxy_auth_file") : code;
	hub->proxy_auth = *proxy_auth;
	return SP_OK;
}
