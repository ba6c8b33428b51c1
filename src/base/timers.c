/* SPDX-License-Identifier: Apache-2.0 */
/*
 * timers.c - the heap of timers. heap[0] is due first; those below heap[i] are heap[2i + 1] and heap[2i + 2].
 */
#include "base/timers.h"

#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"

enum { CAPACITY_MIN = 64 };

static bool grow(struct kvi_timers *timers)
{
	size_t capacity = timers->capacity == 0 ? CAPACITY_MIN : timers->capacity * 2;
	struct kvi_timer **heap = kvi_alloc_array(capacity, sizeof(heap[0]));
	if (heap == NULL)
		return false;
	if (timers->count > 0)
		memcpy(heap, timers->heap, timers->count * sizeof(heap[0]));
	kvi_free(timers->heap);
	timers->heap = heap;
	timers->capacity = capacity;
	return true;
}

void kvi_timers_free(struct kvi_timers *timers)
{
	kvi_free(timers->heap);
	*timers = (struct kvi_timers){ .heap = NULL };
}

static void put(struct kvi_timers *timers, size_t index, struct kvi_timer *timer)
{
	timers->heap[index] = timer;
	timer->place = index + 1;
}

/* Put timer where the order wants it, from index, which is free, upwards or else downwards. */
static void settle(struct kvi_timers *timers, size_t index, struct kvi_timer *timer)
{
	struct kvi_timer **heap = timers->heap;
	while (index > 0 && timer->due_ns < heap[(index - 1) / 2]->due_ns) {
		put(timers, index, heap[(index - 1) / 2]);
		index = (index - 1) / 2;
	}
	for (;;) {
		size_t below = 2 * index + 1;
		if (below + 1 < timers->count && heap[below + 1]->due_ns < heap[below]->due_ns)
			below++;
		if (below >= timers->count || timer->due_ns <= heap[below]->due_ns)
			break;
		put(timers, index, heap[below]);
		index = below;
	}
	put(timers, index, timer);
}

bool kvi_timers_set(struct kvi_timers *timers, struct kvi_timer *timer, int64_t due_ns)
{
	if (timer->place == 0 && timers->count == timers->capacity && !grow(timers))
		return false;
	size_t index = timer->place > 0 ? timer->place - 1 : timers->count++;
	timer->due_ns = due_ns;
	settle(timers, index, timer);
	return true;
}

void kvi_timers_clear(struct kvi_timers *timers, struct kvi_timer *timer)
{
	if (timer->place == 0)
		return;
	size_t index = timer->place - 1;
	struct kvi_timer *last = timers->heap[--timers->count];
	timer->place = 0;
	if (last != timer)
		settle(timers, index, last);
}

int64_t kvi_timers_get_due(const struct kvi_timers *timers)
{
	return timers->count > 0 ? timers->heap[0]->due_ns : KVI_NEVER;
}
