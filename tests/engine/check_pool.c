/* SPDX-License-Identifier: Apache-2.0 */
/* check_pool.c - memory that a pool asks the library for. */
#include "pages.h"

#include <string.h>

#include "support/runner.h"

enum { TINY_LEN = 8 };

static enum kvt_err ask_for(void *base, unsigned flags, size_t count, size_t stride)
{
	struct kvt_extent extents[] = { { base, count, stride }, { base, 1, TINY_LEN } };
	struct kvt_pool_config config = KVT_POOL_CONFIG_INIT;
	struct kvt_pool *pool = NULL;
	config.extents = extents;
	config.extent_count = 2;
	config.block_len = TINY_LEN;
	config.flags = flags;
	config.file = -1;
	enum kvt_err err = kvt_pool_open(pages.bed.near.engine, &config, &pool, NULL);
	if (err == KVT_OK && base == NULL)
		memset(kvt_pool_get_base(pool, 1), 7, TINY_LEN);
	kvt_pool_close(pool);
	return err;
}

START_TEST(flags_that_contradict_the_extents_and_sizes_beyond_all_memory_are_refused)
{
	const unsigned all = KVT_POOL_PRIVATE | KVT_POOL_PREFAULT | KVT_POOL_HUGE_PAGES;
	uint8_t memory[TINY_LEN];
	pages_open(0);
	ck_assert_int_eq(ask_for(NULL, all, 3, TINY_LEN), KVT_OK);
	ck_assert_int_eq(ask_for(NULL, all, 3, 5 * TINY_LEN), KVT_OK);
	ck_assert_int_eq(ask_for(memory, KVT_POOL_PRIVATE, 1, TINY_LEN), KVT_OK);
	ck_assert_int_eq(ask_for(memory, KVT_POOL_PREFAULT, 1, TINY_LEN), KVT_E_INVALID);
	ck_assert_int_eq(ask_for(memory, KVT_POOL_FILE, 1, TINY_LEN), KVT_E_INVALID);
	ck_assert_int_eq(ask_for(NULL, KVT_POOL_FILE, 1, TINY_LEN), KVT_E_INVALID);
	ck_assert_int_eq(ask_for(NULL, 16, 1, TINY_LEN), KVT_E_INVALID);
	ck_assert_int_eq(ask_for(NULL, 0, (size_t)1 << 58, TINY_LEN), KVT_E_NO_MEMORY);
	ck_assert_int_eq(ask_for(NULL, 0, 1, SIZE_MAX), KVT_E_NO_MEMORY);
	pages_close();
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("pool");
	tcase_add_test(tests,
		       flags_that_contradict_the_extents_and_sizes_beyond_all_memory_are_refused);
	return run_tests("engine_pool", tests);
}
