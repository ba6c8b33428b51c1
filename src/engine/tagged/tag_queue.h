/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tag_queue.h - what the two sides share under one tag: the order of messages in both directions,
 * what has arrived and waits for a receive, and the receives that wait for a message. A tag queue
 * lives on the home link of its tag and exists before (a message came first) and after (the peer
 * has not confirmed KV_CLOSED) the KV that is opened on it. All of it stands under the home
 * worker's lock.
 */
#ifndef KVI_ENGINE_TAG_QUEUE_H
#define KVI_ENGINE_TAG_QUEUE_H

#include "base/alloc.h"
#include "base/hash.h"
#include "base/list.h"
#include "base/table.h"
#include "base/timers.h"
#include "engine/lane/link.h"
#include "wire/wire.h"

struct kvt_conn;
struct kvt_kv;
struct kvi_shard;

/* A message that came before its receive: an eager one with its bytes, or a START without. */
struct kvi_arrival {
	struct kvi_list node;
	uint64_t seq;
	bool is_start;
	size_t len;
	size_t meta_len;
	uint8_t *meta;
	uint8_t *data;
};

/* The arrival of a START: the peer may speak of it again. */
struct kvi_started {
	struct kvi_arrival arrival;
	struct kvi_entry entry; /* in shard->starts by tag and seq, while no receive has it */
	struct kvi_timer place; /* in queue->returned, by seq */
};

struct kvi_tag_queue {
	UT_hash_handle hh;
	uint64_t tag;
	struct kvi_link *link;
	struct kvt_kv *kv; /* NULL: not opened here, or closed */
	bool peer_closed;  /* auto tags: the peer has closed its KV, for ever */
	unsigned draining; /* KV_CLOSED sent and not confirmed: what arrives is for the closed KV */

	uint64_t next_send_seq;
	struct kvi_list sends;	      /* in flight, from their first message on, by seq */
	struct kvi_message_cts early; /* came before the send it is for; generation 0: none */
	uint64_t starts_out;	      /* of the window of STARTs; start_window.h */
	struct kvi_list held;	      /* sends that wait for it, by their waiter */
	struct kvi_list held_node;    /* in a list of the link while they do, */
	struct kvi_list small_node;   /* and in another where the first may go eagerly; or: */
	struct kvi_waiter waiter;     /* their turn to send */

	uint64_t next_arrival_seq;
	struct kvi_list arrivals; /* never matched, by seq */
	struct kvi_timers
		returned; /* STARTs that a receive gave back: by seq, all before the arrivals */
	struct kvi_list receives; /* unmatched, in the order they were started */
	struct kvi_list matched;  /* matched to a START */
};

static inline bool kvi_tag_is_auto(uint64_t tag)
{
	return (tag & KVT_TAG_MAX) != 0;
}

/* The lane all messages of a tag travel on (docs/protocol.md 6.1). */
unsigned kvi_tag_queue_get_home(uint64_t tag, unsigned lane_count);

/* The tag queue of tag on shard, NULL when there is none. */
struct kvi_tag_queue *kvi_tag_queue_find(struct kvi_shard *shard, uint64_t tag);

/* The same, made if there is none; NULL without memory or beyond the limit. */
struct kvi_tag_queue *kvi_tag_queue_get(struct kvi_shard *shard, struct kvi_link *link,
					uint64_t tag);

/* A message for some tag queue of the link; messages.c. */
enum kvt_err kvi_tag_queue_on_message(struct kvi_link *link, const struct kvi_message *message);

/* The KV has been closed and nothing of it is in flight: tell the peer, drop what waits. */
void kvi_tag_queue_close_kv(struct kvi_tag_queue *queue);

/* Begin to give up every transfer of the tag queue. */
void kvi_tag_queue_give_up(struct kvi_tag_queue *queue, enum kvt_err code, const char *text);

/*
 * The lanes of the shard are severed, and its transfers have ended. Eager messages stay: the sender
 * was told that we have them, so a receive gets them even now.
 */
void kvi_tag_queues_end(struct kvi_shard *shard);

/* Free the shard's tag queues, with what waits in them. */
void kvi_tag_queues_free(struct kvi_shard *shard);

/* The arrival that the next receive takes; NULL when nothing waits. */
struct kvi_arrival *kvi_arrival_get_first(const struct kvi_tag_queue *queue);

/* Take an arrival out of its tag queue; it is the caller's. */
void kvi_arrival_take(struct kvi_tag_queue *queue, struct kvi_arrival *arrival);
void kvi_arrival_free(struct kvi_tag_queue *queue, struct kvi_arrival *arrival);

#endif
