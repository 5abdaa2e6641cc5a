/* ledger_submit.c -- operators at a running ledgerd, all at once. */
#include "bus/wire.h"
#include "ledger.h"
#include "ledger/note.h"
#include "operator.pb-c.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#define PATIENCE_MS 20000

struct request {
	double sent_s, answered_s, covered_s; /* by a published checkpoint; 0: not yet */
	uint64_t seq;			      /* of its entry */
};

struct bench {
	void *context, *snapshots;
	void **sockets;
	zmq_pollitem_t *items;
	size_t *under_way; /* per connection: its request */
	struct request *requests;
	size_t count, sent, answered, covered;
};

static void
send_next(struct bench *b, unsigned connection)
{
	Sallyport__OperatorRequest request;
	Sallyport__OperatorSubmit submit;
	char id[SP_JOB_ID_LEN + 1], source[64];
	uint8_t raw[SP_JOB_ID_LEN / 2], data[512];
	size_t len;

	sallyport__operator_request__init(&request);
	sallyport__operator_submit__init(&submit);
	randombytes_buf(raw, sizeof(raw));
	sp_hex_encode(raw, sizeof(raw), id);
	snprintf(source, sizeof(source), "hf:org/model-%zu@main", b->sent % 500);
	submit.request = id;
	submit.source = source;
	submit.profile = (char *)(uintptr_t) "fixture";
	request.version = 1;
	request.seq = b->sent + 1;
	request.body_case = SALLYPORT__OPERATOR_REQUEST__BODY_SUBMIT;
	request.submit = &submit;
	len = sallyport__operator_request__pack(&request, data);
	b->under_way[connection] = b->sent;
	b->requests[b->sent++].sent_s = bench_now_s();
	SP_ASSERT(zmq_send(b->sockets[connection], data, len, 0) == (int)len);
}

static void
take_answer(struct bench *b, unsigned connection)
{
	struct request *request = &b->requests[b->under_way[connection]];
	Sallyport__OperatorReply *reply;
	struct sp_err err;
	zmq_msg_t message;

	zmq_msg_init(&message);
	SP_ASSERT(zmq_msg_recv(&message, b->sockets[connection], 0) >= 0);
	request->answered_s = bench_now_s();
	reply = (Sallyport__OperatorReply *)sp_wire_unpack(&sallyport__operator_reply__descriptor,
	    zmq_msg_data(&message), zmq_msg_size(&message), &err);
	if (reply == NULL || reply->body_case != SALLYPORT__OPERATOR_REPLY__BODY_ACCEPTED) {
		fprintf(stderr, "sp-bench-ledger: submit was refused: %s\n",
		    reply == NULL ? err.msg
		    : reply->body_case == SALLYPORT__OPERATOR_REPLY__BODY_ERROR
			? reply->error->message
			: "another answer");
		exit(1);
	}
	request->seq = reply->accepted->log_seq;
	sallyport__operator_reply__free_unpacked(reply, NULL);
	zmq_msg_close(&message);
	b->answered++;
	if (b->sent < b->count)
		send_next(b, connection);
}

/* Entries below `size` are under a checkpoint that everybody can see. Answers may come later than
 * the checkpoint: they are looked at again then. */
static void
cover(struct bench *b, uint64_t size, double now_s)
{
	for (size_t i = 0; i < b->sent; i++) {
		struct request *r = &b->requests[i];

		if (r->answered_s == 0 || r->covered_s != 0 || r->seq >= size)
			continue;
		r->covered_s = now_s > r->answered_s ? now_s : r->answered_s;
		b->covered++;
	}
}

static uint64_t
take_checkpoint(struct bench *b)
{
	struct sp_checkpoint checkpoint = {.size = 0};
	struct sp_note note = {0};
	uint8_t topic[64], data[4096];
	struct sp_err err;
	int len;

	SP_ASSERT(zmq_recv(b->snapshots, topic, sizeof(topic), 0) >= 0);
	len = zmq_recv(b->snapshots, data, sizeof(data), 0);
	SP_ASSERT(len > 0 && (size_t)len < sizeof(data));
	bench_check(sp_note_parse(data, (size_t)len, &note, &err), &err);
	bench_check(sp_checkpoint_parse(note.text, note.text_len, &checkpoint, &err), &err);
	sp_note_clear(&note);
	return checkpoint.size;
}

static void *
connect_to(void *context, int type, const char *path)
{
	void *socket = zmq_socket(context, type);
	char *endpoint = sp_xasprintf("ipc://%s", path);
	int linger = 0;

	SP_ASSERT(socket != NULL);
	zmq_setsockopt(socket, ZMQ_LINGER, &linger, sizeof(linger));
	SP_ASSERT(zmq_connect(socket, endpoint) == 0);
	free(endpoint);
	return socket;
}

static void
run(struct bench *b, unsigned connections)
{
	uint64_t size = 0;

	while (b->covered < b->count) {
		if (zmq_poll(b->items, (int)connections + 1, PATIENCE_MS) <= 0) {
			fprintf(stderr, "sp-bench-ledger: ledgerd says nothing any more\n");
			exit(1);
		}
		for (unsigned i = 0; i < connections; i++)
			if (b->items[i].revents & ZMQ_POLLIN)
				take_answer(b, i);
		if (b->items[connections].revents & ZMQ_POLLIN)
			size = take_checkpoint(b);
		cover(b, size, bench_now_s());
	}
}

static int
compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double
p99(double *values, size_t count)
{
	qsort(values, count, sizeof(*values), compare);
	return values[(count * 99 + 99) / 100 - 1];
}

int
bench_submit(const char *socket, const char *snapshots, unsigned connections, unsigned count)
{
	struct bench b = {.context = zmq_ctx_new(), .count = count};
	double *answers = sp_xcalloc(count, sizeof(*answers));
	double *covers = sp_xcalloc(count, sizeof(*covers)), start;

	SP_ASSERT(connections > 0 && count >= connections);
	b.sockets = sp_xcalloc(connections, sizeof(*b.sockets));
	b.items = sp_xcalloc(connections + 1, sizeof(*b.items));
	b.under_way = sp_xcalloc(connections, sizeof(*b.under_way));
	b.requests = sp_xcalloc(count, sizeof(*b.requests));
	b.snapshots = connect_to(b.context, ZMQ_SUB, snapshots);
	zmq_setsockopt(b.snapshots, ZMQ_SUBSCRIBE, "checkpoint", strlen("checkpoint"));
	b.items[connections].socket = b.snapshots;
	b.items[connections].events = ZMQ_POLLIN;
	for (unsigned i = 0; i < connections; i++) {
		b.sockets[i] = connect_to(b.context, ZMQ_DEALER, socket);
		b.items[i].socket = b.sockets[i];
		b.items[i].events = ZMQ_POLLIN;
	}
	/* the kept checkpoint comes first: then all are connected */
	take_checkpoint(&b);
	start = bench_now_s();
	for (unsigned i = 0; i < connections; i++)
		send_next(&b, i);
	run(&b, connections);
	start = bench_now_s() - start;
	for (size_t i = 0; i < count; i++) {
		answers[i] = (b.requests[i].answered_s - b.requests[i].sent_s) * 1e3;
		covers[i] = (b.requests[i].covered_s - b.requests[i].sent_s) * 1e3;
	}
	printf("%.3f %.3f %.1f\n", p99(answers, count), p99(covers, count), count / start);
	fprintf(stderr,
	    "%u connections: submit p50 %.2f p99 %.2f ms, checkpoint p50 %.2f p99 %.2f ms, "
	    "%.0f/s\n",
	    connections, answers[count / 2], p99(answers, count), covers[count / 2],
	    p99(covers, count), count / start);
	for (unsigned i = 0; i < connections; i++)
		zmq_close(b.sockets[i]);
	zmq_close(b.snapshots);
	zmq_ctx_term(b.context);
	free(b.sockets);
	free(b.items);
	free(b.under_way);
	free(b.requests);
	free(answers);
	free(covers);
	return 0;
}
