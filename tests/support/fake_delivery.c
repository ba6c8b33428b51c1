/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fake_delivery.c - posts of the fake fabric and how they come to their end. Knows lanes that are
 * connected or lost; how they became so is the business of fake_fabric.c.
 *
 * A post is on its lane's `posted` list until its data has moved, on `landed` until it completes, and on
 * its cq's `done` list until it is reported. Receives wait on `receives` and go to `done` directly. Unsignalled sends
 * wait on `unsignalled` for as long as fabric.h allows.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "fake_internal.h"

void fake_drop_memory(struct fake_post *post)
{
	if (post->memory != NULL)
		post->memory->uses--;
	post->memory = NULL;
}

void fake_finish_post(struct fake_post *post, enum kvt_err err, int provider_errno)
{
	post->err = err;
	post->provider_errno = provider_errno;
	kvi_list_remove(&post->node);
	/* What is unsignalled keeps its place until it is reported: half of them stay for others. */
	bool is_silent = post->is_unsignalled && fake_world.late &&
			 post->lane->tx_count < post->lane->cq->rail->base.caps.tx_count / 2;
	if (err == KVT_OK && is_silent) {
		kvi_list_append(&post->lane->unsignalled, &post->node);
		return;
	}
	if (err == KVT_OK && post->kind != FAKE_RECV && post->op != NULL)
		kvi_list_move_all(&post->lane->cq->done, &post->lane->unsignalled);
	kvi_list_append(&post->lane->cq->done, &post->node);
}

void fake_flush_lane(struct fake_lane *lane, enum kvt_err err, int provider_errno)
{
	struct kvi_list *lists[] = { &lane->unsignalled, &lane->landed, &lane->posted,
				     &lane->receives };
	for (size_t i = 0; i < 4; i++) {
		kvi_list_for_each (node, next, lists[i])
			fake_finish_post(kvi_container_of(node, struct fake_post, node), err,
					 provider_errno);
	}
}

static void lose_side(struct fake_lane *lane, int provider_errno)
{
	if (lane->request != NULL)
		lane->request->lane = NULL;
	lane->request = NULL;
	lane->peer = NULL;
	if (lane->state == FAKE_LANE_NEW || lane->state == FAKE_LANE_LOST)
		return;
	lane->state = FAKE_LANE_LOST;
	lane->lost_errno = provider_errno;
	lane->tell_lost = true;
	kvi_list_remove(&lane->event_node);
	kvi_list_append(&lane->cq->events, &lane->event_node);
	fake_flush_lane(lane, KVT_E_PEER_LOST, provider_errno);
}

void fake_lose_lane(struct fake_lane *lane, int provider_errno)
{
	if (lane->peer != NULL)
		lose_side(lane->peer, provider_errno);
	lose_side(lane, provider_errno);
}

/* ---- steps ---- */

/* What a step or the question for one is about. */
struct view {
	int64_t now;
	bool released;
};

static bool is_held(const struct fake_post *post, const struct view *view)
{
	return !view->released && (fake_world.hold & post->kind) != 0;
}

static bool is_ready(struct fake_post *post, const struct view *view)
{
	if (is_held(post, view) || post->due_ns > view->now)
		return false;
	if (post->kind != FAKE_SEND || !kvi_list_is_empty(&post->lane->peer->receives))
		return true;
	if (!post->has_waited)
		fake_world.counts.rnr_waits++;
	post->has_waited = true;
	return false;
}

static struct fake_post *get_first(struct kvi_list *list, bool is_send)
{
	kvi_list_for_each (node, next, list) {
		struct fake_post *post = kvi_container_of(node, struct fake_post, node);
		if ((post->kind == FAKE_SEND) == is_send)
			return post;
	}
	return NULL;
}

/* The post whose data moves next: the oldest one, but where the provider lets sends overtake writes
 * they always do. */
static struct fake_post *find_delivery(struct fake_lane *lane, const struct view *view)
{
	struct kvi_list *first = kvi_list_get_first(&lane->posted);
	if (first == NULL)
		return NULL;
	struct fake_post *post = kvi_container_of(first, struct fake_post, node);
	if (!lane->cq->rail->base.caps.send_after_write) {
		struct fake_post *send = get_first(&lane->posted, true);
		if (send != NULL && is_ready(send, view))
			return send;
		post = get_first(&lane->posted, false);
	}
	return post != NULL && is_ready(post, view) ? post : NULL;
}

static struct fake_post *find_completion(struct fake_lane *lane, const struct view *view)
{
	struct kvi_list *first = kvi_list_get_first(&lane->landed);
	if (first == NULL)
		return NULL;
	struct fake_post *post = kvi_container_of(first, struct fake_post, node);
	return is_held(post, view) ? NULL : post;
}

static struct fake_post *find_arrival(struct fake_lane *lane, const struct view *view)
{
	return lane->peer != NULL && lane->state == FAKE_LANE_CONNECTED
		       ? find_delivery(lane->peer, view)
		       : NULL;
}

static void fail_post(struct fake_post *post, enum kvt_err err, int provider_errno)
{
	struct fake_lane *lane = post->lane;
	fake_finish_post(post, err, provider_errno);
	fake_lose_lane(lane, provider_errno);
}

static void step_completion(struct fake_post *post)
{
	enum kvt_err err = fake_check_fault(&fake_world.completion_fault, post->kind);
	if (err != KVT_OK)
		fail_post(post, err, EIO);
	else
		fake_finish_post(post, KVT_OK, 0);
}

static void move_to_landed(struct fake_post *post)
{
	kvi_list_remove(&post->node);
	kvi_list_append(&post->lane->landed, &post->node);
}

/* The lane that brings it is the one that steps. */
static void count_bytes(struct fake_lane *lane, size_t len)
{
	fake_world.counts.bytes += len;
	lane->moved += len;
	lane->peer->moved += len;
}

static void step_send(struct fake_post *post, struct fake_lane *lane)
{
	struct fake_post *receive = get_first(&lane->receives, false);
	if (post->len > receive->len)
		fake_die("a message of %zu bytes met a receive of %zu", post->len, receive->len);
	if (post->len > 0)
		memcpy(receive->buffer, post->buffer, post->len);
	count_bytes(lane, post->len);
	receive->moved_len = post->len;
	move_to_landed(post);

	enum kvt_err err = fake_check_fault(&fake_world.completion_fault, FAKE_RECV);
	if (err != KVT_OK)
		fail_post(receive, err, EIO);
	else
		fake_finish_post(receive, KVT_OK, 0);
}

/* Where the write or read goes in the memory that the owner of this lane registered; NULL: nowhere. */
static uint8_t *find_target(const struct fake_post *post, const struct fake_lane *lane)
{
	unsigned access = post->kind == FAKE_WRITE ? KVI_ACCESS_REMOTE_WRITE
						   : KVI_ACCESS_REMOTE_READ;
	kvi_list_for_each (node, next, &fake_world.memories) {
		struct fake_memory *memory = kvi_container_of(node, struct fake_memory, node);
		uint64_t offset = post->remote.address - memory->base.rkey.address;
		if (memory->domain != fake_get_domain(lane->cq) ||
		    memory->base.rkey.key != post->remote.key)
			continue;
		if ((memory->access & access) == 0 || offset > memory->len ||
		    post->len > memory->len - offset)
			return NULL;
		return memory->bytes + offset;
	}
	return NULL;
}

/* One chunk of a write or read. Memory closed after the first one is still touched: tcp does so. */
static void step_rma(struct fake_post *post, struct fake_lane *lane)
{
	if (post->target == NULL)
		post->target = find_target(post, lane);
	if (post->target == NULL) {
		fake_world.counts.access_failures++;
		fail_post(post, KVT_E_FABRIC, EACCES);
		return;
	}
	size_t left = post->len - post->moved_len;
	size_t len = left < fake_world.chunk_len ? left : fake_world.chunk_len;
	uint8_t *local = post->buffer + post->moved_len;
	uint8_t *remote = post->target + post->moved_len;
	if (len > 0)
		memcpy(post->kind == FAKE_WRITE ? remote : local,
		       post->kind == FAKE_WRITE ? local : remote, len);
	count_bytes(lane, len);
	fake_world.counts.placed += len;
	post->moved_len += len;
	if (post->moved_len == post->len)
		move_to_landed(post);
}

static void step_lane(struct fake_lane *lane, const struct view *view)
{
	struct fake_post *completion = find_completion(lane, view);
	struct fake_post *arrival = find_arrival(lane, view);
	if (completion != NULL && arrival != NULL && fake_world.seed != 0 && fake_random() % 2 == 0)
		completion = NULL;
	if (completion != NULL)
		step_completion(completion);
	else if (arrival->kind == FAKE_SEND)
		step_send(arrival, lane);
	else
		step_rma(arrival, lane);
}

static bool can_step(struct fake_lane *lane, const struct view *view)
{
	return find_completion(lane, view) != NULL || find_arrival(lane, view) != NULL;
}

/* The lane that has its turn; NULL when none has anything to do. */
static struct fake_lane *choose_lane(struct fake_cq *cq, const struct view *view)
{
	struct fake_lane *first = NULL;
	size_t count = 0;
	kvi_list_for_each (node, next, &cq->lanes) {
		struct fake_lane *lane = kvi_container_of(node, struct fake_lane, node);
		if (!can_step(lane, view))
			continue;
		/* Each of the lanes is kept with the same chance. */
		count++;
		if (first == NULL || (fake_world.seed != 0 && fake_random() % count == 0))
			first = lane;
	}
	return first;
}

static size_t step_cq(struct fake_cq *cq, size_t max, const struct view *view)
{
	size_t count = 0;
	struct fake_lane *lane;
	while (count < max && (lane = choose_lane(cq, view)) != NULL) {
		kvi_list_remove(&lane->node);
		kvi_list_append(&cq->lanes, &lane->node);
		step_lane(lane, view);
		count++;
	}
	fake_world.counts.steps += count;
	return count;
}

size_t fake_step(struct fake_cq *cq, size_t max, bool released)
{
	struct view view = { kvi_clock_now(), released };
	if (cq != NULL)
		return step_cq(cq, max, &view);

	/* A step on one cq makes work for another. */
	size_t count = 0;
	size_t last_count;
	do {
		last_count = count;
		kvi_list_for_each (node, next, &fake_world.cqs) {
			count += step_cq(kvi_container_of(node, struct fake_cq, node), max - count,
					 &view);
			if (count < max)
				continue;
			/* The others have their turn first, next time. */
			kvi_list_remove(node);
			kvi_list_append(&fake_world.cqs, node);
			break;
		}
	} while (count > last_count && count < max);
	return count;
}

bool fake_has_work(struct fake_cq *cq)
{
	struct view view = { KVI_NEVER, false };
	if (!kvi_list_is_empty(&cq->done))
		return true;
	kvi_list_for_each (node, next, &cq->lanes) {
		if (can_step(kvi_container_of(node, struct fake_lane, node), &view))
			return true;
	}
	return false;
}
