/* lease.c -- the lease that a step runs under, in the daemon and in its child. */
#include "bus/lease.h"
#include "base/file.h"
#include "base/log.h"
#include "base/path.h"
#include "base/time.h"
#include "bus/result.h"
#include "bus/spawn.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SAY_EVERY_MS 100     /* of a child's progress, unless the phase changes */
#define FILES_BYTES_MAX 4096 /* of a report's paths: a heartbeat has room for 64 leases' */
#define WORKDIR_TRIES 16

/* In one piece: shared by none, copied whole. */
struct sp_lease_files {
	Sallyport__FileProgress files[SP_BUS_FILES_MAX], *list[SP_BUS_FILES_MAX];
	size_t count, used;
	char paths[FILES_BYTES_MAX];
};

void
sp_lease_init(
    struct sp_lease *lease, const char *id, const char *job, const char *state_dir, int fd)
{
	memset(lease, 0, sizeof(*lease));
	snprintf(lease->id, sizeof(lease->id), "%s", id);
	snprintf(lease->job, sizeof(lease->job), "%s", job);
	lease->state_dir = sp_xstrdup(state_dir);
	lease->fd = fd;
	atomic_init(&lease->cancelled, 0);
	SP_ASSERT(pthread_mutex_init(&lease->lock, NULL) == 0);
}

void
sp_lease_destroy(struct sp_lease *lease)
{
	sp_lease_keep(lease, NULL, NULL);
	pthread_mutex_destroy(&lease->lock);
	free(lease->files);
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

void
sp_lease_keep(struct sp_lease *lease, void *data, void (*end)(void *data))
{
	if (lease->kept != NULL)
		lease->end_kept(lease->kept);
	lease->kept = data;
	lease->end_kept = end;
}

void *
sp_lease_kept(const struct sp_lease *lease)
{
	return lease->kept;
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

/* --- files ------------------------------------------------------------------------------------ */

static void
add_file(struct sp_lease_files *files, const char *path, uint64_t done, uint64_t total)
{
	size_t size = strlen(path) + 1;
	Sallyport__FileProgress *file;

	if (files->count == SP_BUS_FILES_MAX || size > FILES_BYTES_MAX - files->used)
		return;
	file = &files->files[files->count];
	sallyport__file_progress__init(file);
	file->path = files->paths + files->used;
	memcpy(file->path, path, size);
	files->used += size;
	file->done = done;
	file->total = total;
	files->list[files->count++] = file;
}

static void
point_to_files(Sallyport__Progress *progress, struct sp_lease_files *files)
{
	progress->n_files = files != NULL ? files->count : 0;
	progress->files = files != NULL ? files->list : NULL;
}

void
sp_lease_progress_files(struct sp_lease *lease, const struct sp_lease_file *files, size_t count)
{
	struct sp_lease_files *fresh = NULL;
	struct sp_err err;
	size_t i;

	if (count > 0)
		fresh = sp_xcalloc(1, sizeof(*fresh));
	for (i = 0; i < count; i++)
		if (sp_path_check(files[i].path, &err) == SP_OK)
			add_file(fresh, files[i].path, files[i].done, files[i].total);
		else
			sp_log_debug(NULL, "progress of a file: %s", err.msg);
	pthread_mutex_lock(&lease->lock);
	free(lease->files);
	lease->files = fresh;
	lease->files_are_new = 1;
	pthread_mutex_unlock(&lease->lock);
}

/* --- reports ---------------------------------------------------------------------------------- */

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
	point_to_files(&progress, lease->files);
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
	if (new_phase) {
		copy_line(lease->phase, phase);
		if (!lease->files_are_new) {
			free(lease->files);
			lease->files = NULL;
		}
	}
	lease->files_are_new = 0;
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
sp_lease_note(struct sp_lease *lease, const char *kind, const void *content, size_t len)
{
	char *copy = sp_xstrdup(kind); /* protobuf-c wants it writable */
	Sallyport__ChildEvent event;
	Sallyport__ChildNote note;
	struct sp_err err;

	SP_ASSERT(lease->fd >= 0);
	sallyport__child_event__init(&event);
	sallyport__child_note__init(&note);
	note.kind = copy;
	note.content.len = len;
	note.content.data = (uint8_t *)(uintptr_t)content;
	event.event_case = SALLYPORT__CHILD_EVENT__EVENT_NOTE;
	event.note = &note;
	pthread_mutex_lock(&lease->lock);
	if (sp_child_write(lease->fd, &event, &err) != SP_OK)
		sp_log_debug(NULL, "note: %s", err.msg);
	pthread_mutex_unlock(&lease->lock);
	free(copy);
}

void
sp_lease_read(struct sp_lease *lease, struct sp_lease_report *out)
{
	Sallyport__Progress *progress = &out->progress;
	size_t i;

	sallyport__progress__init(progress);
	out->files = NULL;
	pthread_mutex_lock(&lease->lock);
	strcpy(out->phase, lease->phase);
	strcpy(out->unit, lease->unit);
	progress->done = lease->done;
	progress->total = lease->total;
	if (lease->files != NULL)
		out->files = sp_xcalloc(1, sizeof(*out->files));
	for (i = 0; lease->files != NULL && i < lease->files->count; i++)
		add_file(out->files, lease->files->files[i].path, lease->files->files[i].done,
		    lease->files->files[i].total);
	pthread_mutex_unlock(&lease->lock);
	progress->lease = lease->id;
	progress->phase = out->phase;
	progress->unit = out->unit;
	point_to_files(progress, out->files);
}

void
sp_lease_report_clear(struct sp_lease_report *report)
{
	free(report->files);
	report->files = NULL;
}

/* So that a collection knows whether anybody still wants the directory. */
static enum sp_code
mark(const char *dir, const char *job, struct sp_err *err)
{
	char *path = sp_xasprintf("%s/" SP_LEASE_MARK "%s", dir, job);
	enum sp_code code = SP_OK;
	int fd;

	fd = open(path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		code = sp_err_errno(err, "cannot create %s", path);
	else
		close(fd);
	if (code == SP_OK)
		code = sp_file_sync_dir(dir, err);
	free(path);
	return code;
}

char *
sp_lease_workdir(const struct sp_lease *lease, const char *key, struct sp_err *err)
{
	enum sp_code code = SP_E_NOT_FOUND;
	char *dir;

	SP_ASSERT(sp_hex_is_digest(key));
	dir = sp_xasprintf("%s/work/%s", lease->state_dir, key);
	/* another job with the same inputs may be through with it, and remove it, right now */
	for (int tries = 0; code == SP_E_NOT_FOUND && tries < WORKDIR_TRIES; tries++) {
		code = sp_file_mkdirs(dir, 0700, err);
		if (code == SP_OK)
			code = mark(dir, lease->job, err);
	}
	if (code != SP_OK) {
		free(dir);
		return NULL;
	}
	return dir;
}
