/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn.h - a connection: one peer, its lanes, and how it comes and goes.
 *
 * OPENING -> OPEN -> FAILING -> ENDED. Anybody may fail a connection, under any lock; the control
 * thread alone tears it down: it cuts all lanes (the fence), then ends every transfer with the cause.
 */
#ifndef KVI_ENGINE_CONN_H
#define KVI_ENGINE_CONN_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/list.h"
#include "base/mailbox.h"
#include "engine/link.h"
#include "engine/motion.h"
#include "engine/part.h"
#include "engine/ref.h"
#include "engine/share.h"
#include "engine/stats.h"
#include "wire/wire.h"

struct kvi_session;

enum kvi_conn_state {
	KVI_CONN_OPENING,
	KVI_CONN_OPEN,
	KVI_CONN_FAILING, /* cause is set; the control thread will tear it down */
	KVI_CONN_ENDED,
};

struct kvt_conn {
	/* immutable once its lanes are being made */
	struct kvt_engine *engine;
	bool is_server;
	char host[64];
	uint16_t port;
	uint8_t session_id[KVI_SESSION_LEN];
	uint8_t token[KVI_TOKEN_LEN];
	size_t eager_len; /* the smaller of both sides' */
	unsigned peer_rx_count;
	unsigned lane_count;
	struct kvi_link *links; /* by lane index */
	struct kvi_part *parts; /* one a worker, by its index */

	/* under engine->lock */
	struct kvi_list node;	      /* in engine->conns */
	struct kvi_list ready_node;   /* in engine->ready */
	struct kvi_lanes *peer_lanes; /* client: where to connect; set by the control thread */
	bool has_place;		      /* server: among those that wait to be accepted */
	bool was_open;
	bool is_torn_down;
	bool left_something; /* from then on: messages or notifications that the peer was told we have */

	/* under lock, a leaf */
	pthread_mutex_t lock;
	struct kvt_error cause; /* immutable from FAILING on */
	struct kvi_motion motion;

	/* control thread */
	struct kvi_session *session; /* NULL: not yet, or it has ended */

	/* in the control thread's notes while is_noted, which holds a reference then */
	struct kvi_mail note;

	/* under the inbox's lock */
	struct kvi_list held_events; /* for when the application has it */
	struct kvi_list events;	     /* that are in the inbox, by conn_node */
	size_t held_len;	     /* what the peer has made us keep until then */
	struct kvi_event *ended;     /* made beforehand, for the end; NULL once it is told */

	struct kvi_share share;

	/* atomic */
	_Atomic(enum kvi_conn_state) state;
	atomic_bool is_noted;
	atomic_bool handed_out; /* the application has it; set under the inbox's lock */
	atomic_size_t arrivals; /* eager messages that wait for a receive */
	struct kvi_ref ref; /* the handle's, the control thread's, one a KV's and a transfer's */
	atomic_uint lanes_connected;
	atomic_uint lanes_closing; /* lanes on which the peer has said BYE */
	atomic_uint channel_count;
	atomic_uint transfer_count;
	_Atomic(uint64_t) next_generation;
	_Atomic(uint64_t) next_auto_tag;
	_Atomic(uint64_t) next_paged; /* number of a paged transfer */
	struct kvi_counters counters;
};

/* A connection in state OPENING with two references: the caller's and the control thread's. */
struct kvt_conn *kvi_conn_alloc(struct kvt_engine *engine, bool is_server);

/* Lay out links and parts for lane_count lanes, as agreed. */
enum kvt_err kvi_conn_make_links(struct kvt_conn *conn, unsigned lane_count, size_t peer_eager_len,
				 unsigned peer_rx_count);

/* Record why the connection ends, if nobody has yet, and wake the control thread. Any thread. */
void kvi_conn_fail(struct kvt_conn *conn, enum kvt_err code, int provider_errno, const char *format,
		   ...) __attribute__((format(printf, 4, 5)));

/* A lane is connected; under its worker's lock. */
void kvi_conn_on_lane_connected(struct kvt_conn *conn);

/* The peer will send nothing more on a lane; under its worker's lock. */
void kvi_conn_on_lane_bye(struct kvt_conn *conn);

/*
 * Control thread: cut the lanes, end the transfers, set ENDED. What the peer was told that we have is
 * kept, and the connection with it, which accepting gives out as any other.
 */
void kvi_conn_tear_down(struct kvt_conn *conn);

/* A server's, before the peer is told that we are ready, and so may send: whether there is room for what
 * it leaves, should it go unaccepted. Taken until it is accepted, or has gone and left nothing. */
bool kvi_conn_take_place(struct kvt_conn *conn);
/* Under engine->lock. */
void kvi_conn_leave_place(struct kvt_conn *conn);

/* Wait until a connection that has failed is torn down, which waits for no peer. */
void kvi_conn_await_end(struct kvt_conn *conn);

/* The application gets it now, and with it what came before. No lock is held. */
void kvi_conn_hand_out(struct kvt_conn *conn);

/* KVT_OK when open, else the cause, copied to error (may be NULL). */
enum kvt_err kvi_conn_check(struct kvt_conn *conn, struct kvt_error *error);

/* Control thread: both sides are ready. */
void kvi_conn_set_open(struct kvt_conn *conn);

/* Control thread: say BYE on every lane, behind what was sent before. */
void kvi_conn_say_bye(struct kvt_conn *conn);

/* 64 random bits for a memory key. */
uint64_t kvi_conn_make_key(void);

#endif
