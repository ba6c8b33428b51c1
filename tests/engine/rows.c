/* SPDX-License-Identifier: Apache-2.0 */
/* rows.c - reading transitions.list, finding ways through it, and noting what is said. */
#include "rows.h"

#include <stdio.h>
#include <stdlib.h>

#include "engine/core/engine.h"
#include "engine/messages.h"

enum { ROWS_MAX = 160, SAID_MAX = 8 };

static struct row rows[ROWS_MAX];
static unsigned row_count;

static struct kvi_link *said_link;
static enum kvi_message_type said[SAID_MAX];
static unsigned said_count; /* under its worker's lock */
static uint64_t attach_number;

__typeof__(kvi_link_send) __real_kvi_link_send, __wrap_kvi_link_send;
__typeof__(kvi_link_send_unlocked) __real_kvi_link_send_unlocked, __wrap_kvi_link_send_unlocked;
__typeof__(kvi_link_try_send) __real_kvi_link_try_send, __wrap_kvi_link_try_send;

/* ---- the list ---- */

static void read_rows(void)
{
	const char *srcdir = getenv("srcdir");
	char path[4096], line[ROW_TEXT_LEN];
	snprintf(path, sizeof(path), "%s/tests/model/transitions.list",
		 srcdir == NULL ? "." : srcdir);
	FILE *file = fopen(path, "r");
	ck_assert_msg(file != NULL, "no %s: srcdir is not set?", path);
	row_count = 0;
	while (fgets(line, sizeof(line), file) != NULL) {
		struct row *row = &rows[row_count];
		if (line[0] == '#' || line[0] == '\n')
			continue;
		ck_assert_uint_lt(row_count, ROWS_MAX - 1);
		ck_assert_int_eq(sscanf(line, "%47s %47s %47s %47s %47s", row->side, row->from,
					row->event, row->to, row->says),
				 5);
		row_count++;
	}
	fclose(file);
}

static bool is_of_side(const struct row *row, const char *side)
{
	return strcmp(row->side, side) == 0;
}

/* A side begins where its first row does. */
static bool is_start(const struct row *row)
{
	const struct row *first = rows;
	while (!is_of_side(first, row->side))
		first++;
	return strcmp(row->from, first->from) == 0;
}

/* The fewest rows that end with this one: each longer by one than before, until it is there. */
static bool find_path(const struct row *row, unsigned max_len, struct path *path)
{
	if (max_len == 0)
		return false;
	path->len = 0;
	if (!is_start(row)) {
		bool found = false;
		for (unsigned i = 0; i < row_count && !found; i++)
			found = is_of_side(&rows[i], row->side) &&
				strcmp(rows[i].to, row->from) == 0 &&
				strcmp(rows[i].from, row->from) != 0 &&
				find_path(&rows[i], max_len - 1, path);
		if (!found)
			return false;
	}
	path->rows[path->len++] = row;
	return true;
}

void rows_walk(const char *side, void (*walk)(const struct path *path))
{
	unsigned walked = 0;
	read_rows();
	for (unsigned i = 0; i < row_count; i++) {
		struct path path;
		bool found = false;
		if (!is_of_side(&rows[i], side))
			continue;
		for (unsigned len = 1; len <= ROW_PATH_LEN && !found; len++)
			found = find_path(&rows[i], len, &path);
		ck_assert_msg(found, "no way leads to %s %s %s", rows[i].side, rows[i].from,
			      rows[i].event);
		walk(&path);
		walked++;
	}
	ck_assert_uint_gt(walked, 4);
}

bool path_has_event(const struct path *path, const char *event)
{
	for (unsigned i = 0; i < path->len; i++)
		if (strcmp(path->rows[i]->event, event) == 0)
			return true;
	return false;
}

void row_add_says(char *text, const char *says)
{
	if (strcmp(says, "-") != 0)
		snprintf(text + strlen(text), ROW_TEXT_LEN - strlen(text), "%s%s",
			 text[0] != '\0' ? "," : "", says);
}

void row_expect(const struct row *row, const char *to, const char *says,
		void (*look)(char *state, char *says))
{
	char state[ROW_TEXT_LEN], heard[ROW_TEXT_LEN];
	int64_t deadline_ns = kvi_deadline_after(BED_PATIENCE_NS);
	look(state, heard);
	while ((strcmp(state, to) != 0 || strcmp(heard, says) != 0) &&
	       kvi_clock_now() < deadline_ns) {
		rest(KVI_MS / 4); /* writes land, and workers run, when they like */
		look(state, heard);
	}
	ck_assert_msg(strcmp(state, to) == 0 && strcmp(heard, says) == 0,
		      "%s %s %s: it is %s and has said %s, instead of %s and %s", row->side,
		      row->from, row->event, state, heard, to, says);
}

/* ---- what is said ---- */

static const char *get_name(enum kvi_message_type type)
{
	static const char *const names[] = {
		[KVI_MESSAGE_EAGER] = "EAGER",	     [KVI_MESSAGE_START] = "START",
		[KVI_MESSAGE_CTS] = "CTS",	     [KVI_MESSAGE_FIN] = "FIN",
		[KVI_MESSAGE_ACK] = "ACK",	     [KVI_MESSAGE_CANCEL] = "CANCEL",
		[KVI_MESSAGE_CACK] = "CACK",	     [KVI_MESSAGE_ABORT] = "ABORT",
		[KVI_MESSAGE_REFUSED] = "REFUSED",   [KVI_MESSAGE_ATTACH] = "ATTACH",
		[KVI_MESSAGE_ATTACHED] = "ATTACHED", [KVI_MESSAGE_NO_EXPORT] = "NO_EXPORT",
		[KVI_MESSAGE_WITHDRAW] = "WITHDRAW", [KVI_MESSAGE_WITHDRAWN] = "WITHDRAWN",
		[KVI_MESSAGE_SYNC] = "SYNC",
	};
	bool is_known = type < sizeof(names) / sizeof(names[0]) && names[type] != NULL;
	ck_assert_msg(is_known, "a message of no row was said: type %d", (int)type);
	return names[type];
}

static void note_said(const struct kvi_link *to, const struct kvi_message *message)
{
	if (to != said_link)
		return;
	ck_assert_uint_lt(said_count, SAID_MAX);
	said[said_count++] = message->type;
	if (message->type == KVI_MESSAGE_ATTACH)
		attach_number = message->attach.number;
}

void __wrap_kvi_link_send(struct kvi_link *to, struct kvi_message *message)
{
	note_said(to, message);
	__real_kvi_link_send(to, message);
}

void __wrap_kvi_link_send_unlocked(struct kvi_link *to, struct kvi_message *message)
{
	kvi_worker_lock(to->shard->worker);
	note_said(to, message);
	kvi_worker_unlock(to->shard->worker);
	__real_kvi_link_send_unlocked(to, message);
}

bool __wrap_kvi_link_try_send(struct kvi_link *to, struct kvi_message *message)
{
	bool did = __real_kvi_link_try_send(to, message);
	if (did)
		note_said(to, message);
	return did;
}

void said_on(struct kvi_link *link)
{
	said_link = link;
	said_count = 0;
}

void said_forget(void)
{
	kvi_worker_lock(said_link->shard->worker);
	said_count = 0;
	kvi_worker_unlock(said_link->shard->worker);
}

void said_format(char *text)
{
	text[0] = '\0';
	for (unsigned i = 0; i < said_count; i++)
		row_add_says(text, get_name(said[i]));
}

uint64_t said_get_attach(void)
{
	kvi_worker_lock(said_link->shard->worker);
	uint64_t number = attach_number;
	kvi_worker_unlock(said_link->shard->worker);
	return number;
}

static enum kvt_err take_silently(struct kvi_link *of, const struct kvi_message *message)
{
	return message->type == KVI_MESSAGE_LANE_END
		       ? kvi_message_handlers.take[message->type](of, message)
		       : KVT_OK;
}

void fall_silent(struct kvt_engine *engine)
{
	static struct kvi_handlers silent;
	silent = kvi_message_handlers;
	for (unsigned i = 0; i <= KVI_MESSAGE_LAST; i++)
		if (silent.take[i] != NULL)
			silent.take[i] = take_silently;
	engine->handlers = &silent;
}
