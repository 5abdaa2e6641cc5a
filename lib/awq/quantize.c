/* quantize.c -- a checkpoint directory in, its 4-bit AWQ checkpoint out. */
#include "awq/quantize.h"

#include "awq/calib.h"
#include "awq/emit.h"
#include "awq/inspect.h"
#include "awq/partial.h"
#include "awq/plus.h"
#include "engine/stream.h"

#include <stdlib.h>
#include <string.h>

#define TOKENIZER_MAX ((size_t)64 << 20)

struct run {
	const struct sp_quantize *spec;
	struct sp_weights *weights;
	const struct sp_model_config *config;
	struct sp_calib calib;
	struct sp_stream *stream;
	struct sp_layer_env env; /* the stream's */
	struct sp_plan plan;
	int plus;		     /* the method is awq+ */
	struct sp_block_place place; /* of activations */
	/* [blocks * sequence][hidden]: what the next layer takes in the exact model and, for awq+,
	 * in the quantized one */
	struct sp_spill h, runs;
	char *done; /* per layer: its result is there */
	size_t done_count, layer;
};

static enum sp_code
check_model(struct run *run, struct sp_err *err)
{
	const struct sp_model_config *c = run->config;
	const struct sp_quantize *spec = run->spec;
	struct sp_grid grid = {.group = spec->group_size, .symmetric = spec->symmetric};

	if (spec->method != NULL && strcmp(spec->method, SP_QUANTIZE_PLUS) == 0)
		run->plus = 1;
	else if (spec->method != NULL && strcmp(spec->method, SP_QUANTIZE_METHOD) != 0)
		return sp_err_set(err, SP_E_UNSUPPORTED, "method '%s': choose %s or %s",
		    spec->method, SP_QUANTIZE_METHOD, SP_QUANTIZE_PLUS);
	if (c->awq.bits != 0)
		return sp_err_set(err, SP_E_UNSUPPORTED,
		    "%s is quantized already: submit the "
		    "model that it was made from",
		    spec->source);
	if (spec->sequence > c->max_positions)
		return sp_err_set(err, SP_E_INVALID,
		    "calibration sequences of %zu tokens, but the model has %u positions",
		    spec->sequence, c->max_positions);
	return sp_plan_make(c, grid, spec->skip, spec->skip_count, spec->fallback, &run->plan, err);
}

static enum sp_code
load_calibration(struct run *run, struct sp_err *err)
{
	char *path = sp_xasprintf("%s/tokenizer.json", run->spec->source);
	struct sp_tokenizer *tokenizer = NULL;
	uint8_t *data = NULL;
	enum sp_code rc;
	size_t len;

	if ((rc = sp_file_read(path, TOKENIZER_MAX, &data, &len, err)))
		goto out;
	if ((rc = sp_tokenizer_parse(data, len, &tokenizer, err))) {
		sp_err_prefix(err, "%s", path);
		goto out;
	}
	rc = sp_calib_parse(run->spec->calibration, run->spec->calibration_size, tokenizer,
	    run->spec->samples, run->spec->sequence, &run->calib, err);
	if (rc != SP_OK)
		sp_err_prefix(err, "calibration");
	if (rc == SP_OK && run->calib.texts < run->spec->samples)
		rc = sp_err_set(err, SP_E_INVALID,
		    "calibration: %zu texts were asked for, but there are only %zu of at most %zu "
		    "tokens (%zu are longer or empty): give more texts, or ask for fewer",
		    run->spec->samples, run->calib.texts, run->spec->sequence, run->calib.skipped);
	for (size_t i = 0; rc == SP_OK && i < run->calib.blocks * run->calib.len; i++) {
		if (run->calib.ids[i] >= run->config->vocab)
			rc = sp_err_set(err, SP_E_INVALID,
			    "%s gives token %u, but the model's vocabulary ends at %u", path,
			    run->calib.ids[i], run->config->vocab);
	}
out:
	sp_tokenizer_free(&tokenizer);
	free(data);
	free(path);
	return rc;
}

/* Weights that will not do are found now, not when their layer's turn comes. */
static enum sp_code
inspect(const struct run *run, struct sp_err *err)
{
	enum sp_code rc =
	    sp_inspect_weights(run->weights, run->spec->inspected, run->spec->arg, err);

	return rc == SP_OK ? SP_OK : sp_err_prefix(err, "%s", run->spec->source);
}

/* What the first layer takes. Weights are taken as the fp16 values that the new checkpoint will
 * hold, so that what is measured is what will run. */
static enum sp_code
embed(struct run *run, struct sp_err *err)
{
	size_t n = run->calib.blocks * run->calib.len, hidden = run->config->hidden;
	enum sp_code rc;

	rc = sp_block_rows(&run->place, n, hidden, &run->h, err);
	if (rc != SP_OK)
		return rc;
	rc = sp_stream_embed(run->stream, run->calib.ids, n, run->h.values, err);
	if (rc != SP_OK)
		return rc;
	rc = sp_round_half(run->h.values, n * hidden, err);
	if (rc != SP_OK)
		return sp_err_prefix(err, "model.embed_tokens.weight");
	if (!run->plus)
		return SP_OK;
	rc = sp_block_rows(&run->place, n, hidden, &run->runs, err);
	if (rc != SP_OK)
		return rc;
	memcpy(run->runs.values, run->h.values, n * hidden * sizeof(float));
	return SP_OK;
}

/* Finds the layers whose results are there. One that cannot be read is done again: the files are
 * ours, and a result never counts for more than the bytes it holds. */
static void
find_done(struct run *run)
{
	run->done = sp_xcalloc(run->config->layers, 1);
	for (size_t i = 0; i < run->config->layers; i++) {
		struct sp_partial result;

		if (sp_partial_open(run->spec->work, i, run->config, &run->plan, &result, NULL) !=
		    SP_OK)
			continue;
		sp_partial_close(&result);
		run->done[i] = 1;
		run->done_count++;
	}
}

static enum sp_code
load_layer(const struct run *run, size_t i, struct sp_layer *layer, struct sp_err *err)
{
	enum sp_code rc;

	rc = sp_stream_layer(run->stream, i, layer, err);
	if (rc != SP_OK)
		return rc;
	for (enum sp_layer_norm k = 0; k < SP_LAYER_NORMS && rc == SP_OK; k++) {
		rc = sp_round_half(
		    *sp_layer_norm(layer, k), sp_layer_norm_size(run->config, k), err);
		if (rc != SP_OK)
			sp_err_prefix(err, "%s", sp_layer_norm_name(k));
	}
	for (size_t k = 0; k < sp_layer_linears(run->config, i) && rc == SP_OK; k++) {
		struct sp_linear *linear = sp_layer_linear(layer, k);

		rc = sp_round_half(linear->w, linear->out * linear->in, err);
		if (rc == SP_OK && linear->bias != NULL)
			rc = sp_round_half(linear->bias, linear->out, err);
		if (rc != SP_OK)
			sp_err_prefix(err, "%s", sp_layer_part(run->config, i, k).name);
	}
	if (rc == SP_OK) {
		rc = sp_round_half(layer->router.w, layer->router.out * layer->router.in, err);
		if (rc != SP_OK)
			sp_err_prefix(err, "%s", sp_layer_router_name(run->config));
	}
	if (rc == SP_OK)
		rc = sp_layer_pack(layer, run->env.pool, err);
	if (rc != SP_OK)
		sp_layer_free(layer);
	return rc;
}

/* One stream through a layer. */
static enum sp_code
forward(const struct run *run, const struct sp_layer *layer, const struct sp_spill *h,
    struct sp_err *err)
{
	size_t len = run->calib.len, step = sp_block_step(len), row = len * run->config->hidden;
	enum sp_code rc = SP_OK;

	for (size_t s = 0; s < run->calib.blocks && rc == SP_OK; s += step) {
		size_t n = run->calib.blocks - s < step ? run->calib.blocks - s : step;

		rc = sp_layer_forward(&run->env, layer, h->values + s * row, n, len, err);
		sp_spill_rest(h, s * row, n * row);
	}
	return rc;
}

/* Both streams through a layer whose result is there. */
static enum sp_code
pass(struct run *run, size_t i, const struct sp_layer *layer, struct sp_err *err)
{
	struct sp_partial result;
	struct sp_layer quantized;
	enum sp_code rc;

	rc = forward(run, layer, &run->h, err);
	if (rc != SP_OK || !run->plus)
		return rc;
	rc = sp_partial_open(run->spec->work, i, run->config, &run->plan, &result, err);
	if (rc != SP_OK)
		return rc;
	rc = sp_partial_layer(&result, i, run->config, &run->plan, &quantized, err);
	sp_partial_close(&result);
	if (rc != SP_OK)
		return rc;
	if ((rc = sp_layer_pack(&quantized, run->env.pool, err)) == SP_OK)
		rc = forward(run, &quantized, &run->runs, err);
	sp_layer_free(&quantized);
	return rc;
}

static enum sp_code
quantize_layer(struct run *run, struct sp_layer *layer, struct sp_block *block, struct sp_err *err)
{
	struct sp_block_plan plan = sp_plan_layer(&run->plan, run->config, run->layer);
	size_t n_seq = run->calib.blocks, len = run->calib.len;
	struct sp_block_inputs inputs = {0};
	enum sp_code rc;

	if (run->plus)
		return sp_plus_quantize(&run->env, layer, &run->h, &run->runs, n_seq, len, &plan,
		    &run->place, block, err);
	rc = sp_block_collect(&run->env, layer, &run->h, n_seq, len, &run->place, &inputs, err);
	if (rc == SP_OK)
		rc = sp_block_quantize(&run->env, layer, &inputs, &plan, block, err);
	sp_block_inputs_free(&inputs);
	return rc;
}

static enum sp_code
do_layer(struct run *run, size_t i, struct sp_err *err)
{
	struct sp_block block = {0};
	struct sp_layer layer;
	enum sp_code rc;

	rc = load_layer(run, i, &layer, err);
	if (rc != SP_OK)
		return rc;
	if (run->done[i]) {
		rc = pass(run, i, &layer, err);
		goto out;
	}
	run->layer = i;
	if ((rc = quantize_layer(run, &layer, &block, err)) ||
	    (rc = sp_partial_save(run->spec->work, i, run->config, &layer, &block, err)))
		goto out;
	run->done[i] = 1;
	run->done_count++;
out:
	sp_block_free(&block);
	sp_layer_free(&layer);
	return rc;
}

/* i: the layer that is done now. */
static void
progress(const struct run *run, size_t i)
{
	struct sp_partial result = {0};

	if (run->spec->progress == NULL)
		return;
	/* numbers that cannot be read are not shown */
	if (i < run->config->layers &&
	    sp_partial_open(run->spec->work, i, run->config, &run->plan, &result, NULL) != SP_OK)
		result.report = NULL;
	run->spec->progress(run->spec->arg, run->done_count, run->config->layers, result.report);
	sp_partial_close(&result);
}

static enum sp_code
all_layers(struct run *run, struct sp_err *err)
{
	enum sp_code rc;

	find_done(run);
	progress(run, run->config->layers);
	if (run->done_count == run->config->layers)
		return SP_OK;
	rc = sp_stream_open(run->weights, run->spec->sequence, run->spec->pool, &run->stream, err);
	if (rc == SP_OK)
		run->env = *sp_stream_env(run->stream);
	if (rc == SP_OK)
		rc = embed(run, err);
	for (size_t i = 0; rc == SP_OK && run->done_count < run->config->layers; i++) {
		rc = do_layer(run, i, err);
		if (rc != SP_OK)
			return sp_err_prefix(err, "layer %zu", i);
		progress(run, i);
	}
	return rc;
}

static enum sp_code
emit(const struct run *run, json_t **report, struct sp_err *err)
{
	const struct sp_emit spec = {
	    .source = run->spec->source,
	    .weights = run->weights,
	    .work = run->spec->work,
	    .out = run->spec->out,
	    .plan = &run->plan,
	    .shard_bytes =
		run->spec->shard_bytes != 0 ? run->spec->shard_bytes : SP_QUANTIZE_SHARD_BYTES,
	};
	json_t *layers = NULL;
	enum sp_code rc;

	rc = sp_emit_checkpoint(&spec, &layers, err);
	if (rc == SP_OK)
		*report = json_pack("{s:I, s:o, s:s, s:o, s:I, s:I}", "blocks",
		    (json_int_t)run->calib.blocks, "layers", layers, "method",
		    run->plus ? SP_QUANTIZE_PLUS : SP_QUANTIZE_METHOD, "plan",
		    sp_plan_report(&run->plan), "skipped", (json_int_t)run->calib.skipped, "texts",
		    (json_int_t)run->calib.texts);
	return rc;
}

enum sp_code
sp_quantize_run(const struct sp_quantize *quantize, json_t **report, struct sp_err *err)
{
	struct run run = {.spec = quantize,
	    .place = {.dir = quantize->work,
		.bound =
		    quantize->rows_bytes != 0 ? quantize->rows_bytes : SP_QUANTIZE_ROWS_BYTES}};
	enum sp_code rc;

	*report = NULL;
	SP_ASSERT(quantize->sequence > 0 && quantize->samples > 0);
	if ((rc = sp_file_mkdirs(quantize->work, 0750, err)) ||
	    (rc = sp_weights_open(quantize->source, &run.weights, err)))
		goto out;
	run.config = sp_weights_config(run.weights);
	if ((rc = check_model(&run, err)) || (rc = load_calibration(&run, err)) ||
	    (rc = inspect(&run, err)) || (rc = all_layers(&run, err)))
		goto out;
	rc = emit(&run, report, err);
out:
	sp_stream_close(&run.stream);
	sp_calib_free(&run.calib);
	sp_spill_close(&run.h);
	sp_spill_close(&run.runs);
	free(run.done);
	sp_weights_close(&run.weights);
	return rc;
}
