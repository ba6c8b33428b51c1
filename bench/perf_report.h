/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perf_report.h - a result and how it is shown: one JSON object a line for programs, a short table for people, a
 * progress line on a terminal. It measures nothing.
 */
#ifndef PERF_REPORT_H
#define PERF_REPORT_H

#include <stdbool.h>
#include <stdint.h>

/* Bytes, ns, counts, and rates a second of them; NAN where it does not apply. */
enum perf_figure {
	PERF_BLOCK_LEN,
	PERF_COUNT,
	PERF_DEPTH,
	PERF_LANES,
	PERF_MESSAGES,
	PERF_TRANSFERS,
	PERF_BYTES,
	PERF_ELAPSED,
	PERF_RECEIVER,
	PERF_RATE,
	PERF_BLOCK_RATE,
	PERF_P50,
	PERF_P99,
	PERF_SUBMIT_P50, /* of the call that starts a transfer */
	PERF_SUBMIT_P99,
	PERF_NOTIFIED_P50, /* from a transfer's start until the receiver knew of its end */
	PERF_NOTIFIED_P99,
	PERF_BESIDE, /* idle connections, and the memory of each on the side where that is more */
	PERF_BESIDE_LEN,
	PERF_MEMORY,	  /* what this process's grew by at most while transfers ran */
	PERF_CPU_COST,	  /* ns of both processes a GiB */
	PERF_CPU_PERCENT, /* of a core, of the busier one */
	PERF_FIGURES,
};

struct perf_report {
	const char *tool, *op, *mode, *provider, *pattern;
	double figures[PERF_FIGURES];
	bool verified, interrupted;
};

void perf_report_init(struct perf_report *report, const char *tool, const char *provider);
/* What took so long: rates and the cost of it, of what was put before. */
void perf_report_set_time(struct perf_report *report, int64_t elapsed_ns, int64_t cpu_ns,
			  int64_t peer_cpu_ns);
void perf_report_print(const struct perf_report *report, bool json);

/* Where a run stands, on stderr when that is a terminal, and the end of that line. */
void perf_progress(double bytes, int64_t elapsed_ns, int64_t planned_ns);
void perf_progress_end(void);

/*
 * Numbers as people read them, written into text, which is returned: three significant digits and the unit that fits,
 * "11.9 ms", "1.20 kB/s", "397 thousand", rounded before the unit is chosen: 999.6 us are "1.00 ms". What was chosen,
 * a size, is exact: "64 KiB", "1000 bytes".
 */
enum perf_unit { PERF_TIME, PERF_BYTE_RATE, PERF_NUMBER, PERF_SIZE, PERF_EXACT, PERF_PERCENT };
enum { PERF_TEXT_LEN = 32 };
const char *perf_text(char text[PERF_TEXT_LEN], enum perf_unit unit, double value);

#endif
