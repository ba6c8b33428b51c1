/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check.h - checking what was written or read in place, where the connection uses sums (docs/protocol.md 6.7): once the
 * operation is complete its side tells the owner of the blocks the sum of them, and the owner answers whether its
 * memory has the same.
 *
 * All functions are called under the lock of the link's worker.
 */
#ifndef KVI_ENGINE_CHECK_H
#define KVI_ENGINE_CHECK_H

#include "engine/lane/link.h"
#include "engine/paged/plan.h"

struct kvi_paged;

/* What a segment carries that is checked: the blocks as the owner knows them. */
struct kvi_check {
	uint64_t export_id;
	uint64_t sum; /* of a write: of what was there when it was taken */
	uint32_t span_count;
	uint8_t spans[KVI_SPANS_MAX * KVI_WIRE_SPAN_LEN]; /* as on the wire */
};

/* The cargo of such a segment: a struct kvi_check. */
extern const struct kvi_cargo_kind kvi_check_cargo;

/* The sum of a segment's spans on this side. */
uint64_t kvi_check_sum_spans(const struct kvi_segment *segment);

/* What the transfer of a segment moves came wrong: it fails, on this side and, by its notification, on the other. */
void kvi_check_fail(struct kvi_segment *segment, const char *what);

/* messages.c: CHECK, CHECKED. */
enum kvt_err kvi_check_on_check(struct kvi_link *link, const struct kvi_message *message);
enum kvt_err kvi_check_on_checked(struct kvi_link *link, const struct kvi_message *message);

#endif
