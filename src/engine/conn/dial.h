/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dial.h - one call of ours, from a name or an address to an open connection, as steps that do not wait. Who drives it
 * waits between them: the caller's thread in kvt_conn_open(), the dialer's for all calls that were started.
 *
 * A step may look for the way to a peer, and so block where a provider does: it is never taken on the control thread
 * or a worker's.
 */
#ifndef KVI_ENGINE_DIAL_H
#define KVI_ENGINE_DIAL_H

#include <stdatomic.h>

#include "engine/conn/target.h"

struct kvi_dialer;

enum kvi_dial_state {
	KVI_DIAL_RESOLVING,
	KVI_DIAL_CONNECTING,
	KVI_DIAL_ANSWERED, /* a socket is connected: an engine has to say where its lanes are */
	KVI_DIAL_LANES,	   /* its lanes are called, one after another */
	KVI_DIAL_OPENING,  /* all of them are being connected */
	KVI_DIAL_LOSING,   /* conn has failed; until it is torn down */
	KVI_DIAL_RESTING,  /* before an address is called once more */
	KVI_DIAL_OVER,	   /* conn, or error */
};

struct kvi_dial {
	/* its driver */
	enum kvi_dial_state state;
	struct kvi_target target;
	int64_t due_ns;	    /* when to step again, if nothing happens before */
	int64_t answer_ns;  /* until then an engine has to answer */
	int64_t trial_ns;   /* OPENING: until then lanes on trial have to stand */
	int64_t pause_ns;   /* before the next call of one who was hung up on or cut off */
	unsigned next_lane; /* LANES: to be called */
	bool is_stranger;   /* what was lost was no engine, or not the one that is meant */
	struct kvt_conn *conn;
	struct kvt_error error; /* of conn, or, once OVER without one, of the call */

	/* immutable; NULL: who drives waits for engine->changed */
	struct kvi_dialer *dialer;

	/* atomic */
	_Atomic(enum kvt_err) stop; /* why it shall end at once: CANCELLED or CLOSED */
};

/* Begin: target is filled in as target.h says. */
void kvi_dial_open(struct kvi_dial *dial);

/* Go on as far as is possible now. True: it is OVER, and conn or error is the caller's. */
bool kvi_dial_step(struct kvi_dial *dial);

/* Give back what it has but for conn. */
void kvi_dial_close(struct kvi_dial *dial);

/* Of a connection that the application never got, and whose call is over: end it, and drop its handle. */
void kvi_dial_drop_conn(struct kvt_conn *conn);

#endif
