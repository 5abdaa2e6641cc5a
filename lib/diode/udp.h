/* udp.h -- the sockets of the diode: one that only sends, one that only receives. */
#ifndef SP_UDP_H
#define SP_UDP_H

#include "diode/frame.h"

/* Datagrams of one train: 44 of 1,472 bytes stay below the 65,507 of one UDP_SEGMENT send. */
#define SP_UDP_TRAIN 44

/* destination, listen: "host:port", "[v6]:port"; SP_E_CONFIG when it cannot be read or resolved.
 * The sender's socket is connected, so that its route is looked up once. */
struct sp_udp_sender {
	int fd;
	int has_segment; /* UDP_SEGMENT: tried until the kernel or the device refuses */
	uint64_t datagrams, bytes;
	uint64_t unsent; /* datagrams that the network did not take: lost like any other */
};
enum sp_code sp_udp_sender_open(
    struct sp_udp_sender *sender, const char *destination, struct sp_err *err) SP_MUST_USE;
/* Sends count (1 … SP_UDP_TRAIN) datagrams of len bytes that lie one after the other. A link that
 * is down is no error: nobody could tell it from a link that loses. SP_E_CONFIG when the path does
 * not take datagrams of that size. */
enum sp_code sp_udp_sender_send(struct sp_udp_sender *sender, const uint8_t *train, size_t len,
    unsigned count, struct sp_err *err) SP_MUST_USE;
void sp_udp_sender_close(struct sp_udp_sender *sender);

struct sp_udp_receiver;
/* rcvbuf_bytes is asked for and may be cut by net.core.rmem_max; *got, when not NULL, is what the
 * kernel gave (it counts its own overhead in). */
enum sp_code sp_udp_receiver_open(const char *listen, int rcvbuf_bytes,
    struct sp_udp_receiver **out, int *got, struct sp_err *err) SP_MUST_USE;
void sp_udp_receiver_close(struct sp_udp_receiver **receiver);
int sp_udp_receiver_fd(const struct sp_udp_receiver *receiver);
unsigned sp_udp_receiver_port(const struct sp_udp_receiver *receiver);
/* Takes what waits, without blocking, and calls fn for each datagram (GRO trains are taken apart).
 * Returns the number of datagrams; 0 when none waits. */
unsigned sp_udp_receiver_read(struct sp_udp_receiver *receiver,
    void (*fn)(void *ctx, const uint8_t *data, size_t len), void *ctx);
/* Datagrams that the kernel dropped because the socket's buffer was full (SO_RXQ_OVFL). */
uint64_t sp_udp_receiver_overflow(const struct sp_udp_receiver *receiver);

#endif
