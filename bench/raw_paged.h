/* SPDX-License-Identifier: Apache-2.0 */
/*
 * raw_paged.h - transfers of many blocks between the pools of two processes, for programs that do
 * it without the library. The first process starts all of them, writes and reads; the forked one
 * serves. Which blocks a transfer moves, when it starts, what is counted and how the bytes are
 * checked is the same for every transport; a transport moves the blocks.
 */
#ifndef RAW_PAGED_H
#define RAW_PAGED_H

#include "raw_run.h"

/* A transfer on its way. Its i-th block lies in slot local[i] here and in slot remote[i] there. */
struct raw_flight {
	uint64_t number;
	const uint32_t *local;
	const uint32_t *remote;
	int64_t started;
	size_t pending; /* the transport's: what is not done yet */
	void *request;	/* the transport's */
};

struct raw_paged {
	const struct raw_options *options;
	const struct raw_path *path;
	struct raw_peer *peer;
	struct perf_pool pool;	/* of this process */
	uint32_t *remote_order; /* the order of the other process's pool */
	size_t sets;		/* as many transfers use every slot once */
	struct raw_flight *flights;
	uint64_t started; /* transfers */
	uint64_t finished;
	uint64_t measured_from; /* the first transfer after the warm-up */
	struct perf_samples times;
	struct perf_samples submits;
	struct perf_samples notified;
	int64_t *starts; /* of the last transfers, and when the other process knew of their ends */
	int64_t *stamps; /* (shared memory) */
	void *own;	 /* the transport's */
};

/*
 * A transport. Functions return 0, or -1 with a sentence printed. A word is what the first process
 * tells the other one: the number of a write that has arrived, or a command of the driver.
 */
struct raw_path {
	const char *tool;
	const char *provider;
	/* Connect both processes; sets own. Either way it will be closed. */
	int (*open)(struct raw_paged *paged);
	void (*close)(struct raw_paged *paged);
	/* First process: start a transfer; wait until every byte of it is in place. */
	int (*post)(struct raw_paged *paged, struct raw_flight *flight);
	int (*finish)(struct raw_paged *paged, struct raw_flight *flight);
	int (*tell)(struct raw_paged *paged, uint64_t word);
	/* Forked process: serve until a word has come. */
	int (*hear)(struct raw_paged *paged, uint64_t *word);
	/* The forked process knows of each write by itself, so that it need not be told. */
	bool hears_writes;
};

/* Forked process: note that a write has arrived. The driver does it for numbers that hear() returns. */
void raw_paged_stamp(struct raw_paged *paged, uint64_t number);

/* Fork, measure, check every byte and print. Return an exit status. */
int raw_paged_run(const struct raw_path *path, const struct raw_options *options);

#endif
