/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sum.h - sums of what is moved, by which a flipped byte is found: XXH3 with 64 bits, of xxHash. They are against
 * faults: whoever wants to can make other bytes with the same sum.
 */
#ifndef KVI_BASE_SUM_H
#define KVI_BASE_SUM_H

#include <stddef.h>
#include <stdint.h>

/* Of a message, which is summed in pieces that come in any order; docs/protocol.md 6.7. */
enum { KVI_SUM_GRAIN = 64 * 1024 };

/* Of some bytes. seed: 0, or the sum of those before them. */
uint64_t kvi_sum(const void *bytes, size_t len, uint64_t seed);

/*
 * Of the grains of a message of message_len bytes that begin in len bytes from offset on, added up. So the sums of
 * pieces that make up the message add up to the same, modulo 2^64, however it was cut. Reads to the end of the
 * last grain.
 */
uint64_t kvi_sum_grains(const uint8_t *message, size_t message_len, size_t offset, size_t len);

#endif
