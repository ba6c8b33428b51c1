/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spread.h - writing one transfer's bytes over lanes of one or several workers.
 *
 * The workers share a cursor: each takes the next segment when one of its lanes is free, so a slow
 * lane holds up nothing. A worker's share ends when the cursor is at the end and its own segments have
 * completed; the worker whose share ends last reports to the transfer's worker. Nothing else is shared.
 */
#ifndef KVI_ENGINE_SPREAD_H
#define KVI_ENGINE_SPREAD_H

#include <stdatomic.h>

#include "base/list.h"
#include "engine/worker.h"
#include "fabric/fabric.h"
#include "wire/wire.h"

struct kvi_link;
struct kvi_part;
struct kvi_segment;
struct kvi_window;
struct kvt_transfer;

/* One worker's share; under that worker's lock. */
struct kvi_stripe {
	struct kvi_spread *spread;
	struct kvi_part *part;
	struct kvi_list node; /* in part->stripes while bytes are left */
	struct kvi_command begin;
	struct kvi_link *only; /* the one lane to use; NULL: all of the part */
	unsigned posted;       /* segments out, or held by a link */
	unsigned total;
};

struct kvi_spread {
	/* immutable while writing */
	struct kvt_transfer *transfer;
	const uint8_t *base;
	size_t len;
	size_t segment_len;
	const struct kvi_window *source; /* registration of the source, where needed */
	size_t grant_count;
	struct kvi_wire_grant grants[KVI_RAILS_MAX];
	struct kvi_stripe *stripes; /* one a worker; the first is the transfer's worker's */
	size_t stripe_count;
	struct kvi_stripe single;
	struct kvi_command ended; /* on the transfer's worker: all shares have ended */

	/* atomic */
	_Atomic(size_t) cursor;
	atomic_uint active; /* shares that have not ended */
	atomic_bool failed;
};

/*
 * Begin. on_ended runs on the transfer's worker, under its lock, when nothing of this spread is posted
 * or will be; it may run before this returns. only: use this lane alone.
 */
enum kvt_err kvi_spread_start(struct kvi_spread *spread, struct kvi_link *home, bool only_home,
			      void (*on_ended)(struct kvi_worker *worker,
					       struct kvi_command *command));

/* Post no more; on_ended follows when what is posted has completed. Nothing when it has already run,
 * as it does early when a write fails. */
void kvi_spread_stop(struct kvi_spread *spread);

/* True from kvi_spread_start() until on_ended has begun; on the transfer's worker. */
bool kvi_spread_is_active(const struct kvi_spread *spread);

/* Called by on_ended: frees the stripes and returns how many segments were posted. */
uint64_t kvi_spread_finish(struct kvi_spread *spread);

/* Post segments on the part's free lanes. True when something was posted. */
bool kvi_stripes_pump(struct kvi_part *part);

#endif
