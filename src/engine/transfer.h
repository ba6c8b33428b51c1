/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transfer.h - the life of a transfer: one send or receive, from start to its single completion.
 *
 * A transfer belongs to one channel and so to one worker, under whose lock all its state stands. It
 * completes exactly once, in kvi_transfer_complete(), and only when nothing of it is posted and the
 * peer can no longer reach its buffer (rule Q, docs/protocol.md 6.4).
 */
#ifndef KVI_ENGINE_TRANSFER_H
#define KVI_ENGINE_TRANSFER_H

#include <stdatomic.h>

#include "base/list.h"
#include "engine/spread.h"
#include "engine/worker.h"

struct kvi_arrival;
struct kvi_channel;
struct kvi_window;

enum kvi_transfer_state {
	KVI_NEW, /* not yet seen by its worker */

	KVI_SEND_WAITING,  /* for room on the link */
	KVI_SEND_EAGER,	   /* EAGER is out, ACK to come */
	KVI_SEND_STARTED,  /* START is out, CTS to come */
	KVI_SEND_WRITING,  /* segments are out */
	KVI_SEND_STOPPING, /* segments are out, no more will be: giving up, or the peer's CANCEL */
	KVI_SEND_FINISHED, /* FIN is out, ACK to come */

	KVI_RECV_QUEUED,     /* no CTS is out */
	KVI_RECV_EARLY,	     /* CTS is out, for the next message */
	KVI_RECV_GRANTED,    /* CTS is out, for the message whose START came */
	KVI_RECV_CANCELLING, /* CANCEL is out; CACK or FIN to come */

	KVI_DONE,
};

struct kvt_transfer {
	/* immutable after start */
	bool is_send;
	struct kvt_kv *kv;
	struct kvt_conn *conn;
	struct kvi_worker *worker;
	uint8_t *base;
	size_t len; /* of the message, or what the receive allows */
	uint64_t send_meta_len;
	int64_t started_ns;
	struct kvi_command start;
	struct kvi_command cancel;

	/* under worker lock */
	enum kvi_transfer_state state;
	struct kvi_channel *channel;
	struct kvi_list node;	    /* in a list of its channel */
	struct kvi_list link_node;  /* in link->waiting */
	struct kvi_list timed_node; /* in worker->timed */
	int64_t deadline_ns;
	uint64_t seq;
	uint64_t generation;
	struct kvi_window *window; /* receive: what the CTS grants; send: the source, where needed */
	struct kvi_arrival *arrival; /* receive: the START it is matched to */
	struct kvi_spread spread;    /* send: the writing */
	bool acked;
	bool peer_cancelled; /* STOPPING because of the peer's CANCEL, not of our giving up */
	size_t refused_len;  /* what the peer's receive allowed, when it refused */
	bool was_refused;
	struct kvt_error reason; /* why it is being given up; code KVT_OK: it is not */

	/* written before done, read after it */
	struct kvt_error error;
	size_t result_len;
	uint8_t *meta;
	size_t meta_len;
	uint8_t *data; /* allocated by us for a receive */
	uint64_t segments;
	int64_t submit_ns;
	int64_t done_ns;

	/* atomic */
	atomic_bool cancel_asked;
	atomic_bool done;
	atomic_uint refs; /* the handle's, and the engine's while in flight */
};

/* Complete with success (error NULL) or error: the registration and the engine's reference are dropped. */
void kvi_transfer_complete(struct kvt_transfer *transfer, const struct kvt_error *error);

/* Set or, with KVI_NEVER, clear the deadline. */
void kvi_transfer_set_deadline(struct kvt_transfer *transfer, int64_t deadline_ns);

/* The deadline has passed: give up, or, when giving up took too long, cut the connection. */
void kvi_transfer_on_deadline(struct kvt_transfer *transfer);

/* Begin to give up with reason; completes now or when it is quiet. Not for one that is done. */
void kvi_transfer_give_up(struct kvt_transfer *transfer, enum kvt_err code, const char *text);

void kvi_transfer_drop_ref(struct kvt_transfer *transfer);

#endif
