/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perf_probe.h - what a connection costs before and between transfers: the time to open one, and
 * the CPU time of one that is idle. Functions return an enum perf_exit.
 */
#ifndef PERF_PROBE_H
#define PERF_PROBE_H

#include "perf_peer.h"
#include "perf_report.h"

/* Open count connections to host, one after the other, and close each; their times are the
 * report's. */
int perf_probe_connects(struct kvt_engine *engine, const struct perf_options *options,
			struct perf_report *report);
/* The server's side: take those that come, and keep each until the next one has, until the client
 * says that it is done. */
int perf_accept_connects(struct perf_peer *peer, struct kvt_engine *engine);

/* Leave the connection alone for the job's duration, on both sides. */
int perf_probe_idle(struct perf_peer *peer, const struct perf_job *job, struct perf_report *report);
int perf_follow_idle(struct perf_peer *peer, const struct perf_job *job);

#endif
