/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stats.h - counters of a connection and of its engine. Relaxed: each is right by itself, together
 * they are a glance, not a snapshot.
 */
#ifndef KVI_ENGINE_STATS_H
#define KVI_ENGINE_STATS_H

#include <stdatomic.h>

#include <kvtrans.h>

/* The fields of struct kvt_stats, in its order; the histogram follows. */
enum kvi_counter {
	KVI_COUNT_CONNECTIONS,
	KVI_COUNT_CONNECTIONS_TOTAL,
	KVI_COUNT_CONNECTIONS_LOST,
	KVI_COUNT_HANDSHAKES_FAILED,
	KVI_COUNT_KVS,
	KVI_COUNT_REGISTRATIONS,
	KVI_COUNT_TRANSFERS,
	KVI_COUNT_SENDS,
	KVI_COUNT_RECEIVES,
	KVI_COUNT_FAILURES,
	KVI_COUNT_BYTES_SENT,
	KVI_COUNT_BYTES_RECEIVED,
	KVI_COUNT_WRITES,
	KVI_COUNT_READS,
	KVI_COUNT_BYTES_WRITTEN,
	KVI_COUNT_BYTES_READ,
	KVI_COUNT_NOTIFICATIONS,
	KVI_COUNT_EAGER_SENDS,
	KVI_COUNT_SEGMENTS,
	KVI_COUNT_CORRUPTIONS,
	KVI_COUNT_LATENCY,
	KVI_COUNTERS = KVI_COUNT_LATENCY + KVT_LATENCY_BUCKETS,
};

/* parent: counters of what these are a part of, which each change reaches too; NULL: of nothing. */
struct kvi_counters {
	struct kvi_counters *parent;
	_Atomic(uint64_t) values[KVI_COUNTERS];
};

/* From any thread. */
void kvi_count(struct kvi_counters *counters, enum kvi_counter counter, int64_t change);

/* The same by who holds the lock under which alone these and their parents are changed: it costs a tenth. */
static inline void kvi_count_alone(struct kvi_counters *counters, enum kvi_counter counter,
				   int64_t change)
{
	for (; counters != NULL; counters = counters->parent) {
		uint64_t value =
			atomic_load_explicit(&counters->values[counter], memory_order_relaxed);
		atomic_store_explicit(&counters->values[counter], value + (uint64_t)change,
				      memory_order_relaxed);
	}
}
void kvi_count_latency_alone(struct kvi_counters *counters, int64_t ns);

uint64_t kvi_count_get(const struct kvi_counters *counters, enum kvi_counter counter);

/* Add the values of counters; and tell of them. INVALID: stats is NULL, or its size is none. */
void kvi_stats_gather(uint64_t values[KVI_COUNTERS], const struct kvi_counters *counters);
enum kvt_err kvi_stats_fill(const uint64_t values[KVI_COUNTERS], struct kvt_stats *stats);

#endif
