/* rope.c -- the rotations of positions (RoPE, arXiv 2104.09864) and how models stretch them. */
#include "engine/layer.h"

#include <math.h>
#include <stdlib.h>

#define TAU 6.283185307179586

/*
 * Pair i of a head turns by p * f(i) at position p; f(i) = theta^(-2i/dim) unless stretched:
 *
 *	linear	f / factor
 *	llama3	f / factor where the wave is longer than original / low_freq, f where it is shorter
 *		than original / high_freq, between them a mix (modeling_rope_utils.py)
 *	yarn	a ramp over i from f to f / factor, between the pairs that turn beta_fast and
 *		beta_slow times over the original positions (arXiv 2309.00071)
 *
 * transformers computes frequency and angle in fp32; a rounding of the angle at a far position is a
 * visible turn, so it is done alike here.
 */
static float
llama3(const struct sp_config_rope *rope, float f)
{
	float wave = (float)TAU / f, original = (float)rope->original;
	float low = (float)rope->low_freq, high = (float)rope->high_freq;
	float smooth = (original / wave - low) / (high - low);

	if (wave > original / low)
		return f / (float)rope->factor;
	if (wave < original / high)
		return f;
	return (1 - smooth) * f / (float)rope->factor + smooth * f;
}

/* The pair that turns `turns` times over the original positions. */
static double
pair_of(const struct sp_config_rope *rope, size_t dim, double turns)
{
	return (double)dim * log(rope->original / (turns * TAU)) / (2 * log(rope->theta));
}

static float
yarn(const struct sp_config_rope *rope, size_t dim, size_t i, float f)
{
	double low = pair_of(rope, dim, rope->beta_fast);
	double high = pair_of(rope, dim, rope->beta_slow);
	float ramp;

	if (rope->truncate) {
		low = floor(low);
		high = ceil(high);
	}
	low = fmax(low, 0);
	high = fmin(high, (double)dim - 1);
	if (low == high)
		high += 0.001;
	ramp = ((float)i - (float)low) / (float)(high - low);
	ramp = fminf(fmaxf(ramp, 0), 1);
	return f / (float)rope->factor * ramp + f * (1 - ramp);
}

static float
frequency(const struct sp_config_rope *rope, size_t dim, size_t i)
{
	float f = 1.0f / (float)pow(rope->theta, (float)(2 * i) / (float)dim);

	switch (rope->kind) {
	case SP_ROPE_LINEAR:
		return f / (float)rope->factor;
	case SP_ROPE_LLAMA3:
		return llama3(rope, f);
	case SP_ROPE_YARN:
		return yarn(rope, dim, i, f);
	default:
		return f;
	}
}

enum sp_code
sp_layer_env_open(struct sp_layer_env *env, const struct sp_model_config *config, size_t positions,
    struct sp_pool *pool, struct sp_err *err)
{
	size_t half = config->head_dim / 2;
	float scale = (float)config->rope.attention_factor;

	*env = (struct sp_layer_env){.config = *config, .pool = pool, .positions = positions};
	env->rope = malloc(positions * half * 2 * sizeof(float));
	if (env->rope == NULL)
		return sp_err_set(err, SP_E_NO_MEMORY, "rotations of %zu positions", positions);
	for (size_t i = 0; i < half; i++) {
		float f = frequency(&config->rope, config->head_dim, i);

		for (size_t p = 0; p < positions; p++) {
			float angle = (float)p * f;

			env->rope[(p * half + i) * 2] = (float)cos((double)angle) * scale;
			env->rope[(p * half + i) * 2 + 1] = (float)sin((double)angle) * scale;
		}
	}
	return SP_OK;
}

void
sp_layer_env_close(struct sp_layer_env *env)
{
	free(env->rope);
	*env = (struct sp_layer_env){0};
}
