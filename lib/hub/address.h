/* address.h -- which network addresses are no public ones; pure. */
#ifndef SP_ADDRESS_H
#define SP_ADDRESS_H

#include <sys/socket.h>

/*
 * 1 for addresses that name this host or something in the networks around it: loopback, private,
 * link-local (clouds keep credentials there), shared, unspecified, multicast (RFC 6890; IPv4 also
 * when it is written as IPv6), and for families other than IPv4 and IPv6. A hub on the internet has
 * no business to lead there.
 */
int sp_address_is_inside(const struct sockaddr *address);

#endif
