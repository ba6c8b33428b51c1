/* SPDX-License-Identifier: Apache-2.0 */
/*
 * grid.c - cutting off and taking apart packs of the smallest blocks. What the peer can change in one at any time are
 * numbers: they are copied out, then checked, then used, some at a time.
 */
#include "engine/paged/grid.h"

#include "engine/paged/pool.h"

enum {
	BLOCK_LEN_MAX = 256, /* of larger ones spans are a small part */
	BATCH = 64,
};

/* How many blocks fit into a pack. */
static size_t count_fitting(size_t limit, size_t block_len)
{
	if (limit < KVI_COPY_LINE)
		return 0;
	size_t count = (limit - KVI_COPY_LINE) / (KVI_WIRE_NUMBER_LEN + block_len);
	return count < KVI_PACK_SPANS_MAX ? count : KVI_PACK_SPANS_MAX;
}

bool kvi_grid_cut(struct kvi_paged *paged, const struct kvi_pair *pair, struct kvi_pack *pack,
		  const uint8_t **sources, size_t limit)
{
	const struct kvi_plan *plan = &pair->plan;
	const size_t max = count_fitting(limit, plan->unit_len);
	if (!plan->by_blocks || plan->unit_len > BLOCK_LEN_MAX || max == 0 ||
	    !kvi_plan_names_blocks(plan, &paged->cursor, max))
		return false;
	const size_t extent = kvi_plan_get_extent(plan, paged->cursor.extent);
	const uint8_t *base = pair->pool->bases[extent];
	const uint64_t stride = plan->local->extents[extent].stride;
	uint32_t locals[BATCH], remotes[BATCH];
	size_t count = 0;
	for (size_t at = paged->cursor.extent; count < max && paged->cursor.extent == at;) {
		size_t left = max - count;
		size_t taken = kvi_plan_take_blocks(plan, &paged->cursor,
						    left < BATCH ? left : BATCH, locals, remotes);
		for (size_t i = 0; i < taken; i++, count++) {
			kvi_wire_number_encode(remotes[i],
					       pack->bytes + count * KVI_WIRE_NUMBER_LEN);
			sources[count] = base + locals[i] * stride;
		}
	}
	pack->span_count = (uint32_t)count;
	pack->grid = (struct kvi_wire_grid){
		.extent = (uint32_t)extent,
		.block_len = (uint32_t)plan->unit_len,
		.stride = plan->remote->extents[extent].stride,
	};
	pack->len = kvi_pack_get_offset(count, KVI_WIRE_NUMBER_LEN) + count * plan->unit_len;
	return true;
}

/* Inline, as the next one, so that len is a constant where it is one: there are thousands of blocks. */
static inline void gather(uint8_t *to, const uint8_t *const *sources, size_t count, size_t len)
{
	for (size_t i = 0; i < count; i++)
		kvi_copy(to + i * len, sources[i], len);
}

void kvi_grid_fill(struct kvi_pack *pack, const uint8_t *const *sources)
{
	const size_t len = pack->grid.block_len;
	uint8_t *to = pack->bytes + pack->len - pack->span_count * len;
	if (len == sizeof(uint64_t))
		gather(to, sources, pack->span_count, sizeof(uint64_t));
	else
		gather(to, sources, pack->span_count, len);
}

static inline void scatter(uint8_t *base, uint64_t stride, const uint32_t *numbers, size_t count,
			   const uint8_t *from, size_t len)
{
	for (size_t i = 0; i < count; i++)
		kvi_copy(base + numbers[i] * stride, from + i * len, len);
}

bool kvi_grid_unpack(const struct kvt_pool *pool, const struct kvi_wire_grid *grid,
		     const uint8_t *bytes, size_t count, const uint8_t *data)
{
	if (grid->extent >= pool->layout.extent_count)
		return false;
	const uint64_t extent_len = kvi_extent_get_len(&pool->layout, grid->extent);
	const size_t len = grid->block_len;
	if (len > extent_len)
		return false;
	const uint64_t last = (extent_len - len) / grid->stride;
	uint8_t *base = pool->bases[grid->extent];
	uint32_t numbers[BATCH];
	for (size_t done = 0; done < count;) {
		size_t batch = count - done < BATCH ? count - done : BATCH;
		bool is_beyond = false;
		for (size_t i = 0; i < batch; i++) {
			numbers[i] =
				kvi_wire_number_decode(bytes + (done + i) * KVI_WIRE_NUMBER_LEN);
			is_beyond |= numbers[i] > last;
		}
		if (is_beyond)
			return false;
		if (len == sizeof(uint64_t))
			scatter(base, grid->stride, numbers, batch, data, sizeof(uint64_t));
		else
			scatter(base, grid->stride, numbers, batch, data, len);
		data += batch * len;
		done += batch;
	}
	return true;
}
