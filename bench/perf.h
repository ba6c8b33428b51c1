/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perf.h - one job between two processes: what is measured (perf_options.c), how it is measured (perf_run.c), what
 * moves the bytes (path_*.c), and what is told of it (perf_report.c).
 *
 * The process that leads sends messages, or starts every transfer, writes and reads; the other one serves. What moves
 * and when, what is counted, and how bytes are checked is the same for every path.
 *
 * Functions return an enum perf_exit; who failed has printed a sentence.
 */
#ifndef PERF_H
#define PERF_H

#include "perf_pool.h"
#include "perf_report.h"
#include "perf_tools.h"

enum perf_mode {
	PERF_THROUGHPUT, /* several in flight */
	PERF_LATENCY,	 /* a ping-pong */
	PERF_CONNECT,	 /* connections one after the other */
	PERF_IDLE,	 /* a connection that nobody uses */
};

enum perf_op {
	PERF_SEND,  /* messages, or what the mode says */
	PERF_WRITE, /* paged transfers */
	PERF_READ,
	PERF_NOTIFY, /* notifications without data */
};

struct perf_job {
	unsigned op, mode, pattern; /* of their enums */
	size_t block_len;
	size_t count;	/* messages a batch; blocks a transfer; connections in connect mode */
	unsigned depth; /* messages or transfers in flight */
	unsigned extents; /* paged: arrays of a pool, each with count / extents blocks of a transfer */
	unsigned beside;   /* idle connections */
	unsigned allocate; /* paged: PERF_ALLOCATE_*, whose pool the path allocates */
	bool verify;
	bool plain; /* paged: without notifications */
	int64_t duration_ns;
};

enum { PERF_DEPTH_MAX = 65536, PERF_BESIDE_MAX = 4000, PERF_LINE_LEN = 512, PERF_PORT = 18515 };
enum { PERF_ALLOCATE_CLIENT = 1, PERF_ALLOCATE_SERVER, PERF_ALLOCATE_BOTH };
enum { PERF_NOTIFY_MAX = 4096, PERF_INTERFACES_MAX = 16 };

/* What the command line says. */
struct perf_options {
	struct perf_job job;
	const struct perf_path *path;
	const char *host; /* of the server; NULL: this is it, or forks it */
	const char *interfaces[PERF_INTERFACES_MAX];
	size_t interface_count;
	const char *provider;
	const char *lane_ports;
	unsigned port, ncpus, nconn, queued;
	size_t eager_len;
	unsigned spin_us;
	int64_t warmup_ns;
	int64_t timeout_ns; /* of each step that waits for the peer */
	bool has_pattern, has_eager, has_spin, has_stopped, json, once, self, checksum;
};

/* A message or a transfer on its way. */
struct perf_flight {
	uint64_t number;
	unsigned char *slot;	/* a message's */
	const uint32_t *local;	/* the i-th block of a transfer is in slot local[i] here */
	const uint32_t *remote; /* and in slot remote[i] there */
	int64_t started;
	bool flying;
	size_t pending; /* the path's: what is not done yet */
	void *request;	/* the path's */
};

/* What the serving process is told of a transfer. */
struct perf_stamp {
	uint64_t number;
	int64_t started; /* the leading process's clock */
};

/* A process's side. */
struct perf_run {
	const struct perf_options *options;
	const struct perf_path *path;
	struct perf_job job; /* serving: what the leading process has asked for */
	bool leads;
	bool has_met; /* the other process is there */
	int control;  /* --self: to the other process */
	void *own;    /* the path's */
	struct perf_pool pool;
	uint32_t *remote_order; /* the order of the other process's pool */
	size_t sets;		/* as many transfers use every slot once */
	struct perf_flight *flights;
	struct perf_samples times; /* leading */
	struct perf_samples submits;
	struct perf_samples notified; /* serving */
	int64_t ahead_ns;	      /* serving: what its clock is ahead of the leading one's */
	uint64_t wrong;		      /* messages or blocks whose bytes were wrong */
	struct perf_report report;
};

/* What moves the bytes. Only the library's has more than open, close and the six that move and tell. */
struct perf_path {
	const char *name;
	const char *provider; /* unless one is named */
	/* Once a process: before the other is known. stop() is called whatever the outcome. */
	int (*start)(struct perf_run *run);
	void (*stop)(struct perf_run *run);
	/* Once a job: call the other process, or be called; for at most wait_ns. part() likewise. */
	int (*meet)(struct perf_run *run, int64_t wait_ns);
	void (*part)(struct perf_run *run);
	/* Memory of its own kind for the pool, before open() and until close(); NULL: there is none. A path without that
	 * uses any memory. */
	void *(*allocate)(struct perf_run *run, size_t len);
	/* Get ready to move, once there is memory; close() ends what is in flight, too. */
	int (*open)(struct perf_run *run);
	void (*close)(struct perf_run *run);
	/* What goes on beside a job, from before it on; and a job of connections, which moves nothing. */
	int (*add_beside)(struct perf_run *run);
	int (*probe)(struct perf_run *run);
	/* A line of less than PERF_LINE_LEN bytes, beside the data. NULL: over the control socket. */
	int (*say)(struct perf_run *run, const char *line);
	int (*hear)(struct perf_run *run, char *line);
	/* Begin to send or receive flight->slot; to move a transfer's blocks, or send a notification. */
	int (*send)(struct perf_run *run, struct perf_flight *flight);
	int (*recv)(struct perf_run *run, struct perf_flight *flight);
	int (*move)(struct perf_run *run, struct perf_flight *flight);
	/* Wait until every byte is where it belongs. Flights are finished in the order they began in. */
	int (*finish)(struct perf_run *run, struct perf_flight *flight);
	/* Tell the serving process, which has to keep transfers going while it waits for that. */
	int (*tell)(struct perf_run *run, const struct perf_stamp *stamp);
	int (*await_stamp)(struct perf_run *run, struct perf_stamp *stamp);
	bool tells_writes; /* move() does it itself, for writes, for reads, */
	bool tells_reads;
};

/* Of the program: its name, what it is for, and its paths, the default first, NULL last. */
extern const char perf_program[], perf_doc[];
extern const struct perf_path *const perf_paths[];
extern const struct perf_path perf_path_kvtrans, perf_path_libfabric, perf_path_batch,
	perf_path_socket, perf_path_ucx, perf_path_mapped, perf_path_vm;

/* perf_options.c: the command line, with all defaults filled in; ends the process when it makes no sense. */
void perf_options_parse(struct perf_options *options, int argc, char **argv);
/* The line with which a job is asked for. Return 0, or -1 when it is none of this version, or a value is out of range;
 * it may make no sense yet. */
void perf_job_encode(const struct perf_job *job, char line[PERF_LINE_LEN]);
int perf_job_decode(const char *line, struct perf_job *job);
/* A sentence when the job makes no sense, or asks for what this host cannot give to so many processes, else NULL. */
const char *perf_job_refuse(const struct perf_job *job, unsigned processes);
bool perf_job_is_paged(const struct perf_job *job);
/* Slots the job needs on each side; 0: no memory. */
size_t perf_job_get_slots(const struct perf_job *job);
extern const char *const perf_op_names[], *const perf_mode_names[];

/* perf_run.c: do the job of a run whose processes have met. */
int perf_run_lead(struct perf_run *run);
int perf_run_serve(struct perf_run *run);
/* For paths: what a notification holds; whether the serving process is told of every transfer; indices of a transfer
 * in each array. */
struct perf_stamp perf_run_get_stamp(const struct perf_flight *flight);
bool perf_run_is_told(const struct perf_run *run);
size_t perf_run_count_indices(const struct perf_run *run);

/* perf_talk.c: lines, and, beside them, exactly so many bytes, in one piece, over the control socket. */
__attribute__((format(printf, 2, 3))) int perf_say(struct perf_run *run, const char *format, ...);
int perf_hear(struct perf_run *run, char line[PERF_LINE_LEN]);
int perf_hear_control(struct perf_run *run, char line[PERF_LINE_LEN]);
/* One that holds so many values, by scanf(); else blame what was said. */
__attribute__((format(scanf, 3, 4))) int perf_hear_values(struct perf_run *run, int count,
							  const char *format, ...);
int perf_put(struct perf_run *run, const void *base, size_t len);
int perf_get(struct perf_run *run, void *base, size_t len);
/* The address of the first interface on this host, or the address itself when that was named. */
int perf_find_address(const struct perf_options *options, char *host, size_t len);
/* The path's own, zeroed, of so many bytes; NULL with a sentence printed. */
void *perf_make_own(struct perf_run *run, size_t len);

#endif
