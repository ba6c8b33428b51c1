/* SPDX-License-Identifier: Apache-2.0 */
/* check_engine_motion.c - how long a connection whose bytes move, stop, or were not looked at is waited for. */
#include <check.h>

#include "base/clock.h"
#include "engine/core/conn.h"
#include "engine/core/engine.h"
#include "engine/progress/shard.h"
#include "engine/transfer/motion.h"
#include "support/fake_clock.h"
#include "support/runner.h"

/* A connection of one worker, given up now. */
static struct kvt_engine engine = { .worker_count = 1 };
static struct kvi_shard shard;
static struct kvt_conn conn = { .engine = &engine,
				.shards = &shard,
				.lock = PTHREAD_MUTEX_INITIALIZER };
static int64_t since_ns;

static void setup(void)
{
	conn.motion = (struct kvi_motion){ 0 };
	since_ns = kvi_clock_now();
}

/* Whoever waits comes back when it is due, and so much later. True: it is waited on. */
static bool look(int64_t *due_ns, int64_t late_ns)
{
	fake_clock_advance(*due_ns - kvi_clock_now() + late_ns);
	*due_ns = kvi_motion_get_due(&conn, since_ns);
	ck_assert(*due_ns == 0 || *due_ns > kvi_clock_now());
	return *due_ns != 0;
}

static int64_t get_waited(void)
{
	return kvi_clock_now() - since_ns;
}

START_TEST(a_peer_that_stops_has_the_quiesce_time)
{
	int64_t due_ns = kvi_motion_get_first_due();
	while (look(&due_ns, 0))
		;
	ck_assert_int_eq(get_waited(), KVI_QUIESCE_NS);
}
END_TEST

START_TEST(the_quiesce_time_begins_again_when_bytes_move)
{
	int64_t due_ns = kvi_motion_get_first_due();
	for (unsigned i = 0; i < 8; i++) {
		kvi_shard_count_moved(&shard);
		ck_assert(look(&due_ns, 0));
	}
	int64_t stopped_ns = kvi_clock_now();
	while (look(&due_ns, 0))
		;
	ck_assert_int_eq(kvi_clock_now() - stopped_ns, KVI_QUIESCE_NS);
}
END_TEST

START_TEST(bytes_that_move_are_not_waited_for_longer_than_the_drain_time)
{
	int64_t due_ns = kvi_motion_get_first_due();
	while (look(&due_ns, 0))
		kvi_shard_count_moved(&shard);
	ck_assert_int_eq(get_waited(), KVI_DRAIN_NS);
}
END_TEST

/* The process was stopped before look _i: the peer was, too, or its bytes were not taken. */
START_TEST(time_in_which_nobody_here_ran_does_not_count)
{
	int64_t due_ns = kvi_motion_get_first_due();
	for (int i = 0; i < _i; i++)
		ck_assert(look(&due_ns, 0));
	ck_assert(look(&due_ns, 5 * KVI_SECOND));
	int64_t continued_ns = kvi_clock_now();
	while (look(&due_ns, 0))
		;
	ck_assert_int_eq(kvi_clock_now() - continued_ns, KVI_QUIESCE_NS);
}
END_TEST

START_TEST(standing_still_again_and_again_does_not_hold_a_call_for_ever)
{
	int64_t due_ns = kvi_motion_get_first_due();
	while (look(&due_ns, KVI_SECOND))
		;
	ck_assert_int_le(get_waited(), KVI_DRAIN_NS + KVI_SECOND);
}
END_TEST

START_TEST(looks_that_are_somewhat_late_make_nobody_wait_for_longer)
{
	int64_t due_ns = kvi_motion_get_first_due();
	while (look(&due_ns, KVI_QUIESCE_NS / 5))
		;
	ck_assert_int_le(get_waited(), KVI_QUIESCE_NS * 6 / 5);
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("motion");
	tcase_add_checked_fixture(tests, setup, NULL);
	tcase_add_test(tests, a_peer_that_stops_has_the_quiesce_time);
	tcase_add_test(tests, the_quiesce_time_begins_again_when_bytes_move);
	tcase_add_test(tests, bytes_that_move_are_not_waited_for_longer_than_the_drain_time);
	tcase_add_loop_test(tests, time_in_which_nobody_here_ran_does_not_count, 0, 4);
	tcase_add_test(tests, standing_still_again_and_again_does_not_hold_a_call_for_ever);
	tcase_add_test(tests, looks_that_are_somewhat_late_make_nobody_wait_for_longer);
	return run_tests("engine_motion", tests);
}
