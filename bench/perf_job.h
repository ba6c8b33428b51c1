/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perf_job.h - what a client of kvtrans-perf asks its server to do, and the text it asks with.
 */
#ifndef PERF_JOB_H
#define PERF_JOB_H

#include "perf_pool.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum perf_mode {
	PERF_THROUGHPUT, /* messages one way, several in flight */
	PERF_LATENCY,	 /* a ping-pong */
	PERF_CONNECT,	 /* connections one after the other */
	PERF_IDLE,	 /* a connection that nobody uses */
	PERF_MODE_COUNT,
};

enum perf_op {
	PERF_SEND,  /* messages, or what the mode says */
	PERF_WRITE, /* paged transfers */
	PERF_READ,
	PERF_NOTIFY, /* notifications without data */
	PERF_OP_COUNT,
};

struct perf_job {
	enum perf_op op;
	enum perf_mode mode;
	enum perf_pattern pattern;
	size_t block_len;
	size_t count;	/* messages a batch; blocks a transfer; connections in connect mode */
	unsigned depth; /* messages or transfers in flight */
	unsigned extents; /* paged: arrays of a pool, each with count / extents blocks of a transfer */
	bool verify;
	int64_t duration_ns;
};

enum { PERF_DEPTH_MAX = 65536, PERF_EXTENTS_MAX = 4096, PERF_TEXT_LEN = 512 };

/* What a notification carries at least, and its longest length. */
enum { PERF_STAMP_LEN = 16, PERF_NOTIFY_MAX = 4096 };

const char *perf_mode_get_name(enum perf_mode mode);

const char *perf_op_get_name(enum perf_op op);
/* Return 0, or -1 for another word. */
int perf_op_parse(const char *text, enum perf_op *op);

/* Slots the job needs on each side; 0: no memory. */
size_t perf_job_get_slots(const struct perf_job *job);

/* A sentence when the job asks for what this host cannot give to so many processes, else NULL. */
const char *perf_job_refuse(const struct perf_job *job, unsigned processes);

void perf_job_encode(const struct perf_job *job, char *text, size_t len);
/* Return 0, or -1 when the text is no job of this version with every value in range. */
int perf_job_decode(const char *text, struct perf_job *job);

#endif
