/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ofi.c - the fabric that libfabric makes: its row of the table.
 */
#include "fabric/internal.h"

const struct kvi_fabric kvi_ofi_fabric = {
	.rail_open = kvi_ofi_rail_open,
	.rail_close = kvi_ofi_rail_close,
	.rail_get_near_cpus = kvi_ofi_rail_get_near_cpus,
	.rail_bind_near = kvi_ofi_rail_bind_near,
	.cq_open = kvi_ofi_cq_open,
	.cq_close = kvi_ofi_cq_close,
	.cq_forget = kvi_ofi_cq_forget,
	.cq_poll = kvi_ofi_cq_poll,
	.cq_poll_events = kvi_ofi_cq_poll_events,
	.cq_get_fds = kvi_ofi_cq_get_fds,
	.cq_may_sleep = kvi_ofi_cq_may_sleep,
	.memory_open = kvi_ofi_memory_open,
	.memory_close = kvi_ofi_memory_close,
	.listener_open = kvi_ofi_listener_open,
	.listener_close = kvi_ofi_listener_close,
	.listener_take = kvi_ofi_listener_take,
	.lane_request_reject = kvi_ofi_lane_request_reject,
	.lane_open = kvi_ofi_lane_open,
	.lane_connect = kvi_ofi_lane_connect,
	.lane_close = kvi_ofi_lane_close,
	.lane_get_flow = kvi_ofi_lane_get_flow,
	.flow_get_moved = kvi_ofi_flow_get_moved,
	.lane_post_recv = kvi_ofi_lane_post_recv,
	.lane_post_send = kvi_ofi_lane_post_send,
	.lane_inject = kvi_ofi_lane_inject,
	.lane_post_write = kvi_ofi_lane_post_write,
	.lane_post_read = kvi_ofi_lane_post_read,
};
