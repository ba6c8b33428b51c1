/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_stop.c - an engine is stopped while threads wait in it. One that waits takes part in the work, and
 * may take the wake that was for the worker's own thread.
 */
#include "bed.h"

#include <pthread.h>
#include <stdatomic.h>

#include "engine/tagged/kv.h"
#include "support/runner.h"

enum { STOPS = 1000, THREADS = 4 };

static struct bed bed;

/* Short waits, one after the other, until the engine is stopped. */
static void *wait_again_and_again(void *arg)
{
	struct kvt_result result = KVT_RESULT_INIT;
	do {
		struct kvt_transfer *receive = start_recv_within(arg, NULL, SIZE_MAX, KVI_MS);
		kvt_transfer_wait(receive, KVT_FOREVER);
		kvt_transfer_get_result(receive, &result);
		kvt_transfer_free(receive);
	} while (result.err == KVT_E_TIMEOUT);
	return NULL;
}

START_TEST(an_engine_that_threads_wait_in_stops_every_time)
{
	for (unsigned round = 0; round < STOPS; round++) {
		pthread_t threads[THREADS];
		bed_open(&bed, NULL);
		struct kvt_kv *kv = open_kv(bed.near.conn, 5);
		for (unsigned i = 0; i < THREADS; i++)
			pthread_create(&threads[i], NULL, wait_again_and_again, kv);
		rest(round % 8 * KVI_MS / 4);
		kvt_engine_stop(bed.near.engine);
		for (unsigned i = 0; i < THREADS; i++)
			pthread_join(threads[i], NULL);
		kvt_kv_close(kv);
		bed_close(&bed);
	}
}
END_TEST

static atomic_bool is_closing;

/* Every look of a wait is interrupted, so it looks again and again. */
static int interrupt_always(void *arg)
{
	(void)arg;
	return atomic_load(&is_closing);
}

static void *close_kv(void *kv)
{
	kvt_kv_close(kv);
	return NULL;
}

/* It waits for a write that is held, which the stop takes back. */
START_TEST(a_kv_closes_while_its_engine_is_stopped)
{
	static uint8_t source[LARGE_LEN], target[LARGE_LEN];
	struct kvt_engine_config config = make_config();
	config.interrupted = interrupt_always;
	for (unsigned round = 0; round < 20; round++) {
		pthread_t thread;
		memset(source, 1, sizeof(source));
		memset(target, 0, sizeof(target));
		bed_open(&bed, &config);
		struct kvt_kv *from = open_kv(bed.near.conn, 5), *to = open_kv(bed.far.conn, 5);
		struct kvt_transfer *receive = start_recv(to, target, LARGE_LEN);
		fake_hold(FAKE_WRITE);
		struct kvt_transfer *send = start_send(from, source, LARGE_LEN);
		release_until(target, SMALL_SEGMENT_LEN, 0);
		atomic_store(&is_closing, true);
		pthread_create(&thread, NULL, close_kv, from);
		rest(round % 8 * KVI_MS / 4);
		kvt_engine_stop(bed.near.engine);
		pthread_join(thread, NULL);
		fake_hold(0);
		atomic_store(&is_closing, false);
		kvt_transfer_free(send);
		kvt_transfer_free(receive);
		kvt_kv_close(to);
		bed_close(&bed);
	}
}
END_TEST

/* ---- afterwards ---- */

struct start {
	struct kvt_kv *kv;
	struct kvt_transfer *receive;
};

static void *start_one(void *arg)
{
	struct start *start = arg;
	start->receive = start_recv(start->kv, NULL, SIZE_MAX);
	return NULL;
}

/* The worker's thread has gone, and whoever else has its lock does not look what has come meanwhile. */
START_TEST(a_receive_that_is_started_in_a_stopped_engine_ends_beside_another_thread)
{
	pthread_t thread;
	bed_open(&bed, NULL);
	struct start start = { .kv = open_kv(bed.near.conn, 5) };
	struct kvi_worker *worker = start.kv->worker;
	kvt_engine_stop(bed.near.engine);
	kvi_worker_lock(worker);
	pthread_create(&thread, NULL, start_one, &start);
	rest(20 * KVI_MS);
	kvi_worker_unlock(worker);
	pthread_join(thread, NULL);
	wait_until(kvt_transfer_is_done(start.receive));
	finish(start.receive, KVT_E_CLOSED);
	kvt_kv_close(start.kv);
	bed_close(&bed);
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("stop");
	tcase_set_timeout(tests, 300);
	tcase_add_test(tests, an_engine_that_threads_wait_in_stops_every_time);
	tcase_add_test(tests, a_kv_closes_while_its_engine_is_stopped);
	tcase_add_test(tests,
		       a_receive_that_is_started_in_a_stopped_engine_ends_beside_another_thread);
	return run_tests("engine_stop", tests);
}
