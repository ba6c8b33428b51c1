/* SPDX-License-Identifier: Apache-2.0 */
/*
 * copy.h - copying payload. It is memcpy(3), except in one case that C libraries do badly: from 2 KiB on
 * glibc uses the CPU's string instruction, and where source and destination are not aligned alike some
 * CPUs execute that slowly (AMD Zen with glibc 2.36, blocks of 16 KiB: 2.4 GB/s, and 15 GB/s with plain loads and
 * stores).
 */
#ifndef KVI_BASE_COPY_H
#define KVI_BASE_COPY_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
	KVI_COPY_LINE = 64,
	KVI_COPY_SHORT = 1024,
	KVI_COPY_PAST = 2048, /* from here on kvi_copy_past() goes past the caches */
	KVI_COPY_PAGE = 4096,
	KVI_COPY_BEGINNING = 4 * KVI_COPY_LINE, /* of a page; twice as much is slower */
};

/* The ranges do not overlap. */
static inline void kvi_copy(void *to, const void *from, size_t len)
{
	uint8_t *out = to;
	const uint8_t *in = from;
	/* A load or four and as many stores, where a call costs more. */
	switch (len) {
	case 8:
		memcpy(out, in, 8);
		return;
	case 16:
		memcpy(out, in, 16);
		return;
	case 32:
		memcpy(out, in, 32);
		return;
	case KVI_COPY_LINE:
		memcpy(out, in, KVI_COPY_LINE);
		return;
	default:
		break;
	}
	if (len >= KVI_COPY_SHORT && (((uintptr_t)out | (uintptr_t)in) % KVI_COPY_LINE) != 0) {
		/* Of a length that the compiler knows: it becomes loads and stores, not a call. */
		for (; len >= KVI_COPY_LINE; len -= KVI_COPY_LINE) {
			memcpy(out, in, KVI_COPY_LINE);
			out += KVI_COPY_LINE;
			in += KVI_COPY_LINE;
		}
	}
	if (len > 0)
		memcpy(out, in, len);
}

/* The same, past the caches: for payload that is not read on this CPU soon. The bytes are there for every CPU when
 * it returns, as with a plain copy. */
void kvi_copy_past(void *to, const void *from, size_t len);

/* This is copied next. CPUs read ahead, but within a page only: fetch the beginning of each. */
static inline void kvi_copy_expect(const void *from, size_t len)
{
	const uint8_t *in = from;
	for (size_t page = 0; page < len; page += KVI_COPY_PAGE)
		for (size_t at = page; at < len && at - page < KVI_COPY_BEGINNING;
		     at += KVI_COPY_LINE)
			__builtin_prefetch(in + at, 0, 2);
}

#endif
