/* SPDX-License-Identifier: Apache-2.0 */
/* check_engine_plan_input.c - every request and layout that the plan refuses, and the text that names
 * what is wrong. */
#include "plan_requests.h"
#include "support/runner.h"

enum { MANY_BLOCKS = 1 << 20 };

static void expect_blocks_refused(const struct side *local, const struct side *remote,
				  const struct kvt_blocks_request *request, const char *text)
{
	struct kvi_plan plan;
	struct kvt_error error;
	ck_assert_int_eq(kvi_plan_init_blocks(&plan, &local->layout, &remote->layout, request,
					      &error),
			 KVT_E_INVALID);
	ck_assert_msg(strstr(error.text, text) != NULL, "\"%s\" does not say \"%s\"", error.text,
		      text);
	kvi_plan_free(&plan);
}

START_TEST(a_bad_index_is_named_with_its_number)
{
	static const struct {
		int64_t local[4], other[4];
		const char *text;
	} cases[] = {
		{ { 0, 1, -1, 9 }, { 0, 1, 2, 3 }, "local block -1 (number 2)" },
		{ { 0, 1, 2, 3 }, { 0, -7, 2, 99 }, "remote block -7 (number 1)" },
		{ { 0, 8, 2, 3 }, { 0, 1, 2, 3 }, "local block 8 (number 1)" },
		{ { 0, 1, 2, 3 }, { 12, 1, 2, 3 }, "remote block 12 (number 0)" },
		{ { 0, 1, 2, INT32_MAX },
		  { 0, 1, 2, 3 },
		  "local block 2147483647 (number 3) does not exist: there are 8" },
	};
	struct side local, remote;
	make_side(&local, 2, 64, 8, 64);
	local.extents[1].count = 9; /* the shortest extent counts */
	ck_assert(kvi_layout_complete(&local.layout));
	make_side(&remote, 2, 64, 12, 64);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		void *mine = narrow(cases[i].local, 4), *other = narrow(cases[i].other, 4);
		struct kvt_blocks_request request = make_blocks(KVT_WRITE, mine, other, 4, 4);
		expect_blocks_refused(&local, &remote, &request, cases[i].text);
		request = make_blocks(KVT_READ, cases[i].local, cases[i].other, 4, 8);
		expect_blocks_refused(&local, &remote, &request, cases[i].text);
		free(mine);
		free(other);
	}
	static const int64_t huge[] = { INT64_MIN }, zero[] = { 0 };
	struct kvt_blocks_request request = make_blocks(KVT_WRITE, huge, zero, 1, 8);
	expect_blocks_refused(&local, &remote, &request,
			      "local block -9223372036854775808 (number 0)");
}
END_TEST

/* With few blocks of a huge pool they are sorted, else marked in a map. */
START_TEST(a_destination_named_twice_is_refused_with_its_number)
{
	static const int64_t twice[] = { 5, 3, 7, 3, 5, 1 }, once[] = { 0, 1, 2, 3, 4, 5 };
	struct side side;
	make_side(&side, 1, 8, _i == 0 ? 8 : MANY_BLOCKS, 8);
	struct kvt_blocks_request request = make_blocks(KVT_WRITE, once, twice, 6, 8);
	expect_blocks_refused(&side, &side, &request, "block 3 (number 3) is a destination twice");
	request = make_blocks(KVT_READ, twice, once, 6, 8);
	expect_blocks_refused(&side, &side, &request, "block 3 (number 3) is a destination twice");

	/* As sources they are fine. */
	struct kvi_plan plan;
	request = make_blocks(KVT_READ, once, twice, 6, 8);
	ck_assert_int_eq(kvi_plan_init_blocks(&plan, &side.layout, &side.layout, &request, NULL),
			 KVT_OK);
	kvi_plan_free(&plan);
}
END_TEST

START_TEST(layouts_and_extents_that_do_not_fit_are_refused)
{
	static const int32_t first[] = { 0 };
	static const size_t third[] = { 1, 2 }, same[] = { 1, 0, 1 };
	struct side two, three, wide;
	make_side(&two, 2, 64, 8, 64);
	make_side(&three, 3, 64, 8, 64);
	make_side(&wide, 2, 65, 8, 65);
	struct kvt_blocks_request request = make_blocks(KVT_WRITE, first, first, 1, 4);
	expect_blocks_refused(&two, &wide, &request, "64 bytes, those of the remote 65");
	expect_blocks_refused(&two, &three, &request, "2 extents and the remote 3");
	request.extents = third;
	request.extent_count = 2;
	expect_blocks_refused(&two, &three, &request, "extent 2 does not exist");
	expect_blocks_refused(&three, &two, &request, "extent 2 does not exist");
	request.extents = same;
	request.extent_count = 3;
	expect_blocks_refused(&two, &three, &request, "extent 1 is named twice");
}
END_TEST

static void expect_spans_refused(const struct side *side, enum kvt_direction direction,
				 const uint64_t spans[3][3], const char *text)
{
	struct kvt_spans_request request = make_spans(direction, spans[0], spans[1], spans[2], 3);
	struct kvi_plan plan;
	struct kvt_error error;
	ck_assert_int_eq(kvi_plan_init_spans(&plan, &side->layout, &side->layout, &request, &error),
			 KVT_E_INVALID);
	ck_assert_msg(strstr(error.text, text) != NULL, "\"%s\" does not say \"%s\"", error.text,
		      text);
	kvi_plan_free(&plan);
}

START_TEST(spans_outside_an_extent_or_over_another_are_named_with_their_number)
{
	static const struct {
		enum kvt_direction direction;
		uint64_t spans[3][3]; /* local, other, lens */
		const char *text;
	} cases[] = {
		/* Across the end of an extent of 1,000 bytes, of either side. */
		{ KVT_WRITE, { { 0, 990, 0 }, { 0, 100, 200 }, { 10, 11, 10 } }, "span 1, 11" },
		{ KVT_WRITE, { { 0, 0, 0 }, { 0, 100, 999 }, { 10, 10, 2 } }, "span 2, 2" },
		{ KVT_READ, { { 1000, 0, 100 }, { 0, 0, 1500 }, { 1001, 1, 1 } }, "span 0, 1001" },
		/* Beyond the last, and so far that sums wrap. */
		{ KVT_READ, { { 0, 2000, 0 }, { 0, 0, 0 }, { 1, 1, 1 } }, "span 1, 1" },
		{ KVT_READ, { { 0, 20, 40 }, { 0, 5, 2000 }, { 1, 1, 0 } }, "span 2, 0" },
		{ KVT_WRITE,
		  { { UINT64_MAX, 0, 0 }, { 0, 5, 9 }, { 2, 1, 1 } },
		  "is not within one extent of the pool" },
		{ KVT_WRITE,
		  { { 0, 0, 0 }, { UINT64_MAX - 1, 5, 9 }, { 3, 1, 1 } },
		  "is not within one extent of the remote" },
		{ KVT_WRITE,
		  { { 1, 0, 0 }, { 1, 5, 9 }, { UINT64_MAX, 1, 1 } },
		  "span 0, 18446744073709551615 bytes at 1" },
		/* Over another in the destination. */
		{ KVT_WRITE,
		  { { 0, 20, 40 }, { 100, 200, 109 }, { 10, 10, 10 } },
		  "span 2 overlaps another in the destination, at offset 109" },
		{ KVT_READ,
		  { { 509, 20, 500 }, { 0, 200, 400 }, { 1, 10, 10 } },
		  "span 2 overlaps another in the destination, at offset 500" },
		{ KVT_WRITE,
		  { { 0, 20, 40 }, { 100, 100, 300 }, { 10, 10, 10 } },
		  "span 1 overlaps" },
	};
	struct side side;
	make_side(&side, 2, 100, 10, 100);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		expect_spans_refused(&side, cases[i].direction, cases[i].spans, cases[i].text);
}
END_TEST

/* A long span covers several short ones that follow it. */
START_TEST(a_long_span_is_compared_with_every_span_that_it_covers)
{
	static const uint64_t spans[3][3] = { { 0, 500, 600 }, { 0, 10, 30 }, { 100, 5, 5 } };
	static const uint64_t mixed[3][3] = { { 0, 500, 600 }, { 0, 30, 10 }, { 100, 5, 5 } };
	static const uint64_t turned[3][3] = { { 500, 600, 0 }, { 10, 30, 0 }, { 5, 5, 100 } };
	struct side side;
	make_side(&side, 1, 1000, 1, 1000);
	expect_spans_refused(&side, KVT_WRITE, spans, "span 1 overlaps");
	expect_spans_refused(&side, KVT_WRITE, mixed, "span 1 overlaps");
	expect_spans_refused(&side, KVT_WRITE, turned, "span 2 overlaps");
}
END_TEST

START_TEST(what_is_no_layout_is_refused)
{
	static const struct {
		uint64_t block_len, count, stride;
	} cases[] = {
		{ 0, 1, 1 },
		{ 64, 0, 64 },
		{ 64, 2, 63 },
		{ 64, 1, 0 },
		{ (uint64_t)INT64_MAX + 1, 1, (uint64_t)INT64_MAX + 1 },
		{ 64, UINT64_MAX, 64 },
		{ 1, (uint64_t)1 << 62, 4 },
		{ 1, 3, (uint64_t)INT64_MAX },
	};
	struct side side;
	make_side(&side, 1, 1, 1, 1);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		side.layout.block_len = cases[i].block_len;
		side.extents[0].count = cases[i].count;
		side.extents[0].stride = cases[i].stride;
		ck_assert_msg(!kvi_layout_complete(&side.layout), "case %zu is taken", i);
	}
	/* Each fits, but not both. */
	make_side(&side, 2, 1, 1, 1);
	side.extents[0].count = side.extents[1].count = (uint64_t)1 << 62;
	ck_assert(!kvi_layout_complete(&side.layout));
	side.layout.extent_count = 0;
	ck_assert(!kvi_layout_complete(&side.layout));
	side.layout.extent_count = 1;
	ck_assert(kvi_layout_complete(&side.layout));
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("plan_input");
	tcase_add_test(tests, a_bad_index_is_named_with_its_number);
	tcase_add_loop_test(tests, a_destination_named_twice_is_refused_with_its_number, 0, 2);
	tcase_add_test(tests, layouts_and_extents_that_do_not_fit_are_refused);
	tcase_add_test(tests, spans_outside_an_extent_or_over_another_are_named_with_their_number);
	tcase_add_test(tests, a_long_span_is_compared_with_every_span_that_it_covers);
	tcase_add_test(tests, what_is_no_layout_is_refused);
	return run_tests("engine_plan_input", tests);
}
