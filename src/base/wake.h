/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wake.h - coalescing wake-up of a thread that sleeps in poll or epoll: however many wakes come while
 * one is pending, they cost one eventfd write.
 */
#ifndef KVI_BASE_WAKE_H
#define KVI_BASE_WAKE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/epoll.h>

#include <kvtrans.h>

struct kvi_wake {
	atomic_int fd; /* -1: closed, or forgotten */
	atomic_bool pending;
	atomic_bool is_muted;
};

enum kvt_err kvi_wake_open(struct kvi_wake *wake);
void kvi_wake_close(struct kvi_wake *wake);

/*
 * Whether epoll_fd still watches the wake, as event says. An application may close descriptors that are
 * not its own, and ours with them; their numbers may then belong to other files.
 */
bool kvi_wake_is_watched(const struct kvi_wake *wake, int epoll_fd, struct epoll_event event);

/* The descriptor is not ours any more: it is not written, read or closed from now on. */
void kvi_wake_forget(struct kvi_wake *wake);

/* It may be another's by now, or not: it is not written until it is known to be ours. Who sleeps looks in by itself. */
void kvi_wake_mute(struct kvi_wake *wake);
void kvi_wake_unmute(struct kvi_wake *wake);

/* Any thread. Everything the caller did before is visible to the thread whose kvi_wake_clear() returns. */
void kvi_wake(struct kvi_wake *wake);

/* Called by the sleeper before it looks for work: a wake after this makes the fd readable again. */
void kvi_wake_clear(struct kvi_wake *wake);

#endif
