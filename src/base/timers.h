/* SPDX-License-Identifier: Apache-2.0 */
/*
 * timers.h - many deadlines, ordered. Each timer is embedded in the object that it is for. Timers that are set in the
 * order in which they are due, as with one timeout for all, are in a list; the others are in a binary heap. Setting
 * and clearing cost O(1) in the list and O(log n) in the heap, reading the earliest one O(1).
 */
#ifndef KVI_BASE_TIMERS_H
#define KVI_BASE_TIMERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KVI_TIMER_IN_LINE SIZE_MAX

/* All zero: not set. */
struct kvi_timer {
	int64_t due_ns;
	size_t place;		/* in the heap, from 1; KVI_TIMER_IN_LINE; 0: not set */
	struct kvi_timer *prev; /* in the line */
	struct kvi_timer *next;
};

/* All zero: empty. */
struct kvi_timers {
	struct kvi_timer *first; /* of the line, due first */
	struct kvi_timer *last;
	struct kvi_timer **heap;
	size_t heap_count;
	size_t count;	 /* in both */
	size_t capacity; /* of the heap; all that are set find room there */
};

void kvi_timers_free(struct kvi_timers *timers);

/* Set a timer. False: no memory, and it is not set. Setting one again cannot fail. */
bool kvi_timers_set(struct kvi_timers *timers, struct kvi_timer *timer, int64_t due_ns);

/* Does nothing when it is not set. */
void kvi_timers_clear(struct kvi_timers *timers, struct kvi_timer *timer);

/* The timer that is due first; NULL when none is set. */
static inline struct kvi_timer *kvi_timers_get_first(const struct kvi_timers *timers)
{
	struct kvi_timer *first = timers->first;
	if (timers->heap_count > 0 && (first == NULL || timers->heap[0]->due_ns < first->due_ns))
		first = timers->heap[0];
	return first;
}

/* When it is due; KVI_NEVER when none is set. */
int64_t kvi_timers_get_due(const struct kvi_timers *timers);

#endif
