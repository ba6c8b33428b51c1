/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_sleep.c - a thread that sleeps on a cq's descriptors wakes up for whatever comes.
 */
#include "bed.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { SLOTS = 4, SLOT_LEN = 64 };

/* How long a sleeper sleeps before it looks whether it has slept over something. */
#define SLEEP_MS 2000

/* One side of a game of ping-pong, on a thread of its own. */
struct player {
	struct side *side;
	struct end *end;
	struct area area; /* SLOTS to receive into, one to send from */
	struct act receives[SLOTS];
	struct act send;
	unsigned rounds;
	bool serves;
	int epoll_fd;
	unsigned lost_wakes;
	int64_t until_ns; /* its patience */
	atomic_bool is_connected;
	atomic_bool is_done;
};

static void player_open(struct player *player, struct side *side, struct end *end)
{
	*player = (struct player){ .side = side,
				   .end = end,
				   .until_ns = kvi_deadline_after(BED_PATIENCE_NS) };
	area_open(&player->area, side, (SLOTS + 1) * SLOT_LEN, KVI_ACCESS_LOCAL, 0);
	player->send.reports = 1;

	int fds[2], fds_again[2];
	kvi_cq_get_fds(side->cq, fds);
	kvi_cq_get_fds(side->cq, fds_again);
	ck_assert_mem_eq(fds, fds_again, sizeof(fds));
	player->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	for (size_t i = 0; i < 2; i++) {
		struct epoll_event event = { .events = EPOLLIN };
		ck_assert_int_eq(epoll_ctl(player->epoll_fd, EPOLL_CTL_ADD, fds[i], &event), 0);
	}
}

static void post_slots(struct player *player)
{
	for (size_t i = 0; i < SLOTS; i++)
		post_recv(player->end, &player->receives[i], &player->area, i * SLOT_LEN, SLOT_LEN);
}

static void player_close(struct player *player)
{
	close(player->epoll_fd);
	area_close(&player->area);
}

/* Sleeps until something has happened on the side. Who sleeps for long has lost a wake-up when something is there
 * all the same: on a busy machine there may be nothing yet. */
static void sleep_and_poll(struct player *player)
{
	struct epoll_event events[2];
	if (side_poll(player->side))
		player->until_ns = kvi_deadline_after(BED_PATIENCE_NS);
	else if (kvi_cq_may_sleep(player->side->cq) &&
		 epoll_wait(player->epoll_fd, events, 2, SLEEP_MS) == 0 &&
		 (side_poll(player->side) || kvi_clock_now() >= player->until_ns))
		player->lost_wakes++;
}

static void *play(void *arg)
{
	struct player *player = arg;
	for (unsigned round = 0; round < player->rounds && player->lost_wakes == 0; round++) {
		struct act *receive = &player->receives[round % SLOTS];
		for (unsigned turn = 0; turn < 2; turn++) {
			if ((turn == 0) == player->serves) {
				while (player->send.reports == 0 && player->lost_wakes == 0)
					sleep_and_poll(player);
				post_send(player->end, &player->send, &player->area,
					  SLOTS * SLOT_LEN, 1 + round % SLOT_LEN);
			} else {
				while (receive->reports == 0 && player->lost_wakes == 0)
					sleep_and_poll(player);
			}
		}
		if (player->lost_wakes > 0)
			break;
		ck_assert_uint_eq(receive->completion.len, 1 + round % SLOT_LEN);
		post_recv(player->end, receive, &player->area, round % SLOTS * SLOT_LEN, SLOT_LEN);
	}
	while (player->send.reports == 0 && player->lost_wakes == 0)
		sleep_and_poll(player);
	return NULL;
}

START_TEST(a_ping_pong_that_sleeps_loses_no_wake_up)
{
	struct bed bed;
	struct end near, far;
	struct player players[2];
	pthread_t threads[2];
	bed_open(&bed);
	bed_connect(&bed, &near, &far);
	player_open(&players[0], &bed.near, &near);
	player_open(&players[1], &bed.far, &far);
	players[0].serves = true;
	post_slots(&players[0]);
	post_slots(&players[1]);
	for (size_t i = 0; i < 2; i++) {
		players[i].rounds = 2000;
		ck_assert_int_eq(pthread_create(&threads[i], NULL, play, &players[i]), 0);
	}
	for (size_t i = 0; i < 2; i++) {
		pthread_join(threads[i], NULL);
		ck_assert_msg(players[i].lost_wakes == 0, "side %zu slept over its turn", i);
	}
	end_close(&near);
	end_close(&far);
	bed_run(&bed, 10 * KVI_MS);
	player_close(&players[0]);
	player_close(&players[1]);
	bed_close(&bed);
}
END_TEST

/* Sleeps until the lane has connected, then until it is lost. */
static void *await_events(void *arg)
{
	struct player *player = arg;
	while (player->end->connected_count == 0 && player->lost_wakes == 0)
		sleep_and_poll(player);
	atomic_store(&player->is_connected, true);
	while (player->end->lost_count == 0 && player->lost_wakes == 0)
		sleep_and_poll(player);
	atomic_store(&player->is_done, true);
	return NULL;
}

/* Long enough for the sleeper to sleep, and until it has seen what it waits for. */
static void poll_near_until(struct bed *bed, const atomic_bool *is_seen)
{
	int64_t deadline = kvi_deadline_after(200 * KVI_MS);
	while (!atomic_load(is_seen) || kvi_clock_now() < deadline)
		side_poll(&bed->near);
}

START_TEST(a_sleeper_wakes_up_when_its_lane_connects_and_when_it_is_lost)
{
	struct bed bed;
	struct end near, far;
	struct player player;
	pthread_t thread;
	bool has_receives = _i == 1;
	bed_open(&bed);
	end_request(&near, &bed, "hello", 5);
	end_accept(&far, &bed, bed_take_request(&bed));
	player_open(&player, &bed.far, &far);
	if (has_receives)
		post_slots(&player);
	ck_assert_int_eq(pthread_create(&thread, NULL, await_events, &player), 0);
	poll_near_until(&bed, &player.is_connected);
	end_close(&near);
	poll_near_until(&bed, &player.is_done);
	pthread_join(thread, NULL);
	ck_assert_msg(player.lost_wakes == 0,
		      "the sleeper connected %u times and was lost %u times", far.connected_count,
		      far.lost_count);
	end_close(&far);
	if (has_receives)
		bed_wait(&bed, count_reported(player.receives, SLOTS) == SLOTS);
	player_close(&player);
	bed_close(&bed);
}
END_TEST

START_TEST(a_cq_with_idle_lanes_lets_its_thread_sleep)
{
	struct bed bed;
	struct end near, far;
	struct player player;
	bed_open(&bed);
	bed_connect(&bed, &near, &far);
	player_open(&player, &bed.near, &near);
	post_slots(&player);
	bed_run(&bed, 20 * KVI_MS);
	unsigned turns = 0;
	int64_t deadline = kvi_deadline_after(200 * KVI_MS);
	while (kvi_clock_now() < deadline) {
		struct epoll_event events[2];
		side_poll(&bed.near);
		if (kvi_cq_may_sleep(bed.near.cq))
			epoll_wait(player.epoll_fd, events, 2, 50);
		turns++;
	}
	ck_assert_msg(turns < 50, "%u turns in 200 ms of nothing", turns);
	end_close(&near);
	end_close(&far);
	bed_wait(&bed, count_reported(player.receives, SLOTS) == SLOTS);
	player_close(&player);
	bed_close(&bed);
}
END_TEST

/* Whoever may sleep on the near side's descriptors does. */
static void fall_asleep(struct player *player)
{
	int64_t deadline = kvi_deadline_after(BED_PATIENCE_NS);
	while (side_poll(player->side) || !kvi_cq_may_sleep(player->side->cq))
		ck_assert_int_lt(kvi_clock_now(), deadline);
}

/* The sleeper is woken, and finds what it was woken for. */
static void expect_wake(struct player *player, struct side *other, const struct act *act)
{
	int64_t late = kvi_deadline_after(SLEEP_MS * KVI_MS);
	int64_t deadline = kvi_deadline_after(BED_PATIENCE_NS);
	while (act->reports == 0) {
		struct epoll_event events[2];
		side_poll(other);
		bool is_awake = epoll_wait(player->epoll_fd, events, 2, 1) > 0;
		if (!is_awake && kvi_clock_now() < late)
			continue;
		ck_assert_msg(!side_poll(player->side) || is_awake, "the sleeper slept on");
		ck_assert_msg(kvi_clock_now() < deadline, "nothing comes");
	}
	ck_assert_int_eq(act->completion.err, KVT_OK);
}

START_TEST(a_sleeper_wakes_up_for_what_another_thread_has_posted_meanwhile)
{
	enum { WRITE, READ, SEND, KINDS };
	struct bed bed;
	struct end near, far;
	struct player player;
	struct area remote;
	struct act receive, act;
	bed_open(&bed);
	bed_connect(&bed, &near, &far);
	player_open(&player, &bed.near, &near);
	area_open(&remote, &bed.far, 2 * SLOT_LEN, KVI_ACCESS_REMOTE_READ | KVI_ACCESS_REMOTE_WRITE,
		  0);
	for (int i = 0; i < 20 * KINDS; i++) {
		post_recv(&far, &receive, &remote, SLOT_LEN, SLOT_LEN);
		bed_run(&bed, KVI_MS);
		fall_asleep(&player);
		if (i % KINDS == SEND)
			post_send(&near, &act, &player.area, 0, SLOT_LEN);
		else if (i % KINDS == WRITE)
			post_write(&near, &act, &player.area, 0, SLOT_LEN, remote.rkey);
		else
			post_read(&near, &act, &player.area, 0, SLOT_LEN, remote.rkey);
		if (i % 2 == 0) /* it is done before the sleeper can look */
			for (unsigned polls = 0; polls < 100; polls++)
				side_poll(&bed.far);
		expect_wake(&player, &bed.far, &act);
		if (i % KINDS != SEND)
			post_send(&near, &act, &player.area, 0, SLOT_LEN);
		bed_wait(&bed, receive.reports == 1 && act.reports == 1);
	}
	end_close(&near);
	end_close(&far);
	bed_run(&bed, KVI_MS);
	area_close(&remote);
	player_close(&player);
	bed_close(&bed);
}
END_TEST

START_TEST(a_sleeper_wakes_up_after_another_thread_has_polled_and_left)
{
	struct bed bed;
	struct end near, far;
	struct player player;
	struct area remote;
	struct act acts[2];
	bed_open(&bed);
	bed_connect(&bed, &near, &far);
	player_open(&player, &bed.near, &near);
	area_open(&remote, &bed.far, SLOT_LEN, KVI_ACCESS_LOCAL, 0);
	for (unsigned i = 0; i < 20; i++) {
		for (unsigned j = 0; j < 2; j++)
			post_recv(&near, &player.receives[j], &player.area, j * SLOT_LEN, SLOT_LEN);
		fall_asleep(&player);
		post_send(&far, &acts[0], &remote, 0, SLOT_LEN);
		bed_wait(&bed, player.receives[0].reports == 1 && acts[0].reports == 1);
		if (bed.near.caps->poll_disarms)
			fall_asleep(&player);
		post_send(&far, &acts[1], &remote, 0, SLOT_LEN);
		expect_wake(&player, &bed.far, &player.receives[1]);
		bed_wait(&bed, acts[1].reports == 1);
	}
	end_close(&near);
	end_close(&far);
	bed_run(&bed, KVI_MS);
	area_close(&remote);
	player_close(&player);
	bed_close(&bed);
}
END_TEST

TCase *make_sleep_tests(void)
{
	TCase *tests = tcase_create("sleep");
	tcase_add_test(tests, a_ping_pong_that_sleeps_loses_no_wake_up);
	tcase_add_loop_test(tests, a_sleeper_wakes_up_when_its_lane_connects_and_when_it_is_lost, 0,
			    2);
	tcase_add_test(tests, a_sleeper_wakes_up_for_what_another_thread_has_posted_meanwhile);
	tcase_add_test(tests, a_sleeper_wakes_up_after_another_thread_has_polled_and_left);
	tcase_add_test(tests, a_cq_with_idle_lanes_lets_its_thread_sleep);
	return tests;
}
