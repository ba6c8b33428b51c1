/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_carried.c - small writes, whose bytes travel in a message in front of their notification: when that
 * is done, what a peer may not say with it, and that giving up such a write is like giving up any other.
 */
#include "pages.h"

#include <stdio.h>
#include <stdlib.h>

#include "engine/core/conn.h"
#include "engine/paged/exports.h"
#include "engine/paged/paged.h"
#include "support/runner.h"

/* CARRIED_MOST: of bytes and the spans that name them, as carried.c has it. */
enum { SPAN_LEN = KVI_WIRE_SPAN_LEN, CARRIED_MOST = 2048, STEP = 3 * BLOCK_LEN };

/* Spans of len bytes each from place on, STEP apart there and half as much here, so that none follows another. */
static struct kvt_transfer *start_spans_within(size_t place, size_t count, uint64_t len,
					       const char *notify, int64_t timeout_ns)
{
	struct kvt_spans_request request = KVT_SPANS_REQUEST_INIT;
	uint64_t local[32], remote[32], lens[32];
	struct kvt_transfer *transfer;
	struct kvt_error error;
	for (size_t i = 0; i < count; i++) {
		local[i] = place + i * (STEP / 2);
		remote[i] = place + i * STEP;
		lens[i] = len;
	}
	request.pool = pages.near;
	request.remote = pages.remote;
	request.local_off = local;
	request.remote_off = remote;
	request.lens = lens;
	request.count = count;
	request.notify = notify;
	request.notify_len = notify == NULL ? 0 : strlen(notify);
	request.timeout_ns = timeout_ns;
	enum kvt_err err = kvt_spans_start(&request, &transfer, &error);
	ck_assert_msg(err == KVT_OK, "no transfer: %s", error.text);
	return transfer;
}

static struct kvt_transfer *start_spans_at(size_t place, size_t count, uint64_t len,
					   const char *notify)
{
	return start_spans_within(place, count, len, notify, 0);
}

static struct kvt_transfer *start_spans(size_t count, uint64_t len, const char *notify)
{
	return start_spans_at(0, count, len, notify);
}

/* All of them, and nothing else. */
static bool are_there(size_t count, size_t len)
{
	uint8_t *expected = make_filled(PAGES_LEN, CANARY);
	for (size_t i = 0; i < count; i++)
		memcpy(expected + i * STEP, pages.near_memory + i * (STEP / 2), len);
	bool there = memcmp(expected, pages.far_memory, PAGES_LEN) == 0;
	free(expected);
	return there;
}

static const struct {
	size_t count;
	uint64_t len;
	const char *notify;
	bool carried;
} cases[] = {
	{ 1, 64, "told", true },
	{ 1, 1, "", true },
	{ 1, CARRIED_MOST - SPAN_LEN, "told", true },
	{ 1, CARRIED_MOST - SPAN_LEN + 1, "told", false },
	{ 1, CARRIED_MOST + 1, "told", false },
	{ 16, CARRIED_MOST / 16 - SPAN_LEN, "told", true },
	{ 16, CARRIED_MOST / 16 - SPAN_LEN + 1, "told", false },
	{ 16, 8, NULL, true },	/* more than an operation can carry */
	{ 1, 64, NULL, false }, /* the provider confirms it */
};
enum { CASES = sizeof(cases) / sizeof(cases[0]) };

START_TEST(a_small_write_with_something_said_of_it_needs_no_operation_of_its_own)
{
	for (size_t i = 0; i < CASES; i++) {
		pages_open((unsigned)_i);
		uint64_t placed = fake_get_counts().placed;
		struct kvt_transfer *transfer =
			start_spans(cases[i].count, cases[i].len, cases[i].notify);
		struct kvt_result result = await(transfer, KVT_OK);
		ck_assert_uint_eq(result.len, cases[i].count * cases[i].len);
		ck_assert_uint_ge(result.segments, 1);
		kvt_transfer_free(transfer);
		ck_assert_msg(are_there(cases[i].count, (size_t)cases[i].len), "case %zu", i);
		ck_assert_msg((fake_get_counts().placed == placed) == cases[i].carried, "case %zu",
			      i);
		if (cases[i].notify != NULL)
			expect_notification(pages.bed.far.engine, cases[i].notify, KVT_OK);
		expect_no_event(pages.bed.far.engine);
		pages_close();
	}
}
END_TEST

/* Small writes by their number: each has its own place, so that none waits for another to be looked at. */
enum { NUMBERED = 500, NUMBERED_LEN_MAX = STEP / 2 / NUMBERED };

static size_t get_span_count(unsigned number)
{
	return 1 + number % 20;
}

static size_t get_span_len(unsigned number)
{
	return 1 + number % NUMBERED_LEN_MAX;
}

static struct kvt_transfer *start_numbered(unsigned number)
{
	char text[16];
	snprintf(text, sizeof(text), "%u", number);
	return start_spans_at((size_t)number * NUMBERED_LEN_MAX, get_span_count(number),
			      get_span_len(number), text);
}

/* The next notification's write is there as a whole. */
static void expect_numbered(void)
{
	char text[16] = "";
	struct kvt_event *event = await_event(pages.bed.far.engine, KVT_EVENT_NOTIFICATION);
	ck_assert_int_eq(event->err, KVT_OK);
	ck_assert_uint_lt(event->len, sizeof(text));
	memcpy(text, event->data, event->len);
	kvt_event_free(event);
	unsigned number = (unsigned)strtoul(text, NULL, 10);
	size_t place = (size_t)number * NUMBERED_LEN_MAX;
	for (size_t i = 0; i < get_span_count(number); i++)
		ck_assert_mem_eq(pages.far_memory + place + i * STEP,
				 pages.near_memory + place + i * (STEP / 2), get_span_len(number));
}

/* Much more than there are credits, or window, for. */
START_TEST(each_notification_of_many_small_writes_finds_its_bytes)
{
	enum { ROUNDS = 6 };
	struct kvt_transfer *transfers[NUMBERED];
	pages_open((unsigned)_i);
	for (unsigned round = 0; round < ROUNDS; round++) {
		memset(pages.far_memory, CANARY, PAGES_LEN);
		for (unsigned i = 0; i < NUMBERED; i++)
			transfers[i] = start_numbered(i);
		for (unsigned i = 0; i < NUMBERED; i++)
			expect_numbered();
		for (unsigned i = 0; i < NUMBERED; i++)
			finish(transfers[i], KVT_OK);
	}
	pages_close();
}
END_TEST

/* ---- giving up ---- */

START_TEST(nothing_of_a_small_write_lands_once_it_has_ended)
{
	pages_open((unsigned)_i);
	fake_hold(FAKE_SEND);
	struct kvt_transfer *transfer = start_spans(3, 64, "told");
	fake_trickle(true);
	kvt_transfer_cancel(transfer);
	expect_pending(transfer, 50 * KVI_MS);
	fake_hold(0);
	/* All of it was on its way, and has arrived; or it was cancelled before it was sent. */
	struct kvt_result result = KVT_RESULT_INIT;
	await_end(transfer);
	kvt_transfer_get_result(transfer, &result);
	ck_assert(result.err == KVT_OK || result.err == KVT_E_CANCELLED);
	kvt_transfer_free(transfer);
	expect_notification(pages.bed.far.engine, "told", result.err);
	memset(pages.far_memory, 0, PAGES_LEN);
	finish(start_blocks(KVT_WRITE, 5, NULL, 0), KVT_OK);
	pages_close();
}
END_TEST

/* The window is taken by notifications that nobody takes, so the bytes may go and the notification may not. */
START_TEST(a_small_write_whose_notification_finds_no_room_is_told_of_as_failed)
{
	enum { FILLERS = 5 };
	static const uint8_t filler[KVT_NOTIFY_LEN_MAX];
	struct kvt_transfer *fillers[FILLERS];
	pages_open((unsigned)_i);
	for (unsigned i = 0; i < FILLERS; i++)
		fillers[i] = start_notify(pages.bed.near.conn, filler, sizeof(filler));
	struct kvt_transfer *transfer = start_spans(1, 64, "told");
	kvt_transfer_cancel(transfer);
	struct kvt_event *event;
	unsigned came = 0;
	while (came < FILLERS) {
		if (kvt_engine_get_event(pages.bed.far.engine, &event) != KVT_OK) {
			kvt_engine_wait(pages.bed.far.engine, 10 * KVI_MS);
			continue;
		}
		came += event->len == sizeof(filler);
		ck_assert(event->len == sizeof(filler) || event->err != KVT_OK || are_there(1, 64));
		kvt_event_free(event);
	}
	for (unsigned i = 0; i < FILLERS; i++)
		finish(fillers[i], KVT_OK);
	await_end(transfer);
	kvt_transfer_free(transfer);
	ck_assert(are_there(1, 64) || holds_only(pages.far_memory, PAGES_LEN, CANARY));
	pages_close();
}
END_TEST

/* No packet gets away, so the later ones never have room; nothing is said of notifications where there is none. */
START_TEST(a_small_write_that_finds_no_room_in_time_says_what_could_not_be_done)
{
	enum { COUNT = 1000 };
	struct kvt_transfer *transfers[COUNT];
	pages_open(PACKS);
	fake_hold(FAKE_SEND);
	for (unsigned i = 0; i < COUNT; i++)
		transfers[i] = start_spans_within(0, 16, 8, i % 2 == 0 ? NULL : "told",
						  i < COUNT - 2 ? 0 : 50 * KVI_MS);
	for (unsigned i = COUNT - 2; i < COUNT; i++) {
		struct kvt_result result = await(transfers[i], KVT_E_TIMEOUT);
		const char *words = i % 2 == 0 ? "128 bytes could not be written"
					       : "has not taken its notifications";
		ck_assert_msg(strstr(result.text, words) != NULL, "%s", result.text);
	}
	fake_hold(0);
	for (unsigned i = 0; i < COUNT; i++)
		finish(transfers[i], i < COUNT - 2 ? KVT_OK : KVT_E_TIMEOUT);
	pages_close();
}
END_TEST

START_TEST(a_withdrawal_waits_for_small_writes_and_nothing_lands_behind_it)
{
	enum { COUNT = 200 };
	struct kvt_transfer *transfers[COUNT];
	pages_open((unsigned)_i);
	for (unsigned i = 0; i < COUNT; i++)
		transfers[i] = start_spans(1 + i % 8, 64, "told");
	kvt_export_close(pages.exported);
	pages.exported = NULL;
	memset(pages.far_memory, CANARY, PAGES_LEN);
	for (unsigned i = 0; i < COUNT; i++) {
		struct kvt_result result = KVT_RESULT_INIT;
		await_end(transfers[i]);
		kvt_transfer_get_result(transfers[i], &result);
		ck_assert(result.err == KVT_OK || result.err == KVT_E_WITHDRAWN);
		kvt_transfer_free(transfers[i]);
	}
	ck_assert(holds_only(pages.far_memory, PAGES_LEN, CANARY));
	pages_close();
}
END_TEST

/* ---- a peer that does not keep to the protocol ---- */

static void say(uint64_t export_id, const struct kvi_wire_span *spans, size_t span_count,
		size_t bytes_len)
{
	uint8_t data[CARRIED_MOST];
	memset(data, 0x77, sizeof(data));
	for (size_t i = 0; i < span_count; i++)
		kvi_wire_span_encode(&spans[i], data + i * SPAN_LEN);
	struct kvi_link *link = &pages.bed.near.conn->links[0];
	struct kvi_message message = {
		.type = KVI_MESSAGE_BLOCKS,
		.blocks = {
			.export_id = export_id,
			.span_count = span_count,
			.data = { data, span_count * SPAN_LEN + bytes_len },
		},
	};
	kvi_link_send_unlocked(link, &message);
}

static const struct {
	struct kvi_wire_span span;
	size_t bytes_len;
} bad[] = {
	{ { .extent = EXTENT_COUNT, .len = 1 }, 1 },
	{ { .extent = UINT32_MAX, .len = 1 }, 1 },
	{ { .extent = 0, .len = 1, .offset = BLOCK_COUNT * BLOCK_LEN }, 1 },
	{ { .extent = 0, .len = 2, .offset = BLOCK_COUNT * BLOCK_LEN - 1 }, 2 },
	{ { .extent = 0, .len = 16, .offset = UINT64_MAX - 7 }, 16 },
	{ { .extent = 0, .len = 65 }, 64 },
	{ { .extent = 0, .len = UINT32_MAX }, 64 },
	{ { .extent = 0, .len = 1 }, 0 },
};
enum { BAD = sizeof(bad) / sizeof(bad[0]) };

START_TEST(carried_bytes_outside_their_extent_or_message_are_refused)
{
	pages_open(_i >= BAD ? MANY_LANES : 0);
	say(pages.exported->id, &bad[_i % BAD].span, 1, bad[_i % BAD].bytes_len);
	expect_peer_refused();
}
END_TEST

START_TEST(carried_bytes_that_no_span_names_are_refused)
{
	const struct kvi_wire_span none = { .extent = 0, .len = 0 };
	pages_open(0);
	say(pages.exported->id, &none, 1, 1);
	expect_peer_refused();
}
END_TEST

START_TEST(carried_bytes_for_an_export_that_may_only_be_read_are_refused)
{
	const struct kvi_wire_span span = { .extent = 0, .len = 64 };
	struct kvt_export *read_only;
	pages_open(PACKS);
	ck_assert_int_eq(kvt_export_open(pages.bed.far.conn, pages.far, KVT_ACCESS_READ, NULL,
					 &read_only, NULL),
			 KVT_OK);
	say(read_only->id, &span, 1, 64);
	wait_until(kvt_conn_get_status(pages.bed.far.conn, NULL) != KVT_OK);
	kvt_export_close(read_only);
	expect_peer_refused();
}
END_TEST

START_TEST(carried_bytes_for_no_export_are_dropped)
{
	const struct kvi_wire_span span = { .extent = 0, .len = 64 };
	pages_open(0);
	say(4711, &span, 1, 64);
	finish(start_notify(pages.bed.near.conn, "behind", 6), KVT_OK);
	expect_notification(pages.bed.far.engine, "behind", KVT_OK);
	ck_assert(holds_only(pages.far_memory, PAGES_LEN, CANARY));
	finish(start_spans(1, 64, "well"), KVT_OK);
	expect_notification(pages.bed.far.engine, "well", KVT_OK);
	ck_assert(are_there(1, 64));
	pages_close();
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("carried writes");
	tcase_set_timeout(tests, 60);
	tcase_add_loop_test(tests,
			    a_small_write_with_something_said_of_it_needs_no_operation_of_its_own,
			    0, MAIN_WAYS);
	tcase_add_loop_test(tests, each_notification_of_many_small_writes_finds_its_bytes, 0,
			    MAIN_WAYS);
	tcase_add_loop_test(tests, nothing_of_a_small_write_lands_once_it_has_ended, 0, MAIN_WAYS);
	tcase_add_loop_test(tests,
			    a_small_write_whose_notification_finds_no_room_is_told_of_as_failed, 0,
			    MAIN_WAYS);
	tcase_add_test(tests, a_small_write_that_finds_no_room_in_time_says_what_could_not_be_done);
	tcase_add_loop_test(tests, a_withdrawal_waits_for_small_writes_and_nothing_lands_behind_it,
			    0, MAIN_WAYS);
	tcase_add_loop_test(tests, carried_bytes_outside_their_extent_or_message_are_refused, 0,
			    2 * BAD);
	tcase_add_test(tests, carried_bytes_that_no_span_names_are_refused);
	tcase_add_test(tests, carried_bytes_for_an_export_that_may_only_be_read_are_refused);
	tcase_add_test(tests, carried_bytes_for_no_export_are_dropped);
	return run_tests("engine_carried", tests);
}
