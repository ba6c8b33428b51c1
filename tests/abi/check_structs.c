/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_structs.c - every struct that a program hands over, as a program has it that was compiled against a
 * newer header: larger, and with zero or something else in what this library does not know.
 */
#include "engine/core/abi.h"
#include "engine/pages.h"
#include "support/runner.h"

enum { ROOM = 1024, GROWTH = 24, FILL = 0x5a };

/* A struct of size bytes in a room of ROOM bytes. */
union grown {
	size_t size;
	uint8_t bytes[ROOM];
	max_align_t align;
};

static struct kvt_kv *near_kv;
static const uint8_t source[64];
static uint8_t target[64];

/* ---- what is read ---- */

static void end(enum kvt_err err, struct kvt_transfer *transfer)
{
	if (err == KVT_OK)
		kvt_transfer_free(transfer);
}

static void fill_engine_config(void *grown)
{
	const struct kvt_engine_config config = make_config();
	memcpy(grown, &config, sizeof(config));
}

static enum kvt_err use_engine_config(const void *grown, struct kvt_error *error)
{
	struct kvt_engine *engine = NULL;
	enum kvt_err err = kvt_engine_open(grown, &engine, error);
	kvt_engine_close(engine);
	return err;
}

static void fill_kv_config(void *grown)
{
	const struct kvt_kv_config config = KVT_KV_CONFIG_INIT;
	memcpy(grown, &config, sizeof(config));
}

static enum kvt_err use_kv_config(const void *grown, struct kvt_error *error)
{
	struct kvt_kv *kv = NULL;
	enum kvt_err err = kvt_kv_open(pages.bed.near.conn, grown, &kv, error);
	kvt_kv_close(kv);
	return err;
}

static void fill_connect_request(void *grown)
{
	struct kvt_connect_request request = KVT_CONNECT_REQUEST_INIT;
	request.host = "127.0.0.1";
	request.port = 1;
	memcpy(grown, &request, sizeof(request));
}

static enum kvt_err use_connect_request(const void *grown, struct kvt_error *error)
{
	struct kvt_transfer *transfer = NULL;
	enum kvt_err err = kvt_connect_start(pages.bed.near.engine, grown, &transfer, error);
	end(err, transfer);
	return err;
}

static void fill_send_request(void *grown)
{
	struct kvt_send_request request = KVT_SEND_REQUEST_INIT;
	request.base = source;
	request.len = sizeof(source);
	memcpy(grown, &request, sizeof(request));
}

static enum kvt_err use_send_request(const void *grown, struct kvt_error *error)
{
	struct kvt_transfer *transfer = NULL;
	enum kvt_err err = kvt_send_start(near_kv, grown, &transfer, error);
	end(err, transfer);
	return err;
}

static void fill_recv_request(void *grown)
{
	struct kvt_recv_request request = KVT_RECV_REQUEST_INIT;
	request.base = target;
	request.len = sizeof(target);
	memcpy(grown, &request, sizeof(request));
}

static enum kvt_err use_recv_request(const void *grown, struct kvt_error *error)
{
	struct kvt_transfer *transfer = NULL;
	enum kvt_err err = kvt_recv_start(near_kv, grown, &transfer, error);
	end(err, transfer);
	return err;
}

static void fill_pool_config(void *grown)
{
	static const struct kvt_extent extent = { .base = target, .count = 1, .stride = 64 };
	struct kvt_pool_config config = KVT_POOL_CONFIG_INIT;
	config.extents = &extent;
	config.extent_count = 1;
	config.block_len = 64;
	memcpy(grown, &config, sizeof(config));
}

static enum kvt_err use_pool_config(const void *grown, struct kvt_error *error)
{
	struct kvt_pool *pool = NULL;
	enum kvt_err err = kvt_pool_open(pages.bed.near.engine, grown, &pool, error);
	kvt_pool_close(pool);
	return err;
}

static void fill_blocks_request(void *grown)
{
	static const int32_t indices[] = { 3 };
	struct kvt_blocks_request request = KVT_BLOCKS_REQUEST_INIT;
	request.pool = pages.near;
	request.remote = pages.remote;
	request.local_idx = indices;
	request.remote_idx = indices;
	request.index_len = sizeof(indices[0]);
	request.count = 1;
	memcpy(grown, &request, sizeof(request));
}

static enum kvt_err use_blocks_request(const void *grown, struct kvt_error *error)
{
	struct kvt_transfer *transfer = NULL;
	enum kvt_err err = kvt_blocks_start(grown, &transfer, error);
	end(err, transfer);
	return err;
}

static void fill_spans_request(void *grown)
{
	static const uint64_t offsets[] = { 0 }, lens[] = { 64 };
	struct kvt_spans_request request = KVT_SPANS_REQUEST_INIT;
	request.pool = pages.near;
	request.remote = pages.remote;
	request.local_off = offsets;
	request.remote_off = offsets;
	request.lens = lens;
	request.count = 1;
	memcpy(grown, &request, sizeof(request));
}

static enum kvt_err use_spans_request(const void *grown, struct kvt_error *error)
{
	struct kvt_transfer *transfer = NULL;
	enum kvt_err err = kvt_spans_start(grown, &transfer, error);
	end(err, transfer);
	return err;
}

static void fill_parts_request(void *grown)
{
	static const uint64_t offsets[] = { 0 }, lens[] = { 64 };
	static struct kvt_part part;
	struct kvt_parts_request request = KVT_PARTS_REQUEST_INIT;
	part = (struct kvt_part){ pages.near, pages.remote, offsets, offsets, lens, 1 };
	request.parts = &part;
	request.part_count = 1;
	memcpy(grown, &request, sizeof(request));
}

static enum kvt_err use_parts_request(const void *grown, struct kvt_error *error)
{
	struct kvt_transfer *transfer = NULL;
	enum kvt_err err = kvt_parts_start(grown, &transfer, error);
	end(err, transfer);
	return err;
}

static void fill_import_request(void *grown)
{
	struct kvt_import_request request = KVT_IMPORT_REQUEST_INIT;
	request.conn = pages.bed.near.conn;
	request.name = "no such name";
	memcpy(grown, &request, sizeof(request));
}

static enum kvt_err use_import_request(const void *grown, struct kvt_error *error)
{
	struct kvt_transfer *transfer = NULL;
	enum kvt_err err = kvt_import_start(grown, &transfer, error);
	end(err, transfer);
	return err;
}

static void fill_notify_request(void *grown)
{
	struct kvt_notify_request request = KVT_NOTIFY_REQUEST_INIT;
	request.conn = pages.bed.near.conn;
	memcpy(grown, &request, sizeof(request));
}

static enum kvt_err use_notify_request(const void *grown, struct kvt_error *error)
{
	struct kvt_transfer *transfer = NULL;
	enum kvt_err err = kvt_notify_start(grown, &transfer, error);
	end(err, transfer);
	return err;
}

#define ROW(noun)                                                                                  \
	{                                                                                          \
		&kvi_abi_##noun, fill_##noun, use_##noun                                           \
	}

static const struct {
	const struct kvi_sized *kind;
	void (*fill)(void *grown);
	enum kvt_err (*use)(const void *grown, struct kvt_error *error);
} rows[] = {
	ROW(engine_config), ROW(connect_request), ROW(kv_config),      ROW(send_request),
	ROW(recv_request),  ROW(pool_config),	  ROW(blocks_request), ROW(spans_request),
	ROW(parts_request), ROW(notify_request),  ROW(import_request),
};

enum { ROW_COUNT = sizeof(rows) / sizeof(rows[0]) };

static void expect_refused(int row, const union grown *grown, const char *word)
{
	struct kvt_error error = { .code = KVT_OK };
	ck_assert_int_eq(rows[row].use(grown, &error), KVT_E_INVALID);
	ck_assert_msg(strstr(error.text, word) != NULL &&
			      strstr(error.text, rows[row].kind->name) != NULL,
		      "the sentence has no \"%s\": %s", word, error.text);
}

START_TEST(a_struct_of_a_newer_program_is_taken_when_the_rest_is_zero)
{
	for (size_t growth = 0; growth <= GROWTH; growth++) {
		union grown grown = { .size = 0 };
		struct kvt_error error = { .code = KVT_OK };
		rows[_i].fill(&grown);
		grown.size += growth;
		enum kvt_err err = rows[_i].use(&grown, &error);
		ck_assert_msg(err == KVT_OK, "%s: %s", rows[_i].kind->name, error.text);
	}
}
END_TEST

START_TEST(what_this_library_does_not_know_is_refused_unless_it_is_zero)
{
	for (size_t at = 0; at < GROWTH; at++) {
		union grown grown = { .size = 0 };
		rows[_i].fill(&grown);
		grown.bytes[grown.size + at] = 1;
		grown.size += GROWTH;
		expect_refused(_i, &grown, "does not know");
	}
}
END_TEST

START_TEST(no_struct_is_smaller_than_that_of_version_0_1)
{
	union grown grown = { .size = 0 };
	rows[_i].fill(&grown);
	grown.size = rows[_i].kind->min_size - 1;
	expect_refused(_i, &grown, "sizeof");
	grown.size = 0;
	expect_refused(_i, &grown, "sizeof");
	grown.size = SIZE_MAX;
	expect_refused(_i, &grown, "sizeof");
}
END_TEST

/* ---- extents ---- */

struct grown_extent {
	struct kvt_extent extent;
	uint64_t newer;
};

static enum kvt_err open_extents(const struct grown_extent *extents, size_t size,
				 struct kvt_error *error)
{
	struct kvt_pool_config config = KVT_POOL_CONFIG_INIT;
	struct kvt_pool *pool = NULL;
	config.extents = &extents->extent;
	config.extent_count = 2;
	config.extent_size = size;
	config.block_len = 32;
	enum kvt_err err = kvt_pool_open(pages.bed.near.engine, &config, &pool, error);
	if (err == KVT_OK)
		ck_assert_ptr_eq(kvt_pool_get_base(pool, 1), target + 32);
	kvt_pool_close(pool);
	return err;
}

START_TEST(extents_have_the_size_that_the_config_says)
{
	struct grown_extent extents[2] = { { { target, 1, 32 }, 0 },
					   { { target + 32, 1, 32 }, 0 } };
	struct kvt_error error = { .code = KVT_OK };
	ck_assert_int_eq(open_extents(extents, sizeof(extents[0]), &error), KVT_OK);
	extents[1].newer = 1;
	ck_assert_int_eq(open_extents(extents, sizeof(extents[0]), &error), KVT_E_INVALID);
	ck_assert_ptr_nonnull(strstr(error.text, "the extent has fields"));
	ck_assert_int_eq(open_extents(extents, 0, &error), KVT_E_INVALID);
	ck_assert_ptr_nonnull(strstr(error.text, "size of the extent"));
}
END_TEST

/* ---- memory ---- */

START_TEST(memory_that_is_not_the_hosts_is_refused_with_a_sentence)
{
	union grown grown = { .size = 0 };
	struct kvt_pool_config *config = (struct kvt_pool_config *)&grown;
	struct kvt_error error = { .code = KVT_OK };
	fill_pool_config(&grown);
	config->memory = (enum kvt_memory)1;
	config->device = 3;
	ck_assert_int_eq(use_pool_config(config, &error), KVT_E_UNSUPPORTED);
	ck_assert_ptr_nonnull(strstr(error.text, "kind 1, device 3"));
	config->memory = KVT_MEMORY_HOST;
	ck_assert_int_eq(use_pool_config(config, &error), KVT_E_INVALID);
	ck_assert_ptr_nonnull(strstr(error.text, "device 3"));
}
END_TEST

/* ---- what is filled ---- */

static enum kvt_err get_engine_stats(void *grown)
{
	return kvt_engine_get_stats(pages.bed.near.engine, grown);
}

static enum kvt_err get_conn_stats(void *grown)
{
	return kvt_conn_get_stats(pages.bed.near.conn, grown);
}

static enum kvt_err get_result(void *grown)
{
	struct kvt_transfer *transfer = start_recv(near_kv, target, sizeof(target));
	ck_assert_int_eq(kvt_transfer_get_result(transfer, grown),
			 kvi_sized_check(&kvi_abi_result, grown) ? KVT_E_AGAIN : KVT_E_INVALID);
	kvt_transfer_cancel(transfer);
	ck_assert_int_eq(kvt_transfer_wait(transfer, BED_PATIENCE_NS), KVT_OK);
	enum kvt_err err = kvt_transfer_get_result(transfer, grown);
	kvt_transfer_free(transfer);
	return err;
}

static enum kvt_err get_remote_info(void *grown)
{
	return kvt_remote_get_info(pages.remote, grown);
}

static const struct {
	const struct kvi_sized *kind;
	enum kvt_err (*get)(void *grown);
} results[] = {
	{ &kvi_abi_stats, get_engine_stats },
	{ &kvi_abi_stats, get_conn_stats },
	{ &kvi_abi_result, get_result },
	{ &kvi_abi_remote_info, get_remote_info },
};

enum { RESULT_COUNT = sizeof(results) / sizeof(results[0]) };

START_TEST(what_a_newer_program_asks_for_is_filled_as_far_as_it_is_known)
{
	const size_t known = results[_i].kind->size;
	union grown grown;
	memset(&grown, FILL, sizeof(grown));
	grown.size = known + GROWTH;
	ck_assert_int_eq(results[_i].get(&grown), KVT_OK);
	ck_assert_uint_eq(grown.size, known + GROWTH);
	ck_assert(!holds_only(grown.bytes + sizeof(size_t), known - sizeof(size_t), FILL));
	ck_assert(holds_only(grown.bytes + known, GROWTH, 0));
	ck_assert(holds_only(grown.bytes + known + GROWTH, ROOM - known - GROWTH, FILL));
	ck_assert_int_eq(results[_i].get(NULL), KVT_E_INVALID);
}
END_TEST

START_TEST(what_version_0_1_asks_for_is_filled_no_further)
{
	const size_t room = results[_i].kind->min_size;
	union grown grown;
	memset(&grown, FILL, sizeof(grown));
	grown.size = room;
	ck_assert_int_eq(results[_i].get(&grown), KVT_OK);
	ck_assert(holds_only(grown.bytes + room, ROOM - room, FILL));
	grown.size = room - 1;
	ck_assert_int_eq(results[_i].get(&grown), KVT_E_INVALID);
}
END_TEST

/* ---- the bed ---- */

static void set_up(void)
{
	pages_open(0);
	near_kv = open_kv(pages.bed.near.conn, 7);
}

static void tear_down(void)
{
	kvt_kv_close(near_kv);
	pages_close();
}

int main(void)
{
	TCase *tests = tcase_create("structs");
	tcase_set_timeout(tests, 60);
	tcase_add_checked_fixture(tests, set_up, tear_down);
	tcase_add_loop_test(tests, a_struct_of_a_newer_program_is_taken_when_the_rest_is_zero, 0,
			    ROW_COUNT);
	tcase_add_loop_test(tests, what_this_library_does_not_know_is_refused_unless_it_is_zero, 0,
			    ROW_COUNT);
	tcase_add_loop_test(tests, no_struct_is_smaller_than_that_of_version_0_1, 0, ROW_COUNT);
	tcase_add_test(tests, extents_have_the_size_that_the_config_says);
	tcase_add_test(tests, memory_that_is_not_the_hosts_is_refused_with_a_sentence);
	tcase_add_loop_test(tests, what_a_newer_program_asks_for_is_filled_as_far_as_it_is_known, 0,
			    RESULT_COUNT);
	tcase_add_loop_test(tests, what_version_0_1_asks_for_is_filled_no_further, 0, RESULT_COUNT);
	return run_tests("structs", tests);
}
