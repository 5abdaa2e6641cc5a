/* client.c -- asking ledgerd. */
#include "client.h"
#include "base/limits.h"
#include "base/time.h"
#include "bus/wire.h"

#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <zmq.h>

#define VERSION 1

struct ctl_client {
	char *path;
	void *context, *socket;
	uint64_t seq;
};

static enum sp_code
connect_socket(struct ctl_client *client, struct sp_err *err)
{
	int64_t max = SP_MESSAGE_MAX;
	int linger = 0, high = 16;
	enum sp_code code = SP_OK;
	char *endpoint = sp_xasprintf("ipc://%s", client->path);

	if (client->socket != NULL)
		zmq_close(client->socket);
	client->socket = zmq_socket(client->context, ZMQ_DEALER);
	if (client->socket == NULL ||
	    zmq_setsockopt(client->socket, ZMQ_LINGER, &linger, sizeof(linger)) != 0 ||
	    zmq_setsockopt(client->socket, ZMQ_SNDHWM, &high, sizeof(high)) != 0 ||
	    zmq_setsockopt(client->socket, ZMQ_MAXMSGSIZE, &max, sizeof(max)) != 0 ||
	    zmq_connect(client->socket, endpoint) != 0)
		code = sp_err_set(err, SP_E_UNREACHABLE, "cannot connect to %s: %s", client->path,
		    zmq_strerror(zmq_errno()));
	free(endpoint);
	return code;
}

/* Of the socket, or of the directory that hides it: whom to join. "" when it has no name. */
static void
group_of(const char *path, char out[64])
{
	char buffer[4096], *dir = strndup(path, (size_t)(strrchr(path, '/') - path));
	struct group entry, *group = NULL;
	struct stat st;

	out[0] = '\0';
	if ((stat(path, &st) == 0 || (dir != NULL && stat(dir, &st) == 0)) &&
	    getgrgid_r(st.st_gid, &entry, buffer, sizeof(buffer), &group) == 0 && group != NULL)
		snprintf(out, 64, "%s", group->gr_name);
	free(dir);
}

/* Whether anybody listens, and to us: libzmq would try for ever. */
static enum sp_code
try_socket(const char *path, struct sp_err *err)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd, rc, why;
	char group[64];

	if (path[0] != '/' || strlen(path) >= sizeof(address.sun_path))
		return sp_err_set(err, SP_E_CONFIG,
		    "bus.operators is %s: it must be an absolute path of less than %zu bytes", path,
		    sizeof(address.sun_path));
	memcpy(address.sun_path, path, strlen(path));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return sp_err_errno(err, "cannot make a socket");
	rc = connect(fd, (struct sockaddr *)&address, sizeof(address));
	why = errno;
	close(fd);
	if (rc == 0 || why == EAGAIN)
		return SP_OK;
	if (why == EACCES) {
		group_of(path, group);
		return sp_err_set(err, SP_E_DENIED,
		    "%s may not be used by you: operators are in the group %s (as root: adduser "
		    "USER %s, then log in again)",
		    path, group[0] != '\0' ? group : "of that file",
		    group[0] != '\0' ? group : "GROUP");
	}
	if (why == ECONNREFUSED)
		return sp_err_set(err, SP_E_UNREACHABLE,
		    "ledgerd is not running here: %s was left by one that has ended; start it "
		    "(systemctl start sallyport-ledgerd)",
		    path);
	return sp_err_set(err, SP_E_UNREACHABLE,
	    "ledgerd is not running here: %s: %s; start it (systemctl start sallyport-ledgerd), or "
	    "name the configuration that says where its socket is (-c, --root)",
	    path, strerror(why));
}

enum sp_code
ctl_client_open(const char *path, struct ctl_client **out, struct sp_err *err)
{
	struct ctl_client *client;
	enum sp_code code;

	*out = NULL;
	code = try_socket(path, err);
	if (code != SP_OK)
		return code;
	client = sp_xcalloc(1, sizeof(*client));
	client->path = sp_xstrdup(path);
	client->context = zmq_ctx_new();
	SP_ASSERT(client->context != NULL);
	/* a reply that comes late belongs to another run of this program */
	client->seq = (uint64_t)sp_time_unix_ms() << 8;
	code = connect_socket(client, err);
	if (code != SP_OK)
		ctl_client_close(&client);
	*out = client;
	return code;
}

void
ctl_client_close(struct ctl_client **client)
{
	if (client == NULL || *client == NULL)
		return;
	if ((*client)->socket != NULL)
		zmq_close((*client)->socket);
	zmq_ctx_term((*client)->context);
	free((*client)->path);
	free(*client);
	*client = NULL;
}

enum sp_code
ctl_client_read(const uint8_t *data, size_t len, uint64_t seq, int *mine,
    Sallyport__OperatorReply **out, struct sp_err *err)
{
	Sallyport__OperatorReply *reply;
	enum sp_code code = SP_OK;
	struct sp_err inner;

	*out = NULL;
	*mine = 1;
	reply = (Sallyport__OperatorReply *)sp_wire_unpack(
	    &sallyport__operator_reply__descriptor, data, len, &inner);
	if (reply == NULL)
		return sp_err_set(
		    err, SP_E_INVALID, "ledgerd's reply cannot be read: %s", inner.msg);
	if (reply->version != VERSION) {
		code = sp_err_set(err, SP_E_UNSUPPORTED,
		    "ledgerd speaks version %u of the operators' protocol, this sallyctl version "
		    "%d: install the same release of both",
		    reply->version, VERSION);
	} else if (reply->ack_seq != seq) {
		*mine = 0;
	} else if (reply->body_case == SALLYPORT__OPERATOR_REPLY__BODY_ERROR) {
		code = sp_err_from_word(reply->error->code);
		code = code != SP_OK ? code : SP_E_INTERNAL;
		sp_err_set(err, code, "%s", reply->error->message);
	} else if (reply->body_case == SALLYPORT__OPERATOR_REPLY__BODY__NOT_SET) {
		code = sp_err_set(err, SP_E_INVALID, "ledgerd's reply is empty");
	}
	if (code == SP_OK && *mine)
		*out = reply;
	else
		sallyport__operator_reply__free_unpacked(reply, NULL);
	return code;
}

/* One message within the time left: SP_E_TIMEOUT when none comes. */
static enum sp_code
receive(struct ctl_client *client, int64_t deadline_ms, zmq_msg_t *message, struct sp_err *err)
{
	zmq_pollitem_t item = {client->socket, 0, ZMQ_POLLIN, 0};
	int64_t left;
	int n;

	for (;;) {
		left = deadline_ms - sp_time_monotonic_ms();
		n = left > 0 ? zmq_poll(&item, 1, (long)left) : 0;
		if (n == 0)
			return sp_err_set(err, SP_E_TIMEOUT, "no reply");
		if (n > 0 && zmq_msg_recv(message, client->socket, ZMQ_DONTWAIT) >= 0)
			return SP_OK;
		if (zmq_errno() != EINTR && zmq_errno() != EAGAIN)
			return sp_err_set(err, SP_E_IO, "cannot receive from %s: %s", client->path,
			    zmq_strerror(zmq_errno()));
	}
}

/* One attempt: send, then replies until ours comes. *silent: none did. */
static enum sp_code
attempt(struct ctl_client *client, const uint8_t *data, size_t len, uint64_t seq, int timeout_ms,
    int *silent, Sallyport__OperatorReply **reply, struct sp_err *err)
{
	int64_t deadline_ms = sp_time_monotonic_ms() + timeout_ms;
	enum sp_code code = SP_OK;
	zmq_msg_t message;
	int mine = 0;

	*silent = 0;
	if (zmq_send(client->socket, data, len, ZMQ_DONTWAIT) < 0 && zmq_errno() != EAGAIN)
		return sp_err_set(
		    err, SP_E_IO, "cannot send to %s: %s", client->path, zmq_strerror(zmq_errno()));
	zmq_msg_init(&message);
	while (code == SP_OK && !mine) {
		code = receive(client, deadline_ms, &message, err);
		if (code == SP_OK)
			code = ctl_client_read(
			    zmq_msg_data(&message), zmq_msg_size(&message), seq, &mine, reply, err);
		else
			*silent = code == SP_E_TIMEOUT;
	}
	zmq_msg_close(&message);
	return code;
}

enum sp_code
ctl_client_ask(struct ctl_client *client, Sallyport__OperatorRequest *request, int timeout_ms,
    Sallyport__OperatorReply **reply, struct sp_err *err)
{
	enum sp_code code;
	int silent;
	uint8_t *data;
	size_t len;

	*reply = NULL;
	request->version = VERSION;
	request->seq = ++client->seq;
	len = sallyport__operator_request__get_packed_size(request);
	data = sp_xrealloc(NULL, len, 1);
	sallyport__operator_request__pack(request, data);
	code = attempt(client, data, len, request->seq, timeout_ms, &silent, reply, err);
	if (silent && (code = connect_socket(client, err)) == SP_OK)
		code = attempt(client, data, len, request->seq, timeout_ms, &silent, reply, err);
	free(data);
	if (silent && code == SP_E_TIMEOUT)
		return sp_err_set(err, SP_E_UNREACHABLE,
		    "ledgerd does not answer on %s (asked twice, %d ms each): see `systemctl "
		    "status sallyport-ledgerd` and its journal",
		    client->path, timeout_ms);
	return code;
}
