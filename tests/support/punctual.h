/* SPDX-License-Identifier: Apache-2.0 */
/*
 * punctual.h - promised limits of time in tests. What is promised is kept on an idle machine; on one that
 * others use as well every thread may be late, which is no fault. KVT_TEST_PUNCTUAL=1 takes the limits by
 * the letter (make check-long).
 */
#ifndef KVI_TESTS_PUNCTUAL_H
#define KVI_TESTS_PUNCTUAL_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Far below the 60 seconds that a transfer has, and far above what a busy machine takes away. */
#define LATENESS_NS (INT64_C(15) * 1000 * 1000 * 1000)

/* The limit that a test takes for this promised one. */
static inline int64_t get_limit(int64_t promised_ns)
{
	const char *wanted = getenv("KVT_TEST_PUNCTUAL");
	return promised_ns + (wanted != NULL && strcmp(wanted, "1") == 0 ? 0 : LATENESS_NS);
}

#endif
