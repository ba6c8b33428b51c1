/* SPDX-License-Identifier: Apache-2.0 */
/*
 * path.h - what the lanes of a connection run on: the network's rails, or the rail within this host. An engine has one
 * path or both. Where both sides have both, the local one is tried, and taken when all lanes stand
 * (docs/protocol.md 3.12); a trial that fails costs the connection nothing.
 */
#ifndef KVI_ENGINE_PATH_H
#define KVI_ENGINE_PATH_H

#include <stdatomic.h>
#include <stdbool.h>

#include "fabric/fabric.h"
#include "wire/wire.h"

struct kvt_conn;

enum { KVI_ENGINE_RAILS_MAX = KVI_RAILS_MAX + 1 }; /* the network's, and the one within this host */

/* Rails of an engine that follow each other; count 0: it has none of that kind. */
struct kvi_path {
	unsigned first;
	unsigned count;
	const struct kvi_caps *caps; /* the same of all */
};

enum kvi_trial_state {
	KVI_TRIAL_NONE,	  /* the lanes are on the path that they stay on */
	KVI_TRIAL_RUNS,	  /* they are being made on the local path */
	KVI_TRIAL_FAILED, /* one of them could not be, or broke: all will go over the network */
	KVI_TRIAL_PASSED, /* they are all there, and a lane that breaks ends the connection */
};

struct kvi_trial {
	_Atomic(enum kvi_trial_state) state; /* written under conn->lock */
	char text[KVT_TEXT_LEN];	     /* FAILED: why */
};

/*
 * A lane cannot be made, or has broken. True: it was a lane on trial, which ends the trial and nothing else. text: why,
 * or NULL, then provider_errno tells. Any thread, under any lock.
 */
bool kvi_trial_fail(struct kvt_conn *conn, int provider_errno, const char *text);

/* All lanes of this side are there, or the peer's. False: the trial has failed. */
bool kvi_trial_pass(struct kvt_conn *conn);

/* The state, and, where text is not NULL, why it is FAILED. */
enum kvi_trial_state kvi_trial_get_state(struct kvt_conn *conn, char text[KVT_TEXT_LEN]);

#endif
