/* sallyctl_doctor.c -- every finding of `sallyctl doctor`: facts in, level and advice out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/time.h"
#include "base/version.h"
#include "sallyctl/doctor.h"
#include "sallyctl/trust_new.h"

#define NOW "2026-11-24T05:02:03.123Z"
#define DAY_MS INT64_C(86400000)
#define UID 500 /* of the first daemon's user; the others follow */

static struct sp_err err;
static struct doctor_facts f;
static struct doctor_report r;
static Sallyport__OperatorHost host;
static Sallyport__OperatorWorker workers[3], *list[3];
static struct sp_trust *trust, *short_trust;
static struct sp_pubkey keys[4]; /* ledgerd's and diode-rxd's bus keys, log, a stranger's */

static char *
text_of(const char *literal)
{
	return (char *)(uintptr_t)literal;
}

static struct sp_trust *
make_trust(const char *expires)
{
	struct sp_trust_worker named[2] = {{.uid = UID}, {.uid = UID + 1}};
	struct sp_pubkey role_keys[2];
	struct ctl_trust_parts parts = {.version = 1,
	    .thresholds = {[SP_ROLE_ROOT] = 1, [SP_ROLE_LOG] = 1},
	    .keys = role_keys,
	    .key_count = 2,
	    .workers = named,
	    .worker_count = 2};
	struct sp_key *root = NULL;
	struct sp_trust *out = NULL;
	char *payload;
	size_t len, i;

	snprintf(parts.expires, sizeof(parts.expires), "%s", expires);
	assert_int_equal(sp_key_new(SP_ROLE_ROOT, "root", &root, &err), SP_OK);
	role_keys[0] = *sp_key_public(root);
	role_keys[1] = keys[2];
	sp_key_free(&root);
	for (i = 0; i < 2; i++) {
		snprintf(named[i].name, sizeof(named[i].name), "%s", keys[i].name);
		snprintf(named[i].service, sizeof(named[i].service), "%.*s",
		    (int)strcspn(keys[i].name, "@"), keys[i].name);
		memcpy(named[i].key, keys[i].bytes, SP_PUBKEY_LEN);
	}
	assert_int_equal(ctl_trust_format(&parts, &payload, &len, &err), SP_OK);
	assert_int_equal(sp_trust_parse((uint8_t *)payload, len, &out, &err), SP_OK);
	free(payload);
	return out;
}

static int
set_up_all(void **state)
{
	static const struct {
		enum sp_role role;
		const char *name;
	} made[] = {{SP_ROLE_BUS, "ledgerd@enclave"}, {SP_ROLE_BUS, "diode-rxd@enclave"},
	    {SP_ROLE_LOG, "ledgerd@enclave"}, {SP_ROLE_BUS, "stranger@enclave"}};
	struct sp_key *key = NULL;
	size_t i;

	(void)state;
	for (i = 0; i < 4; i++) {
		if (sp_key_new(made[i].role, made[i].name, &key, &err) != SP_OK)
			return 1;
		keys[i] = *sp_key_public(key);
		sp_key_free(&key);
	}
	trust = make_trust("2028-01-01T00:00:00.000Z");
	short_trust = make_trust("2026-12-01T00:00:00.000Z");
	return 0;
}

static int
tear_down_all(void **state)
{
	(void)state;
	sp_trust_free(&trust);
	sp_trust_free(&short_trust);
	return 0;
}

static struct doctor_path
place(const char *path, mode_t mode, int64_t uid, int is_dir)
{
	struct doctor_path p = {
	    .path = text_of(path), .mode = mode, .uid = uid, .gid = 400, .is_dir = is_dir};

	return p;
}

static void
add_daemon(const char *name, size_t first_key)
{
	struct doctor_daemon *d = &f.daemons[f.daemon_count];
	const struct doctor_service *s;
	size_t i;

	for (s = doctor_services; strcmp(s->name, name) != 0; s++)
		;
	d->service = s;
	d->uid = UID + (int64_t)f.daemon_count;
	d->keys = place("/keys", 0700, 0, 1);
	d->state = place("/state", 0700, d->uid, 1);
	d->store = place("/store", 0750, d->uid, 1);
	d->nofile = 65536;
	for (i = 0; s->keys[i] != NULL; i++) {
		d->key[i].file = place("/keys/x.key", 0400, 0, 0);
		sp_role_find(s->keys[i], &d->key[i].role);
		d->key[i].known = i == 0;
		d->key[i].public = keys[first_key];
	}
	d->key_count = i;
	f.daemon_count++;
}

/* An enclave in which all is well. */
static int
set_up(void **state)
{
	size_t i;

	(void)state;
	memset(&f, 0, sizeof(f));
	f.root = "";
	f.system = 1;
	f.unix_ms = sp_time_parse_rfc3339(NOW);
	f.conf_file = text_of("/etc/sallyport/sallyport.conf");
	f.side = text_of("enclave");
	f.dirs[0] = place("/etc/sallyport/trust", 0755, 0, 1);
	f.dir_count = 1;
	f.run = place("/run/sallyport", 0750, UID, 1);
	f.socket = place("/run/sallyport/operators.sock", 0660, UID, 0);
	f.socket_group = text_of("sallyport");
	add_daemon("ledgerd", 0);
	f.daemons[0].key[1].known = 1;
	f.daemons[0].key[1].public = keys[2];
	add_daemon("diode-rxd", 1);
	f.trust = trust;
	sallyport__operator_host__init(&host);
	host.version = text_of(SP_VERSION);
	host.origin = text_of("sallyport/enclave/vault");
	host.log_time = text_of(NOW);
	host.log_size = 7;
	host.trust_version = 1;
	host.workers = list;
	host.n_workers = 1;
	for (i = 0; i < 3; i++) {
		sallyport__operator_worker__init(&workers[i]);
		list[i] = &workers[i];
	}
	workers[0].name = text_of("diode-rxd@enclave");
	workers[0].service = text_of("diode-rxd");
	workers[0].version = text_of(SP_VERSION);
	workers[0].present = 1;
	f.host = &host;
	f.disks[0] = (struct doctor_disk){.what = text_of("store"),
	    .path = text_of("/var/lib/sallyport/store"),
	    .size = UINT64_C(1) << 40,
	    .free = UINT64_C(1) << 39,
	    .files_free = 1000000};
	f.disk_count = 1;
	f.database_bytes = -1;
	f.clock_synchronised = 1;
	f.rmem_max = f.rcvbuf_bytes = 64 << 20;
	f.wmem_max = 212992;
	f.listen = text_of("10.1.2.3:8780");
	f.certificate = place("/tls/tls.crt", 0444, 7, 0);
	f.certificate_key = place("/tls/tls.key", 0400, 7, 0);
	f.certificate_ms = f.unix_ms + 300 * DAY_MS;
	f.zmq = text_of("4.3.4");
	f.gnutls = text_of("3.7.9");
	f.curve = 1;
	doctor_report_clear(&r);
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	doctor_report_clear(&r);
	return 0;
}

static void
judge(void)
{
	doctor_report_clear(&r);
	doctor_judge(&f, &r);
	doctor_judge_host(&f, &r);
}

/* Exactly one finding that is not ok, of that level, which says and advises that. */
static void
finds(enum doctor_level level, const char *check, const char *seen, const char *todo)
{
	size_t i, bad = 0;

	judge();
	for (i = 0; i < r.count; i++) {
		if (r.list[i].level == DOCTOR_OK)
			continue;
		bad++;
		if (r.list[i].level != level || strcmp(r.list[i].check, check) != 0)
			fail_msg("%s %s: %s", doctor_level_word(r.list[i].level), r.list[i].check,
			    r.list[i].seen);
		if (strstr(r.list[i].seen, seen) == NULL)
			fail_msg("\"%s\" is not in: %s", seen, r.list[i].seen);
		if (r.list[i].todo == NULL || strstr(r.list[i].todo, todo) == NULL)
			fail_msg("\"%s\" is not in: %s", todo,
			    r.list[i].todo != NULL ? r.list[i].todo : "nothing");
	}
	assert_int_equal(bad, 1);
	assert_int_equal(r.errors, level == DOCTOR_ERROR);
	assert_int_equal(r.warnings, level == DOCTOR_WARNING);
	set_up(NULL);
}

static void
all_well(void **state)
{
	size_t i;

	(void)state;
	judge();
	for (i = 0; i < r.count; i++)
		if (r.list[i].level != DOCTOR_OK)
			fail_msg("%s: %s", r.list[i].check, r.list[i].seen);
	assert_true(r.count >= 9);
	assert_int_equal(r.errors + r.warnings, 0);
}

static void
configuration(void **state)
{
	(void)state;
	f.daemons[1].status = 1;
	f.daemons[1].said = text_of("line 3: no such key");
	finds(
	    DOCTOR_ERROR, "configuration", "diode-rxd does not take it: line 3", "diode-rxd -n -c");
	f.daemons[1].status = -1;
	finds(DOCTOR_WARNING, "programs", "diode-rxd was found neither", "make install");
	f.profiles = text_of("/etc/sallyport/profiles.d");
	finds(DOCTOR_ERROR, "profiles", "holds none", "default.conf");
	f.profiles = text_of("/etc/sallyport/profiles.d");
	f.profile_count = 2;
	finds(DOCTOR_WARNING, "profiles", "no default.conf", "ln -s");
	f.profiles = text_of("/etc/sallyport/profiles.d");
	f.profile_count = f.has_default = 1;
	judge();
	assert_int_equal(r.errors + r.warnings, 0);
	set_up(NULL);
	/* without a configuration there is little else to say */
	f.daemon_count = f.dir_count = f.disk_count = 0;
	f.trust = NULL;
	f.host = NULL;
	f.listen = NULL;
	f.certificate.path = NULL;
	f.side = NULL;
	sp_err_set(&f.conf_err, SP_E_NOT_FOUND, "/etc/x: No such file");
	finds(DOCTOR_ERROR, "configuration", "No such file", "man sallyport.conf");
	f.conf_err.code = SP_OK;
}

static void
directories(void **state)
{
	(void)state;
	f.dirs[0].mode = 0775;
	finds(DOCTOR_ERROR, "directories", "mode 0775: others could replace",
	    "chmod 0755 /etc/sallyport/trust");
	f.dirs[0].uid = 1000;
	finds(DOCTOR_ERROR, "directories", "belongs to uid 1000, not to root", "chown root");
	f.daemons[1].keys.mode = 0550;
	finds(DOCTOR_ERROR, "directories", "others could read", "chmod 0500 /keys");
	f.daemons[1].store.mode = 0755;
	finds(DOCTOR_ERROR, "directories", "/store has the mode 0755", "chmod 0750 /store");
	f.daemons[1].state.uid = 3;
	finds(DOCTOR_ERROR, "directories", "not to sallyport-diode-rxd",
	    "chown sallyport-diode-rxd /state");
	f.daemons[1].state.error = ENOENT;
	finds(DOCTOR_ERROR, "directories", "No such file", "systemd-tmpfiles --create");
	f.run.is_dir = 0;
	finds(DOCTOR_ERROR, "directories", "is no directory", "mkdir");
	f.daemons[1].uid = -1;
	f.daemons[1].key_count = 0;
	finds(DOCTOR_ERROR, "users", "no user sallyport-diode-rxd", "systemd-sysusers");
}

/* A host of workers whose ledgerd is another's. */
static void
elsewhere(void **state)
{
	(void)state;
	f.elsewhere = text_of("ledger.example:8790");
	f.host = NULL;
	f.run.error = ENOENT;
	f.daemons[0] = f.daemons[1];
	f.daemon_count = 1;
	judge();
	assert_int_equal(r.errors + r.warnings, 0);
	f.daemons[0].key[0].file.error = ENOENT;
	f.elsewhere = text_of("ledger.example:8790");
	f.host = NULL;
	f.daemon_count = 1;
	finds(DOCTOR_ERROR, "keys", "No such file", "sallyctl key new bus");
}

static void
limits(void **state)
{
	(void)state;
	add_daemon("registryd", 0);
	f.daemons[2].key_count = 0;
	workers[1] = workers[0];
	workers[1].service = text_of("registryd");
	host.n_workers = 2;
	f.connections = 8192;
	f.daemons[2].nofile = 1024;
	finds(DOCTOR_WARNING, "limits", "registryd may open 1024 files", "LimitNOFILE");
	/* each connection is a socket and a file that is sent */
	add_daemon("registryd", 0);
	f.daemons[2].key_count = 0;
	workers[1] = workers[0];
	workers[1].service = text_of("registryd");
	host.n_workers = 2;
	f.connections = 8192;
	f.daemons[2].nofile = 10000;
	finds(DOCTOR_WARNING, "limits", "registryd may open 10000 files", "LimitNOFILE");
}

/* All of it one user's: daemons make their directories themselves, modes are less strict. */
static void
one_user(void **state)
{
	size_t i, k;

	(void)state;
	f.root = "/tmp/x";
	f.system = 0;
	f.uid = 1000;
	f.trust = NULL; /* which names uids */
	f.dirs[0].uid = f.run.uid = 1000;
	for (i = 0; i < 2; i++) {
		f.daemons[i].keys = place("/keys", 0755, 1000, 1);
		f.daemons[i].state.error = f.daemons[i].store.error = ENOENT;
		for (k = 0; k < f.daemons[i].key_count; k++)
			f.daemons[i].key[k].file.uid = 1000;
	}
	judge();
	assert_int_equal(r.errors, 0);
	f.daemons[1].keys.mode = 0775;
	finds(DOCTOR_ERROR, "directories", "others could replace", "chmod 0755 /keys");
}

static void
secret_keys(void **state)
{
	struct doctor_key *bus = &f.daemons[1].key[0], *log = &f.daemons[0].key[1];

	(void)state;
	bus->file.mode = 0440;
	finds(DOCTOR_ERROR, "keys", "mode 0440", "draw a new one");
	bus->file.mode = 0500;
	finds(DOCTOR_ERROR, "keys", "mode 0500", "chmod 0400");
	bus->file.mode = 0600;
	judge();
	assert_int_equal(r.errors, 0);
	/* the daemon's own will do, too */
	bus->file.uid = f.daemons[1].keys.uid = f.daemons[1].uid;
	judge();
	assert_int_equal(r.errors, 0);
	bus->file.uid = 1000;
	finds(DOCTOR_ERROR, "keys", "belongs to uid 1000, not to root", "chown root /keys/x.key");
	f.daemons[1].keys.uid = 1000;
	finds(DOCTOR_ERROR, "directories", "belongs to uid 1000, not to root", "chown root /keys");
	bus->file.error = ENOENT;
	finds(DOCTOR_ERROR, "keys", "No such file",
	    "sallyctl key new bus --name diode-rxd@enclave --out /keys/x.key");
	f.daemons[1].key[1].file.error = ENOENT;
	finds(DOCTOR_ERROR, "keys", "No such file", "carry link.key here");
	bus->known = 0;
	sp_err_set(&bus->err, SP_E_INVALID, "/keys/x.key: broken line");
	finds(DOCTOR_ERROR, "keys", "broken line", "draw it anew");
	/* a file that can be read, but is the key of another role, or sealed: no daemon starts with
	 * it */
	bus->known = 0;
	sp_err_set(
	    &bus->err, SP_E_DENIED, "/keys/x.key: this is a key of the role log, not of bus");
	finds(DOCTOR_ERROR, "keys", "of the role log", "draw it anew");
	bus->known = 0;
	bus->err.code = SP_OK;
	bus->unread = 1;
	finds(DOCTOR_WARNING, "not seen", "/keys/x.key", "sudo");
	/* its public half tells enough */
	bus->unread = 1;
	judge();
	assert_int_equal(r.errors + r.warnings, 0);
	set_up(NULL);
	/* keys that nobody agreed on */
	bus->public = keys[3];
	finds(
	    DOCTOR_ERROR, "keys", "nowhere", "trust new … --worker diode-rxd:501:/keys/x.key.pub");
	bus->public = keys[0];
	finds(DOCTOR_ERROR, "keys", "for ledgerd@enclave", "--worker diode-rxd:501:");
	log->public = keys[3];
	finds(DOCTOR_ERROR, "keys", "for the role log", "--key /keys/x.key.pub");
	f.daemons[1].uid = f.daemons[1].keys.uid = f.daemons[1].state.uid = 777;
	f.daemons[1].store.uid = bus->file.uid = f.daemons[1].key[1].file.uid = 777;
	finds(DOCTOR_ERROR, "keys", "to run as uid 501, here it runs as 777", "diode-rxd:777:");
	/* a daemon of another host */
	f.daemons[1].keys.error = f.daemons[1].state.error = f.daemons[1].store.error = EACCES;
	bus->file.error = f.daemons[1].key[1].file.error = EACCES;
	finds(
	    DOCTOR_WARNING, "not seen", "/keys, /state, /store, /keys/x.key, /keys/x.key", "sudo");
}

static void
trust_document(void **state)
{
	(void)state;
	f.trust = short_trust;
	f.daemons[0].key[0].known = f.daemons[0].key[1].known = f.daemons[1].key[0].known = 0;
	finds(DOCTOR_WARNING, "trust", "expires in 6 d", "trust new --version 2");
	f.trust = NULL;
	sp_err_set(&f.trust_err, SP_E_NOT_FOUND, "/etc/sallyport/trust/root.pin: none");
	finds(DOCTOR_ERROR, "trust", "root.pin", "trust init");
	f.trust = NULL;
	sp_err_set(&f.trust_err, SP_E_DENIED, "has expired");
	finds(DOCTOR_ERROR, "trust", "has expired", "trust update");
	f.trust_err.code = SP_OK;
}

static void
ledgerd(void **state)
{
	(void)state;
	f.host = NULL;
	sp_err_set(&f.host_err, SP_E_UNREACHABLE, "ledgerd is not running here");
	finds(DOCTOR_ERROR, "ledgerd", "not running", "systemctl start sallyport-enclave.target");
	f.host = NULL;
	sp_err_set(&f.host_err, SP_E_DENIED, "may not be used by you");
	finds(DOCTOR_ERROR, "ledgerd", "may not be used", "adduser USER sallyport");
	f.host_err.code = SP_OK;
	host.version = workers[0].version = text_of("9.9");
	finds(DOCTOR_WARNING, "ledgerd", "release 9.9, sallyctl of", "restart");
	host.trust_version = 0;
	host.trust_error = text_of("permission denied");
	finds(DOCTOR_ERROR, "ledgerd", "cannot use the trust document: permission", "trust");
	host.refused = 3;
	finds(DOCTOR_WARNING, "bus", "refused 3 connections", "journalctl");
	sp_err_set(&f.checkpoint_err, SP_E_DENIED, "signed by nobody");
	finds(DOCTOR_ERROR, "log", "signed by nobody", "sallyctl log verify");
	workers[0].present = 0;
	finds(DOCTOR_ERROR, "workers", "no diode-rxd is connected", "start sallyport-diode-rxd");
	host.n_workers = 0;
	finds(DOCTOR_ERROR, "workers", "no diode-rxd is connected", "start sallyport-diode-rxd");
	workers[0].version = text_of("0.0.9");
	finds(DOCTOR_WARNING, "workers", "of the release 0.0.9, ledgerd of", "restart");
}

static void
disks(void **state)
{
	struct doctor_disk *d = &f.disks[0];

	(void)state;
	d->read_only = 1;
	finds(DOCTOR_ERROR, "disk", "read-only", "remount,rw");
	d->free = 1000;
	finds(DOCTOR_ERROR, "disk", "1000 B free of 1.00 TiB", "sallyctl gc");
	f.download_bytes = d->free + 1;
	finds(DOCTOR_ERROR, "disk", "still to come", "sallyctl gc");
	d->files_free = 7;
	finds(DOCTOR_ERROR, "disk", "7 more files", "df -i");
	d->free = UINT64_C(5) << 30;
	finds(DOCTOR_WARNING, "disk", "5.00 GiB free", "sallyctl gc");
	d->error = EIO;
	finds(DOCTOR_ERROR, "disk", "Input/output error", "findmnt");
}

static void
no_sandbox(const char *kind)
{
	f.sandbox = text_of(kind);
	sp_err_set(&f.sandbox_err, SP_E_UNSUPPORTED, "no namespaces");
}

static void
clock_and_kernel(void **state)
{
	(void)state;
	f.clock_synchronised = 0;
	finds(DOCTOR_WARNING, "clock", "kept by nobody", "timedatectl");
	host.log_time = text_of("2026-11-24T05:03:03.123Z");
	finds(DOCTOR_ERROR, "clock", "lies 1 min 00 s in the future", "set-time");
	f.rmem_max = 212992;
	finds(DOCTOR_WARNING, "sysctl", "rmem_max is 212992", "sysctl net.core.rmem_max=67108864");
	f.daemons[1].nofile = 1024; /* enough for it */
	judge();
	assert_int_equal(r.warnings, 0);
	no_sandbox("bubblewrap");
	finds(DOCTOR_ERROR, "sandbox", "no namespaces", "user.max_user_namespaces=15000");
	no_sandbox("bubblewrap");
	f.userns_max = 1000;
	finds(DOCTOR_ERROR, "sandbox", "no namespaces", "unprivileged_userns_clone");
	no_sandbox("landlock");
	finds(DOCTOR_ERROR, "sandbox", "(landlock)", "Landlock");
	f.curve = 0;
	finds(DOCTOR_ERROR, "libraries", "without CURVE", "libzmq5");
}

static void
bastion(void **state)
{
	(void)state;
	f.side = text_of("bastion");
	f.rmem_max = 1;
	f.wmem_max = 4096;
	finds(DOCTOR_WARNING, "sysctl", "wmem_max is 4096", "net.core.wmem_max");
	f.endpoint = text_of("http://mirror.example/hf");
	finds(DOCTOR_WARNING, "network", "mirror.example", "https");
	f.endpoint = text_of("http://127.0.0.1:8080");
	judge();
	assert_int_equal(r.warnings, 0);
}

static void
certificate(void **state)
{
	(void)state;
	f.certificate.error = ENOENT;
	finds(DOCTOR_ERROR, "certificate", "tls.crt: No such", "put the webhook's");
	f.certificate_key.error = ENOENT;
	finds(DOCTOR_ERROR, "certificate", "tls.key: No such", "put the webhook's");
	f.certificate_key.mode = 0644;
	finds(DOCTOR_ERROR, "certificate", "others may read", "chmod 0400 /tls/tls.key");
	f.certificate_ms = -1;
	finds(DOCTOR_ERROR, "certificate", "no certificate", "PEM");
	f.certificate_ms = f.unix_ms - 1;
	finds(DOCTOR_ERROR, "certificate", "has expired", "issue it anew");
	f.certificate_ms = f.unix_ms + 3 * DAY_MS;
	finds(DOCTOR_WARNING, "certificate", "expires in 3 d", "issue it anew");
}

static void
listening(void **state)
{
	static const char *const public[] = {"0.0.0.0:8780", "[::]:8780", ":8780", "*:1",
	    "192.0.2.1:1", "172.32.0.1:1", "[2001:db8::1]:1", "[::ffff:8.8.8.8]:1", "8.8.8.8"};
	static const char *const private[] = {"127.0.0.1:1", "[::1]:1", "10.9.8.7:1",
	    "172.16.0.1:1", "172.31.255.255:1", "192.168.1.1:1", "169.254.0.1:1", "[fd00::1]:1",
	    "[fe80::1]:1", "[::ffff:10.0.0.1]:1", "localhost:1"};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(public) / sizeof(public[0]); i++)
		if (!doctor_is_public(public[i]))
			fail_msg("%s", public[i]);
	for (i = 0; i < sizeof(private) / sizeof(private[0]); i++)
		if (doctor_is_public(private[i]))
			fail_msg("%s", private[i]);
	f.tcp = text_of("0.0.0.0:8790");
	finds(DOCTOR_WARNING, "network", "bus.tcp is 0.0.0.0:8790", "firewall");
	f.listen = text_of("0.0.0.0:8780");
	finds(DOCTOR_WARNING, "network", "0.0.0.0:8780", "proxy with TLS");
}

static void
output(void **state)
{
	const char *level, *todo;
	char *text = NULL;
	json_t *doc;
	size_t len;
	FILE *to;

	(void)state;
	doctor_say(&r, DOCTOR_OK, "a", "well");
	doctor_say(&r, DOCTOR_ERROR, "b", "bad \x1b[2J\xff");
	doctor_todo(&r, "mend %d", 7);
	doc = doctor_report_json(&r, "enclave");
	assert_int_equal(
	    json_unpack(doc, "{s:[{s:s}, {s:s}]}", "findings", "level", &level, "do", &todo), 0);
	assert_string_equal(level, "ok");
	assert_string_equal(todo, "mend 7");
	assert_int_equal(json_integer_value(json_object_get(doc, "errors")), 1);
	json_decref(doc);
	to = open_memstream(&text, &len);
	doctor_report_print(&r, to);
	fclose(to);
	assert_string_equal(text, "ok       a              well\n"
				  "error    b              bad \\x1b[2J\\xff\n"
				  "                          do: mend 7\n"
				  "\n1 error, 0 warnings\n");
	free(text);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(all_well, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(configuration, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(directories, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(one_user, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(elsewhere, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(limits, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(secret_keys, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(trust_document, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(ledgerd, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(disks, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(clock_and_kernel, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(bastion, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(certificate, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(listening, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(output, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, set_up_all, tear_down_all);
}
