/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plan.c - checking a request, merging what is contiguous on both sides, and handing out pieces.
 *
 * Design notes. Runs are of block indices, not of addresses: one list serves every extent, so a request
 * for 80 layers costs what one layer does until the pieces are taken. Whether a run is contiguous in an
 * extent is a matter of its strides, and decided there.
 */
#include "engine/paged/plan.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"

/* ---- layouts ---- */

bool kvi_layout_complete(struct kvi_layout *layout)
{
	if (layout->extent_count == 0 || layout->block_len == 0 || layout->block_len > INT64_MAX)
		return false;
	layout->len = 0;
	layout->block_count = UINT64_MAX;
	for (size_t i = 0; i < layout->extent_count; i++) {
		struct kvi_extent *extent = &layout->extents[i];
		uint64_t len;
		if (extent->count == 0 || extent->stride < layout->block_len ||
		    __builtin_mul_overflow(extent->count - 1, extent->stride, &len) ||
		    __builtin_add_overflow(len, layout->block_len, &len))
			return false;
		extent->start = layout->len;
		if (__builtin_add_overflow(layout->len, len, &layout->len) ||
		    layout->len > INT64_MAX)
			return false;
		if (extent->count < layout->block_count)
			layout->block_count = extent->count;
	}
	return true;
}

enum kvt_err kvi_layout_reblock(const struct kvi_layout *layout, uint64_t block_len,
				struct kvi_layout *view, const char *side, struct kvt_error *error)
{
	*view = (struct kvi_layout){
		.block_len = block_len,
		.extent_count = layout->extent_count,
		.extents = kvi_alloc_array(layout->extent_count, sizeof(view->extents[0])),
	};
	if (view->extents == NULL)
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for the blocks of a %s",
				side);
	for (size_t i = 0; i < layout->extent_count; i++) {
		if (layout->extents[i].stride != layout->block_len)
			return kvi_fail(error, KVT_E_INVALID, 0,
					"extent %zu of the %s has gaps between its blocks of %llu "
					"bytes: it has no blocks of %llu",
					i, side, (unsigned long long)layout->block_len,
					(unsigned long long)block_len);
		uint64_t len = kvi_extent_get_len(layout, i);
		if (len < block_len)
			return kvi_fail(error, KVT_E_INVALID, 0,
					"extent %zu of the %s has %llu bytes, no block of %llu", i,
					side, (unsigned long long)len,
					(unsigned long long)block_len);
		view->extents[i].count = len / block_len;
		view->extents[i].stride = block_len;
	}
	kvi_layout_complete(view); /* smaller than one that was complete */
	return KVT_OK;
}

/* The extent that holds byte offset of all that follow each other. */
static size_t find_extent(const struct kvi_layout *layout, uint64_t offset)
{
	size_t low = 0, high = layout->extent_count;
	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;
		if (layout->extents[middle].start <= offset)
			low = middle;
		else
			high = middle;
	}
	return low;
}

/* ---- destinations, which may not overlap ---- */

struct range {
	uint64_t start;
	uint64_t len;
	size_t number; /* in the request */
};

static int compare_ranges(const void *a, const void *b)
{
	const struct range *left = a, *right = b;
	if (left->start != right->start)
		return left->start < right->start ? -1 : 1;
	return left->number < right->number ? -1 : left->number > right->number;
}

/* Whether two of the sorted ranges with numbers below limit overlap. */
static bool have_overlap(const struct range *ranges, size_t count, size_t limit)
{
	uint64_t end = 0; /* of those before, of which none overlap */
	for (size_t i = 0; i < count; i++) {
		if (ranges[i].number >= limit)
			continue;
		if (ranges[i].start < end)
			return true;
		end = ranges[i].start + ranges[i].len;
	}
	return false;
}

/* The lowest number whose range overlaps one with a lower number; SIZE_MAX when there is none. Sorts. */
static size_t find_overlap(struct range *ranges, size_t count)
{
	qsort(ranges, count, sizeof(ranges[0]), compare_ranges);
	if (!have_overlap(ranges, count, SIZE_MAX))
		return SIZE_MAX;
	size_t low = 0, high = SIZE_MAX; /* none below low, one below high */
	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;
		if (have_overlap(ranges, count, middle))
			high = middle;
		else
			low = middle;
	}
	return high - 1;
}

static enum kvt_err fail_overlap(size_t number, uint64_t start, bool by_blocks,
				 struct kvt_error *error)
{
	if (by_blocks)
		return kvi_fail(error, KVT_E_INVALID, 0,
				"block %llu (number %zu) is a destination twice",
				(unsigned long long)start, number);
	return kvi_fail(error, KVT_E_INVALID, 0,
			"span %zu overlaps another in the destination, at offset %llu", number,
			(unsigned long long)start);
}

/* ---- blocks ---- */

static inline int64_t get_block_index(const void *indices, size_t index_len, size_t i)
{
	return index_len == 4 ? ((const int32_t *)indices)[i] : ((const int64_t *)indices)[i];
}

static enum kvt_err fail_index(const char *side, int64_t index, size_t number, uint64_t count,
			       struct kvt_error *error)
{
	return kvi_fail(error, KVT_E_INVALID, 0,
			"%s block %lld (number %zu) does not exist: there are %llu", side,
			(long long)index, number, (unsigned long long)count);
}

static struct kvi_run get_run(const struct kvi_plan *plan, size_t number)
{
	if (plan->runs != NULL)
		return plan->runs[number];
	const struct kvi_short_run *run = &plan->short_runs[number];
	return (struct kvi_run){ .local = run->local, .remote = run->remote, .count = run->count };
}

static bool make_runs(struct kvi_plan *plan, size_t count)
{
	uint64_t local_count = plan->local->block_count, remote_count = plan->remote->block_count;
	if (plan->by_blocks && local_count <= UINT32_MAX && remote_count <= UINT32_MAX)
		plan->short_runs =
			count <= 1 ? &plan->single
				   : kvi_alloc_data((count + 1) * sizeof(plan->short_runs[0]));
	else
		plan->runs = kvi_alloc_data((count + 1) * sizeof(plan->runs[0]));
	return plan->short_runs != NULL || plan->runs != NULL;
}

/*
 * Merge the blocks into runs. Returns how many there are before the first that does not exist on one side.
 * Inline, as the next one, so that index_len is a constant: a request may have 10^7 blocks.
 */
static inline size_t merge_blocks(struct kvi_plan *plan, const struct kvt_blocks_request *request,
				  size_t index_len)
{
	const uint64_t local_count = plan->local->block_count,
		       remote_count = plan->remote->block_count;
	struct kvi_short_run *short_runs = plan->short_runs, *short_run = short_runs;
	struct kvi_run *runs = plan->runs, *run = runs;
	uint64_t next_local = UINT64_MAX, next_remote = UINT64_MAX; /* what would go behind a run */
	size_t i;
	for (i = 0; i < request->count; i++) {
		/* A negative one is beyond any count. */
		uint64_t local = (uint64_t)get_block_index(request->local_idx, index_len, i);
		uint64_t remote = (uint64_t)get_block_index(request->remote_idx, index_len, i);
		if (local >= local_count || remote >= remote_count)
			break;
		bool follows = local == next_local && remote == next_remote;
		next_local = local + 1;
		next_remote = remote + 1;
		if (short_runs != NULL && follows)
			short_run[-1].count++;
		else if (short_runs != NULL)
			*short_run++ =
				(struct kvi_short_run){ (uint32_t)local, (uint32_t)remote, 1 };
		else if (follows)
			run[-1].count++;
		else
			*run++ = (struct kvi_run){ .local = local, .remote = remote, .count = 1 };
	}
	plan->run_count = (size_t)(short_runs != NULL ? short_run - short_runs : run - runs);
	return i;
}

/* Mark the blocks in a map of all, with a bit each. Returns the number of the first that is marked; count: none. */
static inline size_t mark_blocks(uint64_t *map, const void *indices, size_t index_len, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		uint64_t index = (uint64_t)get_block_index(indices, index_len, i);
		uint64_t marks = map[index / 64], bit = UINT64_C(1) << index % 64;
		if (marks & bit)
			return i;
		map[index / 64] = marks | bit;
	}
	return count;
}

/*
 * No block is a destination twice: marked in a map of all blocks, or, where a few blocks of a huge
 * pool are meant, found by sorting.
 */
static enum kvt_err check_duplicates(const struct kvt_blocks_request *request, uint64_t block_count,
				     struct kvt_error *error)
{
	const void *indices = request->direction == KVT_WRITE ? request->remote_idx
							      : request->local_idx;
	size_t count = request->count, found;
	if (count <= 1)
		return KVT_OK;
	if (block_count / 64 <= count * 64) {
		uint64_t *map = kvi_alloc_array(block_count / 64 + 1, sizeof(map[0]));
		if (map == NULL)
			return kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for %zu blocks",
					count);
		found = request->index_len == 4 ? mark_blocks(map, indices, 4, count)
						: mark_blocks(map, indices, 8, count);
		kvi_free(map);
	} else {
		struct range *ranges = kvi_alloc_array(count, sizeof(ranges[0]));
		if (ranges == NULL)
			return kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for %zu blocks",
					count);
		for (size_t i = 0; i < count; i++)
			ranges[i] = (struct range){
				(uint64_t)get_block_index(indices, request->index_len, i), 1, i
			};
		found = find_overlap(ranges, count);
		kvi_free(ranges);
	}
	if (found >= count)
		return KVT_OK;
	return fail_overlap(found, (uint64_t)get_block_index(indices, request->index_len, found),
			    true, error);
}

static enum kvt_err add_blocks(struct kvi_plan *plan, const struct kvt_blocks_request *request,
			       struct kvt_error *error)
{
	uint64_t local_count = plan->local->block_count, remote_count = plan->remote->block_count;
	if (!make_runs(plan, request->count))
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for %zu blocks",
				request->count);
	size_t right = request->index_len == 4 ? merge_blocks(plan, request, 4)
					       : merge_blocks(plan, request, 8);
	if (right == request->count)
		return check_duplicates(
			request, request->direction == KVT_WRITE ? remote_count : local_count,
			error);
	int64_t local = get_block_index(request->local_idx, request->index_len, right);
	if (local < 0 || (uint64_t)local >= local_count)
		return fail_index("local", local, right, local_count, error);
	int64_t remote = get_block_index(request->remote_idx, request->index_len, right);
	return fail_index("remote", remote, right, remote_count, error);
}

static enum kvt_err set_extents(struct kvi_plan *plan, const struct kvt_blocks_request *request,
				struct kvt_error *error)
{
	size_t local_count = plan->local->extent_count, remote_count = plan->remote->extent_count;
	if (request->extents == NULL) {
		plan->extent_count = local_count;
		if (local_count != remote_count)
			return kvi_fail(error, KVT_E_INVALID, 0,
					"the pool has %zu extents and the remote %zu; name those "
					"to transfer",
					local_count, remote_count);
		return KVT_OK;
	}
	plan->extents = kvi_alloc_data((request->extent_count + 1) * sizeof(plan->extents[0]));
	if (plan->extents == NULL)
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for %zu extents",
				request->extent_count);
	for (size_t i = 0; i < request->extent_count; i++) {
		size_t extent = request->extents[i];
		if (extent >= local_count || extent >= remote_count)
			return kvi_fail(error, KVT_E_INVALID, 0,
					"extent %zu does not exist: the pool has %zu, the remote "
					"%zu",
					extent, local_count, remote_count);
		for (size_t j = 0; j < i; j++)
			if (plan->extents[j] == extent)
				return kvi_fail(error, KVT_E_INVALID, 0,
						"extent %zu is named twice", extent);
		plan->extents[i] = extent;
	}
	plan->extent_count = request->extent_count;
	return KVT_OK;
}

size_t kvi_plan_get_extent(const struct kvi_plan *plan, size_t number)
{
	return plan->extents != NULL ? plan->extents[number] : number;
}

static bool is_contiguous(const struct kvi_plan *plan, size_t extent)
{
	return plan->local->extents[extent].stride == plan->unit_len &&
	       plan->remote->extents[extent].stride == plan->unit_len;
}

enum kvt_err kvi_plan_init_blocks(struct kvi_plan *plan, const struct kvi_layout *local,
				  const struct kvi_layout *remote,
				  const struct kvt_blocks_request *request, struct kvt_error *error)
{
	*plan = (struct kvi_plan){
		.local = local,
		.remote = remote,
		.by_blocks = true,
		.unit_len = local->block_len,
	};
	if (local->block_len != remote->block_len)
		return kvi_fail(error, KVT_E_INVALID, 0,
				"blocks of the pool have %llu bytes, those of the remote %llu; "
				"spans can move parts of them",
				(unsigned long long)local->block_len,
				(unsigned long long)remote->block_len);
	enum kvt_err err = set_extents(plan, request, error);
	if (err == KVT_OK)
		err = add_blocks(plan, request, error);
	if (err != KVT_OK)
		return err;
	plan->unit_count = request->count;
	plan->len = plan->extent_count * request->count * plan->unit_len;
	for (size_t i = 0; i < plan->extent_count; i++)
		plan->piece_count += is_contiguous(plan, kvi_plan_get_extent(plan, i))
					     ? plan->run_count
					     : request->count;
	return KVT_OK;
}

/* ---- spans ---- */

/* The extent of a span; SIZE_MAX when it is in none. */
static size_t place_span(const struct kvi_layout *layout, uint64_t offset, uint64_t len)
{
	if (offset >= layout->len)
		return SIZE_MAX;
	size_t extent = find_extent(layout, offset);
	uint64_t within = offset - layout->extents[extent].start;
	return len <= kvi_extent_get_len(layout, extent) - within ? extent : SIZE_MAX;
}

static enum kvt_err fail_span(const char *side, size_t number, uint64_t offset, uint64_t len,
			      struct kvt_error *error)
{
	return kvi_fail(error, KVT_E_INVALID, 0,
			"span %zu, %llu bytes at %llu, is not within one extent of the %s", number,
			(unsigned long long)len, (unsigned long long)offset, side);
}

static void add_span(struct kvi_plan *plan, const struct kvi_run *span)
{
	struct kvi_run *last = plan->run_count == 0 ? NULL : &plan->runs[plan->run_count - 1];
	if (last != NULL && last->local_extent == span->local_extent &&
	    last->remote_extent == span->remote_extent &&
	    last->local + last->count == span->local && last->remote + last->count == span->remote)
		last->count += span->count;
	else
		plan->runs[plan->run_count++] = *span;
}

static enum kvt_err check_overlap(const struct kvt_spans_request *request, struct kvt_error *error)
{
	if (request->count <= 1)
		return KVT_OK;
	const uint64_t *starts = request->direction == KVT_WRITE ? request->remote_off
								 : request->local_off;
	struct range *ranges = kvi_alloc_data((request->count + 1) * sizeof(ranges[0]));
	if (ranges == NULL)
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for %zu spans",
				request->count);
	size_t count = 0;
	for (size_t i = 0; i < request->count; i++)
		if (request->lens[i] > 0)
			ranges[count++] = (struct range){ starts[i], request->lens[i], i };
	size_t found = find_overlap(ranges, count);
	kvi_free(ranges);
	return found == SIZE_MAX ? KVT_OK : fail_overlap(found, starts[found], false, error);
}

enum kvt_err kvi_plan_init_spans(struct kvi_plan *plan, const struct kvi_layout *local,
				 const struct kvi_layout *remote,
				 const struct kvt_spans_request *request, struct kvt_error *error)
{
	*plan = (struct kvi_plan){
		.local = local,
		.remote = remote,
		.unit_len = 1,
		.extent_count = 1,
	};
	if (!make_runs(plan, request->count))
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for %zu spans",
				request->count);
	for (size_t i = 0; i < request->count; i++) {
		uint64_t len = request->lens[i];
		size_t local_extent = place_span(local, request->local_off[i], len);
		size_t remote_extent = place_span(remote, request->remote_off[i], len);
		if (local_extent == SIZE_MAX)
			return fail_span("pool", i, request->local_off[i], len, error);
		if (remote_extent == SIZE_MAX)
			return fail_span("remote", i, request->remote_off[i], len, error);
		if (len == 0)
			continue;
		struct kvi_run run = {
			.local = request->local_off[i] - local->extents[local_extent].start,
			.remote = request->remote_off[i] - remote->extents[remote_extent].start,
			.count = len,
			.local_extent = (uint32_t)local_extent,
			.remote_extent = (uint32_t)remote_extent,
		};
		add_span(plan, &run);
		plan->len += len;
	}
	plan->piece_count = plan->run_count;
	return check_overlap(request, error);
}

void kvi_plan_free(struct kvi_plan *plan)
{
	kvi_free(plan->extents);
	kvi_free(plan->runs);
	if (plan->short_runs != &plan->single)
		kvi_free(plan->short_runs);
	plan->extents = NULL;
	plan->runs = NULL;
	plan->short_runs = NULL;
}

/* ---- handing out ---- */

bool kvi_cursor_is_at_end(const struct kvi_plan *plan, const struct kvi_cursor *cursor)
{
	return plan->run_count == 0 || cursor->extent == plan->extent_count;
}

void kvi_plan_peek(const struct kvi_plan *plan, const struct kvi_cursor *cursor, size_t max_len,
		   struct kvi_piece *piece)
{
	const struct kvi_run run = get_run(plan, cursor->run);
	uint64_t left;
	if (plan->by_blocks) {
		size_t extent = kvi_plan_get_extent(plan, cursor->extent);
		piece->local_extent = piece->remote_extent = (uint32_t)extent;
		piece->local_offset =
			(run.local + cursor->unit) * plan->local->extents[extent].stride +
			cursor->within;
		piece->remote_offset =
			(run.remote + cursor->unit) * plan->remote->extents[extent].stride +
			cursor->within;
		left = plan->unit_len - cursor->within;
		if (is_contiguous(plan, extent))
			left += (run.count - cursor->unit - 1) * plan->unit_len;
	} else {
		piece->local_extent = run.local_extent;
		piece->remote_extent = run.remote_extent;
		piece->local_offset = run.local + cursor->unit;
		piece->remote_offset = run.remote + cursor->unit;
		left = run.count - cursor->unit;
	}
	piece->len = left < max_len ? (size_t)left : max_len;
}

void kvi_plan_advance(const struct kvi_plan *plan, struct kvi_cursor *cursor, size_t len)
{
	cursor->within += len;
	if (cursor->within < plan->unit_len)
		return;
	uint64_t units = cursor->within == plan->unit_len ? 1 : cursor->within / plan->unit_len;
	cursor->within -= units * plan->unit_len;
	cursor->unit += units;
	if (cursor->unit < get_run(plan, cursor->run).count)
		return;
	cursor->unit = 0;
	cursor->run++;
	if (cursor->run < plan->run_count)
		return;
	cursor->run = 0;
	cursor->extent++;
}

/* Runs from the first, each of which is one piece: nearly all that small blocks are made of. Up to the first that is not,
 * or is beyond the limits, even if it is the first of all. */
static size_t take_whole_runs(const struct kvi_plan *plan, struct kvi_cursor *cursor,
			      struct kvi_taking *taking, struct kvi_piece *pieces, size_t max)
{
	const size_t extent = kvi_plan_get_extent(plan, cursor->extent),
		     left = plan->run_count - cursor->run;
	const uint64_t unit_len = plan->unit_len, overhead = taking->overhead,
		       local_stride = plan->local->extents[extent].stride,
		       remote_stride = plan->remote->extents[extent].stride;
	/* What is neither cut nor left, in bytes and in units. */
	const uint64_t below = taking->piece_max < taking->below ? taking->piece_max + 1
								 : taking->below;
	const uint64_t whole = below > 0 ? (below - 1) / unit_len : 0;
	const uint64_t count_max = is_contiguous(plan, extent) || whole == 0 ? whole : 1;
	const struct kvi_short_run *runs = plan->short_runs + cursor->run;
	const uint64_t used_before = taking->len + taking->count * overhead;
	uint64_t room = taking->limit > used_before ? taking->limit - used_before : 0, units = 0;
	size_t taken = 0;
	if (max > left)
		max = left;
	for (; taken < max; taken++) {
		const struct kvi_short_run run = runs[taken];
		const uint64_t len = run.count * unit_len;
		if (run.count > count_max || len + overhead > room)
			break;
		room -= len + overhead;
		units += run.count;
		pieces[taken] = (struct kvi_piece){
			.local_extent = (uint32_t)extent,
			.remote_extent = (uint32_t)extent,
			.local_offset = run.local * local_stride,
			.remote_offset = run.remote * remote_stride,
			.len = len,
		};
	}
	taking->count += taken;
	taking->len += units * unit_len;
	cursor->run += taken;
	if (taken == left) {
		cursor->run = 0;
		cursor->extent++;
	}
	return taken;
}

static bool take_piece(const struct kvi_plan *plan, struct kvi_cursor *cursor,
		       struct kvi_taking *taking, struct kvi_piece *piece)
{
	kvi_plan_peek(plan, cursor, taking->piece_max, piece);
	if (piece->len >= taking->below ||
	    (taking->count > 0 &&
	     taking->len + piece->len + (taking->count + 1) * taking->overhead > taking->limit))
		return false;
	taking->count++;
	taking->len += piece->len;
	kvi_plan_advance(plan, cursor, piece->len);
	return true;
}

size_t kvi_plan_take(const struct kvi_plan *plan, struct kvi_cursor *cursor,
		     struct kvi_taking *taking, struct kvi_piece *pieces, size_t max)
{
	size_t taken = 0;
	while (taken < max && !kvi_cursor_is_at_end(plan, cursor)) {
		size_t runs = 0;
		if (plan->short_runs != NULL && cursor->unit == 0 && cursor->within == 0)
			runs = take_whole_runs(plan, cursor, taking, pieces + taken, max - taken);
		taken += runs;
		if (runs > 0)
			continue;
		if (!take_piece(plan, cursor, taking, &pieces[taken]))
			break;
		taken++;
	}
	return taken;
}

/* ---- handing out numbers ---- */

bool kvi_plan_names_blocks(const struct kvi_plan *plan, const struct kvi_cursor *cursor, size_t max)
{
	const size_t extent = kvi_plan_get_extent(plan, cursor->extent);
	if (plan->short_runs == NULL || cursor->within > 0)
		return false;
	if (is_contiguous(plan, extent) && plan->run_count <= plan->unit_count / 2)
		return false;
	/* At least: each run has one. */
	const uint64_t left = plan->run_count - cursor->run - 1 +
			      plan->short_runs[cursor->run].count - cursor->unit;
	return left >= max || cursor->extent + 1 == plan->extent_count;
}

size_t kvi_plan_take_blocks(const struct kvi_plan *plan, struct kvi_cursor *cursor, size_t max,
			    uint32_t *locals, uint32_t *remotes)
{
	size_t taken = 0, number = cursor->run;
	uint32_t unit = (uint32_t)cursor->unit;
	for (; taken < max && number < plan->run_count; taken++) {
		const struct kvi_short_run *run = &plan->short_runs[number];
		locals[taken] = run->local + unit;
		remotes[taken] = run->remote + unit;
		if (++unit < run->count)
			continue;
		unit = 0;
		number++;
	}
	bool is_through = number == plan->run_count;
	cursor->unit = unit;
	cursor->run = is_through ? 0 : number;
	cursor->extent += is_through;
	return taken;
}
