/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perf_pool.c - see perf_pool.h. It never looks at a clock and never sends anything.
 */
#include "perf_pool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { RUN_LEN = 8, SETS_MAX = 8 };
static const size_t POOL_LEN = (size_t)512 << 20; /* far beyond the caches */

const char *const perf_pattern_names[] = { "contiguous", "runs", "random", NULL };

/* Bytes the kernel can still hand out without swapping; SIZE_MAX when it does not say. */
static size_t read_available_memory(void)
{
	FILE *file = fopen("/proc/meminfo", "re");
	size_t available = SIZE_MAX;
	char line[128];
	size_t kib;

	if (!file)
		return available;
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "MemAvailable: %zu kB", &kib) == 1)
			available = kib * 1024;
	}
	fclose(file);
	return available;
}

const char *perf_pool_refuse(size_t block_len, size_t count, unsigned copies)
{
	static char text[256];
	size_t available = read_available_memory();
	size_t usable = available / 5 * 4;

	if (count <= usable / copies / block_len)
		return NULL;
	snprintf(text, sizeof(text),
		 "%u x %zu blocks of %zu bytes need more than 80 %% of the %zu MiB "
		 "of memory that is free: take fewer or smaller blocks",
		 copies, count, block_len, available >> 20);
	return text;
}

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* Shuffle runs of run_len slots; the slots of a run stay side by side, a shorter last run stays
 * last. */
static void shuffle_runs(uint32_t *order, size_t count, size_t run_len, uint64_t seed)
{
	uint64_t state = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;

	for (size_t i = count / run_len; i > 1; i--) {
		size_t other = next_random(&state) % i;
		for (size_t k = 0; k < run_len; k++) {
			uint32_t *a = &order[(i - 1) * run_len + k];
			uint32_t *b = &order[other * run_len + k];
			uint32_t slot = *a;
			*a = *b;
			*b = slot;
		}
	}
}

uint32_t *perf_order_make(size_t count, unsigned arrays, enum perf_pattern pattern, uint64_t seed)
{
	uint32_t *order = malloc(count * sizeof(*order));
	size_t part = count / arrays;

	if (!order)
		return NULL;
	for (size_t i = 0; i < part; i++)
		order[i] = (uint32_t)i;
	if (pattern != PERF_CONTIGUOUS)
		shuffle_runs(order, part, pattern == PERF_RUNS ? RUN_LEN : 1, seed);
	for (size_t i = part; i < count; i++)
		order[i] = order[i - part] + (uint32_t)part;
	return order;
}

size_t perf_pool_count_sets(size_t block_len, size_t count, unsigned depth)
{
	size_t sets = POOL_LEN / block_len / count;

	if (sets > SETS_MAX)
		sets = SETS_MAX;
	if (sets > PERF_SLOTS_MAX / count)
		sets = PERF_SLOTS_MAX / count;
	if (sets < depth)
		sets = depth;
	return sets ? sets : 1;
}

int perf_pool_open(struct perf_pool *pool, void *base, size_t block_len, uint32_t *order,
		   size_t count)
{
	struct perf_pool opened = {
		.base = base,
		.is_given = base != NULL,
		.len = block_len * count,
		.block_len = block_len,
		.count = count,
		.order = order,
	};

	if (!opened.order)
		return -1;
	int flags = MAP_PRIVATE | MAP_ANONYMOUS;
	if (!base)
		opened.base = mmap(NULL, opened.len, PROT_READ | PROT_WRITE, flags, -1, 0);
	if (opened.base == MAP_FAILED) {
		free(opened.order);
		return -1;
	}
	memset(opened.base, 1, opened.len);
	*pool = opened;
	return 0;
}

void perf_pool_close(struct perf_pool *pool)
{
	if (!pool->base)
		return;
	if (!pool->is_given)
		munmap(pool->base, pool->len);
	free(pool->order);
	pool->base = NULL;
}

unsigned char *perf_pool_get(const struct perf_pool *pool, uint64_t message)
{
	return pool->base + pool->order[message % pool->count] * pool->block_len;
}

/* Word number index of a message. Both factors are odd, so words differ within and between
 * messages. */
static uint64_t make_word(uint64_t message, uint64_t index)
{
	return (message + 1) * UINT64_C(0x9E3779B97F4A7C15) ^ index * UINT64_C(0xD1342543DE82EF95);
}

void perf_fill(unsigned char *base, size_t len, uint64_t message)
{
	size_t words = len / sizeof(uint64_t);

	for (size_t i = 0; i < words; i++) {
		uint64_t word = make_word(message, i);
		memcpy(base + i * sizeof(word), &word, sizeof(word));
	}
	uint64_t last = make_word(message, words);
	memcpy(base + words * sizeof(last), &last, len % sizeof(last));
}

int perf_check(const unsigned char *base, size_t len, uint64_t message)
{
	size_t words = len / sizeof(uint64_t);
	uint64_t differs = 0;

	for (size_t i = 0; i < words; i++) {
		uint64_t word;
		memcpy(&word, base + i * sizeof(word), sizeof(word));
		differs |= word ^ make_word(message, i);
	}
	uint64_t last = make_word(message, words);
	return !differs && !memcmp(base + words * sizeof(last), &last, len % sizeof(last));
}

void perf_pool_prepare(const struct perf_pool *pool, int source)
{
	if (!source)
		memset(pool->base, 0xEE, pool->len);
	for (size_t i = 0; i < pool->count && source; i++)
		perf_fill(perf_pool_get(pool, i), pool->block_len, i);
}

uint64_t perf_pool_count_wrong(const struct perf_pool *pool)
{
	uint64_t wrong = 0;

	for (size_t i = 0; i < pool->count; i++)
		wrong += !perf_check(perf_pool_get(pool, i), pool->block_len, i);
	return wrong;
}
