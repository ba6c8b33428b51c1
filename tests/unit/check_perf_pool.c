/* SPDX-License-Identifier: Apache-2.0 */
/* check_perf_pool.c - the benchmarks see every byte that is wrong, and use every slot once. */
#include "perf_pool.h"

#include "../support/runner.h"

#include <stdlib.h>

enum { BLOCK_LEN = 61, BLOCKS = 24 };

START_TEST(every_byte_that_is_wrong_is_seen)
{
	struct perf_pool pool = { 0 };
	uint32_t *order = perf_order_make(BLOCKS, 3, PERF_RANDOM, 7);

	ck_assert_int_eq(perf_pool_open(&pool, NULL, BLOCK_LEN, order, BLOCKS), 0);
	perf_pool_prepare(&pool, 1);
	ck_assert_uint_eq(perf_pool_count_wrong(&pool), 0);
	for (size_t i = 0; i < pool.len; i++) {
		pool.base[i] ^= 1;
		ck_assert_uint_eq(perf_pool_count_wrong(&pool), 1);
		pool.base[i] ^= 1;
	}
	perf_pool_prepare(&pool, 0);
	ck_assert_uint_eq(perf_pool_count_wrong(&pool), BLOCKS);
	perf_pool_close(&pool);
}
END_TEST

START_TEST(a_block_in_the_place_of_another_is_seen)
{
	unsigned char block[BLOCK_LEN];

	perf_fill(block, sizeof(block), 5);
	for (uint64_t message = 0; message < 100; message++)
		ck_assert_int_eq(perf_check(block, sizeof(block), message), message == 5);
}
END_TEST

START_TEST(an_order_has_every_slot_once_and_the_same_in_each_array)
{
	static const enum perf_pattern patterns[] = { PERF_CONTIGUOUS, PERF_RUNS, PERF_RANDOM };
	unsigned used[BLOCKS] = { 0 };

	for (unsigned p = 0; p < sizeof(patterns) / sizeof(patterns[0]); p++) {
		uint32_t *order = perf_order_make(BLOCKS, 2, patterns[p], 3);
		for (size_t i = 0; i < BLOCKS; i++)
			used[order[i]]++;
		for (size_t i = 0; i < BLOCKS; i++)
			ck_assert_uint_eq(used[i], p + 1);
		for (size_t i = 0; i < BLOCKS / 2; i++)
			ck_assert_uint_eq(order[i] + BLOCKS / 2, order[i + BLOCKS / 2]);
		free(order);
	}
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("perf_pool");
	tcase_add_test(tests, every_byte_that_is_wrong_is_seen);
	tcase_add_test(tests, a_block_in_the_place_of_another_is_seen);
	tcase_add_test(tests, an_order_has_every_slot_once_and_the_same_in_each_array);
	return run_tests("perf_pool", tests);
}
