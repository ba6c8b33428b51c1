/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_raw.c - what a peer's descriptors, and what it says of its memory, cost us: nothing but its lane.
 */
#define _GNU_SOURCE 1 /* F_SEAL_SHRINK */
#include "raw.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
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
	bed_wait(&bed, is_read(raw.socket));
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	say(raw.socket, &offer, sizeof(offer), fd, 1);
	bed_wait(&bed, is_read(raw.socket));
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

START_TEST(a_caller_waits_for_a_descriptor_and_who_takes_it_is_told_why)
{
	struct bed bed;
	struct kvi_local_hello hello = make_hello();
	struct kvi_ring ring;
	uint8_t address[KVI_ADDRESS_LEN_MAX];
	bed_open(&bed);
	ck_assert_int_eq(kvi_ring_make(&ring, NULL), KVT_OK);
	socklen_t len = (socklen_t)kvi_listener_get_address(bed.listener, address);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct rlimit limit = exhaust_fds();
	ck_assert_int_eq(connect(fd, (const struct sockaddr *)address, len), 0);
	ck_assert_ptr_null(kvi_listener_take(bed.listener));
	ck_assert(kvi_listener_lacks_fds(bed.listener));
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	say(fd, &hello, sizeof(hello), ring.fd, 1);
	kvi_lane_request_reject(bed_take_request(&bed));
	ck_assert(!kvi_listener_lacks_fds(bed.listener));
	kvi_ring_close(&ring);
	close(fd);
	bed_close(&bed);
}
END_TEST

START_TEST(a_lane_that_no_descriptor_is_left_for_says_so)
{
	struct bed bed;
	struct end near;
	struct kvt_error error = { 0 };
	uint8_t address[KVI_ADDRESS_LEN_MAX];
	bed_open(&bed);
	size_t len = kvi_listener_get_address(bed.listener, address);
	end_open(&near, &bed.near, address, len, NULL);
	struct rlimit limit = exhaust_fds();
	ck_assert_int_eq(kvi_lane_connect(near.lane, address, 4, &error), KVT_E_LIMIT);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	ck_assert_int_eq(error.provider_errno, EMFILE);
	end_close(&near);
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
	unsigned held = 0;
	struct bed bed;
	static struct raw raws[LANES];
	bed_open(&bed);
	for (unsigned i = 0; i < LANES; i++) {
		raw_open(&raws[i], &bed, KVI_ACCESS_REMOTE_WRITE);
		atomic_store(&raws[i].ring.own->pulling, 1);
	}
	for (unsigned i = 0; i < LANES; i++) {
		int64_t since = kvi_clock_now();
		end_close(&raws[i].far);
		held += kvi_clock_now() - since >= 40 * KVI_MS;
	}
	/* The first one, and what a busy machine holds up. */
	ck_assert_uint_ge(held, 1);
	ck_assert_uint_le(held, LANES / 2);
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
	tcase_add_test(tests, a_caller_waits_for_a_descriptor_and_who_takes_it_is_told_why);
	tcase_add_test(tests, a_lane_that_no_descriptor_is_left_for_says_so);
	tcase_add_test(tests, a_descriptor_that_comes_with_anything_but_an_offer_is_closed);
	tcase_add_test(tests, the_bytes_of_another_process_by_the_same_number_are_not_the_peers);
	tcase_add_test(tests, a_peer_that_says_it_copies_holds_up_the_close_of_its_lanes_once);
	return tests;
}
