/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue.c - the completion queues that a cq is made of; how many lanes share one depends on the provider. A
 * queue is awake while it is read, and asleep once fi_trywait() has found it empty: then its descriptor tells
 * when there is something. So the cost of a cq grows with the lanes that are busy, not with all that are open.
 * It never blocks.
 */
#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/log.h"
#include "fabric/internal.h"

enum {
	SIZE_MAX_ALONE = 16384,
	SIZE_MIN = 64,
	/* For a provider that looks at every lane of a queue whenever it reads the queue: few, so that this costs
	 * little, but not too few, as each queue takes memory. What exceeds a queue such a provider keeps elsewhere. */
	LANES_IF_WALKED = 64,
	SIZE_IF_WALKED = 1024,
	READ_BATCH = 32,
	WOKEN_BATCH = 16,
	/* A queue falls asleep after so many empty reads, where there are others. */
	VAIN_MAX = 8,
};

/* ---- awake or asleep ---- */

void kvi_queue_wake(struct kvi_queue *queue)
{
	if (!kvi_list_is_empty(&queue->awake_node))
		return;
	kvi_list_append(&queue->cq->awake, &queue->awake_node);
	queue->cq->awake_count++;
	queue->vain = 0;
}

static void fall_asleep(struct kvi_queue *queue)
{
	if (kvi_list_is_empty(&queue->awake_node))
		return;
	kvi_list_remove(&queue->awake_node);
	queue->cq->awake_count--;
}

/* ---- opening ---- */

static bool walks_lanes(const struct kvi_ofi_rail *rail)
{
	return FI_VERSION_LT(fi_version(), rail->profile->walks_lanes_before);
}

/* libfabric does not tell how large a CQ the device allows: ask for less until it agrees. */
static int open_provider_queue(struct kvi_queue *queue)
{
	const struct kvi_ofi_rail *rail = queue->cq->rail;
	size_t size = walks_lanes(rail) ? SIZE_IF_WALKED : SIZE_MAX_ALONE;
	int ret = -FI_EINVAL;
	for (; ret == -FI_EINVAL && size >= SIZE_MIN; size /= 2) {
		struct fi_cq_attr attr = {
			.size = size,
			.format = FI_CQ_FORMAT_DATA,
			.wait_obj = FI_WAIT_FD,
		};
		ret = fi_cq_open(queue->cq->domain->fid, &attr, &queue->fid, NULL);
		queue->lanes_max = size / (rail->base.caps.tx_count + rail->base.caps.rx_count);
	}
	if (walks_lanes(rail))
		queue->lanes_max = LANES_IF_WALKED;
	else if (!rail->profile->fixed_queues)
		queue->lanes_max = SIZE_MAX;
	else if (queue->lanes_max == 0)
		queue->lanes_max = 1;
	return ret;
}

bool kvi_queue_watch(struct kvi_queue *queue)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = queue };
	return epoll_ctl(queue->cq->epoll_fd, EPOLL_CTL_ADD, queue->fd, &event) == 0;
}

bool kvi_queue_unwatch(struct kvi_queue *queue)
{
	return epoll_ctl(queue->cq->epoll_fd, EPOLL_CTL_DEL, queue->fd, NULL) == 0;
}

enum kvt_err kvi_queue_open(struct kvi_ofi_cq *cq, struct kvi_queue **queue,
			    struct kvt_error *error)
{
	struct kvi_queue *opened = kvi_alloc(sizeof(*opened));
	if (opened == NULL)
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "out of memory");
	opened->cq = cq;
	kvi_list_init(&opened->node);
	kvi_list_init(&opened->awake_node);
	enum kvt_err err;
	int ret = open_provider_queue(opened);
	if (ret != 0) {
		err = kvi_fabric_fail_pinned(cq->rail, 0, ret, "fi_cq_open", error);
		goto free_queue;
	}
	ret = fi_control(&opened->fid->fid, FI_GETWAIT, &opened->fd);
	if (ret != 0) {
		err = kvi_fabric_fail(error, ret, "FI_GETWAIT");
		goto close_queue;
	}
	if (!kvi_queue_watch(opened)) {
		err = kvi_fabric_fail(error, -errno, "epoll_ctl");
		goto close_queue;
	}
	kvi_mute_open(opened);
	kvi_list_append(&cq->queues, &opened->node);
	cq->queue_count++;
	kvi_queue_wake(opened);
	*queue = opened;
	return KVT_OK;

close_queue:
	fi_close(&opened->fid->fid);
free_queue:
	kvi_free(opened);
	return err;
}

void kvi_queue_close(struct kvi_queue *queue)
{
	struct kvi_ofi_cq *cq = queue->cq;
	fall_asleep(queue);
	kvi_list_remove(&queue->node);
	cq->queue_count--;
	kvi_mute_end(queue);
	/* Removed before it is closed: a forked child may have the descriptor open, too. When removing fails, the
	 * number belongs to another file. */
	if (!kvi_queue_unwatch(queue))
		return;
	fi_close(&queue->fid->fid);
	kvi_free(queue);
}

/* The fullest one that has room, so that others become empty and can be closed. */
static struct kvi_queue *find_room(const struct kvi_ofi_cq *cq, const struct kvi_queue *but)
{
	struct kvi_queue *found = NULL;
	kvi_list_for_each (node, next, &cq->queues) {
		struct kvi_queue *queue = kvi_container_of(node, struct kvi_queue, node);
		if (queue != but && queue->lane_count < queue->lanes_max &&
		    (found == NULL || queue->lane_count > found->lane_count))
			found = queue;
	}
	return found;
}

enum kvt_err kvi_queue_join(struct kvi_ofi_cq *cq, struct kvi_queue **queue,
			    struct kvt_error *error)
{
	enum kvt_err err = KVT_OK;
	struct kvi_queue *joined = find_room(cq, NULL);
	if (joined == NULL)
		err = kvi_queue_open(cq, &joined, error);
	if (err == KVT_OK) {
		joined->lane_count++;
		*queue = joined;
	}
	return err;
}

void kvi_queue_leave(struct kvi_queue *queue)
{
	/* Keep one, so that the next lane need not open one again. */
	if (--queue->lane_count == 0 && !queue->cq->is_forgotten &&
	    find_room(queue->cq, queue) != NULL)
		kvi_queue_close(queue);
}

/* ---- reading ---- */

/* One entry of the provider. What is not POSTED belongs to a lane that was closed: its op has been
 * reported, or will be, and the entry only brings the context back. */
static void take_entry(struct kvi_ofi_cq *cq, struct kvi_context *context, enum kvt_err err,
		       int provider_errno, size_t len)
{
	if (context == NULL)
		return;
	switch (context->state) {
	case KVI_CONTEXT_POSTED:
		/* After bytes were lost in the middle, the rest of a stream is read wrongly. */
		if (err == KVT_OK && context->lane->fault_errno != 0) {
			err = KVT_E_FABRIC;
			provider_errno = context->lane->fault_errno;
		}
		if (err == KVT_OK)
			kvi_context_finish_earlier(cq, context);
		kvi_context_finish(cq, context, err, provider_errno, context->is_recv ? len : 0,
				   false);
		break;
	case KVI_CONTEXT_DONE:
		context->is_held = false;
		break;
	case KVI_CONTEXT_QUARANTINE:
		kvi_context_give(cq, context);
		break;
	case KVI_CONTEXT_FREE:
		break;
	}
}

static bool take_error(struct kvi_queue *queue)
{
	struct fi_cq_err_entry entry = { .op_context = NULL };
	if (fi_cq_readerr(queue->fid, &entry, 0) <= 0)
		return false;
	struct kvi_context *context = entry.op_context;
	bool is_posted = context != NULL && context->state == KVI_CONTEXT_POSTED;
	bool is_ours = is_posted && context->lane->is_closing;
	if (is_posted && entry.err == EFAULT)
		context->lane->fault_errno = entry.err;
	if (!is_ours)
		kvi_log(KVI_LOG_DEBUG, "op-failed", "%s (provider: %d)", fi_strerror(entry.err),
			entry.prov_errno);
	take_entry(queue->cq, context, is_ours ? KVT_E_CANCELLED : kvi_err_from_errno(entry.err),
		   entry.err, 0);
	return true;
}

static bool read_batch(struct kvi_queue *queue, size_t max)
{
	struct fi_cq_data_entry entries[READ_BATCH];
	ssize_t ret = fi_cq_read(queue->fid, entries, max < READ_BATCH ? max : READ_BATCH);
	for (ssize_t i = 0; i < ret; i++)
		take_entry(queue->cq, entries[i].op_context, KVT_OK, 0, entries[i].len);
	if (ret == -FI_EAVAIL)
		return take_error(queue);
	if (ret < 0 && ret != -FI_EAGAIN && ret != -FI_EINTR && !queue->is_broken) {
		queue->is_broken = true;
		kvi_log(KVI_LOG_ERROR, "cq-broken", "fi_cq_read: %s", fi_strerror((int)-ret));
	}
	return ret > 0;
}

bool kvi_queue_read(struct kvi_queue *queue, size_t max)
{
	if (queue->cq->is_forgotten)
		return false;
	kvi_queue_wake(queue);
	if (read_batch(queue, max)) {
		queue->vain = 0;
		return true;
	}
	if (++queue->vain >= VAIN_MAX && queue->cq->queue_count > 1)
		kvi_queue_may_sleep(queue);
	return false;
}

void kvi_queue_drain(struct kvi_queue *queue)
{
	while (kvi_queue_read(queue, READ_BATCH))
		;
}

/* ---- sleeping ---- */

bool kvi_queue_may_sleep(struct kvi_queue *queue)
{
	struct fid *fid = &queue->fid->fid;
	if (!kvi_mute_end(queue))
		return false;
	/* On any other failure we sleep: polling without end would be worse. */
	if (fi_trywait(queue->cq->rail->fid, &fid, 1) == -FI_EAGAIN)
		return false;
	/* Where the provider has a thread, an error written just as fi_cq_read() finds the queue
	 * empty loses its wake-up, and fi_trywait() does not look there. */
	if (take_error(queue))
		return false;
	fall_asleep(queue);
	return true;
}

/* A descriptor that the application has closed may be another file now, so the pointer may be anything. */
static bool is_queue(const struct kvi_ofi_cq *cq, const void *named)
{
	kvi_list_for_each (node, next, &cq->queues)
		if (kvi_container_of(node, struct kvi_queue, node) == named)
			return true;
	return false;
}

void kvi_queues_look(struct kvi_ofi_cq *cq)
{
	if (cq->queue_count == 1)
		kvi_queue_wake(
			kvi_container_of(kvi_list_get_first(&cq->queues), struct kvi_queue, node));
	if (cq->awake_count == cq->queue_count || cq->is_forgotten)
		return;
	struct epoll_event events[WOKEN_BATCH];
	int count = epoll_wait(cq->epoll_fd, events, WOKEN_BATCH, 0);
	for (int i = 0; i < count; i++)
		if (is_queue(cq, events[i].data.ptr))
			kvi_queue_wake(events[i].data.ptr);
}
