/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_orderly_close.c - closing in order: KVs, connections and engines, idle and in the middle of messages.
 */
#include "bed.h"

#include <stdlib.h>

enum { LARGE_LEN = 64 * MIB, EAGER_COUNT = 10 };

/* Long transfers both ways, of which none can end before the other end has begun its own. */
struct both_ways {
	uint8_t *source;
	uint8_t *target;
	struct kvt_kv *kvs[2];
	struct kvt_transfer *send;
	struct kvt_transfer *receive;
};

static void begin_both_ways(struct both_ways *both, struct kvt_conn *conn, bool is_test)
{
	both->source = make_filled(LARGE_LEN, 1);
	both->target = make_filled(LARGE_LEN, 0);
	both->kvs[0] = open_kv(conn, 20);
	both->kvs[1] = open_kv(conn, 21);
	both->send = start_send(both->kvs[is_test], both->source, LARGE_LEN);
	both->receive = start_recv(both->kvs[!is_test], both->target, LARGE_LEN);
}

static void end_both_ways(struct both_ways *both, enum kvt_err send_err, enum kvt_err receive_err)
{
	finish(both->send, send_err);
	put_canary(both->source, LARGE_LEN);
	finish(both->receive, receive_err);
	put_canary(both->target, LARGE_LEN);
	rest(20 * MS);
	expect_untouched(both->target, LARGE_LEN);
	free(both->source);
	free(both->target);
	kvt_kv_close(both->kvs[0]);
	kvt_kv_close(both->kvs[1]);
}

/* ---- an idle connection ---- */

static void play_leave(struct peer *test, const void *arg)
{
	(void)arg;
	struct side side;
	side_serve(&side, test, NULL);
	peer_hear(test);
	side_close(&side);
}

START_TEST(a_peer_that_closes_politely_ends_what_waits_with_peer_closed)
{
	struct stage stage;
	struct kvt_transfer *transfer = NULL;
	struct kvt_send_request request = KVT_SEND_REQUEST_INIT;
	struct kvt_error error = { .code = KVT_OK };
	stage_open(&stage, play_leave, NULL, NULL);
	struct kvt_transfer *receive = start_recv(stage.side.kv, NULL, SIZE_MAX);
	peer_tell(&stage.peer, 0);
	int64_t since_ns = get_time_ns();
	finish(receive, KVT_E_PEER_CLOSED);
	must(is_within(since_ns, SECOND), "too late");
	expect_ended(stage.side.conn, KVT_E_PEER_CLOSED);
	must(kvt_send_start(stage.side.kv, &request, &transfer, &error) == KVT_E_PEER_CLOSED &&
		     error.text[0] != '\0',
	     "a send begins");
	peer_finish(&stage.peer);
	must(get_stats(stage.side.engine).connections_lost == 0, "it was not lost");
	stage_close(&stage);
}
END_TEST

/* ---- what was sent before ---- */

static void play_bequest(struct peer *test, const void *arg)
{
	(void)arg;
	struct side side;
	side_serve(&side, test, NULL);
	for (uint64_t i = 0; i < EAGER_COUNT; i++)
		send_pattern(side.kv, 1 + i * 6000, i);
	side_close(&side);
}

START_TEST(small_messages_are_received_after_their_sender_has_gone)
{
	struct stage stage;
	stage_open(&stage, play_bequest, NULL, NULL);
	peer_finish(&stage.peer);
	expect_ended(stage.side.conn, KVT_E_PEER_CLOSED);
	for (uint64_t i = 0; i < EAGER_COUNT; i++)
		recv_pattern(stage.side.kv, 1 + i * 6000, i);
	finish(start_recv(stage.side.kv, NULL, SIZE_MAX), KVT_E_PEER_CLOSED);
	stage_close(&stage);
}
END_TEST

static void play_bequest_of_caller(struct peer *test, const void *arg)
{
	(void)arg;
	struct side side;
	side_call(&side, test, NULL);
	send_pattern(side.kv, 1000, 1);
	side_close(&side);
}

START_TEST(a_connection_accepted_late_still_has_what_its_caller_sent)
{
	struct peer peer;
	peer_start(&peer, play_bequest_of_caller, NULL);
	struct kvt_engine *engine = open_engine(NULL);
	peer_tell(&peer, kvt_engine_get_port(engine));
	peer_finish(&peer);
	must_become(get_stats(engine).connections_total == 1 && get_stats(engine).connections == 0);
	struct kvt_conn *conn = accept_from(engine);
	struct kvt_kv *kv = open_kv(conn, TAG);
	recv_pattern(kv, 1000, 1);
	finish(start_recv(kv, NULL, SIZE_MAX), KVT_E_PEER_CLOSED);
	kvt_kv_close(kv);
	kvt_conn_close(conn);
	expect_no_gauges(engine);
	kvt_engine_close(engine);
}
END_TEST

/* ---- in the middle of messages ---- */

enum closer { CLOSE_CONN, CLOSE_ENGINE, STOP_ENGINE, CLOSERS };

static void close_in_the_middle(struct side *side, bool is_test, enum closer closer)
{
	struct both_ways both;
	begin_both_ways(&both, side->conn, is_test);
	must_become(get_stats(side->engine).segments > 0);
	int64_t since_ns = get_time_ns();
	if (closer == CLOSE_CONN)
		kvt_conn_close(side->conn);
	else if (closer == CLOSE_ENGINE)
		kvt_engine_close(side->engine);
	else
		kvt_engine_stop(side->engine);
	must(is_within(since_ns, 2 * SECOND), "closing took too long");
	end_both_ways(&both, KVT_E_CLOSED, KVT_E_CLOSED);
	kvt_kv_close(side->kv);
	if (closer != CLOSE_CONN) {
		must(kvt_conn_get_status(side->conn, NULL) == KVT_E_CLOSED, "not closed");
		kvt_conn_close(side->conn);
	}
	if (closer != CLOSE_ENGINE)
		kvt_engine_close(side->engine);
}

static void play_closer(struct peer *test, const void *arg)
{
	struct side side;
	side_serve(&side, test, NULL);
	close_in_the_middle(&side, false, *(const enum closer *)arg);
}

START_TEST(a_peer_that_closes_in_the_middle_ends_its_messages_with_peer_closed)
{
	static const enum closer closers[CLOSERS] = { CLOSE_CONN, CLOSE_ENGINE, STOP_ENGINE };
	struct stage stage;
	struct both_ways both;
	stage_open(&stage, play_closer, &closers[_i], NULL);
	begin_both_ways(&both, stage.side.conn, true);
	end_both_ways(&both, KVT_E_PEER_CLOSED, KVT_E_PEER_CLOSED);
	expect_ended(stage.side.conn, KVT_E_PEER_CLOSED);
	peer_finish(&stage.peer);
	stage_close(&stage);
}
END_TEST

static void play_left(struct peer *test, const void *arg)
{
	(void)arg;
	struct side side;
	struct both_ways both;
	side_serve(&side, test, NULL);
	begin_both_ways(&both, side.conn, false);
	end_both_ways(&both, KVT_E_PEER_CLOSED, KVT_E_PEER_CLOSED);
	expect_ended(side.conn, KVT_E_PEER_CLOSED);
	side_close(&side);
}

START_TEST(an_engine_closes_in_the_middle_of_messages_and_its_handles_stay_valid)
{
	struct peer peer;
	struct side side;
	peer_start(&peer, play_left, NULL);
	int fds = count_fds();
	side_call(&side, &peer, NULL);
	close_in_the_middle(&side, true, CLOSE_ENGINE);
	peer_finish(&peer);
	expect_fds(fds - 1);
}
END_TEST

/* ---- one KV ---- */

static void play_kv_closer(struct peer *test, const void *arg)
{
	(void)arg;
	struct side side;
	struct both_ways both;
	side_serve(&side, test, NULL);
	begin_both_ways(&both, side.conn, false);
	must_become(get_stats(side.engine).segments > 0);
	kvt_kv_close(both.kvs[0]);
	kvt_kv_close(both.kvs[1]);
	both.kvs[0] = NULL;
	both.kvs[1] = NULL;
	end_both_ways(&both, KVT_E_CLOSED, KVT_E_CLOSED);
	recv_pattern(side.kv, 5 * MIB, 1);
	peer_hear(test);
	side_close(&side);
}

START_TEST(a_kv_that_the_peer_closes_ends_its_messages_and_no_others)
{
	struct stage stage;
	struct both_ways both;
	stage_open(&stage, play_kv_closer, NULL, NULL);
	begin_both_ways(&both, stage.side.conn, true);
	/* The peer's send was given up, its receive is gone. */
	end_both_ways(&both, KVT_E_PEER_CLOSED, KVT_E_CANCELLED);
	must(kvt_conn_get_status(stage.side.conn, NULL) == KVT_OK, "the connection has ended");
	send_pattern(stage.side.kv, 5 * MIB, 1);
	peer_tell(&stage.peer, 0);
	peer_finish(&stage.peer);
	stage_close(&stage);
}
END_TEST

TCase *make_orderly_close_tests(void)
{
	TCase *tests = tcase_create("orderly_close");
	tcase_add_test(tests, a_peer_that_closes_politely_ends_what_waits_with_peer_closed);
	tcase_add_test(tests, small_messages_are_received_after_their_sender_has_gone);
	tcase_add_test(tests, a_connection_accepted_late_still_has_what_its_caller_sent);
	tcase_add_loop_test(tests,
			    a_peer_that_closes_in_the_middle_ends_its_messages_with_peer_closed, 0,
			    CLOSERS);
	tcase_add_test(tests,
		       an_engine_closes_in_the_middle_of_messages_and_its_handles_stay_valid);
	tcase_add_test(tests, a_kv_that_the_peer_closes_ends_its_messages_and_no_others);
	return tests;
}
