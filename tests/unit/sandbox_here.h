/* sandbox_here.h -- which sandboxes for generated programs this machine can make. */
#ifndef SP_TEST_SANDBOX_HERE_H
#define SP_TEST_SANDBOX_HERE_H

#include "eval/sandbox.h"

/* Whether that kind works here; when not, why is printed, once. */
int sandbox_works(enum sp_sandbox_kind kind);
/* bubblewrap where it works, else Landlock: for tests of what lies above either. */
struct sp_sandbox_limits sandbox_here(void);

#endif
