/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perf_stopped.h - a second peer of the client's, which was stopped (SIGSTOP), with notifications queued for it.
 */
#ifndef PERF_STOPPED_H
#define PERF_STOPPED_H

#include <sys/types.h>

#include "perf_kvtrans.h"

struct perf_stopped {
	pid_t pid; /* 0: there is none */
	uint16_t port;
	struct kvt_conn *conn;
	struct kvt_transfer **queued;
	unsigned count;
};

/* Fork it; before any engine is open. It takes one connection and stops. */
int perf_stopped_fork(struct perf_stopped *stopped, const struct perf_engine *options);
/* Connect to it, see it stop, and queue so many. */
int perf_stopped_queue(struct perf_stopped *stopped, struct kvt_engine *engine,
		       const struct perf_engine *options, unsigned count);
/* While the engine is open; it is killed. */
void perf_stopped_end(struct perf_stopped *stopped);

#endif
