/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_base_copy.c - copies at every alignment, of every length, beside memcpy(3).
 */
#include <stdint.h>
#include <stdlib.h>

#include "base/copy.h"
#include "support/runner.h"

/* As many pages as are copied side by side at most, and one more. */
enum { LINE = KVI_COPY_LINE, LONG = 5 * KVI_COPY_PAGE, CANARY = 0xc5 };

static void copy(void *to, const void *from, size_t len)
{
	kvi_copy(to, from, len);
}

static void (*const copies[])(void *to, const void *from, size_t len) = { copy, kvi_copy_past };

static uint8_t *make_bytes(void)
{
	uint8_t *bytes = NULL;
	ck_assert_int_eq(posix_memalign((void **)&bytes, 4096, LONG + 4 * LINE), 0);
	return bytes;
}

/* len bytes from one place of a line to another, and nothing beside them. */
static void try_copy(int which, uint8_t *to, const uint8_t *from, size_t len)
{
	memset(to - 1, CANARY, len + 2);
	copies[which](to, from, len);
	ck_assert_msg(memcmp(to, from, len) == 0, "%zu bytes to %zu, from %zu", len,
		      (size_t)((uintptr_t)to % LINE), (size_t)((uintptr_t)from % LINE));
	ck_assert_msg(to[-1] == CANARY && to[len] == CANARY, "beside %zu bytes", len);
}

START_TEST(a_copy_of_any_length_is_what_memcpy_makes)
{
	uint8_t *to = make_bytes(), *from = make_bytes();
	for (size_t i = 0; i < LONG + 4 * LINE; i++)
		from[i] = (uint8_t)(i * 31 + (i >> 8) * 7);
	for (size_t len = 0; len <= LONG; len += len < 4 * LINE ? 1 : 29)
		try_copy(_i, to + LINE + len % 5, from + LINE + len % 7, len);
	free(to);
	free(from);
}
END_TEST

START_TEST(a_copy_between_any_two_places_of_a_line_is_what_memcpy_makes)
{
	static const size_t lens[] = { 8,
				       100,
				       KVI_COPY_PAST - 1,
				       KVI_COPY_PAST,
				       KVI_COPY_PAST + 1,
				       KVI_COPY_PAST + 4 * LINE - 1 };
	uint8_t *to = make_bytes(), *from = make_bytes();
	for (size_t i = 0; i < LONG + 4 * LINE; i++)
		from[i] = (uint8_t)(i * 13 + (i >> 8));
	for (size_t at = 0; at < LINE * LINE; at++)
		for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++)
			try_copy(_i, to + LINE + at / LINE, from + LINE + at % LINE, lens[i]);
	free(to);
	free(from);
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("copy");
	tcase_add_loop_test(tests, a_copy_of_any_length_is_what_memcpy_makes, 0, 2);
	tcase_add_loop_test(tests, a_copy_between_any_two_places_of_a_line_is_what_memcpy_makes, 0,
			    2);
	return run_tests("base/copy", tests);
}
