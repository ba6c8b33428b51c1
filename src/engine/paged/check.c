/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check.c - CHECK and CHECKED, on both sides.
 *
 * Design notes. The owner sums under its worker's lock, as it unpacks: so a withdrawal that has taken every worker's
 * lock once knows that nobody reads the pool for a peer any more. A segment has at most KVI_SEGMENT_LEN bytes, which
 * take a fraction of a millisecond.
 */
#include "engine/paged/check.h"

#include "base/alloc.h"
#include "base/sum.h"
#include "engine/core/conn.h"
#include "engine/paged/exports.h"
#include "engine/paged/paged.h"
#include "engine/paged/pool.h"

/* ---- who moved the blocks ---- */

uint64_t kvi_check_sum_spans(const struct kvi_segment *segment)
{
	uint64_t sum = 0;
	for (unsigned i = 0; i < segment->span_count; i++)
		sum = kvi_sum(segment->spans[i].base, segment->spans[i].len, sum);
	return sum;
}

/* The operation is complete: what was written is in the owner's memory, what was read in ours. */
static void ask_to_check(struct kvi_segment *segment)
{
	const struct kvi_check *check = segment->cargo;
	bool reads = segment->kind == KVI_SEGMENT_READ;
	struct kvi_message message = {
		.type = KVI_MESSAGE_CHECK,
		.check = {
			.number = (uint64_t)(segment - segment->link->segments),
			.export_id = check->export_id,
			.sum = reads ? kvi_check_sum_spans(segment) : check->sum,
			.spans = { check->spans, check->span_count * (size_t)KVI_WIRE_SPAN_LEN },
		},
	};
	segment->is_asked = true;
	kvi_link_send(segment->link, &message);
}

static void free_check(struct kvi_segment *segment)
{
	kvi_free(segment->cargo);
}

const struct kvi_cargo_kind kvi_check_cargo = {
	.on_done = ask_to_check,
	.release = free_check,
};

static struct kvi_paged *get_paged(const struct kvi_segment *segment)
{
	return kvi_container_of(segment->stripe->spread->transfer, struct kvi_paged, transfer);
}

void kvi_check_fail(struct kvi_segment *segment, const char *what)
{
	struct kvi_paged *paged = get_paged(segment);
	atomic_store(&paged->corrupt, true);
	atomic_store(&paged->spread.exhausted, true);
	kvi_conn_on_corrupt(segment->link->conn, what);
}

enum kvt_err kvi_check_on_checked(struct kvi_link *link, const struct kvi_message *message)
{
	const struct kvi_message_checked *checked = &message->checked;
	if (link->segments == NULL || checked->number >= KVI_SEGMENTS)
		return KVT_E_PROTOCOL;
	struct kvi_segment *segment = &link->segments[checked->number];
	if (!segment->awaits_ack || !segment->is_asked)
		return KVT_E_PROTOCOL;
	segment->is_asked = false;
	if (checked->code == KVT_E_CORRUPT) {
		kvi_check_fail(segment, "what was moved in place");
	} else if (checked->code == KVT_E_WITHDRAWN) {
		struct kvi_paged *paged = get_paged(segment);
		atomic_store(&paged->dropped, true);
		atomic_store(&paged->spread.exhausted, true);
	}
	kvi_segment_on_ack(segment);
	return KVT_OK;
}

/* ---- the owner ---- */

/* False: the peer named what is not there, or too much. */
static bool sum_blocks(const struct kvt_pool *pool, const struct kvi_view *spans, uint64_t *sum)
{
	size_t left = KVI_SEGMENT_LEN;
	*sum = 0;
	for (size_t at = 0; at < spans->len; at += KVI_WIRE_SPAN_LEN) {
		struct kvi_wire_span span;
		kvi_wire_span_decode(spans->bytes + at, &span);
		const uint8_t *base = kvi_pool_place(pool, &span);
		if (base == NULL || span.len > left)
			return false;
		*sum = kvi_sum(base, span.len, *sum);
		left -= span.len;
	}
	return true;
}

enum kvt_err kvi_check_on_check(struct kvi_link *link, const struct kvi_message *message)
{
	const struct kvi_message_check *check = &message->check;
	struct kvi_message checked = { .type = KVI_MESSAGE_CHECKED,
				       .checked = { .number = check->number } };
	if (check->spans.len == 0 || check->spans.len % KVI_WIRE_SPAN_LEN != 0)
		return KVT_E_PROTOCOL;
	struct kvt_export *exported = kvi_export_find(link->conn, check->export_id);
	uint64_t sum;
	if (exported == NULL) {
		checked.checked.code = KVT_E_WITHDRAWN;
	} else if (!sum_blocks(exported->pool, &check->spans, &sum)) {
		return KVT_E_PROTOCOL;
	} else if (sum != check->sum) {
		checked.checked.code = KVT_E_CORRUPT;
		kvi_conn_on_corrupt(link->conn, "what the peer moved in place");
	}
	kvi_link_send(link, &checked);
	return KVT_OK;
}
