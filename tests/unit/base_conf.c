/* base_conf.c -- configuration files: nothing is silently ignored. */
#include "base/conf.h"
#include "base/file.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const struct sp_conf_key keys[] = {
    {"side", SP_CONF_STRING, NULL, 0, 0, "which side"},
    {"fetcherd.endpoint", SP_CONF_STRING, "https://hub", 0, 0, "of the protocol"},
    {"fetcherd.parallel", SP_CONF_INT, "4", 1, 64, "files at a time"},
    {"fetcherd.unbounded", SP_CONF_INT, NULL, 0, 0, "any integer"},
    {"fetcherd.cache_dir", SP_CONF_STRING, "/var/cache", 0, 0, "path: of downloads"},
    {"fetcherd.ca_dirs", SP_CONF_STRINGS, "/etc/ssl,/usr/ssl", 0, 0, "path: of certificates"},
    {"diode-txd.constant_rate", SP_CONF_BOOL, "true", 0, 0, "filler when idle"},
    {"diode-txd.loss", SP_CONF_REAL, "0.01", 0, 1, "expected"},
    {"diode-txd.peers", SP_CONF_STRINGS, NULL, 0, 0, "hosts"},
    {"registryd.listen", SP_CONF_STRING, NULL, 0, 0, "host:port"},
    {"registryd.local.*.name", SP_CONF_STRING, NULL, 0, 0, "served as"},
    {"registryd.local.*.dir", SP_CONF_STRING, NULL, 0, 0, "path: a model's directory"},
    {"registryd.local.*.weight", SP_CONF_INT, "7", 0, 9, "of this model"},
    {NULL, SP_CONF_STRING, NULL, 0, 0, NULL},
};

/* libconfig 1.5 loses the text of a string that the file's end cuts off; it is no leak of ours */
// NOLINTNEXTLINE(bugprone-reserved-identifier): LeakSanitizer looks for it
const char *__lsan_default_suppressions(void);
const char *
__lsan_default_suppressions(void)
{
	return "leak:strbuf_append\n";
}

static char file[] = "/tmp/sp-base-conf-XXXXXX";

static enum sp_code
load_bytes(
    const char *text, size_t len, const char *root, struct sp_conf **conf, struct sp_err *err)
{
	/* not durably: thousands are written */
	FILE *f = fopen(file, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
	return sp_conf_load(file, root, keys, conf, err);
}

static struct sp_conf *
load(const char *text, const char *root)
{
	struct sp_conf *conf = NULL;
	struct sp_err err;

	if (load_bytes(text, strlen(text), root, &conf, &err) != SP_OK)
		fail_msg("%s", err.msg);
	return conf;
}

static int
setup(void **state)
{
	int fd = mkstemp(file);

	(void)state;
	return fd < 0 ? -1 : close(fd);
}

static int
teardown(void **state)
{
	(void)state;
	return unlink(file);
}

static void
test_defaults(void **state)
{
	struct sp_conf *conf = load("# nothing\n", NULL);
	const char *names[4];
	struct sp_err err;

	(void)state;
	assert_string_equal(sp_conf_root(conf), "");
	assert_null(sp_conf_string(conf, "side"));
	assert_string_equal(sp_conf_string(conf, "fetcherd.endpoint"), "https://hub");
	assert_int_equal(sp_conf_int(conf, "fetcherd.parallel"), 4);
	assert_int_equal(sp_conf_int(conf, "fetcherd.unbounded"), 0);
	assert_string_equal(sp_conf_string(conf, "fetcherd.cache_dir"), "/var/cache");
	assert_string_equal(sp_conf_strings(conf, "fetcherd.ca_dirs", 0), "/etc/ssl");
	assert_string_equal(sp_conf_strings(conf, "fetcherd.ca_dirs", 1), "/usr/ssl");
	assert_null(sp_conf_strings(conf, "fetcherd.ca_dirs", 2));
	assert_null(sp_conf_strings(conf, "diode-txd.peers", 0));
	assert_int_equal(sp_conf_bool(conf, "diode-txd.constant_rate"), 1);
	assert_true(sp_conf_real(conf, "diode-txd.loss") == 0.01);
	assert_int_equal(sp_conf_int(conf, "registryd.local.any.weight"), 7);
	assert_int_equal(sp_conf_is_set(conf, "fetcherd.parallel"), 0);
	assert_int_equal(sp_conf_is_set(conf, "side"), 0);
	assert_int_equal(sp_conf_groups(conf, "", names, 4), 0);
	assert_int_equal(sp_conf_require(conf, "fetcherd.endpoint", &err), SP_OK);
	assert_int_equal(sp_conf_require(conf, "side", &err), SP_E_CONFIG);
	assert_non_null(strstr(err.msg, file));
	assert_non_null(strstr(err.msg, "side is not set (which side)"));
	sp_conf_free(&conf);
	assert_null(conf);
	sp_conf_free(&conf);
	sp_conf_free(NULL);
}

static void
test_values(void **state)
{
	struct sp_conf *conf = load("side = \"enclave\";\n"
				    "fetcherd: {\n"
				    "  endpoint = \"http://\" \"127.0.0.1:1\";\n"
				    "  parallel = 64;\n"
				    "  unbounded = -9223372036854775807L;\n"
				    "  cache_dir = \"/c\"; ca_dirs = (\"/x\", \"rel\")\n"
				    "}\n"
				    "diode-txd = { constant_rate = false; loss = 1; peers = [] }\n"
				    "registryd: { local: {\n"
				    "  a: { name = \"org/a\"; dir = \"/models/a\"; }\n"
				    "  b-2: { name = \"\"; weight = 0x9 }\n"
				    "  c: {}\n"
				    "} }\n",
	    "/run/demo");
	const char *names[4] = {NULL};
	struct sp_err err;

	(void)state;
	assert_string_equal(sp_conf_root(conf), "/run/demo");
	assert_string_equal(sp_conf_string(conf, "side"), "enclave");
	assert_string_equal(sp_conf_string(conf, "fetcherd.endpoint"), "http://127.0.0.1:1");
	assert_int_equal(sp_conf_int(conf, "fetcherd.parallel"), 64);
	assert_true(sp_conf_int(conf, "fetcherd.unbounded") == -INT64_MAX);
	assert_string_equal(sp_conf_string(conf, "fetcherd.cache_dir"), "/run/demo/c");
	assert_string_equal(sp_conf_strings(conf, "fetcherd.ca_dirs", 0), "/run/demo/x");
	assert_string_equal(sp_conf_strings(conf, "fetcherd.ca_dirs", 1), "rel");
	assert_null(sp_conf_strings(conf, "fetcherd.ca_dirs", 2));
	assert_int_equal(sp_conf_bool(conf, "diode-txd.constant_rate"), 0);
	assert_true(sp_conf_real(conf, "diode-txd.loss") == 1.0);
	assert_null(sp_conf_strings(conf, "diode-txd.peers", 0));
	assert_int_equal(sp_conf_is_set(conf, "diode-txd.peers"), 1);
	assert_int_equal(sp_conf_require(conf, "diode-txd.peers", &err), SP_OK);
	assert_string_equal(sp_conf_string(conf, "registryd.local.a.name"), "org/a");
	assert_string_equal(sp_conf_string(conf, "registryd.local.a.dir"), "/run/demo/models/a");
	assert_int_equal(sp_conf_int(conf, "registryd.local.a.weight"), 7);
	assert_string_equal(sp_conf_string(conf, "registryd.local.b-2.name"), "");
	assert_int_equal(sp_conf_int(conf, "registryd.local.b-2.weight"), 9);
	assert_null(sp_conf_string(conf, "registryd.local.b-2.dir"));
	assert_int_equal(sp_conf_is_set(conf, "registryd.local.b-2.name"), 1);
	assert_int_equal(sp_conf_is_set(conf, "registryd.local.a.weight"), 0);
	assert_int_equal(sp_conf_require(conf, "registryd.local.c.name", &err), SP_E_CONFIG);
	assert_non_null(strstr(err.msg, "registryd.local.c.name is not set"));

	assert_int_equal(sp_conf_groups(conf, "registryd.local", names, 4), 3);
	assert_string_equal(names[0], "a");
	assert_string_equal(names[1], "b-2");
	assert_string_equal(names[2], "c");
	names[1] = NULL;
	assert_int_equal(sp_conf_groups(conf, "registryd.local", names, 1), 3);
	assert_null(names[1]);
	assert_int_equal(sp_conf_groups(conf, "registryd.loca", names, 4), 0);
	assert_int_equal(sp_conf_groups(conf, "registryd.local.a", names, 4), 0);
	assert_int_equal(sp_conf_groups(conf, "", names, 4), 3);
	assert_string_equal(names[2], "registryd");
	sp_conf_free(&conf);
}

/* Integers that libconfig would cut to 32 bits. */
static void
test_integers(void **state)
{
	static const struct {
		const char *text;
		int64_t value;
	} cases[] = {{"2147483647", INT32_MAX}, {"2147483648", INT64_C(2147483648)},
	    {"-2147483648", INT32_MIN}, {"-2147483649", INT64_C(-2147483649)},
	    {"4294967300", INT64_C(4294967300)}, {"0xffffffff", INT64_C(4294967295)},
	    {"0x7FFFFFFFFFFFFFFF", INT64_MAX}, {"9223372036854775807", INT64_MAX},
	    {"9223372036854775807L", INT64_MAX}, {"5L", 5}, {"+7", 7}, {"0", 0}, {"010", 10}};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		char text[200];
		struct sp_conf *conf;

		snprintf(text, sizeof(text),
		    "\n# 99999999999999999999\n"
		    "fetcherd: { endpoint = \"99999999999999999999\"; unbounded=%s }",
		    cases[i].text);
		conf = load(text, NULL);
		if (sp_conf_int(conf, "fetcherd.unbounded") != cases[i].value)
			fail_msg("%s was read as %lld", cases[i].text,
			    (long long)sp_conf_int(conf, "fetcherd.unbounded"));
		assert_string_equal(
		    sp_conf_string(conf, "fetcherd.endpoint"), "99999999999999999999");
		sp_conf_free(&conf);
	}
}

static void
test_root_of_defaults(void **state)
{
	struct sp_conf *conf = load("", "/r");

	(void)state;
	assert_string_equal(sp_conf_string(conf, "fetcherd.cache_dir"), "/r/var/cache");
	assert_string_equal(sp_conf_strings(conf, "fetcherd.ca_dirs", 1), "/r/usr/ssl");
	assert_string_equal(sp_conf_string(conf, "fetcherd.endpoint"), "https://hub");
	sp_conf_free(&conf);
}

/* Each with the whole message behind the file's name. */
static const struct {
	const char *text, *says;
} faulty[] = {
    {"\nsid = \"x\";", ":2: unknown key \"sid\"; the closest known is \"side\""},
    {"fetcherd: {\n\n paralel = 4; }",
	":3: unknown key \"fetcherd.paralel\"; the closest known is \"fetcherd.parallel\""},
    {"parallel = 4;", ":1: unknown key \"parallel\"; the closest known is \"fetcherd.parallel\""},
    {"fetchrd: { parallel = 4; }",
	":1: unknown group \"fetchrd\"; the closest known is \"fetcherd\""},
    {"fetchrd: { }", ":1: unknown group \"fetchrd\"; the closest known is \"fetcherd\""},
    {"registryd: { locals: { } }",
	":1: unknown group \"registryd.locals\"; the closest known is \"registryd.local\""},
    {"registryd: { local: {\n m: {\n nam = \"x\" } } }",
	":3: unknown key \"registryd.local.m.nam\"; the closest known is "
	"\"registryd.local.m.name\""},
    {"registryd: { local: { m: { name: { x = 1 } } } }",
	":1: registryd.local.m.name must be a string in double quotes, not a group"},
    {"registryd: { local: { m: { x: { name = \"a\" } } } }",
	":1: unknown group \"registryd.local.m.x\"; the closest known is "
	"\"registryd.local.m.dir\""},
    {"registryd: { local: { m = \"x\" } }",
	":1: registryd.local.m is a group: write registryd.local.m: { ... }"},
    {"registryd: { local = [] }", ":1: registryd.local is a group: write registryd.local: { ... }"},
    {"fetcherd = 5;", ":1: fetcherd is a group: write fetcherd: { ... }"},
    {"side = 5;", ":1: side must be a string in double quotes, not an integer"},
    {"side = [ \"x\" ];", ":1: side must be a string in double quotes, not a list"},
    {"fetcherd: { parallel = \"4\" }",
	":1: fetcherd.parallel must be an integer from 1 to 64, not a string"},
    {"fetcherd: { parallel = 4.0 }",
	":1: fetcherd.parallel must be an integer from 1 to 64, not a fraction"},
    {"fetcherd: { parallel = true }",
	":1: fetcherd.parallel must be an integer from 1 to 64, not a boolean"},
    {"fetcherd: { unbounded = \"x\" }", ":1: fetcherd.unbounded must be an integer, not a string"},
    {"fetcherd: { parallel = 0 }", ":1: fetcherd.parallel is 0, allowed is 1 to 64"},
    {"fetcherd: { parallel = 65 }", ":1: fetcherd.parallel is 65, allowed is 1 to 64"},
    {"fetcherd: {\n parallel = 4294967300L }",
	":2: fetcherd.parallel is 4294967300, allowed is 1 to 64"},
    {"fetcherd: {\n parallel = 4294967300 }",
	":2: fetcherd.parallel is 4294967300, allowed is 1 to 64"},
    {"fetcherd: {\n parallel = -2147483649 }",
	":2: fetcherd.parallel is -2147483649, allowed is 1 to 64"},
    {"/* \n */ fetcherd: { unbounded = 99999999999999999999 }",
	":2: integer 99999999999999999999 does not fit 64 bits"},
    {"fetcherd: { unbounded = 0xffffffffffffffffL }",
	":1: integer 0xffffffffffffffff does not fit 64 bits"},
    {"diode-txd: { loss = 1e999 }", ":1: diode-txd.loss is inf, allowed is 0 to 1"},
    {"diode-txd: { constant_rate = 1 }",
	":1: diode-txd.constant_rate must be true or false, not an integer"},
    {"diode-txd: { constant_rate = \"true\" }",
	":1: diode-txd.constant_rate must be true or false, not a string"},
    {"diode-txd: { loss = 1.5 }", ":1: diode-txd.loss is 1.5, allowed is 0 to 1"},
    {"diode-txd: { loss = -1 }", ":1: diode-txd.loss is -1, allowed is 0 to 1"},
    {"diode-txd: { loss = \"0.5\" }",
	":1: diode-txd.loss must be a number from 0 to 1, not a string"},
    {"diode-txd: { peers = \"a\" }",
	":1: diode-txd.peers must be a list of strings: [ \"a\", \"b\" ], not a string"},
    {"diode-txd: { peers = ( \"a\", 5 ) }", ":1: element 2 of diode-txd.peers is no string"},
    {"diode-txd: { peers = [ 1, 2 ] }", ":1: element 1 of diode-txd.peers is no string"},
    {"diode-txd: { peers: { } }",
	":1: diode-txd.peers must be a list of strings: [ \"a\", \"b\" ], not a group"},
    {"side = \"x\";\nside = \"y\";", ":2: duplicate setting name"},
    {"side = \"a\nb\\\"\" /* 9 */ 9", ":2: syntax error"},
    {"side = \"x\"\n\n= 5;", ":3: syntax error"},
    {"\nside = \"x", ":2: syntax error"},
    {"fetcherd: {\n", ":2: syntax error"},
    {"side = x;", ":1: syntax error"},
    {"\n\n@include \"other.conf\"\n", ":3: @include is not supported: one file holds everything"},
    {"fetcherd: {\n \t@include \"other.conf\"\n}",
	":2: @include is not supported: one file holds everything"},
    {"@include\t\"/etc/passwd\"", ":1: @include is not supported: one file holds everything"},
    {"\nside = \"encl\\x00ave\";", ":2: NUL byte in a string"},
};

static void
test_errors(void **state)
{
	struct sp_conf *conf = NULL;
	struct sp_err err;

	(void)state;
	for (size_t i = 0; i < COUNT(faulty); i++) {
		const char *text = faulty[i].text;

		if (load_bytes(text, strlen(text), NULL, &conf, &err) != SP_E_CONFIG)
			fail_msg("%s: was not refused", text);
		assert_memory_equal(err.msg, file, strlen(file));
		if (strcmp(err.msg + strlen(file), faulty[i].says) != 0)
			fail_msg("%s\n says \"%s\"\n not  \"%s\"", text, err.msg + strlen(file),
			    faulty[i].says);
		assert_null(conf);
		assert_int_equal(load_bytes(text, strlen(text), NULL, &conf, NULL), SP_E_CONFIG);
	}
}

static void
test_hostile_files(void **state)
{
	struct sp_conf *conf = NULL;
	struct sp_err err;
	char *big;

	(void)state;
	/* NUL would hide the rest from libconfig */
	assert_int_equal(load_bytes("side = \"x\";\n\0junk", 17, NULL, &conf, &err), SP_E_CONFIG);
	assert_string_equal(err.msg + strlen(file), ":2: NUL byte");
	assert_int_equal(sp_conf_load("/tmp/none/x.conf", NULL, keys, &conf, &err), SP_E_CONFIG);
	assert_string_equal(
	    err.msg, "configuration: cannot open /tmp/none/x.conf: No such file or directory");
	assert_int_equal(sp_conf_load("/tmp", NULL, keys, &conf, &err), SP_E_CONFIG);
	assert_int_equal(sp_conf_load("/tmp/none/x.conf", NULL, keys, &conf, NULL), SP_E_CONFIG);
	big = malloc((1 << 20) + 1);
	memset(big, ' ', (1 << 20) + 1);
	assert_int_equal(load_bytes(big, (1 << 20) + 1, NULL, &conf, &err), SP_E_CONFIG);
	assert_non_null(strstr(err.msg, "larger than 1048576 bytes"));
	/* a name longer than any key */
	memset(big, 'a', 300);
	memcpy(big + 300, " = 1;", 6);
	assert_int_equal(load_bytes(big, strlen(big), NULL, &conf, &err), SP_E_CONFIG);
	assert_string_equal(
	    err.msg + strlen(file), ":1: name of a setting is longer than 255 bytes");
	free(big);
	/* a hash-mark, a word in a string: neither is an @include */
	conf = load("side = \"@include\"; # @include \"x\"\n", NULL);
	assert_string_equal(sp_conf_string(conf, "side"), "@include");
	sp_conf_free(&conf);
	/* an escaped backslash in front of x00 is no NUL */
	conf = load("side = \"a\\\\x00\";", NULL);
	assert_string_equal(sp_conf_string(conf, "side"), "a\\x00");
	sp_conf_free(&conf);
}

/* Every prefix of a good file, and every byte of it replaced: refused or read, never a crash. */
static void
test_mutations(void **state)
{
	static const char text[] =
	    "side = \"enclave\"; fetcherd: { parallel = 6; ca_dirs = [\"/x\"] }"
	    " registryd: { local: { a: { dir = \"/m\" } } }";
	static const char bytes[] = "\"{}[]()=:;\\@#/*9aL.-\n\x01\x80\xff";
	struct sp_conf *conf = NULL;
	unsigned refused = 0, read = 0;
	char copy[sizeof(text)];
	struct sp_err err;

	(void)state;
	for (size_t i = 0; i < sizeof(text) - 1; i++) {
		for (size_t j = 0; j < sizeof(bytes); j++) {
			memcpy(copy, text, sizeof(text));
			copy[i] = bytes[j];
			if (load_bytes(copy, j + 1 < sizeof(bytes) ? sizeof(text) - 1 : i, NULL,
				&conf, &err) == SP_OK) {
				read++;
				sp_conf_free(&conf);
			} else {
				refused++;
				assert_int_equal(err.code, SP_E_CONFIG);
				assert_memory_equal(err.msg, file, strlen(file));
			}
		}
	}
	assert_true(refused > read);
	assert_true(read > 0);
}

/* Runs f in a child; it must abort. */
static void
expect_abort(void (*f)(const struct sp_conf *), const struct sp_conf *conf)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		fclose(stderr);
		f(conf);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
}

static void
ask_unknown(const struct sp_conf *conf)
{
	(void)sp_conf_string(conf, "fetcherd.endpont");
}

static void
ask_other_type(const struct sp_conf *conf)
{
	(void)sp_conf_string(conf, "fetcherd.parallel");
}

static void
ask_group(const struct sp_conf *conf)
{
	(void)sp_conf_string(conf, "fetcherd");
}

static void
test_wrong_questions(void **state)
{
	struct sp_conf *conf = load("", NULL);

	(void)state;
	expect_abort(ask_unknown, conf);
	expect_abort(ask_other_type, conf);
	expect_abort(ask_group, conf);
	sp_conf_free(&conf);
}

/* The product's own table: defaults of their types, in their bounds, and no key twice. */
static void
test_own_table(void **state)
{
	struct sp_conf *conf = NULL;
	struct sp_err err;

	(void)state;
	assert_int_equal(sp_file_write(file, 0600, "", 0, &err), SP_OK);
	assert_int_equal(sp_conf_load(file, "/r", sp_conf_keys, &conf, &err), SP_OK);
	assert_memory_equal(sp_conf_string(conf, "bus.socket"), "/r/", 3);
	for (const struct sp_conf_key *key = sp_conf_keys; key->key != NULL; key++) {
		assert_non_null(key->help);
		assert_true(key->min <= key->max);
		assert_int_equal(sp_conf_is_set(conf, key->key), 0);
		for (const struct sp_conf_key *other = sp_conf_keys; other < key; other++)
			assert_string_not_equal(key->key, other->key);
	}
	sp_conf_free(&conf);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_defaults),
	    cmocka_unit_test(test_values),
	    cmocka_unit_test(test_integers),
	    cmocka_unit_test(test_root_of_defaults),
	    cmocka_unit_test(test_errors),
	    cmocka_unit_test(test_hostile_files),
	    cmocka_unit_test(test_mutations),
	    cmocka_unit_test(test_wrong_questions),
	    cmocka_unit_test(test_own_table),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
