/* SPDX-License-Identifier: Apache-2.0 */
/*
 * patience.h - how long who drives a worker looks for work before it sleeps. Going to sleep and waking
 * cost more than most small transfers, on both sides; a CPU that somebody else could use costs more still.
 *
 * What is learned from: how long the last sleeps were. Work that came soon would have been found by looking,
 * so looking goes on longer the next time; work that came late makes it shorter, down to none. Between two
 * looks the CPU is offered to others. When it comes back late, somebody wanted it: then looking is barred,
 * twice as long each time, until looks come back in time again. When nobody takes it, which costs a system call
 * all the same, it is offered less often, at one chance in eight at least, until somebody does.
 *
 * Pure: the caller brings the time, and does the looking (sleep.c).
 */
#ifndef KVI_ENGINE_PATIENCE_H
#define KVI_ENGINE_PATIENCE_H

#include <stdbool.h>
#include <stdint.h>

struct kvi_patience {
	int64_t most_ns;
	bool adapts;	  /* else it is most_ns, always */
	int64_t now_ns;	  /* learned: at most most_ns */
	int64_t woken_ns; /* when work was found the last time */
	int64_t bulk_until_ns;
	int64_t bar_ns;
	int64_t barred_until_ns;
	unsigned offer_each; /* chance to offer the CPU: 1 while somebody takes it */
	unsigned let_pass;   /* chances since the last offer */
};

/* How a look, or the sleep behind it, ended. */
enum kvi_patience_end {
	KVI_PATIENCE_FOUND_AT_ONCE, /* before the CPU was offered to anybody */
	KVI_PATIENCE_FOUND,
	KVI_PATIENCE_LATE,    /* somebody else had the CPU */
	KVI_PATIENCE_SLEPT,   /* until work came */
	KVI_PATIENCE_IN_VAIN, /* slept until the time was up */
	KVI_PATIENCE_WOKEN,   /* for another reason */
};

void kvi_patience_init(struct kvi_patience *patience, int64_t most_ns, bool adapts);

/* Somebody begins to wait: what it did before is nobody's business. */
void kvi_patience_begin(struct kvi_patience *patience, int64_t now_ns);

/* How long to look, now that there is nothing to do; 0: sleep. */
int64_t kvi_patience_get(struct kvi_patience *patience, int64_t now_ns);

/* Whether work that took so long is bulk. */
bool kvi_patience_is_bulk(int64_t took_ns);

/* Whether a look that came so long after the one before was late. */
bool kvi_patience_is_late(int64_t gap_ns);

/* There is a chance to offer the CPU: whether to do so. */
bool kvi_patience_offers(struct kvi_patience *patience);

/* It was offered, and was back after took_ns. */
void kvi_patience_learn_offer(struct kvi_patience *patience, int64_t took_ns);

/* Looking began at began_ns, and it or the sleep ended now. */
void kvi_patience_learn(struct kvi_patience *patience, enum kvi_patience_end end, int64_t began_ns,
			int64_t now_ns);

#endif
