/* SPDX-License-Identifier: Apache-2.0 */
/*
 * carried.c - writes that travel in a message. It looks at what fits a packet of any peer, so there is no
 * message that has no room but for the moment.
 */
#include "engine/paged/carried.h"

#include "base/copy.h"
#include "engine/paged/exports.h"
#include "engine/paged/paged.h"
#include "engine/paged/pool.h"
#include "engine/paged/staging.h"

enum {
	/* Of spans and bytes. Copied twice, more costs as much as an operation. */
	DATA_LEN_MAX = 2048,
};

_Static_assert(DATA_LEN_MAX + KVI_BLOCKS_FIXED_LEN <= KVI_MESSAGE_OVERHEAD, "any packet holds it");

bool kvi_carried_fits(const struct kvi_paged *paged)
{
	return paged->direction == KVT_WRITE && paged->pair_count == 1 && paged->len > 0 &&
	       paged->len <= DATA_LEN_MAX &&
	       paged->piece_count <= (DATA_LEN_MAX - paged->len) / KVI_WIRE_SPAN_LEN;
}

/* Write the spans of all pieces, and behind them their bytes. */
static void fill(const struct kvi_paged *paged, uint8_t *data)
{
	const struct kvi_pair *pair = &paged->pairs[0];
	struct kvi_cursor cursor = { .extent = 0 };
	uint8_t *bytes = data + paged->piece_count * KVI_WIRE_SPAN_LEN;
	while (!kvi_cursor_is_at_end(&pair->plan, &cursor)) {
		struct kvi_piece piece;
		kvi_plan_peek(&pair->plan, &cursor, DATA_LEN_MAX, &piece);
		kvi_plan_advance(&pair->plan, &cursor, piece.len);
		kvi_pages_encode_span(&piece, data);
		data += KVI_WIRE_SPAN_LEN;
		kvi_copy(bytes, pair->pool->bases[piece.local_extent] + piece.local_offset,
			 piece.len);
		bytes += piece.len;
	}
}

bool kvi_carried_send(struct kvi_paged *paged)
{
	if (paged->transfer.segments > 0)
		return true;
	uint8_t data[DATA_LEN_MAX];
	fill(paged, data);
	struct kvi_message message = {
		.type = KVI_MESSAGE_BLOCKS,
		.blocks = {
			.export_id = paged->pairs[0].remote->id,
			.span_count = paged->piece_count,
			.data = { data, paged->piece_count * KVI_WIRE_SPAN_LEN + paged->len },
		},
	};
	if (!kvi_link_try_send(paged->home, &message))
		return false;
	paged->transfer.segments = 1;
	return true;
}

enum kvt_err kvi_carried_on_blocks(struct kvi_link *link, const struct kvi_message *message)
{
	const struct kvi_message_blocks *blocks = &message->blocks;
	/* Of an export that was withdrawn it is dropped, as a pack is. */
	struct kvt_export *exported = kvi_export_find(link->conn, blocks->export_id);
	if (exported == NULL)
		return KVT_OK;
	size_t spans_len = (size_t)blocks->span_count * KVI_WIRE_SPAN_LEN;
	size_t left = blocks->data.len - spans_len;
	if ((exported->access & KVT_ACCESS_WRITE) == 0 ||
	    !kvi_staging_unpack(exported->pool, blocks->data.bytes, (size_t)blocks->span_count,
				blocks->data.bytes + spans_len, &left) ||
	    left != 0)
		return KVT_E_PROTOCOL;
	return KVT_OK;
}
