/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_withdrawal.c - tests/model/transitions.list, row by row: what an export, the peer's remote, and writes do in each
 * of their states, and what they say. The far engine exports, the near one uses it; one of them is looked at, what its
 * peer says is said by the test, under the worker's lock, and that peer takes all of it without a word.
 */
#include "rows.h"
#include "pages.h"

#include <pthread.h>
#include <stdio.h>

#include "engine/core/conn.h"
#include "engine/core/engine.h"
#include "engine/lane/link.h"
#include "engine/messages.h"
#include "engine/paged/exports.h"
#include "engine/paged/paged.h"
#include "support/runner.h"

enum {
	FEW = 5, /* blocks, in more pieces than one segment has, and no more than are posted at once */
	FIRST_MAX =
		20, /* steps: more than the writes of one block take, and less than those of all that is posted */
	DATA_LEN = 8, /* of BLOCKS */
	TRANSFERS_MAX = 2,
	DESCRIPTOR_MAX = 1024,
};

static struct kvi_link *link;
static struct kvt_transfer *transfers[TRANSFERS_MAX];
static unsigned transfer_count;
static const struct path *walked;

/* A further export of the far pool, which nobody has imported, and what the near engine has of it. */
static struct kvt_export *exported;
static uint8_t descriptor[DESCRIPTOR_MAX];
static size_t descriptor_len;
static struct kvt_transfer *import;
static struct kvt_remote *remote;
static pthread_t withdrawer;
static bool is_withdrawing;

/* ---- opening and closing ---- */

static void open_all(unsigned way, struct side *looked_at, const struct side *peer)
{
	pages_open(way);
	ck_assert_int_eq(kvt_export_open(pages.bed.far.conn, pages.far, KVT_ACCESS_WRITE, NULL,
					 &exported, NULL),
			 KVT_OK);
	descriptor_len = sizeof(descriptor);
	ck_assert_int_eq(kvt_export_describe(exported, descriptor, &descriptor_len), KVT_OK);
	kvi_ref_take(&exported->ref);
	link = &looked_at->conn->links[0];
	kvi_worker_lock(peer->conn->links[0].shard->worker);
	fall_silent(peer->engine);
	kvi_worker_unlock(peer->conn->links[0].shard->worker);
	fake_hold(FAKE_WRITE);
	fake_trickle(true);
	kvi_worker_lock(link->shard->worker);
	said_on(link);
	kvi_worker_unlock(link->shard->worker);
}

static void close_all(void)
{
	kvi_worker_lock(link->shard->worker);
	said_on(NULL);
	kvi_worker_unlock(link->shard->worker);
	fake_hold(0);
	kvi_conn_fail(link->conn, KVT_E_CANCELLED, 0, "the path is at its end");
	for (; transfer_count > 0; transfer_count--) {
		await_end(transfers[transfer_count - 1]);
		kvt_transfer_free(transfers[transfer_count - 1]);
	}
	if (is_withdrawing)
		pthread_join(withdrawer, NULL);
	else
		kvt_export_close(exported);
	kvi_ref_drop(&exported->ref);
	is_withdrawing = false;
	if (import != NULL)
		kvt_transfer_free(import);
	import = NULL;
	kvt_remote_close(remote);
	remote = NULL;
	pages_close();
}

/* ---- what happens to all of them ---- */

static void say(struct kvi_message message)
{
	kvi_worker_lock(link->shard->worker);
	ck_assert_int_eq(kvi_message_handlers.take[message.type](link, &message), KVT_OK);
	kvi_worker_flush_unlock(link->shard->worker);
}

/* From the first row on. */
static void take_rows(const struct path *path, void (*happen)(const struct row *row),
		      void (*look)(char *state, char *says))
{
	for (unsigned i = 0; i < path->len; i++) {
		const struct row *row = path->rows[i];
		char says[ROW_TEXT_LEN] = "";
		said_forget();
		happen(row);
		row_add_says(says, row->says);
		row_expect(row, row->to, says, look);
	}
}

/* So many blocks; all of them are more than is posted at once. */
static enum kvt_err start_write(struct kvt_remote *to, size_t count)
{
	static int32_t indices[BLOCK_COUNT];
	struct kvt_blocks_request request = KVT_BLOCKS_REQUEST_INIT;
	for (int32_t i = 0; i < BLOCK_COUNT; i++)
		indices[i] = i;
	request.direction = KVT_WRITE;
	request.pool = pages.near;
	request.remote = to;
	request.local_idx = request.remote_idx = indices;
	request.index_len = sizeof(indices[0]);
	request.count = count;
	enum kvt_err err = kvt_blocks_start(&request, &transfers[transfer_count], NULL);
	transfer_count += err == KVT_OK;
	return err;
}

/* ---- exports ---- */

static void *withdraw(void *arg)
{
	kvt_export_close(arg);
	return NULL;
}

/* Where no block is. */
static uint8_t *get_gap(void)
{
	return pages.far_memory + EXTENT_LEN + BLOCK_LEN;
}

static void say_data(void)
{
	uint8_t data[KVI_WIRE_SPAN_LEN + DATA_LEN];
	const struct kvi_piece piece = { .remote_extent = 1,
					 .remote_offset = BLOCK_LEN,
					 .len = DATA_LEN };
	memset(get_gap(), 0, DATA_LEN);
	memset(data, 1, sizeof(data));
	kvi_pages_encode_span(&piece, data);
	say((struct kvi_message){ .type = KVI_MESSAGE_BLOCKS,
				  .blocks = { exported->id, 1, { data, sizeof(data) } } });
}

static void happen_to_export(const struct row *row)
{
	const char *event = row->event;
	memset(get_gap(), CANARY, DATA_LEN);
	if (strcmp(event, "ATTACH") == 0) {
		say((struct kvi_message){ .type = KVI_MESSAGE_ATTACH,
					  .attach = { .export_id = exported->id } });
	} else if (strcmp(event, "WITHDRAWN") == 0) {
		say((struct kvi_message){ .type = KVI_MESSAGE_WITHDRAWN,
					  .withdraw.export_id = exported->id });
	} else if (strcmp(event, "data") == 0) {
		say_data();
	} else {
		ck_assert_str_eq(event, "withdraw");
		is_withdrawing = true;
		pthread_create(&withdrawer, NULL, withdraw, exported);
	}
}

static void look_at_export(char *state, char *says)
{
	kvi_worker_lock(link->shard->worker);
	pthread_mutex_lock(&link->conn->exports.lock);
	enum kvi_export_state now = atomic_load(&exported->state);
	if (now == KVI_EXPORT_OPEN)
		strcpy(state, exported->attached ? "OPEN:attached" : "OPEN");
	else
		strcpy(state, now == KVI_EXPORT_CLOSING ? "CLOSING" : "CLOSED");
	pthread_mutex_unlock(&link->conn->exports.lock);
	said_format(says);
	kvi_worker_unlock(link->shard->worker);
	if (holds_only(get_gap(), DATA_LEN, 1))
		row_add_says(says, "copied");
}

static void walk_export(const struct path *path)
{
	open_all(0, &pages.bed.far, &pages.bed.near);
	/* While something moves, the peer may take its time to confirm. */
	ck_assert_int_eq(start_write(pages.remote, BLOCK_COUNT), KVT_OK);
	take_rows(path, happen_to_export, look_at_export);
	close_all();
}

START_TEST(an_export_does_in_each_state_what_the_list_says)
{
	rows_walk("export", walk_export);
}
END_TEST

/* ---- remotes ---- */

static bool is_asked(void)
{
	return import != NULL && !kvt_transfer_is_done(import);
}

static void begin_import(void)
{
	struct kvt_import_request request = KVT_IMPORT_REQUEST_INIT;
	request.conn = link->conn;
	request.bytes = descriptor;
	request.len = descriptor_len;
	request.timeout_ns = 10 * BED_PATIENCE_NS;
	ck_assert_int_eq(kvt_import_start(&request, &import, NULL), KVT_OK);
}

static unsigned count_posted(void)
{
	kvi_worker_lock(link->shard->worker);
	unsigned posted = link->writes;
	kvi_worker_unlock(link->shard->worker);
	return posted;
}

/* One, or where one of two ends, one that is soon through and another of which much is posted. */
static void start_writes(void)
{
	ck_assert_int_eq(start_write(remote, 1), KVT_OK);
	if (!path_has_event(walked, "one_ends"))
		return;
	ck_assert_int_eq(start_write(remote, BLOCK_COUNT), KVT_OK);
	wait_until(count_posted() > 2);
}

/* The first of two, which has one block, while the other has not nearly ended. */
static void end_first(void)
{
	int64_t deadline_ns = kvi_deadline_after(BED_PATIENCE_NS);
	size_t left = FIRST_MAX;
	while (!kvt_transfer_is_done(transfers[0])) {
		ck_assert(kvi_clock_now() < deadline_ns);
		if (left > 0 && fake_release(1) > 0)
			left--;
		rest(KVI_MS / 4);
	}
}

static void happen_to_remote(const struct row *row)
{
	const char *event = row->event;
	bool is_refused = strncmp(row->from, "CLOS", 4) == 0;
	if (strcmp(event, "import") == 0) {
		begin_import();
	} else if (strcmp(event, "ATTACHED") == 0) {
		say((struct kvi_message){ .type = KVI_MESSAGE_ATTACHED,
					  .attached.number = said_get_attach() });
		await(import, KVT_OK);
		remote = kvt_transfer_take_remote(import);
	} else if (strcmp(event, "NO_EXPORT") == 0) {
		say((struct kvi_message){ .type = KVI_MESSAGE_NO_EXPORT,
					  .no_export = { said_get_attach(), KVT_E_WITHDRAWN } });
		await(import, KVT_E_WITHDRAWN);
		kvt_transfer_free(import);
		import = NULL;
	} else if (strcmp(event, "WITHDRAW") == 0) {
		say((struct kvi_message){ .type = KVI_MESSAGE_WITHDRAW,
					  .withdraw.export_id = exported->id });
	} else if (strcmp(event, "close") == 0) {
		kvt_remote_close(remote);
		remote = NULL;
	} else if (strcmp(event, "start") == 0) {
		if (is_refused)
			ck_assert_int_eq(start_write(remote, 1), KVT_E_WITHDRAWN);
		else
			start_writes();
	} else if (strcmp(event, "one_ends") == 0) {
		end_first();
	} else {
		ck_assert_str_eq(event, "last_ends");
		fake_hold(0);
	}
}

static struct kvt_remote *find_remote(void)
{
	struct kvt_remote *found;
	HASH_FIND(by_id, link->conn->exports.remotes, &exported->id, sizeof(exported->id), found);
	return found;
}

static void look_at_remote(char *state, char *says)
{
	kvi_worker_lock(link->shard->worker);
	pthread_mutex_lock(&link->conn->exports.lock);
	const struct kvt_remote *found = find_remote();
	bool is_withdrawn = found != NULL && atomic_load(&found->withdrawn);
	bool is_used = found != NULL && atomic_load(&found->in_flight) > 0;
	if (found == NULL)
		strcpy(state, "GONE");
	else if (is_asked())
		strcpy(state, is_withdrawn ? "ASKED:withdrawn" : "ASKED");
	else if (is_withdrawn)
		strcpy(state, is_used ? "CLOSING" : "CLOSED");
	else
		strcpy(state, is_used ? "OPEN:used" : "OPEN");
	pthread_mutex_unlock(&link->conn->exports.lock);
	said_format(says);
	kvi_worker_unlock(link->shard->worker);
}

static void walk_remote(const struct path *path)
{
	walked = path;
	/* Its writes say nothing themselves. */
	open_all(UNORDERED, &pages.bed.near, &pages.bed.far);
	take_rows(path, happen_to_remote, look_at_remote);
	close_all();
}

START_TEST(a_remote_does_in_each_state_what_the_list_says)
{
	rows_walk("remote", walk_remote);
}
END_TEST

/* ---- writes ---- */

static struct kvi_paged *get_paged(void)
{
	return kvi_container_of(transfers[0], struct kvi_paged, transfer);
}

static const char *get_phase(const struct kvi_paged *paged)
{
	bool is_posting = kvi_spread_is_active(&paged->spread);
	if (atomic_load(&paged->transfer.done))
		return "DONE";
	if (paged->told)
		return "SYNCED";
	if (paged->settling)
		return "SETTLING";
	if (paged->state == KVI_PAGED_STOPPING)
		return "STOPPING";
	if (paged->state != KVI_PAGED_MOVING || !is_posting)
		return "NEW";
	return paged->spread.stripes[0].total == 0 ? "WAITING" : "MOVING";
}

static void look_at_write(char *state, char *says)
{
	kvi_worker_lock(link->shard->worker);
	const struct kvi_paged *paged = get_paged();
	const char *phase = get_phase(paged);
	bool is_synced = strcmp(phase, "SYNCED") == 0;
	snprintf(state, ROW_TEXT_LEN, "%s%s%s%s", phase,
		 is_synced && kvi_spread_is_active(&paged->spread) ? ":posted" : "",
		 is_synced && kvi_transfer_is_given_up(&paged->transfer) ? ":given_up" : "",
		 is_synced && paged->noted ? ":noted" : "");
	said_format(says);
	kvi_worker_unlock(link->shard->worker);
}

static void set_room(bool has_room)
{
	kvi_worker_lock(link->shard->worker);
	if (has_room)
		link->writes -= KVI_WRITES_MAX;
	else
		link->writes += KVI_WRITES_MAX;
	kvi_link_touch(link);
	kvi_worker_flush_unlock(link->shard->worker);
}

static void happen_to_write(const char *event)
{
	if (strcmp(event, "room") == 0) {
		set_room(true);
	} else if (strcmp(event, "give_up") == 0) {
		kvi_worker_lock(link->shard->worker);
		kvi_transfer_give_up(transfers[0], KVT_E_CANCELLED, "the test gives up");
		kvi_worker_flush_unlock(link->shard->worker);
	} else if (strcmp(event, "NOTED") == 0) {
		say((struct kvi_message){ .type = KVI_MESSAGE_NOTED,
					  .sync.transfer = get_paged()->number });
	} else {
		ck_assert_str_eq(event, "written");
		fake_hold(0);
	}
}

static bool is_all_posted(const struct row *row)
{
	return strcmp(row->event, "all_posted") == 0;
}

static void walk_write(const struct path *path)
{
	bool is_ordered = strcmp(path->rows[0]->side, "write") == 0;
	bool has_room = strcmp(path->rows[0]->event, "room") == 0;
	size_t count = path_has_event(path, "all_posted") ? FEW : BLOCK_COUNT;
	open_all(is_ordered ? 0 : UNORDERED, &pages.bed.near, &pages.bed.far);
	set_room(false);
	ck_assert_int_eq(start_write(pages.remote, count), KVT_OK);
	row_expect(path->rows[0], "WAITING", "", look_at_write);
	for (unsigned i = 0; i < path->len; i++) {
		const struct row *row = path->rows[i];
		char says[ROW_TEXT_LEN] = "";
		said_forget();
		happen_to_write(row->event);
		/* SYNC goes with the last segment, of those that there is room for. */
		if (i + 1 < path->len && is_all_posted(path->rows[i + 1]))
			row = path->rows[++i];
		row_add_says(says, row->says);
		row_expect(row, row->to, says, look_at_write);
	}
	if (!has_room)
		set_room(true);
	close_all();
}

START_TEST(a_write_does_in_each_state_what_the_list_says)
{
	rows_walk("write", walk_write);
	rows_walk("spread", walk_write);
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("withdrawal");
	tcase_set_timeout(tests, 120);
	tcase_add_test(tests, an_export_does_in_each_state_what_the_list_says);
	tcase_add_test(tests, a_remote_does_in_each_state_what_the_list_says);
	tcase_add_test(tests, a_write_does_in_each_state_what_the_list_says);
	return run_tests("engine_withdrawal", tests);
}
