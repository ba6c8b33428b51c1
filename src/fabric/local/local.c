/* SPDX-License-Identifier: Apache-2.0 */
/*
 * local.c - the fabric between processes of one host: its row of the table.
 */
#include "fabric/local/local.h"

const struct kvi_fabric kvi_local_fabric = {
	.rail_open = kvi_local_rail_open,
	.rail_close = kvi_local_rail_close,
	.rail_get_near_cpus = kvi_local_rail_get_near_cpus,
	.rail_bind_near = kvi_local_rail_bind_near,
	.rail_share = kvi_local_rail_share,
	.rail_unshare = kvi_local_rail_unshare,
	.cq_open = kvi_local_cq_open,
	.cq_close = kvi_local_cq_close,
	.cq_forget = kvi_local_cq_forget,
	.cq_poll = kvi_local_cq_poll,
	.cq_poll_events = kvi_local_cq_poll_events,
	.cq_get_fds = kvi_local_cq_get_fds,
	.cq_may_sleep = kvi_local_cq_may_sleep,
	.memory_open = kvi_local_memory_open,
	.memory_close = kvi_local_memory_close,
	.listener_open = kvi_local_listener_open,
	.listener_close = kvi_local_listener_close,
	.listener_take = kvi_local_listener_take,
	.lane_request_reject = kvi_local_lane_request_reject,
	.lane_open = kvi_local_lane_open,
	.lane_connect = kvi_local_lane_connect,
	.lane_close = kvi_local_lane_close,
	.lane_get_flow = kvi_local_lane_get_flow,
	.flow_get_moved = kvi_local_flow_get_moved,
	.lane_get_common = kvi_local_lane_get_common,
	.lane_post_recv = kvi_local_lane_post_recv,
	.lane_post_send = kvi_local_lane_post_send,
	.lane_inject = kvi_local_lane_inject,
	.lane_post_write = kvi_local_lane_post_write,
	.lane_post_read = kvi_local_lane_post_read,
};
