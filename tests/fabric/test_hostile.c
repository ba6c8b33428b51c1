/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_hostile.c - what a connected peer that means harm cannot do: write what it may only read, touch
 * what was closed, or reach what is another peer's. Each attempt is one that succeeds where it is allowed,
 * which is looked at first.
 */
#include "hostile.h"

#include <pthread.h>
#include <stdlib.h>

enum { CANARY = 0xc5, LEN = 4096, GUESSES = 3 };

#define SETTLE_NS (100 * KVI_MS)

/* Whether the attempt has ended, or cannot get further. */
static bool has_ended(const struct hostile *hostile)
{
	return hostile->lost || hostile->far.lost_count > 0 ||
	       (hostile->posted > 0 && hostile->done + hostile->failed >= hostile->posted);
}

/* One operation that may or may not succeed, and all the time that its bytes need. */
static void attempt(struct bed *bed, struct hostile *hostile, enum hostile_way way,
		    struct kvi_rkey target)
{
	int64_t deadline = kvi_deadline_after(3 * SETTLE_NS);
	hostile->posted = hostile->done = hostile->failed = 0;
	while (!hostile_post(hostile, way, HOSTILE_SHORT_LEN, target) && !hostile->lost &&
	       kvi_clock_now() < deadline)
		hostile_poll(hostile);
	while (hostile_poll(hostile) && !has_ended(hostile) && kvi_clock_now() < deadline)
		bed_poll(bed);
	deadline = kvi_deadline_after(SETTLE_NS / 10);
	while (hostile_poll(hostile) && kvi_clock_now() < deadline)
		bed_poll(bed);
}

/* A look at memory that is being written, which ThreadSanitizer shall not see. */
__attribute__((no_sanitize_thread)) static bool has_changed(const struct area *area, size_t len)
{
	const volatile uint8_t *bytes = area->base;
	bool changed = false;
	for (size_t i = 0; i < len; i++)
		changed |= bytes[i] != CANARY;
	return changed;
}

/* An operation that must succeed, so that the same one's failure elsewhere says something. */
static void do_allowed(struct bed *bed, struct hostile *hostile, enum hostile_way way,
		       struct area *target)
{
	memset(target->base, CANARY, target->len);
	ck_assert(hostile_post(hostile, way, HOSTILE_SHORT_LEN, target->rkey));
	bed_wait(bed, hostile_poll(hostile) && has_changed(target, HOSTILE_SHORT_LEN));
	bed_wait(bed, hostile_poll(hostile) && hostile->done + hostile->failed == hostile->posted);
	ck_assert_uint_eq(hostile->failed, 0);
	memset(target->base, CANARY, target->len);
}

START_TEST(what_is_open_for_reading_only_or_not_at_all_cannot_be_written)
{
	static const unsigned rights[] = { KVI_ACCESS_REMOTE_READ, KVI_ACCESS_LOCAL };
	enum hostile_way way = (enum hostile_way)_i;
	struct bed bed;
	struct area open, shut;
	bed_open(&bed);
	area_open(&open, &bed.far, LEN, KVI_ACCESS_REMOTE_WRITE, 0);
	for (size_t i = 0; i < sizeof(rights) / sizeof(rights[0]); i++) {
		struct hostile hostile;
		hostile_open(&hostile, &bed);
		area_open(&shut, &bed.far, LEN, rights[i], CANARY);
		if (hostile_can(&hostile, way)) {
			do_allowed(&bed, &hostile, way, &open);
			attempt(&bed, &hostile, way, shut.rkey);
			ck_assert_msg(area_holds_only(&shut, CANARY), "written by way %d", way);
		}
		hostile_close(&hostile);
		area_close(&shut);
	}
	area_close(&open);
	bed_close(&bed);
}
END_TEST

START_TEST(what_is_open_for_writing_only_cannot_be_read)
{
	struct bed bed;
	struct hostile hostile;
	struct area open, shut;
	bed_open(&bed);
	area_open(&open, &bed.far, LEN, KVI_ACCESS_REMOTE_READ, 0x77);
	area_open(&shut, &bed.far, LEN, KVI_ACCESS_REMOTE_WRITE, CANARY);
	hostile_open(&hostile, &bed);
	ck_assert(hostile_post(&hostile, HOSTILE_READ, HOSTILE_SHORT_LEN, open.rkey));
	bed_wait(&bed, hostile_poll(&hostile) && hostile.done == 1);
	ck_assert_uint_eq(hostile.bytes[HOSTILE_SHORT_LEN - 1], 0x77);
	attempt(&bed, &hostile, HOSTILE_READ, shut.rkey);
	ck_assert_uint_eq(hostile.done, 0);
	ck_assert_ptr_null(memchr(hostile.bytes, CANARY, HOSTILE_LEN));
	hostile_close(&hostile);
	area_close(&shut);
	area_close(&open);
	bed_close(&bed);
}
END_TEST

START_TEST(what_was_closed_is_out_of_reach_also_when_its_memory_is_open_again)
{
	enum hostile_way way = (enum hostile_way)_i;
	struct bed bed;
	struct hostile hostile;
	struct area area;
	struct kvi_memory *again = NULL;
	bed_open(&bed);
	hostile_open(&hostile, &bed);
	area_open(&area, &bed.far, LEN, KVI_ACCESS_REMOTE_WRITE, CANARY);
	if (hostile_can(&hostile, way)) {
		do_allowed(&bed, &hostile, way, &area);
		kvi_memory_close(area.memory);
		ck_assert_int_eq(kvi_memory_open(bed.far.cq, area.base, LEN,
						 KVI_ACCESS_REMOTE_WRITE, ~area.rkey.key, &again,
						 NULL),
				 KVT_OK);
		area.memory = again;
		ck_assert_uint_ne(kvi_memory_get_rkey(again).key, area.rkey.key);
		attempt(&bed, &hostile, way, area.rkey);
		ck_assert(area_holds_only(&area, CANARY));
	}
	hostile_close(&hostile);
	area_close(&area);
	bed_close(&bed);
}
END_TEST

/* ---- one that does not stop ---- */

struct storm {
	struct hostile *hostile;
	struct kvi_rkey rkey;
	atomic_bool stop;
};

static void *run_storm(void *arg)
{
	struct storm *storm = arg;
	while (!atomic_load(&storm->stop)) {
		hostile_post(storm->hostile, HOSTILE_WRITE, HOSTILE_LEN, storm->rkey);
		hostile_poll(storm->hostile);
	}
	return NULL;
}

START_TEST(one_that_goes_on_writing_is_shut_out_by_the_close)
{
	const char *wanted = getenv("KVT_TEST_ROUNDS");
	unsigned rounds = wanted != NULL ? (unsigned)atoi(wanted) : 10;
	struct bed bed;
	struct area area;
	bed_open(&bed);
	area_open(&area, &bed.far, HOSTILE_LEN, KVI_ACCESS_LOCAL, CANARY);
	for (unsigned round = 0; round < rounds; round++) {
		struct kvi_memory *memory = NULL;
		struct hostile hostile;
		hostile_open(&hostile, &bed);
		ck_assert_int_eq(kvi_memory_open(bed.far.cq, area.base, area.len,
						 KVI_ACCESS_REMOTE_WRITE, area.rkey.key + 1 + round,
						 &memory, NULL),
				 KVT_OK);
		memset(area.base, CANARY, area.len);
		struct storm storm = { .hostile = &hostile, .rkey = kvi_memory_get_rkey(memory) };
		pthread_t thread;
		ck_assert_int_eq(pthread_create(&thread, NULL, run_storm, &storm), 0);
		bed_wait(&bed, has_changed(&area, area.len));

		/* As rule Q does it: no new ones, then none at all, and only then the memory is ours. */
		kvi_memory_close(memory);
		end_close(&hostile.far);
		memset(area.base, CANARY, area.len);
		bed_run(&bed, 20 * KVI_MS);
		ck_assert_msg(area_holds_only(&area, CANARY), "written in round %u", round);
		atomic_store(&storm.stop, true);
		pthread_join(thread, NULL);
		hostile_close(&hostile);
	}
	area_close(&area);
	bed_close(&bed);
}
END_TEST

/* ---- two peers ---- */

/* Neighbours in one mapping: the bad peer's page, and the good one's behind it. */
static void open_neighbours(struct bed *bed, struct area *bad, struct area *good)
{
	const unsigned access = KVI_ACCESS_REMOTE_WRITE | KVI_ACCESS_REMOTE_READ;
	area_open(bad, &bed->far, 2 * LEN, KVI_ACCESS_LOCAL, CANARY);
	kvi_memory_close(bad->memory);
	*good = *bad;
	good->base += LEN;
	good->len = bad->len = LEN;
	ck_assert_int_eq(kvi_memory_open(bed->far.cq, bad->base, LEN, access,
					 UINT64_C(0x1234567812345678), &bad->memory, NULL),
			 KVT_OK);
	ck_assert_int_eq(kvi_memory_open(bed->far.cq, good->base, LEN, access,
					 UINT64_C(0x8765432187654321), &good->memory, NULL),
			 KVT_OK);
	bad->rkey = kvi_memory_get_rkey(bad->memory);
	good->rkey = kvi_memory_get_rkey(good->memory);
}

static struct kvi_rkey make_guess(int guess, const struct area *bad, const struct area *good)
{
	switch (guess) {
	case 0: /* its own key, and where the other memory is */
		return (struct kvi_rkey){ bad->rkey.address + LEN, bad->rkey.key };
	case 1: /* its own key, over the end */
		return (struct kvi_rkey){ bad->rkey.address + LEN - 1, bad->rkey.key };
	default: /* a key nearby */
		return (struct kvi_rkey){ good->rkey.address, good->rkey.key + 1 };
	}
}

START_TEST(a_peer_reaches_nothing_of_another_and_the_other_does_not_notice)
{
	struct bed bed;
	struct hostile good;
	struct area bad_area, good_area;
	bed_open(&bed);
	open_neighbours(&bed, &bad_area, &good_area);
	hostile_open(&good, &bed);
	for (int guess = 0; guess < GUESSES; guess++) {
		static const enum hostile_way ways[] = { HOSTILE_WRITE, HOSTILE_READ };
		for (size_t i = 0; i < 2; i++) {
			struct hostile bad;
			hostile_open(&bad, &bed);
			do_allowed(&bed, &bad, HOSTILE_WRITE, &bad_area);
			attempt(&bed, &bad, ways[i], make_guess(guess, &bad_area, &good_area));
			ck_assert(area_holds_only(&bad_area, CANARY));
			ck_assert(area_holds_only(&good_area, CANARY));
			ck_assert_ptr_null(memchr(bad.bytes, CANARY, HOSTILE_LEN));
			/* Keys that we do not choose can be guessed: a wrong one costs the lane. */
			if (!bed.far.caps->same_rkey)
				bed_wait(&bed, hostile_poll(&bad) && is_lost(&bad.receive));
			hostile_close(&bad);
		}
	}
	do_allowed(&bed, &good, HOSTILE_WRITE_DELIVERED, &good_area);
	hostile_close(&good);
	kvi_memory_close(good_area.memory);
	area_close(&bad_area);
	bed_close(&bed);
}
END_TEST

Suite *make_hostile_suite(void)
{
	Suite *suite = suite_create("a hostile peer");
	TCase *tests = tcase_create("hostile");
	tcase_set_timeout(tests, 60);
	tcase_add_loop_test(tests, what_is_open_for_reading_only_or_not_at_all_cannot_be_written, 0,
			    HOSTILE_WAYS);
	tcase_add_test(tests, what_is_open_for_writing_only_cannot_be_read);
	tcase_add_loop_test(tests,
			    what_was_closed_is_out_of_reach_also_when_its_memory_is_open_again, 0,
			    HOSTILE_WAYS);
	tcase_add_test(tests, one_that_goes_on_writing_is_shut_out_by_the_close);
	tcase_add_test(tests, a_peer_reaches_nothing_of_another_and_the_other_does_not_notice);
	suite_add_tcase(suite, tests);
	suite_add_tcase(suite, make_limits_tests());
	suite_add_tcase(suite, make_stray_tests());
	return suite;
}
