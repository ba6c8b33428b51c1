/* SPDX-License-Identifier: Apache-2.0 */
/*
 * post.c - posting operations, which go into the ring at once where there is room.
 */
#include <errno.h>

#include "fabric/local/local.h"

static enum kvt_err start_post(struct kvi_local_lane *lane, enum kvi_record_kind kind,
			       struct kvi_local_op **op_out)
{
	bool is_receive = kind == KVI_RECORD_RECEIVE;
	if (lane->state == KVI_LOCAL_LOST)
		return KVT_E_PEER_LOST;
	if (lane->cq->is_forgotten)
		return KVT_E_CLOSED;
	if (is_receive ? lane->rx_posted >= KVI_LOCAL_RX_COUNT
		       : lane->tx_posted >= KVI_LOCAL_TX_COUNT)
		return KVT_E_AGAIN;
	struct kvi_local_op *op = kvi_local_op_take(lane->cq);
	if (op == NULL)
		return KVT_E_NO_MEMORY;
	op->lane = lane;
	op->kind = kind;
	*op_out = op;
	return KVT_OK;
}

static void end_post(struct kvi_local_op *posted, struct kvi_op *op)
{
	struct kvi_local_lane *lane = posted->lane;
	op->lane = &lane->base;
	posted->completion.op = op;
	if (posted->kind == KVI_RECORD_RECEIVE) {
		lane->rx_posted++;
		kvi_list_append(&lane->receives, &posted->node);
	} else {
		lane->tx_posted++;
		kvi_list_append(&lane->unput, &posted->node);
		if (lane->state == KVI_LOCAL_CONNECTED)
			kvi_local_put(lane);
	}
	kvi_local_lane_wake(lane); /* what it waits for may be there already */
}

static void add_span(struct kvi_local_op *posted, const struct kvi_span *span)
{
	posted->spans[posted->count++] = *span;
	posted->len += span->len;
}

enum kvt_err kvi_local_lane_post_recv(struct kvi_lane *base, struct kvi_op *op, void *buffer,
				      size_t len, struct kvi_memory *memory)
{
	struct kvi_local_op *posted;
	const struct kvi_span span = { .base = buffer, .len = len, .memory = memory };
	enum kvt_err err = start_post(kvi_local_lane(base), KVI_RECORD_RECEIVE, &posted);
	if (err != KVT_OK)
		return err;
	add_span(posted, &span);
	end_post(posted, op);
	return KVT_OK;
}

enum kvt_err kvi_local_lane_post_send(struct kvi_lane *base, struct kvi_op *op, const void *buffer,
				      size_t len, struct kvi_memory *memory, enum kvi_signal signal)
{
	(void)signal; /* reporting is free */
	struct kvi_local_op *posted;
	const struct kvi_span span = { .base = (void *)(uintptr_t)buffer,
				       .len = len,
				       .memory = memory };
	enum kvt_err err = start_post(kvi_local_lane(base), KVI_RECORD_SEND, &posted);
	if (err != KVT_OK)
		return err;
	add_span(posted, &span);
	end_post(posted, op);
	return KVT_OK;
}

enum kvt_err kvi_local_lane_inject(struct kvi_lane *base, const void *buffer, size_t len)
{
	struct kvi_local_lane *lane = kvi_local_lane(base);
	if (lane->state == KVI_LOCAL_LOST)
		return KVT_E_PEER_LOST;
	if (lane->cq->is_forgotten)
		return KVT_E_CLOSED;
	if (kvi_local_put_now(lane, buffer, len))
		return KVT_OK;
	lane->waits_for_room = true;
	kvi_local_lane_wake(lane);
	return KVT_E_AGAIN;
}

/* Say where the bytes are: behind the record, in memory that the peer has mapped of ours, or simply in ours. */
static enum kvi_record_kind point_out(struct kvi_local_lane *lane, const struct kvi_span *spans,
				      size_t count, uint64_t *sources)
{
	bool is_mapped = true;
	size_t len = 0;
	for (size_t i = 0; i < count; i++)
		len += spans[i].len;
	if (kvi_local_goes_along(lane, spans, count, len))
		return KVI_RECORD_WRITE;
	for (size_t i = 0; i < count && is_mapped; i++)
		is_mapped = kvi_local_point_out(lane, spans[i].base, spans[i].len, &sources[i]);
	if (is_mapped)
		return KVI_RECORD_WRITE_MAP;
	for (size_t i = 0; i < count; i++)
		sources[i] = (uintptr_t)spans[i].base;
	return atomic_load(&lane->ring.other->pulls) != 0 ? KVI_RECORD_WRITE_PULL
							  : KVI_RECORD_WRITE;
}

/* Done when the bytes are in the peer's memory, whatever is asked for. */
enum kvt_err kvi_local_lane_post_write(struct kvi_lane *base, struct kvi_op *op,
				       const struct kvi_span *spans, size_t count,
				       enum kvi_delivery delivery)
{
	struct kvi_local_lane *lane = kvi_local_lane(base);
	struct kvi_local_op *posted;
	(void)delivery;
	enum kvt_err err = start_post(lane, KVI_RECORD_WRITE, &posted);
	if (err != KVT_OK)
		return err;
	posted->kind = point_out(lane, spans, count, posted->sources);
	for (size_t i = 0; i < count; i++)
		add_span(posted, &spans[i]);
	end_post(posted, op);
	return KVT_OK;
}

enum kvt_err kvi_local_lane_post_read(struct kvi_lane *base, struct kvi_op *op,
				      const struct kvi_span *spans, size_t count)
{
	struct kvi_local_op *posted;
	enum kvt_err err = start_post(kvi_local_lane(base), KVI_RECORD_READ, &posted);
	if (err != KVT_OK)
		return err;
	for (size_t i = 0; i < count; i++)
		add_span(posted, &spans[i]);
	end_post(posted, op);
	return KVT_OK;
}
