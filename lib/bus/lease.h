/* lease.h -- what worker.h's struct sp_lease holds; for lib/bus alone. */
#ifndef SP_LEASE_H
#define SP_LEASE_H

#include "bus/envelope.h"
#include "bus/worker.h"

#include <pthread.h>
#include <stdatomic.h>

struct sp_lease {
	char id[33];
	char *state_dir;
	atomic_int cancelled;
	int fd;		      /* where a child says its progress; -1 in the daemon */
	pthread_mutex_t lock; /* of what follows */
	char phase[SP_BUS_LINE_MAX + 1], unit[SP_BUS_LINE_MAX + 1];
	uint64_t done, total;
	int64_t said_ms;
};

/* state_dir: copied. */
void sp_lease_init(struct sp_lease *lease, const char *id, const char *state_dir, int fd);
void sp_lease_destroy(struct sp_lease *lease);
void sp_lease_cancel(struct sp_lease *lease);
/* The newest progress; phase and unit point to the buffers. */
void sp_lease_read(struct sp_lease *lease, Sallyport__Progress *out,
    char phase[SP_BUS_LINE_MAX + 1], char unit[SP_BUS_LINE_MAX + 1]);

#endif
