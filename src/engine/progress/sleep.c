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

enum {
	RETRY_MS = 1,
	/* Polls of the queues between two chances to offer the CPU, and between two looks at the epoll set. */
	POLLS_TO_OFFER = 4,
	POLLS_TO_ASK = 16,
	/* So many quick ones take no longer than one that makes system calls. */
	QUICK_POLLS = 16,
	/* What the first ones leave for more to join it is posted before this one. */
	POLLS_TO_POST = 3,
	/* Where each look finds something at once, so many may leave it. */
	HELD_LOOKS_MAX = 4,
};

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
	struct kvi_patience *patience;
	int64_t began_ns;
	int64_t last_ns; /* the last look at the clock, before the work that was found */
	int64_t look_ns;
	bool is_inline;
	unsigned polls_each; /* for one of those numbers of polls */
	bool worked;	     /* the work that was found is done */
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

/* Offer the CPU to others at now_ns, where somebody may want it, without the lock; the look before was at before_ns.
 * False: enough was looked. */
static bool offer_cpu(struct wait *wait, int64_t before_ns, int64_t now_ns)
{
	wait->last_ns = now_ns;
	if (kvi_patience_offers(wait->patience)) {
		sched_yield();
		wait->last_ns = kvi_clock_now();
		kvi_patience_learn_offer(wait->patience, wait->last_ns - now_ns);
	}
	bool is_late = wait->patience->adapts && kvi_patience_is_late(wait->last_ns - before_ns);
	wait->end = is_late ? KVI_PATIENCE_LATE : KVI_PATIENCE_FOUND;
	return !is_late && wait->last_ns - wait->began_ns < wait->look_ns;
}

/* The thread looks at the epoll set, without the lock, as callers come and want that. True: there is work, or an inline
 * driver looks now. */
static bool look(struct kvi_worker *worker, struct wait *wait)
{
	wait->end = KVI_PATIENCE_FOUND_AT_ONCE;
	/* Each look is a system call or two: so many are enough where the clock stands still. */
	for (int64_t looks = wait->look_ns / LOOK_NS; looks > 0; looks--) {
		ask(worker, wait, 0);
		if (wait->count != 0)
			return true;
		if (atomic_load(&worker->inline_progress)) {
			wait->end = KVI_PATIENCE_WOKEN;
			return true;
		}
		if (!offer_cpu(wait, wait->last_ns, kvi_clock_now()))
			return false;
	}
	return false;
}

/* Somebody else did something, or wants something done; under lock. */
static bool is_called(const struct kvi_worker *worker)
{
	return worker->signalled || worker->stopped || atomic_load(&worker->stopping) ||
	       atomic_load(&worker->wake.pending);
}

static void post_all(struct kvi_worker *worker)
{
	worker->held_looks = 0;
	kvi_worker_flush(worker, KVI_FLUSH_ALL);
}

/* Post what need not wait for more. */
static void begin_look(struct kvi_worker *worker)
{
	worker->signalled = false;
	if (worker->held_looks >= HELD_LOOKS_MAX) {
		post_all(worker);
	} else {
		worker->held_looks++;
		kvi_worker_flush(worker, KVI_FLUSH_HOLD);
	}
}

/* Count a poll. True: the epoll set, which knows of all that polls do not see, is to be asked. */
static bool count_poll(struct kvi_worker *worker, const struct wait *wait)
{
	if (++worker->polls_unasked < POLLS_TO_ASK * wait->polls_each)
		return false;
	worker->polls_unasked = 0;
	return true;
}

/* Enough where the clock stands still. */
static int64_t get_polls_max(const struct wait *wait)
{
	return wait->look_ns / LOOK_NS * wait->polls_each;
}

static bool may_offer_cpu(const struct wait *wait, int64_t polls)
{
	return polls % (POLLS_TO_OFFER * wait->polls_each) == 0;
}

/* An inline driver asks the queues themselves, as it waits for what comes there: that takes fewer system calls than the
 * epoll set and the queues behind it. The epoll set is asked now and then, and where each look finds work at once, so
 * that it is not, the event queues. Under lock, which is dropped in between. True: there is work, or it is done. */
static bool look_inline(struct kvi_worker *worker, struct wait *wait)
{
	wait->end = KVI_PATIENCE_FOUND_AT_ONCE;
	begin_look(worker);
	for (int64_t polls = 1; polls <= get_polls_max(wait); polls++) {
		if (polls == POLLS_TO_POST)
			post_all(worker);
		worker->holds = polls < POLLS_TO_POST;
		wait->worked = kvi_worker_poll(worker);
		worker->holds = false;
		bool asks = count_poll(worker, wait);
		if (wait->worked) {
			worker->events_due |= asks;
			return true;
		}
		kvi_worker_give_way(worker);
		if (may_offer_cpu(wait, polls)) {
			int64_t now_ns = kvi_clock_now();
			/* Bytes have come that complete nothing. */
			wait->worked = kvi_patience_is_bulk(now_ns - wait->last_ns);
			if (wait->worked) {
				worker->events_due |= asks;
				return true;
			}
			pthread_mutex_unlock(&worker->lock);
			bool goes_on = offer_cpu(wait, now_ns, now_ns);
			pthread_mutex_lock(&worker->lock);
			if (!goes_on && !is_called(worker))
				return false;
		}
		bool called = is_called(worker);
		if (called || asks)
			ask(worker, wait, 0);
		if (called || wait->count != 0)
			return true;
	}
	return false;
}

/* The thread looks into the queues themselves, where that costs no system call and spares the peer one: who looks need
 * not be woken. As look_inline(), but callers come and post at once, and an inline driver that comes looks from then on.
 * Under lock, which is dropped in between. True: there is work, or it is done. */
static bool look_into_queues(struct kvi_worker *worker, struct wait *wait)
{
	wait->end = KVI_PATIENCE_FOUND_AT_ONCE;
	post_all(worker);
	for (int64_t polls = 1; polls <= get_polls_max(wait); polls++) {
		bool asks = count_poll(worker, wait);
		wait->worked = kvi_worker_poll(worker);
		worker->events_due |= wait->worked && asks;
		if (wait->worked)
			return true;
		pthread_mutex_unlock(&worker->lock);
		bool goes_on = !may_offer_cpu(wait, polls) ||
			       offer_cpu(wait, wait->last_ns, kvi_clock_now());
		pthread_mutex_lock(&worker->lock);
		kvi_worker_give_way(worker);
		if (atomic_load(&worker->inline_progress)) {
			wait->end = KVI_PATIENCE_WOKEN;
			return true;
		}
		bool called = worker->stopped || atomic_load(&worker->stopping) ||
			      atomic_load(&worker->wake.pending);
		if (called || asks)
			ask(worker, wait, 0);
		if (called || wait->count != 0)
			return true;
		if (!goes_on)
			return false;
	}
	return false;
}

static uint32_t get_kind(const struct epoll_event *event)
{
	return event->data.u32 & ((1U << KVI_FD_RAIL_BIT) - 1);
}

static bool has_come(const struct wait *wait)
{
	for (int i = 0; i < wait->count; i++)
		if (get_kind(&wait->events[i]) == KVI_FD_COMPLETIONS)
			return true;
	return false;
}

static void sleep_until(struct kvi_worker *worker, struct wait *wait, int timeout_ms)
{
	ask(worker, wait, timeout_ms);
	if (wait->end == KVI_PATIENCE_LATE)
		return;
	if (wait->count == 0)
		wait->end = KVI_PATIENCE_IN_VAIN;
	else
		wait->end = has_come(wait) ? KVI_PATIENCE_SLEPT : KVI_PATIENCE_WOKEN;
}

/* False: a signal came. */
static bool take_events(struct kvi_worker *worker, const struct wait *wait)
{
	for (int i = 0; i < wait->count; i++) {
		const struct epoll_event *event = &wait->events[i];
		if (get_kind(event) == KVI_FD_WAKE) {
			kvi_wake_clear(&worker->wake);
			continue;
		}
		worker->queues_due |= 1U << (event->data.u32 >> KVI_FD_RAIL_BIT);
		worker->events_due |= get_kind(event) == KVI_FD_EVENTS;
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

static bool may_sleep(struct kvi_worker *worker)
{
	for (size_t i = 0; i < worker->engine->rail_count; i++)
		if (!kvi_cq_may_sleep(worker->cqs[i])) {
			worker->events_due = true; /* it may be the event queue that has work */
			worker->queues_due |= 1U << i;
			return false;
		}
	return true;
}

/* Of all queues that have lanes: the network's make system calls. */
static bool are_polls_quick(const struct kvi_worker *worker)
{
	const struct kvt_engine *engine = worker->engine;
	for (size_t i = 0; i < engine->rail_count; i++)
		if (worker->lane_counts[i] > 0 && !kvi_rail_get_caps(engine->rails[i])->quick_polls)
			return false;
	return true;
}

/* How long to look first. */
static void begin_wait(struct kvi_worker *worker, struct kvi_patience *patience, struct wait *wait,
		       int64_t until_ns)
{
	wait->patience = patience;
	wait->last_ns = wait->began_ns;
	wait->is_inline = worker->inline_sleeps;
	wait->polls_each = are_polls_quick(worker) ? QUICK_POLLS : 1;
	wait->look_ns = kvi_patience_get(patience, wait->began_ns);
	if (wait->look_ns > until_ns - wait->began_ns)
		wait->look_ns = until_ns - wait->began_ns;
}

enum kvi_sleep_end kvi_worker_sleep(struct kvi_worker *worker, int64_t now_ns, int64_t until_ns)
{
	struct wait wait = { .began_ns = now_ns != 0 ? now_ns : kvi_clock_now() };
	struct kvi_patience *patience = worker->inline_sleeps ? &worker->inline_patience
							      : &worker->patience;
	if (worker->fds_lost) {
		post_all(worker);
		nap(worker);
		return KVI_SLEEP_OVER;
	}
	int64_t due_ns = kvi_timers_get_due(&worker->timers);
	if (due_ns < until_ns)
		until_ns = due_ns;
	begin_wait(worker, patience, &wait, until_ns);
	bool in_queues = wait.is_inline || wait.polls_each > 1;
	if (in_queues && wait.look_ns > 0) {
		worker->inline_looks = wait.is_inline;
		bool found = wait.is_inline ? look_inline(worker, &wait)
					    : look_into_queues(worker, &wait);
		worker->inline_looks = false;
		if (found) {
			/* What was done since is work, as it is for who does it afterwards. */
			kvi_patience_learn(patience, wait.end, wait.began_ns, wait.last_ns);
			if (wait.worked)
				return KVI_SLEEP_WORKED;
			return wait.count == 0 || take_events(worker, &wait) ? KVI_SLEEP_OVER
									     : KVI_SLEEP_DISTURBED;
		}
	}
	post_all(worker);
	if (!may_sleep(worker))
		return KVI_SLEEP_OVER;
	int cap_ms = worker->retry_soon ? RETRY_MS : KVI_SLEEP_MAX_MS;
	worker->retry_soon = false;
	pthread_mutex_unlock(&worker->lock);
	if (in_queues || !look(worker, &wait))
		sleep_until(worker, &wait, kvi_deadline_get_ms(until_ns, cap_ms));
	pthread_mutex_lock(&worker->lock);
	kvi_patience_learn(patience, wait.end, wait.began_ns, kvi_clock_now());
	return take_events(worker, &wait) ? KVI_SLEEP_OVER : KVI_SLEEP_DISTURBED;
}
