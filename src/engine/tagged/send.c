/* SPDX-License-Identifier: Apache-2.0 */
/*
 * send.c - EAGER or START, the CTS, the writing, FIN, and every way a send ends.
 *
 * Design notes. A send completes only when no segment of it is posted: until then the fabric reads
 * its buffer. While segments are out its state is WRITING, STOPPING or FINISHED, and
 * on_send_written() is where all three end. What an EAGER carries was copied into the packet, so
 * such a send can end at any time.
 */
#include "engine/tagged/send.h"

#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/sum.h"
#include "engine/core/conn.h"
#include "engine/core/engine.h"
#include "engine/lane/registration.h"
#include "engine/progress/shard.h"
#include "engine/tagged/kv.h"
#include "engine/tagged/start_window.h"

/* A larger message is better written into its place than kept waiting. */
enum { AWAIT_WINDOW_LEN = 4096 };

static const struct kvi_spread_source writing_source;

static void send_fin(const struct kvi_tagged *send)
{
	struct kvi_message fin = {
		.type = KVI_MESSAGE_FIN,
		.tag = send->queue->tag,
		.fin = { .seq = send->seq, .generation = send->generation, .len = send->len },
		.has_sum = send->transfer.conn->has_sums,
		.sum = atomic_load(&send->writing->sum),
	};
	kvi_link_send(send->queue->link, &fin);
}

static void send_abort(const struct kvi_tagged *send)
{
	struct kvi_message message = {
		.type = KVI_MESSAGE_ABORT,
		.tag = send->queue->tag,
		.abort = { .seq = send->seq, .code = send->transfer.error.code },
	};
	kvi_link_send(send->queue->link, &message);
}

void kvi_send_cack(struct kvi_link *link, uint64_t tag, const struct kvi_message_cancel *cancel)
{
	struct kvi_message cack = { .type = KVI_MESSAGE_CACK, .tag = tag, .cancel = *cancel };
	kvi_link_send(link, &cack);
}

static struct kvi_tagged *find_send(struct kvi_tag_queue *queue, uint64_t seq)
{
	/* Answers mostly come in order. One that waits has no number yet, and those before it have smaller ones. */
	struct kvi_list *node = kvi_list_get_first(&queue->sends);
	if (node != NULL) {
		struct kvi_tagged *first = kvi_container_of(node, struct kvi_tagged, node);
		if (first->seq == seq && first->state > KVI_SEND_WAITING)
			return first;
	}
	struct kvi_entry *entry = kvi_table_find(&queue->link->shard->sends, queue->tag, seq);
	return entry == NULL ? NULL : kvi_container_of(entry, struct kvi_tagged, entry);
}

/* Segments of it are posted, or to be. */
static bool is_writing(const struct kvi_tagged *send)
{
	return send->writing != NULL && kvi_spread_is_active(&send->writing->spread);
}

/* ---- the first message ---- */

void kvi_send_start(struct kvi_tagged *send)
{
	send->state = KVI_SEND_WAITING;
	kvi_list_append(&send->queue->sends, &send->node);
	kvi_link_await_room(send->queue->link, &send->transfer.waiter);
}

/* Start writing into the memory of a CTS. */
static void begin_writing(struct kvi_tagged *send, const struct kvi_message_cts *cts)
{
	struct kvi_link *home = send->queue->link;
	struct kvt_conn *conn = send->transfer.conn;
	struct kvt_kv *kv = send->kv;
	const struct kvi_caps *caps = kvi_conn_get_caps(conn);
	struct kvt_error error = { .code = KVT_OK };

	/* Most sends are small, and there may be 65,000 of them. */
	if (send->writing == NULL)
		send->writing = kvi_alloc(sizeof(*send->writing));
	struct kvi_writing *writing = send->writing;
	if (writing == NULL) {
		error.code = KVT_E_NO_MEMORY;
		goto err_give_up;
	}
	/* A send whose CTS was cancelled begins again, with the registration that it has. */
	if (caps->local_memory && send->registration == NULL &&
	    !kvi_registration_holds(kv->registration, send->base, send->len) &&
	    kvi_registration_open(conn, send->base, send->len, KVI_ACCESS_LOCAL,
				  &send->registration, &error) != KVT_OK)
		goto err_give_up;

	send->generation = cts->generation;
	bool only_home = conn->lane_count == 1 || send->len < KVI_SPREAD_LEN;
	writing->spread.transfer = &send->transfer;
	writing->spread.source = &writing_source;
	writing->base = send->base;
	writing->len = send->len;
	writing->segment_len = kvi_spread_get_segment_len(conn, send->len, only_home);
	/* On the home lane FIN, and whatever else we say of it, comes behind the writes. */
	writing->kind = only_home && caps->send_after_write ? KVI_SEGMENT_ORDERED
							    : KVI_SEGMENT_WRITE;
	writing->source = send->registration != NULL ? send->registration : kv->registration;
	writing->rkey_count = cts->rkey_count;
	for (size_t i = 0; i < cts->rkey_count; i++)
		writing->rkeys[i] = cts->rkeys[i];
	atomic_store(&writing->cursor, 0);
	atomic_store(&writing->sum, 0);
	error.code = kvi_spread_start(&writing->spread, home, only_home);
	if (error.code != KVT_OK)
		goto err_give_up;
	send->state = KVI_SEND_WRITING;
	return;

err_give_up:
	kvi_transfer_give_up(&send->transfer, error.code,
			     error.text[0] != '\0' ? error.text : kvt_err_get_text(error.code));
}

bool kvi_send_begin(struct kvi_tagged *send)
{
	enum kvi_send_begun begun = KVI_SEND_NO_WINDOW;
	if (!kvi_start_window_is_awaited(send->queue))
		begun = kvi_send_try(send);
	if (begun == KVI_SEND_NO_WINDOW)
		kvi_start_window_await(send);
	return begun != KVI_SEND_NO_ROOM;
}

enum kvi_send_begun kvi_send_try(struct kvi_tagged *send)
{
	struct kvi_tag_queue *queue = send->queue;
	struct kvi_link *link = queue->link;
	const uint64_t seq = queue->next_send_seq;
	const struct kvi_view meta = { send->transfer.meta, send->transfer.meta_len };
	bool eager = send->len <= send->transfer.conn->eager_len &&
		     kvi_link_has_window(link, send->transfer.meta_len, send->len);
	/* The peer gives back what it consumes with its ACKs. While some are to come, waiting for them takes less of both
	 * sides than a START with all that follows. */
	if (!eager && send->len <= AWAIT_WINDOW_LEN &&
	    send->len <= send->transfer.conn->eager_len && link->eager_sends > 0)
		return KVI_SEND_NO_ROOM;
	if (!eager && !kvi_start_window_has_room(send))
		return KVI_SEND_NO_WINDOW;
	struct kvi_message message;
	kvi_message_begin(&message, eager ? KVI_MESSAGE_EAGER : KVI_MESSAGE_START, queue->tag);
	if (eager)
		message.eager = (struct kvi_message_eager){ seq, meta, { send->base, send->len } };
	else
		message.start = (struct kvi_message_start){ seq, send->len, meta };
	if (!kvi_table_add(&link->shard->sends, &send->entry, queue->tag, seq)) {
		kvi_transfer_give_up(&send->transfer, KVT_E_NO_MEMORY, "no memory for a send");
		return KVI_SEND_BEGUN;
	}
	if (!kvi_link_try_send(link, &message)) {
		kvi_table_remove(&link->shard->sends, &send->entry);
		return KVI_SEND_NO_ROOM;
	}

	kvi_list_remove(&send->transfer.waiter.node);
	send->seq = seq;
	queue->next_send_seq++;
	send->state = eager ? KVI_SEND_EAGER : KVI_SEND_STARTED;
	link->eager_sends += eager;
	if (!eager)
		kvi_start_window_take(send);

	if (queue->early.generation == 0 || queue->early.seq != seq)
		return KVI_SEND_BEGUN;
	const struct kvi_message_cts early = queue->early;
	queue->early.generation = 0; /* void for an eager message, and where it is too small */
	if (!eager && send->len > 0 && send->len <= early.capacity)
		begin_writing(send, &early);
	return KVI_SEND_BEGUN;
}

enum kvt_err kvi_send_on_cts(struct kvi_tag_queue *queue, const struct kvi_message *message)
{
	const struct kvi_message_cts *cts = &message->cts;
	if (cts->seq >= queue->next_send_seq) {
		/* At most one is unmatched, for the next message. */
		if (cts->seq != queue->next_send_seq || queue->early.generation != 0)
			return KVT_E_PROTOCOL;
		queue->early = *cts;
		return KVT_OK;
	}
	struct kvi_tagged *send = find_send(queue, cts->seq);
	if (send == NULL || send->state == KVI_SEND_EAGER)
		return KVT_OK; /* ended, or sent before the CTS came: void by 6.3 */
	if (send->state != KVI_SEND_STARTED)
		return KVT_E_PROTOCOL;
	if (send->len > 0 && send->len <= cts->capacity)
		begin_writing(send, cts);
	return KVT_OK;
}

/* ---- the writing ---- */

static enum kvi_taken take_write(struct kvi_spread *spread, struct kvi_segment *segment)
{
	struct kvi_writing *writing = kvi_container_of(spread, struct kvi_writing, spread);
	struct kvi_link *link = segment->link;
	if (!kvi_link_may_write(link))
		return KVI_TAKEN_LATER;
	size_t len = kvi_link_get_segment_len(link, writing->segment_len);
	size_t offset = atomic_fetch_add(&writing->cursor, len);
	if (offset >= writing->len)
		return KVI_TAKEN_NOTHING;
	size_t left = writing->len - offset;
	if (link->conn->has_sums)
		atomic_fetch_add(&writing->sum,
				 kvi_sum_grains(writing->base, writing->len, offset, len));
	if (left <= len)
		atomic_store(&spread->exhausted, true);
	const struct kvi_wire_rkey *rkey = &writing->rkeys[link->index % writing->rkey_count];
	segment->kind = writing->kind;
	segment->span_count = 1;
	segment->spans[0] = (struct kvi_span){
		.base = (void *)(writing->base + offset),
		.len = left < len ? left : len,
		.memory = writing->source == NULL
				  ? NULL
				  : kvi_registration_get_memory(writing->source, link),
		.remote = { .address = rkey->address + offset, .key = rkey->key },
	};
	return KVI_TAKEN;
}

/* Every segment is posted, on the only lane in use. */
static void on_all_posted(struct kvi_spread *spread)
{
	struct kvi_tagged *send = kvi_tagged_of(spread->transfer);
	if (send->state != KVI_SEND_WRITING || send->writing->kind != KVI_SEGMENT_ORDERED)
		return;
	send_fin(send);
	send->state = KVI_SEND_FINISHED;
}

/* Nothing of the send is posted any more. */
static void on_send_written(struct kvi_spread *spread)
{
	struct kvi_tagged *send = kvi_tagged_of(spread->transfer);
	bool failed = atomic_load(&spread->failed) || send->queue->link->shard->severed;
	send->transfer.segments += kvi_spread_finish(spread);
	if (failed)
		return; /* the connection is being torn down, which ends the send */

	if (send->state == KVI_SEND_WRITING) {
		send_fin(send);
		send->state = KVI_SEND_FINISHED;
	} else if (send->state == KVI_SEND_FINISHED) {
		if (send->acked)
			kvi_tagged_complete(send, NULL);
		else if (kvi_tagged_is_given_up(send))
			kvi_tagged_complete_given_up(send);
	} else if (send->state == KVI_SEND_STOPPING) {
		if (send->peer_cancelled)
			kvi_send_cack(send->queue->link, send->queue->tag,
				      &(struct kvi_message_cancel){ send->seq, send->generation });
		send->peer_cancelled = false;
		send->state = KVI_SEND_STARTED;
		if (kvi_tagged_is_given_up(send)) {
			send_abort(send);
			kvi_tagged_complete_given_up(send);
		}
	}
}

static const struct kvi_spread_source writing_source = {
	.take = take_write,
	.on_all_posted = on_all_posted,
	.on_ended = on_send_written,
};

/* ---- answers ---- */

enum kvt_err kvi_send_on_ack(struct kvi_tag_queue *queue, const struct kvi_message *message)
{
	struct kvi_tagged *send = find_send(queue, message->ack.seq);
	if (send == NULL)
		return message->ack.seq < queue->next_send_seq ? KVT_OK : KVT_E_PROTOCOL;
	if (send->state == KVI_SEND_FINISHED) {
		send->acked = true;
		if (is_writing(send))
			return KVT_OK;
	} else if (send->state == KVI_SEND_STARTED && send->len == 0) {
		/* There was nothing to write: an empty message that found the window full. */
	} else if (send->state != KVI_SEND_EAGER) {
		return KVT_E_PROTOCOL;
	}
	kvi_tagged_complete(send, NULL);
	return KVT_OK;
}

enum kvt_err kvi_send_on_wrong(struct kvi_tag_queue *queue, const struct kvi_message *message)
{
	struct kvi_tagged *send = find_send(queue, message->wrong.seq);
	if (send == NULL)
		return message->wrong.seq < queue->next_send_seq ? KVT_OK : KVT_E_PROTOCOL;
	if (send->state != KVI_SEND_FINISHED)
		return KVT_E_PROTOCOL;
	kvi_conn_on_corrupt(queue->link->conn, "a message");
	kvi_transfer_give_up(&send->transfer, KVT_E_CORRUPT, kvt_err_get_text(KVT_E_CORRUPT));
	return KVT_OK;
}

/* ---- giving up ---- */

enum kvt_err kvi_send_on_refused(struct kvi_tag_queue *queue, const struct kvi_message *message)
{
	struct kvi_tagged *send = find_send(queue, message->refused.seq);
	if (send != NULL) {
		send->was_refused = true;
		send->refused_len = message->refused.capacity;
	}
	return KVT_OK;
}

enum kvt_err kvi_send_on_cancel(struct kvi_tag_queue *queue, const struct kvi_message *message)
{
	const struct kvi_message_cancel *cancel = &message->cancel;
	if (queue->early.generation == cancel->generation)
		queue->early.generation = 0;
	struct kvi_tagged *send = find_send(queue, cancel->seq);
	if (send != NULL && send->generation == cancel->generation) {
		if (send->state == KVI_SEND_WRITING || send->state == KVI_SEND_STOPPING) {
			send->state = KVI_SEND_STOPPING;
			send->peer_cancelled = true;
			kvi_spread_stop(&send->writing->spread);
			return KVT_OK; /* on_send_written() answers */
		}
		if (send->state == KVI_SEND_FINISHED)
			return KVT_OK; /* the FIN is the answer */
	}
	kvi_send_cack(queue->link, message->tag, cancel);
	return KVT_OK;
}

void kvi_send_give_up(struct kvi_tagged *send)
{
	if (send->transfer.error.code == KVT_E_TIMEOUT && send->was_refused) {
		char text[KVT_TEXT_LEN];
		snprintf(text, sizeof(text),
			 "the peer's receive takes %zu bytes, the message has %zu",
			 send->refused_len, send->len);
		kvi_error_keep(&send->transfer.error, KVT_E_TOO_LARGE, 0, text);
	}
	switch (send->state) {
	case KVI_SEND_WAITING:
	case KVI_SEND_EAGER:
		kvi_tagged_complete_given_up(send);
		break;
	case KVI_SEND_STARTED:
		send_abort(send);
		kvi_tagged_complete_given_up(send);
		break;
	case KVI_SEND_WRITING:
	case KVI_SEND_STOPPING:
		send->state = KVI_SEND_STOPPING;
		kvi_transfer_await_quiet(&send->transfer);
		kvi_spread_stop(&send->writing->spread);
		break;
	case KVI_SEND_FINISHED:
		if (!is_writing(send))
			kvi_tagged_complete_given_up(send);
		else
			kvi_transfer_await_quiet(&send->transfer);
		break;
	default:
		break;
	}
}
