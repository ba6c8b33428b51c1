/* SPDX-License-Identifier: Apache-2.0 */
/*
 * secrets.h - what a connection keeps of its handshake: who the peer is, and secrets that both sides know and
 * nobody else, each for one purpose (docs/protocol.md 3.10).
 */
#ifndef KVI_ENGINE_SECRETS_H
#define KVI_ENGINE_SECRETS_H

#include "auth/secure.h"
#include "auth/vault.h"

enum { KVI_SECRET_LEN = 32 };

struct kvi_secrets {
	char key_id[KVI_KEY_ID_TEXT_LEN]; /* of the key that both have; "" when insecure */
	uint8_t lanes[KVI_SECRET_LEN];
	uint8_t descriptors[KVI_SECRET_LEN];
	uint8_t host[KVI_SECRET_LEN];
};

_Static_assert(sizeof(struct kvi_secrets) <= KVI_VAULT_SLOT_LEN &&
		       sizeof(struct kvi_secure) <= KVI_VAULT_SLOT_LEN,
	       "both fit a vault");

/* secure is OPEN. */
void kvi_secrets_init(struct kvi_secrets *secrets, const struct kvi_secure *secure,
		      const uint8_t session[KVI_SESSION_LEN]);

/* What admits the lane of that index, once: who has seen it on its way to the server knows no other's. */
void kvi_secrets_get_token(const struct kvi_secrets *secrets, uint16_t index,
			   uint8_t token[KVI_TOKEN_LEN]);

/* What says of a host's id that this side knows it, to who knows it, too, and to nobody else. */
void kvi_secrets_prove_host(const struct kvi_secrets *secrets, const uint8_t *id, size_t len,
			    uint8_t proof[KVI_HOST_PROOF_LEN]);

/* The MAC of a descriptor: what proves that this side of this very connection made it. */
void kvi_secrets_seal(const struct kvi_secrets *secrets, bool by_server, const uint8_t *bytes,
		      size_t len, uint8_t mac[KVI_MAC_LEN]);

#endif
