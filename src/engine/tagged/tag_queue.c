/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tag_queue.c - finding a message's tag queue, and the end of tag queues. What a message does to a
 * transfer is in send.c and recv.c.
 */
#include "engine/tagged/tag_queue.h"

#include "base/alloc.h"
#include "engine/core/conn.h"
#include "engine/core/engine.h"
#include "engine/lane/registration.h"
#include "engine/progress/shard.h"
#include "engine/tagged/tagged.h"
#include "engine/tagged/kv.h"
#include "engine/tagged/recv.h"
#include "engine/tagged/send.h"
#include "engine/tagged/start_window.h"
#include "engine/transfer/inbox.h"

unsigned kvi_tag_queue_get_home(uint64_t tag, unsigned lane_count)
{
	if (kvi_tag_is_auto(tag))
		return (unsigned)((tag & ~KVT_TAG_MAX) % lane_count);
	/* The finaliser of splitmix64 (Steele et al., 2014): tags that differ in few bits spread. */
	tag = (tag ^ (tag >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	tag = (tag ^ (tag >> 27)) * UINT64_C(0x94d049bb133111eb);
	return (unsigned)((tag ^ (tag >> 31)) % lane_count);
}

struct kvi_tag_queue *kvi_tag_queue_find(struct kvi_shard *shard, uint64_t tag)
{
	struct kvi_tag_queue *queue;
	HASH_FIND_BYHASHVALUE(hh, shard->tag_queues, &tag, sizeof(tag), kvi_hash_number(tag),
			      queue);
	return queue;
}

struct kvi_tag_queue *kvi_tag_queue_get(struct kvi_shard *shard, struct kvi_link *link,
					uint64_t tag)
{
	struct kvi_tag_queue *queue = kvi_tag_queue_find(shard, tag);
	if (queue != NULL)
		return queue;
	if (atomic_load(&shard->conn->tag_queue_count) >= KVI_KVS_MAX)
		return NULL;
	queue = kvi_alloc(sizeof(*queue));
	if (queue == NULL)
		return NULL;
	kvi_inbox_hold(&shard->conn->engine->inbox, shard->conn, sizeof(*queue));
	queue->tag = tag;
	queue->link = link;
	kvi_list_init(&queue->sends);
	kvi_list_init(&queue->arrivals);
	kvi_list_init(&queue->receives);
	kvi_list_init(&queue->matched);
	kvi_start_window_init(queue);
	HASH_ADD_BYHASHVALUE(hh, shard->tag_queues, tag, sizeof(queue->tag), kvi_hash_number(tag),
			     queue);
	if (queue->hh.tbl == NULL) {
		kvi_free(queue);
		return NULL;
	}
	atomic_fetch_add(&shard->conn->tag_queue_count, 1);
	return queue;
}

/* malloc(3) adds less than 32 bytes to a block. */
_Static_assert(sizeof(struct kvi_arrival) + 3 * 32 <= KVI_MESSAGE_CHARGE, "a message that nobody "
									  "receives costs no more "
									  "than its charge");

/* Three blocks, and a place in a table and among the timers, which grow twofold. */
_Static_assert(sizeof(struct kvi_started) + 2 * 32 + 2 * 2 * sizeof(void *) <= KVI_START_CHARGE,
	       "a START costs no more than its charge");

struct kvi_arrival *kvi_arrival_get_first(const struct kvi_tag_queue *queue)
{
	const struct kvi_timer *place = kvi_timers_get_first(&queue->returned);
	if (place != NULL)
		return &kvi_container_of(place, struct kvi_started, place)->arrival;
	struct kvi_list *node = kvi_list_get_first(&queue->arrivals);
	return node == NULL ? NULL : kvi_container_of(node, struct kvi_arrival, node);
}

void kvi_arrival_take(struct kvi_tag_queue *queue, struct kvi_arrival *arrival)
{
	kvi_list_remove(&arrival->node);
	if (arrival->is_start) {
		struct kvi_started *started =
			kvi_container_of(arrival, struct kvi_started, arrival);
		kvi_timers_clear(&queue->returned, &started->place);
		kvi_table_remove(&queue->link->shard->starts, &started->entry);
	} else {
		atomic_fetch_sub(&queue->link->conn->arrivals, 1);
	}
}

void kvi_arrival_free(struct kvi_tag_queue *queue, struct kvi_arrival *arrival)
{
	if (arrival->is_start)
		kvi_start_window_release(queue->link, arrival->meta_len);
	kvi_free(arrival->meta);
	kvi_free(arrival->data);
	kvi_free(arrival);
}

static void drop_arrivals(struct kvi_tag_queue *queue)
{
	struct kvi_arrival *arrival;
	while ((arrival = kvi_arrival_get_first(queue)) != NULL) {
		kvi_arrival_take(queue, arrival);
		if (!arrival->is_start)
			kvi_link_return_window(queue->link, arrival->meta_len, arrival->len);
		kvi_arrival_free(queue, arrival);
	}
}

static void free_tag_queue(struct kvi_shard *shard, struct kvi_tag_queue *queue)
{
	drop_arrivals(queue);
	kvi_start_window_leave(queue);
	kvi_timers_free(&queue->returned);
	HASH_DELETE(hh, shard->tag_queues, queue);
	atomic_fetch_sub(&shard->conn->tag_queue_count, 1);
	kvi_free(queue);
}

/* KV_CLOSED or KV_CLOSED_ACK. */
static void send_kv_closed(struct kvi_link *link, enum kvi_message_type type, uint64_t tag)
{
	struct kvi_message message = { .type = type, .tag = tag };
	kvi_link_send(link, &message);
}

void kvi_tag_queue_give_up(struct kvi_tag_queue *queue, enum kvt_err code, const char *text)
{
	struct kvi_list *lists[] = { &queue->sends, &queue->matched, &queue->receives };
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		/* The last first: were the first receive to go, the next would send a CTS. */
		struct kvi_list *node = lists[i]->prev;
		while (node != lists[i]) {
			struct kvi_tagged *tagged = kvi_container_of(node, struct kvi_tagged, node);
			node = node->prev;
			kvi_transfer_give_up(&tagged->transfer, code, text);
		}
	}
}

/* The peer has closed its KV: nothing more comes or is taken under this tag. */
static enum kvt_err on_kv_closed(struct kvi_tag_queue *queue, const struct kvi_message *message)
{
	queue->early.generation = 0;
	queue->peer_closed = kvi_tag_is_auto(queue->tag);
	kvi_tag_queue_give_up(queue, KVT_E_PEER_CLOSED, "the peer closed this KV");
	send_kv_closed(queue->link, KVI_MESSAGE_KV_CLOSED_ACK, message->tag);
	return KVT_OK;
}

/* Nobody will receive it. */
static void return_dropped(struct kvi_link *link, const struct kvi_message_eager *eager)
{
	kvi_link_return_window(link, eager->meta.len, eager->data.len);
}

/* A message for a tag that has no tag queue. True when a tag queue is to be made for it. */
static bool wants_tag_queue(struct kvi_link *link, const struct kvi_message *message)
{
	struct kvt_conn *conn = link->conn;
	bool closed = kvi_tag_is_auto(message->tag) &&
		      (message->tag & ~KVT_TAG_MAX) < atomic_load(&conn->next_auto_tag);
	switch (message->type) {
	case KVI_MESSAGE_EAGER:
	case KVI_MESSAGE_START:
	case KVI_MESSAGE_CTS:
		if (!closed)
			return true;
		if (message->type == KVI_MESSAGE_EAGER)
			return_dropped(link, &message->eager);
		send_kv_closed(link, KVI_MESSAGE_KV_CLOSED, message->tag);
		return false;
	case KVI_MESSAGE_CANCEL:
		kvi_send_cack(link, message->tag, &message->cancel);
		return false;
	case KVI_MESSAGE_KV_CLOSED:
		/* The KV that will be opened here under an automatic tag has to know. */
		if (kvi_tag_is_auto(message->tag) && !closed)
			return true;
		send_kv_closed(link, KVI_MESSAGE_KV_CLOSED_ACK, message->tag);
		return false;
	default:
		return false; /* an answer to something that has ended meanwhile */
	}
}

/* While our KV_CLOSED is on its way, what comes was meant for the closed KV. True: it was. */
static bool is_stale(struct kvi_tag_queue *queue, const struct kvi_message *message)
{
	if (queue->draining == 0 || message->type == KVI_MESSAGE_KV_CLOSED ||
	    message->type == KVI_MESSAGE_KV_CLOSED_ACK || message->type == KVI_MESSAGE_CANCEL)
		return false;
	if (message->type == KVI_MESSAGE_EAGER) {
		return_dropped(queue->link, &message->eager);
		queue->next_arrival_seq = message->eager.seq + 1;
	} else if (message->type == KVI_MESSAGE_START) {
		queue->next_arrival_seq = message->start.seq + 1;
	}
	return true;
}

static enum kvt_err on_kv_closed_ack(struct kvi_tag_queue *queue, const struct kvi_message *message)
{
	(void)message;
	if (queue->draining == 0)
		return KVT_E_PROTOCOL;
	queue->draining--;
	if (queue->draining == 0 && queue->kv == NULL && kvi_tag_is_auto(queue->tag))
		free_tag_queue(queue->link->shard, queue);
	return KVT_OK;
}

static enum kvt_err (*const handlers[])(struct kvi_tag_queue *queue,
					const struct kvi_message *message) = {
	[KVI_MESSAGE_EAGER] = kvi_recv_on_eager,
	[KVI_MESSAGE_START] = kvi_recv_on_start,
	[KVI_MESSAGE_CTS] = kvi_send_on_cts,
	[KVI_MESSAGE_FIN] = kvi_recv_on_fin,
	[KVI_MESSAGE_ACK] = kvi_send_on_ack,
	[KVI_MESSAGE_CANCEL] = kvi_send_on_cancel,
	[KVI_MESSAGE_CACK] = kvi_recv_on_cack,
	[KVI_MESSAGE_ABORT] = kvi_recv_on_abort,
	[KVI_MESSAGE_REFUSED] = kvi_send_on_refused,
	[KVI_MESSAGE_KV_CLOSED] = on_kv_closed,
	[KVI_MESSAGE_KV_CLOSED_ACK] = on_kv_closed_ack,
	[KVI_MESSAGE_WRONG] = kvi_send_on_wrong,
};

enum kvt_err kvi_tag_queue_on_message(struct kvi_link *link, const struct kvi_message *message)
{
	struct kvt_conn *conn = link->conn;
	if (kvi_tag_queue_get_home(message->tag, conn->lane_count) != link->index)
		return KVT_E_PROTOCOL;
	struct kvi_tag_queue *queue = kvi_tag_queue_find(link->shard, message->tag);
	if (queue == NULL) {
		if (!wants_tag_queue(link, message))
			return KVT_OK;
		queue = kvi_tag_queue_get(link->shard, link, message->tag);
		if (queue == NULL)
			return KVT_E_LIMIT;
	}
	return is_stale(queue, message) ? KVT_OK : handlers[message->type](queue, message);
}

void kvi_tag_queue_close_kv(struct kvi_tag_queue *queue)
{
	drop_arrivals(queue);
	queue->early.generation = 0;
	queue->kv = NULL;
	queue->draining++;
	send_kv_closed(queue->link, KVI_MESSAGE_KV_CLOSED, queue->tag);
}

static void drop_starts(struct kvi_tag_queue *queue)
{
	struct kvi_timer *place;
	while ((place = kvi_timers_get_first(&queue->returned)) != NULL) {
		struct kvi_started *started = kvi_container_of(place, struct kvi_started, place);
		kvi_arrival_take(queue, &started->arrival);
		kvi_arrival_free(queue, &started->arrival);
	}
	kvi_list_for_each (node, next_node, &queue->arrivals) {
		struct kvi_arrival *arrival = kvi_container_of(node, struct kvi_arrival, node);
		if (!arrival->is_start)
			continue;
		kvi_arrival_take(queue, arrival);
		kvi_arrival_free(queue, arrival);
	}
}

void kvi_tag_queues_end(struct kvi_shard *shard)
{
	struct kvi_tag_queue *queue, *next;
	HASH_ITER(hh, shard->tag_queues, queue, next)
	{
		drop_starts(queue);
		if (queue->kv == NULL)
			continue;
		kvi_registration_close(queue->kv->registration);
		queue->kv->registration = NULL;
	}
}

void kvi_tag_queues_free(struct kvi_shard *shard)
{
	struct kvi_tag_queue *queue, *next;
	HASH_ITER(hh, shard->tag_queues, queue, next)
	free_tag_queue(shard, queue);
}
