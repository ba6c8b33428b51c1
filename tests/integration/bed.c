/* SPDX-License-Identifier: Apache-2.0 */
/* bed.c - engines, sides and stages, memory with patterns, and counts of what must not leak. */
#include "bed.h"

#include <dirent.h>
#include <stdlib.h>

static const char *get_setting(const char *name, const char *otherwise)
{
	const char *value = getenv(name);
	return value != NULL && value[0] != '\0' ? value : otherwise;
}

const char *get_provider(void)
{
	return get_setting("KVT_TEST_PROVIDER", "tcp");
}

const char *get_interface(void)
{
	return get_setting("KVT_TEST_INTERFACE", "lo");
}

const char *get_host(void)
{
	return get_setting("KVT_TEST_HOST", "127.0.0.1");
}

bool is_rdma(void)
{
	return strcmp(get_provider(), "verbs") == 0;
}

bool is_local(void)
{
	return strcmp(get_provider(), "local") == 0;
}

/* ---- engines ---- */

struct kvt_engine_config make_config(void)
{
	static const char *interfaces[1];
	struct kvt_engine_config config = KVT_ENGINE_CONFIG_INIT;
	interfaces[0] = get_interface();
	config.interfaces = interfaces;
	config.interface_count = 1;
	config.provider = get_provider();
	config.ncpus = 1;
	return config;
}

struct kvt_engine_config make_watchful_config(void)
{
	struct kvt_engine_config config = make_config();
	config.heartbeat_ns = 100 * MS;
	config.lost_after_ns = LOST_AFTER_NS;
	return config;
}

struct kvt_engine *open_engine(const struct kvt_engine_config *config)
{
	struct kvt_engine_config plain = make_config();
	struct kvt_engine *engine = NULL;
	struct kvt_error error = { .code = KVT_OK };
	enum kvt_err err = kvt_engine_open(config == NULL ? &plain : config, &engine, &error);
	must(err == KVT_OK, "no engine: %s", error.text);
	return engine;
}

struct kvt_conn *connect_to(struct kvt_engine *engine, uint16_t port)
{
	struct kvt_conn *conn = NULL;
	struct kvt_error error = { .code = KVT_OK };
	enum kvt_err err = kvt_conn_open(engine, get_host(), port, PATIENCE_NS, &conn, &error);
	must(err == KVT_OK, "no connection: %s", error.text);
	return conn;
}

struct kvt_conn *accept_from(struct kvt_engine *engine)
{
	struct kvt_conn *conn = NULL;
	struct kvt_error error = { .code = KVT_OK };
	enum kvt_err err = kvt_conn_accept(engine, PATIENCE_NS, &conn, &error);
	must(err == KVT_OK, "nobody to accept: %s", error.text);
	return conn;
}

struct kvt_kv *open_kv(struct kvt_conn *conn, uint64_t tag)
{
	struct kvt_kv_config config = KVT_KV_CONFIG_INIT;
	struct kvt_kv *kv = NULL;
	struct kvt_error error = { .code = KVT_OK };
	config.tag = tag;
	enum kvt_err err = kvt_kv_open(conn, &config, &kv, &error);
	must(err == KVT_OK, "no KV: %s", error.text);
	return kv;
}

struct kvt_stats get_stats(struct kvt_engine *engine)
{
	struct kvt_stats stats = KVT_STATS_INIT;
	must(kvt_engine_get_stats(engine, &stats) == KVT_OK, "no stats");
	return stats;
}

void expect_no_gauges(struct kvt_engine *engine)
{
	struct kvt_stats stats = get_stats(engine);
	must(stats.connections == 0 && stats.kvs == 0 && stats.registrations == 0 &&
		     stats.transfers == 0,
	     "%llu connections, %llu KVs, %llu registrations, %llu transfers",
	     (unsigned long long)stats.connections, (unsigned long long)stats.kvs,
	     (unsigned long long)stats.registrations, (unsigned long long)stats.transfers);
}

void expect_ended(struct kvt_conn *conn, enum kvt_err err)
{
	struct kvt_error error = { .code = KVT_OK };
	must_become(kvt_conn_get_status(conn, NULL) != KVT_OK);
	enum kvt_err status = kvt_conn_get_status(conn, &error);
	must(status == err && error.code == err && error.text[0] != '\0',
	     "the connection is %s: %s", kvt_err_get_name(status), error.text);
}

/* ---- transfers ---- */

struct kvt_transfer *start_send_within(struct kvt_kv *kv, const void *base, size_t len,
				       int64_t timeout_ns)
{
	struct kvt_send_request request = KVT_SEND_REQUEST_INIT;
	struct kvt_transfer *transfer = NULL;
	struct kvt_error error = { .code = KVT_OK };
	request.base = base;
	request.len = len;
	request.timeout_ns = timeout_ns;
	enum kvt_err err = kvt_send_start(kv, &request, &transfer, &error);
	must(err == KVT_OK, "no send: %s", error.text);
	return transfer;
}

struct kvt_transfer *start_recv_within(struct kvt_kv *kv, void *base, size_t len,
				       int64_t timeout_ns)
{
	struct kvt_recv_request request = KVT_RECV_REQUEST_INIT;
	struct kvt_transfer *transfer = NULL;
	struct kvt_error error = { .code = KVT_OK };
	request.base = base;
	request.len = len;
	request.timeout_ns = timeout_ns;
	enum kvt_err err = kvt_recv_start(kv, &request, &transfer, &error);
	must(err == KVT_OK, "no receive: %s", error.text);
	return transfer;
}

struct kvt_transfer *start_send(struct kvt_kv *kv, const void *base, size_t len)
{
	return start_send_within(kv, base, len, 0);
}

struct kvt_transfer *start_recv(struct kvt_kv *kv, void *base, size_t len)
{
	return start_recv_within(kv, base, len, 0);
}

enum kvt_err wait_for(struct kvt_transfer *transfer, int64_t timeout_ns)
{
	int64_t until_ns = get_time_ns() + timeout_ns;
	int64_t left_ns = timeout_ns;
	enum kvt_err err;
	while ((err = kvt_transfer_wait(transfer, left_ns)) == KVT_E_AGAIN) {
		left_ns = until_ns - get_time_ns();
		if (left_ns <= 0)
			break;
	}
	return err;
}

struct kvt_result await(struct kvt_transfer *transfer, enum kvt_err err)
{
	struct kvt_result result = KVT_RESULT_INIT;
	must(wait_for(transfer, PATIENCE_NS) == KVT_OK, "a transfer goes on; it should end with %s",
	     kvt_err_get_name(err));
	must(kvt_transfer_get_result(transfer, &result) == KVT_OK, "no result");
	must(result.err == err, "a transfer ended with %s (%s) instead of %s",
	     kvt_err_get_name(result.err), result.text, kvt_err_get_name(err));
	must((err == KVT_OK) == (result.text[0] == '\0'), "the sentence is: %s", result.text);
	return result;
}

size_t finish(struct kvt_transfer *transfer, enum kvt_err err)
{
	size_t len = await(transfer, err).len;
	kvt_transfer_free(transfer);
	return len;
}

void send_pattern(struct kvt_kv *kv, size_t len, uint64_t seed)
{
	uint8_t *bytes = make_filled(len, 0);
	fill_pattern(bytes, len, seed);
	finish(start_send(kv, bytes, len), KVT_OK);
	free(bytes);
}

void recv_pattern(struct kvt_kv *kv, size_t len, uint64_t seed)
{
	uint8_t *bytes = make_filled(len, 0);
	must(finish(start_recv(kv, bytes, len), KVT_OK) == len, "another length than %zu", len);
	must(holds_pattern(bytes, len, seed), "other bytes than those of seed %llu",
	     (unsigned long long)seed);
	free(bytes);
}

/* ---- pools ---- */

struct kvt_pool *open_pool(struct kvt_engine *engine, uint8_t *memory, size_t block_len,
			   size_t count)
{
	struct kvt_extent extent = { memory, count, block_len };
	struct kvt_pool_config config = KVT_POOL_CONFIG_INIT;
	struct kvt_pool *pool = NULL;
	struct kvt_error error;
	config.extents = &extent;
	config.extent_count = 1;
	config.block_len = block_len;
	enum kvt_err err = kvt_pool_open(engine, &config, &pool, &error);
	must(err == KVT_OK, "no pool: %s", error.text);
	return pool;
}

struct kvt_export *export_pool(struct kvt_conn *conn, struct kvt_pool *pool, const char *name)
{
	struct kvt_export *exported = NULL;
	struct kvt_error error;
	enum kvt_err err = kvt_export_open(conn, pool, KVT_ACCESS_READ | KVT_ACCESS_WRITE, name,
					   &exported, &error);
	must(err == KVT_OK, "no export: %s", error.text);
	return exported;
}

struct kvt_remote *find_remote(struct kvt_conn *conn, const char *name)
{
	struct kvt_remote *remote = NULL;
	struct kvt_error error;
	enum kvt_err err = kvt_remote_find(conn, name, PATIENCE_NS, &remote, &error);
	must(err == KVT_OK, "no remote: %s", error.text);
	return remote;
}

struct kvt_transfer *start_span(enum kvt_direction direction, struct kvt_pool *pool,
				struct kvt_remote *remote, uint64_t len, int64_t timeout_ns)
{
	static const uint64_t start = 0;
	struct kvt_spans_request request = KVT_SPANS_REQUEST_INIT;
	struct kvt_transfer *transfer = NULL;
	request.direction = direction;
	request.pool = pool;
	request.remote = remote;
	request.local_off = request.remote_off = &start;
	request.lens = &len;
	request.count = 1;
	request.timeout_ns = timeout_ns;
	must(kvt_spans_start(&request, &transfer, NULL) == KVT_OK, "no transfer");
	return transfer;
}

/* ---- sides ---- */

void side_serve(struct side *side, struct peer *peer, const struct kvt_engine_config *config)
{
	side->engine = open_engine(config);
	peer_tell(peer, kvt_engine_get_port(side->engine));
	side->conn = accept_from(side->engine);
	side->kv = open_kv(side->conn, TAG);
}

void side_call(struct side *side, struct peer *peer, const struct kvt_engine_config *config)
{
	/* An engine takes a while to open: both ends do it at once. */
	side->engine = open_engine(config);
	side->conn = connect_to(side->engine, (uint16_t)peer_hear(peer));
	side->kv = open_kv(side->conn, TAG);
}

void side_meet(struct side *side)
{
	struct kvt_kv *kv = open_kv(side->conn, MEETING_TAG);
	send_pattern(kv, 1, 0);
	recv_pattern(kv, 1, 0);
	kvt_kv_close(kv);
}

void side_disconnect(struct side *side)
{
	kvt_kv_close(side->kv);
	kvt_conn_close(side->conn);
	expect_no_gauges(side->engine);
	side->kv = NULL;
	side->conn = NULL;
}

void side_close(struct side *side)
{
	side_disconnect(side);
	kvt_engine_close(side->engine);
	side->engine = NULL;
}

/* ---- stages ---- */

enum { FRESH_LEN = 3 * MIB + 5 };

void play_fresh(struct peer *test, const void *arg)
{
	(void)arg;
	struct side side;
	side.engine = open_engine(NULL);
	peer_await_turn(test); /* whatever the test does before: a storm may take minutes */
	side.conn = connect_to(side.engine, (uint16_t)peer_hear(test));
	side.kv = open_kv(side.conn, TAG);
	send_pattern(side.kv, 100, 1);
	recv_pattern(side.kv, FRESH_LEN, 2);
	send_pattern(side.kv, FRESH_LEN, 3);
	side_close(&side);
}

void expect_served(struct kvt_engine *engine, struct peer *fresh)
{
	peer_tell(fresh, kvt_engine_get_port(engine));
	struct kvt_conn *conn = accept_from(engine);
	struct kvt_kv *kv = open_kv(conn, TAG);
	recv_pattern(kv, 100, 1);
	send_pattern(kv, FRESH_LEN, 2);
	recv_pattern(kv, FRESH_LEN, 3);
	peer_finish(fresh);
	kvt_kv_close(kv);
	kvt_conn_close(conn);
}

void stage_open(struct stage *stage, void (*role)(struct peer *test, const void *arg),
		const void *arg, const struct kvt_engine_config *config)
{
	peer_start(&stage->peer, role, arg);
	peer_start(&stage->fresh, play_fresh, NULL);
	stage->fds = count_fds();
	side_call(&stage->side, &stage->peer, config);
}

void stage_close(struct stage *stage)
{
	side_disconnect(&stage->side);
	expect_served(stage->side.engine, &stage->fresh);
	expect_no_gauges(stage->side.engine);
	kvt_engine_close(stage->side.engine);
	expect_fds(stage->fds - 2); /* the two peers' sockets */
}

/* ---- memory and descriptors ---- */

uint8_t *make_filled(size_t len, uint8_t fill)
{
	uint8_t *bytes = malloc(len + 1);
	must(bytes != NULL, "no memory for %zu bytes", len);
	memset(bytes, fill, len);
	return bytes;
}

bool holds_only(const uint8_t *bytes, size_t len, uint8_t fill)
{
	return len == 0 || (bytes[0] == fill && memcmp(bytes, bytes + 1, len - 1) == 0);
}

static uint64_t get_word(size_t offset, uint64_t seed)
{
	uint64_t word = (offset + 1) * 0x9e3779b97f4a7c15 + seed * 0xc2b2ae3d27d4eb4f;
	return word ^ (word >> 29);
}

void fill_pattern(uint8_t *bytes, size_t len, uint64_t seed)
{
	uint64_t word;
	size_t offset = 0;
	for (; len - offset >= sizeof(word); offset += sizeof(word)) {
		word = get_word(offset, seed);
		memcpy(bytes + offset, &word, sizeof(word));
	}
	word = get_word(offset, seed);
	memcpy(bytes + offset, &word, len - offset);
}

bool holds_pattern(const uint8_t *bytes, size_t len, uint64_t seed)
{
	uint64_t word;
	size_t offset = 0;
	for (; len - offset >= sizeof(word); offset += sizeof(word)) {
		word = get_word(offset, seed);
		if (memcmp(bytes + offset, &word, sizeof(word)) != 0)
			return false;
	}
	word = get_word(offset, seed);
	return memcmp(bytes + offset, &word, len - offset) == 0;
}

void put_canary(uint8_t *bytes, size_t len)
{
	memset(bytes, CANARY, len);
}

void expect_untouched(const uint8_t *bytes, size_t len)
{
	must(holds_only(bytes, len, CANARY), "memory was written after its transfer had ended");
}

int count_fds(void)
{
	static bool had_engine;
	if (!had_engine)
		kvt_engine_close(open_engine(NULL));
	had_engine = true;

	DIR *dir = opendir("/proc/self/fd");
	must(dir != NULL, "no /proc");
	int count = 0;
	while (readdir(dir) != NULL)
		count++;
	closedir(dir);
	return count;
}

void expect_fds(int count)
{
	int64_t since_ns = get_time_ns();
	int now;
	while ((now = count_fds()) != count && get_time_ns() - since_ns < 2 * SECOND)
		rest(MS);
	must(now == count, "%d descriptors, there were %d", now, count);
}

uint64_t get_random(uint64_t *seed)
{
	uint64_t word = *seed += 0x9e3779b97f4a7c15;
	word = (word ^ (word >> 30)) * 0xbf58476d1ce4e5b9;
	word = (word ^ (word >> 27)) * 0x94d049bb133111eb;
	return word ^ (word >> 31);
}
