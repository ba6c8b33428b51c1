/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perf_text.h - numbers as people read them: three significant digits and the unit that fits, "11.9 ms",
 * "397 thousand". They are rounded before the unit is chosen: 999.6 us are "1.00 ms".
 */
#ifndef PERF_TEXT_H
#define PERF_TEXT_H

#include <stddef.h>
#include <stdint.h>

enum { PERF_TEXT_LEN = 32 };

/* Each writes into text, and returns it. */

/* "417 ns", "18.2 us", "11.9 ms", "1.20 s", "3600 s". */
const char *perf_text_time(char text[PERF_TEXT_LEN], double ns);

/* "1.20 kB/s", "2.79 GB/s": powers of 1,000. */
const char *perf_text_rate(char text[PERF_TEXT_LEN], double bytes_per_s);

/* "0", "12", "397 thousand", "1.25 million". Whole numbers below 1,000 have no more digits than they need. */
const char *perf_text_count(char text[PERF_TEXT_LEN], double count);

/* What was chosen, and so exact: "64 bytes", "1000 bytes", "64 KiB". */
const char *perf_text_size(char text[PERF_TEXT_LEN], size_t len);

#endif
