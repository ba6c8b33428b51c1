/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_descriptors.c - a process that closes every descriptor it does not know, as daemons do: those of an
 * engine, too. Everything ends in time and with a word, nobody spins, and who has their numbers by then is
 * left alone.
 */
#include "bed.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* What the process is at when it happens; at each it happens at once and slowly. */
enum moment { IDLE, RECEIVING, SENDING, MOMENTS };

enum { FDS_MAX = 1024, STRANGERS = 64, LEN = 64 * MIB };

/* Slowly: the peer, whose connection breaks, has its say before the last is closed. */
static void close_all_but(int kept, bool slowly)
{
	for (int fd = 3; fd < FDS_MAX; fd++)
		if (fd != kept && close(fd) == 0 && slowly)
			rest(SECOND / 200);
}

/* Each call within a second, and the errors are of this side. */
static void close_all(struct side *side, struct kvt_engine *other, struct kvt_transfer *transfer)
{
	struct kvt_error error = { .code = KVT_OK };
	struct kvt_conn *conn = NULL;
	int64_t since_ns = get_time_ns();
	if (transfer != NULL)
		finish(transfer, KVT_E_CLOSED);
	must(is_within(since_ns, SECOND), "a transfer ends too late");
	since_ns = get_time_ns();
	kvt_kv_close(side->kv);
	kvt_conn_close(side->conn);
	must(is_within(since_ns, SECOND), "a connection closes too late");
	must(kvt_conn_open(other, get_host(), 1, SECOND, &conn, &error) != KVT_OK, "connected");
	must(kvt_conn_accept(side->engine, SECOND, &conn, &error) == KVT_E_CLOSED, "%s",
	     error.text);
	since_ns = get_time_ns();
	kvt_engine_close(side->engine);
	must(is_within(since_ns, SECOND), "an engine closes too late");
	since_ns = get_time_ns();
	kvt_engine_close(other);
	must(is_within(since_ns, SECOND), "an engine without a connection closes too late");
}

static void play_daemon(struct peer *test, const void *arg)
{
	enum moment moment = *(const unsigned *)arg % MOMENTS;
	bool slowly = *(const unsigned *)arg >= MOMENTS;
	int strangers[STRANGERS][2];
	struct side side;
	side_serve(&side, test, NULL);
	struct kvt_engine *other = open_engine(NULL);
	struct kvt_transfer *transfer = NULL;
	uint8_t *memory = make_filled(LEN, 1);
	peer_hear(test);
	if (moment == RECEIVING)
		transfer = start_recv(side.kv, memory, LEN);
	else if (moment == SENDING)
		transfer = start_send(side.kv, memory, LEN);
	peer_hear(test);
	close_all_but(test->fd, slowly);
	if (moment != IDLE) {
		close_all(&side, other, transfer); /* at once */
	} else {
		/* All threads have looked by then: what their numbers are now is not to be touched. */
		int64_t cpu_ns = get_cpu_ns();
		rest(SECOND / 2);
		must(is_slow() || is_short() || get_cpu_ns() - cpu_ns < SECOND / 10, "somebody "
										     "spins");
		for (unsigned i = 0; i < STRANGERS; i++)
			must(socketpair(AF_UNIX, SOCK_STREAM, 0, strangers[i]) == 0, "%s",
			     strerror(errno));
		close_all(&side, other, transfer);
	}
	for (unsigned i = 0; moment == IDLE && i < 2 * STRANGERS; i++) {
		uint8_t byte;
		int fd = strangers[i / 2][i % 2];
		must(recv(fd, &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN,
		     "another's descriptor %d was written to or closed: %s", fd, strerror(errno));
	}
	free(memory);
}

START_TEST(an_engine_whose_descriptors_were_closed_ends_in_time_and_harms_nobody)
{
	unsigned choice = (unsigned)_i;
	enum moment moment = choice % MOMENTS;
	struct stage stage;
	struct kvt_transfer *transfer = NULL;
	uint8_t *memory = make_filled(LEN, CANARY);
	stage_open(&stage, play_daemon, &choice, NULL);
	peer_tell(&stage.peer, 0);
	if (moment == SENDING) {
		transfer = start_recv(stage.side.kv, memory, LEN);
		must_become(memory[0] == 1);
	}
	peer_tell(&stage.peer, 0);
	if (transfer != NULL)
		finish(transfer, KVT_E_PEER_LOST);
	expect_ended(stage.side.conn, KVT_E_PEER_LOST);
	peer_finish(&stage.peer);
	stage_close(&stage);
	free(memory);
}
END_TEST

TCase *make_descriptor_tests(void)
{
	TCase *tests = tcase_create("descriptors");
	if (is_under_tsan())
		puts("SKIP: descriptors closed by others: to ThreadSanitizer that is the race that "
		     "it is");
	else if (strcmp(get_provider(), "sockets") != 0)
		tcase_add_loop_test(
			tests,
			an_engine_whose_descriptors_were_closed_ends_in_time_and_harms_nobody, 0,
			2 * MOMENTS);
	else
		printf("SKIP: descriptors closed by others: what %s keeps behind its own was not "
		       "looked at\n",
		       get_provider());
	return tests;
}
