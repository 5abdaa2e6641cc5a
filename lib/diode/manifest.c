/* manifest.c -- what a transfer consists of. */
#include "diode/manifest.h"

#include "diode/frame.h"
#include "proto/diode.pb-c.h"

#include <stdlib.h>
#include <string.h>

#define VERSION 1

static int
compare_ids(const void *a, const void *b)
{
	const struct sp_object *const *x = a, *const *y = b;

	return memcmp((*x)->digest, (*y)->digest, SP_FRAME_ID_LEN);
}

static enum sp_code
check_distinct(const struct sp_manifest *manifest, struct sp_err *err)
{
	const struct sp_object **sorted = sp_xcalloc(manifest->count, sizeof(*sorted));
	enum sp_code code = SP_OK;

	for (size_t i = 0; i < manifest->count; i++)
		sorted[i] = &manifest->objects[i];
	qsort(sorted, manifest->count, sizeof(*sorted), compare_ids);
	for (size_t i = 1; i < manifest->count && code == SP_OK; i++)
		if (compare_ids(&sorted[i - 1], &sorted[i]) == 0)
			code = sp_err_set(err, SP_E_INVALID, "manifest names object %s twice",
			    sp_hex_of(sorted[i]->digest).s);
	free(sorted);
	return code;
}

static enum sp_code
check(const struct sp_manifest *manifest, struct sp_err *err)
{
	uint8_t job[SP_JOB_ID_LEN / 2];
	size_t releases = 0;

	if (sp_hex_decode(manifest->job, job, sizeof(job)) != SP_OK)
		return sp_err_set(err, SP_E_INVALID,
		    "manifest: job is not %d lower-case hex digits", SP_JOB_ID_LEN);
	if (manifest->count == 0)
		return sp_err_set(
		    err, SP_E_INVALID, "manifest of job %s names no object", manifest->job);
	if (manifest->count > SP_MANIFEST_OBJECTS_MAX)
		return sp_err_set(err, SP_E_LIMIT,
		    "manifest of job %s names %zu objects, at most %d", manifest->job,
		    manifest->count, SP_MANIFEST_OBJECTS_MAX);
	for (size_t i = 0; i < manifest->count; i++) {
		const struct sp_object *object = &manifest->objects[i];

		if (object->kind < SP_OBJECT_RELEASE || object->kind > SP_OBJECT_BLOB)
			return sp_err_set(err, SP_E_INVALID,
			    "manifest of job %s: object %s has kind %d", manifest->job,
			    sp_hex_of(object->digest).s, (int)object->kind);
		if (object->kind != SP_OBJECT_RELEASE)
			continue;
		releases++;
		if (memcmp(object->digest, manifest->release, SP_DIGEST_LEN) != 0)
			releases = 2; /* another release than the named one */
	}
	if (releases != 1)
		return sp_err_set(err, SP_E_INVALID,
		    "manifest of job %s: release %s must be its one object of kind RELEASE",
		    manifest->job, sp_hex_of(manifest->release).s);
	return check_distinct(manifest, err);
}

enum sp_code
sp_manifest_pack(
    const struct sp_manifest *manifest, uint8_t **data, size_t *len, struct sp_err *err)
{
	Sallyport__DiodeManifest msg;
	Sallyport__DiodeObject *objects = NULL, **pointers = NULL;
	struct sp_manifest copy = *manifest; /* protobuf-c wants pointers it could write through */
	enum sp_code code = check(manifest, err);

	if (code != SP_OK)
		return code;
	sallyport__diode_manifest__init(&msg);
	objects = sp_xcalloc(manifest->count, sizeof(*objects));
	pointers = sp_xcalloc(manifest->count, sizeof(*pointers));
	for (size_t i = 0; i < manifest->count; i++) {
		sallyport__diode_object__init(&objects[i]);
		objects[i].digest.data = manifest->objects[i].digest;
		objects[i].digest.len = SP_DIGEST_LEN;
		objects[i].size = manifest->objects[i].size;
		objects[i].kind = (Sallyport__DiodeObject__Kind)manifest->objects[i].kind;
		pointers[i] = &objects[i];
	}
	msg.version = VERSION;
	msg.job = copy.job;
	msg.release.data = copy.release;
	msg.release.len = SP_DIGEST_LEN;
	msg.objects = pointers;
	msg.n_objects = manifest->count;
	*len = sallyport__diode_manifest__get_packed_size(&msg);
	*data = sp_xcalloc(1, *len);
	sallyport__diode_manifest__pack(&msg, *data);
	free(objects);
	free(pointers);
	return SP_OK;
}

static enum sp_code
take(const Sallyport__DiodeManifest *msg, struct sp_manifest *out, struct sp_err *err)
{
	if (msg->version != VERSION)
		return sp_err_set(err, SP_E_UNSUPPORTED, "manifest: version %u, this side reads %d",
		    msg->version, VERSION);
	if (strlen(msg->job) != SP_JOB_ID_LEN)
		return sp_err_set(err, SP_E_INVALID,
		    "manifest: job is not %d lower-case hex digits", SP_JOB_ID_LEN);
	if (msg->release.len != SP_DIGEST_LEN)
		return sp_err_set(
		    err, SP_E_INVALID, "manifest: release digest is not %d bytes", SP_DIGEST_LEN);
	memcpy(out->job, msg->job, SP_JOB_ID_LEN + 1);
	memcpy(out->release, msg->release.data, SP_DIGEST_LEN);
	out->objects = sp_xcalloc(msg->n_objects + 1, sizeof(*out->objects));
	out->count = msg->n_objects;
	for (size_t i = 0; i < msg->n_objects; i++) {
		const Sallyport__DiodeObject *object = msg->objects[i];

		if (object->digest.len != SP_DIGEST_LEN)
			return sp_err_set(err, SP_E_INVALID,
			    "manifest of job %s: digest of object %zu is not %d bytes", out->job, i,
			    SP_DIGEST_LEN);
		memcpy(out->objects[i].digest, object->digest.data, SP_DIGEST_LEN);
		out->objects[i].size = object->size;
		out->objects[i].kind = (enum sp_object_kind)object->kind;
	}
	return check(out, err);
}

/* A few bytes of protobuf can ask for a hundred times their size, so unpacking has a budget. */
static void *
budget_alloc(void *left, size_t size)
{
	size_t *budget = left;

	if (size > *budget)
		return NULL;
	*budget -= size;
	return malloc(size);
}

static void
budget_free(void *left, void *memory)
{
	(void)left;
	free(memory);
}

enum sp_code
sp_manifest_parse(const uint8_t *data, size_t len, struct sp_manifest *out, struct sp_err *err)
{
	size_t budget = 64u << 20;
	ProtobufCAllocator allocator = {budget_alloc, budget_free, &budget};
	Sallyport__DiodeManifest *msg;
	enum sp_code code;

	memset(out, 0, sizeof(*out));
	if (len > SP_MANIFEST_MAX)
		return sp_err_set(
		    err, SP_E_LIMIT, "manifest of %zu bytes, at most %u", len, SP_MANIFEST_MAX);
	msg = sallyport__diode_manifest__unpack(&allocator, len, data);
	if (msg == NULL)
		return sp_err_set(err, SP_E_INVALID, "manifest is not a DiodeManifest message");
	code = take(msg, out, err);
	sallyport__diode_manifest__free_unpacked(msg, &allocator);
	if (code != SP_OK)
		sp_manifest_clear(out);
	return code;
}

void
sp_manifest_clear(struct sp_manifest *manifest)
{
	free(manifest->objects);
	memset(manifest, 0, sizeof(*manifest));
}
