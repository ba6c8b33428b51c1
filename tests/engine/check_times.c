/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_times.c - what a timeout_ns means, in every call: 0 its default, KVT_NOWAIT, KVT_FOREVER, and that
 * other negative numbers are refused.
 */
#include "pages.h"

#include <stdatomic.h>

#include "engine/core/engine.h"
#include "engine/transfer/transfer.h"
#include "support/runner.h"

/* A call that waits for what does not come. */
static enum kvt_err wait_conn(int64_t timeout_ns)
{
	struct kvt_conn *conn;
	return kvt_conn_accept(pages.bed.near.engine, timeout_ns, &conn, NULL);
}

static enum kvt_err wait_event(int64_t timeout_ns)
{
	return kvt_engine_wait(pages.bed.near.engine, timeout_ns);
}

static enum kvt_err wait_remote(int64_t timeout_ns)
{
	struct kvt_remote *remote;
	return kvt_remote_find(pages.bed.near.conn, "nothing", timeout_ns, &remote, NULL);
}

static struct kvt_kv *kv;
static uint8_t bytes[64];

static enum kvt_err wait_transfer(int64_t timeout_ns)
{
	struct kvt_transfer *receive = start_recv(kv, bytes, sizeof(bytes));
	enum kvt_err err = kvt_transfer_wait(receive, timeout_ns);
	kvt_transfer_free(receive);
	return err;
}

/* A request whose transfer does not come to an end. */
static enum kvt_err start_recv_for(int64_t timeout_ns, struct kvt_transfer **transfer)
{
	struct kvt_recv_request request = KVT_RECV_REQUEST_INIT;
	request.base = bytes;
	request.len = sizeof(bytes);
	request.timeout_ns = timeout_ns;
	return kvt_recv_start(kv, &request, transfer, NULL);
}

static enum kvt_err start_send_for(int64_t timeout_ns, struct kvt_transfer **transfer)
{
	static uint8_t large[LARGE_LEN];
	struct kvt_send_request request = KVT_SEND_REQUEST_INIT;
	request.base = large;
	request.len = sizeof(large);
	request.timeout_ns = timeout_ns;
	return kvt_send_start(kv, &request, transfer, NULL);
}

static enum kvt_err start_blocks_for(int64_t timeout_ns, struct kvt_transfer **transfer)
{
	static const int32_t indices[] = { 0 };
	struct kvt_blocks_request request = KVT_BLOCKS_REQUEST_INIT;
	request.pool = pages.near;
	request.remote = pages.remote;
	request.local_idx = indices;
	request.remote_idx = indices;
	request.index_len = sizeof(indices[0]);
	request.count = 1;
	request.timeout_ns = timeout_ns;
	return kvt_blocks_start(&request, transfer, NULL);
}

static enum kvt_err start_spans_for(int64_t timeout_ns, struct kvt_transfer **transfer)
{
	static const uint64_t offsets[] = { 0 }, lens[] = { 64 };
	struct kvt_spans_request request = KVT_SPANS_REQUEST_INIT;
	request.pool = pages.near;
	request.remote = pages.remote;
	request.local_off = offsets;
	request.remote_off = offsets;
	request.lens = lens;
	request.count = 1;
	request.timeout_ns = timeout_ns;
	return kvt_spans_start(&request, transfer, NULL);
}

static enum kvt_err start_notify_for(int64_t timeout_ns, struct kvt_transfer **transfer)
{
	struct kvt_notify_request request = KVT_NOTIFY_REQUEST_INIT;
	request.conn = pages.bed.near.conn;
	request.timeout_ns = timeout_ns;
	return kvt_notify_start(&request, transfer, NULL);
}

static enum kvt_err (*const waits[])(int64_t) = { wait_conn, wait_event, wait_transfer,
						  wait_remote };
/* The first three have no limit of their own. */
enum {
	ENDLESS_COUNT = 3,
	WAIT_COUNT = sizeof(waits) / sizeof(waits[0]),
};

/* The hook ends a wait: a call that has not waited so long has another error. */
static atomic_int hook_count;
static int interrupt(void *arg)
{
	(void)arg;
	return atomic_fetch_add(&hook_count, 1) + 1 >= 3;
}

static bool is_time(enum kvt_err err)
{
	return err == KVT_E_TIMEOUT || err == KVT_E_AGAIN;
}

START_TEST(nowait_does_not_wait)
{
	ck_assert(is_time(waits[_i](KVT_NOWAIT)));
	ck_assert_int_eq(atomic_load(&hook_count), 0);
}
END_TEST

START_TEST(zero_and_forever_wait_until_interrupted)
{
	const int64_t times[] = { 0, KVT_FOREVER };
	for (int i = 0; i < 2; i++) {
		atomic_store(&hook_count, 0);
		enum kvt_err err = waits[_i](times[i]);
		ck_assert(err == KVT_E_CANCELLED || err == KVT_E_AGAIN);
		ck_assert_int_ge(atomic_load(&hook_count), 3);
	}
}
END_TEST

START_TEST(other_negative_numbers_are_refused_by_all_that_wait)
{
	const int64_t times[] = { -1, -2, INT64_MIN + 1 };
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(waits[_i](times[i]), KVT_E_INVALID);
	ck_assert_int_eq(atomic_load(&hook_count), 0);
}
END_TEST

static const struct {
	enum kvt_err (*start)(int64_t timeout_ns, struct kvt_transfer **transfer);
	int64_t default_ns;
} kinds[] = {
	{ start_recv_for, KVT_FOREVER },   { start_send_for, KVI_SEND_NS },
	{ start_blocks_for, KVI_SEND_NS }, { start_spans_for, KVI_SEND_NS },
	{ start_notify_for, KVI_SEND_NS },
};

enum { KIND_COUNT = sizeof(kinds) / sizeof(kinds[0]) };

START_TEST(a_transfer_has_the_deadline_that_was_asked_for)
{
	const struct {
		int64_t timeout_ns;
		int64_t means_ns;
	} rows[] = {
		{ 0, kinds[_i].default_ns },
		{ KVT_NOWAIT, 0 },
		{ 5 * KVI_SECOND, 5 * KVI_SECOND },
		{ KVT_FOREVER, KVT_FOREVER },
	};
	for (int i = 0; i < 4; i++) {
		struct kvt_transfer *transfer;
		int64_t before_ns = kvi_deadline_after(rows[i].means_ns);
		ck_assert_int_eq(kinds[_i].start(rows[i].timeout_ns, &transfer), KVT_OK);
		ck_assert_int_ge(transfer->deadline_ns, before_ns);
		ck_assert_int_le(transfer->deadline_ns, kvi_deadline_after(rows[i].means_ns));
		kvt_transfer_free(transfer);
	}
}
END_TEST

START_TEST(other_negative_numbers_are_refused_by_all_that_start)
{
	const int64_t times[] = { -1, -2, INT64_MIN + 1 };
	struct kvt_transfer *transfer = NULL;
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(kinds[_i].start(times[i], &transfer), KVT_E_INVALID);
	ck_assert_ptr_null(transfer);
}
END_TEST

static void set_up(void)
{
	pages_open(0);
	kv = open_kv(pages.bed.near.conn, 7);
	atomic_store(&hook_count, 0);
	pages.bed.near.engine->settings.interrupted = interrupt;
}

static void tear_down(void)
{
	pages.bed.near.engine->settings.interrupted = NULL;
	kvt_kv_close(kv);
	pages_close();
}

int main(void)
{
	TCase *tests = tcase_create("times");
	tcase_set_timeout(tests, 60);
	tcase_add_checked_fixture(tests, set_up, tear_down);
	tcase_add_loop_test(tests, nowait_does_not_wait, 0, WAIT_COUNT);
	tcase_add_loop_test(tests, zero_and_forever_wait_until_interrupted, 0, ENDLESS_COUNT);
	tcase_add_loop_test(tests, other_negative_numbers_are_refused_by_all_that_wait, 0,
			    WAIT_COUNT);
	tcase_add_loop_test(tests, a_transfer_has_the_deadline_that_was_asked_for, 0, KIND_COUNT);
	tcase_add_loop_test(tests, other_negative_numbers_are_refused_by_all_that_start, 0,
			    KIND_COUNT);
	return run_tests("times", tests);
}
