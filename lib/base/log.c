/* log.c -- one line per event on stderr. */
#include "base/log.h"
#include "base/buf.h"
#include "base/path.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const level_words[] = {"error", "warn", "info", "debug"};

/* written once by sp_log_init before any thread starts */
static char daemon_name[64];
static int max_level = SP_LOG_INFO;

void
sp_log_init(const char *daemon, int verbose)
{
	snprintf(daemon_name, sizeof(daemon_name), "%s", daemon);
	max_level = verbose ? SP_LOG_DEBUG : SP_LOG_INFO;
}

/*
 * Text may quote what came from outside. Control characters, C1 in UTF-8 among them, would break
 * the line or steer a terminal; in text that is not UTF-8 every high byte might.
 */
static void
add_escaped(struct sp_buf *line, const char *text)
{
	const unsigned char *s = (const unsigned char *)text;
	size_t len = strlen(text), i, start = 0;
	int utf8 = sp_path_is_utf8(text, len), bad;

	for (i = 0; i < len; i++) {
		bad = s[i] < 0x20 || s[i] == 0x7f || (!utf8 && s[i] >= 0x80) ||
		      (s[i] == 0xc2 && s[i + 1] <= 0x9f) ||
		      (i > 0 && s[i - 1] == 0xc2 && s[i] <= 0x9f);
		if (!bad)
			continue;
		sp_buf_add(line, text + start, i - start);
		sp_buf_printf(line, "\\x%02x", s[i]);
		start = i + 1;
	}
	sp_buf_add(line, text + start, len - start);
}

void
sp_log(enum sp_log_level level, const char *job, const char *fmt, ...)
{
	struct sp_buf line = {0};
	int saved = errno;
	const char *at;
	char *text;
	size_t left;
	ssize_t n;
	va_list ap;

	if ((int)level > max_level)
		return;
	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	sp_buf_printf(&line, "%s %s: ", level_words[level],
	    daemon_name[0] != '\0' ? daemon_name : program_invocation_short_name);
	if (job != NULL) {
		sp_buf_puts(&line, "job=");
		add_escaped(&line, job);
		sp_buf_puts(&line, " ");
	}
	add_escaped(&line, text != NULL ? text : fmt);
	sp_buf_puts(&line, "\n");
	/* one write, so that lines of threads and children do not mix; a log that cannot be
	 * written must not stop the work */
	at = (const char *)line.data;
	left = line.len;
	while (left > 0) {
		n = write(STDERR_FILENO, at, left);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		at += n;
		left -= (size_t)n;
	}
	free(text);
	sp_buf_free(&line);
	errno = saved;
}
