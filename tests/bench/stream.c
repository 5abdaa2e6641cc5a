/*
 * stream.c -- a model of Llama-70B's shape goes through calibration on a machine that it does not
 * fit into.
 *
 *	sp-bench-stream DIR LAYERS TOKENS
 *	sp-bench-stream DIR LAYERS TEXTS METHOD TEXTS.jsonl WORK
 *
 * DIR gets a checkpoint of 80 layers whose bytes are on the disk once: each layer has a shard of
 *its own, but those files hold headers alone, and where one is mapped, the data of the one layer
 *that was made is mapped behind its header. All else is the code that quantizes a model: layers
 *come from sp_stream, plain and packed, and what their parts take and give is collected. The first
 * LAYERS of them are run; memory is that of a few layers from the third on.
 *
 * The second form quantizes a model of LAYERS such layers, all of sp_quantize_run, with that many
 *of the texts; tokenizer.json must be in DIR.
 *
 * Prints the peak of the resident memory in GiB (VmHWM: the program's own and all pages of files
 * that are mapped, the weights' among them).
 */
#include "engine/stream.h"
#include "../draw.h"
#include "awq/block.h"
#include "awq/quantize.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define HIDDEN 8192
#define INNER 28672
#define KV 1024
#define VOCAB 128256
#define LAYERS 80
#define PAGE ((size_t)4096) /* where the data of a shard begins */
#define SHARD "shard-"

static struct sp_err err;
static const char *dir;

static void
check(enum sp_code code)
{
	if (code == SP_OK)
		return;
	fprintf(stderr, "sp-bench-stream: %s\n", err.msg);
	exit(1);
}

static void
check_errno(int good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "sp-bench-stream: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double
now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static uint64_t
draw(void)
{
	static uint64_t seed = 1;

	return draw_next(&seed);
}

/* --- the checkpoint --------------------------------------------------------------------------- */

static const struct part {
	const char *name;
	size_t rows, columns; /* rows 0: a vector */
} parts[] = {
    {"input_layernorm", 0, HIDDEN},
    {"self_attn.q_proj", HIDDEN, HIDDEN},
    {"self_attn.k_proj", KV, HIDDEN},
    {"self_attn.v_proj", KV, HIDDEN},
    {"self_attn.o_proj", HIDDEN, HIDDEN},
    {"post_attention_layernorm", 0, HIDDEN},
    {"mlp.gate_proj", INNER, HIDDEN},
    {"mlp.up_proj", INNER, HIDDEN},
    {"mlp.down_proj", HIDDEN, INNER},
};
#define PARTS (sizeof(parts) / sizeof(parts[0]))

static size_t
values_of(const struct part *part)
{
	return (part->rows == 0 ? 1 : part->rows) * part->columns;
}

static int
create(const char *name)
{
	char *path = sp_xasprintf("%s/%s", dir, name);
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	check_errno(fd >= 0, path);
	free(path);
	return fd;
}

/* bf16: ones for norms, else about ±0.02. Returns the bytes of a layer. */
static size_t
write_layer(void)
{
	static uint16_t piece[1 << 20];
	size_t size = 0;
	int fd = create("layer");

	for (size_t p = 0; p < PARTS; p++) {
		size_t left = values_of(&parts[p]);

		size += 2 * left;
		while (left > 0) {
			size_t n = left < sizeof(piece) / 2 ? left : sizeof(piece) / 2;

			for (size_t i = 0; i < n; i += 4) {
				uint64_t bits = draw();

				/* exponent of 2^-6, random sign and fraction */
				bits = (bits & 0x807f807f807f807f) | 0x3c803c803c803c80;
				if (parts[p].rows == 0)
					bits = 0x3f803f803f803f80;
				memcpy(piece + i, &bits, sizeof(bits));
			}
			check(sp_file_write_all(fd, piece, 2 * n, &err));
			left -= n;
		}
	}
	close(fd);
	return size;
}

/* Adds a tensor to a header; returns where the next one's data begins. */
static size_t
add_tensor(FILE *header, const char *name, size_t rows, size_t columns, size_t at)
{
	size_t end = at + 2 * (rows == 0 ? 1 : rows) * columns;

	fprintf(header, "%s\"%s\":{\"dtype\":\"BF16\",\"shape\":[", at == 0 ? "" : ",", name);
	if (rows != 0)
		fprintf(header, "%zu,", rows);
	fprintf(header, "%zu],\"data_offsets\":[%zu,%zu]}", columns, at, end);
	return end;
}

/* Length and JSON, filled up with spaces to a page. */
static void
write_header(int fd, char *json)
{
	char page[4096];
	uint64_t len = PAGE - 8;

	memset(page, ' ', sizeof(page));
	memcpy(page, &len, sizeof(len));
	memcpy(page + 8, json, strlen(json));
	check(sp_file_write_all(fd, page, sizeof(page), &err));
	free(json);
}

static void
write_shard(size_t layer, FILE *index)
{
	char *json = NULL, shard[48], name[96];
	size_t len, at = 0;
	FILE *header = open_memstream(&json, &len);
	int fd;

	snprintf(shard, sizeof(shard), SHARD "%zu.safetensors", layer);
	fputc('{', header);
	for (size_t p = 0; p < PARTS; p++) {
		snprintf(name, sizeof(name), "model.layers.%zu.%s.weight", layer, parts[p].name);
		fprintf(index, "\"%s\":\"%s\",", name, shard);
		at = add_tensor(header, name, parts[p].rows, parts[p].columns, at);
	}
	fputc('}', header);
	fclose(header);
	fd = create(shard);
	write_header(fd, json);
	close(fd);
}

/* Embeddings of the tokens that are used; holes are the rest, the head among it. */
static void
write_rest(FILE *index, const uint32_t *ids, size_t tokens)
{
	char *json = NULL;
	size_t len, at;
	FILE *header = open_memstream(&json, &len);
	int fd = create("rest.safetensors");

	fputc('{', header);
	at = add_tensor(header, "model.embed_tokens.weight", VOCAB, HIDDEN, 0);
	at = add_tensor(header, "model.norm.weight", 0, HIDDEN, at);
	at = add_tensor(header, "lm_head.weight", VOCAB, HIDDEN, at);
	fputc('}', header);
	fclose(header);
	write_header(fd, json);
	check_errno(ftruncate(fd, (off_t)(PAGE + at)) == 0, "rest.safetensors");
	for (size_t i = 0; i < tokens; i++) {
		uint16_t row[HIDDEN];

		for (size_t k = 0; k < HIDDEN; k++)
			row[k] = (uint16_t)((draw() & 0x807f) | 0x3c80);
		check_errno(pwrite(fd, row, sizeof(row), (off_t)(PAGE + ids[i] * sizeof(row))) ==
				(ssize_t)sizeof(row),
		    "rest.safetensors");
	}
	close(fd);
	fprintf(index, "\"model.embed_tokens.weight\":\"rest.safetensors\",");
	fprintf(index, "\"model.norm.weight\":\"rest.safetensors\",");
	fprintf(index, "\"lm_head.weight\":\"rest.safetensors\"}}");
}

static void
write_checkpoint(size_t layers, const uint32_t *ids, size_t tokens)
{
	FILE *config = fdopen(create("config.json"), "w");
	FILE *index = fdopen(create("model.safetensors.index.json"), "w");
	size_t size = write_layer();

	fprintf(stderr, "a layer: %.2f GiB of bf16\n", (double)size / (1 << 30));
	fprintf(config,
	    "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\","
	    "\"hidden_act\":\"silu\",\"hidden_size\":%d,\"intermediate_size\":%d,"
	    "\"num_hidden_layers\":%d,\"num_attention_heads\":64,\"num_key_value_heads\":8,"
	    "\"rms_norm_eps\":1e-5,\"rope_theta\":500000.0,\"vocab_size\":%d,"
	    "\"max_position_embeddings\":8192,\"tie_word_embeddings\":false,"
	    "\"torch_dtype\":\"bfloat16\"}",
	    HIDDEN, INNER, (int)layers, VOCAB);
	fclose(config);
	fprintf(index, "{\"metadata\":{},\"weight_map\":{");
	for (size_t i = 0; i < layers; i++)
		write_shard(i, index);
	write_rest(index, ids, tokens);
	fclose(index);
}

/* Linked in place of sp_map_open (-Wl,--wrap). */
enum sp_code
map_whole(struct sp_map *map, const char *path, struct sp_err *e) __asm__("__real_sp_map_open");
enum sp_code
map_shard(struct sp_map *map, const char *path, struct sp_err *e) __asm__("__wrap_sp_map_open");

enum sp_code
map_shard(struct sp_map *map, const char *path, struct sp_err *e)
{
	struct sp_map header, layer;
	char *data, *blob;
	size_t len;

	if (strstr(path, "/" SHARD) == NULL)
		return map_whole(map, path, e);
	blob = sp_xasprintf("%s/layer", dir);
	check(map_whole(&header, path, &err));
	check(map_whole(&layer, blob, &err));
	len = PAGE + layer.len;
	data = mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check_errno(data != MAP_FAILED, path);
	check_errno(mremap((void *)(uintptr_t)header.data, PAGE, PAGE,
			MREMAP_MAYMOVE | MREMAP_FIXED, data) == data,
	    path);
	check_errno(mremap((void *)(uintptr_t)layer.data, layer.len, layer.len,
			MREMAP_MAYMOVE | MREMAP_FIXED, data + PAGE) == data + PAGE,
	    blob);
	free(blob);
	*map = (struct sp_map){(const uint8_t *)data, len};
	return SP_OK;
}

/* --- the run ---------------------------------------------------------------------------------- */

/* A line of /proc/self/status in GiB. */
static double
memory_gib(const char *field)
{
	FILE *status = fopen("/proc/self/status", "re");
	char line[256];
	double kib = 0;

	check_errno(status != NULL, "/proc/self/status");
	while (fgets(line, sizeof(line), status) != NULL) {
		if (strncmp(line, field, strlen(field)) == 0)
			kib = strtod(line + strlen(field), NULL);
	}
	fclose(status);
	return kib / (1 << 20);
}

static void
run_layer(struct sp_stream *stream, size_t i, const struct sp_spill *h, size_t tokens)
{
	const struct sp_layer_env *env = sp_stream_env(stream);
	struct sp_block_inputs inputs;
	struct sp_layer layer;
	double from = now_s(), loaded;
	float *mean = sp_xcalloc(INNER, sizeof(*mean));

	check(sp_stream_layer(stream, i, &layer, &err));
	check(sp_layer_pack(&layer, env->pool, &err));
	loaded = now_s();
	check(sp_block_collect(env, &layer, h, 1, tokens, NULL, &inputs, &err));
	sp_search_x_mean(env->pool, inputs.attn, tokens, HIDDEN, 0, mean);
	sp_search_x_mean(env->pool, inputs.mlp, tokens, HIDDEN, 0, mean);
	sp_search_x_mean(env->pool, inputs.act, tokens, INNER, 0, mean);
	fprintf(stderr,
	    "layer %zu: loaded in %.1f s, run in %.1f s; %.2f GiB own, %.2f GiB mapped, peak "
	    "%.2f\n",
	    i, loaded - from, now_s() - loaded, memory_gib("RssAnon:"), memory_gib("RssFile:"),
	    memory_gib("VmHWM:"));
	sp_block_inputs_free(&inputs);
	sp_layer_free(&layer);
	free(mean);
}

static void
run(size_t layers, size_t tokens)
{
	uint32_t *ids = sp_xcalloc(tokens, sizeof(*ids));
	struct sp_weights *weights;
	struct sp_stream *stream;
	struct sp_pool *pool;
	struct sp_spill h;

	for (size_t i = 0; i < tokens; i++)
		ids[i] = (uint32_t)(draw() % VOCAB);
	write_checkpoint(LAYERS, ids, tokens);
	check(sp_spill_open(&h, tokens * HIDDEN, SIZE_MAX, dir, &err));
	check(sp_pool_open(0, &pool, &err));
	check(sp_weights_open(dir, &weights, &err));
	check(sp_stream_open(weights, tokens, pool, &stream, &err));
	check(sp_stream_embed(stream, ids, tokens, h.values, &err));
	for (size_t i = 0; i < layers; i++)
		run_layer(stream, i, &h, tokens);
	sp_stream_close(&stream);
	sp_weights_close(&weights);
	sp_pool_close(&pool);
	sp_spill_close(&h);
	free(ids);
}

static void
tell(void *arg, size_t done, size_t total, const json_t *layer)
{
	const double *began = arg;

	(void)layer;
	fprintf(stderr, "%zu of %zu layers, %.1f s; %.2f GiB own, %.2f GiB mapped, peak %.2f\n",
	    done, total, now_s() - *began, memory_gib("RssAnon:"), memory_gib("RssFile:"),
	    memory_gib("VmHWM:"));
}

static void
quantize(size_t layers, size_t texts, const char *method, const char *path, const char *work)
{
	double began = now_s();
	struct sp_quantize spec = {.source = dir,
	    .work = sp_xasprintf("%s/work", work),
	    .out = sp_xasprintf("%s/out", work),
	    .method = method,
	    .group_size = 128,
	    .samples = texts,
	    .sequence = 512,
	    .progress = tell,
	    .arg = &began};
	uint32_t ids[VOCAB / 64]; /* the tokens of a small tokenizer are the first ones */
	uint8_t *calibration;
	json_t *report;

	for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++)
		ids[i] = (uint32_t)i;
	write_checkpoint(layers, ids, sizeof(ids) / sizeof(ids[0]));
	check(sp_file_read(path, 1 << 30, &calibration, &spec.calibration_size, &err));
	spec.calibration = calibration;
	check(sp_pool_open(0, &spec.pool, &err));
	check(sp_quantize_run(&spec, &report, &err));
	tell(&began, layers, layers, NULL);
	json_decref(report);
	sp_pool_close(&spec.pool);
	free(calibration);
	free((void *)(uintptr_t)spec.work);
	free((void *)(uintptr_t)spec.out);
}

int
main(int argc, char **argv)
{
	size_t layers, count;

	if (argc != 4 && argc != 7) {
		fprintf(stderr,
		    "usage: sp-bench-stream DIR LAYERS TOKENS\n"
		    "       sp-bench-stream DIR LAYERS TEXTS METHOD TEXTS.jsonl WORK\n");
		return 2;
	}
	dir = argv[1];
	layers = strtoul(argv[2], NULL, 10);
	count = strtoul(argv[3], NULL, 10);
	if (layers == 0 || layers > LAYERS || count == 0 || count > 8192) {
		fprintf(
		    stderr, "sp-bench-stream: 1 to %d layers, 1 to 8192 tokens or texts\n", LAYERS);
		return 2;
	}
	if (argc == 7)
		quantize(layers, count, argv[4], argv[5], argv[6]);
	else
		run(layers, count);
	printf("%.3f\n", memory_gib("VmHWM:"));
	return 0;
}
