/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_base_sum.c - sums of bytes, and of messages that are cut into pieces.
 */
#include <stdlib.h>

#include "base/sum.h"
#include "support/runner.h"

enum { GRAIN = KVI_SUM_GRAIN, LONG = 5 * GRAIN + 77 };

static uint8_t *make_message(size_t len)
{
	uint8_t *message = malloc(len + 1);
	ck_assert_ptr_nonnull(message);
	for (size_t i = 0; i < len; i++)
		message[i] = (uint8_t)(i * 31 + i / 251);
	return message;
}

/* From xxHash's own table of checks (xxhsum's sanity check): other libraries come to the same. */
START_TEST(a_sum_is_xxh3_with_64_bits)
{
	ck_assert_uint_eq(kvi_sum("", 0, 0), UINT64_C(0x2d06800538d394c2));
	ck_assert_uint_eq(kvi_sum("abc", 3, 0), UINT64_C(0x78af5f94892f3950));
}
END_TEST

START_TEST(every_flipped_bit_changes_the_sum)
{
	enum { LEN = 700 };
	uint8_t *message = make_message(LEN);
	for (size_t bit = 0; bit < LEN * 8; bit++) {
		uint64_t right = kvi_sum(message, LEN, 0);
		message[bit / 8] ^= (uint8_t)(1U << bit % 8);
		ck_assert_uint_ne(kvi_sum(message, LEN, 0), right);
		message[bit / 8] ^= (uint8_t)(1U << bit % 8);
	}
	free(message);
}
END_TEST

/* Cut into pieces of step bytes, which are summed from the last to the first. */
static uint64_t sum_pieces(const uint8_t *message, size_t len, size_t step)
{
	uint64_t sum = 0;
	for (size_t i = (len + step - 1) / step; i > 0; i--)
		sum += kvi_sum_grains(message, len, (i - 1) * step, step);
	return sum;
}

START_TEST(a_message_has_one_sum_however_it_is_cut)
{
	static const size_t lens[] = { 1, 63, GRAIN - 1, GRAIN, GRAIN + 1, 2 * GRAIN + 5, LONG };
	static const size_t steps[] = { 1021,	   4096,      GRAIN - 1,  GRAIN,
					GRAIN + 1, 3 * GRAIN, 10 * GRAIN, SIZE_MAX / 2 };
	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		uint8_t *message = make_message(lens[i]);
		uint64_t whole = kvi_sum_grains(message, lens[i], 0, lens[i]);
		for (size_t j = 0; j < sizeof(steps) / sizeof(steps[0]); j++)
			ck_assert_msg(sum_pieces(message, lens[i], steps[j]) == whole,
				      "%zu bytes in pieces of %zu", lens[i], steps[j]);
		free(message);
	}
}
END_TEST

START_TEST(grains_that_change_places_change_the_sum)
{
	uint8_t *message = make_message(2 * GRAIN);
	memset(message, 1, GRAIN);
	memset(message + GRAIN, 2, GRAIN);
	uint64_t right = kvi_sum_grains(message, 2 * GRAIN, 0, 2 * GRAIN);
	memset(message, 2, GRAIN);
	memset(message + GRAIN, 1, GRAIN);
	ck_assert_uint_ne(kvi_sum_grains(message, 2 * GRAIN, 0, 2 * GRAIN), right);
	free(message);
}
END_TEST

START_TEST(a_flipped_bit_in_any_grain_changes_the_sum_of_the_message)
{
	uint8_t *message = make_message(LONG);
	uint64_t right = kvi_sum_grains(message, LONG, 0, LONG);
	for (size_t at = 0; at < LONG; at += 8191) {
		message[at] ^= 0x10;
		ck_assert_uint_ne(kvi_sum_grains(message, LONG, 0, LONG), right);
		message[at] ^= 0x10;
	}
	free(message);
}
END_TEST

START_TEST(a_message_of_no_bytes_has_no_grain)
{
	ck_assert_uint_eq(kvi_sum_grains(NULL, 0, 0, 0), 0);
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("sum");
	tcase_add_test(tests, a_sum_is_xxh3_with_64_bits);
	tcase_add_test(tests, every_flipped_bit_changes_the_sum);
	tcase_add_test(tests, a_message_has_one_sum_however_it_is_cut);
	tcase_add_test(tests, grains_that_change_places_change_the_sum);
	tcase_add_test(tests, a_flipped_bit_in_any_grain_changes_the_sum_of_the_message);
	tcase_add_test(tests, a_message_of_no_bytes_has_no_grain);
	return run_tests("base/sum", tests);
}
