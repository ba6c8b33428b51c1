/* SPDX-License-Identifier: Apache-2.0 */
/*
 * raw.h - what the paths of the program raw share: its options, the forked process, and a local socket to it for
 * all that is not measured.
 */
#ifndef RAW_H
#define RAW_H

#include "perf_run.h"

struct raw_options {
	struct perf_job_options job;
	const struct raw_path *path;
	const char *provider;
	const char *host;
	size_t segment_len;
	bool batch;
	bool spin;
};

/* A side of a run: its own. */
struct raw_side {
	const struct raw_options *options;
	int control;
	void *own; /* the path's */
};

struct raw_path {
	const char *name;
	const char *provider; /* NULL: that of the options */
	const struct perf_path *run;
	/* Connect both processes. Either way close it. */
	int (*open)(struct perf_run *run);
	void (*close)(struct perf_run *run);
};

extern const struct raw_path raw_libfabric, raw_socket, raw_ucx;

/* Write or read exactly len bytes on the local socket, in one piece; 0, or PERF_FAILED with a sentence printed. */
int raw_put(int control, const void *base, size_t len);
int raw_get(int control, void *base, size_t len);

/* say() and hear() of all paths. */
int raw_say(struct perf_run *run, const char *line);
int raw_hear(struct perf_run *run, char *line);

#endif
