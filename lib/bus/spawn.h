/*
 * spawn.h -- child processes of a worker: both ends of the pipes; for lib/bus alone.
 *
 * A child is /proc/self/exe started anew with "--child step:NAME" or "--child helper:NAME", stdin
 * and fd 3 as bus/child.h says, stdout and stderr the daemon's stderr, in a session of its own, so
 * that killing its process group takes what it has started along. What comes over fd 3 is believed
 * as little as a datagram.
 */
#ifndef SP_SPAWN_H
#define SP_SPAWN_H

#include "base/err.h"
#include "bus.pb-c.h"

#include <sys/types.h>
#include <uv.h>

#define SP_CHILD_FD 3

/* --- the daemon's end ------------------------------------------------------------------------- */

struct sp_spawn;

typedef void sp_spawn_event_fn(void *ctx, const Sallyport__ChildEvent *event);
/* The process is gone and all that it said was delivered; the sp_spawn is freed after the call.
 * code: SP_OK when it exited with status 0 and said nothing wrong, else SP_E_INTERNAL with err. */
typedef void sp_spawn_exit_fn(void *ctx, enum sp_code code, const struct sp_err *err);

struct sp_spawn_spec {
	uv_loop_t *loop;
	const char *what;     /* "step fetch", for messages */
	char *const *args;    /* argv, NULL-terminated */
	const uint8_t *input; /* copied; the child's stdin then ends, unless keep_open */
	size_t input_len;
	int keep_open;
	sp_spawn_event_fn *on_event;
	sp_spawn_exit_fn *on_exit;
	void *ctx;
};

enum sp_code sp_spawn_start(
    const struct sp_spawn_spec *spec, struct sp_spawn **out, struct sp_err *err) SP_MUST_USE;
/* SIGKILL to its process group; on_exit follows. */
void sp_spawn_kill(struct sp_spawn *spawn);
/* Takes frame (malloc'd) over; SP_E_LIMIT when the child does not read what it was sent. */
enum sp_code
sp_spawn_send(struct sp_spawn *spawn, uint8_t *frame, size_t len, struct sp_err *err) SP_MUST_USE;
/* Ends the child's input. */
void sp_spawn_end_input(struct sp_spawn *spawn);

/* Pure: the first frame of data. 1: it is whole, its body begins 4 bytes in and has *body_len; 0:
 * more bytes are needed; -1: its length is out of bounds. */
int sp_spawn_split(const uint8_t *data, size_t len, size_t *body_len);

/* --- the child's end (child.c) ---------------------------------------------------------------- */

/* What the child does not need goes: its life ends with the parent's, no new privileges, no core
 * dumps, nobody attaches, no other file descriptors. Exits when parent is gone already. */
void sp_child_harden(pid_t parent);
/* One frame; blocks while the pipe is full. */
enum sp_code
sp_child_write(int fd, const Sallyport__ChildEvent *event, struct sp_err *err) SP_MUST_USE;

#endif
