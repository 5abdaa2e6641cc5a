/* confine_filter.h -- the system calls that a worker's child does without; for lib/bus alone. */
#ifndef SP_CONFINE_FILTER_H
#define SP_CONFINE_FILTER_H

#include "base/err.h"

/* Installs the filter, for good, for what it starts too. network: internet sockets are allowed;
 * programs: processes, execve, and signals to what it has started; namespaces: what bubblewrap
 * does; unmapped: no shared mapping is. */
enum sp_code sp_confine_filter(
    int network, int programs, int namespaces, int unmapped, struct sp_err *err) SP_MUST_USE;

#endif
