/* ctl.c -- configuration, trust, ledgerd, questions to the operator. */
#include "ctl.h"
#include "base/path.h"
#include "base/time.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#define REPLY_MS 5000 /* how long ledgerd may take to answer, beside what it was asked to wait */
#define PASSPHRASE_MAX 1024

int
ctl_exit_status(enum sp_code code, int usage)
{
	switch (code) {
	case SP_OK:
		return CTL_EXIT_OK;
	case SP_E_DENIED:
	case SP_E_BLOCKED:
		return CTL_EXIT_DENIED;
	case SP_E_UNREACHABLE:
		return CTL_EXIT_UNREACHABLE;
	default:
		return usage ? CTL_EXIT_USAGE : CTL_EXIT_FAILED;
	}
}

json_t *
ctl_error_json(const struct sp_err *err)
{
	char *clean = ctl_out_clean(err->msg);
	json_t *obj = json_pack("{s:s, s:s}", "code", sp_err_word(err->code), "message", clean);

	free(clean);
	return obj;
}

enum sp_code
ctl_usage(struct ctl *ctl, struct sp_err *err, const char *fmt, ...)
{
	char text[SP_ERR_MSG_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	ctl->usage = 1;
	return sp_err_set(err, SP_E_INVALID, "%s", text);
}

/* --- configuration, trust, ledgerd ---------------------------------------------------------- */

enum sp_code
ctl_conf(struct ctl *ctl, const struct sp_conf **out, struct sp_err *err)
{
	enum sp_code code = SP_OK;
	char *path;

	if (ctl->conf == NULL) {
		path = ctl->args->conf != NULL
			   ? sp_xstrdup(ctl->args->conf)
			   : sp_path_join(ctl->root, "/etc/sallyport/sallyport.conf");
		code = sp_conf_load(path, ctl->root, sp_conf_keys, &ctl->conf, err);
		free(path);
	}
	*out = ctl->conf;
	return code;
}

enum sp_code
ctl_trust_dir(struct ctl *ctl, char **out, struct sp_err *err)
{
	const char *dir = ctl_args_get(ctl->args, "--trust");
	const struct sp_conf *conf;
	enum sp_code code;

	if (dir == NULL) {
		code = ctl_conf(ctl, &conf, err);
		if (code != SP_OK)
			return code;
		dir = sp_conf_string(conf, "trust.dir");
	}
	*out = sp_xstrdup(dir);
	return SP_OK;
}

enum sp_code
ctl_trust(struct ctl *ctl, struct sp_trust **out, struct sp_err *err)
{
	enum sp_code code;
	char *dir;

	*out = NULL;
	code = ctl_trust_dir(ctl, &dir, err);
	if (code != SP_OK)
		return code;
	code = sp_trust_load(dir, sp_time_unix_ms(), out, err);
	free(dir);
	return code;
}

enum sp_code
ctl_ask(struct ctl *ctl, Sallyport__OperatorRequest *request, int wait_ms,
    Sallyport__OperatorReply__BodyCase want, Sallyport__OperatorReply **reply, struct sp_err *err)
{
	const struct sp_conf *conf;
	enum sp_code code;

	if (ctl->client == NULL) {
		code = ctl_conf(ctl, &conf, err);
		if (code == SP_OK)
			code = ctl_client_open(
			    sp_conf_string(conf, "bus.operators"), &ctl->client, err);
		if (code != SP_OK)
			return code;
	}
	code = ctl_client_ask(ctl->client, request, wait_ms + REPLY_MS, reply, err);
	if (code == SP_OK && (*reply)->body_case != want) {
		code = sp_err_set(err, SP_E_INVALID,
		    "ledgerd answered something else than was asked: install the same release of "
		    "ledgerd and sallyctl");
		sallyport__operator_reply__free_unpacked(*reply, NULL);
		*reply = NULL;
	}
	return code;
}

/* --- the terminal --------------------------------------------------------------------------- */

enum sp_code
ctl_confirm(struct ctl *ctl, const char *question, struct sp_err *err)
{
	char answer[16];

	if (ctl_args_get(ctl->args, "--yes") != NULL)
		return SP_OK;
	if (!isatty(STDIN_FILENO))
		return ctl_usage(
		    ctl, err, "there is no terminal to ask on: give --yes when this is meant");
	fprintf(stderr, "%s [y/N] ", question);
	fflush(stderr);
	if (fgets(answer, sizeof(answer), stdin) != NULL &&
	    (strcmp(answer, "y\n") == 0 || strcmp(answer, "yes\n") == 0))
		return SP_OK;
	return sp_err_set(err, SP_E_CANCELLED, "nothing was done");
}

void
ctl_passphrase_free(char *passphrase)
{
	if (passphrase != NULL)
		sodium_free(passphrase);
}

static volatile sig_atomic_t caught; /* a signal that waits for the echo to be back */

static void
on_signal(int number)
{
	caught = number;
}

/* One line from fd into secured memory, without its newline. */
static enum sp_code
read_line(int fd, const char *what, char **out, struct sp_err *err)
{
	char *line;
	size_t len = 0;
	ssize_t n;

	SP_ASSERT(sodium_init() >= 0);
	line = sodium_malloc(PASSPHRASE_MAX + 1);
	SP_ASSERT(line != NULL);
	while (len <= PASSPHRASE_MAX) {
		n = read(fd, line + len, 1);
		if (n < 0 && errno == EINTR && caught == 0)
			continue;
		if (n <= 0 || line[len] == '\n')
			break;
		len++;
	}
	if (len == 0 || len > PASSPHRASE_MAX) {
		sodium_free(line);
		return sp_err_set(err, SP_E_INVALID,
		    "%s: a passphrase is one line of 1 to %d bytes", what, PASSPHRASE_MAX);
	}
	line[len] = '\0';
	if (strlen(line) != len) {
		sodium_free(line);
		return sp_err_set(err, SP_E_INVALID, "%s: a passphrase has no NUL byte", what);
	}
	*out = line;
	return SP_OK;
}

enum sp_code
ctl_passphrase_file(struct ctl *ctl, char **out, struct sp_err *err)
{
	const char *path = ctl_args_get(ctl->args, "--passphrase-file");
	enum sp_code code;
	struct stat st;
	int fd;

	*out = NULL;
	if (path == NULL)
		return SP_OK;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) != 0)
		code = sp_err_errno(err, "cannot open the passphrase file %s", path);
	else if ((st.st_mode & 077) != 0)
		code = sp_err_set(err, SP_E_DENIED,
		    "%s: mode %04o lets others read the passphrase; chmod 0400 it", path,
		    (unsigned)(st.st_mode & 07777));
	else
		code = read_line(fd, path, out, err);
	if (fd >= 0)
		close(fd);
	return code;
}

/* With the echo off; whatever ends us ends us after it is on again. */
static enum sp_code
read_quietly(int fd, const char *what, char **out, struct sp_err *err)
{
	static const int ends[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
	enum { COUNT = sizeof(ends) / sizeof(ends[0]) };
	struct sigaction ours = {.sa_handler = on_signal}, old[COUNT];
	struct termios before, quiet;
	enum sp_code code;
	size_t i;

	if (tcgetattr(fd, &before) != 0)
		return sp_err_errno(err, "cannot silence the terminal");
	for (i = 0; i < COUNT; i++)
		sigaction(ends[i], &ours, &old[i]);
	quiet = before;
	quiet.c_lflag &= ~(tcflag_t)ECHO;
	tcsetattr(fd, TCSAFLUSH, &quiet);
	code = read_line(fd, what, out, err);
	tcsetattr(fd, TCSAFLUSH, &before);
	for (i = 0; i < COUNT; i++)
		sigaction(ends[i], &old[i], NULL);
	if (caught != 0)
		raise(caught);
	return code;
}

/* Asks on the terminal. */
static enum sp_code
ask_passphrase(const char *key_path, char **out, struct sp_err *err)
{
	enum sp_code code;
	int fd;

	fd = open("/dev/tty", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return sp_err_set(err, SP_E_DENIED,
		    "%s is sealed with a passphrase and there is no terminal to ask on: give "
		    "--passphrase-file",
		    key_path);
	dprintf(fd, "Passphrase of %s: ", key_path);
	code = read_quietly(fd, key_path, out, err);
	dprintf(fd, "\n");
	close(fd);
	return code;
}

enum sp_code
ctl_passphrase(struct ctl *ctl, const char *key_path, char **out, struct sp_err *err)
{
	enum sp_code code = ctl_passphrase_file(ctl, out, err);

	if (code != SP_OK || *out != NULL || !sp_key_is_sealed(key_path))
		return code;
	return ask_passphrase(key_path, out, err);
}

/* --- names ---------------------------------------------------------------------------------- */

enum sp_code
ctl_model_name(struct ctl *ctl, const char *text, char name[SP_NAME_MAX + 1], int64_t *version,
    struct sp_err *err)
{
	const char *sign = strrchr(text, '@');
	size_t len = sign != NULL ? (size_t)(sign - text) : strlen(text);
	char *end;

	*version = 0;
	if (len == 0 || len > SP_NAME_MAX)
		return ctl_usage(ctl, err, "a model is named NAME or NAME@VERSION");
	memcpy(name, text, len);
	name[len] = '\0';
	if (sign == NULL)
		return SP_OK;
	errno = 0;
	*version = strtoll(sign + 1, &end, 10);
	if (errno != 0 || *end != '\0' || sign[1] < '1' || sign[1] > '9')
		return ctl_usage(
		    ctl, err, "\"%.60s\": the version behind @ is a number from 1 on", text);
	return SP_OK;
}
