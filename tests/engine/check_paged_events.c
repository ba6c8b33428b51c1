/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_paged_events.c - what an engine tells: transfers to reap, notifications, ends of connections, and
 * the descriptor that is readable while there is something.
 */
#include "pages.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "engine/core/conn.h"
#include "engine/core/engine.h"
#include "engine/core/settings.h"
#include "engine/transfer/transfer.h"
#include "support/runner.h"
#include "wire/wire.h"

enum { SHORT_LEN = 4096 };

static bool is_readable(struct kvt_engine *engine)
{
	struct pollfd readable = { .fd = kvt_engine_get_fd(engine), .events = POLLIN };
	return poll(&readable, 1, 0) == 1;
}

static struct kvt_transfer *start_reaped(struct kvt_conn *conn, const char *text)
{
	struct kvt_notify_request request = KVT_NOTIFY_REQUEST_INIT;
	struct kvt_transfer *transfer;
	request.conn = conn;
	request.notify = text;
	request.notify_len = strlen(text);
	request.reap = true;
	ck_assert_int_eq(kvt_notify_start(&request, &transfer, NULL), KVT_OK);
	return transfer;
}

/* ---- reaping ---- */

START_TEST(transfers_are_reaped_once_in_the_order_they_complete)
{
	enum { COUNT = 10 };
	struct kvt_transfer *transfers[COUNT], *reaped[COUNT + 1];
	pages_open((unsigned)_i);
	struct kvt_engine *engine = pages.bed.near.engine;
	ck_assert(!is_readable(engine));
	ck_assert_uint_eq(kvt_engine_reap(engine, reaped, COUNT), 0);
	ck_assert_int_eq(kvt_engine_wait(engine, KVT_NOWAIT), KVT_E_AGAIN);
	for (unsigned i = 0; i < COUNT; i++) {
		transfers[i] = start_reaped(pages.bed.near.conn, "x");
		await(transfers[i], KVT_OK);
	}
	finish(start_notify(pages.bed.near.conn, "not reaped", 10), KVT_OK);
	ck_assert(is_readable(engine));
	ck_assert_int_eq(kvt_engine_wait(engine, BED_PATIENCE_NS), KVT_OK);
	ck_assert_uint_eq(kvt_engine_reap(engine, reaped, 3), 3);
	ck_assert(is_readable(engine));

	/* One that is freed before is not returned. */
	kvt_transfer_free(transfers[5]);
	ck_assert_uint_eq(kvt_engine_reap(engine, reaped + 3, COUNT), COUNT - 4);
	for (unsigned i = 0, j = 0; i < COUNT; i++)
		if (i != 5)
			ck_assert_ptr_eq(reaped[j++], transfers[i]);
	ck_assert(!is_readable(engine));
	ck_assert_uint_eq(kvt_engine_reap(engine, reaped, COUNT), 0);
	for (unsigned i = 0; i < COUNT; i++)
		if (i != 5)
			kvt_transfer_free(transfers[i]);
	pages_close();
}
END_TEST

/* Also those that fail, and sends and receives. */
START_TEST(every_kind_of_transfer_can_be_reaped)
{
	struct kvt_transfer *reaped[4], *failed, *send, *receive;
	struct kvt_send_request send_request = KVT_SEND_REQUEST_INIT;
	struct kvt_recv_request recv_request = KVT_RECV_REQUEST_INIT;
	uint8_t byte = 7;
	pages_open((unsigned)_i);
	struct kvt_kv *near = open_kv(pages.bed.near.conn, 1),
		      *far = open_kv(pages.bed.far.conn, 1);
	recv_request.len = SIZE_MAX;
	recv_request.reap = true;
	ck_assert_int_eq(kvt_recv_start(far, &recv_request, &receive, NULL), KVT_OK);
	send_request.base = &byte;
	send_request.len = 1;
	send_request.reap = true;
	ck_assert_int_eq(kvt_send_start(near, &send_request, &send, NULL), KVT_OK);
	await(send, KVT_OK);
	await(receive, KVT_OK);
	ck_assert_uint_eq(kvt_engine_reap(pages.bed.near.engine, reaped, 4), 1);
	ck_assert_ptr_eq(reaped[0], send);
	ck_assert_uint_eq(kvt_engine_reap(pages.bed.far.engine, reaped, 4), 1);
	ck_assert_ptr_eq(reaped[0], receive);

	fake_hold(FAKE_SEND);
	failed = start_reaped(pages.bed.near.conn, "x");
	kvt_transfer_cancel(failed);
	await(failed, KVT_E_CANCELLED);
	fake_hold(0);
	ck_assert_uint_eq(kvt_engine_reap(pages.bed.near.engine, reaped, 4), 1);
	ck_assert_ptr_eq(reaped[0], failed);
	kvt_transfer_free(send);
	kvt_transfer_free(receive);
	kvt_transfer_free(failed);
	kvt_kv_close(near);
	kvt_kv_close(far);
	pages_close();
}
END_TEST

/* ---- notifications ---- */

START_TEST(notifications_come_once_whole_and_in_order_on_a_lane)
{
	static const size_t lens[] = { 0, 1, 17, 100000, KVT_NOTIFY_LEN_MAX };
	struct kvt_transfer *transfers[5];
	struct kvt_event *event;
	pages_open((unsigned)_i);
	uint8_t *bytes = make_pattern(KVT_NOTIFY_LEN_MAX, 3);
	for (unsigned i = 0; i < 5; i++)
		transfers[i] = start_notify(pages.bed.near.conn, bytes, lens[i]);
	bool seen[5] = { false };
	for (unsigned i = 0; i < 5; i++) {
		ck_assert_int_eq(kvt_engine_wait(pages.bed.far.engine, BED_PATIENCE_NS), KVT_OK);
		if (kvt_engine_get_event(pages.bed.far.engine, &event) != KVT_OK) {
			i--;
			continue;
		}
		ck_assert_int_eq(event->kind, KVT_EVENT_NOTIFICATION);
		ck_assert_ptr_eq(event->conn, pages.bed.far.conn);
		unsigned which = 0;
		while (lens[which] != event->len)
			which++;
		/* On one lane they cannot overtake each other. */
		ck_assert(!seen[which] && ((_i & MANY_LANES) || which == i));
		seen[which] = true;
		ck_assert(event->len == 0 || memcmp(event->data, bytes, event->len) == 0);
		kvt_event_free(event);
	}
	for (unsigned i = 0; i < 5; i++)
		finish(transfers[i], KVT_OK);
	ck_assert(!is_readable(pages.bed.far.engine));
	expect_no_event(pages.bed.far.engine);
	ck_assert_uint_eq(get_stats(pages.bed.far.engine).notifications, 5);
	free(bytes);
	pages_close();
}
END_TEST

START_TEST(an_application_may_announce_an_error)
{
	struct kvt_notify_request request = KVT_NOTIFY_REQUEST_INIT;
	struct kvt_transfer *transfer;
	pages_open((unsigned)_i);
	request.conn = pages.bed.near.conn;
	request.notify = "gone";
	request.notify_len = 4;
	request.err = KVT_E_CANCELLED;
	ck_assert_int_eq(kvt_notify_start(&request, &transfer, NULL), KVT_OK);
	finish(transfer, KVT_OK);
	expect_notification(pages.bed.far.engine, "gone", KVT_E_CANCELLED);
	request.err = (enum kvt_err) - 12345;
	ck_assert_int_eq(kvt_notify_start(&request, &transfer, NULL), KVT_E_INVALID);
	request.err = KVT_OK;
	request.notify_len = KVT_NOTIFY_LEN_MAX + 1;
	ck_assert_int_eq(kvt_notify_start(&request, &transfer, NULL), KVT_E_INVALID);
	pages_close();
}
END_TEST

static unsigned count_done(struct kvt_transfer *const *transfers, unsigned count)
{
	unsigned done = 0;
	for (unsigned i = 0; i < count; i++)
		done += kvt_transfer_is_done(transfers[i]);
	return done;
}

START_TEST(notifications_that_nobody_takes_make_the_next_ones_wait)
{
	enum { COUNT = 800 };
	struct kvt_transfer *transfers[COUNT];
	struct kvt_event *event;
	pages_open(0);
	uint8_t *bytes = make_pattern(SHORT_LEN, 3);
	struct kvt_notify_request request = KVT_NOTIFY_REQUEST_INIT;
	request.conn = pages.bed.near.conn;
	request.notify = bytes;
	request.notify_len = SHORT_LEN;
	for (unsigned i = 0; i < COUNT; i++)
		ck_assert_int_eq(kvt_notify_start(&request, &transfers[i], NULL), KVT_OK);
	wait_until(count_done(transfers, COUNT) > 300);
	rest(100 * KVI_MS);
	unsigned done = count_done(transfers, COUNT);
	ck_assert_msg(done < 600, "%u of %d are done", done, COUNT);

	/* One more has its deadline, and is not told later. */
	request.timeout_ns = 50 * KVI_MS;
	request.notify_len = 3;
	struct kvt_transfer *late;
	ck_assert_int_eq(kvt_notify_start(&request, &late, NULL), KVT_OK);
	finish(late, KVT_E_TIMEOUT);

	unsigned taken = 0;
	for (; taken < COUNT; taken++) {
		int64_t deadline_ns = kvi_deadline_after(BED_PATIENCE_NS);
		while (kvt_engine_get_event(pages.bed.far.engine, &event) != KVT_OK)
			ck_assert_msg(kvi_clock_now() < deadline_ns, "only %u come", taken);
		ck_assert_uint_eq(event->len, SHORT_LEN);
		ck_assert_int_eq(event->err, KVT_OK);
		kvt_event_free(event);
	}
	for (unsigned i = 0; i < COUNT; i++)
		finish(transfers[i], KVT_OK);
	rest(20 * KVI_MS);
	expect_no_event(pages.bed.far.engine);
	free(bytes);
	pages_close();
}
END_TEST

/* An empty one costs memory, too. */
START_TEST(small_notifications_that_nobody_takes_are_bounded_as_large_ones_are)
{
	static const size_t lens[] = { 0, 1, 100, KVT_NOTIFY_LEN_MAX };
	const size_t len = lens[_i];
	const unsigned most = (unsigned)(KVI_LANE_WINDOW / (KVI_MESSAGE_CHARGE + len));
	const unsigned count = most + 50;
	struct kvt_transfer **transfers = calloc(count, sizeof(transfers[0]));
	struct kvt_event *event;
	pages_open(0);
	uint8_t *bytes = make_pattern(KVT_NOTIFY_LEN_MAX, 3);
	for (unsigned i = 0; i < count; i++)
		transfers[i] = start_notify(pages.bed.near.conn, bytes, len);
	wait_until(count_done(transfers, count) == most);
	rest(50 * KVI_MS);
	ck_assert_uint_eq(count_done(transfers, count), most);
	for (unsigned i = 0; i < count; i++) {
		wait_until(kvt_engine_get_event(pages.bed.far.engine, &event) == KVT_OK);
		kvt_event_free(event);
	}
	for (unsigned i = 0; i < count; i++)
		finish(transfers[i], KVT_OK);
	free(bytes);
	free(transfers);
	pages_close();
}
END_TEST

/* What a transfer that was just started has left. */
static int64_t get_left(const struct kvt_transfer *transfer)
{
	return transfer->deadline_ns == KVI_NEVER ? KVI_NEVER
						  : transfer->deadline_ns - kvi_clock_now();
}

START_TEST(what_has_no_timeout_has_the_default_deadline)
{
	struct kvt_transfer *transfers[4];
	pages_open(0);
	struct kvt_kv *kv = open_kv(pages.bed.near.conn, 5);
	fake_hold(FAKE_WRITE | FAKE_READ | FAKE_SEND);
	transfers[0] = start_send(kv, "x", 1);
	transfers[1] = start_blocks(KVT_WRITE, 1, NULL, 0);
	transfers[2] = start_notify(pages.bed.near.conn, "x", 1);
	transfers[3] = start_recv(kv, NULL, 1);
	for (unsigned i = 0; i < 3; i++) {
		ck_assert_int_le(get_left(transfers[i]), KVI_SEND_NS);
		ck_assert_int_gt(get_left(transfers[i]), KVI_SEND_NS - 20 * KVI_SECOND);
	}
	ck_assert_int_eq(get_left(transfers[3]), KVI_NEVER);
	fake_hold(0);
	for (unsigned i = 0; i < 4; i++)
		kvt_transfer_free(transfers[i]);
	kvt_kv_close(kv);
	pages_close();
}
END_TEST

START_TEST(notifications_that_wait_hold_up_nothing_else)
{
	enum { COUNT = 1400 };
	struct kvt_transfer *transfers[COUNT];
	pages_open(_i == 0 ? 0 : PACKS);
	struct kvt_kv *near = open_kv(pages.bed.near.conn, 7),
		      *far = open_kv(pages.bed.far.conn, 7);
	uint8_t *bytes = make_pattern(SHORT_LEN, 3);
	for (unsigned i = 0; i < COUNT; i++)
		transfers[i] = start_notify(pages.bed.near.conn, bytes, SHORT_LEN - i % 2 * 4000);
	wait_until(kvt_transfer_is_done(transfers[100]));
	rest(20 * KVI_MS);
	ck_assert(!kvt_transfer_is_done(transfers[COUNT - 1]));

	for (int direction = KVT_WRITE; direction <= KVT_READ; direction++) {
		fill_pages((enum kvt_direction)direction, 5);
		finish(start_blocks((enum kvt_direction)direction, 5, NULL, 0), KVT_OK);
		ck_assert(are_moved((enum kvt_direction)direction, 5));
	}
	exchange(near, far, 1000, 1);
	exchange(far, near, 1000, 2);
	exchange(near, far, LARGE_LEN, 3);
	ck_assert(!kvt_transfer_is_done(transfers[COUNT - 1]));

	/* They still come in their order. */
	for (unsigned i = 0; i < COUNT; i++) {
		struct kvt_event *event;
		wait_until(kvt_engine_get_event(pages.bed.far.engine, &event) == KVT_OK);
		ck_assert_uint_eq(event->len, SHORT_LEN - i % 2 * 4000);
		kvt_event_free(event);
		finish(transfers[i], KVT_OK);
	}
	free(bytes);
	kvt_kv_close(near);
	kvt_kv_close(far);
	pages_close();
}
END_TEST

/* ---- events and their connection ---- */

START_TEST(events_wait_until_their_connection_is_accepted)
{
	struct kvt_error error;
	struct kvt_event *event;
	pages_open((unsigned)_i);
	struct kvt_conn *near, *far;
	ck_assert_int_eq(kvt_conn_open(pages.bed.near.engine, "127.0.0.1",
				       kvt_engine_get_port(pages.bed.far.engine), BED_PATIENCE_NS,
				       &near, &error),
			 KVT_OK);
	finish(start_notify(near, "early", 5), KVT_OK);
	expect_no_event(pages.bed.far.engine);
	ck_assert(!is_readable(pages.bed.far.engine));
	ck_assert_int_eq(kvt_conn_accept(pages.bed.far.engine, BED_PATIENCE_NS, &far, &error),
			 KVT_OK);
	ck_assert(is_readable(pages.bed.far.engine));
	ck_assert_int_eq(kvt_engine_get_event(pages.bed.far.engine, &event), KVT_OK);
	ck_assert_ptr_eq(event->conn, far);
	ck_assert_uint_eq(event->len, 5);

	/* It is ours until freed, whatever becomes of its connection. */
	finish(start_notify(near, "unseen", 6), KVT_OK);
	kvt_conn_close(far);
	ck_assert_mem_eq(event->data, "early", 5);
	kvt_event_free(event);
	expect_no_event(pages.bed.far.engine); /* of a closed connection there are none */
	expect_conn_ended(pages.bed.near.engine, near, KVT_E_PEER_CLOSED);
	kvt_conn_close(near);
	pages_close();
}
END_TEST

START_TEST(events_that_nobody_takes_go_with_their_connection)
{
	pages_open((unsigned)_i);
	for (unsigned i = 0; i < 20; i++)
		finish(start_notify(pages.bed.near.conn, "unseen", 6), KVT_OK);
	ck_assert(is_readable(pages.bed.far.engine));
	fake_kill_lanes(NULL);
	wait_until(kvt_conn_get_status(pages.bed.far.conn, NULL) != KVT_OK);
	pages_close(); /* which looks that no memory is left */
}
END_TEST

/* What had come before the connection was lost can still be taken, and then its end. */
START_TEST(the_end_of_a_connection_comes_after_its_notifications)
{
	pages_open((unsigned)_i);
	finish(start_notify(pages.bed.near.conn, "first", 5), KVT_OK);
	fake_kill_lanes(NULL);
	wait_until(kvt_conn_get_status(pages.bed.far.conn, NULL) != KVT_OK);
	expect_notification(pages.bed.far.engine, "first", KVT_OK);
	expect_conn_ended(pages.bed.far.engine, pages.bed.far.conn, KVT_E_PEER_LOST);
	expect_conn_ended(pages.bed.near.engine, pages.bed.near.conn, KVT_E_PEER_LOST);
	expect_no_event(pages.bed.far.engine);
	struct kvt_transfer *transfer;
	struct kvt_notify_request request = KVT_NOTIFY_REQUEST_INIT;
	request.conn = pages.bed.near.conn;
	ck_assert_int_eq(kvt_notify_start(&request, &transfer, NULL), KVT_E_PEER_LOST);
	expect_new_pages();
	pages_close();
}
END_TEST

static void *wait_on_engine(void *arg)
{
	struct kvt_engine *engine = arg;
	enum kvt_err *err = malloc(sizeof(*err));
	ck_assert_ptr_nonnull(err);
	*err = kvt_engine_wait(engine, BED_PATIENCE_NS);
	return err;
}

START_TEST(a_wait_ends_when_something_happens)
{
	pthread_t thread;
	void *err;
	pages_open((unsigned)_i);
	pthread_create(&thread, NULL, wait_on_engine, pages.bed.far.engine);
	rest(20 * KVI_MS);
	finish(start_notify(pages.bed.near.conn, "wake", 4), KVT_OK);
	pthread_join(thread, &err);
	ck_assert_int_eq(*(enum kvt_err *)err, KVT_OK);
	free(err);
	expect_notification(pages.bed.far.engine, "wake", KVT_OK);
	int64_t started_ns = kvi_clock_now();
	ck_assert_int_eq(kvt_engine_wait(pages.bed.far.engine, 30 * KVI_MS), KVT_E_AGAIN);
	ck_assert_int_ge(kvi_clock_now() - started_ns, 29 * KVI_MS);
	pages_close();
}
END_TEST

/* ---- who waits again and again drives ---- */

enum { WAITS = 300, LATE_MAX = WAITS / 10 };

/* A thread that does nothing but wait for the far engine and take its events, till a wait fails. */
struct taker {
	pthread_t thread;
	struct kvt_engine *engine;
	atomic_uint taken;
	atomic_bool has_end; /* of the connection */
	enum kvt_err err;
};

static void *run_taker(void *arg)
{
	struct taker *taker = arg;
	struct kvt_event *event;
	while ((taker->err = kvt_engine_wait(taker->engine, BED_PATIENCE_NS)) == KVT_OK)
		while (kvt_engine_get_event(taker->engine, &event) == KVT_OK) {
			atomic_store(&taker->has_end, event->kind == KVT_EVENT_CONN_ENDED);
			kvt_event_free(event);
			atomic_fetch_add(&taker->taken, 1);
		}
	return NULL;
}

static void start_taker(struct taker *taker)
{
	*taker = (struct taker){ .engine = pages.bed.far.engine };
	ck_assert_int_eq(pthread_create(&taker->thread, NULL, run_taker, taker), 0);
}

static void notify_taker(struct taker *taker)
{
	unsigned taken = atomic_load(&taker->taken);
	finish(start_notify(pages.bed.near.conn, "x", 1), KVT_OK);
	while (atomic_load(&taker->taken) == taken)
		sched_yield();
}

/* What is lost is found when a slice of 100 ms is over. Rests of every length around that after which a waiter
 * sleeps, or does not drive. */
static void expect_in_time(void (*act)(struct taker *taker), struct taker *taker)
{
	unsigned late = 0;
	for (unsigned i = 0; i < WAITS; i++) {
		if (i % 4 != 0)
			rest((int64_t)(i % 30) * 10 * 1000);
		int64_t since_ns = kvi_clock_now();
		act(taker);
		late += kvi_clock_now() - since_ns > 90 * KVI_MS;
	}
	ck_assert_uint_le(late, LATE_MAX);
}

static void stop_taker(struct taker *taker)
{
	kvt_engine_stop(taker->engine);
	pthread_join(taker->thread, NULL);
	ck_assert_int_eq(taker->err, KVT_E_CLOSED);
}

START_TEST(each_of_many_waits_ends_in_time_and_the_last_one_when_the_engine_stops)
{
	struct taker taker;
	pages_open((unsigned)_i);
	start_taker(&taker);
	expect_in_time(notify_taker, &taker);
	stop_taker(&taker);
	pages_close();
}
END_TEST

static struct kvt_kv *near_kv, *far_kv;

static void exchange_beside(struct taker *taker)
{
	notify_taker(taker);
	exchange(near_kv, far_kv, 64, 1);
	exchange(far_kv, near_kv, 64, 2);
}

START_TEST(a_thread_that_waits_for_its_transfer_is_not_held_up_by_one_that_waits_for_the_engine)
{
	struct taker taker;
	pages_open((unsigned)_i);
	near_kv = open_kv(pages.bed.near.conn, 1);
	far_kv = open_kv(pages.bed.far.conn, 1);
	start_taker(&taker);
	expect_in_time(exchange_beside, &taker);
	kvt_kv_close(near_kv);
	kvt_kv_close(far_kv);
	stop_taker(&taker);
	pages_close();
}
END_TEST

static bool is_visited(struct kvi_worker *worker)
{
	kvi_worker_lock(worker);
	bool is = worker->visited;
	kvi_worker_unlock(worker);
	return is;
}

static int64_t get_patience(struct kvi_worker *worker)
{
	kvi_worker_lock(worker);
	int64_t now_ns = worker->inline_patience.now_ns;
	kvi_worker_unlock(worker);
	return now_ns;
}

START_TEST(who_waits_and_waits_in_vain_stops_looking_before_each_slice)
{
	struct taker taker;
	pages_open(0);
	struct kvi_worker *worker = pages.bed.far.engine->workers[0];
	start_taker(&taker);
	wait_until(is_visited(worker) || (notify_taker(&taker), false));
	kvi_worker_lock(worker);
	worker->inline_patience.now_ns = KVI_SPIN_MOST_NS; /* as after quick traffic */
	kvi_worker_unlock(worker);
	wait_until(get_patience(worker) == 0);
	stop_taker(&taker);
	pages_close();
}
END_TEST

START_TEST(a_wait_right_after_another_ends_when_the_connection_does)
{
	struct taker taker;
	pages_open((unsigned)_i);
	start_taker(&taker);
	for (unsigned i = 0; i < 20; i++)
		notify_taker(&taker);
	unsigned taken = atomic_load(&taker.taken);
	kvt_conn_close(pages.bed.near.conn);
	pages.bed.near.conn = NULL;
	wait_until(atomic_load(&taker.taken) > taken);
	ck_assert(atomic_load(&taker.has_end));
	stop_taker(&taker);
	pages_close();
}
END_TEST

START_TEST(a_descriptor_that_is_asked_for_late_is_readable)
{
	struct taker taker;
	pages_open((unsigned)_i);
	finish(start_notify(pages.bed.near.conn, "early", 5), KVT_OK);
	ck_assert(is_readable(pages.bed.far.engine));
	expect_notification(pages.bed.far.engine, "early", KVT_OK);
	ck_assert(!is_readable(pages.bed.far.engine));
	start_taker(&taker);
	expect_in_time(notify_taker, &taker);
	stop_taker(&taker);
	pages_close();
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("paged_events");
	tcase_set_timeout(tests, 120);
	tcase_add_loop_test(tests, transfers_are_reaped_once_in_the_order_they_complete, 0, 2);
	tcase_add_loop_test(tests, every_kind_of_transfer_can_be_reaped, 0, 2);
	tcase_add_loop_test(tests, notifications_come_once_whole_and_in_order_on_a_lane, 0, 2);
	tcase_add_loop_test(tests, an_application_may_announce_an_error, 0, 2);
	tcase_add_test(tests, notifications_that_nobody_takes_make_the_next_ones_wait);
	tcase_add_loop_test(
		tests, small_notifications_that_nobody_takes_are_bounded_as_large_ones_are, 0, 4);
	tcase_add_test(tests, what_has_no_timeout_has_the_default_deadline);
	tcase_add_loop_test(tests, notifications_that_wait_hold_up_nothing_else, 0, 2);
	tcase_add_loop_test(tests, events_wait_until_their_connection_is_accepted, 0, 2);
	tcase_add_loop_test(tests, events_that_nobody_takes_go_with_their_connection, 0, 2);
	tcase_add_loop_test(tests, the_end_of_a_connection_comes_after_its_notifications, 0, 2);
	tcase_add_loop_test(tests, a_wait_ends_when_something_happens, 0, 2);
	tcase_add_loop_test(tests,
			    each_of_many_waits_ends_in_time_and_the_last_one_when_the_engine_stops,
			    0, 2);
	tcase_add_loop_test(
		tests,
		a_thread_that_waits_for_its_transfer_is_not_held_up_by_one_that_waits_for_the_engine,
		0, 2);
	tcase_add_test(tests, who_waits_and_waits_in_vain_stops_looking_before_each_slice);
	tcase_add_loop_test(tests, a_wait_right_after_another_ends_when_the_connection_does, 0, 2);
	tcase_add_test(tests, a_descriptor_that_is_asked_for_late_is_readable);
	return run_tests("engine_paged_events", tests);
}
