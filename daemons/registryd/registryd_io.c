/* registryd_io.c -- configuration, start and end. */
#include "base/file.h"
#include "base/log.h"
#include "base/path.h"
#include "base/time.h"
#include "bus/paths.h"
#include "http/url.h"
#include "registryd.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LOCAL_MAX 256
#define THREADS_MIN 8
#define BODY_MAX ((size_t)1 << 20) /* paths-info names files in a form */

int
registryd_standalone(const struct sp_conf *conf)
{
	return sp_conf_bool(conf, "registryd.standalone");
}

/* A value of registryd.local.GROUP.KEY, or NULL. */
static const char *
local_value(const struct sp_conf *conf, const char *group, const char *key)
{
	char *full = sp_xasprintf("registryd.local.%s.%s", group, key);
	const char *value = sp_conf_string(conf, full);

	free(full);
	return value;
}

static enum sp_code
check_local(const struct sp_conf *conf, const char *group, struct sp_err *err)
{
	const char *name = local_value(conf, group, "name");
	enum sp_catalog_kind kind;

	if (name == NULL || local_value(conf, group, "dir") == NULL)
		return sp_err_set(
		    err, SP_E_CONFIG, "registryd.local.%s needs both name and dir", group);
	if (sp_path_check_repo(name, err) != SP_OK)
		return sp_err_set(err, SP_E_CONFIG,
		    "registryd.local.%s.name is \"%s\": org/name or name is expected", group, name);
	if (!sp_catalog_kind(local_value(conf, group, "kind"), &kind))
		return sp_err_set(err, SP_E_CONFIG,
		    "registryd.local.%s.kind is \"%s\": \"model\" or \"dataset\" is expected",
		    group, local_value(conf, group, "kind"));
	return SP_OK;
}

enum sp_code
registryd_check(const struct sp_conf *conf, struct sp_err *err)
{
	const char *groups[LOCAL_MAX];
	size_t count = sp_conf_groups(conf, "registryd.local", groups, LOCAL_MAX);
	enum sp_code code;
	unsigned port;
	char *host;

	code = sp_url_split_host(sp_conf_string(conf, "registryd.listen"), &host, &port, err);
	if (code != SP_OK)
		return sp_err_set(err, SP_E_CONFIG,
		    "registryd.listen is \"%s\": host:port or [IPv6]:port is expected",
		    sp_conf_string(conf, "registryd.listen"));
	free(host);
	if (count > LOCAL_MAX)
		return sp_err_set(
		    err, SP_E_CONFIG, "registryd.local has more than %d groups", LOCAL_MAX);
	/* what no release vouches for is never served beside what one does */
	if (count > 0 && !registryd_standalone(conf))
		return sp_err_set(err, SP_E_CONFIG,
		    "registryd.local is for registryd.standalone = true alone: a registry serves "
		    "only what came as a release");
	for (size_t i = 0; code == SP_OK && i < count; i++)
		code = check_local(conf, groups[i], err);
	return code;
}

static enum sp_code
import_local(struct registryd *r, const char *group, struct sp_err *err)
{
	struct registryd_entry entry = {.version = 1};
	const char *dir = local_value(r->conf, group, "dir");
	struct sp_tree tree = {0};
	enum sp_code code;

	snprintf(entry.kind, sizeof(entry.kind), "%s", local_value(r->conf, group, "kind"));
	snprintf(entry.name, sizeof(entry.name), "%s", local_value(r->conf, group, "name"));
	snprintf(entry.time, sizeof(entry.time), "%s", sp_time_rfc3339(sp_time_unix_ms()).s);
	code = sp_tree_import(r->store, dir, &tree, &entry.tree, err);
	if (code == SP_OK)
		code = registryd_serve_tree(r, &entry, err);
	if (code == SP_OK)
		sp_log_info(NULL, "%s: %zu files from %s, tree %s", entry.name, tree.count, dir,
		    entry.tree.s);
	else if (err != NULL)
		sp_err_prefix(err, "registryd.local.%s", group);
	sp_tree_clear(&tree);
	return code;
}

static enum sp_code
import_locals(struct registryd *r, struct sp_err *err)
{
	const char *groups[LOCAL_MAX];
	size_t count = sp_conf_groups(r->conf, "registryd.local", groups, LOCAL_MAX);
	enum sp_code code = SP_OK;

	for (size_t i = 0; code == SP_OK && i < count; i++)
		code = import_local(r, groups[i], err);
	return code;
}

/* The registry's part: its key, what is registered, and whose snapshot it is. */
static enum sp_code
open_registry(struct registryd *r, struct sp_err *err)
{
	const char *host = sp_conf_string(r->conf, "host");
	char *path = sp_paths_key(r->conf, REGISTRYD_SERVICE, "registry"), name[128] = "";
	enum sp_code code;

	if (host == NULL && gethostname(name, sizeof(name) - 1) == 0)
		host = name;
	snprintf(r->origin, sizeof(r->origin), "sallyport/%s/%s", sp_conf_string(r->conf, "side"),
	    host != NULL && host[0] != '\0' ? host : "localhost");
	code = sp_key_load(path, SP_ROLE_REGISTRY, NULL, &r->key, err);
	free(path);
	return code;
}

/* Says where we listen, for who configured port 0. */
static enum sp_code
write_listen(const struct registryd *r, struct sp_err *err)
{
	const char *listen_on = sp_conf_string(r->conf, "registryd.listen");
	char *path = sp_xasprintf("%s/listen", r->state), *text;
	int host_len = (int)(strrchr(listen_on, ':') - listen_on);
	enum sp_code code;

	text = sp_xasprintf("%.*s:%u\n", host_len, listen_on, sp_http_port(r->http));
	sp_log_info(NULL, "serves the Hub protocol on %.*s", (int)strlen(text) - 1, text);
	code = sp_file_write(path, 0644, text, strlen(text), err);
	free(path);
	free(text);
	return code;
}

static enum sp_code
serve(struct registryd *r, struct sp_err *err)
{
	long processors = sysconf(_SC_NPROCESSORS_ONLN);
	struct sp_http_options options = {.listen = sp_conf_string(r->conf, "registryd.listen"),
	    /* more than processors: a thread whose file has to come from the disk waits for it */
	    .threads = processors > THREADS_MIN / 2 ? (unsigned)processors * 2 : THREADS_MIN,
	    .connections = (unsigned)sp_conf_int(r->conf, "registryd.connections"),
	    .per_address = (unsigned)sp_conf_int(r->conf, "registryd.per_address"),
	    .idle_s = (unsigned)sp_conf_int(r->conf, "registryd.idle_s"),
	    .body_max = BODY_MAX,
	    .bodies_max = 64 * BODY_MAX,
	    .handler = registryd_handle,
	    .ctx = r};
	enum sp_code code;

	code = sp_http_start(&options, &r->http, err);
	return code == SP_OK ? write_listen(r, err) : code;
}

static void
init_locks(struct registryd *r)
{
	pthread_rwlockattr_t writers_first;

	/* else a registration waits for as long as requests overlap */
	SP_ASSERT(pthread_rwlockattr_init(&writers_first) == 0);
	SP_ASSERT(pthread_rwlockattr_setkind_np(
		      &writers_first, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP) == 0);
	SP_ASSERT(pthread_rwlock_init(&r->lock, &writers_first) == 0);
	pthread_rwlockattr_destroy(&writers_first);
	SP_ASSERT(pthread_mutex_init(&r->snapshot_lock, NULL) == 0);
	SP_ASSERT(pthread_mutex_init(&r->wake_lock, NULL) == 0);
	sp_time_cond_init(&r->wake);
}

enum sp_code
registryd_start(struct sp_worker *worker, const struct sp_conf *conf, struct registryd **out,
    struct sp_err *err)
{
	struct registryd *r = sp_xcalloc(1, sizeof(*r));
	char *store = sp_paths_store(conf, REGISTRYD_SERVICE);
	int standalone = registryd_standalone(conf);
	enum sp_code code;

	r->worker = worker;
	r->conf = conf;
	r->state = sp_paths_state(conf, REGISTRYD_SERVICE);
	init_locks(r);
	code = sp_store_open(store, 1, &r->store, err);
	if (code == SP_OK && !standalone)
		code = open_registry(r, err);
	if (code == SP_OK)
		code = registryd_state_load(r, err);
	if (code == SP_OK && standalone)
		code = import_locals(r, err);
	if (code == SP_OK)
		code = serve(r, err);
	if (code == SP_OK && !standalone) {
		r->started = pthread_create(&r->publisher, NULL, registryd_publisher, r) == 0;
		if (!r->started)
			code = sp_err_set(err, SP_E_IO, "cannot start a thread");
	}
	free(store);
	if (code != SP_OK) {
		registryd_close(r);
		r = NULL;
	}
	*out = r;
	return code;
}

enum sp_code
registryd_open(struct sp_worker *worker, void **ctx, struct sp_err *err)
{
	struct registryd *r = NULL;
	enum sp_code code = registryd_start(worker, sp_worker_conf(worker), &r, err);

	if (code == SP_OK)
		*ctx = r;
	return code;
}

void
registryd_close(void *ctx)
{
	struct registryd *r = ctx;
	char *path;

	pthread_mutex_lock(&r->wake_lock);
	r->stopping = 1;
	pthread_cond_signal(&r->wake);
	pthread_mutex_unlock(&r->wake_lock);
	if (r->started)
		pthread_join(r->publisher, NULL);
	if (r->http != NULL) {
		path = sp_xasprintf("%s/listen", r->state);
		unlink(path);
		free(path);
	}
	sp_http_stop(&r->http);
	registryd_state_clear(r);
	sp_store_close(&r->store);
	sp_key_free(&r->key);
	pthread_cond_destroy(&r->wake);
	pthread_mutex_destroy(&r->wake_lock);
	pthread_mutex_destroy(&r->snapshot_lock);
	pthread_rwlock_destroy(&r->lock);
	free(r->state);
	free(r);
}

enum sp_code
registryd_keep(void *ctx, sp_worker_keep_fn *keep, void *arg, struct sp_err *err)
{
	struct registryd *r = ctx;
	size_t i;

	(void)err;
	pthread_rwlock_rdlock(&r->lock);
	for (i = 0; i < r->entries.count; i++) {
		keep(arg, r->entries.entries[i].tree.s);
		if (r->entries.entries[i].release.s[0] != '\0')
			keep(arg, r->entries.entries[i].release.s);
	}
	pthread_rwlock_unlock(&r->lock);
	return SP_OK;
}
