/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exports.c - what exports and remotes have in common: their lock, and the end.
 */
#include "engine/paged/exports.h"

#include "engine/core/conn.h"

void kvi_exports_init(struct kvi_exports *exports)
{
	pthread_mutex_init(&exports->lock, NULL);
}

void kvi_exports_destroy(struct kvi_exports *exports)
{
	pthread_mutex_destroy(&exports->lock);
}

void kvi_exports_on_severed(struct kvt_conn *conn)
{
	pthread_mutex_lock(&conn->exports.lock);
	conn->exports.ended = true;
	pthread_mutex_unlock(&conn->exports.lock);
	kvi_exports_end(conn);
}
