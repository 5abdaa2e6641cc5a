/* sallyctl.c -- command lines, output, job views, trust documents, and a ledgerd that misbehaves.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

#include "base/file.h"
#include "base/json.h"
#include "sallyctl/args.h"
#include "sallyctl/client.h"
#include "sallyctl/ctl.h"
#include "sallyctl/entry.h"
#include "sallyctl/out.h"
#include "sallyctl/scan.h"
#include "sallyctl/trust_new.h"
#include "sallyctl/view.h"

#define JOB "00112233445566778899aabbccddeeff"

static struct sp_err err;
static char dir[] = "/tmp/sp-sallyctl-XXXXXX";

static char *
path(const char *name)
{
	static char text[512];

	snprintf(text, sizeof(text), "%s/%s", dir, name);
	return text;
}

static char *
text_of(const char *literal)
{
	return (char *)(uintptr_t)literal;
}

/* --- command lines -------------------------------------------------------------------------- */

static const struct ctl_command commands[] = {
    {"submit", "SOURCE", 1, 1, "", {{"--profile", "P", ""}, {"--wait", NULL, ""}}, NULL},
    {"jobs", "", 0, 0, "", {{"--all", NULL, ""}}, NULL},
    {"log show", "[ID]", 0, 1, "", {{NULL, NULL, NULL}}, NULL},
    {"log verify", "[DIR]", 0, 1, "", {{"--trust", "DIR", ""}}, NULL},
    {"trust new", "", 0, 0, "", {{"--key", "F", ""}, {"--version", "N", ""}}, NULL},
    {NULL, NULL, 0, 0, NULL, {{NULL, NULL, NULL}}, NULL},
};

static struct ctl_args args;

/* words: one string, split at spaces. */
static enum sp_code
parse(const char *words)
{
	static char line[256];
	char *argv[32] = {text_of("sallyctl")}, *rest = line;
	int argc = 1;

	snprintf(line, sizeof(line), "%s", words);
	while (rest != NULL && *rest != '\0')
		argv[argc++] = strsep(&rest, " ");
	return ctl_args_parse(commands, argc, argv, &args, &err);
}

static void
args_good(void **state)
{
	(void)state;
	assert_int_equal(parse("--json --root /r submit hf:a/b --profile p --wait -c f"), SP_OK);
	assert_string_equal(args.command->name, "submit");
	assert_int_equal(args.json, 1);
	assert_string_equal(args.root, "/r");
	assert_string_equal(args.conf, "f");
	assert_int_equal(args.count, 1);
	assert_string_equal(args.words[0], "hf:a/b");
	assert_string_equal(ctl_args_get(&args, "--profile"), "p");
	assert_non_null(ctl_args_get(&args, "--wait"));
	/* the last one counts, each can be had */
	assert_int_equal(parse("trust new --key a --key=b --version 3"), SP_OK);
	assert_string_equal(ctl_args_get(&args, "--key"), "b");
	assert_string_equal(ctl_args_nth(&args, "--key", 0), "a");
	assert_null(ctl_args_nth(&args, "--key", 2));
	assert_string_equal(ctl_args_get(&args, "--version"), "3");
	assert_int_equal(args.version, 0);
	assert_int_equal(parse("log show 1234"), SP_OK);
	assert_string_equal(args.command->name, "log show");
	assert_string_equal(args.words[0], "1234");
	/* after -- a word may begin with a dash */
	assert_int_equal(parse("log verify -- --json"), SP_OK);
	assert_string_equal(args.words[0], "--json");
	assert_int_equal(args.json, 0);
	assert_int_equal(parse("--version"), SP_OK);
	assert_int_equal(args.version, 1);
	assert_int_equal(parse("--json --version"), SP_OK);
	assert_int_equal(args.version && args.json, 1);
	assert_int_equal(parse("submit --help"), SP_OK);
	assert_int_equal(args.help, 1);
	assert_int_equal(parse(""), SP_OK);
	assert_null(args.command);
}

static void
args_bad(void **state)
{
	static const struct {
		const char *line, *says;
	} cases[] = {
	    {"submt x", "\"submit\""},
	    {"log shw", "\"log show\""},
	    {"reproduce x", "no command"},
	    {"submit", "usage: sallyctl submit SOURCE"},
	    {"submit a b", "usage"},
	    {"jobs --profile p", "no option --profile"},
	    {"jobs --nonsense", "no option \"--nonsense\""},
	    {"jobs --all=1", "takes no value"},
	    {"submit x --profile", "wants a value"},
	    {"a b c d e f g h i j k l", "too many"},
	    {"submit hf:a/\xff", "argument 2 is not UTF-8"},
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(parse(cases[i].line), SP_E_INVALID);
		if (strstr(err.msg, cases[i].says) == NULL)
			fail_msg("\"%s\" says: %s", cases[i].line, err.msg);
		assert_int_equal(args.json, 0);
	}
	/* who asked for a document gets one about the mistake, wherever that is */
	assert_int_equal(parse("jobs --nonsense --json"), SP_E_INVALID);
	assert_int_equal(args.json, 1);
	assert_int_equal(parse("jobs --nonsense -- --json"), SP_E_INVALID);
	assert_int_equal(args.json, 0);
}

static void
exit_status(void **state)
{
	(void)state;
	assert_int_equal(ctl_exit_status(SP_OK, 0), 0);
	assert_int_equal(ctl_exit_status(SP_E_STATE, 0), 1);
	assert_int_equal(ctl_exit_status(SP_E_INVALID, 1), 2);
	assert_int_equal(ctl_exit_status(SP_E_INVALID, 0), 1);
	assert_int_equal(ctl_exit_status(SP_E_BLOCKED, 0), 3);
	assert_int_equal(ctl_exit_status(SP_E_DENIED, 0), 3);
	assert_int_equal(ctl_exit_status(SP_E_UNREACHABLE, 0), 4);
}

static enum sp_code
model_name(const char *text, char name[SP_NAME_MAX + 1], int64_t *version)
{
	struct ctl ctl = {.args = &args};

	return ctl_model_name(&ctl, text, name, version, &err);
}

static void
model_names(void **state)
{
	char name[SP_NAME_MAX + 1];
	int64_t version;

	(void)state;
	assert_int_equal(model_name("org/a", name, &version), SP_OK);
	assert_string_equal(name, "org/a");
	assert_true(version == 0);
	assert_int_equal(model_name("org/a@12", name, &version), SP_OK);
	assert_string_equal(name, "org/a");
	assert_true(version == 12);
	assert_int_equal(model_name("org/a@", name, &version), SP_E_INVALID);
	assert_int_equal(model_name("org/a@0", name, &version), SP_E_INVALID);
	assert_int_equal(model_name("org/a@1x", name, &version), SP_E_INVALID);
	assert_int_equal(model_name("@1", name, &version), SP_E_INVALID);
	assert_int_equal(model_name("a@99999999999999999999", name, &version), SP_E_INVALID);
}

/* --- output --------------------------------------------------------------------------------- */

static void
cleaned(const char *in, const char *want)
{
	char *out = ctl_out_clean(in);

	assert_string_equal(out, want);
	free(out);
}

static void
out_clean(void **state)
{
	(void)state;
	cleaned("plain", "plain");
	cleaned("Gr\xc3\xb6\xc3\x9f"
		"e",
	    "Gr\xc3\xb6\xc3\x9f"
	    "e");
	cleaned("a\x1b[2Jb\nc\x7f", "a\\x1b[2Jb\\x0ac\\x7f");
	cleaned("\xc2\x9b"
		"31m",
	    "\\xc2\\x9b31m"); /* CSI as one character */
	cleaned("a\xe2\x80\xae"
		"b",
	    "a\\xe2\\x80\\xaeb"); /* right-to-left override */
	cleaned("\xff\xc3", "\\xff\\xc3");
}

static void
out_sizes(void **state)
{
	char *text;

	(void)state;
	assert_string_equal(ctl_out_size(0).s, "0 B");
	assert_string_equal(ctl_out_size(1023).s, "1023 B");
	assert_string_equal(ctl_out_size(1536).s, "1.50 KiB");
	assert_string_equal(ctl_out_size(UINT64_C(15) << 30).s, "15.0 GiB");
	assert_string_equal(ctl_out_size(UINT64_MAX).s, "16.0 EiB");
	assert_string_equal(ctl_out_duration(59999).s, "59 s");
	assert_string_equal(ctl_out_duration(190000).s, "3 min 10 s");
	assert_string_equal(ctl_out_duration(2 * 3600000 + 300000).s, "2 h 05 min");
	assert_string_equal(ctl_out_duration(-5).s, "0 s");
	text = ctl_out_progress(1024, 4096, "bytes");
	assert_string_equal(text, "1.00 KiB of 4.00 KiB");
	free(text);
	text = ctl_out_progress(3, 24, "layers");
	assert_string_equal(text, "3/24 layers");
	free(text);
	text = ctl_out_progress(3, 0, "files");
	assert_string_equal(text, "3 files");
	free(text);
}

static void
out_tables(void **state)
{
	struct ctl_out_table table = {.right = 1u << 1};
	char *text = NULL;
	size_t len;
	FILE *to = open_memstream(&text, &len);

	(void)state;
	ctl_out_row(&table, "NAME", "SIZE", "X", NULL);
	ctl_out_row(&table,
	    "Gr\xc3\xb6\xc3\x9f"
	    "e",
	    "7 B", "", NULL);
	ctl_out_row(&table, "a", "1023 B", "end", NULL);
	ctl_out_table(&table, "> ", to);
	ctl_out_field(to, "label", "%s", "value");
	ctl_out_field(to, "nothing", "%s", "");
	ctl_out_field(to, "l\x1b[m", "%s", "v");
	ctl_out_print(to, "a%s\nb\n", "\x07");
	fclose(to);
	assert_string_equal(text, "> NAME     SIZE  X\n"
				  "> Gr\xc3\xb6\xc3\x9f"
				  "e     7 B\n"
				  "> a      1023 B  end\n"
				  "  label           value\n"
				  "  l\\x1b[m         v\n"
				  "a\\x07\nb\n");
	free(text);
}

/* --- views ---------------------------------------------------------------------------------- */

static Sallyport__OperatorJobView
view_in(const char *job_state)
{
	Sallyport__OperatorJobView view;

	sallyport__operator_job_view__init(&view);
	view.job = text_of(JOB);
	view.kind = text_of("model");
	view.name = text_of("org/a-AWQ");
	view.model_version = 2;
	view.state = text_of(job_state);
	return view;
}

static enum sp_code
outcome_of(const char *job_state)
{
	Sallyport__OperatorJobView view = view_in(job_state);

	return ctl_view_outcome(&view, &err);
}

static int
ended(const char *job_state)
{
	Sallyport__OperatorJobView view = view_in(job_state);

	return ctl_view_ended(&view);
}

static int
reached(const char *job_state, const char *wanted)
{
	Sallyport__OperatorJobView view = view_in(job_state);

	return ctl_view_reached(&view, wanted);
}

static void
view_states(void **state)
{
	(void)state;
	assert_int_equal(outcome_of("SENT"), SP_OK);
	assert_int_equal(outcome_of("AWAITING_APPROVAL"), SP_OK);
	assert_int_equal(outcome_of("BLOCKED"), SP_E_BLOCKED);
	assert_int_equal(outcome_of("REJECTED"), SP_E_DENIED);
	assert_int_equal(outcome_of("QUARANTINED"), SP_E_DENIED);
	assert_int_equal(outcome_of("FAILED"), SP_E_STATE);
	assert_int_equal(outcome_of("CANCELLED"), SP_E_STATE);
	assert_true(ended("SENT") && ended("REGISTERED") && ended("BLOCKED") && ended("FAILED"));
	assert_false(ended("FETCHING") || ended("AWAITING_APPROVAL") || ended("INCOMPLETE"));
	/* passed through between two looks counts, failing does not */
	assert_true(reached("AWAITING_APPROVAL", "VALIDATED"));
	assert_true(reached("SENT", "SENT"));
	assert_false(reached("FETCHING", "VALIDATED"));
	assert_false(reached("BLOCKED", "VALIDATED"));
	assert_true(reached("BLOCKED", "BLOCKED"));
	assert_false(reached("SENT", "NONSENSE"));
}

static void
view_next(void **state)
{
	Sallyport__OperatorJobView view = view_in("AWAITING_APPROVAL");
	char *next;

	(void)state;
	next = ctl_view_next(&view);
	assert_non_null(strstr(next, "sallyctl approve 00112233 --key FILE"));
	free(next);
	view.state = text_of("REGISTERED");
	next = ctl_view_next(&view);
	assert_non_null(strstr(next, "sallyctl chain org/a-AWQ@2"));
	free(next);
	view.state = text_of("CANCELLED");
	assert_null(ctl_view_next(&view));
}

static void
view_line(
    const Sallyport__OperatorJobView *view, const struct ctl_view_rate *rate, const char *want)
{
	char *line = ctl_view_line(view, rate);

	assert_string_equal(line, want);
	free(line);
}

static void
view_rates(void **state)
{
	Sallyport__OperatorJobView view = view_in("FETCHING");
	struct ctl_view_rate rate = {0};

	(void)state;
	view.reason = text_of("why");
	view_line(&view, &rate, "FETCHING  why");
	view.phase = text_of("download");
	view.unit = text_of("bytes");
	view.total = 1 << 20;
	ctl_view_rate(&rate, &view, 1000);
	view_line(&view, &rate, "FETCHING  download  0 B of 1.00 MiB");
	view.done = 1 << 19;
	ctl_view_rate(&rate, &view, 2000);
	view_line(&view, &rate, "FETCHING  download  512 KiB of 1.00 MiB  512 KiB/s  1 s left");
	/* a report that comes at once changes no rate */
	view.done++;
	ctl_view_rate(&rate, &view, 2001);
	view_line(&view, &rate, "FETCHING  download  512 KiB of 1.00 MiB  512 KiB/s  1 s left");
	/* another phase starts anew */
	view.phase = text_of("layer");
	view.unit = text_of("layers");
	view.total = 4;
	view.done = 1;
	ctl_view_rate(&rate, &view, 3000);
	view_line(&view, &rate, "FETCHING  layer  1/4 layers");
	view.phase = text_of("a\x1b");
	ctl_view_rate(&rate, &view, 4000);
	view_line(&view, &rate, "FETCHING  a\\x1b  1/4 layers");
}

static void
view_json(void **state)
{
	Sallyport__OperatorJobView view = view_in("AWAITING_APPROVAL");
	Sallyport__Artifact artifact, *artifacts[] = {&artifact};
	Sallyport__OperatorDetail detail, *details[] = {&detail};
	Sallyport__Attested attested, *attestations[] = {&attested};
	uint8_t envelope[] = "{\"payload\":\"\"}", candidate[] = "{\"name\":\"x\"}";
	const char *digest, *value, *name, *sha256;
	json_t *obj;
	int tree;

	(void)state;
	sallyport__artifact__init(&artifact);
	sallyport__operator_detail__init(&detail);
	sallyport__attested__init(&attested);
	artifact.digest = text_of("d");
	artifact.tree = 1;
	detail.value = text_of("v");
	attested.envelope.data = envelope;
	attested.envelope.len = sizeof(envelope) - 1;
	view.artifacts = artifacts;
	view.details = details;
	view.attestations = attestations;
	view.n_artifacts = view.n_details = view.n_attestations = 1;
	view.candidate.data = candidate;
	view.candidate.len = sizeof(candidate) - 1;
	obj = ctl_view_json(&view);
	assert_int_equal(
	    json_unpack(obj, "{s:[{s:s, s:b}], s:[{s:s}], s:[{s:s, s:{s:s}}], s:{s:s}}",
		"artifacts", "digest", &digest, "tree", &tree, "details", "value", &value,
		"attestations", "sha256", &sha256, "envelope", "payload", &name, "candidate",
		"name", &name),
	    0);
	assert_string_equal(digest, "d");
	assert_string_equal(value, "v");
	assert_string_equal(name, "x");
	assert_string_equal(sha256, sp_sha256_hex(envelope, sizeof(envelope) - 1).s);
	assert_int_equal(tree, 1);
	json_decref(obj);
}

static void
entries(void **state)
{
	Sallyport__Entry entry;
	Sallyport__OperatorActor actor;
	Sallyport__EntryDetail detail, *details[] = {&detail};
	struct ctl_out_table table = {.right = 1};
	uint8_t digest[SP_DIGEST_LEN] = {0xab};
	char *text = NULL, *who;
	const char *event, *attestation;
	size_t len;
	FILE *to;
	json_t *obj;
	int uid;

	(void)state;
	sallyport__entry__init(&entry);
	sallyport__operator_actor__init(&actor);
	sallyport__entry_detail__init(&detail);
	entry.seq = 7;
	entry.time = text_of("T");
	entry.job = text_of(JOB);
	entry.event = text_of("approved");
	entry.from = text_of("AWAITING_APPROVAL");
	entry.to = text_of("APPROVED");
	entry.attestation_sha256.data = digest;
	entry.attestation_sha256.len = sizeof(digest);
	actor.uid = 1000;
	actor.name = text_of("anna");
	entry.actor_case = SALLYPORT__ENTRY__ACTOR_OPERATOR;
	entry.operator_ = &actor;
	detail.key = text_of("k");
	detail.value = text_of("v\n");
	entry.details = details;
	entry.n_details = 1;
	who = ctl_entry_actor(&entry);
	assert_string_equal(who, "anna (uid 1000)");
	free(who);
	obj = ctl_entry_json(&entry);
	assert_int_equal(json_unpack(obj, "{s:s, s:s, s:{s:i}}", "event", &event,
			     "attestation_sha256", &attestation, "actor", "uid", &uid),
	    0);
	assert_string_equal(event, "approved");
	assert_string_equal(attestation, sp_hex_of(digest).s);
	assert_int_equal(uid, 1000);
	json_decref(obj);
	to = open_memstream(&text, &len);
	ctl_entry_rows(&entry, &table);
	ctl_out_table(&table, "", to);
	fclose(to);
	assert_non_null(strstr(text, "7  T  00112233  anna (uid 1000)  approved  "
				     "AWAITING_APPROVAL -> APPROVED\n"));
	assert_non_null(strstr(text, "k: v\\x0a\n"));
	free(text);
}

/* --- trust documents ------------------------------------------------------------------------ */

static void
trust_words(void **state)
{
	unsigned thresholds[SP_ROLE_COUNT] = {0};
	char out[25];

	(void)state;
	assert_int_equal(ctl_trust_expiry("2027-01-31", out, &err), SP_OK);
	assert_string_equal(out, "2027-01-31T00:00:00.000Z");
	assert_int_equal(ctl_trust_expiry("2027-01-31T12:00:00Z", out, &err), SP_OK);
	assert_string_equal(out, "2027-01-31T12:00:00.000Z");
	assert_int_equal(ctl_trust_expiry("2027-01-31T12:00:00.123Z", out, &err), SP_OK);
	assert_int_equal(ctl_trust_expiry("2027-02-31", out, &err), SP_E_INVALID);
	assert_int_equal(ctl_trust_expiry("soon", out, &err), SP_E_INVALID);
	assert_int_equal(ctl_trust_expiry("2027-01-31T12:00:00.123Zx", out, &err), SP_E_INVALID);
	assert_int_equal(ctl_trust_threshold("operator=2", thresholds, &err), SP_OK);
	assert_int_equal(thresholds[SP_ROLE_OPERATOR], 2);
	assert_int_equal(ctl_trust_threshold("operator=0", thresholds, &err), SP_E_INVALID);
	assert_int_equal(ctl_trust_threshold("operator=-1", thresholds, &err), SP_E_INVALID);
	assert_int_equal(ctl_trust_threshold("operator", thresholds, &err), SP_E_INVALID);
	assert_int_equal(ctl_trust_threshold("bus=1", thresholds, &err), SP_E_INVALID);
	assert_int_equal(ctl_trust_threshold("king=1", thresholds, &err), SP_E_INVALID);
}

static void
pubkey(enum sp_role role, const char *name, struct sp_pubkey *out)
{
	struct sp_key *key = NULL;

	assert_int_equal(sp_key_new(role, name, &key, &err), SP_OK);
	*out = *sp_key_public(key);
	if (role == SP_ROLE_BUS)
		assert_int_equal(sp_key_save(key, path("bus.key"), NULL, &err), SP_OK);
	sp_key_free(&key);
}

static void
trust_documents(void **state)
{
	struct sp_pubkey keys[3];
	struct sp_trust_worker worker;
	struct ctl_trust_parts parts = {.version = 1,
	    .expires = "2030-01-01T00:00:00.000Z",
	    .thresholds = {[SP_ROLE_ROOT] = 1, [SP_ROLE_OPERATOR] = 2},
	    .keys = keys,
	    .key_count = 3,
	    .workers = &worker,
	    .worker_count = 1};
	struct sp_trust *trust = NULL;
	char *text, *payload;
	size_t len;

	(void)state;
	pubkey(SP_ROLE_BUS, "fetcherd@bastion", &keys[0]);
	text = sp_xasprintf("fetcherd:12:%s", path("bus.key.pub"));
	assert_int_equal(ctl_trust_worker(text, &worker, &err), SP_OK);
	assert_string_equal(worker.name, "fetcherd@bastion");
	assert_string_equal(worker.service, "fetcherd");
	assert_true(worker.uid == 12);
	free(text);
	assert_int_equal(ctl_trust_worker("fetcherd:bus.key.pub", &worker, &err), SP_E_INVALID);
	assert_int_equal(ctl_trust_worker("fetcherd:x:bus.key.pub", &worker, &err), SP_E_INVALID);
	assert_int_equal(ctl_trust_worker("fetcherd:-2:bus.key.pub", &worker, &err), SP_E_INVALID);
	text = sp_xasprintf("fetcherd:-1:%s", path("bus.key.pub"));
	assert_int_equal(ctl_trust_worker(text, &worker, &err), SP_OK);
	free(text);

	pubkey(SP_ROLE_ROOT, "root", &keys[0]);
	pubkey(SP_ROLE_OPERATOR, "anna", &keys[1]);
	pubkey(SP_ROLE_OPERATOR, "ben", &keys[2]);
	assert_int_equal(ctl_trust_format(&parts, &payload, &len, &err), SP_OK);
	assert_int_equal(sp_trust_parse((const uint8_t *)payload, len, &trust, &err), SP_OK);
	assert_int_equal(sp_trust_threshold(trust, SP_ROLE_OPERATOR), 2);
	assert_int_equal(sp_trust_key_count(trust, SP_ROLE_OPERATOR), 2);
	assert_non_null(sp_trust_worker_by_name(trust, "fetcherd@bastion"));
	sp_trust_free(&trust);
	free(payload);
	/* a key whose role has no threshold, and a threshold nobody can reach */
	parts.thresholds[SP_ROLE_OPERATOR] = 0;
	assert_int_equal(ctl_trust_format(&parts, &payload, &len, &err), SP_E_INVALID);
	assert_non_null(strstr(err.msg, "--threshold operator=K"));
	parts.thresholds[SP_ROLE_OPERATOR] = 3;
	assert_int_equal(ctl_trust_format(&parts, &payload, &len, &err), SP_E_INVALID);
	parts.thresholds[SP_ROLE_OPERATOR] = 2;
	parts.thresholds[SP_ROLE_GATE] = 1;
	assert_int_equal(ctl_trust_format(&parts, &payload, &len, &err), SP_E_INVALID);
}

/* --- a directory ---------------------------------------------------------------------------- */

static void
scanned(void **state)
{
	static const char *const skip[] = {"skipped", NULL};
	const struct sp_tree_file *file;
	struct sp_tree tree = {0};

	(void)state;
	assert_int_equal(mkdir(path("tree"), 0755), 0);
	assert_int_equal(mkdir(path("tree/sub"), 0755), 0);
	assert_int_equal(sp_file_write(path("tree/a"), 0644, "abc", 3, &err), SP_OK);
	assert_int_equal(sp_file_write(path("tree/sub/run"), 0755, "", 0, &err), SP_OK);
	assert_int_equal(sp_file_write(path("tree/skipped"), 0644, "x", 1, &err), SP_OK);
	assert_int_equal(sp_file_write(path("tree/sub/skipped"), 0644, "x", 1, &err), SP_OK);
	assert_int_equal(ctl_scan(path("tree"), skip, &tree, NULL, NULL, &err), SP_OK);
	assert_int_equal(tree.count, 3);
	file = sp_tree_find(&tree, "a");
	assert_non_null(file);
	assert_true(file->size == 3 && !file->executable);
	assert_string_equal(file->sha256.s, sp_sha256_hex("abc", 3).s);
	file = sp_tree_find(&tree, "sub/run");
	assert_true(file != NULL && file->executable);
	assert_non_null(sp_tree_find(&tree, "sub/skipped"));
	sp_tree_clear(&tree);
	assert_int_equal(symlink("a", path("tree/link")), 0);
	assert_int_equal(ctl_scan(path("tree"), skip, &tree, NULL, NULL, &err), SP_E_INVALID);
	assert_non_null(strstr(err.msg, "link is a symbolic link"));
	sp_tree_clear(&tree);
	assert_int_equal(unlink(path("tree/link")), 0);
	assert_int_equal(mkfifo(path("tree/pipe"), 0600), 0);
	assert_int_equal(ctl_scan(path("tree"), skip, &tree, NULL, NULL, &err), SP_E_INVALID);
	sp_tree_clear(&tree);
}

/* --- ledgerd -------------------------------------------------------------------------------- */

/* A ledgerd that ignores the first `silent` requests, then answers each with a stale reply and the
 * right one, until it is asked to stop by a request for the topic "stop". */
struct fake {
	void *context, *router;
	int silent;
	const char *code; /* answer with this error, NULL: with content */
};

static void
fake_reply(const struct fake *fake, zmq_msg_t *id, uint64_t seq)
{
	Sallyport__OperatorReply reply;
	Sallyport__OperatorContent content;
	Sallyport__OperatorError error;
	uint8_t bytes[256];
	size_t len;

	sallyport__operator_reply__init(&reply);
	sallyport__operator_content__init(&content);
	sallyport__operator_error__init(&error);
	reply.version = 1;
	reply.ack_seq = seq;
	if (fake->code != NULL) {
		reply.body_case = SALLYPORT__OPERATOR_REPLY__BODY_ERROR;
		reply.error = &error;
		error.code = text_of(fake->code);
		error.message = text_of("says no");
	} else {
		reply.body_case = SALLYPORT__OPERATOR_REPLY__BODY_CONTENT;
		reply.content = &content;
		content.content.data = (uint8_t *)&seq;
		content.content.len = sizeof(seq);
	}
	len = sallyport__operator_reply__pack(&reply, bytes);
	zmq_send(fake->router, zmq_msg_data(id), zmq_msg_size(id), ZMQ_SNDMORE);
	zmq_send(fake->router, bytes, len, 0);
}

static void *
fake_ledgerd(void *ctx)
{
	struct fake *fake = ctx;
	Sallyport__OperatorRequest *request;
	zmq_msg_t id, body;
	int stop = 0;

	while (!stop) {
		zmq_msg_init(&id);
		zmq_msg_init(&body);
		if (zmq_msg_recv(&id, fake->router, 0) < 0 ||
		    zmq_msg_recv(&body, fake->router, 0) < 0)
			break;
		request = sallyport__operator_request__unpack(
		    NULL, zmq_msg_size(&body), zmq_msg_data(&body));
		stop = strcmp(request->published->topic, "stop") == 0;
		if (fake->silent > 0) {
			fake->silent--;
		} else {
			fake_reply(fake, &id, request->seq - 1);
			fake_reply(fake, &id, request->seq);
		}
		sallyport__operator_request__free_unpacked(request, NULL);
		zmq_msg_close(&id);
		zmq_msg_close(&body);
	}
	return NULL;
}

static enum sp_code
ask(struct ctl_client *client, const char *topic, int timeout_ms, Sallyport__OperatorReply **reply)
{
	Sallyport__OperatorRequest request;
	Sallyport__OperatorTopic body;

	sallyport__operator_request__init(&request);
	sallyport__operator_topic__init(&body);
	body.topic = text_of(topic);
	request.body_case = SALLYPORT__OPERATOR_REQUEST__BODY_PUBLISHED;
	request.published = &body;
	return ctl_client_ask(client, &request, timeout_ms, reply, &err);
}

static void
client_talks(void **state)
{
	struct fake fake = {.silent = 1};
	Sallyport__OperatorReply *reply;
	struct ctl_client *client;
	char *endpoint = sp_xasprintf("ipc://%s", path("ops.sock"));
	pthread_t thread;
	uint64_t seq;

	(void)state;
	assert_int_equal(ctl_client_open(path("none.sock"), &client, &err), SP_E_UNREACHABLE);
	assert_non_null(strstr(err.msg, "none.sock"));
	fake.context = zmq_ctx_new();
	fake.router = zmq_socket(fake.context, ZMQ_ROUTER);
	assert_int_equal(zmq_bind(fake.router, endpoint), 0);
	assert_int_equal(pthread_create(&thread, NULL, fake_ledgerd, &fake), 0);
	assert_int_equal(ctl_client_open(path("ops.sock"), &client, &err), SP_OK);
	/* the first request is lost, the second one's stale reply is passed over */
	assert_int_equal(ask(client, "snapshot", 500, &reply), SP_OK);
	assert_int_equal(reply->body_case, SALLYPORT__OPERATOR_REPLY__BODY_CONTENT);
	memcpy(&seq, reply->content->content.data, sizeof(seq));
	assert_true(seq == reply->ack_seq);
	sallyport__operator_reply__free_unpacked(reply, NULL);
	/* an error of ledgerd's is the command's, also when its word is "timeout" */
	fake.code = "timeout";
	assert_int_equal(ask(client, "snapshot", 5000, &reply), SP_E_TIMEOUT);
	assert_string_equal(err.msg, "says no");
	assert_null(reply);
	fake.code = "denied";
	assert_int_equal(ask(client, "stop", 5000, &reply), SP_E_DENIED);
	assert_int_equal(pthread_join(thread, NULL), 0);
	/* nobody reads any more */
	assert_int_equal(ask(client, "snapshot", 100, &reply), SP_E_UNREACHABLE);
	assert_non_null(strstr(err.msg, "does not answer"));
	ctl_client_close(&client);
	zmq_close(fake.router);
	zmq_ctx_term(fake.context);
	free(endpoint);
}

static void
client_reads(void **state)
{
	Sallyport__OperatorReply reply, *out;
	uint8_t bytes[64];
	size_t len;
	int mine;

	(void)state;
	assert_int_equal(
	    ctl_client_read((const uint8_t *)"\xff\xff", 2, 1, &mine, &out, &err), SP_E_INVALID);
	assert_int_equal(mine, 1);
	sallyport__operator_reply__init(&reply);
	reply.version = 2;
	reply.ack_seq = 1;
	len = sallyport__operator_reply__pack(&reply, bytes);
	assert_int_equal(ctl_client_read(bytes, len, 1, &mine, &out, &err), SP_E_UNSUPPORTED);
	reply.version = 1;
	len = sallyport__operator_reply__pack(&reply, bytes);
	assert_int_equal(ctl_client_read(bytes, len, 1, &mine, &out, &err), SP_E_INVALID);
	assert_int_equal(ctl_client_read(bytes, len, 2, &mine, &out, &err), SP_OK);
	assert_int_equal(mine, 0);
	assert_null(out);
}

static int
set_up(void **state)
{
	(void)state;
	return mkdtemp(dir) == NULL;
}

static int
tear_down(void **state)
{
	(void)state;
	return sp_file_remove_all(dir, &err) != SP_OK;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(args_good),
	    cmocka_unit_test(args_bad),
	    cmocka_unit_test(exit_status),
	    cmocka_unit_test(model_names),
	    cmocka_unit_test(out_clean),
	    cmocka_unit_test(out_sizes),
	    cmocka_unit_test(out_tables),
	    cmocka_unit_test(view_states),
	    cmocka_unit_test(view_next),
	    cmocka_unit_test(view_rates),
	    cmocka_unit_test(view_json),
	    cmocka_unit_test(entries),
	    cmocka_unit_test(trust_words),
	    cmocka_unit_test(trust_documents),
	    cmocka_unit_test(scanned),
	    cmocka_unit_test(client_talks),
	    cmocka_unit_test(client_reads),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
