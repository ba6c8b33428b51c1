/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_delivery.c - what a sender was told of success for reaches the other side's application, whatever
 * becomes of the sender and its connection, accepted or not; and where there is no room, it is not told.
 */
#include "pages.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/core/settings.h"
#include "support/runner.h"

static struct bed bed;

static enum kvt_err try_connect(struct kvt_conn **conn, struct kvt_error *error)
{
	return bed_call(&bed, conn, error);
}

static struct kvt_conn *call(void)
{
	struct kvt_conn *conn = NULL;
	struct kvt_error error;
	enum kvt_err err = try_connect(&conn, &error);
	ck_assert_msg(err == KVT_OK, "no connection: %s", error.text);
	return conn;
}

static struct kvt_conn *accept_next(void)
{
	struct kvt_conn *conn = NULL;
	struct kvt_error error;
	enum kvt_err err = kvt_conn_accept(bed.far.engine, BED_PATIENCE_NS, &conn, &error);
	ck_assert_msg(err == KVT_OK, "nobody to accept: %s", error.text);
	return conn;
}

static void expect_nobody(void)
{
	struct kvt_conn *conn;
	ck_assert_int_eq(kvt_conn_accept(bed.far.engine, KVT_NOWAIT, &conn, NULL), KVT_E_TIMEOUT);
}

/* bed_open() without a connection. */
static void open_apart(const struct kvt_engine_config *config)
{
	bed_open(&bed, config);
	bed_disconnect(&bed);
	wait_until(get_stats(bed.far.engine).connections == 0);
}

/* ---- one peer that goes ---- */

enum { NOTES = 1, MESSAGES = 2, LOST = 4, CLOSES_KVS = 8, BEQUESTS = 16 };

static void leave(struct kvt_conn *conn, unsigned what)
{
	uint8_t text[] = "text";
	struct kvt_kv *kvs[2] = { open_kv(conn, 5), open_kv(conn, KVT_TAG_AUTO) };
	if (what & NOTES) {
		finish(start_notify(conn, "first", 5), KVT_OK);
		finish(start_notify(conn, "second", 6), KVT_OK);
	}
	for (unsigned i = 0; i < 2; i++) {
		if (what & MESSAGES)
			finish(start_send(kvs[i], text, sizeof(text)), KVT_OK);
		if (what & CLOSES_KVS)
			kvt_kv_close(kvs[i]);
	}
	if (what & LOST)
		fake_kill_lanes(NULL);
	kvt_conn_close(conn);
	for (unsigned i = 0; i < 2 && !(what & CLOSES_KVS); i++)
		kvt_kv_close(kvs[i]);
}

static void inherit(struct kvt_conn *conn, unsigned what)
{
	enum kvt_err err = what & LOST ? KVT_E_PEER_LOST : KVT_E_PEER_CLOSED;
	ck_assert_int_eq(kvt_conn_get_status(conn, NULL), err);
	ck_assert_str_eq(kvt_conn_get_host(conn), "127.0.0.1");
	if (what & NOTES) {
		expect_notification(bed.far.engine, "first", KVT_OK);
		expect_notification(bed.far.engine, "second", KVT_OK);
	}
	expect_conn_ended(bed.far.engine, conn, err);
	expect_no_event(bed.far.engine);
	if (what & MESSAGES) {
		struct kvt_kv *kvs[2] = { open_kv(conn, 5), open_kv(conn, KVT_TAG_AUTO) };
		for (unsigned i = 0; i < 2; i++) {
			ck_assert_uint_eq(finish(start_recv(kvs[i], NULL, SIZE_MAX), KVT_OK), 5);
			finish(start_recv(kvs[i], NULL, SIZE_MAX), err);
			kvt_kv_close(kvs[i]);
		}
	}
	kvt_conn_close(conn);
}

START_TEST(a_peer_that_went_before_it_was_accepted_is_accepted_with_all_it_left)
{
	unsigned what = (unsigned)_i;
	open_apart(NULL);
	leave(call(), what);
	/* It keeps nothing of the fabric's while it waits. */
	wait_until(fake_get_counts().lanes == 0 && fake_get_counts().memories == 0);
	wait_until(get_stats(bed.far.engine).connections == 0);
	if (what & (NOTES | MESSAGES))
		inherit(accept_next(), what);
	expect_nobody();
	bed_close(&bed);
}
END_TEST

START_TEST(a_peer_that_goes_after_it_was_accepted_leaves_the_same)
{
	unsigned what = (unsigned)_i;
	open_apart(NULL);
	struct kvt_conn *near = call(), *far = accept_next();
	leave(near, what);
	wait_until(get_stats(bed.far.engine).connections == 0);
	inherit(far, what);
	bed_close(&bed);
}
END_TEST

START_TEST(kvs_are_opened_in_their_order_also_where_the_first_has_no_message)
{
	uint8_t text[] = "text";
	open_apart(NULL);
	struct kvt_conn *near = call();
	struct kvt_kv *first = open_kv(near, KVT_TAG_AUTO), *second = open_kv(near, KVT_TAG_AUTO);
	finish(start_send(second, text, sizeof(text)), KVT_OK);
	kvt_conn_close(near);
	kvt_kv_close(first);
	kvt_kv_close(second);
	wait_until(get_stats(bed.far.engine).connections == 0);

	struct kvt_conn *far = accept_next();
	struct kvt_kv_config config = KVT_KV_CONFIG_INIT;
	struct kvt_kv *none = NULL;
	first = open_kv(far, KVT_TAG_AUTO);
	second = open_kv(far, KVT_TAG_AUTO);
	finish(start_recv(first, NULL, SIZE_MAX), KVT_E_PEER_CLOSED);
	ck_assert_uint_eq(finish(start_recv(second, NULL, SIZE_MAX), KVT_OK), sizeof(text));
	ck_assert_int_eq(kvt_kv_open(far, &config, &none, NULL), KVT_E_PEER_CLOSED);
	kvt_kv_close(first);
	kvt_kv_close(second);
	kvt_conn_close(far);
	bed_close(&bed);
}
END_TEST

/* ---- peers that come and go while the application accepts ---- */

enum { VISITS = 200 };

struct host {
	struct kvt_engine *engine;
	bool tells; /* its visitors something, and closes; else it listens until they have gone */
	unsigned accepted;
	unsigned told; /* of success */
	unsigned notes;
	atomic_bool done;
};

/* Of those that are there, or that come until the end of the connection. */
static unsigned count_notes(struct kvt_engine *engine, bool until_end)
{
	struct kvt_event *event;
	unsigned notes = 0;
	int64_t deadline_ns = kvi_deadline_after(BED_PATIENCE_NS);
	do {
		while (kvt_engine_get_event(engine, &event) == KVT_OK) {
			notes += event->kind == KVT_EVENT_NOTIFICATION;
			until_end &= event->kind != KVT_EVENT_CONN_ENDED;
			kvt_event_free(event);
		}
		ck_assert_msg(kvi_clock_now() < deadline_ns, "the connection does not end");
	} while (until_end && kvt_engine_wait(engine, 100 * KVI_MS) != KVT_E_CLOSED);
	return notes;
}

static bool tell(struct kvt_conn *conn)
{
	struct kvt_notify_request request = KVT_NOTIFY_REQUEST_INIT;
	struct kvt_transfer *transfer;
	struct kvt_result result = KVT_RESULT_INIT;
	request.conn = conn;
	if (kvt_notify_start(&request, &transfer, NULL) != KVT_OK)
		return false;
	await_end(transfer);
	kvt_transfer_get_result(transfer, &result);
	kvt_transfer_free(transfer);
	return result.err == KVT_OK;
}

static void *host_visitors(void *arg)
{
	struct host *host = arg;
	struct kvt_conn *conn;
	for (;;) {
		bool last = atomic_load(&host->done);
		if (kvt_conn_accept(host->engine, 10 * KVI_MS, &conn, NULL) != KVT_OK) {
			if (last)
				return NULL;
			continue;
		}
		host->accepted++;
		if (host->tells)
			host->told += tell(conn);
		else
			host->notes += count_notes(host->engine, true);
		kvt_conn_close(conn);
	}
}

/* Who calls may go before it is seen that the connection is open, and so may who accepts. */
START_TEST(of_peers_that_come_and_go_while_the_application_accepts_none_is_missed)
{
	struct kvt_engine_config config = make_config();
	config.ncpus = _i & 2 ? 2 : 1;
	open_apart(&config);
	struct host host = { .engine = bed.far.engine, .tells = _i & 1 };
	pthread_t thread;
	unsigned notes = 0;
	pthread_create(&thread, NULL, host_visitors, &host);
	for (unsigned i = 0; i < VISITS; i++) {
		struct kvt_conn *conn = call();
		if (host.tells)
			notes += count_notes(bed.near.engine, true);
		else
			ck_assert(tell(conn));
		kvt_conn_close(conn);
	}
	wait_until(get_stats(bed.far.engine).connections == 0);
	atomic_store(&host.done, true);
	pthread_join(thread, NULL);
	ck_assert_uint_eq(host.accepted, VISITS);
	ck_assert_uint_eq(host.tells ? notes : host.notes, host.tells ? host.told : VISITS);
	bed_close(&bed);
}
END_TEST

/* ---- limits ---- */

struct caller {
	pthread_t thread;
	struct kvt_conn *conn;
	enum kvt_err err;
};

static void *call_at_once(void *arg)
{
	struct caller *caller = arg;
	caller->err = try_connect(&caller->conn, NULL);
	return NULL;
}

/* Two peers have said hello before either is ready, and there is a place for one of them. */
static struct kvt_conn *race_for_the_last_place(void)
{
	struct caller callers[2] = { { .conn = NULL }, { .conn = NULL } };
	fake_hold(FAKE_CONNECT);
	for (unsigned i = 0; i < 2; i++)
		pthread_create(&callers[i].thread, NULL, call_at_once, &callers[i]);
	rest(50 * KVI_MS);
	fake_hold(0);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(callers[i].thread, NULL);
	unsigned winner = callers[0].err == KVT_OK ? 0 : 1;
	ck_assert_int_eq(callers[winner].err, KVT_OK);
	ck_assert_int_eq(callers[!winner].err, KVT_E_LIMIT);
	return callers[winner].conn;
}

START_TEST(peers_are_refused_once_so_many_wait_that_no_more_are_kept)
{
	struct kvt_error error;
	struct kvt_conn *conn = NULL;
	char text[16];
	open_apart(NULL);
	/* Some stay, most leave something, and those that leave nothing take no place. */
	enum { STAYING = 10 };
	struct kvt_conn *staying[STAYING];
	for (unsigned i = 0; i < KVI_UNACCEPTED_MAX; i++) {
		struct kvt_conn *near = i == KVI_UNACCEPTED_MAX - 1 ? race_for_the_last_place()
								    : call();
		snprintf(text, sizeof(text), "%u", i);
		finish(start_notify(near, text, strlen(text)), KVT_OK);
		if (i < STAYING)
			staying[i] = near;
		else
			kvt_conn_close(near);
		if (i % 100 == 0)
			kvt_conn_close(call());
	}
	ck_assert_int_eq(try_connect(&conn, &error), KVT_E_LIMIT);
	ck_assert_msg(strstr(error.text, "accept") != NULL && strstr(error.text, "1024") != NULL,
		      "the text is: %s", error.text);

	/* Each place that is given up is one for another peer. */
	kvt_conn_close(accept_next());
	conn = call();
	struct kvt_conn *none;
	ck_assert_int_eq(try_connect(&none, &error), KVT_E_LIMIT);
	count_notes(bed.far.engine, false);

	for (unsigned i = 1; i < KVI_UNACCEPTED_MAX; i++) {
		struct kvt_conn *far = accept_next();
		snprintf(text, sizeof(text), "%u", i);
		expect_notification(bed.far.engine, text, KVT_OK);
		kvt_conn_close(far);
		count_notes(bed.far.engine, false);
	}
	kvt_conn_close(accept_next());
	kvt_conn_close(conn);
	for (unsigned i = 0; i < STAYING; i++)
		kvt_conn_close(staying[i]);
	expect_nobody();
	bed_close(&bed);
}
END_TEST

START_TEST(a_sender_waits_once_so_much_was_left_that_no_more_is_kept)
{
	struct kvt_engine_config config = make_config();
	config.eager_len = KVI_EAGER_LEN_MAX;
	const size_t len =
		KVI_EAGER_LEN_MAX - 1024; /* with what goes with it, less than a window */
	const unsigned count = KVI_UNACCEPTED_LEN_MAX / KVI_EAGER_LEN_MAX + 1;
	uint8_t *bytes = make_pattern(len, 1);
	fake_set_chunk_len(len);
	open_apart(&config);
	for (unsigned i = 0; i < count; i++) {
		struct kvt_conn *near = call();
		struct kvt_kv *kv = open_kv(near, 5);
		finish(start_send(kv, bytes, len), KVT_OK);
		kvt_conn_close(near);
		kvt_kv_close(kv);
	}

	/* Its messages wait, large and small and in their order, until it is accepted; or it gives up. */
	struct kvt_conn *near = call(), *brief = call();
	struct kvt_kv *kv = open_kv(near, 5);
	struct kvt_transfer *sends[] = { start_send(kv, bytes, 100), start_send(kv, bytes, len / 2),
					 start_notify(near, "note", 4) };
	struct kvt_transfer *given_up = start_notify(brief, "never", 5);
	for (unsigned i = 0; i < 3; i++)
		expect_pending(sends[i], 20 * KVI_MS);
	kvt_conn_close(brief);
	finish(given_up, KVT_E_CLOSED);

	for (unsigned i = 0; i < count; i++) {
		struct kvt_conn *far = accept_next();
		struct kvt_kv *far_kv = open_kv(far, 5);
		ck_assert_uint_eq(finish(start_recv(far_kv, NULL, SIZE_MAX), KVT_OK), len);
		kvt_kv_close(far_kv);
		kvt_conn_close(far);
	}
	struct kvt_conn *far = accept_next();
	for (unsigned i = 0; i < 3; i++)
		finish(sends[i], KVT_OK);
	struct kvt_kv *far_kv = open_kv(far, 5);
	ck_assert_uint_eq(finish(start_recv(far_kv, NULL, SIZE_MAX), KVT_OK), 100);
	ck_assert_uint_eq(finish(start_recv(far_kv, NULL, SIZE_MAX), KVT_OK), len / 2);
	ck_assert_uint_eq(count_notes(bed.far.engine, false), 1);
	expect_nobody();
	kvt_kv_close(far_kv);
	kvt_conn_close(far);
	kvt_kv_close(kv);
	kvt_conn_close(near);
	free(bytes);
	bed_close(&bed);
}
END_TEST

/* ---- calls that are interrupted ---- */

/* While accept waits, a peer comes, leaves something and goes. */
static int visit_and_interrupt(void *arg)
{
	(void)arg;
	struct kvt_conn *conn = call();
	finish(start_notify(conn, "first", 5), KVT_OK);
	kvt_conn_close(conn);
	return 1;
}

START_TEST(an_interrupted_accept_leaves_the_peer_for_the_next_one)
{
	struct kvt_conn *conn = NULL;
	struct kvt_engine_config config = make_config();
	open_apart(NULL);
	kvt_engine_close(bed.far.engine);
	config.interrupted = visit_and_interrupt;
	bed.far.engine = open_engine(&config);
	ck_assert_int_eq(kvt_conn_accept(bed.far.engine, KVT_FOREVER, &conn, NULL),
			 KVT_E_CANCELLED);
	conn = accept_next();
	expect_notification(bed.far.engine, "first", KVT_OK);
	kvt_conn_close(conn);
	bed_close(&bed);
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("delivery");
	tcase_set_timeout(tests, 240);
	tcase_add_loop_test(tests,
			    a_peer_that_went_before_it_was_accepted_is_accepted_with_all_it_left, 0,
			    BEQUESTS);
	tcase_add_loop_test(tests, a_peer_that_goes_after_it_was_accepted_leaves_the_same, 0,
			    BEQUESTS);
	tcase_add_test(tests, kvs_are_opened_in_their_order_also_where_the_first_has_no_message);
	tcase_add_loop_test(tests,
			    of_peers_that_come_and_go_while_the_application_accepts_none_is_missed,
			    0, 4);
	tcase_add_test(tests, peers_are_refused_once_so_many_wait_that_no_more_are_kept);
	tcase_add_test(tests, a_sender_waits_once_so_much_was_left_that_no_more_is_kept);
	tcase_add_test(tests, an_interrupted_accept_leaves_the_peer_for_the_next_one);
	return run_tests("engine_delivery", tests);
}
