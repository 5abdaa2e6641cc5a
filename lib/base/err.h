/* err.h -- error codes and messages that travel up to a person. */
#ifndef SP_ERR_H
#define SP_ERR_H

#include <stdarg.h>
#include <stddef.h>

/*
 * Every code, once: enum member, the word used in logs, replies and tests, and whether the same
 * attempt can succeed later without anybody changing anything (drives retries of a step).
 */
#define SP_CODES(X)                                                                              \
	X(SP_OK, "ok", 0)                                                                        \
	X(SP_E_INVALID, "invalid", 0)	      /* input breaks a rule: names the field */         \
	X(SP_E_UNSUPPORTED, "unsupported", 0) /* well-formed, but not something we do */         \
	X(SP_E_LIMIT, "limit", 0)	      /* larger than limits.h allows */                  \
	X(SP_E_CORRUPT, "corrupt", 0)	      /* bytes differ from the digest that names them */ \
	X(SP_E_DENIED, "denied", 0)	      /* signature, role or permission missing */        \
	X(SP_E_BLOCKED, "blocked", 0)	      /* a gate said no */                               \
	X(SP_E_NOT_FOUND, "not-found", 0)     /* no such file, job, model, key */                \
	X(SP_E_EXISTS, "exists", 0)	      /* already there and must not be replaced */       \
	X(SP_E_STATE, "state", 0)	      /* not possible in the state the job is in */      \
	X(SP_E_CONFIG, "config", 0)	      /* the operator must change the configuration */   \
	X(SP_E_IO, "io", 1)		      /* the operating system refused: disk, socket */   \
	X(SP_E_NO_SPACE, "no-space", 1)	      /* disk full */                                    \
	X(SP_E_NO_MEMORY, "no-memory", 1)                                                        \
	X(SP_E_TIMEOUT, "timeout", 1)                                                            \
	X(SP_E_UNREACHABLE, "unreachable", 1) /* the peer does not answer */                     \
	X(SP_E_INCOMPLETE, "incomplete", 1)   /* more data needed: a later pass may bring it */  \
	X(SP_E_CANCELLED, "cancelled", 0)                                                        \
	X(SP_E_INTERNAL, "internal", 1) /* a child died; never for programmer errors */

enum sp_code {
#define X(id, word, retry) id,
	SP_CODES(X)
#undef X
	    SP_CODE_COUNT
};

#define SP_ERR_MSG_MAX 512

/* Filled on failure only. msg: what happened, which file, job or field, what to do next. */
struct sp_err {
	enum sp_code code;
	char msg[SP_ERR_MSG_MAX];
};

#define SP_MUST_USE __attribute__((warn_unused_result))
#define SP_PRINTF(f, a) __attribute__((format(printf, f, a)))

/* Sets err (may be NULL) and returns code, so that callers write `return sp_err_set(...)`. */
enum sp_code
sp_err_set(struct sp_err *err, enum sp_code code, const char *fmt, ...) SP_PRINTF(3, 4);

/* As sp_err_set, with ": strerror(errno)" appended; ENOSPC and EDQUOT become SP_E_NO_SPACE,
 * ENOENT SP_E_NOT_FOUND, EEXIST SP_E_EXISTS, ENOMEM SP_E_NO_MEMORY, else SP_E_IO. */
enum sp_code sp_err_errno(struct sp_err *err, const char *fmt, ...) SP_PRINTF(2, 3);

/* Puts "context: " in front of the message err already holds; returns err->code. */
enum sp_code sp_err_prefix(struct sp_err *err, const char *fmt, ...) SP_PRINTF(2, 3);
/* Puts the text behind it: what to do next. */
enum sp_code sp_err_suffix(struct sp_err *err, const char *fmt, ...) SP_PRINTF(2, 3);

const char *sp_err_word(enum sp_code code);	 /* "invalid", … ; static */
enum sp_code sp_err_from_word(const char *word); /* SP_E_INTERNAL when unknown */
int sp_err_may_retry(enum sp_code code);

/* Always-on assertion: programmer errors only, never input. Prints file, line, text and aborts. */
#define SP_ASSERT(cond)                                          \
	do {                                                     \
		if (!(cond))                                     \
			sp_err_abort(__FILE__, __LINE__, #cond); \
	} while (0)
_Noreturn void sp_err_abort(const char *file, int line, const char *text);

/* Allocation that cannot fail quietly: abort with a message when memory is gone. For small,
 * bounded sizes; a size that input controls goes through malloc and SP_E_NO_MEMORY. */
void *sp_xcalloc(size_t count, size_t size);
void *sp_xrealloc(void *old, size_t count, size_t size);
char *sp_xstrdup(const char *text);
char *sp_xasprintf(const char *fmt, ...) SP_PRINTF(1, 2);
char *sp_xvasprintf(const char *fmt, va_list ap) SP_PRINTF(1, 0);

#endif
