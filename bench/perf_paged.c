/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perf_paged.c - see perf_paged.h: what both sides need. It never starts a transfer.
 */
#include "perf_paged.h"

#include <err.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The order within one extent, which is an index array too, and the same again for each other. */
static int order_extents(uint32_t *order, size_t part, const struct perf_job *job, uint64_t seed)
{
	uint32_t *one = perf_order_make(part, job->pattern, seed);

	if (!one)
		return -1;
	for (size_t i = 0; i < part * job->extents; i++)
		order[i] = one[i % part] + (uint32_t)(i / part * part);
	free(one);
	return 0;
}

static int open_pool(struct perf_paged *paged, bool first)
{
	const struct perf_job *job = paged->job;
	size_t slots = perf_job_get_slots(job);

	if (job->op == PERF_NOTIFY)
		return PERF_OK;
	paged->sets = slots / job->count;
	size_t part = slots / job->extents;
	paged->remote_order = malloc(slots * sizeof(*paged->remote_order));
	if (!paged->remote_order ||
	    perf_pool_open(&paged->pool, job->block_len, slots, PERF_CONTIGUOUS, 0) ||
	    order_extents(paged->pool.order, part, job, first ? 1 : 2) ||
	    order_extents(paged->remote_order, part, job, first ? 2 : 1)) {
		warnx("no memory for %zu blocks of %zu bytes", slots, job->block_len);
		return PERF_FAILED;
	}
	struct kvt_extent extents[PERF_EXTENTS_MAX];
	for (unsigned i = 0; i < job->extents; i++) {
		extents[i] = (struct kvt_extent){
			.base = paged->pool.base + i * part * job->block_len,
			.count = part,
			.stride = job->block_len,
		};
	}
	const struct kvt_region_config config = {
		.size = sizeof(config),
		.extents = extents,
		.extent_count = job->extents,
		.block_len = job->block_len,
	};
	struct kvt_error error = { 0 };
	if (kvt_region_open(paged->engine, &config, &paged->region, &error))
		return perf_blame("opening a region", &error);
	return PERF_OK;
}

int perf_paged_open(struct perf_paged *paged, bool first)
{
	const struct perf_job *job = paged->job;

	paged->flights = calloc(job->depth, sizeof(*paged->flights));
	paged->starts = calloc(job->depth, sizeof(*paged->starts));
	if (!paged->flights || !paged->starts || perf_samples_open(&paged->times) ||
	    perf_samples_open(&paged->submits) || perf_samples_open(&paged->notified)) {
		warnx("no memory");
		return PERF_FAILED;
	}
	return open_pool(paged, first);
}

void perf_paged_close(struct perf_paged *paged)
{
	for (unsigned i = 0; paged->flights && i < paged->job->depth; i++)
		kvt_transfer_free(paged->flights[i]);
	kvt_remote_close(paged->remote);
	kvt_export_close(paged->exported);
	kvt_region_close(paged->region);
	free(paged->remote_order);
	perf_pool_close(&paged->pool);
	perf_samples_close(&paged->notified);
	perf_samples_close(&paged->submits);
	perf_samples_close(&paged->times);
	free(paged->starts);
	free(paged->flights);
}

void perf_paged_prepare(struct perf_paged *paged, bool source)
{
	struct perf_pool *pool = &paged->pool;

	if (!source)
		memset(pool->base, 0xEE, pool->len);
	for (size_t i = 0; i < pool->count && source; i++)
		perf_fill(perf_pool_get(pool, i), pool->block_len, i);
}

uint64_t perf_paged_count_wrong(struct perf_paged *paged)
{
	struct perf_pool *pool = &paged->pool;
	uint64_t wrong = 0;

	for (size_t i = 0; i < pool->count; i++)
		wrong += !perf_check(perf_pool_get(pool, i), pool->block_len, i);
	return wrong;
}

int64_t perf_read_boot_id(void)
{
	FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
	unsigned high = 0, low = 0;

	if (!file)
		return 0;
	if (fscanf(file, "%8x-%4x", &high, &low) != 2)
		high = low = 0;
	fclose(file);
	return (int64_t)high << 16 | low;
}
