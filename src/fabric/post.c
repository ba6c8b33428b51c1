/* SPDX-License-Identifier: Apache-2.0 */
/*
 * post.c - posting operations, within the credits that the provider's queues have. RMA asks for
 * delivery in the call: some providers ignore the endpoint's default, others refuse it.
 */
#include "fabric/internal.h"

static enum kvt_err check_lane(const struct kvi_ofi_lane *lane)
{
	if (lane->state == KVI_LANE_STATE_LOST)
		return KVT_E_PEER_LOST;
	if (lane->cq->is_forgotten)
		return KVT_E_CLOSED;
	return lane->fault_errno != 0 ? KVT_E_FABRIC : KVT_OK;
}

static enum kvt_err start_post(struct kvi_ofi_lane *lane, bool is_recv,
			       struct kvi_context **context)
{
	const struct kvi_caps *caps = &lane->cq->rail->base.caps;
	enum kvt_err broken = check_lane(lane);
	if (broken != KVT_OK)
		return broken;
	kvi_queue_wake(lane->queue);
	if (is_recv ? lane->rx_posted >= caps->rx_count : lane->tx_posted >= caps->tx_count)
		return KVT_E_AGAIN;
	*context = kvi_context_take(lane->cq);
	if (*context == NULL)
		return KVT_E_NO_MEMORY;
	(*context)->is_recv = is_recv;
	(*context)->is_read = false;
	(*context)->is_unsignalled = false;
	return KVT_OK;
}

static enum kvt_err end_post(struct kvi_ofi_lane *lane, struct kvi_context *context,
			     struct kvi_op *op, ssize_t ret)
{
	if (ret != 0) {
		kvi_context_give(lane->cq, context);
		return ret == -FI_EAGAIN ? KVT_E_AGAIN : kvi_err_from_errno((int)-ret);
	}
	op->lane = &lane->base;
	context->lane = lane;
	context->completion.op = op;
	context->state = KVI_CONTEXT_POSTED;
	context->number = context->is_recv ? 0 : ++lane->last_number;
	kvi_list_append(context->is_unsignalled ? &lane->unsignalled : &lane->posted,
			&context->node);
	if (context->is_recv)
		lane->rx_posted++;
	else
		lane->tx_posted++;
	if (context->is_read)
		lane->reads_posted++;
	return KVT_OK;
}

static void *get_descriptor(const struct kvi_memory *memory)
{
	return memory != NULL ? fi_mr_desc(kvi_ofi_memory(memory)->fid) : NULL;
}

enum kvt_err kvi_ofi_lane_post_recv(struct kvi_lane *base, struct kvi_op *op, void *buffer,
				    size_t len, struct kvi_memory *memory)
{
	struct kvi_ofi_lane *lane = kvi_ofi_lane(base);
	struct kvi_context *context;
	enum kvt_err err = start_post(lane, true, &context);
	if (err != KVT_OK)
		return err;
	ssize_t ret =
		fi_recv(lane->ep, buffer, len, get_descriptor(memory), FI_ADDR_UNSPEC, context);
	return end_post(lane, context, op, ret);
}

/* Whether a send may do without a completion: it keeps its place in the queue until one comes. */
static bool may_be_silent(const struct kvi_ofi_lane *lane)
{
	const struct kvi_ofi_rail *rail = lane->cq->rail;
	return rail->profile->unsignalled && lane->tx_posted < rail->base.caps.tx_count / 2;
}

enum kvt_err kvi_ofi_lane_post_send(struct kvi_lane *base, struct kvi_op *op, const void *buffer,
				    size_t len, struct kvi_memory *memory, enum kvi_signal signal)
{
	struct kvi_ofi_lane *lane = kvi_ofi_lane(base);
	struct kvi_context *context;
	enum kvt_err err = start_post(lane, false, &context);
	if (err != KVT_OK)
		return err;
	context->is_unsignalled = signal == KVI_UNSIGNALLED && may_be_silent(lane);
	struct iovec local = { .iov_base = (void *)buffer, .iov_len = len };
	void *descriptor = get_descriptor(memory);
	struct fi_msg message = {
		.msg_iov = &local,
		.desc = &descriptor,
		.iov_count = 1,
		.addr = FI_ADDR_UNSPEC,
		.context = context,
	};
	uint64_t flags = context->is_unsignalled ? 0 : FI_COMPLETION;
	return end_post(lane, context, op, fi_sendmsg(lane->ep, &message, flags));
}

enum kvt_err kvi_ofi_lane_inject(struct kvi_lane *base, const void *buffer, size_t len)
{
	struct kvi_ofi_lane *lane = kvi_ofi_lane(base);
	enum kvt_err broken = check_lane(lane);
	if (broken != KVT_OK)
		return broken;
	kvi_queue_wake(lane->queue);
	ssize_t ret = fi_inject(lane->ep, buffer, len, FI_ADDR_UNSPEC);
	if (ret == 0)
		return KVT_OK;
	return ret == -FI_EAGAIN ? KVT_E_AGAIN : kvi_err_from_errno((int)-ret);
}

static enum kvt_err post_rma(struct kvi_ofi_lane *lane, struct kvi_op *op,
			     const struct kvi_span *spans, size_t count, bool is_read,
			     uint64_t flags)
{
	struct kvi_context *context;
	enum kvt_err err = start_post(lane, false, &context);
	if (err != KVT_OK)
		return err;
	context->is_read = is_read;
	struct iovec local[KVI_SPANS_MAX];
	struct fi_rma_iov remote[KVI_SPANS_MAX];
	void *descriptors[KVI_SPANS_MAX];
	for (size_t i = 0; i < count; i++) {
		local[i] = (struct iovec){ .iov_base = spans[i].base, .iov_len = spans[i].len };
		descriptors[i] = get_descriptor(spans[i].memory);
		remote[i] = (struct fi_rma_iov){
			.addr = spans[i].remote.address,
			.len = spans[i].len,
			.key = spans[i].remote.key,
		};
	}
	struct fi_msg_rma message = {
		.msg_iov = local,
		.desc = descriptors,
		.iov_count = count,
		.addr = FI_ADDR_UNSPEC,
		.rma_iov = remote,
		.rma_iov_count = count,
		.context = context,
	};
	ssize_t ret = is_read ? fi_readmsg(lane->ep, &message, flags)
			      : fi_writemsg(lane->ep, &message, flags);
	return end_post(lane, context, op, ret);
}

enum kvt_err kvi_ofi_lane_post_write(struct kvi_lane *base, struct kvi_op *op,
				     const struct kvi_span *spans, size_t count,
				     enum kvi_delivery delivery)
{
	struct kvi_ofi_lane *lane = kvi_ofi_lane(base);
	uint64_t flags = FI_COMPLETION;
	if (delivery == KVI_DELIVERED)
		flags |= FI_DELIVERY_COMPLETE;
	return post_rma(lane, op, spans, count, false, flags);
}

enum kvt_err kvi_ofi_lane_post_read(struct kvi_lane *base, struct kvi_op *op,
				    const struct kvi_span *spans, size_t count)
{
	struct kvi_ofi_lane *lane = kvi_ofi_lane(base);
	return post_rma(lane, op, spans, count, true, FI_COMPLETION | FI_DELIVERY_COMPLETE);
}
