/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_tagged_hostile.c - a peer that has authenticated and does not keep to the protocol of sends and receives.
 * The near engine's own link says what no engine would say; it costs that connection, and no receive ends with
 * success that had none.
 */
#include "bed.h"

#include <stdlib.h>

#include "engine/core/conn.h"
#include "engine/lane/link.h"
#include "engine/tagged/tagged.h"
#include "support/runner.h"

enum { TAG = 3, UNTOUCHED = 0x5A };

static struct bed bed;
static struct kvt_kv *near, *far;

static void open_bed(void)
{
	bed_open(&bed, NULL);
	near = open_kv(bed.near.conn, TAG);
	far = open_kv(bed.far.conn, TAG);
}

static void say(struct kvi_message message)
{
	struct kvi_link *link = &bed.near.conn->links[0];
	message.tag = TAG;
	kvi_worker_lock(link->shard->worker);
	kvi_link_send(link, &message);
	kvi_worker_flush(link->shard->worker, KVI_FLUSH_ALL);
	kvi_worker_unlock(link->shard->worker);
}

/* The far engine has had enough of this connection, and serves another. */
static void expect_refused(void)
{
	wait_until(kvt_conn_get_status(bed.far.conn, NULL) != KVT_OK);
	ck_assert_int_eq(kvt_conn_get_status(bed.far.conn, NULL), KVT_E_PROTOCOL);
	kvt_kv_close(near);
	kvt_kv_close(far);
	bed_disconnect(&bed);
	bed_connect(&bed);
	near = open_kv(bed.near.conn, TAG);
	far = open_kv(bed.far.conn, TAG);
	exchange(near, far, LARGE_LEN, 1);
	kvt_kv_close(near);
	kvt_kv_close(far);
	bed_close(&bed);
}

START_TEST(a_message_that_is_said_again_is_refused)
{
	static const uint8_t bytes[10];
	open_bed();
	exchange(near, far, 100, 1);
	if (_i == 0)
		say((struct kvi_message){ .type = KVI_MESSAGE_EAGER,
					  .eager = { .seq = 0, .data = { bytes, 10 } } });
	else
		say((struct kvi_message){ .type = KVI_MESSAGE_START,
					  .start = { .seq = 0, .len = LARGE_LEN } });
	expect_refused();
}
END_TEST

START_TEST(a_message_before_its_turn_is_refused)
{
	static const uint8_t bytes[10];
	open_bed();
	if (_i == 0)
		say((struct kvi_message){ .type = KVI_MESSAGE_EAGER,
					  .eager = { .seq = 1, .data = { bytes, 10 } } });
	else
		say((struct kvi_message){ .type = KVI_MESSAGE_START,
					  .start = { .seq = 1, .len = LARGE_LEN } });
	expect_refused();
}
END_TEST

/* Of the CTS of a receive; 0: it is not in that state. */
static uint64_t get_generation(struct kvt_transfer *receive, enum kvi_tagged_state state)
{
	struct kvi_worker *worker = bed.far.conn->links[0].shard->worker;
	const struct kvi_tagged *tagged = kvi_tagged_of(receive);
	kvi_worker_lock(worker);
	uint64_t generation = tagged->state == state ? tagged->generation : 0;
	kvi_worker_unlock(worker);
	return generation;
}

/* A receive has told where to write; the peer says of it what is not so. */
static void finish_falsely(uint64_t generation_off, uint64_t len_off, bool is_early)
{
	uint8_t *target = make_filled(LARGE_LEN, UNTOUCHED);
	open_bed();
	struct kvi_message start = { .type = KVI_MESSAGE_START,
				     .start = { .seq = 0, .len = LARGE_LEN } };
	if (!is_early)
		say(start);
	struct kvt_transfer *receive = start_recv(far, target, LARGE_LEN);
	uint64_t generation;
	wait_until((generation = get_generation(receive, is_early ? KVI_RECV_EARLY
								  : KVI_RECV_MATCHED)) != 0);
	if (is_early)
		say(start);
	say((struct kvi_message){ .type = KVI_MESSAGE_FIN,
				  .fin = { .seq = 0,
					   .generation = generation + generation_off,
					   .len = LARGE_LEN - len_off } });
	await(receive, KVT_E_PROTOCOL);
	kvt_transfer_free(receive);
	ck_assert(holds_only(target, LARGE_LEN, UNTOUCHED));
	expect_refused();
	free(target);
}

START_TEST(a_FIN_of_another_generation_ends_no_receive)
{
	finish_falsely(1, 0, _i == 0);
}
END_TEST

START_TEST(a_FIN_of_another_length_ends_no_receive)
{
	finish_falsely(0, 1, _i == 0);
}
END_TEST

static const struct kvi_message bad_messages[] = {
	{ .type = KVI_MESSAGE_ACK, .ack.seq = 0 },
	{ .type = KVI_MESSAGE_ACK, .ack.seq = UINT64_MAX },
	{ .type = KVI_MESSAGE_FIN, .fin = { .seq = 0, .generation = 1, .len = 1 } },
	{ .type = KVI_MESSAGE_CTS,
	  .cts = { .seq = 7, .generation = 1, .capacity = LARGE_LEN, .rkey_count = 1 } },
	{ .type = KVI_MESSAGE_START, .start = { .seq = 0, .len = UINT64_MAX } },
};
enum { BAD_MESSAGES = sizeof(bad_messages) / sizeof(bad_messages[0]) };

START_TEST(what_answers_nothing_is_refused)
{
	open_bed();
	say(bad_messages[_i]);
	expect_refused();
}
END_TEST

START_TEST(only_one_CTS_may_come_before_its_message)
{
	open_bed();
	for (uint64_t i = 1; i <= 2; i++)
		say((struct kvi_message){
			.type = KVI_MESSAGE_CTS,
			.cts = { .generation = i, .capacity = LARGE_LEN, .rkey_count = 1 } });
	expect_refused();
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("tagged_hostile");
	tcase_set_timeout(tests, 120);
	tcase_add_loop_test(tests, a_message_that_is_said_again_is_refused, 0, 2);
	tcase_add_loop_test(tests, a_message_before_its_turn_is_refused, 0, 2);
	tcase_add_loop_test(tests, a_FIN_of_another_generation_ends_no_receive, 0, 2);
	tcase_add_loop_test(tests, a_FIN_of_another_length_ends_no_receive, 0, 2);
	tcase_add_loop_test(tests, what_answers_nothing_is_refused, 0, BAD_MESSAGES);
	tcase_add_test(tests, only_one_CTS_may_come_before_its_message);
	return run_tests("engine_tagged_hostile", tests);
}
