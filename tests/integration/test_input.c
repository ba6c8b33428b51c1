/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_input.c - wrong arguments: a code, a sentence that says what is allowed, and nothing that leaks.
 */
#include "bed.h"

#include <stdio.h>

/* ---- engines ---- */

static const char *const unknown_interface[] = { "nosuch0" };
static const char *const no_name[] = { "" };
static const char *const null_name[] = { NULL };
static const unsigned far_cpu[] = { 1000000 };

struct bad_config {
	const char *text; /* that the sentence has */
	enum kvt_err err;
	void (*spoil)(struct kvt_engine_config *config);
};

/* X(name, code, text, what to set) */
#define BAD_CONFIGS(X)                                                                             \
	X(size, INVALID, "size", config->size--)                                                   \
	X(interfaces, INVALID, "1 to 16", config->interfaces = NULL)                               \
	X(interface_count, INVALID, "1 to 16", config->interface_count = 17)                       \
	X(interface_name, INVALID, "no name", config->interfaces = no_name)                        \
	X(interface_null, INVALID, "no name", config->interfaces = null_name)                      \
	X(interface_unknown, INVALID, get_interface(), config->interfaces = unknown_interface)     \
	X(provider, NO_PROVIDER, "nosuch", config->provider = "nosuch")                            \
	X(ncpus, INVALID, "1 to 256", config->ncpus = 257)                                         \
	X(ncpus_most, INVALID, "1 to 256", config->ncpus = UINT32_MAX)                             \
	X(lanes, INVALID, "1024", config->nconn_per_cpu = 1000000)                                 \
	X(eager_len, INVALID, "1048576", config->eager_len = MIB + 1)                              \
	X(heartbeat, INVALID, "1 ms", config->heartbeat_ns = -1)                                   \
	X(heartbeat_short, INVALID, "1 ms", config->heartbeat_ns = 1)                              \
	X(heartbeat_long, INVALID, "1 hour", config->heartbeat_ns = INT64_MAX)                     \
	X(lost_after, INVALID, "twice", config->lost_after_ns = SECOND)                            \
	X(lost_after_negative, INVALID, "twice", config->lost_after_ns = -1)                       \
	X(spin, INVALID, "spin_ns", config->spin_ns = -2)                                          \
	X(cpus, INVALID, "cpus[0]", config->cpu_count = 1)                                         \
	X(cpus_far, INVALID, "cpus[0]", (config->cpus = far_cpu, config->cpu_count = 1))

#define DEFINE_SPOIL(name, err, text, action)                                                      \
	static void spoil_##name(struct kvt_engine_config *config)                                 \
	{                                                                                          \
		(void)(action);                                                                    \
	}
BAD_CONFIGS(DEFINE_SPOIL)

static void expect_refused(enum kvt_err err, enum kvt_err expected, const struct kvt_error *error,
			   const char *text)
{
	must(err == expected && error->code == expected, "%s instead of %s for: %s",
	     kvt_err_get_name(err), kvt_err_get_name(expected), error->text);
	must(strstr(error->text, text) != NULL, "the text has no \"%s\": %s", text, error->text);
}

START_TEST(an_engine_of_bad_settings_is_refused_with_what_is_allowed)
{
#define MAKE_ROW(name, err, text, action) { text, KVT_E_##err, spoil_##name },
	const struct bad_config rows[] = { BAD_CONFIGS(MAKE_ROW) };
	int fds = count_fds();
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct kvt_engine_config config = make_config();
		struct kvt_error error = { .code = KVT_OK };
		struct kvt_engine *engine = NULL;
		rows[i].spoil(&config);
		enum kvt_err err = kvt_engine_open(&config, &engine, &error);
		expect_refused(err, rows[i].err, &error, rows[i].text);
		must(engine == NULL, "an engine came out");
		must(kvt_engine_open(&config, &engine, NULL) == rows[i].err, "without a place for "
									     "the text");
	}
	struct kvt_engine *engine = NULL;
	struct kvt_engine_config config = make_config();
	must(kvt_engine_open(NULL, &engine, NULL) == KVT_E_INVALID, "no config");
	must(kvt_engine_open(&config, NULL, NULL) == KVT_E_INVALID, "no place");
	kvt_engine_close(NULL);
	kvt_engine_stop(NULL);
	expect_fds(fds);
}
END_TEST

START_TEST(a_port_in_use_is_refused_and_named)
{
	int before = count_fds();
	struct kvt_engine *engine = open_engine(NULL), *second = NULL;
	struct kvt_engine_config config = make_config();
	struct kvt_error error = { .code = KVT_OK };
	char port[8];
	int fds = count_fds();
	config.listen_port = kvt_engine_get_port(engine);
	snprintf(port, sizeof(port), "%u", config.listen_port);
	for (unsigned i = 0; i < 20; i++)
		expect_refused(kvt_engine_open(&config, &second, &error), KVT_E_LIMIT, &error,
			       port);
	expect_fds(fds);
	kvt_engine_close(engine);

	/* The port is free as soon as its engine is closed. */
	second = open_engine(&config);
	must(kvt_engine_get_port(second) == config.listen_port, "another port");
	kvt_engine_close(second);
	expect_fds(before);
}
END_TEST

/* ---- connections, KVs and transfers ---- */

static void play_still(struct peer *test, const void *arg)
{
	(void)arg;
	struct side side;
	side_serve(&side, test, NULL);
	side_meet(&side);
	peer_hear(test);
	side_close(&side);
}

static void try_conns(struct kvt_engine *engine)
{
	struct kvt_conn *conn = NULL;
	struct kvt_error error = { .code = KVT_OK };
	char long_host[400];
	memset(long_host, 'a', sizeof(long_host));
	long_host[sizeof(long_host) - 1] = '\0';
	const struct {
		struct kvt_engine *engine;
		const char *host;
		uint16_t port;
		int64_t timeout_ns;
		const char *text;
	} rows[] = {
		{ NULL, "127.0.0.1", 1, 0, "engine" },	{ engine, NULL, 1, 0, "host" },
		{ engine, "", 1, 0, "host" },		{ engine, long_host, 1, 0, "255" },
		{ engine, "127.0.0.1", 0, 0, "65535" }, { engine, "127.0.0.1", 1, -1, "timeout" },
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		enum kvt_err err = kvt_conn_open(rows[i].engine, rows[i].host, rows[i].port,
						 rows[i].timeout_ns, &conn, &error);
		expect_refused(err, KVT_E_INVALID, &error, rows[i].text);
	}
	must(kvt_conn_open(engine, "127.0.0.1", 1, 0, NULL, NULL) == KVT_E_INVALID, "no place");
	expect_refused(kvt_conn_accept(NULL, KVT_NOWAIT, &conn, &error), KVT_E_INVALID, &error,
		       "engine");
	expect_refused(kvt_conn_accept(engine, -1, &conn, &error), KVT_E_INVALID, &error,
		       "timeout");
	must(kvt_conn_accept(engine, KVT_NOWAIT, NULL, NULL) == KVT_E_INVALID, "no place");
	must(conn == NULL, "a connection came out");
	kvt_conn_close(NULL);
}

static void try_kvs(struct kvt_conn *conn)
{
	static uint8_t bytes[64];
	const size_t size = sizeof(struct kvt_kv_config);
	struct kvt_kv *kv = NULL;
	struct kvt_error error = { .code = KVT_OK };
	const struct {
		struct kvt_kv_config config;
		const char *text;
	} rows[] = {
		{ { size - 8, bytes, 64, false, 1 }, "KV config" },
		{ { 0, bytes, 64, false, 1 }, "KV config" },
		{ { size, NULL, 64, false, 1 }, "64" },
		{ { size, bytes, SIZE_MAX, false, 1 }, "bytes" },
		{ { size, bytes, 64, false, TAG }, "in use" },
		{ { size, bytes, 64, false, KVT_TAG_MAX }, "2^63" },
		{ { size, bytes, 64, false, UINT64_MAX - 1 }, "2^63" },
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		expect_refused(kvt_kv_open(conn, &rows[i].config, &kv, &error), KVT_E_INVALID,
			       &error, rows[i].text);
	must(kvt_kv_open(NULL, &rows[2].config, &kv, NULL) == KVT_E_INVALID, "no connection");
	must(kvt_kv_open(conn, NULL, &kv, NULL) == KVT_E_INVALID, "no config");
	must(kvt_kv_open(conn, &rows[4].config, NULL, NULL) == KVT_E_INVALID, "no place");
	must(kv == NULL, "a KV came out");
	kvt_kv_close(NULL);
}

static void try_sends(struct kvt_kv *kv)
{
	static uint8_t bytes[KVT_META_LEN_MAX + 1];
	const size_t size = sizeof(struct kvt_send_request);
	struct kvt_transfer *transfer = NULL;
	struct kvt_error error = { .code = KVT_OK };
	const struct {
		struct kvt_send_request request;
		const char *text;
	} rows[] = {
		{ { size - 1, bytes, 64, NULL, 0, false, 0 }, "send request" },
		{ { size, NULL, 64, NULL, 0, false, 0 }, "request" },
		{ { size, bytes, SIZE_MAX, NULL, 0, false, 0 }, "request" },
		{ { size, bytes, 64, NULL, 1, false, 0 }, "request" },
		{ { size, bytes, 64, bytes, KVT_META_LEN_MAX + 1, false, 0 }, "4096" },
		{ { size, bytes, 64, NULL, 0, false, -1 }, "timeout" },
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		expect_refused(kvt_send_start(kv, &rows[i].request, &transfer, &error),
			       KVT_E_INVALID, &error, rows[i].text);
	must(kvt_send_start(NULL, &rows[5].request, &transfer, NULL) == KVT_E_INVALID, "no KV");
	must(kvt_send_start(kv, NULL, &transfer, NULL) == KVT_E_INVALID, "no request");
	must(transfer == NULL, "a transfer came out");
	kvt_transfer_free(NULL);
}

static void try_receives(struct kvt_conn *conn)
{
	static uint8_t bytes[64];
	const size_t size = sizeof(struct kvt_recv_request);
	struct kvt_kv_config config = { sizeof(config), bytes, sizeof(bytes), true, 100 };
	struct kvt_kv *kv = NULL;
	struct kvt_transfer *transfer = NULL;
	struct kvt_error error = { .code = KVT_OK };
	must(kvt_kv_open(conn, &config, &kv, NULL) == KVT_OK, "no KV");
	const struct {
		struct kvt_recv_request request;
		const char *text;
	} rows[] = {
		{ { size - 1, NULL, 64, false, 0 }, "receive request" },
		{ { 0, NULL, 64, false, 0 }, "receive request" },
		{ { size, config.base, 64, false, 0 }, "read-only" },
		{ { size, bytes + 63, 1, false, 0 }, "read-only" },
		{ { size, bytes, SIZE_MAX, false, 0 }, "request" },
		{ { size, NULL, 64, false, -5 }, "timeout" },
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		expect_refused(kvt_recv_start(kv, &rows[i].request, &transfer, &error),
			       KVT_E_INVALID, &error, rows[i].text);
	must(kvt_recv_start(NULL, &rows[4].request, &transfer, NULL) == KVT_E_INVALID, "no KV");
	must(kvt_recv_start(kv, NULL, &transfer, NULL) == KVT_E_INVALID, "no request");
	must(transfer == NULL, "a transfer came out");
	kvt_kv_close(kv);
}

static void try_getters(struct side *side)
{
	struct kvt_stats stats = KVT_STATS_INIT;
	struct kvt_result result = KVT_RESULT_INIT;
	stats.size--;
	result.size--;
	must(kvt_engine_get_stats(side->engine, &stats) == KVT_E_INVALID, "stats of another size");
	must(kvt_engine_get_stats(side->engine, NULL) == KVT_E_INVALID, "no place");
	must(kvt_engine_get_stats(NULL, &stats) == KVT_E_INVALID, "no engine");
	must(kvt_conn_get_stats(side->conn, &stats) == KVT_E_INVALID, "stats of another size");
	must(kvt_conn_get_stats(NULL, &stats) == KVT_E_INVALID, "no connection");
	struct kvt_transfer *receive = start_recv(side->kv, NULL, 64);
	must(kvt_transfer_get_result(receive, &result) == KVT_E_INVALID, "a result of another "
									 "size");
	must(kvt_transfer_get_result(receive, NULL) == KVT_E_INVALID, "no place");
	result.size++;
	must(kvt_transfer_get_result(receive, &result) == KVT_E_AGAIN, "a result of what is in "
								       "flight");
	must(kvt_transfer_take_data(receive) == NULL, "data of what is in flight");
	must(kvt_transfer_wait(receive, -1) == KVT_E_INVALID, "a negative wait");
	must(kvt_transfer_wait(receive, KVT_NOWAIT) == KVT_E_AGAIN, "no wait");
	kvt_transfer_free(receive);
	must(strcmp(kvt_err_get_name(-12345), "") != 0 && kvt_err_get_text(12345) != NULL, "an "
											   "unknown"
											   " code");
}

START_TEST(wrong_arguments_are_refused_with_what_is_allowed)
{
	struct stage stage;
	stage_open(&stage, play_still, NULL, NULL);
	side_meet(&stage.side); /* some providers open a lane's descriptors when it is first used */
	int fds = count_fds();
	struct kvt_stats before = get_stats(stage.side.engine);
	for (unsigned i = 0; i < 3; i++) {
		try_conns(stage.side.engine);
		try_kvs(stage.side.conn);
		try_sends(stage.side.kv);
		try_receives(stage.side.conn);
		try_getters(&stage.side);
	}
	struct kvt_stats after = get_stats(stage.side.engine);
	must(before.registrations == after.registrations && before.kvs == after.kvs &&
		     before.transfers == after.transfers &&
		     before.connections_total == after.connections_total,
	     "something is left");
	expect_fds(fds);
	peer_tell(&stage.peer, 0);
	peer_finish(&stage.peer);
	stage_close(&stage);
}
END_TEST

/* ---- after the end ---- */

START_TEST(handles_of_a_stopped_engine_say_that_they_are_closed)
{
	struct peer peer;
	struct side side;
	struct kvt_conn *conn = NULL;
	struct kvt_kv *kv = NULL;
	struct kvt_kv_config config = KVT_KV_CONFIG_INIT;
	struct kvt_send_request request = KVT_SEND_REQUEST_INIT;
	struct kvt_transfer *transfer = NULL;
	struct kvt_error error = { .code = KVT_OK };
	peer_start(&peer, play_still, NULL);
	side_call(&side, &peer, NULL);
	side_meet(&side);
	uint16_t port = kvt_conn_get_port(side.conn);
	kvt_engine_stop(side.engine);
	kvt_engine_stop(side.engine);
	expect_refused(kvt_conn_open(side.engine, "127.0.0.1", port, 0, &conn, &error),
		       KVT_E_CLOSED, &error, "closed");
	expect_refused(kvt_conn_accept(side.engine, KVT_NOWAIT, &conn, &error), KVT_E_CLOSED,
		       &error, "closed");
	expect_refused(kvt_kv_open(side.conn, &config, &kv, &error), KVT_E_CLOSED, &error,
		       "closed");
	expect_refused(kvt_send_start(side.kv, &request, &transfer, &error), KVT_E_CLOSED, &error,
		       "closed");
	finish(start_recv(side.kv, NULL, SIZE_MAX), KVT_E_CLOSED);
	expect_ended(side.conn, KVT_E_CLOSED);
	peer_tell(&peer, 0);
	peer_finish(&peer);
	side_close(&side);
}
END_TEST

TCase *make_input_tests(void)
{
	TCase *tests = tcase_create("input");
	tcase_add_test(tests, an_engine_of_bad_settings_is_refused_with_what_is_allowed);
	tcase_add_test(tests, a_port_in_use_is_refused_and_named);
	tcase_add_test(tests, wrong_arguments_are_refused_with_what_is_allowed);
	tcase_add_test(tests, handles_of_a_stopped_engine_say_that_they_are_closed);
	return tests;
}
