/* SPDX-License-Identifier: Apache-2.0 */
/*
 * send.h - the sender's side of a message: docs/protocol.md 6.2 to 6.5. Under the worker's lock.
 */
#ifndef KVI_ENGINE_SEND_H
#define KVI_ENGINE_SEND_H

#include "engine/tagged/tag_queue.h"
#include "engine/tagged/tagged.h"

/* A new send: its first message goes out now or when the link has room. */
void kvi_send_start(struct kvi_tagged *send);

/* Send the first message of a waiting send. False when the link has no room. */
bool kvi_send_begin(struct kvi_tagged *send);

enum kvi_send_begun {
	KVI_SEND_BEGUN,	    /* it has left the queue that it waited in */
	KVI_SEND_NO_ROOM,   /* on the link */
	KVI_SEND_NO_WINDOW, /* for a START */
};

/* The same, of the first send of its tag. */
enum kvi_send_begun kvi_send_try(struct kvi_tagged *send);

enum kvt_err kvi_send_on_cts(struct kvi_tag_queue *queue, const struct kvi_message *message);
enum kvt_err kvi_send_on_ack(struct kvi_tag_queue *queue, const struct kvi_message *message);
enum kvt_err kvi_send_on_wrong(struct kvi_tag_queue *queue, const struct kvi_message *message);
enum kvt_err kvi_send_on_refused(struct kvi_tag_queue *queue, const struct kvi_message *message);
enum kvt_err kvi_send_on_cancel(struct kvi_tag_queue *queue, const struct kvi_message *message);

/* Nothing is posted under that CTS, nor will be; also where no send is known. */
void kvi_send_cack(struct kvi_link *link, uint64_t tag, const struct kvi_message_cancel *cancel);

/* Stop: completes with transfer->error, now or when what is posted has completed. */
void kvi_send_give_up(struct kvi_tagged *send);

#endif
