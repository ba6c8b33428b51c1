/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_parts.c - one transfer between many pools and remotes, and pools seen in blocks of another length
 * than they were registered with.
 */
#include "pages.h"

#include <pthread.h>
#include <stdlib.h>

#include "support/runner.h"

enum { BYTES_LEN = 300000, PARTS = 40, FEW = 50, BY_EXPORT = MAIN_WAYS };

/* Plain bytes of both sides, beside the pages. */
static struct {
	uint8_t *near_memory;
	uint8_t *far_memory;
	struct kvt_pool *near;
	struct kvt_pool *far;
	struct kvt_export *exported;
	struct kvt_remote *remote;
} plain;

static struct kvt_pool *open_plain(struct kvt_engine *engine, uint8_t *memory)
{
	struct kvt_extent extents[] = { { memory, BYTES_LEN - 999, 1 },
					{ memory + BYTES_LEN - 999, 999, 1 } };
	struct kvt_pool_config config = KVT_POOL_CONFIG_INIT;
	struct kvt_pool *pool;
	config.extents = extents;
	config.extent_count = 2;
	config.block_len = 1;
	ck_assert_int_eq(kvt_pool_open(engine, &config, &pool, NULL), KVT_OK);
	return pool;
}

static void open_all(unsigned way)
{
	pages_open(way);
	plain.near_memory = make_pattern(BYTES_LEN, 9);
	plain.far_memory = make_filled(BYTES_LEN, CANARY);
	plain.near = open_plain(pages.bed.near.engine, plain.near_memory);
	plain.far = open_plain(pages.bed.far.engine, plain.far_memory);
	ck_assert_int_eq(kvt_export_open(pages.bed.far.conn, plain.far,
					 KVT_ACCESS_READ | KVT_ACCESS_WRITE, "plain",
					 &plain.exported, NULL),
			 KVT_OK);
	ck_assert_int_eq(kvt_remote_find(pages.bed.near.conn, "plain", BED_PATIENCE_NS,
					 &plain.remote, NULL),
			 KVT_OK);
}

static void close_all(void)
{
	kvt_remote_close(plain.remote);
	kvt_export_close(plain.exported);
	kvt_pool_close(plain.near);
	kvt_pool_close(plain.far);
	free(plain.near_memory);
	free(plain.far_memory);
	pages_close();
}

/* Every other part is of the pages, in blocks, and of plain bytes, in spans of 1,000 bytes. */
static struct {
	struct kvt_part parts[PARTS];
	uint64_t offsets[PARTS][FEW];
	uint64_t lens[PARTS][FEW];
} asked;

static struct kvt_parts_request ask(enum kvt_direction direction)
{
	struct kvt_parts_request request = KVT_PARTS_REQUEST_INIT;
	for (unsigned i = 0; i < PARTS; i++) {
		bool is_plain = i % 2 == 1;
		unsigned count = is_plain ? 12 : 20;
		for (unsigned j = 0; j < count; j++) {
			unsigned number = i / 2 * count + j;
			asked.offsets[i][j] = (uint64_t)number * (is_plain ? 1200 : BLOCK_LEN);
			asked.lens[i][j] = is_plain ? 1000 : BLOCK_LEN;
		}
		asked.parts[i] = (struct kvt_part){
			.pool = is_plain ? plain.near : pages.near,
			.remote = is_plain ? plain.remote : pages.remote,
			.local_off = asked.offsets[i],
			.remote_off = asked.offsets[i],
			.lens = asked.lens[i],
			.count = count,
		};
	}
	request.direction = direction;
	request.parts = asked.parts;
	request.part_count = PARTS;
	request.notify = "parts";
	request.notify_len = 5;
	return request;
}

static struct kvt_transfer *start(const struct kvt_parts_request *request)
{
	struct kvt_transfer *transfer;
	struct kvt_error error;
	enum kvt_err err = kvt_parts_start(request, &transfer, &error);
	ck_assert_msg(err == KVT_OK, "no transfer: %s", error.text);
	return transfer;
}

static void expect_no_start(const struct kvt_parts_request *request, enum kvt_err expected)
{
	struct kvt_transfer *transfer;
	struct kvt_error error = { .code = KVT_OK };
	ck_assert_int_eq(kvt_parts_start(request, &transfer, &error), expected);
	ck_assert_int_eq(error.code, expected);
	ck_assert_uint_gt(strlen(error.text), 0);
}

static void fill(enum kvt_direction direction)
{
	fill_pages(direction, 5);
	uint8_t *pattern = make_pattern(BYTES_LEN, 9);
	memcpy(direction == KVT_WRITE ? plain.near_memory : plain.far_memory, pattern, BYTES_LEN);
	memset(direction == KVT_WRITE ? plain.far_memory : plain.near_memory, CANARY, BYTES_LEN);
	free(pattern);
}

static void expect_moved(enum kvt_direction direction)
{
	bool writes = direction == KVT_WRITE;
	const uint8_t *from = writes ? plain.near_memory : plain.far_memory;
	const uint8_t *to = writes ? plain.far_memory : plain.near_memory;
	size_t pages_len = PARTS / 2 * 20 * BLOCK_LEN;
	ck_assert_mem_eq(pages.near_memory, pages.far_memory, pages_len);
	for (size_t i = 0; i < PARTS / 2 * 12; i++) {
		ck_assert_mem_eq(to + i * 1200, from + i * 1200, 1000);
		ck_assert(holds_only(to + i * 1200 + 1000, 200, CANARY));
	}
	const uint8_t *target = writes ? pages.far_memory : pages.near_memory;
	ck_assert(holds_only(target + pages_len, PAGES_LEN - pages_len, CANARY));
}

/* ---- parts ---- */

START_TEST(parts_of_several_pools_are_one_transfer)
{
	open_all((unsigned)_i);
	for (int direction = KVT_WRITE; direction <= KVT_READ; direction++) {
		struct kvt_parts_request request = ask((enum kvt_direction)direction);
		fill((enum kvt_direction)direction);
		struct kvt_transfer *transfer = start(&request);
		memset(&asked, 0, sizeof(asked)); /* it was copied */
		expect_notification(pages.bed.far.engine, "parts", KVT_OK);
		expect_moved((enum kvt_direction)direction);
		struct kvt_result result = await(transfer, KVT_OK);
		ck_assert_uint_eq(result.len, PARTS / 2 * (20 * BLOCK_LEN + 12 * 1000));
		ck_assert_uint_eq(result.count, PARTS / 2 * (20 + 12));
		kvt_transfer_free(transfer);
	}
	expect_no_event(pages.bed.far.engine);
	close_all();
}
END_TEST

START_TEST(parts_without_spans_are_a_notification)
{
	open_all(0);
	struct kvt_parts_request request = ask(KVT_WRITE);
	for (unsigned i = 0; i < PARTS; i++)
		asked.parts[i].count = 0;
	ck_assert_uint_eq(finish(start(&request), KVT_OK), 0);
	expect_notification(pages.bed.far.engine, "parts", KVT_OK);
	/* Only the last has any. */
	asked.parts[PARTS - 1].count = 1;
	ck_assert_uint_eq(finish(start(&request), KVT_OK), 1000);
	expect_notification(pages.bed.far.engine, "parts", KVT_OK);
	close_all();
}
END_TEST

START_TEST(a_request_with_one_bad_part_moves_nothing)
{
	struct kvt_conn *other_conn, *far_conn;
	struct kvt_remote *other;
	open_all(0);
	struct kvt_parts_request request = ask(KVT_WRITE);
	request.part_count = 0;
	expect_no_start(&request, KVT_E_INVALID);
	request.part_count = KVT_PARTS_MAX + 1;
	expect_no_start(&request, KVT_E_INVALID);
	request = ask(KVT_WRITE);
	request.parts = NULL;
	expect_no_start(&request, KVT_E_INVALID);
	request = ask(KVT_WRITE);
	request.part_size = sizeof(struct kvt_part) - 1;
	expect_no_start(&request, KVT_E_INVALID);

	struct kvt_part *last = &asked.parts[PARTS - 1];
	request = ask(KVT_WRITE);
	last->pool = NULL;
	expect_no_start(&request, KVT_E_INVALID);
	request = ask(KVT_WRITE);
	last->lens = NULL;
	expect_no_start(&request, KVT_E_INVALID);
	request = ask(KVT_WRITE);
	asked.offsets[PARTS - 1][3] = BYTES_LEN - 1;
	expect_no_start(&request, KVT_E_INVALID);
	request = ask(KVT_WRITE);
	last->pool = plain.far; /* of the other engine */
	expect_no_start(&request, KVT_E_INVALID);

	ck_assert_int_eq(kvt_conn_open(pages.bed.near.engine, "127.0.0.1",
				       kvt_engine_get_port(pages.bed.far.engine), BED_PATIENCE_NS,
				       &other_conn, NULL),
			 KVT_OK);
	ck_assert_int_eq(kvt_conn_accept(pages.bed.far.engine, BED_PATIENCE_NS, &far_conn, NULL),
			 KVT_OK);
	struct kvt_export *exported;
	ck_assert_int_eq(kvt_export_open(far_conn, plain.far, KVT_ACCESS_WRITE, "other", &exported,
					 NULL),
			 KVT_OK);
	ck_assert_int_eq(kvt_remote_find(other_conn, "other", BED_PATIENCE_NS, &other, NULL),
			 KVT_OK);
	request = ask(KVT_WRITE);
	last->remote = other;
	expect_no_start(&request, KVT_E_INVALID);
	request = ask(KVT_READ);
	last->remote = other;
	expect_no_start(&request, KVT_E_ACCESS);
	kvt_remote_close(other);
	kvt_export_close(exported);
	kvt_conn_close(other_conn);
	kvt_conn_close(far_conn);

	expect_no_event(pages.bed.far.engine);
	ck_assert(holds_only(plain.far_memory, BYTES_LEN, CANARY));
	ck_assert(holds_only(pages.far_memory, PAGES_LEN, CANARY));
	close_all();
}
END_TEST

/* Of the pool or of the export of one of its parts. */
START_TEST(a_transfer_ends_as_a_whole_when_one_of_its_parts_is_taken_away)
{
	pthread_t thread;
	open_all((unsigned)_i % MAIN_WAYS);
	struct kvt_parts_request request = ask(KVT_WRITE);
	fake_hold(FAKE_WRITE);
	struct kvt_transfer *transfer = start(&request);
	pthread_create(&thread, NULL, let_go_soon, NULL);
	if (_i & BY_EXPORT)
		kvt_export_close(plain.exported);
	else
		kvt_pool_stop(plain.near);
	finish(transfer, _i & BY_EXPORT ? KVT_E_WITHDRAWN : KVT_E_CLOSED);
	memset(plain.far_memory, 0, BYTES_LEN);
	memset(plain.near_memory, 0, BYTES_LEN);
	pthread_join(thread, NULL);
	rest(20 * KVI_MS);
	ck_assert(holds_only(plain.far_memory, BYTES_LEN, 0));
	expect_notification(pages.bed.far.engine, "parts",
			    _i & BY_EXPORT ? KVT_E_WITHDRAWN : KVT_E_PEER_CLOSED);
	if (_i & BY_EXPORT) {
		plain.exported = NULL;
		expect_no_start(&request, KVT_E_WITHDRAWN);
	} else {
		expect_no_start(&request, KVT_E_CLOSED);
	}
	close_all();
}
END_TEST

START_TEST(parts_end_with_their_connection)
{
	open_all((unsigned)_i);
	struct kvt_parts_request request = ask(KVT_WRITE);
	fake_hold(FAKE_WRITE);
	struct kvt_transfer *transfer = start(&request);
	fake_kill_lanes(NULL);
	fake_hold(0);
	finish(transfer, KVT_E_PEER_LOST);
	close_all();
}
END_TEST

/* ---- blocks of another length ---- */

static struct kvt_blocks_request ask_blocks(size_t block_len, const int32_t *indices, size_t count)
{
	struct kvt_blocks_request request = KVT_BLOCKS_REQUEST_INIT;
	request.pool = plain.near;
	request.remote = plain.remote;
	request.local_idx = request.remote_idx = indices;
	request.index_len = sizeof(indices[0]);
	request.count = count;
	request.block_len = block_len;
	return request;
}

START_TEST(plain_bytes_have_blocks_of_any_length)
{
	static const size_t lens[] = { 1, 64, 100, 999 };
	static const size_t first_extent = 0;
	open_all((unsigned)_i);
	for (unsigned i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		int32_t indices[] = { 2, 0 };
		size_t len = lens[i], second = BYTES_LEN - 999;
		bool is_all = len < 999;
		struct kvt_blocks_request request = ask_blocks(len, indices, 2);
		struct kvt_transfer *transfer;
		if (!is_all) { /* the second extent has one block only */
			request.extents = &first_extent;
			request.extent_count = 1;
			ck_assert_int_eq(kvt_blocks_start(&request, &transfer, NULL),
					 KVT_E_INVALID);
			indices[0] = 0;
			request.count = 1;
			request.extents = NULL;
		}
		memset(plain.far_memory, CANARY, BYTES_LEN);
		ck_assert_int_eq(kvt_blocks_start(&request, &transfer, NULL), KVT_OK);
		ck_assert_uint_eq(finish(transfer, KVT_OK), 2 * request.count * len);
		ck_assert_mem_eq(plain.far_memory, plain.near_memory, len);
		ck_assert_mem_eq(plain.far_memory + second, plain.near_memory + second, len);
		if (is_all) {
			ck_assert_mem_eq(plain.far_memory + 2 * len, plain.near_memory + 2 * len,
					 len);
			ck_assert(holds_only(plain.far_memory + len, len, CANARY));
		}
	}
	close_all();
}
END_TEST

START_TEST(blocks_of_a_length_that_a_side_does_not_have_are_refused)
{
	int32_t index = 0;
	struct kvt_transfer *transfer;
	struct kvt_error error;
	open_all(0);
	struct kvt_blocks_request request = ask_blocks(1000, &index, 1);
	ck_assert_int_eq(kvt_blocks_start(&request, &transfer, &error), KVT_E_INVALID);
	ck_assert_ptr_nonnull(strstr(error.text, "999"));
	request.block_len = SIZE_MAX;
	ck_assert_int_eq(kvt_blocks_start(&request, &transfer, &error), KVT_E_INVALID);
	request.block_len = 64;
	request.pool = pages.near;
	ck_assert_int_eq(kvt_blocks_start(&request, &transfer, &error), KVT_E_INVALID);
	ck_assert_ptr_nonnull(strstr(error.text, "gaps"));
	request = ask_blocks(100, &index, 1);
	index = 9; /* the second extent has 9 whole ones */
	ck_assert_int_eq(kvt_blocks_start(&request, &transfer, &error), KVT_E_INVALID);
	ck_assert_ptr_nonnull(strstr(error.text, "there are 9"));
	close_all();
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("parts");
	tcase_set_timeout(tests, 120);
	tcase_add_loop_test(tests, parts_of_several_pools_are_one_transfer, 0, WAYS);
	tcase_add_test(tests, parts_without_spans_are_a_notification);
	tcase_add_test(tests, a_request_with_one_bad_part_moves_nothing);
	tcase_add_loop_test(tests, a_transfer_ends_as_a_whole_when_one_of_its_parts_is_taken_away,
			    0, 2 * BY_EXPORT);
	tcase_add_loop_test(tests, parts_end_with_their_connection, 0, MAIN_WAYS);
	tcase_add_loop_test(tests, plain_bytes_have_blocks_of_any_length, 0, MAIN_WAYS);
	tcase_add_test(tests, blocks_of_a_length_that_a_side_does_not_have_are_refused);
	return run_tests("engine_parts", tests);
}
