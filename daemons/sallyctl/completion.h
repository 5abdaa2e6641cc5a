/* completion.h -- completion for bash, made from the table of commands. Pure. */
#ifndef CTL_COMPLETION_H
#define CTL_COMPLETION_H

#include "args.h"
#include "base/buf.h"

/* How a placeholder of the table ("ID", "[DIR]", "NAME[@V]", "ROLE=K") is completed: a word that
 * the script knows, "none" where nothing can be offered; NULL: the placeholder is not known. */
const char *ctl_completion_kind(const char *placeholder);
/* The script: a function _sallyctl, and the `complete` that binds it. */
void ctl_completion_bash(const struct ctl_command *commands, struct sp_buf *out);

#endif
