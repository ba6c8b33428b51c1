/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring.h - the memory that the two sides of a lane share: for each direction a ring of bytes and plain memory, and what
 * one side tells the other. It is a memfd sealed against shrinking, so that no peer can take a page from under us: where
 * one makes a hole, touching it gets a new page, as with memory of our own.
 *
 * All of it may be changed by the peer at any time. What we have written is remembered here and never read
 * back; what the peer writes is copied out, and checked, before it is used.
 */
#ifndef KVI_FABRIC_LOCAL_RING_H
#define KVI_FABRIC_LOCAL_RING_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <kvtrans.h>

#include "base/file.h"

enum {
	KVI_RING_LEN = 256 * 1024,	   /* of one direction */
	KVI_RING_COMMON_LEN = 1024 * 1024, /* of one side's */
	KVI_RING_LINE = 64,
};

/* What a side that sleeps wants to be woken for. */
enum {
	KVI_WAKE_RECORDS = 1,  /* there is something to take */
	KVI_WAKE_PROGRESS = 2, /* something of its own was taken or done */
};

/* Written by one side for the other; each line by one of them, and what is written with each operation apart from what
 * the other reads with each. */
struct kvi_ring_side {
	alignas(KVI_RING_LINE) _Atomic(uint64_t) put;	/* bytes that it has put into its ring */
	alignas(KVI_RING_LINE) _Atomic(uint64_t) taken; /* bytes it took out of the other's */
	_Atomic(uint64_t) done; /* writes of the other's that it has finished */
	alignas(KVI_RING_LINE) _Atomic(uint32_t) asleep;  /* KVI_WAKE_*; who wakes it clears it */
	alignas(KVI_RING_LINE) _Atomic(uint32_t) pulling; /* it reads memory of the other's now */
	alignas(KVI_RING_LINE) _Atomic(uint32_t) closed; /* its memory is not to be read any more */
	_Atomic(uint32_t) pulls;	 /* it can read the other's memory (pull.c) */
	_Atomic(uint32_t) maps;		 /* offers of the other's that it has taken (map.c) */
	_Atomic(uint32_t) fault;	 /* an errno: what the other had asked for was not there */
	_Atomic(uint64_t) probe_address; /* of a word with this value, to try that with */
	_Atomic(uint64_t) probe_value;
};

struct kvi_ring {
	int fd; /* -1: there is none */
	struct kvi_file_id file;
	unsigned side;
	uint8_t *base;
	struct kvi_ring_side *own;
	struct kvi_ring_side *other;
	uint8_t *out; /* mapped twice, one behind the other: what wraps is in one piece */
	uint8_t *in;
	uint8_t *common; /* of both sides, one behind the other; NULL: nobody has asked for it */
	uint64_t put;	 /* as in own, which the peer could change */
	uint64_t taken;	 /* the same, when it was told */
	uint64_t told_taken;
	uint64_t done;	     /* the same */
	uint64_t seen_taken; /* by the peer, when we looked last */
};

/* Make one, as its first side; or take one over that the peer has made, as the second. take_over owns fd in
 * any case. */
enum kvt_err kvi_ring_make(struct kvi_ring *ring, struct kvt_error *error);
enum kvt_err kvi_ring_take_over(struct kvi_ring *ring, int fd, struct kvt_error *error);
void kvi_ring_close(struct kvi_ring *ring);

/* How much can be put, or taken, now. False: the peer's figures cannot be true. Where there was enough room when it was
 * looked last, the peer's line is not fetched again. */
bool kvi_ring_get_room(struct kvi_ring *ring, size_t enough, size_t *len);
bool kvi_ring_get_filled(struct kvi_ring *ring, size_t *len);

/* Where the next byte is put or taken; all of the room, or of what there is, is in one piece. */
static inline uint8_t *kvi_ring_get_out(const struct kvi_ring *ring)
{
	return ring->out + ring->put % KVI_RING_LEN;
}

static inline const uint8_t *kvi_ring_get_in(const struct kvi_ring *ring)
{
	return ring->in + ring->taken % KVI_RING_LEN;
}

/* The plain memory, KVI_RING_COMMON_LEN bytes of the first side's, then of the second's; NULL: it cannot be mapped. */
uint8_t *kvi_ring_get_common(struct kvi_ring *ring);

/* So many bytes have been put there, or are not needed any more. */
static inline void kvi_ring_put(struct kvi_ring *ring, size_t len)
{
	ring->put += len;
	atomic_store_explicit(&ring->own->put, ring->put, memory_order_release);
}

static inline void kvi_ring_tell_taken(struct kvi_ring *ring)
{
	if (ring->told_taken == ring->taken)
		return;
	ring->told_taken = ring->taken;
	atomic_store_explicit(&ring->own->taken, ring->taken, memory_order_release);
}

/* The peer is told so by kvi_ring_tell_taken(): its line is written once for many records, but in time. */
static inline void kvi_ring_take(struct kvi_ring *ring, size_t len)
{
	ring->taken += len;
	if (ring->taken - ring->told_taken >= KVI_RING_LEN / 8)
		kvi_ring_tell_taken(ring);
}

/* One more operation of the peer's is finished. */
static inline void kvi_ring_count_done(struct kvi_ring *ring)
{
	ring->done++;
	kvi_ring_tell_taken(ring); /* it is in the same line: the peer fetches that once */
	atomic_store_explicit(&ring->own->done, ring->done, memory_order_release);
}

/*
 * The same copies by the kernel, which says EFAULT where memory of the application's is not there: from it
 * into the room, or out of what there is into it. They publish nothing. 0 or an errno.
 */
int kvi_ring_fill(const struct kvi_ring *ring, const void *from, size_t len);
int kvi_ring_empty(const struct kvi_ring *ring, void *to, size_t len);

#endif
