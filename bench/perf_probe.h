/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perf_probe.h - what a connection costs before and between transfers: the time to open one, the CPU time and the
 * memory of one that is idle. Functions return an enum perf_exit.
 */
#ifndef PERF_PROBE_H
#define PERF_PROBE_H

#include "perf_kvtrans.h"

/* Idle connections beside the one that is measured. */
struct perf_beside {
	struct kvt_conn **conns;
	unsigned count;
};

/* Open the job's, or take them when options is NULL. The client learns what memory each has, on the side where that
 * is more. Whatever the outcome, close them. */
int perf_beside_open(struct perf_beside *beside, struct perf_peer *peer, const struct perf_job *job,
		     const struct perf_engine *options, int64_t *len);
void perf_beside_close(struct perf_beside *beside);

/* Open count connections to the server, one after the other, and close each; their times are the report's. */
int perf_probe_connects(struct perf_peer *peer, const struct perf_engine *options, size_t count,
			struct perf_report *report);
/* The server's side: take those that come, and keep each until the next one has, until the client
 * says that it is done. */
int perf_accept_connects(struct perf_peer *peer);

/* Leave the connection alone for the job's duration, on both sides. */
int perf_probe_idle(struct perf_peer *peer, const struct perf_job *job, struct perf_report *report);
int perf_follow_idle(struct perf_peer *peer, const struct perf_job *job);

#endif
