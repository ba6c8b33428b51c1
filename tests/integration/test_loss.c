/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_loss.c - a peer that is killed or stopped, idle or in the middle of a large message. This side
 * is told in time, and nobody touches its memory after that, also not a peer that goes on.
 */
#include "bed.h"

#include <signal.h>
#include <stdlib.h>

enum moment { IDLE, PEER_SENDS, PEER_RECEIVES };

struct fall {
	enum moment moment;
	int signal; /* the peer raises it itself, so that it meets the moment */
	unsigned ncpus;
	unsigned nconn_per_cpu;
};

static const struct fall falls[] = {
	{ IDLE, SIGKILL, 1, 1 }, { PEER_SENDS, SIGKILL, 1, 1 }, { PEER_RECEIVES, SIGKILL, 2, 2 },
	{ IDLE, SIGSTOP, 1, 1 }, { PEER_SENDS, SIGSTOP, 2, 2 }, { PEER_RECEIVES, SIGSTOP, 1, 1 },
};

enum { IDLE_LEN = 4096, LARGE_LEN = 256 * MIB, BEGUN_LEN = 8 * MIB, SOURCE = 0x11 };

static struct kvt_engine_config make_fall_config(const struct fall *fall)
{
	struct kvt_engine_config config = make_watchful_config();
	config.ncpus = fall->ncpus;
	config.nconn_per_cpu = fall->nconn_per_cpu;
	return config;
}

static size_t get_len(const struct fall *fall)
{
	return fall->moment == IDLE ? IDLE_LEN : get_share(LARGE_LEN);
}

/* ---- the peer ---- */

/* A look at memory that is being written, which ThreadSanitizer shall not see. */
__attribute__((no_sanitize_thread)) static uint8_t peek(const volatile uint8_t *byte)
{
	return *byte;
}

/* A sender has segments out; at a receiver a byte behind the first few MiB has come. */
static bool has_begun(struct side *side, const struct fall *fall, const uint8_t *bytes)
{
	return fall->moment == PEER_SENDS ? get_stats(side->engine).segments >= 16
					  : peek(bytes + BEGUN_LEN) != 0;
}

/*
 * A network card goes on while the process is stopped. Where all of the message came, and the word
 * that it was all, before the sender had lost us and severed the lanes, it is received: whole, and
 * never acknowledged.
 */
static void expect_received_or_lost(struct kvt_transfer *transfer, const uint8_t *bytes, size_t len)
{
	struct kvt_result result = KVT_RESULT_INIT;
	must(wait_for(transfer, PATIENCE_NS) == KVT_OK, "a transfer goes on");
	kvt_transfer_get_result(transfer, &result);
	must(result.err == KVT_E_PEER_LOST || (is_rdma() && result.err == KVT_OK),
	     "ended with %s (%s)", kvt_err_get_name(result.err), result.text);
	kvt_transfer_free(transfer);
	must(memchr(bytes, CANARY, len) == NULL, "read after the send had ended");
	if (result.err == KVT_OK)
		must(holds_only(bytes, len, SOURCE), "not what was sent");
}

static void play_fall(struct peer *test, const void *arg)
{
	const struct fall *fall = arg;
	struct kvt_engine_config config = make_fall_config(fall);
	size_t len = get_len(fall);
	bool sends = fall->moment == PEER_SENDS;
	struct side side;
	side_serve(&side, test, &config);
	uint8_t *bytes = make_filled(len, sends ? SOURCE : 0);
	peer_hear(test);
	struct kvt_transfer *transfer = sends ? start_send(side.kv, bytes, len)
					      : start_recv(side.kv, bytes, len);
	while (fall->moment != IDLE && !has_begun(&side, fall, bytes))
		must(!kvt_transfer_is_done(transfer), "the message has come and gone");
	raise(fall->signal);

	/* Stopped, and gone on: the loss shows here as well. */
	if (fall->moment == PEER_RECEIVES)
		expect_received_or_lost(transfer, bytes, len);
	else
		finish(transfer, KVT_E_PEER_LOST);
	put_canary(bytes, len);
	expect_ended(side.conn, KVT_E_PEER_LOST);
	rest(20 * MS);
	expect_untouched(bytes, len);
	peer_tell(test, 0);
	free(bytes);
	side_close(&side);
}

/* ---- this side ---- */

static void expect_lost(struct side *side)
{
	struct kvt_send_request request = KVT_SEND_REQUEST_INIT;
	struct kvt_kv_config config = KVT_KV_CONFIG_INIT;
	struct kvt_transfer *transfer = NULL;
	struct kvt_kv *kv = NULL;
	struct kvt_error error = { .code = KVT_OK };
	expect_ended(side->conn, KVT_E_PEER_LOST);
	enum kvt_err err = kvt_send_start(side->kv, &request, &transfer, &error);
	must(err == KVT_E_PEER_LOST && error.text[0] != '\0', "%s: %s", kvt_err_get_name(err),
	     error.text);
	err = kvt_kv_open(side->conn, &config, &kv, &error);
	must(err == KVT_E_PEER_LOST && error.text[0] != '\0', "%s: %s", kvt_err_get_name(err),
	     error.text);
	must_become(get_stats(side->engine).connections_lost == 1);
}

START_TEST(a_peer_that_falls_is_lost_in_time_and_touches_no_memory_after)
{
	const struct fall *fall = &falls[_i];
	struct kvt_engine_config config = make_fall_config(fall);
	size_t len = get_len(fall);
	bool receives = fall->moment != PEER_RECEIVES;
	struct stage stage;
	stage_open(&stage, play_fall, fall, &config);
	uint8_t *bytes = make_filled(len, receives ? 0 : SOURCE);
	struct kvt_transfer *transfer = receives ? start_recv(stage.side.kv, bytes, len)
						 : start_send(stage.side.kv, bytes, len);
	peer_tell(&stage.peer, 0);

	if (fall->signal == SIGKILL)
		peer_await_death(&stage.peer);
	else
		peer_await_stop(&stage.peer);
	int64_t since_ns = get_time_ns();
	finish(transfer, KVT_E_PEER_LOST);
	int64_t took_ms = (get_time_ns() - since_ns) / MS;
	must(is_within(since_ns, fall->signal == SIGKILL ? SECOND : LOST_AFTER_NS + SECOND),
	     "too late: %lld ms", (long long)took_ms);
	put_canary(bytes, len);
	expect_lost(&stage.side);
	rest(20 * MS);
	expect_untouched(bytes, len);

	if (fall->signal == SIGSTOP) {
		peer_signal(&stage.peer, SIGCONT);
		peer_hear(&stage.peer);
		peer_finish(&stage.peer);
		expect_untouched(bytes, len);
	}
	free(bytes);
	stage_close(&stage);
}
END_TEST

/* ---- a stop that is shorter than the limit ---- */

static void play_nap(struct peer *test, const void *arg)
{
	(void)arg;
	struct side side;
	side_serve(&side, test, NULL);
	recv_pattern(side.kv, 64 * MIB, 1);
	send_pattern(side.kv, MIB, 2);
	side_close(&side);
}

START_TEST(a_peer_that_stops_for_a_moment_is_not_lost)
{
	struct stage stage;
	stage_open(&stage, play_nap, NULL, NULL);
	uint8_t *bytes = make_filled(64 * MIB, 0);
	fill_pattern(bytes, 64 * MIB, 1);
	peer_signal(&stage.peer, SIGSTOP);
	peer_await_stop(&stage.peer);
	struct kvt_transfer *send = start_send(stage.side.kv, bytes, 64 * MIB);
	must(wait_for(send, 500 * MS) == KVT_E_AGAIN, "sent to a stopped process");
	peer_signal(&stage.peer, SIGCONT);
	finish(send, KVT_OK);
	recv_pattern(stage.side.kv, MIB, 2);
	peer_finish(&stage.peer);
	free(bytes);
	stage_close(&stage);
}
END_TEST

TCase *make_loss_tests(void)
{
	TCase *tests = tcase_create("loss");
	tcase_add_loop_test(tests, a_peer_that_falls_is_lost_in_time_and_touches_no_memory_after, 0,
			    sizeof(falls) / sizeof(falls[0]));
	tcase_add_test(tests, a_peer_that_stops_for_a_moment_is_not_lost);
	return tests;
}
