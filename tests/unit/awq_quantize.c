/*
 * awq_quantize.c -- whole checkpoints: calibration blocks as AutoAWQ makes them, a quantized
 * fixture that loads and speaks, the same bytes however it came about, and what must not become
 * one.
 */
#include "awq/calib.h"
#include "awq/emit.h"
#include "awq/inspect.h"
#include "awq/quantize.h"

#include "base/file.h"
#include "engine/forward.h"
#include "eval/kld.h"

#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define MODEL "tests/fixtures/model"
#define CALIBRATION "tests/fixtures/calibration.jsonl"
#define SEQUENCE 512
#ifdef __SANITIZE_ADDRESS__ /* which makes it slow */
#define SAMPLES 6	    /* one block */
#else
#define SAMPLES 16 /* three blocks */
#endif

static struct sp_err err;
static char top[] = "/tmp/sp-awq-XXXXXX"; /* all files of the tests */
static struct sp_pool *pool;
static uint8_t *calibration;
static size_t calibration_len;

static void
ok(enum sp_code rc)
{
	if (rc != SP_OK)
		fail_msg("%s: %s", sp_err_word(rc), err.msg);
}

/* Below the tests' directory; a few at a time. */
static const char *
at(const char *name)
{
	static char paths[64][256];
	static size_t next;
	char *path = paths[next++ % 64];

	snprintf(path, sizeof(paths[0]), "%s/%s", top, name);
	return path;
}

static struct sp_quantize
spec(const char *work, const char *out)
{
	return (struct sp_quantize){
	    .source = MODEL,
	    .work = at(work),
	    .out = at(out),
	    .calibration = calibration,
	    .calibration_size = calibration_len,
	    .group_size = 128,
	    .samples = SAMPLES,
	    .sequence = SEQUENCE,
	    .pool = pool,
	};
}

static void
run(const struct sp_quantize *quantize)
{
	json_t *report;

	ok(sp_quantize_run(quantize, &report, &err));
	assert_int_equal(json_array_size(json_object_get(report, "layers")), 4);
	json_decref(report);
}

static int
setup(void **state)
{
	struct sp_quantize first;

	(void)state;
	assert_non_null(mkdtemp(top));
	ok(sp_pool_open(2, &pool, &err));
	ok(sp_file_read(CALIBRATION, 16 << 20, &calibration, &calibration_len, &err));
	first = spec("work", "out");
	run(&first); /* what the other tests compare with, and start from */
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	free(calibration);
	sp_pool_close(&pool);
	ok(sp_file_remove_all(top, &err));
	return 0;
}

static void
read_all(const char *path, uint8_t **data, size_t *len)
{
	ok(sp_file_read(path, 64 << 20, data, len, &err));
}

static void
same_file(const char *a, const char *b)
{
	uint8_t *x, *y;
	size_t n, m;

	read_all(a, &x, &n);
	read_all(b, &y, &m);
	if (n != m || memcmp(x, y, n) != 0)
		fail_msg("%s and %s differ", a, b);
	free(x);
	free(y);
}

static void
same_checkpoint(const char *a, const char *b)
{
	static const char *const files[] = {"model.safetensors", "config.json"};

	for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
		char x[512], y[512];

		snprintf(x, sizeof(x), "%s/%s", a, files[i]);
		snprintf(y, sizeof(y), "%s/%s", b, files[i]);
		same_file(x, y);
	}
}

static ino_t
inode(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return st.st_ino;
}

/* --- calibration --------------------------------------------------------------------------------
 */

static struct sp_tokenizer *
tokenizer_new(void)
{
	struct sp_tokenizer *tokenizer;
	uint8_t *data;
	size_t len;

	read_all(MODEL "/tokenizer.json", &data, &len);
	ok(sp_tokenizer_parse(data, len, &tokenizer, &err));
	free(data);
	return tokenizer;
}

static void
test_calibration(void **state)
{
	struct sp_tokenizer *tokenizer = tokenizer_new();
	json_t *vector, *blocks;
	struct sp_calib calib;
	uint8_t *text;
	size_t len;

	(void)state;
	read_all("tests/vectors/qwen2_calib.json", &text, &len);
	ok(sp_json_parse(text, len, "vector", &vector, &err));
	blocks = json_object_get(vector, "blocks");
	ok(sp_calib_parse(calibration, calibration_len, tokenizer, 16, SEQUENCE, &calib, &err));
	assert_int_equal(calib.texts, 16);
	assert_int_equal(calib.blocks, json_array_size(blocks));
	for (size_t b = 0; b < calib.blocks; b++) {
		const json_t *block = json_array_get(blocks, b);

		assert_int_equal(json_array_size(block), SEQUENCE);
		for (size_t i = 0; i < SEQUENCE; i++)
			assert_int_equal(calib.ids[b * SEQUENCE + i],
			    json_integer_value(json_array_get(block, i)));
	}
	sp_calib_free(&calib);
	sp_tokenizer_free(&tokenizer);
	json_decref(vector);
	free(text);
}

static void
test_calibration_rules(void **state)
{
	/* white space of Unicode goes at both ends, an empty text and a long one do not count */
	static const char texts[] = "{\"text\": \"\\u3000\\u0085 1 2 3\\u00a0\\n\", \"id\": 7}\n"
				    "{\"text\": \" \\t \"}\n"
				    "{\"text\": \"one two three four five six seven eight nine\"}\n"
				    "{\"text\": \"1 2 3\"}";
	static const char broken[] = "{\"text\": \"1 2 3\"}\n{\"txt\": \"1 2 3\"}\n";
	struct sp_tokenizer *tokenizer = tokenizer_new();
	struct sp_calib calib;
	uint32_t *ids;
	size_t count;

	(void)state;
	ok(sp_tokenizer_encode(tokenizer, "1 2 3", 5, 1, &ids, &count, &err));
	assert_in_range(count, 3, 6);
	ok(sp_calib_parse(
	    (const uint8_t *)texts, strlen(texts), tokenizer, 100, count, &calib, &err));
	assert_int_equal(calib.texts, 2);
	assert_int_equal(calib.skipped, 2);
	assert_int_equal(calib.blocks, 2);
	assert_memory_equal(calib.ids, ids, count * sizeof(*ids));
	assert_memory_equal(calib.ids + count, ids, count * sizeof(*ids));
	sp_calib_free(&calib);
	/* the remainder is dropped; what does not fill one block is an error */
	ok(sp_calib_parse(
	    (const uint8_t *)texts, strlen(texts), tokenizer, 100, 2 * count - 1, &calib, &err));
	assert_int_equal(calib.blocks, 1);
	sp_calib_free(&calib);
	assert_int_equal(sp_calib_parse((const uint8_t *)texts, strlen(texts), tokenizer, 1,
			     2 * count, &calib, &err),
	    SP_E_INVALID);
	assert_int_equal(
	    sp_calib_parse((const uint8_t *)broken, strlen(broken), tokenizer, 9, 4, &calib, &err),
	    SP_E_INVALID);
	assert_non_null(strstr(err.msg, "line 2"));
	free(ids);
	sp_tokenizer_free(&tokenizer);
}

/* --- the checkpoint ------------------------------------------------------------------------------
 */

static void
test_loads(void **state)
{
	static const char *const copied[] = {"tokenizer.json", "tokenizer_config.json",
	    "chat_template.jinja", "generation_config.json"};
	const struct sp_model_config *config;
	struct sp_weights *weights;
	json_t *root, *quantization;
	uint8_t *text;
	size_t len;

	(void)state;
	ok(sp_weights_open(at("out"), &weights, &err));
	config = sp_weights_config(weights);
	assert_int_equal(config->awq.bits, 4);
	assert_int_equal(config->awq.group_size, 128);
	assert_int_equal(config->dtype, SP_F16);
	for (size_t i = 0; i < sp_weights_count(weights); i++) {
		enum sp_dtype dtype = sp_weights_at(weights, i)->dtype;

		assert_true(dtype == SP_F16 || dtype == SP_I32);
	}
	assert_null(sp_weights_find(weights, "lm_head.weight")); /* tied */
	sp_weights_close(&weights);
	for (size_t i = 0; i < sizeof(copied) / sizeof(*copied); i++) {
		char source[512], out[512];

		snprintf(source, sizeof(source), MODEL "/%s", copied[i]);
		snprintf(out, sizeof(out), "%s/out/%s", top, copied[i]);
		same_file(source, out);
	}
	read_all(at("out/config.json"), &text, &len);
	ok(sp_json_parse(text, len, "config.json", &root, &err));
	assert_string_equal(json_string_value(json_object_get(root, "torch_dtype")), "float16");
	assert_string_equal(json_string_value(json_object_get(root, "dtype")), "float16");
	quantization = json_pack("{s:s, s:i, s:i, s:b, s:s, s:n}", "quant_method", "awq", "bits", 4,
	    "group_size", 128, "zero_point", 1, "version", "gemm", "modules_to_not_convert");
	assert_true(json_equal(json_object_get(root, "quantization_config"), quantization));
	json_decref(quantization);
	json_decref(root);
	free(text);
}

static float *
logits_of(const char *dir, const struct sp_calib *held, size_t *vocab)
{
	size_t count = held->blocks * held->len;
	struct sp_model *model;
	float *logits;

	ok(sp_model_open(dir, pool, &model, &err));
	*vocab = sp_model_config(model)->vocab;
	logits = malloc(count * *vocab * sizeof(*logits));
	assert_non_null(logits);
	for (size_t b = 0; b < held->blocks; b++) {
		struct sp_feed feed = {.tokens = held->ids + b * held->len,
		    .count = held->len,
		    .n_logits = held->len,
		    .logits = logits + b * held->len * *vocab};

		ok(sp_context_new(model, NULL, held->len, &feed.context, &err));
		ok(sp_forward(model, &feed, 1, &err));
		sp_context_free(&feed.context);
	}
	sp_model_close(&model);
	return logits;
}

/* How far the checkpoint in dir is from the model, on texts that did not calibrate it. */
static double
distance(const char *dir)
{
	struct sp_tokenizer *tokenizer = tokenizer_new();
	struct sp_calib held;
	uint8_t *texts;
	struct sp_kld kld = {0};
	size_t len, vocab;
	float *a, *b;

	read_all("tests/fixtures/heldout.jsonl", &texts, &len);
	ok(sp_calib_parse(texts, len, tokenizer, 20, 128, &held, &err));
	a = logits_of(MODEL, &held, &vocab);
	b = logits_of(dir, &held, &vocab);
	sp_kld_add(&kld, a, b, held.blocks * held.len, vocab);
	free(a);
	free(b);
	free(texts);
	sp_calib_free(&held);
	sp_tokenizer_free(&tokenizer);
	return sp_kld_mean(&kld);
}

/* Rounding this model to nearest costs about 0.006, to three bits several times that. */
static void
test_speaks(void **state)
{
	double mean = distance(at("out"));

	(void)state;
	print_message("mean KL divergence %.5f per token\n", mean);
	assert_true(mean > 0 && mean < 0.02);
}

#ifndef __SANITIZE_ADDRESS__
/* awq+ with as much text as a profile gives it: at most 0.6 of what AutoAWQ's steps cost. (The
 * bench awq_kld_vs_autoawq holds it to the better of AutoAWQ and rounding to nearest.) */
static void
test_full_calibration(void **state)
{
	struct sp_quantize quantize = spec("full", "full-128");
	json_t *report, *layer;
	size_t i;
	double mean;

	(void)state;
	quantize.method = SP_QUANTIZE_PLUS;
	quantize.samples = 128;
	ok(sp_quantize_run(&quantize, &report, &err));
	assert_int_equal(json_integer_value(json_object_get(report, "texts")), 128);
	assert_true(json_integer_value(json_object_get(report, "blocks")) >= 20);
	json_array_foreach(json_object_get(report, "layers"), i, layer)
	{
		double before = json_real_value(json_object_get(layer, "mlp_before"));

		assert_true(json_real_value(json_object_get(layer, "mlp_error")) < 0.5 * before);
	}
	json_decref(report);
	mean = distance(at("full-128"));
	print_message("mean KL divergence %.5f per token\n", mean);
	assert_true(mean > 0 && mean < 0.6 * distance(at("out")));
}
#endif

/* --- interrupted and repeated
 * --------------------------------------------------------------------- */

struct steps {
	size_t first; /* layers that were done at the start */
	size_t calls;
	int fd;
	int all; /* every call is told, not the second layer's alone */
};

static void
on_progress(void *arg, size_t done, size_t total, const json_t *layer)
{
	struct steps *steps = arg;

	(void)total;
	/* at the start there is no newest layer; then it says how far off it is */
	assert_int_equal(json_is_real(json_object_get(layer, "mlp_error")), steps->calls > 0);
	if (steps->calls++ == 0)
		steps->first = done;
	if (steps->fd >= 0 && (steps->all || done == 2))
		assert_int_equal(write(steps->fd, "x", 1), 1);
}

/* Quantizes with one thread until killed. */
static _Noreturn void
victim(struct sp_quantize *quantize)
{
	json_t *report;

	if (sp_pool_open(1, &quantize->pool, &err) != SP_OK)
		_exit(1);
	_exit(sp_quantize_run(quantize, &report, &err) == SP_OK ? 0 : 1);
}

static void
test_killed(void **state)
{
	struct steps steps = {.fd = -1};
	struct sp_quantize quantize = spec("killed", "killed-out");
	ino_t first, second;
	int fds[2], status;
	pid_t pid;
	char byte;

	(void)state;
	assert_int_equal(pipe(fds), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct steps told = {.fd = fds[1]};

		quantize.progress = on_progress;
		quantize.arg = &told;
		victim(&quantize);
	}
	close(fds[1]);
	assert_int_equal(read(fds[0], &byte, 1), 1); /* two layers are done: it is in the third */
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	close(fds[0]);
	first = inode(at("killed/layer-00000.safetensors"));
	second = inode(at("killed/layer-00001.safetensors"));
	quantize.progress = on_progress;
	quantize.arg = &steps;
	run(&quantize);
	assert_true(steps.first >= 2);
	assert_int_equal(inode(at("killed/layer-00000.safetensors")), first);
	assert_int_equal(inode(at("killed/layer-00001.safetensors")), second);
	same_checkpoint(at("out"), at("killed-out"));
}

static void
only_results(const char *dir)
{
	struct dirent *entry;
	DIR *d = opendir(dir);

	assert_non_null(d);
	while ((entry = readdir(d)) != NULL)
		assert_true(entry->d_name[0] == '.' || strncmp(entry->d_name, "layer-", 6) == 0);
	closedir(d);
}

/* awq+ on one thread, its activations in files, killed five times in whatever layer it is in, ends
 * as an undisturbed run on two threads in memory does. What a killed run had finished is not done
 * again, and it leaves no file behind. */
static void
test_plus_killed(void **state)
{
	struct sp_quantize quiet = spec("quiet", "quiet-out"),
			   broken = spec("broken", "broken-out");
	struct steps steps = {.fd = -1};

	(void)state;
	quiet.method = broken.method = SP_QUANTIZE_PLUS;
	broken.rows_bytes = 1;
	run(&quiet);
	srandom((unsigned)getpid());
	for (size_t k = 0; k < 5; k++) {
		int fds[2], wanted = (int)(random() % 2);
		pid_t pid;
		char byte;

		assert_int_equal(pipe(fds), 0);
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			struct steps told = {.fd = fds[1], .all = 1};

			close(fds[0]);
			broken.progress = on_progress;
			broken.arg = &told;
			victim(&broken);
		}
		close(fds[1]);
		/* a byte when it begins, and one after each layer; none: it has ended */
		for (int i = 0; i <= wanted; i++) {
			if (read(fds[0], &byte, 1) != 1)
				break;
		}
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		close(fds[0]);
		only_results(at("broken"));
	}
	broken.progress = on_progress;
	broken.arg = &steps;
	run(&broken);
	same_checkpoint(at("quiet-out"), at("broken-out"));
}

/* Left out and symmetric: what the configuration then says, and what the tensors are. */
static void
test_options(void **state)
{
	static const char *const skip[] = {"layers.0.self_attn", "down_proj"};
	struct sp_quantize quantize = spec("options", "options-out");
	struct sp_weights *weights;
	const struct sp_tensor *zeros;
	double mean;

	(void)state;
	quantize.method = SP_QUANTIZE_PLUS;
	quantize.samples = 6;
	quantize.group_size = 64;
	quantize.symmetric = 1;
	quantize.skip = skip;
	quantize.skip_count = 2;
	run(&quantize);
	ok(sp_weights_open(at("options-out"), &weights, &err));
	assert_non_null(sp_weights_find(weights, "model.layers.0.self_attn.q_proj.weight"));
	assert_non_null(sp_weights_find(weights, "model.layers.3.mlp.down_proj.weight"));
	assert_non_null(sp_weights_find(weights, "model.layers.1.self_attn.q_proj.qweight"));
	zeros = sp_weights_find(weights, "model.layers.2.mlp.up_proj.qzeros");
	assert_int_equal(zeros->shape[0], 256 / 64);
	for (size_t i = 0; i < zeros->size; i++)
		assert_int_equal(zeros->data[i], 0x88);
	sp_weights_close(&weights);
	mean = distance(at("options-out"));
	print_message("mean KL divergence %.5f per token\n", mean);
	assert_true(mean > 0 && mean < 0.006);
	quantize.skip = (const char *const[]){"q_proj"};
	quantize.skip_count = 1;
	{
		json_t *report;

		assert_int_equal(sp_quantize_run(&quantize, &report, &err), SP_E_INVALID);
	}
}

/* A result that is not whole, or another layer's, is made again. */
static void
test_damaged(void **state)
{
	struct steps steps = {.fd = -1};
	struct sp_quantize quantize = spec("killed", "killed-out");

	(void)state;
	assert_int_equal(truncate(at("killed/layer-00000.safetensors"), 5000), 0);
	assert_int_equal(
	    rename(at("killed/layer-00003.safetensors"), at("killed/layer-00002.safetensors")), 0);
	quantize.progress = on_progress;
	quantize.arg = &steps;
	run(&quantize);
	assert_int_equal(steps.first, 1);
	same_checkpoint(at("out"), at("killed-out"));
}

/* A disk that is full is said so, and the work done before is not lost. */
static void
test_full_disk(void **state)
{
	struct rlimit limit, tight;
	struct sp_quantize quantize = spec("work", "full-out"), fresh = spec("fresh", "fresh-out");
	json_t *report = NULL;
	enum sp_code rc;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
	tight = limit;
	tight.rlim_cur = 1 << 20;
	assert_true(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
	rc = sp_quantize_run(&quantize, &report, &err);
	assert_int_equal(rc, SP_E_IO);
	assert_non_null(strstr(err.msg, "model.safetensors"));
	assert_null(report);
	tight.rlim_cur = 100 << 10; /* less than a layer */
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
	rc = sp_quantize_run(&fresh, &report, &err);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	assert_int_equal(rc, SP_E_IO);
	assert_non_null(strstr(err.msg, "fresh/layer-00000"));
	run(&quantize);
	same_checkpoint(at("out"), at("full-out"));
}

/* From the first layer on there is no memory for another. */
static void
on_progress_starve(void *arg, size_t done, size_t total, const json_t *layer)
{
	FILE *file = fopen("/proc/self/statm", "re");
	struct rlimit limit;
	char line[128];

	(void)arg;
	(void)total;
	(void)layer;
	if (done == 0 || file == NULL || fgets(line, sizeof(line), file) == NULL ||
	    getrlimit(RLIMIT_AS, &limit) != 0)
		goto out;
	limit.rlim_cur =
	    strtoul(line, NULL, 10) * (size_t)sysconf(_SC_PAGESIZE) + ((rlim_t)256 << 10);
	if (setrlimit(RLIMIT_AS, &limit) != 0)
		_exit(99);
out:
	if (file != NULL)
		fclose(file);
}

/* Out of memory is told as such, which a worker tries again, and what was done is kept. */
static void
test_starved(void **state)
{
	struct sp_quantize quantize = spec("starved", "starved-out");
	struct steps steps = {.fd = -1};
	int status;
	pid_t pid;

	(void)state;
#ifdef __SANITIZE_ADDRESS__
	skip(); /* its allocator ends the process instead */
#endif
	quantize.method = SP_QUANTIZE_PLUS;
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		json_t *report;

		/* files are mapped anew, whatever memory the allocator has left */
		quantize.rows_bytes = 1;
		quantize.progress = on_progress_starve;
		if (sp_pool_open(1, &quantize.pool, &err) != SP_OK)
			_exit(98);
		_exit((int)sp_quantize_run(&quantize, &report, &err));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), SP_E_NO_MEMORY);
	assert_true(sp_err_may_retry(SP_E_NO_MEMORY) && sp_err_may_retry(SP_E_NO_SPACE));
	only_results(at("starved"));
	quantize.progress = on_progress;
	quantize.arg = &steps;
	run(&quantize);
	assert_int_equal(steps.first, 1);
	same_checkpoint(at("quiet-out"), at("starved-out"));
}

/* --- forms of a checkpoint -----------------------------------------------------------------------
 */

static void
test_shards(void **state)
{
	struct sp_quantize quantize = spec("work", "shards");
	struct sp_weights *one, *many;

	(void)state;
	quantize.shard_bytes = 600000;
	run(&quantize);
	ok(sp_weights_open(at("out"), &one, &err));
	ok(sp_weights_open(at("shards"), &many, &err));
	assert_int_equal(access(at("shards/model.safetensors"), F_OK), -1);
	assert_int_equal(sp_weights_count(one), sp_weights_count(many));
	for (size_t i = 0; i < sp_weights_count(one); i++) {
		const struct sp_tensor *a = sp_weights_at(one, i);
		const struct sp_tensor *b = sp_weights_find(many, a->name);

		assert_non_null(b);
		assert_int_equal(a->size, b->size);
		assert_memory_equal(a->data, b->data, a->size);
	}
	sp_weights_close(&one);
	sp_weights_close(&many);
}

static void
copy(const char *from, const char *to)
{
	uint8_t *data;
	size_t len;

	read_all(from, &data, &len);
	ok(sp_file_write(to, 0644, data, len, &err));
	free(data);
}

/* A source directory of our own, for what the fixture lacks. */
static void
source_new(const char *name)
{
	static const char *const files[] = {"config.json", "model.safetensors", "tokenizer.json"};

	ok(sp_file_mkdirs(at(name), 0755, &err));
	for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
		char from[512], to[512];

		snprintf(from, sizeof(from), MODEL "/%s", files[i]);
		snprintf(to, sizeof(to), "%s/%s/%s", top, name, files[i]);
		copy(from, to);
	}
}

static void
test_other_files(void **state)
{
	struct sp_quantize quantize = spec("work", "other-out");
	json_t *report;
	struct stat st;

	(void)state;
	source_new("source");
	quantize.source = at("source");
	ok(sp_file_mkdirs(at("source/docs"), 0755, &err));
	ok(sp_file_write(at("source/docs/LICENSE"), 0644, "free\n", 5, &err));
	ok(sp_file_write(at("source/run.sh"), 0755, "#!/bin/sh\n", 10, &err));
	copy(MODEL "/model.safetensors", at("source/consolidated.safetensors"));
	run(&quantize);
	same_file(at("source/docs/LICENSE"), at("other-out/docs/LICENSE"));
	assert_int_equal(stat(at("other-out/run.sh"), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0755);
	/* a reader that takes every *.safetensors must not find the old weights */
	assert_int_equal(access(at("other-out/consolidated.safetensors"), F_OK), -1);
	assert_int_equal(symlink("/etc/passwd", at("source/link")), 0);
	assert_int_equal(sp_quantize_run(&quantize, &report, &err), SP_E_INVALID);
	assert_non_null(strstr(err.msg, "source/link"));
}

static void
test_refused(void **state)
{
	struct sp_quantize quantize = spec("refused", "refused-out");
	json_t *report;

	(void)state;
	quantize.group_size = 100;
	assert_int_equal(sp_quantize_run(&quantize, &report, &err), SP_E_UNSUPPORTED);
	quantize.group_size = 128;
	quantize.source = at("out"); /* quantized already */
	assert_int_equal(sp_quantize_run(&quantize, &report, &err), SP_E_UNSUPPORTED);
	assert_non_null(strstr(err.msg, "already"));
	quantize.source = MODEL;
	quantize.sequence = 1 << 20;
	assert_int_equal(sp_quantize_run(&quantize, &report, &err), SP_E_INVALID);
	quantize.sequence = SEQUENCE;
	quantize.calibration = (const uint8_t *)"{\"text\": \"short\"}\n";
	quantize.calibration_size = 18;
	assert_int_equal(sp_quantize_run(&quantize, &report, &err), SP_E_INVALID);
	assert_non_null(strstr(err.msg, "less than one block"));
	quantize.calibration = calibration;
	quantize.calibration_size = calibration_len;
	quantize.samples = 5000; /* of 1,200 */
	assert_int_equal(sp_quantize_run(&quantize, &report, &err), SP_E_INVALID);
	assert_non_null(strstr(err.msg, "5000 texts were asked for, but there are only"));
	quantize.samples = 1;
	quantize.calibration = (const uint8_t *)"not JSON\n";
	quantize.calibration_size = 9;
	assert_int_equal(sp_quantize_run(&quantize, &report, &err), SP_E_INVALID);
	assert_int_equal(access(at("refused-out"), F_OK), -1);
}

/* Weights that will not do are found before the first layer, wherever they are. */
static void
test_not_finite(void **state)
{
	static const uint8_t nan[] = {0xc0, 0x7f},
			     large[] = {0x80, 0xc7}; /* bfloat16: NaN, -65536 */
	struct sp_quantize quantize = spec("sick", "sick-out");
	struct sp_safetensors *file;
	const struct sp_tensor *tensor;
	json_t *report;
	uint8_t *data;
	size_t len;

	(void)state;
	source_new("sick-model");
	read_all(MODEL "/model.safetensors", &data, &len);
	ok(sp_safetensors_parse(data, len, "fixture", &file, &err));
	tensor = sp_safetensors_find(file, "model.layers.3.mlp.down_proj.weight");
	assert_non_null(tensor);
	quantize.source = at("sick-model");
	memcpy(data + (tensor->data - data) + 2 * 70001, nan, 2);
	ok(sp_file_write(at("sick-model/model.safetensors"), 0644, data, len, &err));
	assert_int_equal(sp_quantize_run(&quantize, &report, &err), SP_E_INVALID);
	assert_non_null(strstr(err.msg,
	    "model.safetensors: tensor model.layers.3.mlp.down_proj.weight: value 70001 is nan"));
	memcpy(data + (tensor->data - data) + 2 * 70001, large, 2);
	ok(sp_file_write(at("sick-model/model.safetensors"), 0644, data, len, &err));
	assert_int_equal(sp_quantize_run(&quantize, &report, &err), SP_E_INVALID);
	assert_non_null(strstr(err.msg, "is -65536: fp16"));
	assert_int_equal(access(at("sick/layer-00000.safetensors"), F_OK), -1);
	sp_safetensors_free(&file);
	free(data);
}

/* Every bit pattern of 16 bits, and those of 32 around the limit. */
static void
test_inspect(void **state)
{
	static const uint32_t fine[] = {0, 0x80000000, 0x477fefff, 0xc77fefff, 1, 0x3f800000};
	static const uint32_t bad[] = {0x477ff000, 0xc77ff000, 0x7f800000, 0x7fc00001, 0xff800001};
	float values[3000];

	(void)state;
	for (uint32_t bits = 0; bits <= 0xffff; bits++) {
		uint16_t half = (uint16_t)bits;
		float value = sp_dtype_bf16_to_f32(half);

		assert_int_equal(sp_inspect_values(SP_BF16, (const uint8_t *)&half, 1),
		    isfinite(sp_dtype_f16_to_f32(sp_dtype_f32_to_f16(value))));
		assert_int_equal(sp_inspect_values(SP_F16, (const uint8_t *)&half, 1),
		    isfinite(sp_dtype_f16_to_f32(half)));
	}
	for (size_t i = 0; i < sizeof(fine) / sizeof(*fine); i++)
		assert_int_equal(sp_inspect_values(SP_F32, (const uint8_t *)&fine[i], 1), 1);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_int_equal(sp_inspect_values(SP_F32, (const uint8_t *)&bad[i], 1), 0);
	for (size_t i = 0; i < 3000; i++)
		values[i] = 1;
	assert_int_equal(sp_inspect_values(SP_F32, (const uint8_t *)values, 3000), 3000);
	values[2999] = INFINITY;
	assert_int_equal(sp_inspect_values(SP_F32, (const uint8_t *)values, 3000), 2999);
	values[1024] = NAN;
	assert_int_equal(sp_inspect_values(SP_F32, (const uint8_t *)values, 3000), 1024);
	assert_int_equal(sp_inspect_values(SP_I32, (const uint8_t *)values, 3000), 3000);
}

static void
test_config(void **state)
{
	struct sp_plan plan = {.grid = {.group = 128}};
	static const char quantized[] = "{\"quantization_config\": {}}";
	static const char plain[] = "{\"quantization_config\": null}"; /* as some tools write it */
	char *text;
	size_t len;

	(void)state;
	assert_int_equal(
	    sp_emit_config((const uint8_t *)quantized, strlen(quantized), &plan, &text, &len, &err),
	    SP_E_UNSUPPORTED);
	assert_int_equal(
	    sp_emit_config((const uint8_t *)"[]", 2, &plan, &text, &len, &err), SP_E_INVALID);
	ok(sp_emit_config((const uint8_t *)plain, strlen(plain), &plan, &text, &len, &err));
	assert_non_null(strstr(text, "\"quant_method\": \"awq\""));
	assert_null(strstr(text, "\"quantization_config\": null"));
	free(text);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_calibration),
	    cmocka_unit_test(test_calibration_rules),
	    cmocka_unit_test(test_loads),
	    cmocka_unit_test(test_speaks),
#ifndef __SANITIZE_ADDRESS__
	    cmocka_unit_test(test_full_calibration),
#endif
	    cmocka_unit_test(test_killed),
	    cmocka_unit_test(test_plus_killed),
	    cmocka_unit_test(test_options),
	    cmocka_unit_test(test_damaged),
	    cmocka_unit_test(test_full_disk),
	    cmocka_unit_test(test_starved),
	    cmocka_unit_test(test_shards),
	    cmocka_unit_test(test_other_files),
	    cmocka_unit_test(test_refused),
	    cmocka_unit_test(test_not_finite),
	    cmocka_unit_test(test_inspect),
	    cmocka_unit_test(test_config),
	};

	return cmocka_run_group_tests_name("awq_quantize", tests, setup, teardown);
}
