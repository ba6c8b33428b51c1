/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sleep.c - a worker's sleep: on its epoll set, for as long as that is its own.
 */
#include <errno.h>
#include <sys/epoll.h>

#include "base/clock.h"
#include "base/thread.h"
#include "engine/engine.h"
#include "engine/link.h"
#include "engine/part.h"
#include "engine/worker.h"

enum { RETRY_MS = 1 };

bool kvi_worker_has_fds(const struct kvi_worker *worker)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u32 = KVI_FD_WAKE };
	return kvi_wake_is_watched(&worker->wake, worker->epoll_fd, event);
}

void kvi_worker_check_fds(struct kvi_worker *worker)
{
	if (worker->fds_lost || kvi_worker_has_fds(worker))
		return;
	worker->fds_lost = true;
	kvi_wake_forget(&worker->wake);
	for (size_t i = 0; i < worker->engine->rail_count; i++)
		kvi_cq_forget(worker->cqs[i]);
	kvi_engine_lose_fds(worker->engine);
}

/* When there is nothing to sleep on. */
static void nap(struct kvi_worker *worker)
{
	pthread_mutex_unlock(&worker->lock);
	kvi_thread_rest(KVI_NAP_NS);
	pthread_mutex_lock(&worker->lock);
}

bool kvi_worker_sleep(struct kvi_worker *worker, int64_t until_ns)
{
	kvi_links_flush(worker, KVI_FLUSH_ALL);
	if (worker->fds_lost) {
		nap(worker);
		return true;
	}
	for (size_t i = 0; i < worker->engine->rail_count; i++)
		if (!kvi_cq_may_sleep(worker->cqs[i])) {
			worker->events_due = true; /* it may be the event queue that has work */
			return true;
		}
	int64_t due_ns = kvi_timers_get_due(&worker->timers);
	if (due_ns < until_ns)
		until_ns = due_ns;
	int cap_ms = worker->retry_soon ? RETRY_MS : KVI_SLEEP_MAX_MS;
	worker->retry_soon = false;

	struct epoll_event events[8];
	pthread_mutex_unlock(&worker->lock);
	int count = epoll_wait(worker->epoll_fd, events, 8, kvi_deadline_get_ms(until_ns, cap_ms));
	int wait_errno = errno;
	pthread_mutex_lock(&worker->lock);

	for (int i = 0; i < count; i++) {
		if (events[i].data.u32 == KVI_FD_WAKE)
			kvi_wake_clear(&worker->wake);
		else if (events[i].data.u32 == KVI_FD_EVENTS)
			worker->events_due = true;
	}
	/* Whoever clears a wake does the work that it tells of. Stopping is the thread's own: a guest
	 * that took its wake gives it back. */
	if (atomic_load(&worker->stopping))
		kvi_wake(&worker->wake);
	if (count < 0 && wait_errno == EINTR)
		return false;
	if (count <= 0)
		kvi_worker_check_fds(worker);
	return true;
}
