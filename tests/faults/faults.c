/* SPDX-License-Identifier: Apache-2.0 */
/* faults.c - the faults, the steps that all scripts have, and the loop. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/core/settings.h"
#include "faults/faults.h"

#define RUN_NS (40 * KVI_SECOND)

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
	{ "read not posted", arm_post, KVT_E_PEER_LOST, FAKE_READ },
	{ "read not posted now", arm_post, KVT_E_AGAIN, FAKE_READ },
	{ "read", arm_completion, KVT_E_FABRIC, FAKE_READ },
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
static_assert(sizeof(faults) / sizeof(faults[0]) == FAULT_COUNT, "FAULT_COUNT");

static bool has_fired(void)
{
	return failing_alloc_has_fired() || fake_get_counts().faults > 0;
}

/* ---- steps that may fail ---- */

struct bed bed;
unsigned started;
static const struct fault *fault;
static unsigned nth;

bool passes(enum kvt_err err, const char *step)
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

bool open_engines(const struct kvt_engine_config *config)
{
	struct kvt_error error;
	return passes(kvt_engine_open(config, &bed.near.engine, &error), "kvt_engine_open") &&
	       passes(kvt_engine_open(config, &bed.far.engine, &error), "kvt_engine_open");
}

/* On a busy machine a handshake may take too long without a fault's doing: again, as in bed_call(). */
static enum kvt_err call(void)
{
	enum { TRIES = 20 };
	uint16_t port = kvt_engine_get_port(bed.far.engine);
	for (unsigned i = 1;; i++) {
		struct kvt_error error;
		int64_t since_ns = kvi_clock_now();
		enum kvt_err err = kvt_conn_open(bed.near.engine, "127.0.0.1", port, STEP_NS,
						 &bed.near.conn, &error);
		bool is_faults = has_fired() && fault->err != KVT_E_AGAIN;
		if ((err != KVT_E_UNREACHABLE && err != KVT_E_PEER_LOST) || is_faults ||
		    i == TRIES || kvi_clock_now() - since_ns < KVI_HANDSHAKE_NS / 2)
			return err;
	}
}

bool connect_engines(void)
{
	struct kvt_error error;
	return passes(call(), "kvt_conn_open") &&
	       passes(kvt_conn_accept(bed.far.engine, STEP_NS, &bed.far.conn, &error), "kvt_conn_"
										       "accept");
}

void disarm(void)
{
	failing_alloc_arm(0);
	fault->arm(fault, 0);
}

void arm(void)
{
	fault->arm(fault, nth);
}

enum kvt_err end(struct kvt_transfer *transfer, enum kvt_err expected, const char *step)
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
		ended += stats[i].sends + stats[i].receives + stats[i].writes + stats[i].reads +
			 stats[i].failures;
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
	disarm();
	arm();
	script(config);
	bool fired = has_fired();
	disarm();
	bed_disconnect(&bed);
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

void run_all(void (*script)(const struct kvt_engine_config *config), int index)
{
	static const char *const interfaces[] = { "fake0", "fake1" };
	struct kvt_engine_config config = make_config();
	struct kvi_caps caps = fake_get_default_caps();
	caps.max_segment_len = SMALL_SEGMENT_LEN;
	caps.tx_count = FEW_POSTS;
	caps.pack_below = PACK_BELOW;
	if (index >= FAULT_COUNT) {
		/* Two rails, two workers, and everything registered. */
		config.interfaces = interfaces;
		config.interface_count = 2;
		config.ncpus = 2;
		config.nconn_per_cpu = 2;
		caps.local_memory = true;
		caps.own_domains = false;
		caps.same_rkey = false;
	}
	fault = &faults[index % FAULT_COUNT];
	nth = 1;
	while (run_once(script, &config, &caps))
		nth += fault->are_many || thin_out ? 1 + nth / 4 : 1;
}
