/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_refusal.c - calling what is not there, says nothing, or says the wrong thing: a code and a
 * sentence in time, and the caller's engine goes on.
 */
#include "bed.h"

#include <signal.h>
#include <unistd.h>

#include "integration/raw.h"

enum manner { ABSENT, SILENT, HANGS_UP, HTTP, GARBAGE, ECHO, HALF_FRAME, LONG_FRAME };

struct refusal {
	enum manner manner;
	const char *what;
	enum kvt_err err;
	bool by_timeout; /* else by what the other says or does, long before */
};

#define CONNECT_NS (500 * MS)

static const struct refusal refusals[] = {
	{ ABSENT, "nobody", KVT_E_UNREACHABLE, false },
	{ SILENT, "silence", KVT_E_UNREACHABLE, true },
	{ HANGS_UP, "one that hangs up", KVT_E_UNREACHABLE, false },
	{ HTTP, "HTTP", KVT_E_PROTOCOL, false },
	{ GARBAGE, "garbage", KVT_E_PROTOCOL, false },
	{ ECHO, "an echo", KVT_E_PROTOCOL, false },
	{ HALF_FRAME, "half a frame", KVT_E_UNREACHABLE, true },
	{ LONG_FRAME, "too long a frame", KVT_E_PROTOCOL, false },
};

static void answer(int fd, enum manner manner)
{
	static const char http[] = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";
	static const uint8_t half_frame[] = { 0x4b, 0x56, 2, 0, 40, 0 };
	static const uint8_t long_frame[] = { 0x4b, 0x56, 2, 0, 0, 1, 0, 0 };
	uint8_t bytes[4 * KIB];
	size_t heard = raw_recv(fd, bytes, 1, 5 * SECOND);
	must(heard == 1, "the caller says nothing");
	switch (manner) {
	case HTTP:
		raw_send(fd, http, sizeof(http) - 1);
		break;
	case GARBAGE:
		fill_pattern(bytes, sizeof(bytes), 99);
		raw_send(fd, bytes, sizeof(bytes));
		break;
	case ECHO:
		heard += raw_recv(fd, bytes + 1, sizeof(bytes) - 1, 50 * MS);
		raw_send(fd, bytes, heard);
		break;
	case HALF_FRAME:
		raw_send(fd, half_frame, sizeof(half_frame));
		break;
	case LONG_FRAME:
		raw_send(fd, long_frame, sizeof(long_frame));
		break;
	default:
		break;
	}
}

enum { REFUSALS = sizeof(refusals) / sizeof(refusals[0]) };

static void play_strangers(struct peer *test, const void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < REFUSALS; i++) {
		uint16_t port;
		int fd = -1;
		int listener = raw_listen(&port);
		if (refusals[i].manner == ABSENT)
			close(listener);
		peer_tell(test, port);
		if (refusals[i].manner != ABSENT) {
			fd = raw_accept(listener);
			answer(fd, refusals[i].manner);
			close(listener);
		}
		if (refusals[i].manner == HANGS_UP)
			close(fd);
		peer_hear(test); /* until then it stays open */
		if (fd >= 0 && refusals[i].manner != HANGS_UP)
			close(fd);
	}
}

static void expect_refusal(struct kvt_engine *engine, uint16_t port, const struct refusal *refusal)
{
	struct kvt_conn *conn = NULL;
	struct kvt_error error = { .code = KVT_OK };
	int64_t least_ns = refusal->by_timeout ? CONNECT_NS : 0;
	int64_t since_ns = get_time_ns();
	enum kvt_err err = kvt_conn_open(engine, get_host(), port,
					 refusal->by_timeout ? CONNECT_NS : PATIENCE_NS, &conn,
					 &error);
	must(err == refusal->err && error.code == err, "%s: %s: %s", refusal->what,
	     kvt_err_get_name(err), error.text);
	must(error.text[0] != '\0' && conn == NULL, "%s: no sentence, or a connection",
	     refusal->what);
	must(get_time_ns() - since_ns >= least_ns, "%s: too early", refusal->what);
	must(is_within(since_ns, least_ns + SECOND), "%s: too late", refusal->what);
}

START_TEST(a_call_to_what_is_no_engine_fails_in_time_and_says_why)
{
	struct peer strangers, fresh;
	peer_start(&strangers, play_strangers, NULL);
	peer_start(&fresh, play_fresh, NULL);
	int fds = count_fds();
	struct kvt_engine *engine = open_engine(NULL);
	int open_fds = count_fds();
	for (unsigned i = 0; i < REFUSALS; i++) {
		expect_refusal(engine, (uint16_t)peer_hear(&strangers), &refusals[i]);
		expect_fds(open_fds);
		expect_no_gauges(engine);
		peer_tell(&strangers, 0);
	}
	peer_finish(&strangers);
	expect_served(engine, &fresh);
	kvt_engine_close(engine);
	expect_fds(fds - 2);
}
END_TEST

/* ---- nothing in common ---- */

static const char *get_other_provider(void)
{
	return strcmp(get_provider(), "tcp") == 0 ? "sockets" : "tcp";
}

static void play_other_provider(struct peer *test, const void *arg)
{
	(void)arg;
	struct kvt_engine_config config = make_config();
	config.provider = get_other_provider();
	struct kvt_engine *engine = open_engine(&config);
	peer_tell(test, kvt_engine_get_port(engine));
	must_become(get_stats(engine).handshakes_failed == 1);
	struct kvt_conn *conn;
	must(kvt_conn_accept(engine, KVT_NOWAIT, &conn, NULL) == KVT_E_TIMEOUT, "it was let in");
	peer_hear(test);
	kvt_engine_close(engine);
}

START_TEST(engines_without_a_common_provider_say_so)
{
	struct peer peer;
	struct kvt_conn *conn = NULL;
	struct kvt_error error = { .code = KVT_OK };
	peer_start(&peer, play_other_provider, NULL);
	uint16_t port = (uint16_t)peer_hear(&peer);
	struct kvt_engine *engine = open_engine(NULL);
	enum kvt_err err = kvt_conn_open(engine, get_host(), port, 0, &conn, &error);
	must(err == KVT_E_NO_PROVIDER, "%s: %s", kvt_err_get_name(err), error.text);
	must(strstr(error.text, get_provider()) != NULL &&
		     strstr(error.text, get_other_provider()) != NULL,
	     "the text is: %s", error.text);
	peer_tell(&peer, 0);
	peer_finish(&peer);
	expect_no_gauges(engine);
	kvt_engine_close(engine);
}
END_TEST

/* ---- an engine that stands still ---- */

static void play_still(struct peer *test, const void *arg)
{
	(void)arg;
	struct kvt_engine *engine = open_engine(NULL);
	peer_tell(test, kvt_engine_get_port(engine));
	peer_hear(test);
	kvt_engine_close(engine);
}

START_TEST(a_call_to_a_stopped_process_ends_at_its_timeout)
{
	struct peer peer;
	struct kvt_conn *conn = NULL;
	struct kvt_error error = { .code = KVT_OK };
	peer_start(&peer, play_still, NULL);
	uint16_t port = (uint16_t)peer_hear(&peer);
	struct kvt_engine *engine = open_engine(NULL);
	peer_signal(&peer, SIGSTOP);
	peer_await_stop(&peer);

	int64_t since_ns = get_time_ns();
	enum kvt_err err = kvt_conn_open(engine, get_host(), port, CONNECT_NS, &conn, &error);
	must(err == KVT_E_UNREACHABLE && error.text[0] != '\0', "%s: %s", kvt_err_get_name(err),
	     error.text);
	must(is_within(since_ns, CONNECT_NS + SECOND), "too late");

	/* It goes on, and takes a call again. */
	peer_signal(&peer, SIGCONT);
	conn = connect_to(engine, port);
	kvt_conn_close(conn);
	peer_tell(&peer, 0);
	peer_finish(&peer);
	expect_no_gauges(engine);
	kvt_engine_close(engine);
}
END_TEST

TCase *make_refusal_tests(void)
{
	TCase *tests = tcase_create("refusal");
	tcase_add_test(tests, a_call_to_what_is_no_engine_fails_in_time_and_says_why);
	tcase_add_test(tests, engines_without_a_common_provider_say_so);
	tcase_add_test(tests, a_call_to_a_stopped_process_ends_at_its_timeout);
	return tests;
}
