/* SPDX-License-Identifier: Apache-2.0 */
/* plan_requests.h - layouts and requests for the tests of plan.h. */
#ifndef UNIT_PLAN_REQUESTS_H
#define UNIT_PLAN_REQUESTS_H

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "engine/paged/plan.h"

enum { EXTENTS = 4 };

struct side {
	struct kvi_extent extents[EXTENTS];
	struct kvi_layout layout;
};

static inline void make_side(struct side *side, size_t extent_count, uint64_t block_len,
			     uint64_t count, uint64_t stride)
{
	*side = (struct side){ .layout = { .block_len = block_len, .extent_count = extent_count } };
	side->layout.extents = side->extents;
	for (size_t i = 0; i < extent_count; i++) {
		side->extents[i].count = count;
		side->extents[i].stride = stride;
	}
	ck_assert(kvi_layout_complete(&side->layout));
}

/* As int32; the caller's to free. */
static inline void *narrow(const int64_t *indices, size_t count)
{
	int32_t *narrowed = malloc((count + 1) * sizeof(*narrowed));
	ck_assert_ptr_nonnull(narrowed);
	for (size_t i = 0; i < count; i++)
		narrowed[i] = (int32_t)indices[i];
	return narrowed;
}

static inline struct kvt_blocks_request make_blocks(enum kvt_direction direction, const void *local,
						    const void *other, size_t count,
						    size_t index_len)
{
	struct kvt_blocks_request request = KVT_BLOCKS_REQUEST_INIT;
	request.direction = direction;
	request.local_idx = local;
	request.remote_idx = other;
	request.count = count;
	request.index_len = index_len;
	return request;
}

static inline struct kvt_spans_request make_spans(enum kvt_direction direction,
						  const uint64_t *local, const uint64_t *other,
						  const uint64_t *lens, size_t count)
{
	struct kvt_spans_request request = KVT_SPANS_REQUEST_INIT;
	request.direction = direction;
	request.local_off = local;
	request.remote_off = other;
	request.lens = lens;
	request.count = count;
	return request;
}

#endif
