/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clock.c - CLOCK_MONOTONIC and arithmetic on deadlines. The wall clock is never used.
 */
#include "base/clock.h"

#include <limits.h>
#include <time.h>

int64_t kvi_clock_now(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * KVI_SECOND + now.tv_nsec;
}

int64_t kvi_deadline_after(int64_t timeout_ns)
{
	return kvi_deadline_from(kvi_clock_now(), timeout_ns);
}

int kvi_deadline_get_ms(int64_t deadline_ns, int cap_ms)
{
	if (deadline_ns == KVI_NEVER)
		return cap_ms;

	int64_t now = kvi_clock_now();
	if (deadline_ns <= now)
		return 0;

	int64_t left_ns = deadline_ns - now;
	int64_t left_ms = left_ns / KVI_MS + (left_ns % KVI_MS != 0);
	int64_t most_ms = cap_ms < 0 ? INT_MAX : cap_ms;
	return (int)(left_ms < most_ms ? left_ms : most_ms);
}
