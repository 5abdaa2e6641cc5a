/*
 * doctor.h -- sallyctl doctor: what is seen of an installation, and what is to be said about it.
 *
 * doctor_facts.c and doctor_host.c look (files, keys, ledgerd; the host), doctor_judge.c and
 * doctor_judge_host.c say what it means: pure, so that each finding can be tested without a host
 * that has the fault.
 */
#ifndef CTL_DOCTOR_H
#define CTL_DOCTOR_H

#include "ctl.h"

#include <sys/types.h>

/* --- findings ------------------------------------------------------------------------------- */

enum doctor_level { DOCTOR_OK, DOCTOR_WARNING, DOCTOR_ERROR };

struct doctor_finding {
	enum doctor_level level;
	const char *check; /* a literal: "keys", "disk", … */
	char *seen;
	char *todo; /* what to do about it, with the command to type; NULL: nothing */
};

struct doctor_report {
	struct doctor_finding *list;
	size_t count, errors, warnings;
};
/* The finding just added is the report's last one; doctor_todo belongs to it. */
void doctor_say(struct doctor_report *report, enum doctor_level level, const char *check,
    const char *fmt, ...) SP_PRINTF(4, 5);
void doctor_todo(struct doctor_report *report, const char *fmt, ...) SP_PRINTF(2, 3);
void doctor_report_clear(struct doctor_report *report);
const char *doctor_level_word(enum doctor_level level); /* "ok", "warning", "error" */
json_t *doctor_report_json(const struct doctor_report *report, const char *side);
void doctor_report_print(const struct doctor_report *report, FILE *to);

/* --- which daemons there are ---------------------------------------------------------------- */

#define DOCTOR_KEYS_MAX 3 /* of a daemon */

struct doctor_service {
	const char *name;
	int bastion, enclave;		       /* where it runs */
	int store;			       /* has one of its own */
	const char *keys[DOCTOR_KEYS_MAX + 1]; /* names of its key files: roles; NULL-terminated */
};
extern const struct doctor_service doctor_services[]; /* the last has no name */
#define DOCTOR_SERVICES_MAX 8

/* --- facts ---------------------------------------------------------------------------------- */

/* A file or directory. */
struct doctor_path {
	char *path;
	int error; /* errno of stat, 0: it is there */
	int is_dir;
	mode_t mode; /* permission bits */
	int64_t uid, gid;
};

struct doctor_key {
	struct doctor_path file;
	enum sp_role role;
	int known;  /* the public half was read */
	int unread; /* whoever looks may not read the file */
	struct sp_pubkey public;
	struct sp_err err; /* why the file is no key of that role; SP_OK: it is one, or unread */
};

struct doctor_daemon {
	const struct doctor_service *service;
	int64_t uid; /* of its user, -1: there is no such user */
	struct doctor_path keys, state, store;
	struct doctor_key key[DOCTOR_KEYS_MAX];
	size_t key_count;
	/* `DAEMON -n`: its exit status, and the last line that it said; -1: it was not found */
	int status;
	char *said;
	int64_t nofile; /* open files that the running one may have; -1: not seen */
};

struct doctor_disk {
	char *what; /* "store", "state" */
	char *path;
	int error; /* errno of statvfs */
	uint64_t size, free, files_free;
	int read_only;
	int reflinks; /* 1: copies share their blocks; 0: not, or not known */
};

struct doctor_facts {
	const char *root; /* "" or a directory */
	int64_t uid;	  /* who looks */
	int system;	  /* a user per daemon, as installed; else all of it is one user's */
	int64_t unix_ms;

	char *conf_file;
	struct sp_err conf_err; /* SP_OK: it could be read */
	char *side;		/* NULL: not said */
	char *elsewhere;	/* host:port of the ledgerd that daemons here are told to use */

	struct doctor_path dirs[8]; /* that root, or the one user, owns */
	size_t dir_count;
	char *profiles; /* their directory; NULL: none are needed here, or they cannot be seen */
	size_t profile_count;
	int has_default;		/* the one that `submit` takes when it is told none */
	struct doctor_path run, socket; /* ledgerd's */
	char *socket_group;		/* NULL: has no name */
	struct doctor_daemon daemons[DOCTOR_SERVICES_MAX];
	size_t daemon_count;

	struct sp_trust *trust; /* NULL: trust_err */
	struct sp_err trust_err;

	const Sallyport__OperatorHost *host; /* NULL: host_err */
	struct sp_err host_err;
	struct sp_err checkpoint_err;	 /* SP_OK: signed by the log's key */
	uint64_t download_bytes;	 /* still to come */
	Sallyport__OperatorReply *reply; /* holds host */

	struct doctor_disk disks[2];
	size_t disk_count;
	char *database;
	int64_t database_bytes; /* -1: not seen */

	int clock_synchronised;	    /* -1: not known */
	int64_t rmem_max, wmem_max; /* -1: not known */
	int64_t rcvbuf_bytes;	    /* that diode-rxd asks for */
	char *tcp;		    /* ledgerd's for workers of other hosts, NULL: none */
	char *listen;		    /* registryd's */
	int64_t connections;	    /* that it is to take */
	char *endpoint;		    /* fetcherd's */
	char *sandbox;		    /* "bubblewrap", "landlock"; NULL: no validatord here */
	struct sp_err sandbox_err;
	int64_t userns_max;				 /* -1: not known */
	struct doctor_path certificate, certificate_key; /* admissiond's; path NULL: none needed */
	int64_t certificate_ms; /* it is good until; -1: it could not be read */
	char *zmq, *gnutls;	/* versions */
	int curve;		/* libzmq has it */
};

/* Whatever cannot be seen is noted as such: there is no error. */
void doctor_facts(struct ctl *ctl, struct doctor_facts *facts);		  /* doctor_facts.c */
void doctor_host(const struct sp_conf *conf, struct doctor_facts *facts); /* doctor_host.c */
struct doctor_path doctor_path(char *path);				  /* takes path over */
void doctor_facts_clear(struct doctor_facts *facts);

/* --- judgement, pure ------------------------------------------------------------------------ */

void doctor_judge(const struct doctor_facts *facts, struct doctor_report *report);
void doctor_judge_host(const struct doctor_facts *facts, struct doctor_report *report);
/* 1 when whoever reaches this machine over a network that is not private reaches that "host:port":
 * an address outside the private, link-local and loopback ranges, or all addresses at once. */
int doctor_is_public(const char *listen);

#endif
