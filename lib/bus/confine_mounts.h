/* confine_mounts.h -- the keys out of sight of a child that makes mounts; for lib/bus alone. */
#ifndef SP_CONFINE_MOUNTS_H
#define SP_CONFINE_MOUNTS_H

#include "base/conf.h"

/* The process gets a user and a mount namespace of its own, in which the keys' directory, systemd's
 * credentials and the directory of ledgerd's sockets are empty, and those covers cannot be lifted.
 * SP_E_UNSUPPORTED, and nothing is done, where nobody may make namespaces: bubblewrap will not
 * start either. */
enum sp_code sp_confine_cover(const struct sp_conf *conf, struct sp_err *err) SP_MUST_USE;

#endif
