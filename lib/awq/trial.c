/* trial.c -- the scales of one group of linear layers, chosen by what the layer then gives. */
#include "awq/trial.h"

#include "awq/gram.h"
#include "awq/race.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#pragma GCC optimize("O3")

#define UNIT 64		 /* tokens of a sequence that hang together through attention */
#define STRIPES 64	 /* pieces where tokens are on their own, or more, … */
#define STRIPE_ROWS 1024 /* … so that one has no more tokens than that */
#define ROWS_MAX 8192	 /* that are brought together at a time, where a piece is not more */
#define LANES 16
/* Trials on all tokens that a race over tokens costs together, roughly */
#define RACE_COST 4

/* How the loss is measured: on the part's whole output, or on that of the one linear layer. */
enum kind { ATTENTION, MLP, LINEAR, GRAM };

/*
 * One search: the layer with trial weights in place of some linear layers. Tokens come in pieces: a
 * sequence under attention, every step-th token otherwise; of a Gram matrix there is one piece,
 * all.
 */
struct trial {
	const struct sp_layer_env *env;
	const struct sp_layer *layer;
	const struct sp_block_inputs *inputs;
	const struct sp_block_group *which;
	struct sp_grid grid;
	enum kind kind;
	const float *x, *out;  /* exact: what the part takes, and gives unless kind is LINEAR */
	size_t n, in, width;   /* tokens; values of x, of out */
	struct sp_layer with;  /* weights of `which` are the trial's own, all else borrowed */
	struct sp_gram gram;   /* for GRAM */
	size_t pieces, *order; /* in which they are taken */
	size_t step;	       /* from a token of a piece to the next in its sequence */
	float *some_x, *some_out, *y; /* of the pieces at hand */
	size_t rows, units;	      /* at hand */
};

static struct sp_linear *
own_linear(struct trial *trial, size_t i)
{
	return sp_layer_linear(&trial->with, trial->which->first + (unsigned)i);
}

/* --- pieces ------------------------------------------------------------------------------------
 */

/*
 * The first token of sequence s that is in the piece, and each trial->step-th behind it; none: len.
 * Each sequence begins at another piece: what only the first tokens have (Sun et al., Massive
 * Activations in Large Language Models, 2024), every piece has its share of.
 */
static size_t
first_of(const struct trial *trial, size_t piece, size_t s)
{
	if (trial->kind == ATTENTION)
		return s == piece ? 0 : trial->inputs->len;
	return (piece + trial->pieces - s % trial->pieces) % trial->pieces;
}

static size_t
piece_rows(const struct trial *trial, size_t piece)
{
	size_t rows = 0, len = trial->inputs->len;

	if (trial->kind == ATTENTION)
		return len;
	for (size_t s = 0; s < trial->inputs->n_seq; s++)
		rows += (len - first_of(trial, piece, s) + trial->step - 1) / trial->step;
	return rows;
}

static size_t
piece_units(const struct trial *trial, size_t piece)
{
	if (trial->kind == GRAM)
		return 1;
	return trial->kind == ATTENTION ? (trial->inputs->len + UNIT - 1) / UNIT
					: piece_rows(trial, piece);
}

/* Brings the piece's tokens to row `at` and those behind it; returns the row after them. */
static size_t
gather_piece(struct trial *trial, size_t piece, size_t at)
{
	size_t in = trial->in, width = trial->width, len = trial->inputs->len;

	for (size_t s = 0; s < trial->inputs->n_seq; s++) {
		for (size_t i = first_of(trial, piece, s); i < len; i += trial->step, at++) {
			size_t token = s * len + i;

			memcpy(trial->some_x + at * in, trial->x + token * in, in * sizeof(float));
			if (trial->out != NULL)
				memcpy(trial->some_out + at * width, trial->out + token * width,
				    width * sizeof(float));
		}
	}
	return at;
}

static void
gather_free(struct trial *trial)
{
	free(trial->some_x);
	free(trial->some_out);
	free(trial->y);
	trial->some_x = trial->some_out = trial->y = NULL;
}

/* Brings the pieces of ranks first … first+count-1 together. */
static enum sp_code
gather(struct trial *trial, size_t first, size_t count, struct sp_err *err)
{
	size_t at = 0, in = trial->in, width = trial->width;
	enum sp_code rc;

	trial->rows = trial->units = 0;
	for (size_t i = first; i < first + count; i++) {
		trial->rows += piece_rows(trial, trial->order[i]);
		trial->units += piece_units(trial, trial->order[i]);
	}
	if (trial->kind == GRAM)
		return SP_OK;
	gather_free(trial);
	if ((rc = sp_block_floats(&trial->some_x, trial->rows, in, err)) ||
	    (rc = sp_block_floats(&trial->some_out, trial->rows, width, err)) ||
	    (rc = sp_block_floats(&trial->y, trial->rows, width, err)))
		return rc;
	for (size_t i = first; i < first + count; i++)
		at = gather_piece(trial, trial->order[i], at);
	return SP_OK;
}

/* --- losses ------------------------------------------------------------------------------------
 */

struct compare {
	const struct trial *trial;
	float *losses; /* [units] */
	size_t tokens; /* of a unit, of a piece */
	size_t piece;
};

/* Σ (y - out)² of a token, in 16 sums, so that the order is the same however wide vectors are. */
static float
token_loss(const float *y, const float *out, size_t width)
{
	float lane[LANES] = {0};
	size_t i = 0;

	for (; i + LANES <= width; i += LANES) {
		for (size_t l = 0; l < LANES; l++) {
			float d = y[i + l] - out[i + l];

			lane[l] += d * d;
		}
	}
	for (; i < width; i++)
		lane[i % LANES] += (y[i] - out[i]) * (y[i] - out[i]);
	for (size_t half = LANES / 2; half > 0; half /= 2) {
		for (size_t l = 0; l < half; l++)
			lane[l] += lane[l + half];
	}
	return lane[0];
}

static void
compare_piece(void *arg, size_t i)
{
	const struct compare *job = arg;
	const struct trial *trial = job->trial;
	size_t first = i * job->piece, end = first + job->piece;
	float *loss = job->losses + i * ((job->piece + job->tokens - 1) / job->tokens);

	end = end < trial->rows ? end : trial->rows;
	for (size_t t = first; t < end; t += job->tokens, loss++) {
		size_t last = t + job->tokens < end ? t + job->tokens : end;

		*loss = 0;
		for (size_t r = t; r < last; r++)
			*loss += token_loss(trial->y + r * trial->width,
			    trial->some_out + r * trial->width, trial->width);
	}
}

/* The losses of what stands in y, one per unit. */
static void
compare(const struct trial *trial, float *losses)
{
	int whole = trial->kind == ATTENTION;
	size_t piece = whole ? trial->inputs->len : UNIT;
	struct compare job = {
	    .trial = trial, .losses = losses, .tokens = whole ? UNIT : 1, .piece = piece};

	sp_pool_run(trial->env->pool, (trial->rows + piece - 1) / piece, compare_piece, &job);
}

/* w -= plain's, so that what it gives is the error alone. */
static void
subtract(struct sp_linear *own, const struct sp_linear *plain)
{
	for (size_t i = 0; i < own->out * own->in; i++)
		own->w[i] -= plain->w[i];
}

/* The losses, one per unit at hand, that the scales cause. */
static enum sp_code
measure(struct trial *trial, const float *scales, float *losses, struct sp_err *err)
{
	const struct sp_layer_env *env = trial->env;
	struct sp_linear *own = own_linear(trial, 0);
	enum sp_code rc = SP_OK;
	double loss;

	for (size_t i = 0; i < trial->which->count && rc == SP_OK; i++) {
		const struct sp_linear *plain =
		    sp_block_linear(trial->layer, trial->which->first + (unsigned)i);

		own = own_linear(trial, i);
		sp_search_round(
		    env->pool, plain->w, own->out, own->in, trial->grid, scales, own->w);
		if (trial->kind == LINEAR)
			subtract(own, plain);
		if (trial->kind != GRAM)
			rc = sp_linear_pack(own, env->pool, err);
	}
	if (rc != SP_OK)
		return rc;
	switch (trial->kind) {
	case ATTENTION:
		rc = sp_layer_attention(env, &trial->with, trial->some_x,
		    trial->rows / trial->inputs->len, trial->inputs->len, NULL, trial->y, err);
		break;
	case MLP:
		rc = sp_layer_mlp(
		    env, &trial->with, trial->some_x, trial->rows, NULL, trial->y, err);
		break;
	case LINEAR:
		sp_linear_apply(own, env->pool, trial->some_x, trial->rows, trial->y);
		break;
	case GRAM:
		rc = sp_gram_loss(&trial->gram, env->pool, own->w,
		    sp_block_linear(trial->layer, trial->which->first)->w, own->out, &loss, err);
		*losses = (float)(loss * (double)trial->n * (double)own->out);
		return rc;
	}
	if (rc == SP_OK)
		compare(trial, losses);
	return rc;
}

/* --- the trial -----------------------------------------------------------------------------------
 */

/* Whether second moments, once they are there, make the trials of one linear layer cheaper than a
 * race over tokens. */
static int
moments_pay(size_t n, size_t in, size_t out)
{
	double moments =
	    (double)in * (double)in * ((double)n + 2.0 * SP_SEARCH_RATIOS * (double)out);

	return moments < 2.0 * RACE_COST * (double)n * (double)in * (double)out;
}

/* Pieces where tokens are on their own: no more than each sequence has a token for. */
static size_t
stripes(size_t n, size_t len)
{
	size_t count = (n + STRIPE_ROWS - 1) / STRIPE_ROWS;

	count = count < STRIPES ? STRIPES : count;
	return len < count ? len : count;
}

static void
choose_kind(struct trial *trial)
{
	const struct sp_linear *first = sp_block_linear(trial->layer, trial->which->first);

	trial->n = trial->inputs->n_seq * trial->inputs->len;
	trial->in = trial->which->in;
	trial->width = trial->which->count > 1 ? trial->env->config.hidden : first->out;
	trial->pieces = stripes(trial->n, trial->inputs->len);
	trial->step = trial->pieces;
	if (trial->which->first == SP_LAYER_Q) {
		trial->kind = ATTENTION;
		trial->out = trial->inputs->attn_out;
		trial->pieces = trial->inputs->n_seq;
		trial->step = 1;
	} else if (trial->which->count > 1) {
		trial->kind = MLP;
		trial->out = trial->inputs->mlp_out;
	} else if (moments_pay(trial->n, first->in, first->out)) {
		trial->kind = GRAM;
		trial->pieces = trial->step = 1;
	} else {
		trial->kind = LINEAR;
	}
}

static enum sp_code
trial_open(struct trial *trial, struct sp_err *err)
{
	enum sp_code rc = SP_OK;

	choose_kind(trial);
	trial->with = *trial->layer;
	for (size_t i = 0; i < trial->which->count; i++) {
		struct sp_linear *own = own_linear(trial, i);

		own->w = own->packed = NULL;
		if (trial->kind == LINEAR)
			own->bias = NULL; /* of a difference there is none */
	}
	for (size_t i = 0; i < trial->which->count && rc == SP_OK; i++) {
		struct sp_linear *own = own_linear(trial, i);

		rc = sp_block_floats(&own->w, own->out, own->in, err);
	}
	trial->order = sp_xcalloc(trial->pieces, sizeof(*trial->order));
	sp_race_order(trial->pieces, trial->order);
	if (rc == SP_OK && trial->kind == GRAM)
		rc = sp_gram_open(
		    trial->env->pool, trial->x, trial->n, trial->in, &trial->gram, err);
	return rc;
}

static void
trial_close(struct trial *trial)
{
	for (size_t i = 0; i < trial->which->count; i++) {
		struct sp_linear *own = own_linear(trial, i);

		free(own->w);
		free(own->packed);
	}
	gather_free(trial);
	free(trial->order);
	sp_gram_close(&trial->gram);
}

/* --- the race ------------------------------------------------------------------------------------
 */

struct race {
	float *losses;			   /* [ratios][all] */
	size_t done, all, seen;		   /* pieces; units, and those that are measured */
	size_t measured[SP_SEARCH_RATIOS]; /* units of each */
	uint8_t alive[SP_SEARCH_RATIOS];
	size_t left;
};

/* One more round: all that are in the race, on the next pieces. */
static enum sp_code
run_round(struct trial *trial, struct race *race, size_t pieces, const float *x_mean,
    const float *w_mean, float *scales, struct sp_err *err)
{
	enum sp_code rc = gather(trial, race->done, pieces, err);

	for (size_t k = 0; k < SP_SEARCH_RATIOS && rc == SP_OK; k++) {
		if (!race->alive[k])
			continue;
		sp_search_scales(x_mean, w_mean, trial->in, k, scales);
		rc = measure(trial, scales, race->losses + k * race->all + race->seen, err);
		race->measured[k] += trial->units;
	}
	race->done += pieces;
	race->seen += trial->units;
	return rc;
}

static void
result_of(const struct trial *trial, const struct race *race, struct sp_search_result *out)
{
	for (size_t k = 0; k < SP_SEARCH_RATIOS; k++) {
		double sum = 0;

		for (size_t u = 0; u < race->measured[k]; u++)
			sum += race->losses[k * race->all + u];
		out->shares[k] = (double)race->measured[k] / (double)race->all;
		out->losses[k] = sum / out->shares[k] / ((double)trial->n * (double)trial->width);
	}
	out->count = SP_SEARCH_RATIOS;
}

static enum sp_code
run_race(struct trial *trial, int exhaustive, const float *x_mean, const float *w_mean,
    float *scales, struct sp_search_result *out, struct sp_err *err)
{
	struct race race = {.left = SP_SEARCH_RATIOS};
	enum sp_code rc = SP_OK;

	for (size_t i = 0; i < trial->pieces; i++)
		race.all += piece_units(trial, i);
	memset(race.alive, 1, sizeof(race.alive));
	race.losses = calloc(SP_SEARCH_RATIOS * race.all, sizeof(*race.losses));
	if (race.losses == NULL)
		return sp_err_set(
		    err, SP_E_NO_MEMORY, "no memory for the losses of %zu units", race.all);
	while (rc == SP_OK && race.done < trial->pieces && race.left > 1) {
		size_t pieces =
		    exhaustive ? trial->pieces - race.done : sp_race_next(trial->pieces, race.done);

		while (pieces > 1 && pieces * piece_rows(trial, 0) > ROWS_MAX)
			pieces--;
		rc = run_round(trial, &race, pieces, x_mean, w_mean, scales, err);
		if (rc != SP_OK)
			break;
		if (exhaustive && race.done < trial->pieces)
			continue;
		out->best = sp_race_cut(
		    race.losses, race.all, SP_SEARCH_RATIOS, race.seen, race.all, race.alive);
		race.left = 0;
		for (size_t k = 0; k < SP_SEARCH_RATIOS; k++)
			race.left += race.alive[k];
	}
	if (rc == SP_OK && race.left == 0)
		rc = sp_err_set(err, SP_E_INVALID,
		    "no ratio gives a finite output error: the weights or the activations are not");
	if (rc == SP_OK) {
		result_of(trial, &race, out);
		sp_search_scales(x_mean, w_mean, trial->in, out->best, scales);
	}
	free(race.losses);
	return rc;
}

/* An activation that is not finite need not be among the tokens of the race. */
static enum sp_code
check_finite(const float *x_mean, size_t in, struct sp_err *err)
{
	for (size_t i = 0; i < in; i++) {
		if (!isfinite(x_mean[i]))
			return sp_err_set(
			    err, SP_E_INVALID, "activations of channel %zu are not finite", i);
	}
	return SP_OK;
}

enum sp_code
sp_trial_search(const struct sp_layer_env *env, const struct sp_layer *layer,
    const struct sp_block_inputs *inputs, const struct sp_block_plan *plan, const float *x,
    struct sp_block_group *which, struct sp_err *err)
{
	struct trial trial = {.env = env,
	    .layer = layer,
	    .inputs = inputs,
	    .which = which,
	    .grid = plan->grid,
	    .x = x};
	const struct sp_linear *linears[SP_LAYER_LINEARS];
	float *x_mean = NULL, *w_mean = NULL;
	enum sp_code rc;

	for (size_t i = 0; i < which->count; i++)
		linears[i] = sp_block_linear(layer, which->first + (unsigned)i);
	which->in = sp_block_linear(layer, which->first)->in;
	if ((rc = sp_block_floats(&x_mean, 1, which->in, err)) ||
	    (rc = sp_block_floats(&w_mean, 1, which->in, err)) ||
	    (rc = sp_block_floats(&which->scales, 1, which->in, err)))
		goto out;
	sp_search_x_mean(env->pool, x, inputs->n_seq * inputs->len, which->in, plan->half, x_mean);
	sp_search_w_mean(env->pool, linears, which->count, plan->grid.group, plan->half, w_mean);
	if ((rc = check_finite(x_mean, which->in, err)) == SP_OK) {
		rc = trial_open(&trial, err);
		if (rc == SP_OK)
			rc = run_race(&trial, plan->exhaustive, x_mean, w_mean, which->scales,
			    &which->result, err);
		trial_close(&trial);
	}
	if (rc == SP_OK && plan->half)
		rc = sp_round_half(which->scales, which->in, err);
	if (rc != SP_OK)
		rc = sp_err_prefix(err, "scales after %s", which->prev);
out:
	free(x_mean);
	free(w_mean);
	return rc;
}
