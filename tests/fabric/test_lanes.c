/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_lanes.c - many lanes on one cq, however many queues of the provider it is made of: each carries what it
 * is given, wakes its sleeper, and goes by itself.
 */
#include "bed.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { LANES = 100, ITEM_LEN = 16, STEP = 37 }; /* STEP and LANES have no divisor in common */

/* The lanes of a bed, with a receive and a send of each end. */
struct crowd {
	struct bed bed;
	struct end near[LANES];
	struct end far[LANES];
	struct area out; /* of near */
	struct area in;	 /* of far */
	struct act sends[LANES];
	struct act receives[LANES];
};

static void crowd_open(struct crowd *crowd)
{
	bed_open(&crowd->bed);
	for (size_t i = 0; i < LANES; i++)
		bed_connect(&crowd->bed, &crowd->near[i], &crowd->far[i]);
	area_open(&crowd->out, &crowd->bed.near, LANES * ITEM_LEN, KVI_ACCESS_LOCAL, 1);
	area_open(&crowd->in, &crowd->bed.far, LANES * ITEM_LEN, KVI_ACCESS_LOCAL, 0);
}

/* The lanes that are still open, too. */
static void crowd_close(struct crowd *crowd)
{
	for (size_t i = 0; i < LANES; i++) {
		if (crowd->near[i].lane != NULL)
			end_close(&crowd->near[i]);
		if (crowd->far[i].lane != NULL)
			end_close(&crowd->far[i]);
	}
	area_close(&crowd->out);
	area_close(&crowd->in);
	bed_close(&crowd->bed);
}

static void post_receive(struct crowd *crowd, size_t i)
{
	post_recv(&crowd->far[i], &crowd->receives[i], &crowd->in, i * ITEM_LEN, ITEM_LEN);
}

static void start_send(struct crowd *crowd, size_t i)
{
	post_send(&crowd->near[i], &crowd->sends[i], &crowd->out, i * ITEM_LEN, ITEM_LEN);
}

/* A message on lane i has come, and is all that the receive says. */
static void finish(struct crowd *crowd, size_t i)
{
	bed_wait(&crowd->bed, crowd->sends[i].reports == 1 && crowd->receives[i].reports == 1);
	ck_assert_int_eq(crowd->receives[i].completion.err, KVT_OK);
	ck_assert_uint_eq(crowd->receives[i].completion.len, ITEM_LEN);
}

/* The i-th of the lanes in an order that jumps about. */
static size_t get_jump(size_t i)
{
	return i * STEP % LANES;
}

START_TEST(each_of_many_lanes_carries_its_own)
{
	static struct crowd crowd;
	crowd_open(&crowd);
	for (size_t i = 0; i < LANES; i++)
		memset(crowd.out.base + i * ITEM_LEN, (int)i + 1, ITEM_LEN);
	/* One at a time, then all at once. */
	for (size_t i = 0; i < LANES; i++) {
		post_receive(&crowd, get_jump(i));
		start_send(&crowd, get_jump(i));
		finish(&crowd, get_jump(i));
	}
	memset(crowd.in.base, 0, crowd.in.len);
	for (size_t i = 0; i < LANES; i++)
		post_receive(&crowd, i);
	for (size_t i = 0; i < LANES; i++)
		start_send(&crowd, get_jump(i));
	for (size_t i = 0; i < LANES; i++)
		finish(&crowd, i);
	ck_assert_mem_eq(crowd.in.base, crowd.out.base, crowd.in.len);
	crowd_close(&crowd);
}
END_TEST

/* With what is outstanding on it, while those that stay, and lanes that come later, go on. */
START_TEST(many_lanes_close_in_any_order_and_the_others_go_on)
{
	static struct crowd crowd;
	crowd_open(&crowd);
	for (size_t i = 0; i < LANES; i++)
		post_receive(&crowd, i);
	for (size_t i = 0; i < LANES; i++) {
		size_t closed = get_jump(i), other = get_jump((i + 1) % LANES);
		bool closes_far = i % 2 == 0;
		end_close(closes_far ? &crowd.far[closed] : &crowd.near[closed]);
		if (i + 1 < LANES) {
			start_send(&crowd, other);
			finish(&crowd, other);
			post_receive(&crowd, other);
		}
		bed_wait(&crowd.bed, closes_far ? crowd.near[closed].lost_count == 1
						: crowd.far[closed].lost_count == 1);
		end_close(closes_far ? &crowd.near[closed] : &crowd.far[closed]);
		bed_wait(&crowd.bed, crowd.receives[closed].reports == 1);
		ck_assert_int_ne(crowd.receives[closed].completion.err, KVT_OK);
		if (i % 8 != 0)
			continue;
		struct end near, far;
		bed_connect(&crowd.bed, &near, &far);
		end_close(&near);
		end_close(&far);
	}
	crowd_close(&crowd);
}
END_TEST

/* ---- sleeping ---- */

/* The far side on a thread of its own, which sleeps until all lanes have brought something. */
struct sleeper {
	struct crowd *crowd;
	atomic_size_t taken;
	atomic_bool slept_over;
};

static void *sleep_for_all(void *arg)
{
	struct sleeper *sleeper = arg;
	struct side *side = &sleeper->crowd->bed.far;
	int fds[2], epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	kvi_cq_get_fds(side->cq, fds);
	for (size_t i = 0; i < 2; i++) {
		struct epoll_event event = { .events = EPOLLIN };
		ck_assert_int_eq(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fds[i], &event), 0);
	}
	size_t taken = 0;
	while (taken < LANES && !atomic_load(&sleeper->slept_over)) {
		struct epoll_event event;
		bool did = side_poll(side);
		taken = count_reported(sleeper->crowd->receives, LANES);
		atomic_store(&sleeper->taken, taken);
		/* On a busy machine there may be nothing yet. */
		if (!did && taken < LANES && kvi_cq_may_sleep(side->cq) &&
		    epoll_wait(epoll_fd, &event, 1, 2000) == 0 && side_poll(side))
			atomic_store(&sleeper->slept_over, true);
	}
	close(epoll_fd);
	return NULL;
}

START_TEST(a_sleeper_wakes_up_for_any_of_its_many_lanes)
{
	static struct crowd crowd;
	pthread_t thread;
	crowd_open(&crowd);
	struct sleeper sleeper = { .crowd = &crowd };
	for (size_t i = 0; i < LANES; i++)
		post_receive(&crowd, i);
	ck_assert_int_eq(pthread_create(&thread, NULL, sleep_for_all, &sleeper), 0);
	for (size_t i = 0; i < LANES && !atomic_load(&sleeper.slept_over); i++) {
		start_send(&crowd, get_jump(i));
		int64_t deadline = kvi_deadline_after(BED_PATIENCE_NS);
		while ((crowd.sends[get_jump(i)].reports == 0 ||
			atomic_load(&sleeper.taken) <= i) &&
		       !atomic_load(&sleeper.slept_over)) {
			ck_assert_msg(kvi_clock_now() < deadline, "message %zu does not come", i);
			side_poll(&crowd.bed.near);
		}
	}
	pthread_join(thread, NULL);
	ck_assert_msg(!atomic_load(&sleeper.slept_over), "it slept over message %zu",
		      atomic_load(&sleeper.taken));
	crowd_close(&crowd);
}
END_TEST

/* The provider has taken all of the message from the network, and no descriptor will tell of it. */
START_TEST(a_receive_that_is_posted_late_finds_what_came_on_a_sleeping_lane)
{
	static struct crowd crowd;
	crowd_open(&crowd);
	for (size_t i = 0; i < LANES; i++) {
		size_t at = get_jump(i);
		post_send(&crowd.near[at], &crowd.sends[at], &crowd.out, 0, 0);
		bed_run(&crowd.bed, KVI_MS);
		kvi_cq_may_sleep(crowd.bed.far.cq);
		post_receive(&crowd, at);
		bed_wait(&crowd.bed, crowd.receives[at].reports == 1);
		ck_assert_int_eq(crowd.receives[at].completion.err, KVT_OK);
		bed_wait(&crowd.bed, crowd.sends[at].reports == 1);
	}
	crowd_close(&crowd);
}
END_TEST

TCase *make_lanes_tests(void)
{
	TCase *tests = tcase_create("lanes");
	tcase_add_test(tests, each_of_many_lanes_carries_its_own);
	tcase_add_test(tests, many_lanes_close_in_any_order_and_the_others_go_on);
	tcase_add_test(tests, a_sleeper_wakes_up_for_any_of_its_many_lanes);
	tcase_add_test(tests, a_receive_that_is_posted_late_finds_what_came_on_a_sleeping_lane);
	return tests;
}
