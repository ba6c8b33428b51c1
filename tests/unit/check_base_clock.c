/* SPDX-License-Identifier: Apache-2.0 */
/* check_base_clock.c - the promises of base/clock.h. */
#include <limits.h>
#include <time.h>

#include "base/clock.h"
#include "../support/runner.h"

START_TEST(the_clock_moves_forward)
{
	int64_t before = kvi_clock_now();
	nanosleep(&(struct timespec){ .tv_nsec = 2 * KVI_MS }, NULL);

	ck_assert_int_ge(kvi_clock_now() - before, 2 * KVI_MS);
}
END_TEST

START_TEST(a_deadline_is_now_and_the_timeout)
{
	int64_t before = kvi_clock_now();
	int64_t deadline = kvi_deadline_after(KVI_SECOND);
	int64_t after = kvi_clock_now();

	ck_assert_int_ge(deadline, before + KVI_SECOND);
	ck_assert_int_le(deadline, after + KVI_SECOND);
}
END_TEST

START_TEST(a_deadline_saturates_at_never)
{
	ck_assert(kvi_deadline_after(KVI_NEVER) == KVI_NEVER);
	ck_assert(kvi_deadline_after(KVI_NEVER - 1) == KVI_NEVER);
	ck_assert(kvi_deadline_after(INT64_MAX - kvi_clock_now()) == KVI_NEVER);
}
END_TEST

START_TEST(a_negative_timeout_has_passed)
{
	ck_assert_int_lt(kvi_deadline_after(-1), kvi_clock_now() + 1);
	ck_assert_int_eq(kvi_deadline_get_ms(kvi_deadline_after(INT64_MIN), -1), 0);
}
END_TEST

START_TEST(never_waits_without_end_or_up_to_the_cap)
{
	ck_assert_int_eq(kvi_deadline_get_ms(KVI_NEVER, -1), -1);
	ck_assert_int_eq(kvi_deadline_get_ms(KVI_NEVER, 100), 100);
	ck_assert_int_eq(kvi_deadline_get_ms(KVI_NEVER, 0), 0);
}
END_TEST

START_TEST(a_deadline_that_passed_does_not_wait)
{
	ck_assert_int_eq(kvi_deadline_get_ms(0, -1), 0);
	ck_assert_int_eq(kvi_deadline_get_ms(kvi_clock_now(), 50), 0);
}
END_TEST

START_TEST(time_left_is_rounded_up)
{
	int64_t deadline = kvi_clock_now() + KVI_SECOND;
	int ms = kvi_deadline_get_ms(deadline, -1);
	ck_assert_int_le(ms, 1000);
	ck_assert_int_ge(ms * KVI_MS, deadline - kvi_clock_now());

	/* Less than a millisecond must not become a poll that spins. */
	for (int i = 0; i < 1000; i++) {
		deadline = kvi_clock_now() + 100000;
		int left_ms = kvi_deadline_get_ms(deadline, -1);
		ck_assert(left_ms == 1 || (left_ms == 0 && kvi_clock_now() >= deadline));
	}
}
END_TEST

START_TEST(time_left_is_capped)
{
	ck_assert_int_eq(kvi_deadline_get_ms(kvi_clock_now() + 3600 * KVI_SECOND, 10), 10);
	ck_assert_int_eq(kvi_deadline_get_ms(KVI_NEVER - 1, -1), INT_MAX);
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("clock");
	tcase_add_test(tests, the_clock_moves_forward);
	tcase_add_test(tests, a_deadline_is_now_and_the_timeout);
	tcase_add_test(tests, a_deadline_saturates_at_never);
	tcase_add_test(tests, a_negative_timeout_has_passed);
	tcase_add_test(tests, never_waits_without_end_or_up_to_the_cap);
	tcase_add_test(tests, a_deadline_that_passed_does_not_wait);
	tcase_add_test(tests, time_left_is_rounded_up);
	tcase_add_test(tests, time_left_is_capped);
	return run_tests("base_clock", tests);
}
