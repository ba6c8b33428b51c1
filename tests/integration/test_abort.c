/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_abort.c - messages given up in the middle, again and again (docs/protocol.md 6.4). Memory is
 * filled with a canary as soon as its transfer has ended, and looked at much later.
 */
#include "bed.h"

#include <stdio.h>
#include <stdlib.h>

enum { BUFFERS = 4 };

struct storm {
	unsigned ncpus;
	unsigned nconn_per_cpu;
	unsigned rounds;
};

static const struct storm storms[] = { { 1, 1, 100 }, { 2, 3, 40 } };

/* KVT_TEST_ROUNDS of each storm. A message has to be long enough to be given up in its middle. */
static uint64_t get_rounds(const struct storm *storm)
{
	const char *wanted = getenv("KVT_TEST_ROUNDS");
	return wanted != NULL ? strtoull(wanted, NULL, 10) : get_share(storm->rounds);
}

static size_t get_message_len(void)
{
	return is_short() ? 8 * MIB : 16 * MIB;
}

static struct kvt_engine_config make_storm_config(const struct storm *storm)
{
	struct kvt_engine_config config = make_config();
	config.ncpus = storm->ncpus;
	config.nconn_per_cpu = storm->nconn_per_cpu;
	return config;
}

/* ---- receives given up ---- */

/* One message after the other until the test has enough; each stays until a receive takes it whole. */
static void play_patient_sender(struct peer *test, const void *arg)
{
	struct kvt_engine_config config = make_storm_config(arg);
	struct side side;
	side_serve(&side, test, &config);
	uint8_t *bytes = make_filled(get_message_len(), 0);
	struct kvt_result result = KVT_RESULT_INIT;
	for (uint64_t i = 0; result.err == KVT_OK; i++) {
		struct kvt_send_request request = KVT_SEND_REQUEST_INIT;
		struct kvt_transfer *send = NULL;
		fill_pattern(bytes, get_message_len(), i);
		request.base = bytes;
		request.len = get_message_len();
		result.err = kvt_send_start(side.kv, &request, &send, NULL);
		if (result.err != KVT_OK)
			break;
		must(wait_for(send, 2 * PATIENCE_NS) == KVT_OK, "a send goes on");
		kvt_transfer_get_result(send, &result);
		kvt_transfer_free(send);
	}
	must(result.err == KVT_E_PEER_CLOSED, "%s", kvt_err_get_name(result.err));
	free(bytes);
	expect_ended(side.conn, KVT_E_PEER_CLOSED);
	side_close(&side);
}

/* A receive that is given up after a while. Returns whether it had taken its message before. */
static bool receive_for(struct kvt_kv *kv, uint8_t *bytes, int64_t time_ns, bool by_deadline)
{
	struct kvt_transfer *receive =
		start_recv_within(kv, bytes, get_message_len(), by_deadline ? time_ns : 0);
	if (!by_deadline && wait_for(receive, time_ns) == KVT_E_AGAIN)
		kvt_transfer_cancel(receive);
	int64_t since_ns = get_time_ns();
	must(wait_for(receive, PATIENCE_NS) == KVT_OK, "a receive goes on");
	must(is_within(since_ns, time_ns + SECOND), "it ended too late");
	struct kvt_result result = KVT_RESULT_INIT;
	kvt_transfer_get_result(receive, &result);
	must(result.err == KVT_OK || result.err == (by_deadline ? KVT_E_TIMEOUT : KVT_E_CANCELLED),
	     "%s: %s", kvt_err_get_name(result.err), result.text);
	kvt_transfer_free(receive);
	return result.err == KVT_OK;
}

/* Returns how long the bytes took; the sender has had the time to begin. */
static int64_t receive_whole(struct kvt_kv *kv, uint8_t *bytes, uint64_t seed)
{
	rest(50 * MS);
	int64_t since_ns = get_time_ns();
	finish(start_recv(kv, bytes, get_message_len()), KVT_OK);
	int64_t took_ns = get_time_ns() - since_ns;
	must(holds_pattern(bytes, get_message_len(), seed), "message %llu is not whole",
	     (unsigned long long)seed);
	return took_ns;
}

/* How long a message takes, by what has come of giving it that time at most: one slow message at the
 * beginning must not give all others the time to come whole. */
static int64_t learn(int64_t whole_ns, bool was_whole)
{
	return was_whole ? whole_ns - whole_ns / 8 : whole_ns + whole_ns / 8;
}

START_TEST(receives_given_up_at_any_moment_leave_their_memory_alone_and_messages_whole)
{
	const struct storm *storm = &storms[_i];
	uint64_t rounds = get_rounds(storm);
	struct kvt_engine_config config = make_storm_config(storm);
	uint8_t *buffers[BUFFERS];
	uint64_t seed = (uint64_t)get_time_ns();
	printf("storm: seed %llu\n", (unsigned long long)seed);
	struct stage stage;
	stage_open(&stage, play_patient_sender, storm, &config);
	for (unsigned i = 0; i < BUFFERS; i++)
		buffers[i] = make_filled(get_message_len(), CANARY);

	uint64_t next = 0;
	receive_whole(stage.side.kv, buffers[0], next++);
	int64_t whole_ns = receive_whole(stage.side.kv, buffers[0], next++);
	put_canary(buffers[0], get_message_len());
	unsigned given_up = 0;
	for (uint64_t round = 0; round < rounds - 2; round++) {
		uint8_t *bytes = buffers[round % BUFFERS];
		expect_untouched(bytes, get_message_len());
		int64_t time_ns = 1 + (int64_t)(get_random(&seed) % (uint64_t)whole_ns);
		bool was_whole =
			receive_for(stage.side.kv, bytes, time_ns, get_random(&seed) % 2 == 0);
		whole_ns = learn(whole_ns, was_whole);
		if (was_whole)
			must(holds_pattern(bytes, get_message_len(), next++), "a message is not "
									      "whole");
		else
			given_up++;
		put_canary(bytes, get_message_len());
	}
	receive_whole(stage.side.kv, buffers[0], next);
	for (unsigned i = 1; i < BUFFERS; i++)
		expect_untouched(buffers[i], get_message_len());
	must(given_up >= rounds / 10, "only %u were given up", given_up);
	printf("storm: %u of %llu receives were given up\n", given_up, (unsigned long long)rounds);

	kvt_conn_close(stage.side.conn);
	peer_finish(&stage.peer);
	stage.side.conn = NULL;
	for (unsigned i = 0; i < BUFFERS; i++)
		free(buffers[i]);
	stage_close(&stage);
}
END_TEST

/* ---- sends given up ---- */

/* What ends as success is whole; what does not is nothing. Ends with a receive that must succeed. */
static void play_patient_receiver(struct peer *test, const void *arg)
{
	const struct storm *storm = arg;
	uint64_t rounds = get_rounds(storm);
	struct kvt_engine_config config = make_storm_config(storm);
	struct side side;
	uint64_t number = 0;
	side_serve(&side, test, &config);
	uint8_t *bytes = make_filled(get_message_len(), 0);
	while (number != rounds) {
		struct kvt_transfer *receive = start_recv(side.kv, bytes, get_message_len());
		must(wait_for(receive, PATIENCE_NS) == KVT_OK, "a receive goes on");
		struct kvt_result result = KVT_RESULT_INIT;
		kvt_transfer_get_result(receive, &result);
		must(result.err == KVT_OK || result.err == KVT_E_CANCELLED, "%s: %s",
		     kvt_err_get_name(result.err), result.text);
		if (result.err == KVT_OK) {
			memcpy(&number, result.meta, sizeof(number));
			must(holds_pattern(bytes, get_message_len(), number),
			     "message %llu is not whole", (unsigned long long)number);
		}
		kvt_transfer_free(receive);
	}
	free(bytes);
	peer_tell(test, 0);
	peer_hear(test);
	side_close(&side);
}

static bool send_for(struct kvt_kv *kv, const uint8_t *bytes, uint64_t number, int64_t time_ns)
{
	struct kvt_send_request request = KVT_SEND_REQUEST_INIT;
	struct kvt_transfer *send = NULL;
	request.base = bytes;
	request.len = get_message_len();
	request.meta = &number;
	request.meta_len = sizeof(number);
	must(kvt_send_start(kv, &request, &send, NULL) == KVT_OK, "no send");
	if (wait_for(send, time_ns) == KVT_E_AGAIN)
		kvt_transfer_cancel(send);
	must(wait_for(send, PATIENCE_NS) == KVT_OK, "a send goes on");
	struct kvt_result result = KVT_RESULT_INIT;
	kvt_transfer_get_result(send, &result);
	must(result.err == KVT_OK || result.err == KVT_E_CANCELLED, "%s: %s",
	     kvt_err_get_name(result.err), result.text);
	kvt_transfer_free(send);
	return result.err == KVT_OK;
}

START_TEST(sends_given_up_at_any_moment_never_pass_for_whole_messages)
{
	const struct storm *storm = &storms[_i];
	uint64_t rounds = get_rounds(storm);
	struct kvt_engine_config config = make_storm_config(storm);
	uint64_t seed = (uint64_t)get_time_ns();
	printf("storm: seed %llu\n", (unsigned long long)seed);
	struct stage stage;
	stage_open(&stage, play_patient_receiver, storm, &config);
	uint8_t *bytes = make_filled(get_message_len(), 0);
	fill_pattern(bytes, get_message_len(), 0);
	int64_t since_ns = get_time_ns();
	must(send_for(stage.side.kv, bytes, 0, PATIENCE_NS), "not sent");
	int64_t whole_ns = get_time_ns() - since_ns;
	unsigned given_up = 0;
	for (uint64_t number = 1; number < rounds; number++) {
		fill_pattern(bytes, get_message_len(), number);
		int64_t time_ns = 1 + (int64_t)(get_random(&seed) % (uint64_t)whole_ns);
		bool was_whole = send_for(stage.side.kv, bytes, number, time_ns);
		whole_ns = learn(whole_ns, was_whole);
		if (!was_whole)
			given_up++;
	}
	must(given_up >= rounds / 10, "only %u were given up", given_up);
	printf("storm: %u of %llu sends were given up\n", given_up, (unsigned long long)rounds);
	fill_pattern(bytes, get_message_len(), rounds);
	must(send_for(stage.side.kv, bytes, rounds, PATIENCE_NS), "not sent");
	peer_hear(&stage.peer);
	peer_tell(&stage.peer, 0);
	peer_finish(&stage.peer);
	free(bytes);
	stage_close(&stage);
}
END_TEST

TCase *make_abort_tests(void)
{
	enum { STORMS = sizeof(storms) / sizeof(storms[0]) };
	TCase *tests = tcase_create("abort");
	tcase_add_loop_test(
		tests, receives_given_up_at_any_moment_leave_their_memory_alone_and_messages_whole,
		0, STORMS);
	tcase_add_loop_test(tests, sends_given_up_at_any_moment_never_pass_for_whole_messages, 1,
			    STORMS);
	return tests;
}
