/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn.h - a connection: one peer, its lanes, and how it comes and goes.
 *
 * OPENING -> OPEN -> FAILING -> ENDED. Anybody may fail a connection, under any lock; the control
 * thread alone tears it down: it severs all lanes, then ends every transfer with the cause.
 */
#ifndef KVI_ENGINE_CONN_H
#define KVI_ENGINE_CONN_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/list.h"
#include "base/mailbox.h"
#include "base/wake.h"
#include "engine/core/path.h"
#include "engine/core/ref.h"
#include "engine/core/secrets.h"
#include "engine/core/stats.h"
#include "wire/wire.h"

struct kvi_dial;
struct kvi_link;
struct kvi_shard;
struct kvi_session;
struct kvt_export;
struct kvt_remote;

enum kvi_conn_state {
	KVI_CONN_OPENING,
	KVI_CONN_OPEN,
	KVI_CONN_FAILING, /* cause is set; the control thread will tear it down */
	KVI_CONN_ENDED,
};

/* What motion.h has seen at its last look; under lock. */
struct kvi_motion {
	int64_t looked_ns;
	int64_t moved_ns; /* when it was seen to move, or nobody had looked for long */
	uint64_t moved;
};

/* What exports.h has: exports of ours, remotes of theirs. */
struct kvi_exports {
	/* under lock, a leaf */
	pthread_mutex_t lock;
	struct kvt_export *by_id;
	struct kvt_export *by_name; /* those that are open and have a name, by it */
	struct kvt_remote *remotes; /* by id */
	uint64_t last_export_id;
	bool ended; /* the lanes are severed */

	/* atomic */
	atomic_bool is_staged; /* what staging.h offers is offered on all lanes */
	atomic_uint next_lane; /* for the questions of an import */
};

struct kvt_conn {
	/* immutable once its lanes are being made */
	struct kvt_engine *engine;
	bool is_server;
	char host[64];
	uint16_t port;
	uint8_t session_id[KVI_SESSION_LEN];
	struct kvi_secrets *secrets; /* in the engine's vault */
	uint8_t *peer_identity;	     /* NULL: it has none */
	size_t peer_identity_len;
	bool wants_instance; /* client: it shall be the engine of this instance */
	uint8_t instance[KVI_SESSION_LEN];
	bool has_sums;	  /* what moves is checked; protocol 6.7 */
	size_t eager_len; /* the smaller of both sides' */
	unsigned peer_rx_count;
	unsigned lane_count;
	struct kvi_link *links;	     /* by lane index */
	struct kvi_shard *shards;    /* one a worker, by its index */
	const struct kvi_path *path; /* that they are on; another one after a trial that failed */
	struct kvi_near *near;	     /* client: where its lanes go on trial; NULL: there is none */
	char path_reason[KVT_TEXT_LEN]; /* why path is not the local one; immutable once open */
	struct kvi_mailbox *notes;	/* of the control thread, and what wakes it */
	struct kvi_wake *control_wake;

	/* under engine->lock */
	struct kvi_list node;	    /* in engine->conns */
	struct kvi_list ready_node; /* in engine->ready */
	struct kvi_dial *
		dial; /* client: its call, which is told of what changes; NULL: none, or it waits itself */
	struct kvi_lanes *peer_lanes; /* client: where to connect; set by the control thread */
	bool wants_lanes; /* client: laid out on a path, to be made by who drives the call */
	bool makes_lanes; /* client: it is at it, and nobody lays them out anew meanwhile */
	bool has_place;	  /* server: among those that wait to be accepted */
	bool was_open;
	bool is_torn_down;
	bool left_something; /* from then on: messages or notifications that the peer was told we have */
	struct kvi_event *arrived; /* as ended, for accept_events; NULL also where there are none */

	/* under lock, a leaf */
	pthread_mutex_t lock;
	struct kvt_error cause; /* immutable from FAILING on */
	struct kvi_trial trial;
	struct kvi_motion motion;

	/* control thread */
	struct kvi_session *session; /* NULL: not yet, or it has ended */
	struct kvi_event *ended;     /* made beforehand, for the end; NULL once it is told */

	/* in the control thread's notes while is_noted, which holds a reference then */
	struct kvi_mail note;

	/* under the inbox's lock */
	struct kvi_list held_events; /* for when the application has it */
	struct kvi_list events;	     /* that are in the inbox, by conn_node */
	size_t held_len;	     /* what the peer has made us keep until then */

	struct kvi_exports exports;

	/* atomic */
	_Atomic(enum kvi_conn_state) state;
	atomic_bool is_noted;
	atomic_bool handed_out; /* the application has it; set under the inbox's lock */
	atomic_size_t arrivals; /* eager messages that wait for a receive */
	struct kvi_ref ref; /* the handle's, the control thread's, one a KV's and a transfer's */
	atomic_uint lanes_connected;
	atomic_uint lanes_closing; /* lanes on which LANE_END came */
	atomic_uint tag_queue_count;
	atomic_uint transfer_count; /* in flight */
	_Atomic(uint64_t) next_generation;
	_Atomic(uint64_t) next_auto_tag;
	_Atomic(uint64_t) next_paged;	    /* number of a paged transfer */
	_Atomic(uint64_t) paged_turns;	    /* of their home lanes, in bytes */
	_Atomic(int64_t) next_complaint_ns; /* of what came wrong */
	/* Of what is done under no worker's lock; the rest is its shards'. */
	struct kvi_counters counters;
};

/* What the rails of its path can do. */
static inline const struct kvi_caps *kvi_conn_get_caps(const struct kvt_conn *conn)
{
	return conn->path->caps;
}

/* Whether its lanes stay. On those on trial nobody says anything: they may be laid out anew, on other workers. */
static inline bool kvi_conn_has_path(const struct kvt_conn *conn)
{
	enum kvi_trial_state trial = atomic_load(&conn->trial.state);
	return trial == KVI_TRIAL_NONE || trial == KVI_TRIAL_PASSED;
}

/* Client: where a lane goes, as things stand. */
const struct kvi_wire_address *kvi_conn_get_lane_address(const struct kvt_conn *conn,
							 unsigned index);

/* Have the control thread look at it. Any thread, under any lock. */
void kvi_conn_note(struct kvt_conn *conn);

/* Record why the connection ends, if nobody has yet, and wake the control thread. Any thread. */
void kvi_conn_fail(struct kvt_conn *conn, enum kvt_err code, int provider_errno, const char *format,
		   ...) __attribute__((format(printf, 4, 5)));

/* A lane is connected; under its worker's lock. */
void kvi_conn_on_lane_connected(struct kvt_conn *conn);

/* The peer will send nothing more on a lane; under its worker's lock. */
void kvi_conn_on_lane_end(struct kvt_conn *conn);

/* Wait until a connection that has failed is torn down, which waits for no peer. */
void kvi_conn_await_end(struct kvt_conn *conn);

/*
 * Bytes of a transfer came wrong, here or at the peer: count that, and log it, once a second. After
 * KVI_CORRUPTIONS_MAX the connection fails. Any thread, under any lock.
 */
void kvi_conn_on_corrupt(struct kvt_conn *conn, const char *what);

/* KVT_OK when open, else the cause, copied to error (may be NULL). */
enum kvt_err kvi_conn_check(struct kvt_conn *conn, struct kvt_error *error);

/* Whether more may be taken from the peer now: a connection that the application does not have may not make us
 * keep much. */
bool kvi_conn_has_room(const struct kvt_conn *conn);

/* 64 random bits for a memory key. */
uint64_t kvi_conn_make_key(void);

#endif
