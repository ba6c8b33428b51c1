/* SPDX-License-Identifier: Apache-2.0 */
/*
 * part.c - cutting and failing a connection's share of a worker.
 */
#include "engine/part.h"

#include "engine/channel.h"
#include "engine/conn.h"
#include "engine/engine.h"
#include "engine/link.h"
#include "engine/spread.h"
#include "engine/transfer.h"

void kvi_part_init(struct kvi_part *part, struct kvt_conn *conn, struct kvi_worker *worker)
{
	part->conn = conn;
	part->worker = worker;
	kvi_list_init(&part->links);
	kvi_list_init(&part->stripes);
	kvi_list_init(&part->transfers);
}

void kvi_part_cut(struct kvi_part *part)
{
	if (part->cut)
		return;
	part->cut = true;
	kvi_list_for_each (node, next_node, &part->links) {
		struct kvi_link *link = kvi_container_of(node, struct kvi_link, node);
		kvi_list_remove(&link->dirty_node);
		kvi_link_close(link);
	}
	/* What the lanes flushed comes out here, and ends the shares of transfers under way. */
	while (part->posted > 0)
		kvi_worker_progress(part->worker);
	kvi_stripes_drop(part);
}

bool kvi_part_fail(struct kvi_part *part, unsigned most)
{
	struct kvi_list *node;
	while ((node = kvi_list_get_first(&part->transfers)) != NULL && most-- > 0) {
		struct kvt_transfer *transfer =
			kvi_container_of(node, struct kvt_transfer, part_node);
		bool gave_up = transfer->reason.code != KVT_OK;
		kvi_transfer_complete(transfer, gave_up ? &transfer->reason : &part->conn->cause);
	}
	return node == NULL;
}

void kvi_part_free(struct kvi_part *part)
{
	kvi_channels_end(part);
	kvi_list_for_each (node, next_node, &part->links)
		kvi_link_free(kvi_container_of(node, struct kvi_link, node));
}
