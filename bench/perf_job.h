/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perf_job.h - what is measured, in every benchmark program: the options that say it, and the line with which a
 * client of kvtrans-perf asks its server to do it.
 */
#ifndef PERF_JOB_H
#define PERF_JOB_H

#include "perf_pool.h"

#include <argp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum perf_mode {
	PERF_THROUGHPUT, /* several in flight */
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
	unsigned beside; /* idle connections */
	bool verify;
	bool plain; /* paged: without notifications */
	int64_t duration_ns;
};

enum { PERF_DEPTH_MAX = 65536, PERF_BESIDE_MAX = 4000, PERF_LINE_LEN = 512 };

/* What a notification carries at least, and its longest length. */
enum { PERF_STAMP_LEN = 16, PERF_NOTIFY_MAX = 4096 };

/* What the options of every program fill in. */
struct perf_job_options {
	struct perf_job job;
	int64_t warmup_ns;
	bool has_pattern; /* it was named */
	bool json;
};

/* For argp_child; its input is a struct perf_job_options that perf_job_init() has filled. */
extern const struct argp perf_job_argp;
void perf_job_init(struct perf_job_options *options);
/* Fill in the defaults of what was not named, and end the process when the job makes no sense. */
void perf_job_complete(struct perf_job_options *options, unsigned processes);

/* End the process: the option of the table with that key does not take the text. */
void perf_option_refuse(const struct argp_state *state, const struct argp_option *table, int key,
			const char *text);

const char *perf_mode_get_name(enum perf_mode mode);
const char *perf_op_get_name(enum perf_op op);
bool perf_job_is_paged(const struct perf_job *job);

/* Slots the job needs on each side; 0: no memory. */
size_t perf_job_get_slots(const struct perf_job *job);

/* A sentence when the job makes no sense, or asks for what this host cannot give to so many processes, else NULL. */
const char *perf_job_refuse(const struct perf_job *job, unsigned processes);

void perf_job_encode(const struct perf_job *job, char *text, size_t len);
/* Return 0, or -1 when the text is no job of this version with every value in range. It may make no sense yet. */
int perf_job_decode(const char *text, struct perf_job *job);

#endif
