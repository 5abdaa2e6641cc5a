/* sandbox_kind.c -- the names of the sandboxes. */
#include "eval/sandbox.h"

#include <string.h>

const char *
sp_sandbox_word(enum sp_sandbox_kind kind)
{
	return kind == SP_SANDBOX_LANDLOCK ? "landlock" : "bubblewrap";
}

int
sp_sandbox_find(const char *word, enum sp_sandbox_kind *out)
{
	*out = strcmp(word, "landlock") == 0 ? SP_SANDBOX_LANDLOCK : SP_SANDBOX_BUBBLEWRAP;
	return strcmp(word, sp_sandbox_word(*out)) == 0;
}
