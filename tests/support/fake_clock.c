/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fake_clock.c - time that a test moves. It never goes back, and never moves by itself. Threads that
 * sleep towards a deadline look at it again every millisecond of real time.
 */
#include "fake_clock.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "base/clock.h"

static _Atomic(int64_t) now_ns;

static void start_clock(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	atomic_fetch_add(&now_ns, (int64_t)now.tv_sec * KVI_SECOND + now.tv_nsec);
}

int64_t kvi_clock_now(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, start_clock);
	return atomic_load(&now_ns);
}

void fake_clock_advance(int64_t ns)
{
	atomic_fetch_add(&now_ns, ns);
}

int64_t kvi_deadline_after(int64_t timeout_ns)
{
	int64_t now = kvi_clock_now();
	return timeout_ns >= KVI_NEVER - now ? KVI_NEVER : now + timeout_ns;
}

int kvi_deadline_get_ms(int64_t deadline_ns, int cap_ms)
{
	if (deadline_ns == KVI_NEVER || cap_ms == 0)
		return cap_ms;
	return deadline_ns <= kvi_clock_now() ? 0 : 1;
}
