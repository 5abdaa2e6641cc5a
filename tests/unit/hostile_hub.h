/*
 * hostile_hub.h -- a hub on loopback that sends files, and does as badly as a test asks: on sockets
 * of its own, since a proper HTTP server would not.
 *
 * File i of it has as its bytes hostile_byte(i, offset); GET /o/m/resolve/COMMIT/NAME gives them,
 * with ranges. What it does instead is said by struct hostile_trick.
 */
#ifndef HOSTILE_HUB_H
#define HOSTILE_HUB_H

#include "hub/answer.h"

#include <pthread.h>

#define HOSTILE_COMMIT "0123456789abcdef0123456789abcdef01234567"

enum hostile_kind {
	HOSTILE_HONEST,
	HOSTILE_NO_RANGES,    /* 200 and all of the file to every Range */
	HOSTILE_WRONG_RANGE,  /* other bytes than were asked for, as Content-Range says */
	HOSTILE_NO_FIELD,     /* 206 without Content-Range */
	HOSTILE_SHORT_RANGE,  /* fewer bytes than were asked for, as Content-Range says */
	HOSTILE_SHORT_BODY,   /* fewer bytes than Content-Range says, chunked: a proper end */
	HOSTILE_LARGER,	      /* Content-Range of a larger file */
	HOSTILE_WRONG_BYTES,  /* the first byte of the answer is another */
	HOSTILE_CUT,	      /* the connection ends after 1 MiB + 1 of the body */
	HOSTILE_STALL,	      /* nothing more comes after 1 MiB + 1, until the hub is closed */
	HOSTILE_OTHER_ETAG,   /* every answer has another entity tag */
	HOSTILE_ENCODED,      /* Content-Encoding: gzip */
	HOSTILE_TOO_MANY,     /* 429, Retry-After: 0 */
	HOSTILE_RATE_LIMIT,   /* 429, RateLimit: "api";r=0;t=1 */
	HOSTILE_DOWN,	      /* 503 */
	HOSTILE_BUSY_FOR_DAY, /* 429, Retry-After: 86400 */
	HOSTILE_EXPIRES,      /* led to a signed URL, which is refused (403) after one use */
	HOSTILE_EXPIRES_HERE, /* the same, but the URL is of the hub's own origin */
	HOSTILE_FORBIDDEN,    /* led to a signed URL, which is always refused */
	HOSTILE_CIRCLE,	      /* led in a circle */
	HOSTILE_GONE,	      /* 416 */
};

struct hostile_trick {
	enum hostile_kind kind;
	const char *name; /* of the file; NULL: of any */
	int times;	  /* then it is honest; 0: always */
};

struct hostile_hub {
	/* set by the test before hostile_open */
	const struct hostile_trick *trick;
	/* under the lock */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	uint64_t served;	  /* bytes of bodies that went out */
	unsigned requests, times; /* of files; of the trick */
	unsigned whole;		  /* requests without Range */
	unsigned if_ranges;
	unsigned with_token, signed_with_token;
	int ending;
	/* its own */
	const struct sp_answer_tree *listing;
	int listen_fd;
	unsigned port, serial;
	uint8_t used[4096]; /* signed URLs */
	pthread_t accepter;
	unsigned running;
};

/* Fills files (paths are borrowed) as the listing of files of those sizes. */
void hostile_list(struct sp_answer_file *files, const char *const *paths, const uint64_t *sizes,
    size_t count, struct sp_answer_tree *listing);
uint8_t hostile_byte(size_t file, uint64_t offset);

void hostile_open(struct hostile_hub *hub, const struct sp_answer_tree *listing);
void hostile_close(struct hostile_hub *hub);
/* Bytes served so far. */
uint64_t hostile_served(struct hostile_hub *hub);
/* Waits until it has served that many bytes; 0 when it did not for 30 s. */
int hostile_await(struct hostile_hub *hub, uint64_t bytes);

#endif
