/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guarded.h - memory with guards before and behind it, which show whether somebody wrote beyond it.
 */
#ifndef KVI_TESTS_GUARDED_H
#define KVI_TESTS_GUARDED_H

#include <string.h>

#include "support/fuzz.h"

enum { GUARD_LEN = 512, GUARD = 0xEE };

struct guarded {
	uint8_t *base;
	size_t len;
};

static inline struct guarded guarded_make(size_t len)
{
	uint8_t *bytes = malloc(len + 2 * GUARD_LEN);
	require(bytes != NULL);
	memset(bytes, GUARD, len + 2 * GUARD_LEN);
	return (struct guarded){ .base = bytes + GUARD_LEN, .len = len };
}

static inline bool guarded_holds(const struct guarded *memory)
{
	for (size_t i = 0; i < GUARD_LEN; i++) {
		if (memory->base[-1 - (ptrdiff_t)i] != GUARD ||
		    memory->base[memory->len + i] != GUARD)
			return false;
	}
	return true;
}

static inline void guarded_free(struct guarded *memory)
{
	free(memory->base - GUARD_LEN);
}

#endif
