/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_traffic.c - many KVs of several connections at once, from several threads and both ways; the
 * connections of two engines cross.
 */
#include "bed.h"

#include <pthread.h>
#include <stdlib.h>

enum {
	CALLS = 2, /* connections that each process opens */
	CONNS = 2 * CALLS,
	THREADS = 3,
	ROUNDS = 12,
	NUMBER_TAG = 1000,
};

struct traffic {
	struct kvt_engine *engine;
	uint16_t peer_port;
	bool is_test; /* its connections have the lower numbers */
	struct kvt_conn *conns[CONNS];
	struct kvt_kv *number_kvs[CONNS];
};

struct worker {
	struct traffic *traffic;
	unsigned index; /* of the KV that it uses on every connection */
};

/* ---- connections ---- */

/* The caller gives the connection its number, so that both ends know which is which. */
static void *call_all(void *arg)
{
	struct traffic *traffic = arg;
	for (uint8_t i = 0; i < CALLS; i++) {
		uint8_t number = (uint8_t)(i + (traffic->is_test ? 0 : CALLS));
		struct kvt_conn *conn = connect_to(traffic->engine, traffic->peer_port);
		struct kvt_kv *kv = open_kv(conn, NUMBER_TAG);
		finish(start_send(kv, &number, 1), KVT_OK);
		traffic->conns[number] = conn;
		traffic->number_kvs[number] = kv;
	}
	return NULL;
}

static void accept_all(struct traffic *traffic)
{
	for (unsigned i = 0; i < CALLS; i++) {
		uint8_t number = CONNS;
		struct kvt_conn *conn = accept_from(traffic->engine);
		struct kvt_kv *kv = open_kv(conn, NUMBER_TAG);
		must(finish(start_recv(kv, &number, 1), KVT_OK) == 1 && number < CONNS, "no "
											"number");
		must(traffic->conns[number] == NULL, "number %u came twice", number);
		traffic->conns[number] = conn;
		traffic->number_kvs[number] = kv;
	}
}

/* ---- messages ---- */

static uint64_t get_seed(bool from_test, unsigned conn, unsigned kv, unsigned round)
{
	return ((round * CONNS + conn) * THREADS + kv) * 2 + from_test;
}

/* As many small ones as large ones, up to 4 MiB. */
static size_t get_len(uint64_t seed)
{
	uint64_t random = get_random(&seed);
	return get_random(&seed) % ((UINT64_C(2) << random % 22) + 1);
}

static void exchange_round(const struct worker *worker, struct kvt_kv *const *kvs, unsigned round)
{
	bool is_test = worker->traffic->is_test;
	struct kvt_transfer *sends[CONNS], *receives[CONNS];
	uint8_t *sources[CONNS], *targets[CONNS];
	for (unsigned i = 0; i < CONNS; i++) {
		uint64_t out = get_seed(is_test, i, worker->index, round);
		uint64_t in = get_seed(!is_test, i, worker->index, round);
		sources[i] = make_filled(get_len(out), 0);
		targets[i] = make_filled(get_len(in), 0);
		fill_pattern(sources[i], get_len(out), out);
		receives[i] = start_recv(kvs[i], targets[i], get_len(in));
		sends[i] = start_send(kvs[i], sources[i], get_len(out));
	}
	for (unsigned i = 0; i < CONNS; i++) {
		uint64_t in = get_seed(!is_test, i, worker->index, round);
		must(finish(receives[i], KVT_OK) == get_len(in), "another length than %zu",
		     get_len(in));
		must(holds_pattern(targets[i], get_len(in), in), "other bytes came, of %zu",
		     get_len(in));
		finish(sends[i], KVT_OK);
		free(sources[i]);
		free(targets[i]);
	}
}

static void *run_worker(void *arg)
{
	const struct worker *worker = arg;
	struct kvt_kv *kvs[CONNS];
	for (unsigned i = 0; i < CONNS; i++)
		kvs[i] = open_kv(worker->traffic->conns[i], worker->index);
	for (unsigned round = 0; round < ROUNDS; round++)
		exchange_round(worker, kvs, round);
	for (unsigned i = 0; i < CONNS; i++)
		kvt_kv_close(kvs[i]);
	return NULL;
}

/* What both processes do. */
static void run_traffic(struct peer *other, bool is_test)
{
	struct kvt_engine_config config = make_config();
	struct traffic traffic = { .is_test = is_test };
	struct worker workers[THREADS];
	pthread_t threads[THREADS], caller;
	config.ncpus = 2;
	config.nconn_per_cpu = 2;
	traffic.engine = open_engine(&config);
	peer_tell(other, kvt_engine_get_port(traffic.engine));
	traffic.peer_port = (uint16_t)peer_hear(other);

	must(pthread_create(&caller, NULL, call_all, &traffic) == 0, "no thread");
	accept_all(&traffic);
	pthread_join(caller, NULL);
	for (unsigned i = 0; i < THREADS; i++) {
		workers[i] = (struct worker){ .traffic = &traffic, .index = i };
		must(pthread_create(&threads[i], NULL, run_worker, &workers[i]) == 0, "no thread");
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);

	struct kvt_stats stats = get_stats(traffic.engine);
	must(stats.sends == CONNS * THREADS * ROUNDS + CALLS && stats.sends == stats.receives,
	     "%llu sends, %llu receives", (unsigned long long)stats.sends,
	     (unsigned long long)stats.receives);
	must(stats.failures == 0, "%llu failures", (unsigned long long)stats.failures);
	for (unsigned i = 0; i < CONNS; i++) {
		kvt_kv_close(traffic.number_kvs[i]);
		kvt_conn_close(traffic.conns[i]);
	}
	expect_no_gauges(traffic.engine);
	kvt_engine_close(traffic.engine);
}

static void play_traffic(struct peer *test, const void *arg)
{
	(void)arg;
	run_traffic(test, false);
}

START_TEST(many_kvs_of_crossing_connections_work_at_once_from_several_threads)
{
	struct peer peer;
	peer_start(&peer, play_traffic, NULL);
	int fds = count_fds();
	run_traffic(&peer, true);
	peer_finish(&peer);
	expect_fds(fds - 1);
}
END_TEST

TCase *make_traffic_tests(void)
{
	TCase *tests = tcase_create("traffic");
	tcase_add_test(tests, many_kvs_of_crossing_connections_work_at_once_from_several_threads);
	return tests;
}
