/*
 * confine.h -- what a worker's child may reach. It parses what comes from outside, and runs under
 * its daemon's uid: without this it could open the keys' files, or look into its parent.
 *
 * The child names what its step needs, then sp_confine_enter takes all else away, for good: by
 * Landlock (base/landlock.h) every file but those named, the programs and libraries below /usr,
 * what name resolution and TLS read, its daemon's own store and state, and, reading, the other
 * stores; by seccomp tracing and other processes' memory, signals to others, new processes and
 * programs, mounts and namespaces, kernel facilities that no step uses, and all sockets but (for
 * steps that need the network) those of the internet: not Unix sockets, on which ledgerd listens.
 *
 * A secret is named as such, and only by a step that cannot do without: diode-rxd's receiver (the
 * link's key), fetcherd's (the hub's token). No other file in the keys' directory or among
 * systemd's credentials can be named at all.
 *
 * A step that starts bubblewrap cannot be under Landlock, which forbids mounts, and must be allowed
 * programs, namespaces, mounts and signals. Since it needs user namespaces anyway, it gets one of
 * its own in which the directories of keys, credentials and ledgerd's sockets are covered by empty
 * ones that it cannot lift. Where no namespaces can be made, bubblewrap does not start, and the
 * step is under Landlock as any other.
 */
#ifndef SP_CONFINE_H
#define SP_CONFINE_H

#include "base/conf.h"
#include "bus.pb-c.h"

struct sp_confine;

/* What a step names; path: absolute, NULL is nothing, one that does not exist is no error. */
void sp_confine_read(struct sp_confine *confine, const char *path);
/* A file that is secret, and that the step cannot do without: it may lie where keys do. */
void sp_confine_secret(struct sp_confine *confine, const char *path);
void sp_confine_network(struct sp_confine *confine);
/* It maps no file shared: what it has written changes only by writes, through descriptors that the
 * kernel counts (store/hold.h). */
void sp_confine_unmapped(struct sp_confine *confine);
void sp_confine_bubblewrap(struct sp_confine *confine);
/* It starts programs, which are under all the same: generated ones, in a sandbox without
 * namespaces. */
void sp_confine_programs(struct sp_confine *confine);

/* A step's, or a helper's (task NULL), list of what it needs. task: from ledgerd, its form checked.
 */
typedef enum sp_code sp_confine_fn(const struct sp_conf *conf, const Sallyport__Task *task,
    struct sp_confine *confine, struct sp_err *err);

/* In the child, single-threaded, before it reads anything that comes from outside. fn may be NULL.
 * key: the file of the daemon's key that it needs, or NULL. Where the kernel has no Landlock that
 * is good for it (ABI 2, Linux 5.19) the log says so, and seccomp alone confines it; what else
 * fails is an error, and nothing must be done. */
enum sp_code sp_confine_enter(const struct sp_conf *conf, const char *service, sp_confine_fn *fn,
    const Sallyport__Task *task, const char *key, struct sp_err *err) SP_MUST_USE;

#endif
