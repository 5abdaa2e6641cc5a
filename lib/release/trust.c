/* trust.c -- the trust document: its form, whom it names, and the directory that holds it. */
#include "release/trust.h"
#include "base/file.h"
#include "base/json.h"
#include "base/path.h"
#include "base/time.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TYPE "sallyport-trust/1"
#define KEYS_MAX 256
#define WORKERS_MAX 256
#define VERSION_MAX 100000	/* each version of the chain is read at every load */
#define ENVELOPE_MAX (1u << 20) /* bytes of a trust document with its signatures */

struct role {
	unsigned threshold; /* 0: the document has no such role */
	struct sp_pubkey *keys;
	size_t count;
};

struct sp_trust {
	int64_t version;
	int64_t expires_unix_ms;
	char expires[25];
	struct role roles[SP_ROLE_COUNT];
	struct sp_trust_worker *workers;
	size_t worker_count;
};

/* --- the payload ---------------------------------------------------------------------------- */

/* The base64 of exactly 32 bytes. */
static enum sp_code
parse_key_bytes(const json_t *obj, uint8_t out[SP_PUBKEY_LEN], struct sp_err *err)
{
	const char *text;
	enum sp_code code;
	uint8_t *bytes;
	size_t len;

	code = sp_json_string(obj, "key", &text, err);
	if (code != SP_OK)
		return code;
	bytes = sp_base64_decode(text, strlen(text), &len);
	if (bytes == NULL || len != SP_PUBKEY_LEN)
		code = sp_err_set(err, SP_E_INVALID, "field \"key\" is not the base64 of %d bytes",
		    SP_PUBKEY_LEN);
	else
		memcpy(out, bytes, SP_PUBKEY_LEN);
	free(bytes);
	return code;
}

static enum sp_code
parse_key(const json_t *obj, enum sp_role role, struct sp_pubkey *out, struct sp_err *err)
{
	uint8_t bytes[SP_PUBKEY_LEN];
	const char *id, *name;
	enum sp_code code;

	code = sp_json_string(obj, "id", &id, err);
	if (code == SP_OK)
		code = sp_json_string(obj, "name", &name, err);
	if (code == SP_OK)
		code = parse_key_bytes(obj, bytes, err);
	if (code == SP_OK)
		code = sp_pubkey_set(out, role, name, bytes, err);
	if (code != SP_OK)
		return code;
	if (json_object_size(obj) != 3)
		return sp_err_set(
		    err, SP_E_INVALID, "the key of %s has fields other than id, key, name", name);
	if (strcmp(out->id.s, id) != 0)
		return sp_err_set(err, SP_E_INVALID,
		    "the key of %s has the fingerprint %s, not the id %s", name, out->id.s, id);
	return SP_OK;
}

static enum sp_code
parse_role(const json_t *obj, enum sp_role role, struct role *out, struct sp_err *err)
{
	int64_t threshold;
	enum sp_code code;
	json_t *keys;
	size_t i, count;

	code = sp_json_array(obj, "keys", &keys, err);
	if (code != SP_OK)
		return code;
	count = json_array_size(keys);
	if (count == 0 || count > KEYS_MAX)
		return sp_err_set(err, SP_E_INVALID, "1 to %d keys, not %zu", KEYS_MAX, count);
	code = sp_json_integer(obj, "threshold", 1, (int64_t)count, &threshold, err);
	if (code != SP_OK)
		return code;
	if (json_object_size(obj) != 2)
		return sp_err_set(err, SP_E_INVALID, "it has fields other than keys, threshold");
	out->keys = sp_xcalloc(count, sizeof(*out->keys));
	for (i = 0; i < count; i++) {
		code = parse_key(json_array_get(keys, i), role, &out->keys[i], err);
		if (code != SP_OK)
			return code;
		if (i > 0 && strcmp(out->keys[i - 1].id.s, out->keys[i].id.s) >= 0)
			return sp_err_set(
			    err, SP_E_INVALID, "keys must be in ascending order of id, none twice");
		out->count++;
	}
	out->threshold = (unsigned)threshold;
	return SP_OK;
}

static enum sp_code
parse_roles(json_t *roles, struct sp_trust *trust, struct sp_err *err)
{
	struct sp_err inner;
	enum sp_role role;
	enum sp_code code;
	const char *word;
	json_t *obj;

	json_object_foreach(roles, word, obj)
	{
		/* bus keys are the workers'; a link key is nobody's to know */
		if (!sp_role_find(word, &role) || role == SP_ROLE_BUS || role == SP_ROLE_LINK)
			return sp_err_set(err, SP_E_INVALID, "there is no role \"%s\"", word);
		code = parse_role(obj, role, &trust->roles[role], &inner);
		if (code != SP_OK)
			return sp_err_set(err, code, "role %s: %s", word, inner.msg);
	}
	if (trust->roles[SP_ROLE_ROOT].threshold == 0)
		return sp_err_set(err, SP_E_INVALID, "it has no role \"root\"");
	return SP_OK;
}

/* A key that stands for two roles would let one daemon do the work of two. */
static enum sp_code
check_one_role(const struct sp_trust *trust, struct sp_err *err)
{
	const struct sp_pubkey *key;
	enum sp_role a, b;
	size_t i;

	for (a = 0; a < SP_ROLE_COUNT; a++) {
		for (i = 0; i < trust->roles[a].count; i++) {
			key = &trust->roles[a].keys[i];
			for (b = a + 1; b < SP_ROLE_COUNT; b++) {
				if (sp_trust_key_by_id(trust, b, key->id.s) != NULL)
					return sp_err_set(err, SP_E_INVALID,
					    "the key %.16s… has two roles, %s and %s; each needs "
					    "a key of its own",
					    key->id.s, sp_role_word(a), sp_role_word(b));
			}
		}
	}
	return SP_OK;
}

static int
is_word(const char *text, size_t max, const char *more)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789-";
	size_t len = strlen(text), i;

	for (i = 0; i < len; i++)
		if (strchr(letters, text[i]) == NULL && strchr(more, text[i]) == NULL)
			return 0;
	return len > 0 && len <= max;
}

static enum sp_code
parse_worker(const json_t *obj, struct sp_trust_worker *out, struct sp_err *err)
{
	const char *name, *service;
	enum sp_code code;

	code = sp_json_string(obj, "name", &name, err);
	if (code == SP_OK)
		code = sp_json_string(obj, "service", &service, err);
	if (code == SP_OK)
		code = sp_json_integer(obj, "uid", -1, UINT32_MAX, &out->uid, err);
	if (code == SP_OK)
		code = parse_key_bytes(obj, out->key, err);
	if (code != SP_OK)
		return code;
	if (json_object_size(obj) != 4)
		return sp_err_set(
		    err, SP_E_INVALID, "it has fields other than key, name, service, uid");
	if (!is_word(name, SP_NAME_MAX, "@._ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
		return sp_err_set(err, SP_E_INVALID,
		    "field \"name\" must be letters, digits, '.', '_', '@' and '-'");
	if (!is_word(service, sizeof(out->service) - 1, ""))
		return sp_err_set(err, SP_E_INVALID,
		    "field \"service\" must be lower-case letters, digits and '-'");
	memcpy(out->name, name, strlen(name) + 1);
	memcpy(out->service, service, strlen(service) + 1);
	return SP_OK;
}

static enum sp_code
parse_workers(const json_t *workers, struct sp_trust *trust, struct sp_err *err)
{
	size_t i, j, count = json_array_size(workers);
	struct sp_trust_worker *w;
	struct sp_err inner;
	enum sp_code code;

	if (count > WORKERS_MAX)
		return sp_err_set(
		    err, SP_E_LIMIT, "%zu workers, at most %d are allowed", count, WORKERS_MAX);
	trust->workers = sp_xcalloc(count, sizeof(*trust->workers));
	for (i = 0; i < count; i++) {
		w = &trust->workers[i];
		code = parse_worker(json_array_get(workers, i), w, &inner);
		if (code != SP_OK)
			return sp_err_set(err, code, "worker %zu: %s", i, inner.msg);
		if (i > 0 && strcmp(w[-1].name, w->name) >= 0)
			return sp_err_set(err, SP_E_INVALID,
			    "workers must be in ascending order of name, none twice");
		for (j = 0; j < i; j++) {
			if (memcmp(trust->workers[j].key, w->key, SP_PUBKEY_LEN) == 0)
				return sp_err_set(err, SP_E_INVALID,
				    "workers %s and %s have the same bus key",
				    trust->workers[j].name, w->name);
		}
		trust->worker_count++;
	}
	return SP_OK;
}

static enum sp_code
parse_document(const json_t *root, struct sp_trust *trust, struct sp_err *err)
{
	const char *type, *expires;
	json_t *roles, *workers;
	enum sp_code code;

	code = sp_json_string(root, "type", &type, err);
	if (code == SP_OK && strcmp(type, TYPE) != 0)
		code = sp_err_set(err, SP_E_UNSUPPORTED, "type is \"%s\", not " TYPE, type);
	if (code == SP_OK)
		code = sp_json_integer(root, "version", 1, VERSION_MAX, &trust->version, err);
	if (code == SP_OK)
		code = sp_json_string(root, "expires", &expires, err);
	if (code == SP_OK)
		code = sp_json_object(root, "roles", &roles, err);
	if (code == SP_OK)
		code = sp_json_array(root, "workers", &workers, err);
	if (code != SP_OK)
		return code;
	if (json_object_size(root) != 5)
		return sp_err_set(err, SP_E_INVALID,
		    "it has fields other than expires, roles, type, version, workers");
	trust->expires_unix_ms = sp_time_parse_rfc3339(expires);
	if (trust->expires_unix_ms < 0)
		return sp_err_set(
		    err, SP_E_INVALID, "field \"expires\" must look like 2027-01-31T00:00:00.000Z");
	memcpy(trust->expires, expires, sizeof(trust->expires));
	code = parse_roles(roles, trust, err);
	if (code == SP_OK)
		code = check_one_role(trust, err);
	if (code == SP_OK)
		code = parse_workers(workers, trust, err);
	return code;
}

enum sp_code
sp_trust_parse(const uint8_t *payload, size_t len, struct sp_trust **out, struct sp_err *err)
{
	struct sp_trust *trust = NULL;
	json_t *root = NULL;
	struct sp_err inner;
	enum sp_code code;

	*out = NULL;
	code = sp_json_parse_canonical(payload, len, "trust document", &root, err);
	if (code != SP_OK)
		return code;
	trust = sp_xcalloc(1, sizeof(*trust));
	code = parse_document(root, trust, &inner);
	json_decref(root);
	if (code != SP_OK) {
		sp_trust_free(&trust);
		return sp_err_set(err, code, "trust document: %s", inner.msg);
	}
	*out = trust;
	return SP_OK;
}

void
sp_trust_free(struct sp_trust **trust)
{
	int i;

	if (trust == NULL || *trust == NULL)
		return;
	for (i = 0; i < SP_ROLE_COUNT; i++)
		free((*trust)->roles[i].keys);
	free((*trust)->workers);
	free(*trust);
	*trust = NULL;
}

/* --- questions ------------------------------------------------------------------------------ */

int64_t
sp_trust_version(const struct sp_trust *trust)
{
	return trust->version;
}

const char *
sp_trust_expires(const struct sp_trust *trust)
{
	return trust->expires;
}

unsigned
sp_trust_threshold(const struct sp_trust *trust, enum sp_role role)
{
	return trust->roles[role].threshold;
}

size_t
sp_trust_key_count(const struct sp_trust *trust, enum sp_role role)
{
	return trust->roles[role].count;
}

const struct sp_pubkey *
sp_trust_key(const struct sp_trust *trust, enum sp_role role, size_t i)
{
	SP_ASSERT(i < trust->roles[role].count);
	return &trust->roles[role].keys[i];
}

const struct sp_pubkey *
sp_trust_key_by_id(const struct sp_trust *trust, enum sp_role role, const char *id)
{
	const struct role *r = &trust->roles[role];
	size_t i;

	for (i = 0; i < r->count; i++)
		if (strcmp(r->keys[i].id.s, id) == 0)
			return &r->keys[i];
	return NULL;
}

size_t
sp_trust_worker_count(const struct sp_trust *trust)
{
	return trust->worker_count;
}

const struct sp_trust_worker *
sp_trust_worker(const struct sp_trust *trust, size_t i)
{
	SP_ASSERT(i < trust->worker_count);
	return &trust->workers[i];
}

const struct sp_trust_worker *
sp_trust_worker_by_key(const struct sp_trust *trust, const uint8_t key[SP_PUBKEY_LEN])
{
	size_t i;

	for (i = 0; i < trust->worker_count; i++)
		if (memcmp(trust->workers[i].key, key, SP_PUBKEY_LEN) == 0)
			return &trust->workers[i];
	return NULL;
}

const struct sp_trust_worker *
sp_trust_worker_by_name(const struct sp_trust *trust, const char *name)
{
	size_t i;

	for (i = 0; i < trust->worker_count; i++)
		if (strcmp(trust->workers[i].name, name) == 0)
			return &trust->workers[i];
	return NULL;
}

/* --- signatures ----------------------------------------------------------------------------- */

/* One key counts once, however often its signature stands in the envelope. */
static int
seen(const struct sp_dsse *dsse, size_t i)
{
	size_t j;

	for (j = 0; j < i; j++)
		if (strcmp(dsse->sigs[j].keyid.s, dsse->sigs[i].keyid.s) == 0)
			return 1;
	return 0;
}

enum sp_code
sp_trust_verify(const struct sp_trust *trust, enum sp_role role, unsigned threshold,
    const struct sp_dsse *dsse, const struct sp_pubkey **signers, size_t max, size_t *count,
    struct sp_err *err)
{
	const struct sp_pubkey *key;
	enum sp_code code = SP_OK;
	struct sp_buf pae = {0};
	size_t i, valid = 0;

	if (threshold == 0)
		threshold = trust->roles[role].threshold;
	if (threshold == 0)
		return sp_err_set(err, SP_E_DENIED,
		    "version %" PRId64 " of the trust document names no key of the role %s",
		    trust->version, sp_role_word(role));
	sp_dsse_pae(&pae, dsse->payload_type, dsse->payload, dsse->payload_len);
	for (i = 0; i < dsse->sig_count; i++) {
		key = sp_trust_key_by_id(trust, role, dsse->sigs[i].keyid.s);
		if (key == NULL || seen(dsse, i))
			continue;
		if (!sp_pubkey_verify(key->bytes, pae.data, pae.len, dsse->sigs[i].sig)) {
			code = sp_err_set(err, SP_E_DENIED,
			    "the signature of %s (%s key %.16s…) is not over these bytes",
			    key->name, sp_role_word(role), key->id.s);
			goto out;
		}
		if (signers != NULL && valid < max)
			signers[valid] = key;
		valid++;
	}
	if (valid < threshold)
		code = sp_err_set(err, SP_E_DENIED,
		    "signed by %zu key%s of the role %s, needed are %u (%zu of %zu signatures are "
		    "by keys that version %" PRId64
		    " of the trust document does not give that role)",
		    valid, valid == 1 ? "" : "s", sp_role_word(role), threshold,
		    dsse->sig_count - valid, dsse->sig_count, trust->version);
	else if (count != NULL)
		*count = valid;
out:
	sp_buf_free(&pae);
	return code;
}

/* --- the directory -------------------------------------------------------------------------- */

/* One version: the envelope as it came, and what it says. */
struct version {
	struct sp_dsse dsse;
	struct sp_trust *trust;
};

static void
version_clear(struct version *v)
{
	sp_dsse_clear(&v->dsse);
	sp_trust_free(&v->trust);
}

/* Form, and that its own root keys have signed it: without a predecessor this proves nothing. */
static enum sp_code
version_parse(const uint8_t *envelope, size_t len, struct version *out, struct sp_err *err)
{
	enum sp_code code;

	memset(out, 0, sizeof(*out));
	code = sp_dsse_parse(envelope, len, &out->dsse, err);
	if (code != SP_OK)
		return code;
	if (strcmp(out->dsse.payload_type, SP_DSSE_TRUST) != 0)
		code = sp_err_set(err, SP_E_INVALID,
		    "the envelope holds \"%s\", not " SP_DSSE_TRUST, out->dsse.payload_type);
	if (code == SP_OK)
		code = sp_trust_parse(out->dsse.payload, out->dsse.payload_len, &out->trust, err);
	if (code == SP_OK)
		code = sp_trust_verify(out->trust, SP_ROLE_ROOT, 0, &out->dsse, NULL, 0, NULL, err);
	if (code != SP_OK)
		version_clear(out);
	return code;
}

static enum sp_code
version_read(const char *path, struct version *out, struct sp_err *err)
{
	uint8_t *data = NULL;
	struct sp_err inner;
	enum sp_code code;
	size_t len;

	memset(out, 0, sizeof(*out));
	code = sp_file_read(path, ENVELOPE_MAX, &data, &len, err);
	if (code != SP_OK)
		return code;
	code = version_parse(data, len, out, &inner);
	if (code != SP_OK)
		sp_err_set(err, code, "%s: %s", path, inner.msg);
	free(data);
	return code;
}

/* next is the direct successor of before: its number, and signed by the roots of both. */
static enum sp_code
check_successor(const struct version *before, const struct version *next, struct sp_err *err)
{
	struct sp_err inner;
	enum sp_code code;

	if (next->trust->version != before->trust->version + 1)
		return sp_err_set(err, SP_E_DENIED,
		    "trust document version %" PRId64 " does not follow on version %" PRId64
		    "; versions go up by one and never back",
		    next->trust->version, before->trust->version);
	code = sp_trust_verify(before->trust, SP_ROLE_ROOT, 0, &next->dsse, NULL, 0, NULL, &inner);
	if (code != SP_OK)
		return sp_err_set(err, code,
		    "trust document version %" PRId64
		    " is not signed by the root keys of its predecessor: %s",
		    next->trust->version, inner.msg);
	return SP_OK;
}

static enum sp_code
check_expiry(const struct sp_trust *trust, int64_t now_unix_ms, struct sp_err *err)
{
	if (now_unix_ms >= trust->expires_unix_ms)
		return sp_err_set(err, SP_E_DENIED,
		    "trust document version %" PRId64
		    " expired at %s; have the root keys sign the next one and give it to `sallyctl "
		    "trust update`",
		    trust->version, trust->expires);
	return SP_OK;
}

/* root.pin: exactly 64 lower-case hex digits and a newline. */
static enum sp_code
read_pin(const char *dir, struct sp_hex *pin, struct sp_err *err)
{
	char *path = sp_path_join(dir, "/root.pin");
	uint8_t *data = NULL;
	enum sp_code code;
	size_t len;

	code = sp_file_read(path, SP_HEX_LEN + 1, &data, &len, err);
	if (code == SP_E_NOT_FOUND)
		sp_err_set(err, code,
		    "%s is not there: nobody is trusted yet; run `sallyctl trust init FILE "
		    "--fingerprint HEX` with the fingerprint that came to you out of band",
		    path);
	if (code != SP_OK)
		goto out;
	if (len != SP_HEX_LEN + 1 || data[SP_HEX_LEN] != '\n') {
		code =
		    sp_err_set(err, SP_E_INVALID, "%s: must be 64 hex digits and a newline", path);
		goto out;
	}
	data[SP_HEX_LEN] = '\0';
	if (!sp_hex_is_digest((const char *)data))
		code =
		    sp_err_set(err, SP_E_INVALID, "%s: must be 64 hex digits and a newline", path);
	else
		memcpy(pin->s, data, sizeof(pin->s));
out:
	free(data);
	free(path);
	return code;
}

static enum sp_code
check_pin(const struct version *first, const struct sp_hex *pin, struct sp_err *err)
{
	struct sp_hex digest = sp_sha256_hex(first->dsse.payload, first->dsse.payload_len);

	if (strcmp(digest.s, pin->s) != 0)
		return sp_err_set(err, SP_E_DENIED,
		    "version 1 of the trust document has the fingerprint %s, but pinned is %s: "
		    "this "
		    "is not the document that was agreed on",
		    digest.s, pin->s);
	return SP_OK;
}

static char *
version_path(const char *dir, int64_t version)
{
	return sp_xasprintf("%s/%" PRId64 ".json", dir, version);
}

/* A version that was accepted here lies beside trust.json: going back behind it is refused. */
static enum sp_code
check_newest(const char *dir, int64_t version, struct sp_err *err)
{
	char *path = version_path(dir, version + 1);
	enum sp_code code = SP_OK;

	if (access(path, F_OK) == 0)
		code = sp_err_set(err, SP_E_DENIED,
		    "trust.json is version %" PRId64 ", but %s shows that a later one was accepted "
		    "here; give that file to `sallyctl "
		    "trust update` to finish the change",
		    version, path);
	free(path);
	return code;
}

/* The document in force with all that leads to it, without regard to its age. */
static enum sp_code
load_chain(const char *dir, struct version *out, struct sp_err *err)
{
	struct version before = {0}, next = {0};
	char *path = sp_path_join(dir, "/trust.json");
	struct sp_hex pin;
	enum sp_code code;
	int64_t n;

	memset(out, 0, sizeof(*out));
	code = read_pin(dir, &pin, err);
	if (code == SP_OK)
		code = version_read(path, out, err);
	free(path);
	if (code != SP_OK)
		return code;
	SP_ASSERT(out->trust->version >= 1); /* as sp_trust_parse has it */
	for (n = 1; n < out->trust->version && code == SP_OK; n++) {
		path = version_path(dir, n);
		code = version_read(path, &next, err);
		free(path);
		if (code == SP_OK)
			code = n == 1 ? check_pin(&next, &pin, err)
				      : check_successor(&before, &next, err);
		version_clear(&before);
		before = next;
		memset(&next, 0, sizeof(next));
	}
	if (code == SP_OK)
		code = out->trust->version == 1 ? check_pin(out, &pin, err)
						: check_successor(&before, out, err);
	version_clear(&before);
	if (code != SP_OK)
		version_clear(out);
	return code;
}

enum sp_code
sp_trust_load(const char *dir, int64_t now_unix_ms, struct sp_trust **out, struct sp_err *err)
{
	struct version v;
	enum sp_code code;

	*out = NULL;
	code = load_chain(dir, &v, err);
	if (code != SP_OK)
		return code;
	code = check_newest(dir, v.trust->version, err);
	if (code == SP_OK)
		code = check_expiry(v.trust, now_unix_ms, err);
	if (code == SP_OK) {
		*out = v.trust;
		v.trust = NULL;
	}
	version_clear(&v);
	return code;
}

/* N.json before trust.json: a crash between them leaves a state that sp_trust_load names and that
 * the same command mends. */
static enum sp_code
put_version(
    const char *dir, int64_t version, const uint8_t *envelope, size_t len, struct sp_err *err)
{
	char *numbered = version_path(dir, version), *current = sp_path_join(dir, "/trust.json");
	enum sp_code code;

	sp_file_sweep(dir, 0);
	code = sp_file_write(numbered, 0644, envelope, len, err);
	if (code == SP_OK)
		code = sp_file_write(current, 0644, envelope, len, err);
	free(numbered);
	free(current);
	return code;
}

enum sp_code
sp_trust_init(const char *dir, const uint8_t *envelope, size_t len, const char *fingerprint,
    int64_t now_unix_ms, struct sp_err *err)
{
	char *pin_path = sp_path_join(dir, "/root.pin"), *pin = NULL;
	struct sp_hex wanted;
	struct version v;
	enum sp_code code;

	memset(&v, 0, sizeof(v));
	if (!sp_hex_is_digest(fingerprint)) {
		code = sp_err_set(
		    err, SP_E_INVALID, "a fingerprint is 64 lower-case hex digits, all of them");
		goto out;
	}
	memcpy(wanted.s, fingerprint, sizeof(wanted.s));
	code = version_parse(envelope, len, &v, err);
	if (code == SP_OK && v.trust->version != 1)
		code = sp_err_set(err, SP_E_INVALID,
		    "this is version %" PRId64 " of a trust document; what is pinned is version 1, "
		    "later ones come by `sallyctl trust update`",
		    v.trust->version);
	if (code == SP_OK)
		code = check_pin(&v, &wanted, err);
	if (code == SP_OK)
		code = check_expiry(v.trust, now_unix_ms, err);
	if (code == SP_OK && access(pin_path, F_OK) == 0)
		code = sp_err_set(err, SP_E_EXISTS,
		    "%s is there already: this side has its root of trust", pin_path);
	if (code == SP_OK)
		code = sp_file_mkdirs(dir, 0755, err);
	if (code == SP_OK)
		code = put_version(dir, 1, envelope, len, err);
	if (code != SP_OK)
		goto out;
	/* last: without the pin the directory does not count as initialised */
	pin = sp_xasprintf("%s\n", wanted.s);
	code = sp_file_create(pin_path, 0644, pin, SP_HEX_LEN + 1, err);
out:
	version_clear(&v);
	free(pin);
	free(pin_path);
	return code;
}

enum sp_code
sp_trust_update(
    const char *dir, const uint8_t *envelope, size_t len, int64_t now_unix_ms, struct sp_err *err)
{
	struct version old, new = {0};
	enum sp_code code;

	/* the old one may have expired: the new one is how that is mended */
	code = load_chain(dir, &old, err);
	if (code != SP_OK)
		return code;
	code = version_parse(envelope, len, &new, err);
	if (code == SP_OK)
		code = check_successor(&old, &new, err);
	if (code == SP_OK)
		code = check_expiry(new.trust, now_unix_ms, err);
	if (code == SP_OK)
		code = put_version(dir, new.trust->version, envelope, len, err);
	version_clear(&old);
	version_clear(&new);
	return code;
}
