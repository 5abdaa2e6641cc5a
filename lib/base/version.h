/* version.h -- of the code, as --version, heartbeats and attestations give it. */
#ifndef SP_VERSION_H
#define SP_VERSION_H

#define SP_VERSION "0.1.0"

#endif
