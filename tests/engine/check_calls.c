/* SPDX-License-Identifier: Apache-2.0 */
/* check_calls.c - connecting and accepting without waiting: one thread, which asks for what has happened. */
#include "bed.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/core/settings.h"
#include "support/runner.h"

/* Connections at once: each maps its buffers, for which ThreadSanitizer takes 80 ms. */
enum { MANY = 64, AT_ONCE = 16, QUICK_MS = 1000, ROUNDS = 16 };

static struct kvt_engine *open_telling(const char *key)
{
	struct kvt_engine_config config = make_config();
	config.accept_events = true;
	config.lost_after_ns = 6 * BED_PATIENCE_NS; /* others may use this machine, too */
	config.auth_key = key;
	config.auth_key_len = key == NULL ? 0 : 32;
	return open_engine(&config);
}

static struct kvt_transfer *start_call(struct kvt_engine *engine, uint16_t port, int64_t timeout_ns)
{
	struct kvt_connect_request request = KVT_CONNECT_REQUEST_INIT;
	struct kvt_transfer *call = NULL;
	struct kvt_error error;
	request.host = "127.0.0.1";
	request.port = port;
	request.reap = true;
	request.timeout_ns = timeout_ns;
	enum kvt_err err = kvt_connect_start(engine, &request, &call, &error);
	ck_assert_msg(err == KVT_OK, "no call: %s", error.text);
	return call;
}

static struct kvt_event *await_event(struct kvt_engine *engine, enum kvt_event_kind kind)
{
	struct kvt_event *event = NULL;
	wait_until(kvt_engine_get_event(engine, &event) == KVT_OK);
	ck_assert_int_eq(event->kind, kind);
	return event;
}

static struct kvt_conn *await_peer(struct kvt_engine *engine)
{
	struct kvt_event *event = await_event(engine, KVT_EVENT_CONN_ACCEPTED);
	struct kvt_conn *conn = event->conn;
	ck_assert_int_eq(event->err, KVT_OK);
	kvt_event_free(event);
	return conn;
}

/* As an event loop does. */
static struct kvt_transfer *reap_one(struct kvt_engine *engine)
{
	struct kvt_transfer *transfer;
	wait_until(kvt_engine_reap(engine, &transfer, 1) == 1);
	return transfer;
}

/* A port on which somebody takes up to backlog calls and says nothing. */
static int open_port(int backlog, uint16_t *port)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	socklen_t len = sizeof(address);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert_int_eq(listen(fd, backlog), 0);
	getsockname(fd, (struct sockaddr *)&address, &len);
	*port = ntohs(address.sin_port);
	return fd;
}

static int open_silent(uint16_t *port)
{
	return open_port(MANY, port);
}

/* A call to a port that answers no more: its socket stays pending. */
static int start_unanswered(uint16_t port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	connect(fd, (struct sockaddr *)&address, sizeof(address));
	return fd;
}

/* How many descriptors the epoll sets of this process watch, and the largest: also one that is closed here and open in
 * a forked child is among them. */
static unsigned count_watched(int *last_fd)
{
	unsigned count = 0;
	struct dirent *entry;
	DIR *entries = opendir("/proc/self/fdinfo");
	ck_assert_ptr_nonnull(entries);
	*last_fd = -1;
	while ((entry = readdir(entries)) != NULL) {
		char line[256];
		int info = openat(dirfd(entries), entry->d_name, O_RDONLY | O_CLOEXEC);
		FILE *lines = info < 0 ? NULL : fdopen(info, "r");
		while (lines != NULL && fgets(line, sizeof(line), lines) != NULL) {
			int fd;
			if (sscanf(line, "tfd: %d", &fd) != 1)
				continue;
			count++;
			*last_fd = fd > *last_fd ? fd : *last_fd;
		}
		if (lines != NULL)
			fclose(lines);
	}
	closedir(entries);
	return count;
}

static struct bed open_two(void)
{
	struct bed bed = { .live = failing_alloc_get_live() };
	bed.near.engine = open_telling(NULL);
	bed.far.engine = open_telling(NULL);
	return bed;
}

START_TEST(one_thread_connects_and_accepts)
{
	struct bed bed = open_two();
	struct kvt_transfer *call =
		start_call(bed.near.engine, kvt_engine_get_port(bed.far.engine), 0);
	ck_assert_ptr_eq(reap_one(bed.near.engine), call);
	await(call, KVT_OK);
	bed.near.conn = kvt_transfer_take_conn(call);
	ck_assert_ptr_nonnull(bed.near.conn);
	ck_assert_ptr_null(kvt_transfer_take_conn(call));
	kvt_transfer_free(call);
	bed.far.conn = await_peer(bed.far.engine);
	struct kvt_kv *near = open_kv(bed.near.conn, 1), *far = open_kv(bed.far.conn, 1);
	exchange(near, far, LARGE_LEN, 1);
	kvt_kv_close(near);
	kvt_kv_close(far);
	bed_close(&bed);
}
END_TEST

START_TEST(a_peer_is_told_of_before_what_it_sent_and_before_its_end)
{
	struct bed bed = open_two();
	struct kvt_conn *conn;
	struct kvt_error error;
	struct kvt_notify_request request = KVT_NOTIFY_REQUEST_INIT;
	struct kvt_transfer *note;
	ck_assert_int_eq(bed_call(&bed, &bed.near.conn, &error), KVT_OK);
	request.conn = bed.near.conn;
	request.notify = "word";
	request.notify_len = 4;
	ck_assert_int_eq(kvt_notify_start(&request, &note, &error), KVT_OK);
	finish(note, KVT_OK);
	kvt_conn_close(bed.near.conn);
	bed.near.conn = NULL;

	conn = await_peer(bed.far.engine);
	struct kvt_event *event = await_event(bed.far.engine, KVT_EVENT_NOTIFICATION);
	ck_assert_ptr_eq(event->conn, conn);
	kvt_event_free(event);
	event = await_event(bed.far.engine, KVT_EVENT_CONN_ENDED);
	ck_assert_ptr_eq(event->conn, conn);
	kvt_event_free(event);
	bed.far.conn = conn;
	bed_close(&bed);
}
END_TEST

/* Takes no other, as those may be more than the application has room for. */
static struct kvt_event *take_only(struct kvt_engine *engine, unsigned kinds)
{
	struct kvt_event *event = NULL;
	wait_until(kvt_engine_get_event_of(engine, kinds, &event) == KVT_OK);
	ck_assert_uint_eq(1U << event->kind, kinds);
	return event;
}

static void notify(struct kvt_conn *conn)
{
	struct kvt_notify_request request = KVT_NOTIFY_REQUEST_INIT;
	struct kvt_transfer *note;
	request.conn = conn;
	request.notify = "word";
	request.notify_len = 4;
	ck_assert_int_eq(kvt_notify_start(&request, &note, NULL), KVT_OK);
	finish(note, KVT_OK);
}

START_TEST(each_kind_of_event_is_taken_without_the_others)
{
	struct bed bed = open_two();
	struct kvt_error error;
	struct kvt_event *event, *note;
	struct kvt_conn *other, *other_peer;
	ck_assert_int_eq(bed_call(&bed, &bed.near.conn, &error), KVT_OK);
	bed.far.conn = await_peer(bed.far.engine);
	notify(bed.near.conn);
	/* A notification waits: a peer comes all the same. */
	ck_assert_int_eq(bed_call(&bed, &other, &error), KVT_OK);
	event = take_only(bed.far.engine, KVT_EVENTS_CONN_ACCEPTED);
	other_peer = event->conn;
	kvt_event_free(event);
	/* Another peer waits: a notification comes all the same, and the end of one that has none left. */
	struct kvt_conn *last;
	ck_assert_int_eq(bed_call(&bed, &last, &error), KVT_OK);
	note = take_only(bed.far.engine, KVT_EVENTS_NOTIFICATION);
	ck_assert_ptr_eq(note->conn, bed.far.conn);
	kvt_event_free(note);
	kvt_conn_close(other);
	event = take_only(bed.far.engine, KVT_EVENTS_CONN_ENDED);
	ck_assert_ptr_eq(event->conn, other_peer);
	kvt_event_free(event);
	ck_assert_int_eq(kvt_engine_get_event_of(bed.far.engine, 0, &event), KVT_E_INVALID);
	ck_assert_int_eq(kvt_engine_get_event_of(bed.far.engine, 8, &event), KVT_E_INVALID);
	kvt_conn_close(other_peer);
	kvt_conn_close(await_peer(bed.far.engine));
	kvt_conn_close(last);
	bed_close(&bed);
}
END_TEST

START_TEST(the_end_of_a_connection_is_taken_behind_its_notifications_only)
{
	struct bed bed = open_two();
	struct kvt_error error;
	struct kvt_event *event;
	const unsigned others = KVT_EVENTS_ALL & ~(unsigned)KVT_EVENTS_NOTIFICATION;
	ck_assert_int_eq(bed_call(&bed, &bed.near.conn, &error), KVT_OK);
	bed.far.conn = await_peer(bed.far.engine);
	notify(bed.near.conn);
	notify(bed.near.conn);
	kvt_conn_close(bed.near.conn);
	bed.near.conn = NULL;
	wait_until(get_stats(bed.far.engine).connections == 0);
	for (unsigned i = 0; i < 2; i++) {
		ck_assert_int_eq(kvt_engine_get_event_of(bed.far.engine, others, &event),
				 KVT_E_AGAIN);
		kvt_event_free(take_only(bed.far.engine, KVT_EVENTS_NOTIFICATION));
	}
	struct pollfd readable = { .fd = kvt_engine_get_fd(bed.far.engine), .events = POLLIN };
	wait_until(poll(&readable, 1, 0) == 1);
	kvt_event_free(take_only(bed.far.engine, KVT_EVENTS_CONN_ENDED));
	ck_assert_int_eq(poll(&readable, 1, 0), 0);
	bed_close(&bed);
}
END_TEST

static bool is_readable(struct kvt_engine *engine)
{
	struct pollfd readable = { .fd = kvt_engine_get_fd(engine), .events = POLLIN };
	return poll(&readable, 1, 0) == 1;
}

START_TEST(a_kind_of_event_that_is_not_watched_wakes_nobody_and_stays)
{
	struct bed bed = open_two();
	struct kvt_error error;
	struct kvt_conn *other;
	struct kvt_engine *engine = bed.far.engine;
	const unsigned others = KVT_EVENTS_ALL & ~(unsigned)KVT_EVENTS_NOTIFICATION;
	ck_assert_int_eq(bed_call(&bed, &bed.near.conn, &error), KVT_OK);
	bed.far.conn = await_peer(engine);
	notify(bed.near.conn);
	ck_assert(is_readable(engine));
	ck_assert_int_eq(kvt_engine_watch_events(engine, others), KVT_OK);
	notify(bed.near.conn);
	ck_assert(!is_readable(engine));
	ck_assert_int_eq(kvt_engine_wait(engine, 5 * KVI_MS), KVT_E_AGAIN);
	/* What is watched is told of beside it. */
	ck_assert_int_eq(bed_call(&bed, &other, &error), KVT_OK);
	ck_assert_int_eq(kvt_engine_wait(engine, KVT_FOREVER), KVT_OK);
	ck_assert(is_readable(engine));
	struct kvt_event *event = take_only(engine, KVT_EVENTS_CONN_ACCEPTED);
	kvt_conn_close(event->conn);
	kvt_event_free(event);
	kvt_conn_close(other);
	ck_assert(!is_readable(engine));
	/* The end comes behind the last notification. */
	kvt_conn_close(bed.near.conn);
	bed.near.conn = NULL;
	wait_until(get_stats(engine).connections == 0);
	kvt_event_free(take_only(engine, KVT_EVENTS_NOTIFICATION));
	ck_assert(!is_readable(engine));
	ck_assert_int_eq(kvt_engine_watch_events(engine, KVT_EVENTS_ALL), KVT_OK);
	ck_assert(is_readable(engine));
	ck_assert_int_eq(kvt_engine_watch_events(engine, others), KVT_OK);
	ck_assert(!is_readable(engine));
	kvt_event_free(take_only(engine, KVT_EVENTS_NOTIFICATION));
	ck_assert(is_readable(engine));
	kvt_event_free(take_only(engine, KVT_EVENTS_CONN_ENDED));
	ck_assert(!is_readable(engine));
	ck_assert_int_eq(kvt_engine_watch_events(engine, 8), KVT_E_INVALID);
	ck_assert_int_eq(kvt_engine_watch_events(NULL, others), KVT_E_INVALID);
	bed_close(&bed);
}
END_TEST

START_TEST(a_peer_that_has_gone_and_left_nothing_is_not_told_of)
{
	struct bed bed = open_two();
	struct kvt_error error;
	struct kvt_event *event;
	ck_assert_int_eq(bed_call(&bed, &bed.near.conn, &error), KVT_OK);
	kvt_conn_close(bed.near.conn);
	bed.near.conn = NULL;
	wait_until(get_stats(bed.far.engine).connections_total == 1 &&
		   get_stats(bed.far.engine).connections == 0);
	wait_until(kvt_engine_get_event(bed.far.engine, &event) == KVT_E_AGAIN);
	bed_close(&bed);
}
END_TEST

START_TEST(an_engine_that_tells_of_peers_does_not_accept_otherwise)
{
	struct kvt_engine *engine = open_telling(NULL);
	struct kvt_conn *conn;
	struct kvt_error error;
	ck_assert_int_eq(kvt_conn_accept(engine, KVT_NOWAIT, &conn, &error), KVT_E_INVALID);
	ck_assert_msg(strstr(error.text, "accept_events") != NULL, "%s", error.text);
	kvt_engine_close(engine);
}
END_TEST

START_TEST(peers_that_nobody_took_go_with_their_engine)
{
	struct bed bed = open_two();
	struct kvt_error error;
	ck_assert_int_eq(bed_call(&bed, &bed.near.conn, &error), KVT_OK);
	ck_assert_int_eq(kvt_engine_wait(bed.far.engine, BED_PATIENCE_NS), KVT_OK);
	kvt_engine_stop(bed.far.engine);
	struct kvt_event *event;
	ck_assert_int_eq(kvt_engine_get_event(bed.far.engine, &event), KVT_E_AGAIN);
	bed_close(&bed);
}
END_TEST

static void expect_failure(struct kvt_engine *engine, struct kvt_transfer *call, enum kvt_err err,
			   const char *word)
{
	ck_assert_ptr_eq(reap_one(engine), call);
	struct kvt_result result = await(call, err);
	ck_assert_msg(strstr(result.text, word) != NULL, "%s", result.text);
	ck_assert_ptr_null(kvt_transfer_take_conn(call));
	kvt_transfer_free(call);
}

START_TEST(a_call_that_is_refused_ends_with_the_reason)
{
	struct bed bed = open_two();
	uint16_t port;
	int fd = open_silent(&port);
	close(fd);
	struct kvt_transfer *call = start_call(bed.near.engine, port, 0);
	expect_failure(bed.near.engine, call, KVT_E_UNREACHABLE, "refused");

	struct kvt_engine *other = open_telling("a key that the others do not hav");
	call = start_call(other, kvt_engine_get_port(bed.far.engine), 0);
	expect_failure(other, call, KVT_E_AUTH, "keys differ");
	kvt_engine_close(other);
	bed_close(&bed);
}
END_TEST

/* A call whose lanes are cut off, so many times, before the listener hears of them. It hears of none before
 * fake_hold(0). */
static struct kvt_transfer *start_cut_off(const struct bed *between, unsigned times)
{
	fake_hold(FAKE_CONNECT);
	struct kvt_transfer *call =
		start_call(between->near.engine, kvt_engine_get_port(between->far.engine), 0);
	for (unsigned i = 0; i < times; i++) {
		wait_until(fake_get_counts().lanes > 0);
		wait_until((fake_kill_lanes(NULL), fake_get_counts().lanes == 0));
	}
	return call;
}

START_TEST(a_call_whose_lanes_are_cut_off_is_made_again)
{
	struct bed bed = open_two();
	struct kvt_transfer *call = start_cut_off(&bed, 3);
	fake_hold(0);
	ck_assert_ptr_eq(reap_one(bed.near.engine), call);
	await(call, KVT_OK);
	bed.near.conn = kvt_transfer_take_conn(call);
	kvt_transfer_free(call);
	bed.far.conn = await_peer(bed.far.engine);
	bed_close(&bed);
}
END_TEST

START_TEST(a_call_whose_lanes_are_cut_off_each_time_ends_with_the_reason)
{
	struct bed bed = open_two();
	struct kvt_transfer *call = start_cut_off(&bed, 4);
	expect_failure(bed.near.engine, call, KVT_E_UNREACHABLE, "lane 0");
	fake_hold(0);
	bed_close(&bed);
}
END_TEST

START_TEST(a_call_ends_at_its_deadline)
{
	struct bed bed = open_two();
	uint16_t port;
	int fd = open_silent(&port);
	int64_t since_ns = kvi_clock_now();
	struct kvt_transfer *call = start_call(bed.near.engine, port, 50 * KVI_MS);
	expect_failure(bed.near.engine, call, KVT_E_UNREACHABLE, "did not answer");
	expect_took(since_ns, 50 * KVI_MS, QUICK_MS * KVI_MS);
	call = start_call(bed.near.engine, port, KVT_NOWAIT);
	expect_failure(bed.near.engine, call, KVT_E_UNREACHABLE, "127.0.0.1");
	close(fd);
	bed_close(&bed);
}
END_TEST

START_TEST(a_call_is_cancelled)
{
	struct bed bed = open_two();
	uint16_t port;
	int fd = open_silent(&port);
	struct kvt_transfer *call = start_call(bed.near.engine, port, KVT_FOREVER);
	expect_pending(call, 20 * KVI_MS);
	kvt_transfer_cancel(call);
	expect_failure(bed.near.engine, call, KVT_E_CANCELLED, "cancelled");
	/* The same by freeing, and by letting go. */
	kvt_transfer_free(start_call(bed.near.engine, port, KVT_FOREVER));
	call = start_call(bed.near.engine, port, KVT_FOREVER);
	kvt_transfer_cancel(call);
	kvt_transfer_detach(call);
	wait_until(get_stats(bed.near.engine).transfers == 0);
	close(fd);
	bed_close(&bed);
}
END_TEST

/* Asked, a child that has a copy of a call's socket says whether the call has ended for it, too. */
static pid_t fork_holder(int fd, int questions[2])
{
	ck_assert_int_eq(pipe(questions), 0);
	pid_t pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		char byte;
		struct pollfd socket = { .fd = fd, .events = POLLOUT };
		close(questions[1]);
		if (read(questions[0], &byte, 1) != 1)
			_exit(1);
		_exit(poll(&socket, 1, QUICK_MS) == 1 && (socket.revents & POLLHUP) != 0 ? 0 : 2);
	}
	close(questions[0]);
	return pid;
}

START_TEST(a_call_that_ended_is_over_though_a_forked_child_has_its_socket)
{
	struct bed bed = open_two();
	uint16_t port;
	int socket_fd, questions[2], status, fillers[2];
	int fd = open_port(0, &port);
	for (unsigned i = 0; i < 2; i++)
		fillers[i] = start_unanswered(port);
	kvt_transfer_free(start_call(bed.near.engine, port, KVT_NOWAIT)); /* the thread is there */
	unsigned count = count_watched(&socket_fd);
	struct kvt_transfer *call = start_call(bed.near.engine, port, KVT_FOREVER);
	wait_until(count_watched(&socket_fd) == count + 1);
	pid_t pid = fork_holder(socket_fd, questions);
	kvt_transfer_free(call);
	ck_assert_uint_eq(count_watched(&socket_fd), count);
	ck_assert_int_eq(write(questions[1], "?", 1), 1);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	close(questions[1]);
	for (unsigned i = 0; i < 2; i++)
		close(fillers[i]);
	close(fd);
	bed_close(&bed);
}
END_TEST

START_TEST(a_connection_that_nobody_takes_is_closed_with_its_call)
{
	struct bed bed = open_two();
	struct kvt_transfer *call =
		start_call(bed.near.engine, kvt_engine_get_port(bed.far.engine), 0);
	await_end(call);
	await(call, KVT_OK);
	bed.far.conn = await_peer(bed.far.engine);
	kvt_transfer_free(call);
	kvt_event_free(await_event(bed.far.engine, KVT_EVENT_CONN_ENDED));
	wait_until(get_stats(bed.near.engine).connections == 0);
	bed_close(&bed);
}
END_TEST

START_TEST(a_peer_that_goes_before_its_connection_is_taken_is_told_of_there)
{
	struct bed bed = open_two();
	struct kvt_transfer *call =
		start_call(bed.near.engine, kvt_engine_get_port(bed.far.engine), 0);
	await(call, KVT_OK);
	kvt_conn_close(await_peer(bed.far.engine));
	wait_until(get_stats(bed.near.engine).connections == 0);
	bed.near.conn = kvt_transfer_take_conn(call);
	ck_assert_ptr_nonnull(bed.near.conn);
	ck_assert_int_eq(kvt_conn_get_status(bed.near.conn, NULL), KVT_E_PEER_CLOSED);
	kvt_event_free(await_event(bed.near.engine, KVT_EVENT_CONN_ENDED));
	kvt_transfer_free(call);
	bed_close(&bed);
}
END_TEST

static pthread_barrier_t both_are_ready;

static void *take_at_once(void *call)
{
	pthread_barrier_wait(&both_are_ready);
	return kvt_transfer_take_conn(call);
}

START_TEST(of_two_threads_that_take_a_connection_one_gets_it)
{
	struct bed bed = open_two();
	pthread_barrier_init(&both_are_ready, NULL, 2);
	for (unsigned i = 0; i < ROUNDS; i++) {
		void *first, *second;
		pthread_t thread;
		struct kvt_transfer *call = start_call(
			bed.near.engine, kvt_engine_get_port(bed.far.engine), BED_PATIENCE_NS);
		await(call, KVT_OK);
		pthread_create(&thread, NULL, take_at_once, call);
		second = take_at_once(call);
		pthread_join(thread, &first);
		ck_assert_msg((first == NULL) != (second == NULL), "%p and %p", first, second);
		kvt_transfer_free(call);
		bed.far.conn = await_peer(bed.far.engine);
		kvt_conn_close(first != NULL ? first : second);
		kvt_conn_close(bed.far.conn);
		bed.far.conn = NULL;
	}
	pthread_barrier_destroy(&both_are_ready);
	bed_close(&bed);
}
END_TEST

START_TEST(a_connection_is_not_taken_from_an_engine_that_has_stopped)
{
	struct bed bed = open_two();
	struct kvt_transfer *call =
		start_call(bed.near.engine, kvt_engine_get_port(bed.far.engine), 0);
	await(call, KVT_OK);
	kvt_engine_stop(bed.near.engine);
	ck_assert_ptr_null(kvt_transfer_take_conn(call));
	kvt_transfer_free(call);
	bed_close(&bed);
}
END_TEST

START_TEST(calls_under_way_end_with_their_engine)
{
	struct bed bed = open_two();
	uint16_t port;
	int fd = open_silent(&port);
	struct kvt_transfer *calls[MANY];
	struct kvt_error error;
	struct kvt_connect_request request = KVT_CONNECT_REQUEST_INIT;
	for (unsigned i = 0; i < MANY; i++)
		calls[i] = start_call(bed.near.engine, port, KVT_FOREVER);
	int64_t since_ns = kvi_clock_now();
	kvt_engine_stop(bed.near.engine);
	expect_took(since_ns, 0, 2 * KVI_SECOND);
	for (unsigned i = 0; i < MANY; i++)
		finish(calls[i], KVT_E_CLOSED);
	request.host = "127.0.0.1";
	request.port = port;
	ck_assert_int_eq(kvt_connect_start(bed.near.engine, &request, &calls[0], &error),
			 KVT_E_CLOSED);
	close(fd);
	bed_close(&bed);
}
END_TEST

/* A busy machine takes longer for so many handshakes than the other side waits for each: those are called again, as
 * in bed_call(). */
static struct kvt_conn *await_call(struct bed *bed, struct kvt_transfer *call, int64_t since_ns)
{
	int64_t deadline_ns = kvi_deadline_after(BED_PATIENCE_NS);
	struct kvt_result result = KVT_RESULT_INIT;
	for (;;) {
		await_end(call);
		ck_assert_int_eq(kvt_transfer_get_result(call, &result), KVT_OK);
		struct kvt_conn *conn = kvt_transfer_take_conn(call);
		kvt_transfer_free(call);
		if (result.err == KVT_OK)
			return conn;
		ck_assert_msg(result.err == KVT_E_UNREACHABLE &&
				      kvi_clock_now() - since_ns >= KVI_HANDSHAKE_NS / 2 &&
				      kvi_clock_now() < deadline_ns,
			      "%s", result.text);
		since_ns = kvi_clock_now();
		call = start_call(bed->near.engine, kvt_engine_get_port(bed->far.engine),
				  BED_PATIENCE_NS);
	}
}

START_TEST(many_calls_are_under_way_at_once)
{
	struct bed bed = open_two();
	struct kvt_transfer *calls[AT_ONCE];
	struct kvt_conn *near[AT_ONCE], *far[AT_ONCE];
	int64_t since_ns = kvi_clock_now();
	for (unsigned i = 0; i < AT_ONCE; i++)
		calls[i] = start_call(bed.near.engine, kvt_engine_get_port(bed.far.engine),
				      BED_PATIENCE_NS);
	for (unsigned i = 0; i < AT_ONCE; i++) {
		near[i] = await_call(&bed, calls[i], since_ns);
		ck_assert_ptr_nonnull(near[i]);
		far[i] = await_peer(bed.far.engine);
	}
	for (unsigned i = 0; i < AT_ONCE; i++) {
		kvt_conn_close(near[i]);
		kvt_conn_close(far[i]);
	}
	bed_close(&bed);
}
END_TEST

START_TEST(what_is_no_request_is_refused)
{
	struct kvt_engine *engine = open_telling(NULL);
	struct kvt_connect_request request = KVT_CONNECT_REQUEST_INIT;
	struct kvt_transfer *call;
	struct kvt_error error;
	ck_assert_int_eq(kvt_connect_start(engine, &request, &call, &error), KVT_E_INVALID);
	request.host = "127.0.0.1";
	ck_assert_int_eq(kvt_connect_start(engine, &request, &call, &error), KVT_E_INVALID);
	request.port = 1;
	request.timeout_ns = -1;
	ck_assert_int_eq(kvt_connect_start(engine, &request, &call, &error), KVT_E_INVALID);
	request.timeout_ns = 0;
	request.address = "x";
	request.address_len = 1;
	ck_assert_int_eq(kvt_connect_start(engine, &request, &call, &error), KVT_E_INVALID);
	request.host = NULL;
	ck_assert_int_eq(kvt_connect_start(engine, &request, &call, &error), KVT_E_INVALID);
	ck_assert_int_eq(kvt_connect_start(NULL, &request, &call, &error), KVT_E_INVALID);
	/* What only looking can tell ends the call. */
	request.address = NULL;
	request.host = "no such host:";
	request.reap = true;
	ck_assert_int_eq(kvt_connect_start(engine, &request, &call, &error), KVT_OK);
	expect_failure(engine, call, KVT_E_INVALID, "no such host:");
	kvt_engine_close(engine);
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("calls");
	tcase_set_timeout(tests, 120);
	tcase_add_test(tests, one_thread_connects_and_accepts);
	tcase_add_test(tests, a_peer_is_told_of_before_what_it_sent_and_before_its_end);
	tcase_add_test(tests, each_kind_of_event_is_taken_without_the_others);
	tcase_add_test(tests, the_end_of_a_connection_is_taken_behind_its_notifications_only);
	tcase_add_test(tests, a_kind_of_event_that_is_not_watched_wakes_nobody_and_stays);
	tcase_add_test(tests, a_peer_that_has_gone_and_left_nothing_is_not_told_of);
	tcase_add_test(tests, an_engine_that_tells_of_peers_does_not_accept_otherwise);
	tcase_add_test(tests, peers_that_nobody_took_go_with_their_engine);
	tcase_add_test(tests, a_call_that_is_refused_ends_with_the_reason);
	tcase_add_test(tests, a_call_whose_lanes_are_cut_off_is_made_again);
	tcase_add_test(tests, a_call_whose_lanes_are_cut_off_each_time_ends_with_the_reason);
	tcase_add_test(tests, a_call_ends_at_its_deadline);
	tcase_add_test(tests, a_call_is_cancelled);
	tcase_add_test(tests, a_call_that_ended_is_over_though_a_forked_child_has_its_socket);
	tcase_add_test(tests, a_connection_that_nobody_takes_is_closed_with_its_call);
	tcase_add_test(tests, a_peer_that_goes_before_its_connection_is_taken_is_told_of_there);
	tcase_add_test(tests, of_two_threads_that_take_a_connection_one_gets_it);
	tcase_add_test(tests, a_connection_is_not_taken_from_an_engine_that_has_stopped);
	tcase_add_test(tests, calls_under_way_end_with_their_engine);
	tcase_add_test(tests, many_calls_are_under_way_at_once);
	tcase_add_test(tests, what_is_no_request_is_refused);
	return run_tests("engine_calls", tests);
}
