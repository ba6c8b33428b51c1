/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_find.c - finding exports by name: a descriptor comes in as many parts as it takes, whatever a packet
 * holds; and an owner that answers what no engine would.
 */
#include "pages.h"

#include <pthread.h>
#include <stdlib.h>

#include "engine/core/conn.h"
#include "engine/lane/link.h"
#include "support/punctual.h"
#include "support/runner.h"

enum { TINY_LEN = 8 };

/* ---- names ---- */

static struct kvt_export *export_named(const char *name, enum kvt_err err)
{
	struct kvt_export *exported = NULL;
	ck_assert_int_eq(kvt_export_open(pages.bed.far.conn, pages.far, KVT_ACCESS_READ, name,
					 &exported, NULL),
			 err);
	return exported;
}

static void *export_later(void *arg)
{
	rest(60 * KVI_MS);
	return export_named(arg, KVT_OK);
}

START_TEST(an_export_is_found_by_its_name)
{
	struct kvt_remote *remote, *again;
	struct kvt_remote_info info = KVT_REMOTE_INFO_INIT;
	struct kvt_conn *conn;
	pthread_t thread;
	void *late;
	char longest[KVT_NAME_LEN_MAX + 2];
	pages_open((unsigned)_i);
	conn = pages.bed.near.conn;
	struct kvt_export *exported = export_named("layers", KVT_OK);
	export_named("layers", KVT_E_INVALID);
	export_named("", KVT_E_INVALID);
	ck_assert_int_eq(kvt_remote_find(conn, "layers", 0, &remote, NULL), KVT_OK);
	ck_assert_int_eq(kvt_remote_find(conn, "layers", 0, &again, NULL), KVT_OK);
	ck_assert_ptr_eq(remote, again);
	kvt_remote_close(again);
	ck_assert_int_eq(kvt_remote_get_info(remote, &info), KVT_OK);
	ck_assert_uint_eq(info.extent_count, EXTENT_COUNT);
	ck_assert_uint_eq(info.block_count, BLOCK_COUNT);
	ck_assert_uint_eq(info.block_len, BLOCK_LEN);
	ck_assert_uint_eq(info.len, 2 * BLOCK_COUNT * BLOCK_LEN + (BLOCK_COUNT - 1) * GAP_LEN);
	ck_assert_uint_eq(info.access, KVT_ACCESS_READ);
	ck_assert(!info.withdrawn);

	/* For reading only, and so the peer says itself. */
	struct kvt_blocks_request request = KVT_BLOCKS_REQUEST_INIT;
	struct kvt_transfer *transfer;
	request.pool = pages.near;
	request.remote = remote;
	request.index_len = 4;
	ck_assert_int_eq(kvt_blocks_start(&request, &transfer, NULL), KVT_E_ACCESS);
	request.direction = KVT_READ;
	ck_assert_int_eq(kvt_blocks_start(&request, &transfer, NULL), KVT_OK);
	finish(transfer, KVT_OK);

	/* Withdrawn, the name is free; and it may come late. */
	kvt_export_close(exported);
	kvt_remote_close(remote);
	int64_t started_ns = kvi_clock_now();
	ck_assert_int_eq(kvt_remote_find(conn, "layers", 100 * KVI_MS, &remote, NULL),
			 KVT_E_TIMEOUT);
	expect_took(started_ns, 0, 1000 * KVI_MS);
	memset(longest, 'n', sizeof(longest));
	longest[KVT_NAME_LEN_MAX + 1] = '\0';
	ck_assert_int_eq(kvt_remote_find(conn, longest, 0, &remote, NULL), KVT_E_INVALID);
	longest[KVT_NAME_LEN_MAX] = '\0';
	pthread_create(&thread, NULL, export_later, longest);
	ck_assert_int_eq(kvt_remote_find(conn, longest, BED_PATIENCE_NS, &remote, NULL), KVT_OK);
	pthread_join(thread, &late);
	kvt_remote_close(remote);
	kvt_export_close(late);
	pages_close();
}
END_TEST

static void *find_often(void *arg)
{
	(void)arg;
	for (int i = 0; i < 20; i++) {
		struct kvt_remote *remote;
		ck_assert_int_eq(kvt_remote_find(pages.bed.near.conn, "layers", BED_PATIENCE_NS,
						 &remote, NULL),
				 KVT_OK);
		kvt_remote_close(remote);
	}
	return NULL;
}

START_TEST(more_threads_may_ask_than_a_lane_takes_questions)
{
	enum { ASKERS = 4 * KVI_QUESTIONS_MAX };
	pthread_t askers[ASKERS];
	pages_open(0);
	struct kvt_export *exported = export_named("layers", KVT_OK);
	for (unsigned i = 0; i < ASKERS; i++)
		ck_assert_int_eq(pthread_create(&askers[i], NULL, find_often, NULL), 0);
	for (unsigned i = 0; i < ASKERS; i++)
		pthread_join(askers[i], NULL);
	for (unsigned i = 0; i < pages.bed.near.conn->lane_count; i++)
		ck_assert_uint_eq(pages.bed.near.conn->links[i].questions_out, 0);
	kvt_export_close(exported);
	pages_close();
}
END_TEST

START_TEST(a_descriptor_of_which_one_bit_was_changed_is_refused)
{
	uint8_t bytes[512];
	size_t len = sizeof(bytes);
	struct kvt_remote *remote;
	struct kvt_error error;
	pages_open(0);
	struct kvt_export *exported = export_named("layers", KVT_OK);
	ck_assert_int_eq(kvt_export_describe(exported, bytes, &len), KVT_OK);
	for (size_t bit = 0; bit < 8 * len; bit++) {
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		enum kvt_err err = kvt_remote_import(pages.bed.near.conn, bytes, len,
						     BED_PATIENCE_NS, &remote, &error);
		ck_assert_msg(err == KVT_E_INVALID || err == KVT_E_VERSION, "bit %zu: %s", bit,
			      kvt_err_get_name(err));
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	ck_assert_int_eq(kvt_remote_import(pages.bed.near.conn, bytes, len, BED_PATIENCE_NS,
					   &remote, &error),
			 KVT_OK);
	kvt_remote_close(remote);
	kvt_export_close(exported);
	pages_close();
}
END_TEST

/* ---- descriptors of any length ---- */

static struct kvt_pool *open_extents(struct kvt_engine *engine, uint8_t *memory, size_t count)
{
	struct kvt_extent *extents = calloc(count, sizeof(*extents));
	struct kvt_pool_config config = KVT_POOL_CONFIG_INIT;
	struct kvt_pool *pool;
	for (size_t i = 0; i < count; i++)
		extents[i] = (struct kvt_extent){ memory + i * TINY_LEN, 1, TINY_LEN };
	config.extents = extents;
	config.extent_count = count;
	config.block_len = TINY_LEN;
	ck_assert_int_eq(kvt_pool_open(engine, &config, &pool, NULL), KVT_OK);
	free(extents);
	return pool;
}

/* The default and the smallest there are; 160 extents are K and V of 80 layers. */
static const size_t eager_lens[] = { KVT_NO_EAGER, 1, 100, 0, 1024 * 1024 };
static const size_t extent_counts[] = { 1, 159, 160, 2200, KVT_EXTENTS_MAX };
enum {
	EAGER_LENS = sizeof(eager_lens) / sizeof(eager_lens[0]),
	EXTENT_COUNTS = sizeof(extent_counts) / sizeof(extent_counts[0]),
};

static void find_extents(struct bed *bed, size_t count)
{
	uint8_t *from = make_pattern(count * TINY_LEN, 3);
	uint8_t *to = make_filled(count * TINY_LEN, CANARY);
	struct kvt_pool *near = open_extents(bed->near.engine, from, count);
	struct kvt_pool *far = open_extents(bed->far.engine, to, count);
	struct kvt_export *exported;
	struct kvt_remote *remote;
	struct kvt_remote_info info = KVT_REMOTE_INFO_INIT;
	struct kvt_blocks_request request = KVT_BLOCKS_REQUEST_INIT;
	struct kvt_transfer *transfer;
	struct kvt_error error;
	int32_t index = 0;
	ck_assert_int_eq(kvt_export_open(bed->far.conn, far, KVT_ACCESS_WRITE, "layers", &exported,
					 NULL),
			 KVT_OK);
	enum kvt_err err = kvt_remote_find(bed->near.conn, "layers", 0, &remote, &error);
	ck_assert_msg(err == KVT_OK, "%zu extents are not found: %s", count, error.text);
	ck_assert_int_eq(kvt_remote_get_info(remote, &info), KVT_OK);
	ck_assert_uint_eq(info.extent_count, count);
	ck_assert_uint_eq(info.len, count * TINY_LEN);
	request.pool = near;
	request.remote = remote;
	request.local_idx = request.remote_idx = &index;
	request.index_len = sizeof(index);
	request.count = 1;
	ck_assert_int_eq(kvt_blocks_start(&request, &transfer, NULL), KVT_OK);
	ck_assert_uint_eq(finish(transfer, KVT_OK), count * TINY_LEN);
	ck_assert_mem_eq(from, to, count * TINY_LEN);
	kvt_remote_close(remote);
	kvt_export_close(exported);
	kvt_pool_close(near);
	kvt_pool_close(far);
	free(from);
	free(to);
}

START_TEST(a_descriptor_of_any_length_comes_through_packets_of_any_length)
{
	struct kvt_engine_config config = make_config();
	config.eager_len = eager_lens[_i % EAGER_LENS];
	if (_i >= EAGER_LENS)
		config.ncpus = 3;
	struct bed bed;
	bed_open(&bed, &config);
	for (size_t i = 0; i < EXTENT_COUNTS; i++)
		find_extents(&bed, extent_counts[i]);
	bed_close(&bed);
}
END_TEST

/* ---- what an owner may not answer ---- */

struct finder {
	pthread_t thread;
	int64_t timeout_ns;
	enum kvt_err err;
	int64_t took_ns;
};

static void *find(void *arg)
{
	struct finder *finder = arg;
	struct kvt_remote *remote;
	int64_t started_ns = kvi_clock_now();
	finder->err = kvt_remote_find(pages.bed.near.conn, "no such name", finder->timeout_ns,
				      &remote, NULL);
	finder->took_ns = kvi_clock_now() - started_ns;
	return NULL;
}

static bool is_asked(uint64_t number)
{
	struct kvi_shard *shard = pages.bed.near.conn->links[0].shard;
	kvi_worker_lock(shard->worker);
	bool asked = kvi_table_find(&shard->questions, number, 0) != NULL;
	kvi_worker_unlock(shard->worker);
	return asked;
}

static void answer(struct kvi_message *message, uint64_t number)
{
	static const uint8_t zeros[8192];
	if (message->type == KVI_MESSAGE_ATTACHED) {
		message->attached.number = number;
	} else if (message->type == KVI_MESSAGE_NO_EXPORT) {
		message->no_export.number = number;
	} else {
		message->found.number = number;
		message->found.part.bytes = zeros;
	}
}

/*
 * Answer the queries that come, one by one, in the place of the far engine, whose worker is locked
 * out meanwhile. What comes behind those answers it answers itself.
 */
static enum kvt_err find_with(const struct kvi_message *answers, size_t count,
			      struct finder *finder)
{
	struct kvi_link *link = &pages.bed.far.conn->links[0];
	struct kvi_worker *worker = link->shard->worker;
	uint64_t number = pages.bed.near.conn->links[0].last_question;
	kvi_worker_lock(worker);
	pthread_create(&finder->thread, NULL, find, finder);
	for (size_t i = 0; i < count; i++) {
		struct kvi_message message = answers[i];
		answer(&message, ++number);
		wait_until(is_asked(number));
		kvi_link_send(link, &message);
		kvi_worker_flush(worker, KVI_FLUSH_ALL);
	}
	if (finder->timeout_ns > 0)
		pthread_join(finder->thread, NULL);
	kvi_worker_unlock(worker);
	if (finder->timeout_ns == 0)
		pthread_join(finder->thread, NULL);
	return finder->err;
}

#define FOUND(id, whole, part_len)                                                                 \
	{                                                                                          \
		.type = KVI_MESSAGE_FOUND, .found = {                                              \
			.export_id = id,                                                           \
			.len = whole,                                                              \
			.part = { NULL, part_len }                                                 \
		}                                                                                  \
	}
enum { ANSWERS_MAX = 2 };

static const struct kvi_message bad_answers[][ANSWERS_MAX] = {
	{ FOUND(5, KVI_DESCRIPTOR_LEN_MAX + 1, 4000) },
	{ FOUND(5, UINT64_MAX, 4000) },
	{ FOUND(5, 0, 0) },
	{ FOUND(5, 4096, 0) },
	{ FOUND(5, 4096, KVI_PART_LEN_MIN - 1) },
	{ FOUND(5, 2048, 2049) },
	{ FOUND(5, 4096, 2048), FOUND(5, 4097, 2048) },
	{ FOUND(5, 4096, 2048), FOUND(5, 4096, 2049) },
	{ FOUND(5, 4096, 2048), FOUND(5, 4096, KVI_PART_LEN_MIN - 1) },
	{ FOUND(5, 4096, 2048), FOUND(5, 4096, 0) },
	{ FOUND(5, 4096, 2048), FOUND(5, 1024, 1024) },
	{ { .type = KVI_MESSAGE_ATTACHED } },
	{ { .type = KVI_MESSAGE_NO_EXPORT, .no_export.code = KVT_E_FORKED } },
	{ { .type = KVI_MESSAGE_NO_EXPORT, .no_export.code = KVT_E_WITHDRAWN } },
};
enum { BAD_ANSWERS = sizeof(bad_answers) / sizeof(bad_answers[0]) };

START_TEST(parts_that_make_no_descriptor_are_refused)
{
	const struct kvi_message *answers = bad_answers[_i];
	size_t count = answers[1].type != 0 ? 2 : 1;
	struct finder finder = { .timeout_ns = 0 };
	pages_open(0);
	ck_assert_int_eq(find_with(answers, count, &finder), KVT_E_PROTOCOL);
	ck_assert_int_eq(kvt_conn_get_status(pages.bed.near.conn, NULL), KVT_E_PROTOCOL);
	expect_new_pages();
	pages_close();
}
END_TEST

START_TEST(a_descriptor_that_its_owner_did_not_seal_is_refused)
{
	static const struct kvi_message answers[] = { FOUND(5, 4096, 2048), FOUND(5, 4096, 2048) };
	struct finder finder = { .timeout_ns = 0 };
	pages_open(0);
	ck_assert_int_eq(find_with(answers, 2, &finder), KVT_E_INVALID);
	ck_assert_int_eq(kvt_conn_get_status(pages.bed.near.conn, NULL), KVT_OK);
	pages_close();
}
END_TEST

START_TEST(parts_of_two_exports_are_not_put_together)
{
	/* The name changes hands half way: the query begins again, and nothing has that name
	 * then. */
	static const struct kvi_message answers[] = { FOUND(5, 4096, 2048), FOUND(6, 4096, 2048) };
	struct finder finder = { .timeout_ns = 0 };
	pages_open(0);
	ck_assert_int_eq(find_with(answers, 2, &finder), KVT_E_TIMEOUT);
	ck_assert_int_eq(kvt_conn_get_status(pages.bed.near.conn, NULL), KVT_OK);
	pages_close();
}
END_TEST

START_TEST(the_deadline_is_that_of_all_parts)
{
	static const struct kvi_message answers[] = { FOUND(5, 4096, 2048) };
	struct finder finder = { .timeout_ns = KVI_SECOND };
	pages_open(0);
	ck_assert_int_eq(find_with(answers, 1, &finder), KVT_E_TIMEOUT);
	ck_assert_int_ge(finder.took_ns, KVI_SECOND);
	ck_assert_int_le(finder.took_ns, get_limit(2 * KVI_SECOND));
	pages_close();
}
END_TEST

/* ---- the owner's side ---- */

START_TEST(an_offset_behind_the_end_finds_nothing_and_harms_nobody)
{
	static const uint64_t offsets[] = { 1, 4096, UINT64_C(1) << 40, UINT64_MAX };
	struct kvt_export *exported;
	struct kvt_remote *remote;
	pages_open(0);
	ck_assert_int_eq(kvt_export_open(pages.bed.far.conn, pages.far, KVT_ACCESS_WRITE, "cache",
					 &exported, NULL),
			 KVT_OK);
	struct kvi_link *link = &pages.bed.near.conn->links[0];
	struct kvi_worker *worker = link->shard->worker;
	for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
		struct kvi_message message = {
			.type = KVI_MESSAGE_FIND,
			.find = {
				.number = 1000 + i,
				.offset = offsets[i],
				.name = { (const uint8_t *)"cache", 5 },
			},
		};
		kvi_worker_lock(worker);
		kvi_link_send(link, &message);
		kvi_worker_flush(worker, KVI_FLUSH_ALL);
		kvi_worker_unlock(worker);
	}
	ck_assert_int_eq(kvt_remote_find(pages.bed.near.conn, "cache", 0, &remote, NULL), KVT_OK);
	kvt_remote_close(remote);
	kvt_export_close(exported);
	pages_close();
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("find");
	tcase_set_timeout(tests, 120);
	tcase_add_loop_test(tests, an_export_is_found_by_its_name, 0, 2);
	tcase_add_test(tests, a_descriptor_of_which_one_bit_was_changed_is_refused);
	tcase_add_test(tests, more_threads_may_ask_than_a_lane_takes_questions);
	tcase_add_loop_test(tests, a_descriptor_of_any_length_comes_through_packets_of_any_length,
			    0, 2 * EAGER_LENS);
	tcase_add_loop_test(tests, parts_that_make_no_descriptor_are_refused, 0, BAD_ANSWERS);
	tcase_add_test(tests, a_descriptor_that_its_owner_did_not_seal_is_refused);
	tcase_add_test(tests, parts_of_two_exports_are_not_put_together);
	tcase_add_test(tests, the_deadline_is_that_of_all_parts);
	tcase_add_test(tests, an_offset_behind_the_end_finds_nothing_and_harms_nobody);
	return run_tests("engine_find", tests);
}
