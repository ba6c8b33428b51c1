/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_base_sized.c - a struct as a program of version 1, this library (2) and a program of version 3 have it.
 */
#include "base/sized.h"

#include <string.h>

#include "support/runner.h"

struct first {
	size_t size;
	uint64_t old;
};

struct second {
	size_t size;
	uint64_t old;
	uint64_t new;
};

struct third {
	size_t size;
	uint64_t old;
	uint64_t new;
	uint64_t newer;
};

static const struct kvi_sized kind = { "sample", sizeof(struct second), sizeof(struct first) };

static struct second ours;
static struct kvt_error error;

static void set_up(void)
{
	memset(&ours, 0x5a, sizeof(ours));
	memset(&error, 0, sizeof(error));
}

static void expect_refused(const void *theirs, const char *word)
{
	ck_assert_int_eq(kvi_sized_read(&kind, &ours, theirs, &error), KVT_E_INVALID);
	ck_assert_int_eq(error.code, KVT_E_INVALID);
	ck_assert_msg(strstr(error.text, word) != NULL && strstr(error.text, "sample") != NULL,
		      "the sentence has no \"%s\": %s", word, error.text);
}

START_TEST(what_an_older_program_does_not_have_is_zero)
{
	struct first theirs = { sizeof(theirs), 7 };
	ck_assert_int_eq(kvi_sized_read(&kind, &ours, &theirs, &error), KVT_OK);
	ck_assert_uint_eq(ours.old, 7);
	ck_assert_uint_eq(ours.new, 0);
}
END_TEST

START_TEST(a_program_of_this_version_is_read_whole)
{
	struct second theirs = { sizeof(theirs), 7, 8 };
	ck_assert_int_eq(kvi_sized_read(&kind, &ours, &theirs, &error), KVT_OK);
	ck_assert_int_eq(memcmp(&ours, &theirs, sizeof(ours)), 0);
}
END_TEST

START_TEST(what_a_newer_program_leaves_zero_is_accepted)
{
	struct third theirs = { sizeof(theirs), 7, 8, 0 };
	ck_assert_int_eq(kvi_sized_read(&kind, &ours, &theirs, &error), KVT_OK);
	ck_assert_uint_eq(ours.old, 7);
	ck_assert_uint_eq(ours.new, 8);
}
END_TEST

START_TEST(what_a_newer_program_asks_for_is_refused_with_a_sentence)
{
	for (unsigned bit = 0; bit < 64; bit++) {
		struct third theirs = { sizeof(theirs), 7, 8, UINT64_C(1) << bit };
		expect_refused(&theirs, "does not know");
	}
}
END_TEST

START_TEST(a_size_that_is_none_is_refused_with_what_is_allowed)
{
	struct second theirs = { 0, 7, 8 };
	const size_t sizes[] = { 0, 1, sizeof(struct first) - 1, KVI_SIZED_MAX + 1, SIZE_MAX };
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		theirs.size = sizes[i];
		expect_refused(&theirs, "16 to 4096");
		ck_assert_int_eq(kvi_sized_write(&kind, &ours, &theirs), KVT_E_INVALID);
	}
	expect_refused(NULL, "no ");
	ck_assert_int_eq(kvi_sized_write(&kind, &ours, NULL), KVT_E_INVALID);
	ck_assert_uint_eq(theirs.old, 7);
}
END_TEST

START_TEST(an_element_has_the_size_that_is_told)
{
	struct third theirs[2] = { { 1, 2, 3, 0 }, { 4, 5, 6, 9 } };
	ck_assert_int_eq(kvi_sized_read_element(&kind, &ours, &theirs[0], sizeof(theirs[0]),
						&error),
			 KVT_OK);
	ck_assert_uint_eq(ours.size, 1);
	ck_assert_uint_eq(ours.new, 3);
	ck_assert_int_eq(kvi_sized_read_element(&kind, &ours, &theirs[1], sizeof(theirs[1]),
						&error),
			 KVT_E_INVALID);
	ck_assert_int_eq(kvi_sized_read_element(&kind, &ours, &theirs[1], sizeof(struct first),
						&error),
			 KVT_OK);
	ck_assert_uint_eq(ours.old, 5);
	ck_assert_uint_eq(ours.new, 0);
}
END_TEST

START_TEST(an_older_program_gets_what_it_has_room_for)
{
	const struct second found = { 0, 7, 8 };
	struct second theirs = { sizeof(struct first), 1, 2 };
	ck_assert_int_eq(kvi_sized_write(&kind, &found, &theirs), KVT_OK);
	ck_assert_uint_eq(theirs.size, sizeof(struct first));
	ck_assert_uint_eq(theirs.old, 7);
	ck_assert_uint_eq(theirs.new, 2); /* what lies behind its struct */
}
END_TEST

START_TEST(a_newer_program_gets_zero_for_what_is_not_known)
{
	const struct second found = { 0, 7, 8 };
	struct third theirs = { sizeof(theirs), 1, 2, 3 };
	ck_assert_int_eq(kvi_sized_write(&kind, &found, &theirs), KVT_OK);
	ck_assert_uint_eq(theirs.size, sizeof(theirs));
	ck_assert_uint_eq(theirs.old, 7);
	ck_assert_uint_eq(theirs.new, 8);
	ck_assert_uint_eq(theirs.newer, 0);
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("sized");
	tcase_add_checked_fixture(tests, set_up, NULL);
	tcase_add_test(tests, what_an_older_program_does_not_have_is_zero);
	tcase_add_test(tests, a_program_of_this_version_is_read_whole);
	tcase_add_test(tests, what_a_newer_program_leaves_zero_is_accepted);
	tcase_add_test(tests, what_a_newer_program_asks_for_is_refused_with_a_sentence);
	tcase_add_test(tests, a_size_that_is_none_is_refused_with_what_is_allowed);
	tcase_add_test(tests, an_element_has_the_size_that_is_told);
	tcase_add_test(tests, an_older_program_gets_what_it_has_room_for);
	tcase_add_test(tests, a_newer_program_gets_zero_for_what_is_not_known);
	return run_tests("base_sized", tests);
}
