/* SPDX-License-Identifier: Apache-2.0 */
/*
 * life.h - how a connection comes and goes: its lanes laid out, open, handed out, torn down.
 */
#ifndef KVI_ENGINE_LIFE_H
#define KVI_ENGINE_LIFE_H

#include "engine/core/conn.h"

#define KVI_TOO_MANY_WAIT "%d peers wait until the application of this engine accepts them"

/* A connection in state OPENING, among the engine's, with two references: the caller's and the control thread's.
 * NULL: there is no room, or no memory. */
struct kvt_conn *kvi_conn_admit(struct kvt_engine *engine, bool is_server, const char *host,
				uint16_t port, struct kvt_error *error);
/* It came to nothing before the control thread knew it: free it. */
void kvi_conn_dismiss(struct kvt_conn *conn);

/* Lay out links and shards for lane_count lanes, as agreed. */
enum kvt_err kvi_conn_make_links(struct kvt_conn *conn, unsigned lane_count, size_t peer_eager_len,
				 unsigned peer_rx_count);

/*
 * Control thread: lay the links out anew, on path. What lanes there are is closed; nothing was sent or received on them,
 * and nobody makes any meanwhile.
 */
void kvi_conn_take_path(struct kvt_conn *conn, const struct kvi_path *path);

/*
 * Control thread: sever the lanes, end the transfers, set ENDED. What the peer was told that we
 * have is kept, and the connection with it, which accepting gives out as any other.
 */
void kvi_conn_tear_down(struct kvt_conn *conn);

/* A server's, before the peer is told that we are ready, and so may send: whether there is room for what
 * it leaves, should it go unaccepted. Taken until it is accepted, or has gone and left nothing. */
bool kvi_conn_take_place(struct kvt_conn *conn);
/* Under engine->lock. */
void kvi_conn_leave_place(struct kvt_conn *conn);

/* Under engine->lock: wake who waits for what has changed. */
void kvi_conn_tell_change(struct kvt_conn *conn);

/* The application gets it now, and with it what came before. No lock is held. */
void kvi_conn_hand_out(struct kvt_conn *conn);

/* Control thread: both sides are ready. */
void kvi_conn_set_open(struct kvt_conn *conn);

/* Control thread: send LANE_END on every lane, behind what was sent before. */
void kvi_conn_end_lanes(struct kvt_conn *conn);

#endif
