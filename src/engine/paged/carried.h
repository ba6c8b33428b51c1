/* SPDX-License-Identifier: Apache-2.0 */
/*
 * carried.h - a small write whose bytes travel in a message, BLOCKS, in front of the one that confirms it
 * (docs/protocol.md 7.3): both in one packet, and one answer, where a write in place takes two of each.
 */
#ifndef KVI_ENGINE_CARRIED_H
#define KVI_ENGINE_CARRIED_H

#include <stdbool.h>

#include "engine/lane/link.h"

struct kvi_paged;

/* Whether a transfer, whose plan is there, is small enough. */
bool kvi_carried_fits(const struct kvi_paged *paged);

/* Send BLOCKS, unless it was sent. False: there is no room for it yet. Under the worker's lock. */
bool kvi_carried_send(struct kvi_paged *paged);

/* messages.c */
enum kvt_err kvi_carried_on_blocks(struct kvi_link *link, const struct kvi_message *message);

#endif
