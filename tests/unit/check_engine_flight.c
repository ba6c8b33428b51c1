/* SPDX-License-Identifier: Apache-2.0 */
/* check_engine_flight.c - how much a lane may have in flight, by what it has shown. */
#include <check.h>

#include "base/clock.h"
#include "engine/core/settings.h"
#include "engine/lane/flight.h"
#include "support/runner.h"

/* A link of so many bytes a second and a way of so long, kept full for a while through one lane. */
static void fill_link(struct kvi_flight *flight, int64_t rate, int64_t way_ns, unsigned segments)
{
	for (unsigned i = 0; i < segments; i++) {
		struct kvi_flown flown = {
			.len = kvi_flight_get_segment_len(flight),
			.ahead = flight->limit,
			.was_delivered = true,
		};
		flown.took_ns = way_ns + (int64_t)flown.ahead * KVI_SECOND / rate;
		kvi_flight_learn(flight, &flown);
	}
}

static int64_t get_drain_ns(const struct kvi_flight *flight, int64_t rate)
{
	return (int64_t)flight->limit * KVI_SECOND / rate;
}

START_TEST(a_quick_lane_comes_to_the_full_flight_with_its_first_megabytes)
{
	struct kvi_flight flight;
	kvi_flight_init(&flight, 1);
	ck_assert(!kvi_flight_is_quick(&flight));
	fill_link(&flight, INT64_C(1000000000), 100 * 1000, 32);
	ck_assert(kvi_flight_is_quick(&flight));
	ck_assert_uint_eq(kvi_flight_get_segment_len(&flight), KVI_SEGMENT_LEN);
}
END_TEST

START_TEST(a_slow_lane_has_in_flight_what_drains_in_the_time)
{
	static const int64_t rates[] = { 125000, 1250000, 3000000 };
	struct kvi_flight flight;
	kvi_flight_init(&flight, 1);
	fill_link(&flight, rates[_i], 10 * KVI_MS, 200);
	ck_assert(!kvi_flight_is_quick(&flight));
	ck_assert_int_le(get_drain_ns(&flight, rates[_i]), KVI_FLIGHT_NS * 3 / 2);
	ck_assert(flight.limit == KVI_FLIGHT_MIN ||
		  get_drain_ns(&flight, rates[_i]) >= KVI_FLIGHT_NS / 4);
}
END_TEST

START_TEST(a_new_connection_has_little_in_flight_however_many_lanes_it_has)
{
	struct kvi_flight flight;
	size_t all = 0;
	for (unsigned i = 0; i < 32; i++) {
		kvi_flight_init(&flight, 32);
		all += flight.limit;
	}
	ck_assert_uint_le(all, 1024 * 1024);
	kvi_flight_init(&flight, 1);
	ck_assert_uint_le(flight.limit, 1024 * 1024);
}
END_TEST

START_TEST(a_long_way_is_not_a_slow_one)
{
	struct kvi_flight flight;
	kvi_flight_init(&flight, 1);
	fill_link(&flight, INT64_C(1000000000), 500 * KVI_MS, 64);
	ck_assert(kvi_flight_is_quick(&flight));
}
END_TEST

START_TEST(a_link_that_becomes_slow_is_found_out_and_one_that_recovers_too)
{
	struct kvi_flight flight;
	kvi_flight_init(&flight, 1);
	fill_link(&flight, INT64_C(1000000000), KVI_MS, 64);
	fill_link(&flight, 1250000, KVI_MS, 8);
	ck_assert_int_le(get_drain_ns(&flight, 1250000), KVI_SECOND);
	fill_link(&flight, INT64_C(1000000000), KVI_MS, 64);
	ck_assert(kvi_flight_is_quick(&flight));
}
END_TEST

START_TEST(a_pause_of_the_host_costs_half_at_most)
{
	struct kvi_flight flight;
	struct kvi_flown flown = { .len = 64, .ahead = 64, .was_delivered = true };
	kvi_flight_init(&flight, 1);
	fill_link(&flight, INT64_C(1000000000), KVI_MS, 64);
	flown.took_ns = 50 * KVI_MS;
	kvi_flight_learn(&flight, &flown);
	ck_assert(kvi_flight_is_quick(&flight));
	flown.took_ns = 2 * KVI_SECOND;
	kvi_flight_learn(&flight, &flown);
	ck_assert_uint_eq(flight.limit, KVI_WRITES_LEN_MAX / 2);
}
END_TEST

START_TEST(what_was_only_posted_does_not_speak_for_a_lane_but_against_it)
{
	struct kvi_flight flight;
	struct kvi_flown flown = { .len = 65536, .ahead = 65536 };
	kvi_flight_init(&flight, 1);
	size_t before = flight.limit;
	for (unsigned i = 0; i < 100; i++)
		kvi_flight_learn(&flight, &flown);
	ck_assert_uint_eq(flight.limit, before);
	fill_link(&flight, INT64_C(1000000000), KVI_MS, 64);
	flown.took_ns = 4 * KVI_SECOND;
	kvi_flight_learn(&flight, &flown);
	ck_assert(!kvi_flight_is_quick(&flight));
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("flight");
	tcase_add_test(tests, a_quick_lane_comes_to_the_full_flight_with_its_first_megabytes);
	tcase_add_loop_test(tests, a_slow_lane_has_in_flight_what_drains_in_the_time, 0, 3);
	tcase_add_test(tests, a_new_connection_has_little_in_flight_however_many_lanes_it_has);
	tcase_add_test(tests, a_long_way_is_not_a_slow_one);
	tcase_add_test(tests, a_link_that_becomes_slow_is_found_out_and_one_that_recovers_too);
	tcase_add_test(tests, a_pause_of_the_host_costs_half_at_most);
	tcase_add_test(tests, what_was_only_posted_does_not_speak_for_a_lane_but_against_it);
	return run_tests("engine_flight", tests);
}
