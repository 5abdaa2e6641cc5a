/*
 * http.c -- libmicrohttpd behind http.h: bounded bodies, replies from memory or a file.
 *
 * Accepting and waiting are done here, on our threads: of libmicrohttpd's own, in every version up
 * to 1.0.1, one that finds exactly 128 (or 256, …) connections ready sleeps until there is an event
 * more before it serves them, and one that is told to stop accepting may abort the process (both in
 * MHD_epoll and MHD_quiesce_daemon of its daemon.c).
 */
#include "http/http.h"
#include "base/buf.h"
#include "base/file.h"
#include "base/log.h"
#include "base/time.h"
#include "http/conns.h"
#include "http/url.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <microhttpd.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define PEM_MAX ((size_t)1 << 20)
/* Bytes of request line and fields, and of what libmicrohttpd keeps beside them; each connection
 * has so many for as long as it lives. */
#define HEAD_MAX 16384
#define IDLE_S 60
#define REQUEST_S 30
#define FILES_BESIDE 128 /* what a daemon opens besides connections and what they are sent */
#define DRAIN_MS 5000
#define ACCEPT_SERIES 16    /* connections taken before others are served */
#define ACCEPT_PAUSE_MS 100 /* where there is no room, no descriptor or no memory for one */
/* What is read of a body that is too large, to no end but that its sender comes to read the answer:
 * closing while it still writes would reset the connection, and the answer be lost with it. */
#define DISCARD_MAX ((unsigned long long)16 << 20)

/* A thread, with the connections that it has accepted. */
struct worker {
	struct sp_http *http;
	struct MHD_Daemon *daemon;
	struct sp_conn *accepted; /* on its way into daemon */
	pthread_t thread;
	int epoll_fd; /* daemon's: readable where a connection is */
	int wake_fd;
	int running;
};

struct sp_http {
	struct worker *workers;
	unsigned worker_count;
	atomic_int draining; /* nothing more is accepted */
	atomic_int stopping;
	int listen_fd;
	unsigned port;
	size_t body_max, bodies_max;
	sp_http_handler *handler;
	void *ctx;
	struct sp_conns *conns;
	pthread_mutex_t lock;
	pthread_cond_t idle;
	unsigned running; /* requests whose reply is not sent yet */
	size_t bodies;	  /* bytes that they hold */
};

/* One request, from its head to its last byte out. */
struct exchange {
	struct sp_buf body;
	struct sp_conn *conn;
	unsigned long long discarded;
	unsigned refused; /* the body is not kept, and this the answer; 0: it is */
};

/* --- requests --------------------------------------------------------------------------------- */

const char *
sp_http_header(const struct sp_http_request *request, const char *name)
{
	return MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, name);
}

char *
sp_http_query(const struct sp_http_request *request, const char *key)
{
	const char *raw;

	raw = MHD_lookup_connection_value(request->connection, MHD_GET_ARGUMENT_KIND, key);
	return raw != NULL ? sp_url_decode(raw, strlen(raw), 0) : NULL;
}

static void
name_peer(struct MHD_Connection *connection, char *peer, size_t size)
{
	const union MHD_ConnectionInfo *info;
	const struct sockaddr *sa;
	socklen_t len;

	snprintf(peer, size, "?");
	info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
	if (info == NULL || info->client_addr == NULL)
		return;
	sa = info->client_addr;
	len = sa->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
	(void)getnameinfo(sa, len, peer, (socklen_t)size, NULL, 0, NI_NUMERICHOST);
}

/* --- replies ---------------------------------------------------------------------------------- */

/* The response owns body or fd afterwards. NULL without memory. */
static struct MHD_Response *
make_response(struct sp_http_reply *reply)
{
	struct MHD_Response *response;

	if (reply->fd >= 0 && reply->length > 0) {
		/* whoever waits for the disk holds up the other connections of its thread */
		posix_fadvise(
		    reply->fd, (off_t)reply->offset, (off_t)reply->length, POSIX_FADV_SEQUENTIAL);
		response = MHD_create_response_from_fd_at_offset64(
		    reply->length, reply->fd, reply->offset);
		if (response != NULL)
			reply->fd = -1;
	} else if (reply->body != NULL) {
		response = MHD_create_response_from_buffer(
		    reply->body_len, reply->body, MHD_RESPMEM_MUST_FREE);
		if (response != NULL)
			reply->body = NULL;
	} else {
		response = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
	}
	return response;
}

static enum MHD_Result
send_reply(struct MHD_Connection *connection, struct sp_http_reply *reply)
{
	struct MHD_Response *response = make_response(reply);
	enum MHD_Result rc = MHD_NO;

	if (response == NULL)
		return MHD_NO;
	for (size_t i = 0; i < reply->field_count; i++) {
		/* refused: a line break in a value that came from outside */
		if (MHD_add_response_header(
			response, reply->fields[i].name, reply->fields[i].value) != MHD_YES) {
			sp_log_error(NULL, "http: field %s of a reply cannot be sent",
			    reply->fields[i].name);
			reply->status = 0;
			break;
		}
	}
	if (reply->status == 0) {
		MHD_destroy_response(response);
		response = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
		if (response == NULL)
			return MHD_NO;
		reply->status = 500;
	}
	rc = MHD_queue_response(connection, reply->status, response);
	MHD_destroy_response(response);
	return rc;
}

/* --- libmicrohttpd's callbacks ---------------------------------------------------------------- */

/* What follows on the connection is not read as a request. */
static enum MHD_Result
refuse(struct MHD_Connection *connection, unsigned status, const char *text)
{
	struct sp_http_reply reply = SP_HTTP_REPLY_INIT;
	enum MHD_Result rc;

	sp_http_reply_field(&reply, "Connection", "close");
	sp_http_reply_body(&reply, status, "text/plain", text, strlen(text));
	rc = send_reply(connection, &reply);
	sp_http_reply_clear(&reply);
	return rc;
}

static enum MHD_Result
refuse_body(struct sp_http *http, struct MHD_Connection *connection, unsigned status)
{
	char text[96];

	if (status == 503)
		return refuse(connection, status,
		    "Too many bodies of requests are on their way: try again later.\n");
	snprintf(text, sizeof(text), "The body of a request may have %zu bytes at most.\n",
	    http->body_max);
	return refuse(connection, status, text);
}

/* Fields that say how long a request is and for whom: read in another way by a proxy in front, one
 * request becomes two, and the second is anybody's. */
struct framing {
	unsigned hosts, lengths, codings;
};

static enum MHD_Result
count_framing(void *ctx, enum MHD_ValueKind kind, const char *name, const char *value)
{
	struct framing *framing = ctx;

	(void)kind;
	(void)value;
	framing->hosts += strcasecmp(name, MHD_HTTP_HEADER_HOST) == 0;
	framing->lengths += strcasecmp(name, MHD_HTTP_HEADER_CONTENT_LENGTH) == 0;
	framing->codings += strcasecmp(name, MHD_HTTP_HEADER_TRANSFER_ENCODING) == 0;
	return MHD_YES;
}

/* RFC 9112 sections 3.2 and 6.3 */
static int
is_ambiguous(struct MHD_Connection *connection)
{
	struct framing framing = {0};

	MHD_get_connection_values(connection, MHD_HEADER_KIND, count_framing, &framing);
	return framing.hosts > 1 || framing.lengths + framing.codings > 1;
}

/* The head of a request has come. */
static enum MHD_Result
begin(struct sp_http *http, struct MHD_Connection *connection, void **state)
{
	struct exchange *ex = sp_xcalloc(1, sizeof(*ex));
	const union MHD_ConnectionInfo *info;
	unsigned long long len;
	const char *length;

	*state = ex;
	info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	ex->conn = info->socket_context;
	pthread_mutex_lock(&http->lock);
	http->running++;
	pthread_mutex_unlock(&http->lock);
	if (is_ambiguous(connection))
		return refuse(
		    connection, 400, "Host or the length of the body is said more than once.\n");
	length = MHD_lookup_connection_value(
	    connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
	len = length != NULL ? strtoull(length, NULL, 10) : 0;
	ex->refused = len > http->body_max ? 413 : 0;
	if (ex->refused != 0 && len - http->body_max > DISCARD_MAX)
		return refuse_body(http, connection, ex->refused);
	return MHD_YES;
}

/* Forgets the body. */
static void
let_go(struct sp_http *http, struct exchange *ex)
{
	pthread_mutex_lock(&http->lock);
	http->bodies -= ex->body.len;
	pthread_mutex_unlock(&http->lock);
	sp_buf_free(&ex->body);
}

/* Room for len bytes more among those that all requests hold; 0: there is none. */
static int
make_room(struct sp_http *http, size_t len)
{
	int is_room;

	pthread_mutex_lock(&http->lock);
	is_room = http->bodies_max == 0 || len <= http->bodies_max - http->bodies;
	http->bodies += is_room ? len : 0;
	pthread_mutex_unlock(&http->lock);
	return is_room;
}

/* Keeps what may be kept of a body, and reads on to where a sender looks for an answer. One of
 * unknown length might never end. */
static enum MHD_Result
take_body(struct sp_http *http, struct exchange *ex, const char *data, size_t *len)
{
	if (ex->refused == 0 && *len > http->body_max - ex->body.len)
		ex->refused = 413;
	else if (ex->refused == 0 && !make_room(http, *len))
		ex->refused = 503;
	if (ex->refused == 0) {
		sp_buf_add(&ex->body, data, *len);
	} else {
		let_go(http, ex);
		ex->discarded += *len;
		if (ex->discarded > http->body_max + DISCARD_MAX)
			return MHD_NO;
	}
	*len = 0;
	return MHD_YES;
}

static enum MHD_Result
on_request(void *ctx, struct MHD_Connection *connection, const char *path, const char *method,
    const char *version, const char *upload, size_t *upload_len, void **state)
{
	struct sp_http *http = ctx;
	struct sp_http_request request = {.method = method, .connection = connection};
	struct sp_http_reply reply = SP_HTTP_REPLY_INIT;
	struct exchange *ex = *state;
	enum MHD_Result rc;

	(void)version;
	if (ex == NULL)
		return begin(http, connection, state);
	if (*upload_len > 0)
		return take_body(http, ex, upload, upload_len);
	sp_conns_asked(http->conns, ex->conn);
	if (ex->refused != 0)
		return refuse_body(http, connection, ex->refused);
	/* a client that takes us for a proxy names the host once more (RFC 9112 section 3.2.2) */
	path += sp_url_origin_len(path);
	request.path = path[0] != '\0' ? path : "/";
	request.body = ex->body.len > 0 ? ex->body.data : (const uint8_t *)"";
	request.body_len = ex->body.len;
	name_peer(connection, request.peer, sizeof(request.peer));
	http->handler(http->ctx, &request, &reply);
	/* a client that reads slowly keeps its answer, not its question */
	let_go(http, ex);
	rc = send_reply(connection, &reply);
	sp_http_reply_clear(&reply);
	return rc;
}

static void
on_completed(
    void *ctx, struct MHD_Connection *connection, void **state, enum MHD_RequestTerminationCode why)
{
	struct sp_http *http = ctx;
	struct exchange *ex = *state;

	(void)connection;
	(void)why;
	if (ex == NULL)
		return;
	sp_conns_answered(http->conns, ex->conn);
	let_go(http, ex);
	free(ex);
	*state = NULL;
	pthread_mutex_lock(&http->lock);
	if (--http->running == 0)
		pthread_cond_signal(&http->idle);
	pthread_mutex_unlock(&http->lock);
}

static void
on_connection(void *ctx, struct MHD_Connection *connection, void **conn,
    enum MHD_ConnectionNotificationCode what)
{
	struct worker *worker = ctx;

	(void)connection;
	if (what == MHD_CONNECTION_NOTIFY_STARTED) {
		*conn = worker->accepted;
		worker->accepted = NULL;
	} else {
		sp_conns_drop(worker->http->conns, *conn);
	}
}

/* Paths stay as sent: whether "%2F" parts them is for the handler to know. */
static size_t
leave_encoded(void *ctx, struct MHD_Connection *connection, char *text)
{
	(void)ctx;
	(void)connection;
	return strlen(text);
}

static void on_log(void *ctx, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));

static void
on_log(void *ctx, const char *fmt, va_list ap)
{
	char text[512];
	size_t len;

	(void)ctx;
	vsnprintf(text, sizeof(text), fmt, ap);
	len = strcspn(text, "\n");
	sp_log_debug(NULL, "http: %.*s", (int)len, text);
}

/* --- accepting and waiting -------------------------------------------------------------------- */

/* Takes what waits in the backlog, a few at a time. 0: there is no room for it just now. */
static int
accept_some(struct worker *worker)
{
	struct sp_http *http = worker->http;
	struct sockaddr_storage from;
	socklen_t from_len;
	int fd;

	for (int i = 0; i < ACCEPT_SERIES && !sp_conns_full(http->conns); i++) {
		from_len = sizeof(from);
		fd = accept4(http->listen_fd, (struct sockaddr *)&from, &from_len,
		    SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0) /* or else: another thread was faster, the client is gone */
			return errno != EMFILE && errno != ENFILE && errno != ENOBUFS &&
			       errno != ENOMEM;
		worker->accepted = sp_conns_add(http->conns, fd, (struct sockaddr *)&from);
		if (worker->accepted == NULL) {
			close(fd);
			continue;
		}
		/* closes it when it fails; on_connection takes the entry, and drops it then */
		(void)MHD_add_connection(worker->daemon, fd, (struct sockaddr *)&from, from_len);
		if (worker->accepted != NULL)
			sp_conns_drop(http->conns, worker->accepted);
		worker->accepted = NULL;
	}
	return 1;
}

/* How long nothing has to be done without an event; -1: for ever. */
static int
wait_ms(struct worker *worker, int is_paused)
{
	MHD_UNSIGNED_LONG_LONG ms;
	int most = is_paused ? ACCEPT_PAUSE_MS : -1;

	if (MHD_get_timeout(worker->daemon, &ms) != MHD_YES)
		return most;
	if (most < 0)
		most = INT_MAX;
	return ms < (MHD_UNSIGNED_LONG_LONG)most ? (int)ms : most;
}

static void *
work(void *ctx)
{
	struct worker *worker = ctx;
	struct sp_http *http = worker->http;
	int is_paused = 0, is_full, listens;
	struct pollfd fds[3] = {{.fd = worker->epoll_fd, .events = POLLIN},
	    {.fd = worker->wake_fd, .events = POLLIN}, {.fd = http->listen_fd, .events = POLLIN}};
	eventfd_t count;
	sigset_t pipe_signal;

	sigemptyset(&pipe_signal);
	sigaddset(&pipe_signal, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &pipe_signal, NULL);
	while (!atomic_load(&http->stopping)) {
		/* the thread that ends a connection where there were as many as may be comes by
		 * here, and listens again; others, which may have none, look now and then */
		is_full = sp_conns_full(http->conns);
		listens = !is_paused && !is_full && !atomic_load(&http->draining);
		fds[2].revents = 0;
		(void)poll(fds, listens ? 3 : 2, wait_ms(worker, is_paused || is_full));
		if (fds[1].revents != 0)
			(void)eventfd_read(worker->wake_fd, &count);
		is_paused = fds[2].revents != 0 && !accept_some(worker);
		MHD_run(worker->daemon);
	}
	/* here, where SIGPIPE is blocked: it may still say goodbye to somebody */
	MHD_stop_daemon(worker->daemon);
	worker->daemon = NULL;
	return NULL;
}

/* --- start and stop --------------------------------------------------------------------------- */

static enum sp_code
open_socket(struct sp_http *http, const char *listen_on, struct sp_err *err)
{
	struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV,
			    .ai_socktype = SOCK_STREAM},
			*list = NULL;
	struct sockaddr_storage at;
	socklen_t at_len = sizeof(at);
	enum sp_code code;
	char *host = NULL, port_text[8];
	unsigned port;
	int rc, on = 1, fd;

	code = sp_url_split_host(listen_on, &host, &port, err);
	if (code != SP_OK)
		return sp_err_set(err, SP_E_CONFIG,
		    "cannot listen on \"%s\": host:port or [IPv6]:port is expected", listen_on);
	snprintf(port_text, sizeof(port_text), "%u", port);
	rc = getaddrinfo(host, port_text, &hints, &list);
	if (rc != 0) {
		code = sp_err_set(
		    err, SP_E_CONFIG, "cannot listen on \"%s\": %s", listen_on, gai_strerror(rc));
		goto out;
	}
	fd = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	http->listen_fd = fd;
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
	    bind(fd, list->ai_addr, list->ai_addrlen) != 0 || listen(fd, SOMAXCONN) != 0 ||
	    getsockname(fd, (struct sockaddr *)&at, &at_len) != 0) {
		code = sp_err_errno(err, "cannot listen on %s", listen_on);
		goto out;
	}
	// NOLINTNEXTLINE(clang-analyzer-core.*): getsockname wrote the address of that family
	http->port = ntohs(at.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&at)->sin6_port
						    : ((struct sockaddr_in *)&at)->sin_port);
out:
	if (list != NULL)
		freeaddrinfo(list);
	free(host);
	return code;
}

static unsigned
thread_count(const struct sp_http_options *o)
{
	long processors = sysconf(_SC_NPROCESSORS_ONLN);

	if (o->threads > 0)
		return o->threads;
	return processors > 2 ? (unsigned)processors : 2;
}

/* How many connections the limit of open files allows: `wanted`, or fewer. */
static unsigned
fit_connections(unsigned wanted)
{
	uint64_t need = 2 * (uint64_t)wanted + FILES_BESIDE, files = sp_file_raise_limit();
	unsigned fit;

	if (files >= need)
		return wanted;
	fit = files > FILES_BESIDE ? (unsigned)((files - FILES_BESIDE) / 2) : 0;
	sp_log_warn(NULL,
	    "http: this process may open %llu files, for %u connections it needs %llu: at most %u "
	    "are taken; raise the limit (LimitNOFILE= of the unit, ulimit -Hn) or configure fewer",
	    (unsigned long long)files, wanted, (unsigned long long)need, fit);
	return fit;
}

/* cert and key: PEM texts, or both NULL. */
static enum sp_code
start_daemon(struct worker *worker, const struct sp_http_options *o, unsigned connections,
    char *cert, char *key, struct sp_err *err)
{
	unsigned flags = MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_USE_ERROR_LOG;
	unsigned idle_s = o->idle_s > 0 ? o->idle_s : IDLE_S;
	const union MHD_DaemonInfo *info;
	struct MHD_OptionItem items[16];
	size_t n = 0;

#define ITEM(option, number, pointer) items[n++] = (struct MHD_OptionItem){option, number, pointer}
	ITEM(MHD_OPTION_UNESCAPE_CALLBACK, (intptr_t)leave_encoded, NULL);
	ITEM(MHD_OPTION_NOTIFY_COMPLETED, (intptr_t)on_completed, worker->http);
	ITEM(MHD_OPTION_NOTIFY_CONNECTION, (intptr_t)on_connection, worker);
	/* counted by us, over all threads; those that one thread has closed but not let go of yet
	 * are no more than it had */
	ITEM(MHD_OPTION_CONNECTION_LIMIT, (intptr_t)connections * 2, NULL);
	ITEM(MHD_OPTION_CONNECTION_TIMEOUT, (intptr_t)idle_s, NULL);
	ITEM(MHD_OPTION_CONNECTION_MEMORY_LIMIT, HEAD_MAX, NULL);
	/* as it is by work(): without it files are not sent by sendfile(2) */
	ITEM(MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, NULL);
	/* what a proxy in front might read in another way is refused */
	ITEM(MHD_OPTION_STRICT_FOR_CLIENT, 1, NULL);
	if (cert != NULL) {
		flags |= MHD_USE_TLS;
		ITEM(MHD_OPTION_HTTPS_MEM_CERT, 0, cert);
		ITEM(MHD_OPTION_HTTPS_MEM_KEY, 0, key);
		ITEM(MHD_OPTION_HTTPS_PRIORITIES, 0,
		    (void *)(uintptr_t) "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2");
	}
	ITEM(MHD_OPTION_END, 0, NULL);
#undef ITEM
	errno = 0;
	worker->daemon = MHD_start_daemon(flags, 0, NULL, NULL, on_request, worker->http,
	    MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL, MHD_OPTION_ARRAY, items, MHD_OPTION_END);
	if (worker->daemon == NULL && cert != NULL)
		return sp_err_set(err, SP_E_CONFIG,
		    "cannot serve HTTPS with %s and %s: certificate and key must be PEM and belong "
		    "together",
		    o->cert_file, o->key_file);
	if (worker->daemon == NULL)
		return sp_err_errno(err, "cannot start the HTTP server on %s", o->listen);
	info = MHD_get_daemon_info(worker->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	worker->epoll_fd = info->epoll_fd;
	return SP_OK;
}

static enum sp_code
start_workers(struct sp_http *http, const struct sp_http_options *o, char *cert, char *key,
    struct sp_err *err)
{
	unsigned connections = fit_connections(o->connections > 0 ? o->connections : 1024);
	unsigned per_address = o->per_address > 0 ? o->per_address : (connections + 1) / 2;
	int64_t request_s = o->request_s > 0 ? o->request_s : REQUEST_S;
	int64_t idle_s = o->idle_s > 0 ? o->idle_s : IDLE_S;
	unsigned threads = thread_count(o);
	enum sp_code code = SP_OK;
	struct worker *worker;

	http->conns = sp_conns_new(connections, per_address, request_s * 1000, idle_s * 1000);
	if (http->conns == NULL)
		return sp_err_set(err, SP_E_IO, "cannot start a thread");
	http->workers = sp_xcalloc(threads, sizeof(*http->workers));
	for (; http->worker_count < threads && code == SP_OK; http->worker_count++) {
		worker = &http->workers[http->worker_count];
		worker->http = http;
		worker->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (worker->wake_fd < 0)
			code = sp_err_errno(err, "cannot start the HTTP server on %s", o->listen);
		else
			code = start_daemon(worker, o, connections, cert, key, err);
	}
	/* none of them sees a connection before all can serve one */
	for (unsigned i = 0; i < http->worker_count && code == SP_OK; i++) {
		worker = &http->workers[i];
		worker->running = pthread_create(&worker->thread, NULL, work, worker) == 0;
		if (!worker->running)
			code = sp_err_set(err, SP_E_IO, "cannot start a thread");
	}
	return code;
}

enum sp_code
sp_http_start(const struct sp_http_options *options, struct sp_http **out, struct sp_err *err)
{
	struct sp_http *http = sp_xcalloc(1, sizeof(*http));
	uint8_t *cert = NULL, *key = NULL;
	enum sp_code code = SP_OK;
	size_t len;

	SP_ASSERT(options->handler != NULL);
	http->listen_fd = -1;
	http->body_max = options->body_max;
	http->bodies_max = options->bodies_max;
	http->handler = options->handler;
	http->ctx = options->ctx;
	pthread_mutex_init(&http->lock, NULL);
	sp_time_cond_init(&http->idle);
	if (options->cert_file != NULL) {
		code = sp_file_read(options->cert_file, PEM_MAX, &cert, &len, err);
		if (code == SP_OK)
			code = sp_file_read(options->key_file, PEM_MAX, &key, &len, err);
	}
	if (code == SP_OK)
		code = open_socket(http, options->listen, err);
	if (code == SP_OK)
		code = start_workers(http, options, (char *)cert, (char *)key, err);
	if (key != NULL)
		explicit_bzero(key, len);
	free(key);
	free(cert);
	if (code != SP_OK)
		sp_http_stop(&http);
	*out = http;
	return code;
}

unsigned
sp_http_port(const struct sp_http *http)
{
	return http->port;
}

static void
wake_all(struct sp_http *http)
{
	for (unsigned i = 0; i < http->worker_count; i++)
		(void)eventfd_write(http->workers[i].wake_fd, 1);
}

static void
stop_worker(struct worker *worker)
{
	if (worker->running)
		pthread_join(worker->thread, NULL);
	if (worker->daemon != NULL)
		MHD_stop_daemon(worker->daemon);
	if (worker->wake_fd >= 0)
		close(worker->wake_fd);
}

void
sp_http_stop(struct sp_http **server)
{
	struct sp_http *http = server != NULL ? *server : NULL;
	struct timespec until = sp_time_cond_until(DRAIN_MS);
	int rc = 0;

	if (http == NULL)
		return;
	atomic_store(&http->draining, 1);
	wake_all(http);
	pthread_mutex_lock(&http->lock);
	while (http->running > 0 && rc == 0)
		rc = pthread_cond_timedwait(&http->idle, &http->lock, &until);
	pthread_mutex_unlock(&http->lock);
	atomic_store(&http->stopping, 1);
	wake_all(http);
	for (unsigned i = 0; i < http->worker_count; i++)
		stop_worker(&http->workers[i]);
	free(http->workers);
	sp_conns_free(&http->conns);
	if (http->listen_fd >= 0)
		close(http->listen_fd);
	pthread_cond_destroy(&http->idle);
	pthread_mutex_destroy(&http->lock);
	free(http);
	*server = NULL;
}
