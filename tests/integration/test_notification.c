/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_notification.c - notifications of all lengths between two processes: whole, once, in their order on a
 * lane, and none of a peer that died in the middle.
 */
#include "bed.h"

#include <signal.h>
#include <stdlib.h>

enum { COUNT = 40 };

static const size_t lens[] = {
	0, 1, 4 * KIB, 25 * KIB, 64 * KIB, 100 * KIB, KVT_NOTIFY_LEN_MAX - 1, KVT_NOTIFY_LEN_MAX
};

static size_t get_len(uint64_t number)
{
	return lens[number % (sizeof(lens) / sizeof(lens[0]))];
}

static struct kvt_transfer *start_notify(struct kvt_conn *conn, uint64_t number)
{
	struct kvt_notify_request request = KVT_NOTIFY_REQUEST_INIT;
	struct kvt_transfer *transfer = NULL;
	struct kvt_error error;
	uint8_t *bytes = make_filled(KVT_NOTIFY_LEN_MAX, 0);
	request.conn = conn;
	request.notify = bytes;
	request.notify_len = get_len(number);
	fill_pattern(bytes, request.notify_len, number);
	enum kvt_err err = kvt_notify_start(&request, &transfer, &error);
	must(err == KVT_OK, "no notification: %s", error.text);
	free(bytes);
	return transfer;
}

/* False: the connection has ended. */
static bool take_notification(struct kvt_engine *engine, uint64_t number)
{
	struct kvt_event *event = NULL;
	int64_t since_ns = get_time_ns();
	while (kvt_engine_get_event(engine, &event) != KVT_OK) {
		must(get_time_ns() - since_ns < PATIENCE_NS, "no notification");
		kvt_engine_wait(engine, 100 * MS);
	}
	bool came = event->kind == KVT_EVENT_NOTIFICATION;
	must(!came || (event->err == KVT_OK && event->len == get_len(number) &&
		       holds_pattern(event->data, event->len, number)),
	     "notification %llu is another", (unsigned long long)number);
	kvt_event_free(event);
	return came;
}

static void play_notified(struct peer *test, const void *arg)
{
	(void)arg;
	struct side side;
	side_serve(&side, test, NULL);
	for (uint64_t i = 0; i < COUNT; i++)
		must(take_notification(side.engine, i), "it ended");
	peer_hear(test);
	side_close(&side);
}

START_TEST(notifications_of_any_length_come_whole_and_in_their_order)
{
	struct kvt_transfer *transfers[COUNT];
	struct stage stage;
	stage_open(&stage, play_notified, NULL, NULL);
	for (uint64_t i = 0; i < COUNT; i++)
		transfers[i] = start_notify(stage.side.conn, i);
	for (uint64_t i = 0; i < COUNT; i++)
		finish(transfers[i], KVT_OK);
	peer_tell(&stage.peer, 0);
	peer_finish(&stage.peer);
	stage_close(&stage);
}
END_TEST

static void play_dying(struct peer *test, const void *arg)
{
	(void)arg;
	struct side side;
	side_serve(&side, test, NULL);
	for (uint64_t i = 0; i < COUNT; i++)
		start_notify(side.conn, i);
	raise(SIGKILL);
}

START_TEST(half_a_notification_of_a_peer_that_dies_is_told_to_nobody)
{
	struct kvt_engine_config config = make_watchful_config();
	struct stage stage;
	uint64_t taken = 0;
	stage_open(&stage, play_dying, NULL, &config);
	peer_await_death(&stage.peer);
	while (take_notification(stage.side.engine, taken))
		taken++;
	must(taken < COUNT, "all came");
	stage_close(&stage);
}
END_TEST

TCase *make_notification_tests(void)
{
	TCase *tests = tcase_create("notification");
	tcase_add_test(tests, notifications_of_any_length_come_whole_and_in_their_order);
	tcase_add_test(tests, half_a_notification_of_a_peer_that_dies_is_told_to_nobody);
	return tests;
}
