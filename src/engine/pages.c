/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pages.c - the segments of a paged transfer: pieces of the plan, each written or read in place, or many
 * of them copied into one pack.
 *
 * Design notes. Lanes of several workers take from one cursor. What is copied is copied without its
 * lock: a pack is cut off the plan first, by going over it once, and filled by going over it again.
 */
#include "engine/paged.h"

#include <string.h>

#include "engine/conn.h"
#include "engine/engine.h"
#include "engine/region.h"
#include "engine/share.h"
#include "engine/stage.h"

static uint8_t *get_local(const struct kvi_paged *paged, const struct kvi_piece *piece)
{
	return paged->region->bases[piece->local_extent] + piece->local_offset;
}

static bool is_packed(const struct kvi_paged *paged, const struct kvi_piece *piece)
{
	return piece->len < paged->pack_below;
}

/* Move the cursor over as much as one pack of len bytes holds, and count the spans; under the plan's
 * lock. */
static void cut_pack(struct kvi_paged *paged, struct kvi_pack *pack, size_t len)
{
	struct kvi_piece piece;
	while (!kvi_cursor_is_at_end(&paged->plan, &paged->cursor)) {
		kvi_plan_peek(&paged->plan, &paged->cursor, paged->segment_len, &piece);
		if (!is_packed(paged, &piece) || piece.len + KVI_WIRE_SPAN_LEN > len)
			return;
		len -= piece.len + KVI_WIRE_SPAN_LEN;
		pack->span_count++;
		kvi_plan_advance(&paged->plan, &paged->cursor, piece.len);
	}
}

/* Copy what was cut off: the spans in front, the bytes behind them. */
static void fill_pack(const struct kvi_paged *paged, struct kvi_pack *pack,
		      struct kvi_cursor cursor)
{
	struct kvi_piece piece;
	uint8_t *to = pack->bytes + pack->span_count * KVI_WIRE_SPAN_LEN;
	for (uint32_t i = 0; i < pack->span_count; i++) {
		kvi_plan_peek(&paged->plan, &cursor, paged->segment_len, &piece);
		struct kvi_wire_span span = {
			.extent = (uint32_t)piece.remote_extent,
			.len = (uint32_t)piece.len,
			.offset = piece.remote_offset,
		};
		kvi_wire_span_encode(&span, pack->bytes + i * KVI_WIRE_SPAN_LEN);
		memcpy(to, get_local(paged, &piece), piece.len);
		to += piece.len;
		kvi_plan_advance(&paged->plan, &cursor, piece.len);
	}
	pack->len = (size_t)(to - pack->bytes);
	pack->export_id = paged->remote->id;
}

/* Fill in spans to write or read in place; under the plan's lock. */
static void take_spans(struct kvi_paged *paged, struct kvi_segment *segment, size_t max_count)
{
	struct kvi_piece piece;
	size_t left = paged->segment_len;
	segment->span_count = 0;
	while (left > 0 && segment->span_count < max_count &&
	       !kvi_cursor_is_at_end(&paged->plan, &paged->cursor)) {
		kvi_plan_peek(&paged->plan, &paged->cursor, left, &piece);
		if (segment->span_count > 0 && is_packed(paged, &piece))
			return;
		struct kvi_grant remote =
			kvi_remote_get_grant(paged->remote, piece.remote_extent, segment->link);
		remote.address += piece.remote_offset;
		segment->spans[segment->span_count++] = (struct kvi_span){
			.base = get_local(paged, &piece),
			.len = piece.len,
			.memory = kvi_region_get_memory(paged->region, piece.local_extent,
							segment->link),
			.remote = remote,
		};
		left -= piece.len;
		kvi_plan_advance(&paged->plan, &paged->cursor, piece.len);
	}
}

static enum kvi_segment_kind get_kind(const struct kvi_paged *paged)
{
	if (paged->direction == KVT_READ)
		return KVI_SEGMENT_READ;
	/* With several lanes, what is on this one may be overtaken by a WITHDRAWN on another: then the
	 * end of a segment has to mean that the peer has it. */
	bool may_order = paged->in_order && paged->home->conn->lane_count == 1;
	return may_order ? KVI_SEGMENT_ORDERED : KVI_SEGMENT_WRITE;
}

static enum kvi_taken take_pages(struct kvi_spread *spread, struct kvi_segment *segment)
{
	struct kvi_paged *paged = kvi_container_of(spread->transfer, struct kvi_paged, transfer);
	const struct kvi_caps *caps = kvi_engine_get_caps(paged->home->conn->engine);
	size_t pack_len = paged->pack_below > 0 ? kvi_stage_get_len(segment->link) : 0;
	struct kvi_cursor from;
	struct kvi_piece piece;
	enum kvi_taken taken = KVI_TAKEN_NOTHING;

	pthread_mutex_lock(&paged->lock);
	if (atomic_load(&spread->exhausted) || kvi_cursor_is_at_end(&paged->plan, &paged->cursor))
		goto unlock;
	from = paged->cursor;
	kvi_plan_peek(&paged->plan, &from, paged->segment_len, &piece);
	if (pack_len >= piece.len + KVI_WIRE_SPAN_LEN && is_packed(paged, &piece)) {
		segment->pack = kvi_stage_take(segment->link);
		taken = segment->pack != NULL ? KVI_TAKEN : KVI_TAKEN_LATER;
		if (segment->pack != NULL)
			cut_pack(paged, segment->pack, pack_len);
	} else {
		segment->kind = get_kind(paged);
		take_spans(paged, segment, caps->span_count);
		taken = KVI_TAKEN;
	}
	if (taken == KVI_TAKEN && kvi_cursor_is_at_end(&paged->plan, &paged->cursor))
		atomic_store(&spread->exhausted, true);
unlock:
	pthread_mutex_unlock(&paged->lock);
	if (segment->pack != NULL) {
		fill_pack(paged, segment->pack, from);
		segment->awaits_ack = !paged->in_order;
		kvi_stage_fill_segment(segment);
	}
	return taken;
}

const struct kvi_spread_source kvi_pages_source = {
	.take = take_pages,
	.on_all_posted = kvi_paged_on_all_posted,
	.on_ended = kvi_paged_on_ended,
};
