/* SPDX-License-Identifier: Apache-2.0 */
/*
 * link.h - one lane's side of the protocol: packets, credits, the eager window (docs/protocol.md 5).
 *
 * A link keeps KVI_RX_COUNT receives posted, or, where a message that finds none waits for one, as many as
 * what comes asks for: an idle link has few. It may have as many packets on the way as the peer has agreed
 * to, less two, which are left for CREDIT messages: those need no credit, so credits always come back. A message that cannot be posted now waits in the queue; a send's first message is not made
 * before there is room for it, so the queue holds answers only and stays short.
 *
 * Answers are gathered: a flush posts all that wait as one packet, and a first message takes them along,
 * so that a ping-pong costs one packet a leg though every message is acknowledged. First messages are put
 * into the packet that is being filled, which a flush posts, too.
 *
 * Messages of a peer that the application has not accepted are taken, and acknowledged, as long as the
 * engine has room for such (inbox.h); then its packets are left untaken, and it waits.
 *
 * All functions are called under the worker's lock.
 */
#ifndef KVI_ENGINE_LINK_H
#define KVI_ENGINE_LINK_H

#include "base/list.h"
#include "engine/core/settings.h"
#include "engine/lane/chore.h"
#include "engine/lane/flight.h"
#include "engine/progress/shard.h"
#include "engine/progress/worker.h"
#include "fabric/fabric.h"
#include "wire/wire.h"

struct kvi_link;
struct kvi_segment;

/* Who takes a message, by its type. PROTOCOL, NO_MEMORY and LIMIT fail the connection. */
struct kvi_handlers {
	enum kvt_err (*take[KVI_MESSAGE_LAST + 1])(struct kvi_link *link,
						   const struct kvi_message *message);
	/* More of the eager window is free for sends than before. */
	void (*on_window)(struct kvi_link *link);
};

/* A message's bytes, in the link's slab. */
struct kvi_packet {
	struct kvi_post post;
	struct kvi_list node;
	struct kvi_link *link;
	uint8_t *bytes;
	size_t len; /* of what came, until it is taken */
};

/* What waits for room to send its first message; under the worker's lock. */
struct kvi_waiter {
	struct kvi_list node; /* in a queue of its link */
	bool needs_window;    /* the message is a notification */
	/* Send it, and leave the queue. False: there is no room yet. */
	bool (*begin)(struct kvi_waiter *waiter);
};

enum kvi_segment_kind {
	KVI_SEGMENT_WRITE, /* done when the peer's memory has it */
	KVI_SEGMENT_ORDERED, /* a write that may be done when our memory is free: a message follows and is
			      * answered */
	KVI_SEGMENT_READ,
	KVI_SEGMENT_READ_REQUEST, /* nothing is posted: on_posted asks the peer for bytes, and awaits its answer */
	KVI_SEGMENT_SHOWN, /* nothing is posted: the peer sees the bytes, and on_posted tells it */
};

/* What a segment carries for the room that made it; under the worker's lock. */
struct kvi_cargo_kind {
	/* It was posted: tell the peer, behind it. NULL: nobody cares, nor of the next two. */
	void (*on_posted)(struct kvi_segment *segment);
	/* The operation is complete, and what it carries is released behind this. */
	void (*on_done)(struct kvi_segment *segment);
	/* It failed, and awaits the peer's word no more. */
	void (*on_failed)(struct kvi_segment *segment);
	/* Free what it carries: it was written, or is answered, or ends without. */
	void (*release)(struct kvi_segment *segment);
};

/* A segment on its way: one RMA operation of a stripe. */
struct kvi_segment {
	struct kvi_post post;
	struct kvi_list node; /* in link->free_segments */
	struct kvi_link *link;
	struct kvi_stripe *stripe;
	enum kvi_segment_kind kind;
	unsigned span_count;
	struct kvi_span spans[KVI_SPANS_MAX];
	const struct kvi_cargo_kind *cargo_kind; /* NULL: it carries nothing, or not any more */
	void *cargo;
	size_t asked_len;  /* KVI_SEGMENT_READ_REQUEST: how many bytes it asks for */
	bool awaits_ack;   /* not done before the peer has said so: kvi_segment_on_ack() */
	bool is_asked;	   /* the peer was asked to check it; paged/check.h */
	int64_t posted_ns; /* 0: it is small */
	size_t ahead;	   /* bytes in flight on the lane then, itself included */
	bool is_delivered; /* how it was posted */
};

/* What a higher room has on every lane; under the worker's lock. */
struct kvi_poster {
	/* Post what there is, before segments are; did: set when something was. False: what is left goes first. */
	bool (*pump)(struct kvi_link *link, bool *did);
	/* The lane is closed: free what is there. */
	void (*free)(struct kvi_link *link);
};

struct kvi_link {
	struct kvt_conn *conn;
	struct kvi_shard *shard;
	unsigned index;
	unsigned rail;
	struct kvi_cq *cq;
	struct kvi_lane *lane;	    /* NULL: not made yet, or closed */
	struct kvi_flow flow;	    /* immutable once connected */
	struct kvi_list node;	    /* in shard->links */
	struct kvi_list dirty_node; /* in worker->dirty_links while something may be postable */
	bool connected;

	struct kvi_memory *memory; /* of the slab, where the provider needs it */
	uint8_t *slab;
	size_t packet_len;
	size_t send_len;	      /* of a packet to send: what both sides' packets hold */
	struct kvi_packet *packets;   /* KVI_RX_COUNT to receive */
	unsigned receive_count;	      /* of them that are in use */
	unsigned came;		      /* packets, since the last flush */
	struct kvi_packet *sends;     /* as many to send; NULL: nothing was ever sent */
	struct kvi_list free_packets; /* of them */
	unsigned posts;		      /* of them: which are signalled */
	struct kvi_packet *filling;   /* the next one to post; NULL: none is begun */
	size_t filling_len;
	unsigned filling_count; /* messages in it */
	struct kvi_list queue;	/* of answers that wait for room: struct queued in link.c */
	unsigned queue_count;
	size_t queue_len;	       /* bytes of data in it */
	bool queue_urgent;	       /* it holds more than a few ACKs */
	unsigned questions_held;       /* of the peer's: their answers are in it */
	unsigned questions_out;	       /* of ours, not answered: paged/import.c */
	struct kvi_list waiting;       /* for room to send a first message: struct kvi_waiter */
	struct kvi_list waiting_notes; /* the same, of notifications, which need the window, too */
	struct kvi_list chores;	       /* struct kvi_chore */
	struct kvi_list untaken;       /* packets that came, until the connection is accepted */
	struct kvi_event
		*partial; /* a notification that comes in parts: notification.h; NULL: none */
	uint64_t partial_number; /* of its transfer */
	size_t partial_len;	 /* of it that has come */

	unsigned send_credits;
	unsigned owed_credits;
	uint64_t window_left;
	bool note_lacks_window; /* the first that waits of waiting_notes was refused for it */
	uint64_t note_saved;	/* of window_left, for it: what came back since it waits */
	uint64_t window_taken;	/* by the peer's messages, and not returned to it */
	uint32_t owed_window;
	unsigned eager_sends; /* not acknowledged */

	/* Of the windows of STARTs, ours and the peer's, and the tag queues that wait for ours: tagged/start_window.h. */
	uint64_t starts_out;
	uint64_t starts_held;
	struct kvi_list starts_first;
	struct kvi_list starts_more;
	struct kvi_list starts_small; /* of both, those that wait with what may go eagerly */

	/* Of imports: the number of the last question, and who waits to ask; paged/import.c. */
	uint64_t last_question;
	struct kvi_list askers;

	struct kvi_segment *segments; /* KVI_SEGMENTS; NULL: none was ever wanted */
	struct kvi_list free_segments;
	unsigned writes; /* segments that are operations: posted, or held */
	size_t writes_len;
	unsigned read_requests;	  /* segments that are read requests: sent, and not answered */
	size_t read_requests_len; /* bytes that they ask for */
	struct kvi_flight flight; /* bounds both */
	struct kvi_segment *held; /* taken, but the provider had no room */
	struct kvi_list stripes;  /* spread.h: shares of transfers that use this lane alone */
	bool shared_turn;	  /* the next segment is of those that use any lane of the shard */
	const struct kvi_poster *poster; /* immutable */
	struct kvi_staging *staging;	 /* its; NULL: nothing was ever packed on this lane */
};

/*
 * Make the lane, towards address (it introduces itself with a lane hello) or from request, which is
 * consumed in any case; post receives; connect it.
 */
enum kvt_err kvi_link_open(struct kvi_link *link, const uint8_t *address, size_t address_len,
			   struct kvi_lane_request *request, struct kvt_error *error);

/* Sever one lane. Its posts are handed out by the next progress; then kvi_link_free(). */
void kvi_link_close(struct kvi_link *link);
void kvi_link_free(struct kvi_link *link);

/* Take what was left untaken. */
void kvi_link_take_untaken(struct kvi_link *link);

/* The fabric has failed something on this lane, with err and the provider's errno: end the connection, and
 * say whose fault it is. what: "a write". */
void kvi_link_fail(struct kvi_link *link, enum kvt_err err, int provider_errno, const char *what);

void kvi_link_on_event(struct kvi_link *link, const struct kvi_lane_event *event);

/* The lane could not be connected, for this errno (0: nobody answered): fail its connection. */
void kvi_link_fail_unconnected(struct kvi_link *link, int provider_errno);

/* How much data an answer of any type can carry. */
size_t kvi_link_get_room(const struct kvi_link *link);

/* Put a message into the packet that the next flush posts, or return false when there is no room for it now. */
bool kvi_link_try_send(struct kvi_link *link, struct kvi_message *message);

/*
 * Whether the eager window has room for such a send. A notification takes the window for all of it at once: it would
 * never be left so much of it by sends that take what comes back piece by piece. So that is the notification's, and what
 * is left beside it theirs.
 */
static inline bool kvi_link_has_window(const struct kvi_link *link, size_t meta_len,
				       size_t data_len)
{
	return link->note_saved + kvi_message_get_charge(meta_len, data_len) <= link->window_left;
}

/* Queue what sends its first message by begin(): now, or when there is room.
 * Notifications keep their order among themselves, and so does all else. */
void kvi_link_await_room(struct kvi_link *link, struct kvi_waiter *waiter);

/*
 * Send an answer: a message without meta, whose data is copied. It waits for the next flush, or travels
 * with the next message on this link. Failing fails the connection, so callers need not look.
 */
void kvi_link_send(struct kvi_link *link, struct kvi_message *message);

/* The same, but post it now where there is room: the peer can begin with it while we do more. */
void kvi_link_send_now(struct kvi_link *link, struct kvi_message *message);

/* The same, and post it, by who holds no worker's lock. */
void kvi_link_send_unlocked(struct kvi_link *link, struct kvi_message *message);

/* The peer may send as much again. */
void kvi_link_return_charge(struct kvi_link *link, uint32_t charge);
/* An EAGER or NOTIFY has been consumed. */
static inline void kvi_link_return_window(struct kvi_link *link, size_t meta_len, size_t data_len)
{
	kvi_link_return_charge(link, kvi_message_get_charge(meta_len, data_len));
}

/* Have segments to post, made when the first is wanted. False: out of memory; it is tried again soon. */
bool kvi_link_make_segments(struct kvi_link *link);

/* Something may be postable: look at the next flush. */
void kvi_link_touch(struct kvi_link *link);

/* The provider had no room for a post: look again soon, as nothing may tell when it has. */
void kvi_link_retry(struct kvi_link *link);

/* Post what waits, as far as there is room. True when something was posted. how: of enum kvi_flush. */
bool kvi_link_flush(struct kvi_link *link, unsigned how);

#endif
