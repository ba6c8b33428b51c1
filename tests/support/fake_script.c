/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fake_script.c - the world of the fake fabric: its one lock, its script, its counters and its
 * descriptors. Moves no data.
 */
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fake_internal.h"

static pthread_mutex_t world_lock = PTHREAD_MUTEX_INITIALIZER;
struct fake_world fake_world;

_Noreturn void fake_die(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	fputs("fake fabric: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	abort();
}

void *fake_alloc(size_t len)
{
	void *memory = calloc(1, len);
	if (memory == NULL)
		fake_die("out of memory");
	return memory;
}

struct kvi_caps fake_get_default_caps(void)
{
	return (struct kvi_caps){
		.provider = "fake",
		.max_segment_len = 1 << 20,
		.tx_count = 64,
		.rx_count = 256,
		.span_count = KVI_SPANS_MAX,
		.local_memory = false,
		.same_rkey = true,
		.send_after_write = true,
		.stops_at_fault = true,
		.holds_messages = true,
		.own_domains = true,
		.one_port = true,
	};
}

static void init_script(void)
{
	fake_world.caps = fake_get_default_caps();
	fake_world.chunk_len = 4096;
	fake_world.auto_progress = false;
	fake_world.buffered = false;
	fake_world.late = false;
	fake_world.flipped_bit = 0;
	fake_world.repeat_request = false;
	fake_world.hold = 0;
	fake_world.trickles = false;
	fake_world.delay_ns = 0;
	fake_world.seed = 0;
	fake_world.post_fault = (struct fake_fault){ 0 };
	fake_world.completion_fault = (struct fake_fault){ 0 };
	memset(fake_world.open_faults, 0, sizeof(fake_world.open_faults));
}

static void init_world(void)
{
	kvi_list_init(&fake_world.rails);
	kvi_list_init(&fake_world.cqs);
	kvi_list_init(&fake_world.memories);
	kvi_list_init(&fake_world.listeners);
	for (size_t i = 0; i < FAKE_OP_BUCKETS; i++)
		kvi_list_init(&fake_world.ops[i]);
	init_script();
}

void fake_lock(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, init_world);
	pthread_mutex_lock(&world_lock);
}

/* An eventfd is readable as long as its count is not 0. */
static void set_readable(int fd, bool *was_readable, bool is_readable)
{
	uint64_t count = 1;
	if (*was_readable == is_readable)
		return;
	ssize_t len = is_readable ? write(fd, &count, sizeof(count))
				  : read(fd, &count, sizeof(count));
	if (len != sizeof(count))
		fake_die("eventfd %d is not ours any more", fd);
	*was_readable = is_readable;
}

void fake_unlock(void)
{
	if (fake_world.auto_progress)
		fake_step(NULL, FAKE_STEPS_PER_POLL, false);
	kvi_list_for_each (node, next, &fake_world.cqs) {
		struct fake_cq *cq = kvi_container_of(node, struct fake_cq, node);
		set_readable(cq->fds[0], &cq->readable[0], fake_has_work(cq));
		set_readable(cq->fds[1], &cq->readable[1], !kvi_list_is_empty(&cq->events));
	}
	kvi_list_for_each (node, next, &fake_world.listeners) {
		struct fake_listener *listener = kvi_container_of(node, struct fake_listener, node);
		bool has_request = !kvi_list_is_empty(&listener->requests);
		set_readable(listener->base.fd, &listener->readable,
			     has_request && (fake_world.hold & FAKE_CONNECT) == 0);
	}
	pthread_mutex_unlock(&world_lock);
}

uint64_t fake_random(void)
{
	fake_world.seed ^= fake_world.seed << 13;
	fake_world.seed ^= fake_world.seed >> 7;
	fake_world.seed ^= fake_world.seed << 17;
	return fake_world.seed;
}

enum kvt_err fake_check_fault(struct fake_fault *fault, unsigned kind)
{
	if ((fault->kinds & kind) == 0 || fault->nth == 0 || --fault->nth > 0)
		return KVT_OK;
	fake_world.counts.faults++;
	return fault->err;
}

void fake_reset(void)
{
	if (!fake_is_empty())
		fake_die("reset while something is open");
	fake_lock();
	init_script();
	fake_world.counts = (struct fake_counts){ 0 };
	fake_unlock();
}

struct fake_counts fake_get_counts(void)
{
	fake_lock();
	struct fake_counts counts = fake_world.counts;
	fake_unlock();
	return counts;
}

bool fake_is_empty(void)
{
	struct fake_counts counts = fake_get_counts();
	return counts.rails + counts.cqs + counts.lanes + counts.memories + counts.listeners +
		       counts.requests + counts.ops ==
	       0;
}

void fake_set_caps(const struct kvi_caps *caps)
{
	if (caps->max_segment_len == 0 || caps->tx_count == 0 || caps->rx_count == 0)
		fake_die("capabilities of 0");
	fake_lock();
	fake_world.caps = *caps;
	fake_unlock();
}

void fake_set_chunk_len(size_t len)
{
	if (len == 0)
		fake_die("chunks of 0 bytes");
	fake_lock();
	fake_world.chunk_len = len;
	fake_unlock();
}

void fake_set_auto_progress(bool on)
{
	fake_lock();
	fake_world.auto_progress = on;
	fake_unlock();
}

void fake_set_buffered(bool on)
{
	fake_lock();
	fake_world.buffered = on;
	fake_unlock();
}

void fake_set_late(bool on)
{
	fake_lock();
	fake_world.late = on;
	fake_unlock();
}

void fake_repeat_request(void)
{
	fake_lock();
	fake_world.repeat_request = true;
	fake_unlock();
}

void fake_flip_request(size_t bit)
{
	fake_lock();
	fake_world.flipped_bit = bit + 1;
	fake_unlock();
}

void fake_fail_post(unsigned kinds, unsigned nth, enum kvt_err err)
{
	fake_lock();
	fake_world.post_fault = (struct fake_fault){ kinds, nth, err };
	fake_unlock();
}

void fake_fail_completion(unsigned kinds, unsigned nth, enum kvt_err err)
{
	fake_lock();
	fake_world.completion_fault = (struct fake_fault){ kinds, nth, err };
	fake_unlock();
}

void fake_fail_open(enum fake_object object, unsigned nth, enum kvt_err err)
{
	fake_lock();
	fake_world.open_faults[object] = (struct fake_fault){ FAKE_ALL, nth, err };
	fake_unlock();
}

void fake_hold(unsigned kinds)
{
	fake_lock();
	fake_world.hold = kinds;
	fake_unlock();
}

size_t fake_release(size_t steps)
{
	fake_lock();
	size_t count = fake_step(NULL, steps, true);
	fake_unlock();
	return count;
}

void fake_trickle(bool on)
{
	fake_lock();
	fake_world.trickles = on;
	fake_unlock();
}

void fake_delay(int64_t delay_ns)
{
	fake_lock();
	fake_world.delay_ns = delay_ns;
	fake_unlock();
}

void fake_reorder(uint64_t seed)
{
	fake_lock();
	fake_world.seed = seed;
	fake_unlock();
}

void fake_kill_lanes(const char *interface)
{
	fake_lock();
	kvi_list_for_each (cq_node, next_cq, &fake_world.cqs) {
		struct fake_cq *cq = kvi_container_of(cq_node, struct fake_cq, node);
		if (interface != NULL && strcmp(cq->rail->interface, interface) != 0)
			continue;
		kvi_list_for_each (node, next, &cq->lanes) {
			struct fake_lane *lane = kvi_container_of(node, struct fake_lane, node);
			if (lane->state != FAKE_LANE_NEW)
				fake_lose_lane(lane, ECANCELED);
		}
	}
	fake_unlock();
}
