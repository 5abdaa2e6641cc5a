/* lease.h -- what worker.h's struct sp_lease holds; for lib/bus alone. */
#ifndef SP_LEASE_H
#define SP_LEASE_H

#include "bus/envelope.h"
#include "bus/worker.h"

#include <pthread.h>
#include <stdatomic.h>

/* In a directory of work, before the id of each job whose step has worked there: an empty file. */
#define SP_LEASE_MARK ".job-"

struct sp_lease {
	char id[SP_JOB_ID_LEN + 1];
	char job[SP_JOB_ID_LEN + 1]; /* "": none */
	char *state_dir;
	atomic_int cancelled;
	int fd;	    /* where a child says its progress; -1 in the daemon */
	void *kept; /* the daemon's own, by sp_lease_keep */
	void (*end_kept)(void *data);
	pthread_mutex_t lock; /* of what follows */
	char phase[SP_BUS_LINE_MAX + 1], unit[SP_BUS_LINE_MAX + 1];
	uint64_t done, total;
	struct sp_lease_files *files; /* NULL: none */
	int files_are_new;	      /* no report has named them yet */
	int64_t said_ms;
};

/* A progress report and all that it points to. */
struct sp_lease_report {
	Sallyport__Progress progress;
	char phase[SP_BUS_LINE_MAX + 1], unit[SP_BUS_LINE_MAX + 1];
	struct sp_lease_files *files;
};

/* state_dir: copied. */
void sp_lease_init(
    struct sp_lease *lease, const char *id, const char *job, const char *state_dir, int fd);
void sp_lease_destroy(struct sp_lease *lease);
void sp_lease_cancel(struct sp_lease *lease);
/* The newest progress. *out points into itself and to the lease's id; clear it. */
void sp_lease_read(struct sp_lease *lease, struct sp_lease_report *out);
void sp_lease_report_clear(struct sp_lease_report *report);

#endif
