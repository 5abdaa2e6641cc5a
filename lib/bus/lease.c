/* lease.c -- the lease that a step runs under, in the daemon and in its child. */
#include "bus/lease.h"
#include "base/file.h"
#include "base/log.h"
#include "base/time.h"
#include "bus/result.h"
#include "bus/spawn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SAY_EVERY_MS 100 /* of a child's progress, unless the phase changes */

void
sp_lease_init(struct sp_lease *lease, const char *id, const char *state_dir, int fd)
{
	memset(lease, 0, sizeof(*lease));
	snprintf(lease->id, sizeof(lease->id), "%s", id);
	lease->state_dir = sp_xstrdup(state_dir);
	lease->fd = fd;
	atomic_init(&lease->cancelled, 0);
	SP_ASSERT(pthread_mutex_init(&lease->lock, NULL) == 0);
}

void
sp_lease_destroy(struct sp_lease *lease)
{
	pthread_mutex_destroy(&lease->lock);
	free(lease->state_dir);
}

void
sp_lease_cancel(struct sp_lease *lease)
{
	atomic_store(&lease->cancelled, 1);
}

int
sp_lease_cancelled(const struct sp_lease *lease)
{
	return atomic_load(&lease->cancelled);
}

static void
copy_line(char out[SP_BUS_LINE_MAX + 1], const char *text)
{
	char *clean = sp_result_clean(text, SP_BUS_LINE_MAX), *at;

	for (at = clean; *at != '\0'; at++)
		if (*at == '\n' || *at == '\t')
			*at = ' ';
	strcpy(out, clean);
	free(clean);
}

/* Under the lock, so that two threads' reports do not go out in the wrong order. */
static void
say(struct sp_lease *lease)
{
	Sallyport__ChildEvent event;
	Sallyport__Progress progress;
	struct sp_err err;

	sallyport__child_event__init(&event);
	sallyport__progress__init(&progress);
	progress.phase = lease->phase;
	progress.unit = lease->unit;
	progress.done = lease->done;
	progress.total = lease->total;
	event.event_case = SALLYPORT__CHILD_EVENT__EVENT_PROGRESS;
	event.progress = &progress;
	if (sp_child_write(lease->fd, &event, &err) != SP_OK)
		sp_log_debug(NULL, "progress: %s", err.msg);
}

void
sp_lease_progress(
    struct sp_lease *lease, const char *phase, uint64_t done, uint64_t total, const char *unit)
{
	int64_t now_ms = sp_time_monotonic_ms();
	int new_phase;

	pthread_mutex_lock(&lease->lock);
	new_phase = strcmp(lease->phase, phase) != 0;
	if (new_phase)
		copy_line(lease->phase, phase);
	if (strcmp(lease->unit, unit) != 0)
		copy_line(lease->unit, unit);
	lease->done = done;
	lease->total = total;
	if (lease->fd >= 0 &&
	    (new_phase || done == total || now_ms - lease->said_ms >= SAY_EVERY_MS)) {
		lease->said_ms = now_ms;
		say(lease);
	}
	pthread_mutex_unlock(&lease->lock);
}

void
sp_lease_read(struct sp_lease *lease, Sallyport__Progress *out, char phase[SP_BUS_LINE_MAX + 1],
    char unit[SP_BUS_LINE_MAX + 1])
{
	sallyport__progress__init(out);
	pthread_mutex_lock(&lease->lock);
	strcpy(phase, lease->phase);
	strcpy(unit, lease->unit);
	out->done = lease->done;
	out->total = lease->total;
	pthread_mutex_unlock(&lease->lock);
	out->lease = lease->id;
	out->phase = phase;
	out->unit = unit;
}

char *
sp_lease_workdir(const struct sp_lease *lease, const char *key, struct sp_err *err)
{
	char *dir;

	SP_ASSERT(sp_hex_is_digest(key));
	dir = sp_xasprintf("%s/work/%s", lease->state_dir, key);
	if (sp_file_mkdirs(dir, 0700, err) != SP_OK) {
		free(dir);
		return NULL;
	}
	return dir;
}
