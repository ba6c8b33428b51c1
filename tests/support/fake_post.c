/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fake_post.c - what callers of the fake fabric do with operations: post them and have them reported.
 * Here wrong use aborts; data moves in fake_delivery.c.
 */
#define _GNU_SOURCE 1 /* memmem */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "failing_alloc.h"
#include "fake_internal.h"

void fake_enter_cq(struct fake_cq *cq, const char *call)
{
	if (atomic_exchange(&cq->busy, true))
		fake_die("%s: another thread is in a call on this cq", call);
}

void fake_leave_cq(struct fake_cq *cq)
{
	atomic_store(&cq->busy, false);
}

static struct kvi_list *get_bucket(const struct kvi_op *op)
{
	uintptr_t bits = (uintptr_t)op;
	return &fake_world.ops[(bits >> 4 ^ bits >> 14) % FAKE_OP_BUCKETS];
}

static void check_unposted(const struct kvi_op *op)
{
	kvi_list_for_each (node, next, get_bucket(op)) {
		if (kvi_container_of(node, struct fake_post, bucket_node)->op == op)
			fake_die("op %p is posted a second time", (const void *)op);
	}
}

static void check_buffer(const struct fake_lane *lane, const struct fake_post *post)
{
	const struct fake_memory *memory = post->memory;
	const struct kvi_caps *caps = &lane->cq->rail->base.caps;
	if (memory == NULL) {
		if (caps->local_memory && post->len > 0)
			fake_die("a post of %zu bytes needs a registration", post->len);
		return;
	}
	if (memory->domain != fake_get_domain(lane->cq))
		fake_die("a post uses memory registered in another domain");
	size_t offset = (uintptr_t)post->buffer - (uintptr_t)memory->bytes;
	if (post->len > 0 && (offset > memory->len || post->len > memory->len - offset))
		fake_die("a post of %zu bytes at %p is outside its registration of %zu at %p",
			 post->len, (void *)post->buffer, memory->len, (void *)memory->bytes);
}

/* Aborts when heap bytes that nobody wrote are about to be sent; see failing_alloc.h. */
static void check_written(const struct fake_post *post)
{
	uint8_t unwritten[FAILING_ALLOC_FILL_RUN];
	memset(unwritten, FAILING_ALLOC_FILL, sizeof(unwritten));
	const uint8_t *found =
		post->len == 0 ? NULL
			       : memmem(post->buffer, post->len, unwritten, sizeof(unwritten));
	if (found != NULL)
		fake_die("a post of %zu bytes sends memory that was never written, from byte %zu",
			 post->len, (size_t)(found - post->buffer));
}

/* Aborts unless the post keeps to fabric.h. */
static void check_post(const struct fake_lane *lane, const struct kvi_op *op,
		       const struct fake_post *post)
{
	check_unposted(op);
	check_buffer(lane, post);
	if (post->buffer == NULL && post->len > 0)
		fake_die("a post of %zu bytes without a buffer", post->len);
	if (post->kind == FAKE_RECV)
		return;
	if (lane->state == FAKE_LANE_NEW || lane->state == FAKE_LANE_CONNECTING)
		fake_die("a post on a lane that is not connected");
	if (post->kind != FAKE_READ)
		check_written(post);
	size_t max_len = lane->cq->rail->base.caps.max_segment_len;
	if (post->kind != FAKE_SEND && post->len > max_len)
		fake_die("a segment of %zu bytes, where %zu is the most", post->len, max_len);
}

static bool has_room(const struct fake_lane *lane, enum fake_kind kind, size_t count)
{
	const struct kvi_caps *caps = &lane->cq->rail->base.caps;
	return kind == FAKE_RECV ? lane->rx_count + count <= caps->rx_count
				 : lane->tx_count + count <= caps->tx_count;
}

/* op NULL: a part of an operation, which is reported with its last part. */
static struct fake_post *append_post(struct fake_lane *lane, struct kvi_op *op,
				     const struct fake_post *model)
{
	struct fake_post *post = fake_alloc(sizeof(*post));
	*post = *model;
	post->op = op;
	post->lane = lane;
	post->due_ns = fake_world.delay_ns > 0 ? kvi_deadline_after(fake_world.delay_ns) : 0;
	if (post->memory != NULL)
		post->memory->uses++;
	if (op != NULL) {
		op->lane = &lane->base;
		kvi_list_append(get_bucket(op), &post->bucket_node);
		fake_world.counts.ops++;
	} else {
		kvi_list_init(&post->bucket_node);
	}

	if (post->kind == FAKE_RECV) {
		lane->rx_count++;
		kvi_list_append(&lane->receives, &post->node);
	} else {
		lane->tx_count++;
		kvi_list_append(&lane->posted, &post->node);
	}
	/* A provider takes posts until it has told that the lane is lost. */
	if (lane->state == FAKE_LANE_LOST)
		fake_finish_post(post, KVT_E_PEER_LOST, lane->lost_errno);
	return post;
}

/* Copies of an operation's parts, and the operation is done. */
static void append_copies(struct fake_lane *lane, struct kvi_op *op, const struct fake_post *posts,
			  size_t count)
{
	const struct fake_post done = { .kind = FAKE_WRITE };
	for (size_t i = 0; i < count; i++) {
		struct fake_post post = posts[i];
		post.copy = fake_alloc(post.len);
		memcpy(post.copy, post.buffer, post.len);
		post.buffer = post.copy;
		post.memory = NULL;
		append_post(lane, NULL, &post);
	}
	struct fake_post *last = append_post(lane, op, &done);
	if (lane->state != FAKE_LANE_LOST)
		fake_finish_post(last, KVT_OK, 0);
}

/* All of an operation's parts, or none. */
static enum kvt_err submit(struct fake_lane *lane, struct kvi_op *op, const struct fake_post *posts,
			   size_t count, bool copied)
{
	for (size_t i = 0; i < count; i++)
		check_post(lane, op, &posts[i]);
	if (lane->told_lost)
		return KVT_E_PEER_LOST;
	if (!has_room(lane, posts[0].kind, count))
		return KVT_E_AGAIN;
	enum kvt_err err = fake_check_fault(&fake_world.post_fault, posts[0].kind);
	if (err == KVT_OK && copied)
		append_copies(lane, op, posts, count);
	for (size_t i = 0; err == KVT_OK && !copied && i < count; i++)
		append_post(lane, i + 1 < count ? NULL : op, &posts[i]);
	if (err != KVT_OK && err != KVT_E_AGAIN)
		fake_lose_lane(lane, EIO);
	return err;
}

static enum kvt_err submit_locked(struct fake_lane *lane, struct kvi_op *op,
				  const struct fake_post *posts, size_t count, bool is_posted)
{
	struct fake_cq *cq = lane->cq;
	fake_enter_cq(cq, "post");
	fake_lock();
	enum kvt_err err = submit(lane, op, posts, count, is_posted && fake_world.buffered);
	fake_unlock();
	fake_leave_cq(cq);
	return err;
}

static enum kvt_err submit_buffer(struct fake_lane *lane, struct kvi_op *op, struct fake_post *post,
				  const void *buffer, size_t len)
{
	post->buffer = (uint8_t *)(uintptr_t)buffer;
	post->len = len;
	return submit_locked(lane, op, post, 1, false);
}

enum kvt_err fake_lane_post_recv(struct kvi_lane *base, struct kvi_op *op, void *buffer, size_t len,
				 struct kvi_memory *memory)
{
	struct fake_lane *lane = fake_lane(base);
	struct fake_post post = { .kind = FAKE_RECV, .memory = fake_memory(memory) };
	return submit_buffer(lane, op, &post, buffer, len);
}

enum kvt_err fake_lane_post_send(struct kvi_lane *base, struct kvi_op *op, const void *buffer,
				 size_t len, struct kvi_memory *memory, enum kvi_signal signal)
{
	struct fake_lane *lane = fake_lane(base);
	struct fake_post post = { .kind = FAKE_SEND,
				  .memory = fake_memory(memory),
				  .is_unsignalled = signal == KVI_UNSIGNALLED };
	return submit_buffer(lane, op, &post, buffer, len);
}

/* Its caps say that there is none: every send is an op that the script can hold and fail. */
enum kvt_err fake_lane_inject(struct kvi_lane *base, const void *buffer, size_t len)
{
	struct fake_lane *lane = fake_lane(base);
	(void)lane;
	(void)buffer;
	(void)len;
	return KVT_E_UNSUPPORTED;
}

static enum kvt_err submit_spans(struct fake_lane *lane, struct kvi_op *op, enum fake_kind kind,
				 const struct kvi_span *spans, size_t count, bool is_posted)
{
	struct fake_post posts[KVI_SPANS_MAX] = { 0 };
	if (count == 0 || count > lane->cq->rail->base.caps.span_count)
		fake_die("an operation of %zu spans, where %zu are the most", count,
			 lane->cq->rail->base.caps.span_count);
	for (size_t i = 0; i < count; i++)
		posts[i] = (struct fake_post){
			.kind = kind,
			.buffer = spans[i].base,
			.len = spans[i].len,
			.memory = fake_memory(spans[i].memory),
			.remote = spans[i].remote,
		};
	return submit_locked(lane, op, posts, count, is_posted);
}

enum kvt_err fake_lane_post_write(struct kvi_lane *base, struct kvi_op *op,
				  const struct kvi_span *spans, size_t count,
				  enum kvi_delivery delivery)
{
	struct fake_lane *lane = fake_lane(base);
	return submit_spans(lane, op, FAKE_WRITE, spans, count, delivery == KVI_POSTED);
}

enum kvt_err fake_lane_post_read(struct kvi_lane *base, struct kvi_op *op,
				 const struct kvi_span *spans, size_t count)
{
	struct fake_lane *lane = fake_lane(base);
	return submit_spans(lane, op, FAKE_READ, spans, count, false);
}

/* Hands the op back to its owner; false where only a part of it is done. */
static bool report_post(struct fake_post *post, struct kvi_completion *completion)
{
	bool is_whole = post->op != NULL;
	bool is_received = post->kind == FAKE_RECV && post->err == KVT_OK;
	*completion = (struct kvi_completion){
		.op = post->op,
		.err = post->err,
		.provider_errno = post->provider_errno,
		.len = is_received ? post->moved_len : 0,
	};
	fake_drop_memory(post);
	if (post->lane != NULL && post->kind == FAKE_RECV)
		post->lane->rx_count--;
	else if (post->lane != NULL)
		post->lane->tx_count--;
	kvi_list_remove(&post->node);
	kvi_list_remove(&post->bucket_node);
	if (is_whole)
		fake_world.counts.ops--;
	free(post->copy);
	free(post);
	return is_whole;
}

size_t fake_cq_poll(struct kvi_cq *base, struct kvi_completion *completions, size_t max)
{
	struct fake_cq *cq = fake_cq(base);
	fake_enter_cq(cq, "kvi_cq_poll");
	fake_lock();
	fake_step(cq, FAKE_STEPS_PER_POLL, false);
	size_t count = 0;
	struct kvi_list *first;
	while (count < max && (first = kvi_list_get_first(&cq->done)) != NULL)
		count += report_post(kvi_container_of(first, struct fake_post, node),
				     &completions[count]);
	fake_world.counts.vain_polls += count == 0 && kvi_list_is_empty(&cq->lanes);
	fake_unlock();
	fake_leave_cq(cq);
	return count;
}

size_t fake_cq_poll_events(struct kvi_cq *base, struct kvi_lane_event *events, size_t max)
{
	struct fake_cq *cq = fake_cq(base);
	fake_enter_cq(cq, "kvi_cq_poll_events");
	fake_lock();
	size_t count = 0;
	struct kvi_list *first;
	while (count < max && (first = kvi_list_get_first(&cq->events)) != NULL) {
		struct fake_lane *lane = kvi_container_of(first, struct fake_lane, event_node);
		events[count] = (struct kvi_lane_event){ .context = lane->context };
		if (lane->tell_connected) {
			lane->tell_connected = false;
			events[count].kind = KVI_LANE_CONNECTED;
		} else {
			lane->tell_lost = false;
			lane->told_lost = true;
			events[count].kind = KVI_LANE_LOST;
			events[count].provider_errno = lane->lost_errno;
		}
		if (!lane->tell_lost)
			kvi_list_remove(&lane->event_node);
		count++;
	}
	fake_unlock();
	fake_leave_cq(cq);
	return count;
}

void fake_cq_get_fds(const struct kvi_cq *base, int fds[2])
{
	const struct fake_cq *cq = fake_cq(base);
	fds[0] = cq->fds[0];
	fds[1] = cq->fds[1];
}

bool fake_cq_may_sleep(struct kvi_cq *base)
{
	struct fake_cq *cq = fake_cq(base);
	fake_enter_cq(cq, "kvi_cq_may_sleep");
	fake_lock();
	bool may_sleep = !fake_has_work(cq) && kvi_list_is_empty(&cq->events);
	fake_unlock();
	fake_leave_cq(cq);
	return may_sleep;
}
