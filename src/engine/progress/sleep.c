/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sleep.c - a worker's sleep: on its epoll set, for as long as that is its own.
 */
#include <errno.h>
#include <sched.h>
#include <sys/epoll.h>

#include "base/clock.h"
#include "base/thread.h"
#include "engine/core/engine.h"
#include "engine/progress/worker.h"

enum { RETRY_MS = 1 };

#define LOOK_NS 100

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

/* One wait for work: what it shall do, and how it ended. */
struct wait {
	int64_t began_ns;
	int64_t look_ns;
	bool ends_when_late;
	bool is_inline;
	enum kvi_patience_end end;
	int count; /* of events */
	int wait_errno;
	struct epoll_event events[8];
};

static void ask(struct kvi_worker *worker, struct wait *wait, int timeout_ms)
{
	wait->count = epoll_wait(worker->epoll_fd, wait->events, 8, timeout_ms);
	wait->wait_errno = errno;
}

/* Look for work without sleeping. True: there is some, or an inline driver looks now. */
static bool look(struct kvi_worker *worker, struct wait *wait)
{
	int64_t last_ns = wait->began_ns;
	wait->end = KVI_PATIENCE_FOUND_AT_ONCE;
	/* Each look is a system call or two: so many are enough where the clock stands still. */
	for (int64_t looks = wait->look_ns / LOOK_NS; looks > 0; looks--) {
		ask(worker, wait, 0);
		if (wait->count != 0)
			return true;
		if (!wait->is_inline && atomic_load(&worker->inline_progress)) {
			wait->end = KVI_PATIENCE_WOKEN;
			return true;
		}
		sched_yield();
		int64_t now = kvi_clock_now();
		bool is_late = wait->ends_when_late && kvi_patience_is_late(now - last_ns);
		wait->end = is_late ? KVI_PATIENCE_LATE : KVI_PATIENCE_FOUND;
		if (is_late || now - wait->began_ns >= wait->look_ns)
			break;
		last_ns = now;
	}
	return false;
}

static bool has_come(const struct wait *wait)
{
	for (int i = 0; i < wait->count; i++)
		if (wait->events[i].data.u32 == KVI_FD_COMPLETIONS)
			return true;
	return false;
}

static void sleep_until(struct kvi_worker *worker, struct wait *wait, int timeout_ms)
{
	ask(worker, wait, timeout_ms);
	if (wait->end != KVI_PATIENCE_LATE)
		wait->end = has_come(wait) ? KVI_PATIENCE_SLEPT : KVI_PATIENCE_WOKEN;
}

/* False: a signal came. */
static bool take_events(struct kvi_worker *worker, const struct wait *wait)
{
	for (int i = 0; i < wait->count; i++) {
		if (wait->events[i].data.u32 == KVI_FD_WAKE)
			kvi_wake_clear(&worker->wake);
		else if (wait->events[i].data.u32 == KVI_FD_EVENTS)
			worker->events_due = true;
	}
	/* Whoever clears a wake does the work that it tells of. Stopping is the thread's own: an
	 * inline driver that took its wake gives it back. */
	if (atomic_load(&worker->stopping))
		kvi_wake(&worker->wake);
	if (wait->count < 0 && wait->wait_errno == EINTR)
		return false;
	if (wait->count <= 0)
		kvi_worker_check_fds(worker);
	return true;
}

bool kvi_worker_sleep(struct kvi_worker *worker, int64_t until_ns)
{
	kvi_worker_flush(worker, KVI_FLUSH_ALL);
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

	struct kvi_patience *patience = worker->inline_sleeps ? &worker->inline_patience
							      : &worker->patience;
	struct wait wait = { .began_ns = kvi_clock_now(), .is_inline = worker->inline_sleeps };
	wait.look_ns = kvi_patience_get(patience, wait.began_ns);
	if (wait.look_ns > until_ns - wait.began_ns)
		wait.look_ns = until_ns - wait.began_ns;
	wait.ends_when_late = patience->adapts;
	pthread_mutex_unlock(&worker->lock);
	if (!look(worker, &wait))
		sleep_until(worker, &wait, kvi_deadline_get_ms(until_ns, cap_ms));
	pthread_mutex_lock(&worker->lock);
	kvi_patience_learn(patience, wait.end, wait.began_ns, kvi_clock_now());
	return take_events(worker, &wait);
}
