/*
 * sallyctl_commands.c -- the commands, whole, against a ledgerd that serves a true release, its
 * log, a signed snapshot and a registry's store; and against one that lies.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

#include "base/file.h"
#include "base/json.h"
#include "base/time.h"
#include "ledger/note.h"
#include "release/bom.h"
#include "release/snapshot.h"
#include "release_rig.h"
#include "sallyctl/ctl.h"

static struct sp_err err;
static struct rig rig;
static char dir[] = "/tmp/sp-commands-XXXXXX";

/* What the ledgerd of these tests has to give. */
static struct {
	struct rig_parts parts;
	struct rig_log log;
	struct sp_tree tree;
	char *release, *snapshot;
	size_t release_len, snapshot_len;
	void *context, *router;
	pthread_t thread;
	/* how it behaves, and what it was told */
	const char *job, *job_state;
	const struct rig_parts *shown; /* the evidence for the candidate */
	const char *role;	       /* of the artifact that is the candidate's tree */
	int flip_entry;		       /* one byte of an entry is another */
	int from_start;		       /* whatever it is asked, entries come from 0 on */
	char *signature;	       /* of an approval */
	char *reason;		       /* of a rejection */
	char submitted[33];	       /* the job that was submitted last */
	uint64_t change;
	int crowded; /* so often nobody may wait for a job to change: it is shown as it is */
} site;

static char *
path(const char *name)
{
	static char text[4][512];
	static unsigned next;
	char *out = text[next++ % 4];

	snprintf(out, sizeof(text[0]), "%s/%s", dir, name);
	return out;
}

static void
write_text(const char *name, const char *text)
{
	assert_int_equal(sp_file_write(path(name), 0644, text, strlen(text), &err), SP_OK);
}

static char *
read_text(const char *name)
{
	uint8_t *data = NULL;
	size_t len;

	assert_int_equal(sp_file_read(path(name), 1 << 20, &data, &len, &err), SP_OK);
	return (char *)data;
}

/* --- ledgerd -------------------------------------------------------------------------------- */

static char *
text_of(const char *literal)
{
	return (char *)(uintptr_t)literal;
}

static void
answer(zmq_msg_t *id, uint64_t seq, Sallyport__OperatorReply *reply)
{
	uint8_t *bytes;
	size_t len;

	reply->version = 1;
	reply->ack_seq = seq;
	len = sallyport__operator_reply__get_packed_size(reply);
	bytes = malloc(len);
	sallyport__operator_reply__pack(reply, bytes);
	zmq_send(site.router, zmq_msg_data(id), zmq_msg_size(id), ZMQ_SNDMORE);
	zmq_send(site.router, bytes, len, 0);
	free(bytes);
}

static void
give_job(zmq_msg_t *id, uint64_t seq, const char *job)
{
	Sallyport__OperatorReply reply;
	Sallyport__OperatorJobList list;
	Sallyport__OperatorJobView view, *views[] = {&view};
	Sallyport__Artifact artifact, *artifacts[] = {&artifact};
	Sallyport__Attested attested[3], *attestations[3];
	char *candidate;
	size_t i, len;

	sallyport__operator_reply__init(&reply);
	sallyport__operator_job_list__init(&list);
	sallyport__operator_job_view__init(&view);
	sallyport__artifact__init(&artifact);
	candidate = sp_candidate_format(&site.shown->c, &len);
	view.job = strcmp(job, site.submitted) == 0 ? site.submitted : text_of(site.job);
	view.kind = text_of("model");
	view.name = text_of(site.shown->c.name);
	view.state = text_of(site.crowded > 0 ? "VALIDATING" : site.job_state);
	site.change += site.crowded == 0;
	site.crowded -= site.crowded > 0;
	view.change = site.change;
	view.candidate.data = (uint8_t *)candidate;
	view.candidate.len = len;
	for (i = 0; i < 3; i++) {
		sallyport__attested__init(&attested[i]);
		attested[i].step = text_of("x");
		attested[i].envelope.data = (uint8_t *)site.shown->text[i];
		attested[i].envelope.len = strlen(site.shown->text[i]);
		attestations[i] = &attested[i];
	}
	view.attestations = attestations;
	view.n_attestations = 3;
	artifact.role = text_of(site.role);
	artifact.digest = text_of(site.shown->c.tree.s);
	artifact.tree = 1;
	artifact.bytes = 1536;
	view.artifacts = artifacts;
	view.n_artifacts = 1;
	list.jobs = views;
	list.n_jobs = 1;
	reply.body_case = SALLYPORT__OPERATOR_REPLY__BODY_JOBS;
	reply.jobs = &list;
	answer(id, seq, &reply);
	free(candidate);
}

/* Three at a time, so that asking for all of them takes several requests. */
static void
give_entries(zmq_msg_t *id, uint64_t seq, const Sallyport__OperatorLog *log)
{
	Sallyport__OperatorReply reply;
	Sallyport__OperatorEntries entries;
	ProtobufCBinaryData list[3];
	uint8_t flipped[512];
	size_t n = 0, i;

	sallyport__operator_reply__init(&reply);
	sallyport__operator_entries__init(&entries);
	for (i = site.from_start ? 0 : log->from; i < RIG_ENTRIES && n < 3; i++) {
		if (log->job[0] != '\0' && i == 0)
			continue; /* "start" is no job's */
		list[n].data = site.log.entries[i].data;
		list[n].len = site.log.entries[i].len;
		if (site.flip_entry && i == 4) {
			memcpy(flipped, list[n].data, list[n].len);
			flipped[list[n].len - 1] ^= 1;
			list[n].data = flipped;
		}
		n++;
	}
	entries.size = RIG_ENTRIES;
	entries.entries = list;
	entries.n_entries = n;
	entries.checkpoint.data = (uint8_t *)site.log.checkpoint;
	entries.checkpoint.len = strlen(site.log.checkpoint);
	reply.body_case = SALLYPORT__OPERATOR_REPLY__BODY_ENTRIES;
	reply.entries = &entries;
	answer(id, seq, &reply);
}

static void
give_content(zmq_msg_t *id, uint64_t seq, const char *data, size_t len)
{
	Sallyport__OperatorReply reply;
	Sallyport__OperatorContent content;

	sallyport__operator_reply__init(&reply);
	sallyport__operator_content__init(&content);
	content.content.data = (uint8_t *)(uintptr_t)data;
	content.content.len = len;
	reply.body_case = SALLYPORT__OPERATOR_REPLY__BODY_CONTENT;
	reply.content = &content;
	answer(id, seq, &reply);
}

static void
accept_it(zmq_msg_t *id, uint64_t seq, const char *job, const char *job_state)
{
	Sallyport__OperatorReply reply;
	Sallyport__OperatorAccepted accepted;

	sallyport__operator_reply__init(&reply);
	sallyport__operator_accepted__init(&accepted);
	accepted.job = text_of(job);
	accepted.state = text_of(job_state);
	accepted.log_seq = 9;
	accepted.done = 1;
	reply.body_case = SALLYPORT__OPERATOR_REPLY__BODY_ACCEPTED;
	reply.accepted = &accepted;
	answer(id, seq, &reply);
}

/* 1 when it was the last request. */
static int
serve(zmq_msg_t *id, const Sallyport__OperatorRequest *r)
{
	switch (r->body_case) {
	case SALLYPORT__OPERATOR_REQUEST__BODY_JOB:
		give_job(id, r->seq, r->job->job);
		break;
	case SALLYPORT__OPERATOR_REQUEST__BODY_JOBS:
		give_job(id, r->seq, RIG_JOB);
		break;
	case SALLYPORT__OPERATOR_REQUEST__BODY_LOG:
		give_entries(id, r->seq, r->log);
		break;
	case SALLYPORT__OPERATOR_REQUEST__BODY_CHECKPOINT:
		give_content(id, r->seq, site.log.checkpoint, strlen(site.log.checkpoint));
		break;
	case SALLYPORT__OPERATOR_REQUEST__BODY_APPROVE:
		free(site.signature);
		site.signature =
		    strndup((char *)r->approve->signature.data, r->approve->signature.len);
		accept_it(id, r->seq, r->approve->job, "APPROVED");
		break;
	case SALLYPORT__OPERATOR_REQUEST__BODY_REJECT:
		free(site.reason);
		site.reason = strdup(r->reject->reason);
		accept_it(id, r->seq, r->reject->job, "REJECTED");
		break;
	case SALLYPORT__OPERATOR_REQUEST__BODY_SUBMIT:
		snprintf(site.submitted, sizeof(site.submitted), "%s", r->submit->request);
		accept_it(id, r->seq, r->submit->request, "SUBMITTED");
		break;
	case SALLYPORT__OPERATOR_REQUEST__BODY_PUBLISHED:
		give_content(id, r->seq, site.snapshot, site.snapshot_len);
		return strcmp(r->published->topic, "stop") == 0;
	default:
		fail_msg("request %d", (int)r->body_case);
	}
	return 0;
}

static void *
ledgerd(void *ctx)
{
	Sallyport__OperatorRequest *request;
	zmq_msg_t id, body;
	int stop = 0;

	(void)ctx;
	while (!stop) {
		zmq_msg_init(&id);
		zmq_msg_init(&body);
		if (zmq_msg_recv(&id, site.router, 0) < 0 ||
		    zmq_msg_recv(&body, site.router, 0) < 0)
			break;
		request = sallyport__operator_request__unpack(
		    NULL, zmq_msg_size(&body), zmq_msg_data(&body));
		stop = serve(&id, request);
		sallyport__operator_request__free_unpacked(request, NULL);
		zmq_msg_close(&id);
		zmq_msg_close(&body);
	}
	return NULL;
}

/* --- the site ------------------------------------------------------------------------------- */

static void
make_model(struct sp_store *store, struct sp_hex *digest)
{
	assert_int_equal(mkdir(path("model"), 0755), 0);
	assert_int_equal(mkdir(path("model/sub"), 0755), 0);
	write_text("model/config.json", "{}");
	write_text("model/sub/weights", "0123456789");
	assert_int_equal(sp_file_write(path("model/run.sh"), 0755, "#!/bin/sh\n", 10, &err), SP_OK);
	assert_int_equal(sp_tree_import(store, path("model"), &site.tree, digest, &err), SP_OK);
}

static void
make_snapshot(const struct sp_hex *tree, const struct sp_hex *release)
{
	char *files[] = {text_of("config.json"), text_of("run.sh"), text_of("sub/weights")};
	struct sp_snapshot_model model = {.name = site.parts.c.name,
	    .kind = site.parts.c.kind,
	    .version = 1,
	    .tree = *tree,
	    .release = *release,
	    .revision = sp_tree_revision(tree->s),
	    .bytes = 22,
	    .files = files,
	    .file_count = 3};
	struct sp_snapshot snapshot = {.version = 4,
	    .origin = "sallyport/enclave/host",
	    .time = RIG_TIME,
	    .models = &model,
	    .count = 1};

	assert_int_equal(sp_snapshot_sign(&snapshot, rig.keys[SP_ROLE_REGISTRY], &site.snapshot,
			     &site.snapshot_len, &err),
	    SP_OK);
}

static void
make_release(void)
{
	struct rig_deviation deviation = {0};
	struct sp_store *store = NULL;
	struct sp_hex tree, release;
	json_t *bom;

	assert_int_equal(sp_file_mkdirs(path("var/lib/sallyport/store"), 0755, &err), SP_OK);
	assert_int_equal(
	    sp_store_open(path("var/lib/sallyport/store/registryd"), 1, &store, &err), SP_OK);
	make_model(store, &tree);
	deviation.tree = tree.s;
	rig_parts(&rig, &deviation, &site.parts);
	rig_log(rig_story, &site.parts, RIG_JOB, RIG_ORIGIN, rig.keys[SP_ROLE_LOG], &site.log);
	bom = rig_bom(&site.parts, &site.tree);
	site.release = rig_release(
	    &rig, &site.parts, &site.log, bom, rig.keys[SP_ROLE_RELEASE], &site.release_len, &err);
	json_decref(bom);
	assert_non_null(site.release);
	assert_int_equal(
	    sp_store_put(store, site.release, site.release_len, &release, &err), SP_OK);
	sp_store_close(&store);
	make_snapshot(&tree, &release);
}

static int
set_up(void **state)
{
	char *endpoint;

	(void)state;
	assert_non_null(mkdtemp(dir));
	rig_open(&rig);
	assert_int_equal(sp_file_mkdirs(path("etc/sallyport"), 0755, &err), SP_OK);
	assert_int_equal(sp_file_mkdirs(path("run/sallyport"), 0755, &err), SP_OK);
	write_text("etc/sallyport/sallyport.conf", "side = \"enclave\";\n");
	write_text("trust.json", rig.trust_envelope);
	assert_int_equal(
	    sp_key_save(rig.keys[SP_ROLE_OPERATOR], path("anna.key"), NULL, &err), SP_OK);
	assert_int_equal(sp_key_save(rig.eve, path("eve.key"), NULL, &err), SP_OK);
	make_release();
	site.shown = &site.parts;
	site.job_state = "AWAITING_APPROVAL";
	site.job = RIG_JOB;
	site.role = "candidate";
	site.context = zmq_ctx_new();
	site.router = zmq_socket(site.context, ZMQ_ROUTER);
	endpoint = sp_xasprintf("ipc://%s", path("run/sallyport/operators.sock"));
	assert_int_equal(zmq_bind(site.router, endpoint), 0);
	free(endpoint);
	return pthread_create(&site.thread, NULL, ledgerd, NULL);
}

/* --- running commands ----------------------------------------------------------------------- */

static char out[1 << 16]; /* what the last command printed */

/* One command line, split at spaces, as main() runs it; its standard output goes to `out`. */
static enum sp_code
run(const char *fmt, ...)
{
	static struct ctl_args args;
	struct ctl ctl = {.args = &args, .root = dir};
	char line[1024], *argv[64] = {text_of("sallyctl")}, *rest = line;
	int argc = 1, saved, to;
	enum sp_code code;
	ssize_t len;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	while (rest != NULL)
		argv[argc++] = strsep(&rest, " ");
	to = open(path("out"), O_RDWR | O_CREAT | O_TRUNC, 0600);
	fflush(stdout);
	saved = dup(STDOUT_FILENO);
	dup2(to, STDOUT_FILENO);
	code = ctl_args_parse(ctl_commands, argc, argv, &args, &err);
	ctl.json = args.json;
	if (code == SP_OK)
		code = args.command->run(&ctl, &args, &err);
	fflush(stdout);
	dup2(saved, STDOUT_FILENO);
	close(saved);
	len = pread(to, out, sizeof(out) - 1, 0);
	out[len > 0 ? len : 0] = '\0';
	close(to);
	ctl_client_close(&ctl.client);
	sp_conf_free(&ctl.conf);
	return code;
}

static void
good(enum sp_code code)
{
	if (code != SP_OK)
		fail_msg("%s", err.msg);
}

static void
says(const char *text)
{
	if (strstr(out, text) == NULL)
		fail_msg("\"%s\" is not in: %s", text, out);
}

static void
error_says(enum sp_code code, enum sp_code want, const char *text)
{
	assert_int_equal(code, want);
	if (strstr(err.msg, text) == NULL)
		fail_msg("\"%s\" is not in: %s", text, err.msg);
}

static json_t *
document(void)
{
	json_t *value = NULL;
	size_t len = strlen(out);

	assert_true(len > 0 && out[len - 1] == '\n');
	good(sp_json_parse(out, len - 1, "output", &value, &err));
	return value;
}

/* --- the tests ------------------------------------------------------------------------------ */

static void
trust(void **state)
{
	(void)state;
	error_says(run("models"), SP_E_NOT_FOUND, "trust init");
	error_says(run("trust init %s", path("trust.json")), SP_E_INVALID, "--fingerprint");
	error_says(run("trust init %s --fingerprint " RIG_OTHER, path("trust.json")), SP_E_DENIED,
	    "not the document that was agreed on");
	good(run("trust init %s --fingerprint %s", path("trust.json"), rig.fingerprint.s));
	good(run("trust show"));
	says("operator  2 of 3");
	says(sp_key_public(rig.ben)->id.s);
	/* what is signed is shown before */
	good(sp_key_save(rig.keys[SP_ROLE_ROOT], path("root.key"), NULL, &err));
	error_says(run("trust sign %s --key %s --out %s", path("trust.json"), path("root.key"),
		       path("signed.json")),
	    SP_E_EXISTS, "has signed this already");
	says("operator  2 of 3");
}

static void
jobs(void **state)
{
	const char *word, *code;
	json_t *doc;
	int64_t began_ms;

	(void)state;
	good(run("jobs"));
	says("\n00112233  AWAITING_APPROVAL");
	good(run("jobs --state failed --json"));
	doc = document();
	assert_int_equal(json_array_size(json_object_get(doc, "jobs")), 0);
	json_decref(doc);
	good(run("jobs --state awaiting-approval --last 1"));
	says("00112233");
	error_says(run("jobs --state never"), SP_E_INVALID, "no state");
	error_says(run("jobs --last 0"), SP_E_INVALID, "from 1 on");
	error_says(run("job 001"), SP_E_INVALID, "names no job");
	error_says(run("submit org/name"), SP_E_UNSUPPORTED, "must begin with hf:");
	good(run("job 0011"));
	says("Next: `sallyctl approve 00112233");
	good(run("submit hf:org/name --wait"));
	says("AWAITING_APPROVAL");
	good(run("watch 0011 --until VALIDATED"));
	error_says(run("watch 0011 --until NEVER"), SP_E_INVALID, "no state");
	good(run("reject 0011 --reason because"));
	assert_string_equal(site.reason, "because");
	says("is REJECTED (log entry 9)");
	site.job_state = "BLOCKED";
	site.crowded = 2;
	began_ms = sp_time_monotonic_ms();
	error_says(run("watch 0011"), SP_E_BLOCKED, "is BLOCKED");
	/* where ledgerd does not wait, we do */
	assert_true(sp_time_monotonic_ms() - began_ms >= 900);
	site.job = "\x1b[2J\x1b[1m";
	good(run("jobs"));
	says("\\x1b");
	error_says(run("watch"), SP_E_DENIED, "no job's id");
	site.job = RIG_JOB;
	assert_null(strchr(out, '\x1b'));
	error_says(run("submit hf:org/name --wait --json"), SP_E_BLOCKED, "is BLOCKED");
	doc = document(); /* one, about the job and the error */
	assert_int_equal(
	    json_unpack(doc, "{s:s, s:{s:s}}", "state", &word, "error", "code", &code), 0);
	assert_string_equal(word, "BLOCKED");
	assert_string_equal(code, "blocked");
	json_decref(doc);
	site.job_state = "AWAITING_APPROVAL";
}

static void
approve_whole(void **state)
{
	struct sp_dsse dsse;
	json_t *doc;
	char *wanted;
	size_t len;

	(void)state;
	error_says(run("approve 0011"), SP_E_INVALID, "--key");
	/* without a terminal nobody can be asked */
	assert_int_equal(dup2(open("/dev/null", O_RDONLY), STDIN_FILENO), STDIN_FILENO);
	error_says(run("approve 0011 --key %s", path("anna.key")), SP_E_INVALID, "--yes");
	says("model org/name-AWQ version 1 for enclave");
	says("1.50 KiB");
	says("fetch by fetcherd@bastion");
	says("hf:org/name, commit 0123");
	says("mmlu  PASSED         600   71.00 %    70.50 %  0.50 %          3.00 %");
	error_says(run("approve 0011 --yes --key %s", path("eve.key")), SP_E_DENIED,
	    "does not name this key among the operators");
	assert_null(site.signature);

	good(run("approve 0011 --yes --json --key %s", path("anna.key")));
	doc = document();
	assert_string_equal(json_string_value(json_object_get(doc, "state")), "APPROVED");
	assert_string_equal(json_string_value(json_object_get(doc, "signer")), "anna");
	json_decref(doc);
	good(sp_dsse_parse((uint8_t *)site.signature, strlen(site.signature), &dsse, &err));
	wanted = sp_candidate_format(&site.parts.c, &len);
	assert_string_equal(dsse.payload_type, SP_DSSE_CANDIDATE);
	assert_string_equal((char *)dsse.payload, wanted);
	good(sp_trust_verify(rig.trust, SP_ROLE_OPERATOR, 1, &dsse, NULL, 0, NULL, &err));
	free(wanted);
	sp_dsse_clear(&dsse);
	free(site.signature);
	site.signature = NULL;
}

/* ledgerd shows evidence with a gap: nothing is signed, whoever asks. */
static void
approve_gap(void **state)
{
	const struct rig_deviation cases[] = {
	    {.gate_result = "FAILED"},
	    {.gate_key = rig.keys[SP_ROLE_RELEASE]},
	    {.quantize_material = RIG_OTHER},
	    {.gate_subject = RIG_OTHER},
	};
	static const char *const why[] = {"gate", "gate", "chain", "chain"};
	struct rig_parts parts;
	enum sp_code code;
	char check[32];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		rig_parts(&rig, &cases[i], &parts);
		site.shown = &parts;
		code = run("approve 0011 --yes --key %s", path("anna.key"));
		site.shown = &site.parts;
		snprintf(check, sizeof(check), "check \"%s\"", why[i]);
		error_says(code, i == 0 ? SP_E_BLOCKED : SP_E_DENIED, check);
		assert_null(site.signature);
		rig_parts_free(&parts);
	}
	site.job_state = "SENT";
	error_says(
	    run("approve 0011 --yes --key %s", path("anna.key")), SP_E_STATE, "nothing to approve");
	site.job_state = "AWAITING_APPROVAL";
}

/* ledgerd tries to have something else signed than what the operator thinks of. */
static void
approve_lies(void **state)
{
	const struct rig_deviation untested = {
	    .tree = RIG_SOURCE, .candidate_kind = "file", .attestations = 1};
	struct rig_parts parts;
	enum sp_code code;

	(void)state;
	/* another job than the one that was named */
	error_says(run("approve ffff --yes --key %s", path("anna.key")), SP_E_DENIED,
	    "answered with job " RIG_JOB);
	assert_null(site.signature);

	/* a model as a kind that needs no gate: it says so */
	rig_parts(&rig, &untested, &parts);
	site.shown = &parts;
	code = run("approve 0011 --key %s", path("anna.key"));
	site.shown = &site.parts;
	error_says(code, SP_E_INVALID, "--yes");
	says("file org/name-AWQ version 1 for enclave");
	says("not quantized, not tested");
	rig_parts_free(&parts);

	/* words that paint over what is on the screen */
	site.role = "x\x1b[2J\nmodel org/good version 7 for enclave";
	error_says(run("approve 0011 --key %s", path("anna.key")), SP_E_INVALID, "--yes");
	site.role = "candidate";
	assert_null(strchr(out, '\x1b'));
	assert_null(strstr(out, "org/good"));
}

static void
log_commands(void **state)
{
	json_t *doc;
	char *vkey;

	(void)state;
	good(run("log verify"));
	says("10, of 1 jobs");
	says("signed by ledgerd@bastion");
	good(run("log show --json"));
	doc = document();
	assert_int_equal(json_array_size(json_object_get(doc, "entries")), 10);
	json_decref(doc);
	good(run("log show 0011 --json"));
	doc = document();
	assert_int_equal(json_array_size(json_object_get(doc, "entries")), 9);
	json_decref(doc);
	good(run("log show"));
	says("VALIDATING -> VALIDATED");
	good(run("log checkpoint"));
	assert_string_equal(out, site.log.checkpoint);
	good(run("log checkpoint --json"));
	doc = document();
	vkey = sp_note_vkey(RIG_ORIGIN, sp_key_public(rig.keys[SP_ROLE_LOG])->bytes);
	assert_string_equal(json_string_value(json_object_get(doc, "vkey")), vkey);
	free(vkey);
	json_decref(doc);
	good(run("log prove 3 --json"));
	doc = document();
	assert_int_equal(
	    json_array_size(json_object_get(doc, "hashes")), site.log.proofs[3].hash_count);
	json_decref(doc);
	error_says(run("log prove 10"), SP_E_NOT_FOUND, "covers 10 entries");
	error_says(run("log prove -- -1"), SP_E_INVALID, "number");
	/* it would go on for ever */
	site.from_start = 1;
	error_says(run("log show"), SP_E_INVALID, "from 3 on and answered with entry 0");
	site.from_start = 0;
}

static void
log_altered(void **state)
{
	uint8_t *data = NULL;
	char *bundle;
	size_t len;

	(void)state;
	good(run("log export %s", path("export")));
	good(run("log verify %s", path("export")));
	says("verified");
	/* the export's own bytes count, not ledgerd's */
	bundle = path("export/tile/entries/000.p/10");
	good(sp_file_read(bundle, 1 << 20, &data, &len, &err));
	data[len - 1] ^= 1;
	good(sp_file_write(bundle, 0644, data, len, &err));
	free(data);
	assert_int_equal(run("log verify %s", path("export")), SP_E_CORRUPT);
	site.flip_entry = 1;
	error_says(run("log verify"), SP_E_CORRUPT, "was altered");
	error_says(run("log export %s", path("export2")), SP_E_CORRUPT, "was altered");
	assert_int_not_equal(access(path("export2/checkpoint"), F_OK), 0);
	site.flip_entry = 0;
}

static void
models(void **state)
{
	json_t *doc, *evidence;
	const char *name, *tree;

	(void)state;
	good(run("models"));
	says("org/name-AWQ");
	good(run("models --json"));
	doc = document();
	assert_int_equal(
	    json_unpack(doc, "{s:[{s:s, s:s}]}", "models", "name", &name, "tree", &tree), 0);
	assert_string_equal(tree, site.parts.c.tree.s);
	json_decref(doc);
	good(run("model org/name-AWQ@1"));
	says("sub/weights");
	error_says(run("model org/name-AWQ@2"), SP_E_NOT_FOUND, "not registered");
	error_says(run("model org/name-AWQ@x"), SP_E_INVALID, "number");

	good(run("chain org/name-AWQ"));
	says("The chain is whole");
	says("AWAITING_APPROVAL");
	good(run("chain org/name-AWQ@1 --json"));
	doc = document();
	evidence = json_object_get(doc, "evidence");
	assert_int_equal(json_array_size(evidence), 3);
	assert_string_equal(
	    json_string_value(json_object_get(json_array_get(evidence, 2), "result")), "PASSED");
	assert_int_equal(json_array_size(json_object_get(doc, "approvals")), 2);
	assert_int_equal(
	    json_array_size(json_object_get(json_object_get(doc, "log"), "entries")), 9);
	json_decref(doc);
}

static void
pull_plain(void **state)
{
	char *to = sp_xstrdup(path("pulled")), *text;
	struct stat st;

	(void)state;
	good(run("pull org/name-AWQ %s", to));
	says("3 files, 22 B, each verified");
	text = read_text("pulled/sub/weights");
	assert_string_equal(text, "0123456789");
	free(text);
	assert_int_equal(stat(path("pulled/run.sh"), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0755);
	good(run("verify %s", to));
	says("org/name-AWQ version 1: verified");
	error_says(run("pull org/name-AWQ %s", to), SP_E_EXISTS, "not empty");

	write_text("pulled/model.sig", "{}"); /* lies beside the files */
	good(run("verify %s", to));
	assert_int_equal(unlink(path("pulled/model.sig")), 0);

	write_text("pulled/sub/weights", "012345678X");
	error_says(run("verify %s", to), SP_E_CORRUPT, "sub/weights has been changed");
	write_text("pulled/sub/weights", "0123456789");
	good(run("verify %s", to));
	assert_int_equal(chmod(path("pulled/config.json"), 0755), 0);
	error_says(run("verify %s", to), SP_E_CORRUPT, "config.json has another mode");
	assert_int_equal(chmod(path("pulled/config.json"), 0644), 0);
	write_text("pulled/more", "");
	error_says(run("verify %s", to), SP_E_CORRUPT, "more does not belong");
	assert_int_equal(unlink(path("pulled/more")), 0);
	assert_int_equal(unlink(path("pulled/run.sh")), 0);
	error_says(run("verify %s", to), SP_E_CORRUPT, "run.sh is missing");
	text = read_text("pulled/sallyport-release.json");
	text[strlen(text) / 2] ^= 1;
	write_text("pulled/sallyport-release.json", text);
	free(text);
	assert_int_not_equal(run("verify %s", to), SP_OK);
	assert_non_null(strstr(err.msg, "fails the check \"release\""));
	free(to);
}

/* A good copy of the files in the wrong place must not speak for bad ones in the right place. */
static void
verify_all_of_it(void **state)
{
	char *cache = sp_xasprintf(
	    "decoy/models--org--name-AWQ/snapshots/%s", sp_tree_revision(site.parts.c.tree.s).s);
	char *sub = sp_xasprintf("%s/sub", cache), *from, *to;

	(void)state;
	good(run("pull org/name-AWQ %s", path("decoy")));
	good(sp_file_mkdirs(path(sub), 0755, &err));
	for (size_t i = 0; i < site.tree.count; i++) {
		from = sp_xasprintf("%s/%s", path("model"), site.tree.files[i].path);
		to = sp_xasprintf("%s/%s", path(cache), site.tree.files[i].path);
		assert_int_equal(link(from, to), 0);
		free(from);
		free(to);
	}
	write_text("decoy/sub/weights", "012345678X");
	error_says(run("verify %s", path("decoy")), SP_E_CORRUPT, "not belong");
	free(cache);
	free(sub);
}

static void
pull_hf(void **state)
{
	const char *revision = sp_tree_revision(site.parts.c.tree.s).s;
	char *text, *file;

	(void)state;
	error_says(run("pull org/name-AWQ %s --layout zip", path("hf")), SP_E_INVALID, "--layout");
	assert_int_equal(mkdir(path("hf"), 0755), 0); /* empty: may be used */
	good(run("pull org/name-AWQ %s/ --layout hf", path("hf")));
	text = read_text("hf/models--org--name-AWQ/refs/main");
	assert_string_equal(text, revision);
	free(text);
	file = sp_xasprintf("hf/models--org--name-AWQ/snapshots/%s/config.json", revision);
	text = read_text(file);
	assert_string_equal(text, "{}");
	free(text);
	good(run("verify %s", path("hf")));
	/* what would be loaded is what refs/main names */
	write_text(
	    "hf/models--org--name-AWQ/refs/main", "0123456789012345678901234567890123456789");
	error_says(run("verify %s", path("hf")), SP_E_CORRUPT, "refs/main");
	write_text("hf/models--org--name-AWQ/refs/main", revision);
	write_text("hf/models--org--name-AWQ/refs/other", "x");
	error_says(run("verify %s", path("hf")), SP_E_CORRUPT, "refs/other does not belong");
	assert_int_equal(unlink(path("hf/models--org--name-AWQ/refs/other")), 0);
	good(run("verify %s", path("hf")));
	write_text(file, "{ }");
	error_says(run("verify %s", path("hf")), SP_E_CORRUPT, "config.json has been changed");
	free(file);
	/* found before hours of copying */
	assert_int_equal(mkdir(path("empty"), 0755), 0);
	assert_int_equal(symlink("empty", path("link")), 0);
	error_says(run("pull org/name-AWQ %s", path("link")), SP_E_EXISTS, "is no directory");
}

/* A blob in the registry's store is not what its name says: nothing appears. */
static void
pull_corrupt(void **state)
{
	struct sp_hex digest = sp_sha256_hex("0123456789", 10);
	char *blob = sp_xasprintf(
	    "%s/sha256/%.2s/%s", path("var/lib/sallyport/store/registryd"), digest.s, digest.s + 2);

	(void)state;
	assert_int_equal(chmod(blob, 0600), 0);
	good(sp_file_write(blob, 0440, "012345678X", 10, &err));
	error_says(run("pull org/name-AWQ %s", path("bad")), SP_E_CORRUPT, "sub/weights");
	assert_int_not_equal(access(path("bad"), F_OK), 0);
	good(sp_file_write(blob, 0440, "0123456789", 10, &err));
	good(run("pull org/name-AWQ %s", path("bad")));
	free(blob);
}

static int
tear_down(void **state)
{
	Sallyport__OperatorRequest request;
	Sallyport__OperatorReply *reply = NULL;
	Sallyport__OperatorTopic body;
	struct ctl_client *client;

	(void)state;
	sallyport__operator_request__init(&request);
	sallyport__operator_topic__init(&body);
	body.topic = text_of("stop");
	request.body_case = SALLYPORT__OPERATOR_REQUEST__BODY_PUBLISHED;
	request.published = &body;
	good(ctl_client_open(path("run/sallyport/operators.sock"), &client, &err));
	good(ctl_client_ask(client, &request, 5000, &reply, &err));
	sallyport__operator_reply__free_unpacked(reply, NULL);
	ctl_client_close(&client);
	pthread_join(site.thread, NULL);
	zmq_close(site.router);
	zmq_ctx_term(site.context);
	rig_parts_free(&site.parts);
	rig_log_free(&site.log);
	sp_tree_clear(&site.tree);
	free(site.release);
	free(site.snapshot);
	free(site.signature);
	free(site.reason);
	rig_close(&rig);
	return sp_file_remove_all(dir, &err) != SP_OK;
}

int
main(void)
{
	/* in this order: the first one pins the trust document */
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(trust),
	    cmocka_unit_test(jobs),
	    cmocka_unit_test(approve_whole),
	    cmocka_unit_test(approve_gap),
	    cmocka_unit_test(approve_lies),
	    cmocka_unit_test(log_commands),
	    cmocka_unit_test(log_altered),
	    cmocka_unit_test(models),
	    cmocka_unit_test(pull_plain),
	    cmocka_unit_test(verify_all_of_it),
	    cmocka_unit_test(pull_hf),
	    cmocka_unit_test(pull_corrupt),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
