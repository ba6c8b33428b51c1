/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table.h - many things, each found by two numbers. uthash grows a table by moving all that is in it, which takes
 * 3 ms where that is 50,000: so this is several tables, each of which grows by itself and soon.
 */
#ifndef KVI_BASE_TABLE_H
#define KVI_BASE_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/hash.h"

enum { KVI_TABLE_SHARDS = 16 };

/* Embedded in what is found. All zero: in no table. */
struct kvi_entry {
	UT_hash_handle hh;
	uint64_t key[2];
};

/* All zero: empty. */
struct kvi_table {
	struct kvi_entry *shards[KVI_TABLE_SHARDS];
};

/* False: no memory, and it is in no table. There is no other with these numbers. */
bool kvi_table_add(struct kvi_table *table, struct kvi_entry *entry, uint64_t first,
		   uint64_t second);

/* Nothing when it is in none. */
void kvi_table_remove(struct kvi_table *table, struct kvi_entry *entry);

/* NULL: there is none with these numbers. */
struct kvi_entry *kvi_table_find(const struct kvi_table *table, uint64_t first, uint64_t second);

#endif
