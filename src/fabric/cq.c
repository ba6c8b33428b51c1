/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cq.c - a worker's place on a rail: polling its queues, telling of its lanes, and sleeping on it. It never
 * blocks.
 */
#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/error.h"
#include "fabric/internal.h"

enum { CM_DATA_LEN_MAX = 256 }; /* of any provider; unread here */

enum kvt_err kvi_err_from_errno(int provider_errno)
{
	switch (provider_errno) {
	case ECANCELED: /* the connection died: what we cancel ourselves never gets here */
	case ECONNRESET:
	case ECONNREFUSED:
	case ECONNABORTED:
	case ENOTCONN:
	case ESHUTDOWN:
	case EPIPE:
	case ETIMEDOUT:
	case EHOSTUNREACH:
	case EHOSTDOWN:
	case ENETUNREACH:
	case ENETDOWN:
	case ENETRESET:
		return KVT_E_PEER_LOST;
	default:
		return KVT_E_FABRIC;
	}
}

/* ---- opening ---- */

static enum kvt_err open_queues(struct kvi_ofi_cq *cq, struct kvt_error *error)
{
	struct kvi_queue *first;
	struct fi_eq_attr attr = { .wait_obj = FI_WAIT_FD };
	enum kvt_err err = kvi_queue_open(cq, &first, error);
	if (err != KVT_OK)
		return err;
	const char *what = "fi_eq_open";
	int ret = fi_eq_open(cq->rail->fid, &attr, &cq->eq, NULL);
	if (ret == 0) {
		what = "FI_GETWAIT";
		ret = fi_control(&cq->eq->fid, FI_GETWAIT, &cq->eq_fd);
	}
	if (ret == 0)
		return KVT_OK;
	if (cq->eq != NULL)
		fi_close(&cq->eq->fid);
	kvi_queue_close(first);
	return kvi_fabric_fail(error, ret, what);
}

enum kvt_err kvi_ofi_cq_open(struct kvi_rail *base, struct kvi_cq **cq, struct kvt_error *error)
{
	struct kvi_ofi_rail *rail = kvi_ofi_rail(base);
	struct kvi_ofi_cq *opened = kvi_alloc(sizeof(*opened));
	if (opened == NULL)
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "out of memory");
	opened->rail = rail;
	kvi_list_init(&opened->queues);
	kvi_list_init(&opened->awake);
	kvi_list_init(&opened->event_lanes);
	kvi_list_init(&opened->done);
	kvi_list_init(&opened->free);
	kvi_list_init(&opened->quarantine);
	kvi_list_init(&opened->slabs);

	enum kvt_err err;
	opened->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (opened->epoll_fd < 0) {
		err = kvi_fabric_fail(error, -errno, "epoll_create1");
		goto free_cq;
	}
	err = kvi_domain_get(rail, &opened->domain, error);
	if (err != KVT_OK)
		goto close_epoll;
	err = open_queues(opened, error);
	if (err != KVT_OK)
		goto put_domain;
	opened->base.fabric = &kvi_ofi_fabric;
	*cq = &opened->base;
	return KVT_OK;

put_domain:
	kvi_domain_put(opened->domain);
close_epoll:
	close(opened->epoll_fd);
free_cq:
	kvi_free(opened);
	return err;
}

void kvi_ofi_cq_forget(struct kvi_cq *base)
{
	struct kvi_ofi_cq *cq = kvi_ofi_cq(base);
	cq->is_forgotten = true;
}

void kvi_ofi_cq_close(struct kvi_cq *base)
{
	struct kvi_ofi_cq *cq = kvi_ofi_cq(base);
	if (cq->is_forgotten)
		return; /* the provider may still have our contexts, too */
	kvi_list_for_each (node, next, &cq->queues)
		kvi_queue_close(kvi_container_of(node, struct kvi_queue, node));
	fi_close(&cq->eq->fid);
	kvi_domain_put(cq->domain);
	close(cq->epoll_fd);
	kvi_context_free_all(cq);
	kvi_free(cq);
}

void kvi_ofi_cq_get_fds(const struct kvi_cq *base, int fds[2])
{
	const struct kvi_ofi_cq *cq = kvi_ofi_cq(base);
	fds[0] = cq->epoll_fd;
	fds[1] = cq->eq_fd;
}

/* ---- completions ---- */

size_t kvi_ofi_cq_poll(struct kvi_cq *base, struct kvi_completion *completions, size_t max)
{
	struct kvi_ofi_cq *cq = kvi_ofi_cq(base);
	size_t count = kvi_context_report(cq, completions, max);
	if (count < max)
		kvi_queues_look(cq);
	/* One batch of each queue: with a provider without hardware a second read costs system calls, and the
	 * caller polls again before it sleeps. */
	for (unsigned left = cq->awake_count; left > 0 && count < max; left--) {
		struct kvi_list *node = kvi_list_take_first(&cq->awake);
		kvi_list_append(&cq->awake, node); /* those behind come first next time */
		struct kvi_queue *queue = kvi_container_of(node, struct kvi_queue, awake_node);
		kvi_mute_count(queue);
		if (kvi_queue_read(queue, max - count))
			count += kvi_context_report(cq, completions + count, max - count);
	}
	return count;
}

/* ---- events ---- */

static struct kvi_ofi_lane *find_lane(struct kvi_ofi_cq *cq, fid_t fid)
{
	struct kvi_ofi_lane *lane;
	HASH_FIND_PTR(cq->lanes, &fid, lane);
	return lane;
}

void kvi_lane_note_connected(struct kvi_ofi_lane *lane)
{
	if (lane->state != KVI_LANE_STATE_OPEN)
		return;
	lane->state = KVI_LANE_STATE_CONNECTED;
	lane->connected_pending = true;
	lane->own_len = sizeof(lane->own);
	if (fi_getname(&lane->ep->fid, lane->own, &lane->own_len) != 0)
		lane->own_len = 0;
	kvi_list_append(&lane->cq->event_lanes, &lane->event_node);
}

void kvi_lane_note_lost(struct kvi_ofi_lane *lane, int provider_errno)
{
	if (lane->state == KVI_LANE_STATE_LOST)
		return;
	lane->state = KVI_LANE_STATE_LOST;
	lane->lost_pending = true;
	lane->lost_errno = provider_errno;
	kvi_list_remove(&lane->event_node);
	kvi_list_append(&lane->cq->event_lanes, &lane->event_node);
	/* Not all providers flush when the peer is lost. What was received before that is still valid. */
	kvi_queue_drain(lane->queue);
	kvi_lane_cut(lane, KVT_E_PEER_LOST);
}

/* An event of a lane that was closed finds no lane, and is dropped. */
void kvi_cq_drain_events(struct kvi_ofi_cq *cq)
{
	union {
		struct fi_eq_cm_entry entry;
		uint8_t bytes[sizeof(struct fi_eq_cm_entry) + CM_DATA_LEN_MAX];
	} buffer;
	cq->eq_armed = false;
	while (!cq->is_forgotten) {
		uint32_t event = 0;
		int provider_errno = 0;
		ssize_t ret = fi_eq_read(cq->eq, &event, &buffer, sizeof(buffer), 0);
		fid_t fid = buffer.entry.fid;
		if (ret == -FI_EAVAIL) {
			struct fi_eq_err_entry failure = { .fid = NULL };
			if (fi_eq_readerr(cq->eq, &failure, 0) <= 0)
				return;
			event = FI_SHUTDOWN;
			fid = failure.fid;
			provider_errno = failure.err < 0 ? -failure.err : failure.err;
		} else if (ret < (ssize_t)sizeof(buffer.entry)) {
			return;
		}
		struct kvi_ofi_lane *lane = find_lane(cq, fid);
		if (lane != NULL && event == FI_CONNECTED)
			kvi_lane_note_connected(lane);
		else if (lane != NULL && event == FI_SHUTDOWN)
			kvi_lane_note_lost(lane, provider_errno);
	}
}

size_t kvi_ofi_cq_poll_events(struct kvi_cq *base, struct kvi_lane_event *events, size_t max)
{
	struct kvi_ofi_cq *cq = kvi_ofi_cq(base);
	size_t count = 0;
	kvi_cq_drain_events(cq);
	while (count < max && !kvi_list_is_empty(&cq->event_lanes)) {
		struct kvi_ofi_lane *lane = kvi_container_of(kvi_list_get_first(&cq->event_lanes),
							     struct kvi_ofi_lane, event_node);
		bool *pending = lane->connected_pending ? &lane->connected_pending
							: &lane->lost_pending;
		bool is_lost = pending == &lane->lost_pending;
		*pending = false;
		events[count++] = (struct kvi_lane_event){
			.kind = is_lost ? KVI_LANE_LOST : KVI_LANE_CONNECTED,
			.context = lane->context,
			.provider_errno = !is_lost		   ? 0
					  : lane->fault_errno != 0 ? lane->fault_errno
								   : lane->lost_errno,
		};
		if (!lane->lost_pending)
			kvi_list_remove(&lane->event_node);
	}
	return count;
}

/* ---- sleeping ---- */

bool kvi_ofi_cq_may_sleep(struct kvi_cq *base)
{
	struct kvi_ofi_cq *cq = kvi_ofi_cq(base);
	if (!kvi_list_is_empty(&cq->done) || !kvi_list_is_empty(&cq->event_lanes))
		return false;
	kvi_list_for_each (node, next, &cq->awake)
		if (!kvi_queue_may_sleep(kvi_container_of(node, struct kvi_queue, awake_node)))
			return false;
	/* fi_trywait() once after each read of the event queue: until the next read its fd stays armed. */
	struct fid *fid = &cq->eq->fid;
	if (!cq->eq_armed && fi_trywait(cq->rail->fid, &fid, 1) == -FI_EAGAIN)
		return false;
	cq->eq_armed = true;
	return true;
}
