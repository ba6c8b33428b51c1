/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flight.c - learning from how long segments took.
 */
#include "engine/lane/flight.h"

#include "base/clock.h"
#include "engine/core/settings.h"

static size_t get_smaller(size_t a, size_t b)
{
	return a < b ? a : b;
}

static size_t get_larger(size_t a, size_t b)
{
	return a > b ? a : b;
}

void kvi_flight_init(struct kvi_flight *flight, unsigned lane_count)
{
	flight->limit = get_larger(KVI_FLIGHT_START / lane_count, KVI_FLIGHT_MIN);
	flight->least_ns = INT64_MAX;
}

/* Bytes that drain in KVI_FLIGHT_NS. A long way is no slow one: only waiting counts, and none that a busy
 * host explains as well. A slow link makes the first segment slow, too, so not all of that is the way. */
static size_t estimate(const struct kvi_flight *flight, const struct kvi_flown *flown)
{
	bool is_far = flight->least_ns > KVI_FLIGHT_NS / 4;
	int64_t waited_ns = flown->took_ns - (is_far ? KVI_FLIGHT_NS / 4 : flight->least_ns);
	if (waited_ns <= KVI_FLIGHT_NS / 8)
		return KVI_WRITES_LEN_MAX;
	return get_smaller((size_t)((int64_t)flown->ahead * KVI_FLIGHT_NS / waited_ns),
			   KVI_WRITES_LEN_MAX);
}

void kvi_flight_learn(struct kvi_flight *flight, const struct kvi_flown *flown)
{
	if (flown->was_delivered && flown->took_ns < flight->least_ns)
		flight->least_ns = flown->took_ns;
	size_t drained = estimate(flight, flown);
	if (drained < flight->limit) /* a single pause of the host costs half at most */
		flight->limit = get_larger(get_larger(drained, flight->limit / 2), KVI_FLIGHT_MIN);
	else if (flown->was_delivered)
		flight->limit = get_smaller(flight->limit + flown->len, drained);
}

size_t kvi_flight_get_segment_len(const struct kvi_flight *flight)
{
	return flight->limit / 2;
}

bool kvi_flight_is_quick(const struct kvi_flight *flight)
{
	return flight->limit == KVI_WRITES_LEN_MAX;
}
