/* SPDX-License-Identifier: Apache-2.0 */
/*
 * raw_run.h - what the baselines raw_fabric and raw_socket share: options, a forked peer, and the
 * loop that repeats a step for a time. It knows no transport.
 */
#ifndef RAW_RUN_H
#define RAW_RUN_H

#include "perf_measure.h"
#include "perf_pool.h"
#include "perf_report.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* What raw programs do: a stream of blocks, or transfers of many blocks between two pools. */
enum raw_op { RAW_STREAM, RAW_WRITE, RAW_READ };

struct raw_options {
	enum raw_op op;
	const char *provider;
	const char *host;
	size_t block_len;
	size_t segment_len;
	size_t count;
	unsigned depth;
	enum perf_pattern pattern;
	bool has_pattern; /* it was named */
	int64_t duration_ns;
	int64_t warmup_ns;
	bool latency;
	bool spin;
	bool json;
};

/* Parse the command line; ends the process when it is wrong. doc is the text of --help. */
void raw_parse(struct raw_options *options, const char *doc, int argc, char **argv);

/* The other process, forked before anything is opened, and a local socket to it. */
struct raw_peer {
	pid_t pid; /* 0 in the forked process */
	int fd;
};

int raw_split(struct raw_peer *peer);
/* Write or read exactly len bytes on a socket; 0, or -1 with a sentence printed (1: the peer
 * closed). */
int raw_put(int fd, const void *base, size_t len);
int raw_get(int fd, void *base, size_t len);
/* Wait for the forked process, which ends it when it failed itself. Return its exit status. */
int raw_join(struct raw_peer *peer);

/* What is repeated: one block, batch or round trip. It adds its own samples. */
struct raw_step {
	int (*run)(void *arg);
	void (*begin)(void *arg); /* when the warm-up is over; may be NULL */
	void *arg;
	struct perf_samples *samples;
	uint64_t messages;
	uint64_t bytes;
};

/* Repeat a step for the warm-up, forget that, repeat it for the duration, and fill in the
 * report. */
int raw_repeat(const struct raw_options *options, const struct raw_peer *peer,
	       const struct raw_step *step, struct perf_report *report);

#endif
