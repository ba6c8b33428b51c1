/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_flood.c - a peer that has authenticated and says more than anybody can use: heartbeats without end, and
 * questions whose answers it does not take. Other peers of the same engine are served meanwhile.
 */
#include "bed.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include "engine/conn/session.h"
#include "engine/core/conn.h"
#include "engine/core/engine.h"
#include "engine/lane/link.h"
#include "support/punctual.h"
#include "support/runner.h"

enum { GOOD_CALLS = 20, BEAT_LEN = 10, BEATS = 6400 };

static struct bed bed;
static struct kvt_engine *good;
static atomic_bool stop;
static uint64_t said;

/* The flooding side says no heartbeats of its own, so that its control thread does not write meanwhile. */
static void open_flood(void)
{
	struct kvt_engine_config config = make_config();
	config.insecure = true;
	config.lost_after_ns = 60 * KVI_SECOND; /* whatever else this machine does meanwhile */
	bed = (struct bed){ .live = failing_alloc_get_live() };
	bed.far.engine = open_engine(&config);
	good = open_engine(&config);
	config.heartbeat_ns = 1000 * KVI_SECOND;
	config.lost_after_ns = 3000 * KVI_SECOND;
	bed.near.engine = open_engine(&config);
	bed_connect(&bed);
	atomic_store(&stop, false);
	said = 0;
}

static void close_flood(void)
{
	kvt_engine_close(good);
	bed_close(&bed);
}

static void *start_thread(pthread_t *thread, void *(*run)(void *))
{
	ck_assert_int_eq(pthread_create(thread, NULL, run, NULL), 0);
	return NULL;
}

/* What a good peer gets while another one floods: a connection each time, and what it sends. */
static void expect_service(void)
{
	for (uint32_t i = 0; i < GOOD_CALLS; i++) {
		struct side near, far;
		int64_t since_ns = kvi_clock_now();
		ck_assert_int_eq(kvt_conn_open(good, "127.0.0.1",
					       kvt_engine_get_port(bed.far.engine), BED_PATIENCE_NS,
					       &near.conn, NULL),
				 KVT_OK);
		ck_assert_int_eq(kvt_conn_accept(bed.far.engine, BED_PATIENCE_NS, &far.conn, NULL),
				 KVT_OK);
		struct kvt_kv *from = open_kv(near.conn, 7), *to = open_kv(far.conn, 7);
		exchange(from, to, 100, i);
		exchange(to, from, LARGE_LEN, i);
		expect_took(since_ns, 0, KVI_SECOND);
		kvt_kv_close(from);
		kvt_kv_close(to);
		kvt_conn_close(near.conn);
		kvt_conn_close(far.conn);
	}
}

/* ---- the control channel ---- */

static void *flood_control(void *arg)
{
	static const uint8_t beat[BEAT_LEN] = { 8, 0, 0x4b, 0x56, 6 };
	static uint8_t beats[BEATS * BEAT_LEN];
	int fd = bed.near.conn->session->stream.fd;
	size_t at = 0;
	(void)arg;
	for (size_t i = 0; i < sizeof(beats); i += BEAT_LEN)
		memcpy(beats + i, beat, BEAT_LEN);
	/* Whole records, whatever it takes. */
	while (!atomic_load(&stop) || at % BEAT_LEN != 0) {
		struct pollfd writable = { .fd = fd, .events = POLLOUT };
		ssize_t sent = send(fd, beats + at, sizeof(beats) - at, MSG_NOSIGNAL);
		if (sent > 0)
			at = (at + (size_t)sent) % sizeof(beats);
		else if (errno != EAGAIN || poll(&writable, 1, 1000) < 0)
			break;
		said += sent > 0 ? (uint64_t)sent / BEAT_LEN : 0;
	}
	return NULL;
}

START_TEST(heartbeats_without_end_keep_no_other_peer_waiting)
{
	pthread_t thread;
	open_flood();
	start_thread(&thread, flood_control);
	expect_service();
	atomic_store(&stop, true);
	pthread_join(thread, NULL);
	ck_assert_uint_gt(said, BEATS);
	/* It was a flood, and no fault. */
	ck_assert_int_eq(kvt_conn_get_status(bed.far.conn, NULL), KVT_OK);
	close_flood();
}
END_TEST

/* ---- the lanes ---- */

/* One more question, about something that there is not. */
static void ask(struct kvi_link *link, struct kvi_message message)
{
	kvi_worker_lock(link->shard->worker);
	if (link->lane != NULL && kvi_link_try_send(link, &message))
		said++;
	kvi_worker_flush(link->shard->worker, KVI_FLUSH_ALL);
	kvi_worker_unlock(link->shard->worker);
}

/* The near side leaves what comes untaken, as one whose application has not accepted does, or takes it again. */
static void set_taking(bool takes)
{
	struct kvi_inbox *inbox = &bed.near.engine->inbox;
	if (takes)
		atomic_fetch_sub(&inbox->held_len, KVI_UNACCEPTED_LEN_MAX);
	else
		atomic_fetch_add(&inbox->held_len, KVI_UNACCEPTED_LEN_MAX);
	atomic_store(&bed.near.conn->handed_out, takes);
}

START_TEST(a_peer_that_takes_no_answers_costs_its_own_connection)
{
	/* Those that travel together, and what is on its way when it ends. */
	enum { QUESTIONS_ENOUGH = 16384 };
	struct kvt_error error;
	long live = 0;
	open_flood();
	struct kvi_link *link = &bed.near.conn->links[0];
	int64_t deadline_ns = kvi_deadline_after(3 * BED_PATIENCE_NS);
	set_taking(false);
	live = failing_alloc_get_live();
	for (uint64_t i = 1; kvt_conn_get_status(bed.far.conn, NULL) == KVT_OK; i++) {
		const struct kvi_message question = {
			.type = KVI_MESSAGE_ATTACH,
			.attach = { .number = i, .export_id = 77 },
		};
		ck_assert_msg(said <= QUESTIONS_ENOUGH, "all answers are kept");
		ck_assert_int_le(failing_alloc_get_live() - live, KVI_QUESTIONS_MAX + 100);
		ck_assert(kvi_clock_now() < deadline_ns);
		kvi_worker_lock(link->shard->worker);
		link->send_credits = link->conn->peer_rx_count - 2;
		kvi_worker_unlock(link->shard->worker);
		ask(link, question);
	}
	set_taking(true);
	ck_assert_int_eq(kvt_conn_get_status(bed.far.conn, &error), KVT_E_PROTOCOL);
	ck_assert_msg(strstr(error.text, "answers") != NULL, "%s", error.text);
	expect_service();
	close_flood();
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("flood");
	tcase_set_timeout(tests, 120);
	tcase_add_test(tests, heartbeats_without_end_keep_no_other_peer_waiting);
	tcase_add_test(tests, a_peer_that_takes_no_answers_costs_its_own_connection);
	return run_tests("engine_flood", tests);
}
