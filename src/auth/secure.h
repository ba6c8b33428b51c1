/* SPDX-License-Identifier: Apache-2.0 */
/*
 * secure.h - one end of a control channel as bytes on the wire: OPENING and its ANSWER, then records
 * (docs/protocol.md 2.4, 3.8 to 3.10). No sockets, no clock, no memory but the caller's. What is inside of the records
 * is not looked at.
 *
 * Of who has not proven to have a key of the ring nothing is kept but this struct; see noise.h.
 */
#ifndef KVI_AUTH_SECURE_H
#define KVI_AUTH_SECURE_H

#include "auth/keyring.h"
#include "auth/noise.h"
#include "wire/wire.h"

enum {
	/* A rekey follows each record whose number is a multiple of this, counted from 1; 2.4. */
	KVI_RECORDS_PER_KEY = 1024,
	KVI_RECORD_EXTRA = KVI_RECORD_HEADER_LEN + KVI_RECORD_TAG_LEN,
};

enum kvi_secure_state {
	KVI_SECURE_WAITS, /* for the peer's OPENING or ANSWER */
	KVI_SECURE_OPEN,  /* records flow */
	KVI_SECURE_FAILED,
};

struct kvi_secure {
	enum kvi_secure_state state;
	bool is_server;
	bool insecure; /* records are in clear */
	bool is_proven; /* the peer is there and has the key: this is no replay. Insecure: it spoke */
	enum kvt_err code;		/* FAILED: why; AUTH, PROTOCOL or VERSION */
	const char *fault;		/* a sentence */
	uint8_t key_id[KVI_KEY_ID_LEN]; /* zeros when insecure */
	union {
		struct kvi_noise noise;		  /* until OPEN */
		struct kvi_noise_session session; /* from then on; insecure: zeros */
	};
	uint8_t output[KVI_OPENING_LEN]; /* to send; the owner sends it and sets output_len to 0 */
	size_t output_len;
};

/* Begin. A client has output at once, and is OPEN at once where the ring is insecure. */
void kvi_secure_init(struct kvi_secure *secure, struct kvi_keyring *ring, bool is_server);

/* What kvi_secure_take() found. */
struct kvi_record {
	size_t used;	  /* bytes that are done with */
	uint8_t *content; /* among them: what a record held, at least 1 byte; NULL: it was no record */
	size_t len;	  /* of content */
	size_t wanted;	  /* KVT_E_AGAIN: bytes that must be there, as far as is known */
};

/*
 * Take the first thing of the len bytes that are there, in place; a server looks at its ring. Look at output
 * afterwards. KVT_E_AGAIN: it is not whole. Another error: secure has FAILED, with that code and a sentence.
 */
enum kvt_err kvi_secure_take(struct kvi_secure *secure, struct kvi_keyring *ring, uint8_t *bytes,
			     size_t len, struct kvi_record *taken);

/*
 * Write a record of len bytes, at most KVI_CONTROL_FRAME_MAX, which begin KVI_RECORD_HEADER_LEN bytes into record,
 * where there is room for KVI_RECORD_EXTRA more. OPEN only. Returns the record's length, 0 when the channel is used up.
 */
size_t kvi_secure_seal(struct kvi_secure *secure, uint8_t *record, size_t len);

/*
 * A secret of both ends that nobody else can know, for one purpose (label) and, among those, one number. Insecure:
 * who knows the session's id knows it. OPEN only.
 */
void kvi_secure_derive(const struct kvi_secure *secure, const char *label,
		       const uint8_t session[KVI_SESSION_LEN], uint8_t *secret, size_t len);

void kvi_secure_wipe(struct kvi_secure *secure);

#endif
