/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_strangers.c - who calls the listener and is no engine: idle, slow, garbled. Each costs its own
 * socket and no more, while real clients are served. The engines are insecure, so that strangers can get as far as
 * peers do: test_auth.py has those that have keys.
 */
#include "bed.h"

#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "integration/raw.h"

enum {
	IDLE_COUNT = 50,
	GARBAGE_COUNT = 8,
	TRUNCATED_COUNT = 6,
	FLIPPED_COUNT = 10, /* in each byte of the header and of the version: none may pass */
	STRANGERS = IDLE_COUNT + GARBAGE_COUNT + TRUNCATED_COUNT + FLIPPED_COUNT + 1,
	CLIENTS = 10,
	HEADER_LEN = 8,
	OPENING_LEN = 68,
	RECORD_HEADER_LEN = 2,
	HELLO_LEN_MAX = OPENING_LEN + RECORD_HEADER_LEN + 256,
	BEAT_LEN = RECORD_HEADER_LEN + HEADER_LEN,
};

/* How long an engine waits for a hello, and after it for lanes. */
#define HANDSHAKE_NS (2 * SECOND)
#define LANES_NS (5 * SECOND)

static struct kvt_engine *open_insecure_engine(void)
{
	struct kvt_engine_config config = make_config();
	config.insecure = true;
	return open_engine(&config);
}

/* ---- strangers ---- */

/* What a real engine says first, caught by a listener that never answers. */
static size_t catch_hello(uint8_t hello[HELLO_LEN_MAX])
{
	struct kvt_connect_request request = KVT_CONNECT_REQUEST_INIT;
	struct kvt_transfer *call;
	int listener = raw_listen(&request.port);
	struct kvt_engine *engine = open_insecure_engine();
	request.host = get_host();
	request.timeout_ns = PATIENCE_NS;
	must(kvt_connect_start(engine, &request, &call, NULL) == KVT_OK, "no call");
	int fd = raw_accept(listener);
	size_t len = OPENING_LEN + RECORD_HEADER_LEN;
	must(raw_recv(fd, hello, len, PATIENCE_NS) == len, "no opening");
	size_t left = hello[OPENING_LEN];
	must(left <= HELLO_LEN_MAX - len, "too long a hello");
	must(raw_recv(fd, hello + len, left, PATIENCE_NS) == left, "no hello");
	len += left;
	kvt_transfer_cancel(call);
	finish(call, KVT_E_CANCELLED);
	close(fd);
	close(listener);
	kvt_engine_close(engine);
	return len;
}

/* One byte every 50 ms, until the engine has had enough. */
static void drip(int fd, const uint8_t *bytes, size_t len)
{
	int64_t since_ns = get_time_ns();
	for (size_t i = 0; i < len && !raw_await_end(fd, 50 * MS); i++)
		raw_send(fd, bytes + i, 1);
	must(is_within(since_ns, HANDSHAKE_NS + SECOND), "a slow stranger was kept too long");
}

static void play_strangers(struct peer *test, const void *arg)
{
	(void)arg;
	uint8_t hello[HELLO_LEN_MAX];
	uint8_t garbage[KIB];
	int fds[STRANGERS];
	unsigned count = 0;
	size_t len = catch_hello(hello);
	fill_pattern(garbage, sizeof(garbage), 5);
	uint16_t port = (uint16_t)peer_hear(test);
	int64_t since_ns = get_time_ns();

	while (count < IDLE_COUNT)
		fds[count++] = raw_connect(port);
	for (unsigned i = 0; i < GARBAGE_COUNT; i++) {
		fds[count] = raw_connect(port);
		raw_send(fds[count++], garbage + 16 * i, sizeof(garbage) - 16 * i);
	}
	for (unsigned i = 0; i < FLIPPED_COUNT; i++) {
		fds[count] = raw_connect(port);
		hello[i] ^= (uint8_t)(1 << i % 8);
		raw_send(fds[count++], hello, len);
		hello[i] ^= (uint8_t)(1 << i % 8);
	}
	for (unsigned i = 0; i < TRUNCATED_COUNT; i++) {
		fds[count] = raw_connect(port);
		raw_send(fds[count++], hello, 1 + i * (len - 2) / (TRUNCATED_COUNT - 1));
	}
	fds[count] = raw_connect(port);
	peer_tell(test, 0); /* all are there: the clients may come */
	drip(fds[count++], hello, len);

	must(count == STRANGERS, "%u strangers", count);
	for (unsigned i = 0; i < STRANGERS; i++)
		must(raw_await_end(fds[i], PATIENCE_NS), "stranger %u is kept", i);
	must(is_within(since_ns, HANDSHAKE_NS + 2 * SECOND), "strangers were kept too long");
	peer_tell(test, 0);
}

/* One sends heartbeats without end, one sends CLOSE again and again; for as long as the first is
 * kept. */
static void pester(int beating, int leaving, int64_t since_ns)
{
	static const uint8_t beat[BEAT_LEN] = { HEADER_LEN, 0, 0x4b, 0x56, 6 };
	const uint8_t close_frame[BEAT_LEN + 5] = {
		13, 0, 0x4b, 0x56, 7, 0, 5, 0, 0, 0, (uint8_t)KVT_E_CLOSED, 0xff, 0xff, 0xff, 0
	};
	static uint8_t beats[6400 * BEAT_LEN];
	int64_t close_ns = since_ns;
	size_t at = 0;
	bool has_left = false;
	for (size_t i = 0; i < sizeof(beats); i += BEAT_LEN)
		memcpy(beats + i, beat, BEAT_LEN);
	while (!raw_await_end(beating, MS)) {
		must(is_within(since_ns, LANES_NS + SECOND), "heartbeats buy time");
		ssize_t sent =
			send(beating, beats + at, sizeof(beats) - at, MSG_NOSIGNAL | MSG_DONTWAIT);
		at = sent > 0 ? (at + (size_t)sent) % BEAT_LEN
			      : at; /* whole records, whatever it takes */
		if (get_time_ns() >= close_ns) {
			raw_send(leaving, close_frame, sizeof(close_frame));
			close_ns += 300 * MS;
		}
		has_left = has_left || raw_await_end(leaving, MS);
	}
	must(has_left, "CLOSE frames buy time");
}

/* Who says hello and then makes no lanes is a stranger, too. */
static void play_hello_only(struct peer *test, const void *arg)
{
	(void)arg;
	enum { CALLERS = 5 };
	uint8_t hello[HELLO_LEN_MAX], answer[KIB];
	int fds[CALLERS];
	size_t len = catch_hello(hello);
	uint16_t port = (uint16_t)peer_hear(test);
	for (unsigned i = 0; i < CALLERS; i++) {
		fds[i] = raw_connect(port);
		raw_send(fds[i], hello, len);
		must(raw_recv(fds[i], answer, HEADER_LEN, SECOND) == HEADER_LEN, "no answer to a "
										 "hello");
	}
	int64_t since_ns = get_time_ns();
	peer_tell(test, 0);
	pester(fds[0], fds[1], since_ns);
	for (unsigned i = 0; i < CALLERS; i++)
		must(raw_await_end(fds[i], PATIENCE_NS), "caller %u is kept", i);
	must(is_within(since_ns, LANES_NS + SECOND), "callers were kept too long");
	peer_tell(test, 0);
}

/* ---- clients ---- */

static void play_clients(struct peer *test, const void *arg)
{
	(void)arg;
	struct kvt_engine *engine = open_insecure_engine();
	uint16_t port = (uint16_t)peer_hear(test);
	for (uint64_t i = 0; i < CLIENTS; i++) {
		int64_t since_ns = get_time_ns();
		struct kvt_conn *conn = connect_to(engine, port);
		must(is_within(since_ns, SECOND), "strangers held up a client");
		struct kvt_kv *kv = open_kv(conn, TAG);
		send_pattern(kv, 100, i);
		recv_pattern(kv, 3 * MIB, i);
		kvt_kv_close(kv);
		kvt_conn_close(conn);
	}
	expect_no_gauges(engine);
	kvt_engine_close(engine);
}

START_TEST(strangers_cost_their_own_sockets_while_clients_are_served)
{
	struct peer callers, strangers, clients;
	peer_start(&callers, play_hello_only, NULL);
	peer_start(&strangers, play_strangers, NULL);
	peer_start(&clients, play_clients, NULL);
	struct kvt_engine *engine = open_insecure_engine();
	int fds = count_fds();
	peer_tell(&callers, kvt_engine_get_port(engine));
	peer_hear(&callers);
	peer_tell(&strangers, kvt_engine_get_port(engine));
	peer_hear(&strangers);
	peer_tell(&clients, kvt_engine_get_port(engine));
	for (uint64_t i = 0; i < CLIENTS; i++) {
		struct kvt_conn *conn = accept_from(engine);
		struct kvt_kv *kv = open_kv(conn, TAG);
		recv_pattern(kv, 100, i);
		send_pattern(kv, 3 * MIB, i);
		kvt_kv_close(kv);
		kvt_conn_close(conn);
	}
	peer_hear(&strangers);
	peer_hear(&callers);
	expect_fds(fds);
	struct kvt_stats stats = get_stats(engine);
	must(stats.handshakes_failed == STRANGERS, "%llu of %d handshakes failed",
	     (unsigned long long)stats.handshakes_failed, STRANGERS);
	struct kvt_conn *conn;
	must(kvt_conn_accept(engine, KVT_NOWAIT, &conn, NULL) == KVT_E_TIMEOUT, "half a connection "
										"is "
										"handed out");
	must(stats.connections_total == CLIENTS, "%llu connections",
	     (unsigned long long)stats.connections_total);
	expect_no_gauges(engine);
	peer_finish(&callers);
	peer_finish(&clients);
	peer_finish(&strangers);
	kvt_engine_close(engine);
}
END_TEST

/* ---- at the listener for lanes ---- */

/* It stops in the middle: what libfabric's tcp begins to read and then waits for. */
static void attack_lanes(uint16_t port, int *fds, unsigned count)
{
	static const uint8_t header[32] = { 3, 0, 0, 38, [24] = 1 };
	static unsigned next;
	int fd = raw_try_connect(port);
	if (fd < 0)
		return; /* it is closed most of the time */
	raw_send(fd, header, sizeof(header));
	if (fds[next] >= 0)
		close(fds[next]);
	fds[next] = fd;
	next = (next + 1) % count;
}

struct door {
	char lane_ports[12];
	uint16_t lane_port;
};

/* Callers that make no lanes keep the listener open meanwhile. */
static void play_lane_attacker(struct peer *test, const void *arg)
{
	enum { HELD = 300 };
	const struct door *door = arg;
	uint8_t hello[HELLO_LEN_MAX];
	int fds[HELD], caller = -1;
	for (unsigned i = 0; i < HELD; i++)
		fds[i] = -1;
	size_t len = catch_hello(hello);
	uint16_t port = (uint16_t)peer_hear(test);
	int64_t called_ns = get_time_ns() - SECOND;
	for (unsigned tries = 0; !peer_has_spoken(test); tries++) {
		if (get_time_ns() - called_ns >= SECOND) {
			int fd = raw_connect(port);
			raw_send(fd, hello, len);
			if (caller >= 0)
				close(caller);
			caller = fd;
			called_ns = get_time_ns();
		}
		attack_lanes(door->lane_port, fds, HELD);
		if (tries % 8 == 7)
			rest(MS);
	}
	close(caller);
	for (unsigned i = 0; i < HELD; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

/* One connection that stays, with its heartbeats, and one after the other beside it. */
static void play_lane_clients(struct peer *test, const void *arg)
{
	(void)arg;
	struct kvt_engine *engine = open_insecure_engine();
	uint16_t port = (uint16_t)peer_hear(test);
	struct kvt_conn *standing = connect_to(engine, port);
	struct kvt_kv *kv = open_kv(standing, TAG);
	peer_tell(test, 0);
	peer_hear(test); /* the strangers are there */
	int64_t since_ns = get_time_ns();
	for (unsigned i = 0; i < 2 * CLIENTS || get_time_ns() - since_ns < 4 * SECOND; i++) {
		struct kvt_conn *conn = connect_to(engine, port);
		kvt_conn_close(conn);
	}
	send_pattern(kv, 100, 1);
	kvt_kv_close(kv);
	kvt_conn_close(standing);
	kvt_engine_close(engine);
	peer_tell(test, 0);
}

START_TEST(half_requests_for_lanes_hold_up_no_peer)
{
	struct peer attackers[2], clients;
	struct door door;
	struct kvt_conn *conn;
	close(raw_listen(&door.lane_port));
	snprintf(door.lane_ports, sizeof(door.lane_ports), "%u", door.lane_port);
	struct kvt_engine_config config = make_config();
	config.insecure = true;
	config.lane_ports = door.lane_ports;
	peer_start(&clients, play_lane_clients, NULL);
	peer_start(&attackers[0], play_lane_attacker, &door);
	peer_start(&attackers[1], play_lane_attacker, &door);
	struct kvt_engine *engine = open_engine(&config);
	int fds = count_fds();
	peer_tell(&clients, kvt_engine_get_port(engine));
	struct kvt_conn *standing = accept_from(engine);
	struct kvt_kv *kv = open_kv(standing, TAG);
	peer_hear(&clients);
	for (int i = 0; i < 2; i++)
		peer_tell(&attackers[i], kvt_engine_get_port(engine));
	peer_tell(&clients, 0);
	while (!peer_has_spoken(&clients)) {
		if (kvt_conn_accept(engine, 50 * MS, &conn, NULL) == KVT_OK)
			kvt_conn_close(conn);
	}
	peer_hear(&clients);
	recv_pattern(kv, 100, 1);
	kvt_kv_close(kv);
	kvt_conn_close(standing);
	for (int i = 0; i < 2; i++)
		peer_tell(&attackers[i], 0);
	expect_fds(fds);
	for (int i = 0; i < 2; i++)
		peer_finish(&attackers[i]);
	peer_finish(&clients);
	expect_no_gauges(engine);
	kvt_engine_close(engine);
}
END_TEST

TCase *make_stranger_tests(void)
{
	TCase *tests = tcase_create("strangers");
	tcase_add_test(tests, strangers_cost_their_own_sockets_while_clients_are_served);
	if (strcmp(get_provider(), "tcp") == 0) /* whose listener it is, and whose header */
		tcase_add_test(tests, half_requests_for_lanes_hold_up_no_peer);
	return tests;
}
