/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shard.h - a connection's share of one worker: the links (lanes) and tag queues (tags) that live
 * there, and the writes that wait for a lane. All of it stands under that worker's lock, but for
 * what is atomic.
 */
#ifndef KVI_ENGINE_SHARD_H
#define KVI_ENGINE_SHARD_H

#include <stdatomic.h>

#include "base/list.h"
#include "base/table.h"
#include "engine/progress/worker.h"

struct kvi_tag_queue;

struct kvi_shard {
	struct kvt_conn *conn;
	struct kvi_worker *worker;
	struct kvi_list links;	 /* kvi_shard_add_link() */
	struct kvi_list stripes; /* spread.h: shares of transfers that use all of the links */
	struct kvi_tag_queue *tag_queues; /* by tag */
	struct kvi_list transfers;	  /* that are at home here, in the order of their start */
	struct kvi_table paged;		  /* paged transfers, by number */
	struct kvi_table questions;	  /* imports, by number of the question that is out */
	struct kvi_table sends;		  /* whose first message is out, by tag and seq */
	struct kvi_table matched;	  /* receives that are matched to a START, likewise */
	struct kvi_table starts;	  /* struct kvi_started, likewise */
	unsigned posted;		  /* operations that are with the fabric */
	bool severed;			  /* the lanes are closed: nothing starts any more */
	struct kvi_counters counters;	  /* of what was done here; their parent is the worker's */

	/* atomic */
	_Atomic(uint64_t) moved; /* packets that came, and segments that ended */
};

/* A link has a lane, or what one has posted: the queue of its rail is polled until it has neither. */
static inline void kvi_shard_add_link(struct kvi_shard *shard, struct kvi_list *node, unsigned rail)
{
	kvi_list_append(&shard->links, node);
	shard->worker->lane_counts[rail]++;
}

/* Does nothing when it is not there. */
static inline void kvi_shard_remove_link(struct kvi_shard *shard, struct kvi_list *node,
					 unsigned rail)
{
	if (kvi_list_is_empty(node))
		return;
	kvi_list_remove(node);
	shard->worker->lane_counts[rail]--;
}

/* Something has come, or has arrived at the peer. */
static inline void kvi_shard_count_moved(struct kvi_shard *shard)
{
	/* The worker alone writes it, so this need not be one step. */
	uint64_t moved = atomic_load_explicit(&shard->moved, memory_order_relaxed);
	atomic_store_explicit(&shard->moved, moved + 1, memory_order_relaxed);
}

#endif
