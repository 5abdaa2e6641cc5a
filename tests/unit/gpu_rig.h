/* gpu_rig.h -- what the tests of cuda/ share: a GPU (or the emulator), arrays, comparisons. */
#ifndef SP_TEST_GPU_RIG_H
#define SP_TEST_GPU_RIG_H

#include "sp_gpu_awq.h"

#include "engine/kernels.h"

extern struct sp_err gpu_err;
extern struct sp_gpu *gpu;
extern struct sp_pool *gpu_pool;

/* A group's setup and teardown. */
int gpu_setup(void **state);
int gpu_teardown(void **state);

void gpu_ok(enum sp_code rc);

/* -1 … 1, the same every time after gpu_seed. */
void gpu_seed(uint32_t seed);
float gpu_noise(void);
/* malloc'd; of the type's precision, so that they survive narrowing. */
float *gpu_values(enum sp_gpu_type type, size_t count);

/* An array of these values, rounded to type. */
struct sp_gpu_array gpu_put(enum sp_gpu_type type, const float *values, size_t count);
struct sp_gpu_array gpu_put_ids(const uint32_t *ids, size_t count);
struct sp_gpu_array gpu_room(enum sp_gpu_type type, size_t count);
/* Its values as fp32, malloc'd. */
float *gpu_get(struct sp_gpu_array array);

/* |got - want| <= tolerance · (1 + |want|) for all; says where not. */
void gpu_near(const char *what, const float *got, const float *want, size_t count, float tolerance);

/* Runs the test with the emulator's threads in each order (on a GPU: as often): what it gives to
 * gpu_same must be the same bits each time. */
void gpu_orders(void (*test)(void));
void gpu_same(struct sp_gpu_array array);

#endif
