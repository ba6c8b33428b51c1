/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recv.h - the receiver's side of a message: docs/protocol.md 6.2 to 6.5. Under the worker's lock.
 */
#ifndef KVI_ENGINE_RECV_H
#define KVI_ENGINE_RECV_H

#include "engine/tagged/tag_queue.h"
#include "engine/tagged/tagged.h"

/* A new receive: takes what has arrived, or waits for it. */
void kvi_recv_start(struct kvi_tagged *receive);

enum kvt_err kvi_recv_on_eager(struct kvi_tag_queue *queue, const struct kvi_message *message);
enum kvt_err kvi_recv_on_start(struct kvi_tag_queue *queue, const struct kvi_message *message);
enum kvt_err kvi_recv_on_fin(struct kvi_tag_queue *queue, const struct kvi_message *message);
enum kvt_err kvi_recv_on_cack(struct kvi_tag_queue *queue, const struct kvi_message *message);
enum kvt_err kvi_recv_on_abort(struct kvi_tag_queue *queue, const struct kvi_message *message);

/* Stop: completes with transfer->error, now or when the sender has confirmed. */
void kvi_recv_give_up(struct kvi_tagged *receive);

#endif
