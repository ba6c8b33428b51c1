/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_shared.c - on one host, memory that one side has shared and the other maps.
 */
#define _GNU_SOURCE 1 /* F_SEAL_SHRINK */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "raw.h"

/* Registered memory in a file that its side has shared. */
struct pool {
	struct area area;
	int fd;
};

static void pool_open(struct pool *pool, struct side *side, size_t len, unsigned access, int fill)
{
	static atomic_ullong last_key;
	uint64_t key = (atomic_fetch_add(&last_key, 1) + 1) << 32;
	pool->fd = make_file((off_t)len, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	pool->area = (struct area){ .len = len };
	pool->area.base = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, pool->fd, 0);
	ck_assert_ptr_ne(pool->area.base, MAP_FAILED);
	memset(pool->area.base, fill, len);
	ck_assert_int_eq(kvi_rail_share(side->rail, pool->area.base, len, pool->fd), KVT_OK);
	ck_assert_int_eq(kvi_memory_open(side->cq, pool->area.base, len, access, key,
					 &pool->area.memory, NULL),
			 KVT_OK);
	pool->area.rkey = kvi_memory_get_rkey(pool->area.memory);
}

static void pool_close(struct pool *pool, struct side *side)
{
	kvi_memory_close(pool->area.memory);
	kvi_rail_unshare(side->rail, pool->area.base);
	munmap(pool->area.base, pool->area.len);
	close(pool->fd);
}

enum { BOTH = KVI_ACCESS_REMOTE_WRITE | KVI_ACCESS_REMOTE_READ, POOL_LEN = 1 << 20 };

/* Parts of several sizes, at odd places, until long after the peer has mapped what is shared. */
static void move_parts(struct bed *bed, struct end *near, struct area *local, struct area *remote)
{
	static const size_t lens[] = { 1, 100, 4096, 5000, 70001, 300000 };
	for (uint32_t i = 0; i < 6 * 4; i++) {
		size_t len = lens[i % 6], offset = 1 + i * 37;
		struct kvi_rkey rkey = { remote->rkey.address + 3 * i, remote->rkey.key };
		struct act act;
		fill_pattern(local->base + offset, len, i);
		post_write(near, &act, local, offset, len, rkey);
		bed_wait(bed, act.reports == 1);
		ck_assert_int_eq(act.completion.err, KVT_OK);
		ck_assert(holds_pattern(remote->base + 3 * i, len, i));
		fill_pattern(remote->base + 3 * i, len, i + 100);
		post_read(near, &act, local, offset, len, rkey);
		bed_wait(bed, act.reports == 1);
		ck_assert_int_eq(act.completion.err, KVT_OK);
		ck_assert(holds_pattern(local->base + offset, len, i + 100));
	}
}

START_TEST(shared_memory_is_written_and_read_as_other_memory_is)
{
	bool near_shares = (_i & 1) != 0, far_shares = (_i & 2) != 0;
	struct bed bed;
	struct end near, far;
	struct pool shared[2];
	struct area plain[2];
	bed_open(&bed);
	bed_connect(&bed, &near, &far);
	pool_open(&shared[0], &bed.near, POOL_LEN, BOTH, 0);
	pool_open(&shared[1], &bed.far, POOL_LEN, BOTH, 0);
	area_open(&plain[0], &bed.near, POOL_LEN, KVI_ACCESS_LOCAL, 0);
	area_open(&plain[1], &bed.far, POOL_LEN, BOTH, 0);
	move_parts(&bed, &near, near_shares ? &shared[0].area : &plain[0],
		   far_shares ? &shared[1].area : &plain[1]);
	end_close(&near);
	end_close(&far);
	pool_close(&shared[0], &bed.near);
	pool_close(&shared[1], &bed.far);
	area_close(&plain[0]);
	area_close(&plain[1]);
	bed_close(&bed);
}
END_TEST

/* The first record that the victim has put, and behind it its bytes. */
static struct kvi_record await_record(struct raw *raw, struct bed *bed)
{
	struct kvi_record record;
	size_t filled = 0;
	while (filled == 0) {
		bed_run(bed, KVI_MS);
		ck_assert(kvi_ring_get_filled(&raw->ring, &filled));
	}
	ck_assert_uint_ge(filled, sizeof(record));
	memcpy(&record, kvi_ring_get_in(&raw->ring), sizeof(record));
	return record;
}

START_TEST(what_is_in_common_memory_is_there_when_a_message_tells_of_it)
{
	enum { ROUNDS = 4 };
	struct bed bed;
	struct end ends[2];
	struct area source, inbox;
	struct kvi_common commons[2];
	bed_open(&bed);
	const size_t len = bed.near.caps->common_len;
	ck_assert_uint_ge(len, 1 << 20);
	bed_connect(&bed, &ends[0], &ends[1]);
	area_open(&source, &bed.near, 64, KVI_ACCESS_LOCAL, 0);
	area_open(&inbox, &bed.far, 64, KVI_ACCESS_LOCAL, 0);
	for (unsigned i = 0; i < 2; i++)
		ck_assert_int_eq(kvi_lane_get_common(ends[i].lane, &commons[i]), KVT_OK);
	for (uint32_t round = 0; round < ROUNDS; round++) {
		struct act send, receive;
		fill_pattern(commons[0].own, len, round);
		fill_pattern(commons[1].own, len, ROUNDS + round);
		post_recv(&ends[1], &receive, &inbox, 0, 64);
		post_send(&ends[0], &send, &source, 0, 64);
		bed_wait(&bed, send.reports == 1 && receive.reports == 1);
		ck_assert(holds_pattern(commons[1].peer, len, round));
		ck_assert(holds_pattern(commons[0].peer, len, ROUNDS + round));
	}
	/* It is each side's until that closes the lane. */
	end_close(&ends[0]);
	ck_assert(holds_pattern(commons[1].peer, len, ROUNDS - 1));
	end_close(&ends[1]);
	area_close(&source);
	area_close(&inbox);
	bed_close(&bed);
}
END_TEST

START_TEST(a_few_shared_bytes_come_with_their_record)
{
	static const struct {
		size_t len;
		bool is_shared;
		enum kvi_record_kind kind;
	} cases[] = {
		{ 1, true, KVI_RECORD_WRITE },
		{ KVI_LOCAL_ALONG_LEN, true, KVI_RECORD_WRITE },
		{ KVI_LOCAL_ALONG_LEN + 1, true, KVI_RECORD_WRITE_PULL },
		{ 64, false, KVI_RECORD_WRITE_PULL }, /* it may not be there: the kernel copies */
	};
	struct bed bed;
	bed_open(&bed);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct raw raw;
		struct pool pool;
		struct area plain;
		struct act write;
		raw_open(&raw, &bed, KVI_ACCESS_REMOTE_WRITE);
		atomic_store(&raw.ring.own->pulls, 1);
		pool_open(&pool, &bed.far, LEN, KVI_ACCESS_LOCAL, 1);
		area_open(&plain, &bed.far, LEN, KVI_ACCESS_LOCAL, 1);
		post_write(&raw.far, &write, cases[i].is_shared ? &pool.area : &plain, 0,
			   cases[i].len, pool.area.rkey);
		ck_assert_uint_eq(await_record(&raw, &bed).kind, cases[i].kind);
		area_close(&plain);
		pool_close(&pool, &bed.far);
		raw_close(&raw);
	}
	bed_close(&bed);
}
END_TEST

/* Each is at the address of the one before, and more come than a lane has slots. */
START_TEST(memory_that_comes_in_the_place_of_other_memory_is_not_taken_for_it)
{
	enum { COUNT = 3 * KVI_LOCAL_SLOTS, SMALL = 8192 };
	struct bed bed;
	struct end near, far;
	struct area target;
	bed_open(&bed);
	bed_connect(&bed, &near, &far);
	area_open(&target, &bed.far, SMALL, KVI_ACCESS_REMOTE_WRITE, 0);
	unsigned before = count_fds();
	for (int i = 1; i <= COUNT; i++) {
		struct pool pool;
		struct act acts[2];
		pool_open(&pool, &bed.near, SMALL, KVI_ACCESS_LOCAL, i);
		for (unsigned turn = 0; turn < 2; turn++) {
			post_write(&near, &acts[turn], &pool.area, 0, SMALL, target.rkey);
			bed_wait(&bed, acts[turn].reports == 1);
			ck_assert(area_holds_only(&target, (uint8_t)i));
			bed_run(&bed, KVI_MS / 10);
		}
		pool_close(&pool, &bed.near);
	}
	end_close(&near);
	end_close(&far);
	bed_run(&bed, KVI_MS);
	ck_assert_uint_lt(count_fds(), before);
	area_close(&target);
	bed_close(&bed);
}
END_TEST

START_TEST(what_was_offered_and_cannot_be_mapped_ends_the_lane)
{
	enum { ALL = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL };
	static const struct {
		int seals;
		struct kvi_local_offer offer;
	} cases[] = {
		{ 0, { 0, LEN } },
		{ F_SEAL_GROW, { 0, LEN } },
		{ ALL, { KVI_LOCAL_SLOTS, LEN } },
		{ ALL, { 0, LEN + 1 } },
		{ ALL, { UINT64_MAX, LEN } },
		{ ALL, { 0, 0 } },
	};
	struct bed bed;
	bed_open(&bed);
	unsigned before = count_fds();
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct raw raw;
		raw_open(&raw, &bed, KVI_ACCESS_REMOTE_WRITE);
		int fd = make_file(LEN, cases[i].seals);
		say(raw.socket, &cases[i].offer, sizeof(cases[i].offer), fd, 1);
		bed_wait(&bed, raw.far.lost_count == 1);
		close(fd);
		raw_close(&raw);
	}
	ck_assert_uint_eq(count_fds(), before);
	bed_close(&bed);
}
END_TEST

/* The application has closed the pool's descriptor, and has opened its own by the same number. */
START_TEST(a_file_of_the_applications_is_not_offered_for_a_pools)
{
	struct bed bed;
	struct raw raw;
	struct pool pool;
	struct act write;
	uint8_t bytes[64];
	bed_open(&bed);
	raw_open(&raw, &bed, KVI_ACCESS_REMOTE_WRITE);
	pool_open(&pool, &bed.far, LEN, KVI_ACCESS_LOCAL, 1);
	int other = make_file(LEN, F_SEAL_SHRINK);
	ck_assert_int_eq(dup2(other, pool.fd), pool.fd);
	close(other);
	post_write(&raw.far, &write, &pool.area, 0, LEN, pool.area.rkey);
	await_record(&raw, &bed);
	ssize_t got;
	while ((got = recv(raw.socket, bytes, sizeof(bytes), MSG_DONTWAIT)) >= 0)
		ck_assert_int_ne(got, (ssize_t)sizeof(struct kvi_local_offer));
	pool_close(&pool, &bed.far);
	raw_close(&raw);
	bed_close(&bed);
}
END_TEST

/* The next offer that the victim has made. False: there is none. */
static bool hear_offer(const struct raw *raw, struct kvi_local_offer *offer)
{
	ssize_t got;
	do {
		got = recv(raw->socket, offer, sizeof(*offer), MSG_DONTWAIT);
	} while (got >= 0 && got != (ssize_t)sizeof(*offer)); /* wakes are shorter */
	return got >= 0;
}

START_TEST(a_slot_is_given_again_once_its_memory_is_shared_no_more)
{
	enum { COUNT = KVI_LOCAL_SLOTS + 1, GONE = 7 };
	struct bed bed;
	struct raw raw;
	struct pool pools[COUNT];
	struct act writes[COUNT + 1];
	struct kvi_local_offer offer;
	bed_open(&bed);
	raw_open(&raw, &bed, KVI_ACCESS_REMOTE_WRITE);
	for (unsigned i = 0; i < COUNT; i++) {
		struct area *area = &pools[i].area;
		pool_open(&pools[i], &bed.far, LEN, KVI_ACCESS_LOCAL, 1);
		post_write(&raw.far, &writes[i], area, 0, LEN, area->rkey);
		ck_assert_int_eq(hear_offer(&raw, &offer), i < KVI_LOCAL_SLOTS);
		ck_assert(i >= KVI_LOCAL_SLOTS || offer.slot == i);
	}
	pool_close(&pools[GONE], &bed.far);
	struct area *last = &pools[COUNT - 1].area;
	post_write(&raw.far, &writes[COUNT], last, 0, LEN, last->rkey);
	ck_assert(hear_offer(&raw, &offer));
	ck_assert_uint_eq(offer.slot, GONE);
	for (unsigned i = 0; i < COUNT; i++)
		if (i != GONE)
			pool_close(&pools[i], &bed.far);
	raw_close(&raw);
	bed_close(&bed);
}
END_TEST

/* So many offers; returns how many were taken. */
static unsigned offer_many(struct raw *raw, struct bed *bed, unsigned count, uint64_t len)
{
	for (unsigned i = 0; i < count; i++) {
		const struct kvi_local_offer offer = { i, len };
		int fd = make_file((off_t)len, F_SEAL_SHRINK);
		say(raw->socket, &offer, sizeof(offer), fd, 1);
		close(fd);
		bed_wait(bed, is_read(raw->socket));
	}
	ck_assert_uint_eq(raw->far.lost_count, 0);
	return atomic_load(&raw->ring.other->maps);
}

START_TEST(peers_have_so_much_mapped_and_no_more)
{
	enum { LANES = KVI_LOCAL_MAPS_MAX / KVI_LOCAL_SLOTS };
	struct raw raws[LANES + 1];
	struct bed bed;
	bed_open(&bed);
	uint64_t all = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
	unsigned before = count_fds();
	raw_open(&raws[0], &bed, KVI_ACCESS_REMOTE_WRITE);
	ck_assert_uint_eq(offer_many(&raws[0], &bed, 4, all), 2);
	raw_close(&raws[0]);
	for (unsigned i = 0; i < LANES; i++) {
		raw_open(&raws[i], &bed, KVI_ACCESS_REMOTE_WRITE);
		ck_assert_uint_eq(offer_many(&raws[i], &bed, KVI_LOCAL_SLOTS, LEN),
				  KVI_LOCAL_SLOTS);
	}
	raw_open(&raws[LANES], &bed, KVI_ACCESS_REMOTE_WRITE);
	ck_assert_uint_eq(offer_many(&raws[LANES], &bed, 1, LEN), 0);
	for (unsigned i = 0; i < LANES; i++)
		raw_close(&raws[i]);
	raw_close(&raws[LANES]);
	ck_assert_uint_eq(count_fds(), before);
	raw_open(&raws[0], &bed, KVI_ACCESS_REMOTE_WRITE); /* there is room again */
	ck_assert_uint_eq(offer_many(&raws[0], &bed, 1, all), 1);
	raw_close(&raws[0]);
	bed_close(&bed);
}
END_TEST

TCase *make_shared_tests(void)
{
	TCase *tests = tcase_create("shared memory");
	tcase_set_timeout(tests, 60);
	tcase_add_loop_test(tests, shared_memory_is_written_and_read_as_other_memory_is, 0, 4);
	tcase_add_test(tests, what_is_in_common_memory_is_there_when_a_message_tells_of_it);
	tcase_add_test(tests, a_few_shared_bytes_come_with_their_record);
	tcase_add_test(tests, memory_that_comes_in_the_place_of_other_memory_is_not_taken_for_it);
	tcase_add_test(tests, what_was_offered_and_cannot_be_mapped_ends_the_lane);
	tcase_add_test(tests, a_slot_is_given_again_once_its_memory_is_shared_no_more);
	tcase_add_test(tests, a_file_of_the_applications_is_not_offered_for_a_pools);
	tcase_add_test(tests, peers_have_so_much_mapped_and_no_more);
	return tests;
}
