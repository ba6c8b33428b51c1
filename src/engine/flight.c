/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flight.c - learning from how long segments took.
 */
#include "engine/flight.h"

#include "base/clock.h"
#include "engine/settings.h"

void kvi_flight_init(struct kvi_flight *flight, unsigned lane_count)
{
	size_t share = KVI_FLIGHT_START / lane_count;
	flight->limit = share > KVI_FLIGHT_MIN ? share : KVI_FLIGHT_MIN;
	flight->least_ns = INT64_MAX;
}

/* Bytes that drain in KVI_FLIGHT_NS. A long way is no slow one: only waiting counts. */
static size_t estimate(const struct kvi_flight *flight, const struct kvi_flown *flown)
{
	int64_t waited_ns = flown->took_ns - flight->least_ns;
	if (waited_ns <= KVI_FLIGHT_NS * (int64_t)flown->ahead / KVI_WRITES_LEN_MAX)
		return KVI_WRITES_LEN_MAX;
	return (size_t)((int64_t)flown->ahead * KVI_FLIGHT_NS / waited_ns);
}

void kvi_flight_learn(struct kvi_flight *flight, const struct kvi_flown *flown)
{
	if (flown->was_delivered && flown->took_ns < flight->least_ns)
		flight->least_ns = flown->took_ns;
	size_t drained = estimate(flight, flown);
	size_t wanted = flown->was_delivered ? flight->limit + flown->len : flight->limit;
	if (wanted > drained)
		wanted = drained;
	flight->limit = wanted > KVI_FLIGHT_MIN ? wanted : KVI_FLIGHT_MIN;
}

size_t kvi_flight_get_segment_len(const struct kvi_flight *flight)
{
	return flight->limit / 2;
}

bool kvi_flight_is_quick(const struct kvi_flight *flight)
{
	return flight->limit == KVI_WRITES_LEN_MAX;
}
