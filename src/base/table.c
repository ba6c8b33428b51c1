/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table.c - chains of entries: one as long as there are few, then one a bucket. Without entries there is no memory.
 */
#include "base/table.h"

#include "base/alloc.h"
#include "base/hash.h"

enum { FEW = 4, BUCKETS_MIN = 16, A_BUCKET = 2 /* entries, at most, on average */ };

/* Consecutive numbers, and numbers that differ by a power of two, go to different ones. */
static struct kvi_table_shard *get_shard(const struct kvi_table *table, const uint64_t key[2])
{
	uint64_t mixed = (key[0] + key[1]) * UINT64_C(0x9e3779b97f4a7c15);
	/* A table that is only looked at is not changed. */
	return (struct kvi_table_shard *)&table->shards[(mixed >> 32) % KVI_TABLE_SHARDS];
}

static struct kvi_entry **get_chain(struct kvi_table_shard *shard, const uint64_t key[2])
{
	if (shard->bucket_count == 0)
		return &shard->few;
	unsigned hash = kvi_hash_number(key[0]) + (unsigned)key[1] * 0x9e3779b1U;
	return &shard->buckets[hash & (shard->bucket_count - 1)];
}

static void link_entry(struct kvi_entry **chain, struct kvi_entry *entry)
{
	entry->next = *chain;
	entry->place = chain;
	if (entry->next != NULL)
		entry->next->place = &entry->next;
	*chain = entry;
}

static void move_chain(struct kvi_table_shard *to, struct kvi_entry *entry)
{
	while (entry != NULL) {
		struct kvi_entry *next = entry->next;
		link_entry(get_chain(to, entry->key), entry);
		entry = next;
	}
}

static void free_buckets(struct kvi_table_shard *shard)
{
	if (shard->bucket_count > 0)
		kvi_free(shard->buckets);
}

static bool grow(struct kvi_table_shard *shard)
{
	uint32_t count = shard->bucket_count == 0 ? BUCKETS_MIN : 2 * shard->bucket_count;
	struct kvi_table_shard grown = { .bucket_count = count, .count = shard->count };
	grown.buckets = kvi_alloc_array(count, sizeof(grown.buckets[0]));
	if (grown.buckets == NULL)
		return false;
	if (shard->bucket_count == 0)
		move_chain(&grown, shard->few);
	for (uint32_t i = 0; i < shard->bucket_count; i++)
		move_chain(&grown, shard->buckets[i]);
	free_buckets(shard);
	*shard = grown;
	return true;
}

bool kvi_table_add(struct kvi_table *table, struct kvi_entry *entry, uint64_t first,
		   uint64_t second)
{
	entry->key[0] = first;
	entry->key[1] = second;
	struct kvi_table_shard *shard = get_shard(table, entry->key);
	uint32_t room = shard->bucket_count == 0 ? FEW : A_BUCKET * shard->bucket_count;
	if (shard->count == room && !grow(shard))
		return false;
	link_entry(get_chain(shard, entry->key), entry);
	shard->count++;
	return true;
}

void kvi_table_remove(struct kvi_table *table, struct kvi_entry *entry)
{
	if (entry->place == NULL)
		return;
	struct kvi_table_shard *shard = get_shard(table, entry->key);
	*entry->place = entry->next;
	if (entry->next != NULL)
		entry->next->place = entry->place;
	entry->place = NULL;
	if (--shard->count > 0)
		return;
	free_buckets(shard);
	*shard = (struct kvi_table_shard){ .few = NULL };
}

struct kvi_entry *kvi_table_find(const struct kvi_table *table, uint64_t first, uint64_t second)
{
	const uint64_t key[2] = { first, second };
	struct kvi_entry *entry = *get_chain(get_shard(table, key), key);
	while (entry != NULL && (entry->key[0] != first || entry->key[1] != second))
		entry = entry->next;
	return entry;
}
