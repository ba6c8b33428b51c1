/* SPDX-License-Identifier: Apache-2.0 */
/* check_close.c - the ends of KVs, connections and engines, and what is left of messages after them. */
#include "bed.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "support/runner.h"

static struct bed bed;

static enum kvt_err try_send(struct kvt_kv *kv, const void *base, size_t len)
{
	struct kvt_result result = KVT_RESULT_INIT;
	struct kvt_transfer *send = start_send(kv, base, len);
	await_end(send);
	ck_assert_int_eq(kvt_transfer_get_result(send, &result), KVT_OK);
	kvt_transfer_free(send);
	return result.err;
}

/* ---- tags ---- */

START_TEST(nothing_of_a_closed_kv_reaches_the_next_one_of_its_tag)
{
	uint8_t old[] = "old", *source = make_pattern(LARGE_LEN, 1),
		*target = make_filled(LARGE_LEN, 0);
	bed_open(&bed, NULL);
	struct kvt_kv *near = open_kv(bed.near.conn, 5), *far = open_kv(bed.far.conn, 5);
	for (uint32_t round = 0; round < 5; round++) {
		for (unsigned i = 0; i < 10; i++)
			finish(start_send(near, old, sizeof(old)), KVT_OK);
		struct kvt_transfer *large = start_send(near, source, LARGE_LEN);
		struct kvt_transfer *behind = start_recv(near, NULL, SIZE_MAX);
		rest(round * KVI_MS);
		kvt_kv_close(far);
		finish(large, KVT_E_PEER_CLOSED);
		finish(behind, KVT_E_PEER_CLOSED);
		far = open_kv(bed.far.conn, 5);
		finish(start_recv_within(far, target, LARGE_LEN, 10 * KVI_MS), KVT_E_TIMEOUT);
		exchange(near, far, 10, round);
		exchange(far, near, LARGE_LEN, round);
		if (round == 3) {
			kvt_kv_close(near);
			near = open_kv(bed.near.conn, 5);
		}
	}
	ck_assert(holds_only(target, LARGE_LEN, 0));
	kvt_kv_close(near);
	kvt_kv_close(far);
	bed_close(&bed);
	free(source);
	free(target);
}
END_TEST

START_TEST(a_kv_reopened_while_the_peer_sends_sees_later_messages_only)
{
	enum { MESSAGES = 300 };
	struct kvt_transfer *sends[MESSAGES];
	uint32_t numbers[MESSAGES];
	bed_open(&bed, NULL);
	struct kvt_kv *near = open_kv(bed.near.conn, 5), *far = open_kv(bed.far.conn, 5);
	uint32_t seen = 0;
	for (uint32_t i = 0; i < MESSAGES; i++) {
		numbers[i] = i + 1;
		sends[i] = start_send(near, &numbers[i], sizeof(numbers[i]));
		if (i % 20 == 19) {
			kvt_kv_close(far);
			far = open_kv(bed.far.conn, 5);
		}
		uint32_t number = 0;
		struct kvt_transfer *receive =
			start_recv_within(far, &number, sizeof(number), KVI_MS);
		struct kvt_result result = KVT_RESULT_INIT;
		await_end(receive);
		kvt_transfer_get_result(receive, &result);
		kvt_transfer_free(receive);
		if (result.err == KVT_OK) {
			ck_assert_uint_gt(number, seen);
			seen = number;
		}
	}
	for (unsigned i = 0; i < MESSAGES; i++) {
		await_end(sends[i]);
		kvt_transfer_free(sends[i]);
	}
	ck_assert_uint_gt(seen, 0);
	kvt_kv_close(near);
	kvt_kv_close(far);
	bed_close(&bed);
}
END_TEST

START_TEST(automatic_tags_meet_in_the_order_of_opening)
{
	struct kvt_kv *near[5], *far[5];
	bed_open(&bed, NULL);
	for (unsigned i = 0; i < 5; i++)
		near[i] = open_kv(bed.near.conn, KVT_TAG_AUTO);
	for (unsigned i = 0; i < 5; i++)
		far[i] = open_kv(bed.far.conn, KVT_TAG_AUTO);
	for (unsigned i = 0; i < 5; i++)
		exchange(near[4 - i], far[4 - i], 1000 * i, i);
	for (unsigned i = 0; i < 5; i++) {
		kvt_kv_close(near[i]);
		kvt_kv_close(far[i]);
	}
	bed_close(&bed);
}
END_TEST

START_TEST(an_automatic_tag_that_the_peer_closed_fails_at_once_for_ever)
{
	uint8_t small[] = "small", *large = make_filled(LARGE_LEN, 1);
	size_t len = _i == 0 ? sizeof(small) : LARGE_LEN;
	bed_open(&bed, NULL);

	/* Open on both sides. */
	struct kvt_kv *near = open_kv(bed.near.conn, KVT_TAG_AUTO),
		      *far = open_kv(bed.far.conn, KVT_TAG_AUTO);
	struct kvt_transfer *receive = start_recv(far, large, len);
	kvt_kv_close(near);
	finish(receive, KVT_E_PEER_CLOSED);
	for (unsigned i = 0; i < 2; i++) {
		finish(start_recv(far, large, len), KVT_E_PEER_CLOSED);
		finish(start_send(far, large, len), KVT_E_PEER_CLOSED);
	}
	kvt_kv_close(far);

	/* Closed before the other side opened it: for a receive, for a send, and after a message. */
	for (unsigned i = 0; i < 3; i++) {
		near = open_kv(bed.near.conn, KVT_TAG_AUTO);
		if (i == 2)
			finish(start_send(near, small, sizeof(small)), KVT_OK);
		kvt_kv_close(near);
		rest(5 * KVI_MS);
		far = open_kv(bed.far.conn, KVT_TAG_AUTO);
		if (i == 1)
			finish(start_send(far, large, len), KVT_E_PEER_CLOSED);
		if (i == 2)
			ck_assert_uint_eq(finish(start_recv(far, NULL, SIZE_MAX), KVT_OK),
					  sizeof(small));
		finish(start_recv(far, large, len), KVT_E_PEER_CLOSED);
		kvt_kv_close(far);
	}

	near = open_kv(bed.near.conn, KVT_TAG_AUTO);
	far = open_kv(bed.far.conn, KVT_TAG_AUTO);
	exchange(near, far, len, 1);
	kvt_kv_close(near);
	kvt_kv_close(far);
	bed_close(&bed);
	free(large);
}
END_TEST

START_TEST(hundreds_of_automatic_kvs_come_and_go_on_both_sides)
{
	struct kvt_engine_config config = make_config();
	config.ncpus = 2;
	config.nconn_per_cpu = 2;
	bed_open(&bed, &config);
	for (uint32_t i = 0; i < 200; i++) {
		struct kvt_kv *near = open_kv(bed.near.conn, KVT_TAG_AUTO);
		struct kvt_kv *far = open_kv(bed.far.conn, KVT_TAG_AUTO);
		exchange(i % 2 == 0 ? near : far, i % 2 == 0 ? far : near, 100 + i, i);
		kvt_kv_close(i % 3 == 0 ? far : near);
		kvt_kv_close(i % 3 == 0 ? near : far);
	}
	bed_close(&bed);
}
END_TEST

/* ---- connections ---- */

START_TEST(a_polite_close_ends_what_is_in_flight_with_its_side_of_the_story)
{
	uint8_t *source = make_filled(LARGE_LEN, 1);
	bed_open(&bed, NULL);
	struct kvt_kv *near = open_kv(bed.near.conn, 5), *far = open_kv(bed.far.conn, 5);
	struct kvt_transfer *near_send = start_send(near, source, LARGE_LEN);
	struct kvt_transfer *near_receive = start_recv(near, NULL, SIZE_MAX);
	struct kvt_kv *far_other = open_kv(bed.far.conn, 6);
	struct kvt_transfer *far_send = start_send(far_other, source, LARGE_LEN);
	struct kvt_transfer *far_receive = start_recv(far_other, NULL, SIZE_MAX);
	int64_t started_ns = kvi_clock_now();
	kvt_conn_close(bed.near.conn);
	bed.near.conn = NULL;
	expect_took(started_ns, 0, 2 * KVI_SECOND);
	finish(near_send, KVT_E_CLOSED);
	finish(near_receive, KVT_E_CLOSED);
	finish(far_send, KVT_E_PEER_CLOSED);
	finish(far_receive, KVT_E_PEER_CLOSED);
	ck_assert_int_eq(kvt_conn_get_status(bed.far.conn, NULL), KVT_E_PEER_CLOSED);
	ck_assert_uint_eq(get_stats(bed.far.engine).connections_lost, 0);

	struct kvt_send_request request = KVT_SEND_REQUEST_INIT;
	struct kvt_transfer *transfer;
	ck_assert_int_eq(kvt_send_start(near, &request, &transfer, NULL), KVT_E_CLOSED);
	ck_assert_int_eq(kvt_send_start(far, &request, &transfer, NULL), KVT_E_PEER_CLOSED);
	finish(start_recv(far, NULL, SIZE_MAX), KVT_E_PEER_CLOSED);
	kvt_kv_close(near);
	kvt_kv_close(far);
	kvt_kv_close(far_other);
	bed_close(&bed);
	free(source);
}
END_TEST

START_TEST(eager_messages_can_be_received_after_the_peer_has_gone)
{
	bool lost = _i == 1;
	uint8_t first[] = "first", second[] = "second", buffer[16];
	bed_open(&bed, NULL);
	struct kvt_kv *near = open_kv(bed.near.conn, 5), *far = open_kv(bed.far.conn, 5);
	struct kvt_kv *near_other = open_kv(bed.near.conn, 6);
	finish(start_send(near, first, sizeof(first)), KVT_OK);
	finish(start_send(near, second, sizeof(second)), KVT_OK);
	finish(start_send(near_other, first, sizeof(first)), KVT_OK);
	if (lost)
		fake_kill_lanes(NULL);
	kvt_conn_close(bed.near.conn);
	bed.near.conn = NULL;
	enum kvt_err err = lost ? KVT_E_PEER_LOST : KVT_E_PEER_CLOSED;
	wait_until(kvt_conn_get_status(bed.far.conn, NULL) == err);
	wait_until(get_stats(bed.far.engine).connections == 0);

	ck_assert_uint_eq(finish(start_recv(far, buffer, 1), KVT_E_TOO_LARGE), sizeof(first));
	ck_assert_uint_eq(finish(start_recv(far, buffer, 16), KVT_OK), sizeof(first));
	ck_assert_int_eq(memcmp(buffer, first, sizeof(first)), 0);
	ck_assert_uint_eq(finish(start_recv(far, NULL, 16), KVT_OK), sizeof(second));
	finish(start_recv(far, buffer, 16), err);

	/* Also when the KV is opened only now. */
	struct kvt_kv *far_other = open_kv(bed.far.conn, 6);
	ck_assert_uint_eq(finish(start_recv(far_other, buffer, 16), KVT_OK), sizeof(first));
	finish(start_recv(far_other, buffer, 16), err);
	struct kvt_kv_config config = KVT_KV_CONFIG_INIT;
	struct kvt_kv *none = NULL;
	config.tag = 7;
	ck_assert_int_eq(kvt_kv_open(bed.far.conn, &config, &none, NULL), err);
	kvt_kv_close(near);
	kvt_kv_close(near_other);
	kvt_kv_close(far);
	kvt_kv_close(far_other);
	bed_close(&bed);
}
END_TEST

START_TEST(a_peer_that_has_gone_can_still_be_accepted_when_it_left_messages)
{
	struct kvt_error error;
	uint8_t text[] = "text";
	bed_open(&bed, NULL);
	struct kvt_conn *conns[2];
	/* One that leaves a message and one that does not. */
	for (unsigned i = 0; i < 2; i++) {
		ck_assert_int_eq(kvt_conn_open(bed.near.engine, "127.0.0.1",
					       kvt_engine_get_port(bed.far.engine), 0, &conns[i],
					       &error),
				 KVT_OK);
		struct kvt_kv *kv = open_kv(conns[i], 5);
		if (i == 0)
			finish(start_send(kv, text, sizeof(text)), KVT_OK);
		kvt_conn_close(conns[i]);
		kvt_kv_close(kv);
	}
	wait_until(get_stats(bed.far.engine).connections == 1);

	struct kvt_conn *conn;
	ck_assert_int_eq(kvt_conn_accept(bed.far.engine, KVI_SECOND, &conn, &error), KVT_OK);
	struct kvt_kv *kv = open_kv(conn, 5);
	ck_assert_uint_eq(finish(start_recv(kv, NULL, SIZE_MAX), KVT_OK), sizeof(text));
	kvt_kv_close(kv);
	kvt_conn_close(conn);
	ck_assert_int_eq(kvt_conn_accept(bed.far.engine, KVT_NOWAIT, &conn, &error), KVT_E_TIMEOUT);
	bed_close(&bed);
}
END_TEST

START_TEST(both_sides_may_close_at_once)
{
	struct kvt_transfer *transfers[4];
	bed_open(&bed, NULL);
	struct kvt_kv *near = open_kv(bed.near.conn, 5), *far = open_kv(bed.far.conn, 5);
	for (unsigned i = 0; i < 4; i++)
		transfers[i] = start_recv(i % 2 == 0 ? near : far, NULL, SIZE_MAX);
	kvt_engine_stop(bed.near.engine);
	bed_disconnect(&bed);
	for (unsigned i = 0; i < 4; i++) {
		await_end(transfers[i]);
		ck_assert(kvt_transfer_is_done(transfers[i]));
		kvt_transfer_free(transfers[i]);
	}
	kvt_kv_close(near);
	kvt_kv_close(far);
	bed_close(&bed);
}
END_TEST

/* ---- engines ---- */

START_TEST(handles_outlive_their_engine_in_any_order)
{
	uint8_t text[] = "text";
	bed_open(&bed, NULL);
	struct kvt_kv *near = open_kv(bed.near.conn, 5), *far = open_kv(bed.far.conn, 5);
	finish(start_send(near, text, sizeof(text)), KVT_OK);
	struct kvt_transfer *near_receive = start_recv(near, NULL, SIZE_MAX);
	bed_close_engines(&bed);
	ck_assert_uint_eq(finish(start_recv(far, NULL, SIZE_MAX), KVT_OK), sizeof(text));
	struct kvt_recv_request request = KVT_RECV_REQUEST_INIT;
	struct kvt_transfer *late;
	enum kvt_err err = kvt_recv_start(far, &request, &late, NULL);
	if (err == KVT_OK)
		kvt_transfer_free(late);
	struct kvt_kv_config config = KVT_KV_CONFIG_INIT;
	struct kvt_kv *none = NULL;
	ck_assert_int_eq(kvt_kv_open(bed.near.conn, &config, &none, NULL), KVT_E_CLOSED);
	ck_assert_str_eq(kvt_conn_get_host(bed.near.conn), "127.0.0.1");
	if (_i == 0)
		bed_disconnect(&bed);
	kvt_kv_close(near);
	kvt_kv_close(far);
	if (_i == 1)
		bed_disconnect(&bed);
	finish(near_receive, KVT_E_CLOSED);
	if (_i == 2)
		bed_disconnect(&bed);
	bed_check_clean(&bed);
}
END_TEST

/* A call that waits in a thread of its own. */
struct waiter {
	pthread_t thread;
	struct kvt_engine *engine;
	struct kvt_transfer *transfer;
	uint16_t port;
	enum kvt_err err;
};

static void *wait_in_accept(void *arg)
{
	struct waiter *waiter = arg;
	struct kvt_conn *conn;
	waiter->err = kvt_conn_accept(waiter->engine, KVT_FOREVER, &conn, NULL);
	return NULL;
}

static void *wait_in_connect(void *arg)
{
	struct waiter *waiter = arg;
	struct kvt_conn *conn;
	waiter->err = kvt_conn_open(waiter->engine, "127.0.0.1", waiter->port, BED_PATIENCE_NS,
				    &conn, NULL);
	return NULL;
}

static void *wait_for_transfer(void *arg)
{
	struct waiter *waiter = arg;
	waiter->err = kvt_transfer_wait(waiter->transfer, KVT_FOREVER);
	return NULL;
}

/* A port where nobody ever answers. */
static int listen_silently(uint16_t *port)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, len), 0);
	ck_assert_int_eq(listen(fd, 8), 0);
	getsockname(fd, (struct sockaddr *)&address, &len);
	*port = ntohs(address.sin_port);
	return fd;
}

START_TEST(stopping_an_engine_wakes_every_call_that_waits)
{
	struct waiter waiters[5];
	uint16_t port;
	int fd = listen_silently(&port);
	bed_open(&bed, NULL);
	struct kvt_kv *kv = open_kv(bed.near.conn, 5);
	struct kvt_transfer *receive = start_recv(kv, NULL, SIZE_MAX);
	void *(*const calls[])(void *) = { wait_in_accept, wait_in_accept, wait_in_connect,
					   wait_for_transfer, wait_for_transfer };
	for (unsigned i = 0; i < 5; i++) {
		waiters[i] = (struct waiter){ .engine = bed.near.engine,
					      .transfer = receive,
					      .port = port };
		pthread_create(&waiters[i].thread, NULL, calls[i], &waiters[i]);
	}
	rest(50 * KVI_MS);
	int64_t started_ns = kvi_clock_now();
	kvt_engine_stop(bed.near.engine);
	expect_took(started_ns, 0, 2 * KVI_SECOND);
	for (unsigned i = 0; i < 5; i++) {
		pthread_join(waiters[i].thread, NULL);
		ck_assert_int_eq(waiters[i].err, i < 3 ? KVT_E_CLOSED : KVT_OK);
	}
	expect_took(started_ns, 0, 2 * KVI_SECOND);
	finish(receive, KVT_E_CLOSED);
	kvt_engine_stop(bed.near.engine); /* again: nothing happens */
	kvt_kv_close(kv);
	bed_close(&bed);
	close(fd);
}
END_TEST

static int interrupt(void *arg)
{
	++*(int *)arg;
	return 1;
}

START_TEST(the_interrupted_hook_ends_every_call_that_waits)
{
	int asked = 0;
	uint16_t port;
	int fd = listen_silently(&port);
	bed_open(&bed, NULL);
	struct kvt_engine_config config = make_config();
	config.interrupted = interrupt;
	config.interrupted_arg = &asked;
	struct kvt_engine *engine = open_engine(&config);
	struct kvt_conn *conn;
	ck_assert_int_eq(kvt_conn_accept(engine, KVT_FOREVER, &conn, NULL), KVT_E_CANCELLED);
	ck_assert_int_eq(asked, 1);
	ck_assert_int_eq(kvt_conn_open(engine, "127.0.0.1", port, BED_PATIENCE_NS, &conn, NULL),
			 KVT_E_CANCELLED);
	ck_assert_int_ge(asked, 2);

	/* A transfer on an engine with a hook: it is called from the waiting thread. */
	enum kvt_err err = kvt_conn_open(bed.near.engine, "127.0.0.1", kvt_engine_get_port(engine),
					 0, &conn, NULL);
	ck_assert_int_eq(err, KVT_OK);
	struct kvt_conn *accepted;
	wait_until(kvt_conn_accept(engine, 10 * KVI_MS, &accepted, NULL) == KVT_OK);
	struct kvt_kv *kv = open_kv(accepted, 1);
	struct kvt_transfer *receive = start_recv(kv, NULL, SIZE_MAX);
	asked = 0;
	ck_assert_int_eq(kvt_transfer_wait(receive, KVT_FOREVER), KVT_E_AGAIN);
	ck_assert_int_eq(asked, 1);
	kvt_transfer_free(receive);
	kvt_kv_close(kv);
	kvt_conn_close(conn);
	kvt_conn_close(accepted);
	kvt_engine_close(engine);
	bed_close(&bed);
	close(fd);
}
END_TEST

START_TEST(a_send_to_a_kv_that_never_opens_ends_with_the_connection)
{
	uint8_t byte = 1;
	bed_open(&bed, NULL);
	struct kvt_kv *near = open_kv(bed.near.conn, 5);
	ck_assert_int_eq(try_send(near, &byte, 1), KVT_OK);
	kvt_kv_close(near);
	bed_close(&bed);
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("close");
	tcase_set_timeout(tests, 120);
	tcase_add_test(tests, nothing_of_a_closed_kv_reaches_the_next_one_of_its_tag);
	tcase_add_test(tests, a_kv_reopened_while_the_peer_sends_sees_later_messages_only);
	tcase_add_test(tests, automatic_tags_meet_in_the_order_of_opening);
	tcase_add_loop_test(tests, an_automatic_tag_that_the_peer_closed_fails_at_once_for_ever, 0,
			    2);
	tcase_add_test(tests, hundreds_of_automatic_kvs_come_and_go_on_both_sides);
	tcase_add_test(tests, a_polite_close_ends_what_is_in_flight_with_its_side_of_the_story);
	tcase_add_loop_test(tests, eager_messages_can_be_received_after_the_peer_has_gone, 0, 2);
	tcase_add_test(tests, a_peer_that_has_gone_can_still_be_accepted_when_it_left_messages);
	tcase_add_test(tests, both_sides_may_close_at_once);
	tcase_add_loop_test(tests, handles_outlive_their_engine_in_any_order, 0, 3);
	tcase_add_test(tests, stopping_an_engine_wakes_every_call_that_waits);
	tcase_add_test(tests, the_interrupted_hook_ends_every_call_that_waits);
	tcase_add_test(tests, a_send_to_a_kv_that_never_opens_ends_with_the_connection);
	return run_tests("engine_close", tests);
}
