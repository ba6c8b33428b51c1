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
#include "base/wake.h"
#include "engine/settings.h"
#include "fabric/fabric.h"
#include "wire/wire.h"

struct kvt_conn;
struct kvt_engine;

struct kvi_control {
	/* immutable after open */
	struct kvt_engine *engine;
	int epoll_fd;
	int listen_fd;
	struct kvi_wake wake;
	pthread_t thread;

	/* control thread */
	struct kvi_list sessions;
	unsigned pending;  /* sessions whose handshake is not done, accepted here */
	int reserve_fd;	   /* closed to take and drop a peer when descriptors run out */
	int64_t resume_ns; /* when to listen again after that; KVI_NEVER: listening */
	struct kvi_listener *listeners[KVI_RAILS_MAX];
	unsigned listener_users; /* sessions whose lanes are being made */
	bool fds_lost;		 /* its descriptors are not ours any more */

	/* under lock */
	pthread_mutex_t lock;
	struct kvi_list adopted; /* sessions of our own calls, not yet in sessions */

	/* atomic */
	atomic_bool stopping;
};

/* Listen on host:port (0: any) and start the thread. Errors: LIMIT (port in use, descriptors), INVALID,
 * NO_MEMORY. */
enum kvt_err kvi_control_open(struct kvt_engine *engine, const char *host, uint16_t port,
			      struct kvi_control **control, struct kvt_error *error);

/* Say goodbye to all peers, tear their connections down, stop the thread. */
void kvi_control_stop(struct kvi_control *control);

/* Look at all sessions: some connection has changed its state. Any thread. */
void kvi_control_wake(struct kvi_control *control);

/* Give a connected socket to the control thread, for conn in state OPENING. Owns fd on success. */
enum kvt_err kvi_control_adopt(struct kvi_control *control, struct kvt_conn *conn, int fd);

uint16_t kvi_control_get_port(const struct kvi_control *control);

/* For sessions, on the control thread: keep the fabric's listeners open; where they are. */
enum kvt_err kvi_control_use_listeners(struct kvi_control *control, struct kvi_lanes *lanes,
				       struct kvt_error *error);
void kvi_control_leave_listeners(struct kvi_control *control);

#endif
