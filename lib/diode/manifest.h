/* manifest.h -- what a transfer consists of (proto/diode.proto), written and checked. */
#ifndef SP_MANIFEST_H
#define SP_MANIFEST_H

#include "base/err.h"
#include "base/hash.h"

#define SP_MANIFEST_OBJECTS_MAX (SP_TREE_FILES_MAX + 1000) /* a tree's files and what vouches */
#define SP_MANIFEST_MAX (8u << 20)			   /* bytes of one: about 50 per object */

enum sp_object_kind { SP_OBJECT_RELEASE = 1, SP_OBJECT_TREE, SP_OBJECT_BLOB };

struct sp_object {
	uint8_t digest[SP_DIGEST_LEN];
	uint64_t size;
	enum sp_object_kind kind;
};

struct sp_manifest {
	char job[SP_JOB_ID_LEN + 1];
	uint8_t release[SP_DIGEST_LEN];
	struct sp_object *objects; /* malloc'd */
	size_t count;
};

/* Both refuse the same manifests: job not 32 lower-case hex digits, no objects or too many, an
 * unknown kind, two digests that agree in their first 16 bytes (the object id), release not the one
 * object of kind RELEASE (SP_E_INVALID, SP_E_LIMIT). The bytes of equal manifests are equal: passes
 * and resends name the same object. */
enum sp_code sp_manifest_pack(const struct sp_manifest *manifest, uint8_t **data, size_t *len,
    struct sp_err *err) SP_MUST_USE;
enum sp_code sp_manifest_parse(
    const uint8_t *data, size_t len, struct sp_manifest *out, struct sp_err *err) SP_MUST_USE;
void sp_manifest_clear(struct sp_manifest *manifest);

#endif
