/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pull.c - copying out of the peer's memory, with process_vm_readv(2). The kernel allows it between processes of
 * one user, where neither ptrace_scope, nor a namespace, nor seccomp forbids: that is tried when a lane is made.
 *
 * Two words keep the peer's memory its own. Who copies says so first (pulling), then looks whether the other has
 * closed the lane, copies, and looks again; who closes says so first (closed), then waits for a copy under way.
 * All four are sequentially consistent: so either the copy does not begin, or it is waited for.
 */
#define _GNU_SOURCE 1 /* process_vm_readv */
#include <errno.h>
#include <sched.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "fabric/local/local.h"

/* How long a copy of one chunk can take. Who stands still in one for longer was stopped, or means harm: it has read
 * what it was given, and fails when it looks again. */
#define PULL_NS (50 * KVI_MS)

void kvi_local_probe(struct kvi_local_lane *lane)
{
	uint64_t found = 0;
	uintptr_t address = (uintptr_t)atomic_load(&lane->ring.other->probe_address);
	uint64_t value = atomic_load(&lane->ring.other->probe_value);
	struct iovec to = { &found, sizeof(found) };
	struct iovec from = { (void *)address, sizeof(found) };
	errno = 0;
	lane->pulls = lane->pid > 0 &&
		      process_vm_readv(lane->pid, &to, 1, &from, 1, 0) == (ssize_t)sizeof(found) &&
		      found == value;
	if (!lane->pulls)
		kvi_log(KVI_LOG_DEBUG, "lane-copies-twice",
			"process_vm_readv() does not reach the peer (errno %d)", errno);
	atomic_store(&lane->ring.own->pulls, lane->pulls);
}

static size_t get_len(const struct iovec *iov, size_t count)
{
	size_t len = 0;
	for (size_t i = 0; i < count; i++)
		len += iov[i].iov_len;
	return len;
}

/* Whether it was our own memory that is not there: what is there can be copied onto itself. */
static bool is_own_fault(const struct iovec *to, size_t count)
{
	ssize_t got = process_vm_readv(getpid(), to, count, to, count, 0);
	return got < 0 ? errno == EFAULT : (size_t)got < get_len(to, count);
}

static int copy(struct kvi_local_lane *lane, const struct iovec *to, const struct iovec *from,
		size_t count)
{
	ssize_t got = process_vm_readv(lane->pid, to, count, from, count, 0);
	if (got >= 0 && (size_t)got == get_len(to, count))
		return 0;
	if (got < 0 && errno != EFAULT)
		return errno == ESRCH ? ECONNRESET : errno;
	if (is_own_fault(to, count))
		return EFAULT;
	atomic_store(&lane->ring.own->fault, EFAULT);
	return EIO;
}

int kvi_local_pull(struct kvi_local_lane *lane, const struct iovec *to, const struct iovec *from,
		   size_t count)
{
	int err = ECANCELED;
	atomic_store(&lane->ring.own->pulling, 1);
	if (atomic_load(&lane->ring.other->closed) == 0)
		err = copy(lane, to, from, count);
	atomic_store(&lane->ring.own->pulling, 0);
	return atomic_load(&lane->ring.other->closed) != 0 && err == 0 ? ECANCELED : err;
}

void kvi_local_shut(struct kvi_local_lane *lane)
{
	atomic_store(&lane->ring.own->closed, 1);
	if (lane->is_hung || atomic_load(&lane->ring.other->pulling) == 0)
		return;
	int64_t deadline_ns = kvi_deadline_after(PULL_NS);
	while (atomic_load(&lane->ring.other->pulling) != 0 && kvi_clock_now() < deadline_ns)
		sched_yield();
}
