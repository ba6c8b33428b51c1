/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mailbox.h - queue of embedded nodes, many senders and one taker at a time (Concurrency Kit). It has
 * no limit, so a sender never waits: whoever holds one worker's lock can always send to another worker.
 */
#ifndef KVI_BASE_MAILBOX_H
#define KVI_BASE_MAILBOX_H

#include <ck_stack.h>

/* Embedded in what is sent; in one mailbox at a time. */
struct kvi_mail {
	struct ck_stack_entry entry;
};

struct kvi_mailbox {
	struct ck_stack sent;	 /* newest first */
	struct kvi_mail *sorted; /* oldest first; the taker's */
};

void kvi_mailbox_init(struct kvi_mailbox *mailbox);

/* Any thread. What the sender did before is visible to whoever takes the mail. */
void kvi_mailbox_send(struct kvi_mailbox *mailbox, struct kvi_mail *mail);

/* The oldest, NULL when there is none. Takers exclude each other. */
struct kvi_mail *kvi_mailbox_take(struct kvi_mailbox *mailbox);

#endif
