/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table.h - objects, each found by two numbers. When uthash grows a table it moves all entries, which takes 3 ms
 * with 50,000 of them: so this is several small tables, each of which grows by itself.
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

/* False: no memory; it was not added. The caller knows that no other entry has these numbers. */
bool kvi_table_add(struct kvi_table *table, struct kvi_entry *entry, uint64_t first,
		   uint64_t second);

/* Does nothing when it is in no table. */
void kvi_table_remove(struct kvi_table *table, struct kvi_entry *entry);

/* NULL: there is none with these numbers. */
struct kvi_entry *kvi_table_find(const struct kvi_table *table, uint64_t first, uint64_t second);

#endif
