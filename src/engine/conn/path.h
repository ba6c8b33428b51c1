/* SPDX-License-Identifier: Apache-2.0 */
/*
 * path.h - which path the lanes of a connection take: within this host, where both sides are found to be on it, else over
 * the network (docs/protocol.md 3.12, 3.13). The server offers its local socket, with a proof of its host, and is on
 * trial from then on. The client tries it, or says that it does not. Control thread only.
 */
#ifndef KVI_ENGINE_CONN_PATH_H
#define KVI_ENGINE_CONN_PATH_H

#include "engine/core/conn.h"
#include "wire/wire.h"

struct kvi_session;

/* Both sides have agreed: the path of that provider, on which the links are to be laid out. */
void kvi_path_begin(struct kvt_conn *conn, const struct kvi_welcome *agreed);

/* Server, whose session awaits lanes: go on trial, and say what the client needs for it. False: no local lanes are
 * offered. */
bool kvi_path_offer(struct kvi_session *session, struct kvi_near *near);

/* Client: what the server offers. PROTOCOL: it may not. NO_MEMORY. */
enum kvt_err kvi_path_on_offer(struct kvt_conn *conn, const struct kvi_near *near);

/* Client, with all offers there: go on trial, where that makes sense. False: it does not, and the server that has offered
 * it has to know. */
bool kvi_path_choose(struct kvt_conn *conn);

/* The trial is over, if it is not yet: all lanes are laid out on the network now. */
void kvi_path_leave(struct kvt_conn *conn, const char *reason);

/* Client: leave a trial that has failed, unless its lanes are being made. True: that was done, and the server has to know. */
bool kvi_path_fall_back(struct kvt_conn *conn);

/* Server: the client makes a lane on that rail. */
void kvi_path_follow(struct kvt_conn *conn, size_t rail);

#endif
