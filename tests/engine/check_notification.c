/* SPDX-License-Identifier: Apache-2.0 */
/* check_notification.c - notifications that no packet holds, which come in parts (docs/protocol.md 7.5). */
#include "pages.h"

#include <stdlib.h>

#include "engine/core/conn.h"
#include "engine/core/settings.h"
#include "engine/lane/link.h"
#include "engine/paged/paged.h"
#include "support/runner.h"

static void expect_long_notification(uint32_t seed, size_t len, enum kvt_err err)
{
	struct kvt_event *event;
	wait_until(kvt_engine_get_event(pages.bed.far.engine, &event) == KVT_OK);
	ck_assert_int_eq(event->kind, KVT_EVENT_NOTIFICATION);
	ck_assert_uint_eq(event->len, len);
	ck_assert_int_eq(event->err, err);
	ck_assert(holds_pattern(event->data, len, seed));
	kvt_event_free(event);
}

/* The far engine has the beginning of one. */
static bool is_partial(void)
{
	struct kvi_link *link = &pages.bed.far.conn->links[0];
	kvi_worker_lock(link->shard->worker);
	bool partial = link->partial != NULL;
	kvi_worker_unlock(link->shard->worker);
	return partial;
}

START_TEST(a_long_notification_comes_behind_the_data)
{
	uint8_t *bytes = make_pattern(KVT_NOTIFY_LEN_MAX, 3);
	pages_open((unsigned)_i);
	for (int direction = KVT_WRITE; direction <= KVT_READ; direction++) {
		fill_pages((enum kvt_direction)direction, 5);
		struct kvt_transfer *transfer = start_blocks_noting(
			(enum kvt_direction)direction, 5, bytes, KVT_NOTIFY_LEN_MAX, 0);
		expect_long_notification(3, KVT_NOTIFY_LEN_MAX, KVT_OK);
		ck_assert(are_moved((enum kvt_direction)direction, 5));
		finish(transfer, KVT_OK);
	}
	expect_no_event(pages.bed.far.engine);
	free(bytes);
	pages_close();
}
END_TEST

START_TEST(long_notifications_that_nobody_takes_wait_as_a_whole)
{
	enum { COUNT = 5 };
	struct kvt_transfer *transfers[COUNT];
	uint8_t *bytes = make_pattern(KVT_NOTIFY_LEN_MAX, 3);
	pages_open(SHORT_PACKETS);
	for (unsigned i = 0; i < COUNT; i++)
		transfers[i] = start_notify(pages.bed.near.conn, bytes, KVT_NOTIFY_LEN_MAX - i);
	await(transfers[0], KVT_OK);
	await(transfers[1], KVT_OK);
	expect_pending(transfers[2], 50 * KVI_MS);
	ck_assert(!is_partial());
	for (unsigned i = 0; i < COUNT; i++) {
		expect_long_notification(3, KVT_NOTIFY_LEN_MAX - i, KVT_OK);
		finish(transfers[i], KVT_OK);
	}
	free(bytes);
	pages_close();
}
END_TEST

/* A notification was begun, and waits between two parts. */
static bool is_begun(void)
{
	struct kvi_link *link = &pages.bed.near.conn->links[0];
	kvi_worker_lock(link->shard->worker);
	bool begun = link->window_left < KVI_LANE_WINDOW &&
		     !kvi_list_is_empty(&link->waiting_notes);
	kvi_worker_unlock(link->shard->worker);
	return begun;
}

/* Start a long one and stop it between two parts: the peer takes no more packets. */
static struct kvt_transfer *start_half(uint8_t *bytes, int64_t timeout_ns)
{
	struct kvt_notify_request request = KVT_NOTIFY_REQUEST_INIT;
	struct kvt_transfer *transfer;
	request.conn = pages.bed.near.conn;
	request.notify = bytes;
	request.notify_len = KVT_NOTIFY_LEN_MAX;
	request.timeout_ns = timeout_ns;
	fake_hold(FAKE_SEND);
	ck_assert_int_eq(kvt_notify_start(&request, &transfer, NULL), KVT_OK);
	wait_until(is_begun());
	return transfer;
}

static void expect_whole_window(uint8_t *bytes)
{
	finish(start_notify(pages.bed.near.conn, bytes, KVT_NOTIFY_LEN_MAX), KVT_OK);
	expect_long_notification(3, KVT_NOTIFY_LEN_MAX, KVT_OK);
	expect_no_event(pages.bed.far.engine);
}

/* It tells of its failure within a second or not at all, and on a busy machine it may be late. */
static void finish_failed(struct kvt_transfer *transfer, enum kvt_err err)
{
	await_end(transfer);
	bool is_told = kvi_container_of(transfer, struct kvi_paged, transfer)->said;
	finish(transfer, err);
	if (is_told)
		expect_long_notification(3, KVT_NOTIFY_LEN_MAX, err);
}

START_TEST(a_notification_that_ends_between_two_parts_is_dropped_by_the_peer)
{
	uint8_t *bytes = make_pattern(KVT_NOTIFY_LEN_MAX, 3);
	pages_open(SHORT_PACKETS);
	struct kvt_transfer *transfer = start_half(bytes, 100 * KVI_MS);
	finish(transfer, KVT_E_TIMEOUT);
	fake_hold(0);
	wait_until(!is_partial());
	expect_whole_window(bytes);
	ck_assert_int_eq(kvt_conn_get_status(pages.bed.far.conn, NULL), KVT_OK);
	free(bytes);
	pages_close();
}
END_TEST

START_TEST(a_notification_that_is_given_up_between_two_parts_comes_as_a_failure)
{
	uint8_t *bytes = make_pattern(KVT_NOTIFY_LEN_MAX, 3);
	pages_open(SHORT_PACKETS);
	struct kvt_transfer *transfer = start_half(bytes, 0);
	struct kvt_transfer *next = start_notify(pages.bed.near.conn, "next", 4);
	kvt_transfer_cancel(transfer);
	fake_hold(0);
	finish_failed(transfer, KVT_E_CANCELLED);
	expect_notification(pages.bed.far.engine, "next", KVT_OK);
	finish(next, KVT_OK);
	expect_whole_window(bytes);
	free(bytes);
	pages_close();
}
END_TEST

/* Memory is written under these locks, as each engine has one worker. */
static bool is_written(void)
{
	struct kvi_worker *near = pages.bed.near.conn->links[0].shard->worker;
	struct kvi_worker *far = pages.bed.far.conn->links[0].shard->worker;
	kvi_worker_lock(near);
	kvi_worker_lock(far);
	bool moved = are_moved(KVT_WRITE, 5);
	kvi_worker_unlock(far);
	kvi_worker_unlock(near);
	return moved;
}

/* A write that is all there, and whose notification follows. */
static struct kvt_transfer *write_all(const uint8_t *bytes)
{
	struct kvt_transfer *transfer =
		start_blocks_noting(KVT_WRITE, 5, bytes, KVT_NOTIFY_LEN_MAX, 0);
	wait_until(is_written());
	return transfer;
}

/* In order, the parts follow writes that have not completed. */
START_TEST(a_write_that_is_given_up_between_two_parts_settles_before_it_is_told)
{
	uint8_t *bytes = make_pattern(KVT_NOTIFY_LEN_MAX, 3);
	pages_open(SHORT_PACKETS);
	fake_hold(FAKE_SEND);
	struct kvt_transfer *transfer = write_all(bytes);
	wait_until(is_begun());
	kvt_transfer_cancel(transfer);
	expect_pending(transfer, 20 * KVI_MS);
	fake_hold(0);
	finish_failed(transfer, KVT_E_CANCELLED);
	expect_whole_window(bytes);
	free(bytes);
	pages_close();
}
END_TEST

START_TEST(half_a_notification_goes_with_its_connection)
{
	uint8_t *bytes = make_pattern(KVT_NOTIFY_LEN_MAX, 3);
	pages_open(SHORT_PACKETS);
	struct kvt_transfer *transfer = start_half(bytes, 0);
	while (!is_partial())
		fake_release(1);
	fake_kill_lanes(NULL);
	fake_hold(0);
	finish(transfer, KVT_E_PEER_LOST);
	expect_conn_ended(pages.bed.far.engine, pages.bed.far.conn, KVT_E_PEER_LOST);
	expect_conn_ended(pages.bed.near.engine, pages.bed.near.conn, KVT_E_PEER_LOST);
	expect_no_event(pages.bed.far.engine);
	free(bytes);
	pages_close();
}
END_TEST

/* All three have one lane. */
START_TEST(a_withdrawal_does_not_wait_for_the_window_of_a_notification)
{
	uint8_t *bytes = make_pattern(KVT_NOTIFY_LEN_MAX, 3);
	pages_open((unsigned)_i * 2);
	for (unsigned i = 0; i < 2; i++)
		finish(start_notify(pages.bed.near.conn, bytes, KVT_NOTIFY_LEN_MAX), KVT_OK);
	fill_pages(KVT_WRITE, 5);
	struct kvt_transfer *transfer = write_all(bytes);
	kvt_export_close(pages.exported);
	pages.exported = NULL;
	ck_assert_int_eq(kvt_conn_get_status(pages.bed.far.conn, NULL), KVT_OK);
	for (unsigned i = 0; i < 2; i++)
		expect_long_notification(3, KVT_NOTIFY_LEN_MAX, KVT_OK);
	finish_failed(transfer, KVT_E_WITHDRAWN);
	ck_assert_int_eq(kvt_conn_get_status(pages.bed.near.conn, NULL), KVT_OK);
	free(bytes);
	pages_close();
}
END_TEST

/* Each time the receiver takes one, another comes: the window is as good as full all the time. */
START_TEST(a_long_notification_comes_beside_messages_that_never_end)
{
	enum { LEN = 2048, IN_FLIGHT = 1500, MESSAGES_MAX = 4000 };
	static struct kvt_transfer *sends[IN_FLIGHT];
	struct kvt_event *event = NULL;
	uint8_t *note = make_pattern(KVT_NOTIFY_LEN_MAX, 3), *bytes = make_pattern(LEN, 4);
	uint8_t *got = make_filled(LEN, 0);
	pages_open((unsigned)_i);
	struct kvt_kv *from = open_kv(pages.bed.near.conn, 5), *to = open_kv(pages.bed.far.conn, 5);
	for (unsigned i = 0; i < IN_FLIGHT; i++)
		sends[i] = start_send(from, bytes, LEN);
	struct kvt_transfer *transfer = start_notify(pages.bed.near.conn, note, KVT_NOTIFY_LEN_MAX);
	unsigned count = 0;
	while (kvt_engine_get_event(pages.bed.far.engine, &event) == KVT_E_AGAIN) {
		ck_assert_msg(count < MESSAGES_MAX, "%u messages went before it", count);
		finish(start_recv(to, got, LEN), KVT_OK);
		finish(sends[count % IN_FLIGHT], KVT_OK);
		sends[count++ % IN_FLIGHT] = start_send(from, bytes, LEN);
	}
	ck_assert_uint_eq(event->len, KVT_NOTIFY_LEN_MAX);
	ck_assert(holds_pattern(event->data, event->len, 3));
	kvt_event_free(event);
	finish(transfer, KVT_OK);
	for (unsigned i = 0; i < IN_FLIGHT; i++) {
		finish(start_recv(to, got, LEN), KVT_OK);
		finish(sends[count++ % IN_FLIGHT], KVT_OK);
	}
	ck_assert(holds_pattern(got, LEN, 4));
	kvt_kv_close(from);
	kvt_kv_close(to);
	free(got);
	free(bytes);
	free(note);
	pages_close();
}
END_TEST

/* What was free when it came to wait is not for it. */
START_TEST(a_message_needs_no_receive_beside_a_notification_that_waits)
{
	enum { NOTE_LEN = 800 * 1000, LEN = 64 };
	uint8_t *note = make_pattern(NOTE_LEN, 3), *bytes = make_pattern(LEN, 4);
	uint8_t *got = make_filled(LEN, 0);
	pages_open(0);
	struct kvt_kv *from = open_kv(pages.bed.near.conn, 5), *to = open_kv(pages.bed.far.conn, 5);
	for (unsigned i = 0; i < 2; i++)
		finish(start_notify(pages.bed.near.conn, note, NOTE_LEN), KVT_OK);
	struct kvt_transfer *third = start_notify(pages.bed.near.conn, note, NOTE_LEN);
	expect_pending(third, 20 * KVI_MS);
	finish(start_send(from, bytes, LEN), KVT_OK);
	for (unsigned i = 0; i < 3; i++)
		expect_long_notification(3, NOTE_LEN, KVT_OK);
	finish(third, KVT_OK);
	finish(start_recv(to, got, LEN), KVT_OK);
	ck_assert(holds_pattern(got, LEN, 4));
	kvt_kv_close(from);
	kvt_kv_close(to);
	free(got);
	free(bytes);
	free(note);
	pages_close();
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("notification");
	tcase_set_timeout(tests, 120);
	tcase_add_loop_test(tests, a_long_notification_comes_behind_the_data, 0, WAYS);
	tcase_add_test(tests, long_notifications_that_nobody_takes_wait_as_a_whole);
	tcase_add_test(tests, a_notification_that_ends_between_two_parts_is_dropped_by_the_peer);
	tcase_add_test(tests, a_notification_that_is_given_up_between_two_parts_comes_as_a_failure);
	tcase_add_test(tests, a_write_that_is_given_up_between_two_parts_settles_before_it_is_told);
	tcase_add_test(tests, half_a_notification_goes_with_its_connection);
	tcase_add_loop_test(tests, a_withdrawal_does_not_wait_for_the_window_of_a_notification, 0,
			    WAYS);
	tcase_add_loop_test(tests, a_long_notification_comes_beside_messages_that_never_end, 0, 2);
	tcase_add_test(tests, a_message_needs_no_receive_beside_a_notification_that_waits);
	return run_tests("engine_notification", tests);
}
