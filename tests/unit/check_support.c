/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_support.c - the memory that fails and the clock that stands still, on which other tests rely.
 */
#include <stdlib.h>
#include <unistd.h>

#include "../support/failing_alloc.h"
#include "../support/fake_clock.h"
#include "../support/runner.h"
#include "base/alloc.h"
#include "base/clock.h"

START_TEST(the_nth_allocation_fails_once)
{
	void *memories[4];
	failing_alloc_arm(3);
	memories[0] = kvi_alloc(8);
	memories[1] = kvi_alloc_array(2, 8);
	ck_assert(!failing_alloc_has_fired());
	ck_assert_ptr_null(kvi_alloc_data(8));
	ck_assert(failing_alloc_has_fired());
	memories[2] = kvi_alloc_string("text");
	memories[3] = kvi_alloc_data(8);
	ck_assert_str_eq(memories[2], "text");
	for (size_t i = 0; i < 4; i++) {
		ck_assert_ptr_nonnull(memories[i]);
		kvi_free(memories[i]);
	}
}
END_TEST

START_TEST(any_kind_of_allocation_can_fail)
{
	failing_alloc_arm(1);
	ck_assert_ptr_null(kvi_alloc(1));
	failing_alloc_arm(1);
	ck_assert_ptr_null(kvi_alloc_array(1, 1));
	failing_alloc_arm(1);
	ck_assert_ptr_null(kvi_alloc_string(""));
	failing_alloc_arm(1);
	failing_alloc_arm(0);
	kvi_free(kvi_alloc(1));
	ck_assert(!failing_alloc_has_fired());
}
END_TEST

START_TEST(allocations_of_nothing_are_not_counted)
{
	failing_alloc_arm(1);
	ck_assert_ptr_null(kvi_alloc(0));
	ck_assert_ptr_null(kvi_alloc_array(0, 8));
	ck_assert_ptr_null(kvi_alloc_data(0));
	ck_assert(!failing_alloc_has_fired());
	failing_alloc_arm(0);
	ck_assert_int_eq(failing_alloc_get_live(), 0);
}
END_TEST

START_TEST(live_allocations_are_counted)
{
	void *memory = kvi_alloc(8);
	void *data = kvi_alloc_data(8);
	ck_assert_int_eq(failing_alloc_get_live(), 2);
	kvi_free(memory);
	kvi_free(NULL);
	ck_assert_int_eq(failing_alloc_get_live(), 1);
	failing_alloc_forget(data);
	free(data);
	ck_assert_int_eq(failing_alloc_get_live(), 0);
}
END_TEST

START_TEST(the_clock_moves_only_when_told)
{
	int64_t start = kvi_clock_now();
	usleep(2000);
	ck_assert_int_eq(kvi_clock_now(), start);
	fake_clock_advance(5 * KVI_SECOND);
	ck_assert_int_eq(kvi_clock_now(), start + 5 * KVI_SECOND);
}
END_TEST

START_TEST(deadlines_are_looked_at_every_millisecond)
{
	int64_t deadline = kvi_deadline_after(60 * KVI_SECOND);
	ck_assert_int_eq(kvi_deadline_get_ms(deadline, -1), 1);
	ck_assert_int_eq(kvi_deadline_get_ms(deadline, 0), 0);
	fake_clock_advance(60 * KVI_SECOND);
	ck_assert_int_eq(kvi_deadline_get_ms(deadline, -1), 0);
	ck_assert_int_eq(kvi_deadline_after(KVI_NEVER), KVI_NEVER);
	ck_assert_int_eq(kvi_deadline_get_ms(KVI_NEVER, -1), -1);
	ck_assert_int_eq(kvi_deadline_get_ms(KVI_NEVER, 100), 100);
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("support");
	tcase_add_test(tests, the_nth_allocation_fails_once);
	tcase_add_test(tests, any_kind_of_allocation_can_fail);
	tcase_add_test(tests, allocations_of_nothing_are_not_counted);
	tcase_add_test(tests, live_allocations_are_counted);
	tcase_add_test(tests, the_clock_moves_only_when_told);
	tcase_add_test(tests, deadlines_are_looked_at_every_millisecond);
	return run_tests("support", tests);
}
