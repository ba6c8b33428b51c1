/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_patience.c - who waits looks for work before it sleeps: after quick traffic it sleeps all the same, no
 * wake-up is lost on the way, and who is busy looking can be interrupted.
 */
#include "bed.h"

#include <pthread.h>
#include <stdatomic.h>

enum { TURNS = 2000, THREADS = 3, ROUNDS = 1000, LEN = 64, LATE_MAX = ROUNDS / 10 };

static void must_sleep(int64_t since_ns, const char *who)
{
	int64_t cpu_ns = get_cpu_ns() - since_ns;
	must(is_slow() || cpu_ns < SECOND / 10, "%s took %.3f s of CPU time in half a second", who,
	     (double)cpu_ns / SECOND);
}

static void take_turns(struct kvt_kv *kv, bool is_first, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		if (is_first)
			send_pattern(kv, LEN, i);
		recv_pattern(kv, LEN, i);
		if (!is_first)
			send_pattern(kv, LEN, i);
	}
}

static void play_turns(struct peer *test, const void *arg)
{
	struct side side;
	(void)arg;
	side_serve(&side, test, NULL);
	take_turns(side.kv, false, (unsigned)get_share(TURNS));
	int64_t cpu_ns = get_cpu_ns();
	peer_tell(test, 0);
	peer_hear(test);
	must_sleep(cpu_ns, "who only listens");
	send_pattern(side.kv, LEN, 0);
	peer_hear(test);
	side_close(&side);
}

START_TEST(after_quick_traffic_all_sleep_who_wait_and_who_do_not)
{
	struct stage stage;
	uint8_t bytes[LEN];
	stage_open(&stage, play_turns, NULL, NULL);
	take_turns(stage.side.kv, true, (unsigned)get_share(TURNS));
	peer_hear(&stage.peer);
	struct kvt_transfer *receive = start_recv(stage.side.kv, bytes, LEN);
	int64_t cpu_ns = get_cpu_ns();
	must(wait_for(receive, SECOND / 2) == KVT_E_AGAIN, "nothing was sent");
	must_sleep(cpu_ns, "who waits");
	peer_tell(&stage.peer, 0);
	finish(receive, KVT_OK);
	peer_tell(&stage.peer, 0);
	peer_finish(&stage.peer);
	stage_close(&stage);
}
END_TEST

/* ---- from looking to sleeping ---- */

struct player {
	struct kvt_conn *conn;
	unsigned index;
	bool is_first;
	unsigned late;
};

/* Rests of every length around the one at which who looks goes to sleep. */
static void *run_player(void *arg)
{
	struct player *player = arg;
	struct kvt_kv *kv = open_kv(player->conn, 100 + player->index);
	for (unsigned i = 0; i < get_share(ROUNDS); i++) {
		rest((int64_t)((i * 7 + player->index) % 40) * 10 * 1000);
		int64_t since_ns = get_time_ns();
		take_turns(kv, player->is_first, 1);
		if (get_time_ns() - since_ns > 200 * MS)
			player->late++;
	}
	kvt_kv_close(kv);
	return NULL;
}

static void run_players(struct side *side, bool is_first)
{
	struct player players[THREADS];
	pthread_t threads[THREADS];
	for (unsigned i = 0; i < THREADS; i++) {
		players[i] = (struct player){ side->conn, i, is_first, 0 };
		must(pthread_create(&threads[i], NULL, run_player, &players[i]) == 0, "no thread");
	}
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		/* What is lost is found when the longest sleep is over. */
		must(players[i].late <= LATE_MAX, "%u turns took as long as a sleep",
		     players[i].late);
	}
}

static void play_players(struct peer *test, const void *arg)
{
	struct side side;
	(void)arg;
	side_serve(&side, test, NULL);
	run_players(&side, false);
	peer_tell(test, 0);
	peer_hear(test);
	side_close(&side);
}

START_TEST(no_wake_up_is_lost_between_looking_and_sleeping)
{
	struct stage stage;
	stage_open(&stage, play_players, NULL, NULL);
	run_players(&stage.side, true);
	peer_hear(&stage.peer);
	peer_tell(&stage.peer, 0);
	peer_finish(&stage.peer);
	stage_close(&stage);
}
END_TEST

/* ---- nobody waits ---- */

enum { UNAWAITED = 20, UNAWAITED_LEN = 256 * KIB };

static void play_taker(struct peer *test, const void *arg)
{
	struct side side;
	(void)arg;
	side_serve(&side, test, NULL);
	for (unsigned i = 0; i < UNAWAITED; i++)
		recv_pattern(side.kv, UNAWAITED_LEN, i);
	peer_hear(test);
	side_close(&side);
}

/* The worker's thread sleeps when it is started, and nobody drives in its place. */
START_TEST(a_transfer_that_nobody_waits_for_ends_as_soon_as_its_bytes_are_there)
{
	static uint8_t bytes[UNAWAITED_LEN];
	struct stage stage;
	unsigned late = 0;
	stage_open(&stage, play_taker, NULL, NULL);
	for (unsigned i = 0; i < UNAWAITED; i++) {
		fill_pattern(bytes, UNAWAITED_LEN, i);
		rest(20 * MS);
		int64_t since_ns = get_time_ns();
		struct kvt_transfer *send = start_send(stage.side.kv, bytes, UNAWAITED_LEN);
		while (!kvt_transfer_is_done(send) && is_within(since_ns, PATIENCE_NS))
			rest(MS / 10);
		late += get_time_ns() - since_ns > 100 * MS;
		finish(send, KVT_OK);
	}
	/* What is lost is found when the longest sleep is over: most of them were. */
	must(late <= UNAWAITED / 4, "%u of %d transfers took as long as a sleep", late, UNAWAITED);
	peer_tell(&stage.peer, 0);
	peer_finish(&stage.peer);
	stage_close(&stage);
}
END_TEST

/* ---- interrupts ---- */

static _Thread_local bool is_interrupted;
static atomic_bool enough;

static int ask_interrupted(void *arg)
{
	(void)arg;
	return is_interrupted;
}

/* Send back every byte that comes, up to a 0. */
static void play_echo(struct peer *test, const void *arg)
{
	struct side side;
	uint8_t byte;
	(void)arg;
	side_serve(&side, test, NULL);
	do {
		finish(start_recv(side.kv, &byte, 1), KVT_OK);
		finish(start_send(side.kv, &byte, 1), KVT_OK);
	} while (byte != 0);
	peer_hear(test);
	side_close(&side);
}

static void *talk(void *arg)
{
	struct kvt_kv *kv = arg;
	uint8_t byte, echo;
	do {
		byte = !atomic_load(&enough);
		finish(start_send(kv, &byte, 1), KVT_OK);
		finish(start_recv(kv, &echo, 1), KVT_OK);
	} while (byte != 0);
	return NULL;
}

START_TEST(who_looks_all_the_time_can_be_interrupted)
{
	struct kvt_engine_config config = make_config();
	struct stage stage;
	pthread_t talker;
	uint8_t byte;
	config.interrupted = ask_interrupted;
	config.spin_ns = _i == 0 ? 0 : SECOND;
	stage_open(&stage, play_echo, NULL, &config);
	struct kvt_kv *silent = open_kv(stage.side.conn, TAG + 1);
	struct kvt_transfer *receive = start_recv(silent, &byte, 1);
	must(pthread_create(&talker, NULL, talk, stage.side.kv) == 0, "no thread");
	is_interrupted = true;
	for (unsigned i = 0; i < 5; i++)
		must(kvt_transfer_wait(receive, PATIENCE_NS) == KVT_E_AGAIN, "a byte came");
	is_interrupted = false;
	atomic_store(&enough, true);
	pthread_join(talker, NULL);
	kvt_transfer_free(receive);
	kvt_kv_close(silent);
	peer_tell(&stage.peer, 0);
	peer_finish(&stage.peer);
	stage_close(&stage);
}
END_TEST

static void play_silence(struct peer *test, const void *arg)
{
	struct side side;
	(void)arg;
	side_serve(&side, test, NULL);
	peer_hear(test);
	side_close(&side);
}

START_TEST(who_looks_for_long_keeps_a_deadline)
{
	struct kvt_engine_config config = make_config();
	struct stage stage;
	uint8_t byte;
	config.spin_ns = 10 * SECOND;
	stage_open(&stage, play_silence, NULL, &config);
	struct kvt_transfer *receive = start_recv(stage.side.kv, &byte, 1);
	int64_t since_ns = get_time_ns();
	must(wait_for(receive, SECOND / 10) == KVT_E_AGAIN, "a byte came");
	must(is_within(since_ns, SECOND), "it looked on");
	kvt_transfer_cancel(receive);
	finish(receive, KVT_E_CANCELLED);
	peer_tell(&stage.peer, 0);
	peer_finish(&stage.peer);
	stage_close(&stage);
}
END_TEST

TCase *make_patience_tests(void)
{
	TCase *tests = tcase_create("patience");
	tcase_add_test(tests, after_quick_traffic_all_sleep_who_wait_and_who_do_not);
	tcase_add_test(tests, no_wake_up_is_lost_between_looking_and_sleeping);
	tcase_add_test(tests, a_transfer_that_nobody_waits_for_ends_as_soon_as_its_bytes_are_there);
	tcase_add_loop_test(tests, who_looks_all_the_time_can_be_interrupted, 0, 2);
	tcase_add_test(tests, who_looks_for_long_keeps_a_deadline);
	return tests;
}
