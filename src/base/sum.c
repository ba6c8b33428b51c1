/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sum.c - the one file that sees xxHash, whose header has all of it.
 */
#include "base/sum.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t kvi_sum(const void *bytes, size_t len, uint64_t seed)
{
	return XXH3_64bits_withSeed(bytes, len, seed);
}

uint64_t kvi_sum_grains(const uint8_t *message, size_t message_len, size_t offset, size_t len)
{
	const size_t end = len < message_len - offset ? offset + len : message_len;
	size_t grain = offset / KVI_SUM_GRAIN + (offset % KVI_SUM_GRAIN != 0);
	uint64_t sum = 0;
	for (; grain * KVI_SUM_GRAIN < end; grain++) {
		size_t at = grain * KVI_SUM_GRAIN, left = message_len - at;
		sum += kvi_sum(message + at, left < KVI_SUM_GRAIN ? left : KVI_SUM_GRAIN, grain);
	}
	return sum;
}
