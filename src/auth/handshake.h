/* SPDX-License-Identifier: Apache-2.0 */
/*
 * handshake.h - the first bytes of a connection, as a state machine over bytes: no sockets, no clock,
 * no threads. A server learns who is there, and a client what was agreed, before either makes a fabric
 * object. It stands behind the proof of a key (secure.h), inside of records.
 */
#ifndef KVI_AUTH_HANDSHAKE_H
#define KVI_AUTH_HANDSHAKE_H

#include <stddef.h>
#include <stdint.h>

#include "wire/wire.h"

enum kvi_handshake_role {
	KVI_HANDSHAKE_CLIENT,
	KVI_HANDSHAKE_SERVER,
};

enum kvi_handshake_state {
	KVI_HANDSHAKE_READ,   /* wants bytes from the peer */
	KVI_HANDSHAKE_DONE,   /* agreed; bytes behind the handshake belong to the control channel */
	KVI_HANDSHAKE_FAILED, /* error tells; output (a REFUSE) should still be sent, then close */
};

struct kvi_handshake {
	enum kvi_handshake_role role;
	enum kvi_handshake_state state;
	struct kvt_error error;
	struct kvi_hello local;	 /* what we offer */
	struct kvi_hello remote; /* server: what the client offered */
	struct kvi_welcome
		agreed; /* both, when DONE. eager_len, rx_count and instance are the server's */
	uint8_t input[KVI_HELLO_FRAME_MAX];
	size_t input_len;
	uint8_t output[KVI_HELLO_FRAME_MAX]; /* to send; the owner sends it and sets output_len to 0 */
	size_t output_len;
};

/* Whether that provider is among those that hello names. */
bool kvi_hello_has_provider(const struct kvi_hello *hello, const char *name);

/*
 * Begin. A client has output at once. session: 16 random bytes for a server to give the connection,
 * NULL for a client.
 */
void kvi_handshake_init(struct kvi_handshake *handshake, enum kvi_handshake_role role,
			const struct kvi_hello *local, const uint8_t *session);

/*
 * Feed bytes; returns how many were used, at most what the handshake needs. Look at state and output
 * after each call. A server fails with VERSION (no common version), NO_PROVIDER (no common provider),
 * PROTOCOL (not our protocol); a client with those or the code that the server's REFUSE names. A
 * connection to the own engine (same instance) is allowed.
 */
size_t kvi_handshake_feed(struct kvi_handshake *handshake, const void *bytes, size_t len);

#endif
