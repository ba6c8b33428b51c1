/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_raw.c - what a peer's descriptors, and what it says of its memory, cost us: nothing but its lane.
 */
#define _GNU_SOURCE 1 /* F_SEAL_SHRINK */
#include "raw.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

/* ---- descriptors ---- */

/* Take no descriptor more, until the limit is put back. */
static struct rlimit exhaust_fds(void)
{
	struct rlimit limit, none;
	int lowest = dup(STDIN_FILENO);
	ck_assert_int_ge(lowest, 0);
	close(lowest);
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none = limit;
	none.rlim_cur = (rlim_t)lowest;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
	return limit;
}

START_TEST(an_offer_that_came_without_its_descriptor_costs_no_lane_and_no_later_one_is_counted)
{
	const struct kvi_local_offer offer = { 0, LEN };
	struct bed bed;
	struct raw raw;
	bed_open(&bed);
	raw_open(&raw, &bed, KVI_ACCESS_REMOTE_WRITE);
	int fd = make_file(LEN, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	unsigned before = count_fds();
	struct rlimit limit = exhaust_fds();
	say(raw.socket, &offer, sizeof(offer), fd, 1);
	bed_run(&bed, 10 * KVI_MS);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	say(raw.socket, &offer, sizeof(offer), fd, 1);
	bed_run(&bed, 10 * KVI_MS);
	ck_assert_uint_eq(raw.far.lost_count, 0);
	ck_assert_uint_eq(atomic_load(&raw.ring.other->maps), 0);
	ck_assert_uint_eq(count_fds(), before);
	close(fd);
	raw_close(&raw);
	bed_close(&bed);
}
END_TEST

START_TEST(a_descriptor_that_comes_with_anything_but_an_offer_is_closed)
{
	struct bed bed;
	struct raw raw;
	bed_open(&bed);
	raw_open(&raw, &bed, KVI_ACCESS_REMOTE_WRITE);
	int fd = make_file(LEN, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	unsigned before = count_fds();
	for (size_t len = 0; len <= 1; len++)
		for (unsigned i = 0; i < 5; i++)
			say(raw.socket, "", len, fd, 1);
	/* An offer behind them is counted when they were read. */
	const struct kvi_local_offer offer = { 0, LEN };
	say(raw.socket, &offer, sizeof(offer), fd, 1);
	bed_wait(&bed, atomic_load(&raw.ring.other->maps) == 1);
	ck_assert_uint_eq(count_fds(), before + 1);
	close(fd);
	raw_close(&raw);
	bed_close(&bed);
}
END_TEST

/* ---- pulling ---- */

START_TEST(the_bytes_of_another_process_by_the_same_number_are_not_the_peers)
{
	struct bed bed;
	struct raw raw;
	bed_open(&bed);
	raw_open(&raw, &bed, KVI_ACCESS_REMOTE_WRITE);
	const struct kvi_record record = { .kind = KVI_RECORD_WRITE_PULL, .count = 1, .len = 16 };
	const struct kvi_record_span span = { raw.area.rkey.address, raw.area.rkey.key, 16,
					      (uintptr_t)&bed };
	bool pulls = atomic_load(&raw.ring.other->pulls) != 0;
	if (pulls) {
		put(&raw, &record, &span, 1);
		bed_wait(&bed, atomic_load(&raw.ring.other->done) == 1);
	}
	raw.probe++; /* as in a process that has come in its place, where anything else is */
	put(&raw, &record, &span, 1);
	bed_wait(&bed, raw.far.lost_count == 1);
	ck_assert_uint_eq(atomic_load(&raw.ring.other->done), pulls ? 1 : 0);
	raw_close(&raw);
	bed_close(&bed);
}
END_TEST

START_TEST(a_peer_that_says_it_copies_holds_up_the_close_of_its_lanes_once)
{
	enum { LANES = 10 };
	struct bed bed;
	static struct raw raws[LANES];
	bed_open(&bed);
	for (unsigned i = 0; i < LANES; i++) {
		raw_open(&raws[i], &bed, KVI_ACCESS_REMOTE_WRITE);
		atomic_store(&raws[i].ring.own->pulling, 1);
	}
	int64_t since = kvi_clock_now();
	for (unsigned i = 0; i < LANES; i++)
		end_close(&raws[i].far);
	ck_assert_int_lt(kvi_clock_now() - since, 250 * KVI_MS);
	for (unsigned i = 0; i < LANES; i++)
		raw_close(&raws[i]);
	bed_close(&bed);
}
END_TEST

TCase *make_raw_tests(void)
{
	TCase *tests = tcase_create("raw");
	tcase_set_timeout(tests, 60);
	tcase_add_test(
		tests,
		an_offer_that_came_without_its_descriptor_costs_no_lane_and_no_later_one_is_counted);
	tcase_add_test(tests, a_descriptor_that_comes_with_anything_but_an_offer_is_closed);
	tcase_add_test(tests, the_bytes_of_another_process_by_the_same_number_are_not_the_peers);
	tcase_add_test(tests, a_peer_that_says_it_copies_holds_up_the_close_of_its_lanes_once);
	return tests;
}
