/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hash.h - uthash with our allocator. When there is no memory, adding leaves the table as it was and the
 * handle's tbl NULL.
 */
#ifndef KVI_BASE_HASH_H
#define KVI_BASE_HASH_H

#include "base/alloc.h"

#define uthash_malloc(len) kvi_alloc(len)
#define uthash_free(memory, len) kvi_free(memory)
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

/* uthash lets ten things share a bucket, and each that is passed by is memory that no cache holds, where there are many. */
#undef HASH_BKT_CAPACITY_THRESH
#define HASH_BKT_CAPACITY_THRESH 3U

/* Of a number for HASH_..._BYHASHVALUE(): of numbers that follow each other 256 get buckets of one page, since who goes
 * through many of them in turn would else miss the caches each time. Others are spread (splitmix64's finaliser). */
static inline unsigned kvi_hash_number(uint64_t number)
{
	uint64_t mixed = number >> 8;
	mixed = (mixed ^ (mixed >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	mixed = (mixed ^ (mixed >> 27)) * UINT64_C(0x94d049bb133111eb);
	return (unsigned)(mixed ^ (mixed >> 31) ^ (number & 255));
}

#endif
