/* SPDX-License-Identifier: Apache-2.0 */
/*
 * read_request.c - both sides of reading packed blocks.
 *
 * Design notes. The owner copies blocks out under its worker's lock, as unpacking copies them in, so a
 * withdrawal that has taken every worker's lock once knows that nobody reads the pool for a peer any
 * more. What the NIC reads after that is the pack.
 */
#include "engine/paged/read_request.h"

#include <string.h>

#include "base/alloc.h"
#include "base/copy.h"
#include "base/sum.h"
#include "engine/core/conn.h"
#include "engine/core/engine.h"
#include "engine/lane/link.h"
#include "engine/paged/check.h"
#include "engine/paged/paged.h"
#include "engine/paged/pool.h"
#include "engine/paged/exports.h"
#include "engine/paged/staging.h"

/* A read request of the peer's. It is in staging->incoming until its answer is posted. */
struct incoming {
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
	const struct kvi_read_request *read_request = segment->cargo;
	struct kvi_message message = {
		.type = KVI_MESSAGE_READ,
		.read = {
			.number = (uint64_t)(segment - segment->link->segments),
			.export_id = read_request->pair->remote->id,
			.spans = { read_request->spans, read_request->span_count * KVI_WIRE_SPAN_LEN },
		},
	};
	kvi_link_send_now(segment->link, &message);
}

static void free_read_request(struct kvi_segment *segment)
{
	kvi_free(segment->cargo);
}

const struct kvi_cargo_kind kvi_read_request_cargo = {
	.on_posted = ask,
	.release = free_read_request,
};

size_t kvi_read_request_take(const struct kvi_read_request *read_request, struct kvi_cursor *cursor,
			     size_t done, struct kvi_piece *pieces)
{
	/* Cut as it was cut off, and as many: nothing else bounds them. */
	const struct kvi_pair *pair = read_request->pair;
	struct kvi_taking taking = {
		.piece_max = pair->paged->segment_len,
		.below = SIZE_MAX,
		.limit = SIZE_MAX,
	};
	size_t left = read_request->span_count - done;
	return kvi_plan_take(&pair->plan, cursor, &taking, pieces,
			     left < KVI_PIECES ? left : KVI_PIECES);
}

static void unpack_answer(const struct kvi_read_request *read_request, const uint8_t *buffer)
{
	uint8_t *const *bases = read_request->pair->pool->bases;
	struct kvi_cursor cursor = read_request->from;
	struct kvi_piece pieces[KVI_PIECES];
	size_t done = 0, taken;
	for (; (taken = kvi_read_request_take(read_request, &cursor, done, pieces)) > 0;
	     done += taken)
		for (size_t i = 0; i < taken; i++) {
			const struct kvi_piece *piece = &pieces[i];
			kvi_copy_past(bases[piece->local_extent] + piece->local_offset, buffer,
				      piece->len);
			buffer += piece->len;
		}
}

/* NULL: there is no such read request. */
static struct kvi_segment *find_read_request(const struct kvi_link *link, uint64_t number)
{
	if (link->segments == NULL || number >= KVI_SEGMENTS)
		return NULL;
	struct kvi_segment *segment = &link->segments[number];
	return segment->cargo_kind == &kvi_read_request_cargo && segment->awaits_ack ? segment
										     : NULL;
}

enum kvt_err kvi_read_request_on_filled(struct kvi_link *link, const struct kvi_message *message)
{
	struct kvi_segment *segment = find_read_request(link, message->filled.number);
	if (segment == NULL || message->filled.buffer >= KVI_STAGING_BUFFERS)
		return KVT_E_PROTOCOL;
	const uint8_t *buffer = kvi_staging_get_buffer(link, message->filled.buffer);
	if (message->has_sum && kvi_sum(buffer, segment->asked_len, 0) != message->sum) {
		kvi_check_fail(segment, "an answer to a read request");
		kvi_staging_complain(link, message->filled.buffer);
	} else {
		/* A transfer that is being given up has not ended, so its memory may be written. */
		unpack_answer(segment->cargo, buffer);
	}
	kvi_staging_release_buffer(link);
	kvi_segment_on_ack(segment);
	return KVT_OK;
}

enum kvt_err kvi_read_request_on_dropped(struct kvi_link *link, const struct kvi_message *message)
{
	struct kvi_segment *segment = find_read_request(link, message->dropped.number);
	if (segment == NULL)
		return KVT_E_PROTOCOL;
	const struct kvi_read_request *read_request = segment->cargo;
	struct kvi_paged *paged = read_request->pair->paged;
	atomic_store(&paged->dropped, true);
	atomic_store(&paged->spread.exhausted, true);
	kvi_segment_on_ack(segment);
	return KVT_OK;
}

/* ---- the owner ---- */

static void free_incoming(struct incoming *incoming)
{
	incoming->link->staging->incoming_count--;
	kvi_list_remove(&incoming->node);
	kvi_free(incoming);
}

enum kvt_err kvi_read_request_on_read(struct kvi_link *link, const struct kvi_message *message)
{
	struct kvi_staging *staging = link->staging;
	const struct kvi_view *spans = &message->read.spans;
	/* It may ask after it has offered staging buffers, and not for more at a time than anybody
	 * has segments. */
	if (staging == NULL || staging->buffer_len == 0 ||
	    staging->incoming_count >= KVI_STAGING_BUFFERS_MAX || spans->len == 0 ||
	    spans->len % KVI_WIRE_SPAN_LEN != 0)
		return KVT_E_PROTOCOL;
	struct incoming *incoming = kvi_alloc(sizeof(*incoming) + spans->len);
	if (incoming == NULL)
		return KVT_E_NO_MEMORY;
	incoming->link = link;
	incoming->number = message->read.number;
	incoming->export_id = message->read.export_id;
	incoming->span_count = (uint32_t)(spans->len / KVI_WIRE_SPAN_LEN);
	memcpy(incoming->spans, spans->bytes, spans->len);
	kvi_list_init(&incoming->node);
	kvi_list_append(&staging->incoming, &incoming->node);
	staging->incoming_count++;
	kvi_link_touch(link);
	return KVT_OK;
}

/* Where a block is that was asked for; NULL: the peer asked for what is not there. */
static const uint8_t *place(const struct incoming *incoming, const struct kvt_export *exported,
			    uint32_t number, size_t *len)
{
	struct kvi_wire_span span;
	kvi_wire_span_decode(incoming->spans + (size_t)number * KVI_WIRE_SPAN_LEN, &span);
	*len = span.len;
	return kvi_pool_place(exported->pool, &span);
}

/* False: the peer asked for what is not there. */
static bool fill(const struct incoming *incoming, const struct kvt_export *exported)
{
	struct kvi_pack *pack = incoming->pack;
	size_t room = incoming->link->staging->buffer_len, len, next_len = 0;
	const uint8_t *from = place(incoming, exported, 0, &len);
	for (uint32_t i = 0; i < incoming->span_count; i++) {
		if (from == NULL || len > room - pack->len)
			return false;
		bool is_last = i + 1 == incoming->span_count;
		const uint8_t *next = is_last ? NULL : place(incoming, exported, i + 1, &next_len);
		if (next != NULL && len >= KVI_COPY_PAGE && next_len <= room)
			kvi_copy_expect(next, next_len);
		kvi_copy(pack->bytes + pack->len, from, len);
		pack->len += len;
		from = next;
		len = next_len;
	}
	return true;
}

static void on_answer_written(struct kvi_post *post, const struct kvi_completion *completion)
{
	struct incoming *incoming = kvi_container_of(post, struct incoming, post);
	struct kvi_link *link = incoming->link;
	link->shard->posted--;
	if (completion->err != KVT_OK && completion->err != KVT_E_CANCELLED)
		kvi_link_fail(link, completion->err, completion->provider_errno, "a write");
	kvi_staging_put(link, incoming->pack);
	free_incoming(incoming);
}

static void tell_filled(const struct incoming *incoming)
{
	struct kvi_link *link = incoming->link;
	struct kvi_message filled = {
		.type = KVI_MESSAGE_FILLED,
		.has_sum = link->conn->has_sums,
		.sum = incoming->pack->sum,
		.filled = { .number = incoming->number, .buffer = incoming->pack->buffer },
	};
	kvi_link_send_now(link, &filled);
}

/* Write the pack into its staging buffer. KVT_E_AGAIN: there is no room now. */
static enum kvt_err post_answer(struct incoming *incoming)
{
	struct kvi_link *link = incoming->link;
	struct kvi_span span;
	if (kvi_staging_is_common(link)) {
		tell_filled(incoming);
		free_incoming(incoming);
		return KVT_OK;
	}
	kvi_staging_fill_span(link, incoming->pack, &span);
	incoming->post.op.context = &incoming->post;
	incoming->post.on_done = on_answer_written;
	enum kvt_err err =
		kvi_lane_post_write(link->lane, &incoming->post.op, &span, 1, KVI_POSTED);
	if (err == KVT_OK) {
		link->shard->posted++;
		kvi_list_remove(&incoming->node);
		tell_filled(incoming);
	} else if (err == KVT_E_AGAIN) {
		kvi_link_retry(link);
	} else {
		kvi_link_fail(link, err, 0, "a write");
	}
	return err;
}

/* Pack what the oldest read request names. False: there is no room, or the peer broke the
 * protocol. */
static bool pack_answer(struct incoming *incoming)
{
	struct kvi_link *link = incoming->link;
	struct kvt_export *exported = kvi_export_find(link->conn, incoming->export_id);
	if (exported == NULL) {
		struct kvi_message dropped = { .type = KVI_MESSAGE_DROPPED,
					       .dropped.number = incoming->number };
		kvi_link_send_now(link, &dropped);
		free_incoming(incoming);
		return true;
	}
	incoming->pack = kvi_staging_take(link);
	if (incoming->pack == NULL)
		return false;
	if ((exported->access & KVT_ACCESS_READ) != 0 && fill(incoming, exported)) {
		if (link->conn->has_sums)
			incoming->pack->sum =
				kvi_sum(incoming->pack->bytes, incoming->pack->len, 0);
		return true;
	}
	kvi_conn_fail(link->conn, KVT_E_PROTOCOL, 0,
		      "the peer asked for memory that it may not read");
	return false;
}

bool kvi_read_requests_pump(struct kvi_link *link, bool *did)
{
	struct kvi_list *node;
	while (link->staging != NULL &&
	       (node = kvi_list_get_first(&link->staging->incoming)) != NULL) {
		struct incoming *incoming = kvi_container_of(node, struct incoming, node);
		if (incoming->pack == NULL) {
			if (!pack_answer(incoming))
				return true;
			continue;
		}
		if (post_answer(incoming) != KVT_OK)
			return false;
		*did = true;
	}
	return true;
}

void kvi_read_requests_free(struct kvi_staging *staging)
{
	struct kvi_list *node;
	while ((node = kvi_list_take_first(&staging->incoming)) != NULL)
		kvi_free(kvi_container_of(node, struct incoming, node));
}
