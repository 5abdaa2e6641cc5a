/* power.c -- powers as PyTorch computes them. */
#include "awq/power.h"

#include <math.h>

#ifndef FP_FAST_FMA /* without it sleef.h keeps what needs FMA to itself */
#define FP_FAST_FMA
#endif
#include <sleef.h>

#define TEXT(x) #x
#define DOTTED(major, minor, patch) TEXT(major) "." TEXT(minor) "." TEXT(patch)

static int
has_fma(void)
{
#ifdef __x86_64__
	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
	return 1;
#endif
}

float
sp_power(float x, float y)
{
	if (y == 0.0f)
		return 1.0f;
	if (y == 0.5f)
		return sqrtf(x);
	if (y == 1.0f)
		return x;
	return has_fma() ? Sleef_finz_powf1_u10purecfma(x, y) : Sleef_cinz_powf1_u10purec(x, y);
}

const char *
sp_power_library(void)
{
	return DOTTED(SLEEF_VERSION_MAJOR, SLEEF_VERSION_MINOR, SLEEF_VERSION_PATCHLEVEL);
}
