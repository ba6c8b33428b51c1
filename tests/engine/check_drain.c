/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_drain.c - giving up on a slow link (docs/protocol.md 6.4): as long as bytes move it is waited for
 * what was posted, longer than for a peer that has stopped, but not for ever.
 */
#include "pages.h"
#include "stage.h"

#include <pthread.h>

#include "engine/core/settings.h"
#include "support/runner.h"

enum { STEP_LEN = 16 }; /* however many lanes are looked at: far less than a segment in all */

/* From now on the link has moved a step whenever the engine looks. When `time_ns` has passed the transfer must
 * not have ended. */
static void trickle(struct kvt_transfer *transfer, int64_t time_ns)
{
	int64_t end_ns = kvi_deadline_after(time_ns);
	fake_trickle(true);
	while (kvi_clock_now() < end_ns) {
		rest(10 * KVI_MS);
		ck_assert(!kvt_transfer_is_done(transfer));
	}
}

/* ---- messages ---- */

static void open_slow(bool many_lanes)
{
	open_stage(many_lanes);
	start_stopped();
	fake_set_chunk_len(STEP_LEN);
}

/* The connection is there, and works. */
static void close_slow(void)
{
	ck_assert_int_eq(kvt_conn_get_status(stage.bed.near.conn, NULL), KVT_OK);
	fake_set_chunk_len(4096);
	exchange(stage.near, stage.far, MESSAGE_LEN, 4);
	close_stage();
}

START_TEST(a_receive_given_up_on_a_slow_link_waits_while_bytes_move)
{
	open_slow(_i);
	kvt_transfer_cancel(stage.receive);
	trickle(stage.receive, 2500 * KVI_MS);
	fake_hold(0);
	finish(stage.receive, KVT_E_CANCELLED);
	kvt_transfer_cancel(stage.send);
	finish(stage.send, KVT_E_CANCELLED);
	close_slow();
}
END_TEST

START_TEST(a_send_given_up_on_a_slow_link_waits_while_bytes_move)
{
	open_slow(_i);
	kvt_transfer_cancel(stage.send);
	trickle(stage.send, 2500 * KVI_MS);
	fake_hold(0);
	finish(stage.send, KVT_E_CANCELLED);
	finish(stage.receive, KVT_E_CANCELLED);
	close_slow();
}
END_TEST

START_TEST(a_peer_that_only_trickles_does_not_hold_a_call_for_ever)
{
	open_slow(false);
	int64_t started_ns = kvi_clock_now();
	fake_trickle(true);
	kvt_transfer_cancel(stage.receive);
	while (!kvt_transfer_is_done(stage.receive) && kvi_clock_now() < started_ns + KVI_DRAIN_NS)
		rest(10 * KVI_MS);
	finish(stage.receive, KVT_E_CANCELLED);
	expect_took(started_ns, KVI_DRAIN_NS - KVI_SECOND, KVI_DRAIN_NS + 2 * KVI_SECOND);
	finish(stage.send, KVT_E_PEER_LOST);
	fake_hold(0);
	close_stage();
}
END_TEST

START_TEST(bytes_that_moved_before_are_no_reason_to_wait)
{
	open_slow(false);
	kvt_transfer_cancel(stage.receive);
	trickle(stage.receive, 500 * KVI_MS);
	int64_t stopped_ns = kvi_clock_now();
	fake_trickle(false);
	finish(stage.receive, KVT_E_CANCELLED);
	expect_took(stopped_ns, 0, 2500 * KVI_MS);
	finish(stage.send, KVT_E_PEER_LOST);
	fake_hold(0);
	close_stage();
}
END_TEST

/* ---- pages ---- */

enum { READS = MAIN_WAYS };

static struct kvt_transfer *hold_pages(enum kvt_direction direction)
{
	uint64_t placed = fake_get_counts().placed;
	fill_pages(direction, 5);
	fake_hold(FAKE_WRITE | FAKE_READ);
	struct kvt_transfer *transfer = start_blocks(direction, 5, NULL, 0);
	wait_until(fake_release(1) > 0 && fake_get_counts().placed > placed);
	fake_set_chunk_len(STEP_LEN);
	return transfer;
}

START_TEST(a_paged_transfer_given_up_on_a_slow_link_waits_while_bytes_move)
{
	enum kvt_direction direction = _i & READS ? KVT_READ : KVT_WRITE;
	pages_open((unsigned)_i % MAIN_WAYS);
	struct kvt_transfer *transfer = hold_pages(direction);
	kvt_transfer_cancel(transfer);
	trickle(transfer, 1500 * KVI_MS);
	fake_hold(0);
	finish(transfer, KVT_E_CANCELLED);
	ck_assert_int_eq(kvt_conn_get_status(pages.bed.near.conn, NULL), KVT_OK);
	fill_pages(direction, 6);
	finish(start_blocks(direction, 6, NULL, 0), KVT_OK);
	ck_assert(are_moved(direction, 6));
	pages_close();
}
END_TEST

static void *withdraw(void *arg)
{
	kvt_export_close(pages.exported);
	return arg;
}

START_TEST(a_withdrawal_on_a_slow_link_waits_while_bytes_move)
{
	pthread_t thread;
	pages_open((unsigned)_i);
	struct kvt_transfer *transfer = hold_pages(KVT_WRITE);
	pthread_create(&thread, NULL, withdraw, NULL);
	trickle(transfer, 1500 * KVI_MS);
	fake_hold(0);
	pthread_join(thread, NULL);
	pages.exported = NULL;
	memset(pages.far_memory, 0, PAGES_LEN);
	finish(transfer, KVT_E_WITHDRAWN);
	rest(20 * KVI_MS);
	ck_assert(holds_only(pages.far_memory, PAGES_LEN, 0));
	ck_assert_int_eq(kvt_conn_get_status(pages.bed.far.conn, NULL), KVT_OK);
	pages_close();
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("drain");
	tcase_set_timeout(tests, 120);
	tcase_add_loop_test(tests, a_receive_given_up_on_a_slow_link_waits_while_bytes_move, 0, 2);
	tcase_add_loop_test(tests, a_send_given_up_on_a_slow_link_waits_while_bytes_move, 0, 2);
	tcase_add_test(tests, a_peer_that_only_trickles_does_not_hold_a_call_for_ever);
	tcase_add_test(tests, bytes_that_moved_before_are_no_reason_to_wait);
	tcase_add_loop_test(tests, a_paged_transfer_given_up_on_a_slow_link_waits_while_bytes_move,
			    0, 2 * MAIN_WAYS);
	tcase_add_loop_test(tests, a_withdrawal_on_a_slow_link_waits_while_bytes_move, 0,
			    MAIN_WAYS);
	return run_tests("engine_drain", tests);
}
