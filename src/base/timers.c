/* SPDX-License-Identifier: Apache-2.0 */
/*
 * timers.c - the line and the heap of timers. heap[0] is due first; those below heap[i] are heap[2i + 1] and
 * heap[2i + 2]. Moving a timer in the heap touches some 30 others where there are many, each in memory of its own.
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
	if (timers->heap_count > 0)
		memcpy(heap, timers->heap, timers->heap_count * sizeof(heap[0]));
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
		if (below + 1 < timers->heap_count && heap[below + 1]->due_ns < heap[below]->due_ns)
			below++;
		if (below >= timers->heap_count || timer->due_ns <= heap[below]->due_ns)
			break;
		put(timers, index, heap[below]);
		index = below;
	}
	put(timers, index, timer);
}

static void leave_line(struct kvi_timers *timers, struct kvi_timer *timer)
{
	*(timer->prev != NULL ? &timer->prev->next : &timers->first) = timer->next;
	*(timer->next != NULL ? &timer->next->prev : &timers->last) = timer->prev;
}

static void leave_heap(struct kvi_timers *timers, struct kvi_timer *timer)
{
	size_t index = timer->place - 1;
	struct kvi_timer *last = timers->heap[--timers->heap_count];
	if (last != timer)
		settle(timers, index, last);
}

void kvi_timers_clear(struct kvi_timers *timers, struct kvi_timer *timer)
{
	if (timer->place == 0)
		return;
	if (timer->place == KVI_TIMER_IN_LINE)
		leave_line(timers, timer);
	else
		leave_heap(timers, timer);
	timer->place = 0;
	timers->count--;
}

static void join_line(struct kvi_timers *timers, struct kvi_timer *timer)
{
	timer->place = KVI_TIMER_IN_LINE;
	timer->prev = timers->last;
	timer->next = NULL;
	*(timers->last != NULL ? &timers->last->next : &timers->first) = timer;
	timers->last = timer;
}

bool kvi_timers_set(struct kvi_timers *timers, struct kvi_timer *timer, int64_t due_ns)
{
	if (timer->place == 0 && timers->count == timers->capacity && !grow(timers))
		return false;
	kvi_timers_clear(timers, timer);
	timer->due_ns = due_ns;
	timers->count++;
	if (timers->last == NULL || due_ns >= timers->last->due_ns)
		join_line(timers, timer);
	else
		settle(timers, timers->heap_count++, timer);
	return true;
}

int64_t kvi_timers_get_due(const struct kvi_timers *timers)
{
	const struct kvi_timer *first = kvi_timers_get_first(timers);
	return first != NULL ? first->due_ns : KVI_NEVER;
}
