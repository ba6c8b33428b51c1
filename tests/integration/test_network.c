/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_network.c - two processes with a cable between them that is pulled: tcp never says so, both ends
 * must find out. Each is in a network namespace of its own, which needs root and ip(8) and goes with its
 * process. Or the cable is there, as on RDMA devices that know no namespaces: KVT_TEST_CABLE has the
 * addresses of its ends, and the interface whose link is taken down to pull it.
 */
#include "bed.h"
#include "cable.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct ends {
	char caller_host[32];
	char server_host[32];
	char link[32];
	bool is_there;
};

static struct ends get_ends(void)
{
	struct ends ends = { "10.99.7.1", "10.99.7.2", CABLE, false };
	const char *text = getenv("KVT_TEST_CABLE");
	if (text != NULL)
		ends.is_there = sscanf(text, "%31s %31s %31s", ends.caller_host, ends.server_host,
				       ends.link) == 3;
	return ends;
}

/* What is under way when it is pulled. */
enum work { IDLE, SENDING, READING, WORKS };

enum { LARGE_LEN = 512 * MIB, IDLE_LEN = MIB, BLOCK_LEN = MIB };

static size_t get_len(enum work work)
{
	return work == IDLE ? IDLE_LEN : get_share(LARGE_LEN);
}

static struct kvt_transfer *start_read(struct kvt_conn *conn, struct kvt_pool *pool, size_t len)
{
	struct kvt_remote *remote = find_remote(conn, "pool");
	struct kvt_transfer *transfer = start_span(KVT_READ, pool, remote, len, 0);
	kvt_remote_close(remote);
	return transfer;
}

/* ---- the two ends ---- */

/* An engine at one end of the cable. */
static struct kvt_engine *enter_network(struct peer *test, const char *host, bool is_there)
{
	const char *const interfaces[] = { is_there ? host : CABLE };
	struct kvt_engine_config config = make_watchful_config();
	if (!is_there)
		connect_cable(test, host);
	config.interfaces = interfaces;
	config.ncpus = 2;
	config.nconn_per_cpu = 2;
	return open_engine(&config);
}

static void expect_loss(struct kvt_conn *conn, struct kvt_transfer *transfer, int64_t pulled_ns)
{
	finish(transfer, KVT_E_PEER_LOST);
	expect_ended(conn, KVT_E_PEER_LOST);
	/* A device without a link takes its time to give a queue pair back (Soft-RoCE: 2 s, seen). */
	int64_t limit_ns = is_rdma() ? 5 * SECOND : LOST_AFTER_NS + 3 * SECOND / 2;
	must(is_within(pulled_ns, limit_ns), "too late: %lld ms",
	     (long long)((get_time_ns() - pulled_ns) / MS));
}

static void play_caller(struct peer *test, const void *arg)
{
	enum work work = *(const enum work *)arg;
	size_t len = get_len(work);
	uint8_t *bytes = make_filled(len, 1);
	struct ends ends = get_ends();
	struct kvt_engine *engine = enter_network(test, ends.caller_host, ends.is_there);
	uint16_t port = (uint16_t)peer_hear(test);
	for (int round = 0; round < 2; round++) {
		struct kvt_conn *conn = NULL;
		struct kvt_error error = { .code = KVT_OK };
		enum kvt_err err =
			kvt_conn_open(engine, ends.server_host, port, PATIENCE_NS, &conn, &error);
		must(err == KVT_OK, "no connection: %s", error.text);
		struct kvt_kv *kv = open_kv(conn, TAG);
		send_pattern(kv, 5 * MIB, 1);
		if (round == 0) {
			uint64_t before = get_stats(engine).segments;
			struct kvt_pool *pool =
				work == READING
					? open_pool(engine, bytes, BLOCK_LEN, len / BLOCK_LEN)
					: NULL;
			struct kvt_transfer *transfer =
				work == IDLE	  ? start_recv(kv, NULL, SIZE_MAX)
				: work == READING ? start_read(conn, pool, len)
						  : start_send(kv, bytes, len);
			while (work != IDLE && get_stats(engine).segments < before + 16)
				must(!kvt_transfer_is_done(transfer), "the message has come and "
								      "gone");
			must(set_link(ends.link, false), "%s", strerror(errno));
			int64_t pulled_ns = get_time_ns();
			peer_tell(test, (uint64_t)pulled_ns);
			expect_loss(conn, transfer, pulled_ns);
			kvt_pool_close(pool);
			put_canary(bytes, len);
			peer_tell(test, 0);
			peer_hear(test); /* both ends know */
			must(set_link(ends.link, true), "%s", strerror(errno));
		}
		kvt_kv_close(kv);
		kvt_conn_close(conn);
		expect_no_gauges(engine);
	}
	must(work != READING || holds_only(bytes, len, CANARY), "read into after the read had "
								"ended");
	free(bytes);
	kvt_engine_close(engine);
}

static void play_server(struct peer *test, const void *arg)
{
	enum work work = *(const enum work *)arg;
	size_t len = get_len(work);
	uint8_t *bytes = make_filled(len, 0);
	struct ends ends = get_ends();
	struct kvt_engine *engine = enter_network(test, ends.server_host, ends.is_there);
	peer_tell(test, kvt_engine_get_port(engine));
	for (int round = 0; round < 2; round++) {
		struct kvt_conn *conn = accept_from(engine);
		struct kvt_kv *kv = open_kv(conn, TAG);
		recv_pattern(kv, 5 * MIB, 1);
		if (round == 0) {
			struct kvt_pool *pool =
				open_pool(engine, bytes, BLOCK_LEN, len / BLOCK_LEN);
			struct kvt_export *exported = NULL;
			if (work == READING)
				exported = export_pool(conn, pool, "pool");
			struct kvt_transfer *transfer =
				start_recv(kv, work == SENDING ? bytes : NULL, len);
			expect_loss(conn, transfer, (int64_t)peer_hear(test));
			kvt_export_close(exported);
			kvt_pool_close(pool);
			put_canary(bytes, len);
		}
		kvt_kv_close(kv);
		kvt_conn_close(conn);
		expect_no_gauges(engine);
		if (round == 0)
			peer_tell(test, 0); /* and the caller calls again */
	}
	must(work == IDLE || holds_only(bytes, len, CANARY), "written after the receive had "
							     "ended");
	free(bytes);
	kvt_engine_close(engine);
}

START_TEST(a_pulled_cable_is_found_out_at_both_ends_and_put_back_it_serves_again)
{
	enum work work = (enum work)_i;
	struct peer caller, server;
	peer_start(&caller, play_caller, &work);
	peer_start(&server, play_server, &work);
	if (!get_ends().is_there)
		lay_cable(&caller, &server);
	peer_tell(&caller, peer_hear(&server)); /* the port */
	peer_tell(&server, peer_hear(&caller)); /* when the cable was pulled */
	peer_hear(&caller);
	peer_hear(&server);
	peer_tell(&caller, 0);
	peer_finish(&caller);
	peer_finish(&server);
}
END_TEST

TCase *make_network_tests(void)
{
	TCase *tests = tcase_create("network");
	if (is_local())
		puts("SKIP: peers in two network namespaces: there is no path between them");
	else if (!get_ends().is_there && strcmp(get_interface(), "lo") != 0)
		printf("SKIP: peers in two network namespaces: %s cannot be in both\n",
		       get_interface());
	else if (get_ends().is_there || can_lay_cable(NULL))
		tcase_add_loop_test(
			tests,
			a_pulled_cable_is_found_out_at_both_ends_and_put_back_it_serves_again, 0,
			WORKS);
	else
		puts("SKIP: peers in two network namespaces: it takes root and ip(8)");
	return tests;
}
