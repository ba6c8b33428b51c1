/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_rma.c - writes and reads: what they promise when they succeed, and whom they harm when they may
 * not.
 */
#include "bed.h"

#include <stdlib.h>

enum { CANARY = 0xc5, SEGMENT_LEN_MAX = 64 << 20 };

START_TEST(a_write_that_completes_has_landed)
{
	static const size_t lens[] = { 1, 7, 4096, 65536, 1 << 20 };
	struct bed bed;
	struct end near, far;
	struct area source, target;
	bed_open(&bed);
	bed_connect(&bed, &near, &far);
	area_open(&source, &bed.near, 1 << 20, KVI_ACCESS_LOCAL, 0);
	area_open(&target, &bed.far, (1 << 20) + 16, KVI_ACCESS_REMOTE_WRITE, CANARY);
	for (uint32_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		size_t len = lens[i];
		struct kvi_rkey rkey = { target.rkey.address + 8, target.rkey.key };
		struct act act;
		if (len > bed.near.caps->max_segment_len)
			continue;
		memset(target.base, CANARY, target.len);
		fill_pattern(source.base, len, i);
		post_write(&near, &act, &source, 0, len, rkey);
		bed_wait(&bed, act.reports == 1);
		ck_assert_int_eq(act.completion.err, KVT_OK);
		ck_assert(holds_pattern(target.base + 8, len, i));
		ck_assert_uint_eq(target.base[7], CANARY);
		ck_assert_uint_eq(target.base[8 + len], CANARY);
	}
	end_close(&near);
	end_close(&far);
	area_close(&target);
	area_close(&source);
	bed_close(&bed);
}
END_TEST

START_TEST(a_read_fetches_the_bytes)
{
	static const size_t lens[] = { 1, 4096, 300000 };
	struct bed bed;
	struct end near, far;
	struct area result, source;
	bed_open(&bed);
	bed_connect(&bed, &near, &far);
	area_open(&result, &bed.near, 300000 + 16, KVI_ACCESS_LOCAL, 0);
	area_open(&source, &bed.far, 300000 + 16, KVI_ACCESS_REMOTE_READ, 0);
	for (uint32_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		struct kvi_rkey rkey = { source.rkey.address + 16, source.rkey.key };
		struct act act;
		if (lens[i] > bed.near.caps->max_segment_len)
			continue;
		memset(result.base, CANARY, result.len);
		fill_pattern(source.base + 16, lens[i], i);
		post_read(&near, &act, &result, 8, lens[i], rkey);
		bed_wait(&bed, act.reports == 1);
		ck_assert_int_eq(act.completion.err, KVT_OK);
		ck_assert(holds_pattern(result.base + 8, lens[i], i));
		ck_assert_uint_eq(result.base[7], CANARY);
		ck_assert_uint_eq(result.base[8 + lens[i]], CANARY);
	}
	end_close(&near);
	end_close(&far);
	area_close(&source);
	area_close(&result);
	bed_close(&bed);
}
END_TEST

START_TEST(what_moves_on_a_lane_is_seen_from_both_ends)
{
	struct bed bed;
	struct end near, far;
	struct area source, target;
	struct kvi_flow flows[2];
	bed_open(&bed);
	bed_connect(&bed, &near, &far);
	area_open(&source, &bed.near, 4096, KVI_ACCESS_LOCAL, 0);
	area_open(&target, &bed.far, 4096, KVI_ACCESS_REMOTE_WRITE, CANARY);
	kvi_lane_get_flow(near.lane, &flows[0]);
	kvi_lane_get_flow(far.lane, &flows[1]);
	uint64_t before[] = { kvi_flow_get_moved(&flows[0]), kvi_flow_get_moved(&flows[1]) };
	struct act act;
	post_write(&near, &act, &source, 0, 4096, target.rkey);
	bed_wait(&bed, act.reports == 1);
	/* Of other providers nobody tells. */
	bool is_told = strcmp(bed.near.caps->provider, "tcp") == 0 ||
		       strcmp(bed.near.caps->provider, "fake") == 0;
	for (unsigned i = 0; i < 2; i++) {
		uint64_t moved = kvi_flow_get_moved(&flows[i]) - before[i];
		ck_assert(is_told ? moved >= 4096 : moved == 0);
	}
	end_close(&near);
	end_close(&far);
	ck_assert_uint_eq(kvi_flow_get_moved(&flows[0]), 0);
	area_close(&target);
	area_close(&source);
	bed_close(&bed);
}
END_TEST

START_TEST(a_segment_may_be_as_large_as_the_rail_says)
{
	struct bed bed;
	struct end near, far;
	struct area source, target;
	struct act write, read;
	bed_open(&bed);
	bed_connect(&bed, &near, &far);
	size_t len = bed_get_segment_len(&bed, SEGMENT_LEN_MAX);
	area_open(&source, &bed.near, len, KVI_ACCESS_LOCAL, 0);
	area_open(&target, &bed.far, len, KVI_ACCESS_REMOTE_WRITE | KVI_ACCESS_REMOTE_READ, 0);
	fill_pattern(source.base, len, 9);
	post_write(&near, &write, &source, 0, len, target.rkey);
	bed_wait(&bed, write.reports == 1);
	ck_assert_int_eq(write.completion.err, KVT_OK);
	ck_assert(memcmp(source.base, target.base, len) == 0);

	fill_pattern(target.base, len, 10);
	post_read(&near, &read, &source, 0, len, target.rkey);
	bed_wait(&bed, read.reports == 1);
	ck_assert_int_eq(read.completion.err, KVT_OK);
	ck_assert(memcmp(source.base, target.base, len) == 0);
	end_close(&near);
	end_close(&far);
	area_close(&target);
	area_close(&source);
	bed_close(&bed);
}
END_TEST

START_TEST(a_send_behind_writes_arrives_after_them_where_the_rail_says_so)
{
	enum { COUNT = 8, ROUNDS = 10 };
	struct bed bed;
	struct end near, far;
	struct area source, target, inbox;
	bed_open(&bed);
	if (!bed.near.caps->send_after_write) {
		bed_close(&bed);
		return;
	}
	size_t len = bed_get_segment_len(&bed, 256 << 10);
	bed_connect(&bed, &near, &far);
	area_open(&source, &bed.near, len, KVI_ACCESS_LOCAL, 0);
	area_open(&target, &bed.far, COUNT * len, KVI_ACCESS_REMOTE_WRITE, 0);
	area_open(&inbox, &bed.far, 8, KVI_ACCESS_LOCAL, 0);
	for (uint32_t round = 0; round < ROUNDS; round++) {
		struct act writes[COUNT], send, receive;
		memset(target.base, 0, target.len);
		fill_pattern(source.base, len, round);
		post_recv(&far, &receive, &inbox, 0, 8);
		for (size_t i = 0; i < COUNT; i++) {
			struct kvi_rkey rkey = { target.rkey.address + i * len, target.rkey.key };
			post_write(&near, &writes[i], &source, 0, len, rkey);
		}
		post_send(&near, &send, &source, 0, 8);
		bed_wait(&bed, receive.reports == 1);
		for (size_t i = 0; i < COUNT; i++)
			ck_assert(memcmp(target.base + i * len, source.base, len) == 0);
		bed_wait(&bed, send.reports == 1 && count_reported(writes, COUNT) == COUNT);
	}
	end_close(&near);
	end_close(&far);
	area_close(&inbox);
	area_close(&target);
	area_close(&source);
	bed_close(&bed);
}
END_TEST

/* What is wrong with the wrong operation below. */
enum wrong {
	WRONG_KEY,
	BEYOND_THE_END,
	BEFORE_THE_START,
	READ_ONLY_MEMORY,
	WRITE_ONLY_MEMORY,
	CLOSED_MEMORY,
	WRONG_COUNT,
};

static void post_wrong(enum wrong wrong, struct end *near, struct act *act, struct area *source,
		       struct area *target)
{
	struct kvi_rkey rkey = target->rkey;
	if (wrong == WRONG_KEY)
		rkey.key ^= 0x5a5a;
	else if (wrong == BEYOND_THE_END)
		rkey.address += target->len - 8;
	else if (wrong == BEFORE_THE_START)
		rkey.address -= 8;
	else if (wrong == CLOSED_MEMORY)
		kvi_memory_close(target->memory);
	if (wrong == CLOSED_MEMORY)
		target->memory = NULL;
	if (wrong == WRITE_ONLY_MEMORY)
		post_read(near, act, source, 0, 16, rkey);
	else
		post_write(near, act, source, 0, 16, rkey);
}

START_TEST(an_operation_without_the_right_fails_and_harms_its_own_lane_only)
{
	enum wrong wrong = (enum wrong)_i;
	unsigned access = wrong == READ_ONLY_MEMORY ? KVI_ACCESS_REMOTE_READ
						    : KVI_ACCESS_REMOTE_WRITE;
	struct bed bed;
	struct end bad_near, bad_far, good_near, good_far;
	struct area source, target, good_target, neighbour;
	struct act bad, good;
	bed_open(&bed);
	bed_connect(&bed, &bad_near, &bad_far);
	bed_connect(&bed, &good_near, &good_far);
	area_open(&source, &bed.near, 4096, KVI_ACCESS_LOCAL, 1);
	area_open(&target, &bed.far, 4096, access, CANARY);
	area_open(&good_target, &bed.far, 4096, KVI_ACCESS_REMOTE_WRITE, 0);
	area_open(&neighbour, &bed.far, 4096, KVI_ACCESS_LOCAL, CANARY);

	post_wrong(wrong, &bad_near, &bad, &source, &target);
	bed_wait(&bed, bad.reports == 1);
	ck_assert_msg(is_lost(&bad), "the operation ended with %s",
		      kvt_err_get_name(bad.completion.err));
	ck_assert(area_holds_only(&target, CANARY));
	ck_assert(area_holds_only(&neighbour, CANARY));
	ck_assert(area_holds_only(&source, 1));

	post_write(&good_near, &good, &source, 0, 4096, good_target.rkey);
	bed_wait(&bed, good.reports == 1);
	ck_assert_int_eq(good.completion.err, KVT_OK);
	ck_assert(area_holds_only(&good_target, 1));
	ck_assert_uint_eq(good_near.lost_count + good_far.lost_count, 0);

	end_close(&bad_near);
	end_close(&bad_far);
	end_close(&good_near);
	end_close(&good_far);
	area_close(&neighbour);
	area_close(&good_target);
	area_close(&target);
	area_close(&source);
	bed_close(&bed);
}
END_TEST

TCase *make_rma_tests(void)
{
	TCase *tests = tcase_create("rma");
	tcase_add_test(tests, a_write_that_completes_has_landed);
	tcase_add_test(tests, a_read_fetches_the_bytes);
	tcase_add_test(tests, what_moves_on_a_lane_is_seen_from_both_ends);
	tcase_add_test(tests, a_segment_may_be_as_large_as_the_rail_says);
	tcase_add_test(tests, a_send_behind_writes_arrives_after_them_where_the_rail_says_so);
	tcase_add_loop_test(tests, an_operation_without_the_right_fails_and_harms_its_own_lane_only,
			    0, WRONG_COUNT);
	return tests;
}
