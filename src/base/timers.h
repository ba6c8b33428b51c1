/* SPDX-License-Identifier: Apache-2.0 */
/*
 * timers.h - many deadlines, the earliest at hand: a binary heap of timers that are embedded in what they are
 * about. Setting and clearing cost O(log n), asking for the earliest nothing.
 */
#ifndef KVI_BASE_TIMERS_H
#define KVI_BASE_TIMERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All zero: not set. */
struct kvi_timer {
	int64_t due_ns;
	size_t place; /* in the heap, from 1; 0: not set */
};

/* All zero: empty. */
struct kvi_timers {
	struct kvi_timer **heap;
	size_t count;
	size_t capacity;
};

void kvi_timers_free(struct kvi_timers *timers);

/* Set a timer, or set it anew, which cannot fail. False: no memory, and it is not set. */
bool kvi_timers_set(struct kvi_timers *timers, struct kvi_timer *timer, int64_t due_ns);

/* Nothing when it is not set. */
void kvi_timers_clear(struct kvi_timers *timers, struct kvi_timer *timer);

/* The timer that is due first; NULL when none is set. */
static inline struct kvi_timer *kvi_timers_get_first(const struct kvi_timers *timers)
{
	return timers->count > 0 ? timers->heap[0] : NULL;
}

/* When it is due; KVI_NEVER when none is set. */
int64_t kvi_timers_get_due(const struct kvi_timers *timers);

#endif
