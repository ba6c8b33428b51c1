/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perf_pool.h - the memory messages lie in: equal slots, the order in which they are used, and the
 * bytes that prove a message arrived whole. Every program uses it, so all of them touch as much
 * memory.
 */
#ifndef PERF_POOL_H
#define PERF_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where consecutive messages lie: side by side, in runs of eight, anywhere. */
enum perf_pattern {
	PERF_CONTIGUOUS,
	PERF_RUNS,
	PERF_RANDOM,
};

extern const char *const perf_pattern_names[]; /* NULL is the last */

struct perf_pool {
	unsigned char *base;
	bool is_given; /* base was */
	size_t len;
	size_t block_len;
	size_t count;
	uint32_t *order; /* order[i] is the slot of the i-th message of a batch */
};

enum { PERF_COUNT_MAX = 1 << 24, PERF_SLOTS_MAX = 1 << 24, PERF_EXTENTS_MAX = 4096 };

/* Whether copies pools of count blocks fit into the memory this host has left: a sentence when not
 * (valid until the next call), else NULL. */
const char *perf_pool_refuse(size_t block_len, size_t count, unsigned copies);

/* A permutation of the slots of one of so many equal arrays in runs of the pattern's length, and the same again
 * for each other array; the same for the same seed, so that either side can tell the other's. NULL without memory;
 * the caller frees it. */
uint32_t *perf_order_make(size_t count, unsigned arrays, enum perf_pattern pattern, uint64_t seed);

/* How many transfers of count blocks use every slot of a pool once: pools are 512 MiB, or eight
 * transfers long, whichever is less, and never shorter than what is in flight. */
size_t perf_pool_count_sets(size_t block_len, size_t count, unsigned depth);

/* A pool with every page touched, at base, or, where that is NULL, allocated; it takes over the order, also when this
 * fails. Return 0 or -1. */
int perf_pool_open(struct perf_pool *pool, void *base, size_t block_len, uint32_t *order,
		   size_t count);
void perf_pool_close(struct perf_pool *pool);

/* The slot of a message. Messages count apart share one. */
unsigned char *perf_pool_get(const struct perf_pool *pool, uint64_t message);

/* Write the bytes of a message, which differ from those of any other; whether they are there. */
void perf_fill(unsigned char *base, size_t len, uint64_t message);
int perf_check(const unsigned char *base, size_t len, uint64_t message);

/* Fill every slot with the bytes of its message, or with what no message consists of; how many slots do not
 * hold the bytes of theirs. */
void perf_pool_prepare(const struct perf_pool *pool, int source);
uint64_t perf_pool_count_wrong(const struct perf_pool *pool);

#endif
