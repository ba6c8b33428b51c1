/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inbox.h - what an engine tells the application without being asked: transfers that have completed,
 * and events (notifications, connections that ended), behind one file descriptor.
 *
 * Each kind of events has a queue of its own, so one that nobody takes holds up no other. The end of a connection comes
 * into its queue when the connection has nothing else left there.
 *
 * Nothing in it holds a reference: a transfer leaves it when its handle is freed, events leave it when
 * their connection is closed. Events of a connection that the application does not have yet wait in the
 * connection; what such connections keep, messages included, is counted here. lock is a leaf.
 *
 * Who waits for it (kvt_engine_wait()) visits the worker that told last, and drives it as an inline
 * driver does, as long as the application comes back soon from what it was told, has no other
 * thread that drives, and did not ask for the descriptor: whoever may rely on the worker's own
 * thread keeps it. Else it sleeps on the descriptor.
 */
#ifndef KVI_ENGINE_INBOX_H
#define KVI_ENGINE_INBOX_H

#include "base/list.h"
#include "engine/core/engine.h"

struct kvi_link;

/* What a struct kvt_event is the beginning of. */
struct kvi_event {
	struct kvt_event event;
	struct kvi_list
		node; /* in the inbox's events, or held by its connection; an end may be in neither */
	uint64_t number;	   /* in the order in which the application may take them */
	struct kvi_list conn_node; /* in its connection's, while it is in the inbox */
	struct kvi_link *link;	   /* of a notification: whose window it takes */
	uint8_t data[];
};

enum kvt_err kvi_inbox_open(struct kvi_inbox *inbox);
void kvi_inbox_close(struct kvi_inbox *inbox);

/* A transfer that wants to be reaped is done: sets done. */
void kvi_inbox_add_done(struct kvi_inbox *inbox, struct kvt_transfer *transfer);
/* Its handle is given back, in flight or not. */
void kvi_inbox_remove_done(struct kvi_inbox *inbox, struct kvt_transfer *transfer);

/* An event with room for len bytes of data; NULL: no memory. */
struct kvi_event *kvi_event_alloc(struct kvt_conn *conn, enum kvt_event_kind kind, size_t len);
void kvi_inbox_add_event(struct kvi_inbox *inbox, struct kvi_event *event);
/* The same in two steps. Who puts tells before long. */
void kvi_inbox_put_event(struct kvi_inbox *inbox, struct kvi_event *event);
void kvi_inbox_tell(struct kvi_inbox *inbox, struct kvi_worker *by); /* NULL: by no worker */

/* An event by which the application gets the connection: it does not wait for that. */
void kvi_inbox_show_event(struct kvi_inbox *inbox, struct kvi_event *event);

/* The peer makes us keep len bytes; this counts while the application does not have the connection. */
void kvi_inbox_hold(struct kvi_inbox *inbox, struct kvt_conn *conn, size_t len);
/* That much of it is kept no longer, though the application never had it. */
void kvi_inbox_release(struct kvi_inbox *inbox, struct kvt_conn *conn, size_t len);
/* Whether notifications wait for the application to get the connection. */
bool kvi_inbox_holds_events(struct kvi_inbox *inbox, const struct kvt_conn *conn);

/* The application has the connection now, or no longer. */
void kvi_inbox_hand_out(struct kvi_inbox *inbox, struct kvt_conn *conn);
void kvi_inbox_forget(struct kvi_inbox *inbox, struct kvt_conn *conn);

#endif
