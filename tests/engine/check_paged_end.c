/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_paged_end.c - paged transfers that do not come to their end: given up, their pool closed, their
 * export withdrawn, their connection lost. Whatever has ended is overwritten at once, which must stay.
 */
#include "pages.h"

#include <pthread.h>
#include <stdlib.h>

#include "engine/core/engine.h"
#include "engine/paged/pool.h"
#include "engine/paged/exports.h"
#include "support/runner.h"

enum { BY_DEADLINE = MAIN_WAYS, READS = 2 * MAIN_WAYS, END_WAYS = 4 * MAIN_WAYS };

static enum kvt_direction get_direction(int way)
{
	return way & READS ? KVT_READ : KVT_WRITE;
}

static unsigned get_way(int i)
{
	return (unsigned)i & (COMMON | (MAIN_WAYS - 1));
}

static void hold_all(void)
{
	fake_hold(FAKE_WRITE | FAKE_READ);
}

/* A transfer with a notification, held when something of it has moved, and more is out. An engine that looks sees
 * a slow link, not a stopped one, however long the test takes. */
static struct kvt_transfer *start_held(enum kvt_direction direction)
{
	fill_pages(direction, 5);
	hold_all();
	uint64_t segments = get_stats(pages.bed.near.engine).segments;
	uint64_t placed = fake_get_counts().placed;
	struct kvt_transfer *transfer = start_blocks(direction, 5, "told", 0);
	/* The fake's lanes hold FEW_POSTS spans, and a segment here has up to four. */
	wait_until(get_stats(pages.bed.near.engine).segments >= segments + FEW_POSTS / 4);
	wait_until(fake_release(1) > 0 && fake_get_counts().placed > placed);
	fake_trickle(true);
	return transfer;
}

static struct kvt_transfer *start_stopped(enum kvt_direction direction)
{
	struct kvt_transfer *transfer = start_held(direction);
	fake_trickle(false);
	return transfer;
}

static void expect_transfers_work(void)
{
	for (int direction = KVT_WRITE; direction <= KVT_READ; direction++) {
		fill_pages((enum kvt_direction)direction, 11);
		finish(start_blocks((enum kvt_direction)direction, 11, "works", 0), KVT_OK);
		ck_assert(are_moved((enum kvt_direction)direction, 11));
		expect_notification(pages.bed.far.engine, "works", KVT_OK);
	}
}

/* The near side's transfers have ended: its memory is its own. */
static void expect_near_left_alone(void)
{
	memset(pages.near_memory, 0, PAGES_LEN);
	fake_hold(0);
	rest(20 * KVI_MS);
	kvi_engine_meet_workers(pages.bed.far.engine); /* they may be unpacking still */
	ck_assert_msg(holds_only(pages.near_memory, PAGES_LEN, 0), "written after the end");
	/* Neither a pattern nor the canary has a 0. */
	ck_assert_msg(memchr(pages.far_memory, 0, PAGES_LEN) == NULL, "read after the end");
}

static void expect_far_left_alone(void)
{
	memset(pages.far_memory, 0, PAGES_LEN);
	fake_hold(0);
	rest(20 * KVI_MS);
	ck_assert_msg(holds_only(pages.far_memory, PAGES_LEN, 0), "written after the withdrawal");
	ck_assert_msg(pages.near == NULL || memchr(pages.near_memory, 0, PAGES_LEN) == NULL, "read "
											     "after"
											     " the "
											     "withd"
											     "rawa"
											     "l");
}

/* ---- giving up ---- */

START_TEST(a_transfer_given_up_ends_when_what_is_out_has_ended)
{
	pages_open(get_way(_i));
	bool by_deadline = (_i & BY_DEADLINE) != 0;
	enum kvt_err err = by_deadline ? KVT_E_TIMEOUT : KVT_E_CANCELLED;
	struct kvt_transfer *transfer = start_held(get_direction(_i));
	if (by_deadline)
		expire(transfer);
	else
		kvt_transfer_cancel(transfer);
	expect_pending(transfer, 50 * KVI_MS);
	fake_hold(0);
	finish(transfer, err);
	expect_near_left_alone();
	expect_notification(pages.bed.far.engine, "told", err);
	expect_no_event(pages.bed.far.engine);
	expect_transfers_work();
	pages_close();
}
END_TEST

START_TEST(a_transfer_given_up_cuts_the_connection_when_what_is_out_does_not_end)
{
	pages_open(get_way(_i));
	struct kvt_transfer *transfer = start_stopped(get_direction(_i));
	int64_t started_ns = kvi_clock_now();
	kvt_transfer_cancel(transfer);
	finish(transfer, KVT_E_CANCELLED);
	expect_took(started_ns, 700 * KVI_MS, 2500 * KVI_MS);
	expect_near_left_alone();
	expect_conn_ended(pages.bed.far.engine, pages.bed.far.conn, KVT_E_PEER_LOST);
	expect_new_pages();
	pages_close();
}
END_TEST

START_TEST(freeing_a_transfer_cancels_it_first)
{
	pthread_t thread;
	pages_open(get_way(_i));
	struct kvt_transfer *transfer = start_held(get_direction(_i));
	pthread_create(&thread, NULL, let_go_soon, NULL);
	kvt_transfer_free(transfer);
	expect_near_left_alone();
	pthread_join(thread, NULL);
	expect_notification(pages.bed.far.engine, "told", KVT_E_CANCELLED);
	expect_transfers_work();
	pages_close();
}
END_TEST

START_TEST(cancels_at_any_moment_end_in_step_with_the_notification)
{
	enum { ROUNDS = 25 };
	unsigned cancelled = 0;
	pages_open(get_way(_i));
	enum kvt_direction direction = get_direction(_i);
	fake_set_chunk_len(16 * 1024);
	for (unsigned round = 0; round < ROUNDS; round++) {
		struct kvt_event *event;
		struct kvt_result result = KVT_RESULT_INIT;
		fake_reorder(round + 1);
		fill_pages(direction, round);
		fake_hold(FAKE_ALL);
		struct kvt_transfer *transfer = start_blocks(direction, round, "end", 0);
		for (unsigned i = 0; i < round * 5; i++)
			fake_release(5);
		kvt_transfer_cancel(transfer);
		fake_hold(0);
		await_end(transfer);
		kvt_transfer_get_result(transfer, &result);
		ck_assert(result.err == KVT_OK || result.err == KVT_E_CANCELLED);
		cancelled += result.err != KVT_OK;
		int64_t deadline_ns = kvi_deadline_after(BED_PATIENCE_NS);
		while (kvt_engine_get_event(pages.bed.far.engine, &event) != KVT_OK)
			ck_assert(kvi_clock_now() < deadline_ns);
		/* It may have been on its way when the transfer was cancelled; it never lies. */
		ck_assert(event->err == result.err || event->err == KVT_OK);
		if (event->err == KVT_OK)
			ck_assert(are_moved(direction, round));
		kvt_event_free(event);
		kvt_transfer_free(transfer);
		expect_near_left_alone();
		expect_no_event(pages.bed.far.engine);
	}
	ck_assert_uint_gt(cancelled, 0);
	expect_transfers_work();
	pages_close();
}
END_TEST

/* ---- closing the pool ---- */

static void *let_go_when_pool_closes(void *arg)
{
	struct kvt_pool *pool = arg;
	while (!atomic_load(&pool->closing))
		rest(KVI_MS);
	rest(10 * KVI_MS);
	fake_hold(0);
	return NULL;
}

START_TEST(closing_a_pool_ends_its_transfers_first)
{
	pthread_t thread;
	pages_open(get_way(_i));
	struct kvt_transfer *transfer = start_held(get_direction(_i));
	pthread_create(&thread, NULL, let_go_when_pool_closes, pages.near);
	kvt_pool_stop(pages.near);
	ck_assert(kvt_transfer_is_done(transfer));
	pthread_join(thread, NULL);
	expect_near_left_alone();
	finish(transfer, KVT_E_CLOSED);
	expect_notification(pages.bed.far.engine, "told", KVT_E_PEER_CLOSED);

	struct kvt_blocks_request request = KVT_BLOCKS_REQUEST_INIT;
	request.pool = pages.near;
	request.remote = pages.remote;
	request.index_len = 4;
	ck_assert_int_eq(kvt_blocks_start(&request, &transfer, NULL), KVT_E_CLOSED);
	kvt_pool_close(pages.near);
	pages.near = open_pool(pages.bed.near.engine, pages.near_memory);
	expect_transfers_work();
	pages_close();
}
END_TEST

START_TEST(closing_a_pool_cuts_the_connection_when_what_is_out_does_not_end)
{
	pages_open(get_way(_i));
	struct kvt_transfer *transfer = start_stopped(get_direction(_i));
	int64_t started_ns = kvi_clock_now();
	kvt_pool_close(pages.near);
	pages.near = NULL;
	expect_took(started_ns, 0, 2500 * KVI_MS);
	expect_near_left_alone();
	finish(transfer, KVT_E_CLOSED);
	expect_new_pages();
	pages_close();
}
END_TEST

START_TEST(closing_an_exported_pool_withdraws_it)
{
	pthread_t thread;
	struct kvt_remote_info info = KVT_REMOTE_INFO_INIT;
	pages_open(get_way(_i));
	struct kvt_transfer *transfer = start_held(get_direction(_i));
	pthread_create(&thread, NULL, let_go_when_pool_closes, pages.far);
	kvt_pool_close(pages.far);
	expect_far_left_alone();
	pthread_join(thread, NULL);
	finish(transfer, KVT_E_WITHDRAWN);
	ck_assert_int_eq(kvt_remote_get_info(pages.remote, &info), KVT_OK);
	ck_assert(info.withdrawn);
	expect_notification(pages.bed.far.engine, "told", KVT_E_WITHDRAWN);
	pages.far = NULL;
	pages_close();
}
END_TEST

/* ---- withdrawing ---- */

static void *close_export(void *arg)
{
	kvt_export_close(arg);
	return NULL;
}

static uint8_t descriptor[1024];
static size_t descriptor_len;

static void *let_go_when_withdrawn(void *arg)
{
	struct kvt_export *exported = arg;
	struct kvt_remote *remote;
	struct kvt_error error;
	while (atomic_load(&exported->state) == KVI_EXPORT_OPEN)
		rest(KVI_MS);
	/* Its owner waits for the peer, which could ask for it again meanwhile. */
	ck_assert_int_eq(kvt_remote_import(pages.bed.near.conn, descriptor, descriptor_len,
					   BED_PATIENCE_NS, &remote, &error),
			 KVT_E_WITHDRAWN);
	rest(10 * KVI_MS);
	fake_hold(0);
	return NULL;
}

START_TEST(withdrawing_ends_the_peers_transfers_first)
{
	pthread_t thread;
	struct kvt_blocks_request request = KVT_BLOCKS_REQUEST_INIT;
	pages_open(get_way(_i));
	struct kvt_transfer *transfer = start_held(get_direction(_i));
	kvi_ref_take(&pages.exported->ref);
	descriptor_len = sizeof(descriptor);
	ck_assert_int_eq(kvt_export_describe(pages.exported, descriptor, &descriptor_len), KVT_OK);
	pthread_create(&thread, NULL, let_go_when_withdrawn, pages.exported);
	kvt_export_close(pages.exported);
	expect_far_left_alone();
	pthread_join(thread, NULL);
	kvi_ref_drop(&pages.exported->ref);
	pages.exported = NULL;
	finish(transfer, KVT_E_WITHDRAWN);
	expect_notification(pages.bed.far.engine, "told", KVT_E_WITHDRAWN);
	request.pool = pages.near;
	request.remote = pages.remote;
	request.index_len = 4;
	ck_assert_int_eq(kvt_blocks_start(&request, &transfer, NULL), KVT_E_WITHDRAWN);

	kvt_remote_close(pages.remote);
	share_pages();
	expect_transfers_work();
	pages_close();
}
END_TEST

/* Whoever frees the memory next relies on that. */
START_TEST(a_pool_closes_behind_withdrawals_that_another_thread_has_begun)
{
	pthread_t closer, opener;
	pages_open(get_way(_i));
	struct kvt_transfer *transfer = start_held(get_direction(_i));
	struct kvt_export *exported = pages.exported;
	pages.exported = NULL;
	kvi_ref_take(&exported->ref);
	pthread_create(&closer, NULL, close_export, exported);
	wait_until(atomic_load(&exported->state) != KVI_EXPORT_OPEN);
	rest(5 * KVI_MS);
	pthread_create(&opener, NULL, let_go_soon, NULL);
	kvt_pool_stop(pages.far);
	ck_assert_int_eq(atomic_load(&exported->state), KVI_EXPORT_CLOSED);
	expect_far_left_alone();
	pthread_join(opener, NULL);
	pthread_join(closer, NULL);
	kvi_ref_drop(&exported->ref);
	finish(transfer, KVT_E_WITHDRAWN);
	pages_close();
}
END_TEST

START_TEST(withdrawing_cuts_the_connection_when_the_peer_does_not_stop)
{
	pages_open(get_way(_i));
	struct kvt_transfer *transfer = start_stopped(get_direction(_i));
	int64_t started_ns = kvi_clock_now();
	kvt_export_close(pages.exported);
	pages.exported = NULL;
	expect_took(started_ns, 700 * KVI_MS, 2500 * KVI_MS);
	expect_far_left_alone();
	finish(transfer, KVT_E_WITHDRAWN);
	ck_assert_int_eq(kvt_conn_get_status(pages.bed.far.conn, NULL), KVT_E_PEER_LOST);
	expect_new_pages();
	pages_close();
}
END_TEST

START_TEST(withdrawing_at_any_moment_leaves_whole_successes_and_nothing_later)
{
	enum { ROUNDS = 30 };
	pages_open(get_way(_i));
	enum kvt_direction direction = get_direction(_i);
	fake_set_chunk_len(64 * 1024);
	for (unsigned round = 0; round < ROUNDS; round++) {
		struct kvt_result result = KVT_RESULT_INIT;
		fake_reorder(round + 1);
		fill_pages(direction, round);
		struct kvt_transfer *transfer = start_blocks(direction, round, NULL, 0);
		rest((int64_t)round * KVI_MS / 25);
		kvt_export_close(pages.exported);
		await_end(transfer);
		kvt_transfer_get_result(transfer, &result);
		ck_assert(result.err == KVT_OK || result.err == KVT_E_WITHDRAWN);
		if (result.err == KVT_OK)
			ck_assert(are_moved(direction, round));
		kvt_transfer_free(transfer);
		memset(pages.far_memory, 0, PAGES_LEN);
		rest(KVI_MS);
		ck_assert(holds_only(pages.far_memory, PAGES_LEN, 0));
		kvt_remote_close(pages.remote);
		share_pages();
	}
	pages_close();
}
END_TEST

/* Between the decision to withdraw and the message that tells of it, what the peer had confirmed must
 * still have arrived. */
START_TEST(what_is_written_while_a_withdrawal_begins_is_there_or_fails)
{
	pages_open((unsigned)_i);
	fill_pages(KVT_WRITE, 4);
	atomic_store(&pages.exported->state, KVI_EXPORT_CLOSING);
	finish(start_blocks(KVT_WRITE, 4, NULL, 0), KVT_OK);
	ck_assert(are_moved(KVT_WRITE, 4));
	atomic_store(&pages.exported->state, KVI_EXPORT_OPEN);
	pages_close();
}
END_TEST

/* ---- ended before they have begun ---- */

/* Its worker is busy with something else between the call and the start. */
START_TEST(what_ends_a_transfer_before_it_begins_is_notified_as_well)
{
	pthread_t thread;
	bool is_withdrawn = _i >= MAIN_WAYS;
	pages_open(get_way(_i));
	struct kvt_engine *near = pages.bed.near.engine;
	for (unsigned i = 0; i < near->worker_count; i++)
		kvi_worker_lock(near->workers[i]);
	struct kvt_transfer *transfer = start_blocks(KVT_WRITE, 5, "told", 0);
	if (is_withdrawn) {
		pthread_create(&thread, NULL, close_export, pages.exported);
		/* As the worker of another lane does, which has the message. */
		atomic_store(&pages.remote->withdrawn, true);
		wait_until(atomic_load(&pages.exported->state) != KVI_EXPORT_OPEN);
	} else {
		pthread_create(&thread, NULL, stop_pool, pages.near);
		wait_until(atomic_load(&pages.near->closing));
	}
	for (unsigned i = 0; i < near->worker_count; i++)
		kvi_worker_unlock(near->workers[i]);
	finish(transfer, is_withdrawn ? KVT_E_WITHDRAWN : KVT_E_CLOSED);
	expect_notification(pages.bed.far.engine, "told",
			    is_withdrawn ? KVT_E_WITHDRAWN : KVT_E_PEER_CLOSED);
	expect_no_event(pages.bed.far.engine);
	pthread_join(thread, NULL);
	ck_assert_msg(holds_only(pages.far_memory, PAGES_LEN, CANARY), "something was written");
	if (is_withdrawn)
		pages.exported = NULL;
	pages_close();
}
END_TEST

/* ---- losing the connection ---- */

START_TEST(a_lost_connection_ends_transfers_and_notifies_of_no_success)
{
	pages_open(get_way(_i));
	struct kvt_transfer *transfer = start_held(get_direction(_i));
	fake_kill_lanes(NULL);
	finish(transfer, KVT_E_PEER_LOST);
	expect_near_left_alone();
	expect_conn_ended(pages.bed.near.engine, pages.bed.near.conn, KVT_E_PEER_LOST);
	expect_conn_ended(pages.bed.far.engine, pages.bed.far.conn, KVT_E_PEER_LOST);
	expect_no_event(pages.bed.far.engine);
	expect_new_pages();
	pages_close();
}
END_TEST

START_TEST(closing_the_connection_ends_transfers)
{
	pages_open(get_way(_i));
	struct kvt_transfer *transfer = start_held(get_direction(_i));
	fake_hold(0);
	kvt_conn_close(pages.bed.near.conn);
	pages.bed.near.conn = NULL;
	struct kvt_result result = KVT_RESULT_INIT;
	ck_assert(kvt_transfer_is_done(transfer));
	kvt_transfer_get_result(transfer, &result);
	ck_assert(result.err == KVT_OK || result.err == KVT_E_CLOSED);
	kvt_transfer_free(transfer);
	expect_near_left_alone();
	pages_close();
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("paged_end");
	tcase_set_timeout(tests, 120);
	tcase_add_loop_test(tests, a_transfer_given_up_ends_when_what_is_out_has_ended, 0,
			    END_WAYS);
	tcase_add_loop_test(
		tests, a_transfer_given_up_cuts_the_connection_when_what_is_out_does_not_end, 0, 2);
	tcase_add_loop_test(tests, freeing_a_transfer_cancels_it_first, 0, MAIN_WAYS);
	tcase_add_loop_test(tests, freeing_a_transfer_cancels_it_first, READS, READS + MAIN_WAYS);
	tcase_add_loop_test(tests, cancels_at_any_moment_end_in_step_with_the_notification, 0,
			    MAIN_WAYS);
	tcase_add_loop_test(tests, cancels_at_any_moment_end_in_step_with_the_notification,
			    COMMON + PACKS, COMMON + MAIN_WAYS);
	tcase_add_loop_test(tests, cancels_at_any_moment_end_in_step_with_the_notification,
			    COMMON + READS + PACKS, COMMON + READS + MAIN_WAYS);
	tcase_add_loop_test(tests, cancels_at_any_moment_end_in_step_with_the_notification, READS,
			    READS + MANY_LANES + 1);
	tcase_add_loop_test(tests, closing_a_pool_ends_its_transfers_first, 0, MAIN_WAYS);
	tcase_add_loop_test(tests, closing_a_pool_ends_its_transfers_first, COMMON + PACKS,
			    COMMON + MAIN_WAYS);
	tcase_add_loop_test(tests, closing_a_pool_ends_its_transfers_first, COMMON + READS + PACKS,
			    COMMON + READS + MAIN_WAYS);
	tcase_add_loop_test(tests, closing_a_pool_ends_its_transfers_first, READS,
			    READS + MANY_LANES + 1);
	tcase_add_loop_test(tests, closing_a_pool_cuts_the_connection_when_what_is_out_does_not_end,
			    0, 2);
	tcase_add_loop_test(tests, closing_an_exported_pool_withdraws_it, 0, MAIN_WAYS);
	tcase_add_loop_test(tests, withdrawing_ends_the_peers_transfers_first, 0, MAIN_WAYS);
	tcase_add_loop_test(tests, withdrawing_ends_the_peers_transfers_first, COMMON + PACKS,
			    COMMON + MAIN_WAYS);
	tcase_add_loop_test(tests, withdrawing_ends_the_peers_transfers_first,
			    COMMON + READS + PACKS, COMMON + READS + MAIN_WAYS);
	tcase_add_loop_test(tests, withdrawing_ends_the_peers_transfers_first, READS,
			    READS + MANY_LANES + 1);
	tcase_add_loop_test(tests, a_pool_closes_behind_withdrawals_that_another_thread_has_begun,
			    0, MAIN_WAYS);
	tcase_add_loop_test(tests, a_pool_closes_behind_withdrawals_that_another_thread_has_begun,
			    READS, READS + MANY_LANES + 1);
	tcase_add_loop_test(tests, withdrawing_cuts_the_connection_when_the_peer_does_not_stop,
			    PACKS, MAIN_WAYS);
	tcase_add_loop_test(tests,
			    withdrawing_at_any_moment_leaves_whole_successes_and_nothing_later, 0,
			    MAIN_WAYS);
	tcase_add_loop_test(tests,
			    withdrawing_at_any_moment_leaves_whole_successes_and_nothing_later,
			    READS, READS + MANY_LANES + 1);
	tcase_add_loop_test(tests,
			    withdrawing_at_any_moment_leaves_whole_successes_and_nothing_later,
			    COMMON + PACKS, COMMON + MAIN_WAYS);
	tcase_add_loop_test(tests,
			    withdrawing_at_any_moment_leaves_whole_successes_and_nothing_later,
			    COMMON + READS + PACKS, COMMON + READS + MAIN_WAYS);
	tcase_add_loop_test(tests, what_is_written_while_a_withdrawal_begins_is_there_or_fails, 0,
			    MAIN_WAYS);
	tcase_add_loop_test(tests, what_ends_a_transfer_before_it_begins_is_notified_as_well, 0,
			    2 * MAIN_WAYS);
	tcase_add_loop_test(tests, a_lost_connection_ends_transfers_and_notifies_of_no_success, 0,
			    MAIN_WAYS);
	tcase_add_loop_test(tests, closing_the_connection_ends_transfers, 0, MAIN_WAYS);
	return run_tests("engine_paged_end", tests);
}
