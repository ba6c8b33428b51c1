/* SPDX-License-Identifier: Apache-2.0 */
/*
 * part.c - flushing, cutting and failing a connection's share of a worker.
 */
#include "engine/part.h"

#include "engine/channel.h"
#include "engine/conn.h"
#include "engine/engine.h"
#include "engine/link.h"
#include "engine/paged.h"
#include "engine/spread.h"

void kvi_part_init(struct kvi_part *part, struct kvt_conn *conn, struct kvi_worker *worker)
{
	part->conn = conn;
	part->worker = worker;
	kvi_list_init(&part->node);
	kvi_list_init(&part->links);
	kvi_list_init(&part->stripes);
}

void kvi_part_touch(struct kvi_part *part)
{
	if (!part->cut && kvi_list_is_empty(&part->node))
		kvi_list_append(&part->worker->dirty_parts, &part->node);
}

void kvi_part_retry(struct kvi_part *part)
{
	kvi_part_touch(part);
	part->worker->retry_soon = true;
}

static bool is_lazy(const struct kvi_part *part)
{
	for (struct kvi_list *node = part->links.next; node != &part->links; node = node->next)
		if (!kvi_list_is_empty(&kvi_container_of(node, struct kvi_link, node)->queue))
			return true;
	return false;
}

bool kvi_parts_flush(struct kvi_worker *worker, bool lazily)
{
	bool did = false;
	struct kvi_list parts;
	kvi_list_init(&parts);
	kvi_list_move_all(&parts, &worker->dirty_parts);
	struct kvi_list *node;
	while ((node = kvi_list_take_first(&parts)) != NULL) {
		struct kvi_part *part = kvi_container_of(node, struct kvi_part, node);
		kvi_list_for_each (link_node, next_link, &part->links)
			did |= kvi_link_flush(kvi_container_of(link_node, struct kvi_link, node),
					      lazily);
		did |= kvi_stripes_pump(part);
		if (lazily && is_lazy(part))
			kvi_part_touch(part);
	}
	return did;
}

void kvi_part_cut(struct kvi_part *part)
{
	if (part->cut)
		return;
	part->cut = true;
	kvi_list_remove(&part->node);
	kvi_list_for_each (node, next_node, &part->links)
		kvi_link_close(kvi_container_of(node, struct kvi_link, node));
	/* What the lanes flushed comes out here, and ends the shares of transfers under way. */
	while (part->posted > 0)
		kvi_worker_progress(part->worker);
	kvi_stripes_pump(part);
}

void kvi_part_fail(struct kvi_part *part)
{
	/* Shares that ended on other workers are reported by mail. */
	kvi_worker_progress(part->worker);
	kvi_paged_fail(part->worker, part->conn);
	kvi_channels_fail(part, &part->conn->cause);
	kvi_list_for_each (node, next_node, &part->links)
		kvi_link_free(kvi_container_of(node, struct kvi_link, node));
}
