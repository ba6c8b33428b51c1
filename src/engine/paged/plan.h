/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plan.h - what a paged transfer moves: two layouts, the runs of blocks or bytes between them, and a
 * cursor that hands them out in contiguous pieces. Pure: it knows no lane, no address and no peer.
 */
#ifndef KVI_ENGINE_PLAN_H
#define KVI_ENGINE_PLAN_H

#include <kvtrans.h>

/* Blocks of one extent; start: its place among the extents that follow each other, in bytes. */
struct kvi_extent {
	uint64_t count;
	uint64_t stride;
	uint64_t start;
};

/* What a pool looks like, whoever has it. */
struct kvi_layout {
	uint64_t block_len;
	uint64_t block_count; /* of the shortest extent */
	uint64_t len;	      /* of all extents */
	size_t extent_count;
	struct kvi_extent *extents;
};

/* Bytes from the first block to the end of the last. */
static inline uint64_t kvi_extent_get_len(const struct kvi_layout *layout, size_t extent)
{
	const struct kvi_extent *at = &layout->extents[extent];
	return (at->count - 1) * at->stride + layout->block_len;
}

/* Fill in starts and sums from block_len, counts and strides. False when they are no layout: no extents
 * or blocks, blocks that overlap, or more than 2^63 - 1 bytes. */
bool kvi_layout_complete(struct kvi_layout *layout);

/*
 * The same memory in blocks of another length: view, whose extents are to be freed. INVALID: it has gaps, or an
 * extent without a whole block.
 */
enum kvt_err kvi_layout_reblock(const struct kvi_layout *layout, uint64_t block_len,
				struct kvi_layout *view, const char *side, struct kvt_error *error);

/* count units (blocks, or bytes) that follow each other on both sides. */
struct kvi_run {
	uint64_t local;
	uint64_t remote;
	uint64_t count;
	uint32_t local_extent; /* of spans only: a run of blocks is in every extent */
	uint32_t remote_extent;
};

/* The same of blocks whose numbers are small, as nearly all are: a request may have 10^7 of them. */
struct kvi_short_run {
	uint32_t local;
	uint32_t remote;
	uint32_t count;
};

struct kvi_plan {
	const struct kvi_layout *local;
	const struct kvi_layout *remote;
	bool by_blocks;
	uint64_t unit_len; /* block_len, or 1 */
	size_t *extents;   /* of blocks: to go through; NULL: all */
	size_t extent_count;
	struct kvi_run *runs; /* NULL: they are short */
	struct kvi_short_run *short_runs;
	struct kvi_short_run single; /* where they are no more than one */
	size_t run_count;
	uint64_t unit_count;  /* of an extent, in all runs */
	uint64_t len;	      /* bytes in all */
	uint64_t piece_count; /* pieces it is handed out in, where none is cut */
};

/*
 * Lay out a request whose layouts are given. INVALID: the text names the first index or span that is
 * wrong. The plan keeps pointers to the layouts, nothing of the request. kvi_plan_free() either way.
 */
enum kvt_err kvi_plan_init_blocks(struct kvi_plan *plan, const struct kvi_layout *local,
				  const struct kvi_layout *remote,
				  const struct kvt_blocks_request *request,
				  struct kvt_error *error);
enum kvt_err kvi_plan_init_spans(struct kvi_plan *plan, const struct kvi_layout *local,
				 const struct kvi_layout *remote,
				 const struct kvt_spans_request *request, struct kvt_error *error);
void kvi_plan_free(struct kvi_plan *plan);

/* The extent that is the plan's number-th. */
size_t kvi_plan_get_extent(const struct kvi_plan *plan, size_t number);

/* Where one has come to. All zero: at the beginning. */
struct kvi_cursor {
	size_t extent;
	size_t run;
	uint64_t unit;	 /* of the run */
	uint64_t within; /* the unit */
};

/* Bytes that follow each other on both sides; offsets are from the start of the extents. */
struct kvi_piece {
	uint32_t local_extent;
	uint32_t remote_extent;
	uint64_t local_offset;
	uint64_t remote_offset;
	size_t len;
};

bool kvi_cursor_is_at_end(const struct kvi_plan *plan, const struct kvi_cursor *cursor);

/* The next piece, of at most max_len bytes, without going there. Not at the end. */
void kvi_plan_peek(const struct kvi_plan *plan, const struct kvi_cursor *cursor, size_t max_len,
		   struct kvi_piece *piece);

/* Go len bytes on, within the piece that is next. */
void kvi_plan_advance(const struct kvi_plan *plan, struct kvi_cursor *cursor, size_t len);

enum { KVI_PIECES = 64 }; /* taken at a time by who takes many: they stay in the CPU's own cache */

/* What to take; and what was taken so far, all zero in the beginning. */
struct kvi_taking {
	size_t piece_max; /* longer ones are cut */
	size_t below;	  /* one that is not shorter is left */
	size_t limit; /* bytes of them all, overhead of each included; the first is taken in any case */
	size_t overhead;
	size_t count;
	size_t len; /* without overhead */
};

/*
 * Take the next pieces, at most max, and go behind them. Fewer: the next one is beyond the limits, or there is
 * none. Costs a few ns a piece, where peeking and advancing cost twice as much.
 */
size_t kvi_plan_take(const struct kvi_plan *plan, struct kvi_cursor *cursor,
		     struct kvi_taking *taking, struct kvi_piece *pieces, size_t max);

/* Whether the next blocks are best named one by one: their numbers are small, most are pieces of their own, and max of
 * them, or all that are left, are of one extent. */
bool kvi_plan_names_blocks(const struct kvi_plan *plan, const struct kvi_cursor *cursor,
			   size_t max);

/* The numbers of the next blocks of this extent, at most max; and go behind them. */
size_t kvi_plan_take_blocks(const struct kvi_plan *plan, struct kvi_cursor *cursor, size_t max,
			    uint32_t *locals, uint32_t *remotes);

#endif
