/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_paged_settle.c - writes that fail on a fabric that tells of a write when the host has taken it, as
 * tcp does: nothing of them lands at the peer any more once they have ended (docs/protocol.md 7.4).
 */
#include "pages.h"

#include "engine/core/conn.h"
#include "engine/core/engine.h"
#include "engine/lane/link.h"
#include "engine/paged/paged.h"
#include "support/runner.h"

/* Beside those of pages.h. SMALL: not more than a home lane takes, however many there are. */
enum { BY_DEADLINE = 16, NOTIFIES = 32, SMALL = 64, SETTLE_WAYS = 128 };

static struct kvt_transfer *start_write(int way, int64_t timeout_ns)
{
	struct kvt_blocks_request request = KVT_BLOCKS_REQUEST_INIT;
	struct kvt_transfer *transfer;
	if ((way & SMALL) == 0)
		return start_blocks(KVT_WRITE, 5, way & NOTIFIES ? "told" : NULL, timeout_ns);
	request.pool = pages.near;
	request.remote = pages.remote;
	request.local_idx = pages.local_idx;
	request.remote_idx = pages.remote_idx;
	request.index_len = 4;
	request.count = BLOCK_COUNT / 2;
	request.notify = way & NOTIFIES ? "told" : NULL;
	request.notify_len = way & NOTIFIES ? 4 : 0;
	request.timeout_ns = timeout_ns;
	ck_assert_int_eq(kvt_blocks_start(&request, &transfer, NULL), KVT_OK);
	return transfer;
}

/* Every lane has shown that it is quick, so writes on it may end before they are delivered. */
static void open_quick(int way)
{
	pages_open((unsigned)way % MAIN_WAYS);
	struct kvt_conn *conn = pages.bed.near.conn;
	for (unsigned i = 0; i < conn->lane_count; i++)
		while (!kvi_flight_is_quick(&conn->links[i].flight))
			finish(start_blocks(KVT_WRITE, 5, NULL, 0), KVT_OK);
	fake_set_buffered(true);
	fill_pages(KVT_WRITE, 5);
}

/* A write that has begun and is held on its way; an engine that looks sees a slow link, not a stopped one, however
 * long the test takes. */
static struct kvt_transfer *start_held_write(int way)
{
	uint64_t segments = get_stats(pages.bed.near.engine).segments;
	fake_hold(FAKE_WRITE);
	struct kvt_transfer *transfer = start_write(way, 0);
	wait_until(get_stats(pages.bed.near.engine).segments > segments);
	fake_trickle(true);
	return transfer;
}

/* What is at the peer is the peer's. */
static void expect_far_left_alone(void)
{
	memset(pages.far_memory, 0, PAGES_LEN);
	fake_hold(0);
	rest(20 * KVI_MS);
	kvi_engine_meet_workers(pages.bed.far.engine);
	ck_assert_msg(holds_only(pages.far_memory, PAGES_LEN, 0), "written after the end");
}

START_TEST(nothing_of_a_write_lands_once_it_has_failed)
{
	open_quick(_i);
	bool by_deadline = (_i & BY_DEADLINE) != 0;
	enum kvt_err err = by_deadline ? KVT_E_TIMEOUT : KVT_E_CANCELLED;
	struct kvt_transfer *transfer = start_held_write(_i);
	if (by_deadline)
		expire(transfer);
	else
		kvt_transfer_cancel(transfer);
	expect_pending(transfer, 50 * KVI_MS);
	fake_hold(0);
	/* All of it may have been on its way, and then all of it has arrived. */
	struct kvt_result result = KVT_RESULT_INIT;
	await_end(transfer);
	kvt_transfer_get_result(transfer, &result);
	ck_assert(result.err == err || ((_i & SMALL) != 0 && result.err == KVT_OK));
	kvt_transfer_free(transfer);
	expect_far_left_alone();
	if (_i & NOTIFIES)
		expect_notification(pages.bed.far.engine, "told", result.err);
	expect_no_event(pages.bed.far.engine);

	fill_pages(KVT_WRITE, 6);
	finish(start_blocks(KVT_WRITE, 6, NULL, 0), KVT_OK);
	ck_assert(are_moved(KVT_WRITE, 6));
	pages_close();
}
END_TEST

START_TEST(the_notification_of_a_failed_write_comes_behind_its_last_byte)
{
	struct kvt_event *event;
	open_quick(_i);
	for (unsigned round = 0; round < 10; round++) {
		struct kvt_transfer *transfer = start_held_write(_i | NOTIFIES);
		fake_release(round * 20);
		kvt_transfer_cancel(transfer);
		fake_hold(0);
		int64_t deadline_ns = kvi_deadline_after(BED_PATIENCE_NS);
		while (kvt_engine_get_event(pages.bed.far.engine, &event) != KVT_OK)
			ck_assert(kvi_clock_now() < deadline_ns);
		kvt_event_free(event);
		expect_far_left_alone();
		await_end(transfer);
		kvt_transfer_free(transfer);
	}
	pages_close();
}
END_TEST

START_TEST(a_peer_that_does_not_say_that_it_has_the_last_byte_costs_the_connection)
{
	open_quick(_i);
	struct kvt_transfer *transfer = start_held_write(_i);
	fake_trickle(false);
	int64_t started_ns = kvi_clock_now();
	kvt_transfer_cancel(transfer);
	finish(transfer, KVT_E_CANCELLED);
	expect_took(started_ns, 700 * KVI_MS, 2500 * KVI_MS);
	wait_until(kvt_conn_get_status(pages.bed.far.conn, NULL) == KVT_E_PEER_LOST);
	expect_far_left_alone();
	expect_conn_ended(pages.bed.far.engine, pages.bed.far.conn, KVT_E_PEER_LOST);
	expect_new_pages();
	pages_close();
}
END_TEST

/* The application of the peer takes no notifications, its engine answers. */
START_TEST(a_write_whose_notification_finds_no_room_settles_all_the_same)
{
	static uint8_t bytes[4096];
	struct kvt_transfer *transfers[600];
	unsigned count = 0;
	open_quick(0);
	fake_set_buffered(false);
	for (; count < 600; count++)
		transfers[count] = start_notify(pages.bed.near.conn, bytes, sizeof(bytes));
	struct kvt_transfer *write = start_write(NOTIFIES, 200 * KVI_MS);
	int64_t started_ns = kvi_clock_now();
	finish(write, KVT_E_TIMEOUT);
	expect_took(started_ns, 0, 2500 * KVI_MS);
	expect_far_left_alone();
	ck_assert_int_eq(kvt_conn_get_status(pages.bed.near.conn, NULL), KVT_OK);
	while (count > 0)
		kvt_transfer_free(transfers[--count]);
	pages_close();
}
END_TEST

static bool has_told(struct kvt_transfer *transfer)
{
	kvi_worker_lock(transfer->worker);
	bool told = kvi_container_of(transfer, struct kvi_paged, transfer)->told;
	kvi_worker_unlock(transfer->worker);
	return told;
}

START_TEST(a_write_that_was_all_there_when_it_was_cancelled_has_succeeded)
{
	open_quick(0);
	fake_set_buffered(false);
	uint64_t bytes = fake_get_counts().bytes;
	fake_hold(FAKE_SEND);
	struct kvt_transfer *transfer = start_blocks(KVT_WRITE, 5, "told", 0);
	wait_until(fake_get_counts().bytes >= bytes + ALL_LEN);
	/* What follows is out: it waits for the message before it, and goes with that. */
	wait_until(has_told(transfer));
	kvt_transfer_cancel(transfer);
	expect_pending(transfer, 50 * KVI_MS);
	fake_hold(0);
	finish(transfer, KVT_OK);
	ck_assert(are_moved(KVT_WRITE, 5));
	expect_notification(pages.bed.far.engine, "told", KVT_OK);
	pages_close();
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("paged_settle");
	tcase_set_timeout(tests, 240);
	for (int way = 0; way < SETTLE_WAYS; way++)
		if ((way & (REGISTERED | ONE_SPAN)) == 0)
			tcase_add_loop_test(tests, nothing_of_a_write_lands_once_it_has_failed, way,
					    way + 1);
	tcase_add_loop_test(tests, the_notification_of_a_failed_write_comes_behind_its_last_byte, 0,
			    MAIN_WAYS);
	tcase_add_loop_test(tests,
			    a_peer_that_does_not_say_that_it_has_the_last_byte_costs_the_connection,
			    0, MAIN_WAYS);
	tcase_add_test(tests, a_write_whose_notification_finds_no_room_settles_all_the_same);
	tcase_add_test(tests, a_write_that_was_all_there_when_it_was_cancelled_has_succeeded);
	return run_tests("engine_paged_settle", tests);
}
