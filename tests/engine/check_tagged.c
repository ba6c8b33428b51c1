/* SPDX-License-Identifier: Apache-2.0 */
/* check_tagged.c - what send and receive do when nothing goes wrong, and when sizes do not fit. */
#include "bed.h"

#include <stdlib.h>

#include "support/runner.h"

static struct bed bed;

static const size_t lens[] = { 0, 1, 4096, 65536, 65537, 1 << 20, (3 << 20) + 5 };
enum { LEN_COUNT = sizeof(lens) / sizeof(lens[0]) };

START_TEST(a_receive_that_waits_gets_the_message_whatever_its_size)
{
	bed_open(&bed, NULL);
	struct kvt_kv *near = open_kv(bed.near.conn, 7), *far = open_kv(bed.far.conn, 7);
	for (uint32_t round = 0; round < 3; round++) {
		exchange(near, far, lens[_i], 2 * round);
		exchange(far, near, lens[_i], 2 * round + 1);
	}
	kvt_kv_close(near);
	kvt_kv_close(far);
	bed_close(&bed);
}
END_TEST

START_TEST(a_message_waits_for_its_receive_whatever_its_size)
{
	size_t len = lens[_i];
	uint8_t *source = make_pattern(len, 1), *target = make_filled(len, 0);
	bed_open(&bed, NULL);
	struct kvt_kv *near = open_kv(bed.near.conn, 7), *far = open_kv(bed.far.conn, 7);
	struct kvt_transfer *send = start_send(near, source, len);
	if (len <= 65536)
		await(send, KVT_OK); /* the receiver's engine has it */
	else
		expect_pending(send, 20 * KVI_MS);
	ck_assert_uint_eq(finish(start_recv(far, target, len), KVT_OK), len);
	finish(send, KVT_OK);
	ck_assert(holds_pattern(target, len, 1));
	kvt_kv_close(near);
	kvt_kv_close(far);
	bed_close(&bed);
	free(source);
	free(target);
}
END_TEST

START_TEST(messages_of_a_kv_keep_their_order_across_sizes)
{
	enum { COUNT = 60 };
	struct kvt_transfer *sends[COUNT], *receives[COUNT];
	uint8_t *sources[COUNT], *targets[COUNT];
	bed_open(&bed, NULL);
	fake_set_late(_i == 1);
	struct kvt_kv *near = open_kv(bed.near.conn, 7), *far = open_kv(bed.far.conn, 7);
	for (unsigned i = 0; i < COUNT; i++) {
		size_t len = lens[i * 5 % 6] / 2 + i;
		sources[i] = make_pattern(len, i);
		targets[i] = make_filled(1 << 20, 0);
		sends[i] = start_send(near, sources[i], len);
		/* Half of the receives are there first. */
		receives[i] = i % 2 == 0 ? start_recv(far, targets[i], 1 << 20) : NULL;
		if (i % 2 == 1) {
			receives[i] = start_recv(far, targets[i], 1 << 20);
			rest(KVI_MS / 2);
		}
	}
	for (unsigned i = 0; i < COUNT; i++) {
		size_t len = lens[i * 5 % 6] / 2 + i;
		finish(sends[i], KVT_OK);
		ck_assert_uint_eq(finish(receives[i], KVT_OK), len);
		ck_assert(holds_pattern(targets[i], len, i));
		free(sources[i]);
		free(targets[i]);
	}
	kvt_kv_close(near);
	kvt_kv_close(far);
	bed_close(&bed);
}
END_TEST

START_TEST(a_kv_whose_message_nobody_takes_does_not_block_another)
{
	uint8_t *source = make_pattern(LARGE_LEN, 1), *target = make_filled(LARGE_LEN, 0);
	bed_open(&bed, NULL);
	struct kvt_kv *near = open_kv(bed.near.conn, 1), *far = open_kv(bed.far.conn, 1);
	struct kvt_kv *near_other = open_kv(bed.near.conn, 2),
		      *far_other = open_kv(bed.far.conn, 2);
	struct kvt_transfer *send = start_send(near, source, LARGE_LEN);
	exchange(near_other, far_other, 100, 2);
	exchange(near_other, far_other, LARGE_LEN, 3);
	exchange(far_other, near_other, LARGE_LEN, 4);
	ck_assert(!kvt_transfer_is_done(send));
	ck_assert_uint_eq(finish(start_recv(far, target, LARGE_LEN), KVT_OK), LARGE_LEN);
	finish(send, KVT_OK);
	ck_assert(holds_pattern(target, LARGE_LEN, 1));
	struct kvt_kv *kvs[] = { near, far, near_other, far_other };
	for (unsigned i = 0; i < 4; i++)
		kvt_kv_close(kvs[i]);
	bed_close(&bed);
	free(source);
	free(target);
}
END_TEST

START_TEST(an_early_cts_is_void_when_an_eager_message_comes)
{
	uint8_t *target = make_filled(LARGE_LEN, 0), *source = make_pattern(LARGE_LEN, 2);
	uint8_t small[] = { 1, 2, 3 };
	bed_open(&bed, NULL);
	struct kvt_kv *near = open_kv(bed.near.conn, 7), *far = open_kv(bed.far.conn, 7);
	struct kvt_transfer *receive = start_recv(far, target, LARGE_LEN);
	wait_until(fake_get_counts().memories == 1);
	rest(5 * KVI_MS); /* the CTS is with the sender */
	finish(start_send(near, small, 3), KVT_OK);
	ck_assert_uint_eq(finish(receive, KVT_OK), 3);
	ck_assert_int_eq(memcmp(target, small, 3), 0);
	ck_assert_uint_eq(fake_get_counts().memories, 0);

	/* And when it crosses the CTS. */
	for (unsigned i = 0; i < 20; i++) {
		receive = start_recv(far, target, LARGE_LEN);
		finish(start_send(near, small, 3), KVT_OK);
		ck_assert_uint_eq(finish(receive, KVT_OK), 3);
	}
	exchange(near, far, LARGE_LEN, 5);
	kvt_kv_close(near);
	kvt_kv_close(far);
	bed_close(&bed);
	free(source);
	free(target);
}
END_TEST

START_TEST(a_message_too_large_stays_for_a_larger_receive)
{
	static const size_t sent[] = { 1000, LARGE_LEN, LARGE_LEN };
	static const size_t allowed[] = { 999, 4096,
					  LARGE_LEN - 1 }; /* the last one sends an early CTS */
	size_t len = sent[_i];
	uint8_t *source = make_pattern(len, 1), *target = make_filled(len, 0);
	bed_open(&bed, NULL);
	struct kvt_kv *near = open_kv(bed.near.conn, 7), *far = open_kv(bed.far.conn, 7);
	struct kvt_transfer *receive = start_recv(far, target, allowed[_i]);
	rest(5 * KVI_MS);
	struct kvt_transfer *send = start_send(near, source, len);
	ck_assert_uint_eq(finish(receive, KVT_E_TOO_LARGE), len);
	ck_assert_uint_eq(finish(start_recv(far, NULL, allowed[_i]), KVT_E_TOO_LARGE), len);
	ck_assert(holds_only(target, len, 0));
	ck_assert_uint_eq(finish(start_recv(far, target, len), KVT_OK), len);
	finish(send, KVT_OK);
	ck_assert(holds_pattern(target, len, 1));
	exchange(near, far, len, 2);
	kvt_kv_close(near);
	kvt_kv_close(far);
	bed_close(&bed);
	free(source);
	free(target);
}
END_TEST

START_TEST(a_sender_that_was_refused_learns_why_it_timed_out)
{
	uint8_t *source = make_pattern(LARGE_LEN, 1), *target = make_filled(LARGE_LEN, 0);
	bed_open(&bed, NULL);
	struct kvt_kv *near = open_kv(bed.near.conn, 7), *far = open_kv(bed.far.conn, 7);
	struct kvt_kv *near_other = open_kv(bed.near.conn, 8),
		      *far_other = open_kv(bed.far.conn, 8);
	struct kvt_transfer *send = start_send(near, source, LARGE_LEN);
	finish(start_recv(far, target, 4096), KVT_E_TOO_LARGE);
	exchange(far_other, near_other, 10, 1); /* behind the refusal, on the only lane */
	expire(send);
	struct kvt_result result = await(send, KVT_E_TOO_LARGE);
	ck_assert_ptr_nonnull(strstr(result.text, "4096"));
	kvt_transfer_free(send);
	/* The next receive takes the next message, once the ABORT of this one has come: before that it
	 * would take this one, and end with it. */
	exchange(near_other, far_other, 10, 1);
	exchange(near, far, LARGE_LEN, 2);
	kvt_kv_close(near);
	kvt_kv_close(far);
	kvt_kv_close(near_other);
	kvt_kv_close(far_other);
	bed_close(&bed);
	free(source);
	free(target);
}
END_TEST

START_TEST(meta_travels_with_its_message)
{
	static const size_t data_lens[] = { 0, 100, 65536, LARGE_LEN };
	struct kvt_engine_config config = make_config();
	if (_i >= 4)
		config.eager_len = KVT_NO_EAGER;
	size_t len = data_lens[_i % 4];
	uint8_t *source = make_pattern(len, 1), *target = make_filled(len, 0);
	uint8_t *meta = make_pattern(KVT_META_LEN_MAX, 3);
	bed_open(&bed, &config);
	struct kvt_kv *near = open_kv(bed.near.conn, 7), *far = open_kv(bed.far.conn, 7);
	for (int receive_first = 0; receive_first < 2; receive_first++) {
		struct kvt_transfer *send, *receive = NULL;
		struct kvt_send_request request = KVT_SEND_REQUEST_INIT;
		request.base = source;
		request.len = len;
		request.meta = meta;
		request.meta_len = KVT_META_LEN_MAX;
		if (receive_first)
			receive = start_recv(far, target, len);
		ck_assert_int_eq(kvt_send_start(near, &request, &send, NULL), KVT_OK);
		if (receive == NULL)
			receive = start_recv(far, target, len);
		struct kvt_result result = await(receive, KVT_OK);
		ck_assert_uint_eq(result.len, len);
		ck_assert_uint_eq(result.meta_len, KVT_META_LEN_MAX);
		ck_assert(holds_pattern(result.meta, KVT_META_LEN_MAX, 3));
		kvt_transfer_free(receive);
		finish(send, KVT_OK);
	}
	kvt_kv_close(near);
	kvt_kv_close(far);
	bed_close(&bed);
	free(source);
	free(target);
	free(meta);
}
END_TEST

START_TEST(the_engine_allocates_what_a_receive_without_memory_needs)
{
	bed_open(&bed, NULL);
	struct kvt_kv *near = open_kv(bed.near.conn, 7), *far = open_kv(bed.far.conn, 7);
	for (unsigned i = 0; i < LEN_COUNT; i++) {
		uint8_t *source = make_pattern(lens[i], i);
		struct kvt_transfer *receive = start_recv(far, NULL, SIZE_MAX);
		finish(start_send(near, source, lens[i]), KVT_OK);
		ck_assert_uint_eq(await(receive, KVT_OK).len, lens[i]);
		uint8_t *data = kvt_transfer_take_data(receive);
		ck_assert_int_eq(data == NULL, lens[i] == 0);
		ck_assert(holds_pattern(data, lens[i], i));
		ck_assert_ptr_null(kvt_transfer_take_data(receive));
		kvt_transfer_free(receive);
		failing_alloc_forget(data);
		free(data);

		/* Not taken: freed with the transfer. */
		struct kvt_transfer *send = start_send(near, source, lens[i]);
		finish(start_recv(far, NULL, lens[i]), KVT_OK);
		finish(send, KVT_OK);
		free(source);
	}
	kvt_kv_close(near);
	kvt_kv_close(far);
	bed_close(&bed);
}
END_TEST

START_TEST(a_receive_that_times_out_before_its_message_loses_nothing)
{
	size_t len = _i == 0 ? 100 : LARGE_LEN;
	uint8_t *source = make_pattern(len, 1), *target = make_filled(LARGE_LEN, 0);
	bed_open(&bed, NULL);
	struct kvt_kv *near = open_kv(bed.near.conn, 7), *far = open_kv(bed.far.conn, 7);
	finish(start_recv_within(far, target, len, 20 * KVI_MS), KVT_E_TIMEOUT);
	finish(start_recv_within(far, target, LARGE_LEN, 20 * KVI_MS),
	       KVT_E_TIMEOUT); /* had sent an early CTS */
	struct kvt_transfer *send = start_send(near, source, len);
	rest(20 * KVI_MS);
	ck_assert(holds_only(target, LARGE_LEN, 0));
	ck_assert_uint_eq(finish(start_recv(far, target, LARGE_LEN), KVT_OK), len);
	finish(send, KVT_OK);
	ck_assert(holds_pattern(target, len, 1));
	kvt_kv_close(near);
	kvt_kv_close(far);
	bed_close(&bed);
	free(source);
	free(target);
}
END_TEST

START_TEST(a_send_that_gives_up_before_its_receive_is_skipped)
{
	uint8_t *source = make_pattern(LARGE_LEN, 1), *target = make_filled(LARGE_LEN, 0);
	bed_open(&bed, NULL);
	struct kvt_kv *near = open_kv(bed.near.conn, 7), *far = open_kv(bed.far.conn, 7);
	struct kvt_kv *near_other = open_kv(bed.near.conn, 8),
		      *far_other = open_kv(bed.far.conn, 8);
	finish(start_send_within(near, source, LARGE_LEN, 20 * KVI_MS), KVT_E_TIMEOUT);
	struct kvt_transfer *cancelled = start_send(near, source, LARGE_LEN);
	kvt_transfer_cancel(cancelled);
	finish(cancelled, KVT_E_CANCELLED);
	/* Behind what was said of both on the only lane. A receive from before would be for the first. */
	exchange(near_other, far_other, 10, 1);
	exchange(near, far, LARGE_LEN, 2);
	exchange(near, far, 10, 3);
	kvt_kv_close(near);
	kvt_kv_close(far);
	kvt_kv_close(near_other);
	kvt_kv_close(far_other);
	bed_close(&bed);
	free(source);
	free(target);
}
END_TEST

START_TEST(wrong_requests_are_refused_with_a_sentence)
{
	struct kvt_transfer *transfer = NULL;
	struct kvt_error error;
	uint8_t byte = 0;
	bed_open(&bed, NULL);
	struct kvt_kv *kv = open_kv(bed.near.conn, 7);
	struct kvt_send_request good = KVT_SEND_REQUEST_INIT, bad = good;
	bad.meta = &byte;
	bad.meta_len = KVT_META_LEN_MAX + 1;
	ck_assert_int_eq(kvt_send_start(kv, &bad, &transfer, &error), KVT_E_INVALID);
	ck_assert_ptr_nonnull(strstr(error.text, "4096"));
	bad = good;
	bad.len = 1;
	ck_assert_int_eq(kvt_send_start(kv, &bad, &transfer, &error), KVT_E_INVALID);
	bad = good;
	bad.timeout_ns = -1;
	ck_assert_int_eq(kvt_send_start(kv, &bad, &transfer, &error), KVT_E_INVALID);
	bad = good;
	bad.size--;
	ck_assert_int_eq(kvt_send_start(kv, &bad, &transfer, NULL), KVT_E_INVALID);
	ck_assert_int_eq(kvt_recv_start(NULL, NULL, &transfer, &error), KVT_E_INVALID);

	struct kvt_kv_config config = KVT_KV_CONFIG_INIT;
	struct kvt_kv *other = NULL;
	config.tag = 7;
	ck_assert_int_eq(kvt_kv_open(bed.near.conn, &config, &other, &error), KVT_E_INVALID);
	ck_assert_ptr_nonnull(strstr(error.text, "in use"));
	config.tag = KVT_TAG_MAX;
	ck_assert_int_eq(kvt_kv_open(bed.near.conn, &config, &other, &error), KVT_E_INVALID);
	config.tag = 8;
	config.base = &byte;
	config.len = 1;
	config.read_only = true;
	ck_assert_int_eq(kvt_kv_open(bed.near.conn, &config, &other, &error), KVT_OK);
	struct kvt_recv_request receive = KVT_RECV_REQUEST_INIT;
	receive.base = &byte;
	receive.len = 1;
	ck_assert_int_eq(kvt_recv_start(other, &receive, &transfer, &error), KVT_E_INVALID);
	ck_assert_ptr_null(transfer);
	kvt_kv_close(other);
	kvt_kv_close(kv);
	bed_close(&bed);
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("tagged");
	tcase_set_timeout(tests, 120);
	tcase_add_loop_test(tests, a_receive_that_waits_gets_the_message_whatever_its_size, 0,
			    LEN_COUNT);
	tcase_add_loop_test(tests, a_message_waits_for_its_receive_whatever_its_size, 0, LEN_COUNT);
	tcase_add_loop_test(tests, messages_of_a_kv_keep_their_order_across_sizes, 0, 2);
	tcase_add_test(tests, a_kv_whose_message_nobody_takes_does_not_block_another);
	tcase_add_test(tests, an_early_cts_is_void_when_an_eager_message_comes);
	tcase_add_loop_test(tests, a_message_too_large_stays_for_a_larger_receive, 0, 3);
	tcase_add_test(tests, a_sender_that_was_refused_learns_why_it_timed_out);
	tcase_add_loop_test(tests, meta_travels_with_its_message, 0, 8);
	tcase_add_test(tests, the_engine_allocates_what_a_receive_without_memory_needs);
	tcase_add_loop_test(tests, a_receive_that_times_out_before_its_message_loses_nothing, 0, 2);
	tcase_add_test(tests, a_send_that_gives_up_before_its_receive_is_skipped);
	tcase_add_test(tests, wrong_requests_are_refused_with_a_sentence);
	return run_tests("engine_tagged", tests);
}
