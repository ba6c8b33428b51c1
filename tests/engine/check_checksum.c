/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_checksum.c - sums of all that moves, on the fabric in memory: what is right passes in every way, and one
 * flipped bit is an error on both sides. integration/check_flip.c does the same on real fabrics.
 */
#include "pages.h"

#include <stdlib.h>

#include "engine/core/conn.h"
#include "engine/core/settings.h"
#include "engine/lane/link.h"
#include "engine/progress/worker.h"
#include "support/flip.h"
#include "support/runner.h"

enum { TAG = 5, LONG_LEN = 9 * 1024 * 1024 + 13 };

static struct kvt_kv *near_kv, *far_kv;

static void open_kvs_under(uint64_t tag)
{
	near_kv = open_kv(pages.bed.near.conn, tag);
	far_kv = open_kv(pages.bed.far.conn, tag);
}

static void open_kvs(void)
{
	open_kvs_under(TAG);
}

static void close_kvs(void)
{
	kvt_kv_close(near_kv);
	kvt_kv_close(far_kv);
}

static void expect_corruptions(uint64_t near, uint64_t far)
{
	ck_assert_uint_eq(get_stats(pages.bed.near.engine).corruptions, near);
	ck_assert_uint_eq(get_stats(pages.bed.far.engine).corruptions, far);
}

/* ---- what is right ---- */

START_TEST(blocks_that_come_right_succeed)
{
	pages_open((unsigned)_i | CHECKED);
	ck_assert(pages.bed.near.conn->has_sums && pages.bed.far.conn->has_sums);
	for (uint32_t seed = 1; seed <= 4; seed++) {
		for (int i = KVT_WRITE; i <= KVT_READ; i++) {
			enum kvt_direction direction = (enum kvt_direction)i;
			fill_pages(direction, seed);
			finish(start_blocks(direction, seed, "right", 0), KVT_OK);
			ck_assert(are_moved(direction, seed));
			expect_notification(pages.bed.far.engine, "right", KVT_OK);
		}
	}
	expect_corruptions(0, 0);
	pages_close();
}
END_TEST

START_TEST(messages_of_any_length_that_come_right_succeed)
{
	static const size_t lens[] = { 0,	  1,	   100,	    65535,   65536,   65537,
				       3 * 65536, 1 << 20, 4194304, 4194305, LONG_LEN };
	pages_open((unsigned)_i | CHECKED);
	open_kvs();
	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++)
		exchange(near_kv, far_kv, lens[i], (uint32_t)i);
	expect_corruptions(0, 0);
	close_kvs();
	pages_close();
}
END_TEST

/* ---- what is flipped ---- */

START_TEST(a_bit_flipped_in_written_blocks_is_an_error_on_both_sides)
{
	pages_open((unsigned)_i | CHECKED);
	for (unsigned nth = 1; nth <= 4; nth += 3) {
		fill_pages(KVT_WRITE, nth);
		flip_nth(FLIP_WRITE, nth);
		finish(start_blocks(KVT_WRITE, nth, "not so", 0), KVT_E_CORRUPT);
		ck_assert(has_flipped());
		expect_notification(pages.bed.far.engine, "not so", KVT_E_CORRUPT);
	}
	expect_corruptions(2, 2);
	fill_pages(KVT_WRITE, 9);
	finish(start_blocks(KVT_WRITE, 9, "right", 0), KVT_OK);
	ck_assert(are_moved(KVT_WRITE, 9));
	expect_notification(pages.bed.far.engine, "right", KVT_OK);
	pages_close();
}
END_TEST

START_TEST(a_bit_flipped_in_blocks_that_are_read_is_an_error)
{
	bool packs = ((unsigned)_i & PACKS) != 0;
	pages_open((unsigned)_i | CHECKED);
	fill_pages(KVT_READ, 3);
	flip_nth(packs ? FLIP_WRITE : FLIP_READ, 2);
	finish(start_blocks(KVT_READ, 3, "not so", 0), KVT_E_CORRUPT);
	ck_assert(has_flipped());
	expect_notification(pages.bed.far.engine, "not so", KVT_E_CORRUPT);
	wait_until(get_stats(pages.bed.far.engine).corruptions == 1);
	expect_corruptions(1, 1);
	fill_pages(KVT_READ, 4);
	finish(start_blocks(KVT_READ, 4, NULL, 0), KVT_OK);
	ck_assert(are_moved(KVT_READ, 4));
	pages_close();
}
END_TEST

START_TEST(a_bit_flipped_in_a_written_message_is_an_error_on_both_sides)
{
	pages_open((unsigned)_i | CHECKED);
	open_kvs();
	uint8_t *target = make_filled(LONG_LEN, CANARY);
	uint8_t *source = make_grains(LONG_LEN);
	memset(source, 6, LONG_LEN);
	for (unsigned nth = 1; nth <= 10; nth += 3) {
		struct kvt_transfer *receive = start_recv(far_kv, target, LONG_LEN);
		flip_nth(FLIP_GRAIN, nth);
		struct kvt_transfer *send = start_send(near_kv, source, LONG_LEN);
		finish(send, KVT_E_CORRUPT);
		finish(receive, KVT_E_CORRUPT);
		ck_assert(has_flipped());
	}
	expect_corruptions(4, 4);
	exchange(near_kv, far_kv, LONG_LEN, 8);
	exchange(far_kv, near_kv, 100, 9);
	close_kvs();
	free(source);
	free(target);
	pages_close();
}
END_TEST

/* A write that is carried in the packet of its notification, from the start of one pool to that of the other. */
static struct kvt_transfer *start_carried(uint64_t len)
{
	struct kvt_spans_request request = KVT_SPANS_REQUEST_INIT;
	const uint64_t offset = 0;
	struct kvt_transfer *transfer;
	struct kvt_error error;
	request.pool = pages.near;
	request.remote = pages.remote;
	request.local_off = request.remote_off = &offset;
	request.lens = &len;
	request.count = 1;
	request.notify = "carried";
	request.notify_len = strlen(request.notify);
	enum kvt_err err = kvt_spans_start(&request, &transfer, &error);
	ck_assert_msg(err == KVT_OK, "no transfer: %s", error.text);
	return transfer;
}

START_TEST(a_bit_flipped_in_a_carried_write_is_not_written_and_ends_the_connection)
{
	static const uint64_t lens[] = { 1, 64, 2000 };
	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		pages_open((unsigned)_i | CHECKED);
		uint64_t placed = fake_get_counts().placed;
		finish(start_carried(lens[i]), KVT_OK);
		expect_notification(pages.bed.far.engine, "carried", KVT_OK);
		ck_assert_mem_eq(pages.far_memory, pages.near_memory, lens[i]);
		ck_assert_uint_eq(fake_get_counts().placed, placed);
		fill_pages(KVT_WRITE, 3);
		flip_nth(FLIP_SEND, 1);
		finish(start_carried(lens[i]), KVT_E_PEER_LOST);
		ck_assert(has_flipped());
		wait_until(kvt_conn_get_status(pages.bed.far.conn, NULL) != KVT_OK);
		expect_corruptions(0, 1);
		ck_assert(holds_only(pages.far_memory, PAGES_LEN, CANARY));
		expect_new_pages();
		pages_close();
	}
}
END_TEST

/* Nobody knows what it said. */
START_TEST(a_bit_flipped_in_a_packet_ends_the_connection_on_both_sides)
{
	pages_open((unsigned)_i | CHECKED);
	open_kvs();
	uint8_t target[100];
	struct kvt_transfer *receive = start_recv(far_kv, target, sizeof(target));
	flip_nth(FLIP_SEND, 1);
	struct kvt_transfer *send = start_send(near_kv, "eager", 5);
	finish(send, KVT_E_PEER_LOST);
	struct kvt_result result = await(receive, KVT_E_PEER_LOST);
	ck_assert_msg(strstr(result.text, "checksum") != NULL, "%s", result.text);
	kvt_transfer_free(receive);
	ck_assert(has_flipped());
	expect_corruptions(0, 1);
	close_kvs();
	expect_new_pages();
	pages_close();
}
END_TEST

/* ---- who wants them ---- */

START_TEST(either_side_can_want_sums_and_nobody_has_them_else)
{
	struct kvt_engine_config plain = make_config(), checked = make_config();
	checked.checksum = true;
	for (unsigned i = 0; i < 4; i++) {
		struct bed bed = { .live = failing_alloc_get_live() };
		bed.near.engine = open_engine(i & 1 ? &checked : &plain);
		bed.far.engine = open_engine(i & 2 ? &checked : &plain);
		bed_connect(&bed);
		ck_assert_int_eq(bed.near.conn->has_sums, i != 0);
		ck_assert_int_eq(bed.far.conn->has_sums, i != 0);
		bed_close(&bed);
	}
}
END_TEST

/* ---- giving up ---- */

START_TEST(a_deadline_that_passes_while_blocks_are_checked_ends_the_transfer)
{
	enum kvt_direction direction = _i % 2 == 0 ? KVT_WRITE : KVT_READ;
	pages_open(((unsigned)_i / 2) | CHECKED);
	fill_pages(direction, 2);
	fake_hold(FAKE_SEND); /* whoever is asked does not hear it */
	struct kvt_transfer *transfer = start_blocks(direction, 2, NULL, 0);
	expect_pending(transfer, 20 * KVI_MS);
	expire(transfer);
	fake_hold(0);
	finish(transfer, KVT_E_TIMEOUT);
	fill_pages(direction, 3);
	finish(start_blocks(direction, 3, NULL, 0), KVT_OK);
	ck_assert(are_moved(direction, 3));
	pages_close();
}
END_TEST

START_TEST(a_receive_that_is_cancelled_while_it_is_checked_ends_once)
{
	pages_open((unsigned)_i | CHECKED);
	uint8_t *source = make_pattern(LONG_LEN, 6), *target = make_filled(LONG_LEN, CANARY);
	for (unsigned round = 0; round < 8; round++) {
		open_kvs_under(TAG + round);
		const uint64_t placed = fake_get_counts().placed;
		struct kvt_transfer *receive = start_recv(far_kv, target, LONG_LEN);
		struct kvt_transfer *send = start_send(near_kv, source, LONG_LEN);
		struct kvt_transfer *pair[] = { receive, send };
		/* In half of the rounds all of it is there, and is being summed, or soon will be. */
		while (round % 2 == 0 && fake_get_counts().placed < placed + LONG_LEN &&
		       !kvt_transfer_is_done(receive))
			rest(KVI_MS / 10);
		kvt_transfer_cancel(pair[round / 2 % 2]);
		await_end(pair[round / 2 % 2]);
		kvt_transfer_free(receive);
		kvt_transfer_free(send);
		memset(target, CANARY, LONG_LEN); /* nobody writes there any more */
		close_kvs();
		ck_assert(holds_only(target, LONG_LEN, CANARY));
	}
	expect_corruptions(0, 0);
	open_kvs_under(TAG + 99);
	exchange(near_kv, far_kv, LONG_LEN, 8);
	close_kvs();
	free(source);
	free(target);
	pages_close();
}
END_TEST

/* ---- a peer that lies ---- */

static void say(struct kvi_message *message)
{
	kvi_link_send_unlocked(&pages.bed.near.conn->links[0], message);
}

static bool has_ended(void)
{
	return kvt_conn_get_status(pages.bed.near.conn, NULL) != KVT_OK &&
	       kvt_conn_get_status(pages.bed.far.conn, NULL) != KVT_OK;
}

START_TEST(a_connection_on_which_nothing_comes_right_ends)
{
	pages_open((unsigned)_i | CHECKED);
	for (unsigned i = 1; i < KVI_CORRUPTIONS_MAX; i++) {
		fill_pages(KVT_WRITE, i);
		flip_nth(FLIP_WRITE, 1);
		finish(start_blocks(KVT_WRITE, i, NULL, 0), KVT_E_CORRUPT);
	}
	ck_assert(!has_ended());
	fill_pages(KVT_WRITE, 99);
	flip_nth(FLIP_WRITE, 1);
	struct kvt_transfer *last = start_blocks(KVT_WRITE, 99, NULL, 0);
	await_end(last);
	kvt_transfer_free(last);
	wait_until(has_ended());
	expect_new_pages();
	pages_close();
}
END_TEST

static const struct {
	const char *what;
	struct kvi_message message;
} lies[] = {
	{ "a PACK without a sum", { .type = KVI_MESSAGE_PACK, .pack.export_id = 1 } },
	{ "a CHECK of nothing", { .type = KVI_MESSAGE_CHECK, .check.export_id = 1 } },
	{ "CHECKED, unasked", { .type = KVI_MESSAGE_CHECKED } },
	{ "CHECKED of no segment", { .type = KVI_MESSAGE_CHECKED, .checked.number = 1 << 20 } },
	{ "PACK_WRONG of no staging buffer",
	  { .type = KVI_MESSAGE_PACK_WRONG, .pack_wrong.buffer = 64 } },
	{ "WRONG of a message to come",
	  { .type = KVI_MESSAGE_WRONG, .tag = TAG, .wrong.seq = 77 } },
};

START_TEST(lies_about_sums_are_errors_of_protocol)
{
	pages_open(PACKS | CHECKED);
	open_kvs();
	struct kvi_message message = lies[_i].message;
	say(&message);
	wait_until(kvt_conn_get_status(pages.bed.far.conn, NULL) != KVT_OK);
	ck_assert_msg(kvt_conn_get_status(pages.bed.far.conn, NULL) == KVT_E_PROTOCOL, "%s",
		      lies[_i].what);
	close_kvs();
	expect_new_pages();
	pages_close();
}
END_TEST

START_TEST(messages_about_sums_are_errors_of_protocol_where_there_are_none)
{
	static const struct kvi_message messages[] = {
		{ .type = KVI_MESSAGE_CHECKED },
		{ .type = KVI_MESSAGE_PACK_WRONG },
		{ .type = KVI_MESSAGE_WRONG, .tag = TAG },
		{ .type = KVI_MESSAGE_PACK, .has_sum = true, .pack.export_id = 1 },
	};
	pages_open(PACKS);
	open_kvs();
	struct kvi_message message = messages[_i];
	say(&message);
	wait_until(kvt_conn_get_status(pages.bed.far.conn, NULL) != KVT_OK);
	ck_assert_int_eq(kvt_conn_get_status(pages.bed.far.conn, NULL), KVT_E_PROTOCOL);
	close_kvs();
	expect_new_pages();
	pages_close();
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("checksum");
	tcase_set_timeout(tests, 60);
	tcase_add_loop_test(tests, blocks_that_come_right_succeed, 0, WAYS);
	tcase_add_loop_test(tests, blocks_that_come_right_succeed, COMMON + PACKS,
			    COMMON + MAIN_WAYS);
	tcase_add_loop_test(tests, messages_of_any_length_that_come_right_succeed, 0, MAIN_WAYS);
	tcase_add_loop_test(tests, a_bit_flipped_in_written_blocks_is_an_error_on_both_sides, 0,
			    WAYS);
	tcase_add_loop_test(tests, a_bit_flipped_in_blocks_that_are_read_is_an_error, 0, WAYS);
	tcase_add_loop_test(tests, a_bit_flipped_in_a_written_message_is_an_error_on_both_sides, 0,
			    MAIN_WAYS);
	tcase_add_loop_test(tests, a_bit_flipped_in_a_packet_ends_the_connection_on_both_sides, 0,
			    MAIN_WAYS);
	tcase_add_loop_test(tests,
			    a_bit_flipped_in_a_carried_write_is_not_written_and_ends_the_connection,
			    0, WAYS);
	tcase_add_test(tests, either_side_can_want_sums_and_nobody_has_them_else);
	tcase_add_loop_test(tests,
			    a_deadline_that_passes_while_blocks_are_checked_ends_the_transfer, 0,
			    2 * MAIN_WAYS);
	tcase_add_loop_test(tests, a_receive_that_is_cancelled_while_it_is_checked_ends_once, 0, 2);
	tcase_add_loop_test(tests, a_connection_on_which_nothing_comes_right_ends, 0, 4);
	tcase_add_loop_test(tests, lies_about_sums_are_errors_of_protocol, 0,
			    sizeof(lies) / sizeof(lies[0]));
	tcase_add_loop_test(tests, messages_about_sums_are_errors_of_protocol_where_there_are_none,
			    0, 4);
	return run_tests("engine/checksum", tests);
}
