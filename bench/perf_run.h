/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perf_run.h - a job done between two processes. What moves and when, what is counted, and how bytes are checked is
 * the same for every path; a path (KVTrans, libfabric, a socket, UCX) moves the bytes.
 *
 * The measurement is cut into rounds of about half a second. The leading process names the round, the serving one
 * prepares for it and says go, both run, and the serving one tells what it saw. So the run ends on time, Ctrl-C loses
 * nothing, and no agreement is needed while the clock runs. The leading process sends messages, or starts every
 * transfer, writes and reads.
 *
 * Functions return an enum perf_exit; who failed has printed a sentence.
 */
#ifndef PERF_RUN_H
#define PERF_RUN_H

#include "perf_job.h"
#include "perf_measure.h"
#include "perf_report.h"

/* A message or a transfer on its way. */
struct perf_flight {
	uint64_t number;
	unsigned char *slot;	/* a message's */
	const uint32_t *local;	/* the i-th block of a transfer is in slot local[i] here */
	const uint32_t *remote; /* and in slot remote[i] there */
	int64_t started;
	bool flying;
	size_t pending; /* the path's: what is not done yet */
	void *request;	/* the path's */
};

/* What the serving process is told of a transfer. */
struct perf_stamp {
	uint64_t number;
	int64_t started; /* the leading process's clock */
};
_Static_assert(sizeof(struct perf_stamp) == PERF_STAMP_LEN, "a stamp has the length others know");

struct perf_run {
	const struct perf_job *job;
	const struct perf_path *path;
	void *context; /* of who runs it */
	void *own;     /* the path's */
	bool leads;
	struct perf_pool pool;
	uint32_t *remote_order; /* the order of the other process's pool */
	size_t sets;		/* as many transfers use every slot once */
	struct perf_flight *flights;
	struct perf_samples times; /* leading */
	struct perf_samples submits;
	struct perf_samples notified; /* serving */
	int64_t ahead_ns;	      /* serving: what its clock is ahead of the leading one's */
	uint64_t wrong;		      /* messages or blocks whose bytes were wrong */
};

struct perf_path {
	const char *name;
	/* Connect both processes, once there is memory. Whatever the outcome, close it, which ends what is in flight. */
	int (*open)(struct perf_run *run);
	void (*close)(struct perf_run *run);
	/* A line of less than PERF_LINE_LEN bytes, beside the data. */
	int (*say)(struct perf_run *run, const char *line);
	int (*hear)(struct perf_run *run, char *line);
	/* Begin to send or receive flight->slot; to move a transfer's blocks, or send a notification. */
	int (*send)(struct perf_run *run, struct perf_flight *flight);
	int (*recv)(struct perf_run *run, struct perf_flight *flight);
	int (*move)(struct perf_run *run, struct perf_flight *flight);
	/* Wait until every byte is where it belongs. Flights are finished in the order they began in. */
	int (*finish)(struct perf_run *run, struct perf_flight *flight);
	/* Tell the serving process, which has to keep transfers going while it waits for that. */
	int (*tell)(struct perf_run *run, const struct perf_stamp *stamp);
	int (*await_stamp)(struct perf_run *run, struct perf_stamp *stamp);
	bool tells_writes; /* move() does it itself, for writes, for reads, */
	bool tells_reads;
};

/* Memory, samples and the path of a side. Whatever the outcome, close it. */
int perf_run_open(struct perf_run *run);
void perf_run_close(struct perf_run *run);

/* How many blocks a transfer has in each array of the pool. */
size_t perf_run_count_indices(const struct perf_run *run);
/* What must be written to a notification of the flight. */
struct perf_stamp perf_run_get_stamp(const struct perf_flight *flight);
/* Whether the serving process is told of every transfer. */
bool perf_run_is_told(const struct perf_run *run);

/* The leading process's side, which fills in what was found, and the serving one's. */
int perf_run_lead(struct perf_run *run, int64_t warmup_ns, struct perf_report *report);
int perf_run_serve(struct perf_run *run);

#endif
