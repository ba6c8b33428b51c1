/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_abort.c - giving up while writes are under way (docs/protocol.md 6.4). Once a transfer has
 * ended, its memory is filled with something else, which must stay.
 */
#include "stage.h"

#include <pthread.h>
#include <stdlib.h>

#include "engine/tagged/kv.h"
#include "engine/tagged/tagged.h"
#include "support/runner.h"

enum { CANARY = 0xEE };

static void give_up(struct kvt_transfer *transfer, bool by_deadline)
{
	if (by_deadline)
		expire(transfer);
	else
		kvt_transfer_cancel(transfer);
}

/* Whether nobody has told the sender to stop. Until then not all that is held may go: on a busy machine the whole
 * message would go first, and be received. */
static bool is_writing(const struct kvt_kv *kv, struct kvt_transfer *send)
{
	kvi_worker_lock(kv->worker);
	bool writes = kvi_tagged_of(send)->state == KVI_SEND_WRITING;
	kvi_worker_unlock(kv->worker);
	return writes;
}

/* Nobody writes to the target or reads the source any more. */
static void expect_untouched(void)
{
	memset(stage.target, CANARY, MESSAGE_LEN);
	fake_hold(0);
	rest(30 * KVI_MS);
	bool is_untouched = holds_only(stage.target, MESSAGE_LEN, CANARY);
	ck_assert_msg(is_untouched, "written after the receive had ended");
}

/* The connection was severed; a new one works. */
static void expect_new_connection(void)
{
	struct kvt_conn *conns[] = { stage.bed.near.conn, stage.bed.far.conn };
	for (unsigned i = 0; i < 2; i++) {
		struct kvt_error error;
		wait_until(kvt_conn_get_status(conns[i], NULL) != KVT_OK);
		ck_assert_int_eq(kvt_conn_get_status(conns[i], &error), KVT_E_PEER_LOST);
		ck_assert(error.text[0] != '\0');
	}
	kvt_kv_close(stage.near);
	kvt_kv_close(stage.far);
	bed_disconnect(&stage.bed);
	bed_connect(&stage.bed);
	stage.near = open_kv(stage.bed.near.conn, 7);
	stage.far = open_kv(stage.bed.far.conn, 7);
	exchange(stage.near, stage.far, MESSAGE_LEN, 9);
}

/* Of one lane and of many; by cancelling and by a deadline. */
enum { MANY_LANES = 1, BY_DEADLINE = 2, CROSSING = 2, WAYS = 4 };

START_TEST(a_receive_given_up_between_writes_ends_when_the_sender_has_stopped)
{
	open_stage(_i & MANY_LANES);
	start_held();
	give_up(stage.receive, _i & BY_DEADLINE);
	expect_pending(stage.receive, 100 * KVI_MS);
	fake_hold(0);
	finish(stage.receive, _i & BY_DEADLINE ? KVT_E_TIMEOUT : KVT_E_CANCELLED);
	expect_untouched();
	ck_assert_uint_eq(fake_get_counts().memories, 0);

	/* The message is where it was. */
	ck_assert(!kvt_transfer_is_done(stage.send));
	ck_assert_uint_eq(finish(start_recv(stage.far, stage.target, MESSAGE_LEN), KVT_OK),
			  MESSAGE_LEN);
	finish(stage.send, KVT_OK);
	ck_assert(holds_pattern(stage.target, MESSAGE_LEN, 1));
	close_stage();
}
END_TEST

START_TEST(a_receive_given_up_cuts_the_connection_when_the_sender_does_not_stop)
{
	open_stage(_i & MANY_LANES);
	struct kvt_kv *near_other = open_kv(stage.bed.near.conn, 8);
	struct kvt_kv *far_other = open_kv(stage.bed.far.conn, 8);
	struct kvt_transfer *other = start_recv(near_other, NULL, SIZE_MAX);
	struct kvt_transfer *far_other_receive = start_recv(far_other, NULL, SIZE_MAX);
	start_stopped();
	int64_t started_ns = kvi_clock_now();
	give_up(stage.receive, _i & BY_DEADLINE);
	finish(stage.receive, _i & BY_DEADLINE ? KVT_E_TIMEOUT : KVT_E_CANCELLED);
	expect_took(started_ns, 700 * KVI_MS, 2500 * KVI_MS);
	expect_untouched();
	finish(stage.send, KVT_E_PEER_LOST);
	finish(other, KVT_E_PEER_LOST);
	finish(far_other_receive, KVT_E_PEER_LOST);
	kvt_kv_close(near_other);
	kvt_kv_close(far_other);
	expect_new_connection();
	close_stage();
}
END_TEST

START_TEST(a_send_given_up_between_writes_ends_when_they_are_done)
{
	open_stage(_i & MANY_LANES);
	start_held();
	give_up(stage.send, _i & BY_DEADLINE);
	expect_pending(stage.send, 100 * KVI_MS);
	ck_assert(!kvt_transfer_is_done(stage.receive));
	fake_hold(0);
	finish(stage.send, _i & BY_DEADLINE ? KVT_E_TIMEOUT : KVT_E_CANCELLED);
	finish(stage.receive, KVT_E_CANCELLED);
	expect_untouched();
	exchange(stage.near, stage.far, MESSAGE_LEN, 2);
	exchange(stage.far, stage.near, MESSAGE_LEN, 3);
	close_stage();
}
END_TEST

START_TEST(a_send_given_up_cuts_the_connection_when_its_writes_do_not_end)
{
	open_stage(_i & MANY_LANES);
	start_stopped();
	int64_t started_ns = kvi_clock_now();
	give_up(stage.send, _i & BY_DEADLINE);
	finish(stage.send, _i & BY_DEADLINE ? KVT_E_TIMEOUT : KVT_E_CANCELLED);
	expect_took(started_ns, 700 * KVI_MS, 2500 * KVI_MS);
	memset(stage.source, 0, MESSAGE_LEN);
	finish(stage.receive, KVT_E_PEER_LOST);
	expect_untouched();
	expect_new_connection();
	close_stage();
}
END_TEST

START_TEST(both_sides_may_give_up_at_once)
{
	open_stage(_i & MANY_LANES);
	start_held();
	kvt_transfer_cancel(stage.receive);
	kvt_transfer_cancel(stage.send);
	rest(20 * KVI_MS);
	fake_hold(0);
	finish(stage.send, KVT_E_CANCELLED);
	finish(stage.receive, KVT_E_CANCELLED);
	expect_untouched();
	exchange(stage.near, stage.far, MESSAGE_LEN, 2);
	close_stage();
}
END_TEST

START_TEST(a_message_that_comes_back_goes_to_the_next_receive_though_that_waits_for_another)
{
	uint8_t *target = make_filled(MESSAGE_LEN, 0);
	open_stage(_i & MANY_LANES);
	start_held();
	/* It sends a CTS for the message behind the one that is being written. */
	struct kvt_transfer *next = start_recv(stage.far, target, MESSAGE_LEN);
	wait_until(get_stats(stage.bed.far.engine).registrations == 2);
	rest(5 * KVI_MS); /* the CTS is with the sender */
	kvt_transfer_cancel(stage.receive);
	wait_until(!is_writing(stage.near, stage.send));
	fake_hold(0);
	finish(stage.receive, KVT_E_CANCELLED);
	ck_assert_uint_eq(finish(next, KVT_OK), MESSAGE_LEN);
	ck_assert(holds_pattern(target, MESSAGE_LEN, 1));
	finish(stage.send, KVT_OK);
	exchange(stage.near, stage.far, MESSAGE_LEN, 2);
	close_stage();
	free(target);
}
END_TEST

START_TEST(a_cancel_that_crosses_the_end_of_the_message_gets_the_message)
{
	size_t len = SMALL_SEGMENT_LEN +
		     1; /* above the eager limit; its FIN is posted behind the writes */
	open_stage(false);
	fake_hold(FAKE_WRITE);
	stage.receive = start_recv(stage.far, stage.target, MESSAGE_LEN);
	stage.send = start_send(stage.near, stage.source, len);
	release_until(stage.target, HELD_OFFSET, 0);
	kvt_transfer_cancel(stage.receive);
	expect_pending(stage.receive, 50 * KVI_MS);
	fake_hold(0);
	ck_assert_uint_eq(finish(stage.receive, KVT_OK), len);
	finish(stage.send, KVT_OK);
	ck_assert(holds_pattern(stage.target, len, 1));
	exchange(stage.near, stage.far, len, 2);
	close_stage();
}
END_TEST

START_TEST(a_send_given_up_behind_its_last_message_leaves_that_message_to_the_receiver)
{
	size_t len = SMALL_SEGMENT_LEN + 1;
	open_stage(false);
	fake_hold(FAKE_WRITE);
	stage.receive = start_recv(stage.far, stage.target, MESSAGE_LEN);
	stage.send = start_send(stage.near, stage.source, len);
	release_until(stage.target, HELD_OFFSET, 0);
	kvt_transfer_cancel(stage.send);
	expect_pending(stage.send, 50 * KVI_MS); /* its memory is still read */
	fake_hold(0);
	await_end(stage.send);
	kvt_transfer_free(
		stage.send); /* cancelled or done: the acknowledgement may have come in time */
	memset(stage.source, 0, MESSAGE_LEN);
	ck_assert_uint_eq(finish(stage.receive, KVT_OK), len);
	ck_assert(holds_pattern(stage.target, len, 1));
	close_stage();
}
END_TEST

/* Waits for it, cancelling it when it does not end by itself. */
static enum kvt_err settle(struct kvt_transfer *transfer)
{
	struct kvt_result result = KVT_RESULT_INIT;
	if (kvt_transfer_wait(transfer, 20 * KVI_MS) != KVT_OK)
		kvt_transfer_cancel(transfer);
	await_end(transfer);
	ck_assert_int_eq(kvt_transfer_get_result(transfer, &result), KVT_OK);
	ck_assert_msg(result.err == KVT_OK || result.err == KVT_E_CANCELLED, "ended with %s (%s)",
		      kvt_err_get_name(result.err), result.text);
	kvt_transfer_free(transfer);
	return result.err;
}

/* Take the message of stage.send, unless somebody has it. */
static void take_what_is_left(void)
{
	struct kvt_transfer *receive = start_recv(stage.far, stage.target, MESSAGE_LEN);
	wait_until(kvt_transfer_is_done(receive) || kvt_transfer_is_done(stage.send));
	settle(receive);
}

START_TEST(a_receive_may_end_at_any_moment_of_changing_over_to_a_message_that_came_back)
{
	uint8_t *target = make_filled(MESSAGE_LEN, 0);
	open_stage(_i & MANY_LANES);
	for (unsigned i = 0; i < 12; i++) {
		start_held();
		struct kvt_transfer *next = start_recv(stage.far, target, MESSAGE_LEN);
		wait_until(get_stats(stage.bed.far.engine).registrations == 2);
		kvt_transfer_cancel(stage.receive);
		fake_delay(4 * KVI_MS);
		fake_hold(0);
		rest((int64_t)i * 2 * KVI_MS);
		/* A message behind the one that comes back crosses what is said of the CTS for
		 * it. */
		struct kvt_transfer *small =
			_i & CROSSING ? start_send(stage.near, stage.source, 10) : NULL;
		kvt_transfer_cancel(next);
		fake_delay(0);
		settle(stage.receive); /* on a busy machine its last byte may have come first */
		settle(next);
		memset(target, CANARY, MESSAGE_LEN);
		/* What it did not get is left for others. */
		while (!kvt_transfer_is_done(stage.send))
			take_what_is_left();
		finish(stage.send, KVT_OK);
		if (small != NULL) {
			finish(small, KVT_OK);
			settle(start_recv(stage.far, NULL, SIZE_MAX));
		}
		ck_assert(holds_only(target, MESSAGE_LEN, CANARY));
		exchange(stage.near, stage.far, MESSAGE_LEN, i);
		memset(stage.target, 0, MESSAGE_LEN);
	}
	close_stage();
	free(target);
}
END_TEST

START_TEST(cancels_at_any_moment_leave_both_sides_in_step)
{
	open_stage(_i & MANY_LANES);
	fake_reorder((uint64_t)_i + 1);
	for (uint32_t i = 0; i < 40; i++) {
		size_t len = i % 3 == 0 ? 5000 : MESSAGE_LEN;
		stage.receive = start_recv(stage.far, stage.target, MESSAGE_LEN);
		stage.send = start_send(stage.near, stage.source, len);
		rest(i % 8 * KVI_MS / 4);
		if (i % 2 == 0)
			kvt_transfer_cancel(stage.receive);
		if (i % 5 < 2)
			kvt_transfer_cancel(stage.send);
		if (settle(stage.receive) == KVT_OK)
			ck_assert(holds_pattern(stage.target, len, 1));
		memset(stage.target, CANARY, MESSAGE_LEN);
		settle(stage.send);
		/* An eager message may have come after its receive had gone. */
		settle(start_recv(stage.far, NULL, SIZE_MAX));
		ck_assert(holds_only(stage.target, MESSAGE_LEN, CANARY));
	}
	exchange(stage.near, stage.far, MESSAGE_LEN, 4);
	close_stage();
}
END_TEST

/* ---- closing KVs ---- */

/* Once the closing of the near KV has begun, which then waits for what is held. What the peer is told stands behind
 * writes of this side, so all move a little until it has that. */
static void *let_go_when_closing(void *back_send)
{
	struct kvt_kv *kv = stage.near;
	for (bool closing = false; !closing; rest(KVI_MS)) {
		kvi_worker_lock(kv->worker);
		closing = kv->closing;
		kvi_worker_unlock(kv->worker);
	}
	for (; is_writing(stage.far, back_send); rest(KVI_MS / 10))
		fake_release(8);
	fake_hold(0);
	return NULL;
}

START_TEST(closing_a_kv_gives_up_what_is_in_flight_both_ways)
{
	pthread_t thread;
	uint8_t *back_source = make_pattern(MESSAGE_LEN, 2),
		*back_target = make_filled(MESSAGE_LEN, 0);
	open_stage(_i & MANY_LANES);
	/* Its CTS goes before the writes that are held, and the way back waits for none of them: else what
	 * is released meanwhile may be all of the way there. */
	struct kvt_transfer *back_receive = start_recv(stage.near, back_target, MESSAGE_LEN);
	start_held();
	struct kvt_transfer *back_send = start_send(stage.far, back_source, MESSAGE_LEN);
	while (get_stats(stage.bed.far.engine).segments == 0)
		rest(KVI_MS);
	release_until(back_target, HELD_OFFSET, 0);
	struct kvt_transfer *queued = start_recv(stage.near, NULL, SIZE_MAX);

	pthread_create(&thread, NULL, let_go_when_closing, back_send);
	kvt_kv_close(stage.near);
	ck_assert(kvt_transfer_is_done(stage.send) && kvt_transfer_is_done(back_receive));
	memset(stage.source, 0, MESSAGE_LEN);
	memset(back_target, CANARY, MESSAGE_LEN);
	pthread_join(thread, NULL);
	finish(stage.send, KVT_E_CLOSED);
	finish(back_receive, KVT_E_CLOSED);
	finish(queued, KVT_E_CLOSED);
	finish(stage.receive, KVT_E_CANCELLED);
	finish(back_send, KVT_E_PEER_CLOSED);
	ck_assert(holds_only(back_target, MESSAGE_LEN, CANARY));

	/* The tag is free again, and the peer's KV meets the new one. */
	stage.near = open_kv(stage.bed.near.conn, 7);
	exchange(stage.near, stage.far, MESSAGE_LEN, 3);
	exchange(stage.far, stage.near, MESSAGE_LEN, 4);
	close_stage();
	free(back_source);
	free(back_target);
}
END_TEST

START_TEST(closing_a_kv_cuts_the_connection_when_the_peer_does_not_stop)
{
	open_stage(_i & MANY_LANES);
	start_stopped();
	int64_t started_ns = kvi_clock_now();
	kvt_kv_close(stage.far);
	expect_took(started_ns, 0, 2500 * KVI_MS);
	finish(stage.receive, KVT_E_CLOSED);
	finish(stage.send, KVT_E_PEER_LOST);
	stage.far = NULL;
	expect_untouched();
	expect_new_connection();
	close_stage();
}
END_TEST

START_TEST(freeing_a_transfer_in_flight_cancels_it_first)
{
	open_stage(_i & MANY_LANES);
	start_held();
	fake_hold(0);
	kvt_transfer_free(stage.receive);
	memset(stage.target, CANARY, MESSAGE_LEN);
	kvt_transfer_free(stage.send);
	memset(stage.source, 0, MESSAGE_LEN);
	rest(20 * KVI_MS);
	ck_assert(holds_only(stage.target, MESSAGE_LEN, CANARY));
	exchange(stage.near, stage.far, MESSAGE_LEN, 3);
	close_stage();
}
END_TEST

START_TEST(a_lost_lane_ends_what_is_in_flight_on_both_sides)
{
	open_stage(_i & MANY_LANES);
	start_held();
	fake_kill_lanes(NULL);
	finish(stage.send, KVT_E_PEER_LOST);
	finish(stage.receive, KVT_E_PEER_LOST);
	expect_untouched();
	expect_new_connection();
	close_stage();
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("abort");
	tcase_set_timeout(tests, 120);
	tcase_add_loop_test(
		tests, a_receive_given_up_between_writes_ends_when_the_sender_has_stopped, 0, WAYS);
	tcase_add_loop_test(tests,
			    a_receive_given_up_cuts_the_connection_when_the_sender_does_not_stop, 0,
			    WAYS);
	tcase_add_loop_test(tests, a_send_given_up_between_writes_ends_when_they_are_done, 0, WAYS);
	tcase_add_loop_test(tests, a_send_given_up_cuts_the_connection_when_its_writes_do_not_end,
			    0, WAYS);
	tcase_add_loop_test(tests, both_sides_may_give_up_at_once, 0, 2);
	tcase_add_loop_test(
		tests,
		a_message_that_comes_back_goes_to_the_next_receive_though_that_waits_for_another, 0,
		2);
	tcase_add_loop_test(
		tests, a_receive_may_end_at_any_moment_of_changing_over_to_a_message_that_came_back,
		0, WAYS);
	tcase_add_test(tests, a_cancel_that_crosses_the_end_of_the_message_gets_the_message);
	tcase_add_test(tests,
		       a_send_given_up_behind_its_last_message_leaves_that_message_to_the_receiver);
	tcase_add_loop_test(tests, cancels_at_any_moment_leave_both_sides_in_step, 0, 2);
	tcase_add_loop_test(tests, closing_a_kv_gives_up_what_is_in_flight_both_ways, 0, 2);
	tcase_add_loop_test(tests, closing_a_kv_cuts_the_connection_when_the_peer_does_not_stop, 0,
			    2);
	tcase_add_loop_test(tests, freeing_a_transfer_in_flight_cancels_it_first, 0, 2);
	tcase_add_loop_test(tests, a_lost_lane_ends_what_is_in_flight_on_both_sides, 0, 2);
	return run_tests("engine_abort", tests);
}
