/* SPDX-License-Identifier: Apache-2.0 */
/*
 * grid.h - packs of the smallest blocks (docs/protocol.md 7.3): where most of a pack would be spans, its blocks are
 * named by their numbers on a grid, 4 bytes each.
 */
#ifndef KVI_ENGINE_GRID_H
#define KVI_ENGINE_GRID_H

#include "engine/paged/paged.h"
#include "engine/paged/staging.h"

/* Cut off what fills a pack of limit bytes: its numbers are written, and where the bytes are is noted in sources; under
 * the plan's lock. False: the next blocks are none for a grid. */
bool kvi_grid_cut(struct kvi_paged *paged, const struct kvi_pair *pair, struct kvi_pack *pack,
		  const uint8_t **sources, size_t limit);

/* Copy what was cut off behind the numbers. */
void kvi_grid_fill(struct kvi_pack *pack, const uint8_t *const *sources);

/* Copy count blocks from data to their places. False: one is not within the extent. */
bool kvi_grid_unpack(const struct kvt_pool *pool, const struct kvi_wire_grid *grid,
		     const uint8_t *numbers, size_t count, const uint8_t *data);

#endif
