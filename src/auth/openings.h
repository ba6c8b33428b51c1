/* SPDX-License-Identifier: Apache-2.0 */
/*
 * openings.h - which calls were made of late, so that one who recorded a call and makes it again is refused before it
 * costs a Diffie-Hellman. A fixed space: of the last KVI_OPENINGS calls or so, each of which somebody made who had a
 * key. What was forgotten is refused later, when no record follows. One thread at a time.
 */
#ifndef KVI_AUTH_OPENINGS_H
#define KVI_AUTH_OPENINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	KVI_OPENINGS = 4096,
	KVI_OPENINGS_WAYS = 8, /* places that a call may have; the oldest in them goes */
	KVI_OPENINGS_KEY_LEN = 16,
};

/* All zero: none was made yet. */
struct kvi_openings {
	bool has_key;
	uint8_t key[KVI_OPENINGS_KEY_LEN]; /* random: nobody can aim at the place of another's call */
	uint64_t hashes[KVI_OPENINGS];	   /* 0: free; of a set the newest first */
};

/* One more call, by all bytes that make it what it is. True: it was made before. */
bool kvi_openings_add(struct kvi_openings *openings, const void *bytes, size_t len);

#endif
