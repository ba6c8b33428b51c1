/* SPDX-License-Identifier: Apache-2.0 */
/*
 * abi.c - the sizes of the public structs, held against those of version 0.1.
 */
#include "engine/core/abi.h"

#include <assert.h>

#define END_OF(type, member) (offsetof(type, member) + sizeof(((type *)0)->member))

#define CHECK(noun, name, last, last_0_1, size_0_1)                                                \
	static_assert(sizeof(struct kvt_##noun) == END_OF(struct kvt_##noun, last), "no padding "  \
										    "at the end "  \
										    "of struct "   \
										    "kvt_" #noun); \
	static_assert(sizeof(void *) != 8 || END_OF(struct kvt_##noun, last_0_1) == (size_0_1),    \
		      "programs of version 0.1 have another struct kvt_" #noun);
KVI_ABI_MAP(CHECK)

/* Programs have it on their stack without its size, so it never grows. */
static_assert(sizeof(struct kvt_error) == 2 * sizeof(int) + KVT_TEXT_LEN && KVT_TEXT_LEN == 256,
	      "programs of version 0.1 have another struct kvt_error");

#define DEFINE(noun, name, last, last_0_1, size_0_1)                                               \
	const struct kvi_sized kvi_abi_##noun = { name, sizeof(struct kvt_##noun),                 \
						  END_OF(struct kvt_##noun, last_0_1) };
KVI_ABI_MAP(DEFINE)
