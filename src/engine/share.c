/* SPDX-License-Identifier: Apache-2.0 */
/*
 * share.c - what both sides of sharing have: their lock, the seal of a descriptor, and the end.
 */
#include "engine/share.h"

#include <sodium.h>
#include <string.h>

#include "engine/conn.h"

void kvi_share_init(struct kvi_share *share)
{
	pthread_mutex_init(&share->lock, NULL);
	kvi_list_init(&share->asks);
}

void kvi_share_destroy(struct kvi_share *share)
{
	pthread_mutex_destroy(&share->lock);
}

void kvi_descriptor_seal(const struct kvt_conn *conn, bool by_server, const uint8_t *bytes,
			 size_t len, uint8_t mac[KVI_MAC_LEN])
{
	uint8_t key[KVI_TOKEN_LEN + 1];
	memcpy(key, conn->token, KVI_TOKEN_LEN);
	key[KVI_TOKEN_LEN] = by_server;
	crypto_generichash(mac, KVI_MAC_LEN, bytes, len, key, sizeof(key));
	sodium_memzero(key, sizeof(key));
}

void kvi_share_end(struct kvt_conn *conn)
{
	pthread_mutex_lock(&conn->share.lock);
	conn->share.ended = true;
	pthread_mutex_unlock(&conn->share.lock);
	kvi_exports_end(conn);
	kvi_asks_end(conn);
}
