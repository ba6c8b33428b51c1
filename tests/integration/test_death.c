/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_death.c - a peer that is killed at each step of its life: while the connection is made, while it
 * registers, sends or receives, or when all is done; the one that calls and the one that is called. The
 * other side hears of it in time, and serves the next.
 */
#include "bed.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* The peer dies when it has begun the step; or, while connecting, when so much of its time is over. */
enum step { CONNECT, REGISTER, SEND, RECEIVE, DONE, STEPS };

struct death {
	enum step step;
	unsigned percent;
};

/* The first two tell how long a life takes, once all is warm. */
static const struct death deaths[] = {
	{ DONE, 0 },	 { DONE, 0 }, { CONNECT, 5 }, { CONNECT, 40 },
	{ REGISTER, 0 }, { SEND, 0 }, { RECEIVE, 0 },
};

enum { LEN = 3 * MIB, DEATHS = sizeof(deaths) / sizeof(deaths[0]) };

/* ---- the peer ---- */

static void *kill_oneself(void *arg)
{
	rest(*(const int64_t *)arg);
	kill(getpid(), SIGKILL);
	return NULL;
}

/* Dies after the time that the test says, whatever it is doing then. */
static void die_after(int64_t time_ns)
{
	static int64_t left_ns;
	pthread_t thread;
	left_ns = time_ns;
	must(pthread_create(&thread, NULL, kill_oneself, &left_ns) == 0, "no thread");
}

static void die_at(enum step step, enum step wanted)
{
	if (step == wanted)
		raise(SIGKILL);
}

static void play_life(struct peer *test, const void *arg)
{
	bool calls = *(const bool *)arg;
	struct kvt_engine_config config = make_watchful_config();
	struct kvt_engine *engine = open_engine(&config);
	peer_tell(test, kvt_engine_get_port(engine));
	uint16_t port = (uint16_t)peer_hear(test);
	enum step wanted = (enum step)peer_hear(test);
	int64_t time_ns = (int64_t)peer_hear(test);
	if (wanted == CONNECT)
		die_after(time_ns);
	struct kvt_conn *conn = calls ? connect_to(engine, port) : accept_from(engine);
	die_at(REGISTER, wanted);

	uint8_t *bytes = make_filled(LEN, 0);
	struct kvt_kv_config kv_config = KVT_KV_CONFIG_INIT;
	struct kvt_kv *kv = NULL;
	kv_config.tag = TAG;
	kv_config.base = bytes;
	kv_config.len = LEN;
	must(kvt_kv_open(conn, &kv_config, &kv, NULL) == KVT_OK, "no KV");
	fill_pattern(bytes, LEN, 1);
	struct kvt_transfer *transfer = start_send(kv, bytes, LEN);
	die_at(SEND, wanted);
	finish(transfer, KVT_OK);
	transfer = start_recv(kv, bytes, LEN);
	die_at(RECEIVE, wanted);
	finish(transfer, KVT_OK);
	must(holds_pattern(bytes, LEN, 2), "other bytes");
	peer_hear(test);
	raise(SIGKILL);
}

/* ---- this side ---- */

struct life {
	enum step reached;
	enum kvt_err err;
	char text[KVT_TEXT_LEN];
	int64_t connected_ns; /* since the start */
	int64_t done_ns;
};

static enum kvt_err run_transfer(struct kvt_transfer *transfer, struct life *life)
{
	struct kvt_result result = KVT_RESULT_INIT;
	must(wait_for(transfer, PATIENCE_NS) == KVT_OK, "a transfer goes on");
	kvt_transfer_get_result(transfer, &result);
	snprintf(life->text, sizeof(life->text), "%s", result.text);
	kvt_transfer_free(transfer);
	return result.err;
}

/* What the peer lives through, from this side. Stops at the first error. */
static void live(struct kvt_conn *conn, uint8_t *bytes, struct life *life, int64_t since_ns)
{
	struct kvt_kv_config config = KVT_KV_CONFIG_INIT;
	struct kvt_recv_request recv = KVT_RECV_REQUEST_INIT;
	struct kvt_send_request send = KVT_SEND_REQUEST_INIT;
	struct kvt_transfer *transfer = NULL;
	struct kvt_error error = { .code = KVT_OK };
	struct kvt_kv *kv = NULL;
	config.tag = TAG;
	recv.base = bytes;
	recv.len = send.len = LEN;
	send.base = bytes;
	life->reached = REGISTER;
	life->connected_ns = get_time_ns() - since_ns;
	if ((life->err = kvt_kv_open(conn, &config, &kv, &error)) == KVT_OK) {
		life->reached = RECEIVE;
		life->err = kvt_recv_start(kv, &recv, &transfer, &error);
	}
	if (life->err == KVT_OK && (life->err = run_transfer(transfer, life)) == KVT_OK) {
		must(holds_pattern(bytes, LEN, 1), "other bytes");
		fill_pattern(bytes, LEN, 2);
		life->reached = SEND;
		life->err = kvt_send_start(kv, &send, &transfer, &error);
		if (life->err == KVT_OK && (life->err = run_transfer(transfer, life)) == KVT_OK)
			life->reached = DONE;
	}
	life->done_ns = get_time_ns() - since_ns;
	if (error.code != KVT_OK)
		memcpy(life->text, error.text, sizeof(life->text));
	put_canary(bytes, LEN);
	kvt_kv_close(kv);
}

/* NULL: it never came to be. */
static struct kvt_conn *meet(struct kvt_engine *engine, uint16_t port, bool peer_calls,
			     struct life *life, int64_t limit_ns)
{
	struct kvt_error error = { .code = KVT_OK };
	struct kvt_conn *conn = NULL;
	life->reached = CONNECT;
	life->err = peer_calls
			    ? kvt_conn_accept(engine, limit_ns, &conn, &error)
			    : kvt_conn_open(engine, get_host(), port, PATIENCE_NS, &conn, &error);
	memcpy(life->text, error.text, sizeof(life->text));
	return conn;
}

static void expect_right_code(const struct life *life, bool peer_calls)
{
	/* A caller that dies early has never been there. */
	bool right = life->err == KVT_E_PEER_LOST ||
		     (life->reached == CONNECT &&
		      life->err == (peer_calls ? KVT_E_TIMEOUT : KVT_E_UNREACHABLE));
	must(right && life->text[0] != '\0', "in step %d: %s: %s", life->reached,
	     kvt_err_get_name(life->err), life->text);
}

/* One death, and all that this side sees of it. */
static struct life see_death(struct kvt_engine *engine, struct peer *peer, bool peer_calls,
			     const struct death *death, const struct life *whole)
{
	struct life life = { .err = KVT_OK };
	uint8_t *bytes = make_filled(LEN, CANARY);
	uint16_t port = (uint16_t)peer_hear(peer);
	int64_t left_ns = whole->connected_ns * death->percent / 100 + 1;
	int64_t since_ns = get_time_ns();
	peer_tell(peer, kvt_engine_get_port(engine));
	peer_tell(peer, death->step);
	peer_tell(peer, (uint64_t)left_ns);
	struct kvt_conn *conn = meet(engine, port, peer_calls, &life, left_ns + 3 * SECOND / 2);
	if (conn != NULL)
		live(conn, bytes, &life, since_ns);
	if (death->step == DONE) {
		must(life.reached == DONE, "in step %d: %s", life.reached, life.text);
		since_ns = get_time_ns();
		peer_tell(peer, 0);
	}
	if (conn != NULL)
		expect_ended(conn, KVT_E_PEER_LOST);
	if (life.reached != DONE)
		expect_right_code(&life, peer_calls);
	if (death->step != CONNECT)
		left_ns = whole->done_ns;
	must(is_within(since_ns + left_ns, 2 * SECOND), "in step %d: too late", life.reached);
	peer_await_death(peer);
	kvt_conn_close(conn);
	must_become(get_stats(engine).connections == 0);
	expect_no_gauges(engine);
	expect_untouched(bytes, LEN);
	free(bytes);
	return life;
}

START_TEST(a_peer_killed_at_any_step_is_lost_in_time_and_the_next_is_served)
{
	bool peer_calls = _i == 1;
	struct kvt_engine_config config = make_watchful_config();
	struct peer peers[DEATHS], fresh;
	struct life whole = { .done_ns = 5 * SECOND };
	for (unsigned i = 0; i < DEATHS; i++)
		peer_start(&peers[i], play_life, &peer_calls);
	peer_start(&fresh, play_fresh, NULL);
	struct kvt_engine *engine = open_engine(&config);
	for (unsigned i = 0; i < DEATHS; i++) {
		struct life life = see_death(engine, &peers[i], peer_calls, &deaths[i], &whole);
		if (deaths[i].step == DONE)
			whole = life;
		printf("killed in step %d at %u %%: seen in step %d: %s\n", deaths[i].step,
		       deaths[i].percent, life.reached, kvt_err_get_name(life.err));
	}
	expect_served(engine, &fresh);
	expect_no_gauges(engine);
	kvt_engine_close(engine);
}
END_TEST

TCase *make_death_tests(void)
{
	TCase *tests = tcase_create("death");
	tcase_add_loop_test(tests, a_peer_killed_at_any_step_is_lost_in_time_and_the_next_is_served,
			    0, 2);
	return tests;
}
