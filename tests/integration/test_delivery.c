/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_delivery.c - a peer is told of success and goes, in every way there is: this side's application
 * gets what it was told of, then the end of the connection, accepted before or not.
 */
#include "bed.h"

#include <signal.h>
#include <stdlib.h>

/* The last three need this side's application to have the connection. */
enum what { MESSAGE, NOTE, LARGE_MESSAGE, NOTED_WRITE, NOTED_READ, WHATS, BEFORE_ACCEPT = 2 };
enum way { CLOSES_CONN, CLOSES_ENGINE, IS_KILLED, IS_STOPPED, WAYS };

enum { SMALL_LEN = 5000, LARGE_LEN = 5 * MIB, BLOCK_LEN = 48 * KIB, BLOCK_COUNT = 20 };

struct bequest {
	enum what what;
	enum way way;
	bool is_accepted;
};

static struct bequest get_bequest(int number)
{
	bool is_accepted = number < WHATS * WAYS;
	int left = is_accepted ? number : number - WHATS * WAYS;
	return (struct bequest){ (enum what)(left / WAYS), (enum way)(left % WAYS), is_accepted };
}

/* ---- who goes ---- */

static void notify(struct kvt_conn *conn, const char *text)
{
	struct kvt_notify_request request = KVT_NOTIFY_REQUEST_INIT;
	struct kvt_transfer *transfer = NULL;
	request.conn = conn;
	request.notify = text;
	request.notify_len = strlen(text);
	must(kvt_notify_start(&request, &transfer, NULL) == KVT_OK, "no notification");
	finish(transfer, KVT_OK);
}

/* All blocks of the peer's pool, in one transfer with its notification. */
static void move_blocks(struct side *side, enum kvt_direction direction)
{
	struct kvt_blocks_request request = KVT_BLOCKS_REQUEST_INIT;
	struct kvt_transfer *transfer = NULL;
	uint8_t *bytes = make_filled(BLOCK_COUNT * BLOCK_LEN, 0);
	int32_t index[BLOCK_COUNT];
	for (int32_t i = 0; i < BLOCK_COUNT; i++)
		index[i] = i;
	fill_pattern(bytes, BLOCK_COUNT * BLOCK_LEN, 1);
	struct kvt_pool *pool = open_pool(side->engine, bytes, BLOCK_LEN, BLOCK_COUNT);
	struct kvt_remote *remote = find_remote(side->conn, "blocks");
	request.direction = direction;
	request.pool = pool;
	request.remote = remote;
	request.local_idx = index;
	request.remote_idx = index;
	request.index_len = sizeof(index[0]);
	request.count = BLOCK_COUNT;
	request.notify = "first";
	request.notify_len = 5;
	must(kvt_blocks_start(&request, &transfer, NULL) == KVT_OK, "no transfer");
	finish(transfer, KVT_OK);
	kvt_remote_close(remote);
	kvt_pool_close(pool);
	free(bytes);
}

static void play_leaver(struct peer *test, const void *arg)
{
	const struct bequest *bequest = arg;
	struct kvt_engine_config config = make_watchful_config();
	struct side side;
	side_call(&side, test, &config);
	peer_hear(test);
	if (bequest->what == MESSAGE)
		send_pattern(side.kv, SMALL_LEN, 1);
	else if (bequest->what == LARGE_MESSAGE)
		send_pattern(side.kv, LARGE_LEN, 1);
	else if (bequest->what == NOTE)
		notify(side.conn, "first");
	else
		move_blocks(&side, bequest->what == NOTED_WRITE ? KVT_WRITE : KVT_READ);
	notify(side.conn, "last");
	if (bequest->way == IS_KILLED || bequest->way == IS_STOPPED)
		raise(bequest->way == IS_KILLED ? SIGKILL : SIGSTOP);
	if (bequest->way == CLOSES_ENGINE)
		kvt_engine_close(side.engine);
	kvt_kv_close(side.kv);
	kvt_conn_close(side.conn);
	if (bequest->way != CLOSES_ENGINE)
		kvt_engine_close(side.engine);
}

/* ---- this side ---- */

static void await_end(struct peer *peer, enum way way)
{
	if (way == IS_STOPPED)
		peer_await_stop(peer);
	else if (way == IS_KILLED)
		peer_await_death(peer);
	else
		peer_finish(peer);
}

static void expect_event(struct side *side, enum kvt_event_kind kind, const char *text)
{
	struct kvt_event *event = NULL;
	must_become(kvt_engine_get_event(side->engine, &event) == KVT_OK);
	must(event->kind == kind && event->conn == side->conn, "another event");
	must(event->len == strlen(text) && memcmp(event->data, text, event->len) == 0,
	     "%zu other bytes", event->len);
	must(kind == KVT_EVENT_CONN_ENDED || event->err == KVT_OK, "failed");
	kvt_event_free(event);
}

START_TEST(what_a_peer_was_told_of_is_received_however_it_went)
{
	struct bequest bequest = get_bequest(_i);
	struct kvt_engine_config config = make_watchful_config();
	struct kvt_transfer *receive = NULL;
	struct kvt_export *exported = NULL;
	struct peer peer;
	peer_start(&peer, play_leaver, &bequest);
	struct side side = { .engine = open_engine(&config) };
	uint8_t *bytes = make_filled(LARGE_LEN, 0);
	struct kvt_pool *pool = open_pool(side.engine, bytes, BLOCK_LEN, BLOCK_COUNT);
	peer_tell(&peer, kvt_engine_get_port(side.engine));
	if (bequest.is_accepted) {
		side.conn = accept_from(side.engine);
		side.kv = open_kv(side.conn, TAG);
	}
	if (bequest.what == LARGE_MESSAGE)
		receive = start_recv(side.kv, bytes, LARGE_LEN);
	if (bequest.what == NOTED_WRITE || bequest.what == NOTED_READ)
		exported = export_pool(side.conn, pool, "blocks");
	peer_tell(&peer, 0);

	await_end(&peer, bequest.way);
	must_become(get_stats(side.engine).connections_total == 1 &&
		    get_stats(side.engine).connections == 0);
	if (!bequest.is_accepted)
		side.conn = accept_from(side.engine);
	if (!bequest.is_accepted && bequest.what == MESSAGE)
		side.kv = open_kv(side.conn, TAG);
	bool polite = bequest.way == CLOSES_CONN || bequest.way == CLOSES_ENGINE;
	expect_ended(side.conn, polite ? KVT_E_PEER_CLOSED : KVT_E_PEER_LOST);
	if (bequest.what == MESSAGE)
		recv_pattern(side.kv, SMALL_LEN, 1);
	if (bequest.what == LARGE_MESSAGE)
		must(finish(receive, KVT_OK) == LARGE_LEN && holds_pattern(bytes, LARGE_LEN, 1),
		     "another message");
	if (bequest.what == NOTED_WRITE)
		must(holds_pattern(bytes, BLOCK_COUNT * BLOCK_LEN, 1), "other blocks");
	if (bequest.what != MESSAGE && bequest.what != LARGE_MESSAGE)
		expect_event(&side, KVT_EVENT_NOTIFICATION, "first");
	expect_event(&side, KVT_EVENT_NOTIFICATION, "last");
	expect_event(&side, KVT_EVENT_CONN_ENDED, "");
	if (bequest.way == IS_STOPPED)
		peer_signal(&peer, SIGKILL);
	kvt_export_close(exported);
	kvt_pool_close(pool);
	side_close(&side);
	free(bytes);
}
END_TEST

/* ---- many ---- */

enum { LEAVERS = 120 };

/* One engine after the other would take long: one that connects again and again. */
static void play_leavers(struct peer *test, const void *arg)
{
	(void)arg;
	struct kvt_engine *engine = open_engine(NULL);
	uint16_t port = (uint16_t)peer_hear(test);
	for (uint64_t i = 0; i < LEAVERS; i++) {
		struct kvt_conn *conn = connect_to(engine, port);
		struct kvt_kv *kv = open_kv(conn, TAG);
		if (i % 2 == 0)
			send_pattern(kv, SMALL_LEN, i);
		notify(conn, "last");
		kvt_kv_close(kv);
		kvt_conn_close(conn);
	}
	kvt_engine_close(engine);
}

/* Accepted when all have gone, or as they come. */
START_TEST(of_many_peers_that_leave_something_and_go_none_is_missed)
{
	struct peer peer;
	peer_start(&peer, play_leavers, NULL);
	struct side side = { .engine = open_engine(NULL) };
	peer_tell(&peer, kvt_engine_get_port(side.engine));
	if (_i == 0)
		peer_finish(&peer);
	for (uint64_t i = 0; i < LEAVERS; i++) {
		side.conn = accept_from(side.engine);
		expect_event(&side, KVT_EVENT_NOTIFICATION, "last");
		if (i % 2 == 0) {
			side.kv = open_kv(side.conn, TAG);
			recv_pattern(side.kv, SMALL_LEN, i);
			kvt_kv_close(side.kv);
		}
		expect_event(&side, KVT_EVENT_CONN_ENDED, "");
		kvt_conn_close(side.conn);
	}
	if (_i == 1)
		peer_finish(&peer);
	expect_no_gauges(side.engine);
	kvt_engine_close(side.engine);
}
END_TEST

TCase *make_delivery_tests(void)
{
	TCase *tests = tcase_create("delivery");
	tcase_add_loop_test(tests, what_a_peer_was_told_of_is_received_however_it_went, 0,
			    (WHATS + BEFORE_ACCEPT) * WAYS);
	tcase_add_loop_test(tests, of_many_peers_that_leave_something_and_go_none_is_missed, 0, 2);
	return tests;
}
