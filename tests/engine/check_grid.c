/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_grid.c - blocks so small that a pack names them by their numbers: they come to their places, nothing else is
 * touched, and where they are no such blocks they are packed as others.
 */
#include "pages.h"

#include <stdlib.h>

#include "engine/core/conn.h"
#include "engine/paged/staging.h"
#include "support/flip.h"
#include "support/runner.h"

enum { COUNT = 5000, GAP = 8, MEMORY_LEN = EXTENT_COUNT * COUNT * (512 + GAP) };

struct small {
	size_t len;
	struct kvt_pool *near, *far;
	uint8_t *near_memory, *far_memory;
	struct kvt_export *exported;
	struct kvt_remote *remote;
	int32_t near_idx[COUNT], far_idx[COUNT];
};

static struct small small;

static size_t get_start(size_t extent)
{
	return extent * COUNT * (small.len + GAP);
}

/* The second extent has gaps. */
static struct kvt_pool *open_small_pool(struct kvt_engine *engine, uint8_t *memory)
{
	const struct kvt_extent extents[EXTENT_COUNT] = {
		{ memory, COUNT, small.len },
		{ memory + get_start(1), COUNT, small.len + GAP },
	};
	struct kvt_pool_config config = KVT_POOL_CONFIG_INIT;
	struct kvt_pool *pool;
	config.extents = extents;
	config.extent_count = EXTENT_COUNT;
	config.block_len = small.len;
	ck_assert_int_eq(kvt_pool_open(engine, &config, &pool, NULL), KVT_OK);
	return pool;
}

static void open_small(unsigned way, size_t len)
{
	uint8_t bytes[1024];
	size_t bytes_len = sizeof(bytes);
	pages_open(way | PACKS);
	small.len = len;
	small.near_memory = make_pattern(MEMORY_LEN, 5);
	small.far_memory = make_filled(MEMORY_LEN, CANARY);
	small.near = open_small_pool(pages.bed.near.engine, small.near_memory);
	small.far = open_small_pool(pages.bed.far.engine, small.far_memory);
	ck_assert_int_eq(kvt_export_open(pages.bed.far.conn, small.far, KVT_ACCESS_WRITE, NULL,
					 &small.exported, NULL),
			 KVT_OK);
	ck_assert_int_eq(kvt_export_describe(small.exported, bytes, &bytes_len), KVT_OK);
	ck_assert_int_eq(kvt_remote_import(pages.bed.near.conn, bytes, bytes_len, BED_PATIENCE_NS,
					   &small.remote, NULL),
			 KVT_OK);
}

static void close_small(void)
{
	kvt_remote_close(small.remote);
	kvt_export_close(small.exported);
	kvt_pool_close(small.near);
	kvt_pool_close(small.far);
	free(small.near_memory);
	free(small.far_memory);
	pages_close();
}

static struct kvt_transfer *start_small(size_t count, uint32_t run, const char *notify)
{
	struct kvt_blocks_request request = KVT_BLOCKS_REQUEST_INIT;
	struct kvt_transfer *transfer;
	memset(small.far_memory, CANARY, MEMORY_LEN);
	shuffle_runs(small.near_idx, COUNT, run, 1);
	shuffle_runs(small.far_idx, COUNT, run, 2);
	request.direction = KVT_WRITE;
	request.pool = small.near;
	request.remote = small.remote;
	request.local_idx = small.near_idx;
	request.remote_idx = small.far_idx;
	request.index_len = 4;
	request.count = count;
	request.notify = notify;
	request.notify_len = notify == NULL ? 0 : strlen(notify);
	ck_assert_int_eq(kvt_blocks_start(&request, &transfer, NULL), KVT_OK);
	return transfer;
}

static bool are_small_moved(size_t count)
{
	uint8_t *expected = make_filled(MEMORY_LEN, CANARY);
	for (size_t extent = 0; extent < EXTENT_COUNT; extent++)
		for (size_t i = 0; i < count; i++) {
			size_t stride = small.len + extent * GAP;
			memcpy(expected + get_start(extent) + (size_t)small.far_idx[i] * stride,
			       small.near_memory + get_start(extent) +
				       (size_t)small.near_idx[i] * stride,
			       small.len);
		}
	bool moved = memcmp(expected, small.far_memory, MEMORY_LEN) == 0;
	free(expected);
	return moved;
}

static const size_t lens[] = { 8, 1, 64, 100, 256, 257 };
enum {
	LENS = sizeof(lens) / sizeof(lens[0]),
};

START_TEST(small_blocks_are_where_they_belong)
{
	static const size_t counts[] = { COUNT, KVI_PACK_SPANS_MAX, KVI_PACK_SPANS_MAX + 1, 300 };
	static const unsigned ways[] = { 0, MANY_LANES, REGISTERED, CHECKED, CHECKED | MANY_LANES };
	open_small(ways[(unsigned)_i / LENS], lens[(unsigned)_i % LENS]);
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
		for (uint32_t run = 1; run <= 3; run++) {
			finish(start_small(counts[i], run, "there"), KVT_OK);
			expect_notification(pages.bed.far.engine, "there", KVT_OK);
			ck_assert_msg(are_small_moved(counts[i]), "%zu blocks of %zu in runs of %u",
				      counts[i], small.len, run);
		}
	close_small();
}
END_TEST

static struct kvi_wire_grid get_last_grid(void)
{
	/* The one used last is first. */
	struct kvi_list *node =
		kvi_list_get_first(&pages.bed.near.conn->links[0].staging->free_packs);
	return kvi_container_of(node, struct kvi_pack, node)->grid;
}

START_TEST(only_small_blocks_are_named_by_number)
{
	static const struct {
		size_t len;
		uint64_t stride; /* of the last extent, which has gaps; 0: there is no grid */
	} cases[] = { { 8, 8 + GAP }, { 256, 256 + GAP }, { 257, 0 } };
	open_small(0, cases[_i].len);
	finish(start_small(COUNT, 1, NULL), KVT_OK);
	struct kvi_wire_grid grid = get_last_grid();
	ck_assert_uint_eq(grid.stride, cases[_i].stride);
	ck_assert_uint_eq(grid.block_len, cases[_i].stride > 0 ? cases[_i].len : 0);
	ck_assert_uint_eq(grid.extent, cases[_i].stride > 0 ? EXTENT_COUNT - 1 : 0);
	close_small();
}
END_TEST

START_TEST(a_bit_flipped_in_small_blocks_is_an_error_on_both_sides)
{
	open_small(CHECKED, 8);
	flip_nth(FLIP_WRITE, 1 + (unsigned)_i);
	finish(start_small(COUNT, 1, "not so"), KVT_E_CORRUPT);
	ck_assert(has_flipped());
	expect_notification(pages.bed.far.engine, "not so", KVT_E_CORRUPT);
	ck_assert_uint_eq(get_stats(pages.bed.near.engine).corruptions, 1);
	ck_assert_uint_eq(get_stats(pages.bed.far.engine).corruptions, 1);
	finish(start_small(COUNT, 1, "right"), KVT_OK);
	expect_notification(pages.bed.far.engine, "right", KVT_OK);
	ck_assert(are_small_moved(COUNT));
	close_small();
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("grid");
	tcase_set_timeout(tests, 60);
	tcase_add_loop_test(tests, small_blocks_are_where_they_belong, 0, 5 * LENS);
	tcase_add_loop_test(tests, only_small_blocks_are_named_by_number, 0, 3);
	tcase_add_loop_test(tests, a_bit_flipped_in_small_blocks_is_an_error_on_both_sides, 0, 3);
	return run_tests("engine_grid", tests);
}
