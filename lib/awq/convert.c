/* convert.c -- a model's directory in, a complete quantized one out. */
#include "awq/convert.h"

#include "awq/card.h"
#include "awq/picture.h"
#include "base/file.h"
#include "base/version.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define README "README.md"
#define README_MAX ((size_t)16 << 20)

/* --- the report
 * -----------------------------------------------------------------------------------
 */

static json_t *
report_of(const struct sp_convert *convert, const json_t *run)
{
	static const char *const counts[] = {"blocks", "skipped", "texts"};
	json_t *settings = sp_settings_json(convert->settings);
	json_t *calibration = json_object(), *source = json_object();
	json_int_t blocks = json_integer_value(json_object_get(run, "blocks"));
	struct sp_hex digest = sp_sha256_hex(convert->calibration, convert->calibration_size);

	/* where the text lay is no business of who reads the model; its digest says which it is */
	json_object_del(settings, "calibration");
	for (size_t i = 0; i < sizeof(counts) / sizeof(*counts); i++)
		json_object_set(calibration, counts[i], json_object_get(run, counts[i]));
	json_object_set_new(
	    calibration, "sequence", json_integer((json_int_t)convert->settings->sequence));
	json_object_set_new(calibration, "sha256", json_string(digest.s));
	json_object_set_new(
	    calibration, "tokens", json_integer(blocks * (json_int_t)convert->settings->sequence));
	json_object_set_new(source, "tree", json_string(convert->tree));
	if (convert->name != NULL)
		json_object_set_new(source, "name", json_string(convert->name));
	return json_pack("{s:o, s:s, s:O, s:O, s:o, s:o, s:s}", "calibration", calibration,
	    "format", SP_CONVERT_FORMAT, "layers", json_object_get(run, "layers"), "plan",
	    json_object_get(run, "plan"), "settings", settings, "source", source, "version",
	    SP_VERSION);
}

/* --- files -------------------------------------------------------------------------------------
 */

static enum sp_code
write_file(const char *dir, const char *name, char *text, size_t len, struct sp_err *err)
{
	char *path = sp_xasprintf("%s/%s", dir, name);
	enum sp_code rc = sp_file_write(path, 0644, text, len, err);

	free(path);
	free(text);
	return rc;
}

/* The source's model card. */
struct readme {
	uint8_t *text; /* NULL: there is none */
	size_t size;
};

static enum sp_code
read_card(const struct sp_convert *convert, struct readme *readme, struct sp_err *err)
{
	char *path = sp_xasprintf("%s/" README, convert->source);
	enum sp_code rc = sp_file_read(path, README_MAX, &readme->text, &readme->size, err);

	free(path);
	return rc == SP_E_NOT_FOUND ? SP_OK : rc;
}

/* Whether the new directory has a file of that name, whatever the source has. */
static int
is_written(const char *name)
{
	static const char *const names[] = {README, SP_CONVERT_REPORT, SP_CONVERT_PICTURE};
	size_t len = strlen(name), suffix = strlen(".safetensors");

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		if (strcmp(name, names[i]) == 0)
			return 1;
	}
	return len > suffix && strcmp(name + len - suffix, ".safetensors") == 0;
}

/* A directory by the name of such a file would be found out when all layers are done, and again at
 * every attempt. */
static enum sp_code
check_names(const char *source, struct sp_err *err)
{
	DIR *dir = opendir(source);
	struct dirent *entry;
	enum sp_code rc = SP_OK;

	if (dir == NULL)
		return sp_err_errno(err, "%s", source);
	while (rc == SP_OK && (errno = 0, entry = readdir(dir)) != NULL) {
		struct stat st;

		if (is_written(entry->d_name) &&
		    fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    S_ISDIR(st.st_mode))
			rc = sp_err_set(err, SP_E_INVALID,
			    "%s/%s is a directory, but a quantized model has a file of that name: "
			    "a model without it can be quantized",
			    source, entry->d_name);
	}
	if (rc == SP_OK && errno != 0)
		rc = sp_err_errno(err, "%s", source);
	closedir(dir);
	return rc;
}

static enum sp_code
write_all(const struct sp_convert *convert, const struct readme *readme, const json_t *report,
    struct sp_err *err)
{
	size_t len;
	char *text = sp_json_canonical(report, &len);
	enum sp_code rc = write_file(convert->out, SP_CONVERT_REPORT, text, len, err);

	if (rc != SP_OK)
		return rc;
	text = sp_picture_draw(report, &len);
	rc = write_file(convert->out, SP_CONVERT_PICTURE, text, len, err);
	if (rc != SP_OK)
		return rc;
	text = sp_card_write(readme->text, readme->size, report, &len);
	return write_file(convert->out, README, text, len, err);
}

static enum sp_code
quantize(const struct sp_convert *convert, const uint8_t *texts, size_t size, json_t **run,
    struct sp_err *err)
{
	const struct sp_quantize spec = {
	    .source = convert->source,
	    .work = convert->layers,
	    .out = convert->out,
	    .calibration = texts,
	    .calibration_size = size,
	    .method = convert->settings->method,
	    .group_size = convert->settings->group_size,
	    .symmetric = convert->settings->symmetric,
	    .skip = (const char *const *)convert->settings->skip,
	    .skip_count = convert->settings->skip_count,
	    .fallback = convert->settings->fallback,
	    .samples = convert->settings->samples,
	    .sequence = convert->settings->sequence,
	    .pool = convert->pool,
	    .progress = convert->progress,
	    .inspected = convert->inspected,
	    .arg = convert->arg,
	};

	return sp_quantize_run(&spec, run, err);
}

enum sp_code
sp_convert_run(const struct sp_convert *convert, json_t **report, struct sp_err *err)
{
	const uint8_t *texts = convert->calibration;
	size_t size = convert->calibration_size;
	uint8_t *shuffled = NULL;
	struct readme readme = {0};
	json_t *run = NULL;
	enum sp_code rc;

	*report = NULL;
	if ((rc = check_names(convert->source, err)) || (rc = read_card(convert, &readme, err)))
		goto out;
	if (convert->settings->seed != 0)
		texts = shuffled = sp_settings_shuffle(texts, size, convert->settings->seed, &size);
	rc = quantize(convert, texts, size, &run, err);
	if (rc == SP_E_NO_MEMORY)
		sp_err_suffix(err, ": out of memory; fewer or shorter calibration texts take less");
	if (rc != SP_OK)
		goto out;
	*report = report_of(convert, run);
	SP_ASSERT(*report != NULL);
	rc = write_all(convert, &readme, *report, err);
	if (rc != SP_OK) {
		json_decref(*report);
		*report = NULL;
	}
out:
	json_decref(run);
	free(readme.text);
	free(shuffled);
	return rc;
}
