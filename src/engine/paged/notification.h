/* SPDX-License-Identifier: Apache-2.0 */
/*
 * notification.h - notifications that a peer sends (docs/protocol.md 7.5): whole in one message, or in parts,
 * of which a lane has one at a time. How they are sent is paged.c's business.
 */
#ifndef KVI_ENGINE_NOTIFICATION_H
#define KVI_ENGINE_NOTIFICATION_H

#include "engine/lane/link.h"

/* messages.c; under the worker's lock. */
enum kvt_err kvi_notification_on_notify(struct kvi_link *link, const struct kvi_message *message);
enum kvt_err kvi_notification_on_begin(struct kvi_link *link, const struct kvi_message *message);
enum kvt_err kvi_notification_on_part(struct kvi_link *link, const struct kvi_message *message);
enum kvt_err kvi_notification_on_drop(struct kvi_link *link, const struct kvi_message *message);

/* The lane has ended: what has come in parts and is not whole is told to nobody. */
void kvi_notification_forget(struct kvi_link *link);

#endif
