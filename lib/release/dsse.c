/*
 * dsse.c -- DSSE v1 envelopes, JSON form:
 *
 *	{"payload": base64, "payloadType": TEXT, "signatures": [{"keyid": hex, "sig": base64}, …]}
 *
 * Canonical JSON (base/json.h), exactly these fields, signatures in ascending order of keyid, so
 * that what an envelope says has one spelling and its SHA-256 names it. A keyid is the fingerprint
 * of the key; it only helps to find the key and is believed after the signature was checked.
 */
#include "release/dsse.h"
#include "base/json.h"

#include <stdlib.h>
#include <string.h>

#define TYPE_MAX 128 /* bytes of a payload type */

void
sp_dsse_pae(struct sp_buf *out, const char *type, const void *body, size_t len)
{
	sp_buf_printf(out, "DSSEv1 %zu %s %zu ", strlen(type), type, len);
	sp_buf_add(out, body, len);
}

static void
sign(const struct sp_key *key, const char *type, const void *payload, size_t len,
    struct sp_dsse_sig *out)
{
	struct sp_buf pae = {0};

	sp_dsse_pae(&pae, type, payload, len);
	out->keyid = sp_key_public(key)->id;
	sp_key_sign(key, pae.data, pae.len, out->sig);
	sp_buf_free(&pae);
}

/* Puts sig where its keyid belongs. */
static enum sp_code
insert(struct sp_dsse *dsse, const struct sp_dsse_sig *sig, struct sp_err *err)
{
	size_t i;
	int order;

	for (i = 0; i < dsse->sig_count; i++) {
		order = strcmp(dsse->sigs[i].keyid.s, sig->keyid.s);
		if (order == 0)
			return sp_err_set(err, SP_E_EXISTS,
			    "the key %.16s… has signed this already", sig->keyid.s);
		if (order > 0)
			break;
	}
	if (dsse->sig_count == SP_DSSE_SIGS_MAX)
		return sp_err_set(err, SP_E_LIMIT, "the envelope has %d signatures: no more fit",
		    SP_DSSE_SIGS_MAX);
	memmove(&dsse->sigs[i + 1], &dsse->sigs[i], (dsse->sig_count - i) * sizeof(*sig));
	dsse->sigs[i] = *sig;
	dsse->sig_count++;
	return SP_OK;
}

enum sp_code
sp_dsse_cosign(struct sp_dsse *dsse, const struct sp_key *key, struct sp_err *err)
{
	struct sp_dsse_sig sig;

	sign(key, dsse->payload_type, dsse->payload, dsse->payload_len, &sig);
	return insert(dsse, &sig, err);
}

enum sp_code
sp_dsse_merge(struct sp_dsse *dsse, const struct sp_dsse *from, struct sp_err *err)
{
	struct sp_dsse merged = *dsse;
	enum sp_code code;
	size_t i;

	if (strcmp(dsse->payload_type, from->payload_type) != 0 ||
	    dsse->payload_len != from->payload_len ||
	    memcmp(dsse->payload, from->payload, from->payload_len) != 0)
		return sp_err_set(err, SP_E_INVALID,
		    "the signature is over something else than what was to be signed; fetch that "
		    "again and sign it");
	for (i = 0; i < from->sig_count; i++) {
		code = insert(&merged, &from->sigs[i], err);
		if (code != SP_OK)
			return code;
	}
	/* all or nothing; payload and type are the same pointers as before */
	*dsse = merged;
	return SP_OK;
}

static json_t *
sig_json(const struct sp_dsse_sig *sig)
{
	char *text = sp_base64_encode(sig->sig, sizeof(sig->sig));
	json_t *obj = json_pack("{s:s, s:s}", "keyid", sig->keyid.s, "sig", text);

	free(text);
	return obj;
}

enum sp_code
sp_dsse_format(const struct sp_dsse *dsse, char **envelope, size_t *len, struct sp_err *err)
{
	enum sp_code code = SP_OK;
	json_t *root, *sigs;
	char *payload;
	size_t i;

	if (dsse->sig_count == 0)
		return sp_err_set(err, SP_E_INVALID, "an envelope needs a signature");
	payload = sp_base64_encode(dsse->payload, dsse->payload_len);
	sigs = json_array();
	for (i = 0; i < dsse->sig_count; i++)
		json_array_append_new(sigs, sig_json(&dsse->sigs[i]));
	root = json_pack("{s:s, s:s, s:o}", "payload", payload, "payloadType", dsse->payload_type,
	    "signatures", sigs);
	if (root == NULL)
		code = sp_err_set(err, SP_E_INVALID, "the payload type is not UTF-8");
	else
		*envelope = sp_json_canonical(root, len);
	json_decref(root);
	free(payload);
	return code;
}

enum sp_code
sp_dsse_sign(const struct sp_key *key, const char *type, const void *payload, size_t len,
    char **envelope, size_t *envelope_len, struct sp_err *err)
{
	struct sp_dsse dsse = {0};
	enum sp_code code;

	dsse.payload_type = sp_xstrdup(type);
	dsse.payload = sp_xrealloc(NULL, len + 1, 1);
	if (len > 0)
		memcpy(dsse.payload, payload, len);
	dsse.payload[len] = '\0';
	dsse.payload_len = len;
	code = sp_dsse_cosign(&dsse, key, err);
	if (code == SP_OK)
		code = sp_dsse_format(&dsse, envelope, envelope_len, err);
	sp_dsse_clear(&dsse);
	return code;
}

/* --- parsing -------------------------------------------------------------------------------- */

static enum sp_code
parse_sig(const json_t *obj, struct sp_dsse_sig *out, struct sp_err *err)
{
	const char *keyid, *text;
	enum sp_code code;
	uint8_t *sig;
	size_t len;

	code = sp_json_string(obj, "keyid", &keyid, err);
	if (code == SP_OK)
		code = sp_json_string(obj, "sig", &text, err);
	if (code != SP_OK)
		return code;
	if (json_object_size(obj) != 2)
		return sp_err_set(
		    err, SP_E_INVALID, "a signature has fields other than keyid, sig");
	if (!sp_hex_is_digest(keyid))
		return sp_err_set(err, SP_E_INVALID, "a keyid must be 64 lower-case hex digits");
	memcpy(out->keyid.s, keyid, sizeof(out->keyid.s));
	sig = sp_base64_decode(text, strlen(text), &len);
	if (sig == NULL || len != SP_SIG_LEN) {
		free(sig);
		return sp_err_set(err, SP_E_INVALID,
		    "the signature of %.16s… is not the base64 of %d bytes", keyid, SP_SIG_LEN);
	}
	memcpy(out->sig, sig, SP_SIG_LEN);
	free(sig);
	return SP_OK;
}

static enum sp_code
parse_sigs(const json_t *sigs, struct sp_dsse *out, struct sp_err *err)
{
	size_t i, count = json_array_size(sigs);
	enum sp_code code;

	if (count == 0 || count > SP_DSSE_SIGS_MAX)
		return sp_err_set(err, SP_E_INVALID, "an envelope has 1 to %d signatures, not %zu",
		    SP_DSSE_SIGS_MAX, count);
	for (i = 0; i < count; i++) {
		code = parse_sig(json_array_get(sigs, i), &out->sigs[i], err);
		if (code != SP_OK)
			return code;
		if (i > 0 && strcmp(out->sigs[i - 1].keyid.s, out->sigs[i].keyid.s) >= 0)
			return sp_err_set(err, SP_E_INVALID,
			    "signatures must be in ascending order of keyid, none twice");
		out->sig_count++;
	}
	return SP_OK;
}

static enum sp_code
parse_fields(const json_t *root, struct sp_dsse *out, struct sp_err *err)
{
	const char *payload, *type;
	enum sp_code code;
	json_t *sigs;

	code = sp_json_string(root, "payload", &payload, err);
	if (code == SP_OK)
		code = sp_json_string(root, "payloadType", &type, err);
	if (code == SP_OK)
		code = sp_json_array(root, "signatures", &sigs, err);
	if (code != SP_OK)
		return code;
	if (json_object_size(root) != 3)
		return sp_err_set(
		    err, SP_E_INVALID, "it has fields other than payload, payloadType, signatures");
	if (strlen(type) == 0 || strlen(type) > TYPE_MAX)
		return sp_err_set(err, SP_E_INVALID, "payloadType must be 1 to %d bytes", TYPE_MAX);
	out->payload = sp_base64_decode(payload, strlen(payload), &out->payload_len);
	if (out->payload == NULL)
		return sp_err_set(err, SP_E_INVALID, "payload is not strict base64");
	out->payload_type = sp_xstrdup(type);
	return parse_sigs(sigs, out, err);
}

enum sp_code
sp_dsse_parse(const uint8_t *data, size_t len, struct sp_dsse *out, struct sp_err *err)
{
	json_t *root = NULL;
	struct sp_err inner;
	enum sp_code code;

	memset(out, 0, sizeof(*out));
	code = sp_json_parse_canonical(data, len, "DSSE envelope", &root, err);
	if (code != SP_OK)
		return code;
	code = parse_fields(root, out, &inner);
	json_decref(root);
	if (code != SP_OK) {
		sp_dsse_clear(out);
		return sp_err_set(err, code, "DSSE envelope: %s", inner.msg);
	}
	return SP_OK;
}

void
sp_dsse_clear(struct sp_dsse *dsse)
{
	free(dsse->payload_type);
	free(dsse->payload);
	memset(dsse, 0, sizeof(*dsse));
}
