/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_transitions.c - tests/model/transitions.list, row by row: what a send and a receive do in each of their states,
 * and what they say. The far engine has them; what its peer says is said by the test, under the worker's lock. The near
 * engine takes all of it without a word.
 */
#include "rows.h"

#include <stdio.h>
#include <stdlib.h>

#include "engine/core/conn.h"
#include "engine/core/engine.h"
#include "engine/lane/link.h"
#include "engine/lane/registration.h"
#include "engine/tagged/tag_queue.h"
#include "engine/tagged/tagged.h"
#include "support/runner.h"

enum {
	TAG = 3,
	SMALL = 100,
	LARGE = 200 * 1024,
	TRANSFERS_MAX = 2,
	CTS_GENERATION = 100,
};

static struct bed bed;
static struct kvt_kv *kv;
static struct kvi_link *link;
static struct kvi_tagged *tagged; /* whose rows they are */
static struct kvt_transfer *transfers[TRANSFERS_MAX];
static unsigned transfer_count;
static unsigned saved_credits;
static uint8_t *memory, *peer_memory;
static struct kvi_registration *peer_registration;

/* ---- states ---- */

static void format_state(char *text)
{
	static const char *const names[] = {
		[KVI_SEND_WAITING] = "WAITING",
		[KVI_SEND_EAGER] = "EAGER",
		[KVI_SEND_STARTED] = "STARTED",
		[KVI_SEND_WRITING] = "WRITING",
		[KVI_SEND_STOPPING] = "STOPPING",
		[KVI_SEND_FINISHED] = "FINISHED",
		[KVI_RECV_QUEUED] = "QUEUED",
		[KVI_RECV_EARLY] = "EARLY",
		[KVI_RECV_MATCHED] = "MATCHED",
		[KVI_RECV_CANCELLING] = "CANCELLING",
		[KVI_DONE] = "DONE",
		[KVI_NEW] = "NEW",
	};
	enum kvi_tagged_state state = tagged->state;
	bool is_given_up = kvi_tagged_is_given_up(tagged);
	bool is_posted = state == KVI_SEND_FINISHED && tagged->writing != NULL &&
			 kvi_spread_is_active(&tagged->writing->spread);
	snprintf(text, ROW_TEXT_LEN, "%s%s%s%s%s%s%s", names[state], is_posted ? ":posted" : "",
		 state != KVI_DONE && is_given_up ? ":given_up" : "",
		 state == KVI_SEND_STOPPING && tagged->peer_cancelled ? ":cancelled" : "",
		 is_posted && tagged->acked ? ":acked" : "",
		 state == KVI_RECV_CANCELLING && tagged->arrival != NULL ? ":matched" : "",
		 state == KVI_RECV_CANCELLING && !is_given_up ? ":yields" : "");
}

/* ---- events ---- */

static void begin(struct kvt_transfer *transfer)
{
	transfers[transfer_count++] = transfer;
	tagged = kvi_tagged_of(transfer);
	for (bool is_new = true; is_new;) {
		kvi_worker_lock(link->shard->worker);
		is_new = tagged->state == KVI_NEW;
		kvi_worker_unlock(link->shard->worker);
		if (is_new)
			rest(KVI_MS / 4);
	}
}

static void say(struct kvi_message message)
{
	message.tag = TAG;
	kvi_worker_lock(link->shard->worker);
	ck_assert_int_eq(kvi_tag_queue_on_message(link, &message), KVT_OK);
	kvi_worker_flush_unlock(link->shard->worker);
}

static void say_cts(size_t capacity)
{
	struct kvi_message message = {
		.type = KVI_MESSAGE_CTS,
		.cts = { .generation = CTS_GENERATION, .capacity = capacity },
	};
	message.cts.rkey_count = kvi_registration_get_rkeys(peer_registration, message.cts.rkeys);
	say(message);
}

static void say_start(uint64_t seq, size_t len)
{
	say((struct kvi_message){ .type = KVI_MESSAGE_START, .start = { .seq = seq, .len = len } });
}

/* CANCEL or CACK. */
static void say_cancel(enum kvi_message_type type, const struct kvi_tagged *of)
{
	uint64_t generation = of->generation != 0 ? of->generation : CTS_GENERATION;
	say((struct kvi_message){ .type = type,
				  .cancel = { .seq = of->seq, .generation = generation } });
}

static void give_up(struct kvt_transfer *transfer)
{
	kvi_worker_lock(link->shard->worker);
	kvi_transfer_give_up(transfer, KVT_E_CANCELLED, "the test gives up");
	kvi_worker_flush_unlock(link->shard->worker);
}

static void take_room(void)
{
	kvi_worker_lock(link->shard->worker);
	saved_credits = link->send_credits;
	link->send_credits = 0;
	kvi_worker_unlock(link->shard->worker);
}

static void give_room(void)
{
	kvi_worker_lock(link->shard->worker);
	link->send_credits += saved_credits;
	kvi_link_touch(link);
	kvi_worker_flush_unlock(link->shard->worker);
}

/* The first receive leaves its message to this one, which has told where to write the next. */
static void put_back(void)
{
	give_up(transfers[0]);
	said_forget();
	say_cancel(KVI_MESSAGE_CACK, kvi_tagged_of(transfers[0]));
}

static void say_event(const char *event)
{
	static const uint8_t bytes[SMALL];
	const uint64_t seq = tagged->seq;
	/* A message ends behind its START, also where the CTS was early and is being cancelled. */
	bool is_end = strcmp(event, "FIN") == 0 || strcmp(event, "ABORT") == 0;
	if (is_end && tagged->state == KVI_RECV_CANCELLING && tagged->arrival == NULL)
		say_start(seq, tagged->len);
	if (strcmp(event, "CTS") == 0)
		say_cts(LARGE);
	else if (strcmp(event, "CTS_short") == 0)
		say_cts(tagged->len - 1);
	else if (strcmp(event, "CANCEL") == 0)
		say_cancel(KVI_MESSAGE_CANCEL, tagged);
	else if (strcmp(event, "CACK") == 0)
		say_cancel(KVI_MESSAGE_CACK, tagged);
	else if (strcmp(event, "ACK") == 0)
		say((struct kvi_message){ .type = KVI_MESSAGE_ACK, .ack.seq = seq });
	else if (strcmp(event, "START") == 0)
		say_start(seq, tagged->len);
	else if (strcmp(event, "LONG") == 0)
		say_start(seq, tagged->len + 1);
	else if (strcmp(event, "EAGER") == 0)
		say((struct kvi_message){ .type = KVI_MESSAGE_EAGER,
					  .eager = { .seq = seq, .data = { bytes, SMALL } } });
	else if (strcmp(event, "FIN") == 0)
		say((struct kvi_message){ .type = KVI_MESSAGE_FIN,
					  .fin = { seq, tagged->generation, tagged->len } });
	else if (strcmp(event, "ABORT") == 0)
		say((struct kvi_message){ .type = KVI_MESSAGE_ABORT,
					  .abort = { .seq = seq, .code = KVT_E_CANCELLED } });
	else
		ck_abort_msg("an event that nobody knows: %s", event);
}

static void happen(const char *event)
{
	if (strcmp(event, "first") == 0)
		return; /* it has been, when it was started */
	if (strcmp(event, "room") == 0 || strcmp(event, "room_and_CTS") == 0)
		give_room();
	else if (strcmp(event, "give_up") == 0)
		give_up(&tagged->transfer);
	else if (strcmp(event, "written") == 0)
		fake_hold(0);
	else if (strcmp(event, "put_back") == 0)
		put_back();
	else
		say_event(event);
}

/* ---- a path ---- */

/* It happens by what happened before it. */
static bool is_implied(const struct row *row)
{
	return strcmp(row->event, "all_posted") == 0;
}

static void open_all(bool ordered)
{
	struct kvt_engine_config config = make_config();
	struct kvi_caps caps = fake_get_default_caps();
	caps.send_after_write = ordered;
	fake_set_caps(&caps);
	bed = (struct bed){ .live = failing_alloc_get_live() };
	bed.near.engine = open_engine(&config);
	fall_silent(bed.near.engine); /* nobody talks to it yet */
	bed.far.engine = open_engine(&config);
	bed_connect(&bed);
	kv = open_kv(bed.far.conn, TAG);
	memory = make_filled(2 * LARGE, 1);
	peer_memory = make_filled(LARGE, 0);
	ck_assert_int_eq(kvi_registration_open(bed.near.conn, peer_memory, LARGE,
					       KVI_ACCESS_REMOTE_WRITE, &peer_registration, NULL),
			 KVT_OK);
	link = &bed.far.conn->links[0];
	transfer_count = 0;
	said_on(link);
	fake_hold(FAKE_WRITE);
	fake_trickle(true);
}

static void close_all(void)
{
	fake_hold(0);
	kvi_conn_fail(bed.far.conn, KVT_E_CANCELLED, 0, "the path is at its end");
	for (unsigned i = 0; i < transfer_count; i++) {
		await_end(transfers[i]);
		kvt_transfer_free(transfers[i]);
	}
	said_on(NULL);
	kvt_kv_close(kv);
	kvi_registration_close(peer_registration);
	bed_close(&bed);
	free(memory);
	free(peer_memory);
}

/* Of the kind that goes this way. */
static void start(const struct path *path)
{
	const struct row *first = path->rows[0];
	if (strcmp(first->side, "send") == 0) {
		if (strcmp(first->event, "room_and_CTS") == 0)
			say_cts(LARGE);
		take_room();
		begin(start_send(kv, memory, strcmp(first->to, "EAGER") == 0 ? SMALL : LARGE));
	} else if (path_has_event(path, "put_back")) {
		say_start(0, LARGE);
		begin(start_recv(kv, memory, LARGE));
		said_forget();
		begin(start_recv(kv, memory + LARGE, LARGE));
	} else {
		begin(start_recv(kv, memory, strcmp(first->event, "first") == 0 ? LARGE : SMALL));
	}
}

/* A moment's state, and what was said until then. */
static void look(char *state, char *says)
{
	kvi_worker_lock(link->shard->worker);
	format_state(state);
	said_format(says);
	kvi_worker_unlock(link->shard->worker);
}

/* A receive that is free for it takes the message that was put back at once. */
static const struct row *get_next(const struct path *path, unsigned i)
{
	if (i + 1 < path->len)
		return is_implied(path->rows[i + 1]) ? path->rows[i + 1] : NULL;
	static const struct row takes = { "recv", "QUEUED", "START", "MATCHED", "CTS" };
	bool is_free = strcmp(path->rows[i]->to, "QUEUED") == 0;
	return is_free ? &takes : NULL;
}

static void walk(const struct path *path)
{
	open_all(path_has_event(path, "all_posted"));
	start(path);
	for (unsigned i = 0; i < path->len; i++) {
		const struct row *row = path->rows[i], *next = get_next(path, i);
		char says[ROW_TEXT_LEN] = "";
		if (is_implied(row))
			continue;
		if (strcmp(row->event, "first") != 0)
			said_forget();
		happen(row->event);
		row_add_says(says, row->says);
		if (next != NULL)
			row_add_says(says, next->says);
		row_expect(row, next != NULL ? next->to : row->to, says, look);
	}
	close_all();
}

START_TEST(a_transfer_does_in_each_state_what_the_list_says)
{
	rows_walk("send", walk);
	rows_walk("recv", walk);
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("transitions");
	tcase_set_timeout(tests, 120);
	tcase_add_test(tests, a_transfer_does_in_each_state_what_the_list_says);
	return run_tests("engine_transitions", tests);
}
