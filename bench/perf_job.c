/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perf_job.c - see perf_job.h. It never touches a connection.
 */
#include "perf_job.h"

#include "perf_measure.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define JOB_FORMAT                                                                                 \
	"kvtrans-perf/2 op=%u mode=%u pattern=%u block=%zu count=%zu depth=%u extents=%u "         \
	"verify=%u ns=%"

enum { SLOTS_MAX = 1 << 24 };

static const char *const op_names[PERF_OP_COUNT] = { "send", "write", "read", "notify" };

const char *perf_mode_get_name(enum perf_mode mode)
{
	static const char *const names[] = { "throughput", "latency", "connect", "idle" };

	return names[mode];
}

const char *perf_op_get_name(enum perf_op op)
{
	return op_names[op];
}

int perf_op_parse(const char *text, enum perf_op *op)
{
	for (int i = 0; i < PERF_OP_COUNT; i++) {
		if (!strcmp(text, op_names[i])) {
			*op = (enum perf_op)i;
			return 0;
		}
	}
	return -1;
}

size_t perf_job_get_slots(const struct perf_job *job)
{
	if (job->op == PERF_NOTIFY)
		return 0;
	if (job->op != PERF_SEND)
		return job->count * perf_pool_count_sets(job->block_len, job->count, job->depth);
	if (job->mode == PERF_THROUGHPUT)
		return job->count;
	return job->mode == PERF_LATENCY ? 2 : 0; /* one goes out, one takes the answer */
}

const char *perf_job_refuse(const struct perf_job *job, unsigned processes)
{
	size_t slots = perf_job_get_slots(job);

	if (slots > SLOTS_MAX)
		return "so many transfers of so many blocks need more than 16 million slots";
	return slots ? perf_pool_refuse(job->block_len, slots, processes) : NULL;
}

void perf_job_encode(const struct perf_job *job, char *text, size_t len)
{
	snprintf(text, len, JOB_FORMAT PRId64, (unsigned)job->op, (unsigned)job->mode,
		 (unsigned)job->pattern, job->block_len, job->count, job->depth, job->extents,
		 (unsigned)job->verify, job->duration_ns);
}

int perf_job_decode(const char *text, struct perf_job *job)
{
	struct perf_job read = { 0 };
	unsigned op, mode, pattern, verify;

	if (sscanf(text, JOB_FORMAT SCNd64, &op, &mode, &pattern, &read.block_len, &read.count,
		   &read.depth, &read.extents, &verify, &read.duration_ns) != 9)
		return -1;
	if (op >= PERF_OP_COUNT || (op != PERF_SEND && mode != PERF_THROUGHPUT))
		return -1;
	if (mode >= PERF_MODE_COUNT || pattern >= PERF_PATTERN_COUNT || verify > 1)
		return -1;
	if (!read.block_len || !read.count || read.count > PERF_COUNT_MAX)
		return -1;
	if (!read.depth || read.depth > PERF_DEPTH_MAX ||
	    (op == PERF_SEND && read.depth > read.count))
		return -1;
	if (read.duration_ns < 0 || read.duration_ns > 3600 * PERF_SECOND)
		return -1;
	if (!read.extents || read.extents > PERF_EXTENTS_MAX || read.count % read.extents)
		return -1;
	if (op == PERF_NOTIFY &&
	    (read.block_len < PERF_STAMP_LEN || read.block_len > PERF_NOTIFY_MAX))
		return -1;
	read.op = (enum perf_op)op;
	read.mode = (enum perf_mode)mode;
	read.pattern = (enum perf_pattern)pattern;
	read.verify = verify;
	*job = read;
	return 0;
}
