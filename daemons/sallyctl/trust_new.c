/* trust_new.c -- a trust document put together. */
#include "trust_new.h"
#include "base/json.h"
#include "base/time.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum sp_code
ctl_trust_expiry(const char *text, char out[25], struct sp_err *err)
{
	size_t len = strlen(text);

	if (len == 10)
		snprintf(out, 25, "%sT00:00:00.000Z", text);
	else if (len == 20 && text[19] == 'Z')
		snprintf(out, 25, "%.19s.000Z", text);
	else
		snprintf(out, 25, "%s", text);
	if (len > 24 || sp_time_parse_rfc3339(out) < 0)
		return sp_err_set(err, SP_E_INVALID,
		    "\"%.40s\" is no date: 2027-01-31, or 2027-01-31T12:00:00Z", text);
	return SP_OK;
}

enum sp_code
ctl_trust_worker(const char *text, struct sp_trust_worker *out, struct sp_err *err)
{
	const char *uid = strchr(text, ':'), *path = uid != NULL ? strchr(uid + 1, ':') : NULL;
	struct sp_pubkey public;
	enum sp_code code;
	char *end;

	memset(out, 0, sizeof(*out));
	if (path == NULL || uid == text || (size_t)(uid - text) >= sizeof(out->service))
		return sp_err_set(err, SP_E_INVALID,
		    "\"%.60s\": a worker is SERVICE:UID:PUBFILE, as in fetcherd:-1:bus.key.pub",
		    text);
	memcpy(out->service, text, (size_t)(uid - text));
	errno = 0;
	out->uid = strtoll(uid + 1, &end, 10);
	if (errno != 0 || end != path || end == uid + 1 || out->uid < -1 || out->uid > UINT32_MAX)
		return sp_err_set(
		    err, SP_E_INVALID, "\"%.60s\": the uid is a number, -1 for any", text);
	code = sp_pubkey_load(path + 1, &public, err);
	if (code != SP_OK)
		return code;
	if (public.role != SP_ROLE_BUS)
		return sp_err_set(err, SP_E_INVALID,
		    "%s is a key of the role %s, a worker needs one of "
		    "the role bus",
		    path + 1, sp_role_word(public.role));
	memcpy(out->name, public.name, sizeof(out->name));
	memcpy(out->key, public.bytes, sizeof(out->key));
	return SP_OK;
}

enum sp_code
ctl_trust_threshold(const char *text, unsigned thresholds[SP_ROLE_COUNT], struct sp_err *err)
{
	const char *equals = strchr(text, '=');
	enum sp_role role;
	char word[16], *end;
	unsigned long k;

	if (equals == NULL || (size_t)(equals - text) >= sizeof(word))
		return sp_err_set(
		    err, SP_E_INVALID, "\"%.40s\": a threshold is ROLE=K, as in operator=2", text);
	memcpy(word, text, (size_t)(equals - text));
	word[equals - text] = '\0';
	if (!sp_role_find(word, &role) || role == SP_ROLE_BUS || role == SP_ROLE_LINK)
		return sp_err_set(
		    err, SP_E_INVALID, "\"%.40s\": no role of that name has a threshold", text);
	errno = 0;
	k = strtoul(equals + 1, &end, 10);
	if (errno != 0 || *end != '\0' || equals[1] < '0' || equals[1] > '9' || k < 1 || k > 1000)
		return sp_err_set(err, SP_E_INVALID, "\"%.40s\": the threshold is 1 or more", text);
	thresholds[role] = (unsigned)k;
	return SP_OK;
}

static int
by_id(const void *a, const void *b)
{
	const struct sp_pubkey *x = a, *y = b;

	return strcmp(x->id.s, y->id.s);
}

static int
by_name(const void *a, const void *b)
{
	const struct sp_trust_worker *x = a, *y = b;

	return strcmp(x->name, y->name);
}

static json_t *
role_json(const struct ctl_trust_parts *parts, enum sp_role role)
{
	json_t *keys = json_array();
	const struct sp_pubkey *key;
	char *text;
	size_t i;

	for (i = 0; i < parts->key_count; i++) {
		key = &parts->keys[i];
		if (key->role != role)
			continue;
		text = sp_base64_encode(key->bytes, sizeof(key->bytes));
		json_array_append_new(keys,
		    json_pack("{s:s, s:s, s:s}", "id", key->id.s, "key", text, "name", key->name));
		free(text);
	}
	return json_pack("{s:o, s:i}", "keys", keys, "threshold", (int)parts->thresholds[role]);
}

static json_t *
workers_json(const struct ctl_trust_parts *parts)
{
	const struct sp_trust_worker *w;
	json_t *list = json_array();
	char *text;
	size_t i;

	for (i = 0; i < parts->worker_count; i++) {
		w = &parts->workers[i];
		text = sp_base64_encode(w->key, sizeof(w->key));
		json_array_append_new(
		    list, json_pack("{s:s, s:s, s:s, s:I}", "key", text, "name", w->name, "service",
			      w->service, "uid", (json_int_t)w->uid));
		free(text);
	}
	return list;
}

/* Every key's role has a threshold, and the other way round: nothing is trusted by accident. */
static enum sp_code
check_roles(const struct ctl_trust_parts *parts, struct sp_err *err)
{
	size_t i, count[SP_ROLE_COUNT] = {0};
	enum sp_role role;

	for (i = 0; i < parts->key_count; i++) {
		role = parts->keys[i].role;
		if (role == SP_ROLE_BUS)
			return sp_err_set(err, SP_E_INVALID,
			    "the bus key of %s belongs to a worker: give it with --worker",
			    parts->keys[i].name);
		if (parts->thresholds[role] == 0)
			return sp_err_set(err, SP_E_INVALID,
			    "there is a %s key (%s): say with --threshold %s=K how many must sign",
			    sp_role_word(role), parts->keys[i].name, sp_role_word(role));
		count[role]++;
	}
	for (role = 0; role < SP_ROLE_COUNT; role++)
		if (parts->thresholds[role] > count[role])
			return sp_err_set(err, SP_E_INVALID,
			    "the threshold of %s is %u, but %zu of its keys are given",
			    sp_role_word(role), parts->thresholds[role], count[role]);
	return SP_OK;
}

enum sp_code
ctl_trust_format(struct ctl_trust_parts *parts, char **payload, size_t *len, struct sp_err *err)
{
	struct sp_trust *trust = NULL;
	json_t *root, *roles;
	enum sp_role role;
	enum sp_code code;

	code = check_roles(parts, err);
	if (code != SP_OK)
		return code;
	if (parts->key_count > 1)
		qsort(parts->keys, parts->key_count, sizeof(*parts->keys), by_id);
	if (parts->worker_count > 1)
		qsort(parts->workers, parts->worker_count, sizeof(*parts->workers), by_name);
	roles = json_object();
	for (role = 0; role < SP_ROLE_COUNT; role++)
		if (parts->thresholds[role] > 0)
			json_object_set_new(roles, sp_role_word(role), role_json(parts, role));
	root = json_pack("{s:s, s:o, s:s, s:I, s:o}", "expires", parts->expires, "roles", roles,
	    "type", "sallyport-trust/1", "version", (json_int_t)parts->version, "workers",
	    workers_json(parts));
	SP_ASSERT(root != NULL);
	*payload = sp_json_canonical(root, len);
	json_decref(root);
	/* what nobody could read must not be signed */
	code = sp_trust_parse((const uint8_t *)*payload, *len, &trust, err);
	sp_trust_free(&trust);
	if (code != SP_OK) {
		free(*payload);
		*payload = NULL;
	}
	return code;
}
