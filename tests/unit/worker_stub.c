/* worker_stub.c -- the worker's side of the bus, for tests of steps. */
#include "worker_stub.h"
#include "base/file.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void
worker_stub_clear(struct sp_worker *worker)
{
	sp_conf_free(&worker->conf);
	free(worker->published);
	memset(worker, 0, sizeof(*worker));
}

const struct sp_conf *
sp_worker_conf(const struct sp_worker *worker)
{
	return worker->conf;
}

enum sp_code
sp_worker_trust(const struct sp_worker *worker, struct sp_trust **trust, struct sp_err *err)
{
	struct sp_dsse dsse;
	enum sp_code code;

	code = sp_dsse_parse(
	    (const uint8_t *)worker->trust_envelope, strlen(worker->trust_envelope), &dsse, err);
	if (code != SP_OK)
		return code;
	code = sp_trust_parse(dsse.payload, dsse.payload_len, trust, err);
	sp_dsse_clear(&dsse);
	return code;
}

enum sp_code
sp_worker_publish(struct sp_worker *worker, const char *topic, const void *content, size_t len,
    int timeout_ms, struct sp_err *err)
{
	enum sp_code code;

	(void)timeout_ms;
	pthread_mutex_lock(&lock);
	worker->publishes++;
	code = worker->publish_code;
	if (code != SP_OK) {
		sp_err_set(err, code, "the stub does not publish %s", topic);
	} else {
		free(worker->published);
		worker->published = sp_xcalloc(len + 1, 1);
		memcpy(worker->published, content, len);
		worker->published_len = len;
	}
	pthread_mutex_unlock(&lock);
	return code;
}

void
sp_lease_progress(
    struct sp_lease *lease, const char *phase, uint64_t done, uint64_t total, const char *unit)
{
	(void)phase;
	(void)unit;
	pthread_mutex_lock(&lock);
	lease->reports++;
	lease->done = done;
	lease->total = total;
	pthread_mutex_unlock(&lock);
}

void
sp_lease_progress_files(struct sp_lease *lease, const struct sp_lease_file *files, size_t count)
{
	(void)files;
	pthread_mutex_lock(&lock);
	lease->files = count;
	pthread_mutex_unlock(&lock);
}

void
sp_lease_note(struct sp_lease *lease, const char *kind, const void *content, size_t len)
{
	(void)kind;
	pthread_mutex_lock(&lock);
	lease->notes++;
	snprintf(lease->note, sizeof(lease->note), "%.*s", (int)len, (const char *)content);
	pthread_mutex_unlock(&lock);
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

int
sp_lease_cancelled(const struct sp_lease *lease)
{
	return lease->cancelled;
}

char *
sp_lease_workdir(const struct sp_lease *lease, const char *key, struct sp_err *err)
{
	char *dir;

	SP_ASSERT(sp_hex_is_digest(key));
	dir = sp_xasprintf("%s/%s", lease->dir, key);
	if (sp_file_mkdirs(dir, 0700, err) != SP_OK) {
		free(dir);
		return NULL;
	}
	return dir;
}
