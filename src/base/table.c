/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table.c - tables of uthash side by side.
 */
#include "base/table.h"

#include <string.h>

/* Which of the tables. Consecutive numbers, and numbers that differ by a power of two, go to different ones. */
static unsigned get_shard(const uint64_t key[2])
{
	uint64_t mixed = (key[0] + key[1]) * UINT64_C(0x9e3779b97f4a7c15);
	return (unsigned)(mixed >> 32) % KVI_TABLE_SHARDS;
}

static unsigned get_hash(const uint64_t key[2])
{
	return kvi_hash_number(key[0]) + (unsigned)key[1] * 0x9e3779b1U;
}

bool kvi_table_add(struct kvi_table *table, struct kvi_entry *entry, uint64_t first,
		   uint64_t second)
{
	entry->key[0] = first;
	entry->key[1] = second;
	struct kvi_entry **shard = &table->shards[get_shard(entry->key)];
	HASH_ADD_BYHASHVALUE(hh, *shard, key, sizeof(entry->key), get_hash(entry->key), entry);
	return entry->hh.tbl != NULL;
}

void kvi_table_remove(struct kvi_table *table, struct kvi_entry *entry)
{
	if (entry->hh.tbl == NULL)
		return;
	HASH_DELETE(hh, table->shards[get_shard(entry->key)], entry);
	entry->hh.tbl = NULL;
}

struct kvi_entry *kvi_table_find(const struct kvi_table *table, uint64_t first, uint64_t second)
{
	const uint64_t key[2] = { first, second };
	struct kvi_entry *found;
	HASH_FIND_BYHASHVALUE(hh, table->shards[get_shard(key)], key, sizeof(key), get_hash(key),
			      found);
	return found;
}
