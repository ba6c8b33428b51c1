/* SPDX-License-Identifier: Apache-2.0 */
/*
 * strangers.h - who has called and not said yet who it is, in the order of arrival, and how many of them come
 * from each host. Adding, removing and picking cost the same however many there are. One thread at a time.
 */
#ifndef KVI_ENGINE_STRANGERS_H
#define KVI_ENGINE_STRANGERS_H

#include <stdbool.h>

#include "base/list.h"

enum {
	KVI_STRANGERS_MAX = 128,
	KVI_STRANGERS_PER_SOURCE_MAX = 16,
	/* Of those who said what only a holder of the key can have said, once. Each costs a descriptor, and a process
	 * has 1,024 by default. */
	KVI_CALLERS_MAX = 512,
	KVI_CALLERS_PER_SOURCE_MAX = 256,
};

struct kvi_source;

/* Embedded in what a stranger is to its owner. All zero: not among them. */
struct kvi_stranger {
	struct kvi_list node;
	struct kvi_list source_node;
	struct kvi_source *source; /* NULL: not among them */
};

struct kvi_strangers {
	struct kvi_list arrivals;   /* oldest first */
	struct kvi_source *sources; /* table, by host */
	unsigned count;
	unsigned max;
	unsigned max_per_source;
};

void kvi_strangers_init(struct kvi_strangers *strangers, unsigned max, unsigned max_per_source);

/* One has called from host. False: no memory, and it is not among them. */
bool kvi_strangers_add(struct kvi_strangers *strangers, struct kvi_stranger *stranger,
		       const char *host);

/* It has gone, or is none any more. Nothing when it is not among them. */
void kvi_strangers_remove(struct kvi_stranger *stranger);

/* Who has to go for the newest: the oldest of its host, or of all, where these are too many; else NULL. */
struct kvi_stranger *kvi_strangers_pick(const struct kvi_stranger *newest);

#endif
