/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recv.c - matching messages with receives; sending CTS, and cancelling them.
 *
 * Design notes. Receives are matched in order: only the first of queue->receives may have a CTS out
 * (EARLY), for the message that comes next; the others wait. Once a START is matched its receive
 * moves to queue->matched and the next one is first. Where the receive of a START is given up, the
 * message goes to the first of those that wait, ahead of all that came later; that one cancels its
 * early CTS first. CANCEL is answered by CACK (the sender writes no more) or FIN (it had finished:
 * the receive succeeds), or the connection is severed. The registration stays open until then: on
 * tcp, closing it does not stop a write under way, and the next write would make the provider drop
 * the whole connection.
 */
#include "engine/tagged/recv.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/copy.h"
#include "base/error.h"
#include "engine/core/conn.h"
#include "engine/core/engine.h"
#include "engine/lane/registration.h"
#include "engine/progress/shard.h"
#include "engine/tagged/start_window.h"
#include "engine/tagged/verify.h"
#include "engine/transfer/inbox.h"

static void send_ack(const struct kvi_tag_queue *queue, uint64_t seq)
{
	struct kvi_message ack;
	kvi_message_begin(&ack, KVI_MESSAGE_ACK, queue->tag);
	ack.ack.seq = seq;
	kvi_link_send(queue->link, &ack);
}

static struct kvi_tagged *get_first(const struct kvi_list *list)
{
	struct kvi_list *node = kvi_list_get_first(list);
	return node == NULL ? NULL : kvi_container_of(node, struct kvi_tagged, node);
}

/* ---- CTS ---- */

/* Register the receive's memory and tell the sender. */
static enum kvt_err send_cts(struct kvi_tagged *receive, uint64_t seq, size_t len,
			     struct kvt_error *error)
{
	struct kvi_tag_queue *queue = receive->queue;
	enum kvt_err err = kvi_registration_open(receive->transfer.conn, receive->base, len,
						 KVI_ACCESS_REMOTE_WRITE, &receive->registration,
						 error);
	if (err != KVT_OK)
		return err;
	receive->seq = seq;
	receive->generation = atomic_fetch_add(&receive->transfer.conn->next_generation, 1);
	struct kvi_message cts = {
		.type = KVI_MESSAGE_CTS,
		.tag = queue->tag,
		.cts = { .seq = seq, .generation = receive->generation, .capacity = len },
	};
	cts.cts.rkey_count = kvi_registration_get_rkeys(receive->registration, cts.cts.rkeys);
	kvi_link_send(queue->link, &cts);
	return KVT_OK;
}

/* The receive's own buffer, or one of len bytes allocated for it. False without memory. */
static bool provide_buffer(struct kvi_tagged *receive, size_t len)
{
	if (receive->base != NULL || len == 0)
		return true;
	receive->transfer.data = kvi_alloc_data(len);
	receive->base = receive->transfer.data;
	return receive->transfer.data != NULL;
}

/* Match a START: its message will be written into receive. */
static void match_start(struct kvi_tag_queue *queue, struct kvi_tagged *receive,
			struct kvi_arrival *arrival)
{
	if (receive->state != KVI_RECV_EARLY) {
		struct kvt_error error = { .code = KVT_OK };
		if (!provide_buffer(receive, arrival->len))
			kvi_fail(&error, KVT_E_NO_MEMORY, 0, "no memory for a message of %zu bytes",
				 arrival->len);
		else
			send_cts(receive, arrival->seq, arrival->len, &error);
		if (error.code != KVT_OK) {
			kvi_tagged_complete(receive, &error);
			return;
		}
	}
	kvi_arrival_take(queue, arrival);
	receive->arrival = arrival;
	receive->state = KVI_RECV_MATCHED;
	kvi_list_remove(&receive->node);
	kvi_list_append(&queue->matched, &receive->node);
	if (!kvi_table_add(&queue->link->shard->matched, &receive->entry, queue->tag, receive->seq))
		kvi_conn_fail(receive->transfer.conn, KVT_E_NO_MEMORY, 0,
			      "no memory for a receive");
}

/* Cancel a CTS. The receive stays as it is, but for its state, until that is settled. */
static void take_back(struct kvi_tag_queue *queue, struct kvi_tagged *receive)
{
	struct kvi_message cancel = {
		.type = KVI_MESSAGE_CANCEL,
		.tag = queue->tag,
		.cancel = { .seq = receive->seq, .generation = receive->generation },
	};
	receive->state = KVI_RECV_CANCELLING;
	kvi_link_send(queue->link, &cancel);
}

/* The CTS was cancelled: nobody writes under it any more. */
static void settle_taken_back(struct kvi_tagged *receive)
{
	if (kvi_tagged_is_given_up(receive)) {
		kvi_tagged_complete_given_up(receive);
		return;
	}
	kvi_registration_close(receive->registration);
	receive->registration = NULL;
	receive->state = KVI_RECV_QUEUED;
}

/* The first receive may be written into as soon as the sender comes, if it is one for large messages. False: it has failed,
 * and another is the first. */
static bool offer_early(struct kvi_tag_queue *queue, struct kvi_tagged *receive)
{
	if (receive->state != KVI_RECV_QUEUED || receive->base == NULL ||
	    receive->len <= receive->transfer.conn->eager_len || queue->draining > 0)
		return true;
	struct kvt_error error;
	if (send_cts(receive, queue->next_arrival_seq, receive->len, &error) != KVT_OK) {
		kvi_tagged_complete(receive, &error);
		return false;
	}
	receive->state = KVI_RECV_EARLY;
	return true;
}

/* ---- matching ---- */

static void refuse_message(struct kvi_tag_queue *queue, struct kvi_tagged *receive,
			   const struct kvi_arrival *arrival)
{
	struct kvt_error error;
	receive->transfer.result_len = arrival->len;
	kvi_fail(&error, KVT_E_TOO_LARGE, 0, "the message has %zu bytes, the receive takes %zu",
		 arrival->len, receive->len);
	struct kvi_message refused = {
		.type = KVI_MESSAGE_REFUSED,
		.tag = queue->tag,
		.refused = { .seq = arrival->seq, .capacity = receive->len },
	};
	if (arrival->is_start)
		kvi_link_send(queue->link, &refused);
	kvi_tagged_complete(receive, &error);
}

static void deliver(struct kvi_tag_queue *queue, struct kvi_tagged *receive,
		    struct kvi_arrival *arrival)
{
	kvi_arrival_take(queue, arrival);
	if (receive->base != NULL) {
		if (arrival->len > 0)
			kvi_copy(receive->base, arrival->data, arrival->len);
	} else {
		receive->transfer.data = arrival->data;
		arrival->data = NULL;
	}
	receive->transfer.meta = arrival->meta;
	receive->transfer.meta_len = arrival->meta_len;
	receive->transfer.result_len = arrival->len;
	arrival->meta = NULL;
	/* An empty message may come as a START, which is not of the window and has had no ACK. */
	if (arrival->is_start)
		send_ack(queue, arrival->seq);
	else
		kvi_link_return_window(queue->link, arrival->meta_len, arrival->len);
	kvi_arrival_free(queue, arrival);
	kvi_tagged_complete(receive, NULL);
}

static void match(struct kvi_tag_queue *queue)
{
	for (;;) {
		struct kvi_tagged *receive = get_first(&queue->receives);
		if (receive == NULL || receive->state == KVI_RECV_CANCELLING)
			return;
		struct kvi_arrival *arrival = kvi_arrival_get_first(queue);
		if (arrival == NULL && offer_early(queue, receive))
			return;
		if (arrival == NULL)
			continue;
		if (receive->state == KVI_RECV_EARLY && receive->seq != arrival->seq) {
			take_back(queue, receive);
			return;
		}
		if (arrival->len > receive->len)
			refuse_message(queue, receive, arrival);
		else if (arrival->is_start && arrival->len > 0)
			match_start(queue, receive, arrival);
		else
			deliver(queue, receive, arrival);
	}
}

void kvi_recv_start(struct kvi_tagged *receive)
{
	receive->state = KVI_RECV_QUEUED;
	kvi_list_append(&receive->queue->receives, &receive->node);
	match(receive->queue);
}

/* ---- arrivals ---- */

/* The first receive is cancelling its CTS: this message makes that CTS void. */
static void settle_cancelling(struct kvi_tag_queue *queue, uint64_t seq, bool is_start, size_t len)
{
	struct kvi_tagged *first = get_first(&queue->receives);
	if (first != NULL && first->state == KVI_RECV_CANCELLING && first->seq == seq &&
	    (!is_start || len == 0 || len > first->len))
		settle_taken_back(first);
}

static struct kvi_arrival *alloc_arrival(struct kvi_tag_queue *queue, uint64_t seq, bool is_start)
{
	if (!is_start)
		return kvi_alloc(sizeof(struct kvi_arrival));
	struct kvi_started *started = kvi_alloc(sizeof(*started));
	if (started == NULL)
		return NULL;
	if (kvi_table_add(&queue->link->shard->starts, &started->entry, queue->tag, seq))
		return &started->arrival;
	kvi_free(started);
	return NULL;
}

/* data: NULL for a START of len bytes. */
static enum kvt_err queue_arrival(struct kvi_tag_queue *queue, uint64_t seq, size_t len,
				  const struct kvi_view *meta, const struct kvi_view *data)
{
	bool is_start = data == NULL;
	size_t data_len = is_start ? 0 : len;
	struct kvi_arrival *arrival = alloc_arrival(queue, seq, is_start);
	if (arrival == NULL)
		return KVT_E_NO_MEMORY;
	kvi_list_init(&arrival->node);
	arrival->is_start = is_start;
	arrival->meta_len = meta->len;
	arrival->meta = kvi_alloc_data(meta->len);
	arrival->data = kvi_alloc_data(data_len);
	if ((arrival->meta == NULL && meta->len > 0) || (arrival->data == NULL && data_len > 0)) {
		if (is_start)
			kvi_arrival_take(queue, arrival);
		kvi_arrival_free(queue, arrival);
		return KVT_E_NO_MEMORY;
	}
	if (meta->len > 0)
		memcpy(arrival->meta, meta->bytes, meta->len);
	if (data_len > 0)
		kvi_copy(arrival->data, data->bytes, data_len);
	arrival->seq = seq;
	arrival->len = len;
	kvi_list_append(&queue->arrivals, &arrival->node);
	struct kvt_conn *conn = queue->link->conn;
	if (!is_start)
		atomic_fetch_add(&conn->arrivals, 1);
	kvi_inbox_hold(&conn->engine->inbox, conn, sizeof(*arrival) + meta->len + data_len);
	return KVT_OK;
}

/* A receive that waits takes an eager message straight from the packet. False: queue it. */
static bool deliver_at_once(struct kvi_tag_queue *queue, const struct kvi_message_eager *eager)
{
	struct kvi_tagged *receive = get_first(&queue->receives);
	if (receive == NULL || receive->state == KVI_RECV_CANCELLING || receive->base == NULL ||
	    eager->data.len > receive->len || kvi_arrival_get_first(queue) != NULL)
		return false;
	uint8_t *meta = kvi_alloc_data(eager->meta.len);
	if (meta == NULL && eager->meta.len > 0)
		return false;
	if (eager->meta.len > 0)
		memcpy(meta, eager->meta.bytes, eager->meta.len);
	if (eager->data.len > 0)
		kvi_copy(receive->base, eager->data.bytes, eager->data.len);
	receive->transfer.meta = meta;
	receive->transfer.meta_len = eager->meta.len;
	receive->transfer.result_len = eager->data.len;
	kvi_link_return_window(queue->link, eager->meta.len, eager->data.len);
	kvi_tagged_complete(receive, NULL);
	return true;
}

enum kvt_err kvi_recv_on_eager(struct kvi_tag_queue *queue, const struct kvi_message *message)
{
	const struct kvi_message_eager *eager = &message->eager;
	if (eager->seq != queue->next_arrival_seq)
		return KVT_E_PROTOCOL;
	queue->next_arrival_seq++;
	settle_cancelling(queue, eager->seq, false, eager->data.len);
	if (!deliver_at_once(queue, eager)) {
		enum kvt_err err = queue_arrival(queue, eager->seq, eager->data.len, &eager->meta,
						 &eager->data);
		if (err != KVT_OK)
			return err;
	}
	send_ack(queue, eager->seq);
	match(queue);
	return KVT_OK;
}

enum kvt_err kvi_recv_on_start(struct kvi_tag_queue *queue, const struct kvi_message *message)
{
	const struct kvi_message_start *start = &message->start;
	if (start->seq != queue->next_arrival_seq || start->len > PTRDIFF_MAX)
		return KVT_E_PROTOCOL;
	queue->next_arrival_seq++;
	if (!kvi_start_window_hold(queue->link, start->meta.len)) {
		kvi_conn_fail(queue->link->conn, KVT_E_PROTOCOL, 0,
			      "the peer announces more messages than its window holds: more than "
			      "%d bytes on lane %u that no receive has taken",
			      KVI_START_WINDOW, queue->link->index);
		return KVT_E_PROTOCOL;
	}
	settle_cancelling(queue, start->seq, true, start->len);
	enum kvt_err err = queue_arrival(queue, start->seq, start->len, &start->meta, NULL);
	if (err == KVT_OK)
		match(queue);
	return err;
}

/* ---- FIN, CACK, ABORT ---- */

/* The receive that a message of the sender is about; also an early one that is being cancelled. */
static struct kvi_tagged *find_matched(struct kvi_tag_queue *queue, uint64_t seq,
				       uint64_t generation)
{
	struct kvi_tagged *first = get_first(&queue->receives);
	if (first != NULL && first->state == KVI_RECV_CANCELLING && first->seq == seq &&
	    (generation == 0 || first->generation == generation))
		return first;
	struct kvi_entry *entry = kvi_table_find(&queue->link->shard->matched, queue->tag, seq);
	if (entry == NULL)
		return NULL;
	struct kvi_tagged *receive = kvi_container_of(entry, struct kvi_tagged, entry);
	return generation == 0 || receive->generation == generation ? receive : NULL;
}

static struct kvi_arrival *find_arrival(struct kvi_tag_queue *queue, uint64_t seq)
{
	struct kvi_entry *entry = kvi_table_find(&queue->link->shard->starts, queue->tag, seq);
	return entry == NULL ? NULL : &kvi_container_of(entry, struct kvi_started, entry)->arrival;
}

/* The message stays for another receive, at its place: all that was matched came before what was not. */
static void put_back(struct kvi_tag_queue *queue, struct kvi_arrival *arrival)
{
	struct kvi_started *started = kvi_container_of(arrival, struct kvi_started, arrival);
	if (kvi_table_add(&queue->link->shard->starts, &started->entry, queue->tag, arrival->seq) &&
	    kvi_timers_set(&queue->returned, &started->place, (int64_t)arrival->seq))
		return;
	kvi_table_remove(&queue->link->shard->starts, &started->entry);
	kvi_arrival_free(queue, arrival);
	kvi_conn_fail(queue->link->conn, KVT_E_NO_MEMORY, 0, "no memory for a message");
}

enum kvt_err kvi_recv_on_fin(struct kvi_tag_queue *queue, const struct kvi_message *message)
{
	const struct kvi_message_fin *fin = &message->fin;
	struct kvi_tagged *receive = find_matched(queue, fin->seq, fin->generation);
	if (receive == NULL || receive->state == KVI_RECV_VERIFYING)
		return KVT_E_PROTOCOL;
	struct kvi_arrival *arrival = receive->arrival;
	if (arrival == NULL)
		arrival = find_arrival(queue, fin->seq);
	if (arrival == NULL || arrival->len != fin->len)
		return KVT_E_PROTOCOL;
	kvi_arrival_take(queue, arrival);
	receive->arrival = NULL;
	receive->transfer.meta = arrival->meta;
	receive->transfer.meta_len = arrival->meta_len;
	receive->transfer.result_len = arrival->len;
	arrival->meta = NULL;
	kvi_arrival_free(queue, arrival);
	/* Whatever else it waited for is over: the next receive is not held up by it. */
	receive->state = KVI_RECV_VERIFYING;
	kvi_list_remove(&receive->node);
	kvi_list_append(&queue->matched, &receive->node);
	if (message->has_sum)
		kvi_verify_start(receive, fin->len, message->sum);
	else
		kvi_recv_finish(receive, true);
	match(queue);
	return KVT_OK;
}

void kvi_recv_finish(struct kvi_tagged *receive, bool is_right)
{
	struct kvi_tag_queue *queue = receive->queue;
	if (is_right) {
		send_ack(queue, receive->seq);
		kvi_tagged_complete(receive, NULL);
		return;
	}
	struct kvi_message wrong = {
		.type = KVI_MESSAGE_WRONG,
		.tag = queue->tag,
		.wrong.seq = receive->seq,
	};
	struct kvt_error error;
	kvi_link_send(queue->link, &wrong);
	kvi_conn_on_corrupt(queue->link->conn, "a message of the peer's");
	kvi_fail(&error, KVT_E_CORRUPT, 0, "%s", kvt_err_get_text(KVT_E_CORRUPT));
	receive->transfer.result_len = 0;
	kvi_tagged_complete(receive, &error);
}

enum kvt_err kvi_recv_on_cack(struct kvi_tag_queue *queue, const struct kvi_message *message)
{
	struct kvi_tagged *receive =
		find_matched(queue, message->cancel.seq, message->cancel.generation);
	if (receive == NULL || receive->state != KVI_RECV_CANCELLING)
		return KVT_OK; /* something else had settled it */
	struct kvi_arrival *arrival = receive->arrival;
	receive->arrival = NULL;
	if (arrival != NULL)
		put_back(queue, arrival);
	settle_taken_back(receive);
	match(queue);
	return KVT_OK;
}

enum kvt_err kvi_recv_on_abort(struct kvi_tag_queue *queue, const struct kvi_message *message)
{
	struct kvi_arrival *arrival = find_arrival(queue, message->abort.seq);
	if (arrival != NULL) {
		kvi_arrival_take(queue, arrival);
		kvi_arrival_free(queue, arrival);
	}
	struct kvi_tagged *receive = find_matched(queue, message->abort.seq, 0);
	if (receive != NULL && receive->state == KVI_RECV_CANCELLING) {
		settle_taken_back(receive);
	} else if (receive != NULL) {
		struct kvt_error error;
		kvi_fail(&error, KVT_E_CANCELLED, 0, "the peer gave up its send: %s",
			 kvt_err_get_text(message->abort.code));
		kvi_tagged_complete(receive, &error);
	}
	match(queue);
	return KVT_OK;
}

void kvi_recv_give_up(struct kvi_tagged *receive)
{
	struct kvi_tag_queue *queue = receive->queue;
	if (receive->state == KVI_RECV_QUEUED) {
		kvi_tagged_complete_given_up(receive);
		match(queue);
		return;
	}
	/* All has come, and is answered as soon as it is summed. */
	if (receive->state == KVI_RECV_VERIFYING)
		return;
	kvi_transfer_await_quiet(&receive->transfer);
	if (receive->state != KVI_RECV_CANCELLING)
		take_back(queue, receive);
}
