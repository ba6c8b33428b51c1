/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tagged.h - the transfers of a KV: one message, sent or received. A tagged transfer belongs to one
 * tag queue; send.c and recv.c move it through its states.
 */
#ifndef KVI_ENGINE_TAGGED_H
#define KVI_ENGINE_TAGGED_H

#include "base/table.h"
#include "engine/lane/link.h"
#include "engine/transfer/spread.h"
#include "engine/transfer/transfer.h"

struct kvi_arrival;
struct kvi_tag_queue;
struct kvi_registration;

enum kvi_tagged_state {
	KVI_NEW, /* not yet seen by its worker */

	KVI_SEND_WAITING,  /* for room on the link */
	KVI_SEND_EAGER,	   /* EAGER is out, ACK to come */
	KVI_SEND_STARTED,  /* START is out, CTS to come */
	KVI_SEND_WRITING,  /* segments are out */
	KVI_SEND_STOPPING, /* segments are out, no more will be: giving up, or the peer's CANCEL */
	KVI_SEND_FINISHED, /* FIN is out, ACK to come */

	KVI_RECV_QUEUED,  /* no CTS is out */
	KVI_RECV_EARLY,	  /* CTS is out, for the next message */
	KVI_RECV_MATCHED, /* CTS is out, for the message whose START came */
	KVI_RECV_CANCELLING, /* CANCEL is out; CACK or FIN to come. Not given up: another message goes first */
	KVI_RECV_VERIFYING, /* FIN has come, and its sum is compared: verify.h */

	KVI_DONE,
};

/* The writing of a send: bytes from one place to the memory of a CTS. */
struct kvi_writing {
	struct kvi_spread spread;

	/* immutable while it runs */
	const uint8_t *base;
	size_t len;
	size_t segment_len;
	enum kvi_segment_kind kind;
	const struct kvi_registration *source; /* of the bytes at base */
	size_t rkey_count;
	struct kvi_wire_rkey rkeys[KVI_RAILS_MAX];

	/* atomic */
	_Atomic(size_t) cursor;
	_Atomic(uint64_t) sum; /* of what was taken, where sums are used */
};

/* The checking of a receive. */
struct kvi_verifying {
	struct kvi_chore chore;
	size_t len;
	size_t done;
	uint64_t sum;  /* of what is done */
	uint64_t told; /* by FIN, of all */
};

struct kvi_tagged {
	struct kvt_transfer transfer;

	/* immutable after start */
	bool is_send;
	struct kvt_kv *kv;
	uint8_t *base;
	size_t len; /* of the message, or what the receive allows */

	/* under worker lock */
	enum kvi_tagged_state state;
	struct kvi_tag_queue *queue;
	struct kvi_list node;	/* in a list of its tag queue */
	struct kvi_entry entry; /* in shard->sends or shard->matched */
	uint64_t seq;
	uint64_t generation;
	struct kvi_registration *registration; /* receive: the memory of the CTS; send: the source */
	struct kvi_arrival *arrival;	       /* receive: the START it is matched to */
	struct kvi_writing *writing;	       /* send: what it has begun to write; NULL: nothing */
	struct kvi_verifying verifying;	       /* receive */
	uint32_t start_charge; /* send: what its START has of the window of STARTs; start_window.h */
	bool acked;
	bool peer_cancelled; /* STOPPING because of the peer's CANCEL, not of our giving up */
	size_t refused_len;  /* what the peer's receive allowed, when it refused */
	bool was_refused;
};

static inline struct kvi_tagged *kvi_tagged_of(struct kvt_transfer *transfer)
{
	return kvi_container_of(transfer, struct kvi_tagged, transfer);
}

/* As the functions of transfer.h; tagged transfers use these. */
static inline void kvi_tagged_complete(struct kvi_tagged *tagged, const struct kvt_error *error)
{
	kvi_transfer_complete(&tagged->transfer, error);
}

static inline void kvi_tagged_complete_given_up(struct kvi_tagged *tagged)
{
	kvi_transfer_complete_given_up(&tagged->transfer);
}

static inline bool kvi_tagged_is_given_up(const struct kvi_tagged *tagged)
{
	return kvi_transfer_is_given_up(&tagged->transfer);
}

#endif
