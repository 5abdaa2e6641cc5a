/* keys.c -- key new, key show. */
#include "ctl.h"

#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The daemon that a role belongs to; NULL: a person's, or several daemons'. */
static const char *
service_of(enum sp_role role)
{
	switch (role) {
	case SP_ROLE_LOG:
		return "ledgerd";
	case SP_ROLE_FETCH:
		return "fetcherd";
	case SP_ROLE_QUANTIZE:
		return "quantd";
	case SP_ROLE_GATE:
		return "validatord";
	case SP_ROLE_RELEASE:
		return "diode-txd";
	case SP_ROLE_REGISTRY:
	case SP_ROLE_WITNESS:
		return "registryd";
	default:
		return NULL;
	}
}

/* "fetcherd@bastion" for a daemon's role where the configuration says which side this is, the
 * user's own name for root and operator keys. */
static enum sp_code
default_name(struct ctl *ctl, enum sp_role role, char **out, struct sp_err *err)
{
	const char *service = service_of(role), *side = NULL;
	const struct sp_conf *conf;
	struct passwd entry, *user = NULL;
	char buffer[4096];

	if (role == SP_ROLE_ROOT || role == SP_ROLE_OPERATOR) {
		if (getpwuid_r(getuid(), &entry, buffer, sizeof(buffer), &user) == 0 &&
		    user != NULL) {
			*out = sp_xstrdup(user->pw_name);
			return SP_OK;
		}
	}
	if (service != NULL && ctl_conf(ctl, &conf, NULL) == SP_OK)
		side = sp_conf_string(conf, "side");
	if (side == NULL)
		return ctl_usage(ctl, err,
		    "--name NAME is missing: whose key is it? SERVICE@SIDE for a daemon, as in "
		    "fetcherd@bastion");
	*out = sp_xasprintf("%s@%s", service, side);
	return SP_OK;
}

static void
print_key(struct ctl *ctl, const struct sp_pubkey *public, const char *path, int sealed)
{
	char *key = sp_base64_encode(public->bytes, SP_PUBKEY_LEN);

	if (ctl->json) {
		ctl_out_json(json_pack("{s:s, s:s, s:s, s:s, s:s, s:b}", "role",
		    sp_role_word(public->role), "name", public->name, "id", public->id.s, "key",
		    key, "file", path, "sealed", sealed));
	} else {
		ctl_out_print(stdout, "%s key of %s\n", sp_role_word(public->role), public->name);
		/* a link key has nothing to show */
		if (public->role != SP_ROLE_LINK)
			ctl_out_field(stdout, "fingerprint", "%s", public->id.s);
		ctl_out_field(stdout, "file", "%s", path);
	}
	free(key);
}

static void
next_step(const struct sp_pubkey *public, const char *path)
{
	if (public->role == SP_ROLE_LINK)
		ctl_out_print(stdout,
		    "\nNext: carry a copy of %s to the other end of the diode; both ends need it, "
		    "nobody else may have it\n",
		    path);
	else if (public->role == SP_ROLE_BUS)
		ctl_out_print(
		    stdout, "\nNext: `sallyctl trust new … --worker SERVICE:UID:%s.pub`\n", path);
	else
		ctl_out_print(stdout, "\nNext: `sallyctl trust new … --key %s.pub`\n", path);
}

enum sp_code
ctl_key_new(struct ctl *ctl, const struct ctl_args *args, struct sp_err *err)
{
	const char *name = ctl_args_get(args, "--name"), *out = ctl_args_get(args, "--out");
	char *own_name = NULL, *path = NULL, *passphrase = NULL;
	struct sp_key *key = NULL;
	enum sp_role role;
	enum sp_code code = SP_OK;

	if (!sp_role_find(args->words[0], &role))
		return ctl_usage(ctl, err,
		    "there is no role \"%.40s\"; roles are root, log, fetch, quantize, gate, "
		    "release, "
		    "operator, registry, witness, bus, link",
		    args->words[0]);
	if (name == NULL) {
		code = default_name(ctl, role, &own_name, err);
		name = own_name;
	}
	path = out != NULL ? sp_xstrdup(out) : sp_xasprintf("%s.key", sp_role_word(role));
	if (code == SP_OK)
		code = ctl_passphrase_file(ctl, &passphrase, err);
	if (code == SP_OK)
		code = sp_key_new(role, name, &key, err);
	/* the name was on the line */
	ctl->usage |= code == SP_E_INVALID && key == NULL;
	if (code == SP_OK)
		code = sp_key_save(key, path, passphrase, err);
	if (code == SP_OK) {
		print_key(ctl, sp_key_public(key), path, passphrase != NULL);
		if (passphrase == NULL && (role == SP_ROLE_ROOT || role == SP_ROLE_OPERATOR))
			fprintf(stderr,
			    "sallyctl: this key lies in clear: keep it off the daemons' hosts, or "
			    "make it anew with --passphrase-file\n");
		if (!ctl->json)
			next_step(sp_key_public(key), path);
	}
	sp_key_free(&key);
	ctl_passphrase_free(passphrase);
	free(path);
	free(own_name);
	return code;
}

static enum sp_code
load_secret(
    struct ctl *ctl, const char *path, enum sp_role role, struct sp_pubkey *out, struct sp_err *err)
{
	struct sp_key *key = NULL;
	char *passphrase;
	enum sp_code code;

	code = ctl_passphrase(ctl, path, &passphrase, err);
	if (code != SP_OK)
		return code;
	code = sp_key_load(path, role, passphrase, &key, err);
	ctl_passphrase_free(passphrase);
	if (code == SP_OK)
		*out = *sp_key_public(key);
	sp_key_free(&key);
	return code;
}

/* 0 when it can be read and is something else: whose mode and form are none of our business. */
static int
is_key_file(const char *path)
{
	static const char begin[] = "sallyport-";
	FILE *file = fopen(path, "re");
	char bytes[sizeof(begin) - 1];
	int is;

	if (file == NULL)
		return 1;
	is = fread(bytes, 1, sizeof(bytes), file) == sizeof(bytes) &&
	     memcmp(bytes, begin, sizeof(bytes)) == 0;
	fclose(file);
	return is;
}

enum sp_code
ctl_key_show(struct ctl *ctl, const struct ctl_args *args, struct sp_err *err)
{
	const char *path = args->words[0];
	struct sp_pubkey public;
	struct sp_err secret;
	enum sp_code code;
	enum sp_role role;

	if (!is_key_file(path))
		return sp_err_set(err, SP_E_INVALID,
		    "%s holds no key: a key file begins with sallyport-secret-key/1, "
		    "sallyport-sealed-key/1 or sallyport-public-key/1",
		    path);
	/* a secret file says in its first word that it is one */
	code = sp_key_role(path, &role, &secret);
	if (code == SP_OK) {
		code = load_secret(ctl, path, role, &public, err);
	} else if (sp_pubkey_load(path, &public, err) == SP_OK) {
		code = SP_OK;
	} else if (code == SP_E_DENIED) {
		*err = secret; /* a secret that others can read is the worse news */
	} else {
		code = err->code;
	}
	if (code == SP_OK)
		print_key(ctl, &public, path, sp_key_is_sealed(path));
	return code;
}
