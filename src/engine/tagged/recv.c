/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recv.c - matching messages with receives, granting memory to the sender, and taking it back.
 *
 * Design notes. Receives are matched in order: only the first of channel->receives may have a CTS out
 * (EARLY), for the message that comes next; the others wait. Once a START is matched its receive moves
 * to channel->granted and the next one is first. Where the receive of a START is given up, the message goes
 * to the first of those that wait, ahead of all that came later; that one takes its early CTS back first. A grant is taken back by asking: CANCEL, then CACK
 * (the sender writes no more), or FIN (it had finished: the receive succeeds), or the connection is
 * cut. The window stays registered until then: on tcp, closing it does not stop a write under way, and
 * the next write would make the provider drop the whole connection.
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
#include "engine/lane/window.h"
#include "engine/progress/part.h"
#include "engine/transfer/inbox.h"

static void match(struct kvi_channel *channel);

static void send_ack(const struct kvi_channel *channel, uint64_t seq)
{
	struct kvi_message ack = { .type = KVI_MESSAGE_ACK, .tag = channel->tag, .ack.seq = seq };
	kvi_link_send(channel->link, &ack);
}

static struct kvi_exchange *get_first(const struct kvi_list *list)
{
	struct kvi_list *node = kvi_list_get_first(list);
	return node == NULL ? NULL : kvi_container_of(node, struct kvi_exchange, node);
}

/* ---- grants ---- */

/* Register the receive's memory and tell the sender. */
static enum kvt_err send_cts(struct kvi_exchange *receive, uint64_t seq, size_t len,
			     struct kvt_error *error)
{
	struct kvi_channel *channel = receive->channel;
	enum kvt_err err = kvi_window_open(receive->transfer.conn, receive->base, len,
					   KVI_ACCESS_REMOTE_WRITE, &receive->window, error);
	if (err != KVT_OK)
		return err;
	receive->seq = seq;
	receive->generation = atomic_fetch_add(&receive->transfer.conn->next_generation, 1);
	struct kvi_message cts = {
		.type = KVI_MESSAGE_CTS,
		.tag = channel->tag,
		.cts = { .seq = seq, .generation = receive->generation, .capacity = len },
	};
	cts.cts.grant_count = kvi_window_get_grants(receive->window, cts.cts.grants);
	kvi_link_send(channel->link, &cts);
	return KVT_OK;
}

/* The receive's own buffer, or one of len bytes allocated for it. False without memory. */
static bool provide_buffer(struct kvi_exchange *receive, size_t len)
{
	if (receive->base != NULL || len == 0)
		return true;
	receive->transfer.data = kvi_alloc_data(len);
	receive->base = receive->transfer.data;
	return receive->transfer.data != NULL;
}

/* Match a START: its message will be written into receive. */
static void grant(struct kvi_channel *channel, struct kvi_exchange *receive,
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
			kvi_exchange_complete(receive, &error);
			return;
		}
	}
	kvi_arrival_take(channel, arrival);
	receive->arrival = arrival;
	receive->state = KVI_RECV_GRANTED;
	kvi_list_remove(&receive->node);
	kvi_list_append(&channel->granted, &receive->node);
	if (!kvi_table_add(&channel->link->part->granted, &receive->entry, channel->tag,
			   receive->seq))
		kvi_conn_fail(receive->transfer.conn, KVT_E_NO_MEMORY, 0,
			      "no memory for a receive");
}

/* Ask for a grant back. The receive stays as it is, but for its state, until that is settled. */
static void take_back(struct kvi_channel *channel, struct kvi_exchange *receive)
{
	struct kvi_message cancel = {
		.type = KVI_MESSAGE_CANCEL,
		.tag = channel->tag,
		.cancel = { .seq = receive->seq, .generation = receive->generation },
	};
	receive->state = KVI_RECV_CANCELLING;
	kvi_link_send(channel->link, &cancel);
}

/* Nobody writes any more under the grant that was asked back. */
static void settle_taken_back(struct kvi_exchange *receive)
{
	if (receive->transfer.reason.code != KVT_OK) {
		kvi_exchange_complete(receive, &receive->transfer.reason);
		return;
	}
	kvi_window_close(receive->window);
	receive->window = NULL;
	receive->state = KVI_RECV_QUEUED;
}

/* The first receive may be written into as soon as the sender comes, if it is one for large messages. */
static void offer_early(struct kvi_channel *channel, struct kvi_exchange *receive)
{
	if (receive->state != KVI_RECV_QUEUED || receive->base == NULL ||
	    receive->len <= receive->transfer.conn->eager_len || channel->draining > 0)
		return;
	struct kvt_error error;
	if (send_cts(receive, channel->next_arrival_seq, receive->len, &error) != KVT_OK) {
		kvi_exchange_complete(receive, &error);
		match(channel);
		return;
	}
	receive->state = KVI_RECV_EARLY;
}

/* ---- matching ---- */

static void refuse(struct kvi_channel *channel, struct kvi_exchange *receive,
		   const struct kvi_arrival *arrival)
{
	struct kvt_error error;
	receive->transfer.result_len = arrival->len;
	kvi_fail(&error, KVT_E_TOO_LARGE, 0, "the message has %zu bytes, the receive takes %zu",
		 arrival->len, receive->len);
	struct kvi_message refused = {
		.type = KVI_MESSAGE_REFUSED,
		.tag = channel->tag,
		.refused = { .seq = arrival->seq, .capacity = receive->len },
	};
	if (arrival->is_start)
		kvi_link_send(channel->link, &refused);
	kvi_exchange_complete(receive, &error);
}

static void deliver(struct kvi_channel *channel, struct kvi_exchange *receive,
		    struct kvi_arrival *arrival)
{
	kvi_arrival_take(channel, arrival);
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
		send_ack(channel, arrival->seq);
	else
		kvi_link_return_window(channel->link, arrival->meta_len, arrival->len);
	kvi_arrival_free(arrival);
	kvi_exchange_complete(receive, NULL);
}

static void match(struct kvi_channel *channel)
{
	for (;;) {
		struct kvi_exchange *receive = get_first(&channel->receives);
		if (receive == NULL || receive->state == KVI_RECV_CANCELLING)
			return;
		struct kvi_arrival *arrival = kvi_arrival_get_first(channel);
		if (arrival == NULL) {
			offer_early(channel, receive);
			return;
		}
		if (receive->state == KVI_RECV_EARLY && receive->seq != arrival->seq) {
			take_back(channel, receive);
			return;
		}
		if (arrival->len > receive->len)
			refuse(channel, receive, arrival);
		else if (arrival->is_start && arrival->len > 0)
			grant(channel, receive, arrival);
		else
			deliver(channel, receive, arrival);
	}
}

void kvi_recv_start(struct kvi_exchange *receive)
{
	receive->state = KVI_RECV_QUEUED;
	kvi_list_append(&receive->channel->receives, &receive->node);
	match(receive->channel);
}

/* ---- arrivals ---- */

/* The first receive is cancelling its CTS: this message makes that CTS void. */
static void settle_cancelling(struct kvi_channel *channel, uint64_t seq, bool is_start, size_t len)
{
	struct kvi_exchange *first = get_first(&channel->receives);
	if (first != NULL && first->state == KVI_RECV_CANCELLING && first->seq == seq &&
	    (!is_start || len == 0 || len > first->len))
		settle_taken_back(first);
}

static struct kvi_arrival *alloc_arrival(struct kvi_channel *channel, uint64_t seq, bool is_start)
{
	if (!is_start)
		return kvi_alloc(sizeof(struct kvi_arrival));
	struct kvi_started *started = kvi_alloc(sizeof(*started));
	if (started == NULL)
		return NULL;
	if (kvi_table_add(&channel->link->part->starts, &started->entry, channel->tag, seq))
		return &started->arrival;
	kvi_free(started);
	return NULL;
}

/* data: NULL for a START of len bytes. */
static enum kvt_err queue_arrival(struct kvi_channel *channel, uint64_t seq, size_t len,
				  const struct kvi_view *meta, const struct kvi_view *data)
{
	bool is_start = data == NULL;
	size_t data_len = is_start ? 0 : len;
	struct kvi_arrival *arrival = alloc_arrival(channel, seq, is_start);
	if (arrival == NULL)
		return KVT_E_NO_MEMORY;
	kvi_list_init(&arrival->node);
	arrival->is_start = is_start;
	arrival->meta = kvi_alloc_data(meta->len);
	arrival->data = kvi_alloc_data(data_len);
	if ((arrival->meta == NULL && meta->len > 0) || (arrival->data == NULL && data_len > 0)) {
		if (is_start)
			kvi_arrival_take(channel, arrival);
		kvi_arrival_free(arrival);
		return KVT_E_NO_MEMORY;
	}
	if (meta->len > 0)
		memcpy(arrival->meta, meta->bytes, meta->len);
	if (data_len > 0)
		kvi_copy(arrival->data, data->bytes, data_len);
	arrival->meta_len = meta->len;
	arrival->seq = seq;
	arrival->len = len;
	kvi_list_append(&channel->arrivals, &arrival->node);
	struct kvt_conn *conn = channel->link->conn;
	if (!is_start)
		atomic_fetch_add(&conn->arrivals, 1);
	kvi_inbox_hold(&conn->engine->inbox, conn, sizeof(*arrival) + meta->len + data_len);
	return KVT_OK;
}

/* A receive that waits takes an eager message straight from the packet. False: queue it. */
static bool deliver_at_once(struct kvi_channel *channel, const struct kvi_message_eager *eager)
{
	struct kvi_exchange *receive = get_first(&channel->receives);
	if (receive == NULL || receive->state == KVI_RECV_CANCELLING || receive->base == NULL ||
	    eager->data.len > receive->len || kvi_arrival_get_first(channel) != NULL)
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
	kvi_link_return_window(channel->link, eager->meta.len, eager->data.len);
	kvi_exchange_complete(receive, NULL);
	return true;
}

enum kvt_err kvi_recv_on_eager(struct kvi_channel *channel, const struct kvi_message *message)
{
	const struct kvi_message_eager *eager = &message->eager;
	if (eager->seq != channel->next_arrival_seq)
		return KVT_E_PROTOCOL;
	channel->next_arrival_seq++;
	settle_cancelling(channel, eager->seq, false, eager->data.len);
	if (!deliver_at_once(channel, eager)) {
		enum kvt_err err = queue_arrival(channel, eager->seq, eager->data.len, &eager->meta,
						 &eager->data);
		if (err != KVT_OK)
			return err;
	}
	send_ack(channel, eager->seq);
	match(channel);
	return KVT_OK;
}

enum kvt_err kvi_recv_on_start(struct kvi_channel *channel, const struct kvi_message *message)
{
	const struct kvi_message_start *start = &message->start;
	if (start->seq != channel->next_arrival_seq || start->len > PTRDIFF_MAX)
		return KVT_E_PROTOCOL;
	channel->next_arrival_seq++;
	settle_cancelling(channel, start->seq, true, start->len);
	enum kvt_err err = queue_arrival(channel, start->seq, start->len, &start->meta, NULL);
	if (err == KVT_OK)
		match(channel);
	return err;
}

/* ---- FIN, CACK, ABORT ---- */

/* The receive that a message of the sender is about; also an early one that is being cancelled. */
static struct kvi_exchange *find_granted(struct kvi_channel *channel, uint64_t seq,
					 uint64_t generation)
{
	struct kvi_exchange *first = get_first(&channel->receives);
	if (first != NULL && first->state == KVI_RECV_CANCELLING && first->seq == seq &&
	    (generation == 0 || first->generation == generation))
		return first;
	struct kvi_entry *entry = kvi_table_find(&channel->link->part->granted, channel->tag, seq);
	if (entry == NULL)
		return NULL;
	struct kvi_exchange *receive = kvi_container_of(entry, struct kvi_exchange, entry);
	return generation == 0 || receive->generation == generation ? receive : NULL;
}

static struct kvi_arrival *find_arrival(struct kvi_channel *channel, uint64_t seq)
{
	struct kvi_entry *entry = kvi_table_find(&channel->link->part->starts, channel->tag, seq);
	return entry == NULL ? NULL : &kvi_container_of(entry, struct kvi_started, entry)->arrival;
}

/* The message stays for another receive, at its place: all that was matched came before what was not. */
static void put_back(struct kvi_channel *channel, struct kvi_arrival *arrival)
{
	struct kvi_started *started = kvi_container_of(arrival, struct kvi_started, arrival);
	if (kvi_table_add(&channel->link->part->starts, &started->entry, channel->tag,
			  arrival->seq) &&
	    kvi_timers_set(&channel->returned, &started->place, (int64_t)arrival->seq))
		return;
	kvi_table_remove(&channel->link->part->starts, &started->entry);
	kvi_arrival_free(arrival);
	kvi_conn_fail(channel->link->conn, KVT_E_NO_MEMORY, 0, "no memory for a message");
}

enum kvt_err kvi_recv_on_fin(struct kvi_channel *channel, const struct kvi_message *message)
{
	const struct kvi_message_fin *fin = &message->fin;
	struct kvi_exchange *receive = find_granted(channel, fin->seq, fin->generation);
	if (receive == NULL)
		return KVT_E_PROTOCOL;
	struct kvi_arrival *arrival = receive->arrival;
	if (arrival == NULL)
		arrival = find_arrival(channel, fin->seq);
	if (arrival == NULL || arrival->len != fin->len)
		return KVT_E_PROTOCOL;
	kvi_arrival_take(channel, arrival);
	receive->arrival = NULL;
	receive->transfer.meta = arrival->meta;
	receive->transfer.meta_len = arrival->meta_len;
	receive->transfer.result_len = arrival->len;
	arrival->meta = NULL;
	kvi_arrival_free(arrival);
	send_ack(channel, fin->seq);
	kvi_exchange_complete(receive, NULL);
	match(channel);
	return KVT_OK;
}

enum kvt_err kvi_recv_on_cack(struct kvi_channel *channel, const struct kvi_message *message)
{
	struct kvi_exchange *receive =
		find_granted(channel, message->cancel.seq, message->cancel.generation);
	if (receive == NULL || receive->state != KVI_RECV_CANCELLING)
		return KVT_OK; /* something else had settled it */
	struct kvi_arrival *arrival = receive->arrival;
	receive->arrival = NULL;
	if (arrival != NULL)
		put_back(channel, arrival);
	settle_taken_back(receive);
	match(channel);
	return KVT_OK;
}

enum kvt_err kvi_recv_on_abort(struct kvi_channel *channel, const struct kvi_message *message)
{
	struct kvi_arrival *arrival = find_arrival(channel, message->abort.seq);
	if (arrival != NULL) {
		kvi_arrival_take(channel, arrival);
		kvi_arrival_free(arrival);
	}
	struct kvi_exchange *receive = find_granted(channel, message->abort.seq, 0);
	if (receive != NULL && receive->state == KVI_RECV_CANCELLING) {
		settle_taken_back(receive);
	} else if (receive != NULL) {
		struct kvt_error error;
		kvi_fail(&error, KVT_E_CANCELLED, 0, "the peer gave up its send: %s",
			 kvt_err_get_text(message->abort.code));
		kvi_exchange_complete(receive, &error);
	}
	match(channel);
	return KVT_OK;
}

void kvi_recv_give_up(struct kvi_exchange *receive)
{
	struct kvi_channel *channel = receive->channel;
	if (receive->state == KVI_RECV_QUEUED) {
		kvi_exchange_complete(receive, &receive->transfer.reason);
		match(channel);
		return;
	}
	kvi_transfer_await_quiet(&receive->transfer);
	if (receive->state != KVI_RECV_CANCELLING)
		take_back(channel, receive);
}
