/* registryd_state.c -- registrations and snapshots on disk, and the catalog made from them. */
#include "base/file.h"
#include "base/log.h"
#include "base/time.h"
#include "registryd.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ENTRY_MAX 4096 /* bytes of a registration */
#define OIDS_MAX ((size_t)8 << 20)

/* --- git ids ------------------------------------------------------------------------------------
 */

static enum sp_code
hash_blob(const struct sp_store *store, const struct sp_tree_file *file, struct sp_git_oid *oid,
    struct sp_err *err)
{
	struct sp_hash *hash = sp_git_blob_new(file->size);
	enum sp_code code;
	uint8_t *data = NULL;
	size_t len;

	/* no LFS file, hence small; verified by the read */
	code = sp_store_read(store, file->sha256.s, SP_CATALOG_LFS_BYTES, &data, &len, err);
	if (code == SP_OK) {
		sp_hash_add(hash, data, len);
		*oid = sp_git_blob_finish(hash);
	}
	sp_hash_free(&hash);
	free(data);
	return code;
}

static enum sp_code
compute_oids(const struct registryd *r, const struct sp_tree *tree, const char *path,
    struct sp_git_oid *oids, struct sp_err *err)
{
	enum sp_code code = SP_OK;
	char *text;
	size_t len;

	memset(oids, 0, tree->count * sizeof(*oids));
	for (size_t i = 0; code == SP_OK && i < tree->count; i++)
		if (!sp_catalog_is_lfs(tree->files[i].path, tree->files[i].size))
			code = hash_blob(r->store, &tree->files[i], &oids[i], err);
	if (code != SP_OK)
		return code;
	text = registryd_oids_format(tree, oids, &len);
	code = sp_file_write(path, 0640, text, len, err);
	free(text);
	return code;
}

static enum sp_code
take_oids(const struct registryd *r, const char *digest, const struct sp_tree *tree,
    struct sp_git_oid *oids, struct sp_err *err)
{
	char *path = sp_xasprintf("%s/oids/%s", r->state, digest);
	enum sp_code code;
	uint8_t *data = NULL;
	struct sp_err why;
	size_t len;

	code = sp_file_read(path, OIDS_MAX, &data, &len, &why);
	if (code == SP_OK)
		code = registryd_oids_parse(data, len, tree, oids, &why);
	/* what is missing or spoilt is worked out again: the blobs say it all */
	if (code != SP_OK)
		code = compute_oids(r, tree, path, oids, err);
	free(data);
	free(path);
	return code;
}

/* --- serving ------------------------------------------------------------------------------------
 */

static enum sp_catalog_kind
kind_of(const struct registryd_entry *entry)
{
	enum sp_catalog_kind kind;

	/* no entry is made of another kind */
	SP_ASSERT(sp_catalog_kind(entry->kind, &kind));
	return kind;
}

enum sp_code
registryd_serve_tree(struct registryd *r, const struct registryd_entry *entry, struct sp_err *err)
{
	struct sp_tree tree = {0};
	struct sp_git_oid *oids = NULL;
	enum sp_code code;

	code = sp_tree_load(r->store, entry->tree.s, &tree, err);
	if (code != SP_OK)
		return code;
	oids = sp_xcalloc(tree.count + 1, sizeof(*oids));
	code = take_oids(r, entry->tree.s, &tree, oids, err);
	if (code == SP_OK) {
		pthread_rwlock_wrlock(&r->lock);
		code = sp_catalog_add(&r->catalog, kind_of(entry), entry->name, entry->version,
		    entry->tree.s, entry->time, &tree, oids, err);
		pthread_rwlock_unlock(&r->lock);
	}
	free(oids);
	sp_tree_clear(&tree);
	return code;
}

/* --- registrations ------------------------------------------------------------------------------
 */

static enum sp_code
load_entry(struct registryd *r, const char *path, const char *key, struct sp_err *err)
{
	struct registryd_entry entry;
	enum sp_code code;
	uint8_t *data = NULL;
	struct sp_err why;
	struct sp_hex is;
	size_t len;

	code = sp_file_read(path, ENTRY_MAX, &data, &len, err);
	if (code == SP_OK) {
		code = registryd_entry_parse(data, len, &entry, err);
		if (code != SP_OK && err != NULL)
			sp_err_prefix(err, "%s", path);
	}
	free(data);
	if (code != SP_OK)
		return code;
	is = registryd_entry_key(entry.name, entry.version);
	if (strncmp(is.s, key, SP_HEX_LEN) != 0)
		return sp_err_set(err, SP_E_INVALID,
		    "%s: %s@%" PRId64 " belongs under another name", path, entry.name,
		    entry.version);
	registryd_entries_add(&r->entries, &entry);
	/* it stays registered, so that its version is never given to another tree */
	if (registryd_serve_tree(r, &entry, &why) != SP_OK)
		sp_log_error(NULL, "%s version %" PRId64 " cannot be served: %s", entry.name,
		    entry.version, why.msg);
	return SP_OK;
}

/* "KEY.json"; other names are what a crash left of a file being written */
static int
is_entry_name(const char *name)
{
	char key[SP_HEX_LEN + 1];

	if (strlen(name) != SP_HEX_LEN + 5 || strcmp(name + SP_HEX_LEN, ".json") != 0)
		return 0;
	memcpy(key, name, SP_HEX_LEN);
	key[SP_HEX_LEN] = '\0';
	return sp_hex_is_digest(key);
}

static enum sp_code
load_entries(struct registryd *r, struct sp_err *err)
{
	char *dir_path = sp_xasprintf("%s/models", r->state), *path;
	enum sp_code code = SP_OK;
	struct dirent *de;
	DIR *dir;

	dir = opendir(dir_path);
	if (dir == NULL)
		code = sp_err_errno(err, "cannot open directory %s", dir_path);
	while (code == SP_OK) {
		errno = 0;
		de = readdir(dir);
		if (de == NULL) {
			if (errno != 0)
				code = sp_err_errno(err, "cannot read directory %s", dir_path);
			break;
		}
		if (!is_entry_name(de->d_name))
			continue;
		path = sp_xasprintf("%s/%s", dir_path, de->d_name);
		code = load_entry(r, path, de->d_name, err);
		free(path);
	}
	if (dir != NULL)
		closedir(dir);
	free(dir_path);
	return code;
}

static const struct sp_catalog_revision *
find_served(const struct registryd *r, const struct registryd_entry *entry,
    const struct sp_catalog_repo **repo)
{
	*repo = sp_catalog_find(&r->catalog, kind_of(entry), entry->name);
	for (size_t i = 0; *repo != NULL && i < (*repo)->count; i++)
		if ((*repo)->revisions[i].version == entry->version)
			return &(*repo)->revisions[i];
	return NULL;
}

/* 1: the file registers that tree as that version, too. */
static int
is_same(const char *path, const struct registryd_entry *entry)
{
	struct registryd_entry there;
	uint8_t *data = NULL;
	size_t len;
	int same;

	same = sp_file_read(path, ENTRY_MAX, &data, &len, NULL) == SP_OK &&
	       registryd_entry_parse(data, len, &there, NULL) == SP_OK &&
	       strcmp(there.name, entry->name) == 0 && there.version == entry->version &&
	       strcmp(there.tree.s, entry->tree.s) == 0;
	free(data);
	return same;
}

static enum sp_code
write_entry(struct registryd *r, const struct registryd_entry *entry, struct sp_err *err)
{
	struct sp_hex key = registryd_entry_key(entry->name, entry->version);
	char *path = sp_xasprintf("%s/models/%s.json", r->state, key.s), *text;
	enum sp_code code;
	size_t len;

	text = registryd_entry_format(entry, &len);
	code = sp_file_create(path, 0640, text, len, err);
	/* left by an attempt that failed when it synced the directory: it was not acknowledged */
	if (code == SP_E_EXISTS && is_same(path, entry))
		code = sp_file_write(path, 0640, text, len, err);
	free(path);
	free(text);
	if (code != SP_OK)
		return code;
	pthread_rwlock_wrlock(&r->lock);
	registryd_entries_add(&r->entries, entry);
	pthread_rwlock_unlock(&r->lock);
	return SP_OK;
}

enum sp_code
registryd_state_add(struct registryd *r, const struct registryd_entry *entry, struct sp_err *err)
{
	const struct sp_catalog_repo *repo;
	int known, served;
	enum sp_code code;

	pthread_rwlock_rdlock(&r->lock);
	code = registryd_admit(&r->entries, entry, &known, err);
	served = find_served(r, entry, &repo) != NULL;
	pthread_rwlock_unlock(&r->lock);
	if (code == SP_OK && !known)
		code = write_entry(r, entry, err);
	/* known, but not served: its tree was damaged when we started, and has now come again */
	if (code == SP_OK && !served)
		code = registryd_serve_tree(r, entry, err);
	return code;
}

/* --- snapshots ----------------------------------------------------------------------------------
 */

static char *
version_path(const struct registryd *r)
{
	return sp_xasprintf("%s/snapshot.version", r->state);
}

/* The number is on disk before anything carries it: a crash may waste one, never use it twice. */
static enum sp_code
next_version(struct registryd *r, struct sp_err *err)
{
	char *path = version_path(r), text[32];
	enum sp_code code;
	int len;

	len = snprintf(text, sizeof(text), "%" PRId64 "\n", r->snapshot_version + 1);
	code = sp_file_write(path, 0640, text, (size_t)len, err);
	if (code == SP_OK)
		r->snapshot_version++;
	free(path);
	return code;
}

static void
fill_model(struct sp_snapshot_model *m, const struct sp_catalog_repo *repo,
    const struct sp_catalog_revision *rev, const struct registryd_entry *entry)
{
	m->name = repo->name;
	m->kind = (char *)(uintptr_t)entry->kind;
	m->version = rev->version;
	m->tree = rev->tree;
	m->release = entry->release;
	m->revision = rev->commit;
	m->bytes = rev->bytes;
	m->files = sp_xcalloc(rev->file_count + 1, sizeof(*m->files));
	m->file_count = rev->file_count;
	for (size_t i = 0; i < rev->file_count; i++)
		m->files[i] = rev->files[i].path;
}

enum sp_code
registryd_state_sign(struct registryd *r, struct sp_err *err)
{
	struct sp_rfc3339 now = sp_time_rfc3339(sp_time_unix_ms());
	struct sp_snapshot snapshot = {0};
	const struct sp_catalog_repo *repo;
	char *envelope = NULL, *path = NULL;
	enum sp_code code;
	size_t len;

	/* it lacks what was registered since: if we fail, it must not go out again under this
	 * number */
	free(r->snapshot);
	r->snapshot = NULL;
	code = next_version(r, err);
	if (code != SP_OK)
		return code;
	snapshot.version = r->snapshot_version;
	snprintf(snapshot.origin, sizeof(snapshot.origin), "%s", r->origin);
	snprintf(snapshot.time, sizeof(snapshot.time), "%s", now.s);
	pthread_rwlock_rdlock(&r->lock);
	snapshot.models = sp_xcalloc(r->entries.count + 1, sizeof(*snapshot.models));
	for (size_t i = 0; i < r->entries.count; i++) {
		const struct registryd_entry *entry = &r->entries.entries[i];
		const struct sp_catalog_revision *rev = find_served(r, entry, &repo);

		if (rev != NULL)
			fill_model(&snapshot.models[snapshot.count++], repo, rev, entry);
	}
	code = sp_snapshot_sign(&snapshot, r->key, &envelope, &len, err);
	pthread_rwlock_unlock(&r->lock);
	for (size_t i = 0; i < snapshot.count; i++)
		free(snapshot.models[i].files);
	free(snapshot.models);
	if (code != SP_OK)
		return code;
	path = sp_xasprintf("%s/snapshot.json", r->state);
	code = sp_file_write(path, 0640, envelope, len, err);
	free(path);
	if (code != SP_OK) {
		free(envelope);
		return code;
	}
	r->snapshot = envelope;
	r->snapshot_len = len;
	r->snapshot_ms = sp_time_monotonic_ms();
	return SP_OK;
}

/* The newest version that may have been used. Its file is written first, so it is never behind. */
static enum sp_code
load_version(struct registryd *r, struct sp_err *err)
{
	char *path = version_path(r), *signed_path;
	enum sp_code code;
	uint8_t *data = NULL;
	size_t len;

	code = sp_file_read(path, 64, &data, &len, err);
	signed_path = sp_xasprintf("%s/snapshot.json", r->state);
	if (code == SP_OK)
		r->snapshot_version = registryd_version_parse(data, len);
	else if (code == SP_E_NOT_FOUND && access(signed_path, F_OK) != 0)
		code = SP_OK; /* nothing was ever signed */
	if (r->snapshot_version < 0 || code == SP_E_NOT_FOUND)
		code = sp_err_set(err, SP_E_CORRUPT,
		    "%s is damaged: write into it the highest snapshot version that admissiond has "
		    "seen",
		    path);
	free(signed_path);
	free(data);
	free(path);
	return code;
}

enum sp_code
registryd_state_load(struct registryd *r, struct sp_err *err)
{
	static const char *const dirs[] = {"models", "oids"};
	enum sp_code code = SP_OK;
	char *path;

	for (size_t i = 0; code == SP_OK && i < 2; i++) {
		path = sp_xasprintf("%s/%s", r->state, dirs[i]);
		code = sp_file_mkdirs(path, 0750, err);
		free(path);
	}
	if (code == SP_OK)
		code = load_entries(r, err);
	if (code == SP_OK)
		code = load_version(r, err);
	return code;
}

void
registryd_state_clear(struct registryd *r)
{
	sp_catalog_clear(&r->catalog);
	free(r->entries.entries);
	memset(&r->entries, 0, sizeof(r->entries));
	free(r->snapshot);
	r->snapshot = NULL;
}
