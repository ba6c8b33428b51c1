/* SPDX-License-Identifier: Apache-2.0 */
/*
 * secrets.c - tokens of lanes, proofs of a host and MACs of descriptors, out of what a session's handshake gave.
 */
#include "engine/core/secrets.h"

#include <sodium.h>
#include <string.h>

void kvi_secrets_init(struct kvi_secrets *secrets, const struct kvi_secure *secure,
		      const uint8_t session[KVI_SESSION_LEN])
{
	struct kvi_key key = { .id = { 0 } };
	memcpy(key.id, secure->key_id, sizeof(key.id));
	secrets->key_id[0] = '\0';
	if (!secure->insecure)
		kvi_key_print_id(&key, secrets->key_id);
	kvi_secure_derive(secure, "lanes", session, secrets->lanes, sizeof(secrets->lanes));
	kvi_secure_derive(secure, "descriptors", session, secrets->descriptors,
			  sizeof(secrets->descriptors));
	kvi_secure_derive(secure, "host", session, secrets->host, sizeof(secrets->host));
}

void kvi_secrets_get_token(const struct kvi_secrets *secrets, uint16_t index,
			   uint8_t token[KVI_TOKEN_LEN])
{
	uint8_t number[2];
	struct kvi_writer writer = kvi_writer_init(number, sizeof(number));
	kvi_write_u16(&writer, index);
	crypto_generichash(token, KVI_TOKEN_LEN, number, sizeof(number), secrets->lanes,
			   sizeof(secrets->lanes));
}

void kvi_secrets_prove_host(const struct kvi_secrets *secrets, const uint8_t *id, size_t len,
			    uint8_t proof[KVI_HOST_PROOF_LEN])
{
	crypto_generichash(proof, KVI_HOST_PROOF_LEN, id, len, secrets->host,
			   sizeof(secrets->host));
}

void kvi_secrets_seal(const struct kvi_secrets *secrets, bool by_server, const uint8_t *bytes,
		      size_t len, uint8_t mac[KVI_MAC_LEN])
{
	uint8_t key[KVI_SECRET_LEN + 1];
	memcpy(key, secrets->descriptors, KVI_SECRET_LEN);
	key[KVI_SECRET_LEN] = by_server;
	crypto_generichash(mac, KVI_MAC_LEN, bytes, len, key, sizeof(key));
	sodium_memzero(key, sizeof(key));
}
