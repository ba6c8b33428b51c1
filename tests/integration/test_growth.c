/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_growth.c - what is done many times leaves descriptors, memory and gauges where they were.
 */
#include "bed.h"

#include <malloc.h>
#include <stdio.h>
#include <unistd.h>

enum {
	WARM_CYCLES = 10,
	CYCLES = 200,
	KV_CYCLES = 2000,
	GROWTH_MAX = 8 * MIB,
	LARGE_LEN = MIB,
};

struct level {
	int fds;
	long rss;
};

static long get_rss(void)
{
	malloc_trim(0); /* what the allocator keeps of what was freed is no growth */
	long size = 0, resident = 0;
	FILE *file = fopen("/proc/self/statm", "r");
	must(file != NULL && fscanf(file, "%ld %ld", &size, &resident) == 2, "no /proc");
	fclose(file);
	return resident * sysconf(_SC_PAGESIZE);
}

/* Of a process that has come to rest: a closed connection's last socket goes a moment later. */
static struct level get_level(void)
{
	rest(100 * MS);
	struct level level = { count_fds(), get_rss() };
	return level;
}

static void expect_level(const struct level *before)
{
	long growth = get_rss() - before->rss;
	expect_fds(before->fds);
	/* A sanitizer keeps freed memory for a while. */
	must(growth < GROWTH_MAX || is_slow(), "%ld KiB more", growth / KIB);
}

/* ---- connections ---- */

static void run_cycle(struct kvt_conn *conn, bool sends_first)
{
	struct kvt_kv *kv = open_kv(conn, TAG);
	for (int i = 0; i < 2; i++) {
		if (sends_first == (i == 0)) {
			send_pattern(kv, 64, 1);
			send_pattern(kv, LARGE_LEN, 2);
		} else {
			recv_pattern(kv, 64, 1);
			recv_pattern(kv, LARGE_LEN, 2);
		}
	}
	kvt_kv_close(kv);
	kvt_conn_close(conn);
}

static void play_cycles(struct peer *test, const void *arg)
{
	(void)arg;
	struct level level = { 0, 0 };
	uint16_t port = (uint16_t)peer_hear(test);
	struct kvt_engine *engine = open_engine(NULL);
	for (uint64_t i = 0; i < WARM_CYCLES + get_share(CYCLES); i++) {
		if (i == WARM_CYCLES) {
			level = get_level();
			peer_tell(test, 0);
			peer_hear(test);
		}
		run_cycle(connect_to(engine, port), true);
	}
	expect_no_gauges(engine);
	expect_level(&level);
	kvt_engine_close(engine);
}

START_TEST(connections_that_come_and_go_leave_nothing)
{
	struct peer peer;
	struct level level = { 0, 0 };
	peer_start(&peer, play_cycles, NULL);
	int fds = count_fds();
	struct kvt_engine *engine = open_engine(NULL);
	peer_tell(&peer, kvt_engine_get_port(engine));
	for (uint64_t i = 0; i < WARM_CYCLES + get_share(CYCLES); i++) {
		if (i == WARM_CYCLES) {
			peer_hear(&peer); /* it rests */
			level = get_level();
			peer_tell(&peer, 0);
		}
		run_cycle(accept_from(engine), false);
	}
	expect_no_gauges(engine);
	expect_level(&level);
	peer_finish(&peer);
	kvt_engine_close(engine);
	expect_fds(fds - 1);
}
END_TEST

START_TEST(engines_that_come_and_go_leave_nothing)
{
	struct level level = { 0, 0 };
	for (int i = 0; i < 25; i++) {
		if (i == 5)
			level = get_level();
		kvt_engine_close(open_engine(NULL));
	}
	expect_level(&level);
}
END_TEST

/* ---- KVs ---- */

static void play_still(struct peer *test, const void *arg)
{
	(void)arg;
	struct side side;
	struct level level = { 0, 0 };
	side_serve(&side, test, NULL);
	peer_hear(test);
	level = get_level();
	peer_tell(test, 0);
	peer_hear(test);
	expect_level(&level);
	side_close(&side);
}

static void open_and_close_kvs(struct kvt_conn *conn, uint64_t count)
{
	static uint8_t bytes[64 * KIB];
	struct kvt_kv_config config = KVT_KV_CONFIG_INIT;
	config.base = bytes;
	config.len = sizeof(bytes);
	for (uint64_t i = 0; i < count; i++) {
		struct kvt_kv *kv = NULL;
		config.tag = i % 2 == 0 ? KVT_TAG_AUTO : 100 + i;
		must(kvt_kv_open(conn, &config, &kv, NULL) == KVT_OK, "no KV");
		kvt_kv_close(kv);
	}
}

START_TEST(kvs_that_come_and_go_leave_nothing)
{
	struct stage stage;
	stage_open(&stage, play_still, NULL, NULL);
	open_and_close_kvs(stage.side.conn, 100);
	peer_tell(&stage.peer, 0);
	peer_hear(&stage.peer);
	struct level level = get_level();
	open_and_close_kvs(stage.side.conn, get_share(KV_CYCLES));
	expect_level(&level);
	must(get_stats(stage.side.engine).kvs == 1, "KVs are left");
	must(get_stats(stage.side.engine).registrations == 0, "registrations are left");
	peer_tell(&stage.peer, 0);
	peer_finish(&stage.peer);
	stage_close(&stage);
}
END_TEST

/* ---- pools and exports ---- */

enum { PAGE_LEN = 4 * KIB, PAGE_COUNT = 64, PAGED_CYCLES = 200 };

static uint8_t pages[PAGE_COUNT * PAGE_LEN];

static void take_notification(struct kvt_engine *engine)
{
	struct kvt_event *event = NULL;
	must_become(kvt_engine_get_event(engine, &event) == KVT_OK);
	must(event->err == KVT_OK, "%s", kvt_err_get_name(event->err));
	kvt_event_free(event);
}

/* Export, let the peer move blocks, withdraw. */
static void play_exports(struct peer *test, const void *arg)
{
	(void)arg;
	struct side side;
	struct level level = { 0, 0 };
	side_serve(&side, test, NULL);
	for (uint64_t i = 0; i < WARM_CYCLES + get_share(PAGED_CYCLES); i++) {
		if (i == WARM_CYCLES) {
			level = get_level();
			peer_tell(test, 0);
		}
		struct kvt_pool *pool = open_pool(side.engine, pages, PAGE_LEN, PAGE_COUNT);
		struct kvt_export *exported = export_pool(side.conn, pool, "pages");
		take_notification(side.engine);
		take_notification(side.engine);
		if (i % 2 == 0)
			kvt_export_close(exported);
		kvt_pool_close(pool); /* withdraws it, too */
		if (i % 2 == 1)
			kvt_export_close(exported);
		peer_tell(test, 0);
	}
	expect_level(&level);
	must(get_stats(side.engine).registrations == 0, "registrations are left");
	/* The other side has counted, too: closing takes the connection's sockets. */
	peer_hear(test);
	side_close(&side);
}

static void move_blocks(struct kvt_pool *pool, struct kvt_remote *remote,
			enum kvt_direction direction, bool turned)
{
	struct kvt_blocks_request request = KVT_BLOCKS_REQUEST_INIT;
	struct kvt_transfer *transfer = NULL;
	int32_t local[PAGE_COUNT], other[PAGE_COUNT];
	for (int32_t i = 0; i < PAGE_COUNT; i++) {
		local[i] = i;
		other[i] = turned ? PAGE_COUNT - 1 - i : i;
	}
	request.direction = direction;
	request.pool = pool;
	request.remote = remote;
	request.local_idx = local;
	request.remote_idx = other;
	request.index_len = sizeof(local[0]);
	request.count = PAGE_COUNT;
	request.notify = "";
	must(kvt_blocks_start(&request, &transfer, NULL) == KVT_OK, "no transfer");
	finish(transfer, KVT_OK);
}

START_TEST(pools_and_exports_that_come_and_go_leave_nothing)
{
	struct stage stage;
	struct level level = { 0, 0 };
	stage_open(&stage, play_exports, NULL, NULL);
	for (uint64_t i = 0; i < WARM_CYCLES + get_share(PAGED_CYCLES); i++) {
		if (i == WARM_CYCLES) {
			peer_hear(&stage.peer); /* it rests */
			level = get_level();
		}
		struct kvt_pool *pool = open_pool(stage.side.engine, pages, PAGE_LEN, PAGE_COUNT);
		struct kvt_remote *remote = find_remote(stage.side.conn, "pages");
		move_blocks(pool, remote, KVT_WRITE, i % 2 == 0);
		move_blocks(pool, remote, KVT_READ, i % 2 == 0);
		peer_hear(&stage.peer);
		kvt_remote_close(remote);
		kvt_pool_close(pool);
	}
	expect_level(&level);
	peer_tell(&stage.peer, 0);
	peer_finish(&stage.peer);
	stage_close(&stage);
}
END_TEST

TCase *make_growth_tests(void)
{
	TCase *tests = tcase_create("growth");
	tcase_add_test(tests, connections_that_come_and_go_leave_nothing);
	tcase_add_test(tests, engines_that_come_and_go_leave_nothing);
	tcase_add_test(tests, kvs_that_come_and_go_leave_nothing);
	tcase_add_test(tests, pools_and_exports_that_come_and_go_leave_nothing);
	return tests;
}
