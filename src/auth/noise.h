/* SPDX-License-Identifier: Apache-2.0 */
/*
 * noise.h - Noise_NNpsk0_25519_ChaChaPoly_SHA256 (the Noise Protocol Framework, revision 34) as a state
 * machine over bytes: two peers that share a secret of 32 bytes prove it to each other, and get a cipher for
 * each direction. No I/O, no clock, no memory but the caller's.
 *
 *     initiator                                   responder
 *       | psk, e, payload ------------------------> |   one tag proves the key, before any Diffie-Hellman
 *       | <------------------------ e, ee, payload  |   both split
 *       | transport messages <--------------------> |
 *
 * Who knows neither the key nor a recorded message costs the responder 4 hashes, 7 HMACs and one tag. The first
 * message can be recorded and played again: it reads well, and its payload must not be acted upon for ever. The
 * answer to it is of no use to the player; the peer is known to be there when its first transport message
 * reads well. So the initiator sends one at once, and before it came the responder makes nothing that lasts.
 *
 * A message that does not read well ends its state or cipher: the secrets are wiped, and all later calls fail.
 * On TCP nothing is lost or out of order by accident.
 */
#ifndef KVI_AUTH_NOISE_H
#define KVI_AUTH_NOISE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <kvtrans.h>

enum {
	KVI_NOISE_KEY_LEN = 32,
	KVI_NOISE_TAG_LEN = 16,			  /* what a transport message adds to its payload */
	KVI_NOISE_EXTRA = 32 + KVI_NOISE_TAG_LEN, /* what a handshake message adds */
	KVI_NOISE_MESSAGE_MAX = 65535,		  /* any message */
};

enum kvi_noise_role {
	KVI_NOISE_INITIATOR,
	KVI_NOISE_RESPONDER,
};

enum kvi_noise_step {
	KVI_NOISE_OVER,	  /* split, wiped or failed: there are no secrets */
	KVI_NOISE_FIRST,  /* the initiator writes, the responder reads */
	KVI_NOISE_SECOND, /* the other way round */
	KVI_NOISE_SPLIT,  /* kvi_noise_split() */
};

/* One direction of transport, also the cipher inside of the handshake. Nonces count from 0. */
struct kvi_noise_cipher {
	uint8_t key[KVI_NOISE_KEY_LEN];
	uint64_t nonce;
	bool has_key; /* not before the split, and not after a failure: then every call fails */
};

struct kvi_noise {
	enum kvi_noise_role role;
	enum kvi_noise_step step;
	struct kvi_noise_cipher cipher;
	uint8_t chain[KVI_NOISE_KEY_LEN]; /* "ck" */
	uint8_t hash[KVI_NOISE_KEY_LEN];  /* "h" */
	uint8_t ephemeral[KVI_NOISE_KEY_LEN];
	uint8_t remote[KVI_NOISE_KEY_LEN]; /* the peer's ephemeral, public */
};

/* What a handshake gives. Wipe it with kvi_noise_session_wipe(). */
struct kvi_noise_session {
	struct kvi_noise_cipher send;
	struct kvi_noise_cipher receive;
	uint8_t hash[KVI_NOISE_KEY_LEN]; /* of the whole handshake: the same on both sides, not secret */
	uint8_t secret
		[KVI_NOISE_KEY_LEN]; /* the same on both sides, known to nobody else: for other MACs
					    * and keys of this session, each with a label. The third output
					    * of Split()'s HKDF, whose first two are the ciphers' keys */
};

/*
 * Begin. prologue: what both sides take for granted (version, key id); who has another fails. ephemeral: 32
 * random bytes, for tests; NULL draws them. No copy of the pre-shared key is kept.
 */
void kvi_noise_init(struct kvi_noise *noise, enum kvi_noise_role role,
		    const uint8_t psk[KVI_NOISE_KEY_LEN], const void *prologue, size_t prologue_len,
		    const uint8_t *ephemeral);

/*
 * Write this side's handshake message, len + KVI_NOISE_EXTRA bytes, which do not overlap the payload.
 * KVT_E_INVALID: it is not this side's turn (nothing changes). KVT_E_TOO_LARGE: nor then. KVT_E_AUTH: the
 * peer's ephemeral is one that makes no secret, or the state is over.
 */
enum kvt_err kvi_noise_write(struct kvi_noise *noise, const void *payload, size_t len,
			     void *message);

/*
 * Read the peer's. payload takes len - KVI_NOISE_EXTRA bytes, without overlap. KVT_E_AUTH: the peer has another
 * key or prologue, or the message was changed, cut, or is of another time; payload holds nothing of it, and
 * the state is over. KVT_E_INVALID: it is not the peer's turn.
 */
enum kvt_err kvi_noise_read(struct kvi_noise *noise, const void *message, size_t len,
			    void *payload);

/* After both messages. noise is over then. KVT_E_INVALID: too early, or for the second time. */
enum kvt_err kvi_noise_split(struct kvi_noise *noise, struct kvi_noise_session *session);

void kvi_noise_wipe(struct kvi_noise *noise);
void kvi_noise_session_wipe(struct kvi_noise_session *session);

/*
 * A transport message: len + KVI_NOISE_TAG_LEN bytes. Payload and message may begin at the same place.
 * KVT_E_LIMIT: the 2^64 - 1 nonces are used up. KVT_E_TOO_LARGE: nothing changes. KVT_E_AUTH: there is no key.
 */
enum kvt_err kvi_noise_encrypt(struct kvi_noise_cipher *cipher, const void *payload, size_t len,
			       void *message);
/* payload takes len - KVI_NOISE_TAG_LEN bytes. KVT_E_AUTH: not the message that is next; the key is wiped. */
enum kvt_err kvi_noise_decrypt(struct kvi_noise_cipher *cipher, const void *message, size_t len,
			       void *payload);

/*
 * A new key out of the old one (11.3), which cannot be found from it. Nonces go on. Both sides do it at the same
 * message of a direction, such as one whose nonce is a multiple of a number that the protocol names.
 */
void kvi_noise_rekey(struct kvi_noise_cipher *cipher);

#endif
