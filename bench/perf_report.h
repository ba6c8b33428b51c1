/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perf_report.h - a result and how it is shown: one JSON object a line for programs, a short table
 * for people, a progress line on a terminal.
 */
#ifndef PERF_REPORT_H
#define PERF_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One result. Times and counts that do not apply are PERF_NONE; JSON has null for them. */
struct perf_report {
	const char *tool;
	const char *op;
	const char *mode; /* "throughput", "latency", "connect", "idle" */
	const char *provider;
	size_t block_len;
	size_t count;
	unsigned depth;
	unsigned lanes;
	uint64_t messages;
	uint64_t bytes;
	uint64_t transfers;	 /* 0: not a paged measurement, and the fields below do not apply */
	const char *pattern;	 /* of the blocks of a transfer */
	int64_t submit_ns;	 /* median time inside the call that starts a transfer */
	int64_t notified_p50_ns; /* from a transfer's start until the receiver knew of its end */
	int64_t notified_p99_ns;
	int64_t submit_p99_ns;
	int64_t memory_len; /* what this process's memory grew by at most while transfers ran */
	int64_t elapsed_ns;
	int64_t receiver_ns;
	int64_t p50_ns;
	int64_t p99_ns;
	int64_t cpu_ns;	     /* this process */
	int64_t peer_cpu_ns; /* the other one */
	unsigned beside; /* idle connections, and the memory of each on the side where that is more */
	int64_t beside_len;
	bool spin;
	bool verified;
	bool interrupted;
};

#define PERF_NONE INT64_C(-1)

void perf_report_print(const struct perf_report *report, bool json);

/* Where a run stands, on stderr when that is a terminal, and the end of that line. */
void perf_progress(uint64_t bytes, int64_t elapsed_ns, int64_t planned_ns);
void perf_progress_end(void);

#endif
