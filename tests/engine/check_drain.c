/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_drain.c - giving up on a slow link (docs/protocol.md 6.4): as long as bytes move it is waited for
 * what was posted, longer than for a peer that has stopped, but not for ever.
 */
#include "pages.h"

#include <pthread.h>
#include <stdlib.h>

#include "engine/settings.h"
#include "support/runner.h"

enum {
	MESSAGE_LEN = 3 * LARGE_LEN,
	STEP_LEN = 16, /* however many lanes are looked at: far less than a segment in all */
};

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

struct message {
	struct bed bed;
	struct kvt_kv *near;
	struct kvt_kv *far;
	uint8_t *source;
	uint8_t *target;
	struct kvt_transfer *send;
	struct kvt_transfer *receive;
};

static struct message message;

/* A message that is held in the middle. */
static void open_message(bool many_lanes)
{
	struct kvt_engine_config config = make_config();
	struct kvi_caps caps = fake_get_default_caps();
	caps.max_segment_len = SMALL_SEGMENT_LEN;
	caps.tx_count = FEW_POSTS;
	fake_set_caps(&caps);
	if (many_lanes) {
		config.ncpus = 3;
		config.nconn_per_cpu = 2;
	}
	bed_open(&message.bed, &config);
	message.near = open_kv(message.bed.near.conn, 7);
	message.far = open_kv(message.bed.far.conn, 7);
	message.source = make_pattern(MESSAGE_LEN, 1);
	message.target = make_filled(MESSAGE_LEN, 0);
	fake_hold(FAKE_WRITE);
	message.receive = start_recv(message.far, message.target, MESSAGE_LEN);
	message.send = start_send(message.near, message.source, MESSAGE_LEN);
	release_until(message.target, 2 * 4096, 0);
	fake_set_chunk_len(STEP_LEN);
}

static void close_message(void)
{
	ck_assert_int_eq(kvt_conn_get_status(message.bed.near.conn, NULL), KVT_OK);
	fake_set_chunk_len(4096);
	exchange(message.near, message.far, MESSAGE_LEN, 4);
	kvt_kv_close(message.near);
	kvt_kv_close(message.far);
	bed_close(&message.bed);
	free(message.source);
	free(message.target);
}

START_TEST(a_receive_given_up_on_a_slow_link_waits_while_bytes_move)
{
	open_message(_i);
	kvt_transfer_cancel(message.receive);
	trickle(message.receive, 2500 * KVI_MS);
	fake_hold(0);
	finish(message.receive, KVT_E_CANCELLED);
	kvt_transfer_cancel(message.send);
	finish(message.send, KVT_E_CANCELLED);
	close_message();
}
END_TEST

START_TEST(a_send_given_up_on_a_slow_link_waits_while_bytes_move)
{
	open_message(_i);
	kvt_transfer_cancel(message.send);
	trickle(message.send, 2500 * KVI_MS);
	fake_hold(0);
	finish(message.send, KVT_E_CANCELLED);
	finish(message.receive, KVT_E_CANCELLED);
	close_message();
}
END_TEST

START_TEST(a_peer_that_only_trickles_does_not_hold_a_call_for_ever)
{
	open_message(false);
	int64_t started_ns = kvi_clock_now();
	fake_trickle(true);
	kvt_transfer_cancel(message.receive);
	while (!kvt_transfer_is_done(message.receive) &&
	       kvi_clock_now() < started_ns + KVI_DRAIN_NS)
		rest(10 * KVI_MS);
	finish(message.receive, KVT_E_CANCELLED);
	expect_took(started_ns, KVI_DRAIN_NS - KVI_SECOND, KVI_DRAIN_NS + 2 * KVI_SECOND);
	finish(message.send, KVT_E_PEER_LOST);
	fake_hold(0);
	kvt_kv_close(message.near);
	kvt_kv_close(message.far);
	bed_disconnect(&message.bed);
	bed_close(&message.bed);
	free(message.source);
	free(message.target);
}
END_TEST

START_TEST(bytes_that_moved_before_are_no_reason_to_wait)
{
	open_message(false);
	kvt_transfer_cancel(message.receive);
	trickle(message.receive, 500 * KVI_MS);
	int64_t stopped_ns = kvi_clock_now();
	fake_trickle(false);
	finish(message.receive, KVT_E_CANCELLED);
	expect_took(stopped_ns, 500 * KVI_MS, 2500 * KVI_MS);
	finish(message.send, KVT_E_PEER_LOST);
	fake_hold(0);
	kvt_kv_close(message.near);
	kvt_kv_close(message.far);
	bed_disconnect(&message.bed);
	bed_close(&message.bed);
	free(message.source);
	free(message.target);
}
END_TEST

/* ---- pages ---- */

enum { READS = MAIN_WAYS };

static struct kvt_transfer *start_held(enum kvt_direction direction)
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
	struct kvt_transfer *transfer = start_held(direction);
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
	struct kvt_transfer *transfer = start_held(KVT_WRITE);
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
