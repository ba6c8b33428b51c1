/* SPDX-License-Identifier: Apache-2.0 */
/* check_paged_faults.c - pools, exports and paged transfers when something fails (faults.h). */
#include <stdlib.h>

#include "faults/faults.h"
#include "support/runner.h"

enum { PAGE_LEN = 4096, PAGE_COUNT = 48, PAGES_LEN = 2 * PAGE_COUNT * PAGE_LEN };

static struct kvt_pool *pools[2];
static struct kvt_export *exported;
static struct kvt_remote *remote;

static bool open_pages(uint8_t *memories[2])
{
	struct kvt_engine *engines[] = { bed.near.engine, bed.far.engine };
	for (unsigned i = 0; i < 2; i++) {
		struct kvt_extent extents[] = {
			{ memories[i], PAGE_COUNT, PAGE_LEN },
			{ memories[i] + PAGES_LEN / 2, PAGE_COUNT, PAGE_LEN },
		};
		struct kvt_pool_config config = KVT_POOL_CONFIG_INIT;
		config.extents = extents;
		config.extent_count = 2;
		config.block_len = PAGE_LEN;
		if (!passes(kvt_pool_open(engines[i], &config, &pools[i], NULL), "kvt_pool_"
										 "open"))
			return false;
	}
	return true;
}

/* By its descriptor, and by its name, which is the same remote. */
static bool share_pages(void)
{
	uint8_t bytes[1024];
	size_t len = sizeof(bytes);
	struct kvt_remote *again;
	if (!passes(kvt_export_open(bed.far.conn, pools[1], KVT_ACCESS_READ | KVT_ACCESS_WRITE,
				    "pages", &exported, NULL),
		    "kvt_export_open"))
		return false;
	ck_assert_int_eq(kvt_export_describe(exported, bytes, &len), KVT_OK);
	if (!passes(kvt_remote_import(bed.near.conn, bytes, len, STEP_NS, &remote, NULL), "kvt_"
											  "remote_"
											  "impor"
											  "t") ||
	    !passes(kvt_remote_find(bed.near.conn, "pages", STEP_NS, &again, NULL), "kvt_remote_"
										    "find"))
		return false;
	ck_assert_ptr_eq(again, remote);
	kvt_remote_close(again);
	return true;
}

/* All pages, which turns them around or not: one by one they are packed, as a run they are not. */
static enum kvt_err move_pages(enum kvt_direction direction, bool turned, const char *notify)
{
	struct kvt_blocks_request request = KVT_BLOCKS_REQUEST_INIT;
	struct kvt_transfer *transfer = NULL;
	int64_t local[PAGE_COUNT], other[PAGE_COUNT];
	for (int64_t i = 0; i < PAGE_COUNT; i++) {
		local[i] = i;
		other[i] = turned ? PAGE_COUNT - 1 - i : i;
	}
	request.direction = direction;
	request.pool = pools[0];
	request.remote = remote;
	request.local_idx = local;
	request.remote_idx = other;
	request.index_len = sizeof(local[0]);
	request.count = PAGE_COUNT;
	request.notify = notify;
	request.notify_len = notify == NULL ? 0 : strlen(notify);
	request.timeout_ns = STEP_NS;
	started += passes(kvt_blocks_start(&request, &transfer, NULL), "kvt_blocks_start");
	return end(transfer, KVT_OK, "a paged transfer");
}

/* What was announced as a success is there. Returns how many were. */
static unsigned take_notifications(const uint8_t *target)
{
	struct kvt_event *event;
	unsigned count = 0;
	while (kvt_engine_get_event(bed.far.engine, &event) == KVT_OK) {
		if (event->kind == KVT_EVENT_NOTIFICATION && event->err == KVT_OK) {
			count++;
			ck_assert(holds_pattern(target, PAGES_LEN, 1));
		}
		kvt_event_free(event);
	}
	return count;
}

static void share_and_move_pages(const struct kvt_engine_config *config)
{
	uint8_t *memories[] = { make_pattern(PAGES_LEN, 1), make_filled(PAGES_LEN, 0) };
	disarm();
	bool connected = open_engines(config) && connect_engines();
	ck_assert(connected);
	arm();
	if (open_pages(memories) && share_pages()) {
		if (move_pages(KVT_WRITE, false, "straight") == KVT_OK) {
			ck_assert(holds_pattern(memories[1], PAGES_LEN, 1));
			ck_assert_uint_eq(take_notifications(memories[1]), 1);
		}
		take_notifications(memories[1]);
		enum kvt_err wrote = move_pages(KVT_WRITE, true, NULL);
		memset(memories[0], 0, PAGES_LEN);
		if (wrote == KVT_OK && move_pages(KVT_READ, true, NULL) == KVT_OK)
			ck_assert(holds_pattern(memories[0], PAGES_LEN, 1));
		/* What was written turned around is the other way around when it is not. */
		if (move_pages(KVT_READ, false, NULL) == KVT_OK)
			ck_assert(memcmp(memories[0], memories[1], PAGES_LEN) == 0);
		kvt_export_close(exported);
		exported = NULL;
		memset(memories[1], 0xEE, PAGES_LEN);
		kvt_pool_close(pools[0]);
		pools[0] = NULL;
		memset(memories[0], 0xEE, PAGES_LEN);
		rest(KVI_MS / 2);
		ck_assert(holds_only(memories[0], PAGES_LEN, 0xEE));
		ck_assert(holds_only(memories[1], PAGES_LEN, 0xEE));
	}
	kvt_remote_close(remote);
	kvt_export_close(exported);
	kvt_pool_close(pools[0]);
	kvt_pool_close(pools[1]);
	remote = NULL;
	exported = NULL;
	pools[0] = pools[1] = NULL;
	bed_disconnect(&bed);
	free(memories[0]);
	free(memories[1]);
}

START_TEST(moving_pages_survives_every_fault_or_fails_cleanly)
{
	run_all(share_and_move_pages, _i);
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("paged_faults");
	tcase_set_timeout(tests, 300);
	tcase_add_loop_test(tests, moving_pages_survives_every_fault_or_fails_cleanly, 0,
			    2 * FAULT_COUNT);
	return run_tests("paged_faults", tests);
}
