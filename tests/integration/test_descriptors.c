/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_descriptors.c - a process that closes every descriptor it does not know, as daemons do: those of an
 * engine, too. Everything ends in time and with a word, nobody spins, and who has their numbers by then is
 * left alone.
 */
#include "bed.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
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

/* ---- calls of ours that are under way ---- */

/* To a port without room they stay pending. */
struct calls {
	struct kvt_engine *engine;
	uint16_t port;
	struct kvt_transfer *started;
	pthread_t thread; /* waits in kvt_conn_open() */
	int fd;		  /* its socket */
	enum kvt_err err;
};

/* Nobody accepts from it, and there is no room left: two calls more than it may keep. */
struct full_port {
	int fds[3];
	uint16_t number;
};

static void open_full_port(struct full_port *port)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	socklen_t len = sizeof(address);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	for (unsigned i = 0; i < 3; i++)
		port->fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	must(bind(port->fds[0], (struct sockaddr *)&address, len) == 0, "no port");
	must(listen(port->fds[0], 0) == 0, "no port");
	getsockname(port->fds[0], (struct sockaddr *)&address, &len);
	for (unsigned i = 1; i < 3; i++)
		connect(port->fds[i], (struct sockaddr *)&address, len);
	port->number = ntohs(address.sin_port);
}

static void close_full_port(struct full_port *port)
{
	for (unsigned i = 0; i < 3; i++)
		close(port->fds[i]);
}

static void *open_and_wait(void *arg)
{
	struct calls *calls = arg;
	struct kvt_conn *conn;
	struct kvt_error error;
	calls->err =
		kvt_conn_open(calls->engine, "127.0.0.1", calls->port, KVT_FOREVER, &conn, &error);
	return NULL;
}

static void start_calls(struct calls *calls)
{
	struct kvt_connect_request request = KVT_CONNECT_REQUEST_INIT;
	struct kvt_error error;
	calls->fd = dup(0); /* the lowest number that is free: the next socket's */
	close(calls->fd);
	pthread_create(&calls->thread, NULL, open_and_wait, calls);
	must_become(fcntl(calls->fd, F_GETFD) >= 0);
	request.host = "127.0.0.1";
	request.port = calls->port;
	request.timeout_ns = KVT_FOREVER;
	must(kvt_connect_start(calls->engine, &request, &calls->started, &error) == KVT_OK, "%s",
	     error.text);
}

/* A stranger has the number of the waiting call's socket at once, before anybody has looked. */
static void end_calls(struct calls *calls)
{
	int ends[2];
	uint8_t byte;
	int64_t since_ns = get_time_ns();
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0, "%s", strerror(errno));
	must(dup2(ends[0], calls->fd) == calls->fd, "%s", strerror(errno));
	pthread_join(calls->thread, NULL);
	must(calls->err == KVT_E_CLOSED, "%s", kvt_err_get_name(calls->err));
	finish(calls->started, KVT_E_CLOSED);
	must(is_within(since_ns, SECOND), "calls end too late");
	must(recv(ends[1], &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN, "another's socket was "
									   "taken for a call's");
	must(fcntl(calls->fd, F_GETFD) >= 0, "another's socket was closed");
	close(ends[0]);
	close(ends[1]);
	close(calls->fd);
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

/* Whether nothing came to others that have the numbers now, and they are open. */
static bool are_untouched(int strangers[STRANGERS][2])
{
	uint8_t byte;
	for (unsigned i = 0; i < 2 * STRANGERS; i++)
		if (recv(strangers[i / 2][i % 2], &byte, 1, MSG_DONTWAIT) >= 0 || errno != EAGAIN)
			return false;
	return true;
}

/* No thread has looked since: who stops looks first. */
static int stop_at_once(void)
{
	int strangers[STRANGERS][2];
	struct kvt_engine *engine = open_engine(NULL);
	close_all_but(STDERR_FILENO, false);
	for (unsigned i = 0; i < STRANGERS; i++)
		if (socketpair(AF_UNIX, SOCK_STREAM, 0, strangers[i]) != 0)
			return 2;
	kvt_engine_close(engine);
	return are_untouched(strangers) ? 0 : 1;
}

START_TEST(an_engine_that_stops_as_its_descriptors_are_closed_writes_to_nobody_elses)
{
	int status;
	pid_t pid = fork();
	must(pid >= 0, "%s", strerror(errno));
	if (pid == 0)
		_exit(stop_at_once());
	must(waitpid(pid, &status, 0) == pid, "%s", strerror(errno));
	must(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %d", status);
}
END_TEST

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
	struct calls calls = { .engine = other, .port = (uint16_t)peer_hear(test) };
	if (moment == IDLE)
		start_calls(&calls);
	if (moment == RECEIVING)
		transfer = start_recv(side.kv, memory, LEN);
	else if (moment == SENDING)
		transfer = start_send(side.kv, memory, LEN);
	peer_hear(test);
	close_all_but(test->fd, slowly);
	if (moment != IDLE) {
		close_all(&side, other, transfer); /* at once */
	} else {
		end_calls(&calls);
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
	if (moment == IDLE)
		must(are_untouched(strangers), "another's descriptor was written to or closed");
	free(memory);
}

/* All of it may have come before the peer hears that it is to close. */
static void expect_cut_off(struct kvt_transfer *transfer)
{
	struct kvt_result result = KVT_RESULT_INIT;
	must(wait_for(transfer, PATIENCE_NS) == KVT_OK, "it does not end");
	kvt_transfer_get_result(transfer, &result);
	must(result.err == KVT_E_PEER_LOST || result.err == KVT_OK, "%s", result.text);
	kvt_transfer_free(transfer);
}

START_TEST(an_engine_whose_descriptors_were_closed_ends_in_time_and_harms_nobody)
{
	unsigned choice = (unsigned)_i;
	enum moment moment = choice % MOMENTS;
	struct stage stage;
	struct full_port port;
	struct kvt_transfer *transfer = NULL;
	uint8_t *memory = make_filled(LEN, CANARY);
	stage_open(&stage, play_daemon, &choice, NULL);
	open_full_port(&port);
	peer_tell(&stage.peer, port.number);
	if (moment == SENDING) {
		transfer = start_recv(stage.side.kv, memory, LEN);
		must_become(memory[0] == 1);
	}
	peer_tell(&stage.peer, 0);
	if (transfer != NULL)
		expect_cut_off(transfer);
	expect_ended(stage.side.conn, KVT_E_PEER_LOST);
	peer_finish(&stage.peer);
	close_full_port(&port);
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
	else if (strcmp(get_provider(), "sockets") != 0) {
		tcase_add_loop_test(
			tests,
			an_engine_whose_descriptors_were_closed_ends_in_time_and_harms_nobody, 0,
			2 * MOMENTS);
		tcase_add_test(
			tests,
			an_engine_that_stops_as_its_descriptors_are_closed_writes_to_nobody_elses);
	} else
		printf("SKIP: descriptors closed by others: what %s keeps behind its own was not "
		       "looked at\n",
		       get_provider());
	return tests;
}
