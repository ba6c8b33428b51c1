/* SPDX-License-Identifier: Apache-2.0 */
/* check_engine_stats.c - counters, and struct kvt_stats from them. */
#include <pthread.h>

#include "engine/core/stats.h"
#include "support/runner.h"

START_TEST(every_counter_has_its_field)
{
	struct kvi_counters counters = { 0 };
	struct kvt_stats stats = KVT_STATS_INIT;
	uint64_t values[KVI_COUNTERS] = { 0 };
	for (unsigned i = 0; i < KVI_COUNTERS; i++)
		kvi_count(&counters, (enum kvi_counter)i, i + 1);
	kvi_stats_gather(values, &counters);
	kvi_stats_fill(values, &stats);
	ck_assert_uint_eq(stats.size, sizeof(stats));
	const uint64_t fields[] = {
		stats.connections,
		stats.connections_total,
		stats.connections_lost,
		stats.handshakes_failed,
		stats.kvs,
		stats.registrations,
		stats.transfers,
		stats.sends,
		stats.receives,
		stats.failures,
		stats.bytes_sent,
		stats.bytes_received,
		stats.writes,
		stats.reads,
		stats.bytes_written,
		stats.bytes_read,
		stats.notifications,
		stats.eager_sends,
		stats.segments,
		stats.corruptions,
	};
	for (unsigned i = 0; i < KVI_COUNT_LATENCY; i++) {
		ck_assert_uint_eq(fields[i], i + 1);
		ck_assert_uint_eq(kvi_count_get(&counters, (enum kvi_counter)i), i + 1);
	}
	for (unsigned i = 0; i < KVT_LATENCY_BUCKETS; i++)
		ck_assert_uint_eq(stats.send_latency[i], KVI_COUNT_LATENCY + i + 1);
}
END_TEST

START_TEST(a_change_reaches_the_parents)
{
	struct kvi_counters engine = { 0 },
			    conns[2] = { { .parent = &engine }, { .parent = &engine } };
	kvi_count(&conns[0], KVI_COUNT_KVS, 3);
	kvi_count(&conns[1], KVI_COUNT_KVS, 4);
	kvi_count(&conns[0], KVI_COUNT_KVS, -2);
	ck_assert_uint_eq(kvi_count_get(&conns[0], KVI_COUNT_KVS), 1);
	ck_assert_uint_eq(kvi_count_get(&conns[1], KVI_COUNT_KVS), 4);
	ck_assert_uint_eq(kvi_count_get(&engine, KVI_COUNT_KVS), 5);
	kvi_count_alone(&conns[0], KVI_COUNT_KVS, 6);
	kvi_count_alone(&conns[0], KVI_COUNT_KVS, -1);
	ck_assert_uint_eq(kvi_count_get(&conns[0], KVI_COUNT_KVS), 6);
	ck_assert_uint_eq(kvi_count_get(&engine, KVI_COUNT_KVS), 10);
}
END_TEST

START_TEST(a_latency_falls_into_the_bucket_of_its_power_of_two)
{
	struct kvi_counters counters = { 0 };
	struct kvt_stats stats = KVT_STATS_INIT;
	uint64_t values[KVI_COUNTERS] = { 0 };
	static const int64_t times[] = {
		INT64_MIN,	  0,	    1, 2, 3, 4, 1023, 1024, (INT64_C(1) << 39) - 1,
		INT64_C(1) << 39, INT64_MAX
	};
	for (unsigned i = 0; i < sizeof(times) / sizeof(times[0]); i++)
		kvi_count_latency_alone(&counters, times[i]);
	kvi_stats_gather(values, &counters);
	kvi_stats_fill(values, &stats);
	ck_assert_uint_eq(stats.send_latency[0], 3);
	ck_assert_uint_eq(stats.send_latency[1], 2);
	ck_assert_uint_eq(stats.send_latency[2], 1);
	ck_assert_uint_eq(stats.send_latency[9], 1);
	ck_assert_uint_eq(stats.send_latency[10], 1);
	ck_assert_uint_eq(stats.send_latency[38], 1);
	ck_assert_uint_eq(stats.send_latency[39], 2);
}
END_TEST

enum { THREADS = 4, CHANGES = 20000 };

static void *count_up_and_down(void *arg)
{
	for (unsigned i = 0; i < CHANGES; i++) {
		kvi_count(arg, KVI_COUNT_TRANSFERS, 1);
		kvi_count(arg, KVI_COUNT_SENDS, 1);
		kvi_count(arg, KVI_COUNT_TRANSFERS, -1);
	}
	return NULL;
}

START_TEST(no_change_of_any_thread_is_lost)
{
	struct kvi_counters engine = { 0 }, conn = { .parent = &engine };
	pthread_t threads[THREADS];
	for (unsigned i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, count_up_and_down, &conn);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	ck_assert_uint_eq(kvi_count_get(&engine, KVI_COUNT_TRANSFERS), 0);
	ck_assert_uint_eq(kvi_count_get(&engine, KVI_COUNT_SENDS), (uint64_t)THREADS * CHANGES);
	ck_assert_uint_eq(kvi_count_get(&conn, KVI_COUNT_SENDS), (uint64_t)THREADS * CHANGES);
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("stats");
	tcase_add_test(tests, every_counter_has_its_field);
	tcase_add_test(tests, a_change_reaches_the_parents);
	tcase_add_test(tests, a_latency_falls_into_the_bucket_of_its_power_of_two);
	tcase_add_test(tests, no_change_of_any_thread_is_lost);
	return run_tests("engine_stats", tests);
}
