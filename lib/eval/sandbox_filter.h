/* sandbox_filter.h -- the seccomp program of the sandbox. */
#ifndef SP_SANDBOX_FILTER_H
#define SP_SANDBOX_FILTER_H

#include "base/buf.h"

/* Appends the BPF program that bwrap --seccomp takes: an allow-list of what Python needs,
 * everything else fails with EPERM. No sockets, no new process or thread, no namespaces, no
 * tracing. */
enum sp_code sp_sandbox_filter(struct sp_buf *out, struct sp_err *err) SP_MUST_USE;

#endif
