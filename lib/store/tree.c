/* tree.c -- the listing of a model's files: its form, pure. What touches disks is in tree_io.c. */
#include "store/tree.h"
#include "base/buf.h"
#include "base/path.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char head[] = "sallyport-tree/1\n";

void
sp_tree_clear(struct sp_tree *tree)
{
	for (size_t i = 0; i < tree->count; i++)
		free(tree->files[i].path);
	free(tree->files);
	memset(tree, 0, sizeof(*tree));
}

uint64_t
sp_tree_bytes(const struct sp_tree *tree)
{
	return tree->bytes;
}

static enum sp_code
append(struct sp_tree *tree, const char *path, size_t path_len, uint64_t size, const char *sha256,
    int executable, struct sp_err *err)
{
	struct sp_tree_file *file;

	if (tree->count >= SP_TREE_FILES_MAX)
		return sp_err_set(
		    err, SP_E_LIMIT, "tree has more than %d files", SP_TREE_FILES_MAX);
	if (size > (uint64_t)INT64_MAX - tree->bytes)
		return sp_err_set(err, SP_E_LIMIT, "sizes of the tree's files exceed 63 bits");
	if (tree->count == tree->cap) {
		tree->cap = tree->cap > 0 ? 2 * tree->cap : 16;
		tree->files = sp_xrealloc(tree->files, tree->cap, sizeof(*tree->files));
	}
	file = &tree->files[tree->count++];
	file->path = sp_xasprintf("%.*s", (int)path_len, path);
	file->size = size;
	memcpy(file->sha256.s, sha256, SP_HEX_LEN);
	file->sha256.s[SP_HEX_LEN] = '\0';
	file->executable = executable;
	tree->bytes += size;
	tree->sorted = 0;
	return SP_OK;
}

enum sp_code
sp_tree_add(struct sp_tree *tree, const char *path, uint64_t size, const char *sha256,
    int executable, struct sp_err *err)
{
	enum sp_code code = sp_path_check(path, err);

	if (code != SP_OK)
		return code;
	if (!sp_hex_is_digest(sha256))
		return sp_err_set(
		    err, SP_E_INVALID, "%s: \"%.64s\" is no SHA-256 digest", path, sha256);
	return append(tree, path, strlen(path), size, sha256, executable, err);
}

/* --- order and clashes ------------------------------------------------------------------------ */

static int
by_path(const void *a, const void *b)
{
	return strcmp(
	    ((const struct sp_tree_file *)a)->path, ((const struct sp_tree_file *)b)->path);
}

/*
 * Of sorted files: no path twice, none the directory of another. "a" and "a/b" need not be
 * neighbours ("a-c" comes between), but whatever comes between them begins with "a" too. So the
 * files that are a prefix of the present one form a stack. Returns the index of a path that clashes
 * with an earlier one, whose index goes to *with; count when there is none.
 */
static size_t
find_clash(const struct sp_tree *tree, size_t *with)
{
	struct {
		size_t file, len;
	} stack[SP_PATH_MAX + 1];
	size_t depth = 0, i, k;
	const char *path;

	for (i = 0; i < tree->count; i++) {
		path = tree->files[i].path;
		while (depth > 0 && strncmp(tree->files[stack[depth - 1].file].path, path,
					stack[depth - 1].len) != 0)
			depth--;
		for (k = 0; k < depth; k++) {
			if (path[stack[k].len] != '/' && path[stack[k].len] != '\0')
				continue;
			*with = stack[k].file;
			return i;
		}
		/* each element is longer than the one below it, so that SP_PATH_MAX bounds depth */
		stack[depth].file = i;
		stack[depth++].len = strlen(path);
	}
	return tree->count;
}

const struct sp_tree_file *
sp_tree_find(const struct sp_tree *tree, const char *path)
{
	struct sp_tree_file key = {.path = (char *)(uintptr_t)path};

	if (tree->count == 0)
		return NULL;
	if (tree->sorted)
		return bsearch(&key, tree->files, tree->count, sizeof(key), by_path);
	for (size_t i = 0; i < tree->count; i++)
		if (strcmp(tree->files[i].path, path) == 0)
			return &tree->files[i];
	return NULL;
}

enum sp_code
sp_tree_format(struct sp_tree *tree, uint8_t **data, size_t *len, struct sp_err *err)
{
	struct sp_buf buf = {0};
	size_t clash, with = 0;

	if (tree->count > 0)
		qsort(tree->files, tree->count, sizeof(*tree->files), by_path);
	tree->sorted = 1;
	clash = find_clash(tree, &with);
	if (clash < tree->count)
		return sp_err_set(err, SP_E_INVALID, "paths \"%s\" and \"%s\" of a tree clash",
		    tree->files[with].path, tree->files[clash].path);
	sp_buf_puts(&buf, head);
	for (size_t i = 0; i < tree->count; i++) {
		const struct sp_tree_file *f = &tree->files[i];

		sp_buf_printf(&buf, "%s %" PRIu64 " %s %s\n", f->executable ? "0755" : "0644",
		    f->size, f->sha256.s, f->path);
	}
	if (buf.len > SP_TREE_BYTES_MAX) {
		sp_buf_free(&buf);
		return sp_err_set(
		    err, SP_E_LIMIT, "listing of the tree exceeds %u bytes", SP_TREE_BYTES_MAX);
	}
	*data = (uint8_t *)sp_buf_take(&buf, len);
	return SP_OK;
}

/* --- parsing ---------------------------------------------------------------------------------- */

/* A decimal number without leading zeros, ended by a space. Returns what follows, or NULL. */
static const char *
parse_size(const char *p, const char *end, uint64_t *out)
{
	const char *start = p;
	uint64_t n = 0;

	for (; p < end && *p >= '0' && *p <= '9'; p++) {
		if (n > (UINT64_MAX - (uint64_t)(*p - '0')) / 10)
			return NULL;
		n = n * 10 + (uint64_t)(*p - '0');
	}
	if (p == start || p == end || *p != ' ' || (*start == '0' && p - start > 1))
		return NULL;
	*out = n;
	return p + 1;
}

static enum sp_code
bad(struct sp_err *err, const char *field)
{
	return sp_err_set(err, SP_E_INVALID, "bad %s", field);
}

/* One line, [p, end) without its '\n'. */
static enum sp_code
parse_line(struct sp_tree *tree, const char *p, const char *end, struct sp_err *err)
{
	char path[SP_PATH_MAX + 1], sha256[SP_HEX_LEN + 1];
	enum sp_code code;
	uint64_t size = 0;
	int executable;

	if (end - p < 5 || (memcmp(p, "0644 ", 5) != 0 && memcmp(p, "0755 ", 5) != 0))
		return bad(err, "mode");
	executable = p[1] == '7';
	p = parse_size(p + 5, end, &size);
	if (p == NULL)
		return bad(err, "size");
	if (end - p < SP_HEX_LEN + 1 || p[SP_HEX_LEN] != ' ')
		return bad(err, "digest");
	memcpy(sha256, p, SP_HEX_LEN);
	sha256[SP_HEX_LEN] = '\0';
	if (!sp_hex_is_digest(sha256))
		return bad(err, "digest");
	p += SP_HEX_LEN + 1;
	if (end - p > SP_PATH_MAX)
		return sp_err_set(err, SP_E_LIMIT, "path is longer than %d bytes", SP_PATH_MAX);
	if (memchr(p, '\0', (size_t)(end - p)) != NULL)
		return bad(err, "path: it has a NUL");
	memcpy(path, p, (size_t)(end - p));
	path[end - p] = '\0';
	code = sp_path_check(path, err);
	if (code != SP_OK)
		return code;
	if (tree->count > 0 && strcmp(tree->files[tree->count - 1].path, path) >= 0)
		return sp_err_set(err, SP_E_INVALID, "path \"%s\" is out of order", path);
	return append(tree, path, (size_t)(end - p), size, sha256, executable, err);
}

enum sp_code
sp_tree_parse(const uint8_t *data, size_t len, struct sp_tree *out, struct sp_err *err)
{
	const char *p = (const char *)data, *end = p + len, *eol;
	struct sp_tree tree = {0};
	size_t line = 1, clash, with = 0;
	enum sp_code code;

	if (len > SP_TREE_BYTES_MAX)
		return sp_err_set(
		    err, SP_E_LIMIT, "listing of a tree exceeds %u bytes", SP_TREE_BYTES_MAX);
	if (len < sizeof(head) - 1 || memcmp(p, head, sizeof(head) - 1) != 0)
		return sp_err_set(
		    err, SP_E_INVALID, "line 1 of a tree must be \"sallyport-tree/1\"");
	for (p += sizeof(head) - 1; p < end; p = eol + 1) {
		line++;
		eol = memchr(p, '\n', (size_t)(end - p));
		code = eol != NULL ? parse_line(&tree, p, eol, err) : bad(err, "end: it is cut");
		if (code != SP_OK) {
			if (err != NULL)
				sp_err_prefix(err, "line %zu of a tree", line);
			goto fail;
		}
	}
	clash = find_clash(&tree, &with);
	if (clash < tree.count) {
		code = sp_err_set(err, SP_E_INVALID,
		    "line %zu of a tree: path clashes with that of line %zu", clash + 2, with + 2);
		goto fail;
	}
	tree.sorted = 1;
	*out = tree;
	return SP_OK;
fail:
	sp_tree_clear(&tree);
	return code;
}

struct sp_git_oid
sp_tree_revision(const char *digest)
{
	struct sp_git_oid oid;

	SP_ASSERT(sp_hex_is_digest(digest));
	memcpy(oid.s, digest, sizeof(oid.s) - 1);
	oid.s[sizeof(oid.s) - 1] = '\0';
	return oid;
}
