/* SPDX-License-Identifier: Apache-2.0 */
/* check_base_alloc.c - the promises of base/alloc.h. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "../support/runner.h"

START_TEST(memory_is_zeroed)
{
	static const unsigned char zeros[4096];
	unsigned char *memory = kvi_alloc(sizeof(zeros));

	ck_assert_ptr_nonnull(memory);
	ck_assert_mem_eq(memory, zeros, sizeof(zeros));
	kvi_free(memory);
}
END_TEST

START_TEST(an_array_is_zeroed)
{
	static const uint64_t zeros[17];
	uint64_t *array = kvi_alloc_array(17, sizeof(uint64_t));

	ck_assert_ptr_nonnull(array);
	ck_assert_mem_eq(array, zeros, sizeof(zeros));
	kvi_free(array);
}
END_TEST

START_TEST(no_bytes_are_no_memory)
{
	ck_assert_ptr_null(kvi_alloc(0));
	ck_assert_ptr_null(kvi_alloc_array(0, 8));
	ck_assert_ptr_null(kvi_alloc_array(8, 0));
	ck_assert_ptr_null(kvi_alloc_data(0));
	ck_assert_ptr_null(kvi_alloc_lines(0));
}
END_TEST

START_TEST(an_array_that_overflows_is_no_memory)
{
	volatile size_t half = SIZE_MAX / 2;

	ck_assert_ptr_null(kvi_alloc_array(half, 3));
}
END_TEST

START_TEST(data_belongs_to_malloc)
{
	void *data = kvi_alloc_data(100);

	ck_assert_ptr_nonnull(data);
	memset(data, 1, 100);
	free(data);
}
END_TEST

START_TEST(lines_begin_on_a_line)
{
	for (size_t len = 1; len < 5000; len *= 3) {
		uint8_t *lines = kvi_alloc_lines(len);

		ck_assert_ptr_nonnull(lines);
		ck_assert_uint_eq((uintptr_t)lines % 64, 0);
		memset(lines, 1, len);
		kvi_free(lines);
	}
}
END_TEST

START_TEST(a_string_is_copied_with_its_end)
{
	char text[] = "lane";
	char *copy = kvi_alloc_string(text);
	char *empty = kvi_alloc_string("");
	text[0] = 'c';

	ck_assert_str_eq(copy, "lane");
	ck_assert_str_eq(empty, "");
	kvi_free(copy);
	kvi_free(empty);
}
END_TEST

START_TEST(freeing_nothing_is_allowed)
{
	kvi_free(NULL);
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("alloc");
	tcase_add_test(tests, memory_is_zeroed);
	tcase_add_test(tests, an_array_is_zeroed);
	tcase_add_test(tests, no_bytes_are_no_memory);
	tcase_add_test(tests, an_array_that_overflows_is_no_memory);
	tcase_add_test(tests, data_belongs_to_malloc);
	tcase_add_test(tests, lines_begin_on_a_line);
	tcase_add_test(tests, a_string_is_copied_with_its_end);
	tcase_add_test(tests, freeing_nothing_is_allowed);
	return run_tests("base_alloc", tests);
}
