/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perf_text.c - see perf_text.h.
 */
#include "perf_text.h"

#include <stdio.h>
#include <stdlib.h>

enum { UNITS_MAX = 5 };

static double round_to_digits(double value)
{
	char text[PERF_TEXT_LEN];

	snprintf(text, sizeof(text), "%.2e", value);
	return strtod(text, NULL);
}

/* The first unit, each 1,000 of the one before, in which what is left is less than 1,000; or the last. */
static void put_scaled(char text[PERF_TEXT_LEN], double value, const char *const units[UNITS_MAX])
{
	unsigned i = 0;

	value = round_to_digits(value);
	for (; i + 1 < UNITS_MAX && units[i + 1] && value >= 1000; i++)
		value = round_to_digits(value / 1000);
	int decimals = value < 10 ? 2 : value < 100 ? 1 : 0;
	/* What is less than one of the first keeps its digits behind the zeros. */
	for (double left = value; left > 0 && left < 0.999; left *= 10)
		decimals++;
	snprintf(text, PERF_TEXT_LEN, "%.*f%s%s", decimals, value, units[i][0] ? " " : "",
		 units[i]);
}

const char *perf_text_time(char text[PERF_TEXT_LEN], double ns)
{
	static const char *const units[UNITS_MAX] = { "ns", "us", "ms", "s" };

	put_scaled(text, ns, units);
	return text;
}

const char *perf_text_rate(char text[PERF_TEXT_LEN], double bytes_per_s)
{
	static const char *const units[UNITS_MAX] = { "B/s", "kB/s", "MB/s", "GB/s", "TB/s" };

	put_scaled(text, bytes_per_s, units);
	return text;
}

const char *perf_text_count(char text[PERF_TEXT_LEN], double count)
{
	static const char *const units[UNITS_MAX] = { "", "thousand", "million", "billion" };

	if (count < 999.5 && count == (double)(unsigned)count)
		snprintf(text, PERF_TEXT_LEN, "%.0f", count);
	else
		put_scaled(text, count, units);
	return text;
}

const char *perf_text_size(char text[PERF_TEXT_LEN], size_t len)
{
	static const char *const units[] = { "bytes", "KiB", "MiB", "GiB" };
	unsigned i = 0;

	for (; i < 3 && len >= 1024 && len % 1024 == 0; i++)
		len /= 1024;
	snprintf(text, PERF_TEXT_LEN, "%zu %s", len, units[i]);
	return text;
}
