/* SPDX-License-Identifier: Apache-2.0 */
/*
 * share.c - what both sides of sharing have: their lock, and the end.
 */
#include "engine/paged/share.h"

#include "engine/core/conn.h"

void kvi_share_init(struct kvi_share *share)
{
	pthread_mutex_init(&share->lock, NULL);
	kvi_list_init(&share->asks);
}

void kvi_share_destroy(struct kvi_share *share)
{
	pthread_mutex_destroy(&share->lock);
}

void kvi_share_end(struct kvt_conn *conn)
{
	pthread_mutex_lock(&conn->share.lock);
	conn->share.ended = true;
	pthread_mutex_unlock(&conn->share.lock);
	kvi_exports_end(conn);
	kvi_asks_end(conn);
}
