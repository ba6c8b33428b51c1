/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hash.h - uthash with our memory. An addition that finds none leaves the table as it was, and the handle's
 * tbl NULL.
 */
#ifndef KVI_BASE_HASH_H
#define KVI_BASE_HASH_H

#include "base/alloc.h"

#define uthash_malloc(len) kvi_alloc(len)
#define uthash_free(memory, len) kvi_free(memory)
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#endif
