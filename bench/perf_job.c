/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perf_job.c - see perf_job.h. It never touches a connection.
 */
#include "perf_job.h"

#include "perf_measure.h"

#include <inttypes.h>
#include <stdio.h>

#define JOB_FORMAT "kvtrans-perf/1 mode=%u pattern=%u block=%zu count=%zu depth=%u verify=%u ns=%"

const char *perf_mode_get_name(enum perf_mode mode)
{
	static const char *const names[] = { "throughput", "latency", "connect", "idle" };

	return names[mode];
}

size_t perf_job_get_slots(const struct perf_job *job)
{
	if (job->mode == PERF_THROUGHPUT)
		return job->count;
	return job->mode == PERF_LATENCY ? 2 : 0; /* one goes out, one takes the answer */
}

const char *perf_job_refuse(const struct perf_job *job, unsigned processes)
{
	size_t slots = perf_job_get_slots(job);

	return slots ? perf_pool_refuse(job->block_len, slots, processes) : NULL;
}

void perf_job_encode(const struct perf_job *job, char *text, size_t len)
{
	snprintf(text, len, JOB_FORMAT PRId64, (unsigned)job->mode, (unsigned)job->pattern,
		 job->block_len, job->count, job->depth, (unsigned)job->verify, job->duration_ns);
}

int perf_job_decode(const char *text, struct perf_job *job)
{
	struct perf_job read = { 0 };
	unsigned mode, pattern, verify;

	if (sscanf(text, JOB_FORMAT SCNd64, &mode, &pattern, &read.block_len, &read.count,
		   &read.depth, &verify, &read.duration_ns) != 7)
		return -1;
	if (mode >= PERF_MODE_COUNT || pattern >= PERF_PATTERN_COUNT || verify > 1)
		return -1;
	if (!read.block_len || !read.count || read.count > PERF_COUNT_MAX)
		return -1;
	if (!read.depth || read.depth > PERF_DEPTH_MAX || read.depth > read.count)
		return -1;
	if (read.duration_ns < 0 || read.duration_ns > 3600 * PERF_SECOND)
		return -1;
	read.mode = (enum perf_mode)mode;
	read.pattern = (enum perf_pattern)pattern;
	read.verify = verify;
	*job = read;
	return 0;
}
