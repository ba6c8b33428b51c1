/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stage.c - see stage.h.
 */
#include "stage.h"

#include <stdlib.h>

struct stage stage;

void open_stage(bool many_lanes)
{
	struct kvt_engine_config config = make_config();
	struct kvi_caps caps = fake_get_default_caps();
	caps.max_segment_len = SMALL_SEGMENT_LEN;
	caps.tx_count = FEW_POSTS;
	fake_set_caps(&caps);
	if (many_lanes) {
		config.ncpus = 3;
		config.nconn_per_cpu = 2;
	}
	bed_open(&stage.bed, &config);
	stage.near = open_kv(stage.bed.near.conn, 7);
	stage.far = open_kv(stage.bed.far.conn, 7);
	stage.source = make_pattern(MESSAGE_LEN, 1);
	stage.target = make_filled(MESSAGE_LEN, 0);
}

void start_held(void)
{
	fake_hold(FAKE_WRITE);
	stage.receive = start_recv(stage.far, stage.target, MESSAGE_LEN);
	stage.send = start_send(stage.near, stage.source, MESSAGE_LEN);
	release_until(stage.target, HELD_OFFSET, 0);
	fake_trickle(true);
}

void start_stopped(void)
{
	start_held();
	fake_trickle(false);
}

void close_stage(void)
{
	kvt_kv_close(stage.near);
	kvt_kv_close(stage.far);
	bed_close(&stage.bed);
	free(stage.source);
	free(stage.target);
}
