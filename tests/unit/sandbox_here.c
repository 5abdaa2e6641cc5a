/* sandbox_here.c -- which sandboxes for generated programs this machine can make. */
#include "sandbox_here.h"

#include <stdio.h>

int
sandbox_works(enum sp_sandbox_kind kind)
{
	static int asked[2], works[2];
	struct sp_sandbox_limits limits = sp_sandbox_defaults;
	struct sp_err err;

	if (asked[kind]++ > 0)
		return works[kind];
	limits.kind = kind;
	works[kind] = sp_sandbox_check(&limits, &err) == SP_OK;
	if (!works[kind])
		printf("NOTE: no %s here, and what needs it is skipped: %s\n",
		    sp_sandbox_word(kind), err.msg);
	return works[kind];
}

struct sp_sandbox_limits
sandbox_here(void)
{
	struct sp_sandbox_limits limits = sp_sandbox_defaults;

	limits.kind =
	    sandbox_works(SP_SANDBOX_BUBBLEWRAP) ? SP_SANDBOX_BUBBLEWRAP : SP_SANDBOX_LANDLOCK;
	return limits;
}
