/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pages.c - the segments of a paged transfer: pieces of the plan, each written or read in place, or many
 * of them copied into one pack.
 *
 * Design notes. Lanes of several workers take from one cursor. What is copied is copied without its
 * lock: a pack is cut off the plan first, which writes its spans and notes where their bytes are.
 */
#include "engine/paged/paged.h"

#include <string.h>

#include "base/alloc.h"
#include "base/copy.h"
#include "base/sum.h"
#include "engine/core/conn.h"
#include "engine/core/engine.h"
#include "engine/paged/check.h"
#include "engine/paged/grid.h"
#include "engine/paged/read_request.h"
#include "engine/paged/pool.h"
#include "engine/paged/exports.h"
#include "engine/paged/staging.h"

static uint8_t *get_local(const struct kvi_pair *pair, const struct kvi_piece *piece)
{
	return pair->pool->bases[piece->local_extent] + piece->local_offset;
}

/* The pair that the cursor is in; under the plan's lock, not at the end. */
static struct kvi_pair *get_pair(const struct kvi_paged *paged)
{
	return &paged->pairs[paged->pair];
}

/* Go on to the next pair that has something left, or to the end. */
static void leave_finished_pairs(struct kvi_paged *paged)
{
	while (paged->pair < paged->pair_count &&
	       kvi_cursor_is_at_end(&get_pair(paged)->plan, &paged->cursor)) {
		paged->pair++;
		paged->cursor = (struct kvi_cursor){ .extent = 0 };
	}
}

static bool is_packed(const struct kvi_paged *paged, const struct kvi_piece *piece)
{
	return piece->len < paged->pack_below;
}

/* What may be cut off for one pack: limit bytes, span_len for each piece included, but one piece in any case. */
static struct kvi_taking begin_taking(const struct kvi_paged *paged, size_t limit, size_t span_len)
{
	return (struct kvi_taking){
		.piece_max = paged->segment_len,
		.below = paged->pack_below,
		.limit = limit,
		.overhead = span_len,
	};
}

/* Cut off what fills a pack: its spans are written, and where their bytes are is noted in sources; under the
 * plan's lock. */
static void cut_spans(struct kvi_paged *paged, struct kvi_pack *pack, struct kvi_sources *sources,
		      size_t limit)
{
	const struct kvi_pair *pair = get_pair(paged);
	uint8_t *const *bases = pair->pool->bases;
	uint8_t *const spans = pack->bytes;
	struct kvi_taking taking = begin_taking(paged, limit, KVI_WIRE_SPAN_LEN);
	struct kvi_piece pieces[KVI_PIECES];
	size_t taken;
	do {
		size_t from = taking.count, left = KVI_PACK_SPANS_MAX - from;
		taken = kvi_plan_take(&pair->plan, &paged->cursor, &taking, pieces,
				      left < KVI_PIECES ? left : KVI_PIECES);
		for (size_t i = 0; i < taken; i++) {
			const struct kvi_piece *piece = &pieces[i];
			kvi_pages_encode_span(piece, spans + (from + i) * KVI_WIRE_SPAN_LEN);
			sources->bytes[from + i] = bases[piece->local_extent] + piece->local_offset;
			sources->lens[from + i] = piece->len;
		}
	} while (taken == KVI_PIECES);
	pack->span_count = (uint32_t)taking.count;
	pack->len = kvi_pack_get_offset(taking.count, KVI_WIRE_SPAN_LEN) + taking.len;
}

/* Copy what was cut off: the spans are in front, the bytes go behind them. The gap between is cleared: it is
 * sent, and the buffer is memory that held something else. */
static void fill_pack(struct kvi_pack *pack, const struct kvi_sources *sources)
{
	const size_t name_len = kvi_pack_get_name_len(&pack->grid);
	const size_t offset = kvi_pack_get_offset(pack->span_count, name_len);
	const size_t names_len = pack->span_count * name_len;
	uint8_t *to = pack->bytes + offset;
	memset(pack->bytes + names_len, 0, offset - names_len);
	if (pack->grid.block_len > 0) {
		kvi_grid_fill(pack, sources->bytes);
		return;
	}
	for (uint32_t i = 0; i < pack->span_count; i++) {
		size_t len = sources->lens[i];
		if (len >= KVI_COPY_PAGE && i + 1 < pack->span_count)
			kvi_copy_expect(sources->bytes[i + 1], sources->lens[i + 1]);
		kvi_copy(to, sources->bytes[i], len);
		to += len;
	}
}

/* Fill in spans to write or read in place, and check, unless it is NULL; under the plan's lock. */
static void take_spans(struct kvi_paged *paged, struct kvi_segment *segment, size_t max_count,
		       struct kvi_check *check)
{
	const struct kvi_pair *pair = get_pair(paged);
	struct kvi_piece piece;
	size_t left = kvi_link_get_segment_len(segment->link, paged->segment_len);
	segment->span_count = 0;
	while (left > 0 && segment->span_count < max_count &&
	       !kvi_cursor_is_at_end(&pair->plan, &paged->cursor)) {
		kvi_plan_peek(&pair->plan, &paged->cursor, left, &piece);
		if (segment->span_count > 0 && is_packed(paged, &piece))
			return;
		if (check != NULL)
			kvi_pages_encode_span(&piece, check->spans + check->span_count++ *
									     KVI_WIRE_SPAN_LEN);
		struct kvi_rkey remote =
			kvi_remote_get_rkey(pair->remote, piece.remote_extent, segment->link);
		remote.address += piece.remote_offset;
		segment->spans[segment->span_count++] = (struct kvi_span){
			.base = get_local(pair, &piece),
			.len = piece.len,
			.memory =
				kvi_pool_get_memory(pair->pool, piece.local_extent, segment->link),
			.remote = remote,
		};
		left -= piece.len;
		kvi_plan_advance(&pair->plan, &paged->cursor, piece.len);
	}
}

static enum kvi_segment_kind get_kind(const struct kvi_paged *paged)
{
	if (paged->direction == KVT_READ)
		return KVI_SEGMENT_READ;
	return paged->in_order ? KVI_SEGMENT_ORDERED : KVI_SEGMENT_WRITE;
}

/* Cut off what one operation moves in place; under the plan's lock. */
static enum kvi_taken cut_operation(struct kvi_paged *paged, struct kvi_segment *segment)
{
	struct kvt_conn *conn = segment->link->conn;
	struct kvi_check *check = NULL;
	if (conn->has_sums) {
		check = kvi_alloc(sizeof(*check));
		if (check == NULL) {
			kvi_conn_fail(conn, KVT_E_NO_MEMORY, 0, "no memory to check blocks");
			return KVI_TAKEN_LATER;
		}
		check->export_id = get_pair(paged)->remote->id;
		segment->cargo_kind = &kvi_check_cargo;
		segment->cargo = check;
	}
	segment->kind = get_kind(paged);
	take_spans(paged, segment, kvi_conn_get_caps(conn)->span_count, check);
	return KVI_TAKEN;
}

/* Cut a pack off the plan; under its lock. */
static enum kvi_taken cut_pack(struct kvi_paged *paged, struct kvi_segment *segment, size_t len)
{
	struct kvi_pack *pack = kvi_staging_take(segment->link);
	if (pack == NULL)
		return KVI_TAKEN_LATER;
	const size_t limit = kvi_link_get_segment_len(segment->link, len);
	struct kvi_sources *sources = segment->link->staging->sources;
	if (!kvi_grid_cut(paged, get_pair(paged), pack, sources->bytes, limit))
		cut_spans(paged, pack, sources, limit);
	pack->export_id = get_pair(paged)->remote->id;
	segment->cargo_kind = &kvi_pack_cargo;
	segment->cargo = pack;
	return KVI_TAKEN;
}

/* Cut a read request off the plan; under its lock. */
static enum kvi_taken cut_read_request(struct kvi_paged *paged, struct kvi_segment *segment)
{
	const struct kvi_link *link = segment->link;
	if (link->read_requests >= KVI_READ_REQUESTS_MAX ||
	    link->read_requests_len >= link->flight.limit)
		return KVI_TAKEN_LATER;
	size_t max_count = kvi_link_get_room(link) / KVI_WIRE_SPAN_LEN;
	struct kvi_cursor from = paged->cursor;
	struct kvi_taking taking = begin_taking(
		paged, kvi_link_get_segment_len(link, kvi_staging_get_buffer_len(link)), 0);
	struct kvi_piece pieces[KVI_PIECES];
	size_t taken;
	do {
		size_t left = max_count - taking.count;
		taken = kvi_plan_take(&get_pair(paged)->plan, &paged->cursor, &taking, pieces,
				      left < KVI_PIECES ? left : KVI_PIECES);
	} while (taken == KVI_PIECES);
	struct kvi_read_request *read_request =
		kvi_alloc(sizeof(*read_request) + taking.count * KVI_WIRE_SPAN_LEN);
	if (read_request == NULL) {
		paged->cursor = from;
		kvi_conn_fail(link->conn, KVT_E_NO_MEMORY, 0, "no memory to read blocks");
		return KVI_TAKEN_LATER;
	}
	read_request->pair = get_pair(paged);
	read_request->from = from;
	read_request->span_count = (uint32_t)taking.count;
	segment->cargo_kind = &kvi_read_request_cargo;
	segment->cargo = read_request;
	segment->asked_len = taking.len;
	return KVI_TAKEN;
}

static enum kvi_taken cut_next(struct kvi_paged *paged, struct kvi_segment *segment)
{
	const struct kvi_link *link = segment->link;
	size_t pack_len = kvi_staging_get_len(link);
	struct kvi_piece piece;
	kvi_plan_peek(&get_pair(paged)->plan, &paged->cursor, paged->segment_len, &piece);
	bool packs = is_packed(paged, &piece);
	if (packs && paged->direction == KVT_READ && kvi_staging_is_offered(link))
		return cut_read_request(paged, segment);
	if (!kvi_link_may_write(link))
		return KVI_TAKEN_LATER;
	if (packs && paged->direction == KVT_WRITE && pack_len >= piece.len + KVI_WIRE_SPAN_LEN)
		return cut_pack(paged, segment, pack_len);
	return cut_operation(paged, segment);
}

/* Write the spans that were cut off into the read request. */
static void fill_read_request(struct kvi_read_request *read_request)
{
	struct kvi_cursor cursor = read_request->from;
	struct kvi_piece pieces[KVI_PIECES];
	size_t done = 0, taken;
	while ((taken = kvi_read_request_take(read_request, &cursor, done, pieces)) > 0)
		for (size_t i = 0; i < taken; i++, done++)
			kvi_pages_encode_span(&pieces[i],
					      read_request->spans + done * KVI_WIRE_SPAN_LEN);
}

static enum kvi_taken take_pages(struct kvi_spread *spread, struct kvi_segment *segment)
{
	struct kvi_paged *paged = kvi_container_of(spread->transfer, struct kvi_paged, transfer);
	enum kvi_taken taken = KVI_TAKEN_NOTHING;
	pthread_mutex_lock(&paged->lock);
	leave_finished_pairs(paged);
	if (!atomic_load(&spread->exhausted) && paged->pair < paged->pair_count)
		taken = cut_next(paged, segment);
	leave_finished_pairs(paged);
	if (taken == KVI_TAKEN && paged->pair == paged->pair_count)
		atomic_store(&spread->exhausted, true);
	pthread_mutex_unlock(&paged->lock);

	const bool has_sums = segment->link->conn->has_sums;
	if (segment->cargo_kind == &kvi_pack_cargo) {
		struct kvi_pack *pack = segment->cargo;
		fill_pack(pack, segment->link->staging->sources);
		if (has_sums)
			pack->sum = kvi_sum(pack->bytes, pack->len, 0);
		/* PACK follows on the lane, and is answered. */
		segment->kind = kvi_staging_is_common(segment->link) ? KVI_SEGMENT_SHOWN
								     : KVI_SEGMENT_ORDERED;
		segment->awaits_ack = !paged->in_order;
		segment->span_count = 1;
		kvi_staging_fill_span(segment->link, segment->cargo, &segment->spans[0]);
	} else if (segment->cargo_kind == &kvi_read_request_cargo) {
		fill_read_request(segment->cargo);
		segment->kind = KVI_SEGMENT_READ_REQUEST;
		segment->awaits_ack = true;
	} else if (segment->cargo_kind == &kvi_check_cargo) {
		struct kvi_check *check = segment->cargo;
		segment->awaits_ack = true;
		if (segment->kind != KVI_SEGMENT_READ)
			check->sum = kvi_check_sum_spans(segment);
	}
	return taken;
}

const struct kvi_spread_source kvi_pages_source = {
	.take = take_pages,
	.on_all_posted = kvi_paged_on_all_posted,
	.on_ended = kvi_paged_on_ended,
};
