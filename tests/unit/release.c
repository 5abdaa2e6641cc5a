/* release.c -- keys, envelopes, trust documents, statements, candidates, snapshots. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/time.h"
#include "release/candidate.h"
#include "release/snapshot.h"
#include "release/statement.h"

#define TREE_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define TREE_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define NOW INT64_C(1795500000000) /* a moment before 2027 */
#define EXPIRES "2030-01-01T00:00:00.000Z"

static struct sp_err err;
static char dir[] = "/tmp/sp-release-XXXXXX";

static char *
path(const char *name)
{
	static char text[512];

	snprintf(text, sizeof(text), "%s/%s", dir, name);
	return text;
}

static struct sp_key *
new_key(enum sp_role role, const char *name)
{
	struct sp_key *key = NULL;

	assert_int_equal(sp_key_new(role, name, &key, &err), SP_OK);
	return key;
}

/* --- keys ----------------------------------------------------------------------------------- */

static void
key_files(void **state)
{
	struct sp_key *key = new_key(SP_ROLE_FETCH, "fetcherd@bastion"), *again = NULL;
	struct sp_pubkey public;
	struct stat st;
	uint8_t sig[SP_SIG_LEN];

	(void)state;
	assert_int_equal(sp_key_save(key, path("fetch.key"), NULL, &err), SP_OK);
	assert_int_equal(stat(path("fetch.key"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0400);
	assert_int_equal(stat(path("fetch.key.pub"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0644);
	assert_int_equal(sp_key_save(key, path("fetch.key"), NULL, &err), SP_E_EXISTS);
	/* a secret without its public half would be of no use, and in the way of the next try */
	assert_int_equal(symlink("nowhere", path("half.key.pub")), 0);
	assert_int_not_equal(sp_key_save(key, path("half.key"), NULL, &err), SP_OK);
	assert_int_equal(access(path("half.key"), F_OK), -1);

	assert_int_equal(sp_key_load(path("fetch.key"), SP_ROLE_FETCH, NULL, &again, &err), SP_OK);
	assert_memory_equal(sp_key_secret(again), sp_key_secret(key), 32);
	assert_string_equal(sp_key_public(again)->name, "fetcherd@bastion");
	sp_key_sign(again, "x", 1, sig);
	sp_key_free(&again);

	assert_int_equal(sp_pubkey_load(path("fetch.key.pub"), &public, &err), SP_OK);
	assert_string_equal(public.id.s, sp_key_public(key)->id.s);
	assert_string_equal(public.id.s, sp_sha256_hex(public.bytes, 32).s);
	assert_int_equal(sp_pubkey_verify(public.bytes, "x", 1, sig), 1);
	assert_int_equal(sp_pubkey_verify(public.bytes, "y", 1, sig), 0);

	/* the halves are not mistaken for one another */
	assert_int_equal(sp_pubkey_load(path("fetch.key"), &public, &err), SP_E_INVALID);
	assert_non_null(strstr(err.msg, "secret"));
	assert_int_equal(chmod(path("fetch.key.pub"), 0400), 0);
	assert_int_equal(
	    sp_key_load(path("fetch.key.pub"), SP_ROLE_FETCH, NULL, &again, &err), SP_E_INVALID);
	sp_key_free(&key);
}

static void
key_refusals(void **state)
{
	struct sp_key *key = new_key(SP_ROLE_GATE, "validatord@bastion"), *again = NULL;

	(void)state;
	assert_int_equal(sp_key_save(key, path("gate.key"), NULL, &err), SP_OK);
	sp_key_free(&key);
	assert_int_equal(
	    sp_key_load(path("gate.key"), SP_ROLE_FETCH, NULL, &again, &err), SP_E_DENIED);
	assert_non_null(strstr(err.msg, "role gate"));
	assert_null(again);
	assert_int_equal(chmod(path("gate.key"), 0404), 0);
	assert_int_equal(
	    sp_key_load(path("gate.key"), SP_ROLE_GATE, NULL, &again, &err), SP_E_DENIED);
	assert_non_null(strstr(err.msg, "0404"));
	assert_int_equal(chmod(path("gate.key"), 0420), 0);
	assert_int_equal(
	    sp_key_load(path("gate.key"), SP_ROLE_GATE, NULL, &again, &err), SP_E_DENIED);
	assert_int_equal(
	    sp_key_load(path("none.key"), SP_ROLE_GATE, NULL, &again, &err), SP_E_NOT_FOUND);
	assert_int_equal(sp_key_new(SP_ROLE_GATE, "two words", &again, &err), SP_E_INVALID);
	assert_int_equal(sp_key_new(SP_ROLE_GATE, "", &again, &err), SP_E_INVALID);
}

static void
key_sealed(void **state)
{
	struct sp_key *key = new_key(SP_ROLE_OPERATOR, "anna"), *again = NULL;
	enum sp_role role;

	(void)state;
	assert_int_equal(sp_key_save(key, path("anna.key"), "correct horse", &err), SP_OK);
	assert_int_equal(sp_key_is_sealed(path("anna.key")), 1);
	assert_int_equal(sp_key_is_sealed(path("anna.key.pub")), 0);
	assert_int_equal(sp_key_role(path("anna.key"), &role, &err), SP_OK);
	assert_int_equal(role, SP_ROLE_OPERATOR);
	assert_int_equal(
	    sp_key_load(path("anna.key"), SP_ROLE_OPERATOR, NULL, &again, &err), SP_E_DENIED);
	assert_non_null(strstr(err.msg, "--passphrase-file"));
	assert_int_equal(
	    sp_key_load(path("anna.key"), SP_ROLE_OPERATOR, "wrong", &again, &err), SP_E_DENIED);
	assert_int_equal(
	    sp_key_load(path("anna.key"), SP_ROLE_OPERATOR, "correct horse", &again, &err), SP_OK);
	assert_memory_equal(sp_key_secret(again), sp_key_secret(key), 32);
	sp_key_free(&again);
	sp_key_free(&key);
}

/* Every line that is not exactly what key.h says. */
static void
key_lines(void **state)
{
	static const char *const bad[] = {
	    "",
	    "\n",
	    "sallyport-public-key/1 gate v@b AAAA\n",
	    "sallyport-public-key/2 gate v@b PUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=\n",
	    "sallyport-public-key/1 gate v@b PUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=",
	    "sallyport-public-key/1 gate v@b PUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw\n",
	    "sallyport-public-key/1 gate v@b PUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgx=\n",
	    "sallyport-public-key/1  gate v@b PUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=\n",
	    "sallyport-public-key/1 gate v@b PUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw= \n",
	    "sallyport-public-key/1 guard v@b PUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=\n",
	    /* a byte that libsodium takes for a digit: else a key */
	    "sallyport-public-key/1 operator ben G5cEXt8OSq7V9zDJggOgiZZBFql9\xaf"
	    "ltBp5yNcwGNKkY=\n",
	    /* small order, and no point at all */
	    "sallyport-public-key/1 gate v@b AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n",
	    "sallyport-public-key/1 gate v@b //////////////////////////////////////////8=\n",
	};
	static const char good[] =
	    "sallyport-public-key/1 gate v@b PUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=\n";
	struct sp_pubkey out;
	size_t i;

	(void)state;
	assert_int_equal(sp_pubkey_parse((const uint8_t *)good, strlen(good), &out, &err), SP_OK);
	assert_string_equal(out.name, "v@b");
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(
		    sp_pubkey_parse((const uint8_t *)bad[i], strlen(bad[i]), &out, &err),
		    SP_E_INVALID);
}

static void
key_link(void **state)
{
	static const uint8_t zero[SP_PUBKEY_LEN];
	struct sp_key *key = new_key(SP_ROLE_LINK, "link");

	(void)state;
	assert_memory_equal(sp_key_public(key)->bytes, zero, sizeof(zero));
	assert_int_equal(sp_key_save(key, path("link.key"), NULL, &err), SP_OK);
	assert_int_not_equal(access(path("link.key.pub"), F_OK), 0);
	sp_key_free(&key);
}

/* RFC 8032 section 7.1, test 2. */
static void
key_rfc8032(void **state)
{
	static const char pk_hex[] =
	    "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
	static const char sig_hex[] =
	    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
	    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";
	uint8_t pk[32], sig[64];

	(void)state;
	assert_int_equal(sp_hex_decode(pk_hex, pk, sizeof(pk)), SP_OK);
	assert_int_equal(sp_hex_decode(sig_hex, sig, sizeof(sig)), SP_OK);
	assert_int_equal(sp_pubkey_verify(pk, "\x72", 1, sig), 1);
	assert_int_equal(sp_pubkey_verify(pk, "\x73", 1, sig), 0);
}

/* --- envelopes ------------------------------------------------------------------------------ */

/* The example of the DSSE specification (secure-systems-lab/dsse, protocol.md, Test Vectors). */
static void
dsse_pae(void **state)
{
	static const char want[] = "DSSEv1 29 http://example.com/HelloWorld 11 hello world";
	struct sp_buf pae = {0};

	(void)state;
	sp_dsse_pae(&pae, "http://example.com/HelloWorld", "hello world", 11);
	assert_int_equal(pae.len, sizeof(want) - 1);
	assert_memory_equal(pae.data, want, pae.len);
	sp_buf_free(&pae);
}

static void
parse_ok(const char *text, struct sp_dsse *out)
{
	assert_int_equal(sp_dsse_parse((const uint8_t *)text, strlen(text), out, &err), SP_OK);
}

static void
parse_bad(const char *text)
{
	struct sp_dsse out;

	assert_int_equal(
	    sp_dsse_parse((const uint8_t *)text, strlen(text), &out, &err), SP_E_INVALID);
}

static void
dsse_round_trip(void **state)
{
	struct sp_key *a = new_key(SP_ROLE_OPERATOR, "anna"), *b = new_key(SP_ROLE_OPERATOR, "ben");
	char *one = NULL, *other = NULL, *both = NULL, *same = NULL;
	struct sp_dsse x, y;
	size_t len;

	(void)state;
	assert_int_equal(sp_dsse_sign(a, "t", "body", 4, &one, &len, &err), SP_OK);
	assert_int_equal(sp_dsse_sign(b, "t", "body", 4, &other, &len, &err), SP_OK);
	parse_ok(one, &x);
	parse_ok(other, &y);
	assert_string_equal((const char *)x.payload, "body");
	assert_int_equal(sp_dsse_cosign(&x, a, &err), SP_E_EXISTS);
	/* in whatever order people sign, the envelope is the same */
	assert_int_equal(sp_dsse_merge(&x, &y, &err), SP_OK);
	assert_int_equal(sp_dsse_cosign(&y, a, &err), SP_OK);
	assert_int_equal(sp_dsse_format(&x, &both, &len, &err), SP_OK);
	assert_int_equal(sp_dsse_format(&y, &same, &len, &err), SP_OK);
	assert_string_equal(both, same);
	assert_int_equal(sp_dsse_merge(&x, &y, &err), SP_E_EXISTS);
	y.payload[0] = 'B';
	assert_int_equal(sp_dsse_merge(&x, &y, &err), SP_E_INVALID);
	sp_dsse_clear(&x);
	sp_dsse_clear(&y);
	free(one);
	free(other);
	free(both);
	free(same);
	sp_key_free(&a);
	sp_key_free(&b);
}

#define ID_A TREE_A
#define ID_B TREE_B
/* base64 of 64 zero bytes */
#define SIG                                           \
	"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" \
	"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=="
#define ONE(id) "{\"keyid\":\"" id "\",\"sig\":\"" SIG "\"}"
#define ENV(payload, sigs) \
	"{\"payload\":\"" payload "\",\"payloadType\":\"t\",\"signatures\":[" sigs "]}"

static void
dsse_strict(void **state)
{
	struct sp_dsse out;

	(void)state;
	parse_ok(ENV("Ym9keQ==", ONE(ID_A)), &out);
	assert_int_equal(out.payload_len, 4);
	sp_dsse_clear(&out);
	parse_ok(ENV("", ONE(ID_A) "," ONE(ID_B)), &out);
	assert_int_equal(out.sig_count, 2);
	sp_dsse_clear(&out);

	parse_bad("");
	parse_bad("[]");
	parse_bad(ENV("Ym9keQ==", ""));			     /* no signature */
	parse_bad(ENV("Ym9keQ==", ONE(ID_A)) " ");	     /* trailing bytes */
	parse_bad(ENV("Ym9keQ==", ONE(ID_A)) "{}");	     /* a second document */
	parse_bad(" " ENV("Ym9keQ==", ONE(ID_A)));	     /* white space */
	parse_bad(ENV("Ym9keQ", ONE(ID_A)));		     /* padding left out */
	parse_bad(ENV("Ym9keR==", ONE(ID_A)));		     /* stray pad bits */
	parse_bad(ENV("Ym9k_Q==", ONE(ID_A)));		     /* the URL-safe alphabet */
	parse_bad(ENV("Ym9k\\u0065Q==", ONE(ID_A)));	     /* an escape that needs none */
	parse_bad(ENV("Ym9keQ==", ONE(ID_A) "," ONE(ID_A))); /* a keyid twice */
	parse_bad(ENV("Ym9keQ==", ONE(ID_B) "," ONE(ID_A))); /* out of order */
	parse_bad("{\"payload\":\"\",\"payload\":\"\",\"payloadType\":\"t\",\"signatures\":[" ONE(
	    ID_A) "]}"); /* a key twice */
	parse_bad(
	    "{\"extra\":1,\"payload\":\"\",\"payloadType\":\"t\",\"signatures\":[" ONE(ID_A) "]}");
	parse_bad("{\"payload\":\"\",\"payloadType\":\"t\",\"signatures\":[{\"extra\":1,\"keyid\":"
		  "\"" ID_A "\",\"sig\":\"" SIG "\"}]}");
	parse_bad("{\"payload\":\"\",\"payloadType\":\"\",\"signatures\":[" ONE(ID_A) "]}");
	parse_bad("{\"payload\":\"\",\"payloadType\":\"t\",\"signatures\":[{\"keyid\":\"" ID_A
		  "\",\"sig\":\"AAAA\"}]}"); /* a short signature */
	parse_bad("{\"payload\":\"\",\"payloadType\":\"t\",\"signatures\":[{\"keyid\":\"AAAA\","
		  "\"sig\":\"" SIG "\"}]}"); /* no fingerprint */
}

/* --- trust documents ------------------------------------------------------------------------ */

/* {"id", "key", "name"} of a key. */
static json_t *
key_json(const struct sp_key *key)
{
	const struct sp_pubkey *public = sp_key_public(key);
	char *b64 = sp_base64_encode(public->bytes, SP_PUBKEY_LEN);
	json_t *obj =
	    json_pack("{s:s, s:s, s:s}", "id", public->id.s, "key", b64, "name", public->name);

	free(b64);
	return obj;
}

/* A role with one or two keys, in order of id. */
static json_t *
role_json(int threshold, const struct sp_key *a, const struct sp_key *b)
{
	json_t *keys = json_array();
	int swap = b != NULL && strcmp(sp_key_public(a)->id.s, sp_key_public(b)->id.s) > 0;

	json_array_append_new(keys, key_json(swap ? b : a));
	if (b != NULL)
		json_array_append_new(keys, key_json(swap ? a : b));
	return json_pack("{s:o, s:i}", "keys", keys, "threshold", threshold);
}

static json_t *
document(int version, const char *expires, json_t *roles)
{
	return json_pack("{s:s, s:o, s:s, s:[], s:i}", "expires", expires, "roles", roles, "type",
	    "sallyport-trust/1", "workers", "version", version);
}

/* Signs with a, and with b too when it is given; frees doc. malloc'd envelope. */
static char *
signed_document(json_t *doc, const struct sp_key *a, const struct sp_key *b, struct sp_hex *digest)
{
	char *payload, *envelope = NULL, *again = NULL;
	struct sp_dsse dsse;
	size_t len;

	payload = sp_json_canonical(doc, &len);
	json_decref(doc);
	if (digest != NULL)
		*digest = sp_sha256_hex(payload, len);
	assert_int_equal(
	    sp_dsse_sign(a, SP_DSSE_TRUST, payload, len, &envelope, &len, &err), SP_OK);
	free(payload);
	if (b == NULL)
		return envelope;
	parse_ok(envelope, &dsse);
	assert_int_equal(sp_dsse_cosign(&dsse, b, &err), SP_OK);
	assert_int_equal(sp_dsse_format(&dsse, &again, &len, &err), SP_OK);
	sp_dsse_clear(&dsse);
	free(envelope);
	return again;
}

static enum sp_code
parse_document(json_t *doc)
{
	struct sp_trust *trust = NULL;
	enum sp_code code;
	size_t len;
	char *text = sp_json_canonical(doc, &len);

	code = sp_trust_parse((const uint8_t *)text, len, &trust, &err);
	sp_trust_free(&trust);
	json_decref(doc);
	free(text);
	return code;
}

static void
trust_form(void **state)
{
	struct sp_key *root = new_key(SP_ROLE_ROOT, "root"), *gate = new_key(SP_ROLE_GATE, "v@b");
	json_t *doc;

	(void)state;
	assert_int_equal(parse_document(document(
			     1, EXPIRES, json_pack("{s:o}", "root", role_json(1, root, NULL)))),
	    SP_OK);
	/* more signatures than keys can never come */
	assert_int_equal(parse_document(document(
			     1, EXPIRES, json_pack("{s:o}", "root", role_json(2, root, NULL)))),
	    SP_E_INVALID);
	assert_int_equal(parse_document(document(
			     1, EXPIRES, json_pack("{s:o}", "root", role_json(0, root, NULL)))),
	    SP_E_INVALID);
	assert_int_equal(parse_document(document(
			     1, EXPIRES, json_pack("{s:o}", "gate", role_json(1, gate, NULL)))),
	    SP_E_INVALID);
	assert_non_null(strstr(err.msg, "root"));
	assert_int_equal(parse_document(document(
			     0, EXPIRES, json_pack("{s:o}", "root", role_json(1, root, NULL)))),
	    SP_E_INVALID);
	assert_int_equal(parse_document(document(
			     1, "2030", json_pack("{s:o}", "root", role_json(1, root, NULL)))),
	    SP_E_INVALID);
	/* one key, two roles */
	assert_int_equal(parse_document(document(1, EXPIRES,
			     json_pack("{s:o, s:o}", "root", role_json(1, root, NULL), "gate",
				 role_json(1, root, NULL)))),
	    SP_E_INVALID);
	assert_non_null(strstr(err.msg, "two roles"));
	/* an id that is not the fingerprint */
	doc = document(1, EXPIRES, json_pack("{s:o}", "root", role_json(1, root, NULL)));
	json_object_set_new(
	    json_array_get(
		json_object_get(json_object_get(json_object_get(doc, "roles"), "root"), "keys"), 0),
	    "id", json_string(TREE_A));
	assert_int_equal(parse_document(doc), SP_E_INVALID);
	doc = document(1, EXPIRES, json_pack("{s:o}", "root", role_json(1, root, NULL)));
	json_object_set_new(doc, "more", json_true());
	assert_int_equal(parse_document(doc), SP_E_INVALID);
	sp_key_free(&root);
	sp_key_free(&gate);
}

static void
trust_workers(void **state)
{
	struct sp_key *root = new_key(SP_ROLE_ROOT, "root"), *bus = new_key(SP_ROLE_BUS, "f@b");
	const struct sp_trust_worker *worker;
	struct sp_trust *trust = NULL;
	char *text, *b64;
	json_t *doc, *list;
	size_t len;

	(void)state;
	b64 = sp_base64_encode(sp_key_public(bus)->bytes, 32);
	doc = document(1, EXPIRES, json_pack("{s:o}", "root", role_json(1, root, NULL)));
	list = json_object_get(doc, "workers");
	json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:i}", "key", b64, "name",
					"fetcherd@bastion", "service", "fetcherd", "uid", -1));
	text = sp_json_canonical(doc, &len);
	assert_int_equal(sp_trust_parse((const uint8_t *)text, len, &trust, &err), SP_OK);
	free(text);
	worker = sp_trust_worker_by_key(trust, sp_key_public(bus)->bytes);
	assert_non_null(worker);
	assert_string_equal(worker->service, "fetcherd");
	assert_true(worker->uid == -1);
	assert_ptr_equal(sp_trust_worker_by_name(trust, "fetcherd@bastion"), worker);
	assert_null(sp_trust_worker_by_key(trust, sp_key_public(root)->bytes));
	sp_trust_free(&trust);
	/* a second worker may not have the first one's bus key */
	json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:i}", "key", b64, "name",
					"quantd@bastion", "service", "quantd", "uid", 7));
	assert_int_equal(parse_document(doc), SP_E_INVALID);
	assert_non_null(strstr(err.msg, "same bus key"));
	free(b64);
	sp_key_free(&root);
	sp_key_free(&bus);
}

/* Two of three: the number of different keys counts, not that of signatures. */
static void
trust_thresholds(void **state)
{
	struct sp_key *root = new_key(SP_ROLE_ROOT, "root"), *a = new_key(SP_ROLE_OPERATOR, "anna"),
		      *b = new_key(SP_ROLE_OPERATOR, "ben"),
		      *other = new_key(SP_ROLE_OPERATOR, "eve");
	const struct sp_pubkey *signers[4];
	struct sp_trust *trust = NULL;
	struct sp_dsse dsse;
	char *text, *envelope = NULL;
	json_t *doc;
	size_t len, count = 0;

	(void)state;
	doc = document(1, EXPIRES,
	    json_pack(
		"{s:o, s:o}", "root", role_json(1, root, NULL), "operator", role_json(2, a, b)));
	text = sp_json_canonical(doc, &len);
	json_decref(doc);
	assert_int_equal(sp_trust_parse((const uint8_t *)text, len, &trust, &err), SP_OK);
	free(text);
	assert_int_equal(sp_dsse_sign(a, "t", "body", 4, &envelope, &len, &err), SP_OK);
	parse_ok(envelope, &dsse);
	free(envelope);
	assert_int_equal(
	    sp_trust_verify(trust, SP_ROLE_OPERATOR, 0, &dsse, NULL, 0, NULL, &err), SP_E_DENIED);
	assert_int_equal(
	    sp_trust_verify(trust, SP_ROLE_OPERATOR, 1, &dsse, signers, 4, &count, &err), SP_OK);
	assert_int_equal(count, 1);
	assert_string_equal(signers[0]->name, "anna");
	/* the same key once more, past what the parser lets through */
	dsse.sigs[1] = dsse.sigs[0];
	dsse.sig_count = 2;
	assert_int_equal(
	    sp_trust_verify(trust, SP_ROLE_OPERATOR, 0, &dsse, NULL, 0, NULL, &err), SP_E_DENIED);
	dsse.sig_count = 1;
	/* a stranger's signature is nothing */
	assert_int_equal(sp_dsse_cosign(&dsse, other, &err), SP_OK);
	assert_int_equal(
	    sp_trust_verify(trust, SP_ROLE_OPERATOR, 0, &dsse, NULL, 0, NULL, &err), SP_E_DENIED);
	assert_int_equal(sp_dsse_cosign(&dsse, b, &err), SP_OK);
	assert_int_equal(
	    sp_trust_verify(trust, SP_ROLE_OPERATOR, 0, &dsse, NULL, 0, &count, &err), SP_OK);
	assert_int_equal(count, 2);
	/* the role that nobody has */
	assert_int_equal(
	    sp_trust_verify(trust, SP_ROLE_GATE, 0, &dsse, NULL, 0, NULL, &err), SP_E_DENIED);
	/* a wrong signature by a known key is worse than none */
	dsse.payload[0] ^= 1;
	assert_int_equal(
	    sp_trust_verify(trust, SP_ROLE_OPERATOR, 1, &dsse, NULL, 0, NULL, &err), SP_E_DENIED);
	assert_non_null(strstr(err.msg, "not over these bytes"));
	sp_dsse_clear(&dsse);
	sp_trust_free(&trust);
	sp_key_free(&root);
	sp_key_free(&a);
	sp_key_free(&b);
	sp_key_free(&other);
}

static json_t *
root_of(const struct sp_key *a)
{
	return json_pack("{s:o}", "root", role_json(1, a, NULL));
}

static enum sp_code
load(int64_t now)
{
	struct sp_trust *trust = NULL;
	enum sp_code code = sp_trust_load(path("trust"), now, &trust, &err);

	sp_trust_free(&trust);
	return code;
}

static enum sp_code
update(const char *envelope)
{
	return sp_trust_update(
	    path("trust"), (const uint8_t *)envelope, strlen(envelope), NOW, &err);
}

static enum sp_code
init(const char *envelope, const char *fingerprint)
{
	return sp_trust_init(
	    path("trust"), (const uint8_t *)envelope, strlen(envelope), fingerprint, NOW, &err);
}

static void
trust_directory(void **state)
{
	struct sp_key *old = new_key(SP_ROLE_ROOT, "old"), *new = new_key(SP_ROLE_ROOT, "new");
	char *v1, *v2, *v2_new_only, *v3, *expired;
	struct sp_hex pin, wrong = {TREE_A};

	(void)state;
	v1 = signed_document(document(1, EXPIRES, root_of(old)), old, NULL, &pin);
	expired = signed_document(
	    document(1, "2020-01-01T00:00:00.000Z", root_of(old)), old, NULL, &wrong);
	/* the root key changes with version 2: both must have signed it */
	v2 = signed_document(document(2, EXPIRES, root_of(new)), old, new, NULL);
	v2_new_only = signed_document(document(2, EXPIRES, root_of(new)), new, NULL, NULL);
	v3 = signed_document(document(3, EXPIRES, root_of(new)), new, NULL, NULL);

	assert_int_equal(load(NOW), SP_E_NOT_FOUND);
	assert_non_null(strstr(err.msg, "trust init"));
	assert_int_equal(init(v1, TREE_A), SP_E_DENIED);
	assert_int_equal(init(v1, "short"), SP_E_INVALID);
	assert_int_equal(init(expired, wrong.s), SP_E_DENIED);
	assert_non_null(strstr(err.msg, "expired"));
	assert_int_equal(load(NOW), SP_E_NOT_FOUND);
	assert_int_equal(init(v1, pin.s), SP_OK);
	assert_int_equal(load(NOW), SP_OK);
	assert_int_equal(init(v1, pin.s), SP_E_EXISTS);
	assert_int_equal(load(sp_time_parse_rfc3339(EXPIRES)), SP_E_DENIED);

	assert_int_equal(update(v3), SP_E_DENIED);
	assert_int_equal(update(v2_new_only), SP_E_DENIED);
	assert_non_null(strstr(err.msg, "predecessor"));
	assert_int_equal(update(v2), SP_OK);
	assert_int_equal(load(NOW), SP_OK);
	assert_int_equal(update(v2), SP_E_DENIED);
	assert_int_equal(update(v1), SP_E_DENIED);
	assert_int_equal(update(v3), SP_OK);
	assert_int_equal(load(NOW), SP_OK);

	/* somebody puts an older document back */
	assert_int_equal(
	    sp_file_write(path("trust/trust.json"), 0644, v1, strlen(v1), &err), SP_OK);
	assert_int_equal(load(NOW), SP_E_DENIED);
	assert_non_null(strstr(err.msg, "later one was accepted"));
	assert_int_equal(
	    sp_file_write(path("trust/trust.json"), 0644, v3, strlen(v3), &err), SP_OK);
	assert_int_equal(load(NOW), SP_OK);
	/* or changes what the chain rests on */
	assert_int_equal(
	    sp_file_write(path("trust/2.json"), 0644, v2_new_only, strlen(v2_new_only), &err),
	    SP_OK);
	assert_int_equal(load(NOW), SP_E_DENIED);
	assert_int_equal(sp_file_write(path("trust/2.json"), 0644, v2, strlen(v2), &err), SP_OK);
	assert_int_equal(sp_file_write(path("trust/root.pin"), 0644, TREE_A "\n", 65, &err), SP_OK);
	assert_int_equal(load(NOW), SP_E_DENIED);
	assert_int_equal(sp_file_write(path("trust/root.pin"), 0644, pin.s, 64, &err), SP_OK);
	assert_int_equal(load(NOW), SP_E_INVALID);

	free(v1);
	free(v2);
	free(v2_new_only);
	free(v3);
	free(expired);
	sp_key_free(&old);
	sp_key_free(&new);
}

/* --- statements and candidates -------------------------------------------------------------- */

static void
statement_provenance(void **state)
{
	const struct sp_material materials[] = {
	    {.uri = "hf:org/name", .name = "org/name", .git_commit = "0123"},
	    {.uri = "sallyport:tree:" TREE_A, .sha256 = TREE_A},
	    {.uri = "sallyport:tree:" TREE_B, .sha256 = TREE_A}, /* contradicts itself */
	};
	json_t *external = json_pack("{s:s, s:f}", "source", "hf:org/name", "margin", 0.1);
	struct sp_provenance p = {.subject_name = "org/name-AWQ",
	    .subject_tree = TREE_B,
	    .build_type = SP_BUILD_QUANTIZE,
	    .external = external,
	    .materials = materials,
	    .material_count = 3,
	    .builder = "quantd@bastion",
	    .version = "1",
	    .invocation = "j",
	    .started = "s",
	    .finished = "f"};
	struct sp_statement s;
	const char *margin;
	size_t len;
	char *text;

	(void)state;
	text = sp_statement_provenance(&p, &len);
	assert_int_equal(sp_statement_parse((const uint8_t *)text, len, &s, &err), SP_OK);
	assert_string_equal(s.subject_name, "org/name-AWQ");
	assert_string_equal(s.subject_tree, TREE_B);
	assert_string_equal(s.predicate_type, SP_PREDICATE_SLSA);
	assert_string_equal(sp_statement_build_type(&s), SP_BUILD_QUANTIZE);
	assert_string_equal(sp_statement_builder(&s), "quantd@bastion");
	assert_string_equal(sp_statement_time(&s), "f");
	assert_null(sp_statement_result(&s));
	assert_int_equal(sp_statement_uses_tree(&s, TREE_A), 1);
	assert_int_equal(sp_statement_uses_tree(&s, TREE_B), 0);
	margin = json_string_value(json_object_get(
	    json_object_get(json_object_get(s.predicate, "buildDefinition"), "externalParameters"),
	    "margin"));
	assert_string_equal(margin, "0.1");
	sp_statement_clear(&s);
	/* one more space and it is another spelling */
	text[len - 1] = ' ';
	assert_int_not_equal(sp_statement_parse((const uint8_t *)text, len, &s, &err), SP_OK);
	json_decref(external);
	free(text);
}

static void
statement_test_result(void **state)
{
	const struct sp_material configuration = {
	    .uri = "sallyport:tree:" TREE_A, .sha256 = TREE_A};
	const char *const passed[] = {"mmlu"}, *const failed[] = {"humaneval"};
	struct sp_test_result r = {.subject_name = "n",
	    .subject_tree = TREE_B,
	    .result = "FAILED",
	    .configuration = &configuration,
	    .configuration_count = 1,
	    .passed = passed,
	    .passed_count = 1,
	    .failed = failed,
	    .failed_count = 1};
	struct sp_statement s;
	size_t len;
	char *text;

	(void)state;
	text = sp_statement_test_result(&r, &len);
	assert_int_equal(sp_statement_parse((const uint8_t *)text, len, &s, &err), SP_OK);
	assert_string_equal(sp_statement_result(&s), "FAILED");
	assert_null(sp_statement_build_type(&s));
	assert_null(sp_statement_builder(&s));
	assert_int_equal(sp_statement_uses_tree(&s, TREE_A), 1);
	assert_string_equal(
	    json_string_value(json_array_get(json_object_get(s.predicate, "failedTests"), 0)),
	    "humaneval");
	sp_statement_clear(&s);
	free(text);
}

static struct sp_candidate
candidate(void)
{
	return (struct sp_candidate){.job = "00112233445566778899aabbccddeeff",
	    .kind = "model",
	    .name = "org/name-AWQ",
	    .version = 3,
	    .destination = "enclave",
	    .tree = {TREE_B},
	    .attestations = {{TREE_A}},
	    .attestation_count = 1};
}

static enum sp_code
candidate_round(const struct sp_candidate *c, struct sp_candidate *out)
{
	size_t len;
	char *text = sp_candidate_format(c, &len);
	enum sp_code code = sp_candidate_parse((const uint8_t *)text, len, out, &err);

	free(text);
	return code;
}

static void
candidates(void **state)
{
	struct sp_candidate c = candidate(), out;

	(void)state;
	assert_int_equal(candidate_round(&c, &out), SP_OK);
	assert_memory_equal(&c, &out, sizeof(c));
	c.version = 0;
	assert_int_equal(candidate_round(&c, &out), SP_E_INVALID);
	c = candidate();
	strcpy(c.kind, "tarball");
	assert_int_equal(candidate_round(&c, &out), SP_E_UNSUPPORTED);
	c = candidate();
	strcpy(c.name, "../etc");
	assert_int_equal(candidate_round(&c, &out), SP_E_INVALID);
	strcpy(c.kind, "file"); /* whatever it is: directories are named after it */
	assert_int_equal(candidate_round(&c, &out), SP_E_INVALID);
	c = candidate();
	strcpy(c.destination, "en\xe2\x80\xaexclave"); /* turns the reading direction */
	assert_int_equal(candidate_round(&c, &out), SP_E_INVALID);
	c = candidate();
	c.job[3] = 'F';
	assert_int_equal(candidate_round(&c, &out), SP_E_INVALID);
	c = candidate();
	c.attestations[1] = c.attestations[0];
	c.attestation_count = 2;
	assert_int_equal(candidate_round(&c, &out), SP_E_INVALID);
	c.attestation_count = 0;
	assert_int_equal(candidate_round(&c, &out), SP_E_INVALID);
}

/* --- snapshots ------------------------------------------------------------------------------ */

static void
snapshots(void **state)
{
	char a[] = "org/a", b[] = "org/b", kind[] = "model", file[] = "config.json";
	char *files[] = {file};
	struct sp_snapshot_model models[] = {
	    {b, kind, 1, {TREE_A}, {TREE_B}, {"0123456789012345678901234567890123456789"}, 5, 0,
		files, 1},
	    {a, kind, 2, {TREE_A}, {TREE_B}, {"0123456789012345678901234567890123456789"}, 5, 1,
		files, 1},
	    {a, kind, 1, {TREE_A}, {TREE_B}, {"0123456789012345678901234567890123456789"}, 5, 0,
		files, 1},
	};
	struct sp_snapshot snapshot = {.version = 7,
	    .origin = "sallyport/enclave/host",
	    .time = "2026-11-24T05:02:03.123Z",
	    .models = models,
	    .count = 3};
	struct sp_key *root = new_key(SP_ROLE_ROOT, "root"),
		      *registry = new_key(SP_ROLE_REGISTRY, "registryd@enclave"),
		      *eve = new_key(SP_ROLE_REGISTRY, "eve");
	struct sp_trust *trust = NULL;
	struct sp_snapshot out;
	char *envelope = NULL, *text;
	json_t *doc;
	size_t len;

	(void)state;
	doc = document(1, EXPIRES,
	    json_pack("{s:o, s:o}", "root", role_json(1, root, NULL), "registry",
		role_json(1, registry, NULL)));
	text = sp_json_canonical(doc, &len);
	json_decref(doc);
	assert_int_equal(sp_trust_parse((const uint8_t *)text, len, &trust, &err), SP_OK);
	free(text);

	assert_int_equal(sp_snapshot_sign(&snapshot, registry, &envelope, &len, &err), SP_OK);
	assert_int_equal(
	    sp_snapshot_verify(trust, (const uint8_t *)envelope, len, &out, &err), SP_OK);
	free(envelope);
	assert_int_equal(out.count, 3);
	assert_true(out.version == 7);
	assert_string_equal(out.models[0].name, "org/a");
	assert_string_equal(out.models[2].files[0], "config.json");
	/* version 2 of org/a is revoked */
	assert_true(sp_snapshot_find(&out, "org/a", 0)->version == 1);
	assert_null(sp_snapshot_find(&out, "org/a", 2));
	assert_null(sp_snapshot_find(&out, "org/c", 0));
	sp_snapshot_clear(&out);

	assert_int_equal(sp_snapshot_sign(&snapshot, eve, &envelope, &len, &err), SP_OK);
	assert_int_equal(
	    sp_snapshot_verify(trust, (const uint8_t *)envelope, len, &out, &err), SP_E_DENIED);
	free(envelope);
	/* the writer itself refuses what readers would: the same model twice */
	models[0] = models[1];
	assert_int_equal(
	    sp_snapshot_sign(&snapshot, registry, &envelope, &len, &err), SP_E_INVALID);
	sp_trust_free(&trust);
	sp_key_free(&root);
	sp_key_free(&registry);
	sp_key_free(&eve);
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
	    cmocka_unit_test(key_files),
	    cmocka_unit_test(key_refusals),
	    cmocka_unit_test(key_sealed),
	    cmocka_unit_test(key_lines),
	    cmocka_unit_test(key_link),
	    cmocka_unit_test(key_rfc8032),
	    cmocka_unit_test(dsse_pae),
	    cmocka_unit_test(dsse_round_trip),
	    cmocka_unit_test(dsse_strict),
	    cmocka_unit_test(trust_form),
	    cmocka_unit_test(trust_workers),
	    cmocka_unit_test(trust_thresholds),
	    cmocka_unit_test(trust_directory),
	    cmocka_unit_test(statement_provenance),
	    cmocka_unit_test(statement_test_result),
	    cmocka_unit_test(candidates),
	    cmocka_unit_test(snapshots),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
