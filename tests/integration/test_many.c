/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_many.c - hundreds of connections between two engines: more than the control thread takes in one turn.
 * What is promised of one holds for all of them.
 */
#include "bed.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

enum { MANY = 200, STOP_NS = 2 * LOST_AFTER_NS };

enum end { SILENCE, PAUSE_OF_OURS, CLOSE_OF_OURS, CLOSE_OF_PEER };

/* Heartbeats as the other side wants them, and patience without end. */
static struct kvt_engine_config make_patient_config(void)
{
	struct kvt_engine_config config = make_watchful_config();
	config.lost_after_ns = 60 * SECOND;
	return config;
}

/* Connects often; then does what the test is about. */
static void play_many(struct peer *test, const void *arg)
{
	const enum end *end = arg;
	struct kvt_engine_config config = make_patient_config();
	struct kvt_engine *engine = open_engine(&config);
	struct kvt_conn *conns[MANY];
	uint16_t port = (uint16_t)peer_hear(test);
	unsigned count = (unsigned)peer_hear(test);
	for (unsigned i = 0; i < count; i++)
		conns[i] = connect_to(engine, port);
	peer_tell(test, count);
	peer_hear(test);
	if (*end == SILENCE) {
		raise(SIGSTOP);
	} else if (*end == PAUSE_OF_OURS) {
		must(kill(getppid(), SIGSTOP) == 0, "no signal");
		rest(STOP_NS);
		must(kill(getppid(), SIGCONT) == 0, "no signal");
		peer_tell(test, 0);
		peer_hear(test);
	} else if (*end == CLOSE_OF_OURS) {
		for (unsigned i = 0; i < count; i++)
			expect_ended(conns[i], KVT_E_PEER_CLOSED);
	} else {
		kvt_engine_stop(engine);
	}
	for (unsigned i = 0; i < count; i++)
		kvt_conn_close(conns[i]);
	expect_no_gauges(engine);
	kvt_engine_close(engine);
}

START_TEST(what_ends_hundreds_of_connections_is_told_for_each_in_time)
{
	enum end end = (enum end)_i;
	struct kvt_engine_config config = make_watchful_config();
	struct kvt_conn *conns[MANY];
	struct peer peer, fresh;
	unsigned count = (unsigned)get_share(MANY);
	peer_start(&peer, play_many, &end);
	if (end != CLOSE_OF_OURS)
		peer_start(&fresh, play_fresh, NULL);
	struct kvt_engine *engine = open_engine(&config);
	peer_tell(&peer, kvt_engine_get_port(engine));
	peer_tell(&peer, count);
	for (unsigned i = 0; i < count; i++)
		conns[i] = accept_from(engine);
	must(peer_hear(&peer) == count, "some are missing");
	int64_t since_ns = get_time_ns();
	peer_tell(&peer, 0);

	if (end == PAUSE_OF_OURS) {
		/* We were away for longer than our own patience; the peer's heartbeats wait in the sockets. */
		peer_hear(&peer);
		rest(LOST_AFTER_NS);
		for (unsigned i = 0; i < count; i++)
			must(kvt_conn_get_status(conns[i], NULL) == KVT_OK, "%u is lost", i);
		peer_tell(&peer, 0);
	} else if (end == CLOSE_OF_OURS) {
		kvt_engine_stop(engine);
	}
	for (unsigned i = 0; i < count; i++)
		expect_ended(conns[i], end == SILENCE	      ? KVT_E_PEER_LOST
				       : end == CLOSE_OF_OURS ? KVT_E_CLOSED
							      : KVT_E_PEER_CLOSED);
	if (end == SILENCE)
		must(is_within(since_ns, LOST_AFTER_NS + SECOND), "told too late");
	for (unsigned i = 0; i < count; i++)
		kvt_conn_close(conns[i]);
	peer_signal(&peer, SIGCONT);
	peer_finish(&peer);
	if (end != CLOSE_OF_OURS)
		expect_served(engine, &fresh);
	expect_no_gauges(engine);
	kvt_engine_close(engine);
}
END_TEST

TCase *make_many_tests(void)
{
	TCase *tests = tcase_create("many");
	tcase_add_loop_test(tests, what_ends_hundreds_of_connections_is_told_for_each_in_time,
			    SILENCE, CLOSE_OF_PEER + 1);
	return tests;
}
