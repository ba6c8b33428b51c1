/* SPDX-License-Identifier: Apache-2.0 */
/* check_auth_openings.c - which calls are known, and for how long. */
#include <string.h>

#include "../support/runner.h"
#include "auth/openings.h"

static struct kvi_openings openings;

static void forget_all(void)
{
	memset(&openings, 0, sizeof(openings));
}

static bool add(uint64_t call)
{
	uint8_t bytes[68] = { 0x4b, 0x56 };
	memcpy(bytes + 20, &call, sizeof(call));
	return kvi_openings_add(&openings, bytes, sizeof(bytes));
}

START_TEST(a_call_that_was_made_is_known_and_another_is_not)
{
	/* So few that no set has more than its places, but once in 10^9 runs: where they go is random. */
	for (uint64_t call = 0; call < 100; call++)
		ck_assert(!add(call));
	for (uint64_t call = 0; call < 100; call++)
		ck_assert(add(call));
}
END_TEST

START_TEST(calls_that_are_made_again_push_no_other_out)
{
	ck_assert(!add(0));
	ck_assert(!add(1));
	for (unsigned i = 0; i < 100000; i++)
		ck_assert(add(1));
	ck_assert(add(0));
}
END_TEST

START_TEST(the_last_ones_are_known_however_many_there_were)
{
	enum { CALLS = 100000, LAST = 100 };
	unsigned known = 0;
	for (uint64_t call = 0; call < CALLS; call++)
		ck_assert(!add(call));
	for (uint64_t call = CALLS - LAST; call < CALLS; call++)
		ck_assert(add(call));
	for (uint64_t call = 0; call < CALLS - LAST; call++)
		known += add(call);
	/* No more than there is space for. */
	ck_assert_uint_le(known, KVI_OPENINGS);
}
END_TEST

START_TEST(two_engines_have_their_calls_in_different_places)
{
	ck_assert(!add(1));
	struct kvi_openings other = openings;
	forget_all();
	ck_assert(!add(1));
	ck_assert_mem_ne(other.hashes, openings.hashes, sizeof(other.hashes));
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("openings");
	tcase_add_checked_fixture(tests, forget_all, forget_all);
	tcase_add_test(tests, a_call_that_was_made_is_known_and_another_is_not);
	tcase_add_test(tests, calls_that_are_made_again_push_no_other_out);
	tcase_add_test(tests, the_last_ones_are_known_however_many_there_were);
	tcase_add_test(tests, two_engines_have_their_calls_in_different_places);
	return run_tests("auth_openings", tests);
}
