/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clock.h - monotonic time. A deadline is a point on this clock; KVI_NEVER means no deadline. Tests link
 * a clock that they set.
 */
#ifndef KVI_BASE_CLOCK_H
#define KVI_BASE_CLOCK_H

#include <kvtrans.h>

#define KVI_NEVER INT64_MAX
#define KVI_MS INT64_C(1000000)
#define KVI_SECOND INT64_C(1000000000)

int64_t kvi_clock_now(void);

/* now + timeout_ns, saturating at KVI_NEVER. */
int64_t kvi_deadline_after(int64_t timeout_ns);

/* The same from another time than now. */
static inline int64_t kvi_deadline_from(int64_t start_ns, int64_t timeout_ns)
{
	return timeout_ns >= KVI_NEVER - start_ns ? KVI_NEVER : start_ns + timeout_ns;
}

/* A caller's timeout_ns (kvtrans_base.h) as a length of time, 0 or more. False: timeout_ns is invalid. */
static inline bool kvi_timeout_read(int64_t timeout_ns, int64_t default_ns, int64_t *ns)
{
	if (timeout_ns < 0 && timeout_ns != KVT_NOWAIT)
		return false;
	*ns = timeout_ns == 0 ? default_ns : timeout_ns == KVT_NOWAIT ? 0 : timeout_ns;
	return true;
}

/* The time left, rounded up to ms, for poll(2): 0 when past, -1 when never, at most cap_ms (-1: no cap). */
int kvi_deadline_get_ms(int64_t deadline_ns, int cap_ms);

#endif
