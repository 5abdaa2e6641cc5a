/*
 * power.h -- powers as PyTorch computes them on a CPU, bit for bit: fp32, to the power of 0, 1/2
 * and 1 exactly, else by SLEEF, whose functions with FMA give the same bits on every processor.
 */
#ifndef SP_POWER_H
#define SP_POWER_H

/* x to the power y; x >= 0, 0 <= y <= 1. A processor without FMA (x86 older than 2013) gets, about
 * once in a thousand times, a neighbour of what others get. */
float sp_power(float x, float y);

/* "3.5.1": SLEEF as it was compiled against; it does not say at run time what it is. */
const char *sp_power_library(void);

#endif
