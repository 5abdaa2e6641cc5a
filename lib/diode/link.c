/* link.c -- AES-256-GCM around the datagrams: session keys, nonces, replay window. */
#include "diode/link.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <stdlib.h>
#include <string.h>

#define NONCE_LEN 12
/* one more than the window has: the word of the highest counter is filled while it is current */
#define WINDOW_WORDS (SP_LINK_WINDOW / 64 + 1)

struct sp_link_tx {
	gnutls_aead_cipher_hd_t cipher;
	uint8_t session[SP_FRAME_SESSION_LEN];
	uint64_t counter;
};

struct session {
	uint64_t number; /* 0: slot is free */
	int64_t heard_ms;
	gnutls_aead_cipher_hd_t cipher;
	uint8_t id[SP_FRAME_SESSION_LEN];
	uint64_t first, highest; /* counters seen */
	uint64_t received;
	/* bit c % 64 of word c / 64 % WINDOW_WORDS: counter c, highest - SP_LINK_WINDOW < c */
	uint64_t window[WINDOW_WORDS];
};

struct sp_link_rx {
	uint8_t key[SP_LINK_KEY_LEN];
	struct sp_link_counts counts; /* .lost: of sessions that have been evicted */
	struct session sessions[SP_LINK_SESSIONS];
};

static int
session_cipher(const uint8_t key[SP_LINK_KEY_LEN], const uint8_t session[SP_FRAME_SESSION_LEN],
    gnutls_aead_cipher_hd_t *cipher)
{
	static const char label[] = "sallyport diode 1";
	uint8_t prk[32], derived[32], ikm[SP_LINK_KEY_LEN], salt[SP_FRAME_SESSION_LEN];
	uint8_t info[sizeof(label) - 1];
	gnutls_datum_t d_ikm = {ikm, sizeof(ikm)}, d_salt = {salt, sizeof(salt)};
	gnutls_datum_t d_prk = {prk, sizeof(prk)}, d_info = {info, sizeof(info)};
	gnutls_datum_t d_key = {derived, sizeof(derived)};
	int rc;

	memcpy(ikm, key, sizeof(ikm));
	memcpy(salt, session, sizeof(salt));
	memcpy(info, label, sizeof(info));
	rc = gnutls_hkdf_extract(GNUTLS_MAC_SHA256, &d_ikm, &d_salt, prk);
	if (rc == 0)
		rc = gnutls_hkdf_expand(
		    GNUTLS_MAC_SHA256, &d_prk, &d_info, derived, sizeof(derived));
	if (rc == 0)
		rc = gnutls_aead_cipher_init(cipher, GNUTLS_CIPHER_AES_256_GCM, &d_key);
	gnutls_memset(ikm, 0, sizeof(ikm));
	gnutls_memset(prk, 0, sizeof(prk));
	gnutls_memset(derived, 0, sizeof(derived));
	return rc;
}

static void
nonce_of(uint64_t counter, uint8_t nonce[NONCE_LEN])
{
	memset(nonce, 0, NONCE_LEN);
	for (int i = 0; i < 8; i++)
		nonce[4 + i] = (uint8_t)(counter >> (56 - 8 * i));
}

enum sp_code
sp_link_tx_new(const uint8_t key[SP_LINK_KEY_LEN], const uint8_t session[SP_FRAME_SESSION_LEN],
    struct sp_link_tx **out, struct sp_err *err)
{
	struct sp_link_tx *link = sp_xcalloc(1, sizeof(*link));
	int rc = session_cipher(key, session, &link->cipher);

	if (rc != 0) {
		free(link);
		return sp_err_set(err, SP_E_INTERNAL, "AES-256-GCM: %s", gnutls_strerror(rc));
	}
	memcpy(link->session, session, sizeof(link->session));
	*out = link;
	return SP_OK;
}

void
sp_link_tx_free(struct sp_link_tx **link)
{
	if (*link == NULL)
		return;
	gnutls_aead_cipher_deinit((*link)->cipher);
	free(*link);
	*link = NULL;
}

size_t
sp_link_seal(struct sp_link_tx *link, struct sp_frame *frame, const uint8_t *payload,
    uint8_t out[SP_FRAME_MAX])
{
	static const uint8_t nothing[SP_FRAME_SYMBOL_MAX];
	size_t len = frame->layout.symbol_size + SP_FRAME_TAG_LEN;
	uint8_t nonce[NONCE_LEN];
	int rc;

	SP_ASSERT(sp_frame_len(frame) <= SP_FRAME_MAX);
	memcpy(frame->session, link->session, sizeof(frame->session));
	frame->counter = link->counter++;
	sp_frame_write(frame, out);
	nonce_of(frame->counter, nonce);
	rc = gnutls_aead_cipher_encrypt(link->cipher, nonce, NONCE_LEN, out, SP_FRAME_HEADER_LEN,
	    SP_FRAME_TAG_LEN, payload != NULL ? payload : nothing, frame->layout.symbol_size,
	    out + SP_FRAME_HEADER_LEN, &len);
	/* can only fail for a buffer that is too short */
	SP_ASSERT(rc == 0 && len == frame->layout.symbol_size + SP_FRAME_TAG_LEN);
	return SP_FRAME_HEADER_LEN + len;
}

struct sp_link_rx *
sp_link_rx_new(const uint8_t key[SP_LINK_KEY_LEN])
{
	struct sp_link_rx *link = sp_xcalloc(1, sizeof(*link));

	memcpy(link->key, key, sizeof(link->key));
	return link;
}

void
sp_link_rx_free(struct sp_link_rx **link)
{
	if (*link == NULL)
		return;
	for (int i = 0; i < SP_LINK_SESSIONS; i++)
		if ((*link)->sessions[i].number != 0)
			gnutls_aead_cipher_deinit((*link)->sessions[i].cipher);
	gnutls_memset((*link)->key, 0, SP_LINK_KEY_LEN);
	free(*link);
	*link = NULL;
}

/* 1 when the counter may still be new. */
static int
window_admits(const struct session *s, uint64_t counter)
{
	if (s->received == 0 || counter > s->highest)
		return 1;
	if (s->highest - counter >= SP_LINK_WINDOW)
		return 0;
	return (s->window[counter / 64 % WINDOW_WORDS] >> (counter % 64) & 1) == 0;
}

static void
window_enter(struct session *s, uint64_t counter)
{
	if (s->received == 0) {
		s->first = s->highest = counter;
	} else if (counter > s->highest) {
		/* as RFC 6479: words between the old and the new highest are emptied */
		uint64_t words = counter / 64 - s->highest / 64;

		for (uint64_t i = 1; i <= words && i <= WINDOW_WORDS; i++)
			s->window[(s->highest / 64 + i) % WINDOW_WORDS] = 0;
		s->highest = counter;
	} else if (counter < s->first) {
		s->first = counter;
	}
	s->window[counter / 64 % WINDOW_WORDS] |= 1ull << (counter % 64);
	s->received++;
}

static uint64_t
session_lost(const struct session *s)
{
	return s->received == 0 ? 0 : s->highest - s->first + 1 - s->received;
}

static int
open_with(gnutls_aead_cipher_hd_t cipher, const struct sp_frame *frame, const uint8_t *data,
    size_t len, uint8_t *payload)
{
	uint8_t nonce[NONCE_LEN];
	size_t out = frame->layout.symbol_size;

	nonce_of(frame->counter, nonce);
	return gnutls_aead_cipher_decrypt(cipher, nonce, NONCE_LEN, data, SP_FRAME_HEADER_LEN,
		   SP_FRAME_TAG_LEN, data + SP_FRAME_HEADER_LEN, len - SP_FRAME_HEADER_LEN, payload,
		   &out) == 0;
}

static struct session *
session_find(struct sp_link_rx *link, const uint8_t id[SP_FRAME_SESSION_LEN])
{
	for (int i = 0; i < SP_LINK_SESSIONS; i++) {
		struct session *s = &link->sessions[i];

		if (s->number != 0 && memcmp(s->id, id, sizeof(s->id)) == 0)
			return s;
	}
	return NULL;
}

/* A free slot, or that of the session silent for longest; NULL when all of them are live. */
static struct session *
session_slot(struct sp_link_rx *link, int64_t now_ms)
{
	struct session *oldest = NULL;

	for (int i = 0; i < SP_LINK_SESSIONS; i++) {
		struct session *s = &link->sessions[i];

		if (s->number == 0)
			return s;
		if (oldest == NULL || s->heard_ms < oldest->heard_ms)
			oldest = s;
	}
	return now_ms - oldest->heard_ms >= SP_LINK_SESSION_IDLE_MS ? oldest : NULL;
}

/* Tries a datagram of an unknown session; enters the session only when the tag is valid. */
static enum sp_frame_drop
session_enter(struct sp_link_rx *link, const struct sp_frame *frame, const uint8_t *data,
    size_t len, int64_t now_ms, uint8_t *payload, struct session **out)
{
	gnutls_aead_cipher_hd_t cipher;
	struct session *s;

	if (session_cipher(link->key, frame->session, &cipher) != 0)
		return SP_FRAME_BAD_TAG;
	if (!open_with(cipher, frame, data, len, payload)) {
		gnutls_aead_cipher_deinit(cipher);
		return SP_FRAME_BAD_TAG;
	}
	s = session_slot(link, now_ms);
	if (s == NULL) {
		gnutls_aead_cipher_deinit(cipher);
		return SP_FRAME_NO_SESSION;
	}
	if (s->number != 0) {
		link->counts.lost += session_lost(s);
		gnutls_aead_cipher_deinit(s->cipher);
	}
	memset(s, 0, sizeof(*s));
	s->number = ++link->counts.sessions;
	s->cipher = cipher;
	memcpy(s->id, frame->session, sizeof(s->id));
	*out = s;
	return SP_FRAME_OK;
}

static enum sp_frame_drop
link_open(struct sp_link_rx *link, const uint8_t *data, size_t len, int64_t now_ms,
    struct sp_frame *frame, uint8_t *payload, uint64_t *session)
{
	enum sp_frame_drop drop = sp_frame_parse(data, len, frame);
	struct session *s;

	if (drop != SP_FRAME_OK)
		return drop;
	s = session_find(link, frame->session);
	if (s == NULL) {
		drop = session_enter(link, frame, data, len, now_ms, payload, &s);
		if (drop != SP_FRAME_OK)
			return drop;
	} else if (!window_admits(s, frame->counter)) {
		return SP_FRAME_REPLAYED;
	} else if (!open_with(s->cipher, frame, data, len, payload)) {
		return SP_FRAME_BAD_TAG;
	}
	if (s->received > 0 && frame->counter < s->highest)
		link->counts.reordered++;
	window_enter(s, frame->counter);
	s->heard_ms = now_ms;
	*session = s->number;
	return SP_FRAME_OK;
}

enum sp_frame_drop
sp_link_open(struct sp_link_rx *link, const uint8_t *data, size_t len, int64_t now_ms,
    struct sp_frame *frame, uint8_t payload[SP_FRAME_SYMBOL_MAX], uint64_t *session)
{
	enum sp_frame_drop drop = link_open(link, data, len, now_ms, frame, payload, session);

	link->counts.dropped[drop]++;
	return drop;
}

void
sp_link_counts(const struct sp_link_rx *link, struct sp_link_counts *counts)
{
	*counts = link->counts;
	for (int i = 0; i < SP_LINK_SESSIONS; i++)
		if (link->sessions[i].number != 0)
			counts->lost += session_lost(&link->sessions[i]);
}
