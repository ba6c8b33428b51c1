/* SPDX-License-Identifier: Apache-2.0 */
/* check_paged.c - moving blocks and spans when nothing goes wrong: everything is in its place when a
 * transfer says so, whatever the fabric can do. */
#include "pages.h"

#include <stdlib.h>

#include "engine/core/conn.h"
#include "engine/paged/paged.h"
#include "support/runner.h"

/* ---- blocks ---- */

START_TEST(blocks_are_where_they_belong_when_a_transfer_succeeds)
{
	pages_open((unsigned)_i);
	for (uint32_t seed = 1; seed <= 12; seed += 3) {
		for (int direction = KVT_WRITE; direction <= KVT_READ; direction++) {
			fill_pages((enum kvt_direction)direction, seed);
			struct kvt_transfer *transfer =
				start_blocks((enum kvt_direction)direction, seed, NULL, 0);
			ck_assert_uint_eq(finish(transfer, KVT_OK), ALL_LEN);
			ck_assert(are_moved((enum kvt_direction)direction, seed));
		}
	}
	struct kvt_stats stats = get_stats(pages.bed.near.engine);
	ck_assert_uint_eq(stats.writes, 4);
	ck_assert_uint_eq(stats.reads, 4);
	ck_assert_uint_eq(stats.bytes_written, 4 * ALL_LEN);
	ck_assert_uint_eq(stats.bytes_read, 4 * ALL_LEN);
	pages_close();
}
END_TEST

/* Steps of the fabric are taken one by one, of any lane; whoever looks first finds everything there. */
START_TEST(neither_the_end_nor_the_notification_comes_before_the_last_byte)
{
	enum kvt_direction direction = _i < MAIN_WAYS ? KVT_WRITE : KVT_READ;
	pages_open((unsigned)_i % MAIN_WAYS);
	for (uint32_t seed = 1; seed < 6; seed += 2) {
		fill_pages(direction, seed);
		fake_reorder(seed);
		fake_hold(FAKE_WRITE | FAKE_READ | FAKE_SEND);
		struct kvt_transfer *transfer = start_blocks(direction, seed, "all there", 0);
		struct kvt_event *event = NULL;
		bool done = false;
		int64_t deadline_ns = kvi_deadline_after(BED_PATIENCE_NS);
		while (!done || event == NULL) {
			ck_assert_msg(kvi_clock_now() < deadline_ns, "it does not end");
			if (fake_release(7) == 0)
				rest(KVI_MS / 20);
			if (event == NULL &&
			    kvt_engine_get_event(pages.bed.far.engine, &event) == KVT_OK) {
				ck_assert_int_eq(event->err, KVT_OK);
				ck_assert(are_moved(direction, seed));
			}
			if (!done && kvt_transfer_is_done(transfer)) {
				done = true;
				ck_assert(are_moved(direction, seed));
			}
		}
		kvt_event_free(event);
		fake_hold(0);
		finish(transfer, KVT_OK);
		expect_no_event(pages.bed.far.engine);
	}
	pages_close();
}
END_TEST

START_TEST(a_transfer_that_has_ended_tells_what_it_took_whatever_its_outcome)
{
	uint64_t offset = 7, len = 100;
	struct kvt_spans_request spans = KVT_SPANS_REQUEST_INIT;
	struct kvt_transfer *transfer;
	pages_open((unsigned)_i);
	int64_t before_ns = kvi_clock_now();
	transfer = start_blocks(KVT_WRITE, 3, NULL, 0);
	struct kvt_result result = await(transfer, KVT_OK);
	ck_assert_uint_eq(result.len, ALL_LEN);
	ck_assert_uint_eq(result.count, EXTENT_COUNT * BLOCK_COUNT);
	ck_assert_int_ge(result.started_ns, before_ns);
	ck_assert_int_gt(result.submit_ns, 0);
	ck_assert_int_le(result.started_ns + result.transfer_ns, kvi_clock_now());
	kvt_transfer_free(transfer);

	spans.pool = pages.near;
	spans.remote = pages.remote;
	spans.local_off = spans.remote_off = &offset;
	spans.lens = &len;
	spans.count = 1;
	ck_assert_int_eq(kvt_spans_start(&spans, &transfer, NULL), KVT_OK);
	result = await(transfer, KVT_OK);
	ck_assert_uint_eq(result.len, len);
	ck_assert_uint_eq(result.count, 1);
	kvt_transfer_free(transfer);

	fake_hold(FAKE_WRITE);
	transfer = start_blocks(KVT_WRITE, 3, NULL, 0);
	kvt_transfer_cancel(transfer);
	fake_hold(0);
	result = await(transfer, KVT_E_CANCELLED);
	ck_assert_uint_eq(result.len, 0);
	ck_assert_uint_eq(result.count, EXTENT_COUNT * BLOCK_COUNT);
	ck_assert_int_gt(result.submit_ns, 0);
	ck_assert_int_gt(result.transfer_ns, 0);
	kvt_transfer_free(transfer);
	pages_close();
}
END_TEST

START_TEST(a_transfer_whose_writes_are_held_is_not_done)
{
	pages_open((unsigned)_i);
	fake_hold(FAKE_WRITE);
	struct kvt_transfer *transfer = start_blocks(KVT_WRITE, 3, "later", 0);
	expect_pending(transfer, 50 * KVI_MS);
	expect_no_event(pages.bed.far.engine);
	fake_hold(0);
	finish(transfer, KVT_OK);
	expect_notification(pages.bed.far.engine, "later", KVT_OK);
	pages_close();
}
END_TEST

START_TEST(completions_that_come_late_and_from_lane_to_lane_at_random_change_nothing)
{
	pages_open((unsigned)_i);
	fake_delay(KVI_MS);
	for (uint32_t seed = 1; seed < 8; seed++) {
		enum kvt_direction direction = seed % 2 == 0 ? KVT_READ : KVT_WRITE;
		fake_reorder(seed);
		fill_pages(direction, seed);
		struct kvt_transfer *transfer = start_blocks(direction, seed, "now", 0);
		expect_notification(pages.bed.far.engine, "now", KVT_OK);
		ck_assert(are_moved(direction, seed));
		finish(transfer, KVT_OK);
	}
	pages_close();
}
END_TEST

START_TEST(many_transfers_at_once_move_a_block_each)
{
	enum { COUNT = 300 };
	struct kvt_transfer *transfers[COUNT];
	pages_open((unsigned)_i);
	fill_pages(KVT_WRITE, 5);
	for (int32_t i = 0; i < COUNT; i++) {
		struct kvt_blocks_request request = KVT_BLOCKS_REQUEST_INIT;
		int32_t other = COUNT - 1 - i;
		request.pool = pages.near;
		request.remote = pages.remote;
		request.local_idx = &i;
		request.remote_idx = &other;
		request.index_len = 4;
		request.count = 1;
		request.notify = &i;
		request.notify_len = sizeof(i);
		ck_assert_int_eq(kvt_blocks_start(&request, &transfers[i], NULL), KVT_OK);
	}
	bool was_told[COUNT] = { false };
	for (unsigned told = 0; told < COUNT;) {
		struct kvt_event *event;
		int32_t number;
		if (kvt_engine_get_event(pages.bed.far.engine, &event) != KVT_OK) {
			ck_assert_int_eq(kvt_engine_wait(pages.bed.far.engine, BED_PATIENCE_NS),
					 KVT_OK);
			continue;
		}
		memcpy(&number, event->data, sizeof(number));
		ck_assert(number >= 0 && number < COUNT && !was_told[number]);
		was_told[number] = true;
		told++;
		ck_assert_mem_eq(pages.far_memory + (size_t)(COUNT - 1 - number) * BLOCK_LEN,
				 pages.near_memory + (size_t)number * BLOCK_LEN, BLOCK_LEN);
		kvt_event_free(event);
	}
	for (unsigned i = 0; i < COUNT; i++)
		finish(transfers[i], KVT_OK);
	pages_close();
}
END_TEST

static unsigned get_home(const struct kvt_transfer *transfer)
{
	return kvi_container_of(transfer, struct kvi_paged, transfer)->home->index;
}

/* On another lane each would wake threads that sleep, on both sides. */
START_TEST(a_transfer_that_is_alone_stays_on_the_lane_of_the_one_before)
{
	pages_open(MANY_LANES);
	unsigned home = 0;
	for (uint32_t i = 0; i < 6; i++) {
		struct kvt_transfer *transfer = start_blocks(KVT_WRITE, i, NULL, 0);
		if (i == 0)
			home = get_home(transfer);
		ck_assert_uint_eq(get_home(transfer), home);
		finish(transfer, KVT_OK);
	}
	fake_hold(FAKE_WRITE);
	struct kvt_transfer *first = start_blocks(KVT_WRITE, 1, NULL, 0);
	struct kvt_transfer *second = start_blocks(KVT_WRITE, 2, NULL, 0);
	ck_assert_uint_eq(get_home(first), home);
	ck_assert_uint_ne(get_home(second), home);
	fake_hold(0);
	finish(first, KVT_OK);
	finish(second, KVT_OK);
	pages_close();
}
END_TEST

/* Each wakes threads of its lane, and has room in a packet beside others there. */
START_TEST(small_transfers_at_once_share_a_lane_and_in_the_end_all_lanes)
{
	enum { COUNT = 8192 };
	static struct kvt_transfer *transfers[COUNT];
	unsigned changes = 0, used = 0;
	pages_open(MANY_LANES);
	fake_hold(FAKE_ALL);
	for (unsigned i = 0; i < COUNT; i++) {
		transfers[i] = start_notify(pages.bed.near.conn, "moved", 5);
		unsigned home = get_home(transfers[i]);
		used |= 1U << home;
		changes += i > 0 && home != get_home(transfers[i - 1]);
	}
	ck_assert_uint_eq(used, (1U << pages.bed.near.conn->lane_count) - 1);
	ck_assert_uint_le(changes, 16);
	fake_hold(0);
	for (unsigned i = 0; i < COUNT; i++) {
		expect_notification(pages.bed.far.engine, "moved", KVT_OK);
		finish(transfers[i], KVT_OK);
	}
	pages_close();
}
END_TEST

START_TEST(an_empty_transfer_succeeds_and_still_notifies)
{
	struct kvt_blocks_request request = KVT_BLOCKS_REQUEST_INIT;
	struct kvt_transfer *transfer;
	pages_open((unsigned)_i);
	request.pool = pages.near;
	request.remote = pages.remote;
	request.index_len = 8;
	ck_assert_int_eq(kvt_blocks_start(&request, &transfer, NULL), KVT_OK);
	ck_assert_uint_eq(finish(transfer, KVT_OK), 0);
	request.notify = "";
	ck_assert_int_eq(kvt_blocks_start(&request, &transfer, NULL), KVT_OK);
	ck_assert_uint_eq(finish(transfer, KVT_OK), 0);
	expect_notification(pages.bed.far.engine, "", KVT_OK);
	ck_assert(holds_only(pages.far_memory, PAGES_LEN, CANARY));
	pages_close();
}
END_TEST

/* ---- spans ---- */

START_TEST(spans_of_any_length_are_where_they_belong)
{
	enum { COUNT = 200, MOST = 3 * BLOCK_LEN };
	uint64_t local[COUNT], other[COUNT], lens[COUNT];
	enum kvt_direction direction = (_i & WAYS) == 0 ? KVT_WRITE : KVT_READ;
	pages_open((unsigned)_i & ~(unsigned)WAYS);
	fill_pages(direction, 3);
	uint8_t *expected = make_filled(PAGES_LEN, CANARY);
	uint8_t *source = direction == KVT_WRITE ? pages.near_memory : pages.far_memory;
	uint8_t *target = direction == KVT_WRITE ? pages.far_memory : pages.near_memory;
	/* Spans see extents without the room between them: the first ends where its last block does. */
	size_t first_len = (size_t)BLOCK_COUNT * BLOCK_LEN;
	size_t total = 0, at = 0;
	for (size_t i = 0; i < COUNT; i++) {
		size_t len = i * 7919 % MOST, from = i * 104729 % (first_len - MOST);
		lens[i] = len;
		(direction == KVT_WRITE ? local : other)[i] = from;
		(direction == KVT_WRITE ? other : local)[i] = first_len + at;
		memcpy(expected + EXTENT_LEN + at, source + from, len);
		at += len + i % 3;
		total += len;
	}
	ck_assert_uint_lt(at, (size_t)EXTENT_LEN - GAP_LEN);
	struct kvt_spans_request request = KVT_SPANS_REQUEST_INIT;
	struct kvt_transfer *transfer;
	struct kvt_error error;
	request.direction = direction;
	request.pool = pages.near;
	request.remote = pages.remote;
	request.local_off = local;
	request.remote_off = other;
	request.lens = lens;
	request.count = COUNT;
	request.notify = "spans";
	request.notify_len = 5;
	enum kvt_err err = kvt_spans_start(&request, &transfer, &error);
	ck_assert_msg(err == KVT_OK, "no transfer: %s", error.text);
	expect_notification(pages.bed.far.engine, "spans", KVT_OK);
	ck_assert(memcmp(expected, target, PAGES_LEN) == 0);
	ck_assert_uint_eq(finish(transfer, KVT_OK), total);
	free(expected);
	pages_close();
}
END_TEST

/* ---- beside sends ---- */

/* A read of 16 blocks begins when a write of all blocks is under way, and must not wait for its end. */
START_TEST(a_small_read_overtakes_a_large_write)
{
	/* On one lane, where nothing can go around. */
	struct kvt_blocks_request request = KVT_BLOCKS_REQUEST_INIT;
	struct kvt_transfer *read;
	int32_t indices[16];
	pages_open(_i == 0 ? 0 : PACKS);
	uint8_t *memory = make_filled(PAGES_LEN, 0), *source = make_filled(PAGES_LEN, 5);
	struct kvt_pool *pool = open_pool(pages.bed.near.engine, memory);
	/* Other memory of the peer's than that which is written. */
	struct kvt_pool *far = open_pool(pages.bed.far.engine, source);
	struct kvt_export *exported;
	struct kvt_remote *remote;
	ck_assert_int_eq(kvt_export_open(pages.bed.far.conn, far, KVT_ACCESS_READ, "source",
					 &exported, NULL),
			 KVT_OK);
	ck_assert_int_eq(kvt_remote_find(pages.bed.near.conn, "source", 0, &remote, NULL), KVT_OK);
	fake_set_chunk_len(256);
	fake_hold(FAKE_WRITE | FAKE_READ);
	struct kvt_transfer *write = start_blocks(KVT_WRITE, 4, NULL, 0);
	for (int32_t i = 0; i < 16; i++)
		indices[i] = 3 * i;
	request.direction = KVT_READ;
	request.pool = pool;
	request.remote = remote;
	request.local_idx = indices;
	request.remote_idx = indices;
	request.index_len = 4;
	request.count = 16;
	ck_assert_int_eq(kvt_blocks_start(&request, &read, NULL), KVT_OK);
	uint64_t before = fake_get_counts().bytes;
	int64_t deadline_ns = kvi_deadline_after(BED_PATIENCE_NS);
	while (!kvt_transfer_is_done(read)) {
		ck_assert(kvi_clock_now() < deadline_ns);
		if (fake_release(16) == 0)
			rest(KVI_MS / 10);
	}
	/* The read itself, what was out before it, and as much for each of its turns. */
	ck_assert_uint_le(fake_get_counts().bytes - before, ALL_LEN / 2);
	ck_assert(!kvt_transfer_is_done(write));
	fake_hold(0);
	finish(read, KVT_OK);
	finish(write, KVT_OK);
	ck_assert(are_moved(KVT_WRITE, 4));
	kvt_remote_close(remote);
	kvt_export_close(exported);
	kvt_pool_close(far);
	kvt_pool_close(pool);
	free(source);
	free(memory);
	pages_close();
}
END_TEST

START_TEST(sends_and_paged_transfers_go_side_by_side)
{
	pages_open((unsigned)_i);
	struct kvt_kv *near = open_kv(pages.bed.near.conn, 7),
		      *far = open_kv(pages.bed.far.conn, 7);
	for (uint32_t round = 0; round < 6; round++) {
		enum kvt_direction direction = round % 2 == 0 ? KVT_WRITE : KVT_READ;
		fill_pages(direction, round);
		struct kvt_transfer *transfer = start_blocks(direction, round, "done", 0);
		exchange(near, far, LARGE_LEN, round);
		exchange(far, near, 1000, round);
		finish(transfer, KVT_OK);
		expect_notification(pages.bed.far.engine, "done", KVT_OK);
		ck_assert(are_moved(direction, round));
	}
	kvt_kv_close(near);
	kvt_kv_close(far);
	pages_close();
}
END_TEST

/* ---- a fabric without room, and one without order ---- */

START_TEST(few_posts_at_a_time_are_enough)
{
	struct kvi_caps caps = fake_get_default_caps();
	pages_open((unsigned)_i);
	pages_close();
	caps.tx_count = 5;
	caps.max_segment_len = SMALL_SEGMENT_LEN;
	caps.pack_below = _i & PACKS ? 3 * BLOCK_LEN : 0;
	caps.send_after_write = false; /* then nothing is packed, and messages overtake writes */
	fake_set_caps(&caps);
	bed_open(&pages.bed, NULL);
	pages.near_memory = make_pattern(PAGES_LEN, 1);
	pages.far_memory = make_filled(PAGES_LEN, CANARY);
	pages.near = open_pool(pages.bed.near.engine, pages.near_memory);
	pages.far = open_pool(pages.bed.far.engine, pages.far_memory);
	share_pages();
	for (uint32_t seed = 1; seed < 4; seed++) {
		fake_reorder(seed);
		fill_pages(KVT_WRITE, seed);
		struct kvt_transfer *transfer = start_blocks(KVT_WRITE, seed, "there", 0);
		expect_notification(pages.bed.far.engine, "there", KVT_OK);
		ck_assert(are_moved(KVT_WRITE, seed));
		finish(transfer, KVT_OK);
	}
	pages_close();
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("paged");
	tcase_set_timeout(tests, 120);
	tcase_add_loop_test(tests, blocks_are_where_they_belong_when_a_transfer_succeeds, 0, WAYS);
	tcase_add_loop_test(tests, blocks_are_where_they_belong_when_a_transfer_succeeds,
			    COMMON + PACKS, COMMON + WAYS);
	tcase_add_loop_test(tests, neither_the_end_nor_the_notification_comes_before_the_last_byte,
			    0, 2 * MAIN_WAYS);
	tcase_add_loop_test(tests,
			    a_transfer_that_has_ended_tells_what_it_took_whatever_its_outcome, 0,
			    MAIN_WAYS);
	tcase_add_loop_test(tests, a_transfer_whose_writes_are_held_is_not_done, 0, MAIN_WAYS);
	tcase_add_loop_test(
		tests, completions_that_come_late_and_from_lane_to_lane_at_random_change_nothing, 0,
		MAIN_WAYS);
	tcase_add_loop_test(
		tests, completions_that_come_late_and_from_lane_to_lane_at_random_change_nothing,
		COMMON + PACKS, COMMON + MAIN_WAYS);
	tcase_add_loop_test(tests, many_transfers_at_once_move_a_block_each, 0, MAIN_WAYS);
	tcase_add_test(tests, a_transfer_that_is_alone_stays_on_the_lane_of_the_one_before);
	tcase_add_test(tests, small_transfers_at_once_share_a_lane_and_in_the_end_all_lanes);
	tcase_add_loop_test(tests, an_empty_transfer_succeeds_and_still_notifies, 0, MAIN_WAYS);
	tcase_add_loop_test(tests, spans_of_any_length_are_where_they_belong, 0, 2 * WAYS);
	tcase_add_loop_test(tests, spans_of_any_length_are_where_they_belong, COMMON,
			    COMMON + 2 * WAYS);
	tcase_add_loop_test(tests, a_small_read_overtakes_a_large_write, 0, 2);
	tcase_add_loop_test(tests, sends_and_paged_transfers_go_side_by_side, 0, MAIN_WAYS);
	tcase_add_loop_test(tests, few_posts_at_a_time_are_enough, 0, MAIN_WAYS);
	return run_tests("engine_paged", tests);
}
