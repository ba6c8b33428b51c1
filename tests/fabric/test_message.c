/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_message.c - sends and receives: order, lengths, and the limits of what may be posted.
 */
#include "bed.h"

#include <stdlib.h>

START_TEST(sends_arrive_in_order_with_their_lengths)
{
	enum { COUNT = 200, SLOTS = 16, SLOT_LEN = 4096 };
	static struct act sends[COUNT], receives[COUNT];
	struct bed bed;
	struct end near, far;
	struct area source, inbox;
	bed_open(&bed);
	bed_connect(&bed, &near, &far);
	area_open(&source, &bed.near, SLOT_LEN, KVI_ACCESS_LOCAL, 0);
	area_open(&inbox, &bed.far, SLOTS * SLOT_LEN, KVI_ACCESS_LOCAL, 0);
	fill_pattern(source.base, SLOT_LEN, 1);
	for (unsigned i = 0; i < SLOTS; i++)
		post_recv(&far, &receives[i], &inbox, i * SLOT_LEN, SLOT_LEN);

	unsigned sent = 0;
	for (unsigned i = 0; i < COUNT; i++) {
		for (; sent < COUNT && sent < i + SLOTS; sent++)
			post_send(&near, &sends[sent], &source, 0, 1 + sent * 997 % SLOT_LEN);
		bed_wait(&bed, receives[i].reports == 1);
		const uint8_t *slot = inbox.base + i % SLOTS * SLOT_LEN;
		size_t len = receives[i].completion.len;
		ck_assert_int_eq(receives[i].completion.err, KVT_OK);
		ck_assert_uint_eq(len, 1 + i * 997 % SLOT_LEN);
		ck_assert(holds_pattern(slot, len, 1));
		if (i > 0)
			ck_assert_uint_gt(receives[i].order, receives[i - 1].order);
		if (i + SLOTS < COUNT)
			post_recv(&far, &receives[i + SLOTS], &inbox, i % SLOTS * SLOT_LEN,
				  SLOT_LEN);
	}
	bed_wait(&bed, count_reported(sends, COUNT) == COUNT);
	for (unsigned i = 0; i < COUNT; i++)
		ck_assert_int_eq(sends[i].completion.err, KVT_OK);
	end_close(&near);
	end_close(&far);
	area_close(&inbox);
	area_close(&source);
	bed_close(&bed);
}
END_TEST

START_TEST(both_ends_send_at_once)
{
	enum { COUNT = 64 };
	static struct act sends[2][COUNT], receives[2][COUNT];
	struct bed bed;
	struct end ends[2];
	struct area sources[2], inboxes[2];
	bed_open(&bed);
	bed_connect(&bed, &ends[0], &ends[1]);
	for (unsigned side = 0; side < 2; side++) {
		area_open(&sources[side], ends[side].side, COUNT, KVI_ACCESS_LOCAL, 0);
		area_open(&inboxes[side], ends[side].side, COUNT, KVI_ACCESS_LOCAL, 0);
		fill_pattern(sources[side].base, COUNT, side);
	}
	for (unsigned i = 0; i < 2 * COUNT; i++)
		post_recv(&ends[i % 2], &receives[i % 2][i / 2], &inboxes[i % 2], i / 2, 1);
	for (unsigned i = 0; i < 2 * COUNT; i++)
		post_send(&ends[i % 2], &sends[i % 2][i / 2], &sources[i % 2], i / 2, 1);
	for (unsigned side = 0; side < 2; side++) {
		bed_wait(&bed, count_reported(sends[side], COUNT) == COUNT);
		bed_wait(&bed, count_reported(receives[side], COUNT) == COUNT);
		ck_assert(holds_pattern(inboxes[side].base, COUNT, 1 - side));
		end_close(&ends[side]);
	}
	for (unsigned side = 0; side < 2; side++) {
		area_close(&sources[side]);
		area_close(&inboxes[side]);
	}
	bed_close(&bed);
}
END_TEST

START_TEST(a_message_may_be_empty)
{
	struct bed bed;
	struct end near, far;
	struct area source, inbox;
	struct act sends[2], receives[2];
	bed_open(&bed);
	bed_connect(&bed, &near, &far);
	area_open(&source, &bed.near, 64, KVI_ACCESS_LOCAL, 1);
	area_open(&inbox, &bed.far, 64, KVI_ACCESS_LOCAL, 2);
	post_recv(&far, &receives[0], &inbox, 0, 32);
	post_recv(&far, &receives[1], &inbox, 32, 32);
	post_send(&near, &sends[0], &source, 0, 0);
	post_send(&near, &sends[1], &source, 0, 7);
	bed_wait(&bed, count_reported(receives, 2) == 2 && count_reported(sends, 2) == 2);
	ck_assert_int_eq(receives[0].completion.err, KVT_OK);
	ck_assert_uint_eq(receives[0].completion.len, 0);
	ck_assert_int_eq(sends[0].completion.err, KVT_OK);
	ck_assert_uint_eq(receives[1].completion.len, 7);
	ck_assert_uint_eq(inbox.base[0], 2);
	ck_assert_uint_eq(inbox.base[32], 1);
	end_close(&near);
	end_close(&far);
	area_close(&inbox);
	area_close(&source);
	bed_close(&bed);
}
END_TEST

START_TEST(a_send_waits_for_its_receive)
{
	struct bed bed;
	struct end near, far;
	struct area source, inbox;
	struct act send, receive;
	bed_open(&bed);
	bed_connect(&bed, &near, &far);
	area_open(&source, &bed.near, 64, KVI_ACCESS_LOCAL, 1);
	area_open(&inbox, &bed.far, 64, KVI_ACCESS_LOCAL, 2);
	post_send(&near, &send, &source, 0, 64);
	bed_run(&bed, 50 * KVI_MS);
	ck_assert_uint_eq(near.lost_count + far.lost_count, 0);
	post_recv(&far, &receive, &inbox, 0, 64);
	bed_wait(&bed, receive.reports == 1 && send.reports == 1);
	ck_assert_int_eq(receive.completion.err, KVT_OK);
	ck_assert_int_eq(send.completion.err, KVT_OK);
	ck_assert(area_holds_only(&inbox, 1));
	end_close(&near);
	end_close(&far);
	area_close(&inbox);
	area_close(&source);
	bed_close(&bed);
}
END_TEST

START_TEST(posts_beyond_tx_count_give_again_and_go_on_after_polls)
{
	struct bed bed;
	struct end near, far;
	struct area source, target;
	bed_open(&bed);
	bed_connect(&bed, &near, &far);
	size_t tx_count = bed.near.caps->tx_count;
	struct act *acts = calloc(tx_count + 1, sizeof(*acts));
	area_open(&source, &bed.near, 4096, KVI_ACCESS_LOCAL, 1);
	area_open(&target, &bed.far, 4096, KVI_ACCESS_REMOTE_WRITE, 0);

	for (unsigned round = 0; round < 3; round++) {
		size_t count = 0;
		enum kvt_err err = KVT_OK;
		while (err == KVT_OK && count <= tx_count) {
			err = try_write(&near, &acts[count], &source, 0, 4096, target.rkey);
			count += err == KVT_OK;
		}
		ck_assert_int_eq(err, KVT_E_AGAIN);
		ck_assert_uint_ge(count, 1);
		ck_assert_uint_le(count, tx_count);
		bed_wait(&bed, count_reported(acts, count) == count);
		for (size_t i = 0; i < count; i++)
			ck_assert_int_eq(acts[i].completion.err, KVT_OK);
	}
	ck_assert(area_holds_only(&target, 1));
	end_close(&near);
	end_close(&far);
	area_close(&target);
	area_close(&source);
	bed_close(&bed);
	free(acts);
}
END_TEST

START_TEST(receives_up_to_rx_count_may_be_posted_before_connecting)
{
	struct bed bed;
	struct end near, far;
	struct area source, inbox;
	bed_open(&bed);
	size_t count = bed.near.caps->rx_count < 512 ? bed.near.caps->rx_count : 512;
	struct act *receives = calloc(count, sizeof(*receives));
	struct act *sends = calloc(count, sizeof(*sends));
	area_open(&source, &bed.far, count, KVI_ACCESS_LOCAL, 0);
	area_open(&inbox, &bed.near, count, KVI_ACCESS_LOCAL, 0);
	fill_pattern(source.base, count, 3);

	uint8_t address[KVI_ADDRESS_LEN_MAX];
	size_t address_len = kvi_listener_get_address(bed.listener, address);
	end_open(&near, &bed.near, address, address_len, NULL);
	for (size_t i = 0; i < count; i++) {
		receives[i].op.context = &receives[i];
		ck_assert_int_eq(kvi_lane_post_recv(near.lane, &receives[i].op, inbox.base + i, 1,
						    inbox.memory),
				 KVT_OK);
	}
	ck_assert_int_eq(kvi_lane_connect(near.lane, NULL, 0, NULL), KVT_OK);
	end_accept(&far, &bed, bed_take_request(&bed));
	bed_wait(&bed, near.connected_count == 1 && far.connected_count == 1);
	for (size_t i = 0; i < count; i++) {
		post_send(&far, &sends[i], &source, i, 1);
		side_poll(&bed.near);
	}
	bed_wait(&bed, count_reported(receives, count) == count);
	bed_wait(&bed, count_reported(sends, count) == count);
	ck_assert(holds_pattern(inbox.base, count, 3));
	end_close(&near);
	end_close(&far);
	area_close(&inbox);
	area_close(&source);
	bed_close(&bed);
	free(receives);
	free(sends);
}
END_TEST

/* What comes behind it tells: a send, or an operation on memory, in each of the rounds. */
START_TEST(an_unsignalled_send_is_reported_with_what_comes_behind_it)
{
	enum { COUNT = 8, ROUNDS = 3, LEN = 1024 };
	struct bed bed;
	struct end near, far;
	struct area source, inbox, target;
	static struct act sends[COUNT], receives[COUNT + 1], last;
	bed_open(&bed);
	bed_connect(&bed, &near, &far);
	area_open(&source, &bed.near, LEN, KVI_ACCESS_LOCAL, 1);
	area_open(&inbox, &bed.far, (COUNT + 1) * LEN, KVI_ACCESS_LOCAL, 0);
	area_open(&target, &bed.far, LEN, KVI_ACCESS_REMOTE_WRITE | KVI_ACCESS_REMOTE_READ, 1);
	for (unsigned round = 0; round < ROUNDS; round++) {
		memset(inbox.base, 0, inbox.len);
		size_t count = round == 0 ? COUNT + 1 : COUNT;
		for (size_t i = 0; i < count; i++)
			post_recv(&far, &receives[i], &inbox, i * LEN, LEN);
		for (size_t i = 0; i < COUNT; i++)
			post_unsignalled(&near, &sends[i], &source, 0, LEN);
		bed_wait(&bed, count_reported(receives, COUNT) == COUNT);
		if (round == 0)
			post_send(&near, &last, &source, 0, LEN);
		else if (round == 1)
			post_write(&near, &last, &source, 0, LEN, target.rkey);
		else
			post_read(&near, &last, &source, 0, LEN, target.rkey);
		bed_wait(&bed, last.reports == 1 && count_reported(sends, COUNT) == COUNT);
		for (size_t i = 0; i < COUNT; i++) {
			ck_assert_int_eq(sends[i].completion.err, KVT_OK);
			ck_assert_uint_lt(sends[i].order, last.order);
			ck_assert(i == 0 || sends[i].order > sends[i - 1].order);
		}
		bed_wait(&bed, count_reported(receives, count) == count);
		for (size_t i = 0; i < count; i++)
			ck_assert_uint_eq(inbox.base[i * LEN], 1);
	}
	end_close(&near);
	end_close(&far);
	area_close(&target);
	area_close(&inbox);
	area_close(&source);
	bed_close(&bed);
}
END_TEST

/* Before and behind a signalled one, some that arrive, and some that cannot any more. */
START_TEST(an_unsignalled_send_is_reported_when_its_lane_ends)
{
	enum { COUNT = 6, LEN = 1024 };
	bool by_peer = _i == 1;
	struct bed bed;
	struct end near, far;
	struct area source, inbox;
	static struct act sends[COUNT], receives[COUNT];
	bed_open(&bed);
	bed_connect(&bed, &near, &far);
	area_open(&source, &bed.near, LEN, KVI_ACCESS_LOCAL, 1);
	area_open(&inbox, &bed.far, COUNT * LEN, KVI_ACCESS_LOCAL, 0);
	for (size_t i = 0; i < COUNT / 2; i++)
		post_recv(&far, &receives[i], &inbox, i * LEN, LEN);
	for (size_t i = 0; i < COUNT; i++)
		post_unsignalled(&near, &sends[i], &source, 0, LEN);
	bed_wait(&bed, count_reported(receives, COUNT / 2) == COUNT / 2);
	end_close(by_peer ? &far : &near);
	bed_wait(&bed, count_reported(sends, COUNT) == COUNT);
	for (size_t i = 0; i < COUNT; i++)
		ck_assert(sends[i].completion.err == KVT_OK || is_lost(&sends[i]) ||
			  (!by_peer && sends[i].completion.err == KVT_E_CANCELLED));
	end_close(by_peer ? &near : &far);
	area_close(&inbox);
	area_close(&source);
	bed_close(&bed);
}
END_TEST

TCase *make_message_tests(void)
{
	TCase *tests = tcase_create("message");
	tcase_add_test(tests, sends_arrive_in_order_with_their_lengths);
	tcase_add_test(tests, both_ends_send_at_once);
	tcase_add_test(tests, a_message_may_be_empty);
	tcase_add_test(tests, a_send_waits_for_its_receive);
	tcase_add_test(tests, an_unsignalled_send_is_reported_with_what_comes_behind_it);
	tcase_add_loop_test(tests, an_unsignalled_send_is_reported_when_its_lane_ends, 0, 2);
	tcase_add_test(tests, posts_beyond_tx_count_give_again_and_go_on_after_polls);
	tcase_add_test(tests, receives_up_to_rx_count_may_be_posted_before_connecting);
	return tests;
}
