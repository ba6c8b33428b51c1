/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine.h - struct kvt_engine, and which lock each field stands under.
 *
 * Locks, in the order they are taken: engine->lock, worker->lock, conn->lock. No two workers' locks are
 * held together. The control thread holds none while it waits.
 */
#ifndef KVI_ENGINE_ENGINE_H
#define KVI_ENGINE_ENGINE_H

#include <pthread.h>
#include <stdatomic.h>

#include "auth/keyring.h"
#include "auth/vault.h"
#include "base/list.h"
#include "base/wake.h"
#include "engine/core/path.h"
#include "engine/core/ref.h"
#include "engine/core/settings.h"
#include "engine/core/stats.h"
#include "fabric/fabric.h"
#include "wire/wire.h"

struct kvi_control;
struct kvi_dialer;
struct kvi_handlers;
struct kvi_worker;

/* No thread sleeps for longer: its descriptors may be closed while it sleeps on them. */
#define KVI_SLEEP_MAX_MS 250
/* No call of the application waits for longer without asking the interrupted hook. */
#define KVI_SLICE_MS 100
/* Where there is no descriptor to sleep on. */
#define KVI_NAP_NS (10 * KVI_MS)

#define KVI_FDS_LOST_TEXT "this process has closed descriptors of the engine; open a new engine"

enum { KVI_EVENT_KINDS = 3 };

/* What inbox.h has for the application. */
struct kvi_inbox {
	/* immutable after open */
	struct kvi_wake wake;

	/* under lock; told while any list has something, and the wake pending if somebody may watch it */
	pthread_mutex_t lock;
	struct kvi_list done; /* transfers, by inbox_node, in the order of completion */
	struct kvi_list events[KVI_EVENT_KINDS]; /* struct kvi_event, by its kind */
	uint64_t last_event;			 /* number of one */
	unsigned watched;			 /* kinds of events, or'ed, that are told of */
	struct kvi_worker *told_by;		 /* the last; NULL: none */
	struct kvi_worker *visited;		 /* its visitor may sleep there */

	/* atomic */
	atomic_size_t done_count;
	atomic_size_t held_len; /* of all connections; changed under lock */
	atomic_bool told;	/* changed under lock */
	atomic_bool fd_is_out;
	atomic_uint pollers;	 /* callers that wait on the descriptor */
	_Atomic int64_t left_ns; /* when the last wait ended */
	_Atomic int64_t no_visit_until_ns;
};

struct kvt_engine {
	/* immutable after open; atomic, where threads that run before its end look */
	struct kvi_settings settings;
	unsigned fork_count;
	uint8_t instance[KVI_SESSION_LEN];
	struct kvi_rail *rails[KVI_ENGINE_RAILS_MAX];
	size_t rail_count;	 /* of both paths */
	struct kvi_path network; /* where the provider "local" was asked for, there is none */
	struct kvi_path local;
	char no_local_text[KVT_TEXT_LEN]; /* why there is no local path */
	uint8_t host_id[KVI_HOST_ID_LEN];
	size_t host_id_len; /* 0: this host has none */
	struct kvi_worker *workers[KVI_CPUS_MAX];
	atomic_uint worker_count;
	struct kvi_control *control;
	struct kvi_dialer *dialer;
	const struct kvi_handlers *handlers; /* of messages, link.h */
	/* Look whether somebody has closed descriptors of ours: then kvi_engine_lose_fds(). */
	void (*check_fds)(struct kvt_engine *engine);
	/* Some are not: wake no thread through its own until it has looked. */
	void (*mute_wakes)(struct kvt_engine *engine);
	/* Give a peer that has connected to the application. False: it has gone, and left nothing. */
	bool (*hand_out)(struct kvt_conn *conn);
	uint16_t port;
	struct kvi_address address;
	char provider[KVI_PROVIDER_LEN];

	/* under lock */
	pthread_mutex_t lock;
	pthread_cond_t changed; /* a connection changed its state, or the engine stops */
	struct kvi_list conns;	/* opening and open, conn.h */
	struct kvi_list ready;	/* accepted by us, not yet by the application */
	struct kvi_list pools;
	unsigned conn_count;
	unsigned unaccepted_count; /* peers that may have left something, and are not the application's yet */
	bool stopped;

	/* under offers_lock, which comes before all others and is held while memory is registered */
	pthread_mutex_t offers_lock;
	struct kvi_list offers; /* to all peers: offer.h */

	/* atomic */
	atomic_bool stopping;
	atomic_bool fds_lost; /* somebody closed descriptors of ours */
	atomic_uint callers;  /* inside calls that use the fabric's objects */
	struct kvi_ref ref;   /* the handle's, one a connection's and a pool's */
	struct kvi_counters counters;

	struct kvi_keyring keyring; /* these have their own locks */
	struct kvi_vault vault;
	struct kvi_inbox inbox;
};

#define KVI_FORKED_TEXT "this engine belongs to the parent process; open one after fork"

/* True in a child of the process that opened the engine. */
bool kvi_engine_is_forked(const struct kvt_engine *engine);

/* Bracket a call that uses rails, queues or the control thread: stopping waits for those inside. */
enum kvt_err kvi_engine_enter(struct kvt_engine *engine, struct kvt_error *error);
void kvi_engine_leave(struct kvt_engine *engine);

/*
 * A thread of ours has found that descriptors of the engine are not ours any more: connections end, and
 * what cannot be told from somebody else's is left alone.
 */
void kvi_engine_lose_fds(struct kvt_engine *engine);

/* Look whether that is so, before a thread of ours has: a peer whose lanes broke by it may tell of it first. */
bool kvi_engine_has_lost_fds(struct kvt_engine *engine);

/* Ask the interrupted hook; the caller holds no lock. */
bool kvi_engine_is_interrupted(const struct kvt_engine *engine);

/* Wait until something has changed, at most until deadline_ns; under lock, which is dropped while the hook is
 * asked. False: it interrupts. */
bool kvi_engine_await_change(struct kvt_engine *engine, int64_t deadline_ns);

#endif
