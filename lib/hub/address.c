/* address.c -- addresses of this host and the networks around it. */
#include "hub/address.h"

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static int
is_inside_v4(uint32_t address)
{
	static const struct {
		uint32_t net;
		unsigned bits;
	} inside[] = {
	    {0x00000000, 8},  /* 0.0.0.0/8: this host */
	    {0x0a000000, 8},  /* 10.0.0.0/8 */
	    {0x64400000, 10}, /* 100.64.0.0/10: shared */
	    {0x7f000000, 8},  /* 127.0.0.0/8 */
	    {0xa9fe0000, 16}, /* 169.254.0.0/16 */
	    {0xac100000, 12}, /* 172.16.0.0/12 */
	    {0xc0000000, 24}, /* 192.0.0.0/24: protocol assignments */
	    {0xc0a80000, 16}, /* 192.168.0.0/16 */
	    {0xc6120000, 15}, /* 198.18.0.0/15: benchmarks */
	    {0xe0000000, 3},  /* 224.0.0.0/3: multicast, reserved, broadcast */
	};

	for (size_t i = 0; i < sizeof(inside) / sizeof(inside[0]); i++)
		if ((address ^ inside[i].net) >> (32 - inside[i].bits) == 0)
			return 1;
	return 0;
}

static uint32_t
read_u32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static int
is_inside_v6(const uint8_t a[16])
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff},
			     nat64[12] = {0x00, 0x64, 0xff, 0x9b}, zero[12];
	static const uint8_t local_nat64[6] = {0x00, 0x64, 0xff, 0x9b, 0x00, 0x01};

	/* 2002:aabb:ccdd::/48 is behind a.b.c.d (6to4) */
	if (a[0] == 0x20 && a[1] == 0x02)
		return is_inside_v4(read_u32(a + 2));
	/* 64:ff9b:1::/48 leads where the network around us says (RFC 8215) */
	if (memcmp(a, local_nat64, 6) == 0)
		return 1;
	/* ::ffff:a.b.c.d, 64:ff9b::a.b.c.d; ::/96 holds :: and ::1 */
	if (memcmp(a, mapped, 12) == 0 || memcmp(a, nat64, 12) == 0)
		return is_inside_v4(read_u32(a + 12));
	if (memcmp(a, zero, 12) == 0)
		return 1;
	/* fc00::/7, fe80::/10, fec0::/10, ff00::/8 */
	return (a[0] & 0xfe) == 0xfc || (a[0] == 0xfe && a[1] >= 0x80) || a[0] == 0xff;
}

int
sp_address_is_inside(const struct sockaddr *address)
{
	struct sockaddr_in6 v6;
	struct sockaddr_in v4;

	if (address->sa_family == AF_INET) {
		memcpy(&v4, address, sizeof(v4));
		return is_inside_v4(ntohl(v4.sin_addr.s_addr));
	}
	if (address->sa_family != AF_INET6)
		return 1;
	memcpy(&v6, address, sizeof(v6));
	return is_inside_v6(v6.sin6_addr.s6_addr);
}
