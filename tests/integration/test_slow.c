/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_slow.c - two processes with a slow link between them: what is given up there takes longer to become
 * quiet than anywhere else, and costs no connection. The link is a veth between two network namespaces,
 * shaped at both ends with a queue as routers have it, which needs root, ip(8) and tc(8).
 */
#include "bed.h"
#include "cable.h"

#include <stdio.h>
#include <stdlib.h>

enum { MESSAGE_LEN = 32 * MIB, BLOCK_LEN = 256 * KIB, NEXT_LEN = 100 * KIB };

/* How long beyond its deadline anything may take there. */
#define QUIET_NS (4 * SECOND)

enum way { SEND, RECEIVE, WRITE, READ, WITHDRAW };

struct trial {
	const char *rate;
	const char *latency; /* of a full queue */
	unsigned lanes;
	enum way way;
	bool by_deadline;
};

static const struct trial trials[] = {
	{ "10mbit", "100ms", 1, WRITE, true },	   { "10mbit", "100ms", 32, SEND, true },
	{ "10mbit", "400ms", 4, RECEIVE, false },  { "10mbit", "100ms", 4, READ, false },
	{ "100mbit", "50ms", 4, WRITE, true },	   { "100mbit", "50ms", 1, RECEIVE, true },
	{ "10mbit", "50ms", 32, WITHDRAW, false },
};

/* ---- the two ends ---- */

/* An engine at one end of the link. */
static struct kvt_engine *enter_network(struct peer *test, const struct trial *trial,
					const char *host)
{
	static const char *const interfaces[] = { CABLE };
	struct kvt_engine_config config = make_config();
	char command[200];
	connect_cable(test, host);
	snprintf(command, sizeof(command),
		 "tc qdisc add dev " CABLE " root tbf burst 32k rate %s latency %s", trial->rate,
		 trial->latency);
	must(system(command) == 0, "no shaped link");
	config.interfaces = interfaces;
	config.ncpus = trial->lanes > 1 ? 2 : 1;
	config.nconn_per_cpu = trial->lanes / config.ncpus;
	return open_engine(&config);
}

static bool is_message(enum way way)
{
	return way == SEND || way == RECEIVE;
}

static void give_up(struct kvt_transfer *transfer, bool by_deadline)
{
	if (!by_deadline) {
		rest(300 * MS);
		kvt_transfer_cancel(transfer);
	}
	int64_t since_ns = get_time_ns();
	finish(transfer, by_deadline ? KVT_E_TIMEOUT : KVT_E_CANCELLED);
	must(is_within(since_ns, QUIET_NS + (by_deadline ? 300 * MS : 0)), "too late: %lld ms",
	     (long long)((get_time_ns() - since_ns) / MS));
}

/* This side sends, writes and reads. */
static void play_caller(struct peer *test, const void *arg)
{
	const struct trial *trial = arg;
	int64_t timeout_ns = trial->by_deadline ? 300 * MS : 0;
	struct kvt_engine *engine = enter_network(test, trial, "10.99.8.1");
	uint8_t *bytes = make_filled(MESSAGE_LEN, 0);
	struct kvt_conn *conn = NULL;
	uint16_t port = (uint16_t)peer_hear(test);
	must(kvt_conn_open(engine, "10.99.8.2", port, PATIENCE_NS, &conn, NULL) == KVT_OK, "no "
											   "connect"
											   "ion");
	struct kvt_kv *kv = open_kv(conn, TAG);
	fill_pattern(bytes, MESSAGE_LEN, 1);
	if (is_message(trial->way)) {
		struct kvt_transfer *send = start_send_within(kv, bytes, MESSAGE_LEN,
							      trial->way == SEND ? timeout_ns : 0);
		if (trial->way == SEND) {
			give_up(send, trial->by_deadline);
		} else {
			peer_hear(test); /* the receive is no more: the message is where it was */
			give_up(send, false);
			peer_tell(test, 0);
		}
	} else {
		enum kvt_direction direction = trial->way == READ ? KVT_READ : KVT_WRITE;
		struct kvt_pool *pool =
			open_pool(engine, bytes, BLOCK_LEN, MESSAGE_LEN / BLOCK_LEN);
		struct kvt_remote *remote = find_remote(conn, "pool");
		struct kvt_transfer *transfer =
			start_span(direction, pool, remote, MESSAGE_LEN, timeout_ns);
		peer_tell(test, 0);
		if (trial->way == WITHDRAW) {
			finish(transfer, KVT_E_WITHDRAWN);
		} else {
			give_up(transfer, trial->by_deadline);
			fill_pattern(bytes, NEXT_LEN, 3);
			peer_tell(test, 0); /* the owner's memory is the owner's */
			peer_hear(test);
			finish(start_span(direction, pool, remote, NEXT_LEN, 0), KVT_OK);
			must(holds_pattern(bytes, NEXT_LEN, direction == KVT_READ ? 5 : 3), "not "
											    "whol"
											    "e");
		}
		kvt_remote_close(remote);
		kvt_pool_close(pool);
	}
	send_pattern(kv, NEXT_LEN, 7);
	must(kvt_conn_get_status(conn, NULL) == KVT_OK, "the connection is gone");
	peer_tell(test, 0);
	peer_hear(test);
	free(bytes);
	kvt_engine_close(engine);
}

static void serve_messages(struct peer *test, const struct trial *trial, struct kvt_kv *kv,
			   uint8_t *bytes)
{
	bool gives_up = trial->way == RECEIVE;
	struct kvt_transfer *receive = start_recv_within(
		kv, bytes, MESSAGE_LEN, gives_up && trial->by_deadline ? 300 * MS : 0);
	if (!gives_up) {
		finish(receive, KVT_E_CANCELLED);
		return;
	}
	give_up(receive, trial->by_deadline);
	put_canary(bytes, MESSAGE_LEN);
	rest(500 * MS);
	expect_untouched(bytes, MESSAGE_LEN);
	peer_tell(test, 0);
	peer_hear(test);
	rest(SECOND); /* on that link ABORT is slower than what the test says */
}

static void serve_pages(struct peer *test, const struct trial *trial, struct kvt_conn *conn,
			struct kvt_pool *pool, uint8_t *bytes)
{
	struct kvt_export *exported = export_pool(conn, pool, "pool");
	peer_hear(test); /* the transfer has begun */
	if (trial->way == WITHDRAW) {
		rest(300 * MS);
		int64_t since_ns = get_time_ns();
		kvt_export_close(exported);
		must(is_within(since_ns, QUIET_NS), "too late: %lld ms",
		     (long long)((get_time_ns() - since_ns) / MS));
	} else {
		peer_hear(test); /* it has failed: what is here stays as it is */
		put_canary(bytes, MESSAGE_LEN);
		rest(500 * MS);
		expect_untouched(bytes, MESSAGE_LEN);
		fill_pattern(bytes, NEXT_LEN, 5);
		peer_tell(test, 0);
	}
	if (trial->way == WITHDRAW) {
		put_canary(bytes, MESSAGE_LEN);
		rest(500 * MS);
		expect_untouched(bytes, MESSAGE_LEN);
	}
}

static void play_server(struct peer *test, const void *arg)
{
	const struct trial *trial = arg;
	struct kvt_engine *engine = enter_network(test, trial, "10.99.8.2");
	uint8_t *bytes = make_filled(MESSAGE_LEN, 0);
	struct kvt_pool *pool = open_pool(engine, bytes, BLOCK_LEN, MESSAGE_LEN / BLOCK_LEN);
	peer_tell(test, kvt_engine_get_port(engine));
	struct kvt_conn *conn = accept_from(engine);
	struct kvt_kv *kv = open_kv(conn, TAG);
	if (is_message(trial->way))
		serve_messages(test, trial, kv, bytes);
	else
		serve_pages(test, trial, conn, pool, bytes);
	recv_pattern(kv, NEXT_LEN, 7);
	must(trial->way != WRITE || holds_pattern(bytes, NEXT_LEN, 3), "not whole");
	must(kvt_conn_get_status(conn, NULL) == KVT_OK, "the connection is gone");
	peer_tell(test, 0);
	peer_hear(test);
	kvt_engine_close(engine);
	free(bytes);
}

START_TEST(what_is_given_up_on_a_slow_link_costs_no_connection)
{
	const struct trial *trial = &trials[_i];
	struct peer caller, server;
	peer_start(&caller, play_caller, trial);
	peer_start(&server, play_server, trial);
	lay_cable(&caller, &server);
	peer_tell(&caller, peer_hear(&server)); /* the port */
	if (trial->way == RECEIVE) {
		peer_tell(&caller, peer_hear(&server));
		peer_tell(&server, peer_hear(&caller));
	} else if (!is_message(trial->way)) {
		peer_tell(&server, peer_hear(&caller));
		if (trial->way != WITHDRAW) {
			peer_tell(&server, peer_hear(&caller));
			peer_tell(&caller, peer_hear(&server));
		}
	}
	peer_hear(&caller);
	peer_hear(&server);
	peer_tell(&caller, 0);
	peer_tell(&server, 0);
	peer_finish(&caller);
	peer_finish(&server);
}
END_TEST

TCase *make_slow_tests(void)
{
	enum { TRIALS = sizeof(trials) / sizeof(trials[0]) };
	TCase *tests = tcase_create("slow");
	/* The last one is about a drain that takes about a second, and that only the kernel sees. */
	bool is_seen = strcmp(get_provider(), "tcp") == 0;
	if (!is_seen)
		printf("SKIP: a withdrawal over 32 lanes of a slow link: %s's bytes cannot be seen "
		       "to "
		       "move\n",
		       get_provider());
	if (is_under_tsan())
		puts("SKIP: a slow link between two namespaces: under ThreadSanitizer the host is "
		     "slower");
	else if (is_local())
		puts("SKIP: a slow link between two namespaces: one host has none");
	else if (strcmp(get_interface(), "lo") != 0)
		printf("SKIP: a slow link between two namespaces: %s cannot be in both\n",
		       get_interface());
	else if (can_lay_cable("tc qdisc add dev " CABLE " root tbf rate 10mbit burst 32k "
			       "latency 50ms >/dev/null 2>&1"))
		tcase_add_loop_test(tests, what_is_given_up_on_a_slow_link_costs_no_connection, 0,
				    is_seen ? TRIALS : TRIALS - 1);
	else
		puts("SKIP: a slow link between two namespaces: it takes root, ip(8), and tc(8) "
		     "with tbf");
	return tests;
}
