/* trust.c -- trust new, sign, init, update, show. */
#include "base/file.h"
#include "base/time.h"
#include "ctl.h"
#include "trust_new.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define DOCUMENT_MAX (1u << 20)

/* --- new ------------------------------------------------------------------------------------ */

static enum sp_code
gather_keys(struct ctl *ctl, struct ctl_trust_parts *parts, struct sp_err *err)
{
	const char *text;
	enum sp_code code = SP_OK;
	unsigned i;

	for (i = 0; code == SP_OK && (text = ctl_args_nth(ctl->args, "--threshold", i)); i++)
		code = ctl_trust_threshold(text, parts->thresholds, err);
	if (code != SP_OK)
		return ctl_usage(ctl, err, "%s", err->msg);
	for (i = 0; code == SP_OK && (text = ctl_args_nth(ctl->args, "--key", i)); i++) {
		code = sp_pubkey_load(text, &parts->keys[i], err);
		parts->key_count += code == SP_OK;
	}
	for (i = 0; code == SP_OK && (text = ctl_args_nth(ctl->args, "--worker", i)); i++) {
		code = ctl_trust_worker(text, &parts->workers[i], err);
		parts->worker_count += code == SP_OK;
	}
	return code;
}

static enum sp_code
gather(struct ctl *ctl, struct ctl_trust_parts *parts, struct sp_err *err)
{
	const char *version = ctl_args_get(ctl->args, "--version");
	const char *expires = ctl_args_get(ctl->args, "--expires");
	char *end;

	if (version == NULL || expires == NULL)
		return ctl_usage(ctl, err, "--version N and --expires TIME must be given");
	errno = 0;
	parts->version = strtoll(version, &end, 10);
	if (errno != 0 || *end != '\0' || version[0] < '1' || version[0] > '9')
		return ctl_usage(
		    ctl, err, "--version is a number from 1 on, not \"%.20s\"", version);
	if (ctl_trust_expiry(expires, parts->expires, err) != SP_OK)
		return ctl_usage(ctl, err, "--expires: %s", err->msg);
	return gather_keys(ctl, parts, err);
}

enum sp_code
ctl_trust_new(struct ctl *ctl, const struct ctl_args *args, struct sp_err *err)
{
	const char *out = ctl_args_get(args, "--out");
	struct ctl_trust_parts parts = {0};
	struct sp_hex fingerprint;
	char *payload = NULL;
	enum sp_code code;
	size_t len;

	out = out != NULL ? out : "trust.payload";
	parts.keys = sp_xcalloc(args->given_count + 1, sizeof(*parts.keys));
	parts.workers = sp_xcalloc(args->given_count + 1, sizeof(*parts.workers));
	code = gather(ctl, &parts, err);
	if (code == SP_OK)
		code = ctl_trust_format(&parts, &payload, &len, err);
	if (code == SP_OK)
		code = sp_file_write(out, 0644, payload, len, err);
	if (code == SP_OK) {
		fingerprint = sp_sha256_hex(payload, len);
		if (ctl->json) {
			ctl_out_json(json_pack("{s:s, s:s, s:I}", "file", out, "fingerprint",
			    fingerprint.s, "version", (json_int_t)parts.version));
		} else {
			ctl_out_print(
			    stdout, "trust document version %" PRId64 "\n", parts.version);
			ctl_out_field(stdout, "keys", "%zu", parts.key_count);
			ctl_out_field(stdout, "workers", "%zu", parts.worker_count);
			ctl_out_field(stdout, "expires", "%s", parts.expires);
			ctl_out_field(stdout, "fingerprint", "%s", fingerprint.s);
			ctl_out_field(stdout, "file", "%s", out);
			ctl_out_print(stdout,
			    "\nNext: `sallyctl trust sign %s --key ROOTKEY --out trust.json`\n",
			    out);
		}
	}
	free(payload);
	free(parts.keys);
	free(parts.workers);
	return code;
}

/* --- for people ----------------------------------------------------------------------------- */

static void
print_trust(const struct sp_trust *trust)
{
	struct ctl_out_table table = {0};
	const struct sp_trust_worker *w;
	const struct sp_pubkey *key;
	enum sp_role role;
	char *text;
	size_t i;

	ctl_out_print(stdout, "trust document version %" PRId64 ", until %s\n\n",
	    sp_trust_version(trust), sp_trust_expires(trust));
	ctl_out_row(&table, "ROLE", "NEEDED", "KEY OF", "FINGERPRINT", NULL);
	for (role = 0; role < SP_ROLE_COUNT; role++) {
		for (i = 0; i < sp_trust_key_count(trust, role); i++) {
			key = sp_trust_key(trust, role, i);
			text = sp_xasprintf("%u of %zu", sp_trust_threshold(trust, role),
			    sp_trust_key_count(trust, role));
			ctl_out_row(&table, i == 0 ? sp_role_word(role) : "", i == 0 ? text : "",
			    key->name, key->id.s, NULL);
			free(text);
		}
	}
	ctl_out_table(&table, "", stdout);
	if (sp_trust_worker_count(trust) == 0)
		return;
	putchar('\n');
	ctl_out_row(&table, "WORKER", "SERVICE", "UID", "BUS KEY", NULL);
	for (i = 0; i < sp_trust_worker_count(trust); i++) {
		w = sp_trust_worker(trust, i);
		text = w->uid < 0 ? sp_xstrdup("any") : sp_xasprintf("%" PRId64, w->uid);
		ctl_out_row(&table, w->name, w->service, text, sp_hex_of(w->key).s, NULL);
		free(text);
	}
	ctl_out_table(&table, "", stdout);
}

/* --- sign ----------------------------------------------------------------------------------- */

/* A payload, or an envelope that others have signed already. */
static enum sp_code
read_document(const char *path, struct sp_dsse *out, struct sp_trust **trust, struct sp_err *err)
{
	uint8_t *data = NULL;
	struct sp_err inner;
	enum sp_code code;
	size_t len;

	memset(out, 0, sizeof(*out));
	*trust = NULL;
	code = sp_file_read(path, DOCUMENT_MAX, &data, &len, err);
	if (code != SP_OK)
		return code;
	if (sp_dsse_parse(data, len, out, NULL) == SP_OK) {
		free(data);
		if (strcmp(out->payload_type, SP_DSSE_TRUST) != 0)
			code = sp_err_set(err, SP_E_INVALID, "%s: an envelope, but of \"%s\"", path,
			    out->payload_type);
	} else {
		out->payload_type = sp_xstrdup(SP_DSSE_TRUST);
		out->payload = data;
		out->payload_len = len;
	}
	if (code == SP_OK) {
		code = sp_trust_parse(out->payload, out->payload_len, trust, &inner);
		if (code != SP_OK)
			sp_err_set(err, code, "%s: %s", path, inner.msg);
	}
	if (code != SP_OK)
		sp_dsse_clear(out);
	return code;
}

static void
print_signed(struct ctl *ctl, const struct sp_trust *trust, const struct sp_dsse *dsse,
    const struct sp_pubkey *public, const char *out)
{
	struct sp_hex fingerprint = sp_sha256_hex(dsse->payload, dsse->payload_len);
	unsigned threshold = sp_trust_threshold(trust, SP_ROLE_ROOT);
	int own = sp_trust_key_by_id(trust, SP_ROLE_ROOT, public->id.s) != NULL;
	int enough = sp_trust_verify(trust, SP_ROLE_ROOT, 0, dsse, NULL, 0, NULL, NULL) == SP_OK;

	if (!own)
		fprintf(stderr,
		    "sallyctl: this document does not name your key among its root keys: the "
		    "signature helps only where your key is one of its predecessor's\n");
	if (ctl->json) {
		ctl_out_json(json_pack("{s:s, s:s, s:I, s:i, s:i, s:b, s:s}", "file", out,
		    "fingerprint", fingerprint.s, "version", (json_int_t)sp_trust_version(trust),
		    "signatures", (int)dsse->sig_count, "threshold", (int)threshold, "complete",
		    enough, "key", public->id.s));
		return;
	}
	ctl_out_print(stdout, "trust document version %" PRId64 ", signed by %s\n",
	    sp_trust_version(trust), public->name);
	ctl_out_field(
	    stdout, "signatures", "%zu; its own root role needs %u", dsse->sig_count, threshold);
	ctl_out_field(stdout, "fingerprint", "%s", fingerprint.s);
	ctl_out_field(stdout, "file", "%s", out);
	if (!enough)
		ctl_out_print(stdout,
		    "\nNext: another root key: `sallyctl trust sign %s --key "
		    "ROOTKEY --out %s`\n",
		    out, out);
	else if (sp_trust_version(trust) == 1)
		ctl_out_print(stdout,
		    "\nNext: on each side, with the fingerprint brought there another way: "
		    "`sallyctl "
		    "trust init %s --fingerprint HEX`\n",
		    out);
	else
		ctl_out_print(stdout, "\nNext: on each side: `sallyctl trust update %s`\n", out);
}

enum sp_code
ctl_trust_sign(struct ctl *ctl, const struct ctl_args *args, struct sp_err *err)
{
	const char *key_path = ctl_args_get(args, "--key"), *out = ctl_args_get(args, "--out");
	char *passphrase = NULL, *envelope = NULL;
	struct sp_trust *trust = NULL;
	struct sp_key *key = NULL;
	struct sp_dsse dsse;
	enum sp_code code;
	size_t len;

	if (key_path == NULL)
		return ctl_usage(ctl, err, "--key FILE is missing: the root key to sign with");
	out = out != NULL ? out : "trust.json";
	code = read_document(args->words[0], &dsse, &trust, err);
	if (code != SP_OK)
		return code;
	/* a signature is for what was read, not for the name of a file */
	if (!ctl->json) {
		print_trust(trust);
		putchar('\n');
	}
	fflush(stdout);
	code = ctl_passphrase(ctl, key_path, &passphrase, err);
	if (code == SP_OK)
		code = sp_key_load(key_path, SP_ROLE_ROOT, passphrase, &key, err);
	if (code == SP_OK)
		code = sp_dsse_cosign(&dsse, key, err);
	if (code == SP_OK)
		code = sp_dsse_format(&dsse, &envelope, &len, err);
	if (code == SP_OK)
		code = sp_file_write(out, 0644, envelope, len, err);
	if (code == SP_OK)
		print_signed(ctl, trust, &dsse, sp_key_public(key), out);
	ctl_passphrase_free(passphrase);
	free(envelope);
	sp_key_free(&key);
	sp_trust_free(&trust);
	sp_dsse_clear(&dsse);
	return code;
}

/* --- init, update --------------------------------------------------------------------------- */

static enum sp_code
take_over(struct ctl *ctl, const char *path, const char *fingerprint, struct sp_err *err)
{
	int64_t now_ms = sp_time_unix_ms();
	struct sp_trust *trust = NULL;
	uint8_t *envelope = NULL;
	char *dir = NULL, *shown;
	enum sp_code code;
	size_t len;

	code = ctl_trust_dir(ctl, &dir, err);
	if (code == SP_OK)
		code = sp_file_read(path, DOCUMENT_MAX, &envelope, &len, err);
	if (code == SP_OK)
		code = fingerprint != NULL
			   ? sp_trust_init(dir, envelope, len, fingerprint, now_ms, err)
			   : sp_trust_update(dir, envelope, len, now_ms, err);
	/* as every daemon will read it from now on */
	if (code == SP_OK)
		code = sp_trust_load(dir, now_ms, &trust, err);
	if (code == SP_OK && ctl->json) {
		shown = ctl_out_clean(dir); /* a configuration need not be UTF-8 */
		ctl_out_json(json_pack("{s:s, s:I, s:s}", "dir", shown, "version",
		    (json_int_t)sp_trust_version(trust), "expires", sp_trust_expires(trust)));
		free(shown);
	} else if (code == SP_OK)
		ctl_out_print(stdout,
		    "%s: version %" PRId64 " of the trust document is in force until "
		    "%s\n",
		    dir, sp_trust_version(trust), sp_trust_expires(trust));
	sp_trust_free(&trust);
	free(envelope);
	free(dir);
	return code;
}

enum sp_code
ctl_trust_init(struct ctl *ctl, const struct ctl_args *args, struct sp_err *err)
{
	const char *fingerprint = ctl_args_get(args, "--fingerprint");

	if (fingerprint == NULL)
		return ctl_usage(ctl, err,
		    "--fingerprint HEX is missing: it must come to you another way than the file, "
		    "or it proves nothing");
	return take_over(ctl, args->words[0], fingerprint, err);
}

enum sp_code
ctl_trust_update(struct ctl *ctl, const struct ctl_args *args, struct sp_err *err)
{
	return take_over(ctl, args->words[0], NULL, err);
}

/* --- show ----------------------------------------------------------------------------------- */

static json_t *
trust_json(const struct sp_trust *trust)
{
	json_t *roles = json_object(), *workers = json_array(), *keys;
	const struct sp_trust_worker *w;
	const struct sp_pubkey *key;
	enum sp_role role;
	size_t i;

	for (role = 0; role < SP_ROLE_COUNT; role++) {
		if (sp_trust_threshold(trust, role) == 0)
			continue;
		keys = json_array();
		for (i = 0; i < sp_trust_key_count(trust, role); i++) {
			key = sp_trust_key(trust, role, i);
			json_array_append_new(
			    keys, json_pack("{s:s, s:s}", "id", key->id.s, "name", key->name));
		}
		json_object_set_new(roles, sp_role_word(role),
		    json_pack("{s:o, s:i}", "keys", keys, "threshold",
			(int)sp_trust_threshold(trust, role)));
	}
	for (i = 0; i < sp_trust_worker_count(trust); i++) {
		w = sp_trust_worker(trust, i);
		json_array_append_new(
		    workers, json_pack("{s:s, s:s, s:s, s:I}", "key", sp_hex_of(w->key).s, "name",
				 w->name, "service", w->service, "uid", (json_int_t)w->uid));
	}
	return json_pack("{s:s, s:o, s:I, s:o}", "expires", sp_trust_expires(trust), "roles", roles,
	    "version", (json_int_t)sp_trust_version(trust), "workers", workers);
}

enum sp_code
ctl_trust_show(struct ctl *ctl, const struct ctl_args *args, struct sp_err *err)
{
	struct sp_trust *trust = NULL;
	struct sp_hex fingerprint;
	struct sp_dsse dsse = {0};
	enum sp_code code;
	json_t *document;

	if (args->count > 0)
		code = read_document(args->words[0], &dsse, &trust, err);
	else
		code = ctl_trust(ctl, &trust, err);
	if (code != SP_OK)
		return code;
	fingerprint =
	    sp_sha256_hex(dsse.payload != NULL ? (void *)dsse.payload : "", dsse.payload_len);
	if (ctl->json) {
		document = trust_json(trust);
		json_object_set_new(document, "in_force", json_boolean(args->count == 0));
		if (args->count > 0)
			json_object_set_new(document, "fingerprint", json_string(fingerprint.s));
		ctl_out_json(document);
	} else {
		print_trust(trust);
		if (args->count > 0)
			ctl_out_print(stdout,
			    "\nfingerprint %s, %zu signature%s; not looked at: whether they hold. "
			    "`sallyctl trust init` and `update` do that.\n",
			    fingerprint.s, dsse.sig_count, dsse.sig_count == 1 ? "" : "s");
	}
	sp_dsse_clear(&dsse);
	sp_trust_free(&trust);
	return SP_OK;
}
