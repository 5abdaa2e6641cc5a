/* rxd_quarantine.c -- what was refused, kept out of reach; the verdict outlives a crash. */
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/time.h"
#include "bus/paths.h"
#include "bus/result.h"
#include "rxd.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Who holds the link key, but no release key, must not fill the disk: so many refusals are kept,
 * and of their objects no more bytes together than the spool may have. The log has them all. */
#define ENTRIES_MAX 1024

struct usage {
	unsigned entries;
	uint64_t bytes;
};

static char *
quarantine_dir(const struct sp_conf *conf)
{
	char *state = sp_paths_state(conf, RXD_SERVICE);
	char *dir = sp_xasprintf("%s/quarantine", state);

	free(state);
	return dir;
}

/* --- how full it is --- */

static void
visit(const char *path, void (*fn)(const char *path, struct usage *usage), struct usage *usage)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	char *inside;

	while (dir != NULL && (entry = readdir(dir)) != NULL) {
		if (entry->d_name[0] == '.')
			continue;
		inside = sp_xasprintf("%s/%s", path, entry->d_name);
		fn(inside, usage);
		free(inside);
	}
	if (dir != NULL)
		closedir(dir);
}

static void
add_file(const char *path, struct usage *usage)
{
	struct stat st;

	if (lstat(path, &st) == 0)
		usage->bytes += (uint64_t)st.st_size;
}

static void
add_entry(const char *path, struct usage *usage)
{
	usage->entries++;
	visit(path, add_file, usage);
}

/* --- keeping --- */

/* A second name for each of the spool's files, so that the receiver may forget the first. Evidence:
 * where it cannot be kept, the refusal stands all the same. Returns how many were. */
static size_t
keep_objects(
    const struct rxd_source *source, const char *job, const char *dir, const struct usage *before)
{
	const struct sp_manifest *manifest = source->manifest;
	uint64_t most_bytes = (uint64_t)sp_conf_int(source->conf, "diode-rxd.spool_max_mib") << 20;
	struct usage usage = *before;
	size_t kept = 0;

	for (size_t i = 0; manifest != NULL && i < manifest->count; i++) {
		struct sp_hex hex = sp_hex_of(manifest->objects[i].digest);
		char *from = sp_xasprintf("%s/%s", source->spool_dir, hex.s);
		char *to = sp_xasprintf("%s/%s", dir, hex.s);

		add_file(from, &usage);
		if (usage.bytes <= most_bytes && (link(from, to) == 0 || errno == EEXIST))
			kept++;
		else if (usage.bytes <= most_bytes && errno != ENOENT)
			sp_log_warn(job, "not kept in quarantine: %s: %s", to, strerror(errno));
		free(from);
		free(to);
	}
	if (usage.bytes > most_bytes)
		sp_log_warn(job,
		    "not all of it is kept in quarantine: together with what lies there it would "
		    "be more than diode-rxd.spool_max_mib");
	return kept;
}

static enum sp_code
write_reason(const char *path, const char *job, const char *check, const char *reason, size_t kept,
    struct sp_err *err)
{
	struct sp_rfc3339 now = sp_time_rfc3339(sp_time_unix_ms());
	/* it may quote what came */
	char *clean = sp_result_clean(reason, SP_ERR_MSG_MAX), *text;
	json_t *root = json_pack("{s:s, s:s, s:I, s:s, s:s}", "check", check, "job", job, "kept",
	    (json_int_t)kept, "reason", clean, "time", now.s);
	enum sp_code code;
	size_t len;

	SP_ASSERT(root != NULL);
	text = sp_json_canonical(root, &len);
	code = sp_file_write(path, 0400, text, len, err);
	free(text);
	json_decref(root);
	free(clean);
	return code;
}

enum sp_code
rxd_quarantine(const struct rxd_source *source, const char *job, const char *check,
    const char *reason, struct sp_err *err)
{
	char *top = quarantine_dir(source->conf);
	char *dir = sp_xasprintf("%s/%s", top, job), *path = sp_xasprintf("%s/reason.json", dir);
	struct usage usage = {0};
	enum sp_code code = SP_OK;
	size_t kept;

	visit(top, add_entry, &usage);
	if (usage.entries >= ENTRIES_MAX) {
		sp_log_warn(job,
		    "%s holds %u refusals: no more are kept; look at them, and remove "
		    "what is not needed",
		    top, usage.entries);
		goto out;
	}
	if ((code = sp_file_mkdirs(dir, 0700, err)))
		goto out;
	kept = keep_objects(source, job, dir, &usage);
	/* last: a refusal that can be read is complete */
	code = write_reason(path, job, check, reason, kept, err);
out:
	free(path);
	free(dir);
	free(top);
	return code;
}

/* --- reading --- */

enum sp_code
rxd_quarantined(const struct sp_conf *conf, const char *job, struct sp_err *err)
{
	char *top = quarantine_dir(conf), *dir = sp_xasprintf("%s/%s", top, job);
	char *path = sp_xasprintf("%s/reason.json", dir);
	const char *reason = "";
	json_t *root = NULL;
	uint8_t *data = NULL;
	size_t len;
	enum sp_code code = sp_file_read(path, 65536, &data, &len, err);

	if (code == SP_E_NOT_FOUND) {
		code = SP_OK;
	} else if (code == SP_OK) {
		/* one that cannot be read any more is a refusal too */
		if (sp_json_parse(data, len, "reason.json", &root, err) == SP_OK &&
		    json_is_string(json_object_get(root, "reason")))
			reason = json_string_value(json_object_get(root, "reason"));
		code = sp_err_set(err, SP_E_DENIED, "%s (refused before, see %s)", reason, dir);
	}
	json_decref(root);
	free(data);
	free(path);
	free(dir);
	free(top);
	return code;
}
