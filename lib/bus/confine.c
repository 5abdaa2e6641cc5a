/* confine.c -- what a worker's child may reach. */
#include "bus/confine.h"

#include "base/landlock.h"
#include "base/log.h"
#include "bus/confine_filter.h"
#include "bus/confine_mounts.h"
#include "bus/paths.h"

#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

/* With ABI 1 no file can be moved from one directory to another, which the store does. */
#define ABI_MIN 2
#define READS_MAX 16

struct sp_confine {
	char *reads[READS_MAX];
	int secret[READS_MAX]; /* which of them */
	size_t count;
	int network, bubblewrap, programs, unmapped;
};

/* What libraries read: the loader, name resolution, TLS, time zones, the number of processors. */
static const char *const system_reads[] = {
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/resolv.conf",
    "/run/systemd/resolve",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/protocols",
    "/etc/ssl",
    "/etc/ca-certificates",
    "/etc/pki",
    "/etc/gnutls",
    "/etc/pkcs11",
    "/etc/localtime",
    "/etc/timezone",
    "/dev/null",
    "/dev/zero",
    "/dev/random",
    "/dev/urandom",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
#ifdef __SANITIZE_ADDRESS__
    "/proc",
#endif
};
/* On Debian 12 all but the first are symbolic links into it. */
static const char *const system_programs[] = {"/usr", "/lib", "/lib64", "/bin", "/sbin"};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

void
sp_confine_read(struct sp_confine *confine, const char *path)
{
	if (path == NULL)
		return;
	SP_ASSERT(confine->count < READS_MAX);
	confine->reads[confine->count++] = sp_xstrdup(path);
}

void
sp_confine_secret(struct sp_confine *confine, const char *path)
{
	sp_confine_read(confine, path);
	if (path != NULL)
		confine->secret[confine->count - 1] = 1;
}

void
sp_confine_network(struct sp_confine *confine)
{
	confine->network = 1;
}

void
sp_confine_unmapped(struct sp_confine *confine)
{
	confine->unmapped = 1;
}

void
sp_confine_bubblewrap(struct sp_confine *confine)
{
	confine->bubblewrap = confine->programs = 1;
}

void
sp_confine_programs(struct sp_confine *confine)
{
	confine->programs = 1;
}

/* A profile that names a key's file as its data set is turned down, however it spells the path. */
static enum sp_code
check_read(const struct sp_conf *conf, const char *path, struct sp_err *err)
{
	const char *const secret[] = {sp_conf_string(conf, "keys.dir"), "/run/credentials"};
	char *real = realpath(path, NULL), *dir;
	enum sp_code code = SP_OK;
	size_t i, len;

	if (real == NULL)
		return SP_OK; /* not there: nothing to read */
	for (i = 0; i < COUNT(secret) && code == SP_OK; i++) {
		dir = realpath(secret[i], NULL);
		len = dir != NULL ? strlen(dir) : 0;
		/* below it, or above: either would give it away */
		if (dir != NULL &&
		    ((strncmp(real, dir, len) == 0 && (real[len] == '/' || real[len] == '\0')) ||
			(strncmp(real, dir, strlen(real)) == 0 &&
			    (dir[strlen(real)] == '/' || real[1] == '\0'))))
			code = sp_err_set(
			    err, SP_E_DENIED, "%s: keys lie there, which no step may read", path);
		free(dir);
	}
	free(real);
	return code;
}

static enum sp_code
allow_own(int rules, const struct sp_conf *conf, const char *service, struct sp_err *err)
{
	char *store = sp_paths_store(conf, service), *state = sp_paths_state(conf, service);
	enum sp_code code;

	code = sp_landlock_allow(rules, sp_conf_string(conf, "store.dir"), SP_LANDLOCK_READ, err);
	if (code == SP_OK)
		code = sp_landlock_allow(rules, store, SP_LANDLOCK_READ | SP_LANDLOCK_WRITE, err);
	if (code == SP_OK)
		code = sp_landlock_allow(rules, state, SP_LANDLOCK_READ | SP_LANDLOCK_WRITE, err);
	free(store);
	free(state);
	return code;
}

static enum sp_code
allow_system(int rules, struct sp_err *err)
{
	enum sp_code code = SP_OK;
	char self[4096];
	ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
	size_t i;

	for (i = 0; i < COUNT(system_programs) && code == SP_OK; i++)
		code = sp_landlock_allow(
		    rules, system_programs[i], SP_LANDLOCK_READ | SP_LANDLOCK_EXECUTE, err);
	for (i = 0; i < COUNT(system_reads) && code == SP_OK; i++)
		code = sp_landlock_allow(rules, system_reads[i], SP_LANDLOCK_READ, err);
	/* its own program, whose digest names what it computes */
	if (len > 0 && code == SP_OK) {
		self[len] = '\0';
		code = sp_landlock_allow(rules, self, SP_LANDLOCK_READ, err);
	}
	return code;
}

static enum sp_code
enter_landlock(const struct sp_confine *confine, const struct sp_conf *conf, const char *service,
    struct sp_err *err)
{
	enum sp_code code;
	int rules;
	size_t i;

	if (sp_landlock_abi() < ABI_MIN) {
		sp_log_warn(NULL,
		    "this kernel has no Landlock (or an early one): what this step reads from "
		    "outside "
		    "is kept from the daemon's key files by seccomp and its uid alone");
		return SP_OK;
	}
	code = sp_landlock_open(confine->network, &rules, err);
	if (code != SP_OK)
		return code;
	code = allow_system(rules, err);
	if (code == SP_OK)
		code = allow_own(rules, conf, service, err);
	for (i = 0; i < confine->count && code == SP_OK; i++)
		code = sp_landlock_allow(rules, confine->reads[i], SP_LANDLOCK_READ, err);
	if (code == SP_OK && sp_landlock_enter(rules) != 0)
		code = sp_err_errno(err, "Landlock");
	close(rules);
	return code;
}

/* Without namespaces bubblewrap does not start: the step gets nothing of what it would have needed.
 */
static enum sp_code
hide_files(
    struct sp_confine *confine, const struct sp_conf *conf, const char *service, struct sp_err *err)
{
	enum sp_code code;

	if (confine->bubblewrap) {
		code = sp_confine_cover(conf, err);
		if (code != SP_E_UNSUPPORTED)
			return code;
		sp_log_warn(NULL, "%s", err->msg);
		confine->bubblewrap = 0;
	}
	return enter_landlock(confine, conf, service, err);
}

enum sp_code
sp_confine_enter(const struct sp_conf *conf, const char *service, sp_confine_fn *fn,
    const Sallyport__Task *task, const char *key, struct sp_err *err)
{
	struct sp_confine confine = {.count = 0};
	enum sp_code code = SP_OK;
	size_t i;

	if (fn != NULL)
		code = fn(conf, task, &confine, err);
	sp_confine_secret(&confine, key);
	for (i = 0; i < confine.count && code == SP_OK; i++)
		if (!confine.secret[i])
			code = check_read(conf, confine.reads[i], err);
	if (code == SP_OK)
		code = hide_files(&confine, conf, service, err);
	if (code == SP_OK)
		code = sp_confine_filter(
		    confine.network, confine.programs, confine.bubblewrap, confine.unmapped, err);
	for (i = 0; i < confine.count; i++)
		free(confine.reads[i]);
	return code == SP_OK ? SP_OK : sp_err_prefix(err, "cannot confine this step");
}
