/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_faults.c - the engine when something fails: the first allocation, the second, and so on until a
 * run passes without a failure; likewise posts, completions and opened objects of the fabric. Each run
 * ends in time, with errors that are documented, leaves nothing behind, and does not harm the engines
 * that it opened.
 */
#include <stdio.h>
#include <stdlib.h>

#include "engine/bed.h"
#include "support/runner.h"

#define STEP_NS (2 * KVI_SECOND)
#define RUN_NS (10 * KVI_SECOND)

/* Long enough to go over all lanes. */
enum { MESSAGE_LEN = 2 * 1024 * 1024 + 1 };

/* What can fail. */
struct fault {
	const char *name;
	void (*arm)(const struct fault *fault, unsigned nth);
	enum kvt_err err;
	unsigned what;
	bool are_many; /* and much alike: not every one is tried */
};

static void arm_alloc(const struct fault *fault, unsigned nth)
{
	(void)fault;
	failing_alloc_arm(nth);
}

static void arm_post(const struct fault *fault, unsigned nth)
{
	fake_fail_post(fault->what, nth, fault->err);
}

static void arm_completion(const struct fault *fault, unsigned nth)
{
	fake_fail_completion(fault->what, nth, fault->err);
}

static void arm_open(const struct fault *fault, unsigned nth)
{
	fake_fail_open((enum fake_object)fault->what, nth, fault->err);
}

static const struct fault faults[] = {
	{ "allocation", arm_alloc, KVT_E_NO_MEMORY, 0 },
	{ "receive not posted", arm_post, KVT_E_FABRIC, FAKE_RECV, .are_many = true },
	{ "send not posted", arm_post, KVT_E_FABRIC, FAKE_SEND },
	{ "send not posted now", arm_post, KVT_E_AGAIN, FAKE_SEND },
	{ "write not posted", arm_post, KVT_E_PEER_LOST, FAKE_WRITE },
	{ "write not posted now", arm_post, KVT_E_AGAIN, FAKE_WRITE },
	{ "receive", arm_completion, KVT_E_FABRIC, FAKE_RECV },
	{ "send", arm_completion, KVT_E_PEER_LOST, FAKE_SEND },
	{ "write", arm_completion, KVT_E_FABRIC, FAKE_WRITE },
	{ "rail", arm_open, KVT_E_FABRIC, FAKE_OPEN_RAIL },
	{ "completion queue", arm_open, KVT_E_NO_MEMORY, FAKE_OPEN_CQ },
	{ "memory", arm_open, KVT_E_LIMIT, FAKE_OPEN_MEMORY },
	{ "listener", arm_open, KVT_E_FABRIC, FAKE_OPEN_LISTENER },
	{ "lane", arm_open, KVT_E_FABRIC, FAKE_OPEN_LANE },
	{ "connect", arm_open, KVT_E_FABRIC, FAKE_OPEN_CONNECT },
};
enum { FAULT_COUNT = sizeof(faults) / sizeof(faults[0]) };

static bool has_fired(void)
{
	return failing_alloc_has_fired() || fake_get_counts().faults > 0;
}

/* ---- steps that may fail ---- */

static struct bed bed;
static struct kvt_kv *near;
static struct kvt_kv *far;
static unsigned started;
static const struct fault *fault;
static unsigned nth;

/* False on an error, which must be one that a user is told to expect. */
static bool passes(enum kvt_err err, const char *step)
{
	switch (err) {
	case KVT_OK:
		return true;
	case KVT_E_NO_MEMORY:
	case KVT_E_LIMIT:
	case KVT_E_TIMEOUT:
	case KVT_E_CANCELLED:
	case KVT_E_UNREACHABLE:
	case KVT_E_PEER_LOST:
	case KVT_E_PEER_CLOSED:
	case KVT_E_FABRIC:
		/* A post that cannot be made now is made later, and nobody notices. */
		ck_assert_msg(has_fired() && fault->err != KVT_E_AGAIN, "%s gives %s (%s %u)", step,
			      kvt_err_get_name(err), fault->name, nth);
		return false;
	default:
		ck_abort_msg("%s gives %s (%s %u)", step, kvt_err_get_name(err), fault->name, nth);
	}
}

static bool open_engines(const struct kvt_engine_config *config)
{
	struct kvt_error error;
	return passes(kvt_engine_open(config, &bed.near.engine, &error), "kvt_engine_open") &&
	       passes(kvt_engine_open(config, &bed.far.engine, &error), "kvt_engine_open");
}

static bool connect_engines(void)
{
	struct kvt_error error;
	uint16_t port = kvt_engine_get_port(bed.far.engine);
	return passes(kvt_conn_open(bed.near.engine, "127.0.0.1", port, STEP_NS, &bed.near.conn,
				    &error),
		      "kvt_conn_open") &&
	       passes(kvt_conn_accept(bed.far.engine, STEP_NS, &bed.far.conn, &error), "kvt_conn_"
										       "accept");
}

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

/* expected: an error that is no surprise here, or KVT_OK. */
static enum kvt_err end(struct kvt_transfer *transfer, enum kvt_err expected, const char *step)
{
	struct kvt_result result = KVT_RESULT_INIT;
	if (transfer == NULL)
		return KVT_E_NO_MEMORY;
	ck_assert_msg(kvt_transfer_wait(transfer, RUN_NS) == KVT_OK, "%s does not end (%s %u)",
		      step, fault->name, nth);
	ck_assert_int_eq(kvt_transfer_get_result(transfer, &result), KVT_OK);
	if (result.err != expected)
		passes(result.err, step);
	kvt_transfer_free(transfer);
	return result.err;
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

/* ---- the loop ---- */

/* Two engines that a fault has gone over still serve a new connection. */
static void expect_service(void)
{
	wait_until(get_stats(bed.near.engine).connections + get_stats(bed.far.engine).connections ==
		   0);
	struct kvt_stats stats[] = { get_stats(bed.near.engine), get_stats(bed.far.engine) };
	ck_assert_uint_eq(stats[0].transfers + stats[1].transfers, 0);
	uint64_t ended = 0;
	for (unsigned i = 0; i < 2; i++)
		ended += stats[i].sends + stats[i].receives + stats[i].failures;
	ck_assert_uint_eq(ended, started);

	bed_connect(&bed);
	struct kvt_kv *from = open_kv(bed.near.conn, KVT_TAG_AUTO),
		      *to = open_kv(bed.far.conn, KVT_TAG_AUTO);
	exchange(from, to, 1000, 1);
	exchange(to, from, 100000, 2);
	kvt_kv_close(from);
	kvt_kv_close(to);
	bed_disconnect(&bed);
}

static bool run_once(void (*script)(const struct kvt_engine_config *config),
		     const struct kvt_engine_config *config, const struct kvi_caps *caps)
{
	bed = (struct bed){ .live = failing_alloc_get_live() };
	started = 0;
	int64_t started_ns = kvi_clock_now();
	fake_set_caps(caps);
	fake_set_chunk_len(SMALL_SEGMENT_LEN / 2);
	failing_alloc_arm(0);
	fault->arm(fault, nth);
	script(config);
	bool fired = has_fired();
	failing_alloc_arm(0);
	fault->arm(fault, 0);
	close_all();
	if (bed.near.engine != NULL && bed.far.engine != NULL)
		expect_service();
	bed_close_engines(&bed);
	int64_t took_ns = kvi_clock_now() - started_ns;
	ck_assert_msg(took_ns < RUN_NS, "took %.1f s (%s %u)", (double)took_ns / (double)KVI_SECOND,
		      fault->name, nth);
	ck_assert_msg(failing_alloc_get_live() == bed.live, "%ld allocations are left (%s %u)",
		      failing_alloc_get_live() - bed.live, fault->name, nth);
	bed_check_clean(&bed);
	return fired;
}

/* Under ThreadSanitizer a run takes ten times as long, and each has the same threads. */
#ifdef __SANITIZE_THREAD__
static const bool thin_out = true;
#else
static const bool thin_out = false;
#endif

static void run_all(void (*script)(const struct kvt_engine_config *config), int index)
{
	static const char *const interfaces[] = { "fake0", "fake1" };
	struct kvt_engine_config config = make_config();
	struct kvi_caps caps = fake_get_default_caps();
	caps.max_segment_len = SMALL_SEGMENT_LEN;
	if (index >= FAULT_COUNT) {
		/* Two rails, two workers, and everything registered. */
		config.interfaces = interfaces;
		config.interface_count = 2;
		config.ncpus = 2;
		config.nconn_per_cpu = 2;
		caps.local_memory = true;
		caps.own_domains = false;
		caps.same_grant = false;
	}
	fault = &faults[index % FAULT_COUNT];
	nth = 1;
	while (run_once(script, &config, &caps))
		nth += fault->are_many || thin_out ? 1 + nth / 4 : 1;
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
