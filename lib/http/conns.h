/*
 * conns.h -- the connections of a server: how many there are, how many of one address, which of
 * them owe it a request, and the thread that ends those which take too long over it; of lib/http
 * alone.
 *
 * libmicrohttpd ends connections on which nothing moves. One that sends a byte now and then would
 * live on for hours: here a request has to be there as a whole in time, however it trickles in.
 */
#ifndef SP_CONNS_H
#define SP_CONNS_H

#include <stdint.h>

struct sockaddr;
struct sp_conns;
struct sp_conn;

/* most: connections at the same time; per_address: of them from one IPv4 address, or one /64 of
 * IPv6 (which one host may have to itself). request_ms: for a whole request, from the connection
 * on; after an answer idle_ms more. NULL when no thread can be started. */
struct sp_conns *
sp_conns_new(unsigned most, unsigned per_address, int64_t request_ms, int64_t idle_ms);
/* No connection is left by then. */
void sp_conns_free(struct sp_conns **conns);

/* 1: there are as many as there may be. */
int sp_conns_full(struct sp_conns *conns);
/* fd stays the caller's, and open until sp_conns_drop. NULL: there are as many of from's address as
 * there may be. Who asks sp_conns_full first, on several threads, may go beyond by one a thread. */
struct sp_conn *sp_conns_add(struct sp_conns *conns, int fd, const struct sockaddr *from);
/* A whole request is there: the answer may take as long as it does. */
void sp_conns_asked(struct sp_conns *conns, struct sp_conn *conn);
/* The answer is out: the next request may come. */
void sp_conns_answered(struct sp_conns *conns, struct sp_conn *conn);
void sp_conns_drop(struct sp_conns *conns, struct sp_conn *conn);

/* What the thread does now and then: shuts down what is overdue at now_ms (of
 * sp_time_monotonic_ms), and says how many that were. Their owners see the end, and drop them. */
unsigned sp_conns_look(struct sp_conns *conns, int64_t now_ms);

#endif
