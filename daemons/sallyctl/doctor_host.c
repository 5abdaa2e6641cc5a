/* doctor_host.c -- looks at the host: disks, clock, kernel, network, libraries. */
#include "base/file.h"
#include "bus/paths.h"
#include "doctor.h"
#include "eval/sandbox.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <grp.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/timex.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zmq.h>

#define SMALL_MAX 65536
#define CERTIFICATE_MAX (1u << 20)

/* A number in a file of /proc; -1 when there is none. */
static int64_t
number_in(const char *path)
{
	uint8_t *data = NULL;
	int64_t value = -1;
	size_t len;
	char *end;

	if (sp_file_read(path, SMALL_MAX, &data, &len, NULL) != SP_OK)
		return -1;
	if (isdigit((unsigned char)data[0])) {
		errno = 0;
		value = strtoll((const char *)data, &end, 10);
		if (errno != 0 || (*end != '\n' && *end != '\0'))
			value = -1;
	}
	free(data);
	return value;
}

/* --- disks ---------------------------------------------------------------------------------- */

/* Tries it, in files without names; 0 also where nothing may be written. */
static int
has_reflinks(const char *dir)
{
	int from = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	int to = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	char block[4096] = {0};
	int has;

	has = from >= 0 && to >= 0 && write(from, block, sizeof(block)) == sizeof(block) &&
	      ioctl(to, FICLONE, from) == 0;
	if (from >= 0)
		close(from);
	if (to >= 0)
		close(to);
	return has;
}

static void
look_at_disk(struct doctor_facts *f, char *what, const char *path)
{
	struct doctor_disk *d = &f->disks[f->disk_count++];
	struct statvfs st;

	d->what = what;
	d->path = sp_xstrdup(path);
	if (statvfs(path, &st) != 0) {
		d->error = errno;
		return;
	}
	d->size = (uint64_t)st.f_blocks * st.f_frsize;
	d->free = (uint64_t)st.f_bavail * st.f_frsize;
	/* filesystems that make inodes when they need them say 0 of 0 */
	d->files_free = st.f_files > 0 ? st.f_favail : UINT64_MAX;
	d->read_only = (st.f_flag & ST_RDONLY) != 0;
	d->reflinks = has_reflinks(path);
}

static void
look_at_disks(const struct sp_conf *conf, struct doctor_facts *f)
{
	static char store[] = "store", state[] = "state";
	char *dir = sp_paths_state(conf, "ledgerd"), *wal;
	struct stat st;

	look_at_disk(f, store, sp_conf_string(conf, "store.dir"));
	look_at_disk(f, state, sp_conf_string(conf, "state.dir"));
	f->database = sp_xasprintf("%s/ledger.db", dir);
	f->database_bytes = stat(f->database, &st) == 0 ? st.st_size : -1;
	wal = sp_xasprintf("%s-wal", f->database);
	if (f->database_bytes >= 0 && stat(wal, &st) == 0)
		f->database_bytes += st.st_size;
	free(wal);
	free(dir);
}

/* --- kernel --------------------------------------------------------------------------------- */

/* In the child: as the daemon's user, where we may become it. Says what is wrong on fd. */
static void
try_sandbox(const struct doctor_facts *f, int64_t uid, int64_t gid, int fd)
{
	struct sp_sandbox_limits limits = sp_sandbox_defaults;
	struct sp_err err = {0};

	if (geteuid() == 0 && uid > 0 &&
	    (setgroups(0, NULL) != 0 || setresgid((gid_t)gid, (gid_t)gid, (gid_t)gid) != 0 ||
		setresuid((uid_t)uid, (uid_t)uid, (uid_t)uid) != 0))
		sp_err_set(&err, SP_E_DENIED, "cannot become uid %" PRId64, uid);
	else if (!sp_sandbox_find(f->sandbox, &limits.kind))
		sp_err_set(&err, SP_E_CONFIG, "there is no sandbox \"%s\"", f->sandbox);
	else if (sp_sandbox_check(&limits, &err) == SP_OK)
		err.code = SP_OK;
	(void)!write(fd, &err, sizeof(err));
	_exit(0);
}

static void
look_at_sandbox(const struct sp_conf *conf, struct doctor_facts *f)
{
	const struct doctor_daemon *d = NULL;
	int ends[2], status;
	struct sp_err err;
	size_t i;
	pid_t pid;

	for (i = 0; i < f->daemon_count; i++)
		if (strcmp(f->daemons[i].service->name, "validatord") == 0)
			d = &f->daemons[i];
	if (d == NULL)
		return;
	f->sandbox = sp_xstrdup(sp_conf_string(conf, "validatord.sandbox"));
	f->userns_max = number_in("/proc/sys/user/max_user_namespaces");
	sp_err_set(&f->sandbox_err, SP_E_INTERNAL, "the trial ended without a word");
	if (pipe2(ends, O_CLOEXEC) != 0)
		return;
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		try_sandbox(f, d->uid, d->state.error == 0 ? d->state.gid : d->uid, ends[1]);
	close(ends[1]);
	if (pid > 0 && sp_file_read_all(ends[0], &err, sizeof(err), NULL) == SP_OK)
		f->sandbox_err = err;
	close(ends[0]);
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
}

static void
look_at_clock(struct doctor_facts *f)
{
	struct timex t = {0};
	int state = adjtimex(&t);

	f->clock_synchronised = state < 0 ? -1 : state != TIME_ERROR && !(t.status & STA_UNSYNC);
}

/* --- running daemons ------------------------------------------------------------------------ */

/* "Max open files  1024  524288  files": the first number. */
static int64_t
nofile_of(const char *pid)
{
	static const char label[] = "Max open files";
	char *path = sp_xasprintf("/proc/%s/limits", pid), *line;
	uint8_t *data = NULL;
	int64_t value = -1;
	size_t len;

	if (sp_file_read(path, SMALL_MAX, &data, &len, NULL) == SP_OK) {
		line = strstr((char *)data, label);
		if (line != NULL)
			value = strtoll(line + sizeof(label) - 1, NULL, 10);
	}
	free(data);
	free(path);
	return value;
}

static void
look_at_process(struct doctor_facts *f, const char *pid)
{
	char *path = sp_xasprintf("/proc/%s/comm", pid);
	uint8_t *name = NULL;
	size_t i, len;

	if (sp_file_read(path, 64, &name, &len, NULL) == SP_OK && len > 0) {
		name[len - 1] = '\0';
		for (i = 0; i < f->daemon_count; i++)
			if (strcmp((char *)name, f->daemons[i].service->name) == 0)
				f->daemons[i].nofile = nofile_of(pid);
	}
	free(name);
	free(path);
}

static void
look_at_processes(struct doctor_facts *f)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;
	size_t i;

	for (i = 0; i < f->daemon_count; i++)
		f->daemons[i].nofile = -1;
	while (dir != NULL && (entry = readdir(dir)) != NULL)
		if (isdigit((unsigned char)entry->d_name[0]))
			look_at_process(f, entry->d_name);
	if (dir != NULL)
		closedir(dir);
}

/* --- network -------------------------------------------------------------------------------- */

/* Until when the first certificate of a PEM file is good; -1: there is none. */
static int64_t
certificate_end_ms(const char *path)
{
	gnutls_x509_crt_t crt;
	gnutls_datum_t pem;
	int64_t end_ms = -1;
	uint8_t *data = NULL;
	size_t len;

	if (sp_file_read(path, CERTIFICATE_MAX, &data, &len, NULL) != SP_OK)
		return -1;
	pem.data = data;
	pem.size = (unsigned)len;
	if (gnutls_x509_crt_init(&crt) == GNUTLS_E_SUCCESS) {
		if (gnutls_x509_crt_import(crt, &pem, GNUTLS_X509_FMT_PEM) == GNUTLS_E_SUCCESS)
			end_ms = (int64_t)gnutls_x509_crt_get_expiration_time(crt) * 1000;
		gnutls_x509_crt_deinit(crt);
	}
	free(data);
	return end_ms;
}

static void
look_at_network(const struct sp_conf *conf, struct doctor_facts *f)
{
	if (sp_conf_string(conf, "bus.tcp") != NULL)
		f->tcp = sp_xstrdup(sp_conf_string(conf, "bus.tcp"));
	f->connections = sp_conf_int(conf, "registryd.connections");
	if (strcmp(f->side, "enclave") != 0) {
		f->endpoint = sp_xstrdup(sp_conf_string(conf, "fetcherd.endpoint"));
		return;
	}
	f->listen = sp_xstrdup(sp_conf_string(conf, "registryd.listen"));
	f->certificate = doctor_path(sp_xstrdup(sp_conf_string(conf, "admissiond.tls_cert")));
	f->certificate_key = doctor_path(sp_xstrdup(sp_conf_string(conf, "admissiond.tls_key")));
	f->certificate_ms = certificate_end_ms(f->certificate.path);
}

void
doctor_host(const struct sp_conf *conf, struct doctor_facts *f)
{
	int major, minor, patch;

	f->database_bytes = -1;
	f->rmem_max = number_in("/proc/sys/net/core/rmem_max");
	f->wmem_max = number_in("/proc/sys/net/core/wmem_max");
	look_at_clock(f);
	zmq_version(&major, &minor, &patch);
	f->zmq = sp_xasprintf("%d.%d.%d", major, minor, patch);
	f->curve = zmq_has("curve");
	f->gnutls = sp_xstrdup(gnutls_check_version(NULL));
	if (conf == NULL || f->side == NULL)
		return;
	f->rcvbuf_bytes = sp_conf_int(conf, "diode-rxd.rcvbuf_mib") << 20;
	look_at_disks(conf, f);
	look_at_processes(f);
	look_at_network(conf, f);
	look_at_sandbox(conf, f);
}
