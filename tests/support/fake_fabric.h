/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fake_fabric.h - the script of the fabric in memory. It lets many engines of one process talk to each
 * other; a test tells it here what shall go wrong. It never forgives: a call that fabric.h forbids aborts
 * the process with a sentence on stderr.
 *
 * Time passes in steps. A step is a chunk of a write or read that is copied, a send that is copied into
 * the peer's receive, or the completion of an operation that has landed; so a write of n chunks takes
 * n + 1 steps. Deliveries into a lane are made by polls of its own cq, as tcp does it.
 *
 * Every function may be called from any thread, also while engines run.
 */
#ifndef FAKE_FABRIC_H
#define FAKE_FABRIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fabric/table.h"

extern const struct kvi_fabric fake_fabric;

/* What a script names; a mask where the argument is called kinds. */
enum fake_kind {
	FAKE_RECV = 1,
	FAKE_SEND = 2,
	FAKE_WRITE = 4,
	FAKE_READ = 8,
	FAKE_CONNECT = 16, /* requests on their way to a listener: for fake_hold() alone */
	FAKE_ALL = 31,
};

enum fake_object {
	FAKE_OPEN_RAIL,
	FAKE_OPEN_CQ,
	FAKE_OPEN_MEMORY,
	FAKE_OPEN_LISTENER,
	FAKE_OPEN_LANE,
	FAKE_OPEN_CONNECT, /* fake_lane_connect(), of either side */
	FAKE_OBJECT_COUNT,
};

/* Gauges of what is open now, then counters since fake_reset(). */
struct fake_counts {
	unsigned rails;
	unsigned cqs;
	unsigned lanes;
	unsigned memories;
	unsigned listeners;
	unsigned requests; /* taken from a listener, neither accepted nor rejected */
	unsigned ops;	   /* posted, not yet reported */
	uint64_t steps;
	uint64_t bytes;		  /* copied by sends, writes and reads */
	uint64_t placed;	  /* of them, by writes and reads */
	unsigned rnr_waits;	  /* sends that met no posted receive */
	unsigned access_failures; /* writes and reads with a wrong key, range or access */
	unsigned faults;	  /* scripted failures that happened */
	uint64_t vain_polls;	  /* of cqs that had neither lanes nor completions */
};

/* Forget the script and the counters. Nothing may be open. */
void fake_reset(void);
struct fake_counts fake_get_counts(void);
/* True when every gauge is 0. */
bool fake_is_empty(void);

/* What rails opened from now on report. The default is what tcp gives: no local registrations, one
 * rkey for all domains, a domain for each cq, sends behind writes and before their receives; 64
 * posts, 256 receives, 1 MiB. */
struct kvi_caps fake_get_default_caps(void);
void fake_set_caps(const struct kvi_caps *caps);

/* Bytes one step copies; 4,096 by default. */
void fake_set_chunk_len(size_t len);
/* Any call moves everything, as hardware would: a post may have landed before it returns. */
void fake_set_auto_progress(bool on);

/* The nth from now (1: the next) fails with err, once; nth 0 disarms. A post that fails with another
 * error than KVT_E_AGAIN, and a completion that fails, lose their lane. */
void fake_fail_post(unsigned kinds, unsigned nth, enum kvt_err err);
void fake_fail_completion(unsigned kinds, unsigned nth, enum kvt_err err);
void fake_fail_open(enum fake_object object, unsigned nth, enum kvt_err err);

/* Stop operations of these kinds where they are: neither chunks nor completions pass, and what comes
 * behind them on their lane waits. 0 lets everything go on. Closing lanes still works. */
void fake_hold(unsigned kinds);
/* Do at most this many steps now, of held operations too, and tell how many there were to do. */
size_t fake_release(size_t steps);

/* A link that is slow, at whatever pace the machine runs: each time an engine asks whether bytes moved, one step
 * of the held operations is done. */
void fake_trickle(bool on);

/* An operation posted from now on stays away from the peer for so long by kvi_clock_now(). A cq with
 * delayed work does not sleep. */
void fake_delay(int64_t delay_ns);

/* Have writes that need not be delivered (KVI_POSTED) complete as they are posted, as a host's buffer would
 * have it: their bytes are copied, and travel when they may. */
void fake_set_buffered(bool on);

/* Report unsignalled sends as late as fabric.h allows. */
void fake_set_late(bool on);

/* Flip this bit of what the next lane's request carries. */
void fake_flip_request(size_t bit);
/* Have the next lane's request come twice, as by somebody who has recorded it. */
void fake_repeat_request(void);

/* Choose the lane of the next step at random, and at random between what comes in and what completes.
 * Within a lane everything keeps its order. 0: lanes take turns. */
void fake_reorder(uint64_t seed);

/* Lose every lane of the rails that were opened for this interface, as libfabric's tcp tells it; NULL: of all. */
void fake_kill_lanes(const char *interface);

#endif
