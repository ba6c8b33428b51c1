/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_detach.c - transfers whose handle is given back in flight: they go on, nobody is told, and whoever
 * stops what they use waits for them.
 */
#include "pages.h"

#include <pthread.h>
#include <stdlib.h>

#include "support/runner.h"

static unsigned count_transfers(void)
{
	return (unsigned)get_stats(pages.bed.near.engine).transfers;
}

static struct kvt_transfer *start_reaped(void)
{
	struct kvt_notify_request request = KVT_NOTIFY_REQUEST_INIT;
	struct kvt_transfer *transfer;
	request.conn = pages.bed.near.conn;
	request.notify = "reaped";
	request.notify_len = 6;
	request.reap = true;
	ck_assert_int_eq(kvt_notify_start(&request, &transfer, NULL), KVT_OK);
	return transfer;
}

static struct kvt_transfer *start_held(const char *notify)
{
	fill_pages(KVT_WRITE, 5);
	fake_hold(FAKE_WRITE);
	return start_blocks(KVT_WRITE, 5, notify, 0);
}

static void *release_soon(void *arg)
{
	rest(50 * KVI_MS);
	fake_hold(0);
	return arg;
}

START_TEST(a_detached_transfer_goes_on)
{
	pages_open((unsigned)_i);
	kvt_transfer_detach(start_held("told"));
	rest(10 * KVI_MS);
	ck_assert_uint_eq(count_transfers(), 1);
	fake_hold(0);
	expect_notification(pages.bed.far.engine, "told", KVT_OK);
	ck_assert(are_moved(KVT_WRITE, 5));
	wait_until(count_transfers() == 0);
	pages_close(); /* which looks that no memory is left */
}
END_TEST

START_TEST(letting_go_of_a_cancelled_transfer_does_not_wait)
{
	pages_open((unsigned)_i);
	uint64_t segments = get_stats(pages.bed.near.engine).segments;
	struct kvt_transfer *transfer = start_held("told");
	wait_until(get_stats(pages.bed.near.engine).segments > segments); /* else it ends at once */
	int64_t started_ns = kvi_clock_now();
	kvt_transfer_cancel(transfer);
	kvt_transfer_detach(transfer);
	expect_took(started_ns, 0, 20 * KVI_MS);
	ck_assert_uint_eq(count_transfers(), 1);
	fake_hold(0);
	expect_notification(pages.bed.far.engine, "told", KVT_E_CANCELLED);
	wait_until(count_transfers() == 0);
	pages_close();
}
END_TEST

START_TEST(stopping_a_pool_waits_for_its_detached_transfers)
{
	pthread_t thread;
	pages_open((unsigned)_i);
	kvt_transfer_detach(start_held(NULL));
	pthread_create(&thread, NULL, release_soon, NULL);
	kvt_pool_stop(pages.near);
	ck_assert_uint_eq(count_transfers(), 0);
	memset(pages.near_memory, 0, PAGES_LEN);
	pthread_join(thread, NULL);
	rest(20 * KVI_MS);
	/* Neither a pattern nor the canary has a 0. */
	ck_assert_ptr_null(memchr(pages.far_memory, 0, PAGES_LEN));
	pages_close();
}
END_TEST

START_TEST(closing_a_kv_waits_for_its_detached_transfers)
{
	uint8_t *source = make_pattern(LARGE_LEN, 1), *target = make_filled(LARGE_LEN, 0);
	pthread_t thread;
	pages_open(0);
	struct kvt_kv *near = open_kv(pages.bed.near.conn, 5),
		      *far = open_kv(pages.bed.far.conn, 5);
	fake_hold(FAKE_WRITE);
	kvt_transfer_detach(start_recv(far, target, LARGE_LEN));
	kvt_transfer_detach(start_send(near, source, LARGE_LEN));
	rest(20 * KVI_MS);
	pthread_create(&thread, NULL, release_soon, NULL);
	kvt_kv_close(far);
	kvt_kv_close(near);
	memset(source, 0, LARGE_LEN);
	memset(target, CANARY, LARGE_LEN);
	pthread_join(thread, NULL);
	rest(20 * KVI_MS);
	ck_assert(holds_only(target, LARGE_LEN, CANARY));
	free(source);
	free(target);
	pages_close();
}
END_TEST

START_TEST(what_is_received_for_nobody_is_freed)
{
	pages_open(0);
	struct kvt_kv *near = open_kv(pages.bed.near.conn, 5),
		      *far = open_kv(pages.bed.far.conn, 5);
	kvt_transfer_detach(start_recv(far, NULL, SIZE_MAX));
	finish(start_send(near, "x", 1), KVT_OK);
	wait_until(get_stats(pages.bed.far.engine).transfers == 0);
	kvt_kv_close(near);
	kvt_kv_close(far);
	pages_close();
}
END_TEST

START_TEST(a_detached_transfer_is_not_reaped)
{
	struct kvt_transfer *reaped[4];
	pages_open(0);
	struct kvt_transfer *early = start_reaped(), *kept = start_reaped();
	await(early, KVT_OK);
	await(kept, KVT_OK);
	kvt_transfer_detach(early);
	fake_hold(FAKE_SEND);
	kvt_transfer_detach(start_reaped());
	ck_assert_uint_eq(kvt_engine_reap(pages.bed.near.engine, reaped, 4), 1);
	ck_assert_ptr_eq(reaped[0], kept);
	fake_hold(0);
	wait_until(count_transfers() == 0);
	ck_assert_int_eq(kvt_engine_wait(pages.bed.near.engine, 20 * KVI_MS), KVT_E_AGAIN);
	ck_assert_uint_eq(kvt_engine_reap(pages.bed.near.engine, reaped, 4), 0);
	kvt_transfer_free(kept);
	kvt_transfer_detach(NULL);
	pages_close();
}
END_TEST

START_TEST(detached_transfers_end_with_their_connection)
{
	pages_open((unsigned)_i);
	kvt_transfer_detach(start_held("told"));
	fake_kill_lanes(NULL);
	fake_hold(0);
	wait_until(count_transfers() == 0);
	ck_assert_uint_ge(get_stats(pages.bed.near.engine).failures, 1);
	expect_conn_ended(pages.bed.near.engine, pages.bed.near.conn, KVT_E_PEER_LOST);
	pages_close();
}
END_TEST

START_TEST(detached_transfers_end_with_their_engine)
{
	pages_open((unsigned)_i);
	kvt_transfer_detach(start_held("told"));
	kvt_transfer_detach(start_blocks(KVT_WRITE, 5, NULL, 0)); /* of the same pages */
	kvt_engine_stop(pages.bed.near.engine);
	memset(pages.near_memory, 0, PAGES_LEN);
	fake_hold(0);
	rest(20 * KVI_MS);
	ck_assert_ptr_null(memchr(pages.far_memory, 0, PAGES_LEN));
	pages_close();
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("detach");
	tcase_set_timeout(tests, 120);
	tcase_add_loop_test(tests, a_detached_transfer_goes_on, 0, MAIN_WAYS);
	tcase_add_loop_test(tests, letting_go_of_a_cancelled_transfer_does_not_wait, 0, 2);
	tcase_add_loop_test(tests, stopping_a_pool_waits_for_its_detached_transfers, 0, 2);
	tcase_add_test(tests, closing_a_kv_waits_for_its_detached_transfers);
	tcase_add_test(tests, what_is_received_for_nobody_is_freed);
	tcase_add_test(tests, a_detached_transfer_is_not_reaped);
	tcase_add_loop_test(tests, detached_transfers_end_with_their_connection, 0, 2);
	tcase_add_loop_test(tests, detached_transfers_end_with_their_engine, 0, 2);
	return run_tests("engine_detach", tests);
}
