/* SPDX-License-Identifier: Apache-2.0 */
/*
 * send.c - EAGER or START, the CTS, the writing, FIN, and every way a send ends.
 *
 * Design notes. A send completes only when no segment of it is posted: until then the fabric reads its
 * buffer. While segments are out its state is WRITING, STOPPING or FINISHED, and on_written() is where
 * all three end. What an EAGER carries was copied into the packet, so such a send can end at any time.
 */
#include "engine/tagged/send.h"

#include <stdio.h>

#include "base/clock.h"
#include "engine/core/conn.h"
#include "engine/core/engine.h"
#include "engine/lane/window.h"
#include "engine/progress/part.h"
#include "engine/tagged/kv.h"

/* A larger message is better written into its place than kept waiting. */
enum { AWAIT_WINDOW_LEN = 4096 };

static const struct kvi_spread_source writing_source;

static void send_fin(const struct kvi_exchange *send)
{
	struct kvi_message fin = {
		.type = KVI_MESSAGE_FIN,
		.tag = send->channel->tag,
		.fin = { .seq = send->seq, .generation = send->generation, .len = send->len },
	};
	kvi_link_send(send->channel->link, &fin);
}

static void send_abort(const struct kvi_exchange *send)
{
	struct kvi_message message = {
		.type = KVI_MESSAGE_ABORT,
		.tag = send->channel->tag,
		.abort = { .seq = send->seq, .code = send->transfer.reason.code },
	};
	kvi_link_send(send->channel->link, &message);
}

void kvi_send_cack(struct kvi_link *link, uint64_t tag, const struct kvi_message_cancel *cancel)
{
	struct kvi_message cack = { .type = KVI_MESSAGE_CACK, .tag = tag, .cancel = *cancel };
	kvi_link_send(link, &cack);
}

static struct kvi_exchange *find_send(struct kvi_channel *channel, uint64_t seq)
{
	struct kvi_entry *entry = kvi_table_find(&channel->link->part->sends, channel->tag, seq);
	return entry == NULL ? NULL : kvi_container_of(entry, struct kvi_exchange, entry);
}

/* ---- the first message ---- */

void kvi_send_start(struct kvi_exchange *send)
{
	send->state = KVI_SEND_WAITING;
	kvi_list_append(&send->channel->sends, &send->node);
	kvi_link_await_room(send->channel->link, &send->transfer.waiter);
}

/* Start writing into what a CTS grants. */
static void begin_writing(struct kvi_exchange *send, const struct kvi_message_cts *cts)
{
	struct kvi_link *home = send->channel->link;
	struct kvt_conn *conn = send->transfer.conn;
	struct kvi_writing *writing = &send->writing;
	struct kvt_kv *kv = send->kv;
	const struct kvi_caps *caps = kvi_engine_get_caps(conn->engine);
	struct kvt_error error = { .code = KVT_OK };

	/* A send whose receive was taken back begins again, with the registration that it has. */
	if (caps->local_memory && send->window == NULL &&
	    !kvi_window_holds(kv->window, send->base, send->len) &&
	    kvi_window_open(conn, send->base, send->len, KVI_ACCESS_LOCAL, &send->window, &error) !=
		    KVT_OK)
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
	writing->source = send->window != NULL ? send->window : kv->window;
	writing->grant_count = cts->grant_count;
	for (size_t i = 0; i < cts->grant_count; i++)
		writing->grants[i] = cts->grants[i];
	atomic_store(&writing->cursor, 0);
	error.code = kvi_spread_start(&writing->spread, home, only_home);
	if (error.code != KVT_OK)
		goto err_give_up;
	send->state = KVI_SEND_WRITING;
	return;

err_give_up:
	kvi_transfer_give_up(&send->transfer, error.code,
			     error.text[0] != '\0' ? error.text : kvt_err_get_text(error.code));
}

bool kvi_send_begin(struct kvi_exchange *send)
{
	struct kvi_channel *channel = send->channel;
	struct kvi_link *link = channel->link;
	const uint64_t seq = channel->next_send_seq;
	const struct kvi_view meta = { send->transfer.meta, send->transfer.meta_len };
	bool eager = send->len <= send->transfer.conn->eager_len &&
		     kvi_message_get_charge(send->transfer.meta_len, send->len) <=
			     link->window_left;
	/* The peer gives back what it consumes with its ACKs. While some are to come, waiting for them takes less of both
	 * sides than a START with all that follows. */
	if (!eager && send->len <= AWAIT_WINDOW_LEN &&
	    send->len <= send->transfer.conn->eager_len && link->eager_sends > 0)
		return false;
	struct kvi_message message = {
		.type = eager ? KVI_MESSAGE_EAGER : KVI_MESSAGE_START,
		.tag = channel->tag,
	};
	if (eager)
		message.eager = (struct kvi_message_eager){ seq, meta, { send->base, send->len } };
	else
		message.start = (struct kvi_message_start){ seq, send->len, meta };
	if (!kvi_table_add(&link->part->sends, &send->entry, channel->tag, seq)) {
		kvi_transfer_give_up(&send->transfer, KVT_E_NO_MEMORY, "no memory for a send");
		return true;
	}
	if (!kvi_link_try_send(link, &message)) {
		kvi_table_remove(&link->part->sends, &send->entry);
		return false;
	}

	kvi_list_remove(&send->transfer.waiter.node);
	send->seq = seq;
	channel->next_send_seq++;
	send->state = eager ? KVI_SEND_EAGER : KVI_SEND_STARTED;
	link->eager_sends += eager;

	if (channel->early.generation == 0 || channel->early.seq != seq)
		return true;
	const struct kvi_message_cts early = channel->early;
	channel->early.generation = 0; /* void for an eager message, and where it is too small */
	if (!eager && send->len > 0 && send->len <= early.capacity)
		begin_writing(send, &early);
	return true;
}

enum kvt_err kvi_send_on_cts(struct kvi_channel *channel, const struct kvi_message *message)
{
	const struct kvi_message_cts *cts = &message->cts;
	if (cts->seq >= channel->next_send_seq) {
		/* At most one is unmatched, for the next message. */
		if (cts->seq != channel->next_send_seq || channel->early.generation != 0)
			return KVT_E_PROTOCOL;
		channel->early = *cts;
		return KVT_OK;
	}
	struct kvi_exchange *send = find_send(channel, cts->seq);
	if (send == NULL || send->state == KVI_SEND_EAGER)
		return KVT_OK; /* ended, or sent before the CTS came: void by 6.3 */
	if (send->state != KVI_SEND_STARTED)
		return KVT_E_PROTOCOL;
	if (send->len > 0 && send->len <= cts->capacity)
		begin_writing(send, cts);
	return KVT_OK;
}

/* ---- the writing ---- */

static enum kvi_taken take_segment(struct kvi_spread *spread, struct kvi_segment *segment)
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
	if (left <= len)
		atomic_store(&spread->exhausted, true);
	const struct kvi_wire_grant *grant = &writing->grants[link->index % writing->grant_count];
	segment->kind = writing->kind;
	segment->span_count = 1;
	segment->spans[0] = (struct kvi_span){
		.base = (void *)(writing->base + offset),
		.len = left < len ? left : len,
		.memory = writing->source == NULL ? NULL
						  : kvi_window_get_memory(writing->source, link),
		.remote = { .address = grant->address + offset, .key = grant->key },
	};
	return KVI_TAKEN;
}

/* Every segment is posted, on the only lane in use. */
static void on_all_posted(struct kvi_spread *spread)
{
	struct kvi_exchange *send = kvi_exchange_of(spread->transfer);
	if (send->state != KVI_SEND_WRITING || send->writing.kind != KVI_SEGMENT_ORDERED)
		return;
	send_fin(send);
	send->state = KVI_SEND_FINISHED;
}

/* Nothing of the send is posted any more. */
static void on_written(struct kvi_spread *spread)
{
	struct kvi_exchange *send = kvi_exchange_of(spread->transfer);
	bool failed = atomic_load(&spread->failed) || send->channel->link->part->cut;
	send->transfer.segments += kvi_spread_finish(spread);
	if (failed)
		return; /* the connection is being torn down, which ends the send */

	if (send->state == KVI_SEND_WRITING) {
		send_fin(send);
		send->state = KVI_SEND_FINISHED;
	} else if (send->state == KVI_SEND_FINISHED) {
		if (send->acked)
			kvi_exchange_complete(send, NULL);
		else if (send->transfer.reason.code != KVT_OK)
			kvi_exchange_complete(send, &send->transfer.reason);
	} else if (send->state == KVI_SEND_STOPPING) {
		if (send->peer_cancelled)
			kvi_send_cack(send->channel->link, send->channel->tag,
				      &(struct kvi_message_cancel){ send->seq, send->generation });
		send->peer_cancelled = false;
		send->state = KVI_SEND_STARTED;
		if (send->transfer.reason.code != KVT_OK) {
			send_abort(send);
			kvi_exchange_complete(send, &send->transfer.reason);
		}
	}
}

static const struct kvi_spread_source writing_source = {
	.take = take_segment,
	.on_all_posted = on_all_posted,
	.on_ended = on_written,
};

/* ---- answers ---- */

enum kvt_err kvi_send_on_ack(struct kvi_channel *channel, const struct kvi_message *message)
{
	struct kvi_exchange *send = find_send(channel, message->ack.seq);
	if (send == NULL)
		return message->ack.seq < channel->next_send_seq ? KVT_OK : KVT_E_PROTOCOL;
	if (send->state == KVI_SEND_FINISHED) {
		send->acked = true;
		if (kvi_spread_is_active(&send->writing.spread))
			return KVT_OK;
	} else if (send->state == KVI_SEND_STARTED && send->len == 0) {
		/* There was nothing to write: an empty message that found the window full. */
	} else if (send->state != KVI_SEND_EAGER) {
		return KVT_E_PROTOCOL;
	}
	kvi_exchange_complete(send, NULL);
	return KVT_OK;
}

/* ---- giving up ---- */

enum kvt_err kvi_send_on_refused(struct kvi_channel *channel, const struct kvi_message *message)
{
	struct kvi_exchange *send = find_send(channel, message->refused.seq);
	if (send != NULL) {
		send->was_refused = true;
		send->refused_len = message->refused.capacity;
	}
	return KVT_OK;
}

enum kvt_err kvi_send_on_cancel(struct kvi_channel *channel, const struct kvi_message *message)
{
	const struct kvi_message_cancel *cancel = &message->cancel;
	if (channel->early.generation == cancel->generation)
		channel->early.generation = 0;
	struct kvi_exchange *send = find_send(channel, cancel->seq);
	if (send != NULL && send->generation == cancel->generation) {
		if (send->state == KVI_SEND_WRITING || send->state == KVI_SEND_STOPPING) {
			send->state = KVI_SEND_STOPPING;
			send->peer_cancelled = true;
			kvi_spread_stop(&send->writing.spread);
			return KVT_OK; /* on_written() answers */
		}
		if (send->state == KVI_SEND_FINISHED)
			return KVT_OK; /* the FIN is the answer */
	}
	kvi_send_cack(channel->link, message->tag, cancel);
	return KVT_OK;
}

void kvi_send_give_up(struct kvi_exchange *send)
{
	if (send->transfer.reason.code == KVT_E_TIMEOUT && send->was_refused) {
		send->transfer.reason.code = KVT_E_TOO_LARGE;
		snprintf(send->transfer.reason.text, sizeof(send->transfer.reason.text),
			 "the peer's receive takes %zu bytes, the message has %zu",
			 send->refused_len, send->len);
	}
	switch (send->state) {
	case KVI_SEND_WAITING:
	case KVI_SEND_EAGER:
		kvi_exchange_complete(send, &send->transfer.reason);
		break;
	case KVI_SEND_STARTED:
		send_abort(send);
		kvi_exchange_complete(send, &send->transfer.reason);
		break;
	case KVI_SEND_WRITING:
	case KVI_SEND_STOPPING:
		send->state = KVI_SEND_STOPPING;
		kvi_transfer_await_quiet(&send->transfer);
		kvi_spread_stop(&send->writing.spread);
		break;
	case KVI_SEND_FINISHED:
		if (!kvi_spread_is_active(&send->writing.spread))
			kvi_exchange_complete(send, &send->transfer.reason);
		else
			kvi_transfer_await_quiet(&send->transfer);
		break;
	default:
		break;
	}
}
