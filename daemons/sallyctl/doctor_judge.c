/* doctor_judge.c -- what is to be said about configuration, files, keys, trust and ledgerd. */
#include "base/buf.h"
#include "base/time.h"
#include "base/version.h"
#include "doctor.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define DAY_MS INT64_C(86400000)
#define SOON_DAYS 30 /* a document or certificate that ends sooner wants to be seen to */

const struct doctor_service doctor_services[] = {
    {"ledgerd", 1, 1, 0, {"bus", "log"}},
    {"fetcherd", 1, 0, 1, {"bus", "fetch"}},
    {"quantd", 1, 0, 1, {"bus", "quantize"}},
    {"validatord", 1, 0, 1, {"bus", "gate"}},
    {"diode-txd", 1, 0, 1, {"bus", "release", "link"}},
    {"diode-rxd", 0, 1, 1, {"bus", "link"}},
    {"registryd", 0, 1, 1, {"bus", "registry"}},
    {"admissiond", 0, 1, 0, {"bus"}},
    {NULL, 0, 0, 0, {NULL}},
};

/* What is being judged. */
struct judge {
	const struct doctor_facts *f;
	struct doctor_report *r;
	struct sp_buf unseen; /* paths that may not be looked at */
	size_t paths;	      /* that are as they should be */
};

/* --- files ---------------------------------------------------------------------------------- */

static const char *
user_of(const struct judge *j, const char *service, char buffer[64])
{
	if (j->f->system)
		snprintf(buffer, 64, "%s%s", service[0] != '\0' ? "sallyport-" : "root", service);
	else
		snprintf(buffer, 64, "%" PRId64, j->f->uid);
	return buffer;
}

static void
not_seen(struct judge *j, const char *path)
{
	sp_buf_printf(&j->unseen, "%s%s", j->unseen.len > 0 ? ", " : "", path);
}

/* service: whose it is, "": root's. closed: permission bits that nobody may have. optional: made
 * by its daemon when it starts. 1: as it should be. */
static int
judge_path(struct judge *j, const char *check, const struct doctor_path *p, const char *service,
    int64_t uid, mode_t closed, int optional)
{
	char user[64];

	if (p->error == EACCES) {
		not_seen(j, p->path);
		return 0;
	}
	if (p->error == ENOENT && optional)
		return 1;
	if (p->error != 0) {
		doctor_say(j->r, DOCTOR_ERROR, check, "%s: %s", p->path, strerror(p->error));
		if (j->f->system)
			doctor_todo(j->r, "systemd-tmpfiles --create sallyport.conf");
		else
			doctor_todo(j->r, "mkdir -p -m %04o %s", 0755 & ~(unsigned)closed, p->path);
		return 0;
	}
	if (!p->is_dir) {
		doctor_say(j->r, DOCTOR_ERROR, check, "%s is no directory", p->path);
		doctor_todo(j->r, "move it away, then: mkdir %s", p->path);
		return 0;
	}
	if (uid >= 0 && p->uid != uid) {
		doctor_say(j->r, DOCTOR_ERROR, check, "%s belongs to uid %" PRId64 ", not to %s",
		    p->path, p->uid, user_of(j, service, user));
		doctor_todo(j->r, "chown %s %s", user_of(j, service, user), p->path);
		return 0;
	}
	if ((p->mode & closed) != 0) {
		doctor_say(j->r, DOCTOR_ERROR, check,
		    "%s has the mode %04o: others could %s what is in it", p->path,
		    (unsigned)p->mode, (p->mode & closed & 022) != 0 ? "replace" : "read");
		doctor_todo(j->r, "chmod %04o %s", (unsigned)p->mode & ~(unsigned)closed, p->path);
		return 0;
	}
	return 1;
}

static void
judge_daemon_dirs(struct judge *j, const struct doctor_daemon *d)
{
	const char *name = d->service->name;
	int64_t uid = j->f->system ? d->uid : j->f->uid;
	/* where all are one user's, the keys' own modes must do */
	mode_t closed = j->f->system ? 077 : 022;
	int made = !j->f->system;

	/* installed, they are root's: systemd hands the daemon its keys as credentials */
	j->paths += (size_t)judge_path(j, "directories", &d->keys, j->f->system ? "" : name,
	    j->f->system && d->keys.uid != uid ? 0 : uid, closed, 0);
	j->paths += (size_t)judge_path(j, "directories", &d->state, name, uid, closed, made);
	if (d->service->store)
		j->paths +=
		    (size_t)judge_path(j, "directories", &d->store, name, uid, closed & 027, made);
}

static void
judge_dirs(struct judge *j)
{
	const struct doctor_facts *f = j->f;
	size_t i;

	for (i = 0; i < f->dir_count; i++)
		j->paths += (size_t)judge_path(
		    j, "directories", &f->dirs[i], "", f->system ? 0 : f->uid, 022, 0);
	if (f->daemon_count > 0 && f->elsewhere == NULL)
		j->paths += (size_t)judge_path(j, "directories", &f->run, "ledgerd",
		    f->system ? f->daemons[0].uid : f->uid, 022, 0);
	for (i = 0; i < f->daemon_count; i++) {
		if (f->system && f->daemons[i].uid < 0) {
			doctor_say(j->r, DOCTOR_ERROR, "users",
			    "there is no user sallyport-%s: %s cannot start",
			    f->daemons[i].service->name, f->daemons[i].service->name);
			doctor_todo(j->r, "systemd-sysusers sallyport.conf");
		} else {
			judge_daemon_dirs(j, &f->daemons[i]);
		}
	}
	if (j->paths > 0)
		doctor_say(j->r, DOCTOR_OK, "directories",
		    "%zu are there, owned and closed as they "
		    "should be",
		    j->paths);
}

/* --- configuration -------------------------------------------------------------------------- */

static void
judge_conf(struct judge *j)
{
	const struct doctor_facts *f = j->f;
	const struct doctor_daemon *d;
	size_t i, good = 0;

	if (f->conf_err.code != SP_OK) {
		doctor_say(j->r, DOCTOR_ERROR, "configuration", "%s", f->conf_err.msg);
		if (f->conf_err.code == SP_E_NOT_FOUND)
			doctor_todo(j->r,
			    "write it (man sallyport.conf), or name another with -c or "
			    "--root");
		else
			doctor_todo(
			    j->r, "$EDITOR %s; man sallyport.conf lists the keys", f->conf_file);
		return;
	}
	if (f->side == NULL) {
		doctor_say(j->r, DOCTOR_ERROR, "configuration",
		    "%s does not say which side of the diode this is", f->conf_file);
		doctor_todo(j->r, "add the line: side = \"bastion\"; or side = \"enclave\";");
		return;
	}
	for (i = 0; i < f->daemon_count; i++) {
		d = &f->daemons[i];
		if (d->status == 0) {
			good++;
		} else if (d->status < 0) {
			doctor_say(j->r, DOCTOR_WARNING, "programs",
			    "%s was found neither beside sallyctl nor in PATH", d->service->name);
			doctor_todo(
			    j->r, "make install PREFIX=/usr, unless it runs on another host");
		} else {
			doctor_say(j->r, DOCTOR_ERROR, "configuration", "%s does not take it: %s",
			    d->service->name, d->said);
			doctor_todo(j->r, "$EDITOR %s, then: %s -n -c %s", f->conf_file,
			    d->service->name, f->conf_file);
		}
	}
	if (good > 0)
		doctor_say(j->r, DOCTOR_OK, "configuration",
		    "%s: this is the %s; %zu of %zu daemons "
		    "take it",
		    f->conf_file, f->side, good, f->daemon_count);
}

static void
judge_profiles(struct judge *j)
{
	const struct doctor_facts *f = j->f;

	if (f->profiles == NULL)
		return;
	if (f->profile_count == 0) {
		doctor_say(j->r, DOCTOR_ERROR, "profiles", "%s holds none: no job can be submitted",
		    f->profiles);
		doctor_todo(j->r,
		    "$EDITOR %s/default.conf; man sallyport.conf says what a profile is made of",
		    f->profiles);
	} else if (!f->has_default) {
		doctor_say(j->r, DOCTOR_WARNING, "profiles",
		    "%s has no default.conf: each `sallyctl submit` must name a --profile",
		    f->profiles);
		doctor_todo(j->r, "ln -s NAME.conf %s/default.conf", f->profiles);
	} else {
		doctor_say(j->r, DOCTOR_OK, "profiles", "%s holds %zu, \"default\" among them",
		    f->profiles, f->profile_count);
	}
}

/* --- trust and keys ------------------------------------------------------------------------- */

static void
judge_trust(struct judge *j)
{
	const struct doctor_facts *f = j->f;
	int64_t left_ms;

	if (f->trust == NULL && f->trust_err.code == SP_OK)
		return; /* the configuration, which says where it is, could not be read */
	if (f->trust == NULL) {
		doctor_say(j->r, DOCTOR_ERROR, "trust", "%s", f->trust_err.msg);
		if (f->trust_err.code == SP_E_NOT_FOUND)
			doctor_todo(j->r, "sallyctl trust init ENVELOPE --fingerprint HEX");
		else
			doctor_todo(j->r,
			    "have the next version signed and brought here: sallyctl trust "
			    "update ENVELOPE");
		return;
	}
	left_ms = sp_time_parse_rfc3339(sp_trust_expires(f->trust)) - f->unix_ms;
	if (left_ms < SOON_DAYS * DAY_MS) {
		doctor_say(j->r, DOCTOR_WARNING, "trust",
		    "version %" PRId64 " of the trust document expires in %s, at %s: nothing is "
		    "signed or verified after that",
		    sp_trust_version(f->trust), ctl_out_duration(left_ms).s,
		    sp_trust_expires(f->trust));
		doctor_todo(j->r,
		    "sallyctl trust new --version %" PRId64 " …, sign it, and on both "
		    "sides: sallyctl trust update ENVELOPE",
		    sp_trust_version(f->trust) + 1);
		return;
	}
	doctor_say(j->r, DOCTOR_OK, "trust",
	    "version %" PRId64 ", pinned and signed by its root keys, until %s",
	    sp_trust_version(f->trust), sp_trust_expires(f->trust));
}

/* Whether the document names that key as this daemon's. */
static int
judge_named(struct judge *j, const struct doctor_daemon *d, const struct doctor_key *k)
{
	const struct sp_trust_worker *worker;
	const char *name = d->service->name;

	if (!k->known || k->role == SP_ROLE_LINK || j->f->trust == NULL)
		return 1;
	if (k->role != SP_ROLE_BUS) {
		if (sp_trust_key_by_id(j->f->trust, k->role, k->public.id.s) != NULL)
			return 1;
		doctor_say(j->r, DOCTOR_ERROR, "keys",
		    "%s: the trust document does not name this key (%.16s…) for the role %s",
		    k->file.path, k->public.id.s, sp_role_word(k->role));
		doctor_todo(j->r, "put the right key there, or: sallyctl trust new … --key %s.pub",
		    k->file.path);
		return 0;
	}
	worker = sp_trust_worker_by_key(j->f->trust, k->public.bytes);
	if (worker == NULL || strcmp(worker->service, name) != 0) {
		doctor_say(j->r, DOCTOR_ERROR, "keys",
		    "%s: the trust document names this bus key (%.16s…) %s%s", k->file.path,
		    k->public.id.s, worker == NULL ? "nowhere" : "for ",
		    worker == NULL ? "" : worker->name);
		doctor_todo(j->r, "sallyctl trust new … --worker %s:%" PRId64 ":%s.pub", name,
		    j->f->system ? d->uid : j->f->uid, k->file.path);
		return 0;
	}
	if (worker->uid >= 0 && worker->uid != (j->f->system ? d->uid : j->f->uid)) {
		doctor_say(j->r, DOCTOR_ERROR, "keys",
		    "the trust document wants %s to run as uid %" PRId64
		    ", here it runs as %" PRId64,
		    worker->name, worker->uid, j->f->system ? d->uid : j->f->uid);
		doctor_todo(j->r, "sallyctl trust new … --worker %s:%" PRId64 ":%s.pub", name,
		    j->f->system ? d->uid : j->f->uid, k->file.path);
		return 0;
	}
	return 1;
}

/* 1: as it should be. */
static int
judge_key(struct judge *j, const struct doctor_daemon *d, const struct doctor_key *k)
{
	int64_t uid = j->f->system ? d->uid : j->f->uid;
	const char *name = d->service->name, *path = k->file.path;
	char user[64];

	if (k->file.error == EACCES) {
		not_seen(j, path);
		return 0;
	}
	if (k->file.error != 0) {
		doctor_say(j->r, DOCTOR_ERROR, "keys", "%s: %s", path, strerror(k->file.error));
		if (k->role == SP_ROLE_LINK && strcmp(name, "diode-rxd") == 0)
			doctor_todo(j->r, "carry link.key here from the bastion's keys/diode-txd");
		else
			doctor_todo(j->r,
			    "sallyctl key new %s --name %s@%s --out %s, and a trust "
			    "document that names it",
			    sp_role_word(k->role), name, j->f->side, path);
		return 0;
	}
	if ((k->file.mode & 0177) != 0) {
		doctor_say(j->r, DOCTOR_ERROR, "keys",
		    "%s has the mode %04o: a secret key is its daemon's alone to read%s", path,
		    (unsigned)k->file.mode,
		    (k->file.mode & 0077) != 0 ? "; others could have" : "");
		doctor_todo(j->r, "chmod 0400 %s%s", path,
		    (k->file.mode & 0077) != 0
			? ", and draw a new one if anybody else uses this host"
			: "");
		return 0;
	}
	if (uid >= 0 && k->file.uid != uid && !(j->f->system && k->file.uid == 0)) {
		doctor_say(j->r, DOCTOR_ERROR, "keys", "%s belongs to uid %" PRId64 ", not to %s",
		    path, k->file.uid, user_of(j, j->f->system ? "" : name, user));
		doctor_todo(j->r, "chown %s %s", user_of(j, j->f->system ? "" : name, user), path);
		return 0;
	}
	if (k->unread && !k->known) {
		not_seen(j, path);
		return 0;
	}
	if (k->err.code != SP_OK) {
		doctor_say(j->r, DOCTOR_ERROR, "keys", "%s", k->err.msg);
		doctor_todo(j->r,
		    "put the right key there, or draw it anew: sallyctl key new %s "
		    "--name %s@%s --out %s",
		    sp_role_word(k->role), name, j->f->side, path);
		return 0;
	}
	return judge_named(j, d, k);
}

static const Sallyport__OperatorWorker *
connected(const struct doctor_facts *f, const char *service)
{
	size_t i;

	for (i = 0; f->host != NULL && i < f->host->n_workers; i++)
		if (strcmp(f->host->workers[i]->service, service) == 0 &&
		    f->host->workers[i]->present)
			return f->host->workers[i];
	return NULL;
}

static void
judge_keys(struct judge *j)
{
	const struct doctor_daemon *d;
	size_t i, k, good = 0;

	for (i = 0; i < j->f->daemon_count; i++) {
		d = &j->f->daemons[i];
		/* it may run on another host: then its keys are there */
		if (d->keys.error == ENOENT && connected(j->f, d->service->name) != NULL)
			continue;
		for (k = 0; k < d->key_count; k++)
			good += (size_t)judge_key(j, d, &d->key[k]);
	}
	if (good > 0)
		doctor_say(j->r, DOCTOR_OK, "keys", "%zu can be read by their daemons alone%s",
		    good, j->f->trust != NULL ? ", and the trust document names them" : "");
}

/* --- ledgerd and its workers ---------------------------------------------------------------- */

static void
judge_socket(struct judge *j)
{
	const struct doctor_facts *f = j->f;

	doctor_say(j->r, DOCTOR_ERROR, "ledgerd", "%s", f->host_err.msg);
	if (f->host_err.code == SP_E_DENIED && f->socket_group != NULL)
		doctor_todo(j->r, "adduser USER %s, and log in again", f->socket_group);
	else if (f->host_err.code == SP_E_DENIED)
		doctor_todo(j->r, "run this as root");
	else
		doctor_todo(j->r,
		    "systemctl start sallyport-%s.target; journalctl -u sallyport-ledgerd",
		    f->side != NULL ? f->side : "bastion");
}

static void
judge_ledgerd(struct judge *j)
{
	const struct doctor_facts *f = j->f;
	const Sallyport__OperatorHost *h = f->host;

	if (f->elsewhere != NULL)
		doctor_say(j->r, DOCTOR_OK, "ledgerd",
		    "it is at %s: `sallyctl doctor` there tells whether the workers here are "
		    "connected",
		    f->elsewhere);
	else if (h == NULL && f->host_err.code != SP_OK)
		judge_socket(j);
	if (h == NULL)
		return;
	doctor_say(j->r, DOCTOR_OK, "ledgerd",
	    "%s answers for %s, up for %s; log of %" PRIu64 " entries, %" PRIu64
	    " steps under way; operators are in the group %s",
	    h->version, h->origin, ctl_out_duration((int64_t)h->uptime_ms).s, h->log_size, h->steps,
	    f->socket_group != NULL ? f->socket_group : "of its socket");
	if (strcmp(h->version, SP_VERSION) != 0) {
		doctor_say(j->r, DOCTOR_WARNING, "ledgerd",
		    "ledgerd is of the release %s, sallyctl of " SP_VERSION, h->version);
		doctor_todo(j->r, "install one release, then: systemctl restart 'sallyport-*'");
	}
	if (h->trust_version == 0) {
		doctor_say(j->r, DOCTOR_ERROR, "ledgerd", "it cannot use the trust document: %s",
		    h->trust_error);
		doctor_todo(j->r, "see the finding about trust, and who may read the directory");
	}
	if (f->checkpoint_err.code != SP_OK) {
		doctor_say(j->r, DOCTOR_ERROR, "log", "its checkpoint does not hold: %s",
		    f->checkpoint_err.msg);
		doctor_todo(j->r, "sallyctl log verify");
	}
	if (h->refused > 0 || h->malformed > 0) {
		doctor_say(j->r, DOCTOR_WARNING, "bus",
		    "since its start ledgerd has refused %" PRIu64
		    " connections and dropped %" PRIu64 " malformed messages",
		    h->refused, h->malformed);
		doctor_todo(j->r, "journalctl -u sallyport-ledgerd | grep -i refused");
	}
}

static void
judge_workers(struct judge *j)
{
	const Sallyport__OperatorWorker *w;
	const char *name;
	size_t i;

	/* ledgerd itself comes first */
	for (i = 1; j->f->host != NULL && i < j->f->daemon_count; i++) {
		name = j->f->daemons[i].service->name;
		w = connected(j->f, name);
		if (w == NULL) {
			doctor_say(j->r, DOCTOR_ERROR, "workers",
			    "no %s is connected: its steps wait", name);
			doctor_todo(j->r,
			    "systemctl start sallyport-%s; journalctl -u sallyport-%s", name, name);
			continue;
		}
		doctor_say(j->r, DOCTOR_OK, "workers",
		    "%s %s, heard %s ago, at work on %u, room for %u", w->name, w->version,
		    ctl_out_duration((int64_t)w->heard_ms).s, w->leases, w->free);
		if (strcmp(w->version, j->f->host->version) != 0) {
			doctor_say(j->r, DOCTOR_WARNING, "workers",
			    "%s is of the release %s, ledgerd of %s", w->name, w->version,
			    j->f->host->version);
			doctor_todo(
			    j->r, "install one release, then: systemctl restart 'sallyport-*'");
		}
	}
}

void
doctor_judge(const struct doctor_facts *facts, struct doctor_report *report)
{
	struct judge j = {.f = facts, .r = report};

	judge_conf(&j);
	judge_profiles(&j);
	judge_dirs(&j);
	judge_trust(&j);
	judge_keys(&j);
	judge_ledgerd(&j);
	judge_workers(&j);
	if (j.unseen.len > 0) {
		doctor_say(report, DOCTOR_WARNING, "not seen", "you may not look at: %s",
		    (const char *)j.unseen.data);
		doctor_todo(report, "sudo sallyctl doctor");
	}
	sp_buf_free(&j.unseen);
}
