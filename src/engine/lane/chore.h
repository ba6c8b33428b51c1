/* SPDX-License-Identifier: Apache-2.0 */
/*
 * chore.h - work on memory that takes long, in steps: one each time its link is looked at, so that it holds up
 * nothing else. Under the worker's lock.
 */
#ifndef KVI_ENGINE_CHORE_H
#define KVI_ENGINE_CHORE_H

#include <stdbool.h>

#include "base/list.h"

struct kvi_chore {
	struct kvi_list node; /* in link->chores, while there is something left to do */
	/* The next step; it is in the list no more. */
	void (*run)(struct kvi_chore *chore);
};

/* Run a step of the first. False: there is none. */
static inline bool kvi_chores_run(struct kvi_list *chores)
{
	struct kvi_list *node = kvi_list_take_first(chores);
	if (node == NULL)
		return false;
	struct kvi_chore *chore = kvi_container_of(node, struct kvi_chore, node);
	chore->run(chore);
	return true;
}

#endif
