/* SPDX-License-Identifier: Apache-2.0 */
/*
 * start_window.c - what STARTs take of it, and who waits.
 *
 * Design notes. A link has two lists of tag queues that wait: of those that have no START out, which may use all that
 * is left, and of those that have some, which leave half to the others. The first of a list is asked when something
 * came back, and the next one when that one could send: so whatever came back is used, and nobody looks at all that
 * wait. A tag queue comes to the first list with the last START that it had out, and so cannot be forgotten in the other.
 * One whose first send may go eagerly is in a third list, too, as either window lets it go.
 */
#include "engine/tagged/start_window.h"

#include "engine/core/conn.h"
#include "engine/lane/link.h"
#include "engine/tagged/send.h"
#include "engine/tagged/tag_queue.h"
#include "engine/tagged/tagged.h"

static struct kvi_tagged *get_first(const struct kvi_tag_queue *queue)
{
	struct kvi_list *node = kvi_list_get_first(&queue->held);
	return node == NULL ? NULL
			    : kvi_container_of(node, struct kvi_tagged, transfer.waiter.node);
}

bool kvi_start_window_is_awaited(const struct kvi_tag_queue *queue)
{
	return !kvi_list_is_empty(&queue->held);
}

bool kvi_start_window_has_room(const struct kvi_tagged *send)
{
	const struct kvi_tag_queue *queue = send->queue;
	uint64_t charge = kvi_start_get_charge(send->transfer.meta_len);
	uint64_t after = queue->link->starts_out + charge;
	return after <= (queue->starts_out == 0 ? KVI_START_WINDOW : KVI_START_WINDOW / 2);
}

static bool is_small(const struct kvi_tagged *send)
{
	return send != NULL && send->len <= send->transfer.conn->eager_len;
}

/* It waits no more for the window, but for room on the link. */
static void give_turn(struct kvi_tag_queue *queue)
{
	kvi_list_remove(&queue->held_node);
	kvi_list_remove(&queue->small_node);
	kvi_list_append(&queue->link->waiting, &queue->waiter.node);
	kvi_link_touch(queue->link);
}

void kvi_start_window_on_room(struct kvi_link *link)
{
	struct kvi_list *node;
	while ((node = kvi_list_get_first(&link->starts_small)) != NULL) {
		struct kvi_tag_queue *queue =
			kvi_container_of(node, struct kvi_tag_queue, small_node);
		const struct kvi_tagged *send = get_first(queue);
		if (!is_small(send)) {
			kvi_list_remove(node); /* the one that was had been given up */
			continue;
		}
		if (kvi_link_has_window(link, send->transfer.meta_len, send->len))
			give_turn(queue);
		return;
	}
}

/* Let the first tag queue that waits send, if it may. */
static void wake_next(struct kvi_link *link)
{
	struct kvi_list *lists[] = { &link->starts_first, &link->starts_more };
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		struct kvi_list *node;
		while ((node = kvi_list_get_first(lists[i])) != NULL) {
			struct kvi_tag_queue *queue =
				kvi_container_of(node, struct kvi_tag_queue, held_node);
			struct kvi_tagged *send = get_first(queue);
			if (send != NULL && !kvi_start_window_has_room(send))
				break;
			if (send != NULL) {
				give_turn(queue);
				return;
			}
			kvi_list_remove(node); /* what waited was given up */
		}
	}
}

static struct kvi_list *get_list(const struct kvi_tag_queue *queue)
{
	return queue->starts_out == 0 ? &queue->link->starts_first : &queue->link->starts_more;
}

static void await_window(struct kvi_tag_queue *queue)
{
	kvi_list_remove(&queue->held_node);
	kvi_list_append(get_list(queue), &queue->held_node);
	if (is_small(get_first(queue)) && kvi_list_is_empty(&queue->small_node))
		kvi_list_append(&queue->link->starts_small, &queue->small_node);
}

/* The turn of a tag queue among those that wait for room on the link: send what it has, one at a time. */
static bool begin_held(struct kvi_waiter *waiter)
{
	struct kvi_tag_queue *queue = kvi_container_of(waiter, struct kvi_tag_queue, waiter);
	struct kvi_tagged *send = get_first(queue);
	enum kvi_send_begun begun = send == NULL ? KVI_SEND_BEGUN : kvi_send_try(send);
	if (begun == KVI_SEND_NO_ROOM)
		return false;
	kvi_list_remove(&waiter->node);
	if (begun == KVI_SEND_BEGUN && !kvi_list_is_empty(&queue->held))
		kvi_list_append(&queue->link->waiting, &waiter->node);
	else if (begun == KVI_SEND_NO_WINDOW) {
		/* Another took it meanwhile: it keeps its place. */
		kvi_list_prepend(get_list(queue), &queue->held_node);
		if (is_small(send))
			kvi_list_prepend(&queue->link->starts_small, &queue->small_node);
	}
	if (begun == KVI_SEND_BEGUN) {
		wake_next(queue->link);
		kvi_start_window_on_room(queue->link);
	}
	return true;
}

void kvi_start_window_init(struct kvi_tag_queue *queue)
{
	kvi_list_init(&queue->held);
	kvi_list_init(&queue->held_node);
	kvi_list_init(&queue->small_node);
	kvi_list_init(&queue->waiter.node);
	queue->waiter.begin = begin_held;
}

void kvi_start_window_take(struct kvi_tagged *send)
{
	send->start_charge = kvi_start_get_charge(send->transfer.meta_len);
	send->queue->starts_out += send->start_charge;
	send->queue->link->starts_out += send->start_charge;
}

/* A send of the tag has ended, which may have been the first that waited: the next one may be small. */
static void follow_first(struct kvi_tag_queue *queue)
{
	if (kvi_list_is_empty(&queue->held_node) || !kvi_list_is_empty(&queue->small_node) ||
	    !is_small(get_first(queue)))
		return;
	kvi_list_append(&queue->link->starts_small, &queue->small_node);
	kvi_start_window_on_room(queue->link);
}

void kvi_start_window_return(struct kvi_tagged *send)
{
	struct kvi_tag_queue *queue = send->queue;
	if (send->state == KVI_SEND_WAITING)
		follow_first(queue);
	if (send->start_charge == 0)
		return;
	queue->starts_out -= send->start_charge;
	queue->link->starts_out -= send->start_charge;
	send->start_charge = 0;
	if (queue->starts_out == 0 && !kvi_list_is_empty(&queue->held_node))
		await_window(queue);
	wake_next(queue->link);
}

void kvi_start_window_await(struct kvi_tagged *send)
{
	struct kvi_tag_queue *queue = send->queue;
	bool is_first = kvi_list_is_empty(&queue->held);
	kvi_list_remove(&send->transfer.waiter.node);
	kvi_list_append(&queue->held, &send->transfer.waiter.node);
	if (is_first && kvi_list_is_empty(&queue->waiter.node))
		await_window(queue);
}

void kvi_start_window_leave(struct kvi_tag_queue *queue)
{
	bool has_turn = !kvi_list_is_empty(&queue->waiter.node);
	kvi_list_remove(&queue->held_node);
	kvi_list_remove(&queue->small_node);
	kvi_list_remove(&queue->waiter.node);
	if (has_turn)
		wake_next(queue->link); /* what came back is another's */
}

bool kvi_start_window_hold(struct kvi_link *link, size_t meta_len)
{
	link->starts_held += kvi_start_get_charge(meta_len);
	return link->starts_held <= KVI_START_WINDOW;
}

void kvi_start_window_release(struct kvi_link *link, size_t meta_len)
{
	link->starts_held -= kvi_start_get_charge(meta_len);
}
