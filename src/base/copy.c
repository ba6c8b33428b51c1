/* SPDX-License-Identifier: Apache-2.0 */
/*
 * copy.c - copying past the caches: the destination's lines are written to memory without being read first, which
 * is a third of a copy's traffic. Which instructions, is chosen when the program runs; a CPU without them, or of
 * another kind, copies as ever.
 */
#include "base/copy.h"

#include <stdbool.h>

#if defined(__x86_64__)
#include <immintrin.h>

/* Whole lines, to the start of a line. */
__attribute__((target("avx512f"))) static void stream_512(uint8_t *to, const uint8_t *from,
							  size_t len)
{
	for (size_t at = 0; at < len; at += 2 * KVI_COPY_LINE) {
		__m512i first = _mm512_loadu_si512(from + at);
		__m512i second = _mm512_loadu_si512(from + at + KVI_COPY_LINE);
		_mm512_stream_si512((void *)(to + at), first);
		_mm512_stream_si512((void *)(to + at + KVI_COPY_LINE), second);
	}
}

__attribute__((target("avx2"))) static void stream_256(uint8_t *to, const uint8_t *from, size_t len)
{
	enum { HALF = KVI_COPY_LINE / 2 };
	for (size_t at = 0; at < len; at += 2 * KVI_COPY_LINE) {
		__m256i parts[4];
		for (int i = 0; i < 4; i++)
			parts[i] = _mm256_loadu_si256((const void *)(from + at + i * HALF));
		for (int i = 0; i < 4; i++)
			_mm256_stream_si256((void *)(to + at + i * HALF), parts[i]);
	}
}

/* Twice a line at a time; false: this CPU cannot. */
static bool stream(uint8_t *to, const uint8_t *from, size_t len)
{
	if (__builtin_cpu_supports("avx512f"))
		stream_512(to, from, len);
	else if (__builtin_cpu_supports("avx2"))
		stream_256(to, from, len);
	else
		return false;
	_mm_sfence();
	return true;
}
#else
static bool stream(uint8_t *to, const uint8_t *from, size_t len)
{
	(void)to;
	(void)from;
	(void)len;
	return false;
}
#endif

void kvi_copy_past(void *to, const void *from, size_t len)
{
	uint8_t *out = to;
	const uint8_t *in = from;
	if (len >= KVI_COPY_PAST) {
		size_t head = -(uintptr_t)out % KVI_COPY_LINE;
		size_t body = (len - head) / (2 * KVI_COPY_LINE) * (2 * KVI_COPY_LINE);
		if (stream(out + head, in + head, body)) {
			memcpy(out, in, head);
			out += head + body;
			in += head + body;
			len -= head + body;
		}
	}
	kvi_copy(out, in, len);
}
