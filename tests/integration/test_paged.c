/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_paged.c - paged transfers between two processes: the peer owns what is exported, this side moves
 * blocks. Whatever becomes of the peer, nobody touches memory whose transfer or export has ended.
 */
#include "bed.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

enum {
	BLOCK_LEN = 20 * KIB,
	BLOCK_COUNT = 301,
	TINY_LEN = 8,
	TINY_COUNT = 1000003,
	SHORT_TINY_COUNT = 5003,
	FALL_LEN = 256 * MIB,
	FALL_BLOCK_LEN = 32 * KIB,
	STORM_LEN = 16 * MIB,
	STORM_BLOCK_LEN = 16 * KIB,
	STORM_ROUNDS = 30,
	GIVE_UP_ROUNDS = 100,
};

/* ---- blocks ---- */

/* Block i of one side and this one of the other; every block once. */
static size_t get_other(size_t i, size_t count)
{
	return (i * 4099 + 7) % count; /* 4099 is prime, and divides no count here */
}

/* NULL: error tells why it cannot be started. */
static struct kvt_transfer *try_blocks(enum kvt_direction direction, struct kvt_pool *pool,
				       struct kvt_remote *remote, size_t count,
				       struct kvt_error *error)
{
	struct kvt_blocks_request request = KVT_BLOCKS_REQUEST_INIT;
	struct kvt_transfer *transfer = NULL;
	int64_t *local = malloc(2 * count * sizeof(*local)), *other = local + count;
	must(local != NULL, "no memory");
	for (size_t i = 0; i < count; i++) {
		local[i] = (int64_t)i;
		other[i] = (int64_t)get_other(i, count);
	}
	request.direction = direction;
	request.pool = pool;
	request.remote = remote;
	request.local_idx = local;
	request.remote_idx = other;
	request.index_len = sizeof(*local);
	request.count = count;
	request.notify = "moved";
	request.notify_len = 5;
	kvt_blocks_start(&request, &transfer, error);
	free(local); /* they are copied */
	return transfer;
}

static struct kvt_transfer *start_blocks(enum kvt_direction direction, struct kvt_pool *pool,
					 struct kvt_remote *remote, size_t count)
{
	struct kvt_error error;
	struct kvt_transfer *transfer = try_blocks(direction, pool, remote, count, &error);
	must(transfer != NULL, "no transfer: %s", error.text);
	return transfer;
}

static enum kvt_err take_notification(struct kvt_engine *engine)
{
	struct kvt_event *event = NULL;
	int64_t since_ns = get_time_ns();
	while (kvt_engine_get_event(engine, &event) != KVT_OK) {
		must(get_time_ns() - since_ns < PATIENCE_NS, "no notification");
		kvt_engine_wait(engine, 100 * MS);
	}
	must(event->kind == KVT_EVENT_NOTIFICATION && event->len == 5 &&
		     memcmp(event->data, "moved", 5) == 0,
	     "another event");
	enum kvt_err err = event->err;
	kvt_event_free(event);
	return err;
}

/* ---- blocks and spans ---- */

struct pool {
	size_t block_len;
	size_t count;
	unsigned lanes;
};

static const struct pool pools[] = {
	{ BLOCK_LEN, BLOCK_COUNT, 1 },
	{ BLOCK_LEN, BLOCK_COUNT, 2 },
	{ TINY_LEN, TINY_COUNT, 1 },
	{ TINY_LEN, TINY_COUNT, 2 },
};

static struct pool get_pool(const struct pool *pool)
{
	struct pool shared = *pool;
	/* Where nothing is packed, each is an operation. */
	if (shared.block_len == TINY_LEN)
		shared.count = is_short() ? SHORT_TINY_COUNT : get_share(TINY_COUNT) | 1;
	return shared;
}

static struct kvt_engine_config make_pool_config(const struct pool *pool)
{
	struct kvt_engine_config config = make_config();
	config.ncpus = pool->lanes;
	config.nconn_per_cpu = pool->lanes;
	return config;
}

/* Each block has its own pattern; turned: that of the other side's block. */
static void fill_blocks(uint8_t *memory, const struct pool *pool, uint64_t seed)
{
	for (size_t i = 0; i < pool->count; i++)
		fill_pattern(memory + i * pool->block_len, pool->block_len, seed + i);
}

static void expect_blocks(const uint8_t *memory, const struct pool *pool, uint64_t seed,
			  bool turned)
{
	for (size_t i = 0; i < pool->count; i++) {
		size_t at = turned ? get_other(i, pool->count) : i;
		size_t from = turned ? i : get_other(i, pool->count);
		must(holds_pattern(memory + at * pool->block_len, pool->block_len, seed + from),
		     "block %zu is another", at);
	}
}

static void play_owner(struct peer *test, const void *arg)
{
	struct pool pool = get_pool(arg);
	struct kvt_engine_config config = make_pool_config(&pool);
	struct side side;
	side_serve(&side, test, &config);
	uint8_t *memory = make_filled(pool.count * pool.block_len, CANARY);
	struct kvt_pool *opened = open_pool(side.engine, memory, pool.block_len, pool.count);
	struct kvt_export *exported = export_pool(side.conn, opened, "pool");
	must(take_notification(side.engine) == KVT_OK, "it failed");
	expect_blocks(memory, &pool, 1, true);
	fill_blocks(memory, &pool, 5000000);
	/* Workers read the memory only after the peer was told to ask for it. ThreadSanitizer does not see
	 * this order, but it sees that withdrawing an export takes every worker's lock. */
	kvt_export_close(export_pool(side.conn, opened, "order"));
	peer_tell(test, 0);
	must(take_notification(side.engine) == KVT_OK, "it failed");
	peer_hear(test);
	kvt_export_close(exported);
	kvt_pool_close(opened);
	free(memory);
	side_close(&side);
}

START_TEST(blocks_are_where_they_belong_however_many)
{
	struct pool pool = get_pool(&pools[_i]);
	struct kvt_engine_config config = make_pool_config(&pool);
	struct stage stage;
	size_t len = pool.count * pool.block_len;
	stage_open(&stage, play_owner, &pools[_i], &config);
	uint8_t *memory = make_filled(len, 0);
	fill_blocks(memory, &pool, 1);
	struct kvt_pool *opened = open_pool(stage.side.engine, memory, pool.block_len, pool.count);
	struct kvt_remote *remote = find_remote(stage.side.conn, "pool");
	must(finish(start_blocks(KVT_WRITE, opened, remote, pool.count), KVT_OK) == len, "fewer");
	peer_hear(&stage.peer);
	put_canary(memory, len);
	must(finish(start_blocks(KVT_READ, opened, remote, pool.count), KVT_OK) == len, "fewer");
	expect_blocks(memory, &pool, 5000000, false);
	kvt_remote_close(remote);
	kvt_pool_close(opened);
	peer_tell(&stage.peer, 0);
	peer_finish(&stage.peer);
	stage_close(&stage);
	free(memory);
}
END_TEST

/* ---- descriptors ---- */

static void play_exporter(struct peer *test, const void *arg)
{
	(void)arg;
	struct side side;
	side_serve(&side, test, NULL);
	uint8_t *memory = make_filled(4 * KIB, CANARY), bytes[512];
	size_t len = sizeof(bytes);
	struct kvt_pool *pool = open_pool(side.engine, memory, KIB, 4);
	struct kvt_export *exported = export_pool(side.conn, pool, NULL);
	must(kvt_export_describe(exported, NULL, &len) == KVT_OK && len <= sizeof(bytes), "long");
	must(kvt_export_describe(exported, bytes, &len) == KVT_OK, "no descriptor");
	finish(start_send(side.kv, bytes, len), KVT_OK);
	struct kvt_conn *second = accept_from(side.engine);
	peer_hear(test);
	kvt_export_close(exported);
	peer_tell(test, 0);
	peer_hear(test);
	expect_untouched(memory, 4 * KIB);
	kvt_conn_close(second);
	kvt_pool_close(pool);
	free(memory);
	side_close(&side);
}

static void expect_no_import(struct kvt_conn *conn, const uint8_t *bytes, size_t len,
			     enum kvt_err expected)
{
	struct kvt_remote *remote = NULL;
	struct kvt_error error = { .code = KVT_OK };
	enum kvt_err err = kvt_remote_import(conn, bytes, len, SECOND, &remote, &error);
	must(err == expected && error.text[0] != '\0', "%zu bytes give %s (%s)", len,
	     kvt_err_get_name(err), error.text);
}

START_TEST(a_descriptor_is_good_whole_unaltered_and_on_its_connection)
{
	struct stage stage;
	struct kvt_remote *remote = NULL;
	uint8_t bytes[512], own_bytes[512], *memory = make_filled(4 * KIB, 0);
	size_t own_len = sizeof(own_bytes);
	stage_open(&stage, play_exporter, NULL, NULL);
	struct kvt_conn *conn = stage.side.conn;
	size_t len = finish(start_recv(stage.side.kv, bytes, sizeof(bytes)), KVT_OK);
	for (size_t i = 0; i < len; i++)
		expect_no_import(conn, bytes, i, KVT_E_INVALID);
	for (size_t i = 0; i < len * 8; i++) {
		bytes[i / 8] ^= (uint8_t)(1 << i % 8);
		expect_no_import(conn, bytes, len, KVT_E_INVALID);
		bytes[i / 8] ^= (uint8_t)(1 << i % 8);
	}
	must(len < sizeof(bytes), "no room");
	expect_no_import(conn, bytes, len + 1, KVT_E_INVALID);

	/* One that this side made is for the other side. */
	struct kvt_pool *pool = open_pool(stage.side.engine, memory, KIB, 4);
	struct kvt_export *own = export_pool(conn, pool, NULL);
	must(kvt_export_describe(own, own_bytes, &own_len) == KVT_OK, "no descriptor");
	expect_no_import(conn, own_bytes, own_len, KVT_E_INVALID);
	kvt_export_close(own);

	struct kvt_conn *second = connect_to(stage.side.engine, kvt_conn_get_port(conn));
	expect_no_import(second, bytes, len, KVT_E_INVALID);

	must(kvt_remote_import(conn, bytes, len, SECOND, &remote, NULL) == KVT_OK, "not good");
	peer_tell(&stage.peer, 0);
	peer_hear(&stage.peer); /* withdrawn */
	expect_no_import(conn, bytes, len, KVT_E_WITHDRAWN);
	kvt_remote_close(remote);
	kvt_conn_close(second);
	kvt_pool_close(pool);
	peer_tell(&stage.peer, 0);
	peer_finish(&stage.peer);
	stage_close(&stage);
	free(memory);
}
END_TEST

/* ---- falls ---- */

struct fall {
	enum kvt_direction direction;
	int signal;
	unsigned lanes;
};

static const struct fall falls[] = {
	{ KVT_WRITE, SIGKILL, 1 },
	{ KVT_READ, SIGKILL, 2 },
	{ KVT_WRITE, SIGSTOP, 2 },
	{ KVT_READ, SIGSTOP, 1 },
};

static struct kvt_engine_config make_fall_config(const struct fall *fall)
{
	struct kvt_engine_config config = make_watchful_config();
	config.ncpus = fall->lanes;
	config.nconn_per_cpu = fall->lanes;
	return config;
}

static void play_fall(struct peer *test, const void *arg)
{
	const struct fall *fall = arg;
	struct kvt_engine_config config = make_fall_config(fall);
	size_t len = get_share(FALL_LEN);
	struct side side;
	side_serve(&side, test, &config);
	uint8_t *memory = make_filled(len, 1);
	struct kvt_pool *pool =
		open_pool(side.engine, memory, FALL_BLOCK_LEN, len / FALL_BLOCK_LEN);
	struct kvt_export *exported = export_pool(side.conn, pool, "pool");
	peer_tell(test, 0);
	peer_hear(test);
	raise(fall->signal);

	/* Stopped, and gone on: the loss shows here as well, and then nobody writes here. */
	expect_ended(side.conn, KVT_E_PEER_LOST);
	kvt_export_close(exported);
	put_canary(memory, len);
	rest(20 * MS);
	expect_untouched(memory, len);
	kvt_pool_close(pool);
	free(memory);
	side_close(&side);
}

START_TEST(a_peer_that_falls_ends_its_transfers_in_time)
{
	const struct fall *fall = &falls[_i];
	struct kvt_engine_config config = make_fall_config(fall);
	size_t len = get_share(FALL_LEN), count = len / FALL_BLOCK_LEN;
	struct stage stage;
	stage_open(&stage, play_fall, fall, &config);
	uint8_t *memory = make_filled(len, 1);
	struct kvt_pool *pool = open_pool(stage.side.engine, memory, FALL_BLOCK_LEN, count);
	struct kvt_remote *remote = find_remote(stage.side.conn, "pool");
	peer_hear(&stage.peer);
	peer_tell(&stage.peer, 0);
	/* So many that the fall comes between them. */
	enum { DEPTH = 64 };
	struct kvt_transfer *transfers[DEPTH];
	unsigned started = 0;
	struct kvt_error error = { .code = KVT_OK };
	while (started < DEPTH && (transfers[started] = try_blocks(fall->direction, pool, remote,
								   count, &error)) != NULL)
		started++;
	must(started == DEPTH || error.code == KVT_E_PEER_LOST, "%s", error.text);
	if (fall->signal == SIGKILL)
		peer_await_death(&stage.peer);
	else
		peer_await_stop(&stage.peer);
	int64_t since_ns = get_time_ns();
	for (unsigned i = started; i > 0; i--) {
		struct kvt_result result = KVT_RESULT_INIT;
		must(wait_for(transfers[i - 1], PATIENCE_NS) == KVT_OK, "it does not end");
		kvt_transfer_get_result(transfers[i - 1], &result);
		must(result.err == KVT_E_PEER_LOST || (result.err == KVT_OK && i < started),
		     "it ended with %s", kvt_err_get_name(result.err));
		kvt_transfer_free(transfers[i - 1]);
	}
	must(is_within(since_ns, fall->signal == SIGKILL ? SECOND : LOST_AFTER_NS + SECOND),
	     "too late: %lld ms", (long long)((get_time_ns() - since_ns) / MS));
	put_canary(memory, len);
	if (fall->signal == SIGSTOP) {
		peer_signal(&stage.peer, SIGCONT);
		peer_finish(&stage.peer);
	}
	expect_untouched(memory, len);
	kvt_remote_close(remote);
	kvt_pool_close(pool);
	stage_close(&stage);
	free(memory);
}
END_TEST

/* ---- storms of withdrawals ---- */

static void play_withdrawer(struct peer *test, const void *arg)
{
	const struct pool *pool = arg;
	struct kvt_engine_config config = make_pool_config(pool);
	uint64_t seed = 5;
	struct side side;
	side_serve(&side, test, &config);
	uint8_t *memory = make_filled(STORM_LEN, 1);
	struct kvt_pool *opened =
		open_pool(side.engine, memory, STORM_BLOCK_LEN, STORM_LEN / STORM_BLOCK_LEN);
	for (uint64_t i = 0; i < get_share(STORM_ROUNDS); i++) {
		char name[32];
		snprintf(name, sizeof(name), "round %llu", (unsigned long long)i);
		struct kvt_export *exported = export_pool(side.conn, opened, name);
		peer_hear(test);
		rest((int64_t)(get_random(&seed) % 8) * MS);
		kvt_export_close(exported);
		put_canary(memory, STORM_LEN);
		rest(MS);
		expect_untouched(memory, STORM_LEN);
		enum kvt_err err = take_notification(side.engine);
		must(err == KVT_OK || err == KVT_E_WITHDRAWN, "%s", kvt_err_get_name(err));
		peer_tell(test, err == KVT_OK);
	}
	kvt_pool_close(opened);
	free(memory);
	side_close(&side);
}

START_TEST(withdrawals_in_the_middle_of_transfers_leave_no_writer)
{
	static const struct pool lanes[] = { { .lanes = 1 }, { .lanes = 2 } };
	struct kvt_engine_config config = make_pool_config(&lanes[_i]);
	size_t count = STORM_LEN / STORM_BLOCK_LEN;
	struct stage stage;
	stage_open(&stage, play_withdrawer, &lanes[_i], &config);
	uint8_t *memory = make_filled(STORM_LEN, 1);
	struct kvt_pool *pool = open_pool(stage.side.engine, memory, STORM_BLOCK_LEN, count);
	for (uint64_t i = 0; i < get_share(STORM_ROUNDS); i++) {
		struct kvt_result result = KVT_RESULT_INIT;
		char name[32];
		snprintf(name, sizeof(name), "round %llu", (unsigned long long)i);
		struct kvt_remote *remote = find_remote(stage.side.conn, name);
		struct kvt_transfer *transfer =
			start_blocks(i % 3 == 2 ? KVT_READ : KVT_WRITE, pool, remote, count);
		peer_tell(&stage.peer, 0);
		must(wait_for(transfer, PATIENCE_NS) == KVT_OK, "it does not end");
		kvt_transfer_get_result(transfer, &result);
		must(result.err == KVT_OK || result.err == KVT_E_WITHDRAWN, "%s", result.text);
		bool was_told = peer_hear(&stage.peer) != 0;
		/* A notification on its way is of success, though the withdrawal may overtake NOTED. */
		must(was_told || result.err == KVT_E_WITHDRAWN, "success without its notification");
		kvt_transfer_free(transfer);
		kvt_remote_close(remote);
	}
	kvt_pool_close(pool);
	peer_finish(&stage.peer);
	stage_close(&stage);
	free(memory);
}
END_TEST

/* ---- storms of writes given up ---- */

/* This thread and the engine's write the same memory in turns that the other process tells. Closing an export
 * meets them, which ThreadSanitizer sees. */
static void meet_threads(struct kvt_conn *conn, struct kvt_pool *pool)
{
	kvt_export_close(export_pool(conn, pool, "meeting"));
}

/* Its memory is its own as soon as the writer has its error. */
static void play_watchful_owner(struct peer *test, const void *arg)
{
	struct kvt_engine_config config = make_pool_config(arg);
	struct side side;
	side_serve(&side, test, &config);
	uint8_t *memory = make_filled(STORM_LEN, 1);
	struct kvt_pool *pool =
		open_pool(side.engine, memory, STORM_BLOCK_LEN, STORM_LEN / STORM_BLOCK_LEN);
	struct kvt_export *exported = export_pool(side.conn, pool, "pool");
	for (uint64_t i = 0; i < get_share(GIVE_UP_ROUNDS); i++) {
		peer_hear(test);
		meet_threads(side.conn, pool);
		put_canary(memory, STORM_LEN);
		rest(2 * MS);
		expect_untouched(memory, STORM_LEN);
		meet_threads(side.conn, pool);
		peer_tell(test, 0);
	}
	kvt_export_close(exported);
	kvt_pool_close(pool);
	free(memory);
	peer_hear(test);
	side_close(&side);
}

/* All of the pool, in spans of span_len, without a notification. */
static struct kvt_transfer *start_whole(struct kvt_pool *pool, struct kvt_remote *remote,
					size_t count, size_t span_len)
{
	struct kvt_spans_request request = KVT_SPANS_REQUEST_INIT;
	struct kvt_transfer *transfer = NULL;
	uint64_t *local = malloc(3 * count * sizeof(*local)), *other = local + count,
		 *lens = other + count;
	must(local != NULL, "no memory");
	for (size_t i = 0; i < count; i++) {
		local[i] = i * span_len;
		other[i] = get_other(i, count) * span_len;
		lens[i] = span_len;
	}
	request.pool = pool;
	request.remote = remote;
	request.local_off = local;
	request.remote_off = other;
	request.lens = lens;
	request.count = count;
	must(kvt_spans_start(&request, &transfer, NULL) == KVT_OK, "no transfer");
	free(local);
	return transfer;
}

START_TEST(a_write_that_has_failed_leaves_the_owners_memory_alone)
{
	/* Straight into place, and packed. */
	static const struct pool lanes[] = { { .lanes = 1 }, { .lanes = 2 } };
	struct kvt_engine_config config = make_pool_config(&lanes[_i / 2]);
	size_t block_len = _i % 2 == 0 ? STORM_LEN : STORM_BLOCK_LEN;
	uint64_t seed = 11;
	struct stage stage;
	stage_open(&stage, play_watchful_owner, &lanes[_i / 2], &config);
	uint8_t *memory = make_filled(STORM_LEN, 1);
	struct kvt_pool *pool =
		open_pool(stage.side.engine, memory, STORM_BLOCK_LEN, STORM_LEN / STORM_BLOCK_LEN);
	struct kvt_remote *remote = find_remote(stage.side.conn, "pool");
	unsigned given_up = 0;
	for (uint64_t i = 0; i < get_share(GIVE_UP_ROUNDS); i++) {
		struct kvt_result result = KVT_RESULT_INIT;
		struct kvt_transfer *transfer =
			start_whole(pool, remote, STORM_LEN / block_len, block_len);
		rest((int64_t)(get_random(&seed) % 4000) * MS / 1000);
		kvt_transfer_cancel(transfer);
		must(wait_for(transfer, PATIENCE_NS) == KVT_OK, "it does not end");
		kvt_transfer_get_result(transfer, &result);
		must(result.err == KVT_OK || result.err == KVT_E_CANCELLED, "%s", result.text);
		given_up += result.err != KVT_OK;
		kvt_transfer_free(transfer);
		peer_tell(&stage.peer, 0);
		peer_hear(&stage.peer);
	}
	must(given_up > 0, "none was given up");
	kvt_remote_close(remote);
	kvt_pool_close(pool);
	peer_tell(&stage.peer, 0);
	peer_finish(&stage.peer);
	stage_close(&stage);
	free(memory);
}
END_TEST

TCase *make_paged_tests(void)
{
	TCase *tests = tcase_create("paged");
	tcase_add_loop_test(tests, blocks_are_where_they_belong_however_many, 0, 4);
	tcase_add_test(tests, a_descriptor_is_good_whole_unaltered_and_on_its_connection);
	tcase_add_loop_test(tests, a_peer_that_falls_ends_its_transfers_in_time, 0, 4);
	tcase_add_loop_test(tests, withdrawals_in_the_middle_of_transfers_leave_no_writer, 0, 2);
	tcase_add_loop_test(tests, a_write_that_has_failed_leaves_the_owners_memory_alone, 0, 4);
	return tests;
}
