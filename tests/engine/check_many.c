/* SPDX-License-Identifier: Apache-2.0 */
/* check_many.c - what 20,000 transfers in flight do when some of them fail, in their order and out of it. */
#define _GNU_SOURCE 1 /* pthread_setattr_default_np */
#include "bed.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/error.h"
#include "engine/lane/registration.h"
#include "support/runner.h"

enum { COUNT = 20000, FAR_APART = 7919 /* prime: i * FAR_APART % COUNT is each number once */ };

static struct bed bed;
static struct kvt_kv *near, *far;
static struct kvt_transfer *sends[COUNT], *receives[COUNT], *others[COUNT];
static uint32_t sources[COUNT], targets[COUNT];

static void open_many(size_t eager_len)
{
	struct kvt_engine_config config = make_config();
	config.eager_len = eager_len;
	bed_open(&bed, &config);
	near = open_kv(bed.near.conn, 7);
	far = open_kv(bed.far.conn, 7);
	for (uint32_t i = 0; i < COUNT; i++) {
		sources[i] = i;
		targets[i] = UINT32_MAX;
	}
}

static void close_many(void)
{
	kvt_kv_close(near);
	kvt_kv_close(far);
	bed_close(&bed);
}

static struct kvt_transfer *start_notify(const void *bytes, size_t len)
{
	struct kvt_notify_request request = KVT_NOTIFY_REQUEST_INIT;
	struct kvt_transfer *transfer;
	request.conn = bed.near.conn;
	request.notify = bytes;
	request.notify_len = len;
	ck_assert_int_eq(kvt_notify_start(&request, &transfer, NULL), KVT_OK);
	return transfer;
}

/* Of one that has ended. */
static enum kvt_err get_outcome(const struct kvt_transfer *transfer)
{
	struct kvt_result result = KVT_RESULT_INIT;
	ck_assert_int_eq(kvt_transfer_get_result(transfer, &result), KVT_OK);
	return result.err;
}

static bool is_given_up(uint32_t i)
{
	return i % 3 == 1;
}

/* Give every third up, far from each other. */
static void give_up_some(struct kvt_transfer *const *transfers)
{
	for (uint32_t i = 0; i < COUNT; i++) {
		uint32_t at = (uint32_t)((uint64_t)i * FAR_APART % COUNT);
		if (is_given_up(at))
			kvt_transfer_cancel(transfers[at]);
	}
}

START_TEST(messages_that_are_given_up_leave_the_others_in_their_order)
{
	open_many(KVT_NO_EAGER);
	for (uint32_t i = 0; i < COUNT; i++)
		sends[i] = start_send(near, &sources[i], sizeof(sources[i]));
	give_up_some(sends);
	for (uint32_t i = 0; i < COUNT; i++)
		if (is_given_up(i))
			finish(sends[i], KVT_E_CANCELLED);
	/* Behind what was said of them on the only lane. */
	struct kvt_kv *near_other = open_kv(bed.near.conn, 8),
		      *far_other = open_kv(bed.far.conn, 8);
	exchange(near_other, far_other, 10, 1);
	kvt_kv_close(near_other);
	kvt_kv_close(far_other);

	for (uint32_t i = 0; i < COUNT; i++)
		if (!is_given_up(i))
			receives[i] = start_recv(far, &targets[i], sizeof(targets[i]));
	for (uint32_t i = 0; i < COUNT; i++) {
		if (is_given_up(i))
			continue;
		finish(receives[i], KVT_OK);
		finish(sends[i], KVT_OK);
		ck_assert_uint_eq(targets[i], i);
	}
	close_many();
}
END_TEST

START_TEST(receives_that_are_given_up_lose_no_message)
{
	unsigned times[COUNT] = { 0 };
	uint32_t taken = 0;
	open_many(0);
	for (uint32_t i = 0; i < COUNT; i++)
		receives[i] = start_recv(far, &targets[i], sizeof(targets[i]));
	for (uint32_t i = 0; i < COUNT; i++)
		sends[i] = start_send(near, &sources[i], sizeof(sources[i]));
	give_up_some(receives);
	for (uint32_t i = 0; i < COUNT; i++) {
		/* One that is given up may have had its message already. */
		await_end(receives[i]);
		struct kvt_result result = KVT_RESULT_INIT;
		ck_assert_int_eq(kvt_transfer_get_result(receives[i], &result), KVT_OK);
		ck_assert_msg(result.err == KVT_OK ||
				      (is_given_up(i) && result.err == KVT_E_CANCELLED),
			      "receive %u ended with %s: %s", i, kvt_err_get_name(result.err),
			      result.text);
		if (result.err == KVT_OK) {
			times[targets[i]]++;
			taken++;
		}
		kvt_transfer_free(receives[i]);
	}
	while (taken < COUNT) {
		uint32_t target;
		finish(start_recv(far, &target, sizeof(target)), KVT_OK);
		times[target]++;
		taken++;
	}
	for (uint32_t i = 0; i < COUNT; i++) {
		finish(sends[i], KVT_OK);
		ck_assert_uint_eq(times[i], 1);
	}
	close_many();
}
END_TEST

START_TEST(notifications_that_are_given_up_leave_the_others_in_their_order)
{
	uint32_t last = 0, count = 0, succeeded = 0;
	open_many(0);
	for (uint32_t i = 0; i < COUNT; i++)
		sends[i] = start_notify(&sources[i], sizeof(sources[i]));
	give_up_some(sends);
	for (uint32_t done = 0; done < COUNT;) {
		struct kvt_event *event;
		while (kvt_engine_get_event(bed.far.engine, &event) == KVT_OK) {
			uint32_t number;
			memcpy(&number, event->data, sizeof(number));
			/* One that was given up is told of when it fails, or had been told before. */
			ck_assert(event->err == KVT_OK || is_given_up(number));
			ck_assert(event->err != KVT_OK || count == 0 || number > last);
			if (event->err == KVT_OK) {
				last = number;
				count++;
			}
			kvt_event_free(event);
		}
		if (kvt_transfer_wait(sends[done], KVI_MS) != KVT_OK)
			continue;
		enum kvt_err err = get_outcome(sends[done]);
		ck_assert(err == KVT_OK || is_given_up(done));
		succeeded += err == KVT_OK;
		kvt_transfer_free(sends[done++]);
	}
	ck_assert_uint_ge(count, succeeded);
	close_many();
}
END_TEST

START_TEST(all_that_is_in_flight_ends_once_with_the_connection)
{
	open_many(KVT_NO_EAGER);
	struct kvt_kv *near_other = open_kv(bed.near.conn, 8),
		      *far_other = open_kv(bed.far.conn, 8);
	for (uint32_t i = 0; i < COUNT; i++) {
		sends[i] = start_send(near, &sources[i], sizeof(sources[i]));
		receives[i] = start_recv(near_other, &targets[i], sizeof(targets[i]));
		others[i] = start_notify(&sources[i], sizeof(sources[i]));
	}
	give_up_some(receives);
	kvt_conn_close(bed.near.conn);
	bed.near.conn = NULL;
	for (uint32_t i = 0; i < COUNT; i++) {
		finish(sends[i], KVT_E_CLOSED);
		/* The connection may have ended first. */
		enum kvt_err err = get_outcome(receives[i]);
		ck_assert(err == KVT_E_CLOSED || (is_given_up(i) && err == KVT_E_CANCELLED));
		/* The first of them had come. */
		err = get_outcome(others[i]);
		ck_assert(err == KVT_OK || err == KVT_E_CLOSED);
		kvt_transfer_free(receives[i]);
		kvt_transfer_free(others[i]);
	}
	kvt_kv_close(near_other);
	kvt_kv_close(far_other);
	close_many();
}
END_TEST

/* Nothing can be registered any more: linked with --wrap=kvi_registration_open. */
static atomic_bool is_full;
__typeof__(kvi_registration_open) __real_kvi_registration_open, __wrap_kvi_registration_open;

enum kvt_err __wrap_kvi_registration_open(struct kvt_conn *conn, void *base, size_t len,
					  unsigned access, struct kvi_registration **registration,
					  struct kvt_error *error)
{
	if (atomic_load(&is_full))
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "the test lets nothing be registered");
	return __real_kvi_registration_open(conn, base, len, access, registration, error);
}

/* A call within each of COUNT calls takes more; threads under ThreadSanitizer begin with no less. */
enum { STACK_LEN = 2 * 1024 * 1024 };

START_TEST(receives_that_fail_one_after_the_other_take_no_more_stack_than_one)
{
	pthread_attr_t small, usual;
	ck_assert_int_eq(pthread_getattr_default_np(&usual), 0);
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, STACK_LEN);
	ck_assert_int_eq(pthread_setattr_default_np(&small), 0);
	open_many(KVT_NO_EAGER);
	for (uint32_t i = 0; i < COUNT; i++)
		receives[i] = start_recv(far, &targets[i], sizeof(targets[i]));
	/* The first has told where to write; when it goes, each is the first in its turn. */
	atomic_store(&is_full, true);
	kvt_transfer_cancel(receives[0]);
	wait_until(kvt_transfer_is_done(receives[COUNT - 1]));
	atomic_store(&is_full, false);
	finish(receives[0], KVT_E_CANCELLED);
	for (uint32_t i = 1; i < COUNT; i++)
		finish(receives[i], KVT_E_NO_MEMORY);
	exchange(near, far, 10, 1);
	close_many();
	ck_assert_int_eq(pthread_setattr_default_np(&usual), 0);
	pthread_attr_destroy(&small);
	pthread_attr_destroy(&usual);
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("many");
	tcase_set_timeout(tests, 120);
	tcase_add_test(tests, messages_that_are_given_up_leave_the_others_in_their_order);
	tcase_add_test(tests, receives_that_are_given_up_lose_no_message);
	tcase_add_test(tests, notifications_that_are_given_up_leave_the_others_in_their_order);
	tcase_add_test(tests, all_that_is_in_flight_ends_once_with_the_connection);
	tcase_add_test(tests, receives_that_fail_one_after_the_other_take_no_more_stack_than_one);
	return run_tests("engine_many", tests);
}
