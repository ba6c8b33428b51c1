/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ask.c - both sides of reading packed blocks.
 *
 * Design notes. The owner copies blocks out under its worker's lock, as unpacking copies them in, so a
 * withdrawal that has taken every worker's lock once knows that nobody reads the pool for a peer any
 * more. What the NIC reads after that is the pack.
 */
#include "engine/paged/ask.h"

#include <string.h>

#include "base/alloc.h"
#include "base/copy.h"
#include "engine/core/conn.h"
#include "engine/core/engine.h"
#include "engine/lane/link.h"
#include "engine/paged/paged.h"
#include "engine/paged/pool.h"
#include "engine/paged/share.h"
#include "engine/paged/stage.h"

/* A question of the peer's. It is in stage->asked until its answer is posted. */
struct asked {
	struct kvi_post post;
	struct kvi_list node;
	struct kvi_link *link;
	struct kvi_pack *pack; /* filled, and to be written; NULL: not yet */
	uint64_t number;
	uint64_t export_id;
	uint32_t span_count;
	uint8_t spans[];
};

/* ---- the reader ---- */

static void ask(struct kvi_segment *segment)
{
	const struct kvi_question *question = segment->cargo;
	struct kvi_message message = {
		.type = KVI_MESSAGE_READ,
		.read = {
			.number = (uint64_t)(segment - segment->link->segments),
			.export_id = question->pair->remote->id,
			.spans = { question->spans, question->span_count * KVI_WIRE_SPAN_LEN },
		},
	};
	kvi_link_send_now(segment->link, &message);
}

static void free_question(struct kvi_segment *segment)
{
	kvi_free(segment->cargo);
}

const struct kvi_cargo_kind kvi_question_cargo = {
	.on_posted = ask,
	.release = free_question,
};

static void unpack(const struct kvi_question *question, const uint8_t *slot)
{
	const struct kvi_pair *pair = question->pair;
	struct kvi_cursor cursor = question->from;
	for (uint32_t i = 0; i < question->span_count; i++) {
		struct kvi_piece piece;
		kvi_plan_peek(&pair->plan, &cursor, pair->paged->segment_len, &piece);
		kvi_copy(pair->pool->bases[piece.local_extent] + piece.local_offset, slot,
			 piece.len);
		slot += piece.len;
		kvi_plan_advance(&pair->plan, &cursor, piece.len);
	}
}

/* NULL: there is no such question. */
static struct kvi_segment *find_question(const struct kvi_link *link, uint64_t number)
{
	if (link->segments == NULL || number >= KVI_SEGMENTS)
		return NULL;
	struct kvi_segment *segment = &link->segments[number];
	return segment->cargo_kind == &kvi_question_cargo && segment->awaits_ack ? segment : NULL;
}

enum kvt_err kvi_ask_on_filled(struct kvi_link *link, const struct kvi_message *message)
{
	struct kvi_segment *segment = find_question(link, message->filled.number);
	if (segment == NULL || message->filled.slot >= KVI_SLOTS)
		return KVT_E_PROTOCOL;
	/* A transfer that is being given up has not ended, so its memory may be written. */
	unpack(segment->cargo, kvi_stage_get_slot(link, message->filled.slot));
	kvi_stage_release_slot(link);
	kvi_segment_on_ack(segment);
	return KVT_OK;
}

enum kvt_err kvi_ask_on_dropped(struct kvi_link *link, const struct kvi_message *message)
{
	struct kvi_segment *segment = find_question(link, message->dropped.number);
	if (segment == NULL)
		return KVT_E_PROTOCOL;
	const struct kvi_question *question = segment->cargo;
	struct kvi_paged *paged = question->pair->paged;
	atomic_store(&paged->dropped, true);
	atomic_store(&paged->spread.exhausted, true);
	kvi_segment_on_ack(segment);
	return KVT_OK;
}

/* ---- the owner ---- */

static void free_asked(struct asked *asked)
{
	asked->link->stage->asked_count--;
	kvi_list_remove(&asked->node);
	kvi_free(asked);
}

enum kvt_err kvi_ask_on_read(struct kvi_link *link, const struct kvi_message *message)
{
	struct kvi_stage *stage = link->stage;
	const struct kvi_view *spans = &message->read.spans;
	/* It may ask after it has offered slots, and not for more at a time than anybody has segments. */
	if (stage == NULL || stage->slot_len == 0 || stage->asked_count >= KVI_SLOTS_MAX ||
	    spans->len == 0 || spans->len % KVI_WIRE_SPAN_LEN != 0)
		return KVT_E_PROTOCOL;
	struct asked *asked = kvi_alloc(sizeof(*asked) + spans->len);
	if (asked == NULL)
		return KVT_E_NO_MEMORY;
	asked->link = link;
	asked->number = message->read.number;
	asked->export_id = message->read.export_id;
	asked->span_count = (uint32_t)(spans->len / KVI_WIRE_SPAN_LEN);
	memcpy(asked->spans, spans->bytes, spans->len);
	kvi_list_init(&asked->node);
	kvi_list_append(&stage->asked, &asked->node);
	stage->asked_count++;
	kvi_link_touch(link);
	return KVT_OK;
}

/* Where a block is that was asked for; NULL: the peer asked for what is not there. */
static const uint8_t *place(const struct asked *asked, const struct kvt_export *exported,
			    uint32_t number, size_t *len)
{
	struct kvi_wire_span span;
	kvi_wire_span_decode(asked->spans + (size_t)number * KVI_WIRE_SPAN_LEN, &span);
	*len = span.len;
	return kvi_pool_place(exported->pool, &span);
}

/* False: the peer asked for what is not there. */
static bool fill(const struct asked *asked, const struct kvt_export *exported)
{
	struct kvi_pack *pack = asked->pack;
	size_t room = asked->link->stage->slot_len;
	for (uint32_t i = 0; i < asked->span_count; i++) {
		size_t len, next_len;
		const uint8_t *from = place(asked, exported, i, &len), *next;
		if (from == NULL || len > room - pack->len)
			return false;
		if (len >= KVI_COPY_PAGE && i + 1 < asked->span_count &&
		    (next = place(asked, exported, i + 1, &next_len)) != NULL && next_len <= room)
			kvi_copy_expect(next, next_len);
		kvi_copy(pack->bytes + pack->len, from, len);
		pack->len += len;
	}
	return true;
}

static void on_written(struct kvi_post *post, const struct kvi_completion *completion)
{
	struct asked *asked = kvi_container_of(post, struct asked, post);
	struct kvi_link *link = asked->link;
	link->part->posted--;
	if (completion->err != KVT_OK && completion->err != KVT_E_CANCELLED)
		kvi_link_fail(link, completion->err, completion->provider_errno, "a write");
	kvi_stage_put(link, asked->pack);
	free_asked(asked);
}

/* Write the pack into its slot. KVT_E_AGAIN: there is no room now. */
static enum kvt_err post_answer(struct asked *asked)
{
	struct kvi_link *link = asked->link;
	struct kvi_span span;
	kvi_stage_fill_span(link, asked->pack, &span);
	asked->post.op.context = &asked->post;
	asked->post.on_done = on_written;
	enum kvt_err err = kvi_lane_post_write(link->lane, &asked->post.op, &span, 1, KVI_POSTED);
	if (err == KVT_OK) {
		link->part->posted++;
		kvi_list_remove(&asked->node);
		struct kvi_message filled = {
			.type = KVI_MESSAGE_FILLED,
			.filled = { .number = asked->number, .slot = asked->pack->slot },
		};
		kvi_link_send_now(link, &filled);
	} else if (err == KVT_E_AGAIN) {
		kvi_link_retry(link);
	} else {
		kvi_link_fail(link, err, 0, "a write");
	}
	return err;
}

/* Pack what the oldest question asks for. False: there is no room, or the peer broke the protocol. */
static bool prepare(struct asked *asked)
{
	struct kvi_link *link = asked->link;
	struct kvt_export *exported = kvi_export_find(link->conn, asked->export_id);
	if (exported == NULL) {
		struct kvi_message dropped = { .type = KVI_MESSAGE_DROPPED,
					       .dropped.number = asked->number };
		kvi_link_send_now(link, &dropped);
		free_asked(asked);
		return true;
	}
	asked->pack = kvi_stage_take(link);
	if (asked->pack == NULL)
		return false;
	if ((exported->access & KVT_ACCESS_READ) != 0 && fill(asked, exported))
		return true;
	kvi_conn_fail(link->conn, KVT_E_PROTOCOL, 0,
		      "the peer asked for memory that it may not read");
	return false;
}

bool kvi_asked_pump(struct kvi_link *link, bool *did)
{
	struct kvi_list *node;
	while (link->stage != NULL && (node = kvi_list_get_first(&link->stage->asked)) != NULL) {
		struct asked *asked = kvi_container_of(node, struct asked, node);
		if (asked->pack == NULL) {
			if (!prepare(asked))
				return true;
			continue;
		}
		if (post_answer(asked) != KVT_OK)
			return false;
		*did = true;
	}
	return true;
}

void kvi_asked_free(struct kvi_stage *stage)
{
	struct kvi_list *node;
	while ((node = kvi_list_take_first(&stage->asked)) != NULL)
		kvi_free(kvi_container_of(node, struct asked, node));
}
