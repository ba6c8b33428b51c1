/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_paged_hostile.c - a peer that has authenticated and does not keep to the protocol of paged
 * transfers. The near engine's own links say what no engine would say; it costs that connection, and
 * nothing is written but where the export allows it.
 */
#include "pages.h"

#include <stdlib.h>

#include "engine/core/conn.h"
#include "engine/paged/exports.h"
#include "engine/paged/staging.h"
#include "support/runner.h"

enum { SPAN_LEN = KVI_WIRE_SPAN_LEN };

static void say_on(unsigned lane, struct kvi_message message)
{
	struct kvi_link *link = &pages.bed.near.conn->links[lane];
	struct kvi_worker *worker = link->shard->worker;
	kvi_worker_lock(worker);
	kvi_link_send(link, &message);
	kvi_worker_flush(worker, KVI_FLUSH_ALL);
	kvi_worker_unlock(worker);
}

static void say(struct kvi_message message)
{
	say_on(0, message);
}

static void expect_forgiven(void)
{
	fill_pages(KVT_WRITE, 3);
	finish(start_blocks(KVT_WRITE, 3, "well", 0), KVT_OK);
	ck_assert(are_moved(KVT_WRITE, 3));
	expect_notification(pages.bed.far.engine, "well", KVT_OK);
	pages_close();
}

/* What the peer has written into the first staging buffer of the first lane. */
static void fill_buffer(struct kvi_wire_span span)
{
	uint8_t *buffer = pages.bed.far.conn->links[0].staging->in;
	memset(buffer, 0x77, SMALL_SEGMENT_LEN);
	kvi_wire_span_encode(&span, buffer);
}

static uint64_t get_id(void)
{
	return pages.exported->id;
}

/* ---- packs ---- */

static const struct kvi_wire_span bad_spans[] = {
	{ .extent = EXTENT_COUNT, .len = 1, .offset = 0 },
	{ .extent = UINT32_MAX, .len = 1, .offset = 0 },
	{ .extent = 0, .len = 1, .offset = BLOCK_COUNT * BLOCK_LEN },
	{ .extent = 0, .len = 2, .offset = BLOCK_COUNT * BLOCK_LEN - 1 },
	{ .extent = 1, .len = BLOCK_LEN + 1, .offset = (BLOCK_COUNT - 1) * (BLOCK_LEN + GAP_LEN) },
	{ .extent = 0, .len = 16, .offset = UINT64_MAX - 7 },
	{ .extent = 0, .len = 1, .offset = (uint64_t)1 << 63 },
	{ .extent = 0, .len = SMALL_SEGMENT_LEN - SPAN_LEN + 1, .offset = 0 },
	{ .extent = 0, .len = UINT32_MAX, .offset = 0 },
};
enum { BAD_SPANS = sizeof(bad_spans) / sizeof(bad_spans[0]) };

START_TEST(a_span_outside_its_extent_or_buffer_is_refused)
{
	pages_open(PACKS | (_i >= BAD_SPANS ? MANY_LANES : 0));
	fill_buffer(bad_spans[_i % BAD_SPANS]);
	say((struct kvi_message){ .type = KVI_MESSAGE_PACK,
				  .pack = { .export_id = get_id(), .span_count = 1 } });
	expect_peer_refused();
}
END_TEST

START_TEST(a_pack_that_cannot_be_is_refused)
{
	static const struct {
		uint64_t buffer, span_count;
	} cases[] = {
		{ KVI_STAGING_BUFFERS, 0 },
		{ UINT64_MAX, 0 },
		{ 0, SMALL_SEGMENT_LEN / SPAN_LEN + 1 },
		{ 0, UINT64_MAX },
	};
	pages_open(PACKS);
	say((struct kvi_message){ .type = KVI_MESSAGE_PACK,
				  .pack = { .buffer = cases[_i].buffer,
					    .export_id = get_id(),
					    .span_count = cases[_i].span_count } });
	expect_peer_refused();
}
END_TEST

/* BLOCK_LEN bytes or fewer in extent 1, whose blocks stand apart. */
#define GRID_STRIDE (BLOCK_LEN + GAP_LEN)
#define EXTENT_1_LEN ((uint64_t)(BLOCK_COUNT - 1) * GRID_STRIDE + BLOCK_LEN)

static const struct {
	struct kvi_wire_grid grid;
	uint32_t number; /* of the second block; the first is 0 */
	uint64_t count;
} bad_grids[] = {
	{ { 1, 8, GRID_STRIDE }, BLOCK_COUNT, 2 },
	{ { 1, 8, GRID_STRIDE }, UINT32_MAX, 2 },
	{ { 1, BLOCK_LEN + 1, GRID_STRIDE }, BLOCK_COUNT - 1, 2 },
	{ { 1, 8, 8 }, (uint32_t)(EXTENT_1_LEN / 8), 2 },
	{ { 1, 8, EXTENT_1_LEN - 7 }, 1, 2 },
	{ { 1, 8, UINT64_MAX }, 1, 2 },
	{ { 1, 8, (uint64_t)1 << 63 }, 2, 2 }, /* their product is 0 */
	{ { EXTENT_COUNT, 8, 8 }, 0, 2 },
	{ { UINT32_MAX, 8, 8 }, 0, 2 },
	{ { 1, (uint32_t)EXTENT_1_LEN + 1, (uint32_t)EXTENT_1_LEN + 1 }, 0, 0 },
	{ { 1, 8, GRID_STRIDE }, 0, SMALL_SEGMENT_LEN / 12 + 1 },
	{ { 1, 1, GRID_STRIDE }, 0, SMALL_SEGMENT_LEN / 4 },
	{ { 1, 1, GRID_STRIDE }, 0, SMALL_SEGMENT_LEN / 4 + 1 },
	{ { 1, 1, GRID_STRIDE }, 0, UINT64_MAX },
	{ { 1, UINT32_MAX, UINT32_MAX }, 0, 1 },
};
enum { BAD_GRIDS = sizeof(bad_grids) / sizeof(bad_grids[0]) };

START_TEST(a_number_outside_its_grid_or_buffer_is_refused)
{
	pages_open(PACKS);
	uint8_t *buffer = pages.bed.far.conn->links[0].staging->in;
	memset(buffer, CANARY, SMALL_SEGMENT_LEN);
	kvi_wire_number_encode(0, buffer);
	kvi_wire_number_encode(bad_grids[_i].number, buffer + KVI_WIRE_NUMBER_LEN);
	say((struct kvi_message){ .type = KVI_MESSAGE_PACK,
				  .pack = { .export_id = get_id(),
					    .span_count = bad_grids[_i].count,
					    .grid = bad_grids[_i].grid } });
	expect_peer_refused();
}
END_TEST

START_TEST(a_pack_where_no_buffers_were_offered_is_refused)
{
	pages_open(0);
	say((struct kvi_message){ .type = KVI_MESSAGE_PACK, .pack.export_id = get_id() });
	expect_peer_refused();
}
END_TEST

START_TEST(a_pack_for_an_export_that_may_only_be_read_is_refused)
{
	struct kvt_export *read_only;
	pages_open(PACKS);
	ck_assert_int_eq(kvt_export_open(pages.bed.far.conn, pages.far, KVT_ACCESS_READ, NULL,
					 &read_only, NULL),
			 KVT_OK);
	fill_buffer((struct kvi_wire_span){ .extent = 0, .len = 64, .offset = 0 });
	say((struct kvi_message){
		.type = KVI_MESSAGE_PACK,
		.pack = { .export_id = read_only->id, .span_count = 1 },
	});
	wait_until(kvt_conn_get_status(pages.bed.far.conn, NULL) != KVT_OK);
	kvt_export_close(read_only);
	expect_peer_refused();
}
END_TEST

START_TEST(a_pack_for_no_export_is_dropped)
{
	pages_open(PACKS);
	fill_buffer((struct kvi_wire_span){ .extent = 0, .len = 64, .offset = 0 });
	/* Its number is one that will never be: the near engine would take no PACK_ACK for it. */
	pages.bed.near.conn->links[0].staging->buffers_free--;
	pages.bed.near.conn->links[0].staging->next_buffer++;
	say((struct kvi_message){ .type = KVI_MESSAGE_PACK,
				  .pack = { .export_id = 4711, .span_count = 1 } });
	rest(20 * KVI_MS);
	ck_assert(holds_only(pages.far_memory, PAGES_LEN, CANARY));
	expect_forgiven();
}
END_TEST

/* ---- read requests ---- */

/* With an engine that reads, as the peer's staging buffers are needed for an answer. */
static void open_reading(unsigned way)
{
	pages_open(PACKS | way);
	finish(start_blocks(KVT_READ, 2, NULL, 0), KVT_OK);
}

static void send_read(uint64_t id, const struct kvi_wire_span *span, size_t len)
{
	uint8_t bytes[2 * SPAN_LEN] = { 0 };
	kvi_wire_span_encode(span, bytes);
	say((struct kvi_message){
		.type = KVI_MESSAGE_READ,
		.read = { .export_id = id, .spans = { bytes, len } },
	});
}

START_TEST(a_read_request_for_what_is_not_there_is_refused)
{
	open_reading(_i >= BAD_SPANS ? MANY_LANES : 0);
	struct kvi_wire_span span = bad_spans[_i % BAD_SPANS];
	if (span.len == SMALL_SEGMENT_LEN - SPAN_LEN + 1)
		span.len = SMALL_SEGMENT_LEN + 1; /* an answer has no spans in it */
	send_read(get_id(), &span, SPAN_LEN);
	expect_peer_refused();
}
END_TEST

START_TEST(a_read_request_that_is_none_is_refused)
{
	static const size_t lens[] = { 0, 1, SPAN_LEN - 1, SPAN_LEN + 1 };
	open_reading(0);
	send_read(get_id(), &(struct kvi_wire_span){ .len = 1 }, lens[_i]);
	expect_peer_refused();
}
END_TEST

START_TEST(a_read_request_without_staging_buffers_for_the_answer_is_refused)
{
	pages_open(0);
	send_read(get_id(), &(struct kvi_wire_span){ .len = 1 }, SPAN_LEN);
	expect_peer_refused();
}
END_TEST

START_TEST(a_read_request_for_an_export_that_may_only_be_written_is_refused)
{
	struct kvt_export *write_only;
	open_reading(0);
	ck_assert_int_eq(kvt_export_open(pages.bed.far.conn, pages.far, KVT_ACCESS_WRITE, NULL,
					 &write_only, NULL),
			 KVT_OK);
	send_read(write_only->id, &(struct kvi_wire_span){ .len = 64 }, SPAN_LEN);
	wait_until(kvt_conn_get_status(pages.bed.far.conn, NULL) != KVT_OK);
	kvt_export_close(write_only);
	expect_peer_refused();
}
END_TEST

/* ---- what must not be said, or not now ---- */

static const struct kvi_message bad_messages[] = {
	{ .type = KVI_MESSAGE_PACK_ACK, .pack_ack.buffer_count = 0 },
	{ .type = KVI_MESSAGE_PACK_ACK, .pack_ack.buffer_count = 1 },
	{ .type = KVI_MESSAGE_PACK_ACK, .pack_ack.buffer_count = UINT64_MAX },
	{ .type = KVI_MESSAGE_WITHDRAWN, .withdraw.export_id = 1 }, /* it is not withdrawn */
	{ .type = KVI_MESSAGE_WITHDRAWN, .withdraw.export_id = 99 },
	{ .type = KVI_MESSAGE_FILLED, .filled.number = 0 },
	{ .type = KVI_MESSAGE_FILLED, .filled.number = UINT64_MAX },
	{ .type = KVI_MESSAGE_DROPPED, .dropped.number = 1 },
	{ .type = KVI_MESSAGE_STAGING, .staging = { .buffer_count = 0, .buffer_len = 4096 } },
	{ .type = KVI_MESSAGE_STAGING,
	  .staging = { .buffer_count = KVI_STAGING_BUFFERS_MAX + 1, .buffer_len = 4096 } },
	{ .type = KVI_MESSAGE_STAGING, .staging = { .buffer_count = 1, .buffer_len = SPAN_LEN } },
	{ .type = KVI_MESSAGE_STAGING, .staging = { .buffer_count = 1, .buffer_len = UINT64_MAX } },
};
enum { BAD_MESSAGES = sizeof(bad_messages) / sizeof(bad_messages[0]) };

START_TEST(what_answers_nothing_is_refused)
{
	pages_open(_i >= BAD_MESSAGES ? MANY_LANES : 0);
	say(bad_messages[_i % BAD_MESSAGES]);
	expect_peer_refused();
}
END_TEST

/* In common memory staging buffers are where both sides know it. */
START_TEST(buffers_beyond_common_memory_are_refused)
{
	static const struct kvi_message_staging cases[] = {
		{ .buffer_count = KVI_STAGING_BUFFERS + 1, .buffer_len = 4096 },
		{ .buffer_count = 1, .buffer_len = SMALL_SEGMENT_LEN + 1 },
	};
	pages_open(PACKS | COMMON);
	say((struct kvi_message){ .type = KVI_MESSAGE_STAGING, .staging = cases[_i] });
	expect_peer_refused();
}
END_TEST

START_TEST(buffers_are_offered_once)
{
	struct kvi_message staging = {
		.type = KVI_MESSAGE_STAGING,
		.staging = { .buffer_count = 2, .buffer_len = 4096 },
	};
	pages_open(0);
	say(staging);
	rest(10 * KVI_MS);
	ck_assert_int_eq(kvt_conn_get_status(pages.bed.far.conn, NULL), KVT_OK);
	say(staging);
	expect_peer_refused();
}
END_TEST

START_TEST(a_withdrawal_is_confirmed_on_its_own_lane)
{
	pages_open(MANY_LANES);
	unsigned home = (unsigned)(get_id() % pages.bed.far.conn->lane_count);
	atomic_store(&pages.exported->state, KVI_EXPORT_CLOSING);
	say_on((home + 1) % pages.bed.far.conn->lane_count,
	       (struct kvi_message){ .type = KVI_MESSAGE_WITHDRAWN,
				     .withdraw.export_id = get_id() });
	wait_until(kvt_conn_get_status(pages.bed.far.conn, NULL) != KVT_OK);
	atomic_store(&pages.exported->state, KVI_EXPORT_OPEN);
	expect_peer_refused();
}
END_TEST

START_TEST(a_transfer_cannot_be_noted_before_it_says_so)
{
	struct kvt_pool *pool;
	struct kvt_export *exported;
	struct kvt_remote *remote;
	struct kvt_transfer *transfer;
	struct kvt_blocks_request request = KVT_BLOCKS_REQUEST_INIT;
	uint8_t bytes[1024];
	size_t len = sizeof(bytes);
	int32_t index = 0;
	pages_open(0);
	/* The other way around: the far engine writes, and the near one claims to have got it. */
	uint8_t *memory = make_filled(PAGES_LEN, CANARY);
	pool = open_pool(pages.bed.near.engine, memory);
	ck_assert_int_eq(kvt_export_open(pages.bed.near.conn, pool, KVT_ACCESS_WRITE, NULL,
					 &exported, NULL),
			 KVT_OK);
	ck_assert_int_eq(kvt_export_describe(exported, bytes, &len), KVT_OK);
	ck_assert_int_eq(kvt_remote_import(pages.bed.far.conn, bytes, len, 0, &remote, NULL),
			 KVT_OK);
	request.pool = pages.far;
	request.remote = remote;
	request.local_idx = request.remote_idx = &index;
	request.index_len = 4;
	request.count = 1;
	/* Not told: the provider has no room for its only segment. */
	fake_fail_post(FAKE_WRITE, 1, KVT_E_AGAIN);
	fake_hold(FAKE_WRITE | FAKE_SEND);
	ck_assert_int_eq(kvt_blocks_start(&request, &transfer, NULL), KVT_OK);
	fake_hold(FAKE_WRITE);
	say((struct kvi_message){ .type = KVI_MESSAGE_NOTED, .sync.transfer = 5 });
	rest(20 * KVI_MS);
	ck_assert_int_eq(kvt_conn_get_status(pages.bed.far.conn, NULL), KVT_OK);
	ck_assert(!kvt_transfer_is_done(transfer));
	fake_hold(0);
	finish(transfer, KVT_OK);
	ck_assert_mem_eq(memory, pages.far_memory, BLOCK_LEN);
	kvt_remote_close(remote);
	kvt_export_close(exported);
	kvt_pool_close(pool);
	free(memory);
	expect_forgiven();
}
END_TEST

/* ---- floods ---- */

/* As many as a lane takes, and the next when one was answered: kvi_import_on_answer() counts those of the lane. */
static bool take_turn(void)
{
	struct kvi_link *link = &pages.bed.near.conn->links[0];
	kvi_worker_lock(link->shard->worker);
	bool may = link->questions_out < KVI_QUESTIONS_MAX;
	link->questions_out += may;
	kvi_worker_unlock(link->shard->worker);
	return may;
}

START_TEST(queries_without_end_are_answered_and_leave_nothing)
{
	pages_open((unsigned)_i);
	for (uint64_t i = 0; i < 4000; i++) {
		wait_until(take_turn());
		say(i % 2 == 0
			    ? (struct kvi_message){ .type = KVI_MESSAGE_ATTACH,
						    .attach = { 1000000 + i, 1000 + i } }
			    : (struct kvi_message){
				      .type = KVI_MESSAGE_FIND,
				      .find = { .number = 1000000 + i,
						.name = { (const uint8_t *)"no such name", 12 } },
			      });
	}
	expect_forgiven();
}
END_TEST

START_TEST(answers_that_nobody_asked_for_are_ignored)
{
	pages_open((unsigned)_i);
	for (uint64_t i = 0; i < 100; i++) {
		say((struct kvi_message){ .type = KVI_MESSAGE_ATTACHED, .attached.number = i });
		say((struct kvi_message){ .type = KVI_MESSAGE_FOUND,
					  .found = { .number = i, .export_id = 1 } });
		say((struct kvi_message){
			.type = KVI_MESSAGE_NO_EXPORT,
			.no_export = { .number = i, .code = KVT_E_WITHDRAWN },
		});
		say((struct kvi_message){ .type = KVI_MESSAGE_NOTED, .sync.transfer = i });
		say((struct kvi_message){ .type = KVI_MESSAGE_SYNC, .sync.transfer = i });
		say((struct kvi_message){ .type = KVI_MESSAGE_WITHDRAW,
					  .withdraw.export_id = 50 + i });
	}
	/* The answers to the last would be refused: they answer nothing of ours. */
	rest(50 * KVI_MS);
	ck_assert(holds_only(pages.far_memory, PAGES_LEN, CANARY));
	ck_assert(kvt_conn_get_status(pages.bed.far.conn, NULL) != KVT_E_PROTOCOL);
	wait_until(kvt_conn_get_status(pages.bed.near.conn, NULL) == KVT_E_PROTOCOL);
	expect_new_pages();
	pages_close();
}
END_TEST

static const struct kvi_message charged[] = {
	{ .type = KVI_MESSAGE_NOTIFY },
	{ .type = KVI_MESSAGE_NOTIFY_FAILED, .notify.code = KVT_E_TIMEOUT },
	{ .type = KVI_MESSAGE_EAGER, .tag = 7 },
};

/* Nobody takes them; what a peer may make us keep is its window. */
START_TEST(more_than_the_window_is_refused)
{
	enum { SHORT_LEN = 4096, COUNT = KVI_LANE_WINDOW / SHORT_LEN };
	uint8_t *bytes = make_filled(SHORT_LEN, 1);
	pages_open(0);
	for (uint64_t i = 0; i < COUNT; i++) {
		struct kvi_message message = charged[_i];
		if (message.type == KVI_MESSAGE_EAGER)
			message.eager.seq = i;
		else
			message.notify.transfer = i;
		*kvi_message_get_data(&message) = (struct kvi_view){ bytes, SHORT_LEN };
		say(message);
		/* Its answers come back to an engine that has sent nothing, and are no errors. */
		if (i % 32 == 0)
			rest(KVI_MS);
	}
	free(bytes);
	expect_peer_refused();
}
END_TEST

START_TEST(a_notification_has_its_limit)
{
	uint8_t *bytes = make_filled(KVT_NOTIFY_LEN_MAX + 1, 1);
	pages_open(0);
	say((struct kvi_message){
		.type = KVI_MESSAGE_NOTIFY,
		.notify.data = { bytes, KVT_NOTIFY_LEN_MAX + 1 },
	});
	free(bytes);
	expect_peer_refused();
}
END_TEST

static const uint8_t ten_bytes[10];

#define BEGIN(number, length)                                                                      \
	{                                                                                          \
		.type = KVI_MESSAGE_NOTIFY_BEGIN, .notify_begin = {(number), (length) }            \
	}
#define PART(number, length)                                                                       \
	{                                                                                          \
		.type = KVI_MESSAGE_NOTIFY_PART, .notify_part = {                                  \
			(number),                                                                  \
			{ ten_bytes, (length) }                                                    \
		}                                                                                  \
	}
#define END(number, length)                                                                        \
	{                                                                                          \
		.type = KVI_MESSAGE_NOTIFY, .notify = {                                            \
			.transfer = (number),                                                      \
			.data = { ten_bytes, (length) }                                            \
		}                                                                                  \
	}

static const struct kvi_message bad_parts[][4] = {
	{ BEGIN(7, 0) },
	{ BEGIN(7, KVT_NOTIFY_LEN_MAX + 1) },
	{ BEGIN(7, UINT64_MAX) },
	{ BEGIN(7, 20), BEGIN(7, 20) },
	{ BEGIN(7, 20), BEGIN(8, 20) },
	{ PART(7, 10) },
	{ BEGIN(7, 20), PART(8, 10) },
	{ BEGIN(7, 20), PART(7, 0) },
	{ BEGIN(7, 9), PART(7, 10) },
	{ BEGIN(7, 10), PART(7, 10), PART(7, 1) },
	{ BEGIN(7, 20), PART(7, 10), END(7, 0) },
	{ BEGIN(7, 20), PART(7, 10), END(7, 10) },
	{ BEGIN(7, 10), PART(7, 10), END(8, 0) },
	{ BEGIN(7, 20), END(8, 3) },
	{ { .type = KVI_MESSAGE_NOTIFY_DROP, .notify_drop.transfer = 7 } },
	{ BEGIN(7, 20), { .type = KVI_MESSAGE_NOTIFY_DROP, .notify_drop.transfer = 8 } },
};
enum { BAD_PARTS = sizeof(bad_parts) / sizeof(bad_parts[0]) };

START_TEST(parts_that_are_no_notification_are_refused)
{
	pages_open(0);
	for (unsigned i = 0; i < 4 && bad_parts[_i][i].type != 0; i++)
		say(bad_parts[_i][i]);
	expect_peer_refused();
}
END_TEST

START_TEST(a_notification_that_is_begun_takes_the_window_for_all_of_it)
{
	enum { SHORT_LEN = 4096, COUNT = 260 };
	uint8_t *bytes = make_filled(SHORT_LEN, 1);
	pages_open(0);
	for (uint64_t i = 0; i < COUNT; i++) {
		say((struct kvi_message){
			.type = KVI_MESSAGE_NOTIFY,
			.notify = { .transfer = i, .data = { bytes, SHORT_LEN } } });
		if (i % 32 == 0)
			rest(KVI_MS);
	}
	wait_until(get_stats(pages.bed.far.engine).notifications == COUNT);
	ck_assert_int_eq(kvt_conn_get_status(pages.bed.far.conn, NULL), KVT_OK);
	say((struct kvi_message)BEGIN(COUNT, KVT_NOTIFY_LEN_MAX));
	free(bytes);
	expect_peer_refused();
}
END_TEST

/* What a message takes of the window of lane 0, which saying it by hand does not count. */
static void pay(uint32_t charge)
{
	struct kvi_link *link = &pages.bed.near.conn->links[0];
	kvi_worker_lock(link->shard->worker);
	link->window_left -= charge;
	kvi_worker_unlock(link->shard->worker);
}

static uint64_t get_window_left(void)
{
	struct kvi_link *link = &pages.bed.near.conn->links[0];
	kvi_worker_lock(link->shard->worker);
	uint64_t left = link->window_left;
	kvi_worker_unlock(link->shard->worker);
	return left;
}

/* All of them together are several windows. */
START_TEST(a_notification_whose_parts_are_dropped_gives_its_window_back)
{
	pages_open(0);
	for (uint64_t i = 0; i < 20; i++) {
		wait_until(get_window_left() >= KVT_NOTIFY_LEN_MAX / 2);
		pay(KVT_NOTIFY_LEN_MAX / 2);
		say((struct kvi_message)BEGIN(i, KVT_NOTIFY_LEN_MAX / 2));
		say((struct kvi_message)PART(i, 10));
		say((struct kvi_message){ .type = KVI_MESSAGE_NOTIFY_DROP,
					  .notify_drop.transfer = i });
	}
	finish(start_notify(pages.bed.near.conn, "after", 5), KVT_OK);
	expect_notification(pages.bed.far.engine, "after", KVT_OK);
	expect_no_event(pages.bed.far.engine);
	pages_close();
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("paged_hostile");
	tcase_set_timeout(tests, 120);
	tcase_add_loop_test(tests, a_span_outside_its_extent_or_buffer_is_refused, 0,
			    2 * BAD_SPANS);
	tcase_add_loop_test(tests, a_pack_that_cannot_be_is_refused, 0, 4);
	tcase_add_loop_test(tests, buffers_beyond_common_memory_are_refused, 0, 2);
	tcase_add_loop_test(tests, a_number_outside_its_grid_or_buffer_is_refused, 0, BAD_GRIDS);
	tcase_add_test(tests, a_pack_where_no_buffers_were_offered_is_refused);
	tcase_add_test(tests, a_pack_for_an_export_that_may_only_be_read_is_refused);
	tcase_add_test(tests, a_pack_for_no_export_is_dropped);
	tcase_add_loop_test(tests, a_read_request_for_what_is_not_there_is_refused, 0,
			    2 * BAD_SPANS);
	tcase_add_loop_test(tests, a_read_request_that_is_none_is_refused, 0, 4);
	tcase_add_test(tests, a_read_request_without_staging_buffers_for_the_answer_is_refused);
	tcase_add_test(tests, a_read_request_for_an_export_that_may_only_be_written_is_refused);
	tcase_add_loop_test(tests, what_answers_nothing_is_refused, 0, 2 * BAD_MESSAGES);
	tcase_add_test(tests, buffers_are_offered_once);
	tcase_add_test(tests, a_withdrawal_is_confirmed_on_its_own_lane);
	tcase_add_test(tests, a_transfer_cannot_be_noted_before_it_says_so);
	tcase_add_loop_test(tests, queries_without_end_are_answered_and_leave_nothing, 0, 2);
	tcase_add_loop_test(tests, answers_that_nobody_asked_for_are_ignored, 0, 2);
	tcase_add_loop_test(tests, more_than_the_window_is_refused, 0, 3);
	tcase_add_test(tests, a_notification_has_its_limit);
	tcase_add_loop_test(tests, parts_that_are_no_notification_are_refused, 0, BAD_PARTS);
	tcase_add_test(tests, a_notification_that_is_begun_takes_the_window_for_all_of_it);
	tcase_add_test(tests, a_notification_whose_parts_are_dropped_gives_its_window_back);
	return run_tests("engine_paged_hostile", tests);
}
