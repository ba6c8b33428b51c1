/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exchange.h - the transfers of a KV: one message, sent or received. An exchange belongs to one channel;
 * send.c and recv.c move it through its states.
 */
#ifndef KVI_ENGINE_EXCHANGE_H
#define KVI_ENGINE_EXCHANGE_H

#include "base/table.h"
#include "engine/lane/link.h"
#include "engine/transfer/spread.h"
#include "engine/transfer/transfer.h"

struct kvi_arrival;
struct kvi_channel;
struct kvi_window;

enum kvi_exchange_state {
	KVI_NEW, /* not yet seen by its worker */

	KVI_SEND_WAITING,  /* for room on the link */
	KVI_SEND_EAGER,	   /* EAGER is out, ACK to come */
	KVI_SEND_STARTED,  /* START is out, CTS to come */
	KVI_SEND_WRITING,  /* segments are out */
	KVI_SEND_STOPPING, /* segments are out, no more will be: giving up, or the peer's CANCEL */
	KVI_SEND_FINISHED, /* FIN is out, ACK to come */

	KVI_RECV_QUEUED,  /* no CTS is out */
	KVI_RECV_EARLY,	  /* CTS is out, for the next message */
	KVI_RECV_GRANTED, /* CTS is out, for the message whose START came */
	KVI_RECV_CANCELLING, /* CANCEL is out; CACK or FIN to come. Not given up: another message goes first */

	KVI_DONE,
};

/* The writing of a send: bytes from one place to what a CTS granted. */
struct kvi_writing {
	struct kvi_spread spread;

	/* immutable while it runs */
	const uint8_t *base;
	size_t len;
	size_t segment_len;
	enum kvi_segment_kind kind;
	const struct kvi_window *source; /* registration of the source, where needed */
	size_t grant_count;
	struct kvi_wire_grant grants[KVI_RAILS_MAX];

	/* atomic */
	_Atomic(size_t) cursor;
};

struct kvi_exchange {
	struct kvt_transfer transfer;

	/* immutable after start */
	bool is_send;
	struct kvt_kv *kv;
	uint8_t *base;
	size_t len; /* of the message, or what the receive allows */

	/* under worker lock */
	enum kvi_exchange_state state;
	struct kvi_channel *channel;
	struct kvi_list node;	/* in a list of its channel */
	struct kvi_entry entry; /* in part->sends or part->granted */
	uint64_t seq;
	uint64_t generation;
	struct kvi_window *window; /* receive: what the CTS grants; send: the source, where needed */
	struct kvi_arrival *arrival; /* receive: the START it is matched to */
	struct kvi_writing writing;  /* send */
	bool acked;
	bool peer_cancelled; /* STOPPING because of the peer's CANCEL, not of our giving up */
	size_t refused_len;  /* what the peer's receive allowed, when it refused */
	bool was_refused;
};

static inline struct kvi_exchange *kvi_exchange_of(struct kvt_transfer *transfer)
{
	return kvi_container_of(transfer, struct kvi_exchange, transfer);
}

/* As kvi_transfer_complete() and kvi_transfer_set_deadline(), which all that ends an exchange uses. */
static inline void kvi_exchange_complete(struct kvi_exchange *exchange,
					 const struct kvt_error *error)
{
	kvi_transfer_complete(&exchange->transfer, error);
}

#endif
