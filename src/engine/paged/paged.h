/* SPDX-License-Identifier: Apache-2.0 */
/*
 * paged.h - paged transfers: blocks or spans between a pool and a remote, and notifications
 * (docs/protocol.md 7). A transfer has a home lane, on which what is said of it travels, and is at home
 * on that lane's worker.
 */
#ifndef KVI_ENGINE_PAGED_H
#define KVI_ENGINE_PAGED_H

#include "base/table.h"
#include "engine/lane/link.h"
#include "engine/paged/plan.h"
#include "engine/transfer/spread.h"
#include "engine/transfer/transfer.h"

enum kvi_paged_state {
	KVI_PAGED_MOVING,     /* segments are out, or to be taken */
	KVI_PAGED_CONFIRMING, /* SYNC or NOTIFY waits for room on the link */
	KVI_PAGED_CONFIRMED,  /* it is out, NOTED to come */
	KVI_PAGED_STOPPING,   /* giving up: segments are out, no more will be */
};

struct kvi_paged;

/* A pool and a remote that a transfer moves something between. */
struct kvi_pair {
	/* immutable after start */
	struct kvi_paged *paged;
	struct kvt_pool *pool;
	struct kvt_remote *remote;
	struct kvi_layout views[2]; /* of them, in blocks of the request's own; no extents: none */
	struct kvi_plan plan;

	/* under worker lock */
	struct kvi_list node; /* in pool->in_flight */
};

struct kvi_paged {
	struct kvt_transfer transfer;

	/* immutable after start */
	enum kvt_direction direction;
	struct kvi_pair *pairs;
	size_t pair_count;   /* 0: a notification alone */
	size_t entered;	     /* of them: how many remotes know of the transfer */
	struct kvi_pair one; /* where there is no more */
	uint64_t len;	     /* bytes in all */
	uint64_t piece_count;
	uint64_t number; /* on this connection */
	struct kvi_link *home;
	uint8_t *notify; /* NULL: none */
	size_t notify_len;
	enum kvt_err notify_err; /* what the application announces */
	size_t segment_len;
	size_t pack_below; /* shorter pieces are packed; 0: none */
	bool only_home;
	bool in_order; /* a message on the home lane comes behind all its writes */
	bool carried;  /* its bytes travel in a message: carried.h */

	/* under lock, a leaf: workers share what is left of the plan */
	pthread_mutex_t lock;
	size_t pair; /* the one that the cursor is in; pair_count: at the end */
	struct kvi_cursor cursor;

	/* under worker lock */
	struct kvi_entry entry; /* in shard->paged of its home lane */
	enum kvi_paged_state state;
	struct kvi_spread spread;
	atomic_bool dropped; /* the owner has withdrawn what was asked for */
	atomic_bool corrupt; /* something came wrong, by its sum */
	bool begun;	     /* the notification goes in parts, and some were sent */
	size_t parts_len;    /* of it that they had */
	bool said;	     /* SYNC or NOTIFY was sent, of a success or not */
	bool told;	     /* it was, of a success */
	bool settling;	     /* given up: SYNC was sent behind what it wrote */
	bool noted;	     /* either was answered */
};

/* messages.c; under the worker's lock, as all of them. */
enum kvt_err kvi_paged_on_sync(struct kvi_link *link, const struct kvi_message *message);
enum kvt_err kvi_paged_on_noted(struct kvi_link *link, const struct kvi_message *message);

/* End the transfers of a remote that are at home on one shard: it is withdrawn. */
void kvi_paged_stop_remote(struct kvi_shard *shard, const struct kvt_remote *remote);

/* End the transfers of a pool, and wait until they have: it is being closed. */
void kvi_paged_stop_pool(const struct kvt_pool *pool);

/* pages.c: the segments of a paged transfer. */
extern const struct kvi_spread_source kvi_pages_source;

/* What the peer reads of where a piece belongs, KVI_WIRE_SPAN_LEN bytes. Inline, as there are thousands of them. */
static inline void kvi_pages_encode_span(const struct kvi_piece *piece, uint8_t *bytes)
{
	const struct kvi_wire_span span = {
		.extent = piece->remote_extent,
		.len = (uint32_t)piece->len,
		.offset = piece->remote_offset,
	};
	kvi_wire_span_encode(&span, bytes);
}

/* paged.c: for request.c, which makes them, and for that source. */
extern const struct kvi_transfer_kind kvi_paged_kind;
void kvi_paged_free(struct kvt_transfer *transfer);
/* Let go of the remotes that it has entered. */
void kvi_paged_leave(struct kvi_paged *paged);
void kvi_paged_on_all_posted(struct kvi_spread *spread);
void kvi_paged_on_ended(struct kvi_spread *spread);

#endif
