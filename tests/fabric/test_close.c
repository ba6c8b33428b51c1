/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_close.c - closing and losing lanes: that nothing moves afterwards, and that every op is
 * reported once.
 */
#include "bed.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

enum { CANARY = 0xc5 };

START_TEST(ops_outstanding_at_a_close_are_reported_once_each_and_no_earlier)
{
	enum { RECEIVES = 16, WRITES = 8 };
	static struct act receives[RECEIVES], writes[WRITES], again;
	struct bed bed;
	struct end near, far;
	struct area source, target, inbox;
	bed_open(&bed);
	bed_connect(&bed, &near, &far);
	size_t len = bed_get_segment_len(&bed, 256 << 10);
	area_open(&source, &bed.near, len, KVI_ACCESS_LOCAL, 1);
	area_open(&inbox, &bed.near, 64, KVI_ACCESS_LOCAL, 0);
	area_open(&target, &bed.far, WRITES * len, KVI_ACCESS_REMOTE_WRITE, 0);
	for (size_t i = 0; i < RECEIVES; i++)
		post_recv(&near, &receives[i], &inbox, 0, 64);
	for (size_t i = 0; i < WRITES && i < bed.near.caps->tx_count; i++) {
		struct kvi_rkey rkey = { target.rkey.address + i * len, target.rkey.key };
		/* The far side is not polled, so not all of them can be posted everywhere. */
		if (try_write(&near, &writes[i], &source, 0, len, rkey) != KVT_OK)
			writes[i].reports = 1;
	}
	side_poll(&bed.near);
	ck_assert_uint_eq(count_reported(receives, RECEIVES), 0);

	end_close(&near);
	bed_wait(&bed, count_reported(receives, RECEIVES) == RECEIVES);
	bed_wait(&bed, count_reported(writes, WRITES) == WRITES);
	for (size_t i = 0; i < RECEIVES; i++)
		ck_assert_int_eq(receives[i].completion.err, KVT_E_CANCELLED);
	for (size_t i = 0; i < WRITES; i++) {
		enum kvt_err err = writes[i].completion.err;
		ck_assert_msg(err == KVT_OK || err == KVT_E_CANCELLED, "a write ended with %s",
			      kvt_err_get_name(err));
	}

	/* The ops are ours again, and nothing late comes for them. */
	bed_wait(&bed, far.lost_count == 1);
	bed_run(&bed, 100 * KVI_MS);
	end_close(&far);
	bed_connect(&bed, &near, &far);
	post_recv(&near, &again, &inbox, 0, 64);
	receives[0] = (struct act){ .op.context = &receives[0] };
	ck_assert_int_eq(kvi_lane_post_recv(near.lane, &receives[0].op, inbox.base, 64,
					    inbox.memory),
			 KVT_OK);
	end_close(&near);
	end_close(&far);
	bed_wait(&bed, again.reports == 1 && receives[0].reports == 1);
	area_close(&target);
	area_close(&inbox);
	area_close(&source);
	bed_close(&bed);
}
END_TEST

/* ---- severed lanes ---- */

/* The far side on a thread of its own: it writes for as long as the lane lets it. */
struct writer {
	struct bed *bed;
	struct end *end;
	struct area source;
	struct kvi_rkey rkey;
	atomic_uint done_count;
	atomic_bool stop;
};

enum { WRITER_DEPTH = 4, WRITE_LEN = 1 << 20 };

static void *run_writer(void *arg)
{
	struct writer *writer = arg;
	struct act acts[WRITER_DEPTH] = { 0 };
	bool is_posted[WRITER_DEPTH] = { false };
	size_t len = writer->source.len;
	bool is_broken = false;
	for (bool is_busy = true; is_busy || !atomic_load(&writer->stop);) {
		is_busy = false;
		for (size_t i = 0; i < WRITER_DEPTH; i++) {
			if (is_posted[i] && acts[i].reports == 1) {
				is_posted[i] = false;
				is_broken |= acts[i].completion.err != KVT_OK;
				atomic_fetch_add(&writer->done_count, 1);
			}
			if (!is_posted[i] && !is_broken && writer->end->lost_count == 0) {
				enum kvt_err err = try_write(writer->end, &acts[i], &writer->source,
							     0, len, writer->rkey);
				is_posted[i] = err == KVT_OK;
				is_broken |= err != KVT_OK && err != KVT_E_AGAIN;
			}
			is_busy |= is_posted[i];
		}
		side_poll(&writer->bed->far);
		/* The lane of a silent loss has to be closed to get its ops back. */
		if (atomic_load(&writer->stop) && writer->end->lane != NULL)
			end_close(writer->end);
		is_broken |= writer->end->lane == NULL;
	}
	if (writer->end->lane != NULL)
		end_close(writer->end);
	return NULL;
}

START_TEST(closing_a_lane_keeps_the_peers_writes_out)
{
	enum { ROUNDS = 5 };
	struct bed bed;
	struct area target;
	bed_open(&bed);
	size_t len = bed_get_segment_len(&bed, WRITE_LEN);
	area_open(&target, &bed.near, len, KVI_ACCESS_REMOTE_WRITE, 0);
	for (unsigned round = 0; round < ROUNDS; round++) {
		struct end near, far;
		bed_connect(&bed, &near, &far);
		struct writer writer = { .bed = &bed, .end = &far, .rkey = target.rkey };
		area_open(&writer.source, &bed.far, len, KVI_ACCESS_LOCAL, 0x11);
		pthread_t thread;
		ck_assert_int_eq(pthread_create(&thread, NULL, run_writer, &writer), 0);
		int64_t deadline = kvi_deadline_after(BED_PATIENCE_NS);
		while (atomic_load(&writer.done_count) < 5 + round) {
			ck_assert_msg(kvi_clock_now() < deadline, "the writer writes nothing");
			side_poll(&bed.near);
		}

		end_close(&near);
		memset(target.base, CANARY, target.len);
		int64_t until = kvi_deadline_after(300 * KVI_MS);
		while (kvi_clock_now() < until)
			side_poll(&bed.near);
		ck_assert_msg(area_holds_only(&target, CANARY), "a byte came after the close");
		atomic_store(&writer.stop, true);
		pthread_join(thread, NULL);
		area_close(&writer.source);
	}
	area_close(&target);
	bed_close(&bed);
}
END_TEST

START_TEST(closing_a_lane_ends_the_use_of_what_was_sent_from)
{
	enum { DEPTH = 4 };
	struct bed bed;
	struct end near, far;
	struct area source, target;
	static struct act acts[DEPTH];
	bed_open(&bed);
	size_t len = bed_get_segment_len(&bed, WRITE_LEN);
	bed_connect(&bed, &near, &far);
	area_open(&source, &bed.near, len, KVI_ACCESS_LOCAL, 0x11);
	area_open(&target, &bed.far, len, KVI_ACCESS_REMOTE_WRITE, 0);
	for (size_t i = 0; i < DEPTH; i++) {
		if (try_write(&near, &acts[i], &source, 0, len, target.rkey) != KVT_OK)
			acts[i].reports = 1;
	}
	side_poll(&bed.near);
	side_poll(&bed.far);
	end_close(&near);
	memset(source.base, CANARY, source.len);
	bed_wait(&bed, count_reported(acts, DEPTH) == DEPTH);
	bed_wait(&bed, far.lost_count == 1);
	bed_run(&bed, 100 * KVI_MS);
	ck_assert_ptr_null(memchr(target.base, CANARY, target.len));
	end_close(&far);
	area_close(&target);
	area_close(&source);
	bed_close(&bed);
}
END_TEST

START_TEST(closing_a_lane_leaves_the_others_of_its_cq_alone)
{
	struct bed bed;
	struct end near[2], far[2];
	struct area source, target;
	struct act acts[2];
	bed_open(&bed);
	size_t len = bed_get_segment_len(&bed, WRITE_LEN);
	area_open(&source, &bed.near, len, KVI_ACCESS_LOCAL, 1);
	area_open(&target, &bed.far, len, KVI_ACCESS_REMOTE_WRITE, 0);
	for (size_t i = 0; i < 2; i++) {
		bed_connect(&bed, &near[i], &far[i]);
		post_write(&near[i], &acts[i], &source, 0, len, target.rkey);
	}
	end_close(&near[0]);
	bed_wait(&bed, count_reported(acts, 2) == 2);
	ck_assert_int_eq(acts[1].completion.err, KVT_OK);
	ck_assert(area_holds_only(&target, 1));
	bed_wait(&bed, far[0].lost_count == 1);
	ck_assert_uint_eq(near[1].lost_count + far[1].lost_count, 0);
	end_close(&far[0]);
	end_close(&far[1]);
	end_close(&near[1]);
	area_close(&target);
	area_close(&source);
	bed_close(&bed);
}
END_TEST

/* ---- loss ---- */

START_TEST(a_peer_that_closes_is_lost_and_every_op_comes_back)
{
	enum { COUNT = 8 };
	static struct act receives[COUNT], writes[COUNT];
	struct bed bed;
	struct end near, far;
	struct area source, target, inbox;
	bed_open(&bed);
	bed_connect(&bed, &near, &far);
	area_open(&source, &bed.near, 65536, KVI_ACCESS_LOCAL, 1);
	area_open(&inbox, &bed.near, 64, KVI_ACCESS_LOCAL, 0);
	area_open(&target, &bed.far, 65536, KVI_ACCESS_REMOTE_WRITE, 0);
	for (size_t i = 0; i < COUNT; i++)
		post_recv(&near, &receives[i], &inbox, 0, 64);
	for (size_t i = 0; i < COUNT; i++) {
		if (try_write(&near, &writes[i], &source, 0, 65536, target.rkey) != KVT_OK)
			writes[i].reports = 1;
	}
	end_close(&far);
	bed_wait(&bed, near.lost_count == 1);

	/* A post on a lost lane is refused, or it fails like the others. */
	struct act late;
	enum kvt_err err = try_write(&near, &late, &source, 0, 64, target.rkey);
	ck_assert_int_ne(err, KVT_E_AGAIN);
	late.reports = err != KVT_OK;
	bed_run(&bed, 100 * KVI_MS);
	end_close(&near);
	bed_wait(&bed,
		 count_reported(receives, COUNT) + count_reported(writes, COUNT) == 2 * COUNT);
	bed_wait(&bed, late.reports == 1);
	ck_assert(err != KVT_OK || late.completion.err != KVT_OK);
	for (size_t i = 0; i < COUNT; i++)
		ck_assert_int_ne(receives[i].completion.err, KVT_OK);
	area_close(&target);
	area_close(&inbox);
	area_close(&source);
	bed_close(&bed);
}
END_TEST

START_TEST(the_receives_of_a_lost_lane_come_back_before_it_is_closed)
{
	enum { COUNT = 8 };
	static struct act receives[COUNT];
	struct bed bed;
	struct end near, far;
	struct area inbox;
	bed_open(&bed);
	bed_connect(&bed, &near, &far);
	area_open(&inbox, &bed.near, 64, KVI_ACCESS_LOCAL, 0);
	for (size_t i = 0; i < COUNT; i++)
		post_recv(&near, &receives[i], &inbox, 0, 64);
	end_close(&far);
	bed_wait(&bed, near.lost_count == 1);
	bed_wait(&bed, count_reported(receives, COUNT) == COUNT);
	for (size_t i = 0; i < COUNT; i++)
		ck_assert_msg(is_lost(&receives[i]), "a receive ended with %s",
			      kvt_err_get_name(receives[i].completion.err));
	end_close(&near);
	area_close(&inbox);
	bed_close(&bed);
}
END_TEST

START_TEST(an_idle_lane_notices_that_its_peer_closed)
{
	struct bed bed;
	struct end near, far;
	bed_open(&bed);
	bed_connect(&bed, &near, &far);
	end_close(&near);
	bed_wait(&bed, far.lost_count == 1);
	end_close(&far);
	bed_close(&bed);
}
END_TEST

/* ---- reads ---- */

/* Small messages to the near side over a fresh lane, each of which must arrive in its own buffer. */
static void expect_messages(struct bed *bed)
{
	enum { COUNT = 32, LEN = 64 };
	static struct act receives[COUNT], sends[COUNT];
	struct end near, far;
	struct area source, inbox;
	bed_connect(bed, &near, &far);
	area_open(&source, &bed->far, (size_t)COUNT * LEN, KVI_ACCESS_LOCAL, 0);
	area_open(&inbox, &bed->near, (size_t)COUNT * LEN, KVI_ACCESS_LOCAL, 0);
	fill_pattern(source.base, source.len, 5);
	for (size_t i = 0; i < COUNT; i++)
		post_recv(&near, &receives[i], &inbox, i * LEN, LEN);
	for (size_t i = 0; i < COUNT; i++)
		post_send(&far, &sends[i], &source, i * LEN, LEN);
	bed_wait(bed, count_reported(receives, COUNT) == COUNT);
	bed_wait(bed, count_reported(sends, COUNT) == COUNT);
	for (size_t i = 0; i < COUNT; i++)
		ck_assert_int_eq(receives[i].completion.err, KVT_OK);
	ck_assert(memcmp(source.base, inbox.base, source.len) == 0);
	end_close(&near);
	end_close(&far);
	area_close(&inbox);
	area_close(&source);
}

/* How a lane ends with a read half in. */
enum read_cut {
	READER_CLOSES,
	OWNER_CLOSES,
	READER_CLOSES_BEHIND_A_MESSAGE, /* which it has no receive for */
	READ_CUTS,
};

START_TEST(a_read_that_is_half_in_when_its_lane_is_cut_harms_nobody_else)
{
	enum { READS = 4, ROUNDS = 4 };
	static struct act reads[READS], send;
	enum read_cut cut = (enum read_cut)_i;
	struct bed bed;
	struct area result, source;
	bed_open(&bed);
	size_t len = bed_get_segment_len(&bed, 16 << 20);
	area_open(&result, &bed.near, len, KVI_ACCESS_LOCAL, CANARY);
	area_open(&source, &bed.far, len, KVI_ACCESS_REMOTE_READ, 1);
	for (unsigned round = 0; round < ROUNDS; round++) {
		struct end near, far;
		bed_connect(&bed, &near, &far);
		send.reports = 1;
		if (cut == READER_CLOSES_BEHIND_A_MESSAGE)
			post_send(&far, &send, &source, 0, 64);
		for (size_t i = 0; i < READS; i++)
			post_read(&near, &reads[i], &result, 0, len, source.rkey);
		int64_t deadline = kvi_deadline_after(
			cut == READER_CLOSES_BEHIND_A_MESSAGE ? 20 * KVI_MS : BED_PATIENCE_NS);
		while (result.base[0] == CANARY && kvi_clock_now() < deadline)
			bed_poll(&bed);

		end_close(cut == OWNER_CLOSES ? &far : &near);
		if (cut == OWNER_CLOSES) {
			bed_wait(&bed, near.lost_count == 1);
			end_close(&near);
		}
		memset(result.base, CANARY, result.len);
		bed_wait(&bed, count_reported(reads, READS) == READS);
		if (cut != OWNER_CLOSES)
			end_close(&far);
		bed_wait(&bed, send.reports == 1);
		expect_messages(&bed);
		ck_assert_msg(area_holds_only(&result, CANARY), "a byte came after the close");
	}
	area_close(&source);
	area_close(&result);
	bed_close(&bed);
}
END_TEST

/* ---- order and growth ---- */

START_TEST(lanes_listeners_and_memory_may_be_closed_in_any_order)
{
	for (unsigned order = 0; order < 4; order++) {
		struct bed bed;
		struct end near, far;
		struct area area;
		bed_open(&bed);
		bed_connect(&bed, &near, &far);
		area_open(&area, &bed.far, 4096, KVI_ACCESS_REMOTE_WRITE, 0);
		if (order & 1)
			kvi_listener_close(bed.listener);
		if (order & 1)
			bed.listener = NULL;
		if (order & 2)
			area_close(&area);
		end_close(order & 1 ? &near : &far);
		end_close(order & 1 ? &far : &near);
		if (!(order & 2))
			area_close(&area);
		bed_close(&bed);
	}
}
END_TEST

START_TEST(connecting_and_closing_leaves_no_descriptors)
{
	struct bed bed;
	bed_open(&bed);
	unsigned start = 0;
	for (unsigned i = 0; i < 51; i++) {
		struct end near, far;
		bed_connect(&bed, &near, &far);
		end_close(i % 2 ? &near : &far);
		bed_wait(&bed, (i % 2 ? far.lost_count : near.lost_count) == 1);
		end_close(i % 2 ? &far : &near);
		bed_run(&bed, KVI_MS);
		/* The first one may open what stays. */
		if (i == 0)
			start = count_fds();
	}
	ck_assert_uint_le(count_fds(), start);
	bed_close(&bed);
}
END_TEST

START_TEST(opening_and_closing_rails_leaves_no_descriptors)
{
	unsigned start = 0;
	for (unsigned i = 0; i < 6; i++) {
		struct bed bed;
		bed_open(&bed);
		bed_close(&bed);
		if (i == 0)
			start = count_fds();
	}
	ck_assert_uint_le(count_fds(), start);
}
END_TEST

TCase *make_close_tests(void)
{
	TCase *tests = tcase_create("close");
	tcase_add_test(tests, ops_outstanding_at_a_close_are_reported_once_each_and_no_earlier);
	tcase_add_test(tests, closing_a_lane_keeps_the_peers_writes_out);
	tcase_add_test(tests, closing_a_lane_ends_the_use_of_what_was_sent_from);
	tcase_add_test(tests, closing_a_lane_leaves_the_others_of_its_cq_alone);
	tcase_add_test(tests, a_peer_that_closes_is_lost_and_every_op_comes_back);
	tcase_add_test(tests, the_receives_of_a_lost_lane_come_back_before_it_is_closed);
	tcase_add_test(tests, an_idle_lane_notices_that_its_peer_closed);
	tcase_add_loop_test(tests, a_read_that_is_half_in_when_its_lane_is_cut_harms_nobody_else, 0,
			    READ_CUTS);
	tcase_add_test(tests, lanes_listeners_and_memory_may_be_closed_in_any_order);
	tcase_add_test(tests, connecting_and_closing_leaves_no_descriptors);
	tcase_add_test(tests, opening_and_closing_rails_leaves_no_descriptors);
	return tests;
}
