/* SPDX-License-Identifier: Apache-2.0 */
/* check_engine_strangers.c - who goes first when too many have called. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "../support/failing_alloc.h"
#include "../support/runner.h"
#include "engine/conn/strangers.h"

enum { COUNT = KVI_STRANGERS_MAX + 1, PER_SOURCE = KVI_STRANGERS_PER_SOURCE_MAX };

static struct kvi_strangers strangers;
static struct kvi_stranger all[COUNT];

static void make_strangers(void)
{
	kvi_strangers_init(&strangers, KVI_STRANGERS_MAX, KVI_STRANGERS_PER_SOURCE_MAX);
	for (int i = 0; i < COUNT; i++)
		all[i] = (struct kvi_stranger){ .source = NULL };
}

/* None is left, nor memory of them. */
static void check_none(void)
{
	for (int i = 0; i < COUNT; i++)
		kvi_strangers_remove(&all[i]);
	ck_assert_uint_eq(strangers.count, 0);
	ck_assert_int_eq(failing_alloc_get_live(), 0);
}

/* As a call does it; returns who has to go, by its index; -1: nobody. */
static int call(int index, const char *host)
{
	ck_assert(kvi_strangers_add(&strangers, &all[index], host));
	struct kvi_stranger *picked = kvi_strangers_pick(&all[index]);
	return picked == NULL ? -1 : (int)(picked - all);
}

static int call_from(int index, int host)
{
	char name[64];
	snprintf(name, sizeof(name), "192.0.2.%d", host);
	return call(index, name);
}

START_TEST(as_many_as_are_allowed_have_room)
{
	for (int i = 0; i < KVI_STRANGERS_MAX; i++)
		ck_assert_int_eq(call_from(i, i % (KVI_STRANGERS_MAX / PER_SOURCE)), -1);
}
END_TEST

START_TEST(of_a_host_that_calls_too_often_its_own_oldest_goes)
{
	ck_assert_int_eq(call_from(0, 1), -1);
	for (int i = 1; i <= PER_SOURCE; i++)
		ck_assert_int_eq(call_from(i, 2), -1);
	ck_assert_int_eq(call_from(PER_SOURCE + 1, 2), 1);
	kvi_strangers_remove(&all[1]);
	ck_assert_int_eq(call_from(1, 2), 2);
	kvi_strangers_remove(&all[2]);
	/* One that found its place is counted no more. */
	kvi_strangers_remove(&all[7]);
	ck_assert_int_eq(call_from(2, 2), -1);
	ck_assert_int_eq(call_from(7, 2), 3);
}
END_TEST

START_TEST(of_too_many_hosts_the_oldest_stranger_goes)
{
	for (int i = 0; i < KVI_STRANGERS_MAX; i++)
		ck_assert_int_eq(call_from(i, i), -1);
	ck_assert_int_eq(call_from(KVI_STRANGERS_MAX, 200), 0);
	kvi_strangers_remove(&all[0]);
	ck_assert_int_eq(call_from(0, 201), 1);
}
END_TEST

START_TEST(who_calls_once_is_not_pushed_out_by_who_calls_often)
{
	enum { OFTEN = KVI_STRANGERS_MAX / PER_SOURCE };
	ck_assert_int_eq(call_from(0, 100), -1);
	for (int i = 1; i < KVI_STRANGERS_MAX; i++)
		ck_assert_int_eq(call_from(i, i % OFTEN), -1);
	/* The next one is too many: one of those goes, and another each time. */
	for (int host = 101; host < 101 + KVI_STRANGERS_MAX - 2 * OFTEN; host++) {
		int index = host == 101 ? KVI_STRANGERS_MAX : -1;
		for (int i = 1; i < COUNT && index < 0; i++)
			index = all[i].source == NULL ? i : -1;
		int gone = call_from(index, host);
		ck_assert_int_gt(gone, 0);
		ck_assert_int_lt(gone, KVI_STRANGERS_MAX);
		kvi_strangers_remove(&all[gone]);
		ck_assert_ptr_nonnull(all[0].source);
	}
	/* All have two at most: first those that have, then the oldest of all. */
	for (int left = strangers.count - OFTEN; strangers.most > 1; left--) {
		ck_assert_int_ge(left, 0);
		int index = 1;
		while (all[index].source != NULL)
			index++;
		int gone = call_from(index, 300 + left);
		ck_assert_int_gt(gone, 0);
		kvi_strangers_remove(&all[gone]);
	}
	int index = 1;
	while (all[index].source != NULL)
		index++;
	ck_assert_int_eq(call_from(index, 1000), 0);
}
END_TEST

START_TEST(a_host_that_went_and_comes_again_starts_anew)
{
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < PER_SOURCE; i++)
			ck_assert_int_eq(call(i, "2001:db8::1"), -1);
		for (int i = 0; i < PER_SOURCE; i++)
			kvi_strangers_remove(&all[i]);
		ck_assert_ptr_null(strangers.sources);
	}
}
END_TEST

START_TEST(without_memory_a_stranger_is_not_taken_and_the_others_stay)
{
	call_from(0, 1);
	for (int allocations = 0; allocations < 3; allocations++) {
		failing_alloc_arm(1 + (unsigned)allocations);
		bool added = kvi_strangers_add(&strangers, &all[1], "192.0.2.77");
		failing_alloc_arm(0);
		ck_assert(added == (all[1].source != NULL));
		kvi_strangers_remove(&all[1]);
		ck_assert_uint_eq(strangers.count, 1);
	}
	ck_assert_int_eq(call_from(1, 1), -1);
}
END_TEST

START_TEST(a_source_is_an_ipv4_address_or_half_an_ipv6_one)
{
	static const char *const cases[][2] = {
		{ "192.0.2.7", "192.0.2.7" },
		{ "::ffff:192.0.2.7", "192.0.2.7" },
		{ "2001:db8:1:2::1", "2001:db8:1:2::/64" },
		{ "2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64" },
		{ "2001:db8:1:3::1", "2001:db8:1:3::/64" },
		/* All of a link are in one network, and none of them is given a network of its own. */
		{ "fe80::1", "fe80::1%7" },
		{ "febf:ffff::2", "febf:ffff::2%7" },
		{ "::1", "::/64" },
		/* The longest. */
		{ "1111:2222:3333:4444:5555:6666:7777:8888", "1111:2222:3333:4444::/64" },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct sockaddr_storage address = { 0 };
		bool is_four = strchr(cases[i][0], ':') == NULL;
		void *at = is_four ? (void *)&((struct sockaddr_in *)&address)->sin_addr
				   : (void *)&((struct sockaddr_in6 *)&address)->sin6_addr;
		char name[KVI_SOURCE_NAME_LEN];
		address.ss_family = is_four ? AF_INET : AF_INET6;
		if (!is_four)
			((struct sockaddr_in6 *)&address)->sin6_scope_id = 7;
		ck_assert_int_eq(inet_pton(address.ss_family, cases[i][0], at), 1);
		kvi_source_print(&address, name);
		ck_assert_str_eq(name, cases[i][1]);
	}
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("strangers");
	tcase_add_checked_fixture(tests, make_strangers, check_none);
	tcase_add_test(tests, as_many_as_are_allowed_have_room);
	tcase_add_test(tests, of_a_host_that_calls_too_often_its_own_oldest_goes);
	tcase_add_test(tests, of_too_many_hosts_the_oldest_stranger_goes);
	tcase_add_test(tests, who_calls_once_is_not_pushed_out_by_who_calls_often);
	tcase_add_test(tests, a_host_that_went_and_comes_again_starts_anew);
	tcase_add_test(tests, without_memory_a_stranger_is_not_taken_and_the_others_stay);
	tcase_add_test(tests, a_source_is_an_ipv4_address_or_half_an_ipv6_one);
	return run_tests("engine_strangers", tests);
}
