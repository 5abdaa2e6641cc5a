/*
 * child.h -- inside a worker's child process: what it hears (stdin) and says (fd 3).
 *
 * Frames, both ways: u32be length, then that many bytes of bus.proto ChildEvent. A step's child
 * instead reads its whole Task from stdin, up to the end.
 */
#ifndef SP_CHILD_H
#define SP_CHILD_H

#include "base/err.h"
#include "bus.pb-c.h"

struct sp_child;

/* For struct sp_worker_helper's run. */

/* To the parent's sp_worker_note_fn; thread-safe; blocks while the pipe is full. SP_E_UNREACHABLE
 * when the parent is gone. */
enum sp_code sp_child_note(
    struct sp_child *child, const Sallyport__ChildNote *note, struct sp_err *err) SP_MUST_USE;

/* The file of the key that struct sp_worker_helper names, NULL when it names none. */
const char *sp_child_key(const struct sp_child *child);

/* The next note that sp_worker_tell sent; waits for it up to timeout_ms (-1: without end, 0: only
 * looks). SP_OK and *note (free with sallyport__child_note__free_unpacked), SP_E_TIMEOUT, or
 * SP_E_CANCELLED when the input has ended: the daemon is going, so should run. One thread only. */
enum sp_code sp_child_hear(struct sp_child *child, int timeout_ms, Sallyport__ChildNote **note,
    struct sp_err *err) SP_MUST_USE;

/* Readable when sp_child_hear may have something: for poll(2) or uv_poll_t beside other fds. After
 * it fires call sp_child_hear(child, 0, …) until SP_E_TIMEOUT. */
int sp_child_fd(const struct sp_child *child);

#endif
