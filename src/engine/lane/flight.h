/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flight.h - how many bytes a lane may have in flight: what it has shown to drain in KVI_FLIGHT_NS, so that
 * a transfer that is given up ends soon, however slow the link. Pure: it knows no lane and no clock.
 *
 * A new lane has shown nothing and begins with little; each segment that drains in time allows as much
 * again, so a quick lane comes to KVI_WRITES_LEN_MAX with its first few megabytes, and stays there. Lanes
 * that share a link need not know of each other: each sees its own share.
 */
#ifndef KVI_ENGINE_FLIGHT_H
#define KVI_ENGINE_FLIGHT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct kvi_flight {
	size_t limit;
	int64_t least_ns; /* the quickest segment: what the way takes when nothing stands on it */
};

/* How a segment went: ahead bytes were in flight with it, itself included. */
struct kvi_flown {
	size_t len;
	size_t ahead;
	int64_t took_ns;
	bool was_delivered; /* it ended when the peer had it, not when our memory was free */
};

void kvi_flight_init(struct kvi_flight *flight, unsigned lane_count);
void kvi_flight_learn(struct kvi_flight *flight, const struct kvi_flown *flown);

/* The most that one segment should have: two of them fill the lane. */
size_t kvi_flight_get_segment_len(const struct kvi_flight *flight);

/* The lane has shown that it drains whatever it is given. Only then a write may end when the host has
 * taken it: what stands in the host's own buffers is not seen, and on a slow link takes long to leave. */
bool kvi_flight_is_quick(const struct kvi_flight *flight);

#endif
