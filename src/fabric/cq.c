/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cq.c - completion and event queues: reading them, and sleeping on them. It never blocks.
 */
#include "base/alloc.h"
#include "base/error.h"
#include "base/log.h"
#include "fabric/internal.h"

enum {
	CQ_SIZE_MAX = 16384,
	CQ_SIZE_MIN = 64,
	READ_BATCH = 32,
	CM_DATA_LEN_MAX = 256, /* of any provider; unread here */
};

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

/* libfabric does not tell how large a CQ the device allows: ask for less until it agrees. */
static int open_provider_cq(struct kvi_cq *cq)
{
	int ret = -FI_EINVAL;
	for (size_t size = CQ_SIZE_MAX; ret == -FI_EINVAL && size >= CQ_SIZE_MIN; size /= 2) {
		struct fi_cq_attr attr = {
			.size = size,
			.format = FI_CQ_FORMAT_DATA,
			.wait_obj = FI_WAIT_FD,
		};
		ret = fi_cq_open(cq->domain->fid, &attr, &cq->fid, NULL);
	}
	return ret;
}

enum kvt_err kvi_cq_open(struct kvi_rail *rail, struct kvi_cq **cq, struct kvt_error *error)
{
	struct kvi_cq *opened = kvi_alloc(sizeof(*opened));
	if (opened == NULL)
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "out of memory");
	opened->rail = rail;
	kvi_list_init(&opened->lanes);
	kvi_list_init(&opened->event_lanes);
	kvi_list_init(&opened->done);
	kvi_list_init(&opened->free);
	kvi_list_init(&opened->quarantine);
	kvi_list_init(&opened->slabs);

	enum kvt_err err = kvi_domain_get(rail, &opened->domain, error);
	if (err != KVT_OK)
		goto free_cq;
	int ret = open_provider_cq(opened);
	if (ret != 0) {
		err = kvi_fabric_fail_pinned(rail, 0, ret, "fi_cq_open", error);
		goto put_domain;
	}
	struct fi_eq_attr eq_attr = { .wait_obj = FI_WAIT_FD };
	ret = fi_eq_open(rail->fabric, &eq_attr, &opened->eq, NULL);
	if (ret != 0) {
		err = kvi_fabric_fail(error, ret, "fi_eq_open");
		goto close_cq;
	}
	ret = fi_control(&opened->fid->fid, FI_GETWAIT, &opened->fds[0]);
	if (ret == 0)
		ret = fi_control(&opened->eq->fid, FI_GETWAIT, &opened->fds[1]);
	if (ret != 0) {
		err = kvi_fabric_fail(error, ret, "FI_GETWAIT");
		goto close_eq;
	}
	*cq = opened;
	return KVT_OK;

close_eq:
	fi_close(&opened->eq->fid);
close_cq:
	fi_close(&opened->fid->fid);
put_domain:
	kvi_domain_put(opened->domain);
free_cq:
	kvi_free(opened);
	return err;
}

void kvi_cq_forget(struct kvi_cq *cq)
{
	cq->is_forgotten = true;
}

void kvi_cq_close(struct kvi_cq *cq)
{
	if (cq->is_forgotten)
		return; /* the provider may still have our contexts, too */
	fi_close(&cq->fid->fid);
	fi_close(&cq->eq->fid);
	kvi_domain_put(cq->domain);
	kvi_context_free_all(cq);
	kvi_free(cq);
}

void kvi_cq_get_fds(const struct kvi_cq *cq, int fds[2])
{
	fds[0] = cq->fds[0];
	fds[1] = cq->fds[1];
}

/* ---- completions ---- */

/* One entry of the provider. What is not POSTED belongs to a lane that was closed: its op has been
 * reported, or will be, and the entry only brings the context back. */
static void take_entry(struct kvi_cq *cq, struct kvi_context *context, enum kvt_err err,
		       int provider_errno, size_t len)
{
	if (context == NULL)
		return;
	switch (context->state) {
	case KVI_CONTEXT_POSTED:
		/* A stream that lost bytes in the middle takes what follows for them. */
		if (err == KVT_OK && context->lane->fault_errno != 0) {
			err = KVT_E_FABRIC;
			provider_errno = context->lane->fault_errno;
		}
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

static bool take_error(struct kvi_cq *cq)
{
	struct fi_cq_err_entry entry = { .op_context = NULL };
	if (fi_cq_readerr(cq->fid, &entry, 0) <= 0)
		return false;
	struct kvi_context *context = entry.op_context;
	bool is_posted = context != NULL && context->state == KVI_CONTEXT_POSTED;
	bool is_ours = is_posted && context->lane->is_closing;
	if (is_posted && entry.err == EFAULT)
		context->lane->fault_errno = entry.err;
	if (!is_ours)
		kvi_log(KVI_LOG_DEBUG, "op-failed", "%s (provider: %d)", fi_strerror(entry.err),
			entry.prov_errno);
	take_entry(cq, context, is_ours ? KVT_E_CANCELLED : kvi_err_from_errno(entry.err),
		   entry.err, 0);
	return true;
}

/* Read one batch; false when there is nothing more. */
static bool read_batch(struct kvi_cq *cq, size_t max)
{
	struct fi_cq_data_entry entries[READ_BATCH];
	if (cq->is_forgotten)
		return false;
	ssize_t ret = fi_cq_read(cq->fid, entries, max < READ_BATCH ? max : READ_BATCH);
	for (ssize_t i = 0; i < ret; i++)
		take_entry(cq, entries[i].op_context, KVT_OK, 0, entries[i].len);
	if (ret == -FI_EAVAIL)
		return take_error(cq);
	if (ret < 0 && ret != -FI_EAGAIN && ret != -FI_EINTR && !cq->is_broken) {
		cq->is_broken = true;
		kvi_log(KVI_LOG_ERROR, "cq-broken", "fi_cq_read: %s", fi_strerror((int)-ret));
	}
	return ret > 0;
}

void kvi_cq_drain(struct kvi_cq *cq)
{
	while (read_batch(cq, READ_BATCH))
		;
}

size_t kvi_cq_poll(struct kvi_cq *cq, struct kvi_completion *completions, size_t max)
{
	/* One batch: asking again would cost a provider without hardware another round of system calls,
	 * and the caller asks again before it sleeps. */
	size_t count = kvi_context_report(cq, completions, max);
	if (count < max && read_batch(cq, max - count))
		count += kvi_context_report(cq, completions + count, max - count);
	return count;
}

/* ---- events ---- */

static struct kvi_lane *find_lane(struct kvi_cq *cq, fid_t fid)
{
	kvi_list_for_each (node, next, &cq->lanes) {
		struct kvi_lane *lane = kvi_container_of(node, struct kvi_lane, node);
		if (lane->ep != NULL && &lane->ep->fid == fid)
			return lane;
	}
	return NULL;
}

void kvi_lane_note_connected(struct kvi_lane *lane)
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

void kvi_lane_note_lost(struct kvi_lane *lane, int provider_errno)
{
	if (lane->state == KVI_LANE_STATE_LOST)
		return;
	lane->state = KVI_LANE_STATE_LOST;
	lane->lost_pending = true;
	lane->lost_errno = provider_errno;
	kvi_list_remove(&lane->event_node);
	kvi_list_append(&lane->cq->event_lanes, &lane->event_node);
	/* Not all providers flush when the peer is gone. What had come before counts. */
	kvi_cq_drain(lane->cq);
	kvi_lane_cut(lane, KVT_E_PEER_LOST);
}

/* An event of a lane that was closed finds no lane, and is dropped. */
void kvi_cq_drain_events(struct kvi_cq *cq)
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
		struct kvi_lane *lane = find_lane(cq, fid);
		if (lane != NULL && event == FI_CONNECTED)
			kvi_lane_note_connected(lane);
		else if (lane != NULL && event == FI_SHUTDOWN)
			kvi_lane_note_lost(lane, provider_errno);
	}
}

size_t kvi_cq_poll_events(struct kvi_cq *cq, struct kvi_lane_event *events, size_t max)
{
	size_t count = 0;
	kvi_cq_drain_events(cq);
	while (count < max && !kvi_list_is_empty(&cq->event_lanes)) {
		struct kvi_lane *lane = kvi_container_of(kvi_list_get_first(&cq->event_lanes),
							 struct kvi_lane, event_node);
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

bool kvi_cq_may_sleep(struct kvi_cq *cq)
{
	if (!kvi_list_is_empty(&cq->done) || !kvi_list_is_empty(&cq->event_lanes))
		return false;
	/* The event queue is asked once after each time it was read: until then its fd is armed. */
	struct fid *fids[] = { &cq->fid->fid, &cq->eq->fid };
	/* Any other failure is no reason to go on without sleep. */
	if (fi_trywait(cq->rail->fabric, fids, cq->eq_armed ? 1 : 2) == -FI_EAGAIN)
		return false;
	cq->eq_armed = true;
	/* Where the provider has a thread, an error written just as fi_cq_read() finds the queue
	 * empty loses its wake-up, and fi_trywait() does not look there. */
	return !take_error(cq);
}
