/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_windows.c - what a peer can make an engine keep: messages that are announced and not received. Honest senders
 * wait on their own side; who goes beyond costs its own connection.
 */
#include "bed.h"

#include <stdlib.h>

#include "engine/core/conn.h"
#include "engine/tagged/kv.h"
#include "engine/tagged/start_window.h"
#include "support/runner.h"

enum { META_LEN = 4096, COUNT = 3000, ROOM = KVI_START_WINDOW / (KVI_START_CHARGE + META_LEN) };

static struct bed bed;
static struct kvt_kv *near, *far;
static struct kvt_transfer *sends[COUNT];
static uint8_t meta[META_LEN];
static uint32_t numbers[COUNT];

static void open_windows(void)
{
	struct kvt_engine_config config = make_config();
	config.eager_len = KVT_NO_EAGER;
	bed_open(&bed, &config);
	near = open_kv(bed.near.conn, 7);
	far = open_kv(bed.far.conn, 7);
	for (uint32_t i = 0; i < COUNT; i++)
		numbers[i] = i;
}

static void close_windows(void)
{
	kvt_kv_close(near);
	kvt_kv_close(far);
	bed_close(&bed);
}

static struct kvt_transfer *start_with_meta(struct kvt_kv *kv, uint32_t i, int64_t timeout_ns)
{
	struct kvt_send_request request = KVT_SEND_REQUEST_INIT;
	struct kvt_transfer *send;
	memcpy(meta, &i, sizeof(i));
	request.base = &numbers[i];
	request.len = sizeof(numbers[i]);
	request.meta = meta;
	request.meta_len = META_LEN;
	request.timeout_ns = timeout_ns;
	ck_assert_int_eq(kvt_send_start(kv, &request, &send, NULL), KVT_OK);
	return send;
}

/* Message i comes next, with its meta. */
static void receive_number(struct kvt_kv *kv, uint32_t i)
{
	uint32_t found = UINT32_MAX, named = UINT32_MAX;
	struct kvt_transfer *receive = start_recv(kv, &found, sizeof(found));
	struct kvt_result result = await(receive, KVT_OK);
	ck_assert_uint_eq(result.meta_len, META_LEN);
	memcpy(&named, result.meta, sizeof(named));
	ck_assert_uint_eq(found, i);
	ck_assert_uint_eq(named, i);
	kvt_transfer_free(receive);
}

static uint64_t get_held(void)
{
	struct kvi_link *link = &bed.far.conn->links[0];
	kvi_worker_lock(link->shard->worker);
	uint64_t held = link->starts_held;
	kvi_worker_unlock(link->shard->worker);
	return held;
}

/* ---- honest senders ---- */

START_TEST(messages_that_nobody_receives_wait_on_their_senders_side)
{
	open_windows();
	long live = failing_alloc_get_live();
	for (uint32_t i = 0; i < COUNT; i++)
		sends[i] = start_with_meta(near, i, 0);
	long kept_by_near = 2L * COUNT; /* each send and its meta */
	/* A tag has half of the window. */
	const uint64_t most = KVI_START_WINDOW / 2;
	wait_until(get_held() > most - KVI_START_CHARGE - META_LEN);
	expect_pending(sends[0], 50 * KVI_MS);
	ck_assert_uint_le(get_held(), most);
	ck_assert_int_le(failing_alloc_get_live() - live, kept_by_near + 2L * ROOM + 100);
	for (uint32_t i = 0; i < COUNT; i++) {
		receive_number(far, i);
		finish(sends[i], KVT_OK);
	}
	ck_assert_uint_eq(get_held(), 0);
	close_windows();
}
END_TEST

START_TEST(a_kv_that_nobody_receives_stops_no_other_one)
{
	enum { OTHERS = 40, ROUNDS = 5 };
	struct kvt_kv *others[OTHERS][2];
	open_windows();
	for (uint32_t i = 0; i < COUNT; i++)
		sends[i] = start_with_meta(near, i, 0);
	for (unsigned k = 0; k < OTHERS; k++) {
		others[k][0] = open_kv(bed.near.conn, 100 + k);
		others[k][1] = open_kv(bed.far.conn, 100 + k);
	}
	for (uint32_t round = 0; round < ROUNDS; round++) {
		struct kvt_transfer *started[OTHERS];
		for (unsigned k = 0; k < OTHERS; k++)
			started[k] = start_with_meta(others[k][0], round, 0);
		for (unsigned k = 0; k < OTHERS; k++) {
			receive_number(others[k][1], round);
			finish(started[k], KVT_OK);
		}
	}
	/* Several at a time, of one that finds no more than what is left. */
	struct kvt_transfer *several[ROUNDS];
	for (uint32_t i = 0; i < ROUNDS; i++)
		several[i] = start_with_meta(others[0][0], i, 0);
	for (uint32_t i = 0; i < ROUNDS; i++) {
		receive_number(others[0][1], i);
		finish(several[i], KVT_OK);
	}
	ck_assert(!kvt_transfer_is_done(sends[0]));
	for (unsigned k = 0; k < OTHERS; k++) {
		kvt_kv_close(others[k][0]);
		kvt_kv_close(others[k][1]);
	}
	kvt_kv_close(far); /* and who closes it without having received ends them all */
	for (uint32_t i = 0; i < COUNT; i++)
		finish(sends[i], KVT_E_PEER_CLOSED);
	wait_until(get_held() == 0);
	far = open_kv(bed.far.conn, 7);
	exchange(near, far, 100, 1);
	close_windows();
}
END_TEST

START_TEST(kvs_that_share_a_window_all_come_to_their_turn)
{
	enum { KVS = 600, EACH = COUNT / KVS };
	static struct kvt_kv *from[KVS], *to[KVS];
	open_windows();
	for (unsigned k = 0; k < KVS; k++) {
		from[k] = open_kv(bed.near.conn, 100 + k);
		to[k] = open_kv(bed.far.conn, 100 + k);
	}
	for (uint32_t i = 0; i < COUNT; i++)
		sends[i] = start_with_meta(from[i % KVS], i, 0);
	wait_until(get_held() > KVI_START_WINDOW - KVI_START_CHARGE - META_LEN);
	ck_assert_uint_le(get_held(), KVI_START_WINDOW);
	/* Some are given up, those that wait and those that have said START. */
	for (uint32_t i = 0; i < COUNT; i += 3) {
		kvt_transfer_cancel(sends[i]);
		finish(sends[i], KVT_E_CANCELLED);
		sends[i] = NULL;
	}
	/* Those that came to the window first have to be received first. */
	for (uint32_t each = 0; each < EACH; each++) {
		for (unsigned k = 0; k < KVS; k++) {
			uint32_t i = each * KVS + k;
			if (sends[i] == NULL)
				continue;
			receive_number(to[k], i);
			finish(sends[i], KVT_OK);
		}
	}
	ck_assert_uint_eq(get_held(), 0);
	for (unsigned k = 0; k < KVS; k++) {
		kvt_kv_close(from[k]);
		kvt_kv_close(to[k]);
	}
	close_windows();
}
END_TEST

START_TEST(messages_that_wait_for_the_window_end_with_their_deadline_and_their_connection)
{
	open_windows();
	for (uint32_t i = 0; i < COUNT; i++)
		sends[i] = start_with_meta(near, i, i % 2 == 0 ? KVI_MS : 0);
	for (uint32_t i = 0; i < COUNT; i += 2)
		finish(sends[i], KVT_E_TIMEOUT);
	receive_number(far, 1);
	finish(sends[1], KVT_OK);
	kvt_conn_close(bed.far.conn);
	bed.far.conn = NULL;
	for (uint32_t i = 3; i < COUNT; i += 2)
		finish(sends[i], KVT_E_PEER_CLOSED);
	close_windows();
}
END_TEST

/* ---- the other window ---- */

enum { EAGER_LEN = 64 * 1024, EAGER_COUNT = 2 * KVI_LANE_WINDOW / EAGER_LEN };

static struct kvi_link *lock_link(void)
{
	struct kvi_link *link = &bed.near.conn->links[0];
	kvi_worker_lock(link->shard->worker);
	return link;
}

static void unlock_link(struct kvi_link *link)
{
	kvi_link_touch(link);
	kvi_worker_flush_unlock(link->shard->worker);
}

/* None of the window of STARTs is left, and the eager window is full of the first of sends. Returns how many wait. */
static unsigned fill_both(const uint8_t *bytes)
{
	bed_open(&bed, NULL);
	near = open_kv(bed.near.conn, 7);
	far = open_kv(bed.far.conn, 7);
	struct kvi_link *link = lock_link();
	link->starts_out += KVI_START_WINDOW;
	unlock_link(link);
	for (unsigned i = 0; i < EAGER_COUNT; i++)
		sends[i] = start_send(near, bytes, EAGER_LEN);
	unsigned done = KVI_LANE_WINDOW / kvi_message_get_charge(0, EAGER_LEN);
	for (unsigned i = 0; i < done; i++)
		await_end(sends[i]);
	expect_pending(sends[done], 10 * KVI_MS);
	return EAGER_COUNT - done;
}

static void close_both(void)
{
	struct kvi_link *link = lock_link();
	link->starts_out -= KVI_START_WINDOW;
	unlock_link(link);
	close_windows();
}

static void receive_eager(uint8_t *buffer, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		ck_assert_uint_eq(finish(start_recv(far, buffer, EAGER_LEN), KVT_OK), EAGER_LEN);
}

START_TEST(what_waits_for_the_window_of_starts_goes_when_the_eager_window_is_free)
{
	uint8_t *bytes = make_pattern(EAGER_LEN, 1), *buffer = make_filled(EAGER_LEN, 0);
	fill_both(bytes);
	receive_eager(buffer, EAGER_COUNT);
	for (unsigned i = 0; i < EAGER_COUNT; i++)
		finish(sends[i], KVT_OK);
	close_both();
	free(bytes);
	free(buffer);
}
END_TEST

/* Behind one that cannot go eagerly, and that is given up, in its own KV and in another one. */
START_TEST(a_small_message_goes_when_the_large_one_before_it_is_given_up)
{
	uint8_t *bytes = make_pattern(4 * EAGER_LEN, 1), *buffer = make_filled(EAGER_LEN, 0);
	unsigned waiting = fill_both(bytes);
	struct kvt_kv *from = open_kv(bed.near.conn, 8), *to = open_kv(bed.far.conn, 8);
	struct kvt_transfer *large = start_send(from, bytes, 4 * EAGER_LEN);
	struct kvt_transfer *small = start_send(from, bytes, 64);
	for (unsigned i = EAGER_COUNT - waiting; i < EAGER_COUNT; i++) {
		kvt_transfer_cancel(sends[i]);
		finish(sends[i], KVT_E_CANCELLED);
	}
	receive_eager(buffer, EAGER_COUNT - waiting);
	expect_pending(small, 10 * KVI_MS);
	kvt_transfer_cancel(large);
	finish(large, KVT_E_CANCELLED);
	finish(small, KVT_OK);
	ck_assert_uint_eq(finish(start_recv(to, buffer, EAGER_LEN), KVT_OK), 64);
	for (unsigned i = 0; i < EAGER_COUNT - waiting; i++)
		finish(sends[i], KVT_OK);
	kvt_kv_close(from);
	kvt_kv_close(to);
	close_both();
	free(bytes);
	free(buffer);
}
END_TEST

/* ---- turns ---- */

/* Stands first among those that wait for room on the link, and finds none. */
static bool begin_never(struct kvi_waiter *waiter)
{
	(void)waiter;
	return false;
}

/* Of the window of STARTs, a test takes all but what two messages need, and has them said; then two KVs wait, each
 * with a message. What comes back gives one of them its turn, behind one that finds no room. */
static struct turns {
	struct kvt_kv *from[4], *to[4];
	struct kvt_transfer *sends[4];
	struct kvi_waiter first;
	uint64_t taken;
} turns;

static unsigned count_held(void)
{
	struct kvi_link *link = lock_link();
	unsigned count = 0;
	kvi_list_for_each (node, next, &link->starts_first)
		count++;
	unlock_link(link);
	return count;
}

/* A KV has its turn: its sends wait for room on the link. */
static bool has_turn(struct kvt_kv *kv)
{
	struct kvi_link *link = lock_link();
	bool has = !kvi_list_is_empty(&kv->queue->waiter.node);
	unlock_link(link);
	return has;
}

static void begin_turns(void)
{
	open_windows();
	turns.taken = KVI_START_WINDOW - 2 * kvi_start_get_charge(META_LEN);
	struct kvi_link *link = lock_link();
	link->starts_out += turns.taken;
	unlock_link(link);
	for (uint32_t i = 0; i < 4; i++) {
		turns.from[i] = open_kv(bed.near.conn, KVT_TAG_AUTO);
		turns.to[i] = open_kv(bed.far.conn, KVT_TAG_AUTO);
		turns.sends[i] = start_with_meta(turns.from[i], i, 0);
	}
	wait_until(count_held() == 2);
	link = lock_link();
	turns.first = (struct kvi_waiter){ .begin = begin_never };
	kvi_list_append(&link->waiting, &turns.first.node);
	unlock_link(link);
	receive_number(turns.to[0], 0);
	finish(turns.sends[0], KVT_OK);
	ck_assert(has_turn(turns.from[2]));
	ck_assert(!has_turn(turns.from[3]));
}

static void end_turns(void)
{
	struct kvi_link *link = lock_link();
	link->starts_out -= turns.taken;
	unlock_link(link);
	for (unsigned i = 0; i < 4; i++) {
		kvt_kv_close(turns.from[i]);
		kvt_kv_close(turns.to[i]);
	}
	close_windows();
}

static bool has_tag_queue(uint64_t tag)
{
	struct kvi_link *link = lock_link();
	bool has = kvi_tag_queue_find(link->shard, tag) != NULL;
	unlock_link(link);
	return has;
}

START_TEST(the_turn_of_a_kv_that_is_closed_comes_to_the_next)
{
	begin_turns();
	uint64_t tag = turns.from[2]->tag;
	kvt_kv_close(turns.from[2]);
	turns.from[2] = NULL;
	finish(turns.sends[2], KVT_E_CLOSED);
	wait_until(!has_tag_queue(tag));
	struct kvi_link *link = lock_link();
	kvi_list_remove(&turns.first.node);
	unlock_link(link);
	receive_number(turns.to[3], 3);
	finish(turns.sends[3], KVT_OK);
	receive_number(turns.to[1], 1);
	finish(turns.sends[1], KVT_OK);
	end_turns();
}
END_TEST

START_TEST(a_kv_whose_turn_found_the_window_taken_keeps_its_place)
{
	begin_turns();
	struct kvi_link *link = lock_link();
	link->starts_out += kvi_start_get_charge(META_LEN);
	turns.taken += kvi_start_get_charge(META_LEN);
	kvi_list_remove(&turns.first.node);
	unlock_link(link);
	wait_until(count_held() == 2);
	/* What comes back is enough for one. */
	receive_number(turns.to[1], 1);
	finish(turns.sends[1], KVT_OK);
	receive_number(turns.to[2], 2);
	finish(turns.sends[2], KVT_OK);
	receive_number(turns.to[3], 3);
	finish(turns.sends[3], KVT_OK);
	end_turns();
}
END_TEST

/* ---- who goes beyond ---- */

/* Say message on lane 0 as often as it takes, until the far engine has had enough. make: the i-th one. */
static void say_until_refused(void (*make)(struct kvi_message *message, uint64_t i), uint64_t most)
{
	struct kvi_link *link = &bed.near.conn->links[0];
	uint64_t said = 0;
	int64_t deadline_ns = kvi_deadline_after(BED_PATIENCE_NS);
	while (kvt_conn_get_status(bed.far.conn, NULL) == KVT_OK) {
		ck_assert_msg(said <= most, "%llu were taken", (unsigned long long)said);
		ck_assert(kvi_clock_now() < deadline_ns);
		kvi_worker_lock(link->shard->worker);
		struct kvi_message message = { .tag = 0 };
		make(&message, said);
		if (link->lane != NULL && kvi_link_try_send(link, &message))
			said++;
		kvi_worker_flush(link->shard->worker, KVI_FLUSH_ALL);
		kvi_worker_unlock(link->shard->worker);
	}
}

static void make_start(struct kvi_message *message, uint64_t i)
{
	message->type = KVI_MESSAGE_START;
	message->tag = 99;
	message->start =
		(struct kvi_message_start){ .seq = i, .len = 1, .meta = { meta, META_LEN } };
}

START_TEST(a_peer_that_announces_more_than_its_window_costs_its_own_connection)
{
	struct kvt_error error;
	open_windows();
	long live = failing_alloc_get_live();
	say_until_refused(make_start, 1000 * 1000);
	ck_assert_int_eq(kvt_conn_get_status(bed.far.conn, &error), KVT_E_PROTOCOL);
	ck_assert_msg(strstr(error.text, "window") != NULL, "%s", error.text);
	ck_assert_int_le(failing_alloc_get_live() - live, 2L * ROOM + 100);
	kvt_kv_close(near);
	kvt_kv_close(far);
	bed_disconnect(&bed);
	bed_connect(&bed);
	near = open_kv(bed.near.conn, 7);
	far = open_kv(bed.far.conn, 7);
	exchange(near, far, 100, 1);
	close_windows();
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("windows");
	tcase_set_timeout(tests, 120);
	tcase_add_test(tests, messages_that_nobody_receives_wait_on_their_senders_side);
	tcase_add_test(tests, a_kv_that_nobody_receives_stops_no_other_one);
	tcase_add_test(tests, kvs_that_share_a_window_all_come_to_their_turn);
	tcase_add_test(
		tests,
		messages_that_wait_for_the_window_end_with_their_deadline_and_their_connection);
	tcase_add_test(tests,
		       what_waits_for_the_window_of_starts_goes_when_the_eager_window_is_free);
	tcase_add_test(tests, a_small_message_goes_when_the_large_one_before_it_is_given_up);
	tcase_add_test(tests, the_turn_of_a_kv_that_is_closed_comes_to_the_next);
	tcase_add_test(tests, a_kv_whose_turn_found_the_window_taken_keeps_its_place);
	tcase_add_test(tests, a_peer_that_announces_more_than_its_window_costs_its_own_connection);
	return run_tests("engine_windows", tests);
}
