/*
 * bus_collect.c -- a worker's store is collected while it holds no lease: the state machine, then a
 * real worker, to which this program plays ledgerd.
 *
 * Started with arguments, this program is the worker (and, as any worker, its own child).
 */
#include "base/file.h"
#include "bus/worker_step.h"
#include "bus_fetcher.h"
#include "bus_rig.h"
#include "store/gc.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define LEASE "0123456789abcdef0123456789abcdef"
#define COLLECTION "cccccccccccccccccccccccccccccccc"
#define ANOTHER "dddddddddddddddddddddddddddddddd"
#define ENDED_JOB "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"
#define STALE_WORK "ff112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define UNMARKED_WORK "aa112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

/* --- the state machine --- */

static struct sp_worker_state state;
static struct sp_worker_actions actions;

static void
event(enum sp_worker_event_kind kind, const char *lease, uint64_t seq)
{
	struct sp_worker_event e = {.kind = kind, .now_ms = 1000, .lease = lease, .seq = seq};

	sp_worker_step_apply(&state, &e, &actions);
}

/* The actions were exactly these; ends with -1. */
static void
expect(int first, ...)
{
	va_list ap;
	size_t n = 0;
	int kind;

	va_start(ap, first);
	for (kind = first; kind >= 0; kind = va_arg(ap, int)) {
		assert_true(n < actions.count);
		assert_int_equal(actions.items[n++].kind, kind);
	}
	va_end(ap);
	assert_int_equal(actions.count, n);
}

static void
begin(void)
{
	sp_worker_step_init(&state, 2, 0);
	event(SP_EVENT_CONNECTED, "", 0);
	event(SP_EVENT_WELCOME, "", 0);
}

static void
test_takes_no_lease(void **unused)
{
	uint64_t seq;

	(void)unused;
	begin();
	event(SP_EVENT_COLLECT, COLLECTION, 0);
	expect(SP_ACTION_COLLECT, SP_ACTION_HEARTBEAT, -1);
	assert_string_equal(actions.items[0].lease, COLLECTION);
	assert_int_equal(sp_worker_step_free(&state), 0);
	/* asked again, and for another one: it goes on with the first */
	event(SP_EVENT_COLLECT, COLLECTION, 0);
	expect(-1);
	event(SP_EVENT_COLLECT, ANOTHER, 0);
	expect(-1);
	/* an offer that was under way */
	event(SP_EVENT_OFFER, LEASE, 0);
	expect(-1);
	event(SP_EVENT_SWEPT, "", 0);
	expect(SP_ACTION_COLLECTED, SP_ACTION_HEARTBEAT, -1);
	seq = actions.items[0].seq;
	assert_int_equal(sp_worker_step_free(&state), 2);
	/* no answer yet: said again, and again on a new connection */
	event(SP_EVENT_TICK, "", 0);
	expect(SP_ACTION_HEARTBEAT, SP_ACTION_COLLECTED, -1);
	assert_int_equal(actions.items[1].seq, seq);
	event(SP_EVENT_DISCONNECTED, "", 0);
	event(SP_EVENT_CONNECTED, "", 0);
	expect(SP_ACTION_HEARTBEAT, SP_ACTION_COLLECTED, -1);
	event(SP_EVENT_COLLECT, COLLECTION, 0);
	expect(SP_ACTION_COLLECTED, -1);
	event(SP_EVENT_ACK, "", seq + 1);
	expect(-1);
	event(SP_EVENT_ACK, "", seq);
	expect(SP_ACTION_CLEAR, -1);
	event(SP_EVENT_COLLECT, ANOTHER, 0);
	expect(SP_ACTION_COLLECT, SP_ACTION_HEARTBEAT, -1);
}

static void
test_busy(void **unused)
{
	(void)unused;
	begin();
	event(SP_EVENT_OFFER, LEASE, 0);
	expect(SP_ACTION_ACCEPT, -1);
	/* whether the accept counts is not known yet */
	event(SP_EVENT_COLLECT, COLLECTION, 0);
	expect(SP_ACTION_BUSY, -1);
	event(SP_EVENT_ACK, "", 1);
	expect(SP_ACTION_START, -1);
	event(SP_EVENT_COLLECT, COLLECTION, 0);
	expect(SP_ACTION_BUSY, -1);
	assert_string_equal(actions.items[0].lease, COLLECTION);
	event(SP_EVENT_FINISHED, LEASE, 0);
	expect(SP_ACTION_RESULT, -1);
	/* ledgerd does not name yet what the result brought */
	event(SP_EVENT_COLLECT, COLLECTION, 0);
	expect(SP_ACTION_BUSY, -1);
}

static void
test_stops(void **unused)
{
	(void)unused;
	begin();
	event(SP_EVENT_COLLECT, COLLECTION, 0);
	event(SP_EVENT_STOP, "", 0);
	expect(SP_ACTION_LEAVE, -1);
	event(SP_EVENT_SWEPT, "", 0);
	expect(SP_ACTION_CLEAR, -1);
	event(SP_EVENT_COLLECT, COLLECTION, 0);
	expect(SP_ACTION_BUSY, -1);

	begin();
	event(SP_EVENT_COLLECT, COLLECTION, 0);
	event(SP_EVENT_SWEPT, "", 0);
	event(SP_EVENT_REFUSAL, "", actions.items[0].seq);
	expect(SP_ACTION_CLEAR, -1);

	begin();
	event(SP_EVENT_COLLECT, COLLECTION, 0);
	event(SP_EVENT_DISCONNECTED, "", 0);
	event(SP_EVENT_SWEPT, "", 0);
	expect(-1);
	event(SP_EVENT_STOP, "", 0);
	expect(SP_ACTION_CLEAR, -1);
}

/* --- a real worker --- */

static struct rig rig;
static struct sp_store *store;
static struct sp_hex tree; /* that jobs name */

static void
check(enum sp_code code, const struct sp_err *err)
{
	if (code != SP_OK)
		fail_msg("%s: %s", sp_err_word(code), err->msg);
}

/* Below the rig's root. */
static const char *
at(const char *path)
{
	static char paths[4][256];
	static unsigned turn;
	char *to = paths[turn++ % 4];

	snprintf(to, sizeof(paths[0]), "%s/var/lib/sallyport/%s", rig.root, path);
	return to;
}

static struct sp_hex
put(const char *text)
{
	struct sp_hex digest;
	struct sp_err err;

	check(sp_store_put(store, text, strlen(text), &digest, &err), &err);
	return digest;
}

/* A blob that was never synced: thousands of them must not keep the loop from the worker. */
static void
litter(const char *text)
{
	char *path = sp_store_path(store, sp_sha256_hex(text, strlen(text)).s);
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0440);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		fail_msg("%s: %s", path, strerror(errno));
	close(fd);
	free(path);
}

static int
has(const char *text)
{
	return sp_store_has(store, sp_sha256_hex(text, strlen(text)).s, NULL);
}

/* A named tree of one file, an orphan, what the daemon itself needs, and directories of work. */
static void
fill(void)
{
	struct sp_tree listing = {0};
	struct sp_err err;

	check(sp_store_open(at("store/fetcherd"), 1, &store, &err), &err);
	check(sp_tree_add(&listing, "f", 7, put("weights").s, 0, &err), &err);
	check(sp_tree_save(store, &listing, &tree, &err), &err);
	sp_tree_clear(&listing);
	put("orphan");
	put(BUS_FETCHER_KEEPS);
	check(sp_file_mkdirs(at("state/fetcherd/work/" STALE_WORK "/layers"), 0700, &err), &err);
	check(sp_file_mkdirs(at("state/fetcherd/work/" UNMARKED_WORK), 0700, &err), &err);
	check(sp_file_write(
		  at("state/fetcherd/work/" STALE_WORK "/.job-" ENDED_JOB), 0600, "", 0, &err),
	    &err);
}

/* What a fetch that was killed an hour ago left: unfinished, named by its content alone. */
static const char *
put_part(void)
{
	const struct timespec times[2] = {{time(NULL) - 3600, 0}, {time(NULL) - 3600, 0}};
	const char *path = at("store/fetcherd/tmp/part-00112233");
	int fd = open(path, O_WRONLY | O_CREAT, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, "half", 4), 4);
	assert_int_equal(futimens(fd, times), 0);
	close(fd);
	return path;
}

static int
set_up(void **unused)
{
	(void)unused;
	rig_open(&rig);
	fill();
	rig_start_worker(&rig, rig.worker);
	rig_free(rig_wait(&rig, SALLYPORT__ENVELOPE__BODY_HEARTBEAT));
	return 0;
}

static int
tear_down(void **unused)
{
	(void)unused;
	sp_store_close(&store);
	rig_close(&rig);
	return 0;
}

static void
send_to_worker(Sallyport__Envelope *envelope)
{
	struct sp_err err;

	check(sp_hub_send(rig.hub, RIG_WORKER, envelope, &err), &err);
}

/* 0 when the worker could not be reached. */
static int
try_collect(int dry_run, int awaited)
{
	char id[] = COLLECTION;
	Sallyport__Envelope envelope;
	Sallyport__Collect body;
	struct sp_err err;

	sallyport__envelope__init(&envelope);
	sallyport__collect__init(&body);
	body.id = id;
	body.dry_run = dry_run;
	body.awaited = awaited;
	envelope.body_case = SALLYPORT__ENVELOPE__BODY_COLLECT;
	envelope.collect = &body;
	return sp_hub_send(rig.hub, RIG_WORKER, &envelope, &err) == SP_OK;
}

static void
collect(int dry_run)
{
	assert_true(try_collect(dry_run, 0));
}

/* Says it with every heartbeat that does not name the collection, as ledgerd does; 1 once the
 * worker asks. */
static int
is_asked(void *ctx)
{
	const Sallyport__Envelope *e;

	(void)ctx;
	while (rig.messages != NULL) {
		e = rig.messages->envelope;
		if (e->body_case == SALLYPORT__ENVELOPE__BODY_NAMES)
			return 1;
		if (e->body_case == SALLYPORT__ENVELOPE__BODY_HEARTBEAT &&
		    e->heartbeat->collection == NULL)
			try_collect(0, 0);
		rig_free(rig_wait(&rig, e->body_case));
	}
	return 0;
}

/* Answers one question as ledgerd would: the tree is named, all jobs but ENDED_JOB and others whose
 * ids begin so go on. */
static void
answer(const struct rig_message *m)
{
	const Sallyport__Names *names = m->envelope->names;
	size_t count = names->digests.len / SP_DIGEST_LEN, i;
	Sallyport__Envelope envelope;
	Sallyport__Named body;

	assert_string_equal(names->collection, COLLECTION);
	sallyport__envelope__init(&envelope);
	sallyport__named__init(&body);
	body.ack_seq = m->envelope->seq;
	body.digests.len = count;
	body.digests.data = sp_xcalloc(count + 1, 1);
	for (i = 0; i < count; i++)
		body.digests.data[i] =
		    strcmp(sp_hex_of(names->digests.data + i * SP_DIGEST_LEN).s, tree.s) == 0;
	body.jobs.len = names->n_jobs;
	body.jobs.data = sp_xcalloc(names->n_jobs + 1, 1);
	for (i = 0; i < names->n_jobs; i++)
		body.jobs.data[i] = strncmp(names->jobs[i], ENDED_JOB, 8) != 0;
	envelope.body_case = SALLYPORT__ENVELOPE__BODY_NAMED;
	envelope.named = &body;
	send_to_worker(&envelope);
	free(body.digests.data);
	free(body.jobs.data);
}

static int
is_of_collection(void *ctx)
{
	const struct rig_message *m;
	Sallyport__Envelope__BodyCase body;

	(void)ctx;
	while ((m = rig.messages) != NULL) {
		body = m->envelope->body_case;
		if (body == SALLYPORT__ENVELOPE__BODY_NAMES ||
		    body == SALLYPORT__ENVELOPE__BODY_COLLECTED)
			return 1;
		rig_free(rig_wait(&rig, body));
	}
	return 0;
}

/* Answers questions until the collection is over; its end, acknowledged. */
static struct rig_message *
finish(void)
{
	struct rig_message *m;

	for (;;) {
		rig_until(&rig, is_of_collection, NULL);
		m = rig_wait(&rig, rig.messages->envelope->body_case);
		if (m->envelope->body_case == SALLYPORT__ENVELOPE__BODY_COLLECTED)
			break;
		answer(m);
		rig_free(m);
	}
	assert_string_equal(m->worker, RIG_WORKER);
	assert_string_equal(m->envelope->collected->id, COLLECTION);
	rig_ack(&rig, m->envelope->seq, 7);
	return m;
}

static void
wait_for_free(unsigned slots)
{
	struct rig_message *m;
	unsigned now;

	do {
		m = rig_wait(&rig, SALLYPORT__ENVELOPE__BODY_HEARTBEAT);
		now = m->envelope->heartbeat->free;
		assert_true(m->envelope->heartbeat->store);
		rig_free(m);
	} while (now != slots);
}

static void
test_collects(void **unused)
{
	const Sallyport__Collected *c;
	struct rig_message *m;

	(void)unused;
	/* leaves a directory of work whose job goes on */
	rig_free(rig_do(&rig, LEASE, "copy", "org/name"));
	wait_for_free(2);
	collect(0);
	m = finish();
	c = m->envelope->collected;
	assert_string_equal(c->code, "");
	assert_int_equal(c->kept, 3);
	assert_int_equal(c->removed, 1);
	assert_int_equal(c->removed_bytes, strlen("orphan"));
	assert_int_equal(c->leftovers, 2);
	rig_free(m);
	assert_true(has("weights") && has(BUS_FETCHER_KEEPS) && !has("orphan"));
	assert_true(sp_store_has(store, tree.s, NULL));
	assert_int_equal(access(at("state/fetcherd/work/" STALE_WORK), F_OK), -1);
	assert_int_equal(access(at("state/fetcherd/work/" UNMARKED_WORK), F_OK), -1);
	assert_int_equal(access(at("state/fetcherd/work/" BUS_FETCHER_DIGEST), F_OK), 0);
	/* steps run as before */
	wait_for_free(2);
	rig_free(rig_do(&rig, LEASE, "copy", "org/name"));
}

/* However many jobs have failed there, the one that goes on is not overlooked. */
static void
test_work_of_many(void **unused)
{
	char *name;
	int i;

	(void)unused;
	rig_free(rig_do(&rig, LEASE, "copy", "org/name"));
	wait_for_free(2);
	for (i = 0; i < 4000; i++) {
		name = sp_xasprintf(
		    "state/fetcherd/work/" BUS_FETCHER_DIGEST "/.job-%.8s%024x", ENDED_JOB, i);
		assert_int_equal(mknod(at(name), S_IFREG | 0600, 0), 0);
		free(name);
	}
	/* that took a while, and a ledgerd that is silent is connected to anew */
	rig_until(&rig, is_asked, NULL);
	rig_free(finish());
	assert_int_equal(access(at("state/fetcherd/work/" BUS_FETCHER_DIGEST), F_OK), 0);
	assert_int_equal(access(at("state/fetcherd/work/" STALE_WORK), F_OK), -1);
}

static void
test_dry_run(void **unused)
{
	const Sallyport__Collected *c;
	struct rig_message *m;

	(void)unused;
	collect(1);
	m = finish();
	c = m->envelope->collected;
	assert_string_equal(c->code, "");
	assert_int_equal(c->kept, 3);
	assert_int_equal(c->removed, 1);
	assert_int_equal(c->leftovers, 2);
	rig_free(m);
	assert_true(has("orphan"));
	assert_int_equal(access(at("state/fetcherd/work/" STALE_WORK "/layers"), F_OK), 0);
}

/* It goes when no step waits for it. */
static void
test_parts(void **unused)
{
	const char *part = put_part();

	(void)unused;
	assert_true(try_collect(0, 1));
	rig_free(finish());
	assert_int_equal(access(part, F_OK), 0);
	wait_for_free(2);
	collect(1);
	rig_free(finish());
	assert_int_equal(access(part, F_OK), 0);
	wait_for_free(2);
	collect(0);
	rig_free(finish());
	assert_int_equal(access(part, F_OK), -1);
}

static void
test_no_lease_meanwhile(void **unused)
{
	struct rig_message *m, *names;

	(void)unused;
	collect(0);
	names = rig_wait(&rig, SALLYPORT__ENVELOPE__BODY_NAMES);
	rig_offer(&rig, LEASE, "copy", "org/name");
	collect(0); /* again, as with every heartbeat */
	do {
		m = rig_wait(&rig, SALLYPORT__ENVELOPE__BODY_HEARTBEAT);
		assert_int_equal(m->envelope->heartbeat->free, 0);
		assert_non_null(m->envelope->heartbeat->collection);
		assert_string_equal(m->envelope->heartbeat->collection->lease, COLLECTION);
		if (strcmp(m->envelope->heartbeat->collection->phase, "mark") == 0)
			break;
		rig_free(m);
	} while (1);
	rig_free(m);
	assert_true(has("orphan"));
	answer(names);
	rig_free(names);
	rig_free(finish());
	assert_false(has("orphan"));
	rig_free(rig_do(&rig, LEASE, "copy", "org/name"));
}

static void
test_busy_worker(void **unused)
{
	struct rig_message *m;

	(void)unused;
	rig_lease(&rig, LEASE, "wait", "x");
	collect(0);
	m = rig_wait(&rig, SALLYPORT__ENVELOPE__BODY_COLLECTED);
	assert_string_equal(m->envelope->collected->code, "state");
	assert_non_null(strstr(m->envelope->collected->message, "1 step"));
	rig_free(m);
	assert_true(has("orphan"));
	rig_cancel(&rig, LEASE);
	rig_free(rig_result(&rig, LEASE));
	wait_for_free(2);
	collect(0);
	rig_free(finish());
	assert_false(has("orphan"));
}

/* ledgerd was restarted and knows nothing of the collection. */
static void
test_refused(void **unused)
{
	struct rig_message *m;

	(void)unused;
	collect(0);
	m = rig_wait(&rig, SALLYPORT__ENVELOPE__BODY_NAMES);
	rig_refuse(&rig, m->envelope->seq, "");
	rig_free(m);
	m = finish();
	assert_string_equal(m->envelope->collected->code, "denied");
	assert_int_equal(m->envelope->collected->removed, 0);
	rig_free(m);
	assert_true(has("orphan"));
	/* the next one does it */
	collect(0);
	rig_free(finish());
	assert_false(has("orphan"));
}

/* A listing that the disk has spoilt: nobody knows what it names, so nothing goes. */
static void
test_spoilt_tree(void **unused)
{
	char *path = sp_store_path(store, tree.s);
	struct rig_message *m;

	(void)unused;
	assert_int_equal(truncate(path, 40), 0);
	collect(0);
	m = finish();
	assert_string_equal(m->envelope->collected->code, "corrupt");
	assert_non_null(strstr(m->envelope->collected->message, tree.s));
	rig_free(m);
	assert_true(has("orphan") && has("weights"));
	free(path);
}

static int
is_less(void *ctx)
{
	struct sp_gc gc;
	struct sp_err err;
	int less;

	check(sp_gc_list(store, &gc, &err), &err);
	less = gc.count < *(size_t *)ctx;
	sp_gc_clear(&gc);
	return less;
}

/* Killed while it asks and while it sweeps; each time the next life does all of it. */
static void
test_killed(void **unused)
{
	size_t full = 4;
	struct rig_message *m;
	char text[32];

	(void)unused;
	for (; full < 3000; full++) {
		snprintf(text, sizeof(text), "litter %zu", full);
		litter(text);
	}
	rig_until(&rig, is_asked, NULL);
	rig_free(rig_wait(&rig, SALLYPORT__ENVELOPE__BODY_NAMES));
	kill(rig.pid, SIGKILL);
	assert_int_equal(rig_wait_worker(&rig), 128 + SIGKILL);
	assert_false(is_less(&full));
	rig_start_worker(&rig, rig.worker);
	rig_until(&rig, is_asked, NULL);
	m = rig_wait(&rig, SALLYPORT__ENVELOPE__BODY_NAMES);
	answer(m);
	rig_free(m);
	rig_until(&rig, is_less, &full);
	kill(rig.pid, SIGKILL);
	assert_int_equal(rig_wait_worker(&rig), 128 + SIGKILL);
	assert_true(has("weights") && sp_store_has(store, tree.s, NULL));
	rig_start_worker(&rig, rig.worker);
	rig_until(&rig, is_asked, NULL);
	m = finish();
	assert_string_equal(m->envelope->collected->code, "");
	assert_int_equal(m->envelope->collected->kept, 3);
	rig_free(m);
	assert_true(has("weights") && sp_store_has(store, tree.s, NULL));
	full = 4;
	assert_true(is_less(&full));
}

static void
test_sigterm(void **unused)
{
	(void)unused;
	collect(0);
	rig_free(rig_wait(&rig, SALLYPORT__ENVELOPE__BODY_NAMES));
	kill(rig.pid, SIGTERM);
	assert_int_equal(rig_wait_worker(&rig), 0);
	assert_true(has("orphan"));
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_takes_no_lease),
	    cmocka_unit_test(test_busy),
	    cmocka_unit_test(test_stops),
#define WITH_WORKER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
	    WITH_WORKER(test_collects),
	    WITH_WORKER(test_work_of_many),
	    WITH_WORKER(test_dry_run),
	    WITH_WORKER(test_parts),
	    WITH_WORKER(test_no_lease_meanwhile),
	    WITH_WORKER(test_busy_worker),
	    WITH_WORKER(test_refused),
	    WITH_WORKER(test_spoilt_tree),
	    WITH_WORKER(test_killed),
	    WITH_WORKER(test_sigterm),
	};

	if (argc > 1)
		return sp_worker_main(argc, argv, &bus_fetcher_spec);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
