/* SPDX-License-Identifier: Apache-2.0 */
/* check_perf_text.c - kvtrans-perf's numbers have three digits and the unit that fits, also at the edges. */
#include "perf_report.h"

#include "../support/runner.h"

struct sample {
	double value;
	const char *text;
};

static void expect_texts(enum perf_unit unit, const struct sample *samples, size_t count)
{
	char text[PERF_TEXT_LEN];
	for (size_t i = 0; i < count; i++)
		ck_assert_str_eq(perf_text(text, unit, samples[i].value), samples[i].text);
}

#define EXPECT_TEXTS(unit, samples)                                                                \
	expect_texts(unit, samples, sizeof(samples) / sizeof((samples)[0]))

START_TEST(times_have_three_digits_and_the_unit_that_fits)
{
	static const struct sample samples[] = {
		{ 0, "0.00 ns" },	   { 1, "1.00 ns" },	    { 417, "417 ns" },
		{ 999.4, "999 ns" },	   { 999.5, "1.00 us" },    { 9994, "9.99 us" },
		{ 9996, "10.0 us" },	   { 99940, "99.9 us" },    { 99960, "100 us" },
		{ 999400, "999 us" },	   { 999600, "1.00 ms" },   { 11872173, "11.9 ms" },
		{ 999499999.0, "999 ms" }, { 999500000, "1.00 s" }, { 3.16e9, "3.16 s" },
		{ 60e9, "60.0 s" },	   { 3600e9, "3600 s" },    { 3661e9, "3660 s" },
	};
	EXPECT_TEXTS(PERF_TIME, samples);
}
END_TEST

START_TEST(rates_have_three_digits_and_the_unit_that_fits)
{
	static const struct sample samples[] = {
		{ 0, "0.00 B/s" },	  { 0.0123, "0.0123 B/s" }, { 0.09999, "0.100 B/s" },
		{ 0.9996, "1.00 B/s" },	  { 64, "64.0 B/s" },	    { 999.6, "1.00 kB/s" },
		{ 123456, "123 kB/s" },	  { 12.34e6, "12.3 MB/s" }, { 2.7949e9, "2.79 GB/s" },
		{ 999.6e9, "1.00 TB/s" }, { 1.5e15, "1500 TB/s" },
	};
	EXPECT_TEXTS(PERF_BYTE_RATE, samples);
}
END_TEST

START_TEST(counts_are_words_and_small_ones_whole)
{
	static const struct sample samples[] = {
		{ 0, "0" },
		{ 7, "7" },
		{ 999, "999" },
		{ 999.4, "999" },
		{ 12.34, "12.3" },
		{ 1000, "1.00 thousand" },
		{ 396724.3, "397 thousand" },
		{ 999499, "999 thousand" },
		{ 999500, "1.00 million" },
		{ 4.5678e9, "4.57 billion" },
		{ 18446744073709551615.0, "18400000000 billion" },
	};
	EXPECT_TEXTS(PERF_NUMBER, samples);
}
END_TEST

START_TEST(sizes_are_exact)
{
	static const struct sample samples[] = {
		{ 0, "0 bytes" },     { 64, "64 bytes" },      { 1000, "1000 bytes" },
		{ 1024, "1 KiB" },    { 1025, "1025 bytes" },  { 73728, "72 KiB" },
		{ 1 << 20, "1 MiB" }, { 3 << 19, "1536 KiB" }, { 1 << 30, "1 GiB" },
	};
	EXPECT_TEXTS(PERF_SIZE, samples);
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("perf_text");
	tcase_add_test(tests, times_have_three_digits_and_the_unit_that_fits);
	tcase_add_test(tests, rates_have_three_digits_and_the_unit_that_fits);
	tcase_add_test(tests, counts_are_words_and_small_ones_whole);
	tcase_add_test(tests, sizes_are_exact);
	return run_tests("perf_text", tests);
}
