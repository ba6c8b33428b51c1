/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wake.c - an eventfd, and a flag: true when the eventfd has been, or is about to be, written. It never
 * blocks.
 *
 * Why no wake is lost. A waker gives work, then exchanges `pending` to true, and writes the eventfd if
 * it found false. The sleeper reads the eventfd, then exchanges `pending` to false, then looks for work.
 * All exchanges on `pending` have one order. A waker's exchange is in it
 *
 * - before a clearing one: that one acquires, through the unbroken chain of exchanges, what the waker
 *   released, so the look for work that follows finds the work;
 * - after the last clearing one: the first such waker finds false and writes, after the sleeper's read,
 *   which came before the clearing. So the fd is readable, and stays so until the next clear.
 *
 * Two things here look unnecessary, and are not:
 *
 * - A waker that finds true must have exchanged, not loaded: otherwise the clearing exchange takes its
 *   value from an earlier waker and acquires nothing of this one's work. For the same reason clearing
 *   is an exchange and not a store.
 * - The read comes before the exchange: the other way round, it could swallow the token of a waker
 *   that came between them, and leave `pending` true with nothing to read, for ever.
 *
 * What remains is harmless: a waker that exchanged before a clear and writes after it wakes the sleeper
 * once for nothing.
 */
#include "base/wake.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum kvt_err kvi_wake_open(struct kvi_wake *wake)
{
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (fd < 0)
		return errno == ENOMEM ? KVT_E_NO_MEMORY : KVT_E_LIMIT;
	atomic_init(&wake->fd, fd);
	atomic_init(&wake->pending, false);
	atomic_init(&wake->is_muted, false);
	return KVT_OK;
}

void kvi_wake_close(struct kvi_wake *wake)
{
	int fd = atomic_exchange(&wake->fd, -1);
	if (fd >= 0)
		close(fd);
}

bool kvi_wake_is_watched(const struct kvi_wake *wake, int epoll_fd, struct epoll_event event)
{
	return epoll_ctl(epoll_fd, EPOLL_CTL_MOD, atomic_load(&wake->fd), &event) == 0;
}

void kvi_wake_forget(struct kvi_wake *wake)
{
	atomic_store(&wake->fd, -1);
}

void kvi_wake_mute(struct kvi_wake *wake)
{
	atomic_store(&wake->is_muted, true);
}

void kvi_wake_unmute(struct kvi_wake *wake)
{
	atomic_store(&wake->is_muted, false);
	atomic_exchange(&wake->pending, false); /* what was not written */
}

static int get_fd(const struct kvi_wake *wake)
{
	return atomic_load_explicit(&wake->fd, memory_order_relaxed);
}

void kvi_wake(struct kvi_wake *wake)
{
	if (atomic_exchange_explicit(&wake->pending, true, memory_order_acq_rel) ||
	    atomic_load_explicit(&wake->is_muted, memory_order_relaxed))
		return;
	ssize_t written = write(get_fd(wake), &(uint64_t){ 1 }, sizeof(uint64_t));
	(void)written; /* EAGAIN: 2^64 - 2 wakes are unread: the fd is readable. Else it is not ours. */
}

void kvi_wake_clear(struct kvi_wake *wake)
{
	uint64_t count;
	ssize_t got = read(get_fd(wake), &count, sizeof(count));
	(void)got; /* EAGAIN: the sleeper woke for another reason. */
	atomic_exchange_explicit(&wake->pending, false, memory_order_acq_rel);
}
