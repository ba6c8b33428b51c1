/* SPDX-License-Identifier: Apache-2.0 */
/* check_engine_patience.c - how long somebody looks for work before sleeping, by what waiting has been like. */
#include <check.h>

#include "base/clock.h"
#include "engine/progress/patience.h"
#include "support/runner.h"

#define US INT64_C(1000)
#define MOST_NS (200 * US)

static int64_t now_ns = 1000 * KVI_SECOND;

static struct kvi_patience make_patience(void)
{
	struct kvi_patience patience;
	kvi_patience_init(&patience, MOST_NS, true);
	kvi_patience_begin(&patience, now_ns);
	return patience;
}

static void wait_for(struct kvi_patience *patience, enum kvi_patience_end end, int64_t time_ns)
{
	int64_t began_ns = now_ns;
	kvi_patience_get(patience, began_ns);
	now_ns += time_ns;
	kvi_patience_learn(patience, end, began_ns, now_ns);
}

static void wait_often(struct kvi_patience *patience, enum kvi_patience_end end, int64_t time_ns)
{
	for (unsigned i = 0; i < 50; i++)
		wait_for(patience, end, time_ns);
}

START_TEST(nobody_looks_before_work_was_seen_to_come_soon)
{
	struct kvi_patience patience = make_patience();
	ck_assert_int_eq(kvi_patience_get(&patience, now_ns), 0);
	wait_for(&patience, KVI_PATIENCE_SLEPT, 80 * US);
	ck_assert_int_gt(kvi_patience_get(&patience, now_ns), 0);
	wait_often(&patience, KVI_PATIENCE_SLEPT, 80 * US);
	ck_assert_int_eq(kvi_patience_get(&patience, now_ns), MOST_NS);
}
END_TEST

START_TEST(work_that_comes_late_is_slept_for_soon)
{
	struct kvi_patience patience = make_patience();
	wait_often(&patience, KVI_PATIENCE_SLEPT, 80 * US);
	for (unsigned i = 0; i < 5; i++)
		wait_for(&patience, KVI_PATIENCE_SLEPT, KVI_MS);
	ck_assert_int_eq(kvi_patience_get(&patience, now_ns), 0);
}
END_TEST

START_TEST(time_that_is_up_without_work_is_slept_for_soon)
{
	struct kvi_patience patience = make_patience();
	wait_often(&patience, KVI_PATIENCE_SLEPT, 80 * US);
	/* It says nothing of what would have come a little later. */
	wait_often(&patience, KVI_PATIENCE_IN_VAIN, 80 * US);
	ck_assert_int_eq(kvi_patience_get(&patience, now_ns), MOST_NS);
	for (unsigned i = 0; i < 5; i++)
		wait_for(&patience, KVI_PATIENCE_IN_VAIN, 100 * KVI_MS);
	ck_assert_int_eq(kvi_patience_get(&patience, now_ns), 0);
	wait_often(&patience, KVI_PATIENCE_IN_VAIN, 80 * US);
	ck_assert_int_eq(kvi_patience_get(&patience, now_ns), 0);
}
END_TEST

START_TEST(being_woken_for_another_reason_teaches_nothing)
{
	struct kvi_patience patience = make_patience();
	wait_often(&patience, KVI_PATIENCE_WOKEN, 80 * US);
	ck_assert_int_eq(kvi_patience_get(&patience, now_ns), 0);
	wait_often(&patience, KVI_PATIENCE_SLEPT, 80 * US);
	wait_often(&patience, KVI_PATIENCE_WOKEN, KVI_SECOND);
	ck_assert_int_eq(kvi_patience_get(&patience, now_ns), MOST_NS);
}
END_TEST

START_TEST(who_was_late_looks_again_after_ever_longer_times)
{
	struct kvi_patience patience = make_patience();
	wait_often(&patience, KVI_PATIENCE_SLEPT, 80 * US);
	int64_t before_ns = 0;
	for (unsigned i = 0; i < 20; i++) {
		wait_for(&patience, KVI_PATIENCE_LATE, 3 * KVI_MS);
		ck_assert_int_eq(kvi_patience_get(&patience, now_ns), 0);
		int64_t since_ns = now_ns;
		while (kvi_patience_get(&patience, now_ns) == 0)
			wait_for(&patience, KVI_PATIENCE_SLEPT, 80 * US);
		int64_t barred_ns = now_ns - since_ns;
		ck_assert_int_ge(barred_ns, i == 0 ? KVI_MS : before_ns);
		ck_assert_int_le(barred_ns, KVI_SECOND);
		before_ns = barred_ns - 80 * US;
	}
	ck_assert_int_gt(before_ns, 100 * KVI_MS);
}
END_TEST

START_TEST(looks_that_come_back_in_time_are_forgiven)
{
	struct kvi_patience patience = make_patience();
	wait_often(&patience, KVI_PATIENCE_SLEPT, 80 * US);
	for (unsigned i = 0; i < 20; i++)
		wait_for(&patience, KVI_PATIENCE_LATE, 3 * KVI_MS);
	for (unsigned i = 0; i < 20; i++)
		wait_often(&patience, KVI_PATIENCE_FOUND, 10 * US);
	wait_for(&patience, KVI_PATIENCE_LATE, 3 * KVI_MS);
	now_ns += 20 * KVI_MS;
	kvi_patience_begin(&patience, now_ns);
	ck_assert_int_eq(kvi_patience_get(&patience, now_ns), MOST_NS);
}
END_TEST

START_TEST(what_is_there_at_once_tells_nothing_of_others)
{
	struct kvi_patience patience = make_patience();
	wait_often(&patience, KVI_PATIENCE_SLEPT, 80 * US);
	for (unsigned i = 0; i < 20; i++)
		wait_for(&patience, KVI_PATIENCE_LATE, 3 * KVI_MS);
	for (unsigned i = 0; i < 20; i++)
		wait_often(&patience, KVI_PATIENCE_FOUND_AT_ONCE, 10 * US);
	wait_for(&patience, KVI_PATIENCE_LATE, 3 * KVI_MS);
	now_ns += 100 * KVI_MS;
	kvi_patience_begin(&patience, now_ns);
	ck_assert_int_eq(kvi_patience_get(&patience, now_ns), 0);
}
END_TEST

START_TEST(bulk_is_slept_for_and_teaches_nothing)
{
	struct kvi_patience patience = make_patience();
	for (unsigned i = 0; i < 50; i++) {
		now_ns += 100 * US; /* of work */
		wait_for(&patience, KVI_PATIENCE_SLEPT, 20 * US);
		wait_for(&patience, KVI_PATIENCE_SLEPT, 20 * US);
	}
	now_ns += 2 * KVI_MS;
	kvi_patience_begin(&patience, now_ns);
	ck_assert_int_eq(kvi_patience_get(&patience, now_ns), 0);
	wait_often(&patience, KVI_PATIENCE_SLEPT, 80 * US);
	ck_assert_int_eq(kvi_patience_get(&patience, now_ns), MOST_NS);
	now_ns += 100 * US;
	ck_assert_int_eq(kvi_patience_get(&patience, now_ns), 0);
}
END_TEST

START_TEST(what_the_user_has_set_is_kept)
{
	struct kvi_patience patience;
	for (int64_t set_ns = 0; set_ns <= MOST_NS; set_ns += MOST_NS) {
		kvi_patience_init(&patience, set_ns, false);
		wait_often(&patience, KVI_PATIENCE_SLEPT, KVI_SECOND);
		wait_often(&patience, KVI_PATIENCE_SLEPT, 80 * US);
		wait_for(&patience, KVI_PATIENCE_LATE, 3 * KVI_MS);
		now_ns += 100 * US;
		ck_assert_int_eq(kvi_patience_get(&patience, now_ns), set_ns);
	}
}
END_TEST

START_TEST(a_short_gap_is_a_peer_and_a_long_one_somebody_else)
{
	ck_assert(!kvi_patience_is_late(10 * US));
	ck_assert(kvi_patience_is_late(KVI_MS));
	ck_assert(!kvi_patience_is_bulk(10 * US));
	ck_assert(kvi_patience_is_bulk(KVI_MS));
}
END_TEST

static unsigned count_offers(struct kvi_patience *patience, int64_t took_ns)
{
	unsigned count = 0;
	for (unsigned i = 0; i < 1000; i++)
		if (kvi_patience_offers(patience)) {
			kvi_patience_learn_offer(patience, took_ns);
			count++;
		}
	return count;
}

START_TEST(the_cpu_is_offered_less_often_while_nobody_takes_it)
{
	struct kvi_patience patience = make_patience();
	ck_assert(kvi_patience_offers(&patience));
	ck_assert_uint_eq(count_offers(&patience, 5 * US), 1000);
	unsigned count = count_offers(&patience, US / 2);
	ck_assert_uint_ge(count, 1000 / 10);
	ck_assert_uint_le(count, 1000 / 5);
}
END_TEST

START_TEST(one_who_takes_the_cpu_is_offered_it_each_time_at_once)
{
	struct kvi_patience patience = make_patience();
	count_offers(&patience, US / 2);
	while (!kvi_patience_offers(&patience))
		;
	kvi_patience_learn_offer(&patience, 5 * US);
	ck_assert_uint_eq(count_offers(&patience, 5 * US), 1000);
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("patience");
	tcase_add_test(tests, nobody_looks_before_work_was_seen_to_come_soon);
	tcase_add_test(tests, work_that_comes_late_is_slept_for_soon);
	tcase_add_test(tests, time_that_is_up_without_work_is_slept_for_soon);
	tcase_add_test(tests, being_woken_for_another_reason_teaches_nothing);
	tcase_add_test(tests, who_was_late_looks_again_after_ever_longer_times);
	tcase_add_test(tests, looks_that_come_back_in_time_are_forgiven);
	tcase_add_test(tests, what_is_there_at_once_tells_nothing_of_others);
	tcase_add_test(tests, bulk_is_slept_for_and_teaches_nothing);
	tcase_add_test(tests, what_the_user_has_set_is_kept);
	tcase_add_test(tests, a_short_gap_is_a_peer_and_a_long_one_somebody_else);
	tcase_add_test(tests, the_cpu_is_offered_less_often_while_nobody_takes_it);
	tcase_add_test(tests, one_who_takes_the_cpu_is_offered_it_each_time_at_once);
	return run_tests("engine_patience", tests);
}
