/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transfer.h - the life of a transfer, of whatever kind, from start to its single completion.
 *
 * A transfer belongs to one worker, under whose lock all its state stands. It completes exactly once,
 * in kvi_transfer_complete(), and only when nothing of it is posted and the peer can no longer reach its
 * buffer (rule Q, docs/protocol.md 6.4). Kinds are tagged.h (sends and receives) and paged.h.
 */
#ifndef KVI_ENGINE_TRANSFER_H
#define KVI_ENGINE_TRANSFER_H

#include <stdatomic.h>

#include "base/error.h"
#include "base/list.h"
#include "engine/core/ref.h"
#include "engine/lane/link.h"
#include "engine/progress/worker.h"

/* What a kind of transfers does, under the worker's lock but for free. */
struct kvi_transfer_kind {
	/* Begin; may complete it. */
	void (*start)(struct kvt_transfer *transfer);
	/* Of transfer->waiter, for kvi_link_await_room(). */
	bool (*begin)(struct kvi_waiter *waiter);
	/* Stop, for transfer->error: completes now or when it is quiet. */
	void (*give_up)(struct kvt_transfer *transfer);
	/* It is given up and should be quiet. False: it is not, and only waiting helps, or severing
	 * the connection. */
	bool (*end_late)(struct kvt_transfer *transfer);
	/* Its time has come, and it was not given up. False: that is its deadline. NULL: it always is. */
	bool (*on_due)(struct kvt_transfer *transfer);
	/* What was not done in time, for a human. */
	void (*format_timeout)(const struct kvt_transfer *transfer, char *text, size_t len);
	/* It completes: let go of everything, and count. */
	void (*settle)(struct kvt_transfer *transfer, bool failed);
	bool holds_conn; /* what such a transfer holds has a reference of its connection: it needs none */
	/* Nobody has it any more. */
	void (*free)(struct kvt_transfer *transfer);
};

struct kvt_transfer {
	/* immutable after start */
	const struct kvi_transfer_kind *kind;
	struct kvt_engine *engine;
	struct kvt_conn *conn; /* NULL: it is of the engine, and makes a connection */
	struct kvi_worker *worker;
	int64_t started_ns;
	int64_t deadline_ns; /* as it was asked for */
	uint64_t count;	     /* of what was asked for: blocks, spans, or one message */
	bool reap;	     /* inbox.h: the application wants it from kvt_engine_reap() */
	bool is_of_call;     /* which waits for it: its failure is that call's, and no transfer's */
	bool is_large;	     /* its start leaves the posting to whoever drives */
	struct kvi_command start;
	struct kvi_command cancel;

	/* under worker lock */
	struct kvi_list shard_node; /* in shard->transfers */
	struct kvi_waiter waiter;   /* for room on its link */
	struct kvi_timer timer;	    /* in worker->timers */
	int64_t gave_up_ns;

	/* under the inbox's lock */
	struct kvi_list inbox_node;
	bool given_back; /* its handle: nobody reaps it */

	/* under worker lock until done, read by anybody after it */
	struct kvi_kept_error
		error; /* why it is being given up, or how it has failed; code KVT_OK: neither */

	/* written before done, read after it */
	size_t result_len;
	uint8_t *meta;
	size_t meta_len;
	uint8_t *data; /* allocated by us for a receive */
	uint64_t segments;
	int64_t done_ns;

	/* atomic */
	_Atomic(int64_t) submit_ns; /* 0: the start call has not returned */
	atomic_bool cancel_asked;
	atomic_bool done;
	struct kvi_ref ref; /* the handle's, and the engine's while in flight */
};

/*
 * Start a transfer whose kind is set; the rest of the base is filled in here. Takes a reference of
 * conn. LIMIT: nothing happened, and the caller frees it.
 */
enum kvt_err kvi_transfer_start(struct kvt_transfer *transfer, struct kvt_conn *conn,
				struct kvi_worker *worker, int64_t timeout_ns,
				struct kvt_error *error);

/*
 * Fill in the base of a transfer whose kind, count and reap are set, with two references: the handle's and the engine's.
 * It is in flight then: complete it, under its worker's lock, or abandon it, who calls. conn may be NULL.
 */
void kvi_transfer_init(struct kvt_transfer *transfer, struct kvt_engine *engine,
		       struct kvt_conn *conn, struct kvi_worker *worker, int64_t deadline_ns);
void kvi_transfer_abandon(struct kvt_transfer *transfer);

/* What all start calls refuse: a forked child's, a timeout that is none. *timeout_ns becomes a length of time. */
enum kvt_err kvi_transfer_check_start(const struct kvt_conn *conn, int64_t default_ns,
				      int64_t *timeout_ns, struct kvt_error *error);

/* Complete with success (error NULL) or error: the engine's reference is dropped. */
void kvi_transfer_complete(struct kvt_transfer *transfer, const struct kvt_error *error);

/* Complete with what it was given up for. */
void kvi_transfer_complete_given_up(struct kvt_transfer *transfer);

/* Whether it is being given up; under the worker's lock, of one that is not done. */
static inline bool kvi_transfer_is_given_up(const struct kvt_transfer *transfer)
{
	return transfer->error.code != KVT_OK;
}

/* Set or, with KVI_NEVER, clear the deadline; or set the one that was asked for, when it starts. */
void kvi_transfer_set_deadline(struct kvt_transfer *transfer, int64_t deadline_ns);
void kvi_transfer_set_first_deadline(struct kvt_transfer *transfer);

/* It was given up, and is not quiet yet: wait as long as bytes move, then sever the connection. */
void kvi_transfer_await_quiet(struct kvt_transfer *transfer);

/* The deadline has passed: give up, or, when giving up took too long, sever the connection. */
void kvi_transfer_on_due(struct kvi_timer *timer);

/* Begin to give up with this error; completes now or when it is quiet. Not for one that is done. */
void kvi_transfer_give_up(struct kvt_transfer *transfer, enum kvt_err code, const char *text);

#endif
