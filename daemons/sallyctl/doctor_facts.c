/* doctor_facts.c -- looks at configuration, files, keys, trust, and asks ledgerd. */
#include "base/path.h"
#include "base/time.h"
#include "bus/paths.h"
#include "doctor.h"
#include "jobs.h"
#include "release/proof.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SAID_MAX 4096 /* bytes of what a daemon says about its configuration */

/* --- files ---------------------------------------------------------------------------------- */

struct doctor_path
doctor_path(char *path)
{
	struct doctor_path p = {.path = path};
	struct stat st;

	if (stat(path, &st) != 0) {
		p.error = errno;
		return p;
	}
	p.is_dir = S_ISDIR(st.st_mode);
	p.mode = st.st_mode & 07777;
	p.uid = st.st_uid;
	p.gid = st.st_gid;
	return p;
}

static int64_t
uid_of(const char *service)
{
	char *name = sp_xasprintf("sallyport-%s", service), buffer[4096];
	struct passwd entry, *user = NULL;

	if (getpwnam_r(name, &entry, buffer, sizeof(buffer), &user) != 0)
		user = NULL;
	free(name);
	return user != NULL ? (int64_t)user->pw_uid : -1;
}

static void
add_dir(struct doctor_facts *f, const char *path)
{
	SP_ASSERT(f->dir_count < sizeof(f->dirs) / sizeof(f->dirs[0]));
	f->dirs[f->dir_count++] = doctor_path(sp_xstrdup(path));
}

static void
look_at_dirs(const struct sp_conf *conf, struct doctor_facts *f)
{
	static const char *const keys[] = {"keys.dir", "trust.dir", "profiles.dir"};
	const char *socket = sp_conf_string(conf, "bus.operators"), *slash = strrchr(socket, '/');
	struct group entry, *group = NULL;
	char buffer[4096];
	size_t i;

	/* the enclave needs no profiles */
	for (i = 0; i < (f->side != NULL && strcmp(f->side, "enclave") == 0 ? 2 : 3); i++)
		add_dir(f, sp_conf_string(conf, keys[i]));
	if (f->system) {
		add_dir(f, sp_conf_string(conf, "store.dir"));
		add_dir(f, sp_conf_string(conf, "state.dir"));
	}
	f->run = doctor_path(sp_xasprintf(
	    "%.*s", slash > socket ? (int)(slash - socket) : 1, slash != NULL ? socket : "."));
	f->socket = doctor_path(sp_xstrdup(socket));
	/* who may not look into the directory learns from it whom to join */
	if (getgrgid_r(f->socket.error == 0 ? (gid_t)f->socket.gid : (gid_t)f->run.gid, &entry,
		buffer, sizeof(buffer), &group) == 0 &&
	    group != NULL && f->run.error == 0)
		f->socket_group = sp_xstrdup(group->gr_name);
}

/* Those that a submit may name; whether they are in order ledgerd's own check says. */
static void
look_at_profiles(const struct sp_conf *conf, struct doctor_facts *f)
{
	const char *path = sp_conf_string(conf, "profiles.dir");
	struct dirent *entry;
	size_t len;
	DIR *dir;

	if (strcmp(f->side, "bastion") != 0 || f->elsewhere != NULL)
		return;
	dir = opendir(path);
	if (dir == NULL)
		return;
	f->profiles = sp_xstrdup(path);
	while ((entry = readdir(dir)) != NULL) {
		len = strlen(entry->d_name);
		if (len <= 5 || strcmp(entry->d_name + len - 5, ".conf") != 0)
			continue;
		f->profile_count++;
		f->has_default |= strcmp(entry->d_name, "default.conf") == 0;
	}
	closedir(dir);
}

/* --- keys ----------------------------------------------------------------------------------- */

/* The public half: of the secret file where it may be read, else of the file beside it. */
static void
look_at_key(const struct sp_conf *conf, const char *service, const char *name, struct doctor_key *k)
{
	struct sp_key *key = NULL;
	char *public_path;

	SP_ASSERT(sp_role_find(name, &k->role));
	k->file = doctor_path(sp_paths_key(conf, service, name));
	if (k->file.error != 0)
		return;
	if (sp_key_load(k->file.path, k->role, NULL, &key, &k->err) == SP_OK) {
		k->public = *sp_key_public(key);
		k->known = 1;
		sp_key_free(&key);
		return;
	}
	if (access(k->file.path, R_OK) == 0)
		return; /* what is wrong is the file's fault, not the reader's */
	k->unread = 1;
	k->err.code = SP_OK;
	public_path = sp_xasprintf("%s.pub", k->file.path);
	k->known =
	    sp_pubkey_load(public_path, &k->public, NULL) == SP_OK && k->public.role == k->role;
	free(public_path);
}

/* --- daemons -------------------------------------------------------------------------------- */

/* Beside sallyctl, in the sbin of its prefix, or in PATH; malloc'd. */
static char *
find_program(const char *name)
{
	char self[4096], *slash, *path;
	ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
	static const char *const places[] = {"", "../sbin/"};
	size_t i;

	if (len > 0) {
		self[len] = '\0';
		slash = strrchr(self, '/');
		for (i = 0; slash != NULL && i < 2; i++) {
			path =
			    sp_xasprintf("%.*s/%s%s", (int)(slash - self), self, places[i], name);
			if (access(path, X_OK) == 0)
				return path;
			free(path);
		}
	}
	return sp_xstrdup(name);
}

/* The last line of what it says, read until it ends. */
static char *
read_said(int fd)
{
	char text[SAID_MAX + 1], *last, chunk[512];
	size_t len = 0;
	ssize_t n;

	while ((n = read(fd, chunk, sizeof(chunk))) != 0) {
		if (n < 0 && errno != EINTR)
			break;
		if (n > 0 && len + (size_t)n <= SAID_MAX) {
			memcpy(text + len, chunk, (size_t)n);
			len += (size_t)n;
		}
	}
	while (len > 0 && text[len - 1] == '\n')
		len--;
	text[len] = '\0';
	last = strrchr(text, '\n');
	return sp_xstrdup(last != NULL ? last + 1 : text);
}

static void
run_check(const struct doctor_facts *f, struct doctor_daemon *d)
{
	char *program = find_program(d->service->name), *root = sp_xstrdup(f->root);
	char check[] = "-n", conf[] = "-c", root_option[] = "--root";
	char *argv[] = {program, check, conf, f->conf_file, f->root[0] != '\0' ? root_option : NULL,
	    root, NULL};
	posix_spawn_file_actions_t actions;
	int ends[2], status;
	pid_t pid;

	d->status = -1;
	d->said = NULL;
	if (pipe2(ends, O_CLOEXEC) != 0)
		goto out;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO);
	if (posix_spawnp(&pid, program, &actions, NULL, argv, environ) == 0) {
		close(ends[1]);
		ends[1] = -1;
		d->said = read_said(ends[0]);
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
		d->status = WIFEXITED(status) ? WEXITSTATUS(status) : 128;
	}
	posix_spawn_file_actions_destroy(&actions);
	close(ends[0]);
	if (ends[1] >= 0)
		close(ends[1]);
out:
	free(program);
	free(root);
}

/* Where ledgerd is on another host there are only those daemons that have keys here. */
static int
is_here(const struct sp_conf *conf, const struct doctor_facts *f, const struct doctor_service *s)
{
	struct doctor_path keys;

	if (f->elsewhere == NULL)
		return 1;
	keys = doctor_path(sp_xasprintf("%s/%s", sp_conf_string(conf, "keys.dir"), s->name));
	free(keys.path);
	return strcmp(s->name, "ledgerd") != 0 && keys.error != ENOENT;
}

static void
look_at_daemon(const struct sp_conf *conf, struct doctor_facts *f, const struct doctor_service *s)
{
	struct doctor_daemon *d = &f->daemons[f->daemon_count++];
	size_t i;

	d->service = s;
	d->uid = f->system ? uid_of(s->name) : -1;
	d->keys = doctor_path(sp_xasprintf("%s/%s", sp_conf_string(conf, "keys.dir"), s->name));
	d->state = doctor_path(sp_paths_state(conf, s->name));
	d->store = doctor_path(sp_paths_store(conf, s->name));
	for (i = 0; s->keys[i] != NULL; i++)
		look_at_key(conf, s->name, s->keys[i], &d->key[d->key_count++]);
	run_check(f, d);
}

/* --- ledgerd -------------------------------------------------------------------------------- */

static void
ask_downloads(struct ctl *ctl, struct doctor_facts *f)
{
	const Sallyport__OperatorJobView *view;
	Sallyport__OperatorReply *reply;
	struct sp_err err;
	size_t i;

	if (ctl_jobs_list(ctl, 0, 0, &reply, &err) != SP_OK)
		return;
	for (i = 0; i < reply->jobs->n_jobs; i++) {
		view = reply->jobs->jobs[i];
		if (strcmp(view->phase, "download") == 0 && strcmp(view->unit, "bytes") == 0 &&
		    view->total > view->done)
			f->download_bytes += view->total - view->done;
	}
	sallyport__operator_reply__free_unpacked(reply, NULL);
}

static void
ask_ledgerd(struct ctl *ctl, struct doctor_facts *f)
{
	Sallyport__OperatorRequest request;
	Sallyport__OperatorStatus body;
	struct sp_checkpoint checkpoint;

	sallyport__operator_request__init(&request);
	sallyport__operator_status__init(&body);
	request.body_case = SALLYPORT__OPERATOR_REQUEST__BODY_STATUS;
	request.status = &body;
	if (ctl_ask(ctl, &request, 0, SALLYPORT__OPERATOR_REPLY__BODY_HOST, &f->reply,
		&f->host_err) != SP_OK)
		return;
	f->host = f->reply->host;
	if (f->trust != NULL &&
	    sp_proof_checkpoint(f->trust, f->host->checkpoint.data, f->host->checkpoint.len,
		&checkpoint, NULL, &f->checkpoint_err) == SP_OK)
		f->checkpoint_err.code = SP_OK;
	ask_downloads(ctl, f);
}

/* --- all of it ------------------------------------------------------------------------------ */

static void
look_at_conf(struct ctl *ctl, struct doctor_facts *f, const struct sp_conf **conf)
{
	struct stat st;

	f->conf_file = ctl->args->conf != NULL
			   ? sp_xstrdup(ctl->args->conf)
			   : sp_path_join(ctl->root, "/etc/sallyport/sallyport.conf");
	f->system = ctl->root[0] == '\0';
	f->uid = geteuid();
	/* one user's installation is that of who wrote its configuration */
	if (!f->system && stat(f->conf_file, &st) == 0)
		f->uid = st.st_uid;
	if (ctl_conf(ctl, conf, &f->conf_err) != SP_OK)
		*conf = NULL;
	if (*conf != NULL && sp_conf_string(*conf, "side") != NULL)
		f->side = sp_xstrdup(sp_conf_string(*conf, "side"));
	if (*conf != NULL && sp_conf_string(*conf, "bus.connect") != NULL)
		f->elsewhere = sp_xstrdup(sp_conf_string(*conf, "bus.connect"));
}

void
doctor_facts(struct ctl *ctl, struct doctor_facts *f)
{
	const struct doctor_service *s;
	const struct sp_conf *conf;
	char *trust_dir;
	int bastion;

	memset(f, 0, sizeof(*f));
	f->root = ctl->root;
	f->unix_ms = sp_time_unix_ms();
	look_at_conf(ctl, f, &conf);
	bastion = f->side == NULL || strcmp(f->side, "enclave") != 0;
	if (conf != NULL && f->side != NULL) {
		look_at_dirs(conf, f);
		look_at_profiles(conf, f);
		for (s = doctor_services; s->name != NULL; s++)
			if ((bastion ? s->bastion : s->enclave) && is_here(conf, f, s))
				look_at_daemon(conf, f, s);
	}
	/* before there are threads: it forks */
	doctor_host(conf, f);
	if (conf == NULL)
		return;
	trust_dir = sp_paths_trust(conf);
	if (sp_trust_load(trust_dir, f->unix_ms, &f->trust, &f->trust_err) != SP_OK)
		f->trust = NULL;
	free(trust_dir);
	if (f->elsewhere == NULL)
		ask_ledgerd(ctl, f);
}

void
doctor_facts_clear(struct doctor_facts *f)
{
	struct doctor_daemon *d;
	size_t i, k;

	for (i = 0; i < f->daemon_count; i++) {
		d = &f->daemons[i];
		free(d->keys.path);
		free(d->state.path);
		free(d->store.path);
		free(d->said);
		for (k = 0; k < d->key_count; k++)
			free(d->key[k].file.path);
	}
	for (i = 0; i < f->dir_count; i++)
		free(f->dirs[i].path);
	for (i = 0; i < f->disk_count; i++)
		free(f->disks[i].path);
	if (f->reply != NULL)
		sallyport__operator_reply__free_unpacked(f->reply, NULL);
	sp_trust_free(&f->trust);
	free(f->run.path);
	free(f->socket.path);
	free(f->socket_group);
	free(f->conf_file);
	free(f->side);
	free(f->elsewhere);
	free(f->profiles);
	free(f->tcp);
	free(f->database);
	free(f->listen);
	free(f->endpoint);
	free(f->sandbox);
	free(f->certificate.path);
	free(f->certificate_key.path);
	free(f->zmq);
	free(f->gnutls);
	memset(f, 0, sizeof(*f));
}
