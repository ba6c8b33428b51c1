/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perf_paged.h - paged transfers and notifications as kvtrans-perf measures them: the client starts
 * all of them, and each carries a notification that tells the server. One struct serves both sides.
 */
#ifndef PERF_PAGED_H
#define PERF_PAGED_H

#include "perf_report.h"
#include "perf_rounds.h"

struct perf_paged {
	struct perf_peer *peer;
	const struct perf_job *job;
	struct kvt_engine *engine;
	struct perf_pool pool;
	uint32_t *remote_order; /* client: the slots of the server's pool */
	size_t sets;		/* as many transfers use every slot once */
	struct kvt_region *region;
	struct kvt_export *exported; /* server */
	struct kvt_remote *remote;   /* client */
	struct kvt_transfer **flights;
	int64_t *starts;
	int64_t clock_ns; /* server: what its clock is ahead of the client's */
	struct perf_samples times;
	struct perf_samples submits;  /* client */
	struct perf_samples notified; /* server */
	uint64_t wrong;
	bool measuring; /* the warm-up is over */
};

/* What a notification carries first. */
struct perf_stamp {
	uint64_t measuring; /* the warm-up is over */
	int64_t started;    /* the client's clock */
};
_Static_assert(sizeof(struct perf_stamp) == PERF_STAMP_LEN, "a stamp has the length others know");

/* The name under which the server exports its pool. */
#define PERF_POOL_NAME "pool"

/* Memory, samples and the region of a side. Whatever the outcome, close it. */
int perf_paged_open(struct perf_paged *paged, bool first);
void perf_paged_close(struct perf_paged *paged);

/* Fill the pool with what will be moved, or with what no block consists of; how many blocks are not
 * what was to be moved there. */
void perf_paged_prepare(struct perf_paged *paged, bool source);
uint64_t perf_paged_count_wrong(struct perf_paged *paged);

/* The kernel's identity, as a number that another kernel does not have; 0 when it is not known. */
int64_t perf_read_boot_id(void);

/* Do the client's job, or serve it, from memory to the last check; the peers have agreed on it. */
int perf_paged_lead(struct perf_peer *peer, struct kvt_engine *engine,
		    const struct perf_options *options, struct perf_report *report);
int perf_paged_serve(struct perf_peer *peer, struct kvt_engine *engine, const struct perf_job *job);

#endif
