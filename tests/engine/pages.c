/* SPDX-License-Identifier: Apache-2.0 */
/* pages.c - opening two pools and moving all of their blocks. */
#include "pages.h"

#include <stdlib.h>

#include "engine/core/settings.h"

struct pages pages;

/* ---- opening and closing ---- */

static void set_way(struct kvt_engine_config *config, unsigned way)
{
	static const char *const interfaces[] = { "fake0", "fake1" };
	struct kvi_caps caps = fake_get_default_caps();
	*config = make_config();
	caps.max_segment_len = SMALL_SEGMENT_LEN;
	caps.tx_count = FEW_POSTS;
	if (way & MANY_LANES) {
		config->ncpus = 3;
		config->nconn_per_cpu = 2;
	}
	if (way & PACKS)
		caps.pack_below = 3 * BLOCK_LEN;
	if (way & COMMON)
		caps.common_len = KVI_STAGING_BUFFERS * SMALL_SEGMENT_LEN;
	if (way & REGISTERED) {
		caps.local_memory = true;
		caps.same_rkey = false;
		caps.own_domains = false;
	}
	if ((way & REGISTERED) && (way & MANY_LANES)) {
		config->interfaces = interfaces;
		config->interface_count = 2;
	}
	if (way & ONE_SPAN)
		caps.span_count = 1;
	if (way & UNORDERED)
		caps.send_after_write = false;
	if (way & SHORT_PACKETS)
		config->eager_len = KVT_NO_EAGER;
	config->checksum = (way & CHECKED) != 0;
	fake_set_caps(&caps);
}

struct kvt_pool *open_pool(struct kvt_engine *engine, uint8_t *memory)
{
	struct kvt_extent extents[EXTENT_COUNT] = {
		{ memory, BLOCK_COUNT, BLOCK_LEN },
		{ memory + EXTENT_LEN, BLOCK_COUNT, BLOCK_LEN + GAP_LEN },
	};
	struct kvt_pool_config config = KVT_POOL_CONFIG_INIT;
	struct kvt_pool *pool;
	struct kvt_error error;
	config.extents = extents;
	config.extent_count = EXTENT_COUNT;
	config.block_len = BLOCK_LEN;
	enum kvt_err err = kvt_pool_open(engine, &config, &pool, &error);
	ck_assert_msg(err == KVT_OK, "no pool: %s", error.text);
	return pool;
}

void share_pages(void)
{
	uint8_t bytes[1024];
	size_t len = sizeof(bytes);
	struct kvt_error error;
	enum kvt_err err = kvt_export_open(pages.bed.far.conn, pages.far,
					   KVT_ACCESS_READ | KVT_ACCESS_WRITE, NULL,
					   &pages.exported, &error);
	ck_assert_msg(err == KVT_OK, "no export: %s", error.text);
	ck_assert_int_eq(kvt_export_describe(pages.exported, bytes, &len), KVT_OK);
	err = kvt_remote_import(pages.bed.near.conn, bytes, len, BED_PATIENCE_NS, &pages.remote,
				&error);
	ck_assert_msg(err == KVT_OK, "no import: %s", error.text);
}

void pages_open(unsigned way)
{
	struct kvt_engine_config config;
	set_way(&config, way);
	bed_open(&pages.bed, &config);
	pages.near_memory = make_pattern(PAGES_LEN, 1);
	pages.far_memory = make_filled(PAGES_LEN, CANARY);
	pages.near = open_pool(pages.bed.near.engine, pages.near_memory);
	pages.far = open_pool(pages.bed.far.engine, pages.far_memory);
	share_pages();
}

static void unshare_pages(void)
{
	kvt_remote_close(pages.remote);
	kvt_export_close(pages.exported);
	pages.remote = NULL;
	pages.exported = NULL;
}

void pages_close(void)
{
	unshare_pages();
	kvt_pool_close(pages.near);
	kvt_pool_close(pages.far);
	bed_close(&pages.bed);
	free(pages.near_memory);
	free(pages.far_memory);
}

static void take_events(struct kvt_engine *engine)
{
	struct kvt_event *event;
	while (kvt_engine_get_event(engine, &event) == KVT_OK)
		kvt_event_free(event);
}

void expect_new_pages(void)
{
	struct kvt_conn *conns[] = { pages.bed.near.conn, pages.bed.far.conn };
	for (unsigned i = 0; i < 2; i++)
		wait_until(kvt_conn_get_status(conns[i], NULL) != KVT_OK);
	unshare_pages();
	bed_disconnect(&pages.bed);
	take_events(pages.bed.near.engine);
	take_events(pages.bed.far.engine);
	bed_connect(&pages.bed);
	if (pages.near == NULL)
		pages.near = open_pool(pages.bed.near.engine, pages.near_memory);
	if (pages.far == NULL)
		pages.far = open_pool(pages.bed.far.engine, pages.far_memory);
	share_pages();
	fill_pages(KVT_WRITE, 77);
	finish(start_blocks(KVT_WRITE, 77, NULL, 0), KVT_OK);
	ck_assert(are_moved(KVT_WRITE, 77));
}

void expect_peer_refused(void)
{
	wait_until(kvt_conn_get_status(pages.bed.far.conn, NULL) != KVT_OK);
	ck_assert_int_eq(kvt_conn_get_status(pages.bed.far.conn, NULL), KVT_E_PROTOCOL);
	ck_assert_msg(holds_only(pages.far_memory, PAGES_LEN, CANARY), "something was written");
	expect_new_pages();
	pages_close();
}

/* ---- moving all blocks ---- */

void fill_pages(enum kvt_direction direction, uint32_t seed)
{
	uint8_t *source = direction == KVT_WRITE ? pages.near_memory : pages.far_memory;
	uint8_t *target = direction == KVT_WRITE ? pages.far_memory : pages.near_memory;
	uint8_t *pattern = make_pattern(PAGES_LEN, seed);
	memcpy(source, pattern, PAGES_LEN);
	memset(target, CANARY, PAGES_LEN);
	free(pattern);
}

void shuffle_runs(int32_t *indices, uint32_t count, uint32_t run, uint32_t seed)
{
	uint32_t run_count = count / run, state = seed * 2654435761U + 1;
	for (uint32_t i = 0; i < count; i++)
		indices[i] = (int32_t)i;
	for (uint32_t i = run_count; i > 1; i--) {
		state = state * 1664525U + 1013904223U;
		uint32_t j = (state >> 8) % i;
		for (uint32_t k = 0; k < run; k++) {
			int32_t swapped = indices[(i - 1) * run + k];
			indices[(i - 1) * run + k] = indices[j * run + k];
			indices[j * run + k] = swapped;
		}
	}
}

static void shuffle(int32_t *indices, uint32_t seed)
{
	shuffle_runs(indices, BLOCK_COUNT, 1 + seed % 8, seed);
}

struct kvt_transfer *start_blocks(enum kvt_direction direction, uint32_t seed, const char *notify,
				  int64_t timeout_ns)
{
	size_t notify_len = notify == NULL ? 0 : strlen(notify);
	return start_blocks_noting(direction, seed, notify, notify_len, timeout_ns);
}

struct kvt_transfer *start_blocks_noting(enum kvt_direction direction, uint32_t seed,
					 const void *notify, size_t notify_len, int64_t timeout_ns)
{
	struct kvt_blocks_request request = KVT_BLOCKS_REQUEST_INIT;
	struct kvt_transfer *transfer;
	struct kvt_error error;
	shuffle(pages.local_idx, seed);
	shuffle(pages.remote_idx, seed + 8); /* with runs of the same length */
	request.direction = direction;
	request.pool = pages.near;
	request.remote = pages.remote;
	request.local_idx = pages.local_idx;
	request.remote_idx = pages.remote_idx;
	request.index_len = 4;
	request.count = BLOCK_COUNT;
	request.notify = notify;
	request.notify_len = notify_len;
	request.timeout_ns = timeout_ns;
	enum kvt_err err = kvt_blocks_start(&request, &transfer, &error);
	ck_assert_msg(err == KVT_OK, "no transfer: %s", error.text);
	return transfer;
}

bool are_moved(enum kvt_direction direction, uint32_t seed)
{
	uint8_t *source = direction == KVT_WRITE ? pages.near_memory : pages.far_memory;
	uint8_t *target = direction == KVT_WRITE ? pages.far_memory : pages.near_memory;
	uint8_t *expected = make_filled(PAGES_LEN, CANARY);
	shuffle(pages.local_idx, seed);
	shuffle(pages.remote_idx, seed + 8);
	for (size_t extent = 0; extent < EXTENT_COUNT; extent++) {
		size_t stride = BLOCK_LEN + extent * GAP_LEN, start = extent * EXTENT_LEN;
		for (size_t i = 0; i < BLOCK_COUNT; i++) {
			size_t near = start + (size_t)pages.local_idx[i] * stride;
			size_t far = start + (size_t)pages.remote_idx[i] * stride;
			memcpy(expected + (direction == KVT_WRITE ? far : near),
			       source + (direction == KVT_WRITE ? near : far), BLOCK_LEN);
		}
	}
	bool moved = memcmp(expected, target, PAGES_LEN) == 0;
	free(expected);
	return moved;
}

/* ---- threads ---- */

void *let_go_soon(void *arg)
{
	rest(20 * KVI_MS);
	fake_hold(0);
	return arg;
}

void *stop_pool(void *pool)
{
	kvt_pool_stop(pool);
	return NULL;
}

/* ---- notifications ---- */

struct kvt_transfer *start_notify(struct kvt_conn *conn, const void *bytes, size_t len)
{
	struct kvt_notify_request request = KVT_NOTIFY_REQUEST_INIT;
	struct kvt_transfer *transfer;
	struct kvt_error error;
	request.conn = conn;
	request.notify = bytes;
	request.notify_len = len;
	enum kvt_err err = kvt_notify_start(&request, &transfer, &error);
	ck_assert_msg(err == KVT_OK, "no notification: %s", error.text);
	return transfer;
}

struct kvt_event *await_event(struct kvt_engine *engine, enum kvt_event_kind kind)
{
	struct kvt_event *event;
	int64_t deadline_ns = kvi_deadline_after(BED_PATIENCE_NS);
	while (kvt_engine_get_event(engine, &event) != KVT_OK) {
		ck_assert_msg(kvi_clock_now() < deadline_ns, "no event");
		kvt_engine_wait(engine, 100 * KVI_MS);
	}
	ck_assert_int_eq(event->kind, kind);
	return event;
}

void expect_notification(struct kvt_engine *engine, const char *text, enum kvt_err err)
{
	struct kvt_event *event = await_event(engine, KVT_EVENT_NOTIFICATION);
	ck_assert_int_eq(event->err, err);
	ck_assert_uint_eq(event->len, strlen(text));
	ck_assert_mem_eq(event->data, text, event->len);
	kvt_event_free(event);
}

void expect_conn_ended(struct kvt_engine *engine, const struct kvt_conn *conn, enum kvt_err err)
{
	struct kvt_event *event = await_event(engine, KVT_EVENT_CONN_ENDED);
	ck_assert_ptr_eq(event->conn, conn);
	ck_assert_int_eq(event->err, err);
	kvt_event_free(event);
}

void expect_no_event(struct kvt_engine *engine)
{
	struct kvt_event *event;
	ck_assert_int_eq(kvt_engine_get_event(engine, &event), KVT_E_AGAIN);
}
