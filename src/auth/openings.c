/* SPDX-License-Identifier: Apache-2.0 */
/*
 * openings.c - sets of hashes: SipHash under a key of this process, of which a part says where to look.
 */
#include "auth/openings.h"

#include <string.h>

#include <sodium.h>

_Static_assert((int)KVI_OPENINGS_KEY_LEN == (int)crypto_shorthash_KEYBYTES &&
		       sizeof(uint64_t) == crypto_shorthash_BYTES,
	       "the lengths are those of SipHash-2-4");

static uint64_t hash_opening(struct kvi_openings *openings, const void *bytes, size_t len)
{
	uint64_t hash;
	if (!openings->has_key)
		crypto_shorthash_keygen(openings->key);
	openings->has_key = true;
	crypto_shorthash((uint8_t *)&hash, bytes, len, openings->key);
	return hash == 0 ? 1 : hash;
}

bool kvi_openings_add(struct kvi_openings *openings, const void *bytes, size_t len)
{
	uint64_t hash = hash_opening(openings, bytes, len);
	uint64_t *set =
		openings->hashes + hash % (KVI_OPENINGS / KVI_OPENINGS_WAYS) * KVI_OPENINGS_WAYS;
	for (size_t i = 0; i < KVI_OPENINGS_WAYS; i++)
		if (set[i] == hash)
			return true;
	memmove(set + 1, set, (KVI_OPENINGS_WAYS - 1) * sizeof(set[0]));
	set[0] = hash;
	return false;
}
