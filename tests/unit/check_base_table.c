/* SPDX-License-Identifier: Apache-2.0 */
/* check_base_table.c - finding by two numbers, base/table.h. */
#include <stdlib.h>

#include "base/table.h"
#include "../support/failing_alloc.h"
#include "../support/runner.h"

enum { COUNT = 20000 };

static struct kvi_table table;
static struct kvi_entry *all;

static void make_entries(void)
{
	table = (struct kvi_table){ .shards = { { .few = NULL } } };
	all = calloc(COUNT, sizeof(all[0]));
	ck_assert_ptr_nonnull(all);
}

static void free_entries(void)
{
	for (unsigned i = 0; i < COUNT; i++)
		kvi_table_remove(&table, &all[i]);
	free(all);
}

/* Numbers that follow each other, numbers far apart, and the same second number under many first ones. */
static uint64_t get_first(unsigned i)
{
	return i % 3 == 2 ? (uint64_t)i << 32 : i % 3;
}

static uint64_t get_second(unsigned i)
{
	return i % 3 == 2 ? 7 : i % 3 == 1 ? (uint64_t)i << 16 : i;
}

START_TEST(in_an_empty_table_nothing_is_found)
{
	ck_assert_ptr_null(kvi_table_find(&table, 0, 0));
	kvi_table_remove(&table, &all[0]);
}
END_TEST

START_TEST(each_of_many_is_found_and_no_longer_once_it_is_removed)
{
	for (unsigned i = 0; i < COUNT; i++)
		ck_assert(kvi_table_add(&table, &all[i], get_first(i), get_second(i)));
	for (unsigned i = 0; i < COUNT; i++)
		ck_assert_ptr_eq(kvi_table_find(&table, get_first(i), get_second(i)), &all[i]);
	ck_assert_ptr_null(kvi_table_find(&table, 0, COUNT));
	for (unsigned i = 0; i < COUNT; i += 2) {
		kvi_table_remove(&table, &all[i]);
		kvi_table_remove(&table, &all[i]);
	}
	for (unsigned i = 0; i < COUNT; i++)
		ck_assert_ptr_eq(kvi_table_find(&table, get_first(i), get_second(i)),
				 i % 2 == 0 ? NULL : &all[i]);
	ck_assert(kvi_table_add(&table, &all[0], get_first(0), get_second(0)));
	ck_assert_ptr_eq(kvi_table_find(&table, get_first(0), get_second(0)), &all[0]);
}
END_TEST

START_TEST(what_finds_no_memory_is_not_in_the_table_and_the_rest_is)
{
	ck_assert(kvi_table_add(&table, &all[0], 0, 0));
	unsigned failed = 0;
	for (unsigned i = 1; i < COUNT; i++) {
		failing_alloc_arm(1);
		bool added = kvi_table_add(&table, &all[i], 0, i);
		failing_alloc_arm(0);
		failed += !added;
		ck_assert_ptr_eq(kvi_table_find(&table, 0, i), added ? &all[i] : NULL);
	}
	ck_assert_uint_gt(failed, 0);
	ck_assert_ptr_eq(kvi_table_find(&table, 0, 0), &all[0]);
}
END_TEST

START_TEST(a_few_need_no_memory)
{
	long live = failing_alloc_get_live();
	for (unsigned i = 0; i < 4; i++)
		ck_assert(kvi_table_add(&table, &all[i], get_first(i), get_second(i)));
	ck_assert_int_eq(failing_alloc_get_live(), live);
	for (unsigned i = 0; i < 4; i++)
		ck_assert_ptr_eq(kvi_table_find(&table, get_first(i), get_second(i)), &all[i]);
}
END_TEST

START_TEST(an_empty_table_keeps_no_memory)
{
	long live = failing_alloc_get_live();
	for (unsigned i = 0; i < COUNT; i++)
		ck_assert(kvi_table_add(&table, &all[i], get_first(i), get_second(i)));
	for (unsigned i = 0; i < COUNT; i++)
		kvi_table_remove(&table, &all[i]);
	ck_assert_int_eq(failing_alloc_get_live(), live);
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("table");
	tcase_add_checked_fixture(tests, make_entries, free_entries);
	tcase_add_test(tests, in_an_empty_table_nothing_is_found);
	tcase_add_test(tests, each_of_many_is_found_and_no_longer_once_it_is_removed);
	tcase_add_test(tests, what_finds_no_memory_is_not_in_the_table_and_the_rest_is);
	tcase_add_test(tests, a_few_need_no_memory);
	tcase_add_test(tests, an_empty_table_keeps_no_memory);
	return run_tests("base_table", tests);
}
