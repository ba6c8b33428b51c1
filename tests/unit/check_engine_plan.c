/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_engine_plan.c - the plan of a paged transfer against a naive one: random layouts and requests,
 * handed out in pieces of any size.
 */
#include <stdlib.h>
#include <string.h>

#include "plan_requests.h"
#include "support/runner.h"

enum { ROUNDS = 400, BLOCKS = 40 };

static uint64_t seed;

static uint64_t draw(uint64_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed % below;
}

/* ---- layouts and requests ---- */

/* Extents that differ in count and stride; every third side is contiguous. */
static void draw_side(struct side *side, size_t extent_count, uint64_t block_len)
{
	make_side(side, extent_count, block_len, 1, block_len);
	bool contiguous = draw(3) == 0;
	for (size_t i = 0; i < extent_count; i++) {
		side->extents[i].count = 1 + draw(BLOCKS);
		side->extents[i].stride = block_len + (contiguous ? 0 : draw(2) * draw(30));
	}
	ck_assert(kvi_layout_complete(&side->layout));
}

/* count numbers below limit, each once: runs of up to eight, shuffled. */
static void draw_indices(int64_t *indices, size_t count, size_t limit)
{
	int64_t all[BLOCKS * 2];
	size_t run = 1 + draw(8), run_count = limit / run;
	for (size_t i = 0; i < limit; i++)
		all[i] = (int64_t)i;
	for (size_t i = run_count; i > 1; i--) {
		size_t j = draw(i);
		for (size_t k = 0; k < run; k++) {
			int64_t swapped = all[(i - 1) * run + k];
			all[(i - 1) * run + k] = all[j * run + k];
			all[j * run + k] = swapped;
		}
	}
	memcpy(indices, all, count * sizeof(all[0]));
}

/* ---- what the plan says, byte by byte ---- */

/* As ck_assert(), which writes a line each time and so is no way to look at millions of bytes. */
static void expect(bool holds, const char *otherwise)
{
	if (!holds)
		ck_abort_msg("%s", otherwise);
}

/* Of each byte of the remote, the local byte that meets it, plus one. */
struct meeting {
	uint32_t *expected;
	uint32_t *found;
	size_t len;
	uint64_t bytes;
};

static struct meeting make_meeting(const struct side *remote)
{
	struct meeting meeting = { .len = (size_t)remote->layout.len };
	meeting.expected = calloc(meeting.len, sizeof(uint32_t));
	meeting.found = calloc(meeting.len, sizeof(uint32_t));
	ck_assert(meeting.expected != NULL && meeting.found != NULL);
	return meeting;
}

static void expect_bytes(struct meeting *meeting, uint64_t local, uint64_t remote, uint64_t len)
{
	for (uint64_t i = 0; i < len; i++)
		meeting->expected[remote + i] = (uint32_t)(local + i + 1);
	meeting->bytes += len;
}

/* Pieces of exactly max_len at most; 0: another limit each time. Now and then less is taken than was
 * offered. Returns the number of pieces. */
static uint64_t follow(const struct kvi_plan *plan, struct meeting *meeting, size_t max_len)
{
	struct kvi_cursor cursor = { 0 };
	uint64_t count = 0;
	memset(meeting->found, 0, meeting->len * sizeof(uint32_t));
	while (!kvi_cursor_is_at_end(plan, &cursor)) {
		struct kvi_piece piece;
		size_t limit = max_len != 0 ? max_len : (size_t)(1 + draw(100));
		kvi_plan_peek(plan, &cursor, limit, &piece);
		const struct kvi_layout *local = plan->local, *remote = plan->remote;
		expect(piece.len >= 1 && piece.len <= limit &&
			       piece.local_extent < local->extent_count &&
			       piece.remote_extent < remote->extent_count &&
			       piece.local_offset + piece.len <=
				       kvi_extent_get_len(local, piece.local_extent) &&
			       piece.remote_offset + piece.len <=
				       kvi_extent_get_len(remote, piece.remote_extent),
		       "a piece is too long, or outside its extents");
		size_t taken = max_len != 0 ? piece.len : 1 + draw(piece.len);
		for (size_t i = 0; i < taken; i++) {
			uint64_t from =
				local->extents[piece.local_extent].start + piece.local_offset + i;
			uint64_t to = remote->extents[piece.remote_extent].start +
				      piece.remote_offset + i;
			expect(meeting->found[to] == 0, "a byte is moved twice");
			meeting->found[to] = (uint32_t)(from + 1);
		}
		kvi_plan_advance(plan, &cursor, taken);
		count++;
	}
	return count;
}

/* Taking many at a time gives the pieces that peeking and advancing give, up to where the limits say. */
static void expect_taken(const struct kvi_plan *plan, size_t max_len)
{
	struct kvi_cursor cursor = { 0 }, other = { 0 };
	while (!kvi_cursor_is_at_end(plan, &cursor)) {
		struct kvi_piece pieces[KVI_PIECES];
		struct kvi_taking taking = {
			.piece_max = max_len != 0 ? max_len : (size_t)(1 + draw(100)),
			.below = draw(2) == 0 ? SIZE_MAX : 1 + (size_t)draw(200),
			.limit = draw(2) == 0 ? SIZE_MAX : (size_t)draw(2000),
			.overhead = (size_t)draw(20),
		};
		size_t max = 1 + (size_t)draw(KVI_PIECES), before = taking.count, taken, used = 0;
		do {
			taken = kvi_plan_take(plan, &cursor, &taking, pieces, max);
			ck_assert_uint_eq(taking.count, before + taken);
			for (size_t i = 0; i < taken; i++) {
				struct kvi_piece piece;
				kvi_plan_peek(plan, &other, taking.piece_max, &piece);
				expect(memcmp(&piece, &pieces[i], sizeof(piece)) == 0, "another "
										       "piece is "
										       "next");
				kvi_plan_advance(plan, &other, piece.len);
				used += piece.len + taking.overhead;
			}
			expect(used <= taking.limit || taking.count <= 1, "more than the limit");
			before += taken;
		} while (taken == max);
		expect(memcmp(&cursor, &other, sizeof(cursor)) == 0, "it has come elsewhere");
		ck_assert_uint_eq(taking.len + taking.count * taking.overhead, used);
		if (kvi_cursor_is_at_end(plan, &cursor))
			return;
		struct kvi_piece next;
		kvi_plan_peek(plan, &cursor, taking.piece_max, &next);
		bool is_left = next.len >= taking.below;
		expect(is_left || (taking.count > 0 &&
				   used + next.len + taking.overhead > taking.limit),
		       "it stopped too soon");
		if (is_left) {
			kvi_plan_advance(plan, &cursor, next.len);
			kvi_plan_advance(plan, &other, next.len);
		}
	}
}

/* The same by numbers: blocks of one extent at a time, that follow on what was taken, and at most so many. */
static void follow_numbers(const struct kvi_plan *plan, struct meeting *meeting, size_t max)
{
	struct kvi_cursor cursor = { 0 };
	memset(meeting->found, 0, meeting->len * sizeof(uint32_t));
	while (!kvi_cursor_is_at_end(plan, &cursor)) {
		uint32_t locals[BLOCKS * 2], remotes[BLOCKS * 2];
		const size_t extent = kvi_plan_get_extent(plan, cursor.extent), at = cursor.extent;
		const struct kvi_extent *from = &plan->local->extents[extent],
					*to = &plan->remote->extents[extent];
		bool are_named = kvi_plan_names_blocks(plan, &cursor, max);
		size_t taken = kvi_plan_take_blocks(plan, &cursor, max, locals, remotes);
		expect(taken == max || cursor.extent == at + 1, "it stopped too soon");
		expect(!are_named || taken == max || at + 1 == plan->extent_count, "a few of an "
										   "extent are "
										   "named, and "
										   "others follow");
		for (size_t i = 0; i < taken * plan->unit_len; i++) {
			uint64_t block = i / plan->unit_len, within = i % plan->unit_len;
			uint64_t here = from->start + locals[block] * from->stride + within;
			meeting->found[to->start + remotes[block] * to->stride + within] =
				(uint32_t)(here + 1);
		}
	}
	ck_assert_mem_eq(meeting->found, meeting->expected, meeting->len * sizeof(uint32_t));
}

static void expect_met(const struct kvi_plan *plan, struct meeting *meeting)
{
	static const size_t max_lens[] = { 0, 1, 7, 4096, SIZE_MAX };
	for (size_t max = 1; plan->short_runs != NULL && max <= BLOCKS * 2; max += 1 + draw(20))
		follow_numbers(plan, meeting, max);
	ck_assert_uint_eq(plan->len, meeting->bytes);
	for (size_t i = 0; i < sizeof(max_lens) / sizeof(max_lens[0]); i++) {
		uint64_t count = follow(plan, meeting, max_lens[i]);
		expect_taken(plan, max_lens[i]);
		ck_assert_mem_eq(meeting->found, meeting->expected,
				 meeting->len * sizeof(uint32_t));
		if (max_lens[i] == SIZE_MAX)
			ck_assert_uint_eq(count, plan->piece_count);
	}
	free(meeting->expected);
	free(meeting->found);
}

/* ---- blocks ---- */

static size_t draw_extents(size_t *extents, size_t limit)
{
	size_t count = 0;
	for (size_t i = limit; i > 0; i--)
		if (draw(2) == 0)
			extents[count++] = i - 1;
	return count;
}

START_TEST(blocks_of_any_layout_are_moved_once_to_their_place)
{
	seed = 0x9e3779b97f4a7c15U + (uint64_t)_i;
	for (unsigned round = 0; round < ROUNDS; round++) {
		struct side local, remote;
		int64_t mine[BLOCKS * 2], other[BLOCKS * 2];
		size_t extents[EXTENTS], extent_count = 1 + draw(EXTENTS);
		uint64_t block_len = 1 + draw(40);
		draw_side(&local, extent_count, block_len);
		draw_side(&remote, extent_count, block_len);
		size_t fewer = (size_t)(local.layout.block_count < remote.layout.block_count
						? local.layout.block_count
						: remote.layout.block_count);
		size_t count = draw(fewer + 1);
		draw_indices(mine, count, (size_t)local.layout.block_count);
		draw_indices(other, count, (size_t)remote.layout.block_count);

		size_t index_len = draw(2) == 0 ? 4 : 8;
		void *narrow_mine = narrow(mine, count), *narrow_other = narrow(other, count);
		struct kvt_blocks_request request =
			index_len == 4
				? make_blocks((enum kvt_direction)draw(2), narrow_mine,
					      narrow_other, count, 4)
				: make_blocks((enum kvt_direction)draw(2), mine, other, count, 8);
		size_t named_count = extent_count;
		if (draw(2) == 0) {
			named_count = draw_extents(extents, extent_count);
			request.extents = extents;
			request.extent_count = named_count;
		}
		struct kvi_plan plan;
		struct kvt_error error;
		enum kvt_err err = kvi_plan_init_blocks(&plan, &local.layout, &remote.layout,
							&request, &error);
		ck_assert_msg(err == KVT_OK, "refused: %s", error.text);

		struct meeting meeting = make_meeting(&remote);
		for (size_t i = 0; i < named_count; i++) {
			size_t at = request.extents != NULL ? extents[i] : i;
			const struct kvi_extent *from = &local.extents[at],
						*to = &remote.extents[at];
			for (size_t j = 0; j < count; j++)
				expect_bytes(&meeting,
					     from->start + (uint64_t)mine[j] * from->stride,
					     to->start + (uint64_t)other[j] * to->stride,
					     block_len);
		}
		expect_met(&plan, &meeting);
		kvi_plan_free(&plan);
		free(narrow_mine);
		free(narrow_other);
	}
}
END_TEST

START_TEST(a_source_block_may_go_to_many_places)
{
	static const int64_t mine[] = { 2, 2, 2, 0 }, other[] = { 3, 1, 0, 2 };
	struct side side;
	make_side(&side, 1, 16, 4, 16);
	struct kvt_blocks_request request = make_blocks(KVT_WRITE, mine, other, 4, 8);
	struct kvi_plan plan;
	ck_assert_int_eq(kvi_plan_init_blocks(&plan, &side.layout, &side.layout, &request, NULL),
			 KVT_OK);
	struct meeting meeting = make_meeting(&side);
	for (size_t i = 0; i < 4; i++)
		expect_bytes(&meeting, (uint64_t)mine[i] * 16, (uint64_t)other[i] * 16, 16);
	expect_met(&plan, &meeting);
	kvi_plan_free(&plan);
}
END_TEST

START_TEST(runs_on_both_sides_are_one_piece_where_both_are_contiguous)
{
	static const int32_t mine[] = { 4, 5, 6, 7, 0, 1 }, other[] = { 0, 1, 2, 3, 6, 7 };
	struct side packed, strided;
	struct kvt_blocks_request request = make_blocks(KVT_WRITE, mine, other, 6, 4);
	struct kvi_plan plan;
	struct kvi_piece piece;
	make_side(&packed, 2, 64, 8, 64);
	make_side(&strided, 2, 64, 8, 80);
	ck_assert_int_eq(kvi_plan_init_blocks(&plan, &packed.layout, &packed.layout, &request,
					      NULL),
			 KVT_OK);
	ck_assert_uint_eq(plan.run_count, 2);
	ck_assert_uint_eq(plan.piece_count, 4);
	kvi_plan_peek(&plan, &(struct kvi_cursor){ 0 }, SIZE_MAX, &piece);
	ck_assert_uint_eq(piece.len, 4 * 64);
	ck_assert_uint_eq(piece.local_offset, 4 * 64);
	ck_assert_uint_eq(piece.remote_offset, 0);
	kvi_plan_free(&plan);

	ck_assert_int_eq(kvi_plan_init_blocks(&plan, &packed.layout, &strided.layout, &request,
					      NULL),
			 KVT_OK);
	ck_assert_uint_eq(plan.piece_count, 12);
	kvi_plan_peek(&plan, &(struct kvi_cursor){ 0 }, SIZE_MAX, &piece);
	ck_assert_uint_eq(piece.len, 64);
	kvi_plan_free(&plan);
}
END_TEST

/* ---- spans ---- */

/* Spans that do not overlap in the remote, of any length, within its extents; some are empty. */
static size_t draw_spans(const struct side *local, const struct side *remote, uint64_t *mine,
			 uint64_t *other, uint64_t *lens, size_t max)
{
	size_t count = 0;
	for (size_t extent = 0; extent < remote->layout.extent_count; extent++) {
		uint64_t at = 0, end = kvi_extent_get_len(&remote->layout, extent);
		while (count < max && at < end) {
			size_t from = draw(local->layout.extent_count);
			uint64_t room = kvi_extent_get_len(&local->layout, from);
			uint64_t most = end - at < room ? end - at : room;
			uint64_t len = draw(most + 1);
			/* Half of them follow the one before on both sides, where there is room. */
			uint64_t start = local->extents[from].start + draw(room - len + 1);
			if (count > 0 && draw(2) == 0 &&
			    mine[count - 1] + lens[count - 1] + len <=
				    local->extents[from].start + room &&
			    mine[count - 1] + lens[count - 1] >= local->extents[from].start)
				start = mine[count - 1] + lens[count - 1];
			if (start == local->layout.len) /* an empty one at the very end */
				break;
			mine[count] = start;
			other[count] = remote->extents[extent].start + at;
			lens[count++] = len;
			at += len + draw(2) * draw(5);
		}
	}
	/* In any order. */
	for (size_t i = count; i > 1; i--) {
		size_t j = draw(i);
		uint64_t *lists[] = { mine, other, lens };
		for (size_t k = 0; k < 3; k++) {
			uint64_t swapped = lists[k][i - 1];
			lists[k][i - 1] = lists[k][j];
			lists[k][j] = swapped;
		}
	}
	return count;
}

START_TEST(blocks_beyond_four_thousand_million_are_found)
{
	static const int64_t mine[] = { 5, 6, 1 },
			     other[] = { INT64_C(0x100000007), INT64_C(0x100000008), 2 };
	struct side small, huge;
	struct kvt_blocks_request request = make_blocks(KVT_WRITE, mine, other, 3, 8);
	struct kvi_plan plan;
	struct kvi_piece piece;
	struct kvi_cursor cursor = { 0 };
	make_side(&small, 1, 64, 8, 64);
	make_side(&huge, 1, 64, UINT64_C(0x100000010), 64);
	ck_assert_int_eq(kvi_plan_init_blocks(&plan, &small.layout, &huge.layout, &request, NULL),
			 KVT_OK);
	kvi_plan_peek(&plan, &cursor, SIZE_MAX, &piece);
	ck_assert_uint_eq(piece.len, 2 * 64);
	ck_assert_uint_eq(piece.local_offset, 5 * 64);
	ck_assert_uint_eq(piece.remote_offset, UINT64_C(0x100000007) * 64);
	kvi_plan_advance(&plan, &cursor, piece.len);
	kvi_plan_peek(&plan, &cursor, SIZE_MAX, &piece);
	ck_assert_uint_eq(piece.len, 64);
	ck_assert_uint_eq(piece.remote_offset, 2 * 64);
	kvi_plan_advance(&plan, &cursor, piece.len);
	ck_assert(kvi_cursor_is_at_end(&plan, &cursor));
	kvi_plan_free(&plan);
}
END_TEST

START_TEST(spans_of_any_layout_are_moved_once_to_their_place)
{
	enum { SPANS = 60 };
	seed = 0x2545f4914f6cdd1dU + (uint64_t)_i;
	for (unsigned round = 0; round < ROUNDS; round++) {
		struct side local, remote;
		uint64_t mine[SPANS], other[SPANS], lens[SPANS];
		draw_side(&local, 1 + draw(EXTENTS), 1 + draw(40));
		draw_side(&remote, 1 + draw(EXTENTS), 1 + draw(40));
		size_t count = draw_spans(&local, &remote, mine, other, lens, SPANS);
		struct kvt_spans_request request = make_spans(KVT_WRITE, mine, other, lens, count);
		struct kvi_plan plan;
		struct kvt_error error;
		enum kvt_err err =
			kvi_plan_init_spans(&plan, &local.layout, &remote.layout, &request, &error);
		ck_assert_msg(err == KVT_OK, "refused: %s", error.text);
		struct meeting meeting = make_meeting(&remote);
		for (size_t i = 0; i < count; i++)
			expect_bytes(&meeting, mine[i], other[i], lens[i]);
		expect_met(&plan, &meeting);
		kvi_plan_free(&plan);
	}
}
END_TEST

/* ---- nothing to do ---- */

START_TEST(blocks_are_named_where_most_of_them_are_pieces)
{
	static const int32_t indices[] = { 6, 4, 5, 0, 2, 1 };
	static const struct {
		uint64_t stride, within;
		size_t count, max;
		bool are_named;
	} cases[] = {
		{ 8, 0, 6, 5, true },
		{ 8, 0, 6, 7, false }, /* another extent follows */
		{ 8, 0, 3, 2, true },  /* a run of two, and one alone */
		{ 8, 4, 6, 5, false }, /* half of one was taken */
	};
	struct side side;
	make_side(&side, 2, 8, 7, cases[_i].stride);
	struct kvt_blocks_request request =
		make_blocks(KVT_WRITE, indices, indices, cases[_i].count, 4);
	struct kvi_plan plan;
	struct kvi_cursor cursor = { .within = cases[_i].within };
	ck_assert_int_eq(kvi_plan_init_blocks(&plan, &side.layout, &side.layout, &request, NULL),
			 KVT_OK);
	ck_assert(kvi_plan_names_blocks(&plan, &cursor, cases[_i].max) == cases[_i].are_named);
	kvi_plan_free(&plan);
}
END_TEST

/* In runs, where both sides are contiguous, they are few pieces; with gaps each is one. */
START_TEST(blocks_in_runs_are_named_where_they_have_gaps_between)
{
	static const int32_t indices[] = { 4, 5, 6, 0, 1, 2 };
	struct side side;
	make_side(&side, 1, 8, 7, _i == 0 ? 8 : 9);
	struct kvt_blocks_request request = make_blocks(KVT_WRITE, indices, indices, 6, 4);
	struct kvi_plan plan;
	ck_assert_int_eq(kvi_plan_init_blocks(&plan, &side.layout, &side.layout, &request, NULL),
			 KVT_OK);
	ck_assert(kvi_plan_names_blocks(&plan, &(struct kvi_cursor){ 0 }, 6) == (_i == 1));
	kvi_plan_free(&plan);
}
END_TEST

START_TEST(an_empty_request_is_a_plan_without_pieces)
{
	struct side side;
	struct kvi_plan plan;
	struct kvi_cursor cursor = { 0 };
	size_t none = 0;
	uint64_t zeros[] = { 0, 5 };
	make_side(&side, 2, 64, _i == 0 ? 8 : 100000, 64);
	struct kvt_blocks_request blocks = make_blocks(KVT_READ, NULL, NULL, 0, 4);
	ck_assert_int_eq(kvi_plan_init_blocks(&plan, &side.layout, &side.layout, &blocks, NULL),
			 KVT_OK);
	ck_assert_uint_eq(plan.len, 0);
	ck_assert(kvi_cursor_is_at_end(&plan, &cursor));
	kvi_plan_free(&plan);

	/* No extents, though there are blocks. */
	static const int32_t first[] = { 0 };
	blocks = make_blocks(KVT_READ, first, first, 1, 4);
	blocks.extents = &none;
	blocks.extent_count = 0;
	ck_assert_int_eq(kvi_plan_init_blocks(&plan, &side.layout, &side.layout, &blocks, NULL),
			 KVT_OK);
	ck_assert_uint_eq(plan.len, 0);
	ck_assert(kvi_cursor_is_at_end(&plan, &cursor));
	kvi_plan_free(&plan);

	struct kvt_spans_request spans =
		make_spans(KVT_WRITE, zeros, zeros, (uint64_t[]){ 0, 0 }, 2);
	ck_assert_int_eq(kvi_plan_init_spans(&plan, &side.layout, &side.layout, &spans, NULL),
			 KVT_OK);
	ck_assert_uint_eq(plan.len, 0);
	ck_assert(kvi_cursor_is_at_end(&plan, &cursor));
	kvi_plan_free(&plan);
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("plan");
	tcase_set_timeout(tests, 120);
	tcase_add_loop_test(tests, blocks_of_any_layout_are_moved_once_to_their_place, 0, 4);
	tcase_add_test(tests, a_source_block_may_go_to_many_places);
	tcase_add_test(tests, runs_on_both_sides_are_one_piece_where_both_are_contiguous);
	tcase_add_test(tests, blocks_beyond_four_thousand_million_are_found);
	tcase_add_loop_test(tests, spans_of_any_layout_are_moved_once_to_their_place, 0, 4);
	tcase_add_loop_test(tests, blocks_are_named_where_most_of_them_are_pieces, 0, 4);
	tcase_add_loop_test(tests, blocks_in_runs_are_named_where_they_have_gaps_between, 0, 2);
	tcase_add_loop_test(tests, an_empty_request_is_a_plan_without_pieces, 0, 2);
	return run_tests("engine_plan", tests);
}
