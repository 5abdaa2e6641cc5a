/*
 * quantize.c -- the quantizer alone: no daemon, no key, no log. The code is quantd's.
 *
 * Work goes on in OUT.quantize-work: a directory there is named after all inputs (awq/settings.h)
 * and holds the layers that are done, so that the same command goes on after whatever ended it.
 * OUT appears by rename, whole.
 */
#include "quantize.h"
#include "awq/card.h"
#include "base/file.h"
#include "base/program.h"
#include "place.h"
#include "store/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define CALIBRATION_MAX ((size_t)256 << 20)
#define SEED_MAX (UINT64_C(1) << 53)

/* --- what is asked for ----------------------------------------------------------------------- */

static enum sp_code
number(struct ctl *ctl, const char *option, uint64_t most, uint64_t *out, struct sp_err *err)
{
	const char *text = ctl_args_get(ctl->args, option);
	size_t len = text != NULL ? strlen(text) : 0;

	if (text == NULL)
		return SP_OK;
	if (len == 0 || len > 16 || strspn(text, "0123456789") != len)
		return ctl_usage(ctl, err, "%s wants a number, not \"%.40s\"", option, text);
	*out = strtoull(text, NULL, 10);
	if (*out > most)
		return ctl_usage(ctl, err, "%s: at most %llu", option, (unsigned long long)most);
	return SP_OK;
}

enum sp_code
ctl_quantize_threads(struct ctl *ctl, unsigned *out, struct sp_err *err)
{
	uint64_t n = 0;
	enum sp_code code = number(ctl, "--threads", 1024, &n, err);

	*out = (unsigned)n;
	return code;
}

/* share/sallyport beside the directory that the program lies in; malloc'd. */
static char *
default_calibration(void)
{
	char path[PATH_MAX] = "", *slash;
	ssize_t len = readlink("/proc/self/exe", path, sizeof(path) - 1);

	for (int up = 0; up < 2 && len > 0; up++)
		if ((slash = strrchr(path, '/')) != NULL)
			*slash = '\0';
	return sp_xasprintf("%s/share/sallyport/calibration.jsonl", path);
}

static enum sp_code
read_settings(struct ctl *ctl, struct sp_settings *out, unsigned *threads, struct sp_err *err)
{
	const char *method = ctl_args_get(ctl->args, "--method");
	const char *calibration = ctl_args_get(ctl->args, "--calibration");
	const char *fallback = ctl_args_get(ctl->args, "--fallback"), *skip;
	uint64_t group = 128, samples = 256, sequence = 512, seed = 0;
	enum sp_code code;

	memset(out, 0, sizeof(*out));
	if ((code = number(ctl, "--group-size", 65536, &group, err)) ||
	    (code = number(ctl, "--samples", SP_SETTINGS_COUNT_MAX, &samples, err)) ||
	    (code = number(ctl, "--sequence", SP_SETTINGS_COUNT_MAX, &sequence, err)) ||
	    (code = number(ctl, "--seed", SEED_MAX, &seed, err)) ||
	    (code = ctl_quantize_threads(ctl, threads, err)))
		return code;
	*out = (struct sp_settings){
	    .method = sp_xstrdup(method != NULL ? method : SP_QUANTIZE_PLUS),
	    .calibration =
		calibration != NULL ? realpath(calibration, NULL) : default_calibration(),
	    .group_size = group,
	    .samples = samples,
	    .sequence = sequence,
	    .seed = seed,
	};
	if (out->calibration == NULL)
		return sp_err_errno(err, "--calibration %s", calibration);
	out->symmetric = ctl_args_get(ctl->args, "--symmetric") != NULL;
	if (fallback != NULL && !sp_plan_fallback_parse(fallback, &out->fallback))
		return ctl_usage(
		    ctl, err, "--fallback is refuse, smaller or leave, not \"%.40s\"", fallback);
	for (unsigned i = 0; (skip = ctl_args_nth(ctl->args, "--skip", i)) != NULL && code == SP_OK;
	     i++)
		code = sp_settings_skip(out, skip, err);
	if (code == SP_OK)
		code = sp_settings_check(out, err);
	if (code != SP_OK)
		ctl->usage = 1;
	return code;
}

/* --- the directory of work -------------------------------------------------------------------- */

/* Everything there that another call with other inputs left. */
void
ctl_quantize_sweep(const char *work, const char *key, struct ctl_show *show)
{
	DIR *dir = opendir(work);
	struct dirent *entry;

	while (dir != NULL && (entry = readdir(dir)) != NULL) {
		char *path;

		if (!sp_hex_is_digest(entry->d_name) || strcmp(entry->d_name, key) == 0)
			continue;
		path = sp_xasprintf("%s/%s", work, entry->d_name);
		if (sp_file_remove_all(path, NULL) == SP_OK)
			ctl_show_line(
			    show, "work that was begun with other inputs is removed from %s", work);
		free(path);
	}
	if (dir != NULL)
		closedir(dir);
}

enum sp_code
ctl_quantize_lock(const char *work, int *fd, struct sp_err *err)
{
	enum sp_code code = sp_file_mkdirs(work, 0755, err);

	if (code != SP_OK)
		return code;
	*fd = open(work, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (*fd < 0)
		return sp_err_errno(err, "%s", work);
	if (flock(*fd, LOCK_EX | LOCK_NB) != 0)
		return sp_err_set(err, SP_E_STATE,
		    "another process works in %s: wait for it, or name another directory", work);
	return SP_OK;
}

/* --- the work --------------------------------------------------------------------------------- */

static void
on_hashed(void *ctx, uint64_t bytes)
{
	struct ctl_quantize *q = ctx;

	q->hashed += bytes;
	ctl_show(q->show, "hashing", q->hashed, q->hash_total, "bytes");
}

static void
on_inspected(void *ctx, uint64_t done_bytes, uint64_t total_bytes)
{
	struct ctl_quantize *q = ctx;

	ctl_show(q->show, "inspecting weights", done_bytes, total_bytes, "bytes");
}

static void
on_layer(void *ctx, size_t done, size_t total, const json_t *layer)
{
	struct ctl_quantize *q = ctx;
	struct sp_card_line errors = sp_card_errors(layer);
	int64_t now = sp_time_monotonic_ms(), left_ms = -1;
	char *phase;

	if (q->begun_ms == 0) {
		q->begun_ms = now;
		q->first = done;
		if (done > 0)
			ctl_show_line(q->show, "%zu of %zu layers were done before", done, total);
	} else if (done > q->first) {
		left_ms =
		    (now - q->begun_ms) / (int64_t)(done - q->first) * (int64_t)(total - done);
	}
	phase = sp_xasprintf("layer%s%s%s%s%s", errors.s[0] != '\0' ? ": " : "", errors.s,
	    left_ms >= 0 ? (errors.s[0] != '\0' ? ", " : ": ") : "",
	    left_ms >= 0 ? ctl_out_duration(left_ms).s : "", left_ms >= 0 ? " left" : "");
	ctl_show(q->show, phase, done, total, "layers");
	free(phase);
}

enum sp_code
ctl_quantize_run(struct ctl_quantize *q, struct sp_err *err)
{
	struct sp_convert convert = {
	    .settings = q->settings,
	    .source = q->source,
	    .layers = q->layers,
	    .out = q->out,
	    .tree = q->tree,
	    .name = q->name,
	    .calibration = q->calibration,
	    .calibration_size = q->calibration_size,
	    .progress = on_layer,
	    .inspected = on_inspected,
	    .arg = q,
	};
	enum sp_code code = sp_pool_open(q->threads, &convert.pool, err);

	q->begun_ms = 0;
	if (code == SP_OK)
		code = sp_convert_run(&convert, &q->report, err);
	sp_pool_close(&convert.pool);
	return code;
}

/* --- the command ------------------------------------------------------------------------------ */

/* Where a path leads to, or would lead to: the part of it that is there is resolved; malloc'd. */
static char *
leads_to(const char *path)
{
	char *there = sp_xstrdup(path), *slash, *real, *out;

	while ((real = realpath(there, NULL)) == NULL && (slash = strrchr(there, '/')) != NULL &&
	       slash != there)
		*slash = '\0';
	if (real == NULL)
		real = realpath(there[0] == '/' ? "/" : ".", NULL);
	out = sp_xasprintf("%s%s", real != NULL ? real : "", path + strlen(there));
	free(real);
	free(there);
	return out;
}

/* A copy of the source's files would go into itself. */
static enum sp_code
check_apart(const char *source, const char *out, struct sp_err *err)
{
	char *from = leads_to(source), *to = leads_to(out);
	size_t len = strlen(from);
	int begins = strncmp(to, from, len) == 0;
	enum sp_code code = SP_OK;

	if (begins && to[len] == '\0')
		code = sp_err_set(
		    err, SP_E_INVALID, "%s is the model itself: name another directory", out);
	else if (begins && to[len] == '/')
		code = sp_err_set(err, SP_E_INVALID,
		    "%s lies within %s: name a directory beside it", out, source);
	free(from);
	free(to);
	return code;
}

/* A report that could not be written would be found out when all else is done. */
static enum sp_code
check_report(const char *path, struct sp_err *err)
{
	char *dir, *slash;
	struct stat st;
	enum sp_code code = SP_OK;

	if (path == NULL)
		return SP_OK;
	if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
		return sp_err_set(err, SP_E_INVALID, "--report %s is a directory", path);
	dir = sp_xstrdup(path);
	slash = strrchr(dir, '/');
	if (slash != NULL)
		slash[slash == dir] = '\0';
	if (access(slash != NULL ? dir : ".", W_OK | X_OK) != 0)
		code = sp_err_errno(err, "--report %s cannot be written", path);
	free(dir);
	return code;
}

/* All of a call. */
struct call {
	struct ctl *ctl;
	struct ctl_show show;
	struct sp_settings settings;
	char *source, *out, *work, *in_work;
	uint8_t *calibration;
	size_t calibration_len;
	struct sp_tree from, to;
	struct sp_hex from_digest, to_digest, key;
	struct ctl_quantize q;
	int locked;
};

/* The source's digest and the calibration text: what names the work. */
static enum sp_code
read_inputs(struct call *c, struct sp_err *err)
{
	struct sp_hex calibration;
	char *program = NULL;
	enum sp_code code;

	code = sp_file_read(
	    c->settings.calibration, CALIBRATION_MAX, &c->calibration, &c->calibration_len, err);
	if (code == SP_E_NOT_FOUND && ctl_args_get(c->ctl->args, "--calibration") == NULL)
		return sp_err_suffix(err, "; name a calibration text with --calibration FILE");
	if (code != SP_OK)
		return code;
	code = sp_tree_scan(c->source, on_hashed, &c->q, &c->from, &c->from_digest, err);
	if (code != SP_OK)
		return sp_err_suffix(
		    err, code == SP_E_INVALID ? "; `cp -rL` makes a copy without links" : "");
	calibration = sp_sha256_hex(c->calibration, c->calibration_len);
	code = sp_program_name(&program, err);
	if (code == SP_OK)
		c->key = sp_settings_key(
		    &c->settings, c->from_digest.s, c->q.name, calibration.s, program);
	free(program);
	return code;
}

/* Quantizes in the directory of work, and gives OUT its name when all of it is on the disk. */
static enum sp_code
make(struct call *c, struct sp_err *err)
{
	char *layers, *done;
	enum sp_code code;

	c->in_work = sp_xasprintf("%s/%s", c->work, c->key.s);
	layers = sp_xasprintf("%s/layers", c->in_work);
	done = sp_xasprintf("%s/out", c->in_work);
	ctl_quantize_sweep(c->work, c->key.s, &c->show);
	c->q.settings = &c->settings;
	c->q.source = c->source;
	c->q.layers = layers;
	c->q.out = done;
	c->q.tree = c->from_digest.s;
	c->q.calibration = c->calibration;
	c->q.calibration_size = c->calibration_len;
	if ((code = sp_file_mkdirs(layers, 0755, err)) || (code = ctl_quantize_run(&c->q, err)))
		goto out;
	c->q.hashed = 0;
	if ((code = sp_tree_scan(done, on_hashed, &c->q, &c->to, &c->to_digest, err)) ||
	    (code = sp_file_sync_fs(done, err)))
		goto out;
	/* takes the place of an empty directory, of nothing else */
	if (rename(done, c->out) != 0)
		code = sp_err_errno(err, "cannot rename %s to %s", done, c->out);
out:
	free(layers);
	free(done);
	return code;
}

static enum sp_code
write_report(const struct call *c, struct sp_err *err)
{
	const char *path = ctl_args_get(c->ctl->args, "--report");
	enum sp_code code;
	char *text;
	size_t len;

	if (path == NULL)
		return SP_OK;
	text = sp_json_canonical(c->q.report, &len);
	code = sp_file_write(path, 0644, text, len, err);
	free(text);
	return code;
}

static void
print(const struct call *c)
{
	const json_t *calibration = json_object_get(c->q.report, "calibration");
	long long texts = json_integer_value(json_object_get(calibration, "texts"));
	long long tokens = json_integer_value(json_object_get(calibration, "tokens"));
	struct sp_git_oid revision = sp_tree_revision(c->to_digest.s);

	if (c->ctl->json) {
		ctl_out_json(json_pack("{s:s, s:s, s:s, s:I, s:I, s:s, s:O}", "dir", c->out, "tree",
		    c->to_digest.s, "revision", revision.s, "bytes",
		    (json_int_t)sp_tree_bytes(&c->to), "source_bytes",
		    (json_int_t)sp_tree_bytes(&c->from), "source_tree", c->from_digest.s, "report",
		    c->q.report));
		return;
	}
	ctl_out_print(stdout, "%s: %s, from %s\n", c->out, ctl_out_size(sp_tree_bytes(&c->to)).s,
	    ctl_out_size(sp_tree_bytes(&c->from)).s);
	ctl_out_field(stdout, "tree", "%s", c->to_digest.s);
	ctl_out_field(stdout, "revision", "%s", revision.s);
	ctl_out_field(stdout, "calibration", "%lld texts, %lld tokens", texts, tokens);
	ctl_out_field(stdout, "errors", "%s/%s", c->out, SP_CONVERT_REPORT);
}

static void
clear(struct call *c)
{
	ctl_show_close(&c->show);
	if (c->locked >= 0)
		close(c->locked);
	sp_tree_clear(&c->from);
	sp_tree_clear(&c->to);
	sp_settings_clear(&c->settings);
	json_decref(c->q.report);
	free(c->calibration);
	free(c->source);
	free(c->out);
	free(c->work);
	free(c->in_work);
}

/* What was for this call alone; the directory itself when nothing else is in it. */
static void
remove_work(const struct call *c)
{
	if (sp_file_remove_all(c->in_work, NULL) != SP_OK ||
	    (rmdir(c->work) != 0 && errno != ENOTEMPTY))
		fprintf(stderr, "sallyctl: %s could not be removed\n", c->work);
}

enum sp_code
ctl_quantize(struct ctl *ctl, const struct ctl_args *args, struct sp_err *err)
{
	struct call c = {.ctl = ctl, .show = {.ctl = ctl}, .locked = -1};
	enum sp_code code;

	c.q.show = &c.show;
	c.q.name = ctl_args_get(args, "--name");
	/* what DIR is called may be a link; its files may not */
	c.source = realpath(args->words[0], NULL);
	if (c.source == NULL)
		c.source = ctl_place_dir(args->words[0]);
	c.out = ctl_place_dir(args->words[1]);
	c.work = sp_xasprintf("%s.quantize-work", c.out);
	if ((code = read_settings(ctl, &c.settings, &c.q.threads, err)) ||
	    (code = check_apart(c.source, c.out, err)) || (code = ctl_place_check(c.out, err)) ||
	    (code = check_report(ctl_args_get(args, "--report"), err)) ||
	    (code = read_inputs(&c, err)) || (code = ctl_quantize_lock(c.work, &c.locked, err)))
		goto out;
	code = make(&c, err);
	if (code == SP_E_NOT_FOUND)
		sp_err_suffix(err,
		    "; a model is a directory with config.json, tokenizer.json and *.safetensors");
	/* of what can never become anything nothing is kept */
	if (code == SP_OK || !sp_err_may_retry(code))
		remove_work(&c);
	else
		sp_err_suffix(err, "; the layers that are done are kept in %s", c.work);
	if (code == SP_OK)
		code = write_report(&c, err);
out:
	ctl_show_close(&c.show);
	if (code == SP_OK)
		print(&c);
	clear(&c);
	return code;
}
