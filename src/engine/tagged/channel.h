/* SPDX-License-Identifier: Apache-2.0 */
/*
 * channel.h - what the two sides share under one tag: the order of messages in both directions, what
 * has arrived and waits for a receive, and the receives that wait for a message. A channel lives on the
 * home link of its tag and exists before (a message came first) and after (the peer has not confirmed
 * GONE) the KV that is opened on it. All of it stands under the home worker's lock.
 */
#ifndef KVI_ENGINE_CHANNEL_H
#define KVI_ENGINE_CHANNEL_H

#include "base/alloc.h"
#include "base/hash.h"
#include "base/list.h"
#include "base/table.h"
#include "base/timers.h"
#include "engine/lane/link.h"
#include "wire/wire.h"

struct kvt_conn;
struct kvt_kv;
struct kvi_part;

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
	struct kvi_entry entry; /* in part->starts by tag and seq, while no receive has it */
	struct kvi_timer place; /* in channel->returned, by seq */
};

struct kvi_channel {
	UT_hash_handle hh;
	uint64_t tag;
	struct kvi_link *link;
	struct kvt_kv *kv; /* NULL: not opened here, or closed */
	bool peer_gone;	   /* auto tags: the peer has closed its KV, for ever */
	unsigned draining; /* GONE sent and not confirmed: what arrives is for the closed KV */

	uint64_t next_send_seq;
	struct kvi_list sends;	      /* in flight, from their first message on, by seq */
	struct kvi_message_cts early; /* came before the send it is for; generation 0: none */

	uint64_t next_arrival_seq;
	struct kvi_list arrivals; /* never matched, by seq */
	struct kvi_timers
		returned; /* STARTs that a receive gave back: by seq, all before the arrivals */
	struct kvi_list receives; /* unmatched, in the order they were started */
	struct kvi_list granted;  /* matched to a START */
};

static inline bool kvi_tag_is_auto(uint64_t tag)
{
	return (tag & KVT_TAG_MAX) != 0;
}

/* The lane all messages of a tag travel on (docs/protocol.md 6.1). */
unsigned kvi_channel_get_home(uint64_t tag, unsigned lane_count);

/* The channel of tag on part, NULL when there is none. */
struct kvi_channel *kvi_channel_find(struct kvi_part *part, uint64_t tag);

/* The same, made if there is none; NULL without memory or beyond the limit. */
struct kvi_channel *kvi_channel_get(struct kvi_part *part, struct kvi_link *link, uint64_t tag);

/* A message for some channel of the link; messages.c. */
enum kvt_err kvi_channel_on_message(struct kvi_link *link, const struct kvi_message *message);

/* The KV has been closed and nothing of it is in flight: tell the peer, drop what waits. */
void kvi_channel_close_kv(struct kvi_channel *channel);

/* Begin to give up every transfer of the channel. */
void kvi_channel_give_up(struct kvi_channel *channel, enum kvt_err code, const char *text);

/*
 * The lanes of the part are cut, and its transfers have ended. Eager messages stay: the sender was told that
 * we have them, so a receive gets them even now.
 */
void kvi_channels_end(struct kvi_part *part);

/* Free the part's channels, with what waits in them. */
void kvi_channels_free(struct kvi_part *part);

/* The arrival that the next receive takes; NULL when nothing waits. */
struct kvi_arrival *kvi_arrival_get_first(const struct kvi_channel *channel);

/* Take an arrival out of its channel; it is the caller's. */
void kvi_arrival_take(struct kvi_channel *channel, struct kvi_arrival *arrival);
void kvi_arrival_free(struct kvi_arrival *arrival);

#endif
