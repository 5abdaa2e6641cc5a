/* sandbox_filter.h -- the seccomp program of the sandbox. */
#ifndef SP_SANDBOX_FILTER_H
#define SP_SANDBOX_FILTER_H

#include "base/buf.h"
#include "eval/sandbox.h"

/* Appends the BPF program (bwrap --seccomp's, or prctl(2)'s): an allow-list of what Python needs,
 * everything else fails with EPERM. No sockets, no new process or thread, no namespaces, no
 * tracing; no signal to any other process: bubblewrap's sandbox has no other, Landlock's may not
 * name one. */
enum sp_code
sp_sandbox_filter(enum sp_sandbox_kind kind, struct sp_buf *out, struct sp_err *err) SP_MUST_USE;

#endif
