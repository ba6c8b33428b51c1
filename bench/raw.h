/* SPDX-License-Identifier: Apache-2.0 */
/*
 * raw.h - what the paths of the program raw share: its options, and a local socket to the other process for all that
 * is not measured.
 */
#ifndef RAW_H
#define RAW_H

#include "perf_run.h"

/* The context of a run. */
struct raw_options {
	struct perf_job_options job;
	const struct perf_path *path;
	const char *provider;
	const char *host;
	bool batch;
	bool spin;
	int control; /* this process's end of the socket */
};

extern const struct perf_path raw_libfabric, raw_socket, raw_ucx;

const struct raw_options *raw_get_options(const struct perf_run *run);

/* Write or read exactly len bytes on the local socket, in one piece; 0, or PERF_FAILED with a sentence printed. */
int raw_put(struct perf_run *run, const void *base, size_t len);
int raw_get(struct perf_run *run, void *base, size_t len);

/* say() and hear() of all paths. */
int raw_say(struct perf_run *run, const char *line);
int raw_hear(struct perf_run *run, char *line);

/* The path's own, zeroed, of so many bytes; NULL with a sentence printed. */
void *raw_make_own(struct perf_run *run, size_t len);

#endif
