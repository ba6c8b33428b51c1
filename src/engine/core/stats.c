/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stats.c - counting, and struct kvt_stats from the counters.
 */
#include "engine/core/stats.h"

#include <assert.h>
#include <string.h>

#include "engine/core/abi.h"

static_assert(sizeof(struct kvt_stats) == sizeof(size_t) + KVI_COUNTERS * sizeof(uint64_t),
	      "enum kvi_counter lists the fields of struct kvt_stats in their order");

void kvi_count(struct kvi_counters *counters, enum kvi_counter counter, int64_t change)
{
	for (; counters != NULL; counters = counters->parent)
		atomic_fetch_add_explicit(&counters->values[counter], (uint64_t)change,
					  memory_order_relaxed);
}

void kvi_count_latency_alone(struct kvi_counters *counters, int64_t ns)
{
	unsigned bucket = ns < 1 ? 0 : 63 - (unsigned)__builtin_clzll((unsigned long long)ns);
	if (bucket >= KVT_LATENCY_BUCKETS)
		bucket = KVT_LATENCY_BUCKETS - 1;
	kvi_count_alone(counters, (enum kvi_counter)(KVI_COUNT_LATENCY + bucket), 1);
}

uint64_t kvi_count_get(const struct kvi_counters *counters, enum kvi_counter counter)
{
	return atomic_load_explicit(&counters->values[counter], memory_order_relaxed);
}

void kvi_stats_gather(uint64_t values[KVI_COUNTERS], const struct kvi_counters *counters)
{
	for (unsigned i = 0; i < KVI_COUNTERS; i++)
		values[i] += kvi_count_get(counters, (enum kvi_counter)i);
}

enum kvt_err kvi_stats_fill(const uint64_t values[KVI_COUNTERS], struct kvt_stats *stats)
{
	struct kvt_stats found;
	memcpy((char *)&found + sizeof(found.size), values, KVI_COUNTERS * sizeof(values[0]));
	return kvi_sized_write(&kvi_abi_stats, &found, stats);
}
