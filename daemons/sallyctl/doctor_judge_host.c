/* doctor_judge_host.c -- what is to be said about disks, clock, kernel, network and libraries. */
#include "base/time.h"
#include "doctor.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define GIB (UINT64_C(1) << 30)
#define FREE_LEAST GIB	     /* below it something will soon fail */
#define FREE_GOOD (20 * GIB) /* below it a model of usual size does not fit */
#define FILES_LEAST 10000
#define AHEAD_MS 5000 /* so far may the log's newest entry lie in the future */
#define NOFILE_LEAST 4096
#define WMEM_LEAST 212992 /* Linux's default: a burst of datagrams */
#define DAY_MS INT64_C(86400000)
#define CERTIFICATE_DAYS 14

/* --- disks ---------------------------------------------------------------------------------- */

static void
judge_disk(const struct doctor_facts *f, const struct doctor_disk *d, struct doctor_report *r)
{
	uint64_t coming = strcmp(d->what, "store") == 0 ? f->download_bytes : 0;

	if (d->error != 0) {
		if (d->error != ENOENT && d->error != EACCES) {
			doctor_say(r, DOCTOR_ERROR, "disk", "%s: %s", d->path, strerror(d->error));
			doctor_todo(
			    r, "look at the filesystem: findmnt -T %s; dmesg | tail", d->path);
		}
		return; /* what is not there was said with the directories */
	}
	if (d->read_only) {
		doctor_say(r, DOCTOR_ERROR, "disk",
		    "%s lies on a filesystem that is mounted read-only", d->path);
		doctor_todo(r,
		    "find out why (dmesg | grep -i remount), then: mount -o remount,rw "
		    "\"$(findmnt -no TARGET -T %s)\"",
		    d->path);
	} else if (d->free < FREE_LEAST || d->free < coming) {
		doctor_say(r, DOCTOR_ERROR, "disk",
		    "%s: %s free of %s, %s still to come by downloads", d->path,
		    ctl_out_size(d->free).s, ctl_out_size(d->size).s, ctl_out_size(coming).s);
		doctor_todo(r,
		    "sallyctl gc removes what no job names; else enlarge the filesystem, or "
		    "move %s.dir",
		    d->what);
	} else if (d->files_free < FILES_LEAST) {
		doctor_say(r, DOCTOR_ERROR, "disk",
		    "%s: room for %" PRIu64 " more files, whatever their size", d->path,
		    d->files_free);
		doctor_todo(r, "df -i %s; a filesystem with more inodes is needed", d->path);
	} else if (strcmp(d->what, "store") == 0 && d->free < FREE_GOOD) {
		doctor_say(r, DOCTOR_WARNING, "disk",
		    "%s: %s free of %s; a model of 7 billion parameters takes about 20 GiB with "
		    "its "
		    "quantized copy",
		    d->path, ctl_out_size(d->free).s, ctl_out_size(d->size).s);
		doctor_todo(r, "sallyctl gc removes what no job names");
	} else {
		doctor_say(r, DOCTOR_OK, "disk", "%s: %s free of %s%s", d->path,
		    ctl_out_size(d->free).s, ctl_out_size(d->size).s,
		    d->reflinks ? "; copies share their blocks" : "");
	}
}

static void
judge_disks(const struct doctor_facts *f, struct doctor_report *r)
{
	size_t i;

	for (i = 0; i < f->disk_count; i++)
		judge_disk(f, &f->disks[i], r);
	if (f->database_bytes >= 0)
		doctor_say(r, DOCTOR_OK, "database", "%s: %s", f->database,
		    ctl_out_size((uint64_t)f->database_bytes).s);
}

/* --- clock ---------------------------------------------------------------------------------- */

static void
judge_clock(const struct doctor_facts *f, struct doctor_report *r)
{
	int64_t newest_ms = f->host != NULL ? sp_time_parse_rfc3339(f->host->log_time) : -1;

	if (f->host != NULL && newest_ms > f->unix_ms + AHEAD_MS) {
		doctor_say(r, DOCTOR_ERROR, "clock",
		    "the log's newest entry, of %s, lies %s in the future: the clock was set back",
		    f->host->log_time, ctl_out_duration(newest_ms - f->unix_ms).s);
		doctor_todo(r, "compare with a clock that you trust, then: timedatectl set-time …");
	} else if (f->clock_synchronised == 0) {
		doctor_say(r, DOCTOR_WARNING, "clock",
		    "it is %s here, but the clock is kept by nobody: times in log and attestations "
		    "drift, and trust documents expire early or late",
		    sp_time_rfc3339(f->unix_ms).s);
		doctor_todo(r, "timedatectl set-ntp true, or a time source of the air-gapped side "
			       "(chrony)");
	} else {
		doctor_say(r, DOCTOR_OK, "clock", "%s%s", sp_time_rfc3339(f->unix_ms).s,
		    f->clock_synchronised > 0 ? ", synchronised" : "");
	}
}

/* --- kernel --------------------------------------------------------------------------------- */

static void
judge_sandbox(const struct doctor_facts *f, struct doctor_report *r)
{
	if (f->sandbox == NULL)
		return;
	if (f->sandbox_err.code == SP_OK) {
		doctor_say(r, DOCTOR_OK, "sandbox",
		    "%s holds: a right program passes, one that reaches outside does not",
		    f->sandbox);
		return;
	}
	doctor_say(r, DOCTOR_ERROR, "sandbox",
	    "validatord's sandbox (%s) cannot be made, so HumanEval gates decide nothing: %s",
	    f->sandbox, f->sandbox_err.msg);
	if (strcmp(f->sandbox, "bubblewrap") == 0 && f->userns_max == 0)
		doctor_todo(r,
		    "sysctl user.max_user_namespaces=15000, and a line in /etc/sysctl.d; or "
		    "validatord.sandbox = \"landlock\"");
	else if (strcmp(f->sandbox, "bubblewrap") == 0)
		doctor_todo(r, "apt-get install bubblewrap python3; sysctl "
			       "kernel.unprivileged_userns_clone=1 where there is such a key; or "
			       "validatord.sandbox = \"landlock\"");
	else
		doctor_todo(r, "apt-get install python3; a kernel with Landlock (grep landlock "
			       "/sys/kernel/security/lsm)");
}

static void
judge_buffers(const struct doctor_facts *f, struct doctor_report *r)
{
	int enclave = f->side != NULL && strcmp(f->side, "enclave") == 0;

	if (enclave && f->rmem_max >= 0 && f->rmem_max < f->rcvbuf_bytes) {
		doctor_say(r, DOCTOR_WARNING, "sysctl",
		    "net.core.rmem_max is %" PRId64 ", diode-rxd asks for %" PRId64
		    ": bursts that it could have buffered are lost, and there is no way to ask "
		    "again",
		    f->rmem_max, f->rcvbuf_bytes);
		doctor_todo(r,
		    "sysctl net.core.rmem_max=%" PRId64 "; echo net.core.rmem_max=%" PRId64
		    " >/etc/sysctl.d/sallyport.conf; "
		    "systemctl restart sallyport-diode-rxd",
		    f->rcvbuf_bytes, f->rcvbuf_bytes);
	} else if (enclave && f->rmem_max >= 0) {
		doctor_say(r, DOCTOR_OK, "sysctl", "net.core.rmem_max is %" PRId64, f->rmem_max);
	}
	if (!enclave && f->side != NULL && f->wmem_max >= 0 && f->wmem_max < WMEM_LEAST) {
		doctor_say(r, DOCTOR_WARNING, "sysctl",
		    "net.core.wmem_max is %" PRId64 ": diode-txd will not reach high rates",
		    f->wmem_max);
		doctor_todo(r, "sysctl net.core.wmem_max=%d", 4 << 20);
	}
}

static void
judge_limits(const struct doctor_facts *f, struct doctor_report *r)
{
	const struct doctor_daemon *d;
	int64_t least;
	size_t i;

	for (i = 0; i < f->daemon_count; i++) {
		d = &f->daemons[i];
		if (strcmp(d->service->name, "registryd") == 0)
			least = 2 * f->connections; /* the socket, and the file that it is sent */
		else if (strcmp(d->service->name, "admissiond") == 0)
			least = NOFILE_LEAST;
		else
			continue;
		if (d->nofile < 0 || d->nofile >= least)
			continue;
		doctor_say(r, DOCTOR_WARNING, "limits",
		    "%s may open %" PRId64
		    " files; the connections that it is to take want %" PRId64,
		    d->service->name, d->nofile, least);
		doctor_todo(r, "LimitNOFILE=65536 in its unit (systemctl edit sallyport-%s)",
		    d->service->name);
	}
}

/* --- network -------------------------------------------------------------------------------- */

static int
is_public_v4(uint32_t a)
{
	return !(a >> 24 == 127 || a >> 24 == 10 || a >> 20 == 0xac1 || a >> 16 == 0xc0a8 ||
		 a >> 16 == 0xa9fe);
}

int
doctor_is_public(const char *listen)
{
	const char *colon = strrchr(listen, ':');
	size_t len = colon != NULL ? (size_t)(colon - listen) : strlen(listen);
	uint8_t v6[16];
	char host[64];
	uint32_t v4;

	if (len >= 2 && listen[0] == '[' && listen[len - 1] == ']') {
		listen++;
		len -= 2;
	}
	if (len >= sizeof(host))
		return 0; /* a name: what it stands for is not ours to guess */
	memcpy(host, listen, len);
	host[len] = '\0';
	if (len == 0 || strcmp(host, "*") == 0)
		return 1;
	if (inet_pton(AF_INET, host, &v4) == 1)
		return is_public_v4(ntohl(v4));
	if (inet_pton(AF_INET6, host, v6) != 1)
		return 0;
	if (memcmp(v6, "\0\0\0\0\0\0\0\0\0\0\xff\xff", 12) == 0) {
		memcpy(&v4, v6 + 12, 4);
		return is_public_v4(ntohl(v4));
	}
	/* ::1, fc00::/7 (RFC 4193), fe80::/10 */
	return !((memcmp(v6, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1", 16) == 0) ||
		 (v6[0] & 0xfe) == 0xfc || (v6[0] == 0xfe && (v6[1] & 0xc0) == 0x80));
}

static void
judge_network(const struct doctor_facts *f, struct doctor_report *r)
{
	if (f->listen != NULL && doctor_is_public(f->listen)) {
		doctor_say(r, DOCTOR_WARNING, "network",
		    "registryd.listen is %s: it serves every network that reaches this host, "
		    "without "
		    "TLS",
		    f->listen);
		doctor_todo(r,
		    "let it listen on the address that the cluster uses, or put a proxy with "
		    "TLS before 127.0.0.1");
	} else if (f->listen != NULL) {
		doctor_say(r, DOCTOR_OK, "network", "registryd listens on %s", f->listen);
	}
	if (f->tcp != NULL && doctor_is_public(f->tcp)) {
		doctor_say(r, DOCTOR_WARNING, "network",
		    "bus.tcp is %s: any host may knock; only keys of the trust document are let in",
		    f->tcp);
		doctor_todo(r,
		    "let it listen on the address that the other workers use, or let the "
		    "firewall know them");
	}
	if (f->endpoint == NULL)
		return;
	if (strncmp(f->endpoint, "http://", 7) != 0)
		doctor_say(r, DOCTOR_OK, "network", "fetcherd asks %s", f->endpoint);
	else if (strncmp(f->endpoint, "http://127.", 11) != 0 &&
		 strncmp(f->endpoint, "http://localhost", 16) != 0 &&
		 strncmp(f->endpoint, "http://[::1]", 12) != 0) {
		doctor_say(r, DOCTOR_WARNING, "network",
		    "fetcherd.endpoint is %s: without TLS whoever sits between chooses what is "
		    "listed",
		    f->endpoint);
		doctor_todo(r, "fetcherd.endpoint = \"https://…\"");
	}
}

static void
judge_certificate(const struct doctor_facts *f, struct doctor_report *r)
{
	const struct doctor_path *c = &f->certificate, *k = &f->certificate_key;
	int64_t left_ms = f->certificate_ms - f->unix_ms;

	if (c->path == NULL || c->error == EACCES)
		return;
	if (c->error != 0 || (k->error != 0 && k->error != EACCES)) {
		doctor_say(r, DOCTOR_ERROR, "certificate", "%s: %s",
		    c->error != 0 ? c->path : k->path,
		    strerror(c->error != 0 ? c->error : k->error));
		doctor_todo(r, "put the webhook's certificate and key there (man admissiond)");
		return;
	}
	if (k->error == 0 && (k->mode & 077) != 0) {
		doctor_say(r, DOCTOR_ERROR, "certificate",
		    "%s has the mode %04o: others may read it", k->path, (unsigned)k->mode);
		doctor_todo(r, "chmod 0400 %s", k->path);
	}
	if (f->certificate_ms < 0) {
		doctor_say(r, DOCTOR_ERROR, "certificate", "%s holds no certificate", c->path);
		doctor_todo(r, "put a PEM chain there: the webhook's own first");
	} else if (left_ms < 0) {
		doctor_say(r, DOCTOR_ERROR, "certificate",
		    "%s has expired: Kubernetes can ask for no admission any more", c->path);
		doctor_todo(r, "issue it anew, then: systemctl restart sallyport-admissiond");
	} else if (left_ms < CERTIFICATE_DAYS * DAY_MS) {
		doctor_say(r, DOCTOR_WARNING, "certificate", "%s expires in %s", c->path,
		    ctl_out_duration(left_ms).s);
		doctor_todo(r, "issue it anew, then: systemctl restart sallyport-admissiond");
	} else {
		doctor_say(r, DOCTOR_OK, "certificate", "%s is good for %s", c->path,
		    ctl_out_duration(left_ms).s);
	}
}

/* --- libraries ------------------------------------------------------------------------------ */

static void
judge_libraries(const struct doctor_facts *f, struct doctor_report *r)
{
	if (!f->curve) {
		doctor_say(r, DOCTOR_ERROR, "libraries",
		    "libzmq %s was built without CURVE: no worker can connect", f->zmq);
		doctor_todo(r, "install the distribution's libzmq5");
	} else {
		doctor_say(r, DOCTOR_OK, "libraries", "libzmq %s with CURVE, GnuTLS %s", f->zmq,
		    f->gnutls);
	}
}

void
doctor_judge_host(const struct doctor_facts *facts, struct doctor_report *report)
{
	judge_disks(facts, report);
	judge_clock(facts, report);
	judge_sandbox(facts, report);
	judge_buffers(facts, report);
	judge_limits(facts, report);
	judge_network(facts, report);
	judge_certificate(facts, report);
	judge_libraries(facts, report);
}
