/*
 * client.h -- asking a Hugging Face hub (libcurl): model, list of files, files.
 *
 * Redirects are followed one at a time: the token goes to the endpoint's own origin and nowhere
 * else, nothing leads from https to http, and a hub that is not inside of our network itself cannot
 * lead into it (hub/address.h; through a proxy, which looks names up itself, only addresses that
 * are written out are seen). A client belongs to one thread.
 */
#ifndef SP_CLIENT_H
#define SP_CLIENT_H

#include "hub/answer.h"

struct sp_client;

struct sp_client_options {
	const char *endpoint; /* "https://huggingface.co", without a '/' at its end */
	int dataset;	      /* repositories are of data sets: /api/datasets/…, /datasets/… */
	const char *token;    /* may be NULL */
	const char *ca_file;  /* may be NULL: the system's */
	/* "http://host:port" or "https://…", through which everything goes; NULL: none, whatever
	 * the environment says. proxy_auth: "user:password", may be NULL. */
	const char *proxy, *proxy_auth;
	unsigned stall_s; /* an answer without bytes for so long has failed; 0: 60 */
	/* How often model and tree are asked for while the hub says "not now" or nothing (0: once),
	 * and how long to wait before the second time, where it does not say; doubles. */
	unsigned tries;
	int64_t backoff_ms;
	/* Asked now and then; 1 ends what runs with SP_E_CANCELLED. May be NULL. */
	int (*cancelled)(void *ctx);
	/* Told now and then while it waits for the next try. May be NULL. */
	void (*waiting)(void *ctx);
	void *ctx;
};

/* SP_E_CONFIG when endpoint or proxy is no http(s) URL of a host. */
enum sp_code sp_client_new(const struct sp_client_options *options, struct sp_client **out,
    struct sp_err *err) SP_MUST_USE;
void sp_client_free(struct sp_client **client);

enum sp_code sp_client_model(struct sp_client *client, const char *repo, const char *revision,
    struct sp_answer_model *out, struct sp_err *err) SP_MUST_USE;
/* All pages; out->keeps chooses what is taken. Clear out with sp_answer_tree_clear, also after a
 * failure. */
enum sp_code sp_client_tree(struct sp_client *client, const char *repo, const char *commit,
    struct sp_answer_tree *out, struct sp_err *err) SP_MUST_USE;

/* Gets the next bytes of a file; what it returns ends the transfer unless SP_OK. */
typedef enum sp_code sp_client_sink(void *ctx, const void *data, size_t len, struct sp_err *err);
/* Streams a file into sink and checks size and hash (LFS: SHA-256, else git blob) while it does.
 * Whoever keeps the bytes may do so only after SP_OK; SP_E_CORRUPT names the file. */
enum sp_code sp_client_file(struct sp_client *client, const char *repo, const char *commit,
    const struct sp_answer_file *file, sp_client_sink *sink, void *ctx,
    struct sp_err *err) SP_MUST_USE;

/* Where a file lies, as its parts find out: what redirects lead to is asked at once for the next
 * part, and its entity tag ties the parts together. Thread-safe: several clients get parts of one
 * file at the same time. */
struct sp_client_target;
struct sp_client_target *sp_client_target_new(void);
void sp_client_target_free(struct sp_client_target **target);

struct sp_client_taker {
	/* Once, before the first byte. whole: the hub does not do parts, it sends all of the file
	 * from its first byte. What it returns ends the transfer unless SP_OK. */
	enum sp_code (*begin)(void *ctx, int whole, struct sp_err *err);
	sp_client_sink *sink;
	void *ctx;
};

/* Streams bytes [offset, offset + length) of a file, which has them. Nothing is known of their
 * hash. SP_OK: all of them were given to the taker. SP_E_CORRUPT: the hub sends something else than
 * the listing says, or than it sent before: what there is of the file is worth nothing. Where a
 * redirect led is asked for anew when it is refused there, as signed URLs are after some time. */
enum sp_code sp_client_part(struct sp_client *client, const char *repo, const char *commit,
    const struct sp_answer_file *file, struct sp_client_target *target, uint64_t offset,
    uint64_t length, const struct sp_client_taker *taker, struct sp_err *err) SP_MUST_USE;

/* How long the hub has asked to be left alone when it last answered with a failure, in ms; -1: it
 * has not said. */
int64_t sp_client_hint_ms(const struct sp_client *client);
/* How long the last answer took to begin, in ms. */
int64_t sp_client_latency_ms(const struct sp_client *client);

#endif
