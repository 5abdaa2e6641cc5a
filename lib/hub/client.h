/*
 * client.h -- asking a Hugging Face hub (libcurl): model, list of files, files.
 *
 * Redirects are followed one at a time: the token goes to the endpoint's own origin and nowhere
 * else, nothing leads from https to http, and a hub that is not inside of our network itself cannot
 * lead into it (hub/address.h). A client belongs to one thread.
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
	/* Asked now and then; 1 ends what runs with SP_E_CANCELLED. May be NULL. */
	int (*cancelled)(void *ctx);
	void *ctx;
};

/* SP_E_CONFIG when endpoint is no http(s) URL of a host. */
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

#endif
