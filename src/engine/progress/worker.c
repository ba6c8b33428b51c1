/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker.c - the loop: commands, completions, lane events, pending posts, deadlines; and who sleeps.
 * It knows that posts complete and transfers have deadlines, not what they mean.
 */
#include "engine/progress/worker.h"

#include <errno.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/thread.h"
#include "engine/core/engine.h"

enum {
	POLL_BATCH = 32,
	/* So many callers between two looks of the parked thread follow each other closely. */
	MANY_ENTRIES = 8,
};

#define PARK_NS (KVI_MS / 4)
#define PARK_MOST_NS KVI_MS

/* ---- progress ---- */

static bool run_commands(struct kvi_worker *worker)
{
	bool did = false;
	struct kvi_mail *mail;
	while ((mail = kvi_mailbox_take(&worker->commands)) != NULL) {
		struct kvi_command *command = kvi_container_of(mail, struct kvi_command, mail);
		command->run(worker, command);
		did = true;
	}
	return did;
}

static bool poll_completions(struct kvi_worker *worker, struct kvi_cq *cq)
{
	struct kvi_completion completions[POLL_BATCH];
	size_t count = kvi_cq_poll(cq, completions, POLL_BATCH);
	for (size_t i = 0; i < count; i++) {
		struct kvi_post *post = completions[i].op->context;
		worker->takes = true;
		worker->taken_ns = 0;
		post->on_done(post, &completions[i]);
	}
	worker->takes = false;
	return count > 0;
}

static bool poll_events(const struct kvi_worker *worker, struct kvi_cq *cq)
{
	struct kvi_lane_event events[POLL_BATCH];
	size_t count = kvi_cq_poll_events(cq, events, POLL_BATCH);
	for (size_t i = 0; i < count; i++)
		worker->calls->on_lane_event(events[i].context, &events[i]);
	return count > 0;
}

/* A queue without lanes is asked only where its fd was readable: the network's would make system calls. */
static bool poll_queues(struct kvi_worker *worker)
{
	const uint32_t due = worker->queues_due;
	bool asks_events = worker->events_due || worker->connecting > 0, did = false;
	worker->queues_due = 0;
	worker->events_due = false;
	for (size_t i = 0; i < worker->engine->rail_count; i++) {
		if (worker->lane_counts[i] == 0 && (due & 1U << i) == 0)
			continue;
		did |= poll_completions(worker, worker->cqs[i]);
		if (asks_events)
			did |= poll_events(worker, worker->cqs[i]);
	}
	return did;
}

int64_t kvi_worker_get_time(struct kvi_worker *worker)
{
	if (!worker->takes)
		return kvi_clock_now();
	if (worker->taken_ns == 0)
		worker->taken_ns = kvi_clock_now();
	return worker->taken_ns;
}

/* True when one has passed: it may have left something to post. */
static bool pass_deadlines(struct kvi_worker *worker)
{
	struct kvi_timer *timer = kvi_timers_get_first(&worker->timers);
	bool did = false;
	if (timer == NULL)
		return false;
	int64_t now = kvi_clock_now();
	while (timer != NULL && timer->due_ns <= now) {
		kvi_timers_clear(&worker->timers, timer);
		worker->calls->on_due(timer);
		timer = kvi_timers_get_first(&worker->timers);
		did = true;
	}
	return did;
}

bool kvi_worker_poll(struct kvi_worker *worker)
{
	bool did = run_commands(worker);
	if (worker->stopped)
		return did;

	did |= poll_queues(worker);
	/* An inline driver flushes all before it sleeps or goes, so its ACKs may wait for its next
	 * message. */
	bool is_inline = atomic_load_explicit(&worker->inline_progress, memory_order_relaxed);
	unsigned how = is_inline ? KVI_FLUSH_LAZILY : KVI_FLUSH_ALL;
	did |= kvi_worker_flush(worker, worker->holds ? how | KVI_FLUSH_HOLD : how);
	/* Waking takes longer than posting, and the peer waits for what is posted. */
	if (worker->owes_tell) {
		worker->calls->tell(&worker->engine->inbox, worker);
		kvi_worker_signal(worker);
	}
	worker->owes_tell = false;
	return did;
}

bool kvi_worker_progress(struct kvi_worker *worker)
{
	bool did = kvi_worker_poll(worker);
	if (!worker->stopped)
		did |= pass_deadlines(worker);
	return did;
}

void kvi_worker_leave(struct kvi_worker *worker)
{
	struct kvt_engine *engine = worker->engine;
	/* A parked thread looks in before long. */
	if (worker->stopped || (worker->parked && !worker->inline_sleeps))
		return;
	for (size_t i = 0; i < engine->rail_count; i++)
		if (kvi_rail_get_caps(engine->rails[i])->poll_disarms &&
		    !kvi_cq_may_sleep(worker->cqs[i]))
			kvi_wake(&worker->wake);
}

/* ---- sleeping ---- */

/* What an inline driver left to be posted with its next message, and it has not come again. */
static void flush_after_inline(struct kvi_worker *worker)
{
	if (atomic_load(&worker->inline_progress) || pthread_mutex_trylock(&worker->lock) != 0)
		return;
	if (!atomic_load(&worker->inline_progress))
		kvi_worker_flush(worker, KVI_FLUSH_ALL);
	pthread_mutex_unlock(&worker->lock);
}

/* Each look takes time from callers that wait for little. */
static int64_t choose_rest(int64_t rest_ns, unsigned entries)
{
	if (entries < MANY_ENTRIES)
		return PARK_NS;
	return 2 * rest_ns < PARK_MOST_NS ? 2 * rest_ns : PARK_MOST_NS;
}

/*
 * Until no inline driver has come for a while. The inline driver's side of the deep wait: it clears
 * `inline_progress`, then looks at `parked_deep`; we set `parked_deep`, then look at
 * `inline_progress`. Both are sequentially consistent, so one of the two sees the other.
 */
static void park(struct kvi_worker *worker)
{
	int64_t rest_ns = PARK_NS;
	unsigned entries = atomic_load(&worker->inline_entries);
	pthread_mutex_lock(&worker->park_lock);
	while (!atomic_load(&worker->stopping)) {
		if (kvi_cond_wait(&worker->park, &worker->park_lock, kvi_deadline_after(rest_ns)))
			break;
		flush_after_inline(worker);
		unsigned now_entries = atomic_load(&worker->inline_entries);
		if (now_entries != entries) {
			rest_ns = choose_rest(rest_ns, now_entries - entries);
			entries = now_entries;
			continue;
		}
		if (!atomic_load(&worker->inline_progress))
			break;
		atomic_store(&worker->parked_deep, true);
		/* Not beside the next one as well: to wake us takes longer than what many of them wait for. */
		while (atomic_load(&worker->inline_progress) && !atomic_load(&worker->stopping) &&
		       atomic_load(&worker->inline_entries) == entries)
			kvi_cond_wait(&worker->park, &worker->park_lock, KVI_NEVER);
		atomic_store(&worker->parked_deep, false);
	}
	pthread_mutex_unlock(&worker->park_lock);
}

static void unpark(struct kvi_worker *worker)
{
	pthread_mutex_lock(&worker->park_lock);
	pthread_cond_signal(&worker->park);
	pthread_mutex_unlock(&worker->park_lock);
}

/* Let those who wait for the lock have it. Mutexes are not fair: yield until no thread waits. */
void kvi_worker_give_way(struct kvi_worker *worker)
{
	if (atomic_load(&worker->wanted) == 0)
		return;
	pthread_mutex_unlock(&worker->lock);
	while (atomic_load(&worker->wanted) > 0)
		sched_yield();
	pthread_mutex_lock(&worker->lock);
}

static void *run_worker(void *arg)
{
	struct kvi_worker *worker = arg;
	pthread_mutex_lock(&worker->lock);
	while (!atomic_load(&worker->stopping)) {
		kvi_worker_give_way(worker);
		if (kvi_worker_progress(worker))
			continue;
		if (atomic_load(&worker->inline_progress)) {
			/* We may have taken the inline driver's wake, or left it ACKs or a retry. */
			if (worker->inline_sleeps)
				kvi_wake(&worker->wake);
			worker->parked = true;
			pthread_mutex_unlock(&worker->lock);
			park(worker);
			pthread_mutex_lock(&worker->lock);
			worker->parked = false;
			kvi_patience_begin(&worker->patience, kvi_clock_now());
		} else {
			kvi_worker_sleep(worker, 0, KVI_NEVER);
		}
	}
	pthread_mutex_unlock(&worker->lock);
	return NULL;
}

/* ---- callers ---- */

void kvi_worker_lock(struct kvi_worker *worker)
{
	atomic_fetch_add(&worker->wanted, 1);
	pthread_mutex_lock(&worker->lock);
	atomic_fetch_sub(&worker->wanted, 1);
}

void kvi_worker_unlock(struct kvi_worker *worker)
{
	if (worker->retry_soon || worker->owes_tell)
		kvi_wake(&worker->wake); /* who sleeps does not know */
	pthread_mutex_unlock(&worker->lock);
}

unsigned kvi_worker_get_flush(const struct kvi_worker *worker)
{
	/* Beside an inline driver that sleeps the thread sleeps, too. */
	return worker->parked && !worker->inline_sleeps ? KVI_FLUSH_LAZILY : KVI_FLUSH_ALL;
}

void kvi_worker_flush_unlock(struct kvi_worker *worker)
{
	if (!worker->stopped)
		kvi_worker_flush(worker, KVI_FLUSH_ALL);
	kvi_worker_unlock(worker);
}

void kvi_worker_push(struct kvi_worker *worker, struct kvi_command *command)
{
	kvi_mailbox_send(&worker->commands, &command->mail);
	kvi_wake(&worker->wake);
}

/* Nobody looks at a stopped worker's commands but who sends one. Its stop looks after it has said so. */
static void run_if_stopped(struct kvi_worker *worker)
{
	if (!worker->stopped)
		return;
	kvi_worker_lock(worker);
	run_commands(worker);
	kvi_worker_unlock(worker);
}

void kvi_worker_submit(struct kvi_worker *worker, struct kvi_command *command)
{
	if (pthread_mutex_trylock(&worker->lock) != 0) {
		kvi_worker_push(worker, command);
		run_if_stopped(worker);
		return;
	}
	run_commands(worker); /* those submitted before keep their place */
	command->run(worker, command);
	if (!worker->stopped)
		kvi_worker_flush(worker, KVI_FLUSH_GATHER | kvi_worker_get_flush(worker));
	kvi_worker_unlock(worker);
}

void kvi_worker_submit_lightly(struct kvi_worker *worker, struct kvi_command *command)
{
	if (pthread_mutex_trylock(&worker->lock) == 0) {
		run_commands(worker);
		command->run(worker, command);
		kvi_worker_unlock(worker);
	} else {
		kvi_mailbox_send(&worker->commands, &command->mail);
		run_if_stopped(worker);
	}
	kvi_wake(&worker->wake);
}

void kvi_worker_leave_posting(struct kvi_worker *worker)
{
	/* A parked thread looks in before long, and an inline driver that comes, or looks for work, posts
	 * all before it sleeps. */
	if (worker->inline_looks)
		return;
	if (!worker->parked || atomic_load_explicit(&worker->inline_progress, memory_order_relaxed))
		kvi_wake(&worker->wake);
}

void kvi_worker_signal(struct kvi_worker *worker)
{
	if (worker->waiters > 0)
		pthread_cond_broadcast(&worker->done);
	worker->signalled = true;
	if (worker->inline_sleeps && !worker->inline_looks)
		kvi_wake(&worker->wake);
}

/* Drive inline until is_done or the deadline, both of which are still to come; under lock. False on a signal. */
static bool drive(struct kvi_worker *worker, bool (*is_done)(const void *arg), const void *arg,
		  int64_t now_ns, int64_t deadline_ns)
{
	enum kvi_sleep_end end = KVI_SLEEP_OVER;
	kvi_patience_begin(&worker->inline_patience, now_ns);
	do {
		kvi_worker_give_way(worker);
		/* What we wait for may have come while the lock was not ours. */
		if (worker->stopped || is_done(arg) || (worker->visited && worker->waiters > 0))
			break;
		/* No poll before the sleep, which begins with one, or with fi_trywait(), which tells of
		 * completions that are pending. */
		worker->inline_sleeps = true;
		end = kvi_worker_sleep(worker, now_ns, deadline_ns);
		worker->inline_sleeps = false;
		now_ns = 0;
		if (!worker->stopped && end != KVI_SLEEP_WORKED)
			kvi_worker_progress(worker);
	} while (end != KVI_SLEEP_DISTURBED && !worker->stopped && !is_done(arg) &&
		 kvi_clock_now() < deadline_ns);
	/* The thread, parked, looks in before long; one that sleeps for work does not. */
	if (!worker->parked && !worker->stopped)
		kvi_worker_flush(worker, KVI_FLUSH_ALL);
	kvi_worker_leave(worker);

	bool others_wait = worker->waiters > 0 ||
			   (worker->visited && atomic_load(&worker->engine->inbox.pollers) > 0);
	atomic_store(&worker->inline_progress, false);
	if (others_wait || atomic_load(&worker->parked_deep))
		unpark(worker);
	return end != KVI_SLEEP_DISTURBED;
}

bool kvi_worker_wait(struct kvi_worker *worker, bool (*is_done)(const void *arg), const void *arg,
		     int64_t deadline_ns)
{
	return kvi_worker_wait_from(worker, is_done, arg, kvi_clock_now(), deadline_ns);
}

bool kvi_worker_wait_from(struct kvi_worker *worker, bool (*is_done)(const void *arg),
			  const void *arg, int64_t now_ns, int64_t deadline_ns)
{
	bool done;
	kvi_worker_lock(worker);
	while (!(done = is_done(arg)) && !worker->stopped) {
		int64_t now = now_ns != 0 ? now_ns : kvi_clock_now();
		now_ns = 0;
		if (now >= deadline_ns)
			break;
		int64_t slice_end = now + KVI_SLICE_MS * KVI_MS;
		if (slice_end > deadline_ns)
			slice_end = deadline_ns;

		bool expected = false;
		bool whole = true;
		if (atomic_compare_exchange_strong(&worker->inline_progress, &expected, true)) {
			atomic_fetch_add(&worker->inline_entries, 1);
			whole = drive(worker, is_done, arg, now, slice_end);
		} else {
			worker->waiters++;
			if (worker->visited)
				kvi_worker_signal(worker);
			kvi_cond_wait(&worker->done, &worker->lock, slice_end);
			worker->waiters--;
		}
		if (is_done(arg) || (whole && kvi_clock_now() < slice_end))
			continue;
		/* The hook may take other locks (Python's), so ours is not held. */
		kvi_worker_unlock(worker);
		bool interrupted = kvi_engine_is_interrupted(worker->engine);
		kvi_worker_lock(worker);
		if (interrupted || !whole) {
			done = is_done(arg);
			break;
		}
	}
	if (worker->stopped) {
		run_commands(worker); /* nobody else does any more */
		done = is_done(arg);
	}
	kvi_worker_unlock(worker);
	return done;
}

bool kvi_worker_visit(struct kvi_worker *worker, bool (*is_done)(const void *arg), const void *arg,
		      int64_t until_ns)
{
	bool expected = false;
	kvi_worker_lock(worker);
	bool whole = is_done(arg);
	if (!whole && !worker->stopped && worker->waiters == 0 &&
	    atomic_compare_exchange_strong(&worker->inline_progress, &expected, true)) {
		atomic_fetch_add(&worker->inline_entries, 1);
		worker->visited = true;
		drive(worker, is_done, arg, kvi_clock_now(), until_ns);
		worker->visited = false;
		/* It does not come to send, so no ACK travels with its next message. */
		if (!worker->stopped)
			kvi_worker_flush(worker, KVI_FLUSH_ALL);
		whole = is_done(arg) || kvi_clock_now() >= until_ns;
		if (worker->waiters > 0)
			pthread_cond_broadcast(&worker->done);
	}
	kvi_worker_unlock(worker);
	return whole;
}

void kvi_worker_await(struct kvi_worker *worker, bool (*is_done)(const void *arg), const void *arg)
{
	while (!kvi_worker_wait(worker, is_done, arg, KVI_NEVER))
		if (atomic_load(&worker->stopped))
			return;
}

void kvi_engine_meet_workers(struct kvt_engine *engine)
{
	for (unsigned i = 0; i < engine->worker_count; i++) {
		kvi_worker_lock(engine->workers[i]);
		kvi_worker_unlock(engine->workers[i]);
	}
}

/* ---- open and stop ---- */

static enum kvt_err watch_worker(struct kvi_worker *worker, int fd, uint32_t what)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u32 = what };
	if (fd >= 0 && epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
		return KVT_E_LIMIT;
	return KVT_OK;
}

static enum kvt_err open_queues(struct kvi_worker *worker, struct kvt_error *error)
{
	struct kvt_engine *engine = worker->engine;
	for (size_t i = 0; i < engine->rail_count; i++) {
		enum kvt_err err = kvi_cq_open(engine->rails[i], &worker->cqs[i], error);
		if (err != KVT_OK)
			return err;
		int fds[2];
		kvi_cq_get_fds(worker->cqs[i], fds);
		uint32_t rail = (uint32_t)i << KVI_FD_RAIL_BIT;
		if (watch_worker(worker, fds[0], rail | KVI_FD_COMPLETIONS) == KVT_OK &&
		    watch_worker(worker, fds[1], rail | KVI_FD_EVENTS) == KVT_OK)
			continue;
		err = kvi_fail(error, KVT_E_FABRIC, errno,
			       "cannot wait for the queues of worker %u", worker->index);
		kvi_cq_close(worker->cqs[i]);
		worker->cqs[i] = NULL;
		return err;
	}
	return KVT_OK;
}

static bool unwatch(struct kvi_worker *worker, int fd)
{
	return fd < 0 || worker->fds_lost ||
	       epoll_ctl(worker->epoll_fd, EPOLL_CTL_DEL, fd, NULL) == 0;
}

/* A queue whose descriptors are not ours any more is left as it is: closing it would close somebody else's. */
static void close_queues(struct kvi_worker *worker)
{
	for (size_t i = 0; i < worker->engine->rail_count; i++) {
		int fds[2];
		if (worker->cqs[i] == NULL)
			continue;
		kvi_cq_get_fds(worker->cqs[i], fds);
		if (!unwatch(worker, fds[0]) || !unwatch(worker, fds[1]))
			kvi_cq_forget(worker->cqs[i]);
		kvi_cq_close(worker->cqs[i]);
	}
}

enum kvt_err kvi_worker_open(struct kvt_engine *engine, unsigned index,
			     const struct kvi_worker_calls *calls, struct kvi_worker **worker_out,
			     struct kvt_error *error)
{
	struct kvi_worker *worker = kvi_alloc(sizeof(*worker));
	if (worker == NULL)
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for worker %u", index);
	enum kvt_err err;
	worker->engine = engine;
	worker->calls = calls;
	worker->index = index;
	kvi_list_init(&worker->dirty_links);
	const struct kvi_settings *settings = &engine->settings;
	kvi_patience_init(&worker->patience, settings->spin_ns, settings->spin_adapts);
	kvi_patience_init(&worker->inline_patience, settings->spin_ns, settings->spin_adapts);
	pthread_mutex_init(&worker->lock, NULL);
	pthread_mutex_init(&worker->park_lock, NULL);
	kvi_cond_init(&worker->done);
	kvi_cond_init(&worker->park);

	kvi_mailbox_init(&worker->commands);
	err = kvi_wake_open(&worker->wake);
	if (err != KVT_OK) {
		kvi_fail(error, err, errno, "no descriptor for worker %u", index);
		goto err_free;
	}
	worker->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (worker->epoll_fd < 0 || watch_worker(worker, worker->wake.fd, KVI_FD_WAKE) != KVT_OK) {
		err = kvi_fail(error, KVT_E_LIMIT, errno, "no descriptor for worker %u", index);
		goto err_close_epoll;
	}
	err = open_queues(worker, error);
	if (err != KVT_OK)
		goto err_close_queues;

	char name[16];
	snprintf(name, sizeof(name), "kvt-worker-%u", index);
	err = kvi_thread_start(&worker->thread, name, run_worker, worker);
	if (err != KVT_OK) {
		kvi_fail(error, err, 0, "cannot start the thread of worker %u", index);
		goto err_close_queues;
	}
	*worker_out = worker;
	return KVT_OK;

err_close_queues:
	close_queues(worker);
err_close_epoll:
	if (worker->epoll_fd >= 0)
		close(worker->epoll_fd);
	kvi_wake_close(&worker->wake);
err_free:
	kvi_free(worker);
	return err;
}

void kvi_worker_stop(struct kvi_worker *worker)
{
	atomic_store(&worker->stopping, true);
	if (kvi_worker_has_fds(worker))
		kvi_wake_unmute(&worker->wake);
	else
		kvi_engine_lose_fds(worker->engine);
	kvi_wake(&worker->wake);
	unpark(worker);
	pthread_join(worker->thread, NULL);

	kvi_worker_lock(worker);
	atomic_store(&worker->stopped, true);
	run_commands(worker);
	kvi_worker_check_fds(worker);
	close_queues(worker);
	kvi_worker_unlock(worker);

	/* An inline driver may still come out of epoll_wait; the descriptors must outlive that. */
	while (atomic_load(&worker->inline_progress)) {
		kvi_wake(&worker->wake);
		sched_yield();
	}
	if (!worker->fds_lost)
		close(worker->epoll_fd);
}

void kvi_worker_free(struct kvi_worker *worker)
{
	run_commands(worker);
	kvi_timers_free(&worker->timers);
	kvi_wake_close(&worker->wake);
	pthread_cond_destroy(&worker->done);
	pthread_cond_destroy(&worker->park);
	pthread_mutex_destroy(&worker->lock);
	pthread_mutex_destroy(&worker->park_lock);
	kvi_free(worker);
}
