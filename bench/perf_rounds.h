/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perf_rounds.h - a measurement cut into rounds of about half a second. The client names the
 * messages of a round, the server prepares for them and says go, both run, and the server tells
 * what it saw. So the run ends on time, Ctrl-C loses nothing, and no agreement is needed while the
 * clock runs.
 */
#ifndef PERF_ROUNDS_H
#define PERF_ROUNDS_H

#include "perf_peer.h"

/* One side's part. Messages are numbered through the whole run. */
struct perf_part {
	int (*prepare)(void *arg, uint64_t first, uint64_t count); /* server: before it says go */
	int (*run)(void *arg, uint64_t first, uint64_t count);
	void *arg;
	uint64_t *wrong;	      /* server: messages whose bytes were wrong, so far */
	struct perf_samples *samples; /* client: forgotten when the warm-up is over */
};

/* What the rounds after the warm-up add up to. */
struct perf_totals {
	uint64_t messages;
	int64_t elapsed_ns;  /* client: first start to last success */
	int64_t receiver_ns; /* server: its go to the last message done */
	int64_t cpu_ns;
	int64_t peer_cpu_ns;
	uint64_t wrong;
};

/* The client's side, for the job's duration; the server's, until the client ends it. */
int perf_lead_rounds(struct perf_peer *peer, const struct perf_options *options,
		     const struct perf_part *part, struct perf_totals *totals);
int perf_follow_rounds(struct perf_peer *peer, const struct perf_part *part);

#endif
