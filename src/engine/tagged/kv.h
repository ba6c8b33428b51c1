/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kv.h - a KV: memory bound to a connection under a tag. Its transfers live in transfer.c.
 */
#ifndef KVI_ENGINE_KV_H
#define KVI_ENGINE_KV_H

#include <stdatomic.h>

#include "engine/core/ref.h"
#include "engine/lane/registration.h"
#include "engine/progress/worker.h"
#include "engine/tagged/tag_queue.h"

struct kvt_kv {
	/* immutable after open */
	struct kvt_conn *conn;
	struct kvi_link *link; /* the tag's home; its worker's lock guards the KV */
	struct kvi_worker *worker;
	uint64_t tag;
	uint8_t *base;
	size_t len;
	bool read_only;

	/* under worker lock */
	struct kvi_registration *registration; /* for our own operations, where needed */
	struct kvi_tag_queue *queue;	       /* NULL: closed */
	unsigned in_flight;
	bool closing;

	/* atomic */
	struct kvi_ref ref; /* the handle's and one a transfer's */
};

#endif
