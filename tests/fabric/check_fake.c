/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_fake.c - the conformance tests on the fabric in memory, and tests of its own script.
 */
#include "bed.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "../support/fake_fabric.h"

/* Two sides with a lane between them, and memory to move. */
struct stage {
	struct bed bed;
	struct end near;
	struct end far;
	struct area source;
	struct area target;
	struct area inbox;
};

enum { LEN = 16384 };

static struct stage stage;

static void stage_open(void)
{
	bed_open(&stage.bed);
	bed_connect(&stage.bed, &stage.near, &stage.far);
	area_open(&stage.source, &stage.bed.near, LEN, KVI_ACCESS_LOCAL, 1);
	area_open(&stage.target, &stage.bed.far, LEN, KVI_ACCESS_REMOTE_WRITE, 0);
	area_open(&stage.inbox, &stage.bed.far, LEN, KVI_ACCESS_LOCAL, 0);
}

static void stage_close(void)
{
	if (stage.near.lane != NULL)
		end_close(&stage.near);
	if (stage.far.lane != NULL)
		end_close(&stage.far);
	bed_run(&stage.bed, KVI_MS);
	area_close(&stage.source);
	area_close(&stage.target);
	area_close(&stage.inbox);
	bed_close(&stage.bed);
	ck_assert(fake_is_empty());
	fake_reset();
}

START_TEST(a_held_write_stops_between_its_chunks)
{
	struct act write, send, receive;
	stage_open();
	post_recv(&stage.far, &receive, &stage.inbox, 0, 8);
	fake_hold(FAKE_WRITE);
	post_write(&stage.near, &write, &stage.source, 0, LEN, stage.target.rkey);
	post_send(&stage.near, &send, &stage.source, 0, 8);
	bed_run(&stage.bed, 5 * KVI_MS);
	ck_assert(kvi_cq_may_sleep(stage.bed.near.cq) && kvi_cq_may_sleep(stage.bed.far.cq));
	ck_assert(area_holds_only(&stage.target, 0));

	ck_assert_uint_eq(fake_release(1), 1);
	ck_assert_uint_eq(stage.target.base[4095], 1);
	ck_assert_uint_eq(stage.target.base[4096], 0);
	ck_assert_uint_eq(fake_release(3), 3);
	bed_run(&stage.bed, 5 * KVI_MS);
	ck_assert(area_holds_only(&stage.target, 1));
	/* The data has landed and let the send pass; the writer does not know. */
	ck_assert_uint_eq(write.reports, 0);
	ck_assert_uint_eq(receive.reports, 1);
	fake_hold(0);
	bed_wait(&stage.bed, write.reports == 1 && send.reports == 1);
	stage_close();
}
END_TEST

START_TEST(a_held_write_is_cut_by_a_close_on_either_side)
{
	for (unsigned side = 0; side < 2; side++) {
		struct act write;
		stage_open();
		fake_hold(FAKE_WRITE);
		post_write(&stage.near, &write, &stage.source, 0, LEN, stage.target.rkey);
		fake_release(2);
		end_close(side == 0 ? &stage.near : &stage.far);
		fake_hold(0);
		bed_wait(&stage.bed, write.reports == 1);
		ck_assert_int_eq(write.completion.err,
				 side == 0 ? KVT_E_CANCELLED : KVT_E_PEER_LOST);
		ck_assert_uint_eq(stage.target.base[8191], 1);
		ck_assert_uint_eq(stage.target.base[8192], 0);
		stage_close();
	}
}
END_TEST

START_TEST(a_write_under_way_goes_on_after_its_memory_is_closed)
{
	struct act write;
	stage_open();
	fake_hold(FAKE_WRITE);
	post_write(&stage.near, &write, &stage.source, 0, LEN, stage.target.rkey);
	fake_release(1);
	kvi_memory_close(stage.target.memory);
	stage.target.memory = NULL;
	fake_hold(0);
	bed_wait(&stage.bed, write.reports == 1);
	ck_assert_int_eq(write.completion.err, KVT_OK);
	ck_assert(area_holds_only(&stage.target, 1));
	stage_close();
}
END_TEST

START_TEST(the_nth_post_open_and_completion_fail)
{
	struct act acts[3];
	struct kvi_cq *cq = NULL;
	stage_open();
	fake_fail_open(FAKE_OPEN_CQ, 1, KVT_E_FABRIC);
	ck_assert_int_eq(kvi_cq_open(stage.bed.near.rail, &cq, NULL), KVT_E_FABRIC);
	ck_assert_ptr_null(cq);

	fake_fail_post(FAKE_WRITE | FAKE_READ, 2, KVT_E_AGAIN);
	struct kvi_rkey rkey = stage.target.rkey;
	ck_assert_int_eq(try_write(&stage.near, &acts[0], &stage.source, 0, 8, rkey), KVT_OK);
	ck_assert_int_eq(try_write(&stage.near, &acts[1], &stage.source, 0, 8, rkey), KVT_E_AGAIN);
	ck_assert_int_eq(try_write(&stage.near, &acts[1], &stage.source, 0, 8, rkey), KVT_OK);

	fake_fail_completion(FAKE_WRITE, 2, KVT_E_FABRIC);
	ck_assert_int_eq(try_write(&stage.near, &acts[2], &stage.source, 0, 8, rkey), KVT_OK);
	bed_wait(&stage.bed, count_reported(acts, 3) == 3);
	ck_assert_int_eq(acts[0].completion.err, KVT_OK);
	ck_assert_int_eq(acts[1].completion.err, KVT_E_FABRIC);
	ck_assert_int_eq(acts[2].completion.err, KVT_E_PEER_LOST);
	bed_wait(&stage.bed, stage.near.lost_count == 1 && stage.far.lost_count == 1);
	ck_assert_uint_eq(fake_get_counts().faults, 3);
	stage_close();
}
END_TEST

START_TEST(killed_lanes_are_lost_on_both_sides)
{
	struct act receive;
	stage_open();
	post_recv(&stage.far, &receive, &stage.inbox, 0, 8);
	fake_kill_lanes("another");
	bed_run(&stage.bed, KVI_MS);
	ck_assert_uint_eq(stage.near.lost_count, 0);
	fake_kill_lanes(bed_interface);
	bed_wait(&stage.bed, stage.near.lost_count == 1 && stage.far.lost_count == 1);
	ck_assert_int_eq(receive.completion.err, KVT_E_PEER_LOST);
	stage_close();
}
END_TEST

START_TEST(delayed_operations_arrive_late)
{
	struct act write;
	stage_open();
	fake_delay(30 * KVI_MS);
	int64_t start = kvi_clock_now();
	post_write(&stage.near, &write, &stage.source, 0, 8, stage.target.rkey);
	ck_assert(!kvi_cq_may_sleep(stage.bed.far.cq));
	bed_wait(&stage.bed, write.reports == 1);
	ck_assert_int_ge(kvi_clock_now() - start, 30 * KVI_MS);
	stage_close();
}
END_TEST

START_TEST(with_auto_progress_a_write_has_landed_when_the_post_returns)
{
	struct act write;
	stage_open();
	fake_set_auto_progress(true);
	post_write(&stage.near, &write, &stage.source, 0, LEN, stage.target.rkey);
	ck_assert(area_holds_only(&stage.target, 1));
	side_poll(&stage.bed.near);
	ck_assert_uint_eq(write.reports, 1);
	stage_close();
}
END_TEST

START_TEST(reordering_changes_the_order_between_lanes_only)
{
	enum { LANES = 4, COUNT = 16 };
	static struct end near[LANES], far[LANES];
	static struct act acts[LANES][COUNT];
	stage_open();
	fake_reorder(42);
	for (size_t lane = 0; lane < LANES; lane++)
		bed_connect(&stage.bed, &near[lane], &far[lane]);
	for (size_t i = 0; i < LANES * COUNT; i++)
		post_write(&near[i % LANES], &acts[i % LANES][i / LANES], &stage.source, 0, LEN,
			   stage.target.rkey);
	for (size_t lane = 0; lane < LANES; lane++)
		bed_wait(&stage.bed, count_reported(acts[lane], COUNT) == COUNT);
	unsigned overtakings = 0;
	for (size_t lane = 0; lane < LANES; lane++) {
		for (size_t i = 1; i < COUNT; i++)
			ck_assert_uint_gt(acts[lane][i].order, acts[lane][i - 1].order);
		for (size_t i = 0; lane > 0 && i < COUNT; i++)
			overtakings += acts[lane][i].order < acts[lane - 1][i].order;
		end_close(&near[lane]);
		bed_wait(&stage.bed, far[lane].lost_count == 1);
		end_close(&far[lane]);
	}
	ck_assert_uint_gt(overtakings, 0);
	stage_close();
}
END_TEST

START_TEST(sends_overtake_writes_where_caps_let_them)
{
	struct act write, send, receive;
	struct kvi_caps caps = fake_get_default_caps();
	caps.send_after_write = false;
	fake_set_caps(&caps);
	stage_open();
	post_recv(&stage.far, &receive, &stage.inbox, 0, 8);
	post_write(&stage.near, &write, &stage.source, 0, LEN, stage.target.rkey);
	post_send(&stage.near, &send, &stage.source, 0, 8);
	fake_release(1);
	side_poll(&stage.bed.far);
	ck_assert_uint_eq(receive.reports, 1);
	bed_wait(&stage.bed, write.reports == 1 && send.reports == 1);
	ck_assert_uint_gt(write.order, receive.order);
	stage_close();
}
END_TEST

START_TEST(keys_and_addresses_are_the_providers_where_rkeys_differ)
{
	struct kvi_caps caps = fake_get_default_caps();
	caps.same_rkey = false;
	caps.own_domains = false;
	caps.local_memory = true;
	fake_set_caps(&caps);
	struct act write;
	stage_open();
	ck_assert_uint_eq(stage.target.rkey.address, (uintptr_t)stage.target.base);
	ck_assert_uint_ne(stage.target.rkey.key, stage.inbox.rkey.key);
	post_write(&stage.near, &write, &stage.source, 0, LEN, stage.target.rkey);
	bed_wait(&stage.bed, write.reports == 1);
	ck_assert(area_holds_only(&stage.target, 1));
	stage_close();
}
END_TEST

START_TEST(counts_tell_of_waits_and_of_what_is_open)
{
	struct act send, receive;
	stage_open();
	struct fake_counts counts = fake_get_counts();
	ck_assert_uint_eq(counts.rails, 2);
	ck_assert_uint_eq(counts.cqs, 2);
	ck_assert_uint_eq(counts.lanes, 2);
	ck_assert_uint_eq(counts.memories, 3);
	ck_assert_uint_eq(counts.listeners, 1);
	ck_assert_uint_eq(counts.requests + counts.ops, 0);
	post_send(&stage.near, &send, &stage.source, 0, 8);
	bed_run(&stage.bed, KVI_MS);
	post_recv(&stage.far, &receive, &stage.inbox, 0, 8);
	ck_assert_uint_eq(fake_get_counts().ops, 2);
	bed_wait(&stage.bed, send.reports == 1);
	ck_assert_uint_eq(fake_get_counts().rnr_waits, 1);
	ck_assert_uint_eq(fake_get_counts().bytes, 8);
	stage_close();
}
END_TEST

START_TEST(a_held_request_does_not_reach_its_listener)
{
	struct bed bed;
	struct end near, far;
	bed_open(&bed);
	fake_hold(FAKE_CONNECT);
	end_request(&near, &bed, "hello", 5);
	bed_run(&bed, 5 * KVI_MS);
	ck_assert_ptr_null(kvi_listener_take(bed.listener));
	fake_hold(0);
	end_accept(&far, &bed, bed_take_request(&bed));
	bed_wait(&bed, near.connected_count == 1);
	end_close(&near);
	end_close(&far);
	bed_close(&bed);
}
END_TEST

/* ---- what aborts ---- */

enum misuse {
	POST_TWICE,
	POST_UNREGISTERED,
	POST_OUTSIDE,
	POST_FOREIGN_MEMORY,
	POST_TOO_LARGE,
	SEND_TOO_LARGE,
	CLOSE_USED_MEMORY,
	CLOSE_BUSY_CQ,
	CLOSE_BUSY_RAIL,
	MISUSE_COUNT,
};

static void misuse(enum misuse what)
{
	struct act act, other;
	struct kvi_lane *lane = stage.near.lane;
	struct area *source = &stage.source;
	struct kvi_rkey rkey = stage.target.rkey;
	act = (struct act){ .op.context = &act };
	switch (what) {
	case POST_TWICE:
		post_write(&stage.near, &act, source, 0, 8, rkey);
		kvi_lane_post_send(lane, &act.op, source->base, 8, source->memory, KVI_SIGNALLED);
		break;
	case POST_UNREGISTERED:
		kvi_lane_post_send(lane, &act.op, source->base, 8, NULL, KVI_SIGNALLED);
		break;
	case POST_OUTSIDE:
		kvi_lane_post_send(lane, &act.op, source->base + 1, LEN, source->memory,
				   KVI_SIGNALLED);
		break;
	case POST_FOREIGN_MEMORY:
		kvi_lane_post_send(lane, &act.op, stage.target.base, 8, stage.target.memory,
				   KVI_SIGNALLED);
		break;
	case POST_TOO_LARGE:
		try_write(&stage.near, &act, source, 0, LEN, rkey);
		break;
	case SEND_TOO_LARGE:
		post_recv(&stage.far, &act, &stage.inbox, 0, 8);
		post_send(&stage.near, &other, source, 0, 9);
		bed_run(&stage.bed, KVI_MS);
		break;
	case CLOSE_USED_MEMORY:
		post_write(&stage.near, &act, source, 0, 8, rkey);
		kvi_memory_close(source->memory);
		break;
	case CLOSE_BUSY_CQ:
		kvi_cq_close(stage.bed.near.cq);
		break;
	default:
		kvi_rail_close(stage.bed.near.rail);
	}
}

START_TEST(misuse_aborts)
{
	struct kvi_caps caps = fake_get_default_caps();
	caps.local_memory = true;
	caps.max_segment_len = LEN / 2;
	fake_set_caps(&caps);
	stage_open();
	misuse((enum misuse)_i);
}
END_TEST

/* The other kind of provider: hardware that moves data by itself and has its own keys. */
static void act_as_verbs(void)
{
	struct kvi_caps caps = fake_get_default_caps();
	caps.local_memory = true;
	caps.same_rkey = false;
	caps.own_domains = false;
	caps.send_after_write = false;
	caps.tx_count = 8;
	caps.max_segment_len = 65536;
	fake_set_caps(&caps);
	fake_set_auto_progress(true);
	fake_reorder(7);
	fake_set_late(true);
}

int main(void)
{
	Suite *suite = suite_create("the script of the fake");
	TCase *tests = tcase_create("script");
	tcase_add_test(tests, a_held_write_stops_between_its_chunks);
	tcase_add_test(tests, a_held_write_is_cut_by_a_close_on_either_side);
	tcase_add_test(tests, a_write_under_way_goes_on_after_its_memory_is_closed);
	tcase_add_test(tests, the_nth_post_open_and_completion_fail);
	tcase_add_test(tests, killed_lanes_are_lost_on_both_sides);
	tcase_add_test(tests, delayed_operations_arrive_late);
	tcase_add_test(tests, with_auto_progress_a_write_has_landed_when_the_post_returns);
	tcase_add_test(tests, reordering_changes_the_order_between_lanes_only);
	tcase_add_test(tests, sends_overtake_writes_where_caps_let_them);
	tcase_add_test(tests, keys_and_addresses_are_the_providers_where_rkeys_differ);
	tcase_add_test(tests, counts_tell_of_waits_and_of_what_is_open);
	tcase_add_test(tests, a_held_request_does_not_reach_its_listener);
	/* An abort ends the program where tests do not run in a child (CK_FORK=no, for sanitizers). */
	const char *fork_mode = getenv("CK_FORK");
	if (fork_mode == NULL || strcmp(fork_mode, "no") != 0)
		tcase_add_loop_test_raise_signal(tests, misuse_aborts, SIGABRT, 0, MISUSE_COUNT);
	suite_add_tcase(suite, tests);
	int status = run_conformance("fake", "lo", suite);
	act_as_verbs();
	return status | run_conformance("fake", "lo", NULL);
}
