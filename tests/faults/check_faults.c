/* SPDX-License-Identifier: Apache-2.0 */
/* check_faults.c - opening, connecting, sending and receiving when something fails (faults.h). */
#include <stdlib.h>

#include "faults/faults.h"
#include "support/runner.h"

/* Long enough to go over all lanes. */
enum { MESSAGE_LEN = 2 * 1024 * 1024 + 1 };

static struct kvt_kv *near;
static struct kvt_kv *far;

static bool open_kvs(void *memory, size_t len)
{
	struct kvt_kv_config config = KVT_KV_CONFIG_INIT;
	config.base = memory;
	config.len = len;
	return passes(kvt_kv_open(bed.near.conn, &config, &near, NULL), "kvt_kv_open") &&
	       passes(kvt_kv_open(bed.far.conn, &config, &far, NULL), "kvt_kv_open");
}

static struct kvt_transfer *try_send(const void *base, size_t len)
{
	struct kvt_send_request request = KVT_SEND_REQUEST_INIT;
	struct kvt_transfer *transfer = NULL;
	request.base = base;
	request.len = len;
	request.meta = "meta";
	request.meta_len = 4;
	request.timeout_ns = STEP_NS;
	started += passes(kvt_send_start(near, &request, &transfer, NULL), "kvt_send_start");
	return transfer;
}

static struct kvt_transfer *try_recv(void *base, size_t len)
{
	struct kvt_recv_request request = KVT_RECV_REQUEST_INIT;
	struct kvt_transfer *transfer = NULL;
	request.base = base;
	request.len = len;
	request.timeout_ns = STEP_NS;
	started += passes(kvt_recv_start(far, &request, &transfer, NULL), "kvt_recv_start");
	return transfer;
}

static bool has_failed(const struct kvt_transfer *transfer)
{
	struct kvt_result result = KVT_RESULT_INIT;
	return transfer == NULL ||
	       (kvt_transfer_get_result(transfer, &result) == KVT_OK && result.err != KVT_OK);
}

/* Until both are done. When one has failed, the other would wait for its deadline: it is cancelled. */
static void end_both(struct kvt_transfer *send, struct kvt_transfer *receive)
{
	while (!has_failed(send) && !has_failed(receive) &&
	       !(kvt_transfer_is_done(send) && kvt_transfer_is_done(receive)))
		kvt_transfer_wait(kvt_transfer_is_done(send) ? receive : send, 5 * KVI_MS);
	if (send != NULL)
		kvt_transfer_cancel(send);
	if (receive != NULL)
		kvt_transfer_cancel(receive);
}

/* ---- scripts ---- */

static void close_all(void)
{
	kvt_kv_close(near);
	kvt_kv_close(far);
	near = NULL;
	far = NULL;
	bed_disconnect(&bed);
}

static void open_and_close(const struct kvt_engine_config *config)
{
	open_engines(config);
}

static void connect_and_disconnect(const struct kvt_engine_config *config)
{
	if (open_engines(config))
		connect_engines();
}

static void send_and_receive(const struct kvt_engine_config *config, size_t len)
{
	uint8_t *source = make_pattern(len, 1), *target = make_filled(len, 0);
	if (open_engines(config) && connect_engines() && open_kvs(source, len)) {
		for (unsigned i = 0; i < 2; i++) {
			/* The receive comes first and with memory, then last and without. */
			struct kvt_transfer *receive = i == 0 ? try_recv(target, len) : NULL;
			struct kvt_transfer *send = try_send(source, len);
			if (i == 1)
				receive = try_recv(NULL, len);
			end_both(send, receive);
			enum kvt_err received = end(receive, KVT_OK, "a receive");
			if (received == KVT_OK && i == 0)
				ck_assert(holds_pattern(target, len, 1));
			end(send, KVT_OK, "a send");
		}
	}
	close_all();
	free(source);
	free(target);
}

static void send_small(const struct kvt_engine_config *config)
{
	send_and_receive(config, 1000);
}

static void send_large(const struct kvt_engine_config *config)
{
	send_and_receive(config, MESSAGE_LEN);
}

static void receive_and_cancel(const struct kvt_engine_config *config)
{
	uint8_t *source = make_pattern(MESSAGE_LEN, 1), *target = make_filled(MESSAGE_LEN, 0);
	if (open_engines(config) && connect_engines() && open_kvs(source, MESSAGE_LEN)) {
		fake_hold(FAKE_WRITE);
		struct kvt_transfer *receive = try_recv(target, MESSAGE_LEN);
		struct kvt_transfer *send = try_send(source, MESSAGE_LEN);
		if (receive != NULL && send != NULL) {
			int64_t deadline_ns = kvi_deadline_after(50 * KVI_MS);
			while (target[0] == 0 && kvi_clock_now() < deadline_ns)
				if (fake_release(1) == 0)
					rest(KVI_MS);
			kvt_transfer_cancel(receive);
			rest(5 * KVI_MS);
		}
		fake_hold(0);
		end(receive, KVT_E_CANCELLED, "a cancelled receive");
		memset(target, 0xEE, MESSAGE_LEN);
		if (send != NULL)
			kvt_transfer_cancel(send);
		end(send, KVT_E_CANCELLED, "a cancelled send");
		ck_assert(holds_only(target, MESSAGE_LEN, 0xEE));
	}
	fake_hold(0);
	close_all();
	free(source);
	free(target);
}

START_TEST(opening_engines_survives_every_fault)
{
	run_all(open_and_close, _i);
}
END_TEST

START_TEST(connecting_survives_every_fault)
{
	run_all(connect_and_disconnect, _i);
}
END_TEST

START_TEST(a_small_message_survives_every_fault_or_fails_cleanly)
{
	run_all(send_small, _i);
}
END_TEST

START_TEST(a_large_message_survives_every_fault_or_fails_cleanly)
{
	run_all(send_large, _i);
}
END_TEST

START_TEST(a_cancelled_receive_survives_every_fault_or_fails_cleanly)
{
	run_all(receive_and_cancel, _i);
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("faults");
	tcase_set_timeout(tests, 300);
	tcase_add_loop_test(tests, opening_engines_survives_every_fault, 0, 2 * FAULT_COUNT);
	tcase_add_loop_test(tests, connecting_survives_every_fault, 0, 2 * FAULT_COUNT);
	tcase_add_loop_test(tests, a_small_message_survives_every_fault_or_fails_cleanly, 0,
			    2 * FAULT_COUNT);
	tcase_add_loop_test(tests, a_large_message_survives_every_fault_or_fails_cleanly, 0,
			    2 * FAULT_COUNT);
	tcase_add_loop_test(tests, a_cancelled_receive_survives_every_fault_or_fails_cleanly, 0,
			    2 * FAULT_COUNT);
	return run_tests("faults", tests);
}
