/* SPDX-License-Identifier: Apache-2.0 */
/* check_flow.c - credits, the eager window, small queues, many lanes and rails, and limits. */
#include "bed.h"

#include <sched.h>
#include <stdlib.h>

#include "engine/core/conn.h"
#include "engine/core/engine.h"
#include "engine/core/settings.h"
#include "engine/tagged/tag_queue.h"
#include "engine/tagged/kv.h"
#include "support/runner.h"

static struct bed bed;

/* What a fabric may be like. */
struct variant {
	const char *name;
	unsigned ncpus;
	unsigned nconn_per_cpu;
	size_t rail_count;
	unsigned tx_count;
	size_t max_segment_len;
	bool local_memory;
	bool rkeys_differ; /* and domains are those of the rails */
	bool sends_overtake;
	bool auto_progress;
	uint64_t seed;
	int64_t spin_ns;
};

static const struct variant variants[] = {
	{ "plain", 1, 1, 1, 64, 1 << 20 },
	{ "lanes of one worker", 1, 4, 1, 64, 1 << 20 },
	{ "lanes of many workers", 3, 4, 1, 64, 1 << 20, .seed = 1 },
	{ "reordered", 2, 3, 1, 64, 16384, .seed = 2 },
	{ "two rails", 2, 2, 2, 64, 1 << 20, .seed = 3 },
	{ "more rails than lanes", 1, 1, 3, 64, 1 << 20 },
	{ "small queues", 1, 2, 1, 2, 1 << 20 },
	{ "one place in the queue", 2, 1, 1, 1, 8192 },
	{ "tiny segments", 2, 2, 1, 64, 4096 },
	{ "sends overtake writes", 1, 1, 1, 64, 1 << 20, .sends_overtake = true },
	{ "sends overtake writes on many lanes", 3, 2, 1, 8, 65536, .sends_overtake = true,
	  .seed = 4 },
	{ "local registrations", 2, 2, 1, 64, 1 << 20, .local_memory = true },
	{ "rails with keys of their own", 3, 4, 3, 64, 65536, .local_memory = true,
	  .rkeys_differ = true, .seed = 5 },
	{ "the worst of all", 3, 3, 2, 2, 10000, .local_memory = true, .rkeys_differ = true,
	  .sends_overtake = true, .seed = 6 },
	{ "hardware that moves by itself", 2, 2, 1, 64, 65536, .auto_progress = true },
};
enum { VARIANT_COUNT = sizeof(variants) / sizeof(variants[0]) };

static const char *const interfaces[] = { "fake0", "fake1", "fake2" };

static void open_variant(const struct variant *variant)
{
	struct kvt_engine_config config = make_config();
	struct kvi_caps caps = fake_get_default_caps();
	config.spin_ns = variant->spin_ns;
	config.interfaces = interfaces;
	config.interface_count = variant->rail_count;
	config.ncpus = variant->ncpus;
	config.nconn_per_cpu = variant->nconn_per_cpu;
	caps.tx_count = variant->tx_count;
	caps.max_segment_len = variant->max_segment_len;
	caps.local_memory = variant->local_memory;
	caps.holds_messages = !variant->local_memory;
	caps.same_rkey = !variant->rkeys_differ;
	caps.own_domains = !variant->rkeys_differ;
	caps.send_after_write = !variant->sends_overtake;
	fake_set_caps(&caps);
	fake_set_auto_progress(variant->auto_progress);
	fake_reorder(variant->seed);
	bed_open(&bed, &config);
}

/* Of an engine with several rails the connection has a lane on one: polling the others tells nothing, and costs system
 * calls where they are the network's. */
START_TEST(who_looks_for_work_leaves_queues_without_lanes_alone)
{
	const struct variant variant = { "", 1, 1, 3, 64, 1 << 20, .spin_ns = 60 * KVI_SECOND };
	open_variant(&variant);
	struct kvt_kv *near = open_kv(bed.near.conn, 1), *far = open_kv(bed.far.conn, 1);
	exchange(near, far, 64, 0);
	uint64_t before = fake_get_counts().vain_polls;
	for (unsigned i = 1; i <= 200; i++)
		exchange(near, far, 64, i);
	ck_assert_uint_le(fake_get_counts().vain_polls - before, 20);
	kvt_kv_close(near);
	kvt_kv_close(far);
	bed_close(&bed);
}
END_TEST

enum { KVS = 6, MESSAGES = 8 };

/* One message of the traffic below. */
struct trip {
	uint8_t *source;
	uint8_t *target;
	size_t len;
	struct kvt_transfer *send;
	struct kvt_transfer *receive;
};

static size_t choose_len(unsigned kv, unsigned message)
{
	static const size_t lens[] = { 10, 70000, 0, (2 << 20) + 77, 4096, 300000, 65536 };
	return lens[(3 * kv + message) % 7];
}

START_TEST(all_messages_of_many_kvs_arrive_both_ways_whatever_the_fabric_is_like)
{
	struct kvt_kv *near[KVS], *far[KVS];
	struct trip trips[KVS][MESSAGES];
	uint8_t *memory = make_pattern(4 << 20, 0);
	open_variant(&variants[_i]);
	for (unsigned k = 0; k < KVS; k++) {
		struct kvt_kv_config config = KVT_KV_CONFIG_INIT;
		config.tag = k % 2 == 0 ? KVT_TAG_AUTO : 1000 * k;
		config.base = memory; /* for those that need registered memory */
		config.len = 4 << 20;
		ck_assert_int_eq(kvt_kv_open(bed.near.conn, &config, &near[k], NULL), KVT_OK);
		far[k] = open_kv(bed.far.conn, config.tag);
	}
	for (unsigned m = 0; m < MESSAGES; m++) {
		for (unsigned k = 0; k < KVS; k++) {
			struct trip *trip = &trips[k][m];
			bool back = (k + m) % 4 == 0;
			trip->len = choose_len(k, m);
			trip->source = make_pattern(trip->len, m);
			trip->target = make_filled(trip->len, 0);
			if ((k + m) % 3 == 0)
				trip->receive = start_recv(back ? near[k] : far[k], trip->target,
							   trip->len);
			trip->send = start_send(back ? far[k] : near[k], trip->source, trip->len);
			if ((k + m) % 3 != 0)
				trip->receive = start_recv(back ? near[k] : far[k], trip->target,
							   trip->len);
		}
	}
	for (unsigned k = 0; k < KVS; k++) {
		for (unsigned m = 0; m < MESSAGES; m++) {
			struct trip *trip = &trips[k][m];
			finish(trip->send, KVT_OK);
			ck_assert_uint_eq(finish(trip->receive, KVT_OK), trip->len);
			ck_assert_msg(holds_pattern(trip->target, trip->len, m),
				      "%s: %zu bytes are not right", variants[_i].name, trip->len);
			free(trip->source);
			free(trip->target);
		}
		kvt_kv_close(near[k]);
		kvt_kv_close(far[k]);
	}
	if (variants[_i].local_memory)
		ck_assert_uint_eq(fake_get_counts().rnr_waits, 0);
	ck_assert_uint_eq(fake_get_counts().access_failures, 0);
	bed_close(&bed);
	free(memory);
}
END_TEST

enum { STREAM = 40, STREAM_LEN = 64 };

static void receive_stream(struct kvt_kv *to)
{
	uint8_t target[STREAM_LEN];
	for (unsigned i = 0; i < STREAM; i++) {
		ck_assert_uint_eq(finish(start_recv(to, target, STREAM_LEN), KVT_OK), STREAM_LEN);
		ck_assert(holds_pattern(target, STREAM_LEN, i));
	}
}

/* Messages of a stream, as sends make them, while the lock keeps the driver away. No packet is left that has half of
 * what is in flight. */
static unsigned send_stream(struct kvt_kv *from, unsigned first, unsigned end, unsigned half)
{
	struct kvi_link *link = from->link;
	unsigned credits = link->send_credits;
	link->eager_sends = 2 * half;
	for (unsigned i = first; i < end; i++) {
		uint8_t *source = make_pattern(STREAM_LEN, i);
		struct kvi_message message = {
			.type = KVI_MESSAGE_EAGER,
			.tag = from->tag,
			.eager = {
				.seq = from->queue->next_send_seq++,
				.data = { source, STREAM_LEN },
			},
		};
		ck_assert(kvi_link_try_send(link, &message));
		kvi_link_touch(link);
		kvi_worker_flush(from->worker, KVI_FLUSH_GATHER);
		ck_assert_uint_lt(link->filling_count, half);
		free(source);
	}
	link->eager_sends = 0;
	return credits - link->send_credits;
}

START_TEST(a_stream_fills_packets_with_half_of_what_is_in_flight_at_most)
{
	unsigned half = _i == 0 ? 8 : 16;
	bed_open(&bed, NULL);
	struct kvt_kv *from = open_kv(bed.near.conn, 7);
	struct kvt_kv *to = open_kv(bed.far.conn, 7);
	exchange(from, to, STREAM_LEN, 1);
	kvi_worker_lock(from->worker);
	unsigned packets = send_stream(from, 0, STREAM, half);
	kvi_worker_flush(from->worker, KVI_FLUSH_ALL);
	kvi_worker_unlock(from->worker);
	/* Some go alone, until the peer has to be behind; the others in as few as hold them. */
	ck_assert_uint_ge(packets, STREAM / half);
	ck_assert_uint_le(packets, 2 + STREAM / half + 1);
	receive_stream(to);
	kvt_kv_close(from);
	kvt_kv_close(to);
	bed_close(&bed);
}
END_TEST

/* ACKs that the peer has had already, and so takes no notice of. */
static void send_acks(struct kvt_kv *to, unsigned count)
{
	const struct kvi_message ack = { .type = KVI_MESSAGE_ACK, .tag = to->tag };
	for (unsigned i = 0; i < count; i++) {
		struct kvi_message message = ack;
		kvi_link_send(to->link, &message);
	}
	kvi_worker_flush(to->worker, KVI_FLUSH_HOLD);
}

START_TEST(who_looks_for_work_holds_what_more_may_join_for_a_moment_and_nothing_else)
{
	bed_open(&bed, NULL);
	struct kvt_kv *from = open_kv(bed.near.conn, 7);
	struct kvt_kv *to = open_kv(bed.far.conn, 7);
	exchange(from, to, STREAM_LEN, 1);

	kvi_worker_lock(from->worker);
	send_stream(from, 0, 4, 8);
	ck_assert_uint_gt(from->link->filling_count, 0);
	from->link->eager_sends = 16;
	kvi_worker_flush(from->worker, KVI_FLUSH_HOLD);
	ck_assert_uint_gt(from->link->filling_count, 0);
	from->link->eager_sends = 4; /* so few are no stream */
	kvi_worker_flush(from->worker, KVI_FLUSH_HOLD);
	ck_assert_uint_eq(from->link->filling_count, 0);
	send_stream(from, 4, STREAM, 8);
	kvi_worker_flush(from->worker, KVI_FLUSH_ALL);
	kvi_worker_unlock(from->worker);
	receive_stream(to);

	kvi_worker_lock(to->worker);
	kvi_worker_flush(to->worker, KVI_FLUSH_ALL);
	send_acks(to, 1);
	ck_assert_uint_eq(to->link->queue_count, 0);
	send_acks(to, 2);
	ck_assert_uint_eq(to->link->queue_count, 2);
	kvi_worker_flush(to->worker, KVI_FLUSH_ALL);
	ck_assert_uint_eq(to->link->queue_count, 0);
	kvi_worker_unlock(to->worker);
	exchange(from, to, STREAM_LEN, 2);
	kvt_kv_close(from);
	kvt_kv_close(to);
	bed_close(&bed);
}
END_TEST

static void run_nothing(struct kvi_worker *worker, struct kvi_command *command)
{
	(void)worker;
	(void)command;
}

START_TEST(what_is_held_for_a_moment_goes_though_each_look_finds_something)
{
	struct kvi_command command = { .run = run_nothing };
	bed_open(&bed, NULL);
	struct kvt_kv *from = open_kv(bed.near.conn, 7);
	struct kvt_kv *to = open_kv(bed.far.conn, 7);
	struct kvi_worker *worker = from->worker;
	exchange(from, to, STREAM_LEN, 1);
	fake_hold(FAKE_SEND);
	kvi_worker_lock(worker);
	struct kvi_patience patience = worker->inline_patience;
	kvi_patience_init(&worker->inline_patience, KVI_SECOND, false);
	worker->inline_sleeps = true;
	send_stream(from, 0, 4, 8);
	ck_assert_uint_gt(from->link->filling_count, 0);
	from->link->eager_sends = 16;
	for (unsigned i = 0; i < 10; i++) {
		kvi_mailbox_send(&worker->commands, &command.mail);
		ck_assert_int_eq(kvi_worker_sleep(worker, 0, KVI_NEVER), KVI_SLEEP_WORKED);
	}
	ck_assert_uint_eq(from->link->filling_count, 0);
	worker->inline_sleeps = false;
	worker->inline_patience = patience;
	fake_hold(0);
	send_stream(from, 4, STREAM, 8);
	kvi_worker_flush(worker, KVI_FLUSH_ALL);
	kvi_worker_unlock(worker);
	receive_stream(to);
	kvt_kv_close(from);
	kvt_kv_close(to);
	bed_close(&bed);
}
END_TEST

START_TEST(what_a_submit_leaves_to_the_driver_goes_though_nobody_waits)
{
	struct kvt_transfer *sends[STREAM];
	uint8_t *sources[STREAM];
	bed_open(&bed, NULL);
	struct kvt_kv *from = open_kv(bed.near.conn, 7);
	struct kvt_kv *to = open_kv(bed.far.conn, 7);
	for (unsigned round = 0; round < 20; round++) {
		/* A caller that waited leaves its worker's thread parked. */
		exchange(from, to, STREAM_LEN, round);
		for (unsigned i = 0; i < STREAM; i++) {
			sources[i] = make_pattern(STREAM_LEN, i);
			sends[i] = start_send(from, sources[i], STREAM_LEN);
		}
		receive_stream(to);
		for (unsigned i = 0; i < STREAM; i++) {
			wait_until(kvt_transfer_is_done(sends[i]));
			finish(sends[i], KVT_OK);
			free(sources[i]);
		}
	}
	kvt_kv_close(from);
	kvt_kv_close(to);
	bed_close(&bed);
}
END_TEST

/* To wake it takes longer than a small message: so it is not woken by each of many callers. */
START_TEST(a_thread_that_slept_beside_one_caller_looks_by_itself_beside_the_next)
{
	bed_open(&bed, NULL);
	struct kvi_worker *worker = bed.far.engine->workers[0];
	atomic_store(&worker->inline_progress, true);
	wait_until((kvi_wake(&worker->wake), atomic_load(&worker->parked_deep)));
	/* One that leaves, and the next, before the thread has looked. */
	int64_t deadline_ns = kvi_deadline_after(BED_PATIENCE_NS);
	while (atomic_load(&worker->parked_deep)) {
		ck_assert_int_lt(kvi_clock_now(), deadline_ns);
		atomic_fetch_add(&worker->inline_entries, 1);
		pthread_cond_signal(&worker->park);
		sched_yield();
	}
	atomic_store(&worker->inline_progress, false);
	wait_until((pthread_cond_signal(&worker->park), !atomic_load(&worker->parked_deep)));
	bed_close(&bed);
}
END_TEST

/* Messages of this length that a lane takes while nobody receives. */
static unsigned get_room(size_t len)
{
	return (unsigned)(KVI_LANE_WINDOW / (KVI_MESSAGE_CHARGE + len));
}

START_TEST(sends_without_receives_fill_the_window_and_no_more)
{
	enum { COUNT = 400, LEN = 16384 };
	struct kvt_transfer *sends[COUNT];
	uint8_t *sources[COUNT], *target = make_filled(LEN, 0);
	struct kvt_engine_config config = make_config();
	config.ncpus = _i == 0 ? 1 : 2;
	bed_open(&bed, &config);
	struct kvt_kv *near = open_kv(bed.near.conn, 5), *far = open_kv(bed.far.conn, 5);
	for (unsigned i = 0; i < COUNT; i++) {
		sources[i] = make_pattern(LEN, i);
		sends[i] = start_send(near, sources[i], LEN);
	}
	unsigned room = get_room(LEN);
	await(sends[room - 1], KVT_OK);
	expect_pending(sends[room], 200 * KVI_MS);

	for (unsigned i = 0; i < COUNT; i++) {
		ck_assert_uint_eq(finish(start_recv(far, target, LEN), KVT_OK), LEN);
		ck_assert(holds_pattern(target, LEN, i));
		finish(sends[i], KVT_OK);
		free(sources[i]);
	}
	/* The window is open again. */
	for (unsigned i = 0; i < COUNT; i++)
		exchange(near, far, LEN, i);
	struct kvt_stats stats = get_stats(bed.near.engine);
	ck_assert_uint_ge(stats.eager_sends, COUNT);
	ck_assert_uint_eq(stats.sends, 2 * COUNT);
	ck_assert_uint_eq(stats.bytes_sent, 2ULL * COUNT * LEN);
	kvt_kv_close(near);
	kvt_kv_close(far);
	bed_close(&bed);
	free(target);
}
END_TEST

START_TEST(a_window_filled_for_one_kv_is_returned_when_the_kv_is_closed)
{
	enum { COUNT = 40, LEN = 60000 };
	struct kvt_transfer *sends[COUNT];
	uint8_t *source = make_pattern(LEN, 1);
	const unsigned room = get_room(LEN);
	bed_open(&bed, NULL);
	struct kvt_kv *near = open_kv(bed.near.conn, 5);
	for (unsigned round = 0; round < 4; round++) {
		struct kvt_kv *far = open_kv(bed.far.conn, 5);
		for (unsigned i = 0; i < COUNT; i++)
			sends[i] = start_send(near, source, LEN);
		await(sends[room - 1], KVT_OK);
		expect_pending(sends[room], 200 * KVI_MS);
		for (unsigned i = 0; i < round; i++)
			finish(start_recv(far, NULL, SIZE_MAX), KVT_OK);
		kvt_kv_close(far);
		for (unsigned i = 0; i < COUNT; i++)
			finish(sends[i], i < room ? KVT_OK : KVT_E_PEER_CLOSED);
	}
	kvt_kv_close(near);
	bed_close(&bed);
	free(source);
}
END_TEST

START_TEST(thousands_of_small_messages_do_not_need_a_waiting_receiver)
{
	enum { COUNT = 3000 };
	struct kvt_transfer *sends[COUNT];
	uint32_t numbers[COUNT];
	bed_open(&bed, NULL);
	struct kvt_kv *near = open_kv(bed.near.conn, 5), *far = open_kv(bed.far.conn, 5);
	for (unsigned i = 0; i < COUNT; i++) {
		numbers[i] = i;
		sends[i] = start_send(near, &numbers[i], sizeof(numbers[i]));
	}
	for (unsigned i = 0; i < COUNT; i++)
		finish(sends[i], KVT_OK);
	for (unsigned i = 0; i < COUNT; i++) {
		uint32_t number = 0;
		finish(start_recv(far, &number, sizeof(number)), KVT_OK);
		ck_assert_uint_eq(number, i);
	}
	kvt_kv_close(near);
	kvt_kv_close(far);
	bed_close(&bed);
}
END_TEST

START_TEST(small_messages_that_find_the_window_full_wait_for_it_while_it_is_returned)
{
	enum { COUNT = 20000 };
	static struct kvt_transfer *sends[COUNT], *receives[COUNT];
	static uint32_t numbers[COUNT], found[COUNT];
	bed_open(&bed, NULL);
	struct kvt_kv *near = open_kv(bed.near.conn, 5), *far = open_kv(bed.far.conn, 5);
	for (unsigned i = 0; i < COUNT; i++)
		receives[i] = start_recv(far, &found[i], sizeof(found[i]));
	fake_hold(FAKE_SEND);
	for (unsigned i = 0; i < COUNT; i++) {
		numbers[i] = i;
		sends[i] = start_send(near, &numbers[i], sizeof(numbers[i]));
	}
	fake_hold(0);
	for (unsigned i = 0; i < COUNT; i++) {
		finish(sends[i], KVT_OK);
		finish(receives[i], KVT_OK);
		ck_assert_uint_eq(found[i], i);
	}
	ck_assert_uint_eq(get_stats(bed.near.engine).eager_sends, COUNT);
	kvt_kv_close(near);
	kvt_kv_close(far);
	bed_close(&bed);
}
END_TEST

START_TEST(a_window_full_of_what_nobody_receives_keeps_no_message_of_another_kv_waiting)
{
	enum { COUNT = KVI_LANE_WINDOW / KVI_MESSAGE_CHARGE + 100 };
	static struct kvt_transfer *sends[COUNT];
	uint32_t number = 0;
	bed_open(&bed, NULL);
	struct kvt_kv *near = open_kv(bed.near.conn, 5), *far = open_kv(bed.far.conn, 5);
	struct kvt_kv *other_near = open_kv(bed.near.conn, 6),
		      *other_far = open_kv(bed.far.conn, 6);
	for (unsigned i = 0; i < COUNT; i++)
		sends[i] = start_send(near, &number, sizeof(number));
	for (unsigned i = 0; i < 10; i++)
		exchange(other_near, other_far, 64, i);
	/* The last ones are not of the window. */
	ck_assert(!kvt_transfer_is_done(sends[COUNT - 1]));
	for (unsigned i = 0; i < COUNT; i++) {
		finish(start_recv(far, &number, sizeof(number)), KVT_OK);
		finish(sends[i], KVT_OK);
	}
	kvt_kv_close(other_near);
	kvt_kv_close(other_far);
	kvt_kv_close(near);
	kvt_kv_close(far);
	bed_close(&bed);
}
END_TEST

START_TEST(a_large_message_is_cut_as_the_provider_asks)
{
	struct kvi_caps caps = fake_get_default_caps();
	caps.max_segment_len = 4096;
	fake_set_caps(&caps);
	bed_open(&bed, NULL);
	struct kvt_kv *near = open_kv(bed.near.conn, 5), *far = open_kv(bed.far.conn, 5);
	uint8_t *source = make_pattern(400001, 1);
	struct kvt_transfer *send = start_send(near, source, 400001);
	finish(start_recv(far, NULL, SIZE_MAX), KVT_OK);
	ck_assert_uint_eq(await(send, KVT_OK).segments, 98);
	kvt_transfer_free(send);
	ck_assert_uint_eq(get_stats(bed.near.engine).segments, 98);
	kvt_kv_close(near);
	kvt_kv_close(far);
	bed_close(&bed);
	free(source);
}
END_TEST

START_TEST(an_engine_without_eager_messages_asks_for_every_byte)
{
	struct kvt_engine_config config = make_config();
	config.eager_len = KVT_NO_EAGER;
	bed_open(&bed, &config);
	struct kvt_kv *near = open_kv(bed.near.conn, 5), *far = open_kv(bed.far.conn, 5);
	uint8_t byte = 7;
	struct kvt_transfer *send = start_send(near, &byte, 1);
	expect_pending(send, 20 * KVI_MS);
	finish(start_recv(far, NULL, 1), KVT_OK);
	ck_assert_uint_eq(await(send, KVT_OK).segments, 1);
	kvt_transfer_free(send);
	finish(start_send(near, NULL, 0), KVT_OK);
	ck_assert_uint_eq(finish(start_recv(far, NULL, 1), KVT_OK), 0);
	kvt_kv_close(near);
	kvt_kv_close(far);
	bed_close(&bed);
}
END_TEST

START_TEST(a_slow_fabric_only_takes_its_time)
{
	bed_open(&bed, NULL);
	struct kvt_kv *near = open_kv(bed.near.conn, 5), *far = open_kv(bed.far.conn, 5);
	fake_delay(3 * KVI_MS);
	for (uint32_t i = 0; i < 5; i++) {
		exchange(near, far, 100, i);
		exchange(far, near, LARGE_LEN, i);
	}
	fake_delay(0);
	kvt_kv_close(near);
	kvt_kv_close(far);
	bed_close(&bed);
}
END_TEST

START_TEST(transfers_in_flight_are_limited_per_connection)
{
	enum { MOST = 65536 };
	struct kvt_transfer **receives = calloc(MOST, sizeof(*receives)), *none;
	struct kvt_recv_request request = KVT_RECV_REQUEST_INIT;
	struct kvt_error error;
	bed_open(&bed, NULL);
	struct kvt_kv *near = open_kv(bed.near.conn, 5), *far = open_kv(bed.far.conn, 5);
	for (unsigned i = 0; i < MOST; i++)
		receives[i] = start_recv(far, NULL, SIZE_MAX);
	ck_assert_int_eq(kvt_recv_start(far, &request, &none, &error), KVT_E_LIMIT);
	ck_assert_ptr_nonnull(strstr(error.text, "65536"));
	finish(start_send(near, NULL, 0), KVT_OK);
	finish(receives[0], KVT_OK);
	receives[0] = start_recv(far, NULL, SIZE_MAX);
	kvt_kv_close(far);
	for (unsigned i = 0; i < MOST; i++)
		finish(receives[i], KVT_E_CLOSED);
	kvt_kv_close(near);
	bed_close(&bed);
	free(receives);
}
END_TEST

START_TEST(the_longest_eager_message_does_not_wait_for_its_receive)
{
	enum { LONGEST = 1024 * 1024 };
	static uint8_t meta[KVT_META_LEN_MAX];
	struct kvt_engine_config config = make_config();
	struct kvt_send_request request = KVT_SEND_REQUEST_INIT;
	struct kvt_transfer *send;
	config.eager_len = LONGEST;
	bed_open(&bed, &config);
	struct kvt_kv *near = open_kv(bed.near.conn, 5), *far = open_kv(bed.far.conn, 5);
	uint8_t *source = make_pattern(LONGEST, 1), *target = make_filled(LONGEST, 0);
	request.base = source;
	request.len = LONGEST;
	request.meta = meta;
	request.meta_len = sizeof(meta);
	ck_assert_int_eq(kvt_send_start(near, &request, &send, NULL), KVT_OK);
	finish(send, KVT_OK);
	finish(start_recv(far, target, LONGEST), KVT_OK);
	ck_assert_mem_eq(source, target, LONGEST);
	kvt_kv_close(near);
	kvt_kv_close(far);
	bed_close(&bed);
	free(source);
	free(target);
}
END_TEST

/* As if all connections but one were there already. */
static void fill_engine(struct kvt_engine *engine, bool full)
{
	pthread_mutex_lock(&engine->lock);
	engine->conn_count += full ? KVI_CONNECTIONS_MAX - 2 : -(KVI_CONNECTIONS_MAX - 2);
	pthread_mutex_unlock(&engine->lock);
}

START_TEST(connections_are_limited_per_engine)
{
	struct kvt_conn *last, *none;
	struct kvt_error error;
	bed_open(&bed, NULL);
	struct kvt_engine *full = _i == 0 ? bed.near.engine : bed.far.engine;
	const uint16_t port = kvt_engine_get_port(bed.far.engine);
	fill_engine(full, true);
	ck_assert_int_eq(kvt_conn_open(bed.near.engine, "127.0.0.1", port, 0, &last, NULL), KVT_OK);
	ck_assert_int_eq(kvt_conn_open(bed.near.engine, "127.0.0.1", port, 0, &none, &error),
			 KVT_E_LIMIT);
	ck_assert_ptr_nonnull(strstr(error.text, _i == 0 ? "4096" : "no room"));
	fill_engine(full, false);
	kvt_conn_close(last);
	bed_close(&bed);
}
END_TEST

START_TEST(kvs_are_limited_per_connection)
{
	enum { MOST = 65536 };
	struct kvt_kv **kvs = calloc(MOST, sizeof(*kvs)), *none = NULL;
	struct kvt_kv_config config = KVT_KV_CONFIG_INIT;
	struct kvt_error error;
	bed_open(&bed, NULL);
	for (unsigned i = 0; i < MOST; i++)
		kvs[i] = open_kv(bed.near.conn, i);
	config.tag = MOST;
	ck_assert_int_eq(kvt_kv_open(bed.near.conn, &config, &none, &error), KVT_E_LIMIT);
	ck_assert_ptr_nonnull(strstr(error.text, "65536"));
	kvt_conn_close(bed.near.conn);
	bed.near.conn = NULL;
	for (unsigned i = 0; i < MOST; i++)
		kvt_kv_close(kvs[i]);
	bed_close(&bed);
	free(kvs);
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("flow");
	tcase_set_timeout(tests, 180);
	tcase_add_test(tests, who_looks_for_work_leaves_queues_without_lanes_alone);
	tcase_add_loop_test(tests,
			    all_messages_of_many_kvs_arrive_both_ways_whatever_the_fabric_is_like,
			    0, VARIANT_COUNT);
	tcase_add_loop_test(tests, a_stream_fills_packets_with_half_of_what_is_in_flight_at_most, 0,
			    2);
	tcase_add_test(tests,
		       who_looks_for_work_holds_what_more_may_join_for_a_moment_and_nothing_else);
	tcase_add_test(tests, what_is_held_for_a_moment_goes_though_each_look_finds_something);
	tcase_add_test(tests, what_a_submit_leaves_to_the_driver_goes_though_nobody_waits);
	tcase_add_test(tests,
		       a_thread_that_slept_beside_one_caller_looks_by_itself_beside_the_next);
	tcase_add_loop_test(tests, sends_without_receives_fill_the_window_and_no_more, 0, 2);
	tcase_add_test(tests, a_window_filled_for_one_kv_is_returned_when_the_kv_is_closed);
	tcase_add_test(tests,
		       small_messages_that_find_the_window_full_wait_for_it_while_it_is_returned);
	tcase_add_test(
		tests,
		a_window_full_of_what_nobody_receives_keeps_no_message_of_another_kv_waiting);
	tcase_add_test(tests, thousands_of_small_messages_do_not_need_a_waiting_receiver);
	tcase_add_test(tests, a_large_message_is_cut_as_the_provider_asks);
	tcase_add_test(tests, an_engine_without_eager_messages_asks_for_every_byte);
	tcase_add_test(tests, a_slow_fabric_only_takes_its_time);
	tcase_add_test(tests, transfers_in_flight_are_limited_per_connection);
	tcase_add_test(tests, the_longest_eager_message_does_not_wait_for_its_receive);
	tcase_add_loop_test(tests, connections_are_limited_per_engine, 0, 2);
	tcase_add_test(tests, kvs_are_limited_per_connection);
	return run_tests("engine_flow", tests);
}
