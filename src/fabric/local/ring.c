/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring.c - making, checking and mapping what two sides of a lane share. What its bytes mean is the business of
 * put.c and take.c.
 */
#define _GNU_SOURCE 1 /* F_SEAL_SHRINK */
#include "fabric/local/ring.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"

enum {
	HEAD_LEN = 64 * 1024, /* whole pages everywhere; what is not touched takes no memory */
	COMMON_AT = HEAD_LEN + 2 * KVI_RING_LEN,
	ALL_LEN = COMMON_AT + 2 * KVI_RING_COMMON_LEN,
	FETCH_LEN = 3 * KVI_RING_LINE,
	SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL,
};

static enum kvt_err fail(struct kvt_error *error, int err, const char *what)
{
	enum kvt_err code = KVT_E_FABRIC;
	if (err == ENOMEM)
		code = KVT_E_NO_MEMORY;
	else if (err == EMFILE || err == ENFILE)
		code = KVT_E_LIMIT;
	return kvi_fail(error, code, err, "%s: %s", what, strerror(err));
}

/* A ring of the file twice, one behind the other; NULL: errno tells. */
static uint8_t *map_twice(int fd, unsigned side)
{
	off_t offset = HEAD_LEN + (off_t)side * KVI_RING_LEN;
	int both = PROT_READ | PROT_WRITE;
	uint8_t *base = mmap(NULL, 2 * KVI_RING_LEN, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (base == MAP_FAILED)
		return NULL;
	for (unsigned i = 0; i < 2; i++) {
		if (mmap(base + i * KVI_RING_LEN, KVI_RING_LEN, both, MAP_SHARED | MAP_FIXED, fd,
			 offset) != MAP_FAILED)
			continue;
		int err = errno;
		munmap(base, 2 * KVI_RING_LEN);
		errno = err;
		return NULL;
	}
	return base;
}

static enum kvt_err map(struct kvi_ring *ring, struct kvt_error *error)
{
	void *base = mmap(NULL, HEAD_LEN, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd, 0);
	if (base == MAP_FAILED)
		return fail(error, errno, "mmap");
	ring->base = base;
	struct kvi_ring_side *sides = base;
	ring->own = &sides[ring->side];
	ring->other = &sides[1 - ring->side];
	ring->out = map_twice(ring->fd, ring->side);
	if (ring->out != NULL)
		ring->in = map_twice(ring->fd, 1 - ring->side);
	return ring->in != NULL ? KVT_OK : fail(error, errno, "mmap");
}

/* A caller may hand over anything: until its seals are known nothing is asked that its file system answers. */
static enum kvt_err check_file(int fd, struct kvt_error *error)
{
	struct stat stat;
	if (kvi_file_get_seals(fd) != SEALS)
		return kvi_fail(error, KVT_E_PROTOCOL, 0,
				"the peer's lane is no memfd sealed against shrinking");
	if (fstat(fd, &stat) != 0 || stat.st_size != ALL_LEN)
		return kvi_fail(error, KVT_E_PROTOCOL, 0, "the peer's lane is of another size");
	return KVT_OK;
}

/* It owns fd, a memfd. */
static enum kvt_err open_ring(struct kvi_ring *ring, int fd, unsigned side, struct kvt_error *error)
{
	*ring = (struct kvi_ring){ .fd = fd, .file = kvi_file_identify(fd), .side = side };
	enum kvt_err err = map(ring, error);
	if (err != KVT_OK)
		kvi_ring_close(ring);
	return err;
}

enum kvt_err kvi_ring_make(struct kvi_ring *ring, struct kvt_error *error)
{
	int fd = kvi_file_make_memory("kvtrans-lane", ALL_LEN, SEALS);
	*ring = (struct kvi_ring){ .fd = -1 };
	return fd < 0 ? fail(error, errno, "memfd_create") : open_ring(ring, fd, 0, error);
}

enum kvt_err kvi_ring_take_over(struct kvi_ring *ring, int fd, struct kvt_error *error)
{
	enum kvt_err err = check_file(fd, error);
	*ring = (struct kvi_ring){ .fd = -1 };
	if (err == KVT_OK)
		return open_ring(ring, fd, 1, error);
	close(fd);
	return err;
}

void kvi_ring_close(struct kvi_ring *ring)
{
	if (ring->base != NULL)
		munmap(ring->base, HEAD_LEN);
	if (ring->out != NULL)
		munmap(ring->out, 2 * KVI_RING_LEN);
	if (ring->in != NULL)
		munmap(ring->in, 2 * KVI_RING_LEN);
	if (ring->common != NULL)
		munmap(ring->common, 2 * KVI_RING_COMMON_LEN);
	if (ring->fd >= 0 && kvi_file_is(ring->fd, &ring->file))
		close(ring->fd);
	*ring = (struct kvi_ring){ .fd = -1 };
}

uint8_t *kvi_ring_get_common(struct kvi_ring *ring)
{
	if (ring->common != NULL || !kvi_file_is(ring->fd, &ring->file))
		return ring->common;
	void *base = mmap(NULL, 2 * KVI_RING_COMMON_LEN, PROT_READ | PROT_WRITE, MAP_SHARED,
			  ring->fd, COMMON_AT);
	if (base != MAP_FAILED)
		ring->common = base;
	return ring->common;
}

bool kvi_ring_get_room(struct kvi_ring *ring, size_t enough, size_t *len)
{
	uint64_t used = ring->put - ring->seen_taken;
	if (used + enough >= KVI_RING_LEN) {
		ring->seen_taken = atomic_load_explicit(&ring->other->taken, memory_order_acquire);
		used = ring->put - ring->seen_taken;
	}
	if (used > KVI_RING_LEN)
		return false;
	*len = (size_t)(KVI_RING_LEN - used);
	return true;
}

bool kvi_ring_get_filled(struct kvi_ring *ring, size_t *len)
{
	/* What is put next comes with the word that tells of it: a small message, whole. */
	for (size_t at = 0; at < FETCH_LEN; at += KVI_RING_LINE)
		__builtin_prefetch(kvi_ring_get_in(ring) + at);
	uint64_t filled =
		atomic_load_explicit(&ring->other->put, memory_order_acquire) - ring->taken;
	if (filled > KVI_RING_LEN)
		return false;
	*len = (size_t)filled;
	return true;
}

/* ---- copies by the kernel ---- */

static off_t get_file_offset(unsigned side, uint64_t at)
{
	return (off_t)(HEAD_LEN + side * (uint64_t)KVI_RING_LEN + at % KVI_RING_LEN);
}

/* How much is in one piece in the file. */
static size_t get_straight_len(uint64_t at, size_t len)
{
	size_t straight = KVI_RING_LEN - (size_t)(at % KVI_RING_LEN);
	return len < straight ? len : straight;
}

int kvi_ring_fill(const struct kvi_ring *ring, const void *from, size_t len)
{
	if (!kvi_file_is(ring->fd, &ring->file))
		return EBADF;
	for (size_t done = 0; done < len;) {
		uint64_t at = ring->put + done;
		ssize_t ret = pwrite(ring->fd, (const uint8_t *)from + done,
				     get_straight_len(at, len - done),
				     get_file_offset(ring->side, at));
		if (ret <= 0)
			return ret < 0 ? errno : EIO;
		done += (size_t)ret;
	}
	return 0;
}

int kvi_ring_empty(const struct kvi_ring *ring, void *to, size_t len)
{
	if (!kvi_file_is(ring->fd, &ring->file))
		return EBADF;
	for (size_t done = 0; done < len;) {
		uint64_t at = ring->taken + done;
		ssize_t ret = pread(ring->fd, (uint8_t *)to + done,
				    get_straight_len(at, len - done),
				    get_file_offset(1 - ring->side, at));
		if (ret <= 0)
			return ret < 0 ? errno : EIO;
		done += (size_t)ret;
	}
	return 0;
}
