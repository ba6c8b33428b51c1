/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control.h - the control thread: the listener that strangers meet, the control channel of every
 * connection (session.h), lane requests, and all timers of connections. It waits in epoll only: never
 * on a peer, never on a lock that anybody holds while waiting, never for Python.
 */
#ifndef KVI_ENGINE_CONTROL_H
#define KVI_ENGINE_CONTROL_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/list.h"
#include "base/mailbox.h"
#include "base/timers.h"
#include "base/wake.h"
#include "engine/conn/complaints.h"
#include "engine/conn/strangers.h"
#include "engine/core/path.h"
#include "engine/core/settings.h"
#include "fabric/fabric.h"
#include "wire/wire.h"

struct kvi_session;
struct kvt_conn;
struct kvt_engine;

/*
 * A turn of the thread costs what has changed, not what is open. Who changes a connection leaves a note;
 * deadlines are in a heap; heartbeats have one interval, so they stand in a queue, and all fall due on the
 * same ticks, so that one wake serves many. Each of these has a budget a turn: whoever makes much work waits
 * for the turns of the others.
 */
struct kvi_control {
	/* immutable once it has started */
	struct kvt_engine *engine;
	bool is_started;
	int epoll_fd;
	int listen_fds[KVI_RAILS_MAX]; /* one a host of the engine's address */
	unsigned listen_count;
	struct kvi_wake wake;
	pthread_t thread;
	int64_t opened_ns; /* the ticks of heartbeats are counted from here */

	/* control thread */
	struct kvi_list sessions; /* that have not ended */
	struct kvi_list ended;	  /* freed when no event can name them any more */
	struct kvi_list beats;	  /* open sessions, whose heartbeat is due first comes first */
	struct kvi_timers timers; /* of sessions */
	struct kvi_strangers strangers; /* who has said nothing that is worth anything */
	struct kvi_strangers callers; /* who may have a key, or a record of somebody else's call */
	struct kvi_complaints complaints;
	struct kvi_session *awaited; /* table, by session id: those whose lanes may come */
	int reserve_fd;		     /* closed to take and drop a peer when descriptors run out */
	int64_t resume_ns;	     /* when to listen again after that; KVI_NEVER: listening */
	struct kvi_listener *listeners[KVI_ENGINE_RAILS_MAX];
	unsigned listener_users; /* sessions whose lanes are being made */
	unsigned rails_paused;	 /* bits: listeners that are not watched until then */
	unsigned rails_left;	 /* bits: listeners on which lane requests may be left */
	bool fds_lost;		 /* its descriptors are not ours any more */
	const char *end_text;	 /* not NULL: everything is to end, for this reason */
	int end_errno;

	/* under lock */
	pthread_mutex_t lock;
	struct kvi_list adopted; /* sessions of our own calls, not yet in sessions */

	/* any thread pushes; popped by the control thread */
	struct kvi_mailbox notes;

	/* atomic */
	atomic_bool stopping;
};

/* It is there before the workers and for as long as the engine, as each thread may find that descriptors were lost.
 * NULL: no memory. */
struct kvi_control *kvi_control_alloc(struct kvt_engine *engine);
void kvi_control_free(struct kvi_control *control);

/* Listen on one port (0: any) of all hosts of the engine's address, and start the thread. Errors: LIMIT (port in use,
 * descriptors), INVALID, NO_MEMORY. */
enum kvt_err kvi_control_start(struct kvi_control *control, uint16_t port, struct kvt_error *error);

/* Its descriptors may not be ours: it is not woken any more, and looks in by itself. Any thread. */
void kvi_control_mute(struct kvi_control *control);

/* Send CLOSE to all peers, tear their connections down, stop the thread, if it has started. */
void kvi_control_stop(struct kvi_control *control);

/* Give a connected socket to the control thread, for conn in state OPENING. Owns fd on success. */
enum kvt_err kvi_control_adopt(struct kvi_control *control, struct kvt_conn *conn, int fd);

uint16_t kvi_control_get_port(const struct kvi_control *control);

/* A stranger's OPENING was good: others have to go before it now. */
void kvi_control_believe(struct kvi_session *session);

/*
 * For sessions, on the control thread: keep the fabric's listeners open for its lanes, on the path that they are on; where
 * they are.
 */
enum kvt_err kvi_control_await_lanes(struct kvi_session *session, struct kvi_lanes *lanes,
				     struct kvt_error *error);
/* The same of the local path, on which its lanes are only tried. It awaits them already. */
enum kvt_err kvi_control_await_local(struct kvi_session *session, struct kvi_wire_address *address,
				     struct kvt_error *error);
/* Nothing when it awaits none. */
void kvi_control_leave_listeners(struct kvi_session *session);

/* When the next heartbeats are due. */
int64_t kvi_control_get_beat(const struct kvi_control *control, int64_t now_ns);

#endif
