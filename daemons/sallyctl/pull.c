/*
 * pull.c -- pull, verify.
 *
 *	DIR/sallyport-release.json		the release, as registered
 *	DIR/PATH				plain: each file of the tree
 *	DIR/models--ORG--NAME/refs/main		hf: a cache as huggingface_hub reads it
 *	DIR/models--ORG--NAME/snapshots/REV/PATH
 */
#include "base/file.h"
#include "models.h"
#include "place.h"
#include "scan.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define RELEASE_FILE "sallyport-release.json"

#define SIGNATURE_FILE "model.sig" /* OpenSSF Model Signing: may lie beside the files */

/* "models--org--name" */
static char *
cache_name(const char *name)
{
	const char *slash = strchr(name, '/');

	if (slash == NULL)
		return sp_xasprintf("models--%s", name);
	return sp_xasprintf("models--%.*s--%s", (int)(slash - name), name, slash + 1);
}

/* Where the files of the tree lie in that layout, malloc'd. */
static char *
files_dir(const char *dir, const struct sp_candidate *candidate, int hf)
{
	struct sp_git_oid revision = sp_tree_revision(candidate->tree.s);
	char *cache, *path;

	if (!hf)
		return sp_xstrdup(dir);
	cache = cache_name(candidate->name);
	path = sp_xasprintf("%s/%s/snapshots/%s", dir, cache, revision.s);
	free(cache);
	return path;
}

/* Where a cache names its revision, malloc'd. */
static char *
refs_path(const char *dir, const struct sp_candidate *candidate)
{
	char *cache = cache_name(candidate->name);
	char *path = sp_xasprintf("%s/%s/refs/main", dir, cache);

	free(cache);
	return path;
}

/* --- pull ----------------------------------------------------------------------------------- */

static enum sp_code
write_refs(const char *dir, const struct sp_candidate *candidate, struct sp_err *err)
{
	struct sp_git_oid revision = sp_tree_revision(candidate->tree.s);
	char *path = refs_path(dir, candidate), *refs;
	enum sp_code code;

	refs = sp_xasprintf("%.*s", (int)(strrchr(path, '/') - path), path);
	code = sp_file_mkdirs(refs, 0755, err);
	if (code == SP_OK)
		code = sp_file_write(path, 0644, revision.s, strlen(revision.s), err);
	free(path);
	free(refs);
	return code;
}

struct pull {
	struct ctl *ctl;
	const struct ctl_registered *r;
	const struct sp_tree *tree;
	int hf;
};

/* Files, refs and release into a directory that nobody looks at yet. */
static enum sp_code
fill(void *ctx, const char *dir, struct sp_err *err)
{
	const struct pull *pull = ctx;
	const struct sp_candidate *candidate = &pull->r->release->candidate;
	struct ctl_meter meter = {.what = "pulling", .on = ctl_meter_wanted(pull->ctl)};
	char *files = files_dir(dir, candidate, pull->hf), *path;
	enum sp_code code;

	code =
	    sp_tree_materialize(pull->r->store, pull->tree, files, ctl_meter_progress, &meter, err);
	ctl_meter_end(&meter);
	if (code == SP_OK && pull->hf)
		code = write_refs(dir, candidate, err);
	path = sp_xasprintf("%s/%s", dir, RELEASE_FILE);
	if (code == SP_OK)
		code = sp_file_write(path, 0644, pull->r->envelope, pull->r->envelope_len, err);
	free(path);
	free(files);
	return code;
}

static void
print_pulled(struct ctl *ctl, const struct ctl_registered *r, const struct sp_tree *tree,
    const char *dir, int hf)
{
	const struct sp_candidate *c = &r->release->candidate;
	char *files = files_dir(dir, c, hf);

	if (ctl->json) {
		ctl_out_json(json_pack("{s:s, s:I, s:s, s:s, s:s, s:s, s:I, s:I}", "name", c->name,
		    "version", (json_int_t)c->version, "tree", c->tree.s, "release",
		    r->release->digest.s, "dir", dir, "files_dir", files, "files",
		    (json_int_t)tree->count, "bytes", (json_int_t)sp_tree_bytes(tree)));
	} else {
		ctl_out_print(stdout, "%s version %" PRId64 ": %zu files, %s, each verified\n",
		    c->name, c->version, tree->count, ctl_out_size(sp_tree_bytes(tree)).s);
		ctl_out_field(stdout, "files", "%s", files);
		ctl_out_field(stdout, "release", "%s/%s", dir, RELEASE_FILE);
		ctl_out_field(stdout, "tree", "%s", c->tree.s);
		if (hf)
			ctl_out_print(stdout,
			    "\nNext: HF_HUB_CACHE=%s HF_HUB_OFFLINE=1, model name %s\n", dir,
			    c->name);
		else
			ctl_out_print(
			    stdout, "\nNext: `sallyctl verify %s` wherever it is copied\n", dir);
	}
	free(files);
}

enum sp_code
ctl_pull(struct ctl *ctl, const struct ctl_args *args, struct sp_err *err)
{
	const char *layout = ctl_args_get(args, "--layout");
	int hf = layout != NULL && strcmp(layout, "hf") == 0;
	struct ctl_registered r;
	struct sp_tree tree = {0};
	struct pull pull = {ctl, &r, &tree, hf};
	enum sp_code code;
	char *dir;

	if (layout != NULL && !hf && strcmp(layout, "plain") != 0)
		return ctl_usage(ctl, err, "--layout is plain or hf, not \"%.40s\"", layout);
	dir = ctl_place_dir(args->words[1]);
	code = ctl_registered_open(ctl, args->words[0], &r, err);
	if (code == SP_OK)
		code = sp_tree_load(r.store, r.release->candidate.tree.s, &tree, err);
	if (code == SP_OK && hf && strcmp(r.model->kind, "model") != 0)
		code = sp_err_set(err, SP_E_UNSUPPORTED,
		    "%s is of the kind \"%s\": --layout hf is for models", r.model->name,
		    r.model->kind);
	if (code == SP_OK && sp_tree_find(&tree, RELEASE_FILE) != NULL)
		code = sp_err_set(err, SP_E_UNSUPPORTED,
		    "the model itself has a file %s, which would be taken for its release",
		    RELEASE_FILE);
	if (code == SP_OK)
		code = ctl_place_check(dir, err);
	if (code == SP_OK)
		code = ctl_place(dir, fill, &pull, err);
	if (code == SP_OK)
		print_pulled(ctl, &r, &tree, dir, hf);
	sp_tree_clear(&tree);
	ctl_registered_clear(&r);
	free(dir);
	return code;
}

/* --- verify --------------------------------------------------------------------------------- */

/* What the release's bill of materials says of a path; NULL when it lists no such file. */
static const json_t *
bom_file(const json_t *files, const char *path)
{
	const char *name;
	size_t i;

	for (i = 0; i < json_array_size(files); i++) {
		name = json_string_value(json_object_get(json_array_get(files, i), "name"));
		if (name != NULL && strcmp(name, path) == 0)
			return json_array_get(files, i);
	}
	return NULL;
}

static const char *
bom_property(const json_t *file, const char *name)
{
	const json_t *list = json_object_get(file, "properties"), *p;
	const char *key, *value;
	size_t i;

	for (i = 0; i < json_array_size(list); i++) {
		p = json_array_get(list, i);
		key = json_string_value(json_object_get(p, "name"));
		value = json_string_value(json_object_get(p, "value"));
		if (key != NULL && value != NULL && strcmp(key, name) == 0)
			return value;
	}
	return "";
}

/* The first file that differs from the list in the bill of materials. */
static enum sp_code
name_difference(const json_t *files, const struct sp_tree *tree, struct sp_err *err)
{
	const struct sp_tree_file *file;
	const char *sha256, *path;
	const json_t *listed;
	size_t i;

	if (files == NULL)
		return sp_err_set(err, SP_E_CORRUPT,
		    "some file differs; which one the release, too large to list them, cannot say");
	for (i = 0; i < tree->count; i++) {
		file = &tree->files[i];
		listed = bom_file(files, file->path);
		if (listed == NULL)
			return sp_err_set(
			    err, SP_E_CORRUPT, "%s does not belong to the release", file->path);
		sha256 = json_string_value(json_object_get(
		    json_array_get(json_object_get(listed, "hashes"), 0), "content"));
		if (sha256 == NULL || strcmp(sha256, file->sha256.s) != 0)
			return sp_err_set(err, SP_E_CORRUPT,
			    "%s has been changed: its SHA-256 is %s, released was %s", file->path,
			    file->sha256.s, sha256 != NULL ? sha256 : "nothing");
		if (strcmp(bom_property(listed, "sallyport:mode"),
			file->executable ? "0755" : "0644") != 0)
			return sp_err_set(err, SP_E_CORRUPT,
			    "%s has another mode than when it was released (%s)", file->path,
			    bom_property(listed, "sallyport:mode"));
	}
	for (i = 0; i < json_array_size(files); i++) {
		path = json_string_value(json_object_get(json_array_get(files, i), "name"));
		if (path != NULL && sp_tree_find(tree, path) == NULL)
			return sp_err_set(err, SP_E_CORRUPT, "%s is missing", path);
	}
	return sp_err_set(err, SP_E_CORRUPT,
	    "the files are as listed, but the release's list is not that of its tree: the release "
	    "contradicts itself");
}

/* 1 when the listing of those files has the digest that names the released tree. */
static enum sp_code
is_released(
    struct sp_tree *tree, const struct sp_candidate *candidate, int *same, struct sp_err *err)
{
	struct sp_hex digest;
	enum sp_code code;
	uint8_t *listing;
	size_t len;

	code = sp_tree_format(tree, &listing, &len, err);
	if (code != SP_OK)
		return code;
	digest = sp_sha256_hex(listing, len);
	free(listing);
	*same = strcmp(digest.s, candidate->tree.s) == 0;
	return SP_OK;
}

/* All files but the one of that name, which a tree may have of its own. */
static enum sp_code
leave_out(const struct sp_tree *tree, const char *path, struct sp_tree *out, struct sp_err *err)
{
	const struct sp_tree_file *f;
	enum sp_code code = SP_OK;
	size_t i;

	for (i = 0; code == SP_OK && i < tree->count; i++) {
		f = &tree->files[i];
		if (strcmp(f->path, path) != 0)
			code = sp_tree_add(out, f->path, f->size, f->sha256.s, f->executable, err);
	}
	return code;
}

static enum sp_code
compare(const struct sp_release *release, struct sp_tree *tree, struct sp_err *err)
{
	const json_t *predicate = json_object_get(release->statement, "predicate");
	const json_t *component = json_object_get(
	    json_object_get(json_object_get(predicate, "bom"), "metadata"), "component");
	struct sp_tree rest = {0};
	enum sp_code code;
	int same;

	code = is_released(tree, &release->candidate, &same, err);
	if (code == SP_OK && !same)
		code = leave_out(tree, SIGNATURE_FILE, &rest, err);
	if (code == SP_OK && !same)
		code = is_released(&rest, &release->candidate, &same, err);
	if (code == SP_OK && !same)
		code = name_difference(
		    json_object_get(component, "components"), rest.count > 0 ? &rest : tree, err);
	sp_tree_clear(&rest);
	return code;
}

static enum sp_code
load_release(struct ctl *ctl, const char *dir, struct sp_release **out, struct sp_err *err)
{
	char *path = sp_xasprintf("%s/%s", dir, RELEASE_FILE);
	struct sp_trust *trust = NULL;
	uint8_t *envelope = NULL;
	struct sp_err inner;
	const char *check;
	enum sp_code code;
	struct stat st;
	size_t len;

	code = ctl_trust(ctl, &trust, err);
	/* whoever made the directory may have put a pipe there */
	if (code == SP_OK && stat(path, &st) == 0 && !S_ISREG(st.st_mode))
		code = sp_err_set(err, SP_E_INVALID, "%s is no regular file", path);
	if (code == SP_OK)
		code = sp_file_read(path, SP_RELEASE_MAX, &envelope, &len, err);
	if (code == SP_E_NOT_FOUND)
		sp_err_set(err, code,
		    "there is no %s: what is verified is a directory that `sallyctl pull` wrote",
		    path);
	if (code == SP_OK) {
		code = sp_release_verify(trust, envelope, len, out, &check, &inner);
		if (code != SP_OK)
			sp_err_set(
			    err, code, "%s fails the check \"%s\": %s", path, check, inner.msg);
	}
	free(envelope);
	sp_trust_free(&trust);
	free(path);
	return code;
}

/* Of a cache for huggingface_hub: the files of the one snapshot that refs/main names. Whatever else
 * is there could be loaded in their place, and belongs to nothing. */
static enum sp_code
read_cache(const struct sp_tree *all, const struct sp_candidate *candidate, struct sp_tree *out,
    struct sp_err *err)
{
	struct sp_git_oid revision = sp_tree_revision(candidate->tree.s);
	struct sp_hex wanted = sp_sha256_hex(revision.s, strlen(revision.s));
	char *files = files_dir("", candidate, 1), *refs = refs_path("", candidate);
	const struct sp_tree_file *f;
	enum sp_code code = SP_OK;
	size_t i, len = strlen(files);

	for (i = 0; code == SP_OK && i < all->count; i++) {
		f = &all->files[i];
		if (strcmp(f->path, refs + 1) == 0) {
			if (strcmp(f->sha256.s, wanted.s) != 0)
				code = sp_err_set(err, SP_E_CORRUPT,
				    "%s names another revision than the released %s", f->path,
				    revision.s);
		} else if (strncmp(f->path, files + 1, len - 1) == 0 && f->path[len - 1] == '/') {
			code = sp_tree_add(
			    out, f->path + len, f->size, f->sha256.s, f->executable, err);
		} else {
			code = sp_err_set(
			    err, SP_E_CORRUPT, "%s does not belong to the release", f->path);
		}
	}
	free(refs);
	free(files);
	return code;
}

/* Every file in dir but the release is read: what is not looked at could be what is used. */
static enum sp_code
scan_files(struct ctl *ctl, const char *dir, const struct sp_candidate *candidate,
    struct sp_tree *tree, struct sp_err *err)
{
	static const char *const skip[] = {RELEASE_FILE, NULL};
	struct ctl_meter meter = {.what = "hashing", .on = ctl_meter_wanted(ctl)};
	char *refs = refs_path("", candidate);
	struct sp_tree all = {0};
	enum sp_code code;

	code = ctl_scan(dir, skip, &all, ctl_meter_progress, &meter, err);
	ctl_meter_end(&meter);
	if (code == SP_OK && sp_tree_find(&all, refs + 1) != NULL) {
		code = read_cache(&all, candidate, tree, err);
	} else if (code == SP_OK) {
		*tree = all;
		memset(&all, 0, sizeof(all));
	}
	sp_tree_clear(&all);
	free(refs);
	return code;
}

enum sp_code
ctl_verify(struct ctl *ctl, const struct ctl_args *args, struct sp_err *err)
{
	const char *dir = args->words[0];
	struct sp_release *release = NULL;
	const struct sp_candidate *c;
	struct sp_tree tree = {0};
	enum sp_code code;

	code = load_release(ctl, dir, &release, err);
	if (code != SP_OK)
		return code;
	c = &release->candidate;
	code = scan_files(ctl, dir, c, &tree, err);
	if (code == SP_OK)
		code = compare(release, &tree, err);
	if (code == SP_OK && ctl->json) {
		ctl_out_json(json_pack("{s:s, s:I, s:s, s:s, s:I, s:I, s:b}", "name", c->name,
		    "version", (json_int_t)c->version, "tree", c->tree.s, "release",
		    release->digest.s, "files", (json_int_t)tree.count, "bytes",
		    (json_int_t)sp_tree_bytes(&tree), "verified", 1));
	} else if (code == SP_OK) {
		ctl_out_print(
		    stdout, "%s is %s version %" PRId64 ": verified\n", dir, c->name, c->version);
		ctl_out_field(stdout, "files", "%zu, %s, each as it was released", tree.count,
		    ctl_out_size(sp_tree_bytes(&tree)).s);
		ctl_out_field(stdout, "tree", "%s", c->tree.s);
		ctl_out_field(stdout, "release", "%s of %s", release->digest.s, release->time);
	}
	sp_tree_clear(&tree);
	sp_release_free(&release);
	return code;
}
