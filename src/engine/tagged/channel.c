/* SPDX-License-Identifier: Apache-2.0 */
/*
 * channel.c - finding a message's channel, and the end of channels. What a message does to a transfer
 * is in send.c and recv.c.
 */
#include "engine/tagged/channel.h"

#include "base/alloc.h"
#include "engine/core/conn.h"
#include "engine/core/engine.h"
#include "engine/lane/window.h"
#include "engine/progress/part.h"
#include "engine/tagged/exchange.h"
#include "engine/tagged/kv.h"
#include "engine/tagged/recv.h"
#include "engine/tagged/send.h"
#include "engine/transfer/inbox.h"

unsigned kvi_channel_get_home(uint64_t tag, unsigned lane_count)
{
	if (kvi_tag_is_auto(tag))
		return (unsigned)((tag & ~KVT_TAG_MAX) % lane_count);
	/* The finaliser of splitmix64 (Steele et al., 2014): tags that differ in few bits spread. */
	tag = (tag ^ (tag >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	tag = (tag ^ (tag >> 27)) * UINT64_C(0x94d049bb133111eb);
	return (unsigned)((tag ^ (tag >> 31)) % lane_count);
}

struct kvi_channel *kvi_channel_find(struct kvi_part *part, uint64_t tag)
{
	struct kvi_channel *channel;
	HASH_FIND_BYHASHVALUE(hh, part->channels, &tag, sizeof(tag), kvi_hash_number(tag), channel);
	return channel;
}

struct kvi_channel *kvi_channel_get(struct kvi_part *part, struct kvi_link *link, uint64_t tag)
{
	struct kvi_channel *channel = kvi_channel_find(part, tag);
	if (channel != NULL)
		return channel;
	if (atomic_load(&part->conn->channel_count) >= KVI_KVS_MAX)
		return NULL;
	channel = kvi_alloc(sizeof(*channel));
	if (channel == NULL)
		return NULL;
	kvi_inbox_hold(&part->conn->engine->inbox, part->conn, sizeof(*channel));
	channel->tag = tag;
	channel->link = link;
	kvi_list_init(&channel->sends);
	kvi_list_init(&channel->arrivals);
	kvi_list_init(&channel->receives);
	kvi_list_init(&channel->granted);
	HASH_ADD_BYHASHVALUE(hh, part->channels, tag, sizeof(channel->tag), kvi_hash_number(tag),
			     channel);
	if (channel->hh.tbl == NULL) {
		kvi_free(channel);
		return NULL;
	}
	atomic_fetch_add(&part->conn->channel_count, 1);
	return channel;
}

/* malloc(3) adds less than 32 bytes to a block. */
_Static_assert(sizeof(struct kvi_arrival) + 3 * 32 <= KVI_MESSAGE_CHARGE, "a message that nobody "
									  "receives costs no more "
									  "than its charge");

struct kvi_arrival *kvi_arrival_get_first(const struct kvi_channel *channel)
{
	const struct kvi_timer *place = kvi_timers_get_first(&channel->returned);
	if (place != NULL)
		return &kvi_container_of(place, struct kvi_started, place)->arrival;
	struct kvi_list *node = kvi_list_get_first(&channel->arrivals);
	return node == NULL ? NULL : kvi_container_of(node, struct kvi_arrival, node);
}

void kvi_arrival_take(struct kvi_channel *channel, struct kvi_arrival *arrival)
{
	kvi_list_remove(&arrival->node);
	if (arrival->is_start) {
		struct kvi_started *started =
			kvi_container_of(arrival, struct kvi_started, arrival);
		kvi_timers_clear(&channel->returned, &started->place);
		kvi_table_remove(&channel->link->part->starts, &started->entry);
	} else {
		atomic_fetch_sub(&channel->link->conn->arrivals, 1);
	}
}

void kvi_arrival_free(struct kvi_arrival *arrival)
{
	if (arrival == NULL)
		return;
	kvi_free(arrival->meta);
	kvi_free(arrival->data);
	kvi_free(arrival);
}

static void drop_arrivals(struct kvi_channel *channel)
{
	struct kvi_arrival *arrival;
	while ((arrival = kvi_arrival_get_first(channel)) != NULL) {
		kvi_arrival_take(channel, arrival);
		if (!arrival->is_start)
			kvi_link_return_window(channel->link, arrival->meta_len, arrival->len);
		kvi_arrival_free(arrival);
	}
}

static void free_channel(struct kvi_part *part, struct kvi_channel *channel)
{
	drop_arrivals(channel);
	kvi_timers_free(&channel->returned);
	HASH_DELETE(hh, part->channels, channel);
	atomic_fetch_sub(&part->conn->channel_count, 1);
	kvi_free(channel);
}

/* GONE or GONE_ACK. */
static void send_gone(struct kvi_link *link, enum kvi_message_type type, uint64_t tag)
{
	struct kvi_message message = { .type = type, .tag = tag };
	kvi_link_send(link, &message);
}

void kvi_channel_give_up(struct kvi_channel *channel, enum kvt_err code, const char *text)
{
	struct kvi_list *lists[] = { &channel->sends, &channel->granted, &channel->receives };
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		/* The last first: were the first receive to go, the next would be granted memory for nothing. */
		struct kvi_list *node = lists[i]->prev;
		while (node != lists[i]) {
			struct kvi_exchange *exchange =
				kvi_container_of(node, struct kvi_exchange, node);
			node = node->prev;
			kvi_transfer_give_up(&exchange->transfer, code, text);
		}
	}
}

/* The peer has closed its KV: nothing more comes or is taken under this tag. */
static enum kvt_err on_gone(struct kvi_channel *channel, const struct kvi_message *message)
{
	channel->early.generation = 0;
	channel->peer_gone = kvi_tag_is_auto(channel->tag);
	kvi_channel_give_up(channel, KVT_E_PEER_CLOSED, "the peer closed this KV");
	send_gone(channel->link, KVI_MESSAGE_GONE_ACK, message->tag);
	return KVT_OK;
}

/* Nobody will receive it. */
static void return_window(struct kvi_link *link, const struct kvi_message_eager *eager)
{
	kvi_link_return_window(link, eager->meta.len, eager->data.len);
}

/* A message for a tag that has no channel. True when a channel is to be made for it. */
static bool wants_channel(struct kvi_link *link, const struct kvi_message *message)
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
			return_window(link, &message->eager);
		send_gone(link, KVI_MESSAGE_GONE, message->tag);
		return false;
	case KVI_MESSAGE_CANCEL:
		kvi_send_cack(link, message->tag, &message->cancel);
		return false;
	case KVI_MESSAGE_GONE:
		/* The KV that will be opened here under an automatic tag has to know. */
		if (kvi_tag_is_auto(message->tag) && !closed)
			return true;
		send_gone(link, KVI_MESSAGE_GONE_ACK, message->tag);
		return false;
	default:
		return false; /* an answer to something that has ended meanwhile */
	}
}

/* While our GONE is on its way, what comes was meant for the closed KV. True when message was that. */
static bool is_stale(struct kvi_channel *channel, const struct kvi_message *message)
{
	if (channel->draining == 0 || message->type == KVI_MESSAGE_GONE ||
	    message->type == KVI_MESSAGE_GONE_ACK || message->type == KVI_MESSAGE_CANCEL)
		return false;
	if (message->type == KVI_MESSAGE_EAGER) {
		return_window(channel->link, &message->eager);
		channel->next_arrival_seq = message->eager.seq + 1;
	} else if (message->type == KVI_MESSAGE_START) {
		channel->next_arrival_seq = message->start.seq + 1;
	}
	return true;
}

static enum kvt_err on_gone_ack(struct kvi_channel *channel, const struct kvi_message *message)
{
	(void)message;
	if (channel->draining == 0)
		return KVT_E_PROTOCOL;
	channel->draining--;
	if (channel->draining == 0 && channel->kv == NULL && kvi_tag_is_auto(channel->tag))
		free_channel(channel->link->part, channel);
	return KVT_OK;
}

static enum kvt_err (*const handlers[])(struct kvi_channel *channel,
					const struct kvi_message *message) = {
	[KVI_MESSAGE_EAGER] = kvi_recv_on_eager,     [KVI_MESSAGE_START] = kvi_recv_on_start,
	[KVI_MESSAGE_CTS] = kvi_send_on_cts,	     [KVI_MESSAGE_FIN] = kvi_recv_on_fin,
	[KVI_MESSAGE_ACK] = kvi_send_on_ack,	     [KVI_MESSAGE_CANCEL] = kvi_send_on_cancel,
	[KVI_MESSAGE_CACK] = kvi_recv_on_cack,	     [KVI_MESSAGE_ABORT] = kvi_recv_on_abort,
	[KVI_MESSAGE_REFUSED] = kvi_send_on_refused, [KVI_MESSAGE_GONE] = on_gone,
	[KVI_MESSAGE_GONE_ACK] = on_gone_ack,
};

enum kvt_err kvi_channel_on_message(struct kvi_link *link, const struct kvi_message *message)
{
	struct kvt_conn *conn = link->conn;
	if (kvi_channel_get_home(message->tag, conn->lane_count) != link->index)
		return KVT_E_PROTOCOL;
	struct kvi_channel *channel = kvi_channel_find(link->part, message->tag);
	if (channel == NULL) {
		if (!wants_channel(link, message))
			return KVT_OK;
		channel = kvi_channel_get(link->part, link, message->tag);
		if (channel == NULL)
			return KVT_E_LIMIT;
	}
	return is_stale(channel, message) ? KVT_OK : handlers[message->type](channel, message);
}

void kvi_channel_close_kv(struct kvi_channel *channel)
{
	drop_arrivals(channel);
	channel->early.generation = 0;
	channel->kv = NULL;
	channel->draining++;
	send_gone(channel->link, KVI_MESSAGE_GONE, channel->tag);
}

static void drop_starts(struct kvi_channel *channel)
{
	struct kvi_timer *place;
	while ((place = kvi_timers_get_first(&channel->returned)) != NULL) {
		struct kvi_started *started = kvi_container_of(place, struct kvi_started, place);
		kvi_arrival_take(channel, &started->arrival);
		kvi_arrival_free(&started->arrival);
	}
	kvi_list_for_each (node, next_node, &channel->arrivals) {
		struct kvi_arrival *arrival = kvi_container_of(node, struct kvi_arrival, node);
		if (!arrival->is_start)
			continue;
		kvi_arrival_take(channel, arrival);
		kvi_arrival_free(arrival);
	}
}

void kvi_channels_end(struct kvi_part *part)
{
	struct kvi_channel *channel, *next;
	HASH_ITER(hh, part->channels, channel, next)
	{
		drop_starts(channel);
		if (channel->kv == NULL)
			continue;
		kvi_window_close(channel->kv->window);
		channel->kv->window = NULL;
	}
}

void kvi_channels_free(struct kvi_part *part)
{
	struct kvi_channel *channel, *next;
	HASH_ITER(hh, part->channels, channel, next)
	free_channel(part, channel);
}
