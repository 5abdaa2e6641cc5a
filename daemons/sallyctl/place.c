/* place.c -- a directory that appears in one piece. */
#include "place.h"
#include "base/file.h"
#include "base/time.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- progress -------------------------------------------------------------------------------- */

int
ctl_meter_wanted(const struct ctl *ctl)
{
	return !ctl->json && isatty(STDERR_FILENO);
}

void
ctl_meter_progress(void *ctx, uint64_t done_bytes, uint64_t total_bytes)
{
	struct ctl_meter *meter = ctx;
	int64_t now = sp_time_monotonic_ms();
	char *text;

	if (!meter->on || now - meter->shown_ms < 100)
		return;
	meter->shown_ms = now;
	text = ctl_out_progress(done_bytes, total_bytes, "bytes");
	fprintf(stderr, "\r\033[K%s %s", meter->what, text);
	free(text);
}

void
ctl_meter_end(struct ctl_meter *meter)
{
	if (meter->on)
		fputs("\r\033[K", stderr);
}

/* --- the directory --------------------------------------------------------------------------- */

char *
ctl_place_dir(const char *word)
{
	char *dir = sp_xstrdup(word);

	for (size_t len = strlen(dir); len > 1 && dir[len - 1] == '/'; len--)
		dir[len - 1] = '\0';
	return dir;
}

enum sp_code
ctl_place_check(const char *dir, struct sp_err *err)
{
	struct dirent *entry;
	struct stat st;
	size_t count = 0;
	DIR *stream;

	/* a link to a directory could not be replaced either */
	if (lstat(dir, &st) == 0 && !S_ISDIR(st.st_mode))
		return sp_err_set(err, SP_E_EXISTS,
		    "%s is there and is no directory: remove it or name another directory", dir);
	stream = opendir(dir);
	if (stream == NULL)
		return errno == ENOENT ? SP_OK : sp_err_errno(err, "cannot look into %s", dir);
	while ((entry = readdir(stream)) != NULL)
		count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
	closedir(stream);
	if (count > 0)
		return sp_err_set(
		    err, SP_E_EXISTS, "%s is not empty: clear it or name another directory", dir);
	return SP_OK;
}

static enum sp_code
sync_parent(const char *dir, struct sp_err *err)
{
	char *parent = sp_xasprintf("%s/..", dir);
	enum sp_code code = sp_file_sync_dir(parent, err);

	free(parent);
	return code;
}

enum sp_code
ctl_place(const char *dir, ctl_place_fn *fill, void *ctx, struct sp_err *err)
{
	char *tmp = sp_xasprintf("%s.part-XXXXXX", dir);
	enum sp_code code;

	if (mkdtemp(tmp) == NULL) {
		code = sp_err_errno(err, "cannot create %s", tmp);
		free(tmp);
		return code;
	}
	code = chmod(tmp, 0755) == 0 ? SP_OK : sp_err_errno(err, "cannot set the mode of %s", tmp);
	if (code == SP_OK)
		code = fill(ctx, tmp, err);
	if (code == SP_OK)
		code = sp_file_sync_fs(tmp, err);
	/* takes the place of an empty directory, of nothing else */
	if (code == SP_OK && rename(tmp, dir) != 0) {
		if (errno == ENOTEMPTY || errno == EEXIST || errno == ENOTDIR)
			code = sp_err_set(err, SP_E_EXISTS,
			    "%s is there already: remove it or name another directory", dir);
		else
			code = sp_err_errno(err, "cannot rename %s to %s", tmp, dir);
	}
	if (code != SP_OK && sp_file_remove_all(tmp, NULL) != SP_OK)
		fprintf(stderr, "sallyctl: %s could not be removed\n", tmp);
	free(tmp);
	return code == SP_OK ? sync_parent(dir, err) : code;
}
