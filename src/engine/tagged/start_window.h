/* SPDX-License-Identifier: Apache-2.0 */
/*
 * start_window.h - the window of STARTs of a lane (docs/protocol.md 6.5): how much of a receiver's memory messages
 * may take whose bytes it has not. Nothing on the wire gives it back: both sides see when a START is of no more use.
 *
 * A send whose START finds no window waits in its tag queue, and its tag queue with the others of the link, so that
 * sends of other tags pass. A tag has half of the window at most while others could use it: one whose messages
 * nobody receives does not stop the others. All of it stands under the home worker's lock.
 */
#ifndef KVI_ENGINE_START_WINDOW_H
#define KVI_ENGINE_START_WINDOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/wire.h"

struct kvi_link;
struct kvi_tag_queue;
struct kvi_tagged;

enum {
	KVI_START_WINDOW = 2 * 1024 * 1024,
	KVI_START_CHARGE = 320, /* of a START without meta */
};

static inline uint32_t kvi_start_get_charge(size_t meta_len)
{
	return (uint32_t)(KVI_START_CHARGE + meta_len);
}

void kvi_start_window_init(struct kvi_tag_queue *queue);

/* ---- the sender's side ---- */

/* Sends of the tag wait for the window: another waits behind them. */
bool kvi_start_window_is_awaited(const struct kvi_tag_queue *queue);

/* What the START of a send takes, of its link's window and of its tag's. */
bool kvi_start_window_has_room(const struct kvi_tagged *send);
void kvi_start_window_take(struct kvi_tagged *send);
/* The send has ended. Nothing where it took nothing. */
void kvi_start_window_return(struct kvi_tagged *send);

/* Window of the other kind came back: a send that waits here may go eagerly now. */
void kvi_start_window_on_room(struct kvi_link *link);

/* The send leaves the queue of its link, and waits for the window. */
void kvi_start_window_await(struct kvi_tagged *send);

/* The tag queue goes. */
void kvi_start_window_leave(struct kvi_tag_queue *queue);

/* ---- the receiver's side ---- */

/* A START with meta_len bytes has come. False: the peer has sent more than its window. */
bool kvi_start_window_hold(struct kvi_link *link, size_t meta_len);
/* What came of it is freed. */
void kvi_start_window_release(struct kvi_link *link, size_t meta_len);

#endif
