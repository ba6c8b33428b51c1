/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stage.h - what the tests of giving up stand on: two engines on the fabric in memory, and a large message that
 * is held in the middle of its writes.
 */
#ifndef ENGINE_STAGE_H
#define ENGINE_STAGE_H

#include "bed.h"

/* Many times what is posted at once, so that none of it ends while another is released. */
enum { HELD_OFFSET = 2 * 4096, MESSAGE_LEN = 3 * LARGE_LEN };

struct stage {
	struct bed bed;
	struct kvt_kv *near; /* sends */
	struct kvt_kv *far;  /* receives */
	uint8_t *source;
	uint8_t *target;
	struct kvt_transfer *send;
	struct kvt_transfer *receive;
};

extern struct stage stage;

/* Many: three workers with two lanes each. */
void open_stage(bool many_lanes);
/* Both are under way, and the writes are held. For an engine that looks the link is slow, not stopped, however
 * long the test takes; or it is stopped. */
void start_held(void);
void start_stopped(void);
void close_stage(void);

#endif
