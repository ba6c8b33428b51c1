/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spread.h - posting one transfer's segments over lanes of one or several workers.
 *
 * The workers share what is left to do: each takes the next segment when one of its lanes is free, so a
 * slow lane holds up nothing. A worker's share ends when nothing is left and its own segments are done;
 * the worker whose share ends last reports to the transfer's worker. What a segment is, is the
 * transfer's business: it gives a source, which fills in one at a time.
 */
#ifndef KVI_ENGINE_SPREAD_H
#define KVI_ENGINE_SPREAD_H

#include <stdatomic.h>

#include "base/list.h"
#include "engine/progress/worker.h"
#include "fabric/fabric.h"
#include "wire/wire.h"

struct kvi_link;
struct kvi_shard;
struct kvi_segment;
struct kvi_spread;
struct kvt_conn;
struct kvt_transfer;

/* One worker's share; under that worker's lock. */
struct kvi_stripe {
	struct kvi_spread *spread;
	struct kvi_shard *shard;
	struct kvi_list node; /* in a queue of its lane, or of the shard, while something is left */
	struct kvi_command begin;
	struct kvi_command stop;
	struct kvi_link *only; /* the one lane to use; NULL: all of the shard */
	unsigned posted;       /* segments out, or held by a link */
	unsigned total;
	bool may_fault; /* it had segments out of the application's memory */
};

enum kvi_taken {
	KVI_TAKEN,
	KVI_TAKEN_NOTHING, /* there is nothing left to do */
	KVI_TAKEN_LATER,   /* this lane cannot now; it is touched when it can */
};

struct kvi_spread_source {
	/*
	 * Fill in the next segment, for segment->link: kind, spans or asked_len, cargo, awaits_ack; one that
	 * is to be posted only where kvi_link_may_write(). Under the lock of that lane's worker; other workers
	 * may be in it for the same spread.
	 */
	enum kvi_taken (*take)(struct kvi_spread *spread, struct kvi_segment *segment);
	/* With one lane only: everything is posted, and what is posted behind it now comes only after it
	 * has come. NULL: nobody cares. */
	void (*on_all_posted)(struct kvi_spread *spread);
	/* On the transfer's worker, under its lock: nothing of this spread is posted or will be. */
	void (*on_ended)(struct kvi_spread *spread);
};

struct kvi_spread {
	/* immutable while it runs */
	const struct kvi_spread_source *source;
	struct kvt_transfer *transfer;
	struct kvi_stripe *stripes; /* one a worker; the first is the transfer's worker's */
	size_t stripe_count;
	struct kvi_stripe single;
	struct kvi_command ended;

	/* under the transfer's worker's lock */
	bool stopped;

	/* atomic */
	atomic_bool exhausted; /* nothing is left to take, or shall be */
	atomic_uint active;    /* shares that have not ended, and stops on their way to them */
	atomic_bool failed;
};

/*
 * Begin; source and transfer are set. on_ended may run before this returns. only_home: use this lane
 * alone. Errors: NO_MEMORY.
 */
enum kvt_err kvi_spread_start(struct kvi_spread *spread, struct kvi_link *home, bool only_home);

/* How to cut len bytes: small enough that every lane gets some, as large as the provider and its cache
 * like. */
size_t kvi_spread_get_segment_len(const struct kvt_conn *conn, size_t len, bool only_home);

/* Post no more; on_ended follows when what is posted has completed. Nothing when it has already run,
 * as it does early when a segment fails. */
void kvi_spread_stop(struct kvi_spread *spread);

/* True from kvi_spread_start() until on_ended has begun; on the transfer's worker. */
bool kvi_spread_is_active(const struct kvi_spread *spread);

/* Called by on_ended: frees the stripes and returns how many segments were posted. */
uint64_t kvi_spread_finish(struct kvi_spread *spread);

/* Post what the dirty links of the worker can post, messages and segments: its calls->flush. */
bool kvi_links_flush(struct kvi_worker *worker, unsigned how);

/* The lanes of the shard are severed, and nothing is posted there any more: every share that is
 * left ends. */
void kvi_stripes_drop(struct kvi_shard *shard);

/* Whether the lane has room for another operation, and how long that may be: at most max_len. */
bool kvi_link_may_write(const struct kvi_link *link);
size_t kvi_link_get_segment_len(const struct kvi_link *link, size_t max_len);

/* The peer has taken what this segment wrote, or given what it asked for. */
void kvi_segment_on_ack(struct kvi_segment *segment);

#endif
