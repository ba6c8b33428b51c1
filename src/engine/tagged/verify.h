/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verify.h - checking a message that was written into a receive's memory, where the connection uses sums
 * (docs/protocol.md 6.7): between FIN and its answer. A long one is summed in steps, one each time its lane is looked
 * at, so that it holds up nothing else.
 *
 * All functions are called under the worker's lock.
 */
#ifndef KVI_ENGINE_VERIFY_H
#define KVI_ENGINE_VERIFY_H

#include "engine/tagged/tagged.h"

/* FIN has told the sum of len bytes that are in the receive's memory: check them, then answer, and complete it. */
void kvi_verify_start(struct kvi_tagged *receive, size_t len, uint64_t sum);

/* The answer to a FIN of a right message; recv.c. */
void kvi_recv_finish(struct kvi_tagged *receive, bool is_right);

#endif
