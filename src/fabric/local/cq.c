/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cq.c - a worker's place on the host: its lanes, the operations on them, and sleeping.
 *
 * A lane is awake, and each poll looks into its ring; or it is asleep, and its socket is readable when there is
 * something. So thousands of idle lanes cost nothing, and busy ones no system call.
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/error.h"
#include "fabric/local/local.h"

enum {
	LOOK_BATCH = 16,
	/* Polls of busy lanes between two looks at the sockets of all, where some are asleep: they tell that there is
	 * something. Those of lanes that are awake tell of the peer's death, and of memory that it offers: that is to be
	 * known before much is copied without it, so a poll that finds something counts for several. */
	LOOK_TURNS = 16,
	LOOK_TURNS_AWAKE = 256,
	FOUND_TURNS = 8,
	VAIN_MAX = 64, /* polls that find nothing, of a lane beside more than these: */
	AWAKE_FEW = 8, /* lanes that cost a poll next to nothing */
};

/* ---- opening ---- */

static const char *open_fds(struct kvi_local_cq *cq)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = NULL };
	cq->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	cq->events_epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (cq->epoll_fd < 0 || cq->events_epoll_fd < 0)
		return "epoll_create1";
	cq->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (cq->event_fd < 0)
		return "eventfd";
	if (epoll_ctl(cq->events_epoll_fd, EPOLL_CTL_ADD, cq->event_fd, &event) != 0)
		return "epoll_ctl";
	return NULL;
}

static void close_fds(struct kvi_local_cq *cq)
{
	const int fds[] = { cq->epoll_fd, cq->events_epoll_fd, cq->event_fd };
	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		if (fds[i] >= 0 && !cq->is_forgotten)
			close(fds[i]);
}

enum kvt_err kvi_local_cq_open(struct kvi_rail *base, struct kvi_cq **cq, struct kvt_error *error)
{
	struct kvi_local_cq *opened = kvi_alloc(sizeof(*opened));
	if (opened == NULL)
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "out of memory");
	opened->base.fabric = &kvi_local_fabric;
	opened->rail = kvi_local_rail(base);
	kvi_list_init(&opened->awake);
	kvi_list_init(&opened->event_lanes);
	kvi_list_init(&opened->done);
	kvi_list_init(&opened->free);
	pthread_mutex_init(&opened->memory_lock, NULL);
	opened->epoll_fd = opened->events_epoll_fd = opened->event_fd = -1;
	const char *failed = open_fds(opened);
	if (failed != NULL) {
		int err = errno;
		kvi_local_cq_close(&opened->base);
		return kvi_fail(error, err == EMFILE || err == ENFILE ? KVT_E_LIMIT : KVT_E_FABRIC,
				err, "%s: %s", failed, strerror(err));
	}
	*cq = &opened->base;
	return KVT_OK;
}

void kvi_local_cq_forget(struct kvi_cq *base)
{
	kvi_local_cq(base)->is_forgotten = true;
}

void kvi_local_cq_close(struct kvi_cq *base)
{
	struct kvi_local_cq *cq = kvi_local_cq(base);
	struct kvi_list *node;
	kvi_list_move_all(&cq->free, &cq->done); /* nobody asks any more */
	while ((node = kvi_list_take_first(&cq->free)) != NULL)
		kvi_free(kvi_container_of(node, struct kvi_local_op, node));
	close_fds(cq);
	pthread_mutex_destroy(&cq->memory_lock);
	kvi_free(cq);
}

void kvi_local_cq_get_fds(const struct kvi_cq *base, int fds[2])
{
	const struct kvi_local_cq *cq = kvi_local_cq(base);
	fds[0] = cq->epoll_fd;
	fds[1] = cq->events_epoll_fd;
}

/* There is something to poll for that no lane's socket tells of. */
static void rouse(struct kvi_local_cq *cq)
{
	const uint64_t one = 1;
	if (!cq->sleeps || cq->is_forgotten)
		return;
	cq->sleeps = false; /* once is enough, until it sleeps again */
	ssize_t ret = write(cq->event_fd, &one, sizeof(one));
	(void)ret; /* full: it is readable */
}

/* ---- operations ---- */

struct kvi_local_op *kvi_local_op_take(struct kvi_local_cq *cq)
{
	struct kvi_list *node = kvi_list_take_first(&cq->free);
	struct kvi_local_op *op;
	if (node != NULL) {
		op = kvi_container_of(node, struct kvi_local_op, node);
	} else {
		op = kvi_alloc(sizeof(*op));
		if (op == NULL)
			return NULL;
		kvi_list_init(&op->node);
	}
	op->completion = (struct kvi_completion){ .op = NULL };
	op->is_begun = false;
	op->count = 0;
	op->len = op->moved = 0;
	return op;
}

void kvi_local_op_give(struct kvi_local_cq *cq, struct kvi_local_op *op)
{
	kvi_list_remove(&op->node);
	kvi_list_prepend(&cq->free, &op->node);
}

void kvi_local_op_finish(struct kvi_local_op *op, enum kvt_err err, int provider_errno)
{
	struct kvi_local_lane *lane = op->lane;
	if (op->kind >= KVI_RECORD_GRANT_PULL && op->kind <= KVI_RECORD_ANSWER) {
		lane->answer_count--;
		kvi_local_op_give(lane->cq, op);
		return;
	}
	if (op->kind == KVI_RECORD_RECEIVE)
		lane->rx_posted--;
	else
		lane->tx_posted--;
	op->completion.err = err;
	op->completion.provider_errno = provider_errno;
	kvi_list_remove(&op->node);
	kvi_list_append(&lane->cq->done, &op->node);
	rouse(lane->cq);
}

struct kvi_local_piece kvi_local_op_get_piece(const struct kvi_local_op *op)
{
	size_t offset = op->moved;
	for (unsigned i = 0; i < op->count; i++) {
		const struct kvi_span *span = &op->spans[i];
		if (offset < span->len)
			return (struct kvi_local_piece){ (uint8_t *)span->base + offset,
							 span->len - offset,
							 op->sources[i] + offset };
		offset -= span->len;
	}
	return (struct kvi_local_piece){ .to = NULL };
}

static size_t report(struct kvi_local_cq *cq, struct kvi_completion *completions, size_t max)
{
	size_t count = 0;
	struct kvi_list *node;
	while (count < max && (node = kvi_list_get_first(&cq->done)) != NULL) {
		struct kvi_local_op *op = kvi_container_of(node, struct kvi_local_op, node);
		completions[count++] = op->completion;
		kvi_local_op_give(cq, op);
	}
	return count;
}

/* ---- progress ---- */

void kvi_local_lane_wake(struct kvi_local_lane *lane)
{
	lane->vain = 0;
	if (!kvi_list_is_empty(&lane->awake_node) || lane->state != KVI_LOCAL_CONNECTED)
		return;
	/* Nobody looks into its ring: the peer shall wake us, unless it has done its part already. */
	if (lane->cq->sleeps && kvi_local_lane_fall_asleep(lane))
		return;
	rouse(lane->cq);
	kvi_list_append(&lane->cq->awake, &lane->awake_node);
	lane->cq->awake_count++;
	atomic_store(&lane->ring.own->asleep, 0);
}

static bool fall_asleep(struct kvi_local_lane *lane)
{
	if (!kvi_local_lane_fall_asleep(lane))
		return false;
	kvi_list_remove(&lane->awake_node);
	lane->cq->awake_count--;
	return true;
}

/* A descriptor that the application has closed may be another file now, so the pointer may be anything. */
static struct kvi_local_lane *find_lane(struct kvi_local_cq *cq, struct kvi_local_lane *named)
{
	struct kvi_local_lane *lane;
	HASH_FIND_PTR(cq->lanes, &named, lane);
	return lane;
}

static void look(struct kvi_local_cq *cq, int epoll_fd)
{
	struct epoll_event events[LOOK_BATCH];
	/* A cq without lanes is polled beside those of other rails. */
	bool has_some = cq->lanes != NULL && !cq->is_forgotten;
	int count = has_some ? epoll_wait(epoll_fd, events, LOOK_BATCH, 0) : 0;
	for (int i = 0; i < count; i++) {
		struct kvi_local_lane *lane = find_lane(cq, events[i].data.ptr);
		if (lane != NULL)
			kvi_local_lane_on_socket(lane, events[i].events);
	}
}

size_t kvi_local_cq_poll(struct kvi_cq *base, struct kvi_completion *completions, size_t max)
{
	struct kvi_local_cq *cq = kvi_local_cq(base);
	cq->sleeps = false;
	unsigned turns = cq->awake_count < HASH_COUNT(cq->lanes) ? LOOK_TURNS : LOOK_TURNS_AWAKE;
	if (cq->must_look || cq->awake_count == 0 || ++cq->turns >= turns) {
		cq->must_look = false;
		cq->turns = 0;
		look(cq, cq->epoll_fd);
	}
	size_t count = report(cq, completions, max);
	for (unsigned left = cq->awake_count; left > 0 && count < max && !cq->is_forgotten;
	     left--) {
		struct kvi_list *node = kvi_list_take_first(&cq->awake);
		kvi_list_append(&cq->awake, node); /* those behind come first next time */
		struct kvi_local_lane *lane =
			kvi_container_of(node, struct kvi_local_lane, awake_node);
		if (kvi_local_lane_progress(lane))
			lane->vain = 0;
		else if (++lane->vain > VAIN_MAX && cq->awake_count > AWAKE_FEW)
			fall_asleep(lane);
		count += report(cq, completions + count, max - count);
	}
	if (count > 0)
		cq->turns += FOUND_TURNS;
	return count;
}

/* ---- events ---- */

void kvi_local_lane_tell(struct kvi_local_lane *lane)
{
	struct kvi_local_cq *cq = lane->cq;
	const uint64_t one = 1;
	if (kvi_list_is_empty(&cq->event_lanes) && !cq->is_forgotten) {
		ssize_t ret = write(cq->event_fd, &one, sizeof(one));
		(void)ret; /* who polls finds the lane in any case */
	}
	kvi_list_remove(&lane->event_node);
	kvi_list_append(&cq->event_lanes, &lane->event_node);
}

static void be_quiet(struct kvi_local_cq *cq)
{
	uint64_t told;
	if (cq->is_forgotten || !kvi_list_is_empty(&cq->event_lanes))
		return;
	ssize_t ret = read(cq->event_fd, &told, sizeof(told));
	(void)ret; /* it may not have told of anything */
}

size_t kvi_local_cq_poll_events(struct kvi_cq *base, struct kvi_lane_event *events, size_t max)
{
	struct kvi_local_cq *cq = kvi_local_cq(base);
	size_t count = 0;
	struct kvi_list *node;
	look(cq, cq->events_epoll_fd);
	while (count < max && (node = kvi_list_get_first(&cq->event_lanes)) != NULL) {
		struct kvi_local_lane *lane =
			kvi_container_of(node, struct kvi_local_lane, event_node);
		bool is_lost = !lane->connected_pending;
		events[count++] = (struct kvi_lane_event){
			.kind = is_lost ? KVI_LANE_LOST : KVI_LANE_CONNECTED,
			.context = lane->context,
			.provider_errno = is_lost ? lane->lost_errno : 0,
		};
		if (is_lost)
			lane->lost_pending = false;
		lane->connected_pending = false;
		if (!lane->lost_pending)
			kvi_list_remove(&lane->event_node);
	}
	be_quiet(cq);
	return count;
}

/* ---- sleeping ---- */

bool kvi_local_cq_may_sleep(struct kvi_cq *base)
{
	struct kvi_local_cq *cq = kvi_local_cq(base);
	cq->must_look = true;
	if (!kvi_list_is_empty(&cq->done) || !kvi_list_is_empty(&cq->event_lanes))
		return false;
	kvi_list_for_each (node, next, &cq->awake)
		if (!fall_asleep(kvi_container_of(node, struct kvi_local_lane, awake_node)))
			return false;
	cq->sleeps = true;
	return true;
}
