/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pull.c - copying out of the peer's memory. What it has shared is mapped, and copied past the caches into memory that
 * we have shared, too: neither can vanish. Into memory of the application's the kernel copies, as it can say that it is
 * not there. What the peer has not shared process_vm_readv(2) reads. The kernel allows that between processes of one
 * user, where neither ptrace_scope, nor a namespace, nor seccomp forbids: it is tried when a lane is made.
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
#include "base/copy.h"
#include "base/log.h"
#include "fabric/local/local.h"

/* How long a copy of one chunk can take. Who stands still in one for longer was stopped, or means harm: it has read
 * what it was given, and fails when it looks again. */
#define PULL_NS (50 * KVI_MS)
/* For so long no other lane of that peer's is waited for. */
#define VAIN_NS KVI_SECOND

void kvi_local_probe(struct kvi_local_lane *lane)
{
	uint64_t found = 0;
	struct iovec to = { &found, sizeof(found) };
	lane->peer_probe = atomic_load(&lane->ring.other->probe_value);
	lane->peer_probe_address = (uintptr_t)atomic_load(&lane->ring.other->probe_address);
	struct iovec from = { (void *)lane->peer_probe_address, sizeof(found) };
	errno = 0;
	lane->pulls = lane->pid > 0 &&
		      process_vm_readv(lane->pid, &to, 1, &from, 1, 0) == (ssize_t)sizeof(found) &&
		      found == lane->peer_probe;
	if (!lane->pulls)
		kvi_log(KVI_LOG_DEBUG, "lane-copies-twice",
			"process_vm_readv() does not reach the peer (errno %d)", errno);
	atomic_store(&lane->ring.own->pulls, lane->pulls);
}

/* Whether it was our own memory that is not there: what is there can be copied onto itself. */
static bool is_own_fault(const struct iovec *to, size_t count, size_t len)
{
	ssize_t got = process_vm_readv(getpid(), to, count, to, count, 0);
	return got < 0 ? errno == EFAULT : (size_t)got < len;
}

/* By the kernel, out of the peer's memory: if it still is the peer's, which its word tells, read in the same call. By
 * its number another process may be found, or another program that it has become. */
static int copy_foreign(struct kvi_local_lane *lane, const struct kvi_local_piece *pieces,
			size_t count)
{
	uint64_t found = 0;
	struct iovec to[1 + KVI_SPANS_MAX] = { { &found, sizeof(found) } };
	struct iovec from[1 + KVI_SPANS_MAX] = { { (void *)lane->peer_probe_address,
						   sizeof(found) } };
	size_t len = sizeof(found);
	for (size_t i = 0; i < count; i++) {
		to[1 + i] = (struct iovec){ pieces[i].to, pieces[i].len };
		from[1 + i] = (struct iovec){ (void *)(uintptr_t)pieces[i].source, pieces[i].len };
		len += pieces[i].len;
	}
	ssize_t got = process_vm_readv(lane->pid, to, 1 + count, from, 1 + count, 0);
	if (got < 0 && errno != EFAULT)
		return errno == ESRCH ? ECONNRESET : errno;
	if (found != lane->peer_probe)
		return ECONNRESET;
	if (got >= 0 && (size_t)got == len)
		return 0;
	if (is_own_fault(&to[1], count, len - sizeof(found)))
		return EFAULT;
	atomic_store(&lane->ring.own->fault, EFAULT);
	return EIO;
}

/* Into memory of the application's, which may not be there: by the kernel, out of the file. */
static int read_file(const struct kvi_local_map *map, const struct iovec *from,
		     const struct iovec *into)
{
	size_t offset = (size_t)((const uint8_t *)from->iov_base - map->bytes);
	uint8_t *to = into->iov_base;
	size_t len = into->iov_len;
	if (!kvi_file_is(map->fd, &map->file))
		return EBADF;
	for (size_t done = 0; done < len;) {
		ssize_t got = pread(map->fd, to + done, len - done, (off_t)(offset + done));
		if (got <= 0)
			return got < 0 ? errno : EIO;
		done += (size_t)got;
	}
	return 0;
}

/* The same out of our own mapping, all at once, which is quicker; what fails in it the file's call explains. */
static int read_mapped(const struct kvi_local_map *const *maps, const struct iovec *from,
		       const struct iovec *to, size_t count)
{
	size_t len = 0;
	int err = 0;
	for (size_t i = 0; i < count; i++)
		len += to[i].iov_len;
	if (process_vm_readv(getpid(), to, count, from, count, 0) == (ssize_t)len)
		return 0;
	for (size_t i = 0; err == 0 && i < count; i++)
		err = read_file(maps[i], &from[i], &to[i]);
	return err;
}

static int copy_mapped(struct kvi_local_lane *lane, const struct kvi_local_piece *pieces,
		       size_t count)
{
	const struct kvi_local_map *maps[KVI_SPANS_MAX];
	struct iovec from[KVI_SPANS_MAX], to[KVI_SPANS_MAX];
	size_t unshared = 0;
	for (size_t i = 0; i < count; i++) {
		const struct kvi_local_piece *piece = &pieces[i];
		const uint8_t *bytes =
			kvi_local_find_mapped(lane, piece->source, piece->len, &maps[unshared]);
		if (bytes == NULL)
			return EPROTO;
		if (kvi_local_is_shared(lane->cq->rail, piece->to, piece->len)) {
			kvi_copy_past(piece->to, bytes, piece->len);
			continue;
		}
		from[unshared] = (struct iovec){ (void *)(uintptr_t)bytes, piece->len };
		to[unshared++] = (struct iovec){ piece->to, piece->len };
	}
	return unshared == 0 ? 0 : read_mapped(maps, from, to, unshared);
}

int kvi_local_pull(struct kvi_local_lane *lane, const struct kvi_local_piece *pieces, size_t count,
		   bool is_mapped)
{
	int err = ECANCELED;
	if (!is_mapped && !lane->pulls)
		return EPROTO;
	atomic_store(&lane->ring.own->pulling, 1);
	if (atomic_load(&lane->ring.other->closed) == 0)
		err = is_mapped ? copy_mapped(lane, pieces, count)
				: copy_foreign(lane, pieces, count);
	atomic_store(&lane->ring.own->pulling, 0);
	return atomic_load(&lane->ring.other->closed) != 0 && err == 0 ? ECANCELED : err;
}

void kvi_local_shut(struct kvi_local_lane *lane)
{
	atomic_store(&lane->ring.own->closed, 1);
	if (lane->is_hung || atomic_load(&lane->ring.other->pulling) == 0)
		return;
	/* It has many lanes, and they are closed one after another: one wait is for all of them. */
	struct kvi_local_cq *cq = lane->cq;
	int64_t now_ns = kvi_clock_now();
	if (lane->pid == cq->vain_pid && now_ns < cq->vain_until_ns)
		return;
	int64_t deadline_ns = now_ns + PULL_NS;
	while (atomic_load(&lane->ring.other->pulling) != 0) {
		if (kvi_clock_now() >= deadline_ns) {
			cq->vain_pid = lane->pid;
			cq->vain_until_ns = kvi_deadline_after(VAIN_NS);
			return;
		}
		sched_yield();
	}
}
