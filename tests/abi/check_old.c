/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_old.c - a program of version 0.1: it sees the headers in tests/abi/0.1 and no others, and runs with the
 * library that is built here. It uses every struct.
 */
#include <check.h>
#include <kvtrans.h>
#include <string.h>

#include "support/runner.h"

enum { LEN = 256 * 1024, BLOCK_LEN = 4096, BLOCK_COUNT = LEN / BLOCK_LEN };

static const int64_t patience_ns = INT64_C(30000000000);

static struct kvt_engine *engine;
static struct kvt_conn *near, *far;
static struct kvt_error error;
static uint8_t source[LEN], target[LEN];

static void must_do(enum kvt_err err, const char *what)
{
	ck_assert_msg(err == KVT_OK, "%s: %s: %s", what, kvt_err_get_name(err), error.text);
}

static void set_up(void)
{
	static const char *const interface = "lo";
	struct kvt_engine_config config = KVT_ENGINE_CONFIG_INIT;
	config.interfaces = &interface;
	config.interface_count = 1;
	config.ncpus = 1;
	must_do(kvt_engine_open(&config, &engine, &error), "open");
	must_do(kvt_conn_open(engine, "127.0.0.1", kvt_engine_get_port(engine), 0, &near, &error),
		"connect");
	must_do(kvt_conn_accept(engine, patience_ns, &far, &error), "accept");
	for (size_t i = 0; i < LEN; i++)
		source[i] = (uint8_t)(i * 31 >> 8);
	memset(target, 0, LEN);
}

static void tear_down(void)
{
	kvt_conn_close(near);
	kvt_conn_close(far);
	kvt_engine_close(engine);
}

static void finish(struct kvt_transfer *transfer, size_t len)
{
	struct kvt_result result = KVT_RESULT_INIT;
	must_do(kvt_transfer_wait(transfer, patience_ns), "wait");
	must_do(kvt_transfer_get_result(transfer, &result), "result");
	ck_assert_msg(result.err == KVT_OK, "%s", result.text);
	ck_assert_uint_eq(result.len, len);
	ck_assert_uint_eq(result.size, sizeof(result));
	ck_assert_int_gt(result.transfer_ns, 0);
	kvt_transfer_free(transfer);
}

START_TEST(messages_go_through)
{
	struct kvt_kv_config config = KVT_KV_CONFIG_INIT;
	struct kvt_recv_request in = { .size = sizeof(in), .base = target, .len = LEN };
	struct kvt_send_request out = {
		.size = sizeof(out), .base = source, .len = LEN, .meta = "meta", .meta_len = 4
	};
	struct kvt_kv *from, *to;
	struct kvt_transfer *send, *receive;
	struct kvt_stats stats = KVT_STATS_INIT;
	must_do(kvt_kv_open(near, &config, &from, &error), "near KV");
	must_do(kvt_kv_open(far, &config, &to, &error), "far KV");
	must_do(kvt_recv_start(to, &in, &receive, &error), "receive");
	must_do(kvt_send_start(from, &out, &send, &error), "send");
	finish(receive, LEN);
	finish(send, LEN);
	ck_assert_mem_eq(source, target, LEN);
	must_do(kvt_engine_get_stats(engine, &stats), "stats");
	ck_assert_uint_eq(stats.sends, 1);
	ck_assert_uint_eq(stats.bytes_sent, LEN);
	kvt_kv_close(from);
	kvt_kv_close(to);
}
END_TEST

static struct kvt_pool *open_pool(uint8_t *memory)
{
	const struct kvt_extent extents[] = {
		{ .base = memory, .count = BLOCK_COUNT / 2, .stride = BLOCK_LEN },
		{ .base = memory + LEN / 2, .count = BLOCK_COUNT / 2, .stride = BLOCK_LEN },
	};
	struct kvt_pool_config config = KVT_POOL_CONFIG_INIT;
	struct kvt_pool *pool;
	config.extents = extents;
	config.extent_count = 2;
	config.block_len = BLOCK_LEN;
	must_do(kvt_pool_open(engine, &config, &pool, &error), "pool");
	return pool;
}

static void move_blocks(struct kvt_pool *pool, struct kvt_remote *remote)
{
	int32_t indices[BLOCK_COUNT / 2];
	for (int i = 0; i < BLOCK_COUNT / 2; i++)
		indices[i] = i;
	struct kvt_blocks_request request = { .size = sizeof(request),
					      .direction = KVT_WRITE,
					      .pool = pool,
					      .remote = remote,
					      .local_idx = indices,
					      .remote_idx = indices,
					      .index_len = sizeof(indices[0]),
					      .count = BLOCK_COUNT / 2,
					      .notify = "blocks",
					      .notify_len = 6 };
	struct kvt_transfer *transfer;
	must_do(kvt_blocks_start(&request, &transfer, &error), "blocks");
	finish(transfer, LEN);
	ck_assert_mem_eq(source, target, LEN);
}

static void move_span(struct kvt_pool *pool, struct kvt_remote *remote)
{
	const uint64_t offset = 100, len = 1000;
	struct kvt_spans_request request = KVT_SPANS_REQUEST_INIT;
	struct kvt_transfer *transfer;
	request.direction = KVT_READ;
	request.pool = pool;
	request.remote = remote;
	request.local_off = request.remote_off = &offset;
	request.lens = &len;
	request.count = 1;
	memset(source, 0, LEN);
	must_do(kvt_spans_start(&request, &transfer, &error), "spans");
	finish(transfer, len);
	ck_assert_mem_eq(source + offset, target + offset, len);
	ck_assert_uint_eq(source[offset + len], 0);
}

static void expect_note(const char *text)
{
	struct kvt_event *event;
	must_do(kvt_engine_wait(engine, patience_ns), "wait for an event");
	must_do(kvt_engine_get_event(engine, &event), "event");
	ck_assert_int_eq(event->kind, KVT_EVENT_NOTIFICATION);
	ck_assert_ptr_eq(event->conn, far);
	ck_assert_mem_eq(event->data, text, event->len);
	kvt_event_free(event);
}

START_TEST(blocks_spans_and_notifications_go_through)
{
	struct kvt_notify_request note = KVT_NOTIFY_REQUEST_INIT;
	struct kvt_remote_info info = KVT_REMOTE_INFO_INIT;
	struct kvt_pool *from = open_pool(source), *to = open_pool(target);
	struct kvt_export *exported;
	struct kvt_remote *remote;
	struct kvt_transfer *transfer, *done;
	must_do(kvt_export_open(far, to, KVT_ACCESS_READ | KVT_ACCESS_WRITE, "pool", &exported,
				&error),
		"export");
	must_do(kvt_remote_find(near, "pool", 0, &remote, &error), "find");
	must_do(kvt_remote_get_info(remote, &info), "info");
	ck_assert_uint_eq(info.extent_count, 2);
	ck_assert_uint_eq(info.len, LEN);
	ck_assert_uint_eq(info.access, KVT_ACCESS_READ | KVT_ACCESS_WRITE);
	move_blocks(from, remote);
	expect_note("blocks");
	move_span(from, remote);
	note.conn = near;
	note.notify = "alone";
	note.notify_len = 5;
	note.reap = true;
	must_do(kvt_notify_start(&note, &transfer, &error), "notify");
	while (kvt_engine_reap(engine, &done, 1) == 0)
		must_do(kvt_engine_wait(engine, patience_ns), "wait for a completion");
	ck_assert_ptr_eq(done, transfer);
	finish(transfer, 0);
	expect_note("alone");
	kvt_remote_close(remote);
	kvt_export_close(exported);
	kvt_pool_close(from);
	kvt_pool_close(to);
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("old");
	tcase_set_timeout(tests, 120);
	tcase_add_checked_fixture(tests, set_up, tear_down);
	tcase_add_test(tests, messages_go_through);
	tcase_add_test(tests, blocks_spans_and_notifications_go_through);
	return run_tests("old", tests);
}
