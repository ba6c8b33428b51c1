/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_tagged.c - messages of every size arrive whole, in order, with their meta, whoever comes first.
 */
#include "bed.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- sizes ---- */

struct lanes {
	unsigned ncpus;
	unsigned nconn_per_cpu;
	size_t eager_len; /* of the peer; ours is EAGER_LEN */
};

static const struct lanes lanes[] = { { 1, 1, 0 }, { 2, 3, 8 * KIB }, { 4, 8, KVT_NO_EAGER } };

enum { SEND_FIRST, RECV_FIRST, ALLOCATED, ORDERS };

/* One message, as both ends know it. */
struct message {
	size_t len;
	int order;
	uint64_t seed;
	bool is_eager;
};

static size_t get_meta_len(const struct message *message)
{
	static const size_t meta_lens[] = { 0, 1, 38, KVT_META_LEN_MAX };
	return meta_lens[message->seed % 4];
}

static void send_one(struct side *side, struct peer *peer, const struct message *message)
{
	struct kvt_send_request request = KVT_SEND_REQUEST_INIT;
	struct kvt_transfer *send = NULL;
	uint8_t meta[KVT_META_LEN_MAX];
	uint8_t *bytes = make_filled(message->len, 0);
	fill_pattern(bytes, message->len, message->seed);
	fill_pattern(meta, sizeof(meta), message->seed);
	request.base = bytes;
	request.len = message->len;
	request.meta = meta;
	request.meta_len = get_meta_len(message);
	if (message->order != SEND_FIRST)
		peer_hear(peer);
	must(kvt_send_start(side->kv, &request, &send, NULL) == KVT_OK, "no send");
	if (message->order == SEND_FIRST)
		peer_tell(peer, 0);
	memset(meta, 0, sizeof(meta)); /* it was copied */
	struct kvt_result result = await(send, KVT_OK);
	must(result.len == message->len, "%zu bytes were sent of %zu", result.len, message->len);
	must((result.segments == 0) == message->is_eager, "%zu bytes took %llu segments",
	     message->len, (unsigned long long)result.segments);
	kvt_transfer_free(send);
	free(bytes);
}

static void recv_one(struct side *side, struct peer *peer, const struct message *message)
{
	uint8_t expected_meta[KVT_META_LEN_MAX];
	uint8_t *own = message->order == ALLOCATED ? NULL : make_filled(message->len + 1, CANARY);
	if (message->order == SEND_FIRST)
		peer_hear(peer);
	struct kvt_transfer *receive =
		start_recv(side->kv, own, own == NULL ? SIZE_MAX : message->len);
	if (message->order != SEND_FIRST)
		peer_tell(peer, 0);
	struct kvt_result result = await(receive, KVT_OK);
	uint8_t *taken = own != NULL ? own : kvt_transfer_take_data(receive);
	must(result.len == message->len, "%zu bytes came of %zu", result.len, message->len);
	must((taken != NULL) == (own != NULL || message->len > 0), "memory of %zu bytes",
	     message->len);
	must(message->len == 0 || holds_pattern(taken, message->len, message->seed),
	     "other bytes came, of %zu", message->len);
	must(own == NULL || own[message->len] == CANARY, "written behind the buffer");
	fill_pattern(expected_meta, sizeof(expected_meta), message->seed);
	must(result.meta_len == get_meta_len(message) &&
		     (result.meta_len == 0 ||
		      memcmp(result.meta, expected_meta, result.meta_len) == 0),
	     "other meta came");
	must(kvt_transfer_take_data(receive) == NULL, "memory is given once");
	kvt_transfer_free(receive);
	free(taken);
}

/* Both ends go through the same messages, first one way and then the other. */
static void exchange_sizes(struct side *side, struct peer *peer, size_t eager_len, bool sends)
{
	const size_t lens[] = {
		0, 1, 63, 4096, EAGER_LEN - 1, EAGER_LEN, EAGER_LEN + 1, MIB - 1, 8 * MIB + 13
	};
	uint64_t seed = 0;
	for (int way = 0; way < 2; way++, sends = !sends) {
		for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
			for (int order = 0; order < ORDERS; order++) {
				struct message message = { lens[i], order, ++seed,
							   lens[i] <= eager_len };
				if (sends)
					send_one(side, peer, &message);
				else
					recv_one(side, peer, &message);
			}
		}
	}
}

static struct kvt_engine_config make_lane_config(const struct lanes *of)
{
	struct kvt_engine_config config = make_config();
	config.ncpus = of->ncpus;
	config.nconn_per_cpu = of->nconn_per_cpu;
	return config;
}

static size_t get_common_eager_len(const struct lanes *of)
{
	return of->eager_len == 0 ? EAGER_LEN : of->eager_len == KVT_NO_EAGER ? 0 : of->eager_len;
}

static void play_sizes(struct peer *test, const void *arg)
{
	const struct lanes *of = arg;
	struct kvt_engine_config config = make_lane_config(of);
	struct side side;
	config.eager_len = of->eager_len;
	side_serve(&side, test, &config);
	exchange_sizes(&side, test, get_common_eager_len(of), false);
	side_close(&side);
}

START_TEST(messages_of_every_size_arrive_whole_whoever_comes_first)
{
	const struct lanes *of = &lanes[_i];
	struct kvt_engine_config config = make_lane_config(of);
	struct peer peer;
	struct side side;
	peer_start(&peer, play_sizes, of);
	side_call(&side, &peer, &config);
	exchange_sizes(&side, &peer, get_common_eager_len(of), true);
	side_close(&side);
	peer_finish(&peer);
}
END_TEST

/* ---- more bytes than 32 bits count ---- */

#define HUGE_LEN ((UINT64_C(1) << 32) + 4099)

static void play_huge(struct peer *test, const void *arg)
{
	(void)arg;
	struct side side;
	side_serve(&side, test, NULL);
	send_pattern(side.kv, HUGE_LEN, 1);
	side_close(&side);
}

START_TEST(a_message_of_over_4_gib_arrives_whole)
{
	struct peer peer;
	struct side side;
	peer_start(&peer, play_huge, NULL);
	side_call(&side, &peer, NULL);
	uint8_t *bytes = make_filled(HUGE_LEN, 0);
	struct kvt_transfer *receive = start_recv(side.kv, bytes, HUGE_LEN);
	while (kvt_transfer_wait(receive, SECOND) != KVT_OK)
		must(kvt_conn_get_status(side.conn, NULL) == KVT_OK, "the connection is lost");
	must(finish(receive, KVT_OK) == HUGE_LEN, "another length");
	must(holds_pattern(bytes, HUGE_LEN, 1), "other bytes");
	free(bytes);
	side_close(&side);
	peer_finish(&peer);
}
END_TEST

static bool has_memory(uint64_t len)
{
	unsigned long long kib = 0;
	char line[128];
	FILE *file = fopen("/proc/meminfo", "r");
	while (file != NULL && fgets(line, sizeof(line), file) != NULL)
		if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1)
			break;
	if (file != NULL)
		fclose(file);
	return kib * KIB >= len;
}

/* ---- order ---- */

enum { MANY = 200 };

static size_t get_mixed_len(uint64_t number)
{
	static const size_t lens[] = {
		0, 1, 64, 4096, EAGER_LEN, EAGER_LEN + 1, 200 * KIB, 3 * MIB
	};
	uint64_t seed = number;
	return lens[get_random(&seed) % (sizeof(lens) / sizeof(lens[0]))];
}

static void play_senders(struct peer *test, const void *arg)
{
	static uint8_t *bytes[MANY];
	static struct kvt_transfer *sends[MANY];
	struct kvt_engine_config config = make_lane_config(arg);
	struct side side;
	side_serve(&side, test, &config);
	peer_hear(test);
	for (uint64_t i = 0; i < MANY; i++) {
		struct kvt_send_request request = KVT_SEND_REQUEST_INIT;
		bytes[i] = make_filled(get_mixed_len(i), 0);
		fill_pattern(bytes[i], get_mixed_len(i), i);
		request.base = bytes[i];
		request.len = get_mixed_len(i);
		request.meta = &i;
		request.meta_len = sizeof(i);
		must(kvt_send_start(side.kv, &request, &sends[i], NULL) == KVT_OK, "no send");
	}
	for (uint64_t i = 0; i < MANY; i++) {
		finish(sends[i], KVT_OK);
		free(bytes[i]);
	}
	side_close(&side);
}

static void expect_number(struct kvt_transfer *receive, uint64_t number)
{
	struct kvt_result result = await(receive, KVT_OK);
	uint64_t came = MANY;
	must(result.meta_len == sizeof(came), "%zu bytes of meta", result.meta_len);
	memcpy(&came, result.meta, sizeof(came));
	must(came == number, "number %llu came as %llu", (unsigned long long)came,
	     (unsigned long long)number);
	uint8_t *data = kvt_transfer_take_data(receive);
	must(result.len == get_mixed_len(number), "another length");
	must(result.len == 0 || holds_pattern(data, result.len, number), "other bytes");
	free(data);
	kvt_transfer_free(receive);
}

START_TEST(messages_of_one_kv_keep_their_order)
{
	bool receives_wait = _i % 2;
	const struct lanes *of = &lanes[_i / 2];
	struct kvt_engine_config config = make_lane_config(of);
	struct kvt_transfer *receives[MANY];
	struct peer peer;
	struct side side;
	peer_start(&peer, play_senders, of);
	side_call(&side, &peer, &config);
	if (!receives_wait)
		peer_tell(&peer, 0);
	for (uint64_t i = 0; i < MANY; i++) {
		receives[i] = start_recv(side.kv, NULL, SIZE_MAX);
		if (!receives_wait)
			expect_number(receives[i], i);
	}
	if (receives_wait) {
		peer_tell(&peer, 0);
		for (uint64_t i = 0; i < MANY; i++)
			expect_number(receives[i], i);
	}
	side_close(&side);
	peer_finish(&peer);
}
END_TEST

TCase *make_tagged_tests(void)
{
	TCase *tests = tcase_create("tagged");
	const char *is_long = getenv("KVT_TEST_LONG");
	tcase_add_loop_test(tests, messages_of_every_size_arrive_whole_whoever_comes_first, 0, 3);
	tcase_add_loop_test(tests, messages_of_one_kv_keep_their_order, 0, 4);
	if (is_long == NULL || strcmp(is_long, "1") != 0)
		puts("SKIP: a message of over 4 GiB: KVT_TEST_LONG is not 1");
	else if (!has_memory(2 * HUGE_LEN + 1024 * (uint64_t)MIB))
		puts("SKIP: a message of over 4 GiB: it takes 9 GiB of memory");
	else
		tcase_add_test(tests, a_message_of_over_4_gib_arrives_whole);
	return tests;
}
