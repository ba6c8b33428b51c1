/* SPDX-License-Identifier: Apache-2.0 */
/* flip.c - the calls of fabric.h that move bytes, by way of the linker's --wrap. */
#include "support/flip.h"

#include <check.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/sum.h"
#include "fabric/fabric.h"

/* As fabric.h declares them: a call that gets another parameter does not compile here. */
__typeof__(kvi_lane_post_send) __real_kvi_lane_post_send, __wrap_kvi_lane_post_send;
__typeof__(kvi_lane_inject) __real_kvi_lane_inject, __wrap_kvi_lane_inject;
__typeof__(kvi_lane_post_write) __real_kvi_lane_post_write, __wrap_kvi_lane_post_write;
__typeof__(kvi_lane_post_read) __real_kvi_lane_post_read, __wrap_kvi_lane_post_read;
__typeof__(kvi_cq_poll) __real_kvi_cq_poll, __wrap_kvi_cq_poll;
__typeof__(kvi_lane_get_common) __real_kvi_lane_get_common, __wrap_kvi_lane_get_common;
__typeof__(kvi_lane_close) __real_kvi_lane_close, __wrap_kvi_lane_close;
__typeof__(kvi_sum) __real_kvi_sum, __wrap_kvi_sum;

/* Under lock. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static enum flip_kind wanted;
static unsigned nth_left;
static bool flipped;
static const struct kvi_op *reading; /* the read to be flipped when it is complete; NULL: none */
static uint8_t *read_byte;
/* What open lanes have to fill of common memory. */
static struct {
	const struct kvi_lane *lane; /* NULL: none */
	const uint8_t *own;
} commons[64];

void flip_nth(enum flip_kind kind, unsigned nth)
{
	pthread_mutex_lock(&lock);
	wanted = kind;
	nth_left = nth;
	flipped = false;
	reading = NULL;
	pthread_mutex_unlock(&lock);
}

uint8_t *make_grains(size_t len)
{
	uint8_t *bytes = aligned_alloc(KVI_SUM_GRAIN, (len / KVI_SUM_GRAIN + 1) * KVI_SUM_GRAIN);
	ck_assert_ptr_nonnull(bytes);
	return bytes;
}

bool has_flipped(void)
{
	pthread_mutex_lock(&lock);
	bool has = flipped;
	pthread_mutex_unlock(&lock);
	return has;
}

/* Whether this operation is the one; under lock. */
static bool is_its_turn(enum flip_kind kind)
{
	if (wanted != kind || --nth_left > 0)
		return false;
	wanted = FLIP_NONE;
	return true;
}

static void flip(const void *byte)
{
	*(uint8_t *)byte ^= 4;
	flipped = true;
}

static void flip_in_turn(enum flip_kind kind, const uint8_t *bytes, size_t len)
{
	pthread_mutex_lock(&lock);
	if (len > 0 && is_its_turn(kind))
		flip(bytes + len / 2);
	pthread_mutex_unlock(&lock);
}

static void flip_grain_in_turn(const uint8_t *bytes, size_t len)
{
	size_t ahead = (KVI_SUM_GRAIN - (uintptr_t)bytes % KVI_SUM_GRAIN) % KVI_SUM_GRAIN;
	pthread_mutex_lock(&lock);
	if (ahead < len && is_its_turn(FLIP_GRAIN))
		flip(bytes + ahead);
	pthread_mutex_unlock(&lock);
}

enum kvt_err __wrap_kvi_lane_post_send(struct kvi_lane *lane, struct kvi_op *op, const void *buffer,
				       size_t len, struct kvi_memory *memory,
				       enum kvi_signal signal)
{
	flip_in_turn(FLIP_SEND, buffer, len);
	return __real_kvi_lane_post_send(lane, op, buffer, len, memory, signal);
}

enum kvt_err __wrap_kvi_lane_inject(struct kvi_lane *lane, const void *buffer, size_t len)
{
	flip_in_turn(FLIP_SEND, buffer, len);
	return __real_kvi_lane_inject(lane, buffer, len);
}

enum kvt_err __wrap_kvi_lane_post_write(struct kvi_lane *lane, struct kvi_op *op,
					const struct kvi_span *spans, size_t count,
					enum kvi_delivery delivery)
{
	flip_in_turn(FLIP_WRITE, spans[count - 1].base, spans[count - 1].len);
	flip_grain_in_turn(spans[count - 1].base, spans[count - 1].len);
	return __real_kvi_lane_post_write(lane, op, spans, count, delivery);
}

enum kvt_err __wrap_kvi_lane_post_read(struct kvi_lane *lane, struct kvi_op *op,
				       const struct kvi_span *spans, size_t count)
{
	pthread_mutex_lock(&lock);
	if (is_its_turn(FLIP_READ)) {
		reading = op;
		read_byte = (uint8_t *)spans[count - 1].base + spans[count - 1].len / 2;
	}
	pthread_mutex_unlock(&lock);
	return __real_kvi_lane_post_read(lane, op, spans, count);
}

enum kvt_err __wrap_kvi_lane_get_common(struct kvi_lane *lane, struct kvi_common *common)
{
	enum kvt_err err = __real_kvi_lane_get_common(lane, common);
	unsigned i = 0;
	pthread_mutex_lock(&lock);
	while (commons[i].lane != NULL && commons[i].lane != lane)
		ck_assert_uint_lt(++i, 64);
	if (err == KVT_OK) {
		commons[i].lane = lane;
		commons[i].own = common->own;
	}
	pthread_mutex_unlock(&lock);
	return err;
}

void __wrap_kvi_lane_close(struct kvi_lane *lane)
{
	pthread_mutex_lock(&lock);
	for (unsigned i = 0; i < 64; i++)
		if (commons[i].lane == lane)
			commons[i].lane = NULL;
	pthread_mutex_unlock(&lock);
	__real_kvi_lane_close(lane);
}

/* Nothing tells of a pack that is filled where the peer sees it but its sum. */
uint64_t __wrap_kvi_sum(const void *bytes, size_t len, uint64_t seed)
{
	enum { COMMON_LEN = 1 << 20 };
	uint64_t sum = __real_kvi_sum(bytes, len, seed);
	uintptr_t at = (uintptr_t)bytes;
	pthread_mutex_lock(&lock);
	bool is_pack = false;
	for (unsigned i = 0; i < 64; i++)
		is_pack |= commons[i].lane != NULL && at - (uintptr_t)commons[i].own < COMMON_LEN;
	pthread_mutex_unlock(&lock);
	if (is_pack)
		flip_in_turn(FLIP_WRITE, bytes, len);
	return sum;
}

size_t __wrap_kvi_cq_poll(struct kvi_cq *cq, struct kvi_completion *completions, size_t max)
{
	size_t count = __real_kvi_cq_poll(cq, completions, max);
	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < count && reading != NULL; i++) {
		if (completions[i].op != reading)
			continue;
		reading = NULL;
		if (completions[i].err == KVT_OK)
			flip(read_byte);
	}
	pthread_mutex_unlock(&lock);
	return count;
}
