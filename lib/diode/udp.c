/* udp.c -- the sockets of the diode. */
#include "diode/udp.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103 /* linux/udp.h, since 4.18 */
#endif
#ifndef UDP_GRO
#define UDP_GRO 104 /* since 5.0 */
#endif

#define BATCH 32	  /* messages of one recvmmsg, each perhaps a GRO train */
#define MESSAGE_LEN 65536 /* bytes of the longest */

struct sp_udp_receiver {
	int fd;
	uint32_t overflow_seen; /* the kernel's counter, which wraps */
	uint64_t overflow;
	uint8_t buffers[BATCH][MESSAGE_LEN];
	union {
		struct cmsghdr align;
		uint8_t bytes[CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(uint32_t))];
	} control[BATCH];
};

/* Decimal, 0 to 65535: getaddrinfo would take 70000 for 4464. */
static int
is_port(const char *text)
{
	size_t digits = strspn(text, "0123456789");

	return digits >= 1 && digits <= 5 && text[digits] == '\0' &&
	       strtoul(text, NULL, 10) <= 65535;
}

static enum sp_code
resolve(const char *text, int flags, struct addrinfo **out, struct sp_err *err)
{
	const char *colon = strrchr(text, ':');
	struct addrinfo hints = {.ai_flags = flags | AI_NUMERICSERV, .ai_socktype = SOCK_DGRAM};
	char *host;
	size_t len;
	int rc;

	if (colon == NULL || colon == text || !is_port(colon + 1))
		return sp_err_set(
		    err, SP_E_CONFIG, "\"%s\" is not host:port with a port up to 65535", text);
	len = (size_t)(colon - text);
	host = text[0] == '[' && text[len - 1] == ']' ? strndup(text + 1, len - 2)
						      : strndup(text, len);
	if (host == NULL)
		return sp_err_set(err, SP_E_NO_MEMORY, "%s", text);
	rc = getaddrinfo(host, colon + 1, &hints, out);
	free(host);
	if (rc != 0)
		return sp_err_set(err, SP_E_CONFIG, "%s: %s", text, gai_strerror(rc));
	return SP_OK;
}

/* --- sending --- */

enum sp_code
sp_udp_sender_open(struct sp_udp_sender *sender, const char *destination, struct sp_err *err)
{
	struct addrinfo *address;
	enum sp_code code = resolve(destination, 0, &address, err);
	int sndbuf_bytes = 4 << 20;

	memset(sender, 0, sizeof(*sender));
	sender->fd = -1;
	if (code != SP_OK)
		return code;
	sender->fd = socket(address->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (sender->fd < 0 || connect(sender->fd, address->ai_addr, address->ai_addrlen) != 0) {
		code = sp_err_errno(err, "sending to %s", destination);
		sp_udp_sender_close(sender);
	} else {
		/* a wish: the default buffer works too */
		(void)setsockopt(
		    sender->fd, SOL_SOCKET, SO_SNDBUF, &sndbuf_bytes, sizeof(sndbuf_bytes));
		sender->has_segment = 1;
	}
	freeaddrinfo(address);
	return code;
}

void
sp_udp_sender_close(struct sp_udp_sender *sender)
{
	if (sender->fd >= 0)
		close(sender->fd);
	sender->fd = -1;
}

/* The whole train in one message that kernel or device cuts; 1 sent, 0 not possible here, -1 errno.
 */
static int
send_segmented(struct sp_udp_sender *sender, const uint8_t *train, size_t len, unsigned count)
{
	union {
		struct cmsghdr align;
		uint8_t bytes[CMSG_SPACE(sizeof(uint16_t))];
	} control = {.bytes = {0}};
	struct iovec iov = {.iov_len = len * count};
	struct msghdr msg = {.msg_iov = &iov,
	    .msg_iovlen = 1,
	    .msg_control = &control,
	    .msg_controllen = sizeof(control)};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
	uint16_t segment = (uint16_t)len;

	memcpy(&iov.iov_base, &train, sizeof(train)); /* sendmsg does not write */
	cmsg->cmsg_level = SOL_UDP;
	cmsg->cmsg_type = UDP_SEGMENT;
	cmsg->cmsg_len = CMSG_LEN(sizeof(segment));
	memcpy(CMSG_DATA(cmsg), &segment, sizeof(segment));
	if (sendmsg(sender->fd, &msg, 0) >= 0)
		return 1;
	/* no checksum offload, too many segments, or a kernel that never heard of it */
	if (errno == EIO || errno == EINVAL || errno == ENOPROTOOPT || errno == EOPNOTSUPP ||
	    errno == EMSGSIZE) {
		sender->has_segment = 0;
		return 0;
	}
	return -1;
}

/* One message per datagram; number sent, -1 errno. */
static int
send_many(struct sp_udp_sender *sender, const uint8_t *train, size_t len, unsigned count)
{
	struct iovec iov[SP_UDP_TRAIN];
	struct mmsghdr msgs[SP_UDP_TRAIN];

	memset(msgs, 0, sizeof(msgs));
	for (unsigned i = 0; i < count; i++) {
		const uint8_t *datagram = train + i * len;

		memcpy(&iov[i].iov_base, &datagram, sizeof(datagram));
		iov[i].iov_len = len;
		msgs[i].msg_hdr.msg_iov = &iov[i];
		msgs[i].msg_hdr.msg_iovlen = 1;
	}
	return sendmmsg(sender->fd, msgs, count, 0);
}

enum sp_code
sp_udp_sender_send(struct sp_udp_sender *sender, const uint8_t *train, size_t len, unsigned count,
    struct sp_err *err)
{
	SP_ASSERT(count >= 1 && count <= SP_UDP_TRAIN && len <= SP_FRAME_MAX);
	for (unsigned done = 0; done < count;) {
		struct pollfd room = {.fd = sender->fd, .events = POLLOUT};
		unsigned left = count - done;
		int n = 0;

		if (sender->has_segment && left > 1) {
			n = send_segmented(sender, train + done * len, len, left);
			if (n == 0)
				continue;
			n = n > 0 ? (int)left : n;
		} else {
			n = send_many(sender, train + done * len, len, left);
		}
		if (n > 0) {
			done += (unsigned)n;
			sender->datagrams += (unsigned)n;
			sender->bytes += (unsigned)n * len;
		} else if (errno == EMSGSIZE) {
			return sp_err_set(err, SP_E_CONFIG,
			    "the path takes no UDP datagrams of %zu bytes: its MTU must be 1500",
			    len);
		} else if (errno == EAGAIN || errno == EINTR) {
			/* the socket's own buffer is full: wait for it, but for a bounded time */
			(void)poll(&room, 1, 100);
		} else {
			/* ECONNREFUSED, ENETDOWN, ENOBUFS, …: one datagram less arrives */
			sender->unsent++;
			done++;
		}
	}
	return SP_OK;
}

/* --- receiving --- */

static void
set_options(int fd, int rcvbuf_bytes)
{
	int on = 1;

	/* wishes all: without them more is lost, and counted, but nothing breaks */
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &rcvbuf_bytes, sizeof(rcvbuf_bytes)) != 0)
		(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &rcvbuf_bytes, sizeof(rcvbuf_bytes));
	(void)setsockopt(fd, SOL_SOCKET, SO_RXQ_OVFL, &on, sizeof(on));
	(void)setsockopt(fd, SOL_UDP, UDP_GRO, &on, sizeof(on));
}

enum sp_code
sp_udp_receiver_open(const char *listen, int rcvbuf_bytes, struct sp_udp_receiver **out, int *got,
    struct sp_err *err)
{
	struct sp_udp_receiver *receiver = NULL;
	struct addrinfo *address;
	enum sp_code code = resolve(listen, AI_PASSIVE, &address, err);
	socklen_t len = sizeof(*got);

	if (code != SP_OK)
		return code;
	receiver = sp_xcalloc(1, sizeof(*receiver));
	receiver->fd = socket(address->ai_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (receiver->fd >= 0)
		set_options(receiver->fd, rcvbuf_bytes);
	if (receiver->fd < 0 || bind(receiver->fd, address->ai_addr, address->ai_addrlen) != 0) {
		code = sp_err_errno(err, "listening on %s", listen);
		sp_udp_receiver_close(&receiver);
	} else if (got != NULL && getsockopt(receiver->fd, SOL_SOCKET, SO_RCVBUF, got, &len) != 0) {
		*got = 0;
	}
	freeaddrinfo(address);
	*out = receiver;
	return code;
}

void
sp_udp_receiver_close(struct sp_udp_receiver **receiver)
{
	if (*receiver == NULL)
		return;
	if ((*receiver)->fd >= 0)
		close((*receiver)->fd);
	free(*receiver);
	*receiver = NULL;
}

int
sp_udp_receiver_fd(const struct sp_udp_receiver *receiver)
{
	return receiver->fd;
}

unsigned
sp_udp_receiver_port(const struct sp_udp_receiver *receiver)
{
	struct sockaddr_storage address = {0};
	socklen_t len = sizeof(address);
	struct sockaddr_in6 v6;
	struct sockaddr_in v4;

	SP_ASSERT(getsockname(receiver->fd, (struct sockaddr *)&address, &len) == 0);
	memcpy(&v4, &address, sizeof(v4));
	memcpy(&v6, &address, sizeof(v6));
	return ntohs(address.ss_family == AF_INET6 ? v6.sin6_port : v4.sin_port);
}

uint64_t
sp_udp_receiver_overflow(const struct sp_udp_receiver *receiver)
{
	return receiver->overflow;
}

/* Length of the train's segments, 0 when the message is one datagram; takes the drop counter. */
static size_t
read_control(struct sp_udp_receiver *receiver, struct msghdr *msg)
{
	size_t segment = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c)) {
		uint32_t drops;
		int size;

		if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO) {
			memcpy(&size, CMSG_DATA(c), sizeof(size));
			segment = size > 0 ? (size_t)size : 0;
		} else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_RXQ_OVFL) {
			memcpy(&drops, CMSG_DATA(c), sizeof(drops));
			receiver->overflow += (uint32_t)(drops - receiver->overflow_seen);
			receiver->overflow_seen = drops;
		}
	}
	return segment;
}

unsigned
sp_udp_receiver_read(struct sp_udp_receiver *receiver,
    void (*fn)(void *ctx, const uint8_t *data, size_t len), void *ctx)
{
	struct iovec iov[BATCH];
	struct mmsghdr msgs[BATCH];
	unsigned datagrams = 0;
	int n;

	memset(msgs, 0, sizeof(msgs));
	for (int i = 0; i < BATCH; i++) {
		iov[i] = (struct iovec){receiver->buffers[i], MESSAGE_LEN};
		msgs[i].msg_hdr.msg_iov = &iov[i];
		msgs[i].msg_hdr.msg_iovlen = 1;
		msgs[i].msg_hdr.msg_control = &receiver->control[i];
		msgs[i].msg_hdr.msg_controllen = sizeof(receiver->control[i]);
	}
	n = recvmmsg(receiver->fd, msgs, BATCH, MSG_DONTWAIT, NULL);
	for (int i = 0; i < n; i++) {
		size_t segment = read_control(receiver, &msgs[i].msg_hdr);
		size_t len = msgs[i].msg_len, offset = 0;

		do { /* at least once: an empty datagram is one too */
			size_t left = len - offset;
			size_t step = segment > 0 && segment < left ? segment : left;

			fn(ctx, receiver->buffers[i] + offset, step);
			offset += step;
			datagrams++;
		} while (offset < len);
	}
	return datagrams;
}
