/* SPDX-License-Identifier: Apache-2.0 */
/* check_base_timers.c - the heap of deadlines of base/timers.h. */
#include <stdlib.h>

#include "base/clock.h"
#include "base/timers.h"
#include "../support/failing_alloc.h"
#include "../support/runner.h"

enum { COUNT = 1000 };

static struct kvi_timers timers;
static struct kvi_timer all[COUNT];

static void make_timers(void)
{
	timers = (struct kvi_timers){ .heap = NULL };
	for (int i = 0; i < COUNT; i++)
		all[i] = (struct kvi_timer){ .due_ns = 0 };
}

static void free_timers(void)
{
	kvi_timers_free(&timers);
}

/* Takes the earliest out until none is left; checks the order and returns how many there were. */
static int take_all(void)
{
	int64_t last_ns = INT64_MIN;
	int count = 0;
	struct kvi_timer *timer;
	while ((timer = kvi_timers_get_first(&timers)) != NULL) {
		ck_assert_int_eq(kvi_timers_get_due(&timers), timer->due_ns);
		ck_assert_int_ge(timer->due_ns, last_ns);
		last_ns = timer->due_ns;
		kvi_timers_clear(&timers, timer);
		count++;
	}
	return count;
}

START_TEST(without_timers_nothing_is_ever_due)
{
	ck_assert_ptr_null(kvi_timers_get_first(&timers));
	ck_assert_int_eq(kvi_timers_get_due(&timers), KVI_NEVER);
	kvi_timers_clear(&timers, &all[0]);
}
END_TEST

START_TEST(timers_come_in_the_order_of_their_time)
{
	srandom(1);
	for (int i = 0; i < COUNT; i++)
		kvi_timers_set(&timers, &all[i], random() % 100);
	ck_assert_int_eq(take_all(), COUNT);
}
END_TEST

START_TEST(timers_that_come_in_line_and_out_of_turn_keep_their_order)
{
	for (int i = 0; i < COUNT; i++)
		kvi_timers_set(&timers, &all[i], i % 3 == 0 ? COUNT - i : i);
	for (int i = 0; i < COUNT; i += 5)
		kvi_timers_clear(&timers, &all[i]);
	for (int i = 0; i < COUNT; i += 7)
		kvi_timers_set(&timers, &all[i], i % 2 == 0 ? COUNT + i : -i);
	int count = 0;
	for (int i = 0; i < COUNT; i++)
		count += i % 5 != 0 || i % 7 == 0;
	ck_assert_int_eq(take_all(), count);
}
END_TEST

START_TEST(a_timer_that_is_set_anew_moves_in_both_directions)
{
	srandom(2);
	for (int i = 0; i < COUNT; i++)
		kvi_timers_set(&timers, &all[i], random() % 100);
	for (int i = 0; i < COUNT; i += 3)
		kvi_timers_set(&timers, &all[i], random() % 300 - 100);
	ck_assert_int_eq(take_all(), COUNT);
}
END_TEST

START_TEST(timers_are_cleared_from_any_place)
{
	srandom(3);
	for (int i = 0; i < COUNT; i++)
		kvi_timers_set(&timers, &all[i], random() % 100);
	for (int i = 0; i < COUNT; i += 2)
		kvi_timers_clear(&timers, &all[i]);
	kvi_timers_clear(&timers, &all[0]);
	ck_assert_int_eq(take_all(), COUNT / 2);
}
END_TEST

START_TEST(without_memory_a_timer_is_not_set_and_the_others_stay)
{
	int count = 0;
	do {
		failing_alloc_arm(count > 0 ? 1 : 0);
	} while (kvi_timers_set(&timers, &all[count], -count) && ++count < COUNT);
	ck_assert(failing_alloc_has_fired());
	ck_assert_int_eq(all[count].place, 0);
	ck_assert_ptr_eq(kvi_timers_get_first(&timers), &all[count - 1]);
	ck_assert(kvi_timers_set(&timers, &all[count], 0));
	ck_assert_int_eq(take_all(), count + 1);
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("timers");
	tcase_add_checked_fixture(tests, make_timers, free_timers);
	tcase_add_test(tests, without_timers_nothing_is_ever_due);
	tcase_add_test(tests, timers_come_in_the_order_of_their_time);
	tcase_add_test(tests, timers_that_come_in_line_and_out_of_turn_keep_their_order);
	tcase_add_test(tests, a_timer_that_is_set_anew_moves_in_both_directions);
	tcase_add_test(tests, timers_are_cleared_from_any_place);
	tcase_add_test(tests, without_memory_a_timer_is_not_set_and_the_others_stay);
	return run_tests("base_timers", tests);
}
