/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker.h - a worker: a lock, its completion queues (one a rail), the lanes on them, a mailbox
 * and a thread. Whoever holds the lock drives progress; every fabric call on the worker's objects
 * happens under it.
 *
 * Who sleeps. Normally the worker's thread sleeps on the queues' file descriptors and drives. A
 * caller that waits makes inline progress: it sleeps and drives in the thread's place, so that a
 * ping-pong pays no thread switch, while the thread is parked. A parked thread looks every 250 us, or 1 ms,
 * whether inline drivers still come, and drives again when none did; while one stays, it sleeps.
 */
#ifndef KVI_ENGINE_WORKER_H
#define KVI_ENGINE_WORKER_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/list.h"
#include "base/mailbox.h"
#include "base/timers.h"
#include "base/wake.h"
#include "engine/progress/patience.h"
#include "engine/core/path.h"
#include "engine/core/stats.h"
#include "fabric/fabric.h"
#include "wire/wire.h"

struct kvi_inbox;
struct kvi_link;
struct kvi_worker;

/* Work for a worker: run is called once, under its lock. Embedded in what it is about. */
struct kvi_command {
	struct kvi_mail mail;
	void (*run)(struct kvi_worker *worker, struct kvi_command *command);
};

/* A posted operation of the engine: the op's context. */
struct kvi_post {
	struct kvi_op op;
	void (*on_done)(struct kvi_post *post, const struct kvi_completion *completion);
};

enum kvi_flush {
	KVI_FLUSH_ALL = 0,
	/* Leave a few ACKs for a message to take along: the driver comes again before anybody sleeps. */
	KVI_FLUSH_LAZILY = 1 << 0,
	/* Where several packets are on the way, leave the next one to the driver: more may join it. */
	KVI_FLUSH_GATHER = 1 << 1,
	/* Where much is on the way, leave packets that are not half full for a moment: the driver looks what comes,
	 * and the application adds to them when it has that. */
	KVI_FLUSH_HOLD = 1 << 2,
};

/* What a worker does not know: lanes, deadlines and the application. It calls all of these under its lock. */
struct kvi_worker_calls {
	/* Something has happened to a lane. link: what the lane was opened with. */
	void (*on_lane_event)(struct kvi_link *link, const struct kvi_lane_event *event);
	/* Post what the dirty links can post; how: of enum kvi_flush. True when something was posted. */
	bool (*flush)(struct kvi_worker *worker, unsigned how);
	/* A timer of worker->timers was due, and is set no more. */
	void (*on_due)(struct kvi_timer *timer);
	/* Wake the application for what came. */
	void (*tell)(struct kvi_inbox *inbox, struct kvi_worker *by);
};

/* What an epoll event names: the wake fd, a completion queue, or an event queue; from KVI_FD_RAIL_BIT on, of which rail. */
enum { KVI_FD_WAKE, KVI_FD_COMPLETIONS, KVI_FD_EVENTS, KVI_FD_RAIL_BIT = 8 };

struct kvi_worker {
	/* immutable after open */
	struct kvt_engine *engine;
	const struct kvi_worker_calls *calls;
	unsigned index;
	struct kvi_cq *cqs[KVI_ENGINE_RAILS_MAX];
	int epoll_fd;
	struct kvi_wake wake;
	pthread_t thread;
	pthread_cond_t done; /* some transfer ended; used with lock */
	pthread_cond_t park; /* used with park_lock */

	/* under lock */
	pthread_mutex_t lock;
	struct kvi_list dirty_links;		    /* link.h: that may have something to post */
	struct kvi_timers timers;		    /* deadlines of transfers */
	unsigned lane_counts[KVI_ENGINE_RAILS_MAX]; /* on each queue: one without has nothing to say */
	unsigned connecting;			    /* lanes that wait for their event */
	unsigned waiters;			    /* callers that wait on done */
	uint32_t queues_due; /* bits of rails whose fds were readable: the queue has something, lanes or not */
	bool events_due;     /* an event queue's fd was readable */
	bool takes;	     /* what completed, a packet or a segment */
	int64_t taken_ns;    /* when; 0: the clock was not read yet */
	bool owes_tell;	     /* the application is to be woken for what came */
	bool inline_sleeps;  /* or looks for work before that */
	bool inline_looks;   /* it asks by itself, and needs no waking */
	bool holds;	     /* it leaves packets with KVI_FLUSH_HOLD, in its first polls */
	unsigned held_looks; /* that did so, one right after another, since all was posted */
	unsigned polls_unasked; /* of an inline driver, since it asked the epoll set, or the event queues instead */
	bool signalled; /* meanwhile: kvi_worker_signal() */
	bool visited;	/* by an inline driver who goes when a caller waits for a transfer */
	struct kvi_patience patience; /* the thread's */
	struct kvi_patience inline_patience;
	struct kvi_counters counters; /* of what was done here, of all connections */
	bool retry_soon; /* link.h: something is to be posted that the provider had no room for */
	bool parked;	 /* the thread is, and looks in every 250 us to 1 ms */
	bool fds_lost;	 /* its descriptors are not ours any more */

	/* under park_lock */
	pthread_mutex_t park_lock;

	/* any thread pushes; popped under lock */
	struct kvi_mailbox commands;

	/* atomic */
	atomic_uint wanted;	     /* threads that wait for lock, but for those that drive */
	atomic_bool inline_progress; /* a caller drives */
	atomic_uint inline_entries;
	atomic_bool parked_deep; /* the thread waits until the inline driver leaves */
	atomic_bool stopping;
	atomic_bool stopped; /* the cqs are closed; set under lock */
};

/* Open the queues and start the thread; index names it. */
enum kvt_err kvi_worker_open(struct kvt_engine *engine, unsigned index,
			     const struct kvi_worker_calls *calls, struct kvi_worker **worker,
			     struct kvt_error *error);
/* Stop the thread and close the queues; lanes and memory on them are closed before. The struct stays:
 * its lock may still be taken. */
void kvi_worker_stop(struct kvi_worker *worker);
void kvi_worker_free(struct kvi_worker *worker);

/* Run command now if the lock is free, else leave it to the holder. Never blocks for long, any thread. */
void kvi_worker_submit(struct kvi_worker *worker, struct kvi_command *command);

/* As kvi_worker_submit(), but leave what it queued for posting to whoever drives: for much of it. */
void kvi_worker_submit_lightly(struct kvi_worker *worker, struct kvi_command *command);

/* Something is to be posted that may wait until whoever drives comes by, with more; under lock. */
void kvi_worker_leave_posting(struct kvi_worker *worker);

/* Leave command to the worker, never run it here: for callers that hold another worker's lock. */
void kvi_worker_push(struct kvi_worker *worker, struct kvi_command *command);

void kvi_worker_lock(struct kvi_worker *worker);
void kvi_worker_unlock(struct kvi_worker *worker);

/* Post what is to be posted, as far as there is room; under lock. True when something was posted. */
static inline bool kvi_worker_flush(struct kvi_worker *worker, unsigned how)
{
	return worker->calls->flush(worker, how);
}

/* The same, all of it unless the worker has stopped, and unlock. */
void kvi_worker_flush_unlock(struct kvi_worker *worker);
/* How a caller flushes what it has queued: ACKs may wait for a message to travel with if the thread looks in before
 * long. */
unsigned kvi_worker_get_flush(const struct kvi_worker *worker);

/* One round of progress, under lock. True when something happened. */
bool kvi_worker_progress(struct kvi_worker *worker);

/* The same but for deadlines, and so without reading the clock. */
bool kvi_worker_poll(struct kvi_worker *worker);

/* Now, or a little earlier: read once for all messages of a packet. Under lock. */
int64_t kvi_worker_get_time(struct kvi_worker *worker);

/* After polls, by who polls no more: have the queues wake whoever sleeps on them meanwhile. Under lock. */
void kvi_worker_leave(struct kvi_worker *worker);

/* Drop the lock until those have had it who want it. */
void kvi_worker_give_way(struct kvi_worker *worker);

/*
 * Wait until is_done(arg), asked under lock, or the deadline. Drives progress when no other caller
 * does. False when the deadline passed or the interrupted hook said so.
 */
bool kvi_worker_wait(struct kvi_worker *worker, bool (*is_done)(const void *arg), const void *arg,
		     int64_t deadline_ns);

/* The same by who has read the clock just now. */
bool kvi_worker_wait_from(struct kvi_worker *worker, bool (*is_done)(const void *arg),
			  const void *arg, int64_t now_ns, int64_t deadline_ns);

/*
 * As kvi_worker_wait(), for who waits for what any worker may bring: drives if nobody else does, and does not ask the
 * hook. False: it ended before until_ns, though nothing is done: somebody else drives, or wants to, or a signal came.
 */
bool kvi_worker_visit(struct kvi_worker *worker, bool (*is_done)(const void *arg), const void *arg,
		      int64_t until_ns);

/* The same without a deadline, and whatever the hook says, for what ends by itself; or until the worker stops. */
void kvi_worker_await(struct kvi_worker *worker, bool (*is_done)(const void *arg), const void *arg);

enum kvi_sleep_end {
	KVI_SLEEP_OVER,	     /* there may be something to do */
	KVI_SLEEP_WORKED,    /* something was done already, as kvi_worker_progress() does */
	KVI_SLEEP_DISTURBED, /* by a signal */
};

/* sleep.c: sleep until there is work or until_ns; under lock, which is dropped meanwhile. now_ns: 0, or the time, by who
 * has read the clock just now. */
enum kvi_sleep_end kvi_worker_sleep(struct kvi_worker *worker, int64_t now_ns, int64_t until_ns);

/* sleep.c: whether its descriptors are still its own. Any thread. */
bool kvi_worker_has_fds(const struct kvi_worker *worker);

/* sleep.c: asked when nothing has come, as the descriptors may have been closed by somebody else; under
 * lock. */
void kvi_worker_check_fds(struct kvi_worker *worker);

/* Somebody's wait may be over; under lock. */
void kvi_worker_signal(struct kvi_worker *worker);

/* A barrier: all that was done earlier under a worker's lock is visible when it returns. The caller holds no
 * worker's lock. */
void kvi_engine_meet_workers(struct kvt_engine *engine);

#endif
