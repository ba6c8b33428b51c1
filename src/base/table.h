/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table.h - objects, each found by two numbers. A table that grows moves all its entries, which takes 3 ms with 50,000
 * of them: so this is several small tables, each of which grows by itself. A few entries need no memory of the table's:
 * most have one at a time, which comes and goes with each operation.
 */
#ifndef KVI_BASE_TABLE_H
#define KVI_BASE_TABLE_H

#include <stdbool.h>
#include <stdint.h>

enum { KVI_TABLE_SHARDS = 16 };

/* Embedded in what is found. All zero: in no table. */
struct kvi_entry {
	struct kvi_entry *next;
	struct kvi_entry **place; /* what points here */
	uint64_t key[2];
};

/* All zero: empty. */
struct kvi_table {
	struct kvi_table_shard {
		union {
			struct kvi_entry *few; /* all there are, with no buckets */
			struct kvi_entry **buckets;
		};
		uint32_t bucket_count; /* a power of two, or 0 */
		uint32_t count;
	} shards[KVI_TABLE_SHARDS];
};

/* False: no memory; it was not added. The caller knows that no other entry has these numbers. */
bool kvi_table_add(struct kvi_table *table, struct kvi_entry *entry, uint64_t first,
		   uint64_t second);

/* Does nothing when it is in no table. */
void kvi_table_remove(struct kvi_table *table, struct kvi_entry *entry);

/* NULL: there is none with these numbers. */
struct kvi_entry *kvi_table_find(const struct kvi_table *table, uint64_t first, uint64_t second);

#endif
