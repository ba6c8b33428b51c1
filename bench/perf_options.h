/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perf_options.h - the command line of kvtrans-perf.
 */
#ifndef PERF_OPTIONS_H
#define PERF_OPTIONS_H

#include "perf_job.h"

enum perf_role { PERF_SERVER, PERF_CLIENT, PERF_SELF };

enum { PERF_INTERFACES_MAX = 16 };

struct perf_options {
	enum perf_role role;
	const char *host;
	uint16_t port;
	const char *interfaces[PERF_INTERFACES_MAX];
	size_t interface_count;
	const char *provider;
	const char *lane_ports;
	unsigned ncpus;
	unsigned nconn;
	size_t eager_len; /* as in struct kvt_engine_config */
	int64_t spin_ns;
	int64_t warmup_ns;
	int64_t timeout_ns; /* of each step that waits for the peer */
	bool once;
	bool json;
	bool has_pattern; /* it was named */
	struct perf_job job;
};

/* Parse and check the command line; ends the process when it is wrong or asks for help. */
void perf_options_parse(struct perf_options *options, int argc, char **argv);

#endif
