/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_limit.c - messages that are too large for the receive, deadlines, and cancelling what waits.
 */
#include "bed.h"

#include <stdlib.h>

enum { MESSAGE_LEN = 3 * MIB, SMALL_LEN = 1000, TIGHT_LEN = 900 };

/* ---- too large ---- */

/* A send of MESSAGE_LEN that ends with err, then one of SMALL_LEN, then one of MESSAGE_LEN. */
static void play_sender(struct peer *test, const void *arg)
{
	enum kvt_err err = *(const enum kvt_err *)arg;
	struct side side;
	side_serve(&side, test, NULL);
	uint8_t *bytes = make_filled(MESSAGE_LEN, 0);
	fill_pattern(bytes, MESSAGE_LEN, 1);
	int64_t since_ns = get_time_ns();
	struct kvt_transfer *send =
		start_send_within(side.kv, bytes, MESSAGE_LEN, err == KVT_OK ? 0 : SECOND);
	struct kvt_result result = await(send, err);
	if (err == KVT_E_TOO_LARGE) {
		must(get_time_ns() - since_ns >= SECOND, "before its deadline");
		must(is_within(since_ns, 2 * SECOND), "too late");
		must(strstr(result.text, "900") != NULL && strstr(result.text, "3145728") != NULL,
		     "the text is: %s", result.text);
	}
	kvt_transfer_free(send);
	free(bytes);
	side_meet(&side);
	send_pattern(side.kv, SMALL_LEN, 2);
	send_pattern(side.kv, MESSAGE_LEN, 3);
	side_close(&side);
}

/* A receive that is too small: told at once, with the message's size, and its memory is not written. */
static void expect_too_large(struct side *side, size_t message_len)
{
	uint8_t *bytes = make_filled(TIGHT_LEN, CANARY);
	struct kvt_transfer *receive = start_recv(side->kv, bytes, TIGHT_LEN);
	struct kvt_result result = await(receive, KVT_E_TOO_LARGE);
	must(result.len == message_len, "the size is given as %zu", result.len);
	must(strstr(result.text, "900") != NULL, "the text is: %s", result.text);
	kvt_transfer_free(receive);
	expect_untouched(bytes, TIGHT_LEN);
	free(bytes);
}

START_TEST(a_message_too_large_for_a_receive_stays_for_a_larger_one)
{
	static const enum kvt_err outcome = KVT_OK;
	struct stage stage;
	stage_open(&stage, play_sender, &outcome, NULL);
	expect_too_large(&stage.side, MESSAGE_LEN);
	expect_too_large(&stage.side, MESSAGE_LEN);
	recv_pattern(stage.side.kv, MESSAGE_LEN, 1);
	side_meet(&stage.side);
	expect_too_large(&stage.side, SMALL_LEN); /* an eager one, which its sender is rid of */
	recv_pattern(stage.side.kv, SMALL_LEN, 2);
	recv_pattern(stage.side.kv, MESSAGE_LEN, 3);
	peer_finish(&stage.peer);
	stage_close(&stage);
}
END_TEST

START_TEST(a_sender_whose_message_stays_too_large_is_told_at_its_deadline)
{
	static const enum kvt_err outcome = KVT_E_TOO_LARGE;
	struct stage stage;
	stage_open(&stage, play_sender, &outcome, NULL);
	expect_too_large(&stage.side, MESSAGE_LEN);
	side_meet(&stage.side); /* it has given the message up */
	recv_pattern(stage.side.kv, SMALL_LEN, 2);
	recv_pattern(stage.side.kv, MESSAGE_LEN, 3);
	peer_finish(&stage.peer);
	stage_close(&stage);
}
END_TEST

/* ---- deadlines ---- */

static void play_sender_in_time(struct peer *test, const void *arg)
{
	(void)arg;
	struct side side;
	side_serve(&side, test, NULL);
	side_meet(&side);
	recv_pattern(side.kv, MESSAGE_LEN, 1);
	send_pattern(side.kv, MESSAGE_LEN, 2);
	side_close(&side);
}

static void expect_timeout(struct kvt_transfer *transfer, int64_t since_ns, int64_t timeout_ns)
{
	finish(transfer, KVT_E_TIMEOUT);
	must(get_time_ns() - since_ns >= timeout_ns, "too early");
	must(is_within(since_ns, timeout_ns + SECOND), "too late");
}

START_TEST(what_takes_too_long_times_out_and_the_connection_goes_on)
{
	struct stage stage;
	uint8_t *bytes = make_filled(MESSAGE_LEN, CANARY);
	stage_open(&stage, play_sender_in_time, NULL, NULL);
	struct kvt_kv *kv = stage.side.kv;
	int64_t since_ns = get_time_ns();
	expect_timeout(start_recv_within(kv, bytes, MESSAGE_LEN, 200 * MS), since_ns, 200 * MS);
	since_ns = get_time_ns();
	expect_timeout(start_recv_within(kv, NULL, SIZE_MAX, 100 * MS), since_ns, 100 * MS);
	since_ns = get_time_ns();
	expect_timeout(start_send_within(kv, bytes, MESSAGE_LEN, 200 * MS), since_ns, 200 * MS);
	expect_untouched(bytes, MESSAGE_LEN);

	struct kvt_conn *conn = NULL;
	struct kvt_error error = { .code = KVT_OK };
	since_ns = get_time_ns();
	enum kvt_err err = kvt_conn_accept(stage.side.engine, 200 * MS, &conn, &error);
	must(err == KVT_E_TIMEOUT && error.text[0] != '\0', "%s", kvt_err_get_name(err));
	must(get_time_ns() - since_ns >= 200 * MS && is_within(since_ns, 700 * MS), "not in time");

	side_meet(&stage.side);
	send_pattern(kv, MESSAGE_LEN, 1);
	recv_pattern(kv, MESSAGE_LEN, 2);
	peer_finish(&stage.peer);
	free(bytes);
	stage_close(&stage);
}
END_TEST

START_TEST(what_waits_can_be_cancelled_and_freed)
{
	struct stage stage;
	uint8_t *bytes = make_filled(MESSAGE_LEN, CANARY);
	stage_open(&stage, play_sender_in_time, NULL, NULL);
	struct kvt_kv *kv = stage.side.kv;
	struct kvt_transfer *transfers[] = {
		start_recv(kv, bytes, MESSAGE_LEN), start_recv(kv, NULL, SIZE_MAX),
		start_recv(kv, bytes, SMALL_LEN),   start_send(kv, bytes, MESSAGE_LEN),
		start_send(kv, bytes, MESSAGE_LEN),
	};
	enum { COUNT = sizeof(transfers) / sizeof(transfers[0]) };
	rest(50 * MS);
	int64_t since_ns = get_time_ns();
	for (unsigned i = 0; i < COUNT; i++)
		must(!kvt_transfer_is_done(transfers[i]), "it has ended");
	for (unsigned i = 0; i < COUNT; i++)
		kvt_transfer_cancel(transfers[i]);
	for (unsigned i = 0; i < COUNT; i++)
		finish(transfers[i], KVT_E_CANCELLED);
	kvt_transfer_free(start_recv(kv, bytes, MESSAGE_LEN));
	kvt_transfer_free(start_send(kv, bytes, MESSAGE_LEN));
	must(is_within(since_ns, SECOND), "too late");
	expect_untouched(bytes, MESSAGE_LEN);

	side_meet(&stage.side);
	send_pattern(kv, MESSAGE_LEN, 1);
	recv_pattern(kv, MESSAGE_LEN, 2);
	peer_finish(&stage.peer);
	free(bytes);
	stage_close(&stage);
}
END_TEST

/* ---- both send first ---- */

static void send_first(struct side *side, uint64_t own_seed, uint64_t other_seed)
{
	send_pattern(side->kv, EAGER_LEN, own_seed);
	recv_pattern(side->kv, EAGER_LEN, other_seed);

	uint8_t *bytes = make_filled(MESSAGE_LEN, 0);
	struct kvt_transfer *send = start_send_within(side->kv, bytes, MESSAGE_LEN, 500 * MS);
	finish(send, KVT_E_TIMEOUT);
	free(bytes);
	side_meet(side);

	bytes = make_filled(MESSAGE_LEN, 0);
	struct kvt_transfer *receive = start_recv(side->kv, bytes, MESSAGE_LEN);
	send_pattern(side->kv, MESSAGE_LEN, own_seed);
	must(finish(receive, KVT_OK) == MESSAGE_LEN, "another length");
	must(holds_pattern(bytes, MESSAGE_LEN, other_seed), "other bytes");
	free(bytes);
}

static void play_send_first(struct peer *test, const void *arg)
{
	(void)arg;
	struct side side;
	side_serve(&side, test, NULL);
	send_first(&side, 1, 2);
	side_close(&side);
}

START_TEST(two_that_send_first_lock_with_large_messages_only_and_the_deadline_tells_them)
{
	struct stage stage;
	stage_open(&stage, play_send_first, NULL, NULL);
	send_first(&stage.side, 2, 1);
	peer_finish(&stage.peer);
	stage_close(&stage);
}
END_TEST

TCase *make_limit_tests(void)
{
	TCase *tests = tcase_create("limit");
	tcase_add_test(tests, a_message_too_large_for_a_receive_stays_for_a_larger_one);
	tcase_add_test(tests, a_sender_whose_message_stays_too_large_is_told_at_its_deadline);
	tcase_add_test(tests, what_takes_too_long_times_out_and_the_connection_goes_on);
	tcase_add_test(tests, what_waits_can_be_cancelled_and_freed);
	tcase_add_test(
		tests,
		two_that_send_first_lock_with_large_messages_only_and_the_deadline_tells_them);
	return tests;
}
