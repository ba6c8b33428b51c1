/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_flip.c - checksums on real fabrics, two engines in one process: what is right passes, and one flipped bit is
 * an error on both sides, whatever moves and whichever way it goes.
 */
#include <check.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <kvtrans.h>

#include "base/clock.h"
#include "base/thread.h"
#include "support/flip.h"
#include "support/runner.h"

enum {
	TAG = 7,
	PATIENCE_S = 30,
	SMALL_BLOCK = 4096,
	LARGE_BLOCK = 256 * 1024,
	LONG_LEN = 9 * 1024 * 1024 + 13,
	POOL_LEN = 8 * 1024 * 1024,
	PART_COUNT = 3,
};

#define PATIENCE_NS (PATIENCE_S * KVI_SECOND)

struct side {
	struct kvt_engine *engine;
	struct kvt_conn *conn;
	struct kvt_kv *kv;
	uint8_t *memory;
	struct kvt_pool *pool;
};

static struct side sides[2]; /* [0] connects, writes and reads; [1] owns what is written and read */
static struct kvt_export *exported;
static struct kvt_remote *remote;

static const char *get_setting(const char *name, const char *otherwise)
{
	const char *value = getenv(name);
	return value != NULL && value[0] != '\0' ? value : otherwise;
}

static void fill(uint8_t *bytes, size_t len, uint8_t seed)
{
	for (size_t i = 0; i < len; i++)
		bytes[i] = (uint8_t)(i * 7 + i / 253 + seed);
}

/* ---- two engines, a KV and a pool on each ---- */

static void open_side(struct side *side, bool checksum)
{
	const char *interface = get_setting("KVT_TEST_INTERFACE", "lo");
	struct kvt_engine_config config = KVT_ENGINE_CONFIG_INIT;
	struct kvt_error error;
	config.interfaces = &interface;
	config.interface_count = 1;
	config.provider = get_setting("KVT_TEST_PROVIDER", "tcp");
	config.ncpus = 2;
	config.checksum = checksum;
	enum kvt_err err = kvt_engine_open(&config, &side->engine, &error);
	ck_assert_msg(err == KVT_OK, "no engine: %s", error.text);
	side->memory = malloc(POOL_LEN);
	ck_assert_ptr_nonnull(side->memory);
	memset(side->memory, 0, POOL_LEN);
}

static void connect_sides(void)
{
	struct kvt_kv_config config = KVT_KV_CONFIG_INIT;
	struct kvt_error error;
	enum kvt_err err = kvt_conn_open(sides[0].engine, get_setting("KVT_TEST_HOST", "127.0.0.1"),
					 kvt_engine_get_port(sides[1].engine), PATIENCE_NS,
					 &sides[0].conn, &error);
	ck_assert_msg(err == KVT_OK, "no connection: %s", error.text);
	err = kvt_conn_accept(sides[1].engine, PATIENCE_NS, &sides[1].conn, &error);
	ck_assert_msg(err == KVT_OK, "nobody to accept: %s", error.text);
	config.tag = TAG;
	for (unsigned i = 0; i < 2; i++)
		ck_assert_int_eq(kvt_kv_open(sides[i].conn, &config, &sides[i].kv, NULL), KVT_OK);
}

static void share(uint64_t block_len)
{
	uint8_t bytes[1024];
	size_t len = sizeof(bytes);
	struct kvt_error error;
	for (unsigned i = 0; i < 2; i++) {
		struct kvt_extent extent = { sides[i].memory, POOL_LEN / block_len, block_len };
		struct kvt_pool_config config = KVT_POOL_CONFIG_INIT;
		config.extents = &extent;
		config.extent_count = 1;
		config.block_len = block_len;
		enum kvt_err err = kvt_pool_open(sides[i].engine, &config, &sides[i].pool, &error);
		ck_assert_msg(err == KVT_OK, "no pool: %s", error.text);
	}
	enum kvt_err err = kvt_export_open(sides[1].conn, sides[1].pool,
					   KVT_ACCESS_READ | KVT_ACCESS_WRITE, NULL, &exported,
					   &error);
	ck_assert_msg(err == KVT_OK, "no export: %s", error.text);
	ck_assert_int_eq(kvt_export_describe(exported, bytes, &len), KVT_OK);
	err = kvt_remote_import(sides[0].conn, bytes, len, PATIENCE_NS, &remote, &error);
	ck_assert_msg(err == KVT_OK, "no import: %s", error.text);
}

static void open_all(uint64_t block_len)
{
	/* One of them is enough. */
	open_side(&sides[0], block_len == SMALL_BLOCK);
	open_side(&sides[1], block_len != SMALL_BLOCK);
	connect_sides();
	share(block_len);
}

static void close_all(void)
{
	kvt_remote_close(remote);
	kvt_export_close(exported);
	for (unsigned i = 0; i < 2; i++) {
		kvt_pool_close(sides[i].pool);
		kvt_kv_close(sides[i].kv);
		kvt_conn_close(sides[i].conn);
		kvt_engine_close(sides[i].engine);
		free(sides[i].memory);
	}
}

static uint64_t count_corruptions(const struct side *side)
{
	struct kvt_stats stats = KVT_STATS_INIT;
	ck_assert_int_eq(kvt_engine_get_stats(side->engine, &stats), KVT_OK);
	return stats.corruptions;
}

/* The peer may hear of it a little later. */
static void await_corruptions(uint64_t count)
{
	int64_t deadline_ns = kvi_deadline_after(PATIENCE_NS);
	while (count_corruptions(&sides[0]) != count || count_corruptions(&sides[1]) != count) {
		ck_assert_msg(kvi_clock_now() < deadline_ns, "%llu here and %llu there, not %llu",
			      (unsigned long long)count_corruptions(&sides[0]),
			      (unsigned long long)count_corruptions(&sides[1]),
			      (unsigned long long)count);
		kvi_thread_rest(KVI_MS);
	}
}

/* ---- transfers ---- */

static void finish(struct kvt_transfer *transfer, enum kvt_err expected)
{
	struct kvt_result result = KVT_RESULT_INIT;
	ck_assert_int_eq(kvt_transfer_wait(transfer, PATIENCE_NS), KVT_OK);
	ck_assert_int_eq(kvt_transfer_get_result(transfer, &result), KVT_OK);
	ck_assert_msg(result.err == expected, "%s: %s", kvt_err_get_name(result.err), result.text);
	kvt_transfer_free(transfer);
}

static void exchange(struct side *from, struct side *to, size_t len, enum kvt_err expected)
{
	uint8_t *source = make_grains(len), *target = malloc(len + 1);
	struct kvt_send_request send = KVT_SEND_REQUEST_INIT;
	struct kvt_recv_request recv = KVT_RECV_REQUEST_INIT;
	struct kvt_transfer *sent, *received;
	fill(source, len, (uint8_t)len);
	send.base = source;
	recv.base = target;
	send.len = recv.len = len;
	ck_assert_int_eq(kvt_recv_start(to->kv, &recv, &received, NULL), KVT_OK);
	ck_assert_int_eq(kvt_send_start(from->kv, &send, &sent, NULL), KVT_OK);
	finish(sent, expected);
	finish(received, expected);
	ck_assert(expected != KVT_OK || memcmp(source, target, len) == 0);
	free(source);
	free(target);
}

/* All blocks, in reverse on one side. */
static struct kvt_transfer *start_blocks(enum kvt_direction direction, size_t block_len)
{
	size_t count = POOL_LEN / block_len;
	int32_t *forward = malloc(count * sizeof(*forward)),
		*backward = malloc(count * sizeof(*backward));
	struct kvt_blocks_request request = KVT_BLOCKS_REQUEST_INIT;
	struct kvt_transfer *transfer;
	struct kvt_error error;
	for (size_t i = 0; i < count; i++) {
		forward[i] = (int32_t)i;
		backward[i] = (int32_t)(count - 1 - i);
	}
	request.direction = direction;
	request.pool = sides[0].pool;
	request.remote = remote;
	request.local_idx = forward;
	request.remote_idx = backward;
	request.index_len = sizeof(*forward);
	request.count = count;
	request.notify = "blocks";
	request.notify_len = 6;
	enum kvt_err err = kvt_blocks_start(&request, &transfer, &error);
	ck_assert_msg(err == KVT_OK, "no transfer: %s", error.text);
	free(forward);
	free(backward);
	return transfer;
}

static void expect_event(enum kvt_err err)
{
	struct kvt_event *event = NULL;
	int64_t deadline_ns = kvi_deadline_after(PATIENCE_NS);
	while (kvt_engine_get_event(sides[1].engine, &event) != KVT_OK) {
		ck_assert_msg(kvi_clock_now() < deadline_ns, "no notification");
		kvi_thread_rest(KVI_MS);
	}
	ck_assert_int_eq(event->kind, KVT_EVENT_NOTIFICATION);
	ck_assert_msg(event->err == err, "%s", kvt_err_get_name(event->err));
	kvt_event_free(event);
}

static void move_blocks(enum kvt_direction direction, size_t block_len, enum kvt_err expected)
{
	fill(sides[0].memory, POOL_LEN, 1);
	fill(sides[1].memory, POOL_LEN, 99);
	finish(start_blocks(direction, block_len), expected);
	expect_event(expected);
	for (size_t at = 0; expected == KVT_OK && at < POOL_LEN; at += block_len)
		ck_assert_mem_eq(sides[0].memory + at, sides[1].memory + POOL_LEN - block_len - at,
				 block_len);
}

/* ---- tests ---- */

static const size_t block_lens[] = { SMALL_BLOCK, LARGE_BLOCK };

START_TEST(what_comes_right_succeeds)
{
	static const size_t lens[] = { 0, 1, 5000, 65536, 65537, 1 << 20, LONG_LEN };
	open_all(block_lens[_i]);
	for (unsigned round = 0; round < 2; round++) {
		for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++)
			exchange(&sides[round], &sides[1 - round], lens[i], KVT_OK);
		move_blocks(KVT_WRITE, block_lens[_i], KVT_OK);
		move_blocks(KVT_READ, block_lens[_i], KVT_OK);
	}
	await_corruptions(0);
	close_all();
}
END_TEST

START_TEST(a_flipped_bit_in_blocks_is_an_error_on_both_sides)
{
	enum kvt_direction direction = _i % 2 == 0 ? KVT_WRITE : KVT_READ;
	size_t block_len = block_lens[_i / 2];
	open_all(block_len);
	for (unsigned nth = 1; nth <= 4; nth++) {
		/* Blocks that are read are packed by their owner, and written, where packing pays. */
		flip_nth(FLIP_WRITE, nth);
		struct kvt_transfer *transfer = start_blocks(direction, block_len);
		ck_assert_int_eq(kvt_transfer_wait(transfer, PATIENCE_NS), KVT_OK);
		if (!has_flipped()) { /* read in place after all */
			finish(transfer, KVT_OK);
			expect_event(KVT_OK);
			flip_nth(FLIP_READ, nth);
			transfer = start_blocks(direction, block_len);
		}
		finish(transfer, KVT_E_CORRUPT);
		ck_assert(has_flipped());
		expect_event(KVT_E_CORRUPT);
		await_corruptions(nth);
	}
	move_blocks(direction, block_len, KVT_OK);
	close_all();
}
END_TEST

START_TEST(a_flipped_bit_in_a_large_message_is_an_error_on_both_sides)
{
	open_all(SMALL_BLOCK);
	for (unsigned nth = 1; nth <= 5; nth += 2) {
		flip_nth(FLIP_GRAIN, nth);
		exchange(&sides[0], &sides[1], LONG_LEN, KVT_E_CORRUPT);
		ck_assert(has_flipped());
	}
	await_corruptions(3);
	exchange(&sides[0], &sides[1], LONG_LEN, KVT_OK);
	exchange(&sides[1], &sides[0], 100, KVT_OK);
	close_all();
}
END_TEST

START_TEST(a_flipped_bit_in_a_packet_ends_the_connection_on_both_sides)
{
	open_all(SMALL_BLOCK);
	flip_nth(FLIP_SEND, 1);
	exchange(&sides[0], &sides[1], 60000, KVT_E_PEER_LOST);
	ck_assert(has_flipped());
	ck_assert_uint_eq(count_corruptions(&sides[0]) + count_corruptions(&sides[1]), 1);
	close_all();
}
END_TEST

START_TEST(a_part_that_comes_wrong_fails_them_all)
{
	const uint64_t offsets[PART_COUNT] = { 0, 1 << 20, 5 << 20 };
	const uint64_t lens[PART_COUNT] = { 65536 + 77, 1 << 20, 3 << 19 };
	struct kvt_part parts[PART_COUNT];
	struct kvt_parts_request request = KVT_PARTS_REQUEST_INIT;
	struct kvt_transfer *transfer;
	struct kvt_error error;
	open_all(block_lens[_i]);
	for (unsigned i = 0; i < PART_COUNT; i++)
		parts[i] = (struct kvt_part){ .pool = sides[0].pool,
					      .remote = remote,
					      .local_off = &offsets[i],
					      .remote_off = &offsets[i],
					      .lens = &lens[i],
					      .count = 1 };
	request.direction = KVT_WRITE;
	request.parts = parts;
	request.part_count = PART_COUNT;
	request.part_size = sizeof(parts[0]);
	for (unsigned nth = 0; nth <= 2; nth++) {
		flip_nth(FLIP_WRITE, nth);
		enum kvt_err err = kvt_parts_start(&request, &transfer, &error);
		ck_assert_msg(err == KVT_OK, "no transfer: %s", error.text);
		finish(transfer, nth == 0 ? KVT_OK : KVT_E_CORRUPT);
	}
	await_corruptions(2);
	close_all();
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("flip");
	tcase_set_timeout(tests, 60);
	tcase_add_loop_test(tests, what_comes_right_succeeds, 0, 2);
	tcase_add_loop_test(tests, a_flipped_bit_in_blocks_is_an_error_on_both_sides, 0, 4);
	tcase_add_test(tests, a_flipped_bit_in_a_large_message_is_an_error_on_both_sides);
	tcase_add_test(tests, a_flipped_bit_in_a_packet_ends_the_connection_on_both_sides);
	tcase_add_loop_test(tests, a_part_that_comes_wrong_fails_them_all, 0, 2);
	return run_tests("integration/flip", tests);
}
